//! What is tried again: a change that lost a race, on the newest version; and a request about chunks, which may be
//! made any number of times, that the network did not carry.

use std::time::{Duration, Instant};

use ihfs_net::RequestError;

use crate::call::Call;
use crate::link::AskError;
use crate::writing::CommitError;

/// How often a change is made before the last lost race is told.
pub(crate) const ATTEMPTS: usize = 5;

/// How long a request is made again: a node that is started anew is there within that time.
pub(crate) const UNREACHABLE_TIME_MAX: Duration = Duration::from_secs(10);
/// The pause after the first failure; it doubles with each up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause: what a node that is back is waited for in vain.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The pauses between requests that change nothing when they are made twice.
pub(crate) struct Pauses<'a> {
    call: &'a Call,
    end: Instant,
    next: Duration,
}

impl<'a> Pauses<'a> {
    /// Within the time of `call`.
    pub(crate) fn under(call: &'a Call) -> Self {
        Self { call, end: Instant::now() + call.left(UNREACHABLE_TIME_MAX), next: PAUSE_MIN }
    }

    /// Waits before the next request; false when there is to be none.
    pub(crate) async fn pause(&mut self) -> bool {
        let pause = self.next;
        self.next = PAUSE_MAX.min(2 * pause);
        Instant::now() + pause < self.end
            && self.call.unless_cancelled(tokio::time::sleep(pause)).await.is_ok()
    }
}

/// Whether the network may carry the same request a little later.
pub(crate) const fn may_pass(error: &AskError) -> bool {
    matches!(
        error,
        AskError::Network(
            RequestError::Unreachable { .. }
                | RequestError::TimedOut { .. }
                | RequestError::Closed { .. }
                | RequestError::Busy { .. }
        )
    )
}

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

    #[tokio::test]
    async fn a_call_without_time_or_that_is_cancelled_makes_no_request_again() {
        let (cancelled, canceller) = Call::default().cancellable();
        canceller.cancel();
        assert!(!Pauses::under(&cancelled).pause().await);
        assert!(!Pauses::under(&Call::default().within(Duration::ZERO)).pause().await);
        assert!(Pauses::under(&Call::default()).pause().await);
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
