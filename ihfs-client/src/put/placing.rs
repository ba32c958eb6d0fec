//! Placing what was read in the tree of one record.
//!
//! Things wait, in order, until the pack that holds their content has its address. Then they go into the edit of
//! the record. Large new folders are written page by page instead: memory does not grow with what is put.

use std::collections::VecDeque;

use ihfs_core::sealed::{PackWriter, Place, Ref, Sealer};
use ihfs_core::tree::edit::{EditError, TreeEdit};
use ihfs_core::tree::entry::{Content, Entry, Item, Metadata, Mode};
use ihfs_core::tree::file::{ContentError, Extent, FileContentBuilder};
use ihfs_core::tree::folder::{Folder, FolderBuilder};
use ihfs_core::tree::name::Name;
use ihfs_core::tree::{Found, TreeError};

use super::PutError;
use crate::fetch::{FetchError, Fetcher};
use crate::location::Location;
use crate::writing::{CommitError, new_item};

/// Most things that wait for a pack of content: it is closed early rather than more.
const WAITING_MAX: usize = 4096;
/// Most things that an edit holds before new folders are written apart from it; each takes about 1.5 KiB there.
/// Fewer are written together with the folders above them, which saves a reader a round trip.
const HELD_MAX: usize = 4096;

/// What comes next in the order of paths.
pub(super) enum Step {
    /// A file, a symbolic link, or a folder that is filled by the steps that follow.
    Item { path: Vec<Name>, content: Read, metadata: Metadata },
    /// A folder where nothing stands, written apart: what follows is in it.
    Open { path: Vec<Name>, metadata: Metadata },
    /// All of that folder came.
    Close,
}

/// Content that was read.
pub(super) enum Read {
    /// Pieces of a file, maybe in a pack that has no address yet.
    Pieces(Vec<Ref>),
    /// All else.
    Whole(Content),
}

/// A folder that is written apart.
struct NewFolder {
    path: Vec<Name>,
    metadata: Metadata,
    entries: FolderBuilder,
}

/// Places things in one record.
pub(super) struct Placing<'a> {
    location: &'a Location,
    edit: &'a mut TreeEdit<Fetcher>,
    /// Whether the top's metadata are those of the folder that is put there. A vault has none.
    has_metadata: bool,
    /// Lists of large files, and pages of folders that are written apart.
    pub(super) pages: PackWriter<'a>,
    waiting: VecDeque<Step>,
    open: Vec<NewFolder>,
    /// Things whose content stands in pages that have no address yet.
    unaddressed: Vec<(Vec<Name>, Content, Metadata)>,
    held: usize,
    changed: bool,
}

impl<'a> Placing<'a> {
    pub(super) fn new(
        location: &'a Location,
        edit: &'a mut TreeEdit<Fetcher>,
        has_metadata: bool,
        sealer: &'a Sealer,
    ) -> Self {
        Self {
            location,
            edit,
            has_metadata,
            pages: PackWriter::new(sealer),
            waiting: VecDeque::new(),
            open: Vec::new(),
            unaddressed: Vec::new(),
            held: 0,
            changed: false,
        }
    }

    /// Whether a new folder of so many entries is written apart.
    pub(super) const fn is_apart(&self, entries: usize) -> bool {
        self.held + entries > HELD_MAX
    }

