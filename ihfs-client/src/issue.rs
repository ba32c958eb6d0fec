//! Issuing grants: the key sealed to the reader, the release key split among custodians, both durable there
//! before the ledger names the grant.

use std::collections::BTreeSet;

use ihfs_core::codec::{self, DecodeError};
use ihfs_core::crypto::envelope::EnvelopeError;
use ihfs_core::crypto::share::KeyShare;
use ihfs_core::grants::{GrantSubject, GrantedKey, Note, PreparedGrant};
use ihfs_core::ids::{Epoch, GrantId, MemberId, NodeId, RecordId, Time};
use ihfs_core::ledger::identity::MemberSealingKey;
use ihfs_core::ledger::lists::ListKey;
use ihfs_core::ledger::operation::{Conditions, Custodian, CustodySubject, Grant, Operation};
use ihfs_core::ledger::state::{GrantEntry, GrantItem, LineageEntry, MemberEntry, RecordLists, StateKey};
use ihfs_core::placement::{custodians_wanted, threshold};
use ihfs_proto::key;

use crate::book::BookError;
use crate::client::{Client, now};
use crate::link::AskError;
use crate::record::{Record, RecordError};
use crate::view::{ViewError, decode_entry};

/// How long custodians keep a share whose grant never comes to be.
const ORPHAN_MILLIS: u64 = 24 * 60 * 60 * 1000;
/// Most grants that one commit issues again: with five custodians each takes 1.2 KB of the 256 KiB that a
/// transaction may have. The next commit goes on.
pub(crate) const REISSUED_MAX: usize = 100;
/// Most bytes of a custodian's signed word.
const CUSTODIAN_BYTES_MAX: usize = 512;

/// Why a grant was not issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The ledger's word was not had.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The record could not be opened.
    #[error(transparent)]
    Record(#[from] Box<RecordError>),
    /// The ledger knows no such member, or the member has no sealing key yet.
    #[error("member {member:?} has no key to share with")]
    NoKey {
        /// The member.
        member: MemberId,
    },
    /// The member's sealing key is not signed by the member key.
    #[error("the sealing key of member {member:?} is not signed by the member")]
    UnsignedKey {
        /// The member.
        member: MemberId,
    },
    /// The member's sealing key is unusable.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Fewer custodians than needed took their share.
    #[error("{found} of the {wanted} custodians that are needed took their key share")]
    TooFewCustodians {
        /// How many did.
        found: usize,
        /// How many are needed.
        wanted: usize,
        /// What the last one said.
        #[source]
        last: Option<AskError>,
    },
    /// This member has no handle yet.
    #[error("this device does not know its member's handle")]
    NoHandle,
    /// The address book could not be read.
    #[error(transparent)]
    Book(#[from] Box<BookError>),
}

impl From<RecordError> for IssueError {
    fn from(error: RecordError) -> Self {
        Self::Record(Box::new(error))
    }
}

/// What a grant is to be.
pub(crate) struct NewGrant<'a> {
    pub(crate) conditions: Conditions,
    pub(crate) replaces: Option<GrantId>,
    pub(crate) epoch: Epoch,
    pub(crate) key: &'a GrantedKey,
    pub(crate) label: &'a str,
    pub(crate) label_blind: [u8; 32],
    /// Of a record that the same transaction creates.
    pub(crate) created: Option<[u8; 32]>,
}

impl Client {
    /// Leaves the shares of a grant with custodians and gives the operation that the ledger takes.
    pub(crate) fn issue(&self, new: &NewGrant<'_>) -> Result<Operation, IssueError> {
        let owner = self.handle.clone().ok_or(IssueError::NoHandle)?;
        let nonce: [u8; 32] = rand::random();
        let record = new.conditions.record;
        let grant = GrantId::of(record, &nonce);
        let reader = new.conditions.reader;
        let sealing = self.sealing_key(reader)?;
        let subject = GrantSubject { chain: self.chain(), grant, record, epoch: new.epoch, reader };
        let note = Note { owner, label: new.label.to_owned(), label_blind: new.label_blind };
        let places = self.places()?;
        let placement = places.placement.deciding(&places.consortium.next);
        let wanted = custodians_wanted(placement.zones());
        let needed = threshold(wanted);
        let counts = (small(needed), small(wanted));
        let prepared = subject.prepare(&sealing.key, new.key, &note, counts, &mut rand::rng())?;
        let order = placement.custodians(grant);
        let custodians = self.deposit(&subject, &prepared, new.created, &order, (needed, wanted))?;
        Ok(Operation::Grant(Box::new(Grant {
            nonce,
            conditions: new.conditions.clone(),
            replaces: new.replaces,
            epoch: new.epoch,
            generation: sealing.generation,
            digests: prepared.digests,
            threshold: small(needed),
            custodians,
        })))
    }

