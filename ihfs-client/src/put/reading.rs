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
use ihfs_core::tree::file::{Extent, FileContent, FileContentBuilder};
use ihfs_core::tree::folder::Folder;
use ihfs_core::tree::name::{DEPTH_MAX, Name};
use ihfs_core::tree::{Found, TreeError};

use super::local::{Held, Input, LocalFile, local_error, metadata};
use super::placing::{Placing, Read, Step, must_fit};
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

/// What is known of the folder that something goes into.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Above {
    /// Something may stand there.
    Standing,
    /// The folder is new.
    New,
    /// The folder is new and written apart.
    Apart,
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
    pub(super) fn read(&mut self, input: &Input<'_>, path: &[Name], above: Above) -> Result<(), PutError> {
        if path.len() > DEPTH_MAX {
            return Err(CommitError::from(EditError::TooDeep).into());
        }
        let mut standing = None;
        if above == Above::Standing {
            match self.tree.lookup(path).map_err(RecordError::from)? {
                Found::Item(item) => standing = Some(item),
                Found::Missing { .. } => {}
                Found::NotAFolder { depth, .. } => {
                    return Err(PutError::NotAFolder { location: self.at(&path[..depth]) });
                }
                Found::Crossing { item: Item { content: Content::Nested(nested), .. }, rest } => {
                    return self.read_nested(nested, input, path, &rest);
                }
                Found::Crossing { .. } => return Err(RecordError::from(TreeError::Unwritten).into()),
            }
        }
        match input {
            Input::Path(local) => self.read_path(local, path, standing, above),
            Input::Held(held) => self.read_held(held, path, standing.as_ref()),
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
        let part = self.putting.nested(self.record, nested.record, top)?;
        self.putting.fill(part, |reading| reading.read(input, rest, Above::Standing))
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
            let above = if standing.is_some() { Above::Standing } else { above.max_new() };
            return self.read_folder(local, path, metadata(local, &meta)?, above);
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(local).map_err(local_error(local))?;
            let link = Content::Symlink(SymlinkTarget::new(target.into_os_string().into_vec())?);
            self.must_fit(path, standing.as_ref(), &link)?;
            return self.place(path, Read::Whole(link), metadata(local, &meta)?);
        }
        if !kind.is_file() {
            self.putting.report.skipped.push(local.to_string_lossy().into_owned());
            return Ok(());
        }
        self.read_file(local, path, standing.as_ref())
    }

    /// Reads a folder and what is in it; `inside` says what is known of it.
    fn read_folder(
        &mut self,
        local: &Path,
        path: &[Name],
        metadata: Metadata,
        mut inside: Above,
    ) -> Result<(), PutError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(local).map_err(local_error(local))? {
            names.push(entry.map_err(local_error(local))?.file_name());
        }
        // In the order of bytes, as the tree has them: packs come out the same in every run.
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        if inside == Above::New && self.placing.is_apart(names.len()) {
            inside = Above::Apart;
        }
        if inside == Above::Apart {
            self.placing.push(Step::Open { path: path.to_vec(), metadata });
        } else {
            self.place(path, Read::Whole(Content::Folder(Folder::EMPTY)), metadata)?;
        }
        for name in names {
            let below = [path, &[Name::new(name.as_bytes())?]].concat();
            self.read(&Input::Path(&local.join(&name)), &below, inside)?;
        }
        if inside == Above::Apart {
            self.placing.push(Step::Close);
        }
        Ok(())
    }

    /// Reads a file; once more when it changed meanwhile.
    fn read_file(&mut self, local: &Path, path: &[Name], standing: Option<&Item>) -> Result<(), PutError> {
        self.must_fit(path, standing, &Content::File(FileContent::EMPTY))?;
        for _ in 0..2 {
            let file = File::open(local).map_err(local_error(local))?;
            let before = file.metadata().map_err(local_error(local))?;
            let source = LocalFile { file, size: before.len() };
            let content = match self.seal_file(&source, path, standing).map_err(|error| error.of(local)) {
                Err(PutError::Changing { .. }) => continue,
                content => content?,
            };
            let after = source.file.metadata().map_err(local_error(local))?;
            if (after.len(), after.mtime(), after.mtime_nsec())
                == (before.len(), before.mtime(), before.mtime_nsec())
            {
                return self.place_file(path, content, before.len(), metadata(local, &before)?);
            }
        }
        Err(PutError::Changing { path: local.to_owned() })
    }

    fn read_held(&mut self, held: &Held, path: &[Name], standing: Option<&Item>) -> Result<(), PutError> {
        self.must_fit(path, standing, &Content::File(FileContent::EMPTY))?;
        let content = self
            .seal_file(&held.file, path, standing)
            .map_err(|error| error.of(Path::new("standard input")))?;
        self.place_file(path, content, held.file.size, held.metadata.clone())
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
        let mut builder = FileContentBuilder::new();
        let mut refs = Vec::new();
        let (mut sealed_anything, mut buffer) = (false, Vec::new());
        for piece in plan.pieces() {
            buffer.resize(piece.length as usize, 0);
            file.read_exact_at(&mut buffer, piece.start).map_err(SealError::Local)?;
            let found = old.find(self.sealers, &buffer);
            sealed_anything |= found.is_none();
            let piece = match found {
                Some(piece) => piece,
                None => self.seal_piece(&buffer, many)?,
            };
            self.putting.progress.advance(buffer.len() as u64);
            if many {
                builder.push(Extent::piece(piece)?, &mut self.placing.pages)?;
                self.send()?;
            } else {
                refs.push(piece);
            }
        }
        if !sealed_anything && old.size == Some(plan.size()) {
            self.putting.report.files_unchanged += 1;
        }
        if many {
            return Ok(Read::Whole(Content::File(builder.finish(&mut self.placing.pages))));
        }
        Ok(Read::Pieces(refs))
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
        content: Read,
        bytes: u64,
        metadata: Metadata,
    ) -> Result<(), PutError> {
        self.putting.report.bytes += bytes;
        self.putting.report.files += 1;
        self.place(path, content, metadata)
    }

    fn place(&mut self, path: &[Name], content: Read, metadata: Metadata) -> Result<(), PutError> {
        self.placing.push(Step::Item { path: path.to_vec(), content, metadata });
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

impl Above {
    /// What is known of a new folder in it.
    fn max_new(self) -> Self {
        if self == Self::Apart { Self::Apart } else { Self::New }
    }
}
