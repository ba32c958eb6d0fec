//! The folder of one identity on this machine: HOME.
//!
//! ```text
//! HOME/keyring        this device's keys, sealed by the passphrase
//! HOME/keyring.new    the same, until the ledger knows the device
//! HOME/network.json   which network, where its nodes are, one's own handle
//! HOME/view           what was last verified of the ledger
//! HOME/node/          the node of a one-node network, if it runs here
//! HOME/agent.sock     the agent that keeps the keys open, if one runs
//! HOME/writing.lock   held while one of these files is replaced
//! ```
//!
//! Commands run side by side in one HOME: a file is replaced whole, by one at a time, and what was verified of the
//! ledger never becomes older.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ihfs_core::ids::{ChainId, DeviceId, MemberId, NodeId};
use ihfs_core::members::HandleProof;
use ihfs_net::PeerKey;
use serde::{Deserialize, Serialize};

use crate::view::Trust;

/// Version of the folder's layout.
pub const HOME_FORMAT: u32 = 1;

/// The keyring until the ledger knows its device.
const UNCONFIRMED: &str = "keyring.new";
/// Held while a file is replaced.
const LOCK: &str = "writing.lock";
/// Longest wait for another command that replaces a file: its disk is slow, or it was stopped.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// Wait between two looks at the lock.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The folder of one identity.
#[derive(Clone, Debug)]
pub struct Home {
    path: PathBuf,
}

/// What `network.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkFile {
    /// [`HOME_FORMAT`].
    pub format: u32,
    /// The chain: fingerprint of the genesis document, hexadecimal.
    pub chain: String,
    /// The genesis document, hexadecimal.
    pub genesis: String,
    /// Nodes, the one to ask first first.
    pub nodes: Vec<NodeAddress>,
    /// One's own handle with its proof, once registered.
    pub handle: Option<OwnHandle>,
    /// Whose folder it is.
    #[serde(default)]
    pub owner: Option<OwnerText>,
}

/// Whose folder it is, for those who have not opened the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerText {
    /// The member, hexadecimal.
    pub member: String,
    /// This device, hexadecimal.
    pub device: String,
}

/// Whose folder it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The member.
    pub member: MemberId,
    /// This device.
    pub device: DeviceId,
}

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAddress {
    /// Its key, hexadecimal.
    pub key: String,
    /// `host:port`, or libp2p addresses.
    pub addresses: Vec<String>,
}

/// One's own handle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnHandle {
    /// `name@hospital`.
    pub handle: String,
    /// Opens the ledger's commitment, hexadecimal.
    pub blind: String,
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Nothing was set up there.
    #[error("no identity of IHFS in {path:?}")]
    NotSetUp {
        /// The folder.
        path: PathBuf,
    },
    /// There is one already.
    #[error("an identity of IHFS is in {path:?} already")]
    AlreadySetUp {
        /// The folder.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{path:?}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another command holds the lock and does not come to an end.
    #[error("another command is writing to {path:?}")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A file does not hold what it should.
    #[error("{path:?} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The folder was written by a newer program.
    #[error("{path:?} has format {found}, where {HOME_FORMAT} is known")]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u32,
    },
}

impl Home {
    /// The folder at `path`, which need not exist.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Data of the node of a one-node network.
    pub fn node_path(&self) -> PathBuf {
        self.path.join("node")
    }

    /// Socket of the agent.
    pub fn agent_path(&self) -> PathBuf {
        self.path.join("agent.sock")
    }

    /// Whether an identity was set up.
    pub fn is_set_up(&self) -> bool {
        self.path.join("keyring").exists()
    }

