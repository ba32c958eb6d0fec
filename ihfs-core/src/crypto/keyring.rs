//! What a device keeps: its own keys and the secrets of the generations it has seen, sealed by a passphrase.
//!
//! File: `"IHFSKEY1" ‖ salt (16) ‖ STREAM(Argon2id(passphrase, salt), length (u32) ‖ DAG-CBOR ‖ zeros)`.
//! A fresh salt each time it is written gives each writing a key of its own.

use rand_core::CryptoRng;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::codec::{self, DecodeError};
use crate::crypto::derive::{LocalKey, Seed, VaultSecret, passphrase_key};
use crate::crypto::envelope::{self, EnvelopeError, SealingKey};
use crate::crypto::seal;
use crate::crypto::secret::Secret;
use crate::crypto::sign::SigningKey;
use crate::ids::{ChainId, DeviceId, Generation, MemberId};
use crate::ledger::identity::SealingPublic;

/// What the file begins with.
const MAGIC: &[u8; 8] = b"IHFSKEY1";
const SALT_SIZE: usize = 16;
const LENGTH_SIZE: usize = 4;
/// Most generations that a device keeps: one for each device ever removed.
const GENERATIONS_MAX: usize = 1024;
/// Most bytes of the file; 1,024 generations take 80 KiB.
pub const KEYRING_BYTES_MAX: usize = 256 << 10;
/// Bytes of a generation's secrets.
const GENERATION_BYTES: usize = 64;

/// The secrets of one generation: what record keys derive from, and what opens grants.
#[derive(Debug)]
pub struct GenerationSecrets {
    /// Which one.
    pub generation: Generation,
    /// Gives the record keys.
    pub vault: VaultSecret,
    /// Opens what is sealed to the member.
    pub sealing: SealingKey,
}

/// A device's keys in memory.
#[derive(Debug)]
pub struct Keyring {
    /// The network that the member is registered in.
    pub chain: ChainId,
    /// The member.
    pub member: MemberId,
    /// The member key's public half.
    pub member_key: [u8; 32],
    /// The device's own signing key, which is its libp2p identity.
    pub device: SigningKey,
    /// The device's own X-Wing key.
    pub device_sealing: SealingKey,
    /// Secrets by generation, ascending.
    pub generations: Vec<GenerationSecrets>,
}

/// Why a keyring did not open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// The passphrase is another, or the file was changed.
    #[error("the passphrase does not open the keys of this device")]
    WrongPassphrase,
    /// Not a keyring, or cut short.
    #[error("the file is no keyring of IHFS")]
    NotAKeyring,
    /// A keyring of a newer program.
    #[error("the keyring has format {found}, where 1 is known")]
    UnknownFormat {
        /// The digit found.
        found: char,
    },
    /// It opened, but does not hold what it should.
    #[error("the keyring is damaged")]
    Damaged(#[from] DecodeError),
    /// Argon2id found no memory.
    #[error("no 64 MiB of memory to derive the passphrase's key")]
    NoMemory,
}

#[derive(Serialize_tuple, Deserialize_tuple, Zeroize, ZeroizeOnDrop)]
struct Stored {
    #[zeroize(skip)]
    chain: ChainId,
    #[zeroize(skip)]
    member: MemberId,
    #[zeroize(skip)]
    #[serde(with = "serde_bytes")]
    member_key: [u8; 32],
    #[serde(with = "serde_bytes")]
    device: [u8; 32],
    #[serde(with = "serde_bytes")]
    device_sealing: [u8; 32],
    generations: Vec<StoredGeneration>,
}

#[derive(Serialize_tuple, Deserialize_tuple, Zeroize, ZeroizeOnDrop)]
struct StoredGeneration {
    #[zeroize(skip)]
    generation: Generation,
    #[serde(with = "serde_bytes")]
    vault: [u8; 32],
    #[serde(with = "serde_bytes")]
    sealing: [u8; 32],
}

impl GenerationSecrets {
    /// The secrets of one generation of a seed.
    pub fn of(seed: &Seed, generation: Generation) -> Self {
        Self { generation, vault: seed.vault_secret(generation), sealing: seed.sealing_key(generation) }
    }

