//! The authenticated state: a tree over all entries whose root stands in every header.
//!
//! A Jellyfish Merkle tree (Gao, Hu, Wu 2021; the `jmt` crate) with BLAKE3. Pages are opaque bytes under
//! opaque keys, so that any store can hold them; a page that a block replaces is stale and may go.
//! A proof is checked here without the crate: a path of sibling hashes.

use jmt::proof::{INTERNAL_DOMAIN_SEPARATOR, LEAF_DOMAIN_SEPARATOR, SparseMerkleProof};
use jmt::storage::{LeafNode, Node, NodeKey, TreeReader};
use jmt::{JellyfishMerkleTree, KeyHash, SimpleHasher};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::codec::{self, DecodeError};
use crate::ids::{Digest, Height};
use crate::ledger::rules::Writes;
use crate::ledger::state::{ENTRY_BYTES_MAX, ReadFailed, StateKey};

/// Most bytes of a proof: 256 siblings, 34 bytes each, fit. A real one has a twentieth of it.
pub const PROOF_BYTES_MAX: usize = 10 << 10;
/// Deepest path: one step a bit of the key's hash.
const DEPTH_MAX: usize = 256;
/// The hash of an empty subtree, as the tree defines it.
const EMPTY: [u8; 32] = *b"SPARSE_MERKLE_PLACEHOLDER_HASH__";

/// Reads pages of the tree.
pub trait PageReader {
    /// The page's bytes, or none.
    ///
    /// # Errors
    /// [`ReadFailed`] when the medium does not answer.
    fn read_page(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadFailed>;
}

/// What a block does to the tree.
#[derive(Debug, PartialEq, Eq)]
pub struct TreeUpdate {
    /// The root after the block.
    pub root: Digest,
    /// New pages by their keys.
    pub pages: Vec<(Vec<u8>, Vec<u8>)>,
    /// Keys of pages that no later root needs.
    pub stale: Vec<Vec<u8>>,
}

/// The tree cannot be read, or a page is damaged or missing.
#[derive(Debug, thiserror::Error)]
#[error("the tree of the state at height {height} is not whole")]
pub struct TreeBroken {
    /// The height asked for.
    pub height: Height,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Computes the tree after `writes` at `height`; the one before must be in `reader`, but at height 0.
///
/// # Errors
/// [`TreeBroken`].
///
/// # Panics
/// When `writes` is empty: a block always writes its clock.
pub fn update_tree(
    reader: &dyn PageReader,
    height: Height,
    writes: &Writes,
) -> Result<TreeUpdate, TreeBroken> {
    assert!(!writes.is_empty(), "a block always writes its clock");
    let pages = Pages(reader);
    let tree = JellyfishMerkleTree::<_, TreeHasher>::new(&pages);
    let values = writes.iter().map(|(key, value)| (key_hash(key), value.clone()));
    let (root, batch) = tree
        .put_value_set(values, height.0)
        .map_err(|source| TreeBroken { height, source: source.into() })?;
    let encode = |(key, node): (&NodeKey, &Node)| (page_key(key), to_borsh(node));
    Ok(TreeUpdate {
        root: Digest::from_bytes(root.0),
        pages: batch.node_batch.nodes().iter().map(encode).collect(),
        stale: batch.stale_node_index_batch.iter().map(|stale| page_key(&stale.node_key)).collect(),
    })
}

/// Builds the tree over a whole state, as one who joins from a snapshot does: its root must be the one
/// that a certified header names, and later blocks go on from its pages.
///
/// # Errors
/// [`TreeBroken`] only when the crate fails.
pub fn rebuild_tree(height: Height, entries: &Writes) -> Result<TreeUpdate, TreeBroken> {
    let update = update_tree(&EmptyTree { height }, height, entries)?;
    Ok(TreeUpdate { stale: Vec::new(), ..update })
}

/// Shows an empty tree at the height before.
struct EmptyTree {
    height: Height,
}

impl PageReader for EmptyTree {
    fn read_page(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadFailed> {
        // Keys begin with the height; of the one before, only the root is ever asked for.
        let before = self.height.0.checked_sub(1).map(u64::to_le_bytes);
        let is_root = before.is_some_and(|before| key.starts_with(&before));
        Ok(is_root.then(|| to_borsh(&Node::Null)))
    }
}

/// Proves the entry under `key`, or that there is none, by the tree at `height`.
///
/// # Errors
/// [`TreeBroken`].
pub fn prove(reader: &dyn PageReader, height: Height, key: &[u8]) -> Result<StateProof, TreeBroken> {
    let pages = Pages(reader);
    let tree = JellyfishMerkleTree::<_, TreeHasher>::new(&pages);
    let (_, proof) = tree
        .get_with_proof(key_hash(key), height.0)
        .map_err(|source| TreeBroken { height, source: source.into() })?;
    Ok(StateProof::from_jmt(&proof))
}

/// Proof of what stands, or that nothing stands, under one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct StateProof {
    /// Hashes of key and value of the leaf where the path ends; none where the subtree is empty.
    leaf: Option<(Digest, Digest)>,
    /// Hashes beside the path, from the leaf up; none for an empty subtree.
    siblings: Vec<Option<Digest>>,
}

/// Why a proof proves nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The bytes are not the canonical form of a proof, or of the entry that is proved.
    #[error("the proof or what it proves does not decode")]
    Decode(#[from] DecodeError),
    /// The path is longer than a key.
    #[error("the path has {found} steps, where {DEPTH_MAX} are possible")]
    TooDeep {
        /// How many it has.
        found: usize,
    },
    /// The leaf does not say what is to be proved about the key.
    #[error("the proof is about another key or value")]
    WrongLeaf,
    /// The path does not lead to the root.
    #[error("the proof does not lead to the state root")]
    WrongRoot,
}

impl StateProof {
    /// Canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// [`ProofError::Decode`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProofError> {
        Ok(codec::decode(bytes, PROOF_BYTES_MAX)?)
    }

