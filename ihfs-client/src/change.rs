//! Changing the tree: make folders, move, remove. What stays in one record is one commit, all or nothing.
//!
//! A record holds no key of another. So what moves from one record into another is sealed again there, committed,
//! and then removed where it was: two commits, between which it stands in both places. A nested record itself
//! moves by its id alone, in one transaction.

use ihfs_core::ids::{GrantId, RecordId, Version};
use ihfs_core::ledger::operation::{Conditions, Operation};
use ihfs_core::tree::edit::{EditError, Overwrite, TreeEdit};
use ihfs_core::tree::entry::{Content, Item, NestedRecord};
use ihfs_core::tree::folder::Folder;
use ihfs_core::tree::name::Name;
use ihfs_core::tree::root::Root;
use ihfs_core::tree::{Found, TreeError};

use crate::client::Client;
use crate::copying::{Copied, copy_into};
use crate::fetch::{FetchError, Fetcher};
use crate::location::Location;
use crate::nesting::{Ending, Ends, as_reissued};
use crate::record::{Access, OpenTree, RecordError};
use crate::resolve::{ResolveError, Spot};
use crate::retry::{LostRace, again};
use crate::submit::SubmitError;
use crate::view::ViewError;
use crate::writing::{CommitError, Committed, Prepared, made_now, new_item};

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The location was not found.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A record could not be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The change was not committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The ledger's word was not had.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Nothing stands there.
    #[error("{location}: nothing stands there")]
    NotFound {
        /// The location.
        location: Location,
    },
    /// Something stands there already.
    #[error("{location} exists already")]
    Exists {
        /// The location.
        location: Location,
    },
    /// The folder has entries.
    #[error("{location}: the folder is not empty")]
    NotEmpty {
        /// The location.
        location: Location,
    },
    /// A name in the middle is no folder, or a folder is to replace what is none.
    #[error("{location}: not a folder")]
    NotAFolder {
        /// The location.
        location: Location,
    },
    /// A file is to replace a folder.
    #[error("{location}: is a folder")]
    IsAFolder {
        /// The location.
        location: Location,
    },
    /// The top of a vault, or of what somebody shares, stays where it is.
    #[error("{location}: the top of a vault or of a shared record stays where it is")]
    Top {
        /// The location.
        location: Location,
    },
    /// A folder cannot move below itself.
    #[error("{location}: a folder cannot move into itself")]
    IntoItself {
        /// The location.
        location: Location,
    },
    /// Only the owner ends what was shared.
    #[error("record {record:?} inside it is shared by itself: only its owner moves or removes it")]
    OnlyOwner {
        /// The nested record.
        record: RecordId,
    },
    /// It was copied, and changed where it was before it could be removed there. Both are kept.
    #[error("{location} changed while it was moved; it was copied and stays")]
    ChangedMeanwhile {
        /// Where it was.
        location: Location,
    },
}

/// What a change came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ChangeReport {
    /// The version of the record that holds the change; none when nothing had to change.
    pub version: Option<u64>,
    /// The version of the record that something was moved out of, when that is another record.
    pub source_version: Option<u64>,
    /// Files that were sealed again.
    pub copied_files: u64,
    /// Bytes of those files.
    pub copied_bytes: u64,
    /// Records that are no longer in this tree, and whose grants ended.
    pub detached_records: Vec<String>,
    /// Grants that ended.
    pub ended_grants: u64,
    /// Grants that readers of the new place got.
    pub added_grants: u64,
}

/// An edit of what a location leads to.
type Edit = TreeEdit<Fetcher>;

impl LostRace for ChangeError {
    fn is_lost_race(&self) -> bool {
        matches!(self, Self::Commit(error) if error.is_lost_race())
    }
}

