//! Runs a host on tokio: a task that owns host, log and timers, and a handle to talk to it.
//!
//! The task waits for one thing at a time; what follows from it (signatures, rules, `fsync`, the commit)
//! runs on the blocking pool, so that no other task of the node waits for a disk.

#[cfg(test)]
mod power_cut;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use ihfs_core::crypto::sign::SigningKey;
use ihfs_core::ids::{Height, NodeId, Time};
use ihfs_core::ledger::block::Block;
use ihfs_core::ledger::certificate::Certificate;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use super::log_file::LogError;
use super::log_file::LogFile;
use super::{Action, Application, Config, Counters, Event, Halt, Host, Origin, StartError, TimerId};

/// Most messages that wait for the task; more are dropped, as a network may drop them.
const INBOX_MAX: usize = 1024;
/// Most bytes of all messages that wait: a dozen largest blocks.
const INBOX_BYTES_MAX: usize = 16 << 20;

/// Where messages go. Neither call may wait; both may lose what they are given.
pub trait Links: Send + 'static {
    /// To every other validator that can be reached.
    fn broadcast(&self, bytes: Bytes);

    /// To one peer.
    fn send(&self, to: NodeId, bytes: Bytes);
}

/// The ledger that decided blocks go to.
pub trait Committer: Application + Send + 'static {
    /// Why a commit failed. The task ends with it; after a restart the height is decided from the log,
    /// from peers, or anew, and never differently from what others saw.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Stores block, certificate and the state after the block in one transaction, durable when this
    /// returns; the block is then [`Application::newest`].
    ///
    /// # Errors
    /// The owner's; nothing of the block may then be stored.
    fn commit(&mut self, block: Block, certificate: Certificate, origin: Origin) -> Result<(), Self::Error>;
}

