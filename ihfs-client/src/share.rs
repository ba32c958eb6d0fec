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
use ihfs_core::ledger::state::{GrantEntry, MemberEntry, StateKey};
use ihfs_core::members::{Handle, HandleProof, label_commitment};
use ihfs_core::sealed::{PACKED_PIECE_MAX, PackWriter};
use ihfs_core::tree::ChunkSource;
use ihfs_core::tree::edit::{SplitOut, TreeEdit};
use ihfs_core::tree::entry::{Content, NestedKind, NestedRecord};
use ihfs_core::tree::root::{NestedVersion, NestedVersions, Root};
use ihfs_core::words::fingerprint_words;
use ihfs_proto::ledger;

use crate::book::{BookError, Contact, Label};
use crate::client::{Client, now};
use crate::fetch::Fetcher;
use crate::get::chunk_of;
use crate::issue::{IssueError, NewGrant};
use crate::link::{ANSWER_TIME_MAX, AskError};
use crate::location::Location;
use crate::record::{OpenTree, Record, RecordError};
use crate::resolve::{ResolveError, Spot};
use crate::submit::SubmitError;
use crate::view::{ViewError, decode_entry};
use crate::writing::{CommitError, Writing};

/// Pages of nested records read at a time.
const NESTED_PAGE: usize = 256;

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
    /// The label is empty, too long or holds a slash.
    #[error("a label has 1 to {LABEL_BYTES_MAX} bytes and no slash")]
    BadLabel,
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
    /// Until when, milliseconds since 1970.
    pub until: Option<u64>,
    /// How many versions it makes readable.
    pub versions: u64,
    /// Nested records that were granted with it.
    pub nested: u64,
    /// Custodians that keep a key share, and how many of them are needed.
    pub custodians: (u64, u64),
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
        let name = path.last().map_or("vault".into(), |name| String::from_utf8_lossy(name.as_bytes()));
        let text = options.label.clone().unwrap_or_else(|| name.into_owned());
        if text.is_empty() || text.len() > LABEL_BYTES_MAX || text.contains('/') {
            return Err(ShareError::BadLabel);
        }
        let label = Label { text, blind: rand::random() };
        self.remember(person, &label)?;
        let record = self.record_at(location)?;
        let record = self.ready_to_share(record, options.from_now)?;
        self.grant(record, person, options, &label)
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

    /// The record at a location; what is only a part of one becomes one.
    fn record_at(&self, location: &Location) -> Result<Record, ShareError> {
        let (spot, item) = self.find(location)?;
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
        let readers = self.live_grants(&record)?;
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
        let key = self.record_key(&mut child.record, ihfs_core::ids::Epoch(0))?;
        let mut operations = vec![self.prepare(parent, &edit, &[])?];
        operations.push(self.prepare(child, &child_edit, &sources)?);
        let grants = self.regrant(nonce, &GrantedKey::Record(key), &readers)?;
        operations.last_mut().expect("just pushed").operations.extend(grants);
        self.submit_prepared(random, operations)?;
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

    /// Grants of the nested record that is made with this nonce, for those who may read its parent.
    fn regrant(
        &self,
        nonce: [u8; 32],
        key: &GrantedKey,
        readers: &[(GrantId, GrantEntry)],
    ) -> Result<Vec<Operation>, ShareError> {
        let book = self.book()?;
        let record = RecordId::of(self.member(), &nonce);
        let whole = readers.iter().filter(|(_, grant)| grant.conditions.snapshot.is_none());
        whole
            .map(|(parent, grant)| {
                let (label, label_blind) = book.label(grant.conditions.label);
                let conditions = Conditions { record, parent: Some(*parent), ..grant.conditions.clone() };
                let epoch = ihfs_core::ids::Epoch(0);
                let created = Some(nonce);
                let new =
                    NewGrant { conditions, replaces: None, epoch, key, label: &label, label_blind, created };
                Ok(self.issue(&new)?)
            })
            .collect()
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
        let operation = self.issue(&new)?;
        let Operation::Grant(grant) = &operation else { unreachable!("issue gives a grant") };
        let (id, counts) = (grant.id(), (grant.custodians.len() as u64, u64::from(grant.threshold)));
        let mut operations = vec![operation];
        if !options.snapshot {
            operations.extend(self.grant_nested(&mut record, &conditions, id, label)?);
        }
        let nested = operations.len() as u64 - 1;
        self.submit(operations)?;
        let versions = if options.snapshot { 1 } else { self.versions_of_epoch(&record)? };
        Ok(Shared {
            grant: id.to_string(),
            record: record.id.to_string(),
            reader: person.proof.handle.to_string(),
            label: label.text.clone(),
            until: options.until.map(|until| until.0),
            versions,
            nested,
            custodians: counts,
        })
    }

    /// How many versions the live epoch has: those that its key opens.
    fn versions_of_epoch(&self, record: &Record) -> Result<u64, ShareError> {
        let epoch = record.epoch();
        Ok(self.versions(record)?.iter().filter(|version| version.epoch == epoch).count() as u64)
    }

    /// Grants on every record nested in this one, each naming the grant on the record that holds it.
    fn grant_nested(
        &self,
        record: &mut Record,
        above: &Conditions,
        parent: GrantId,
        label: &Label,
    ) -> Result<Vec<Operation>, ShareError> {
        let mut operations = Vec::new();
        for nested in self.nested_of(record)? {
            let child = self.own_record(nested.record)?;
            let mut child = self.ready_to_share(child, false)?;
            let epoch = child.epoch();
            let key = GrantedKey::Record(self.record_key(&mut child, epoch)?);
            let conditions = Conditions { record: child.id, parent: Some(parent), ..above.clone() };
            let new = NewGrant {
                conditions: conditions.clone(),
                replaces: None,
                epoch,
                key: &key,
                label: &label.text,
                label_blind: label.blind,
                created: None,
            };
            let operation = self.issue(&new)?;
            let Operation::Grant(grant) = &operation else { unreachable!("issue gives a grant") };
            let id = grant.id();
            operations.push(operation);
            operations.extend(self.grant_nested(&mut child, &conditions, id, label)?);
        }
        Ok(operations)
    }

    /// Records nested directly in the newest version of this one.
    pub(crate) fn nested_of(&self, record: &mut Record) -> Result<Vec<NestedVersion>, RecordError> {
        let Some(tree) = self.open_head(record)? else { return Ok(Vec::new()) };
        let mut nested: Vec<NestedVersion> = Vec::new();
        loop {
            let after = nested.last().map(|nested| nested.record);
            let page = tree.root().nested.list(tree.source(), after.as_ref(), NESTED_PAGE)?;
            let done = page.len() < NESTED_PAGE;
            nested.extend(page);
            if done {
                return Ok(nested);
            }
        }
    }

    /// The handle under which this member knows another; the start of the id where there is none.
    pub(crate) fn name_of(&self, book: &crate::book::Book, member: MemberId) -> String {
        if member == self.member() {
            return self.handle.as_ref().map_or("you".into(), |own| own.handle.to_string());
        }
        let known = book.contact(member);
        known.map_or_else(|| format!("{member:?}"), |contact| contact.proof.handle.to_string())
    }

    /// The ledger's entry of this member.
    pub(crate) fn own_entry(&self) -> Result<MemberEntry, ViewError> {
        let mut entries = self.view.entries(&[StateKey::Member(self.member())])?;
        decode_entry(entries.pop().flatten())?.ok_or(DecodeError::Malformed.into())
    }
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
