//! Reading sources into the records that hold their targets: each file once, cut, and sealed where it is new.

use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ihfs_core::crypto::derive::Role;
use ihfs_core::cut::cut;
use ihfs_core::ids::RecordId;
use ihfs_core::sealed::{PACKED_PIECE_MAX, PackWriter, Ref, Sealer};
use ihfs_core::tree::edit::{EditError, TreeEdit};
use ihfs_core::tree::entry::{Content, Item, Metadata, NestedRecord, SymlinkTarget};
use ihfs_core::tree::file::{ContentError, Extent, FileContent, FileContentBuilder};
use ihfs_core::tree::folder::{Folder, FolderCursor};
use ihfs_core::tree::name::{DEPTH_MAX, Name};
use ihfs_core::tree::{Found, TreeError};

use super::local::{Held, Input, LocalFile, local_error, metadata};
use super::placing::{Placed, Placing, Read, Step, must_fit};
use super::{PutError, Putting};
use crate::fetch::Fetcher;
use crate::location::Location;
use crate::old::OldPieces;
use crate::record::{OpenTree, Record, RecordError, Sealers};
use crate::upload::Uploader;
use crate::writing::{CommitError, Writing};

/// Files with more pieces than this are listed as they are read: their small pieces become chunks of their own,
/// so that memory stays bounded.
const DEFERRED_PIECES_MAX: usize = 256;

/// A record that a put writes to.
pub(super) struct Part<'c> {
    /// Where its top stands.
    pub(super) location: Location,
    /// The record that it is nested in, where the put's path leads through one.
    pub(super) within: Option<RecordId>,
    pub(super) tree: OpenTree,
    pub(super) writing: Writing,
    pub(super) sealers: Sealers<'c>,
    pub(super) edit: TreeEdit<Fetcher>,
    pub(super) changed: bool,
}

/// How the folder is written that something goes into.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Above {
    /// In the edit of the record.
    Held,
    /// By itself, page by page.
    Apart,
}

/// The content of a file while its pieces come.
enum Pieces {
    /// Listed when all are there.
    Few(Vec<Ref>),
    /// Listed as they come: their chunks have addresses.
    Many(FileContentBuilder),
}

/// Reads into one record, and through it into those nested in it.
pub(super) struct Reading<'a, 'c> {
    putting: &'a mut Putting<'c>,
    location: &'a Location,
    record: &'a Record,
    tree: &'a OpenTree,
    sealers: &'a mut Sealers<'c>,
    sealer: &'a Sealer,
    uploader: &'a mut Uploader,
    content: PackWriter<'a>,
    closed_packs: u32,
    placing: Placing<'a>,
}

enum SealError {
    Local(io::Error),
    Put(Box<PutError>),
}

impl<E: Into<PutError>> From<E> for SealError {
    fn from(error: E) -> Self {
        Self::Put(Box::new(error.into()))
    }
}

impl SealError {
    fn of(self, local: &Path) -> PutError {
        match self {
            Self::Local(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                PutError::Changing { path: local.to_owned() }
            }
            Self::Local(source) => PutError::Local { path: local.to_owned(), source },
            Self::Put(error) => *error,
        }
    }
}

impl<'a, 'c> Reading<'a, 'c> {
    pub(super) fn new(putting: &'a mut Putting<'c>, part: &'a mut Part<'c>) -> Self {
        let Part { location, within, tree, writing, sealers, edit, .. } = part;
        let Writing { record, sealer, uploader, .. } = writing;
        let has_metadata = within.is_some() || matches!(tree.root().top.content, Content::File(_));
        let placing = Placing::new(location, edit, has_metadata, sealer);
        let content = PackWriter::new(sealer);
        Self { putting, location, record, tree, sealers, sealer, uploader, content, closed_packs: 0, placing }
    }

    /// Reads what goes to `path` below the record's top.
    pub(super) fn read(&mut self, input: &Input<'_>, path: &[Name]) -> Result<(), PutError> {
        if path.len() > DEPTH_MAX {
            return Err(CommitError::from(EditError::TooDeep).into());
        }
        match self.tree.lookup(path).map_err(RecordError::from)? {
            Found::Item(item) => self.read_over(input, path, Some(item), Above::Held),
            Found::Missing { .. } => self.read_over(input, path, None, Above::Held),
            Found::NotAFolder { depth, .. } => {
                Err(PutError::NotAFolder { location: self.at(&path[..depth]) })
            }
            Found::Crossing { item: Item { content: Content::Nested(nested), .. }, rest } => {
                self.read_nested(nested, input, path, &rest)
            }
            Found::Crossing { .. } => Err(RecordError::from(TreeError::Unwritten).into()),
        }
    }

