//! Headers of every conversation.

#![no_main]

use bytes::Bytes;
use ihfs_proto::{MESSAGE_BYTES_MAX, chunk, decode, join, key, ledger, status};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    let _ = decode::<chunk::Request>(bytes.clone(), MESSAGE_BYTES_MAX);
    let _ = decode::<chunk::Response>(bytes.clone(), MESSAGE_BYTES_MAX);
    let _ = decode::<join::Request>(bytes.clone(), MESSAGE_BYTES_MAX);
    let _ = decode::<join::Response>(bytes.clone(), MESSAGE_BYTES_MAX);
    let _ = decode::<key::Request>(bytes.clone(), MESSAGE_BYTES_MAX);
    let _ = decode::<key::Response>(bytes.clone(), MESSAGE_BYTES_MAX);
    let _ = decode::<ledger::Request>(bytes.clone(), MESSAGE_BYTES_MAX);
    let _ = decode::<ledger::Response>(bytes.clone(), MESSAGE_BYTES_MAX);
    let _ = decode::<status::Request>(bytes.clone(), MESSAGE_BYTES_MAX);
    let _ = decode::<status::Response>(bytes, MESSAGE_BYTES_MAX);
});
