//! The custody database: one row a key share, durable before anybody hears of it.
//!
//! A deleted row is never found again by this program; its pages are freed, not overwritten, and go when the database
//! uses them anew. Whoever takes the disk may read them until then.

#[cfg(test)]
mod power_cut;

use std::ops::Bound;
use std::path::Path;

use ihfs_core::codec;
use ihfs_core::crypto::derive::{Committed, commitment};
use ihfs_core::crypto::share::KeyShare;
use ihfs_core::grants::ENVELOPE_BYTES_MAX;
use ihfs_core::ids::{Digest, Epoch, GrantId, MemberId, RecordId, Time};
use ihfs_core::ledger::operation::GrantDigests;
use ihfs_core::ledger::state::StateError;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend, Table,
    TableDefinition,
};
use serde_bytes::ByteBuf;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};
use zeroize::Zeroizing;

use super::{DepositError, Fate};
use crate::database::{self, begin_write};

/// Rows by grant ‖ digest of the share.
const SHARES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("shares");
/// Shares that no grant names yet, by depositor ‖ grant ‖ digest of the share.
const ORPHANS: TableDefinition<&[u8], ()> = TableDefinition::new("orphans");
/// The version of the rows, under the empty key.
const FORMAT: TableDefinition<(), u64> = TableDefinition::new("format");
/// The version that this program writes and reads.
const FORMAT_VERSION: u64 = 2;
/// Cache in bytes: rows are small and seldom asked for twice.
const CACHE_BYTES: usize = 4 << 20;
/// Most bytes of a row: envelope, note and what is around them.
const ROW_BYTES_MAX: usize = 2 * ENVELOPE_BYTES_MAX + 1024;
/// Most shares of one member that no grant names yet.
const ORPHANS_PER_MEMBER_MAX: usize = 1024;
/// Rows looked at in one step of a sweep: about a mebibyte.
const STEP: usize = 256;

