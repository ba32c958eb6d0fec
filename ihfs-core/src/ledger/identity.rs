//! Who a member is to the ledger: roles, public keys with the member key's word for them, invites.
//!
//! Knows the bytes that are signed; which signature is asked for when, the rules decide.

use serde_bytes::ByteBuf;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::codec;
use crate::crypto::sign::{self, BadSignature, Purpose, Signature, SigningKey};
use crate::ids::{ChainId, DeviceId, Digest, Generation, InviteId, MemberId, NodeId, RecordId, Time};

/// Bytes of an X-Wing public key, draft-connolly-cfrg-xwing-kem: ML-KEM-768 (1184) and X25519 (32).
pub const SEALING_PUBLIC_BYTES: usize = 1216;
/// Most bytes of an encoded invite; a real one has about 250.
pub const INVITE_BYTES_MAX: usize = 1024;
/// Nonce of a member's private record (address book, pinned keys), the same for every member.
pub const PRIVATE_NONCE: [u8; 32] = padded(b"private");
/// Nonce of the record at the root of a member's vault, the same for every member.
pub const VAULT_NONCE: [u8; 32] = padded(b"vault");

/// What a member does in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Role {
    /// Somebody whose records are kept.
    #[serde(rename = "patient")]
    Patient,
    /// Somebody who treats.
    #[serde(rename = "practitioner")]
    Practitioner,
    /// Somebody who dispenses.
    #[serde(rename = "pharmacist")]
    Pharmacist,
    /// Somebody who studies records.
    #[serde(rename = "researcher")]
    Researcher,
    /// Somebody who signs the invites of one hospital.
    #[serde(rename = "registrar")]
    Registrar,
    /// Somebody who may see block bodies.
    #[serde(rename = "auditor")]
    Auditor,
    /// A hospital: runs nodes, is a zone, votes.
    #[serde(rename = "hospital")]
    Hospital,
}

/// An X-Wing public key; its bytes are the business of `crypto/`.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "ByteBuf", into = "ByteBuf")]
pub struct SealingPublic(Box<[u8; SEALING_PUBLIC_BYTES]>);

impl SealingPublic {
    /// The key with these bytes.
    pub fn from_bytes(bytes: [u8; SEALING_PUBLIC_BYTES]) -> Self {
        Self(Box::new(bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; SEALING_PUBLIC_BYTES] {
        &self.0
    }
}

impl std::fmt::Debug for SealingPublic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealingPublic({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// An X-Wing public key has another length.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealing key has {SEALING_PUBLIC_BYTES} bytes, found {found}")]
pub struct WrongSealingKeyLength {
    found: usize,
}

impl TryFrom<ByteBuf> for SealingPublic {
    type Error = WrongSealingKeyLength;

    fn try_from(bytes: ByteBuf) -> Result<Self, WrongSealingKeyLength> {
        let found = bytes.len();
        let bytes =
            bytes.into_vec().into_boxed_slice().try_into().map_err(|_| WrongSealingKeyLength { found })?;
        Ok(Self(bytes))
    }
}

impl From<SealingPublic> for ByteBuf {
    fn from(key: SealingPublic) -> Self {
        Self::from(key.0.to_vec())
    }
}

/// A member's X-Wing key of one generation with the member key's signature: what sharers seal to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct MemberSealingKey {
    /// The generation of the member's vault secret that it goes with.
    pub generation: Generation,
    /// The key.
    pub key: SealingPublic,
    /// By the member key ([`Purpose::MemberSealingKey`]) over [`Self::signed_bytes`].
    pub signature: Signature,
}

impl MemberSealingKey {
    /// Signs the key of `generation` with the member key.
    pub fn sign(member_key: &SigningKey, generation: Generation, key: SealingPublic) -> Self {
        let bytes = Self::signed_bytes(MemberId::of_key(&member_key.public()), generation, &key);
        let signature = member_key.sign(Purpose::MemberSealingKey, &bytes);
        Self { generation, key, signature }
    }

    /// Checks the signature by a member key that the caller trusts.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self, member: MemberId, member_key: &[u8; 32]) -> Result<(), BadSignature> {
        let bytes = Self::signed_bytes(member, self.generation, &self.key);
        sign::verify(member_key, Purpose::MemberSealingKey, &bytes, &self.signature)
    }

    /// What the member key signs. Names no chain: a vault can move to another consortium.
    pub fn signed_bytes(member: MemberId, generation: Generation, key: &SealingPublic) -> Vec<u8> {
        codec::encode(&(member, generation, key))
    }
}

/// A device's public keys with the member key's signature and its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct DeviceKeys {
    /// Its Ed25519 key.
    pub device: DeviceId,
    /// Its X-Wing key.
    pub sealing: SealingPublic,
    /// By the member key ([`Purpose::Device`]) over [`Self::signed_bytes`].
    pub signature: Signature,
    /// By the device ([`Purpose::DeviceConsent`]) over the same bytes: a key that was merely seen cannot be taken.
    pub consent: Signature,
}

impl DeviceKeys {
    /// Signs a device in with the member key and its own.
    pub fn sign(
        member_key: &SigningKey,
        chain: ChainId,
        device_key: &SigningKey,
        sealing: SealingPublic,
    ) -> Self {
        let member = MemberId::of_key(&member_key.public());
        let device = DeviceId::from_bytes(device_key.public());
        let bytes = Self::signed_bytes(chain, member, device, &sealing);
        let signature = member_key.sign(Purpose::Device, &bytes);
        let consent = device_key.sign(Purpose::DeviceConsent, &bytes);
        Self { device, sealing, signature, consent }
    }

