//! The network of one node on this machine: starts, finds and ends the node's process.
//!
//! `HOME/node` is the node's; `HOME/solo.json` says which process was started. No process outlives `stop`.

mod binary;
mod process;

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::home_lock::HomeLock;
use process::ProcessMark;

/// The node's data, in the folder of the identity.
const DATA: &str = "node";
/// What the node's data holds once it is complete.
const FOUNDED: &str = "VERSION";
/// What the running node says of itself, in its data.
const NODE_FILE: &str = "node.json";
/// What the node says before it logs, in its data; anew at each start. Its log is `logs` beside it.
const LOG: &str = "solo.log";
/// Which process was started, in the folder of the identity.
const MARK: &str = "solo.json";
/// Held while somebody starts or stops the node.
const LOCK: &str = "solo.lock";
/// Longest wait for somebody else who starts or stops it.
const LOCK_WAIT: Duration = Duration::from_secs(60);
/// Longest wait for a node to answer: it checks its store and replays its log before.
const START_WAIT: Duration = Duration::from_secs(60);
/// Longest wait for a node to end by itself: it finishes what it acknowledges.
const STOP_WAIT: Duration = Duration::from_secs(20);
/// Longest wait for a killed process to be gone.
const KILL_WAIT: Duration = Duration::from_secs(10);
/// Wait between two looks at the node's file.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Most bytes of the log shown when the node does not start.
const LOG_TAIL_BYTES: u64 = 2000;
/// Most bytes of the node's file.
const NODE_FILE_BYTES_MAX: u64 = 64 << 10;

