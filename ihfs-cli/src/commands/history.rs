//! `ihfs history · restore · prune`: versions.

use ihfs_client::history::{Keep, PruneReport, RestoreReport, VersionReport, VersionState};
use ihfs_core::ids::{Time, Version};

use crate::args::files::{History, Prune, Restore};
use crate::config::Config;
use crate::failure::Failure;
use crate::location;
use crate::output::Report;
use crate::output::table::Table;
use crate::output::words::{count, size};
use crate::session;
use crate::until::show_time;

/// `ihfs history`.
pub(super) fn history(config: &Config, args: &History) -> Result<(), Failure> {
    let location = location::parse(&args.location)?;
    config.output.tell(&session::open(config)?.history(&location)?)
}

/// `ihfs restore`.
pub(super) fn restore(config: &Config, args: &Restore) -> Result<(), Failure> {
    let location = location::parse(&args.location)?;
    config.output.tell(&session::open(config)?.restore(&location, Version(args.version))?)
}

/// `ihfs prune`.
pub(super) fn prune(config: &Config, args: &Prune) -> Result<(), Failure> {
    let location = location::parse(&args.location)?;
    let keep = match (args.keep, args.keep_within) {
        (_, Some(span)) => Keep::Within(span),
        (keep, None) => Keep::Last(keep.unwrap_or(u64::MAX)),
    };
    let question = format!("Drop the older versions of {location} for ever?");
    config.asker.confirm(&question, "--yes")?;
    config.output.tell(&session::open(config)?.prune(&location, keep)?)
}

impl Report for Vec<VersionReport> {
    fn human(&self) -> String {
        let mut table = Table::new(&[">VERSION", "WRITTEN", ">ADDED", ">SIZE", "BY DEVICE", "STATE"]);
        // A record has many versions; a person asks for those in which this very thing changed.
        let changed = self.iter().filter(|version| version.changed);
        for version in changed.clone() {
            table.row([
                version.version.to_string(),
                show_time(Time(version.time)),
                size(version.bytes_added),
                version.size.map_or_else(|| "-".to_owned(), size),
                version.device.chars().take(12).collect(),
                state(version.state).to_owned(),
            ]);
        }
        let unchanged = self.len() - changed.count();
        let others = match unchanged {
            0 => String::new(),
            others => format!("{} of the record left it as it was.\n", count(others as u64, "other version")),
        };
        table.show("Nothing was written there yet.") + &others
    }
}

const fn state(state: VersionState) -> &'static str {
    match state {
        VersionState::Present => "",
        VersionState::Absent => "not there",
        VersionState::Pruned => "pruned",
        VersionState::NoKey => "not readable with your keys",
    }
}

impl Report for RestoreReport {
    fn human(&self) -> String {
        match self.version {
            Some(version) => format!(
                "Version {} is back, as version {version}; {} sent.\n",
                self.restored,
                size(self.sent_bytes)
            ),
            None => format!("It is as it was in version {} already.\n", self.restored),
        }
    }
}

impl Report for PruneReport {
    fn human(&self) -> String {
        if self.version.is_none() {
            return "There was nothing to drop.\n".to_owned();
        }
        format!(
            "{} kept; {} dropped, {} on each node.\n",
            count(self.kept.len() as u64, "version"),
            count(self.chunks_dropped, "chunk"),
            size(self.bytes_freed),
        )
    }
}
