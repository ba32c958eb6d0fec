//! Clocks that are a day wrong, of a client or of the node, under the real programs: what ends goes by the ledger's
//! time, and whoever cannot go on is told that it is the clock.

use std::fs;
use std::process::Output;

use ihfs_tests::bytes_of;
use ihfs_tests::processes::Machine;

/// A day in seconds, and some minutes more than any allowance.
const DAY: i64 = 25 * 60 * 60;

/// Ann with a file, and the doctor.
fn scene() -> Machine {
    let machine = Machine::new();
    machine.invite("dr.lee");
    fs::write(machine.path("file"), bytes_of(1, 100_000)).unwrap();
    fs::write(machine.path("other"), bytes_of(2, 100_000)).unwrap();
    machine.done("ann", &["put", &machine.text("file"), "/ct/slice"]);
    machine
}

fn at(machine: &Machine, shift: i64, home: &str, arguments: &[&str]) -> Output {
    machine.command_at(shift, home, arguments).output().unwrap()
}

/// Runs on a machine with a wrong clock; gives what it said beside its result.
fn done_at(machine: &Machine, shift: i64, home: &str, arguments: &[&str]) -> String {
    let output = at(machine, shift, home, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

fn share(machine: &Machine, until: &'static str) -> Vec<String> {
    let words = machine.json("dr.lee", &["whoami"])["fingerprint"].as_str().unwrap().to_owned();
    ["share", "/ct", "dr.lee@home", "--until", until, "--fingerprint", &words].map(str::to_owned).to_vec()
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// Puts the node's clock wrong.
fn restart_node_at(machine: &Machine, shift: i64) {
    machine.done("ann", &["solo", "stop"]);
    done_at(machine, shift, "ann", &["solo", "start"]);
}

#[test]
fn a_client_a_day_behind_does_all_and_is_told_of_its_clock() {
    let machine = scene();
    let put = done_at(&machine, -DAY, "ann", &["put", &machine.text("other"), "/ct/other"]);
    assert!(put.contains("clock is behind"), "{put}");
    // An hour by the ledger's time, not one that is long over.
    done_at(&machine, -DAY, "ann", &words(&share(&machine, "1h")));
    let got = machine.text("got");
    done_at(&machine, -DAY, "dr.lee", &["get", "//ann@home/ct", &got]);
    assert!(fs::read(machine.path("got/other")).unwrap() == bytes_of(2, 100_000));
    done_at(&machine, -DAY, "ann", &["revoke", "/ct", "dr.lee@home"]);
    assert_eq!(machine.code("dr.lee", &["ls", "//ann@home/ct"]), 3);
}

#[test]
fn a_client_a_day_ahead_reads_and_is_told_that_its_clock_is_why_it_cannot_write() {
    let machine = scene();
    machine.done("ann", &words(&share(&machine, "30d")));
    machine.done("dr.lee", &["get", "//ann@home/ct", &machine.text("got")]);
    let got = machine.text("again");
    done_at(&machine, DAY, "ann", &["get", "/ct", &got]);
    let put = ["put", &machine.text("other"), "/ct/other"].map(str::to_owned).to_vec();
    let revoke = ["revoke", "/ct", "dr.lee@home"].map(str::to_owned).to_vec();
    for arguments in [put, share(&machine, "1h"), revoke] {
        let refused = at(&machine, DAY, "ann", &words(&arguments));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains("clock"), "{arguments:?}: {said}");
    }
    assert_eq!(machine.code("ann", &["stat", "/ct/other"]), 1, "nothing was changed");
    machine.done("dr.lee", &["ls", "//ann@home/ct"]);
}

#[test]
fn a_node_a_day_behind_says_so_and_goes_on_by_the_ledgers_time() {
    let machine = scene();
    machine.done("ann", &words(&share(&machine, "30d")));
    restart_node_at(&machine, -DAY);
    let status = machine.done_node(&["status"]);
    assert!(status.contains("CLOCK ALARM: the ledger is ahead of this machine's clock"), "{status}");
    machine.done("dr.lee", &["get", "//ann@home/ct", &machine.text("got")]);
    machine.done("ann", &["put", &machine.text("other"), "/ct/other"]);
    machine.done("ann", &["revoke", "/ct", "dr.lee@home"]);
}

#[test]
fn a_node_a_day_ahead_names_the_clock_and_its_headers_end_a_grant_for_good() {
    let machine = scene();
    machine.done("ann", &words(&share(&machine, "1h")));
    machine.done("dr.lee", &["ls", "//ann@home/ct"]);
    restart_node_at(&machine, DAY);
    // No block says yet which of the two is wrong.
    let refused = machine.run("dr.lee", &["ls", "//ann@home/ct"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("clock"), "{said}");

    done_at(&machine, DAY, "ann", &["put", &machine.text("other"), "/ct/other"]);
    assert_eq!(machine.code("dr.lee", &["ls", "//ann@home/ct"]), 3, "the ledger's time has ended the grant");
    machine.done("ann", &["solo", "stop"]);
    machine.done("ann", &["solo", "start"]);
    assert!(machine.done_node(&["status"]).contains("CLOCK ALARM"));
    assert_eq!(machine.code("dr.lee", &["ls", "//ann@home/ct"]), 3);
    machine.done("ann", &["rm", "/ct/other"]);
}
