//! A backup of what a custodian keeps: node key and key shares, sealed by a passphrase, worth nothing after a while.
//!
//! File: `"IHFSCST1" ‖ salt (16) ‖ length (u32, big endian) ‖ STREAM(Argon2id(passphrase, salt), DAG-CBOR)`.

pub mod fuzzing;

use std::path::Path;

use ihfs_core::codec::{self, DecodeError};
use ihfs_core::crypto::derive::passphrase_key;
use ihfs_core::crypto::seal;
use ihfs_core::ids::{ChainId, GrantId, Time};
use serde_bytes::ByteBuf;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};
use zeroize::{Zeroize, Zeroizing};

use crate::keys::KeyBytes;

use super::shares::{CustodyFault, Shares};

/// What the file begins with.
const MAGIC: &[u8; 8] = b"IHFSCST1";
const SALT_BYTES: usize = 16;
/// Most bytes of a backup: a hundred thousand shares.
const BACKUP_BYTES_MAX: usize = 512 << 20;
/// How long a backup may be restored: shares that were destroyed since must not lie about for ever.
pub const BACKUP_LIFE: u64 = 30 * 24 * 60 * 60 * 1000;

/// What a backup holds.
#[derive(Serialize_tuple, Deserialize_tuple)]
struct Backup {
    chain: ChainId,
    made: Time,
    expires: Time,
    #[serde(with = "serde_bytes")]
    node_key: [u8; 32],
    rows: Vec<(GrantId, ByteBuf)>,
}

impl Drop for Backup {
    fn drop(&mut self) {
        self.node_key.zeroize();
        for (_, row) in &mut self.rows {
            row.as_mut_slice().zeroize();
        }
    }
}

/// What was restored.
pub struct Restored {
    /// The chain.
    pub chain: ChainId,
    /// The node's key.
    pub node_key: KeyBytes,
    /// How many key shares.
    pub shares: usize,
}

/// Why there is no backup, or it is worth nothing.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Not a backup, cut short, or of another format.
    #[error("the file is no custody backup of a format that this program knows")]
    NotABackup,
    /// Another passphrase, or the file was changed.
    #[error("the passphrase does not open the backup")]
    WrongPassphrase,
    /// Its time is over.
    #[error("the backup expired; its shares may have been destroyed since")]
    Expired,
    /// It belongs to another network.
    #[error("the backup is of another chain")]
    OtherChain,
    /// Argon2id found no memory.
    #[error("no 64 MiB of memory to derive the passphrase's key")]
    NoMemory,
    /// It opened, but does not hold what it should.
    #[error("the backup is damaged")]
    Damaged(#[from] DecodeError),
    /// The custody database failed.
    #[error(transparent)]
    Custody(#[from] CustodyFault),
}

/// Seals the custody database at `path` and the node's key.
///
/// # Errors
/// [`BackupError`]; also when the node runs and holds the database.
pub fn make(
    path: &Path,
    chain: ChainId,
    node_key: &[u8; 32],
    passphrase: &[u8],
    now: Time,
) -> Result<Vec<u8>, BackupError> {
    let rows = Shares::open(path)?.intact()?;
    let rows = rows.into_iter().map(|(grant, mut row)| (grant, ByteBuf::from(std::mem::take(&mut *row))));
    let rows = rows.collect();
    let backup =
        Backup { chain, made: now, expires: now.plus_millis(BACKUP_LIFE), node_key: *node_key, rows };
    let plaintext = Zeroizing::new(codec::encode(&backup));
    let salt: [u8; SALT_BYTES] = rand::random();
    let key = passphrase_key(passphrase, &salt).map_err(|_| BackupError::NoMemory)?;
    let length = u32::try_from(plaintext.len()).map_err(|_| BackupError::NotABackup)?;
    let mut file = [MAGIC.as_slice(), &salt, &length.to_be_bytes()].concat();
    seal::seal_into(&key, &plaintext, &mut file);
    Ok(file)
}

/// Salt, length of the plaintext, and what is sealed; none if it is no backup.
fn parts(file: &[u8]) -> Option<(&[u8; SALT_BYTES], usize, &[u8])> {
    let (salt, rest) = file.strip_prefix(MAGIC)?.split_first_chunk()?;
    let (length, sealed) = rest.split_first_chunk()?;
    let length = u32::from_be_bytes(*length) as usize;
    (length <= BACKUP_BYTES_MAX).then_some((salt, length, sealed))
}

/// Opens a backup and writes its shares into the custody database at `path`. The node destroys what the ledger
/// has ended before it serves.
///
/// # Errors
/// [`BackupError`].
pub fn restore(
    path: &Path,
    file: &[u8],
    passphrase: &[u8],
    now: Time,
    chain: Option<ChainId>,
) -> Result<Restored, BackupError> {
    let (salt, length, sealed) = parts(file).ok_or(BackupError::NotABackup)?;
    let key = passphrase_key(passphrase, salt).map_err(|_| BackupError::NoMemory)?;
    let plaintext =
        Zeroizing::new(seal::open(&key, sealed, length).map_err(|_| BackupError::WrongPassphrase)?);
    let backup: Backup = codec::decode(&plaintext, BACKUP_BYTES_MAX)?;
    if chain.is_some_and(|chain| chain != backup.chain) {
        return Err(BackupError::OtherChain);
    }
    if backup.expires <= now {
        return Err(BackupError::Expired);
    }
    Shares::open(path)?.restore(&backup.rows)?;
    Ok(Restored {
        chain: backup.chain,
        node_key: KeyBytes::from_bytes(backup.node_key),
        shares: backup.rows.len(),
    })
}
