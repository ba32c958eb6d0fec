//! Wire messages, one file per conversation, and how they become bytes.
//!
//! Canonical, signed and hashed bytes come from `ihfs-core` and travel here unread. Knows nothing of
//! networks: a message is a header (one of these) and a body (a sealed chunk, or nothing).

use prost::Message;

/// Version of all conversations; it stands in the protocol's name.
pub const PROTOCOL_VERSION: u32 = 1;
/// Most bytes of a message's header.
pub const HEADER_BYTES_MAX: usize = 64 << 10;
/// Most bytes of a message that travels as the body.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Most keys of one request for proofs: with a proof of 1.5 KiB each the answer stays a body.
pub const PROVE_KEYS_MAX: usize = 32;
/// Most bytes of list items in one answer.
pub const ITEMS_BYTES_MAX: usize = 48 << 10;
/// Most chunk ids of one question: their 32 KiB fit a header.
pub const HAS_CHUNKS_MAX: usize = 1024;
/// Most records that a receipt's chunks may come from.
pub const VOUCH_SOURCES_MAX: usize = 256;

/// The generated types refer to each other by the nesting of their packages.
macro_rules! nested {
    ($($name:ident = $package:literal;)*) => {
        #[allow(missing_docs, clippy::all, rustdoc::all)]
        mod ihfs { $( pub mod $name { pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/", $package, ".rs"));
        } } )* }
    };
}

nested! {
    chunk = "ihfs.chunk.v1";
    join = "ihfs.join.v1";
    key = "ihfs.key.v1";
    ledger = "ihfs.ledger.v1";
    status = "ihfs.status.v1";
}

pub use ihfs::chunk::v1 as chunk;
pub use ihfs::join::v1 as join;
pub use ihfs::key::v1 as key;
pub use ihfs::ledger::v1 as ledger;
pub use ihfs::status::v1 as status;

/// The bytes are not a message of this conversation.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message of this conversation")]
pub struct Malformed;

/// A message's bytes.
pub fn encode(message: &impl Message) -> bytes::Bytes {
    message.encode_to_vec().into()
}

/// Reads a message from at most `limit` bytes.
///
/// # Errors
/// [`Malformed`]: too long, or not of this shape.
pub fn decode<M: Message + Default>(bytes: bytes::Bytes, limit: usize) -> Result<M, Malformed> {
    if bytes.len() > limit {
        return Err(Malformed);
    }
    M::decode(bytes).map_err(|_| Malformed)
}

/// A message without a chunk as header and body: one that is longer than a header travels as the body.
pub fn to_parts(message: &impl Message) -> (bytes::Bytes, bytes::Bytes) {
    let bytes = encode(message);
    if bytes.len() <= HEADER_BYTES_MAX { (bytes, bytes::Bytes::new()) } else { (bytes::Bytes::new(), bytes) }
}

/// Reads what [`to_parts`] made.
///
/// # Errors
/// [`Malformed`]: too long, or not of this shape.
pub fn from_parts<M: Message + Default>(header: bytes::Bytes, body: bytes::Bytes) -> Result<M, Malformed> {
    if header.is_empty() { decode(body, MESSAGE_BYTES_MAX) } else { decode(header, HEADER_BYTES_MAX) }
}

impl ledger::Refusal {
    /// A refusal about one id.
    pub fn new(reason: ledger::Reason, subject: &[u8], detail: impl Into<String>) -> Self {
        Self { reason: reason.into(), subject: bytes::Bytes::copy_from_slice(subject), detail: detail.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_it_was() {
        let request = chunk::Request {
            record: vec![1; 32].into(),
            nonce: vec![3; 32].into(),
            request: Some(chunk::request::Request::Get(chunk::Get { chunk: vec![2; 32].into() })),
        };
        assert_eq!(decode(encode(&request), HEADER_BYTES_MAX), Ok(request));
    }

    #[test]
    fn too_many_bytes_and_garbage_are_refused() {
        assert_eq!(decode::<chunk::Request>(vec![0; 100].into(), 99), Err(Malformed));
        assert_eq!(decode::<chunk::Request>(vec![0xff; 20].into(), 99), Err(Malformed));
    }
}
