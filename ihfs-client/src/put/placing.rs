//! Placing what was read in the tree of one record.
//!
//! Things wait, in order, until the pack that holds their content has its address. Then they go into the edit of
//! the record. Large folders are written page by page instead: memory does not grow with what is put.
//! What stands at a place comes with what goes there, so that nothing is looked up twice.

use std::collections::VecDeque;

use ihfs_core::sealed::{PackWriter, Place, Ref, Sealer};
use ihfs_core::tree::Found;
use ihfs_core::tree::edit::{EditError, TreeEdit};
use ihfs_core::tree::entry::{Content, Entry, Item, Metadata};
use ihfs_core::tree::file::{ContentError, Extent, FileContentBuilder};
use ihfs_core::tree::folder::{Folder, FolderMerge};
use ihfs_core::tree::name::Name;

use super::PutError;
use crate::change::new_folder;
use crate::fetch::{FetchError, Fetcher};
use crate::location::Location;
use crate::writing::{CommitError, new_item};

/// Most things that wait for a pack of content: it is closed early rather than more.
const WAITING_MAX: usize = 4096;
/// Most things that an edit holds before folders are written apart from it; each takes about 1.5 KiB there.
/// Fewer are written together with the folders above them, which saves a reader a round trip.
const HELD_MAX: usize = 4096;

/// What comes next in the order of paths.
pub(super) enum Step {
    /// A file, a symbolic link, or a folder that is filled by the steps that follow.
    Item(Placed<Read>),
    /// A folder that is written apart: what follows is in it.
    Open(Placed<Folder>),
    /// All of that folder came.
    Close,
}

/// Something and its place.
pub(super) struct Placed<C> {
    pub(super) path: Vec<Name>,
    /// What stands there; nothing nested.
    pub(super) standing: Option<Item>,
    /// The new content. That of a folder is the standing one until its entries came.
    pub(super) content: C,
    pub(super) metadata: Metadata,
}

/// Content that was read.
pub(super) enum Read {
    /// Pieces of a file, maybe in a pack that has no address yet.
    Pieces(Vec<Ref>),
    /// All else.
    Whole(Content),
}

/// A folder that is written apart.
struct Apart {
    folder: Placed<Folder>,
    entries: FolderMerge,
}

/// A path, what stands there, and what will.
type Change = (Vec<Name>, Option<Item>, Item);

