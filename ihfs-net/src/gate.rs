//! Who may talk, about what, and how often: asked for every request, so that a change of policy
//! counts at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::frame::{Head, Refusal};
use crate::limits::Limits;
use crate::message::Conversation;
use crate::peer::PeerKey;

/// What a peer may do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// A registered device or node: every conversation.
    Member,
    /// Anyone else: [`Conversation::Join`] alone, rate-limited, in small messages.
    Guest,
}

/// Answers who a peer is; called for every request, so it should be a look-up.
pub(crate) type Policy = Arc<dyn Fn(PeerKey) -> Admission + Send + Sync>;

/// Longest message of a guest, header and body: an invite, a few keys and signatures.
pub const GUEST_MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Guests whose rate is remembered one by one. Beyond it a new guest waits for an old one to be
/// forgotten (one quiet minute); the joint rate holds anyway.
const GUESTS_REMEMBERED: usize = 1024;

/// Decides on each request. Everyone is a guest until a policy is set.
pub(crate) struct Gate {
    policy: RwLock<Policy>,
    rates: Mutex<Rates>,
}

impl Gate {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { policy: RwLock::new(Arc::new(|_| Admission::Guest)), rates: Mutex::new(Rates::new(limits)) }
    }

    pub(crate) fn set_policy(&self, policy: Policy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    pub(crate) fn admission(&self, peer: PeerKey) -> Admission {
        let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner).clone();
        policy(peer)
    }

    /// Admits a request of this head from this peer, or says why not.
    pub(crate) fn admit(&self, peer: PeerKey, request: &Head) -> Result<Admission, Refusal> {
        let admission = self.admission(peer);
        if admission == Admission::Member {
            return Ok(admission);
        }
        if request.conversation != Conversation::Join {
            return Err(Refusal::NotAdmitted);
        }
        if request.message_bytes() > GUEST_MESSAGE_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        if rates.take(peer, Instant::now()) { Ok(admission) } else { Err(Refusal::Busy) }
    }
}

/// The rates of guests: one bucket each, and one for all together.
struct Rates {
    per_guest: u32,
    all: Bucket,
    guests: HashMap<PeerKey, Bucket>,
}

impl Rates {
    fn new(limits: &Limits) -> Self {
        let all = Bucket::full(limits.guests_requests_per_minute, Instant::now());
        Self { per_guest: limits.guest_requests_per_minute, all, guests: HashMap::new() }
    }

    fn take(&mut self, guest: PeerKey, now: Instant) -> bool {
        if !self.guests.contains_key(&guest) && self.guests.len() >= GUESTS_REMEMBERED {
            self.guests.retain(|_, bucket| now.duration_since(bucket.filled) < MINUTE);
            if self.guests.len() >= GUESTS_REMEMBERED {
                return false;
            }
        }
        let per_guest = self.per_guest;
        let bucket = self.guests.entry(guest).or_insert_with(|| Bucket::full(per_guest, now));
        bucket.take(now) && self.all.take(now)
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// A token bucket: holds a minute's worth and refills evenly.
struct Bucket {
    per_minute: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn full(per_minute: u32, now: Instant) -> Self {
        Self { per_minute: per_minute.into(), tokens: per_minute.into(), filled: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let minutes = now.duration_since(self.filled).as_secs_f64() / MINUTE.as_secs_f64();
        self.tokens = self.per_minute.min(self.tokens + minutes * self.per_minute);
        self.filled = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Kind;

    fn guest(number: u8) -> PeerKey {
        PeerKey::from_bytes([number; 32])
    }

    fn join() -> Head {
        Head::bare(Kind::Request, Conversation::Join, 0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_joins_at_its_rate_and_no_faster() {
        let gate = Gate::new(&Limits::default());
        for _ in 0..12 {
            assert_eq!(gate.admit(guest(1), &join()), Ok(Admission::Guest));
        }
        assert_eq!(gate.admit(guest(1), &join()), Err(Refusal::Busy));
        assert_eq!(gate.admit(guest(2), &join()), Ok(Admission::Guest));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(gate.admit(guest(1), &join()), Ok(Admission::Guest));
        assert_eq!(gate.admit(guest(1), &join()), Err(Refusal::Busy));
    }

    #[tokio::test(start_paused = true)]
    async fn all_guests_together_are_limited_too() {
        let gate = Gate::new(&Limits { guests_requests_per_minute: 5, ..Limits::default() });
        let admitted = (0..20).filter(|number| gate.admit(guest(*number), &join()).is_ok()).count();
        assert_eq!(admitted, 5);
    }

    #[test]
    fn a_guest_may_only_join_and_in_small_messages() {
        let gate = Gate::new(&Limits::default());
        let ledger = Head { conversation: Conversation::Ledger, ..join() };
        assert_eq!(gate.admit(guest(1), &ledger), Err(Refusal::NotAdmitted));
        let large = Head { body_bytes: GUEST_MESSAGE_BYTES_MAX as u32 + 1, ..join() };
        assert_eq!(gate.admit(guest(1), &large), Err(Refusal::TooLarge));
        gate.set_policy(Arc::new(|_| Admission::Member));
        assert_eq!(gate.admit(guest(1), &ledger), Ok(Admission::Member));
    }
}
