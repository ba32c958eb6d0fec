//! Grants, openings and revocations.

use ihfs_core::codec;
use ihfs_core::ids::{Epoch, Generation, GrantId, OpeningId, RecordId, Time, Version};
use ihfs_core::ledger::lists::ListKey;
use ihfs_core::ledger::news::News;
use ihfs_core::ledger::operation::{
    Anchor, Conditions, Grant, Open, Operation, Reshare, Revoke, RevokeTarget,
};
use ihfs_core::ledger::rules::{OPENING_PAUSE, Refused};
use ihfs_core::ledger::state::{EndReason, GrantItem, OpeningEntry, OpeningItem, StateKey};

use crate::world::{DOCTOR, HOUR, PATIENT, Person, SECOND, World, digest, node_id, revoke_reader};

fn try_grant(
    world: &mut World,
    conditions: Conditions,
    change: impl FnOnce(&mut Grant),
) -> Result<GrantId, Refused> {
    let mut grant = world.grant_of(conditions);
    change(&mut grant);
    let id = grant.id();
    world.run(PATIENT, vec![Operation::Grant(Box::new(grant))]).map(|_| id)
}

fn shared(hospitals: u32) -> (World, RecordId, GrantId) {
    let mut world = World::new(hospitals);
    let record = world.anchored(PATIENT);
    let grant = world.share(record, DOCTOR);
    (world, record, grant)
}

fn anchor_by(world: &mut World, writer: Person, record: RecordId, grant: GrantId) -> Result<(), Refused> {
    let anchor = Anchor { grant: Some(grant), ..world.anchor(record) };
    world.run(writer, vec![Operation::Anchor(anchor)]).map(drop)
}

#[test]
fn a_grant_is_listed_by_the_record_and_by_the_reader() {
    let (world, record, grant) = shared(3);
    let entry = world.grant_entry(grant);
    assert_eq!((entry.threshold, entry.custodians.len()), (2, 3));
    assert_eq!((world.record_lists(record).grants.count, world.member_lists(DOCTOR).received.count), (1, 1));
}

#[test]
fn what_others_see_of_members_and_records_tells_of_no_grant_and_no_opening() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let seen = |world: &World| (world.member(PATIENT), world.member(DOCTOR), world.record(record));
    let before = seen(&world);
    let grant = world.share(record, DOCTOR);
    assert_eq!(seen(&world), before);
    world.open(DOCTOR, grant).unwrap();
    assert_eq!(seen(&world), before);
    let (of_record, of_doctor) = (world.record_lists(record), world.member_lists(DOCTOR));
    assert_eq!((of_record.grants.count, of_record.openings.count), (1, 1));
    assert_eq!((of_doctor.received.count, of_doctor.opened.count), (1, 1));
    assert_eq!(of_record.opened_until, world.grant_entry(grant).conditions.expires);
    world.revoke(record, DOCTOR).unwrap();
    assert_eq!((world.member(PATIENT), world.member(DOCTOR)), (before.0, before.1));
    assert_eq!(world.record_lists(record).opened_until, None);
}

#[test]
fn only_the_owner_grants_revokes_and_reshares() {
    let (mut world, record, grant) = shared(1);
    let own = Err(Refused::NotTheOwner { record, member: DOCTOR.id() });
    let conditions = world.conditions(record, SECOND);
    let further = world.grant_of(conditions);
    assert_eq!(world.run(DOCTOR, vec![Operation::Grant(Box::new(further))]), own);
    assert_eq!(world.run(DOCTOR, vec![revoke_reader(record, DOCTOR)]), own);
    let custodians = world.grant_entry(grant).custodians;
    let reshare = Operation::Reshare(Reshare { grant, threshold: 1, custodians });
    assert_eq!(world.run(DOCTOR, vec![reshare]), Err(Refused::WrongGrant { grant }));
}

