//! The text of an invite: everything that a new member's device needs to find the network and to join it.
//!
//! `"ihfs1-" ‖ base64url(checksum (4) ‖ DAG-CBOR)`, RFC 4648 section 5 without padding; the checksum tells a
//! slip of copying apart from a forgery, which the registrar's signature tells.

use data_encoding::BASE64URL_NOPAD;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::codec::{self, DecodeError};
use crate::ids::{ChainId, NodeId};
use crate::ledger::identity::Invite;
use crate::ledger::operation::{ADDRESS_BYTES_MAX, ADDRESSES_MAX};
use crate::members::HandleProof;

/// Version of the text's bytes.
pub const INVITATION_FORMAT: u16 = 1;
/// What the text begins with.
const PREFIX: &str = "ihfs1-";
/// What the text of any version begins with.
const ANY_PREFIX: &str = "ihfs";
const CHECKSUM_SIZE: usize = 4;
/// Most bytes inside: eight longest addresses, the invite and a handle.
const BYTES_MAX: usize = 8 << 10;
/// Most characters of the text.
pub const TEXT_BYTES_MAX: usize = 12 << 10;

/// What an invite's text holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Invitation {
    /// [`INVITATION_FORMAT`].
    pub format: u16,
    /// The chain: hash of the genesis document, which the new device checks it by.
    pub chain: ChainId,
    /// A node of the inviting hospital.
    pub node: NodeId,
    /// Where it can be reached.
    pub addresses: Vec<String>,
    /// The registrar's leave.
    pub invite: Invite,
    /// The handle that the invite commits to.
    pub handle: HandleProof,
}

/// Why text is no invite.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvitationError {
    /// It does not begin as an invite does, or is far too long.
    #[error("this is no invite of IHFS, which begins with {PREFIX:?}")]
    NotAnInvitation,
    /// An invite of a newer program.
    #[error("this invite is of a version that this program does not know")]
    UnknownFormat,
    /// Letters are missing or changed.
    #[error("the invite is cut short or mistyped: copy it whole")]
    Mistyped,
    /// It holds something else than an invite.
    #[error("the invite does not decode")]
    Decode(#[from] DecodeError),
    /// Chain, handle or signature do not fit together, or there are too many addresses.
    #[error("the parts of the invite do not fit together")]
    DoesNotFit,
}

impl Invitation {
    /// The text, to be handed to the new member.
    pub fn to_text(&self) -> String {
        let bytes = codec::encode(self);
        format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&[&checksum(&bytes)[..], &bytes].concat()))
    }

    /// Reads the text; spaces and line breaks in it do not matter.
    ///
    /// # Errors
    /// [`InvitationError`].
    pub fn from_text(text: &str) -> Result<Self, InvitationError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(InvitationError::NotAnInvitation);
        }
        let text: String = text.split_whitespace().collect();
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            let other = text.strip_prefix(ANY_PREFIX).is_some_and(|rest| rest.contains('-'));
            return Err(if other {
                InvitationError::UnknownFormat
            } else {
                InvitationError::NotAnInvitation
            });
        };
        let bytes = BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| InvitationError::Mistyped)?;
        let (sum, bytes) = bytes.split_first_chunk::<CHECKSUM_SIZE>().ok_or(InvitationError::Mistyped)?;
        if *sum != checksum(bytes) {
            return Err(InvitationError::Mistyped);
        }
        let invitation: Self = codec::decode(bytes, BYTES_MAX)?;
        invitation.check()?;
        Ok(invitation)
    }

    fn check(&self) -> Result<(), InvitationError> {
        if self.format != INVITATION_FORMAT {
            return Err(InvitationError::UnknownFormat);
        }
        let fits = self.addresses.len() <= ADDRESSES_MAX
            && self.addresses.iter().all(|address| address.len() <= ADDRESS_BYTES_MAX)
            && self.invite.chain == self.chain
            && self.handle.opens(self.invite.handle)
            && self.invite.verify().is_ok();
        if fits { Ok(()) } else { Err(InvitationError::DoesNotFit) }
    }
}

/// The first bytes of `BLAKE3-derive-key("IHFS 1 invitation", bytes)`.
fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_SIZE] {
    let digest = blake3::derive_key("IHFS 1 invitation", bytes);
    *digest.first_chunk().expect("a digest has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::secret::Secret;
    use crate::crypto::sign::{Signature, SigningKey};
    use crate::ids::{DeviceId, InviteId, MemberId, Time};
    use crate::ledger::identity::Role;
    use crate::members::Handle;

    fn invitation() -> Invitation {
        let key = SigningKey::from_seed(Secret::new([1; 32]));
        let hospital = MemberId::of_key(&key.public());
        let handle = HandleProof { handle: Handle::parse("dr.lee@st-mary").unwrap(), blind: [2; 32] };
        let chain = ChainId::from_bytes([3; 32]);
        let invite = Invite {
            chain,
            id: InviteId::from_bytes([4; 32]),
            registrar: hospital,
            role: Role::Practitioner,
            hospital,
            handle: handle.commitment(),
            expires: Time(5),
            signer: DeviceId::from_bytes(key.public()),
            signature: Signature::from_bytes([0; 64]),
        };
        Invitation {
            format: INVITATION_FORMAT,
            chain,
            node: NodeId::from_bytes([6; 32]),
            addresses: vec!["127.0.0.1:4040".to_owned()],
            invite: invite.signed(&key),
            handle,
        }
    }

    #[test]
    fn an_invite_reads_back_also_from_broken_lines() {
        let text = invitation().to_text();
        let (one, other) = text.split_at(100);
        assert_eq!(Invitation::from_text(&format!(" {one}\n  {other}\n")), Ok(invitation()));
        assert!(text.len() < 1000, "{}", text.len());
    }

    #[test]
    fn bad_text_says_what_is_wrong() {
        let text = invitation().to_text();
        let read = |text: &str| Invitation::from_text(text).unwrap_err();
        assert_eq!(read("hello"), InvitationError::NotAnInvitation);
        assert_eq!(read(&"a".repeat(TEXT_BYTES_MAX + 1)), InvitationError::NotAnInvitation);
        assert_eq!(read(&text.replace("ihfs1-", "ihfs2-")), InvitationError::UnknownFormat);
        assert_eq!(read(&text[..text.len() - 4]), InvitationError::Mistyped);
        let mut other = invitation();
        other.handle.blind = [9; 32];
        assert_eq!(read(&other.to_text()), InvitationError::DoesNotFit);
    }
}
