//! How the databases of ledger, consensus log, custody and directory are made, opened and written.
//!
//! Knows nothing of what they hold.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, StorageBackend, StorageError, TransactionError, WriteTransaction,
};

/// Bytes at the start of a file that redb writes before it calls the file a database: its first page.
const HEADER_BYTES: u64 = 4096;
/// Bytes read at once when a file is looked through.
const STEP_BYTES: usize = 64 << 10;
/// What every finished database begins with has this many bytes; redb writes it last.
const MAGIC_BYTES: usize = 9;

/// The file at `path`, made when it is absent. Its name is durable when this returns: redb syncs bytes alone.
pub(crate) fn file(path: &Path) -> Result<FileBackend, DatabaseError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    FileBackend::new(file)
}

/// Opens the database in a file, made when the file is empty. `file` may be asked for it several times.
///
/// # Errors
/// [`DatabaseError`]: the medium failed, the file is no database, or another process holds it.
pub(crate) fn open<B: StorageBackend>(
    file: impl Fn() -> Result<B, DatabaseError>,
    cache_bytes: usize,
) -> Result<Database, DatabaseError> {
    let open = || Builder::new().set_cache_size(cache_bytes).create_with_backend(file()?);
    match open() {
        // Power that goes while redb makes a file leaves one that it refuses ever after.
        Err(DatabaseError::Storage(StorageError::Io(error)))
            if error.kind() == io::ErrorKind::InvalidData && was_never_finished(&file()?)? =>
        {
            file()?.set_len(0)?;
            open()
        }
        opened => opened,
    }
}

/// Begins a write that is committed in two phases: everything is synced before the byte that makes it the newest.
///
/// By default redb syncs once, and after a power cut tells a whole commit from a torn one by a checksum that is not
/// cryptographic. Members choose bytes that are written here, so a torn commit could be made to pass; redb's design
/// document advises two phases then. Nor does a damaged commit fall back to the one before it: a consensus log that
/// forgot its last votes would vote twice. The price is a second sync a commit.
pub(crate) fn begin_write(database: &Database) -> Result<WriteTransaction, TransactionError> {
    let mut writing = database.begin_write()?;
    writing.set_two_phase_commit(true);
    Ok(writing)
}

/// Whether redb never came to the end of making this file: it holds nothing behind the header, and no mark in it.
fn was_never_finished(file: &impl StorageBackend) -> io::Result<bool> {
    let length = file.len()?;
    let mut magic = vec![0; MAGIC_BYTES.min(usize::try_from(length).unwrap_or(MAGIC_BYTES))];
    file.read(0, &mut magic)?;
    let mut is_empty = magic.iter().all(|byte| *byte == 0);
    let (mut at, mut step) = (HEADER_BYTES, vec![0; STEP_BYTES]);
    while is_empty && at < length {
        step.truncate(usize::try_from(length - at).unwrap_or(STEP_BYTES));
        file.read(at, &mut step)?;
        is_empty = step.iter().all(|byte| *byte == 0);
        at += step.len() as u64;
    }
    Ok(is_empty)
}

#[cfg(test)]
mod tests {
    use redb::TableDefinition;

    use super::*;
    use crate::store::sim_disk::SimDisk;

    const CACHE_BYTES: usize = 1 << 20;
    const TABLE: TableDefinition<u64, u64> = TableDefinition::new("table");

    fn open_at(path: &Path) -> Result<Database, DatabaseError> {
        open(|| file(path), CACHE_BYTES)
    }

    fn write(database: &Database) {
        let writing = begin_write(database).unwrap();
        writing.open_table(TABLE).unwrap().insert(1, 1).unwrap();
        writing.commit().unwrap();
    }

    #[test]
    fn a_database_whose_making_was_cut_anywhere_is_made_anew() {
        for point in 1.. {
            let disk = SimDisk::new();
            disk.cut_after(point);
            drop(open(|| disk.database("some.redb"), CACHE_BYTES));
            for seed in 0..8 {
                let found = disk.after_power_cut(point * 8 + seed);
                let database = open(|| found.database("some.redb"), CACHE_BYTES);
                write(&database.unwrap_or_else(|error| panic!("cut at write point {point}: {error}")));
            }
            if !disk.was_cut() {
                assert!(point > 5, "making a database has several write points, found {point}");
                return;
            }
        }
    }

    #[test]
    fn a_database_that_lost_its_mark_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.redb");
        write(&open_at(&path).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[..MAGIC_BYTES].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        assert!(open_at(&path).is_err());
        assert!(std::fs::read(&path).unwrap() == bytes);
    }

    #[test]
    fn a_file_of_something_else_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.redb");
        std::fs::write(&path, b"letters").unwrap();
        assert!(open_at(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"letters");
    }
}
