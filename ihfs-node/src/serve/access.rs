//! Who is who, and who may see what of the ledger and of records.
//!
//! The ledger alone decides; what is cached here goes when news say that it changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ihfs_core::ids::{DeviceId, Epoch, GrantId, MemberId, NodeId, RecordId, Time};
use ihfs_core::ledger::lists::ListKey;
use ihfs_core::ledger::news::News;
use ihfs_core::ledger::state::{
    DeviceEntry, GrantEntry, LineageEntry, MemberEntry, NodeEntry, OpeningEntry, RecordEntry, StateError,
    StateKey,
};
use ihfs_net::{Admission, PeerKey};

use crate::ledger::{Decided, Ledger, Snapshot};

/// Most peers remembered: all workstations of a large hospital. Beyond it all are looked up anew.
const REMEMBERED_MAX: usize = 16_384;

/// Who a peer is by the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A device of a member.
    Device(DeviceId, MemberId),
    /// Somebody with a member's own key: may do what the member may, but no key share is released to it.
    MemberKey(MemberId),
    /// A node of the network: one that takes records, or decides blocks.
    Node(NodeId),
    /// Anyone else.
    Guest,
}

impl Who {
    /// The member behind it.
    pub const fn member(self) -> Option<MemberId> {
        match self {
            Self::Device(_, member) | Self::MemberKey(member) => Some(member),
            Self::Node(_) | Self::Guest => None,
        }
    }
}

/// Knows who peers are.
pub struct Roster {
    ledger: Arc<Ledger>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    peers: HashMap<PeerKey, Who>,
    /// Counts what was forgotten, so that a look-up from before is not kept.
    changes: u64,
}

impl Roster {
    /// A roster of this ledger, which it follows.
    pub fn follow(ledger: &Arc<Ledger>) -> Arc<Self> {
        let roster = Arc::new(Self { ledger: Arc::clone(ledger), known: Mutex::default() });
        // Weak: the ledger keeps its listeners, and must not keep itself.
        let follower = Arc::downgrade(&roster);
        ledger.on_decided(move |decided| {
            if let Some(roster) = follower.upgrade() {
                roster.take(decided);
            }
        });
        roster
    }

    /// Who this peer is. A ledger that cannot be read makes everyone a guest.
    pub fn who(&self, peer: PeerKey) -> Who {
        let changes = {
            let known = self.lock();
            if let Some(who) = known.peers.get(&peer) {
                return *who;
            }
            known.changes
        };
        let Ok(who) = look_up(&self.ledger.snapshot(), peer) else { return Who::Guest };
        let mut known = self.lock();
        // Guests are not remembered: there is no end of them.
        if known.changes == changes && who != Who::Guest {
            if known.peers.len() >= REMEMBERED_MAX {
                known.peers.clear();
            }
            known.peers.insert(peer, who);
        }
        who
    }

    /// What the network admits the peer to.
    pub fn admission(&self, peer: PeerKey) -> Admission {
        if self.who(peer) == Who::Guest { Admission::Guest } else { Admission::Member }
    }

