//! Merges two versions of a record that grew from one base, by the ids of their items.
//!
//! Pure: what ours changed is done again on theirs. Equal changes merge silently, an edit beats a delete, and
//! what cannot merge becomes a conflict copy beside it. Bytes that either side added are never lost.

use std::collections::BTreeMap;

use crate::ids::{FileId, Time};
use crate::tree::edit::{EditError, Placed, TreeEdit};
use crate::tree::entry::{Content, Entry, Item, Metadata, Xattrs};
use crate::tree::folder::Folder;
use crate::tree::name::{DEPTH_MAX, NAME_BYTES_MAX, Name};
use crate::tree::root::{DeviceProgress, NestedVersion, Root};
use crate::tree::{ChunkSource, Found, TreeError};

mod changes;

use changes::{Changes, Located, folder};

/// Most bytes of a device's name in the name of a conflict copy.
const DEVICE_NAME_MAX: usize = 64;
/// A longer ending than this is not taken for an extension.
const EXTENSION_MAX: usize = 16;

/// Who makes the conflict copies, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyLabel {
    /// Name of the device whose changes are merged into theirs.
    pub device: String,
    /// When it merges; UTC in the name of the copy.
    pub time: Time,
}

/// Theirs with our changes made.
#[derive(Debug)]
pub struct Merged<S> {
    /// An edit of theirs.
    pub edit: TreeEdit<S>,
    /// What did not merge.
    pub conflicts: Vec<Conflict>,
    /// How far each device's journal is in: the later of both sides.
    pub devices: Vec<DeviceProgress>,
}

/// What did not merge, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Both sides put different things at one place or changed one file: ours is at this path.
    Copied {
        /// Where theirs is.
        path: Vec<Name>,
        /// Where ours is.
        copy: Vec<Name>,
    },
    /// The record is a single file and both sides changed it: ours has no folder to be in. The caller puts it
    /// beside the record, under a [`copy_name`] of the name that the record has there.
    Homeless {
        /// Our file.
        entry: Box<Entry>,
    },
    /// We deleted it and they changed it: it stays.
    EditBeatDelete {
        /// Where it is.
        path: Vec<Name>,
    },
    /// They deleted it and we changed it: it is there again.
    Restored {
        /// Where it is.
        path: Vec<Name>,
    },
    /// Both sides moved it: it is where they moved it.
    MovedTwice {
        /// Where it is.
        path: Vec<Name>,
    },
}

/// Why two versions did not merge.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError<E> {
    /// A page could not be read, or the result would be nested too deep.
    #[error(transparent)]
    Edit(#[from] EditError<E>),
    /// One version is a folder and another a file: not versions of one record.
    #[error("the versions are not of one kind")]
    OtherKind,
}

impl<E> From<TreeError<E>> for MergeError<E> {
    fn from(error: TreeError<E>) -> Self {
        Self::Edit(error.into())
    }
}

/// Does what `ours` changed since `base` again on `theirs`.
///
/// # Errors
/// [`MergeError`].
pub fn merge<S: ChunkSource>(
    base: &Root,
    ours: &Root,
    theirs: &Root,
    source: S,
    label: &CopyLabel,
) -> Result<Merged<S>, MergeError<S::Error>> {
    let edit = TreeEdit::new(theirs.clone(), source);
    let (our_changes, their_changes) = match [base, ours, theirs].map(|root| folder(&root.top)) {
        [Some(base_top), Some(our_top), Some(their_top)] => (
            Changes::between(base.top.id, base_top, our_top, edit.source())?,
            Changes::between(base.top.id, base_top, their_top, edit.source())?,
        ),
        [None, None, None] => (Changes::default(), Changes::default()),
        _ => return Err(MergeError::OtherKind),
    };
    let mut merge = Merge {
        top: base.top.id,
        ours: our_changes,
        theirs: their_changes,
        our_root: ours,
        label,
        edit,
        spots: BTreeMap::new(),
        conflicts: Vec::new(),
    };
    merge.delete_files()?;
    let lifted = merge.clear()?;
    merge.place(lifted)?;
    merge.modify(base, theirs)?;
    merge.nested_versions(base)?;
    let devices = later_of(&ours.devices, &theirs.devices);
    Ok(Merged { edit: merge.edit, conflicts: merge.conflicts, devices })
}

/// Where an item stands: its folder and its name.
type Spot = (FileId, Name);

struct Merge<'a, S> {
    top: FileId,
    ours: Changes,
    theirs: Changes,
    our_root: &'a Root,
    label: &'a CopyLabel,
    edit: TreeEdit<S>,
    /// Where items went in the course of the merge; `None` when nowhere.
    spots: BTreeMap<FileId, Option<Spot>>,
    conflicts: Vec<Conflict>,
}

