//! `put`: files and folders of this machine into the vault.
//!
//! Reads each file once, cuts it, and looks first whether a piece stands there already: under the key that it
//! has, or would have, in the version before. What is new is sealed and uploaded while the next file is read.
//! Then one commit of every record that is written to names all of it, together in one transaction. A re-run
//! uploads nothing; an interrupted run goes on where it stopped, since equal content seals equal.

use std::io;
use std::path::PathBuf;

use ihfs_core::ids::{RecordId, Version};
use ihfs_core::tree::edit::TreeEdit;
use ihfs_core::tree::entry::MetadataError;
use ihfs_core::tree::file::ContentError;
use ihfs_core::tree::name::NameError;

use crate::client::Client;
use crate::location::Location;
use crate::progress::Progress;
use crate::record::{OpenTree, Record, RecordError, Sealers};
use crate::resolve::ResolveError;
use crate::retry::{LostRace, again};
use crate::upload::UploadError;
use crate::writing::CommitError;

mod local;
mod placing;
mod reading;

use local::Input;
use reading::{Part, Reading};

/// One thing to put.
#[derive(Clone, Debug)]
pub struct Put {
    /// What.
    pub source: PutSource,
    /// Where it will stand, under that name. A folder fills the folder that stands there.
    pub target: Location,
}

/// What to put.
#[derive(Clone, Debug)]
pub enum PutSource {
    /// A file or folder of this machine.
    Path(PathBuf),
    /// Bytes from standard input.
    Stdin,
}

/// Why something was not put.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// A local file could not be read.
    #[error("{path:?}: {source}")]
    Local {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A local file changed while it was read, twice.
    #[error("{path:?} changed while it was read")]
    Changing {
        /// The file.
        path: PathBuf,
    },
    /// A name cannot stand in IHFS.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Metadata cannot stand in IHFS.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The content is too long.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A file or link would take a folder's place.
    #[error("{location}: is a folder")]
    IsAFolder {
        /// The folder.
        location: Location,
    },
    /// A folder would take the place of a file or link, or one stands in the middle of a path.
    #[error("{location}: not a folder")]
    NotAFolder {
        /// What stands there.
        location: Location,
    },
    /// A symbolic link would take the place of a file that is shared by itself, and end that.
    #[error("{location}: a symbolic link cannot take the place of a file that is shared by itself")]
    LinkOverShared {
        /// The file.
        location: Location,
    },
    /// Two sources would go to the same place, or one into another.
    #[error("{location}: more than one source would go there")]
    Overlap {
        /// The place.
        location: Location,
    },
    /// A part of the target is a record of its own, and this member may not write it.
    #[error("{location} is shared by itself and cannot be written")]
    Nested {
        /// The top of that record.
        location: Location,
        /// Why.
        source: Box<PutError>,
    },
    /// The target could not be found.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The record could not be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The chunks did not become durable.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The change was not committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// What a put came to.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct PutReport {
    /// Files that stand there now by this put.
    pub files: u64,
    /// Files of those that were there already, byte for byte.
    pub files_unchanged: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes that crossed the network, sealed.
    pub sent_bytes: u64,
    /// Things that were left out: sockets, devices and the like.
    pub skipped: Vec<String>,
    /// The version that holds it, of the record that the first target stands in if that changed; none when
    /// nothing changed.
    pub version: Option<u64>,
    /// Records that have a new version by it: one, and one for each part that is shared by itself.
    pub records: u64,
}

/// A put while it is made.
struct Putting<'c> {
    client: &'c Client,
    progress: &'c dyn Progress,
    /// Random bytes of the transaction.
    random: [u8; 32],
    /// The record that the first target stands in.
    first: Option<RecordId>,
    /// The records that were read into so far.
    parts: Vec<Part<'c>>,
    report: PutReport,
}

impl Put {
    /// A file or folder of this machine, to stand at `target`.
    pub fn path(local: impl Into<PathBuf>, target: Location) -> Self {
        Self { source: PutSource::Path(local.into()), target }
    }
}

impl LostRace for PutError {
    fn is_lost_race(&self) -> bool {
        match self {
            Self::Commit(error) => error.is_lost_race(),
            Self::Nested { source, .. } => source.is_lost_race(),
            _ => false,
        }
    }
}

impl Client {
    /// Puts every source at its target, all of them by one new version of each record that they go to.
    ///
    /// # Errors
    /// [`PutError`]. Then nothing of it shows.
    pub fn put(&self, puts: &[Put], progress: &dyn Progress) -> Result<PutReport, PutError> {
        must_not_overlap(puts)?;
        let opened = puts.iter().map(|put| Ok((Input::open(&put.source)?, &put.target)));
        let inputs = opened.collect::<Result<Vec<_>, PutError>>()?;
        let mut attempts = 0;
        again(|| {
            attempts += 1;
            if attempts > 1 {
                progress.restart();
            }
            self.put_once(&inputs, progress)
        })
    }

