//! What the agent keeps and when it lets go: no socket, no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use ihfs_core::ids::{GrantId, Time};
use zeroize::Zeroizing;

use super::message::{Answer, Request};

/// Most opened grants kept; further ones are opened again when needed.
const OPENINGS_MAX: usize = 4096;
/// Most bytes of one.
const OPENING_BYTES_MAX: usize = 4096;
/// Longest that an opening is kept, whatever a command says: nodes serve none for longer.
const OPENING_KEPT_MAX: Duration = Duration::from_secs(12 * 60 * 60);

/// The moment, twice: by the calendar, and by a clock that nobody sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// As block headers count.
    pub(super) time: Time,
    /// Since boot, suspension included.
    pub(super) since_boot: Duration,
}

struct Opening {
    bytes: Zeroizing<Vec<u8>>,
    until: Time,
    kept_until: Duration,
}

/// Keeps the keys and the openings of one identity.
pub(super) struct Keeper {
    keyring: Zeroizing<Vec<u8>>,
    openings: BTreeMap<GrantId, Opening>,
    lock_after: Duration,
    last_used: Duration,
}

/// What to send back.
pub(super) type Reply = (Answer, Zeroizing<Vec<u8>>);

impl Keeper {
    /// Keeps a keyring's secret bytes until nothing asks for `lock_after`.
    pub(super) const fn new(keyring: Zeroizing<Vec<u8>>, lock_after: Duration, now: Now) -> Self {
        Self { keyring, openings: BTreeMap::new(), lock_after, last_used: now.since_boot }
    }

    /// How long until it locks; zero when it has to.
    pub(super) const fn locks_in(&self, now: Now) -> Duration {
        (self.last_used.saturating_add(self.lock_after)).saturating_sub(now.since_boot)
    }

    /// Answers a request; none to [`Request::Lock`], after which the keeper is to be dropped.
    pub(super) fn answer(&mut self, request: Request, secret: Zeroizing<Vec<u8>>, now: Now) -> Option<Reply> {
        self.forget_old(now);
        // Looking at the state is no use of the keys.
        if request != Request::Status {
            self.last_used = now.since_boot;
        }
        Some(match request {
            Request::Keyring => (Answer::Secret, self.keyring.clone()),
            Request::Get(grant) => match self.openings.get(&grant) {
                Some(opening) => (Answer::Secret, opening.bytes.clone()),
                None => bare(Answer::Nothing),
            },
            Request::Put(grant, until) => {
                self.keep(grant, secret, until, now);
                bare(Answer::Done)
            }
            Request::Remove(grant) => {
                self.openings.remove(&grant);
                bare(Answer::Done)
            }
            Request::Status => bare(Answer::Status {
                lock_after: self.lock_after.as_secs(),
                openings: self.openings.len() as u64,
            }),
            Request::Lock => return None,
        })
    }

    /// Lets go of every opening whose time is over.
    pub(super) fn forget_old(&mut self, now: Now) {
        self.openings.retain(|_, opening| opening.until > now.time && opening.kept_until > now.since_boot);
    }

    fn keep(&mut self, grant: GrantId, bytes: Zeroizing<Vec<u8>>, until: Time, now: Now) {
        let room = self.openings.len() < OPENINGS_MAX || self.openings.contains_key(&grant);
        if room && bytes.len() <= OPENING_BYTES_MAX {
            let kept_until = now.since_boot + OPENING_KEPT_MAX;
            self.openings.insert(grant, Opening { bytes, until, kept_until });
        }
    }
}

fn bare(answer: Answer) -> Reply {
    (answer, Zeroizing::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANT: GrantId = GrantId::from_bytes([1; 32]);
    const IDLE: Duration = Duration::from_secs(1800);

    fn at(seconds: u64) -> Now {
        Now { time: Time(seconds * 1000), since_boot: Duration::from_secs(seconds) }
    }

    fn keeper() -> Keeper {
        Keeper::new(Zeroizing::new(b"keys".to_vec()), IDLE, at(0))
    }

    fn ask(keeper: &mut Keeper, request: Request, now: Now) -> (Answer, Vec<u8>) {
        let (answer, secret) = keeper.answer(request, Zeroizing::new(b"opened".to_vec()), now).unwrap();
        (answer, secret.to_vec())
    }

    #[test]
    fn it_hands_out_what_it_keeps() {
        let mut keeper = keeper();
        assert_eq!(ask(&mut keeper, Request::Keyring, at(1)), (Answer::Secret, b"keys".to_vec()));
        assert_eq!(ask(&mut keeper, Request::Get(GRANT), at(1)).0, Answer::Nothing);
        ask(&mut keeper, Request::Put(GRANT, Time(60_000)), at(1));
        assert_eq!(ask(&mut keeper, Request::Get(GRANT), at(2)), (Answer::Secret, b"opened".to_vec()));
        ask(&mut keeper, Request::Remove(GRANT), at(3));
        assert_eq!(ask(&mut keeper, Request::Get(GRANT), at(4)).0, Answer::Nothing);
    }

    #[test]
    fn an_opening_ends_at_its_time() {
        let mut keeper = keeper();
        ask(&mut keeper, Request::Put(GRANT, Time(60_000)), at(1));
        assert_eq!(ask(&mut keeper, Request::Get(GRANT), at(59)).0, Answer::Secret);
        assert_eq!(ask(&mut keeper, Request::Get(GRANT), at(60)).0, Answer::Nothing);
    }

    #[test]
    fn an_opening_ends_after_twelve_hours_even_if_the_calendar_was_set_back() {
        let mut keeper = keeper();
        ask(&mut keeper, Request::Put(GRANT, Time(u64::MAX)), at(1));
        let set_back = Now { time: Time(0), since_boot: OPENING_KEPT_MAX + Duration::from_secs(1) };
        assert_eq!(ask(&mut keeper, Request::Get(GRANT), set_back).0, Answer::Nothing);
    }

    #[test]
    fn it_locks_after_the_idle_time_and_looking_does_not_prolong_it() {
        let mut keeper = keeper();
        ask(&mut keeper, Request::Keyring, at(1000));
        assert_eq!(keeper.locks_in(at(1000)), IDLE);
        ask(&mut keeper, Request::Status, at(2000));
        assert_eq!(keeper.locks_in(at(2000)), Duration::from_secs(800));
        assert_eq!(keeper.locks_in(at(9000)), Duration::ZERO);
    }

    #[test]
    fn lock_ends_it() {
        assert!(keeper().answer(Request::Lock, Zeroizing::default(), at(1)).is_none());
    }
}
