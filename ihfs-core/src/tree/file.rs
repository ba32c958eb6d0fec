//! The bytes of a file: pieces and holes in order, in a tree of pages when there are many.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use super::entry::REF_WEIGHT;
use super::pages::{
    Checked, Child, LEVEL_MAX, Leaf, SequenceBuilder, SequencePage, Top, Visited, load, lower_top,
};
use super::sorted::mark_of;
use super::{ChunkSource, PageFault, TreeError};
use crate::codec;
use crate::sealed::{PackWriter, Ref};

mod splice;

use splice::Splice;

/// Files of up to this many extents need no list page: a DICOM header, its pixel data in pieces, a tail.
pub const EXTENTS_INLINE_MAX: usize = 4;
/// Most bytes of a file, as on Linux (`off_t`).
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64;

/// A run of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawExtent", into = "RawExtent")]
pub struct Extent(RawExtent);

/// A run of a file, to look into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RawExtent {
    /// A whole piece.
    #[serde(rename = "p")]
    Piece(Ref),
    /// This many zero bytes that are stored nowhere.
    #[serde(rename = "h")]
    Hole(u64),
}

/// An extent has no bytes, or a file more than [`FILE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// An extent of no bytes.
    #[error("an extent has at least one byte")]
    EmptyExtent,
    /// More bytes than a file may have.
    #[error("a file has at most {FILE_BYTES_MAX} bytes")]
    TooLong,
    /// A file has this many extents or fewer without a list page.
    #[error("at most {EXTENTS_INLINE_MAX} extents stand in the entry itself, found {found}")]
    TooManyInline {
        /// How many there were.
        found: usize,
    },
    /// More levels of list pages than [`LEVEL_MAX`].
    #[error("a list has at most {LEVEL_MAX} levels of pages, found {level}")]
    TooTall {
        /// How many there were.
        level: u8,
    },
}

/// Why a file could not be edited.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpliceError<E> {
    /// A list page could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError<E>),
    /// The new content would be too long.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The range starts or ends inside a piece: the caller seals that piece anew and asks with its whole range.
    #[error("the range cuts the piece at {start} .. {end}")]
    InsidePiece {
        /// First byte of the piece in the file.
        start: u64,
        /// The byte behind its last.
        end: u64,
    },
    /// The range ends before it starts, or behind the end of the file.
    #[error("the range is not one of a file of {size_bytes} bytes")]
    OutOfRange {
        /// Size of the file.
        size_bytes: u64,
    },
}

/// The bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawContent", into = "RawContent")]
pub struct FileContent(RawContent);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum RawContent {
    #[serde(rename = "e")]
    Extents(Vec<Extent>),
    #[serde(rename = "l")]
    Listed(Top<ExtentSpan>),
}

/// What a parent says of a page of extents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct ExtentSpan {
    /// Bytes of the file in it.
    pub size_bytes: u64,
    /// Extents in it.
    pub count: u64,
    /// Mark of its last extent, which decides where pages end.
    pub mark: u64,
}

/// An extent and where it stands in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedExtent {
    /// Its first byte in the file.
    pub start: u64,
    /// The extent.
    pub extent: Extent,
}

impl Extent {
    /// A whole piece.
    ///
    /// # Errors
    /// [`ContentError::EmptyExtent`] when the piece has no bytes.
    pub fn piece(piece: Ref) -> Result<Self, ContentError> {
        Self::try_from(RawExtent::Piece(piece))
    }

    /// A run of zeros that is stored nowhere.
    ///
    /// # Errors
    /// [`ContentError::EmptyExtent`] when it has no bytes, [`ContentError::TooLong`].
    pub fn hole(size_bytes: u64) -> Result<Self, ContentError> {
        Self::try_from(RawExtent::Hole(size_bytes))
    }

    /// What it is.
    pub const fn get(&self) -> &RawExtent {
        &self.0
    }

    /// Its piece, if it is no hole.
    pub const fn as_piece(&self) -> Option<&Ref> {
        match &self.0 {
            RawExtent::Piece(piece) => Some(piece),
            RawExtent::Hole(_) => None,
        }
    }

    /// Its bytes.
    pub const fn size_bytes(&self) -> u64 {
        match &self.0 {
            RawExtent::Piece(piece) => piece.size as u64,
            RawExtent::Hole(size) => *size,
        }
    }

