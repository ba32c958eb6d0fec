//! Changes to one version of a record, kept in memory until they are written.
//!
//! Only changed folders are held. Everything else stays what it was, by ref, whatever its epoch.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use super::entry::{Content, Entry, Item, Metadata, NestedRecord};
use super::file::FileContent;
use super::folder::Folder;
use super::name::{DEPTH_MAX, Name};
use super::reader::{Listing, TreeReader, found};
use super::root::{NestedVersion, NestedVersions, Root};
use super::sorted::Cursor;
use super::{ChunkSource, Found, TreeError};
use crate::ids::{RecordId, Version};
use crate::sealed::PackWriter;

/// Why a change was not made. The tree is then as before.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError<E> {
    /// A page could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError<E>),
    /// Nothing stands at the path, or at one of its first names.
    #[error("only the first {present} names of the path exist")]
    NotFound {
        /// How many leading names exist.
        present: usize,
    },
    /// A name in the middle is a file or symbolic link, or the operation is one of folders.
    #[error("after {depth} names the path is not a folder")]
    NotAFolder {
        /// How many leading names lead to it.
        depth: usize,
    },
    /// The operation is one of files and the path is a folder.
    #[error("the path is a folder")]
    IsAFolder,
    /// Something stands there already.
    #[error("the path exists already")]
    Exists,
    /// The folder has entries.
    #[error("the folder is not empty")]
    NotEmpty,
    /// The path leads into, or ends at, a nested record, which has its own tree.
    #[error("the path leads into the nested record {record:?} after {depth} names")]
    Crossing {
        /// The nested record.
        record: RecordId,
        /// How many leading names lead to it.
        depth: usize,
    },
    /// A folder cannot move below itself.
    #[error("a folder cannot move into itself")]
    IntoItself,
    /// The top of a record has no name: it is neither removed nor renamed nor created.
    #[error("the top of a record stays where it is")]
    Top,
    /// More names than [`DEPTH_MAX`].
    #[error("folders are nested at most {DEPTH_MAX} deep")]
    TooDeep,
    /// A nested record is attached together with its version, and otherwise never placed.
    #[error("a nested record is attached, not created")]
    NeedsAttach,
    /// The record is nested here already.
    #[error("record {record:?} is nested here already")]
    AlreadyNested {
        /// The nested record.
        record: RecordId,
    },
    /// The folder has changes that are not yet written, so its content has no ref.
    #[error("the folder has unwritten changes")]
    Unwritten,
}

/// Whether a rename may replace what stands at its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// Like `rename(2)`: a file over a file, a folder over an empty folder.
    Replace,
    /// Only onto a free name (`RENAME_NOREPLACE`).
    Refuse,
}

/// What [`TreeEdit::write`] gives: the parts of the new root. Their refs are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The new top.
    pub top: Item,
    /// The new list of nested records.
    pub nested: NestedVersions,
}

/// What was cut out of a record to become one of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitOut {
    /// The top of the new record: its content stands where it stood.
    pub item: Item,
    /// The records that were nested below it and are now nested in the new record.
    pub nested: Vec<NestedVersion>,
}

/// A record being changed.
#[derive(Clone, Debug)]
pub struct TreeEdit<S> {
    base: TreeReader<S>,
    top: Placed,
    /// Records attached (with their version) or detached (`None`).
    nested: BTreeMap<RecordId, Option<Version>>,
}

/// An entry and, for a folder that was opened, its changes. The name of the top stands nowhere.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) entry: Entry,
    below: Option<Box<FolderEdit>>,
}

/// Changes to one folder.
#[derive(Clone, Debug)]
pub(crate) struct FolderEdit {
    base: Folder,
    /// By name; `None` removes.
    changes: BTreeMap<Name, Option<Placed>>,
}

type Outcome<T, S> = Result<T, EditError<<S as ChunkSource>::Error>>;