/// A fault below custody.
#[derive(Debug, thiserror::Error)]
pub enum CustodyFault {
    /// The database failed: disk full, damage, or another process holds it.
    #[error("the custody database failed")]
    Database(#[from] Box<redb::Error>),
    /// Another version of this program wrote it.
    #[error("the custody database has format {found}, and this program knows format {FORMAT_VERSION}")]
    UnknownFormat {
        /// The version found.
        found: u64,
    },
    /// A row does not decode.
    #[error("the row of grant {grant:?} is damaged")]
    Damaged {
        /// The grant.
        grant: GrantId,
    },
    /// The ledger cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What an owner leaves for one grant.
#[derive(Debug, Serialize_tuple, Deserialize_tuple)]
pub struct Deposit {
    /// Who leaves it.
    pub depositor: MemberId,
    /// The grant.
    pub grant: GrantId,
    /// The record.
    pub record: RecordId,
    /// The reader.
    pub reader: MemberId,
    /// The epoch whose key it is.
    pub epoch: Epoch,
    /// What the ledger will say.
    pub digests: GrantDigests,
    /// The share.
    pub share: KeyShare,
    /// The outer envelope.
    #[serde(with = "serde_bytes")]
    pub envelope: Vec<u8>,
    /// The note, sealed to the reader.
    #[serde(with = "serde_bytes")]
    pub note: Vec<u8>,
    /// Without a grant on the ledger it goes after this.
    pub keep_until: Time,
}

impl Deposit {
    /// Checks the parts against the digests.
    pub(super) fn check_parts(&self) -> Result<(), DepositError> {
        let fits = |bytes: &[u8]| bytes.len() <= ENVELOPE_BYTES_MAX;
        if !fits(&self.envelope) || commitment(Committed::Envelope, &self.envelope) != self.digests.envelope {
            return Err(DepositError::WrongPart { part: "envelope" });
        }
        if !fits(&self.note) || commitment(Committed::Note, &self.note) != self.digests.note {
            return Err(DepositError::WrongPart { part: "note" });
        }
        Ok(())
    }

    /// What the ledger keeps of the share.
    pub(super) fn share_digest(&self) -> Digest {
        self.share.digest()
    }

    /// Canonical bytes of the share.
    pub(super) fn share_bytes(&self) -> Vec<u8> {
        codec::encode(&self.share)
    }
}

/// Key of a row: grant ‖ digest of the share.
type Key = [u8; 64];
/// A row as it is stored, wiped when dropped.
type Row = (Key, Zeroizing<Vec<u8>>);
/// A row with its grant, as a backup holds it.
pub(super) type Intact = (GrantId, Zeroizing<Vec<u8>>);

/// The database.
#[derive(Debug)]
pub(super) struct Shares(Database);

impl Shares {
    pub(super) fn open(path: &Path) -> Result<Self, CustodyFault> {
        Self::open_on(|| database::file(path))
    }

    pub(super) fn open_on<B: StorageBackend>(
        file: impl Fn() -> Result<B, DatabaseError>,
    ) -> Result<Self, CustodyFault> {
        let database = database::open(file, CACHE_BYTES).map_err(fault)?;
        let writing = begin_write(&database).map_err(fault)?;
        let found = {
            let mut format = writing.open_table(FORMAT).map_err(fault)?;
            let found = format.get(()).map_err(fault)?.map(|found| found.value());
            if found.is_none() {
                format.insert((), FORMAT_VERSION).map_err(fault)?;
            }
            found.unwrap_or(FORMAT_VERSION)
        };
        if found != FORMAT_VERSION {
            return Err(CustodyFault::UnknownFormat { found });
        }
        writing.open_table(SHARES).map_err(fault)?;
        writing.open_table(ORPHANS).map_err(fault)?;
        writing.commit().map_err(fault)?;
        Ok(Self(database))
    }

    pub(super) fn get(&self, grant: GrantId, share: Digest) -> Result<Option<Deposit>, CustodyFault> {
        let shares = self.0.begin_read().map_err(fault)?.open_table(SHARES).map_err(fault)?;
        let Some(row) = shares.get(row_key(grant, share).as_slice()).map_err(fault)? else { return Ok(None) };
        read_row(grant, row.value()).map(Some)
    }

    /// Writes a row; durable when this returns. Rows of other shares of the grant stay: until its resharing is final,
    /// the ledger names the old one. One look and one write, so that two deposits cannot cross.
    ///
    /// # Errors
    /// [`DepositError::Taken`], [`DepositError::TooMany`], [`DepositError::Fault`].
    pub(super) fn put(&self, mut deposit: Deposit, is_named: bool) -> Result<(), DepositError> {
        let (grant, depositor, share) = (deposit.grant, deposit.depositor, deposit.share_digest());
        let writing = begin_write(&self.0).map_err(fault)?;
        {
            let mut shares = writing.open_table(SHARES).map_err(fault)?;
            let mut orphans = writing.open_table(ORPHANS).map_err(fault)?;
            // All rows of a grant are of one depositor: whoever came first.
            let (from, to) = bounds(grant);
            for (_, first) in rows(&shares, Bound::Included(from), Bound::Included(to), 1)? {
                if read_row(grant, &first)?.depositor != depositor {
                    return Err(DepositError::Taken { grant });
                }
            }
            let kept = row_key(grant, share);
            let kept = rows(&shares, Bound::Included(kept), Bound::Included(kept), 1)?.pop();
            let is_new = kept.is_none();
            if let Some((_, kept)) = kept {
                // What was signed for is kept.
                deposit.keep_until = deposit.keep_until.max(read_row(grant, &kept)?.keep_until);
            }
            let (from, to) = (orphan_bound(depositor, 0), orphan_bound(depositor, 0xff));
            let waiting = orphans.range(from.as_slice()..=to.as_slice()).map_err(fault)?.count();
            if is_new && waiting >= ORPHANS_PER_MEMBER_MAX {
                return Err(DepositError::TooMany);
            }
            write_row(&mut shares, &deposit)?;
            if !is_named {
                orphans.insert(orphan_key(depositor, grant, share).as_slice(), ()).map_err(fault)?;
            }
        }
        writing.commit().map_err(fault)?;
        Ok(())
    }

    pub(super) fn count(&self) -> Result<u64, CustodyFault> {
        let shares = self.0.begin_read().map_err(fault)?.open_table(SHARES).map_err(fault)?;
        shares.len().map_err(fault)
    }

    /// Asks `fate` about each share of a grant. Says how many were destroyed.
    pub(super) fn settle(&self, grant: GrantId, fate: &FateOf<'_>) -> Result<u64, CustodyFault> {
        let (from, to) = bounds(grant);
        let (_, destroyed) = self.settle_step(Bound::Included(from), Bound::Included(to), fate)?;
        Ok(destroyed)
    }

    /// Asks `fate` about all shares, a step at a time. Says how many were destroyed.
    pub(super) fn sweep(&self, fate: &FateOf<'_>) -> Result<u64, CustodyFault> {
        let (mut from, mut destroyed) = (Bound::Unbounded, 0);
        loop {
            let (last, gone) = self.settle_step(from, Bound::Unbounded, fate)?;
            destroyed += gone;
            match last {
                Some(last) => from = Bound::Excluded(last),
                None => return Ok(destroyed),
            }
        }
    }

    /// Settles a step's worth of rows in one transaction: a deposit comes before it or after it. A damaged row is told
    /// of and stays, unless the ledger has ended its grant. Says the last key, while there may be more.
    fn settle_step(
        &self,
        from: Bound<Key>,
        to: Bound<Key>,
        fate: &FateOf<'_>,
    ) -> Result<(Option<Key>, u64), CustodyFault> {
        let writing = begin_write(&self.0).map_err(fault)?;
        let (mut destroyed, mut is_changed) = (0, false);
        let last = {
            let mut shares = writing.open_table(SHARES).map_err(fault)?;
            let mut orphans = writing.open_table(ORPHANS).map_err(fault)?;
            let rows = rows(&shares, from, to, STEP)?;
            for (key, row) in &rows {
                let (grant, share) = split(key);
                let row = read_row(grant, row).inspect_err(|error| tracing::error!(%error, "custody")).ok();
                let fate = fate(grant, share, row.as_ref().map(|row| row.keep_until))?;
                if fate == Fate::Destroy {
                    shares.remove(key.as_slice()).map_err(fault)?;
                    destroyed += 1;
                }
                if let Some(row) = row
                    && fate != Fate::Orphan
                {
                    let orphan = orphan_key(row.depositor, grant, share);
                    is_changed |= orphans.remove(orphan.as_slice()).map_err(fault)?.is_some();
                }
            }
            rows.last().map(|(key, _)| *key)
        };
        // Without a change nothing is written: the transaction is let go.
        if is_changed || destroyed > 0 {
            writing.commit().map_err(fault)?;
        }
        Ok((last, destroyed))
    }

    /// All rows that are not damaged, for backups.
    pub(super) fn intact(&self) -> Result<Vec<Intact>, CustodyFault> {
        let shares = self.0.begin_read().map_err(fault)?.open_table(SHARES).map_err(fault)?;
        let all = rows(&shares, Bound::Unbounded, Bound::Unbounded, usize::MAX)?.into_iter();
        let intact = all.filter_map(|(key, row)| {
            let (grant, _) = split(&key);
            match read_row(grant, &row) {
                Ok(_) => Some((grant, row)),
                Err(error) => {
                    tracing::error!(%error, "left out of the backup");
                    None
                }
            }
        });
        Ok(intact.collect())
    }

    /// Puts rows of a backup back.
    pub(super) fn restore(&self, rows: &[(GrantId, ByteBuf)]) -> Result<(), CustodyFault> {
        let writing = begin_write(&self.0).map_err(fault)?;
        {
            let mut shares = writing.open_table(SHARES).map_err(fault)?;
            let mut orphans = writing.open_table(ORPHANS).map_err(fault)?;
            for (grant, row) in rows {
                let deposit = read_row(*grant, row)?;
                write_row(&mut shares, &deposit)?;
                let orphan = orphan_key(deposit.depositor, *grant, deposit.share_digest());
                orphans.insert(orphan.as_slice(), ()).map_err(fault)?;
            }
        }
        writing.commit().map_err(fault)
    }
}

/// What becomes of a share of a grant, by its digest and how long it is kept without one; that is unknown of a row
/// that is damaged.
type FateOf<'a> = dyn Fn(GrantId, Digest, Option<Time>) -> Result<Fate, CustodyFault> + 'a;

type Bytes = &'static [u8];

/// Rows in these bounds, at most so many.
fn rows(
    shares: &impl ReadableTable<Bytes, Bytes>,
    from: Bound<Key>,
    to: Bound<Key>,
    limit: usize,
) -> Result<Vec<Row>, CustodyFault> {
    let bounds = (from.as_ref().map(|key| key.as_slice()), to.as_ref().map(|key| key.as_slice()));
    let found = shares.range::<&[u8]>(bounds).map_err(fault)?.take(limit);
    found
        .map(|row| {
            let (key, row) = row.map_err(fault)?;
            let key = Key::try_from(key.value()).expect("keys are written by this file alone");
            Ok((key, Zeroizing::new(row.value().to_vec())))
        })
        .collect()
}

fn read_row(grant: GrantId, row: &[u8]) -> Result<Deposit, CustodyFault> {
    codec::decode(row, ROW_BYTES_MAX).map_err(|_| CustodyFault::Damaged { grant })
}

fn write_row(shares: &mut Table<'_, Bytes, Bytes>, deposit: &Deposit) -> Result<(), CustodyFault> {
    let row = Zeroizing::new(codec::encode(deposit));
    shares
        .insert(row_key(deposit.grant, deposit.share_digest()).as_slice(), row.as_slice())
        .map_err(fault)?;
    Ok(())
}

fn fault(error: impl Into<redb::Error>) -> CustodyFault {
    CustodyFault::Database(Box::new(error.into()))
}

fn row_key(grant: GrantId, share: Digest) -> Key {
    let mut key = [0; 64];
    key[..32].copy_from_slice(grant.as_bytes());
    key[32..].copy_from_slice(share.as_bytes());
    key
}

fn bounds(grant: GrantId) -> (Key, Key) {
    (row_key(grant, Digest::from_bytes([0; 32])), row_key(grant, Digest::from_bytes([0xff; 32])))
}

fn split(key: &Key) -> (GrantId, Digest) {
    let (grant, share) = key.split_at(32);
    let part = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).expect("half of 64 bytes");
    (GrantId::from_bytes(part(grant)), Digest::from_bytes(part(share)))
}

fn orphan_key(depositor: MemberId, grant: GrantId, share: Digest) -> [u8; 96] {
    let mut key = [0; 96];
    key[..32].copy_from_slice(depositor.as_bytes());
    key[32..].copy_from_slice(&row_key(grant, share));
    key
}

fn orphan_bound(depositor: MemberId, fill: u8) -> [u8; 96] {
    orphan_key(depositor, GrantId::from_bytes([fill; 32]), Digest::from_bytes([fill; 32]))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use ihfs_core::crypto::share::ReleaseKey;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    const OWNER: MemberId = MemberId::from_bytes([1; 32]);
    const GRANT: GrantId = GrantId::from_bytes([2; 32]);

    fn shares() -> (tempfile::TempDir, Shares) {
        let folder = tempfile::tempdir().unwrap();
        let shares = Shares::open(&folder.path().join("custody.redb")).unwrap();
        (folder, shares)
    }

    fn deposit(depositor: MemberId, grant: GrantId, seed: u8, keep_until: u64) -> Deposit {
        let random = &mut ChaCha20Rng::from_seed([seed; 32]);
        let digest = Digest::from_bytes([5; 32]);
        Deposit {
            depositor,
            grant,
            record: RecordId::from_bytes([3; 32]),
            reader: MemberId::from_bytes([4; 32]),
            epoch: Epoch(0),
            digests: GrantDigests { key: digest, release: digest, envelope: digest, note: digest },
            share: ReleaseKey::random(random).split(1, 1, random).pop().unwrap(),
            envelope: vec![6],
            note: vec![7],
            keep_until: Time(keep_until),
        }
    }

    fn damage(shares: &Shares, grant: GrantId) {
        let writing = shares.0.begin_write().unwrap();
        let key = row_key(grant, Digest::from_bytes([9; 32]));
        writing.open_table(SHARES).unwrap().insert(key.as_slice(), b"damage".as_slice()).unwrap();
        writing.commit().unwrap();
    }

    #[test]
    fn a_share_for_a_resharing_stands_beside_the_one_that_the_ledger_names() {
        let (_folder, shares) = shares();
        let (old, new) = (deposit(OWNER, GRANT, 1, 10), deposit(OWNER, GRANT, 2, 20));
        let (named, other) = (old.share_digest(), new.share_digest());
        shares.put(old, false).unwrap();
        shares.put(new, false).unwrap();
        assert_eq!(shares.get(GRANT, named).unwrap().unwrap().share_digest(), named);
        assert_eq!(shares.get(GRANT, other).unwrap().unwrap().share_digest(), other);
        let strange = deposit(MemberId::from_bytes([8; 32]), GRANT, 3, 20);
        assert!(matches!(shares.put(strange, false), Err(DepositError::Taken { .. })));
    }

    #[test]
    fn a_repeat_is_kept_as_long_as_was_ever_signed_for_and_counts_once() {
        let (_folder, shares) = shares();
        let digest = deposit(OWNER, GRANT, 1, 0).share_digest();
        for keep_until in [20, 10] {
            shares.put(deposit(OWNER, GRANT, 1, keep_until), false).unwrap();
        }
        assert_eq!(shares.get(GRANT, digest).unwrap().unwrap().keep_until, Time(20));
        assert_eq!(shares.count().unwrap(), 1);
    }

    #[test]
    fn a_damaged_row_stops_neither_the_sweep_nor_a_backup_and_goes_with_its_grant() {
        let (_folder, shares) = shares();
        let (first, last) = (GrantId::from_bytes([0; 32]), GrantId::from_bytes([0xff; 32]));
        for (grant, seed) in [(first, 1), (GRANT, 2), (last, 3)] {
            shares.put(deposit(OWNER, grant, seed, 10), false).unwrap();
        }
        damage(&shares, GRANT);
        assert_eq!(shares.intact().unwrap().len(), 3);
        let fate = |grant: GrantId, _: Digest, keep_until: Option<Time>| {
            assert!(keep_until.is_some() || grant == GRANT);
            Ok(if grant == last { Fate::Destroy } else { Fate::Orphan })
        };
        assert_eq!(shares.sweep(&fate).unwrap(), 1);
        let ended = |_: GrantId, _: Digest, _: Option<Time>| Ok(Fate::Destroy);
        assert_eq!(shares.settle(GRANT, &ended).unwrap(), 2);
        assert_eq!(shares.count().unwrap(), 1);
    }

    #[test]
    fn settling_a_grant_looks_at_its_shares_alone() {
        let (_folder, shares) = shares();
        for seed in 0..5 {
            shares.put(deposit(OWNER, GrantId::from_bytes([seed; 32]), seed, 10), false).unwrap();
        }
        let seen = RefCell::new(Vec::new());
        let fate = |grant: GrantId, _: Digest, _: Option<Time>| {
            seen.borrow_mut().push(grant);
            Ok(Fate::Keep)
        };
        shares.settle(GRANT, &fate).unwrap();
        assert_eq!(seen.into_inner(), [GRANT]);
    }

    #[test]
    fn a_sweep_in_steps_leaves_nothing_out() {
        let (_folder, shares) = shares();
        let writing = shares.0.begin_write().unwrap();
        for number in 0..=u16::try_from(2 * STEP).unwrap() {
            let mut grant = [0; 32];
            grant[..2].copy_from_slice(&number.to_be_bytes());
            write_row(
                &mut writing.open_table(SHARES).unwrap(),
                &deposit(OWNER, GrantId::from_bytes(grant), 1, 10),
            )
            .unwrap();
        }
        writing.commit().unwrap();
        let gone = shares.sweep(&|_, _, _| Ok(Fate::Destroy)).unwrap();
        assert_eq!((gone, shares.count().unwrap()), (2 * STEP as u64 + 1, 0));
    }
}
