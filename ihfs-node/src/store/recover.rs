//! Opening: takes in whatever stands behind the index, or builds the index anew from all segments.
//!
//! Runs before any reader or writer. Never drops bytes that the index names, and never trusts a body unread.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::disk::{BLOCK_BYTES, Disk};
use super::index::{Change, INDEX_NAME, Index, Location, OpenIndexError};
use super::segment::{
    EntryKind, FORMAT_VERSION, FoundEntry, Place, SegmentHeader, SegmentKey, SegmentScan, kept_ids,
    read_segment_header, segment_name, segment_number,
};
use super::{OpenStoreError, StoreFault};

/// Changes applied in one commit while entries are read again: bounds the memory of a rebuild.
const REPLAY_CHANGES_MAX: usize = 4096;

/// The index, complete and fitting the segments, and the number of the next segment.
pub(super) fn open_index(disk: &Arc<dyn Disk>, cache_bytes: usize) -> Result<(Index, u64), OpenStoreError> {
    let segments = read_headers(disk.as_ref())?;
    let index = match Index::open(disk.clone(), cache_bytes) {
        Ok(index) if fits(&index, &segments)? => {
            take_in_tail(disk.as_ref(), &index, &segments)?;
            index
        }
        Ok(index) => {
            drop(index);
            rebuild(disk, cache_bytes, &segments)?
        }
        Err(OpenIndexError::Unusable) => rebuild(disk, cache_bytes, &segments)?,
        Err(OpenIndexError::Unknown { version }) => {
            return Err(unknown_format(INDEX_NAME.into(), version));
        }
        Err(OpenIndexError::Fault(fault)) => return Err(fault.into()),
    };
    let last = segments.last_key_value().map_or(0, |(number, _)| *number);
    let next = last.max(index.covered()?.segment) + 1;
    Ok((index, next))
}

fn unknown_format(file: String, found: u64) -> OpenStoreError {
    OpenStoreError::UnknownFormat { file, found, known: FORMAT_VERSION.into() }
}

/// Reads the header of every segment, so that an unknown version is refused before anything changes.
fn read_headers(disk: &dyn Disk) -> Result<BTreeMap<u64, SegmentHeader>, OpenStoreError> {
    let mut headers = BTreeMap::new();
    for name in disk.list().map_err(StoreFault::from)? {
        let Some(number) = segment_number(&name) else { continue };
        let file = disk.open(&name, false).map_err(StoreFault::from)?;
        let header = read_segment_header(file.as_ref(), number).map_err(StoreFault::from)?;
        if let SegmentHeader::Unknown { version } = header {
            return Err(unknown_format(name, version.into()));
        }
        headers.insert(number, header);
    }
    Ok(headers)
}

/// Whether the index was completed and every segment that it names is there.
fn fits(index: &Index, segments: &BTreeMap<u64, SegmentHeader>) -> Result<bool, StoreFault> {
    let named = index.read(|snapshot| snapshot.segments())?;
    Ok(index.is_complete()? && named.keys().all(|number| segments.contains_key(number)))
}

/// Takes in what was written after the last commit of the index, and removes what is left of segments
/// that it does not need.
fn take_in_tail(
    disk: &dyn Disk,
    index: &Index,
    segments: &BTreeMap<u64, SegmentHeader>,
) -> Result<(), StoreFault> {
    let covered = index.covered()?;
    let named: BTreeSet<u64> = index.read(|snapshot| snapshot.segments())?.into_keys().collect();
    let unnamed = |number: &u64| !named.contains(number);
    for number in segments.keys().filter(|number| **number < covered.segment && unnamed(number)) {
        disk.unlink(&segment_name(*number))?;
    }
    let tail: BTreeMap<_, _> = segments.range(covered.segment..).collect();
    for (number, header) in &tail {
        if unnamed(number) {
            clear_headless(disk, **number, header)?;
        }
    }
    let readable = readable(tail.into_iter());
    replay(disk, index, &readable, covered)
}

/// Builds the index from all segments.
fn rebuild(
    disk: &Arc<dyn Disk>,
    cache_bytes: usize,
    segments: &BTreeMap<u64, SegmentHeader>,
) -> Result<Index, OpenStoreError> {
    if !segments.is_empty() {
        tracing::warn!(segments = segments.len(), "rebuilding the store's index from its segments");
    }
    disk.unlink(INDEX_NAME).map_err(StoreFault::from)?;
    for (number, header) in segments {
        clear_headless(disk.as_ref(), *number, header)?;
    }
    let index = match Index::open(disk.clone(), cache_bytes) {
        Ok(index) => index,
        Err(OpenIndexError::Fault(fault)) => return Err(fault.into()),
        Err(OpenIndexError::Unusable | OpenIndexError::Unknown { .. }) => {
            // A file that was just made is empty, unless the medium answers with something else.
            return Err(StoreFault::from(io::Error::from(io::ErrorKind::InvalidData)).into());
        }
    };
    disk.sync_names().map_err(StoreFault::from)?;
    let readable = readable(segments.iter());
    replay(disk.as_ref(), &index, &readable, Place { segment: 0, offset: 0 })?;
    index.write(|batch| {
        batch.drop_unbound_chunks()?;
        if segments.is_empty() {
            batch.set_pins_known()?;
        }
        batch.complete()
    })?;
    Ok(index)
}

