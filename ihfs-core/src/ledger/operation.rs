//! Operations: everything that a member can ask of the ledger, and the bytes custodians sign for.

use serde_bytes::ByteBuf;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::codec;
use crate::crypto::sign::{self, BadSignature, Purpose, Signature, SigningKey};
use crate::ids::{
    ChainId, ChunkId, DeviceId, Digest, Epoch, Generation, GrantId, Height, MemberId, NodeId, RecordId, Time,
    Version,
};
use crate::ledger::certificate::ValidatorSet;
use crate::ledger::identity::{DeviceKeys, Invite, MemberSealingKey, Role};
use crate::ledger::state::Policy;
use crate::placement::Region;
use crate::receipt::Receipt;

/// Most bytes of the secrets sealed to one device: an X-Wing encapsulation and a few 32-byte secrets.
pub const SEALED_SECRETS_BYTES_MAX: usize = 2048;
/// Most grants that one opening names.
pub const OPENED_GRANTS_MAX: usize = 64;
/// Most addresses of a node, and most bytes of one.
pub const ADDRESSES_MAX: usize = 8;
/// Most bytes of one address: a DNS name of 253 with protocol, port and peer id.
pub const ADDRESS_BYTES_MAX: usize = 384;

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Operation {
    /// Enter the network; signed by the new member's key.
    #[serde(rename = "register-member")]
    RegisterMember(Box<RegisterMember>),
    /// Add a device; signed by the member key.
    #[serde(rename = "add-device")]
    AddDevice(DeviceKeys),
    /// Remove a device and start a new generation; signed by the member key.
    #[serde(rename = "remove-device")]
    RemoveDevice(Box<RemoveDevice>),
    /// Add a node; by its hospital.
    #[serde(rename = "register-node")]
    RegisterNode(RegisterNode),
    /// Take a node out of placement; by its hospital.
    #[serde(rename = "drain")]
    Drain(Drain),
    /// Make a record, at epoch 0.
    #[serde(rename = "create-record")]
    CreateRecord(CreateRecord),
    /// Name a new version of a record.
    #[serde(rename = "anchor")]
    Anchor(Anchor),
    /// Let a member read, or write, a record.
    #[serde(rename = "grant")]
    Grant(Box<Grant>),
    /// End grants and advance the epochs of their records.
    #[serde(rename = "revoke")]
    Revoke(Revoke),
    /// Advance the epoch of a record.
    #[serde(rename = "rotate")]
    Rotate(Rotate),
    /// Open grants; by the reader.
    #[serde(rename = "open")]
    Open(Open),
    /// Give a grant's key shares to other custodians.
    #[serde(rename = "reshare")]
    Reshare(Reshare),
    /// A hospital's statement about its node's copy of a record.
    #[serde(rename = "attest")]
    Attest(Attest),
    /// Propose a change of the consortium.
    #[serde(rename = "propose")]
    Propose(Propose),
    /// Vote for a proposed change.
    #[serde(rename = "vote")]
    Vote(Vote),
    /// Reserved: refused by these rules.
    #[serde(rename = "emergency-request")]
    EmergencyRequest,
    /// Reserved: refused by these rules.
    #[serde(rename = "emergency-approval")]
    EmergencyApproval,
}

/// A new member: key, role, first device, and by whose leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct RegisterMember {
    /// The member key; the transaction is signed with it, and its hash is the member's id.
    #[serde(with = "serde_bytes")]
    pub key: [u8; 32],
    /// By whose leave.
    pub admission: Admission,
    /// The X-Wing key of generation 0.
    pub sealing: MemberSealingKey,
    /// The first device.
    pub device: DeviceKeys,
}

/// By whose leave a member registers.
#[expect(clippy::large_enum_variant, reason = "stands in a boxed registration and nowhere else")]
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Admission {
    /// A registrar's invite.
    #[serde(rename = "invite")]
    Invite(Invite),
    /// The consortium voted this key in as a hospital; its handle's blinded commitment.
    #[serde(rename = "vote")]
    Vote(Digest),
}

/// Ends a device and carries the next generation to those that stay.
///
/// The rules advance the epoch of every record of the member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct RemoveDevice {
    /// The device that goes.
    pub device: DeviceId,
    /// The X-Wing key of the next generation.
    pub sealing: MemberSealingKey,
    /// The next generation's secrets, sealed to each device that stays, ascending by device.
    pub secrets: Vec<SealedSecrets>,
}

/// Secrets of a generation, sealed to one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct SealedSecrets {
    /// The device that can open them.
    pub device: DeviceId,
    /// Opaque to the ledger, at most [`SEALED_SECRETS_BYTES_MAX`].
    pub sealed: ByteBuf,
}

