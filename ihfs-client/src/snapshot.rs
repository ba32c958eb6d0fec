//! One version of a record, open for reading: what `get`, `cat` and `ls` read, and a mount or a gateway would.
//!
//! A snapshot never changes and never looks ahead of what is asked: pages and chunks come when they are read, and
//! are kept for a while. Waits keep to the call of the client that opened it, or to another by
//! [`Snapshot::under`].

use std::collections::VecDeque;
use std::ops::Range;

use ihfs_core::ids::{ChunkId, RecordId, Version};
use ihfs_core::sealed::{Place, Ref};
use ihfs_core::tree::entry::Item;
use ihfs_core::tree::file::{FileContent, PlacedExtent, RawExtent};
use ihfs_core::tree::name::Name;
use ihfs_core::tree::reader::Listing;
use ihfs_core::tree::{ChunkSource, Found, TreeError};

use crate::call::Call;
use crate::client::Client;
use crate::fetch::{FetchError, Fetcher, PREFETCH_MAX};
use crate::location::Location;
use crate::record::{OpenTree, Record, RecordError};
use crate::resolve::ResolveError;

/// Bytes of a hole that are given at once.
const ZEROS_BYTES: usize = 64 << 10;

/// One version of a record. Cheap to clone; clones share the chunks that they hold.
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) record: Record,
    pub(crate) tree: OpenTree,
}

impl Client {
    /// The newest version that this member may read of the record that holds `at`, and the names below its top.
    /// What the path ends at need not exist.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub fn snapshot(&self, at: &Location) -> Result<(Snapshot, Vec<Name>), ResolveError> {
        let spot = self.resolve(at)?;
        Ok((spot.snapshot(), spot.path))
    }

    /// The newest version that this member may read of a record that is nested in `above`.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub fn nested_snapshot(&self, above: &Snapshot, record: RecordId) -> Result<Snapshot, ResolveError> {
        let mut record = self.nested(&above.record, record)?;
        let tree = self.tree_or_empty(&mut record)?;
        Ok(Snapshot { record, tree })
    }
}

impl Snapshot {
    /// The record.
    pub const fn record(&self) -> RecordId {
        self.record.id
    }

    /// The version; 0 when nothing was written yet.
    pub const fn version(&self) -> Version {
        self.tree.root().version
    }

    /// The top of the record: a folder, or a file that is shared by itself.
    pub const fn top(&self) -> &Item {
        &self.tree.root().top
    }

    /// The same version, whose waits keep to `call`.
    #[must_use]
    pub fn under(&self, call: &Call) -> Self {
        let chunks = self.record.chunks.under(call.clone());
        let tree = OpenTree::new(self.tree.root().clone(), chunks.clone());
        let mut record = self.record.clone();
        record.chunks = chunks;
        Self { record, tree }
    }

    /// What stands at `path`.
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be had.
    pub fn lookup(&self, path: &[Name]) -> Result<Found, TreeError<FetchError>> {
        self.tree.lookup(path)
    }

    /// Up to `limit` entries of the folder at `path`, behind the name `after` or from the first.
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be had.
    pub fn list(
        &self,
        path: &[Name],
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Listing, TreeError<FetchError>> {
        self.tree.list(path, after, limit)
    }

    /// Fills `out` with bytes of a file from `start`; gives how many there were before its end.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn read_at(&self, content: &FileContent, start: u64, out: &mut [u8]) -> Result<usize, RecordError> {
        let mut filled = 0;
        self.read::<RecordError>(content, start..start.saturating_add(out.len() as u64), &mut |part| {
            out[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
            Ok(())
        })?;
        Ok(filled)
    }

    /// Calls `take` with the bytes of `range` in order, holes as zeros, as far as the file goes. Asks for what
    /// comes next while it decrypts.
    ///
    /// # Errors
    /// [`RecordError`], and those of `take`.
    pub fn read<E: From<RecordError>>(
        &self,
        content: &FileContent,
        range: Range<u64>,
        take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        read(self.tree.source(), content, range, take)
    }

    /// Asks for the chunks that hold bytes of `range`, as many as are kept at once, and returns without them.
    ///
    /// # Errors
    /// [`TreeError`] when a list page of the file cannot be had.
    pub fn prefetch(&self, content: &FileContent, range: Range<u64>) -> Result<(), TreeError<FetchError>> {
        let extents = content.extents(self.tree.source(), range, PREFETCH_MAX)?;
        let pieces = extents.iter().filter_map(|placed| placed.extent.as_piece());
        self.tree.source().prefetch(pieces.filter_map(chunk_of));
        Ok(())
    }
}

/// The bytes of a file that is known to be small.
pub(crate) fn read_small(
    tree: &OpenTree,
    content: &FileContent,
    limit_bytes: u64,
) -> Result<Vec<u8>, RecordError> {
    let mut bytes = Vec::new();
    read::<RecordError>(tree.source(), content, 0..limit_bytes, &mut |part| {
        bytes.extend_from_slice(part);
        Ok(())
    })?;
    Ok(bytes)
}

/// The chunk that a piece stands in, once it has an address.
pub(crate) fn chunk_of(piece: &Ref) -> Option<ChunkId> {
    match piece.place {
        Place::Chunk(id) => Some(id),
        Place::Here | Place::Pack(_) => None,
    }
}

/// Calls `take` with the bytes of `range` in order, as [`Snapshot::read`] does.
pub(crate) fn read<E: From<RecordError>>(
    chunks: &Fetcher,
    content: &FileContent,
    range: Range<u64>,
    take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let (mut at, mut listed) = (range.start, range.start);
    let end = range.end.min(content.size_bytes());
    let mut window = VecDeque::new();
    while at < end {
        // Asked for in halves, so that the next half is on its way while this one is read.
        if window.len() <= PREFETCH_MAX / 2 && listed < end {
            let extents = content.extents(chunks, listed..end, PREFETCH_MAX / 2);
            let extents = extents.map_err(RecordError::from)?;
            listed = extents.last().map_or(end, |placed| placed.start + placed.extent.size_bytes());
            let pieces = extents.iter().filter_map(|placed| placed.extent.as_piece());
            chunks.prefetch(pieces.filter_map(chunk_of));
            window.extend(extents);
            continue;
        }
        let Some(PlacedExtent { start, extent }) = window.pop_front() else { break };
        let (from, until) = (at.max(start), end.min(start + extent.size_bytes()));
        match extent.get() {
            RawExtent::Hole(_) => give_zeros(until - from, take)?,
            RawExtent::Piece(piece) => {
                let (skip, wanted) = ((from - start) as usize, (until - from) as usize);
                take(&open_piece(chunks, piece, skip, wanted)?)?;
            }
        }
        at = until;
    }
    Ok(())
}

fn open_piece(chunks: &Fetcher, piece: &Ref, skip: usize, wanted: usize) -> Result<Vec<u8>, RecordError> {
    let Some(id) = chunk_of(piece) else { return Err(TreeError::Unwritten.into()) };
    let chunk = chunks.chunk(id)?;
    if skip == 0 && wanted == piece.size as usize {
        return Ok(chunk.open(piece)?);
    }
    Ok(chunk.open_range(piece, skip, wanted)?)
}

fn give_zeros<E>(mut count: u64, take: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    static ZEROS: [u8; ZEROS_BYTES] = [0; ZEROS_BYTES];
    while count > 0 {
        let now = count.min(ZEROS_BYTES as u64);
        take(&ZEROS[..now as usize])?;
        count -= now;
    }
    Ok(())
}
