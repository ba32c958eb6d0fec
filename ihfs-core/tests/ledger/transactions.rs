//! Transactions: signed, bounded in time, applied all or not at all and exactly once.

use ihfs_core::ids::{ChainId, DeviceId, Epoch, Generation, Height, RecordId, Time};
use ihfs_core::ledger::execute::{self, ExecuteError};
use ihfs_core::ledger::identity::MemberSealingKey;
use ihfs_core::ledger::operation::{CreateRecord, Operation, RemoveDevice, Rotate};
use ihfs_core::ledger::rules::{ApplyError, EPOCHS_PER_BLOCK_MAX, Refused};
use ihfs_core::ledger::state::{RememberedTransaction, StateKey};
use ihfs_core::ledger::transaction::{OPERATIONS_MAX, SignedTransaction, TransactionError};

use crate::world::{DOCTOR, HOUR, PATIENT, START, World, key, sealing};

fn create(nonce: u8) -> Operation {
    Operation::CreateRecord(CreateRecord { nonce: [nonce; 32] })
}

#[test]
fn a_transaction_applies_exactly_once() {
    let mut world = World::new(1);
    let transaction = world.transaction(PATIENT.id(), vec![create(1)]).sign(&PATIENT.device_key());
    let applied = world.block(&[transaction.clone(), transaction.clone()]);
    let id = transaction.id();
    assert_eq!(applied.results[0], Ok(id));
    let height = world.ledger.height();
    assert_eq!(applied.results[1], Err(Refused::AlreadyApplied { id, height }));
    assert_eq!(world.put(transaction), Err(Refused::AlreadyApplied { id, height }));
}

#[test]
fn a_transaction_applies_all_or_not_at_all() {
    let mut world = World::new(1);
    let record = RecordId::of(PATIENT.id(), &[2; 32]);
    let missing = RecordId::from_bytes([9; 32]);
    let operations = vec![create(2), Operation::Rotate(Rotate { record: missing })];
    let before = world.ledger.entries().len();
    assert_eq!(world.run(PATIENT, operations), Err(Refused::UnknownRecord { record: missing }));
    assert!(
        world
            .ledger
            .read::<ihfs_core::ledger::state::RecordEntry>(&StateKey::Record(record))
            .unwrap()
            .is_none()
    );
    assert_eq!(world.ledger.entries().len(), before);
}

#[test]
fn a_transaction_is_refused_after_its_time_and_too_long_before() {
    let mut world = World::new(1);
    let late = world.transaction(PATIENT.id(), vec![create(1)]);
    world.pass(HOUR + 1);
    let time = world.now.plus_millis(1);
    let valid_until = late.valid_until;
    assert_eq!(world.put(late.sign(&PATIENT.device_key())), Err(Refused::Expired { valid_until, time }));
    let mut long = world.transaction(PATIENT.id(), vec![create(1)]);
    long.valid_until = world.now.plus_millis(25 * HOUR);
    let (valid_until, time) = (long.valid_until, world.now.plus_millis(1));
    assert_eq!(world.put(long.sign(&PATIENT.device_key())), Err(Refused::ValidTooLong { valid_until, time }));
}

#[test]
fn a_transaction_for_another_chain_is_refused() {
    let mut world = World::new(1);
    let mut elsewhere = world.transaction(PATIENT.id(), vec![create(1)]);
    elsewhere.chain = ChainId::from_bytes([1; 32]);
    assert_eq!(world.put(elsewhere.sign(&PATIENT.device_key())), Err(Refused::WrongChain));
}

#[test]
fn a_transaction_signed_by_somebody_elses_device_is_refused() {
    let mut world = World::new(1);
    let stolen = world.transaction(PATIENT.id(), vec![create(1)]).sign(&DOCTOR.device_key());
    let (member, signer) = (PATIENT.id(), DOCTOR.device());
    assert_eq!(world.put(stolen), Err(Refused::NotADevice { member, signer }));
    let unknown = world.transaction(crate::world::Person(77).id(), vec![create(1)]).sign(&key(77));
    assert_eq!(world.put(unknown), Err(Refused::UnknownMember { member: crate::world::Person(77).id() }));
}