    /// The member's newest sealing key, signed by the member key that the ledger names.
    fn sealing_key(&self, member: MemberId) -> Result<MemberSealingKey, IssueError> {
        let entry: MemberEntry =
            self.view.entry(StateKey::Member(member))?.ok_or(IssueError::NoKey { member })?;
        let key: MemberSealingKey = self
            .view
            .entry(StateKey::MemberKey(member, entry.generation))?
            .ok_or(IssueError::NoKey { member })?;
        key.verify(member, &entry.key).map_err(|_| IssueError::UnsignedKey { member })?;
        Ok(key)
    }

    /// The first nodes that answer, in rendezvous order, take a share each.
    fn deposit(
        &self,
        subject: &GrantSubject,
        prepared: &PreparedGrant,
        created: Option<[u8; 32]>,
        order: &[NodeId],
        (needed, wanted): (usize, usize),
    ) -> Result<Vec<Custodian>, IssueError> {
        let keep_until = now().max(self.view.trust().time).plus_millis(ORPHAN_MILLIS);
        let mut custodians = Vec::new();
        let mut last = None;
        for node in order {
            if custodians.len() == wanted {
                break;
            }
            let share = &prepared.shares[custodians.len()];
            let deposit = key::Deposit {
                share: codec::encode(share).into(),
                nonce: created.map(|nonce| nonce.to_vec().into()).unwrap_or_default(),
                ..deposit_of(subject, prepared, keep_until)
            };
            match self.deposit_with(*node, subject, prepared, share, deposit) {
                Ok(custodian) => custodians.push(custodian),
                Err(error) => last = Some(error),
            }
        }
        let found = custodians.len();
        if found < needed {
            Err(IssueError::TooFewCustodians { found, wanted: needed, last })
        } else {
            Ok(custodians)
        }
    }

    fn deposit_with(
        &self,
        node: NodeId,
        subject: &GrantSubject,
        prepared: &PreparedGrant,
        share: &KeyShare,
        deposit: key::Deposit,
    ) -> Result<Custodian, AskError> {
        let malformed = |_: DecodeError| AskError::Malformed { node };
        match self.link.ask_key(node, key::request::Request::Deposit(deposit))? {
            key::response::Response::Custodian(bytes) => {
                let custodian: Custodian = codec::decode(&bytes, CUSTODIAN_BYTES_MAX).map_err(malformed)?;
                let signed =
                    CustodySubject { chain: subject.chain, grant: subject.grant, digests: prepared.digests };
                let fits = custodian.node == node
                    && custodian.share == share.digest()
                    && signed.verify(&custodian).is_ok();
                if fits { Ok(custodian) } else { Err(AskError::Malformed { node }) }
            }
            _ => Err(AskError::Malformed { node }),
        }
    }

    /// Issues the record's live grants again for `epoch`, where they hold the key of an older one; not those that
    /// are `ending` in the same transaction.
    pub(crate) fn reissue(
        &self,
        mut record: Record,
        epoch: Epoch,
        ending: &BTreeSet<GrantId>,
    ) -> Result<Vec<Operation>, IssueError> {
        let is_due = |grant: &GrantEntry| {
            grant.epoch != epoch && grant.conditions.snapshot.is_none() && !ending.contains(&grant.first)
        };
        let grants = self.live_grants(&record)?;
        let due: Vec<_> = grants.into_iter().filter(|(_, grant)| is_due(grant)).take(REISSUED_MAX).collect();
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let book = self.book().map_err(Box::new)?;
        let mut operations = Vec::new();
        for (id, grant) in due {
            let key = GrantedKey::Record(self.record_key(&mut record, epoch)?);
            let (label, label_blind) = book.label(grant.conditions.label);
            let new = NewGrant {
                conditions: grant.conditions,
                replaces: Some(id),
                epoch,
                key: &key,
                label: &label,
                label_blind,
                created: None,
            };
            operations.push(self.issue(&new)?);
        }
        Ok(operations)
    }