impl<S: ChunkSource> TreeEdit<S> {
    /// Starts with no changes to `base`.
    pub fn new(base: Root, source: S) -> Self {
        let name = Name::new(*b"top").expect("a name");
        let top = Placed { entry: Entry { name, item: base.top.clone() }, below: None };
        Self { base: TreeReader::new(base, source), top, nested: BTreeMap::new() }
    }

    /// The version that the changes are made to.
    pub const fn base(&self) -> &Root {
        self.base.root()
    }

    /// Where chunks come from.
    pub const fn source(&self) -> &S {
        self.base.source()
    }

    /// What stands at `path` after the changes. The content of a folder is the one before them: its entries
    /// come from [`Self::list`].
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be read.
    pub fn lookup(&self, path: &[Name]) -> Result<Found, TreeError<S::Error>> {
        let mut placed = self.top.clone_shallow();
        let mut folder = self.top.below.as_deref();
        for (depth, name) in path.iter().enumerate() {
            let item = placed.entry.item;
            let base = match &item.content {
                Content::Folder(base) => base,
                Content::Nested(_) => return Ok(Found::Crossing { item, rest: path[depth..].to_vec() }),
                Content::File(_) | Content::Symlink(_) => return Ok(Found::NotAFolder { depth, item }),
            };
            let (next, below) = match folder.and_then(|folder| folder.changes.get(name)) {
                Some(Some(changed)) => (changed.clone_shallow(), changed.below.as_deref()),
                Some(None) => return Ok(Found::Missing { present: depth }),
                None => match base.get(self.source(), name)? {
                    Some(entry) => (Placed::new(entry), None),
                    None => return Ok(Found::Missing { present: depth }),
                },
            };
            (placed, folder) = (next, below);
        }
        Ok(found(placed.entry.item))
    }

