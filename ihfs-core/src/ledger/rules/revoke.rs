//! Revocation: ends grants with all nested in them, and starts new epochs on all their records.
//!
//! Takes no version, asks nobody, and its size has nothing to do with the data.

use std::collections::BTreeSet;

use crate::ids::{GrantId, MemberId, RecordId};
use crate::ledger::operation::{Revoke, RevokeTarget};
use crate::ledger::rules::refused::Stop;
use crate::ledger::rules::work::{Asking, Work};
use crate::ledger::rules::{Refused, epochs, lineage};
use crate::ledger::state::{EndReason, GrantEntry, LineageEntry, StateKey};

pub(super) fn revoke(work: &mut Work<'_>, asking: &Asking, revoke: &Revoke) -> Result<(), Stop> {
    work.own_record(asking, revoke.record)?;
    let targets = targets(work, revoke)?;
    work.take_epochs(1)?;
    let mut records = BTreeSet::from([revoke.record]);
    for first in targets {
        end_with_nested(work, first, &mut records)?;
    }
    let generation = work.member(asking.member)?.generation;
    work.take_epochs(records.len() - 1)?;
    for record in records {
        epochs::advance(work, asking, record, generation)?;
    }
    Ok(())
}

/// First ids of the lineages that are to end.
fn targets(work: &Work<'_>, revoke: &Revoke) -> Result<Vec<GrantId>, Stop> {
    let record = revoke.record;
    let nothing = Refused::NothingToRevoke { record };
    let targets = match revoke.target {
        RevokeTarget::Reader(reader) => {
            work.read::<Vec<GrantId>>(&StateKey::ReaderGrants(record, reader))?.unwrap_or_default()
        }
        RevokeTarget::Grant(grant) => {
            let entry: GrantEntry =
                work.read(&StateKey::Grant(grant))?.ok_or(Refused::UnknownGrant { grant })?;
            let lineage: LineageEntry = work.must(&StateKey::Lineage(entry.first))?;
            let current: GrantEntry = work.must(&StateKey::Grant(lineage.current))?;
            if entry.conditions.record != record || current.ended.is_some() {
                return Err(nothing.into());
            }
            vec![entry.first]
        }
    };
    if targets.is_empty() { Err(nothing.into()) } else { Ok(targets) }
}

/// Ends a lineage and all nested in it. Under one that had ended, all had ended with it.
fn end_with_nested(work: &mut Work<'_>, top: GrantId, records: &mut BTreeSet<RecordId>) -> Result<(), Stop> {
    let mut waiting = vec![top];
    while let Some(first) = waiting.pop() {
        let lineage: LineageEntry = work.must(&StateKey::Lineage(first))?;
        let entry: GrantEntry = work.must(&StateKey::Grant(lineage.current))?;
        if entry.ended.is_some() {
            continue;
        }
        let (record, reader) = (entry.conditions.record, entry.conditions.reader);
        let why = if first == top { EndReason::Revoked } else { EndReason::Parent };
        lineage::end_id(work, lineage.current, entry, why)?;
        take_from_reader(work, record, reader, first)?;
        records.insert(record);
        for number in 0..lineage.children {
            waiting.push(work.must(&StateKey::NestedGrant(first, number))?);
        }
    }
    Ok(())
}

fn take_from_reader(
    work: &mut Work<'_>,
    record: RecordId,
    reader: MemberId,
    first: GrantId,
) -> Result<(), Stop> {
    let key = StateKey::ReaderGrants(record, reader);
    let mut grants: Vec<GrantId> = work.read(&key)?.unwrap_or_default();
    let Ok(place) = grants.binary_search(&first) else {
        // It had expired and made room for others.
        return Ok(());
    };
    grants.remove(place);
    if grants.is_empty() {
        work.delete(&key.to_bytes());
    } else {
        work.write(&key, &grants);
    }
    Ok(())
}
