//! The ledger's database: its tables, how a block is taken, and how the newest state is read.

#[cfg(test)]
mod power_cut;

use std::time::Instant;

use ihfs_core::codec;
use ihfs_core::ids::{BlockId, ChainId, Height, MemberId, RecordId, Time};
use ihfs_core::ledger::block::{BLOCK_BYTES_MAX, Block, Header};
use ihfs_core::ledger::certificate::{CERTIFICATE_BYTES_MAX, Certificate, ValidatorSet};
use ihfs_core::ledger::execute::{self, Executed, Parent};
use ihfs_core::ledger::genesis::Genesis;
use ihfs_core::ledger::lists::{ListItem, ListKey};
use ihfs_core::ledger::proof::{PageReader, TreeUpdate};
use ihfs_core::ledger::rules::Writes;
use ihfs_core::ledger::state::{
    self, ConsortiumEntry, ReadFailed, RecordEntry, StateError, StateKey, StateReader,
};
use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::LedgerError;
use crate::consensus::Newest;
use crate::database::begin_write;

/// The version of the tables that this program writes and reads.
pub(super) const FORMAT_VERSION: u64 = 1;

type Bytes = &'static [u8];

/// The format's version and the chain, under "format" and "chain".
const META: TableDefinition<&str, Bytes> = TableDefinition::new("meta");
/// Entries of the newest state by their keys' bytes.
const ENTRIES: TableDefinition<Bytes, Bytes> = TableDefinition::new("entries");
/// Pages of the newest state's tree.
const PAGES: TableDefinition<Bytes, Bytes> = TableDefinition::new("pages");
/// Items of lists by list and index.
const ITEMS: TableDefinition<Bytes, Bytes> = TableDefinition::new("items");
/// Blocks by height.
const BLOCKS: TableDefinition<u64, Bytes> = TableDefinition::new("blocks");
/// Certificates by height.
const CERTIFICATES: TableDefinition<u64, Bytes> = TableDefinition::new("certificates");
/// The next validators by the height of each block that changed them.
const HANDOVERS: TableDefinition<u64, Bytes> = TableDefinition::new("handovers");

pub(super) fn boxed(error: impl Into<redb::Error>) -> Box<redb::Error> {
    Box::new(error.into())
}

/// The chain that the database holds; none when it is new.
pub(super) fn stored_chain(database: &Database) -> Result<Option<ChainId>, LedgerError> {
    let reading = database.begin_read().map_err(boxed)?;
    let meta = match reading.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(boxed(error).into()),
    };
    let read = |key: &str| -> Result<Vec<u8>, LedgerError> {
        Ok(meta.get(key).map_err(boxed)?.map(|bytes| bytes.value().to_vec()).unwrap_or_default())
    };
    let found = u64::from_be_bytes(read("format")?.try_into().unwrap_or_default());
    if found != FORMAT_VERSION {
        return Err(LedgerError::UnknownFormat { found });
    }
    let chain = ChainId::try_from(read("chain")?.as_slice());
    chain.map(Some).map_err(|_| LedgerError::Damaged { height: Height(0) })
}

/// Writes the state of the genesis document.
pub(super) fn found(database: &Database, genesis: &Genesis) -> Result<(), LedgerError> {
    let founded = execute::found(genesis)?;
    let writing = begin_write(database).map_err(boxed)?;
    write_founded(&writing, genesis.chain(), &founded.writes, &founded.tree).map_err(Box::new)?;
    writing.commit().map_err(boxed)?;
    Ok(())
}

fn write_founded(
    writing: &WriteTransaction,
    chain: ChainId,
    writes: &Writes,
    tree: &TreeUpdate,
) -> Result<(), redb::Error> {
    let mut meta = writing.open_table(META)?;
    meta.insert("format", FORMAT_VERSION.to_be_bytes().as_slice())?;
    meta.insert("chain", chain.as_bytes().as_slice())?;
    // Readers find every table from the beginning.
    writing.open_table(BLOCKS)?;
    writing.open_table(CERTIFICATES)?;
    writing.open_table(HANDOVERS)?;
    write_state(writing, writes, tree)?;
    write_items(writing, &[])
}

/// Takes a block, its certificate and all that it changes, durably and in one step.
pub(super) fn commit(
    database: &Database,
    executed: &Executed,
    certificate: &Certificate,
) -> Result<(), LedgerError> {
    let writing = begin_write(database).map_err(boxed)?;
    write_block(&writing, executed, certificate).map_err(Box::new)?;
    writing.commit().map_err(boxed)?;
    Ok(())
}

