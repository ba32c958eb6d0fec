//! Custody: keeps key shares for owners, and releases them only while the ledger says so.
//!
//! A share is durable before the node signs for it, and destroyed once the ledger has ended its grant. It is
//! released only for an opening that this process saw decided live, a short time ago: after a restart readers
//! open again. Custody holds one share of a key that is sealed to its reader, and so nothing that it can read.

pub mod backup;
mod shares;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ihfs_core::ids::{DeviceId, Digest, GrantId, MemberId, NodeId, OpeningId, Time};
use ihfs_core::ledger::news::News;
use ihfs_core::ledger::operation::{Custodian, CustodySubject};
use ihfs_core::ledger::state::{GrantEntry, OpeningEntry, StateError, StateKey};
use tokio::sync::Notify;

use crate::consensus::{HEADER_AHEAD_MAX_MILLIS, Origin};
use crate::keys::NodeKey;
use crate::ledger::{Decided, Ledger, Snapshot};
use shares::Shares;

pub use shares::{CustodyFault, Deposit};

/// How long after its block an opening releases key shares, in milliseconds.
pub const RELEASE_TIME_MAX: u64 = 15 * 60 * 1000;
/// Longest that a share may be kept without a grant: twice the life of a transaction, in milliseconds.
const KEEP_MAX: u64 = 48 * 60 * 60 * 1000;
/// Most openings remembered: a quarter of an hour of full blocks. The oldest go first; their readers open again.
const OPENINGS_MAX: usize = 100_000;
/// Most grants that wait to be settled one by one; with more, all shares are looked through.
const TOUCHED_MAX: usize = 4096;
/// How often all shares are looked through: for orphans, expired grants, and what failed before.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Why a share is not kept.
#[derive(Debug, thiserror::Error)]
pub enum DepositError {
    /// Share, envelope or note are not what the digests say, or are too long.
    #[error("the {part} is not the one that the digests name")]
    WrongPart {
        /// Which.
        part: &'static str,
    },
    /// Keep-until lies in the past or too far ahead.
    #[error("a key share is kept for at most 48 hours without a grant")]
    BadTime,
    /// Somebody else left a share for this grant, or the ledger knows the grant.
    #[error("grant {grant:?} has a key share already")]
    Taken {
        /// The grant.
        grant: GrantId,
    },
    /// The member left too many shares that no grant names.
    #[error("too many key shares without a grant")]
    TooMany,
    /// The database failed.
    #[error(transparent)]
    Fault(#[from] CustodyFault),
    /// The ledger cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Why a share is not released, or a note not given.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// This process did not see the opening decided, or too long ago.
    #[error("the opening was not seen decided by this node lately: open again")]
    OpenAgain,
    /// There is no such opening of this grant by this device.
    #[error("this device did not open the grant")]
    NotOpened,
    /// The grant is not on the ledger, ended or expired.
    #[error("the grant is not live")]
    NoGrant,
    /// There is no share of this grant here.
    #[error("no key share of this grant is kept here")]
    NotHere,
    /// The database failed.
    #[error(transparent)]
    Fault(#[from] CustodyFault),
    /// The ledger cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What a reader gets.
#[derive(Debug)]
pub struct Released {
    /// Canonical bytes of the key share.
    pub share: Vec<u8>,
    /// The outer envelope.
    pub envelope: Vec<u8>,
}

/// An opening that this process saw decided.
struct LiveOpening {
    reader: MemberId,
    device: DeviceId,
    time: Time,
    seen: Instant,
    grants: Vec<GrantId>,
}

/// Grants that blocks changed since the worker last looked.
#[derive(Default)]
struct Touched {
    grants: Vec<GrantId>,
    /// More than fit: everything is looked through.
    all: bool,
}

#[derive(Default)]
struct Openings {
    live: BTreeMap<OpeningId, LiveOpening>,
    order: VecDeque<OpeningId>,
}

/// The custodian.
pub struct Custody {
    ledger: Arc<Ledger>,
    shares: Shares,
    key: Arc<NodeKey>,
    openings: Mutex<Openings>,
    /// Grants that blocks changed, to be settled.
    touched: Mutex<Touched>,
    is_touched: Notify,
    clock: fn() -> Time,
    releases: AtomicU64,
    denials: AtomicU64,
}

impl Custody {
    /// Opens the custody database, applies what the ledger has ended meanwhile, and follows the ledger.
    ///
    /// # Errors
    /// [`CustodyFault`].
    pub fn open(
        path: &Path,
        ledger: &Arc<Ledger>,
        key: Arc<NodeKey>,
        clock: fn() -> Time,
    ) -> Result<Arc<Self>, CustodyFault> {
        Self::over(Shares::open(path)?, ledger, key, clock)
    }

    /// Custody over an open database.
    fn over(
        shares: Shares,
        ledger: &Arc<Ledger>,
        key: Arc<NodeKey>,
        clock: fn() -> Time,
    ) -> Result<Arc<Self>, CustodyFault> {
        let custody = Arc::new(Self {
            ledger: Arc::clone(ledger),
            shares,
            key,
            openings: Mutex::default(),
            touched: Mutex::default(),
            is_touched: Notify::new(),
            clock,
            releases: AtomicU64::new(0),
            denials: AtomicU64::new(0),
        });
        // Before anything is served: a restored database may hold shares that were destroyed since.
        custody.sweep()?;
        let follower = Arc::downgrade(&custody);
        ledger.on_decided(move |decided| {
            if let Some(custody) = follower.upgrade() {
                custody.take(decided);
            }
        });
        Ok(custody)
    }

    /// Destroys what the ledger ended, and orphans, until the task is ended.
    pub async fn run(self: Arc<Self>) {
        let mut sweeps = tokio::time::interval(SWEEP_EVERY);
        sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let all = tokio::select! {
                () = self.is_touched.notified() => false,
                _ = sweeps.tick() => true,
            };
            let custody = Arc::clone(&self);
            let settle = move || if all { custody.sweep() } else { custody.settle_touched() };
            if let Ok(Err(error)) = tokio::task::spawn_blocking(settle).await {
                tracing::error!(error = &error as &dyn std::error::Error, "custody");
            }
        }
    }

    /// Key shares kept.
    ///
    /// # Errors
    /// [`CustodyFault`].
    pub fn count(&self) -> Result<u64, CustodyFault> {
        self.shares.count()
    }

    /// Shares released since the start.
    pub fn releases(&self) -> u64 {
        self.releases.load(Ordering::Relaxed)
    }

    /// Requests denied since the start.
    pub fn denials(&self) -> u64 {
        self.denials.load(Ordering::Relaxed)
    }

    /// Takes a share in, durably, and then signs for it. The same deposit again gets the same word.
    ///
    /// # Errors
    /// [`DepositError`].
    pub fn deposit(&self, deposit: Deposit) -> Result<Custodian, DepositError> {
        deposit.check_parts()?;
        let snapshot = self.ledger.snapshot();
        let now = (self.clock)().max(snapshot.newest().time);
        let in_time = now < deposit.keep_until && deposit.keep_until <= now.plus_millis(KEEP_MAX);
        if !in_time {
            return Err(DepositError::BadTime);
        }
        let (grant, share, keep_until) = (deposit.grant, deposit.share_digest(), deposit.keep_until);
        let subject = CustodySubject { chain: self.ledger.chain(), grant, digests: deposit.digests };
        let entry: Option<GrantEntry> = snapshot.read(&StateKey::Grant(grant))?;
        // A grant on the ledger takes the shares of a resharing alone, from its owner.
        if entry.as_ref().is_some_and(|entry| !fits(&deposit, entry)) {
            return Err(DepositError::Taken { grant });
        }
        let is_named = entry.is_some_and(|entry| names(&entry, self.key.node(), share));
        // Durable first: the signature is the promise that it is.
        self.shares.put(deposit, is_named)?;
        Ok(subject.sign(self.key.get(), share, keep_until))
    }

    /// The note of a grant on the ledger, for its reader.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn note(&self, reader: MemberId, grant: GrantId) -> Result<Vec<u8>, Denied> {
        let entry: Option<GrantEntry> = self.ledger.snapshot().read(&StateKey::Grant(grant))?;
        let Some(entry) = entry.filter(|entry| entry.conditions.reader == reader) else {
            return Err(self.deny(grant, Denied::NoGrant));
        };
        let kept = match share_of(&entry, self.key.node()) {
            Some(share) => self.shares.get(grant, share)?,
            None => None,
        };
        kept.map(|kept| kept.note).ok_or_else(|| self.deny(grant, Denied::NotHere))
    }

    /// The share and envelope of a grant, for the device that opened it just now.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn release(
        &self,
        device: DeviceId,
        reader: MemberId,
        opening: OpeningId,
        grant: GrantId,
    ) -> Result<Released, Denied> {
        let snapshot = self.ledger.snapshot();
        let share = self
            .check_opening(&snapshot, (device, reader), opening, grant)
            .and_then(|()| self.check_grant(&snapshot, reader, grant))
            .map_err(|denied| self.deny(grant, denied))?;
        let kept = self.shares.get(grant, share)?.ok_or_else(|| self.deny(grant, Denied::NotHere))?;
        // The ledger's newest word counts, also if it came while the share was read.
        self.check_grant(&self.ledger.snapshot(), reader, grant)
            .map_err(|denied| self.deny(grant, denied))?;
        self.releases.fetch_add(1, Ordering::Relaxed);
        Ok(Released { share: kept.share_bytes(), envelope: kept.envelope })
    }

