//! What validators say to each other and write in their log: small canonical messages with limits.
//!
//! Converts to and from the engine's types; whether a signature holds is decided elsewhere.

use arc_malachitebft_core_types::{
    NilOrVal, PolkaCertificate, PolkaSignature, Round, RoundCertificate, RoundCertificateType,
    RoundSignature, SignedMessage, VoteType,
};
use ihfs_core::codec::{self, DecodeError};
use ihfs_core::crypto::sign::Signature;
use ihfs_core::ids::{BlockId, ChainId, Height, NodeId};
use ihfs_core::ledger::block::{BLOCK_BYTES_MAX, Block};
use ihfs_core::ledger::certificate::{Certificate, VALIDATORS_MAX, VoteKind, vote_bytes};
use serde::{Deserialize, Serialize};
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use super::context::{Address, EngineProposal, EngineVote, Ledger, Proposal, Tall, Value, Vote};

/// Most bytes of a message: a block of the largest size with a proposal or certificate around it.
pub const MESSAGE_BYTES_MAX: usize = BLOCK_BYTES_MAX + (64 << 10);
/// Highest round that is read: with timeouts of a minute, two years at one height.
pub const ROUND_MAX: u32 = 1 << 20;

/// A vote and its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub(crate) struct VoteMessage {
    pub(crate) kind: VoteKind,
    pub(crate) height: Height,
    pub(crate) round: u32,
    pub(crate) block: Option<BlockId>,
    pub(crate) validator: NodeId,
    pub(crate) signature: Signature,
}

/// A proposal and its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub(crate) struct ProposalMessage {
    pub(crate) height: Height,
    pub(crate) round: u32,
    pub(crate) block: BlockId,
    /// The round in which a quorum prevoted the block, when it is proposed again.
    pub(crate) polka: Option<u32>,
    pub(crate) proposer: NodeId,
    pub(crate) signature: Signature,
}

/// Prevotes of a quorum for one block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub(crate) struct PolkaMessage {
    pub(crate) height: Height,
    pub(crate) round: u32,
    pub(crate) block: BlockId,
    pub(crate) signatures: Vec<(NodeId, Signature)>,
}

/// Votes that let a round end or be skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub(crate) struct RoundMessage {
    pub(crate) height: Height,
    pub(crate) round: u32,
    /// Votes of more than a third that have come to this round already; else a quorum's precommits.
    pub(crate) skip: bool,
    pub(crate) votes: Vec<RoundVote>,
}

/// One vote of a [`RoundMessage`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub(crate) struct RoundVote {
    pub(crate) kind: VoteKind,
    pub(crate) block: Option<BlockId>,
    pub(crate) validator: NodeId,
    pub(crate) signature: Signature,
}

/// A block with the proof that it was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub(crate) struct DecidedBlock {
    pub(crate) block: Block,
    pub(crate) certificate: Certificate,
}

/// Everything that one validator sends to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    #[serde(rename = "v")]
    Vote(VoteMessage),
    /// The block travels with its proposal.
    #[serde(rename = "p")]
    Proposal(ProposalMessage, Option<Box<Block>>),
    #[serde(rename = "k")]
    Polka(PolkaMessage),
    #[serde(rename = "r")]
    Round(RoundMessage),
    /// The newest height that the sender has committed.
    #[serde(rename = "h")]
    Newest(Height),
    /// Asks for decided blocks from this height on.
    #[serde(rename = "q")]
    Wanted(Height),
    /// Decided blocks in order of height.
    #[serde(rename = "d")]
    Decided(Vec<DecidedBlock>),
}

/// Why bytes are no message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not the canonical form of a message, or too long.
    #[error("not a consensus message")]
    Malformed(#[from] DecodeError),
    /// A round beyond [`ROUND_MAX`].
    #[error("round {found} is beyond {ROUND_MAX}")]
    RoundTooHigh {
        /// The round.
        found: u32,
    },
    /// More signatures than a validator set has members.
    #[error("{found} signatures, where a validator set has at most {VALIDATORS_MAX}")]
    TooManySignatures {
        /// How many there were.
        found: usize,
    },
}

