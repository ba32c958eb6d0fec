//! Nodes, statements about copies, proposals and votes.

use ihfs_core::crypto::sign::Purpose;
use ihfs_core::ids::{Height, MemberId, RecordId, Time, Version};
use ihfs_core::ledger::certificate::{Validator, ValidatorSet};
use ihfs_core::ledger::execute::ExecuteError;
use ihfs_core::ledger::identity::node_bytes;
use ihfs_core::ledger::operation::{
    Admission, Attest, Change, CreateRecord, Drain, Operation, Propose, RegisterNode, Vote,
};
use ihfs_core::ledger::rules::{ApplyError, Refused};
use ihfs_core::ledger::state::{ConsortiumEntry, Policy, StateKey};
use ihfs_core::placement::Region;

use crate::world::{DOCTOR, HOUR, PATIENT, Person, World, digest, key, node_id};

fn registration(world: &World, number: u32, hospital: Person) -> RegisterNode {
    let bytes = node_bytes(world.ledger.chain(), hospital.id(), node_id(number));
    RegisterNode {
        node: node_id(number),
        region: Region(0),
        weight: 1,
        addresses: vec!["/dns4/node.example/tcp/4001".into()],
        consent: key(number).sign(Purpose::Node, &bytes),
    }
}

fn register(world: &mut World, number: u32, hospital: Person) -> Result<(), Refused> {
    let node = registration(world, number, hospital);
    world.run_by_words(hospital, vec![Operation::RegisterNode(node)]).map(drop)
}

fn consortium(world: &World) -> ConsortiumEntry {
    world.ledger.read(&StateKey::Consortium).unwrap().unwrap()
}

#[test]
fn a_hospital_adds_nodes_with_their_consent() {
    let mut world = World::new(1);
    register(&mut world, 2100, Person(1)).unwrap();
    assert_eq!((world.placement().nodes.len(), world.placement().version), (2, 1));
    assert_eq!(register(&mut world, 2100, Person(1)), Err(Refused::NodeTaken { node: node_id(2100) }));
    let mut stolen = registration(&world, 2101, Person(1));
    stolen.node = node_id(2102);
    let refused = world.run_by_words(Person(1), vec![Operation::RegisterNode(stolen)]);
    assert_eq!(refused, Err(Refused::BadNode { node: node_id(2102) }));
    let node = registration(&world, 2103, PATIENT);
    let refused = world.run(PATIENT, vec![Operation::RegisterNode(node)]);
    assert_eq!(refused, Err(Refused::NotAHospital { member: PATIENT.id() }));
}

#[test]
fn a_node_that_decides_no_blocks_is_no_custodian() {
    let mut world = World::new(1);
    register(&mut world, 2100, Person(1)).unwrap();
    let record = world.anchored(PATIENT);
    let conditions = world.conditions(record, DOCTOR);
    let mut grant = world.grant_of(conditions);
    let proper = grant.custodians.clone();
    grant.custodians = vec![world.custodian(grant.id(), grant.digests, node_id(2100))];
    let refused = world.run(PATIENT, vec![Operation::Grant(Box::new(grant.clone()))]);
    assert!(matches!(refused, Err(Refused::WrongCustodians { threshold: 1, wanted: 1, .. })), "{refused:?}");
    grant.custodians = proper;
    world.run(PATIENT, vec![Operation::Grant(Box::new(grant))]).unwrap();
}

#[test]
fn a_key_is_a_device_or_a_node_and_not_both() {
    let mut world = World::new(1);
    let device = 1000 + PATIENT.0;
    assert_eq!(register(&mut world, device, Person(1)), Err(Refused::NodeTaken { node: node_id(device) }));
    let as_device = world.device_keys(PATIENT, 2001);
    let refused = world.run_by_words(PATIENT, vec![Operation::AddDevice(as_device.clone())]);
    assert_eq!(refused, Err(Refused::DeviceTaken { device: as_device.device }));
}

#[test]
fn a_hospital_has_a_bounded_number_of_nodes() {
    let mut world = World::new(1);
    for number in 0..15 {
        register(&mut world, 2100 + number, Person(1)).unwrap();
    }
    assert_eq!(register(&mut world, 2150, Person(1)), Err(Refused::TooManyNodes));
}

