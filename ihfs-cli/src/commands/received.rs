//! `ihfs received`: what others gave; listing it opens nothing.

use ihfs_client::received::Received;
use ihfs_core::ids::Time;
use serde::Serialize;

use crate::config::Config;
use crate::failure::Failure;
use crate::output::Report;
use crate::output::table::Table;
use crate::session;
use crate::until::show_time;

#[derive(Debug, Serialize)]
struct ReceivedReport {
    /// `//owner/label`; none when no custodian gave the note.
    location: Option<String>,
    owner: Option<String>,
    label: Option<String>,
    grant: String,
    record: String,
    purpose: String,
    write: bool,
    snapshot: Option<u64>,
    /// Milliseconds since 1970.
    given: u64,
    until: Option<u64>,
    last_opened: Option<u64>,
}

/// Lists what was received.
pub(super) fn run(config: &Config) -> Result<(), Failure> {
    let received = session::open(config)?.received()?;
    config.output.tell(&received.into_iter().map(ReceivedReport::from).collect::<Vec<_>>())
}

impl From<Received> for ReceivedReport {
    fn from(received: Received) -> Self {
        let conditions = &received.entry.conditions;
        let owner = received.owner.as_ref().map(ToString::to_string);
        let place = owner.as_ref().zip(received.label.as_ref());
        Self {
            location: place.map(|(owner, label)| format!("//{owner}/{label}")),
            grant: received.grant.to_string(),
            record: conditions.record.to_string(),
            purpose: format!("{:?}", conditions.purpose).to_lowercase(),
            write: conditions.write,
            snapshot: conditions.snapshot.map(|version| version.0),
            given: received.entry.time.0,
            until: conditions.expires.map(|time| time.0),
            last_opened: received.entry.opened.map(|opened| opened.time.0),
            owner,
            label: received.label,
        }
    }
}

impl Report for Vec<ReceivedReport> {
    fn human(&self) -> String {
        let mut table = Table::new(&["LOCATION", "FOR", "MAY", "UNTIL"]);
        for grant in self {
            let may = match (grant.write, grant.snapshot) {
                (true, _) => "read and write".to_owned(),
                (false, Some(version)) => format!("read version {version}"),
                (false, None) => "read".to_owned(),
            };
            table.row([
                grant
                    .location
                    .clone()
                    .unwrap_or_else(|| format!("(custodians away) {}", &grant.record[..12])),
                grant.purpose.clone(),
                may,
                grant.until.map_or_else(|| "revoked".to_owned(), |time| show_time(Time(time))),
            ]);
        }
        table.show("Nothing is shared with you.")
    }
}
