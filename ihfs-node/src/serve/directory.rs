//! Handles that this node knows: of members who redeemed their invites here, and of its own hospital.
//!
//! Exact matches only, and not many a minute: nobody reads the whole of it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ihfs_core::codec;
use ihfs_core::ids::MemberId;
use ihfs_core::members::{Handle, HandleProof};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_tuple::{Deserialize_tuple, Serialize_tuple};
use tokio::time::Instant;

use crate::database;

/// Handles in their text; the member and the blind.
const HANDLES: TableDefinition<&str, &[u8]> = TableDefinition::new("handles");
/// Cache in bytes: handles are few and asked for seldom.
const CACHE_BYTES: usize = 1 << 20;
/// Most bytes of one row.
const ROW_BYTES_MAX: usize = 512;
/// Look-ups that a member may make in a minute: far more than anyone shares with.
const LOOKUPS_PER_MINUTE: u32 = 60;
/// Members whose look-ups are counted one by one.
const COUNTED_MAX: usize = 4096;

#[derive(Serialize_tuple, Deserialize_tuple)]
struct Row {
    member: MemberId,
    proof: HandleProof,
}

/// The directory.
pub struct Directory {
    database: Database,
    lookups: Mutex<HashMap<MemberId, (Instant, u32)>>,
}

/// The directory's database failed.
#[derive(Debug, thiserror::Error)]
#[error("the directory's database failed")]
pub struct DirectoryError(#[from] Box<redb::Error>);

/// The handle is another member's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the handle is another member's")]
pub struct HandleTaken;

impl Directory {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let open = || -> Result<Database, redb::Error> {
            let database = database::open(|| database::file(path), CACHE_BYTES)?;
            let writing = database::begin_write(&database)?;
            writing.open_table(HANDLES)?;
            writing.commit()?;
            Ok(database)
        };
        Ok(Self { database: open().map_err(Box::new)?, lookups: Mutex::default() })
    }

    /// Whose handle this is.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn find(&self, handle: &Handle) -> Result<Option<(MemberId, HandleProof)>, DirectoryError> {
        let read = || -> Result<Option<Vec<u8>>, redb::Error> {
            let handles = self.database.begin_read()?.open_table(HANDLES)?;
            Ok(handles.get(handle.as_str())?.map(|row| row.value().to_vec()))
        };
        let row = read().map_err(Box::new)?;
        let row = row.and_then(|bytes| codec::decode::<Row>(&bytes, ROW_BYTES_MAX).ok());
        Ok(row.map(|row| (row.member, row.proof)))
    }

    /// Notes a member's handle, durably.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn add(&self, member: MemberId, proof: &HandleProof) -> Result<(), DirectoryError> {
        let row = codec::encode(&Row { member, proof: proof.clone() });
        let write = || -> Result<(), redb::Error> {
            let writing = database::begin_write(&self.database)?;
            writing.open_table(HANDLES)?.insert(proof.handle.as_str(), row.as_slice())?;
            writing.commit()?;
            Ok(())
        };
        write().map_err(Box::new)?;
        Ok(())
    }

    /// All handles with their members, for the node's own hospital.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn all(&self) -> Result<Vec<(Handle, MemberId)>, DirectoryError> {
        let read = || -> Result<Vec<Vec<u8>>, redb::Error> {
            let handles = self.database.begin_read()?.open_table(HANDLES)?;
            handles.iter()?.map(|row| Ok(row?.1.value().to_vec())).collect()
        };
        let rows = read().map_err(Box::new)?;
        let rows = rows.iter().filter_map(|bytes| codec::decode::<Row>(bytes, ROW_BYTES_MAX).ok());
        Ok(rows.map(|row| (row.proof.handle, row.member)).collect())
    }

    /// Whether this member may look up another handle this minute.
    pub fn may_look_up(&self, member: MemberId) -> bool {
        let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let minute = std::time::Duration::from_secs(60);
        if lookups.len() >= COUNTED_MAX {
            lookups.retain(|_, (began, _)| now.duration_since(*began) < minute);
        }
        if lookups.len() >= COUNTED_MAX && !lookups.contains_key(&member) {
            return false;
        }
        let (began, count) = lookups.entry(member).or_insert((now, 0));
        if now.duration_since(*began) >= minute {
            (*began, *count) = (now, 0);
        }
        *count += 1;
        *count <= LOOKUPS_PER_MINUTE
    }
}
