//! The chunk store of a node: sealed chunks in, the same bytes out, nothing acknowledged ever lost.
//!
//! Chunks lie in append-only [`segment`] files; an index says where, and which record may have them. The store
//! knows neither members nor grants nor keys: who may ask for a record is decided by the caller.
//!
//! Order of writes: bytes into a segment → segment durable → index durable → [`Store::sync`] returns → the
//! caller signs its receipt. All calls block; an async server makes them from its blocking pool.

mod collect;
mod disk;
mod index;
mod recover;
pub mod segment;
mod writer;

#[cfg(test)]
pub(crate) mod sim_disk;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use ihfs_core::ids::{ChunkId, RecordId, Time, Version};

use collect::Collecting;
use disk::{Disk, DiskFile, Folder};
use index::{Binding, Index, Location, PinRequest, Snapshot, StoredChunk};
use segment::{CHUNK_BYTES_MAX, ENTRY_HEADER_BYTES, Place, segment_name};
use writer::{Command, Writer};

pub use collect::{Collected, Scrubbed};

/// Uploads without a receipt are kept this long: a week, so that an interrupted upload can go on.
pub const UPLOAD_KEEP_MILLIS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Calls that wait for the writer at most, each with up to one chunk: 17 MiB in flight.
const QUEUE_LENGTH_MAX: usize = 16;
/// Segment files held open for reading: far below the usual limit of 1024 files of a process.
const OPEN_FILES_MAX: usize = 128;
/// A chunk that compaction moves away is found again at its new place: once is enough, unless it is moved twice.
const LOOKUPS_MAX: usize = 3;

/// How a store is laid out and what it may take.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Bytes of a segment, preallocated. Larger ones make fewer files, smaller ones free space sooner.
    pub segment_size_bytes: u64,
    /// Memory that the index may use as a cache, in bytes.
    pub index_cache_bytes: usize,
    /// Bytes of the file system that are left alone: uploads are refused before they are touched. Half of
    /// it serves the store's own work (index, receipts, compaction), which must go on when the disk is full.
    pub reserve_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { segment_size_bytes: 64 << 20, index_cache_bytes: 8 << 20, reserve_bytes: 512 << 20 }
    }
}

/// A fault below the store: what was tried did not happen, and may be tried again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreFault {
    /// The medium or the file system failed.
    #[error("the store's disk failed")]
    Disk(#[source] Arc<io::Error>),
    /// The index failed.
    #[error("the store's index failed")]
    Index(#[source] Arc<redb::Error>),
    /// The thread that writes has ended.
    #[error("the store is closed")]
    Stopped,
}

impl From<io::Error> for StoreFault {
    fn from(error: io::Error) -> Self {
        Self::Disk(Arc::new(error))
    }
}

impl From<redb::Error> for StoreFault {
    fn from(error: redb::Error) -> Self {
        Self::Index(Arc::new(error))
    }
}

/// The disk has no room for what was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk is full: {needed_bytes} bytes needed, {free_bytes} free, of which {reserve_bytes} are reserved"
)]
pub struct DiskFull {
    /// Bytes that have to be free beside the reserve.
    pub needed_bytes: u64,
    /// Bytes that are free, the reserve among them.
    pub free_bytes: u64,
    /// Bytes of the reserve that this write may not touch.
    pub reserve_bytes: u64,
}

/// Why a store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// Another process has it open.
    #[error("another process has the store in {path} open")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A file is of a format that this version does not know. Nothing was changed.
    #[error("{file} has format version {found}, this program knows {known}")]
    UnknownFormat {
        /// Name of the file.
        file: String,
        /// Version found in it.
        found: u64,
        /// The one version known.
        known: u64,
    },
    /// Disk or index failed.
    #[error(transparent)]
    Fault(#[from] StoreFault),
}