    /// Grants of the record that neither ended nor expired.
    pub(crate) fn live_grants(&self, record: &Record) -> Result<Vec<(GrantId, GrantEntry)>, ViewError> {
        let time = now().max(self.view.trust().time);
        let grants = self.grants_of(record.id, record.lists)?;
        Ok(grants
            .into_iter()
            .filter(|(_, grant)| grant.ended.is_none() && !grant.is_expired_at(time))
            .collect())
    }

    /// The reader's grants on these records that neither ended nor expired. No list is walked: three questions,
    /// each of a size that is bounded by the number of records.
    pub(crate) fn live_grants_to(
        &self,
        records: &[RecordId],
        reader: MemberId,
    ) -> Result<Vec<(GrantId, GrantEntry)>, ViewError> {
        let firsts: Vec<_> = records.iter().map(|record| StateKey::ReaderGrants(*record, reader)).collect();
        let mut lineages = Vec::new();
        for bytes in self.view.entries(&firsts)? {
            let firsts: Option<Vec<GrantId>> = decode_entry(bytes)?;
            lineages.extend(firsts.unwrap_or_default().into_iter().map(StateKey::Lineage));
        }
        let mut ids = Vec::with_capacity(lineages.len());
        for bytes in self.view.entries(&lineages)? {
            let lineage: LineageEntry = decode_entry(bytes)?.ok_or(DecodeError::Malformed)?;
            ids.push(lineage.current);
        }
        let keys: Vec<StateKey> = ids.iter().copied().map(StateKey::Grant).collect();
        let time = now().max(self.view.trust().time);
        let mut live = Vec::with_capacity(ids.len());
        for (id, bytes) in ids.into_iter().zip(self.view.entries(&keys)?) {
            let grant: GrantEntry = decode_entry(bytes)?.ok_or(DecodeError::Malformed)?;
            if grant.ended.is_none() && !grant.is_expired_at(time) {
                live.push((id, grant));
            }
        }
        Ok(live)
    }

    /// Every grant that was ever given on the record, with its entry as of now; proved complete.
    pub(crate) fn grants_of(
        &self,
        record: RecordId,
        lists: Option<RecordLists>,
    ) -> Result<Vec<(GrantId, GrantEntry)>, ViewError> {
        let Some(RecordLists { grants, .. }) = lists else { return Ok(Vec::new()) };
        let items: Vec<GrantItem> = self.view.items(ListKey::Grants(record), Default::default(), grants)?;
        let given: Vec<GrantId> = items
            .iter()
            .filter_map(|item| match item {
                GrantItem::Granted(granted) => Some(granted.grant),
                GrantItem::Ended(..) => None,
            })
            .collect();
        let keys: Vec<StateKey> = given.iter().map(|grant| StateKey::Grant(*grant)).collect();
        let entries = self.view.entries(&keys)?;
        given
            .into_iter()
            .zip(entries)
            .map(|(id, bytes)| Ok((id, decode_entry(bytes)?.ok_or(DecodeError::Malformed)?)))
            .collect()
    }
}

/// What every custodian of a grant is told, without its share.
fn deposit_of(subject: &GrantSubject, prepared: &PreparedGrant, keep_until: Time) -> key::Deposit {
    key::Deposit {
        grant: subject.grant.as_bytes().to_vec().into(),
        record: subject.record.as_bytes().to_vec().into(),
        reader: subject.reader.as_bytes().to_vec().into(),
        epoch: subject.epoch.0,
        digests: codec::encode(&prepared.digests).into(),
        share: Default::default(),
        envelope: prepared.envelope.clone().into(),
        note: prepared.note.clone().into(),
        keep_until: keep_until.0,
        nonce: Default::default(),
    }
}

fn small(count: usize) -> u8 {
    u8::try_from(count).expect("at most 5 custodians")
}
