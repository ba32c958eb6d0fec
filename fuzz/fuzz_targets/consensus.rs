//! Messages among validators and records of the consensus log.

#![no_main]

use ihfs_node::consensus::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::message(bytes);
    fuzzing::wal_record(bytes);
});
