//! Versions of a record: what stood at a path in each, bringing one back, and letting old ones go.
//!
//! Bringing back reuses refs: nothing is uploaded but tree pages. Letting go anchors a delta that drops every
//! chunk that no kept version needs; nodes then collect them. Roots and deltas stay, so that the history remains
//! provably complete; they are small. Packs are not rewritten: one is dropped when nothing in it is needed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ihfs_core::ids::{ChunkId, Epoch, FileId, RecordId, Time, Version};
use ihfs_core::ledger::state::VersionItem;
use ihfs_core::pins::{Delta, DeltaError, DeltaReader};
use ihfs_core::sealed::SealedChunk;
use ihfs_core::tree::edit::TreeEdit;
use ihfs_core::tree::entry::{Content, Entry, Item, NestedRecord};
use ihfs_core::tree::folder::Folder;
use ihfs_core::tree::name::Name;
use ihfs_core::tree::reader::TreeReader;
use ihfs_core::tree::root::{NestedVersions, Root};
use ihfs_core::tree::{ChunkSource, Found, TreeError};
use ihfs_proto::ledger::Reason;

use crate::change::{ChangeError, nested_below, subtree, told};
use crate::client::{Client, now};
use crate::fetch::{FetchError, Fetcher, PREFETCH_MAX};
use crate::link::AskError;
use crate::list::{Kind, kind};
use crate::location::Location;
use crate::nesting::{Ends, as_reissued};
use crate::record::{Access, OpenTree, Record, RecordError};
use crate::resolve::{ResolveError, Spot};
use crate::retry::{LostRace, again};
use crate::view::ViewError;
use crate::writing::{CommitError, Committed, Writing, new_item};

/// Entries of a folder that are read at once.
const PAGE_ENTRIES: usize = 256;

/// Why a version was not told, brought back or let go.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The location was not found.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A record could not be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The ledger's word was not had.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The change was not made.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The change was not committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// What a version added could not be read.
    #[error(transparent)]
    Delta(#[from] DeltaError),
    /// The record has no such version.
    #[error("record {record:?} has no version {version}")]
    NoSuchVersion {
        /// The record.
        record: RecordId,
        /// The version asked for.
        version: Version,
    },
    /// The version was written under keys that this member does not have.
    #[error("version {version} is of epoch {epoch}, whose key this device does not have")]
    NoKey {
        /// The version.
        version: Version,
        /// Its epoch.
        epoch: Epoch,
    },
    /// The owner let the version go.
    #[error("version {version} is no longer kept")]
    Pruned {
        /// The version.
        version: Version,
    },
    /// Nothing stood there then.
    #[error("{location}: nothing stood there in version {version}")]
    NotThere {
        /// The location.
        location: Location,
        /// The version.
        version: Version,
    },
    /// A record nested below it stands elsewhere now: one record stands in one place.
    #[error("record {record:?}, which stood below it, stands elsewhere now")]
    NestedElsewhere {
        /// The nested record.
        record: RecordId,
    },
    /// Something below it was shared since: bringing the old version back would take it from its readers.
    #[error("record {record:?} inside it was shared since; move or remove it first")]
    SharedSince {
        /// The nested record.
        record: RecordId,
    },
    /// The newest version needs chunks that are not pinned: nothing is let go on such grounds.
    #[error("the newest version of record {record:?} needs chunks that are not pinned")]
    NotWhole {
        /// The record.
        record: RecordId,
    },
    /// Only the owner lets versions go.
    #[error("only the owner of record {record:?} prunes it")]
    OnlyOwner {
        /// The record.
        record: RecordId,
    },
}

/// Whether a version can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionState {
    /// The path stood there.
    Present,
    /// The path did not stand there.
    Absent,
    /// It was let go, or its chunks are nowhere to be had.
    Pruned,
    /// It is of an epoch whose key this member does not have.
    NoKey,
}

/// One version of a record.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct VersionReport {
    /// Its number.
    pub version: u64,
    /// Time of its block, milliseconds since 1970.
    pub time: u64,
    /// Id of the member who made it.
    pub author: String,
    /// Id of the device that made it.
    pub device: String,
    /// The epoch of its keys.
    pub epoch: u32,
    /// Bytes that it added to what is stored.
    pub bytes_added: u64,
    /// Bytes that it let go.
    pub bytes_dropped: u64,
    /// Whether the path can be read in it.
    pub state: VersionState,
    /// What stood at the path.
    pub kind: Option<Kind>,
    /// Bytes of a file at the path.
    pub size: Option<u64>,
    /// Whether what stood at the path differs from the version before, as far as both can be read.
    pub changed: bool,
}

