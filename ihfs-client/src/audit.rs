//! What the owner sees: grants that were given, and who opened what, proved complete.

use std::collections::{BTreeMap, VecDeque};

use ihfs_core::ids::{GrantId, MemberId, RecordId};
use ihfs_core::ledger::identity::VAULT_NONCE;
use ihfs_core::ledger::lists::ListKey;
use ihfs_core::ledger::operation::GrantPurpose;
use ihfs_core::ledger::state::{EndReason, GrantEntry, OpeningItem};
use ihfs_core::tree::TreeError;
use ihfs_core::tree::entry::Content;
use ihfs_core::tree::name::Name;

use crate::book::{Book, BookError};
use crate::change::nested_below;
use crate::client::{Client, now};
use crate::fetch::FetchError;
use crate::held::Holder;
use crate::location::Location;
use crate::record::{OpenTree, RecordError};
use crate::resolve::ResolveError;
use crate::view::ViewError;

/// Entries of a folder read at once.
const PAGE_ENTRIES: usize = 1024;

/// Why the owner's lists were not had.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The location could not be found.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A record could not be opened.
    #[error(transparent)]
    Record(RecordError),
    /// The ledger's word was not had, or a list is not complete.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The address book could not be read.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The record's list of openings, which is proved, names a grant that its list of grants, which is proved too,
    /// does not.
    #[error("an opening names grant {grant:?}, which the record's list of grants does not hold")]
    UnlistedGrant {
        /// The grant.
        grant: GrantId,
    },
    /// Only the owner sees these lists.
    #[error("only the owner sees who opened what")]
    NotOwn,
}

impl From<RecordError> for AuditError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::View(error) => Self::View(error),
            error => Self::Record(error),
        }
    }
}

/// A grant that was given.
#[derive(Clone, Debug, serde::Serialize)]
pub struct GivenGrant {
    /// The grant.
    pub grant: String,
    /// The record.
    pub record: String,
    /// Where the record is in the vault, if it is there.
    pub path: Option<String>,
    /// Whether the record is a wider one, of which what was asked for is or was a part.
    pub wider: bool,
    /// To whom.
    pub reader: String,
    /// Under which label.
    pub label: String,
    /// What for.
    pub purpose: GrantPurpose,
    /// Whether the reader may write.
    pub write: bool,
    /// The one version that it opens, if it is only one.
    pub snapshot: Option<u64>,
    /// Since when, milliseconds since 1970.
    pub given: u64,
    /// Until when.
    pub until: Option<u64>,
    /// Whether it opens now, and if not, why.
    pub state: GrantState,
    /// When it was last opened.
    pub last_opened: Option<u64>,
    /// The newest version that it makes readable, of those that hold what was asked for; none when it waits for this
    /// device to issue it again.
    pub readable: Option<u64>,
}

/// Whether a grant opens now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrantState {
    /// It does.
    Live,
    /// Its time has not come.
    NotYet,
    /// Its time is over.
    Expired,
    /// The owner ended it.
    Revoked,
}

/// One opening.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AuditItem {
    /// Time of the block, milliseconds since 1970.
    pub time: u64,
    /// The block.
    pub height: u64,
    /// Who opened.
    pub reader: String,
    /// On which device.
    pub device: String,
    /// The record.
    pub record: String,
    /// Where the record is in the vault, if it is there.
    pub path: Option<String>,
    /// Whether the record is a wider one, of which what was asked for is or was a part.
    pub wider: bool,
    /// Under which grant.
    pub grant: String,
    /// What the grant is for.
    pub purpose: GrantPurpose,
    /// The newest version at that time.
    pub version: u64,
}

/// A record that holds what somebody asks about.
struct Asked {
    holder: Holder,
    /// Whether that is or was only a part of it.
    is_wider: bool,
    /// Whether it was split out of it: only versions from before the split count.
    is_former: bool,
}

