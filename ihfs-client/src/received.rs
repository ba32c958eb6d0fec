//! What others share with this member: listed without opening anything, and opened with the ledger's knowledge.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ihfs_core::codec::{self, DecodeError};
use ihfs_core::crypto::share::{KeyShare, ReleaseKey, ShareError};
use ihfs_core::grants::{GrantError, GrantSubject, GrantedKey, Note};
use ihfs_core::ids::{Digest, Generation, GrantId, MemberId, OpeningId, RecordId, Time};
use ihfs_core::ledger::lists::ListKey;
use ihfs_core::ledger::operation::{OPENED_GRANTS_MAX, Open, Operation};
use ihfs_core::ledger::rules::OPENING_PAUSE;
use ihfs_core::ledger::state::{
    GrantEntry, LastOpening, MemberEntry, NESTING_MAX, OpeningEntry, ReceivedItem, StateKey,
};
use ihfs_core::members::Handle;
use ihfs_proto::key;
use ihfs_proto::ledger::Reason;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};
use zeroize::Zeroizing;

use crate::call::Purpose;
use crate::client::{Client, now};
use crate::link::{AskError, Refusal};
use crate::openings::Beside;
use crate::record::OpenGrant;
use crate::submit::SubmitError;
use crate::view::{ViewError, decode_entry};

/// Most bytes of an encoded key share.
const SHARE_BYTES_MAX: usize = 64;

/// Most bytes of a kept note.
const NOTE_BYTES_MAX: usize = 4096;
/// How long a note is kept: it never changes, and so long the agent keeps anything.
const NOTE_KEPT_MILLIS: u64 = 12 * 60 * 60 * 1000;
/// How many threads ask for notes.
const NOTES_AT_ONCE: usize = 16;
/// How long a key can be had by an opening that was made before: a minute less than custodians release by it.
const RELEASED_MILLIS: u64 = 14 * 60 * 1000;
/// Most bytes of a kept opening.
const OPENED_BYTES_MAX: usize = 64;

/// An opening that is on the ledger.
#[derive(Clone, Copy, Debug, Serialize_tuple, Deserialize_tuple)]
struct Opened {
    opening: OpeningId,
    /// Until when nodes serve under it.
    until: Time,
}

/// Why a shared record was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    /// The ledger's word was not had.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Nobody shares this with the member, or no longer.
    #[error("nothing that {owner} shares with you as {label:?} is live")]
    NotShared {
        /// The owner.
        owner: Handle,
        /// The label.
        label: String,
    },
    /// Nothing that is known is this, but custodians gave no note of some grants that are live.
    #[error(
        "nothing that {owner} shares with you as {label:?} is known; {away} live grants, of which it may be one, \
         cannot be told apart: no custodian gave their notes"
    )]
    NotesAway {
        /// The owner.
        owner: Handle,
        /// The label.
        label: String,
        /// How many grants have no note.
        away: usize,
    },
    /// A record nested in a shared one was not shared with it.
    #[error("record {record:?} inside it is not shared with you")]
    NestedNotShared {
        /// The nested record.
        record: RecordId,
    },
    /// It is not open, and the call may open nothing.
    #[error("record {record:?} is not open; looking around opens nothing")]
    NotOpen {
        /// The shared record.
        record: RecordId,
    },
    /// The ledger did not take the opening.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// This device has not the secrets that the grant is sealed to.
    #[error("this device has no secrets of generation {generation}")]
    NoGeneration {
        /// The generation.
        generation: Generation,
    },
    /// Too few custodians released their share.
    #[error("{found} of the {wanted} key shares that are needed were released")]
    TooFewShares {
        /// How many were.
        found: usize,
        /// How many are needed.
        wanted: usize,
        /// What the last custodian said.
        #[source]
        last: Option<AskError>,
    },
    /// The shares do not make the key.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The grant does not open.
    #[error(transparent)]
    Grant(#[from] GrantError),
}

/// A grant that was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its id.
    pub grant: GrantId,
    /// The ledger's entry.
    pub entry: GrantEntry,
    /// The owner's handle, proved by the ledger's commitment; none when no custodian gave the note.
    pub owner: Option<Handle>,
    /// The owner's label; none when no custodian gave the note.
    pub label: Option<String>,
}

