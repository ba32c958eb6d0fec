//! How people name each other: handles, off the ledger, with a blinded commitment on it.

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::ids::Digest;

/// Most bytes of a handle, `name@hospital`.
pub const HANDLE_BYTES_MAX: usize = 128;

/// A member's name in the network: `dr.lee@st-mary`, or `st-mary` for the hospital itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Handle(String);

/// Why text is no handle.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// A handle has 1 to [`HANDLE_BYTES_MAX`] bytes.
    #[error("a handle has 1 to {HANDLE_BYTES_MAX} bytes")]
    WrongLength,
    /// Only small letters, digits and `. _ -`, with at most one `@` between two parts.
    #[error("a handle is written name@hospital in small letters, digits, dots, dashes and underscores")]
    WrongLetter,
}

impl Handle {
    /// Reads a handle.
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn parse(text: &str) -> Result<Self, HandleError> {
        if text.is_empty() || text.len() > HANDLE_BYTES_MAX {
            return Err(HandleError::WrongLength);
        }
        let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
        let parts: Vec<&str> = text.split('@').collect();
        let fits =
            parts.len() <= 2 && parts.iter().all(|part| !part.is_empty() && part.chars().all(is_letter));
        if fits { Ok(Self(text.to_owned())) } else { Err(HandleError::WrongLetter) }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hospital's part.
    pub fn hospital(&self) -> &str {
        self.0.split_once('@').map_or(self.0.as_str(), |(_, hospital)| hospital)
    }

    /// `BLAKE3-derive-key("IHFS 1 handle", blind ‖ handle)`: what the ledger keeps.
    pub fn commitment(&self, blind: &[u8; 32]) -> Digest {
        blinded("IHFS 1 handle", blind, self.0.as_bytes())
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handle(…)")
    }
}

impl std::fmt::Display for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Handle {
    type Err = HandleError;

    fn from_str(text: &str) -> Result<Self, HandleError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Handle {
    type Error = HandleError;

    fn try_from(text: String) -> Result<Self, HandleError> {
        Self::parse(&text)
    }
}

impl From<Handle> for String {
    fn from(handle: Handle) -> Self {
        handle.0
    }
}

/// Opens a handle's commitment: believed because a registrar signed the commitment into an invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct HandleProof {
    /// The handle.
    pub handle: Handle,
    /// The blinding bytes.
    #[serde(with = "serde_bytes")]
    pub blind: [u8; 32],
}

impl HandleProof {
    /// Whether the ledger's commitment is to this handle.
    pub fn opens(&self, commitment: Digest) -> bool {
        self.handle.commitment(&self.blind) == commitment
    }

    /// What the ledger keeps.
    pub fn commitment(&self) -> Digest {
        self.handle.commitment(&self.blind)
    }
}

/// `BLAKE3-derive-key("IHFS 1 label", blind ‖ label)`: what a grant says of its label.
pub fn label_commitment(label: &str, blind: &[u8; 32]) -> Digest {
    blinded("IHFS 1 label", blind, label.as_bytes())
}

fn blinded(context: &str, blind: &[u8; 32], text: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    Digest::from_bytes(*hasher.update(blind).update(text).finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_a_name_at_a_hospital() {
        assert_eq!(Handle::parse("dr.lee@st-mary").unwrap().hospital(), "st-mary");
        assert_eq!(Handle::parse("st-mary").unwrap().hospital(), "st-mary");
        for bad in ["Dr.Lee@st-mary", "a@b@c", "@b", "a@", "a b", "ä"] {
            assert_eq!(Handle::parse(bad), Err(HandleError::WrongLetter), "{bad}");
        }
        assert_eq!(Handle::parse(""), Err(HandleError::WrongLength));
        assert_eq!(Handle::parse(&"a".repeat(129)), Err(HandleError::WrongLength));
    }

    #[test]
    fn a_commitment_opens_with_its_handle_and_blind_only() {
        let proof = HandleProof { handle: Handle::parse("a@b").unwrap(), blind: [1; 32] };
        assert!(proof.opens(proof.commitment()));
        assert!(!HandleProof { blind: [2; 32], ..proof.clone() }.opens(proof.commitment()));
    }
}