/// A node that joins: it takes records from the next block on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct RegisterNode {
    /// Its key.
    pub node: NodeId,
    /// The region that it stands in.
    pub region: Region,
    /// Its share of records relative to the others, at least 1.
    pub weight: u32,
    /// Where it can be reached: hints, the key is what counts.
    pub addresses: Vec<String>,
    /// By the node ([`Purpose::Node`]) over [`crate::ledger::identity::node_bytes`].
    pub consent: Signature,
}

/// Takes a node out of placement; it keeps serving until its records are copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Drain {
    /// The node.
    pub node: NodeId,
}

/// A new record of the signing member, with id `RecordId::of(member, nonce)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct CreateRecord {
    /// Random, or one of the fixed nonces of a member's private record and vault.
    #[serde(with = "serde_bytes")]
    pub nonce: [u8; 32],
}

/// A new version of a record, compare-and-set on the version before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Anchor {
    /// The record.
    pub record: RecordId,
    /// The epoch that the root is sealed in; must be the live one.
    pub epoch: Epoch,
    /// The version that this one follows; the new one is the next.
    pub base: Version,
    /// The root chunk.
    pub root: ChunkId,
    /// The chunk that lists the chunks added and dropped.
    pub delta: ChunkId,
    /// Bytes of the chunks added, as the receipts say.
    pub bytes_added: u64,
    /// Bytes of the chunks dropped, as the receipts say; 0 by anyone but the owner.
    pub bytes_dropped: u64,
    /// The write grant by which somebody other than the owner anchors.
    pub grant: Option<GrantId>,
    /// From W nodes in different zones.
    pub receipts: Vec<Receipt>,
}

/// What a record is shared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum GrantPurpose {
    /// Treating the patient.
    #[serde(rename = "treatment")]
    Treatment,
    /// Dispensing medicine.
    #[serde(rename = "dispensing")]
    Dispensing,
    /// A study.
    #[serde(rename = "research")]
    Research,
    /// Billing and other administration.
    #[serde(rename = "administration")]
    Administration,
    /// A review of how records were handled.
    #[serde(rename = "audit")]
    Audit,
    /// At the owner's wish.
    #[serde(rename = "personal")]
    Personal,
}

/// What the owner lets the reader do, and until when: kept when a grant is issued again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Conditions {
    /// The record.
    pub record: RecordId,
    /// Who may read.
    pub reader: MemberId,
    /// Whether the reader may anchor too.
    pub write: bool,
    /// The one version that a snapshot grant opens; none for a live grant.
    pub snapshot: Option<Version>,
    /// What for.
    pub purpose: GrantPurpose,
    /// Header time before which it does not open.
    pub not_before: Time,
    /// Header time from which it no longer opens.
    pub expires: Option<Time>,
    /// The grant on the record that this one is nested in; ends with it.
    pub parent: Option<GrantId>,
    /// Blinded commitment to the label that the owner gave it.
    pub label: Digest,
}

/// Labelled hashes by which every party checks what it is handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct GrantDigests {
    /// Of the record key of the epoch, or of the root's key for a snapshot.
    pub key: Digest,
    /// Of the release key R.
    pub release: Digest,
    /// Of the envelope E'.
    pub envelope: Digest,
    /// Of the sealed note.
    pub note: Digest,
}

/// One custodian of a grant and its word that it keeps the key share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Custodian {
    /// The node.
    pub node: NodeId,
    /// Labelled hash of its key share.
    pub share: Digest,
    /// Until when it keeps the share without a Grant on the ledger: not before the transaction's `valid_until`.
    pub keep_until: Time,
    /// By the node ([`Purpose::Custody`]) over [`CustodySubject::signed_bytes`].
    pub signature: Signature,
}

/// What a custodian signs for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustodySubject {
    /// The chain of the grant.
    pub chain: ChainId,
    /// The grant.
    pub grant: GrantId,
    /// What it was handed beside its share.
    pub digests: GrantDigests,
}

impl CustodySubject {
    /// The custodian's signed word.
    pub fn sign(&self, key: &SigningKey, share: Digest, keep_until: Time) -> Custodian {
        let node = NodeId::from_bytes(key.public());
        let signature = key.sign(Purpose::Custody, &self.signed_bytes(node, share, keep_until));
        Custodian { node, share, keep_until, signature }
    }

    /// Checks a custodian's word.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self, custodian: &Custodian) -> Result<(), BadSignature> {
        let Custodian { node, share, keep_until, signature } = custodian;
        let bytes = self.signed_bytes(*node, *share, *keep_until);
        sign::verify(node.as_bytes(), Purpose::Custody, &bytes, signature)
    }

    /// The bytes that are signed. The digests of keys are not in them: a custodian sees none.
    pub fn signed_bytes(&self, node: NodeId, share: Digest, keep_until: Time) -> Vec<u8> {
        let GrantDigests { envelope, note, .. } = self.digests;
        codec::encode(&(self.chain, self.grant, node, share, envelope, note, keep_until))
    }
}