    fn check_opening(
        &self,
        snapshot: &Snapshot,
        (device, reader): (DeviceId, MemberId),
        id: OpeningId,
        grant: GrantId,
    ) -> Result<(), Denied> {
        let openings = self.lock();
        let Some(opening) = openings.live.get(&id) else {
            drop(openings);
            let known: Option<OpeningEntry> = snapshot.read(&StateKey::Opening(id))?;
            let own = known.is_some_and(|entry| entry.reader == reader && entry.grants.contains(&grant));
            return Err(if own { Denied::OpenAgain } else { Denied::NotOpened });
        };
        if opening.reader != reader || opening.device != device || !opening.grants.contains(&grant) {
            return Err(Denied::NotOpened);
        }
        let end = opening.time.plus_millis(RELEASE_TIME_MAX);
        // Seen just now is not made just now: whoever was cut off may be fed an old block and its votes. The block's
        // header may be ahead of this clock, so this clock may be as much ahead of the header.
        let old = opening.seen.elapsed() > Duration::from_millis(RELEASE_TIME_MAX)
            || snapshot.newest().time > end
            || (self.clock)() > end.plus_millis(HEADER_AHEAD_MAX_MILLIS);
        if old { Err(Denied::OpenAgain) } else { Ok(()) }
    }

    /// The grant is on the ledger, live by the later of its newest header and this node's clock, since headers stand
    /// still on an idle ledger; and this node is one of its custodians. Says which share it keeps.
    fn check_grant(&self, snapshot: &Snapshot, reader: MemberId, grant: GrantId) -> Result<Digest, Denied> {
        let Some(entry) = snapshot.read::<GrantEntry>(&StateKey::Grant(grant))? else {
            return Err(Denied::NoGrant);
        };
        let time = snapshot.time_by_now().max((self.clock)());
        let live = entry.conditions.reader == reader && entry.is_open_at(time);
        share_of(&entry, self.key.node()).filter(|_| live).ok_or(Denied::NoGrant)
    }