    /// Whether it holds the same bytes by its key, wherever it stands.
    pub fn is_same_bytes(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (RawExtent::Piece(left), RawExtent::Piece(right)) => {
                left.key == right.key && left.size == right.size && left.source == right.source
            }
            (left, right) => left == right,
        }
    }
}

impl Leaf for Extent {
    type Span = ExtentSpan;

    fn span(&self) -> ExtentSpan {
        let mark = match &self.0 {
            RawExtent::Piece(piece) => mark_of(&codec::encode(&piece.key)),
            RawExtent::Hole(size) => mark_of(&size.to_be_bytes()),
        };
        ExtentSpan { size_bytes: self.size_bytes(), count: 1, mark }
    }

    fn join(span: &mut ExtentSpan, next: &ExtentSpan) -> Result<(), PageFault> {
        span.size_bytes = span.size_bytes.checked_add(next.size_bytes).ok_or(PageFault::Overflow)?;
        span.count = span.count.checked_add(next.count).ok_or(PageFault::Overflow)?;
        span.mark = next.mark;
        Ok(())
    }

    fn mark(span: &ExtentSpan) -> u64 {
        span.mark
    }

    fn weight(&self) -> usize {
        match &self.0 {
            RawExtent::Piece(_) => REF_WEIGHT + 4,
            RawExtent::Hole(_) => 12,
        }
    }

    fn child_weight(_: &ExtentSpan) -> usize {
        REF_WEIGHT + 32
    }

    fn for_each_ref(&mut self, visit: &mut dyn FnMut(&mut Ref)) {
        if let RawExtent::Piece(piece) = &mut self.0 {
            visit(piece);
        }
    }
}

impl FileContent {
    /// No bytes.
    pub const EMPTY: Self = Self(RawContent::Extents(Vec::new()));

    /// Its bytes.
    pub fn size_bytes(&self) -> u64 {
        match &self.0 {
            RawContent::Extents(extents) => extents.iter().map(Extent::size_bytes).sum(),
            RawContent::Listed(top) => top.child.0.size_bytes,
        }
    }

    /// Its bytes that are not in holes; all of them where that would need a list page.
    pub fn stored_bytes(&self) -> u64 {
        match &self.0 {
            RawContent::Extents(extents) => {
                extents.iter().filter_map(Extent::as_piece).map(|piece| u64::from(piece.size)).sum()
            }
            RawContent::Listed(top) => top.child.0.size_bytes,
        }
    }

    /// How many extents it has.
    pub const fn extent_count(&self) -> u64 {
        match &self.0 {
            RawContent::Extents(extents) => extents.len() as u64,
            RawContent::Listed(top) => top.child.0.count,
        }
    }

    /// Calls `visit` with every ref that the content itself holds: its pieces, or its top list page.
    pub fn for_each_ref(&mut self, visit: &mut dyn FnMut(&mut Ref)) {
        match &mut self.0 {
            RawContent::Extents(extents) => extents.iter_mut().for_each(|extent| extent.for_each_ref(visit)),
            RawContent::Listed(top) => visit(&mut top.child.1),
        }
    }

    /// At least its encoded bytes.
    pub(crate) fn weight(&self) -> usize {
        match &self.0 {
            RawContent::Extents(extents) => 8 + extents.iter().map(Leaf::weight).sum::<usize>(),
            RawContent::Listed(_) => REF_WEIGHT + 48,
        }
    }

    /// The extents that hold bytes of `range`, up to `limit` of them.
    ///
    /// # Errors
    /// [`TreeError`] when a list page cannot be read.
    pub fn extents<S: ChunkSource>(
        &self,
        source: &S,
        range: Range<u64>,
        limit: usize,
    ) -> Result<Vec<PlacedExtent>, TreeError<S::Error>> {
        let mut cursor = ExtentCursor::new(self);
        cursor.skip_to(source, range.start)?;
        let mut extents = Vec::new();
        while extents.len() < limit && cursor.position < range.end {
            let start = cursor.position;
            let Some(extent) = cursor.next_extent(source)? else { break };
            extents.push(PlacedExtent { start, extent });
        }
        Ok(extents)
    }

