//! The ledger as consensus drives it: makes blocks, checks them, takes the decided ones.

use std::sync::Arc;

use ihfs_core::ids::{BlockId, Height, Time};
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
    /// What the last proposed or validated block does, so that it is not executed again.
    executed: Option<(BlockId, Executed)>,
}

impl LedgerApplication {
    /// The application over a ledger.
    pub const fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, executed: None }
    }

    fn keep(&mut self, executed: Executed) {
        self.executed = Some((executed.block.header.id(), executed));
    }

    /// Makes a block of what applies and tells the submitters of what does not.
    fn make(&mut self, now: Time) -> Result<Option<Executed>, execute::ExecuteError> {
        let candidates = self.ledger.mempool.candidates();
        let snapshot = self.ledger.snapshot();
        let time = now.max(snapshot.newest().time.plus_millis(1));
        let mut executed = execute::propose(&*snapshot, snapshot.parent(), time, &candidates)?;
        let results = std::mem::take(&mut executed.applied.results);
        for (candidate, result) in candidates.iter().zip(results) {
            match result {
                Ok(id) => executed.applied.results.push(Ok(id)),
                Err(Refused::BlockFull) => self.ledger.mempool.defer(candidate.id()),
                Err(refused) => self.ledger.mempool.refuse(candidate.id(), refused),
            }
        }
        Ok(Some(executed))
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
        let executed = match self.make(now) {
            Ok(executed) => executed?,
            Err(error) => {
                self.ledger.note(&error);
                return None;
            }
        };
        // Once a height has begun it ends with a block: from the second round on, with an empty one if need be.
        if executed.block.transactions.is_empty() && round == 0 {
            return None;
        }
        let block = executed.block.clone();
        self.keep(executed);
        Some(block)
    }

    fn validate(&mut self, block: &Block) -> Result<(), Rejected> {
        if self.executed.as_ref().is_some_and(|(id, _)| *id == block.header.id()) {
            return Ok(());
        }
        let snapshot = self.ledger.snapshot();
        match execute::validate(&*snapshot, snapshot.parent(), block) {
            Ok(executed) => {
                self.keep(executed);
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
        let executed = match self.executed.take() {
            Some((id, executed)) if id == block.header.id() => executed,
            _ => {
                let snapshot = self.ledger.snapshot();
                execute::validate(&*snapshot, snapshot.parent(), &block)?
            }
        };
        self.ledger.commit(executed, &certificate, origin)
    }
}
