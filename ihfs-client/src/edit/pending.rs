//! Bytes of one file that were written and are not yet sealed, over the content that stood before.

use std::collections::BTreeMap;
use std::ops::Range;

use ihfs_core::tree::file::{ContentError, FILE_BYTES_MAX, FileContent};

/// Zeros in a row that become a hole; fewer are stored, so that holes do not cut a file to bits.
const HOLE_BYTES_MIN: u64 = 64 << 10;

/// What was written over a file.
#[derive(Debug)]
pub(super) struct Pending {
    /// The file before.
    content: FileContent,
    /// Bytes of the file before that still count; behind them are zeros.
    kept: u64,
    size: u64,
    /// By their first byte; they do not overlap, and end before `size`.
    runs: BTreeMap<u64, Run>,
}

#[derive(Debug)]
enum Run {
    Bytes(Vec<u8>),
    Zeros(u64),
}

impl Run {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros(count) => *count,
        }
    }

    /// Cuts off what stands behind its first `at` bytes.
    fn split_off(&mut self, at: u64) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(bytes.split_off(at as usize)),
            Self::Zeros(count) => Self::Zeros(std::mem::replace(count, at) - at),
        }
    }
}

impl Pending {
    pub(super) fn new(content: FileContent) -> Self {
        let size = content.size_bytes();
        Self { content, kept: size, size, runs: BTreeMap::new() }
    }

    /// The file before.
    pub(super) const fn content(&self) -> &FileContent {
        &self.content
    }

    pub(super) fn write(&mut self, start: u64, bytes: &[u8]) -> Result<(), ContentError> {
        let end = start.checked_add(bytes.len() as u64).filter(|end| *end <= FILE_BYTES_MAX);
        let end = end.ok_or(ContentError::TooLong)?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.cut_out(start..end);
        self.size = self.size.max(end);
        if let Some((at, Run::Bytes(before))) = self.runs.range_mut(..start).next_back()
            && at + before.len() as u64 == start
        {
            before.extend_from_slice(bytes);
        } else {
            self.runs.insert(start, Run::Bytes(bytes.to_vec()));
        }
        Ok(())
    }

    /// Makes a range zero, as far as the file goes.
    pub(super) fn punch(&mut self, range: Range<u64>) {
        let range = range.start..range.end.min(self.size);
        if !range.is_empty() {
            self.cut_out(range.clone());
            self.runs.insert(range.start, Run::Zeros(range.end - range.start));
        }
    }

    pub(super) fn set_len(&mut self, size: u64) -> Result<(), ContentError> {
        if size > FILE_BYTES_MAX {
            return Err(ContentError::TooLong);
        }
        if size < self.size {
            self.cut_out(size..self.size);
            self.kept = self.kept.min(size);
        }
        self.size = size;
        Ok(())
    }

    fn cut_out(&mut self, range: Range<u64>) {
        self.split_at(range.start);
        self.split_at(range.end);
        let inside: Vec<u64> = self.runs.range(range).map(|(at, _)| *at).collect();
        for at in inside {
            self.runs.remove(&at);
        }
    }

    /// Makes a run that goes over `at` two.
    fn split_at(&mut self, at: u64) {
        let behind = match self.runs.range_mut(..at).next_back() {
            Some((start, run)) if start + run.len() > at => run.split_off(at - start),
            _ => return,
        };
        self.runs.insert(at, behind);
    }

    /// The ranges whose bytes are not those of the file before, in order, whole pieces of it at both ends.
    /// `piece_over` gives the piece of the file before that goes over a place and begins before it.
    pub(super) fn dirty<E>(
        &self,
        piece_over: impl Fn(u64) -> Result<Option<Range<u64>>, E>,
    ) -> Result<Vec<Range<u64>>, E> {
        let mut dirty: Vec<Range<u64>> = Vec::new();
        let before = self.content.size_bytes();
        let tail = (self.kept < before || self.size > before).then_some(self.kept..self.size);
        let runs = self.runs.iter().map(|(at, run)| *at..at + run.len());
        let (below, above): (Vec<_>, Vec<_>) = runs.chain(tail).partition(|range| range.start < self.kept);
        for Range { mut start, mut end } in below.into_iter().chain(tail_of(above)) {
            if start < before
                && let Some(piece) = piece_over(start)?
            {
                start = piece.start;
            }
            if end < self.kept
                && let Some(piece) = piece_over(end)?
            {
                end = piece.end.min(self.kept);
            }
            match dirty.last_mut() {
                Some(last) if last.end >= start => last.end = last.end.max(end),
                _ => dirty.push(start..end),
            }
        }
        Ok(dirty)
    }

