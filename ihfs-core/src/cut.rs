//! Where a file is cut into pieces. Bytes are never changed: a cut is a list of boundaries.
//!
//! A plain file is cut every 1 MiB. A DICOM file is cut so that its header stands apart and its pixel data
//! begins on a boundary: changing a tag, also one that moves everything behind it, leaves every piece of
//! pixel data as it is, and frames can be fetched one by one. The cut is a function of the file's bytes
//! alone. A file that is not quite DICOM is cut plainly; that is never an error.

use crate::dicom::header::{Bulk, Ending, Header};
use crate::sealed::{CHUNK_PLAINTEXT_MAX, PACKED_PIECE_MAX};

mod fragments;
mod frames;
mod read_at;
#[cfg(test)]
pub(crate) mod tests;

pub use read_at::ReadAt;

/// Most bytes of one piece: what one chunk holds.
pub const PIECE_BYTES_MAX: u64 = CHUNK_PLAINTEXT_MAX as u64;
/// Pixel data up to this size stays in one piece, which goes into a pack beside its header.
const WHOLE_VALUE_MAX: u64 = PACKED_PIECE_MAX as u64;

/// What a piece holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceKind {
    /// What stands in a DICOM file before its pixel data or document; all of it where there is none.
    Header,
    /// Bytes without known structure.
    Content,
    /// Pixel data, cut by frames.
    Frame,
    /// What stands in a DICOM file behind its pixel data or document.
    Tail,
}

/// A run of bytes that is sealed under one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its first byte in the file.
    pub start: u64,
    /// Its bytes: at least 1, at most [`PIECE_BYTES_MAX`].
    pub length: u32,
    /// What it holds.
    pub kind: PieceKind,
}

/// The boundaries of one file. Holds a few words for a plain file of any size, and at most some 48 bytes for
/// each MiB of compressed frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutPlan {
    size: u64,
    header_size: Option<u64>,
    /// In ascending order; each ends where the next starts.
    regions: Vec<Region>,
}

/// A run of bytes with equal steps between its boundaries. Longer steps are cut again at
/// [`PIECE_BYTES_MAX`] from where they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Region {
    start: u64,
    step: u64,
    kind: PieceKind,
}

/// Gives the pieces of a plan in order.
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    plan: &'a CutPlan,
    region: usize,
    at: u64,
}

/// Decides where a file is cut. Reads headers only, some KiB of most files.
///
/// # Errors
/// What the source says when a read fails. No content is an error.
pub fn cut<R: ReadAt + ?Sized>(file: &R) -> Result<CutPlan, R::Error> {
    let size = file.size();
    let Some(header) = Header::read(file)? else {
        return Ok(CutPlan::plain(size));
    };
    Ok(match header.ending {
        Ending::Odd => CutPlan::plain(size),
        Ending::Complete => CutPlan::with_header(size, size, Vec::new()),
        Ending::Deflated(start) => {
            CutPlan::with_header(size, start, vec![Region::even(start, PieceKind::Content)])
        }
        Ending::Bulk(bulk) => CutPlan::with_header(size, bulk.start, cut_bulk(file, &header, bulk)?),
    })
}

/// Cuts a bulk value and what follows it.
fn cut_bulk<R: ReadAt + ?Sized>(file: &R, header: &Header, bulk: Bulk) -> Result<Vec<Region>, R::Error> {
    match bulk.length {
        Some(length) => Ok(frames::cut(&header.attributes, bulk, length)),
        None => fragments::cut(file, bulk),
    }
}

impl CutPlan {
    /// Cuts of exactly 1 MiB, and what is left.
    fn plain(size: u64) -> Self {
        Self { size, header_size: None, regions: vec![Region::even(0, PieceKind::Content)] }
    }

    fn with_header(size: u64, header_size: u64, rest: Vec<Region>) -> Self {
        let mut regions = vec![Region::even(0, PieceKind::Header)];
        regions.extend(rest);
        // A truncated file declares more than it has.
        regions.retain(|region| region.start < size);
        Self { size, header_size: Some(header_size), regions }
    }

    /// Bytes of the file.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Bytes before the content of a DICOM file; `None` for a file that was cut plainly.
    pub const fn header_size(&self) -> Option<u64> {
        self.header_size
    }

    /// The pieces in order. They cover the file exactly.
    pub const fn pieces(&self) -> Pieces<'_> {
        Pieces { plan: self, region: 0, at: 0 }
    }

    fn region_end(&self, region: usize) -> u64 {
        self.regions.get(region + 1).map_or(self.size, |next| next.start)
    }
}

impl Region {
    /// One that is cut at [`PIECE_BYTES_MAX`] alone.
    const fn even(start: u64, kind: PieceKind) -> Self {
        Self { start, step: PIECE_BYTES_MAX, kind }
    }

    /// The first boundary behind `at`, which lies in this region.
    fn next_boundary(&self, at: u64) -> u64 {
        let into_step = (at - self.start) % self.step;
        at.saturating_add((self.step - into_step).min(PIECE_BYTES_MAX))
    }
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.at >= self.plan.size {
            return None;
        }
        if self.at == self.plan.region_end(self.region) {
            self.region += 1;
        }
        let region = self.plan.regions[self.region];
        let start = self.at;
        self.at = region.next_boundary(start).min(self.plan.region_end(self.region));
        let length = u32::try_from(self.at - start).expect("pieces have at most 1 MiB");
        Some(Piece { start, length, kind: region.kind })
    }
}

impl std::iter::FusedIterator for Pieces<'_> {}