impl Client {
    /// Makes a folder at `at`; with `parents`, those above it too, and it may exist.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn mkdir(&self, at: &Location, parents: bool) -> Result<ChangeReport, ChangeError> {
        again(|| self.mkdir_once(at, parents))
    }

    fn mkdir_once(&self, at: &Location, parents: bool) -> Result<ChangeReport, ChangeError> {
        let spot = self.resolve(at)?;
        let mut edit = edit_of(&spot);
        let made = match edit.lookup(&spot.path).map_err(CommitError::from)? {
            Found::Item(Item { content: Content::Folder(_), .. }) if parents => false,
            Found::Item(_) | Found::Crossing { .. } => {
                return Err(ChangeError::Exists { location: at.clone() });
            }
            Found::NotAFolder { .. } => return Err(ChangeError::NotAFolder { location: at.clone() }),
            Found::Missing { present } if !parents && present + 1 < spot.path.len() => {
                return Err(ChangeError::NotFound { location: at.clone() });
            }
            Found::Missing { present } => {
                for depth in present + 1..=spot.path.len() {
                    edit.create(&spot.path[..depth], new_folder()).map_err(told(at))?;
                }
                true
            }
        };
        if !made {
            return Ok(ChangeReport::default());
        }
        let committed = self.commit_edit(&spot, &edit)?;
        Ok(ChangeReport { version: Some(committed.version), ..ChangeReport::default() })
    }

    /// Removes what stands at `at`; a folder with entries only when `recursive`. Grants on records that leave the
    /// tree by it end in the same transaction. Older versions keep all of it until they are pruned.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn rm(&self, at: &Location, recursive: bool) -> Result<ChangeReport, ChangeError> {
        again(|| self.rm_once(at, recursive))
    }

    fn rm_once(&self, at: &Location, recursive: bool) -> Result<ChangeReport, ChangeError> {
        let spot = self.holder(at)?;
        let item = item_at(&spot)?;
        let nested = nested_below(&spot.tree, &item)?;
        if !recursive && self.has_entries(&spot, &item)? {
            return Err(ChangeError::NotEmpty { location: at.clone() });
        }
        must_own(&spot, &nested)?;
        let mut edit = edit_of(&spot);
        edit.remove_tree(&spot.path).map_err(told(at))?;
        let detached = self.with_all_nested(nested)?;
        let ends = self.ends_that_fit(&detached, Ending::All)?;
        let mut report = ChangeReport {
            detached_records: detached.iter().map(RecordId::to_string).collect(),
            ended_grants: ends.count(),
            ..ChangeReport::default()
        };
        report.version = Some(self.commit_ending(&spot, &edit, &ends)?.version);
        Ok(report)
    }

    /// Moves what stands at `from` to `to`, or into `to` under its own name when that is a folder. A file may
    /// replace a file if `overwrite` says so; one that is a record of its own keeps its record and grants and
    /// gets the content.
    ///
    /// # Errors
    /// [`ChangeError`]. After [`ChangeError::ChangedMeanwhile`], and when a move between records was interrupted,
    /// it stands in both places.
    pub fn mv(
        &self,
        from: &Location,
        to: &Location,
        overwrite: Overwrite,
    ) -> Result<ChangeReport, ChangeError> {
        let Some(name) = from.path().last() else { return Err(ChangeError::Top { location: from.clone() }) };
        let to = self.landing(to, name)?;
        if from == &to {
            return Ok(ChangeReport::default());
        }
        if is_below(&to, from) {
            return Err(ChangeError::IntoItself { location: to });
        }
        let (source, target) = (self.holder(from)?, self.target(&to)?);
        let item = item_at(&source)?;
        if source.record.id == target.record.id {
            return again(|| self.rename_once(from, &to, overwrite));
        }
        if let Content::Nested(NestedRecord { record, .. }) = item.content {
            return again(|| self.move_record_once(from, &to, record));
        }
        let (mut report, moved) = again(|| self.copy_once(from, &to, overwrite))?;
        let removed = again(|| self.remove_moved(from, &moved, target.record.id))?;
        report.source_version = removed.version;
        report.ended_grants = removed.ended_grants;
        report.added_grants = removed.added_grants;
        Ok(report)
    }

    /// `to`, or the place in it when it is a folder.
    fn landing(&self, to: &Location, name: &Name) -> Result<Location, ChangeError> {
        match self.find(to) {
            Ok((_, Item { content: Content::Folder(_), .. })) => Ok(to.child(name.clone())),
            Ok(_) | Err(ResolveError::NotFound { .. }) => Ok(to.clone()),
            Err(error) => Err(error.into()),
        }
    }

    fn rename_once(
        &self,
        from: &Location,
        to: &Location,
        overwrite: Overwrite,
    ) -> Result<ChangeReport, ChangeError> {
        let (source, target) = (self.holder(from)?, self.target(to)?);
        let mut edit = edit_of(&source);
        edit.rename(&source.path, &target.path, overwrite).map_err(told(to))?;
        let committed = self.commit_edit(&source, &edit)?;
        Ok(ChangeReport { version: Some(committed.version), ..ChangeReport::default() })
    }

    /// Copies into another record. Gives what was copied, to be removed only if it is still that.
    fn copy_once(
        &self,
        from: &Location,
        to: &Location,
        overwrite: Overwrite,
    ) -> Result<(ChangeReport, Item), ChangeError> {
        let (source, target) = (self.holder(from)?, self.target(to)?);
        let item = item_at(&source)?;
        let nested = nested_below(&source.tree, &item)?;
        must_own(&source, &nested)?;
        must_own(&target, &nested)?;
        let mut edit = edit_of(&target);
        let mut writing = self.write_record(target.record.clone())?;
        make_room(&mut edit, &target, &item, overwrite).map_err(told(to))?;
        let copied = copy_into(&mut writing, &source.tree, &item)?;
        let (copied_files, copied_bytes) = (copied.files, copied.bytes);
        place(&mut edit, &target.path, copied, &source).map_err(told(to))?;
        let committed = self.commit(writing, &edit, &[])?;
        let report = ChangeReport {
            version: Some(committed.version),
            copied_files,
            copied_bytes,
            ..ChangeReport::default()
        };
        Ok((report, item))
    }

    /// The second half of a move between records. Records nested in it leave one parent for `into`.
    fn remove_moved(
        &self,
        from: &Location,
        moved: &Item,
        into: RecordId,
    ) -> Result<ChangeReport, ChangeError> {
        let spot = self.holder(from)?;
        let found = spot.tree.lookup(&spot.path).map_err(RecordError::from)?;
        if !matches!(&found, Found::Item(item) if item == moved) {
            return Err(ChangeError::ChangedMeanwhile { location: from.clone() });
        }
        let nested = nested_below(&spot.tree, moved)?;
        let mut edit = edit_of(&spot);
        edit.remove_tree(&spot.path).map_err(told(from))?;
        let ends = self.ends_that_fit(&self.with_all_nested(nested.clone())?, Ending::Inherited)?;
        let writing = self.write_record(spot.record.clone())?;
        let random = writing.random();
        let mut prepared = vec![self.prepare(writing, &edit, &[])?];
        let readers = if nested.is_empty() { Vec::new() } else { self.readers_of(&self.own_record(into)?)? };
        let added_grants = self.move_grants(&mut prepared, &nested, &readers, &ends, random)?;
        let committed = self.submit_prepared(random, prepared)?;
        Ok(ChangeReport {
            version: Some(committed[0].version),
            ended_grants: ends.count(),
            added_grants,
            ..ChangeReport::default()
        })
    }

    /// A nested record leaves one parent and stands in another, in one transaction. Grants that came from the
    /// old parent's end; readers of the new parent are granted it.
    fn move_record_once(
        &self,
        from: &Location,
        to: &Location,
        record: RecordId,
    ) -> Result<ChangeReport, ChangeError> {
        let (source, target) = (self.holder(from)?, self.target(to)?);
        let Found::Crossing { item, .. } = source.tree.lookup(&source.path).map_err(RecordError::from)?
        else {
            return Err(ChangeError::NotFound { location: from.clone() });
        };
        must_own(&source, &[record])?;
        must_own(&target, &[record])?;
        let ends = self.ends_that_fit(&self.with_all_nested(vec![record])?, Ending::Inherited)?;
        let mut readers = self.readers_of(&target.record)?;
        let leaving = self.write_record(source.record.clone())?;
        let random = leaving.random();
        let arriving = self.write_record_with(&leaving, target.record.clone())?;
        let (mut out, mut into) = (edit_of(&source), edit_of(&target));
        let version = out.nested_version(record).map_err(CommitError::from)?.unwrap_or(Version(0));
        out.remove(&source.path).map_err(told(from))?;
        into.attach(&target.path, item, version).map_err(told(to))?;
        let mut prepared = vec![self.prepare(leaving, &out, &[])?, self.prepare(arriving, &into, &[])?];
        as_reissued(&mut readers, &prepared[1].operations);
        let added_grants = self.move_grants(&mut prepared, &[record], &readers, &ends, random)?;
        let committed = self.submit_prepared(random, prepared)?;
        Ok(ChangeReport {
            version: Some(committed[1].version),
            source_version: Some(committed[0].version),
            ended_grants: ends.count(),
            added_grants,
            ..ChangeReport::default()
        })
    }

    /// Adds to what is prepared the ends of the old place's grants, and the grants of the new one.
    pub(crate) fn move_grants(
        &self,
        prepared: &mut Vec<Prepared>,
        records: &[RecordId],
        readers: &[(GrantId, Conditions)],
        ends: &Ends,
        random: [u8; 32],
    ) -> Result<u64, CommitError> {
        let last = |prepared: &mut Vec<Prepared>, operations: Vec<Operation>| {
            prepared.last_mut().expect("a move writes a record").operations.extend(operations);
        };
        last(prepared, ends.operations().to_vec());
        let hung = self.hang(records, readers, ends, random)?;
        let added = hung.grants.len() as u64;
        prepared.extend(hung.heads);
        last(prepared, hung.grants);
        Ok(added)
    }

    fn commit_edit(&self, spot: &Spot, edit: &Edit) -> Result<Committed, CommitError> {
        let writing = self.write_record(spot.record.clone())?;
        self.commit(writing, edit, &[])
    }

    /// Commits an edit together with the ends of grants.
    fn commit_ending(&self, spot: &Spot, edit: &Edit, ends: &Ends) -> Result<Committed, CommitError> {
        let writing = self.write_record(spot.record.clone())?;
        let random = writing.random();
        let mut prepared = self.prepare(writing, edit, &[])?;
        prepared.operations.extend(ends.operations().to_vec());
        self.submit_prepared(random, vec![prepared]).map(|committed| committed[0])
    }

    /// Where a location stands in the record that lists it: a nested record is an entry there, not entered.
    pub(crate) fn holder(&self, location: &Location) -> Result<Spot, ChangeError> {
        let Some((name, parent)) = location.path().split_last() else {
            return Err(ChangeError::Top { location: location.clone() });
        };
        let mut spot = self.resolve(&location.with_path(parent.to_vec()))?;
        spot.path.push(name.clone());
        spot.location = location.clone();
        Ok(spot)
    }

    /// Where something is to be placed. A file that is a record of its own is entered: it keeps record and
    /// grants, and its content is replaced.
    fn target(&self, to: &Location) -> Result<Spot, ChangeError> {
        let inside = self.resolve(to)?;
        let is_shared_file =
            inside.path.is_empty() && matches!(inside.tree.root().top.content, Content::File(_));
        if is_shared_file { Ok(inside) } else { self.holder(to) }
    }

    fn has_entries(&self, spot: &Spot, item: &Item) -> Result<bool, ChangeError> {
        match &item.content {
            Content::Folder(folder) => Ok(folder.count() > 0),
            Content::Nested(_) => {
                let inside = self.resolve(&spot.location)?;
                Ok(matches!(&inside.tree.root().top.content, Content::Folder(folder) if folder.count() > 0))
            }
            Content::File(_) | Content::Symlink(_) => Ok(false),
        }
    }
}

