//! `share`: what it does to the ledger, top to bottom.
//!
//! The reader's key is looked up, confirmed once by its fingerprint and pinned. A folder or file inside a record
//! becomes a record of its own first; its pieces stay where they are. Nested records are granted with it. All
//! grants and anchors that this needs are one transaction.

use std::collections::BTreeSet;

use ihfs_core::codec::{self, DecodeError};
use ihfs_core::crypto::seal::sealed_length;
use ihfs_core::grants::{GrantedKey, LABEL_BYTES_MAX};
use ihfs_core::ids::{ChunkId, GrantId, MemberId, RecordId, Time, Version};
use ihfs_core::ledger::identity::Role;
use ihfs_core::ledger::operation::{Conditions, GrantPurpose, Operation};
use ihfs_core::ledger::state::{MemberEntry, MemberLists, StateKey};
use ihfs_core::members::{Handle, HandleProof, label_commitment};
use ihfs_core::sealed::{PACKED_PIECE_MAX, PackWriter};
use ihfs_core::tree::ChunkSource;
use ihfs_core::tree::edit::{SplitOut, TreeEdit};
use ihfs_core::tree::entry::{Content, Item, NestedKind, NestedRecord};
use ihfs_core::tree::name::{Name, NameError};
use ihfs_core::tree::root::{NestedVersions, Root};
use ihfs_core::words::fingerprint_words;
use ihfs_proto::ledger;

use crate::book::{BookError, Contact, Label};
use crate::client::{Client, now};
use crate::fetch::Fetcher;
use crate::issue::{IssueError, NewGrant};
use crate::link::{ANSWER_TIME_MAX, AskError};
use crate::location::Location;
use crate::nesting::{Ends, as_reissued};
use crate::record::{OpenTree, Record, RecordError};
use crate::resolve::{ResolveError, Spot};
use crate::snapshot::chunk_of;
use crate::submit::SubmitError;
use crate::view::{ViewError, decode_entry};
use crate::writing::{CommitError, Writing};

/// Why something was not shared.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The location could not be found.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A record could not be opened.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The ledger's word was not had.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A node could not be asked.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Nobody has this handle, as far as the node knows.
    #[error("nobody with the handle {handle} is known")]
    UnknownHandle {
        /// The handle.
        handle: Handle,
    },
    /// The node names a member whose handle on the ledger is another.
    #[error("the handle {handle} is not the one on the ledger: the node is wrong or lies")]
    WrongHandle {
        /// The handle.
        handle: Handle,
    },
    /// The key behind a handle is not the one that was confirmed before.
    #[error("the key of {handle} is not the one that you confirmed: now {now}, then {pinned}")]
    KeyChanged {
        /// The handle.
        handle: Handle,
        /// Fingerprint words now.
        now: String,
        /// Fingerprint words of the pinned key.
        pinned: String,
    },
    /// Only the owner shares.
    #[error("only the owner can share this")]
    NotOwn,
    /// Symbolic links are shared with the folder that holds them.
    #[error("a symbolic link cannot be shared by itself")]
    SymbolicLink,
    /// The label is no name, so that no path could hold it.
    #[error("a label is a name of at most {LABEL_BYTES_MAX} bytes")]
    BadLabel(#[source] Option<NameError>),
    /// The reader has something else under this label.
    #[error("{label:?} is what the reader has something else of yours as")]
    LabelInUse {
        /// The label.
        label: String,
        /// One that is free.
        free: String,
    },
    /// There is nothing to read yet.
    #[error("nothing was written there yet")]
    Empty,
    /// The address book could not be changed.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The grant could not be issued.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// A record could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The ledger did not take it.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

/// Somebody to share with, as the ledger and the directory know them.
#[derive(Clone, Debug)]
pub struct Person {
    /// The member.
    pub member: MemberId,
    /// The handle, proved by the ledger's commitment.
    pub proof: HandleProof,
    /// The member key.
    pub key: [u8; 32],
    /// Six words of the member key.
    pub fingerprint: String,
    /// The role.
    pub role: Role,
    /// Whether this key was confirmed before.
    pub pinned: bool,
}

/// How to share.
#[derive(Clone, Debug)]
pub struct ShareOptions {
    /// From when.
    pub not_before: Option<Time>,
    /// Until when; none means until it is revoked.
    pub until: Option<Time>,
    /// What for.
    pub purpose: GrantPurpose,
    /// Whether the reader may write.
    pub write: bool,
    /// Only the version of now.
    pub snapshot: bool,
    /// Only versions from now on: the record is rotated first.
    pub from_now: bool,
    /// What the reader finds it under; the name of the folder or file, unless said otherwise.
    pub label: Option<String>,
}

/// What sharing came to.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Shared {
    /// The grant.
    pub grant: String,
    /// The record.
    pub record: String,
    /// With whom.
    pub reader: String,
    /// Under which label.
    pub label: String,
    /// The name that it would have had, under which the reader has something else.
    pub label_in_use: Option<String>,
    /// Until when, milliseconds since 1970.
    pub until: Option<u64>,
    /// How many versions it makes readable.
    pub versions: u64,
    /// Nested records that were granted with it.
    pub nested: u64,
    /// Custodians that keep a key share, and how many of them are needed.
    pub custodians: (u64, u64),
    /// Grants on it that the reader has already and that let him do more or longer: a new one takes nothing away.
    pub earlier: Vec<EarlierGrant>,
}

