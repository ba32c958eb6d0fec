//! The index: where every chunk is, which record may have it, and what must be kept.
//!
//! One redb file, whose tables are described in [`segment`](super::segment). Chunks are never inside. Every
//! commit is durable when it returns; an index that failed is closed and opened again at the next use.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ihfs_core::ids::{ChunkId, RecordId, Time, Version};
use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, StorageBackend, StorageError, Table, TableDefinition, TableError,
    WriteTransaction,
};

use super::disk::{Disk, DiskFile};
use super::segment::{ENTRY_HEADER_BYTES, FORMAT_VERSION, Place, entry_bytes};
use super::{PinError, Pins, StoreFault};

pub(super) const INDEX_NAME: &str = "index.redb";

/// What a binding counts as live in the segment of its entry. That entry may be the chunk's own, which counts
/// for itself: too much by this little, so that a segment never seems dead while something in it is needed.
const BINDING_LIVE_BYTES: i64 = ENTRY_HEADER_BYTES as i64;

type PairKey = [u8; 64];
/// Segment, offset, length, bindings, damaged.
type ChunkRow = (u64, u64, u32, u32, u8);
/// Upload, keep until, segment and offset of the entry that binds.
type BindingRow = (u64, u64, u64, u64);
/// Version, length.
type PinRow = (u64, u32);
/// Version, pins, bytes.
type RecordRow = (u64, u64, u64);
/// Used, live, keep bytes, last keep.
type SegmentRow = (u64, u64, u64, u64);

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const CHUNKS: TableDefinition<&[u8; 32], ChunkRow> = TableDefinition::new("chunks");
const BINDINGS: TableDefinition<&PairKey, BindingRow> = TableDefinition::new("bindings");
const LOOSE: TableDefinition<&PairKey, ()> = TableDefinition::new("loose");
const PINS: TableDefinition<&PairKey, PinRow> = TableDefinition::new("pins");
const RECORDS: TableDefinition<&[u8; 32], RecordRow> = TableDefinition::new("records");
const SEGMENTS: TableDefinition<u64, SegmentRow> = TableDefinition::new("segments");

const FORMAT: &str = "format";
const SEGMENT: &str = "segment";
const OFFSET: &str = "offset";
const SEQUENCE: &str = "sequence";
const PINS_KNOWN: &str = "pins known";

/// Bytes of the chunk and where its entry starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) place: Place,
    pub(super) length: u32,
}

/// What the index knows of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredChunk {
    pub(super) location: Location,
    pub(super) damaged: bool,
}

/// What the index knows of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) uploaded: Time,
    pub(super) keep_until: Time,
    /// Where the entry is that binds: a binding entry, or that of the chunk as it was uploaded.
    pub(super) entry: Place,
}

/// How full a segment is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SegmentUse {
    pub(super) used: u64,
    pub(super) live: u64,
    pub(super) keep_bytes: u64,
    pub(super) keep_until: Time,
}

/// A change that follows from an entry in a segment. Applying it twice is the same as once.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// The bytes of a chunk stand here, whole.
    Stored { id: ChunkId, location: Location },
    /// A chunk is bound by this entry.
    Bound { record: RecordId, id: ChunkId, uploaded: Time, entry: Place },
    /// A receipt protects bindings; the entry takes `bytes` of its segment.
    Kept { record: RecordId, ids: Vec<ChunkId>, until: Time, segment: u64, bytes: u64 },
    /// A chunk at this place was found damaged; `lost` if its segment will go away.
    Damaged { id: ChunkId, place: Place, lost: bool },
}

/// The delta of one anchor.
#[derive(Clone, Debug)]
pub(super) struct PinRequest {
    pub(super) record: RecordId,
    pub(super) version: Version,
    /// Whether the record is at this version afterwards; if not, more of it comes.
    pub(super) is_last: bool,
    pub(super) added: Vec<(ChunkId, u32)>,
    pub(super) dropped: Vec<ChunkId>,
}

/// Why the index cannot be used as it is.
#[derive(Debug)]
pub(super) enum OpenIndexError {
    Unknown {
        version: u64,
    },
    /// To be rebuilt.
    Unusable,
    Fault(StoreFault),
}

