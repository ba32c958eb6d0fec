//! The agent: a process that keeps the opened keys of one identity in memory, so that not every command asks.
//!
//! `HOME/agent.sock`, one request and one answer for each connection, same user only. The agent ends at `lock`,
//! after a time without commands (suspended machines count), and when its socket is gone.

pub(crate) mod client;
mod keeper;
pub(crate) mod message;
pub(crate) mod server;

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Its socket, in the folder of the identity.
const SOCKET: &str = "agent.sock";
/// Held while an agent lives.
const LOCK: &str = "agent.lock";
/// Longest wait for the other side: everything is in memory on both.
const EXCHANGE: Duration = Duration::from_secs(2);

/// Why the agent could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// The socket, or the process behind it, failed.
    #[error("the agent that keeps the keys does not answer")]
    Unreachable(#[source] std::io::Error),
    /// What came is no message of this protocol.
    #[error("the agent that keeps the keys said something else than was asked")]
    Garbage,
    /// The socket belongs to somebody else.
    #[error("the agent's socket belongs to another user ({uid})")]
    Stranger {
        /// Whose it is.
        uid: u32,
    },
    /// It did not start.
    #[error("the agent that keeps the keys did not start")]
    NotStarted(#[source] std::io::Error),
    /// It did not end.
    #[error("the agent that keeps the keys did not end")]
    NotEnded,
}

/// Time that goes on while the machine is suspended.
fn time_since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// The path of a socket through its folder's descriptor: a socket's path has at most 107 bytes, a home may have more.
fn short_path(home: &Path) -> std::io::Result<(std::fs::File, PathBuf)> {
    use std::os::fd::AsRawFd;
    let folder = std::fs::File::open(home)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()));
    Ok((folder, path))
}

fn connect(home: &Path) -> std::io::Result<UnixStream> {
    let (_folder, path) = short_path(home)?;
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(EXCHANGE))?;
    stream.set_write_timeout(Some(EXCHANGE))?;
    Ok(stream)
}

fn bind(home: &Path) -> std::io::Result<UnixListener> {
    let (_folder, path) = short_path(home)?;
    UnixListener::bind(path)
}

/// Whether whoever is at the other end is this user.
fn check_peer(stream: &UnixStream) -> Result<(), AgentError> {
    let peer = rustix::net::sockopt::socket_peercred(stream)
        .map_err(|error| AgentError::Unreachable(error.into()))?;
    if peer.uid == rustix::process::geteuid() {
        Ok(())
    } else {
        Err(AgentError::Stranger { uid: peer.uid.as_raw() })
    }
}
