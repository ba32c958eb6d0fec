//! Words of the commands that set up identities, devices and the network of one node.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};

use crate::until::parse_duration;

/// `ihfs init`.
#[derive(Debug, Args)]
#[group(id = "network", required = true, multiple = false)]
pub(crate) struct InitNetwork {
    /// Set up a network of one node on this machine: it holds the only copy
    #[arg(long)]
    pub(crate) solo: bool,
    /// Join the network of a hospital: a file with the invite, "-" for standard input, or its text
    #[arg(long, value_name = "INVITE", value_hint = ValueHint::FilePath)]
    pub(crate) invite: Option<OsString>,
}

/// `ihfs init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    #[command(flatten)]
    pub(crate) network: InitNetwork,
    /// Your name in the solo network, as in ann@home
    #[arg(long = "as", value_name = "NAME", requires = "solo", default_value = "me")]
    pub(crate) name: String,
    /// Name of the solo network's one hospital
    #[arg(long, value_name = "NAME", requires = "solo", default_value = "home")]
    pub(crate) hospital: String,
    /// Write the recovery sheet to FILE too (only you can read it); print it, then destroy the file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) sheet: Option<PathBuf>,
}

/// Where a recovery sheet is read from.
#[derive(Debug, Args)]
pub(crate) struct SheetSource {
    /// Read the recovery sheet from FILE
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) sheet: Option<PathBuf>,
    /// Read the recovery sheet from file descriptor N
    #[arg(long, value_name = "N", conflicts_with = "sheet")]
    pub(crate) sheet_fd: Option<i32>,
}

/// `ihfs recover`.
#[derive(Debug, Args)]
pub(crate) struct Recover {
    #[command(flatten)]
    pub(crate) sheet: SheetSource,
    /// Try the sheet without changing anything
    #[arg(long)]
    pub(crate) drill: bool,
}

/// `ihfs device`.
#[derive(Debug, Args)]
pub(crate) struct Device {
    #[command(subcommand)]
    pub(crate) verb: DeviceVerb,
}

/// `ihfs device …`.
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceVerb {
    /// List your devices
    List,
    /// Remove a device: asks for the 24 words and renews every key
    Remove {
        /// First digits of the device's id, as `device list` shows it
        device: String,
        #[command(flatten)]
        sheet: SheetSource,
    },
}

/// `ihfs solo`.
#[derive(Debug, Args)]
pub(crate) struct SoloArgs {
    #[command(subcommand)]
    pub(crate) verb: SoloVerb,
}

/// `ihfs solo …`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum SoloVerb {
    /// Start the node
    Start {
        /// Stay in the foreground, for supervisors
        #[arg(long)]
        foreground: bool,
    },
    /// Stop the node and wait until it is gone
    Stop,
    /// Say whether the node runs, and where
    Status,
}

/// `ihfs unlock`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Unlock {
    /// Lock by itself after so long without a command
    #[arg(long, value_name = "TIME", default_value = "30min", value_parser = parse_duration)]
    pub(crate) lock_after: Duration,
}

/// `ihfs completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_parser = ["bash", "zsh", "fish", "elvish", "powershell"])]
    pub(crate) shell: String,
}

/// `ihfs man`.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write one page for each command into FOLDER
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
}
