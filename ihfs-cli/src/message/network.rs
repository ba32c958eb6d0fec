//! Advice on the folder, the keys, the network and the ledger.

use ihfs_client::client::ConnectError;
use ihfs_client::home::HomeError;
use ihfs_client::join::JoinError;
use ihfs_client::link::{AskError, Refusal};
use ihfs_client::submit::SubmitError;
use ihfs_client::view::ViewError;
use ihfs_core::crypto::keyring::KeyringError;
use ihfs_proto::ledger::Reason;

use super::{Advice, advice, denied, not_found, people};

pub(super) fn home(error: &HomeError) -> Advice {
    match error {
        HomeError::NotSetUp { .. } => not_found(
            "not-set-up",
            "Run `ihfs init` or `ihfs recover`, or name another folder with --home or IHFS_HOME.",
        ),
        HomeError::AlreadySetUp { .. } => {
            advice("already-set-up", "Name another folder with --home or IHFS_HOME: one for each identity.")
        }
        HomeError::Io { .. } => {
            advice("home-files", "Look whether the folder is yours and whether the disk is full.")
        }
        HomeError::Busy { .. } => advice("home-busy", "Wait for the other command and run it again."),
        HomeError::Damaged { .. } => advice("home-damaged", "Run `ihfs recover` with your recovery sheet."),
        HomeError::UnknownFormat { .. } => {
            advice("newer-format", "Install the version of ihfs that wrote it.")
        }
    }
}

pub(super) fn keyring(error: &KeyringError) -> Advice {
    match error {
        KeyringError::WrongPassphrase => denied(
            "wrong-passphrase",
            "Try again; if it is forgotten, `ihfs recover` sets a new one by the sheet.",
        ),
        KeyringError::NotAKeyring | KeyringError::Damaged(_) => {
            advice("keys-damaged", "Run `ihfs recover` with your recovery sheet.")
        }
        KeyringError::UnknownFormat { .. } => {
            advice("newer-format", "Install the version of ihfs that wrote it.")
        }
        KeyringError::NoMemory => advice("no-memory", "Close other programs: opening the keys takes 64 MiB."),
    }
}

pub(super) fn connect(error: &ConnectError) -> Advice {
    match error {
        ConnectError::Home(error) => home(error),
        ConnectError::Removed => denied(
            "device-removed",
            "`ihfs recover` with the recovery sheet makes this machine one of your devices again.",
        ),
        ConnectError::View(error) => view(error),
        ConnectError::Generation(error) => people::device(error),
        ConnectError::Runtime(_) | ConnectError::Start(_) => {
            advice("no-network", "Look whether this machine lets programs open connections.")
        }
        ConnectError::Address(_) | ConnectError::SavedView(_) | ConnectError::OtherNetwork { .. } => {
            advice("home-damaged", "Run `ihfs recover` with your recovery sheet.")
        }
    }
}

pub(super) fn join(error: &JoinError) -> Advice {
    match error {
        JoinError::Connect(error) => connect(error),
        JoinError::Home(error) => home(error),
        JoinError::Ask(error) => ask(error),
        JoinError::View(error) => view(error),
        JoinError::Keyring(error) => keyring(error),
        JoinError::Book(error) => people::book(error),
        JoinError::UnknownMember => {
            not_found("unknown-member", "Look whether the sheet is of this network: its digits name it.")
        }
        JoinError::NotRegistered => {
            advice("not-registered", "Nothing was set up. The node is broken or lies: tell the hospital.")
        }
        JoinError::InviteSpent => denied(
            "invite-used",
            "If you used it yourself, `ihfs init` with the same --sheet FILE goes on, and `ihfs recover` does with \
             the sheet on paper. Otherwise ask your hospital for a new one.",
        ),
        JoinError::OtherMember { .. } => denied(
            "other-member",
            "Nothing was changed. Name another folder with --home or IHFS_HOME: one for each identity.",
        ),
        JoinError::InviteExpired => denied(
            "invite-expired",
            "Look whether this machine's clock is right, then ask your hospital for a new one.",
        ),
    }
}

pub(super) fn view(error: &ViewError) -> Advice {
    match error {
        ViewError::Ask(error) => ask(error),
        ViewError::WrongGenesis(_) => advice(
            "wrong-network",
            "The node is of another network, or lies. Compare the fingerprint with your recovery sheet.",
        ),
        ViewError::WentBack { .. } => advice(
            "ledger-went-back",
            "Nothing was believed. The node is behind or was restored: try later, and tell the hospital.",
        ),
        ViewError::Split { .. } => {
            advice("ledger-split", "Nothing was believed. Stop, and tell the hospital at once.")
        }
        ViewError::Decode(_)
        | ViewError::WrongHeader { .. }
        | ViewError::UnknownValidators { .. }
        | ViewError::Certificate(_)
        | ViewError::Proof(_)
        | ViewError::List(_) => advice(
            "ledger-not-proved",
            "Nothing was believed. The node is broken or lies: tell the hospital.",
        ),
    }
}

pub(super) fn submit(error: &SubmitError) -> Advice {
    match error {
        SubmitError::Refused(error) => refusal(error),
        SubmitError::Ask(error) => ask(error),
        SubmitError::View(error) => view(error),
        SubmitError::Undecided { .. } => undecided(),
        SubmitError::NotApplied { .. } => advice(
            "not-applied",
            "Nothing was reported as done that is not. The node is broken or lies: tell the hospital.",
        ),
    }
}

pub(super) fn ask(error: &AskError) -> Advice {
    match error {
        AskError::Network(_) => advice(
            "unreachable",
            "Look at the network of this machine; a node of your own is started with `ihfs solo start`.",
        ),
        AskError::Refused(error) => refusal(error),
        AskError::Malformed { .. } => {
            advice("node-broken", "The node is broken or of another version: tell the hospital.")
        }
        AskError::NoNode => advice("no-node", "Run `ihfs recover` with a sheet that has addresses."),
        AskError::Cancelled(_) => cancelled(),
    }
}

pub(super) const fn cancelled() -> Advice {
    advice("cancelled", "Run it again; what had arrived by then stays.")
}

fn refusal(refusal: &Refusal) -> Advice {
    match refusal.reason {
        Reason::NotAllowed | Reason::Rules => denied(
            "refused",
            "Nothing was changed. If the reason makes no sense to you, tell the hospital what it says.",
        ),
        Reason::NoGrant => denied("no-grant", "Ask the owner to share it again."),
        Reason::NotFound => not_found("node-has-not", "Look at what `ihfs ls` and `ihfs received` show."),
        Reason::NotOpened | Reason::OpenAgain => {
            advice("open-again", "Run it again: the node wants a new opening.")
        }
        Reason::Full => advice("node-full", "Nothing was lost. The hospital must make room on the node."),
        Reason::Busy => advice("node-busy", "Wait a moment and run it again."),
        Reason::NoLedger => advice("no-ledger", "Wait a moment and run it again; the node is catching up."),
        Reason::Broken => advice("node-broken", "The node's log says more: tell the hospital."),
        Reason::Undecided => undecided(),
        Reason::Clock => advice(
            "wrong-clock",
            "Nothing was changed. Set this machine's clock; if it is right, the node's is not: tell the hospital.",
        ),
        Reason::Unknown | Reason::Malformed => advice(
            "other-version",
            "This ihfs and the node do not understand each other: install the same version.",
        ),
    }
}

const fn undecided() -> Advice {
    advice("undecided", "Look whether it was done before you run it again; running it again is safe.")
}
