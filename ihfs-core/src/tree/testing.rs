//! What tests of the tree share: chunks in memory, short ways to names, files and roots.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::ChunkSource;
use super::entry::{Content, Item, Metadata};
use super::file::{Extent, FileContentBuilder};
use super::name::{Name, parse_path};
use super::root::{NestedVersions, Root};
use crate::crypto::derive::{Role, VaultSecret};
use crate::crypto::secret::Secret;
use crate::ids::{ChunkId, Digest, Epoch, FileId, RecordId, Time, Version};
use crate::sealed::{PackWriter, SealedChunk, Sealer};

/// Chunks by their addresses, and how often one was asked for.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    chunks: RefCell<BTreeMap<ChunkId, Arc<SealedChunk>>>,
    pub(crate) reads: Cell<usize>,
}

/// The chunk is not there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Absent;

impl ChunkSource for Memory {
    type Error = Absent;

    fn chunk(&self, id: ChunkId) -> Result<Arc<SealedChunk>, Absent> {
        self.reads.set(self.reads.get() + 1);
        self.chunks.borrow().get(&id).cloned().ok_or(Absent)
    }
}

impl Memory {
    /// Closes the writer's pack and takes all its packs.
    pub(crate) fn take(&self, writer: &mut PackWriter<'_>) {
        writer.close();
        for pack in writer.take_closed() {
            self.chunks.borrow_mut().insert(pack.id(), Arc::new(pack));
        }
    }

    /// How many chunks there are.
    pub(crate) fn count(&self) -> usize {
        self.chunks.borrow().len()
    }
}

pub(crate) const RECORD: RecordId = RecordId::from_bytes([2; 32]);

pub(crate) fn sealer_of_epoch(epoch: u32) -> Sealer {
    let vault = VaultSecret(Secret::new([1; 32]));
    Sealer::new(RECORD, Epoch(epoch), &vault.record_key(RECORD, Epoch(epoch), Digest::from_bytes([3; 32])))
}

pub(crate) fn sealer() -> Sealer {
    sealer_of_epoch(0)
}

pub(crate) fn names(path: &str) -> Vec<Name> {
    parse_path(path.as_bytes()).unwrap()
}

pub(crate) fn root(top: Item) -> Root {
    Root {
        record: RECORD,
        version: Version(1),
        top,
        nested: NestedVersions::EMPTY,
        devices: Vec::new(),
        written: Time(0),
    }
}

pub(crate) fn item(id: u64, content: Content) -> Item {
    Item { id: FileId(id), content, metadata: Metadata::default() }
}

/// A piece of these bytes in a closed pack of `writer`.
pub(crate) fn piece(bytes: &[u8], writer: &mut PackWriter<'_>) -> Extent {
    let at = writer.add(Role::Content, bytes);
    Extent::piece(writer.resolve(at)).unwrap()
}

/// A file of `size` equal bytes.
pub(crate) fn file(id: u64, size: u64, writer: &mut PackWriter<'_>) -> Item {
    let mut content = FileContentBuilder::new();
    let piece = piece(&vec![id as u8; size as usize], writer);
    content.push(piece, writer).unwrap();
    item(id, Content::File(content.finish(writer)))
}
