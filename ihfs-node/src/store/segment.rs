//! Segments: append-only files that hold every chunk and enough beside it to rebuild the index.
//!
//! # Files of a store
//!
//! | name | what |
//! |---|---|
//! | `{number:016x}.segment` | a segment; numbers start at 1 and grow by one; one that ever held an entry is never used again |
//! | `{number:016x}.segment.damaged` | a segment without a readable header, set aside when a store was opened |
//! | `index.redb` | the index, which can be rebuilt from the segments and the ledger |
//! | `lock` | locked by the process that has the store open; empty |
//!
//! All integers are little-endian. Bytes called "zero" are written as zero and must be zero.
//!
//! # Segment
//!
//! A segment is a header of 4096 bytes, then entries. It is preallocated as zeros, written once from front to
//! back in whole blocks of 4096 bytes, never rewritten in place, and cut behind its last entry when it is full
//! or when the store closes. Before a segment is begun, the one before it is durable.
//!
//! The header stands twice, at 0 and at 2048, so that one bad sector does not cost a segment:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `IHFSSEGM` |
//! | 8 | 4 | format version, 1; any other is refused by number |
//! | 12 | 4 | zero |
//! | 16 | 8 | number of the segment |
//! | 24 | 32 | segment key, random |
//! | 56 | 16 | first 16 bytes of BLAKE3-derive-key("IHFS 1 segment header", bytes 0..56) |
//! | 72 | 1976 | zero |
//!
//! # Entry
//!
//! Entries start at multiples of 64 bytes. Between two entries there may be zeros (the rest of a block at the
//! time of a sync) or bytes that a power cut tore; a reader that finds no valid entry goes on at the next
//! multiple of 64. That is safe although chunks are chosen by others, because the checksum of an entry is keyed
//! by the segment key, which never leaves the node, and covers the place of the entry: bytes inside of a chunk
//! cannot pass for an entry.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `IHFe` |
//! | 4 | 1 | entry version, 1 |
//! | 5 | 1 | kind: 1 chunk, 2 binding, 3 keep, 4 moved chunk |
//! | 6 | 2 | zero |
//! | 8 | 8 | number of the segment |
//! | 16 | 8 | offset of this entry in the segment |
//! | 24 | 8 | time in milliseconds: of the upload (chunk, binding); end of the receipt (keep); 0 (moved chunk) |
//! | 32 | 32 | record id; zero in a moved chunk |
//! | 64 | 32 | chunk id (chunk, binding, moved chunk); BLAKE3 of the body (keep) |
//! | 96 | 4 | length of the body in bytes |
//! | 100 | 12 | zero |
//! | 112 | 16 | first 16 bytes of BLAKE3-keyed(segment key, bytes 0..112) |
//! | 128 | … | body |
//!
//! * **chunk**: the body is the chunk, at most 1 MiB + 64 KiB, bound to the record.
//! * **binding**: no body; the chunk, stored by another entry, is bound to this record as well.
//! * **keep**: the body is 1 to 8192 chunk ids of 32 bytes, bindings of the record that a receipt protects until
//!   the time.
//! * **moved chunk**: a chunk that compaction rewrote without a binding of its own; other entries bind it.
//!
//! A body is whole if and only if its BLAKE3 is the id in the header.
//!
//! Of several chunk and moved entries with one id the last whole one counts. Of several chunk and binding entries
//! with one record and id the one with the latest time counts, and of those the last.
//!
//! # Index
//!
//! `index.redb` is a redb 4 database with these tables; tuples are in redb's own encoding, `‖` joins 32-byte ids.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | text | u64: `format` (1), `segment` and `offset` (entries before that place are indexed), `sequence` (commits so far), `pins known` (0 after a rebuild until the pins were replayed, else 1) |
//! | `chunks` | chunk id | (segment, offset of the entry, length, number of bindings, 1 if damaged): (u64, u64, u32, u32, u8); segment 0: the bytes are lost |
//! | `bindings` | record id ‖ chunk id | (time of upload, end of the last receipt or 0, segment and offset of the entry that binds): (u64, u64, u64, u64) |
//! | `loose` | record id ‖ chunk id | (): the bindings that are not pinned, all that collection looks at |
//! | `pins` | record id ‖ chunk id | (version that pinned it, length): (u64, u32) |
//! | `records` | record id | (last version applied, pins, bytes pinned): (u64, u64, u64) |
//! | `segments` | segment number | (bytes used, bytes live: of chunk entries, and 128 for each binding, bytes of keep entries, last end of a keep): (u64, u64, u64, u64) |
//!
//! The index is committed only after the segments are durable up to the place in `meta`. Whatever stands behind
//! that place is read again when the store opens: whole entries are taken, torn ones passed over. An index that
//! is missing, unreadable, or that names a segment which is gone is rebuilt from all segments; pins are not in
//! the segments, so that nothing is collected afterwards until the ledger's deltas were replayed.