    /// Checks that under `key` stands exactly `value`, or nothing, in the state with this root.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn verify(&self, root: Digest, key: &[u8], value: Option<&[u8]>) -> Result<(), ProofError> {
        let found = self.siblings.len();
        if found > DEPTH_MAX {
            return Err(ProofError::TooDeep { found });
        }
        let path = key_hash(key).0;
        self.check_leaf(&path, value)?;
        if self.root(&path) != *root.as_bytes() {
            return Err(ProofError::WrongRoot);
        }
        Ok(())
    }

    /// Checks the proof and reads the entry that it proves; `T` is what [`StateKey`] names for the key.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn open<T: Serialize + DeserializeOwned>(
        &self,
        root: Digest,
        key: &StateKey,
        value: Option<&[u8]>,
    ) -> Result<Option<T>, ProofError> {
        self.verify(root, &key.to_bytes(), value)?;
        Ok(value.map(|value| codec::decode(value, ENTRY_BYTES_MAX)).transpose()?)
    }

    fn check_leaf(&self, path: &[u8; 32], value: Option<&[u8]>) -> Result<(), ProofError> {
        let says = match (&self.leaf, value) {
            (Some((key, digest)), Some(value)) => {
                key.as_bytes() == path && *digest.as_bytes() == TreeHasher::hash(value)
            }
            // Another leaf stands alone in the subtree where the key would be.
            (Some((key, _)), None) => {
                key.as_bytes() != path && common_bits(key.as_bytes(), path) >= self.siblings.len()
            }
            (None, None) => true,
            (None, Some(_)) => false,
        };
        if says { Ok(()) } else { Err(ProofError::WrongLeaf) }
    }

    fn root(&self, path: &[u8; 32]) -> [u8; 32] {
        let leaf = self.leaf.as_ref();
        let start = leaf
            .map_or(EMPTY, |(key, value)| hash_pair(LEAF_DOMAIN_SEPARATOR, key.as_bytes(), value.as_bytes()));
        let steps = self.siblings.iter().zip((0..self.siblings.len()).rev());
        steps.fold(start, |hash, (sibling, depth)| {
            let sibling = sibling.map_or(EMPTY, |sibling| *sibling.as_bytes());
            let is_right = path[depth / 8] >> (7 - depth % 8) & 1 == 1;
            let (left, right) = if is_right { (&sibling, &hash) } else { (&hash, &sibling) };
            hash_pair(INTERNAL_DOMAIN_SEPARATOR, left, right)
        })
    }

    /// Takes the crate's proof apart by its stable borsh form: it hides its parts.
    fn from_jmt(proof: &SparseMerkleProof<TreeHasher>) -> Self {
        let bytes = to_borsh(proof);
        let (leaf, siblings): (Option<Pair>, Vec<BorshSibling>) =
            borsh::from_slice(&bytes).expect("borsh reads what borsh wrote");
        let leaf = leaf.map(|(key, value)| (Digest::from_bytes(key), Digest::from_bytes(value)));
        Self { leaf, siblings: siblings.into_iter().map(BorshSibling::digest).collect() }
    }
}