#[test]
fn a_live_grant_needs_a_head_in_the_live_epoch() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    world.rotate(record);
    let conditions = world.conditions(record, DOCTOR);
    let refused = try_grant(&mut world, conditions.clone(), |_| ());
    assert_eq!(refused, Err(Refused::NoHeadInEpoch { record, live: Epoch(1) }));
    let old = try_grant(&mut world, conditions.clone(), |grant| grant.epoch = Epoch(0));
    assert_eq!(old, Err(Refused::WrongEpoch { record, live: Epoch(1), named: Epoch(0) }));
    let (anchor, grant) = (world.anchor(record), world.grant_of(conditions));
    world.run(PATIENT, vec![Operation::Anchor(anchor), Operation::Grant(Box::new(grant))]).unwrap();
}

#[test]
fn a_snapshot_names_a_version_of_its_epoch() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    world.rotate(record);
    world.anchor_again(PATIENT, record);
    let snapshot = |world: &World, version| Conditions {
        snapshot: Some(Version(version)),
        ..world.conditions(record, DOCTOR)
    };
    for (version, epoch, fits) in [
        (0, 0, false),
        (1, 0, true),
        (2, 0, false),
        (1, 1, false),
        (2, 1, true),
        (3, 1, false),
        (2, 2, false),
    ] {
        let conditions = snapshot(&world, version);
        let result = try_grant(&mut world, conditions, |grant| grant.epoch = Epoch(epoch));
        let (version, epoch) = (Version(version), Epoch(epoch));
        match result {
            Ok(_) => assert!(fits, "version {version} in epoch {epoch}"),
            Err(refused) => {
                assert_eq!((refused, fits), (Refused::NoSuchVersion { record, version, epoch }, false));
            }
        }
    }
}

#[test]
fn conditions_that_contradict_themselves_are_refused() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let sound = world.conditions(record, DOCTOR);
    let past = Conditions { expires: Some(world.now), ..sound.clone() };
    let backwards = Conditions { not_before: Time(u64::MAX), ..sound.clone() };
    let written = Conditions { write: true, snapshot: Some(Version(1)), ..sound.clone() };
    let oneself = Conditions { reader: PATIENT.id(), ..sound };
    for conditions in [past, backwards, written, oneself] {
        assert!(matches!(try_grant(&mut world, conditions, |_| ()), Err(Refused::BadConditions { .. })));
    }
}

#[test]
fn a_grant_is_sealed_to_the_readers_key_of_now() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let conditions = world.conditions(record, DOCTOR);
    let refused = try_grant(&mut world, conditions.clone(), |grant| grant.generation = Generation(1));
    assert_eq!(
        refused,
        Err(Refused::WrongReaderGeneration { reader: DOCTOR.id(), generation: Generation(1) })
    );
    let nobody = Conditions { reader: Person(88).id(), ..conditions.clone() };
    assert_eq!(
        try_grant(&mut world, nobody, |_| ()),
        Err(Refused::UnknownMember { member: Person(88).id() })
    );
    // A founding hospital has no sealing key.
    let keyless = Conditions { reader: Person(1).id(), ..conditions };
    assert!(matches!(try_grant(&mut world, keyless, |_| ()), Err(Refused::WrongReaderGeneration { .. })));
}

#[test]
fn a_grant_id_is_taken_once() {
    let (mut world, record, grant) = shared(1);
    let nonce = *digest(0).as_bytes();
    let conditions = world.conditions(record, DOCTOR);
    let mut twice = world.grant_of(conditions);
    twice.nonce = nonce;
    world.sign_custody(&mut twice);
    let operation = Operation::Grant(Box::new(twice.clone()));
    world.run(PATIENT, vec![operation.clone()]).unwrap();
    assert_eq!(world.run(PATIENT, vec![operation]), Err(Refused::GrantExists { grant: twice.id() }));
    assert_ne!(twice.id(), grant);
}

