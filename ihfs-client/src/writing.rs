//! Writing a record: everything that one commit seals, uploads and anchors.
//!
//! Order of writes: chunks durable on the replicas (their receipts) → key shares with custodians → one
//! transaction. Until that transaction is final nothing of the commit can be seen; after it, all of it.

use std::collections::BTreeSet;
use std::time::Duration;

use ihfs_core::codec;
use ihfs_core::ids::{ChunkId, Epoch, FileId, GrantId, RecordId, Time, Version};
use ihfs_core::ledger::operation::{Anchor, CreateRecord, Operation, Rotate};
use ihfs_core::ledger::state::{EpochEntry, MemberEntry, StateKey};
use ihfs_core::ledger::transaction::{OPERATIONS_MAX, TRANSACTION_BYTES_MAX};
use ihfs_core::sealed::{PackWriter, Sealer};
use ihfs_core::tree::TreeError;
use ihfs_core::tree::edit::{EditError, TreeEdit};
use ihfs_core::tree::entry::{Content, Item, Metadata, Mode, Moment};
use ihfs_core::tree::folder::Folder;
use ihfs_core::tree::root::{DeviceProgress, NestedVersions, Root, RootError};

use crate::client::{Client, now};
use crate::fetch::{FetchError, Fetcher};
use crate::issue::IssueError;
use crate::record::{Access, Record, RecordError};
use crate::submit::SubmitError;
use crate::upload::{UploadError, Uploader};
use crate::view::ViewError;

/// Most bytes of the operations of one transaction: what else stands in it takes less than 1 KiB.
const OPERATIONS_BYTES_MAX: usize = TRANSACTION_BYTES_MAX - (1 << 10);

/// Why a change was not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The record could not be opened.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Another device was faster: the change must be made again on its version.
    #[error("record {record:?} moved on to version {head} meanwhile")]
    Conflict {
        /// The record.
        record: RecordId,
        /// Its version now.
        head: Version,
    },
    /// Access was taken from somebody meanwhile: everything must be sealed again under the new epoch.
    #[error("record {record:?} is in epoch {live} now")]
    EpochMoved {
        /// The record.
        record: RecordId,
        /// Its epoch now.
        live: Epoch,
    },
    /// The record is shared for reading only.
    #[error("record {record:?} is shared with you for reading only")]
    ReadOnly {
        /// The record.
        record: RecordId,
    },
    /// The tree does not take the change.
    #[error(transparent)]
    Edit(#[from] EditError<FetchError>),
    /// A page could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError<FetchError>),
    /// The new root is too large.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The chunks did not become durable.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// Grants could not be issued again.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The ledger did not take it.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The ledger's word was not had.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// A record while it is being written.
pub struct Writing {
    pub(crate) record: Record,
    /// Seals under the epoch that the new version will be in.
    pub(crate) sealer: Sealer,
    pub(crate) uploader: Uploader,
    /// Operations that come before the anchor: the record's creation or a due rotation.
    before: Vec<Operation>,
    /// Random bytes of the transaction: they salt an epoch that it opens.
    random: [u8; 32],
    epoch: Epoch,
    /// First ids of grants that end before the anchor: they are not issued again.
    ending: BTreeSet<GrantId>,
    /// How far each device's journal is in; as in the version before, unless a merge says otherwise.
    devices: Option<Vec<DeviceProgress>>,
}

/// What a commit came to.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Committed {
    /// The version that is now the newest.
    pub version: u64,
    /// Bytes that crossed the network.
    pub sent_bytes: u64,
    /// Bytes that the version adds to what is stored.
    pub added_bytes: u64,
}

/// What the ledger is asked for in one commit.
pub(crate) struct Prepared {
    pub(crate) operations: Vec<Operation>,
    pub(crate) committed: Committed,
    pub(crate) record: RecordId,
    /// The live epoch and the newest version when it was prepared.
    pub(crate) live: Epoch,
    pub(crate) base: Version,
}

