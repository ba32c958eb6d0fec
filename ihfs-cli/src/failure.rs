//! Everything that can end a command early, each with its own type, so that `message` can give advice.

use ihfs_client::audit::AuditError;
use ihfs_client::change::ChangeError;
use ihfs_client::client::ConnectError;
use ihfs_client::devices::DeviceError;
use ihfs_client::get::GetError;
use ihfs_client::history::HistoryError;
use ihfs_client::home::HomeError;
use ihfs_client::join::JoinError;
use ihfs_client::link::AskError as NodeError;
use ihfs_client::location::LocationError;
use ihfs_client::put::PutError;
use ihfs_client::resolve::ResolveError;
use ihfs_client::revoke::RevokeError;
use ihfs_client::share::ShareError;
use ihfs_client::view::ViewError;
use ihfs_core::crypto::keyring::KeyringError;
use ihfs_core::invitation::InvitationError;

use crate::agent::AgentError;
use crate::ask::AskError;
use crate::config::ConfigError;
use crate::passphrase::PassphraseError;
use crate::sheet::SheetError;
use crate::solo::SoloError;

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
    /// An invite.
    #[error(transparent)]
    Invitation(#[from] InvitationError),
    /// What was typed as a location.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The beginning of a device's id fits none or several.
    #[error("{found} of your devices begin with these digits")]
    WhichDevice {
        /// How many do.
        found: usize,
    },
    /// The beginning of a grant's id fits none or several.
    #[error("{found} of the grants that you gave begin with these digits")]
    WhichGrant {
        /// How many do.
        found: usize,
    },
    /// The fingerprint words that were given are others.
    #[error("the fingerprint words are not those of {handle}, which are {found}")]
    WrongFingerprint {
        /// Whose.
        handle: String,
        /// The words of the key on the ledger.
        found: String,
    },
    /// Sharing until a time that is over.
    #[error("{until} is in the past")]
    EndsInThePast {
        /// The time.
        until: String,
    },
    /// Sharing with oneself.
    #[error("that is you")]
    WithYourself,
    /// The folder of the identity.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The keys of this device.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The network.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Joining or recovering.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The ledger.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Finding a location.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Putting.
    #[error(transparent)]
    Put(#[from] PutError),
    /// Sharing.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// Revoking.
    #[error(transparent)]
    Revoke(#[from] RevokeError),
    /// Grants and openings.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Devices.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Getting.
    #[error(transparent)]
    Get(#[from] GetError),
    /// Moving, removing, making folders.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// Versions.
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl Failure {
    /// Whether no node was reached, so that what this device knows by itself is all there is.
    pub(crate) const fn is_offline(&self) -> bool {
        matches!(
            self,
            Self::Solo(SoloError::Stopped)
                | Self::Connect(ConnectError::View(ViewError::Ask(
                    NodeError::Network(_) | NodeError::NoNode
                )))
        )
    }
}