    /// The range of the file before whose place a dirty range takes.
    pub(super) fn replaced(&self, dirty: &Range<u64>) -> Range<u64> {
        let before = self.content.size_bytes();
        let end = if dirty.end == self.size { before } else { dirty.end };
        dirty.start.min(before)..end
    }

    /// Parts of a range in order, each with bytes (at most `limit`) or a hole, which is true.
    pub(super) fn parts(&self, range: &Range<u64>, limit: u64) -> Vec<(Range<u64>, bool)> {
        let mut parts = Vec::new();
        let mut at = range.start;
        for hole in self.holes(range) {
            parts.extend(in_steps(at..hole.start, limit));
            at = hole.end;
            parts.push((hole, true));
        }
        parts.extend(in_steps(at..range.end, limit));
        parts
    }

    /// Zeros that nothing of the file before stands under.
    fn holes(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut zeros: Vec<Range<u64>> = Vec::new();
        let mut add = |zero: Range<u64>| {
            let zero = zero.start.max(range.start)..zero.end.min(range.end);
            match zeros.last_mut() {
                _ if zero.is_empty() => {}
                Some(last) if last.end == zero.start => last.end = zero.end,
                _ => zeros.push(zero),
            }
        };
        let mut at = self.kept;
        for (start, run) in &self.runs {
            let end = start + run.len();
            if *start > at {
                add(at..*start);
            }
            if matches!(run, Run::Zeros(_)) {
                add(*start..end);
            }
            at = at.max(end);
        }
        add(at..self.size);
        zeros.retain(|zero| zero.end - zero.start >= HOLE_BYTES_MIN);
        zeros
    }

    /// Bytes of `range` that the file before gives.
    pub(super) fn kept(&self, range: &Range<u64>) -> Range<u64> {
        range.start..range.end.min(self.kept).max(range.start)
    }

    /// Puts what was written over bytes that begin at `start`.
    pub(super) fn lay_over(&self, start: u64, bytes: &mut [u8]) {
        let end = start + bytes.len() as u64;
        let first = self.runs.range(..=start).next_back().map_or(start, |(at, _)| *at);
        for (at, run) in self.runs.range(first..end) {
            let (from, until) = ((*at).max(start), (at + run.len()).min(end));
            if from >= until {
                continue;
            }
            let out = &mut bytes[(from - start) as usize..(until - start) as usize];
            match run {
                Run::Bytes(written) => {
                    out.copy_from_slice(&written[(from - at) as usize..(until - at) as usize]);
                }
                Run::Zeros(_) => out.fill(0),
            }
        }
    }
}

/// What stands behind the bytes that are kept is one range, up to the end.
fn tail_of(ranges: Vec<Range<u64>>) -> Option<Range<u64>> {
    let start = ranges.iter().map(|range| range.start).min()?;
    let end = ranges.iter().map(|range| range.end).max()?;
    Some(start..end)
}

fn in_steps(range: Range<u64>, limit: u64) -> impl Iterator<Item = (Range<u64>, bool)> {
    let steps = (range.start..range.end).step_by(limit as usize);
    steps.map(move |start| (start..range.end.min(start + limit), false))
}

#[cfg(test)]
mod tests {
    use ihfs_core::crypto::derive::Seed;
    use ihfs_core::ids::{Digest, Epoch, Generation, RecordId};
    use ihfs_core::sealed::{PackWriter, Sealer};
    use ihfs_core::tree::file::{Extent, FileContentBuilder};

    use super::*;

    /// What is written over a file, and what the file should hold. The file before counts as pieces of 100 bytes
    /// that are 7 everywhere.
    struct Model {
        pending: Pending,
        bytes: Vec<u8>,
    }

    const PIECE: u64 = 100;