impl Message {
    pub(crate) fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// # Errors
    /// [`MessageError`]: malformed, too long, or beyond a limit.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let message: Self = codec::decode(bytes, MESSAGE_BYTES_MAX)?;
        let (round, signatures) = match &message {
            Self::Vote(vote) => (vote.round, 1),
            Self::Proposal(proposal, _) => (proposal.round.max(proposal.polka.unwrap_or(0)), 1),
            Self::Polka(polka) => (polka.round, polka.signatures.len()),
            Self::Round(round) => (round.round, round.votes.len()),
            Self::Newest(_) | Self::Wanted(_) | Self::Decided(_) => (0, 0),
        };
        if round > ROUND_MAX {
            return Err(MessageError::RoundTooHigh { found: round });
        }
        if signatures > VALIDATORS_MAX {
            return Err(MessageError::TooManySignatures { found: signatures });
        }
        Ok(message)
    }

    /// The height that the message takes part in deciding.
    pub(crate) fn deciding(&self) -> Option<Height> {
        match self {
            Self::Vote(vote) => Some(vote.height),
            Self::Proposal(proposal, _) => Some(proposal.height),
            Self::Polka(polka) => Some(polka.height),
            Self::Round(round) => Some(round.height),
            Self::Newest(_) | Self::Wanted(_) | Self::Decided(_) => None,
        }
    }
}

/// The bytes that a proposal signs.
pub(crate) fn proposal_bytes(chain: ChainId, proposal: &Proposal) -> Vec<u8> {
    codec::encode(&(
        chain,
        proposal.height.0,
        proposal.round.as_u32(),
        proposal.value.0,
        proposal.polka.as_u32(),
    ))
}

/// The bytes that a vote signs, as the ledger's certificates define them.
pub(crate) fn bytes_of_vote(chain: ChainId, vote: &Vote) -> Vec<u8> {
    vote_bytes(chain, to_kind(vote.kind), vote.height.0, to_round(vote.round), to_block(&vote.value))
}

impl From<&EngineVote> for VoteMessage {
    fn from(vote: &EngineVote) -> Self {
        Self {
            kind: to_kind(vote.message.kind),
            height: vote.message.height.0,
            round: to_round(vote.message.round),
            block: to_block(&vote.message.value),
            validator: vote.message.validator.0,
            signature: vote.signature.into(),
        }
    }
}

impl From<VoteMessage> for EngineVote {
    fn from(vote: VoteMessage) -> Self {
        let message = Vote {
            kind: from_kind(vote.kind),
            height: Tall(vote.height),
            round: Round::new(vote.round),
            value: from_block(vote.block),
            validator: Address(vote.validator),
        };
        SignedMessage::new(message, vote.signature.into())
    }
}

impl From<&EngineProposal> for ProposalMessage {
    fn from(proposal: &EngineProposal) -> Self {
        Self {
            height: proposal.message.height.0,
            round: to_round(proposal.message.round),
            block: proposal.message.value.0,
            polka: proposal.message.polka.as_u32(),
            proposer: proposal.message.proposer.0,
            signature: proposal.signature.into(),
        }
    }
}

impl From<ProposalMessage> for EngineProposal {
    fn from(proposal: ProposalMessage) -> Self {
        let message = Proposal {
            height: Tall(proposal.height),
            round: Round::new(proposal.round),
            value: Value(proposal.block),
            polka: Round::from(proposal.polka),
            proposer: Address(proposal.proposer),
        };
        SignedMessage::new(message, proposal.signature.into())
    }
}

impl From<&PolkaCertificate<Ledger>> for PolkaMessage {
    fn from(polka: &PolkaCertificate<Ledger>) -> Self {
        let pair = |vote: &PolkaSignature<Ledger>| (vote.address.0, vote.signature.into());
        Self {
            height: polka.height.0,
            round: to_round(polka.round),
            block: polka.value_id.0,
            signatures: polka.polka_signatures.iter().map(pair).collect(),
        }
    }
}

impl From<PolkaMessage> for PolkaCertificate<Ledger> {
    fn from(polka: PolkaMessage) -> Self {
        let vote =
            |(node, signature): (NodeId, Signature)| PolkaSignature::new(Address(node), signature.into());
        Self {
            height: Tall(polka.height),
            round: Round::new(polka.round),
            value_id: Value(polka.block),
            polka_signatures: polka.signatures.into_iter().map(vote).collect(),
        }
    }
}

impl From<&RoundCertificate<Ledger>> for RoundMessage {
    fn from(round: &RoundCertificate<Ledger>) -> Self {
        let vote = |vote: &RoundSignature<Ledger>| RoundVote {
            kind: to_kind(vote.vote_type),
            block: to_block(&vote.value_id),
            validator: vote.address.0,
            signature: vote.signature.into(),
        };
        Self {
            height: round.height.0,
            round: to_round(round.round),
            skip: round.cert_type == RoundCertificateType::Skip,
            votes: round.round_signatures.iter().map(vote).collect(),
        }
    }
}

