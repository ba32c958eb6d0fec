//! Why a host does not start, does not take a block, or stops for good.

use ihfs_core::codec;
use ihfs_core::ids::{BlockId, Height};
use ihfs_core::ledger::block::BLOCK_BYTES_MAX;

use super::HEADER_AHEAD_MAX_MILLIS;
use super::signatures::SignedOtherwise;

/// Why a validator stops for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// It would have signed twice differently: the log is not what was written.
    #[error("height {height}: {refused}")]
    WouldSignTwice {
        /// The height.
        height: Height,
        /// What was refused.
        refused: SignedOtherwise,
    },
    /// Replaying the log gave another message than the one in the log.
    #[error("replaying the log of height {height} diverges from it")]
    ReplayDiverges {
        /// The height.
        height: Height,
    },
    /// A quorum decided a block that our rules refuse: theirs or ours are wrong.
    #[error("block {block:?} of height {height} is decided, but not valid here")]
    DecidedInvalid {
        /// The height.
        height: Height,
        /// The block.
        block: BlockId,
    },
    /// The application's own proposal breaks the rules.
    #[error("own proposal for height {height}: {why}")]
    BadProposal {
        /// The height.
        height: Height,
        /// What is wrong.
        why: BadBlock,
    },
    /// After a commit the application's newest block is another one.
    #[error("committed height {expected}, but the newest is {found}")]
    NotCommitted {
        /// The height that was committed.
        expected: Height,
        /// The application's newest.
        found: Height,
    },
}

/// Why a block cannot follow the newest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBlock {
    /// Of another chain.
    #[error("of another chain")]
    WrongChain,
    /// Of another height, or of a parent that is not the newest block.
    #[error("not the child of the newest block")]
    WrongParent,
    /// Not later than its parent.
    #[error("not later than its parent")]
    NotLater,
    /// Too far ahead of the clock.
    #[error("more than {HEADER_AHEAD_MAX_MILLIS} ms ahead of the clock")]
    AheadOfClock,
    /// Names another validator set.
    #[error("another validator set")]
    WrongValidators,
    /// The transactions are not those that the header names.
    #[error("other transactions than the header names")]
    WrongTransactions,
    /// Longer than a block may be.
    #[error("{found} bytes, where {BLOCK_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// The application refuses it.
    #[error("{0}")]
    Rejected(#[from] super::Rejected),
}

/// Why a host does not start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// An entry of the log cannot be read. A validator must not go on: it may have signed already.
    #[error("entry {entry} of the consensus log cannot be read")]
    LogDamaged {
        /// Which entry.
        entry: usize,
        /// What is wrong with it.
        source: codec::DecodeError,
    },
}
