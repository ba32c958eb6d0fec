//! The genesis document: who founds the network. Its hash is the chain's id.

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::codec::{self, DecodeError};
use crate::ids::{ChainId, Digest, Generation, Height, MemberId, NodeId, Time};
use crate::ledger::certificate::ValidatorSet;
use crate::ledger::identity::Role;
use crate::ledger::operation::{ADDRESS_BYTES_MAX, ADDRESSES_MAX};
use crate::ledger::rules::{RULES_VERSION, Writes};
use crate::ledger::state::{
    Clock, ConsortiumEntry, MemberEntry, MemberLists, NodeEntry, Policy, REGIONS_MAX, StateKey,
};
use crate::placement::{NODES_MAX, PlacedNode, Placement, Region};

/// Version of the document's bytes.
pub const GENESIS_FORMAT: u16 = 1;
/// Most bytes of the document: 256 nodes and validators and 1,000 members fit.
pub const GENESIS_BYTES_MAX: usize = 256 << 10;
/// Most bytes of the network's name.
pub const NETWORK_NAME_BYTES_MAX: usize = 64;
/// Most founding members.
pub const GENESIS_MEMBERS_MAX: usize = 1000;

/// The genesis document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Genesis {
    /// [`GENESIS_FORMAT`].
    pub format: u16,
    /// Name of the network, for people.
    pub network: String,
    /// When it begins; every header is later.
    pub time: Time,
    /// Who decides the first block.
    pub validators: ValidatorSet,
    /// The nodes, ascending by key.
    pub nodes: Vec<GenesisNode>,
    /// Hospitals and registrars, ascending by key.
    pub members: Vec<GenesisMember>,
    /// The first policy.
    pub policy: Policy,
}

/// A founding node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct GenesisNode {
    /// Its key.
    pub node: NodeId,
    /// The hospital that runs it: its zone.
    pub hospital: MemberId,
    /// Its region.
    pub region: Region,
    /// Its share of records, at least 1.
    pub weight: u32,
    /// Hints where it can be reached.
    pub addresses: Vec<String>,
}

/// A founding member: a hospital, or a registrar of one. Signs with its member key until it adds a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct GenesisMember {
    /// The member key.
    #[serde(with = "serde_bytes")]
    pub key: [u8; 32],
    /// [`Role::Hospital`] or [`Role::Registrar`].
    pub role: Role,
    /// The hospital; a hospital's own id for itself.
    pub hospital: MemberId,
    /// Blinded commitment to the handle.
    pub handle: Digest,
}

impl GenesisMember {
    /// A founding hospital.
    pub fn hospital(key: [u8; 32], handle: Digest) -> Self {
        Self { key, role: Role::Hospital, hospital: MemberId::of_key(&key), handle }
    }

    /// The member's id.
    pub fn id(&self) -> MemberId {
        MemberId::of_key(&self.key)
    }
}

impl Genesis {
    /// `BLAKE3-derive-key("IHFS 1 chain id", document)`: the fingerprint on the recovery sheet.
    pub fn chain(&self) -> ChainId {
        ChainId::from_bytes(blake3::derive_key("IHFS 1 chain id", &self.to_bytes()))
    }

