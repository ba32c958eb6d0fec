//! Sorted maps in pages: folders by name, nested records by id.

use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::entry::REF_WEIGHT;
use super::pages::{Child, LEVEL_MAX, Leaf, SequenceBuilder, SequencePage, Top, Visited, load, lower_top};
use super::{ChunkSource, PageFault, TreeError};
use crate::sealed::{PackWriter, Place, Ref};

/// An item of a sorted map.
pub trait Keyed: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What it is sorted by.
    type Key: Clone + Debug + Ord + Serialize + DeserializeOwned + Send + Sync + 'static;

    /// Its key.
    fn key(&self) -> &Self::Key;

    /// The bytes of a key.
    fn key_bytes(key: &Self::Key) -> &[u8];

    /// At least its encoded bytes, and the same wherever its refs stand.
    fn weight(&self) -> usize;

    /// Calls `visit` with every ref of the item.
    fn for_each_ref(&mut self, visit: &mut dyn FnMut(&mut Ref));
}

/// What a parent says of a page of a sorted map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(serialize = "K: Clone + Serialize", deserialize = "K: Deserialize<'de>"))]
#[serde(from = "(K, u64)", into = "(K, u64)")]
pub struct KeySpan<K> {
    /// Its last key.
    pub last: K,
    /// Its items, those of all pages below.
    pub count: u64,
}

impl<K> From<(K, u64)> for KeySpan<K> {
    fn from((last, count): (K, u64)) -> Self {
        Self { last, count }
    }
}

impl<K> From<KeySpan<K>> for (K, u64) {
    fn from(span: KeySpan<K>) -> Self {
        (span.last, span.count)
    }
}

impl<E: Keyed> Leaf for E {
    type Span = KeySpan<E::Key>;

    fn span(&self) -> Self::Span {
        KeySpan { last: self.key().clone(), count: 1 }
    }

    fn join(span: &mut Self::Span, next: &Self::Span) -> Result<(), PageFault> {
        if span.last >= next.last {
            return Err(PageFault::NotSorted);
        }
        span.count = span.count.checked_add(next.count).ok_or(PageFault::Overflow)?;
        span.last = next.last.clone();
        Ok(())
    }

    fn mark(span: &Self::Span) -> u64 {
        mark_of(E::key_bytes(&span.last))
    }

    fn weight(&self) -> usize {
        Keyed::weight(self)
    }

    fn child_weight(span: &Self::Span) -> usize {
        E::key_bytes(&span.last).len() + 16 + REF_WEIGHT
    }

    fn for_each_ref(&mut self, visit: &mut dyn FnMut(&mut Ref)) {
        Keyed::for_each_ref(self, visit);
    }
}

/// `BLAKE3-derive-key("IHFS 1 page mark", key)`, its first 8 bytes big endian.
pub(crate) fn mark_of(key: &[u8]) -> u64 {
    let hash = blake3::derive_key("IHFS 1 page mark", key);
    u64::from_be_bytes(*hash.first_chunk().expect("a hash has 32 bytes"))
}

/// A sorted map that stands in sealed pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "", try_from = "Option<Top<KeySpan<E::Key>>>", into = "Option<Top<KeySpan<E::Key>>>")]
pub struct SortedPages<E: Keyed> {
    top: Option<Top<KeySpan<E::Key>>>,
}

/// A difference between two sorted maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference<E> {
    /// The item in the old map.
    pub old: Option<E>,
    /// The item in the new map, under the same key.
    pub new: Option<E>,
}

/// New items by key, in order; `None` removes.
pub type Change<'c, E> = (&'c <E as Keyed>::Key, Option<&'c E>);

impl<E: Keyed> Default for SortedPages<E> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<E: Keyed> SortedPages<E> {
    /// No items, and so no page.
    pub const EMPTY: Self = Self { top: None };

    /// How many items there are.
    pub fn count(&self) -> u64 {
        self.top.as_ref().map_or(0, |top| top.child.0.count)
    }

    /// Calls `visit` with the ref of the top page.
    pub fn for_each_ref(&mut self, visit: &mut dyn FnMut(&mut Ref)) {
        if let Some(top) = &mut self.top {
            visit(&mut top.child.1);
        }
    }

