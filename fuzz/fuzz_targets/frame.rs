//! Frames of every conversation, one behind the other.

#![no_main]

use bytes::Bytes;
use ihfs_net::Conversation;
use ihfs_net::frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let Some(conversation) = Conversation::from_byte(*first) else { return };
    let mut rest = Bytes::copy_from_slice(rest);
    while let Ok(Some((head, message, taken))) = frame::decode(&rest, conversation) {
        assert_eq!(head.encode(), rest[..head.encode().len()]);
        assert_eq!(head.message_bytes(), message.size_bytes());
        assert!(taken > 0 && taken <= rest.len());
        rest = rest.slice(taken..);
    }
});
