//! Pins: the chunks of a record that nodes keep, as each anchor changes them.
//!
//! A delta is public to nodes: addresses and lengths, never a key or a name. Its head is a chunk that an anchor
//! names; a large delta goes on in further chunks that the head names. Roots and delta chunks themselves are
//! named by the ledger and are not listed.

use std::collections::{BTreeMap, BTreeSet};

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::codec::{self, DecodeError};
use crate::ids::ChunkId;
use crate::sealed::{CHUNK_BYTES_MAX, CHUNK_PLAINTEXT_MAX};

/// Format of deltas.
pub const DELTA_FORMAT: u32 = 1;
/// Most pins of one delta chunk: at 41 bytes each they fill two thirds of a chunk.
pub const CHUNK_PINS_MAX: usize = 16_384;
/// Most further chunks of a delta: with full chunks, 64 TiB in one anchor.
pub const PARTS_MAX: usize = 4096;

/// A chunk that becomes pinned, or is no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Pin {
    /// Its address.
    pub chunk: ChunkId,
    /// Its stored bytes.
    pub size_bytes: u32,
}

/// How an anchor changes the pins of its record. A chunk both dropped and added stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Chunks added, with their stored bytes.
    pub added: BTreeMap<ChunkId, u32>,
    /// Chunks dropped, with their stored bytes; only the owner may.
    pub dropped: BTreeMap<ChunkId, u32>,
}

/// The sums over a delta.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct DeltaSummary {
    /// Chunks added.
    pub added: u64,
    /// Their stored bytes.
    pub added_bytes: u64,
    /// Chunks dropped.
    pub dropped: u64,
    /// Their stored bytes.
    pub dropped_bytes: u64,
}

/// A delta chunk as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaChunk {
    /// Its address.
    pub id: ChunkId,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The first chunk of a delta.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct DeltaHead {
    format: u32,
    summary: DeltaSummary,
    parts: Vec<ChunkId>,
    first: DeltaPart,
}

/// A run of a delta: first all that it drops, then what it adds, both by address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct DeltaPart {
    /// Chunks dropped.
    pub dropped: Vec<Pin>,
    /// Chunks added.
    pub added: Vec<Pin>,
}

/// Why bytes are not a delta.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// They are not canonical, or of another shape.
    #[error("a delta does not decode")]
    Decode(#[from] DecodeError),
    /// They are of a format that this program does not know.
    #[error("a delta is of format {found}, this program reads format {DELTA_FORMAT}")]
    UnknownFormat {
        /// Its format.
        found: u32,
    },
    /// The bytes are not those of the address that the head names.
    #[error("a part of a delta hashes to {found:?}, its head names {expected:?}")]
    WrongPart {
        /// The address that the head names.
        expected: ChunkId,
        /// The address of the bytes that came.
        found: ChunkId,
    },
    /// More parts than [`PARTS_MAX`], or than its sums need.
    #[error("a delta names {found} further chunks where its sums need {expected}")]
    PartCount {
        /// How many its sums need.
        expected: u64,
        /// How many it names.
        found: usize,
    },
    /// A part has fewer or more pins than its place in the delta asks for.
    #[error("a chunk of a delta holds {found} pins where {expected} belong")]
    PinCount {
        /// How many belong there.
        expected: u64,
        /// How many there are.
        found: usize,
    },
    /// Pins are not in strictly ascending order, or an addition stands in front of a drop.
    #[error("the pins of a delta are not in order")]
    NotSorted,
    /// A pin says a length that no chunk has.
    #[error("chunk {chunk:?} is said to have {size_bytes} bytes")]
    ChunkSize {
        /// The chunk.
        chunk: ChunkId,
        /// The length that is said.
        size_bytes: u32,
    },
    /// The parts do not add up to the head's sums.
    #[error("the pins of a delta do not add up to its sums")]
    WrongSums,
}

impl Delta {
    /// Its sums.
    pub fn summary(&self) -> DeltaSummary {
        DeltaSummary {
            added: self.added.len() as u64,
            added_bytes: self.added.values().map(|size| u64::from(*size)).sum(),
            dropped: self.dropped.len() as u64,
            dropped_bytes: self.dropped.values().map(|size| u64::from(*size)).sum(),
        }
    }

