//! Members come in by invite or vote; devices come and go by the member key.

use ihfs_core::crypto::sign::Purpose;
use ihfs_core::ids::{DeviceId, Epoch, Generation, Height, RecordId, Version};
use ihfs_core::ledger::identity::{DeviceKeys, Invite, MemberSealingKey, Role};
use ihfs_core::ledger::operation::{Admission, CreateRecord, Operation, RemoveDevice, SealedSecrets};
use ihfs_core::ledger::rules::Refused;
use ihfs_core::ledger::state::{DeviceEntry, EpochEntry, MemberLists, RECORDS_MAX, RecordLists, StateKey};
use ihfs_core::ledger::transaction::OPERATIONS_MAX;
use serde_bytes::ByteBuf;

use crate::world::{DOCTOR, HOUR, PATIENT, Person, World, key, sealing};

const NEW: Person = Person(40);

fn try_invite(world: &mut World, change: impl FnOnce(Invite) -> Invite) -> Result<(), Refused> {
    let invite = world.invite(Role::Patient);
    let invite = change(invite);
    let registration = world.registration(NEW, Admission::Invite(invite));
    world.run_by_words(NEW, vec![Operation::RegisterMember(Box::new(registration))]).map(drop)
}

#[test]
fn an_invite_lets_one_member_in_with_its_role_and_hospital() {
    let mut world = World::new(1);
    try_invite(&mut world, |invite| Invite { role: Role::Practitioner, ..invite }.signed(&key(1))).unwrap();
    let entry = world.member(NEW);
    assert_eq!((entry.role, entry.hospital), (Role::Practitioner, Person(1).id()));
    assert_eq!(entry.devices, [NEW.device()]);
}

#[test]
fn an_invite_is_spent_once() {
    let mut world = World::new(1);
    let invite = world.invite(Role::Patient);
    let first = world.registration(NEW, Admission::Invite(invite.clone()));
    world.run_by_words(NEW, vec![Operation::RegisterMember(Box::new(first))]).unwrap();
    let other = Person(41);
    let second = world.registration(other, Admission::Invite(invite.clone()));
    let refused = world.run_by_words(other, vec![Operation::RegisterMember(Box::new(second))]);
    assert_eq!(refused, Err(Refused::InviteSpent { invite: invite.id, member: NEW.id() }));
}

#[test]
fn an_invite_that_is_changed_expired_or_by_nobody_is_refused() {
    let mut world = World::new(2);
    let changed = try_invite(&mut world, |invite| Invite { role: Role::Auditor, ..invite });
    assert!(matches!(changed, Err(Refused::NotTheRegistrar { .. })));
    let now = world.now;
    let expired = try_invite(&mut world, |invite| Invite { expires: now, ..invite }.signed(&key(1)));
    assert!(matches!(expired, Err(Refused::InviteExpired { .. })));
    let forever = now.plus_millis(91 * 24 * HOUR);
    let long = try_invite(&mut world, |invite| Invite { expires: forever, ..invite }.signed(&key(1)));
    assert!(matches!(long, Err(Refused::InviteTooLong { .. })));
    let elsewhere = ihfs_core::ids::ChainId::from_bytes([7; 32]);
    let foreign = try_invite(&mut world, |invite| Invite { chain: elsewhere, ..invite }.signed(&key(1)));
    assert!(matches!(foreign, Err(Refused::InviteOfAnotherChain { .. })));
    let forged = try_invite(&mut world, |invite| invite.signed(&key(99)));
    assert!(matches!(forged, Err(Refused::NotTheRegistrar { .. })));
    let patient = PATIENT.id();
    let by_patient = try_invite(&mut world, |invite| {
        Invite { registrar: patient, ..invite }.signed(&PATIENT.member_key())
    });
    assert!(matches!(by_patient, Err(Refused::NotTheRegistrar { .. })));
    let other = Person(2).id();
    let of_other = try_invite(&mut world, |invite| Invite { hospital: other, ..invite }.signed(&key(1)));
    assert!(matches!(of_other, Err(Refused::NotTheRegistrar { .. })));
    let hospital = try_invite(&mut world, |invite| Invite { role: Role::Hospital, ..invite }.signed(&key(1)));
    assert!(matches!(hospital, Err(Refused::NotTheRegistrar { .. })));
}

