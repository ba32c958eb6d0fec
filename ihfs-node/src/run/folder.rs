//! The data folder: what lies where, in which format, and who has it open.
//!
//! `VERSION` names the format, `lock` is held while a node runs, `node.toml` is the configuration, `genesis.cbor`
//! founds the chain, `keys/` holds secrets, `node.json` stands there while the node answers.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ihfs_core::codec;
use ihfs_core::ids::{ChainId, MemberId, NodeId};
use ihfs_core::ledger::genesis::{Genesis, GenesisError};
use ihfs_core::members::HandleProof;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::keys;

/// What `VERSION` holds: the format of the whole folder.
const VERSION: &str = "ihfs-node data 1\n";
/// Most bytes of a handle proof.
const PROOF_BYTES_MAX: usize = 256;
/// Where a port that the system chose is kept.
const ADDRESSES_FILE: &str = "addresses.json";
/// Where a running node says what it is.
const NODE_FILE: &str = "node.json";

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is none.
    #[error("{path} is no data folder of a node; make one with `ihfs-node init --data {path}`")]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// It is of a format that this program does not know.
    #[error("{path} has format {found:?}, and this program knows {:?} alone; nothing was changed", VERSION.trim())]
    UnknownFormat {
        /// The path.
        path: PathBuf,
        /// What its version file says.
        found: String,
    },
    /// Another process has it open.
    #[error("another process runs the node in {path}")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// It exists already.
    #[error("{path} holds a node already; nothing was changed")]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// The genesis document founds nothing.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The file system failed.
    #[error("the data folder {path} cannot be used")]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What a running node says of itself in `node.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFile {
    /// Its key, in hexadecimal.
    pub node: String,
    /// Its chain, in hexadecimal.
    pub chain: String,
    /// Name of the hospital.
    pub hospital: String,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Addresses that invites name.
    pub announce: Vec<String>,
    /// Its process.
    pub pid: u32,
    /// Version of the program.
    pub version: String,
}

impl NodeFile {
    /// What this process says.
    pub fn new(node: NodeId, chain: ChainId, listen: &[SocketAddr], config: &Config) -> Self {
        let announce = match config.announce.as_slice() {
            [] => listen.iter().map(ToString::to_string).collect(),
            some => some.to_vec(),
        };
        Self {
            node: node.to_string(),
            chain: chain.to_string(),
            hospital: config.hospital.clone(),
            listen: listen.to_vec(),
            announce,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// A data folder, locked for this process while it is held.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// Released when dropped, and by the system when the process dies.
    _lock: File,
}

impl DataFolder {
    /// Opens and locks a data folder.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        Self::check_version(path)?;
        let lock = Self::lock(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Makes a new data folder and locks it. `VERSION` is written last, by [`Self::finish`].
    ///
    /// # Errors
    /// [`FolderError`]; [`FolderError::Exists`] when there is a node in it.
    pub fn create(path: &Path) -> Result<Self, FolderError> {
        if path.join("VERSION").exists() || path.join("keys").exists() {
            return Err(FolderError::Exists { path: path.to_owned() });
        }
        let failed = |source| FolderError::Io { path: path.to_owned(), source };
        let mut private = fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(path).map_err(failed)?;
        private.create(path.join("keys")).map_err(failed)?;
        let lock = Self::lock(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Says that everything that `init` writes is there.
    ///
    /// # Errors
    /// The file system's.
    pub fn finish(&self) -> Result<(), FolderError> {
        let path = self.file("VERSION");
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(VERSION.as_bytes())?;
            file.sync_all()?;
            keys::sync_folder(&path)
        };
        write().map_err(|source| FolderError::Io { path: self.path.clone(), source })
    }

    /// Checks the format without opening anything.
    ///
    /// # Errors
    /// [`FolderError::NotAFolder`], [`FolderError::UnknownFormat`].
    pub fn check_version(path: &Path) -> Result<(), FolderError> {
        match fs::read_to_string(path.join("VERSION")) {
            Ok(found) if found == VERSION => Ok(()),
            Ok(found) => Err(FolderError::UnknownFormat {
                path: path.to_owned(),
                found: found.trim().chars().take(64).collect(),
            }),
            Err(_) => Err(FolderError::NotAFolder { path: path.to_owned() }),
        }
    }

    fn lock(path: &Path) -> Result<File, FolderError> {
        let failed = |source| FolderError::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let lock = options.open(path.join("lock")).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(lock),
            Err(_) => Err(FolderError::InUse { path: path.to_owned() }),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The node's key file.
    pub fn node_key(&self) -> PathBuf {
        node_key(&self.path)
    }

    /// The genesis document.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn genesis(&self) -> Result<Genesis, FolderError> {
        read_genesis(&self.path)
    }

    /// The hospital's handle, if its key lies on this node.
    pub fn hospital_handle(&self) -> Option<(MemberId, HandleProof)> {
        hospital_handle(&self.path)
    }

    /// The addresses to listen on: a port that the system chose before in place of 0.
    pub fn kept_addresses(&self, listen: &[SocketAddr]) -> Vec<SocketAddr> {
        let kept = fs::read(self.file(ADDRESSES_FILE)).ok();
        let kept: Vec<SocketAddr> =
            kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let keep = |(place, address): (usize, &SocketAddr)| match kept.get(place) {
            Some(kept) if address.port() == 0 && kept.ip() == address.ip() => *kept,
            _ => *address,
        };
        listen.iter().enumerate().map(keep).collect()
    }

    /// Says that the node answers.
    pub(super) fn write_node_file(&self, node: &NodeFile) -> io::Result<()> {
        replace(&self.file(ADDRESSES_FILE), &serde_json::to_vec(&node.listen)?)?;
        replace(&self.file(NODE_FILE), &serde_json::to_vec_pretty(node)?)
    }

    /// Says that the node no longer answers.
    pub(super) fn remove_node_file(&self) {
        // A file that stays behind names a process that is gone, which readers check.
        let _ = fs::remove_file(self.file(NODE_FILE));
    }
}

/// Writes a file beside and renames it: readers see the old or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes)?;
    fs::rename(beside, path)
}

/// What the running node says of itself.
pub fn read_node_file(data: &Path) -> Option<NodeFile> {
    serde_json::from_slice(&fs::read(data.join(NODE_FILE)).ok()?).ok()
}

/// The node's key file in a data folder.
pub fn node_key(data: &Path) -> PathBuf {
    data.join("keys/node.key")
}

/// The hospital's key file in a data folder.
pub fn hospital_key(data: &Path) -> PathBuf {
    data.join("keys/hospital.key")
}

/// The hospital's handle file in a data folder.
pub fn hospital_handle_file(data: &Path) -> PathBuf {
    data.join("keys/hospital.handle")
}

/// The genesis document of a data folder.
///
/// # Errors
/// [`FolderError`].
pub fn read_genesis(data: &Path) -> Result<Genesis, FolderError> {
    let failed = |source| FolderError::Io { path: data.to_owned(), source };
    Ok(Genesis::from_bytes(&fs::read(data.join("genesis.cbor")).map_err(failed)?)?)
}

/// The hospital's handle and id in a data folder.
pub fn hospital_handle(data: &Path) -> Option<(MemberId, HandleProof)> {
    let proof = codec::decode(&fs::read(hospital_handle_file(data)).ok()?, PROOF_BYTES_MAX).ok()?;
    let key = keys::KeyBytes::read(&hospital_key(data)).ok()?;
    Some((key.key().member(), proof))
}
