//! What a script learns from the exit code.

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for was done.
    Done = 0,
    /// What was named does not exist.
    NotFound = 1,
    /// Something failed; the message says what to do.
    Error = 2,
    /// It exists, and you may not.
    NotAllowed = 3,
}

/// The table of `--help` and of the man pages.
pub(crate) const EXIT_HELP: &str = "\
Exit codes:
  0  done
  1  not found: the path, member, grant or device does not exist
  2  error: the message says what failed, why, and what to do
  3  not allowed: no live grant, or the ledger refuses
Ctrl-C ends a command with what a shell shows as 130; running it again goes on.

Passphrases come from a prompt, from --passphrase-file or from --passphrase-fd, never from an argument
or the environment. Without a terminal, or with --json, nothing is ever asked: what is missing is an error.";

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