    /// The item with this key.
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be read.
    pub fn get<S: ChunkSource>(&self, source: &S, key: &E::Key) -> Result<Option<E>, TreeError<S::Error>> {
        let Some(top) = &self.top else { return Ok(None) };
        let (mut level, mut child) = (top.level, top.child.clone());
        loop {
            match &load::<E, S>(source, level, &child)?.page {
                SequencePage::Leaves(items) => {
                    let found = items.binary_search_by(|item| item.key().cmp(key));
                    return Ok(found.ok().map(|at| items[at].clone()));
                }
                SequencePage::Children(_, children) => {
                    let at = children.partition_point(|child| child.0.last < *key);
                    let Some(next) = children.get(at) else { return Ok(None) };
                    (level, child) = (level - 1, next.clone());
                }
            }
        }
    }

    /// Up to `limit` items behind `after`, or from the first.
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be read.
    pub fn list<S: ChunkSource>(
        &self,
        source: &S,
        after: Option<&E::Key>,
        limit: usize,
    ) -> Result<Vec<E>, TreeError<S::Error>> {
        let mut cursor = Cursor::new(self);
        let mut items = Vec::new();
        if let Some(after) = after {
            cursor.skip_to(source, after)?;
        }
        while items.len() < limit {
            let Some(item) = cursor.next_item(source)? else { break };
            items.push(item);
        }
        Ok(items)
    }

    /// The same map with `changes` made. Writes the pages that differ, and no other.
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be read.
    pub fn update<S: ChunkSource>(
        &self,
        source: &S,
        changes: &[Change<'_, E>],
        writer: &mut PackWriter<'_>,
    ) -> Result<Self, TreeError<S::Error>> {
        let mut merge = SortedMerge::new(self);
        for (key, change) in changes {
            merge.change(source, key, change.cloned(), writer)?;
        }
        merge.finish(source, writer)
    }

    /// Calls `visit` with every difference between `self` (old) and `new`, in order. Pages that are the same on
    /// both sides are not read.
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be read.
    pub fn diff<S: ChunkSource>(
        &self,
        new: &Self,
        source: &S,
        mut visit: impl FnMut(Difference<E>),
    ) -> Result<(), TreeError<S::Error>> {
        let (mut left, mut right) = (Cursor::new(self), Cursor::new(new));
        loop {
            match step(left.peek(), right.peek()) {
                Step::Done => return Ok(()),
                Step::SkipBoth => {
                    left.pop();
                    right.pop();
                }
                Step::OpenLeft => left.open(source)?,
                Step::OpenRight => right.open(source)?,
                Step::TakeLeft => visit(Difference { old: left.take(), new: None }),
                Step::TakeRight => visit(Difference { old: None, new: right.take() }),
                Step::TakeBoth => visit(Difference { old: left.take(), new: right.take() }),
            }
        }
    }
}

impl<E: Keyed> From<SortedPages<E>> for Option<Top<KeySpan<E::Key>>> {
    fn from(pages: SortedPages<E>) -> Self {
        pages.top
    }
}

impl<E: Keyed> TryFrom<Option<Top<KeySpan<E::Key>>>> for SortedPages<E> {
    type Error = TooTall;

    fn try_from(top: Option<Top<KeySpan<E::Key>>>) -> Result<Self, TooTall> {
        if let Some(top) = top.as_ref().filter(|top| top.level > LEVEL_MAX) {
            return Err(TooTall { level: top.level });
        }
        Ok(Self { top })
    }
}

/// A tree of pages has more levels than [`LEVEL_MAX`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tree of pages has at most {LEVEL_MAX} levels, found {level}")]
pub struct TooTall {
    /// Its levels.
    pub level: u8,
}

/// Writes a sorted map from items that come in order, with bounded memory.
#[derive(Debug)]
pub struct SortedBuilder<E: Keyed> {
    builder: SequenceBuilder<E>,
    last: Option<E::Key>,
}

/// An item came that does not follow the one before it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("items of a sorted map come in ascending order, each key once")]
pub struct OutOfOrder;

impl<E: Keyed> Default for SortedBuilder<E> {
    fn default() -> Self {
        Self { builder: SequenceBuilder::new(), last: None }
    }
}

impl<E: Keyed> SortedBuilder<E> {
    /// Appends an item.
    ///
    /// # Errors
    /// [`OutOfOrder`] when its key does not follow the last one.
    pub fn push(&mut self, item: E, writer: &mut PackWriter<'_>) -> Result<(), OutOfOrder> {
        if self.last.as_ref().is_some_and(|last| last >= item.key()) {
            return Err(OutOfOrder);
        }
        self.last = Some(item.key().clone());
        self.builder.push(item, writer);
        Ok(())
    }

