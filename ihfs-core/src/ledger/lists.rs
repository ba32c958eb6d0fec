//! Lists beside the state: an entry keeps count and running hash, the items lie wherever they like.
//!
//! Whoever is handed the items recomputes the hash, so that a list with an item changed, moved or left
//! out is refused. Knows nothing of what the items say.

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::ids::{Digest, MemberId, RecordId};

/// Most bytes of one item.
pub const ITEM_BYTES_MAX: usize = 1024;

/// How many items a list has, and the hash over all of them in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct List {
    /// Number of items.
    pub count: u64,
    /// Running hash; all zero for the empty list.
    pub hash: Digest,
}

impl Default for List {
    fn default() -> Self {
        Self { count: 0, hash: Digest::from_bytes([0; 32]) }
    }
}

impl List {
    /// Appends: `hash = BLAKE3-derive-key("IHFS 1 list", hash ‖ index (u64, little endian) ‖ item)`.
    ///
    /// Returns the index of the item.
    pub fn push(&mut self, item: &[u8]) -> u64 {
        let index = self.count;
        let mut hasher = blake3::Hasher::new_derive_key("IHFS 1 list");
        hasher.update(self.hash.as_bytes()).update(&index.to_le_bytes()).update(item);
        *self = Self { count: index + 1, hash: Digest::from_bytes(*hasher.finalize().as_bytes()) };
        index
    }

    /// Checks that `items` are the whole list.
    ///
    /// # Errors
    /// [`ListError`].
    pub fn verify<'a>(&self, items: impl IntoIterator<Item = &'a [u8]>) -> Result<(), ListError> {
        Self::default().verify_extension(items, self)
    }

    /// Checks that `items` are exactly what makes this list into `longer`.
    ///
    /// # Errors
    /// [`ListError`].
    pub fn verify_extension<'a>(
        &self,
        items: impl IntoIterator<Item = &'a [u8]>,
        longer: &Self,
    ) -> Result<(), ListError> {
        let mut list = *self;
        for item in items {
            if list.count >= longer.count {
                return Err(ListError::WrongCount { expected: longer.count });
            }
            list.push(item);
        }
        if list.count != longer.count {
            return Err(ListError::WrongCount { expected: longer.count });
        }
        if list.hash != longer.hash {
            return Err(ListError::WrongHash { count: longer.count });
        }
        Ok(())
    }
}

/// Why items are not the list that the ledger commits to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Items are missing, or there are too many.
    #[error("the list has {expected} items on the ledger, another number was given")]
    WrongCount {
        /// How many the ledger counts.
        expected: u64,
    },
    /// An item was changed, moved or swapped for another.
    #[error("the {count} items given do not hash to what is on the ledger")]
    WrongHash {
        /// How many there are.
        count: u64,
    },
}

/// Names a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum ListKey {
    /// A record's versions: [`crate::ledger::state::VersionItem`].
    #[serde(rename = "versions")]
    Versions(RecordId),
    /// A record's grants and their ends: [`crate::ledger::state::GrantItem`].
    #[serde(rename = "grants")]
    Grants(RecordId),
    /// Openings of a record: [`crate::ledger::state::OpeningItem`].
    #[serde(rename = "openings")]
    Openings(RecordId),
    /// A member's records: [`crate::ledger::state::RecordItem`].
    #[serde(rename = "records")]
    Records(MemberId),
    /// Grants that a member received: [`crate::ledger::state::ReceivedItem`].
    #[serde(rename = "received")]
    Received(MemberId),
    /// Openings by a member: [`crate::ledger::state::OpeningItem`].
    #[serde(rename = "opened")]
    Opened(MemberId),
}

impl ListKey {
    /// A tag and the id: under this prefix, and the index as 8 bytes big endian, an item is stored.
    pub fn to_bytes(self) -> [u8; 33] {
        let (tag, id) = match &self {
            Self::Versions(id) => (1, id.as_bytes()),
            Self::Grants(id) => (2, id.as_bytes()),
            Self::Openings(id) => (3, id.as_bytes()),
            Self::Records(id) => (4, id.as_bytes()),
            Self::Received(id) => (5, id.as_bytes()),
            Self::Opened(id) => (6, id.as_bytes()),
        };
        let mut bytes = [tag; 33];
        bytes[1..].copy_from_slice(id);
        bytes
    }

    /// The key under which the item at `index` is stored.
    pub fn item_key(self, index: u64) -> [u8; 41] {
        let mut bytes = [0; 41];
        bytes[..33].copy_from_slice(&self.to_bytes());
        bytes[33..].copy_from_slice(&index.to_be_bytes());
        bytes
    }
}

/// An item that a block appended, to be stored with the block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct ListItem {
    /// The list.
    pub list: ListKey,
    /// Its place.
    pub index: u64,
    /// Canonical bytes of the item, at most [`ITEM_BYTES_MAX`].
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEMS: [&[u8]; 4] = [b"one", b"two", b"three", b"four"];

    fn list() -> List {
        let mut list = List::default();
        for item in ITEMS {
            list.push(item);
        }
        list
    }

    #[test]
    fn a_list_with_an_item_left_out_at_any_place_is_refused() {
        for left_out in 0..ITEMS.len() {
            let rest =
                ITEMS.iter().enumerate().filter(|(place, _)| *place != left_out).map(|(_, item)| *item);
            assert_eq!(list().verify(rest), Err(ListError::WrongCount { expected: 4 }));
        }
        assert_eq!(list().verify(ITEMS), Ok(()));
    }

    #[test]
    fn a_list_with_items_swapped_or_changed_is_refused() {
        let wrong = Err(ListError::WrongHash { count: 4 });
        assert_eq!(list().verify([ITEMS[1], ITEMS[0], ITEMS[2], ITEMS[3]]), wrong);
        assert_eq!(list().verify([ITEMS[0], ITEMS[1], b"thief", ITEMS[3]]), wrong);
        assert_eq!(list().verify([b"on".as_slice(), b"etwo", ITEMS[2], ITEMS[3]]), wrong);
    }

    #[test]
    fn an_item_too_many_is_refused() {
        let longer = ITEMS.into_iter().chain([b"five".as_slice()]);
        assert_eq!(list().verify(longer), Err(ListError::WrongCount { expected: 4 }));
    }

    #[test]
    fn an_extension_is_checked_from_where_it_starts() {
        let mut start = List::default();
        start.push(ITEMS[0]);
        start.push(ITEMS[1]);
        assert_eq!(start.verify_extension([ITEMS[2], ITEMS[3]], &list()), Ok(()));
        assert!(start.verify_extension([ITEMS[3], ITEMS[2]], &list()).is_err());
        assert!(list().verify_extension([ITEMS[0]], &start).is_err());
    }

    #[test]
    fn the_running_hash_is_pinned() {
        assert_eq!(list().hash.to_string()[..16], *"8fd9ce92b84df541");
    }
}
