//! `ihfs init`: from an invite, or with a network of one's own, to a member with a recovery sheet and keys.
//!
//! What can be wrong is looked at first: the invite, the passphrase, whether somebody is there. Nobody writes 24 words
//! down for nothing, and nothing is left behind. Then the sheet is handed over and asked back: from the moment that the ledger knows the member, nothing else can
//! bring the keys back. A sheet file of an earlier try is taken up again, so that an outcome that was not heard
//! of is found again under the same words.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

use ihfs_client::home::{Home, HomeError};
use ihfs_client::join::{Joined, check_invitation, join};
use ihfs_core::crypto::derive::Seed;
use ihfs_core::invitation::{Invitation, TEXT_BYTES_MAX};
use rand::seq::SliceRandom;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::args::setup::Init;
use crate::config::Config;
use crate::failure::Failure;
use crate::output::Report;
use crate::output::words::clean;
use crate::sheet::{Sheet, SheetError};
use crate::solo::Solo;

/// Options that stand in for handing the sheet over to a person.
const INSTEAD: &str = "--sheet FILE and --yes";

#[derive(Debug, Serialize)]
struct Initialized {
    #[serde(flatten)]
    joined: Joined,
    solo: bool,
    home: PathBuf,
    sheet: Option<PathBuf>,
}

/// Sets an identity up.
pub(super) fn run(config: &Config, args: &Init) -> Result<(), Failure> {
    let home = Home::at(&config.home);
    if home.is_set_up() {
        return Err(HomeError::AlreadySetUp { path: config.home.clone() }.into());
    }
    if !(args.sheet.is_some() && config.asker.says_yes()) {
        config.asker.somebody(INSTEAD)?;
    }
    let invitation = args.network.invite.as_deref().map(read_invitation).transpose()?;
    // The sheet of an earlier try may be that of the member whom this very invite made.
    if let Some(invitation) = invitation.as_ref().filter(|_| !has_sheet(args)) {
        check_invitation(invitation)?;
    }
    if home.unconfirmed_keyring()?.is_some() && !has_sheet(args) {
        config.output.note(
            "An earlier try here was cut short. If you wrote its sheet down, stop now: `ihfs recover` \
             goes on with it.",
        );
    }
    let passphrase = config.passphrase.choose(&config.asker)?;
    home.create()?;
    let invitation = invitation.map_or_else(|| found_network(config, args), Ok)?;
    let sheet = hand_over_sheet(config, args, &invitation)?;
    let joined = join(&home, &sheet.seed, &passphrase, &invitation)?;
    let (solo, path) = (args.network.solo, config.home.clone());
    config.output.tell(&Initialized { joined, solo, home: path, sheet: args.sheet.clone() })
}

fn has_sheet(args: &Init) -> bool {
    args.sheet.as_deref().is_some_and(Path::exists)
}

/// The invite: a file, standard input, or the text itself.
fn read_invitation(given: &OsStr) -> Result<Invitation, Failure> {
    let text = if given == "-" {
        read_text(std::io::stdin().lock())?
    } else if Path::new(given).is_file() {
        read_text(std::fs::File::open(given)?)?
    } else {
        given.to_string_lossy().into_owned()
    };
    Ok(Invitation::from_text(&text)?)
}

fn read_text(from: impl Read) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    // One more than allowed, so that too much is seen.
    from.take(TEXT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The network of one node on this machine, and an invite of its own. Goes on where an earlier try stopped.
fn found_network(config: &Config, args: &Init) -> Result<Invitation, Failure> {
    let solo = Solo::of(&config.home);
    if !solo.exists() {
        config.output.note("Setting up a network of one node on this machine.");
        solo.command("init", &["--solo", "--hospital", &args.hospital])?;
    }
    solo.start()?;
    let invite = solo.command("invite", &["--role", "patient", "--as", &args.name])?;
    Ok(Invitation::from_text(&invite)?)
}

/// Makes the sheet, shows it or writes it, and asks it back.
fn hand_over_sheet(config: &Config, args: &Init, invitation: &Invitation) -> Result<Sheet, Failure> {
    let mut sheet = Sheet {
        handle: Some(invitation.handle.handle.to_string()),
        seed: Seed::from_random(rand::random()),
        chain: invitation.chain,
        nodes: vec![(invitation.node, invitation.addresses.clone())],
    };
    if let Some(path) = &args.sheet {
        match sheet.write(path) {
            Err(SheetError::Exists) => sheet = earlier(path, &sheet)?,
            written => written?,
        }
    }
    if args.sheet.is_some() && config.asker.says_yes() {
        return Ok(sheet);
    }
    let intro = "Write this down, or print it. It is shown once.\n\n";
    let text = Zeroizing::new(format!("{intro}{}\n", sheet.to_text().as_str()));
    config.asker.show(&text, INSTEAD)?;
    config.asker.line("Press Enter when it is on paper; the screen is then cleared. ", INSTEAD)?;
    config.asker.clear(INSTEAD)?;
    sheet.ask_back(three_places(), &config.asker)?;
    Ok(sheet)
}

/// The sheet of an earlier try for the same member of the same network.
fn earlier(path: &Path, wanted: &Sheet) -> Result<Sheet, Failure> {
    let earlier = Sheet::read(path)?;
    let same = earlier.chain == wanted.chain && earlier.handle == wanted.handle;
    if same { Ok(Sheet { nodes: wanted.nodes.clone(), ..earlier }) } else { Err(SheetError::Exists.into()) }
}

/// Three different places among the 24 words.
fn three_places() -> [usize; 3] {
    let mut places: [usize; ihfs_core::words::SEED_WORDS] = std::array::from_fn(|place| place);
    places.shuffle(&mut rand::rng());
    [places[0], places[1], places[2]]
}

impl Report for Initialized {
    fn human(&self) -> String {
        let handle = clean(self.joined.handle.as_deref().unwrap_or("a member"));
        let mut text = format!("You are {handle}. Your fingerprint: {}\n", self.joined.fingerprint);
        if let Some(sheet) = &self.sheet {
            let sheet = clean(&sheet.to_string_lossy());
            text += &format!("Your recovery sheet is in {sheet}: print it, then destroy the file.\n");
        }
        if self.solo {
            text += "This network has one node, on this machine: it holds the only copy of your records.\n\
                     `ihfs solo stop` and `ihfs solo start` end and start it.\n";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_different_words_are_asked_back() {
        for _ in 0..100 {
            let [a, b, c] = three_places();
            assert!(a != b && b != c && a != c && a.max(b).max(c) < 24);
        }
    }

    #[test]
    fn what_is_no_invite_is_refused() {
        assert!(matches!(read_invitation(OsStr::new("ihfs1-x")), Err(Failure::Invitation(_))));
        assert!(matches!(read_invitation(OsStr::new("/dev/null")), Err(Failure::Invitation(_))));
    }
}
