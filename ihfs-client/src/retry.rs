//! Lost races: a change is made again on the newest version when another device was faster, or when access was
//! taken from somebody meanwhile.

use crate::writing::CommitError;

/// How often a change is made before the last lost race is told.
pub(crate) const ATTEMPTS: usize = 5;

/// An error that may be a lost race.
pub(crate) trait LostRace {
    /// Whether the same change can succeed on the version that is newest now.
    fn is_lost_race(&self) -> bool;
}

impl LostRace for CommitError {
    fn is_lost_race(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::EpochMoved { .. })
    }
}

/// Runs `attempt`, which reads the newest version each time, until it loses no race.
pub(crate) fn again<T, E: LostRace>(mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(error) if error.is_lost_race() => {}
            done => return done,
        }
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use ihfs_core::ids::{RecordId, Version};

    use super::*;

    fn lost() -> CommitError {
        CommitError::Conflict { record: RecordId::from_bytes([1; 32]), head: Version(2) }
    }

    #[test]
    fn a_lost_race_is_run_again_and_no_other_error_is() {
        let mut runs = 0;
        let done = again(|| {
            runs += 1;
            if runs < 3 { Err(lost()) } else { Ok(runs) }
        });
        assert_eq!(done.ok(), Some(3));
        let mut runs = 0;
        let failed: Result<(), _> = again(|| {
            runs += 1;
            Err(CommitError::ReadOnly { record: RecordId::from_bytes([1; 32]) })
        });
        assert!(matches!(failed, Err(CommitError::ReadOnly { .. })));
        assert_eq!(runs, 1);
    }

    #[test]
    fn a_race_that_is_always_lost_ends() {
        let mut runs = 0;
        let failed: Result<(), _> = again(|| {
            runs += 1;
            Err(lost())
        });
        assert!(matches!(failed, Err(CommitError::Conflict { .. })));
        assert_eq!(runs, ATTEMPTS);
    }
}