    /// Counts and logs what is denied; ids alone.
    fn deny(&self, grant: GrantId, denied: Denied) -> Denied {
        self.denials.fetch_add(1, Ordering::Relaxed);
        tracing::info!(?grant, why = %denied, "key share denied");
        denied
    }

    fn take(&self, decided: &Decided) {
        let mut touched = Vec::new();
        for news in &decided.news {
            match news {
                News::Opened { opening, reader, device, time, grants } if decided.origin == Origin::Live => {
                    let live = LiveOpening {
                        reader: *reader,
                        device: *device,
                        time: *time,
                        seen: decided.seen,
                        grants: grants.clone(),
                    };
                    self.lock().add(*opening, live);
                }
                News::Ended { grant, .. } | News::Reshared { grant, .. } | News::Granted { grant, .. } => {
                    touched.push(*grant);
                }
                _ => {}
            }
        }
        if !touched.is_empty() {
            self.touched.lock().unwrap_or_else(PoisonError::into_inner).add(&touched);
            self.is_touched.notify_one();
        }
    }

    /// Settles the shares of the grants that blocks changed. What fails is left to the next sweep.
    fn settle_touched(&self) -> Result<(), CustodyFault> {
        let touched = std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner));
        if touched.all {
            return self.sweep();
        }
        let snapshot = self.ledger.snapshot();
        for grant in touched.grants {
            let gone = self
                .shares
                .settle(grant, &|grant, share, keep_until| self.fate(&snapshot, grant, share, keep_until))?;
            tell_destroyed(gone);
        }
        Ok(())
    }

    /// Destroys shares of grants that ended or went to other custodians, and orphans whose time is over.
    fn sweep(&self) -> Result<(), CustodyFault> {
        let snapshot = self.ledger.snapshot();
        let fate = |grant, share, keep_until| self.fate(&snapshot, grant, share, keep_until);
        tell_destroyed(self.shares.sweep(&fate)?);
        Ok(())
    }

    fn fate(
        &self,
        snapshot: &Snapshot,
        grant: GrantId,
        share: Digest,
        keep_until: Option<Time>,
    ) -> Result<Fate, CustodyFault> {
        let entry: Option<GrantEntry> = snapshot.read(&StateKey::Grant(grant))?;
        let newest = snapshot.newest().time;
        // A block that names the share is no later than this. By header time alone: a node that was away, or has an
        // old ledger, may know neither that block nor, yet, those after it.
        let is_over = keep_until.is_some_and(|keep_until| newest > keep_until);
        Ok(match entry {
            Some(entry) if is_done(&entry, (self.clock)(), newest) => Fate::Destroy,
            Some(entry) if names(&entry, self.key.node(), share) => Fate::Keep,
            _ if is_over => Fate::Destroy,
            _ => Fate::Orphan,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Openings> {
        self.openings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its grant is live.
    Keep,
    /// No grant names it yet.
    Orphan,
    /// It is needed no more.
    Destroy,
}

impl Touched {
    fn add(&mut self, grants: &[GrantId]) {
        self.all |= self.grants.len() + grants.len() > TOUCHED_MAX;
        if self.all {
            self.grants.clear();
        } else {
            self.grants.extend(grants);
        }
    }
}

impl Openings {
    fn add(&mut self, id: OpeningId, opening: LiveOpening) {
        let limit = Duration::from_millis(RELEASE_TIME_MAX);
        while let Some(oldest) = self.order.front() {
            let stale = self.live.get(oldest).is_none_or(|opening| opening.seen.elapsed() > limit);
            if !stale && self.order.len() < OPENINGS_MAX {
                break;
            }
            self.live.remove(oldest);
            self.order.pop_front();
        }
        self.order.push_back(id);
        self.live.insert(id, opening);
    }
}

/// Whether the grant can never open again.
fn is_done(entry: &GrantEntry, now: Time, newest: Time) -> bool {
    entry.ended.is_some() || entry.is_expired_at(now.min(newest))
}

/// The digest of the share that this node keeps of the grant, by the ledger.
fn share_of(entry: &GrantEntry, node: NodeId) -> Option<Digest> {
    entry.custodians.iter().find(|custodian| custodian.node == node).map(|custodian| custodian.share)
}

fn names(entry: &GrantEntry, node: NodeId, share: Digest) -> bool {
    share_of(entry, node) == Some(share)
}

/// Whether the deposit is of a live grant on the ledger, by its owner, and keeps its digests: for resharing.
fn fits(deposit: &Deposit, entry: &GrantEntry) -> bool {
    entry.owner == deposit.depositor && entry.digests == deposit.digests && entry.ended.is_none()
}

fn tell_destroyed(gone: u64) {
    if gone > 0 {
        tracing::info!(gone, "key shares destroyed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::init::{Founding, found};
    use crate::consensus::driver::system_clock;
    use crate::keys::KeyBytes;
    use crate::run::DataFolder;
    use crate::run::folder::node_key;

    const OPENING: OpeningId = OpeningId::from_bytes([1; 32]);
    const GRANT: GrantId = GrantId::from_bytes([2; 32]);
    const READER: MemberId = MemberId::from_bytes([3; 32]);
    const DEVICE: DeviceId = DeviceId::from_bytes([4; 32]);

    fn custody(data: &Path) -> Arc<Custody> {
        found(&Founding::solo(data, "st-mary", system_clock())).unwrap();
        let genesis = DataFolder::open(data).unwrap().genesis().unwrap();
        let ledger = Arc::new(Ledger::open(&data.join("ledger.redb"), genesis, system_clock).unwrap());
        let key = Arc::new(KeyBytes::read(&node_key(data)).unwrap().key());
        Custody::open(&data.join("custody.redb"), &ledger, key, system_clock).unwrap()
    }

    fn opened(seen: Instant, time: Time) -> LiveOpening {
        LiveOpening { reader: READER, device: DEVICE, time, seen, grants: vec![GRANT] }
    }

    #[test]
    fn an_opening_releases_for_a_quarter_of_an_hour_by_either_clock() {
        let data = tempfile::tempdir().unwrap();
        let custody = custody(data.path());
        let release = || custody.release(DEVICE, READER, OPENING, GRANT).unwrap_err();
        let (now, newest) = (Instant::now(), custody.ledger.snapshot().newest().time);
        custody.lock().add(OPENING, opened(now, newest));
        // The opening is good; the ledger does not know the grant.
        assert!(matches!(release(), Denied::NoGrant));
        let limit = Duration::from_millis(RELEASE_TIME_MAX) + Duration::from_secs(1);
        let long_ago = now.checked_sub(limit).expect("the machine has run for a quarter of an hour");
        custody.lock().live.insert(OPENING, opened(long_ago, newest));
        assert!(matches!(release(), Denied::OpenAgain));
        custody.lock().live.insert(OPENING, opened(now, Time(newest.0 - RELEASE_TIME_MAX - 1)));
        assert!(matches!(release(), Denied::OpenAgain));
        assert_eq!(custody.denials(), 3);
    }

    #[test]
    fn an_opening_releases_only_to_its_device_and_only_what_it_names() {
        let data = tempfile::tempdir().unwrap();
        let custody = custody(data.path());
        let newest = custody.ledger.snapshot().newest().time;
        custody.lock().add(OPENING, opened(Instant::now(), newest));
        let other_device = DeviceId::from_bytes([9; 32]);
        let other_grant = GrantId::from_bytes([9; 32]);
        let other_opening = OpeningId::from_bytes([9; 32]);
        let denied = [
            custody.release(other_device, READER, OPENING, GRANT),
            custody.release(DEVICE, READER, OPENING, other_grant),
            custody.release(DEVICE, READER, other_opening, GRANT),
        ];
        assert!(denied.iter().all(|denied| matches!(denied, Err(Denied::NotOpened))));
    }
}
