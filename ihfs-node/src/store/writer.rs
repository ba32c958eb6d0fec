//! The one thread that writes: it takes commands from a bounded queue, fills segments, and commits in groups.
//!
//! Knows nothing of who asks. It never waits for anything but the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};

use bytes::Bytes;
use ihfs_core::ids::{ChunkId, RecordId, Time};

use super::collect::{CompactStep, Compacted};
use super::index::{Binding, Change, Location, PinRequest, Unbound};
use super::segment::{
    EntryHeader, EntryKind, KEEP_IDS_MAX, Place, SEGMENT_HEADER_BYTES, SegmentWriter, Stage,
};
use super::{AppendError, BindError, DiskFull, PinError, Shared, StoreFault, StoreOptions, SyncError, lock};

/// Changes that wait for the index at most: about 1 MiB of memory. Then the writer commits by itself.
const PENDING_CHANGES_MAX: usize = 4096;
/// Commands taken before a group is committed: its callers wait no longer than this.
const GROUP_COMMANDS_MAX: usize = 64;
/// A binding is written anew when the chunk is uploaded again after this time, so that it is kept longer: a day.
const REFRESH_MILLIS: u64 = 24 * 60 * 60 * 1000;

type Reply<T> = SyncSender<T>;

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Append {
        record: RecordId,
        id: ChunkId,
        bytes: Bytes,
        now: Time,
        reply: Reply<Result<(), AppendError>>,
    },
    Bind {
        record: RecordId,
        from: RecordId,
        ids: Vec<ChunkId>,
        now: Time,
        reply: Reply<Result<(), BindError>>,
    },
    Sync {
        record: RecordId,
        ids: Vec<ChunkId>,
        keep_until: Time,
        reply: Reply<Result<(), SyncError>>,
    },
    Pin {
        request: PinRequest,
        reply: Reply<Result<(), PinError>>,
    },
    PinsReplayed {
        reply: Reply<Result<(), StoreFault>>,
    },
    Flush {
        reply: Reply<Result<(), StoreFault>>,
    },
    MarkDamaged {
        damaged: Vec<(ChunkId, Place)>,
        reply: Reply<Result<(), StoreFault>>,
    },
    Unbind {
        now: Time,
        limit: usize,
        held: BTreeSet<RecordId>,
        reply: Reply<Result<Unbound, StoreFault>>,
    },
    Compact {
        step: CompactStep,
        reply: Reply<Result<Compacted, StoreFault>>,
    },
}

/// Callers that wait for the next commit.
#[derive(Debug, Default)]
struct Group {
    syncs: Vec<Reply<Result<(), SyncError>>>,
    pins: Vec<(PinRequest, Reply<Result<(), PinError>>)>,
    pins_replayed: Vec<Reply<Result<(), StoreFault>>>,
}

impl Group {
    fn is_empty(&self) -> bool {
        self.syncs.is_empty() && self.pins.is_empty() && self.pins_replayed.is_empty()
    }
}

/// Why an entry was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    Full(DiskFull),
    Fault(StoreFault),
}

impl From<StoreFault> for WriteError {
    fn from(fault: StoreFault) -> Self {
        Self::Fault(fault)
    }
}

macro_rules! from_write_error {
    ($($error:ident),*) => { $(
        impl From<WriteError> for $error {
            fn from(error: WriteError) -> Self {
                match error {
                    WriteError::Full(full) => Self::DiskFull(full),
                    WriteError::Fault(fault) => Self::Fault(fault),
                }
            }
        }
    )* };
}
from_write_error!(AppendError, BindError, SyncError);

/// For whom an entry is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An upload, which may not touch the reserve.
    Upload,
    /// The store's own work, which may take half of it.
    Upkeep,
}