#[test]
fn custodians_are_t_to_n_signing_nodes_of_different_zones() {
    let mut world = World::new(5);
    let record = world.anchored(PATIENT);
    let conditions = world.conditions(record, DOCTOR);
    let count = |result: Result<GrantId, Refused>| {
        assert!(
            matches!(result, Err(Refused::WrongCustodians { threshold: 3, wanted: 5, .. })),
            "{result:?}"
        );
    };
    count(try_grant(&mut world, conditions.clone(), |grant| grant.custodians.truncate(2)));
    count(try_grant(&mut world, conditions.clone(), |grant| grant.threshold = 2));
    count(try_grant(&mut world, conditions.clone(), |grant| {
        grant.custodians[1] = grant.custodians[0].clone()
    }));
    let unsigned = try_grant(&mut world, conditions.clone(), |grant| grant.custodians[2].share = digest(0));
    assert!(matches!(unsigned, Err(Refused::BadCustodian { .. })));
    let other_envelope =
        try_grant(&mut world, conditions.clone(), |grant| grant.digests.envelope = digest(0));
    assert!(matches!(other_envelope, Err(Refused::BadCustodian { .. })));
    let stranger =
        try_grant(&mut world, conditions.clone(), |grant| grant.custodians[2].node = node_id(2099));
    assert_eq!(stranger, Err(Refused::UnknownNode { node: node_id(2099) }));
    assert!(try_grant(&mut world, conditions, |grant| grant.custodians.truncate(3)).is_ok());
}

#[test]
fn a_custodian_that_would_drop_its_share_too_early_is_refused() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let conditions = world.conditions(record, DOCTOR);
    let grant = world.grant_of(conditions);
    let mut transaction = world.transaction(PATIENT.id(), vec![Operation::Grant(Box::new(grant.clone()))]);
    world.pass(26 * HOUR);
    transaction.valid_until = world.now.plus_millis(23 * HOUR);
    let refused = world.put(transaction.sign(&PATIENT.device_key()));
    assert_eq!(refused, Err(Refused::BadCustodian { grant: grant.id(), node: node_id(2001) }));
}

#[test]
fn a_reader_opens_what_he_was_granted_and_it_is_listed_twice() {
    let (mut world, record, grant) = shared(1);
    let transaction = world.open(DOCTOR, grant).unwrap();
    let opening = OpeningId::of(transaction, 0);
    let entry: OpeningEntry = world.ledger.read(&StateKey::Opening(opening)).unwrap().unwrap();
    assert_eq!((entry.reader, entry.device, entry.grants), (DOCTOR.id(), DOCTOR.device(), vec![grant]));
    let of_record = world.ledger.items(ListKey::Openings(record), 0, 10);
    assert_eq!(of_record, world.ledger.items(ListKey::Opened(DOCTOR.id()), 0, 10));
    let item: OpeningItem = codec::decode(&of_record[0], 1024).unwrap();
    assert_eq!((item.grant, item.version, item.epoch), (grant, Version(1), Epoch(0)));
    let list = world.record_lists(record).openings;
    assert_eq!(list.verify(of_record.iter().map(Vec::as_slice)), Ok(()));
    assert!(list.verify([]).is_err(), "an opening that is left out is noticed");
}

#[test]
fn an_opening_is_forgotten_when_it_is_no_longer_served_and_stays_listed() {
    let (mut world, record, grant) = shared(1);
    let opening = OpeningId::of(world.open(DOCTOR, grant).unwrap(), 0);
    let there =
        |world: &World| world.ledger.read::<OpeningEntry>(&StateKey::Opening(opening)).unwrap().is_some();
    world.pass(11 * HOUR);
    world.block(&[]);
    assert!(there(&world));
    world.pass(3 * HOUR);
    world.block(&[]);
    assert!(!there(&world));
    assert_eq!(world.record_lists(record).openings.count, 1);
}

#[test]
fn one_opening_names_many_grants_in_order() {
    let mut world = World::new(1);
    let mut grants: Vec<GrantId> = Vec::new();
    for _ in 0..3 {
        let record = world.anchored(PATIENT);
        grants.push(world.share(record, DOCTOR));
    }
    grants.sort_unstable();
    let open = |grants: Vec<GrantId>| vec![Operation::Open(Open { grants })];
    world.run(DOCTOR, open(grants.clone())).unwrap();
    assert_eq!(world.member_lists(DOCTOR).opened.count, 3);
    let bad = Err(Refused::BadOpening);
    assert_eq!(world.run(DOCTOR, open(vec![])), bad);
    assert_eq!(world.run(DOCTOR, open(vec![grants[1], grants[0]])), bad);
    assert_eq!(world.run(DOCTOR, open(vec![grants[0], grants[0]])), bad);
    let needs = Err(Refused::NeedsDevice { operation: "open" });
    assert_eq!(world.run_by_words(DOCTOR, open(grants)), needs);
}

