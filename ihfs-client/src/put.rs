//! `put`: files and folders of this machine into the vault.
//!
//! Reads each file once, cuts it, and looks first whether a piece stands there already: under the key that it
//! has, or would have, in the version before. What is new is sealed and uploaded while the next file is read.
//! Then one commit names all of it. A re-run uploads nothing; an interrupted run goes on where it stopped, since
//! equal content seals equal.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use ihfs_core::crypto::derive::{PieceKey, Role};
use ihfs_core::cut::{ReadAt, cut};
use ihfs_core::sealed::{PACKED_PIECE_MAX, PackWriter, Ref, Sealer, Source};
use ihfs_core::tree::edit::{EditError, TreeEdit};
use ihfs_core::tree::entry::{
    Content, Item, Metadata, MetadataError, Mode, Moment, SymlinkTarget, XATTR_BYTES_MAX, Xattrs,
};
use ihfs_core::tree::file::{ContentError, Extent, FileContent, FileContentBuilder};
use ihfs_core::tree::folder::Folder;
use ihfs_core::tree::name::{Name, NameError};
use ihfs_core::tree::{Found, TreeError};
use rustix::io::Errno;

use crate::client::Client;
use crate::fetch::{FetchError, Fetcher};
use crate::location::Location;
use crate::progress::Progress;
use crate::record::{OpenTree, RecordError, Sealers};
use crate::resolve::{ResolveError, Spot};
use crate::upload::{UploadError, Uploader};
use crate::writing::{CommitError, Writing, new_item};

/// How often everything is sealed again because access was taken from somebody meanwhile, or a commit is made
/// again on another device's.
const ATTEMPTS: usize = 5;
/// Files with more pieces than this are listed as they are read: their small pieces become chunks of their own,
/// so that memory stays bounded.
const DEFERRED_PIECES_MAX: usize = 256;
/// Most bytes of the names of a file's extended attributes: what Linux allows.
const XATTR_NAMES_BYTES_MAX: usize = 64 << 10;
/// Most bytes taken from a stream that has no end in sight: the largest file.
const STREAM_BYTES_MAX: u64 = 1 << 40;

/// What to put.
#[derive(Clone, Debug)]
pub enum PutSource {
    /// A file or folder of this machine.
    Path(PathBuf),
    /// Bytes from standard input.
    Stdin,
}

/// Why something was not put.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// A local file could not be read.
    #[error("{path:?}: {source}")]
    Local {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A local file changed while it was read, twice.
    #[error("{path:?} changed while it was read")]
    Changing {
        /// The file.
        path: PathBuf,
    },
    /// A name cannot stand in IHFS.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Metadata cannot stand in IHFS.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The content is too long.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The target could not be found.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The record could not be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The chunks did not become durable.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The change was not committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// What a put came to.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct PutReport {
    /// Files that stand there now by this put.
    pub files: u64,
    /// Files of those that were there already, byte for byte.
    pub files_unchanged: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes that crossed the network, sealed.
    pub sent_bytes: u64,
    /// Things that were left out: sockets, devices and the like.
    pub skipped: Vec<String>,
    /// The version that holds it; none when nothing changed.
    pub version: Option<u64>,
}

/// One thing to place in the tree.
struct Placing {
    path: Vec<Name>,
    content: Content,
    metadata: Metadata,
}

/// A file that was read: its pieces may stand in a pack that has no address yet.
enum ReadFile {
    Pieces(Vec<Ref>),
    Listed(FileContent),
}

/// Reads, cuts, seals and uploads.
struct Reading<'a> {
    tree: &'a OpenTree,
    sealers: Sealers<'a>,
    uploader: &'a mut Uploader,
    content: PackWriter<'a>,
    sealer: &'a Sealer,
    lists: PackWriter<'a>,
    progress: &'a dyn Progress,
    placings: Vec<Placing>,
    /// Pieces of files by the number of their placing, until their packs are closed.
    pieces: Vec<(usize, Vec<Ref>)>,
    report: PutReport,
}