    /// The same file with the bytes of `range` replaced by `extents`; the range may be empty, and the new run
    /// longer or shorter. Writes the list pages that differ, and no other.
    ///
    /// # Errors
    /// [`SpliceError`].
    pub fn splice<S: ChunkSource>(
        &self,
        source: &S,
        range: Range<u64>,
        extents: Vec<Extent>,
        writer: &mut PackWriter<'_>,
    ) -> Result<Self, SpliceError<S::Error>> {
        let size_bytes = self.size_bytes();
        if range.start > range.end || range.end > size_bytes {
            return Err(SpliceError::OutOfRange { size_bytes });
        }
        let added = extents.iter().try_fold(0u64, |sum, extent| sum.checked_add(extent.size_bytes()));
        let kept = size_bytes - (range.end - range.start);
        if added.and_then(|added| added.checked_add(kept)).is_none_or(|total| total > FILE_BYTES_MAX) {
            return Err(ContentError::TooLong.into());
        }
        let mut splice =
            Splice { source, writer, builder: ContentBuilder::new(), range, extents: Some(extents) };
        splice.content(self)?;
        let Splice { writer, builder, .. } = splice;
        Ok(builder.finish_lowered(source, writer)?)
    }

    /// Whether both hold the same bytes, as far as keys tell: equal bytes that were sealed in different epochs
    /// or cut differently count as different.
    ///
    /// # Errors
    /// [`TreeError`] when a list page cannot be read.
    pub fn is_same_bytes<S: ChunkSource>(
        &self,
        other: &Self,
        source: &S,
    ) -> Result<bool, TreeError<S::Error>> {
        if self == other {
            return Ok(true);
        }
        if (self.size_bytes(), self.extent_count()) != (other.size_bytes(), other.extent_count()) {
            return Ok(false);
        }
        let (mut left, mut right) = (ExtentCursor::new(self), ExtentCursor::new(other));
        loop {
            match (left.next_extent(source)?, right.next_extent(source)?) {
                (None, None) => return Ok(true),
                (Some(left), Some(right)) if left.is_same_bytes(&right) => {}
                _ => return Ok(false),
            }
        }
    }
}

/// Builds the content of a file from extents in order, with bounded memory.
#[derive(Debug, Default)]
pub struct FileContentBuilder {
    builder: ContentBuilder,
    size_bytes: u64,
    /// Holes that came last and may still grow.
    hole_bytes: u64,
}

impl FileContentBuilder {
    /// Starts with no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes pushed so far.
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Appends an extent. Holes one after another become one. The pieces' packs must be closed, or be those of
    /// `writer`.
    ///
    /// # Errors
    /// [`ContentError::TooLong`].
    pub fn push(&mut self, extent: Extent, writer: &mut PackWriter<'_>) -> Result<(), ContentError> {
        let size = self.size_bytes.checked_add(extent.size_bytes()).filter(|size| *size <= FILE_BYTES_MAX);
        self.size_bytes = size.ok_or(ContentError::TooLong)?;
        match extent.0 {
            RawExtent::Hole(size) => self.hole_bytes += size,
            RawExtent::Piece(_) => {
                self.flush_hole(writer);
                self.builder.push(extent, writer);
            }
        }
        Ok(())
    }

    /// The content of all extents pushed.
    pub fn finish(mut self, writer: &mut PackWriter<'_>) -> FileContent {
        self.flush_hole(writer);
        self.builder.finish(writer)
    }

    fn flush_hole(&mut self, writer: &mut PackWriter<'_>) {
        if self.hole_bytes > 0 {
            self.builder.push(Extent(RawExtent::Hole(std::mem::take(&mut self.hole_bytes))), writer);
        }
    }
}

/// Keeps a few extents inline and starts pages only beyond them.
#[derive(Debug)]
struct ContentBuilder {
    inline: Vec<Extent>,
    pages: Option<SequenceBuilder<Extent>>,
}

impl Default for ContentBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ContentBuilder {
    const fn new() -> Self {
        Self { inline: Vec::new(), pages: None }
    }

    fn push(&mut self, extent: Extent, writer: &mut PackWriter<'_>) {
        if self.pages.is_none() && self.inline.len() < EXTENTS_INLINE_MAX {
            self.inline.push(extent);
            return;
        }
        self.pages(writer).push(extent, writer);
    }

    fn pages(&mut self, writer: &mut PackWriter<'_>) -> &mut SequenceBuilder<Extent> {
        let inline = std::mem::take(&mut self.inline);
        let pages = self.pages.get_or_insert_with(SequenceBuilder::new);
        inline.into_iter().for_each(|extent| pages.push(extent, writer));
        pages
    }