/// The index, shared by readers and the one writer.
#[derive(Debug)]
pub(super) struct Index {
    disk: Arc<dyn Disk>,
    cache_bytes: usize,
    database: RwLock<Option<Database>>,
    /// Where collection goes on.
    cursor: Mutex<Option<PairKey>>,
}

impl Index {
    /// Opens the index, made empty when absent.
    pub(super) fn open(disk: Arc<dyn Disk>, cache_bytes: usize) -> Result<Self, OpenIndexError> {
        let database = match open_database(disk.as_ref(), cache_bytes) {
            Ok(database) => database,
            Err(DatabaseError::Storage(StorageError::Io(error))) if !looks_damaged(&error) => {
                return Err(OpenIndexError::Fault(error.into()));
            }
            Err(_) => return Err(OpenIndexError::Unusable),
        };
        let index =
            Self { disk, cache_bytes, database: RwLock::new(Some(database)), cursor: Mutex::default() };
        match index.meta(FORMAT).map_err(OpenIndexError::Fault)? {
            None | Some(0) => Ok(index),
            Some(version) if version == u64::from(FORMAT_VERSION) => Ok(index),
            Some(version) => Err(OpenIndexError::Unknown { version }),
        }
    }

    /// Reads one consistent state.
    pub(super) fn read<T>(
        &self,
        run: impl FnOnce(&Snapshot) -> Result<T, redb::Error>,
    ) -> Result<T, StoreFault> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = database.as_ref() {
            let snapshot = Snapshot(database.begin_read().map_err(redb::Error::from)?);
            return Ok(run(&snapshot)?);
        }
        drop(database);
        self.reopen()?;
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(StoreFault::Stopped)?;
        let snapshot = Snapshot(database.begin_read().map_err(redb::Error::from)?);
        Ok(run(&snapshot)?)
    }

    /// Changes the index; durable when it returns.
    pub(super) fn write<T>(
        &self,
        run: impl FnOnce(&mut Batch<'_>) -> Result<T, redb::Error>,
    ) -> Result<T, StoreFault> {
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.reopen()?;
        }
        match self.try_write(run) {
            Ok((value, Ok(()))) => Ok(value),
            Ok((value, Err((sequence, error)))) => {
                // Whether a failed commit reached the disk is seen in the sequence number after reopening.
                self.reopen()?;
                if self.meta(SEQUENCE)? == Some(sequence) { Ok(value) } else { Err(error) }
            }
            Err(error) => {
                self.reopen()?;
                Err(error)
            }
        }
    }

    /// The value of `run`, and the commit's outcome with the sequence number it would have set.
    #[allow(clippy::type_complexity)]
    fn try_write<T>(
        &self,
        run: impl FnOnce(&mut Batch<'_>) -> Result<T, redb::Error>,
    ) -> Result<(T, Result<(), (u64, StoreFault)>), StoreFault> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(StoreFault::Stopped)?;
        let transaction = database.begin_write().map_err(redb::Error::from)?;
        let mut batch = Batch::new(&transaction)?;
        let value = run(&mut batch)?;
        let sequence = batch.finish()?;
        let committed = transaction.commit().map_err(|error| (sequence, redb::Error::from(error).into()));
        Ok((value, committed))
    }

    /// Closes the file and opens it at its last commit: redb refuses everything after a failed write.
    fn reopen(&self) -> Result<(), StoreFault> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *database = None;
        let opened = open_database(self.disk.as_ref(), self.cache_bytes).map_err(redb::Error::from)?;
        *database = Some(opened);
        Ok(())
    }

    fn meta(&self, name: &str) -> Result<Option<u64>, StoreFault> {
        self.read(|snapshot| snapshot.meta(name))
    }

    /// Whether the index was completed once; otherwise it has to be built.
    pub(super) fn is_complete(&self) -> Result<bool, StoreFault> {
        Ok(self.meta(FORMAT)?.is_some_and(|format| format != 0))
    }

    /// Entries before this place are indexed.
    pub(super) fn covered(&self) -> Result<Place, StoreFault> {
        self.read(|snapshot| {
            let segment = snapshot.meta(SEGMENT)?.unwrap_or(0);
            Ok(Place { segment, offset: snapshot.meta(OFFSET)?.unwrap_or(0) })
        })
    }

    /// Whether the pins of all records were replayed since the index was built.
    pub(super) fn pins_known(&self) -> Result<bool, StoreFault> {
        Ok(self.meta(PINS_KNOWN)? == Some(1))
    }

    /// Removes bindings that nothing keeps, but of records that are `held`, looking at up to `limit` of those that are
    /// not pinned.
    pub(super) fn collect(
        &self,
        now: Time,
        upload_keep_millis: u64,
        limit: usize,
        held: &BTreeSet<RecordId>,
    ) -> Result<Unbound, StoreFault> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let from = *cursor;
        let unbound = self.write(|batch| batch.collect(from, now, upload_keep_millis, limit, held))?;
        *cursor = unbound.next;
        Ok(unbound)
    }
}

