//! The opened bytes of a root.

#![no_main]

use ihfs_core::ids::{RecordId, Version};
use ihfs_core::tree::root::Root;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(root) = Root::decode(bytes, RecordId::from_bytes([0x22; 32]), Version(9)) {
        assert_eq!(root.encode().expect("it was decoded"), bytes);
    }
});
