//! `ihfs put`: files, folders and standard input into the vault.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use ihfs_client::client::Client;
use ihfs_client::list::Kind;
use ihfs_client::location::Location;
use ihfs_client::put::{self, PutReport, PutSource};
use ihfs_client::resolve::ResolveError;
use ihfs_core::tree::name::Name;
use serde::Serialize;

use crate::args::files::Put;
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
    location: String,
    #[serde(flatten)]
    report: PutReport,
    seconds: f64,
}

/// Puts all sources at once.
pub(super) fn run(config: &Config, args: &Put) -> Result<(), Failure> {
    let location = location::parse(&args.location)?;
    let client = session::open(config)?;
    let into = args.sources.len() > 1 || location::asks_for_folder(&args.location);
    let puts = args.sources.iter().map(|source| to_put(&client, source, &location, into));
    let puts = puts.collect::<Result<Vec<_>, _>>()?;
    let bar = Bar::new(config.output);
    let begun = Instant::now();
    let report = client.put(&puts, &bar)?;
    drop(bar);
    let location = if let [only] = puts.as_slice() { &only.target } else { &location };
    let seconds = begun.elapsed().as_secs_f64();
    config.output.tell(&Done { location: location.to_string(), report, seconds })
}

/// A source and where it goes: as the location, or into it under its own name.
fn to_put(client: &Client, source: &Path, location: &Location, into: bool) -> Result<put::Put, Failure> {
    if source == Path::new("-") {
        return Ok(put::Put { source: PutSource::Stdin, target: location.clone() });
    }
    let goes_into = into || goes_into_existing(client, source, location)?;
    let target = match own_name(source).filter(|_| goes_into) {
        Some(name) => location.child(Name::new(name.as_bytes()).map_err(put::PutError::from)?),
        None => location.clone(),
    };
    Ok(put::Put::path(source, target))
}

/// The name of a source; that of `.` or `folder/..` is the one that it stands for.
fn own_name(source: &Path) -> Option<OsString> {
    match source.file_name() {
        Some(name) => Some(name.to_owned()),
        None => source.canonicalize().ok()?.file_name().map(OsStr::to_owned),
    }
}

/// A file goes into a folder that stands there; a folder fills it.
fn goes_into_existing(client: &Client, source: &Path, location: &Location) -> Result<bool, Failure> {
    if source.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        return Ok(false);
    }
    match client.stat(location) {
        Ok(stat) => Ok(stat.kind == Kind::Folder),
        Err(ResolveError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Report for Done {
    fn human(&self) -> String {
        let PutReport { files, files_unchanged, bytes, sent_bytes, skipped, .. } = &self.report;
        let took = show_duration(std::time::Duration::from_secs_f64(self.seconds));
        let location = clean(&self.location);
        let mut text = if self.report.version.is_none() {
            format!(
                "{location}: everything was there already ({}, {}), nothing sent, {took}\n",
                count(*files, "file"),
                size(*bytes)
            )
        } else {
            format!(
                "{location}: {}, {}, {files_unchanged} unchanged; {} sent, synced, {took}\n",
                count(*files, "file"),
                size(*bytes),
                size(*sent_bytes),
            )
        };
        for left_out in skipped {
            text += &format!("  left out: {}\n", clean(left_out));
        }
        text
    }
}
