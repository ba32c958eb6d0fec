//! The state: small entries under typed keys, each in canonical bytes.
//!
//! Knows shapes, keys and limits; what may be written when, the rules decide.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::codec;
use crate::crypto::sign::Signature;
use crate::ids::{
    ChunkId, DeviceId, Digest, Epoch, Generation, GrantId, Height, InviteId, MemberId, NodeId, OpeningId,
    RecordId, Time, TransactionId, Version,
};
use crate::ledger::certificate::ValidatorSet;
use crate::ledger::identity::{Role, SealingPublic};
use crate::ledger::lists::List;
use crate::ledger::operation::{Change, Conditions, Custodian, GrantDigests, GrantPurpose};
use crate::placement::Region;

/// Most bytes of one entry; the largest are the placement table and the consortium.
pub const ENTRY_BYTES_MAX: usize = 64 << 10;
/// Most devices of a member at one time.
pub const DEVICES_MAX: usize = 32;
/// Most records of a member: a removal of a device advances the epochs of all of them in one block.
pub const RECORDS_MAX: u32 = 10_000;
/// Most grants of one reader on one record that have not ended.
pub const GRANTS_PER_READER_MAX: usize = 8;
/// Most grants on nested records below one grant, and deepest nesting: bound what one revocation ends.
pub const DESCENDANTS_MAX: u32 = 1024;
/// Deepest chain of parents of a grant.
pub const NESTING_MAX: usize = 16;
/// Most regions that a policy restricts records to.
pub const REGIONS_MAX: usize = 64;
/// Most changes that were voted and wait for their height.
pub const SCHEDULED_MAX: usize = 16;

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateKey {
    /// [`Clock`].
    Clock,
    /// [`ConsortiumEntry`].
    Consortium,
    /// [`crate::placement::Placement`].
    Placement,
    /// [`MemberEntry`].
    Member(MemberId),
    /// [`crate::ledger::identity::MemberSealingKey`] of a generation.
    MemberKey(MemberId, Generation),
    /// [`RecordId`] of a member's records by their number.
    MemberRecord(MemberId, u32),
    /// `true`: the consortium voted this member in as a hospital.
    Admitted(MemberId),
    /// [`DeviceEntry`].
    Device(DeviceId),
    /// Byte string: secrets of a generation, sealed to a device when another was removed.
    DeviceSecrets(DeviceId, Generation),
    /// [`NodeEntry`].
    Node(NodeId),
    /// [`RecordEntry`].
    Record(RecordId),
    /// [`EpochEntry`].
    Epoch(RecordId, Epoch),
    /// `Vec<GrantId>`: first ids of the grants of a reader on a record that have not ended, ascending.
    ReaderGrants(RecordId, MemberId),
    /// [`GrantEntry`].
    Grant(GrantId),
    /// [`LineageEntry`] by the first id of a grant that was issued again and again.
    Lineage(GrantId),
    /// [`GrantId`]: first id of the grants nested in a lineage, by their number.
    NestedGrant(GrantId, u32),
    /// [`OpeningEntry`], until it is too old to be served.
    Opening(OpeningId),
    /// [`AttestationEntry`].
    Attestation(RecordId, NodeId),
    /// [`ProposalEntry`].
    Proposal(Digest),
    /// [`SpentInvite`], until the invite expires.
    SpentInvite(InviteId),
    /// [`RememberedTransaction`], until a day after its `valid_until`.
    Transaction(TransactionId),
    /// [`ExpiryCursor`].
    ExpiryCursor,
    /// `u32`: how many keys are forgotten in an hour.
    ExpiryCount(u64),
    /// Byte string: a key that is forgotten in an hour.
    ExpiryItem(u64, u32),
    /// [`MemberLists`].
    MemberLists(MemberId),
    /// [`RecordLists`].
    RecordLists(RecordId),
}