/// A grant that stays beside a new one.
#[derive(Clone, Debug, serde::Serialize)]
pub struct EarlierGrant {
    /// The grant.
    pub grant: String,
    /// Until when, milliseconds since 1970.
    pub until: Option<u64>,
    /// Whether the reader may write by it.
    pub write: bool,
}

impl Client {
    /// Who has this handle. The caller shows the fingerprint to a person unless it is pinned.
    ///
    /// # Errors
    /// [`ShareError::UnknownHandle`], [`ShareError::WrongHandle`], [`ShareError::KeyChanged`].
    pub fn look_up(&self, handle: &Handle) -> Result<Person, ShareError> {
        let book = self.book()?;
        let known = book.by_handle(handle);
        let (member, proof) = match known {
            Some(contact) => (contact.member, contact.proof.clone()),
            None => self.resolve_handle(handle)?,
        };
        let entry: MemberEntry = self
            .view
            .entry(StateKey::Member(member))?
            .ok_or_else(|| ShareError::UnknownHandle { handle: handle.clone() })?;
        if proof.handle != *handle || !proof.opens(entry.handle) {
            return Err(ShareError::WrongHandle { handle: handle.clone() });
        }
        let fingerprint = fingerprint_words(&entry.key);
        if let Some(contact) = known.filter(|contact| contact.pinned_key != entry.key) {
            let pinned = fingerprint_words(&contact.pinned_key);
            return Err(ShareError::KeyChanged { handle: handle.clone(), now: fingerprint, pinned });
        }
        let (key, role, pinned) = (entry.key, entry.role, known.is_some());
        Ok(Person { member, proof, key, fingerprint, role, pinned })
    }

    fn resolve_handle(&self, handle: &Handle) -> Result<(MemberId, HandleProof), ShareError> {
        let request = ledger::Resolve { handle: handle.to_string() };
        let response = match self.link.ask_ledger(ledger::request::Request::Resolve(request), ANSWER_TIME_MAX)
        {
            Err(AskError::Refused(refusal)) if refusal.reason == ledger::Reason::NotFound => {
                return Err(ShareError::UnknownHandle { handle: handle.clone() });
            }
            response => response?,
        };
        let wrong = || ShareError::WrongHandle { handle: handle.clone() };
        let ledger::response::Response::Resolved(resolved) = response else { return Err(wrong()) };
        let member = MemberId::try_from(resolved.member.as_ref()).map_err(|_| wrong())?;
        let proof = codec::decode(&resolved.handle_proof, 512).map_err(|_| wrong())?;
        Ok((member, proof))
    }