fn edit_of(spot: &Spot) -> Edit {
    TreeEdit::new(spot.tree.root().clone(), spot.tree.source().clone())
}

/// What stands at the spot; a nested record as the entry that it is.
fn item_at(spot: &Spot) -> Result<Item, ChangeError> {
    let location = || spot.location.clone();
    match spot.tree.lookup(&spot.path).map_err(RecordError::from)? {
        Found::Item(item) => Ok(item),
        Found::Crossing { item, rest } if rest.is_empty() => Ok(item),
        Found::NotAFolder { .. } => Err(ChangeError::NotAFolder { location: location() }),
        Found::Missing { .. } | Found::Crossing { .. } => Err(ChangeError::NotFound { location: location() }),
    }
}

/// The records nested at or below an item. Nothing is read when the record has none at all.
pub(crate) fn nested_below(tree: &OpenTree, item: &Item) -> Result<Vec<RecordId>, RecordError> {
    if let Content::Nested(nested) = item.content {
        return Ok(vec![nested.record]);
    }
    if tree.root().nested.count() == 0 {
        return Ok(Vec::new());
    }
    let mut records = Vec::new();
    subtree(tree, item).for_each_entry(&mut |_, entry| {
        if let Content::Nested(nested) = entry.item.content {
            records.push(nested.record);
        }
    })?;
    Ok(records)
}