    /// The map of all items pushed.
    pub fn finish(self, writer: &mut PackWriter<'_>) -> SortedPages<E> {
        SortedPages { top: self.builder.finish(writer) }
    }
}

/// Carries a sorted map over into a new one while changes come in order, with bounded memory. Pages that nothing
/// falls into are not written again, and most of them not read.
pub struct SortedMerge<E: Keyed> {
    old: Cursor<E>,
    builder: SequenceBuilder<E>,
    last: Option<E::Key>,
}

impl<E: Keyed> SortedMerge<E> {
    /// Begins with `old` as it is.
    pub fn new(old: &SortedPages<E>) -> Self {
        Self { old: Cursor::new(old), builder: SequenceBuilder::new(), last: None }
    }

    /// Whether no change was made.
    pub const fn is_unchanged(&self) -> bool {
        self.last.is_none()
    }

    /// Puts an item under its key, or removes what stands there. Changes come in ascending order, each key once.
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be read.
    pub fn change<S: ChunkSource>(
        &mut self,
        source: &S,
        key: &E::Key,
        new: Option<E>,
        writer: &mut PackWriter<'_>,
    ) -> Result<(), TreeError<S::Error>> {
        assert!(self.last.as_ref().is_none_or(|last| last < key), "changes come in order, each key once");
        self.last = Some(key.clone());
        self.carry_to(source, key, writer)?;
        if matches!(self.old.peek(), Some(Pending::Item(item)) if item.key() == key) {
            self.old.pop();
        }
        if let Some(new) = new {
            self.builder.push(new, writer);
        }
        Ok(())
    }

    /// The map after all changes.
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be read.
    pub fn finish<S: ChunkSource>(
        mut self,
        source: &S,
        writer: &mut PackWriter<'_>,
    ) -> Result<SortedPages<E>, TreeError<S::Error>> {
        while self.old.peek().is_some() {
            self.carry(source, true, writer)?;
        }
        let top = self.builder.finish(writer).map(|top| lower_top::<E, S>(source, top)).transpose()?;
        Ok(SortedPages { top })
    }

    /// Carries over what stands before `key`.
    fn carry_to<S: ChunkSource>(
        &mut self,
        source: &S,
        key: &E::Key,
        writer: &mut PackWriter<'_>,
    ) -> Result<(), TreeError<S::Error>> {
        loop {
            let is_whole = match self.old.peek() {
                Some(Pending::Item(item)) if item.key() < key => true,
                // The very last page may end only because nothing followed it.
                Some(Pending::Page(_, child)) => child.0.last < *key && self.old.pending.len() > 1,
                Some(Pending::Item(_)) | None => return Ok(()),
            };
            self.carry(source, is_whole, writer)?;
        }
    }

    /// Carries the next item or page over; opens a page that does not follow as it is.
    fn carry<S: ChunkSource>(
        &mut self,
        source: &S,
        is_whole: bool,
        writer: &mut PackWriter<'_>,
    ) -> Result<(), TreeError<S::Error>> {
        match self.old.peek() {
            Some(Pending::Page(level, child)) if is_whole && self.builder.is_aligned(*level) => {
                self.builder.push_child(*level, child.clone(), writer);
                self.old.pop();
            }
            Some(Pending::Page(..)) => {
                if let Some((at, page)) = self.old.load_next(source)? {
                    self.builder.note_read(&at, &page);
                    self.old.enter(page);
                }
            }
            Some(Pending::Item(_)) => {
                self.old.take().into_iter().for_each(|item| self.builder.push(item, writer))
            }
            None => {}
        }
        Ok(())
    }
}

/// Reads a page whose items must stand behind `after`.
fn load_behind<E: Keyed, S: ChunkSource>(
    source: &S,
    level: u8,
    child: &Child<KeySpan<E::Key>>,
    after: Option<&E::Key>,
) -> Result<SequencePage<E>, TreeError<S::Error>> {
    let page = load::<E, S>(source, level, child)?.take();
    let first = match &page {
        SequencePage::Leaves(items) => items.first().map(E::key),
        SequencePage::Children(_, children) => children.first().map(|child| &child.0.last),
    };
    match (&child.1.place, first, after) {
        (Place::Chunk(chunk), Some(first), Some(after)) if first <= after => {
            Err(TreeError::Page { chunk: *chunk, fault: PageFault::NotSorted })
        }
        _ => Ok(page),
    }
}

/// Walks a sorted map from left to right and opens pages only on demand.
pub struct Cursor<E: Keyed> {
    /// What follows, the next one last.
    pending: Vec<Pending<E>>,
    /// Key of the last item or page that was passed.
    passed: Option<E::Key>,
}

enum Pending<E: Keyed> {
    Page(u8, Child<KeySpan<E::Key>>),
    Item(E),
}

/// A page and where it stands.
type LoadedPage<E> = (Ref, SequencePage<E>);

impl<E: Keyed> Cursor<E> {
    /// Begins before the first item.
    pub fn new(map: &SortedPages<E>) -> Self {
        let top = map.top.iter().map(|top| Pending::Page(top.level, top.child.clone()));
        Self { pending: top.collect(), passed: None }
    }

