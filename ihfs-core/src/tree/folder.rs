//! Folders: entries sorted by the bytes of their names.

use super::entry::Entry;
use super::sorted::{Cursor, SortedBuilder, SortedMerge, SortedPages};

/// The entries of a folder, in sealed pages.
pub type Folder = SortedPages<Entry>;

/// Writes a folder whose entries come in the order of their names.
pub type FolderBuilder = SortedBuilder<Entry>;

/// Carries a folder over while changes to it come in the order of names.
pub type FolderMerge = SortedMerge<Entry>;

/// Walks the entries of a folder in the order of their names.
pub type FolderCursor = Cursor<Entry>;
