//! What `get` writes on this machine: always below a folder that is held open, never through a symbolic link that
//! lies in the way, and under its own name only once it is durable.
//!
//! A file is written beside its place under a temporary name that follows from its own. A run that fails removes it;
//! what a killed one left the next run finds and replaces. It is locked meanwhile: two runs never write one file.

use std::ffi::OsStr;
use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ihfs_core::ids::Digest;
use ihfs_core::tree::entry::{Metadata, Moment, SymlinkTarget};
use ihfs_core::tree::name::Name;
use rustix::fs::{
    Advice, AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT,
    XattrFlags,
};
use rustix::io::Errno;

use super::GetError;

/// Begins the names of files that are not complete.
const TEMPORARY_PREFIX: &str = ".ihfs-get-";
/// Set-user-id and set-group-id bits stay behind: what somebody shares is not to run with the reader's rights.
const MODE_KEPT: u32 = 0o1777;
/// What the owner of a folder needs while it is being filled.
const FOLDER_MODE_FILLING: u32 = 0o700;
/// Bytes after which the system is told to begin writing them: the disk works while more is on its way.
const WRITEOUT_BYTES: u64 = 8 << 20;
/// How often a temporary file is opened anew because it went away or was something else.
const OPEN_ATTEMPTS: usize = 8;

/// A folder that is being filled. Its mode and time are set when the last that holds it leaves.
pub(super) struct LocalFolder {
    fd: OwnedFd,
    path: PathBuf,
    parent: Option<Arc<LocalFolder>>,
    /// None for a folder that is not of the tree.
    metadata: Option<Metadata>,
}

/// What stands at a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Nothing.
    Free,
    /// What is to be there: same kind, size and time, or the same target.
    Same,
    /// Something else that is no folder.
    Other,
    /// A folder.
    Folder,
}

/// A file that is being written beside its place. It goes when this does before it is in its place.
pub(super) struct Unfinished {
    /// None once it is in its place.
    folder: Option<Arc<LocalFolder>>,
    path: PathBuf,
    name: Name,
    file: File,
    ends_in_hole: bool,
    /// Before this offset the system was told to begin writing.
    begun_to: u64,
}

/// A file with all its bytes, to be made durable and put in its place.
pub(super) struct Complete {
    unfinished: Unfinished,
    metadata: Metadata,
    replaces: bool,
}