    /// Shares what stands at `location` with somebody whose fingerprint was confirmed.
    ///
    /// # Errors
    /// [`ShareError`].
    pub fn share(
        &self,
        location: &Location,
        person: &Person,
        options: &ShareOptions,
    ) -> Result<Shared, ShareError> {
        let Location::Own(path) = location else { return Err(ShareError::NotOwn) };
        let (spot, item) = self.find(location)?;
        let record = spot.path.is_empty().then_some(spot.record.id);
        let used = self.labels_of(person.member, record)?;
        let (text, label_in_use) = match &options.label {
            Some(label) => (free_label(label, &used)?, None),
            None => default_label(path.last(), &used)?,
        };
        let label = Label { text, blind: rand::random() };
        self.remember(person, &label)?;
        let record = self.record_at(spot, item)?;
        let record = self.ready_to_share(record, options.from_now)?;
        let shared = self.grant(record, person, options, &label)?;
        Ok(Shared { label_in_use, ..shared })
    }

    /// Labels under which the reader has something else of this member than `record`.
    fn labels_of(&self, reader: MemberId, record: Option<RecordId>) -> Result<BTreeSet<String>, ShareError> {
        let mut records = self.own_records()?;
        records.retain(|id| Some(*id) != record);
        let grants = self.live_grants_to(&records, reader)?;
        let book = self.book()?;
        // What is nested in a shared record is found below it.
        let own = grants.iter().filter(|(_, grant)| grant.conditions.parent.is_none());
        Ok(own.map(|(_, grant)| book.label(grant.conditions.label).0).collect())
    }

    /// Pins the key and notes the label before the ledger knows of them: a grant whose label was lost would be
    /// issued again without a name.
    fn remember(&self, person: &Person, label: &Label) -> Result<(), BookError> {
        let contact = Contact { member: person.member, proof: person.proof.clone(), pinned_key: person.key };
        self.change_book(|book| {
            book.add_contact(contact.clone());
            book.add_label(label.clone());
        })
    }

    /// The record at a spot; what is only a part of one becomes one.
    fn record_at(&self, spot: Spot, item: Item) -> Result<Record, ShareError> {
        if spot.path.is_empty() {
            return Ok(spot.record);
        }
        let kind = match item.content {
            Content::Folder(_) => NestedKind::Folder,
            Content::File(_) => NestedKind::File,
            Content::Symlink(_) => return Err(ShareError::SymbolicLink),
            Content::Nested(_) => unreachable!("a location is followed into nested records"),
        };
        let id = self.split_out(spot, kind)?;
        Ok(self.own_record(id)?)
    }

    /// Makes a part of a record a record of its own, for all who may read it now.
    fn split_out(&self, spot: Spot, kind: NestedKind) -> Result<RecordId, ShareError> {
        let Spot { record, tree, path, .. } = spot;
        let mut readers = self.readers_of(&record)?;
        let parent = self.write_record(record)?;
        let nonce = rand::random();
        let mut child = self.write_new_record_with(&parent, nonce)?;
        let id = child.record.id;
        let mut edit = TreeEdit::new(tree.root().clone(), tree.source().clone());
        let split = edit
            .split_out(&path, NestedRecord { record: id, kind }, Version(1))
            .map_err(CommitError::from)?;
        let child_edit = self.root_child(&mut child, &tree, split)?;
        let random = parent.random();
        let sources = [parent.record.id];
        let epoch = child.epoch();
        let key = GrantedKey::Record(self.record_key(&mut child.record, epoch)?);
        let parent = self.prepare(parent, &edit, &[])?;
        as_reissued(&mut readers, &parent.operations);
        let mut child = self.prepare(child, &child_edit, &sources)?;
        child.operations.extend(self.grants_below(id, Some(nonce), epoch, &key, &readers)?);
        self.submit_prepared(random, vec![parent, child])?;
        Ok(id)
    }