impl Client {
    /// Puts `source` at `target`. A folder becomes `target`, or goes into it when it exists and `into` says so.
    ///
    /// # Errors
    /// [`PutError`].
    pub fn put(
        &self,
        source: &PutSource,
        target: &Location,
        progress: &dyn Progress,
    ) -> Result<PutReport, PutError> {
        for attempt in 1.. {
            match self.put_once(source, target, progress) {
                Err(PutError::Commit(CommitError::EpochMoved { .. } | CommitError::Conflict { .. }))
                    if attempt < ATTEMPTS && !matches!(source, PutSource::Stdin) => {}
                done => return done,
            }
        }
        unreachable!("the last attempt returns")
    }

    fn put_once(
        &self,
        source: &PutSource,
        target: &Location,
        progress: &dyn Progress,
    ) -> Result<PutReport, PutError> {
        let spot = self.resolve(target)?;
        let Spot { record, tree, path, .. } = spot;
        progress.phase("reading");
        let mut writing = self.write_record(record.clone())?;
        let (placings, mut report) = self.read_all(&mut writing, record, &tree, source, &path, progress)?;
        let mut edit = TreeEdit::new(tree.root().clone(), tree.source().clone());
        let changed = place_all(&mut edit, placings).map_err(CommitError::from)?;
        if !changed {
            return Ok(report);
        }
        progress.phase("committing");
        let committed = self.commit(writing, &edit, &[])?;
        report.version = Some(committed.version);
        report.sent_bytes = committed.sent_bytes;
        Ok(report)
    }

    fn read_all(
        &self,
        writing: &mut Writing,
        record: crate::record::Record,
        tree: &OpenTree,
        source: &PutSource,
        path: &[Name],
        progress: &dyn Progress,
    ) -> Result<(Vec<Placing>, PutReport), PutError> {
        let Writing { sealer, uploader, .. } = writing;
        let mut reading = Reading {
            tree,
            sealers: Sealers::new(self, record),
            uploader,
            content: PackWriter::new(sealer),
            sealer,
            lists: PackWriter::new(sealer),
            progress,
            placings: Vec::new(),
            pieces: Vec::new(),
            report: PutReport::default(),
        };
        match source {
            PutSource::Path(local) => {
                let (bytes, files) = measure(local)?;
                progress.total(bytes, files);
                reading.read_path(local, path)?;
            }
            PutSource::Stdin => reading.read_stream(io::stdin().lock(), path)?,
        }
        reading.finish()
    }
}

