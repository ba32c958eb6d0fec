//! What a reader may hold of a record: the versions that his openings made readable, of the record itself and of
//! those that held its content before it was split out of them.

use std::collections::BTreeSet;

use ihfs_core::ids::{Epoch, Height, MemberId, RecordId};
use ihfs_core::ledger::lists::ListKey;
use ihfs_core::ledger::state::{GrantEntry, OpeningItem, RecordEntry, StateKey, VersionItem};

use crate::audit::AuditError;
use crate::client::Client;
use crate::location::Location;
use crate::record::{Record, RecordError};
use crate::view::{ViewError, decode_entry};

/// A version that an opening made readable.
#[derive(Clone, Debug, serde::Serialize)]
pub struct HeldVersion {
    /// Where the record is whose version it is; none when it is no longer in the vault.
    pub path: Option<String>,
    /// The version.
    pub version: u64,
    /// When it was written, milliseconds since 1970.
    pub written: u64,
    /// Bytes that it added, sealed.
    pub bytes_added: u64,
}

/// What somebody may read of a record without a grant on it, and may have kept of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holdings {
    /// Versions that openings made readable.
    pub(crate) may_hold: Vec<HeldVersion>,
    /// Records with a live grant whose key opens versions from before this record was split out of them.
    pub(crate) wider: Vec<Wider>,
    /// Live grants on the record itself.
    pub(crate) others: Vec<String>,
}

/// A record by whose grant older versions of another are read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Wider {
    /// The record.
    pub record: String,
    /// Where it is; none when it is no longer in the vault.
    pub path: Option<String>,
}

/// A record, and its versions that hold the content in question.
pub(crate) struct Holder {
    pub(crate) record: Record,
    pub(crate) versions: Vec<VersionItem>,
}

impl Holder {
    /// The epochs that its versions are sealed in.
    pub(crate) fn epochs(&self) -> BTreeSet<Epoch> {
        self.versions.iter().map(|version| version.epoch).collect()
    }

    /// The newest version that the grant's key opens.
    pub(crate) fn readable_by(&self, grant: &GrantEntry) -> Option<u64> {
        let fits = |version: &&VersionItem| match grant.conditions.snapshot {
            Some(snapshot) => version.version == snapshot,
            None => version.epoch == grant.epoch,
        };
        self.versions.iter().rev().find(fits).map(|version| version.version.0)
    }
}

impl Client {
    /// The record with all its versions; behind it the record that it was split out of, with the versions from
    /// before, and so on. A split is one transaction, so both records have a version of its block.
    pub(crate) fn holders(&self, record: Record) -> Result<Vec<Holder>, RecordError> {
        let mut holders = vec![Holder { versions: self.versions(&record)?, record }];
        let mut own = Vec::new();
        while let Some(born) = holders.last().and_then(|holder| Some(holder.versions.first()?.height)) {
            if own.is_empty() {
                own = self.own_heads()?;
            }
            let id = holders[holders.len() - 1].record.id;
            let older = own.iter().take_while(|(record, _)| *record != id);
            let mut written_since = older.filter(|(_, newest)| *newest >= Some(born));
            match written_since.find_map(|(record, _)| self.split_source(*record, born).transpose()) {
                Some(source) => holders.push(source?),
                None => break,
            }
        }
        Ok(holders)
    }

    /// This member's records in the order in which they were made, with the heights of their newest versions.
    fn own_heads(&self) -> Result<Vec<(RecordId, Option<Height>)>, ViewError> {
        let records = self.own_records()?;
        let keys: Vec<StateKey> = records.iter().map(|record| StateKey::Record(*record)).collect();
        let mut heads = Vec::with_capacity(records.len());
        for (record, bytes) in records.into_iter().zip(self.view.entries(&keys)?) {
            let entry: Option<RecordEntry> = decode_entry(bytes)?;
            heads.push((record, entry.and_then(|entry| entry.head).map(|head| head.height)));
        }
        Ok(heads)
    }

    /// The record with its versions from before the block `born`, if it lost a part in that block.
    fn split_source(&self, id: RecordId, born: Height) -> Result<Option<Holder>, RecordError> {
        let record = self.own_record(id)?;
        let mut versions = self.versions(&record)?;
        let lost_a_part = versions.iter().any(|version| version.height == born);
        versions.retain(|version| version.height < born);
        let is_source = lost_a_part && !versions.is_empty();
        Ok(is_source.then_some(Holder { record, versions }))
    }

    /// What the reader may hold of the record, by complete lists of openings, and the live grants that still cover
    /// older versions of it. An upper bound: a snapshot opens one version of its epoch.
    pub(crate) fn holdings(&self, record: Record, reader: MemberId) -> Result<Holdings, AuditError> {
        let mut holdings = Holdings::default();
        let mut found = Vec::new();
        for (place, holder) in self.holders(record)?.into_iter().enumerate() {
            let opened = self.epochs_opened(&holder.record, reader)?;
            let grants = self.live_grants_to(&[holder.record.id], reader)?;
            if place == 0 {
                holdings.others = grants.iter().map(|(id, _)| id.to_string()).collect();
            }
            let is_wider = place > 0 && grants.iter().any(|(_, grant)| holder.readable_by(grant).is_some());
            if is_wider || !opened.is_disjoint(&holder.epochs()) {
                found.push((holder, opened, is_wider));
            }
        }
        if found.is_empty() {
            return Ok(holdings);
        }
        let paths = self.record_paths()?;
        for (holder, opened, is_wider) in found {
            let id = holder.record.id;
            let path = paths.get(&id);
            let held = holder.versions.iter().filter(|version| opened.contains(&version.epoch));
            holdings.may_hold.extend(held.map(|version| held_version(version, path)));
            if is_wider {
                holdings.wider.push(Wider { record: id.to_string(), path: path.map(ToString::to_string) });
            }
        }
        Ok(holdings)
    }

    /// The epochs of the record whose key an opening gave to the reader.
    fn epochs_opened(&self, record: &Record, reader: MemberId) -> Result<BTreeSet<Epoch>, ViewError> {
        let Some(lists) = &record.lists else { return Ok(BTreeSet::new()) };
        let openings: Vec<OpeningItem> =
            self.view.items(ListKey::Openings(record.id), Default::default(), lists.openings)?;
        let by_reader = openings.iter().filter(|opening| opening.reader == reader);
        Ok(by_reader.map(|opening| opening.epoch).collect())
    }
}

fn held_version(version: &VersionItem, path: Option<&Location>) -> HeldVersion {
    HeldVersion {
        path: path.map(ToString::to_string),
        version: version.version.0,
        written: version.time.0,
        bytes_added: version.bytes_added,
    }
}
