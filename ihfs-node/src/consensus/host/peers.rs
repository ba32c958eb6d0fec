//! Messages of peers: votes, proposals with their blocks, and the engine's certificates.

use arc_malachitebft_core_consensus::{ConsensusMsg, Input, ProposedValue};
use arc_malachitebft_core_types::{Round, Validity, ValueOrigin};
use ihfs_core::ids::{BlockId, Height, NodeId, Time};
use ihfs_core::ledger::block::Block;

use super::{Host, Stage};
use crate::consensus::context::{Address, EngineProposal, Tall, Value};
use crate::consensus::message::{Message, ProposalMessage};
use crate::consensus::refusals::BadBlock;
use crate::consensus::{Application, HEADER_AHEAD_MAX_MILLIS, HEADER_BEHIND_MAX_MILLIS};

/// Rounds ahead of its own in which a proposal's block is looked at, as far as the engine looks.
const ROUNDS_AHEAD_MAX: u32 = 10;
/// Most messages of the next height kept from one peer: a proposal, its votes and some repeats.
const EARLY_PER_PEER_MAX: usize = 16;
/// Most bytes of all messages kept of the next height.
const EARLY_BYTES_MAX: usize = 16 << 20;
/// How long after a commit votes of that height are still on their way and are no sign of lagging.
const LATE_GRACE_MILLIS: u64 = 1_000;

impl<A: Application> Host<A> {
    pub(super) fn on_message(&mut self, now: Time, from: NodeId, bytes: &[u8]) {
        let Ok(message) = Message::decode(bytes) else {
            self.counters.garbage += 1;
            return;
        };
        match message {
            Message::Newest(height) => self.on_newest(from, height),
            Message::Wanted(height) => self.answer(from, height),
            Message::Decided(blocks) => self.on_answer(from, blocks),
            message => self.on_deciding(now, from, message, bytes.len()),
        }
    }

    /// A vote, proposal or certificate of the engine's.
    fn on_deciding(&mut self, now: Time, from: NodeId, message: Message, length: usize) {
        let height = message.deciding().expect("the caller sorted the others out");
        let deciding = self.deciding();
        if height > deciding {
            // Whoever decides a height has committed the one below.
            self.on_newest(from, Height(height.0 - 1));
        }
        if !self.is_validator(from) {
            self.counters.strangers += 1;
        } else if height < deciding {
            if now.0 >= self.committed_at.0.saturating_add(LATE_GRACE_MILLIS) {
                self.tell(from);
            }
        } else if height == deciding.next() {
            self.keep_early(from, message, length);
        } else if height == deciding {
            if self.stage == Stage::Idle {
                self.start(now);
            }
            if self.stage == Stage::Deciding {
                self.apply(now, message);
            }
        }
    }

    fn keep_early(&mut self, from: NodeId, message: Message, length: usize) {
        let of_peer = self.early.iter().filter(|(peer, ..)| *peer == from).count();
        let held: usize = self.early.iter().map(|(_, _, length)| length).sum();
        if of_peer < EARLY_PER_PEER_MAX && held + length <= EARLY_BYTES_MAX {
            self.early.push_back((from, message, length));
        }
    }

    /// Takes up what came early for the height that is now to be decided.
    pub(super) fn take_early(&mut self, now: Time) {
        for (from, message, length) in std::mem::take(&mut self.early) {
            if self.stage != Stage::Halted {
                self.on_deciding(now, from, message, length);
            }
        }
    }

    fn apply(&mut self, now: Time, message: Message) {
        match message {
            Message::Vote(vote) => self.feed(now, Input::Vote(vote.into())),
            Message::Polka(polka) => self.feed(now, Input::PolkaCertificate(polka.into())),
            Message::Round(round) => self.feed(now, Input::RoundCertificate(round.into())),
            Message::Proposal(proposal, block) => self.on_proposal(now, proposal, block.map(|block| *block)),
            Message::Newest(_) | Message::Wanted(_) | Message::Decided(_) => {}
        }
    }

    fn on_proposal(&mut self, now: Time, proposal: ProposalMessage, block: Option<Block>) {
        let (round, id, polka) = (proposal.round, proposal.block, proposal.polka);
        let proposer = Address(proposal.proposer);
        let signed = EngineProposal::from(proposal);
        let current = self.engine.round().as_u32().unwrap_or(0);
        let height = Tall(self.deciding());
        if round > current.saturating_add(ROUNDS_AHEAD_MAX)
            || self.engine.exceeds_per_round_cap(height, Round::new(round), &Value(id))
        {
            return;
        }
        // The engine checks this too, but a block is looked at only for its round's proposer.
        let message = signed.clone().map(ConsensusMsg::Proposal);
        if self.proposer(round) != proposer.0 || !self.effects.signatures.message_holds(&message, proposer) {
            self.counters.garbage += 1;
            return;
        }
        // Not even shown to the engine: it would match the proposal with its block if that came with another.
        if polka.is_none() && !self.is_fresh(now, id, block.as_ref()) {
            self.counters.stale_proposals += 1;
            tracing::warn!(block = %id, "a block proposed for the first time is behind the clock, or missing");
            return;
        }
        self.feed(now, Input::Proposal(signed));
        let Some(validity) = self.judge(now, id, block) else { return };
        if self.stage != Stage::Deciding {
            return;
        }
        let value = ProposedValue {
            height,
            round: Round::new(round),
            valid_round: Round::from(polka),
            proposer,
            value: Value(id),
            validity,
        };
        self.feed(now, Input::ProposedValue(value, ValueOrigin::Consensus));
    }

    /// Whether a block may be proposed for the first time now. One that a quorum prevoted before was fresh then.
    fn is_fresh(&self, now: Time, id: BlockId, block: Option<&Block>) -> bool {
        let sent = block.filter(|block| block.header.id() == id);
        let block = self.effects.blocks.get(&id).or(sent);
        block.is_some_and(|block| block.header.time.plus_millis(HEADER_BEHIND_MAX_MILLIS) >= now)
    }

    /// The verdict on a proposed block; `None` when it did not come along. A valid one is stored first.
    fn judge(&mut self, now: Time, id: BlockId, block: Option<Block>) -> Option<Validity> {
        if self.effects.blocks.contains_key(&id) {
            return Some(Validity::Valid);
        }
        let block = block.filter(|block| block.header.id() == id)?;
        match self.check_proposed(now, &block) {
            Ok(()) => {
                self.effects.store(block);
                Some(Validity::Valid)
            }
            Err(why) => {
                self.counters.invalid_blocks += 1;
                tracing::warn!(block = %id, %why, "a proposed block is not valid");
                Some(Validity::Invalid)
            }
        }
    }

    fn check_proposed(&mut self, now: Time, block: &Block) -> Result<(), BadBlock> {
        self.fits(block)?;
        if block.header.time > now.plus_millis(HEADER_AHEAD_MAX_MILLIS) {
            return Err(BadBlock::AheadOfClock);
        }
        Ok(self.application.validate(block)?)
    }
}
