//! Who the other side is: an Ed25519 public key, which libp2p writes as a `PeerId`.

use std::fmt;

use ihfs_core::ids::{DeviceId, NodeId};
use libp2p::PeerId;
use libp2p::identity::Keypair;

/// Ed25519 public key of a device or node; also its libp2p `PeerId`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey([u8; 32]);

impl PeerKey {
    /// The peer with this public key.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The libp2p name of this key.
    pub(crate) fn to_peer_id(self) -> PeerId {
        let mut bytes = [0; 38];
        bytes[..6].copy_from_slice(&PEER_ID_PREFIX);
        bytes[6..].copy_from_slice(&self.0);
        PeerId::from_bytes(&bytes).expect("an identity multihash of 36 bytes is a peer id")
    }

    /// The key behind a libp2p name; `None` when it is not an Ed25519 key.
    pub(crate) fn from_peer_id(peer: &PeerId) -> Option<Self> {
        let bytes = peer.to_bytes();
        let key = bytes.strip_prefix(&PEER_ID_PREFIX)?;
        Some(Self(key.try_into().ok()?))
    }
}

/// Identity multihash (code 0, 36 bytes) of the protobuf public key (type 1 = Ed25519, 32 bytes),
/// <https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md>.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl From<NodeId> for PeerKey {
    fn from(node: NodeId) -> Self {
        Self(*node.as_bytes())
    }
}

impl From<DeviceId> for PeerKey {
    fn from(device: DeviceId) -> Self {
        Self(*device.as_bytes())
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.0[..4] {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_peer_id().fmt(f)
    }
}

/// The secret key by which this process proves who it is. Not shown, not copied, wiped on drop.
pub struct Identity(Keypair);

impl Identity {
    /// The identity with this Ed25519 secret seed (RFC 8032). The caller wipes its own copy.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        // libp2p overwrites the copy with zeros and wipes its own key when dropped.
        let mut copy = *seed;
        Self(Keypair::ed25519_from_bytes(&mut copy).expect("32 bytes are an Ed25519 seed"))
    }

    /// The public key of this identity.
    pub fn peer_key(&self) -> PeerKey {
        PeerKey::from_peer_id(&self.0.public().to_peer_id()).expect("the key pair is Ed25519")
    }

    /// The key pair as libp2p wants it.
    pub(crate) fn keypair(&self) -> &Keypair {
        &self.0
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.peer_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_key_is_the_public_key_of_its_seed() {
        // RFC 8032, section 7.1, test 1.
        let seed = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
            0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
        ];
        let key = Identity::from_seed(&seed).peer_key();
        assert_eq!(format!("{key:?}"), "d75a9801");
        assert_eq!(PeerKey::from_peer_id(&key.to_peer_id()), Some(key));
    }

    #[test]
    fn a_name_that_is_no_ed25519_key_is_no_peer_key() {
        assert_eq!(PeerKey::from_peer_id(&PeerId::random()), None);
    }
}