impl Client {
    /// Every grant that this member gave and that was not replaced by a newer one of the same conditions.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn grants(&self) -> Result<Vec<GivenGrant>, AuditError> {
        self.grants_of_asked(self.whole(self.own_records()?)?)
    }

    /// Grants by which what stands at `location` can be read: those on its record and on records below it, and on
    /// wider records of which it is a part, or was when versions were written that their keys open.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn grants_on(&self, location: &Location) -> Result<Vec<GivenGrant>, AuditError> {
        self.grants_of_asked(self.asked(location)?)
    }

    fn grants_of_asked(&self, all: Vec<Asked>) -> Result<Vec<GivenGrant>, AuditError> {
        let (book, paths) = (self.book()?, self.record_paths()?);
        let mut given = Vec::new();
        for asked in all {
            let record = &asked.holder.record;
            for (grant, granted) in self.grants_of(record.id, record.lists)? {
                let is_replaced = granted.ended.is_some_and(|end| matches!(end.why, EndReason::Replaced(_)));
                let readable = asked.holder.readable_by(&granted);
                if !(is_replaced || asked.is_former && readable.is_none()) {
                    let item = self.given(&book, &paths, grant.to_string(), &granted, readable);
                    given.push(GivenGrant { wider: asked.is_wider, ..item });
                }
            }
        }
        Ok(given)
    }

    /// The records that hold what stands at `location`, and those below it.
    fn asked(&self, location: &Location) -> Result<Vec<Asked>, AuditError> {
        let Location::Own(_) = location else { return Err(AuditError::NotOwn) };
        let (mut spot, item) = self.find(location)?;
        let is_part = !spot.path.is_empty();
        let below =
            if is_part { nested_below(&spot.tree, &item)? } else { self.nested_of(&mut spot.record)? };
        let holders = self.holders(spot.record)?.into_iter().enumerate();
        let wider = |(place, holder)| Asked { holder, is_wider: is_part || place > 0, is_former: place > 0 };
        let mut all: Vec<Asked> = holders.map(wider).collect();
        all.extend(self.whole(self.with_all_nested(below)?)?);
        Ok(all)
    }

    /// Records that are asked about as a whole; their versions are read where they are needed.
    fn whole(&self, records: Vec<RecordId>) -> Result<Vec<Asked>, AuditError> {
        let whole = |id| {
            let holder = Holder { record: self.own_record(id)?, versions: Vec::new() };
            Ok(Asked { holder, is_wider: false, is_former: false })
        };
        records.into_iter().map(whole).collect()
    }

    fn given(
        &self,
        book: &Book,
        paths: &BTreeMap<RecordId, Location>,
        grant: String,
        entry: &GrantEntry,
        readable: Option<u64>,
    ) -> GivenGrant {
        let conditions = &entry.conditions;
        GivenGrant {
            grant,
            record: conditions.record.to_string(),
            path: paths.get(&conditions.record).map(ToString::to_string),
            wider: false,
            reader: self.name_of(book, conditions.reader),
            label: book.label(conditions.label).0,
            purpose: conditions.purpose,
            write: conditions.write,
            snapshot: conditions.snapshot.map(|version| version.0),
            given: entry.time.0,
            until: conditions.expires.map(|time| time.0),
            state: self.state_of(entry),
            last_opened: entry.opened.map(|opened| opened.time.0),
            readable,
        }
    }

    fn state_of(&self, entry: &GrantEntry) -> GrantState {
        let time = now().max(self.view.trust().time);
        if entry.ended.is_some() {
            GrantState::Revoked
        } else if entry.is_expired_at(time) {
            GrantState::Expired
        } else if entry.conditions.not_before > time {
            GrantState::NotYet
        } else {
            GrantState::Live
        }
    }

    /// Every opening by which what stands at `location` could be read: of its record and of those below it, and of
    /// wider records of which it is a part, or was in versions that the openings made readable. All openings of all
    /// records without a location. Oldest first; proved complete by the ledger's counts and hashes.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn audit(&self, location: Option<&Location>) -> Result<Vec<AuditItem>, AuditError> {
        let all = match location {
            None => self.whole(self.own_records()?)?,
            Some(location) => self.asked(location)?,
        };
        let (book, paths) = (self.book()?, self.record_paths()?);
        let mut items = Vec::new();
        for asked in all {
            items.extend(self.openings_of(&asked, &book, &paths)?);
        }
        items.sort_by_key(|item| item.height);
        Ok(items)
    }

    fn openings_of(
        &self,
        asked: &Asked,
        book: &Book,
        paths: &BTreeMap<RecordId, Location>,
    ) -> Result<Vec<AuditItem>, AuditError> {
        let record = &asked.holder.record;
        let Some(lists) = record.lists else { return Ok(Vec::new()) };
        let mut openings: Vec<OpeningItem> =
            self.view.items(ListKey::Openings(record.id), Default::default(), lists.openings)?;
        if asked.is_former {
            let epochs = asked.holder.epochs();
            openings.retain(|opening| epochs.contains(&opening.epoch));
        }
        if openings.is_empty() {
            return Ok(Vec::new());
        }
        let grants: BTreeMap<_, _> = self.grants_of(record.id, Some(lists))?.into_iter().collect();
        let item = |opening: &OpeningItem| {
            let grant =
                grants.get(&opening.grant).ok_or(AuditError::UnlistedGrant { grant: opening.grant })?;
            Ok(AuditItem {
                time: opening.time.0,
                height: opening.height.0,
                reader: self.name_of(book, opening.reader),
                device: opening.device.to_string(),
                record: record.id.to_string(),
                path: paths.get(&record.id).map(ToString::to_string),
                wider: asked.is_wider,
                grant: opening.grant.to_string(),
                purpose: grant.conditions.purpose,
                version: opening.version.0,
            })
        };
        openings.iter().map(item).collect()
    }

    /// Where each record stands in the vault, by walking the trees that hold nested records until all are found.
    pub(crate) fn record_paths(&self) -> Result<BTreeMap<RecordId, Location>, AuditError> {
        let vault = RecordId::of(self.member(), &VAULT_NONCE);
        let mut paths = BTreeMap::from([(vault, Location::Own(Vec::new()))]);
        let mut waiting = vec![vault];
        while let Some(id) = waiting.pop() {
            let mut record = self.own_record(id)?;
            let Some(tree) = self.open_head(&mut record)? else { continue };
            let top = paths[&id].path().to_vec();
            for (nested, path) in nested_paths(&tree).map_err(RecordError::from)? {
                paths.insert(nested, Location::Own([top.as_slice(), &path].concat()));
                waiting.push(nested);
            }
        }
        Ok(paths)
    }

    /// Ids and names of people that this member knows.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn known_people(&self) -> Result<Vec<(MemberId, String)>, BookError> {
        let book = self.book()?;
        Ok(book.contacts().iter().map(|contact| (contact.member, contact.proof.handle.to_string())).collect())
    }
}

/// The records nested in a tree and where they are. The root says how many there are: folders are looked at from the
/// top down, and no further once all are found.
fn nested_paths(tree: &OpenTree) -> Result<Vec<(RecordId, Vec<Name>)>, TreeError<FetchError>> {
    let count = tree.root().nested.count();
    let mut found = Vec::new();
    let mut folders = VecDeque::new();
    if let Content::Folder(folder) = &tree.root().top.content {
        folders.push_back((Vec::new(), folder.clone()));
    }
    while (found.len() as u64) < count {
        let Some((path, folder)) = folders.pop_front() else { break };
        let mut after: Option<Name> = None;
        loop {
            let entries = folder.list(tree.source(), after.as_ref(), PAGE_ENTRIES)?;
            for entry in &entries {
                let below = || [path.as_slice(), std::slice::from_ref(&entry.name)].concat();
                match &entry.item.content {
                    Content::Nested(nested) => found.push((nested.record, below())),
                    Content::Folder(inner) => folders.push_back((below(), inner.clone())),
                    Content::File(_) | Content::Symlink(_) => {}
                }
            }
            if entries.len() < PAGE_ENTRIES {
                break;
            }
            after = entries.last().map(|entry| entry.name.clone());
        }
    }
    Ok(found)
}
