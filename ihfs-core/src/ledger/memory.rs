//! A ledger in memory: the whole machine of rules, tree and lists, for tests and tools.
//!
//! Keeps everything in ordered maps and clones freely; a node has a durable twin of it.

use std::collections::BTreeMap;

use crate::crypto::sign::{Purpose, SigningKey};
use crate::ids::{ChainId, Digest, Height, NodeId, Time};
use crate::ledger::block::{Block, Header};
use crate::ledger::certificate::{Certificate, VoteKind, vote_bytes};
use crate::ledger::execute::{self, ExecuteError, Executed, Parent};
use crate::ledger::genesis::{Genesis, GenesisError};
use crate::ledger::lists::{ListItem, ListKey};
use crate::ledger::proof::{self, PageReader, StateProof, TreeUpdate};
use crate::ledger::rules::{Applied, Writes};
use crate::ledger::state::{self, ConsortiumEntry, ReadFailed, StateError, StateKey, StateReader};
use crate::ledger::transaction::SignedTransaction;

/// A ledger in memory.
#[derive(Clone, Debug)]
pub struct MemoryLedger {
    genesis: Genesis,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    pages: BTreeMap<Vec<u8>, Vec<u8>>,
    items: BTreeMap<[u8; 41], Vec<u8>>,
    blocks: Vec<Block>,
    certificates: BTreeMap<Height, Certificate>,
    root: Digest,
}

impl StateReader for MemoryLedger {
    fn read_entry(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadFailed> {
        Ok(self.entries.get(key).cloned())
    }
}

impl PageReader for MemoryLedger {
    fn read_page(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadFailed> {
        Ok(self.pages.get(key).cloned())
    }
}

impl MemoryLedger {
    /// Founds a ledger.
    ///
    /// # Errors
    /// [`GenesisError`].
    pub fn found(genesis: Genesis) -> Result<Self, GenesisError> {
        let founded = execute::found(&genesis)?;
        let mut ledger = Self {
            genesis,
            entries: BTreeMap::new(),
            pages: BTreeMap::new(),
            items: BTreeMap::new(),
            blocks: Vec::new(),
            certificates: BTreeMap::new(),
            root: founded.tree.root,
        };
        ledger.take(founded.writes, founded.tree, Vec::new());
        Ok(ledger)
    }

    /// The genesis document.
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The chain.
    pub fn chain(&self) -> ChainId {
        self.genesis.chain()
    }

    /// The newest height.
    pub fn height(&self) -> Height {
        self.blocks.last().map_or(Height(0), |block| block.header.height)
    }

    /// The time of the newest block, or of the genesis document.
    pub fn time(&self) -> Time {
        self.blocks.last().map_or(self.genesis.time, |block| block.header.time)
    }

    /// The root of the newest state.
    pub const fn root(&self) -> Digest {
        self.root
    }

    /// The block at a height; none at 0.
    pub fn block(&self, height: Height) -> Option<&Block> {
        self.blocks.get(usize::try_from(height.0).ok()?.checked_sub(1)?)
    }

    /// The header at a height; none at 0.
    pub fn header(&self, height: Height) -> Option<&Header> {
        self.block(height).map(|block| &block.header)
    }

    /// The certificate at a height, if [`Self::certify`] made one.
    pub fn certificate(&self, height: Height) -> Option<&Certificate> {
        self.certificates.get(&height)
    }

    /// What the next block follows.
    pub fn parent(&self) -> Parent {
        self.blocks.last().map_or(Parent::genesis(self.chain()), |block| Parent::of(&block.header))
    }

    /// Makes a block of those transactions that apply, and takes it.
    ///
    /// # Errors
    /// [`ExecuteError`].
    pub fn apply(&mut self, time: Time, transactions: &[SignedTransaction]) -> Result<Applied, ExecuteError> {
        let executed = execute::propose(self, self.parent(), time, transactions)?;
        Ok(self.commit(executed))
    }

    /// Takes a block that was decided elsewhere.
    ///
    /// # Errors
    /// [`ExecuteError`].
    pub fn accept(&mut self, block: &Block) -> Result<Applied, ExecuteError> {
        let executed = execute::validate(self, self.parent(), block)?;
        Ok(self.commit(executed))
    }

    fn commit(&mut self, executed: Executed) -> Applied {
        let Executed { block, applied, tree } = executed;
        self.take(applied.writes.clone(), tree, applied.items.clone());
        self.blocks.push(block);
        applied
    }

    fn take(&mut self, writes: Writes, tree: TreeUpdate, items: Vec<ListItem>) {
        for (key, value) in writes {
            match value {
                Some(value) => self.entries.insert(key, value),
                None => self.entries.remove(&key),
            };
        }
        self.pages.extend(tree.pages);
        for stale in tree.stale {
            self.pages.remove(&stale);
        }
        self.items.extend(items.into_iter().map(|item| (item.list.item_key(item.index), item.bytes)));
        self.root = tree.root;
    }

    /// Signs the newest block with validators' keys, in round 0.
    ///
    /// # Panics
    /// When there is no block yet.
    pub fn certify(&mut self, keys: &[SigningKey]) -> Certificate {
        let header = &self.blocks.last().expect("a block to certify").header;
        let (height, block) = (header.height, header.id());
        let bytes = vote_bytes(header.chain, VoteKind::Precommit, height, 0, Some(block));
        let sign = |key: &SigningKey| (NodeId::from_bytes(key.public()), key.sign(Purpose::Vote, &bytes));
        let votes: Vec<_> = keys.iter().map(sign).collect();
        let consortium: ConsortiumEntry =
            self.read(&StateKey::Consortium).expect("memory is readable").expect("founded with one");
        let certificate = Certificate::new(&consortium.validators, height, 0, block, &votes);
        self.certificates.insert(height, certificate.clone());
        certificate
    }

    /// Reads an entry; `T` is what [`StateKey`] names.
    ///
    /// # Errors
    /// [`StateError::Damaged`] when `T` is another type.
    pub fn read<T>(&self, key: &StateKey) -> Result<Option<T>, StateError>
    where
        T: serde::Serialize + serde::de::DeserializeOwned,
    {
        state::read(self, key)
    }

    /// An entry's bytes and the proof of what stands under its key in the newest state.
    pub fn prove(&self, key: &StateKey) -> (Option<Vec<u8>>, StateProof) {
        let key = key.to_bytes();
        let proof = proof::prove(self, self.height(), &key).expect("the tree is in memory");
        (self.entries.get(&key).cloned(), proof)
    }

    /// Items of a list, from the one at `from` on, at most `most`.
    pub fn items(&self, list: ListKey, from: u64, most: usize) -> Vec<Vec<u8>> {
        let range = list.item_key(from)..=list.item_key(u64::MAX);
        self.items.range(range).take(most).map(|(_, bytes)| bytes.clone()).collect()
    }

    /// All entries in the order of their keys.
    pub const fn entries(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.entries
    }

    /// How many pages the tree has.
    pub fn pages(&self) -> usize {
        self.pages.len()
    }
}
