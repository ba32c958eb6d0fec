//! Cuts compressed pixel data: a list of fragments (PS3.5 section A.4), with a table in front that may say
//! where frames begin.
//!
//! A frame begins where the basic offset table says; without one every fragment counts as a frame, which is
//! also what an extended offset table requires, so that table is not read. The table's own item belongs to
//! the first frame's piece, and the delimiter to the last. Whatever stops to make sense ends the last frame.

use std::cmp::Ordering;

use dicom_core::header::SequenceItemHeader;

use super::{PIECE_BYTES_MAX, PieceKind, ReadAt, Region, WHOLE_VALUE_MAX};
use crate::dicom::header::{Bulk, ITEM_HEADER_BYTES, Syntax, read_item};
use crate::dicom::window::Window;

/// Most fragments that are looked at; whole slides have some 100,000. The rest is cut evenly.
const FRAGMENTS_MAX: u32 = 1 << 20;
/// Bytes of an entry of the basic offset table.
const ENTRY_BYTES: u64 = 4;

/// Regions of a value of undefined length and of what follows it.
pub(super) fn cut<R: ReadAt + ?Sized>(file: &R, bulk: Bulk) -> Result<Vec<Region>, R::Error> {
    let mut window = Window::new(file);
    let Some(table_bytes) = item_bytes(&mut window, bulk.start, bulk.syntax)? else {
        return Ok(vec![Region::even(bulk.start, PieceKind::Content)]);
    };
    let table_start = bulk.start + ITEM_HEADER_BYTES;
    let first = table_start + table_bytes;
    if table_bytes > 0
        && table_bytes.is_multiple_of(ENTRY_BYTES)
        && let Some(regions) = by_table(&mut window, bulk, OffsetTable::new(file, table_start, first))?
    {
        return Ok(regions);
    }
    by_fragments(&mut window, bulk, first)
}

/// Frames begin where the table says. `None` if that is not where fragments begin.
fn by_table<R: ReadAt + ?Sized>(
    window: &mut Window<'_, R>,
    bulk: Bulk,
    mut table: OffsetTable<'_, R>,
) -> Result<Option<Vec<Region>>, R::Error> {
    let first = table.end;
    let mut groups = Groups::new(bulk.start);
    let mut fragments = Fragments { window, at: first, syntax: bulk.syntax, left: FRAGMENTS_MAX };
    while let Some(start) = fragments.next()? {
        match table.entry()?.map(|entry| (first + entry).cmp(&start)) {
            Some(Ordering::Less) => return Ok(None),
            Some(Ordering::Equal) => {
                groups.begin_frame(start, first);
                table.at += ENTRY_BYTES;
            }
            Some(Ordering::Greater) if start == first => return Ok(None),
            Some(Ordering::Greater) | None => {}
        }
    }
    let end = fragments.end()?;
    if end.is_some() && table.entry()?.is_some() {
        return Ok(None);
    }
    Ok(Some(groups.finish(end, fragments.window.size())))
}

/// Every fragment counts as a frame.
fn by_fragments<R: ReadAt + ?Sized>(
    window: &mut Window<'_, R>,
    bulk: Bulk,
    first: u64,
) -> Result<Vec<Region>, R::Error> {
    let mut groups = Groups::new(bulk.start);
    let mut fragments = Fragments { window, at: first, syntax: bulk.syntax, left: FRAGMENTS_MAX };
    while let Some(start) = fragments.next()? {
        groups.begin_frame(start, first);
    }
    let end = fragments.end()?;
    Ok(groups.finish(end, fragments.window.size()))
}

/// Bytes of the item that begins at `at`, if one of defined length does.
fn item_bytes<R: ReadAt + ?Sized>(
    window: &mut Window<'_, R>,
    at: u64,
    syntax: Syntax,
) -> Result<Option<u64>, R::Error> {
    Ok(match read_item(window, at, syntax)? {
        Some(SequenceItemHeader::Item { len }) => len.get().map(u64::from),
        _ => None,
    })
}

/// Steps from fragment to fragment.
struct Fragments<'w, 'a, R: ?Sized> {
    window: &'w mut Window<'a, R>,
    at: u64,
    syntax: Syntax,
    left: u32,
}

impl<R: ReadAt + ?Sized> Fragments<'_, '_, R> {
    /// Where the next fragment's item begins; `None` at anything else.
    fn next(&mut self) -> Result<Option<u64>, R::Error> {
        let start = self.at;
        if self.left == 0 {
            return Ok(None);
        }
        let bytes = item_bytes(self.window, start, self.syntax)?;
        let end = bytes.and_then(|bytes| start.checked_add(ITEM_HEADER_BYTES + bytes));
        let Some(end) = end else {
            return Ok(None);
        };
        self.left -= 1;
        // A truncated file has the beginning of its last fragment.
        self.at = end.min(self.window.size());
        Ok(Some(start))
    }

    /// Where the value ends, if its delimiter stands here.
    fn end(&mut self) -> Result<Option<u64>, R::Error> {
        let delimiter = read_item(self.window, self.at, self.syntax)?;
        let is_end = matches!(delimiter, Some(SequenceItemHeader::SequenceDelimiter));
        Ok(is_end.then_some(self.at + ITEM_HEADER_BYTES))
    }
}

/// Walks along the basic offset table without holding it.
struct OffsetTable<'a, R: ?Sized> {
    window: Window<'a, R>,
    at: u64,
    end: u64,
}

impl<'a, R: ReadAt + ?Sized> OffsetTable<'a, R> {
    fn new(file: &'a R, at: u64, end: u64) -> Self {
        Self { window: Window::new(file), at, end }
    }

    /// The entry at hand: bytes from the first fragment's item to the frame's. Compressed data is always
    /// little endian (PS3.5 section A.4).
    fn entry(&mut self) -> Result<Option<u64>, R::Error> {
        if self.at >= self.end {
            return Ok(None);
        }
        Ok(self.window.array(self.at)?.map(|bytes| u64::from(u32::from_le_bytes(bytes))))
    }
}

/// Gathers frames until a piece is full. The first stays alone, so that it can be fetched by itself.
struct Groups {
    start: u64,
    regions: Vec<Region>,
    frame: u64,
}

impl Groups {
    fn new(start: u64) -> Self {
        Self { start, regions: vec![Region::frames(start)], frame: start }
    }

    /// A frame begins at `at`, and the one before it ends there.
    fn begin_frame(&mut self, at: u64, first: u64) {
        if at != first {
            self.end_frame(at);
            self.frame = at;
        }
    }

    fn end_frame(&mut self, end: u64) {
        let group = self.regions.last().map_or(self.start, |region| region.start);
        if self.frame != group && (group == self.start || end - group > PIECE_BYTES_MAX) {
            self.regions.push(Region::frames(self.frame));
        }
    }

    /// The value ends at `end`; without one, all that is left of the file belongs to it.
    fn finish(mut self, end: Option<u64>, size: u64) -> Vec<Region> {
        let end = end.unwrap_or(size);
        self.end_frame(end);
        if end - self.start <= WHOLE_VALUE_MAX {
            self.regions.truncate(1);
        }
        self.regions.push(Region::even(end, PieceKind::Tail));
        self.regions
    }
}

impl Region {
    /// Frames of one group: cut at [`PIECE_BYTES_MAX`] if they are longer.
    const fn frames(start: u64) -> Self {
        Self::even(start, PieceKind::Frame)
    }
}