use std::io;
use std::sync::Arc;

use ihfs_core::ids::{ChunkId, RecordId, Time};
use rustix::io::Errno;

use super::disk::{BLOCK_BYTES, Disk, DiskFile};

/// Most bytes of a chunk: 1 MiB of plaintext, and 64 KiB for tags, padding and framing.
pub const CHUNK_BYTES_MAX: usize = (1 << 20) + (64 << 10);
/// Most ids in one keep entry: 256 KiB, so that entries of every kind fit the buffers made for chunks.
pub const KEEP_IDS_MAX: usize = 8192;
/// Bytes of an entry before its body.
pub const ENTRY_HEADER_BYTES: usize = 128;
/// Version of segments and of entries that this code reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes before the first entry.
pub(super) const SEGMENT_HEADER_BYTES: u64 = BLOCK_BYTES as u64;
/// Entries start at multiples of this: small enough to waste little, and the scan for the next one is quick.
const ENTRY_ALIGN: u64 = 64;
const SEGMENT_MAGIC: [u8; 8] = *b"IHFSSEGM";
const ENTRY_MAGIC: [u8; 4] = *b"IHFe";
const SECOND_COPY_AT: usize = 2048;
const HEADER_LABEL: &str = "IHFS 1 segment header";
/// Bytes gathered before they are written: large writes are what a disk does best.
const STAGE_BYTES: usize = 4 << 20;
const SUFFIX: &str = ".segment";

/// The secret that keeps entries of a segment from being forged by the bytes of a chunk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SegmentKey([u8; 32]);

impl SegmentKey {
    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Debug for SegmentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SegmentKey(..)")
    }
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the segment.
    pub segment: u64,
    /// Bytes from the start of the segment.
    pub offset: u64,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// Bytes of a chunk, bound to a record.
    Chunk = 1,
    /// A binding of a chunk that is stored elsewhere.
    Binding = 2,
    /// Bindings that a receipt protects.
    Keep = 3,
    /// Bytes of a chunk that compaction rewrote, bound by other entries.
    Moved = 4,
}

/// The header of an entry, without its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// What the entry is.
    pub kind: EntryKind,
    /// Time of upload, or end of the receipt.
    pub time: Time,
    /// The record; zero in a moved chunk.
    pub record: RecordId,
    /// The chunk, or the hash of the body of a keep entry.
    pub id: ChunkId,
    /// Length of the body in bytes.
    pub body_bytes: u32,
}

impl EntryHeader {
    /// Bytes that the entry takes in a segment.
    pub(super) fn entry_bytes(&self) -> u64 {
        entry_bytes(self.body_bytes)
    }
}

/// Bytes that an entry with this body takes in a segment.
pub(super) fn entry_bytes(body_bytes: u32) -> u64 {
    (ENTRY_HEADER_BYTES as u64 + u64::from(body_bytes)).next_multiple_of(ENTRY_ALIGN)
}

