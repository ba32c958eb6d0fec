//! Deciding a height: starting, proposing, replaying the log after a crash, and the decision.

use arc_malachitebft_core_consensus::{Error, Input, LocallyProposedValue, process};
use arc_malachitebft_core_types::{CommitCertificate, Context, Round, Validator, VoteExtensionPolicy};
use ihfs_core::codec;
use ihfs_core::ids::{NodeId, Time};
use ihfs_core::ledger::block::{BLOCK_BYTES_MAX, Block};
use ihfs_core::ledger::certificate::Certificate;

use super::{Host, Stage};
use crate::consensus::context::{Ledger, Members, Tall, Value};
use crate::consensus::message::to_round;
use crate::consensus::refusals::{BadBlock, Halt};
use crate::consensus::wal::WalRecord;
use crate::consensus::{Action, Application, Origin};

impl<A: Application> Host<A> {
    pub(super) fn start_if_waiting(&mut self, now: Time) {
        let me = self.effects.me();
        if self.stage != Stage::Idle || !self.is_validator(me) || !self.application.has_transactions() {
            return;
        }
        if self.proposer(0) == me {
            // Ask before anything starts: what waits may come to nothing, and then no height begins.
            self.prepared = self.application.propose(0, now);
            if self.prepared.is_none() {
                return;
            }
        }
        self.start(now);
    }

    pub(super) fn start(&mut self, now: Time) {
        let height = self.deciding();
        self.stage = Stage::Deciding;
        self.effects.begin(height, !self.has_others());
        self.feed(now, self.start_input());
    }

    fn start_input(&self) -> Input<Ledger> {
        let members = Members::from(&self.set);
        Input::StartHeight(Tall(self.deciding()), members, false, None, VoteExtensionPolicy::Disabled)
    }

    /// Brings the engine to where it was before a crash; what it signed then it does not sign anew.
    pub(super) fn replay(&mut self, now: Time, log: Vec<WalRecord>) {
        let height = self.deciding();
        self.stage = Stage::Deciding;
        self.replaying = true;
        self.effects.begin(height, !self.has_others());
        for record in &log {
            if let Err(refused) = self.effects.recall(record) {
                return self.halt(Halt::WouldSignTwice { height, refused });
            }
        }
        let inputs: Vec<_> = log.into_iter().filter_map(|record| record.what.into_input(height)).collect();
        self.engine.index_wal_entries(&inputs);
        self.feed(now, self.start_input());
        for input in inputs {
            if self.stage == Stage::Deciding {
                self.feed(now, input);
            }
        }
        self.engine.reset_entries_index();
        self.replaying = false;
        self.propose_if_asked(now);
    }

    /// Gives the engine an input and follows up on what it decided or asked for.
    pub(super) fn feed(&mut self, now: Time, input: Input<Ledger>) {
        let effects = &mut self.effects;
        let mut refused = None;
        let engine = &mut self.engine;
        let result: Result<(), Error<Ledger>> = process!(
            input: input,
            state: engine,
            metrics: &(),
            with: effect => effects.handle(effect).inspect_err(|error| refused = Some(*error))
        );
        let height = self.deciding();
        if let Some(refused) = refused {
            return self.halt(Halt::WouldSignTwice { height, refused });
        }
        match result {
            Ok(()) => {}
            Err(Error::ReplayDivergence(..)) => return self.halt(Halt::ReplayDiverges { height }),
            Err(error) => {
                self.counters.engine_errors += 1;
                tracing::warn!(%height, %error, "the consensus engine gave up on an input");
            }
        }
        if let Some(certificate) = self.effects.decided.take() {
            self.commit_decided(&certificate);
        } else if !self.replaying {
            self.propose_if_asked(now);
        }
    }

    pub(super) fn propose_if_asked(&mut self, now: Time) {
        let Some(round) = self.effects.asked_round else { return };
        if self.stage != Stage::Deciding
            || self.engine.round() != Round::new(round)
            || !self.engine.driver.step_is_propose()
        {
            return;
        }
        let Some(block) = self.prepared.take().or_else(|| self.application.propose(round, now)) else {
            return;
        };
        self.effects.asked_round = None;
        if let Err(why) = self.fits(&block) {
            return self.halt(Halt::BadProposal { height: self.deciding(), why });
        }
        let value =
            LocallyProposedValue::new(Tall(self.deciding()), Round::new(round), Value(block.header.id()));
        self.effects.store(block);
        self.feed(now, Input::Propose(value));
    }

    fn commit_decided(&mut self, decided: &CommitCertificate<Ledger>) {
        let votes: Vec<_> = decided
            .commit_signatures
            .iter()
            .map(|signed| (signed.address.0, signed.signature.into()))
            .collect();
        let round = to_round(decided.round);
        let block = self.effects.blocks.get(&decided.value_id.0).cloned();
        let block = block.expect("the engine decides only what was stored and then called valid");
        let certificate = Certificate::new(&self.set, self.deciding(), round, decided.value_id.0, &votes);
        self.commit(block, certificate, if self.replaying { Origin::Replayed } else { Origin::Live });
    }

    pub(super) fn commit(&mut self, block: Block, certificate: Certificate, origin: Origin) {
        self.stage = Stage::Committing;
        self.effects.cancel_timers();
        self.effects.act(Action::Commit { block: Box::new(block), certificate, origin });
    }

    pub(super) fn proposer(&self, round: u32) -> NodeId {
        let members = Members::from(&self.set);
        Ledger.select_proposer(&members, Tall(self.deciding()), Round::new(round)).address().0
    }

    /// Checks everything about a block that needs no rules and no clock.
    pub(super) fn fits(&self, block: &Block) -> Result<(), BadBlock> {
        let header = &block.header;
        let found = codec::encode(block).len();
        if header.chain != self.config.chain {
            return Err(BadBlock::WrongChain);
        }
        if header.height != self.deciding() || header.parent != self.newest.block {
            return Err(BadBlock::WrongParent);
        }
        if header.time <= self.newest.time {
            return Err(BadBlock::NotLater);
        }
        if header.validators != self.set.digest() {
            return Err(BadBlock::WrongValidators);
        }
        if header.transactions != Block::digest_transactions(&block.transactions) {
            return Err(BadBlock::WrongTransactions);
        }
        if found > BLOCK_BYTES_MAX {
            return Err(BadBlock::TooLong { found });
        }
        Ok(())
    }
}