    /// The chunks of the delta, the head last: it names the others.
    ///
    /// # Errors
    /// [`DeltaError::PartCount`] for more pins than one anchor takes, [`DeltaError::ChunkSize`].
    pub fn encode(&self) -> Result<Vec<DeltaChunk>, DeltaError> {
        let mut items = self.items();
        let first = DeltaPart::collect(items.by_ref().take(CHUNK_PINS_MAX));
        first.check_sizes()?;
        let mut chunks = Vec::new();
        loop {
            let part = DeltaPart::collect(items.by_ref().take(CHUNK_PINS_MAX));
            if part.count() == 0 {
                break;
            }
            part.check_sizes()?;
            chunks.push(DeltaChunk::of(&part));
        }
        let parts: Vec<_> = chunks.iter().map(|chunk| chunk.id).collect();
        let head = DeltaHead { format: DELTA_FORMAT, summary: self.summary(), parts, first };
        head.check_part_count()?;
        chunks.push(DeltaChunk::of(&head));
        Ok(chunks)
    }

    /// Reads a whole delta: its head's bytes, and its parts' in their order.
    ///
    /// # Errors
    /// [`DeltaError`].
    pub fn decode<'a>(head: &[u8], parts: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, DeltaError> {
        let mut delta = Self::default();
        let (mut reader, first) = DeltaReader::new(head)?;
        delta.extend(first);
        for part in parts {
            delta.extend(reader.part(part)?);
        }
        reader.finish()?;
        Ok(delta)
    }

    fn extend(&mut self, part: DeltaPart) {
        self.dropped.extend(part.dropped.into_iter().map(|pin| (pin.chunk, pin.size_bytes)));
        self.added.extend(part.added.into_iter().map(|pin| (pin.chunk, pin.size_bytes)));
    }

    fn items(&self) -> impl Iterator<Item = Change> {
        let pin = |(chunk, size): (&ChunkId, &u32)| Pin { chunk: *chunk, size_bytes: *size };
        let dropped = self.dropped.iter().map(move |item| Change::Drop(pin(item)));
        dropped.chain(self.added.iter().map(move |item| Change::Add(pin(item))))
    }
}

/// One change of a pin.
enum Change {
    Drop(Pin),
    Add(Pin),
}

impl DeltaHead {
    /// Its sums. Believed only once [`DeltaReader::finish`] has checked them.
    pub const fn summary(&self) -> DeltaSummary {
        self.summary
    }

    /// The further chunks of the delta, in their order.
    pub fn parts(&self) -> &[ChunkId] {
        &self.parts
    }

    fn check_part_count(&self) -> Result<(), DeltaError> {
        let pins = self.summary.added.saturating_add(self.summary.dropped);
        let expected = pins.div_ceil(CHUNK_PINS_MAX as u64).saturating_sub(1);
        if self.parts.len() > PARTS_MAX || self.parts.len() as u64 != expected {
            return Err(DeltaError::PartCount { expected, found: self.parts.len() });
        }
        Ok(())
    }
}

impl DeltaPart {
    fn collect(items: impl Iterator<Item = Change>) -> Self {
        let mut part = Self::default();
        for item in items {
            match item {
                Change::Drop(pin) => part.dropped.push(pin),
                Change::Add(pin) => part.added.push(pin),
            }
        }
        part
    }

    /// Changes in it.
    pub const fn count(&self) -> usize {
        self.dropped.len() + self.added.len()
    }

    fn check_sizes(&self) -> Result<(), DeltaError> {
        let is_chunk = |size: u32| (1..=CHUNK_BYTES_MAX).contains(&(size as usize));
        match self.dropped.iter().chain(&self.added).find(|pin| !is_chunk(pin.size_bytes)) {
            Some(Pin { chunk, size_bytes }) => {
                Err(DeltaError::ChunkSize { chunk: *chunk, size_bytes: *size_bytes })
            }
            None => Ok(()),
        }
    }
}

impl DeltaChunk {
    fn of<T: serde::Serialize>(value: &T) -> Self {
        let bytes = codec::encode(value);
        Self { id: ChunkId::of(&bytes), bytes }
    }
}

/// Reads a delta chunk by chunk, in the order of its head, and checks it as a whole.
#[derive(Debug)]
pub struct DeltaReader {
    head: DeltaHead,
    parts_read: usize,
    sums: DeltaSummary,
    last_dropped: Option<ChunkId>,
    last_added: Option<ChunkId>,
}

impl DeltaReader {
    /// Reads the head, and gives the first run.
    ///
    /// # Errors
    /// [`DeltaError`].
    pub fn new(head: &[u8]) -> Result<(Self, DeltaPart), DeltaError> {
        let mut head: DeltaHead = codec::decode(head, CHUNK_PLAINTEXT_MAX)?;
        if head.format != DELTA_FORMAT {
            return Err(DeltaError::UnknownFormat { found: head.format });
        }
        head.check_part_count()?;
        let first = std::mem::take(&mut head.first);
        let sums = DeltaSummary::default();
        let mut reader = Self { head, parts_read: 0, sums, last_dropped: None, last_added: None };
        reader.check(&first)?;
        Ok((reader, first))
    }