type Pair = ([u8; 32], [u8; 32]);

/// A sibling as the crate writes it: with its own two hashes.
#[derive(borsh::BorshDeserialize)]
enum BorshSibling {
    Empty,
    Internal(Pair),
    Leaf(Pair),
}

impl BorshSibling {
    fn digest(self) -> Option<Digest> {
        match self {
            Self::Empty => None,
            Self::Internal((left, right)) => {
                Some(Digest::from_bytes(hash_pair(INTERNAL_DOMAIN_SEPARATOR, &left, &right)))
            }
            Self::Leaf((key, value)) => {
                Some(Digest::from_bytes(hash_pair(LEAF_DOMAIN_SEPARATOR, &key, &value)))
            }
        }
    }
}

/// BLAKE3 with a label of its own: `BLAKE3-derive-key("IHFS 1 state tree", …)`.
struct TreeHasher(blake3::Hasher);

impl SimpleHasher for TreeHasher {
    fn new() -> Self {
        Self(blake3::Hasher::new_derive_key("IHFS 1 state tree"))
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// `BLAKE3-derive-key("IHFS 1 state key", key)`: where an entry stands in the tree.
fn key_hash(key: &[u8]) -> KeyHash {
    KeyHash(blake3::derive_key("IHFS 1 state key", key))
}

fn hash_pair(label: &[u8], left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut hasher = TreeHasher::new();
    hasher.update(label);
    hasher.update(left);
    hasher.update(right);
    hasher.finalize()
}

fn common_bits(one: &[u8; 32], other: &[u8; 32]) -> usize {
    let differing = one.iter().zip(other).position(|(a, b)| a != b);
    differing.map_or(256, |byte| byte * 8 + (one[byte] ^ other[byte]).leading_zeros() as usize)
}

fn page_key(key: &NodeKey) -> Vec<u8> {
    to_borsh(key)
}

fn to_borsh(value: &impl borsh::BorshSerialize) -> Vec<u8> {
    borsh::to_vec(value).expect("writing to memory does not fail")
}

/// The crate's view of the pages. Values lie beside the tree, so it is shown none.
struct Pages<'a>(&'a dyn PageReader);

impl TreeReader for Pages<'_> {
    fn get_node_option(&self, key: &NodeKey) -> Result<Option<Node>, anyhow::Error> {
        let Some(bytes) = self.0.read_page(&page_key(key))? else { return Ok(None) };
        Ok(Some(borsh::from_slice(&bytes)?))
    }

    fn get_value_option(&self, _: u64, _: KeyHash) -> Result<Option<Vec<u8>>, anyhow::Error> {
        Ok(Some(Vec::new()))
    }

    fn get_rightmost_leaf(&self) -> Result<Option<(NodeKey, LeafNode)>, anyhow::Error> {
        Ok(None)
    }
}
