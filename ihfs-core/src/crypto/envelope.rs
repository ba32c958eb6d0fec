//! Sealing to a member's or device's key: HPKE (RFC 9180), base mode, with X-Wing
//! (X25519 and ML-KEM-768, draft-connolly-cfrg-xwing-kem), HKDF-SHA-256 and AES-256-GCM.

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use rand_core::CryptoRng;
use x25519_dalek::{PublicKey as X25519Public, StaticSecret};
use zeroize::Zeroizing;

use crate::crypto::derive::Seed;
use crate::crypto::secret::Secret;
use crate::ids::Generation;
use crate::ledger::identity::SealingPublic;

/// Bytes of an encapsulated X-Wing key.
const ENCAPSULATED_SIZE: usize = 1120;
/// Bytes that sealing adds: the encapsulated key and one AES-GCM tag.
pub const ENVELOPE_OVERHEAD: usize = ENCAPSULATED_SIZE + 16;
/// The X25519 part of an X-Wing key and of an encapsulated key: their last 32 bytes.
const X25519_SIZE: usize = 32;

/// An X-Wing secret key: its 32-byte seed, wiped on drop.
#[derive(Debug)]
pub struct SealingKey(Secret<[u8; 32]>);

/// Why an envelope was not sealed or not opened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The recipient's public key is not an X-Wing key, or its X25519 part has a small order.
    #[error("the recipient's sealing key is not a usable X-Wing key")]
    BadPublicKey,
    /// Not sealed to this key for this purpose, or changed.
    #[error("the envelope does not open with this key")]
    WrongKey,
}

impl Seed {
    /// The member's X-Wing key of one generation.
    pub fn sealing_key(&self, generation: Generation) -> SealingKey {
        SealingKey(self.sealing_seed(generation))
    }
}

impl SealingKey {
    /// The key of this seed.
    pub const fn from_seed(seed: Secret<[u8; 32]>) -> Self {
        Self(seed)
    }

    /// Its seed, to be sealed into a keyring.
    pub const fn seed(&self) -> &Secret<[u8; 32]> {
        &self.0
    }

    /// The public key.
    pub fn public(&self) -> SealingPublic {
        let public = XWing::sk_to_pk(&self.private()).to_bytes();
        SealingPublic::from_bytes(
            <[u8; 1216]>::try_from(public.as_slice()).expect("X-Wing keys have 1216 bytes"),
        )
    }

    /// Opens what [`seal`] made for this key and the same `info`.
    ///
    /// # Errors
    /// [`EnvelopeError::WrongKey`].
    pub fn open(&self, info: &[u8], envelope: &[u8]) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        let (encapsulated, sealed) =
            envelope.split_at_checked(ENCAPSULATED_SIZE).ok_or(EnvelopeError::WrongKey)?;
        if !is_contributory(encapsulated) {
            return Err(EnvelopeError::WrongKey);
        }
        let encapsulated =
            <XWing as Kem>::EncappedKey::from_bytes(encapsulated).map_err(|_| EnvelopeError::WrongKey)?;
        hpke::single_shot_open::<AesGcm256, HkdfSha256, XWing>(
            &OpModeR::Base,
            &self.private(),
            &encapsulated,
            info,
            sealed,
            &[],
        )
        .map(Zeroizing::new)
        .map_err(|_| EnvelopeError::WrongKey)
    }

    fn private(&self) -> <XWing as Kem>::PrivateKey {
        <XWing as Kem>::PrivateKey::from_bytes(self.0.expose()).expect("a seed has 32 bytes")
    }
}

/// `HPKE-Seal(public, plaintext; info)` as `encapsulated key ‖ ciphertext`.
///
/// # Errors
/// [`EnvelopeError::BadPublicKey`].
pub fn seal(
    public: &SealingPublic,
    info: &[u8],
    plaintext: &[u8],
    random: &mut impl CryptoRng,
) -> Result<Vec<u8>, EnvelopeError> {
    if !is_contributory(public.as_bytes()) {
        return Err(EnvelopeError::BadPublicKey);
    }
    let key =
        <XWing as Kem>::PublicKey::from_bytes(public.as_bytes()).map_err(|_| EnvelopeError::BadPublicKey)?;
    let (encapsulated, sealed) = hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, XWing>(
        &OpModeS::Base,
        &key,
        info,
        plaintext,
        &[],
        random,
    )
    .map_err(|_| EnvelopeError::BadPublicKey)?;
    Ok([encapsulated.to_bytes().as_slice(), &sealed].concat())
}

/// Whether the X25519 key at the end of `bytes` has a large order: RFC 7748, section 6.1, asks for the check and
/// x25519-dalek leaves it to its caller. Any scalar tells, since clamped scalars are multiples of the cofactor.
fn is_contributory(bytes: &[u8]) -> bool {
    let Some(point) = bytes.last_chunk::<X25519_SIZE>() else { return false };
    StaticSecret::from([1; 32]).diffie_hellman(&X25519Public::from(*point)).was_contributory()
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn key() -> SealingKey {
        SealingKey::from_seed(Secret::new([1; 32]))
    }

    #[test]
    fn only_the_recipient_opens_and_only_for_the_same_purpose() {
        let random = &mut ChaCha20Rng::from_seed([2; 32]);
        let sealed = seal(&key().public(), b"info", b"secret", random).unwrap();
        assert_eq!(sealed.len(), b"secret".len() + ENVELOPE_OVERHEAD);
        assert_eq!(key().open(b"info", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(key().open(b"other", &sealed), Err(EnvelopeError::WrongKey));
        let other = SealingKey::from_seed(Secret::new([3; 32]));
        assert_eq!(other.open(b"info", &sealed), Err(EnvelopeError::WrongKey));
    }

    #[test]
    fn an_envelope_cut_anywhere_does_not_open() {
        let random = &mut ChaCha20Rng::from_seed([2; 32]);
        let sealed = seal(&key().public(), b"info", b"secret", random).unwrap();
        for length in [0, 1, ENCAPSULATED_SIZE - 1, ENCAPSULATED_SIZE, sealed.len() - 1] {
            assert_eq!(key().open(b"info", &sealed[..length]), Err(EnvelopeError::WrongKey), "{length}");
        }
    }

    #[test]
    fn a_key_of_small_order_is_refused() {
        let mut public = *key().public().as_bytes();
        public[1216 - X25519_SIZE..].fill(0);
        let random = &mut ChaCha20Rng::from_seed([2; 32]);
        let refused = seal(&SealingPublic::from_bytes(public), b"", b"", random);
        assert_eq!(refused, Err(EnvelopeError::BadPublicKey));
    }
}
