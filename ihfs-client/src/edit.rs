//! Changes to one record, made in order on one version and committed as one: what a mount flushes and a gateway
//! stores.
//!
//! Names, folders and metadata change at once. Bytes written at ranges are gathered (`pending`) and sealed when
//! they are many or when the edit is committed; only the pieces that they touch are sealed anew. A file that is
//! given whole is cut like one that is put.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use ihfs_core::crypto::derive::Role;
use ihfs_core::cut::{ReadAt, cut};
use ihfs_core::merge::Conflict;
use ihfs_core::sealed::{CHUNK_PLAINTEXT_MAX, PACKED_PIECE_MAX, PackWriter, Ref, SealedChunk, Sealer};
use ihfs_core::tree::edit::{EditError, Overwrite, TreeEdit};
use ihfs_core::tree::entry::{Content, Item, Metadata};
use ihfs_core::tree::file::{ContentError, Extent, FileContent, SpliceError};
use ihfs_core::tree::name::Name;
use ihfs_core::tree::reader::Listing;
use ihfs_core::tree::{Found, TreeError};

use crate::client::Client;
use crate::fetch::{FetchError, Fetcher};
use crate::location::Location;
use crate::merging::MergingError;
use crate::old::OldPieces;
use crate::record::{RecordError, Sealers};
use crate::snapshot::{Snapshot, read};
use crate::upload::{UploadError, Uploader};
use crate::writing::{CommitError, Committed, Writing};

mod pending;

use pending::Pending;

/// Bytes gathered before they are sealed.
const PENDING_BYTES_MAX: usize = 8 << 20;

