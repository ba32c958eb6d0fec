//! Nested records when the tree or the readers around them change: which grants end with the old place, which
//! come with the new one, and the heads that new epochs need. All of it is for one transaction.

use std::collections::{BTreeMap, BTreeSet};

use ihfs_core::grants::GrantedKey;
use ihfs_core::ids::{Epoch, GrantId, RecordId};
use ihfs_core::ledger::operation::{Conditions, Operation, Revoke, RevokeTarget};
use ihfs_core::ledger::state::{GrantEntry, StateKey};
use ihfs_core::tree::edit::TreeEdit;

use crate::client::{Client, now};
use crate::issue::{IssueError, NewGrant};
use crate::record::{Record, RecordError};
use crate::view::ViewError;
use crate::writing::{CommitError, Prepared};

/// Most ends of grants in the transaction that changes the tree; the ledger takes 256 operations. What is beyond
/// ends in transactions before it.
const REVOKES_MAX: usize = 128;
/// Nested records read at once.
const PAGE_RECORDS: usize = 256;

/// Which grants end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All: the records are removed.
    All,
    /// Those that came from a grant on a record outside: the records move.
    Inherited,
    /// These on the first record, with all that came from them.
    Target(RevokeTarget),
}

/// What ends, and what the ends do to epochs.
#[derive(Default)]
pub(crate) struct Ends {
    operations: Vec<Operation>,
    /// First ids of the grants that end, each with the operation that ends it.
    ended: BTreeMap<GrantId, usize>,
    /// The records whose epoch each operation advances by one.
    advanced: Vec<BTreeSet<RecordId>>,
    /// Grants that ended in transactions before.
    ended_before: u64,
}

/// What puts records under their readers: heads in new epochs, and new grants.
#[derive(Default)]
pub(crate) struct Hung {
    /// Heads sealed again, with the grants that are issued again for them.
    pub(crate) heads: Vec<Prepared>,
    /// New grants, parents before those that name them. They come after the heads.
    pub(crate) grants: Vec<Operation>,
}

impl Ends {
    /// The operations; they come before the heads of the records whose epochs they advance.
    pub(crate) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// How many grants end.
    pub(crate) fn count(&self) -> u64 {
        self.ended_before + self.ended.len() as u64
    }

    fn push(&mut self, record: RecordId, target: RevokeTarget) -> usize {
        self.operations.push(Operation::Revoke(Revoke { record, target }));
        self.advanced.push(BTreeSet::from([record]));
        self.operations.len() - 1
    }

    /// How many epochs of the record begin.
    fn epochs_begun(&self, record: RecordId) -> u32 {
        let count = self.advanced.iter().filter(|records| records.contains(&record)).count();
        u32::try_from(count).expect("fewer than 256 operations")
    }
}

impl Hung {
    /// All of it in order.
    pub(crate) fn into_operations(self) -> Vec<Operation> {
        self.heads.into_iter().flat_map(|head| head.operations).chain(self.grants).collect()
    }
}

impl Client {
    /// These records and all nested in them, outer ones first.
    pub(crate) fn with_all_nested(&self, records: Vec<RecordId>) -> Result<Vec<RecordId>, RecordError> {
        let mut all = records;
        let mut looked_at = 0;
        while let Some(id) = all.get(looked_at).copied() {
            looked_at += 1;
            for nested in self.nested_of(&mut self.own_record(id)?)? {
                if !all.contains(&nested) {
                    all.push(nested);
                }
            }
        }
        Ok(all)
    }

    /// Records nested directly in the newest version of this one.
    pub(crate) fn nested_of(&self, record: &mut Record) -> Result<Vec<RecordId>, RecordError> {
        let Some(tree) = self.open_head(record)? else { return Ok(Vec::new()) };
        let mut records: Vec<RecordId> = Vec::new();
        loop {
            let page = tree.root().nested.list(tree.source(), records.last(), PAGE_RECORDS)?;
            let done = page.len() < PAGE_RECORDS;
            records.extend(page.iter().map(|nested| nested.record));
            if done {
                return Ok(records);
            }
        }
    }

