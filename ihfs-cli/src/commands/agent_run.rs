//! `ihfs agent-run`: the process behind `unlock`; takes the keys on standard input.

use rustix::process::setsid;

use crate::agent::server::serve;
use crate::args::setup::Unlock;
use crate::config::Config;
use crate::failure::Failure;

/// Leaves the session of the terminal and keeps the keys until it locks.
pub(super) fn run(config: &Config, args: Unlock) -> Result<(), Failure> {
    // Fails only for a process that leads a group already, and then it has left.
    let _ = setsid();
    Ok(serve(&config.home, args.lock_after, std::io::stdin().lock(), &mut std::io::stdout().lock())?)
}
