//! Reads one version of a record: lookups, listings, and walks over all of it.

use std::collections::BTreeSet;

use super::entry::{Content, Entry, Item};
use super::file::ExtentCursor;
use super::name::Name;
use super::pages::Visited;
use super::root::Root;
use super::sorted::Cursor;
use super::{ChunkSource, Found, TreeError};
use crate::ids::ChunkId;
use crate::sealed::{Place, Ref};

/// One version of a record and where its chunks come from.
#[derive(Clone, Debug)]
pub struct TreeReader<S> {
    root: Root,
    source: S,
}

/// What a listing gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Entries of the folder, in order.
    Entries(Vec<Entry>),
    /// The path is no folder of this record.
    NotAFolder(Box<Found>),
}

/// Pages of folders that were walked together with all that is below them.
#[derive(Clone, Debug, Default)]
pub struct Walked(BTreeSet<(ChunkId, u32)>);

impl Walked {
    /// Takes in what another walk came by.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    fn holds(&self, page: &Ref) -> bool {
        spot_of(page).is_some_and(|spot| self.0.contains(&spot))
    }
}

impl<S: ChunkSource> TreeReader<S> {
    /// Reads `root`.
    pub const fn new(root: Root, source: S) -> Self {
        Self { root, source }
    }

    /// The root.
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// Where chunks come from.
    pub const fn source(&self) -> &S {
        &self.source
    }

    /// What stands at `path`.
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be read.
    pub fn lookup(&self, path: &[Name]) -> Result<Found, TreeError<S::Error>> {
        let mut item = self.root.top.clone();
        for (depth, name) in path.iter().enumerate() {
            let folder = match &item.content {
                Content::Folder(folder) => folder,
                Content::Nested(_) => {
                    return Ok(Found::Crossing { item, rest: path[depth..].to_vec() });
                }
                Content::File(_) | Content::Symlink(_) => return Ok(Found::NotAFolder { depth, item }),
            };
            match folder.get(&self.source, name)? {
                Some(entry) => item = entry.item,
                None => return Ok(Found::Missing { present: depth }),
            }
        }
        Ok(found(item))
    }

    /// Up to `limit` entries of the folder at `path`, behind the name `after` or from the first.
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
            Found::Item(Item { content: Content::Folder(folder), .. }) => {
                Ok(Listing::Entries(folder.list(&self.source, after, limit)?))
            }
            other => Ok(Listing::NotAFolder(Box::new(other))),
        }
    }

    /// Calls `visit` with every chunk that this version needs besides its own root, pages before what they
    /// point at; often with the same one again. Memory grows with the depth of folders alone.
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be read.
    pub fn for_each_chunk(&self, visit: &mut dyn FnMut(ChunkId)) -> Result<(), TreeError<S::Error>> {
        self.walk(&Walked::default(), &mut |_| (), visit)
    }

    /// The same without what is below pages that were `walked` before. Gives the pages of folders that were
    /// walked now.
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be read.
    pub fn for_each_chunk_beyond(
        &self,
        walked: &Walked,
        visit: &mut dyn FnMut(ChunkId),
    ) -> Result<Walked, TreeError<S::Error>> {
        let mut now = Walked::default();
        self.walk(walked, &mut |page| now.0.extend(spot_of(page)), visit)?;
        Ok(now)
    }

    fn walk(
        &self,
        walked: &Walked,
        note: &mut dyn FnMut(&Ref),
        visit: &mut dyn FnMut(ChunkId),
    ) -> Result<(), TreeError<S::Error>> {
        let mut visit_ref = |piece: &Ref| {
            if let Place::Chunk(id) = piece.place {
                visit(id);
            }
        };
        let mut nested = Cursor::new(&self.root.nested);
        while let Some(visited) = nested.visit(&self.source)? {
            if let Visited::Page(at) = visited {
                visit_ref(&at);
            }
        }
        let mut folders: Vec<_> = self.item_chunks(&self.root.top, &mut visit_ref)?.into_iter().collect();
        while let Some(folder) = folders.last_mut() {
            folder.pass_pages(|page| walked.holds(page));
            match folder.visit(&self.source)? {
                Some(Visited::Page(at)) => {
                    note(&at);
                    visit_ref(&at);
                }
                Some(Visited::Leaf(entry)) => folders.extend(self.item_chunks(&entry.item, &mut visit_ref)?),
                None => drop(folders.pop()),
            }
        }
        Ok(())
    }

    /// Every chunk that this version needs besides its own root.
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be read.
    pub fn reachable(&self) -> Result<BTreeSet<ChunkId>, TreeError<S::Error>> {
        let mut chunks = BTreeSet::new();
        self.for_each_chunk(&mut |id| {
            chunks.insert(id);
        })?;
        Ok(chunks)
    }

    /// Calls `visit` with the path of every entry below the top and the entry, folders before what is in them.
    ///
    /// # Errors
    /// [`TreeError`] when a page cannot be read.
    pub fn for_each_entry(&self, visit: &mut dyn FnMut(&[Name], &Entry)) -> Result<(), TreeError<S::Error>> {
        let mut path = Vec::new();
        let mut folders: Vec<_> = folder_cursor(&self.root.top).into_iter().collect();
        while let Some(folder) = folders.last_mut() {
            let Some(entry) = folder.next_item(&self.source)? else {
                folders.pop();
                path.pop();
                continue;
            };
            path.push(entry.name.clone());
            visit(&path, &entry);
            match folder_cursor(&entry.item) {
                Some(below) => folders.push(below),
                None => drop(path.pop()),
            }
        }
        Ok(())
    }

    /// Visits what a file's content stands in; a folder is left to the caller.
    fn item_chunks(
        &self,
        item: &Item,
        visit: &mut dyn FnMut(&Ref),
    ) -> Result<Option<Cursor<Entry>>, TreeError<S::Error>> {
        if let Content::File(content) = &item.content {
            let mut extents = ExtentCursor::new(content);
            while let Some(visited) = extents.visit(&self.source)? {
                match &visited {
                    Visited::Page(at) => visit(at),
                    Visited::Leaf(extent) => extent.as_piece().into_iter().for_each(&mut *visit),
                }
            }
        }
        Ok(folder_cursor(item))
    }
}

/// Where a page stands, once it has an address.
const fn spot_of(page: &Ref) -> Option<(ChunkId, u32)> {
    match page.place {
        Place::Chunk(id) => Some((id, page.offset)),
        Place::Here | Place::Pack(_) => None,
    }
}

fn folder_cursor(item: &Item) -> Option<Cursor<Entry>> {
    match &item.content {
        Content::Folder(folder) => Some(Cursor::new(folder)),
        _ => None,
    }
}

/// What an item is to who looked it up.
pub(crate) fn found(item: Item) -> Found {
    match item.content {
        Content::Nested(_) => Found::Crossing { item, rest: Vec::new() },
        _ => Found::Item(item),
    }
}
