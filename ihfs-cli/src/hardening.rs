//! What the process gives up before it holds a secret: core dumps, being traced, files that others can read.

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask};

/// Hardens this process. A kernel that refuses a step leaves the others in force.
pub(crate) fn harden() {
    // A core dump would hold keys and plaintext.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, none);
    // Also keeps other processes of the same user from attaching to read memory.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    umask(Mode::RWXG | Mode::RWXO);
}
