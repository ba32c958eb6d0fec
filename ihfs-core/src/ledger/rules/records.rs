//! Records and their versions.

use crate::ids::{Epoch, GrantId, MemberId, NodeId, RecordId, Time, Version};
use crate::ledger::lists::{List, ListKey};
use crate::ledger::news::News;
use crate::ledger::operation::{Anchor, CreateRecord};
use crate::ledger::rules::refused::Stop;
use crate::ledger::rules::work::{Asking, Work};
use crate::ledger::rules::{Refused, epochs};
use crate::ledger::state::{
    ConsortiumEntry, GrantEntry, Head, Policy, RECORDS_MAX, RecordEntry, RecordItem, RecordLists, StateKey,
    VersionItem,
};
use crate::placement::{Placement, PlacementRule};
use crate::receipt::{Receipt, ReceiptSubject};

pub(super) fn create(work: &mut Work<'_>, asking: &Asking, create: &CreateRecord) -> Result<(), Stop> {
    let record = RecordId::of(asking.member, &create.nonce);
    if work.has(&StateKey::Record(record))? {
        return Err(Refused::RecordExists { record }.into());
    }
    let owner = work.member(asking.member)?;
    let mut lists = work.member_lists(asking.member)?;
    let number = u32::try_from(lists.records.count).unwrap_or(u32::MAX);
    if number >= RECORDS_MAX {
        return Err(Refused::TooManyRecords { member: asking.member }.into());
    }
    let consortium: ConsortiumEntry = work.must(&StateKey::Consortium)?;
    let (height, time) = (work.place.height, work.place.time);
    work.push(ListKey::Records(asking.member), &mut lists.records, &RecordItem { record, height, time });
    work.write(&StateKey::MemberLists(asking.member), &lists);
    work.write(&StateKey::MemberRecord(asking.member, number), &record);
    let home = consortium.policy.home.then_some(owner.hospital);
    work.write(&StateKey::Record(record), &new_record(asking.member, home));
    work.write(&StateKey::RecordLists(record), &RecordLists::default());
    epochs::begin(work, asking, record, Epoch(0), owner.generation, Version(0));
    work.tell(News::Created { record, owner: asking.member });
    Ok(())
}

fn new_record(owner: MemberId, home: Option<MemberId>) -> RecordEntry {
    RecordEntry { owner, home, epoch: Epoch(0), head: None, bytes: 0, versions: List::default() }
}

pub(super) fn anchor(work: &mut Work<'_>, asking: &Asking, anchor: &Anchor) -> Result<(), Stop> {
    let record = anchor.record;
    let mut entry = work.record(record)?;
    check_author(work, asking, &entry, anchor)?;
    if anchor.epoch != entry.epoch {
        return Err(Refused::WrongEpoch { record, live: entry.epoch, named: anchor.epoch }.into());
    }
    let head = entry.head.map_or(Version(0), |head| head.version);
    if anchor.base != head {
        return Err(Refused::Conflict { record, head, base: anchor.base }.into());
    }
    check_receipts(work, &entry, anchor)?;
    // Saturates: no writer can make the sum one that nothing can be added to any more.
    let grown = entry.bytes.saturating_add(anchor.bytes_added);
    entry.bytes = grown.checked_sub(anchor.bytes_dropped).ok_or(Refused::BadSizes { record })?;
    let item = version_item(work, asking, anchor);
    entry.head = Some(Head {
        version: item.version,
        epoch: item.epoch,
        root: item.root,
        height: item.height,
        time: item.time,
    });
    work.push(ListKey::Versions(record), &mut entry.versions, &item);
    work.write(&StateKey::Record(record), &entry);
    work.tell(News::Head { record, item });
    Ok(())
}

fn version_item(work: &Work<'_>, asking: &Asking, anchor: &Anchor) -> VersionItem {
    VersionItem {
        version: anchor.base.next(),
        epoch: anchor.epoch,
        root: anchor.root,
        delta: anchor.delta,
        bytes_added: anchor.bytes_added,
        bytes_dropped: anchor.bytes_dropped,
        author: asking.member,
        device: asking.signer,
        height: work.place.height,
        time: work.place.time,
    }
}