    fn finish(self, writer: &mut PackWriter<'_>) -> FileContent {
        let top = self.pages.and_then(|pages| pages.finish(writer));
        FileContent(top.map_or(RawContent::Extents(self.inline), RawContent::Listed))
    }

    fn finish_lowered<S: ChunkSource>(
        self,
        source: &S,
        writer: &mut PackWriter<'_>,
    ) -> Result<FileContent, TreeError<S::Error>> {
        match self.finish(writer).0 {
            RawContent::Listed(top) => {
                Ok(FileContent(RawContent::Listed(lower_top::<Extent, S>(source, top)?)))
            }
            inline => Ok(FileContent(inline)),
        }
    }
}

impl ContentBuilder {
    fn note_read(&mut self, at: &Ref, page: &SequencePage<Extent>) {
        if let Some(pages) = &mut self.pages {
            pages.note_read(at, page);
        }
    }

    /// Whether an old page of `level`, with more extents than stand inline, can follow as it is.
    fn is_aligned(&mut self, level: u8, writer: &mut PackWriter<'_>) -> bool {
        match self.inline.len() {
            // No page ends behind so few.
            1..EXTENTS_INLINE_MAX => false,
            _ => self.pages(writer).is_aligned(level),
        }
    }

    fn push_child(&mut self, level: u8, child: Child<ExtentSpan>, writer: &mut PackWriter<'_>) {
        self.pages(writer).push_child(level, child, writer);
    }
}

/// Walks a file from left to right and opens list pages only on demand.
pub(crate) struct ExtentCursor {
    /// What follows, the next one last.
    pending: Vec<Pending>,
    /// First byte of what follows.
    position: u64,
}

enum Pending {
    Page(u8, Child<ExtentSpan>),
    Extent(Extent),
    /// What is in a page from the item with this number on. Items are copied only when they are come to.
    Within(Arc<Checked<Extent>>, usize),
}

impl ExtentCursor {
    pub(crate) fn new(content: &FileContent) -> Self {
        let pending = match &content.0 {
            RawContent::Extents(extents) => extents.iter().rev().cloned().map(Pending::Extent).collect(),
            RawContent::Listed(top) => vec![Pending::Page(top.level, top.child.clone())],
        };
        Self { pending, position: 0 }
    }

    fn open<S: ChunkSource>(
        &mut self,
        source: &S,
        level: u8,
        child: &Child<ExtentSpan>,
    ) -> Result<(), TreeError<S::Error>> {
        self.pending.push(Pending::Within(load::<Extent, S>(source, level, child)?, 0));
        Ok(())
    }

    /// Takes the next page or extent off.
    fn pop(&mut self) -> Option<Pending> {
        let (checked, at) = match self.pending.pop()? {
            Pending::Within(checked, at) => (checked, at),
            whole => return Some(whole),
        };
        let (item, count) = match &checked.page {
            SequencePage::Leaves(extents) => (Pending::Extent(extents[at].clone()), extents.len()),
            SequencePage::Children(level, children) => {
                (Pending::Page(level - 1, children[at].clone()), children.len())
            }
        };
        if at + 1 < count {
            self.pending.push(Pending::Within(checked, at + 1));
        }
        Some(item)
    }

    /// The next list page or extent, pages before what is in them.
    pub(crate) fn visit<S: ChunkSource>(
        &mut self,
        source: &S,
    ) -> Result<Option<Visited<Extent>>, TreeError<S::Error>> {
        match self.pop() {
            Some(Pending::Extent(extent)) => Ok(Some(Visited::Leaf(extent))),
            Some(Pending::Page(level, child)) => {
                self.open(source, level, &child)?;
                Ok(Some(Visited::Page(child.1)))
            }
            Some(Pending::Within(..)) | None => Ok(None),
        }
    }

    fn next_extent<S: ChunkSource>(&mut self, source: &S) -> Result<Option<Extent>, TreeError<S::Error>> {
        loop {
            match self.pop() {
                Some(Pending::Page(level, child)) => self.open(source, level, &child)?,
                Some(Pending::Extent(extent)) => {
                    self.position += extent.size_bytes();
                    return Ok(Some(extent));
                }
                Some(Pending::Within(..)) | None => return Ok(None),
            }
        }
    }