/// What bringing back came to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RestoreReport {
    /// The version that was brought back.
    pub restored: u64,
    /// The version that has it now; none when it stood there unchanged.
    pub version: Option<u64>,
    /// Bytes that crossed the network.
    pub sent_bytes: u64,
}

/// Which versions are kept. The newest always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// This many of the newest.
    Last(u64),
    /// Those that are not older.
    Within(Duration),
}

/// What letting go came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PruneReport {
    /// The record that was pruned: the one that holds the location, without those nested in it.
    pub record: String,
    /// The version that drops the chunks; none when there was nothing to drop.
    pub version: Option<u64>,
    /// Versions that are kept.
    pub kept: Vec<u64>,
    /// Chunks that nodes may collect now.
    pub chunks_dropped: u64,
    /// Their bytes, on each node.
    pub bytes_freed: u64,
}

impl LostRace for HistoryError {
    fn is_lost_race(&self) -> bool {
        match self {
            Self::Commit(error) => error.is_lost_race(),
            Self::Change(error) => error.is_lost_race(),
            _ => false,
        }
    }
}

impl Client {
    /// Every version of the record that holds `at`, the oldest first, and what stood at the path in each. The
    /// list is proved complete. The path need not exist any more.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn history(&self, at: &Location) -> Result<Vec<VersionReport>, HistoryError> {
        let mut spot = self.resolve(at)?;
        let versions = self.versions(&spot.record)?;
        let pins = self.pins_if_dropped(&spot.record, &versions)?;
        let mut reports = Vec::with_capacity(versions.len());
        let mut before = None;
        for window in versions.chunks(PREFETCH_MAX) {
            spot.record.chunks.prefetch(window.iter().map(|item| item.root));
            for item in window {
                let (state, found) = self.look_back(&mut spot.record, item, &spot.path, pins.as_ref())?;
                let changed = found != before;
                reports.push(version_report(item, state, found.as_ref(), changed));
                before = found;
            }
        }
        Ok(reports)
    }

    /// What stood at `path` in a version.
    fn look_back(
        &self,
        record: &mut Record,
        version: &VersionItem,
        path: &[Name],
        pins: Option<&Pins>,
    ) -> Result<(VersionState, Option<Item>), HistoryError> {
        let found = self
            .open_version(record, version.version, version.epoch, version.root)
            .and_then(|tree| look_up_kept(&tree, path, pins));
        let found = match found {
            Ok(None) => return Ok((VersionState::Pruned, None)),
            Ok(Some(found)) => Ok(found),
            Err(error) => Err(error),
        };
        match found {
            Ok(Found::Item(item)) => Ok((VersionState::Present, Some(item))),
            Ok(Found::Crossing { item, rest }) if rest.is_empty() => Ok((VersionState::Present, Some(item))),
            Ok(Found::Missing { .. } | Found::NotAFolder { .. } | Found::Crossing { .. }) => {
                Ok((VersionState::Absent, None))
            }
            Err(error) if has_no_key(&error) => Ok((VersionState::NoKey, None)),
            Err(error) if is_gone(&error) => Ok((VersionState::Pruned, None)),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a new version in which `at` is again what it was in `version`. Content is reused where it is.
    ///
    /// # Errors
    /// [`HistoryError`]. A writer who is not the owner has the key of one epoch: [`HistoryError::NoKey`] for
    /// versions before it.
    pub fn restore(&self, at: &Location, version: Version) -> Result<RestoreReport, HistoryError> {
        again(|| self.restore_once(at, version))
    }

    fn restore_once(&self, at: &Location, version: Version) -> Result<RestoreReport, HistoryError> {
        let mut spot = self.resolve(at)?;
        let versions = self.versions(&spot.record)?;
        let old = self.open_old(&mut spot.record, &versions, version)?;
        let not_there = || HistoryError::NotThere { location: at.clone(), version };
        let pins = self.pins_if_dropped(&spot.record, &versions)?;
        let found = look_up_kept(&old, &spot.path, pins.as_ref());
        let found = found.map_err(|error| self.explain(error, version))?;
        let item = match found.ok_or(HistoryError::Pruned { version })? {
            Found::Item(item) => item,
            Found::Crossing { item, rest } if rest.is_empty() => item,
            _ => return Err(not_there()),
        };
        let mut edit = TreeEdit::new(spot.tree.root().clone(), spot.tree.source().clone());
        let mut report = RestoreReport { restored: version.0, version: None, sent_bytes: 0 };
        if !put_back(&mut edit, &spot, &old, &item, at)? {
            return Ok(report);
        }
        stay_attached(&edit, &spot)?;
        let writing = self.write_record(spot.record.clone())?;
        let attached = newly_nested(&spot.tree, &old, &item)?;
        let committed = self.commit_attached(writing, &edit, &attached)?;
        report.version = Some(committed.version);
        report.sent_bytes = committed.sent_bytes;
        Ok(report)
    }

    /// Commits an edit by which records stand in the tree again; readers of what holds them are granted them.
    fn commit_attached(
        &self,
        writing: Writing,
        edit: &TreeEdit<Fetcher>,
        attached: &[RecordId],
    ) -> Result<Committed, HistoryError> {
        let is_owner = matches!(writing.record.access, Access::Owner);
        if attached.is_empty() || !is_owner {
            return Ok(self.commit(writing, edit, &[])?);
        }
        let random = writing.random();
        let mut readers = self.readers_of(&writing.record)?;
        let mut prepared = vec![self.prepare(writing, edit, &[])?];
        as_reissued(&mut readers, &prepared[0].operations);
        self.move_grants(&mut prepared, attached, &readers, &Ends::default(), random)?;
        Ok(self.submit_prepared(random, prepared)?[0])
    }

    fn open_old(
        &self,
        record: &mut Record,
        versions: &[VersionItem],
        version: Version,
    ) -> Result<OpenTree, HistoryError> {
        let no_such = HistoryError::NoSuchVersion { record: record.id, version };
        let item = versions.iter().find(|item| item.version == version).ok_or(no_such)?;
        self.open_version(record, version, item.epoch, item.root).map_err(|error| {
            if has_no_key(&error) {
                HistoryError::NoKey { version, epoch: item.epoch }
            } else {
                self.explain(error, version)
            }
        })
    }

    fn explain(&self, error: RecordError, version: Version) -> HistoryError {
        if is_gone(&error) { HistoryError::Pruned { version } } else { error.into() }
    }

    /// What is pinned, if anything ever was let go.
    fn pins_if_dropped(
        &self,
        record: &Record,
        versions: &[VersionItem],
    ) -> Result<Option<Pins>, HistoryError> {
        let has_dropped = versions.iter().any(|item| item.bytes_dropped > 0);
        has_dropped.then(|| self.pins(record, versions)).transpose()
    }

    /// Lets go of every version of the record that holds `at` but those that `keep` says, the newest, and those
    /// that a live grant still reads.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn prune(&self, at: &Location, keep: Keep) -> Result<PruneReport, HistoryError> {
        again(|| self.prune_once(at, keep))
    }

    fn prune_once(&self, at: &Location, keep: Keep) -> Result<PruneReport, HistoryError> {
        let mut spot = self.resolve(at)?;
        if !matches!(spot.record.access, Access::Owner) {
            return Err(HistoryError::OnlyOwner { record: spot.record.id });
        }
        let versions = self.versions(&spot.record)?;
        let mut kept = keep.choose(&versions, now().max(self.view.trust().time));
        kept.extend(self.read_by_grants(&spot.record, &versions)?);
        let pins = self.pins(&spot.record, &versions)?;
        let (needed, kept) = self.needed(&mut spot.record, &versions, &kept, &pins)?;
        if kept.last() != versions.last().map(|item| &item.version) {
            return Err(HistoryError::NotWhole { record: spot.record.id });
        }
        let roots: BTreeSet<ChunkId> = versions.iter().map(|item| item.root).collect();
        let dropped: Vec<(ChunkId, u32)> = pins
            .pinned
            .iter()
            .filter(|(chunk, _)| !needed.contains(chunk) && !roots.contains(chunk))
            .map(|(chunk, size)| (*chunk, *size))
            .collect();
        let mut report = PruneReport {
            record: spot.record.id.to_string(),
            kept: kept.iter().map(|version| version.0).collect(),
            ..PruneReport::default()
        };
        if dropped.is_empty() {
            return Ok(report);
        }
        report.chunks_dropped = dropped.len() as u64;
        report.bytes_freed = dropped.iter().map(|(_, size)| u64::from(*size)).sum();
        let mut writing = self.write_record(spot.record.clone())?;
        dropped.into_iter().for_each(|(chunk, size)| writing.drop_chunk(chunk, size));
        let edit = TreeEdit::new(spot.tree.root().clone(), spot.tree.source().clone());
        report.version = Some(self.commit(writing, &edit, &[])?.version);
        Ok(report)
    }

    /// Versions that live grants read: a snapshot's own, and the newest of each epoch whose key a reader holds.
    fn read_by_grants(
        &self,
        record: &Record,
        versions: &[VersionItem],
    ) -> Result<BTreeSet<Version>, HistoryError> {
        let mut read = BTreeSet::new();
        for (_, grant) in self.live_grants(record)? {
            let newest = versions.iter().rev().find(|item| item.epoch == grant.epoch);
            read.extend(grant.conditions.snapshot.or(newest.map(|item| item.version)));
        }
        Ok(read)
    }

    /// The chunks that the kept versions need, and which of them are still whole: one that an earlier prune let
    /// go does not come back.
    fn needed(
        &self,
        record: &mut Record,
        versions: &[VersionItem],
        kept: &BTreeSet<Version>,
        pins: &Pins,
    ) -> Result<(BTreeSet<ChunkId>, Vec<Version>), HistoryError> {
        let (mut needed, mut whole) = (BTreeSet::new(), Vec::new());
        for item in versions.iter().filter(|item| kept.contains(&item.version)) {
            let tree = self.open_version(record, item.version, item.epoch, item.root)?;
            let (mut chunks, mut was_dropped) = (BTreeSet::new(), false);
            let walked = tree.for_each_chunk(&mut |chunk| {
                was_dropped |= !pins.pinned.contains_key(&chunk);
                chunks.insert(chunk);
            });
            match walked {
                Err(_) if was_dropped => continue,
                walked => walked.map_err(RecordError::from)?,
            }
            if !was_dropped {
                whole.push(item.version);
                needed.append(&mut chunks);
            }
        }
        Ok((needed, whole))
    }

    /// What is pinned after all versions, as nodes replay it.
    fn pins(&self, record: &Record, versions: &[VersionItem]) -> Result<Pins, HistoryError> {
        let mut pins = Pins::default();
        for window in versions.chunks(PREFETCH_MAX) {
            record.chunks.prefetch(window.iter().map(|item| item.delta));
            for item in window {
                let delta = read_delta(&record.chunks, item.delta)?;
                pins.apply(delta, Some(item.author) == record.owner());
            }
        }
        Ok(pins)
    }
}

