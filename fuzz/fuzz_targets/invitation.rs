//! Invites as people paste them, and what stands behind their checksum.

#![no_main]

use ihfs_core::codec;
use ihfs_core::invitation::{Invitation, InvitationError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Invitation::from_text(text);
    }
    if let Ok(invitation) = codec::decode::<Invitation>(bytes, bytes.len()) {
        match Invitation::from_text(&invitation.to_text()) {
            Ok(read) => assert_eq!(read, invitation),
            Err(error) => assert_ne!(error, InvitationError::Mistyped),
        }
    }
});
