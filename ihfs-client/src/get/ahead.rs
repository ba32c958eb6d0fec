//! Walks a tree ahead of the writer: folders are made and files compared as they are met, and chunks asked for
//! across the borders of files, so that many small files do not cost a round trip each.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use ihfs_core::ids::ChunkId;
use ihfs_core::tree::entry::{Content, Item, Metadata, NestedRecord, SymlinkTarget};
use ihfs_core::tree::file::{FileContent, PlacedExtent};
use ihfs_core::tree::folder::Folder;
use ihfs_core::tree::name::Name;

use super::local::{LocalFolder, Standing, is_temporary};
use super::{GetError, GetOptions, GetReport, Skipped};
use crate::client::Client;
use crate::fetch::PREFETCH_MAX;
use crate::progress::Progress;
use crate::received::OpeningError;
use crate::record::RecordError;
use crate::resolve::{NESTING_MAX, ResolveError};
use crate::snapshot::{Snapshot, chunk_of};

/// Most steps known ahead: files of 4 KiB in twelve packs.
const STEPS_MAX: usize = 8192;
/// Entries of a folder that are read at once.
const PAGE_ENTRIES: usize = 256;
/// Extents of a file that are read at once: half of what is asked for ahead.
const PAGE_EXTENTS: usize = PREFETCH_MAX / 2;

/// Where content comes from.
pub(super) struct Origin {
    pub(super) snapshot: Snapshot,
    /// How many records it is nested in.
    pub(super) nesting: usize,
}

/// A file that is to be written.
pub(super) struct Plan {
    pub(super) folder: Arc<LocalFolder>,
    pub(super) name: Name,
    pub(super) size: u64,
    pub(super) metadata: Metadata,
    pub(super) replaces: bool,
    /// Its path in IHFS.
    pub(super) shown: String,
}

/// What the writer does next.
pub(super) enum Step {
    /// Begins a file.
    Begin(Box<Plan>),
    /// Writes a part of it.
    Extent(Rc<Origin>, PlacedExtent),
    /// Ends it.
    End,
}

pub(super) struct Walk<'a> {
    client: &'a Client,
    options: GetOptions,
    progress: &'a dyn Progress,
    frames: Vec<Frame>,
    /// The file whose extents are not all among the steps.
    listing: Option<(Rc<Origin>, FileContent, u64)>,
    steps: VecDeque<Step>,
    /// Chunks that the steps need, and how often.
    ahead: BTreeMap<ChunkId, usize>,
    pub(super) report: GetReport,
    known: (u64, u64),
}

/// A folder in the middle of which the walk is.
struct Frame {
    origin: Rc<Origin>,
    folder: Folder,
    after: Option<Name>,
    entries: std::vec::IntoIter<ihfs_core::tree::entry::Entry>,
    into: Arc<LocalFolder>,
    shown: String,
}

impl<'a> Walk<'a> {
    pub(super) fn new(client: &'a Client, options: GetOptions, progress: &'a dyn Progress) -> Self {
        Self {
            client,
            options,
            progress,
            frames: Vec::new(),
            listing: None,
            steps: VecDeque::new(),
            ahead: BTreeMap::new(),
            report: GetReport::default(),
            known: (0, 0),
        }
    }

    /// The next step; none when all is walked.
    pub(super) fn next_step(&mut self) -> Result<Option<Step>, GetError> {
        while self.ahead.len() < PREFETCH_MAX && self.steps.len() < STEPS_MAX && self.look_further()? {}
        let step = self.steps.pop_front();
        if let Some(Step::Extent(_, placed)) = &step
            && let Some(id) = placed.extent.as_piece().and_then(chunk_of)
            && let Some(count) = self.ahead.get_mut(&id)
        {
            *count -= 1;
            if *count == 0 {
                self.ahead.remove(&id);
            }
        }
        Ok(step)
    }

    /// Adds to what is known; false when there is no more.
    fn look_further(&mut self) -> Result<bool, GetError> {
        if let Some((origin, content, at)) = self.listing.take() {
            self.list_extents(origin, content, at)?;
            return Ok(true);
        }
        let Some(frame) = self.frames.last_mut() else { return Ok(false) };
        if let Some(entry) = frame.entries.next() {
            let (origin, into) = (frame.origin.clone(), frame.into.clone());
            let shown = format!("{}/{}", frame.shown, String::from_utf8_lossy(entry.name.as_bytes()));
            self.meet(origin, into, entry.name, entry.item, shown)?;
            return Ok(true);
        }
        let page = frame.folder.list(frame.origin.snapshot.tree.source(), frame.after.as_ref(), PAGE_ENTRIES);
        let page = page.map_err(RecordError::from)?;
        if let Some(last) = page.last() {
            frame.after = Some(last.name.clone());
            frame.entries = page.into_iter();
        } else if let Some(frame) = self.frames.pop() {
            LocalFolder::leave(frame.into)?;
        }
        Ok(true)
    }