impl StateKey {
    /// Stable bytes: a tag, ids, numbers big endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let number = |number: u32| number.to_be_bytes().to_vec();
        let (tag, parts): (u8, Vec<Vec<u8>>) = match self {
            Self::Clock => (0, vec![]),
            Self::Consortium => (1, vec![]),
            Self::Placement => (2, vec![]),
            Self::Member(id) => (3, vec![id.as_bytes().to_vec()]),
            Self::MemberKey(id, generation) => (4, vec![id.as_bytes().to_vec(), number(generation.0)]),
            Self::MemberRecord(id, place) => (5, vec![id.as_bytes().to_vec(), number(*place)]),
            Self::Admitted(id) => (6, vec![id.as_bytes().to_vec()]),
            Self::Device(id) => (7, vec![id.as_bytes().to_vec()]),
            Self::DeviceSecrets(id, generation) => (8, vec![id.as_bytes().to_vec(), number(generation.0)]),
            Self::Node(id) => (9, vec![id.as_bytes().to_vec()]),
            Self::Record(id) => (10, vec![id.as_bytes().to_vec()]),
            Self::Epoch(id, epoch) => (11, vec![id.as_bytes().to_vec(), number(epoch.0)]),
            Self::ReaderGrants(id, reader) => (12, vec![id.as_bytes().to_vec(), reader.as_bytes().to_vec()]),
            Self::Grant(id) => (13, vec![id.as_bytes().to_vec()]),
            Self::Lineage(id) => (14, vec![id.as_bytes().to_vec()]),
            Self::NestedGrant(id, place) => (15, vec![id.as_bytes().to_vec(), number(*place)]),
            Self::Opening(id) => (16, vec![id.as_bytes().to_vec()]),
            Self::Attestation(id, node) => (17, vec![id.as_bytes().to_vec(), node.as_bytes().to_vec()]),
            Self::Proposal(id) => (18, vec![id.as_bytes().to_vec()]),
            Self::SpentInvite(id) => (19, vec![id.as_bytes().to_vec()]),
            Self::Transaction(id) => (20, vec![id.as_bytes().to_vec()]),
            Self::ExpiryCursor => (21, vec![]),
            Self::ExpiryCount(hour) => (22, vec![hour.to_be_bytes().to_vec()]),
            Self::ExpiryItem(hour, place) => (23, vec![hour.to_be_bytes().to_vec(), number(*place)]),
            Self::MemberLists(id) => (24, vec![id.as_bytes().to_vec()]),
            Self::RecordLists(id) => (25, vec![id.as_bytes().to_vec()]),
        };
        let mut bytes = vec![tag];
        bytes.extend(parts.into_iter().flatten());
        bytes
    }
}

/// Reads the newest state.
pub trait StateReader {
    /// The entry's bytes, or none.
    ///
    /// # Errors
    /// [`ReadFailed`] when the medium does not answer.
    fn read_entry(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadFailed>;
}

/// The medium under the ledger does not answer; whoever runs on it must stop.
#[derive(Debug, thiserror::Error)]
#[error("the ledger's store cannot be read")]
pub struct ReadFailed(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// Why an entry of the state cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The medium does not answer.
    #[error(transparent)]
    Unreadable(#[from] ReadFailed),
    /// The bytes are not an entry of the kind that stands under this key.
    #[error("the entry under {key:?} is damaged")]
    Damaged {
        /// The key.
        key: StateKey,
    },
}

/// Reads the entry under `key`. `T` is the type that [`StateKey`] names for it.
///
/// # Errors
/// [`StateError`].
pub fn read<T: Serialize + DeserializeOwned>(
    reader: &(impl StateReader + ?Sized),
    key: &StateKey,
) -> Result<Option<T>, StateError> {
    let Some(bytes) = reader.read_entry(&key.to_bytes())? else { return Ok(None) };
    codec::decode(&bytes, ENTRY_BYTES_MAX).map(Some).map_err(|_| StateError::Damaged { key: *key })
}

/// The newest block that the state holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Clock {
    /// Its height; 0 after the genesis document.
    pub height: Height,
    /// Its time.
    pub time: Time,
}

/// What the consortium agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Policy {
    /// R: copies of a record, one a zone; at most as many as there are zones.
    pub replicas: u8,
    /// W: receipts that an anchor needs, from different zones; at most as many as there are zones.
    pub receipts: u8,
    /// How long a reader is served after an opening, in milliseconds.
    pub opening: u64,
    /// Whether the owner's hospital keeps the first copy.
    pub home: bool,
    /// Regions that records may lie in; none means all.
    pub regions: Vec<Region>,
}