    /// What ends the grants of these records, as many as one transaction takes: access goes before the name does.
    pub(crate) fn ends_that_fit(&self, records: &[RecordId], ending: Ending) -> Result<Ends, CommitError> {
        let mut ends = self.ends_of(records, ending)?;
        let all = ends.count();
        while ends.operations.len() > REVOKES_MAX {
            self.submit(ends.operations[..REVOKES_MAX].to_vec())?;
            ends = self.ends_of(records, ending)?;
        }
        ends.ended_before = all - ends.count();
        Ok(ends)
    }

    /// What ends the grants of these records. They come with all that is nested in them, outer ones first.
    pub(crate) fn ends_of(&self, records: &[RecordId], ending: Ending) -> Result<Ends, ViewError> {
        let mut ends = Ends::default();
        if let (Ending::Target(target), Some(record)) = (ending, records.first()) {
            ends.push(*record, target);
        }
        for id in records {
            for (grant, entry) in self.grants_not_ended(*id)? {
                let parent = self.parent_of(&entry)?;
                let with_parent = parent.as_ref().and_then(|parent| ends.ended.get(&parent.first)).copied();
                let is_outside = |parent: &GrantEntry| !records.contains(&parent.conditions.record);
                let own = match ending {
                    Ending::Target(target) => {
                        (*id == records[0] && is_target(target, grant, &entry)).then_some(0)
                    }
                    _ if with_parent.is_some() || self.is_over(&entry) => None,
                    Ending::Inherited if !parent.as_ref().is_some_and(is_outside) => None,
                    Ending::All | Ending::Inherited => Some(ends.push(*id, RevokeTarget::Grant(grant))),
                };
                if let Some(operation) = own.or(with_parent) {
                    ends.ended.insert(entry.first, operation);
                    ends.advanced[operation].insert(*id);
                }
            }
        }
        Ok(ends)
    }

    /// The record's grants that nothing ended; also those whose time is over: they end with their parents.
    fn grants_not_ended(&self, record: RecordId) -> Result<Vec<(GrantId, GrantEntry)>, ViewError> {
        let grants = self.grants_of(record, self.view.entry(StateKey::RecordLists(record))?)?;
        Ok(grants.into_iter().filter(|(_, grant)| grant.ended.is_none()).collect())
    }

    fn is_over(&self, grant: &GrantEntry) -> bool {
        grant.is_expired_at(now().max(self.view.trust().time))
    }

    fn parent_of(&self, grant: &GrantEntry) -> Result<Option<GrantEntry>, ViewError> {
        let Some(parent) = grant.conditions.parent else { return Ok(None) };
        self.view.entry(StateKey::Grant(parent))
    }

    /// Live grants on the whole of a record: what is nested in it is granted to their readers too.
    pub(crate) fn readers_of(&self, record: &Record) -> Result<Vec<(GrantId, Conditions)>, ViewError> {
        let grants = self.live_grants(record)?.into_iter();
        let whole = grants.filter(|(_, grant)| grant.conditions.snapshot.is_none());
        Ok(whole.map(|(id, grant)| (id, grant.conditions)).collect())
    }

    /// Puts records, with all nested in them, under `readers` of the record that holds them. Where `ends` begin
    /// epochs, the heads are sealed again and the grants that stay are issued again.
    pub(crate) fn hang(
        &self,
        records: &[RecordId],
        readers: &[(GrantId, Conditions)],
        ends: &Ends,
        random: [u8; 32],
    ) -> Result<Hung, CommitError> {
        let mut hung = Hung::default();
        for record in records {
            self.hang_one(*record, readers, ends, random, &mut hung)?;
        }
        Ok(hung)
    }

