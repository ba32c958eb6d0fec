//! Everything that can end a command early, each with its own type, so that `message` can give advice.

use crate::agent::AgentError;
use crate::ask::AskError;
use crate::config::ConfigError;
use crate::passphrase::PassphraseError;
use crate::sheet::SheetError;
use crate::solo::SoloError;
use crate::until::UntilError;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The options.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nobody to ask, or no.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The passphrase.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// The recovery sheet.
    #[error(transparent)]
    Sheet(#[from] SheetError),
    /// A moment or a span.
    #[error(transparent)]
    Until(#[from] UntilError),
    /// The agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The solo network.
    #[error(transparent)]
    Solo(#[from] SoloError),
    /// Standard output.
    #[error("the result could not be written")]
    Output(#[source] std::io::Error),
    /// A file on this machine.
    #[error("a file on this machine could not be read or written")]
    File(#[from] std::io::Error),
    /// Not wired.
    #[error("not there yet")]
    NotWired,
}