impl Client {
    /// What is shared with this member now. Opens nothing; grants on nested records stand under their parents.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn received(&self) -> Result<Vec<Received>, ViewError> {
        let mut grants = self.live_received()?;
        grants.retain(|(_, entry)| entry.conditions.parent.is_none());
        let notes = self.notes(&grants)?;
        let received = grants.into_iter().zip(notes).map(|((grant, entry), note)| {
            let (owner, label) = note.map(|note| (note.owner.handle, note.label)).unzip();
            Received { grant, entry, owner, label }
        });
        Ok(received.collect())
    }

    /// The grant behind `//owner/label`.
    pub(crate) fn find_received(
        &self,
        owner: &Handle,
        label: &str,
    ) -> Result<(GrantId, GrantEntry), OpeningError> {
        let fits = |received: &Received| {
            received.owner.as_ref() == Some(owner) && received.label.as_deref() == Some(label)
        };
        let received = self.received()?;
        let away = received.iter().filter(|received| received.owner.is_none()).count();
        // The newest of several with one label.
        if let Some(found) = received.into_iter().rev().find(fits) {
            return Ok((found.grant, found.entry));
        }
        let (owner, label) = (owner.clone(), label.to_owned());
        Err(match away {
            0 => OpeningError::NotShared { owner, label },
            away => OpeningError::NotesAway { owner, label, away },
        })
    }

    /// The grant on a record nested in a shared one.
    pub(crate) fn find_nested(&self, record: RecordId) -> Result<(GrantId, GrantEntry), OpeningError> {
        let found =
            self.live_received()?.into_iter().rev().find(|(_, entry)| entry.conditions.record == record);
        found.ok_or(OpeningError::NestedNotShared { record })
    }

    /// Grants to this member that neither ended nor expired; proved complete.
    pub(crate) fn live_received(&self) -> Result<Vec<(GrantId, GrantEntry)>, ViewError> {
        let key = ListKey::Received(self.member());
        let received = self.own_lists()?.received;
        let items: Vec<ReceivedItem> = self.view.items(key, Default::default(), received)?;
        let keys: Vec<StateKey> = items.iter().map(|item| StateKey::Grant(item.grant)).collect();
        let time = now().max(self.view.trust().time);
        let mut live = Vec::new();
        for (item, bytes) in items.iter().zip(self.view.entries(&keys)?) {
            let entry: GrantEntry = decode_entry(bytes)?.ok_or(DecodeError::Malformed)?;
            if entry.ended.is_none() && !entry.is_expired_at(time) {
                live.push((item.grant, entry));
            }
        }
        Ok(live)
    }

    /// The owners' notes: those kept in memory, and the others from custodians, several at once.
    fn notes(&self, grants: &[(GrantId, GrantEntry)]) -> Result<Vec<Option<Note>>, ViewError> {
        let commitments = self.handle_commitments(grants)?;
        let is_true = |note: &Note, entry: &GrantEntry| {
            let commitment = commitments.get(&entry.owner);
            commitment.is_some_and(|commitment| note.owner.opens(*commitment))
                && note.label_commitment() == entry.conditions.label
        };
        let share = grants.len().div_ceil(NOTES_AT_ONCE).max(1);
        let notes = std::thread::scope(|scope| {
            let some = |some: &'_ [(GrantId, GrantEntry)]| -> Vec<_> {
                some.iter().map(|(grant, entry)| self.note(*grant, entry)).collect()
            };
            let threads: Vec<_> = grants.chunks(share).map(|part| scope.spawn(move || some(part))).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("asking does not panic")).collect()
        });
        let notes: Vec<Option<Note>> = notes;
        Ok(notes
            .into_iter()
            .zip(grants)
            .map(|(note, (_, entry))| note.filter(|note| is_true(note, entry)))
            .collect())
    }

    /// What the ledger keeps of the owners' handles.
    fn handle_commitments(
        &self,
        grants: &[(GrantId, GrantEntry)],
    ) -> Result<BTreeMap<MemberId, Digest>, ViewError> {
        let owners: BTreeSet<MemberId> = grants.iter().map(|(_, entry)| entry.owner).collect();
        let keys: Vec<StateKey> = owners.iter().copied().map(StateKey::Member).collect();
        let mut commitments = BTreeMap::new();
        for (owner, bytes) in owners.into_iter().zip(self.view.entries(&keys)?) {
            let entry: Option<MemberEntry> = decode_entry(bytes)?;
            commitments.extend(entry.map(|entry| (owner, entry.handle)));
        }
        Ok(commitments)
    }

    /// The owner's note as it was kept, or from the first custodian that gives the one on the ledger.
    fn note(&self, grant: GrantId, entry: &GrantEntry) -> Option<Note> {
        let kept = self.openings.get(Beside::Note.id(grant), now());
        if let Some(note) = kept.and_then(|bytes| codec::decode(&bytes, NOTE_BYTES_MAX).ok()) {
            return Some(note);
        }
        let secrets = self.keys.generation(entry.generation)?;
        let subject = self.subject(grant, entry);
        let ask = |node| {
            let get = key::GetNote { grant: grant.as_bytes().to_vec().into() };
            match self.link.ask_key(node, key::request::Request::Note(get)) {
                Ok(key::response::Response::Note(bytes)) => {
                    subject.open_note(&secrets.sealing, &entry.digests, &bytes).ok()
                }
                _ => None,
            }
        };
        let note = entry.custodians.iter().find_map(|custodian| ask(custodian.node))?;
        let bytes = Zeroizing::new(codec::encode(&note));
        self.openings.put(Beside::Note.id(grant), bytes, now().plus_millis(NOTE_KEPT_MILLIS));
        Some(note)
    }

    /// The key of a grant: kept from an opening of the last hours, or by a new one, which the owner will see.
    pub(crate) fn open_grant(&self, id: GrantId, entry: GrantEntry) -> Result<Arc<OpenGrant>, OpeningError> {
        let kept = self.openings.get(id, now()).and_then(|bytes| GrantedKey::from_bytes(&bytes).ok());
        let key = match kept.or_else(|| self.key_of_kept_opening(id, &entry)) {
            Some(key) => key,
            None if self.link.call().purpose() == Purpose::Browse => {
                return Err(OpeningError::NotOpen { record: entry.conditions.record });
            }
            None => self.open_on_ledger(id, &entry)?,
        };
        Ok(Arc::new(OpenGrant { id, entry, key }))
    }

    /// The key by an opening that named this grant with others. None when custodians know nothing of it any more.
    fn key_of_kept_opening(&self, id: GrantId, entry: &GrantEntry) -> Option<GrantedKey> {
        let kept = self.openings.get(Beside::Opening.id(id), now())?;
        let opened: Opened = codec::decode(&kept, OPENED_BYTES_MAX).ok()?;
        self.key_of(opened, id, entry).ok()
    }

    fn open_on_ledger(&self, id: GrantId, entry: &GrantEntry) -> Result<GrantedKey, OpeningError> {
        let mut grants = self.opened_together(id, entry)?;
        let opened = match self.open_now(&grants) {
            // One of the others may have ended, or was opened a moment ago.
            Err(OpeningError::Submit(SubmitError::Refused(_))) if grants.len() > 1 => {
                grants = vec![id];
                self.open_now(&grants)
            }
            opened => opened,
        };
        let opened = match opened {
            Err(OpeningError::Submit(SubmitError::Refused(refusal))) => {
                return self.open_late(id, entry, refusal);
            }
            opened => opened?,
        };
        for other in grants.into_iter().filter(|grant| *grant != id) {
            let bytes = Zeroizing::new(codec::encode(&opened));
            let until = now().plus_millis(RELEASED_MILLIS);
            self.openings.put(Beside::Opening.id(other), bytes, until);
        }
        self.key_of(opened, id, entry)
    }

    fn open_now(&self, grants: &[GrantId]) -> Result<Opened, OpeningError> {
        let opening_millis = self.places()?.consortium.policy.opening;
        let decided = self.submit(vec![Operation::Open(Open { grants: grants.to_vec() })])?;
        Ok(Opened { opening: OpeningId::of(decided.id, 0), until: now().plus_millis(opening_millis) })
    }

    /// The ledger wants a pause after an opening. This device's own of a moment ago still serves; after one of
    /// another device, or when custodians restarted since, it opens once the pause is over.
    fn open_late(
        &self,
        id: GrantId,
        entry: &GrantEntry,
        refusal: Refusal,
    ) -> Result<GrantedKey, OpeningError> {
        let Some(last) = self.opening_of_late(id)? else {
            return Err(SubmitError::Refused(refusal).into());
        };
        let own: Option<OpeningEntry> = self.view.entry(StateKey::Opening(last.opening))?;
        if own.is_some_and(|opening| opening.device == self.keys.device_id()) {
            let opening_millis = self.places()?.consortium.policy.opening;
            let opened = Opened { opening: last.opening, until: last.time.plus_millis(opening_millis) };
            let key = self.key_of(opened, id, entry);
            if !is_to_open_again(&key) {
                return key;
            }
        }
        std::thread::sleep(self.link.call().left(Duration::from_millis(OPENING_PAUSE)));
        self.key_of(self.open_now(&[id])?, id, entry)
    }

    /// The last opening of a grant which would open now, if it is so young that the ledger takes no other.
    fn opening_of_late(&self, id: GrantId) -> Result<Option<LastOpening>, ViewError> {
        let entry: Option<GrantEntry> = self.view.entry(StateKey::Grant(id))?;
        let time = now().max(self.view.trust().time);
        let Some(entry) = entry.filter(|entry| entry.is_open_at(time)) else { return Ok(None) };
        // Twice the pause: this clock and the ledger's differ.
        let late = |last: &LastOpening| time < last.time.plus_millis(2 * OPENING_PAUSE);
        Ok(entry.opened.filter(late))
    }

    /// The grants that one opening names: this one, and those that came from the same grant and are not open. They
    /// are read with it, and would be opened one after the other else.
    fn opened_together(&self, id: GrantId, entry: &GrantEntry) -> Result<Vec<GrantId>, ViewError> {
        let live = self.live_received()?;
        let parents = self.first_parents(&live)?;
        let top_of = |mut first: GrantId| {
            for _ in 0..NESTING_MAX {
                let Some(parent) = parents.get(&first) else { break };
                first = *parent;
            }
            first
        };
        let (top, time) = (top_of(entry.first), now().max(self.view.trust().time));
        let is_open = |grant: GrantId| {
            [grant, Beside::Opening.id(grant)].iter().any(|id| self.openings.get(*id, now()).is_some())
        };
        let mut grants = BTreeSet::from([id]);
        for (other, entry) in &live {
            if grants.len() == OPENED_GRANTS_MAX {
                break;
            }
            if top_of(entry.first) == top && entry.conditions.not_before <= time && !is_open(*other) {
                grants.insert(*other);
            }
        }
        Ok(grants.into_iter().collect())
    }

    /// First ids of the grants that these are nested in, by their own first ids.
    fn first_parents(
        &self,
        grants: &[(GrantId, GrantEntry)],
    ) -> Result<BTreeMap<GrantId, GrantId>, ViewError> {
        let nested = grants.iter().filter_map(|(_, entry)| Some((entry.first, entry.conditions.parent?)));
        let (firsts, parents): (Vec<_>, Vec<_>) = nested.unzip();
        let keys: Vec<StateKey> = parents.into_iter().map(StateKey::Grant).collect();
        let mut first_parents = BTreeMap::new();
        for (first, bytes) in firsts.into_iter().zip(self.view.entries(&keys)?) {
            let parent: GrantEntry = decode_entry(bytes)?.ok_or(DecodeError::Malformed)?;
            first_parents.insert(first, parent.first);
        }
        Ok(first_parents)
    }

    /// The key that custodians release for an opening, kept for as long as that is served.
    fn key_of(&self, opened: Opened, id: GrantId, entry: &GrantEntry) -> Result<GrantedKey, OpeningError> {
        let generation = entry.generation;
        let secrets = self.keys.generation(generation).ok_or(OpeningError::NoGeneration { generation })?;
        let (release, envelope) = self.release(opened.opening, id, entry)?;
        let key = self.subject(id, entry).open_key(&secrets.sealing, &release, &entry.digests, &envelope)?;
        self.openings.put(id, Zeroizing::new(key.to_bytes().to_vec()), opened.until);
        Ok(key)
    }

    /// Key shares from custodians until there are enough; each is checked by its digest on the ledger.
    fn release(
        &self,
        opening: OpeningId,
        grant: GrantId,
        entry: &GrantEntry,
    ) -> Result<(ReleaseKey, Vec<u8>), OpeningError> {
        let wanted = usize::from(entry.threshold);
        let (mut shares, mut envelope, mut last) = (Vec::new(), Vec::new(), None);
        for custodian in &entry.custodians {
            if shares.len() == wanted {
                break;
            }
            let node = custodian.node;
            let release = key::Release {
                opening: opening.as_bytes().to_vec().into(),
                grant: grant.as_bytes().to_vec().into(),
            };
            match self.link.ask_key(node, key::request::Request::Release(release)) {
                Ok(key::response::Response::Released(released)) => {
                    let share: Option<KeyShare> = codec::decode(&released.share, SHARE_BYTES_MAX).ok();
                    match share.filter(|share| share.digest() == custodian.share) {
                        Some(share) => {
                            shares.push(share);
                            envelope = released.envelope.to_vec();
                        }
                        None => last = Some(AskError::Malformed { node }),
                    }
                }
                Ok(_) => last = Some(AskError::Malformed { node }),
                Err(error) => last = Some(error),
            }
        }
        if shares.len() < wanted {
            return Err(OpeningError::TooFewShares { found: shares.len(), wanted, last });
        }
        Ok((ReleaseKey::combine(&shares, entry.threshold, entry.digests.release)?, envelope))
    }

    fn subject(&self, grant: GrantId, entry: &GrantEntry) -> GrantSubject {
        let (record, reader): (RecordId, MemberId) = (entry.conditions.record, entry.conditions.reader);
        GrantSubject { chain: self.chain(), grant, record, epoch: entry.epoch, reader }
    }
}

/// Whether custodians did not see the opening: they serve under the next.
fn is_to_open_again<T>(released: &Result<T, OpeningError>) -> bool {
    let Err(OpeningError::TooFewShares { last: Some(AskError::Refused(refusal)), .. }) = released else {
        return false;
    };
    refusal.reason == Reason::OpenAgain
}