    /// Seals them to another device of the member.
    ///
    /// # Errors
    /// [`EnvelopeError::BadPublicKey`].
    pub fn seal_to(
        &self,
        chain: ChainId,
        device: DeviceId,
        public: &SealingPublic,
        random: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, EnvelopeError> {
        let mut bytes = Zeroizing::new([0; GENERATION_BYTES]);
        bytes[..32].copy_from_slice(self.vault.0.expose());
        bytes[32..].copy_from_slice(self.sealing.seed().expose());
        envelope::seal(public, &generation_info(chain, device, self.generation), &bytes[..], random)
    }

    /// Opens what another device, or the words, sealed to this one.
    ///
    /// # Errors
    /// [`EnvelopeError::WrongKey`].
    pub fn open(
        chain: ChainId,
        device: DeviceId,
        key: &SealingKey,
        generation: Generation,
        sealed: &[u8],
    ) -> Result<Self, EnvelopeError> {
        let bytes = key.open(&generation_info(chain, device, generation), sealed)?;
        let halves: Option<(&[u8; 32], &[u8; 32])> = bytes.first_chunk().zip(bytes.last_chunk());
        let (vault, sealing) =
            halves.filter(|_| bytes.len() == GENERATION_BYTES).ok_or(EnvelopeError::WrongKey)?;
        let sealing = SealingKey::from_seed(Secret::new(*sealing));
        Ok(Self { generation, vault: VaultSecret(Secret::new(*vault)), sealing })
    }
}

fn generation_info(chain: ChainId, device: DeviceId, generation: Generation) -> Vec<u8> {
    codec::encode(&("IHFS 1 generation secrets", chain, device, generation))
}

impl Keyring {
    /// The secrets of one generation, if the device has them.
    pub fn generation(&self, generation: Generation) -> Option<&GenerationSecrets> {
        self.generations.iter().find(|secrets| secrets.generation == generation)
    }

    /// The newest generation that the device has.
    pub fn newest(&self) -> Option<&GenerationSecrets> {
        self.generations.last()
    }

    /// The device's public key.
    pub fn device_id(&self) -> DeviceId {
        DeviceId::from_bytes(self.device.public())
    }

    /// The keyring's file under a passphrase. `salt` must be fresh.
    ///
    /// # Errors
    /// [`KeyringError::NoMemory`].
    pub fn seal(&self, passphrase: &[u8], salt: [u8; SALT_SIZE]) -> Result<Vec<u8>, KeyringError> {
        let key = passphrase_key(passphrase, &salt).map_err(|_| KeyringError::NoMemory)?;
        Ok(self.seal_with(&key, salt))
    }

    /// The keyring's bytes for an agent of the same user to keep in memory. Never written to a disk.
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(codec::encode(&self.stored()))
    }

    /// Takes back what [`Self::to_secret_bytes`] gave.
    ///
    /// # Errors
    /// [`KeyringError::Damaged`].
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, KeyringError> {
        let stored: Stored = codec::decode(bytes, KEYRING_BYTES_MAX)?;
        if stored.generations.len() > GENERATIONS_MAX {
            return Err(DecodeError::Malformed.into());
        }
        Ok(Self::from_stored(&stored))
    }

    fn seal_with(&self, key: &LocalKey, salt: [u8; SALT_SIZE]) -> Vec<u8> {
        let plaintext = self.to_secret_bytes();
        let length = u32::try_from(plaintext.len()).expect("a keyring is small").to_be_bytes();
        let framed = Zeroizing::new([&length, plaintext.as_slice()].concat());
        let mut file = [MAGIC.as_slice(), &salt].concat();
        seal::seal_into(key, &framed, &mut file);
        file
    }

