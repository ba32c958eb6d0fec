//! What changes on the ledger, as it comes: new versions of records, grants that begin and grants that end.
//!
//! A node answers once there is a newer block; what that block changed is then proved like everything else. A
//! node that keeps silent delays changes, it cannot invent them.

use std::collections::BTreeMap;
use std::time::Duration;

use ihfs_core::ids::{Epoch, GrantId, RecordId, Version};
use ihfs_core::ledger::state::{RecordEntry, StateKey};
use ihfs_net::RequestError;

use crate::client::Client;
use crate::link::AskError;
use crate::view::{ViewError, decode_entry};

/// How long a node is asked to wait for a newer block. A grant that expires ends without one, so that all is
/// looked at again by then.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Something that is different now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A watched record has a newer version or epoch.
    Head {
        /// The record.
        record: RecordId,
        /// Its newest version.
        version: Version,
        /// Its live epoch.
        epoch: Epoch,
    },
    /// This member was given a grant.
    Granted {
        /// The grant.
        grant: GrantId,
        /// What it opens.
        record: RecordId,
    },
    /// A grant to this member ended or expired.
    Ended {
        /// The grant.
        grant: GrantId,
        /// What it opened.
        record: RecordId,
    },
}

/// Watches the ledger for one member. Waits keep to the call of the client that began it.
pub struct Changes {
    client: Client,
    records: BTreeMap<RecordId, (Version, Epoch)>,
    grants: BTreeMap<GrantId, RecordId>,
}

impl Client {
    /// Begins to watch grants to this member, and `records`. What stands now is no change.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn changes(&self, records: impl IntoIterator<Item = RecordId>) -> Result<Changes, ViewError> {
        let records = records.into_iter().map(|record| (record, (Version(0), Epoch(0)))).collect();
        let mut changes = Changes { client: self.clone(), records, grants: BTreeMap::new() };
        changes.look()?;
        Ok(changes)
    }
}

impl Changes {
    /// Watches one more record. Its version of now comes as the first change of it.
    pub fn watch(&mut self, record: RecordId) {
        self.records.entry(record).or_default();
    }

    /// Watches a record no longer.
    pub fn unwatch(&mut self, record: RecordId) {
        self.records.remove(&record);
    }

    /// Waits until something changed; gives nothing when the call's time is over before.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn wait(&mut self) -> Result<Vec<Change>, ViewError> {
        loop {
            let seen = self.client.view.trust().height;
            let changes = self.look()?;
            let time = self.client.link.call().left(WAIT_MAX);
            if !changes.is_empty() || time.is_zero() {
                return Ok(changes);
            }
            match self.client.view.wait(seen, time) {
                Err(error) if self.is_over(&error) => return Ok(Vec::new()),
                waited => waited?,
            };
        }
    }

    /// Whether a wait ended because the call's time was over, and not by a fault.
    fn is_over(&self, error: &ViewError) -> bool {
        let timed_out = matches!(error, ViewError::Ask(AskError::Network(RequestError::TimedOut { .. })));
        timed_out && self.client.link.call().left(WAIT_MAX).is_zero()
    }

    /// What is different from the last look.
    fn look(&mut self) -> Result<Vec<Change>, ViewError> {
        let mut changes = self.look_at_records()?;
        let live = self.client.live_received()?;
        let live: BTreeMap<_, _> =
            live.into_iter().map(|(grant, entry)| (grant, entry.conditions.record)).collect();
        let ended = self.grants.iter().filter(|(grant, _)| !live.contains_key(grant));
        changes.extend(ended.map(|(grant, record)| Change::Ended { grant: *grant, record: *record }));
        let granted = live.iter().filter(|(grant, _)| !self.grants.contains_key(grant));
        changes.extend(granted.map(|(grant, record)| Change::Granted { grant: *grant, record: *record }));
        self.grants = live;
        Ok(changes)
    }

    fn look_at_records(&mut self) -> Result<Vec<Change>, ViewError> {
        let mut changes = Vec::new();
        for (record, entry) in self.shown_records()? {
            let now = (entry.head.map_or(Version(0), |head| head.version), entry.epoch);
            if self.records.insert(record, now) != Some(now) {
                changes.push(Change::Head { record, version: now.0, epoch: now.1 });
            }
        }
        Ok(changes)
    }

    /// Entries of the watched records. Those whose grant ended are not shown to this member until it is given again,
    /// and are left out.
    fn shown_records(&self) -> Result<Vec<(RecordId, RecordEntry)>, ViewError> {
        let mut shown: Vec<RecordId> = self.records.keys().copied().collect();
        loop {
            let keys: Vec<StateKey> = shown.iter().copied().map(StateKey::Record).collect();
            let entries = match self.client.view.entries(&keys) {
                Err(error) => match error.not_shared().and_then(|record| shown.binary_search(&record).ok()) {
                    Some(place) => {
                        shown.remove(place);
                        continue;
                    }
                    None => return Err(error),
                },
                Ok(entries) => entries,
            };
            let both = shown.into_iter().zip(entries);
            let decoded = both.filter_map(|(record, entry)| {
                decode_entry(entry).transpose().map(|entry| Ok((record, entry?)))
            });
            return decoded.collect();
        }
    }
}
