//! Opening records: the keys that this member may derive or was given, and the tree under a head.

use std::collections::BTreeMap;
use std::sync::Arc;

use ihfs_core::codec::DecodeError;
use ihfs_core::crypto::derive::{RecordKey, RootKey};
use ihfs_core::grants::GrantedKey;
use ihfs_core::ids::{ChunkId, Epoch, Generation, GrantId, MemberId, NodeId, RecordId, Version};
use ihfs_core::ledger::state::{EpochEntry, GrantEntry, Head, RecordEntry, RecordLists, StateKey};
use ihfs_core::sealed::{OpenError, SealedChunk, Sealer, Source};
use ihfs_core::tree::reader::TreeReader;
use ihfs_core::tree::root::{Root, RootError};
use ihfs_core::tree::{ChunkSource, TreeError};
use ihfs_proto::ledger::Reason;

use crate::client::{Client, Places};
use crate::fetch::{FetchError, Fetcher};
use crate::link::AskError;
use crate::view::{ViewError, decode_entry};

/// Why a record was not opened.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The ledger's word was not had.
    #[error(transparent)]
    View(ViewError),
    /// Nodes show the record no longer: the grant on it ended or expired.
    #[error("record {record:?} is no longer shared with you")]
    NoLongerShared {
        /// The record.
        record: RecordId,
    },
    /// The ledger knows no such record.
    #[error("the ledger knows no record {record:?}")]
    Unknown {
        /// The record.
        record: RecordId,
    },
    /// The record belongs to somebody else and no grant of it is open.
    #[error("record {record:?} belongs to another member")]
    NotOwn {
        /// The record.
        record: RecordId,
    },
    /// This device has not the secrets of that generation: it was removed, or is not yet up to date.
    #[error("this device has no secrets of generation {generation}")]
    NoGeneration {
        /// The generation.
        generation: Generation,
    },
    /// The grant opens one version alone, and that is another.
    #[error("the grant opens version {granted} alone")]
    OtherVersion {
        /// The version that it opens.
        granted: Version,
    },
    /// The record was written again after the grant's key ended: the owner's device must re-issue the grant.
    #[error("record {record:?} has no version that this grant's key opens")]
    NotReadable {
        /// The record.
        record: RecordId,
    },
    /// A chunk was not had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A chunk did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The root is malformed.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A tree page is malformed or was not had.
    #[error(transparent)]
    Tree(#[from] TreeError<FetchError>),
}

impl From<ViewError> for RecordError {
    fn from(error: ViewError) -> Self {
        error.not_shared().map_or(Self::View(error), |record| Self::NoLongerShared { record })
    }
}

/// How this member may read a record.
#[derive(Clone, Debug)]
pub enum Access {
    /// It is the member's own.
    Owner,
    /// By a grant.
    Reader(Arc<OpenGrant>),
}

/// A grant whose key this device holds in memory.
#[derive(Debug)]
pub struct OpenGrant {
    /// Its id.
    pub id: GrantId,
    /// The ledger's entry.
    pub entry: GrantEntry,
    /// The key.
    pub key: GrantedKey,
}

/// A record with its ledger entry and its chunks.
#[derive(Clone)]
pub struct Record {
    /// Its id.
    pub id: RecordId,
    /// The ledger's entry; none before it is created.
    pub entry: Option<RecordEntry>,
    /// Who was given it and who opened it; none before it is created, and none for a reader.
    pub lists: Option<RecordLists>,
    /// How this member reads it.
    pub access: Access,
    /// The nodes that keep it.
    pub replicas: Vec<NodeId>,
    /// Its chunks.
    pub chunks: Fetcher,
    epochs: BTreeMap<Epoch, EpochEntry>,
}

/// The bytes of an entry, if there is one.
type EntryBytes = Option<Vec<u8>>;

/// One version of a record, open for reading.
pub type OpenTree = TreeReader<Fetcher>;

impl Client {
    /// The member's own record, which need not exist yet.
    pub(crate) fn own_record(&self, id: RecordId) -> Result<Record, RecordError> {
        let keys = [StateKey::Record(id), StateKey::RecordLists(id)];
        let ([entry, lists], places) = self.entries_and_places(keys).map_err(|error| not_own(id, error))?;
        let entry: Option<RecordEntry> = decode_entry(entry)?;
        let lists = decode_entry(lists)?;
        let owner = entry.as_ref().map_or(self.member(), |entry| entry.owner);
        if owner != self.member() {
            return Err(RecordError::NotOwn { record: id });
        }
        let home = entry.as_ref().and_then(|entry| entry.home);
        let replicas = places.replicas(id, home);
        let chunks = Fetcher::new(&self.link, id, replicas.clone());
        let mut record =
            Record { id, entry, lists, access: Access::Owner, replicas, chunks, epochs: BTreeMap::new() };
        self.load_epochs(&mut record)?;
        Ok(record)
    }