/// The pins of a record.
#[derive(Default)]
struct Pins {
    /// Pinned now, with their stored bytes.
    pinned: BTreeMap<ChunkId, u32>,
}

/// Chunks of a record, and whether one was asked for that is let go. It may be there for a while yet.
struct Watched<'a> {
    chunks: &'a Fetcher,
    pins: &'a Pins,
    was_let_go: Cell<bool>,
}

impl ChunkSource for Watched<'_> {
    type Error = FetchError;

    fn chunk(&self, id: ChunkId) -> Result<Arc<SealedChunk>, FetchError> {
        self.was_let_go.set(self.was_let_go.get() || !self.pins.pinned.contains_key(&id));
        self.chunks.chunk(id)
    }
}

/// What stood at a path; none when something of it was let go.
fn look_up_kept(tree: &OpenTree, path: &[Name], pins: Option<&Pins>) -> Result<Option<Found>, RecordError> {
    let Some(pins) = pins else { return Ok(Some(tree.lookup(path)?)) };
    let chunks = Watched { chunks: tree.source(), pins, was_let_go: Cell::new(false) };
    let found = TreeReader::new(tree.root().clone(), &chunks).lookup(path);
    if chunks.was_let_go.get() {
        return Ok(None);
    }
    let found = found?;
    if let Found::Item(item) = &found {
        let mut root = Root { top: item.clone(), ..tree.root().clone() };
        if !matches!(item.content, Content::Folder(_)) {
            root.nested = NestedVersions::EMPTY;
        }
        let walked = TreeReader::new(root, &chunks).for_each_chunk(&mut |id| {
            chunks.was_let_go.set(chunks.was_let_go.get() || !pins.pinned.contains_key(&id));
        });
        if chunks.was_let_go.get() {
            return Ok(None);
        }
        walked?;
    }
    Ok(Some(found))
}

