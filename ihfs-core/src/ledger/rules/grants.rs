//! Grants: given, issued again after a rotation, and moved to other custodians by the owner.

use crate::ids::{Epoch, GrantId, MemberId, Version};
use crate::ledger::lists::ListKey;
use crate::ledger::news::News;
use crate::ledger::operation::{Conditions, Custodian, CustodySubject, Grant, Reshare};
use crate::ledger::rules::refused::Stop;
use crate::ledger::rules::work::{Asking, Work};
use crate::ledger::rules::{Refused, lineage};
use crate::ledger::state::{
    ConsortiumEntry, EndReason, EpochEntry, GrantEntry, GrantItem, GrantedItem, ReceivedItem, RecordEntry,
    StateKey,
};
use crate::placement::{Placement, custodians_wanted, threshold};

pub(super) fn grant(work: &mut Work<'_>, asking: &Asking, grant: &Grant) -> Result<(), Stop> {
    let id = grant.id();
    let record = work.own_record(asking, grant.conditions.record)?;
    if work.has(&StateKey::Grant(id))? {
        return Err(Refused::GrantExists { grant: id }.into());
    }
    check_conditions(work, asking, id, &grant.conditions)?;
    check_reader(work, grant)?;
    check_epoch(work, &record, grant)?;
    let subject = CustodySubject { chain: work.place.chain, grant: id, digests: grant.digests };
    check_custodians(work, asking, &subject, grant.threshold, &grant.custodians)?;
    let first = match grant.replaces {
        Some(old) => replace(work, asking, id, old, &grant.conditions)?,
        None => lineage::start(work, asking, id, &grant.conditions)?,
    };
    write_grant(work, asking, id, first, grant);
    announce(work, asking, id, grant)
}

fn check_conditions(
    work: &Work<'_>,
    asking: &Asking,
    id: GrantId,
    conditions: &Conditions,
) -> Result<(), Refused> {
    let lasts = |expires| expires > conditions.not_before && expires > work.place.time;
    let sound = conditions.reader != asking.member
        && !(conditions.write && conditions.snapshot.is_some())
        && conditions.expires.is_none_or(lasts);
    if sound { Ok(()) } else { Err(Refused::BadConditions { grant: id }) }
}

/// The envelope must be sealed to the key that the reader has now.
fn check_reader(work: &Work<'_>, grant: &Grant) -> Result<(), Stop> {
    let (reader, generation) = (grant.conditions.reader, grant.generation);
    let entry = work.member(reader)?;
    if entry.generation != generation || !work.has(&StateKey::MemberKey(reader, generation))? {
        return Err(Refused::WrongReaderGeneration { reader, generation }.into());
    }
    Ok(())
}

/// A live grant holds the live epoch's key and the head must be sealed under it, else there would be
/// nothing to read; a snapshot names an epoch that its version lies in.
fn check_epoch(work: &Work<'_>, entry: &RecordEntry, grant: &Grant) -> Result<(), Stop> {
    let (record, live) = (grant.conditions.record, entry.epoch);
    let Some(version) = grant.conditions.snapshot else {
        if grant.epoch != live {
            return Err(Refused::WrongEpoch { record, live, named: grant.epoch }.into());
        }
        return match entry.head {
            Some(head) if head.epoch == live => Ok(()),
            _ => Err(Refused::NoHeadInEpoch { record, live }.into()),
        };
    };
    let head = entry.head.map_or(Version(0), |head| head.version);
    let base = |epoch| work.read::<EpochEntry>(&StateKey::Epoch(record, epoch));
    let begins = base(grant.epoch)?.map(|epoch| epoch.base);
    let ends = base(Epoch(grant.epoch.0.saturating_add(1)))?.map_or(head, |next| next.base);
    match begins {
        Some(begins) if begins < version && version <= ends => Ok(()),
        _ => Err(Refused::NoSuchVersion { record, version, epoch: grant.epoch }.into()),
    }
}