    fn take(&self, decided: &Decided) {
        let changes = |news: &News| {
            matches!(
                news,
                News::Registered { .. }
                    | News::DeviceAdded { .. }
                    | News::DeviceRemoved { .. }
                    | News::Placement { .. }
                    | News::Consortium
            )
        };
        if decided.news.iter().any(changes) {
            let mut known = self.lock();
            known.peers.clear();
            known.changes += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look_up(snapshot: &Snapshot, peer: PeerKey) -> Result<Who, StateError> {
    let key = *peer.as_bytes();
    let device = DeviceId::from_bytes(key);
    if let Some(DeviceEntry { member, removed: None, .. }) = snapshot.read(&StateKey::Device(device))? {
        return Ok(Who::Device(device, member));
    }
    let node = NodeId::from_bytes(key);
    if let Some(entry) = snapshot.read::<NodeEntry>(&StateKey::Node(node))?
        && (entry.drained.is_none() || is_validator(snapshot, node)?)
    {
        return Ok(Who::Node(node));
    }
    let member = MemberId::of_key(&key);
    let entry: Option<MemberEntry> = snapshot.read(&StateKey::Member(member))?;
    Ok(if entry.is_some() { Who::MemberKey(member) } else { Who::Guest })
}

/// A node that was drained takes part as long as it decides blocks, and sees nothing more afterwards.
fn is_validator(snapshot: &Snapshot, node: NodeId) -> Result<bool, StateError> {
    let validators = snapshot.consortium()?.next;
    Ok(validators.as_slice().iter().any(|validator| validator.node == node))
}

/// Whether something is shown to who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It is.
    Yes,
    /// It is about others.
    No,
    /// It is shown to readers of this record, and no grant of his on it is left.
    NoGrant(RecordId),
}

impl From<bool> for Shown {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

/// Whether `who` may have the proof of what stands under this key at `time`, by which grants expire.
///
/// # Errors
/// [`StateError`].
pub fn may_prove(snapshot: &Snapshot, who: Who, time: Time, key: &[u8]) -> Result<Shown, StateError> {
    if let Who::Node(_) = who {
        return Ok(Shown::Yes);
    }
    let Some(member) = who.member() else { return Ok(Shown::No) };
    let (Some((tag, _)), first, second) = (key.split_first(), part(key, 1), part(key, 33)) else {
        return Ok(Shown::No);
    };
    let shown = match (tag, first, second) {
        // Clock, consortium, placement, members and their keys, hospitals, devices, nodes, proposals,
        // invites and transactions are everyone's.
        (0..=4 | 6 | 7 | 9 | 18..=20, _, _) => true,
        // A member's records by number, and his lists.
        (5 | 24, Some(of), _) => MemberId::from_bytes(of) == member,
        (8, Some(device), _) => {
            let entry: Option<DeviceEntry> =
                snapshot.read(&StateKey::Device(DeviceId::from_bytes(device)))?;
            entry.is_some_and(|entry| entry.member == member)
        }
        (10 | 11 | 17, Some(record), _) => {
            return may_see_record(snapshot, member, time, RecordId::from_bytes(record));
        }
        (12, Some(record), Some(reader)) => {
            let owner = snapshot.owner_of(RecordId::from_bytes(record))?;
            owner == Some(member) || MemberId::from_bytes(reader) == member
        }
        (13..=15, Some(grant), _) => may_see_grant(snapshot, member, GrantId::from_bytes(grant))?,
        (16, Some(opening), _) => may_see_opening(snapshot, member, &opening)?,
        (25, Some(record), _) => is_own(snapshot, member, RecordId::from_bytes(record))?,
        _ => false,
    };
    Ok(shown.into())
}

fn part(key: &[u8], from: usize) -> Option<[u8; 32]> {
    key.get(from..from + 32)?.try_into().ok()
}

/// The owner alone. What does not exist is nobody's secret.
fn is_own(snapshot: &Snapshot, member: MemberId, record: RecordId) -> Result<bool, StateError> {
    Ok(snapshot.owner_of(record)?.is_none_or(|owner| owner == member))
}

/// The owner, and readers with a grant that neither ended nor expired; also before its time, and of one version
/// alone, since it names the record to them.
fn may_see_record(
    snapshot: &Snapshot,
    member: MemberId,
    time: Time,
    record: RecordId,
) -> Result<Shown, StateError> {
    if is_own(snapshot, member, record)? {
        return Ok(Shown::Yes);
    }
    let grants = grants_to(snapshot, record, member)?;
    let is_left = grants.iter().any(|grant| grant.ended.is_none() && !grant.is_expired_at(time));
    Ok(if is_left { Shown::Yes } else { Shown::NoGrant(record) })
}

/// The reader's grants on the record that nothing ended, as they are issued now.
fn grants_to(snapshot: &Snapshot, record: RecordId, reader: MemberId) -> Result<Vec<GrantEntry>, StateError> {
    let firsts: Option<Vec<GrantId>> = snapshot.read(&StateKey::ReaderGrants(record, reader))?;
    let current = |first| {
        let lineage: LineageEntry = snapshot.must(&StateKey::Lineage(first))?;
        snapshot.must(&StateKey::Grant(lineage.current))
    };
    firsts.unwrap_or_default().into_iter().map(current).collect()
}

fn may_see_grant(snapshot: &Snapshot, member: MemberId, grant: GrantId) -> Result<bool, StateError> {
    let entry: Option<GrantEntry> = snapshot.read(&StateKey::Grant(grant))?;
    Ok(entry.is_none_or(|entry| entry.owner == member || entry.conditions.reader == member))
}

fn may_see_opening(snapshot: &Snapshot, member: MemberId, opening: &[u8; 32]) -> Result<bool, StateError> {
    let key = StateKey::Opening(ihfs_core::ids::OpeningId::from_bytes(*opening));
    let Some(entry) = snapshot.read::<OpeningEntry>(&key)? else { return Ok(true) };
    if entry.reader == member {
        return Ok(true);
    }
    for grant in entry.grants {
        let entry: Option<GrantEntry> = snapshot.read(&StateKey::Grant(grant))?;
        if entry.is_some_and(|entry| entry.owner == member) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `who` may have the items of this list at `time`: whoever may have the proof of the entry that counts them.
///
/// # Errors
/// [`StateError`].
pub fn may_list(snapshot: &Snapshot, who: Who, time: Time, list: ListKey) -> Result<Shown, StateError> {
    let entry = match list {
        ListKey::Records(of) | ListKey::Received(of) | ListKey::Opened(of) => StateKey::MemberLists(of),
        ListKey::Grants(record) | ListKey::Openings(record) => StateKey::RecordLists(record),
        ListKey::Versions(record) => StateKey::Record(record),
    };
    may_prove(snapshot, who, time, &entry.to_bytes())
}

/// Why a member is not served chunks of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotServed {
    /// No grant of his on it is live.
    NoGrant,
    /// He did not open it, or too long ago.
    NotOpened,
}

/// What a member is to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The record is his.
    Owner,
    /// The record is not on the ledger yet.
    Unknown,
    /// He opened a live grant on it; whether that lets him write in the live epoch.
    Reader {
        /// Whether he may write.
        writes: bool,
    },
    /// Neither.
    Stranger(NotServed),
}

/// What a member is to a record at `time`, which is no earlier than the newest header's.
///
/// # Errors
/// [`StateError`].
pub fn standing(
    snapshot: &Snapshot,
    member: MemberId,
    record: RecordId,
    time: Time,
) -> Result<Standing, StateError> {
    let Some(entry) = snapshot.read::<RecordEntry>(&StateKey::Record(record))? else {
        return Ok(Standing::Unknown);
    };
    if entry.owner == member {
        return Ok(Standing::Owner);
    }
    let opening = snapshot.consortium()?.policy.opening;
    let mut best = Standing::Stranger(NotServed::NoGrant);
    for grant in grants_to(snapshot, record, member)? {
        best = better(best, of_grant(&grant, entry.epoch, time, opening));
    }
    Ok(best)
}

fn of_grant(grant: &GrantEntry, epoch: Epoch, time: Time, opening: u64) -> Standing {
    if !grant.is_open_at(time) {
        return Standing::Stranger(NotServed::NoGrant);
    }
    if grant.opened.is_none_or(|opened| opened.time.plus_millis(opening) <= time) {
        return Standing::Stranger(NotServed::NotOpened);
    }
    Standing::Reader { writes: grant.conditions.write && grant.epoch == epoch }
}

fn better(one: Standing, other: Standing) -> Standing {
    let rank = |standing| match standing {
        Standing::Owner => 5,
        Standing::Unknown => 4,
        Standing::Reader { writes: true } => 3,
        Standing::Reader { writes: false } => 2,
        Standing::Stranger(NotServed::NotOpened) => 1,
        Standing::Stranger(NotServed::NoGrant) => 0,
    };
    if rank(other) > rank(one) { other } else { one }
}