/// Why a chunk was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Longer than a chunk may be.
    #[error("a chunk has at most {CHUNK_BYTES_MAX} bytes, found {found}")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// There is no room; reads go on, and writes too once there is room.
    #[error(transparent)]
    DiskFull(#[from] DiskFull),
    /// Disk or index failed.
    #[error(transparent)]
    Fault(#[from] StoreFault),
}

/// Why chunks were not bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The other record does not have this chunk; nothing was bound.
    #[error("record {from:?} has no chunk {id:?} to bind")]
    Missing {
        /// The record that should have it.
        from: RecordId,
        /// The chunk.
        id: ChunkId,
    },
    /// There is no room.
    #[error(transparent)]
    DiskFull(#[from] DiskFull),
    /// Disk or index failed.
    #[error(transparent)]
    Fault(#[from] StoreFault),
}

/// Why chunks are not known to be durable.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// This chunk is not here under the record, or is damaged: it has to be uploaded again.
    #[error("record {record:?} has no whole chunk {id:?}")]
    Missing {
        /// The record.
        record: RecordId,
        /// The chunk.
        id: ChunkId,
    },
    /// There is no room to note that they must be kept.
    #[error(transparent)]
    DiskFull(#[from] DiskFull),
    /// Disk or index failed; uploads since the last sync may have to be repeated.
    #[error(transparent)]
    Fault(#[from] StoreFault),
}

/// Why a chunk was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The record has no such chunk, whoever else may have it.
    #[error("record {record:?} has no chunk {id:?}")]
    NotBound {
        /// The record.
        record: RecordId,
        /// The chunk.
        id: ChunkId,
    },
    /// The bytes on this disk are not those that were stored: to be fetched from another node, and uploaded again.
    #[error("chunk {id:?} is damaged on this disk (segment {}, offset {})", place.segment, place.offset)]
    Damaged {
        /// The chunk.
        id: ChunkId,
        /// Where it stands; segment 0 if that segment is gone.
        place: Place,
    },
    /// Disk or index failed.
    #[error(transparent)]
    Io(#[from] StoreFault),
}

/// Why a delta was not applied.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// A version before it is missing.
    #[error("record {record:?} expects the delta of version {expected}, found {found}")]
    OutOfOrder {
        /// The record.
        record: RecordId,
        /// The version that comes next.
        expected: Version,
        /// The version that was given.
        found: Version,
    },
    /// Disk or index failed.
    #[error(transparent)]
    Fault(#[from] StoreFault),
}

/// What a record pins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// The last version whose delta was applied; 0 if none.
    pub version: Version,
    /// Chunks pinned.
    pub chunks: u64,
    /// Their length in bytes, as the deltas say.
    pub bytes: u64,
}

/// One pinned chunk of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The chunk.
    pub id: ChunkId,
    /// The version that pinned it.
    pub version: Version,
    /// Its length in bytes, as the delta says.
    pub length: u32,
    /// Whether it is here, bound to the record, and not known to be damaged.
    pub held: bool,
}

/// Facts about a store, as they are now.
#[derive(Clone, Debug)]
pub struct StoreStatus {
    /// Bytes of all segments.
    pub used_bytes: u64,
    /// Of them, bytes that are still needed.
    pub live_bytes: u64,
    /// Chunks stored.
    pub chunks: u64,
    /// Segments, the one being written among them.
    pub segments: u64,
    /// Bytes free on the file system, the reserve among them.
    pub free_bytes: u64,
    /// Calls that wait for the writer.
    pub queue_length: usize,
    /// False after the index was rebuilt, until [`Store::pins_replayed`]: nothing is collected meanwhile.
    pub pins_known: bool,
    /// The last fault that the writer met, in words.
    pub last_error: Option<String>,
}

/// A store that is open. Clones are the same store; it closes when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Store {
    handle: Arc<Handle>,
}

/// Ends the writer when the last [`Store`] goes.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    commands: Option<SyncSender<Command>>,
    writer: Option<JoinHandle<()>>,
    /// Held during a collection: one at a time.
    collecting: Mutex<Collecting>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so; the store opens again from what is durable.
            let _ = writer.join();
        }
    }
}

impl Store {
    /// Opens the store in a folder, made when absent: locks it, takes in what a crash left behind the
    /// index, and rebuilds an index that is missing or does not fit the segments.
    ///
    /// # Errors
    /// [`OpenStoreError`].
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Self, OpenStoreError> {
        let folder = Folder::lock(dir).map_err(StoreFault::from)?;
        let folder = folder.ok_or_else(|| OpenStoreError::InUse { path: dir.to_owned() })?;
        Self::open_on(Arc::new(folder), options)
    }

    /// Opens the store on a disk.
    pub(crate) fn open_on(disk: Arc<dyn Disk>, options: StoreOptions) -> Result<Self, OpenStoreError> {
        let (index, next_segment) = recover::open_index(&disk, options.index_cache_bytes)?;
        let shared = Arc::new(Shared::new(disk, index, options.reserve_bytes));
        let (commands, receiver) = sync_channel(QUEUE_LENGTH_MAX);
        let writer = Writer::new(shared.clone(), options, next_segment);
        let thread = std::thread::Builder::new().name("store-writer".into());
        let writer = thread.spawn(move || writer.run(&receiver)).map_err(StoreFault::from)?;
        let handle =
            Handle { shared, commands: Some(commands), writer: Some(writer), collecting: Mutex::default() };
        Ok(Self { handle: Arc::new(handle) })
    }