/// t to n nodes of different zones that decide blocks and signed for their shares.
fn check_custodians(
    work: &Work<'_>,
    asking: &Asking,
    subject: &CustodySubject,
    shares_needed: u8,
    custodians: &[Custodian],
) -> Result<(), Stop> {
    let placement: Placement = work.must(&StateKey::Placement)?;
    let deciding = placement.deciding(&work.must::<ConsortiumEntry>(&StateKey::Consortium)?.next);
    let wanted = custodians_wanted(deciding.zones());
    let threshold = threshold(wanted);
    let wrong = Refused::WrongCustodians { grant: subject.grant, threshold, wanted };
    if usize::from(shares_needed) != threshold || !(threshold..=wanted).contains(&custodians.len()) {
        return Err(wrong.into());
    }
    let mut zones: Vec<MemberId> = Vec::new();
    for custodian in custodians {
        let node = custodian.node;
        let zone = placement.node(node).ok_or(Refused::UnknownNode { node })?.zone;
        if deciding.node(node).is_none() || zones.contains(&zone) {
            return Err(wrong.into());
        }
        zones.push(zone);
        // A share that could be dropped as an orphan before this block would open nothing.
        if custodian.keep_until < asking.valid_until || subject.verify(custodian).is_err() {
            return Err(Refused::BadCustodian { grant: subject.grant, node }.into());
        }
    }
    Ok(())
}

/// Ends the id that is issued again; the lineage goes on.
fn replace(
    work: &mut Work<'_>,
    asking: &Asking,
    id: GrantId,
    old: GrantId,
    conditions: &Conditions,
) -> Result<GrantId, Stop> {
    let entry = own_grant(work, asking, old)?;
    if entry.conditions != *conditions {
        return Err(Refused::OtherConditions { grant: old }.into());
    }
    let first = entry.first;
    lineage::end_id(work, old, entry, EndReason::Replaced(id))?;
    lineage::continue_as(work, first, id)?;
    Ok(first)
}

fn write_grant(work: &mut Work<'_>, asking: &Asking, id: GrantId, first: GrantId, grant: &Grant) {
    let entry = GrantEntry {
        owner: asking.member,
        conditions: grant.conditions.clone(),
        first,
        epoch: grant.epoch,
        generation: grant.generation,
        digests: grant.digests,
        threshold: grant.threshold,
        custodians: grant.custodians.clone(),
        height: work.place.height,
        time: work.place.time,
        opened: None,
        ended: None,
    };
    work.write(&StateKey::Grant(id), &entry);
}

fn announce(work: &mut Work<'_>, asking: &Asking, id: GrantId, grant: &Grant) -> Result<(), Stop> {
    let Conditions { record, reader, purpose, .. } = grant.conditions;
    let (owner, height, time) = (asking.member, work.place.height, work.place.time);
    let mut given = work.record_lists(record)?;
    let granted = GrantedItem { grant: id, reader, purpose, height, time };
    work.push(ListKey::Grants(record), &mut given.grants, &GrantItem::Granted(granted));
    work.write(&StateKey::RecordLists(record), &given);
    let mut readers = work.member_lists(reader)?;
    let received = ReceivedItem { grant: id, record, owner, height, time };
    work.push(ListKey::Received(reader), &mut readers.received, &received);
    work.write(&StateKey::MemberLists(reader), &readers);
    let custodians = grant.custodians.iter().map(|custodian| custodian.node).collect();
    work.tell(News::Granted { grant: id, record, owner, reader, custodians });
    Ok(())
}

/// A grant by the asking member that neither ended nor expired.
fn own_grant(work: &Work<'_>, asking: &Asking, id: GrantId) -> Result<GrantEntry, Stop> {
    let entry: GrantEntry = work.read(&StateKey::Grant(id))?.ok_or(Refused::UnknownGrant { grant: id })?;
    if entry.owner != asking.member {
        return Err(Refused::WrongGrant { grant: id }.into());
    }
    if entry.ended.is_some() {
        return Err(Refused::GrantEnded { grant: id }.into());
    }
    if entry.is_expired_at(work.place.time) {
        return Err(Refused::GrantExpired { grant: id }.into());
    }
    Ok(entry)
}

pub(super) fn reshare(work: &mut Work<'_>, asking: &Asking, reshare: &Reshare) -> Result<(), Stop> {
    let id = reshare.grant;
    let mut entry = own_grant(work, asking, id)?;
    let subject = CustodySubject { chain: work.place.chain, grant: id, digests: entry.digests };
    check_custodians(work, asking, &subject, reshare.threshold, &reshare.custodians)?;
    entry.threshold = reshare.threshold;
    entry.custodians.clone_from(&reshare.custodians);
    let custodians = entry.custodians.iter().map(|custodian| custodian.node).collect();
    work.write(&StateKey::Grant(id), &entry);
    work.tell(News::Reshared { grant: id, custodians });
    Ok(())
}