/// A part of a tree as if it were the whole.
pub(crate) fn subtree(tree: &OpenTree, item: &Item) -> OpenTree {
    let root = Root { top: item.clone(), ..tree.root().clone() };
    OpenTree::new(root, tree.source().clone())
}

fn must_own(spot: &Spot, nested: &[RecordId]) -> Result<(), ChangeError> {
    match (&spot.record.access, nested.first()) {
        (Access::Reader(_), Some(record)) => Err(ChangeError::OnlyOwner { record: *record }),
        _ => Ok(()),
    }
}

/// A folder that is made now, by nobody's wish for other permissions.
pub(crate) fn new_folder() -> Item {
    new_item(Content::Folder(Folder::EMPTY), made_now(0o755))
}

/// Checks what stands where a copy is to be, and takes away what the copy does not go into.
fn make_room(
    edit: &mut Edit,
    target: &Spot,
    item: &Item,
    overwrite: Overwrite,
) -> Result<(), EditError<FetchError>> {
    let is_folder = matches!(item.content, Content::Folder(_));
    let old = match edit.lookup(&target.path)? {
        Found::Missing { present } if present + 1 == target.path.len() => return Ok(()),
        Found::Missing { present } => return Err(EditError::NotFound { present }),
        Found::NotAFolder { depth, .. } => return Err(EditError::NotAFolder { depth }),
        Found::Crossing { .. } => return Err(EditError::Exists),
        Found::Item(old) => old,
    };
    if overwrite == Overwrite::Refuse {
        return Err(EditError::Exists);
    }
    match (&old.content, &item.content) {
        (Content::Folder(_), _) if !is_folder => Err(EditError::IsAFolder),
        (Content::Folder(_), _) => edit.remove(&target.path),
        (_, _) if is_folder => Err(EditError::NotAFolder { depth: target.path.len() }),
        (Content::File(_), Content::File(_)) => Ok(()),
        _ => edit.remove(&target.path),
    }
}

