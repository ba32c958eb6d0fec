//! Catching up with those who are further, and helping those who are not.

use std::time::Duration;

use bytes::Bytes;
use ihfs_core::codec;
use ihfs_core::ids::{Height, NodeId};
use ihfs_core::ledger::block::Block;
use ihfs_core::ledger::certificate::Certificate;

use super::{Host, Stage};
use crate::consensus::message::{DecidedBlock, MESSAGE_BYTES_MAX, Message};
use crate::consensus::refusals::Halt;
use crate::consensus::{Action, Application, Origin, TimerId};

/// Wait before asking for blocks: votes that would decide them may still come.
const CATCH_UP_DELAY: Duration = Duration::from_millis(200);
/// Most decided blocks in one answer.
const ANSWER_BLOCKS_MAX: u64 = 64;

impl<A: Application> Host<A> {
    pub(super) fn broadcast_newest(&mut self) {
        let message = Message::Newest(self.newest.height).encode();
        self.effects.act(Action::Broadcast(Bytes::from(message)));
        self.effects.set_timer(TimerId::TellNewest, self.config.tell_every);
    }

    /// Begins to tell the newest height at times, once there is somebody to tell.
    pub(super) fn tell_newest_from_now_on(&mut self) {
        if self.has_others() && !self.effects.is_set(TimerId::TellNewest) {
            self.broadcast_newest();
        }
    }

    pub(super) fn tell(&mut self, to: NodeId) {
        self.send(to, &Message::Newest(self.newest.height));
    }

    fn send(&mut self, to: NodeId, message: &Message) {
        self.effects.act(Action::Send { to, bytes: Bytes::from(message.encode()) });
    }

    pub(super) fn on_newest(&mut self, from: NodeId, height: Height) {
        if height < self.newest.height {
            self.tell(from);
        } else if self.catch_up.claim(from, height, self.newest.height) {
            self.effects.set_timer(TimerId::CatchUp, CATCH_UP_DELAY);
        }
    }

    pub(super) fn ask(&mut self) {
        if self.catch_up.is_asking() {
            return;
        }
        if let Some(peer) = self.catch_up.ask(self.newest.height) {
            self.send(peer, &Message::Wanted(self.deciding()));
            self.effects.set_timer(TimerId::CatchUp, self.config.answer_wait);
        }
    }

    /// Answers with decided blocks, as many as fit one message.
    pub(super) fn answer(&mut self, from: NodeId, first: Height) {
        let last = self.newest.height.0.min(first.0.saturating_add(ANSWER_BLOCKS_MAX - 1));
        // Room for the list around the blocks.
        let mut room = MESSAGE_BYTES_MAX - 64;
        let mut blocks = Vec::new();
        for height in first.0.max(1)..=last {
            let Some((block, certificate)) = self.application.decided(Height(height)) else { break };
            let decided = DecidedBlock { block, certificate };
            match room.checked_sub(codec::encode(&decided).len()) {
                Some(left) => room = left,
                None => break,
            }
            blocks.push(decided);
        }
        self.send(from, &Message::Decided(blocks));
    }

    pub(super) fn on_answer(&mut self, from: NodeId, blocks: Vec<DecidedBlock>) {
        if !self.catch_up.answer(from, blocks) {
            self.counters.unasked += 1;
            return;
        }
        self.commit_next_synced();
    }

    /// Commits the next block that a peer sent, or asks for more when there is none.
    pub(super) fn commit_next_synced(&mut self) {
        if matches!(self.stage, Stage::Committing | Stage::Halted) {
            return;
        }
        let Some(DecidedBlock { block, certificate }) = self.catch_up.next_block(self.newest.height) else {
            return self.ask();
        };
        if self.check_decided(&block, &certificate).is_err() {
            self.counters.unproved_blocks += 1;
            self.catch_up.distrust_source();
            return self.ask();
        }
        if self.application.validate(&block).is_err() {
            let (height, block) = (block.header.height, certificate.block);
            return self.halt(Halt::DecidedInvalid { height, block });
        }
        self.commit(block, certificate, Origin::Synced);
    }

    fn check_decided(&self, block: &Block, certificate: &Certificate) -> Result<(), Unproved> {
        let named = certificate.height == block.header.height && certificate.block == block.header.id();
        let proved = certificate.verify(self.config.chain, &self.set).is_ok();
        if named && proved && self.fits(block).is_ok() { Ok(()) } else { Err(Unproved) }
    }
}

/// A block that a peer sent as decided is not.
struct Unproved;
