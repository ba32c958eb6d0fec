//! Openings: the reader's word, on the ledger before any key leaves a custodian.

use crate::ids::{Epoch, GrantId, OpeningId, TransactionId, Version};
use crate::ledger::lists::ListKey;
use crate::ledger::news::News;
use crate::ledger::operation::{OPENED_GRANTS_MAX, Open};
use crate::ledger::rules::refused::Stop;
use crate::ledger::rules::work::{Asking, Work};
use crate::ledger::rules::{Refused, expiry};
use crate::ledger::state::{
    ConsortiumEntry, GrantEntry, LastOpening, OpeningEntry, OpeningItem, RecordLists, StateKey,
};

/// How long, in header time, a grant is not opened again: an opening is an entry of lists that its owner reads, and
/// a reader who must open again, because custodians restarted, does not mind the wait.
pub const OPENING_PAUSE: u64 = 10 * 1000;

impl OpeningId {
    /// `BLAKE3-derive-key("IHFS 1 opening id", transaction id ‖ number of the operation (u32, little endian))`.
    pub fn of(transaction: TransactionId, operation: u32) -> Self {
        let mut bytes = transaction.as_bytes().to_vec();
        bytes.extend_from_slice(&operation.to_le_bytes());
        Self::from_bytes(blake3::derive_key("IHFS 1 opening id", &bytes))
    }
}

pub(super) fn open(work: &mut Work<'_>, asking: &Asking, number: usize, open: &Open) -> Result<(), Stop> {
    let ascending = open.grants.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending || !(1..=OPENED_GRANTS_MAX).contains(&open.grants.len()) {
        return Err(Refused::BadOpening.into());
    }
    if asking.by_member_key {
        // Custodians release to a device, which the member key is not.
        return Err(Refused::NeedsDevice { operation: "open" }.into());
    }
    let number = u32::try_from(number).expect("bounded by OPERATIONS_MAX");
    let opening = OpeningId::of(asking.id, number);
    for grant in &open.grants {
        open_grant(work, asking, opening, *grant)?;
    }
    let consortium: ConsortiumEntry = work.must(&StateKey::Consortium)?;
    let (height, time) = (work.place.height, work.place.time);
    let (reader, device, grants) = (asking.member, asking.signer, open.grants.clone());
    let expires = time.plus_millis(consortium.policy.opening);
    let key = StateKey::Opening(opening);
    work.write(&key, &OpeningEntry { reader, device, height, time, expires, grants: grants.clone() });
    expiry::forget_after(work, &key, expires)?;
    work.tell(News::Opened { opening, reader, device, time, grants });
    Ok(())
}

fn open_grant(work: &mut Work<'_>, asking: &Asking, opening: OpeningId, id: GrantId) -> Result<(), Stop> {
    let mut grant: GrantEntry =
        work.read(&StateKey::Grant(id))?.ok_or(Refused::UnknownGrant { grant: id })?;
    if grant.conditions.reader != asking.member {
        return Err(Refused::WrongGrant { grant: id }.into());
    }
    check_open(work, id, &grant)?;
    check_pause(work, id, &grant)?;
    let record = grant.conditions.record;
    let entry = work.record(record)?;
    let item = OpeningItem {
        opening,
        grant: id,
        record,
        reader: asking.member,
        device: asking.signer,
        epoch: grant.epoch,
        version: entry.head.map_or(Version(0), |head| head.version),
        height: work.place.height,
        time: work.place.time,
    };
    let mut lists = work.record_lists(record)?;
    note_expiry(&mut lists, entry.epoch, &grant);
    work.push(ListKey::Openings(record), &mut lists.openings, &item);
    work.write(&StateKey::RecordLists(record), &lists);
    let mut own = work.member_lists(asking.member)?;
    work.push(ListKey::Opened(asking.member), &mut own.opened, &item);
    work.write(&StateKey::MemberLists(asking.member), &own);
    grant.opened = Some(LastOpening { opening, time: work.place.time });
    work.write(&StateKey::Grant(id), &grant);
    Ok(())
}

/// Refuses a grant that does not open at this block's time.
pub(super) fn check_open(work: &Work<'_>, id: GrantId, grant: &GrantEntry) -> Result<(), Refused> {
    let time = work.place.time;
    if grant.ended.is_some() {
        return Err(Refused::GrantEnded { grant: id });
    }
    if time < grant.conditions.not_before {
        return Err(Refused::NotYet { grant: id, not_before: grant.conditions.not_before });
    }
    if grant.is_expired_at(time) {
        return Err(Refused::GrantExpired { grant: id });
    }
    Ok(())
}

/// One opening serves for hours: more of them only flood the lists of the owner.
fn check_pause(work: &Work<'_>, id: GrantId, grant: &GrantEntry) -> Result<(), Refused> {
    let Some(last) = grant.opened else { return Ok(()) };
    let again = last.time.plus_millis(OPENING_PAUSE);
    if work.place.time < again { Err(Refused::OpenedLately { grant: id, again }) } else { Ok(()) }
}

/// Whoever opens the live epoch's key keeps it past the grant's expiry: the owner must rotate then.
fn note_expiry(lists: &mut RecordLists, live: Epoch, grant: &GrantEntry) {
    let holds_live_key = grant.conditions.snapshot.is_none() && grant.epoch == live;
    if let (true, Some(expires)) = (holds_live_key, grant.conditions.expires) {
        lists.opened_until = Some(lists.opened_until.map_or(expires, |first| first.min(expires)));
    }
}
