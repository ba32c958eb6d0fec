//! The bytes of a file, inline or listed.

#![no_main]

use ihfs_core::codec;
use ihfs_core::tree::file::FileContent;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(mut content) = codec::decode::<FileContent>(bytes, bytes.len()) {
        assert_eq!(codec::encode(&content), bytes);
        let _ = (content.size_bytes(), content.extent_count());
        content.for_each_ref(&mut |piece| assert!(codec::encode(piece).len() < bytes.len()));
    }
});