impl Default for Policy {
    fn default() -> Self {
        // Openings of 12 hours: a shift.
        Self { replicas: 3, receipts: 2, opening: 12 * 60 * 60 * 1000, home: false, regions: Vec::new() }
    }
}

/// Who decides blocks, by which rules and policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct ConsortiumEntry {
    /// The validators that decided the newest block.
    pub validators: ValidatorSet,
    /// The validators that decide the next block.
    pub next: ValidatorSet,
    /// Version of the rules that apply the next block.
    pub rules: u16,
    /// The policy that holds for the next block.
    pub policy: Policy,
    /// Changes that were voted, by the first height that they hold for.
    pub scheduled: Vec<Scheduled>,
}

/// A voted change that waits for its height.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Scheduled {
    /// First block that it holds for.
    pub effective: Height,
    /// The proposal.
    pub proposal: Digest,
}

/// A proposed change and who voted for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct ProposalEntry {
    /// The change.
    pub change: Change,
    /// First block that it is meant to hold for.
    pub effective: Height,
    /// Header time from which votes no longer count.
    pub expires: Time,
    /// Hospitals that voted for it, ascending.
    pub voted: Vec<MemberId>,
    /// Whether it was decided.
    pub passed: bool,
}

/// A member, as everyone may know him: what he does stands in [`MemberLists`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct MemberEntry {
    /// The member key.
    #[serde(with = "serde_bytes")]
    pub key: [u8; 32],
    /// The role.
    pub role: Role,
    /// The hospital that registered the member; a hospital's own id for itself.
    pub hospital: MemberId,
    /// Blinded commitment to the handle.
    pub handle: Digest,
    /// The live generation of the vault secret.
    pub generation: Generation,
    /// Devices that were not removed, ascending.
    pub devices: Vec<DeviceId>,
}

/// What a member has and does: an entry of its own, since it changes with every grant to him and every opening by
/// him, which are nobody else's to see. Every member has one from the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct MemberLists {
    /// The member's records.
    pub records: List,
    /// Grants that the member received.
    pub received: List,
    /// Openings by the member.
    pub opened: List,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct DeviceEntry {
    /// Whose it is.
    pub member: MemberId,
    /// Its X-Wing key.
    pub sealing: SealingPublic,
    /// The member key's signature over both keys.
    pub signature: Signature,
    /// Since which block.
    pub added: Height,
    /// Since which block it is no longer the member's. It never comes back.
    pub removed: Option<Height>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct NodeEntry {
    /// The hospital that runs it: its zone.
    pub hospital: MemberId,
    /// Its region.
    pub region: Region,
    /// Its weight.
    pub weight: u32,
    /// Hints where it can be reached.
    pub addresses: Vec<String>,
    /// Since which block it takes no new records.
    pub drained: Option<Height>,
}

/// A record, as its readers may know it: whom else it is shared with stands in [`RecordLists`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct RecordEntry {
    /// Whose it is.
    pub owner: MemberId,
    /// The zone that keeps the first copy, if the policy said so when the record was made.
    pub home: Option<MemberId>,
    /// The live epoch.
    pub epoch: Epoch,
    /// The newest version.
    pub head: Option<Head>,
    /// Bytes of all retained chunks.
    pub bytes: u64,
    /// Versions.
    pub versions: List,
}

