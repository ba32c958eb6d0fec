//! `ihfs revoke`: takes access back and says what the reader may still hold.

use ihfs_client::revoke::Revoked;
use ihfs_core::ids::Time;

use crate::args::sharing::Revoke;
use crate::config::Config;
use crate::failure::Failure;
use crate::location;
use crate::output::Report;
use crate::output::table::Table;
use crate::output::words::{count, size};
use crate::session;
use crate::until::show_time;

/// Revokes.
pub(super) fn run(config: &Config, args: &Revoke) -> Result<(), Failure> {
    let location = location::parse(&args.location)?;
    config.output.tell(&session::open(config)?.revoke(&location, &args.reader)?)
}

impl Report for Revoked {
    fn human(&self) -> String {
        let mut text = format!("Revoked from block {} on.", self.height);
        if self.remaining > 0 {
            let when =
                if self.reissued { "have the new key" } else { "get the new key with your next command" };
            text += &format!(" {} stay and {when}.", count(self.remaining, "reader"));
        }
        text.push('\n');
        if self.may_hold.is_empty() {
            return text + "The reader never opened it and holds nothing.\n";
        }
        text += "What the reader opened can have been kept; no system can take that back:\n";
        let mut table = Table::new(&[">VERSION", "WRITTEN", ">ADDED"]);
        for held in &self.may_hold {
            table.row([held.version.to_string(), show_time(Time(held.written)), size(held.bytes_added)]);
        }
        text + &table.show("")
    }
}
