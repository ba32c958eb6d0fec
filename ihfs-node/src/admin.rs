//! What a hospital does with its node beside running it: found it, invite members, look at it, back it up, end it.

mod backup;
pub mod init;
pub mod invite;
mod status;
mod uninstall;

pub use backup::{backup_keys, restore_keys};
pub use status::{Listed, Measured, members, status};
pub use uninstall::{Losses, losses, uninstall};

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ihfs_core::members::HandleError;
use ihfs_net::{RequestError, StartError};
use ihfs_proto::ledger::Refusal;

use crate::config::ConfigError;
use crate::custody::backup::BackupError;
use crate::keys::KeyFileError;
use crate::run::{DataFolder, FolderError};
use crate::serve::directory::DirectoryError;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A key file cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A name is no handle.
    #[error("{name:?} cannot be a handle: {source}")]
    Handle {
        /// The name.
        name: String,
        /// Why.
        source: HandleError,
    },
    /// The node does not run.
    #[error("the node in {data} does not run; start it with `ihfs-node run --data {data}`")]
    NotRunning {
        /// The data folder.
        data: PathBuf,
    },
    /// The node runs, and this needs it to stand still.
    #[error("the node in {data} runs; stop it first")]
    Running {
        /// The data folder.
        data: PathBuf,
    },
    /// An own end of the network does not start.
    #[error("cannot reach the node")]
    Network(#[from] StartError),
    /// The node does not answer.
    #[error("the node does not answer")]
    Request(#[from] RequestError),
    /// The node answers something else.
    #[error("the node's answer is not understood")]
    NotUnderstood,
    /// The node refuses.
    #[error("the node refuses: {}", .0.detail)]
    Refused(Refusal),
    /// It would listen everywhere, which tells others nothing of where it is.
    #[error("nobody can connect to {listen}: the address that others use is missing")]
    NoAnnounce {
        /// Where it would listen.
        listen: SocketAddr,
    },
    /// No address to name in an invite.
    #[error("no address is known at which the node can be reached: start it, or set `announce`")]
    NoAddress,
    /// The directory cannot be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The backup cannot be made or used.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The passphrase is too short to keep anything.
    #[error("a passphrase has at least 12 characters")]
    ShortPassphrase,
    /// Nothing was confirmed.
    #[error("nothing was removed: say --yes")]
    NotConfirmed,
    /// A file cannot be used.
    #[error("{path} cannot be used")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The data folder of a node that stands still.
fn standing(data: &Path) -> Result<DataFolder, AdminError> {
    match DataFolder::open(data) {
        Err(FolderError::InUse { path }) => Err(AdminError::Running { data: path }),
        other => Ok(other?),
    }
}