impl Client {
    /// Begins to write a record that exists.
    pub(crate) fn write_record(&self, record: Record) -> Result<Writing, CommitError> {
        self.write_record_salted(record, rand::random())
    }

    /// Begins to write a second record in the transaction of `with`.
    pub(crate) fn write_record_with(&self, with: &Writing, record: Record) -> Result<Writing, CommitError> {
        self.write_record_salted(record, with.random)
    }

    /// Begins to write a record in the transaction with these random bytes.
    pub(crate) fn write_record_salted(
        &self,
        record: Record,
        random: [u8; 32],
    ) -> Result<Writing, CommitError> {
        if let Access::Reader(grant) = &record.access {
            if !grant.entry.conditions.write {
                return Err(CommitError::ReadOnly { record: record.id });
            }
            if grant.entry.epoch != record.epoch() {
                return Err(CommitError::EpochMoved { record: record.id, live: record.epoch() });
            }
        } else if self.must_rotate(&record) {
            // Whoever opened a grant that has expired still holds the live key.
            return self.write_rotated_salted(record, random);
        }
        let epoch = record.epoch();
        self.writing(record, Vec::new(), random, epoch)
    }

    /// Begins to write a record in a new epoch: who could read it before reads nothing of what follows.
    pub(crate) fn write_rotated(&self, record: Record) -> Result<Writing, CommitError> {
        self.write_rotated_salted(record, rand::random())
    }

    fn write_rotated_salted(&self, mut record: Record, random: [u8; 32]) -> Result<Writing, CommitError> {
        let epoch = record.epoch().next();
        self.open_epoch(&mut record, epoch, &random)?;
        let rotate = Operation::Rotate(Rotate { record: record.id });
        self.writing(record, vec![rotate], random, epoch)
    }

    /// Begins to write a record in an epoch that ends of grants open in the same transaction, before its anchor.
    pub(crate) fn write_after_ends(
        &self,
        mut record: Record,
        random: [u8; 32],
        epoch: Epoch,
        ending: BTreeSet<GrantId>,
    ) -> Result<Writing, CommitError> {
        self.open_epoch(&mut record, epoch, &random)?;
        let writing = self.writing(record, Vec::new(), random, epoch)?;
        Ok(Writing { ending, ..writing })
    }

    /// Begins to write a record that the same transaction creates.
    pub(crate) fn write_new_record(&self, nonce: [u8; 32]) -> Result<Writing, CommitError> {
        let random = rand::random();
        let mut record = self.own_record(RecordId::of(self.member(), &nonce))?;
        self.open_epoch(&mut record, Epoch(0), &random)?;
        let create = Operation::CreateRecord(CreateRecord { nonce });
        self.writing(record, vec![create], random, Epoch(0))
    }

    /// A second record in the transaction of `with`: its epoch is salted by the same random bytes.
    pub(crate) fn write_new_record_with(
        &self,
        with: &Writing,
        nonce: [u8; 32],
    ) -> Result<Writing, CommitError> {
        let mut record = self.own_record(RecordId::of(self.member(), &nonce))?;
        self.open_epoch(&mut record, Epoch(0), &with.random)?;
        let create = Operation::CreateRecord(CreateRecord { nonce });
        self.writing(record, vec![create], with.random, Epoch(0))
    }

    fn writing(
        &self,
        mut record: Record,
        before: Vec<Operation>,
        random: [u8; 32],
        epoch: Epoch,
    ) -> Result<Writing, CommitError> {
        let sealer = self.sealer(&mut record, epoch)?;
        let nonce = before.iter().find_map(|operation| match operation {
            Operation::CreateRecord(create) => Some(create.nonce),
            _ => None,
        });
        let uploader = Uploader::new(self.link.clone(), record.id, nonce, record.replicas.clone());
        let (ending, devices) = (BTreeSet::new(), None);
        Ok(Writing { record, sealer, uploader, before, random, epoch, ending, devices })
    }

