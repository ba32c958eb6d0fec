//! The text of an invitation: everything that a new member's device needs to join.
//!
//! `ihfs1-` and base64url of `DAG-CBOR ‖ first 4 bytes of its BLAKE3`: a person copies it, a typing error is
//! told as one. It holds a one-time token; whoever has it can register under its handle.

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::codec::{self, DecodeError};
use crate::ids::{ChainId, NodeId};
use crate::ledger::identity::Invite;
use crate::members::HandleProof;

/// What the text begins with; the digit is its version.
const PREFIX: &str = "ihfs1-";
/// Most bytes behind the prefix, decoded.
const INVITATION_BYTES_MAX: usize = 4096;
const CHECKSUM_SIZE: usize = 4;

/// An invitation to a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Invitation {
    /// The network: fingerprint of its genesis document.
    pub chain: ChainId,
    /// A node that redeems it; any other does too.
    pub node: NodeId,
    /// Where that node is: `host:port`.
    pub addresses: Vec<String>,
    /// What the ledger checks.
    pub invite: Invite,
    /// The handle that the invite commits to.
    pub handle: HandleProof,
}

/// Why text is no invitation.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvitationError {
    /// It does not begin like one.
    #[error("an invitation begins with {PREFIX}")]
    NotAnInvitation,
    /// It is of a newer version.
    #[error("the invitation is of a newer version of IHFS")]
    NewerVersion,
    /// A letter is wrong or missing.
    #[error("the invitation was not copied whole")]
    Mistyped,
    /// Its bytes do not hold one.
    #[error("the invitation does not decode")]
    Decode(#[from] DecodeError),
    /// Its parts do not belong together.
    #[error("the invitation's parts do not belong together")]
    Inconsistent,
}

impl Invitation {
    /// The text.
    pub fn to_text(&self) -> String {
        let mut bytes = codec::encode(self);
        let checksum = *blake3::hash(&bytes).as_bytes();
        bytes.extend_from_slice(&checksum[..CHECKSUM_SIZE]);
        format!("{PREFIX}{}", data_encoding::BASE64URL_NOPAD.encode(&bytes))
    }

    /// Reads the text; white space in it does not matter.
    ///
    /// # Errors
    /// [`InvitationError`].
    pub fn from_text(text: &str) -> Result<Self, InvitationError> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let Some(body) = text.strip_prefix(PREFIX) else {
            let newer = text.strip_prefix("ihfs").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            return Err(if newer { InvitationError::NewerVersion } else { InvitationError::NotAnInvitation });
        };
        let bytes = data_encoding::BASE64URL_NOPAD
            .decode(body.as_bytes())
            .map_err(|_| InvitationError::Mistyped)?;
        let (bytes, checksum) =
            bytes.split_last_chunk::<CHECKSUM_SIZE>().ok_or(InvitationError::Mistyped)?;
        if blake3::hash(bytes).as_bytes()[..CHECKSUM_SIZE] != checksum[..] {
            return Err(InvitationError::Mistyped);
        }
        let invitation: Self = codec::decode(bytes, INVITATION_BYTES_MAX)?;
        let fits = invitation.invite.chain == invitation.chain
            && invitation.handle.opens(invitation.invite.handle)
            && invitation.invite.verify().is_ok();
        if fits { Ok(invitation) } else { Err(InvitationError::Inconsistent) }
    }
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
        let handle = HandleProof { handle: Handle::parse("ann@st-mary").unwrap(), blind: [1; 32] };
        let chain = ChainId::from_bytes([2; 32]);
        let invite = Invite {
            chain,
            id: InviteId::from_bytes([3; 32]),
            registrar: MemberId::from_bytes([4; 32]),
            role: Role::Patient,
            hospital: MemberId::from_bytes([4; 32]),
            handle: handle.commitment(),
            expires: Time(5),
            signer: DeviceId::from_bytes([0; 32]),
            signature: Signature::from_bytes([0; 64]),
        }
        .signed(&SigningKey::from_seed(Secret::new([6; 32])));
        let addresses = vec!["127.0.0.1:4001".to_owned()];
        Invitation { chain, node: NodeId::from_bytes([7; 32]), addresses, invite, handle }
    }

    #[test]
    fn an_invitation_comes_back_from_its_text_also_when_it_was_wrapped() {
        let text = invitation().to_text();
        let (first, second) = text.split_at(100);
        assert_eq!(Invitation::from_text(&format!(" {first}\n  {second}\n")), Ok(invitation()));
    }

    #[test]
    fn a_letter_too_few_or_too_many_is_told() {
        let text = invitation().to_text();
        assert_eq!(Invitation::from_text(&text[..text.len() - 1]), Err(InvitationError::Mistyped));
        let other = text.replacen(&text[20..21], if &text[20..21] == "A" { "B" } else { "A" }, 1);
        assert!(Invitation::from_text(&other).is_err());
        assert_eq!(Invitation::from_text("hello"), Err(InvitationError::NotAnInvitation));
        assert_eq!(Invitation::from_text("ihfs2-x"), Err(InvitationError::NewerVersion));
    }

    #[test]
    fn an_invitation_whose_handle_is_not_the_invites_is_refused() {
        let mut forged = invitation();
        forged.handle.blind = [9; 32];
        assert_eq!(Invitation::from_text(&forged.to_text()), Err(InvitationError::Inconsistent));
    }
}