    fn model(size: u64) -> Model {
        let key = Seed::from_random([1; 32]).vault_secret(Generation(0));
        let record = RecordId::from_bytes([1; 32]);
        let sealer = Sealer::new(record, Epoch(0), &key.record_key(record, Epoch(0), Digest::of(b"salt")));
        let (mut lists, mut builder) = (PackWriter::new(&sealer), FileContentBuilder::new());
        if size > 0 {
            builder.push(Extent::hole(size).unwrap(), &mut lists).unwrap();
        }
        let content = builder.finish(&mut lists);
        Model { pending: Pending::new(content), bytes: vec![7; size as usize] }
    }

    fn piece_over(size: u64) -> impl Fn(u64) -> Result<Option<Range<u64>>, ()> {
        move |at| {
            let start = at / PIECE * PIECE;
            Ok((start < at && at < size).then(|| start..size.min(start + PIECE)))
        }
    }

    impl Model {
        fn write(&mut self, start: usize, bytes: &[u8]) {
            self.pending.write(start as u64, bytes).unwrap();
            if bytes.is_empty() {
                return;
            }
            let end = start + bytes.len();
            self.bytes.resize(self.bytes.len().max(end), 0);
            self.bytes[start..end].copy_from_slice(bytes);
        }

        fn punch(&mut self, range: Range<usize>) {
            self.pending.punch(range.start as u64..range.end as u64);
            let end = range.end.min(self.bytes.len());
            if range.start < end {
                self.bytes[range.start..end].fill(0);
            }
        }

        fn set_len(&mut self, size: usize) {
            self.pending.set_len(size as u64).unwrap();
            self.bytes.resize(size, 0);
        }

        /// What the file is once every dirty range took its place.
        fn apply(&self) -> Vec<u8> {
            let before = self.pending.content().size_bytes();
            let dirty = self.pending.dirty(piece_over(before)).unwrap();
            let (mut found, mut at) = (Vec::new(), 0);
            for range in dirty {
                let replaced = self.pending.replaced(&range);
                assert!(at <= replaced.start && replaced.start <= replaced.end);
                found.extend(vec![7; (replaced.start - at) as usize]);
                for edge in [replaced.start, replaced.end] {
                    assert!(edge == before || edge.is_multiple_of(PIECE), "{edge} of {before}");
                }
                at = replaced.end;
                for (part, is_hole) in self.pending.parts(&range, 64) {
                    let kept = self.pending.kept(&part);
                    assert!(!is_hole || kept.is_empty() || part.end - part.start >= HOLE_BYTES_MIN);
                    let mut bytes = vec![0; (part.end - part.start) as usize];
                    if !is_hole {
                        bytes[..(kept.end - kept.start) as usize].fill(7);
                        self.pending.lay_over(part.start, &mut bytes);
                    }
                    found.extend(bytes);
                }
            }
            found.extend(vec![7; (before - at) as usize]);
            found
        }
    }

    #[test]
    fn what_is_written_cut_and_punched_in_any_order_is_what_comes_of_it() {
        let mut state = 1u64;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for round in 0..2_000 {
            let mut model = model([0, 1, 99, 100, 730][round % 5]);
            for _ in 0..random(9) {
                let (start, length) = (random(900) as usize, random(250) as usize);
                match random(4) {
                    0 => model.set_len(start),
                    1 => model.punch(start..start + length),
                    _ => model.write(start, &vec![random(200) as u8 + 10; length]),
                }
            }
            assert_eq!(model.apply(), model.bytes, "round {round}");
            assert_eq!(model.pending.size, model.bytes.len() as u64);
        }
    }

    #[test]
    fn long_zeros_become_holes_and_short_ones_do_not() {
        let mut model = model(0);
        model.write(200_000, b"x");
        model.set_len(200_100);
        let range = 0..200_100;
        let parts = model.pending.parts(&range, 1 << 20);
        assert_eq!(parts, [(0..200_000, true), (200_000..200_100, false)]);
        assert_eq!(model.apply(), model.bytes);
    }

    #[test]
    fn a_file_grows_to_its_limit_and_no_further() {
        let mut model = model(10);
        assert!(matches!(model.pending.write(FILE_BYTES_MAX, b"x"), Err(ContentError::TooLong)));
        assert!(matches!(model.pending.write(u64::MAX, b"x"), Err(ContentError::TooLong)));
        assert!(matches!(model.pending.set_len(FILE_BYTES_MAX + 1), Err(ContentError::TooLong)));
        assert_eq!(model.pending.size, 10);
    }
}
