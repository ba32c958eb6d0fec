//! Proofs of the state: none leads to a root of someone else.

#![no_main]

use ihfs_core::ids::Digest;
use ihfs_core::ledger::proof::StateProof;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(proof) = StateProof::from_bytes(bytes) {
        assert_eq!(proof.to_bytes(), bytes);
        let root = Digest::of(b"another state");
        assert!(proof.verify(root, b"key", None).is_err());
        assert!(proof.verify(root, b"key", Some(b"value")).is_err());
    }
});
