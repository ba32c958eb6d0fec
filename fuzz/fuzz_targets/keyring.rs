//! Keyrings: the head of a sealed one, and the plain bytes that an agent holds.

#![no_main]

use ihfs_core::crypto::keyring::Keyring;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Behind a whole head comes Argon2id, which takes longer than all else together.
    let _ = Keyring::open(&bytes[..bytes.len().min(23)], b"");
    if let Ok(keyring) = Keyring::from_secret_bytes(bytes) {
        assert_eq!(keyring.to_secret_bytes().as_slice(), bytes);
    }
});
