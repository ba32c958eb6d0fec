//! The node's ledger: blocks, certificates, state, tree and lists in one database, and what waits to be decided.
//!
//! A block is taken in one durable transaction with everything that it changes. Readers get the newest
//! [`Snapshot`]; those who must act on a block at once are [`Ledger::on_decided`]. It knows nothing of chunks,
//! key shares or peers; the rules are the business of `ihfs-core`.

mod application;
mod mempool;
#[cfg(test)]
pub(crate) mod sample;
mod tables;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ihfs_core::ids::{ChainId, Height, Time, TransactionId};
use ihfs_core::ledger::certificate::Certificate;
use ihfs_core::ledger::execute::{self, Executed};
use ihfs_core::ledger::genesis::{Genesis, GenesisError};
use ihfs_core::ledger::news::News;
use ihfs_core::ledger::rules::{self, BlockPlace, Refused};
use ihfs_core::ledger::state::StateError;
use ihfs_core::ledger::transaction::{SignedTransaction, Transaction, TransactionError};
use redb::{Database, DatabaseError, StorageBackend};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::consensus::driver::Handle;
use crate::consensus::{Newest, Origin};
use crate::database;
use mempool::{Mempool, Outcome};

pub use application::LedgerApplication;
pub use mempool::PoolFull;
pub use tables::{Handover, Snapshot};

/// Cache of the database in bytes: the upper tree and the entries of those who are active.
const CACHE_BYTES: usize = 16 << 20;

/// Most transactions that are tried against the rules at once as they come: one may take as long as a block.
const TRIALS_MAX: usize = 2;

/// A block that was decided and is durable, with what it changed.
#[derive(Debug)]
pub struct Decided {
    /// The block, as the newest.
    pub newest: Newest,
    /// How this node came to know it.
    pub origin: Origin,
    /// When, by this machine's monotonic clock.
    pub seen: Instant,
    /// What changed, in order.
    pub news: Vec<News>,
}

