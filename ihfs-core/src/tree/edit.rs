//! Changes to one version of a record, kept in memory until they are written.
//!
//! Only changed folders are held. Everything else stays what it was, by ref, whatever its epoch.

use std::collections::BTreeMap;

use super::entry::{Content, Entry, Item, Metadata, NestedRecord};
use super::file::FileContent;
use super::folder::Folder;
use super::name::{DEPTH_MAX, Name};
use super::reader::{Listing, TreeReader, found};
use super::root::{NestedVersion, NestedVersions, Root};
use super::{ChunkSource, Found, TreeError};
use crate::ids::{RecordId, Version};
use crate::sealed::PackWriter;

mod overlay;

pub(crate) use overlay::Placed;
use overlay::{FolderEdit, Walk};

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
            other => Ok(Listing::NotAFolder(Box::new(other))),
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

    /// Replaces the entries of a folder by those of one that was merged from it, with the same records nested.
    ///
    /// # Errors
    /// [`EditError::NotAFolder`] unless it is a folder, [`EditError::Unwritten`] when it has changes below it, and
    /// those of the path.
    pub fn set_entries(&mut self, path: &[Name], entries: Folder) -> Outcome<(), S> {
        let placed = self.placed(path)?;
        if placed.below.as_ref().is_some_and(|folder| !folder.changes.is_empty()) {
            return Err(EditError::Unwritten);
        }
        match &mut placed.entry.item.content {
            Content::Folder(old) => *old = entries,
            Content::Nested(NestedRecord { record, .. }) => {
                return Err(EditError::Crossing { record: *record, depth: path.len() });
            }
            Content::File(_) | Content::Symlink(_) => {
                return Err(EditError::NotAFolder { depth: path.len() });
            }
        }
        placed.below = None;
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

    /// Lets two items of any kind change places in one step (`RENAME_EXCHANGE`).
    ///
    /// # Errors
    /// [`EditError::IntoItself`] when one is below the other, and those of both paths.
    pub fn exchange(&mut self, one: &[Name], other: &[Name]) -> Outcome<(), S> {
        let (Some(one_name), Some(other_name)) = (one.last(), other.last()) else {
            return Err(EditError::Top);
        };
        let depths = (self.placed(one)?.depth(), self.placed(other)?.depth());
        if one == other {
            return Ok(());
        }
        if one.starts_with(other) || other.starts_with(one) {
            return Err(EditError::IntoItself);
        }
        if one.len() + depths.1 > DEPTH_MAX || other.len() + depths.0 > DEPTH_MAX {
            return Err(EditError::TooDeep);
        }
        // Both are open and neither is above the other: from here on nothing can fail.
        let (mut from_one, mut from_other) = (self.take(one)?, self.take(other)?);
        from_one.entry.name = other_name.clone();
        from_other.entry.name = one_name.clone();
        self.put(other, from_one)?;
        self.put(one, from_other)
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

    /// Puts what was taken to where something was taken from.
    fn put(&mut self, path: &[Name], placed: Placed) -> Outcome<(), S> {
        let Some((name, parent)) = path.split_last() else { return Err(EditError::Top) };
        self.folder(parent)?.changes.insert(name.clone(), Some(placed));
        Ok(())
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
                    let Some((Entry { item, .. }, below)) = walk.next_entry(self.source())? else {
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
    use std::collections::{BTreeMap, BTreeSet};

    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::ids::FileId;
    use crate::tree::reader::Walked;
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

    /// Does to the model what `RENAME_EXCHANGE` does, if it may.
    fn model_exchange(model: &mut Model, one: &[Name], other: &[Name]) -> bool {
        if !model.contains_key(one) || !model.contains_key(other) {
            return false;
        }
        if one == other {
            return true;
        }
        if one.starts_with(other) || other.starts_with(one) {
            return false;
        }
        let moved = |path: &[Name]| {
            let (from, to) = if path.starts_with(one) { (one, other) } else { (other, one) };
            if path.starts_with(from) { [to, &path[from.len()..]].concat() } else { path.to_vec() }
        };
        *model = std::mem::take(model).into_iter().map(|(path, size)| (moved(&path), size)).collect();
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
        match random.random_range(0..7) {
            6 => {
                let other = random_path(random);
                let done = edit.exchange(&path, &other).is_ok();
                assert_eq!(done, model_exchange(model, &path, &other), "{path:?} and {other:?}");
            }
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

    use crate::crypto::derive::Role;
    use crate::ids::Epoch;
    use crate::sealed::Place;
    use crate::tree::entry::NestedKind;
    use crate::tree::testing::{item, sealer_of_epoch};

    fn committed(edit: &TreeEdit<&Memory>, memory: &Memory) -> Root {
        let sealer = sealer();
        let mut writer = PackWriter::new(&sealer);
        let written = edit.write(&mut writer).unwrap();
        memory.take(&mut writer);
        Root { top: written.top, nested: written.nested, ..edit.base().clone() }
    }

    fn nested(byte: u8) -> NestedRecord {
        NestedRecord { record: RecordId::from_bytes([byte; 32]), kind: NestedKind::Folder }
    }

    /// `/a/b/f`, `/a/n` (nested record 7, version 3), `/g`.
    fn with_nested(memory: &Memory) -> Root {
        let sealer = sealer();
        let mut writer = PackWriter::new(&sealer);
        let mut edit = TreeEdit::new(root(folder_item(0)), memory);
        edit.create(&names("/a"), folder_item(1)).unwrap();
        edit.create(&names("/a/b"), folder_item(2)).unwrap();
        edit.create(&names("/a/b/f"), file(3, 30, &mut writer)).unwrap();
        edit.create(&names("/g"), file(4, 40, &mut writer)).unwrap();
        edit.attach(&names("/a/n"), item(5, Content::Nested(nested(7))), Version(3)).unwrap();
        memory.take(&mut writer);
        committed(&edit, memory)
    }

    #[test]
    fn a_path_into_a_nested_record_crosses_with_the_rest() {
        let memory = Memory::default();
        let root = with_nested(&memory);
        let reader = TreeReader::new(root.clone(), &memory);
        let edit = TreeEdit::new(root, &memory);
        for found in [reader.lookup(&names("/a/n/x/y")).unwrap(), edit.lookup(&names("/a/n/x/y")).unwrap()] {
            let Found::Crossing { item, rest } = found else { panic!() };
            assert_eq!(item.content, Content::Nested(nested(7)));
            assert_eq!(rest, names("/x/y"));
        }
        let mut edit = edit;
        let crossing = EditError::Crossing { record: nested(7).record, depth: 2 };
        assert_eq!(edit.create(&names("/a/n/x"), folder_item(9)), Err(crossing));
        let over = edit.rename(&names("/g"), &names("/a/n"), Overwrite::Replace);
        assert_eq!(over, Err(EditError::Crossing { record: nested(7).record, depth: 2 }));
    }

    #[test]
    fn a_nested_record_is_listed_in_the_root_until_it_or_a_folder_above_goes() {
        let memory = Memory::default();
        let root = with_nested(&memory);
        assert_eq!(root.nested.get(&&memory, &nested(7).record).unwrap().unwrap().version, Version(3));
        for gone in ["/a/n", "/a"] {
            let mut edit = TreeEdit::new(root.clone(), &memory);
            edit.rename(&names("/a/n"), &names("/n"), Overwrite::Refuse).unwrap();
            edit.rename(&names("/n"), &names("/a/n"), Overwrite::Refuse).unwrap();
            edit.remove_tree(&names(gone)).unwrap();
            assert_eq!(committed(&edit, &memory).nested.count(), 0, "{gone}");
        }
        let mut edit = TreeEdit::new(root, &memory);
        let again = edit.attach(&names("/n"), item(6, Content::Nested(nested(7))), Version(4));
        assert_eq!(again, Err(EditError::AlreadyNested { record: nested(7).record }));
        edit.set_nested_version(nested(7).record, Version(5)).unwrap();
        let root = committed(&edit, &memory);
        assert_eq!(root.nested.get(&&memory, &nested(7).record).unwrap().unwrap().version, Version(5));
    }

    #[test]
    fn what_is_split_out_keeps_its_pages_and_takes_its_nested_records_along() {
        let memory = Memory::default();
        let root = with_nested(&memory);
        let mut edit = TreeEdit::new(root.clone(), &memory);
        let Found::Item(before) = edit.lookup(&names("/a")).unwrap() else { panic!() };
        let split = edit.split_out(&names("/a"), nested(8), Version(0)).unwrap();
        assert_eq!(split.item, before);
        let below = NestedVersion { record: nested(7).record, version: Version(3) };
        assert_eq!(split.nested, [below]);
        let root = committed(&edit, &memory);
        let listed = root.nested.list(&&memory, None, 10).unwrap();
        assert_eq!(listed, [NestedVersion { record: nested(8).record, version: Version(0) }]);
    }

    #[test]
    fn a_folder_with_unwritten_changes_is_not_split_out() {
        let memory = Memory::default();
        let mut edit = TreeEdit::new(with_nested(&memory), &memory);
        edit.create(&names("/a/new"), folder_item(9)).unwrap();
        assert_eq!(edit.split_out(&names("/a"), nested(8), Version(0)), Err(EditError::Unwritten));
    }

    #[test]
    fn what_is_unchanged_keeps_its_refs_in_a_later_epoch() {
        let memory = Memory::default();
        let root = with_nested(&memory);
        let later = sealer_of_epoch(1);
        let mut writer = PackWriter::new(&later);
        let mut edit = TreeEdit::new(root, &memory);
        edit.create(&names("/new"), file(9, 90, &mut writer)).unwrap();
        let written = edit.write(&mut writer).unwrap();
        memory.take(&mut writer);
        let mut epochs = Vec::new();
        let mut top = written.top.clone();
        top.for_each_ref(&mut |piece| epochs.push(piece.source.epoch));
        let Content::Folder(folder) = &written.top.content else { panic!() };
        for mut entry in folder.list(&&memory, None, 10).unwrap() {
            entry.item.for_each_ref(&mut |piece| epochs.push(piece.source.epoch));
        }
        assert_eq!(epochs, [Epoch(1), Epoch(0), Epoch(0), Epoch(1)]);
    }

    #[test]
    fn the_pages_of_a_commit_stand_in_one_pack_and_their_refs_are_resolved() {
        let memory = Memory::default();
        let sealer = sealer();
        let mut edit = TreeEdit::new(root(folder_item(0)), &memory);
        for folder in 0..50u64 {
            edit.create(&names(&format!("/{folder}")), folder_item(1 + folder)).unwrap();
            for file in 0..20 {
                let content = Content::File(FileContent::EMPTY);
                edit.create(&names(&format!("/{folder}/{file}")), item(1000 + folder * 20 + file, content))
                    .unwrap();
            }
        }
        let mut writer = PackWriter::new(&sealer);
        let mut written = edit.write(&mut writer).unwrap();
        memory.take(&mut writer);
        assert_eq!(memory.count(), 1);
        written.top.for_each_ref(&mut |piece| assert!(matches!(piece.place, Place::Chunk(_))));
        let root = root(written.top);
        assert_eq!(state(&root, &memory).len(), 50 * 21);
        assert_eq!(TreeReader::new(root, &memory).reachable().unwrap().len(), 1);
    }

    #[test]
    fn the_walk_over_a_version_finds_all_its_chunks_and_no_more() {
        let memory = Memory::default();
        let sealer = sealer();
        let mut edit = TreeEdit::new(root(folder_item(0)), &memory);
        let mut chunks = BTreeSet::new();
        for (number, name) in ["/kept", "/removed"].into_iter().enumerate() {
            let mut writer = PackWriter::new(&sealer);
            edit.create(&names(name), file(number as u64, 500, &mut writer)).unwrap();
            let at = writer.add(Role::Content, name.as_bytes());
            let Place::Chunk(_) = writer.resolve(at).place else { panic!() };
            writer.take_closed();
        }
        for name in ["/kept", "/removed"] {
            let Found::Item(mut found) = edit.lookup(&names(name)).unwrap() else { panic!() };
            found.for_each_ref(&mut |piece| {
                let Place::Chunk(id) = piece.place else { panic!() };
                chunks.insert((name, id));
            });
        }
        edit.remove(&names("/removed")).unwrap();
        let root = committed(&edit, &memory);
        let reachable = TreeReader::new(root, &memory).reachable().unwrap();
        assert_eq!(reachable.len(), 2, "a tree page and the file that was kept");
        for (name, chunk) in chunks {
            assert_eq!(reachable.contains(&chunk), name == "/kept");
        }
    }

    #[test]
    fn what_changes_places_keeps_what_it_is_and_what_is_below_it() {
        let memory = Memory::default();
        let sealer = sealer();
        let mut writer = PackWriter::new(&sealer);
        let mut edit = TreeEdit::new(with_nested(&memory), &memory);
        edit.create(&names("/a/b/new"), file(9, 90, &mut writer)).unwrap();
        memory.take(&mut writer);
        let id = |edit: &TreeEdit<&Memory>, path| match edit.lookup(&names(path)).unwrap() {
            Found::Item(item) | Found::Crossing { item, .. } => item.id,
            other => panic!("{other:?}"),
        };
        edit.exchange(&names("/a/b"), &names("/g")).unwrap();
        assert_eq!([id(&edit, "/a/b"), id(&edit, "/g"), id(&edit, "/g/new")], [4, 2, 9].map(FileId));
        edit.exchange(&names("/a/n"), &names("/g/f")).unwrap();
        assert_eq!([id(&edit, "/g/f"), id(&edit, "/a/n")], [5, 3].map(FileId));
        edit.exchange(&names("/g/f"), &names("/g/new")).unwrap();
        edit.exchange(&names("/g"), &names("/g")).unwrap();
        let root = committed(&edit, &memory);
        let state: Vec<_> = state(&root, &memory).into_keys().collect();
        assert_eq!(state, ["/a", "/a/b", "/a/n", "/g", "/g/f", "/g/new"].map(names));
        let edit = TreeEdit::new(root, &memory);
        let crossing = edit.lookup(&names("/g/new/x")).unwrap();
        assert!(matches!(crossing, Found::Crossing { rest, .. } if rest == names("/x")));
        assert_eq!(edit.nested_version(nested(7).record).unwrap(), Some(Version(3)));
    }

    #[test]
    fn places_are_changed_by_two_that_exist_apart_from_each_other() {
        let memory = Memory::default();
        let root = with_nested(&memory);
        let exchange = |one: &str, other: &str| {
            let mut edit = TreeEdit::new(root.clone(), &memory);
            edit.exchange(&names(one), &names(other))
        };
        assert_eq!(exchange("/a", "/a/b"), Err(EditError::IntoItself));
        assert_eq!(exchange("/a/b/f", "/a"), Err(EditError::IntoItself));
        assert_eq!(exchange("/g", "/x"), Err(EditError::NotFound { present: 0 }));
        assert_eq!(exchange("/a/x", "/g"), Err(EditError::NotFound { present: 1 }));
        assert_eq!(exchange("/", "/g"), Err(EditError::Top));
        let crossing = EditError::Crossing { record: nested(7).record, depth: 2 };
        assert_eq!(exchange("/a/n/x", "/g"), Err(crossing));
    }

    #[test]
    fn a_walk_beyond_another_comes_by_what_that_has_not_and_no_page_twice() {
        let memory = Memory::default();
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut edit = TreeEdit::new(root(folder_item(0)), &memory);
        for number in 0..2000u64 {
            let content = Content::File(FileContent::EMPTY);
            edit.create(&names(&format!("/{number}")), item(1 + number, content)).unwrap();
        }
        let mut versions = vec![committed(&edit, &memory)];
        for _ in 0..10 {
            let sealer = sealer();
            let mut writer = PackWriter::new(&sealer);
            let mut edit = TreeEdit::new(versions.last().unwrap().clone(), &memory);
            let path = names(&format!("/{}", random.random_range(0..2000)));
            let Content::File(content) = file(0, random.random_range(1..2000), &mut writer).content else {
                unreachable!()
            };
            memory.take(&mut writer);
            edit.set_content(&path, content).unwrap();
            versions.push(committed(&edit, &memory));
        }
        let (mut walked, mut found, mut expected) = (Walked::default(), BTreeSet::new(), BTreeSet::new());
        let mut visits = Vec::new();
        for version in versions {
            let reader = TreeReader::new(version, &memory);
            let mut count = 0;
            let now = reader
                .for_each_chunk_beyond(&walked, &mut |chunk| {
                    count += 1;
                    found.insert(chunk);
                })
                .unwrap();
            walked.extend(now);
            visits.push(count);
            expected.extend(reader.reachable().unwrap());
        }
        assert_eq!(found, expected);
        assert!(visits[1..].iter().all(|count| *count < 6), "a few pages of each: {visits:?}");
    }

    #[test]
    fn renames_follow_the_rules_of_posix() {
        let memory = Memory::default();
        let rename = |from: &str, to: &str, overwrite| {
            let mut edit = TreeEdit::new(with_nested(&memory), &memory);
            edit.rename(&names(from), &names(to), overwrite)
        };
        let replace = |from, to| rename(from, to, Overwrite::Replace);
        assert_eq!(replace("/a", "/a/b/c"), Err(EditError::IntoItself));
        assert_eq!(replace("/g", "/a/b"), Err(EditError::IsAFolder));
        assert_eq!(replace("/a/b", "/g"), Err(EditError::NotAFolder { depth: 1 }));
        assert_eq!(replace("/a/b/f", "/g"), Ok(()));
        assert_eq!(rename("/a/b/f", "/g", Overwrite::Refuse), Err(EditError::Exists));
        assert_eq!(replace("/a/b", "/a"), Err(EditError::NotEmpty));
        assert_eq!(replace("/x", "/y"), Err(EditError::NotFound { present: 0 }));
        assert_eq!(replace("/g", "/x/y"), Err(EditError::NotFound { present: 0 }));
        assert_eq!(replace("/", "/x"), Err(EditError::Top));
        assert_eq!(replace("/g/x", "/y"), Err(EditError::NotAFolder { depth: 1 }));
    }
}