    /// Whether so much waits that the pack of content should be closed.
    pub(super) fn is_crowded(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    pub(super) fn push(&mut self, step: Step) {
        self.waiting.push_back(step);
    }

    /// Places what waits up to the first thing whose pack of content is open; `closed` packs are not.
    pub(super) fn settle(&mut self, content: &mut PackWriter<'_>, closed: u32) -> Result<(), PutError> {
        while self.waiting.front().is_some_and(|step| step.has_addresses(closed)) {
            match self.waiting.pop_front().expect("there is one in front") {
                Step::Open { path, metadata } => {
                    self.open.push(NewFolder { path, metadata, entries: FolderBuilder::default() });
                }
                Step::Close => {
                    let folder = self.open.pop().expect("a folder is closed after it was opened");
                    let entries = folder.entries.finish(&mut self.pages);
                    self.item(folder.path, Content::Folder(entries), folder.metadata)?;
                }
                Step::Item { path, content: read, metadata } => {
                    let read = self.content(read, content)?;
                    self.item(path, read, metadata)?;
                }
            }
        }
        Ok(())
    }

    fn content(&mut self, read: Read, packs: &mut PackWriter<'_>) -> Result<Content, ContentError> {
        let pieces = match read {
            Read::Whole(content) => return Ok(content),
            Read::Pieces(pieces) => pieces,
        };
        let mut file = FileContentBuilder::new();
        for piece in pieces {
            file.push(Extent::piece(packs.resolve(piece))?, &mut self.pages)?;
        }
        Ok(Content::File(file.finish(&mut self.pages)))
    }

    fn item(&mut self, path: Vec<Name>, mut content: Content, metadata: Metadata) -> Result<(), PutError> {
        if let Some(folder) = self.open.last_mut() {
            let name = path.last().expect("what stands in a folder has a name").clone();
            let entry = Entry { name, item: new_item(content, metadata) };
            folder.entries.push(entry, &mut self.pages).expect("entries come in the order of their names");
            return Ok(());
        }
        let mut has_addresses = true;
        for_each_ref(&mut content, &mut |piece| has_addresses &= matches!(piece.place, Place::Chunk(_)));
        if has_addresses {
            return self.place(&path, content, metadata);
        }
        self.unaddressed.push((path, content, metadata));
        Ok(())
    }

    /// Closes the last pack of pages and places the rest; says whether anything changed. Nothing waits any more.
    pub(super) fn finish(&mut self) -> Result<bool, PutError> {
        assert!(self.waiting.is_empty() && self.open.is_empty(), "everything was settled");
        self.pages.close();
        for (path, mut content, metadata) in std::mem::take(&mut self.unaddressed) {
            for_each_ref(&mut content, &mut |piece| *piece = self.pages.resolve(piece.clone()));
            self.place(&path, content, metadata)?;
        }
        Ok(self.changed)
    }

    fn place(&mut self, path: &[Name], content: Content, metadata: Metadata) -> Result<(), PutError> {
        let changed = match self.edit.lookup(path).map_err(CommitError::from)? {
            Found::Item(old) => {
                must_fit(&self.at(path), path, &old, &content)?;
                self.replace(path, &old, content, metadata).map_err(CommitError::from)?
            }
            Found::Missing { present } => {
                make_parents(self.edit, path, present).map_err(CommitError::from)?;
                self.edit.create(path, new_item(content, metadata)).map_err(CommitError::from)?;
                true
            }
            Found::NotAFolder { depth, .. } => {
                return Err(PutError::NotAFolder { location: self.at(&path[..depth]) });
            }
            // Records are entered while reading, and a put nests none.
            Found::Crossing { .. } => return Err(CommitError::from(TreeError::Unwritten).into()),
        };
        self.changed |= changed;
        self.held += usize::from(changed);
        Ok(())
    }

    fn replace(
        &mut self,
        path: &[Name],
        old: &Item,
        content: Content,
        mut metadata: Metadata,
    ) -> Result<bool, EditError<FetchError>> {
        let same = match (&old.content, content) {
            (Content::Folder(_), Content::Folder(_)) => true,
            (Content::File(old), Content::File(new)) => {
                let same = old.is_same_bytes(&new, self.edit.source())?;
                if !same {
                    self.edit.set_content(path, new)?;
                }
                same
            }
            (Content::Symlink(old), Content::Symlink(new)) if *old == new => true,
            (_, content) => {
                self.edit.remove(path)?;
                self.edit.create(path, new_item(content, metadata))?;
                return Ok(true);
            }
        };
        // When its bytes are the same, the time of the last change of status stays too: a re-run changes nothing.
        metadata.born = metadata.born.or(old.metadata.born);
        metadata.changed = old.metadata.changed;
        let keeps_metadata = path.is_empty() && !self.has_metadata;
        if keeps_metadata || metadata == old.metadata {
            return Ok(!same);
        }
        self.edit.set_metadata(path, metadata)?;
        Ok(true)
    }

    fn at(&self, path: &[Name]) -> Location {
        self.location.with_path([self.location.path(), path].concat())
    }
}

impl Step {
    fn has_addresses(&self, closed: u32) -> bool {
        let is_closed = |piece: &Ref| !matches!(piece.place, Place::Pack(pack) if pack >= closed);
        match self {
            Self::Item { content: Read::Pieces(pieces), .. } => pieces.iter().all(is_closed),
            Self::Item { .. } | Self::Open { .. } | Self::Close => true,
        }
    }
}

/// Fails where a folder would take the place of what is none, or the other way round: neither goes silently.
pub(super) fn must_fit(
    location: &Location,
    path: &[Name],
    standing: &Item,
    new: &Content,
) -> Result<(), PutError> {
    let location = || location.clone();
    match (&standing.content, new) {
        (Content::Folder(_), Content::Folder(_)) => Ok(()),
        (Content::Folder(_), _) => Err(PutError::IsAFolder { location: location() }),
        (_, Content::Folder(_)) => Err(PutError::NotAFolder { location: location() }),
        (Content::File(_), Content::Symlink(_)) if path.is_empty() => {
            Err(PutError::LinkOverShared { location: location() })
        }
        _ => Ok(()),
    }
}

fn for_each_ref(content: &mut Content, visit: &mut dyn FnMut(&mut Ref)) {
    match content {
        Content::Folder(folder) => folder.for_each_ref(visit),
        Content::File(file) => file.for_each_ref(visit),
        Content::Symlink(_) | Content::Nested(_) => {}
    }
}

/// Folders that a path needs come to be with it.
fn make_parents(
    edit: &mut TreeEdit<Fetcher>,
    path: &[Name],
    present: usize,
) -> Result<(), EditError<FetchError>> {
    for depth in present + 1..path.len() {
        let metadata = Metadata { mode: Mode::from_stat(0o755), ..Metadata::default() };
        edit.create(&path[..depth], new_item(Content::Folder(Folder::EMPTY), metadata))?;
    }
    Ok(())
}
