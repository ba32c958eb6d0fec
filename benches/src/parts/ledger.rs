//! Applying blocks beside checking the signatures in them, for states of several sizes.

use anyhow::Result;
use ihfs_core::crypto::sign::{Purpose, SigningKey, verify};
use ihfs_core::ids::{ChainId, DeviceId, Digest, MemberId, NodeId, Time};
use ihfs_core::ledger::certificate::{Validator, ValidatorSet};
use ihfs_core::ledger::genesis::{GENESIS_FORMAT, Genesis, GenesisMember, GenesisNode};
use ihfs_core::ledger::memory::MemoryLedger;
use ihfs_core::ledger::operation::{CreateRecord, Operation};
use ihfs_core::ledger::state::Policy;
use ihfs_core::ledger::transaction::{SignedTransaction, TRANSACTION_FORMAT, Transaction};
use ihfs_core::placement::Region;

use crate::measure::median_seconds;

/// Transactions of one block.
const BLOCK_TRANSACTIONS: usize = 100;
/// Records of the states that are measured.
const RECORDS: [usize; 3] = [1_000, 10_000, 50_000];
/// When the network begins.
const BEGIN: Time = Time(1_000_000);

/// Measures blocks on growing states.
pub fn run(rounds: usize) -> Result<()> {
    println!("records | transactions/s | signature checks/s | ratio");
    println!("--- | --- | --- | ---");
    let hospital = SigningKey::from_seed(ihfs_core::crypto::secret::Secret::new([1; 32]));
    let mut ledger = MemoryLedger::found(genesis(&hospital))?;
    let mut made = 0u64;
    for records in RECORDS {
        while (made as usize) < records {
            let block = block(&hospital, ledger.chain(), &mut made, 256);
            apply(&mut ledger, &block);
        }
        let blocks: Vec<_> =
            (0..rounds.max(1)).map(|_| block(&hospital, ledger.chain(), &mut made, 1)).collect();
        let mut next = blocks.iter();
        let applying =
            median_seconds(rounds, || apply(&mut ledger, next.next().expect("one for each round")));
        let bytes: Vec<_> = blocks[0].iter().collect();
        let checking = median_seconds(rounds, || {
            for signed in &bytes {
                verify(&hospital.public(), Purpose::Transaction, &signed.bytes, &signed.signature)
                    .expect("signed");
            }
        });
        let rate = |seconds: f64| BLOCK_TRANSACTIONS as f64 / seconds;
        println!("{records} | {:.0} | {:.0} | {:.2}", rate(applying), rate(checking), checking / applying);
    }
    Ok(())
}

fn apply(ledger: &mut MemoryLedger, block: &[SignedTransaction]) {
    let applied = ledger.apply(Time(ledger.time().0 + 1000), block).expect("a ledger in memory is whole");
    assert!(applied.results.iter().all(Result::is_ok), "every transaction applies");
}

/// Transactions that create records: `each` records in one.
fn block(key: &SigningKey, chain: ChainId, made: &mut u64, each: usize) -> Vec<SignedTransaction> {
    let count = if each == 1 { BLOCK_TRANSACTIONS } else { 1 };
    let mut create = || {
        *made += 1;
        Operation::CreateRecord(CreateRecord { nonce: *Digest::of(&made.to_le_bytes()).as_bytes() })
    };
    let mut one = |number: usize| {
        let operations: Vec<_> = (0..each).map(|_| create()).collect();
        let mut random = [number as u8; 32];
        random[..8].copy_from_slice(
            Digest::of(format!("{operations:?}").as_bytes()).as_bytes().first_chunk::<8>().expect("8 of 32"),
        );
        Transaction {
            format: TRANSACTION_FORMAT,
            chain,
            member: MemberId::of_key(&key.public()),
            signer: DeviceId::from_bytes(key.public()),
            valid_until: Time(BEGIN.0 + 24 * 60 * 60 * 1000),
            random,
            operations,
        }
        .sign(key)
    };
    (0..count).map(&mut one).collect()
}

fn genesis(hospital: &SigningKey) -> Genesis {
    let node =
        NodeId::from_bytes(SigningKey::from_seed(ihfs_core::crypto::secret::Secret::new([2; 32])).public());
    Genesis {
        format: GENESIS_FORMAT,
        network: "benches".to_owned(),
        time: BEGIN,
        validators: ValidatorSet::new(vec![Validator { node, power: 1 }]).expect("one validator"),
        nodes: vec![GenesisNode {
            node,
            hospital: MemberId::of_key(&hospital.public()),
            region: Region(0),
            weight: 1,
            addresses: Vec::new(),
        }],
        members: vec![GenesisMember::hospital(hospital.public(), Digest::of(b"handle"))],
        policy: Policy::default(),
    }
}
