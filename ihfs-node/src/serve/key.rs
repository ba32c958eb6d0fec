//! Key shares: leaving them with this custodian, and getting them released.

use std::sync::Arc;

use bytes::Bytes;
use ihfs_core::codec;
use ihfs_core::crypto::share::KeyShare;
use ihfs_core::ids::{Epoch, Time};
use ihfs_core::ledger::operation::GrantDigests;
use ihfs_net::Message;
use ihfs_proto::key::request::Request as Ask;
use ihfs_proto::key::response::Response as Answer;
use ihfs_proto::key::{Deposit as AskDeposit, GetNote, Release, Released, Request, Response};
use ihfs_proto::ledger::{Reason, Refusal};

use super::access::Who;
use super::{Service, blocking, broken, check_future, id, in_turn, malformed, not_allowed};
use crate::custody::{Denied, Deposit, DepositError};

/// Most bytes of the digests of a grant and of a key share.
const PART_BYTES_MAX: usize = 256;

impl Service {
    /// Answers one message of the key conversation.
    pub(super) async fn key_share(&self, who: Who, message: Message) -> Message {
        let answer = match ihfs_proto::from_parts::<Request>(message.header, message.body) {
            Ok(Request { request: Some(ask) }) => in_turn(&self.turns.key, self.key_answer(who, ask)).await,
            _ => Err(malformed("not a request of the key conversation")),
        };
        let response = Some(answer.unwrap_or_else(Answer::Refusal));
        let (header, body) = ihfs_proto::to_parts(&Response { response });
        Message { header, body }
    }

    async fn key_answer(&self, who: Who, ask: Ask) -> Result<Answer, Refusal> {
        match ask {
            Ask::Deposit(deposit) => self.deposit(who, deposit).await,
            Ask::Note(note) => self.note(who, note).await,
            Ask::Release(release) => self.release(who, release).await,
        }
    }

    async fn deposit(&self, who: Who, ask: AskDeposit) -> Result<Answer, Refusal> {
        let nonce = ask.nonce.clone();
        let deposit = read_deposit(who, ask)?;
        self.check_room()?;
        let (custody, ledger) = (Arc::clone(&self.custody), Arc::clone(&self.ledger));
        blocking(move || {
            match ledger.snapshot().owner_of(deposit.record).map_err(broken)? {
                Some(owner) if owner == deposit.depositor => {}
                Some(_) => {
                    return Err(not_allowed(deposit.record.as_bytes(), "only its owner grants a record"));
                }
                // A record that comes with its first grant in one transaction is not there yet.
                None => check_future(deposit.depositor, deposit.record, &nonce)?,
            }
            let custodian = custody.deposit(deposit).map_err(refuse_deposit)?;
            Ok(Answer::Custodian(codec::encode(&custodian).into()))
        })
        .await
    }

    async fn note(&self, who: Who, ask: GetNote) -> Result<Answer, Refusal> {
        let grant = id(&ask.grant, "a grant has an id of 32 bytes")?;
        let reader = who.member().ok_or_else(|| not_allowed(&ask.grant, "notes are for members"))?;
        let custody = Arc::clone(&self.custody);
        blocking(move || {
            let note = custody.note(reader, grant).map_err(|denied| refuse(&grant, denied))?;
            Ok(Answer::Note(note.into()))
        })
        .await
    }

    async fn release(&self, who: Who, ask: Release) -> Result<Answer, Refusal> {
        let grant = id(&ask.grant, "a grant has an id of 32 bytes")?;
        let opening = id(&ask.opening, "an opening has an id of 32 bytes")?;
        let Who::Device(device, reader) = who else {
            return Err(not_allowed(&ask.grant, "key shares are released to devices of members"));
        };
        let custody = Arc::clone(&self.custody);
        blocking(move || {
            let released =
                custody.release(device, reader, opening, grant).map_err(|denied| refuse(&grant, denied))?;
            let (share, envelope) = (released.share.into(), released.envelope.into());
            Ok(Answer::Released(Released { share, envelope }))
        })
        .await
    }
}

fn read_deposit(who: Who, ask: AskDeposit) -> Result<Deposit, Refusal> {
    let depositor = who.member().ok_or_else(|| not_allowed(&ask.grant, "members alone leave key shares"))?;
    let digests: GrantDigests =
        codec::decode(&ask.digests, PART_BYTES_MAX).map_err(|_| malformed("not the digests of a grant"))?;
    let share: KeyShare =
        codec::decode(&ask.share, PART_BYTES_MAX).map_err(|_| malformed("not a key share"))?;
    Ok(Deposit {
        depositor,
        grant: id(&ask.grant, "a grant has an id of 32 bytes")?,
        record: id(&ask.record, "a record has an id of 32 bytes")?,
        reader: id(&ask.reader, "a member has an id of 32 bytes")?,
        epoch: Epoch(ask.epoch),
        digests,
        share,
        envelope: ask.envelope.to_vec(),
        note: ask.note.to_vec(),
        keep_until: Time(ask.keep_until),
    })
}

fn refuse_deposit(error: DepositError) -> Refusal {
    match error {
        DepositError::WrongPart { .. } => malformed(&error.to_string()),
        DepositError::BadTime => Refusal::new(Reason::Clock, &[], error.to_string()),
        DepositError::Taken { grant } => not_allowed(grant.as_bytes(), &error.to_string()),
        DepositError::TooMany => Refusal::new(Reason::Full, &[], error.to_string()),
        DepositError::Fault(fault) => broken(fault),
        DepositError::State(fault) => broken(fault),
    }
}

fn refuse(grant: &ihfs_core::ids::GrantId, denied: Denied) -> Refusal {
    let reason = match denied {
        Denied::OpenAgain => Reason::OpenAgain,
        Denied::NotOpened => Reason::NotOpened,
        Denied::NoGrant => Reason::NoGrant,
        Denied::NotHere => Reason::NotFound,
        Denied::Fault(fault) => return broken(fault),
        Denied::State(fault) => return broken(fault),
    };
    Refusal {
        reason: reason.into(),
        subject: Bytes::copy_from_slice(grant.as_bytes()),
        detail: denied.to_string(),
    }
}
