//! Completes locations and members while they are typed: own paths, `//owner/label/…`, handles of known people.
//!
//! Never asks, never opens a grant, never takes long: without an unlocked agent there are no candidates, inside
//! what others share only while it is open anyway. Whatever fails gives no candidates.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use clap_complete::CompletionCandidate;
use clap_complete::engine::{PathCompleter, ValueCompleter};
use ihfs_client::call::{Call, Purpose};
use ihfs_client::client::Client;
use ihfs_client::home::Home;
use ihfs_client::list::{Kind, ListedEntry};
use ihfs_client::location::Location;
use ihfs_core::crypto::keyring::Keyring;

use crate::agent::client::Agent;
use crate::config;

/// Longest that a person waits for a candidate without noticing that the network is slow.
const WAIT: Duration = Duration::from_millis(1500);
/// Most candidates: more help nobody.
const CANDIDATES_MAX: usize = 1000;

/// Candidates for a location that was typed so far.
pub(crate) fn locations(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_owned();
    match typed.as_bytes() {
        b"" => ["/", "//"].map(CompletionCandidate::new).into(),
        [b'/', ..] => within_time(move || find(&typed)),
        _ => Vec::new(),
    }
}

/// Candidates for a source of `put`, or for the location behind the sources: which it is, the line decides.
pub(crate) fn sources(typed: &OsStr) -> Vec<CompletionCandidate> {
    let line: Vec<OsString> = std::env::args_os().collect();
    let index = std::env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|index| index.parse().ok());
    if typed.as_bytes().starts_with(b"/") && has_source(&line, index) {
        return locations(typed);
    }
    PathCompleter::any().stdio().complete(typed)
}

/// Whether a source of `put` stands before the word that is being typed.
fn has_source(line: &[OsString], index: Option<usize>) -> bool {
    let words = line.iter().skip_while(|word| *word != "--").skip(1).take(index.unwrap_or(usize::MAX));
    let sources = words.skip_while(|word| *word != "put").skip(1);
    sources.filter(|word| *word == "-" || !word.as_bytes().starts_with(b"-")).count() > 0
}

/// Candidates for somebody's handle.
pub(crate) fn members(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy().into_owned();
    within_time(move || {
        let client = connect()?;
        let people = client.known_people().ok()?.into_iter().map(|(_, handle)| handle);
        Some(people.filter(|handle| handle.starts_with(&typed)).map(OsString::from).collect())
    })
}

/// Runs `work` aside; a thread that is late ends with the process.
fn within_time(work: impl FnOnce() -> Option<Vec<OsString>> + Send + 'static) -> Vec<CompletionCandidate> {
    let (sender, found) = mpsc::channel();
    // Without a thread there is no candidate.
    let _ = std::thread::Builder::new().spawn(move || sender.send(work()));
    let found = found.recv_timeout(WAIT).ok().flatten().unwrap_or_default();
    found.into_iter().take(CANDIDATES_MAX).map(CompletionCandidate::new).collect()
}

fn find(typed: &OsStr) -> Option<Vec<OsString>> {
    let (folder, begun) = split(typed.as_bytes());
    let client = connect()?;
    let candidates = match Location::parse(folder) {
        Ok(location) if folder != b"//" => entries(&client, &location, folder, begun)?,
        _ => shared(&client, typed.as_bytes())?,
    };
    Some(candidates.into_iter().map(OsString::from_vec).collect())
}

/// What stands before the last slash, with it, and what was begun behind it.
fn split(typed: &[u8]) -> (&[u8], &[u8]) {
    let slash = typed.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    typed.split_at(slash)
}

fn entries(client: &Client, location: &Location, folder: &[u8], begun: &[u8]) -> Option<Vec<Vec<u8>>> {
    let listing = client.ls(location, None, CANDIDATES_MAX).ok()?;
    // A name that is no text cannot be typed as one.
    let fits = |entry: &&ListedEntry| entry.name_hex.is_none() && entry.name.as_bytes().starts_with(begun);
    let candidate = |entry: &ListedEntry| {
        let slash: &[u8] = if entry.kind == Kind::Folder { b"/" } else { b"" };
        [folder, entry.name.as_bytes(), slash].concat()
    };
    Some(listing.entries.iter().filter(fits).map(candidate).collect())
}

/// Tops of what others share.
fn shared(client: &Client, typed: &[u8]) -> Option<Vec<Vec<u8>>> {
    let top = |received: ihfs_client::received::Received| {
        Some(format!("//{}/{}/", received.owner?, received.label?).into_bytes())
    };
    let tops = client.received().ok()?.into_iter().filter_map(top);
    Some(tops.filter(|top| top.starts_with(typed)).collect())
}

/// The identity that the line names, if its agent is unlocked.
fn connect() -> Option<Client> {
    let line: Vec<OsString> = std::env::args_os().collect();
    let home =
        config::home(home_in(&line).or_else(|| std::env::var_os("IHFS_HOME").map(PathBuf::from))).ok()?;
    let agent = Agent::of(&home);
    let keys = Keyring::from_secret_bytes(&agent.keyring().ok().flatten()?).ok()?;
    let client = Client::connect(&Home::at(home), Arc::new(keys), Box::new(agent)).ok()?;
    Some(client.under(&Call::new(Purpose::Browse).within(WAIT)))
}

/// `--home FOLDER` or `--home=FOLDER` in the line that is being typed.
fn home_in(line: &[OsString]) -> Option<PathBuf> {
    let mut words = line.iter();
    while let Some(word) = words.next() {
        if word == "--home" {
            return words.next().map(PathBuf::from);
        }
        if let Some(home) = word.as_bytes().strip_prefix(b"--home=") {
            return Some(PathBuf::from(OsString::from_vec(home.to_vec())));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_behind_its_last_slash() {
        assert_eq!(split(b"/imaging/ct-h"), (b"/imaging/".as_slice(), b"ct-h".as_slice()));
        assert_eq!(split(b"/"), (b"/".as_slice(), b"".as_slice()));
        assert_eq!(split(b"//ann@ho"), (b"//".as_slice(), b"ann@ho".as_slice()));
    }

    #[test]
    fn nothing_typed_offers_both_kinds_of_paths() {
        let offered: Vec<_> = locations(OsStr::new("")).iter().map(|it| it.get_value().to_owned()).collect();
        assert_eq!(offered, ["/", "//"]);
    }

    #[test]
    fn what_is_no_location_gets_no_candidates() {
        assert!(locations(OsStr::new("imaging")).is_empty());
    }

    #[test]
    fn behind_a_source_of_put_a_location_is_meant() {
        let line: Vec<_> = ["ihfs", "--", "ihfs", "put", "ct", "/im"].iter().map(OsString::from).collect();
        assert!(has_source(&line, Some(3)));
        assert!(!has_source(&line, Some(2)));
    }

    #[test]
    fn the_home_is_found_in_the_line() {
        let line = |words: &[&str]| -> Vec<OsString> { words.iter().map(OsString::from).collect() };
        assert_eq!(home_in(&line(&["ihfs", "--home", "/h", "ls"])), Some("/h".into()));
        assert_eq!(home_in(&line(&["ihfs", "ls", "--home=/h"])), Some("/h".into()));
        assert_eq!(home_in(&line(&["ihfs", "ls", "--home"])), None);
    }
}
