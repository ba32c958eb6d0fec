//! Checks the signatures of votes, proposals and the engine's certificates.
//!
//! What verified once at a height is remembered: a vote comes back in certificates and repeats.

use std::collections::{BTreeMap, BTreeSet};

use arc_malachitebft_core_consensus::ConsensusMsg;
use arc_malachitebft_core_types::{
    CertificateError, CommitCertificate, CommitSignature, NilOrVal, PolkaCertificate, RoundCertificate,
    RoundCertificateType, SignedMessage, ThresholdParams, Validator, ValidatorSet, VoteType,
};
use ihfs_core::codec;
use ihfs_core::crypto::sign::{self, Purpose, Signature};
use ihfs_core::ids::{BlockId, ChainId, Digest, NodeId};
use ihfs_core::ledger::certificate::VoteKind;

use super::context::{Address, EngineSignature, EngineVote, Ledger, Members};
use super::message::{bytes_of_vote, proposal_bytes};

/// Most signatures remembered at a height: all votes of 256 validators in 32 rounds, 512 KiB.
const REMEMBERED_MAX: usize = 16_384;

/// Checks signatures of one chain.
#[derive(Debug)]
pub(crate) struct Signatures {
    chain: ChainId,
    good: BTreeSet<Digest>,
}

#[expect(clippy::result_large_err, reason = "the engine's error type, given back to the engine")]
impl Signatures {
    pub(crate) const fn new(chain: ChainId) -> Self {
        Self { chain, good: BTreeSet::new() }
    }

    /// Forgets what verified: another height begins.
    pub(crate) fn forget(&mut self) {
        self.good.clear();
    }

    /// Whether a vote or proposal is signed by this validator.
    pub(crate) fn message_holds(
        &mut self,
        signed: &SignedMessage<Ledger, ConsensusMsg<Ledger>>,
        validator: Address,
    ) -> bool {
        let (purpose, bytes) = match &signed.message {
            ConsensusMsg::Vote(vote) => (Purpose::Vote, bytes_of_vote(self.chain, vote)),
            ConsensusMsg::Proposal(proposal) => (Purpose::Proposal, proposal_bytes(self.chain, proposal)),
        };
        self.holds(validator.0, purpose, &bytes, signed.signature)
    }

    fn vote_holds(&mut self, vote: &EngineVote) -> bool {
        let bytes = bytes_of_vote(self.chain, &vote.message);
        self.holds(vote.message.validator.0, Purpose::Vote, &bytes, vote.signature)
    }

    fn holds(&mut self, node: NodeId, purpose: Purpose, bytes: &[u8], signature: EngineSignature) -> bool {
        let signature = Signature::from(signature);
        let fact =
            Digest::of(&codec::encode(&(node, purpose.label(), serde_bytes::Bytes::new(bytes), signature)));
        if self.good.contains(&fact) {
            return true;
        }
        let holds = sign::verify(node.as_bytes(), purpose, bytes, &signature).is_ok();
        if holds && self.good.len() < REMEMBERED_MAX {
            self.good.insert(fact);
        }
        holds
    }

    /// # Errors
    /// [`CertificateError`]: a bad or double signature, an unknown validator, or no quorum.
    pub(crate) fn check_commit(
        &mut self,
        certificate: &CommitCertificate<Ledger>,
        set: &Members,
        thresholds: ThresholdParams,
    ) -> Result<(), CertificateError<Ledger>> {
        let vote = |signed: &CommitSignature<Ledger>| {
            let message = super::context::Vote {
                kind: VoteType::Precommit,
                height: certificate.height,
                round: certificate.round,
                value: NilOrVal::Val(certificate.value_id),
                validator: signed.address,
            };
            SignedMessage::new(message, signed.signature)
        };
        self.check_votes(certificate.commit_signatures.iter().map(vote), set, |signed, total| {
            thresholds.quorum.is_met(signed, total)
        })
    }

