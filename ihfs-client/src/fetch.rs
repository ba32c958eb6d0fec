//! Fetching chunks: verified against their address, kept in memory for a while, asked for ahead of time.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use ihfs_core::ids::{ChunkId, NodeId, RecordId};
use ihfs_core::sealed::{OpenError, SealedChunk};
use ihfs_core::tree::ChunkSource;
use ihfs_proto::chunk;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::call::{Call, Cancelled};
use crate::link::{AskError, Link};
use crate::retry::{Pauses, may_pass};

/// Most bytes of chunks kept in memory: the pages of a large folder and a window of prefetched content.
const KEPT_BYTES_MAX: usize = 24 << 20;
/// Most chunks asked for ahead of time.
pub const PREFETCH_MAX: usize = 12;
/// How long a reader waits for a chunk that another thread asked for: longer than any answer takes.
const WAIT_MAX: Duration = Duration::from_secs(90);

/// Why a chunk was not had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// No replica gave it; the last one's reason.
    #[error("chunk {id:?} could not be fetched: {reason}")]
    Ask {
        /// The chunk.
        id: ChunkId,
        /// The last replica's error.
        reason: Arc<AskError>,
    },
    /// What came is not the chunk.
    #[error(transparent)]
    Damaged(Arc<OpenError>),
    /// It did not come in time.
    #[error("chunk {id:?} did not come in time")]
    TimedOut {
        /// The chunk.
        id: ChunkId,
    },
    /// Nobody waits for it any more.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Chunks of one record from its replicas. Clones share what they hold.
#[derive(Clone)]
pub struct Fetcher {
    shared: Arc<Shared>,
    call: Call,
}

struct Shared {
    /// Under no call: what one asked for may be there for the next.
    link: Link,
    record: RecordId,
    replicas: Vec<NodeId>,
    kept: Mutex<Kept>,
    arrived: Notify,
}

#[derive(Default)]
struct Kept {
    chunks: BTreeMap<ChunkId, Slot>,
    /// In the order of arrival, oldest first.
    order: VecDeque<ChunkId>,
    bytes: usize,
}

enum Slot {
    OnItsWay,
    Here(Result<Arc<SealedChunk>, FetchError>),
}

impl Fetcher {
    /// Fetches chunks of `record` from `replicas`, the first first. Waits as long as the call of `link` allows.
    pub fn new(link: &Link, record: RecordId, replicas: Vec<NodeId>) -> Self {
        let (kept, arrived, call) = (Mutex::default(), Notify::new(), link.call().clone());
        let link = link.under(Call::default());
        Self { shared: Arc::new(Shared { link, record, replicas, kept, arrived }), call }
    }

    /// The same chunks, waited for under `call`.
    #[must_use]
    pub fn under(&self, call: Call) -> Self {
        Self { shared: self.shared.clone(), call }
    }

    /// Asks for chunks that will be read soon, and returns at once.
    pub fn prefetch(&self, ids: impl IntoIterator<Item = ChunkId>) {
        for id in ids {
            self.start(id);
        }
    }

    /// Takes a chunk in that this device made itself.
    pub fn keep(&self, chunk: SealedChunk) {
        self.shared.kept().insert(chunk.id(), Ok(Arc::new(chunk)));
    }

    fn start(&self, id: ChunkId) {
        let mut kept = self.shared.kept();
        if kept.chunks.contains_key(&id) {
            return;
        }
        kept.chunks.insert(id, Slot::OnItsWay);
        drop(kept);
        let shared = self.shared.clone();
        self.shared.link.runtime().spawn(async move {
            let fetched = shared.fetch(id).await;
            shared.kept().insert(id, fetched);
            shared.arrived.notify_waiters();
        });
    }

    /// Waits for a chunk, which is asked for again when it came and had to make room before this one looked.
    async fn arrive(&self, id: ChunkId) -> Result<Arc<SealedChunk>, FetchError> {
        loop {
            let mut arrived = pin!(self.shared.arrived.notified());
            // From here on no arrival is missed.
            arrived.as_mut().enable();
            self.start(id);
            if let Some(fetched) = self.shared.kept().get(id) {
                return fetched;
            }
            arrived.await;
        }
    }
}

impl Shared {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no panic while it is held")
    }

    /// From the first replica that gives it; from all again where the network carried none of the questions.
    async fn fetch(&self, id: ChunkId) -> Result<Arc<SealedChunk>, FetchError> {
        let mut pauses = Pauses::under(self.link.call());
        loop {
            let fetched = self.fetch_once(id).await;
            match &fetched {
                Err(FetchError::Ask { reason, .. }) if may_pass(reason) => {}
                _ => return fetched,
            }
            if !pauses.pause().await {
                return fetched;
            }
        }
    }

    async fn fetch_once(&self, id: ChunkId) -> Result<Arc<SealedChunk>, FetchError> {
        let mut last = FetchError::Ask { id, reason: Arc::new(AskError::NoNode) };
        for node in &self.replicas {
            match self.fetch_from(*node, id).await {
                Ok(chunk) => return Ok(Arc::new(chunk)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn fetch_from(&self, node: NodeId, id: ChunkId) -> Result<SealedChunk, FetchError> {
        let get = chunk::Get { chunk: id.as_bytes().to_vec().into() };
        let request = chunk::Request {
            record: self.record.as_bytes().to_vec().into(),
            nonce: Bytes::new(),
            request: Some(chunk::request::Request::Get(get)),
        };
        let asked = self.link.ask_chunk(node, request, Bytes::new()).await;
        let (_, body) = asked.map_err(|reason| FetchError::Ask { id, reason: Arc::new(reason) })?;
        // Hashing 1 MiB takes half a millisecond: no longer than a task may hold its thread.
        SealedChunk::verify(id, body.into()).map_err(|error| FetchError::Damaged(Arc::new(error)))
    }
}

impl Kept {
    /// What came of a chunk. A failure is told once: the next one who asks tries again.
    fn get(&mut self, id: ChunkId) -> Option<Result<Arc<SealedChunk>, FetchError>> {
        let Some(Slot::Here(fetched)) = self.chunks.get(&id) else { return None };
        let fetched = fetched.clone();
        if fetched.is_err() {
            self.chunks.remove(&id);
        }
        Some(fetched)
    }

    fn insert(&mut self, id: ChunkId, fetched: Result<Arc<SealedChunk>, FetchError>) {
        if let Ok(chunk) = &fetched {
            self.bytes += chunk.bytes().len();
        }
        if let Some(Slot::Here(Ok(old))) = self.chunks.insert(id, Slot::Here(fetched)) {
            self.bytes -= old.bytes().len();
            return;
        }
        self.order.push_back(id);
        while self.bytes > KEPT_BYTES_MAX && self.order.len() > 1 {
            let oldest = self.order.pop_front().expect("more than one");
            if let Some(Slot::Here(Ok(old))) = self.chunks.remove(&oldest) {
                self.bytes -= old.bytes().len();
            }
        }
    }
}

impl ChunkSource for Fetcher {
    type Error = FetchError;

    fn chunk(&self, id: ChunkId) -> Result<Arc<SealedChunk>, FetchError> {
        let work = async { timeout(self.call.left(WAIT_MAX), self.arrive(id)).await };
        match self.shared.link.runtime().block_on(self.call.unless_cancelled(work))? {
            Ok(fetched) => fetched,
            Err(_) => Err(FetchError::TimedOut { id }),
        }
    }
}