    /// Reads what goes to `path`, where `standing` stands.
    fn read_over(
        &mut self,
        input: &Input<'_>,
        path: &[Name],
        standing: Option<Item>,
        above: Above,
    ) -> Result<(), PutError> {
        if path.len() > DEPTH_MAX {
            return Err(CommitError::from(EditError::TooDeep).into());
        }
        if let Some(Item { content: Content::Nested(nested), .. }) = standing {
            return self.read_nested(nested, input, path, &[]);
        }
        match input {
            Input::Path(local) => self.read_path(local, path, standing, above),
            Input::Held(held) => self.read_held(held, path, standing),
        }
    }

    /// Goes on in a nested record. What it gets is committed together with the rest.
    fn read_nested(
        &mut self,
        nested: NestedRecord,
        input: &Input<'_>,
        path: &[Name],
        rest: &[Name],
    ) -> Result<(), PutError> {
        let top = self.at(&path[..path.len() - rest.len()]);
        let part = self.putting.nested(self.record, nested.record, top.clone())?;
        let filled = self.putting.fill(part, |reading| reading.read(input, rest));
        filled.map_err(|error| match error {
            PutError::Commit(CommitError::ReadOnly { record }) if record == nested.record => {
                PutError::Nested { location: top, source: Box::new(error) }
            }
            error => error,
        })
    }

    fn read_path(
        &mut self,
        local: &Path,
        path: &[Name],
        standing: Option<Item>,
        above: Above,
    ) -> Result<(), PutError> {
        let meta = std::fs::symlink_metadata(local).map_err(local_error(local))?;
        let kind = meta.file_type();
        if kind.is_dir() {
            self.must_fit(path, standing.as_ref(), &Content::Folder(Folder::EMPTY))?;
            return self.read_folder(local, path, standing, metadata(local, &meta)?, above);
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(local).map_err(local_error(local))?;
            let link = Content::Symlink(SymlinkTarget::new(target.into_os_string().into_vec())?);
            self.must_fit(path, standing.as_ref(), &link)?;
            return self.place(path, standing, Read::Whole(link), metadata(local, &meta)?);
        }
        if !kind.is_file() {
            self.putting.report.skipped.push(local.to_string_lossy().into_owned());
            return Ok(());
        }
        self.read_file(local, path, standing)
    }