/// Who was given a record and who opened it: an entry of its own, for its owner alone. Every record has one from the
/// beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct RecordLists {
    /// Grants and their ends.
    pub grants: List,
    /// Openings.
    pub openings: List,
    /// When the first of the grants expires that were opened under the live epoch: from then on the
    /// owner must rotate before anchoring.
    pub opened_until: Option<Time>,
}

/// The newest version of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Head {
    /// Its number.
    pub version: Version,
    /// The epoch that its root is sealed in.
    pub epoch: Epoch,
    /// The root chunk.
    pub root: ChunkId,
    /// The block that holds it.
    pub height: Height,
    /// That block's time.
    pub time: Time,
}

/// An epoch of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct EpochEntry {
    /// Generation of the owner's vault secret that its key comes from.
    pub generation: Generation,
    /// Salt of its key.
    pub salt: Digest,
    /// The newest version when it opened: its own versions are later.
    pub base: Version,
    /// The block that opened it.
    pub height: Height,
    /// That block's time.
    pub time: Time,
}

impl EpochEntry {
    /// `BLAKE3-derive-key("IHFS 1 epoch salt", random ‖ record ‖ epoch (u32, little endian))`, with
    /// the random bytes of the transaction that opens the epoch.
    pub fn salt(random: &[u8; 32], record: RecordId, epoch: Epoch) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("IHFS 1 epoch salt");
        hasher.update(random).update(record.as_bytes()).update(&epoch.0.to_le_bytes());
        Digest::from_bytes(*hasher.finalize().as_bytes())
    }
}

/// A grant under one of its ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct GrantEntry {
    /// Who gave it.
    pub owner: MemberId,
    /// What the reader may do.
    pub conditions: Conditions,
    /// The first id that it was issued under; its own unless it was issued again.
    pub first: GrantId,
    /// The epoch whose key it holds.
    pub epoch: Epoch,
    /// Generation of the reader's X-Wing key.
    pub generation: Generation,
    /// What parties check.
    pub digests: GrantDigests,
    /// How many key shares open it.
    pub threshold: u8,
    /// Who keeps the key shares.
    pub custodians: Vec<Custodian>,
    /// The block that holds it.
    pub height: Height,
    /// That block's time.
    pub time: Time,
    /// The newest opening that named it.
    pub opened: Option<LastOpening>,
    /// Since when and why it no longer opens, other than by its expiry.
    pub ended: Option<Ended>,
}

impl GrantEntry {
    /// Whether the grant opens at this header time.
    pub fn is_open_at(&self, time: Time) -> bool {
        self.ended.is_none() && self.conditions.not_before <= time && !self.is_expired_at(time)
    }

    /// Whether its expiry has come.
    pub fn is_expired_at(&self, time: Time) -> bool {
        self.conditions.expires.is_some_and(|expires| expires <= time)
    }
}

/// The newest opening of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct LastOpening {
    /// The opening.
    pub opening: OpeningId,
    /// Header time of its block.
    pub time: Time,
}

/// The end of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Ended {
    /// The block that ended it.
    pub height: Height,
    /// That block's time.
    pub time: Time,
    /// Why.
    pub why: EndReason,
}

/// Why a grant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum EndReason {
    /// The owner revoked it.
    #[serde(rename = "revoked")]
    Revoked,
    /// The grant that it is nested in was revoked.
    #[serde(rename = "parent")]
    Parent,
    /// It was issued again under this id.
    #[serde(rename = "replaced")]
    Replaced(GrantId),
}

/// A grant through all the ids that it is issued under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct LineageEntry {
    /// The id that it has now, also after its end.
    pub current: GrantId,
    /// First id of the grant that it is nested in.
    pub parent: Option<GrantId>,
    /// How many grants were ever nested in it directly.
    pub children: u32,
    /// How many were ever nested in it at any depth.
    pub descendants: u32,
}

