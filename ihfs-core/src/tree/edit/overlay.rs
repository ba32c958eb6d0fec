//! The changed folders of an edit, over those of its base.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use super::EditError;
use crate::sealed::PackWriter;
use crate::tree::entry::{Content, Entry, Item, NestedRecord};
use crate::tree::folder::Folder;
use crate::tree::name::Name;
use crate::tree::sorted::Cursor;
use crate::tree::{ChunkSource, TreeError};

/// An entry and, for a folder that was opened, its changes. The name of the top stands nowhere.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) entry: Entry,
    pub(super) below: Option<Box<FolderEdit>>,
}

/// Changes to one folder.
#[derive(Clone, Debug)]
pub(super) struct FolderEdit {
    base: Folder,
    /// By name; `None` removes.
    pub(super) changes: BTreeMap<Name, Option<Placed>>,
}

impl Placed {
    pub(super) const fn new(entry: Entry) -> Self {
        Self { entry, below: None }
    }

    pub(super) fn new_at<E>(path: &[Name], item: Item) -> Result<Self, EditError<E>> {
        let name = path.last().ok_or(EditError::Top)?.clone();
        Ok(Self::new(Entry { name, item }))
    }

    /// The same without the changes below it.
    pub(super) fn clone_shallow(&self) -> Self {
        Self::new(self.entry.clone())
    }

    /// The changes of this folder, which stands behind `depth` names.
    pub(super) fn open<E>(&mut self, depth: usize) -> Result<&mut FolderEdit, EditError<E>> {
        match &self.entry.item.content {
            Content::Folder(base) => Ok(self.below.get_or_insert_with(|| Box::new(FolderEdit::new(base)))),
            Content::Nested(NestedRecord { record, .. }) => {
                Err(EditError::Crossing { record: *record, depth })
            }
            Content::File(_) | Content::Symlink(_) => Err(EditError::NotAFolder { depth }),
        }
    }

    /// Levels of opened folders below it.
    pub(super) fn depth(&self) -> usize {
        let below = self.below.iter().flat_map(|folder| folder.changes.values().flatten());
        below.map(|placed| 1 + placed.depth()).max().unwrap_or(0)
    }

    pub(super) fn write<S: ChunkSource>(
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
    pub(super) fn new(base: &Folder) -> Self {
        Self { base: base.clone(), changes: BTreeMap::new() }
    }

    pub(super) fn child<S: ChunkSource>(
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

    pub(super) fn list<S: ChunkSource>(
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

    pub(super) fn write<S: ChunkSource>(
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
pub(super) struct Walk<'a> {
    base: Peekable,
    changes: std::iter::Peekable<std::collections::btree_map::Range<'a, Name, Option<Placed>>>,
    edit: Option<&'a FolderEdit>,
}

/// An entry and, for a folder that was opened, its changes.
pub(super) type Walked<'a> = (Entry, Option<&'a FolderEdit>);

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
    pub(super) fn new(base: &Folder, edit: Option<&'a FolderEdit>) -> Self {
        let changes = edit.map_or(&NO_CHANGES, |edit| &edit.changes);
        let base = Peekable { cursor: Cursor::new(base), next: None };
        Self { base, changes: changes.range::<Name, _>(..).peekable(), edit }
    }

    pub(super) fn skip_to<S: ChunkSource>(
        &mut self,
        source: &S,
        after: &Name,
    ) -> Result<(), TreeError<S::Error>> {
        self.base.cursor.skip_to(source, after)?;
        if let Some(edit) = self.edit {
            let behind = (Bound::Excluded(after), Bound::Unbounded);
            self.changes = edit.changes.range::<Name, _>(behind).peekable();
        }
        Ok(())
    }

    pub(super) fn next_entry<S: ChunkSource>(
        &mut self,
        source: &S,
    ) -> Result<Option<Walked<'a>>, TreeError<S::Error>> {
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
}