impl LocalFolder {
    /// A folder that the user named; symbolic links on the way to it are followed.
    pub(super) fn open(path: &Path, metadata: Option<Metadata>) -> Result<Arc<Self>, GetError> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(failed(path))?;
        Ok(Arc::new(Self { fd, path: path.to_owned(), parent: None, metadata }))
    }

    /// The folder with this name in it, made if need be.
    pub(super) fn enter(self: &Arc<Self>, name: &Name, metadata: Metadata) -> Result<Arc<Self>, GetError> {
        let path = self.path_of(name);
        let filling = Mode::from_raw_mode(FOLDER_MODE_FILLING);
        match rustix::fs::mkdirat(&self.fd, name.as_bytes(), filling) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(&path)(error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&self.fd, name.as_bytes(), flags, Mode::empty()) {
            Err(Errno::LOOP | Errno::NOTDIR) => return Err(GetError::NotAFolder { path }),
            opened => opened.map_err(failed(&path))?,
        };
        let mode = rustix::fs::fstat(&fd).map_err(failed(&path))?.st_mode & 0o7777;
        if mode & FOLDER_MODE_FILLING != FOLDER_MODE_FILLING {
            let filling = Mode::from_raw_mode(mode | FOLDER_MODE_FILLING);
            rustix::fs::fchmod(&fd, filling).map_err(failed(&path))?;
        }
        Ok(Arc::new(Self { fd, path, parent: Some(self.clone()), metadata: Some(metadata) }))
    }

    /// Leaves a folder. The last to leave sets its mode and time and makes its names durable, then leaves the
    /// folder above.
    pub(super) fn leave(folder: Arc<Self>) -> Result<(), GetError> {
        let mut left = Some(folder);
        while let Some(folder) = left.and_then(Arc::into_inner) {
            if let Some(metadata) = &folder.metadata {
                set_metadata(&folder.fd, metadata).map_err(failed(&folder.path))?;
            }
            rustix::fs::fsync(&folder.fd).map_err(failed(&folder.path))?;
            left = folder.parent;
        }
        Ok(())
    }

    /// What stands at `name`, where a file of this size and time is to be.
    pub(super) fn file_standing(
        &self,
        name: &Name,
        size: u64,
        modified: Moment,
    ) -> Result<Standing, GetError> {
        let Some(stat) = self.stat(name)? else { return Ok(Standing::Free) };
        let is_same = (u64::try_from(stat.st_size), stat.st_mtime, u64::from(modified.nanos()))
            == (Ok(size), modified.seconds(), stat.st_mtime_nsec);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(Standing::Folder),
            FileType::RegularFile if is_same => Ok(Standing::Same),
            _ => Ok(Standing::Other),
        }
    }

    /// What stands at `name`, where a symbolic link with this target is to be.
    pub(super) fn link_standing(&self, name: &Name, target: &SymlinkTarget) -> Result<Standing, GetError> {
        let Some(stat) = self.stat(name)? else { return Ok(Standing::Free) };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(Standing::Folder),
            FileType::Symlink => {
                let found = rustix::fs::readlinkat(&self.fd, name.as_bytes(), Vec::new());
                let is_same = found.is_ok_and(|found| found.as_bytes() == target.as_bytes());
                Ok(if is_same { Standing::Same } else { Standing::Other })
            }
            _ => Ok(Standing::Other),
        }
    }

    fn stat(&self, name: &Name) -> Result<Option<rustix::fs::Stat>, GetError> {
        match rustix::fs::statat(&self.fd, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed(&self.path_of(name))(error)),
        }
    }

    /// Makes a symbolic link.
    pub(super) fn link(
        &self,
        name: &Name,
        target: &SymlinkTarget,
        modified: Moment,
        replaces: bool,
    ) -> Result<(), GetError> {
        let temporary = temporary_name(name);
        let path = self.path_of(name);
        // An interrupted run may have left one.
        match rustix::fs::unlinkat(&self.fd, temporary.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(failed(&path)(error)),
        }
        rustix::fs::symlinkat(target.as_bytes(), &self.fd, temporary.as_str()).map_err(failed(&path))?;
        let times = times(modified);
        rustix::fs::utimensat(&self.fd, temporary.as_str(), &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed(&path))?;
        self.put_in_place(&temporary, name, replaces)
    }

    fn put_in_place(&self, temporary: &str, name: &Name, replaces: bool) -> Result<(), GetError> {
        let (fd, bytes) = (&self.fd, name.as_bytes());
        let path = self.path_of(name);
        if !replaces {
            match rustix::fs::renameat_with(fd, temporary, fd, bytes, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => return Err(GetError::Exists { path }),
                // This file system does not know the flag: what stood there was looked at just before.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
                done => return done.map_err(failed(&path)),
            }
        }
        rustix::fs::renameat(fd, temporary, fd, bytes).map_err(failed(&path))
    }

    /// The local path of a name in it, for messages.
    pub(super) fn path_of(&self, name: &Name) -> PathBuf {
        self.path.join(OsStr::from_bytes(name.as_bytes()))
    }
}

impl Unfinished {
    /// An empty file beside the place of `name`.
    pub(super) fn create(folder: Arc<LocalFolder>, name: Name) -> Result<Self, GetError> {
        let file = create_temporary(&folder, &name)?;
        let path = folder.path_of(&name);
        Ok(Self { folder: Some(folder), path, name, file, ends_in_hole: false, begun_to: 0 })
    }

    /// Writes at an offset.
    pub(super) fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<(), GetError> {
        self.ends_in_hole = false;
        self.file.write_all_at(bytes, offset).map_err(self.failed())?;
        self.begin_writeout(offset + bytes.len() as u64);
        Ok(())
    }

    /// Tells the system to begin writing what comes before `end`, if that is enough to be worth it. It is advice:
    /// only the sync at the end makes the file durable.
    fn begin_writeout(&mut self, end: u64) {
        let Some(length) = end.checked_sub(self.begun_to).filter(|length| *length >= WRITEOUT_BYTES) else {
            return;
        };
        let _ = rustix::fs::fadvise(&self.file, self.begun_to, NonZeroU64::new(length), Advice::DontNeed);
        self.begun_to = end;
    }