fn write_block(
    writing: &WriteTransaction,
    executed: &Executed,
    certificate: &Certificate,
) -> Result<(), redb::Error> {
    let Executed { block, applied, tree } = executed;
    let height = block.header.height.0;
    write_state(writing, &applied.writes, tree)?;
    write_items(writing, &applied.items)?;
    writing.open_table(BLOCKS)?.insert(height, codec::encode(block).as_slice())?;
    writing.open_table(CERTIFICATES)?.insert(height, codec::encode(certificate).as_slice())?;
    if block.header.validators != block.header.next_validators {
        let next = codec::encode(&applied.consortium.next);
        writing.open_table(HANDOVERS)?.insert(height, next.as_slice())?;
    }
    Ok(())
}

fn write_state(writing: &WriteTransaction, writes: &Writes, tree: &TreeUpdate) -> Result<(), redb::Error> {
    let mut entries = writing.open_table(ENTRIES)?;
    for (key, value) in writes {
        match value {
            Some(value) => entries.insert(key.as_slice(), value.as_slice())?,
            None => entries.remove(key.as_slice())?,
        };
    }
    let mut pages = writing.open_table(PAGES)?;
    for (key, page) in &tree.pages {
        pages.insert(key.as_slice(), page.as_slice())?;
    }
    for key in &tree.stale {
        pages.remove(key.as_slice())?;
    }
    Ok(())
}

fn write_items(writing: &WriteTransaction, new: &[ListItem]) -> Result<(), redb::Error> {
    let mut items = writing.open_table(ITEMS)?;
    for item in new {
        items.insert(item.list.item_key(item.index).as_slice(), item.bytes.as_slice())?;
    }
    Ok(())
}

/// The ledger as it was at one block. Cheap to read from, and never changes.
pub struct Snapshot {
    entries: ReadOnlyTable<Bytes, Bytes>,
    pages: ReadOnlyTable<Bytes, Bytes>,
    items: ReadOnlyTable<Bytes, Bytes>,
    blocks: ReadOnlyTable<u64, Bytes>,
    certificates: ReadOnlyTable<u64, Bytes>,
    handovers: ReadOnlyTable<u64, Bytes>,
    parent: Parent,
    newest: Newest,
    header: Option<Header>,
    /// When it became the newest here, by this machine's monotonic clock.
    since: Instant,
}

/// A block that changed the validators.
pub struct Handover {
    /// Its header.
    pub header: Header,
    /// Its certificate.
    pub certificate: Certificate,
    /// The validators that it calls next.
    pub next: ValidatorSet,
}

impl StateReader for Snapshot {
    fn read_entry(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadFailed> {
        get(&self.entries, key)
    }
}

impl PageReader for Snapshot {
    fn read_page(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadFailed> {
        get(&self.pages, key)
    }
}

fn get(table: &ReadOnlyTable<Bytes, Bytes>, key: &[u8]) -> Result<Option<Vec<u8>>, ReadFailed> {
    let found = table.get(key).map_err(|error| ReadFailed(Box::new(error)))?;
    Ok(found.map(|bytes| bytes.value().to_vec()))
}

impl Snapshot {
    /// The newest header's time, and what has passed since it became the newest here.
    pub fn time_by_now(&self) -> Time {
        let passed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.newest.time.plus_millis(passed)
    }

    pub(super) fn open(database: &Database, chain: ChainId, founded: Time) -> Result<Self, LedgerError> {
        let reading = database.begin_read().map_err(boxed)?;
        let open = |table: TableDefinition<Bytes, Bytes>| reading.open_table(table).map_err(boxed);
        let numbered = |table: TableDefinition<u64, Bytes>| reading.open_table(table).map_err(boxed);
        let genesis = BlockId::from_bytes(*chain.as_bytes());
        let mut snapshot = Self {
            entries: open(ENTRIES)?,
            pages: open(PAGES)?,
            items: open(ITEMS)?,
            blocks: numbered(BLOCKS)?,
            certificates: numbered(CERTIFICATES)?,
            handovers: numbered(HANDOVERS)?,
            parent: Parent::genesis(chain),
            newest: Newest { height: Height(0), block: genesis, time: founded },
            header: None,
            since: Instant::now(),
        };
        let last = snapshot.blocks.last().map_err(boxed)?.map(|(height, _)| Height(height.value()));
        if let Some(height) = last {
            let header = snapshot.block(height)?.ok_or(LedgerError::Damaged { height })?.header;
            snapshot.parent = Parent::of(&header);
            snapshot.newest = Newest { height, block: header.id(), time: header.time };
            snapshot.header = Some(header);
        }
        Ok(snapshot)
    }

