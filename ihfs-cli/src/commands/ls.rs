//! `ihfs ls`: what stands in a folder.

use ihfs_client::list::{Kind, ListedEntry, When};
use ihfs_core::ids::Time;

use crate::args::files::Ls;
use crate::config::Config;
use crate::failure::Failure;
use crate::location;
use crate::output::Report;
use crate::output::table::Table;
use crate::output::words::{clean, clean_bytes, size};
use crate::session;
use crate::until::show_time;

/// Entries asked for at once.
const PAGE: usize = 4096;

struct Short(Vec<ListedEntry>);

struct Long(Vec<ListedEntry>);

/// Lists.
pub(super) fn run(config: &Config, args: &Ls) -> Result<(), Failure> {
    let location = location::parse(&args.location)?;
    let client = session::open(config)?;
    let mut entries = Vec::new();
    let mut from = None;
    loop {
        let page = client.ls(&location, from.as_ref(), PAGE)?;
        entries.extend(page.entries);
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    if args.long { config.output.tell(&Long(entries)) } else { config.output.tell(&Short(entries)) }
}

impl serde::Serialize for Short {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl serde::Serialize for Long {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Report for Short {
    fn human(&self) -> String {
        let line = |entry: &ListedEntry| {
            let slash = if entry.kind == Kind::Folder { "/" } else { "" };
            format!("{}{slash}\n", shown(entry))
        };
        self.0.iter().map(line).collect()
    }
}

impl Report for Long {
    fn human(&self) -> String {
        let mut table = Table::new(&["MODE", ">SIZE", "MODIFIED", "SHARED", "NAME"]);
        for entry in &self.0 {
            let mut name = shown(entry);
            match (&entry.kind, &entry.target) {
                (Kind::Folder, _) => name.push('/'),
                (_, Some(target)) => name = format!("{name} -> {target}"),
                _ => (),
            }
            table.row([
                mode(entry.kind, entry.mode),
                entry.size.map_or_else(|| "-".to_owned(), size),
                moment(entry.modified),
                if entry.shared { "yes" } else { "" }.to_owned(),
                name,
            ]);
        }
        table.show("Nothing stands here.")
    }
}

/// A name as it can be shown: no byte is hidden.
fn shown(entry: &ListedEntry) -> String {
    match entry.name_hex.as_ref().and_then(|hex| from_hex(hex)) {
        Some(bytes) => clean_bytes(&bytes),
        None => clean(&entry.name),
    }
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.as_bytes().chunks(2).map(byte).collect()
}

/// A file's time; before 1970 there is none to show.
pub(super) fn moment(when: When) -> String {
    match u64::try_from(when.seconds) {
        Ok(seconds) => show_time(Time(seconds.saturating_mul(1000))),
        Err(_) => "before 1970".to_owned(),
    }
}

/// Kind and permission bits, as `drwxr-x---`.
pub(super) fn mode(kind: Kind, bits: u32) -> String {
    let kind = match kind {
        Kind::Folder => 'd',
        Kind::File => '-',
        Kind::Symlink => 'l',
    };
    let letter = |place: u32| {
        let set = bits >> (8 - place) & 1 == 1;
        if set { ['r', 'w', 'x'][place as usize % 3] } else { '-' }
    };
    std::iter::once(kind).chain((0..9).map(letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permission_bits_are_shown_as_everywhere() {
        assert_eq!(mode(Kind::Folder, 0o750), "drwxr-x---");
        assert_eq!(mode(Kind::File, 0o4644), "-rw-r--r--");
    }
}
