//! Backups of custody: the head of a sealed one, and what an opened one holds.

#![no_main]

use ihfs_node::custody::backup::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::sealed(bytes);
    fuzzing::opened(bytes);
});
