//! Receipts: a node's signed word that everything one anchor names is durable on it.
//!
//! Knows nothing of stores; the node that signs must have synced first.

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::codec;
use crate::crypto::sign::{self, BadSignature, Purpose, Signature, SigningKey};
use crate::ids::{ChainId, ChunkId, NodeId, RecordId, Time};

/// Most bytes of one receipt; a real one has about 130.
pub const RECEIPT_BYTES_MAX: usize = 256;
/// Shortest life of a receipt, in milliseconds: nothing under it is collected for 7 days.
pub const RECEIPT_LIFE_MIN: u64 = 7 * 24 * 60 * 60 * 1000;

/// What a receipt is about; the anchor that carries the receipt repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptSubject {
    /// The chain of the record.
    pub chain: ChainId,
    /// The record that the chunks were uploaded under.
    pub record: RecordId,
    /// The delta chunk, which lists every chunk that must be durable.
    pub delta: ChunkId,
    /// The root chunk.
    pub root: ChunkId,
    /// Stored bytes of the chunks that the delta adds: the node has read it.
    pub bytes_added: u64,
    /// Stored bytes of the chunks that it drops.
    pub bytes_dropped: u64,
}

/// A node's word for one [`ReceiptSubject`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Receipt {
    /// The node that keeps the chunks.
    pub node: NodeId,
    /// Version of the placement that the node went by.
    pub placement: u64,
    /// Until when the node keeps the chunks without an anchor: at least [`RECEIPT_LIFE_MIN`] from signing.
    pub expires: Time,
    /// By the node ([`Purpose::Receipt`]).
    pub signature: Signature,
}

impl Receipt {
    /// Signs a receipt with the node's key.
    pub fn sign(key: &SigningKey, subject: &ReceiptSubject, placement: u64, expires: Time) -> Self {
        let node = NodeId::from_bytes(key.public());
        let signature = key.sign(Purpose::Receipt, &signed_bytes(subject, node, placement, expires));
        Self { node, placement, expires, signature }
    }

    /// Checks that the node it names signed it for this subject.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self, subject: &ReceiptSubject) -> Result<(), BadSignature> {
        let bytes = signed_bytes(subject, self.node, self.placement, self.expires);
        sign::verify(self.node.as_bytes(), Purpose::Receipt, &bytes, &self.signature)
    }
}

fn signed_bytes(subject: &ReceiptSubject, node: NodeId, placement: u64, expires: Time) -> Vec<u8> {
    let ReceiptSubject { chain, record, delta, root, bytes_added, bytes_dropped } = subject;
    codec::encode(&(chain, node, record, delta, root, bytes_added, bytes_dropped, placement, expires))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::secret::Secret;

    const SUBJECT: ReceiptSubject = ReceiptSubject {
        chain: ChainId::from_bytes([1; 32]),
        record: RecordId::from_bytes([2; 32]),
        delta: ChunkId::from_bytes([3; 32]),
        root: ChunkId::from_bytes([4; 32]),
        bytes_added: 8,
        bytes_dropped: 9,
    };

    #[test]
    fn a_receipt_holds_for_its_own_subject_placement_and_expiry_only() {
        let key = SigningKey::from_seed(Secret::new([5; 32]));
        let receipt = Receipt::sign(&key, &SUBJECT, 6, Time(7));
        assert_eq!(receipt.verify(&SUBJECT), Ok(()));
        let other_root = ReceiptSubject { root: ChunkId::from_bytes([9; 32]), ..SUBJECT };
        assert_eq!(receipt.verify(&other_root), Err(BadSignature));
        assert_eq!(receipt.verify(&ReceiptSubject { bytes_added: 9, ..SUBJECT }), Err(BadSignature));
        assert_eq!(receipt.verify(&ReceiptSubject { bytes_dropped: 8, ..SUBJECT }), Err(BadSignature));
        assert_eq!(Receipt { expires: Time(8), ..receipt.clone() }.verify(&SUBJECT), Err(BadSignature));
        assert_eq!(Receipt { placement: 5, ..receipt }.verify(&SUBJECT), Err(BadSignature));
    }

    #[test]
    fn the_bytes_of_a_receipt_are_pinned() {
        let key = SigningKey::from_seed(Secret::new([5; 32]));
        let bytes = codec::encode(&Receipt::sign(&key, &SUBJECT, 6, Time(7)));
        assert!(bytes.len() <= RECEIPT_BYTES_MAX);
        assert_eq!(blake3::hash(&bytes).to_hex()[..16], *"69e2fa2773b96fac");
    }
}