#[test]
fn a_registrar_invites_patients_but_no_registrars() {
    let mut world = World::new(1);
    let registrar = Person(50);
    let invite = world.invite(Role::Registrar);
    let registration = world.registration(registrar, Admission::Invite(invite));
    world.run_by_words(registrar, vec![Operation::RegisterMember(Box::new(registration))]).unwrap();
    let by = |role| {
        move |invite: Invite| {
            Invite { registrar: registrar.id(), role, ..invite }.signed(&registrar.device_key())
        }
    };
    assert!(matches!(try_invite(&mut world, by(Role::Registrar)), Err(Refused::NotTheRegistrar { .. })));
    assert_eq!(try_invite(&mut world, by(Role::Patient)), Ok(()));
}

#[test]
fn nobody_registers_twice_or_for_another_key() {
    let mut world = World::new(1);
    let invite = world.invite(Role::Patient);
    let again = world.registration(PATIENT, Admission::Invite(invite.clone()));
    let refused = world.run_by_words(PATIENT, vec![Operation::RegisterMember(Box::new(again))]);
    assert_eq!(refused, Err(Refused::AlreadyMember { member: PATIENT.id() }));
    let other = world.registration(NEW, Admission::Invite(invite));
    let refused = world.run_by_words(PATIENT, vec![Operation::RegisterMember(Box::new(other))]);
    assert_eq!(refused, Err(Refused::NotOwnKey { expected: NEW.id() }));
}

#[test]
fn keys_without_the_member_keys_signature_are_refused() {
    let mut world = World::new(1);
    let invite = world.invite(Role::Patient);
    let sound = world.registration(NEW, Admission::Invite(invite));
    let mut other_sealing = sound.clone();
    other_sealing.sealing.key = sealing(9);
    let mut other_device = sound.clone();
    other_device.device.sealing = sealing(9);
    let mut later = sound;
    later.sealing = MemberSealingKey::sign(&NEW.member_key(), Generation(1), sealing(9));
    let unsigned = Err(Refused::UnsignedKey { member: NEW.id() });
    let wrong = Err(Refused::WrongGeneration { expected: Generation(0) });
    for (registration, refused) in [(other_sealing, &unsigned), (other_device, &unsigned), (later, &wrong)] {
        let result = world.run_by_words(NEW, vec![Operation::RegisterMember(Box::new(registration))]);
        assert_eq!(&result, refused);
    }
}

#[test]
fn a_member_registers_and_makes_records_in_one_transaction() {
    let mut world = World::new(1);
    let invite = world.invite(Role::Patient);
    let registration = world.registration(NEW, Admission::Invite(invite));
    let create = CreateRecord { nonce: ihfs_core::ledger::identity::VAULT_NONCE };
    let operations = vec![Operation::RegisterMember(Box::new(registration)), Operation::CreateRecord(create)];
    world.run_by_words(NEW, operations).unwrap();
    assert_eq!(world.member_lists(NEW).records.count, 1);
}

#[test]
fn members_and_records_have_their_lists_from_the_beginning() {
    let mut world = World::new(1);
    world.register(NEW);
    for member in [Person(1), NEW] {
        assert_eq!(world.member_lists(member), MemberLists::default());
    }
    let create = CreateRecord { nonce: [7; 32] };
    world.run(NEW, vec![Operation::CreateRecord(create)]).unwrap();
    assert_eq!(world.record_lists(RecordId::of(NEW.id(), &[7; 32])), RecordLists::default());
}