    /// Takes a chunk in under a record and returns its address. It is not durable before [`sync`](Self::sync).
    /// Bytes that are already here are not written again. Waits while the writer is behind.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn append(&self, record: RecordId, bytes: Bytes, now: Time) -> Result<ChunkId, AppendError> {
        if bytes.len() > CHUNK_BYTES_MAX {
            return Err(AppendError::TooLong { found: bytes.len() });
        }
        let id = ChunkId::of(&bytes);
        self.ask(|reply| Command::Append { record, id, bytes, now, reply })??;
        Ok(id)
    }

    /// Which of these chunks the record has, whole as far as known, durable or not yet.
    ///
    /// # Errors
    /// [`StoreFault`].
    pub fn is_bound(&self, record: RecordId, ids: &[ChunkId]) -> Result<Vec<bool>, StoreFault> {
        Ok(self.sizes(record, ids)?.iter().map(Option::is_some).collect())
    }

    /// Bytes of each of these chunks, if the record has it, whole as far as known, durable or not yet.
    ///
    /// # Errors
    /// [`StoreFault`].
    pub fn sizes(&self, record: RecordId, ids: &[ChunkId]) -> Result<Vec<Option<u32>>, StoreFault> {
        let size = |id: &ChunkId| {
            let found = self.handle.shared.lookup(record, *id)?.filter(|found| !found.damaged);
            Ok(found.map(|found| found.location.length))
        };
        ids.iter().map(size).collect()
    }

    /// Binds chunks, which another record of the same owner has, to a record; none if one of them is
    /// missing there. It is not durable before [`sync`](Self::sync). The caller has verified that the owner's device asks for it.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(
        &self,
        record: RecordId,
        from: RecordId,
        ids: &[ChunkId],
        now: Time,
    ) -> Result<(), BindError> {
        let ids = ids.to_vec();
        self.ask(|reply| Command::Bind { record, from, ids, now, reply })?
    }

    /// Returns when these chunks of the record are durable, and kept until `keep_until` at least. Callers
    /// that come together share one sync of the segment and one commit of the index.
    ///
    /// # Errors
    /// [`SyncError`].
    pub fn sync(&self, record: RecordId, ids: &[ChunkId], keep_until: Time) -> Result<(), SyncError> {
        let ids = ids.to_vec();
        self.ask(|reply| Command::Sync { record, ids, keep_until, reply })?
    }

    /// The bytes of a chunk that is bound to this record, verified against its address.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&self, record: RecordId, id: ChunkId) -> Result<Bytes, ReadError> {
        let shared = &self.handle.shared;
        for _ in 0..LOOKUPS_MAX {
            let found = shared.lookup(record, id)?.ok_or(ReadError::NotBound { record, id })?;
            if found.damaged {
                return Err(ReadError::Damaged { id, place: found.location.place });
            }
            match self.read_location(id, found.location)? {
                Verified::Whole(bytes) => return Ok(bytes),
                Verified::Gone => continue,
                Verified::Damaged => {
                    self.mark_damaged(vec![(id, found.location.place)])?;
                    return Err(ReadError::Damaged { id, place: found.location.place });
                }
            }
        }
        Err(ReadError::NotBound { record, id })
    }

    /// Replays the delta of the anchor that made `version`: what it added is kept until it is dropped. What it both
    /// drops and adds stays. Versions come in order; one that was applied already changes nothing. A pin binds nothing.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn pin(
        &self,
        record: RecordId,
        version: Version,
        added: &[(ChunkId, u32)],
        dropped: &[ChunkId],
    ) -> Result<(), PinError> {
        self.ask_pin(PinRequest {
            record,
            version,
            is_last: true,
            added: added.to_vec(),
            dropped: dropped.to_vec(),
        })
    }

    /// A part of a delta that [`pin`](Self::pin) completes; until then the record stays at its version, and after a
    /// crash its parts are pinned again.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn pin_part(
        &self,
        record: RecordId,
        version: Version,
        added: &[(ChunkId, u32)],
        dropped: &[ChunkId],
    ) -> Result<(), PinError> {
        self.ask_pin(PinRequest {
            record,
            version,
            is_last: false,
            added: added.to_vec(),
            dropped: dropped.to_vec(),
        })
    }

    fn ask_pin(&self, request: PinRequest) -> Result<(), PinError> {
        self.ask(|reply| Command::Pin { request, reply })?
    }

    /// Whether any chunk is bound to the record here.
    ///
    /// # Errors
    /// [`StoreFault`].
    pub fn holds_any(&self, record: RecordId) -> Result<bool, StoreFault> {
        let shared = &self.handle.shared;
        let pending = lock(&shared.pending).bindings.keys().any(|(of, _)| *of == record);
        Ok(pending || shared.index.read(|snapshot| snapshot.binds_any(record))?)
    }

    /// Says that the deltas of all records were replayed since the index was rebuilt: collection may go on.
    ///
    /// # Errors
    /// [`StoreFault`].
    pub fn pins_replayed(&self) -> Result<(), StoreFault> {
        self.ask(|reply| Command::PinsReplayed { reply })?
    }

    /// What a record pins.
    ///
    /// # Errors
    /// [`StoreFault`].
    pub fn pins(&self, record: RecordId) -> Result<Pins, StoreFault> {
        self.handle.shared.index.read(|snapshot| snapshot.pins(record))
    }

    /// Up to `limit` pinned chunks of a record in the order of their ids, after `from`, and whether each is here.
    ///
    /// # Errors
    /// [`StoreFault`].
    pub fn pinned(
        &self,
        record: RecordId,
        from: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<Pinned>, StoreFault> {
        let shared = &self.handle.shared;
        let rows = shared.index.read(|snapshot| snapshot.pinned(record, from, limit))?;
        let held = self.is_bound(record, &rows.iter().map(|row| row.0).collect::<Vec<_>>())?;
        let pinned = rows.into_iter().zip(held);
        Ok(pinned.map(|((id, version, length), held)| Pinned { id, version, length, held }).collect())
    }

    /// Facts about the store, measured now.
    ///
    /// # Errors
    /// [`StoreFault`].
    pub fn status(&self) -> Result<StoreStatus, StoreFault> {
        let shared = &self.handle.shared;
        let (chunks, segments) = shared.index.read(|index| Ok((index.chunk_count()?, index.segments()?)))?;
        Ok(StoreStatus {
            used_bytes: segments.values().map(|segment| segment.used).sum(),
            live_bytes: segments.values().map(|segment| segment.live + segment.keep_bytes).sum(),
            chunks,
            segments: segments.len() as u64,
            free_bytes: shared.disk.free_bytes()?,
            queue_length: shared.queue_length.load(Ordering::Relaxed),
            pins_known: shared.index.pins_known()?,
            last_error: lock(&shared.last_error).clone(),
        })
    }

    /// Whether the file system has more free than its last room. Below it nothing new is to be taken in, here or in
    /// what lies beside the store: a database that met a disk without a free byte has to be opened anew.
    ///
    /// # Errors
    /// [`StoreFault`].
    pub fn has_room(&self) -> Result<bool, StoreFault> {
        let shared = &self.handle.shared;
        Ok(shared.disk.free_bytes()? >= shared.last_room_bytes)
    }

    /// Sends a command to the writer and waits for its answer.
    fn ask<T>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> Result<T, StoreFault> {
        let (reply, answer): (SyncSender<T>, Receiver<T>) = sync_channel(1);
        let commands = self.handle.commands.as_ref().ok_or(StoreFault::Stopped)?;
        self.handle.shared.queue_length.fetch_add(1, Ordering::Relaxed);
        commands.send(command(reply)).map_err(|_| StoreFault::Stopped)?;
        answer.recv().map_err(|_| StoreFault::Stopped)
    }

    fn read_location(&self, id: ChunkId, location: Location) -> Result<Verified, StoreFault> {
        if !self.handle.shared.is_written(location.place) {
            self.ask(|reply| Command::Flush { reply })??;
        }
        self.handle.shared.read_location(id, location)
    }

    fn mark_damaged(&self, damaged: Vec<(ChunkId, Place)>) -> Result<(), StoreFault> {
        self.ask(|reply| Command::MarkDamaged { damaged, reply })?
    }
}

