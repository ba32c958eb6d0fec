//! Keeps the store's pins in step with the ledger: replays each new head's delta, after a crash too.
//!
//! What is pinned is a function of the ledger alone, so replaying is always safe. Nothing is collected before
//! everything was looked at, and nothing of a record whose deltas could not be replayed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ihfs_core::codec;
use ihfs_core::ids::{ChunkId, NodeId, RecordId, Time, Version};
use ihfs_core::ledger::lists::{ITEM_BYTES_MAX, ListKey};
use ihfs_core::ledger::news::News;
use ihfs_core::ledger::state::{RecordEntry, StateKey, VersionItem};
use ihfs_core::pins::{DeltaError, DeltaReader, DeltaSummary};
use ihfs_core::placement::{Placement, PlacementRule};
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::ledger::{Ledger, LedgerError, Snapshot};
use crate::store::{PinError, Pins, ReadError, Store, StoreFault};

/// Records whose heads wait to be replayed; beyond it everything is looked through.
const QUEUE_LENGTH_MAX: usize = 4096;
/// Most records that are held back from collection; with more, nothing is collected.
const HELD_MAX: usize = 65_536;
/// Records looked at in one step of a full pass.
const STEP: usize = 256;
/// Bytes of list items read at once.
const ITEMS_BYTES: usize = 64 << 10;
/// How often the store gives space back.
const COLLECT_EVERY: Duration = Duration::from_secs(600);
/// Chunks that one collection looks at.
const COLLECT_LIMIT: usize = 10_000;
/// Tag of records among the keys of the state.
const RECORD_TAG: u8 = 10;

/// Why a delta is not to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadDeltaError {
    /// One of its chunks is not here.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is not well formed.
    #[error(transparent)]
    Delta(#[from] DeltaError),
}

/// A part of a delta, with the chunk that it stood in.
#[derive(Debug, Default)]
pub(crate) struct ReadPart {
    /// Chunks added, with their stored bytes.
    pub(crate) added: Vec<(ChunkId, u32)>,
    /// Chunks dropped.
    pub(crate) dropped: Vec<ChunkId>,
    /// The part's own chunk, which the delta does not list.
    pub(crate) chunk: Option<(ChunkId, u32)>,
}

/// Reads a delta whose chunks were uploaded under the record, a part at a time: a member chooses how long it is, and
/// whole it may not fit the memory.
pub(crate) struct DeltaParts<'a> {
    store: &'a Store,
    record: RecordId,
    next: Option<ChunkId>,
    reader: Option<DeltaReader>,
    summary: DeltaSummary,
}

impl<'a> DeltaParts<'a> {
    pub(crate) fn new(store: &'a Store, record: RecordId, delta: ChunkId) -> Self {
        Self { store, record, next: Some(delta), reader: None, summary: DeltaSummary::default() }
    }

    /// The sums over all of it, once all was read.
    pub(crate) const fn summary(&self) -> DeltaSummary {
        self.summary
    }

