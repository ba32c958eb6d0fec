//! `ihfs solo start · stop · status`: the one-node network of this identity.

use rustix::process::setsid;
use serde::Serialize;

use crate::args::setup::SoloVerb;
use crate::config::Config;
use crate::failure::Failure;
use crate::output::Report;
use crate::solo::{Solo, SoloStatus};

#[derive(Debug, Serialize)]
struct SoloReport {
    state: &'static str,
    pid: Option<i32>,
    addresses: Vec<String>,
    #[serde(skip)]
    sentence: String,
}

/// Starts, stops or looks.
pub(super) fn run(config: &Config, verb: SoloVerb) -> Result<(), Failure> {
    let solo = Solo::of(&config.home);
    let report = match verb {
        SoloVerb::Start { foreground: true } => match solo.foreground()? {},
        SoloVerb::Start { foreground: false } => report(solo.start()?),
        SoloVerb::Stop => stopped(solo.stop()?),
        SoloVerb::Status if !solo.exists() => return Err(crate::solo::SoloError::NoNetwork.into()),
        SoloVerb::Status => report(solo.status()?),
    };
    config.output.tell(&report)
}

/// `ihfs solo-run`: leaves the session of the terminal and becomes the node.
pub(super) fn become_node(config: &Config) -> Result<(), Failure> {
    // Fails only for a process that leads a group already, and then it has left.
    let _ = setsid();
    match Solo::of(&config.home).become_node(&["--log-files"])? {}
}

fn report(status: SoloStatus) -> SoloReport {
    match status {
        SoloStatus::Running { pid, addresses } => SoloReport {
            state: "running",
            pid: Some(pid),
            sentence: format!("The node runs (process {pid}) at {}.", addresses.join(", ")),
            addresses,
        },
        SoloStatus::Starting { pid } => SoloReport {
            state: "starting",
            pid: Some(pid),
            addresses: Vec::new(),
            sentence: format!("The node starts (process {pid}) and does not answer yet."),
        },
        SoloStatus::Stopped => stopped(true),
    }
}

fn stopped(ran: bool) -> SoloReport {
    let sentence = if ran { "The node is stopped." } else { "The node did not run." };
    SoloReport { state: "stopped", pid: None, addresses: Vec::new(), sentence: sentence.to_owned() }
}

impl Report for SoloReport {
    fn human(&self) -> String {
        format!("{}\n", self.sentence)
    }
}