/// What was found where a chunk should be.
enum Verified {
    Whole(Bytes),
    Damaged,
    /// Its segment was compacted meanwhile.
    Gone,
}

/// A binding and the chunk that it binds.
#[derive(Clone, Copy, Debug)]
struct Found {
    location: Location,
    damaged: bool,
    binding: Binding,
    /// Whether chunk and binding are both in the index.
    durable: bool,
}

/// What readers and the writer have in common.
#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    last_room_bytes: u64,
    index: Index,
    pending: Mutex<Pending>,
    files: Mutex<HashMap<u64, Arc<dyn DiskFile>>>,
    queue_length: AtomicUsize,
    last_error: Mutex<Option<String>>,
}

/// What the writer took in and the index does not have yet.
#[derive(Debug, Default)]
struct Pending {
    chunks: HashMap<ChunkId, Location>,
    bindings: HashMap<(RecordId, ChunkId), Binding>,
    /// Entries of the segment being written, before this offset, are in its file.
    written_to: Option<Place>,
}

/// Room that is never filled on purpose: for what was taken in and is still to be decided, in blocks of 1 MiB, by
/// ledger, log and index. Of a small reserve it is a quarter: the store's own work goes on down to half of it.
const LAST_ROOM_BYTES_MAX: u64 = 32 << 20;

