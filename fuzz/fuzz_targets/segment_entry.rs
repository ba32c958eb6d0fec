//! Entries of a store segment: none passes without the key.

#![no_main]

use ihfs_node::store::segment::{Place, SegmentKey, decode_entry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let key = SegmentKey::from_bytes([7; 32]);
    let _ = decode_entry(&key, Place { segment: 1, offset: 4096 }, bytes);
});