    /// Up to `limit` entries of the folder at `path` after the changes, behind the name `after` or from the
    /// first. The content of folders among them is the one before the changes.
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be read.
    pub fn list(
        &self,
        path: &[Name],
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Listing, TreeError<S::Error>> {
        match self.lookup(path)? {
            Found::Item(Item { content: Content::Folder(base), .. }) => {
                let entries = match self.opened(path) {
                    Some(folder) => folder.list(self.source(), after, limit)?,
                    None => base.list(self.source(), after, limit)?,
                };
                Ok(Listing::Entries(entries))
            }
            other => Ok(Listing::NotAFolder(other)),
        }
    }

    /// Puts a new item on a free name: a file, a symbolic link, a folder (empty, or one that was built).
    ///
    /// # Errors
    /// [`EditError::Exists`], [`EditError::NeedsAttach`], and those of the path.
    pub fn create(&mut self, path: &[Name], item: Item) -> Outcome<(), S> {
        if matches!(item.content, Content::Nested(_)) {
            return Err(EditError::NeedsAttach);
        }
        self.place_new(path, Placed::new_at(path, item)?)
    }

    /// Replaces the bytes of a file.
    ///
    /// # Errors
    /// [`EditError::IsAFolder`] unless it is a file, and those of the path.
    pub fn set_content(&mut self, path: &[Name], content: FileContent) -> Outcome<(), S> {
        let placed = self.placed(path)?;
        match &mut placed.entry.item.content {
            Content::File(old) => *old = content,
            Content::Nested(NestedRecord { record, .. }) => {
                return Err(EditError::Crossing { record: *record, depth: path.len() });
            }
            Content::Folder(_) => return Err(EditError::IsAFolder),
            Content::Symlink(_) => return Err(EditError::Exists),
        }
        Ok(())
    }

    /// Replaces the metadata of an item, also of the top; of a nested record what this record lists of it.
    ///
    /// # Errors
    /// Those of the path.
    pub fn set_metadata(&mut self, path: &[Name], metadata: Metadata) -> Outcome<(), S> {
        self.placed(path)?.entry.item.metadata = metadata;
        Ok(())
    }

    /// Removes a file, symbolic link, empty folder or nested record.
    ///
    /// # Errors
    /// [`EditError::NotEmpty`] for a folder with entries, and those of the path.
    pub fn remove(&mut self, path: &[Name]) -> Outcome<(), S> {
        self.must_be_empty(path)?;
        self.remove_tree(path)
    }

    /// Removes whatever stands at `path` with all that is below it. Nested records among it are detached.
    ///
    /// # Errors
    /// Those of the path.
    pub fn remove_tree(&mut self, path: &[Name]) -> Outcome<(), S> {
        let below = self.nested_below(path)?;
        self.take(path)?;
        self.nested.extend(below.into_iter().map(|record| (record, None)));
        Ok(())
    }

    /// Moves an item inside the record in one step, as `rename(2)` does.
    ///
    /// # Errors
    /// [`EditError::Exists`], [`EditError::NotEmpty`], [`EditError::IsAFolder`], [`EditError::NotAFolder`] for
    /// what stands at `to`; [`EditError::IntoItself`]; those of both paths.
    pub fn rename(&mut self, from: &[Name], to: &[Name], overwrite: Overwrite) -> Outcome<(), S> {
        if from.is_empty() {
            return Err(EditError::Top);
        }
        let is_folder = matches!(self.placed(from)?.entry.item.content, Content::Folder(_));
        if from == to {
            return Ok(());
        }
        if to.starts_with(from) {
            return Err(EditError::IntoItself);
        }
        let depth_below = self.placed(from)?.depth();
        if to.len() + depth_below > DEPTH_MAX {
            return Err(EditError::TooDeep);
        }
        self.may_land(to, is_folder, overwrite)?;
        let Some((name, parent)) = to.split_last() else { return Err(EditError::Top) };
        // Opened first: from here on nothing can fail, so the item is never in no place.
        self.folder(parent)?;
        let mut placed = self.take(from)?;
        placed.entry.name = name.clone();
        self.folder(parent)?.changes.insert(name.clone(), Some(placed));
        Ok(())
    }

    /// Names a record in this record's tree, on a free name. Its version is the newest that is known.
    ///
    /// # Errors
    /// [`EditError::AlreadyNested`], [`EditError::Exists`], [`EditError::NeedsAttach`] when the item is no nested
    /// record, and those of the path.
    pub fn attach(&mut self, path: &[Name], item: Item, version: Version) -> Outcome<(), S> {
        let Content::Nested(NestedRecord { record, .. }) = item.content else {
            return Err(EditError::NeedsAttach);
        };
        if self.nested_version(record)?.is_some() {
            return Err(EditError::AlreadyNested { record });
        }
        self.place_new(path, Placed::new_at(path, item)?)?;
        self.nested.insert(record, Some(version));
        Ok(())
    }

    /// Notes a newer version of a nested record.
    ///
    /// # Errors
    /// [`EditError::NeedsAttach`] when it is not nested here.
    pub fn set_nested_version(&mut self, record: RecordId, version: Version) -> Outcome<(), S> {
        if self.nested_version(record)?.is_none() {
            return Err(EditError::NeedsAttach);
        }
        self.nested.insert(record, Some(version));
        Ok(())
    }

    /// The version that this record notes of a nested one, if it is nested here.
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be read.
    pub fn nested_version(&self, record: RecordId) -> Result<Option<Version>, TreeError<S::Error>> {
        match self.nested.get(&record) {
            Some(changed) => Ok(*changed),
            None => Ok(self.base().nested.get(self.source(), &record)?.map(|nested| nested.version)),
        }
    }

    /// Cuts what stands at `path` out of this record and names the record that it becomes in its place. Pieces
    /// and pages stay where they are; the caller roots the new record in them.
    ///
    /// # Errors
    /// [`EditError::Unwritten`] when a folder has changes below it, [`EditError::AlreadyNested`], and those of
    /// the path.
    pub fn split_out(
        &mut self,
        path: &[Name],
        nested: NestedRecord,
        version: Version,
    ) -> Outcome<SplitOut, S> {
        let record = nested.record;
        if path.is_empty() {
            return Err(EditError::Top);
        }
        if self.nested_version(record)?.is_some() {
            return Err(EditError::AlreadyNested { record });
        }
        let below = self.nested_versions_below(path)?;
        let placed = self.placed(path)?;
        match placed.entry.item.content {
            Content::Nested(NestedRecord { record, .. }) => {
                return Err(EditError::Crossing { record, depth: path.len() });
            }
            Content::Symlink(_) => return Err(EditError::NotAFolder { depth: path.len() }),
            Content::Folder(_) | Content::File(_) => {}
        }
        if placed.below.as_ref().is_some_and(|folder| !folder.changes.is_empty()) {
            return Err(EditError::Unwritten);
        }
        placed.below = None;
        let item = placed.entry.item.clone();
        placed.entry.item.content = Content::Nested(nested);
        self.nested.extend(below.iter().map(|nested| (nested.record, None)));
        self.nested.insert(record, Some(version));
        Ok(SplitOut { item, nested: below })
    }

    /// Writes the pages that differ from the base's, folders in the order of their paths, and closes the pack.
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be read.
    pub fn write(&self, writer: &mut PackWriter<'_>) -> Result<Written, TreeError<S::Error>> {
        let mut top = self.top.write(self.source(), writer)?.into_owned().item;
        let items: Vec<_> = self
            .nested
            .iter()
            .map(|(record, version)| {
                (record, version.map(|version| NestedVersion { record: *record, version }))
            })
            .collect();
        let changes: Vec<_> = items.iter().map(|(record, item)| (*record, item.as_ref())).collect();
        let mut nested = self.base().nested.update(self.source(), &changes, writer)?;
        top.for_each_ref(&mut |piece| *piece = writer.resolve(piece.clone()));
        nested.for_each_ref(&mut |piece| *piece = writer.resolve(piece.clone()));
        Ok(Written { top, nested })
    }

    /// Takes an item with its changes out of the tree.
    pub(crate) fn take(&mut self, path: &[Name]) -> Outcome<Placed, S> {
        let Some((name, parent)) = path.split_last() else { return Err(EditError::Top) };
        self.placed(path)?;
        let changed = self.folder(parent)?.changes.insert(name.clone(), None);
        Ok(changed.flatten().expect("placed just before"))
    }

    /// Puts what was taken onto a free name.
    pub(crate) fn place_new(&mut self, path: &[Name], placed: Placed) -> Outcome<(), S> {
        let Some((name, parent)) = path.split_last() else { return Err(EditError::Top) };
        if path.len() + placed.depth() > DEPTH_MAX {
            return Err(EditError::TooDeep);
        }
        match self.lookup(path)? {
            Found::Missing { present } if present == parent.len() => {}
            other => return Err(not_free(other, path)),
        }
        let folder = self.folder(parent)?;
        folder.changes.insert(name.clone(), Some(placed));
        Ok(())
    }

    /// Fails unless an item of this kind may be renamed to `to`.
    fn may_land(&self, to: &[Name], is_folder: bool, overwrite: Overwrite) -> Outcome<(), S> {
        match self.lookup(to)? {
            Found::Missing { present } if present + 1 == to.len() => Ok(()),
            Found::Item(_) if overwrite == Overwrite::Refuse => Err(EditError::Exists),
            Found::Item(Item { content: Content::Folder(_), .. }) if is_folder => self.must_be_empty(to),
            Found::Item(Item { content: Content::Folder(_), .. }) => Err(EditError::IsAFolder),
            Found::Item(_) if is_folder => Err(EditError::NotAFolder { depth: to.len() }),
            Found::Item(_) => Ok(()),
            other => Err(not_free(other, to)),
        }
    }

    fn must_be_empty(&self, path: &[Name]) -> Outcome<(), S> {
        match self.list(path, None, 1)? {
            Listing::Entries(entries) if !entries.is_empty() => Err(EditError::NotEmpty),
            _ => Ok(()),
        }
    }

    /// The item at `path`, to be changed.
    fn placed(&mut self, path: &[Name]) -> Outcome<&mut Placed, S> {
        if path.len() > DEPTH_MAX {
            return Err(EditError::TooDeep);
        }
        let source = self.base.source();
        let mut placed = &mut self.top;
        for (depth, name) in path.iter().enumerate() {
            let folder = placed.open(depth)?;
            placed = folder.child(source, name)?.ok_or(EditError::NotFound { present: depth })?;
        }
        Ok(placed)
    }

    /// The folder at `path`, to be changed.
    fn folder(&mut self, path: &[Name]) -> Outcome<&mut FolderEdit, S> {
        self.placed(path)?.open(path.len())
    }

    /// The changes to the folder at `path`, if it was opened.
    fn opened(&self, path: &[Name]) -> Option<&FolderEdit> {
        let mut placed = &self.top;
        for name in path {
            placed = placed.below.as_ref()?.changes.get(name)?.as_ref()?;
        }
        placed.below.as_deref()
    }

    /// The records nested at or below `path`. Nothing is read when no record is nested here at all.
    fn nested_below(&self, path: &[Name]) -> Outcome<Vec<RecordId>, S> {
        let mut records = Vec::new();
        if self.base().nested.count() == 0 && self.nested.is_empty() {
            return Ok(records);
        }
        match self.lookup(path)? {
            Found::Crossing { item, rest } if rest.is_empty() => records.extend(nested_record(&item)),
            Found::Item(Item { content: Content::Folder(base), .. }) => {
                let mut folders = vec![Walk::new(&base, self.opened(path))];
                while let Some(walk) = folders.last_mut() {
                    let Some((item, below)) = walk.next(self.source())? else {
                        folders.pop();
                        continue;
                    };
                    records.extend(nested_record(&item));
                    if let Content::Folder(base) = &item.content {
                        folders.push(Walk::new(base, below));
                    }
                }
            }
            _ => {}
        }
        Ok(records)
    }

    fn nested_versions_below(&self, path: &[Name]) -> Outcome<Vec<NestedVersion>, S> {
        let mut records = self.nested_below(path)?;
        records.sort_unstable();
        let versions = records.into_iter().map(|record| {
            let version = self.nested_version(record)?;
            Ok(version.map(|version| NestedVersion { record, version }))
        });
        versions.filter_map(Result::transpose).collect()
    }
}

impl Placed {
    pub(crate) const fn new(entry: Entry) -> Self {
        Self { entry, below: None }
    }