    /// The head, without its run.
    pub const fn head(&self) -> &DeltaHead {
        &self.head
    }

    /// The chunk that comes next; none when all were read.
    pub fn next_part(&self) -> Option<ChunkId> {
        self.head.parts.get(self.parts_read).copied()
    }

    /// Reads the next chunk.
    ///
    /// # Errors
    /// [`DeltaError`].
    pub fn part(&mut self, bytes: &[u8]) -> Result<DeltaPart, DeltaError> {
        let found = ChunkId::of(bytes);
        let too_many =
            DeltaError::PartCount { expected: self.head.parts.len() as u64, found: self.parts_read + 1 };
        let expected = self.next_part().ok_or(too_many)?;
        if found != expected {
            return Err(DeltaError::WrongPart { expected, found });
        }
        let part: DeltaPart = codec::decode(bytes, CHUNK_PLAINTEXT_MAX)?;
        self.parts_read += 1;
        self.check(&part)?;
        Ok(part)
    }

    /// Checks that all was read and adds up.
    ///
    /// # Errors
    /// [`DeltaError::PartCount`], [`DeltaError::WrongSums`].
    pub fn finish(self) -> Result<DeltaSummary, DeltaError> {
        if self.parts_read != self.head.parts.len() {
            let expected = self.head.parts.len() as u64;
            return Err(DeltaError::PartCount { expected, found: self.parts_read });
        }
        if self.sums != self.head.summary {
            return Err(DeltaError::WrongSums);
        }
        Ok(self.sums)
    }

    fn check(&mut self, part: &DeltaPart) -> Result<(), DeltaError> {
        let total = self.head.summary.added.saturating_add(self.head.summary.dropped);
        let expected = (total - (self.sums.added + self.sums.dropped)).min(CHUNK_PINS_MAX as u64);
        if part.count() as u64 != expected {
            return Err(DeltaError::PinCount { expected, found: part.count() });
        }
        part.check_sizes()?;
        if self.last_added.is_some() && !part.dropped.is_empty() {
            return Err(DeltaError::NotSorted);
        }
        follow(&mut self.last_dropped, part.dropped.iter().map(|pin| pin.chunk))?;
        follow(&mut self.last_added, part.added.iter().map(|pin| pin.chunk))?;
        let bytes = |pins: &[Pin]| pins.iter().map(|pin| u64::from(pin.size_bytes)).sum::<u64>();
        self.sums.dropped += part.dropped.len() as u64;
        self.sums.dropped_bytes += bytes(&part.dropped);
        self.sums.added += part.added.len() as u64;
        self.sums.added_bytes += bytes(&part.added);
        Ok(())
    }
}

/// Checks that ids ascend from `last`, and moves it to the last of them.
fn follow(last: &mut Option<ChunkId>, ids: impl Iterator<Item = ChunkId>) -> Result<(), DeltaError> {
    for id in ids {
        if last.is_some_and(|last| last >= id) {
            return Err(DeltaError::NotSorted);
        }
        *last = Some(id);
    }
    Ok(())
}

/// What a tree needs against what is pinned for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinComparison {
    /// Needed and not pinned: nodes may drop them, and the version is then not whole.
    pub missing: BTreeSet<ChunkId>,
    /// Pinned and not needed.
    pub unneeded: BTreeSet<ChunkId>,
}

