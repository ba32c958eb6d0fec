//! How long sequences stand in pages of bounded size, so that a small change rewrites few of them.
//!
//! A page ends behind an item whose mark says so, or when it is heavy enough. Both depend on the items of that
//! page alone, so a sequence has one shape whatever its history, and a change moves page ends only until the
//! next marked item. Pages are listed by pages of the next level in the same way.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{ChunkSource, PageFault, TreeError};
use crate::sealed::{PAGE_BYTES_MAX, PackWriter, Page, Place, Ref, open_page};

/// A page ends when its items weigh this much. With the heaviest item on top it stays under [`PAGE_BYTES_MAX`].
const PAGE_WEIGHT_MAX: usize = 64 << 10;
/// Marks end a page from the fourth item on: every level has at most a quarter of the items of the one below.
const PAGE_ITEMS_MIN: usize = 4;
/// One item in 64 is marked: pages of about 16 KiB.
const MARK_MASK: u64 = 63;
/// Bits by which the mark turns from one level to the next, so that levels end independently.
const MARK_TURN: u32 = 8;
/// Most levels: 4^24 leaf pages are beyond any file. A taller tree is malformed.
pub const LEVEL_MAX: u8 = 24;

/// What stands in the pages of level 0.
pub trait Leaf: Clone + PartialEq + Serialize + DeserializeOwned {
    /// What a parent says of a run of leaves.
    type Span: Clone + PartialEq + Serialize + DeserializeOwned;

    /// The span of this leaf alone.
    fn span(&self) -> Self::Span;

    /// The span of `span` followed by `next`.
    ///
    /// # Errors
    /// [`PageFault::NotSorted`], [`PageFault::Overflow`].
    fn join(span: &mut Self::Span, next: &Self::Span) -> Result<(), PageFault>;

    /// Uniform bits of the last leaf of the span.
    fn mark(span: &Self::Span) -> u64;

    /// At least the encoded bytes of this leaf.
    fn weight(&self) -> usize;

    /// At least the encoded bytes of a child with this span.
    fn child_weight(span: &Self::Span) -> usize;

    /// Calls `visit` with every ref of the leaf.
    fn for_each_ref(&mut self, visit: &mut dyn FnMut(&mut Ref));
}

/// A page as its parent names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child<S>(pub S, pub Ref);

/// The top page of a sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(serialize = "S: Clone + Serialize", deserialize = "S: Deserialize<'de>"))]
#[serde(from = "(u8, Child<S>)", into = "(u8, Child<S>)")]
pub struct Top<S> {
    /// Levels below the top page; 0 when it holds the leaves.
    pub level: u8,
    /// The page.
    pub child: Child<S>,
}

/// What a walk over a sequence comes by.
#[derive(Debug)]
pub(crate) enum Visited<L> {
    /// A page; what it holds follows.
    Page(Ref),
    /// A leaf.
    Leaf(L),
}

impl<S> From<(u8, Child<S>)> for Top<S> {
    fn from((level, child): (u8, Child<S>)) -> Self {
        Self { level, child }
    }
}

impl<S> From<Top<S>> for (u8, Child<S>) {
    fn from(top: Top<S>) -> Self {
        (top.level, top.child)
    }
}

/// A page of leaves, or of pages of the level below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub enum SequencePage<L: Leaf> {
    /// Level 0.
    #[serde(rename = "l")]
    Leaves(Vec<L>),
    /// Level and children of a page above.
    #[serde(rename = "c")]
    Children(u8, Vec<Child<L::Span>>),
}

impl<L: Leaf> Page for SequencePage<L> {
    fn for_each_ref(&mut self, visit: &mut dyn FnMut(&mut Ref)) {
        match self {
            Self::Leaves(leaves) => leaves.iter_mut().for_each(|leaf| leaf.for_each_ref(visit)),
            Self::Children(_, children) => children.iter_mut().for_each(|child| visit(&mut child.1)),
        }
    }
}

impl<L: Leaf> SequencePage<L> {
    const fn level(&self) -> u8 {
        match self {
            Self::Leaves(_) => 0,
            Self::Children(level, _) => *level,
        }
    }

    fn span(&self) -> Result<L::Span, PageFault> {
        match self {
            Self::Leaves(leaves) => join::<L>(leaves.iter().map(L::span)),
            Self::Children(_, children) => join::<L>(children.iter().map(|child| child.0.clone())),
        }
    }

    /// Checks the page against what its parent says.
    fn check(&self, level: u8, span: &L::Span) -> Result<(), PageFault> {
        let is_below_leaves = matches!(self, Self::Children(0, _));
        if self.level() != level || is_below_leaves {
            return Err(PageFault::WrongLevel { expected: level, found: self.level() });
        }
        if self.span()? != *span {
            return Err(PageFault::WrongSpan);
        }
        Ok(())
    }
}

fn join<L: Leaf>(mut spans: impl Iterator<Item = L::Span>) -> Result<L::Span, PageFault> {
    let mut whole = spans.next().ok_or(PageFault::Empty)?;
    for span in spans {
        L::join(&mut whole, &span)?;
    }
    Ok(whole)
}

/// Reads the page that `child` names and checks that it is what the parent says.
pub(crate) fn load<L: Leaf, S: ChunkSource>(
    source: &S,
    level: u8,
    child: &Child<L::Span>,
) -> Result<SequencePage<L>, TreeError<S::Error>> {
    let Place::Chunk(id) = child.1.place else { return Err(TreeError::Unwritten) };
    let chunk = source.chunk(id).map_err(TreeError::Source)?;
    let page: SequencePage<L> = open_page(&chunk, &child.1)?;
    page.check(level, &child.0).map_err(|fault| TreeError::Page { chunk: id, fault })?;
    Ok(page)
}

