//! How a stranger becomes a member, or a member gets a new device: the one conversation open to guests.

use std::sync::Arc;

use ihfs_core::codec;
use ihfs_core::ids::{Digest, MemberId, Time};
use ihfs_core::ledger::operation::{Admission, Operation};
use ihfs_core::ledger::state::StateError;
use ihfs_core::members::{HANDLE_BYTES_MAX, HandleProof};
use ihfs_net::Message;
use ihfs_proto::join::request::Request as Ask;
use ihfs_proto::join::response::Response as Answer;
use ihfs_proto::join::{Redeem, Request, Response};
use ihfs_proto::ledger::{Applied, Refusal};

use super::access::{Shown, Who};
use super::directory::HandleTaken;
use super::{Service, blocking, broken, in_turn, malformed, not_allowed};
use crate::ledger::Snapshot;

/// Most bytes of a handle proof.
const PROOF_BYTES_MAX: usize = HANDLE_BYTES_MAX + 64;

impl Service {
    /// Answers one message of the join conversation.
    pub(super) async fn join(&self, message: Message) -> Message {
        let answer = match ihfs_proto::from_parts::<Request>(message.header, message.body) {
            Ok(Request { request: Some(ask) }) => self.join_answer(ask).await,
            _ => Err(malformed("not a request of the join conversation")),
        };
        let response = Some(answer.unwrap_or_else(Answer::Refusal));
        let (header, body) = ihfs_proto::to_parts(&Response { response });
        Message { header, body }
    }

    async fn join_answer(&self, ask: Ask) -> Result<Answer, Refusal> {
        match ask {
            Ask::Genesis(_) => Ok(Answer::Genesis(self.ledger.genesis().to_bytes().into())),
            Ask::Head(head) => Ok(Answer::Head(self.head(&head)?)),
            Ask::Prove(prove) => Ok(Answer::Proved(self.prove(Who::Guest, prove, guest_may_prove).await?)),
            Ask::Handovers(ask) => Ok(Answer::Handovers(self.handovers(ask).await?)),
            Ask::Redeem(redeem) => {
                let _turn = self.turns.join.try_acquire().map_err(|_| super::busy())?;
                self.redeem(redeem).await.map(Answer::Applied)
            }
        }
    }

    /// Registers a member, or adds a device; notes the handle that the invite commits to.
    async fn redeem(&self, redeem: Redeem) -> Result<Applied, Refusal> {
        let (signed, member) = super::ledger::read_transaction(&redeem.transaction)?;
        let transaction = signed.open().map_err(|error| malformed(&error.to_string()))?;
        let proof = match transaction.operations.as_slice() {
            [Operation::AddDevice(_)] => None,
            [Operation::RegisterMember(new), records @ ..] if records.iter().all(creates_record) => {
                handle_of(&new.admission, &redeem.handle_proof)?
            }
            _ => return Err(malformed("joining is registering a member with records, or adding a device")),
        };
        if let Some(proof) = proof.clone() {
            self.check_free(member, proof).await?;
        }
        // Whoever joins is nobody yet; few join at once.
        let applied = self.submit(Who::Guest, signed).await?;
        if let Some(proof) = proof {
            let directory = Arc::clone(&self.directory);
            blocking(move || directory.add(member, &proof).map_err(broken)).await?;
        }
        Ok(applied)
    }

    async fn check_free(&self, member: MemberId, proof: HandleProof) -> Result<(), Refusal> {
        let directory = Arc::clone(&self.directory);
        let work = blocking(move || match directory.find(&proof.handle).map_err(broken)? {
            Some((other, _)) if other != member => Err(not_allowed(&[], &HandleTaken.to_string())),
            _ => Ok(()),
        });
        in_turn(&self.turns.read, work).await
    }
}

const fn creates_record(operation: &Operation) -> bool {
    matches!(operation, Operation::CreateRecord(_))
}

/// The handle that opens the commitment of the invite.
fn handle_of(admission: &Admission, proof: &[u8]) -> Result<Option<HandleProof>, Refusal> {
    if proof.is_empty() {
        return Ok(None);
    }
    let commitment: Digest = match admission {
        Admission::Invite(invite) => invite.handle,
        Admission::Vote(handle) => *handle,
    };
    let proof: HandleProof =
        codec::decode(proof, PROOF_BYTES_MAX).map_err(|_| malformed("not a handle proof"))?;
    if proof.opens(commitment) { Ok(Some(proof)) } else { Err(malformed("the handle is not the invite's")) }
}

/// Guests see what they need to join and to come back: clock, consortium, placement, members with their keys,
/// devices, nodes, invites and transactions. What a member has and does is told to him alone, who comes with the
/// member key.
fn guest_may_prove(_: &Snapshot, _: Who, _: Time, key: &[u8]) -> Result<Shown, StateError> {
    Ok(matches!(key.first(), Some(0..=4 | 7 | 9 | 19 | 20)).into())
}
