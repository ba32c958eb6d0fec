//! `ihfs audit`: who opened what, when, under which grant; the ledger proves that nothing is left out.

use ihfs_client::audit::AuditItem;
use ihfs_client::view::Freshness;
use ihfs_core::ids::Time;
use serde::Serialize;

use crate::args::sharing::Audit;
use crate::commands::grants::{GRANT_DIGITS, record};
use crate::config::Config;
use crate::failure::Failure;
use crate::location;
use crate::output::Report;
use crate::output::table::Table;
use crate::session;
use crate::until::show_time;

/// Lists openings.
pub(super) fn run(config: &Config, args: &Audit) -> Result<(), Failure> {
    let location = args.location.as_deref().map(location::parse).transpose()?;
    let client = session::open(config)?;
    let openings = client.audit(location.as_ref())?;
    config.output.tell(&Audited { as_of: client.freshness(), openings })
}

#[derive(Debug, Serialize)]
struct Audited {
    /// The block up to which the list is proved complete.
    as_of: Freshness,
    openings: Vec<AuditItem>,
}

impl Report for Audited {
    fn human(&self) -> String {
        let mut table = Table::new(&["OPENED", "BY", "PATH", "FOR", ">VERSION", "GRANT", ">BLOCK"]);
        for item in &self.openings {
            table.row([
                show_time(Time(item.time)),
                item.reader.clone(),
                record(item.path.as_deref(), item.wider),
                format!("{:?}", item.purpose).to_lowercase(),
                item.version.to_string(),
                item.grant.chars().take(GRANT_DIGITS).collect(),
                item.height.to_string(),
            ]);
        }
        let proved = format!("Proved complete by the ledger up to block {}.\n", self.as_of.height);
        table.show("Nobody opened anything.") + &proved
    }
}
