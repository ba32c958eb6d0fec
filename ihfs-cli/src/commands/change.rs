//! `ihfs mv · rm · mkdir`: changes of the tree.

use ihfs_client::change::ChangeReport;
use ihfs_core::tree::edit::Overwrite;
use serde::Serialize;

use crate::args::files::{Mkdir, Mv, Rm};
use crate::config::Config;
use crate::failure::Failure;
use crate::location;
use crate::output::Report;
use crate::output::words::{clean, count, size};
use crate::session;

#[derive(Debug, Serialize)]
struct Changed {
    location: String,
    #[serde(flatten)]
    report: ChangeReport,
}

/// `ihfs mv`.
pub(super) fn mv(config: &Config, args: &Mv) -> Result<(), Failure> {
    let (from, to) = (location::parse(&args.from)?, location::parse(&args.to)?);
    let overwrite = if args.force { Overwrite::Replace } else { Overwrite::Refuse };
    let report = session::open(config)?.mv(&from, &to, overwrite)?;
    config.output.tell(&vec![Changed { location: from.to_string(), report }])
}

/// `ihfs rm`.
pub(super) fn rm(config: &Config, args: &Rm) -> Result<(), Failure> {
    let locations: Vec<_> =
        args.locations.iter().map(|typed| location::parse(typed)).collect::<Result<_, _>>()?;
    let client = session::open(config)?;
    let mut changed = Vec::new();
    for location in locations {
        let report = client.rm(&location, args.recursive)?;
        changed.push(Changed { location: location.to_string(), report });
    }
    config.output.tell(&changed)
}

/// `ihfs mkdir`.
pub(super) fn mkdir(config: &Config, args: &Mkdir) -> Result<(), Failure> {
    let locations: Vec<_> =
        args.locations.iter().map(|typed| location::parse(typed)).collect::<Result<_, _>>()?;
    let client = session::open(config)?;
    let mut changed = Vec::new();
    for location in locations {
        let report = client.mkdir(&location, args.parents)?;
        changed.push(Changed { location: location.to_string(), report });
    }
    config.output.tell(&changed)
}

/// Silent but for what somebody could not expect.
impl Report for Vec<Changed> {
    fn human(&self) -> String {
        self.iter().map(Changed::sentence).collect()
    }
}

impl Changed {
    fn sentence(&self) -> String {
        let location = clean(&self.location);
        let mut text = String::new();
        if self.report.copied_files > 0 {
            let (files, bytes) = (count(self.report.copied_files, "file"), size(self.report.copied_bytes));
            text += &format!("{location}: sealed again under other keys: {files}, {bytes}\n");
        }
        if self.report.ended_grants > 0 {
            text += &format!("{location}: {} ended\n", count(self.report.ended_grants, "grant"));
        }
        if self.report.added_grants > 0 {
            let added = count(self.report.added_grants, "grant");
            text += &format!("{location}: {added} added for those who read the new place\n");
        }
        text
    }
}
