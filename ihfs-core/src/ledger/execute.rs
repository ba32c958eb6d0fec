//! Executing a block: rules, tree and header together, over any store.
//!
//! A proposer calls [`propose`], a validator [`validate`]; both get the same writes, which the store
//! takes in one step with the block.

use serde_bytes::ByteBuf;

use crate::codec;
use crate::ids::{BlockId, ChainId, Digest, Height, Time};
use crate::ledger::block::{BLOCK_BYTES_MAX, Block, FORMAT_VERSION, HEADER_BYTES_MAX, Header};
use crate::ledger::genesis::{Genesis, GenesisError};
use crate::ledger::proof::{self, PageReader, TreeBroken, TreeUpdate};
use crate::ledger::rules::{self, Applied, ApplyError, BlockPlace, RULES_VERSION, Refused, Writes};
use crate::ledger::state::StateReader;
use crate::ledger::transaction::SignedTransaction;

/// What executing needs of a store: the newest state and its tree.
pub trait LedgerReader: StateReader + PageReader {}

impl<T: StateReader + PageReader> LedgerReader for T {}

/// A block and all that it changes.
#[derive(Debug)]
pub struct Executed {
    /// The block.
    pub block: Block,
    /// What it writes, appends and tells.
    pub applied: Applied,
    /// What it does to the tree.
    pub tree: TreeUpdate,
}

/// What a block follows: the newest one, or the genesis document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The chain.
    pub chain: ChainId,
    /// The newest height, 0 after the genesis document.
    pub height: Height,
    /// The newest block; the chain id's bytes after the genesis document.
    pub block: BlockId,
}

impl Parent {
    /// The parent of the first block.
    pub fn genesis(chain: ChainId) -> Self {
        Self { chain, height: Height(0), block: BlockId::from_bytes(*chain.as_bytes()) }
    }

    /// The parent of the block after this one.
    pub fn of(header: &Header) -> Self {
        Self { chain: header.chain, height: header.height, block: header.id() }
    }
}

/// Why a block cannot be executed.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// It does not apply at all.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The tree is damaged.
    #[error(transparent)]
    Tree(#[from] TreeBroken),
    /// The header says something else than the transactions do.
    #[error("the header does not follow from its parent and transactions")]
    WrongHeader,
    /// The block is larger than one message.
    #[error("a block of {bytes} bytes, where {BLOCK_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A transaction of a proposed block is refused.
    #[error("transaction {number} of the block is refused")]
    HoldsRefused {
        /// Its place in the block.
        number: usize,
        /// The rule that it breaks.
        #[source]
        refused: Refused,
    },
}

/// How many of these candidates, from the first on, fit into one block of [`BLOCK_BYTES_MAX`].
pub fn fitting(candidates: &[SignedTransaction]) -> usize {
    let mut left = BLOCK_BYTES_MAX - HEADER_BYTES_MAX;
    let fits = |candidate: &&SignedTransaction| {
        let bytes = candidate.to_bytes().len() + FRAMING;
        left.checked_sub(bytes).map(|rest| left = rest).is_some()
    };
    candidates.iter().take_while(fits).count()
}

/// Most bytes that encoding a block puts around one transaction.
const FRAMING: usize = 16;

/// Makes the next block of those candidates that apply; [`fitting`] says how many there may be. `applied.results` is about all candidates.
///
/// # Errors
/// [`ExecuteError::Apply`] and [`ExecuteError::Tree`].
pub fn propose(
    store: &impl LedgerReader,
    parent: Parent,
    time: Time,
    candidates: &[SignedTransaction],
) -> Result<Executed, ExecuteError> {
    let place = BlockPlace { chain: parent.chain, height: parent.height.next(), time };
    let applied = rules::apply_block(store, place, candidates)?;
    let tree = proof::update_tree(store, place.height, &applied.writes)?;
    let applies = |(candidate, result): (&SignedTransaction, &Result<_, _>)| {
        result.is_ok().then(|| ByteBuf::from(candidate.to_bytes()))
    };
    let transactions: Vec<ByteBuf> = candidates.iter().zip(&applied.results).filter_map(applies).collect();
    let header = Header {
        format: FORMAT_VERSION,
        rules: RULES_VERSION,
        chain: place.chain,
        height: place.height,
        parent: parent.block,
        time,
        transactions: Block::digest_transactions(&transactions),
        state: tree.root,
        validators: applied.consortium.validators.digest(),
        next_validators: applied.consortium.next.digest(),
    };
    Ok(Executed { block: Block { header, transactions }, applied, tree })
}

/// Checks a block that somebody else made and tells what it changes.
///
/// # Errors
/// [`ExecuteError`].
pub fn validate(store: &impl LedgerReader, parent: Parent, block: &Block) -> Result<Executed, ExecuteError> {
    let bytes = codec::encode(block).len();
    if bytes > BLOCK_BYTES_MAX {
        return Err(ExecuteError::TooLarge { bytes });
    }
    let mut transactions = Vec::with_capacity(block.transactions.len());
    for (number, bytes) in block.transactions.iter().enumerate() {
        let transaction = SignedTransaction::from_bytes(bytes).map_err(|error| {
            let refused = Refused::NotATransaction(error.into());
            ExecuteError::HoldsRefused { number, refused }
        })?;
        transactions.push(transaction);
    }
    let mut executed = propose(store, parent, block.header.time, &transactions)?;
    if let Some(number) = executed.applied.results.iter().position(Result::is_err) {
        let refused = executed.applied.results.swap_remove(number).expect_err("found as an error");
        return Err(ExecuteError::HoldsRefused { number, refused });
    }
    if executed.block.header != block.header {
        return Err(ExecuteError::WrongHeader);
    }
    Ok(executed)
}

/// The state and tree of a genesis document.
#[derive(Debug)]
pub struct Founded {
    /// The entries.
    pub writes: Writes,
    /// The tree at height 0.
    pub tree: TreeUpdate,
}

/// Founds a ledger.
///
/// # Errors
/// [`GenesisError`].
pub fn found(genesis: &Genesis) -> Result<Founded, GenesisError> {
    let writes = genesis.state()?;
    let tree = proof::rebuild_tree(Height(0), &writes).expect("a new tree reads no damaged page");
    Ok(Founded { writes, tree })
}

/// The root of the state of a genesis document.
///
/// # Errors
/// [`GenesisError`].
pub fn genesis_root(genesis: &Genesis) -> Result<Digest, GenesisError> {
    Ok(found(genesis)?.tree.root)
}
