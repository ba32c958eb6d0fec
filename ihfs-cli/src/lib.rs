//! The command `ihfs`: args → config → commands → output, errors through `message` to an exit code.
//!
//! Holds no rules and no keys of its own: `ihfs-client` does the work, this crate asks and tells.

mod agent;
mod args;
mod ask;
mod commands;
mod complete;
mod config;
mod exit;
mod failure;
pub mod fuzzing;
mod hardening;
mod home_lock;
mod interrupt;
mod location;
mod message;
mod output;
mod passphrase;
mod progress;
mod session;
mod sheet;
mod solo;
mod until;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use clap_complete::CompleteEnv;
use ihfs_client::home::Home;

use args::Cli;
use config::Config;
pub use exit::Exit;

/// Variable by which a shell asks for completions.
const COMPLETE_VARIABLE: &str = "IHFS_COMPLETE";

/// Runs `ihfs` with the arguments and the environment of this process.
pub fn main() -> ExitCode {
    hardening::harden();
    // A completion that fails must not disturb what is being typed.
    match CompleteEnv::with_factory(Cli::command)
        .var(COMPLETE_VARIABLE)
        .try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref())
    {
        Ok(false) => parse_and_run().into(),
        Ok(true) => Exit::Done.into(),
        Err(_) => Exit::Error.into(),
    }
}

fn parse_and_run() -> Exit {
    match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(error) => output::tell_usage(&error, std::env::args_os().any(|word| word == "--json")),
    }
}

fn run(cli: Cli) -> Exit {
    let verb = commands::name(&cli.verb);
    let told_in_json = cli.global.json;
    let config = match Config::new(cli.global) {
        Ok(config) => config,
        Err(failure) => return output::tell_failure(verb, &failure, told_in_json, None),
    };
    match commands::run(&config, cli.verb) {
        Ok(exit) => exit,
        Err(failure) => {
            let network = Home::at(&config.home).network().and_then(|file| file.parse()).ok();
            output::tell_failure(verb, &failure, told_in_json, network.as_ref())
        }
    }
}
