//! One file for each command; here is only which one runs.

mod agent_run;
mod audit;
mod cat;
mod change;
mod completions;
mod device;
mod get;
mod grants;
mod history;
mod init;
mod lock;
mod ls;
mod man;
mod put;
mod received;
mod recover;
mod revoke;
mod share;
mod solo;
mod stat;
mod unlock;
mod whoami;

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
        Verb::Init(args) => init::run(config, &args)?,
        Verb::Recover(args) => recover::run(config, &args)?,
        Verb::Solo(args) => solo::run(config, args.verb)?,
        Verb::Whoami => whoami::run(config)?,
        Verb::Device(args) => device::run(config, &args.verb)?,
        Verb::Unlock(args) => unlock::run(config, args)?,
        Verb::Lock => lock::run(config)?,
        Verb::Put(args) => put::run(config, &args)?,
        Verb::Ls(args) => ls::run(config, &args)?,
        Verb::Stat(args) => stat::run(config, &args)?,
        Verb::Cat(args) => cat::run(config, &args)?,
        Verb::Get(args) => get::run(config, &args)?,
        Verb::Mv(args) => change::mv(config, &args)?,
        Verb::Rm(args) => change::rm(config, &args)?,
        Verb::Mkdir(args) => change::mkdir(config, &args)?,
        Verb::History(args) => history::history(config, &args)?,
        Verb::Restore(args) => history::restore(config, &args)?,
        Verb::Prune(args) => history::prune(config, &args)?,
        Verb::Share(args) => share::run(config, &args)?,
        Verb::Grants(args) => grants::run(config, &args)?,
        Verb::Received => received::run(config)?,
        Verb::Revoke(args) => return revoke::run(config, &args),
        Verb::Audit(args) => audit::run(config, &args)?,
        Verb::Completions(args) => completions::run(config, &args)?,
        Verb::Man(args) => man::run(config, &args)?,
        Verb::AgentRun(args) => agent_run::run(config, args)?,
        Verb::SoloRun => solo::become_node(config)?,
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