/// Why bytes are not an entry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Fewer bytes than the entry has.
    #[error("an entry of {expected} bytes was cut to {found}")]
    TooShort {
        /// Bytes that the entry has.
        expected: usize,
        /// Bytes that there were.
        found: usize,
    },
    /// No entry starts here.
    #[error("no entry starts here")]
    NoMagic,
    /// The entry is of a version that this code does not know.
    #[error("entry version {found} is unknown")]
    UnknownVersion {
        /// The version found.
        found: u8,
    },
    /// The checksum is not that of the header under the segment key.
    #[error("the checksum of the entry header is wrong")]
    WrongChecksum,
    /// The entry belongs to another place.
    #[error("the entry was written for segment {} at {}", found.segment, found.offset)]
    WrongPlace {
        /// The place in the header.
        found: Place,
    },
    /// The kind is unknown, or a field does not fit the kind.
    #[error("a field of the entry header breaks the format")]
    Malformed,
    /// The body does not hash to the id in the header.
    #[error("the body of the entry does not hash to {expected:?}")]
    WrongBody {
        /// The hash in the header.
        expected: ChunkId,
    },
}

/// Reads the entry at the start of `bytes`, which were found at `place`: header and body, verified.
///
/// # Errors
/// [`EntryError`], for anything but exactly the bytes that were once written there under this key.
pub fn decode_entry<'a>(
    key: &SegmentKey,
    place: Place,
    bytes: &'a [u8],
) -> Result<(EntryHeader, &'a [u8]), EntryError> {
    let header = decode_entry_header(key, place, bytes)?;
    let end = ENTRY_HEADER_BYTES + header.body_bytes as usize;
    let body = bytes
        .get(ENTRY_HEADER_BYTES..end)
        .ok_or(EntryError::TooShort { expected: end, found: bytes.len() })?;
    check_body(&header, body)?;
    Ok((header, body))
}

/// Reads the header of the entry at the start of `bytes`.
pub(super) fn decode_entry_header(
    key: &SegmentKey,
    place: Place,
    bytes: &[u8],
) -> Result<EntryHeader, EntryError> {
    if bytes.len() >= 4 && bytes[..4] != ENTRY_MAGIC {
        return Err(EntryError::NoMagic);
    }
    let Some(bytes) = bytes.first_chunk::<ENTRY_HEADER_BYTES>() else {
        return Err(EntryError::TooShort { expected: ENTRY_HEADER_BYTES, found: bytes.len() });
    };
    if bytes[112..] != checksum(key, &bytes[..112]) {
        return Err(EntryError::WrongChecksum);
    }
    if bytes[4] != 1 {
        return Err(EntryError::UnknownVersion { found: bytes[4] });
    }
    let found = Place { segment: u64_at(bytes, 8), offset: u64_at(bytes, 16) };
    if found != place {
        return Err(EntryError::WrongPlace { found });
    }
    let header = EntryHeader {
        kind: kind_of(bytes[5]).ok_or(EntryError::Malformed)?,
        time: Time(u64_at(bytes, 24)),
        record: RecordId::from_bytes(array_at(bytes, 32)),
        id: ChunkId::from_bytes(array_at(bytes, 64)),
        body_bytes: u32::from_le_bytes(array_at(bytes, 96)),
    };
    let zeros = bytes[6..8].iter().chain(&bytes[100..112]).all(|byte| *byte == 0);
    if !zeros || !length_fits(&header) {
        return Err(EntryError::Malformed);
    }
    Ok(header)
}

fn check_body(header: &EntryHeader, body: &[u8]) -> Result<(), EntryError> {
    if header.kind != EntryKind::Binding && ChunkId::of(body) != header.id {
        return Err(EntryError::WrongBody { expected: header.id });
    }
    Ok(())
}

fn length_fits(header: &EntryHeader) -> bool {
    let length = header.body_bytes as usize;
    match header.kind {
        EntryKind::Chunk => length <= CHUNK_BYTES_MAX,
        EntryKind::Moved => length <= CHUNK_BYTES_MAX && header.record.as_bytes() == &[0; 32],
        EntryKind::Binding => length == 0,
        EntryKind::Keep => length.is_multiple_of(32) && length > 0 && length <= KEEP_IDS_MAX * 32,
    }
}

fn kind_of(byte: u8) -> Option<EntryKind> {
    [EntryKind::Chunk, EntryKind::Binding, EntryKind::Keep, EntryKind::Moved]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
}

