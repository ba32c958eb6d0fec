//! The opened bytes of a page of a folder or of the nested records.

#![no_main]

use ihfs_core::codec;
use ihfs_core::sealed::PAGE_BYTES_MAX;
use ihfs_core::tree::entry::Entry;
use ihfs_core::tree::file::Extent;
use ihfs_core::tree::pages::SequencePage;
use ihfs_core::tree::root::NestedVersion;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(page) = codec::decode::<SequencePage<Entry>>(bytes, PAGE_BYTES_MAX) {
        assert_eq!(codec::encode(&page), bytes);
    }
    if let Ok(page) = codec::decode::<SequencePage<Extent>>(bytes, PAGE_BYTES_MAX) {
        assert_eq!(codec::encode(&page), bytes);
    }
    if let Ok(page) = codec::decode::<SequencePage<NestedVersion>>(bytes, PAGE_BYTES_MAX) {
        assert_eq!(codec::encode(&page), bytes);
    }
});
