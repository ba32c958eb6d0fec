//! Advice on sharing, revoking, audits and devices.

use ihfs_client::audit::AuditError;
use ihfs_client::book::BookError;
use ihfs_client::devices::DeviceError;
use ihfs_client::issue::IssueError;
use ihfs_client::revoke::RevokeError;
use ihfs_client::share::ShareError;

use crate::exit::Exit;

use super::{Advice, advice, denied, files, network, not_found};

pub(super) fn share(error: &ShareError) -> Advice {
    match error {
        ShareError::Resolve(error) => files::resolve(error),
        ShareError::Record(error) => files::record(error),
        ShareError::View(error) => network::view(error),
        ShareError::Ask(error) => network::ask(error),
        ShareError::UnknownHandle { .. } => {
            not_found("unknown-member", "Ask the person for the exact handle.")
        }
        ShareError::WrongHandle { .. } => {
            denied("wrong-handle", "Nothing was shared. Tell the hospital: its node names somebody else.")
        }
        ShareError::KeyChanged { .. } => denied(
            "key-changed",
            "Nothing was shared. Ask the person, by phone or in person, whether the key is new, and tell the hospital.",
        ),
        ShareError::NotOwn => denied("not-own", "Ask the owner to share it."),
        ShareError::SymbolicLink => advice("symbolic-link", "Share the folder that holds it."),
        ShareError::BadLabel(_) => advice("bad-label", "Choose another with --label."),
        ShareError::LabelInUse { free, .. } => {
            (Exit::Error, "label-in-use", format!("Choose another, such as --label {free}.").into())
        }
        ShareError::Empty => not_found("empty", "Put something there first."),
        ShareError::Book(error) => book(error),
        ShareError::Issue(error) => issue(error),
        ShareError::Commit(error) => files::commit(error),
        ShareError::Submit(error) => network::submit(error),
    }
}

pub(super) fn revoke(error: &RevokeError) -> Advice {
    match error {
        RevokeError::Resolve(error) => files::resolve(error),
        RevokeError::LookUp(error) => share(error),
        RevokeError::Record(error) => files::record(error),
        RevokeError::View(error) => network::view(error),
        RevokeError::NotOwn => denied("not-own", "Only the owner can."),
        RevokeError::Wider { .. } => {
            advice("wider-grant", "Revoke that, then share again what should stay shared.")
        }
        RevokeError::NothingGranted { .. } | RevokeError::UnknownGrant { .. } => {
            not_found("no-grant", "`ihfs grants` shows what you gave.")
        }
        RevokeError::Submit(error) => network::submit(error),
    }
}

pub(super) fn audit(error: &AuditError) -> Advice {
    match error {
        AuditError::Resolve(error) => files::resolve(error),
        AuditError::Record(error) => files::record(error),
        AuditError::View(error) => network::view(error),
        AuditError::Book(error) => book(error),
        AuditError::UnlistedGrant { .. } => advice(
            "unlisted-grant",
            "Run it again. If it stays, tell the hospital: its ledger contradicts itself.",
        ),
        AuditError::NotOwn => denied("not-own", "Only the owner sees that."),
    }
}

pub(super) fn device(error: &DeviceError) -> Advice {
    match error {
        DeviceError::View(error) => network::view(error),
        DeviceError::OtherWords => denied("other-words", "Take the recovery sheet of this member."),
        DeviceError::UnknownDevice { .. } => not_found("no-device", "`ihfs device list` shows your devices."),
        DeviceError::LastDevice => denied(
            "last-device",
            "Nothing was removed. `ihfs recover` on another machine makes a second one; then remove this one.",
        ),
        DeviceError::Envelope(_) | DeviceError::Keyring(_) => {
            advice("device-keys", "Run `ihfs recover` with your recovery sheet.")
        }
        DeviceError::Submit(error) => network::submit(error),
    }
}

pub(super) fn book(error: &BookError) -> Advice {
    match error {
        BookError::Record(error) => files::record(error),
        BookError::Commit(error) => files::commit(error),
        BookError::Decode(_) => advice("book-damaged", "Restore an older version of it: tell the hospital."),
        BookError::UnknownFormat { .. } => {
            advice("newer-format", "Install the version of ihfs that wrote it.")
        }
        BookError::Full => advice("book-full", "Too many people and labels for one address book."),
    }
}

pub(super) fn issue(error: &IssueError) -> Advice {
    match error {
        IssueError::View(error) => network::view(error),
        IssueError::Record(error) => files::record(error),
        IssueError::NoKey { .. } => not_found("no-key", "The person has to finish `ihfs init` first."),
        IssueError::UnsignedKey { .. } | IssueError::Envelope(_) => {
            denied("bad-key", "Nothing was shared: the person's key is not right. Tell the hospital.")
        }
        IssueError::TooFewCustodians { last: Some(error), .. } => network::ask(error),
        IssueError::TooFewCustodians { last: None, .. } => {
            advice("too-few-custodians", "Nodes cannot be reached: try again later.")
        }
        IssueError::NoHandle => {
            advice("no-handle", "Run `ihfs recover` again: the address book tells the handle.")
        }
        IssueError::Book(error) => book(error),
    }
}
