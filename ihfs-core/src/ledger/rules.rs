//! The rules: what a block's transactions do to the state.
//!
//! Pure: the same state, time and transactions give the same writes everywhere. A transaction that
//! breaks a rule changes nothing and is reported with its rule. **A block holds only transactions that
//! apply**: a proposer runs [`apply_block`] over candidates and keeps those that applied, which gives
//! the same writes; a validator refuses a block of which any is refused.

use std::collections::BTreeMap;

use crate::ids::{ChainId, Height, Time, TransactionId};
use crate::ledger::lists::ListItem;
use crate::ledger::news::News;
use crate::ledger::operation::Operation;
use crate::ledger::rules::refused::Stop;
use crate::ledger::rules::work::{Asking, Work};
use crate::ledger::state::{Clock, ConsortiumEntry, StateError, StateKey, StateReader};
use crate::ledger::transaction::{SignedTransaction, Transaction, VALIDITY_MAX};

mod consortium;
mod devices;
mod epochs;
mod expiry;
mod grants;
mod lineage;
mod members;
mod nodes;
mod openings;
mod records;
mod refused;
mod revoke;
mod work;

pub use openings::OPENING_PAUSE;
pub use refused::Refused;

/// The rules in this file and below it.
pub const RULES_VERSION: u16 = 1;

/// Most epochs that one block opens: two members with as many records as there may be each remove a device, or one who
/// also revokes. Each is a handful of entries, so that a block is executed in a few seconds at worst.
pub const EPOCHS_PER_BLOCK_MAX: usize = 20_000;

/// Entries by their keys' bytes; none deletes.
pub type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What a block does.
#[derive(Debug)]
pub struct Applied {
    /// What it writes into the state.
    pub writes: Writes,
    /// What it appends to lists.
    pub items: Vec<ListItem>,
    /// For each transaction its id, or the rule that it breaks.
    pub results: Vec<Result<TransactionId, Refused>>,
    /// What changed, in order.
    pub news: Vec<News>,
    /// Who decides the next block, by which rules.
    pub consortium: ConsortiumEntry,
}

impl Applied {
    /// Whether every transaction applied, as in a block that may be decided.
    pub fn is_whole(&self) -> bool {
        self.results.iter().all(Result::is_ok)
    }
}

/// Why a block cannot be applied at all.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The state is not to be had.
    #[error(transparent)]
    State(#[from] StateError),
    /// The block does not follow the newest one.
    #[error(
        "a block of height {height} and time {time} does not follow height {newest_height} and time {newest_time}"
    )]
    DoesNotFollow {
        /// Its height.
        height: Height,
        /// Its time.
        time: Time,
        /// The newest height.
        newest_height: Height,
        /// The newest time.
        newest_time: Time,
    },
    /// The consortium voted for rules that this program does not have: update it.
    #[error("the consortium voted for rules {wanted}; this program has {RULES_VERSION}")]
    UnknownRules {
        /// The version of the rules.
        wanted: u16,
    },
}

/// Where and when a block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPlace {
    /// The chain.
    pub chain: ChainId,
    /// Its height.
    pub height: Height,
    /// Its header's time: the only clock that rules go by.
    pub time: Time,
}

/// Applies a block's transactions in their order to the state.
///
/// # Errors
/// [`ApplyError`]; a transaction that is refused is no error but a result.
pub fn apply_block(
    state: &dyn StateReader,
    place: BlockPlace,
    transactions: &[SignedTransaction],
) -> Result<Applied, ApplyError> {
    let mut work = Work::new(state, place);
    check_place(&work)?;
    consortium::begin(&mut work)?;
    expiry::forget(&mut work)?;
    work.keep();
    let mut results = Vec::with_capacity(transactions.len());
    for transaction in transactions {
        results.push(apply_or_refuse(&mut work, transaction)?);
    }
    let consortium = consortium::finish(&mut work)?;
    work.write(&StateKey::Clock, &Clock { height: place.height, time: place.time });
    work.keep();
    Ok(work.applied(results, consortium))
}