impl Pins {
    /// What another than the owner would drop stays.
    fn apply(&mut self, delta: Delta, by_owner: bool) {
        if by_owner {
            let dropped = delta.dropped.keys().filter(|chunk| !delta.added.contains_key(chunk));
            for chunk in dropped {
                self.pinned.remove(chunk);
            }
        }
        self.pinned.extend(delta.added);
    }
}

impl Keep {
    /// The versions that it keeps of these, which are in order, at this time.
    pub fn choose(&self, versions: &[VersionItem], time: Time) -> BTreeSet<Version> {
        let newest = versions.last().map(|item| item.version);
        let is_kept = |(from_newest, item): &(usize, &VersionItem)| match self {
            Self::Last(count) => (*from_newest as u64) < *count,
            Self::Within(duration) => u128::from(time.0.saturating_sub(item.time.0)) <= duration.as_millis(),
        };
        let kept = versions.iter().rev().enumerate().filter(is_kept).map(|(_, item)| item.version);
        kept.chain(newest).collect()
    }
}

fn read_delta(chunks: &Fetcher, id: ChunkId) -> Result<Delta, HistoryError> {
    let fetch = |id| chunks.chunk(id).map_err(RecordError::Fetch);
    let head = fetch(id)?;
    let (reader, _) = DeltaReader::new(head.bytes())?;
    chunks.prefetch(reader.head().parts().iter().copied().take(PREFETCH_MAX));
    let mut parts = Vec::new();
    for part in reader.head().parts() {
        parts.push(fetch(*part)?);
    }
    Ok(Delta::decode(head.bytes(), parts.iter().map(|part| part.bytes()))?)
}

