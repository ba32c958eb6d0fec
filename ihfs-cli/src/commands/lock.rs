//! `ihfs lock`: ends the agent; the keys are gone from memory when it returns.

use serde::Serialize;

use crate::agent::client::Agent;
use crate::config::Config;
use crate::failure::Failure;
use crate::output::Report;

#[derive(Debug, Serialize)]
struct Locked {
    locked: bool,
    was_unlocked: bool,
}

/// Ends the agent.
pub(super) fn run(config: &Config) -> Result<(), Failure> {
    let was_unlocked = Agent::of(&config.home).lock()?;
    config.output.tell(&Locked { locked: true, was_unlocked })
}

impl Report for Locked {
    fn human(&self) -> String {
        if self.was_unlocked {
            "Locked: the keys are gone from memory.\n".to_owned()
        } else {
            "It was locked already.\n".to_owned()
        }
    }
}
