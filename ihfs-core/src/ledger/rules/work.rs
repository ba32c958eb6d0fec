//! Work in progress on a block: reads through, writes kept or forgotten one transaction at a time.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::ids::{DeviceId, MemberId, RecordId, Time, TransactionId};
use crate::ledger::lists::{ITEM_BYTES_MAX, List, ListItem, ListKey};
use crate::ledger::news::News;
use crate::ledger::rules::{Applied, BlockPlace, EPOCHS_PER_BLOCK_MAX, Refused, Writes};
use crate::ledger::state::{
    self, ConsortiumEntry, ENTRY_BYTES_MAX, MemberEntry, MemberLists, ReadFailed, RecordEntry, RecordLists,
    StateError, StateKey, StateReader,
};

/// Who asks, and under which transaction.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    /// The transaction.
    pub id: TransactionId,
    /// Whose it is.
    pub member: MemberId,
    /// The key that signed.
    pub signer: DeviceId,
    /// Whether that is the member key.
    pub by_member_key: bool,
    /// Until when the transaction is valid.
    pub valid_until: Time,
    /// Its random bytes.
    pub random: [u8; 32],
}

/// The state as the block changes it: what the transactions before wrote, over what was there.
pub(crate) struct Work<'a> {
    state: &'a dyn StateReader,
    /// Where the block stands.
    pub place: BlockPlace,
    kept: Changes,
    pending: Changes,
    /// Epochs that may still be opened in the block. What a refused transaction took does not come back: it cost
    /// whoever makes the block as much.
    epochs_left: usize,
    /// Whether the transaction that is being applied has them all.
    is_fresh: bool,
}

#[derive(Default)]
struct Changes {
    writes: Writes,
    items: Vec<ListItem>,
    news: Vec<News>,
}

impl StateReader for Work<'_> {
    fn read_entry(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadFailed> {
        match self.pending.writes.get(key).or_else(|| self.kept.writes.get(key)) {
            Some(written) => Ok(written.clone()),
            None => self.state.read_entry(key),
        }
    }
}

impl<'a> Work<'a> {
    pub fn new(state: &'a dyn StateReader, place: BlockPlace) -> Self {
        let (kept, pending) = (Changes::default(), Changes::default());
        Self { state, place, kept, pending, epochs_left: EPOCHS_PER_BLOCK_MAX, is_fresh: true }
    }

    pub fn read<T: Serialize + DeserializeOwned>(&self, key: &StateKey) -> Result<Option<T>, StateError> {
        state::read(self, key)
    }

    /// Reads an entry that the rules themselves wrote earlier.
    pub fn must<T: Serialize + DeserializeOwned>(&self, key: &StateKey) -> Result<T, StateError> {
        self.read(key)?.ok_or(StateError::Damaged { key: *key })
    }

    pub fn has(&self, key: &StateKey) -> Result<bool, StateError> {
        Ok(self.read_entry(&key.to_bytes())?.is_some())
    }

    pub fn write<T: Serialize>(&mut self, key: &StateKey, entry: &T) {
        let bytes = codec::encode(entry);
        assert!(bytes.len() <= ENTRY_BYTES_MAX, "the rules bound every entry, {key:?} has {}", bytes.len());
        self.pending.writes.insert(key.to_bytes(), Some(bytes));
    }

    pub fn delete(&mut self, key: &[u8]) {
        self.pending.writes.insert(key.to_vec(), None);
    }

    pub fn push<T: Serialize>(&mut self, key: ListKey, list: &mut List, item: &T) {
        let bytes = codec::encode(item);
        assert!(bytes.len() <= ITEM_BYTES_MAX, "items are of fixed shape");
        let index = list.push(&bytes);
        self.pending.items.push(ListItem { list: key, index, bytes });
    }

    pub fn tell(&mut self, news: News) {
        self.pending.news.push(news);
    }

    pub fn member(&self, member: MemberId) -> Result<MemberEntry, super::refused::Stop> {
        Ok(self.read(&StateKey::Member(member))?.ok_or(Refused::UnknownMember { member })?)
    }

    pub fn record(&self, record: RecordId) -> Result<RecordEntry, super::refused::Stop> {
        Ok(self.read(&StateKey::Record(record))?.ok_or(Refused::UnknownRecord { record })?)
    }

    /// The lists of a member who is there.
    pub fn member_lists(&self, member: MemberId) -> Result<MemberLists, StateError> {
        self.must(&StateKey::MemberLists(member))
    }

    /// The lists of a record that is there.
    pub fn record_lists(&self, record: RecordId) -> Result<RecordLists, StateError> {
        self.must(&StateKey::RecordLists(record))
    }

    /// The record, if the asking member owns it.
    pub fn own_record(&self, asking: &Asking, record: RecordId) -> Result<RecordEntry, super::refused::Stop> {
        let entry = self.record(record)?;
        if entry.owner != asking.member {
            return Err(Refused::NotTheOwner { record, member: asking.member }.into());
        }
        Ok(entry)
    }

    /// Begins a transaction.
    pub fn begin(&mut self) {
        self.is_fresh = self.epochs_left == EPOCHS_PER_BLOCK_MAX;
    }

    /// Takes room for this many epochs in the block. One that finds no room leaves none to those behind it: it comes
    /// first in the next block, or never fits.
    pub fn take_epochs(&mut self, count: usize) -> Result<(), Refused> {
        match self.epochs_left.checked_sub(count) {
            Some(left) => {
                self.epochs_left = left;
                Ok(())
            }
            None => {
                self.epochs_left = 0;
                Err(if self.is_fresh { Refused::TooManyEpochs } else { Refused::BlockFull })
            }
        }
    }

    /// Keeps what was written since the last call.
    pub fn keep(&mut self) {
        let Changes { writes, items, news } = std::mem::take(&mut self.pending);
        self.kept.writes.extend(writes);
        self.kept.items.extend(items);
        self.kept.news.extend(news);
    }

    /// Drops what was written since the last [`Self::keep`].
    pub fn forget(&mut self) {
        self.pending = Changes::default();
    }

    pub fn applied(
        self,
        results: Vec<Result<TransactionId, Refused>>,
        consortium: ConsortiumEntry,
    ) -> Applied {
        let Changes { writes, items, news } = self.kept;
        let writes: BTreeMap<_, _> = writes;
        Applied { writes, items, results, news, consortium }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ChainId, Height};

    struct Nothing;

    impl StateReader for Nothing {
        fn read_entry(&self, _: &[u8]) -> Result<Option<Vec<u8>>, ReadFailed> {
            Ok(None)
        }
    }

    #[test]
    fn epochs_that_fit_no_block_are_told_from_those_that_fit_a_later_one() {
        let place = BlockPlace { chain: ChainId::from_bytes([1; 32]), height: Height(1), time: Time(1) };
        let mut work = Work::new(&Nothing, place);
        work.begin();
        assert_eq!(work.take_epochs(EPOCHS_PER_BLOCK_MAX), Ok(()));
        assert_eq!(work.take_epochs(1), Err(Refused::TooManyEpochs));
        work.forget();
        work.begin();
        assert_eq!(work.take_epochs(1), Err(Refused::BlockFull), "what a refused one took is gone");
    }
}
