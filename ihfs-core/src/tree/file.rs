//! The bytes of a file: pieces and holes in order, in a tree of pages when there are many.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use super::entry::REF_WEIGHT;
use super::pages::{Child, LEVEL_MAX, Leaf, SequenceBuilder, SequencePage, Top, Visited, load, lower_top};
use super::sorted::mark_of;
use super::{ChunkSource, PageFault, TreeError};
use crate::codec;
use crate::sealed::{PackWriter, Ref};

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

struct Splice<'a, 'w, S> {
    source: &'a S,
    writer: &'a mut PackWriter<'w>,
    builder: ContentBuilder,
    range: Range<u64>,
    /// The new run, until it is in its place.
    extents: Option<Vec<Extent>>,
}

impl<S: ChunkSource> Splice<'_, '_, S> {
    fn content(&mut self, old: &FileContent) -> Result<(), SpliceError<S::Error>> {
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
        let page = load::<Extent, S>(self.source, level, child)?;
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
}

impl Pending {
    const fn size_bytes(&self) -> u64 {
        match self {
            Self::Page(_, child) => child.0.size_bytes,
            Self::Extent(extent) => extent.size_bytes(),
        }
    }
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
        match load::<Extent, S>(source, level, child)? {
            SequencePage::Leaves(extents) => {
                self.pending.extend(extents.into_iter().rev().map(Pending::Extent));
            }
            SequencePage::Children(level, children) => {
                self.pending.extend(children.into_iter().rev().map(|child| Pending::Page(level - 1, child)));
            }
        }
        Ok(())
    }

    /// The next list page or extent, pages before what is in them.
    pub(crate) fn visit<S: ChunkSource>(
        &mut self,
        source: &S,
    ) -> Result<Option<Visited<Extent>>, TreeError<S::Error>> {
        match self.pending.pop() {
            None => Ok(None),
            Some(Pending::Extent(extent)) => Ok(Some(Visited::Leaf(extent))),
            Some(Pending::Page(level, child)) => {
                self.open(source, level, &child)?;
                Ok(Some(Visited::Page(child.1)))
            }
        }
    }

    fn next_extent<S: ChunkSource>(&mut self, source: &S) -> Result<Option<Extent>, TreeError<S::Error>> {
        loop {
            match self.pending.pop() {
                None => return Ok(None),
                Some(Pending::Page(level, child)) => self.open(source, level, &child)?,
                Some(Pending::Extent(extent)) => {
                    self.position += extent.size_bytes();
                    return Ok(Some(extent));
                }
            }
        }
    }

    /// Goes to the extent that holds the byte at `target`.
    fn skip_to<S: ChunkSource>(&mut self, source: &S, target: u64) -> Result<(), TreeError<S::Error>> {
        while let Some(pending) = self.pending.pop() {
            if self.position + pending.size_bytes() <= target {
                self.position += pending.size_bytes();
                continue;
            }
            match pending {
                Pending::Page(level, child) => self.open(source, level, &child)?,
                Pending::Extent(_) => {
                    self.pending.push(pending);
                    return Ok(());
                }
            }
        }
        Ok(())
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
