//! The command line of a storage node: what was typed, what is done, how it ends.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = match cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return cli::report_usage(&error, std::env::args_os().any(|word| word == "--json")),
    };
    match cli::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(arguments.command_name(), arguments.is_json()),
    }
}
