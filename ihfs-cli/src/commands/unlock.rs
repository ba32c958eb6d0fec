//! `ihfs unlock`: opens the keys once and hands them to the agent.

use serde::Serialize;

use crate::agent::client::Agent;
use crate::args::setup::Unlock;
use crate::config::Config;
use crate::failure::Failure;
use crate::output::Report;
use crate::session;
use crate::until::show_duration;

#[derive(Debug, Serialize)]
struct Unlocked {
    unlocked: bool,
    lock_after_seconds: u64,
    openings: u64,
    #[serde(skip)]
    lock_after: std::time::Duration,
}

/// Starts the agent.
pub(super) fn run(config: &Config, args: Unlock) -> Result<(), Failure> {
    let home = session::home(config)?;
    let keys = session::by_passphrase(config, &home)?;
    let agent = Agent::of(&config.home);
    agent.start(&keys.to_secret_bytes(), args.lock_after)?;
    let status = agent.status()?;
    config.output.tell(&Unlocked {
        unlocked: status.is_some(),
        lock_after_seconds: args.lock_after.as_secs(),
        openings: status.map_or(0, |status| status.openings),
        lock_after: status.map_or(args.lock_after, |status| status.lock_after),
    })
}

impl Report for Unlocked {
    fn human(&self) -> String {
        format!(
            "Unlocked. Locks after {} without a command, or with `ihfs lock`.\n",
            show_duration(self.lock_after)
        )
    }
}
