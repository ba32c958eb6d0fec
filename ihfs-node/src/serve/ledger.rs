//! Reading the ledger by proof, and asking it for changes.

use std::sync::Arc;
use std::time::Duration;

use ihfs_core::codec;
use ihfs_core::crypto::sign::Purpose;
use ihfs_core::ids::{Height, MemberId, Time};
use ihfs_core::ledger::certificate::freshness_bytes;
use ihfs_core::ledger::lists::ListKey;
use ihfs_core::ledger::proof;
use ihfs_core::ledger::rules::Refused;
use ihfs_core::ledger::state::StateError;
use ihfs_core::ledger::transaction::SignedTransaction;
use ihfs_core::members::Handle;
use ihfs_net::Message;
use ihfs_proto::ledger::request::Request as Ask;
use ihfs_proto::ledger::response::Response as Answer;
use ihfs_proto::ledger::{
    Applied, Freshness, Handover, HandoverList, Handovers, Head, ItemList, Items, NewestBlock, Prove, Proved,
    ProvedEntry, Reason, Refusal, Request, Resolve, Resolved, Response, Wait,
};
use ihfs_proto::{ITEMS_BYTES_MAX, PROVE_KEYS_MAX};

use super::access::{self, Shown, Who};
use super::{
    SUBMIT_TIME_MAX, Service, WAIT_TIME_MAX, blocking, broken, busy, in_turn, malformed, not_allowed,
};
use crate::ledger::{Snapshot, SubmitError};

/// Most handovers of one answer: with a certificate and a set of 256 validators each they fit a body.
const HANDOVERS_MAX: usize = 16;
/// Bytes of the nonce that a node signs.
const NONCE_BYTES: usize = 32;
/// Most bytes of a list's name.
const LIST_KEY_BYTES_MAX: usize = 64;

impl Service {
    /// Answers one message of the ledger conversation.
    pub(super) async fn ledger(&self, who: Who, message: Message) -> Message {
        let answer = match ihfs_proto::from_parts::<Request>(message.header, message.body) {
            Ok(Request { request: Some(ask) }) => self.ledger_answer(who, ask).await,
            _ => Err(malformed("not a request of the ledger conversation")),
        };
        let response = Some(answer.unwrap_or_else(Answer::Refusal));
        let (header, body) = ihfs_proto::to_parts(&Response { response });
        Message { header, body }
    }

    async fn ledger_answer(&self, who: Who, ask: Ask) -> Result<Answer, Refusal> {
        match ask {
            Ask::Head(head) => Ok(Answer::Head(self.head(&head)?)),
            Ask::Handovers(ask) => Ok(Answer::Handovers(self.handovers(ask).await?)),
            Ask::Prove(prove) => Ok(Answer::Proved(self.prove(who, prove, access::may_prove).await?)),
            Ask::Items(ask) => Ok(Answer::Items(self.items(who, ask).await?)),
            Ask::Submit(submit) => self.submit_as(who, &submit.transaction).await.map(Answer::Applied),
            Ask::Wait(wait) => Ok(Answer::Head(self.wait(who, &wait).await?)),
            Ask::Resolve(ask) => Ok(Answer::Resolved(self.resolve(who, ask).await?)),
        }
    }

    /// The newest block, and this validator's word for it over the asker's nonce.
    pub(super) fn head(&self, head: &Head) -> Result<NewestBlock, Refusal> {
        let snapshot = self.ledger.snapshot();
        let mut newest = newest_block(&snapshot)?;
        if head.nonce.is_empty() {
            return Ok(newest);
        }
        let nonce: &[u8; NONCE_BYTES] =
            head.nonce.as_ref().try_into().map_err(|_| malformed("a nonce has 32 bytes"))?;
        let at = snapshot.newest();
        let signed = freshness_bytes(self.ledger.chain(), at.height, at.block, nonce);
        newest.freshness.push(Freshness {
            node: bytes::Bytes::copy_from_slice(self.node().as_bytes()),
            signature: bytes::Bytes::copy_from_slice(
                self.key.get().sign(Purpose::Freshness, &signed).as_bytes(),
            ),
        });
        Ok(newest)
    }

    /// Blocks that changed the validators.
    pub(super) async fn handovers(&self, ask: Handovers) -> Result<HandoverList, Refusal> {
        let ledger = Arc::clone(&self.ledger);
        let work = blocking(move || {
            let (found, more) =
                ledger.snapshot().handovers(Height(ask.from), HANDOVERS_MAX).map_err(broken)?;
            let handover = |found: &crate::ledger::Handover| Handover {
                header: codec::encode(&found.header).into(),
                certificate: codec::encode(&found.certificate).into(),
                next_validators: codec::encode(&found.next).into(),
            };
            Ok(HandoverList { handovers: found.iter().map(handover).collect(), more })
        });
        in_turn(&self.turns.read, work).await
    }

    /// Proofs under the newest block, of keys that `may` allows.
    pub(super) async fn prove(
        &self,
        who: Who,
        prove: Prove,
        may: fn(&Snapshot, Who, Time, &[u8]) -> Result<Shown, StateError>,
    ) -> Result<Proved, Refusal> {
        if prove.keys.len() > PROVE_KEYS_MAX {
            return Err(malformed("too many keys in one request for proofs"));
        }
        let (ledger, clock) = (Arc::clone(&self.ledger), self.clock);
        let work = blocking(move || {
            let snapshot = ledger.snapshot();
            let time = clock.time(&snapshot);
            let mut entries = Vec::with_capacity(prove.keys.len());
            for key in &prove.keys {
                let shown = may(&snapshot, who, time, key).map_err(broken)?;
                check_shown(shown, key, "this entry is shown to those that it is about")?;
                entries.push(proved_entry(&snapshot, key)?);
            }
            Ok(Proved { block: Some(newest_block(&snapshot)?), entries })
        });
        in_turn(&self.turns.read, work).await
    }