    /// Makes the folder, readable by its owner alone.
    ///
    /// # Errors
    /// [`HomeError::Io`].
    pub fn create(&self) -> Result<(), HomeError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.map_err(|source| self.io("", source))
    }

    /// The sealed keyring.
    ///
    /// # Errors
    /// [`HomeError::NotSetUp`], [`HomeError::Io`].
    pub fn keyring(&self) -> Result<Vec<u8>, HomeError> {
        self.read("keyring")?.ok_or_else(|| HomeError::NotSetUp { path: self.path.clone() })
    }

    /// Replaces the sealed keyring, if it is still `before`: another command may have been faster.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn replace_keyring(&self, before: &[u8], after: &[u8]) -> Result<(), HomeError> {
        let _lock = self.lock("keyring")?;
        if self.keyring()? == before { self.replace("keyring", after) } else { Ok(()) }
    }

    /// The sealed keyring of a device that the ledger may not know yet.
    ///
    /// # Errors
    /// [`HomeError::Io`].
    pub fn unconfirmed_keyring(&self) -> Result<Option<Vec<u8>>, HomeError> {
        self.read(UNCONFIRMED)
    }

    /// Keeps the sealed keyring of a device that the ledger may not know yet.
    ///
    /// # Errors
    /// [`HomeError::Io`], [`HomeError::Busy`].
    pub fn write_unconfirmed_keyring(&self, sealed: &[u8]) -> Result<(), HomeError> {
        self.write(UNCONFIRMED, sealed)
    }

    /// The ledger knows the device: its keyring is now that of the folder.
    ///
    /// # Errors
    /// [`HomeError::Io`], [`HomeError::Busy`].
    pub fn confirm_keyring(&self) -> Result<(), HomeError> {
        let _lock = self.lock("keyring")?;
        let renamed = fs::rename(self.path.join(UNCONFIRMED), self.path.join("keyring"));
        let synced = renamed.and_then(|()| fs::File::open(&self.path)?.sync_all());
        synced.map_err(|source| self.io("keyring", source))
    }

    /// Which network.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn network(&self) -> Result<NetworkFile, HomeError> {
        let path = self.path.join("network.json");
        let bytes =
            self.read("network.json")?.ok_or_else(|| HomeError::NotSetUp { path: self.path.clone() })?;
        let file: NetworkFile =
            serde_json::from_slice(&bytes).map_err(|_| HomeError::Damaged { path: path.clone() })?;
        if file.format != HOME_FORMAT {
            return Err(HomeError::UnknownFormat { path, found: file.format });
        }
        Ok(file)
    }

    /// Replaces `network.json`.
    ///
    /// # Errors
    /// [`HomeError::Io`].
    pub fn write_network(&self, file: &NetworkFile) -> Result<(), HomeError> {
        let text = serde_json::to_vec_pretty(file).expect("text and numbers");
        self.write("network.json", &text)
    }

    /// What was last verified of the ledger.
    ///
    /// # Errors
    /// [`HomeError::Io`].
    pub fn view(&self) -> Result<Option<Vec<u8>>, HomeError> {
        self.read("view")
    }

    /// Saves what was verified of the ledger, unless as much was saved already, perhaps by another command.
    ///
    /// # Errors
    /// [`HomeError::Io`], [`HomeError::Busy`].
    pub fn save_view(&self, trust: &Trust) -> Result<(), HomeError> {
        let _lock = self.lock("view")?;
        let saved = self.view()?.and_then(|bytes| Trust::from_bytes(&bytes).ok());
        if saved.is_some_and(|saved| saved.chain == trust.chain && saved.height >= trust.height) {
            return Ok(());
        }
        self.replace("view", &trust.to_bytes())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, HomeError> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.io(name, source)),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), HomeError> {
        self.create()?;
        let _lock = self.lock(name)?;
        self.replace(name, bytes)
    }

    /// Whole or not at all: beside, synced, renamed, and the folder synced. Only under the lock.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), HomeError> {
        let beside = self.path.join(format!(".{name}.new"));
        let written = (|| {
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&beside, self.path.join(name))?;
            fs::File::open(&self.path)?.sync_all()
        })();
        written.map_err(|source| self.io(name, source))
    }

    /// Waits until no other command replaces a file here. Given back when it is dropped.
    fn lock(&self, name: &str) -> Result<fs::File, HomeError> {
        let opened = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.join(LOCK));
        let lock = opened.map_err(|source| self.io(name, source))?;
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(fs::TryLockError::Error(source)) => return Err(self.io(name, source)),
                Err(fs::TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(HomeError::Busy { path: self.path.join(name) });
                }
                Err(fs::TryLockError::WouldBlock) => std::thread::sleep(LOOK_AGAIN),
            }
        }
    }

    fn io(&self, name: &str, source: io::Error) -> HomeError {
        HomeError::Io { path: self.path.join(name), source }
    }
}

impl NetworkFile {
    /// The chain, its genesis document, and where nodes are.
    ///
    /// # Errors
    /// [`HomeError::Damaged`].
    pub fn parse(&self) -> Result<ParsedNetwork, HomeError> {
        let damaged = || HomeError::Damaged { path: "network.json".into() };
        let node = |node: &NodeAddress| Some((node.key.parse::<NodeId>().ok()?, node.addresses.clone()));
        let nodes = self.nodes.iter().map(node).collect::<Option<Vec<_>>>().ok_or_else(damaged)?;
        let handle = match &self.handle {
            None => None,
            Some(own) => Some(own.proof().ok_or_else(damaged)?),
        };
        let genesis = data_encoding::HEXLOWER.decode(self.genesis.as_bytes()).map_err(|_| damaged())?;
        let owner = match &self.owner {
            None => None,
            Some(owner) => Some(owner.parse().ok_or_else(damaged)?),
        };
        Ok(ParsedNetwork { chain: self.chain.parse().map_err(|_| damaged())?, genesis, nodes, handle, owner })
    }
}

impl OwnerText {
    /// As text.
    pub fn of(owner: Owner) -> Self {
        Self { member: owner.member.to_string(), device: owner.device.to_string() }
    }

