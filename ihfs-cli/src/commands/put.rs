//! `ihfs put`: files, folders and standard input into the vault.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use ihfs_client::change::ChangeError;
use ihfs_client::client::Client;
use ihfs_client::list::Kind;
use ihfs_client::location::Location;
use ihfs_client::put::{PutReport, PutSource};
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

/// Puts each source.
pub(super) fn run(config: &Config, args: &Put) -> Result<(), Failure> {
    let location = location::parse(&args.location)?;
    let client = session::open(config)?;
    let into = args.sources.len() > 1 || location::asks_for_folder(&args.location);
    let mut done = Vec::new();
    for source in &args.sources {
        let target = target(&client, source, &location, into)?;
        done.push(put(config, &client, source, &target)?);
    }
    config.output.tell(&done)
}

fn put(config: &Config, client: &Client, source: &Path, target: &Location) -> Result<Done, Failure> {
    let bar = Bar::new(config.output);
    let begun = Instant::now();
    let source = if source == Path::new("-") { PutSource::Stdin } else { PutSource::Path(source.to_owned()) };
    let report = client.put(&source, target, &bar)?;
    Ok(Done { location: target.to_string(), report, seconds: begun.elapsed().as_secs_f64() })
}

/// Where a source goes: as the location, or into it under its own name.
fn target(client: &Client, source: &Path, location: &Location, into: bool) -> Result<Location, Failure> {
    let own_name = || -> Option<Result<Name, Failure>> {
        // The name of `.` or `folder/..` is the one that it stands for.
        let name = match source.file_name() {
            Some(name) => name.to_owned(),
            None => source.canonicalize().ok()?.file_name()?.to_owned(),
        };
        Some(Name::new(name.as_bytes()).map_err(|error| ihfs_client::put::PutError::from(error).into()))
    };
    let is_stream = source == Path::new("-");
    let goes_into = !is_stream && (into || goes_into_existing(client, source, location)?);
    match own_name().filter(|_| goes_into) {
        Some(name) => Ok(location.child(name?)),
        None => Ok(location.clone()),
    }
}

/// A file goes into a folder that stands there; a folder fills it, and takes no file's place.
fn goes_into_existing(client: &Client, source: &Path, location: &Location) -> Result<bool, Failure> {
    let standing = match client.stat(location) {
        Ok(stat) => stat.kind,
        Err(ResolveError::NotFound { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    match (source.is_dir(), standing) {
        (true, Kind::Folder) => Ok(false),
        (true, Kind::File | Kind::Symlink) => {
            Err(ChangeError::NotAFolder { location: location.clone() }.into())
        }
        (false, kind) => Ok(kind == Kind::Folder),
    }
}

impl Report for Vec<Done> {
    fn human(&self) -> String {
        self.iter().map(Done::sentence).collect()
    }
}

impl Done {
    fn sentence(&self) -> String {
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
