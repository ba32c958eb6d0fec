//! Records: versions by compare-and-set, receipts, epochs.

use ihfs_core::codec;
use ihfs_core::ids::{Epoch, RecordId, Time, Version};
use ihfs_core::ledger::lists::ListKey;
use ihfs_core::ledger::operation::{Anchor, CreateRecord, Operation, Rotate};
use ihfs_core::ledger::rules::Refused;
use ihfs_core::ledger::state::{EpochEntry, StateKey, VersionItem};
use ihfs_core::receipt::{Receipt, ReceiptSubject};

use crate::world::{DOCTOR, HOUR, PATIENT, World, chunk, node_id};

fn try_anchor(
    world: &mut World,
    record: RecordId,
    change: impl FnOnce(&World, &mut Anchor),
) -> Result<(), Refused> {
    let mut anchor = world.anchor(record);
    change(world, &mut anchor);
    world.run(PATIENT, vec![Operation::Anchor(anchor)]).map(drop)
}

#[test]
fn an_anchor_becomes_the_head_and_an_item_of_the_versions() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    world.anchor_again(PATIENT, record);
    let entry = world.record(record);
    assert_eq!((entry.head.unwrap().version, entry.bytes), (Version(2), 2000));
    let items = world.ledger.items(ListKey::Versions(record), 0, 10);
    assert_eq!(entry.versions.verify(items.iter().map(Vec::as_slice)), Ok(()));
    let last: VersionItem = codec::decode(&items[1], 1024).unwrap();
    assert_eq!(
        (last.root, last.author, last.device),
        (entry.head.unwrap().root, PATIENT.id(), PATIENT.device())
    );
}

#[test]
fn of_two_racing_anchors_the_second_is_told_of_the_conflict() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let (first, second) = (world.anchor(record), world.anchor(record));
    world.run(PATIENT, vec![Operation::Anchor(first)]).unwrap();
    let refused = world.run(PATIENT, vec![Operation::Anchor(second)]);
    assert_eq!(refused, Err(Refused::Conflict { record, head: Version(2), base: Version(1) }));
}

#[test]
fn an_anchor_under_an_old_epoch_is_refused() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let old = world.anchor(record);
    world.rotate(record);
    let refused = world.run(PATIENT, vec![Operation::Anchor(old)]);
    assert_eq!(refused, Err(Refused::WrongEpoch { record, live: Epoch(1), named: Epoch(0) }));
}

#[test]
fn a_record_is_made_once_and_by_its_owner_only() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let create = Operation::CreateRecord(CreateRecord { nonce: [3; 32] });
    world.run(PATIENT, vec![create.clone()]).unwrap();
    let refused = world.run(PATIENT, vec![create.clone()]);
    assert_eq!(refused, Err(Refused::RecordExists { record: RecordId::of(PATIENT.id(), &[3; 32]) }));
    world.run(DOCTOR, vec![create]).unwrap();
    let rotate = world.run(DOCTOR, vec![Operation::Rotate(Rotate { record })]);
    assert_eq!(rotate, Err(Refused::NotTheOwner { record, member: DOCTOR.id() }));
    let anchor = world.anchor(record);
    let refused = world.run(DOCTOR, vec![Operation::Anchor(anchor)]);
    assert_eq!(refused, Err(Refused::NotTheOwner { record, member: DOCTOR.id() }));
}

#[test]
fn an_anchor_needs_receipts_of_w_zones() {
    let mut world = World::new(3);
    let record = world.anchored(PATIENT);
    let short = try_anchor(&mut world, record, |_, anchor| anchor.receipts.truncate(1));
    assert_eq!(short, Err(Refused::WrongReceipts { record, needed: 2, found: 1 }));
    let doubled = try_anchor(&mut world, record, |_, anchor| anchor.receipts[1] = anchor.receipts[0].clone());
    assert_eq!(doubled, Err(Refused::WrongReceipts { record, needed: 2, found: 2 }));
    let many = try_anchor(&mut world, record, |world, anchor| {
        anchor.receipts = world.receipts(anchor, 3);
        anchor.receipts.push(anchor.receipts[0].clone());
    });
    assert_eq!(many, Err(Refused::WrongReceipts { record, needed: 2, found: 4 }));
    let all = try_anchor(&mut world, record, |world, anchor| anchor.receipts = world.receipts(anchor, 3));
    assert_eq!(all, Ok(()));
}

#[test]
fn one_receipt_is_enough_on_one_node_and_none_is_not() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let none = try_anchor(&mut world, record, |_, anchor| anchor.receipts.clear());
    assert_eq!(none, Err(Refused::WrongReceipts { record, needed: 1, found: 0 }));
}

