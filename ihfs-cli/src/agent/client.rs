//! How commands use the agent: fetch the keys, keep openings with it, start it, end it.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ihfs_client::openings::OpeningStore;
use ihfs_core::ids::{GrantId, Time};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeroize::Zeroizing;

use super::message::{self, Answer, Request};
use super::server::READY;
use super::{AgentError, LOCK, check_peer, connect};
use crate::home_lock::HomeLock;

/// Longest wait for a new agent to answer.
const START_WAIT_SECONDS: i64 = 10;
/// Longest wait for an agent to be gone.
const END_WAIT: Duration = Duration::from_secs(5);

/// The agent of one identity.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    home: PathBuf,
}

/// What an agent says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AgentStatus {
    /// Time without commands after which it locks.
    pub(crate) lock_after: Duration,
    /// Opened grants that it keeps.
    pub(crate) openings: u64,
}

/// An answer and the secret that came with it.
type Answered = (Answer, Zeroizing<Vec<u8>>);

impl Agent {
    /// The agent of the identity in `home`, whether it runs or not.
    pub(crate) fn of(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }

    /// The keyring's secret bytes; none if no agent runs.
    ///
    /// # Errors
    /// [`AgentError`].
    pub(crate) fn keyring(&self) -> Result<Option<Zeroizing<Vec<u8>>>, AgentError> {
        match self.ask(Request::Keyring, &[])? {
            Some((Answer::Secret, bytes)) => Ok(Some(bytes)),
            Some(_) => Err(AgentError::Garbage),
            None => Ok(None),
        }
    }

    /// What it says of itself; none if no agent runs.
    ///
    /// # Errors
    /// [`AgentError`].
    pub(crate) fn status(&self) -> Result<Option<AgentStatus>, AgentError> {
        match self.ask(Request::Status, &[])? {
            Some((Answer::Status { lock_after, openings }, _)) => {
                Ok(Some(AgentStatus { lock_after: Duration::from_secs(lock_after), openings }))
            }
            Some(_) => Err(AgentError::Garbage),
            None => Ok(None),
        }
    }

    /// Starts an agent that keeps these secret bytes; one that runs already ends first.
    ///
    /// # Errors
    /// [`AgentError`].
    pub(crate) fn start(&self, keyring: &[u8], lock_after: Duration) -> Result<(), AgentError> {
        self.lock()?;
        let mut child = self.spawn(lock_after).map_err(AgentError::NotStarted)?;
        hand_over(&mut child, keyring).map_err(|error| {
            // It is our child and not ready: nobody depends on it.
            let _ = child.kill();
            let _ = child.wait();
            AgentError::NotStarted(error)
        })
    }

    fn spawn(&self, lock_after: Duration) -> std::io::Result<Child> {
        Command::new(std::env::current_exe()?)
            .arg("agent-run")
            .arg("--home")
            .arg(&self.home)
            .arg(format!("--lock-after={}s", lock_after.as_secs()))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
    }

    /// Ends the agent and waits until it is gone; whether there was one.
    ///
    /// # Errors
    /// [`AgentError::NotEnded`] and the others.
    pub(crate) fn lock(&self) -> Result<bool, AgentError> {
        let ran = self.ask(Request::Lock, &[])?.is_some();
        let lock = self.home.join(LOCK);
        // Held until the process is gone, also by one that was just letting go by itself.
        if lock.exists() && HomeLock::take_within(&lock, END_WAIT).map_err(AgentError::Unreachable)?.is_none()
        {
            return Err(AgentError::NotEnded);
        }
        Ok(ran)
    }