fn version_report(
    item: &VersionItem,
    state: VersionState,
    found: Option<&Item>,
    changed: bool,
) -> VersionReport {
    VersionReport {
        version: item.version.0,
        time: item.time.0,
        author: item.author.to_string(),
        device: item.device.to_string(),
        epoch: item.epoch.0,
        bytes_added: item.bytes_added,
        bytes_dropped: item.bytes_dropped,
        state,
        kind: found.map(kind),
        size: found.filter(|item| matches!(item.content, Content::File(_))).map(Item::size_bytes),
        changed,
    }
}

fn has_no_key(error: &RecordError) -> bool {
    matches!(
        error,
        RecordError::NotReadable { .. } | RecordError::NoGeneration { .. } | RecordError::OtherVersion { .. }
    )
}

/// Whether the nodes say that they do not have a chunk.
fn is_gone(error: &RecordError) -> bool {
    let fetch = match error {
        RecordError::Fetch(error) | RecordError::Tree(TreeError::Source(error)) => error,
        _ => return false,
    };
    let FetchError::Ask { reason, .. } = fetch else { return false };
    matches!(&**reason, AskError::Refused(refusal) if refusal.reason == Reason::NotFound)
}

/// Puts an old item back; says whether that changes anything.
fn put_back(
    edit: &mut TreeEdit<Fetcher>,
    spot: &Spot,
    old: &OpenTree,
    item: &Item,
    at: &Location,
) -> Result<bool, HistoryError> {
    if spot.path.is_empty() {
        return put_back_top(edit, spot, old, item, at);
    }
    match edit.lookup(&spot.path).map_err(RecordError::from)? {
        Found::Item(there) if there == *item => return Ok(false),
        Found::Item(_) => edit.remove_tree(&spot.path).map_err(told(at))?,
        Found::Missing { present } if present + 1 == spot.path.len() => {}
        _ => return Err(ChangeError::NotFound { location: at.clone() }.into()),
    }
    let mut putting = Putting { edit, old, taken: BTreeSet::new(), at };
    putting.note_taken(&spot.tree, &spot.path)?;
    putting.put(&spot.path, item)?;
    Ok(true)
}

/// Records nested at or below an old item that stand nowhere in the tree of now.
fn newly_nested(now: &OpenTree, old: &OpenTree, item: &Item) -> Result<Vec<RecordId>, RecordError> {
    let mut records = Vec::new();
    for record in nested_below(old, item)? {
        if now.root().nested.get(now.source(), &record)?.is_none() {
            records.push(record);
        }
    }
    Ok(records)
}