    async fn items(&self, who: Who, ask: Items) -> Result<ItemList, Refusal> {
        let list: ListKey =
            codec::decode(&ask.list, LIST_KEY_BYTES_MAX).map_err(|_| malformed("not the name of a list"))?;
        let (ledger, clock) = (Arc::clone(&self.ledger), self.clock);
        let work = blocking(move || {
            let snapshot = ledger.snapshot();
            let time = clock.time(&snapshot);
            let shown = access::may_list(&snapshot, who, time, list).map_err(broken)?;
            check_shown(shown, &list.to_bytes()[1..], "this list is shown to those that it is about")?;
            let end = if ask.end == 0 { u64::MAX } else { ask.end };
            let items = snapshot.items(list, ask.from, end, ITEMS_BYTES_MAX).map_err(broken)?;
            Ok(ItemList { items: items.into_iter().map(Into::into).collect() })
        });
        in_turn(&self.turns.read, work).await
    }

    /// Hands a member's own transaction to consensus, and waits for the decision.
    async fn submit_as(&self, who: Who, bytes: &[u8]) -> Result<Applied, Refusal> {
        let (signed, member) = read_transaction(bytes)?;
        if who.member().is_some_and(|asker| asker != member) || who == Who::Guest {
            return Err(not_allowed(member.as_bytes(), "a transaction is submitted by its own member"));
        }
        self.submit(who, signed).await
    }

    /// Hands a transaction to consensus, and waits for the decision.
    pub(super) async fn submit(&self, who: Who, signed: SignedTransaction) -> Result<Applied, Refusal> {
        let _place = self.turns.submit.take(who)?;
        self.check_room()?;
        let id = signed.id();
        let submitted = self.ledger.submit(signed, SUBMIT_TIME_MAX).await;
        submitted.map(|height| Applied { height: height.0 }).map_err(|error| {
            let reason = match &error {
                SubmitError::NotATransaction(_) => Reason::Malformed,
                SubmitError::Refused(refused) => match **refused {
                    Refused::Expired { .. } | Refused::ValidTooLong { .. } => Reason::Clock,
                    _ => Reason::Rules,
                },
                SubmitError::PoolFull(_) => Reason::Busy,
                SubmitError::Undecided => Reason::Undecided,
                SubmitError::Unavailable => Reason::NoLedger,
            };
            Refusal::new(reason, id.as_bytes(), error.to_string())
        })
    }

    /// The newest block once it is above a height, or as it is when the time is over.
    async fn wait(&self, who: Who, wait: &Wait) -> Result<NewestBlock, Refusal> {
        let _place = self.turns.wait.take(who)?;
        let mut newest = self.ledger.newest();
        let time = Duration::from_millis(wait.milliseconds.into()).min(WAIT_TIME_MAX);
        // Time over is an answer too.
        let _ = tokio::time::timeout(time, newest.wait_for(|newest| newest.height.0 > wait.height)).await;
        self.head(&Head { nonce: wait.nonce.clone() })
    }

    async fn resolve(&self, who: Who, ask: Resolve) -> Result<Resolved, Refusal> {
        let handle = Handle::parse(&ask.handle).map_err(|_| malformed("not a handle"))?;
        let member = who.member().ok_or_else(|| not_allowed(&[], "members alone look up handles"))?;
        if !self.directory.may_look_up(member) {
            return Err(busy());
        }
        let directory = Arc::clone(&self.directory);
        let work = blocking(move || {
            let found = directory.find(&handle).map_err(broken)?;
            let nobody = || Refusal::new(Reason::NotFound, &[], "no member of this handle is known here");
            let (member, proof) = found.ok_or_else(nobody)?;
            let handle_proof = codec::encode(&proof).into();
            Ok(Resolved { member: bytes::Bytes::copy_from_slice(member.as_bytes()), handle_proof })
        });
        in_turn(&self.turns.read, work).await
    }
}

fn check_shown(shown: Shown, subject: &[u8], about_others: &str) -> Result<(), Refusal> {
    match shown {
        Shown::Yes => Ok(()),
        Shown::No => Err(not_allowed(subject, about_others)),
        Shown::NoGrant(record) => {
            Err(Refusal::new(Reason::NoGrant, record.as_bytes(), "no grant on this record is live"))
        }
    }
}

/// A signed transaction and whose it is.
pub(super) fn read_transaction(bytes: &[u8]) -> Result<(SignedTransaction, MemberId), Refusal> {
    let not_one = |_| malformed("not a signed transaction");
    let signed = SignedTransaction::from_bytes(bytes).map_err(not_one)?;
    let member = signed.open().map_err(|error| malformed(&error.to_string()))?.member;
    Ok((signed, member))
}

fn newest_block(snapshot: &Snapshot) -> Result<NewestBlock, Refusal> {
    let Some(header) = snapshot.header() else { return Ok(NewestBlock::default()) };
    let certificate = snapshot.certificate(header.height).map_err(broken)?;
    Ok(NewestBlock {
        header: codec::encode(header).into(),
        certificate: certificate.map(|certificate| codec::encode(&certificate)).unwrap_or_default().into(),
        freshness: Vec::new(),
    })
}

fn proved_entry(snapshot: &Snapshot, key: &[u8]) -> Result<ProvedEntry, Refusal> {
    use ihfs_core::ledger::state::StateReader;
    let value = snapshot.read_entry(key).map_err(broken)?;
    let proof = proof::prove(snapshot, snapshot.newest().height, key).map_err(broken)?;
    Ok(ProvedEntry { value: value.map(Into::into), proof: proof.to_bytes().into() })
}
