//! What must hold of every network, over hundreds of seeds.

use std::sync::Mutex;

use super::{CALM, Happening, Network, STORM, Weather};

/// Longest that a healed network may take, in simulated milliseconds: many of the longest rounds.
const HEALED_WITHIN: u64 = 600_000;
/// An idle hour.
const HOUR: u64 = 3_600_000;

fn equal(count: usize) -> Vec<u64> {
    vec![1; count]
}

/// Runs a test for each seed; a failure names its seed. `SEEDS_TIMES=20` in the environment runs twenty
/// times as many.
fn for_seeds(count: u64, test: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let times = std::env::var("SEEDS_TIMES").map_or(1, |times| times.parse().expect("a number"));
    for seed in 0..count * times {
        if let Err(failure) = std::panic::catch_unwind(|| test(seed)) {
            eprintln!("failed at seed {seed}");
            std::panic::resume_unwind(failure);
        }
    }
}

/// Calms everything down: no loss, one side, all running, every transaction known everywhere.
fn heal(network: &mut Network, transactions: u64) {
    network.weather = CALM;
    for node in 0..network.machines.len() {
        network.machines[node].side = 0;
        network.machines[node].crash_at = None;
        network.restart(node);
    }
    for transaction in 0..transactions {
        network.submit(transaction);
    }
    network.run_until(HEALED_WITHIN, "every honest node has every transaction", |network| {
        network.has_all(transactions)
    });
}

fn assert_no_engine_errors(network: &Network) {
    for node in network.honest() {
        let host = network.machines[node].host.as_ref().unwrap();
        assert_eq!(host.counters().engine_errors, 0);
    }
}

