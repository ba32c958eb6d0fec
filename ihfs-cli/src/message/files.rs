//! Advice on finding, reading and writing files.

use ihfs_client::change::ChangeError;
use ihfs_client::fetch::FetchError;
use ihfs_client::get::GetError;
use ihfs_client::history::HistoryError;
use ihfs_client::put::PutError;
use ihfs_client::received::OpeningError;
use ihfs_client::record::RecordError;
use ihfs_client::resolve::ResolveError;
use ihfs_client::upload::UploadError;
use ihfs_client::writing::CommitError;
use ihfs_core::tree::TreeError;
use ihfs_core::tree::edit::EditError;

use super::{Advice, advice, denied, network, not_found, people};

pub(super) fn resolve(error: &ResolveError) -> Advice {
    match error {
        ResolveError::Record(error) => record(error),
        ResolveError::Opening(error) => opening(error),
        ResolveError::NotFound { .. } => {
            not_found("not-found", "`ihfs ls` shows what stands in the folder above it.")
        }
        ResolveError::NotAFolder { .. } => not_found("not-a-folder", "`ihfs stat` shows what it is."),
        ResolveError::TooDeep { .. } => advice("too-deep", "Move it further up."),
    }
}

pub(super) fn opening(error: &OpeningError) -> Advice {
    match error {
        OpeningError::View(error) => network::view(error),
        OpeningError::NotShared { .. } | OpeningError::NestedNotShared { .. } => denied(
            "not-shared",
            "`ihfs received` shows what is shared with you. Ask the owner to share it again.",
        ),
        OpeningError::NotesAway { .. } => {
            advice("notes-away", "Custodians cannot be reached: try again later.")
        }
        OpeningError::NotOpen { .. } => {
            denied("not-open", "`ihfs ls` on its folder opens it; its owner will see that.")
        }
        OpeningError::Submit(error) => network::submit(error),
        OpeningError::NoGeneration { .. } => no_generation(),
        OpeningError::TooFewShares { last: Some(error), .. } => network::ask(error),
        OpeningError::TooFewShares { last: None, .. } => {
            advice("too-few-shares", "Custodians cannot be reached: try again later.")
        }
        OpeningError::Share(_) | OpeningError::Grant(_) => advice(
            "bad-grant",
            "A custodian or the owner gave something wrong. Ask the owner to share it again.",
        ),
    }
}

pub(super) fn record(error: &RecordError) -> Advice {
    match error {
        RecordError::View(error) => network::view(error),
        RecordError::Unknown { .. } => not_found("no-record", "`ihfs ls` shows what there is."),
        RecordError::NoLongerShared { .. } => denied("no-grant", "Ask the owner to share it again."),
        RecordError::NotOwn { .. } => denied("not-own", "Ask the owner to share it with you."),
        RecordError::NoGeneration { .. } => no_generation(),
        RecordError::OtherVersion { .. } => denied("other-version", "Only that version was shared with you."),
        RecordError::NotReadable { .. } => advice(
            "not-yet-readable",
            "The owner's device has to renew your grant; it does so with the owner's next command.",
        ),
        RecordError::Fetch(error) => fetch(error),
        RecordError::Open(_) | RecordError::Root(_) => damaged(),
        RecordError::Tree(error) => tree(error),
    }
}

pub(super) fn tree(error: &TreeError<FetchError>) -> Advice {
    match error {
        TreeError::Source(error) => fetch(error),
        TreeError::Open(_) | TreeError::Page { .. } | TreeError::Unwritten => damaged(),
    }
}

pub(super) fn fetch(error: &FetchError) -> Advice {
    match error {
        FetchError::Ask { reason, .. } => network::ask(reason),
        FetchError::Damaged(_) => damaged(),
        FetchError::TimedOut { .. } => {
            advice("timed-out", "Look at the network of this machine and run it again.")
        }
        FetchError::Cancelled(_) => network::cancelled(),
    }
}

pub(super) fn put(error: &PutError) -> Advice {
    let (exit, code, text) = put_alone(error);
    // What was broken off on the way needs nothing but another run.
    if matches!(code, "unreachable" | "timed-out" | "node-busy" | "no-ledger") {
        return (exit, code, format!("{text} Then run it again: it goes on, nothing is sent twice.").into());
    }
    (exit, code, text)
}

fn put_alone(error: &PutError) -> Advice {
    match error {
        PutError::Local { .. } => {
            advice("local-file", "Look whether the file is there and whether you may read it.")
        }
        PutError::Changing { .. } => advice("changing", "Wait until nothing writes to it, and run it again."),
        PutError::Name(_) => advice("bad-name", "Rename it."),
        PutError::Metadata(_) => advice("bad-metadata", "Take off what is named, and run it again."),
        PutError::Content(_) => advice("too-large", "Split the file."),
        PutError::IsAFolder { .. } | PutError::NotAFolder { .. } | PutError::LinkOverShared { .. } => advice(
            "other-kind",
            "`ihfs stat` shows what it is. Move it away or remove it, or choose another place.",
        ),
        PutError::Overlap { .. } => {
            advice("overlap", "Put them one after the other, or to different places.")
        }
        PutError::Nested { source, .. } => put_alone(source),
        PutError::Resolve(error) => resolve(error),
        PutError::Record(error) => record(error),
        PutError::Upload(error) => upload(error),
        PutError::Commit(error) => commit(error),
    }
}