    /// The first version of a record that was cut out of another: its tree is the part, its pieces stay.
    fn root_child(
        &self,
        child: &mut Writing,
        tree: &OpenTree,
        split: SplitOut,
    ) -> Result<TreeEdit<Fetcher>, ShareError> {
        let SplitOut { item, nested } = split;
        let mut pages = PackWriter::new(&child.sealer);
        let changes: Vec<_> = nested.iter().map(|nested| (&nested.record, Some(nested))).collect();
        let mut versions =
            NestedVersions::EMPTY.update(tree.source(), &changes, &mut pages).map_err(RecordError::from)?;
        versions.for_each_ref(&mut |piece| *piece = pages.resolve(piece.clone()));
        pages.close();
        let packs = pages.take_closed();
        for pack in packs {
            // Read back below, maybe before it was sent, and under another record than it is sent for.
            tree.source().keep(pack.clone());
            child.uploader.push(pack).map_err(CommitError::from)?;
        }
        let root = Root {
            record: child.record.id,
            version: Version(0),
            top: item,
            nested: versions,
            devices: Vec::new(),
            written: now(),
        };
        let part = OpenTree::new(root.clone(), tree.source().clone());
        for (chunk, size_bytes) in chunk_sizes(&part)? {
            child.reuse(chunk, size_bytes);
        }
        Ok(TreeEdit::new(root, tree.source().clone()))
    }

    /// A live grant needs a head sealed in the live epoch.
    fn ready_to_share(&self, record: Record, from_now: bool) -> Result<Record, ShareError> {
        let entry = record.entry.as_ref().ok_or(ShareError::Empty)?;
        let head = entry.head.ok_or(ShareError::Empty)?;
        if head.epoch == entry.epoch && !from_now {
            return Ok(record);
        }
        let id = record.id;
        if from_now {
            self.rotate(record)?;
        } else {
            self.reseal(record)?;
        }
        Ok(self.own_record(id)?)
    }

    /// Seals the newest version again under the live epoch and issues its grants again.
    pub(crate) fn reseal(&self, mut record: Record) -> Result<(), CommitError> {
        let Some(tree) = self.open_head(&mut record)? else { return Ok(()) };
        let writing = self.write_record(record)?;
        let edit = TreeEdit::new(tree.root().clone(), tree.source().clone());
        self.commit(writing, &edit, &[]).map(|_| ())
    }

    /// Begins a new epoch and seals the newest version under it.
    fn rotate(&self, mut record: Record) -> Result<(), CommitError> {
        let Some(tree) = self.open_head(&mut record)? else { return Ok(()) };
        let writing = self.write_rotated(record)?;
        let edit = TreeEdit::new(tree.root().clone(), tree.source().clone());
        self.commit(writing, &edit, &[]).map(|_| ())
    }