#[test]
fn a_hospital_drains_its_own_nodes_but_never_the_last() {
    let mut world = World::new(2);
    let drain = |number| vec![Operation::Drain(Drain { node: node_id(number) })];
    let refused = world.run_by_words(Person(1), drain(2002));
    assert_eq!(refused, Err(Refused::NotTheNodesHospital { node: node_id(2002), member: Person(1).id() }));
    world.run_by_words(Person(2), drain(2002)).unwrap();
    let again = world.run_by_words(Person(2), drain(2002));
    assert_eq!(again, Err(Refused::UnknownNode { node: node_id(2002) }));
    let last = world.run_by_words(Person(1), drain(2001));
    assert_eq!(last, Err(Refused::LastNode { node: node_id(2001) }));
}

#[test]
fn receipts_from_before_a_node_came_still_count() {
    let mut world = World::new(3);
    let records: Vec<_> = (0..20).map(|_| world.anchored(PATIENT)).collect();
    let anchors: Vec<_> = records.iter().map(|record| world.anchor(*record)).collect();
    let hospital = vote_hospital_in(&mut world);
    register(&mut world, 2100, hospital).unwrap();
    for anchor in anchors {
        world.run(PATIENT, vec![Operation::Anchor(anchor)]).unwrap();
    }
}

#[test]
fn one_receipt_is_no_longer_enough_once_there_is_a_second_zone() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    let anchor = world.anchor(record);
    let hospital = vote_hospital_in(&mut world);
    register(&mut world, 2100, hospital).unwrap();
    let refused = world.run(PATIENT, vec![Operation::Anchor(anchor)]);
    assert_eq!(refused, Err(Refused::WrongReceipts { record, needed: 2, found: 1 }));
    world.anchor_again(PATIENT, record);
}

/// A second hospital, voted in and registered.
fn vote_hospital_in(world: &mut World) -> Person {
    let hospital = Person(60);
    let propose = proposal(world, Change::Hospital(hospital.id()));
    let vote = Operation::Vote(Vote { proposal: propose.id() });
    world.run_by_words(Person(1), vec![Operation::Propose(propose)]).unwrap();
    for number in 2..=consortium(world).validators.as_slice().len() as u32 {
        world.run_by_words(Person(number), vec![vote.clone()]).unwrap();
    }
    let registration = world.registration(hospital, Admission::Vote(digest(60)));
    world.run_by_words(hospital, vec![Operation::RegisterMember(Box::new(registration))]).unwrap();
    hospital
}

#[test]
fn a_statement_about_copies_is_its_hospitals_and_follows_the_last() {
    let mut world = World::new(2);
    let record = world.anchored(PATIENT);
    let attest = |verified: Time, version| Attest {
        node: node_id(2001),
        record,
        version: Version(version),
        chunks: 5,
        chunks_missing: 0,
        verified,
    };
    let now = world.now;
    let run =
        |world: &mut World, by, attest| world.run_by_words(by, vec![Operation::Attest(attest)]).map(drop);
    let foreign = run(&mut world, Person(2), attest(now, 1));
    assert_eq!(foreign, Err(Refused::NotTheNodesHospital { node: node_id(2001), member: Person(2).id() }));
    let stale = Err(Refused::StaleAttestation { record });
    assert_eq!(run(&mut world, Person(1), attest(now.plus_millis(HOUR), 1)), stale);
    assert_eq!(run(&mut world, Person(1), attest(now, 2)), stale);
    assert_eq!(run(&mut world, Person(1), attest(now, 1)), Ok(()));
    assert_eq!(run(&mut world, Person(1), attest(now, 1)), stale);
    let elsewhere = Attest { record: RecordId::from_bytes([1; 32]), ..attest(now, 1) };
    assert!(matches!(run(&mut world, Person(1), elsewhere), Err(Refused::UnknownRecord { .. })));
    let impossible = Attest { chunks_missing: 6, ..attest(now.plus_millis(1), 1) };
    assert_eq!(run(&mut world, Person(1), impossible), stale);
}