    fn new_at<E>(path: &[Name], item: Item) -> Result<Self, EditError<E>> {
        let name = path.last().ok_or(EditError::Top)?.clone();
        Ok(Self::new(Entry { name, item }))
    }

    /// The same without the changes below it.
    fn clone_shallow(&self) -> Self {
        Self::new(self.entry.clone())
    }

    /// The changes of this folder, which stands behind `depth` names.
    fn open<E>(&mut self, depth: usize) -> Result<&mut FolderEdit, EditError<E>> {
        match &self.entry.item.content {
            Content::Folder(base) => Ok(self.below.get_or_insert_with(|| Box::new(FolderEdit::new(base)))),
            Content::Nested(NestedRecord { record, .. }) => {
                Err(EditError::Crossing { record: *record, depth })
            }
            Content::File(_) | Content::Symlink(_) => Err(EditError::NotAFolder { depth }),
        }
    }

    /// Levels of opened folders below it.
    fn depth(&self) -> usize {
        let below = self.below.iter().flat_map(|folder| folder.changes.values().flatten());
        below.map(|placed| 1 + placed.depth()).max().unwrap_or(0)
    }

    fn write<S: ChunkSource>(
        &self,
        source: &S,
        writer: &mut PackWriter<'_>,
    ) -> Result<Cow<'_, Entry>, TreeError<S::Error>> {
        let Some(folder) = self.below.as_deref().filter(|folder| !folder.changes.is_empty()) else {
            return Ok(Cow::Borrowed(&self.entry));
        };
        let mut entry = self.entry.clone();
        entry.item.content = Content::Folder(folder.write(source, writer)?);
        Ok(Cow::Owned(entry))
    }
}

