//! The consensus log on disk: a small redb database of its own, entries by height and number.
//!
//! What is appended stays in memory until `sync`, which makes all of it durable in one transaction.
//! It knows nothing of what entries mean.

use std::path::Path;

use bytes::Bytes;
use ihfs_core::ids::Height;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use crate::database::{self, begin_write};

/// Entries under (height, number); numbers only grow.
const ENTRIES: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("entries");
/// The version of what the entries hold, under the empty key.
const FORMAT: TableDefinition<(), u64> = TableDefinition::new("format");
/// The version that this program writes and reads.
const FORMAT_VERSION: u64 = 1;
/// Cache in bytes: a height's entries are written once and read only after a crash.
const CACHE_BYTES: usize = 1 << 20;

/// Why the log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The database failed: disk full, damage, or another process holds it.
    #[error("the consensus log's database failed")]
    Database(#[from] Box<redb::Error>),
    /// Another version of this program wrote it.
    #[error("the consensus log has format {found}, and this program knows format {FORMAT_VERSION}")]
    UnknownFormat {
        /// The version found.
        found: u64,
    },
}

/// The log.
#[derive(Debug)]
pub(crate) struct LogFile {
    database: Database,
    appended: Vec<(Height, Bytes)>,
    next: u64,
    /// Durable entries of heights up to this one are needed no more.
    cleared: Option<Height>,
}

impl LogFile {
    /// Opens or makes the log at `path`, and gives the entries that are in it.
    ///
    /// # Errors
    /// [`LogError`]: the database fails or has an unknown format.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<Bytes>), LogError> {
        Self::open_on(|| database::file(path))
    }

    /// Opens or makes the log in a file, and gives the entries that are in it.
    ///
    /// # Errors
    /// [`LogError`]: the database fails or has an unknown format.
    pub(crate) fn open_on<B: StorageBackend>(
        file: impl Fn() -> Result<B, DatabaseError>,
    ) -> Result<(Self, Vec<Bytes>), LogError> {
        let database = database::open(file, CACHE_BYTES).map_err(boxed)?;
        check_format(&database)?;
        let (entries, next) = read_entries(&database).map_err(Box::new)?;
        Ok((Self { database, appended: Vec::new(), next, cleared: None }, entries))
    }

    /// Appends an entry, in memory.
    pub(crate) fn append(&mut self, height: Height, bytes: Bytes) {
        self.appended.push((height, bytes));
    }

    /// Makes everything that was appended durable.
    ///
    /// # Errors
    /// [`LogError::Database`]; then nothing of it is.
    pub(crate) fn sync(&mut self) -> Result<(), LogError> {
        self.write().map_err(Box::new)?;
        self.next += u64::try_from(self.appended.len()).expect("memory is smaller");
        self.appended.clear();
        self.cleared = None;
        Ok(())
    }

    /// Drops entries of this height and below; those on disk go with the next `sync`.
    pub(crate) fn clear(&mut self, height: Height) {
        self.appended.retain(|(of, _)| *of > height);
        self.cleared = Some(height);
    }

    fn write(&self) -> Result<(), redb::Error> {
        let transaction = begin_write(&self.database)?;
        {
            let mut entries = transaction.open_table(ENTRIES)?;
            if let Some(height) = self.cleared {
                entries.retain_in(..=(height.0, u64::MAX), |_, _| false)?;
            }
            for (number, (height, bytes)) in (self.next..).zip(&self.appended) {
                entries.insert((height.0, number), bytes.as_ref())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

fn check_format(database: &Database) -> Result<(), LogError> {
    let found = read_or_write_format(database).map_err(Box::new)?;
    if found == FORMAT_VERSION { Ok(()) } else { Err(LogError::UnknownFormat { found }) }
}

fn read_or_write_format(database: &Database) -> Result<u64, redb::Error> {
    let transaction = begin_write(database)?;
    let found = {
        let mut format = transaction.open_table(FORMAT)?;
        let found = format.get(())?.map(|version| version.value());
        if found.is_none() {
            format.insert((), FORMAT_VERSION)?;
            transaction.open_table(ENTRIES)?;
        }
        found
    };
    if found.is_none() {
        transaction.commit()?;
    }
    Ok(found.unwrap_or(FORMAT_VERSION))
}

/// Entries in the order in which they were appended, and the next number.
fn read_entries(database: &Database) -> Result<(Vec<Bytes>, u64), redb::Error> {
    let table = database.begin_read()?.open_table(ENTRIES)?;
    let mut entries = Vec::new();
    let mut next = 0;
    for entry in table.iter()? {
        let (key, bytes) = entry?;
        next = next.max(key.value().1 + 1);
        entries.push(Bytes::copy_from_slice(bytes.value()));
    }
    Ok((entries, next))
}

fn boxed(error: impl Into<redb::Error>) -> Box<redb::Error> {
    Box::new(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reopened(path: &Path) -> Vec<Bytes> {
        LogFile::open(path).unwrap().1
    }

    #[test]
    fn entries_come_back_in_order_once_synced_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("consensus.redb");
        let (mut log, entries) = LogFile::open(&path).unwrap();
        assert!(entries.is_empty());
        log.append(Height(1), Bytes::from_static(b"first"));
        log.append(Height(1), Bytes::from_static(b"second"));
        log.sync().unwrap();
        log.append(Height(1), Bytes::from_static(b"lost"));
        drop(log);
        assert_eq!(reopened(&path), ["first", "second"]);
    }

    #[test]
    fn cleared_heights_are_gone_after_the_next_sync() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("consensus.redb");
        let (mut log, _) = LogFile::open(&path).unwrap();
        log.append(Height(1), Bytes::from_static(b"old"));
        log.sync().unwrap();
        log.clear(Height(1));
        log.append(Height(2), Bytes::from_static(b"new"));
        log.sync().unwrap();
        drop(log);
        assert_eq!(reopened(&path), ["new"]);
    }

    #[test]
    fn another_format_is_refused_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("consensus.redb");
        drop(LogFile::open(&path).unwrap());
        let database = Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(FORMAT).unwrap().insert((), 2).unwrap();
        transaction.commit().unwrap();
        drop(database);
        assert!(matches!(LogFile::open(&path), Err(LogError::UnknownFormat { found: 2 })));
    }
}