type Step<T, S> = Result<T, MergeError<<S as ChunkSource>::Error>>;

impl<S: ChunkSource> Merge<'_, S> {
    fn delete_files(&mut self) -> Step<(), S> {
        for id in self.ours.deleted() {
            if folder(&self.ours.gone[&id].entry.item).is_none() {
                self.delete(id)?;
            }
        }
        Ok(())
    }

    fn delete(&mut self, id: FileId) -> Step<(), S> {
        let Some(path) = self.path(id) else { return Ok(()) };
        if self.theirs.is_modified(id) || self.theirs.is_replaced(id) {
            self.conflicts.push(Conflict::EditBeatDelete { path });
            return Ok(());
        }
        match self.edit.remove(&path) {
            Ok(()) => {
                self.spots.insert(id, None);
                Ok(())
            }
            Err(EditError::NotEmpty) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes what we moved out of its old places, so that swapped and circling names get free, and removes the
    /// folders that we deleted if they are empty then. From below, so that a folder comes after what is in it.
    fn clear(&mut self) -> Step<BTreeMap<FileId, (Placed, Spot)>, S> {
        let mut ids = Vec::new();
        for id in self.ours.deleted().into_iter().chain(self.ours.modified()) {
            let is_folder = folder(&self.ours.gone[&id].entry.item).is_some();
            if (self.ours.is_deleted(id) && is_folder) || self.moves(id) {
                ids.extend(self.path(id).map(|path| (path.len(), id)));
            }
        }
        ids.sort_unstable();
        let mut lifted = BTreeMap::new();
        for (_, id) in ids.into_iter().rev() {
            if self.ours.is_deleted(id) {
                self.delete(id)?;
                continue;
            }
            let (Some(path), Some(spot)) = (self.path(id), self.spot(id)) else { continue };
            lifted.insert(id, (self.edit.take(&path)?, spot));
            self.spots.insert(id, None);
        }
        Ok(lifted)
    }

    /// Whether an item goes where we moved it. What both moved stays where they did.
    fn moves(&mut self, id: FileId) -> bool {
        if !self.ours.is_moved(id) || self.theirs.is_deleted(id) {
            return false;
        }
        if self.theirs.is_moved(id) && self.spot(id) != Some(spot_of(&self.ours.come[&id])) {
            self.conflicts.extend(self.path(id).map(|path| Conflict::MovedTwice { path }));
        }
        !self.theirs.is_moved(id)
    }

    /// Puts what we moved, added, or changed after they deleted it into its places, folders from above.
    fn place(&mut self, mut lifted: BTreeMap<FileId, (Placed, Spot)>) -> Step<(), S> {
        let restored = self.ours.modified().into_iter().filter(|id| self.theirs.is_deleted(*id));
        let mut ids: Vec<_> = self.ours.added().into_iter().chain(restored).collect();
        ids.extend(lifted.keys());
        ids.sort_by_key(|id| (self.ours.depth(*id), *id));
        ids.dedup();
        let mut stuck = Vec::new();
        for id in ids {
            let located = self.ours.come[&id].clone();
            match lifted.remove(&id) {
                Some((placed, old)) => match self.folder_path(located.parent)? {
                    Some(parent) => {
                        self.put_back(id, placed, (located.parent, located.entry.name), parent)?
                    }
                    None => stuck.push((id, placed, old)),
                },
                None => self.add(id, located)?,
            }
        }
        self.unstick(stuck)
    }

    /// Folders that both sides moved into each other stay where theirs are.
    fn unstick(&mut self, mut stuck: Vec<(FileId, Placed, Spot)>) -> Step<(), S> {
        while !stuck.is_empty() {
            let ready = stuck.iter().position(|(_, _, old)| self.path(old.0).is_some()).unwrap_or(0);
            let (id, placed, mut old) = stuck.remove(ready);
            let parent = self.folder_path(old.0)?.unwrap_or_else(|| {
                old.0 = self.top;
                Vec::new()
            });
            self.put_back(id, placed, old, parent)?;
            self.conflicts.extend(self.path(id).map(|path| Conflict::MovedTwice { path }));
        }
        Ok(())
    }

    fn put_back(&mut self, id: FileId, mut placed: Placed, spot: Spot, parent: Vec<Name>) -> Step<(), S> {
        let (parent_id, name) = spot;
        let name = match self.at(&parent, &name)? {
            None => name,
            Some(_) => self.conflict_name(&parent, &name)?,
        };
        placed.entry.name = name.clone();
        self.edit.place_new(&joined(&parent, &name), placed)?;
        self.spots.insert(id, Some((parent_id, name)));
        Ok(())
    }

    /// Adds an item of ours. Of a folder only itself: what is in it follows.
    fn add(&mut self, id: FileId, mut located: Located) -> Step<(), S> {
        let Some(parent) = self.folder_path(located.parent)? else {
            // Its folder hangs in a circle of moves: the top takes it.
            located.parent = self.top;
            return self.add_in(id, located, Vec::new());
        };
        self.add_in(id, located, parent)
    }

    fn add_in(&mut self, id: FileId, located: Located, parent: Vec<Name>) -> Step<(), S> {
        let Located { parent: parent_id, entry } = located.clone();
        let Entry { mut name, mut item } = entry;
        if let Some(there) = self.at(&parent, &name)? {
            if self.is_equal(&there, &item)? {
                self.spots.insert(id, Some((parent_id, name)));
                return Ok(());
            }
            name = self.conflict_name(&parent, &name)?;
        }
        let is_restored = self.theirs.is_deleted(id) && self.ours.matched.contains(&id);
        if self.theirs.come.contains_key(&id) || self.theirs.gone.contains_key(&id) && !is_restored {
            item.id = derived_id(&located, self.label.device.as_bytes());
        }
        if folder(&item).is_some() {
            item.content = Content::Folder(Folder::EMPTY);
        }
        let path = joined(&parent, &name);
        self.create(&path, item)?;
        self.spots.insert(id, Some((parent_id, name)));
        if is_restored {
            self.conflicts.push(Conflict::Restored { path });
        }
        Ok(())
    }

    fn create(&mut self, path: &[Name], item: Item) -> Step<(), S> {
        let Content::Nested(nested) = item.content else { return Ok(self.edit.create(path, item)?) };
        let ours = self.our_root.nested.get(self.edit.source(), &nested.record)?;
        let version = ours.map(|nested| nested.version).unwrap_or_default();
        match self.edit.attach(path, item, version) {
            // They have it too, at another place: there it stays.
            Ok(()) | Err(EditError::AlreadyNested { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Merges bytes and metadata of what both sides have.
    fn modify(&mut self, base: &Root, theirs: &Root) -> Step<(), S> {
        for id in self.ours.modified() {
            if self.theirs.is_deleted(id) {
                continue;
            }
            let Some(path) = self.path(id) else { continue };
            let old = self.ours.gone[&id].entry.item.clone();
            let ours = self.ours.come[&id].entry.item.clone();
            let Some(theirs) = self.item(&path)? else { continue };
            self.modify_item(&path, &old, ours, &theirs)?;
        }
        self.modify_item(&[], &base.top, self.our_root.top.clone(), &theirs.top)
    }

    fn modify_item(&mut self, path: &[Name], base: &Item, mut ours: Item, theirs: &Item) -> Step<(), S> {
        if folder(&ours).is_none() && !self.is_equal(base, &ours)? && !self.is_equal(theirs, &ours)? {
            if !self.is_equal(base, theirs)? {
                return self.copy_beside(path, ours);
            }
            self.replace_content(path, &mut ours)?;
        }
        let metadata = merged_metadata(&base.metadata, &ours.metadata, &theirs.metadata);
        if metadata != theirs.metadata {
            self.edit.set_metadata(path, metadata)?;
        }
        Ok(())
    }

    fn replace_content(&mut self, path: &[Name], ours: &mut Item) -> Step<(), S> {
        if let Content::File(content) = &ours.content {
            return Ok(self.edit.set_content(path, content.clone())?);
        }
        let mut placed = self.edit.take(path)?;
        placed.entry.item.content = ours.content.clone();
        Ok(self.edit.place_new(path, placed)?)
    }

    fn copy_beside(&mut self, path: &[Name], mut ours: Item) -> Step<(), S> {
        let Some((name, parent)) = path.split_last() else {
            let name = self.copy_name(&Name::new(*b"file").expect("a name"), 1);
            self.conflicts.push(Conflict::Homeless { entry: Box::new(Entry { name, item: ours }) });
            return Ok(());
        };
        let copy = joined(parent, &self.conflict_name(parent, name)?);
        let located = Located { parent: ours.id, entry: Entry { name: name.clone(), item: ours.clone() } };
        ours.id = derived_id(&located, format!("{}{}", self.label.device, self.label.time).as_bytes());
        Ok(self.edit.create(&copy, ours)?)
    }

    /// Notes the later version of what is nested.
    fn nested_versions(&mut self, base: &Root) -> Step<(), S> {
        let mut ours: Vec<NestedVersion> = Vec::new();
        base.nested
            .diff(&self.our_root.nested, self.edit.source(), |difference| ours.extend(difference.new))?;
        for NestedVersion { record, version } in ours {
            if self.edit.nested_version(record)?.is_some_and(|theirs| theirs < version) {
                self.edit.set_nested_version(record, version)?;
            }
        }
        Ok(())
    }

    /// Where an item of the base, of theirs, or of ours that was placed stands now.
    fn spot(&self, id: FileId) -> Option<Spot> {
        if let Some(spot) = self.spots.get(&id) {
            return spot.clone();
        }
        if let Some(located) = self.theirs.come.get(&id) {
            return Some(spot_of(located));
        }
        if self.theirs.gone.contains_key(&id) {
            return None;
        }
        self.ours.gone.get(&id).map(spot_of)
    }

    fn path(&self, id: FileId) -> Option<Vec<Name>> {
        let mut path = Vec::new();
        let mut at = id;
        while at != self.top {
            let (parent, name) = self.spot(at)?;
            path.push(name);
            at = parent;
            if path.len() > DEPTH_MAX {
                return None;
            }
        }
        path.reverse();
        Some(path)
    }

    /// Where a folder of ours stands now; made again if they deleted it. `None` in a circle of moves.
    fn folder_path(&mut self, id: FileId) -> Step<Option<Vec<Name>>, S> {
        let mut missing = Vec::new();
        let mut at = id;
        let mut path = loop {
            if let Some(path) = self.path(at) {
                break path;
            }
            if self.spot(at).is_some() || self.spots.contains_key(&at) || missing.len() > DEPTH_MAX {
                return Ok(None);
            }
            let Some(located) = self.ours.come.get(&at) else { return Ok(None) };
            missing.push(located.clone());
            at = located.parent;
        };
        while let Some(located) = missing.pop() {
            let id = located.entry.item.id;
            self.add_in(id, located, path)?;
            let Some(restored) = self.path(id) else { return Ok(None) };
            path = restored;
        }
        Ok(Some(path))
    }

    fn item(&self, path: &[Name]) -> Step<Option<Item>, S> {
        match self.edit.lookup(path)? {
            Found::Item(item) => Ok(Some(item)),
            Found::Crossing { item, rest } if rest.is_empty() => Ok(Some(item)),
            _ => Ok(None),
        }
    }

    fn at(&self, parent: &[Name], name: &Name) -> Step<Option<Item>, S> {
        self.item(&joined(parent, name))
    }

    /// Whether both hold the same. Folders do: what is in them merges by itself.
    fn is_equal(&self, left: &Item, right: &Item) -> Step<bool, S> {
        match (&left.content, &right.content) {
            (Content::Folder(_), Content::Folder(_)) => Ok(true),
            (Content::File(left), Content::File(right)) => Ok(left.is_same_bytes(right, self.edit.source())?),
            (Content::Symlink(left), Content::Symlink(right)) => Ok(left == right),
            (Content::Nested(left), Content::Nested(right)) => Ok(left.record == right.record),
            _ => Ok(false),
        }
    }

    /// A free name for a conflict copy, which is noted.
    fn conflict_name(&mut self, parent: &[Name], name: &Name) -> Step<Name, S> {
        for number in 1.. {
            let copy = self.copy_name(name, number);
            if self.at(parent, &copy)?.is_none() {
                let (path, copied) = (joined(parent, name), joined(parent, &copy));
                self.conflicts.push(Conflict::Copied { path, copy: copied });
                return Ok(copy);
            }
        }
        unreachable!("a folder has fewer entries than there are numbers")
    }

    fn copy_name(&self, name: &Name, number: u64) -> Name {
        copy_name(name, self.label, number)
    }
}

fn spot_of(located: &Located) -> Spot {
    (located.parent, located.entry.name.clone())
}

fn joined(parent: &[Name], name: &Name) -> Vec<Name> {
    [parent, std::slice::from_ref(name)].concat()
}

/// `BLAKE3-derive-key("IHFS 1 id of conflict copy", id ‖ folder ‖ name ‖ 0 ‖ salt)`, its first 8 bytes: the same on
/// every device, and another than that of the item it was copied from.
fn derived_id(located: &Located, salt: &[u8]) -> FileId {
    let mut hasher = blake3::Hasher::new_derive_key("IHFS 1 id of conflict copy");
    hasher.update(&located.entry.item.id.0.to_be_bytes()).update(&located.parent.0.to_be_bytes());
    hasher.update(located.entry.name.as_bytes()).update(&[0]).update(salt);
    let hash = hasher.finalize();
    FileId(u64::from_be_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes")))
}

/// `name (conflict DEVICE YYYY-MM-DD HHMMSS).ext`, with a number behind the time from the second on. A name that
/// would get too long loses the end of its stem.
pub fn copy_name(name: &Name, label: &CopyLabel, number: u64) -> Name {
    let bytes = name.as_bytes();
    let dot = bytes.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0);
    let dot = dot.filter(|at| bytes.len() - at <= EXTENSION_MAX).unwrap_or(bytes.len());
    let (stem, extension) = bytes.split_at(dot);
    let device: String = label.device.chars().filter(|c| !matches!(c, '/' | '\0')).collect();
    let device = &device[..device.floor_char_boundary(DEVICE_NAME_MAX)];
    let number = if number > 1 { format!(" {number}") } else { String::new() };
    let mark = format!(" (conflict {device} {}{number})", utc(label.time));
    let room = NAME_BYTES_MAX - mark.len() - extension.len();
    let stem = match std::str::from_utf8(stem) {
        Ok(text) => &stem[..text.floor_char_boundary(room)],
        Err(_) => &stem[..stem.len().min(room)],
    };
    Name::new([stem, mark.as_bytes(), extension].concat()).expect("cut to length, without slash and NUL")
}

/// `YYYY-MM-DD HHMMSS`. Days to dates after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn utc(time: Time) -> String {
    let seconds = time.0 / 1000;
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}{minute:02}{:02}", second % 60)
}

/// Field by field what changed; theirs where both did, and the later of both times.
fn merged_metadata(base: &Metadata, ours: &Metadata, theirs: &Metadata) -> Metadata {
    fn pick<T: PartialEq + Clone>(base: &T, ours: &T, theirs: &T) -> T {
        if theirs == base { ours.clone() } else { theirs.clone() }
    }
    Metadata {
        mode: pick(&base.mode, &ours.mode, &theirs.mode),
        owner: pick(&base.owner, &ours.owner, &theirs.owner),
        modified: match theirs.modified == base.modified {
            true => ours.modified,
            false if ours.modified == base.modified => theirs.modified,
            false => ours.modified.max(theirs.modified),
        },
        changed: ours.changed.max(theirs.changed),
        born: pick(&base.born, &ours.born, &theirs.born),
        xattrs: merged_xattrs(&base.xattrs, &ours.xattrs, &theirs.xattrs),
    }
}

/// Attribute by attribute; theirs where both changed one, and theirs alone when all are too many.
fn merged_xattrs(base: &Xattrs, ours: &Xattrs, theirs: &Xattrs) -> Xattrs {
    let mut merged = theirs.by_name().clone();
    let names = base.by_name().keys().chain(ours.by_name().keys());
    for name in names {
        let (old, our, their) =
            (base.by_name().get(name), ours.by_name().get(name), theirs.by_name().get(name));
        match our {
            Some(value) if their == old => drop(merged.insert(name.clone(), value.clone())),
            None if their == old => drop(merged.remove(name)),
            _ => {}
        }
    }
    Xattrs::new(merged).unwrap_or_else(|_| theirs.clone())
}

/// How far each device's journal is in when both are: by device, the later of both.
pub fn later_of(ours: &[DeviceProgress], theirs: &[DeviceProgress]) -> Vec<DeviceProgress> {
    let mut devices = BTreeMap::new();
    for DeviceProgress { device, sequence } in ours.iter().chain(theirs) {
        let latest = devices.entry(*device).or_insert(*sequence);
        *latest = (*latest).max(*sequence);
    }
    devices.into_iter().map(|(device, sequence)| DeviceProgress { device, sequence }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::sealed::{PackWriter, Sealer};
    use crate::tree::edit::Overwrite;
    use crate::tree::entry::{Mode, SymlinkTarget};
    use crate::tree::reader::TreeReader;
    use crate::tree::testing::{Memory, file, item, names, root, sealer};

    fn label() -> CopyLabel {
        CopyLabel { device: "ward-3".into(), time: Time(1_773_576_245_000) }
    }

    /// What stands at each path: size of a file, or none.
    fn state(root: &Root, memory: &Memory) -> BTreeMap<Vec<u8>, Option<u64>> {
        let mut state = BTreeMap::new();
        let mut ids = BTreeSet::new();
        let mut visit = |path: &[Name], entry: &Entry| {
            assert!(ids.insert(entry.item.id), "two items of one id");
            let size = matches!(entry.item.content, Content::File(_)).then(|| entry.item.size_bytes());
            state.insert(crate::tree::name::path_bytes(path), size);
        };
        TreeReader::new(root.clone(), memory).for_each_entry(&mut visit).unwrap();
        state
    }

    fn sizes(root: &Root, memory: &Memory) -> BTreeSet<u64> {
        state(root, memory).into_values().flatten().collect()
    }

    fn written(edit: &TreeEdit<&Memory>, sealer: &Sealer, memory: &Memory) -> Root {
        let mut writer = PackWriter::new(sealer);
        let written = edit.write(&mut writer).unwrap();
        memory.take(&mut writer);
        Root { top: written.top, nested: written.nested, ..edit.base().clone() }
    }

    /// A version that grew from `base` by `change`.
    fn grown(
        base: &Root,
        memory: &Memory,
        change: impl FnOnce(&mut TreeEdit<&Memory>, &mut PackWriter<'_>),
    ) -> Root {
        let sealer = sealer();
        let mut content = PackWriter::new(&sealer);
        let mut edit = TreeEdit::new(base.clone(), memory);
        change(&mut edit, &mut content);
        memory.take(&mut content);
        written(&edit, &sealer, memory)
    }

    fn merged(base: &Root, ours: &Root, theirs: &Root, memory: &Memory) -> (Root, Vec<Conflict>) {
        let merged = merge(base, ours, theirs, memory, &label()).unwrap();
        (written(&merged.edit, &sealer(), memory), merged.conflicts)
    }

    fn empty() -> Root {
        root(item(0, Content::Folder(Folder::EMPTY)))
    }

    fn folder_item(id: u64) -> Item {
        item(id, Content::Folder(Folder::EMPTY))
    }

    fn random_path(random: &mut impl Rng) -> Vec<Name> {
        let depth = random.random_range(1..=4);
        (0..depth).map(|_| Name::new(vec![b'a' + random.random_range(0..4u8)]).unwrap()).collect()
    }

    /// Changes at random; every file ever made has another size.
    fn wander(base: &Root, memory: &Memory, random: &mut impl Rng, counter: &mut u64, steps: usize) -> Root {
        grown(base, memory, |edit, writer| {
            for _ in 0..steps {
                *counter += 1;
                let (path, to) = (random_path(random), random_path(random));
                let id = *counter;
                // What may not be done is not done.
                let _refused = match random.random_range(0..7) {
                    0 | 1 => edit.create(&path, file(id, id, writer)),
                    2 => edit.create(&path, folder_item(id)),
                    3 | 4 => edit.rename(&path, &to, Overwrite::Replace),
                    5 => edit.remove_tree(&path),
                    _ => {
                        let Content::File(content) = file(id, id, writer).content else { unreachable!() };
                        edit.set_content(&path, content)
                    }
                };
                memory.take(writer);
            }
        })
    }

    #[test]
    fn no_bytes_of_either_side_are_lost_whatever_both_do() {
        for seed in 0..400 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let memory = Memory::default();
            let mut counter = 0;
            let base = wander(&empty(), &memory, &mut random, &mut counter, 60);
            let ours = wander(&base, &memory, &mut random, &mut counter, 15);
            let theirs = wander(&base, &memory, &mut random, &mut counter, 15);
            let (merged, _) = merged(&base, &ours, &theirs, &memory);
            let [base, ours, theirs, merged] =
                [&base, &ours, &theirs, &merged].map(|root| sizes(root, &memory));
            for side in [&ours, &theirs] {
                let lost: Vec<_> = side.difference(&base).filter(|size| !merged.contains(size)).collect();
                assert!(lost.is_empty(), "seed {seed}: {lost:?}");
            }
            let kept: BTreeSet<_> = ours.intersection(&theirs).copied().collect();
            assert!(kept.is_subset(&merged), "seed {seed}");
        }
    }

    #[test]
    fn a_side_that_did_nothing_leaves_the_other_as_it_is() {
        for seed in 0..100 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let memory = Memory::default();
            let mut counter = 0;
            let base = wander(&empty(), &memory, &mut random, &mut counter, 60);
            let side = wander(&base, &memory, &mut random, &mut counter, 20);
            for (ours, theirs) in [(&base, &side), (&side, &base), (&side, &side)] {
                let (merged, conflicts) = merged(&base, ours, theirs, &memory);
                assert_eq!(state(&merged, &memory), state(&side, &memory), "seed {seed}");
                assert_eq!(conflicts, [], "seed {seed}");
            }
        }
    }

    fn two_files(memory: &Memory) -> Root {
        grown(&empty(), memory, |edit, writer| {
            edit.create(&names("/folder"), folder_item(1)).unwrap();
            edit.create(&names("/folder/scan.dcm"), file(2, 20, writer)).unwrap();
            edit.create(&names("/b"), file(3, 30, writer)).unwrap();
        })
    }

    fn set(edit: &mut TreeEdit<&Memory>, path: &str, size: u64, writer: &mut PackWriter<'_>) {
        let Content::File(content) = file(size, size, writer).content else { unreachable!() };
        edit.set_content(&names(path), content).unwrap();
    }

    fn paths(root: &Root, memory: &Memory) -> Vec<(String, u64)> {
        let state = state(root, memory).into_iter();
        state.filter_map(|(path, size)| Some((String::from_utf8(path).unwrap(), size?))).collect()
    }

    #[test]
    fn a_file_that_both_changed_is_theirs_with_ours_beside_it() {
        let memory = Memory::default();
        let base = two_files(&memory);
        let ours = grown(&base, &memory, |edit, writer| set(edit, "/folder/scan.dcm", 21, writer));
        let theirs = grown(&base, &memory, |edit, writer| set(edit, "/folder/scan.dcm", 22, writer));
        let (merged, conflicts) = merged(&base, &ours, &theirs, &memory);
        let copy = "/folder/scan (conflict ward-3 2026-03-15 120405).dcm";
        let expected = [("/b", 30), (copy, 21), ("/folder/scan.dcm", 22)];
        assert_eq!(paths(&merged, &memory), expected.map(|(path, size)| (path.to_owned(), size)));
        let (path, copy) = (names("/folder/scan.dcm"), names(copy));
        assert_eq!(conflicts, [Conflict::Copied { path, copy }]);
    }

    #[test]
    fn an_edit_beats_a_delete_on_either_side() {
        let memory = Memory::default();
        let base = two_files(&memory);
        let edited = grown(&base, &memory, |edit, writer| set(edit, "/folder/scan.dcm", 21, writer));
        let deleted = grown(&base, &memory, |edit, _| edit.remove_tree(&names("/folder")).unwrap());
        for (ours, theirs) in [(&edited, &deleted), (&deleted, &edited)] {
            let (merged, conflicts) = merged(&base, ours, theirs, &memory);
            assert_eq!(paths(&merged, &memory), paths(&edited, &memory));
            assert!(!conflicts.is_empty());
        }
    }

    #[test]
    fn a_file_moved_by_one_and_changed_by_the_other_is_changed_where_it_moved() {
        let memory = Memory::default();
        let base = two_files(&memory);
        let moved = grown(&base, &memory, |edit, _| {
            edit.rename(&names("/folder"), &names("/moved"), Overwrite::Refuse).unwrap();
            edit.rename(&names("/moved/scan.dcm"), &names("/moved/s"), Overwrite::Refuse).unwrap();
        });
        let changed = grown(&base, &memory, |edit, writer| set(edit, "/folder/scan.dcm", 21, writer));
        for (ours, theirs) in [(&moved, &changed), (&changed, &moved)] {
            let (merged, conflicts) = merged(&base, ours, theirs, &memory);
            assert_eq!(paths(&merged, &memory), [("/b".into(), 30), ("/moved/s".into(), 21)]);
            assert_eq!(conflicts, []);
        }
    }

    #[test]
    fn swapped_names_merge_with_a_change_behind_one_of_them() {
        let memory = Memory::default();
        let base = two_files(&memory);
        let swapped = grown(&base, &memory, |edit, _| {
            edit.rename(&names("/b"), &names("/t"), Overwrite::Refuse).unwrap();
            edit.rename(&names("/folder/scan.dcm"), &names("/b"), Overwrite::Refuse).unwrap();
            edit.rename(&names("/t"), &names("/folder/scan.dcm"), Overwrite::Refuse).unwrap();
        });
        let changed = grown(&base, &memory, |edit, writer| set(edit, "/b", 31, writer));
        let (merged, conflicts) = merged(&base, &swapped, &changed, &memory);
        assert_eq!(paths(&merged, &memory), [("/b".into(), 20), ("/folder/scan.dcm".into(), 31)]);
        assert_eq!(conflicts, []);
    }

    #[test]
    fn folders_that_both_made_under_one_name_become_one() {
        let memory = Memory::default();
        let make = |id: u64, path: &str| {
            grown(&empty(), &memory, |edit, writer| {
                edit.create(&names("/new"), folder_item(id)).unwrap();
                edit.create(&names(path), file(id + 1, id, writer)).unwrap();
            })
        };
        let (merged, conflicts) = merged(&empty(), &make(10, "/new/x"), &make(20, "/new/y"), &memory);
        assert_eq!(paths(&merged, &memory), [("/new/x".into(), 10), ("/new/y".into(), 20)]);
        assert_eq!(conflicts, []);
    }

    #[test]
    fn folders_moved_into_each_other_stay_in_the_tree() {
        let memory = Memory::default();
        let base = grown(&empty(), &memory, |edit, writer| {
            edit.create(&names("/a"), folder_item(1)).unwrap();
            edit.create(&names("/a/x"), file(2, 20, writer)).unwrap();
            edit.create(&names("/b"), folder_item(3)).unwrap();
            edit.create(&names("/b/y"), file(4, 40, writer)).unwrap();
        });
        let move_to = |from: &str, to: &str| {
            grown(&base, &memory, |edit, _| edit.rename(&names(from), &names(to), Overwrite::Refuse).unwrap())
        };
        let (merged, conflicts) = merged(&base, &move_to("/a", "/b/a"), &move_to("/b", "/a/b"), &memory);
        assert_eq!(paths(&merged, &memory), [("/a/b/y".into(), 40), ("/a/x".into(), 20)]);
        assert_eq!(conflicts, [Conflict::MovedTwice { path: names("/a") }]);
    }

    #[test]
    fn a_single_file_that_both_changed_gives_ours_to_the_caller() {
        let memory = Memory::default();
        let sealer = sealer();
        let mut writer = PackWriter::new(&sealer);
        let [base, ours, theirs] = [10, 11, 12].map(|size| root(file(1, size, &mut writer)));
        memory.take(&mut writer);
        let (merged, conflicts) = merged(&base, &ours, &theirs, &memory);
        assert_eq!(merged.top, theirs.top);
        let [Conflict::Homeless { entry }] = &conflicts[..] else { panic!("{conflicts:?}") };
        assert_eq!(entry.item, ours.top);
    }

    #[test]
    fn metadata_and_links_merge_field_by_field() {
        let memory = Memory::default();
        let link = |target: &str| Content::Symlink(SymlinkTarget::new(target).unwrap());
        let base = grown(&empty(), &memory, |edit, writer| {
            edit.create(&names("/f"), file(1, 1, writer)).unwrap();
            edit.create(&names("/l"), item(2, link("a"))).unwrap();
        });
        let with = |mode: u32, xattr: &str| {
            let xattrs = Xattrs::new(BTreeMap::from([(xattr.into(), b"1".to_vec())])).unwrap();
            let metadata = Metadata { mode: Mode::new(mode).unwrap(), xattrs, ..Metadata::default() };
            grown(&base, &memory, |edit, _| edit.set_metadata(&names("/f"), metadata).unwrap())
        };
        let (merged, conflicts) = merged(&base, &with(0o640, "ours"), &with(0, "theirs"), &memory);
        let Found::Item(found) = TreeReader::new(merged, &memory).lookup(&names("/f")).unwrap() else {
            panic!()
        };
        assert_eq!(found.metadata.mode.bits(), 0o640);
        assert_eq!(found.metadata.xattrs.by_name().len(), 2);
        assert_eq!(conflicts, []);
    }

    #[test]
    fn the_name_of_a_copy_keeps_its_extension_and_its_length() {
        let named =
            |name: &[u8], number| copy_name(&Name::new(name).unwrap(), &label(), number).as_bytes().to_vec();
        let mark = " (conflict ward-3 2026-03-15 120405";
        assert_eq!(named(b"a.b.txt", 1), format!("a.b{mark}).txt").as_bytes());
        assert_eq!(named(b".profile", 2), format!(".profile{mark} 2)").as_bytes());
        for name in [&[0xff; 255][..], "ä".repeat(127).as_bytes()] {
            let copy = named(name, 1);
            assert!(copy.len() <= 255 && copy.len() > 253);
            assert!(copy.ends_with(format!("{mark})").as_bytes()));
        }
    }

    #[test]
    fn the_id_of_a_copy_is_pinned() {
        let entry = Entry { name: Name::new(*b"a").unwrap(), item: folder_item(1) };
        assert_eq!(derived_id(&Located { parent: FileId(2), entry }, b"salt"), FileId(14331601602470585525));
    }

    #[test]
    fn times_read_as_utc() {
        assert_eq!(utc(Time(0)), "1970-01-01 000000");
        assert_eq!(utc(Time(951_827_696_000)), "2000-02-29 123456");
        assert_eq!(utc(Time(u64::MAX)).len(), "584556019-04-03 142525".len());
    }
}
