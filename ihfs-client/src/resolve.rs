//! From a location to the record and the names below its top, across nested records.

use ihfs_core::ids::RecordId;
use ihfs_core::ledger::identity::VAULT_NONCE;
use ihfs_core::tree::entry::{Content, Item};
use ihfs_core::tree::name::Name;
use ihfs_core::tree::{Found, TreeError};

use crate::client::Client;
use crate::location::Location;
use crate::received::OpeningError;
use crate::record::{Access, OpenTree, Record, RecordError};
use crate::snapshot::Snapshot;
use crate::writing::empty_root;

/// Records nested deeper than this are not followed: the ledger allows no deeper grants either.
pub(crate) const NESTING_MAX: usize = 16;

/// Why a location was not found.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// A record could not be opened.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A shared record could not be opened.
    #[error(transparent)]
    Opening(#[from] OpeningError),
    /// Nothing stands there.
    #[error("{location}: nothing stands there")]
    NotFound {
        /// The location.
        location: Location,
    },
    /// A name in the middle is no folder.
    #[error("{location}: a name in the middle is not a folder")]
    NotAFolder {
        /// The location.
        location: Location,
    },
    /// Records are nested too deep.
    #[error("{location}: records are nested deeper than {NESTING_MAX}")]
    TooDeep {
        /// The location.
        location: Location,
    },
}

/// Where a location leads.
pub struct Spot {
    /// What was asked for.
    pub location: Location,
    /// The record that holds it.
    pub record: Record,
    /// Its newest version that this member may read; an empty folder when nothing was written yet.
    pub tree: OpenTree,
    /// Names below the record's top.
    pub path: Vec<Name>,
    /// The record that holds this record, and its path there; none for a vault or the top of a shared record.
    pub parent: Option<(RecordId, Vec<Name>)>,
}

impl Spot {
    /// The version that was found, for reading.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { record: self.record.clone(), tree: self.tree.clone() }
    }
}

impl Client {
    /// Follows a location into the record that holds it. What the path ends at need not exist.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub fn resolve(&self, location: &Location) -> Result<Spot, ResolveError> {
        let mut record = match location {
            Location::Own(_) => self.own_record(RecordId::of(self.member(), &VAULT_NONCE))?,
            Location::Shared { owner, label, .. } => {
                let (id, entry) = self.find_received(owner, label)?;
                self.shared_record(self.open_grant(id, entry)?)?
            }
        };
        let mut path = location.path().to_vec();
        let mut parent = None;
        for _ in 0..NESTING_MAX {
            let tree = self.tree_or_empty(&mut record)?;
            let found = tree.lookup(&path).map_err(RecordError::from)?;
            let Found::Crossing { item: Item { content: Content::Nested(nested), .. }, rest } = found else {
                return Ok(Spot { location: location.clone(), record, tree, path, parent });
            };
            let upto = path[..path.len() - rest.len()].to_vec();
            parent = Some((record.id, upto));
            path = rest;
            record = self.nested(&record, nested.record)?;
        }
        Err(ResolveError::TooDeep { location: location.clone() })
    }

    /// A record nested in one that is open.
    pub(crate) fn nested(&self, above: &Record, id: RecordId) -> Result<Record, ResolveError> {
        match above.access {
            Access::Owner => Ok(self.own_record(id)?),
            Access::Reader(_) => {
                let (grant, entry) = self.find_nested(id)?;
                Ok(self.shared_record(self.open_grant(grant, entry)?)?)
            }
        }
    }

    /// The newest version that this member may read; an empty folder when nothing was written yet.
    pub(crate) fn tree_or_empty(&self, record: &mut Record) -> Result<OpenTree, RecordError> {
        let (id, chunks) = (record.id, record.chunks.clone());
        Ok(self.open_head(record)?.unwrap_or_else(|| OpenTree::new(empty_root(id), chunks)))
    }

    /// Follows a location to something that exists.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub fn find(&self, location: &Location) -> Result<(Spot, Item), ResolveError> {
        let spot = self.resolve(location)?;
        match spot.tree.lookup(&spot.path).map_err(RecordError::from)? {
            Found::Item(item) => Ok((spot, item)),
            Found::NotAFolder { .. } => Err(ResolveError::NotAFolder { location: location.clone() }),
            Found::Missing { .. } | Found::Crossing { .. } => {
                Err(ResolveError::NotFound { location: location.clone() })
            }
        }
    }
}

impl From<TreeError<crate::fetch::FetchError>> for ResolveError {
    fn from(error: TreeError<crate::fetch::FetchError>) -> Self {
        Self::Record(error.into())
    }
}
