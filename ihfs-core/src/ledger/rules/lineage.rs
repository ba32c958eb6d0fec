//! Lineages: a grant through all the ids it is issued under, and the grants nested in it.
//!
//! What a revocation must find is bounded where it is added, so that no revocation is ever refused for
//! its size.

use crate::ids::GrantId;
use crate::ledger::lists::ListKey;
use crate::ledger::news::News;
use crate::ledger::operation::Conditions;
use crate::ledger::rules::Refused;
use crate::ledger::rules::refused::Stop;
use crate::ledger::rules::work::{Asking, Work};
use crate::ledger::state::{
    DESCENDANTS_MAX, EndReason, Ended, GRANTS_PER_READER_MAX, GrantEntry, GrantItem, LineageEntry,
    NESTING_MAX, StateError, StateKey,
};

/// Begins a lineage with its first id.
pub(super) fn start(
    work: &mut Work<'_>,
    asking: &Asking,
    id: GrantId,
    conditions: &Conditions,
) -> Result<GrantId, Stop> {
    let parent = match conditions.parent {
        Some(parent) => Some(nest(work, asking, id, parent, conditions)?),
        None => None,
    };
    let lineage = LineageEntry { current: id, parent, children: 0, descendants: 0 };
    work.write(&StateKey::Lineage(id), &lineage);
    add_to_reader(work, id, conditions)?;
    Ok(id)
}

/// Lets the lineage go on under another id.
pub(super) fn continue_as(work: &mut Work<'_>, first: GrantId, id: GrantId) -> Result<(), StateError> {
    let mut lineage: LineageEntry = work.must(&StateKey::Lineage(first))?;
    lineage.current = id;
    work.write(&StateKey::Lineage(first), &lineage);
    Ok(())
}

/// Hangs a new grant under its parent; gives the parent's first id.
fn nest(
    work: &mut Work<'_>,
    asking: &Asking,
    id: GrantId,
    parent: GrantId,
    conditions: &Conditions,
) -> Result<GrantId, Stop> {
    let entry: GrantEntry =
        work.read(&StateKey::Grant(parent))?.ok_or(Refused::UnknownGrant { grant: parent })?;
    let outer = &entry.conditions;
    // A child that outlived its parent would escape a revocation of the parent's reader.
    let within = outer.expires.is_none_or(|end| conditions.expires.is_some_and(|expires| expires <= end));
    let fits = entry.owner == asking.member
        && outer.reader == conditions.reader
        && outer.record != conditions.record
        && within;
    if !fits {
        return Err(Refused::BadParent { grant: id, parent }.into());
    }
    if entry.ended.is_some() {
        return Err(Refused::GrantEnded { grant: parent }.into());
    }
    count_descendant(work, entry.first, parent)?;
    let mut lineage: LineageEntry = work.must(&StateKey::Lineage(entry.first))?;
    work.write(&StateKey::NestedGrant(entry.first, lineage.children), &id);
    lineage.children += 1;
    work.write(&StateKey::Lineage(entry.first), &lineage);
    Ok(entry.first)
}

fn count_descendant(work: &mut Work<'_>, first: GrantId, named: GrantId) -> Result<(), Stop> {
    let mut next = Some(first);
    for _ in 0..NESTING_MAX {
        let Some(ancestor) = next else { return Ok(()) };
        let mut lineage: LineageEntry = work.must(&StateKey::Lineage(ancestor))?;
        if lineage.descendants >= DESCENDANTS_MAX {
            return Err(Refused::TooManyNested { grant: named }.into());
        }
        lineage.descendants += 1;
        next = lineage.parent;
        work.write(&StateKey::Lineage(ancestor), &lineage);
    }
    match next {
        Some(_) => Err(Refused::TooManyNested { grant: named }.into()),
        None => Ok(()),
    }
}

/// Adds to the reader's grants on the record; those that expired can never open again and make room.
fn add_to_reader(work: &mut Work<'_>, id: GrantId, conditions: &Conditions) -> Result<(), Stop> {
    let Conditions { record, reader, .. } = *conditions;
    let key = StateKey::ReaderGrants(record, reader);
    let mut kept = vec![id];
    for first in work.read::<Vec<GrantId>>(&key)?.unwrap_or_default() {
        let lineage: LineageEntry = work.must(&StateKey::Lineage(first))?;
        let entry: GrantEntry = work.must(&StateKey::Grant(lineage.current))?;
        if !entry.is_expired_at(work.place.time) {
            kept.push(first);
        }
    }
    if kept.len() > GRANTS_PER_READER_MAX {
        return Err(Refused::TooManyGrants { record, reader }.into());
    }
    kept.sort_unstable();
    work.write(&key, &kept);
    Ok(())
}

/// Ends one id of a grant: it opens no more, and custodians destroy its shares.
pub(super) fn end_id(
    work: &mut Work<'_>,
    id: GrantId,
    mut entry: GrantEntry,
    why: EndReason,
) -> Result<(), Stop> {
    let ended = Ended { height: work.place.height, time: work.place.time, why };
    entry.ended = Some(ended);
    work.write(&StateKey::Grant(id), &entry);
    let Conditions { record, reader, .. } = entry.conditions;
    let mut lists = work.record_lists(record)?;
    work.push(ListKey::Grants(record), &mut lists.grants, &GrantItem::Ended(id, ended));
    work.write(&StateKey::RecordLists(record), &lists);
    let custodians = entry.custodians.iter().map(|custodian| custodian.node).collect();
    work.tell(News::Ended { grant: id, record, reader, why, custodians });
    Ok(())
}