#[test]
fn a_grant_is_not_opened_again_and_again() {
    let (mut world, record, grant) = shared(1);
    let open = Operation::Open(Open { grants: vec![grant] });
    let again = world.now.plus_millis(1 + OPENING_PAUSE);
    let lately = |again| Err(Refused::OpenedLately { grant, again });
    assert_eq!(world.run(DOCTOR, vec![open.clone(), open]), lately(again));
    world.open(DOCTOR, grant).unwrap();
    let again = world.now.plus_millis(OPENING_PAUSE);
    world.pass(OPENING_PAUSE - 2);
    assert_eq!(world.open(DOCTOR, grant), lately(again));
    world.open(DOCTOR, grant).unwrap();
    assert_eq!(world.record_lists(record).openings.count, 2);
}

#[test]
fn nobody_opens_anothers_grant_or_one_that_is_not_open() {
    let (mut world, record, grant) = shared(1);
    assert_eq!(world.open(SECOND, grant), Err(Refused::WrongGrant { grant }));
    let unknown = GrantId::from_bytes([1; 32]);
    assert_eq!(world.open(DOCTOR, unknown), Err(Refused::UnknownGrant { grant: unknown }));
    let not_before = world.now.plus_millis(HOUR);
    let conditions = Conditions { not_before, ..world.conditions(record, DOCTOR) };
    let early = world.share_with(conditions);
    assert_eq!(world.open(DOCTOR, early), Err(Refused::NotYet { grant: early, not_before }));
    world.pass(HOUR);
    world.open(DOCTOR, early).unwrap();
    world.pass(30 * 24 * HOUR);
    assert_eq!(world.open(DOCTOR, grant), Err(Refused::GrantExpired { grant }));
}

#[test]
fn a_revoked_doctor_opens_nothing_after_the_block() {
    let (mut world, record, grant) = shared(1);
    world.open(DOCTOR, grant).unwrap();
    world.revoke(record, DOCTOR).unwrap();
    assert_eq!(world.open(DOCTOR, grant), Err(Refused::GrantEnded { grant }));
    assert_eq!(world.epoch(record), Epoch(1));
    assert_eq!(world.grant_entry(grant).ended.unwrap().why, EndReason::Revoked);
    assert_eq!(world.revoke(record, DOCTOR), Err(Refused::NothingToRevoke { record }));
}

#[test]
fn a_revocation_tells_custodians_and_lists_the_end() {
    let (mut world, record, grant) = shared(3);
    let transaction =
        world.transaction(PATIENT.id(), vec![revoke_reader(record, DOCTOR)]).sign(&PATIENT.device_key());
    let news = world.block(&[transaction]).news;
    let told = |news: &News| matches!(news, News::Ended { grant: ended, custodians, .. } if *ended == grant && custodians.len() == 3);
    assert!(news.iter().any(told));
    assert!(news.contains(&News::EpochOpened { record, epoch: Epoch(1) }));
    let items = world.ledger.items(ListKey::Grants(record), 0, 10);
    let end: GrantItem = codec::decode(&items[1], 1024).unwrap();
    assert!(matches!(end, GrantItem::Ended(ended, _) if ended == grant));
}

#[test]
fn a_revocation_has_the_same_size_whatever_the_record_holds() {
    let size = |anchors: u64| {
        let (mut world, record, _) = shared(1);
        for number in 0..anchors {
            let mut anchor = world.anchor(record);
            anchor.bytes_added = 1 << (20 + number);
            anchor.receipts = world.receipts(&anchor, 2);
            world.run(PATIENT, vec![Operation::Anchor(anchor)]).unwrap();
        }
        let revoke = revoke_reader(record, DOCTOR);
        let signed = world.transaction(PATIENT.id(), vec![revoke]).sign(&PATIENT.device_key());
        let bytes = signed.to_bytes().len();
        let applied = world.block(&[signed]);
        assert!(applied.is_whole());
        (bytes, applied.writes.len())
    };
    assert_eq!(size(1), size(30));
    assert!(size(1).0 < 400, "{:?}", size(1));
}