/// Why the task ended.
#[derive(Debug, thiserror::Error)]
pub enum DriverError<E: std::error::Error + 'static> {
    /// The log of the height cannot be read.
    #[error("consensus cannot start")]
    Start(#[from] StartError),
    /// The log cannot be opened or written.
    #[error("the consensus log failed")]
    Log(#[from] LogError),
    /// The ledger did not take a decided block.
    #[error("block of height {height} was decided but could not be committed")]
    Commit {
        /// The height.
        height: Height,
        /// Why.
        source: E,
    },
    /// The validator stopped for good.
    #[error("this validator has stopped")]
    Halted(#[from] Halt),
}

/// What another task tells consensus.
enum Told {
    Message { from: NodeId, bytes: Bytes },
    Connected(NodeId),
}

/// The task's end of what it is told.
struct Inbox {
    told: mpsc::Receiver<Told>,
    bytes: Arc<AtomicUsize>,
}

impl Inbox {
    async fn next(&mut self) -> Option<Told> {
        let told = self.told.recv().await;
        if let Some(Told::Message { bytes, .. }) = &told {
            self.bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
        told
    }
}

/// Talks to the task. When the last handle is dropped, the task ends.
#[derive(Clone, Debug)]
pub struct Handle {
    inbox: mpsc::Sender<Told>,
    inbox_bytes: Arc<AtomicUsize>,
    waiting: Arc<Notify>,
    committed: watch::Receiver<Height>,
    counters: watch::Receiver<Counters>,
}

impl Handle {
    /// Transactions wait in the application.
    pub fn submitted(&self) {
        self.waiting.notify_one();
    }

    /// A peer sent a message. It is dropped when too many wait already.
    pub fn deliver(&self, from: NodeId, bytes: Bytes) {
        let length = bytes.len();
        let before = self.inbox_bytes.fetch_add(length, Ordering::Relaxed);
        let fits = before.saturating_add(length) <= INBOX_BYTES_MAX;
        if !fits || !self.tell(Told::Message { from, bytes }) {
            self.inbox_bytes.fetch_sub(length, Ordering::Relaxed);
        }
    }

    /// A peer can be reached again.
    pub fn connected(&self, peer: NodeId) {
        self.tell(Told::Connected(peer));
    }

    /// The newest committed height, and its changes.
    pub fn committed(&self) -> watch::Receiver<Height> {
        self.committed.clone()
    }

    /// What was ignored so far.
    pub fn counters(&self) -> Counters {
        *self.counters.borrow()
    }

    /// A full inbox drops, and a task that ended hears nothing: both are like a lost message.
    fn tell(&self, told: Told) -> bool {
        self.inbox.try_send(told).is_ok()
    }
}

/// Everything that the blocking part works on.
struct Machine<A: Committer, L: Links> {
    host: Host<A>,
    log: LogFile,
    links: L,
    clock: fn() -> Time,
    timers: BTreeMap<TimerId, Instant>,
    committed: watch::Sender<Height>,
    counters: watch::Sender<Counters>,
}

/// The task of a running host.
pub type Task<E> = JoinHandle<Result<(), DriverError<E>>>;
/// A running host, or why it does not run.
pub type Started<E> = Result<(Handle, Task<E>), DriverError<E>>;

/// Starts consensus on the current tokio runtime, with its log at `log`.
///
/// # Errors
/// [`DriverError::Log`] and [`DriverError::Start`]; the others end the task later.
pub fn spawn<A: Committer, L: Links>(
    config: Config,
    key: SigningKey,
    application: A,
    links: L,
    log: &Path,
    clock: fn() -> Time,
) -> Started<A::Error> {
    let (log, entries) = LogFile::open(log)?;
    let newest = application.newest().height;
    let host = Host::new(config, key, application, &entries)?;
    let (inbox, told) = mpsc::channel(INBOX_MAX);
    let (committed, committed_heights) = watch::channel(newest);
    let (counters, counted) = watch::channel(Counters::default());
    let waiting = Arc::new(Notify::new());
    let inbox_bytes = Arc::new(AtomicUsize::new(0));
    let inbox_told = Inbox { told, bytes: Arc::clone(&inbox_bytes) };
    let handle = Handle {
        inbox,
        inbox_bytes,
        waiting: Arc::clone(&waiting),
        committed: committed_heights,
        counters: counted,
    };
    let timers = BTreeMap::new();
    let machine = Machine { host, log, links, clock, timers, committed, counters };
    Ok((handle, tokio::spawn(run(machine, inbox_told, waiting))))
}

/// This machine's clock.
pub fn system_clock() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

async fn run<A: Committer, L: Links>(
    mut machine: Machine<A, L>,
    mut inbox: Inbox,
    waiting: Arc<Notify>,
) -> Result<(), DriverError<A::Error>> {
    machine = step(machine, Event::Start).await?;
    loop {
        let timer = machine.timers.iter().min_by_key(|(_, at)| **at).map(|(id, at)| (*id, *at));
        let event = tokio::select! {
            heard = inbox.next() => match heard {
                Some(Told::Message { from, bytes }) => Event::Message { from, bytes },
                Some(Told::Connected(peer)) => Event::PeerConnected(peer),
                None => return Ok(()),
            },
            () = waiting.notified() => Event::TransactionsWaiting,
            id = fired(timer) => {
                machine.timers.remove(&id);
                Event::Timer(id)
            }
        };
        machine = step(machine, event).await?;
    }
}

async fn fired(timer: Option<(TimerId, Instant)>) -> TimerId {
    match timer {
        Some((id, at)) => {
            tokio::time::sleep_until(at).await;
            id
        }
        None => std::future::pending().await,
    }
}

async fn step<A: Committer, L: Links>(
    mut machine: Machine<A, L>,
    event: Event,
) -> Result<Machine<A, L>, DriverError<A::Error>> {
    let stepped = tokio::task::spawn_blocking(move || machine.give(event).map(|()| machine));
    match stepped.await {
        Ok(stepped) => stepped,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}

impl<A: Committer, L: Links> Machine<A, L> {
    fn give(&mut self, event: Event) -> Result<(), DriverError<A::Error>> {
        let mut actions = VecDeque::from(self.host.on_event((self.clock)(), event));
        while let Some(action) = actions.pop_front() {
            actions.extend(self.carry_out(action)?);
        }
        self.counters.send_if_modified(|counters| {
            std::mem::replace(counters, self.host.counters()) != self.host.counters()
        });
        Ok(())
    }

    /// Carries one action out; a commit is followed by more.
    fn carry_out(&mut self, action: Action) -> Result<Vec<Action>, DriverError<A::Error>> {
        match action {
            Action::Broadcast(bytes) => self.links.broadcast(bytes),
            Action::Send { to, bytes } => self.links.send(to, bytes),
            Action::SetTimer { id, after } => {
                self.timers.insert(id, Instant::now() + after);
            }
            Action::CancelTimer(id) => {
                self.timers.remove(&id);
            }
            Action::AppendWal { height, bytes } => self.log.append(height, bytes),
            Action::FsyncWal => self.log.sync()?,
            Action::ClearWal { height } => self.log.clear(height),
            Action::Commit { block, certificate, origin } => {
                return self.commit(*block, certificate, origin);
            }
            Action::Halt(why) => {
                tracing::error!(%why, "this validator stops for good");
                return Err(why.into());
            }
        }
        Ok(Vec::new())
    }

    fn commit(
        &mut self,
        block: Block,
        certificate: Certificate,
        origin: Origin,
    ) -> Result<Vec<Action>, DriverError<A::Error>> {
        let height = block.header.height;
        self.host
            .application_mut()
            .commit(block, certificate, origin)
            .map_err(|source| DriverError::Commit { height, source })?;
        self.committed.send_replace(height);
        Ok(self.host.on_event((self.clock)(), Event::Committed))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Mutex, OnceLock};
    use std::time::Duration;

    use ihfs_core::crypto::secret::Secret;
    use ihfs_core::ids::ChainId;
    use ihfs_core::ledger::certificate::{Validator, ValidatorSet};

    use super::*;
    use crate::consensus::simulation::toy_ledger::ToyLedger;
    use crate::consensus::{Newest, Rejected};

    const CHAIN: ChainId = ChainId::from_bytes([1; 32]);
    /// Longest that a test waits: far more than consensus on loopback takes on a busy machine.
    const DEADLINE: Duration = Duration::from_secs(60);

    /// A ledger that test and task share, as a node's mempool is shared.
    #[derive(Clone)]
    struct Shared(Arc<Mutex<ToyLedger>>);

    impl Shared {
        fn of(set: &ValidatorSet) -> Self {
            Self(Arc::new(Mutex::new(ToyLedger::new(CHAIN, vec![set.clone()], vec![], &[]))))
        }

        fn submit(&self, transaction: u64) {
            self.0.lock().unwrap().submit(transaction);
        }
    }

    impl Application for Shared {
        fn newest(&self) -> Newest {
            self.0.lock().unwrap().newest()
        }

        fn validators(&self) -> ValidatorSet {
            self.0.lock().unwrap().validators()
        }

        fn has_transactions(&self) -> bool {
            self.0.lock().unwrap().has_transactions()
        }

        fn propose(&mut self, round: u32, now: Time) -> Option<Block> {
            self.0.lock().unwrap().propose(round, now)
        }

        fn validate(&mut self, block: &Block) -> Result<(), Rejected> {
            self.0.lock().unwrap().validate(block)
        }

        fn decided(&self, height: Height) -> Option<(Block, Certificate)> {
            self.0.lock().unwrap().decided(height)
        }
    }

    impl Committer for Shared {
        type Error = Infallible;

        fn commit(&mut self, block: Block, certificate: Certificate, _: Origin) -> Result<(), Infallible> {
            self.0.lock().unwrap().commit(block, certificate);
            Ok(())
        }
    }

    /// Hands messages straight to the other handles.
    struct Loopback {
        me: NodeId,
        peers: Arc<OnceLock<Vec<(NodeId, Handle)>>>,
    }

    impl Links for Loopback {
        fn broadcast(&self, bytes: Bytes) {
            for (node, handle) in self.peers.get().into_iter().flatten() {
                if *node != self.me {
                    handle.deliver(self.me, bytes.clone());
                }
            }
        }

        fn send(&self, to: NodeId, bytes: Bytes) {
            let mut peers = self.peers.get().into_iter().flatten();
            if let Some((_, handle)) = peers.find(|(node, _)| *node == to) {
                handle.deliver(self.me, bytes);
            }
        }
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(Secret::new([seed; 32]))
    }

    fn node(seed: u8) -> NodeId {
        NodeId::from_bytes(key(seed).public())
    }

    fn set_of(seeds: &[u8]) -> ValidatorSet {
        let validator = |seed: &u8| Validator { node: node(*seed), power: 1 };
        ValidatorSet::new(seeds.iter().map(validator).collect()).unwrap()
    }

    async fn wait_for(handle: &Handle, height: u64) {
        let mut committed = handle.committed();
        let reached = committed.wait_for(|newest| newest.0 >= height);
        tokio::time::timeout(DEADLINE, reached).await.expect("in time").expect("the task runs");
    }

    #[tokio::test]
    async fn one_validator_commits_what_is_submitted_and_goes_on_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("consensus.redb");
        let ledger = Shared::of(&set_of(&[1]));
        for life in 1..=3 {
            let links = Loopback { me: node(1), peers: Arc::default() };
            let started = spawn(Config::new(CHAIN), key(1), ledger.clone(), links, &log, system_clock);
            let (handle, task) = started.unwrap();
            ledger.submit(life);
            handle.submitted();
            wait_for(&handle, life).await;
            drop(handle);
            task.await.unwrap().unwrap();
        }
        let (block, certificate) = ledger.decided(Height(3)).unwrap();
        certificate.verify(CHAIN, &set_of(&[1])).unwrap();
        assert_eq!(certificate.block, block.header.id());
    }

    #[tokio::test]
    async fn four_validators_commit_the_same_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let set = set_of(&[1, 2, 3, 4]);
        let peers = Arc::new(OnceLock::new());
        let mut nodes = Vec::new();
        for seed in 1..=4 {
            let ledger = Shared::of(&set);
            let links = Loopback { me: node(seed), peers: Arc::clone(&peers) };
            let log = folder.path().join(format!("{seed}.redb"));
            let started = spawn(Config::new(CHAIN), key(seed), ledger.clone(), links, &log, system_clock);
            nodes.push((ledger, started.unwrap().0));
        }
        let handles = (1..=4).map(node).zip(nodes.iter().map(|(_, handle)| handle.clone()));
        peers.set(handles.collect()).unwrap();
        for height in 1..=5 {
            for (ledger, handle) in &nodes {
                ledger.submit(height);
                handle.submitted();
            }
            for (_, handle) in &nodes {
                wait_for(handle, height).await;
            }
        }
        let blocks = nodes.iter().map(|(ledger, _)| ledger.decided(Height(5)).unwrap().0);
        let ids: std::collections::BTreeSet<_> = blocks.map(|block| block.header.id()).collect();
        assert_eq!(ids.len(), 1);
    }
}
