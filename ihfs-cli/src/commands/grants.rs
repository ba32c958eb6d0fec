//! `ihfs grants`: what one gave, to whom, until when, last opened, what is readable.

use ihfs_client::audit::{GivenGrant, GrantState};
use ihfs_core::ids::Time;

use crate::args::sharing::Grants;
use crate::config::Config;
use crate::failure::Failure;
use crate::location;
use crate::output::Report;
use crate::output::table::Table;
use crate::session;
use crate::until::show_time;

/// Digits of a grant's id that are shown: enough to tell a member's grants apart.
pub(super) const GRANT_DIGITS: usize = 8;

/// Lists grants.
pub(super) fn run(config: &Config, args: &Grants) -> Result<(), Failure> {
    let location = args.location.as_deref().map(location::parse).transpose()?;
    let client = session::open(config)?;
    let grants = match &location {
        None => client.grants()?,
        Some(location) => client.grants_on(location)?,
    };
    config.output.tell(&grants)
}

impl Report for Vec<GivenGrant> {
    fn human(&self) -> String {
        let mut table = Table::new(&[
            "GRANT",
            "READER",
            "PATH",
            "LABEL",
            "FOR",
            "UNTIL",
            "STATE",
            "LAST OPENED",
            "READABLE",
        ]);
        for grant in self {
            table.row([
                grant.grant.chars().take(GRANT_DIGITS).collect(),
                grant.reader.clone(),
                record(grant.path.as_deref(), grant.wider),
                grant.label.clone(),
                purpose(grant),
                grant.until.map_or_else(|| "revoked".to_owned(), |time| show_time(Time(time))),
                state(grant.state).to_owned(),
                grant.last_opened.map_or_else(|| "never".to_owned(), |time| show_time(Time(time))),
                readable(grant),
            ]);
        }
        table.show("Nobody was given anything here.")
    }
}

/// Where a record is; a wider one than was asked for is marked.
pub(super) fn record(path: Option<&str>, is_wider: bool) -> String {
    let path = path.unwrap_or("(removed)");
    if is_wider { format!("by {path}") } else { path.to_owned() }
}

fn purpose(grant: &GivenGrant) -> String {
    let write = if grant.write { ", may write" } else { "" };
    format!("{}{write}", format!("{:?}", grant.purpose).to_lowercase())
}

fn readable(grant: &GivenGrant) -> String {
    match (grant.snapshot, grant.readable) {
        (Some(version), _) => format!("version {version} alone"),
        (None, Some(version)) => format!("up to version {version}"),
        (None, None) => "nothing yet".to_owned(),
    }
}

const fn state(state: GrantState) -> &'static str {
    match state {
        GrantState::Live => "live",
        GrantState::NotYet => "not yet",
        GrantState::Expired => "expired",
        GrantState::Revoked => "revoked",
    }
}
