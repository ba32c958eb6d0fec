//! Answers the engine's effects: signs, checks, logs, sets timers, and collects what the owner must do.
//!
//! Owns the order of writes: whatever was signed is in the log, and the log durable, before it leaves.

use std::collections::{BTreeMap, BTreeSet};

use arc_malachitebft_core_consensus::{Effect, LivenessMsg, Resumable, Resume, SignedConsensusMsg};
use arc_malachitebft_core_types::{
    CommitCertificate, LinearTimeouts, Round, SignedMessage, Timeout, VoteExtensionPolicy,
};
use bytes::Bytes;
use ihfs_core::crypto::sign::{Purpose, SigningKey};
use ihfs_core::ids::{BlockId, ChainId, Digest, Height, NodeId};
use ihfs_core::ledger::block::Block;

use super::context::{EngineProposal, EngineVote, Ledger, Proposal, Vote};
use super::message::{Message, bytes_of_vote, proposal_bytes, to_block, to_kind, to_round};
use super::signatures::{Signatures, SignedBefore, SignedOtherwise};
use super::wal::{Remembered, WalRecord, waited};
use super::{Action, TimerId};

/// What the engine's effects act on, for one height at a time.
pub(crate) struct Effects {
    chain: ChainId,
    key: SigningKey,
    me: NodeId,
    timeouts: LinearTimeouts,
    height: Height,
    alone: bool,
    pub(crate) signatures: Signatures,
    signed: SignedBefore,
    /// Blocks of this height that are in the log, by their ids.
    pub(crate) blocks: BTreeMap<BlockId, Block>,
    logged: BTreeSet<Digest>,
    unsynced: bool,
    timers: BTreeSet<TimerId>,
    /// The round for which this validator should propose.
    pub(crate) asked_round: Option<u32>,
    pub(crate) decided: Option<CommitCertificate<Ledger>>,
    /// Validators that signed two different messages at decided heights.
    pub(crate) equivocations: u64,
    actions: Vec<Action>,
}

impl Effects {
    pub(crate) fn new(chain: ChainId, key: SigningKey, timeouts: LinearTimeouts) -> Self {
        let me = NodeId::from_bytes(key.public());
        Self {
            chain,
            key,
            me,
            timeouts,
            height: Height(0),
            alone: false,
            signatures: Signatures::new(chain),
            signed: SignedBefore::default(),
            blocks: BTreeMap::new(),
            logged: BTreeSet::new(),
            unsynced: false,
            timers: BTreeSet::new(),
            asked_round: None,
            decided: None,
            equivocations: 0,
            actions: Vec::new(),
        }
    }

    pub(crate) const fn me(&self) -> NodeId {
        self.me
    }

    /// Makes room for another height; `alone` says that its only validator is this one.
    pub(crate) fn begin(&mut self, height: Height, alone: bool) {
        self.height = height;
        self.alone = alone;
        self.signatures.forget();
        self.signed = SignedBefore::default();
        self.blocks.clear();
        self.logged.clear();
        self.unsynced = false;
        self.asked_round = None;
        self.decided = None;
        self.cancel_timers();
    }