/// The state of the thread.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    options: StoreOptions,
    current: Option<SegmentWriter>,
    /// The buffer of the last segment, for the next one.
    spare: Option<Stage>,
    next_segment: u64,
    /// What the index does not have yet.
    pub(super) changes: Vec<Change>,
    /// Segments with entries since the last commit, and where each ends.
    touched: BTreeMap<u64, u64>,
    /// The fault that made the writer forget what came since the last commit: callers of the group that is
    /// being gathered must not be told that it is durable.
    lost: Option<StoreFault>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, options: StoreOptions, next_segment: u64) -> Self {
        Self {
            shared,
            options,
            current: None,
            spare: None,
            next_segment,
            changes: Vec::new(),
            touched: BTreeMap::new(),
            lost: None,
        }
    }

    /// Serves commands until every handle is gone, then closes.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        while let Ok(command) = commands.recv() {
            let mut group = Group::default();
            self.lost = None;
            self.take(command, &mut group);
            for _ in 1..GROUP_COMMANDS_MAX {
                if group.is_empty() {
                    break;
                }
                let Ok(command) = commands.try_recv() else { break };
                self.take(command, &mut group);
            }
            if !group.is_empty() || self.changes.len() >= PENDING_CHANGES_MAX {
                self.commit_group(group);
            }
        }
        self.close();
    }

    fn take(&mut self, command: Command, group: &mut Group) {
        self.shared.queue_length.fetch_sub(1, Ordering::Relaxed);
        match command {
            Command::Append { record, id, bytes, now, reply } => {
                let result = self.append(record, id, &bytes, now);
                answer(&reply, result.map_err(|error| self.noted(error).into()));
                self.flush_if_full();
            }
            Command::Bind { record, from, ids, now, reply } => {
                answer(&reply, self.bind(record, from, &ids, now));
                self.flush_if_full();
            }
            Command::Sync { record, ids, keep_until, reply } => match self.keep(record, &ids, keep_until) {
                Ok(true) => group.syncs.push(reply),
                Ok(false) => answer(&reply, Ok(())),
                Err(error) => answer(&reply, Err(error)),
            },
            Command::Pin { request, reply } => group.pins.push((request, reply)),
            Command::PinsReplayed { reply } => group.pins_replayed.push(reply),
            Command::Flush { reply } => answer(&reply, self.flush()),
            Command::MarkDamaged { damaged, reply } => answer(&reply, self.mark_damaged(&damaged)),
            Command::Unbind { now, limit, held, reply } => answer(&reply, self.unbind(now, limit, &held)),
            Command::Compact { step, reply } => answer(&reply, self.compact(step)),
        }
    }

    fn append(&mut self, record: RecordId, id: ChunkId, bytes: &[u8], now: Time) -> Result<(), WriteError> {
        let stored = self.shared.stored(id)?.is_some_and(|chunk| !chunk.damaged);
        if stored {
            return self.bind_one(record, id, now);
        }
        let body_bytes = u32::try_from(bytes.len()).expect("a chunk is at most 1 MiB + 64 KiB");
        let header = EntryHeader { kind: EntryKind::Chunk, time: now, record, id, body_bytes };
        let place = self.write(&header, bytes, Purpose::Upload)?;
        let location = Location { place, length: body_bytes };
        self.changes.push(Change::Stored { id, location });
        lock(&self.shared.pending).chunks.insert(id, location);
        self.note_binding(record, id, now, place);
        Ok(())
    }

    /// Binds a chunk that is stored, unless it is bound already and was so lately.
    fn bind_one(&mut self, record: RecordId, id: ChunkId, now: Time) -> Result<(), WriteError> {
        let bound = self.shared.lookup(record, id)?;
        if bound.is_some_and(|found| now < found.binding.uploaded.plus_millis(REFRESH_MILLIS)) {
            return Ok(());
        }
        let header = EntryHeader { kind: EntryKind::Binding, time: now, record, id, body_bytes: 0 };
        let place = self.write(&header, &[], Purpose::Upload)?;
        self.note_binding(record, id, now, place);
        Ok(())
    }

    fn note_binding(&mut self, record: RecordId, id: ChunkId, now: Time, entry: Place) {
        self.changes.push(Change::Bound { record, id, uploaded: now, entry });
        let binding = Binding { uploaded: now, keep_until: Time(0), entry };
        lock(&self.shared.pending).bindings.insert((record, id), binding);
    }

    fn bind(
        &mut self,
        record: RecordId,
        from: RecordId,
        ids: &[ChunkId],
        now: Time,
    ) -> Result<(), BindError> {
        for id in ids {
            if self.shared.lookup(from, *id)?.is_none_or(|found| found.damaged) {
                return Err(BindError::Missing { from, id: *id });
            }
        }
        for id in ids {
            self.bind_one(record, *id, now)?;
        }
        Ok(())
    }

    /// Notes that bindings must be kept; whether a commit is needed before that is durable.
    fn keep(&mut self, record: RecordId, ids: &[ChunkId], until: Time) -> Result<bool, SyncError> {
        let mut to_keep = Vec::new();
        let mut durable = true;
        for id in ids {
            let found = self.shared.lookup(record, *id)?.filter(|found| !found.damaged);
            let found = found.ok_or(SyncError::Missing { record, id: *id })?;
            durable &= found.durable;
            if found.binding.keep_until < until {
                to_keep.push(*id);
            }
        }
        for ids in to_keep.chunks(KEEP_IDS_MAX) {
            self.write_keep(record, ids, until)?;
        }
        Ok(!durable || !to_keep.is_empty())
    }

    /// Writes that a receipt protects these bindings.
    pub(super) fn write_keep(
        &mut self,
        record: RecordId,
        ids: &[ChunkId],
        until: Time,
    ) -> Result<(), WriteError> {
        let body: Vec<u8> = ids.iter().flat_map(|id| *id.as_bytes()).collect();
        let body_bytes = u32::try_from(body.len()).expect("a keep entry has at most 8192 ids");
        let id = ChunkId::of(&body);
        let header = EntryHeader { kind: EntryKind::Keep, time: until, record, id, body_bytes };
        let place = self.write(&header, &body, Purpose::Upkeep)?;
        let (segment, bytes) = (place.segment, header.entry_bytes());
        self.changes.push(Change::Kept { record, ids: ids.to_vec(), until, segment, bytes });
        Ok(())
    }

    /// Puts an entry into the current segment, or the next one if it does not fit.
    pub(super) fn write(
        &mut self,
        header: &EntryHeader,
        body: &[u8],
        purpose: Purpose,
    ) -> Result<Place, WriteError> {
        if self.changes.len() >= 2 * PENDING_CHANGES_MAX {
            // The index has been failing; more would only pile up.
            self.commit()?;
        }
        if !self.current.as_ref().is_some_and(|current| current.has_room_for(header.body_bytes)) {
            self.next_segment(header.body_bytes, purpose)?;
        }
        let current = self.current.as_mut().expect("a segment was begun");
        let place = current.push(header, body);
        self.touched.insert(current.number(), current.end());
        self.publish_written();
        Ok(place)
    }

    /// Seals the current segment and begins the next, as large as the disk allows.
    fn next_segment(&mut self, body_bytes: u32, purpose: Purpose) -> Result<(), WriteError> {
        let capacity = self.capacity_of_next(body_bytes, purpose)?;
        // Sealed before the next begins: only the last segment can have a torn tail.
        self.seal_current()?;
        let stage = self.spare.take().unwrap_or_else(Stage::new);
        let number = self.next_segment;
        let begun = SegmentWriter::begin(self.shared.disk.as_ref(), number, capacity, stage);
        match begun {
            Ok(segment) => {
                self.current = Some(segment);
                self.next_segment += 1;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                Err(WriteError::Full(self.disk_full(body_bytes, purpose)?))
            }
            Err(error) => Err(StoreFault::from(error).into()),
        }
    }

    fn capacity_of_next(&self, body_bytes: u32, purpose: Purpose) -> Result<u64, WriteError> {
        let needed = SEGMENT_HEADER_BYTES + SegmentWriter::room_for(body_bytes);
        let free = self.shared.disk.free_bytes().map_err(StoreFault::from)?;
        let available = free.saturating_sub(self.reserve(purpose));
        if available < needed {
            return Err(WriteError::Full(self.disk_full(body_bytes, purpose)?));
        }
        let wanted = match purpose {
            Purpose::Upload => self.options.segment_size_bytes,
            // Out of the reserve only what is needed is taken.
            Purpose::Upkeep if free.saturating_sub(self.reserve(Purpose::Upload)) < needed => needed,
            Purpose::Upkeep => self.options.segment_size_bytes,
        };
        let capacity = wanted.max(needed).min(available);
        Ok(capacity - capacity % SEGMENT_HEADER_BYTES)
    }

    fn disk_full(&self, body_bytes: u32, purpose: Purpose) -> Result<DiskFull, StoreFault> {
        Ok(DiskFull {
            needed_bytes: SEGMENT_HEADER_BYTES + SegmentWriter::room_for(body_bytes),
            free_bytes: self.shared.disk.free_bytes()?,
            reserve_bytes: self.reserve(purpose),
        })
    }

    fn reserve(&self, purpose: Purpose) -> u64 {
        match purpose {
            Purpose::Upload => self.options.reserve_bytes,
            Purpose::Upkeep => self.options.reserve_bytes / 2,
        }
    }

    fn seal_current(&mut self) -> Result<(), StoreFault> {
        let Some(mut current) = self.current.take() else { return Ok(()) };
        let sealed = current.seal();
        self.touched.entry(current.number()).and_modify(|end| *end = current.end());
        self.spare = Some(current.into_stage());
        self.publish_written();
        sealed.map_err(|error| self.give_up(error))
    }

    /// After a failed write or sync nothing since the last commit can be relied on: it is forgotten, so that
    /// its callers are told at their sync, and the segment is left.
    fn give_up(&mut self, error: io::Error) -> StoreFault {
        if let Some(current) = self.current.take() {
            self.spare = Some(current.into_stage());
        }
        self.changes.clear();
        self.touched.clear();
        let mut pending = lock(&self.shared.pending);
        pending.chunks.clear();
        pending.bindings.clear();
        pending.written_to = None;
        drop(pending);
        let fault = StoreFault::from(error);
        self.shared.note(&fault);
        self.lost = Some(fault.clone());
        fault
    }

    fn publish_written(&self) {
        let written = self.current.as_ref();
        lock(&self.shared.pending).written_to =
            written.map(|current| Place { segment: current.number(), offset: current.written_to() });
    }

    fn flush(&mut self) -> Result<(), StoreFault> {
        let Some(current) = self.current.as_mut() else { return Ok(()) };
        let flushed = current.flush();
        self.publish_written();
        flushed.map_err(|error| self.give_up(error))
    }

    pub(super) fn is_current(&self, segment: u64) -> bool {
        self.current.as_ref().is_some_and(|current| current.number() == segment)
    }

    pub(super) fn flush_if_full(&mut self) {
        let Some(current) = self.current.as_mut() else { return };
        let flushed = current.flush_if_full();
        self.publish_written();
        if let Err(error) = flushed {
            self.give_up(error);
        }
    }

    /// Commits for everyone who waits, and tells them.
    fn commit_group(&mut self, group: Group) {
        let requests: Vec<_> = group.pins.iter().map(|(request, _)| request.clone()).collect();
        let outcome = self.commit_with(&requests, !group.pins_replayed.is_empty());
        let lost = self.lost.take().or_else(|| outcome.as_ref().err().cloned());
        for reply in group.syncs {
            answer(&reply, lost.clone().map_or(Ok(()), |fault| Err(fault.into())));
        }
        for reply in group.pins_replayed {
            answer(&reply, outcome.as_ref().map(|_| ()).map_err(Clone::clone));
        }
        let pins = group.pins.into_iter().map(|(_, reply)| reply);
        match outcome {
            Ok(results) => pins.zip(results).for_each(|(reply, result)| answer(&reply, result)),
            Err(fault) => pins.for_each(|reply| answer(&reply, Err(fault.clone().into()))),
        }
    }

    /// Makes everything taken in so far durable: the segment first, then the index that names it.
    pub(super) fn commit(&mut self) -> Result<(), StoreFault> {
        if self.changes.is_empty() {
            return Ok(());
        }
        self.commit_with(&[], false).map(|_| ())
    }

    fn commit_with(
        &mut self,
        pins: &[PinRequest],
        pins_replayed: bool,
    ) -> Result<Vec<Result<(), PinError>>, StoreFault> {
        if let Some(current) = self.current.as_mut() {
            let synced = current.sync();
            self.touched.entry(current.number()).and_modify(|end| *end = current.end());
            self.publish_written();
            synced.map_err(|error| self.give_up(error))?;
        }
        let (changes, touched) = (&self.changes, &self.touched);
        let results = self.shared.index.write(|batch| {
            for change in changes {
                batch.apply(change)?;
            }
            for (segment, end) in touched {
                batch.use_segment(*segment, *end)?;
            }
            if let Some((segment, offset)) = touched.last_key_value() {
                batch.cover(Place { segment: *segment, offset: *offset })?;
            }
            if pins_replayed {
                batch.set_pins_known()?;
            }
            pins.iter().map(|request| batch.pin(request)).collect::<Result<Vec<_>, _>>()
        });
        let results = results.inspect_err(|fault| self.shared.note(fault))?;
        self.changes.clear();
        self.touched.clear();
        let mut pending = lock(&self.shared.pending);
        pending.chunks.clear();
        pending.bindings.clear();
        Ok(results)
    }

    fn mark_damaged(&mut self, damaged: &[(ChunkId, Place)]) -> Result<(), StoreFault> {
        for (id, place) in damaged {
            tracing::warn!(chunk = ?id, place.segment, place.offset, "a chunk is damaged on this disk");
            self.changes.push(Change::Damaged { id: *id, place: *place, lost: false });
        }
        self.commit()
    }

    fn noted(&self, error: WriteError) -> WriteError {
        match &error {
            WriteError::Full(full) => *lock(&self.shared.last_error) = Some(full.to_string()),
            WriteError::Fault(fault) => self.shared.note(fault),
        }
        error
    }

    fn close(mut self) {
        let closed = self.commit().and_then(|()| self.seal_current());
        if let Err(fault) = closed {
            self.shared.note(&fault);
        }
    }
}

/// Whoever asked may be gone; then nobody needs the answer.
fn answer<T>(reply: &Reply<T>, value: T) {
    let _ = reply.send(value);
}
