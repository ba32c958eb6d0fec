//! What travels: a small header, a large body, and the conversation they belong to.

use bytes::Bytes;

/// Longest header of a message, in bytes. Headers are structured and parsed whole; 64 KiB holds a
/// thousand identifiers.
pub const HEADER_BYTES_MAX: usize = 64 << 10;
/// Longest body of a message, in bytes: 1 MiB of plaintext, and room for a chunk's padding and tags.
pub const BODY_BYTES_MAX: usize = (1 << 20) + (64 << 10);

/// One request or answer. Cloning is cheap: the bytes are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What the receiver parses; at most [`HEADER_BYTES_MAX`] bytes.
    pub header: Bytes,
    /// What the receiver passes on, a chunk for instance; at most [`BODY_BYTES_MAX`] bytes.
    pub body: Bytes,
}

impl Message {
    /// A message with a header alone.
    pub fn of_header(header: impl Into<Bytes>) -> Self {
        Self { header: header.into(), body: Bytes::new() }
    }

    /// Bytes of header and body together.
    pub fn size_bytes(&self) -> usize {
        self.header.len() + self.body.len()
    }

    /// Whether header and body keep to their limits.
    pub(crate) fn fits(&self) -> bool {
        self.header.len() <= HEADER_BYTES_MAX && self.body.len() <= BODY_BYTES_MAX
    }
}

/// What a stream is used for. Each has its own stream per peer, so that a large chunk does not
/// delay a ledger answer. The number is part of every frame and never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Conversation {
    /// Joining and recovering: the only one open to a guest.
    Join = 1,
    /// Storing and fetching chunks.
    Chunk = 2,
    /// Keeping and releasing key shares.
    Key = 3,
    /// Blocks, proofs and transactions.
    Ledger = 4,
    /// Health and figures.
    Status = 5,
    /// Votes and proposals among validators.
    Consensus = 6,
}

impl Conversation {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Join, Self::Chunk, Self::Key, Self::Ledger, Self::Status, Self::Consensus];

    /// The conversation with this number on the wire.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|conversation| *conversation as u8 == byte)
    }

    /// The name under which its stream is negotiated.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Join => "/ihfs/1/join",
            Self::Chunk => "/ihfs/1/chunk",
            Self::Key => "/ihfs/1/key",
            Self::Ledger => "/ihfs/1/ledger",
            Self::Status => "/ihfs/1/status",
            Self::Consensus => "/ihfs/1/consensus",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_of_conversations_are_pinned() {
        let pinned = Conversation::ALL.map(|c| (c as u8, c.protocol()));
        assert_eq!(
            pinned,
            [
                (1, "/ihfs/1/join"),
                (2, "/ihfs/1/chunk"),
                (3, "/ihfs/1/key"),
                (4, "/ihfs/1/ledger"),
                (5, "/ihfs/1/status"),
                (6, "/ihfs/1/consensus"),
            ]
        );
        for conversation in Conversation::ALL {
            assert_eq!(Conversation::from_byte(conversation as u8), Some(conversation));
        }
        assert_eq!(Conversation::from_byte(0), None);
        assert_eq!(Conversation::from_byte(7), None);
    }
}
