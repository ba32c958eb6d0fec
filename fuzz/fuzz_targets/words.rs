//! Recovery words as people type them.

#![no_main]

use ihfs_core::crypto::derive::Seed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(seed) = Seed::from_words(text) {
        assert!(Seed::from_words(&seed.to_words()).is_ok());
    }
});