#[test]
fn a_writer_racing_a_revocation_is_refused_and_the_owner_goes_on() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let conditions = Conditions { write: true, ..world.conditions(record, DOCTOR) };
    let grant = world.share_with(conditions);
    world.open(DOCTOR, grant).unwrap();
    let racing = Anchor { grant: Some(grant), ..world.anchor(record) };
    let revoke = world.transaction(PATIENT.id(), vec![revoke_reader(record, DOCTOR)]);
    let anchor = world.transaction(DOCTOR.id(), vec![Operation::Anchor(racing)]);
    let block = [revoke.sign(&PATIENT.device_key()), anchor.sign(&DOCTOR.device_key())];
    let applied = world.block(&block);
    assert!(applied.results[0].is_ok());
    assert_eq!(applied.results[1], Err(Refused::GrantEnded { grant }));
    world.anchor_again(PATIENT, record);
    assert_eq!(world.record(record).head.unwrap().epoch, Epoch(1));
}

#[test]
fn a_revocation_takes_no_version_so_that_no_race_starves_it() {
    let (mut world, record, _) = shared(1);
    let revoke = world.transaction(PATIENT.id(), vec![revoke_reader(record, DOCTOR)]);
    world.anchor_again(PATIENT, record);
    world.anchor_again(PATIENT, record);
    assert!(world.put(revoke.sign(&PATIENT.device_key())).is_ok());
}

#[test]
fn other_readers_keep_the_last_version_and_get_the_next_when_issued_again() {
    let (mut world, record, revoked) = shared(1);
    let kept = world.share(record, SECOND);
    world.revoke(record, DOCTOR).unwrap();
    world.open(SECOND, kept).unwrap();
    let conditions = world.grant_entry(kept).conditions;
    let anchor = world.anchor(record);
    let again = Grant { replaces: Some(kept), ..world.grant_of(conditions.clone()) };
    let new = again.id();
    world.run(PATIENT, vec![Operation::Anchor(anchor), Operation::Grant(Box::new(again))]).unwrap();
    assert_eq!(world.grant_entry(kept).ended.unwrap().why, EndReason::Replaced(new));
    assert_eq!((world.grant_entry(new).epoch, world.grant_entry(new).first), (Epoch(1), kept));
    assert_eq!(world.open(SECOND, kept), Err(Refused::GrantEnded { grant: kept }));
    world.open(SECOND, new).unwrap();
    let back = try_grant(&mut world, conditions, |grant| grant.replaces = Some(revoked));
    assert_eq!(back, Err(Refused::GrantEnded { grant: revoked }));
}

#[test]
fn a_grant_is_issued_again_under_the_same_conditions_only() {
    let (mut world, record, grant) = shared(1);
    let same = world.grant_entry(grant).conditions;
    let longer = Conditions { expires: None, ..same.clone() };
    let writing = Conditions { write: true, ..same.clone() };
    let other = Conditions { reader: SECOND.id(), ..same.clone() };
    for conditions in [longer, writing, other] {
        let refused = try_grant(&mut world, conditions, |again| again.replaces = Some(grant));
        assert_eq!(refused, Err(Refused::OtherConditions { grant }));
    }
    try_grant(&mut world, same, |again| again.replaces = Some(grant)).unwrap();
    assert_eq!(world.record_lists(record).grants.count, 3);
}

#[test]
fn a_revocation_finds_a_grant_by_any_id_it_was_issued_under() {
    let (mut world, record, first) = shared(1);
    let conditions = world.grant_entry(first).conditions;
    let second = try_grant(&mut world, conditions, |again| again.replaces = Some(first)).unwrap();
    let revoke = Operation::Revoke(Revoke { record, target: RevokeTarget::Grant(first) });
    world.run(PATIENT, vec![revoke.clone()]).unwrap();
    assert_eq!(world.grant_entry(second).ended.unwrap().why, EndReason::Revoked);
    assert_eq!(world.run(PATIENT, vec![revoke]), Err(Refused::NothingToRevoke { record }));
}