/// The 128 bytes before the body of an entry.
pub(super) fn encode_entry_header(
    key: &SegmentKey,
    place: Place,
    header: &EntryHeader,
) -> [u8; ENTRY_HEADER_BYTES] {
    let mut bytes = [0; ENTRY_HEADER_BYTES];
    bytes[..4].copy_from_slice(&ENTRY_MAGIC);
    bytes[4] = 1;
    bytes[5] = header.kind as u8;
    bytes[8..16].copy_from_slice(&place.segment.to_le_bytes());
    bytes[16..24].copy_from_slice(&place.offset.to_le_bytes());
    bytes[24..32].copy_from_slice(&header.time.0.to_le_bytes());
    bytes[32..64].copy_from_slice(header.record.as_bytes());
    bytes[64..96].copy_from_slice(header.id.as_bytes());
    bytes[96..100].copy_from_slice(&header.body_bytes.to_le_bytes());
    let sum = checksum(key, &bytes[..112]);
    bytes[112..].copy_from_slice(&sum);
    bytes
}

/// The ids in the body of a keep entry.
pub(super) fn kept_ids(body: &[u8]) -> impl Iterator<Item = ChunkId> + '_ {
    body.as_chunks::<32>().0.iter().map(|id| ChunkId::from_bytes(*id))
}

fn checksum(key: &SegmentKey, bytes: &[u8]) -> [u8; 16] {
    array_at(blake3::keyed_hash(&key.0, bytes).as_bytes(), 0)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("callers stay inside fixed headers")
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

/// The file name of a segment.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:016x}{SUFFIX}")
}

/// The number in a segment's file name.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name.strip_suffix(SUFFIX)?, 16).ok()?;
    (segment_name(number) == name).then_some(number)
}

fn encode_segment_header(number: u64, key: &SegmentKey) -> Vec<u8> {
    let mut copy = vec![0; SECOND_COPY_AT];
    copy[..8].copy_from_slice(&SEGMENT_MAGIC);
    copy[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    copy[16..24].copy_from_slice(&number.to_le_bytes());
    copy[24..56].copy_from_slice(&key.0);
    let sum = header_checksum(&copy);
    copy[56..72].copy_from_slice(&sum);
    copy.repeat(2)
}

fn header_checksum(copy: &[u8]) -> [u8; 16] {
    array_at(&blake3::derive_key(HEADER_LABEL, &copy[..56]), 0)
}

/// What the header of a segment says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SegmentHeader {
    /// Entries follow under this key.
    Readable(SegmentKey),
    /// The segment is of another format version.
    Unknown { version: u32 },
    /// Nothing was written yet: the power went away while the segment was begun.
    Blank,
    /// Neither copy of the header is whole.
    Damaged,
}

/// Reads both copies of a segment header.
pub(super) fn decode_segment_header(number: u64, bytes: &[u8]) -> SegmentHeader {
    let copies = bytes.chunks_exact(SECOND_COPY_AT).take(2);
    let whole = |copy: &&[u8]| {
        copy[..8] == SEGMENT_MAGIC
            && copy[8..12] == FORMAT_VERSION.to_le_bytes()
            && u64_at(copy, 16) == number
            && copy[56..72] == header_checksum(copy)
    };
    if let Some(copy) = copies.clone().find(whole) {
        return SegmentHeader::Readable(SegmentKey(array_at(copy, 24)));
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return SegmentHeader::Blank;
    }
    let version = bytes.get(8..12).map(|version| u32::from_le_bytes(array_at(version, 0)));
    match version {
        Some(version) if bytes[..8] == SEGMENT_MAGIC && version != FORMAT_VERSION => {
            SegmentHeader::Unknown { version }
        }
        _ => SegmentHeader::Damaged,
    }
}

/// Reads the header of the segment in `file`.
///
/// # Errors
/// The fault of the medium; a file that is too short is blank.
pub(super) fn read_segment_header(file: &dyn DiskFile, number: u64) -> io::Result<SegmentHeader> {
    let mut bytes = vec![0; SEGMENT_HEADER_BYTES as usize];
    if file.len()? < SEGMENT_HEADER_BYTES {
        return Ok(SegmentHeader::Blank);
    }
    file.read_at(0, &mut bytes)?;
    Ok(decode_segment_header(number, &bytes))
}