/// What one step of collection removed.
#[derive(Debug, Default)]
pub(super) struct Unbound {
    pub(super) examined: usize,
    pub(super) bindings: u64,
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    next: Option<PairKey>,
}

impl Unbound {
    /// Whether every binding that is not pinned was looked at.
    pub(super) fn reached_the_end(&self) -> bool {
        self.next.is_none()
    }
}

fn open_database(disk: &dyn Disk, cache_bytes: usize) -> Result<Database, DatabaseError> {
    let file = disk.open(INDEX_NAME, true)?;
    let database = Builder::new().set_cache_size(cache_bytes).create_with_backend(IndexFile(file))?;
    Ok(database)
}

/// What redb answers when the file is not a database at all.
fn looks_damaged(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// The index file as redb sees it.
#[derive(Debug)]
pub(super) struct IndexFile(pub(super) Arc<dyn DiskFile>);

impl StorageBackend for IndexFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
}

fn pair(record: RecordId, id: ChunkId) -> PairKey {
    let mut key = [0; 64];
    key[..32].copy_from_slice(record.as_bytes());
    key[32..].copy_from_slice(id.as_bytes());
    key
}

fn id_of(key: &PairKey) -> ChunkId {
    ChunkId::from_bytes(*key.last_chunk().expect("a pair has 64 bytes"))
}

fn record_of(key: &PairKey) -> RecordId {
    RecordId::from_bytes(*key.first_chunk().expect("a pair has 64 bytes"))
}

fn stored_chunk(row: ChunkRow) -> StoredChunk {
    let place = Place { segment: row.0, offset: row.1 };
    StoredChunk { location: Location { place, length: row.2 }, damaged: row.4 != 0 }
}

fn segment_use(row: SegmentRow) -> SegmentUse {
    SegmentUse { used: row.0, live: row.1, keep_bytes: row.2, keep_until: Time(row.3) }
}

/// One consistent state of the index.
pub(super) struct Snapshot(ReadTransaction);

