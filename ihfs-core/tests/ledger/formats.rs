//! Bytes of version 1: pinned by hash, and what does not decode.

use ihfs_core::codec::{self, DecodeError};
use ihfs_core::ids::{Epoch, GrantId, Height, MemberId, NodeId, OpeningId, RecordId, Time, TransactionId};
use ihfs_core::ledger::execute;
use ihfs_core::ledger::genesis::{Genesis, GenesisError, GenesisMember};
use ihfs_core::ledger::identity::{Invite, PRIVATE_NONCE, Role, VAULT_NONCE};
use ihfs_core::ledger::lists::{List, ListKey};
use ihfs_core::ledger::operation::{Conditions, Operation};
use ihfs_core::ledger::proof::StateProof;
use ihfs_core::ledger::state::{EpochEntry, MemberLists, RecordLists, StateKey};
use ihfs_core::ledger::transaction::{SignedTransaction, TRANSACTION_BYTES_MAX, TransactionError};
use rand::{RngExt, SeedableRng};

use crate::world::{DOCTOR, PATIENT, World, digest, genesis, key};

fn short(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_string()
}

fn first_eight(bytes: &[u8; 32]) -> String {
    hex::encode(&bytes[..8])
}

#[test]
fn derived_ids_are_pinned() {
    let member = MemberId::of_key(&[1; 32]);
    let record = RecordId::of(member, &[2; 32]);
    let ids = [
        first_eight(member.as_bytes()),
        first_eight(record.as_bytes()),
        first_eight(RecordId::of(member, &PRIVATE_NONCE).as_bytes()),
        first_eight(RecordId::of(member, &VAULT_NONCE).as_bytes()),
        first_eight(GrantId::of(record, &[3; 32]).as_bytes()),
        first_eight(OpeningId::of(TransactionId::from_bytes([4; 32]), 5).as_bytes()),
        first_eight(EpochEntry::salt(&[6; 32], record, Epoch(7)).as_bytes()),
    ];
    let pinned = [
        "cda66b91a75d1e8c",
        "2fd48f56ce53cac7",
        "caf67aa8708595fd",
        "558ce1abb268ec37",
        "b6243bdf9497608d",
        "2ce508376e6f4b29",
        "4c75ff9092daea4b",
    ];
    assert_eq!(ids, pinned);
}

#[test]
fn the_genesis_document_its_chain_and_its_root_are_pinned() {
    let genesis = genesis(2);
    let root = execute::genesis_root(&genesis).unwrap();
    let found =
        [short(&genesis.to_bytes()), first_eight(genesis.chain().as_bytes()), first_eight(root.as_bytes())];
    assert_eq!(found, ["e8474d6186d6559d", "60a565c2cc1f192a", "477aaeb4daa9c2a8"]);
}

#[test]
fn the_bytes_of_state_and_list_keys_are_pinned() {
    let mut bytes = Vec::new();
    let (member, record) = (MemberId::from_bytes([1; 32]), RecordId::from_bytes([2; 32]));
    let (grant, node) = (GrantId::from_bytes([3; 32]), NodeId::from_bytes([4; 32]));
    for key in [
        StateKey::Clock,
        StateKey::Member(member),
        StateKey::MemberRecord(member, 5),
        StateKey::Record(record),
        StateKey::Epoch(record, Epoch(6)),
        StateKey::ReaderGrants(record, member),
        StateKey::Grant(grant),
        StateKey::NestedGrant(grant, 7),
        StateKey::Attestation(record, node),
        StateKey::ExpiryItem(8, 9),
        StateKey::MemberLists(member),
        StateKey::RecordLists(record),
    ] {
        bytes.extend(key.to_bytes());
    }
    bytes.extend(ListKey::Opened(member).item_key(10));
    assert_eq!(short(&bytes), "48df64f37664c54c");
}

#[test]
fn the_bytes_of_lists_are_pinned() {
    let (one, other) = (List { count: 1, hash: digest(1) }, List { count: 2, hash: digest(2) });
    let member = MemberLists { records: one, received: other, opened: List::default() };
    let record = RecordLists { grants: one, openings: other, opened_until: Some(Time(3)) };
    let bytes = [codec::encode(&member), codec::encode(&record)];
    assert_eq!(bytes.map(|bytes| short(&bytes)), ["8b71bb88e1ee3633", "48621fe42382e9d2"]);
}

/// A patient who shares, revokes and rotates, with a second device.
fn story() -> World {
    let mut world = World::new(2);
    let record = world.anchored(PATIENT);
    let conditions = Conditions { write: true, ..world.conditions(record, DOCTOR) };
    let grant = world.share_with(conditions);
    world.open(DOCTOR, grant).unwrap();
    world.run_by_words(PATIENT, vec![Operation::AddDevice(world.device_keys(PATIENT, 3000))]).unwrap();
    world.revoke(record, DOCTOR).unwrap();
    world.rotate(record);
    world
}

