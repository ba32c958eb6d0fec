//! Why a command did not do what it was asked: told to people as a sentence, to programs in the shape that `ihfs`
//! has, `{"error": {"command", "code", "message", "advice", "exit"}}` on standard output.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use ihfs_node::admin::AdminError;
use ihfs_node::run::{FolderError, NodeError};

/// The table of `--help` and of the man pages: the same as that of `ihfs`.
pub(super) const EXIT_HELP: &str = "\
Exit codes:
  0  done
  1  not found: no node in the data folder, or it does not run
  2  error: the message says what failed and why
  3  not allowed: not confirmed, or the node refuses";

/// Exit code of what was named and does not exist.
const NOT_FOUND: u8 = 1;
/// Exit code of every other error.
const ERROR: u8 = 2;
/// Exit code of what may not be.
const NOT_ALLOWED: u8 = 3;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An act of administration failed.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The node did not start.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The node ended by itself.
    #[error("the node stopped: {0}")]
    Stopped(String),
    /// A file or the runtime failed.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// Exit code, stable name for programs, advice.
type Advice = (u8, &'static str, &'static str);

impl Failure {
    /// Tells it, with its causes and what to do, and gives the exit code.
    pub fn report(&self, command: &str, json: bool) -> ExitCode {
        let (exit, code, advice) = self.advice();
        if json {
            tell_json(command, code, &self.with_causes(), advice, exit);
        } else {
            eprintln!("ihfs-node {command}: {}\n{advice}", self.with_causes());
        }
        ExitCode::from(exit)
    }

    /// The error and its causes, each once.
    fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        text
    }

    const fn advice(&self) -> Advice {
        match self {
            Self::Admin(error) => admin(error),
            Self::Node(NodeError::Folder(error)) => folder(error),
            Self::Node(NodeError::Config(_)) => {
                (ERROR, "configuration", "Set node.toml in the data folder right and start the node again.")
            }
            Self::Node(NodeError::Network(_)) => (
                ERROR,
                "no-network",
                "Look whether another program listens there, and at `listen` in node.toml.",
            ),
            Self::Node(_) => {
                (ERROR, "node-not-started", "Nothing was changed. Look at the disk and at the log before.")
            }
            Self::Stopped(_) => (ERROR, "node-stopped", "Its log says more. Look before you start it again."),
            Self::Io { .. } => (ERROR, "file", "Look whether it is there, whose it is, and at the disk."),
        }
    }
}

const fn admin(error: &AdminError) -> Advice {
    match error {
        AdminError::Folder(error) => folder(error),
        AdminError::NotRunning { .. } => (NOT_FOUND, "node-stopped", "Start it, then run this again."),
        AdminError::Running { .. } => (ERROR, "node-running", "Stop it, then run this again."),
        AdminError::Refused(_) => (NOT_ALLOWED, "refused", "Nothing was changed."),
        AdminError::NotConfirmed => (NOT_ALLOWED, "declined", "Nothing was changed."),
        AdminError::NoAnnounce { .. } => (
            ERROR,
            "no-announce",
            "Nothing was made. Name it with --announce 192.0.2.1:4040 or a host name's.",
        ),
        AdminError::NoAddress => {
            (ERROR, "no-address", "Set `announce` in node.toml, or start the node first.")
        }
        AdminError::Handle { .. } => {
            (ERROR, "bad-name", "Take small letters, digits, dots, dashes and underscores.")
        }
        AdminError::Config(_) => (ERROR, "configuration", "Set node.toml in the data folder right."),
        AdminError::Key(_) => (ERROR, "keys", "Bring the key back from the hospital's own backup."),
        AdminError::Network(_) | AdminError::Request(_) | AdminError::NotUnderstood => {
            (ERROR, "unreachable", "Look whether the node runs and is of the same version.")
        }
        AdminError::Directory(_) => (ERROR, "directory", "Look at the disk and at the node's log."),
        AdminError::Backup(_) => {
            (ERROR, "backup", "Look whether the file and the passphrase are the right ones.")
        }
        AdminError::ShortPassphrase => (ERROR, "passphrase-short", "Take a longer one."),
        AdminError::Io { .. } => (ERROR, "file", "Look whether it is there, whose it is, and at the disk."),
    }
}

const fn folder(error: &FolderError) -> Advice {
    match error {
        FolderError::NotAFolder { .. } => (NOT_FOUND, "no-node", "Name its data folder with --data."),
        FolderError::UnknownFormat { .. } => {
            (ERROR, "newer-format", "Install the version of ihfs-node that wrote it.")
        }
        FolderError::InUse { .. } => (ERROR, "node-running", "Stop it, then run this again."),
        FolderError::Exists { .. } => (ERROR, "node-exists", "Name another folder with --data."),
        FolderError::Genesis(_) => (ERROR, "genesis", "Bring genesis.cbor back from a backup."),
        FolderError::Io { .. } => (ERROR, "file", "Look whose the folder is, and at the disk."),
    }
}

/// Tells what is wrong with the line that was typed, or the help that was asked for.
pub fn report_usage(error: &clap::Error, json: bool) -> ExitCode {
    if !json || !error.use_stderr() {
        // Help goes to whoever asked; if nobody listens any more, nothing is lost.
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { ERROR } else { 0 });
    }
    let text = error.render().to_string();
    let text = text.trim_start_matches("error: ").lines().next().unwrap_or_default().to_owned();
    tell_json("", "usage", &text, "`ihfs-node help` shows what can be typed.", ERROR);
    ExitCode::from(ERROR)
}

fn tell_json(command: &str, code: &str, message: &str, advice: &str, exit: u8) {
    let object = serde_json::json!({ "error": {
        "command": command, "code": code, "message": message, "advice": advice, "option": null, "exit": exit,
    }});
    // Nobody listens any more: the exit code still says it.
    let _ = writeln!(io::stdout().lock(), "{object}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_missing_from_forbidden() {
        let data = std::path::PathBuf::from("/d");
        let stopped = Failure::Admin(AdminError::NotRunning { data: data.clone() });
        assert_eq!(stopped.advice().0, NOT_FOUND);
        let none = Failure::Node(NodeError::Folder(FolderError::NotAFolder { path: data }));
        assert_eq!(none.advice().0, NOT_FOUND);
        assert_eq!(Failure::Admin(AdminError::NotConfirmed).advice().0, NOT_ALLOWED);
        assert_eq!(Failure::Stopped(String::new()).advice().0, ERROR);
    }
}
