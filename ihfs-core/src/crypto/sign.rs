//! Ed25519 signatures, RFC 8032, over labelled bytes.
//!
//! Every signature is over `len(label) ‖ label ‖ message`, so that one made for one purpose is worth
//! nothing for another.

use ed25519_dalek::{Signer, SigningKey as Ed25519Key, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use zeroize::Zeroizing;

use crate::crypto::secret::Secret;
use crate::ids::FixedBytes;

/// What a signature is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A transaction, by a device or the member key.
    Transaction,
    /// A consensus vote, by a validator.
    Vote,
    /// A consensus proposal, by a validator.
    Proposal,
    /// A device's place under a member, by the member key.
    Device,
    /// A device's consent to its place under a member, by the device.
    DeviceConsent,
    /// A member's X-Wing key of one generation, by the member key.
    MemberSealingKey,
    /// A node's receipt for durable chunks.
    Receipt,
    /// A custodian's word that it keeps a key share.
    Custody,
    /// An invite, by a registrar.
    Invite,
    /// A handle's binding to a member, by a registrar.
    Handle,
    /// A node's statement of its newest height over a nonce.
    Freshness,
    /// A node's consent to be registered by its hospital.
    Node,
}

impl Purpose {
    /// The label that is signed with the message.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Transaction => "IHFS 1 transaction",
            Self::Vote => "IHFS 1 vote",
            Self::Proposal => "IHFS 1 proposal",
            Self::Device => "IHFS 1 device",
            Self::DeviceConsent => "IHFS 1 device consent",
            Self::MemberSealingKey => "IHFS 1 member sealing key",
            Self::Receipt => "IHFS 1 receipt",
            Self::Custody => "IHFS 1 custody",
            Self::Invite => "IHFS 1 invite",
            Self::Handle => "IHFS 1 handle",
            Self::Freshness => "IHFS 1 freshness",
            Self::Node => "IHFS 1 node",
        }
    }

    fn bind(self, message: &[u8]) -> Vec<u8> {
        let label = self.label().as_bytes();
        let mut bound = Vec::with_capacity(1 + label.len() + message.len());
        bound.push(u8::try_from(label.len()).expect("labels are short"));
        bound.extend_from_slice(label);
        bound.extend_from_slice(message);
        bound
    }
}

/// A 64-byte Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; 64]);

impl Signature {
    /// The signature with these bytes.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// Its 64 bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signature({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(FixedBytes::<64>).map(Self)
    }
}

/// The signature does not verify under this key for this purpose.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// An Ed25519 secret key, wiped on drop.
#[derive(Debug)]
pub struct SigningKey(Secret<[u8; 32]>);

impl SigningKey {
    /// The key of this seed (the secret key of RFC 8032).
    pub const fn from_seed(seed: Secret<[u8; 32]>) -> Self {
        Self(seed)
    }

    /// The seed, to start a network identity with or to seal into a keyring. The caller wipes its copy.
    pub const fn seed(&self) -> &Secret<[u8; 32]> {
        &self.0
    }

    /// The seed, for the network library alone, whose identity is this key.
    pub fn network_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*self.0.expose())
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        self.key().verifying_key().to_bytes()
    }

    /// Signs `message` for `purpose`.
    pub fn sign(&self, purpose: Purpose, message: &[u8]) -> Signature {
        Signature(self.key().sign(&purpose.bind(message)).to_bytes())
    }

    fn key(&self) -> Ed25519Key {
        Ed25519Key::from_bytes(self.0.expose())
    }
}

/// Checks a signature made for `purpose`; strict: no small-order key, no malleable signature.
///
/// # Errors
/// [`BadSignature`], also when the key is not a point of the curve.
pub fn verify(
    public: &[u8; 32],
    purpose: Purpose,
    message: &[u8],
    signature: &Signature,
) -> Result<(), BadSignature> {
    VerifyingKey::from_bytes(public)
        .and_then(|key| key.verify_strict(&purpose.bind(message), &signature.0.into()))
        .map_err(|_| BadSignature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_for_one_purpose_is_worth_nothing_for_another() {
        let key = SigningKey::from_seed(Secret::new([7; 32]));
        let signature = key.sign(Purpose::Vote, b"message");
        assert_eq!(verify(&key.public(), Purpose::Vote, b"message", &signature), Ok(()));
        assert_eq!(verify(&key.public(), Purpose::Proposal, b"message", &signature), Err(BadSignature));
        assert_eq!(verify(&key.public(), Purpose::Vote, b"massage", &signature), Err(BadSignature));
    }

    #[test]
    fn a_key_that_is_not_on_the_curve_verifies_nothing() {
        let signature = Signature::from_bytes([0; 64]);
        assert_eq!(verify(&[2; 32], Purpose::Vote, b"", &signature), Err(BadSignature));
    }
}
