//! What others share with this member: listed without opening anything, and opened with the ledger's knowledge.

use std::sync::Arc;
use std::time::Duration;

use ihfs_core::codec::{self, DecodeError};
use ihfs_core::crypto::share::{KeyShare, ReleaseKey, ShareError};
use ihfs_core::grants::{GrantError, GrantSubject, GrantedKey, Note};
use ihfs_core::ids::{Generation, GrantId, MemberId, OpeningId, RecordId};
use ihfs_core::ledger::lists::ListKey;
use ihfs_core::ledger::operation::{Open, Operation};
use ihfs_core::ledger::rules::OPENING_PAUSE;
use ihfs_core::ledger::state::{GrantEntry, LastOpening, MemberEntry, OpeningEntry, ReceivedItem, StateKey};
use ihfs_core::members::Handle;
use ihfs_proto::key;
use ihfs_proto::ledger::Reason;
use zeroize::Zeroizing;

use crate::call::Purpose;
use crate::client::{Client, now};
use crate::link::AskError;
use crate::record::OpenGrant;
use crate::submit::SubmitError;
use crate::view::{ViewError, decode_entry};

/// Most bytes of an encoded key share.
const SHARE_BYTES_MAX: usize = 64;

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
        let grants = self.live_received()?;
        let top = grants.into_iter().filter(|(_, entry)| entry.conditions.parent.is_none());
        top.map(|(grant, entry)| {
            let note = self.note(grant, &entry)?;
            let (owner, label) = note.map(|note| (note.owner.handle, note.label)).unzip();
            Ok(Received { grant, entry, owner, label })
        })
        .collect()
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
        // The newest of several with one label.
        let found = self.received()?.into_iter().rev().find(fits);
        let not_shared = || OpeningError::NotShared { owner: owner.clone(), label: label.to_owned() };
        found.map(|received| (received.grant, received.entry)).ok_or_else(not_shared)
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

    /// The owner's note, from the first custodian that gives the one on the ledger.
    fn note(&self, grant: GrantId, entry: &GrantEntry) -> Result<Option<Note>, ViewError> {
        let Some(secrets) = self.keys.generation(entry.generation) else { return Ok(None) };
        let subject = self.subject(grant, entry);
        let owner: Option<MemberEntry> = self.view.entry(StateKey::Member(entry.owner))?;
        let commitment = owner.map(|owner| owner.handle);
        let ask = |node| {
            let get = key::GetNote { grant: grant.as_bytes().to_vec().into() };
            match self.link.ask_key(node, key::request::Request::Note(get)) {
                Ok(key::response::Response::Note(bytes)) => {
                    subject.open_note(&secrets.sealing, &entry.digests, &bytes).ok()
                }
                _ => None,
            }
        };
        let is_true = |note: &Note| {
            commitment.is_some_and(|commitment| note.owner.opens(commitment))
                && note.label_commitment() == entry.conditions.label
        };
        Ok(entry.custodians.iter().find_map(|custodian| ask(custodian.node)).filter(is_true))
    }

    /// The key of a grant: kept from an opening of the last hours, or by a new one, which the owner will see.
    pub(crate) fn open_grant(&self, id: GrantId, entry: GrantEntry) -> Result<Arc<OpenGrant>, OpeningError> {
        let kept = self.openings.get(id, now()).and_then(|bytes| GrantedKey::from_bytes(&bytes).ok());
        let key = match kept {
            Some(key) => key,
            None if self.link.call().purpose() == Purpose::Browse => {
                return Err(OpeningError::NotOpen { record: entry.conditions.record });
            }
            None => self.open_on_ledger(id, &entry)?,
        };
        Ok(Arc::new(OpenGrant { id, entry, key }))
    }

    fn open_on_ledger(&self, id: GrantId, entry: &GrantEntry) -> Result<GrantedKey, OpeningError> {
        let generation = entry.generation;
        let secrets = self.keys.generation(generation).ok_or(OpeningError::NoGeneration { generation })?;
        let opening_millis = self.places()?.consortium.policy.opening;
        let (release, envelope) = self.open_or_reuse(id, entry)?;
        let subject = self.subject(id, entry);
        let key = subject.open_key(&secrets.sealing, &release, &entry.digests, &envelope)?;
        let bytes = Zeroizing::new(key.to_bytes().to_vec());
        self.openings.put(id, bytes, now().plus_millis(opening_millis));
        Ok(key)
    }

    /// What a new opening releases; or this device's own of a moment ago, when the ledger wants a pause after it.
    fn open_or_reuse(&self, id: GrantId, entry: &GrantEntry) -> Result<(ReleaseKey, Vec<u8>), OpeningError> {
        let submit = || self.submit(vec![Operation::Open(Open { grants: vec![id] })]);
        let refusal = match submit() {
            Ok(decided) => return self.release(OpeningId::of(decided.id, 0), id, entry),
            Err(SubmitError::Refused(refusal)) => refusal,
            Err(error) => return Err(error.into()),
        };
        let Some(last) = self.opening_of_late(id)? else {
            return Err(SubmitError::Refused(refusal).into());
        };
        let own: Option<OpeningEntry> = self.view.entry(StateKey::Opening(last))?;
        if own.is_some_and(|opening| opening.device == self.keys.device_id()) {
            let released = self.release(last, id, entry);
            if !is_to_open_again(&released) {
                return released;
            }
        }
        // Another device opened it, or custodians restarted since.
        std::thread::sleep(Duration::from_millis(OPENING_PAUSE));
        self.release(OpeningId::of(submit()?.id, 0), id, entry)
    }

    /// The last opening of a grant which would open now, if it is so young that the ledger takes no other.
    fn opening_of_late(&self, id: GrantId) -> Result<Option<OpeningId>, ViewError> {
        let entry: Option<GrantEntry> = self.view.entry(StateKey::Grant(id))?;
        let time = now().max(self.view.trust().time);
        let Some(entry) = entry.filter(|entry| entry.is_open_at(time)) else { return Ok(None) };
        // Twice the pause: this clock and the ledger's differ.
        let late = |last: &LastOpening| time < last.time.plus_millis(2 * OPENING_PAUSE);
        Ok(entry.opened.filter(late).map(|last| last.opening))
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
