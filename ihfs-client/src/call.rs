//! What a call to the client is for, until when it is wanted, and whether anybody still waits for it.
//!
//! A [`Client`](crate::client::Client) is bound to one call by `under`; whatever is done through it, and through
//! what it opened, keeps to that call. Requests have deadlines of their own besides, so that nothing ever hangs.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// What a call is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Somebody means it: a shared record is opened when that is needed, which its owner will see.
    #[default]
    Work,
    /// Somebody looks around, or a program does: only what is open already is read, and nothing is opened.
    Browse,
}

/// What a call is for and until when it is wanted. Cheap to clone; clones are cancelled together.
#[derive(Clone, Debug, Default)]
pub struct Call {
    purpose: Purpose,
    deadline: Option<Instant>,
    cancelled: Option<watch::Receiver<bool>>,
}

/// Ends calls that nobody waits for any more.
#[derive(Debug)]
pub struct Canceller(watch::Sender<bool>);

/// Nobody waits for it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was cancelled")]
pub struct Cancelled;

impl Call {
    /// A call for `purpose`, with no deadline but those of its requests.
    pub fn new(purpose: Purpose) -> Self {
        Self { purpose, ..Self::default() }
    }

    /// The same call, wanted for `time` from now and never longer than before.
    #[must_use]
    pub fn within(self, time: Duration) -> Self {
        let deadline = Instant::now() + time;
        Self { deadline: Some(self.deadline.map_or(deadline, |before| before.min(deadline))), ..self }
    }

    /// The same call, which the second value ends.
    pub fn cancellable(self) -> (Self, Canceller) {
        let (sender, receiver) = watch::channel(false);
        (Self { cancelled: Some(receiver), ..self }, Canceller(sender))
    }

    /// What it is for.
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// `limit`, or what is left of the call's time when that is less.
    pub fn left(&self, limit: Duration) -> Duration {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        left.map_or(limit, |left| left.min(limit))
    }

    /// Does `work` unless the call is cancelled before it is done; then `work` is dropped.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, Cancelled> {
        tokio::select! {
            biased;
            () = self.cancelled() => Err(Cancelled),
            done = work => Ok(done),
        }
    }

    async fn cancelled(&self) {
        if let Some(mut cancelled) = self.cancelled.clone()
            && cancelled.wait_for(|cancelled| *cancelled).await.is_ok()
        {
            return;
        }
        // Whoever could cancel it is gone: it runs to its end.
        std::future::pending().await
    }
}

impl Canceller {
    /// Ends every wait of the call and its clones, now and later.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    async fn never() {
        std::future::pending().await
    }

    #[test]
    fn a_call_is_wanted_as_long_as_its_shortest_limit() {
        assert_eq!(Call::default().left(LONG), LONG);
        let call = Call::default().within(Duration::from_secs(1)).within(LONG);
        assert!(call.left(LONG) <= Duration::from_secs(1));
        assert_eq!(Call::default().within(Duration::ZERO).left(LONG), Duration::ZERO);
    }

    #[tokio::test]
    async fn cancelling_ends_waits_that_began_before_and_after() {
        let (call, canceller) = Call::new(Purpose::Browse).cancellable();
        let waiting = tokio::spawn({
            let call = call.clone();
            async move { call.unless_cancelled(never()).await }
        });
        tokio::task::yield_now().await;
        canceller.cancel();
        assert_eq!(waiting.await.unwrap(), Err(Cancelled));
        assert_eq!(call.unless_cancelled(async { 7 }).await, Err(Cancelled));
    }

    #[tokio::test]
    async fn a_call_whose_canceller_is_gone_goes_on() {
        let (call, canceller) = Call::default().cancellable();
        drop(canceller);
        assert_eq!(call.unless_cancelled(async { 7 }).await, Ok(7));
    }
}