    fn peek(&self) -> Option<&Pending<E>> {
        self.pending.last()
    }

    fn pop(&mut self) {
        self.passed = match self.pending.pop() {
            Some(Pending::Page(_, child)) => Some(child.0.last),
            Some(Pending::Item(item)) => Some(item.key().clone()),
            None => return,
        };
    }

    fn take(&mut self) -> Option<E> {
        match self.pending.pop() {
            Some(Pending::Item(item)) => {
                self.passed = Some(item.key().clone());
                Some(item)
            }
            _ => unreachable!("taken only after an item was seen"),
        }
    }

    /// Puts the items of the next page in its place.
    fn open<S: ChunkSource>(&mut self, source: &S) -> Result<(), TreeError<S::Error>> {
        if let Some((_, page)) = self.load_next(source)? {
            self.enter(page);
        }
        Ok(())
    }

    /// Takes the next page off and reads it.
    fn load_next<S: ChunkSource>(
        &mut self,
        source: &S,
    ) -> Result<Option<LoadedPage<E>>, TreeError<S::Error>> {
        let Some(Pending::Page(level, child)) = self.pending.pop() else { return Ok(None) };
        let page = load_behind::<E, S>(source, level, &child, self.passed.as_ref())?;
        Ok(Some((child.1, page)))
    }

    /// Goes on with what is in a page.
    fn enter(&mut self, page: SequencePage<E>) {
        match page {
            SequencePage::Leaves(items) => self.pending.extend(items.into_iter().rev().map(Pending::Item)),
            SequencePage::Children(level, children) => {
                self.pending.extend(children.into_iter().rev().map(|child| Pending::Page(level - 1, child)));
            }
        }
    }

    /// Goes past the pages that come next, with all that is in them, as long as `is_known` says so of them.
    pub(crate) fn pass_pages(&mut self, is_known: impl Fn(&Ref) -> bool) {
        while matches!(self.peek(), Some(Pending::Page(_, child)) if is_known(&child.1)) {
            self.pop();
        }
    }

    /// The next page or item, pages before what is in them.
    pub(crate) fn visit<S: ChunkSource>(
        &mut self,
        source: &S,
    ) -> Result<Option<Visited<E>>, TreeError<S::Error>> {
        match self.peek() {
            None => Ok(None),
            Some(Pending::Item(_)) => Ok(self.take().map(Visited::Leaf)),
            Some(Pending::Page(_, child)) => {
                let at = child.1.clone();
                self.open(source)?;
                Ok(Some(Visited::Page(at)))
            }
        }
    }

    /// The next item. Each page is read once.
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be read.
    pub fn next_item<S: ChunkSource>(&mut self, source: &S) -> Result<Option<E>, TreeError<S::Error>> {
        loop {
            match self.peek() {
                None => return Ok(None),
                Some(Pending::Item(_)) => return Ok(self.take()),
                Some(Pending::Page(..)) => self.open(source)?,
            }
        }
    }

    /// The item with this key, if there is one behind those that were given. Pages before it are not read; keys
    /// come in ascending order.
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be read.
    pub fn find<S: ChunkSource>(
        &mut self,
        source: &S,
        key: &E::Key,
    ) -> Result<Option<E>, TreeError<S::Error>> {
        loop {
            match self.peek() {
                Some(Pending::Page(_, child)) if child.0.last < *key => self.pop(),
                Some(Pending::Page(..)) => self.open(source)?,
                Some(Pending::Item(item)) if item.key() < key => self.pop(),
                Some(Pending::Item(item)) if item.key() == key => return Ok(self.take()),
                Some(Pending::Item(_)) | None => return Ok(None),
            }
        }
    }