fn check_place(work: &Work<'_>) -> Result<(), ApplyError> {
    let BlockPlace { height, time, .. } = work.place;
    let newest: Clock = work.must(&StateKey::Clock)?;
    if height != newest.height.next() || time <= newest.time {
        let (newest_height, newest_time) = (newest.height, newest.time);
        return Err(ApplyError::DoesNotFollow { height, time, newest_height, newest_time });
    }
    let consortium: ConsortiumEntry = work.must(&StateKey::Consortium)?;
    if consortium.rules != RULES_VERSION {
        return Err(ApplyError::UnknownRules { wanted: consortium.rules });
    }
    Ok(())
}

fn apply_or_refuse(
    work: &mut Work<'_>,
    transaction: &SignedTransaction,
) -> Result<Result<TransactionId, Refused>, StateError> {
    match apply_transaction(work, transaction) {
        Ok(id) => {
            work.keep();
            Ok(Ok(id))
        }
        Err(Stop::Refused(refused)) => {
            work.forget();
            Ok(Err(refused))
        }
        Err(Stop::State(error)) => Err(error),
    }
}

fn apply_transaction(work: &mut Work<'_>, signed: &SignedTransaction) -> Result<TransactionId, Stop> {
    work.begin();
    let transaction = signed.open().map_err(Refused::from)?;
    let id = signed.id();
    check_removals(&transaction)?;
    check_validity(work, id, &transaction)?;
    let asking = members::who_asks(work, id, &transaction)?;
    expiry::remember_transaction(work, id, &transaction)?;
    for (number, operation) in transaction.operations.iter().enumerate() {
        apply_operation(work, &asking, number, operation)?;
    }
    Ok(id)
}

/// Each removal goes through all records of its member.
fn check_removals(transaction: &Transaction) -> Result<(), Refused> {
    let removes = |operation: &&Operation| matches!(operation, Operation::RemoveDevice(_));
    match transaction.operations.iter().filter(removes).count() {
        0 | 1 => Ok(()),
        _ => Err(Refused::SeveralRemovals),
    }
}

fn check_validity(work: &Work<'_>, id: TransactionId, transaction: &Transaction) -> Result<(), Stop> {
    let (time, valid_until) = (work.place.time, transaction.valid_until);
    if transaction.chain != work.place.chain {
        return Err(Refused::WrongChain.into());
    }
    if valid_until < time {
        return Err(Refused::Expired { valid_until, time }.into());
    }
    if valid_until > time.plus_millis(VALIDITY_MAX) {
        return Err(Refused::ValidTooLong { valid_until, time }.into());
    }
    expiry::check_not_applied(work, id)
}

fn apply_operation(
    work: &mut Work<'_>,
    asking: &Asking,
    number: usize,
    operation: &Operation,
) -> Result<(), Stop> {
    match operation {
        Operation::RegisterMember(registration) => members::register(work, asking, registration),
        Operation::AddDevice(device) => devices::add(work, asking, device),
        Operation::RemoveDevice(removal) => devices::remove(work, asking, removal),
        Operation::RegisterNode(node) => nodes::register(work, asking, node),
        Operation::Drain(drain) => nodes::drain(work, asking, drain),
        Operation::Attest(attest) => nodes::attest(work, asking, attest),
        Operation::CreateRecord(create) => records::create(work, asking, create),
        Operation::Anchor(anchor) => records::anchor(work, asking, anchor),
        Operation::Grant(grant) => grants::grant(work, asking, grant),
        Operation::Reshare(reshare) => grants::reshare(work, asking, reshare),
        Operation::Revoke(revoke) => revoke::revoke(work, asking, revoke),
        Operation::Rotate(rotate) => epochs::rotate(work, asking, rotate),
        Operation::Open(open) => openings::open(work, asking, number, open),
        Operation::Propose(propose) => consortium::propose(work, asking, propose),
        Operation::Vote(vote) => consortium::vote(work, asking, vote),
        Operation::EmergencyRequest | Operation::EmergencyApproval => {
            Err(Refused::Reserved { operation: operation.name() }.into())
        }
    }
}
