//! Every error as a sentence and advice: what failed, why, what to do, and the exit code.
//!
//! The matches are exhaustive: a new error does not compile until somebody chose its advice.

mod files;
mod network;
mod people;

use std::borrow::Cow;
use std::error::Error;

use crate::agent::AgentError;
use crate::ask::AskError;
use crate::config::ConfigError;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::passphrase::PassphraseError;
use crate::sheet::SheetError;
use crate::solo::SoloError;

/// What a person, or a program, is told of a failure.
#[derive(Debug)]
pub(crate) struct Message {
    /// How the command ends.
    pub(crate) exit: Exit,
    /// Stable name for programs.
    pub(crate) code: &'static str,
    /// What failed and why.
    pub(crate) what: String,
    /// What to do.
    pub(crate) advice: Cow<'static, str>,
    /// The option that answers what nobody could be asked.
    pub(crate) option: Option<&'static str>,
}

/// Exit code, name for programs, advice.
pub(crate) type Advice = (Exit, &'static str, Cow<'static, str>);

/// What to tell of a failure.
pub(crate) fn explain(failure: &Failure) -> Message {
    let (exit, code, advice) = advise(failure);
    Message { exit, code, what: with_causes(failure), advice, option: missing_option(failure) }
}

const fn missing_option(failure: &Failure) -> Option<&'static str> {
    match failure {
        Failure::Ask(AskError::NobodyThere { instead })
        | Failure::Passphrase(PassphraseError::Ask(AskError::NobodyThere { instead }))
        | Failure::Sheet(SheetError::Ask(AskError::NobodyThere { instead })) => Some(*instead),
        _ => None,
    }
}

/// The error and its causes, each once.
fn with_causes(failure: &dyn Error) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

fn advise(failure: &Failure) -> Advice {
    match failure {
        Failure::Config(error) => config(error),
        Failure::Ask(error) => ask(error),
        Failure::Passphrase(error) => passphrase(error),
        Failure::Sheet(error) => sheet(error),
        Failure::Agent(error) => agent(error),
        Failure::Solo(error) => solo(error),
        Failure::Output(_) => advice("output", "Look whether the disk is full."),
        Failure::File(_) => {
            advice("file", "Look whether it is there, whose it is, and whether the disk is full.")
        }
        Failure::Invitation(_) => {
            advice("bad-invite", "Ask your hospital for the invite again, and copy it whole.")
        }
        Failure::Location(_) => advice("bad-path", "Own paths are written /x, shared ones //owner/label/x."),
        Failure::WhichDevice { found: 0 } => not_found("no-device", "`ihfs device list` shows your devices."),
        Failure::WhichDevice { .. } => {
            advice("which-device", "Give more digits, as `ihfs device list` shows them.")
        }
        Failure::WhichGrant { found: 0 } => not_found("no-grant", "`ihfs grants` shows what you gave."),
        Failure::WhichGrant { .. } => {
            advice("which-grant", "Give more digits, as `ihfs grants --json` shows them.")
        }
        Failure::WrongFingerprint { .. } => denied(
            "wrong-fingerprint",
            "Nothing was shared. Ask the person for the words, by phone or in person.",
        ),
        Failure::EndsInThePast { .. } => {
            advice("until-past", "Nothing was shared. Name a later --until: 30d, 2030-12-31, or never.")
        }
        Failure::WithYourself => {
            advice("yourself", "Name somebody else; your own records are yours already.")
        }
        Failure::Home(error) => network::home(error),
        Failure::Keyring(error) => network::keyring(error),
        Failure::Connect(error) => network::connect(error),
        Failure::Join(error) => network::join(error),
        Failure::View(error) => network::view(error),
        Failure::Resolve(error) => files::resolve(error),
        Failure::Put(error) => files::put(error),
        Failure::Share(error) => people::share(error),
        Failure::Revoke(error) => people::revoke(error),
        Failure::Audit(error) => people::audit(error),
        Failure::Device(error) => people::device(error),
        Failure::Get(error) => files::get(error),
        Failure::Change(error) => files::change(error),
        Failure::History(error) => files::history(error),
    }
}

/// An error that is neither "not found" nor "not allowed".
pub(crate) const fn advice(code: &'static str, text: &'static str) -> Advice {
    (Exit::Error, code, Cow::Borrowed(text))
}

/// What was named does not exist.
pub(crate) const fn not_found(code: &'static str, text: &'static str) -> Advice {
    (Exit::NotFound, code, Cow::Borrowed(text))
}

/// It exists, and you may not.
pub(crate) const fn denied(code: &'static str, text: &'static str) -> Advice {
    (Exit::NotAllowed, code, Cow::Borrowed(text))
}

fn config(error: &ConfigError) -> Advice {
    match error {
        ConfigError::NoHome | ConfigError::BadHome(_) => {
            advice("no-home", "Name the folder of your identity with --home or IHFS_HOME.")
        }
        ConfigError::TwoPassphrases => advice("two-passphrases", "Give one of the two."),
    }
}

fn ask(error: &AskError) -> Advice {
    match error {
        AskError::NobodyThere { .. } => {
            advice("nobody-to-ask", "Give it, or run the command at a terminal without --json.")
        }
        AskError::Terminal(_) => advice("terminal", "Try another terminal."),
        AskError::Declined => advice("declined", "Nothing was changed."),
    }
}

