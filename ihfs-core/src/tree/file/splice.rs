//! Replaces a run of a file's extents and carries all pages over that do not change.

use std::ops::Range;

use super::{
    ContentBuilder, EXTENTS_INLINE_MAX, Extent, ExtentSpan, FileContent, RawContent, RawExtent, SpliceError,
};
use crate::sealed::PackWriter;
use crate::tree::ChunkSource;
use crate::tree::pages::{Child, SequencePage, load};

pub(super) struct Splice<'a, 'w, S> {
    pub(super) source: &'a S,
    pub(super) writer: &'a mut PackWriter<'w>,
    pub(super) builder: ContentBuilder,
    pub(super) range: Range<u64>,
    /// The new run, until it is in its place.
    pub(super) extents: Option<Vec<Extent>>,
}

impl<S: ChunkSource> Splice<'_, '_, S> {
    /// Carries a whole file over, with the new run in the place of its range.
    pub(super) fn content(&mut self, old: &FileContent) -> Result<(), SpliceError<S::Error>> {
        match &old.0 {
            RawContent::Extents(extents) => self.run(0, extents.clone())?,
            RawContent::Listed(top) => self.page(top.level, &top.child, 0, true)?,
        }
        self.insert();
        Ok(())
    }

    /// Carries one old page over, whose first byte is `start`. `is_last` when nothing follows it.
    fn page(
        &mut self,
        level: u8,
        child: &Child<ExtentSpan>,
        start: u64,
        is_last: bool,
    ) -> Result<(), SpliceError<S::Error>> {
        let is_before = start + child.0.size_bytes <= self.range.start && !is_last;
        let is_behind = start >= self.range.end && start >= self.range.start;
        if is_behind {
            self.insert();
        }
        if (is_before || is_behind)
            && child.0.count > EXTENTS_INLINE_MAX as u64
            && self.builder.is_aligned(level, self.writer)
        {
            self.builder.push_child(level, child.clone(), self.writer);
            return Ok(());
        }
        let page = load::<Extent, S>(self.source, level, child)?.take();
        self.builder.note_read(&child.1, &page);
        match page {
            SequencePage::Leaves(extents) => self.run(start, extents),
            SequencePage::Children(_, children) => self.children(level - 1, &children, start, is_last),
        }
    }

    fn children(
        &mut self,
        level: u8,
        children: &[Child<ExtentSpan>],
        mut start: u64,
        is_last: bool,
    ) -> Result<(), SpliceError<S::Error>> {
        for (at, child) in children.iter().enumerate() {
            self.page(level, child, start, is_last && at + 1 == children.len())?;
            start += child.0.size_bytes;
        }
        Ok(())
    }

    fn run(&mut self, mut start: u64, extents: Vec<Extent>) -> Result<(), SpliceError<S::Error>> {
        for extent in extents {
            let size = extent.size_bytes();
            self.extent(start, extent)?;
            start += size;
        }
        Ok(())
    }

    /// Keeps what of an old extent lies outside the range.
    fn extent(&mut self, start: u64, extent: Extent) -> Result<(), SpliceError<S::Error>> {
        let end = start + extent.size_bytes();
        let (range_start, range_end) = (self.range.start, self.range.end);
        let is_cut = (start < range_start && range_start < end) || (start < range_end && range_end < end);
        if is_cut && matches!(extent.0, RawExtent::Piece(_)) {
            return Err(SpliceError::InsidePiece { start, end });
        }
        if end <= range_start {
            self.builder.push(extent, self.writer);
            return Ok(());
        }
        self.hole(range_start.saturating_sub(start));
        self.insert();
        if start >= range_end {
            self.builder.push(extent, self.writer);
        } else {
            self.hole(end.saturating_sub(range_end));
        }
        Ok(())
    }

    /// What is left of a hole that the range cuts.
    fn hole(&mut self, size_bytes: u64) {
        if size_bytes > 0 {
            self.builder.push(Extent(RawExtent::Hole(size_bytes)), self.writer);
        }
    }

    fn insert(&mut self) {
        for extent in self.extents.take().into_iter().flatten() {
            self.builder.push(extent, self.writer);
        }
    }
}