impl Reading<'_> {
    fn read_path(&mut self, local: &Path, path: &[Name]) -> Result<(), PutError> {
        let meta = std::fs::symlink_metadata(local).map_err(local_error(local))?;
        let kind = meta.file_type();
        if kind.is_dir() {
            self.place(path, Content::Folder(Folder::EMPTY), metadata(local, &meta)?);
            return self.read_folder(local, path);
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(local).map_err(local_error(local))?;
            let target = SymlinkTarget::new(target.into_os_string().into_vec())?;
            self.place(path, Content::Symlink(target), metadata(local, &meta)?);
            return Ok(());
        }
        if !kind.is_file() {
            self.report.skipped.push(local.to_string_lossy().into_owned());
            return Ok(());
        }
        self.read_file(local, path)
    }

    fn read_folder(&mut self, local: &Path, path: &[Name]) -> Result<(), PutError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(local).map_err(local_error(local))? {
            names.push(entry.map_err(local_error(local))?.file_name());
        }
        // In the order of bytes, as the tree has them: packs come out the same in every run.
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            let mut below = path.to_vec();
            below.push(Name::new(name.as_bytes())?);
            self.read_path(&local.join(&name), &below)?;
        }
        Ok(())
    }

    /// Reads a file; once more when it changed meanwhile.
    fn read_file(&mut self, local: &Path, path: &[Name]) -> Result<(), PutError> {
        for _ in 0..2 {
            let file = File::open(local).map_err(local_error(local))?;
            let before = file.metadata().map_err(local_error(local))?;
            let source = LocalFile { file, size: before.len() };
            let content = self.seal_file(&source, path).map_err(|error| match error {
                SealError::Local(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    PutError::Changing { path: local.to_owned() }
                }
                SealError::Local(source) => PutError::Local { path: local.to_owned(), source },
                SealError::Put(error) => *error,
            });
            let content = match content {
                Err(PutError::Changing { .. }) => continue,
                content => content?,
            };
            let after = source.file.metadata().map_err(local_error(local))?;
            if (after.len(), after.mtime(), after.mtime_nsec())
                == (before.len(), before.mtime(), before.mtime_nsec())
            {
                self.report.bytes += before.len();
                self.report.files += 1;
                self.place_file(path, content, metadata(local, &before)?);
                return Ok(());
            }
        }
        Err(PutError::Changing { path: local.to_owned() })
    }

    fn read_stream(&mut self, stream: impl Read, path: &[Name]) -> Result<(), PutError> {
        // A cut is a function of the final bytes, so they are all here before the first is sealed.
        let held = spool(stream).map_err(local_error(Path::new("standard input")))?;
        self.progress.total(held.size, 1);
        let content = self.seal_file(&held, path).map_err(|error| match error {
            SealError::Local(source) => PutError::Local { path: "standard input".into(), source },
            SealError::Put(error) => *error,
        })?;
        self.report.bytes += held.size;
        self.report.files += 1;
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = Moment::new(since.as_secs() as i64, since.subsec_nanos())?;
        let metadata =
            Metadata { mode: Mode::new(0o644)?, modified: now, changed: now, ..Metadata::default() };
        self.place_file(path, content, metadata);
        Ok(())
    }

    /// Cuts a file and seals what is not there yet.
    fn seal_file(&mut self, file: &LocalFile, path: &[Name]) -> Result<ReadFile, SealError> {
        let path_text = String::from_utf8_lossy(&ihfs_core::tree::name::path_bytes(path)).into_owned();
        self.progress.file(&path_text);
        let old = self.old_pieces(path).map_err(SealError::put)?;
        let plan = cut(file).map_err(SealError::Local)?;
        let many = plan.pieces().take(DEFERRED_PIECES_MAX + 1).count() > DEFERRED_PIECES_MAX;
        let mut builder = FileContentBuilder::new();
        let mut refs = Vec::new();
        let (mut sealed_anything, mut buffer) = (false, Vec::new());
        for piece in plan.pieces() {
            buffer.resize(piece.length as usize, 0);
            file.file.read_exact_at(&mut buffer, piece.start).map_err(SealError::Local)?;
            let found = self.find_old(&old, &buffer);
            sealed_anything |= found.is_none();
            let piece = match found {
                Some(piece) => piece,
                None => self.seal_piece(&buffer, many).map_err(SealError::put)?,
            };
            self.progress.advance(buffer.len() as u64);
            if many {
                self.list(&mut builder, piece).map_err(SealError::put)?;
            } else {
                refs.push(piece);
            }
        }
        if !sealed_anything && old.size == Some(plan.size()) {
            self.report.files_unchanged += 1;
        }
        if many {
            return Ok(ReadFile::Listed(builder.finish(&mut self.lists)));
        }
        Ok(ReadFile::Pieces(refs))
    }

    /// Adds a piece with an address to a file's list, whose full pages go at once.
    fn list(&mut self, builder: &mut FileContentBuilder, piece: Ref) -> Result<(), PutError> {
        builder.push(Extent::piece(piece)?, &mut self.lists)?;
        for pack in self.lists.take_closed() {
            self.uploader.push(pack)?;
        }
        Ok(())
    }

    fn seal_piece(&mut self, plaintext: &[u8], alone: bool) -> Result<Ref, PutError> {
        if plaintext.len() <= PACKED_PIECE_MAX && !alone {
            let piece = self.content.add(Role::Content, plaintext);
            self.send_packs()?;
            return Ok(piece);
        }
        let (piece, chunk) = self.sealer.seal_chunk(Role::Content, plaintext);
        self.uploader.push(chunk)?;
        Ok(piece)
    }

    /// The pieces that stand at `path` in the version before.
    fn old_pieces(&self, path: &[Name]) -> Result<OldPieces, PutError> {
        let mut old = OldPieces::default();
        let Found::Item(Item { content: Content::File(content), .. }) =
            self.tree.lookup(path).map_err(RecordError::from)?
        else {
            return Ok(old);
        };
        old.size = Some(content.size_bytes());
        let extents = content
            .extents(self.tree.source(), 0..content.size_bytes(), usize::MAX)
            .map_err(RecordError::from)?;
        for placed in extents {
            if let Some(piece) = placed.extent.as_piece() {
                old.sources.insert(piece.source, ());
                old.refs.insert((piece.source, piece.size, key_bytes(&piece.key)), piece.clone());
            }
        }
        Ok(old)
    }

    /// A piece of the version before with these bytes: its key says so.
    fn find_old(&mut self, old: &OldPieces, plaintext: &[u8]) -> Option<Ref> {
        let size = u32::try_from(plaintext.len()).ok()?;
        old.sources.keys().find_map(|source| {
            let key = self.sealers.get(*source)?.piece_key(Role::Content, plaintext);
            old.refs.get(&(*source, size, key_bytes(&key))).cloned()
        })
    }

    fn place(&mut self, path: &[Name], content: Content, metadata: Metadata) {
        self.placings.push(Placing { path: path.to_vec(), content, metadata });
    }

    fn place_file(&mut self, path: &[Name], file: ReadFile, metadata: Metadata) {
        let content = match file {
            ReadFile::Listed(content) => content,
            ReadFile::Pieces(pieces) => {
                self.pieces.push((self.placings.len(), pieces));
                FileContent::EMPTY
            }
        };
        self.place(path, Content::File(content), metadata);
    }

    fn send_packs(&mut self) -> Result<(), PutError> {
        for pack in self.content.take_closed() {
            self.uploader.push(pack)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Vec<Placing>, PutReport), PutError> {
        self.content.close();
        self.send_packs()?;
        for (place, pieces) in std::mem::take(&mut self.pieces) {
            let mut builder = FileContentBuilder::new();
            for piece in pieces {
                let piece = self.content.resolve(piece);
                self.list(&mut builder, piece)?;
            }
            self.placings[place].content = Content::File(builder.finish(&mut self.lists));
        }
        self.lists.close();
        for pack in self.lists.take_closed() {
            self.uploader.push(pack)?;
        }
        for placing in &mut self.placings {
            if let Content::File(content) = &mut placing.content {
                content.for_each_ref(&mut |piece| *piece = self.lists.resolve(piece.clone()));
            }
        }
        Ok((self.placings, self.report))
    }
}