fn proposal(world: &World, change: Change) -> Propose {
    Propose { change, effective: Height(0), expires: world.now.plus_millis(HOUR) }
}

fn shorter() -> Change {
    Change::Policy(Policy { opening: HOUR, ..Policy::default() })
}

#[test]
fn one_hospital_of_one_decides_alone() {
    let mut world = World::new(1);
    let propose = proposal(&world, shorter());
    world.run_by_words(Person(1), vec![Operation::Propose(propose)]).unwrap();
    assert_eq!(consortium(&world).policy.opening, HOUR);
}

#[test]
fn a_change_needs_more_than_two_thirds_and_one_vote_a_hospital() {
    let mut world = World::new(3);
    let propose = proposal(&world, shorter());
    let (id, vote) = (propose.id(), Operation::Vote(Vote { proposal: propose.id() }));
    world.run_by_words(Person(1), vec![Operation::Propose(propose.clone())]).unwrap();
    let twice = world.run_by_words(Person(1), vec![vote.clone()]);
    assert_eq!(twice, Err(Refused::AlreadyVoted { proposal: id, member: Person(1).id() }));
    let again = world.run_by_words(Person(2), vec![Operation::Propose(propose)]);
    assert_eq!(again, Err(Refused::ProposalExists { proposal: id }));
    world.run_by_words(Person(2), vec![vote.clone()]).unwrap();
    assert_eq!(consortium(&world).policy, Policy::default(), "two of three are not more than two thirds");
    world.run_by_words(Person(3), vec![vote.clone()]).unwrap();
    assert_eq!(consortium(&world).policy.opening, HOUR);
    let late = world.run_by_words(Person(3), vec![vote]);
    assert_eq!(late, Err(Refused::UnknownProposal { proposal: id }));
}

#[test]
fn votes_after_the_proposals_time_do_not_count() {
    let mut world = World::new(2);
    let propose = proposal(&world, shorter());
    let proposal = propose.id();
    world.run_by_words(Person(1), vec![Operation::Propose(propose)]).unwrap();
    world.pass(HOUR);
    let late = world.run_by_words(Person(2), vec![Operation::Vote(Vote { proposal })]);
    assert_eq!(late, Err(Refused::UnknownProposal { proposal }));
}

#[test]
fn only_hospitals_with_validators_vote() {
    let mut world = World::new(1);
    let propose = proposal(&world, shorter());
    let refused = world.run(DOCTOR, vec![Operation::Propose(propose)]);
    assert_eq!(refused, Err(Refused::NotAHospital { member: DOCTOR.id() }));
    let hospital = vote_hospital_in(&mut world);
    let propose = proposal(&world, Change::Hospital(MemberId::from_bytes([5; 32])));
    let refused = world.run(hospital, vec![Operation::Propose(propose)]);
    assert_eq!(refused, Err(Refused::NoVotingPower { member: hospital.id() }));
}

#[test]
fn a_validator_set_takes_effect_at_its_height() {
    let mut world = World::new(2);
    let only = ValidatorSet::new(vec![Validator { node: node_id(2001), power: 3 }]).unwrap();
    let effective = Height(world.ledger.height().0 + 4);
    let propose = Propose { effective, ..proposal(&world, Change::Validators(only.clone())) };
    let vote = Operation::Vote(Vote { proposal: propose.id() });
    world.run_by_words(Person(1), vec![Operation::Propose(propose)]).unwrap();
    world.run_by_words(Person(2), vec![vote]).unwrap();
    let both = consortium(&world).validators;
    world.block(&[]);
    world.block(&[]);
    let header = |height| world.ledger.header(height).unwrap();
    assert_eq!(header(Height(effective.0 - 1)).validators, both.digest());
    assert_eq!(header(Height(effective.0 - 2)).next_validators, both.digest());
    assert_eq!(header(Height(effective.0 - 1)).next_validators, only.digest());
    assert_eq!(header(effective).validators, only.digest());
}