/// Why a change was not made. What was changed before stands in the edit.
#[derive(Debug, thiserror::Error)]
pub enum EditingError {
    /// The tree does not take the change.
    #[error(transparent)]
    Tree(#[from] EditError<FetchError>),
    /// What stood there could not be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The new content is too long, or does not join the old.
    #[error(transparent)]
    Splice(#[from] SpliceError<FetchError>),
    /// The chunks did not become durable.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// Nothing is there that has bytes.
    #[error("only files have bytes")]
    NotAFile,
    /// The bytes to be stored could not be read.
    #[error("the bytes to be stored cannot be read: {0}")]
    Source(#[source] io::Error),
    /// The change was not committed. After [`CommitError::EpochMoved`] the content must be sealed again.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl From<TreeError<FetchError>> for EditingError {
    fn from(error: TreeError<FetchError>) -> Self {
        Self::Record(error.into())
    }
}

impl From<ContentError> for EditingError {
    fn from(error: ContentError) -> Self {
        Self::Splice(error.into())
    }
}

/// Changes to one record. Paths begin at the record's top.
pub struct Edit {
    client: Client,
    pub(crate) writing: Writing,
    pub(crate) tree: TreeEdit<Fetcher>,
    pending: BTreeMap<Vec<Name>, Pending>,
    pending_bytes: usize,
}

impl Client {
    /// Begins to change the record of `snapshot`, from that version.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn edit(&self, snapshot: &Snapshot) -> Result<Edit, CommitError> {
        let tree = TreeEdit::new(snapshot.tree.root().clone(), snapshot.tree.source().clone());
        let writing = self.write_record(snapshot.record.clone())?;
        Ok(Edit { client: self.clone(), writing, tree, pending: BTreeMap::new(), pending_bytes: 0 })
    }

    /// Begins to change the record that holds `at`, from its newest version; gives the names below its top too.
    ///
    /// # Errors
    /// [`MergingError::Resolve`], [`MergingError::Commit`].
    pub fn edit_at(&self, at: &Location) -> Result<(Edit, Vec<Name>), MergingError> {
        let (snapshot, path) = self.snapshot(at)?;
        Ok((self.edit(&snapshot)?, path))
    }
}

impl Edit {
    /// What stands at `path` after the changes.
    ///
    /// # Errors
    /// [`EditingError`].
    pub fn lookup(&mut self, path: &[Name]) -> Result<Found, EditingError> {
        self.settle_at(path)?;
        Ok(self.tree.lookup(path)?)
    }

    /// Up to `limit` entries of the folder at `path` after the changes, behind the name `after` or from the first.
    ///
    /// # Errors
    /// [`EditingError`].
    pub fn list(
        &mut self,
        path: &[Name],
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Listing, EditingError> {
        self.settle()?;
        Ok(self.tree.list(path, after, limit)?)
    }

    /// Puts a new item on a free name.
    ///
    /// # Errors
    /// [`EditingError::Tree`].
    pub fn create(&mut self, path: &[Name], item: Item) -> Result<(), EditingError> {
        Ok(self.tree.create(path, item)?)
    }

    /// Replaces the metadata of an item.
    ///
    /// # Errors
    /// [`EditingError::Tree`].
    pub fn set_metadata(&mut self, path: &[Name], metadata: Metadata) -> Result<(), EditingError> {
        Ok(self.tree.set_metadata(path, metadata)?)
    }

    /// Removes a file, symbolic link, empty folder or nested record.
    ///
    /// # Errors
    /// [`EditingError::Tree`].
    pub fn remove(&mut self, path: &[Name]) -> Result<(), EditingError> {
        self.tree.remove(path)?;
        self.forget(path);
        Ok(())
    }

    /// Moves an item inside the record, as `rename(2)` does.
    ///
    /// # Errors
    /// [`EditingError`].
    pub fn rename(&mut self, from: &[Name], to: &[Name], overwrite: Overwrite) -> Result<(), EditingError> {
        // What was written is found by its path.
        self.settle()?;
        Ok(self.tree.rename(from, to, overwrite)?)
    }

    /// Writes bytes into a file, which grows when they go beyond its end.
    ///
    /// # Errors
    /// [`EditingError`].
    pub fn write_at(&mut self, path: &[Name], start: u64, bytes: &[u8]) -> Result<(), EditingError> {
        self.pending(path)?.write(start, bytes)?;
        self.pending_bytes += bytes.len();
        if self.pending_bytes > PENDING_BYTES_MAX { self.settle() } else { Ok(()) }
    }

    /// Makes bytes of a file zero and gives their room back.
    ///
    /// # Errors
    /// [`EditingError`].
    pub fn punch(&mut self, path: &[Name], range: Range<u64>) -> Result<(), EditingError> {
        self.pending(path)?.punch(range);
        Ok(())
    }

    /// Cuts a file, or makes it longer by zeros.
    ///
    /// # Errors
    /// [`EditingError`].
    pub fn set_len(&mut self, path: &[Name], size: u64) -> Result<(), EditingError> {
        Ok(self.pending(path)?.set_len(size)?)
    }

    /// Replaces all bytes of a file, cut by what they are; those that stood there before are not sent again.
    ///
    /// # Errors
    /// [`EditingError`].
    pub fn replace(
        &mut self,
        path: &[Name],
        bytes: &impl ReadAt<Error = io::Error>,
    ) -> Result<(), EditingError> {
        self.settle_at(path)?;
        let standing = self.file(path)?;
        let old = OldPieces::of_content(self.tree.source(), &standing)?;
        let mut sealers = Sealers::new(&self.client, self.writing.record.clone());
        let mut sealing = Sealing::new(&mut self.writing, self.tree.source());
        let (plan, mut buffer) = (cut(bytes).map_err(EditingError::Source)?, Vec::new());
        let mut parts = Vec::new();
        for piece in plan.pieces() {
            buffer.resize(piece.length as usize, 0);
            read_exact(bytes, piece.start, &mut buffer).map_err(EditingError::Source)?;
            parts.push(match old.find(&mut sealers, &buffer) {
                Some(piece) => Part::Piece(piece),
                None => sealing.seal(&buffer)?,
            });
        }
        let splice = Splice { range: 0..standing.size_bytes(), parts };
        let contents = sealing.join(vec![(path.to_vec(), standing, vec![splice])])?;
        self.set_contents(contents)
    }

    /// Commits everything as one new version.
    ///
    /// # Errors
    /// [`EditingError`]; [`CommitError::Conflict`] when the record has moved on since the edit began.
    pub fn commit(mut self) -> Result<Committed, EditingError> {
        self.settle()?;
        Ok(self.client.commit(self.writing, &self.tree, &[])?)
    }

    /// Commits everything; if the record has moved on since the edit began, merges the two. Conflict copies are
    /// named by `device`.
    ///
    /// # Errors
    /// [`MergingError`].
    pub fn commit_merging(mut self, device: &str) -> Result<(Committed, Vec<Conflict>), MergingError> {
        self.settle()?;
        self.client.commit_merging(self.writing, self.tree, device)
    }

    /// The file at `path` with its bytes, as they stand in the tree.
    fn file(&self, path: &[Name]) -> Result<FileContent, EditingError> {
        match self.tree.lookup(path)? {
            Found::Item(Item { content: Content::File(content), .. }) => Ok(content),
            _ => Err(EditingError::NotAFile),
        }
    }

    fn pending(&mut self, path: &[Name]) -> Result<&mut Pending, EditingError> {
        if !self.pending.contains_key(path) {
            let content = self.file(path)?;
            self.pending.insert(path.to_vec(), Pending::new(content));
        }
        Ok(self.pending.get_mut(path).expect("it was put there"))
    }

    /// Forgets what was written at or below a path.
    fn forget(&mut self, path: &[Name]) {
        self.pending.retain(|at, _| !at.starts_with(path));
    }

    fn settle_at(&mut self, path: &[Name]) -> Result<(), EditingError> {
        if self.pending.contains_key(path) { self.settle() } else { Ok(()) }
    }

    /// Seals what is pending and puts it into the tree.
    fn settle(&mut self) -> Result<(), EditingError> {
        let mut sealing = Sealing::new(&mut self.writing, self.tree.source());
        let mut files = Vec::new();
        for (path, pending) in std::mem::take(&mut self.pending) {
            let splices = sealing.seal_pending(&pending)?;
            files.push((path, pending.content().clone(), splices));
        }
        self.pending_bytes = 0;
        let contents = sealing.join(files)?;
        self.set_contents(contents)
    }

    fn set_contents(&mut self, contents: Vec<(Vec<Name>, FileContent)>) -> Result<(), EditingError> {
        for (path, content) in contents {
            self.tree.set_content(&path, content)?;
        }
        Ok(())
    }
}

/// What takes the place of a range of a file.
struct Splice {
    range: Range<u64>,
    parts: Vec<Part>,
}

/// A part of a file; a piece may stand in a pack that has no address yet.
enum Part {
    Hole(u64),
    Piece(Ref),
}

/// Seals pieces, small ones together in packs, and joins them to files once the packs have addresses.
struct Sealing<'a> {
    sealer: &'a Sealer,
    uploader: &'a mut Uploader,
    chunks: &'a Fetcher,
    packs: PackWriter<'a>,
}

impl<'a> Sealing<'a> {
    fn new(writing: &'a mut Writing, chunks: &'a Fetcher) -> Self {
        let Writing { sealer, uploader, .. } = writing;
        Self { sealer, uploader, chunks, packs: PackWriter::new(sealer) }
    }

    fn seal(&mut self, bytes: &[u8]) -> Result<Part, UploadError> {
        if bytes.len() <= PACKED_PIECE_MAX {
            return Ok(Part::Piece(self.packs.add(Role::Content, bytes)));
        }
        let (piece, chunk) = self.sealer.seal_chunk(Role::Content, bytes);
        send(self.uploader, self.chunks, chunk)?;
        Ok(Part::Piece(piece))
    }

    fn seal_pending(&mut self, pending: &Pending) -> Result<Vec<Splice>, EditingError> {
        let dirty = pending.dirty(|at| piece_over(self.chunks, pending.content(), at))?;
        let mut splices = Vec::new();
        for range in dirty {
            let mut parts = Vec::new();
            for (part, is_hole) in pending.parts(&range, CHUNK_PLAINTEXT_MAX as u64) {
                if is_hole {
                    parts.push(Part::Hole(part.end - part.start));
                } else {
                    parts.push(self.seal(&self.bytes(pending, &part)?)?);
                }
            }
            splices.push(Splice { range: pending.replaced(&range), parts });
        }
        Ok(splices)
    }

    /// The bytes of a range: what is left of the file before, and over it what was written.
    fn bytes(&self, pending: &Pending, range: &Range<u64>) -> Result<Vec<u8>, RecordError> {
        let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
        read::<RecordError>(self.chunks, pending.content(), pending.kept(range), &mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        bytes.resize((range.end - range.start) as usize, 0);
        pending.lay_over(range.start, &mut bytes);
        Ok(bytes)
    }

    /// Closes the packs, and gives every file its new content.
    fn join(
        mut self,
        files: Vec<(Vec<Name>, FileContent, Vec<Splice>)>,
    ) -> Result<Vec<(Vec<Name>, FileContent)>, EditingError> {
        self.packs.close();
        send_all(self.uploader, self.chunks, &mut self.packs)?;
        let mut lists = PackWriter::new(self.sealer);
        let mut contents = Vec::new();
        for (path, mut content, splices) in files {
            // From the last, so that the ranges before it stay what they were.
            for Splice { range, parts } in splices.into_iter().rev() {
                let extents = parts.into_iter().map(|part| match part {
                    Part::Hole(size) => Extent::hole(size),
                    Part::Piece(piece) => Extent::piece(self.packs.resolve(piece)),
                });
                content =
                    content.splice(self.chunks, range, extents.collect::<Result<_, _>>()?, &mut lists)?;
                // The next splice may read the list pages of this one.
                lists.close();
                send_all(self.uploader, self.chunks, &mut lists)?;
                content.for_each_ref(&mut |piece| *piece = lists.resolve(piece.clone()));
            }
            contents.push((path, content));
        }
        Ok(contents)
    }
}

/// The piece that goes over a place and begins before it.
fn piece_over(
    chunks: &Fetcher,
    content: &FileContent,
    at: u64,
) -> Result<Option<Range<u64>>, TreeError<FetchError>> {
    let found = content.extents(chunks, at..at.saturating_add(1), 1)?;
    let piece = found.first().filter(|placed| placed.extent.as_piece().is_some() && placed.start < at);
    Ok(piece.map(|placed| placed.start..placed.start + placed.extent.size_bytes()))
}

fn send(uploader: &mut Uploader, chunks: &Fetcher, chunk: SealedChunk) -> Result<(), UploadError> {
    chunks.keep(chunk.clone());
    uploader.push(chunk)
}

fn send_all(
    uploader: &mut Uploader,
    chunks: &Fetcher,
    packs: &mut PackWriter<'_>,
) -> Result<(), UploadError> {
    packs.take_closed().into_iter().try_for_each(|pack| send(uploader, chunks, pack))
}

fn read_exact(bytes: &impl ReadAt<Error = io::Error>, start: u64, out: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < out.len() {
        match bytes.read_at(start + filled as u64, &mut out[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    Ok(())
}
