//! `ihfs recover`: comes back by the recovery sheet alone; `--drill` only tries it.

use ihfs_client::home::Home;
use ihfs_client::join::{Recovered, Whereabouts, recover};

use crate::agent::client::Agent;
use crate::args::setup::Recover;
use crate::config::Config;
use crate::failure::Failure;
use crate::output::Report;
use crate::output::words::{clean, count};
use crate::sheet::{Nodes, Sheet};

/// Recovers, or tries whether it would work.
pub(super) fn run(config: &Config, args: &Recover) -> Result<(), Failure> {
    let home = Home::at(&config.home);
    if home.is_set_up() && !args.drill {
        let question = "This folder has an identity already. Replace this device's keys with new ones?";
        config.asker.confirm(question, "--yes")?;
    }
    let sheet = Sheet::obtain(&args.sheet, &config.asker)?;
    let place = Whereabouts { chain: sheet.chain, nodes: nodes(&home, &sheet) };
    if args.drill {
        return config.output.tell(&recover(&home, &sheet.seed, &[], &place, true)?);
    }
    let passphrase = config.passphrase.choose(&config.asker)?;
    // An agent that runs keeps the keys that are being replaced.
    if home.is_set_up() {
        Agent::of(&config.home).lock()?;
    }
    config.output.tell(&recover(&home, &sheet.seed, &passphrase, &place, false)?)
}

/// The sheet's nodes, and where this folder knows them to be: a sheet is old, addresses change.
fn nodes(home: &Home, sheet: &Sheet) -> Nodes {
    let mut nodes = sheet.nodes.clone();
    let known = home.network().and_then(|network| network.parse()).ok();
    for (node, addresses) in
        known.filter(|known| known.chain == sheet.chain).map_or(vec![], |known| known.nodes)
    {
        match nodes.iter_mut().find(|(key, _)| *key == node) {
            Some((_, there)) => there.extend(addresses),
            None => nodes.push((node, addresses)),
        }
    }
    nodes
}

impl Report for Recovered {
    fn human(&self) -> String {
        let (records, received) = (count(self.records, "record"), count(self.received, "received grant"));
        let fingerprint = &self.who.fingerprint;
        if self.drill {
            return format!(
                "The sheet works: it is of the member {fingerprint}, with {records} and {received}.\n\
                 Nothing was changed.\n"
            );
        }
        let handle = self.who.handle.as_deref().map_or_else(|| "back".to_owned(), clean);
        format!(
            "You are {handle} ({fingerprint}), with {records}, {} of them readable, and {received}.\n\
             Your other devices are still yours: `ihfs device list` shows them.\n",
            self.readable
        )
    }
}
