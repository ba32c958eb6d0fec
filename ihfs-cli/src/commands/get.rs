//! `ihfs get`: files and folders onto this machine.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ihfs_client::get::{GetOptions, GetReport};
use ihfs_client::location::Location;
use serde::Serialize;

use crate::args::files::Get;
use crate::config::Config;
use crate::failure::Failure;
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
    let client = session::open(config)?;
    let target = target(&location, &args.target);
    let bar = Bar::new(config.output);
    let begun = Instant::now();
    let report = client.get(&location, &target, GetOptions { overwrite: args.force }, &bar)?;
    drop(bar);
    config.output.tell(&Done { target, report, seconds: begun.elapsed().as_secs_f64() })
}

/// Into an existing folder under its own name, else as the target.
fn target(location: &Location, given: &Path) -> PathBuf {
    let last = location.path().last().map(|name| OsStr::from_bytes(name.as_bytes()).to_owned());
    let own_name = last.or_else(|| match location {
        Location::Shared { label, .. } => Some(label.into()),
        Location::Own(_) => None,
    });
    match own_name.filter(|_| given.is_dir()) {
        Some(name) => given.join(name),
        None => given.to_owned(),
    }
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
    fn what_is_got_into_a_folder_keeps_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |text: &str| Location::parse(text.as_bytes()).unwrap();
        assert_eq!(target(&at("/a/b"), folder.path()), folder.path().join("b"));
        assert_eq!(target(&at("//ann@x/ct"), folder.path()), folder.path().join("ct"));
        assert_eq!(target(&at("/"), folder.path()), folder.path());
        assert_eq!(target(&at("/a/b"), &folder.path().join("new")), folder.path().join("new"));
    }
}