/// Submits transactions while validators crash and the network splits, loses and doubles.
fn trouble(network: &mut Network, transactions: u64) {
    network.weather = STORM;
    for transaction in 0..transactions {
        network.submit(transaction);
        let node = network.dice.index(network.machines.len());
        if network.dice.percent(40) && !network.is_liar(node) {
            let later = network.dice.below(60);
            network.machines[node].crash_at = Some(network.machines[node].actions + later);
        }
        if network.dice.percent(30) {
            for node in 0..network.machines.len() {
                network.machines[node].side = u8::from(network.dice.percent(35));
            }
        }
        let pause = network.dice.below(4_000);
        network.run_for(pause);
    }
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

#[test]
fn one_validator_survives_a_crash_at_every_action() {
    for action in 0..60 {
        let mut network = Network::new(action, &[1], 0);
        network.machines[0].crash_at = Some(action);
        network.start_all();
        for transaction in 0..6 {
            network.submit(transaction);
        }
        network.run_for(10_000);
        heal(&mut network, 6);
    }
}

#[test]
fn a_calm_network_decides_in_the_first_round_and_then_makes_no_block() {
    for count in [4, 7] {
        let mut network = Network::new(9, &equal(count), 0);
        network.start_all();
        for transaction in 0..9 {
            network.submit(transaction);
            network.run_for(700);
        }
        network.run_for(5_000);
        assert!(network.has_all(9) && network.all_idle());
        let certificates = network.machines.iter().flat_map(|machine| &machine.blocks);
        assert!(certificates.map(|(_, certificate)| certificate.round).all(|round| round == 0));
        let heights = network.heights();
        network.run_for(HOUR);
        assert_eq!(network.heights(), heights);
        assert!(network.all_idle());
    }
}

#[test]
fn four_validators_agree_through_storms_splits_and_crashes() {
    for_seeds(120, |seed| {
        let mut network = Network::new(seed, &equal(4), 0);
        network.start_all();
        trouble(&mut network, 8);
        heal(&mut network, 8);
        assert_no_engine_errors(&network);
        let heights = network.heights();
        network.run_for(HOUR / 10);
        assert_eq!(network.heights(), heights, "no block when idle");
    });
}

#[test]
fn seven_validators_of_unequal_power_agree_through_storms_splits_and_crashes() {
    for_seeds(30, |seed| {
        let mut network = Network::new(seed, &[3, 1, 2, 2, 1, 3, 1], 0);
        network.start_all();
        trouble(&mut network, 8);
        heal(&mut network, 8);
        assert_no_engine_errors(&network);
    });
}

#[test]
fn a_lying_validator_of_four_neither_splits_nor_stops_the_others() {
    let caught = Mutex::new([0; 5]);
    for_seeds(60, |seed| {
        let mut network = Network::new(seed, &equal(4), 0);
        network.make_liar(usize::try_from(seed % 4).unwrap());
        network.start_all();
        trouble(&mut network, 6);
        heal(&mut network, 6);
        for node in network.honest() {
            let now = network.machines[node].host.as_ref().unwrap().counters();
            let kinds =
                [now.garbage, now.unasked, now.invalid_blocks, now.unproved_blocks, now.equivocations];
            let mut caught = caught.lock().unwrap();
            caught.iter_mut().zip(kinds).for_each(|(sum, more)| *sum += more);
        }
    });
    let caught = caught.into_inner().unwrap();
    assert!(caught.iter().all(|kind| *kind > 0), "every kind of lie was told and caught: {caught:?}");
}

#[test]
fn a_transaction_that_only_one_validator_knows_is_decided() {
    for node in 0..4 {
        let mut network = Network::new(11, &equal(4), 0);
        network.start_all();
        network.plan(0, Happening::Submit { node, transaction: 1 });
        network.run_until(20_000, "decided", |network| network.has_all(1));
    }
}

#[test]
fn a_decision_takes_three_delays_and_two_log_writes_of_each_validator() {
    let mut network = Network::new(12, &equal(4), 0);
    network.weather = Weather { delay_max: 1, ..CALM };
    network.start_all();
    network.run_for(100);
    let before = network.fsyncs;
    for node in 0..4 {
        network.plan(0, Happening::Submit { node, transaction: 1 });
    }
    network.run_for(3);
    assert!(network.has_all(1));
    assert!(network.fsyncs - before <= 9, "{}", network.fsyncs - before);
}

#[test]
fn a_liar_with_two_sevenths_of_the_power_neither_splits_nor_stops_the_others() {
    for_seeds(15, |seed| {
        let mut network = Network::new(seed, &[2, 1, 1, 1, 1, 1], 0);
        network.make_liar(0);
        network.start_all();
        trouble(&mut network, 6);
        heal(&mut network, 6);
    });
}

#[test]
fn a_validator_of_four_survives_a_crash_at_every_action() {
    for action in 0..120 {
        let mut network = Network::new(action, &equal(4), 0);
        network.machines[1].crash_at = Some(action);
        network.start_all();
        for transaction in 0..6 {
            network.submit(transaction);
            network.run_for(300);
        }
        heal(&mut network, 6);
        assert_no_engine_errors(&network);
    }
}

#[test]
fn validators_that_change_with_every_height_agree() {
    for_seeds(30, |seed| {
        let mut network = Network::new(seed, &equal(5), 0);
        network.rotate_validators();
        network.start_all();
        trouble(&mut network, 8);
        heal(&mut network, 8);
        assert_no_engine_errors(&network);
    });
}

#[test]
fn a_follower_learns_what_a_validator_alone_decides() {
    let mut network = Network::new(8, &[1], 1);
    network.start_all();
    for transaction in 0..7 {
        network.submit(transaction);
        network.run_for(3_000);
    }
    network.run_until(30_000, "the follower has all", |network| network.has_all(7));
    assert!(network.machines[1].blocks.len() == 7 && network.origins["synced"] == 7);
}

#[test]
fn a_node_that_joins_late_catches_up_by_certificates() {
    let mut network = Network::new(3, &equal(4), 2);
    for node in 0..4 {
        network.restart(node);
    }
    for transaction in 0..300 {
        network.submit(transaction);
        network.run_for(20);
    }
    network.run_until(HEALED_WITHIN, "four validators have all", |network| {
        network.machines[..4].iter().all(|machine| machine.blocks.len() == network.decided.len())
            && network.all_idle_of(4)
    });
    heal(&mut network, 300);
    assert!(network.origins["synced"] >= 2 * 100);
}

#[test]
fn a_minority_decides_nothing_and_joins_when_the_split_heals() {
    let mut network = Network::new(5, &equal(4), 0);
    network.start_all();
    network.machines[3].side = 1;
    for transaction in 0..12 {
        network.submit(transaction);
        network.run_for(500);
    }
    assert_eq!(network.machines[3].blocks.len(), 0);
    assert!(network.machines[0].blocks.len() >= 4);
    network.machines[3].side = 0;
    network.run_until(30_000, "the minority catches up", |network| network.has_all(12));
}

#[test]
fn two_halves_decide_nothing_until_the_split_heals() {
    let mut network = Network::new(6, &equal(4), 0);
    network.start_all();
    network.machines[2].side = 1;
    network.machines[3].side = 1;
    network.submit(0);
    network.run_for(120_000);
    assert!(network.decided.is_empty());
    heal(&mut network, 1);
}

#[test]
fn a_block_ahead_of_the_clock_is_not_decided() {
    let mut network = Network::new(7, &equal(4), 0);
    network.machines[0].skew = 86_400_000;
    network.start_all();
    for transaction in 0..9 {
        network.submit(transaction);
        network.run_for(5_000);
    }
    network.run_until(HEALED_WITHIN, "the others decide", |network| network.has_all(9));
    let tomorrow = super::BEGIN + 43_200_000;
    let times = network.machines[1].blocks.iter().map(|(block, _)| block.header.time.0);
    assert!(times.into_iter().all(|time| time < tomorrow));
}

#[test]
fn a_block_behind_the_clock_is_not_decided() {
    const PAUSE: u64 = HOUR / 6;
    let mut network = Network::new(7, &equal(4), 0);
    network.machines[0].skew = -i64::try_from(HOUR).unwrap();
    network.start_all();
    for transaction in 0..9 {
        network.submit(transaction);
        network.run_for(PAUSE);
    }
    assert!(network.has_all(9));
    // Each block holds one transaction: its place says when it was made.
    for (place, (block, _)) in network.machines[1].blocks.iter().enumerate() {
        let made = super::BEGIN + PAUSE * place as u64;
        assert!(block.header.time.0 > made - PAUSE / 2, "block {place} brings the past back");
    }
    assert!(network.machines[1].host.as_ref().unwrap().counters().stale_proposals > 0);
}

#[test]
fn the_same_seed_gives_the_same_blocks() {
    let run = || {
        let mut network = Network::new(42, &equal(4), 0);
        network.start_all();
        trouble(&mut network, 8);
        heal(&mut network, 8);
        (network.decided, network.sent, network.fsyncs)
    };
    assert_eq!(run(), run());
}
