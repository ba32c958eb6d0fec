//! A ledger whose state is the digest of all transactions, and whose validator sets take turns: enough
//! for consensus to have rules to check.

use std::collections::BTreeSet;

use ihfs_core::codec;
use ihfs_core::ids::{BlockId, ChainId, Digest, Height, Time};
use ihfs_core::ledger::block::{Block, FORMAT_VERSION, Header};
use ihfs_core::ledger::certificate::{Certificate, ValidatorSet};
use serde_bytes::ByteBuf;

use crate::consensus::{Application, Newest, Rejected};

/// Small, so that many transactions make many blocks.
const TRANSACTIONS_PER_BLOCK: usize = 3;

#[derive(Clone)]
pub(crate) struct ToyLedger {
    chain: ChainId,
    sets: Vec<ValidatorSet>,
    blocks: Vec<(Block, Certificate)>,
    committed: BTreeSet<ByteBuf>,
    waiting: BTreeSet<ByteBuf>,
}

impl ToyLedger {
    pub(crate) fn new(
        chain: ChainId,
        sets: Vec<ValidatorSet>,
        blocks: Vec<(Block, Certificate)>,
        waiting: &[u64],
    ) -> Self {
        let mut ledger = Self { chain, sets, blocks: vec![], committed: [].into(), waiting: [].into() };
        for (block, certificate) in blocks {
            ledger.commit(block, certificate);
        }
        for transaction in waiting {
            ledger.submit(*transaction);
        }
        ledger
    }

    pub(crate) fn submit(&mut self, transaction: u64) {
        let bytes = ByteBuf::from(transaction.to_be_bytes());
        if !self.committed.contains(&bytes) {
            self.waiting.insert(bytes);
        }
    }

    pub(crate) fn commit(&mut self, block: Block, certificate: Certificate) {
        for transaction in &block.transactions {
            self.waiting.remove(transaction);
            self.committed.insert(transaction.clone());
        }
        self.blocks.push((block, certificate));
    }

    /// A valid block of these transactions after the newest.
    pub(crate) fn block_of(&self, transactions: Vec<ByteBuf>, now: Time) -> Block {
        let newest = self.newest();
        let header = Header {
            format: FORMAT_VERSION,
            rules: 1,
            chain: self.chain,
            height: newest.height.next(),
            parent: newest.block,
            time: now.max(newest.time.plus_millis(1)),
            transactions: Block::digest_transactions(&transactions),
            state: self.state_after(&transactions),
            validators: self.validators().digest(),
            next_validators: set_of(&self.sets, newest.height.next().next()).digest(),
        };
        Block { header, transactions }
    }

    fn state_after(&self, transactions: &Vec<ByteBuf>) -> Digest {
        let before = self.blocks.last().map_or(Digest::of(b""), |(block, _)| block.header.state);
        Digest::of(&codec::encode(&(before, transactions)))
    }
}

/// The validators of a height: the sets take turns.
pub(crate) fn set_of(sets: &[ValidatorSet], height: Height) -> &ValidatorSet {
    &sets[usize::try_from(height.0).unwrap() % sets.len()]
}

impl Application for ToyLedger {
    fn newest(&self) -> Newest {
        let genesis =
            Newest { height: Height(0), block: BlockId::from_bytes(*self.chain.as_bytes()), time: Time(0) };
        self.blocks.last().map_or(genesis, |(block, _)| Newest {
            height: block.header.height,
            block: block.header.id(),
            time: block.header.time,
        })
    }

    fn validators(&self) -> ValidatorSet {
        set_of(&self.sets, self.newest().height.next()).clone()
    }

    fn has_transactions(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn propose(&mut self, _round: u32, now: Time) -> Option<Block> {
        let transactions: Vec<_> = self.waiting.iter().take(TRANSACTIONS_PER_BLOCK).cloned().collect();
        (!transactions.is_empty()).then(|| self.block_of(transactions, now))
    }

    fn validate(&mut self, block: &Block) -> Result<(), Rejected> {
        let fresh = block.transactions.iter().all(|transaction| !self.committed.contains(transaction));
        let right = block.header.state == self.state_after(&block.transactions)
            && block.header.next_validators == set_of(&self.sets, block.header.height.next()).digest()
            && !block.transactions.is_empty();
        if fresh && right { Ok(()) } else { Err(Rejected) }
    }

    fn decided(&self, height: Height) -> Option<(Block, Certificate)> {
        let place = usize::try_from(height.0).ok()?.checked_sub(1)?;
        self.blocks.get(place).cloned()
    }
}
