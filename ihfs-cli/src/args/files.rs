//! Words of the commands about files and folders.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use crate::complete::{locations, sources};
use crate::until::parse_duration;

/// `ihfs put`.
///
/// A folder becomes LOCATION, or fills it: putting it again uploads nothing. A file goes into LOCATION if that is a
/// folder. With a slash behind LOCATION, or with several sources, everything goes into it under its own name. All
/// sources become one new version, or none. A file never takes a folder's place, nor a folder a file's.
#[derive(Debug, Args)]
pub(crate) struct Put {
    /// Files and folders here; "-" is standard input
    #[arg(required = true, value_name = "SOURCE", add = ArgValueCompleter::new(sources))]
    pub(crate) sources: Vec<PathBuf>,
    /// Where they go: a folder becomes it or fills it, a file goes into it; with a slash behind it all goes into it
    #[arg(value_name = "LOCATION", add = ArgValueCompleter::new(locations))]
    pub(crate) location: OsString,
}

/// `ihfs ls`.
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Folder or file
    #[arg(default_value = "/", value_name = "LOCATION", add = ArgValueCompleter::new(locations))]
    pub(crate) location: OsString,
    /// One line each, with kind, mode, size and time
    #[arg(short, long)]
    pub(crate) long: bool,
}

/// `ihfs stat`.
#[derive(Debug, Args)]
pub(crate) struct Stat {
    /// File or folder
    #[arg(value_name = "LOCATION", add = ArgValueCompleter::new(locations))]
    pub(crate) location: OsString,
}

/// `ihfs cat`.
#[derive(Debug, Args)]
pub(crate) struct Cat {
    /// Files
    #[arg(required = true, value_name = "LOCATION", add = ArgValueCompleter::new(locations))]
    pub(crate) locations: Vec<OsString>,
}

/// `ihfs get`.
///
/// A folder becomes TARGET, or fills it: getting it again goes on where it stopped. A file goes into TARGET if that is
/// a folder. With a slash behind TARGET, and in ".", it stands under its own name.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// File or folder
    #[arg(value_name = "LOCATION", add = ArgValueCompleter::new(locations))]
    pub(crate) location: OsString,
    /// Where it goes: a folder becomes it or fills it, a file goes into it; with a slash behind it all goes into it
    #[arg(default_value = ".", value_name = "TARGET", value_hint = ValueHint::AnyPath)]
    pub(crate) target: PathBuf,
    /// Replace files that stand there and differ
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// `ihfs mv`.
#[derive(Debug, Args)]
pub(crate) struct Mv {
    /// What moves
    #[arg(value_name = "FROM", add = ArgValueCompleter::new(locations))]
    pub(crate) from: OsString,
    /// Its new place: into it if it is a folder, else as it
    #[arg(value_name = "TO", add = ArgValueCompleter::new(locations))]
    pub(crate) to: OsString,
    /// Replace a file that stands there; its older versions stay
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// `ihfs rm`.
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Files and folders
    #[arg(required = true, value_name = "LOCATION", add = ArgValueCompleter::new(locations))]
    pub(crate) locations: Vec<OsString>,
    /// Folders with everything in them
    #[arg(short, long)]
    pub(crate) recursive: bool,
}

/// `ihfs mkdir`.
#[derive(Debug, Args)]
pub(crate) struct Mkdir {
    /// Folders
    #[arg(required = true, value_name = "LOCATION", add = ArgValueCompleter::new(locations))]
    pub(crate) locations: Vec<OsString>,
    /// The folders above them too
    #[arg(short, long)]
    pub(crate) parents: bool,
}

/// `ihfs history`.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// File or folder
    #[arg(default_value = "/", value_name = "LOCATION", add = ArgValueCompleter::new(locations))]
    pub(crate) location: OsString,
}

/// `ihfs restore`.
#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
pub(crate) struct Restore {
    /// File or folder
    #[arg(value_name = "LOCATION", add = ArgValueCompleter::new(locations))]
    pub(crate) location: OsString,
    /// The version to bring back, as `history` numbers them
    #[arg(id = "old-version", long = "version", value_name = "N")]
    pub(crate) version: u64,
}

/// `ihfs prune`.
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Record whose old versions go
    #[arg(default_value = "/", value_name = "LOCATION", add = ArgValueCompleter::new(locations))]
    pub(crate) location: OsString,
    /// How many of the newest versions stay
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    #[arg(required_unless_present = "keep_within")]
    pub(crate) keep: Option<u64>,
    /// Versions that are not older stay: 30d, 1y
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "keep")]
    pub(crate) keep_within: Option<Duration>,
}