#[test]
fn a_transaction_with_a_flipped_bit_is_refused() {
    let mut world = World::new(1);
    let mut signed = world.transaction(PATIENT.id(), vec![create(1)]).sign(&PATIENT.device_key());
    let last = signed.bytes.len() - 1;
    signed.bytes[last] ^= 1;
    let signer = PATIENT.device();
    let refused = Refused::NotATransaction(TransactionError::BadSignature { signer });
    assert_eq!(world.put(signed), Err(refused));
}

#[test]
fn a_transaction_without_operations_or_with_too_many_is_refused() {
    let mut world = World::new(1);
    for count in [0, 257] {
        let transaction = world.transaction(PATIENT.id(), vec![create(1); count]);
        let refused = Refused::NotATransaction(TransactionError::WrongCount { found: count });
        assert_eq!(world.put(transaction.sign(&PATIENT.device_key())), Err(refused));
    }
}

#[test]
fn emergency_operations_are_refused_as_reserved() {
    let mut world = World::new(1);
    for operation in [Operation::EmergencyRequest, Operation::EmergencyApproval] {
        let name = operation.name();
        assert_eq!(world.run(PATIENT, vec![operation]), Err(Refused::Reserved { operation: name }));
    }
}

#[test]
fn a_transaction_is_forgotten_a_day_after_its_time_and_not_before() {
    let mut world = World::new(1);
    let id = world.run(PATIENT, vec![create(1)]).unwrap();
    let remembered = |world: &World| {
        world.ledger.read::<RememberedTransaction>(&StateKey::Transaction(id)).unwrap().is_some()
    };
    world.pass(24 * HOUR);
    world.block(&[]);
    assert!(remembered(&world));
    world.pass(3 * HOUR);
    world.block(&[]);
    assert!(!remembered(&world));
}

#[test]
fn the_state_of_an_idle_network_does_not_keep_what_is_forgotten() {
    let mut world = World::new(1);
    world.pass(400 * 24 * HOUR);
    world.block(&[]);
    world.block(&[]);
    let before = world.ledger.entries().len();
    for nonce in 0..20 {
        world.run(PATIENT, vec![create(nonce)]).unwrap();
    }
    world.pass(400 * 24 * HOUR);
    for _ in 0..12 {
        world.block(&[]);
    }
    // Of each record stay the record, its lists, its epoch and its place in the member's list.
    assert_eq!(world.ledger.entries().len(), before + 20 * 4);
}

#[test]
fn a_block_must_follow_in_time() {
    let mut world = World::new(1);
    world.block(&[]);
    let stuck = world.ledger.apply(world.now, &[]);
    assert!(matches!(stuck, Err(ExecuteError::Apply(ApplyError::DoesNotFollow { .. }))));
    let mut fresh = World::empty(1);
    assert!(fresh.ledger.apply(START, &[]).is_err());
    assert!(fresh.ledger.apply(Time(START.0 + 1), &[]).is_ok());
}

#[test]
fn a_block_that_holds_a_refused_transaction_is_refused() {
    let mut world = World::new(1);
    let good = world.transaction(PATIENT.id(), vec![create(1)]).sign(&PATIENT.device_key());
    let bad = world.transaction(PATIENT.id(), vec![create(1)]).sign(&PATIENT.device_key());
    let time = world.now.plus_millis(9);
    let proposed =
        execute::propose(&world.ledger, world.ledger.parent(), time, &[good.clone(), bad.clone()]).unwrap();
    assert_eq!(proposed.block.transactions.len(), 1);
    let checked = execute::validate(&world.ledger, world.ledger.parent(), &proposed.block).unwrap();
    assert_eq!(checked.tree.root, proposed.tree.root);
    let mut forged = proposed.block.clone();
    forged.transactions.push(bad.to_bytes().into());
    let refused = execute::validate(&world.ledger, world.ledger.parent(), &forged);
    assert!(matches!(refused, Err(ExecuteError::HoldsRefused { number: 1, .. })));
    let mut lying = proposed.block;
    lying.header.state = crate::world::digest(0);
    let refused = execute::validate(&world.ledger, world.ledger.parent(), &lying);
    assert!(matches!(refused, Err(ExecuteError::WrongHeader)));
}

