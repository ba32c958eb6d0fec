//! Transactions: one member's operations, signed, applied all or not at all, and exactly once.
//!
//! The random bytes make every transaction unlike any other; the ledger remembers its id until
//! `valid_until`, after which its bytes are refused as expired.

use serde_bytes::ByteBuf;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::codec::{self, DecodeError};
use crate::crypto::sign::{self, Purpose, Signature, SigningKey};
use crate::ids::{ChainId, DeviceId, MemberId, Time, TransactionId};
use crate::ledger::operation::Operation;

/// Version of the transaction's bytes.
pub const TRANSACTION_FORMAT: u16 = 1;
/// Most bytes of one transaction: 150 re-issued grants or the secrets of 32 devices fit, and four of
/// them fit into a block.
pub const TRANSACTION_BYTES_MAX: usize = 256 << 10;
/// Most operations of one transaction.
pub const OPERATIONS_MAX: usize = 256;
/// Longest time that a transaction may stay valid, in milliseconds: bounds what must be remembered.
pub const VALIDITY_MAX: u64 = 24 * 60 * 60 * 1000;
/// Bytes of the signature and of the framing around a transaction.
const SIGNATURE_OVERHEAD: usize = 128;

/// What a member asks the ledger to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Transaction {
    /// [`TRANSACTION_FORMAT`].
    pub format: u16,
    /// The chain it is for.
    pub chain: ChainId,
    /// Who asks.
    pub member: MemberId,
    /// The key that signs: a device of the member, or the member key where words are needed.
    pub signer: DeviceId,
    /// Last header time at which it may be applied.
    pub valid_until: Time,
    /// Fresh random bytes: make the id unique, and the salts of the epochs that it opens.
    #[serde(with = "serde_bytes")]
    pub random: [u8; 32],
    /// What to do, in this order.
    pub operations: Vec<Operation>,
}

impl Transaction {
    /// Signs the transaction; `signer` is set to the key.
    pub fn sign(mut self, key: &SigningKey) -> SignedTransaction {
        self.signer = DeviceId::from_bytes(key.public());
        let bytes = codec::encode(&self);
        let signature = key.sign(Purpose::Transaction, &bytes);
        SignedTransaction { bytes: ByteBuf::from(bytes), signature }
    }
}

/// A transaction's canonical bytes and the signature over them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct SignedTransaction {
    /// Canonical bytes of a [`Transaction`].
    pub bytes: ByteBuf,
    /// By the key that the transaction names as its signer ([`Purpose::Transaction`]).
    pub signature: Signature,
}

impl SignedTransaction {
    /// `BLAKE3-derive-key("IHFS 1 transaction id", bytes)`.
    pub fn id(&self) -> TransactionId {
        TransactionId::from_bytes(blake3::derive_key("IHFS 1 transaction id", &self.bytes))
    }

    /// Its canonical bytes, as blocks and messages carry them.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`]; the transaction inside is not looked at.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, TRANSACTION_BYTES_MAX + SIGNATURE_OVERHEAD)
    }

    /// Opens the transaction: its shape and its signature are right. Whose key signed, the rules know.
    ///
    /// # Errors
    /// [`TransactionError`].
    pub fn open(&self) -> Result<Transaction, TransactionError> {
        let transaction: Transaction = codec::decode(&self.bytes, TRANSACTION_BYTES_MAX)?;
        if transaction.format != TRANSACTION_FORMAT {
            return Err(TransactionError::UnknownFormat { found: transaction.format });
        }
        let found = transaction.operations.len();
        if found == 0 || found > OPERATIONS_MAX {
            return Err(TransactionError::WrongCount { found });
        }
        sign::verify(transaction.signer.as_bytes(), Purpose::Transaction, &self.bytes, &self.signature)
            .map_err(|_| TransactionError::BadSignature { signer: transaction.signer })?;
        Ok(transaction)
    }
}

/// Why bytes are not a signed transaction.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// The bytes are not the canonical form of a transaction.
    #[error("the transaction does not decode")]
    Decode(#[from] DecodeError),
    /// A format of another version.
    #[error("transaction format {found}, where {TRANSACTION_FORMAT} is known")]
    UnknownFormat {
        /// The version found.
        found: u16,
    },
    /// There must be 1 to [`OPERATIONS_MAX`] operations.
    #[error("{found} operations, where 1 to {OPERATIONS_MAX} are allowed")]
    WrongCount {
        /// How many there were.
        found: usize,
    },
    /// The signature does not verify under the key that the transaction names.
    #[error("the signature by {signer:?} does not verify")]
    BadSignature {
        /// The key that it names.
        signer: DeviceId,
    },
}
