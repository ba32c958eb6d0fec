//! What can be typed: every verb, option and argument, and the help that goes with them.
//!
//! Knows no meaning: `config` and the commands give it one.

pub(crate) mod files;
pub(crate) mod setup;
pub(crate) mod sharing;

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueHint};

use crate::exit::EXIT_HELP;
use files::{Cat, Get, History, Ls, Mkdir, Mv, Prune, Put, Restore, Rm, Stat};
use setup::{Completions, Device, Init, Man, Recover, SoloArgs, Unlock};
use sharing::{Audit, Grants, Revoke, Share};

/// Medical records of your own, end-to-end encrypted, on the nodes of hospitals.
///
/// Own paths are written /x; what others share with you is //owner/label/x, in every command.
#[derive(Debug, Parser)]
#[command(name = "ihfs", version, propagate_version = true, after_help = EXIT_HELP, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options that stand before or after the verb.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Folder of this identity [default: ~/.ihfs]
    #[arg(
        long, global = true, env = "IHFS_HOME", value_name = "FOLDER", value_hint = ValueHint::DirPath,
        // An empty one counts as unset: the reader of paths would refuse it.
        value_parser = OsStringValueParser::new().map(PathBuf::from)
    )]
    pub(crate) home: Option<PathBuf>,
    /// Read the passphrase from the first line of FILE
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Read the passphrase from the first line of file descriptor N
    #[arg(long, global = true, value_name = "N")]
    pub(crate) passphrase_fd: Option<i32>,
    /// Print one JSON object or array; never ask anything
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Answer yes to questions of the kind "are you sure"
    #[arg(long, short = 'y', global = true)]
    pub(crate) yes: bool,
    /// Say more about what is done
    #[arg(long, short = 'v', global = true)]
    pub(crate) verbose: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Become a member: make the recovery sheet and this device's keys
    Init(Init),
    /// Get everything back from the recovery sheet alone
    Recover(Recover),
    /// Run the one-node network on this machine
    Solo(SoloArgs),
    /// Show who you are, and your fingerprint words
    Whoami,
    /// List or remove your devices
    Device(Device),
    /// Open the keys once and keep them in memory for the commands that follow
    Unlock(Unlock),
    /// Wipe the keys from memory
    Lock,
    /// Store files, folders or standard input
    Put(Put),
    /// List a folder
    Ls(Ls),
    /// Show everything known of a file or folder
    Stat(Stat),
    /// Write files to standard output
    Cat(Cat),
    /// Bring files or folders here
    Get(Get),
    /// Rename or move
    Mv(Mv),
    /// Remove
    Rm(Rm),
    /// Make folders
    Mkdir(Mkdir),
    /// List the versions of a file or folder
    History(History),
    /// Bring an old version back
    Restore(Restore),
    /// Drop old versions for ever
    Prune(Prune),
    /// Let somebody read, or write, a file or folder
    Share(Share),
    /// List what you gave: to whom, until when, last opened
    Grants(Grants),
    /// List what others gave you; opens nothing
    Received,
    /// Take access back
    Revoke(Revoke),
    /// Show who opened what, proved complete by the ledger
    Audit(Audit),
    /// Print the script that completes words in a shell
    Completions(Completions),
    /// Print or write the manual pages
    Man(Man),
    /// Hold the keys in memory (started by unlock)
    #[command(name = "agent-run", hide = true)]
    AgentRun(Unlock),
    /// Become the node of the solo network (started by solo)
    #[command(name = "solo-run", hide = true)]
    SoloRun,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_verb() {
        for line in [
            ["ihfs", "--home", "/h", "--json", "--yes", "--passphrase-file", "/p", "whoami"],
            ["ihfs", "whoami", "--home", "/h", "--json", "--yes", "--passphrase-file", "/p"],
        ] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert_eq!(cli.global.home, Some("/h".into()));
            assert_eq!(cli.global.passphrase_file, Some("/p".into()));
            assert!(cli.global.json && cli.global.yes, "{line:?}");
        }
    }

    #[test]
    fn an_empty_home_counts_as_unset() {
        let cli = Cli::try_parse_from(["ihfs", "whoami", "--home", ""]).unwrap();
        assert_eq!(crate::config::home(cli.global.home).ok(), crate::config::home(None).ok());
    }

    #[test]
    fn the_last_argument_of_put_is_the_location() {
        let cli = Cli::try_parse_from(["ihfs", "put", "a", "b", "/x"]).unwrap();
        let Verb::Put(put) = cli.verb else { panic!("another verb") };
        assert_eq!((put.sources.len(), put.location.to_str()), (2, Some("/x")));
        assert!(Cli::try_parse_from(["ihfs", "put", "/x"]).is_err());
    }

    #[test]
    fn no_option_takes_a_secret() {
        let command = Cli::command();
        let verbs = std::iter::once(&command).chain(command.get_subcommands());
        for argument in verbs.flat_map(clap::Command::get_arguments) {
            assert!(!["passphrase", "password", "words", "seed"].contains(&argument.get_id().as_str()));
        }
    }
}