/// Memory whose used part starts at a multiple of the block size, as writes around the page cache need.
#[derive(Debug)]
pub(super) struct Stage {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Stage {
    /// Room for what is gathered, one entry more, and the rest of a block.
    const CAPACITY: usize = STAGE_BYTES + CHUNK_BYTES_MAX + 2 * BLOCK_BYTES;

    pub(super) fn new() -> Self {
        let memory = vec![0; Self::CAPACITY + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        assert!(start < BLOCK_BYTES, "bytes can be aligned to a block");
        Self { memory, start, len: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.start + self.len;
        self.memory[end..end + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn pad_to(&mut self, multiple: usize) {
        let padded = self.len.next_multiple_of(multiple);
        self.memory[self.start + self.len..self.start + padded].fill(0);
        self.len = padded;
    }

    fn whole_blocks(&self) -> &[u8] {
        let whole = self.len - self.len % BLOCK_BYTES;
        &self.memory[self.start..self.start + whole]
    }

    fn drop_front(&mut self, bytes: usize) {
        let used = self.start..self.start + self.len;
        self.memory.copy_within(used.start + bytes..used.end, used.start);
        self.len -= bytes;
    }
}

/// The segment that is being written. Every block is written once.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    number: u64,
    file: Arc<dyn DiskFile>,
    key: SegmentKey,
    capacity: u64,
    stage: Stage,
    /// Where the first staged byte belongs; a multiple of the block size.
    stage_at: u64,
    synced_to: u64,
}

impl SegmentWriter {
    /// Begins a segment: preallocated, its header and its name durable.
    ///
    /// # Errors
    /// `StorageFull`, or the fault of the medium.
    pub(super) fn begin(disk: &dyn Disk, number: u64, capacity: u64, mut stage: Stage) -> io::Result<Self> {
        let key = SegmentKey(disk.random_key());
        let name = segment_name(number);
        let file = disk.create_preallocated(&name, capacity)?;
        stage.len = 0;
        stage.push(&encode_segment_header(number, &key));
        let begun = file
            .write_at(0, stage.whole_blocks())
            .and_then(|()| file.sync())
            .and_then(|()| disk.sync_names());
        stage.len = 0;
        if let Err(error) = begun {
            // Without its header the file is blank: if it cannot be removed now, opening the store does.
            let _ = disk.unlink(&name);
            return Err(error);
        }
        let at = SEGMENT_HEADER_BYTES;
        Ok(Self { number, file, key, capacity, stage, stage_at: at, synced_to: at })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Where the next entry will stand; everything before belongs to this segment.
    pub(super) fn end(&self) -> u64 {
        self.stage_at + self.stage.len as u64
    }

    /// Entries before this offset can be read from the file.
    pub(super) fn written_to(&self) -> u64 {
        self.stage_at
    }

    /// Whether an entry with this body fits, and the rest of its block.
    pub(super) fn has_room_for(&self, body_bytes: u32) -> bool {
        self.end() + Self::room_for(body_bytes) <= self.capacity
    }

    /// Bytes to have free for an entry with this body.
    pub(super) fn room_for(body_bytes: u32) -> u64 {
        (entry_bytes(body_bytes) + BLOCK_BYTES as u64).next_multiple_of(BLOCK_BYTES as u64)
    }

    /// Takes an entry in; it is in the file once enough came together or [`flush`](Self::flush) was called.
    pub(super) fn push(&mut self, header: &EntryHeader, body: &[u8]) -> Place {
        assert!(self.has_room_for(header.body_bytes) && body.len() == header.body_bytes as usize);
        let place = Place { segment: self.number, offset: self.end() };
        self.stage.push(&encode_entry_header(&self.key, place, header));
        self.stage.push(body);
        self.stage.pad_to(ENTRY_ALIGN as usize);
        place
    }

    /// Writes what was gathered, if it is much.
    ///
    /// # Errors
    /// The fault of the medium.
    pub(super) fn flush_if_full(&mut self) -> io::Result<()> {
        if self.stage.len >= STAGE_BYTES { self.write_whole_blocks() } else { Ok(()) }
    }

    /// Writes everything gathered, to the end of its last block.
    ///
    /// # Errors
    /// The fault of the medium.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.stage.pad_to(BLOCK_BYTES);
        self.write_whole_blocks()
    }

    fn write_whole_blocks(&mut self) -> io::Result<()> {
        let whole = self.stage.whole_blocks();
        let written = whole.len();
        if written > 0 {
            self.file.write_at(self.stage_at, whole)?;
            self.stage.drop_front(written);
            self.stage_at += written as u64;
        }
        Ok(())
    }

    /// Makes every entry durable.
    ///
    /// # Errors
    /// The fault of the medium; what was not durable before is not to be relied on then.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        if self.synced_to < self.stage_at {
            self.file.sync()?;
            self.synced_to = self.stage_at;
        }
        Ok(())
    }

    /// Makes every entry durable and gives unused space back; nothing can be added afterwards.
    ///
    /// # Errors
    /// As [`sync`](Self::sync).
    pub(super) fn seal(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.set_len(self.stage_at)?;
        self.capacity = self.stage_at;
        self.file.sync()?;
        self.synced_to = self.stage_at;
        Ok(())
    }

    /// The buffer, to be used again.
    pub(super) fn into_stage(self) -> Stage {
        self.stage
    }
}

/// Walks the entries of a segment, passing over whatever is not a valid header.
#[derive(Debug)]
pub(super) struct SegmentScan {
    file: Arc<dyn DiskFile>,
    key: SegmentKey,
    number: u64,
    at: u64,
    len: u64,
    window: Vec<u8>,
    window_at: u64,
}

/// An entry that a scan found.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundEntry {
    pub(super) place: Place,
    pub(super) header: EntryHeader,
}

impl SegmentScan {
    /// Bytes read at a time.
    const WINDOW_BYTES: u64 = 64 << 10;

