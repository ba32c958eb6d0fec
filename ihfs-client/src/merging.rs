//! Committing an edit that was made on an older version: when another device was faster, both are merged three
//! ways, and what does not merge becomes a conflict copy.

use ihfs_core::ids::{ChunkId, Epoch};
use ihfs_core::merge::{Conflict, CopyLabel, MergeError, Merged, merge};
use ihfs_core::sealed::PackWriter;
use ihfs_core::tree::edit::TreeEdit;
use ihfs_core::tree::root::Root;

use crate::client::{Client, now};
use crate::edit::EditingError;
use crate::fetch::{FetchError, Fetcher};
use crate::record::{Access, Record, RecordError};
use crate::resolve::ResolveError;
use crate::retry::{LostRace, again};
use crate::writing::{CommitError, Committed, Writing};

/// Why an edit was neither committed nor merged.
#[derive(Debug, thiserror::Error)]
pub enum MergingError {
    /// The location was not found.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The change was not made.
    #[error(transparent)]
    Editing(#[from] EditingError),
    /// The change was not committed. After [`CommitError::EpochMoved`] the content must be sealed again.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The versions do not merge.
    #[error(transparent)]
    Merge(#[from] MergeError<FetchError>),
}

impl LostRace for MergingError {
    fn is_lost_race(&self) -> bool {
        // Content that is sealed already does not fit another epoch, however often it is tried.
        matches!(self, Self::Commit(CommitError::Conflict { .. }))
    }
}

/// What the first attempt sealed and uploaded.
struct Sealed<'a> {
    ours: &'a TreeEdit<Fetcher>,
    added: Vec<(ChunkId, u32)>,
    epoch: Epoch,
    device: &'a str,
}

impl Client {
    /// Commits an edit. If the record has moved on since the edit began, merges the two; conflict copies are
    /// named by `device`.
    ///
    /// # Errors
    /// [`MergingError`].
    pub(crate) fn commit_merging(
        &self,
        writing: Writing,
        edit: TreeEdit<Fetcher>,
        device: &str,
    ) -> Result<(Committed, Vec<Conflict>), MergingError> {
        let record = writing.record.clone();
        let sealed = Sealed { ours: &edit, added: writing.uploader.added(), epoch: writing.epoch(), device };
        match self.commit(writing, &edit, &[]) {
            Err(CommitError::Conflict { .. }) => {}
            done => return Ok((done?, Vec::new())),
        }
        again(|| self.merge_once(&sealed, self.as_of_now(&record).map_err(CommitError::from)?))
    }

    /// The record with its newest version.
    fn as_of_now(&self, record: &Record) -> Result<Record, RecordError> {
        match &record.access {
            Access::Owner => self.own_record(record.id),
            Access::Reader(grant) => self.shared_record(grant.clone()),
        }
    }

    fn merge_once(
        &self,
        sealed: &Sealed<'_>,
        mut record: Record,
    ) -> Result<(Committed, Vec<Conflict>), MergingError> {
        let live = record.epoch();
        let theirs = self.tree_or_empty(&mut record).map_err(CommitError::from)?.root().clone();
        let id = record.id;
        let mut writing = self.write_record(record)?;
        if writing.epoch() != sealed.epoch {
            return Err(CommitError::EpochMoved { record: id, live }.into());
        }
        sealed.added.iter().for_each(|(chunk, size)| writing.reuse(*chunk, *size));
        let our_root = self.write_ours(sealed.ours, &mut writing)?;
        let label = CopyLabel { device: sealed.device.to_owned(), time: now() };
        let source = sealed.ours.source().clone();
        let Merged { edit, conflicts, devices } =
            merge(sealed.ours.base(), &our_root, &theirs, source, &label)?;
        writing.set_devices(devices);
        Ok((self.commit(writing, &edit, &[])?, conflicts))
    }

    /// Our version as it would have been. Its pages are uploaded too: the merged version may stand on them.
    fn write_ours(&self, ours: &TreeEdit<Fetcher>, writing: &mut Writing) -> Result<Root, CommitError> {
        let mut pages = PackWriter::new(&writing.sealer);
        let written = ours.write(&mut pages)?;
        for pack in pages.take_closed() {
            ours.source().keep(pack.clone());
            writing.uploader.push(pack)?;
        }
        let base = ours.base().clone();
        Ok(Root { version: base.version.next(), top: written.top, nested: written.nested, ..base })
    }
}
