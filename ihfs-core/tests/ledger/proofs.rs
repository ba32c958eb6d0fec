//! Proofs of what stands in the state and of what does not.

use std::collections::BTreeMap;

use ihfs_core::ids::{MemberId, NodeId, RecordId};
use ihfs_core::ledger::proof::{PageReader, ProofError, StateProof, prove, rebuild_tree, update_tree};
use ihfs_core::ledger::state::{MemberEntry, ReadFailed, RecordEntry, StateKey};

use crate::world::{DOCTOR, HOUR, PATIENT, World, digest};

fn world() -> World {
    let mut world = World::new(3);
    for _ in 0..20 {
        let record = world.anchored(PATIENT);
        world.share(record, DOCTOR);
    }
    world
}

#[test]
fn everything_in_the_state_is_proved_under_the_headers_root() {
    let world = world();
    let root = world.ledger.header(world.ledger.height()).unwrap().state;
    for (key, value) in world.ledger.entries() {
        let proof = prove(&world.ledger, world.ledger.height(), key).unwrap();
        assert_eq!(proof.verify(root, key, Some(value)), Ok(()));
        assert!(proof.verify(root, key, None).is_err());
        assert!(proof.to_bytes().len() < 1000);
    }
}

#[test]
fn a_proved_entry_opens_as_what_it_is() {
    let world = world();
    let key = StateKey::Member(PATIENT.id());
    let (value, proof) = world.ledger.prove(&key);
    let opened = proof.open::<MemberEntry>(world.ledger.root(), &key, value.as_deref());
    assert_eq!(opened, Ok(Some(world.member(PATIENT))));
    let as_record = proof.open::<RecordEntry>(world.ledger.root(), &key, value.as_deref());
    assert!(matches!(as_record, Err(ProofError::Decode(_))));
}

#[test]
fn what_is_not_there_is_proved_not_to_be_there() {
    let world = world();
    for number in 0..50 {
        let key = StateKey::Member(MemberId::from_bytes(*digest(number).as_bytes()));
        let (value, proof) = world.ledger.prove(&key);
        assert_eq!(value, None);
        assert_eq!(proof.verify(world.ledger.root(), &key.to_bytes(), None), Ok(()));
        assert!(proof.verify(world.ledger.root(), &key.to_bytes(), Some(b"there")).is_err());
    }
}

#[test]
fn a_proof_of_another_value_key_or_root_is_refused() {
    let world = world();
    let key = StateKey::Member(PATIENT.id());
    let (value, proof) = world.ledger.prove(&key);
    let (value, key) = (value.unwrap(), key.to_bytes());
    let mut changed = value.clone();
    changed[3] ^= 1;
    let root = world.ledger.root();
    assert_eq!(proof.verify(root, &key, Some(&changed)), Err(ProofError::WrongLeaf));
    let other = StateKey::Member(DOCTOR.id()).to_bytes();
    assert_eq!(proof.verify(root, &other, Some(&value)), Err(ProofError::WrongLeaf));
    assert_eq!(proof.verify(digest(0), &key, Some(&value)), Err(ProofError::WrongRoot));
}

#[test]
fn a_proof_of_absence_cannot_be_made_from_another_keys_proof() {
    let world = world();
    let root = world.ledger.root();
    let there = StateKey::Member(PATIENT.id()).to_bytes();
    for key in world.ledger.entries().keys().filter(|key| **key != there).step_by(3) {
        let proof = prove(&world.ledger, world.ledger.height(), key).unwrap();
        assert!(proof.verify(root, &there, None).is_err());
    }
}

#[test]
fn a_proof_with_any_byte_changed_is_refused() {
    let world = world();
    let root = world.ledger.root();
    for key in [StateKey::Member(PATIENT.id()), StateKey::Node(NodeId::from_bytes([9; 32]))] {
        let (value, proof) = world.ledger.prove(&key);
        let bytes = proof.to_bytes();
        for place in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[place] ^= 1;
            let holds = StateProof::from_bytes(&forged)
                .and_then(|proof| proof.verify(root, &key.to_bytes(), value.as_deref()));
            assert!(holds.is_err(), "byte {place}");
        }
    }
}

#[test]
fn a_proof_of_an_older_state_does_not_hold_for_the_newest() {
    let mut world = world();
    let key = StateKey::Member(PATIENT.id());
    let (value, proof) = world.ledger.prove(&key);
    let old = world.ledger.root();
    world.anchored(PATIENT);
    let key = key.to_bytes();
    assert_eq!(proof.verify(old, &key, value.as_deref()), Ok(()));
    assert_eq!(proof.verify(world.ledger.root(), &key, value.as_deref()), Err(ProofError::WrongRoot));
}

/// A world in which entries were deleted too.
fn aged() -> World {
    let mut world = world();
    let record = world.anchored(PATIENT);
    world.share(record, DOCTOR);
    world.revoke(record, DOCTOR).unwrap();
    world.pass(60 * HOUR);
    world.block(&[]);
    world
}

#[test]
fn a_state_with_deleted_entries_has_the_root_of_the_entries_that_are_left() {
    let world = aged();
    let entries = world.ledger.entries().iter().map(|(key, value)| (key.clone(), Some(value.clone())));
    let rebuilt = rebuild_tree(world.ledger.height(), &entries.collect()).unwrap();
    assert_eq!(rebuilt.root, world.ledger.root());
    let gone = StateKey::ReaderGrants(RecordId::from_bytes([1; 32]), DOCTOR.id());
    let (_, proof) = world.ledger.prove(&gone);
    assert_eq!(proof.verify(rebuilt.root, &gone.to_bytes(), None), Ok(()));
}

#[test]
fn a_rebuilt_tree_goes_on_like_the_one_it_was_taken_from() {
    let mut world = aged();
    let height = world.ledger.height();
    let entries = world.ledger.entries().iter().map(|(key, value)| (key.clone(), Some(value.clone())));
    let rebuilt = rebuild_tree(height, &entries.collect()).unwrap();
    let applied = world.block(&[]);
    let pages = Pages(rebuilt.pages.into_iter().collect());
    let next = update_tree(&pages, height.next(), &applied.writes).unwrap();
    assert_eq!(next.root, world.ledger.root());
}

struct Pages(BTreeMap<Vec<u8>, Vec<u8>>);

impl PageReader for Pages {
    fn read_page(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadFailed> {
        Ok(self.0.get(key).cloned())
    }
}

#[test]
fn stale_pages_go() {
    let mut world = world();
    let before = world.ledger.pages();
    for _ in 0..200 {
        world.block(&[]);
    }
    assert!(world.ledger.pages() <= before + 16, "{} after {before}", world.ledger.pages());
}
