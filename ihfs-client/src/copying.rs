//! Copying a subtree from one record into another: every piece is opened and sealed again under the target's key,
//! since no record holds a key of another.

use ihfs_core::crypto::derive::Role;
use ihfs_core::ids::RecordId;
use ihfs_core::sealed::{PACKED_PIECE_MAX, PackWriter, Ref, Sealer};
use ihfs_core::tree::entry::{Content, Item};
use ihfs_core::tree::file::{Extent, FileContent, FileContentBuilder, PlacedExtent, RawExtent};
use ihfs_core::tree::folder::Folder;
use ihfs_core::tree::name::Name;
use ihfs_core::tree::{ChunkSource, TreeError};

use crate::fetch::PREFETCH_MAX;
use crate::record::{OpenTree, RecordError};
use crate::snapshot::chunk_of;
use crate::upload::Uploader;
use crate::writing::{CommitError, Writing, new_item};

/// Entries of a folder that are read at once.
const PAGE_ENTRIES: usize = 256;
/// Files with more extents than this are listed as they are read, so that memory stays bounded.
const DEFERRED_EXTENTS_MAX: u64 = 256;

/// What a subtree came to in the target.
#[derive(Default)]
pub(crate) struct Copied {
    /// Items by their names below the copy's top, folders before what is in them. Folders are empty, ids new.
    pub(crate) items: Vec<(Vec<Name>, Item)>,
    /// Nested records: only their names are copied.
    pub(crate) nested: Vec<(Vec<Name>, Item, RecordId)>,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

enum Waiting {
    /// A piece in a pack that may have no address yet.
    Piece(Ref),
    Hole(u64),
}

struct Copying<'a> {
    from: &'a OpenTree,
    sealer: &'a Sealer,
    uploader: &'a mut Uploader,
    content: PackWriter<'a>,
    lists: PackWriter<'a>,
    copied: Copied,
    /// Extents of files by the number of their item, until their packs are closed.
    waiting: Vec<(usize, Vec<Waiting>)>,
}

/// Seals and uploads `item` of `from`, and all below it, into the record that is being written.
pub(crate) fn copy_into(writing: &mut Writing, from: &OpenTree, item: &Item) -> Result<Copied, CommitError> {
    let Writing { sealer, uploader, .. } = writing;
    let mut copying = Copying {
        from,
        sealer,
        uploader,
        content: PackWriter::new(sealer),
        lists: PackWriter::new(sealer),
        copied: Copied::default(),
        waiting: Vec::new(),
    };
    copying.copy(&[], item)?;
    copying.finish()
}

impl Copying<'_> {
    fn copy(&mut self, path: &[Name], item: &Item) -> Result<(), CommitError> {
        match &item.content {
            Content::Folder(folder) => {
                self.place(path, Content::Folder(Folder::EMPTY), item);
                self.copy_folder(path, folder)
            }
            Content::File(content) => self.copy_file(path, item, content),
            Content::Symlink(target) => {
                self.place(path, Content::Symlink(target.clone()), item);
                Ok(())
            }
            Content::Nested(nested) => {
                self.copied.nested.push((path.to_vec(), item.clone(), nested.record));
                Ok(())
            }
        }
    }

    fn place(&mut self, path: &[Name], content: Content, old: &Item) {
        self.copied.items.push((path.to_vec(), new_item(content, old.metadata.clone())));
    }

    fn copy_folder(&mut self, path: &[Name], folder: &Folder) -> Result<(), CommitError> {
        let mut after = None;
        loop {
            let entries = folder.list(self.from.source(), after.as_ref(), PAGE_ENTRIES)?;
            let Some(last) = entries.last() else { return Ok(()) };
            after = Some(last.name.clone());
            for entry in entries {
                let mut below = path.to_vec();
                below.push(entry.name);
                self.copy(&below, &entry.item)?;
            }
        }
    }

    fn copy_file(&mut self, path: &[Name], item: &Item, content: &FileContent) -> Result<(), CommitError> {
        let many = content.extent_count() > DEFERRED_EXTENTS_MAX;
        let mut builder = FileContentBuilder::new();
        let mut waiting = Vec::new();
        let mut at = 0;
        while at < content.size_bytes() {
            let window = content.extents(self.from.source(), at..content.size_bytes(), PREFETCH_MAX)?;
            let pieces = window.iter().filter_map(|placed| placed.extent.as_piece());
            self.from.source().prefetch(pieces.filter_map(chunk_of));
            for PlacedExtent { start, extent } in window {
                at = start + extent.size_bytes();
                let copied = self.copy_extent(&extent, many)?;
                if many {
                    self.list(&mut builder, copied)?;
                } else {
                    waiting.push(copied);
                }
            }
        }
        self.copied.files += 1;
        self.copied.bytes += content.size_bytes();
        let mut new = FileContent::EMPTY;
        if many {
            new = builder.finish(&mut self.lists);
        } else {
            self.waiting.push((self.copied.items.len(), waiting));
        }
        self.place(path, Content::File(new), item);
        Ok(())
    }

    fn copy_extent(&mut self, extent: &Extent, alone: bool) -> Result<Waiting, CommitError> {
        let piece = match extent.get() {
            RawExtent::Hole(size) => return Ok(Waiting::Hole(*size)),
            RawExtent::Piece(piece) => piece,
        };
        let id = chunk_of(piece).ok_or(TreeError::Unwritten)?;
        let chunk = self.from.source().chunk(id).map_err(TreeError::Source)?;
        let plaintext = chunk.open(piece).map_err(RecordError::from)?;
        if plaintext.len() <= PACKED_PIECE_MAX && !alone {
            let piece = self.content.add(Role::Content, &plaintext);
            self.send()?;
            return Ok(Waiting::Piece(piece));
        }
        let (piece, chunk) = self.sealer.seal_chunk(Role::Content, &plaintext);
        self.uploader.push(chunk)?;
        Ok(Waiting::Piece(piece))
    }

    fn list(&mut self, builder: &mut FileContentBuilder, waiting: Waiting) -> Result<(), CommitError> {
        let extent = match waiting {
            Waiting::Piece(piece) => Extent::piece(self.content.resolve(piece)),
            Waiting::Hole(size) => Extent::hole(size),
        };
        let extent = extent.expect("extents of a file are not empty");
        builder.push(extent, &mut self.lists).expect("the copy is as long as the file that it is of");
        self.send()
    }

    fn send(&mut self) -> Result<(), CommitError> {
        for pack in self.content.take_closed().into_iter().chain(self.lists.take_closed()) {
            self.uploader.push(pack)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Copied, CommitError> {
        self.content.close();
        for (place, waiting) in std::mem::take(&mut self.waiting) {
            let mut builder = FileContentBuilder::new();
            for extent in waiting {
                self.list(&mut builder, extent)?;
            }
            self.copied.items[place].1.content = Content::File(builder.finish(&mut self.lists));
        }
        self.lists.close();
        self.send()?;
        for (_, item) in &mut self.copied.items {
            if let Content::File(content) = &mut item.content {
                content.for_each_ref(&mut |piece| *piece = self.lists.resolve(piece.clone()));
            }
        }
        Ok(self.copied)
    }
}