    /// Starts at `from`, which is the start of the segment if it lies inside the header.
    ///
    /// # Errors
    /// The fault of the medium.
    pub(super) fn new(file: Arc<dyn DiskFile>, key: SegmentKey, number: u64, from: u64) -> io::Result<Self> {
        let len = file.len()?;
        let at = from.max(SEGMENT_HEADER_BYTES).next_multiple_of(ENTRY_ALIGN);
        Ok(Self { file, key, number, at, len, window: Vec::new(), window_at: 0 })
    }

    /// The next entry whose header is valid and whose body lies inside the file.
    ///
    /// # Errors
    /// The fault of the medium.
    pub(super) fn next_entry(&mut self) -> io::Result<Option<FoundEntry>> {
        while self.at + ENTRY_HEADER_BYTES as u64 <= self.len {
            let place = Place { segment: self.number, offset: self.at };
            let key = self.key;
            let decoded = decode_entry_header(&key, place, self.peek()?);
            match decoded {
                Ok(header)
                    if self.at + ENTRY_HEADER_BYTES as u64 + u64::from(header.body_bytes) <= self.len =>
                {
                    self.at += header.entry_bytes();
                    return Ok(Some(FoundEntry { place, header }));
                }
                _ => self.at += ENTRY_ALIGN,
            }
        }
        Ok(None)
    }

    /// The body of an entry, `None` if it is not what the header says.
    ///
    /// # Errors
    /// The fault of the medium.
    pub(super) fn body(&self, entry: &FoundEntry) -> io::Result<Option<Vec<u8>>> {
        let mut body = vec![0; entry.header.body_bytes as usize];
        let read = self.file.read_at(entry.place.offset + ENTRY_HEADER_BYTES as u64, &mut body);
        match read {
            // A bad sector damages the chunk in it, not the store.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => return Ok(None),
            read => read?,
        }
        Ok(check_body(&entry.header, &body).is_ok().then_some(body))
    }

    /// Where the next entry is looked for.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    fn peek(&mut self) -> io::Result<&[u8]> {
        let end = self.at + ENTRY_HEADER_BYTES as u64;
        if self.at < self.window_at || end > self.window_at + self.window.len() as u64 {
            let bytes = Self::WINDOW_BYTES.min(self.len - self.at);
            self.window.resize(bytes as usize, 0);
            self.window_at = self.at;
            self.file.read_at(self.at, &mut self.window)?;
        }
        let from = (self.at - self.window_at) as usize;
        Ok(&self.window[from..from + ENTRY_HEADER_BYTES])
    }
}
