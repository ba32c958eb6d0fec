//! Uploading chunks: asks a node what it has, sends the rest, many at once with bounded memory, and gets the
//! node's receipt for all of it.

use std::sync::Arc;

use bytes::Bytes;
use ihfs_core::codec::{self, DecodeError};
use ihfs_core::crypto::sign::BadSignature;
use ihfs_core::ids::{ChainId, ChunkId, NodeId, RecordId};
use ihfs_core::pins::{Delta, DeltaError, DeltaSummary};
use ihfs_core::receipt::{RECEIPT_BYTES_MAX, Receipt, ReceiptSubject};
use ihfs_core::sealed::SealedChunk;
use ihfs_proto::chunk;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::link::{AskError, Link};
use crate::retry::{Pauses, may_pass};

/// Bytes that may be on their way at once: enough for 12 full chunks, which fill a link of 1 Gbit/s at 80 ms.
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;
/// Chunks of one question to a node.
const BATCH_CHUNKS_MAX: usize = 64;
/// Bytes of chunks of one question: three batches fit what may be in flight.
const BATCH_BYTES_MAX: usize = 5 << 20;

/// Why an upload did not come about.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Too few replicas could be reached, or one refuses.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The receipt does not decode.
    #[error("the receipt of node {node:?} does not decode")]
    Receipt {
        /// Who gave it.
        node: NodeId,
        /// Why.
        source: DecodeError,
    },
    /// The receipt is not one for this upload.
    #[error("the receipt of node {node:?} is for something else")]
    WrongReceipt {
        /// Who gave it.
        node: NodeId,
    },
    /// The upload names more chunks than one version may.
    #[error(transparent)]
    Delta(#[from] DeltaError),
}

/// Uploads what one commit makes, under one record.
pub struct Uploader {
    link: Link,
    about: About,
    replicas: Vec<NodeId>,
    room: Arc<Semaphore>,
    batch: Vec<Waiting>,
    batch_bytes: usize,
    tasks: JoinSet<Result<u64, AskError>>,
    delta: Delta,
    sent_bytes: u64,
}

/// What nodes are told of the record that an upload is for.
#[derive(Clone)]
struct About {
    record: RecordId,
    /// Of a record that comes with the upload's commit; else empty.
    nonce: Bytes,
}

impl About {
    fn ask(&self, request: chunk::request::Request) -> chunk::Request {
        let record = self.record.as_bytes().to_vec().into();
        chunk::Request { record, nonce: self.nonce.clone(), request: Some(request) }
    }
}

/// A chunk that is to be sent, and the room that it takes. Its bytes are shared by all who send them.
struct Waiting {
    id: ChunkId,
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// What an upload came to.
#[derive(Debug)]
pub struct Uploaded {
    /// The head of the delta.
    pub delta: ChunkId,
    /// Bytes that the delta adds.
    pub added_bytes: u64,
    /// Bytes that it drops.
    pub dropped_bytes: u64,
    /// Bytes that really crossed the network.
    pub sent_bytes: u64,
    /// The replicas' receipts.
    pub receipts: Vec<Receipt>,
}

impl Uploader {
    /// Uploads under `record` to `replicas`; with its nonce if the upload's commit creates it.
    pub fn new(link: Link, record: RecordId, nonce: Option<[u8; 32]>, replicas: Vec<NodeId>) -> Self {
        let nonce = nonce.map(|nonce| nonce.to_vec().into()).unwrap_or_default();
        Self {
            link,
            about: About { record, nonce },
            replicas,
            room: Arc::new(Semaphore::new(IN_FLIGHT_BYTES_MAX)),
            batch: Vec::new(),
            batch_bytes: 0,
            tasks: JoinSet::new(),
            delta: Delta::default(),
            sent_bytes: 0,
        }
    }