/// A table that no commit has made yet is empty.
fn present<T>(opened: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Snapshot {
    fn meta(&self, name: &str) -> Result<Option<u64>, redb::Error> {
        let Some(table) = present(self.0.open_table(META))? else { return Ok(None) };
        Ok(table.get(name)?.map(|value| value.value()))
    }

    pub(super) fn chunk(&self, id: ChunkId) -> Result<Option<StoredChunk>, redb::Error> {
        let Some(table) = present(self.0.open_table(CHUNKS))? else { return Ok(None) };
        Ok(table.get(id.as_bytes())?.map(|row| stored_chunk(row.value())))
    }

    pub(super) fn binds_any(&self, record: RecordId) -> Result<bool, redb::Error> {
        let Some(table) = present(self.0.open_table(BINDINGS))? else { return Ok(false) };
        let all = |fill| pair(record, ChunkId::from_bytes([fill; 32]));
        Ok(table.range::<&PairKey>(&all(0)..=&all(0xff))?.next().transpose()?.is_some())
    }

    pub(super) fn binding(&self, record: RecordId, id: ChunkId) -> Result<Option<Binding>, redb::Error> {
        let Some(table) = present(self.0.open_table(BINDINGS))? else { return Ok(None) };
        Ok(table.get(&pair(record, id))?.map(|row| {
            let (uploaded, keep_until, segment, offset) = row.value();
            let entry = Place { segment, offset };
            Binding { uploaded: Time(uploaded), keep_until: Time(keep_until), entry }
        }))
    }

    /// Chunks in the order of their ids, after `from`.
    pub(super) fn chunks(
        &self,
        from: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<(ChunkId, StoredChunk)>, redb::Error> {
        let Some(table) = present(self.0.open_table(CHUNKS))? else { return Ok(Vec::new()) };
        let start = from.as_ref().map_or(Bound::Unbounded, |id| Bound::Excluded(id.as_bytes()));
        let mut chunks = Vec::new();
        for row in table.range::<&[u8; 32]>((start, Bound::Unbounded))?.take(limit) {
            let (id, row) = row?;
            chunks.push((ChunkId::from_bytes(*id.value()), stored_chunk(row.value())));
        }
        Ok(chunks)
    }

    pub(super) fn chunk_count(&self) -> Result<u64, redb::Error> {
        let Some(table) = present(self.0.open_table(CHUNKS))? else { return Ok(0) };
        Ok(table.len()?)
    }

    pub(super) fn segments(&self) -> Result<BTreeMap<u64, SegmentUse>, redb::Error> {
        let Some(table) = present(self.0.open_table(SEGMENTS))? else { return Ok(BTreeMap::new()) };
        let mut segments = BTreeMap::new();
        for row in table.iter()? {
            let (number, row) = row?;
            segments.insert(number.value(), segment_use(row.value()));
        }
        Ok(segments)
    }

    pub(super) fn pins(&self, record: RecordId) -> Result<Pins, redb::Error> {
        let Some(table) = present(self.0.open_table(RECORDS))? else { return Ok(Pins::default()) };
        let row = table.get(record.as_bytes())?.map(|row| row.value()).unwrap_or_default();
        Ok(Pins { version: Version(row.0), chunks: row.1, bytes: row.2 })
    }

    /// Pins of a record in the order of their ids, after `from`: id, version, length.
    pub(super) fn pinned(
        &self,
        record: RecordId,
        from: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<(ChunkId, Version, u32)>, redb::Error> {
        let Some(table) = present(self.0.open_table(PINS))? else { return Ok(Vec::new()) };
        let first = pair(record, from.unwrap_or(ChunkId::from_bytes([0; 32])));
        let last = pair(record, ChunkId::from_bytes([255; 32]));
        let start = if from.is_some() { Bound::Excluded(&first) } else { Bound::Included(&first) };
        let mut pinned = Vec::new();
        for row in table.range::<&PairKey>((start, Bound::Included(&last)))?.take(limit) {
            let (key, row) = row?;
            let (version, length) = row.value();
            pinned.push((id_of(key.value()), Version(version), length));
        }
        Ok(pinned)
    }
}

/// One write transaction with its tables.
pub(super) struct Batch<'t> {
    meta: Table<'t, &'static str, u64>,
    chunks: Table<'t, &'static [u8; 32], ChunkRow>,
    bindings: Table<'t, &'static PairKey, BindingRow>,
    loose: Table<'t, &'static PairKey, ()>,
    pins: Table<'t, &'static PairKey, PinRow>,
    records: Table<'t, &'static [u8; 32], RecordRow>,
    segments: Table<'t, u64, SegmentRow>,
    /// Changes of live bytes by segment, gathered because one commit touches few segments often.
    live: BTreeMap<u64, i64>,
}

impl<'t> Batch<'t> {
    fn new(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            meta: transaction.open_table(META)?,
            chunks: transaction.open_table(CHUNKS)?,
            bindings: transaction.open_table(BINDINGS)?,
            loose: transaction.open_table(LOOSE)?,
            pins: transaction.open_table(PINS)?,
            records: transaction.open_table(RECORDS)?,
            segments: transaction.open_table(SEGMENTS)?,
            live: BTreeMap::new(),
        })
    }

    /// Writes what was gathered; the sequence number of this commit.
    fn finish(mut self) -> Result<u64, redb::Error> {
        for (number, change) in std::mem::take(&mut self.live) {
            let mut row = self.segment(number)?;
            row.1 =
                row.1.checked_add_signed(change).expect("live bytes are counted once when they come and go");
            self.segments.insert(number, row)?;
        }
        let sequence = self.meta.get(SEQUENCE)?.map_or(0, |value| value.value()) + 1;
        self.meta.insert(SEQUENCE, sequence)?;
        Ok(sequence)
    }

    /// Entries before `place` are indexed now.
    pub(super) fn cover(&mut self, place: Place) -> Result<(), redb::Error> {
        self.meta.insert(SEGMENT, place.segment)?;
        self.meta.insert(OFFSET, place.offset)?;
        Ok(())
    }

    /// The index is whole from now on.
    pub(super) fn complete(&mut self) -> Result<(), redb::Error> {
        self.meta.insert(FORMAT, u64::from(FORMAT_VERSION))?;
        Ok(())
    }

    pub(super) fn set_pins_known(&mut self) -> Result<(), redb::Error> {
        self.meta.insert(PINS_KNOWN, 1)?;
        Ok(())
    }

    /// A segment has entries up to this offset.
    pub(super) fn use_segment(&mut self, number: u64, used: u64) -> Result<(), redb::Error> {
        let mut row = self.segment(number)?;
        row.0 = row.0.max(used);
        self.segments.insert(number, row)?;
        Ok(())
    }

    /// Forgets a segment if nothing in it is live; whether it did.
    pub(super) fn drop_segment(&mut self, number: u64) -> Result<bool, redb::Error> {
        let live = self.segment(number)?.1.checked_add_signed(self.live.get(&number).copied().unwrap_or(0));
        if live != Some(0) {
            return Ok(false);
        }
        self.live.remove(&number);
        self.segments.remove(number)?;
        Ok(true)
    }

    fn segment(&self, number: u64) -> Result<SegmentRow, redb::Error> {
        Ok(self.segments.get(number)?.map(|row| row.value()).unwrap_or_default())
    }

    fn add_live(&mut self, segment: u64, bytes: i64) {
        if segment != 0 {
            *self.live.entry(segment).or_default() += bytes;
        }
    }

    fn chunk(&self, id: ChunkId) -> Result<Option<ChunkRow>, redb::Error> {
        Ok(self.chunks.get(id.as_bytes())?.map(|row| row.value()))
    }

    fn binding(&self, key: &PairKey) -> Result<Option<BindingRow>, redb::Error> {
        Ok(self.bindings.get(key)?.map(|row| row.value()))
    }

    /// Applies what an entry says.
    pub(super) fn apply(&mut self, change: &Change) -> Result<(), redb::Error> {
        match change {
            Change::Stored { id, location } => self.store(*id, *location),
            Change::Bound { record, id, uploaded, entry } => self.bind(pair(*record, *id), *uploaded, *entry),
            Change::Kept { record, ids, until, segment, bytes } => {
                self.keep(*record, ids, *until, *segment, *bytes)
            }
            Change::Damaged { id, place, lost } => self.damage(*id, *place, *lost),
        }
    }

    fn store(&mut self, id: ChunkId, location: Location) -> Result<(), redb::Error> {
        let old = self.chunk(id)?;
        let Place { segment, offset } = location.place;
        let bindings = old.map_or(0, |row| row.3);
        let row = (segment, offset, location.length, bindings, 0);
        if old == Some(row) {
            return Ok(());
        }
        if let Some(old) = old {
            self.add_live(old.0, -(entry_bytes(old.2) as i64));
        }
        self.add_live(segment, entry_bytes(location.length) as i64);
        self.chunks.insert(id.as_bytes(), row)?;
        Ok(())
    }

    /// Of several entries that bind the same, the one with the latest upload counts, and of those the last:
    /// a rebuild that finds only the one that counts must know the same.
    fn bind(&mut self, key: PairKey, uploaded: Time, entry: Place) -> Result<(), redb::Error> {
        let id = id_of(&key);
        // Without the bytes there is nothing to bind: their entry was torn.
        let Some(mut chunk) = self.chunk(id)? else { return Ok(()) };
        let old = self.binding(&key)?;
        if old.is_some_and(|old| uploaded.0 < old.0) {
            return Ok(());
        }
        if let Some(old) = old {
            self.add_live(old.2, -BINDING_LIVE_BYTES);
        }
        self.add_live(entry.segment, BINDING_LIVE_BYTES);
        let keep_until = old.map_or(0, |old| old.1);
        self.bindings.insert(&key, (uploaded.0, keep_until, entry.segment, entry.offset))?;
        if old.is_none() {
            chunk.3 += 1;
            self.chunks.insert(id.as_bytes(), chunk)?;
            if self.pins.get(&key)?.is_none() {
                self.loose.insert(&key, ())?;
            }
        }
        Ok(())
    }

    fn keep(
        &mut self,
        record: RecordId,
        ids: &[ChunkId],
        until: Time,
        segment: u64,
        bytes: u64,
    ) -> Result<(), redb::Error> {
        for id in ids {
            let key = pair(record, *id);
            if let Some(mut row) = self.binding(&key)?.filter(|row| row.1 < until.0) {
                row.1 = until.0;
                self.bindings.insert(&key, row)?;
            }
        }
        let mut row = self.segment(segment)?;
        row.2 += bytes;
        row.3 = row.3.max(until.0);
        self.segments.insert(segment, row)?;
        Ok(())
    }

    fn damage(&mut self, id: ChunkId, place: Place, lost: bool) -> Result<(), redb::Error> {
        let Some(mut row) = self.chunk(id)? else { return Ok(()) };
        if (row.0, row.1) != (place.segment, place.offset) {
            return Ok(());
        }
        row.4 = 1;
        if lost {
            self.add_live(row.0, -(entry_bytes(row.2) as i64));
            row.0 = 0;
            row.1 = 0;
        }
        self.chunks.insert(id.as_bytes(), row)?;
        Ok(())
    }

    /// Replays the delta of an anchor.
    pub(super) fn pin(&mut self, request: &PinRequest) -> Result<Result<(), PinError>, redb::Error> {
        let old = self.records.get(request.record.as_bytes())?.map(|row| row.value()).unwrap_or_default();
        if request.version.0 <= old.0 {
            return Ok(Ok(()));
        }
        let expected = Version(old.0).next();
        if request.version != expected {
            return Ok(Err(PinError::OutOfOrder {
                record: request.record,
                expected,
                found: request.version,
            }));
        }
        let mut row = (request.version.0, old.1, old.2);
        // What is both dropped and added stays.
        for id in &request.dropped {
            self.drop_pin(&mut row, pair(request.record, *id))?;
        }
        for (id, length) in &request.added {
            self.add_pin(&mut row, pair(request.record, *id), *length)?;
        }
        if !request.is_last {
            row.0 = old.0;
        }
        self.records.insert(request.record.as_bytes(), row)?;
        Ok(Ok(()))
    }

    fn add_pin(&mut self, record: &mut RecordRow, key: PairKey, length: u32) -> Result<(), redb::Error> {
        if self.pins.get(&key)?.is_none() {
            self.pins.insert(&key, (record.0, length))?;
            self.loose.remove(&key)?;
            record.1 += 1;
            record.2 += u64::from(length);
        }
        Ok(())
    }

    fn drop_pin(&mut self, record: &mut RecordRow, key: PairKey) -> Result<(), redb::Error> {
        let Some((_, length)) = self.pins.remove(&key)?.map(|row| row.value()) else { return Ok(()) };
        record.1 -= 1;
        record.2 -= u64::from(length);
        if self.binding(&key)?.is_some() {
            self.loose.insert(&key, ())?;
        }
        Ok(())
    }

    fn collect(
        &mut self,
        from: Option<PairKey>,
        now: Time,
        upload_keep_millis: u64,
        limit: usize,
        held: &BTreeSet<RecordId>,
    ) -> Result<Unbound, redb::Error> {
        let mut unbound = Unbound::default();
        let start = from.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut keys = Vec::new();
        for row in self.loose.range::<&PairKey>((start, Bound::Unbounded))?.take(limit) {
            keys.push(*row?.0.value());
        }
        unbound.examined = keys.len();
        unbound.next = keys.last().copied().filter(|_| keys.len() == limit);
        for key in keys {
            let row = self.binding(&key)?.expect("a loose binding is a binding");
            let kept = Time(row.0).plus_millis(upload_keep_millis) > now || Time(row.1) > now;
            if !kept && !held.contains(&record_of(&key)) {
                self.unbind(&key, row, &mut unbound)?;
            }
        }
        Ok(unbound)
    }

    fn unbind(&mut self, key: &PairKey, row: BindingRow, unbound: &mut Unbound) -> Result<(), redb::Error> {
        let id = id_of(key);
        self.bindings.remove(key)?;
        self.loose.remove(key)?;
        self.add_live(row.2, -BINDING_LIVE_BYTES);
        unbound.bindings += 1;
        let mut chunk = self.chunk(id)?.expect("a bound chunk is stored");
        chunk.3 -= 1;
        if chunk.3 > 0 {
            self.chunks.insert(id.as_bytes(), chunk)?;
            return Ok(());
        }
        self.chunks.remove(id.as_bytes())?;
        self.add_live(chunk.0, -(entry_bytes(chunk.2) as i64));
        unbound.chunks += 1;
        unbound.bytes += u64::from(chunk.2);
        Ok(())
    }

    /// Removes chunks that no entry binds: after a rebuild these are the moved copies of what was collected.
    pub(super) fn drop_unbound_chunks(&mut self) -> Result<(), redb::Error> {
        let mut dead = Vec::new();
        for row in self.chunks.extract_if(|_, row| row.3 == 0)? {
            let row = row?.1.value();
            dead.push((row.0, entry_bytes(row.2)));
        }
        for (segment, bytes) in dead {
            self.add_live(segment, -(bytes as i64));
        }
        Ok(())
    }
}