    /// Leaves a run of zeros out.
    pub(super) const fn skip(&mut self) {
        self.ends_in_hole = true;
    }

    /// All its bytes were written.
    pub(super) fn complete(
        self,
        size: u64,
        metadata: Metadata,
        replaces: bool,
    ) -> Result<Complete, GetError> {
        if self.ends_in_hole {
            self.file.set_len(size).map_err(self.failed())?;
        }
        Ok(Complete { unfinished: self, metadata, replaces })
    }

    fn failed(&self) -> impl Fn(std::io::Error) -> GetError + use<> {
        let path = self.path.clone();
        move |source| GetError::Local { path: path.clone(), source }
    }
}

impl Complete {
    /// Bytes and metadata are durable before the name is there.
    pub(super) fn settle(self) -> Result<(), GetError> {
        let Self { mut unfinished, metadata, replaces } = self;
        let Unfinished { folder, path, name, file, .. } = &mut unfinished;
        set_metadata(&*file, &metadata).map_err(failed(path))?;
        rustix::fs::fsync(&*file).map_err(failed(path))?;
        if let Some(folder) = folder {
            folder.put_in_place(&temporary_name(name), name, replaces)?;
        }
        let folder = folder.take();
        drop(unfinished);
        folder.map_or(Ok(()), LocalFolder::leave)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // Still locked: it is nobody else's. What cannot be removed is replaced by the next run.
            let _ = rustix::fs::unlinkat(&folder.fd, temporary_name(&self.name).as_str(), AtFlags::empty());
        }
    }
}

/// The name under which the file `name` is written until it is complete.
fn temporary_name(name: &Name) -> String {
    let digest = Digest::of(name.as_bytes());
    format!("{TEMPORARY_PREFIX}{}", data_encoding::HEXLOWER.encode(&digest.as_bytes()[..16]))
}

/// Whether a name of the tree could be taken for an unfinished file.
pub(super) fn is_temporary(name: &Name) -> bool {
    name.as_bytes().starts_with(TEMPORARY_PREFIX.as_bytes())
}

/// Opens and locks the temporary file, empty. What an interrupted run left is taken over; anything that is no
/// plain file of one name is replaced.
fn create_temporary(folder: &LocalFolder, name: &Name) -> Result<File, GetError> {
    let temporary = temporary_name(name);
    let (dir, path) = (&folder.fd, folder.path_of(name));
    // Not to wait for a reader, should somebody have put a pipe there.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    for _ in 0..OPEN_ATTEMPTS {
        let opened = rustix::fs::openat(dir, temporary.as_str(), flags, Mode::from_raw_mode(0o600));
        let file = match opened {
            Ok(fd) => File::from(fd),
            Err(error) => {
                // A symbolic link, or a file that was complete but for its name and is read-only.
                let remove = || rustix::fs::unlinkat(dir, temporary.as_str(), AtFlags::empty());
                if matches!(error, Errno::LOOP | Errno::NXIO | Errno::ACCESS) && remove().is_ok() {
                    continue;
                }
                return Err(failed(&path)(error));
            }
        };
        // Other errors are those of file systems without locks: two runs at once are then the user's matter.
        let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        if locked == Err(Errno::WOULDBLOCK) {
            return Err(GetError::Busy { path });
        }
        if is_plain(folder, &temporary, &file).map_err(local(&path))? {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(0o600)).map_err(failed(&path))?;
            file.set_len(0).map_err(local(&path))?;
            return Ok(file);
        }
    }
    Err(GetError::Busy { path })
}

/// Whether the opened file still has the temporary name and no other. Something else under it is removed.
fn is_plain(folder: &LocalFolder, temporary: &str, file: &File) -> std::io::Result<bool> {
    let here = match rustix::fs::statat(&folder.fd, temporary, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(false),
        stat => stat?,
    };
    let opened = file.metadata()?;
    if (opened.dev(), opened.ino()) != (here.st_dev, here.st_ino) {
        return Ok(false);
    }
    if opened.is_file() && opened.nlink() == 1 {
        return Ok(true);
    }
    rustix::fs::unlinkat(&folder.fd, temporary, AtFlags::empty())?;
    Ok(false)
}