/// Why the node of the solo network is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SoloError {
    /// Nowhere.
    #[error("the program ihfs-node was not found")]
    NoProgram,
    /// Could not be run, or took too long.
    #[error("the program ihfs-node could not be run")]
    NotRun(#[source] std::io::Error),
    /// It ran and refused.
    #[error("ihfs-node failed: {said}")]
    NodeFailed {
        /// What it said.
        said: String,
    },
    /// There is none in this home.
    #[error("there is no solo network in this folder")]
    NoNetwork,
    /// It ended or did not answer.
    #[error("the node did not start: {log}")]
    NotStarted {
        /// The end of its log.
        log: String,
    },
    /// It does not run.
    #[error("the node of this network does not run")]
    Stopped,
    /// Not even killed.
    #[error("the node (process {pid}) did not end")]
    NotStopped {
        /// Its number.
        pid: i32,
    },
    /// Somebody else starts or stops it and does not come to an end.
    #[error("another command is starting or stopping the node")]
    Busy,
    /// A file of the supervisor failed.
    #[error("what the supervisor keeps in the folder could not be read or written")]
    Files(#[from] std::io::Error),
    /// What the node says of itself is not readable.
    #[error("what the node says of itself could not be read")]
    BadNodeFile(#[from] serde_json::Error),
}

/// What a running node says of itself.
#[derive(Clone, Debug, serde::Deserialize)]
pub(crate) struct NodeFile {
    /// Its process.
    pub(crate) pid: i32,
    /// Where it can be reached.
    pub(crate) announce: Vec<String>,
}

/// Whether the node runs.
#[derive(Clone, Debug)]
pub(crate) enum SoloStatus {
    /// It does, and answers there.
    Running {
        /// Its process.
        pid: i32,
        /// Where it can be reached.
        addresses: Vec<String>,
    },
    /// Its process lives but does not answer yet.
    Starting {
        /// Its process.
        pid: i32,
    },
    /// It does not.
    Stopped,
}

/// The solo network of one identity.
#[derive(Debug)]
pub(crate) struct Solo {
    home: PathBuf,
}

impl Solo {
    /// The solo network in `home`, whether there is one or not.
    pub(crate) fn of(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }

    /// The node's data.
    pub(crate) fn data(&self) -> PathBuf {
        self.home.join(DATA)
    }

    /// Whether there is one.
    pub(crate) fn exists(&self) -> bool {
        self.data().join(FOUNDED).is_file()
    }

    /// Runs one of the node's short commands on its data and gives what it printed.
    ///
    /// # Errors
    /// [`SoloError`].
    pub(crate) fn command(&self, verb: &str, arguments: &[&str]) -> Result<String, SoloError> {
        let data = self.data();
        let mut all = vec![OsStr::new(verb), OsStr::new("--data"), data.as_os_str()];
        all.extend(arguments.iter().map(OsStr::new));
        binary::run(&all)
    }

    /// Whether the node runs.
    ///
    /// # Errors
    /// [`SoloError::Files`].
    pub(crate) fn status(&self) -> Result<SoloStatus, SoloError> {
        let Some(mark) = self.mark()? else { return Ok(SoloStatus::Stopped) };
        if mark.living()?.is_none() {
            return Ok(SoloStatus::Stopped);
        }
        Ok(match self.node_file() {
            Ok(Some(node)) if node.pid == mark.pid => {
                SoloStatus::Running { pid: node.pid, addresses: node.announce }
            }
            // Half-written or of the process before: this one is not ready.
            _ => SoloStatus::Starting { pid: mark.pid },
        })
    }

    /// Starts the node unless it runs, and waits until it answers.
    ///
    /// # Errors
    /// [`SoloError`]; a node that does not answer is ended again.
    pub(crate) fn start(&self) -> Result<SoloStatus, SoloError> {
        let _lock = self.lock()?;
        if let running @ SoloStatus::Running { .. } = self.status()? {
            return Ok(running);
        }
        // One that was started and never answered would fight the new one for the data.
        self.end()?;
        let mut child = self.spawn()?;
        let started = self.wait_until_ready(&mut child);
        if started.is_err() {
            // Our own child, not yet collected: its number is still its own.
            let _ = child.kill();
            let _ = child.wait();
        }
        started
    }

    /// Becomes the node; returns only if that fails.
    ///
    /// # Errors
    /// [`SoloError`].
    pub(crate) fn become_node(&self, options: &[&str]) -> Result<std::convert::Infallible, SoloError> {
        if !self.exists() {
            return Err(SoloError::NoNetwork);
        }
        let program = binary::find()?;
        let error = Command::new(program).arg("run").arg("--data").arg(self.data()).args(options).exec();
        Err(SoloError::NotRun(error))
    }

    /// Stays in the foreground as the node; returns only if that fails.
    ///
    /// # Errors
    /// [`SoloError`].
    pub(crate) fn foreground(&self) -> Result<std::convert::Infallible, SoloError> {
        let lock = self.lock()?;
        if !matches!(self.status()?, SoloStatus::Stopped) {
            return Err(SoloError::Busy);
        }
        // Becoming the node keeps the number and the start time.
        self.write_mark(std::process::id().cast_signed())?;
        drop(lock);
        self.become_node(&[])
    }

    /// Ends the node and waits until it is gone; whether it ran.
    ///
    /// # Errors
    /// [`SoloError`].
    pub(crate) fn stop(&self) -> Result<bool, SoloError> {
        let _lock = self.lock()?;
        self.end()
    }

    fn end(&self) -> Result<bool, SoloError> {
        let Some(mark) = self.mark()? else { return Ok(false) };
        let Some(living) = mark.living()? else { return Ok(false) };
        living.signal(Signal::TERM)?;
        if !living.ends_within(STOP_WAIT)? {
            living.signal(Signal::KILL)?;
            if !living.ends_within(KILL_WAIT)? {
                return Err(SoloError::NotStopped { pid: mark.pid });
            }
        }
        Ok(true)
    }

    /// Starts `ihfs solo-run`, which leaves this session and becomes the node under the same number.
    fn spawn(&self) -> Result<Child, SoloError> {
        if !self.exists() {
            return Err(SoloError::NoNetwork);
        }
        binary::find()?;
        let log = OpenOptions::new().create(true).write(true).truncate(true).open(self.data().join(LOG))?;
        let child = Command::new(std::env::current_exe()?)
            .arg("solo-run")
            .arg("--home")
            .arg(&self.home)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(SoloError::NotRun)?;
        self.write_mark(child.id().cast_signed())?;
        Ok(child)
    }

    fn wait_until_ready(&self, child: &mut Child) -> Result<SoloStatus, SoloError> {
        let deadline = Instant::now() + START_WAIT;
        loop {
            if child.try_wait()?.is_some() || Instant::now() >= deadline {
                return Err(SoloError::NotStarted { log: self.log_tail() });
            }
            if let running @ SoloStatus::Running { .. } = self.status()? {
                return Ok(running);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn lock(&self) -> Result<HomeLock, SoloError> {
        if !self.home.is_dir() {
            return Err(SoloError::NoNetwork);
        }
        HomeLock::take_within(&self.home.join(LOCK), LOCK_WAIT)?.ok_or(SoloError::Busy)
    }

    fn mark(&self) -> Result<Option<ProcessMark>, SoloError> {
        match read_short(&self.home.join(MARK))? {
            // A mark cut short by a power cut names no process of this boot.
            Some(text) => Ok(serde_json::from_str(&text).ok()),
            None => Ok(None),
        }
    }

    fn write_mark(&self, pid: i32) -> Result<(), SoloError> {
        let Some(mark) = ProcessMark::of(pid)? else { return Ok(()) };
        let (path, new) = (self.home.join(MARK), self.home.join(format!("{MARK}.{pid}")));
        std::fs::write(&new, serde_json::to_vec(&mark)?)?;
        Ok(std::fs::rename(new, path)?)
    }

    fn node_file(&self) -> Result<Option<NodeFile>, SoloError> {
        match read_short(&self.data().join(NODE_FILE))? {
            Some(text) => Ok(Some(serde_json::from_str(&text)?)),
            None => Ok(None),
        }
    }

    fn log_tail(&self) -> String {
        let tail = || -> std::io::Result<String> {
            let mut log = File::open(self.data().join(LOG))?;
            let length = log.metadata()?.len();
            log.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            log.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        tail().unwrap_or_else(|error| format!("and its log cannot be read ({})", error.kind()))
    }
}

/// A small file's text; none if there is no such file.
fn read_short(path: &Path) -> std::io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(NODE_FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A solo network whose node is `sleep`, started here.
    fn network() -> (tempfile::TempDir, Solo, Child) {
        let home = tempfile::tempdir().unwrap();
        let solo = Solo::of(home.path());
        std::fs::create_dir(solo.data()).unwrap();
        std::fs::write(solo.data().join(FOUNDED), "1").unwrap();
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        solo.write_mark(child.id().cast_signed()).unwrap();
        (home, solo, child)
    }

    fn say_ready(solo: &Solo, pid: i32) {
        let text = format!(r#"{{"pid":{pid},"announce":["127.0.0.1:1"],"other":true}}"#);
        std::fs::write(solo.data().join(NODE_FILE), text).unwrap();
    }

    #[test]
    fn a_folder_without_a_network_has_none_to_start() {
        let home = tempfile::tempdir().unwrap();
        let solo = Solo::of(home.path());
        assert!(matches!(solo.status(), Ok(SoloStatus::Stopped)));
        assert!(matches!(solo.start(), Err(SoloError::NoNetwork)));
        assert!(!solo.stop().unwrap());
        assert!(matches!(Solo::of(&home.path().join("none")).stop(), Err(SoloError::NoNetwork)));
    }

    #[test]
    fn a_node_runs_once_it_says_so_itself() {
        let (_home, solo, mut child) = network();
        let pid = child.id().cast_signed();
        assert!(matches!(solo.status(), Ok(SoloStatus::Starting { .. })));
        say_ready(&solo, pid + 1);
        assert!(matches!(solo.status(), Ok(SoloStatus::Starting { .. })), "another process said it");
        say_ready(&solo, pid);
        assert!(matches!(solo.status(), Ok(SoloStatus::Running { pid: found, .. }) if found == pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(solo.status(), Ok(SoloStatus::Stopped)));
    }

    #[test]
    fn stop_ends_the_node_and_nothing_a_second_time() {
        let (_home, solo, mut child) = network();
        assert!(solo.stop().unwrap());
        assert!(child.try_wait().unwrap().is_some(), "it is gone when stop returns");
        assert!(!solo.stop().unwrap());
    }

    #[test]
    fn stop_ends_no_process_that_took_over_the_number() {
        let (home, solo, mut child) = network();
        let mut other: serde_json::Value =
            serde_json::from_slice(&std::fs::read(home.path().join(MARK)).unwrap()).unwrap();
        other["start_ticks"] = 1.into();
        std::fs::write(home.path().join(MARK), other.to_string()).unwrap();
        assert!(!solo.stop().unwrap());
        assert!(child.try_wait().unwrap().is_none(), "it lives");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