#[test]
fn a_change_that_makes_no_sense_is_refused() {
    let mut world = World::new(1);
    let stranger = ValidatorSet::new(vec![Validator { node: node_id(2099), power: 1 }]).unwrap();
    let lax = Policy { receipts: 4, ..Policy::default() };
    let changes =
        [Change::Validators(stranger), Change::Policy(lax), Change::Rules(1), Change::Hospital(PATIENT.id())];
    for change in changes {
        let propose = proposal(&world, change);
        let refused = world.run_by_words(Person(1), vec![Operation::Propose(propose)]);
        assert_eq!(refused, Err(Refused::BadChange));
    }
    let forever = Propose { expires: Time(u64::MAX), ..proposal(&world, shorter()) };
    let refused = world.run_by_words(Person(1), vec![Operation::Propose(forever)]);
    assert_eq!(refused, Err(Refused::BadChange));
}

#[test]
fn a_program_without_the_voted_rules_stops() {
    let mut world = World::new(1);
    let propose = proposal(&world, Change::Rules(2));
    world.run_by_words(Person(1), vec![Operation::Propose(propose)]).unwrap();
    let stopped = world.ledger.apply(world.now.plus_millis(1), &[]);
    assert!(matches!(stopped, Err(ExecuteError::Apply(ApplyError::UnknownRules { wanted: 2 }))));
}

#[test]
fn a_node_that_does_not_keep_a_record_says_nothing_about_it() {
    let mut world = World::new(5);
    let record = world.anchored(PATIENT);
    let places = world.placement().replicas(record, 3, &Default::default());
    let number = (1..6).find(|number| !places.contains(&node_id(2000 + number))).unwrap();
    let node = node_id(2000 + number);
    let verified = world.now;
    let attest = Attest { node, record, version: Version(1), chunks: 1, chunks_missing: 0, verified };
    let refused = world.run_by_words(Person(number), vec![Operation::Attest(attest)]);
    assert_eq!(refused, Err(Refused::NotPlaced { record, node }));
}

#[test]
fn a_policy_can_keep_the_first_copy_at_home() {
    let mut world = World::new(1);
    let hospital = vote_hospital_in(&mut world);
    register(&mut world, 2100, hospital).unwrap();
    let home = Policy { replicas: 1, receipts: 1, home: true, ..Policy::default() };
    let propose = proposal(&world, Change::Policy(home));
    world.run_by_words(Person(1), vec![Operation::Propose(propose)]).unwrap();
    for nonce in 0..8 {
        let create = Operation::CreateRecord(CreateRecord { nonce: [nonce; 32] });
        world.run(PATIENT, vec![create]).unwrap();
        let record = RecordId::of(PATIENT.id(), &[nonce; 32]);
        let mut anchor = world.anchor(record);
        anchor.receipts = vec![world.receipt(&anchor, node_id(2100))];
        let elsewhere = world.run(PATIENT, vec![Operation::Anchor(anchor.clone())]);
        assert_eq!(elsewhere, Err(Refused::NotPlaced { record, node: node_id(2100) }));
        anchor.receipts = vec![world.receipt(&anchor, node_id(2001))];
        world.run(PATIENT, vec![Operation::Anchor(anchor)]).unwrap();
    }
}

#[test]
fn records_stay_in_the_regions_of_the_policy() {
    let mut world = World::new(1);
    let abroad = Policy { regions: vec![Region(1)], ..Policy::default() };
    let record = world.anchored(PATIENT);
    let propose = proposal(&world, Change::Policy(abroad));
    world.run_by_words(Person(1), vec![Operation::Propose(propose)]).unwrap();
    let anchor = world.anchor(record);
    let refused = world.run(PATIENT, vec![Operation::Anchor(anchor)]);
    assert_eq!(refused, Err(Refused::NotPlaced { record, node: node_id(2001) }));
}

#[test]
fn a_bounded_number_of_changes_waits_for_its_height() {
    let mut world = World::new(1);
    for number in 0..17 {
        let propose = Propose { effective: Height(1000 + number), ..proposal(&world, shorter()) };
        let result = world.run_by_words(Person(1), vec![Operation::Propose(propose)]);
        let expected = if number < 16 { Ok(()) } else { Err(Refused::TooManyChanges) };
        assert_eq!(result.map(drop), expected);
    }
}