/// Pieces of a file as it was, by what their key would be.
#[derive(Default)]
struct OldPieces {
    /// None when no file was there.
    size: Option<u64>,
    sources: BTreeMap<Source, ()>,
    refs: BTreeMap<(Source, u32, [u8; 32]), Ref>,
}

fn key_bytes(key: &PieceKey) -> [u8; 32] {
    *key.fingerprint().as_bytes()
}

/// Places everything; says whether anything changed.
fn place_all(edit: &mut TreeEdit<Fetcher>, placings: Vec<Placing>) -> Result<bool, EditError<FetchError>> {
    let mut changed = false;
    for placing in placings {
        changed |= place_one(edit, placing)?;
    }
    Ok(changed)
}

fn place_one(edit: &mut TreeEdit<Fetcher>, placing: Placing) -> Result<bool, EditError<FetchError>> {
    let Placing { path, content, metadata } = placing;
    make_parents(edit, &path)?;
    match edit.lookup(&path)? {
        Found::Item(item) => replace(edit, &path, &item, content, metadata),
        Found::Missing { .. } => edit.create(&path, new_item(content, metadata)).map(|()| true),
        Found::NotAFolder { depth, .. } => Err(EditError::NotAFolder { depth }),
        Found::Crossing { item, rest } => match item.content {
            Content::Nested(nested) => {
                Err(EditError::Crossing { record: nested.record, depth: path.len() - rest.len() })
            }
            _ => Err(TreeError::Unwritten.into()),
        },
    }
}

/// Folders that a path needs come to be with it.
fn make_parents(edit: &mut TreeEdit<Fetcher>, path: &[Name]) -> Result<(), EditError<FetchError>> {
    for depth in 1..path.len() {
        if let Found::Missing { .. } = edit.lookup(&path[..depth])? {
            let folder = Content::Folder(Folder::EMPTY);
            let metadata = Metadata { mode: Mode::from_stat(0o755), ..Metadata::default() };
            edit.create(&path[..depth], new_item(folder, metadata))?;
        }
    }
    Ok(())
}

