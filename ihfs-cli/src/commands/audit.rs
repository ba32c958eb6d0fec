//! `ihfs audit`: who opened what, when, under which grant; the ledger proves that nothing is left out.

use ihfs_client::audit::AuditItem;
use ihfs_core::ids::Time;

use crate::args::sharing::Audit;
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
    let items = client.audit(location.as_ref())?;
    config.output.tell(&items)?;
    let height = client.freshness().height;
    config.output.note(&format!("Proved complete by the ledger up to block {height}."));
    Ok(())
}

impl Report for Vec<AuditItem> {
    fn human(&self) -> String {
        let mut table = Table::new(&["OPENED", "BY", "PATH", "FOR", ">VERSION", "GRANT", ">BLOCK"]);
        for item in self {
            table.row([
                show_time(Time(item.time)),
                item.reader.clone(),
                item.path.clone().unwrap_or_else(|| "(removed)".to_owned()),
                format!("{:?}", item.purpose).to_lowercase(),
                item.version.to_string(),
                item.grant.chars().take(8).collect(),
                item.height.to_string(),
            ]);
        }
        table.show("Nobody opened anything.")
    }
}
