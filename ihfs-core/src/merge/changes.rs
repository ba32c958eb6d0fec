//! What one side did since the base, item by item: found by id, whatever the name.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::FileId;
use crate::tree::entry::{Content, Entry, Item};
use crate::tree::folder::Folder;
use crate::tree::{ChunkSource, TreeError};

/// An entry and the folder that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) parent: FileId,
    pub(super) entry: Entry,
}

/// The differences between the base and one side. Parts that are the same by ref are not read.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Items as they stand in the base, if they are not the same in the side; with all folders above them.
    pub(super) gone: BTreeMap<FileId, Located>,
    /// Items as they stand in the side, if they are not the same in the base; with all folders above them.
    pub(super) come: BTreeMap<FileId, Located>,
    /// Ids in both, and of one kind.
    pub(super) matched: BTreeSet<FileId>,
    expanded_gone: BTreeSet<FileId>,
    expanded_come: BTreeSet<FileId>,
    /// Unmatched folders whose entries were not looked at.
    open_gone: BTreeSet<FileId>,
    open_come: BTreeSet<FileId>,
    /// Pairs of folders to compare: the id, and what it holds on both sides.
    pairs: Vec<(FileId, Folder, Folder)>,
}

impl Changes {
    /// Compares two folders that are the same item.
    pub(super) fn between<S: ChunkSource>(
        top: FileId,
        base: &Folder,
        side: &Folder,
        source: &S,
    ) -> Result<Self, TreeError<S::Error>> {
        let mut changes = Self::default();
        changes.pairs.push((top, base.clone(), side.clone()));
        loop {
            if let Some((id, base, side)) = changes.pairs.pop() {
                changes.compare(id, &base, &side, source)?;
            } else if let Some(id) = changes.open_come.pop_first() {
                changes.expand_come(id, source)?;
            } else if let Some(id) = changes.open_gone.pop_first() {
                changes.expand_gone(id, source)?;
            } else {
                return Ok(changes);
            }
        }
    }

    /// The item is no more.
    pub(super) fn is_deleted(&self, id: FileId) -> bool {
        self.gone.contains_key(&id) && !self.matched.contains(&id)
    }

    /// The item itself is another: its place, metadata, or bytes; not only what stands in its folder.
    pub(super) fn is_modified(&self, id: FileId) -> bool {
        self.matched.contains(&id) && {
            let (gone, come) = (&self.gone[&id], &self.come[&id]);
            self.is_moved(id)
                || gone.entry.item.metadata != come.entry.item.metadata
                || folder(&come.entry.item).is_none() && gone.entry.item.content != come.entry.item.content
        }
    }

    /// Its id is now that of something of another kind.
    pub(super) fn is_replaced(&self, id: FileId) -> bool {
        self.come.contains_key(&id) && !self.matched.contains(&id)
    }

    /// The item has another name or folder.
    pub(super) fn is_moved(&self, id: FileId) -> bool {
        self.matched.contains(&id) && {
            let (gone, come) = (&self.gone[&id], &self.come[&id]);
            (gone.parent, &gone.entry.name) != (come.parent, &come.entry.name)
        }
    }

    pub(super) fn deleted(&self) -> Vec<FileId> {
        self.gone.keys().copied().filter(|id| !self.matched.contains(id)).collect()
    }

    pub(super) fn added(&self) -> Vec<FileId> {
        self.come.keys().copied().filter(|id| !self.matched.contains(id)).collect()
    }

    pub(super) fn modified(&self) -> Vec<FileId> {
        self.matched.iter().copied().filter(|id| self.is_modified(*id)).collect()
    }

    /// Folders above an item in the side.
    pub(super) fn depth(&self, id: FileId) -> usize {
        std::iter::successors(self.come.get(&id), |located| self.come.get(&located.parent))
            .take(crate::tree::name::DEPTH_MAX)
            .count()
    }

    fn compare<S: ChunkSource>(
        &mut self,
        parent: FileId,
        base: &Folder,
        side: &Folder,
        source: &S,
    ) -> Result<(), TreeError<S::Error>> {
        let mut found = Vec::new();
        base.diff(side, source, |difference| found.push(difference))?;
        for difference in found {
            if let Some(entry) = difference.old {
                self.goes(Located { parent, entry });
            }
            if let Some(entry) = difference.new {
                self.comes(Located { parent, entry });
            }
        }
        Ok(())
    }

    fn goes(&mut self, located: Located) {
        let id = located.entry.item.id;
        if self.gone.contains_key(&id) {
            // Two items of one id, which a sound writer never makes: the second counts as unchanged.
            return;
        }
        if folder(&located.entry.item).is_some() {
            self.open_gone.insert(id);
        }
        self.gone.insert(id, located);
        self.try_match(id);
    }

    fn comes(&mut self, mut located: Located) {
        let mut id = located.entry.item.id;
        while self.come.contains_key(&id) {
            // Two items of one id, which a sound writer never makes: the second counts as another item.
            id = super::derived_id(&located, b"second");
            located.entry.item.id = id;
        }
        if folder(&located.entry.item).is_some() {
            self.open_come.insert(id);
        }
        self.come.insert(id, located);
        self.try_match(id);
    }

    fn try_match(&mut self, id: FileId) {
        let (Some(gone), Some(come)) = (self.gone.get(&id), self.come.get(&id)) else { return };
        if !is_same_kind(&gone.entry.item, &come.entry.item) {
            return;
        }
        self.matched.insert(id);
        self.open_gone.remove(&id);
        self.open_come.remove(&id);
        let (Some(base), Some(side)) = (folder(&gone.entry.item), folder(&come.entry.item)) else { return };
        match (self.expanded_gone.contains(&id), self.expanded_come.contains(&id)) {
            (false, false) if base != side => self.pairs.push((id, base.clone(), side.clone())),
            // What was taken apart on one side is taken apart on the other, and its items meet by their ids.
            (true, false) => self.pairs.push((id, Folder::EMPTY, side.clone())),
            (false, true) => self.pairs.push((id, base.clone(), Folder::EMPTY)),
            _ => {}
        }
    }

    fn expand_come<S: ChunkSource>(&mut self, id: FileId, source: &S) -> Result<(), TreeError<S::Error>> {
        self.expanded_come.insert(id);
        let side = folder(&self.come[&id].entry.item).expect("only folders are open").clone();
        self.compare(id, &Folder::EMPTY, &side, source)
    }

    fn expand_gone<S: ChunkSource>(&mut self, id: FileId, source: &S) -> Result<(), TreeError<S::Error>> {
        self.expanded_gone.insert(id);
        let base = folder(&self.gone[&id].entry.item).expect("only folders are open").clone();
        self.compare(id, &base, &Folder::EMPTY, source)
    }
}

pub(super) const fn folder(item: &Item) -> Option<&Folder> {
    match &item.content {
        Content::Folder(folder) => Some(folder),
        _ => None,
    }
}

/// Whether the item can have changed from one to the other; else it was replaced.
fn is_same_kind(left: &Item, right: &Item) -> bool {
    match (&left.content, &right.content) {
        (Content::Nested(left), Content::Nested(right)) => left.record == right.record,
        (left, right) => std::mem::discriminant(left) == std::mem::discriminant(right),
    }
}