    /// The next part; none once all was read and adds up.
    pub(crate) fn next_part(&mut self) -> Result<Option<ReadPart>, ReadDeltaError> {
        let Some(id) = self.next else {
            if let Some(reader) = self.reader.take() {
                self.summary = reader.finish()?;
            }
            return Ok(None);
        };
        let bytes = self.store.read(self.record, id)?;
        let part = match &mut self.reader {
            Some(reader) => reader.part(&bytes)?,
            None => {
                let (reader, first) = DeltaReader::new(&bytes)?;
                self.reader = Some(reader);
                first
            }
        };
        self.next = self.reader.as_ref().and_then(DeltaReader::next_part);
        let added = part.added.iter().map(|pin| (pin.chunk, pin.size_bytes)).collect();
        let dropped = part.dropped.iter().map(|pin| pin.chunk).collect();
        Ok(Some(ReadPart { added, dropped, chunk: Some((id, length(&bytes))) }))
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("chunks are far below 4 GiB")
}

/// Why pins could not be brought in step.
#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    State(#[from] ihfs_core::ledger::state::StateError),
    #[error("an item of the versions of record {record:?} is damaged")]
    DamagedItem { record: RecordId },
    #[error("the delta of version {version} of record {record:?}")]
    Delta { record: RecordId, version: Version, source: ReadDeltaError },
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// The worker that keeps pins in step.
pub struct Pinning {
    ledger: Arc<Ledger>,
    store: Store,
    node: NodeId,
    clock: fn() -> Time,
    heads: mpsc::Sender<RecordId>,
    is_behind: watch::Sender<bool>,
    /// Whether the last look through all records came to its end, and the ledger could be read since.
    is_whole: AtomicBool,
    /// Records whose deltas could not be replayed: nothing of them is collected.
    held: Mutex<BTreeSet<RecordId>>,
    last_error: Mutex<Option<String>>,
    /// How often records were brought in step.
    rounds: watch::Sender<u64>,
}

impl Pinning {
    /// Starts to follow the ledger; what was missed is replayed by [`Self::run`].
    pub fn follow(
        ledger: &Arc<Ledger>,
        store: Store,
        node: NodeId,
        clock: fn() -> Time,
    ) -> (Arc<Self>, mpsc::Receiver<RecordId>) {
        let (heads, waiting) = mpsc::channel(QUEUE_LENGTH_MAX);
        let is_behind = watch::Sender::new(true);
        let last_error = Mutex::default();
        let pinning = Arc::new(Self {
            ledger: Arc::clone(ledger),
            store,
            node,
            clock,
            heads,
            is_behind,
            is_whole: AtomicBool::new(false),
            held: Mutex::default(),
            last_error,
            rounds: watch::Sender::new(0),
        });
        let follower = Arc::downgrade(&pinning);
        ledger.on_decided(move |decided| {
            let Some(pinning) = follower.upgrade() else { return };
            for news in &decided.news {
                if let News::Head { record, .. } = news {
                    // A full queue is no loss: the ledger is then looked through.
                    if pinning.heads.try_send(*record).is_err() {
                        pinning.is_behind.send_replace(true);
                    }
                }
            }
        });
        (pinning, waiting)
    }

    /// Waits until the record pins this version.
    ///
    /// # Errors
    /// [`StoreFault`].
    pub async fn wait_for(&self, record: RecordId, version: Version) -> Result<Pins, StoreFault> {
        let mut rounds = self.rounds.subscribe();
        loop {
            let pins = self.store.pins(record)?;
            // The sender is ours: it is never gone.
            if pins.version >= version || rounds.changed().await.is_err() {
                return Ok(pins);
            }
        }
    }

    /// The last fault, in words.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Works until the task is ended.
    pub async fn run(self: Arc<Self>, mut waiting: mpsc::Receiver<RecordId>) {
        let mut behind = self.is_behind.subscribe();
        let mut collect = tokio::time::interval(COLLECT_EVERY);
        collect.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if *behind.borrow_and_update() {
                self.blocking(Self::replay_all).await;
            }
            tokio::select! {
                record = waiting.recv() => match record {
                    Some(record) => self.blocking(move |pinning| pinning.replay_or_hold(record)).await,
                    None => return,
                },
                changed = behind.changed() => if changed.is_err() { return },
                _ = collect.tick() => self.blocking(Self::collect).await,
            }
        }
    }

