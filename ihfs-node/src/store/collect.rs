//! Collection, compaction and scrubbing: what is not needed goes, what is damaged is found.
//!
//! In small steps between which uploads go on. A segment is removed only after its live entries are durable
//! elsewhere and the index says so.

use std::collections::BTreeSet;

use ihfs_core::ids::{ChunkId, RecordId, Time};

use super::index::{Binding, Change, Location, SegmentUse, Unbound};
use super::segment::{
    EntryHeader, EntryKind, FoundEntry, Place, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentScan, kept_ids,
    read_segment_header, segment_name,
};
use super::writer::{Command, Purpose, WriteError, Writer};
use super::{DiskFull, Store, StoreFault, UPLOAD_KEEP_MILLIS, Verified, lock};

/// Bytes that one step of compaction moves before uploads get their turn: some tens of milliseconds.
const STEP_BYTES: u64 = 4 << 20;
/// Entries that one step of compaction looks at, for the same reason.
const STEP_ENTRIES: usize = 1024;
/// Compaction that frees less would only churn: a new segment has a header and a last block of its own.
const FREED_BYTES_MIN: u64 = 2 * SEGMENT_HEADER_BYTES;

/// The record of a moved chunk, which other entries bind.
const NO_RECORD: RecordId = RecordId::from_bytes([0; 32]);

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Bindings looked at that are not pinned.
    pub examined: usize,
    /// Bindings removed.
    pub bindings: u64,
    /// Chunks that no record has any more.
    pub chunks: u64,
    /// Their length in bytes.
    pub chunk_bytes: u64,
    /// Entries that compaction moved.
    pub moved: usize,
    /// Segments removed.
    pub segments: u64,
    /// Bytes of the segments removed.
    pub segment_bytes: u64,
    /// True if the limit ended it: call again.
    pub more: bool,
    /// True if nothing was done, because the index was rebuilt and pins were not replayed yet.
    pub waits_for_pins: bool,
    /// Why compaction stopped, if there was no room to move entries to.
    pub disk_full: Option<DiskFull>,
}

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Chunks read and compared with their address.
    pub checked: u64,
    /// Their length in bytes.
    pub bytes: u64,
    /// Chunks that are damaged, those found before among them.
    pub damaged: Vec<ChunkId>,
    /// Where to go on; `None` at the end.
    pub next: Option<ChunkId>,
}

/// What one collection leaves to the next.
#[derive(Debug, Default)]
pub(super) struct Collecting {
    /// Where the limit ended compaction: what stands before was moved, receipts among it.
    next: Option<Place>,
    /// Segments that could not be emptied since the store was opened.
    stays: BTreeSet<u64>,
}

/// A part of a segment to be compacted.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompactStep {
    segment: u64,
    from: u64,
    now: Time,
    moves_max: usize,
}

/// How far a step came.
#[derive(Debug)]
pub(super) struct Compacted {
    moved: usize,
    end: CompactEnd,
}

#[derive(Debug)]
enum CompactEnd {
    /// Go on from this offset.
    Next(u64),
    /// The segment is gone.
    Removed,
    /// The segment is the one being written.
    Writing,
    /// The segment cannot go: live entries in it cannot be found.
    Stays,
    /// There is no room for its live entries.
    Full(DiskFull),
}

impl Store {
    /// Removes what nothing keeps: bindings that are neither pinned, nor protected by a receipt, nor
    /// younger than [`UPLOAD_KEEP_MILLIS`]; then chunks without bindings; then segments that are mostly dead.
    /// Looks at up to `limit` bindings and moves up to `limit` entries, in steps between which others go on.
    ///
    /// # Errors
    /// [`StoreFault`].
    pub fn collect(&self, now: Time, limit: usize) -> Result<Collected, StoreFault> {
        self.collect_but(now, limit, BTreeSet::new())
    }

    /// The same, but for bindings of records that are `held`: what they pin is not known.
    ///
    /// # Errors
    /// [`StoreFault`].
    pub fn collect_but(
        &self,
        now: Time,
        limit: usize,
        held: BTreeSet<RecordId>,
    ) -> Result<Collected, StoreFault> {
        let mut collecting = lock(&self.handle.collecting);
        if !self.handle.shared.index.pins_known()? {
            return Ok(Collected { waits_for_pins: true, ..Collected::default() });
        }
        let unbound = self.ask(|reply| Command::Unbind { now, limit, held, reply })??;
        let mut collected = Collected {
            examined: unbound.examined,
            bindings: unbound.bindings,
            chunks: unbound.chunks,
            chunk_bytes: unbound.bytes,
            more: !unbound.reached_the_end(),
            ..Collected::default()
        };
        for (segment, usage) in self.handle.shared.index.read(|snapshot| snapshot.segments())? {
            if !is_mostly_dead(&usage, now) || collecting.stays.contains(&segment) {
                continue;
            }
            if collected.moved >= limit || collected.disk_full.is_some() {
                collected.more = true;
                break;
            }
            self.compact(&mut collecting, segment, usage, now, limit, &mut collected)?;
        }
        Ok(collected)
    }