#[cfg(test)]
impl Snapshot {
    /// Counts everything anew and compares it with what is kept up to date.
    pub(super) fn check(&self) -> Result<(), redb::Error> {
        let mut live: BTreeMap<u64, u64> = BTreeMap::new();
        let mut bound: BTreeMap<[u8; 32], u32> = BTreeMap::new();
        let Some(bindings) = present(self.0.open_table(BINDINGS))? else { return Ok(()) };
        let (loose, pins) = (self.0.open_table(LOOSE)?, self.0.open_table(PINS)?);
        for row in bindings.iter()? {
            let (key, row) = row?;
            *bound.entry(*id_of(key.value()).as_bytes()).or_default() += 1;
            *live.entry(row.value().2).or_default() += BINDING_LIVE_BYTES as u64;
            assert_ne!(
                loose.get(key.value())?.is_some(),
                pins.get(key.value())?.is_some(),
                "loose or pinned"
            );
        }
        for row in loose.iter()? {
            assert!(bindings.get(row?.0.value())?.is_some(), "what is loose is bound");
        }
        let chunks = self.0.open_table(CHUNKS)?;
        assert_eq!(chunks.len()?, bound.len() as u64, "every chunk is bound");
        for row in chunks.iter()? {
            let (id, row) = row?;
            let row = row.value();
            assert_eq!(bound.get(id.value()), Some(&row.3), "bindings of a chunk are counted");
            if row.0 != 0 {
                *live.entry(row.0).or_default() += entry_bytes(row.2);
            }
        }
        let counted = self.segments()?.into_iter().filter(|(_, usage)| usage.live > 0);
        assert_eq!(counted.map(|(number, usage)| (number, usage.live)).collect::<BTreeMap<_, _>>(), live);
        Ok(())
    }
}