/// The owner, unless a reader could go on reading; or a writer whose grant is live, opened and of this epoch.
fn check_author(work: &Work<'_>, asking: &Asking, entry: &RecordEntry, anchor: &Anchor) -> Result<(), Stop> {
    let record = anchor.record;
    if entry.owner == asking.member {
        if let Some(grant) = anchor.grant {
            return Err(Refused::WrongGrant { grant }.into());
        }
        return match work.record_lists(record)?.opened_until {
            Some(expired) if expired <= work.place.time => {
                Err(Refused::RotateFirst { record, expired }.into())
            }
            _ => Ok(()),
        };
    }
    let Some(id) = anchor.grant else {
        return Err(Refused::NotTheOwner { record, member: asking.member }.into());
    };
    let grant: GrantEntry = work.read(&StateKey::Grant(id))?.ok_or(Refused::UnknownGrant { grant: id })?;
    let conditions = &grant.conditions;
    if conditions.record != record || conditions.reader != asking.member || !conditions.write {
        return Err(Refused::WrongGrant { grant: id }.into());
    }
    super::openings::check_open(work, id, &grant)?;
    check_writer(work, id, &grant, entry, anchor)
}

fn check_writer(
    work: &Work<'_>,
    id: GrantId,
    grant: &GrantEntry,
    entry: &RecordEntry,
    anchor: &Anchor,
) -> Result<(), Stop> {
    let consortium: ConsortiumEntry = work.must(&StateKey::Consortium)?;
    let lasts = |opened: Time| opened.plus_millis(consortium.policy.opening) > work.place.time;
    if !grant.opened.is_some_and(|opened| lasts(opened.time)) {
        return Err(Refused::NotOpened { grant: id }.into());
    }
    if grant.epoch != entry.epoch {
        return Err(Refused::GrantOfOlderEpoch { grant: id, epoch: grant.epoch, live: entry.epoch }.into());
    }
    if anchor.bytes_dropped > 0 {
        return Err(Refused::OnlyOwnerDrops { record: anchor.record }.into());
    }
    Ok(())
}

/// The nodes that keep a record now.
pub(super) fn places(
    policy: &Policy,
    placement: &Placement,
    record: RecordId,
    entry: &RecordEntry,
) -> Vec<NodeId> {
    let rule = PlacementRule { home: entry.home, regions: &policy.regions };
    placement.replicas(record, usize::from(policy.replicas), &rule)
}

/// W receipts, or as many as the record has places; each of another zone.
fn check_receipts(work: &Work<'_>, entry: &RecordEntry, anchor: &Anchor) -> Result<(), Stop> {
    let policy = work.must::<ConsortiumEntry>(&StateKey::Consortium)?.policy;
    let placement: Placement = work.must(&StateKey::Placement)?;
    let places = places(&policy, &placement, anchor.record, entry);
    let needed = usize::from(policy.receipts).min(places.len()).max(1);
    let found = anchor.receipts.len();
    let wrong_count = Refused::WrongReceipts { record: anchor.record, needed, found };
    if found < needed || found > usize::from(policy.replicas) {
        return Err(wrong_count.into());
    }
    let mut zones: Vec<MemberId> = Vec::new();
    for receipt in &anchor.receipts {
        let node = receipt.node;
        let placed = placement.node(node).ok_or(Refused::UnknownNode { node })?;
        if zones.contains(&placed.zone) {
            return Err(wrong_count.into());
        }
        zones.push(placed.zone);
        // A receipt from before the nodes changed still counts: repair moves the record to its new places.
        if receipt.placement == placement.version && !places.contains(&node) {
            return Err(Refused::NotPlaced { record: anchor.record, node }.into());
        }
        check_receipt(work, anchor, receipt, placement.version)?;
    }
    Ok(())
}

fn check_receipt(work: &Work<'_>, anchor: &Anchor, receipt: &Receipt, newest: u64) -> Result<(), Refused> {
    let node = receipt.node;
    if receipt.expires <= work.place.time {
        return Err(Refused::ReceiptExpired { node });
    }
    let Anchor { record, delta, root, bytes_added, bytes_dropped, .. } = *anchor;
    let chain = work.place.chain;
    let subject = ReceiptSubject { chain, record, delta, root, bytes_added, bytes_dropped };
    if receipt.placement > newest || receipt.verify(&subject).is_err() {
        return Err(Refused::BadReceipt { node });
    }
    Ok(())
}