    /// # Errors
    /// [`CertificateError`]: a bad or double signature, an unknown validator, or no quorum.
    pub(crate) fn check_polka(
        &mut self,
        certificate: &PolkaCertificate<Ledger>,
        set: &Members,
        thresholds: ThresholdParams,
    ) -> Result<(), CertificateError<Ledger>> {
        self.check_votes(certificate.votes(&Ledger), set, |signed, total| {
            thresholds.quorum.is_met(signed, total)
        })
    }

    /// # Errors
    /// [`CertificateError`]: a bad or double signature, an unknown validator, a prevote where
    /// precommits are due, or not enough power.
    pub(crate) fn check_round(
        &mut self,
        certificate: &RoundCertificate<Ledger>,
        set: &Members,
        thresholds: ThresholdParams,
    ) -> Result<(), CertificateError<Ledger>> {
        let ends = certificate.cert_type == RoundCertificateType::Precommit;
        if let Some(prevote) =
            certificate.round_signatures.iter().find(|vote| ends && vote.vote_type == VoteType::Prevote)
        {
            return Err(CertificateError::InvalidVoteType(prevote.address));
        }
        let needed = if ends { thresholds.quorum } else { thresholds.honest };
        self.check_votes(certificate.votes(&Ledger), set, |signed, total| needed.is_met(signed, total))
    }

    fn check_votes(
        &mut self,
        votes: impl Iterator<Item = EngineVote>,
        set: &Members,
        enough: impl Fn(u64, u64) -> bool,
    ) -> Result<(), CertificateError<Ledger>> {
        let mut seen = BTreeSet::new();
        let mut signed = 0;
        for vote in votes {
            let address = vote.message.validator;
            if !seen.insert(address) {
                return Err(CertificateError::DuplicateVote(address));
            }
            let member = set.get_by_address(&address).ok_or(CertificateError::UnknownValidator(address))?;
            if !self.vote_holds(&vote) {
                let bad = CommitSignature::new(address, vote.signature);
                return Err(CertificateError::InvalidCommitSignature(bad));
            }
            // 256 powers below 2^32 cannot overflow.
            signed += member.voting_power();
        }
        let total = set.total_voting_power();
        if enough(signed, total) {
            return Ok(());
        }
        Err(CertificateError::NotEnoughVotingPower { signed, total, expected: total * 2 / 3 + 1 })
    }
}

/// What this validator has signed at a height: the last guard against signing twice differently.
///
/// The engine's own replay keeps from that too; this one is small enough to be believed.
#[derive(Debug, Default)]
pub(crate) struct SignedBefore {
    votes: BTreeMap<(VoteKind, u32), Option<BlockId>>,
    proposals: BTreeMap<u32, (BlockId, Option<u32>)>,
}

/// A second, different message for the same height and round was about to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("round {round} already has another signed {what}")]
pub struct SignedOtherwise {
    /// The round.
    pub round: u32,
    /// "vote" or "proposal".
    pub what: &'static str,
}

impl SignedBefore {
    /// # Errors
    /// [`SignedOtherwise`] when another vote of this kind and round was signed.
    pub(crate) fn vote(
        &mut self,
        kind: VoteKind,
        round: u32,
        block: Option<BlockId>,
    ) -> Result<(), SignedOtherwise> {
        match *self.votes.entry((kind, round)).or_insert(block) == block {
            true => Ok(()),
            false => Err(SignedOtherwise { round, what: "vote" }),
        }
    }

    /// # Errors
    /// [`SignedOtherwise`] when another proposal of this round was signed.
    pub(crate) fn proposal(
        &mut self,
        round: u32,
        block: BlockId,
        polka: Option<u32>,
    ) -> Result<(), SignedOtherwise> {
        match *self.proposals.entry(round).or_insert((block, polka)) == (block, polka) {
            true => Ok(()),
            false => Err(SignedOtherwise { round, what: "proposal" }),
        }
    }
}