fn passphrase(error: &PassphraseError) -> Advice {
    match error {
        PassphraseError::Ask(error) => ask(error),
        PassphraseError::Read(_) => {
            advice("passphrase-unreadable", "Look whether the file is there and yours.")
        }
        PassphraseError::WrongLength => {
            advice("passphrase-length", "Put the passphrase, alone, on the first line.")
        }
        PassphraseError::TooShort => {
            advice("passphrase-short", "Take a longer one: four random words are good.")
        }
        PassphraseError::Different => advice("passphrase-different", "Nothing was changed. Try again."),
    }
}

fn sheet(error: &SheetError) -> Advice {
    match error {
        SheetError::Missing(_) => {
            advice("sheet-incomplete", "Type the sheet with its headings Words:, Network: and Addresses:.")
        }
        SheetError::Words(_) => {
            advice("sheet-words", "Compare the words with your sheet, one by one, in order.")
        }
        SheetError::Fingerprint => {
            advice("sheet-fingerprint", "Compare the digits under \"Network\" with your sheet.")
        }
        SheetError::Addresses => {
            advice("sheet-addresses", "Leave a few of them: one that answers is enough.")
        }
        SheetError::Read(_) => advice("sheet-unreadable", "Look whether the file is there and yours."),
        SheetError::Write(_) => advice("sheet-unwritable", "Name a file in a folder that you may write to."),
        SheetError::Exists => advice("sheet-exists", "Name another file; nothing is overwritten."),
        SheetError::Ask(error) => ask(error),
        SheetError::NotWrittenDown => {
            advice("sheet-not-written", "Nothing was set up. Run it again and write the sheet down.")
        }
    }
}

fn agent(error: &AgentError) -> Advice {
    match error {
        AgentError::Unreachable(_) | AgentError::Garbage => {
            advice("agent", "Run `ihfs lock`, then `ihfs unlock`.")
        }
        AgentError::Stranger { .. } => advice(
            "agent-stranger",
            "Somebody put it there: look who can write to the folder of your identity.",
        ),
        AgentError::NotStarted(_) => {
            advice("agent-not-started", "Commands work without it: each then asks for the passphrase.")
        }
        AgentError::NotEnded => advice("agent-not-ended", "End the process `ihfs agent-run` by hand."),
    }
}

fn solo(error: &SoloError) -> Advice {
    match error {
        SoloError::NoProgram => {
            advice("no-node-program", "Install ihfs-node beside ihfs, or name it with IHFS_NODE_BIN.")
        }
        SoloError::NotRun(_) => advice("node-not-run", "Look whether ihfs-node can be run by hand."),
        SoloError::NodeFailed { .. } => advice("node-failed", "What it said says what to do."),
        SoloError::NoNetwork => (
            Exit::NotFound,
            "no-solo-network",
            "Set one up with `ihfs init --solo`, or name its folder with --home.".into(),
        ),
        SoloError::NotStarted { .. } => {
            advice("node-not-started", "Run `ihfs solo start --foreground` to see all that it says.")
        }
        SoloError::Stopped => advice("node-stopped", "Start it with `ihfs solo start`."),
        SoloError::NotStopped { .. } => {
            advice("node-not-stopped", "It waits for its disk: look at the machine's log, then try again.")
        }
        SoloError::Busy => advice("node-busy", "Wait for the other command, or stop the node first."),
        SoloError::Files(_) => {
            advice("node-files", "Look whether the folder is yours and whether the disk is full.")
        }
        SoloError::BadNodeFile(_) => advice("node-file", "Stop and start the node."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_its_causes_once() {
        let error = std::io::Error::other("disk gone");
        let message = explain(&Failure::Solo(SoloError::Files(error)));
        assert_eq!(message.what.matches("disk gone").count(), 1, "{}", message.what);
        assert_eq!(message.exit, Exit::Error);
    }

    #[test]
    fn what_nobody_was_asked_names_the_option_that_answers_it() {
        let failure = Failure::Ask(AskError::NobodyThere { instead: "--passphrase-file FILE" });
        let message = explain(&failure);
        assert!(message.what.starts_with("--passphrase-file FILE is needed"), "{}", message.what);
        assert_eq!((message.exit, message.option), (Exit::Error, Some("--passphrase-file FILE")));
    }

    #[test]
    fn exit_codes_tell_missing_from_forbidden() {
        use ihfs_client::home::HomeError;
        use ihfs_client::location::Location;
        use ihfs_client::received::OpeningError;
        use ihfs_client::resolve::ResolveError;
        use ihfs_core::crypto::keyring::KeyringError;

        let location = Location::parse(b"/x").unwrap();
        let missing = Failure::Resolve(ResolveError::NotFound { location });
        assert_eq!(explain(&missing).exit, Exit::NotFound);
        let owner = "ann@st-mary".parse().unwrap();
        let ended = OpeningError::NotShared { owner, label: "ct".to_owned() };
        assert_eq!(explain(&Failure::Resolve(ended.into())).exit, Exit::NotAllowed);
        assert_eq!(explain(&Failure::Keyring(KeyringError::WrongPassphrase)).exit, Exit::NotAllowed);
        let nobody = HomeError::NotSetUp { path: "/h".into() };
        assert_eq!(explain(&Failure::Home(nobody)).exit, Exit::NotFound);
        let usage = explain(&Failure::WhichDevice { found: 2 });
        assert_eq!((usage.exit, usage.code), (Exit::Error, "which-device"));
    }
}
