//! Asking the ledger for changes: signed, sent, and final or refused before it returns.

use ihfs_core::crypto::sign::SigningKey;
use ihfs_core::ids::{DeviceId, Height, TransactionId};
use ihfs_core::ledger::operation::Operation;
use ihfs_core::ledger::state::{RememberedTransaction, StateKey};
use ihfs_core::ledger::transaction::{SignedTransaction, TRANSACTION_FORMAT, Transaction};
use ihfs_net::RequestError;
use ihfs_proto::ledger::{self, Reason};

use crate::client::{Client, now};
use crate::link::{AskError, DECISION_TIME_MAX, Refusal};
use crate::view::ViewError;

/// How long a transaction may wait to be applied: what an interrupted command may still set in motion.
const VALIDITY_MILLIS: u64 = 10 * 60 * 1000;

/// Why the ledger did not take a change.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The rules refuse it.
    #[error("the ledger refuses: {0}")]
    Refused(Refusal),
    /// The node could not be asked.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The outcome could not be verified.
    #[error(transparent)]
    View(#[from] ViewError),
    /// No decision in time. The change may still be applied until its time is over.
    #[error("the ledger did not decide in time; transaction {id:?} may still be applied")]
    Undecided {
        /// The transaction.
        id: TransactionId,
    },
    /// The node says that it is applied, and the ledger proves that it is not.
    #[error("the node says that transaction {id:?} is applied, the ledger does not hold it")]
    NotApplied {
        /// The transaction.
        id: TransactionId,
    },
}

/// A transaction that is final.
#[derive(Clone, Copy, Debug)]
pub struct Decided {
    /// The transaction.
    pub id: TransactionId,
    /// The block that holds it.
    pub height: Height,
}

impl Client {
    /// The transaction of these operations, signed by this device.
    pub(crate) fn sign(&self, random: [u8; 32], operations: Vec<Operation>) -> SignedTransaction {
        self.sign_with(&self.keys.device, random, operations)
    }

    pub(crate) fn sign_with(
        &self,
        key: &SigningKey,
        random: [u8; 32],
        operations: Vec<Operation>,
    ) -> SignedTransaction {
        // Header time may be behind or ahead of this clock: both bound the validity.
        let newest = self.view.trust().time;
        let valid_until = now().max(newest).plus_millis(VALIDITY_MILLIS);
        Transaction {
            format: TRANSACTION_FORMAT,
            chain: self.chain(),
            member: self.member(),
            signer: DeviceId::from_bytes(key.public()),
            valid_until,
            random,
            operations,
        }
        .sign(key)
    }

    /// Has these operations applied, all or none.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub(crate) fn submit(&self, operations: Vec<Operation>) -> Result<Decided, SubmitError> {
        self.submit_signed(&self.sign(rand::random(), operations))
    }

    /// Has a signed transaction applied.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub(crate) fn submit_signed(&self, transaction: &SignedTransaction) -> Result<Decided, SubmitError> {
        let id = transaction.id();
        let request =
            ledger::request::Request::Submit(ledger::Submit { transaction: transaction.to_bytes().into() });
        match self.link.ask_ledger(request, DECISION_TIME_MAX) {
            // A node's word is none: what it says is applied must stand on the ledger.
            Ok(ledger::response::Response::Applied(_)) => {
                self.outcome(id)?.ok_or(SubmitError::NotApplied { id })
            }
            Ok(_) => self.outcome(id)?.ok_or(SubmitError::Undecided { id }),
            Err(AskError::Refused(refusal)) if refusal.reason == Reason::Rules => {
                Err(SubmitError::Refused(refusal))
            }
            // Whoever cancelled it does not wait for the outcome either.
            Err(AskError::Cancelled(_)) => Err(SubmitError::Undecided { id }),
            Err(error) if is_unknown(&error) => match self.outcome(id)? {
                Some(decided) => Ok(decided),
                None => Err(SubmitError::Undecided { id }),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the ledger has applied the transaction.
    fn outcome(&self, id: TransactionId) -> Result<Option<Decided>, ViewError> {
        let remembered: Option<RememberedTransaction> = self.view.entry(StateKey::Transaction(id))?;
        Ok(remembered.map(|remembered| Decided { id, height: remembered.height }))
    }
}

/// Whether the node may have acted all the same.
fn is_unknown(error: &AskError) -> bool {
    match error {
        AskError::Network(error) => {
            matches!(error, RequestError::TimedOut { .. } | RequestError::Closed { .. })
        }
        AskError::Refused(refusal) => refusal.reason == Reason::Undecided,
        AskError::Malformed { .. } | AskError::NoNode | AskError::Cancelled(_) => false,
    }
}
