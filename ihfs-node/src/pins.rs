//! Keeps the store's pins in step with the ledger: replays each new head's delta, after a crash too.
//!
//! What is pinned is a function of the ledger alone, so replaying is always safe. Nothing is collected before
//! everything was replayed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ihfs_core::codec;
use ihfs_core::ids::{ChunkId, RecordId, Time, Version};
use ihfs_core::ledger::lists::{ITEM_BYTES_MAX, ListKey};
use ihfs_core::ledger::news::News;
use ihfs_core::ledger::state::{RecordEntry, StateKey, VersionItem};
use ihfs_core::pins::{DeltaError, DeltaReader, DeltaSummary};
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::ledger::{Ledger, LedgerError};
use crate::store::{PinError, Pins, ReadError, Store, StoreFault};

/// Records whose heads wait to be replayed; beyond it everything is looked through.
const QUEUE_LENGTH_MAX: usize = 4096;
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

/// A delta with the chunks that it is made of.
#[derive(Debug, Default)]
pub(crate) struct WholeDelta {
    /// Chunks added, with their stored bytes.
    pub(crate) added: Vec<(ChunkId, u32)>,
    /// Chunks dropped.
    pub(crate) dropped: Vec<ChunkId>,
    /// The sums over all of it.
    pub(crate) summary: DeltaSummary,
    /// The delta's own chunks.
    pub(crate) chunks: Vec<(ChunkId, u32)>,
}

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

/// Reads a delta whose chunks were uploaded under the record.
pub(crate) fn read_delta(
    store: &Store,
    record: RecordId,
    delta: ChunkId,
) -> Result<WholeDelta, ReadDeltaError> {
    let mut whole = WholeDelta::default();
    let mut take = |part: ihfs_core::pins::DeltaPart| {
        whole.added.extend(part.added.iter().map(|pin| (pin.chunk, pin.size_bytes)));
        whole.dropped.extend(part.dropped.iter().map(|pin| pin.chunk));
    };
    let head = store.read(record, delta)?;
    let mut chunks = vec![(delta, length(&head))];
    let (mut reader, first) = DeltaReader::new(&head)?;
    take(first);
    while let Some(next) = reader.next_part() {
        let bytes = store.read(record, next)?;
        chunks.push((next, length(&bytes)));
        take(reader.part(&bytes)?);
    }
    whole.summary = reader.finish()?;
    whole.chunks = chunks;
    Ok(whole)
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
    clock: fn() -> Time,
    heads: mpsc::Sender<RecordId>,
    is_behind: watch::Sender<bool>,
    /// Whether the last look through all records left nothing out, and nothing failed since.
    is_whole: AtomicBool,
    last_error: Mutex<Option<String>>,
    /// How often records were brought in step.
    rounds: watch::Sender<u64>,
}

impl Pinning {
    /// Starts to follow the ledger; what was missed is replayed by [`Self::run`].
    pub fn follow(
        ledger: &Arc<Ledger>,
        store: Store,
        clock: fn() -> Time,
    ) -> (Arc<Self>, mpsc::Receiver<RecordId>) {
        let (heads, waiting) = mpsc::channel(QUEUE_LENGTH_MAX);
        let is_behind = watch::Sender::new(true);
        let last_error = Mutex::default();
        let pinning = Arc::new(Self {
            ledger: Arc::clone(ledger),
            store,
            clock,
            heads,
            is_behind,
            is_whole: AtomicBool::new(false),
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
                    Some(record) => self.blocking(move |pinning| pinning.replay(record)).await,
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
            tracing::error!(error = &error as &dyn std::error::Error, "pins");
            let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some(error.to_string());
        }
    }

    /// Brings the pins of all records in step. One that fails does not stop the others, but collecting.
    fn replay_all(&self) -> Result<(), ReplayError> {
        self.is_behind.send_replace(false);
        let (mut after, mut failed) = (None, None);
        loop {
            let ids = self.ledger.snapshot().ids(RECORD_TAG, after, STEP)?;
            for id in &ids {
                if let Err(error) = self.replay(RecordId::from_bytes(*id)) {
                    failed = Some(error);
                }
            }
            match ids.last() {
                Some(last) => after = Some(*last),
                None => break,
            }
        }
        match failed {
            Some(error) => Err(error),
            None => {
                self.store.pins_replayed()?;
                self.is_whole.store(true, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// Replays the deltas of a record that the store does not have yet.
    fn replay(&self, record: RecordId) -> Result<(), ReplayError> {
        let snapshot = self.ledger.snapshot();
        let Some(entry) = snapshot.read::<RecordEntry>(&StateKey::Record(record))? else { return Ok(()) };
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

    fn pin(&self, entry: &RecordEntry, record: RecordId, item: &VersionItem) -> Result<(), ReplayError> {
        let failed = |source| ReplayError::Delta { record, version: item.version, source };
        let delta = read_delta(&self.store, record, item.delta).map_err(failed)?;
        let root = self.store.read(record, item.root).map_err(|error| failed(error.into()))?;
        let mut added = delta.added;
        added.extend(delta.chunks);
        added.push((item.root, length(&root)));
        // A grantee only adds, whatever his delta says.
        let dropped = if item.author == entry.owner { delta.dropped } else { Vec::new() };
        Ok(self.store.pin(record, item.version, &added, &dropped)?)
    }

    fn collect(&self) -> Result<(), ReplayError> {
        if !self.is_whole.load(Ordering::Relaxed) {
            // What failed is tried again, and nothing is collected until it is made good.
            self.is_behind.send_replace(true);
            return Ok(());
        }
        let collected = self.store.collect((self.clock)(), COLLECT_LIMIT)?;
        tracing::debug!(?collected, "collected");
        Ok(())
    }
}