    /// Canonical bytes of the document.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads and checks a document.
    ///
    /// # Errors
    /// [`GenesisError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GenesisError> {
        let genesis: Self = codec::decode(bytes, GENESIS_BYTES_MAX)?;
        genesis.state()?;
        Ok(genesis)
    }

    /// The state at height 0.
    ///
    /// # Errors
    /// [`GenesisError`]: what stands in the document does not fit together.
    pub fn state(&self) -> Result<Writes, GenesisError> {
        self.check_frame()?;
        let mut writes = Writes::new();
        let mut put = |key: StateKey, value: Vec<u8>| writes.insert(key.to_bytes(), Some(value));
        for member in &self.members {
            self.check_member(member)?;
            put(StateKey::Member(member.id()), codec::encode(&member.entry()));
            put(StateKey::MemberLists(member.id()), codec::encode(&MemberLists::default()));
        }
        for node in &self.nodes {
            self.check_node(node)?;
            put(StateKey::Node(node.node), codec::encode(&node.entry()));
        }
        self.check_validators()?;
        put(StateKey::Placement, codec::encode(&self.placement()));
        put(StateKey::Consortium, codec::encode(&self.consortium()));
        put(StateKey::Clock, codec::encode(&Clock { height: Height(0), time: self.time }));
        Ok(writes)
    }

    fn check_frame(&self) -> Result<(), GenesisError> {
        if self.format != GENESIS_FORMAT {
            return Err(GenesisError::UnknownFormat { found: self.format });
        }
        let sorted = self.members.windows(2).all(|pair| pair[0].key < pair[1].key)
            && self.nodes.windows(2).all(|pair| pair[0].node < pair[1].node);
        if !sorted {
            return Err(GenesisError::NotAscending);
        }
        let fits = self.network.len() <= NETWORK_NAME_BYTES_MAX
            && (1..=NODES_MAX).contains(&self.nodes.len())
            && (1..=GENESIS_MEMBERS_MAX).contains(&self.members.len());
        if !fits {
            return Err(GenesisError::WrongSize);
        }
        self.policy.check().map_err(|_| GenesisError::BadPolicy)
    }

    fn check_member(&self, member: &GenesisMember) -> Result<(), GenesisError> {
        let known = match member.role {
            Role::Hospital => member.hospital == member.id(),
            Role::Registrar => self.has_hospital(member.hospital),
            _ => false,
        };
        if known { Ok(()) } else { Err(GenesisError::BadMember { member: member.id() }) }
    }

    fn check_node(&self, node: &GenesisNode) -> Result<(), GenesisError> {
        let fits = self.has_hospital(node.hospital) && node.weight > 0 && addresses_fit(&node.addresses);
        if fits { Ok(()) } else { Err(GenesisError::BadNode { node: node.node }) }
    }

    fn check_validators(&self) -> Result<(), GenesisError> {
        let stranger =
            self.validators.as_slice().iter().find(|validator| {
                self.nodes.binary_search_by_key(&validator.node, |node| node.node).is_err()
            });
        match stranger {
            Some(validator) => Err(GenesisError::BadNode { node: validator.node }),
            None => Ok(()),
        }
    }

    fn has_hospital(&self, hospital: MemberId) -> bool {
        self.members.iter().any(|member| member.role == Role::Hospital && member.id() == hospital)
    }

    fn placement(&self) -> Placement {
        let placed = |node: &GenesisNode| PlacedNode {
            node: node.node,
            zone: node.hospital,
            region: node.region,
            weight: node.weight,
        };
        Placement { version: 0, nodes: self.nodes.iter().map(placed).collect() }
    }

    fn consortium(&self) -> ConsortiumEntry {
        ConsortiumEntry {
            validators: self.validators.clone(),
            next: self.validators.clone(),
            rules: RULES_VERSION,
            policy: self.policy.clone(),
            scheduled: Vec::new(),
        }
    }
}

impl GenesisMember {
    fn entry(&self) -> MemberEntry {
        MemberEntry {
            key: self.key,
            role: self.role,
            hospital: self.hospital,
            handle: self.handle,
            generation: Generation(0),
            devices: Vec::new(),
        }
    }
}

impl GenesisNode {
    fn entry(&self) -> NodeEntry {
        NodeEntry {
            hospital: self.hospital,
            region: self.region,
            weight: self.weight,
            addresses: self.addresses.clone(),
            drained: None,
        }
    }
}

/// Whether a node's addresses keep their limits.
pub(crate) fn addresses_fit(addresses: &[String]) -> bool {
    addresses.len() <= ADDRESSES_MAX && addresses.iter().all(|address| address.len() <= ADDRESS_BYTES_MAX)
}

/// A policy that promises nothing, or too much.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a policy has 1 to 16 replicas, no more receipts than replicas, openings of at most 7 days, and sorted regions"
)]
pub struct BadPolicy;

/// Most copies of a record: more protects nothing that fewer would not.
const REPLICAS_MAX: u8 = 16;
/// Longest opening, in milliseconds: a week.
const OPENING_MAX: u64 = 7 * 24 * 60 * 60 * 1000;

impl Policy {
    /// Checks its limits.
    ///
    /// # Errors
    /// [`BadPolicy`].
    pub fn check(&self) -> Result<(), BadPolicy> {
        let fits = (1..=REPLICAS_MAX).contains(&self.replicas)
            && (1..=self.replicas).contains(&self.receipts)
            && (1..=OPENING_MAX).contains(&self.opening)
            && self.regions.len() <= REGIONS_MAX
            && self.regions.windows(2).all(|pair| pair[0] < pair[1]);
        if fits { Ok(()) } else { Err(BadPolicy) }
    }
}

/// Why a genesis document founds no network.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// The bytes are not the canonical form of a document.
    #[error("the genesis document does not decode")]
    Decode(#[from] DecodeError),
    /// A format of another version.
    #[error("genesis format {found}, where {GENESIS_FORMAT} is known")]
    UnknownFormat {
        /// The version found.
        found: u16,
    },
    /// Nodes and members stand in ascending order of their keys, each once.
    #[error("nodes or members do not stand in ascending order")]
    NotAscending,
    /// No nodes, no members, too many, or a name too long.
    #[error("the network has no nodes, no members, too many, or too long a name")]
    WrongSize,
    /// The policy does not keep its limits.
    #[error("the policy does not keep its limits")]
    BadPolicy,
    /// Neither a hospital nor a registrar of a founding hospital.
    #[error("member {member:?} is neither a hospital nor the registrar of a founding one")]
    BadMember {
        /// The member.
        member: MemberId,
    },
    /// A node without a founding hospital or weight, with too many addresses, or a validator that is no node.
    #[error("node {node:?} has no founding hospital or weight, too many addresses, or is not listed")]
    BadNode {
        /// The node.
        node: NodeId,
    },
}
