//! Deltas: what decodes encodes to the same chunks.

#![no_main]

use ihfs_core::pins::Delta;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(delta) = Delta::decode(bytes, []) {
        let chunks = delta.encode().expect("a decoded delta keeps its limits");
        assert_eq!(chunks.last().expect("a head").bytes, bytes);
    }
});