    /// Opens a keyring's file.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn open(file: &[u8], passphrase: &[u8]) -> Result<Self, KeyringError> {
        let (magic, rest) = file.split_first_chunk::<8>().ok_or(KeyringError::NotAKeyring)?;
        if magic[..7] != MAGIC[..7] || file.len() > KEYRING_BYTES_MAX {
            return Err(KeyringError::NotAKeyring);
        }
        if magic != MAGIC {
            return Err(KeyringError::UnknownFormat { found: magic[7].into() });
        }
        let (salt, sealed) = rest.split_first_chunk::<SALT_SIZE>().ok_or(KeyringError::NotAKeyring)?;
        let key = passphrase_key(passphrase, salt).map_err(|_| KeyringError::NoMemory)?;
        let padded = seal::open_padded(&key, sealed).map_err(|_| KeyringError::WrongPassphrase)?;
        Self::from_padded(&Zeroizing::new(padded))
    }

    fn from_padded(padded: &[u8]) -> Result<Self, KeyringError> {
        let (length, rest) = padded.split_first_chunk::<LENGTH_SIZE>().ok_or(DecodeError::Malformed)?;
        let bytes = rest.get(..u32::from_be_bytes(*length) as usize).ok_or(DecodeError::Malformed)?;
        Self::from_secret_bytes(bytes)
    }

    fn stored(&self) -> Stored {
        let generation = |secrets: &GenerationSecrets| StoredGeneration {
            generation: secrets.generation,
            vault: *secrets.vault.0.expose(),
            sealing: *secrets.sealing.seed().expose(),
        };
        Stored {
            chain: self.chain,
            member: self.member,
            member_key: self.member_key,
            device: *self.device.seed().expose(),
            device_sealing: *self.device_sealing.seed().expose(),
            generations: self.generations.iter().map(generation).collect(),
        }
    }

    fn from_stored(stored: &Stored) -> Self {
        let generation = |secrets: &StoredGeneration| GenerationSecrets {
            generation: secrets.generation,
            vault: VaultSecret(Secret::new(secrets.vault)),
            sealing: SealingKey::from_seed(Secret::new(secrets.sealing)),
        };
        Self {
            chain: stored.chain,
            member: stored.member,
            member_key: stored.member_key,
            device: SigningKey::from_seed(Secret::new(stored.device)),
            device_sealing: SealingKey::from_seed(Secret::new(stored.device_sealing)),
            generations: stored.generations.iter().map(generation).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring() -> Keyring {
        let seed = Seed::from_random([1; 32]);
        let member_key = seed.member_key().public();
        Keyring {
            chain: ChainId::from_bytes([2; 32]),
            member: MemberId::of_key(&member_key),
            member_key,
            device: SigningKey::from_seed(Secret::new([3; 32])),
            device_sealing: SealingKey::from_seed(Secret::new([4; 32])),
            generations: vec![GenerationSecrets::of(&seed, Generation(0))],
        }
    }

    #[test]
    fn a_keyring_opens_with_its_passphrase_only() {
        let file = keyring().seal(b"correct horse", [5; 16]).unwrap();
        let opened = Keyring::open(&file, b"correct horse").unwrap();
        assert_eq!(opened.device_id(), keyring().device_id());
        assert_eq!(opened.generations.len(), 1);
        assert_eq!(Keyring::open(&file, b"battery").err(), Some(KeyringError::WrongPassphrase));
    }

    #[test]
    fn a_damaged_or_foreign_file_is_named() {
        let mut file = keyring().seal(b"", [5; 16]).unwrap();
        assert_eq!(Keyring::open(b"", b"").err(), Some(KeyringError::NotAKeyring));
        assert_eq!(Keyring::open(b"PK\x03\x04 other", b"").err(), Some(KeyringError::NotAKeyring));
        assert_eq!(Keyring::open(&file[..20], b"").err(), Some(KeyringError::NotAKeyring));
        file[7] = b'2';
        assert_eq!(Keyring::open(&file, b"").err(), Some(KeyringError::UnknownFormat { found: '2' }));
    }

    #[test]
    fn generation_secrets_reach_one_device_only() {
        use rand_core::SeedableRng;
        let random = &mut rand_chacha::ChaCha20Rng::from_seed([6; 32]);
        let (keyring, chain) = (keyring(), ChainId::from_bytes([2; 32]));
        let secrets = GenerationSecrets::of(&Seed::from_random([1; 32]), Generation(1));
        let public = keyring.device_sealing.public();
        let sealed = secrets.seal_to(chain, keyring.device_id(), &public, random).unwrap();
        let open =
            |device| GenerationSecrets::open(chain, device, &keyring.device_sealing, Generation(1), &sealed);
        assert_eq!(open(keyring.device_id()).unwrap().vault.0.expose(), secrets.vault.0.expose());
        assert!(open(DeviceId::from_bytes([9; 32])).is_err());
    }
}
