//! The power goes away at every write point while blocks are taken; whole blocks are there afterwards.

use std::collections::BTreeMap;
use std::path::Path;

use ihfs_core::crypto::sign::Purpose;
use ihfs_core::ledger::certificate::{VoteKind, vote_bytes};
use ihfs_core::ledger::execute::genesis_root;
use ihfs_core::ledger::operation::{Change, Operation, Propose, Rotate};
use ihfs_core::ledger::proof::rebuild_tree;
use ihfs_core::ledger::transaction::SignedTransaction;
use redb::{Key, Value};

use super::*;
use crate::consensus::Origin;
use crate::ledger::sample::{self, START};
use crate::ledger::{Ledger, LedgerError};
use crate::store::sim_disk::SimDisk;

const LAST: u8 = 5;
/// The block that changes the validators.
const CHANGES_VALIDATORS: u8 = 2;
/// The block before which the ledger is closed and opened again.
const REOPENED_BEFORE: u8 = 4;
const RECORDS_PER_BLOCK: u8 = 3;

/// All that a database holds: table, key, value.
type Rows = BTreeMap<(String, Vec<u8>), Vec<u8>>;

fn open(disk: &SimDisk) -> Result<Ledger, LedgerError> {
    let file = || disk.database("ledger.redb");
    Ledger::open_on(file, Path::new("ledger.redb"), sample::genesis(&[1]), sample::clock)
}

fn transactions(chain: ChainId, block: u8) -> Vec<SignedTransaction> {
    let number = |block: u8, place: u8| block * 10 + place;
    let mut transactions: Vec<_> =
        (0..RECORDS_PER_BLOCK).map(|place| sample::creates(chain, number(block, place))).collect();
    let operation = match block {
        1 => return transactions,
        CHANGES_VALIDATORS => Operation::Propose(Propose {
            change: Change::Validators(sample::validators(&[1], 2)),
            effective: Height(0),
            expires: START.plus_millis(60_000),
        }),
        _ => Operation::Rotate(Rotate { record: sample::record(number(block - 1, 0)) }),
    };
    transactions.push(sample::asks(chain, number(block, RECORDS_PER_BLOCK), operation));
    transactions
}

/// Takes the next block; `None` once the power is gone.
fn take_next(ledger: &Ledger) -> Option<()> {
    let snapshot = ledger.snapshot();
    let height = snapshot.newest().height.next();
    let block = u8::try_from(height.0).unwrap();
    let time = START.plus_millis(1000 * height.0);
    let transactions = transactions(ledger.chain(), block);
    let executed = execute::propose(&*snapshot, snapshot.parent(), time, &transactions).ok()?;
    assert!(executed.applied.results.iter().all(Result::is_ok), "{:?}", executed.applied.results);
    let id = executed.block.header.id();
    let set = snapshot.consortium().ok()?.next;
    let vote = vote_bytes(ledger.chain(), VoteKind::Precommit, height, 0, Some(id));
    let signature = sample::key(1).sign(Purpose::Vote, &vote);
    let certificate = Certificate::new(&set, height, 0, id, &[(sample::node(1), signature)]);
    certificate.verify(ledger.chain(), &set).unwrap();
    ledger.commit(executed, &certificate, Origin::Live).ok()
}

/// Founds the ledger and takes all blocks; `None` once the power is gone. `taken` is the last height acknowledged.
fn run(disk: &SimDisk, taken: &mut u8) -> Option<Ledger> {
    let mut ledger = open(disk).ok()?;
    for block in 1..=LAST {
        if block == REOPENED_BEFORE {
            drop(ledger);
            ledger = open(disk).ok()?;
        }
        take_next(&ledger)?;
        *taken = block;
    }
    Some(ledger)
}

