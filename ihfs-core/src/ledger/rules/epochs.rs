//! Epochs of a record: each under a key of its own, by fresh salt; none ever comes back.

use crate::ids::{Epoch, Generation, RecordId, Version};
use crate::ledger::news::News;
use crate::ledger::operation::Rotate;
use crate::ledger::rules::Refused;
use crate::ledger::rules::refused::Stop;
use crate::ledger::rules::work::{Asking, Work};
use crate::ledger::state::{EpochEntry, StateKey};

pub(super) fn rotate(work: &mut Work<'_>, asking: &Asking, rotate: &Rotate) -> Result<(), Stop> {
    work.own_record(asking, rotate.record)?;
    let generation = work.member(asking.member)?.generation;
    work.take_epochs(1)?;
    advance(work, asking, rotate.record, generation)
}

/// Opens the next epoch of a record. The caller has taken room for it in the block.
pub(super) fn advance(
    work: &mut Work<'_>,
    asking: &Asking,
    record: RecordId,
    generation: Generation,
) -> Result<(), Stop> {
    let mut entry = work.record(record)?;
    let next = entry.epoch.0.checked_add(1).map(Epoch).ok_or(Refused::NoEpochLeft { record })?;
    entry.epoch = next;
    begin(work, asking, record, next, generation, entry.head.map_or(Version(0), |head| head.version));
    work.write(&StateKey::Record(record), &entry);
    let mut lists = work.record_lists(record)?;
    // Nobody can have opened a grant of an epoch that begins.
    lists.opened_until = None;
    work.write(&StateKey::RecordLists(record), &lists);
    work.tell(News::EpochOpened { record, epoch: next });
    Ok(())
}

/// Writes the epoch under its own key.
pub(super) fn begin(
    work: &mut Work<'_>,
    asking: &Asking,
    record: RecordId,
    epoch: Epoch,
    generation: Generation,
    base: Version,
) {
    let (height, time) = (work.place.height, work.place.time);
    let salt = EpochEntry::salt(&asking.random, record, epoch);
    work.write(&StateKey::Epoch(record, epoch), &EpochEntry { generation, salt, base, height, time });
}