#[test]
fn a_writer_anchors_after_a_fresh_opening_and_only_adds() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let read_only = world.share(record, SECOND);
    world.open(SECOND, read_only).unwrap();
    let wrong = Err(Refused::WrongGrant { grant: read_only });
    assert_eq!(anchor_by(&mut world, SECOND, record, read_only), wrong);
    let conditions = Conditions { write: true, ..world.conditions(record, DOCTOR) };
    let grant = world.share_with(conditions);
    assert_eq!(anchor_by(&mut world, DOCTOR, record, grant), Err(Refused::NotOpened { grant }));
    world.open(DOCTOR, grant).unwrap();
    assert_eq!(anchor_by(&mut world, DOCTOR, record, grant), Ok(()));
    let drops = Anchor { grant: Some(grant), bytes_dropped: 1, ..world.anchor(record) };
    let refused = world.run(DOCTOR, vec![Operation::Anchor(drops)]);
    assert_eq!(refused, Err(Refused::OnlyOwnerDrops { record }));
    assert_eq!(anchor_by(&mut world, SECOND, record, grant), Err(Refused::WrongGrant { grant }));
    assert_eq!(anchor_by(&mut world, PATIENT, record, grant), Err(Refused::WrongGrant { grant }));
    world.pass(12 * HOUR);
    assert_eq!(anchor_by(&mut world, DOCTOR, record, grant), Err(Refused::NotOpened { grant }));
}

#[test]
fn a_writer_with_the_key_of_an_older_epoch_is_refused() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let conditions = Conditions { write: true, ..world.conditions(record, DOCTOR) };
    let grant = world.share_with(conditions);
    world.open(DOCTOR, grant).unwrap();
    world.rotate(record);
    let refused = anchor_by(&mut world, DOCTOR, record, grant);
    assert_eq!(refused, Err(Refused::GrantOfOlderEpoch { grant, epoch: Epoch(0), live: Epoch(1) }));
}

#[test]
fn after_an_opened_grant_expired_the_owner_rotates_first_and_a_writer_need_not() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let expires = world.now.plus_millis(HOUR);
    let short = Conditions { expires: Some(expires), ..world.conditions(record, DOCTOR) };
    let short = world.share_with(short);
    let conditions = Conditions { write: true, ..world.conditions(record, SECOND) };
    let writer = world.share_with(conditions);
    world.open(DOCTOR, short).unwrap();
    world.open(SECOND, writer).unwrap();
    world.anchor_again(PATIENT, record);
    world.pass(HOUR);
    let anchor = world.anchor(record);
    let refused = world.run(PATIENT, vec![Operation::Anchor(anchor)]);
    assert_eq!(refused, Err(Refused::RotateFirst { record, expired: expires }));
    assert_eq!(anchor_by(&mut world, SECOND, record, writer), Ok(()));
    world.rotate(record);
    world.anchor_again(PATIENT, record);
}

#[test]
fn an_expired_grant_that_nobody_opened_needs_no_rotation() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let conditions =
        Conditions { expires: Some(world.now.plus_millis(HOUR)), ..world.conditions(record, DOCTOR) };
    world.share_with(conditions.clone());
    let snapshot = Conditions { snapshot: Some(Version(1)), ..conditions };
    let snapshot = world.share_with(snapshot);
    world.open(DOCTOR, snapshot).unwrap();
    world.pass(2 * HOUR);
    world.anchor_again(PATIENT, record);
}

/// Parent, child and grandchild, each a record of its own shared under the one before.
fn nested() -> (World, [RecordId; 3], [GrantId; 3]) {
    let mut world = World::new(1);
    let records = [(); 3].map(|()| world.anchored(PATIENT));
    let mut grants: Vec<GrantId> = Vec::new();
    for record in records {
        let conditions = Conditions { parent: grants.last().copied(), ..world.conditions(record, DOCTOR) };
        let conditions = Conditions { expires: None, ..conditions };
        grants.push(world.share_with(conditions));
    }
    (world, records, grants.try_into().unwrap())
}

#[test]
fn revoking_the_parent_ends_all_nested_grants_and_advances_their_records() {
    let (mut world, records, grants) = nested();
    world.revoke(records[0], DOCTOR).unwrap();
    let why = grants.map(|grant| world.grant_entry(grant).ended.unwrap().why);
    assert_eq!(why, [EndReason::Revoked, EndReason::Parent, EndReason::Parent]);
    assert_eq!(records.map(|record| world.epoch(record)), [Epoch(1); 3]);
}