impl From<RoundMessage> for RoundCertificate<Ledger> {
    fn from(round: RoundMessage) -> Self {
        let vote = |vote: RoundVote| {
            let kind = from_kind(vote.kind);
            RoundSignature::new(kind, from_block(vote.block), Address(vote.validator), vote.signature.into())
        };
        let kind = if round.skip { RoundCertificateType::Skip } else { RoundCertificateType::Precommit };
        Self {
            height: Tall(round.height),
            round: Round::new(round.round),
            cert_type: kind,
            round_signatures: round.votes.into_iter().map(vote).collect(),
        }
    }
}

pub(crate) const fn to_kind(kind: VoteType) -> VoteKind {
    match kind {
        VoteType::Prevote => VoteKind::Prevote,
        VoteType::Precommit => VoteKind::Precommit,
    }
}

const fn from_kind(kind: VoteKind) -> VoteType {
    match kind {
        VoteKind::Prevote => VoteType::Prevote,
        VoteKind::Precommit => VoteType::Precommit,
    }
}

pub(crate) fn to_round(round: Round) -> u32 {
    round.as_u32().expect("the engine votes, proposes and waits in defined rounds only")
}

pub(crate) const fn to_block(value: &NilOrVal<Value>) -> Option<BlockId> {
    match value {
        NilOrVal::Nil => None,
        NilOrVal::Val(value) => Some(value.0),
    }
}

const fn from_block(block: Option<BlockId>) -> NilOrVal<Value> {
    match block {
        None => NilOrVal::Nil,
        Some(block) => NilOrVal::Val(Value(block)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(round: u32) -> Message {
        Message::Vote(VoteMessage {
            kind: VoteKind::Prevote,
            height: Height(3),
            round,
            block: Some(BlockId::from_bytes([4; 32])),
            validator: NodeId::from_bytes([5; 32]),
            signature: Signature::from_bytes([6; 64]),
        })
    }

    #[test]
    fn a_message_survives_its_encoding() {
        assert_eq!(Message::decode(&vote(7).encode()), Ok(vote(7)));
    }

    #[test]
    fn a_round_beyond_the_limit_is_refused() {
        let found = ROUND_MAX + 1;
        assert_eq!(Message::decode(&vote(found).encode()), Err(MessageError::RoundTooHigh { found }));
    }

    #[test]
    fn every_truncation_and_flipped_byte_is_refused_or_another_message() {
        let bytes = vote(7).encode();
        for place in 0..bytes.len() {
            assert!(Message::decode(&bytes[..place]).is_err());
            let mut flipped = bytes.clone();
            flipped[place] ^= 0x41;
            assert_ne!(Message::decode(&flipped), Ok(vote(7)));
        }
    }

    fn digest(bytes: &[u8]) -> String {
        ihfs_core::ids::Digest::of(bytes).to_string()
    }

    #[test]
    fn the_encoding_of_a_vote_is_pinned() {
        let pinned = "2e65719c414c43b61111a5dd41527220c53a63d1cfc2d88f3b56c8695e559b06";
        assert_eq!(digest(&vote(7).encode()), pinned);
    }

    #[test]
    fn the_bytes_that_a_proposal_signs_are_pinned() {
        let proposal = Proposal {
            height: Tall(Height(3)),
            round: Round::new(2),
            value: Value(BlockId::from_bytes([4; 32])),
            polka: Round::new(1),
            proposer: Address(NodeId::from_bytes([5; 32])),
        };
        let pinned = "0cb2f4659747be83e2a051f5cca98f7a10011d6849bea91167628b7cdcd6e9cf";
        assert_eq!(digest(&proposal_bytes(ChainId::from_bytes([1; 32]), &proposal)), pinned);
    }

    #[test]
    fn every_kind_of_message_starts_with_its_own_letter() {
        let newest = Message::Newest(Height(9)).encode();
        assert_eq!(newest, [0xa1, 0x61, b'h', 9]);
        assert_eq!(Message::Wanted(Height(9)).encode(), [0xa1, 0x61, b'q', 9]);
        assert_eq!(Message::Decided(vec![]).encode(), [0xa1, 0x61, b'd', 0x80]);
    }
}