impl FolderEdit {
    fn new(base: &Folder) -> Self {
        Self { base: base.clone(), changes: BTreeMap::new() }
    }

    fn child<S: ChunkSource>(
        &mut self,
        source: &S,
        name: &Name,
    ) -> Result<Option<&mut Placed>, TreeError<S::Error>> {
        if !self.changes.contains_key(name) {
            let Some(entry) = self.base.get(source, name)? else { return Ok(None) };
            self.changes.insert(name.clone(), Some(Placed::new(entry)));
        }
        Ok(self.changes.get_mut(name).and_then(Option::as_mut))
    }

    fn list<S: ChunkSource>(
        &self,
        source: &S,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<Entry>, TreeError<S::Error>> {
        let mut walk = Walk::new(&self.base, Some(self));
        if let Some(after) = after {
            walk.skip_to(source, after)?;
        }
        let mut entries = Vec::new();
        while entries.len() < limit {
            let Some((entry, _)) = walk.next_entry(source)? else { break };
            entries.push(entry);
        }
        Ok(entries)
    }

    fn write<S: ChunkSource>(
        &self,
        source: &S,
        writer: &mut PackWriter<'_>,
    ) -> Result<Folder, TreeError<S::Error>> {
        let mut items = Vec::with_capacity(self.changes.len());
        for (name, change) in &self.changes {
            let entry = change.as_ref().map(|placed| placed.write(source, writer)).transpose()?;
            items.push((name, entry));
        }
        let changes: Vec<_> = items.iter().map(|(name, entry)| (*name, entry.as_deref())).collect();
        self.base.update(source, &changes, writer)
    }
}

/// Walks the entries of a folder after its changes.
struct Walk<'a> {
    base: Peekable,
    changes: std::iter::Peekable<std::collections::btree_map::Range<'a, Name, Option<Placed>>>,
    edit: Option<&'a FolderEdit>,
}