/// Checks that every record nested here now still is after the edit.
fn stay_attached(edit: &TreeEdit<Fetcher>, spot: &Spot) -> Result<(), HistoryError> {
    let Found::Item(now) = spot.tree.lookup(&spot.path).map_err(RecordError::from)? else { return Ok(()) };
    for record in nested_below(&spot.tree, &now)? {
        if edit.nested_version(record).map_err(RecordError::from)?.is_none() {
            return Err(HistoryError::SharedSince { record });
        }
    }
    Ok(())
}

/// The top of a record keeps its place: what is in it is put back entry by entry.
fn put_back_top(
    edit: &mut TreeEdit<Fetcher>,
    spot: &Spot,
    old: &OpenTree,
    item: &Item,
    at: &Location,
) -> Result<bool, HistoryError> {
    let now = &spot.tree.root().top;
    if now == item {
        return Ok(false);
    }
    edit.set_metadata(&[], item.metadata.clone()).map_err(told(at))?;
    match (&now.content, &item.content) {
        (Content::Folder(now), Content::Folder(then)) => {
            let mut differences = Vec::new();
            let source = spot.tree.source();
            now.diff(then, source, |difference| differences.push(difference)).map_err(RecordError::from)?;
            // All goes before anything comes, so that what moved between two folders has its number free.
            for gone in differences.iter().filter_map(|difference| difference.old.as_ref()) {
                edit.remove_tree(std::slice::from_ref(&gone.name)).map_err(told(at))?;
            }
            let mut putting = Putting { edit, old, taken: BTreeSet::new(), at };
            let gone: BTreeSet<_> = differences.iter().filter_map(|one| one.old.as_ref()).map(name).collect();
            putting.note_taken_beside(&spot.tree, &gone)?;
            for entry in differences.iter().filter_map(|difference| difference.new.as_ref()) {
                putting.put(std::slice::from_ref(&entry.name), &entry.item)?;
            }
        }
        (_, Content::File(content)) => edit.set_content(&[], content.clone()).map_err(told(at))?,
        _ => return Err(ChangeError::NotAFolder { location: at.clone() }.into()),
    }
    Ok(true)
}

fn name(entry: &Entry) -> Name {
    entry.name.clone()
}

/// Puts old items into an edit. No two items of a record have one id, and one nested record stands in one place.
struct Putting<'a> {
    edit: &'a mut TreeEdit<Fetcher>,
    old: &'a OpenTree,
    /// Ids of what stands elsewhere in the record.
    taken: BTreeSet<FileId>,
    at: &'a Location,
}