/// Places things in one record.
pub(super) struct Placing<'a> {
    location: &'a Location,
    edit: &'a mut TreeEdit<Fetcher>,
    /// Whether the top's metadata are those of the folder that is put there. A vault has none.
    has_metadata: bool,
    /// Lists of large files, and pages of folders that are written apart.
    pub(super) pages: PackWriter<'a>,
    waiting: VecDeque<Step>,
    open: Vec<Apart>,
    /// Things whose content stands in pages that have no address yet.
    unaddressed: Vec<Placed<Content>>,
    /// A folder that stands in the edit.
    present: Vec<Name>,
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
            present: Vec::new(),
            held: 0,
            changed: false,
        }
    }

    /// Whether a folder that gets so many entries is written apart.
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
                Step::Open(folder) => {
                    let entries = FolderMerge::new(&folder.content);
                    self.open.push(Apart { folder, entries });
                }
                Step::Close => self.close()?,
                Step::Item(Placed { path, standing, content: read, metadata }) => {
                    let content = self.content(read, content)?;
                    self.item(Placed { path, standing, content, metadata })?;
                }
            }
        }
        Ok(())
    }

    /// Places the folder that was opened last.
    fn close(&mut self) -> Result<(), PutError> {
        let Apart { folder, entries } = self.open.pop().expect("a folder is closed after it was opened");
        let Placed { path, standing, content, metadata } = folder;
        let content = match entries.is_unchanged() {
            true => content,
            false => entries.finish(self.edit.source(), &mut self.pages).map_err(CommitError::from)?,
        };
        self.item(Placed { path, standing, content: Content::Folder(content), metadata })
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

    fn item(&mut self, mut placed: Placed<Content>) -> Result<(), PutError> {
        if self.open.last().is_some() {
            return self.place_apart(placed);
        }
        let mut has_addresses = true;
        for_each_ref(&mut placed.content, &mut |piece| {
            has_addresses &= matches!(piece.place, Place::Chunk(_))
        });
        if has_addresses {
            return self.place(placed);
        }
        self.unaddressed.push(placed);
        Ok(())
    }

    /// Closes the last pack of pages and places the rest; says whether anything changed. Nothing waits any more.
    pub(super) fn finish(&mut self) -> Result<bool, PutError> {
        assert!(self.waiting.is_empty() && self.open.is_empty(), "everything was settled");
        self.pages.close();
        for mut placed in std::mem::take(&mut self.unaddressed) {
            for_each_ref(&mut placed.content, &mut |piece| *piece = self.pages.resolve(piece.clone()));
            self.place(placed)?;
        }
        Ok(self.changed)
    }

    fn place_apart(&mut self, placed: Placed<Content>) -> Result<(), PutError> {
        let Some((path, _, item)) = self.changed(placed)? else { return Ok(()) };
        let name = path.last().expect("what stands in a folder has a name").clone();
        let folder = self.open.last_mut().expect("a folder is open");
        let entry = Entry { name: name.clone(), item };
        let changed = folder.entries.change(self.edit.source(), &name, Some(entry), &mut self.pages);
        changed.map_err(CommitError::from)?;
        Ok(())
    }

    fn place(&mut self, placed: Placed<Content>) -> Result<(), PutError> {
        let Some((path, old, new)) = self.changed(placed)? else { return Ok(()) };
        self.changed = true;
        self.held += 1;
        match old {
            Some(old) if old.id == new.id => self.replace(&path, &old, new),
            Some(_) => self.edit.remove(&path).and_then(|()| self.edit.create(&path, new)),
            None => self.make_parents(&path).and_then(|()| self.edit.create(&path, new)),
        }
        .map_err(CommitError::from)?;
        Ok(())
    }

    /// What stands at a place and what will; none when it stays as it is.
    fn changed(&self, placed: Placed<Content>) -> Result<Option<Change>, PutError> {
        let Placed { path, standing, content, mut metadata } = placed;
        let Some(old) = standing else { return Ok(Some((path, None, new_item(content, metadata)))) };
        must_fit(&self.at(&path), &path, &old, &content)?;
        // Reading gives the old content back where all of its pieces came again.
        let is_same = old.content == content;
        let is_kind = matches!(
            (&old.content, &content),
            (Content::Folder(_), Content::Folder(_)) | (Content::File(_), Content::File(_))
        );
        if !is_same && !is_kind {
            return Ok(Some((path, Some(old), new_item(content, metadata))));
        }
        // The time of the last change of status stays too: a re-run changes nothing.
        metadata.born = metadata.born.or(old.metadata.born);
        metadata.changed = old.metadata.changed;
        if path.is_empty() && !self.has_metadata {
            metadata = old.metadata.clone();
        }
        if is_same && metadata == old.metadata {
            return Ok(None);
        }
        let new = Item { id: old.id, content, metadata };
        Ok(Some((path, Some(old), new)))
    }

    fn replace(&mut self, path: &[Name], old: &Item, new: Item) -> Result<(), EditError<FetchError>> {
        if new.content != old.content {
            match new.content {
                Content::File(file) => self.edit.set_content(path, file)?,
                Content::Folder(folder) => self.edit.set_entries(path, folder)?,
                Content::Symlink(_) | Content::Nested(_) => {
                    unreachable!("a link with another target is a new one")
                }
            }
        }
        if new.metadata != old.metadata {
            self.edit.set_metadata(path, new.metadata)?;
        }
        Ok(())
    }

    /// Folders that a path needs come to be with it.
    fn make_parents(&mut self, path: &[Name]) -> Result<(), EditError<FetchError>> {
        let Some((_, parents)) = path.split_last() else { return Ok(()) };
        if parents == self.present {
            return Ok(());
        }
        if let Found::Missing { present } = self.edit.lookup(parents)? {
            for depth in present + 1..=parents.len() {
                self.edit.create(&path[..depth], new_folder())?;
            }
        }
        self.present = parents.to_vec();
        Ok(())
    }

    fn at(&self, path: &[Name]) -> Location {
        self.location.with_path([self.location.path(), path].concat())
    }
}

impl Step {
    fn has_addresses(&self, closed: u32) -> bool {
        let is_closed = |piece: &Ref| !matches!(piece.place, Place::Pack(pack) if pack >= closed);
        match self {
            Self::Item(Placed { content: Read::Pieces(pieces), .. }) => pieces.iter().all(is_closed),
            Self::Item(_) | Self::Open(_) | Self::Close => true,
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
