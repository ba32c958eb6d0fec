//! Backups of node key and key shares, and bringing them back. The node must stand still for both.

use std::fs;
use std::path::Path;

use ihfs_core::ids::Time;

use super::{AdminError, standing};
use crate::custody::backup;
use crate::keys::{KeyBytes, write_secret};
use crate::run::folder::{node_key, read_genesis};

/// Shortest passphrase: below it Argon2id does not help.
const PASSPHRASE_CHARS_MIN: usize = 12;

/// Writes a sealed backup of node key and key shares to `file`, which must not exist.
///
/// # Errors
/// [`AdminError`].
pub fn backup_keys(data: &Path, file: &Path, passphrase: &str, now: Time) -> Result<(), AdminError> {
    if passphrase.chars().count() < PASSPHRASE_CHARS_MIN {
        return Err(AdminError::ShortPassphrase);
    }
    let folder = standing(data)?;
    let key = KeyBytes::read(&folder.node_key())?;
    let chain = read_genesis(data)?.chain();
    let sealed = backup::make(&folder.file("custody.redb"), chain, key.expose(), passphrase.as_bytes(), now)?;
    write_secret(file, &sealed).map_err(|source| AdminError::Io { path: file.to_owned(), source })
}

/// Brings key shares back, and the node's key if it is lost. Says how many shares there were.
///
/// # Errors
/// [`AdminError`].
pub fn restore_keys(data: &Path, file: &Path, passphrase: &str, now: Time) -> Result<usize, AdminError> {
    let folder = standing(data)?;
    let sealed = fs::read(file).map_err(|source| AdminError::Io { path: file.to_owned(), source })?;
    let chain = read_genesis(data)?.chain();
    let restored =
        backup::restore(&folder.file("custody.redb"), &sealed, passphrase.as_bytes(), now, Some(chain))?;
    if !node_key(data).exists() {
        restored.node_key.write(&node_key(data))?;
    }
    Ok(restored.shares)
}