    /// Checks that the device consents to be this member's.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify_consent(&self, chain: ChainId, member: MemberId) -> Result<(), BadSignature> {
        let bytes = Self::signed_bytes(chain, member, self.device, &self.sealing);
        sign::verify(self.device.as_bytes(), Purpose::DeviceConsent, &bytes, &self.consent)
    }

    /// Checks the signature by a member key that the caller trusts.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(
        &self,
        chain: ChainId,
        member: MemberId,
        member_key: &[u8; 32],
    ) -> Result<(), BadSignature> {
        let bytes = Self::signed_bytes(chain, member, self.device, &self.sealing);
        sign::verify(member_key, Purpose::Device, &bytes, &self.signature)
    }

    /// What the member key and the device sign.
    pub fn signed_bytes(
        chain: ChainId,
        member: MemberId,
        device: DeviceId,
        sealing: &SealingPublic,
    ) -> Vec<u8> {
        codec::encode(&(chain, member, device, sealing))
    }
}

/// A registrar's signed leave to register one member of one hospital, spent once by its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Invite {
    /// The chain it is for.
    pub chain: ChainId,
    /// 32 random bytes; the ledger spends them once.
    pub id: InviteId,
    /// The registrar, or the hospital itself.
    pub registrar: MemberId,
    /// The role that the member gets.
    pub role: Role,
    /// The hospital that the member belongs to.
    pub hospital: MemberId,
    /// Blinded commitment to the handle.
    pub handle: Digest,
    /// Header time from which it is worth nothing.
    pub expires: Time,
    /// The key that signed: the registrar's member key or one of its devices.
    pub signer: DeviceId,
    /// By the signer ([`Purpose::Invite`]) over everything above.
    pub signature: Signature,
}

impl Invite {
    /// Signs the invite; what stood in `signer` and `signature` is replaced.
    pub fn signed(mut self, key: &SigningKey) -> Self {
        self.signer = DeviceId::from_bytes(key.public());
        self.signature = key.sign(Purpose::Invite, &self.signed_bytes());
        self
    }

    /// Checks the signature by the key that it names; whose key that is, the ledger knows.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self) -> Result<(), BadSignature> {
        sign::verify(self.signer.as_bytes(), Purpose::Invite, &self.signed_bytes(), &self.signature)
    }

    fn signed_bytes(&self) -> Vec<u8> {
        codec::encode(&(
            self.chain,
            self.id,
            self.registrar,
            self.role,
            self.hospital,
            self.handle,
            self.expires,
            self.signer,
        ))
    }
}

/// What a node's own key signs when its hospital registers it: [`Purpose::Node`].
pub fn node_bytes(chain: ChainId, hospital: MemberId, node: NodeId) -> Vec<u8> {
    codec::encode(&(chain, hospital, node))
}

impl MemberId {
    /// `BLAKE3-derive-key("IHFS 1 member id", first member key)`.
    pub fn of_key(member_key: &[u8; 32]) -> Self {
        Self::from_bytes(blake3::derive_key("IHFS 1 member id", member_key))
    }
}

impl RecordId {
    /// `BLAKE3-derive-key("IHFS 1 record id", (owner, nonce))`: known before the record exists.
    pub fn of(owner: MemberId, nonce: &[u8; 32]) -> Self {
        let mut bytes = owner.as_bytes().to_vec();
        bytes.extend_from_slice(nonce);
        Self::from_bytes(blake3::derive_key("IHFS 1 record id", &bytes))
    }
}

const fn padded(word: &[u8]) -> [u8; 32] {
    let mut nonce = [0; 32];
    let mut place = 0;
    while place < word.len() {
        nonce[place] = word[place];
        place += 1;
    }
    nonce
}
