//! The custody database: one row a grant, durable before anybody hears of it, and gone for good when deleted.

use std::path::Path;

use ihfs_core::codec;
use ihfs_core::crypto::derive::{Committed, commitment};
use ihfs_core::crypto::share::KeyShare;
use ihfs_core::grants::ENVELOPE_BYTES_MAX;
use ihfs_core::ids::{Digest, Epoch, GrantId, MemberId, RecordId, Time};
use ihfs_core::ledger::operation::GrantDigests;
use ihfs_core::ledger::state::StateError;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use serde_bytes::ByteBuf;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use super::{DepositError, Fate};

/// Rows by grant.
const SHARES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("shares");
/// Shares that no grant names yet, by depositor ‖ grant.
const ORPHANS: TableDefinition<&[u8], ()> = TableDefinition::new("orphans");
/// The version of the rows, under the empty key.
const FORMAT: TableDefinition<(), u64> = TableDefinition::new("format");
/// The version that this program writes and reads.
const FORMAT_VERSION: u64 = 1;
/// Cache in bytes: rows are small and seldom asked for twice.
const CACHE_BYTES: usize = 4 << 20;
/// Most bytes of a row: envelope, note and what is around them.
const ROW_BYTES_MAX: usize = 2 * ENVELOPE_BYTES_MAX + 1024;

/// A fault below custody.
#[derive(Debug, thiserror::Error)]
pub enum CustodyFault {
    /// The database failed: disk full, damage, or another process holds it.
    #[error("the custody database failed")]
    Database(#[from] Box<redb::Error>),
    /// Another version of this program wrote it.
    #[error("the custody database has format {found}, and this program knows format {FORMAT_VERSION}")]
    UnknownFormat {
        /// The version found.
        found: u64,
    },
    /// A row does not decode.
    #[error("the row of grant {grant:?} is damaged")]
    Damaged {
        /// The grant.
        grant: GrantId,
    },
    /// The ledger cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What an owner leaves for one grant.
#[derive(Debug, Serialize_tuple, Deserialize_tuple)]
pub struct Deposit {
    /// Who leaves it.
    pub depositor: MemberId,
    /// The grant.
    pub grant: GrantId,
    /// The record.
    pub record: RecordId,
    /// The reader.
    pub reader: MemberId,
    /// The epoch whose key it is.
    pub epoch: Epoch,
    /// What the ledger will say.
    pub digests: GrantDigests,
    /// The share.
    pub share: KeyShare,
    /// The outer envelope.
    #[serde(with = "serde_bytes")]
    pub envelope: Vec<u8>,
    /// The note, sealed to the reader.
    #[serde(with = "serde_bytes")]
    pub note: Vec<u8>,
    /// Without a grant on the ledger it goes after this.
    pub keep_until: Time,
}

impl Deposit {
    /// Checks the parts against the digests.
    pub(super) fn check_parts(&self) -> Result<(), DepositError> {
        let fits = |bytes: &[u8]| bytes.len() <= ENVELOPE_BYTES_MAX;
        if !fits(&self.envelope) || commitment(Committed::Envelope, &self.envelope) != self.digests.envelope {
            return Err(DepositError::WrongPart { part: "envelope" });
        }
        if !fits(&self.note) || commitment(Committed::Note, &self.note) != self.digests.note {
            return Err(DepositError::WrongPart { part: "note" });
        }
        Ok(())
    }

    /// What the ledger keeps of the share.
    pub(super) fn share_digest(&self) -> Digest {
        self.share.digest()
    }

    /// Canonical bytes of the share.
    pub(super) fn share_bytes(&self) -> Vec<u8> {
        codec::encode(&self.share)
    }

    /// Whether both are the same but for how long they are kept.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.digests == other.digests && self.share_digest() == other.share_digest()
    }
}

/// A row as it is stored: the grant and the deposit.
type Row = (Vec<u8>, Vec<u8>);

/// The database.
#[derive(Debug)]
pub(super) struct Shares(Database);

impl Shares {
    pub(super) fn open(path: &Path) -> Result<Self, CustodyFault> {
        let open = || -> Result<(Database, u64), redb::Error> {
            let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
            let writing = database.begin_write()?;
            let found = {
                let mut format = writing.open_table(FORMAT)?;
                let found = format.get(())?.map(|found| found.value());
                if found.is_none() {
                    format.insert((), FORMAT_VERSION)?;
                }
                found.unwrap_or(FORMAT_VERSION)
            };
            if found == FORMAT_VERSION {
                writing.open_table(SHARES)?;
                writing.open_table(ORPHANS)?;
            }
            writing.commit()?;
            Ok((database, found))
        };
        let (database, found) = open().map_err(Box::new)?;
        if found == FORMAT_VERSION { Ok(Self(database)) } else { Err(CustodyFault::UnknownFormat { found }) }
    }

