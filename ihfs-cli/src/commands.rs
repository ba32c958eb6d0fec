//! One file for each command; here is only which one runs.

mod agent_run;
mod completions;
mod lock;
mod man;
mod solo;

use crate::args::Verb;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;

/// Runs what was asked for.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(config: &Config, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Solo(args) => solo::run(config, args.verb)?,
        Verb::SoloRun => solo::become_node(config)?,
        Verb::Lock => lock::run(config)?,
        Verb::AgentRun(args) => agent_run::run(config, args)?,
        Verb::Completions(args) => completions::run(config, &args)?,
        Verb::Man(args) => man::run(config, &args)?,
        _ => return Err(Failure::NotWired),
    }
    Ok(Exit::Done)
}

/// The verb as it is typed, for messages.
pub(crate) const fn name(verb: &Verb) -> &'static str {
    match verb {
        Verb::Init(_) => "init",
        Verb::Recover(_) => "recover",
        Verb::Solo(_) => "solo",
        Verb::Whoami => "whoami",
        Verb::Device(_) => "device",
        Verb::Unlock(_) => "unlock",
        Verb::Lock => "lock",
        Verb::Put(_) => "put",
        Verb::Ls(_) => "ls",
        Verb::Stat(_) => "stat",
        Verb::Cat(_) => "cat",
        Verb::Get(_) => "get",
        Verb::Mv(_) => "mv",
        Verb::Rm(_) => "rm",
        Verb::Mkdir(_) => "mkdir",
        Verb::History(_) => "history",
        Verb::Restore(_) => "restore",
        Verb::Prune(_) => "prune",
        Verb::Share(_) => "share",
        Verb::Grants(_) => "grants",
        Verb::Received => "received",
        Verb::Revoke(_) => "revoke",
        Verb::Audit(_) => "audit",
        Verb::Completions(_) => "completions",
        Verb::Man(_) => "man",
        Verb::AgentRun(_) => "agent-run",
        Verb::SoloRun => "solo-run",
    }
}