    fn grant(
        &self,
        mut record: Record,
        person: &Person,
        options: &ShareOptions,
        label: &Label,
    ) -> Result<Shared, ShareError> {
        let entry = record.entry.clone().ok_or(ShareError::Empty)?;
        let head = entry.head.ok_or(ShareError::Empty)?;
        let key = if options.snapshot {
            GrantedKey::Snapshot(self.head_root_key(&mut record, head)?)
        } else {
            GrantedKey::Record(self.record_key(&mut record, entry.epoch)?)
        };
        let conditions = Conditions {
            record: record.id,
            reader: person.member,
            write: options.write,
            snapshot: options.snapshot.then_some(head.version),
            purpose: options.purpose,
            not_before: options.not_before.unwrap_or(Time(0)),
            expires: options.until,
            parent: None,
            label: label_commitment(&label.text, &label.blind),
        };
        let new = NewGrant {
            conditions: conditions.clone(),
            replaces: None,
            epoch: head.epoch,
            key: &key,
            label: &label.text,
            label_blind: label.blind,
            created: None,
        };
        let before = self.live_grants_to(&[record.id], person.member)?;
        let more = before.iter().filter(|(_, grant)| gives_more(&grant.conditions, &conditions));
        let earlier = more.map(|(id, grant)| earlier_grant(*id, &grant.conditions)).collect();
        let operation = self.issue(&new)?;
        let Operation::Grant(grant) = &operation else { unreachable!("issue gives a grant") };
        let (id, counts) = (grant.id(), (grant.custodians.len() as u64, u64::from(grant.threshold)));
        let (mut operations, mut nested, random) = (vec![operation], 0, rand::random());
        if !options.snapshot {
            let records = self.nested_of(&mut record)?;
            let hung = self.hang(&records, &[(id, conditions)], &Ends::default(), random)?;
            nested = hung.grants.len() as u64;
            operations.extend(hung.into_operations());
        }
        self.submit_signed(&self.sign(random, operations))?;
        let versions = if options.snapshot { 1 } else { self.versions_of_epoch(&record)? };
        Ok(Shared {
            grant: id.to_string(),
            record: record.id.to_string(),
            reader: person.proof.handle.to_string(),
            label: label.text.clone(),
            label_in_use: None,
            until: options.until.map(|until| until.0),
            versions,
            nested,
            custodians: counts,
            earlier,
        })
    }

    /// How many versions the live epoch has: those that its key opens.
    fn versions_of_epoch(&self, record: &Record) -> Result<u64, ShareError> {
        let epoch = record.epoch();
        Ok(self.versions(record)?.iter().filter(|version| version.epoch == epoch).count() as u64)
    }

    /// The handle under which this member knows another; the start of the id where there is none.
    pub(crate) fn name_of(&self, book: &crate::book::Book, member: MemberId) -> String {
        if member == self.member() {
            return self.handle.as_ref().map_or("you".into(), |own| own.handle.to_string());
        }
        let known = book.contact(member);
        known.map_or_else(|| format!("{member:?}"), |contact| contact.proof.handle.to_string())
    }

    /// The ledger's entry of this member's lists.
    pub(crate) fn own_lists(&self) -> Result<MemberLists, ViewError> {
        self.view.entry(StateKey::MemberLists(self.member()))?.ok_or(DecodeError::Malformed.into())
    }

    /// The ledger's entry of this member.
    pub(crate) fn own_entry(&self) -> Result<MemberEntry, ViewError> {
        let mut entries = self.view.entries(&[StateKey::Member(self.member())])?;
        decode_entry(entries.pop().flatten())?.ok_or(DecodeError::Malformed.into())
    }
}

/// Whether a grant lasts longer than a new one, or allows what that does not. Ending it here would begin an epoch and
/// so close the older versions, which a reader may need: its owner says so by `revoke`.
fn gives_more(old: &Conditions, new: &Conditions) -> bool {
    let lasts_longer = match (old.expires, new.expires) {
        (None, Some(_)) => true,
        (Some(old), Some(new)) => old > new,
        (_, None) => false,
    };
    let is_wider = new.snapshot.is_some() && old.snapshot.is_none();
    lasts_longer || (old.write && !new.write) || is_wider
}

fn earlier_grant(id: GrantId, conditions: &Conditions) -> EarlierGrant {
    let until = conditions.expires.map(|until| until.0);
    EarlierGrant { grant: id.to_string(), until, write: conditions.write }
}

/// The label that was asked for.
fn free_label(label: &str, used: &BTreeSet<String>) -> Result<String, ShareError> {
    check_label(label)?;
    if used.contains(label) {
        return Err(ShareError::LabelInUse { label: label.to_owned(), free: numbered(label, used) });
    }
    Ok(label.to_owned())
}