    pub(super) fn get(&self, grant: GrantId) -> Result<Option<Deposit>, CustodyFault> {
        let read = || -> Result<Option<Vec<u8>>, redb::Error> {
            let shares = self.0.begin_read()?.open_table(SHARES)?;
            Ok(shares.get(grant.as_bytes().as_slice())?.map(|row| row.value().to_vec()))
        };
        let Some(bytes) = read().map_err(Box::new)? else { return Ok(None) };
        codec::decode(&bytes, ROW_BYTES_MAX).map(Some).map_err(|_| CustodyFault::Damaged { grant })
    }

    /// Writes a row; durable when this returns.
    pub(super) fn put(&self, deposit: &Deposit) -> Result<(), CustodyFault> {
        let row = codec::encode(deposit);
        let orphan = orphan_key(deposit.depositor, deposit.grant);
        let write = || -> Result<(), redb::Error> {
            let writing = self.0.begin_write()?;
            writing.open_table(SHARES)?.insert(deposit.grant.as_bytes().as_slice(), row.as_slice())?;
            writing.open_table(ORPHANS)?.insert(orphan.as_slice(), ())?;
            writing.commit()?;
            Ok(())
        };
        Ok(write().map_err(Box::new)?)
    }

    pub(super) fn count(&self) -> Result<u64, CustodyFault> {
        let read = || -> Result<u64, redb::Error> { Ok(self.0.begin_read()?.open_table(SHARES)?.len()?) };
        Ok(read().map_err(Box::new)?)
    }

    /// How many shares of this member no grant names.
    pub(super) fn orphans_of(&self, member: MemberId) -> Result<u64, CustodyFault> {
        let read = || -> Result<u64, redb::Error> {
            let orphans = self.0.begin_read()?.open_table(ORPHANS)?;
            let (from, to) = (orphan_bound(member, 0), orphan_bound(member, 0xff));
            Ok(orphans.range(from.as_slice()..=to.as_slice())?.count() as u64)
        };
        Ok(read().map_err(Box::new)?)
    }

    /// Asks `fate` about each share. Says how many were destroyed.
    pub(super) fn sweep(
        &self,
        fate: impl Fn(GrantId, Time) -> Result<Fate, CustodyFault>,
    ) -> Result<u64, CustodyFault> {
        let mut destroyed = Vec::new();
        let mut named = Vec::new();
        for (grant, row) in self.rows()? {
            let row: Deposit =
                codec::decode(&row, ROW_BYTES_MAX).map_err(|_| CustodyFault::Damaged { grant })?;
            match fate(grant, row.keep_until)? {
                Fate::Keep => named.push(orphan_key(row.depositor, grant)),
                Fate::Orphan => {}
                Fate::Destroy => destroyed.push((grant, orphan_key(row.depositor, grant))),
            }
        }
        let write = || -> Result<(), redb::Error> {
            let writing = self.0.begin_write()?;
            {
                let mut shares = writing.open_table(SHARES)?;
                let mut orphans = writing.open_table(ORPHANS)?;
                for (grant, orphan) in &destroyed {
                    shares.remove(grant.as_bytes().as_slice())?;
                    orphans.remove(orphan.as_slice())?;
                }
                for orphan in &named {
                    orphans.remove(orphan.as_slice())?;
                }
            }
            writing.commit()?;
            Ok(())
        };
        write().map_err(Box::new)?;
        Ok(destroyed.len() as u64)
    }

    /// All rows, for sweeping and for backups.
    pub(super) fn rows(&self) -> Result<Vec<(GrantId, Vec<u8>)>, CustodyFault> {
        let read = || -> Result<Vec<Row>, redb::Error> {
            let shares = self.0.begin_read()?.open_table(SHARES)?;
            shares
                .iter()?
                .map(|row| {
                    let (grant, row) = row?;
                    Ok((grant.value().to_vec(), row.value().to_vec()))
                })
                .collect()
        };
        let rows = read().map_err(Box::new)?.into_iter();
        Ok(rows.filter_map(|(grant, row)| Some((GrantId::try_from(grant.as_slice()).ok()?, row))).collect())
    }

    /// Puts rows of a backup back.
    pub(super) fn restore(&self, rows: &[(GrantId, ByteBuf)]) -> Result<(), CustodyFault> {
        for (grant, row) in rows {
            let deposit: Deposit =
                codec::decode(row, ROW_BYTES_MAX).map_err(|_| CustodyFault::Damaged { grant: *grant })?;
            self.put(&deposit)?;
        }
        Ok(())
    }
}

fn orphan_key(depositor: MemberId, grant: GrantId) -> [u8; 64] {
    let mut key = [0; 64];
    key[..32].copy_from_slice(depositor.as_bytes());
    key[32..].copy_from_slice(grant.as_bytes());
    key
}

fn orphan_bound(depositor: MemberId, fill: u8) -> [u8; 64] {
    orphan_key(depositor, GrantId::from_bytes([fill; 32]))
}
