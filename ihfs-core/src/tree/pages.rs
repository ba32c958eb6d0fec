//! How long sequences stand in pages of bounded size, so that a small change rewrites few of them.
//!
//! A page ends behind an item whose mark says so, or when it is heavy enough. Both depend on the items of that
//! page alone, so a sequence has one shape whatever its history, and a change moves page ends only until the
//! next marked item. Pages are listed by pages of the next level in the same way.

use std::sync::Arc;

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
pub trait Leaf: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What a parent says of a run of leaves.
    type Span: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static;

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

/// A page with what its parent said of it when it was checked.
pub(crate) struct Checked<L: Leaf> {
    level: u8,
    child: Child<L::Span>,
    pub(crate) page: SequencePage<L>,
}

impl<L: Leaf> Checked<L> {
    /// The page, copied only where a source keeps it too.
    pub(crate) fn take(self: Arc<Self>) -> SequencePage<L> {
        Arc::try_unwrap(self).map_or_else(|kept| kept.page.clone(), |checked| checked.page)
    }
}

/// Reads the page that `child` names and checks that it is what the parent says.
pub(crate) fn load<L: Leaf, S: ChunkSource>(
    source: &S,
    level: u8,
    child: &Child<L::Span>,
) -> Result<Arc<Checked<L>>, TreeError<S::Error>> {
    let Place::Chunk(id) = child.1.place else { return Err(TreeError::Unwritten) };
    let opened = source.opened(id, child.1.offset).and_then(|opened| opened.downcast::<Checked<L>>().ok());
    // Another parent may say other things of the same page, or have another key.
    if let Some(checked) = opened.filter(|checked| checked.level == level && checked.child == *child) {
        return Ok(checked);
    }
    let chunk = source.chunk(id).map_err(TreeError::Source)?;
    let page: SequencePage<L> = open_page(&chunk, &child.1)?;
    page.check(level, &child.0).map_err(|fault| TreeError::Page { chunk: id, fault })?;
    let checked = Arc::new(Checked { level, child: child.clone(), page });
    source.keep_opened(id, child.1.offset, checked.clone(), child.1.size as usize);
    Ok(checked)
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
        match load::<L, S>(source, top.level, &top.child)?.take() {
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::hint::black_box;
    use std::time::Duration;

    use super::super::entry::{Content, Entry};
    use super::super::file::{Extent, FileContentBuilder};
    use super::super::folder::Folder;
    use super::super::name::Name;
    use super::super::sorted::SortedBuilder;
    use super::super::testing::{Absent, Memory, item, piece, sealer};
    use super::super::{ChunkSource, Opened};
    use super::*;
    use crate::ids::ChunkId;
    use crate::sealed::SealedChunk;

    /// Keeps every page that was opened.
    #[derive(Default)]
    struct Keeping {
        memory: Memory,
        opened: RefCell<BTreeMap<(ChunkId, u32), Opened>>,
    }

    impl ChunkSource for Keeping {
        type Error = Absent;

        fn chunk(&self, id: ChunkId) -> Result<Arc<SealedChunk>, Absent> {
            self.memory.chunk(id)
        }

        fn opened(&self, chunk: ChunkId, offset: u32) -> Option<Opened> {
            self.opened.borrow().get(&(chunk, offset)).cloned()
        }

        fn keep_opened(&self, chunk: ChunkId, offset: u32, opened: Opened, _: usize) {
            self.opened.borrow_mut().insert((chunk, offset), opened);
        }
    }

    fn name(number: u32) -> Name {
        Name::try_from(format!("slice {number:05}.dcm").as_str()).unwrap()
    }

    fn folder(count: u32, memory: &Memory) -> Folder {
        let sealer = sealer();
        let mut writer = PackWriter::new(&sealer);
        let mut builder = SortedBuilder::default();
        let one = piece(b"one", &mut writer);
        for number in 0..count {
            let mut content = FileContentBuilder::new();
            content.push(one.clone(), &mut writer).unwrap();
            let item = item(u64::from(number), Content::File(content.finish(&mut writer)));
            builder.push(Entry { name: name(number), item }, &mut writer).unwrap();
        }
        let mut folder = builder.finish(&mut writer);
        folder.for_each_ref(&mut |piece| *piece = writer.resolve(piece.clone()));
        memory.take(&mut writer);
        folder
    }

    #[test]
    fn a_kept_page_is_read_without_its_chunk_and_gives_the_same() {
        let keeping = Keeping::default();
        let folder = folder(3000, &keeping.memory);
        let all = folder.list(&keeping.memory, None, usize::MAX).unwrap();
        assert_eq!(folder.list(&keeping, None, usize::MAX).unwrap(), all);
        keeping.memory.reads.set(0);
        assert_eq!(folder.list(&keeping, None, usize::MAX).unwrap(), all);
        for entry in all.iter().step_by(7) {
            assert_eq!(folder.get(&keeping, &entry.name).unwrap().as_ref(), Some(entry));
        }
        assert_eq!(keeping.memory.reads.get(), 0);
    }

    #[test]
    fn a_kept_page_is_not_believed_under_another_key_level_or_span() {
        let keeping = Keeping::default();
        let folder = folder(10, &keeping.memory);
        folder.list(&keeping, None, 1).unwrap();
        let top = Option::<Top<_>>::from(folder).unwrap();
        let loads = |level, child| load::<Entry, _>(&keeping, level, &child).map(|_| ());
        assert_eq!(loads(top.level, top.child.clone()), Ok(()));
        assert!(loads(top.level + 1, top.child.clone()).is_err());
        let mut other = top.child.clone();
        other.0.count += 1;
        assert!(loads(top.level, other).is_err());
        let mut other = top.child.clone();
        other.1.key = sealer().piece_key(crate::crypto::derive::Role::TreePage, b"another");
        assert!(loads(top.level, other).is_err());
    }

    #[test]
    #[ignore = "measures"]
    #[expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "it measures")]
    fn lookups_with_and_without_kept_pages_are_measured() {
        use std::time::Instant;

        let keeping = Keeping::default();
        let folder = folder(10_000, &keeping.memory);
        let time = |what: &str, count: u32, run: &mut dyn FnMut(u32)| -> Duration {
            run(0);
            let begun = Instant::now();
            (0..count).for_each(|number| run(number * 7919 % 10_000));
            let took = begun.elapsed() / count;
            eprintln!("{what}: {took:?} each");
            took
        };
        let bare = time("lookup, pages opened anew", 1000, &mut |number| {
            black_box(folder.get(&keeping.memory, &name(number)).unwrap());
        });
        folder.list(&keeping, None, usize::MAX).unwrap();
        let kept = time("lookup, pages kept", 10_000, &mut |number| {
            black_box(folder.get(&keeping, &name(number)).unwrap());
        });
        eprintln!("ratio {:.0}", bare.as_secs_f64() / kept.as_secs_f64());
        let (sealer, mut content) = (sealer(), FileContentBuilder::new());
        let mut writer = PackWriter::new(&sealer);
        for number in 0..10_000u32 {
            let mut extent = piece(&number.to_be_bytes(), &mut writer).as_piece().unwrap().clone();
            extent.size = 1 << 20;
            content.push(Extent::piece(extent).unwrap(), &mut writer).unwrap();
        }
        let mut content = content.finish(&mut writer);
        content.for_each_ref(&mut |piece| *piece = writer.resolve(piece.clone()));
        keeping.memory.take(&mut writer);
        let seek = |source: &dyn Fn(u64), what: &str, count| {
            time(what, count, &mut |number| source(u64::from(number) << 20))
        };
        let bare = seek(
            &|at| drop(content.extents(&keeping.memory, at..at + 1, 1).unwrap()),
            "seek, pages opened anew",
            500,
        );
        content.extents(&keeping, 0..u64::MAX, usize::MAX).unwrap();
        let kept =
            seek(&|at| drop(content.extents(&keeping, at..at + 1, 1).unwrap()), "seek, pages kept", 5000);
        eprintln!("ratio {:.0}", bare.as_secs_f64() / kept.as_secs_f64());
    }
}
