//! `ihfs share`: shows who it is, asks once, and shares.

use ihfs_client::client::now;
use ihfs_client::location::Location;
use ihfs_client::share::{EarlierGrant, Person, ShareOptions, Shared};
use ihfs_core::ids::Time;

use crate::args::sharing::Share;
use crate::ask::AskError;
use crate::commands::grants::GRANT_DIGITS;
use crate::config::Config;
use crate::failure::Failure;
use crate::location;
use crate::output::Report;
use crate::output::words::{clean, count, role};
use crate::session;
use crate::until::{Until, show_time};

/// The option that confirms a key, and where its words come from.
const FINGERPRINT: &str =
    "--fingerprint WORDS (the person's six words: \"fingerprint\" in the person's own `ihfs whoami --json`)";

/// Shares with somebody whose key was confirmed.
pub(super) fn run(config: &Config, args: &Share) -> Result<(), Failure> {
    let location = location::parse(&args.location)?;
    check_end(args.until, now())?;
    let client = session::open(config)?;
    let person = client.look_up(&args.reader)?;
    if person.member == client.member() {
        return Err(Failure::WithYourself);
    }
    if matches!(&location, Location::Own(path) if path.is_empty()) {
        let question = "This shares your whole vault, also what you put there later. Share all of it?";
        config.asker.confirm(question, "--yes")?;
    }
    confirm(config, args, &person)?;
    let options = ShareOptions {
        not_before: None,
        // The ledger's time ends it: a clock that is behind must not make it shorter.
        until: args.until.from(now().max(Time(client.freshness().time))),
        purpose: args.purpose.into(),
        write: args.write,
        snapshot: args.snapshot,
        from_now: args.from_now,
        label: args.label.clone(),
    };
    config.output.tell(&client.share(&location, &person, &options)?)
}

/// That it does not end before it begins.
fn check_end(until: Until, now: Time) -> Result<(), Failure> {
    match until.from(now).filter(|end| *end <= now) {
        Some(past) => Err(Failure::EndsInThePast { until: show_time(past) }),
        None => Ok(()),
    }
}

/// `--yes` says nothing about whose key it is: a key is confirmed by its words, once.
fn confirm(config: &Config, args: &Share, person: &Person) -> Result<(), Failure> {
    if let Some(given) = &args.fingerprint {
        if same_words(given, &person.fingerprint) {
            return Ok(());
        }
        let (handle, found) = (person.proof.handle.to_string(), person.fingerprint.clone());
        return Err(Failure::WrongFingerprint { handle, found });
    }
    if person.pinned {
        return Ok(());
    }
    let handle = &person.proof.handle;
    let question = format!(
        "{handle}, {} at {}, has the key\n\n    {}\n\n\
         Ask {handle}, by phone or in person, for these six words. Are they the same? [y/N] ",
        role(person.role),
        handle.hospital(),
        person.fingerprint,
    );
    let answer = config.asker.line(&question, FINGERPRINT)?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(AskError::Declined.into())
    }
}

/// Case, dashes and blanks between the words do not matter.
fn same_words(given: &str, found: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        text.split(|letter: char| letter == '-' || letter.is_whitespace())
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect()
    };
    words(given) == words(found)
}

impl Report for Shared {
    fn human(&self) -> String {
        let until = self.until.map_or_else(|| "revoked".to_owned(), |time| show_time(Time(time)));
        let (kept, needed) = self.custodians;
        let nested = match self.nested {
            0 => String::new(),
            nested => format!(", with {} inside it", count(nested, "shared part")),
        };
        let renamed = self.label_in_use.as_ref().map_or_else(String::new, |label| {
            format!("\"{}\" is what {} has something else of yours as.\n", clean(label), clean(&self.reader))
        });
        let earlier: String = self.earlier.iter().map(|grant| stays(&self.reader, grant)).collect();
        format!(
            "Shared with {} as \"{}\" until {until}{nested}.\n\
             It makes {} readable. Keepers of its key shares: {kept}; needed to open it: {needed}.\n{renamed}{earlier}",
            clean(&self.reader),
            clean(&self.label),
            count(self.versions, "version"),
        )
    }
}

/// A new grant takes nothing away.
fn stays(reader: &str, grant: &EarlierGrant) -> String {
    let until = grant.until.map_or_else(|| "revoked".to_owned(), |time| show_time(Time(time)));
    let may = if grant.write { "read and write" } else { "read" };
    let digits: String = grant.grant.chars().take(GRANT_DIGITS).collect();
    format!(
        "An earlier grant stays: {} may {may} it until {until}. `ihfs revoke --grant {digits}` ends that one.\n",
        clean(reader),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_in_the_past_is_refused_before_anything_is_asked() {
        let day = "2026-01-01".parse::<Until>().unwrap();
        let end = day.from(Time(0)).unwrap();
        assert!(matches!(check_end(day, end), Err(Failure::EndsInThePast { .. })));
        assert!(check_end(day, Time(end.0 - 1)).is_ok());
        assert!(check_end(Until::Never, Time(u64::MAX)).is_ok());
    }

    #[test]
    fn words_are_the_same_however_they_are_set_apart() {
        assert!(same_words("Zoo  art-able", "zoo-art-able"));
        assert!(!same_words("zoo-art", "zoo-art-able"));
        assert!(!same_words("", "zoo-art-able"));
    }
}
