//! Key files of a node: 32 secret bytes each, readable by their owner alone.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ihfs_core::crypto::secret::Secret;
use ihfs_core::crypto::sign::SigningKey;
use ihfs_core::ids::{MemberId, NodeId};
use ihfs_net::Identity;
use zeroize::Zeroizing;

/// Permission bits that let others than the owner at a file.
const OTHERS: u32 = 0o077;

/// Why a key file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file system failed.
    #[error("the key file {path} cannot be used")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner may read it.
    #[error("the key file {path} can be read by others: chmod 600 it, and think of the key as known")]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// Not 32 bytes.
    #[error("the key file {path} has {found} bytes, where a key has 32")]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: usize,
    },
}

/// The key of a node, or of its hospital.
pub struct NodeKey {
    key: SigningKey,
    public: [u8; 32],
}

impl NodeKey {
    /// The key of these secret bytes. The caller wipes its copy.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let key = SigningKey::from_seed(Secret::new(bytes));
        let public = key.public();
        Self { key, public }
    }

    /// The key that signs.
    pub const fn get(&self) -> &SigningKey {
        &self.key
    }

    /// The node's id.
    pub const fn node(&self) -> NodeId {
        NodeId::from_bytes(self.public)
    }

    /// The member's id, for a hospital's key.
    pub fn member(&self) -> MemberId {
        MemberId::of_key(&self.public)
    }

    /// The public key.
    pub const fn public(&self) -> [u8; 32] {
        self.public
    }
}

/// Thirty-two secret bytes, wiped when dropped.
pub struct KeyBytes(Zeroizing<[u8; 32]>);

impl KeyBytes {
    /// Fresh random bytes.
    pub fn random() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    /// These bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
        let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
        if mode & OTHERS != 0 {
            return Err(KeyFileError::Open { path: path.to_owned() });
        }
        let bytes = Zeroizing::new(fs::read(path).map_err(failed)?);
        let found = bytes.len();
        let wrong = |_| KeyFileError::WrongLength { path: path.to_owned(), found };
        Ok(Self(Zeroizing::new(bytes.as_slice().try_into().map_err(wrong)?)))
    }

    /// Writes a new key file, durably; one that exists is left alone.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn write(&self, path: &Path) -> Result<(), KeyFileError> {
        write_secret(path, self.0.as_slice())
            .map_err(|source| KeyFileError::Io { path: path.to_owned(), source })
    }

    /// The key that they are.
    pub fn key(&self) -> NodeKey {
        NodeKey::from_bytes(*self.0)
    }

    /// The identity of a network's end.
    pub fn identity(&self) -> Identity {
        Identity::from_seed(&self.0)
    }

    /// The bytes, to seal them into a backup.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Writes a new file that its owner alone reads, durably.
///
/// # Errors
/// The file system's; also when the file exists.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    sync_folder(path)
}

/// Makes a file's name durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => fs::File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}
