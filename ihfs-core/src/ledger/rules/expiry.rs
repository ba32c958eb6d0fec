//! What is forgotten, and when: ids of transactions, spent invites, openings.
//!
//! Keys wait in one queue an hour. A block forgets a bounded number, so that no block is slow after a
//! long silence. Forgetting is late at times and never early; no rule relies on it being in time.

use serde_bytes::ByteBuf;

use crate::ids::{Time, TransactionId};
use crate::ledger::rules::Refused;
use crate::ledger::rules::refused::Stop;
use crate::ledger::rules::work::Work;
use crate::ledger::state::{ExpiryCursor, RememberedTransaction, StateError, StateKey};
use crate::ledger::transaction::Transaction;

/// Milliseconds of an hour.
const HOUR: u64 = 60 * 60 * 1000;
/// How long after its `valid_until` the outcome of a transaction can be asked for: a day.
const OUTCOME_KEPT: u64 = 24 * HOUR;
/// Most keys that one block forgets: about as many as a full block of small transactions adds.
const FORGOTTEN_MAX: usize = 2000;
/// Most hours that one block looks at.
const HOURS_MAX: usize = 1000;

/// Refuses a transaction that was applied.
pub(super) fn check_not_applied(work: &Work<'_>, id: TransactionId) -> Result<(), Stop> {
    match work.read::<RememberedTransaction>(&StateKey::Transaction(id))? {
        Some(RememberedTransaction { height, .. }) => Err(Refused::AlreadyApplied { id, height }.into()),
        None => Ok(()),
    }
}

/// Remembers a transaction that is being applied.
pub(super) fn remember_transaction(
    work: &mut Work<'_>,
    id: TransactionId,
    transaction: &Transaction,
) -> Result<(), StateError> {
    let Transaction { member, valid_until, .. } = *transaction;
    let key = StateKey::Transaction(id);
    work.write(&key, &RememberedTransaction { member, height: work.place.height, valid_until });
    forget_after(work, &key, valid_until.plus_millis(OUTCOME_KEPT))
}

/// Lets the entry under `key` go in the hour after `until`.
pub(super) fn forget_after(work: &mut Work<'_>, key: &StateKey, until: Time) -> Result<(), StateError> {
    let hour = until.0 / HOUR + 1;
    let count: u32 = work.read(&StateKey::ExpiryCount(hour))?.unwrap_or(0);
    let mut cursor = cursor(work)?;
    cursor.waiting += 1;
    work.write(&StateKey::ExpiryItem(hour, count), &ByteBuf::from(key.to_bytes()));
    work.write(&StateKey::ExpiryCount(hour), &(count + 1));
    work.write(&StateKey::ExpiryCursor, &cursor);
    Ok(())
}

/// Forgets what is due, up to the limits of one block.
pub(super) fn forget(work: &mut Work<'_>) -> Result<(), StateError> {
    let now = work.place.time.0 / HOUR;
    let before = cursor(work)?;
    let mut cursor = before;
    let mut left = FORGOTTEN_MAX;
    for _ in 0..HOURS_MAX {
        if cursor.waiting == 0 {
            cursor = ExpiryCursor { hour: cursor.hour.max(now + 1), done: 0, waiting: 0 };
        }
        if cursor.hour > now || left == 0 {
            break;
        }
        left -= forget_hour(work, &mut cursor, left)?;
    }
    if cursor != before {
        work.write(&StateKey::ExpiryCursor, &cursor);
    }
    Ok(())
}

/// Forgets up to `most` keys of the cursor's hour; goes to the next hour when none is left.
fn forget_hour(work: &mut Work<'_>, cursor: &mut ExpiryCursor, most: usize) -> Result<usize, StateError> {
    let count: u32 = work.read(&StateKey::ExpiryCount(cursor.hour))?.unwrap_or(0);
    let end = count.min(cursor.done.saturating_add(u32::try_from(most).unwrap_or(u32::MAX)));
    for place in cursor.done..end {
        let item = StateKey::ExpiryItem(cursor.hour, place);
        let key: ByteBuf = work.must(&item)?;
        work.delete(&key);
        work.delete(&item.to_bytes());
    }
    let forgotten = end - cursor.done;
    cursor.waiting -= u64::from(forgotten);
    cursor.done = end;
    if end == count {
        if count > 0 {
            work.delete(&StateKey::ExpiryCount(cursor.hour).to_bytes());
        }
        *cursor = ExpiryCursor { hour: cursor.hour + 1, done: 0, waiting: cursor.waiting };
    }
    Ok(forgotten as usize)
}

fn cursor(work: &Work<'_>) -> Result<ExpiryCursor, StateError> {
    let start = ExpiryCursor { hour: work.place.time.0 / HOUR, done: 0, waiting: 0 };
    Ok(work.read(&StateKey::ExpiryCursor)?.unwrap_or(start))
}
