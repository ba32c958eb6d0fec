//! One process, for certain: its number, when it started, and which boot of the machine that was.
//!
//! Numbers are reused; signals go through a descriptor of the process, so that they never reach another.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Identifies a process among all that ever ran on this machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ProcessMark {
    /// Its number.
    pub(crate) pid: i32,
    /// When it started, in clock ticks since boot.
    start_ticks: u64,
    /// Which boot.
    boot: String,
}

/// A process that lives, held so that its number cannot go to another.
#[derive(Debug)]
pub(crate) struct Living(OwnedFd);

impl ProcessMark {
    /// The mark of a process; none if it has ended.
    ///
    /// # Errors
    /// What reading `/proc` gives.
    pub(crate) fn of(pid: i32) -> std::io::Result<Option<Self>> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let stat = match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat,
            Err(_) if !Path::new("/proc/self").exists() => return Err(std::io::ErrorKind::NotFound.into()),
            Err(_) => return Ok(None),
        };
        Ok(parse_stat(&stat).map(|start_ticks| Self { pid, start_ticks, boot }))
    }

    /// The process, if it is still this one and lives.
    ///
    /// # Errors
    /// What the kernel gives.
    pub(crate) fn living(&self) -> std::io::Result<Option<Living>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Compared after the descriptor is open: from here on the number cannot pass to another.
        Ok((Self::of(self.pid)?.as_ref() == Some(self)).then_some(Living(descriptor)))
    }
}

impl Living {
    /// Sends a signal; a process that has ended meanwhile needs none.
    ///
    /// # Errors
    /// What the kernel gives.
    pub(crate) fn signal(&self, signal: Signal) -> std::io::Result<()> {
        match pidfd_send_signal(&self.0, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it ends within `wait`.
    ///
    /// # Errors
    /// What the kernel gives.
    pub(crate) fn ends_within(&self, wait: Duration) -> std::io::Result<bool> {
        let timeout = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        };
        let ready =
            rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)))?;
        Ok(ready > 0)
    }
}

/// Start time in `/proc/PID/stat`, proc_pid_stat(5); none of a process that has ended and is not yet collected.
fn parse_stat(stat: &str) -> Option<u64> {
    // The name, in brackets, may hold anything: fields are counted from its end.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    // State is field 3, start time field 22.
    let start = fields.nth(18)?.parse().ok()?;
    (state != "Z" && state != "X").then_some(start)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(parse_stat(stat), Some(4242));
        assert_eq!(parse_stat(&stat.replace(" S ", " Z ")), None);
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn this_process_lives_and_one_with_another_start_time_does_not() {
        let own = ProcessMark::of(std::process::id().cast_signed()).unwrap().unwrap();
        assert!(own.living().unwrap().is_some());
        let other = ProcessMark { start_ticks: own.start_ticks + 1, ..own.clone() };
        assert!(other.living().unwrap().is_none());
        let other_boot = ProcessMark { boot: "another".to_owned(), ..own };
        assert!(other_boot.living().unwrap().is_none());
    }

    #[test]
    fn a_signal_ends_that_process() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let mark = ProcessMark::of(child.id().cast_signed()).unwrap().unwrap();
        let living = mark.living().unwrap().unwrap();
        assert!(!living.ends_within(Duration::ZERO).unwrap());
        living.signal(Signal::TERM).unwrap();
        assert!(living.ends_within(Duration::from_secs(10)).unwrap());
        assert!(mark.living().unwrap().is_none(), "not collected, but ended");
        child.wait().unwrap();
        assert!(mark.living().unwrap().is_none());
    }
}