#[test]
fn revoking_a_child_leaves_the_parent() {
    let (mut world, records, grants) = nested();
    world.revoke(records[1], DOCTOR).unwrap();
    assert_eq!(grants.map(|grant| world.grant_entry(grant).ended.is_some()), [false, true, true]);
    assert_eq!(records.map(|record| world.epoch(record)), [Epoch(0), Epoch(1), Epoch(1)]);
}

#[test]
fn nested_grants_end_with_a_parent_that_was_issued_again() {
    let (mut world, records, grants) = nested();
    let conditions = world.grant_entry(grants[0]).conditions;
    let again = try_grant(&mut world, conditions, |grant| grant.replaces = Some(grants[0])).unwrap();
    assert!(grants[1..].iter().all(|grant| world.grant_entry(*grant).ended.is_none()));
    world.revoke(records[0], DOCTOR).unwrap();
    assert!([again, grants[1], grants[2]].iter().all(|grant| world.grant_entry(*grant).ended.is_some()));
}

#[test]
fn a_parent_of_another_reader_or_shorter_life_is_refused() {
    let (mut world, records, grants) = nested();
    let other = world.anchored(PATIENT);
    let child = Conditions { parent: Some(grants[0]), ..world.conditions(other, SECOND) };
    assert!(matches!(try_grant(&mut world, child, |_| ()), Err(Refused::BadParent { .. })));
    let own = Conditions { parent: Some(grants[0]), ..world.conditions(records[0], DOCTOR) };
    assert!(matches!(try_grant(&mut world, own, |_| ()), Err(Refused::BadParent { .. })));
    let short = world.share(other, DOCTOR);
    let next = world.anchored(PATIENT);
    let outlives = Conditions { parent: Some(short), expires: None, ..world.conditions(next, DOCTOR) };
    assert!(matches!(try_grant(&mut world, outlives, |_| ()), Err(Refused::BadParent { .. })));
    world.revoke(records[0], DOCTOR).unwrap();
    let orphan = Conditions { parent: Some(grants[0]), ..world.conditions(next, DOCTOR) };
    let ended = try_grant(&mut world, orphan, |_| ());
    assert_eq!(ended, Err(Refused::GrantEnded { grant: grants[0] }));
}

#[test]
fn grants_nest_to_a_bounded_depth() {
    let mut world = World::new(1);
    let mut parent = None;
    for depth in 0..20 {
        let record = world.anchored(PATIENT);
        let conditions = Conditions { parent, ..world.conditions(record, DOCTOR) };
        let conditions = Conditions { expires: None, ..conditions };
        match try_grant(&mut world, conditions, |_| ()) {
            Ok(grant) => parent = Some(grant),
            Err(Refused::TooManyNested { .. }) => return assert_eq!(depth, 17),
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("nested without end");
}

#[test]
fn a_reader_has_a_bounded_number_of_grants_and_expired_ones_make_room() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    for _ in 0..8 {
        world.share(record, DOCTOR);
    }
    let conditions = world.conditions(record, DOCTOR);
    let refused = try_grant(&mut world, conditions, |_| ());
    assert_eq!(refused, Err(Refused::TooManyGrants { record, reader: DOCTOR.id() }));
    world.share(record, SECOND);
    world.pass(31 * 24 * HOUR);
    world.share(record, DOCTOR);
}

#[test]
fn a_reshared_grant_has_new_custodians() {
    let (mut world, _, grant) = shared(5);
    let entry = world.grant_entry(grant);
    let nodes: Vec<_> = entry.custodians[1..4].iter().map(|custodian| custodian.node).collect();
    let custodians: Vec<_> = nodes.iter().map(|node| world.custodian(grant, entry.digests, *node)).collect();
    let reshare = Operation::Reshare(Reshare { grant, threshold: 3, custodians: custodians.clone() });
    world.run(PATIENT, vec![reshare.clone()]).unwrap();
    assert_eq!(world.grant_entry(grant).custodians, custodians);
    let record = entry.conditions.record;
    world.revoke(record, DOCTOR).unwrap();
    assert_eq!(world.run(PATIENT, vec![reshare]), Err(Refused::GrantEnded { grant }));
}
