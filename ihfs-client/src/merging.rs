//! Committing an edit that was made on an older version: when another device was faster, both are merged three
//! ways, and what does not merge becomes a conflict copy.

use ihfs_core::ids::{ChunkId, Epoch};
use ihfs_core::merge::{Conflict, CopyLabel, MergeError, Merged, merge};
use ihfs_core::sealed::PackWriter;
use ihfs_core::tree::edit::TreeEdit;
use ihfs_core::tree::root::Root;

use crate::client::{Client, now};
use crate::fetch::{FetchError, Fetcher};
use crate::record::{Record, RecordError};
use crate::retry::{LostRace, again};
use crate::writing::{CommitError, Committed, Writing};

/// Why an edit was neither committed nor merged.
#[derive(Debug, thiserror::Error)]
pub enum MergingError {
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
    /// Commits `ours`, whose content was uploaded by `writing`. If the record has moved on since the version that
    /// `ours` was made on, merges the two; `reopen` gives the record as it is now. Conflict copies are named by
    /// `device`.
    ///
    /// # Errors
    /// [`MergingError`].
    pub fn commit_merging(
        &self,
        writing: Writing,
        ours: &TreeEdit<Fetcher>,
        device: &str,
        reopen: &dyn Fn() -> Result<Record, RecordError>,
    ) -> Result<(Committed, Vec<Conflict>), MergingError> {
        let sealed = Sealed { ours, added: writing.uploader.added(), epoch: writing.epoch(), device };
        match self.commit(writing, ours, &[]) {
            Err(CommitError::Conflict { .. }) => {}
            done => return Ok((done?, Vec::new())),
        }
        again(|| self.merge_once(&sealed, reopen().map_err(CommitError::from)?))
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
