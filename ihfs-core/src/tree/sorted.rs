//! Sorted maps in pages: folders by name, nested records by id.

use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::entry::REF_WEIGHT;
use super::pages::{Child, LEVEL_MAX, Leaf, SequenceBuilder, SequencePage, Top, Visited, load, lower_top};
use super::{ChunkSource, PageFault, TreeError};
use crate::sealed::{PackWriter, Place, Ref};

/// An item of a sorted map.
pub trait Keyed: Clone + Debug + PartialEq + Serialize + DeserializeOwned {
    /// What it is sorted by.
    type Key: Clone + Debug + Ord + Serialize + DeserializeOwned;

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
            match load::<E, S>(source, level, &child)? {
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
        assert!(changes.is_sorted_by(|left, right| left.0 < right.0), "changes come in order, each key once");
        let mut update = Update { source, writer, builder: SequenceBuilder::new() };
        match &self.top {
            Some(top) => update.page(top.level, &top.child, changes, None)?,
            None => update.push_new(changes),
        }
        let Update { writer, builder, .. } = update;
        let top = builder.finish(writer).map(|top| lower_top::<E, S>(source, top)).transpose()?;
        Ok(Self { top })
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

struct Update<'a, 'w, E: Keyed, S> {
    source: &'a S,
    writer: &'a mut PackWriter<'w>,
    builder: SequenceBuilder<E>,
}

impl<E: Keyed, S: ChunkSource> Update<'_, '_, E, S> {
    /// Carries one old page over. `changes` are those that fall into it: behind the page before it, and up to
    /// its last key, or without end for the last page. `after` is the last key of the page before it.
    fn page(
        &mut self,
        level: u8,
        child: &Child<KeySpan<E::Key>>,
        changes: &[Change<'_, E>],
        after: Option<&E::Key>,
    ) -> Result<(), TreeError<S::Error>> {
        if changes.is_empty() && self.builder.is_aligned(level) {
            self.builder.push_child(level, child.clone(), self.writer);
            return Ok(());
        }
        let page = load_behind::<E, S>(self.source, level, child, after)?;
        self.builder.note_read(&child.1, &page);
        match page {
            SequencePage::Leaves(items) => self.merge(items, changes),
            SequencePage::Children(_, children) => self.children(level - 1, &children, changes, after)?,
        }
        Ok(())
    }

    fn children<'c>(
        &mut self,
        level: u8,
        children: &'c [Child<KeySpan<E::Key>>],
        mut changes: &[Change<'_, E>],
        mut after: Option<&'c E::Key>,
    ) -> Result<(), TreeError<S::Error>> {
        for (at, child) in children.iter().enumerate() {
            let is_last = at + 1 == children.len();
            let count = if is_last {
                changes.len()
            } else {
                changes.partition_point(|(key, _)| **key <= child.0.last)
            };
            let (here, behind) = changes.split_at(count);
            self.page(level, child, here, after)?;
            changes = behind;
            after = Some(&child.0.last);
        }
        Ok(())
    }

    fn merge(&mut self, items: Vec<E>, mut changes: &[Change<'_, E>]) {
        for item in items {
            let before = changes.partition_point(|(key, _)| *key < item.key());
            self.push_new(&changes[..before]);
            changes = &changes[before..];
            match changes.split_first() {
                Some(((key, change), rest)) if *key == item.key() => {
                    changes = rest;
                    if let Some(new) = change {
                        self.builder.push((*new).clone(), self.writer);
                    }
                }
                _ => self.builder.push(item, self.writer),
            }
        }
        self.push_new(changes);
    }

    fn push_new(&mut self, changes: &[Change<'_, E>]) {
        for (_, change) in changes {
            if let Some(new) = change {
                self.builder.push((*new).clone(), self.writer);
            }
        }
    }
}

/// Reads a page whose items must stand behind `after`.
fn load_behind<E: Keyed, S: ChunkSource>(
    source: &S,
    level: u8,
    child: &Child<KeySpan<E::Key>>,
    after: Option<&E::Key>,
) -> Result<SequencePage<E>, TreeError<S::Error>> {
    let page = load::<E, S>(source, level, child)?;
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
pub(crate) struct Cursor<E: Keyed> {
    /// What follows, the next one last.
    pending: Vec<Pending<E>>,
    /// Key of the last item or page that was passed.
    passed: Option<E::Key>,
}

enum Pending<E: Keyed> {
    Page(u8, Child<KeySpan<E::Key>>),
    Item(E),
}

impl<E: Keyed> Cursor<E> {
    pub(crate) fn new(map: &SortedPages<E>) -> Self {
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
        let Some(Pending::Page(level, child)) = self.pending.pop() else { return Ok(()) };
        match load_behind::<E, S>(source, level, &child, self.passed.as_ref())? {
            SequencePage::Leaves(items) => self.pending.extend(items.into_iter().rev().map(Pending::Item)),
            SequencePage::Children(level, children) => {
                self.pending.extend(children.into_iter().rev().map(|child| Pending::Page(level - 1, child)));
            }
        }
        Ok(())
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

    pub(crate) fn next_item<S: ChunkSource>(&mut self, source: &S) -> Result<Option<E>, TreeError<S::Error>> {
        loop {
            match self.peek() {
                None => return Ok(None),
                Some(Pending::Item(_)) => return Ok(self.take()),
                Some(Pending::Page(..)) => self.open(source)?,
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
