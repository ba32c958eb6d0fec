//! The tree inside a record: names, entries, folders, files and the root above them.
//!
//! All of it is sealed before it leaves; a node sees chunks and no shape. Pages come through a
//! [`ChunkSource`], which the caller implements; nothing here knows where chunks are kept.

use std::any::Any;
use std::sync::Arc;

use crate::ids::ChunkId;
use crate::sealed::{OpenError, SealedChunk};

pub mod edit;
pub mod entry;
pub mod file;
pub mod folder;
pub mod name;
pub mod pages;
pub mod reader;
pub mod root;
pub mod sorted;
#[cfg(test)]
pub(crate) mod testing;

/// Gives the chunks that a tree stands in.
pub trait ChunkSource {
    /// Why a chunk could not be had.
    type Error;

    /// The chunk with this address. Keeping chunks that are asked for again is the source's matter.
    ///
    /// # Errors
    /// Whatever kept the source from getting it.
    fn chunk(&self, id: ChunkId) -> Result<Arc<SealedChunk>, Self::Error>;

    /// What was made of the piece that begins at this byte of a chunk, if the source still has it. It is believed
    /// only by who asks for the same piece by the same key.
    fn opened(&self, _chunk: ChunkId, _offset: u32) -> Option<Opened> {
        None
    }

    /// Offers what was made of a piece with `size_bytes` of plaintext, in place of what was offered before.
    fn keep_opened(&self, _chunk: ChunkId, _offset: u32, _opened: Opened, _size_bytes: usize) {}
}

/// A piece, opened and decoded. A source that keeps it knows no more of it.
pub type Opened = Arc<dyn Any + Send + Sync>;

impl<S: ChunkSource + ?Sized> ChunkSource for &S {
    type Error = S::Error;

    fn chunk(&self, id: ChunkId) -> Result<Arc<SealedChunk>, Self::Error> {
        (**self).chunk(id)
    }

    fn opened(&self, chunk: ChunkId, offset: u32) -> Option<Opened> {
        (**self).opened(chunk, offset)
    }

    fn keep_opened(&self, chunk: ChunkId, offset: u32, opened: Opened, size_bytes: usize) {
        (**self).keep_opened(chunk, offset, opened, size_bytes);
    }
}

impl<S: ChunkSource + ?Sized> ChunkSource for Arc<S> {
    type Error = S::Error;

    fn chunk(&self, id: ChunkId) -> Result<Arc<SealedChunk>, Self::Error> {
        (**self).chunk(id)
    }

    fn opened(&self, chunk: ChunkId, offset: u32) -> Option<Opened> {
        (**self).opened(chunk, offset)
    }

    fn keep_opened(&self, chunk: ChunkId, offset: u32, opened: Opened, size_bytes: usize) {
        (**self).keep_opened(chunk, offset, opened, size_bytes);
    }
}

/// Why a part of a tree could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError<E> {
    /// The chunk could not be had.
    #[error("a chunk of the tree could not be fetched")]
    Source(#[source] E),
    /// The chunk is there and its page does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The page opens and is not what its parent says it is: its writer was faulty or dishonest.
    #[error("a tree page in chunk {chunk:?} is malformed: {fault}")]
    Page {
        /// The chunk that holds the page.
        chunk: ChunkId,
        /// What is wrong with it.
        fault: PageFault,
    },
    /// The page belongs to the commit that is being written and cannot be read before it is complete.
    #[error("a tree page of an unfinished commit cannot be read back")]
    Unwritten,
}

/// What is wrong with a tree page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageFault {
    /// It holds nothing; an empty folder or file has no page.
    #[error("it is empty")]
    Empty,
    /// It stands at another level than its parent says.
    #[error("it is of level {found}, its parent says {expected}")]
    WrongLevel {
        /// What the parent says.
        expected: u8,
        /// What the page is.
        found: u8,
    },
    /// Its items are not in strictly ascending order, or not behind those of the page before it.
    #[error("its items are not in order")]
    NotSorted,
    /// Its items do not add up to what its parent says of it.
    #[error("its items are not those that its parent names")]
    WrongSpan,
    /// A sum over its items leaves 64 bits.
    #[error("its sums overflow")]
    Overflow,
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A folder, file or symbolic link of this record.
    Item(entry::Item),
    /// Nothing. Of the path, `present` names exist.
    Missing {
        /// How many leading names exist.
        present: usize,
    },
    /// A name in the middle of the path is a file or a symbolic link.
    NotAFolder {
        /// How many leading names lead to it.
        depth: usize,
        /// What it is.
        item: entry::Item,
    },
    /// The path leads into a nested record.
    Crossing {
        /// The nested record as this record lists it; its content is [`entry::Content::Nested`].
        item: entry::Item,
        /// The names behind it; none when the path ends at the nested record itself.
        rest: Vec<name::Name>,
    },
}