#[test]
fn only_the_member_key_adds_and_removes_devices() {
    let mut world = World::new(1);
    let add = Operation::AddDevice(world.device_keys(PATIENT, 3000));
    let needs = |operation| Err(Refused::NeedsMemberKey { operation });
    assert_eq!(world.run(PATIENT, vec![add.clone()]), needs("add-device"));
    world.run_by_words(PATIENT, vec![add]).unwrap();
    let removal = removal(PATIENT.device(), 1, &[3000]);
    assert_eq!(world.run(PATIENT, vec![removal]), needs("remove-device"));
}

#[test]
fn a_key_that_was_merely_seen_cannot_be_taken_as_a_device() {
    let mut world = World::new(1);
    let seen = world.device_keys(PATIENT, 3000);
    let bytes = DeviceKeys::signed_bytes(world.ledger.chain(), DOCTOR.id(), seen.device, &seen.sealing);
    let signature = DOCTOR.member_key().sign(Purpose::Device, &bytes);
    let refused = Err(Refused::NoConsent { device: seen.device });
    for consent in [seen.consent, signature] {
        let taken = DeviceKeys { signature, consent, ..seen.clone() };
        assert_eq!(world.run_by_words(DOCTOR, vec![Operation::AddDevice(taken)]), refused);
    }
    world.run_by_words(PATIENT, vec![Operation::AddDevice(seen)]).unwrap();
}

fn removal(device: DeviceId, generation: u32, stay: &[u32]) -> Operation {
    let mut secrets: Vec<SealedSecrets> = stay
        .iter()
        .map(|number| SealedSecrets {
            device: DeviceId::from_bytes(key(*number).public()),
            sealed: ByteBuf::from(vec![7; 1200]),
        })
        .collect();
    secrets.sort_by_key(|secret| secret.device);
    Operation::RemoveDevice(Box::new(RemoveDevice {
        device,
        sealing: MemberSealingKey::sign(&PATIENT.member_key(), Generation(generation), sealing(generation)),
        secrets,
    }))
}

#[test]
fn a_removed_device_signs_nothing_and_never_comes_back() {
    let mut world = World::new(1);
    let record = world.anchored(PATIENT);
    world.run_by_words(PATIENT, vec![Operation::AddDevice(world.device_keys(PATIENT, 3000))]).unwrap();
    world.run_by_words(PATIENT, vec![removal(PATIENT.device(), 1, &[3000])]).unwrap();
    let anchor = world.anchor(record);
    let (member, signer) = (PATIENT.id(), PATIENT.device());
    let refused = world.run(PATIENT, vec![Operation::Anchor(anchor)]);
    assert_eq!(refused, Err(Refused::NotADevice { member, signer }));
    let back = Operation::AddDevice(world.device_keys(PATIENT, 1000 + PATIENT.0));
    let refused = world.run_by_words(PATIENT, vec![back]);
    assert_eq!(refused, Err(Refused::DeviceTaken { device: PATIENT.device() }));
    let entry: DeviceEntry = world.ledger.read(&StateKey::Device(PATIENT.device())).unwrap().unwrap();
    assert_eq!(entry.removed, Some(Height(world.ledger.height().0 - 2)));
}

#[test]
fn removing_a_device_starts_a_new_epoch_of_every_own_record_and_of_no_other() {
    let mut world = World::new(1);
    let own: Vec<RecordId> = (0..5).map(|_| world.anchored(PATIENT)).collect();
    let other = world.anchored(DOCTOR);
    world.run_by_words(PATIENT, vec![Operation::AddDevice(world.device_keys(PATIENT, 3000))]).unwrap();
    world.run_by_words(PATIENT, vec![removal(PATIENT.device(), 1, &[3000])]).unwrap();
    for record in own {
        let epoch: EpochEntry = world.ledger.read(&StateKey::Epoch(record, Epoch(1))).unwrap().unwrap();
        assert_eq!((world.epoch(record), epoch.generation), (Epoch(1), Generation(1)));
        assert_eq!(epoch.base, Version(1));
    }
    assert_eq!(world.epoch(other), Epoch(0));
    assert_eq!(world.member(PATIENT).generation, Generation(1));
}