    /// Goes to the extent that holds the byte at `target`.
    fn skip_to<S: ChunkSource>(&mut self, source: &S, target: u64) -> Result<(), TreeError<S::Error>> {
        loop {
            self.skip_within(target);
            match self.pop() {
                Some(Pending::Page(_, child)) if self.position + child.0.size_bytes <= target => {
                    self.position += child.0.size_bytes;
                }
                Some(Pending::Extent(extent)) if self.position + extent.size_bytes() <= target => {
                    self.position += extent.size_bytes();
                }
                Some(Pending::Page(level, child)) => self.open(source, level, &child)?,
                Some(extent) => {
                    self.pending.push(extent);
                    return Ok(());
                }
                None => return Ok(()),
            }
        }
    }

    /// Passes by what ends before `target` in the page that is being read, and copies none of it.
    fn skip_within(&mut self, target: u64) {
        let Some(Pending::Within(checked, at)) = self.pending.last_mut() else { return };
        // The last one stays: what is left is never nothing.
        while let (Some(size_bytes), Some(_)) = (size_at(&checked.page, *at), size_at(&checked.page, *at + 1))
            && self.position + size_bytes <= target
        {
            self.position += size_bytes;
            *at += 1;
        }
    }
}

/// Bytes of the item with this number in a page.
fn size_at(page: &SequencePage<Extent>, at: usize) -> Option<u64> {
    match page {
        SequencePage::Leaves(extents) => extents.get(at).map(Extent::size_bytes),
        SequencePage::Children(_, children) => children.get(at).map(|child| child.0.size_bytes),
    }
}

impl TryFrom<RawExtent> for Extent {
    type Error = ContentError;

    fn try_from(raw: RawExtent) -> Result<Self, ContentError> {
        let extent = Self(raw);
        match extent.size_bytes() {
            0 => Err(ContentError::EmptyExtent),
            1..=FILE_BYTES_MAX => Ok(extent),
            _ => Err(ContentError::TooLong),
        }
    }
}

impl From<Extent> for RawExtent {
    fn from(extent: Extent) -> Self {
        extent.0
    }
}

impl TryFrom<RawContent> for FileContent {
    type Error = ContentError;

    fn try_from(raw: RawContent) -> Result<Self, ContentError> {
        match &raw {
            RawContent::Extents(extents) if extents.len() > EXTENTS_INLINE_MAX => {
                return Err(ContentError::TooManyInline { found: extents.len() });
            }
            RawContent::Extents(extents) => {
                let sum = extents.iter().try_fold(0u64, |sum, extent| sum.checked_add(extent.size_bytes()));
                sum.filter(|sum| *sum <= FILE_BYTES_MAX).ok_or(ContentError::TooLong)?;
            }
            RawContent::Listed(top) if top.level > LEVEL_MAX => {
                return Err(ContentError::TooTall { level: top.level });
            }
            RawContent::Listed(top) if top.child.0.size_bytes > FILE_BYTES_MAX => {
                return Err(ContentError::TooLong);
            }
            RawContent::Listed(_) => {}
        }
        Ok(Self(raw))
    }
}

