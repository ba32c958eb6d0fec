//! A stored chunk that is opened with a hostile ref, as a root, and by ranges.

#![no_main]

use ihfs_core::codec;
use ihfs_core::crypto::derive::Seed;
use ihfs_core::ids::{ChunkId, Digest, Epoch, Generation, RecordId};
use ihfs_core::sealed::{Ref, SealedChunk, Sealer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (at, bytes) = bytes.split_at(bytes.len().min(90));
    let chunk = SealedChunk::verify(ChunkId::of(bytes), bytes.to_vec()).expect("its own address");
    let record = RecordId::from_bytes([1; 32]);
    let key =
        Seed::from_random([2; 32]).vault_secret(Generation(0)).record_key(record, Epoch(0), Digest::of(b""));
    if let Ok(key) = chunk.root_key(Sealer::new(record, Epoch(0), &key).secrets()) {
        let _ = chunk.open_root(&key);
    }
    for length in 0..=at.len() {
        if let Ok(at) = codec::decode::<Ref>(&at[..length], 90) {
            let _ = chunk.open(&at);
            let _ = chunk.open_range(&at, at.size as usize / 2, 1);
        }
    }
});