    /// Deals with an item that is to be `name` in `into`.
    pub(super) fn meet(
        &mut self,
        origin: Rc<Origin>,
        into: Arc<LocalFolder>,
        name: Name,
        item: Item,
        shown: String,
    ) -> Result<(), GetError> {
        if is_temporary(&name) {
            self.skip(shown, "its name is one of unfinished files");
            return LocalFolder::leave(into);
        }
        match item.content {
            Content::File(content) => self.plan(origin, into, name, content, item.metadata, shown),
            Content::Symlink(target) => self.link(into, &name, &target, &item.metadata),
            Content::Folder(folder) => {
                let entered = into.enter(&name, item.metadata)?;
                self.enter(origin, folder, entered, shown);
                LocalFolder::leave(into)
            }
            Content::Nested(NestedRecord { record, .. }) => match self.cross(&origin, record, &shown)? {
                Some((inside, item)) => self.meet(inside, into, name, item, shown),
                None => LocalFolder::leave(into),
            },
        }
    }

    /// Goes on with the entries of a folder.
    pub(super) fn enter(
        &mut self,
        origin: Rc<Origin>,
        folder: Folder,
        into: Arc<LocalFolder>,
        shown: String,
    ) {
        self.report.folders += 1;
        let (after, entries) = (None, Vec::new().into_iter());
        self.frames.push(Frame { origin, folder, after, entries, into, shown });
    }

    /// Opens a nested record; none when it is not for this reader, which is told and stops nothing.
    fn cross(
        &mut self,
        origin: &Origin,
        record: ihfs_core::ids::RecordId,
        shown: &str,
    ) -> Result<Option<(Rc<Origin>, Item)>, GetError> {
        if origin.nesting >= NESTING_MAX {
            self.skip(shown.to_owned(), "records are nested too deep");
            return Ok(None);
        }
        let snapshot = match self.client.nested_snapshot(&origin.snapshot, record) {
            Ok(snapshot) => snapshot,
            Err(ResolveError::Opening(OpeningError::NestedNotShared { .. })) => {
                self.skip(shown.to_owned(), "it is not shared with you");
                return Ok(None);
            }
            Err(ResolveError::Record(RecordError::NotReadable { .. } | RecordError::OtherVersion { .. })) => {
                self.skip(shown.to_owned(), "its owner has not shared this version with you");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let top = snapshot.top().clone();
        Ok(Some((Rc::new(Origin { snapshot, nesting: origin.nesting + 1 }), top)))
    }

    fn skip(&mut self, path: String, reason: &'static str) {
        self.report.skipped.push(Skipped { path, reason });
    }

    fn link(
        &mut self,
        into: Arc<LocalFolder>,
        name: &Name,
        target: &SymlinkTarget,
        metadata: &Metadata,
    ) -> Result<(), GetError> {
        self.report.symlinks += 1;
        let standing = into.link_standing(name, target)?;
        if let Some(replaces) = self.may_write(standing, &into, name)? {
            into.link(name, target, metadata.modified, replaces)?;
        }
        LocalFolder::leave(into)
    }

    /// Whether to write, and then whether that replaces something.
    fn may_write(
        &self,
        standing: Standing,
        into: &LocalFolder,
        name: &Name,
    ) -> Result<Option<bool>, GetError> {
        match standing {
            Standing::Same => Ok(None),
            Standing::Free => Ok(Some(false)),
            Standing::Other if self.options.overwrite => Ok(Some(true)),
            Standing::Other => Err(GetError::Exists { path: into.path_of(name) }),
            Standing::Folder => Err(GetError::IsAFolder { path: into.path_of(name) }),
        }
    }

    fn plan(
        &mut self,
        origin: Rc<Origin>,
        folder: Arc<LocalFolder>,
        name: Name,
        content: FileContent,
        metadata: Metadata,
        shown: String,
    ) -> Result<(), GetError> {
        let size = content.size_bytes();
        self.report.files += 1;
        self.report.bytes += size;
        self.known = (self.known.0 + size, self.known.1 + 1);
        self.progress.total(self.known.0, self.known.1);
        let standing = folder.file_standing(&name, size, metadata.modified)?;
        let Some(replaces) = self.may_write(standing, &folder, &name)? else {
            self.report.files_unchanged += 1;
            self.progress.advance(size);
            return LocalFolder::leave(folder);
        };
        self.report.written_bytes += size;
        let plan = Plan { folder, name, size, metadata, replaces, shown };
        self.steps.push_back(Step::Begin(Box::new(plan)));
        self.list_extents(origin, content, 0)
    }

    /// Makes steps of the next extents of a file, and asks for their chunks.
    fn list_extents(&mut self, origin: Rc<Origin>, content: FileContent, at: u64) -> Result<(), GetError> {
        let size = content.size_bytes();
        let source = origin.snapshot.tree.source();
        let extents = content.extents(source, at..size, PAGE_EXTENTS).map_err(RecordError::from)?;
        let end = extents.last().map_or(size, |placed| placed.start + placed.extent.size_bytes());
        for placed in extents {
            if let Some(id) = placed.extent.as_piece().and_then(chunk_of) {
                let count = self.ahead.entry(id).or_default();
                *count += 1;
                if *count == 1 {
                    source.prefetch([id]);
                }
            }
            self.steps.push_back(Step::Extent(origin.clone(), placed));
        }
        if end < size {
            self.listing = Some((origin, content, end));
        } else {
            self.steps.push_back(Step::End);
        }
        Ok(())
    }
}
