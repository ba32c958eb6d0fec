//! Consensus: how validators come to one block per height. Wraps the Tendermint core of Malachite.
//!
//! [`Host`] is a single-threaded machine without sockets, clocks, threads or files: an [`Event`] goes
//! in, [`Action`]s come out, to be carried out in their order. It must not know what transactions mean
//! ([`Application`] does), how bytes travel, or where the log is kept. [`driver`] runs it on tokio.
//!
//! What may differ between two runs with the same events: nothing. The engine (core-consensus 0.8.2,
//! core-driver, votekeeper) keeps its collections in `BTreeMap`s and `Vec`s, draws no random numbers,
//! and reads the clock once per height into a field that only `target_time` uses, which stays `None`
//! here. Its metrics are compiled out. Tasks inside it are coroutines resumed on the caller's stack.

mod catch_up;
mod config;
mod context;
pub mod driver;
mod effects;
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod log_file;
mod message;
mod refusals;
mod signatures;
#[cfg(test)]
mod simulation;
mod wal;

use std::time::Duration;

use bytes::Bytes;
use ihfs_core::ids::{BlockId, Height, NodeId, Time};
use ihfs_core::ledger::block::Block;
use ihfs_core::ledger::certificate::{Certificate, ValidatorSet};

pub use config::Config;
pub use host::{Counters, Host};
pub use message::{MESSAGE_BYTES_MAX, MessageError, ROUND_MAX};
pub use refusals::{BadBlock, Halt, StartError};
pub use signatures::SignedOtherwise;
pub use wal::Waited;

/// Most that a proposed header may be ahead of this validator's clock, in milliseconds: openings are
/// honoured by header time, so a proposer must not make the future.
pub const HEADER_AHEAD_MAX_MILLIS: u64 = 30_000;

/// Most that the header of a block proposed for the first time may be behind this validator's clock, in
/// milliseconds: a proposer must not bring the past back, in which a grant or an invite was live and a receipt
/// held. Three of the longest waits inside a round; far below the quarter of an hour in which openings release,
/// and the hour for which nodes keep chunks longer than their receipts say.
pub const HEADER_BEHIND_MAX_MILLIS: u64 = 180_000;

/// The newest committed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    /// Its height; 0 is genesis.
    pub height: Height,
    /// Its id; the chain id's bytes at genesis.
    pub block: BlockId,
    /// Its time.
    pub time: Time,
}

/// Why the application refuses a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("applying the block does not give what its header says")]
pub struct Rejected;

/// The ledger as consensus sees it. All of it speaks of the committed state.
pub trait Application {
    /// The newest committed block.
    fn newest(&self) -> Newest;

    /// The validators that decide the block after the newest.
    fn validators(&self) -> ValidatorSet;

    /// Whether transactions wait here. `true` starts a height.
    fn has_transactions(&self) -> bool;

    /// Builds the block after the newest: chain, height, parent, a time later than the parent's, digests
    /// and state root all right. `None`: nothing to do, no block is made.
    ///
    /// Once a height has started it ends only with a block: its rounds go on, ever more slowly, until
    /// somebody proposes. An application may propose an empty block in a high `round` to end it.
    fn propose(&mut self, round: u32, now: Time) -> Option<Block>;

    /// Applies the block to a copy of the committed state. Its chain, height, parent, time, size,
    /// validator set and transaction digest are checked already; no clock may take part.
    ///
    /// # Errors
    /// [`Rejected`] when format, rules, transactions, state root or next validators are not right.
    fn validate(&mut self, block: &Block) -> Result<(), Rejected>;

    /// The decided block of a height, for validators that lag; `None` when it is not kept.
    fn decided(&self, height: Height) -> Option<(Block, Certificate)>;
}

/// How this node came to know that a block is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It took part: the votes came in while it ran.
    Live,
    /// It read the votes in its log after a restart.
    Replayed,
    /// A peer sent the block with its certificate.
    Synced,
}

/// Names a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerId {
    /// A wait inside a round.
    Round {
        /// The height.
        height: Height,
        /// The round.
        round: u32,
        /// What for.
        waited: Waited,
    },
    /// To ask a peer for decided blocks, or the next one if that one does not answer.
    CatchUp,
    /// To tell the newest height again.
    TellNewest,
}

/// What happens to the host.
#[derive(Clone, Debug)]
pub enum Event {
    /// It begins: the first event, once. The log is replayed.
    Start,
    /// Transactions wait here, or more of them.
    TransactionsWaiting,
    /// A message came from a peer whose identity the network has proved.
    Message {
        /// The peer.
        from: NodeId,
        /// Its bytes.
        bytes: Bytes,
    },
    /// A timer fired. One that was cancelled is ignored.
    Timer(TimerId),
    /// The block of the last [`Action::Commit`] is durable and is the application's newest.
    Committed,
    /// A peer can be reached again; it is told the newest height.
    PeerConnected(NodeId),
}

/// What the owner carries out, in this order and none left out.
#[derive(Clone, Debug)]
pub enum Action {
    /// To every other validator. May be lost.
    Broadcast(Bytes),
    /// To one peer. May be lost.
    Send {
        /// The peer.
        to: NodeId,
        /// The message.
        bytes: Bytes,
    },
    /// Give [`Event::Timer`] after this time; replaces the timer of the same name.
    SetTimer {
        /// Its name.
        id: TimerId,
        /// When, from now.
        after: Duration,
    },
    /// Forget a timer.
    CancelTimer(TimerId),
    /// Append to the log; may stay in memory until [`Action::FsyncWal`].
    AppendWal {
        /// The height that the entry belongs to.
        height: Height,
        /// The entry.
        bytes: Bytes,
    },
    /// All that was appended must be durable before the next action is carried out.
    FsyncWal,
    /// Entries of this height and below are needed no more. Need not be durable.
    ClearWal {
        /// The height.
        height: Height,
    },
    /// Store block, certificate and the state after it in one durable transaction, then give
    /// [`Event::Committed`] before any other event.
    Commit {
        /// The decided block.
        block: Box<Block>,
        /// The proof that it is decided.
        certificate: Certificate,
        /// How it came.
        origin: Origin,
    },
    /// This validator stops for good: going on could sign twice or fork. People must look.
    Halt(Halt),
}