impl From<FileContent> for RawContent {
    fn from(content: FileContent) -> Self {
        content.0
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::codec::DecodeError;
    use crate::sealed::Place;
    use crate::tree::testing::{Memory, piece, sealer};

    const MIB: u64 = 1 << 20;

    fn finished(content: FileContent, writer: &mut PackWriter<'_>, memory: &Memory) -> FileContent {
        let mut content = content;
        content.for_each_ref(&mut |piece| *piece = writer.resolve(piece.clone()));
        memory.take(writer);
        content
    }

    fn built(extents: impl IntoIterator<Item = Extent>, memory: &Memory) -> FileContent {
        let sealer = sealer();
        let mut writer = PackWriter::new(&sealer);
        let mut builder = FileContentBuilder::new();
        for extent in extents {
            builder.push(extent, &mut writer).unwrap();
            if builder.size_bytes().is_multiple_of(1024) {
                memory.take(&mut writer);
            }
        }
        let content = builder.finish(&mut writer);
        finished(content, &mut writer, memory)
    }

    /// Pieces as a large file has them, without the cost of sealing them.
    fn pieces(count: u32, size: u32, memory: &Memory) -> Vec<Extent> {
        let sealer = sealer();
        let mut writer = PackWriter::new(&sealer);
        let extents = (0..count).map(|number| {
            let mut piece = sealer_ref(&sealer, number);
            piece.size = size;
            Extent::piece(piece).unwrap()
        });
        let extents = extents.collect();
        memory.take(&mut writer);
        extents
    }

    fn sealer_ref(sealer: &crate::sealed::Sealer, number: u32) -> Ref {
        let bytes = number.to_be_bytes();
        let key = sealer.piece_key(crate::crypto::derive::Role::Content, &bytes);
        let place = Place::Chunk(crate::ids::ChunkId::of(&bytes));
        Ref { place, offset: 0, size: 4, key, source: sealer.source() }
    }

    fn all(content: &FileContent, memory: &Memory) -> Vec<Extent> {
        let placed = content.extents(memory, 0..u64::MAX, usize::MAX).unwrap();
        placed.into_iter().map(|placed| placed.extent).collect()
    }

    fn spliced(
        content: &FileContent,
        range: Range<u64>,
        extents: Vec<Extent>,
        memory: &Memory,
    ) -> Result<(FileContent, u64), SpliceError<crate::tree::testing::Absent>> {
        let sealer = sealer();
        let mut writer = PackWriter::new(&sealer);
        let content = content.splice(memory, range, extents, &mut writer)?;
        let content = finished(content, &mut writer, memory);
        Ok((content, memory.reads.get() as u64))
    }

    #[test]
    fn a_file_of_100_gib_is_read_and_changed_through_few_pages() {
        let memory = Memory::default();
        let extents = pieces(100 * 1024, MIB as u32, &memory);
        let content = built(extents.clone(), &memory);
        assert_eq!(content.size_bytes(), 100 << 30);
        memory.reads.set(0);
        let found = content.extents(&memory, 77_777 * MIB + 5..77_778 * MIB + 1, 10).unwrap();
        let expected = [77_777, 77_778]
            .map(|number| PlacedExtent { start: number * MIB, extent: extents[number as usize].clone() });
        assert_eq!(found, expected);
        assert!(memory.reads.get() <= 6, "{}", memory.reads.get());
        memory.reads.set(0);
        let new = pieces(200_000, MIB as u32, &memory).pop().unwrap();
        let count = memory.count();
        let range = 50_000 * MIB..50_001 * MIB;
        let (changed, reads) = spliced(&content, range.clone(), vec![new.clone()], &memory).unwrap();
        assert!(reads <= 12, "{reads} reads");
        assert_eq!(memory.count(), count + 1, "all new pages are in one pack");
        assert_eq!(changed.extents(&memory, range, 1).unwrap()[0].extent, new);
        assert_eq!(changed.size_bytes(), content.size_bytes());
    }

    #[test]
    fn a_sparse_file_of_1_tib_needs_no_list_page() {
        let memory = Memory::default();
        let sealer = sealer();
        let mut writer = PackWriter::new(&sealer);
        let hole = |size| Extent::hole(size).unwrap();
        let tail = piece(b"end", &mut writer);
        memory.take(&mut writer);
        let count = memory.count();
        let content = built([hole(1 << 39), hole(1 << 39), tail.clone()], &memory);
        assert_eq!((content.size_bytes(), content.extent_count()), ((1 << 40) + 3, 2));
        assert_eq!(memory.count(), count);
        let cut = (1 << 20)..(1 << 20) + 3;
        let (cut, _) = spliced(&content, cut, vec![tail.clone()], &memory).unwrap();
        let expected = [hole(1 << 20), tail.clone(), hole((1 << 40) - (1 << 20) - 3), tail];
        assert_eq!(all(&cut, &memory), expected);
    }

    #[test]
    fn a_sparse_file_of_1_tib_with_many_pieces_seeks_through_few_pages() {
        let memory = Memory::default();
        let hole = Extent::hole((1 << 24) - 4).unwrap();
        let extents = pieces(1 << 16, 4, &memory).into_iter().flat_map(|piece| [piece, hole.clone()]);
        let content = built(extents, &memory);
        assert_eq!(content.size_bytes(), 1 << 40);
        memory.reads.set(0);
        let found = content.extents(&memory, (1 << 39) + 4..(1 << 39) + 5, 9).unwrap();
        assert_eq!(found, [PlacedExtent { start: (1 << 39) + 4, extent: hole }]);
        assert!(memory.reads.get() <= 6);
    }

    /// A random cut that respects pieces, and what replaces it.
    fn random_splice(
        random: &mut impl Rng,
        model: &mut Vec<Extent>,
        fresh: &mut impl Iterator<Item = Extent>,
    ) -> (Range<u64>, Vec<Extent>) {
        let from = random.random_range(0..=model.len());
        let to = random.random_range(from..=(from + 40).min(model.len()));
        let new: Vec<_> = fresh.take([0, 1, 3, 200][random.random_range(0..4)]).collect();
        let size = |run: &[Extent]| run.iter().map(Extent::size_bytes).sum::<u64>();
        let range = size(&model[..from])..size(&model[..to]);
        model.splice(from..to, new.iter().cloned());
        (range, new)
    }

    #[test]
    fn random_splices_read_back_like_a_plain_list_and_have_one_shape() {
        for seed in 0..20 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let memory = Memory::default();
            let mut fresh = pieces(20_000, 100, &memory).into_iter();
            let mut model: Vec<Extent> = fresh.by_ref().take(seed as usize * 100).collect();
            let mut content = built(model.clone(), &memory);
            for step in 0..20 {
                let (range, new) = random_splice(&mut random, &mut model, &mut fresh);
                content = spliced(&content, range, new, &memory).unwrap().0;
                assert_eq!(all(&content, &memory), model, "seed {seed}, step {step}");
                let whole = built(model.clone(), &memory);
                assert_eq!(pages(&content, &memory), pages(&whole, &memory), "seed {seed}, step {step}");
                assert_eq!(content.is_same_bytes(&whole, &memory), Ok(true));
            }
        }
    }

