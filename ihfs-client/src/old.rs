//! The pieces of a file's version before: what stands there already is neither sealed nor sent.

use std::collections::{BTreeMap, BTreeSet};

use ihfs_core::crypto::derive::{PieceKey, Role};
use ihfs_core::sealed::{Ref, Source};
use ihfs_core::tree::entry::{Content, Item};
use ihfs_core::tree::file::FileContent;

use crate::fetch::Fetcher;
use crate::record::{RecordError, Sealers};

/// Pieces of a file as it was, by what their key would be.
#[derive(Default)]
pub(crate) struct OldPieces {
    /// None when no file was there.
    pub(crate) size: Option<u64>,
    sources: BTreeSet<Source>,
    /// In their order; what `refs` gives is a place in it.
    pieces: Vec<Ref>,
    refs: BTreeMap<(Source, u32, [u8; 32]), usize>,
    has_holes: bool,
}

impl OldPieces {
    /// Those of what stands there, if that is a file.
    pub(crate) fn of(chunks: &Fetcher, standing: Option<&Item>) -> Result<Self, RecordError> {
        match standing {
            Some(Item { content: Content::File(content), .. }) => Self::of_content(chunks, content),
            _ => Ok(Self::default()),
        }
    }

    /// Those of a file.
    pub(crate) fn of_content(chunks: &Fetcher, content: &FileContent) -> Result<Self, RecordError> {
        let mut old = Self { size: Some(content.size_bytes()), ..Self::default() };
        for placed in content.extents(chunks, 0..content.size_bytes(), usize::MAX)? {
            let Some(piece) = placed.extent.as_piece() else {
                old.has_holes = true;
                continue;
            };
            old.sources.insert(piece.source);
            old.refs.insert((piece.source, piece.size, key_bytes(&piece.key)), old.pieces.len());
            old.pieces.push(piece.clone());
        }
        Ok(old)
    }

    /// The piece with these bytes: its key says so.
    pub(crate) fn find(&self, sealers: &mut Sealers<'_>, plaintext: &[u8]) -> Option<Ref> {
        let size = u32::try_from(plaintext.len()).ok()?;
        self.sources.iter().find_map(|source| {
            let key = sealers.get(*source)?.piece_key(Role::Content, plaintext);
            self.refs.get(&(*source, size, key_bytes(&key))).map(|place| self.pieces[*place].clone())
        })
    }

    /// The first pieces of the file.
    pub(crate) fn first(&self, count: usize) -> &[Ref] {
        &self.pieces[..count]
    }

    /// Whether this is the piece at a place.
    pub(crate) fn is_piece(&self, place: usize, piece: &Ref) -> bool {
        let is_same = |old: &Ref| (old.source, old.size, &old.key) == (piece.source, piece.size, &piece.key);
        self.pieces.get(place).is_some_and(is_same)
    }

    /// Whether its first pieces, so many, are all of it.
    pub(crate) fn is_all(&self, count: usize) -> bool {
        self.size.is_some() && !self.has_holes && self.pieces.len() == count
    }
}

fn key_bytes(key: &PieceKey) -> [u8; 32] {
    *key.fingerprint().as_bytes()
}