/// A cursor and the entry that it gave last, if that was not used yet.
struct Peekable {
    cursor: Cursor<Entry>,
    next: Option<Entry>,
}

impl Peekable {
    fn peek<S: ChunkSource>(&mut self, source: &S) -> Result<Option<&Name>, TreeError<S::Error>> {
        if self.next.is_none() {
            self.next = self.cursor.next_item(source)?;
        }
        Ok(self.next.as_ref().map(|entry| &entry.name))
    }
}

static NO_CHANGES: BTreeMap<Name, Option<Placed>> = BTreeMap::new();

impl<'a> Walk<'a> {
    fn new(base: &Folder, edit: Option<&'a FolderEdit>) -> Self {
        let changes = edit.map_or(&NO_CHANGES, |edit| &edit.changes);
        let base = Peekable { cursor: Cursor::new(base), next: None };
        Self { base, changes: changes.range::<Name, _>(..).peekable(), edit }
    }

    fn skip_to<S: ChunkSource>(&mut self, source: &S, after: &Name) -> Result<(), TreeError<S::Error>> {
        self.base.cursor.skip_to(source, after)?;
        if let Some(edit) = self.edit {
            let behind = (Bound::Excluded(after), Bound::Unbounded);
            self.changes = edit.changes.range::<Name, _>(behind).peekable();
        }
        Ok(())
    }

