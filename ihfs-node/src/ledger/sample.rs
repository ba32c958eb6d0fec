//! A ledger for tests: one hospital, whose nodes decide, and what it asks.

use ihfs_core::crypto::secret::Secret;
use ihfs_core::crypto::sign::SigningKey;
use ihfs_core::ids::{ChainId, DeviceId, Digest, MemberId, NodeId, RecordId, Time};
use ihfs_core::ledger::certificate::{Validator, ValidatorSet};
use ihfs_core::ledger::genesis::{GENESIS_FORMAT, Genesis, GenesisMember, GenesisNode};
use ihfs_core::ledger::operation::{CreateRecord, Operation};
use ihfs_core::ledger::state::Policy;
use ihfs_core::ledger::transaction::{SignedTransaction, TRANSACTION_FORMAT, Transaction};
use ihfs_core::placement::Region;

use super::{Ledger, SubmitError};

/// When the ledger begins.
pub(crate) const START: Time = Time(1_700_000_000_000);
const HOUR: u64 = 60 * 60 * 1000;
const HOSPITAL: u8 = 255;

/// A clock that stands a little after the beginning.
pub(crate) fn clock() -> Time {
    START.plus_millis(1)
}

/// The key of a node, by number.
pub(crate) fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(Secret::new([number; 32]))
}

/// A node, by number.
pub(crate) fn node(number: u8) -> NodeId {
    NodeId::from_bytes(key(number).public())
}

fn hospital() -> MemberId {
    MemberId::of_key(&key(HOSPITAL).public())
}

/// Validators of one voting power each.
pub(crate) fn validators(numbers: &[u8], power: u64) -> ValidatorSet {
    let validator = |number: &u8| Validator { node: node(*number), power };
    ValidatorSet::new(numbers.iter().map(validator).collect()).unwrap()
}

/// The hospital with these nodes, all of them validators.
pub(crate) fn genesis(numbers: &[u8]) -> Genesis {
    let founding = |number: &u8| GenesisNode {
        node: node(*number),
        hospital: hospital(),
        region: Region(0),
        weight: 1,
        addresses: vec![format!("/ip4/127.0.0.1/tcp/{}", 4000 + u16::from(*number))],
    };
    let mut nodes: Vec<GenesisNode> = numbers.iter().map(founding).collect();
    nodes.sort_by_key(|node| node.node);
    Genesis {
        format: GENESIS_FORMAT,
        network: "sample".to_owned(),
        time: START,
        validators: validators(numbers, 1),
        nodes,
        members: vec![GenesisMember::hospital(key(HOSPITAL).public(), Digest::of(b"handle"))],
        policy: Policy::default(),
    }
}

/// The hospital asks for this; `number` makes the transaction unlike others.
pub(crate) fn asks(chain: ChainId, number: u8, operation: Operation) -> SignedTransaction {
    let transaction = Transaction {
        format: TRANSACTION_FORMAT,
        chain,
        member: hospital(),
        signer: DeviceId::from_bytes([0; 32]),
        valid_until: START.plus_millis(HOUR),
        random: [number; 32],
        operations: vec![operation],
    };
    transaction.sign(&key(HOSPITAL))
}

/// The hospital makes the record of this number.
pub(crate) fn creates(chain: ChainId, number: u8) -> SignedTransaction {
    asks(chain, number, Operation::CreateRecord(CreateRecord { nonce: [number; 32] }))
}

/// The record of this number.
pub(crate) fn record(number: u8) -> RecordId {
    RecordId::of(hospital(), &[number; 32])
}

/// Lets the transaction wait to be decided, unless it is on the ledger.
pub(crate) fn submit(ledger: &Ledger, signed: SignedTransaction) -> Result<(), SubmitError> {
    ledger.add(signed).map(drop)
}
