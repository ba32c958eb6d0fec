//! Names of things: every identifier is a type of its own, so that the compiler stops a swap.
//!
//! Knows nothing of what the names stand for.

use std::fmt;

use cid::Cid;
use multihash::Multihash;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// Multicodec code of raw binary, <https://github.com/multiformats/multicodec>.
const RAW: u64 = 0x55;
/// Multicodec code of BLAKE3.
const BLAKE3: u64 = 0x1e;

/// Declares 32-byte identifiers: bytes on the wire, hex for people, eight digits in messages.
macro_rules! digests {
    ($($(#[$doc:meta])* $name:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The identifier with these bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes of the identifier.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for byte in &self.0[..4] {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let bytes = data_encoding::HEXLOWER_PERMISSIVE
                    .decode(text.as_bytes())
                    .map_err(|_| IdError::NotHex)?;
                Self::try_from(bytes.as_slice())
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;

            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                let bytes = bytes.try_into().map_err(|_| IdError::WrongLength { found: bytes.len() })?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_bytes(FixedBytes::<32>).map(Self)
            }
        }
    )* };
}

/// Declares counted identifiers: an integer on the wire and for people.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident($int:ty);)*) => { $(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $int);

        impl $name {
            /// The one that follows.
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )* };
}

digests! {
    /// Address of a stored chunk: BLAKE3-256 of all its bytes, shown as a CIDv1.
    ChunkId;
    /// A member of the network: hash of the member's first key, fixed for ever.
    MemberId;
    /// A record: hash of its owner's [`MemberId`] and a nonce.
    RecordId;
    /// A grant of one record to one member.
    GrantId;
    /// An opening: the ledger entry by which a reader opens grants.
    OpeningId;
    /// A transaction: hash of its signed bytes.
    TransactionId;
    /// A block: hash of its header.
    BlockId;
    /// A chain: hash of its genesis document, the fingerprint on the recovery sheet.
    ChainId;
    /// A device of a member: its Ed25519 public key, which is also its libp2p identity.
    DeviceId;
    /// A storage node: its Ed25519 public key, which is also its libp2p identity.
    NodeId;
    /// A one-time invite that a registrar signed.
    InviteId;
    /// Any other digest that is pinned or compared.
    Digest;
}

counters! {
    /// Height of a block on the ledger; the genesis state is height 0.
    Height(u64);
    /// Epoch of a record: advances at every revocation and rotation.
    Epoch(u32);
    /// Version of a record: advances at every anchor. 0 means that nothing was anchored yet.
    Version(u64);
    /// Generation of a member's vault secret: advances when a device is removed.
    Generation(u32);
    /// Random number of a file inside a record; survives rename.
    FileId(u64);
    /// Milliseconds since 1970-01-01T00:00:00Z, as block headers count.
    Time(u64);
}

impl Time {
    /// This moment moved later by `milliseconds`; stays at the end of time rather than overflow.
    pub const fn plus_millis(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }
}

impl ChunkId {
    /// Address of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The address as CIDv1 (raw, blake3-256).
    pub fn to_cid(self) -> Cid {
        let hash = Multihash::wrap(BLAKE3, &self.0).expect("32 bytes fit the 64 of a multihash");
        Cid::new_v1(RAW, hash)
    }

    /// Reads CIDv1 (raw, blake3-256).
    ///
    /// # Errors
    /// [`IdError::NotAChunkCid`] for another version, codec or hash.
    pub fn from_cid(cid: &Cid) -> Result<Self, IdError> {
        if cid.version() != cid::Version::V1 || cid.codec() != RAW || cid.hash().code() != BLAKE3 {
            return Err(IdError::NotAChunkCid);
        }
        Self::try_from(cid.hash().digest())
    }
}

impl Digest {
    /// Plain BLAKE3-256 of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// Why text or bytes are not an identifier.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text holds something that is not a hexadecimal digit.
    #[error("an identifier is written in hexadecimal digits")]
    NotHex,
    /// An identifier has 32 bytes.
    #[error("an identifier has 32 bytes, found {found}")]
    WrongLength {
        /// How many there were.
        found: usize,
    },
    /// The CID is not CIDv1 of raw bytes under BLAKE3-256.
    #[error("a chunk is addressed by CIDv1, raw, blake3-256")]
    NotAChunkCid,
}

/// Reads exactly `N` bytes from a byte string.
pub(crate) struct FixedBytes<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for FixedBytes<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<[u8; N], E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_address_is_a_cid_of_raw_blake3() {
        let id = ChunkId::of(b"ihfs");
        let cid = id.to_cid();
        assert_eq!(ChunkId::from_cid(&cid), Ok(id));
        assert!(cid.to_string().starts_with("bafkr4i"), "{cid}");
    }

    #[test]
    fn an_identifier_of_31_bytes_is_refused() {
        assert_eq!(MemberId::try_from([0; 31].as_slice()), Err(IdError::WrongLength { found: 31 }));
    }
}
