//! `ihfs whoami`: handle, role, and the six words by which others know the key.

use ihfs_client::devices::WhoAmI;

use crate::config::Config;
use crate::failure::Failure;
use crate::output::Report;
use crate::output::words::{clean, role};
use crate::session;
use crate::sheet::groups;

/// Shows who this is: what the ledger says, or without a node what the keys say.
pub(super) fn run(config: &Config) -> Result<(), Failure> {
    let home = session::home(config)?;
    let handle = home.network()?.parse()?.handle;
    let keys = session::open_keys(config, &home)?;
    let offline = WhoAmI::offline(&keys.ring, handle.as_ref());
    match session::connect(config, &home, keys) {
        Ok(client) => config.output.tell(&client.whoami()?),
        Err(failure) if failure.is_offline() => {
            config.output.note("No node was reached: this is what the keys of this device say.");
            config.output.tell(&offline)
        }
        Err(failure) => Err(failure),
    }
}

impl Report for WhoAmI {
    fn human(&self) -> String {
        let handle = self.handle.as_deref().unwrap_or("(not known on this device)");
        format!(
            "Handle       {}\nRole         {}\nFingerprint  {}\nDevice       {}\nMember       {}\nNetwork      {}\n",
            clean(handle),
            self.role.map_or_else(|| "unknown".to_owned(), role),
            self.fingerprint,
            self.device,
            self.member,
            groups(&self.chain).join(" "),
        )
    }
}
