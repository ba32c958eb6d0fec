//! A validator that says anything: two votes, two blocks, garbage, heights and blocks that are not.

use bytes::Bytes;
use ihfs_core::crypto::sign::{Purpose, SigningKey};
use ihfs_core::ids::{BlockId, Height, NodeId, Time};
use ihfs_core::ledger::certificate::{ValidatorSet, VoteKind, vote_bytes};
use serde_bytes::ByteBuf;

use super::toy_ledger::ToyLedger;
use super::{CHAIN, Dice, Machine};
use crate::consensus::context::{Address, Proposal, Tall, Value};
use crate::consensus::message::{DecidedBlock, Message, ProposalMessage, VoteMessage, proposal_bytes};

pub(super) struct Liar {
    key: SigningKey,
    me: NodeId,
    seen: Vec<BlockId>,
}

/// Most block ids that it remembers to vote for.
const SEEN_MAX: usize = 8;

impl Liar {
    pub(super) fn new(key: SigningKey) -> Self {
        let me = NodeId::from_bytes(key.public());
        Self { key, me, seen: Vec::new() }
    }

    /// Lies provoked by a message, each with the machine that it is told to.
    pub(super) fn on_message(
        &mut self,
        dice: &mut Dice,
        machines: &[Machine],
        sets: &[ValidatorSet],
        bytes: &Bytes,
    ) -> Vec<(usize, Bytes)> {
        let message = Message::decode(bytes).unwrap();
        if let Message::Proposal(proposal, _) = &message {
            self.seen.truncate(SEEN_MAX - 1);
            self.seen.insert(0, proposal.block);
        }
        let round = match &message {
            Message::Vote(vote) => vote.round,
            Message::Proposal(proposal, _) => proposal.round,
            Message::Wanted(_) => return self.answer(dice, machines),
            _ => 0,
        };
        let height = message.deciding().unwrap_or(Height(1 + dice.below(9)));
        let mut lies = Vec::new();
        for to in self.others(machines) {
            let lie = match dice.below(12) {
                0..5 => self.vote(dice, height, round),
                5 => self.vote(dice, height, round + 1),
                6..8 => self.proposal(dice, machines, sets, round),
                8 => Message::Newest(Height(dice.next())).encode(),
                9 => garbage(dice, bytes),
                _ => continue,
            };
            lies.push((to, Bytes::from(lie)));
        }
        // Lies provoke answers, so not every message provokes lies: the simulation must end.
        if dice.percent(30) { lies } else { Vec::new() }
    }

    fn vote(&self, dice: &mut Dice, height: Height, round: u32) -> Vec<u8> {
        let kind = if dice.percent(50) { VoteKind::Prevote } else { VoteKind::Precommit };
        let block = match self.seen.is_empty() || dice.percent(30) {
            true => None,
            false => Some(self.seen[dice.index(self.seen.len())]),
        };
        let signature = self.key.sign(Purpose::Vote, &vote_bytes(CHAIN, kind, height, round, block));
        Message::Vote(VoteMessage { kind, height, round, block, validator: self.me, signature }).encode()
    }

    /// A block of its own making; valid, of bad state, or from the future. Each listener gets another.
    fn proposal(&self, dice: &mut Dice, machines: &[Machine], sets: &[ValidatorSet], round: u32) -> Vec<u8> {
        let blocks = &machines[dice.index(machines.len())].blocks;
        let ledger = ToyLedger::new(CHAIN, sets.to_vec(), blocks.clone(), &[]);
        let transaction = ByteBuf::from((1_000_000 + dice.next() % 1_000_000).to_be_bytes());
        let ahead = if dice.percent(20) { 3_600_000 } else { dice.below(1_000) };
        let mut block = ledger.block_of(vec![transaction], Time(super::BEGIN + ahead));
        if dice.percent(20) {
            block.header.state = ihfs_core::ids::Digest::of(b"lie");
        }
        let proposal = Proposal {
            height: Tall(block.header.height),
            round: round.into(),
            value: Value(block.header.id()),
            polka: arc_malachitebft_core_types::Round::Nil,
            proposer: Address(self.me),
        };
        let message = ProposalMessage {
            height: block.header.height,
            round,
            block: block.header.id(),
            polka: None,
            proposer: self.me,
            signature: self.key.sign(Purpose::Proposal, &proposal_bytes(CHAIN, &proposal)),
        };
        Message::Proposal(message, Some(Box::new(block))).encode()
    }

    /// Decided blocks, one of them with another time and a certificate that names it.
    fn answer(&self, dice: &mut Dice, machines: &[Machine]) -> Vec<(usize, Bytes)> {
        let blocks = &machines[dice.index(machines.len())].blocks;
        let decided = |(block, certificate): &(_, _)| DecidedBlock {
            block: ihfs_core::ledger::block::Block::clone(block),
            certificate: ihfs_core::ledger::certificate::Certificate::clone(certificate),
        };
        let mut blocks: Vec<DecidedBlock> = blocks.iter().map(decided).collect();
        if !blocks.is_empty() {
            let place = dice.index(blocks.len());
            let lie = &mut blocks[place];
            lie.block.header.time = lie.block.header.time.plus_millis(1);
            lie.certificate.block = lie.block.header.id();
        }
        let bytes = Bytes::from(Message::Decided(blocks).encode());
        self.others(machines).into_iter().map(|to| (to, bytes.clone())).collect()
    }

    fn others(&self, machines: &[Machine]) -> Vec<usize> {
        (0..machines.len()).filter(|place| machines[*place].id != self.me).collect()
    }
}

fn garbage(dice: &mut Dice, bytes: &[u8]) -> Vec<u8> {
    let mut garbage = bytes.to_vec();
    let place = dice.index(garbage.len());
    garbage[place] ^= 1 << dice.below(8);
    garbage.truncate(1 + dice.index(garbage.len()));
    garbage
}
