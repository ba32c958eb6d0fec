//! Any file is cut into pieces that cover it without a gap.

#![no_main]

use ihfs_core::cut::{PIECE_BYTES_MAX, cut};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(plan) = cut(bytes);
    let mut end = 0;
    for piece in plan.pieces() {
        assert_eq!(piece.start, end);
        assert!(piece.length > 0 && u64::from(piece.length) <= PIECE_BYTES_MAX);
        end += u64::from(piece.length);
    }
    assert_eq!(end, bytes.len() as u64);
});
