//! The consensus log: what a validator must remember of a height to go on after a crash.
//!
//! Records are canonical bytes; where and when they become durable is the owner's matter.

use arc_malachitebft_core_consensus::{Input, ProposedValue};
use arc_malachitebft_core_types::{Round, Timeout, TimeoutKind, Validity, ValueOrigin};
use ihfs_core::codec::{self, DecodeError};
use ihfs_core::ids::{BlockId, Height, NodeId};
use ihfs_core::ledger::block::Block;
use serde::{Deserialize, Serialize};
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use super::context::{Address, Ledger, Tall, Value};
use super::message::{MESSAGE_BYTES_MAX, PolkaMessage, ProposalMessage, VoteMessage};

/// One record of the log with the height that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub(crate) struct WalRecord {
    pub(crate) height: Height,
    pub(crate) what: Remembered,
}

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Remembered {
    /// A block, before it is called valid.
    #[serde(rename = "b")]
    Block(Box<Block>),
    /// A verdict on a block.
    #[serde(rename = "j")]
    Verdict(Verdict),
    #[serde(rename = "v")]
    Vote(VoteMessage),
    #[serde(rename = "p")]
    Proposal(ProposalMessage),
    #[serde(rename = "k")]
    Polka(PolkaMessage),
    #[serde(rename = "t")]
    Timeout(Waited, u32),
}

/// Whether a proposed block is valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub(crate) struct Verdict {
    round: u32,
    polka: Option<u32>,
    proposer: NodeId,
    block: BlockId,
    valid: bool,
}

/// What a timeout was waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Waited {
    /// A proposal.
    #[serde(rename = "p")]
    Proposal,
    /// More prevotes.
    #[serde(rename = "v")]
    Prevotes,
    /// More precommits.
    #[serde(rename = "c")]
    Precommits,
    /// An answer to what was sent; it is sent again.
    #[serde(rename = "r")]
    Repeat,
}

impl WalRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// # Errors
    /// [`DecodeError`]: the log is damaged or of another version.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, MESSAGE_BYTES_MAX)
    }

    /// The record of an engine's input, or `None` for one that needs no remembering.
    pub(crate) fn of_input(height: Height, input: &Input<Ledger>) -> Option<Self> {
        let what = match input {
            Input::Vote(vote) => Remembered::Vote(vote.into()),
            Input::Proposal(proposal) => Remembered::Proposal(proposal.into()),
            Input::PolkaCertificate(polka) => Remembered::Polka(polka.into()),
            Input::ProposedValue(value, _) => Remembered::Verdict(verdict(value)),
            Input::TimeoutElapsed(timeout) => {
                Remembered::Timeout(waited(timeout.kind)?, super::message::to_round(timeout.round))
            }
            Input::StartHeight(..)
            | Input::RoundCertificate(_)
            | Input::Propose(_)
            | Input::SyncValueResponse(_) => return None,
        };
        Some(Self { height, what })
    }
}

impl Remembered {
    /// The input that brings the engine to where it was; blocks are for the host alone.
    pub(crate) fn into_input(self, height: Height) -> Option<Input<Ledger>> {
        match self {
            Self::Block(_) => None,
            Self::Verdict(verdict) => Some(verdict.into_input(height)),
            Self::Vote(vote) => Some(Input::Vote(vote.into())),
            Self::Proposal(proposal) => Some(Input::Proposal(proposal.into())),
            Self::Polka(polka) => Some(Input::PolkaCertificate(polka.into())),
            Self::Timeout(waited, round) => Some(Input::TimeoutElapsed(timeout(waited, round))),
        }
    }
}

impl Verdict {
    fn into_input(self, height: Height) -> Input<Ledger> {
        let value = ProposedValue {
            height: Tall(height),
            round: Round::new(self.round),
            valid_round: Round::from(self.polka),
            proposer: Address(self.proposer),
            value: Value(self.block),
            validity: Validity::from_bool(self.valid),
        };
        Input::ProposedValue(value, ValueOrigin::Consensus)
    }
}

fn verdict(value: &ProposedValue<Ledger>) -> Verdict {
    Verdict {
        round: super::message::to_round(value.round),
        polka: value.valid_round.as_u32(),
        proposer: value.proposer.0,
        block: value.value.0,
        valid: value.validity.is_valid(),
    }
}

/// The kinds of timeout that are used; heights are never held open after their decision.
pub(crate) const fn waited(kind: TimeoutKind) -> Option<Waited> {
    match kind {
        TimeoutKind::Propose => Some(Waited::Proposal),
        TimeoutKind::Prevote => Some(Waited::Prevotes),
        TimeoutKind::Precommit => Some(Waited::Precommits),
        TimeoutKind::Rebroadcast => Some(Waited::Repeat),
        TimeoutKind::FinalizeHeight(_) => None,
    }
}

/// The engine's timeout of this kind and round.
pub(crate) const fn timeout(waited: Waited, round: u32) -> Timeout {
    let round = Round::new(round);
    match waited {
        Waited::Proposal => Timeout::propose(round),
        Waited::Prevotes => Timeout::prevote(round),
        Waited::Precommits => Timeout::precommit(round),
        Waited::Repeat => Timeout::rebroadcast(round),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_encoding_and_is_pinned() {
        let verdict = Verdict {
            round: 2,
            polka: Some(1),
            proposer: NodeId::from_bytes([5; 32]),
            block: BlockId::from_bytes([4; 32]),
            valid: true,
        };
        let record = WalRecord { height: Height(3), what: Remembered::Verdict(verdict) };
        let bytes = record.encode();
        assert_eq!(WalRecord::decode(&bytes), Ok(record));
        assert_eq!(
            ihfs_core::ids::Digest::of(&bytes).to_string(),
            "1ee5317e343f0bee772af139bb76aab1364b5b124a59593b11058a410f8c8f18"
        );
    }

    #[test]
    fn a_timeout_comes_back_as_the_input_that_it_was() {
        let input = Input::TimeoutElapsed(Timeout::prevote(Round::new(4)));
        let record = WalRecord::of_input(Height(3), &input).unwrap();
        assert_eq!(record.what.into_input(Height(3)), Some(input));
    }
}