/// A segment without a header holds nothing that was acknowledged, unless its header was damaged later:
/// blank ones go, damaged ones are set aside for a person to look at.
fn clear_headless(disk: &dyn Disk, number: u64, header: &SegmentHeader) -> Result<(), StoreFault> {
    let name = segment_name(number);
    match header {
        SegmentHeader::Blank => disk.unlink(&name)?,
        SegmentHeader::Damaged => {
            tracing::error!(segment = number, "the header of a segment is damaged; it is set aside");
            disk.rename(&name, &format!("{name}.damaged"))?;
        }
        SegmentHeader::Readable(_) | SegmentHeader::Unknown { .. } => {}
    }
    Ok(())
}

fn readable<'a>(segments: impl Iterator<Item = (&'a u64, &'a SegmentHeader)>) -> BTreeMap<u64, SegmentKey> {
    let keys = segments.filter_map(|(number, header)| match header {
        SegmentHeader::Readable(key) => Some((*number, *key)),
        _ => None,
    });
    keys.collect()
}

/// Reads all entries from a place on: first the chunks, every byte of them, then what binds them, then what
/// keeps the bindings, because compaction can move each behind what needs it.
fn replay(
    disk: &dyn Disk,
    index: &Index,
    segments: &BTreeMap<u64, SegmentKey>,
    from: Place,
) -> Result<(), StoreFault> {
    let mut replay = Replay { index, changes: Vec::new() };
    let mut ends = BTreeMap::new();
    for (number, key) in segments {
        let mut scan = open_scan(disk, *number, *key, from)?;
        // After a crash of the process alone the entries may not be on the medium yet.
        disk.open(&segment_name(*number), false)?.sync()?;
        let mut end = scan.at();
        while let Some(entry) = scan.next_entry()? {
            if replay.take_chunk(&scan, &entry)? {
                end = scan.at();
            }
        }
        ends.insert(*number, end.next_multiple_of(BLOCK_BYTES as u64));
    }
    for pass in [Replay::take_binding, Replay::take_keep] {
        for (number, key) in segments {
            let mut scan = open_scan(disk, *number, *key, from)?;
            while let Some(entry) = scan.next_entry()? {
                pass(&mut replay, &scan, &entry)?;
            }
        }
    }
    replay.apply()?;
    if let Some((last, end)) = ends.last_key_value() {
        index.write(|batch| {
            for (number, end) in &ends {
                batch.use_segment(*number, *end)?;
            }
            batch.cover(Place { segment: *last, offset: *end })
        })?;
        cut_unused(disk, *last, *end)?;
    }
    Ok(())
}

fn open_scan(disk: &dyn Disk, number: u64, key: SegmentKey, from: Place) -> Result<SegmentScan, StoreFault> {
    let file = disk.open(&segment_name(number), false)?;
    let offset = if number == from.segment { from.offset } else { 0 };
    Ok(SegmentScan::new(file, key, number, offset)?)
}

/// Gives back what was preallocated behind the last entry of the last segment.
fn cut_unused(disk: &dyn Disk, number: u64, end: u64) -> Result<(), StoreFault> {
    let file = disk.open(&segment_name(number), false)?;
    if file.len()? > end {
        file.set_len(end)?;
    }
    Ok(())
}

/// Gathers changes and applies them in bounded commits.
struct Replay<'a> {
    index: &'a Index,
    changes: Vec<Change>,
}

impl Replay<'_> {
    /// Takes the bytes of a chunk; whether the entry is whole.
    fn take_chunk(&mut self, scan: &SegmentScan, entry: &FoundEntry) -> Result<bool, StoreFault> {
        let header = entry.header;
        let whole = scan.body(entry)?.is_some();
        if whole && matches!(header.kind, EntryKind::Chunk | EntryKind::Moved) {
            let location = Location { place: entry.place, length: header.body_bytes };
            self.push(Change::Stored { id: header.id, location })?;
        }
        Ok(whole)
    }

    /// Takes the binding of an entry.
    fn take_binding(&mut self, _: &SegmentScan, entry: &FoundEntry) -> Result<(), StoreFault> {
        let header = entry.header;
        match header.kind {
            EntryKind::Chunk | EntryKind::Binding => self.push(Change::Bound {
                record: header.record,
                id: header.id,
                uploaded: header.time,
                entry: entry.place,
            }),
            EntryKind::Moved | EntryKind::Keep => Ok(()),
        }
    }

    /// Takes what a receipt protects.
    fn take_keep(&mut self, scan: &SegmentScan, entry: &FoundEntry) -> Result<(), StoreFault> {
        let header = entry.header;
        if header.kind != EntryKind::Keep {
            return Ok(());
        }
        let Some(body) = scan.body(entry)? else { return Ok(()) };
        self.push(Change::Kept {
            record: header.record,
            ids: kept_ids(&body).collect(),
            until: header.time,
            segment: entry.place.segment,
            bytes: header.entry_bytes(),
        })
    }

    fn push(&mut self, change: Change) -> Result<(), StoreFault> {
        self.changes.push(change);
        if self.changes.len() >= REPLAY_CHANGES_MAX { self.apply() } else { Ok(()) }
    }

    fn apply(&mut self) -> Result<(), StoreFault> {
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() {
            return Ok(());
        }
        self.index.write(|batch| changes.iter().try_for_each(|change| batch.apply(change)))
    }
}
