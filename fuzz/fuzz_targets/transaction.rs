//! Signed transactions.

#![no_main]

use ihfs_core::ledger::transaction::SignedTransaction;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(signed) = SignedTransaction::from_bytes(bytes) {
        assert_eq!(signed.to_bytes(), bytes);
        let _ = signed.open();
    }
});
