//! `ihfs recover`: comes back by the recovery sheet alone; `--drill` only tries it.

use ihfs_client::home::Home;
use ihfs_client::join::{Recovered, Whereabouts, recover};

use crate::agent::client::Agent;
use crate::args::setup::Recover;
use crate::commands::device::SHORT;
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
    // The sheet was typed or printed: what is no handle says nothing.
    let handle = sheet.handle.as_deref().and_then(|text| text.parse().ok());
    let place = Whereabouts { chain: sheet.chain, nodes: nodes(&home, &sheet), handle };
    if args.drill {
        return config.output.tell(&recover(&home, &sheet.seed, &[], &place, true)?);
    }
    let passphrase = config.passphrase.choose(&config.asker)?;
    let recovered = recover(&home, &sheet.seed, &passphrase, &place, false)?;
    // An agent that runs keeps the keys that were replaced.
    Agent::of(&config.home).lock()?;
    config.output.tell(&recovered)
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
        if self.drill { drill(self) } else { recovered(self) }
    }
}

fn drill(found: &Recovered) -> String {
    let handle = found.who.handle.as_deref().map_or_else(|| "the member".to_owned(), clean);
    let (records, received) = (count(found.records, "record"), count(found.received, "received grant"));
    let mut text = format!(
        "The sheet works: it is of {handle} ({}), with {records} and {received}.\nNothing was changed.\n",
        found.who.fingerprint
    );
    if found.folder_of_another {
        text += "This folder belongs to another member: to recover from this sheet, use another --home.\n";
    }
    text
}

fn recovered(found: &Recovered) -> String {
    let handle = found.who.handle.as_deref().map_or_else(|| "back".to_owned(), clean);
    let (records, received) = (count(found.records, "record"), count(found.received, "received grant"));
    let mut text = format!(
        "You are {handle} ({}), with {records}, {} of them readable, and {received}.\n",
        found.who.fingerprint, found.readable
    );
    match &found.replaced {
        Some(device) => {
            let device: String = device.chars().take(SHORT).collect();
            text += &format!(
                "The device {device} that this folder had is still yours on the ledger. If nobody needs it:\n  \
                 ihfs device remove {device}\n"
            );
        }
        None => text += "Your other devices are still yours: `ihfs device list` shows them.\n",
    }
    text
}

#[cfg(test)]
mod tests {
    use ihfs_client::join::Joined;
    use ihfs_core::ledger::identity::Role;

    use super::*;

    fn found() -> Recovered {
        let who = Joined {
            member: String::new(),
            handle: Some("ann@home".to_owned()),
            fingerprint: "six-words".to_owned(),
            role: Role::Patient,
            chain: String::new(),
        };
        let (folder_of_another, replaced) = (false, None);
        Recovered { who, records: 2, received: 0, readable: 2, drill: false, folder_of_another, replaced }
    }

    #[test]
    fn a_drill_says_whose_sheet_it_is_and_when_the_folder_is_anothers() {
        let text = Recovered { drill: true, folder_of_another: true, ..found() }.human();
        assert!(text.contains("ann@home") && text.contains("another --home"), "{text}");
        assert!(!Recovered { drill: true, ..found() }.human().contains("--home"));
    }

    #[test]
    fn the_device_that_was_replaced_is_named_with_the_command_that_removes_it() {
        let device = "0123456789abcdef".to_owned();
        let text = Recovered { replaced: Some(device), ..found() }.human();
        assert!(text.contains("ihfs device remove 0123456789ab"), "{text}");
    }
}