/// Places a copy. Over a file goes its content alone: the file's id, and record, stay.
fn place(edit: &mut Edit, at: &[Name], copied: Copied, source: &Spot) -> Result<(), EditError<FetchError>> {
    for (below, item) in copied.items {
        let path = [at, &below].concat();
        match (edit.lookup(&path)?, item) {
            (Found::Item(_), Item { content: Content::File(content), metadata, .. }) => {
                edit.set_content(&path, content)?;
                edit.set_metadata(&path, metadata)?;
            }
            (_, item) => edit.create(&path, item)?,
        }
    }
    let versions = edit_of(source);
    for (below, item, record) in copied.nested {
        let version = versions.nested_version(record)?.unwrap_or(Version(0));
        edit.attach(&[at, &below].concat(), item, version)?;
    }
    Ok(())
}

fn is_below(inner: &Location, outer: &Location) -> bool {
    inner.with_path(Vec::new()) == outer.with_path(Vec::new()) && inner.path().starts_with(outer.path())
}

/// Says of an edit that failed where it failed.
pub(crate) fn told(location: &Location) -> impl Fn(EditError<FetchError>) -> ChangeError + use<> {
    let location = location.clone();
    move |error| {
        let location = location.clone();
        match error {
            EditError::NotFound { .. } => ChangeError::NotFound { location },
            EditError::NotAFolder { .. } => ChangeError::NotAFolder { location },
            EditError::IsAFolder => ChangeError::IsAFolder { location },
            EditError::Exists => ChangeError::Exists { location },
            EditError::NotEmpty => ChangeError::NotEmpty { location },
            EditError::IntoItself => ChangeError::IntoItself { location },
            EditError::Top => ChangeError::Top { location },
            error => ChangeError::Commit(error.into()),
        }
    }
}

impl From<TreeError<FetchError>> for ChangeError {
    fn from(error: TreeError<FetchError>) -> Self {
        Self::Record(error.into())
    }
}

impl From<SubmitError> for ChangeError {
    fn from(error: SubmitError) -> Self {
        Self::Commit(error.into())
    }
}
