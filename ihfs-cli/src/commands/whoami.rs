//! `ihfs whoami`: handle, role, and the six words by which others know the key.

use ihfs_client::devices::WhoAmI;

use crate::config::Config;
use crate::failure::Failure;
use crate::output::Report;
use crate::output::words::{clean, role};
use crate::session;
use crate::sheet::groups;

/// Shows who this is.
pub(super) fn run(config: &Config) -> Result<(), Failure> {
    config.output.tell(&session::open(config)?.whoami()?)
}

impl Report for WhoAmI {
    fn human(&self) -> String {
        let handle = self.handle.as_deref().unwrap_or("(not known on this device)");
        format!(
            "Handle       {}\nRole         {}\nFingerprint  {}\nDevice       {}\nMember       {}\nNetwork      {}\n",
            clean(handle),
            role(self.role),
            self.fingerprint,
            self.device,
            self.member,
            groups(&self.chain).join(" "),
        )
    }
}
