//! The power goes away at every write point while key shares come and go; what was signed for is there afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as FilePath;
use std::sync::Arc;

use ihfs_core::crypto::share::ReleaseKey;
use ihfs_core::ledger::operation::{Custodian, CustodySubject};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use redb::backends::InMemoryBackend;

use super::*;
use crate::custody::Custody;
use crate::keys::NodeKey;
use crate::ledger::Ledger;
use crate::ledger::sample::{self, START};
use crate::store::sim_disk::SimDisk;

const LAST: u8 = 6;
/// A share is destroyed after each deposit from this one on: that of the deposit this many before.
const DESTROYED_BEHIND: u8 = 2;
/// The deposit before which custody is closed and opened again.
const REOPENED_BEFORE: u8 = 4;

/// What the node told others.
#[derive(Default)]
struct Told {
    signed: BTreeMap<u8, Custodian>,
    destroyed: BTreeSet<u8>,
}

fn ledger() -> Arc<Ledger> {
    let file = || Ok(InMemoryBackend::new());
    let path = FilePath::new("ledger.redb");
    Arc::new(Ledger::open_on(file, path, sample::genesis(&[1]), sample::clock).unwrap())
}

fn open(disk: &SimDisk, ledger: &Arc<Ledger>) -> Result<Arc<Custody>, CustodyFault> {
    let shares = Shares::open_on(|| disk.database("custody.redb"))?;
    Custody::over(shares, ledger, Arc::new(NodeKey::from_bytes([1; 32])), sample::clock)
}

fn grant(number: u8) -> GrantId {
    GrantId::from_bytes([number; 32])
}

fn deposit(number: u8) -> Deposit {
    let random = &mut ChaCha20Rng::from_seed([number; 32]);
    let (envelope, note) = (vec![number; 2000], vec![number; 100]);
    let digests = GrantDigests {
        key: Digest::of(b"key"),
        release: Digest::of(b"release"),
        envelope: commitment(Committed::Envelope, &envelope),
        note: commitment(Committed::Note, &note),
    };
    Deposit {
        depositor: MemberId::from_bytes([1; 32]),
        grant: grant(number),
        record: RecordId::from_bytes([2; 32]),
        reader: MemberId::from_bytes([3; 32]),
        epoch: Epoch(0),
        digests,
        share: ReleaseKey::random(random).split(1, 1, random).pop().unwrap(),
        envelope,
        note,
        keep_until: START.plus_millis(60_000),
    }
}

/// Deposits and destroys; `None` once the power is gone.
fn run(disk: &SimDisk, ledger: &Arc<Ledger>, told: &mut Told) -> Option<()> {
    let mut custody = open(disk, ledger).ok()?;
    for number in 1..=LAST {
        if number == REOPENED_BEFORE {
            drop(custody);
            custody = open(disk, ledger).ok()?;
        }
        told.signed.insert(number, custody.deposit(deposit(number)).ok()?);
        if number > DESTROYED_BEHIND {
            let ended = number - DESTROYED_BEHIND;
            // From the attempt on it may be gone.
            told.signed.remove(&ended);
            custody.shares.settle(grant(ended), &|_, _, _| Ok(Fate::Destroy)).ok()?;
            told.destroyed.insert(ended);
        }
    }
    Some(())
}

/// Grants and shares of all rows, and of the list of those that no grant names.
fn keys(shares: &Shares) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let reading = shares.0.begin_read().unwrap();
    let rows = reading.open_table(SHARES).unwrap();
    let orphans = reading.open_table(ORPHANS).unwrap();
    let rows = rows.iter().unwrap().map(|row| row.unwrap().0.value().to_vec());
    let orphans = orphans.iter().unwrap().map(|row| row.unwrap().0.value()[32..].to_vec());
    (rows.collect(), orphans.collect())
}

fn check_after_cut(disk: &SimDisk, ledger: &Arc<Ledger>, told: &Told, story: &str) {
    let custody = open(disk, ledger).unwrap_or_else(|error| panic!("{story}: {error:?}"));
    for (number, custodian) in &told.signed {
        let expected = deposit(*number);
        let kept = custody.shares.get(grant(*number), custodian.share).unwrap();
        let kept = kept.unwrap_or_else(|| panic!("{story}: share {number} was signed for and is gone"));
        assert_eq!(codec::encode(&kept), codec::encode(&expected), "{story}");
        let subject =
            CustodySubject { chain: ledger.chain(), grant: grant(*number), digests: expected.digests };
        subject.verify(custodian).unwrap();
    }
    for number in &told.destroyed {
        let kept = custody.shares.get(grant(*number), deposit(*number).share_digest()).unwrap();
        assert!(kept.is_none(), "{story}: share {number} was destroyed and is back");
    }
    let (rows, orphans) = keys(&custody.shares);
    assert_eq!(rows, orphans, "{story}: a mixture");
    assert_eq!(custody.shares.intact().unwrap().len(), rows.len(), "{story}: a torn row");
    let again = custody.deposit(deposit(LAST + 1)).unwrap();
    drop(custody);
    let shares = Shares::open_on(|| disk.database("custody.redb")).unwrap();
    assert!(shares.get(grant(LAST + 1), again.share).unwrap().is_some(), "{story}");
}

#[test]
fn a_key_share_that_was_signed_for_is_kept_and_a_destroyed_one_stays_away_wherever_the_power_is_cut() {
    let ledger = ledger();
    for point in 1.. {
        let disk = SimDisk::new();
        disk.cut_after(point);
        let mut told = Told::default();
        let ended = run(&disk, &ledger, &mut told);
        let story = format!("cut at write point {point}");
        check_after_cut(&disk.after_power_cut(point), &ledger, &told, &story);
        if !disk.was_cut() {
            assert!(ended.is_some() && point > 50, "the run has many write points, found {point}");
            return;
        }
    }
}