impl Putting<'_> {
    /// Notes the ids of everything but what is at or below `path`.
    fn note_taken(&mut self, tree: &OpenTree, path: &[Name]) -> Result<(), RecordError> {
        tree.for_each_entry(&mut |at, entry| {
            if !at.starts_with(path) {
                self.taken.insert(entry.item.id);
            }
        })?;
        Ok(())
    }

    fn note_taken_beside(&mut self, tree: &OpenTree, names: &BTreeSet<Name>) -> Result<(), RecordError> {
        tree.for_each_entry(&mut |at, entry| {
            if !names.contains(&at[0]) {
                self.taken.insert(entry.item.id);
            }
        })?;
        Ok(())
    }

    fn put(&mut self, path: &[Name], item: &Item) -> Result<(), HistoryError> {
        if let Content::Nested(nested) = item.content {
            return self.put_nested(path, item, nested);
        }
        if self.stands_alone(item)? {
            self.edit.create(path, item.clone()).map_err(told(self.at))?;
            return Ok(());
        }
        let mut new = item.clone();
        if self.taken.contains(&new.id) {
            new.id = new_item(Content::Folder(Folder::EMPTY), Default::default()).id;
        }
        let Content::Folder(folder) = &item.content else {
            self.edit.create(path, new).map_err(told(self.at))?;
            return Ok(());
        };
        new.content = Content::Folder(Folder::EMPTY);
        self.edit.create(path, new).map_err(told(self.at))?;
        self.put_entries(path, folder)
    }

    fn put_entries(&mut self, path: &[Name], folder: &Folder) -> Result<(), HistoryError> {
        let mut after = None;
        loop {
            let page = folder.list(self.old.source(), after.as_ref(), PAGE_ENTRIES);
            let entries = page.map_err(RecordError::from)?;
            let Some(last) = entries.last() else { return Ok(()) };
            after = Some(last.name.clone());
            for entry in &entries {
                self.put(&[path, std::slice::from_ref(&entry.name)].concat(), &entry.item)?;
            }
        }
    }

    /// Whether the item can be put back as it is, with all its pages.
    fn stands_alone(&self, item: &Item) -> Result<bool, RecordError> {
        let mut alone = !self.taken.contains(&item.id);
        if matches!(item.content, Content::Folder(_)) {
            subtree(self.old, item).for_each_entry(&mut |_, entry| {
                alone &= !self.taken.contains(&entry.item.id);
                alone &= !matches!(entry.item.content, Content::Nested(_));
            })?;
        }
        Ok(alone)
    }

    fn put_nested(&mut self, path: &[Name], item: &Item, nested: NestedRecord) -> Result<(), HistoryError> {
        let record = nested.record;
        if self.edit.nested_version(record).map_err(RecordError::from)?.is_some() {
            return Err(HistoryError::NestedElsewhere { record });
        }
        let root = self.old.root();
        let version = root.nested.get(self.old.source(), &record).map_err(RecordError::from)?;
        let version = version.map_or(Version(0), |nested| nested.version);
        let mut item = item.clone();
        if self.taken.contains(&item.id) {
            item.id = new_item(Content::Folder(Folder::EMPTY), Default::default()).id;
        }
        self.edit.attach(path, item, version).map_err(told(self.at))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ihfs_core::ids::{DeviceId, Digest, Height, MemberId};

    use super::*;

    fn version(number: u64, time: u64) -> VersionItem {
        let chunk = |kind: &[u8]| ChunkId::of(&[kind, &number.to_be_bytes()].concat());
        VersionItem {
            version: Version(number),
            epoch: Epoch(0),
            root: chunk(b"root"),
            delta: chunk(b"delta"),
            bytes_added: 1,
            bytes_dropped: 0,
            author: MemberId::from_bytes([1; 32]),
            device: DeviceId::from_bytes(*Digest::from_bytes([2; 32]).as_bytes()),
            height: Height(number),
            time: Time(time),
        }
    }

    fn kept(keep: Keep, times: &[u64], now: u64) -> Vec<u64> {
        let versions: Vec<_> = times.iter().zip(1..).map(|(time, number)| version(number, *time)).collect();
        keep.choose(&versions, Time(now)).into_iter().map(|version| version.0).collect()
    }

    #[test]
    fn the_last_versions_are_kept_and_the_newest_always() {
        assert_eq!(kept(Keep::Last(2), &[10, 20, 30], 40), [2, 3]);
        assert_eq!(kept(Keep::Last(0), &[10, 20, 30], 40), [3]);
        assert_eq!(kept(Keep::Last(9), &[10, 20, 30], 40), [1, 2, 3]);
        assert_eq!(kept(Keep::Last(1), &[], 40), Vec::<u64>::new());
    }

    #[test]
    fn versions_within_a_duration_are_kept_and_the_newest_always() {
        let keep = Keep::Within(Duration::from_millis(20));
        assert_eq!(kept(keep, &[10, 20, 30], 40), [2, 3]);
        assert_eq!(kept(keep, &[10, 20, 30], 1_000), [3]);
        // Header time may be ahead of this machine's clock.
        assert_eq!(kept(keep, &[10, 20, 90], 40), [2, 3]);
    }

    #[test]
    fn a_chunk_both_dropped_and_added_stays_and_only_an_owner_drops() {
        let id = |number: u8| ChunkId::of(&[number]);
        let mut pins = Pins::default();
        let added = [(id(1), 10), (id(2), 20)].into();
        pins.apply(Delta { added, dropped: BTreeMap::new() }, false);
        pins.apply(Delta { added: BTreeMap::new(), dropped: [(id(1), 10)].into() }, false);
        assert_eq!(pins.pinned.len(), 2);
        pins.apply(Delta { added: [(id(1), 10)].into(), dropped: [(id(1), 10), (id(2), 10)].into() }, true);
        assert_eq!(pins.pinned, [(id(1), 10)].into());
    }
}
