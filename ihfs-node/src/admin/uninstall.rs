//! Removing a node from this machine.

use std::fs;
use std::path::Path;

use super::AdminError;
use crate::run::{DataFolder, FolderError};

/// Removes the data folder with everything in it: chunks, key shares, ledger and keys. It must hold a node that
/// stands still.
///
/// # Errors
/// [`AdminError`]; without `yes` nothing is removed.
pub fn uninstall(data: &Path, yes: bool) -> Result<(), AdminError> {
    let folder = match DataFolder::open(data) {
        Err(FolderError::InUse { path }) => return Err(AdminError::Running { data: path }),
        other => other?,
    };
    if !yes {
        return Err(AdminError::NotConfirmed);
    }
    fs::remove_dir_all(folder.path()).map_err(|source| AdminError::Io { path: data.to_owned(), source })
}