pub(super) fn upload(error: &UploadError) -> Advice {
    match error {
        UploadError::Ask(error) => network::ask(error),
        UploadError::Receipt { .. } | UploadError::WrongReceipt { .. } => {
            advice("bad-receipt", "The node is broken or lies: tell the hospital. Running it again goes on.")
        }
        UploadError::Delta(_) => advice("too-much-at-once", "Put it in several parts."),
    }
}

pub(super) fn commit(error: &CommitError) -> Advice {
    match error {
        CommitError::Record(error) => record(error),
        CommitError::Conflict { .. } | CommitError::EpochMoved { .. } => {
            advice("conflict", "Run it again: what was uploaded is not sent twice.")
        }
        CommitError::ReadOnly { .. } => denied("read-only", "Ask the owner to share it with --write."),
        CommitError::Edit(error) => edit(error),
        CommitError::Tree(error) => tree(error),
        CommitError::Root(_) => advice("too-much-at-once", "The record holds too many shared parts."),
        CommitError::Upload(error) => upload(error),
        CommitError::Issue(error) => people::issue(error),
        CommitError::Submit(error) => network::submit(error),
        CommitError::View(error) => network::view(error),
    }
}

pub(super) fn edit(error: &EditError<FetchError>) -> Advice {
    match error {
        EditError::Tree(error) => tree(error),
        EditError::NotFound { .. } => not_found("not-found", "`ihfs ls` shows what there is."),
        EditError::NotAFolder { .. }
        | EditError::IsAFolder
        | EditError::Exists
        | EditError::NotEmpty
        | EditError::Crossing { .. }
        | EditError::IntoItself
        | EditError::Top
        | EditError::TooDeep
        | EditError::NeedsAttach
        | EditError::AlreadyNested { .. }
        | EditError::Unwritten => {
            advice("cannot-change", "`ihfs ls` and `ihfs stat` show what stands there.")
        }
    }
}

pub(super) fn get(error: &GetError) -> Advice {
    match error {
        GetError::Resolve(error) => resolve(error),
        GetError::Record(error) => record(error),
        GetError::Local { .. } => {
            advice("local-file", "Look whether you may write there and whether the disk is full.")
        }
        GetError::Exists { .. } => advice("exists", "Choose another target, or replace it with --force."),
        GetError::IsAFolder { .. } | GetError::NotAFolder { .. } => {
            advice("exists", "Choose another target.")
        }
        GetError::Busy { .. } => advice("busy", "Wait for the other run."),
        GetError::NotAFile { .. } => advice("not-a-file", "`ihfs get` brings folders."),
        GetError::Output(_) => advice("output", "Look at the program or the disk behind it."),
    }
}

pub(super) fn change(error: &ChangeError) -> Advice {
    match error {
        ChangeError::Resolve(error) => resolve(error),
        ChangeError::Record(error) => record(error),
        ChangeError::Commit(error) => commit(error),
        ChangeError::View(error) => network::view(error),
        ChangeError::NotFound { .. } => {
            not_found("not-found", "`ihfs ls` shows what stands in the folder above it.")
        }
        ChangeError::Exists { .. } => {
            advice("exists", "Choose another name, or replace it with --force where there is one.")
        }
        ChangeError::NotEmpty { .. } => {
            advice("not-empty", "Remove it with everything in it with --recursive.")
        }
        ChangeError::NotAFolder { .. } | ChangeError::IsAFolder { .. } => {
            advice("other-kind", "`ihfs stat` shows what it is.")
        }
        ChangeError::Top { .. } => advice("top", "Name something in it."),
        ChangeError::IntoItself { .. } => advice("into-itself", "Choose a place outside of it."),
        ChangeError::OnlyOwner { .. } => denied("not-own", "Ask its owner."),
        ChangeError::ChangedMeanwhile { .. } => {
            advice("changed-meanwhile", "Look at both, and remove the one that you do not want.")
        }
    }
}

pub(super) fn history(error: &HistoryError) -> Advice {
    match error {
        HistoryError::Resolve(error) => resolve(error),
        HistoryError::Record(error) => record(error),
        HistoryError::View(error) => network::view(error),
        HistoryError::Change(error) => change(error),
        HistoryError::Commit(error) => commit(error),
        HistoryError::Delta(_) => damaged(),
        HistoryError::NoSuchVersion { .. } | HistoryError::NotThere { .. } => {
            not_found("no-such-version", "`ihfs history` shows the versions.")
        }
        HistoryError::NoKey { .. } => denied("no-key", "Only the owner can read that version."),
        HistoryError::Pruned { .. } => not_found("pruned", "It is gone for ever."),
        HistoryError::NestedElsewhere { .. } => {
            advice("nested-elsewhere", "Restore that by itself, where it stands now.")
        }
        HistoryError::SharedSince { .. } => {
            advice("shared-since", "Nothing was changed. Move that part away or remove it, then restore.")
        }
        HistoryError::NotWhole { .. } => advice("not-whole", "Nothing was dropped. Tell the hospital."),
        HistoryError::OnlyOwner { .. } => denied("not-own", "Ask its owner."),
    }
}

const fn no_generation() -> Advice {
    denied(
        "device-removed",
        "This device was removed, or has not caught up: run `ihfs recover` with your sheet.",
    )
}

const fn damaged() -> Advice {
    advice("damaged", "Nothing wrong was written. What the node keeps is damaged: tell the hospital.")
}
