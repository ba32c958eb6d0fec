//! Founding a node: keys, the genesis document with this node as its validator, the configuration.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use ihfs_core::codec;
use ihfs_core::ids::{ChainId, MemberId, NodeId, Time};
use ihfs_core::ledger::certificate::{Validator, ValidatorSet};
use ihfs_core::ledger::genesis::{GENESIS_FORMAT, Genesis, GenesisMember, GenesisNode};
use ihfs_core::ledger::state::Policy;
use ihfs_core::members::{Handle, HandleProof};
use ihfs_core::placement::Region;

use super::AdminError;
use crate::config::{Config, LogConfig, StoreConfig};
use crate::keys::{KeyBytes, write_secret};
use crate::run::DataFolder;
use crate::run::folder::{hospital_handle_file, hospital_key, node_key};

/// What a new network of one node is to be.
#[derive(Clone, Debug)]
pub struct Founding {
    /// The data folder, which must not hold a node yet.
    pub data: PathBuf,
    /// The hospital's name, the part of handles behind the `@`.
    pub hospital: String,
    /// The network's name, for people.
    pub network: String,
    /// Where the node listens.
    pub listen: Vec<SocketAddr>,
    /// Addresses that invites name instead.
    pub announce: Vec<String>,
    /// The store.
    pub store: StoreConfig,
    /// Logs.
    pub log: LogConfig,
    /// When it begins.
    pub now: Time,
}

impl Founding {
    /// A network on this machine alone, listening on loopback at a port that the system chooses.
    pub fn solo(data: impl Into<PathBuf>, hospital: impl Into<String>, now: Time) -> Self {
        Self {
            data: data.into(),
            hospital: hospital.into(),
            network: "solo".to_owned(),
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            announce: Vec::new(),
            store: StoreConfig::default(),
            log: LogConfig::default(),
            now,
        }
    }
}

/// What was founded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Founded {
    /// The node.
    pub node: NodeId,
    /// The hospital.
    pub hospital: MemberId,
    /// The chain: the genesis fingerprint.
    pub chain: ChainId,
}

/// Founds a network of one node and one hospital.
///
/// # Errors
/// [`AdminError`]; a folder that holds a node is left as it is.
pub fn found(founding: &Founding) -> Result<Founded, AdminError> {
    let bad_name = |source| AdminError::Handle { name: founding.hospital.clone(), source };
    let handle = Handle::parse(&founding.hospital).map_err(bad_name)?;
    if handle.as_str().contains('@') {
        return Err(bad_name(ihfs_core::members::HandleError::WrongLetter));
    }
    let everywhere = founding.listen.iter().find(|at| at.ip().is_unspecified());
    if let Some(listen) = everywhere.filter(|_| founding.announce.is_empty()) {
        return Err(AdminError::NoAnnounce { listen: *listen });
    }
    let folder = DataFolder::create(&founding.data)?;
    let (node, hospital) = (KeyBytes::random(), KeyBytes::random());
    let proof = HandleProof { handle, blind: rand::random() };
    let genesis = genesis(founding, &node, &hospital, &proof);
    let io = |path: PathBuf| |source| AdminError::Io { path, source };
    node.write(&node_key(folder.path()))?;
    hospital.write(&hospital_key(folder.path()))?;
    let handle_file = hospital_handle_file(folder.path());
    write_secret(&handle_file, &codec::encode(&proof)).map_err(io(handle_file.clone()))?;
    let document = folder.file("genesis.cbor");
    fs::write(&document, genesis.to_bytes()).map_err(io(document.clone()))?;
    fs::File::open(&document).and_then(|file| file.sync_all()).map_err(io(document))?;
    config(founding).write_new(folder.path())?;
    folder.finish()?;
    Ok(Founded { node: node.key().node(), hospital: hospital.key().member(), chain: genesis.chain() })
}

fn genesis(founding: &Founding, node: &KeyBytes, hospital: &KeyBytes, proof: &HandleProof) -> Genesis {
    let (node, hospital) = (node.key().node(), hospital.key());
    let validator = Validator { node, power: 1 };
    let addresses = match founding.announce.as_slice() {
        // A port that the system will choose is no address yet.
        [] => founding.listen.iter().filter(|at| at.port() != 0).map(ToString::to_string).collect(),
        some => some.to_vec(),
    };
    Genesis {
        format: GENESIS_FORMAT,
        network: founding.network.clone(),
        time: founding.now,
        validators: ValidatorSet::new(vec![validator]).expect("one validator with power makes a set"),
        nodes: vec![GenesisNode {
            node,
            hospital: hospital.member(),
            region: Region(0),
            weight: 1,
            addresses,
        }],
        members: vec![GenesisMember::hospital(hospital.public(), proof.commitment())],
        policy: Policy::default(),
    }
}

fn config(founding: &Founding) -> Config {
    Config {
        hospital: founding.hospital.clone(),
        listen: founding.listen.clone(),
        announce: founding.announce.clone(),
        store: founding.store.clone(),
        log: founding.log.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_listens_everywhere_is_not_founded_without_an_address_for_others() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("node");
        let founding = Founding {
            listen: vec!["0.0.0.0:4040".parse().unwrap()],
            ..Founding::solo(&data, "st-mary", Time(1))
        };
        assert!(matches!(found(&founding), Err(AdminError::NoAnnounce { .. })));
        assert!(!data.exists(), "nothing was made");
        found(&Founding { announce: vec!["192.0.2.1:4040".to_owned()], ..founding }).unwrap();
    }
}
