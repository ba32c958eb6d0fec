//! Canonical bytes: DAG-CBOR in, the same DAG-CBOR out, nothing else accepted.
//!
//! Whatever is hashed, signed or stored goes through here. Source: the IPLD DAG-CBOR specification.

use std::io::{self, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why bytes are not the canonical form of a value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than this kind of value may have.
    #[error("{found} bytes where at most {limit} are allowed")]
    TooLong {
        /// How many there were.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The bytes are not DAG-CBOR of the expected shape.
    #[error("not the expected DAG-CBOR")]
    Malformed,
    /// The bytes hold the value, but not in its one canonical form.
    #[error("DAG-CBOR is not canonical")]
    NotCanonical,
}

/// The canonical DAG-CBOR of `value`.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(value).expect("domain types have no floats and no non-text keys")
}

/// Reads a value from its canonical bytes, of which there may be at most `limit`.
///
/// # Errors
/// [`DecodeError`]: too long, not DAG-CBOR of this shape, or not canonical.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLong { found: bytes.len(), limit });
    }
    let value: T = serde_ipld_dagcbor::from_slice(bytes).map_err(|_| DecodeError::Malformed)?;
    // Compared as it is written: a copy of what may be a secret would be left in memory.
    let mut rest = Rest(bytes);
    let is_same = serde_ipld_dagcbor::to_writer(&mut rest, &value).is_ok();
    if is_same && rest.0.is_empty() { Ok(value) } else { Err(DecodeError::NotCanonical) }
}

/// What is still to be written; anything else is refused.
struct Rest<'a>(&'a [u8]);

impl Write for Rest<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.strip_prefix(bytes).ok_or(io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_with_a_needless_byte_is_refused() {
        assert_eq!(decode::<u64>(&[0x07], 9), Ok(7));
        assert!(decode::<u64>(&[0x18, 0x07], 9).is_err());
    }

    #[test]
    fn bytes_behind_the_value_are_refused() {
        assert!(decode::<u64>(&[0x07, 0x07], 9).is_err());
    }

    #[test]
    fn too_many_bytes_are_refused_before_they_are_read() {
        assert_eq!(decode::<u64>(&[0; 10], 9), Err(DecodeError::TooLong { found: 10, limit: 9 }));
    }
}
