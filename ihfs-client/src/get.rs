//! Reading: bytes of a file by range, and whole files and folders onto this machine.
//!
//! A walk runs ahead of the writer and asks for what comes next. Each file is written beside its place; a few
//! threads make files durable and put them there, so that the disk's waits overlap. Cancelling it leaves whole files
//! alone; killing it temporary ones too, which the next run replaces.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use ihfs_core::sealed::{Ref, SealedChunk};
use ihfs_core::tree::entry::{Content, Item};
use ihfs_core::tree::file::{PlacedExtent, RawExtent};
use ihfs_core::tree::name::Name;
use ihfs_core::tree::{ChunkSource, TreeError};

use crate::client::Client;
use crate::location::Location;
use crate::progress::Progress;
use crate::record::RecordError;
use crate::resolve::ResolveError;
use crate::snapshot::chunk_of;

mod ahead;
mod local;

use ahead::{Origin, Plan, Step, Walk};
use local::{Complete, LocalFolder, Unfinished};

/// Threads that wait for the disk: so many files a journal commits at once.
const SETTLING_THREADS: usize = 32;
/// Files that wait for them, each an open file.
const SETTLING_MAX: usize = 128;
/// Chunks held beside the fetcher's: the packs that small pieces of many files stand in.
const HELD_CHUNKS: usize = 3;

/// Why something was not read.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The location was not found.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The record could not be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A local file or folder could not be written.
    #[error("{path:?}: {source}")]
    Local {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else stands there, and nothing was said of replacing it.
    #[error("{path:?} exists and is something else")]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// A folder stands where a file is to be.
    #[error("{path:?} is a folder")]
    IsAFolder {
        /// Where.
        path: PathBuf,
    },
    /// A file or symbolic link stands where a folder is to be.
    #[error("{path:?} is not a folder")]
    NotAFolder {
        /// Where.
        path: PathBuf,
    },
    /// Another run is writing the same file.
    #[error("{path:?} is being written by another run")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// Only files have bytes.
    #[error("{location} is not a file")]
    NotAFile {
        /// The location.
        location: Location,
    },
    /// Whoever wanted the bytes does not take them.
    #[error("the output takes no more: {0}")]
    Output(#[source] io::Error),
}

/// How to get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// Whether files that stand there and differ are replaced. A file of the same size and time counts as the
    /// one of an earlier get and is left alone either way. Folders are filled, never replaced.
    pub overwrite: bool,
}

/// What a get came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct GetReport {
    /// Files that stand there now.
    pub files: u64,
    /// Files of those that stood there already, by size and time.
    pub files_unchanged: u64,
    /// Folders.
    pub folders: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of those that were written.
    pub written_bytes: u64,
    /// What was left out.
    pub skipped: Vec<Skipped>,
}

/// Something that was left out.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    /// Its path in IHFS.
    pub path: String,
    /// Why.
    pub reason: &'static str,
}

impl Client {
    /// Gets what stands at `from` as `to`: a file, a symbolic link, or a folder with all below it. The folder
    /// that `to` is in must exist; an existing folder `to` is filled. Records nested in it that are not shared
    /// with this member are left out and reported. Set-id bits and extended attributes stay behind.
    ///
    /// # Errors
    /// [`GetError`]. What is complete by then stays; nothing half-written has a name of the tree.
    pub fn get(
        &self,
        from: &Location,
        to: &Path,
        options: GetOptions,
        progress: &dyn Progress,
    ) -> Result<GetReport, GetError> {
        let (spot, item) = self.find(from)?;
        progress.phase("fetching");
        let mut walk = Walk::new(self, options, progress);
        let origin = Rc::new(Origin { snapshot: spot.snapshot(), nesting: 0 });
        begin(&mut walk, origin, item, from, to)?;
        let has_failed = AtomicBool::new(false);
        let (send, receive) = sync_channel(SETTLING_MAX);
        let receive = Mutex::new(receive);
        std::thread::scope(|scope| {
            let settling: Vec<_> =
                (0..SETTLING_THREADS).map(|_| scope.spawn(|| settle_all(&receive, &has_failed))).collect();
            let written = Writer::new(send, progress).write_all(&mut walk, &has_failed);
            let settled = settling.into_iter().map(|thread| thread.join().expect("settling does not panic"));
            // All are waited for; of several errors the disk's comes first, since it stopped the writer.
            settled.fold(Ok(()), Result::and).and(written)
        })?;
        Ok(walk.report)
    }

