//! Blocks: a header that commits to everything, and the signed transactions under it.

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::codec;
use crate::ids::{BlockId, ChainId, Digest, Height, Time};

/// Version of the header's and the block's bytes.
pub const FORMAT_VERSION: u16 = 1;
/// Most bytes of one block: a proposal crosses the network in one body.
pub const BLOCK_BYTES_MAX: usize = 1 << 20;
/// Most bytes of one header; a real one has about 200.
pub const HEADER_BYTES_MAX: usize = 1024;

/// What a certificate signs: everything that the block says and does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Header {
    /// [`FORMAT_VERSION`].
    pub format: u16,
    /// Version of the rules that applied the block.
    pub rules: u16,
    /// The chain it belongs to.
    pub chain: ChainId,
    /// Its height; the first block has 1.
    pub height: Height,
    /// The block before it; the chain id's bytes for the first block.
    pub parent: BlockId,
    /// Time that the proposer gave it: later than its parent's.
    pub time: Time,
    /// Digest of the block's transactions in their order.
    pub transactions: Digest,
    /// Root of the authenticated state after this block.
    pub state: Digest,
    /// Digest of the validator set that decides this block.
    pub validators: Digest,
    /// Digest of the validator set that decides the next block.
    pub next_validators: Digest,
}

impl Header {
    /// `BLAKE3-derive-key("IHFS 1 block id", header)`.
    pub fn id(&self) -> BlockId {
        BlockId::from_bytes(blake3::derive_key("IHFS 1 block id", &codec::encode(self)))
    }
}

/// A header with the transactions that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Block {
    /// The header.
    pub header: Header,
    /// Signed transactions, each in its canonical bytes.
    pub transactions: Vec<serde_bytes::ByteBuf>,
}

impl Block {
    /// Digest of transactions in their order: `BLAKE3-derive-key("IHFS 1 block transactions", …)`.
    pub fn digest_transactions(transactions: &[serde_bytes::ByteBuf]) -> Digest {
        let bytes = codec::encode(&transactions);
        Digest::from_bytes(blake3::derive_key("IHFS 1 block transactions", &bytes))
    }
}
