//! From what was typed to what is meant: the folder of the identity, where passphrases come from, how to tell.

use std::path::{Path, PathBuf};

use crate::args::Global;
use crate::ask::Asker;
use crate::failure::Failure;
use crate::output::Output;
use crate::passphrase::PassphraseSource;

/// Folder of an identity, below the user's home.
const DEFAULT_HOME: &str = ".ihfs";

/// What holds for every command.
#[derive(Debug)]
pub(crate) struct Config {
    /// Folder of the identity, absolute.
    pub(crate) home: PathBuf,
    /// Where the passphrase comes from.
    pub(crate) passphrase: PassphraseSource,
    /// Asks people, if there are any.
    pub(crate) asker: Asker,
    /// Tells results.
    pub(crate) output: Output,
}

/// Why the options make no sense together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// No `--home`, no `IHFS_HOME`, no home of the user.
    #[error("there is no folder for your identity: neither --home, nor IHFS_HOME, nor HOME is set")]
    NoHome,
    /// Its path cannot be made absolute.
    #[error("the folder of your identity has no absolute path")]
    BadHome(#[source] std::io::Error),
    /// Both name a source.
    #[error("--passphrase-file and --passphrase-fd are given, where one is enough")]
    TwoPassphrases,
}

impl Config {
    /// What the global options mean.
    pub(crate) fn new(global: Global) -> Result<Self, Failure> {
        let passphrase = match (global.passphrase_file, global.passphrase_fd) {
            (Some(_), Some(_)) => return Err(ConfigError::TwoPassphrases.into()),
            (Some(file), None) => PassphraseSource::File(file),
            (None, Some(fd)) => PassphraseSource::Descriptor(fd),
            (None, None) => PassphraseSource::Prompt,
        };
        let output = Output::new(global.json, global.verbose);
        if passphrase.is_exposed() {
            output.note("Others on this machine can read the file with your passphrase: `chmod 600` it.");
        }
        let asker = Asker::new(!global.json, global.yes);
        Ok(Self { home: home(global.home)?, passphrase, asker, output })
    }
}

/// The folder of the identity: as given, else below the user's home.
pub(crate) fn home(given: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    let home = given
        .filter(|home| !home.as_os_str().is_empty())
        .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(DEFAULT_HOME)))
        .ok_or(ConfigError::NoHome)?;
    std::path::absolute(home).map_err(ConfigError::BadHome)
}