fn table<K: Key + 'static, V: Value + 'static>(
    rows: &mut Rows,
    ledger: &Ledger,
    table: TableDefinition<K, V>,
) {
    let opened = ledger.database.begin_read().unwrap().open_table(table).unwrap();
    for row in opened.iter().unwrap() {
        let (key, value) = row.unwrap();
        let key = K::as_bytes(&key.value()).as_ref().to_vec();
        let value = V::as_bytes(&value.value()).as_ref().to_vec();
        rows.insert((redb::TableHandle::name(&table).to_owned(), key), value);
    }
}

fn rows(ledger: &Ledger) -> Rows {
    let mut rows = Rows::new();
    table(&mut rows, ledger, META);
    for bytes in [ENTRIES, PAGES, ITEMS] {
        table(&mut rows, ledger, bytes);
    }
    for numbered in [BLOCKS, CERTIFICATES, HANDOVERS] {
        table(&mut rows, ledger, numbered);
    }
    rows
}

/// The state root by the entries alone, and the one that the newest header names.
fn roots(ledger: &Ledger) -> (ihfs_core::ids::Digest, ihfs_core::ids::Digest) {
    let snapshot = ledger.snapshot();
    let mut entries = Writes::new();
    for row in snapshot.entries.iter().unwrap() {
        let (key, value) = row.unwrap();
        entries.insert(key.value().to_vec(), Some(value.value().to_vec()));
    }
    let root = rebuild_tree(snapshot.newest().height, &entries).unwrap().root;
    let named = snapshot.header().map(|header| header.state);
    (root, named.unwrap_or_else(|| genesis_root(ledger.genesis()).unwrap()))
}

/// What the database holds at each height when the power stays.
fn expected() -> Vec<Rows> {
    let ledger = open(&SimDisk::new()).unwrap();
    let mut expected = vec![rows(&ledger)];
    for _ in 1..=LAST {
        take_next(&ledger).unwrap();
        expected.push(rows(&ledger));
    }
    expected
}

/// Opens what survived, holds it against what was acknowledged, and goes on to the last block.
fn check_after_cut(disk: &SimDisk, expected: &[Rows], taken: u8, story: &str) {
    let ledger = open(disk).unwrap_or_else(|error| panic!("{story}: {error:?}"));
    let height = usize::try_from(ledger.snapshot().newest().height.0).unwrap();
    let taken = usize::from(taken);
    assert!(height == taken || height == taken + 1, "{story}: {taken} taken, {height} found");
    assert!(rows(&ledger) == expected[height], "{story}: a mixture at height {height}");
    let (root, named) = roots(&ledger);
    assert_eq!(root, named, "{story}");
    for _ in height..usize::from(LAST) {
        take_next(&ledger).unwrap();
    }
    drop(ledger);
    assert!(rows(&open(disk).unwrap()) == expected[usize::from(LAST)], "{story}: it does not go on");
}

#[test]
fn a_block_its_certificate_and_its_state_are_there_whole_or_not_at_all_wherever_the_power_is_cut() {
    let expected = expected();
    for point in 1.. {
        let disk = SimDisk::new();
        disk.cut_after(point);
        let mut taken = 0;
        drop(run(&disk, &mut taken));
        check_after_cut(
            &disk.after_power_cut(point),
            &expected,
            taken,
            &format!("cut at write point {point}"),
        );
        if !disk.was_cut() {
            assert!(taken == LAST && point > 50, "the run has many write points, found {point}");
            return;
        }
    }
}

#[test]
fn a_ledger_that_is_cut_again_while_it_opens_after_a_cut_is_whole() {
    let expected = expected();
    for first in (10..).step_by(7) {
        let disk = SimDisk::new();
        disk.cut_after(first);
        let mut taken = 0;
        drop(run(&disk, &mut taken));
        for second in 1.. {
            let found = disk.after_power_cut(first);
            found.cut_after(second);
            drop(open(&found));
            let story = format!("cut at write point {first} and again at {second}");
            check_after_cut(&found.after_power_cut(second), &expected, taken, &story);
            if !found.was_cut() {
                break;
            }
        }
        if !disk.was_cut() {
            return;
        }
    }
}