#[test]
fn a_receipt_about_something_else_is_refused() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let bad = Err(Refused::BadReceipt { node: node_id(2001) });
    assert_eq!(try_anchor(&mut world, record, |_, anchor| anchor.root = chunk(1)), bad);
    assert_eq!(try_anchor(&mut world, record, |_, anchor| anchor.delta = chunk(1)), bad);
    assert_eq!(try_anchor(&mut world, record, |_, anchor| anchor.bytes_added += 1), bad);
    assert_eq!(try_anchor(&mut world, record, |_, anchor| anchor.bytes_dropped += 1), bad);
    assert_eq!(try_anchor(&mut world, record, |_, anchor| anchor.receipts[0].expires = Time(u64::MAX)), bad);
    let stranger = try_anchor(&mut world, record, |_, anchor| anchor.receipts[0].node = node_id(2099));
    assert_eq!(stranger, Err(Refused::UnknownNode { node: node_id(2099) }));
}

#[test]
fn an_anchor_with_expired_receipts_is_refused() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let anchor = world.anchor(record);
    world.pass(7 * 24 * HOUR);
    let refused = world.run(PATIENT, vec![Operation::Anchor(anchor)]);
    assert_eq!(refused, Err(Refused::ReceiptExpired { node: node_id(2001) }));
}

#[test]
fn a_receipt_of_a_node_that_does_not_keep_the_record_is_refused() {
    let mut world = World::new(5);
    let record = world.anchored(PATIENT);
    let places = world.placement().replicas(record, 3, &Default::default());
    let elsewhere = (2001..2006).map(node_id).find(|node| !places.contains(node)).unwrap();
    let refused = try_anchor(&mut world, record, |world, anchor| {
        anchor.receipts[1] = world.receipt(anchor, elsewhere);
    });
    assert_eq!(refused, Err(Refused::NotPlaced { record, node: elsewhere }));
}

#[test]
fn a_receipt_by_an_unknown_placement_is_refused() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let refused = try_anchor(&mut world, record, |world, anchor| {
        let subject = ReceiptSubject {
            chain: world.ledger.chain(),
            record,
            delta: anchor.delta,
            root: anchor.root,
            bytes_added: anchor.bytes_added,
            bytes_dropped: anchor.bytes_dropped,
        };
        let key = world.node_key(node_id(2001));
        anchor.receipts[0] = Receipt::sign(&key, &subject, 9, world.now.plus_millis(HOUR));
    });
    assert_eq!(refused, Err(Refused::BadReceipt { node: node_id(2001) }));
}

#[test]
fn an_anchor_cannot_drop_more_than_there_is() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let drop = |bytes| {
        move |world: &World, anchor: &mut Anchor| {
            anchor.bytes_dropped = bytes;
            anchor.receipts = world.receipts(anchor, 2);
        }
    };
    let bad = Err(Refused::BadSizes { record });
    assert_eq!(try_anchor(&mut world, record, drop(2001)), bad);
    assert_eq!(try_anchor(&mut world, record, drop(2000)), Ok(()));
    assert_eq!(world.record(record).bytes, 0);
}

#[test]
fn no_size_that_a_version_says_stops_the_versions_after_it() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let huge = try_anchor(&mut world, record, |world, anchor| {
        anchor.bytes_added = u64::MAX;
        anchor.receipts = world.receipts(anchor, 2);
    });
    assert_eq!(huge, Ok(()));
    assert_eq!(try_anchor(&mut world, record, |_, _| ()), Ok(()));
    assert_eq!(world.record(record).bytes, u64::MAX);
}

#[test]
fn a_rolled_back_ledger_never_meets_an_old_salt_again() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let salt = |world: &World| {
        world.ledger.read::<EpochEntry>(&StateKey::Epoch(record, Epoch(1))).unwrap().unwrap().salt
    };
    let before = world.ledger.clone();
    world.rotate(record);
    let first = salt(&world);
    world.ledger = before;
    world.rotate(record);
    assert_eq!(world.epoch(record), Epoch(1));
    assert_ne!(salt(&world), first);
}

#[test]
fn two_epochs_opened_by_one_transaction_have_different_salts() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let rotate = Operation::Rotate(Rotate { record });
    world.run(PATIENT, vec![rotate.clone(), rotate]).unwrap();
    let salt =
        |epoch| world.ledger.read::<EpochEntry>(&StateKey::Epoch(record, epoch)).unwrap().unwrap().salt;
    assert_eq!(world.epoch(record), Epoch(2));
    assert_ne!(salt(Epoch(1)), salt(Epoch(2)));
}

#[test]
fn a_put_of_several_records_is_one_transaction() {
    let mut world = World::new(2);
    let records: Vec<RecordId> = (0..10).map(|_| world.anchored(PATIENT)).collect();
    let anchors: Vec<_> = records.iter().map(|record| Operation::Anchor(world.anchor(*record))).collect();
    world.run(PATIENT, anchors).unwrap();
    assert!(records.iter().all(|record| world.record(*record).head.unwrap().version == Version(2)));
}
