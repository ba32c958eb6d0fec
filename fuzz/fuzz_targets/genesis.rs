//! Genesis documents.

#![no_main]

use ihfs_core::ledger::genesis::Genesis;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(genesis) = Genesis::from_bytes(bytes) {
        assert_eq!(genesis.to_bytes(), bytes);
    }
});
