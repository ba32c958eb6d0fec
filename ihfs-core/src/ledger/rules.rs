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
use crate::ledger::state::{ConsortiumEntry, StateError};

mod refused;

pub use refused::Refused;

/// The rules in this file and below it.
pub const RULES_VERSION: u16 = 1;

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
