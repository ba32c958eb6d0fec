//! Headers and blocks.

#![no_main]

use ihfs_core::codec;
use ihfs_core::ledger::block::{BLOCK_BYTES_MAX, Block, HEADER_BYTES_MAX, Header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = codec::decode::<Header>(bytes, HEADER_BYTES_MAX) {
        assert_eq!(codec::encode(&header), bytes);
    }
    if let Ok(block) = codec::decode::<Block>(bytes, BLOCK_BYTES_MAX) {
        assert_eq!(codec::encode(&block), bytes);
    }
});
