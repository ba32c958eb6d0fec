//! What the process gives up before it holds a secret: core dumps, being traced, files that others can read,
//! descriptors that its children would inherit.

use std::os::fd::{BorrowedFd, RawFd};

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
    keep_descriptors_from_children();
}

/// The agent and the node outlive this command: a pipe of its caller that they held would never end.
fn keep_descriptors_from_children() {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers = open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
    for number in numbers.filter(|number| *number > 2).collect::<Vec<_>>() {
        // SAFETY: borrowed for one call; a number that is no longer open gives EBADF.
        #[expect(unsafe_code, reason = "descriptors that were inherited are known by number only")]
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC);
    }
}
