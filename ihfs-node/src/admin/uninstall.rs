//! Removing a node from this machine.

use std::fs;
use std::path::Path;

use ihfs_core::ids::Time;
use ihfs_core::ledger::state::StateKey;
use ihfs_core::placement::Placement;

use super::{AdminError, standing};
use crate::config::Config;
use crate::ledger::Ledger;
use crate::serve::directory::Directory;
use crate::store::Store;

/// What goes with a node, as far as its databases can be read: a damaged node can be removed too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Losses {
    /// Whether the ledger names no other node.
    pub only_node: Option<bool>,
    /// Chunks stored.
    pub chunks: Option<u64>,
    /// Members whose handles this node knows, its hospital not counted.
    pub members: Option<u64>,
}

/// What would go with the node, which must stand still.
///
/// # Errors
/// [`AdminError`]; what cannot be read is unknown, no error.
pub fn losses(data: &Path, clock: fn() -> Time) -> Result<Losses, AdminError> {
    let folder = standing(data)?;
    let nodes = || -> Option<usize> {
        let ledger = Ledger::open(&folder.file("ledger.redb"), folder.genesis().ok()?, clock).ok()?;
        let placement: Placement = ledger.snapshot().must(&StateKey::Placement).ok()?;
        Some(placement.nodes.len())
    };
    let chunks = || -> Option<u64> {
        let options = Config::read(folder.path()).ok()?.store.options();
        Some(Store::open(&folder.file("store"), options).ok()?.status().ok()?.chunks)
    };
    let members = || -> Option<u64> {
        let known = Directory::open(&folder.file("directory.redb")).ok()?.all().ok()?;
        let hospital = folder.hospital_handle().map(|(member, _)| member);
        Some(known.iter().filter(|(_, member)| Some(*member) != hospital).count() as u64)
    };
    Ok(Losses { only_node: nodes().map(|nodes| nodes <= 1), chunks: chunks(), members: members() })
}

/// Removes the data folder with everything in it: chunks, key shares, ledger and keys. It must hold a node that
/// stands still.
///
/// # Errors
/// [`AdminError`]; without `yes` nothing is removed.
pub fn uninstall(data: &Path, yes: bool) -> Result<(), AdminError> {
    let folder = standing(data)?;
    if !yes {
        return Err(AdminError::NotConfirmed);
    }
    fs::remove_dir_all(folder.path()).map_err(|source| AdminError::Io { path: data.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::init::{Founding, found};

    #[test]
    fn what_goes_with_a_node_is_counted_and_a_damaged_one_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("node");
        let mut founding = Founding::solo(&data, "st-mary", Time(1));
        founding.store.reserve_mib = 1;
        found(&founding).unwrap();
        let none = Losses { only_node: Some(true), chunks: Some(0), members: Some(0) };
        assert_eq!(losses(&data, || Time(1)).unwrap(), none);
        fs::write(data.join("directory.redb"), "no database").unwrap();
        assert_eq!(losses(&data, || Time(1)).unwrap(), Losses { members: None, ..none });
        assert!(matches!(uninstall(&data, false), Err(AdminError::NotConfirmed)));
        uninstall(&data, true).unwrap();
        assert!(!data.exists());
    }
}
