//! A lock file that a process holds for its life: whether it is held says whether the process lives.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// How long to wait between two looks at a lock: short against what people notice.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Held until it is dropped, or until the process ends however it ends.
#[derive(Debug)]
pub(crate) struct HomeLock(#[expect(dead_code, reason = "kept open: closing it gives the lock back")] File);

impl HomeLock {
    /// Takes the lock; none if another process holds it.
    ///
    /// # Errors
    /// What opening the file gives.
    pub(crate) fn try_take(path: &Path) -> std::io::Result<Option<Self>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the lock as soon as it is free; none if it is still held after `wait`.
    ///
    /// # Errors
    /// What opening the file gives.
    pub(crate) fn take_within(path: &Path, wait: Duration) -> std::io::Result<Option<Self>> {
        let deadline = Instant::now() + wait;
        loop {
            let taken = Self::try_take(path)?;
            if taken.is_some() || Instant::now() >= deadline {
                return Ok(taken);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_by_one_and_free_when_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = HomeLock::try_take(&path).unwrap();
        assert!(held.is_some());
        assert!(HomeLock::try_take(&path).unwrap().is_none());
        drop(held);
        assert!(HomeLock::take_within(&path, Duration::ZERO).unwrap().is_some());
    }
}