fn replace(
    edit: &mut TreeEdit<Fetcher>,
    path: &[Name],
    old: &Item,
    content: Content,
    mut metadata: Metadata,
) -> Result<bool, EditError<FetchError>> {
    let same_bytes = match (&old.content, content) {
        (Content::Folder(_), Content::Folder(_)) => true,
        (Content::File(old), Content::File(new)) => {
            let same = old.is_same_bytes(&new, edit.source())?;
            if !same {
                edit.set_content(path, new)?;
            }
            same
        }
        (Content::Symlink(old), Content::Symlink(new)) if *old == new => true,
        (_, content) => {
            edit.remove_tree(path)?;
            edit.create(path, new_item(content, metadata))?;
            return Ok(true);
        }
    };
    // When its bytes are the same, the time of the last change of status stays too: a re-run changes nothing.
    metadata.born = metadata.born.or(old.metadata.born);
    metadata.changed = old.metadata.changed;
    if path.is_empty() {
        return Ok(!same_bytes);
    }
    if metadata != old.metadata {
        edit.set_metadata(path, metadata)?;
        return Ok(true);
    }
    Ok(!same_bytes)
}

fn metadata(local: &Path, meta: &std::fs::Metadata) -> Result<Metadata, PutError> {
    let nanos = |nanos: i64| u32::try_from(nanos).unwrap_or(0);
    let born = meta.created().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let born = born.and_then(|since| Moment::new(since.as_secs() as i64, since.subsec_nanos()).ok());
    Ok(Metadata {
        mode: Mode::from_stat(meta.mode()),
        owner: None,
        modified: Moment::new(meta.mtime(), nanos(meta.mtime_nsec()))?,
        changed: Moment::new(meta.ctime(), nanos(meta.ctime_nsec()))?,
        born,
        xattrs: user_xattrs(local)?,
    })
}

/// Extended attributes `user.*` of a file or folder; symbolic links have none, some file systems neither.
fn user_xattrs(local: &Path) -> Result<Xattrs, PutError> {
    let failed = |error: Errno| local_error(local)(error.into());
    let mut names = vec![0; XATTR_NAMES_BYTES_MAX];
    let length = match rustix::fs::llistxattr(local, names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::NOTSUP | Errno::PERM) => return Ok(Xattrs::default()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user.")) {
        let mut value = vec![0; XATTR_BYTES_MAX];
        let length = rustix::fs::lgetxattr(local, name, value.as_mut_slice()).map_err(failed)?;
        value.truncate(length);
        found.insert(name.to_vec(), value);
    }
    Ok(Xattrs::new(found)?)
}

/// Bytes and files below a path.
fn measure(local: &Path) -> Result<(u64, u64), PutError> {
    let meta = std::fs::symlink_metadata(local).map_err(local_error(local))?;
    if !meta.is_dir() {
        return Ok((if meta.is_file() { meta.len() } else { 0 }, 1));
    }
    let mut sum = (0, 0);
    for entry in std::fs::read_dir(local).map_err(local_error(local))? {
        let (bytes, files) = measure(&entry.map_err(local_error(local))?.path())?;
        sum = (sum.0 + bytes, sum.1 + files);
    }
    Ok(sum)
}

fn local_error(path: &Path) -> impl Fn(io::Error) -> PutError + use<> {
    let path = path.to_owned();
    move |source| PutError::Local { path: path.clone(), source }
}

enum SealError {
    Local(io::Error),
    Put(Box<PutError>),
}

impl SealError {
    fn put(error: PutError) -> Self {
        Self::Put(Box::new(error))
    }
}

/// A local file of a size that is not to change.
struct LocalFile {
    file: File,
    size: u64,
}

impl ReadAt for LocalFile {
    type Error = io::Error;

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// Holds a stream in an unnamed temporary file.
fn spool(stream: impl Read) -> io::Result<LocalFile> {
    let mut file = tempfile::tempfile()?;
    let size = io::copy(&mut stream.take(STREAM_BYTES_MAX), &mut file)?;
    Ok(LocalFile { file, size })
}
