//! `ihfs device list · remove`.

use ihfs_client::client::Client;
use ihfs_client::devices::{DeviceRemoved, DeviceReport};
use ihfs_core::ids::DeviceId;

use crate::args::setup::DeviceVerb;
use crate::config::Config;
use crate::failure::Failure;
use crate::output::Report;
use crate::output::table::Table;
use crate::output::words::count;
use crate::session;
use crate::sheet::obtain_seed;

/// Digits of a device's id in a list: more than anybody's devices share.
pub(super) const SHORT: usize = 12;

/// Lists devices, or removes one.
pub(super) fn run(config: &Config, verb: &DeviceVerb) -> Result<(), Failure> {
    let client = session::open(config)?;
    match verb {
        DeviceVerb::List => config.output.tell(&client.devices()?),
        DeviceVerb::Remove { device, sheet } => {
            let device = find(&client, device)?;
            let question = format!(
                "Remove device {device:?} and renew every key? It can then read nothing that is new."
            );
            config.asker.confirm(&question, "--yes")?;
            let seed = obtain_seed(sheet, &config.asker)?;
            config.output.tell(&client.remove_device(&seed, device)?)
        }
    }
}

fn find(client: &Client, digits: &str) -> Result<DeviceId, Failure> {
    let digits = digits.to_lowercase();
    let devices = client.devices()?;
    let found: Vec<_> = devices.iter().filter(|report| report.device.starts_with(&digits)).collect();
    match found.as_slice() {
        [one] => one.device.parse().map_err(|_| Failure::WhichDevice { found: 0 }),
        several => Err(Failure::WhichDevice { found: several.len() }),
    }
}

impl Report for Vec<DeviceReport> {
    fn human(&self) -> String {
        let mut table = Table::new(&["DEVICE", ">SINCE BLOCK", ""]);
        for report in self {
            let note = if report.this_device { "this device" } else { "" };
            let short = report.device.chars().take(SHORT).collect();
            table.row([short, report.added.to_string(), note.to_owned()]);
        }
        table.show("No devices.")
    }
}

impl Report for DeviceRemoved {
    fn human(&self) -> String {
        let mut text = format!(
            "Device {} is removed. Keys of generation {} began for {}.\n",
            self.device.chars().take(SHORT).collect::<String>(),
            self.generation,
            count(self.records, "record"),
        );
        if self.this_device {
            text += "It was this one: here nothing of yours opens any more. Other devices go on; \
                     `ihfs recover` brings this machine back.\n";
        }
        text
    }
}