    /// Reads a folder and what is in it, in step with what stands there.
    fn read_folder(
        &mut self,
        local: &Path,
        path: &[Name],
        standing: Option<Item>,
        metadata: Metadata,
        above: Above,
    ) -> Result<(), PutError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(local).map_err(local_error(local))? {
            names.push(entry.map_err(local_error(local))?.file_name());
        }
        // In the order of bytes, as the tree has them: packs come out the same in every run.
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        let content = match &standing {
            Some(Item { content: Content::Folder(folder), .. }) => folder.clone(),
            _ => Folder::EMPTY,
        };
        let mut entries = FolderCursor::new(&content);
        let inside = if self.placing.is_apart(names.len()) { Above::Apart } else { above };
        match inside {
            Above::Apart => {
                self.placing.push(Step::Open(Placed { path: path.to_vec(), standing, content, metadata }));
            }
            Above::Held => self.place(path, standing, Read::Whole(Content::Folder(content)), metadata)?,
        }
        for name in names {
            let in_tree = Name::new(name.as_bytes())?;
            let found = entries.find(self.tree.source(), &in_tree).map_err(RecordError::from)?;
            let (local, below) = (local.join(&name), [path, &[in_tree]].concat());
            self.read_over(&Input::Path(&local), &below, found.map(|entry| entry.item), inside)?;
        }
        if inside == Above::Apart {
            self.placing.push(Step::Close);
        }
        Ok(())
    }

    /// Reads a file; once more when it changed meanwhile.
    fn read_file(&mut self, local: &Path, path: &[Name], standing: Option<Item>) -> Result<(), PutError> {
        self.must_fit(path, standing.as_ref(), &Content::File(FileContent::EMPTY))?;
        for _ in 0..2 {
            let file = File::open(local).map_err(local_error(local))?;
            let before = file.metadata().map_err(local_error(local))?;
            let source = LocalFile { file, size: before.len() };
            let content =
                match self.seal_file(&source, path, standing.as_ref()).map_err(|error| error.of(local)) {
                    Err(PutError::Changing { .. }) => continue,
                    content => content?,
                };
            let after = source.file.metadata().map_err(local_error(local))?;
            if (after.len(), after.mtime(), after.mtime_nsec())
                == (before.len(), before.mtime(), before.mtime_nsec())
            {
                return self.place_file(path, standing, content, before.len(), metadata(local, &before)?);
            }
        }
        Err(PutError::Changing { path: local.to_owned() })
    }

    fn read_held(&mut self, held: &Held, path: &[Name], standing: Option<Item>) -> Result<(), PutError> {
        self.must_fit(path, standing.as_ref(), &Content::File(FileContent::EMPTY))?;
        let content = self
            .seal_file(&held.file, path, standing.as_ref())
            .map_err(|error| error.of(Path::new("standard input")))?;
        self.place_file(path, standing, content, held.file.size, held.metadata.clone())
    }

    /// Cuts a file and seals what is not there yet.
    fn seal_file(
        &mut self,
        file: &LocalFile,
        path: &[Name],
        standing: Option<&Item>,
    ) -> Result<Read, SealError> {
        self.putting.progress.file(&self.at(path).to_string());
        let old = OldPieces::of(self.tree.source(), standing)?;
        let plan = cut(file).map_err(SealError::Local)?;
        let many = plan.pieces().take(DEFERRED_PIECES_MAX + 1).count() > DEFERRED_PIECES_MAX;
        let (mut new, mut same) = (Pieces::new(many), 0);
        let (mut count, mut sealed_anything, mut buffer) = (0, false, Vec::new());
        for piece in plan.pieces() {
            buffer.resize(piece.length as usize, 0);
            file.read_exact_at(&mut buffer, piece.start).map_err(SealError::Local)?;
            let found = old.find(self.sealers, &buffer);
            self.putting.progress.advance(buffer.len() as u64);
            count += 1;
            if found.as_ref().is_some_and(|piece| old.is_piece(same, piece)) && same + 1 == count {
                // What begins like the old file is listed anew only where that does not go on.
                same = count;
                continue;
            }
            if same + 1 == count {
                new.extend(old.first(same), &mut self.placing.pages)?;
            }
            sealed_anything |= found.is_none();
            let piece = found.map_or_else(|| self.seal_piece(&buffer, many), Ok)?;
            new.push(piece, &mut self.placing.pages)?;
            self.send()?;
        }
        if !sealed_anything && old.size == Some(plan.size()) {
            self.putting.report.files_unchanged += 1;
        }
        if let Some(standing) = standing.filter(|_| same == count && old.is_all(same)) {
            return Ok(Read::Whole(standing.content.clone()));
        }
        if same == count {
            new.extend(old.first(same), &mut self.placing.pages)?;
        }
        Ok(new.finish(&mut self.placing.pages))
    }

    fn seal_piece(&mut self, plaintext: &[u8], alone: bool) -> Result<Ref, PutError> {
        if plaintext.len() <= PACKED_PIECE_MAX && !alone {
            return Ok(self.content.add(Role::Content, plaintext));
        }
        let (piece, chunk) = self.sealer.seal_chunk(Role::Content, plaintext);
        self.uploader.push(chunk)?;
        Ok(piece)
    }

    fn place_file(
        &mut self,
        path: &[Name],
        standing: Option<Item>,
        content: Read,
        bytes: u64,
        metadata: Metadata,
    ) -> Result<(), PutError> {
        self.putting.report.bytes += bytes;
        self.putting.report.files += 1;
        self.place(path, standing, content, metadata)
    }

    fn place(
        &mut self,
        path: &[Name],
        standing: Option<Item>,
        content: Read,
        metadata: Metadata,
    ) -> Result<(), PutError> {
        self.placing.push(Step::Item(Placed { path: path.to_vec(), standing, content, metadata }));
        if self.placing.is_crowded() {
            self.content.close();
        }
        self.send()
    }

    /// Uploads the packs that are complete and places what has its address by that.
    fn send(&mut self) -> Result<(), PutError> {
        for pack in self.content.take_closed() {
            self.closed_packs += 1;
            self.uploader.push(pack)?;
        }
        self.placing.settle(&mut self.content, self.closed_packs)?;
        for pack in self.placing.pages.take_closed() {
            self.uploader.push(pack)?;
        }
        Ok(())
    }

    /// Closes all packs and places the rest; says whether the record changed.
    pub(super) fn finish(mut self) -> Result<bool, PutError> {
        self.content.close();
        self.send()?;
        let changed = self.placing.finish()?;
        self.send()?;
        self.uploader.flush()?;
        Ok(changed)
    }

    fn must_fit(&self, path: &[Name], standing: Option<&Item>, new: &Content) -> Result<(), PutError> {
        standing.map_or(Ok(()), |standing| must_fit(&self.at(path), path, standing, new))
    }

    fn at(&self, path: &[Name]) -> Location {
        self.location.with_path([self.location.path(), path].concat())
    }
}

impl Pieces {
    fn new(many: bool) -> Self {
        if many { Self::Many(FileContentBuilder::new()) } else { Self::Few(Vec::new()) }
    }

    fn push(&mut self, piece: Ref, pages: &mut PackWriter<'_>) -> Result<(), ContentError> {
        match self {
            Self::Few(pieces) => pieces.push(piece),
            Self::Many(builder) => builder.push(Extent::piece(piece)?, pages)?,
        }
        Ok(())
    }

    fn extend(&mut self, pieces: &[Ref], pages: &mut PackWriter<'_>) -> Result<(), ContentError> {
        pieces.iter().try_for_each(|piece| self.push(piece.clone(), pages))
    }

    fn finish(self, pages: &mut PackWriter<'_>) -> Read {
        match self {
            Self::Few(pieces) => Read::Pieces(pieces),
            Self::Many(builder) => Read::Whole(Content::File(builder.finish(pages))),
        }
    }
}