    /// Takes in what the log holds of this height, before it is replayed.
    ///
    /// # Errors
    /// [`SignedOtherwise`]: the log itself holds two different messages of this validator.
    pub(crate) fn recall(&mut self, record: &WalRecord) -> Result<(), SignedOtherwise> {
        self.logged.insert(Digest::of(&record.encode()));
        match &record.what {
            Remembered::Block(block) => {
                self.blocks.insert(block.header.id(), block.as_ref().clone());
                Ok(())
            }
            Remembered::Vote(vote) if vote.validator == self.me => {
                self.signed.vote(vote.kind, vote.round, vote.block)
            }
            Remembered::Proposal(proposal) if proposal.proposer == self.me => {
                self.signed.proposal(proposal.round, proposal.block, proposal.polka)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Whether a timer that fired is still awaited.
    pub(crate) fn timer_fired(&mut self, timer: TimerId) -> bool {
        self.timers.remove(&timer)
    }

    pub(crate) fn is_set(&self, timer: TimerId) -> bool {
        self.timers.contains(&timer)
    }

    pub(crate) fn set_timer(&mut self, id: TimerId, after: std::time::Duration) {
        self.timers.insert(id);
        self.act(Action::SetTimer { id, after });
    }

    /// Appends a record unless the log already holds it.
    pub(crate) fn log(&mut self, record: &WalRecord) {
        let bytes = record.encode();
        if self.logged.insert(Digest::of(&bytes)) {
            self.unsynced = true;
            self.act(Action::AppendWal { height: record.height, bytes: Bytes::from(bytes) });
        }
    }

    /// Keeps a block in the log: stored before it is called valid.
    pub(crate) fn store(&mut self, block: Block) {
        let record =
            WalRecord { height: block.header.height, what: Remembered::Block(Box::new(block.clone())) };
        self.log(&record);
        self.blocks.insert(block.header.id(), block);
    }

    fn sync(&mut self) {
        if std::mem::take(&mut self.unsynced) {
            self.act(Action::FsyncWal);
        }
    }

    fn publish(&mut self, message: &Message) {
        // A validator alone tells nobody: what it signed leaves it inside the committed certificate.
        if self.alone {
            return;
        }
        self.sync();
        self.act(Action::Broadcast(Bytes::from(message.encode())));
    }

    pub(crate) fn handle(&mut self, effect: Effect<Ledger>) -> Result<Resume<Ledger>, SignedOtherwise> {
        Ok(match effect {
            Effect::SignVote(vote, resume) => resume.resume_with(self.sign_vote(vote)?),
            Effect::SignProposal(proposal, resume) => resume.resume_with(self.sign_proposal(proposal)?),
            Effect::VerifySignature(signed, key, resume) => {
                resume.resume_with(self.signatures.message_holds(&signed, key))
            }
            Effect::VerifyCommitCertificate(certificate, set, thresholds, resume) => {
                resume.resume_with(self.signatures.check_commit(&certificate, &set, thresholds))
            }
            Effect::VerifyPolkaCertificate(certificate, set, thresholds, resume) => {
                resume.resume_with(self.signatures.check_polka(&certificate, &set, thresholds))
            }
            Effect::VerifyRoundCertificate(certificate, set, thresholds, resume) => {
                resume.resume_with(self.signatures.check_round(&certificate, &set, thresholds))
            }
            Effect::VerifyExtendedCommitCertificate(certificate, set, thresholds, policy, resume) => {
                debug_assert_eq!(policy, VoteExtensionPolicy::Disabled);
                let certificate = certificate.trim_vote_extensions();
                resume.resume_with(self.signatures.check_commit(&certificate, &set, thresholds))
            }
            Effect::ExtendVote(.., resume) => resume.resume_with(None),
            Effect::VerifyVoteExtension(.., resume) => resume.resume_with(Ok(())),
            other => {
                self.carry_out(other);
                Resume::Continue
            }
        })
    }

    /// The effects that are told rather than asked.
    fn carry_out(&mut self, effect: Effect<Ledger>) {
        match effect {
            Effect::WalAppend(height, input, _) => {
                if let Some(record) = WalRecord::of_input(height.0, &input) {
                    self.log(&record);
                }
            }
            Effect::PublishConsensusMsg(message, _) => self.publish_signed(&message),
            Effect::PublishLivenessMsg(message, _) => self.publish_liveness(&message),
            Effect::RepublishVote(vote, _) => self.publish(&Message::Vote((&vote).into())),
            Effect::RepublishRoundCertificate(round, _) => self.publish(&Message::Round((&round).into())),
            Effect::ScheduleTimeout(timeout, _) => self.schedule(timeout),
            Effect::CancelTimeout(timeout, _) => self.cancel(timeout),
            Effect::CancelAllTimeouts(_) => self.cancel_timers(),
            // What led into a later round must not be forgotten once others saw us in it.
            Effect::StartRound(_, round, ..) if round > Round::ZERO => self.sync(),
            Effect::GetValue(_, round, ..) => self.asked_round = Some(to_round(round)),
            Effect::Decide(certificate, ..) => self.decided = Some(certificate),
            Effect::Finalize(_, _, evidence, _) => {
                let accused = evidence.votes.iter().count() + evidence.proposals.iter().count();
                self.equivocations += u64::try_from(accused).expect("validators are few");
            }
            // Every published proposal carries its block, and synced blocks never pass the engine.
            _ => {}
        }
    }

    fn sign_vote(&mut self, vote: Vote) -> Result<EngineVote, SignedOtherwise> {
        assert_eq!(vote.height.0, self.height, "the engine votes at the height that it was given");
        self.signed.vote(to_kind(vote.kind), to_round(vote.round), to_block(&vote.value))?;
        let signature = self.key.sign(Purpose::Vote, &bytes_of_vote(self.chain, &vote));
        Ok(SignedMessage::new(vote, signature.into()))
    }

    fn sign_proposal(&mut self, proposal: Proposal) -> Result<EngineProposal, SignedOtherwise> {
        assert_eq!(proposal.height.0, self.height, "the engine proposes at the height that it was given");
        self.signed.proposal(to_round(proposal.round), proposal.value.0, proposal.polka.as_u32())?;
        let signature = self.key.sign(Purpose::Proposal, &proposal_bytes(self.chain, &proposal));
        Ok(SignedMessage::new(proposal, signature.into()))
    }

    fn publish_signed(&mut self, message: &SignedConsensusMsg<Ledger>) {
        match message {
            SignedConsensusMsg::Vote(vote) => self.publish(&Message::Vote(vote.into())),
            SignedConsensusMsg::Proposal(proposal) => {
                let block = self.blocks.get(&proposal.message.value.0).cloned().map(Box::new);
                self.publish(&Message::Proposal(proposal.into(), block));
            }
        }
    }

    fn publish_liveness(&mut self, message: &LivenessMsg<Ledger>) {
        self.publish(&match message {
            LivenessMsg::Vote(vote) => Message::Vote(vote.into()),
            LivenessMsg::PolkaCertificate(polka) => Message::Polka(polka.into()),
            LivenessMsg::SkipRoundCertificate(round) => Message::Round(round.into()),
        });
    }

    fn schedule(&mut self, timeout: Timeout) {
        if let Some(id) = self.timer(timeout) {
            self.set_timer(id, self.timeouts.duration_for(timeout));
        }
    }

    fn cancel(&mut self, timeout: Timeout) {
        if let Some(id) = self.timer(timeout)
            && self.timers.remove(&id)
        {
            self.act(Action::CancelTimer(id));
        }
    }

    /// Cancels the height's timers; the others go on.
    pub(crate) fn cancel_timers(&mut self) {
        let of_height: Vec<TimerId> =
            self.timers.iter().filter(|id| matches!(id, TimerId::Round { .. })).copied().collect();
        for id in of_height {
            self.timers.remove(&id);
            self.act(Action::CancelTimer(id));
        }
    }

    fn timer(&self, timeout: Timeout) -> Option<TimerId> {
        let waited = waited(timeout.kind)?;
        Some(TimerId::Round { height: self.height, round: to_round(timeout.round), waited })
    }
}