    /// Adds a chunk to the commit and sends it unless the replicas have it. Waits while too much is in flight.
    ///
    /// # Errors
    /// [`UploadError::Ask`] of this chunk or an earlier one.
    pub fn push(&mut self, chunk: SealedChunk) -> Result<(), UploadError> {
        let size = chunk.bytes().len();
        let known = self.delta.added.insert(chunk.id(), u32::try_from(size).expect("chunks are small"));
        if known.is_some() {
            return Ok(());
        }
        let permits = u32::try_from(size).expect("chunks are small");
        let permit = match self.room.clone().try_acquire_many_owned(permits) {
            Ok(permit) => permit,
            Err(_) => {
                // What waits in the batch holds room too, so it must go first.
                self.flush()?;
                let room = self.room.clone().acquire_many_owned(permits);
                self.link.runtime().block_on(room).expect("the semaphore is never closed")
            }
        };
        self.batch.push(Waiting { id: chunk.id(), bytes: chunk.into_bytes().into(), _room: permit });
        self.batch_bytes += size;
        if self.batch.len() >= BATCH_CHUNKS_MAX || self.batch_bytes >= BATCH_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// Names a chunk that stands under another record of the same owner already.
    pub fn reuse(&mut self, chunk: ChunkId, size_bytes: u32) {
        self.delta.added.insert(chunk, size_bytes);
    }

    /// Names a chunk that the record no longer needs. Only its owner may.
    pub fn drop_chunk(&mut self, chunk: ChunkId, size_bytes: u32) {
        self.delta.dropped.insert(chunk, size_bytes);
    }

    /// The chunks that the commit names so far, with their stored bytes.
    pub(crate) fn added(&self) -> Vec<(ChunkId, u32)> {
        self.delta.added.iter().map(|(chunk, size)| (*chunk, *size)).collect()
    }

    /// Whether nothing was added or dropped.
    pub fn is_empty(&self) -> bool {
        self.delta.added.is_empty() && self.delta.dropped.is_empty()
    }

    /// Sends the rest and the delta, and gets receipts. `sources`: other records that reused chunks come from.
    ///
    /// # Errors
    /// [`UploadError`].
    pub fn finish(
        mut self,
        chain: ChainId,
        root: SealedChunk,
        sources: &[RecordId],
    ) -> Result<Uploaded, UploadError> {
        let root_id = root.id();
        self.push(root)?;
        let mut delta_id = None;
        let DeltaSummary { added_bytes, dropped_bytes, .. } = self.delta.summary();
        for chunk in self.delta.encode()? {
            delta_id = Some(chunk.id);
            let sealed =
                SealedChunk::verify(chunk.id, chunk.bytes).expect("a delta names its own chunks right");
            self.push_unlisted(sealed)?;
        }
        self.flush()?;
        self.drain()?;
        let delta = delta_id.expect("a delta has a head");
        let subject = ReceiptSubject {
            chain,
            record: self.about.record,
            delta,
            root: root_id,
            bytes_added: added_bytes,
            bytes_dropped: dropped_bytes,
        };
        let receipts = self.vouch(&subject, sources)?;
        Ok(Uploaded { delta, added_bytes, dropped_bytes, sent_bytes: self.sent_bytes, receipts })
    }

    /// The delta's own chunks are not named by it.
    fn push_unlisted(&mut self, chunk: SealedChunk) -> Result<(), UploadError> {
        let delta = std::mem::take(&mut self.delta);
        let pushed = self.push(chunk);
        self.delta = delta;
        pushed
    }

    /// Sends the batch in the background.
    pub(crate) fn flush(&mut self) -> Result<(), UploadError> {
        while let Some(done) = self.tasks.try_join_next() {
            self.sent_bytes += done.expect("uploads do not panic")?;
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = Arc::new(std::mem::take(&mut self.batch));
        self.batch_bytes = 0;
        for node in self.replicas.clone() {
            let (link, about, batch) = (self.link.clone(), self.about.clone(), batch.clone());
            self.tasks
                .spawn_on(async move { send_batch(&link, node, &about, &batch).await }, self.link.runtime());
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), UploadError> {
        while let Some(done) = self.link.runtime().clone().block_on(self.tasks.join_next()) {
            self.sent_bytes += done.expect("uploads do not panic")?;
        }
        Ok(())
    }

    fn vouch(&self, subject: &ReceiptSubject, sources: &[RecordId]) -> Result<Vec<Receipt>, UploadError> {
        let vouch = chunk::Vouch {
            delta: subject.delta.as_bytes().to_vec().into(),
            root: subject.root.as_bytes().to_vec().into(),
            sources: sources.iter().flat_map(|record| *record.as_bytes()).collect::<Vec<_>>().into(),
        };
        let request = self.about.ask(chunk::request::Request::Vouch(vouch));
        self.replicas.iter().map(|node| self.receipt(*node, request.clone(), subject)).collect()
    }

    fn receipt(
        &self,
        node: NodeId,
        request: chunk::Request,
        subject: &ReceiptSubject,
    ) -> Result<Receipt, UploadError> {
        let asked = ask(&self.link, node, request, Bytes::new());
        let (response, _) = self.link.runtime().block_on(asked)?;
        let chunk::response::Response::Receipt(bytes) = response else {
            return Err(AskError::Malformed { node }.into());
        };
        let receipt: Receipt = codec::decode(&bytes, RECEIPT_BYTES_MAX)
            .map_err(|source| UploadError::Receipt { node, source })?;
        match receipt.verify(subject) {
            Ok(()) if receipt.node == node => Ok(receipt),
            Ok(()) | Err(BadSignature) => Err(UploadError::WrongReceipt { node }),
        }
    }
}

/// Asks until the network carries it: to ask twice what a node has, to send it the same chunk and to have it vouch for
/// the same change come to what once does.
async fn ask(
    link: &Link,
    node: NodeId,
    request: chunk::Request,
    body: Bytes,
) -> Result<(chunk::response::Response, Bytes), AskError> {
    let mut pauses = Pauses::under(link.call());
    loop {
        let asked = link.ask_chunk(node, request.clone(), body.clone()).await;
        match &asked {
            Err(error) if may_pass(error) => {}
            _ => return asked,
        }
        if !pauses.pause().await {
            return asked;
        }
    }
}

/// Sends what `node` does not have of the batch; gives the bytes sent.
async fn send_batch(link: &Link, node: NodeId, about: &About, batch: &[Waiting]) -> Result<u64, AskError> {
    let ids: Vec<u8> = batch.iter().flat_map(|waiting| *waiting.id.as_bytes()).collect();
    let has = chunk::request::Request::Has(chunk::Has { chunks: ids.into() });
    let (response, _) = ask(link, node, about.ask(has), Bytes::new()).await?;
    let chunk::response::Response::Has(bits) = response else { return Err(AskError::Malformed { node }) };
    let missing = batch.iter().enumerate().filter(|(place, _)| !is_set(&bits, *place));
    let put = |waiting: &Waiting| {
        let request = about.ask(chunk::request::Request::Put(chunk::Put {}));
        let (id, body) = (waiting.id, waiting.bytes.clone());
        async move {
            match ask(link, node, request, body).await? {
                (chunk::response::Response::Stored(stored), _) if stored.as_ref() == id.as_bytes() => Ok(()),
                _ => Err(AskError::Malformed { node }),
            }
        }
    };
    let mut sent = 0;
    let mut puts = Vec::new();
    for (_, waiting) in missing {
        sent += waiting.bytes.len() as u64;
        puts.push(put(waiting));
    }
    futures::future::try_join_all(puts).await?;
    Ok(sent)
}

fn is_set(bits: &[u8], place: usize) -> bool {
    bits.get(place / 8).is_some_and(|byte| byte >> (place % 8) & 1 == 1)
}