    fn hang_one(
        &self,
        id: RecordId,
        readers: &[(GrantId, Conditions)],
        ends: &Ends,
        random: [u8; 32],
        hung: &mut Hung,
    ) -> Result<(), CommitError> {
        let mut record = self.own_record(id)?;
        let nested = self.nested_of(&mut record)?;
        let mut below = Vec::new();
        if !readers.is_empty() || self.loses_readers(&record, ends)? {
            let (key, epoch) = self.head_for_readers(record, ends, random, hung)?;
            let grants = self.grants_below(id, None, epoch, &key, readers)?;
            below.extend(grants.iter().filter_map(granted));
            hung.grants.extend(grants);
        }
        nested.iter().try_for_each(|nested| self.hang_one(*nested, &below, ends, random, hung))
    }

    /// Whether the ends begin an epoch of the record while others may go on reading it.
    fn loses_readers(&self, record: &Record, ends: &Ends) -> Result<bool, ViewError> {
        if ends.epochs_begun(record.id) == 0 {
            return Ok(false);
        }
        let grants = self.live_grants(record)?;
        let stays = |grant: &GrantEntry| {
            grant.conditions.snapshot.is_none() && !ends.ended.contains_key(&grant.first)
        };
        Ok(grants.iter().any(|(_, grant)| stays(grant)))
    }

    /// The key of the epoch that will be live, with a head sealed in it.
    fn head_for_readers(
        &self,
        mut record: Record,
        ends: &Ends,
        random: [u8; 32],
        hung: &mut Hung,
    ) -> Result<(GrantedKey, Epoch), CommitError> {
        let (live, begun) = (record.epoch(), ends.epochs_begun(record.id));
        let head = record.entry.as_ref().and_then(|entry| entry.head);
        if begun == 0 && head.is_some_and(|head| head.epoch == live) {
            return Ok((GrantedKey::Record(self.record_key(&mut record, live)?), live));
        }
        let tree = self.tree_or_empty(&mut record)?;
        let mut writing = if begun == 0 {
            self.write_record_salted(record, random)?
        } else {
            let ending = ends.ended.keys().copied().collect();
            self.write_after_ends(record, random, Epoch(live.0 + begun), ending)?
        };
        let epoch = writing.epoch();
        let key = GrantedKey::Record(self.record_key(&mut writing.record, epoch)?);
        let edit = TreeEdit::new(tree.root().clone(), tree.source().clone());
        hung.heads.push(self.prepare(writing, &edit, &[])?);
        Ok((key, epoch))
    }

    /// Grants of a nested record for those who may read what holds it. `created` is the nonce of a record that the
    /// same transaction creates.
    pub(crate) fn grants_below(
        &self,
        record: RecordId,
        created: Option<[u8; 32]>,
        epoch: Epoch,
        key: &GrantedKey,
        readers: &[(GrantId, Conditions)],
    ) -> Result<Vec<Operation>, IssueError> {
        if readers.is_empty() {
            return Ok(Vec::new());
        }
        let book = self.book().map_err(Box::new)?;
        let issue = |(parent, above): &(GrantId, Conditions)| {
            let (label, label_blind) = book.label(above.label);
            let conditions = Conditions { record, parent: Some(*parent), ..above.clone() };
            let label = label.as_str();
            self.issue(&NewGrant { conditions, replaces: None, epoch, key, label, label_blind, created })
        };
        readers.iter().map(issue).collect()
    }
}

/// Whether a revocation of `target` ends the grant.
fn is_target(target: RevokeTarget, id: GrantId, grant: &GrantEntry) -> bool {
    match target {
        RevokeTarget::Reader(reader) => grant.conditions.reader == reader,
        RevokeTarget::Grant(named) => named == id,
    }
}

/// Names the grants by the ids that they get when the same transaction issues them again.
pub(crate) fn as_reissued(readers: &mut [(GrantId, Conditions)], operations: &[Operation]) {
    for operation in operations {
        let Operation::Grant(grant) = operation else { continue };
        for (id, _) in readers.iter_mut().filter(|(id, _)| grant.replaces == Some(*id)) {
            *id = grant.id();
        }
    }
}

fn granted(operation: &Operation) -> Option<(GrantId, Conditions)> {
    match operation {
        Operation::Grant(grant) => Some((grant.id(), grant.conditions.clone())),
        _ => None,
    }
}
