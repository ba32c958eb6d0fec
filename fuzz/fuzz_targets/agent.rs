//! Messages on the agent's socket.

#![no_main]

use ihfs_cli::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::agent(bytes));