    async fn blocking(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<(), ReplayError> + Send + 'static,
    ) {
        let pinning = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&pinning)).await;
        self.rounds.send_modify(|rounds| *rounds += 1);
        if let Ok(Err(error)) = done {
            self.is_whole.store(false, Ordering::Relaxed);
            self.tell(&error);
        }
    }

    fn tell(&self, error: &ReplayError) {
        tracing::error!(error = error as &dyn std::error::Error, "pins");
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(error.to_string());
    }

    /// Brings the pins of all records in step.
    fn replay_all(&self) -> Result<(), ReplayError> {
        self.is_behind.send_replace(false);
        let mut after = None;
        loop {
            let ids = self.ledger.snapshot().ids(RECORD_TAG, after, STEP)?;
            for id in &ids {
                self.replay_or_hold(RecordId::from_bytes(*id))?;
            }
            match ids.last() {
                Some(last) => after = Some(*last),
                None => break,
            }
        }
        self.store.pins_replayed()?;
        self.is_whole.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Brings the pins of a record in step. One that fails is told of, and holds back its own collection alone.
    fn replay_or_hold(&self, record: RecordId) -> Result<(), ReplayError> {
        let replayed = self.replay(record);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let error = match replayed {
            Ok(()) => {
                held.remove(&record);
                return Ok(());
            }
            Err(error) => error,
        };
        if held.len() >= HELD_MAX && !held.contains(&record) {
            return Err(error);
        }
        held.insert(record);
        self.tell(&error);
        Ok(())
    }

    /// Replays the deltas of a record that the store does not have yet.
    fn replay(&self, record: RecordId) -> Result<(), ReplayError> {
        let snapshot = self.ledger.snapshot();
        let Some(entry) = snapshot.read::<RecordEntry>(&StateKey::Record(record))? else { return Ok(()) };
        // Of a record of other nodes there is nothing here to pin.
        if !self.is_placed(&snapshot, record, &entry)? && !self.store.holds_any(record)? {
            return Ok(());
        }
        loop {
            // Versions count from 1, items from 0.
            let from = self.store.pins(record)?.version.0;
            let items = snapshot.items(ListKey::Versions(record), from, u64::MAX, ITEMS_BYTES)?;
            if items.is_empty() {
                return Ok(());
            }
            for item in items {
                let item: VersionItem =
                    codec::decode(&item, ITEM_BYTES_MAX).map_err(|_| ReplayError::DamagedItem { record })?;
                self.pin(&entry, record, &item)?;
            }
        }
    }

    fn is_placed(
        &self,
        snapshot: &Snapshot,
        record: RecordId,
        entry: &RecordEntry,
    ) -> Result<bool, ReplayError> {
        let placement: Placement = snapshot.must(&StateKey::Placement)?;
        let policy = snapshot.consortium()?.policy;
        let rule = PlacementRule { home: entry.home, regions: &policy.regions };
        Ok(placement.replicas(record, usize::from(policy.replicas), &rule).contains(&self.node))
    }

    fn pin(&self, entry: &RecordEntry, record: RecordId, item: &VersionItem) -> Result<(), ReplayError> {
        let failed = |source| ReplayError::Delta { record, version: item.version, source };
        // A grantee only adds, whatever his delta says.
        let drops = item.author == entry.owner;
        let mut parts = DeltaParts::new(&self.store, record, item.delta);
        let mut last = ReadPart::default();
        while let Some(part) = parts.next_part().map_err(failed)? {
            let part = ReadPart {
                added: part.added.into_iter().chain(part.chunk).collect(),
                dropped: if drops { part.dropped } else { Vec::new() },
                chunk: None,
            };
            let done = std::mem::replace(&mut last, part);
            if !done.added.is_empty() {
                self.store.pin_part(record, item.version, &done.added, &done.dropped)?;
            }
        }
        let root = self.store.read(record, item.root).map_err(|error| failed(error.into()))?;
        last.added.push((item.root, length(&root)));
        Ok(self.store.pin(record, item.version, &last.added, &last.dropped)?)
    }

    fn collect(&self) -> Result<(), ReplayError> {
        if !self.is_whole.load(Ordering::Relaxed) {
            // What failed is tried again, and nothing is collected until it is made good.
            self.is_behind.send_replace(true);
            return Ok(());
        }
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !held.is_empty() {
            // What failed is tried again, before the next collection.
            self.is_behind.send_replace(true);
        }
        let collected = self.store.collect_but((self.clock)(), COLLECT_LIMIT, held)?;
        tracing::debug!(?collected, "collected");
        Ok(())
    }
}