    fn next_entry<S: ChunkSource>(
        &mut self,
        source: &S,
    ) -> Result<Option<(Entry, Option<&'a FolderEdit>)>, TreeError<S::Error>> {
        loop {
            let base = self.base.peek(source)?;
            let Some((name, _)) = self.changes.peek() else {
                return Ok(self.base.next.take().map(|entry| (entry, None)));
            };
            match base.map_or(Ordering::Greater, |base| base.cmp(name)) {
                Ordering::Less => return Ok(self.base.next.take().map(|entry| (entry, None))),
                Ordering::Equal => self.base.next = None,
                Ordering::Greater => {}
            }
            if let Some((_, Some(placed))) = self.changes.next() {
                return Ok(Some((placed.entry.clone(), placed.below.as_deref())));
            }
        }
    }

    fn next<S: ChunkSource>(
        &mut self,
        source: &S,
    ) -> Result<Option<(Item, Option<&'a FolderEdit>)>, TreeError<S::Error>> {
        Ok(self.next_entry(source)?.map(|(entry, below)| (entry.item, below)))
    }
}

fn nested_record(item: &Item) -> Option<RecordId> {
    match item.content {
        Content::Nested(NestedRecord { record, .. }) => Some(record),
        _ => None,
    }
}

/// Why nothing can be put at `path`, where `found` stands.
fn not_free<E>(found: Found, path: &[Name]) -> EditError<E> {
    match found {
        Found::Item(_) => EditError::Exists,
        Found::Missing { present } => EditError::NotFound { present },
        Found::NotAFolder { depth, .. } => EditError::NotAFolder { depth },
        Found::Crossing { item, rest } => match nested_record(&item) {
            Some(record) => EditError::Crossing { record, depth: path.len() - rest.len() },
            None => EditError::Exists,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::ids::FileId;
    use crate::tree::testing::{Memory, file, names, root, sealer};

    type Model = BTreeMap<Vec<Name>, Option<u64>>;

    fn folder_item(id: u64) -> Item {
        Item { id: FileId(id), content: Content::Folder(Folder::EMPTY), metadata: Metadata::default() }
    }

    /// Paths and sizes of all files; folders have none.
    fn state(root: &Root, memory: &Memory) -> Model {
        let mut state = Model::new();
        TreeReader::new(root.clone(), memory)
            .for_each_entry(&mut |path, entry| {
                let size = match &entry.item.content {
                    Content::File(content) => Some(content.size_bytes()),
                    _ => None,
                };
                state.insert(path.to_vec(), size);
            })
            .unwrap();
        state
    }

    fn is_folder(model: &Model, path: &[Name]) -> bool {
        path.is_empty() || model.get(path) == Some(&None)
    }

    fn children(model: &Model, path: &[Name]) -> usize {
        model.keys().filter(|other| other.len() > path.len() && other.starts_with(path)).count()
    }

    /// Does to the model what `rename(2)` does, if it may.
    fn model_rename(model: &mut Model, from: &[Name], to: &[Name]) -> bool {
        let Some(kind) = model.get(from).copied() else { return false };
        if from == to {
            return true;
        }
        if to.starts_with(from) || !is_folder(model, &to[..to.len() - 1]) {
            return false;
        }
        let free = match (kind, model.get(to)) {
            (_, None) => true,
            (None, Some(None)) => children(model, to) == 0,
            (Some(_), Some(Some(_))) => true,
            _ => false,
        };
        if !free {
            return false;
        }
        model.remove(to);
        let moved: Vec<_> = model.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in moved {
            let value = model.remove(&path).unwrap();
            model.insert([to, &path[from.len()..]].concat(), value);
        }
        true
    }

    fn random_path(random: &mut impl Rng) -> Vec<Name> {
        let depth = random.random_range(1..=3);
        (0..depth).map(|_| Name::new(vec![b'a' + random.random_range(0..6u8)]).unwrap()).collect()
    }

    /// One random operation on both; both must agree on whether it may be done.
    fn random_step(
        random: &mut impl Rng,
        edit: &mut TreeEdit<&Memory>,
        model: &mut Model,
        writer: &mut PackWriter<'_>,
    ) {
        let path = random_path(random);
        let parent_is_folder = is_folder(model, &path[..path.len() - 1]);
        let size = random.random_range(1..2000u64);
        match random.random_range(0..6) {
            0 | 1 => {
                let done = edit.create(&path, file(random.random(), size, writer)).is_ok();
                let may = parent_is_folder && !model.contains_key(&path);
                assert_eq!(done, may);
                if may {
                    model.insert(path, Some(size));
                }
            }
            2 => {
                let done = edit.create(&path, folder_item(random.random())).is_ok();
                let may = parent_is_folder && !model.contains_key(&path);
                assert_eq!(done, may);
                if may {
                    model.insert(path, None);
                }
            }
            3 => {
                let to = random_path(random);
                assert_eq!(
                    edit.rename(&path, &to, Overwrite::Replace).is_ok(),
                    model_rename(model, &path, &to)
                );
            }
            4 => {
                let done = edit.remove(&path).is_ok();
                let may = model.contains_key(&path) && children(model, &path) == 0;
                assert_eq!(done, may);
                if may {
                    model.remove(&path);
                }
            }
            _ => {
                let Content::File(content) = file(0, size, writer).content else { unreachable!() };
                let done = edit.set_content(&path, content).is_ok();
                let may = matches!(model.get(&path), Some(Some(_)));
                assert_eq!(done, may);
                if may {
                    model.insert(path, Some(size));
                }
            }
        }
    }

    fn list_all(edit: &TreeEdit<&Memory>, path: &[Name], limit: usize) -> Vec<Name> {
        let mut all: Vec<Name> = Vec::new();
        loop {
            let Listing::Entries(entries) = edit.list(path, all.last(), limit).unwrap() else { panic!() };
            if entries.is_empty() {
                return all;
            }
            all.extend(entries.into_iter().map(|entry| entry.name));
        }
    }

    #[test]
    fn random_edits_read_back_like_a_plain_map() {
        for seed in 0..30 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let (sealer, memory) = (sealer(), Memory::default());
            let mut root = root(folder_item(0));
            let mut model = Model::new();
            for commit in 0..8 {
                let mut content = PackWriter::new(&sealer);
                let mut edit = TreeEdit::new(root.clone(), &memory);
                for _ in 0..40 {
                    random_step(&mut random, &mut edit, &mut model, &mut content);
                    memory.take(&mut content);
                }
                let top_names: Vec<_> =
                    model.keys().filter(|path| path.len() == 1).map(|path| path[0].clone()).collect();
                assert_eq!(list_all(&edit, &[], 2), top_names, "seed {seed}, commit {commit}");
                let mut writer = PackWriter::new(&sealer);
                let written = edit.write(&mut writer).unwrap();
                memory.take(&mut writer);
                root.top = written.top;
                assert_eq!(state(&root, &memory), model, "seed {seed}, commit {commit}");
            }
        }
    }

    #[test]
    fn an_edit_without_changes_keeps_every_ref() {
        let (sealer, memory) = (sealer(), Memory::default());
        let mut writer = PackWriter::new(&sealer);
        let mut edit = TreeEdit::new(root(folder_item(0)), &memory);
        edit.create(&names("/a"), folder_item(1)).unwrap();
        edit.create(&names("/a/b"), file(2, 10, &mut writer)).unwrap();
        memory.take(&mut writer);
        let written = edit.write(&mut writer).unwrap();
        memory.take(&mut writer);
        let mut second = TreeEdit::new(root(written.top.clone()), &memory);
        let metadata = Metadata::default();
        second.set_metadata(&names("/a/b"), metadata).unwrap();
        assert_eq!(second.write(&mut writer).unwrap().top, written.top);
        assert!(writer.take_closed().is_empty());
    }
}
