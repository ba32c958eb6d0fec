//! Words of the commands about sharing.

use std::ffi::OsString;

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use ihfs_core::ledger::operation::GrantPurpose;
use ihfs_core::members::Handle;

use crate::complete::{locations, members};
use crate::until::Until;

/// What a record is shared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// Treating you
    Treatment,
    /// Dispensing medicine
    Dispensing,
    /// A study
    Research,
    /// Billing and other administration
    Administration,
    /// A review of how records were handled
    Audit,
    /// At your wish
    Personal,
}

impl From<Purpose> for GrantPurpose {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Treatment => Self::Treatment,
            Purpose::Dispensing => Self::Dispensing,
            Purpose::Research => Self::Research,
            Purpose::Administration => Self::Administration,
            Purpose::Audit => Self::Audit,
            Purpose::Personal => Self::Personal,
        }
    }
}

/// `ihfs share`.
#[derive(Debug, Args)]
pub(crate) struct Share {
    /// File or folder
    #[arg(value_name = "LOCATION", add = ArgValueCompleter::new(locations))]
    pub(crate) location: OsString,
    /// With whom: name@hospital
    #[arg(value_name = "MEMBER", add = ArgValueCompleter::new(members))]
    pub(crate) reader: Handle,
    /// When it ends: 12h, 30d, 6w, 2026-12-31, or never
    #[arg(long, value_name = "WHEN", default_value = "30d")]
    pub(crate) until: Until,
    /// What for
    #[arg(long, value_enum, default_value_t = Purpose::Treatment)]
    pub(crate) purpose: Purpose,
    /// Let the reader add new versions; old ones stay
    #[arg(long, conflicts_with = "snapshot")]
    pub(crate) write: bool,
    /// The newest version alone, not those before and after it
    #[arg(long)]
    pub(crate) snapshot: bool,
    /// Not the versions before this one
    #[arg(long, conflicts_with = "snapshot")]
    pub(crate) from_now: bool,
    /// What the reader sees it as: //you/LABEL [default: the last name of LOCATION]
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// The reader's six fingerprint words, checked instead of asked about
    #[arg(long, value_name = "WORDS")]
    pub(crate) fingerprint: Option<String>,
}

/// `ihfs grants`.
#[derive(Debug, Args)]
pub(crate) struct Grants {
    /// Those by which it can be read, also as a part of something wider
    #[arg(value_name = "LOCATION", add = ArgValueCompleter::new(locations))]
    pub(crate) location: Option<OsString>,
}

/// `ihfs revoke`.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The file or folder that was shared
    #[arg(value_name = "LOCATION", required_unless_present = "grant", add = ArgValueCompleter::new(locations))]
    pub(crate) location: Option<OsString>,
    /// From whom
    #[arg(value_name = "MEMBER", required_unless_present = "grant", add = ArgValueCompleter::new(members))]
    pub(crate) reader: Option<Handle>,
    /// One grant, by the first digits of its id as `ihfs grants` shows it, wherever its file or folder is now
    #[arg(long, value_name = "ID", conflicts_with_all = ["location", "reader"])]
    pub(crate) grant: Option<String>,
}

/// `ihfs audit`.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// Those by which it could be read, also as a part of something wider
    #[arg(value_name = "LOCATION", add = ArgValueCompleter::new(locations))]
    pub(crate) location: Option<OsString>,
}