    fn must_rotate(&self, record: &Record) -> bool {
        let time = now().max(self.view.trust().time);
        record.lists.and_then(|lists| lists.opened_until).is_some_and(|until| until <= time)
    }

    /// The entry that an epoch will have once the transaction with these random bytes opens it.
    fn open_epoch(&self, record: &mut Record, epoch: Epoch, random: &[u8; 32]) -> Result<(), CommitError> {
        let member: MemberEntry = self
            .view
            .entry(StateKey::Member(self.member()))?
            .ok_or(RecordError::Unknown { record: record.id })?;
        let salt = EpochEntry::salt(random, record.id, epoch);
        let trust = self.view.trust();
        let (generation, base) = (member.generation, record.version());
        let entry = EpochEntry { generation, salt, base, height: trust.height, time: trust.time };
        record.set_epoch(epoch, entry);
        Ok(())
    }

    /// Seals, uploads and anchors the changes of `edit`.
    pub(crate) fn commit(
        &self,
        writing: Writing,
        edit: &TreeEdit<Fetcher>,
        sources: &[RecordId],
    ) -> Result<Committed, CommitError> {
        let random = writing.random;
        let prepared = self.prepare(writing, edit, sources)?;
        self.submit_prepared(random, vec![prepared]).map(|committed| committed[0])
    }

    /// Seals and uploads the changes of `edit`; what is left is the transaction.
    pub(crate) fn prepare(
        &self,
        writing: Writing,
        edit: &TreeEdit<Fetcher>,
        sources: &[RecordId],
    ) -> Result<Prepared, CommitError> {
        let Writing { record, sealer, mut uploader, before, epoch, ending, devices, .. } = writing;
        let (live, base) = (record.epoch(), record.version());
        let mut pages = PackWriter::new(&sealer);
        let written = edit.write(&mut pages)?;
        for pack in pages.take_closed() {
            uploader.push(pack)?;
        }
        let root = Root {
            record: record.id,
            version: base.next(),
            top: written.top,
            nested: written.nested,
            devices: devices.unwrap_or_else(|| edit.base().devices.clone()),
            written: now(),
        };
        let (_, root) = sealer.seal_root(base.next(), &root.encode()?);
        let root_id = root.id();
        let uploaded = uploader.finish(self.chain(), root, sources)?;
        let grant = match &record.access {
            Access::Owner => None,
            Access::Reader(grant) => Some(grant.id),
        };
        let anchor = Anchor {
            record: record.id,
            epoch,
            base,
            root: root_id,
            delta: uploaded.delta,
            bytes_added: uploaded.added_bytes,
            bytes_dropped: uploaded.dropped_bytes,
            grant,
            receipts: uploaded.receipts,
        };
        let mut operations = before;
        operations.push(Operation::Anchor(anchor));
        if grant.is_none() {
            operations.extend(self.reissue(record.clone(), epoch, &ending)?);
        }
        let committed = Committed {
            version: base.next().0,
            sent_bytes: uploaded.sent_bytes,
            added_bytes: uploaded.added_bytes,
        };
        Ok(Prepared { operations, committed, record: record.id, live, base })
    }