    pub(crate) fn skip_to<S: ChunkSource>(
        &mut self,
        source: &S,
        after: &E::Key,
    ) -> Result<(), TreeError<S::Error>> {
        loop {
            match self.peek() {
                Some(Pending::Page(_, child)) if child.0.last <= *after => self.pop(),
                Some(Pending::Page(..)) => self.open(source)?,
                Some(Pending::Item(item)) if item.key() <= after => self.pop(),
                Some(Pending::Item(_)) | None => return Ok(()),
            }
        }
    }
}

enum Step {
    Done,
    SkipBoth,
    OpenLeft,
    OpenRight,
    TakeLeft,
    TakeRight,
    TakeBoth,
}

/// What a comparison does next, given what follows on both sides.
fn step<E: Keyed>(left: Option<&Pending<E>>, right: Option<&Pending<E>>) -> Step {
    use Pending::{Item, Page};
    match (left, right) {
        (None, None) => Step::Done,
        (Some(Page(..)), None) => Step::OpenLeft,
        (None, Some(Page(..))) => Step::OpenRight,
        (Some(Item(_)), None) => Step::TakeLeft,
        (None, Some(Item(_))) => Step::TakeRight,
        (Some(Page(level, child)), Some(Page(other_level, other))) => {
            let open_left = (*level, &other.0.last) > (*other_level, &child.0.last);
            match (level, child) == (other_level, other) {
                true => Step::SkipBoth,
                false if open_left => Step::OpenLeft,
                false => Step::OpenRight,
            }
        }
        (Some(Page(..)), Some(Item(_))) => Step::OpenLeft,
        (Some(Item(_)), Some(Page(..))) => Step::OpenRight,
        (Some(Item(item)), Some(Item(other))) => match item.key().cmp(other.key()) {
            std::cmp::Ordering::Less => Step::TakeLeft,
            std::cmp::Ordering::Greater => Step::TakeRight,
            std::cmp::Ordering::Equal if item == other => Step::SkipBoth,
            std::cmp::Ordering::Equal => Step::TakeBoth,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::codec::DecodeError;
    use crate::crypto::derive::Role;
    use crate::ids::ChunkId;
    use crate::sealed::{OpenError, PAGE_BYTES_MAX};
    use crate::tree::entry::{Content, Entry};
    use crate::tree::file::FileContent;
    use crate::tree::folder::{Folder, FolderBuilder};
    use crate::tree::name::Name;
    use crate::tree::testing::{Absent, Memory, item, sealer};

    fn name(number: u64) -> Name {
        Name::new(format!("{number:06}.dcm")).unwrap()
    }

    fn entry(number: u64, id: u64) -> Entry {
        Entry { name: name(number), item: item(id, Content::File(FileContent::EMPTY)) }
    }

    fn built(numbers: impl Iterator<Item = u64>, memory: &Memory) -> Folder {
        let sealer = sealer();
        let mut writer = PackWriter::new(&sealer);
        let mut builder = FolderBuilder::default();
        numbers.for_each(|number| builder.push(entry(number, number), &mut writer).unwrap());
        let folder = builder.finish(&mut writer);
        finished(folder, &mut writer, memory)
    }

    fn finished(mut folder: Folder, writer: &mut PackWriter<'_>, memory: &Memory) -> Folder {
        folder.for_each_ref(&mut |piece| *piece = writer.resolve(piece.clone()));
        memory.take(writer);
        folder
    }

    fn updated(folder: &Folder, memory: &Memory, changes: &BTreeMap<Name, Option<Entry>>) -> Folder {
        let sealer = sealer();
        let mut writer = PackWriter::new(&sealer);
        let changes: Vec<_> = changes.iter().map(|(name, entry)| (name, entry.as_ref())).collect();
        let folder = folder.update(memory, &changes, &mut writer).unwrap();
        finished(folder, &mut writer, memory)
    }

    fn all(folder: &Folder, memory: &Memory) -> Vec<Entry> {
        folder.list(memory, None, usize::MAX).unwrap()
    }

    /// Items per page, level by level: the shape of a map without where its pages stand.
    fn shape(folder: &Folder, memory: &Memory) -> Vec<(u8, usize)> {
        let mut shape = Vec::new();
        let mut open: Vec<_> = folder.top.iter().map(|top| (top.level, top.child.clone())).collect();
        while let Some((level, child)) = open.pop() {
            match load::<Entry, _>(memory, level, &child).unwrap().take() {
                SequencePage::Leaves(items) => shape.push((0, items.len())),
                SequencePage::Children(level, children) => {
                    shape.push((level, children.len()));
                    open.extend(children.into_iter().rev().map(|child| (level - 1, child)));
                }
            }
        }
        shape
    }

    /// The pages of both that are not in the other.
    fn new_pages(old: &Folder, new: &Folder, memory: &Memory) -> usize {
        let pages = |folder: &Folder| {
            let mut cursor = Cursor::new(folder);
            let mut pages = Vec::new();
            while let Some(visited) = cursor.visit(memory).unwrap() {
                if let Visited::Page(at) = visited {
                    pages.push(at);
                }
            }
            pages
        };
        let old = pages(old);
        pages(new).iter().filter(|page| !old.contains(page)).count()
    }

    #[test]
    fn one_more_entry_in_a_folder_of_100_000_rewrites_a_page_of_each_level() {
        let memory = Memory::default();
        let folder = built((0..100_000).map(|number| 2 * number), &memory);
        assert_eq!(folder.count(), 100_000);
        for number in [1, 99_999, 199_999, 54_321, 100_001] {
            memory.reads.set(0);
            let change = BTreeMap::from([(name(number), Some(entry(number, number)))]);
            let more = updated(&folder, &memory, &change);
            assert!(memory.reads.get() <= 12, "{number}: {} reads", memory.reads.get());
            assert_eq!(more.get(&memory, &name(number)), Ok(Some(entry(number, number))));
            assert_eq!(more.count(), 100_001);
            let pages = new_pages(&folder, &more, &memory);
            assert!((1..=8).contains(&pages), "{number}: {pages} pages");
        }
    }

    #[test]
    fn a_lookup_in_a_folder_of_100_000_reads_a_page_of_each_level() {
        let memory = Memory::default();
        let folder = built(0..100_000, &memory);
        memory.reads.set(0);
        assert_eq!(folder.get(&memory, &name(77_777)), Ok(Some(entry(77_777, 77_777))));
        assert!(memory.reads.get() <= 4);
        memory.reads.set(0);
        let listed = folder.list(&memory, Some(&name(50_000)), 10).unwrap();
        assert_eq!(listed, (50_001..50_011).map(|number| entry(number, number)).collect::<Vec<_>>());
        assert!(memory.reads.get() <= 5);
    }

    #[test]
    fn a_map_has_one_shape_whatever_its_history() {
        for seed in 0..12 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let memory = Memory::default();
            let (mut folder, mut model) = (Folder::EMPTY, BTreeMap::new());
            let range = [30, 3000, 600][seed as usize % 3];
            for step in 0..12u64 {
                let mut changes = BTreeMap::new();
                for _ in 0..[1, 50, 500][random.random_range(0..3)] {
                    let number = random.random_range(0..range);
                    let removes = random.random_bool(if step % 4 == 3 { 0.95 } else { 0.2 });
                    changes.insert(name(number), (!removes).then(|| entry(number, step)));
                }
                folder = updated(&folder, &memory, &changes);
                for (name, change) in changes {
                    match change {
                        Some(entry) => drop(model.insert(name, entry)),
                        None => drop(model.remove(&name)),
                    }
                }
                assert_eq!(all(&folder, &memory), model.values().cloned().collect::<Vec<_>>(), "seed {seed}");
                let changes = model.iter().map(|(name, entry)| (name.clone(), Some(entry.clone()))).collect();
                let fresh = updated(&Folder::EMPTY, &memory, &changes);
                assert_eq!(shape(&folder, &memory), shape(&fresh, &memory), "seed {seed}, step {step}");
            }
        }
    }

    #[test]
    fn items_looked_for_in_order_are_found_and_each_page_is_read_once() {
        let memory = Memory::default();
        let folder = built((0..20_000).map(|number| 2 * number), &memory);
        memory.reads.set(0);
        let mut cursor = Cursor::new(&folder);
        for number in 0..40_010 {
            let found = cursor.find(&memory, &name(number)).unwrap();
            let expected = (number % 2 == 0 && number < 40_000).then(|| entry(number, number));
            assert_eq!(found, expected, "{number}");
        }
        let pages = shape(&folder, &memory).len();
        assert!(memory.reads.get() <= 2 * pages, "{} reads of {pages} pages", memory.reads.get());
        memory.reads.set(0);
        let last = Cursor::new(&folder).find(&memory, &name(39_998)).unwrap();
        assert_eq!(last, Some(entry(39_998, 39_998)));
        assert!(memory.reads.get() <= 4, "{} reads", memory.reads.get());
    }

    #[test]
    #[should_panic(expected = "in order, each key once")]
    fn a_merge_takes_no_change_twice() {
        let (memory, sealer) = (Memory::default(), sealer());
        let mut writer = PackWriter::new(&sealer);
        let mut merge = SortedMerge::new(&Folder::EMPTY);
        for _ in 0..2 {
            merge.change(&memory, &name(1), Some(entry(1, 1)), &mut writer).unwrap();
        }
    }

    #[test]
    fn a_diff_finds_what_differs_and_skips_equal_pages() {
        let memory = Memory::default();
        let old = built(0..20_000, &memory);
        let mut changes = BTreeMap::from([(name(5), None), (name(10_000), Some(entry(10_000, 1)))]);
        changes.insert(name(999_999), Some(entry(999_999, 2)));
        let new = updated(&old, &memory, &changes);
        memory.reads.set(0);
        let mut found = Vec::new();
        old.diff(&new, &memory, |difference| found.push(difference)).unwrap();
        let expected = [
            (Some(entry(5, 5)), None),
            (Some(entry(10_000, 10_000)), Some(entry(10_000, 1))),
            (None, Some(entry(999_999, 2))),
        ];
        assert_eq!(found, expected.map(|(old, new)| Difference { old, new }));
        assert!(memory.reads.get() <= 30, "{}", memory.reads.get());
    }

    #[test]
    fn random_maps_differ_where_plain_maps_do() {
        for seed in 0..60 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let memory = Memory::default();
            let mut random_map = |size: u64| -> BTreeMap<u64, u64> {
                (0..size).map(|_| (random.random_range(0..2000), random.random_range(0..3))).collect()
            };
            let (left, right) = (random_map(seed * 30), random_map(700));
            let folder = |map: &BTreeMap<u64, u64>| {
                let changes = map.iter().map(|(number, id)| (name(*number), Some(entry(*number, *id))));
                updated(&Folder::EMPTY, &memory, &changes.collect())
            };
            let mut found = Vec::new();
            folder(&left).diff(&folder(&right), &memory, |difference| found.push(difference)).unwrap();
            let numbers: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
            let expected: Vec<_> = numbers
                .into_iter()
                .filter(|number| left.get(number) != right.get(number))
                .map(|number| Difference {
                    old: left.get(number).map(|id| entry(*number, *id)),
                    new: right.get(number).map(|id| entry(*number, *id)),
                })
                .collect();
            assert_eq!(found, expected, "seed {seed}");
        }
    }

    #[test]
    fn names_of_every_byte_and_length_read_back() {
        let memory = Memory::default();
        let mut names: Vec<_> = (0..=255u8).filter_map(|byte| Name::new([byte]).ok()).collect();
        names.extend((1..=255).map(|length| Name::new(vec![0xfe; length]).unwrap()));
        let changes: BTreeMap<_, _> = names
            .iter()
            .map(|name| (name.clone(), Some(Entry { name: name.clone(), ..entry(0, 1) })))
            .collect();
        let folder = updated(&Folder::EMPTY, &memory, &changes);
        for name in &names {
            assert_eq!(folder.get(&memory, name).unwrap().unwrap().name, *name);
        }
        assert_eq!(all(&folder, &memory).len(), changes.len());
    }

    #[test]
    fn items_out_of_order_are_not_built() {
        let sealer = sealer();
        let mut writer = PackWriter::new(&sealer);
        let mut builder = FolderBuilder::default();
        builder.push(entry(2, 2), &mut writer).unwrap();
        assert_eq!(builder.push(entry(2, 2), &mut writer), Err(OutOfOrder));
        assert_eq!(builder.push(entry(1, 1), &mut writer), Err(OutOfOrder));
    }

    type Pages = SequencePage<Entry>;

    fn leaves(numbers: &[u64]) -> Pages {
        SequencePage::Leaves(numbers.iter().map(|number| entry(*number, *number)).collect())
    }

    fn span(last: u64, count: u64) -> KeySpan<Name> {
        KeySpan { last: name(last), count }
    }

    /// A folder whose top page is `page` and which says `level` and `span` of it.
    fn dishonest(page: &Pages, level: u8, span: KeySpan<Name>, memory: &Memory) -> (Folder, ChunkId) {
        let sealer = sealer();
        let mut writer = PackWriter::new(&sealer);
        let at = writer.add_page(page);
        let at = writer.resolve(at);
        memory.take(&mut writer);
        let Place::Chunk(chunk) = at.place else { unreachable!() };
        (SortedPages { top: Some(Top { level, child: Child(span, at) }) }, chunk)
    }

    fn fault(page: &Pages, level: u8, span: KeySpan<Name>) -> PageFault {
        let memory = Memory::default();
        let (folder, chunk) = dishonest(page, level, span, &memory);
        match folder.list(&memory, None, 10) {
            Err(TreeError::Page { chunk: found, fault }) if found == chunk => fault,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_malformed_page_has_its_error() {
        assert_eq!(fault(&leaves(&[]), 0, span(1, 0)), PageFault::Empty);
        assert_eq!(fault(&leaves(&[2, 1]), 0, span(1, 2)), PageFault::NotSorted);
        assert_eq!(fault(&leaves(&[1, 1]), 0, span(1, 2)), PageFault::NotSorted);
        assert_eq!(fault(&leaves(&[1, 2]), 0, span(2, 3)), PageFault::WrongSpan);
        assert_eq!(fault(&leaves(&[1, 2]), 0, span(3, 2)), PageFault::WrongSpan);
        let wrong_level = PageFault::WrongLevel { expected: 1, found: 0 };
        assert_eq!(fault(&leaves(&[1, 2]), 1, span(2, 2)), wrong_level);
    }

    fn parent_of(children: Vec<Child<KeySpan<Name>>>, level: u8) -> Pages {
        SequencePage::Children(level, children)
    }

    #[test]
    fn pages_that_overlap_or_overflow_are_refused() {
        let memory = Memory::default();
        let child = |numbers: &[u64]| {
            let count = numbers.len() as u64;
            let last = *numbers.last().unwrap();
            dishonest(&leaves(numbers), 0, span(last, count), &memory).0.top.unwrap().child
        };
        let overlapping = parent_of(vec![child(&[1, 5]), child(&[3, 7])], 1);
        let (folder, _) = dishonest(&overlapping, 1, span(7, 4), &memory);
        let error = folder.list(&memory, None, 10).unwrap_err();
        assert!(matches!(error, TreeError::Page { fault: PageFault::NotSorted, .. }), "{error:?}");
        let mut huge = child(&[9]);
        huge.0.count = u64::MAX;
        let overflowing = parent_of(vec![child(&[1]), huge], 1);
        assert_eq!(fault(&overflowing, 1, span(9, 0)), PageFault::Overflow);
    }

    #[test]
    fn a_page_of_children_at_level_0_or_a_tree_that_is_too_tall_is_refused() {
        let memory = Memory::default();
        let child = dishonest(&leaves(&[1]), 0, span(1, 1), &memory).0.top.unwrap().child;
        let level_0 = parent_of(vec![child.clone()], 0);
        let found = fault(&level_0, 0, span(1, 1));
        assert_eq!(found, PageFault::WrongLevel { expected: 0, found: 0 });
        let top = Top { level: LEVEL_MAX + 1, child };
        assert_eq!(Folder::try_from(Some(top)), Err(TooTall { level: LEVEL_MAX + 1 }));
    }

    #[test]
    fn bytes_that_are_no_page_are_refused_whatever_length_they_claim() {
        let sealer = sealer();
        let memory = Memory::default();
        let huge_array = [&[0xa1, 0x61, b'l', 0x9b][..], &[0xff; 8]].concat();
        for bytes in [huge_array, vec![], vec![0xf6], vec![0; PAGE_BYTES_MAX + 1]] {
            let mut writer = PackWriter::new(&sealer);
            let at = writer.add(Role::TreePage, &bytes);
            let at = writer.resolve(at);
            memory.take(&mut writer);
            let top = Top { level: 0, child: Child(span(1, 1), at) };
            let error = SortedPages::<Entry> { top: Some(top) }.get(&memory, &name(1)).unwrap_err();
            let TreeError::Open(OpenError::Malformed { source, .. }) = error else { panic!("{error:?}") };
            assert!(matches!(source, DecodeError::Malformed | DecodeError::TooLong { .. }));
        }
    }

    #[test]
    fn a_page_that_cannot_be_fetched_is_told() {
        let folder = built(0..10, &Memory::default());
        assert_eq!(folder.get(&Memory::default(), &name(1)), Err(TreeError::Source(Absent)));
    }

    #[test]
    fn the_bytes_of_a_page_are_pinned() {
        let hash = |page: &Pages| blake3::hash(&crate::codec::encode(page)).to_string();
        assert_eq!(
            hash(&leaves(&[1, 2])),
            "a7c88191fa06b23b18cb6549818e9ecedf8c2f2dd4316bd7b00ee4f2535ff3fa"
        );
        assert_eq!(mark_of(b"000001.dcm"), 15_342_454_623_374_835_022);
    }
}