/// Compares the chunks that retained versions need with those that are pinned.
pub fn compare(needed: &BTreeSet<ChunkId>, pinned: &BTreeSet<ChunkId>) -> PinComparison {
    PinComparison {
        missing: needed.difference(pinned).copied().collect(),
        unneeded: pinned.difference(needed).copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> ChunkId {
        ChunkId::of(&number.to_be_bytes())
    }

    fn delta(added: u64, dropped: u64) -> Delta {
        Delta {
            added: (0..added).map(|number| (id(number), 1 + number as u32 % 1000)).collect(),
            dropped: (added..added + dropped).map(|number| (id(number), 7)).collect(),
        }
    }

    fn decode(chunks: &[DeltaChunk]) -> Result<Delta, DeltaError> {
        let (head, parts) = chunks.split_last().unwrap();
        Delta::decode(&head.bytes, parts.iter().map(|chunk| chunk.bytes.as_slice()))
    }

    #[test]
    fn a_delta_of_any_size_reads_back() {
        for (added, dropped) in [(0, 0), (1, 0), (0, 1), (16_384, 0), (16_384, 1), (20_000, 30_000)] {
            let delta = delta(added, dropped);
            let chunks = delta.encode().unwrap();
            assert!(chunks.iter().all(|chunk| chunk.bytes.len() <= CHUNK_PLAINTEXT_MAX));
            assert_eq!(chunks.len() as u64, (added + dropped).div_ceil(16_384).max(1));
            assert_eq!(decode(&chunks), Ok(delta));
        }
    }

    #[test]
    fn the_bytes_of_a_delta_are_pinned() {
        let chunks = delta(3, 2).encode().unwrap();
        assert_eq!(
            chunks[0].id.to_string(),
            "a5045ded96b23bd6e091de00d12975c697012bad96d2a23f21db92bfc85640da"
        );
    }

    #[test]
    fn a_delta_with_a_part_missing_doubled_or_changed_is_refused() {
        let chunks = delta(40_000, 0).encode().unwrap();
        let parts = |order: &[usize]| {
            let chosen: Vec<_> = order.iter().map(|at| chunks[*at].bytes.as_slice()).collect();
            Delta::decode(&chunks[2].bytes, chosen)
        };
        assert!(parts(&[0, 1]).is_ok());
        assert_eq!(parts(&[0]), Err(DeltaError::PartCount { expected: 2, found: 1 }));
        assert_eq!(parts(&[0, 1, 1]), Err(DeltaError::PartCount { expected: 2, found: 3 }));
        let (expected, found) = (chunks[0].id, chunks[1].id);
        assert_eq!(parts(&[1, 0]), Err(DeltaError::WrongPart { expected, found }));
    }

    #[test]
    fn each_malformed_head_has_its_error() {
        let pin = |number| Pin { chunk: id(number), size_bytes: 5 };
        let head = |format, added: u64, added_bytes, part: DeltaPart| {
            let dropped = part.dropped.len() as u64;
            let summary = DeltaSummary { added, added_bytes, dropped, dropped_bytes: 5 * dropped };
            codec::encode(&DeltaHead { format, summary, parts: Vec::new(), first: part })
        };
        let (low, high) = if id(0) < id(1) { (0, 1) } else { (1, 0) };
        let added = |added: Vec<Pin>| DeltaPart { dropped: Vec::new(), added };
        let read = |bytes: Vec<u8>| Delta::decode(&bytes, []).unwrap_err();
        assert_eq!(read(head(2, 1, 5, added(vec![pin(0)]))), DeltaError::UnknownFormat { found: 2 });
        assert_eq!(read(head(1, 2, 10, added(vec![pin(high), pin(low)]))), DeltaError::NotSorted);
        assert_eq!(read(head(1, 2, 10, added(vec![pin(0), pin(0)]))), DeltaError::NotSorted);
        assert_eq!(read(head(1, 1, 6, added(vec![pin(0)]))), DeltaError::WrongSums);
        let miscounted = DeltaError::PinCount { expected: 2, found: 1 };
        assert_eq!(read(head(1, 2, 5, added(vec![pin(0)]))), miscounted);
        let huge = DeltaError::PartCount { expected: u64::MAX.div_ceil(16_384) - 1, found: 0 };
        assert_eq!(read(head(1, u64::MAX, 5, added(vec![pin(0)]))), huge);
        let wrong = Pin { chunk: id(0), size_bytes: u32::MAX };
        let size = DeltaError::ChunkSize { chunk: id(0), size_bytes: u32::MAX };
        assert_eq!(read(head(1, 1, 5, added(vec![wrong]))), size);
        let dropped = |pins| DeltaPart { dropped: pins, added: Vec::new() };
        assert_eq!(read(head(1, 0, 0, dropped(vec![wrong]))), size);
        let light = Pin { chunk: id(0), size_bytes: 4 };
        assert_eq!(read(head(1, 0, 0, dropped(vec![light]))), DeltaError::WrongSums);
        let long = read(vec![0; CHUNK_PLAINTEXT_MAX + 1]);
        assert!(matches!(long, DeltaError::Decode(DecodeError::TooLong { .. })));
        assert_eq!(read(vec![0x9b; 9]), DeltaError::Decode(DecodeError::Malformed));
    }

    #[test]
    fn what_is_needed_and_not_pinned_is_found() {
        let comparison = compare(&BTreeSet::from([id(0), id(1)]), &BTreeSet::from([id(1), id(2)]));
        assert_eq!(comparison.missing, BTreeSet::from([id(0)]));
        assert_eq!(comparison.unneeded, BTreeSet::from([id(2)]));
    }
}