    /// Has several prepared commits, and what goes with them, applied in one transaction.
    pub(crate) fn submit_prepared(
        &self,
        random: [u8; 32],
        prepared: Vec<Prepared>,
    ) -> Result<Vec<Committed>, CommitError> {
        let operations = prepared.iter().flat_map(|prepared| prepared.operations.clone()).collect();
        match self.submit_signed(&self.sign(random, operations)) {
            Ok(_) => Ok(prepared.iter().map(|prepared| prepared.committed).collect()),
            Err(SubmitError::Refused(refusal)) => {
                for prepared in &prepared {
                    self.say_what_moved(prepared)?;
                }
                Err(SubmitError::Refused(refusal).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Has several prepared commits applied in their order, in as few transactions as they fit.
    pub(crate) fn submit_in_few(
        &self,
        random: [u8; 32],
        prepared: Vec<Prepared>,
    ) -> Result<Vec<Committed>, CommitError> {
        let mut committed = Vec::new();
        let mut together = Vec::new();
        let mut room = Room::default();
        for prepared in prepared {
            if !room.take(&prepared) {
                committed.extend(self.submit_prepared(random, std::mem::take(&mut together))?);
                room = Room::default();
                room.take(&prepared);
            }
            together.push(prepared);
        }
        committed.extend(self.submit_prepared(random, together)?);
        Ok(committed)
    }

    /// A refused anchor is a lost race when the record is no longer where the commit began.
    fn say_what_moved(&self, prepared: &Prepared) -> Result<(), CommitError> {
        let record = prepared.record;
        let entry: Option<ihfs_core::ledger::state::RecordEntry> =
            self.view.entry(StateKey::Record(record)).map_err(RecordError::from)?;
        let Some(entry) = entry else { return Ok(()) };
        if entry.epoch != prepared.live {
            return Err(CommitError::EpochMoved { record, live: entry.epoch });
        }
        let head = entry.head.map_or(Version(0), |head| head.version);
        if head != prepared.base { Err(CommitError::Conflict { record, head }) } else { Ok(()) }
    }
}

/// What commits take of one transaction.
#[derive(Default)]
struct Room {
    commits: usize,
    operations: usize,
    bytes: usize,
}

impl Room {
    /// Takes what a commit needs, unless that is no longer there. The first one always fits: if it is too large,
    /// the ledger says so.
    fn take(&mut self, prepared: &Prepared) -> bool {
        let bytes: usize = prepared.operations.iter().map(|operation| codec::encode(operation).len()).sum();
        let (operations, bytes) = (self.operations + prepared.operations.len(), self.bytes + bytes);
        if self.commits > 0 && (operations > OPERATIONS_MAX || bytes > OPERATIONS_BYTES_MAX) {
            return false;
        }
        *self = Self { commits: self.commits + 1, operations, bytes };
        true
    }
}

impl Writing {
    /// The random bytes that the transaction must have.
    pub(crate) const fn random(&self) -> [u8; 32] {
        self.random
    }

    /// The epoch that the new version will be in.
    pub(crate) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Notes how far each device's journal is in.
    pub(crate) fn set_devices(&mut self, devices: Vec<DeviceProgress>) {
        self.devices = Some(devices);
    }

    /// Lets a pinned chunk go. Only the owner may.
    pub(crate) fn drop_chunk(&mut self, chunk: ChunkId, size_bytes: u32) {
        self.uploader.drop_chunk(chunk, size_bytes);
    }

    /// Names a chunk that stands under another record of the same owner.
    pub(crate) fn reuse(&mut self, chunk: ChunkId, size_bytes: u32) {
        self.uploader.reuse(chunk, size_bytes);
    }
}

/// The root of a record before its first version: an empty folder.
pub(crate) fn empty_root(record: RecordId) -> Root {
    Root {
        record,
        version: Version(0),
        top: new_item(Content::Folder(Folder::EMPTY), made_now(0o700)),
        nested: NestedVersions::EMPTY,
        devices: Vec::new(),
        written: Time(0),
    }
}

/// What is known of something that this device makes now.
pub(crate) fn made_now(mode: u32) -> Metadata {
    let since = Duration::from_millis(now().0);
    let moment = Moment::new(since.as_secs().cast_signed(), since.subsec_nanos()).unwrap_or_default();
    let mode = Mode::from_stat(mode);
    Metadata { mode, modified: moment, changed: moment, born: Some(moment), ..Metadata::default() }
}

/// An item with a new random id.
pub(crate) fn new_item(content: Content, metadata: Metadata) -> Item {
    Item { id: FileId(rand::random()), content, metadata }
}
