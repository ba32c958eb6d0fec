//! What must hold of every network, over hundreds of seeds.

use super::{CALM, Network, STORM};

/// Longest that a healed network may take, in simulated milliseconds: several of the longest rounds.
const HEALED_WITHIN: u64 = 300_000;

fn equal(count: usize) -> Vec<u64> {
    vec![1; count]
}

#[test]
fn one_validator_decides_without_any_message_and_without_a_log_write() {
    let mut network = Network::new(1, &[1], 0);
    network.start_all();
    for transaction in 0..10 {
        network.submit(transaction);
    }
    network.run_for(1_000);
    assert!(network.has_all(10));
    assert_eq!((network.sent, network.fsyncs), (0, 0));
}