/// An opening, kept for as long as it is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct OpeningEntry {
    /// Who opened.
    pub reader: MemberId,
    /// On which device.
    pub device: DeviceId,
    /// The block that holds it.
    pub height: Height,
    /// That block's time.
    pub time: Time,
    /// Header time from which nodes no longer serve under it.
    pub expires: Time,
    /// The grants.
    pub grants: Vec<GrantId>,
}

/// What a node last said about its copy of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct AttestationEntry {
    /// The version up to which it looked.
    pub version: Version,
    /// Chunks that it should have.
    pub chunks: u64,
    /// Chunks of those that are missing or damaged.
    pub chunks_missing: u64,
    /// When it looked, by its own word.
    pub verified: Time,
    /// The block that holds the statement.
    pub height: Height,
}

/// An invite that was redeemed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct SpentInvite {
    /// By whom.
    pub member: MemberId,
    /// In which block.
    pub height: Height,
}

/// A transaction that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct RememberedTransaction {
    /// By whom.
    pub member: MemberId,
    /// In which block.
    pub height: Height,
    /// Until when it was valid.
    pub valid_until: Time,
}

/// Where forgetting stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct ExpiryCursor {
    /// The hour (since 1970) that is being worked on.
    pub hour: u64,
    /// How many keys of that hour were forgotten.
    pub done: u32,
    /// How many keys wait in all hours.
    pub waiting: u64,
}

/// Item of a record's versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct VersionItem {
    /// Its number.
    pub version: Version,
    /// The epoch that its root is sealed in.
    pub epoch: Epoch,
    /// The root chunk.
    pub root: ChunkId,
    /// The chunk that lists what was added and dropped.
    pub delta: ChunkId,
    /// Bytes added.
    pub bytes_added: u64,
    /// Bytes dropped.
    pub bytes_dropped: u64,
    /// Who anchored; what another than the owner would drop does not count.
    pub author: MemberId,
    /// On which device.
    pub device: DeviceId,
    /// The block that holds it.
    pub height: Height,
    /// That block's time.
    pub time: Time,
}

/// Item of a record's grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum GrantItem {
    /// A grant began.
    #[serde(rename = "granted")]
    Granted(GrantedItem),
    /// A grant ended: which, and how.
    #[serde(rename = "ended")]
    Ended(GrantId, Ended),
}

/// The beginning of a grant; the rest stands in its [`GrantEntry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct GrantedItem {
    /// The grant.
    pub grant: GrantId,
    /// The reader.
    pub reader: MemberId,
    /// What for.
    pub purpose: GrantPurpose,
    /// The block that holds it.
    pub height: Height,
    /// That block's time.
    pub time: Time,
}

/// Item of the openings of a record, and of those by a member: one for each grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct OpeningItem {
    /// The opening.
    pub opening: OpeningId,
    /// The grant.
    pub grant: GrantId,
    /// The record.
    pub record: RecordId,
    /// Who opened.
    pub reader: MemberId,
    /// On which device.
    pub device: DeviceId,
    /// The epoch whose key the grant holds.
    pub epoch: Epoch,
    /// The newest version at that time, whichever epoch it is sealed in.
    pub version: Version,
    /// The block that holds it.
    pub height: Height,
    /// That block's time.
    pub time: Time,
}

/// Item of a member's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct RecordItem {
    /// The record.
    pub record: RecordId,
    /// The block that made it.
    pub height: Height,
    /// That block's time.
    pub time: Time,
}

/// Item of the grants that a member received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct ReceivedItem {
    /// The grant.
    pub grant: GrantId,
    /// The record.
    pub record: RecordId,
    /// Who gave it.
    pub owner: MemberId,
    /// The block that holds it.
    pub height: Height,
    /// That block's time.
    pub time: Time,
}