/// The name of what is shared, with a number where the reader has something else under it; then also the name.
fn default_label(
    name: Option<&Name>,
    used: &BTreeSet<String>,
) -> Result<(String, Option<String>), ShareError> {
    let text = name.map_or("vault".into(), |name| String::from_utf8_lossy(name.as_bytes()));
    if !used.contains(text.as_ref()) {
        check_label(&text)?;
        return Ok((text.into_owned(), None));
    }
    let free = numbered(&text, used);
    check_label(&free)?;
    Ok((free, Some(text.into_owned())))
}

/// `//owner/label/path` must lead to it.
fn check_label(label: &str) -> Result<(), ShareError> {
    let name = Name::new(label).map_err(|error| ShareError::BadLabel(Some(error)))?;
    if name.as_bytes().len() > LABEL_BYTES_MAX { Err(ShareError::BadLabel(None)) } else { Ok(()) }
}

fn numbered(label: &str, used: &BTreeSet<String>) -> String {
    let mut numbered = (2..=used.len() + 2).map(|number| format!("{label}-{number}"));
    numbered.find(|label| !used.contains(label)).expect("more numbers than labels")
}

/// Every chunk that a version needs, with its stored size. A large piece's size follows from its ref; small ones
/// stand in packs, which are fetched for theirs.
fn chunk_sizes(tree: &OpenTree) -> Result<Vec<(ChunkId, u32)>, RecordError> {
    let mut alone = std::collections::BTreeMap::new();
    let mut failed = None;
    let mut visit = |content: &ihfs_core::tree::file::FileContent| -> Result<(), RecordError> {
        for placed in content.extents(tree.source(), 0..content.size_bytes(), usize::MAX)? {
            let Some(piece) = placed.extent.as_piece() else { continue };
            if let (Some(id), true) = (chunk_of(piece), piece.size as usize > PACKED_PIECE_MAX) {
                let size = u32::try_from(sealed_length(piece.size as usize)).expect("chunks are small");
                alone.insert(id, size);
            }
        }
        Ok(())
    };
    if let Content::File(content) = &tree.root().top.content {
        visit(content)?;
    }
    tree.for_each_entry(&mut |_, entry| {
        if let (Content::File(content), None) = (&entry.item.content, &failed) {
            failed = visit(content).err();
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let chunks: BTreeSet<ChunkId> = tree.reachable()?;
    chunks
        .into_iter()
        .map(|id| match alone.get(&id) {
            Some(size) => Ok((id, *size)),
            None => {
                let chunk = tree.source().chunk(id)?;
                Ok((id, u32::try_from(chunk.bytes().len()).expect("chunks are small")))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(labels: &[&str]) -> BTreeSet<String> {
        labels.iter().map(|label| (*label).to_owned()).collect()
    }

    #[test]
    fn a_label_in_use_is_refused_with_one_that_is_free() {
        assert_eq!(free_label("ct", &used(&["mr"])).ok(), Some("ct".to_owned()));
        let refused = free_label("ct", &used(&["ct", "ct-2"]));
        assert!(matches!(refused, Err(ShareError::LabelInUse { free, .. }) if free == "ct-3"));
    }

    #[test]
    fn a_default_label_in_use_gets_a_number() {
        let name = Name::new(*b"ct").unwrap();
        assert_eq!(default_label(Some(&name), &used(&[])).unwrap(), ("ct".to_owned(), None));
        let numbered = default_label(Some(&name), &used(&["ct"])).unwrap();
        assert_eq!(numbered, ("ct-2".to_owned(), Some("ct".to_owned())));
    }

    #[test]
    fn a_label_that_no_path_can_hold_is_refused() {
        for label in ["", ".", "..", "a/b", "a\0", &"x".repeat(LABEL_BYTES_MAX + 1)] {
            assert!(matches!(free_label(label, &used(&[])), Err(ShareError::BadLabel(_))), "{label:?}");
        }
    }
}
