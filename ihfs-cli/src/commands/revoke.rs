//! `ihfs revoke`: takes access back and says what the reader may still hold.

use ihfs_client::audit::GrantState;
use ihfs_client::client::Client;
use ihfs_client::held::HeldVersion;
use ihfs_client::revoke::Revoked;
use ihfs_core::ids::{GrantId, Time};

use crate::args::sharing::Revoke;
use crate::commands::grants::GRANT_DIGITS;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::location;
use crate::output::Report;
use crate::output::table::Table;
use crate::output::words::{clean, count, size};
use crate::session;
use crate::until::show_time;

/// Revokes. Older versions that a wider grant still covers make it end as an error: not all of it was taken.
pub(super) fn run(config: &Config, args: &Revoke) -> Result<Exit, Failure> {
    let client = session::open(config)?;
    let revoked = match (&args.location, &args.reader, &args.grant) {
        (Some(location), Some(reader), _) => client.revoke(&location::parse(location)?, reader)?,
        (_, _, digits) => client.revoke_grant(find(&client, digits.as_deref().unwrap_or_default())?)?,
    };
    config.output.tell(&revoked)?;
    Ok(if revoked.wider.is_empty() { Exit::Done } else { Exit::Error })
}

/// The grant whose id begins with these digits and that nothing ended.
fn find(client: &Client, digits: &str) -> Result<GrantId, Failure> {
    let digits = digits.to_lowercase();
    let mut grants = client.grants()?;
    grants.retain(|grant| grant.state != GrantState::Revoked && grant.grant.starts_with(&digits));
    match grants.as_slice() {
        [one] => one.grant.parse().map_err(|_| Failure::WhichGrant { found: 0 }),
        several => Err(Failure::WhichGrant { found: several.len() }),
    }
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
        for grant in &self.others {
            text += &format!(
                "The reader has another grant on it: `ihfs revoke --grant {}` ends that too.\n",
                grant.chars().take(GRANT_DIGITS).collect::<String>(),
            );
        }
        for wider in &self.wider {
            let path = wider.path.as_deref().unwrap_or("(removed)");
            text += &format!(
                "A wider grant on {} still covers versions from before this was shared by itself: \
                 revoke that too.\n",
                clean(path),
            );
        }
        match &self.unproved {
            Some(why) => text + &format!("What the reader may hold could not be proved: {}.\n", clean(why)),
            None => text + &held(&self.may_hold),
        }
    }
}

/// What nothing takes back.
fn held(versions: &[HeldVersion]) -> String {
    if versions.is_empty() {
        return "The reader never opened it and holds nothing.\n".to_owned();
    }
    let mut table = Table::new(&["RECORD", ">VERSION", "WRITTEN", ">ADDED"]);
    for held in versions {
        table.row([
            held.path.clone().unwrap_or_else(|| "(removed)".to_owned()),
            held.version.to_string(),
            show_time(Time(held.written)),
            size(held.bytes_added),
        ]);
    }
    "What the reader opened can have been kept; no system can take that back:\n".to_owned() + &table.show("")
}