    fn compact(
        &self,
        collecting: &mut Collecting,
        segment: u64,
        usage: SegmentUse,
        now: Time,
        limit: usize,
        collected: &mut Collected,
    ) -> Result<(), StoreFault> {
        let mut from = collecting.next.filter(|next| next.segment == segment).map_or(0, |next| next.offset);
        collecting.next = None;
        loop {
            let moves_max = limit - collected.moved;
            let step = CompactStep { segment, from, now, moves_max };
            let compacted = self.ask(|reply| Command::Compact { step, reply })??;
            collected.moved += compacted.moved;
            match compacted.end {
                CompactEnd::Next(offset) if collected.moved >= limit => {
                    collecting.next = Some(Place { segment, offset });
                    collected.more = true;
                    return Ok(());
                }
                CompactEnd::Next(next) => from = next,
                CompactEnd::Removed => {
                    collected.segments += 1;
                    collected.segment_bytes += usage.used;
                    return Ok(());
                }
                CompactEnd::Writing => return Ok(()),
                CompactEnd::Stays => {
                    collecting.stays.insert(segment);
                    return Ok(());
                }
                CompactEnd::Full(full) => {
                    collected.disk_full = Some(full);
                    return Ok(());
                }
            }
        }
    }

    /// Reads up to `limit` chunks in the order of their ids, after `from`, and compares each with its
    /// address. Damaged ones are marked, so that they count as missing until they are uploaded again.
    ///
    /// # Errors
    /// [`StoreFault`]; bytes that cannot be read count as damaged.
    pub fn scrub(&self, from: Option<ChunkId>, limit: usize) -> Result<Scrubbed, StoreFault> {
        let rows = self.handle.shared.index.read(|snapshot| snapshot.chunks(from, limit))?;
        let next = rows.last().map(|(id, _)| *id).filter(|_| rows.len() == limit);
        let mut scrubbed = Scrubbed { next, ..Scrubbed::default() };
        let mut found = Vec::new();
        for (id, chunk) in rows {
            scrubbed.checked += 1;
            scrubbed.bytes += u64::from(chunk.location.length);
            if chunk.damaged {
                scrubbed.damaged.push(id);
            } else if let Some(place) = self.find_damage(id, chunk.location) {
                scrubbed.damaged.push(id);
                found.push((id, place));
            }
        }
        if !found.is_empty() {
            self.mark_damaged(found)?;
        }
        Ok(scrubbed)
    }

    fn find_damage(&self, id: ChunkId, location: Location) -> Option<Place> {
        match self.handle.shared.read_location(id, location) {
            // Moved or collected meanwhile: its turn comes with the next scrub.
            Ok(Verified::Whole(_) | Verified::Gone) => None,
            Ok(Verified::Damaged) | Err(_) => Some(location.place),
        }
    }
}

fn is_mostly_dead(usage: &SegmentUse, now: Time) -> bool {
    let entries = usage.used.saturating_sub(SEGMENT_HEADER_BYTES);
    let needed = usage.live + if usage.keep_until > now { usage.keep_bytes } else { 0 };
    let dead = entries.saturating_sub(needed);
    needed == 0 || (dead * 2 > entries && dead >= FREED_BYTES_MIN)
}

impl Writer {
    /// Removes bindings that nothing keeps, after everything pending is in the index.
    pub(super) fn unbind(
        &mut self,
        now: Time,
        limit: usize,
        held: &BTreeSet<RecordId>,
    ) -> Result<Unbound, StoreFault> {
        self.commit()?;
        self.shared.index.collect(now, UPLOAD_KEEP_MILLIS, limit, held)
    }

    /// Moves live entries out of a segment, and removes it at its end.
    pub(super) fn compact(&mut self, step: CompactStep) -> Result<Compacted, StoreFault> {
        if self.is_current(step.segment) {
            return Ok(Compacted { moved: 0, end: CompactEnd::Writing });
        }
        let file = self.shared.file(step.segment)?;
        let SegmentHeader::Readable(key) = read_segment_header(file.as_ref(), step.segment)? else {
            return Ok(Compacted { moved: 0, end: CompactEnd::Stays });
        };
        let mut scan = SegmentScan::new(file, key, step.segment, step.from)?;
        let (mut moved, mut moved_bytes) = (0, 0);
        for _ in 0..STEP_ENTRIES {
            if moved >= step.moves_max || moved_bytes >= STEP_BYTES {
                break;
            }
            let Some(entry) = scan.next_entry()? else {
                let end = self.remove_segment(step.segment)?;
                return Ok(Compacted { moved, end });
            };
            match self.move_entry(&scan, &entry, step.now) {
                Ok(true) => {
                    moved += 1;
                    moved_bytes += entry.header.entry_bytes();
                }
                Ok(false) => {}
                Err(WriteError::Full(full)) => return Ok(Compacted { moved, end: CompactEnd::Full(full) }),
                Err(WriteError::Fault(fault)) => return Err(fault),
            }
        }
        Ok(Compacted { moved, end: CompactEnd::Next(scan.at()) })
    }

