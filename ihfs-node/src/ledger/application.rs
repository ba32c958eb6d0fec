//! The ledger as consensus drives it: makes blocks, checks them, takes the decided ones.

use std::sync::Arc;

use ihfs_core::ids::{BlockId, Height, Time, TransactionId};
use ihfs_core::ledger::block::Block;
use ihfs_core::ledger::certificate::{Certificate, ValidatorSet};
use ihfs_core::ledger::execute::{self, Executed};
use ihfs_core::ledger::rules::Refused;

use super::{Ledger, LedgerError};
use crate::consensus::driver::Committer;
use crate::consensus::{Application, Newest, Origin, Rejected};

/// What consensus is given.
pub struct LedgerApplication {
    ledger: Arc<Ledger>,
    /// The last block that was proposed or validated, so that it is not executed again.
    tried: Option<Tried>,
}

/// A block that is not decided yet.
struct Tried {
    block: BlockId,
    executed: Executed,
    /// What does not apply beside it. Its submitters are told once the block is decided: only then can they see
    /// what was faster.
    refused: Vec<(TransactionId, Refused)>,
}

impl LedgerApplication {
    /// The application over a ledger.
    pub const fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, tried: None }
    }

    fn keep(&mut self, executed: Executed, refused: Vec<(TransactionId, Refused)>) {
        self.tried = Some(Tried { block: executed.block.header.id(), executed, refused });
    }

    fn tell(&self, refused: Vec<(TransactionId, Refused)>) {
        for (id, refused) in refused {
            self.ledger.mempool.refuse(id, refused);
        }
    }

    /// Makes a block of what applies; what does not stands beside it.
    fn make(&self, now: Time) -> Result<(Executed, Vec<(TransactionId, Refused)>), execute::ExecuteError> {
        let candidates = self.ledger.mempool.candidates();
        let snapshot = self.ledger.snapshot();
        let time = now.max(snapshot.newest().time.plus_millis(1));
        let mut executed = execute::propose(&*snapshot, snapshot.parent(), time, &candidates)?;
        let results = std::mem::take(&mut executed.applied.results);
        let mut all_refused = Vec::new();
        for (candidate, result) in candidates.iter().zip(results) {
            match result {
                Ok(id) => executed.applied.results.push(Ok(id)),
                Err(Refused::BlockFull) => self.ledger.mempool.defer(candidate.id()),
                Err(refused) => all_refused.push((candidate.id(), refused)),
            }
        }
        Ok((executed, all_refused))
    }
}

impl Application for LedgerApplication {
    fn newest(&self) -> Newest {
        self.ledger.snapshot().newest()
    }

    fn validators(&self) -> ValidatorSet {
        let consortium = self.ledger.snapshot().consortium();
        consortium.expect("the consortium is written by every block and read by its executing").next
    }

    fn has_transactions(&self) -> bool {
        !self.ledger.mempool.is_empty()
    }

    fn propose(&mut self, round: u32, now: Time) -> Option<Block> {
        let (executed, refused) = match self.make(now) {
            Ok(made) => made,
            Err(error) => {
                self.ledger.note(&error);
                return None;
            }
        };
        // Once a height has begun it ends with a block: from the second round on, with an empty one if need be.
        if executed.block.transactions.is_empty() && round == 0 {
            self.tell(refused);
            return None;
        }
        let block = executed.block.clone();
        self.keep(executed, refused);
        Some(block)
    }

    fn validate(&mut self, block: &Block) -> Result<(), Rejected> {
        if self.tried.as_ref().is_some_and(|tried| tried.block == block.header.id()) {
            return Ok(());
        }
        let snapshot = self.ledger.snapshot();
        match execute::validate(&*snapshot, snapshot.parent(), block) {
            Ok(executed) => {
                self.keep(executed, Vec::new());
                Ok(())
            }
            Err(error) => {
                self.ledger.note(&error);
                Err(Rejected)
            }
        }
    }

    fn decided(&self, height: Height) -> Option<(Block, Certificate)> {
        let snapshot = self.ledger.snapshot();
        let block = snapshot.block(height).ok().flatten()?;
        let certificate = snapshot.certificate(height).ok().flatten()?;
        Some((block, certificate))
    }
}

impl Committer for LedgerApplication {
    type Error = LedgerError;

    fn commit(&mut self, block: Block, certificate: Certificate, origin: Origin) -> Result<(), LedgerError> {
        let (executed, refused) = match self.tried.take() {
            Some(tried) if tried.block == block.header.id() => (tried.executed, tried.refused),
            _ => {
                let snapshot = self.ledger.snapshot();
                (execute::validate(&*snapshot, snapshot.parent(), &block)?, Vec::new())
            }
        };
        self.ledger.commit(executed, &certificate, origin)?;
        self.tell(refused);
        Ok(())
    }
}