    /// Writes bytes `start .. start + length` of a file to `out`; fewer when the file ends before.
    ///
    /// # Errors
    /// [`GetError`].
    pub fn cat(
        &self,
        from: &Location,
        start: u64,
        length: u64,
        out: &mut dyn Write,
    ) -> Result<u64, GetError> {
        let (spot, item) = self.find(from)?;
        let Content::File(content) = &item.content else {
            return Err(GetError::NotAFile { location: from.clone() });
        };
        let mut written = 0;
        let range = start..start.saturating_add(length);
        spot.snapshot().read::<GetError>(content, range, &mut |part| {
            written += part.len() as u64;
            out.write_all(part).map_err(GetError::Output)
        })?;
        out.flush().map_err(GetError::Output)?;
        Ok(written)
    }
}

/// Finds the place of the first item.
fn begin(
    walk: &mut Walk<'_>,
    origin: Rc<Origin>,
    item: Item,
    from: &Location,
    to: &Path,
) -> Result<(), GetError> {
    let shown = from.to_string();
    let shown = shown.trim_end_matches('/').to_owned();
    if let Content::Folder(folder) = &item.content {
        // What the user names may be a link to a folder; below it none is followed.
        let has_name = to.file_name().is_some();
        if to.is_dir() {
            let metadata = has_name.then(|| item.metadata.clone());
            let into = LocalFolder::open(to, metadata)?;
            walk.enter(origin, folder.clone(), into, shown);
            return Ok(());
        }
    }
    let Some(name) = to.file_name().and_then(|name| Name::new(name.as_bytes()).ok()) else {
        return Err(GetError::IsAFolder { path: to.to_owned() });
    };
    let parent = LocalFolder::open(to.parent().unwrap_or(Path::new("")), None)?;
    walk.meet(origin, parent, name, item, shown)
}

/// Makes complete files durable until no more come. After an error it only takes them off the queue.
fn settle_all(files: &Mutex<Receiver<Complete>>, has_failed: &AtomicBool) -> Result<(), GetError> {
    let mut outcome = Ok(());
    loop {
        let next = files.lock().expect("no panic while it is held").recv();
        let Ok(complete) = next else { return outcome };
        if outcome.is_ok() {
            outcome = complete.settle();
            if outcome.is_err() {
                has_failed.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// Writes the steps of a walk.
struct Writer<'a> {
    complete: SyncSender<Complete>,
    progress: &'a dyn Progress,
    open: Option<(Unfinished, Finish)>,
    held: VecDeque<Arc<SealedChunk>>,
}

/// How a file ends.
struct Finish {
    size: u64,
    metadata: ihfs_core::tree::entry::Metadata,
    replaces: bool,
}

impl<'a> Writer<'a> {
    const fn new(complete: SyncSender<Complete>, progress: &'a dyn Progress) -> Self {
        Self { complete, progress, open: None, held: VecDeque::new() }
    }

    fn write_all(mut self, walk: &mut Walk<'_>, has_failed: &AtomicBool) -> Result<(), GetError> {
        while let Some(step) = walk.next_step()? {
            match step {
                Step::Begin(plan) => self.begin(*plan)?,
                Step::Extent(origin, placed) => self.write(&origin, &placed)?,
                Step::End => self.end()?,
            }
            if has_failed.load(Ordering::Relaxed) {
                // The thread that failed says why.
                return Ok(());
            }
        }
        Ok(())
    }

    fn begin(&mut self, plan: Plan) -> Result<(), GetError> {
        let Plan { folder, name, size, metadata, replaces, shown } = plan;
        self.progress.file(&shown);
        self.open = Some((Unfinished::create(folder, name)?, Finish { size, metadata, replaces }));
        Ok(())
    }

    fn write(&mut self, origin: &Origin, placed: &PlacedExtent) -> Result<(), GetError> {
        let piece = match placed.extent.get() {
            RawExtent::Piece(piece) => Some(self.open_piece(origin, piece)?),
            RawExtent::Hole(_) => None,
        };
        let (file, _) = self.open.as_mut().expect("a file begins before its extents");
        match piece {
            Some(bytes) => file.write_at(&bytes, placed.start)?,
            None => file.skip(),
        }
        self.progress.advance(placed.extent.size_bytes());
        Ok(())
    }

    fn open_piece(&mut self, origin: &Origin, piece: &Ref) -> Result<Vec<u8>, RecordError> {
        let id = chunk_of(piece).ok_or(TreeError::Unwritten)?;
        let place = self.held.iter().position(|chunk| chunk.id() == id);
        let chunk = match place.and_then(|place| self.held.remove(place)) {
            Some(chunk) => chunk,
            None => origin.snapshot.tree.source().chunk(id)?,
        };
        let bytes = chunk.open(piece)?;
        self.held.push_back(chunk);
        if self.held.len() > HELD_CHUNKS {
            self.held.pop_front();
        }
        Ok(bytes)
    }

    fn end(&mut self) -> Result<(), GetError> {
        let (file, finish) = self.open.take().expect("a file begins before it ends");
        let complete = file.complete(finish.size, finish.metadata, finish.replaces)?;
        // The other end is there until this one is gone.
        let _ = self.complete.send(complete);
        Ok(())
    }
}
