//! What is put, as it stands on this machine: files that are read where they lie, and streams that are held first.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ihfs_core::cut::ReadAt;
use ihfs_core::tree::entry::{Metadata, Mode, Moment, XATTR_BYTES_MAX, Xattrs};
use rustix::io::Errno;

use super::{PutError, PutSource};

/// Most bytes of the names of a file's extended attributes: what Linux allows.
const XATTR_NAMES_BYTES_MAX: usize = 64 << 10;
/// Most bytes taken from a stream that has no end in sight: the largest file.
const STREAM_BYTES_MAX: u64 = 1 << 40;

/// What is read, as often as a lost race asks for it.
pub(super) enum Input<'a> {
    /// Read where it lies.
    Path(&'a Path),
    /// Taken from a stream.
    Held(Held),
}

/// The bytes of a stream in an unnamed temporary file.
pub(super) struct Held {
    pub(super) file: LocalFile,
    pub(super) metadata: Metadata,
}

/// A local file of a size that is not to change.
pub(super) struct LocalFile {
    pub(super) file: File,
    pub(super) size: u64,
}

impl<'a> Input<'a> {
    /// A stream is read to its end here: a cut is a function of the final bytes.
    pub(super) fn open(source: &'a PutSource) -> Result<Self, PutError> {
        match source {
            PutSource::Path(local) => Ok(Self::Path(local)),
            PutSource::Stdin => Held::take(io::stdin().lock()).map(Self::Held),
        }
    }

    /// Bytes and files of it.
    pub(super) fn measure(&self) -> Result<(u64, u64), PutError> {
        match self {
            Self::Path(local) => measure(local),
            Self::Held(held) => Ok((held.file.size, 1)),
        }
    }
}

impl Held {
    fn take(stream: impl Read) -> Result<Self, PutError> {
        let file = spool(stream).map_err(local_error(Path::new("standard input")))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Moment::new(since.as_secs().cast_signed(), since.subsec_nanos())?;
        let mode = Mode::new(0o644)?;
        Ok(Self { file, metadata: Metadata { mode, modified: now, changed: now, ..Metadata::default() } })
    }
}

fn spool(stream: impl Read) -> io::Result<LocalFile> {
    let mut file = tempfile::tempfile()?;
    let size = io::copy(&mut stream.take(STREAM_BYTES_MAX), &mut file)?;
    Ok(LocalFile { file, size })
}

impl LocalFile {
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
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

/// What the tree keeps of a local file's metadata.
pub(super) fn metadata(local: &Path, meta: &std::fs::Metadata) -> Result<Metadata, PutError> {
    let nanos = |nanos: i64| u32::try_from(nanos).unwrap_or(0);
    let born = meta.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let born = born.and_then(|since| Moment::new(since.as_secs().cast_signed(), since.subsec_nanos()).ok());
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

pub(super) fn local_error(path: &Path) -> impl Fn(io::Error) -> PutError + use<> {
    let path = path.to_owned();
    move |source| PutError::Local { path: path.clone(), source }
}