#[test]
fn a_header_names_its_parent_and_the_first_one_the_chain() {
    let mut world = World::empty(1);
    world.block(&[]);
    world.block(&[]);
    let first = world.ledger.header(Height(1)).unwrap();
    assert_eq!(first.parent.as_bytes(), world.ledger.chain().as_bytes());
    assert_eq!(world.ledger.header(Height(2)).unwrap().parent, first.id());
    assert_eq!(world.ledger.header(Height(2)).unwrap().state, world.ledger.root());
}

#[test]
fn the_signer_is_bound_into_the_signed_bytes() {
    let mut world = World::new(1);
    let signed = world.transaction(PATIENT.id(), vec![create(1)]).sign(&PATIENT.device_key());
    assert_eq!(signed.open().unwrap().signer, DeviceId::from_bytes(PATIENT.device_key().public()));
}

#[test]
fn a_block_holds_what_fits_and_a_larger_one_is_refused() {
    let mut world = World::new(1);
    let mut nonces = 0..;
    let candidates: Vec<_> = (0..200)
        .map(|_| {
            let creates = nonces.by_ref().take(256).map(|number| {
                let nonce = *crate::world::digest(number).as_bytes();
                Operation::CreateRecord(CreateRecord { nonce })
            });
            let operations = creates.collect();
            world.transaction(PATIENT.id(), operations).sign(&PATIENT.device_key())
        })
        .collect();
    let fitting = execute::fitting(&candidates);
    assert!((1..candidates.len()).contains(&fitting));
    let (parent, time) = (world.ledger.parent(), world.now.plus_millis(1));
    let make = |count: usize| {
        let transactions = candidates[..count].iter().map(|candidate| candidate.to_bytes().into()).collect();
        let mut block = execute::propose(&world.ledger, parent, time, &[]).unwrap().block;
        block.transactions = transactions;
        execute::validate(&world.ledger, parent, &block)
    };
    assert!(!matches!(make(fitting), Err(ExecuteError::TooLarge { .. })));
    assert!(matches!(make(fitting + 1), Err(ExecuteError::TooLarge { .. })));
}

#[test]
fn a_transaction_removes_one_device_at_most() {
    let mut world = World::new(1);
    let remove = |device| {
        let sealing = MemberSealingKey::sign(&PATIENT.member_key(), Generation(1), sealing(1));
        Operation::RemoveDevice(Box::new(RemoveDevice { device, sealing, secrets: Vec::new() }))
    };
    let two = vec![remove(PATIENT.device()), remove(DOCTOR.device())];
    assert_eq!(world.run_by_words(PATIENT, two), Err(Refused::SeveralRemovals));
}

#[test]
fn epochs_beyond_the_budget_of_a_block_wait_for_the_next() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let rotations = vec![Operation::Rotate(Rotate { record }); OPERATIONS_MAX];
    let fits = EPOCHS_PER_BLOCK_MAX / OPERATIONS_MAX;
    let transactions: Vec<SignedTransaction> = (0..fits + 2)
        .map(|_| world.transaction(PATIENT.id(), rotations.clone()).sign(&PATIENT.device_key()))
        .collect();
    let before = world.ledger.clone();
    let applied = world.block(&transactions);
    assert!(applied.results[..fits].iter().all(Result::is_ok));
    assert!(applied.results[fits..].iter().all(|result| *result == Err(Refused::BlockFull)));
    assert_eq!(world.epoch(record), Epoch((fits * OPERATIONS_MAX) as u32));

    let mut block = world.ledger.block(world.ledger.height()).unwrap().clone();
    block.transactions.push(transactions[fits].to_bytes().into());
    let refused = before.clone().accept(&block).unwrap_err();
    let full = matches!(refused, ExecuteError::HoldsRefused { refused: Refused::BlockFull, .. });
    assert!(full, "{refused:?}");
    assert!(world.block(&transactions[fits..]).is_whole());
}