    fn parse(&self) -> Option<Owner> {
        Some(Owner { member: self.member.parse().ok()?, device: self.device.parse().ok()? })
    }
}

impl OwnHandle {
    /// As text.
    pub fn of(proof: &HandleProof) -> Self {
        Self { handle: proof.handle.to_string(), blind: data_encoding::HEXLOWER.encode(&proof.blind) }
    }

    fn proof(&self) -> Option<HandleProof> {
        let blind = data_encoding::HEXLOWER.decode(self.blind.as_bytes()).ok()?.try_into().ok()?;
        Some(HandleProof { handle: self.handle.parse().ok()?, blind })
    }
}

/// `network.json`, read.
#[derive(Clone, Debug)]
pub struct ParsedNetwork {
    /// The chain.
    pub chain: ChainId,
    /// The genesis document.
    pub genesis: Vec<u8>,
    /// Nodes and where they are.
    pub nodes: Vec<(NodeId, Vec<String>)>,
    /// One's own handle.
    pub handle: Option<HandleProof>,
    /// Whose folder it is.
    pub owner: Option<Owner>,
}

impl ParsedNetwork {
    /// A message in which each node is also named by where it is: keys alone tell nobody whom to call.
    #[must_use]
    pub fn with_addresses(&self, message: &str) -> String {
        let mut text = message.to_owned();
        for (node, addresses) in &self.nodes {
            let Some(address) = addresses.first() else { continue };
            let short = format!("node {node:?}");
            let named = format!("{short} ({address})");
            text = text.replace(&short, &named).replace(&PeerKey::from(*node).to_string(), &named);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use ihfs_core::ids::{BlockId, Height, Time};
    use ihfs_core::ledger::certificate::{Validator, ValidatorSet};

    use super::*;

    #[test]
    fn a_folder_of_a_newer_program_is_refused_by_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("home"));
        assert!(matches!(home.network(), Err(HomeError::NotSetUp { .. })));
        let file = NetworkFile {
            format: 7,
            chain: String::new(),
            genesis: String::new(),
            nodes: vec![],
            handle: None,
            owner: None,
        };
        home.write_network(&file).unwrap();
        assert!(matches!(home.network(), Err(HomeError::UnknownFormat { found: 7, .. })));
    }

    #[test]
    fn a_keyring_that_was_replaced_meanwhile_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        home.write_unconfirmed_keyring(b"first").unwrap();
        assert!(!home.is_set_up());
        home.confirm_keyring().unwrap();
        home.replace_keyring(b"first", b"second").unwrap();
        home.replace_keyring(b"first", b"third").unwrap();
        assert_eq!(home.keyring().unwrap(), b"second");
    }

    #[test]
    fn a_message_names_nodes_by_their_addresses_too() {
        let node = NodeId::from_bytes([0xab; 32]);
        let network = ParsedNetwork {
            chain: ChainId::from_bytes([1; 32]),
            genesis: vec![],
            nodes: vec![(node, vec!["192.0.2.1:4040".to_owned()])],
            handle: None,
            owner: None,
        };
        let named = "node abababab (192.0.2.1:4040)";
        let peer = PeerKey::from(node);
        assert_eq!(network.with_addresses(&format!("{peer} is busy")), format!("{named} is busy"));
        assert_eq!(network.with_addresses("node abababab lies"), format!("{named} lies"));
    }

    fn trust(height: u64) -> Trust {
        let validator = Validator { node: NodeId::from_bytes([1; 32]), power: 1 };
        Trust {
            chain: ChainId::from_bytes([7; 32]),
            height: Height(height),
            block: BlockId::from_bytes([2; 32]),
            time: Time(height),
            validators: ValidatorSet::new(vec![validator]).unwrap(),
        }
    }

    fn saved(home: &Home) -> Trust {
        Trust::from_bytes(&home.view().unwrap().unwrap()).unwrap()
    }

    #[test]
    fn a_view_is_never_replaced_by_an_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        for height in [4, 9, 5, 9] {
            home.save_view(&trust(height)).unwrap();
        }
        assert_eq!(saved(&home), trust(9));
        let other = Trust { chain: ChainId::from_bytes([8; 32]), ..trust(1) };
        home.save_view(&other).unwrap();
        assert_eq!(saved(&home), other, "another network begins anew");
    }

    #[test]
    fn commands_side_by_side_do_not_break_each_others_files() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        std::thread::scope(|scope| {
            for start in 1..=4 {
                let home = home.clone();
                scope.spawn(move || {
                    for round in 0..10 {
                        home.save_view(&trust(start + 4 * round)).unwrap();
                        assert!(saved(&home).height >= Height(start + 4 * round));
                    }
                });
            }
        });
        assert_eq!(saved(&home), trust(40));
    }
}