#[test]
fn a_whole_story_ends_in_a_pinned_block_and_state() {
    let ledger = story().ledger;
    let newest = ledger.header(ledger.height()).unwrap();
    let mut transactions = Vec::new();
    for height in 1..=ledger.height().0 {
        transactions.extend(codec::encode(ledger.block(Height(height)).unwrap()));
    }
    let found =
        [first_eight(newest.id().as_bytes()), first_eight(ledger.root().as_bytes()), short(&transactions)];
    assert_eq!(found, ["208dcacfb972243b", "a8a93b4156c06c25", "0e31b986856aab47"]);
}

#[test]
fn every_transaction_of_the_story_decodes_to_what_it_was() {
    let ledger = story().ledger;
    for height in 1..=ledger.height().0 {
        for bytes in &ledger.block(Height(height)).unwrap().transactions {
            let signed = SignedTransaction::from_bytes(bytes).unwrap();
            assert_eq!(signed.to_bytes(), bytes.as_slice());
            assert!(signed.open().is_ok());
        }
    }
}

#[test]
fn bytes_cut_short_or_too_many_are_no_transaction() {
    let mut world = World::new(1);
    let signed =
        world.transaction(PATIENT.id(), vec![Operation::EmergencyRequest]).sign(&PATIENT.device_key());
    let bytes = signed.to_bytes();
    for end in 0..bytes.len() {
        assert!(SignedTransaction::from_bytes(&bytes[..end]).is_err());
    }
    let huge = vec![0; TRANSACTION_BYTES_MAX + 1000];
    assert!(matches!(SignedTransaction::from_bytes(&huge), Err(DecodeError::TooLong { .. })));
    let mut padded = signed.clone();
    padded.bytes = vec![0; TRANSACTION_BYTES_MAX + 1].into();
    assert!(matches!(padded.open(), Err(TransactionError::Decode(DecodeError::TooLong { .. }))));
}

#[test]
fn a_format_of_another_version_is_refused_by_name() {
    let mut world = World::new(1);
    let mut transaction = world.transaction(PATIENT.id(), vec![Operation::EmergencyRequest]);
    transaction.format = 2;
    let refused = transaction.sign(&PATIENT.device_key()).open();
    assert_eq!(refused, Err(TransactionError::UnknownFormat { found: 2 }));
    let later = Genesis { format: 2, ..genesis(1) };
    assert_eq!(later.state(), Err(GenesisError::UnknownFormat { found: 2 }));
}

#[test]
fn a_genesis_document_that_does_not_fit_together_is_refused() {
    let sound = genesis(2);
    assert_eq!(Genesis::from_bytes(&sound.to_bytes()), Ok(sound.clone()));
    let mut swapped = sound.clone();
    swapped.members.swap(0, 1);
    assert_eq!(swapped.state(), Err(GenesisError::NotAscending));
    let mut nobody = sound.clone();
    nobody.members.clear();
    assert_eq!(nobody.state(), Err(GenesisError::WrongSize));
    let mut stranger = sound.clone();
    stranger.nodes.remove(0);
    assert!(matches!(stranger.state(), Err(GenesisError::BadNode { .. })));
    let mut patient = sound.clone();
    let member = GenesisMember { role: Role::Patient, ..GenesisMember::hospital(key(1).public(), digest(1)) };
    patient.members = vec![member.clone()];
    assert_eq!(patient.state(), Err(GenesisError::BadMember { member: member.id() }));
    let mut lax = sound;
    lax.policy.receipts = 0;
    assert_eq!(lax.state(), Err(GenesisError::BadPolicy));
}

#[test]
fn an_invite_keeps_its_limits_and_bytes() {
    let mut world = World::new(1);
    let invite: Invite = world.invite(Role::Practitioner);
    let bytes = codec::encode(&invite);
    assert!(bytes.len() <= ihfs_core::ledger::identity::INVITE_BYTES_MAX);
    assert_eq!(codec::decode::<Invite>(&bytes, 1024).unwrap(), invite);
    assert_eq!(short(&bytes), "62e84b90467e85df");
}

#[test]
fn a_transaction_with_any_byte_changed_does_not_open() {
    let ledger = story().ledger;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    for height in 1..=ledger.height().0 {
        let bytes = &ledger.block(Height(height)).unwrap().transactions[0];
        for _ in 0..40 {
            let mut forged = bytes.to_vec();
            let place = rng.random_range(0..forged.len());
            forged[place] ^= 1 << rng.random_range(0..8);
            let opens = SignedTransaction::from_bytes(&forged).is_ok_and(|signed| signed.open().is_ok());
            assert!(!opens, "byte {place} of block {height}");
        }
    }
}

#[test]
fn random_bytes_decode_to_nothing() {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
    for _ in 0..2000 {
        let bytes: Vec<u8> = (0..rng.random_range(0..200)).map(|_| rng.random()).collect();
        assert!(SignedTransaction::from_bytes(&bytes).is_err());
        assert!(Genesis::from_bytes(&bytes).is_err());
        assert!(StateProof::from_bytes(&bytes).is_err());
    }
}