impl Shared {
    fn new(disk: Arc<dyn Disk>, index: Index, reserve_bytes: u64) -> Self {
        Self {
            disk,
            last_room_bytes: LAST_ROOM_BYTES_MAX.min(reserve_bytes / 4),
            index,
            pending: Mutex::default(),
            files: Mutex::default(),
            queue_length: AtomicUsize::new(0),
            last_error: Mutex::default(),
        }
    }

    /// The binding of a chunk to a record. What is pending is looked at first: a commit puts it into the
    /// index before it is taken from there.
    fn lookup(&self, record: RecordId, id: ChunkId) -> Result<Option<Found>, StoreFault> {
        let (pending_chunk, pending_binding) = {
            let pending = lock(&self.pending);
            (pending.chunks.get(&id).copied(), pending.bindings.get(&(record, id)).copied())
        };
        let (chunk, binding) = self
            .index
            .read(|snapshot: &Snapshot| Ok((snapshot.chunk(id)?, snapshot.binding(record, id)?)))?;
        let durable = pending_chunk.is_none() && pending_binding.is_none();
        let pending_chunk = pending_chunk.map(|location| StoredChunk { location, damaged: false });
        let (Some(chunk), Some(binding)) = (pending_chunk.or(chunk), pending_binding.or(binding)) else {
            return Ok(None);
        };
        Ok(Some(Found { location: chunk.location, damaged: chunk.damaged, binding, durable }))
    }

    /// Where the whole bytes of a chunk are, whoever has it.
    fn stored(&self, id: ChunkId) -> Result<Option<StoredChunk>, StoreFault> {
        if let Some(location) = lock(&self.pending).chunks.get(&id) {
            return Ok(Some(StoredChunk { location: *location, damaged: false }));
        }
        self.index.read(|snapshot| snapshot.chunk(id))
    }

    fn is_written(&self, place: Place) -> bool {
        lock(&self.pending)
            .written_to
            .is_none_or(|written| place.segment != written.segment || place.offset < written.offset)
    }

    fn read_location(&self, id: ChunkId, location: Location) -> Result<Verified, StoreFault> {
        let file = match self.file(location.place.segment) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Verified::Gone),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = vec![0; location.length as usize];
        match file.read_at(location.place.offset + ENTRY_HEADER_BYTES as u64, &mut bytes) {
            Ok(()) if ChunkId::of(&bytes) == id => Ok(Verified::Whole(bytes.into())),
            Ok(()) => Ok(Verified::Damaged),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Verified::Damaged),
            Err(error) => Err(error.into()),
        }
    }

    fn file(&self, segment: u64) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = lock(&self.files).get(&segment) {
            return Ok(file.clone());
        }
        let file = self.disk.open(&segment_name(segment), false)?;
        let mut files = lock(&self.files);
        if files.len() >= OPEN_FILES_MAX {
            files.clear();
        }
        files.insert(segment, file.clone());
        Ok(file)
    }

    fn forget_file(&self, segment: u64) {
        lock(&self.files).remove(&segment);
    }

    fn note(&self, fault: &StoreFault) {
        let source = std::error::Error::source(fault).map(|source| format!(": {source}")).unwrap_or_default();
        *lock(&self.last_error) = Some(format!("{fault}{source}"));
        tracing::warn!(%fault, source, "store");
    }
}

/// Locks what stays whole whatever happens to a thread that holds it: maps that are changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