    /// None if no agent runs.
    fn ask(&self, request: Request, secret: &[u8]) -> Result<Option<Answered>, AgentError> {
        match connect(&self.home)
            .map_err(AgentError::Unreachable)
            .and_then(|stream| exchange(stream, request, secret))
        {
            Ok(answer) => Ok(Some(answer)),
            Err(AgentError::Unreachable(error)) if is_gone(error.kind()) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn exchange(
    mut stream: UnixStream,
    request: Request,
    secret: &[u8],
) -> Result<(Answer, Zeroizing<Vec<u8>>), AgentError> {
    check_peer(&stream)?;
    message::send(&mut stream, &request, secret)?;
    message::receive(&mut stream)
}

/// Whether nobody listens: no socket, one that was left behind, or an agent that ended at this very moment.
const fn is_gone(error: ErrorKind) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    matches!(error, NotFound | ConnectionRefused | ConnectionReset | BrokenPipe | UnexpectedEof)
}

/// Gives the agent its keys and waits until it answers.
fn hand_over(child: &mut Child, keyring: &[u8]) -> std::io::Result<()> {
    let mut keys = child.stdin.take().expect("it was piped");
    keys.write_all(keyring)?;
    drop(keys);
    let mut output = child.stdout.take().expect("it was piped");
    let timeout = Timespec { tv_sec: START_WAIT_SECONDS, tv_nsec: 0 };
    if poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&timeout))? == 0 {
        return Err(ErrorKind::TimedOut.into());
    }
    let mut said = [0; READY.len()];
    output.read_exact(&mut said)?;
    if said == READY { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

/// An agent that fails in the middle of a command costs another opening, not the command.
impl OpeningStore for Agent {
    fn get(&self, grant: GrantId, _now: Time) -> Option<Zeroizing<Vec<u8>>> {
        match self.ask(Request::Get(grant), &[]) {
            Ok(Some((Answer::Secret, bytes))) => Some(bytes),
            _ => None,
        }
    }

    fn put(&self, grant: GrantId, bytes: Zeroizing<Vec<u8>>, until: Time) {
        let _ = self.ask(Request::Put(grant, until), &bytes);
    }

    fn remove(&self, grant: GrantId) {
        let _ = self.ask(Request::Remove(grant), &[]);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread::JoinHandle;

    use super::*;
    use crate::agent::server::serve;

    const GRANT: GrantId = GrantId::from_bytes([1; 32]);

    struct Said(mpsc::Sender<()>);

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// An agent in a thread of this process.
    fn running(home: &Path) -> JoinHandle<Result<(), AgentError>> {
        let (sender, ready) = mpsc::channel();
        let home = home.to_owned();
        let thread = std::thread::spawn(move || {
            serve(&home, Duration::from_secs(60), b"keys".as_slice(), &mut Said(sender))
        });
        ready.recv().unwrap();
        thread
    }

    #[test]
    fn without_an_agent_there_is_no_keyring_and_nothing_to_lock() {
        let home = tempfile::tempdir().unwrap();
        let agent = Agent::of(home.path());
        assert!(agent.keyring().unwrap().is_none());
        assert!(!agent.lock().unwrap());
    }

    #[test]
    fn an_agent_serves_until_it_is_locked() {
        let home = tempfile::tempdir().unwrap();
        let thread = running(home.path());
        let agent = Agent::of(home.path());
        assert_eq!(agent.keyring().unwrap().unwrap().as_slice(), b"keys");
        agent.put(GRANT, Zeroizing::new(b"opened".to_vec()), Time(u64::MAX));
        assert_eq!(agent.get(GRANT, Time(0)).unwrap().as_slice(), b"opened");
        let status = AgentStatus { lock_after: Duration::from_secs(60), openings: 1 };
        assert_eq!(agent.status().unwrap(), Some(status));
        assert!(agent.lock().unwrap());
        thread.join().unwrap().unwrap();
        assert!(agent.keyring().unwrap().is_none());
    }

    #[test]
    fn a_home_with_a_long_path_has_an_agent_too() {
        let home = tempfile::tempdir().unwrap();
        let long = home.path().join("a".repeat(120));
        std::fs::create_dir(&long).unwrap();
        let thread = running(&long);
        assert!(Agent::of(&long).lock().unwrap());
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn what_a_dead_agent_left_does_not_stop_the_next() {
        let home = tempfile::tempdir().unwrap();
        drop(std::os::unix::net::UnixListener::bind(home.path().join("agent.sock")).unwrap());
        assert!(Agent::of(home.path()).keyring().unwrap().is_none());
        let thread = running(home.path());
        assert!(Agent::of(home.path()).lock().unwrap());
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn a_caller_that_speaks_garbage_leaves_the_agent_as_it_was() {
        let home = tempfile::tempdir().unwrap();
        let thread = running(home.path());
        connect(home.path()).unwrap().write_all(&[0xff; 64]).unwrap();
        assert!(Agent::of(home.path()).keyring().unwrap().is_some());
        assert!(Agent::of(home.path()).lock().unwrap());
        thread.join().unwrap().unwrap();
    }
}