    /// A record that somebody shared, through a grant that is open.
    pub(crate) fn shared_record(&self, grant: Arc<OpenGrant>) -> Result<Record, RecordError> {
        let id = grant.entry.conditions.record;
        let ([entry], places) = self.entries_and_places([StateKey::Record(id)])?;
        let entry: RecordEntry = decode_entry(entry)?.ok_or(RecordError::Unknown { record: id })?;
        let replicas = places.replicas(id, entry.home);
        let chunks = Fetcher::new(&self.link, id, replicas.clone());
        let access = Access::Reader(grant);
        let entry = Some(entry);
        Ok(Record { id, entry, lists: None, access, replicas, chunks, epochs: BTreeMap::new() })
    }

    /// Entries about a record and who keeps records, proved by one block in one round trip.
    fn entries_and_places<const N: usize>(
        &self,
        keys: [StateKey; N],
    ) -> Result<([EntryBytes; N], Places), ViewError> {
        let keys: Vec<StateKey> =
            keys.into_iter().chain([StateKey::Consortium, StateKey::Placement]).collect();
        let mut entries = self.view.entries(&keys)?;
        let placement = decode_entry(entries.pop().flatten())?.ok_or(missing())?;
        let consortium = decode_entry(entries.pop().flatten())?.ok_or(missing())?;
        let entries = entries.try_into().map_err(|_| missing())?;
        Ok((entries, Places { placement, consortium }))
    }

    fn load_epochs(&self, record: &mut Record) -> Result<(), RecordError> {
        let Some(entry) = &record.entry else { return Ok(()) };
        let mut wanted = vec![entry.epoch];
        wanted.extend(entry.head.map(|head| head.epoch).filter(|epoch| *epoch != entry.epoch));
        for epoch in wanted {
            self.epoch(record, epoch)?;
        }
        Ok(())
    }

    /// The entry of one epoch, kept for the next question.
    fn epoch(&self, record: &mut Record, epoch: Epoch) -> Result<EpochEntry, RecordError> {
        if let Some(entry) = record.epochs.get(&epoch) {
            return Ok(*entry);
        }
        let entry: EpochEntry = self
            .view
            .entry(StateKey::Epoch(record.id, epoch))?
            .ok_or(RecordError::Unknown { record: record.id })?;
        record.epochs.insert(epoch, entry);
        Ok(entry)
    }

    /// The record key of one epoch, derived by the owner or given to the reader.
    pub(crate) fn record_key(&self, record: &mut Record, epoch: Epoch) -> Result<RecordKey, RecordError> {
        let entry = self.epoch(record, epoch)?;
        self.own_key(record.id, epoch, &entry)
    }

    /// The key that a member's own record has in an epoch with this entry.
    pub(crate) fn own_key(
        &self,
        record: RecordId,
        epoch: Epoch,
        entry: &EpochEntry,
    ) -> Result<RecordKey, RecordError> {
        let generation = entry.generation;
        let secrets = self.keys.generation(generation).ok_or(RecordError::NoGeneration { generation })?;
        Ok(secrets.vault.record_key(record, epoch, entry.salt))
    }

    /// What seals for the record in one epoch. A reader has the epoch of his grant alone.
    pub(crate) fn sealer(&self, record: &mut Record, epoch: Epoch) -> Result<Sealer, RecordError> {
        match record.access.clone() {
            Access::Owner => {
                let key = self.record_key(record, epoch)?;
                Ok(Sealer::new(record.id, epoch, &key))
            }
            Access::Reader(grant) => match &grant.key {
                GrantedKey::Record(key) if grant.entry.epoch == epoch => {
                    Ok(Sealer::new(record.id, epoch, key))
                }
                _ => Err(RecordError::NotReadable { record: record.id }),
            },
        }
    }

    /// The newest version that this member may read; none when nothing was written yet.
    pub(crate) fn open_head(&self, record: &mut Record) -> Result<Option<OpenTree>, RecordError> {
        let Some(head) = record.entry.as_ref().and_then(|entry| entry.head) else { return Ok(None) };
        match record.access.clone() {
            Access::Owner => self.open_version(record, head.version, head.epoch, head.root).map(Some),
            Access::Reader(grant) => self.open_granted_head(record, &grant, head).map(Some),
        }
    }