/// Writes a sequence from left to right, keeping one open page of each level.
#[derive(Debug)]
pub(crate) struct SequenceBuilder<L: Leaf> {
    leaves: Vec<L>,
    leaves_weight: usize,
    /// At index i the children of level i that wait for their page of level i + 1.
    waiting: Vec<Waiting<L::Span>>,
    /// The page of each level that was read last: if the same comes out again, it is not written again.
    read: Vec<Option<(Ref, SequencePage<L>)>>,
}

#[derive(Debug)]
struct Waiting<S> {
    children: Vec<Child<S>>,
    weight: usize,
}

impl<L: Leaf> SequenceBuilder<L> {
    pub(crate) const fn new() -> Self {
        Self { leaves: Vec::new(), leaves_weight: 0, waiting: Vec::new(), read: Vec::new() }
    }

    /// Notes a page of the old sequence whose items follow.
    pub(crate) fn note_read(&mut self, at: &Ref, page: &SequencePage<L>) {
        let level = usize::from(page.level());
        if self.read.len() <= level {
            self.read.resize_with(level + 1, || None);
        }
        self.read[level] = Some((at.clone(), page.clone()));
    }

    /// Whether a page of `level` ends here, so that an old page of that level can follow as it is.
    pub(crate) fn is_aligned(&self, level: u8) -> bool {
        let below = self.waiting.iter().take(usize::from(level));
        self.leaves.is_empty() && below.into_iter().all(|waiting| waiting.children.is_empty())
    }

    pub(crate) fn push(&mut self, leaf: L, writer: &mut PackWriter<'_>) {
        self.leaves_weight += leaf.weight();
        let ends = ends_page::<L>(0, self.leaves.len() + 1, self.leaves_weight, &leaf.span());
        self.leaves.push(leaf);
        if ends {
            self.write_leaves(writer);
        }
    }

    /// Appends a whole page of `level`; [`Self::is_aligned`] must hold.
    pub(crate) fn push_child(&mut self, level: u8, child: Child<L::Span>, writer: &mut PackWriter<'_>) {
        let index = usize::from(level);
        while self.waiting.len() <= index {
            self.waiting.push(Waiting { children: Vec::new(), weight: 0 });
        }
        let waiting = &mut self.waiting[index];
        waiting.weight += L::child_weight(&child.0);
        let ends = ends_page::<L>(level + 1, waiting.children.len() + 1, waiting.weight, &child.0);
        waiting.children.push(child);
        if ends {
            self.write_children(level, writer);
        }
    }

    /// Writes what is open. `None` when nothing was pushed.
    pub(crate) fn finish(mut self, writer: &mut PackWriter<'_>) -> Option<Top<L::Span>> {
        if !self.leaves.is_empty() {
            self.write_leaves(writer);
        }
        let mut level = 0;
        while let Some(waiting) = self.waiting.get_mut(usize::from(level)) {
            let count = waiting.children.len();
            let is_top = usize::from(level) + 1 == self.waiting.len();
            if is_top && count == 1 {
                let child = self.waiting[usize::from(level)].children.remove(0);
                return Some(Top { level, child });
            }
            if count > 0 {
                self.write_children(level, writer);
            }
            level += 1;
        }
        None
    }

    fn write_leaves(&mut self, writer: &mut PackWriter<'_>) {
        let page = SequencePage::Leaves(std::mem::take(&mut self.leaves));
        self.leaves_weight = 0;
        self.write(page, writer);
    }

    fn write_children(&mut self, level: u8, writer: &mut PackWriter<'_>) {
        let waiting = &mut self.waiting[usize::from(level)];
        waiting.weight = 0;
        let children = std::mem::take(&mut waiting.children);
        assert!(level < LEVEL_MAX, "every level has at most a quarter of the one below");
        self.write(SequencePage::Children(level + 1, children), writer);
    }

    fn write(&mut self, page: SequencePage<L>, writer: &mut PackWriter<'_>) {
        let level = page.level();
        let span = page.span().expect("what is pushed is in order and a file has fewer than 2^63 bytes");
        let known = self.read.get(usize::from(level)).and_then(Option::as_ref);
        let at = match known {
            Some((at, old)) if *old == page => at.clone(),
            _ => writer.add_page(&page),
        };
        self.push_child(level, Child(span, at), writer);
    }
}

/// The top of the same sequence without pages that list a single page.
pub(crate) fn lower_top<L: Leaf, S: ChunkSource>(
    source: &S,
    mut top: Top<L::Span>,
) -> Result<Top<L::Span>, TreeError<S::Error>> {
    while top.level > 0 && matches!(top.child.1.place, Place::Chunk(_)) {
        match load::<L, S>(source, top.level, &top.child)? {
            SequencePage::Children(level, mut children) if children.len() == 1 => {
                top = Top { level: level - 1, child: children.remove(0) };
            }
            _ => break,
        }
    }
    Ok(top)
}

fn ends_page<L: Leaf>(level: u8, items: usize, weight: usize, last: &L::Span) -> bool {
    let marked = L::mark(last).rotate_right(u32::from(level) * MARK_TURN) & MARK_MASK == 0;
    (marked && items >= PAGE_ITEMS_MIN) || weight >= PAGE_WEIGHT_MAX
}

// The heaviest item is an entry with full extended attributes, whose framing may double them.
const _: () = assert!(PAGE_WEIGHT_MAX + 2 * super::entry::XATTR_BYTES_MAX < PAGE_BYTES_MAX);
