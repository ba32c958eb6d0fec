//! Reading: bytes of a file by range, and whole files and folders onto this machine.

use ihfs_core::sealed::{Place, Ref};
use ihfs_core::tree::file::{FileContent, RawExtent};
use ihfs_core::tree::{ChunkSource, TreeError};

use crate::fetch::PREFETCH_MAX;
use crate::record::{OpenTree, RecordError};

/// The bytes of a file that is known to be small.
pub(crate) fn read_small(
    tree: &OpenTree,
    content: &FileContent,
    limit_bytes: usize,
) -> Result<Vec<u8>, RecordError> {
    let size = usize::try_from(content.size_bytes()).unwrap_or(usize::MAX).min(limit_bytes);
    let mut bytes = Vec::with_capacity(size);
    read_range::<RecordError>(tree, content, 0, size as u64, &mut |part| {
        bytes.extend_from_slice(part);
        Ok(())
    })?;
    Ok(bytes)
}

/// Calls `take` with the bytes of `start .. start + length` in order, holes as zeros. Asks for what comes next
/// while it decrypts.
pub(crate) fn read_range<E: From<RecordError>>(
    tree: &OpenTree,
    content: &FileContent,
    start: u64,
    length: u64,
    take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let end = start.saturating_add(length).min(content.size_bytes());
    let mut at = start;
    while at < end {
        let extents = content
            .extents(tree.source(), at..end, PREFETCH_MAX)
            .map_err(RecordError::from)
            .map_err(E::from)?;
        if extents.is_empty() {
            break;
        }
        let pieces = extents.iter().filter_map(|placed| placed.extent.as_piece());
        tree.source().prefetch(pieces.filter_map(chunk_of));
        for placed in &extents {
            let (from, until) = (at.max(placed.start), end.min(placed.start + placed.extent.size_bytes()));
            let (skip, wanted) = ((from - placed.start) as usize, (until - from) as usize);
            match placed.extent.get() {
                RawExtent::Hole(_) => give_zeros(wanted, take)?,
                RawExtent::Piece(piece) => {
                    let bytes = open_piece(tree, piece, skip, wanted).map_err(E::from)?;
                    take(&bytes)?;
                }
            }
            at = until;
        }
    }
    Ok(())
}

fn open_piece(tree: &OpenTree, piece: &Ref, skip: usize, wanted: usize) -> Result<Vec<u8>, RecordError> {
    let Some(id) = chunk_of(piece) else { return Err(TreeError::Unwritten.into()) };
    let chunk = tree.source().chunk(id)?;
    if skip == 0 && wanted == piece.size as usize {
        return Ok(chunk.open(piece)?);
    }
    Ok(chunk.open_range(piece, skip, wanted)?)
}

fn give_zeros<E>(mut count: usize, take: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while count > 0 {
        let now = count.min(ZEROS.len());
        take(&ZEROS[..now])?;
        count -= now;
    }
    Ok(())
}

pub(crate) fn chunk_of(piece: &Ref) -> Option<ihfs_core::ids::ChunkId> {
    match piece.place {
        Place::Chunk(id) => Some(id),
        Place::Here | Place::Pack(_) => None,
    }
}