    /// A reader sees the newest version that was sealed in the epoch of his grant.
    fn open_granted_head(
        &self,
        record: &mut Record,
        grant: &OpenGrant,
        head: Head,
    ) -> Result<OpenTree, RecordError> {
        let snapshot = grant.entry.conditions.snapshot;
        if head.epoch == grant.entry.epoch && snapshot.is_none_or(|version| version == head.version) {
            return self.open_version(record, head.version, head.epoch, head.root);
        }
        let fits = |item: &ihfs_core::ledger::state::VersionItem| match snapshot {
            Some(version) => item.version == version,
            None => item.epoch == grant.entry.epoch,
        };
        let versions = self.versions(record)?;
        let item = versions
            .iter()
            .rev()
            .find(|item| fits(item))
            .ok_or(RecordError::NotReadable { record: record.id })?;
        self.open_version(record, item.version, item.epoch, item.root)
    }

    /// Every version of the record, proved complete.
    pub(crate) fn versions(
        &self,
        record: &Record,
    ) -> Result<Vec<ihfs_core::ledger::state::VersionItem>, RecordError> {
        let Some(entry) = &record.entry else { return Ok(Vec::new()) };
        let key = ihfs_core::ledger::lists::ListKey::Versions(record.id);
        Ok(self.view.items(key, Default::default(), entry.versions)?)
    }

    /// One version, by the root that the ledger names for it.
    pub(crate) fn open_version(
        &self,
        record: &mut Record,
        version: Version,
        epoch: Epoch,
        root: ChunkId,
    ) -> Result<OpenTree, RecordError> {
        let chunk = record.chunks.chunk(root)?;
        let plaintext = match record.access.clone() {
            Access::Owner => chunk.open_root(&self.derived_root_key(record, epoch, &chunk)?)?,
            Access::Reader(grant) => match &grant.key {
                GrantedKey::Snapshot(key) => chunk.open_root(key)?,
                GrantedKey::Record(_) => {
                    let key = self.derived_root_key(record, epoch, &chunk)?;
                    chunk.open_root(&key)?
                }
            },
        };
        let root = Root::decode(&plaintext, record.id, version)?;
        Ok(TreeReader::new(root, record.chunks.clone()))
    }

    fn derived_root_key(
        &self,
        record: &mut Record,
        epoch: Epoch,
        chunk: &SealedChunk,
    ) -> Result<RootKey, RecordError> {
        let sealer = self.sealer(record, epoch)?;
        Ok(chunk.root_key(sealer.secrets())?)
    }

    /// The root key of the head, for a grant of that version alone.
    pub(crate) fn head_root_key(&self, record: &mut Record, head: Head) -> Result<RootKey, RecordError> {
        let chunk = record.chunks.chunk(head.root)?;
        self.derived_root_key(record, head.epoch, &chunk)
    }
}

/// Sealers by what they seal under, made when first asked for: old pieces are compared under their own.
pub(crate) struct Sealers<'a> {
    client: &'a Client,
    record: Record,
    made: BTreeMap<Source, Option<Sealer>>,
}

impl<'a> Sealers<'a> {
    pub(crate) const fn new(client: &'a Client, record: Record) -> Self {
        Self { client, record, made: BTreeMap::new() }
    }

    /// The sealer of `source`; none where this member cannot derive it, as for pieces of another owner's.
    pub(crate) fn get(&mut self, source: Source) -> Option<&Sealer> {
        if !self.made.contains_key(&source) {
            let sealer = self.make(source);
            self.made.insert(source, sealer);
        }
        self.made[&source].as_ref()
    }

    fn make(&mut self, source: Source) -> Option<Sealer> {
        if source.record == self.record.id {
            return self.client.sealer(&mut self.record, source.epoch).ok();
        }
        // A piece that was split out stands under the record that it came from.
        let mut other = self.client.own_record(source.record).ok()?;
        self.client.sealer(&mut other, source.epoch).ok()
    }
}

impl Record {
    /// The live epoch; 0 before the record exists.
    pub fn epoch(&self) -> Epoch {
        self.entry.as_ref().map_or(Epoch(0), |entry| entry.epoch)
    }

    /// The newest version; 0 before there is one.
    pub fn version(&self) -> Version {
        self.entry.as_ref().and_then(|entry| entry.head).map_or(Version(0), |head| head.version)
    }

    /// Whose it is, where the ledger says so.
    pub fn owner(&self) -> Option<MemberId> {
        self.entry.as_ref().map(|entry| entry.owner)
    }

    /// Notes the epoch of a record that is about to be created.
    pub(crate) fn set_epoch(&mut self, epoch: Epoch, entry: EpochEntry) {
        self.epochs.insert(epoch, entry);
    }
}

/// Nodes show what only an owner sees to nobody else.
fn not_own(record: RecordId, error: ViewError) -> RecordError {
    match &error {
        ViewError::Ask(AskError::Refused(refusal))
            if matches!(refusal.reason, Reason::NotAllowed | Reason::NoGrant) =>
        {
            RecordError::NotOwn { record }
        }
        _ => RecordError::View(error),
    }
}

fn missing() -> ViewError {
    ViewError::Decode(DecodeError::Malformed)
}
