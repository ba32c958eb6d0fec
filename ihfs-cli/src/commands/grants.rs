//! `ihfs grants`: what one gave, to whom, until when, last opened, what is readable.

use ihfs_client::audit::{GivenGrant, GrantState};
use ihfs_client::location::Location;
use ihfs_core::ids::Time;

use crate::args::sharing::Grants;
use crate::config::Config;
use crate::failure::Failure;
use crate::location;
use crate::output::Report;
use crate::output::table::Table;
use crate::session;
use crate::until::show_time;

/// Lists grants.
pub(super) fn run(config: &Config, args: &Grants) -> Result<(), Failure> {
    let location = args.location.as_deref().map(location::parse).transpose()?;
    let mut grants = session::open(config)?.grants()?;
    grants.retain(|grant| location.as_ref().is_none_or(|location| is_below(grant.path.as_deref(), location)));
    config.output.tell(&grants)
}

/// Whether a record stands at the location or below it.
fn is_below(path: Option<&str>, location: &Location) -> bool {
    let top = location.to_string();
    let top = top.trim_end_matches('/');
    let rest = path.and_then(|path| path.strip_prefix(top));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Report for Vec<GivenGrant> {
    fn human(&self) -> String {
        let mut table =
            Table::new(&["READER", "PATH", "LABEL", "FOR", "UNTIL", "STATE", "LAST OPENED", "READABLE"]);
        for grant in self {
            table.row([
                grant.reader.clone(),
                grant.path.clone().unwrap_or_else(|| "(removed)".to_owned()),
                grant.label.clone(),
                purpose(grant),
                grant.until.map_or_else(|| "revoked".to_owned(), |time| show_time(Time(time))),
                state(grant.state).to_owned(),
                grant.last_opened.map_or_else(|| "never".to_owned(), |time| show_time(Time(time))),
                readable(grant),
            ]);
        }
        table.show("You gave nothing to anybody.")
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_beside_the_location_is_not_below_it() {
        let at = |text: &str| Location::parse(text.as_bytes()).unwrap();
        assert!(is_below(Some("/ct/a"), &at("/ct")));
        assert!(is_below(Some("/ct"), &at("/ct/")));
        assert!(is_below(Some("/ct"), &at("/")));
        assert!(!is_below(Some("/ct2"), &at("/ct")));
        assert!(!is_below(None, &at("/ct")));
    }
}