#[test]
fn secrets_must_be_sealed_to_exactly_the_devices_that_stay() {
    let mut world = World::new(1);
    for number in [3000, 3001] {
        let add = Operation::AddDevice(world.device_keys(PATIENT, number));
        world.run_by_words(PATIENT, vec![add]).unwrap();
    }
    let goes = PATIENT.device();
    let wrong = Err(Refused::WrongSecrets { expected: 2 });
    for stay in [&[3000][..], &[3000, 3001, 3002], &[3000, 3000], &[3000, 1000 + PATIENT.0]] {
        assert_eq!(world.run_by_words(PATIENT, vec![removal(goes, 1, stay)]), wrong);
    }
    let skipped = world.run_by_words(PATIENT, vec![removal(goes, 2, &[3000, 3001])]);
    assert_eq!(skipped, Err(Refused::WrongGeneration { expected: Generation(1) }));
    world.run_by_words(PATIENT, vec![removal(goes, 1, &[3000, 3001])]).unwrap();
}

#[test]
fn the_last_device_and_anothers_device_cannot_be_removed() {
    let mut world = World::new(1);
    let last = world.run_by_words(PATIENT, vec![removal(PATIENT.device(), 1, &[])]);
    assert_eq!(last, Err(Refused::LastDevice { device: PATIENT.device() }));
    let others = world.run_by_words(PATIENT, vec![removal(DOCTOR.device(), 1, &[])]);
    assert_eq!(others, Err(Refused::NotADevice { member: PATIENT.id(), signer: DOCTOR.device() }));
}

#[test]
fn a_member_has_a_bounded_number_of_devices() {
    let mut world = World::new(1);
    for number in 0..31 {
        let add = Operation::AddDevice(world.device_keys(PATIENT, 3000 + number));
        world.run_by_words(PATIENT, vec![add]).unwrap();
    }
    let add = Operation::AddDevice(world.device_keys(PATIENT, 3100));
    let refused = world.run_by_words(PATIENT, vec![add]);
    assert_eq!(refused, Err(Refused::TooManyDevices { member: PATIENT.id() }));
}

#[test]
fn a_hospital_needs_the_consortiums_vote() {
    let mut world = World::new(1);
    let hospital = Person(3);
    let registration = world.registration(hospital, Admission::Vote(crate::world::digest(0)));
    let refused = world.run_by_words(hospital, vec![Operation::RegisterMember(Box::new(registration))]);
    assert_eq!(refused, Err(Refused::NotAdmitted { member: hospital.id() }));
}

#[test]
fn a_member_has_a_bounded_number_of_records_and_a_removed_device_advances_them_all() {
    let mut world = World::new(1);
    let create = |number: u32| {
        let nonce = *crate::world::digest(u64::from(number)).as_bytes();
        Operation::CreateRecord(CreateRecord { nonce })
    };
    let numbers: Vec<u32> = (0..RECORDS_MAX).collect();
    for numbers in numbers.chunks(OPERATIONS_MAX) {
        world.run(PATIENT, numbers.iter().map(|number| create(*number)).collect()).unwrap();
    }
    let refused = world.run(PATIENT, vec![create(RECORDS_MAX)]);
    assert_eq!(refused, Err(Refused::TooManyRecords { member: PATIENT.id() }));
    world.run_by_words(PATIENT, vec![Operation::AddDevice(world.device_keys(PATIENT, 3000))]).unwrap();
    world.run_by_words(PATIENT, vec![removal(PATIENT.device(), 1, &[3000])]).unwrap();
    for number in [0, RECORDS_MAX - 1] {
        let record: RecordId =
            world.ledger.read(&StateKey::MemberRecord(PATIENT.id(), number)).unwrap().unwrap();
        assert_eq!(world.epoch(record), Epoch(1));
    }
}
