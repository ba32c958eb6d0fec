//! Folders: entries sorted by the bytes of their names.

use super::entry::Entry;
use super::sorted::{SortedBuilder, SortedPages};

/// The entries of a folder, in sealed pages.
pub type Folder = SortedPages<Entry>;

/// Writes a folder whose entries come in the order of their names.
pub type FolderBuilder = SortedBuilder<Entry>;