/// Why the ledger cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database failed: disk full, damage, or another process holds it.
    #[error("the ledger's database failed")]
    Database(#[from] Box<redb::Error>),
    /// Another version of this program wrote it.
    #[error("the ledger has format {found}, and this program knows format {}", tables::FORMAT_VERSION)]
    UnknownFormat {
        /// The version found.
        found: u64,
    },
    /// The database holds another chain than the genesis document founds.
    #[error("{path} holds the chain {found}, the genesis document founds {expected}")]
    WrongChain {
        /// The database.
        path: PathBuf,
        /// Its chain.
        found: ChainId,
        /// The genesis document's chain.
        expected: ChainId,
    },
    /// The genesis document founds nothing.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// A stored block or certificate does not decode.
    #[error("what is stored of height {height} is damaged")]
    Damaged {
        /// The height.
        height: Height,
    },
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// A decided block does not apply.
    #[error("a decided block does not apply")]
    DoesNotApply(#[from] execute::ExecuteError),
}

/// Why a transaction is not on the ledger.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The bytes are no signed transaction.
    #[error(transparent)]
    NotATransaction(#[from] TransactionError),
    /// The rules refuse it.
    #[error(transparent)]
    Refused(Arc<Refused>),
    /// Too many wait already.
    #[error(transparent)]
    PoolFull(#[from] PoolFull),
    /// Nothing was decided in time; it may still be.
    #[error("not decided in time")]
    Undecided,
    /// The ledger cannot be read, or stopped.
    #[error("the ledger does not answer")]
    Unavailable,
}

type Listener = Box<dyn Fn(&Decided) + Send + Sync>;

/// The ledger of this node.
pub struct Ledger {
    database: Database,
    genesis: Genesis,
    chain: ChainId,
    snapshot: RwLock<Arc<Snapshot>>,
    newest: watch::Sender<Newest>,
    mempool: Mempool,
    trials: Arc<Semaphore>,
    listeners: RwLock<Vec<Listener>>,
    consensus: Mutex<Option<Handle>>,
    last_error: Mutex<String>,
    clock: fn() -> Time,
}

impl Ledger {
    /// Opens the ledger at `path`, founding it when it is new.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn open(path: &Path, genesis: Genesis, clock: fn() -> Time) -> Result<Self, LedgerError> {
        Self::open_on(|| database::file(path), path, genesis, clock)
    }

    /// Opens the ledger in a file that errors call `path`.
    pub(crate) fn open_on<B: StorageBackend>(
        file: impl Fn() -> Result<B, DatabaseError>,
        path: &Path,
        genesis: Genesis,
        clock: fn() -> Time,
    ) -> Result<Self, LedgerError> {
        let database = database::open(file, CACHE_BYTES).map_err(tables::boxed)?;
        let chain = genesis.chain();
        match tables::stored_chain(&database)? {
            None => tables::found(&database, &genesis)?,
            Some(found) if found == chain => {}
            Some(found) => {
                return Err(LedgerError::WrongChain { path: path.to_owned(), found, expected: chain });
            }
        }
        let snapshot = Snapshot::open(&database, chain, genesis.time)?;
        let newest = watch::Sender::new(snapshot.newest());
        Ok(Self {
            database,
            genesis,
            chain,
            snapshot: RwLock::new(Arc::new(snapshot)),
            newest,
            mempool: Mempool::default(),
            trials: Arc::new(Semaphore::new(TRIALS_MAX)),
            listeners: RwLock::default(),
            consensus: Mutex::default(),
            last_error: Mutex::default(),
            clock,
        })
    }

    /// The genesis document.
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The chain.
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// The newest state, which stays as it is while it is held.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The newest block, and its changes.
    pub fn newest(&self) -> watch::Receiver<Newest> {
        self.newest.subscribe()
    }

    /// Calls `listener` for each block once it is durable, and before anyone who waits for it hears of it. It
    /// must not block.
    pub fn on_decided(&self, listener: impl Fn(&Decided) + Send + Sync + 'static) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// What consensus was started with; `None` ends it.
    pub fn set_consensus(&self, handle: Option<Handle>) {
        *lock(&self.consensus) = handle;
    }

    /// Consensus, while it runs.
    pub fn consensus(&self) -> Option<Handle> {
        lock(&self.consensus).clone()
    }

    /// The last fault, in words; empty when there was none.
    pub fn last_error(&self) -> String {
        lock(&self.last_error).clone()
    }

    /// Hands a transaction to consensus and waits, at most `wait`, until it is decided. One that is on the
    /// ledger already is answered as such: nothing is applied twice.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn submit(
        self: &Arc<Self>,
        signed: SignedTransaction,
        wait: Duration,
    ) -> Result<Height, SubmitError> {
        let deadline = tokio::time::Instant::now() + wait;
        let turn = tokio::time::timeout_at(deadline, Arc::clone(&self.trials).acquire_owned()).await;
        let turn = turn.map_err(|_| PoolFull)?.map_err(|_| SubmitError::Unavailable)?;
        let ledger = Arc::clone(self);
        // The turn lasts as long as the work, also when nobody waits for it any more.
        let added = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            ledger.add(signed)
        });
        let answer = match added.await.map_err(|_| SubmitError::Unavailable)?? {
            Added::Applied(height) => return Ok(height),
            Added::Waits(answer) => answer,
        };
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(outcome)) => outcome.map_err(SubmitError::Refused),
            Ok(Err(_)) => Err(SubmitError::Unavailable),
            Err(_) => Err(SubmitError::Undecided),
        }
    }

    fn add(&self, signed: SignedTransaction) -> Result<Added, SubmitError> {
        let transaction = signed.open()?;
        if let Some(refused) = self.try_rules(&signed, &transaction)? {
            return match refused {
                Refused::AlreadyApplied { height, .. } => Ok(Added::Applied(height)),
                refused => Err(SubmitError::Refused(Arc::new(refused))),
            };
        }
        let (answer, answered) = oneshot::channel();
        self.mempool.add(signed, &transaction, answer)?;
        if let Some(consensus) = self.consensus() {
            consensus.submitted();
        }
        Ok(Added::Waits(answered))
    }

    /// What the rules say of it now. With others of its member waiting before it, only the proposer can tell.
    fn try_rules(
        &self,
        signed: &SignedTransaction,
        transaction: &Transaction,
    ) -> Result<Option<Refused>, SubmitError> {
        if self.mempool.holds_of(transaction.member) {
            return Ok(None);
        }
        let snapshot = self.snapshot();
        let newest = snapshot.newest();
        let time = (self.clock)().max(newest.time.plus_millis(1));
        let place = BlockPlace { chain: self.chain, height: newest.height.next(), time };
        let applied = rules::apply_block(&*snapshot, place, std::slice::from_ref(signed));
        match applied {
            Ok(mut applied) => Ok(applied.results.swap_remove(0).err()),
            Err(error) => {
                self.note(&error);
                Err(SubmitError::Unavailable)
            }
        }
    }

    /// Takes a decided block in.
    pub(crate) fn commit(
        &self,
        executed: Executed,
        certificate: &Certificate,
        origin: Origin,
    ) -> Result<(), LedgerError> {
        tables::commit(&self.database, &executed, certificate)?;
        let snapshot = Arc::new(Snapshot::open(&self.database, self.chain, self.genesis.time)?);
        let newest = snapshot.newest();
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
        let ids = executed.applied.results.iter().flatten().copied().collect::<Vec<TransactionId>>();
        let decided = Decided { newest, origin, seen: Instant::now(), news: executed.applied.news };
        for listener in self.listeners.read().unwrap_or_else(PoisonError::into_inner).iter() {
            listener(&decided);
        }
        self.mempool.settle(&ids, newest.height);
        self.newest.send_replace(newest);
        Ok(())
    }

    /// Keeps a fault for the status, and logs it.
    pub(crate) fn note(&self, error: &(dyn std::error::Error + 'static)) {
        tracing::error!(error, "ledger");
        *lock(&self.last_error) = error.to_string();
    }
}

enum Added {
    Applied(Height),
    Waits(oneshot::Receiver<Outcome>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
