//! `ihfs get`: files and folders onto this machine.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ihfs_client::call::Call;
use ihfs_client::client::Client;
use ihfs_client::get::{GetOptions, GetReport};
use ihfs_client::list::Kind;
use ihfs_client::location::Location;
use serde::Serialize;

use crate::args::files::Get;
use crate::config::Config;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::location;
use crate::output::Report;
use crate::output::words::{clean, count, size};
use crate::progress::Bar;
use crate::session;
use crate::until::show_duration;

#[derive(Debug, Serialize)]
struct Done {
    target: PathBuf,
    #[serde(flatten)]
    report: GetReport,
    seconds: f64,
}

/// Gets it.
pub(super) fn run(config: &Config, args: &Get) -> Result<(), Failure> {
    let location = location::parse(&args.location)?;
    let (call, canceller) = Call::default().cancellable();
    let client = session::open(config)?.under(&call);
    let target = target(&client, &location, &args.target)?;
    let bar = Bar::new(config.output);
    let begun = Instant::now();
    // Without it a signal leaves an unfinished file, which the next run replaces.
    let interrupt = Interrupt::cancels(canceller).ok();
    let got = client.get(&location, &target, GetOptions { overwrite: args.force }, &bar);
    drop(bar);
    if let (Err(_), Some(interrupt)) = (&got, interrupt) {
        interrupt.end_if_asked();
    }
    config.output.tell(&Done { target, report: got?, seconds: begun.elapsed().as_secs_f64() })
}

/// Where it goes. A folder is not named after itself twice: a run that stopped is gone on with by the same words.
fn target(client: &Client, location: &Location, given: &Path) -> Result<PathBuf, Failure> {
    let Some(name) = own_name(location) else { return Ok(given.to_owned()) };
    let is_into = asks_for_inside(given) || (given.is_dir() && client.stat(location)?.kind != Kind::Folder);
    Ok(if is_into { given.join(name) } else { given.to_owned() })
}

/// The name of what stands at a location; the top of a vault has none.
fn own_name(location: &Location) -> Option<OsString> {
    match (location.path().last(), location) {
        (Some(name), _) => Some(OsString::from_vec(name.as_bytes().to_vec())),
        (None, Location::Shared { label, .. }) => Some(label.into()),
        (None, Location::Own(_)) => None,
    }
}

/// Whether a target is said to be the folder that something goes into: `folder/`, `.` or `..`.
fn asks_for_inside(given: &Path) -> bool {
    let typed = given.as_os_str().as_bytes();
    typed.ends_with(b"/") || matches!(typed.rsplit(|byte| *byte == b'/').next(), Some(b"." | b".."))
}

impl Report for Done {
    fn human(&self) -> String {
        let GetReport { files, files_unchanged, bytes, skipped, .. } = &self.report;
        let mut text = format!(
            "{}: {}, {}, {files_unchanged} of them there already, {}\n",
            clean(&self.target.to_string_lossy()),
            count(*files, "file"),
            size(*bytes),
            show_duration(Duration::from_secs_f64(self.seconds)),
        );
        for left_out in skipped {
            text += &format!("  left out: {}: {}\n", clean(&left_out.path), left_out.reason);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_or_dots_at_the_end_ask_for_the_inside_of_a_folder() {
        for inside in [".", "..", "out/", "/", "out/.", "../.."] {
            assert!(asks_for_inside(Path::new(inside)), "{inside}");
        }
        for itself in ["out", "/out/study", "./out", ".out", "out..", ""] {
            assert!(!asks_for_inside(Path::new(itself)), "{itself}");
        }
    }

    #[test]
    fn all_but_the_top_of_a_vault_has_a_name() {
        let name = |text: &str| own_name(&Location::parse(text.as_bytes()).unwrap());
        assert_eq!(name("/a/b"), Some("b".into()));
        assert_eq!(name("//ann@x/ct"), Some("ct".into()));
        assert_eq!(name("//ann@x/ct/a"), Some("a".into()));
        assert_eq!(name("/"), None);
    }
}
