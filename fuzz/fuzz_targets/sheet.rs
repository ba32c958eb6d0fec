//! Recovery sheets, and moments, as people type and read them.

#![no_main]

use ihfs_cli::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    fuzzing::sheet(text);
    fuzzing::until(text);
    if let Some(first) = text.as_bytes().first_chunk() {
        fuzzing::moment(u64::from_be_bytes(*first));
    }
});