    /// The newest block.
    pub const fn newest(&self) -> Newest {
        self.newest
    }

    /// The newest header; none at height 0.
    pub const fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// What the next block follows.
    pub(crate) const fn parent(&self) -> Parent {
        self.parent
    }

    /// Reads an entry; `T` is what [`StateKey`] names.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn read<T: Serialize + DeserializeOwned>(&self, key: &StateKey) -> Result<Option<T>, StateError> {
        state::read(self, key)
    }

    /// Reads an entry that every ledger has.
    ///
    /// # Errors
    /// [`StateError`]; also when it is not there.
    pub fn must<T: Serialize + DeserializeOwned>(&self, key: &StateKey) -> Result<T, StateError> {
        self.read(key)?.ok_or(StateError::Damaged { key: *key })
    }

    /// Whose the record is; none when there is no such record.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn owner_of(&self, record: RecordId) -> Result<Option<MemberId>, StateError> {
        let entry: Option<RecordEntry> = self.read(&StateKey::Record(record))?;
        Ok(entry.map(|entry| entry.owner))
    }

    /// What the consortium agreed on.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn consortium(&self) -> Result<ConsortiumEntry, StateError> {
        self.must(&StateKey::Consortium)
    }

    /// The block at a height; none at 0.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn block(&self, height: Height) -> Result<Option<Block>, LedgerError> {
        // Framing around the transactions of a largest block.
        decode(&self.blocks, height, BLOCK_BYTES_MAX + (64 << 10))
    }

    /// The certificate at a height; none at 0.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn certificate(&self, height: Height) -> Result<Option<Certificate>, LedgerError> {
        decode(&self.certificates, height, CERTIFICATE_BYTES_MAX)
    }

    /// Blocks after `from` that changed the validators, at most `limit`, and whether there are more.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn handovers(&self, from: Height, limit: usize) -> Result<(Vec<Handover>, bool), LedgerError> {
        let mut found = Vec::new();
        for row in self.handovers.range(from.0.saturating_add(1)..).map_err(boxed)? {
            if found.len() == limit {
                return Ok((found, true));
            }
            let (height, next) = row.map_err(boxed)?;
            let height = Height(height.value());
            let damaged = || LedgerError::Damaged { height };
            let header = self.block(height)?.ok_or_else(damaged)?.header;
            let certificate = self.certificate(height)?.ok_or_else(damaged)?;
            let next = codec::decode(next.value(), state::ENTRY_BYTES_MAX).map_err(|_| damaged())?;
            found.push(Handover { header, certificate, next });
        }
        Ok((found, false))
    }

    /// Items of a list from `from` to before `end`, as many as fit `bytes`.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn items(
        &self,
        list: ListKey,
        from: u64,
        end: u64,
        mut bytes: usize,
    ) -> Result<Vec<Vec<u8>>, LedgerError> {
        let mut items = Vec::new();
        let (from, end) = (list.item_key(from), list.item_key(end));
        if from >= end {
            return Ok(items);
        }
        for row in self.items.range(from.as_slice()..end.as_slice()).map_err(boxed)? {
            let item = row.map_err(boxed)?.1.value().to_vec();
            match bytes.checked_sub(item.len()) {
                Some(left) => bytes = left,
                None => break,
            }
            items.push(item);
        }
        Ok(items)
    }

    /// Entries whose keys begin with `tag` and 32 bytes after `after`, at most `limit`: ids in ascending order.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn ids(&self, tag: u8, after: Option<[u8; 32]>, limit: usize) -> Result<Vec<[u8; 32]>, LedgerError> {
        let mut from = vec![tag];
        from.extend(after.iter().flatten());
        if after.is_some() {
            from.push(0);
        }
        let mut ids = Vec::new();
        for row in self.entries.range(from.as_slice()..[tag + 1].as_slice()).map_err(boxed)? {
            let (key, _) = row.map_err(boxed)?;
            if let Ok(id) = <[u8; 32]>::try_from(&key.value()[1..]) {
                ids.push(id);
            }
            if ids.len() == limit {
                break;
            }
        }
        Ok(ids)
    }
}

fn decode<T: Serialize + DeserializeOwned>(
    table: &ReadOnlyTable<u64, Bytes>,
    height: Height,
    limit: usize,
) -> Result<Option<T>, LedgerError> {
    let Some(bytes) = table.get(height.0).map_err(boxed)? else { return Ok(None) };
    codec::decode(bytes.value(), limit).map(Some).map_err(|_| LedgerError::Damaged { height })
}