/// A grant, with id `GrantId::of(record, nonce)`: only the owner of the record can take the id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Grant {
    /// Random.
    #[serde(with = "serde_bytes")]
    pub nonce: [u8; 32],
    /// What the reader may do.
    pub conditions: Conditions,
    /// The grant that this one issues again under the live epoch, with the same conditions.
    pub replaces: Option<GrantId>,
    /// The epoch whose key it holds, or that the snapshot's root is sealed in.
    pub epoch: Epoch,
    /// Generation of the reader's X-Wing key that the envelope is sealed to.
    pub generation: Generation,
    /// What parties check.
    pub digests: GrantDigests,
    /// How many key shares open it.
    pub threshold: u8,
    /// Who keeps the key shares, in the order of the shares.
    pub custodians: Vec<Custodian>,
}

impl Grant {
    /// The grant's id.
    pub fn id(&self) -> GrantId {
        GrantId::of(self.conditions.record, &self.nonce)
    }
}

impl GrantId {
    /// `BLAKE3-derive-key("IHFS 1 grant id", record ‖ nonce)`: known before custodians are asked.
    pub fn of(record: RecordId, nonce: &[u8; 32]) -> Self {
        let mut bytes = record.as_bytes().to_vec();
        bytes.extend_from_slice(nonce);
        Self::from_bytes(blake3::derive_key("IHFS 1 grant id", &bytes))
    }
}

/// Ends grants with all nested in them; every record of theirs starts a new epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Revoke {
    /// The record.
    pub record: RecordId,
    /// Which grants on it.
    pub target: RevokeTarget,
}

/// Which grants on a record a revocation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum RevokeTarget {
    /// All of one reader.
    #[serde(rename = "reader")]
    Reader(MemberId),
    /// One, by whichever id it was issued under.
    #[serde(rename = "grant")]
    Grant(GrantId),
}

/// Starts a new epoch of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Rotate {
    /// The record.
    pub record: RecordId,
}

/// The reader says: I open these grants now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Open {
    /// 1 to [`OPENED_GRANTS_MAX`], ascending.
    pub grants: Vec<GrantId>,
}

/// New custodians for a grant; the release key stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Reshare {
    /// The grant.
    pub grant: GrantId,
    /// How many key shares open it.
    pub threshold: u8,
    /// Who keeps the key shares from now on.
    pub custodians: Vec<Custodian>,
}

/// What a node found when it last verified its copy of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Attest {
    /// The node.
    pub node: NodeId,
    /// The record.
    pub record: RecordId,
    /// The version up to which it looked.
    pub version: Version,
    /// Chunks that it should have.
    pub chunks: u64,
    /// Chunks of those that it does not have, or that are damaged.
    pub chunks_missing: u64,
    /// When it looked.
    pub verified: Time,
}

/// A change of the consortium that takes effect at a height.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Propose {
    /// The change.
    pub change: Change,
    /// First block that the change holds for; the block after the deciding vote if that comes later.
    pub effective: Height,
    /// Header time from which votes no longer count.
    pub expires: Time,
}

/// What the consortium can change.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Change {
    /// The validators.
    #[serde(rename = "validators")]
    Validators(ValidatorSet),
    /// The policy.
    #[serde(rename = "policy")]
    Policy(Policy),
    /// The version of the rules.
    #[serde(rename = "rules")]
    Rules(u16),
    /// Whoever has this member key may register as a hospital.
    #[serde(rename = "hospital")]
    Hospital(MemberId),
}

/// A vote for a proposal, with the power of the voting hospital's validators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Vote {
    /// The proposal's id.
    pub proposal: Digest,
}

impl Operation {
    /// The word for the operation, as its bytes and messages have it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RegisterMember(_) => "register-member",
            Self::AddDevice(_) => "add-device",
            Self::RemoveDevice(_) => "remove-device",
            Self::RegisterNode(_) => "register-node",
            Self::Drain(_) => "drain",
            Self::CreateRecord(_) => "create-record",
            Self::Anchor(_) => "anchor",
            Self::Grant(_) => "grant",
            Self::Revoke(_) => "revoke",
            Self::Rotate(_) => "rotate",
            Self::Open(_) => "open",
            Self::Reshare(_) => "reshare",
            Self::Attest(_) => "attest",
            Self::Propose(_) => "propose",
            Self::Vote(_) => "vote",
            Self::EmergencyRequest => "emergency-request",
            Self::EmergencyApproval => "emergency-approval",
        }
    }
}

impl Admission {
    /// The role that the member gets.
    pub const fn role(&self) -> Role {
        match self {
            Self::Invite(invite) => invite.role,
            Self::Vote(_) => Role::Hospital,
        }
    }
}