    /// Writes an entry anew if it is live; whether it was.
    fn move_entry(&mut self, scan: &SegmentScan, entry: &FoundEntry, now: Time) -> Result<bool, WriteError> {
        match entry.header.kind {
            EntryKind::Chunk | EntryKind::Moved => self.move_chunk(scan, entry),
            EntryKind::Binding => self.move_binding(entry),
            EntryKind::Keep => self.move_keep(scan, entry, now),
        }
    }

    fn move_chunk(&mut self, scan: &SegmentScan, entry: &FoundEntry) -> Result<bool, WriteError> {
        let EntryHeader { id, record, .. } = entry.header;
        let stored = self.shared.stored(id)?;
        if stored.is_none_or(|chunk| chunk.location.place != entry.place) {
            // The bytes are elsewhere, but this entry may still be what binds them.
            return self.move_binding(entry);
        }
        let Some(body) = scan.body(entry).map_err(StoreFault::from)? else {
            self.changes.push(Change::Damaged { id, place: entry.place, lost: true });
            self.move_binding(entry)?;
            return Ok(true);
        };
        let binding = self.live_binding(entry)?;
        let header = match binding {
            Some(binding) => EntryHeader { time: binding.uploaded, ..entry.header },
            None => EntryHeader { kind: EntryKind::Moved, time: Time(0), record: NO_RECORD, ..entry.header },
        };
        let place = self.write_moved(&header, &body)?;
        let location = Location { place, length: header.body_bytes };
        self.changes.push(Change::Stored { id, location });
        if let Some(binding) = binding {
            self.changes.push(Change::Bound { record, id, uploaded: binding.uploaded, entry: place });
        }
        Ok(true)
    }

    /// The binding that this entry is what binds.
    fn live_binding(&self, entry: &FoundEntry) -> Result<Option<Binding>, StoreFault> {
        let EntryHeader { id, record, .. } = entry.header;
        let binding = self.shared.index.read(|snapshot| snapshot.binding(record, id))?;
        Ok(binding.filter(|binding| binding.entry == entry.place))
    }

    fn move_binding(&mut self, entry: &FoundEntry) -> Result<bool, WriteError> {
        let EntryHeader { id, record, .. } = entry.header;
        let Some(Binding { uploaded, .. }) = self.live_binding(entry)? else { return Ok(false) };
        let header = EntryHeader { kind: EntryKind::Binding, time: uploaded, record, id, body_bytes: 0 };
        let place = self.write_moved(&header, &[])?;
        self.changes.push(Change::Bound { record, id, uploaded, entry: place });
        Ok(true)
    }

    fn move_keep(&mut self, scan: &SegmentScan, entry: &FoundEntry, now: Time) -> Result<bool, WriteError> {
        let EntryHeader { record, time, .. } = entry.header;
        if time <= now {
            return Ok(false);
        }
        // A damaged list is still in the index; it is lost only to a rebuild.
        let Some(body) = scan.body(entry).map_err(StoreFault::from)? else { return Ok(false) };
        let ids: Vec<ChunkId> = kept_ids(&body).collect();
        self.write_keep(record, &ids, time)?;
        Ok(true)
    }

    fn write_moved(&mut self, header: &EntryHeader, body: &[u8]) -> Result<Place, WriteError> {
        let place = self.write(header, body, Purpose::Upkeep)?;
        self.flush_if_full();
        Ok(place)
    }

    /// Removes a segment whose live entries were moved: durable copies first, then the index, then the file.
    fn remove_segment(&mut self, segment: u64) -> Result<CompactEnd, StoreFault> {
        self.commit()?;
        if !self.shared.index.write(|batch| batch.drop_segment(segment))? {
            tracing::error!(segment, "a segment keeps entries that cannot be found; it stays");
            return Ok(CompactEnd::Stays);
        }
        self.shared.forget_file(segment);
        if let Err(error) = self.shared.disk.unlink(&segment_name(segment)) {
            // The index does not need it any more: the next opening removes it.
            self.shared.note(&error.into());
        }
        Ok(CompactEnd::Removed)
    }
}