    fn put_once(
        &self,
        inputs: &[(Input<'_>, &Location)],
        progress: &dyn Progress,
    ) -> Result<PutReport, PutError> {
        let (mut bytes, mut files) = (0, 0);
        for (input, _) in inputs {
            let (more_bytes, more_files) = input.measure()?;
            (bytes, files) = (bytes + more_bytes, files + more_files);
        }
        progress.total(bytes, files);
        progress.phase("reading");
        let mut putting = Putting {
            client: self,
            progress,
            random: rand::random(),
            first: None,
            parts: Vec::new(),
            report: PutReport::default(),
        };
        for together in inputs.chunk_by(|one, next| folder_of(one.1) == folder_of(next.1)) {
            putting.read_into(&folder_of(together[0].1), together)?;
        }
        putting.commit()
    }
}

impl<'c> Putting<'c> {
    /// Reads what goes into one folder, or to the top of a vault or of what somebody shares.
    fn read_into(&mut self, folder: &Location, inputs: &[(Input<'_>, &Location)]) -> Result<(), PutError> {
        let spot = self.client.resolve(folder)?;
        self.first.get_or_insert(spot.record.id);
        let names_above = folder.path().len() - spot.path.len();
        let location = folder.with_path(folder.path()[..names_above].to_vec());
        let within = spot.parent.map(|(record, _)| record);
        let part = match self.take(spot.record.id) {
            Some(part) => part,
            None => self.open(spot.record, spot.tree, location, within)?,
        };
        self.fill(part, |reading| {
            inputs.iter().try_for_each(|(input, at)| reading.read(input, &at.path()[names_above..]))
        })
    }

    /// A record nested in one that is open, to be written.
    fn nested(&mut self, above: &Record, id: RecordId, location: Location) -> Result<Part<'c>, PutError> {
        if let Some(part) = self.take(id) {
            return Ok(part);
        }
        let open = || {
            let mut record = self.client.nested(above, id)?;
            let tree = self.client.tree_or_empty(&mut record)?;
            self.open(record, tree, location.clone(), Some(above.id))
        };
        open().map_err(|source| PutError::Nested { location: location.clone(), source: Box::new(source) })
    }

    fn open(
        &self,
        record: Record,
        tree: OpenTree,
        location: Location,
        within: Option<RecordId>,
    ) -> Result<Part<'c>, PutError> {
        let sealers = Sealers::new(self.client, record.clone());
        let writing = self.client.write_record_salted(record, self.random)?;
        let edit = TreeEdit::new(tree.root().clone(), tree.source().clone());
        Ok(Part { location, within, tree, writing, sealers, edit, changed: false })
    }

    /// A record that was read into before.
    fn take(&mut self, id: RecordId) -> Option<Part<'c>> {
        let at = self.parts.iter().position(|part| part.writing.record.id == id)?;
        Some(self.parts.swap_remove(at))
    }

    /// Reads into a record, whose chunks are then all on their way.
    fn fill(
        &mut self,
        mut part: Part<'c>,
        read: impl FnOnce(&mut Reading<'_, 'c>) -> Result<(), PutError>,
    ) -> Result<(), PutError> {
        let mut reading = Reading::new(self, &mut part);
        read(&mut reading)?;
        part.changed |= reading.finish()?;
        self.parts.push(part);
        Ok(())
    }

    /// One anchor of each record that changed.
    fn commit(mut self) -> Result<PutReport, PutError> {
        self.parts.retain(|part| part.changed);
        if self.parts.is_empty() {
            return Ok(self.report);
        }
        self.note_versions()?;
        self.progress.phase("committing");
        let mut prepared = Vec::new();
        for part in self.parts {
            prepared.push(self.client.prepare(part.writing, &part.edit, &[])?);
        }
        let ids: Vec<RecordId> = prepared.iter().map(|prepared| prepared.record).collect();
        let committed = self.client.submit_in_few(self.random, prepared)?;
        let named = ids.iter().position(|id| Some(*id) == self.first).unwrap_or(0);
        self.report.version = Some(committed[named].version);
        self.report.records = committed.len() as u64;
        self.report.sent_bytes = committed.iter().map(|committed| committed.sent_bytes).sum();
        Ok(self.report)
    }

    /// A record that gets a new version names those that the records nested in it get by this put.
    fn note_versions(&mut self) -> Result<(), PutError> {
        let nested: Vec<(RecordId, RecordId, Version)> = self
            .parts
            .iter()
            .filter_map(|part| {
                let record = &part.writing.record;
                Some((part.within?, record.id, record.version().next()))
            })
            .collect();
        for (within, record, version) in nested {
            if let Some(above) = self.parts.iter_mut().find(|part| part.writing.record.id == within) {
                above.edit.set_nested_version(record, version).map_err(CommitError::from)?;
            }
        }
        Ok(())
    }
}

/// The folder that a location names something in; the top is in none.
fn folder_of(location: &Location) -> Location {
    let path = location.path();
    location.with_path(path[..path.len().saturating_sub(1)].to_vec())
}

/// Fails when something is to go to the place of another source, or into it.
fn must_not_overlap(puts: &[Put]) -> Result<(), PutError> {
    let mut targets: Vec<(String, &Location)> =
        puts.iter().map(|put| (put.target.with_path(Vec::new()).to_string(), &put.target)).collect();
    targets.sort_by(|one, other| (&one.0, one.1.path()).cmp(&(&other.0, other.1.path())));
    // In this order, what is at or below a place follows it, or something else that is below it.
    match targets
        .windows(2)
        .find(|pair| pair[0].0 == pair[1].0 && pair[1].1.path().starts_with(pair[0].1.path()))
    {
        Some(pair) => Err(PutError::Overlap { location: pair[1].1.clone() }),
        None => Ok(()),
    }
}