fn set_metadata(fd: impl std::os::fd::AsFd, metadata: &Metadata) -> Result<(), Errno> {
    for (name, value) in metadata.xattrs.by_name() {
        // Only what users may set, and where the file system keeps it.
        if name.starts_with(b"user.") {
            match rustix::fs::fsetxattr(&fd, name.as_slice(), value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(error) => return Err(error),
            }
        }
    }
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(metadata.mode.bits() & MODE_KEPT))?;
    rustix::fs::futimens(&fd, &times(metadata.modified))
}

fn times(modified: Moment) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: modified.seconds(), tv_nsec: i64::from(modified.nanos()) },
    }
}

fn failed(path: &Path) -> impl Fn(Errno) -> GetError + use<> {
    let path = path.to_owned();
    move |error| GetError::Local { path: path.clone(), source: error.into() }
}

fn local(path: &Path) -> impl Fn(std::io::Error) -> GetError + use<> {
    let path = path.to_owned();
    move |source| GetError::Local { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use ihfs_core::tree::entry::Mode as TreeMode;

    use super::*;

    fn name(text: &str) -> Name {
        Name::try_from(text).unwrap()
    }

    fn metadata(mode: u32, seconds: i64) -> Metadata {
        let modified = Moment::new(seconds, 123_000_000).unwrap();
        Metadata { mode: TreeMode::from_stat(mode), modified, ..Metadata::default() }
    }

    fn write(folder: &Arc<LocalFolder>, text: &str, bytes: &[u8], replaces: bool) -> Result<(), GetError> {
        let mut file = Unfinished::create(folder.clone(), name(text))?;
        file.write_at(bytes, 0)?;
        file.complete(bytes.len() as u64, metadata(0o4640, 1_000), replaces)?.settle()
    }

    #[test]
    fn a_file_gets_its_bytes_mode_and_time_and_no_set_id_bit() {
        let place = tempfile::tempdir().unwrap();
        let folder = LocalFolder::open(place.path(), None).unwrap();
        write(&folder, "a", b"bytes", false).unwrap();
        let path = place.path().join("a");
        let stat = std::fs::metadata(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"bytes");
        assert_eq!(stat.mode() & 0o7777, 0o640);
        assert_eq!((stat.mtime(), stat.mtime_nsec()), (1_000, 123_000_000));
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
        let modified = metadata(0, 1_000).modified;
        assert_eq!(folder.file_standing(&name("a"), 5, modified).unwrap(), Standing::Same);
        assert_eq!(folder.file_standing(&name("a"), 6, modified).unwrap(), Standing::Other);
        assert_eq!(folder.file_standing(&name("b"), 6, modified).unwrap(), Standing::Free);
    }

    #[test]
    fn what_stands_there_is_replaced_only_when_that_was_said() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("a"), b"old").unwrap();
        let folder = LocalFolder::open(place.path(), None).unwrap();
        assert!(matches!(write(&folder, "a", b"new", false), Err(GetError::Exists { .. })));
        assert_eq!(std::fs::read(place.path().join("a")).unwrap(), b"old");
        write(&folder, "a", b"new", true).unwrap();
        assert_eq!(std::fs::read(place.path().join("a")).unwrap(), b"new");
    }

    #[test]
    fn a_link_in_the_way_is_never_followed() {
        let (place, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = outside.path().join("secret");
        std::fs::write(&secret, b"keep").unwrap();
        symlink(outside.path(), place.path().join("folder")).unwrap();
        symlink(&secret, place.path().join("file")).unwrap();
        symlink(&secret, place.path().join(temporary_name(&name("file")))).unwrap();
        let folder = LocalFolder::open(place.path(), None).unwrap();
        let entered = folder.enter(&name("folder"), metadata(0o755, 0));
        assert!(matches!(entered, Err(GetError::NotAFolder { .. })));
        write(&folder, "file", b"new", true).unwrap();
        assert_eq!(std::fs::read(&secret).unwrap(), b"keep");
        assert_eq!(std::fs::read(place.path().join("file")).unwrap(), b"new");
        assert!(std::fs::symlink_metadata(place.path().join("file")).unwrap().is_file());
    }

    #[test]
    fn a_planted_second_name_of_a_file_is_not_written_to() {
        let (place, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = outside.path().join("secret");
        std::fs::write(&secret, b"keep").unwrap();
        std::fs::hard_link(&secret, place.path().join(temporary_name(&name("a")))).unwrap();
        let folder = LocalFolder::open(place.path(), None).unwrap();
        write(&folder, "a", b"new", false).unwrap();
        assert_eq!(std::fs::read(&secret).unwrap(), b"keep");
    }

    #[test]
    fn an_interrupted_file_is_taken_over_and_one_being_written_is_not() {
        let place = tempfile::tempdir().unwrap();
        let folder = LocalFolder::open(place.path(), None).unwrap();
        let mut first = Unfinished::create(folder.clone(), name("a")).unwrap();
        first.write_at(b"a long beginning", 0).unwrap();
        let second = Unfinished::create(folder.clone(), name("a"));
        assert!(matches!(second, Err(GetError::Busy { .. })));
        // As a kill leaves it.
        first.folder = None;
        drop(first);
        assert!(place.path().join(temporary_name(&name("a"))).exists());
        write(&folder, "a", b"new", false).unwrap();
        assert_eq!(std::fs::read(place.path().join("a")).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("b"), b"old").unwrap();
        let folder = LocalFolder::open(place.path(), None).unwrap();
        let mut begun = Unfinished::create(folder.clone(), name("a")).unwrap();
        begun.write_at(b"a beginning", 0).unwrap();
        drop(begun);
        let mut complete = Unfinished::create(folder.clone(), name("a")).unwrap();
        complete.write_at(b"all", 0).unwrap();
        drop(complete.complete(3, metadata(0o600, 0), false).unwrap());
        assert!(matches!(write(&folder, "b", b"new", false), Err(GetError::Exists { .. })));
        let left: Vec<_> =
            std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["b"]);
    }

    #[test]
    fn a_folder_gets_mode_and_time_when_the_last_file_is_in_it() {
        let place = tempfile::tempdir().unwrap();
        let top = LocalFolder::open(place.path(), None).unwrap();
        let folder = top.enter(&name("folder"), metadata(0o555, 2_000)).unwrap();
        let mut file = Unfinished::create(folder.clone(), name("a")).unwrap();
        file.write_at(b"x", 0).unwrap();
        let complete = file.complete(1, metadata(0o444, 1_000), false).unwrap();
        LocalFolder::leave(folder).unwrap();
        LocalFolder::leave(top).unwrap();
        let path = place.path().join("folder");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, FOLDER_MODE_FILLING);
        complete.settle().unwrap();
        let stat = std::fs::metadata(&path).unwrap();
        assert_eq!((stat.mode() & 0o777, stat.mtime()), (0o555, 2_000));
        // Filled again, though nobody may write it.
        let top = LocalFolder::open(place.path(), None).unwrap();
        let folder = top.enter(&name("folder"), metadata(0o555, 2_000)).unwrap();
        write(&folder, "b", b"y", false).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_file_that_ends_in_a_hole_has_its_full_length() {
        let place = tempfile::tempdir().unwrap();
        let folder = LocalFolder::open(place.path(), None).unwrap();
        let mut file = Unfinished::create(folder, name("a")).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.skip();
        file.complete(1 << 20, metadata(0o600, 0), false).unwrap().settle().unwrap();
        let stat = std::fs::metadata(place.path().join("a")).unwrap();
        assert_eq!(stat.len(), 1 << 20);
        assert!(stat.blocks() * 512 < 1 << 20);
    }

    #[test]
    fn a_temporary_name_follows_from_the_name_and_fits_a_directory() {
        let long = Name::new(vec![b'x'; 255]).unwrap();
        assert_eq!(temporary_name(&long), temporary_name(&long));
        assert_ne!(temporary_name(&long), temporary_name(&name("x")));
        let temporary = Name::try_from(temporary_name(&long).as_str()).unwrap();
        assert!(is_temporary(&temporary));
        assert!(!is_temporary(&long));
    }
}
