//! The agent's process: waits on its socket until it has to let go.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ihfs_core::ids::Time;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeroize::Zeroizing;

use super::keeper::{Keeper, Now};
use super::message::{self, Answer, Request, SECRET_BYTES_MAX};
use super::{AgentError, EXCHANGE, LOCK, SOCKET, bind, check_peer, time_since_boot};
use crate::home_lock::HomeLock;

/// Longest wait before it looks at the clock and its socket again: waiting does not count suspended time.
const LOOK_MAX: Duration = Duration::from_secs(10);
/// Longest wait for an agent before it to be gone.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(3);
/// What the agent writes to its output when it answers.
pub(super) const READY: &[u8] = b"ready\n";

/// Runs the agent: takes the keyring's secret bytes from `keyring`, says so on `ready`, and answers until it locks.
///
/// # Errors
/// [`AgentError`].
pub(crate) fn serve(
    home: &Path,
    lock_after: Duration,
    keyring: impl Read,
    ready: &mut impl Write,
) -> Result<(), AgentError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX));
    keyring.take(SECRET_BYTES_MAX as u64).read_to_end(&mut bytes).map_err(AgentError::NotStarted)?;
    let lock = HomeLock::take_within(&home.join(LOCK), PREDECESSOR_WAIT).map_err(AgentError::NotStarted)?;
    let Some(_lock) = lock else { return Err(AgentError::NotEnded) };
    // Whoever held the lock before is gone; what it left is only a name.
    let _ = std::fs::remove_file(home.join(SOCKET));
    let listener = bind(home).map_err(AgentError::NotStarted)?;
    ready.write_all(READY).and_then(|()| ready.flush()).map_err(AgentError::NotStarted)?;
    let keeper = Keeper::new(bytes, lock_after, now());
    let result = answer_until_locked(home, &listener, keeper);
    let _ = std::fs::remove_file(home.join(SOCKET));
    result
}

fn answer_until_locked(home: &Path, listener: &UnixListener, mut keeper: Keeper) -> Result<(), AgentError> {
    loop {
        let left = keeper.locks_in(now());
        // A home that was removed has nobody who could ask.
        if left.is_zero() || !home.join(SOCKET).exists() {
            return Ok(());
        }
        if !wait(listener, left.min(LOOK_MAX))? {
            keeper.forget_old(now());
            continue;
        }
        let Ok((mut stream, _)) = listener.accept() else { continue };
        match exchange(&mut stream, &mut keeper) {
            Ok(Next::Stay) => (),
            Ok(Next::End) => return Ok(()),
            // A caller that fails has only itself to blame.
            Err(_) => (),
        }
    }
}

enum Next {
    Stay,
    End,
}

fn exchange(stream: &mut UnixStream, keeper: &mut Keeper) -> Result<Next, AgentError> {
    check_peer(stream)?;
    stream
        .set_read_timeout(Some(EXCHANGE))
        .and_then(|()| stream.set_write_timeout(Some(EXCHANGE)))
        .map_err(AgentError::Unreachable)?;
    let (request, secret) = message::receive::<Request>(stream)?;
    match keeper.answer(request, secret, now()) {
        Some((answer, secret)) => {
            message::send(stream, &answer, &secret)?;
            Ok(Next::Stay)
        }
        None => {
            // The caller then waits for the lock file, which proves that this process is gone.
            let _ = message::send(stream, &Answer::Done, &[]);
            Ok(Next::End)
        }
    }
}

/// Whether somebody connects within `longest`.
fn wait(listener: &UnixListener, longest: Duration) -> Result<bool, AgentError> {
    // Rounded up: waiting for zero over and over would keep the processor busy.
    let timeout =
        Timespec { tv_sec: i64::try_from(longest.as_secs()).unwrap_or(i64::MAX - 1) + 1, tv_nsec: 0 };
    match poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(AgentError::Unreachable(error.into())),
    }
}

fn now() -> Now {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = Time(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX));
    Now { time, since_boot: time_since_boot() }
}