    /// The sequence of pages and extents: its shape.
    fn pages(content: &FileContent, memory: &Memory) -> Vec<bool> {
        let mut cursor = ExtentCursor::new(content);
        let mut shape = Vec::new();
        while let Some(visited) = cursor.visit(memory).unwrap() {
            shape.push(matches!(visited, Visited::Page(_)));
        }
        shape
    }

    #[test]
    fn a_splice_inside_a_piece_names_its_range() {
        let memory = Memory::default();
        let content = built(pieces(3, 100, &memory), &memory);
        for range in [50..100, 50..50, 0..150, 120..130] {
            let error = spliced(&content, range.clone(), Vec::new(), &memory).unwrap_err();
            assert!(matches!(error, SpliceError::InsidePiece { .. }), "{range:?}");
        }
        let error = spliced(&content, 0..301, Vec::new(), &memory).unwrap_err();
        assert_eq!(error, SpliceError::OutOfRange { size_bytes: 300 });
        let long = vec![Extent::hole(FILE_BYTES_MAX).unwrap()];
        let error = spliced(&content, 0..0, long, &memory).unwrap_err();
        assert_eq!(error, SpliceError::Content(ContentError::TooLong));
    }

    #[test]
    fn content_that_is_none_is_refused() {
        let decode = |raw: &RawContent| codec::decode::<FileContent>(&codec::encode(raw), 10_000);
        let hole = |size| Extent(RawExtent::Hole(size));
        assert!(decode(&RawContent::Extents(vec![hole(1); 4])).is_ok());
        for extents in [vec![hole(1); 5], vec![hole(0)], vec![hole(u64::MAX)], vec![hole(1 << 62); 3]] {
            assert_eq!(decode(&RawContent::Extents(extents)), Err(DecodeError::Malformed));
        }
        assert_eq!(Extent::hole(0), Err(ContentError::EmptyExtent));
    }

    #[test]
    fn a_list_page_with_a_wrong_sum_is_refused() {
        let memory = Memory::default();
        let mut content = built(pieces(100, 100, &memory), &memory);
        let RawContent::Listed(top) = &mut content.0 else { panic!() };
        top.child.0.size_bytes += 1;
        let error = content.extents(&memory, 0..1, 1).unwrap_err();
        assert!(matches!(error, TreeError::Page { fault: PageFault::WrongSpan, .. }), "{error:?}");
    }

    #[test]
    fn the_bytes_of_content_are_pinned() {
        let memory = Memory::default();
        let mut extents = pieces(2, 100, &memory);
        extents.push(Extent::hole(7).unwrap());
        let inline = codec::encode(&built(extents, &memory));
        assert_eq!(
            blake3::hash(&inline).to_string(),
            "a26ec5741ef82b92b6498fa4fc7ad9504e2221b08737f7ba91c3e2528bb4b581"
        );
        let listed = codec::encode(&built(pieces(100, 100, &memory), &memory));
        assert_eq!(
            blake3::hash(&listed).to_string(),
            "a07b1d98d513103f865d8df3337ac1279073f02af37e275e7c1de3465892cf8c"
        );
    }
}
