//! The address book: another device of the same person wrote it.

#![no_main]

use ihfs_client::book::Book;
use ihfs_core::codec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(book) = codec::decode::<Book>(bytes, bytes.len()) {
        assert_eq!(codec::encode(&book), bytes);
    }
});
