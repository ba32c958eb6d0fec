//! Full disks under the real programs: it is said what is full, nothing acknowledged is lost, reads go on, and
//! with room again so do writes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use ihfs_tests::bytes_of;
use ihfs_tests::processes::Machine;

/// What a failed command said, and that it failed as an error does.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    text
}

/// Takes all that is free on a disk, up to the last block.
fn fill(disk: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(disk.join("somebody else's")).unwrap();
    for size in [1 << 20, 4096, 1] {
        while file.write_all(&bytes_of(1, size)).is_ok() {}
    }
}

fn make_room(disk: &Path) {
    fs::remove_file(disk.join("somebody else's")).unwrap();
}

/// Moves the node to a small disk of its own, of which it leaves 16 MiB alone.
fn on_small_disk(machine: &Machine, size_mib: u32) -> Option<std::path::PathBuf> {
    machine.done("ann", &["solo", "stop"]);
    let config = machine.path("ann/node/node.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("reserve_mib = 512"));
    fs::write(&config, text.replace("reserve_mib = 512", "reserve_mib = 16")).unwrap();
    let disk = machine.mount("ann/node", size_mib)?;
    machine.done("ann", &["solo", "start"]);
    Some(disk)
}

fn assert_same(machine: &Machine, home: &str, from: &str, expected: &[u8]) {
    let to = machine.path("got");
    machine.done(home, &["get", from, to.to_str().unwrap()]);
    assert!(fs::read(&to).unwrap() == expected, "{from} comes back");
    fs::remove_file(to).unwrap();
}

/// Gives a disk another size.
fn resize(disk: &Path, size_mib: u32) {
    let options = format!("remount,size={size_mib}m");
    assert!(Command::new("mount").args(["-o", &options]).arg(disk).status().unwrap().success());
}

#[test]
fn a_node_at_its_reserve_takes_no_more_and_reads_go_on() {
    let machine = Machine::new();
    let Some(disk) = on_small_disk(&machine, 96) else { return };
    let (small, large) = (bytes_of(1, 3_000_000), bytes_of(2, 96 << 20));
    fs::write(machine.path("small"), &small).unwrap();
    fs::write(machine.path("large"), &large).unwrap();
    machine.done("ann", &["put", &machine.text("small"), "/small"]);

    let refused = said(&machine.run("ann", &["put", &machine.text("large"), "/large"]));
    assert!(refused.contains("the node's disk is full"), "{refused}");
    assert_same(&machine, "ann", "/small", &small);
    assert_eq!(machine.code("ann", &["stat", "/large"]), 1, "nothing half-written shows");

    resize(&disk, 256);
    let again = machine.json("ann", &["put", &machine.text("large"), "/large"]);
    assert!(again["sent_bytes"].as_u64().unwrap() < large.len() as u64, "what was sent is there: {again}");
    assert_same(&machine, "ann", "/large", &large);
}

#[test]
fn a_node_without_a_free_byte_takes_nothing_and_reads_go_on_until_there_is_room() {
    let machine = Machine::new();
    machine.invite("dr.lee");
    let Some(disk) = on_small_disk(&machine, 128) else { return };
    let (first, second) = (bytes_of(1, 3_000_000), bytes_of(2, 9_000_000));
    fs::write(machine.path("first"), &first).unwrap();
    fs::write(machine.path("second"), &second).unwrap();
    machine.done("ann", &["put", &machine.text("first"), "/first"]);
    let words = machine.json("dr.lee", &["whoami"])["fingerprint"].as_str().unwrap().to_owned();
    let share = ["share", "/first", "dr.lee@home", "--until", "never", "--fingerprint", &words];

    fill(&disk);
    let second_path = machine.text("second");
    for change in [&["put", &second_path, "/second"][..], &["mkdir", "/folder"], &share] {
        let refused = said(&machine.run("ann", change));
        assert!(refused.contains("the node's disk is full"), "{change:?}: {refused}");
    }
    assert_same(&machine, "ann", "/first", &first);
    make_room(&disk);
    machine.done("ann", &["put", &machine.text("second"), "/second"]);
    assert_same(&machine, "ann", "/second", &second);
    machine.done("ann", &share);
    assert_same(&machine, "dr.lee", "//ann@home/first", &first);
}

#[test]
fn a_get_to_a_full_disk_says_so_leaves_nothing_half_and_goes_on_with_room() {
    let machine = Machine::new();
    let Some(disk) = machine.mount("out", 12) else { return };
    let files: Vec<_> = (1..=4).map(|seed| bytes_of(seed, 5_000_000)).collect();
    fs::create_dir(machine.path("study")).unwrap();
    for (number, bytes) in files.iter().enumerate() {
        fs::write(machine.path(&format!("study/{number}")), bytes).unwrap();
    }
    machine.done("ann", &["put", &machine.text("study"), "/study"]);
    let to = machine.text("out/study");
    let full = said(&machine.run("ann", &["get", "/study", &to]));
    assert!(full.contains("No space left") && full.contains("disk is full"), "{full}");
    let mut complete = 0;
    for (number, bytes) in files.iter().enumerate() {
        if let Ok(found) = fs::read(disk.join(format!("study/{number}"))) {
            assert!(found == *bytes, "a name stands only over all its bytes");
            complete += 1;
        }
    }
    assert!(complete < files.len());
    resize(&disk, 40);
    let again = machine.json("ann", &["get", "/study", &to]);
    assert_eq!(again["files_unchanged"].as_u64(), Some(complete as u64), "{again}");
    for (number, bytes) in files.iter().enumerate() {
        assert!(fs::read(disk.join(format!("study/{number}"))).unwrap() == *bytes);
    }
    assert_eq!(fs::read_dir(disk.join("study")).unwrap().count(), files.len(), "nothing temporary is left");
}

#[test]
fn a_client_whose_home_is_full_reads_and_writes_and_joins_with_room() {
    let machine = Machine::new();
    machine.invite("dr.lee");
    let Some(home) = machine.mount("dr.lee", 1) else { return };
    let bytes = bytes_of(1, 200_000);
    fs::write(machine.path("file"), &bytes).unwrap();
    fill(&home);
    machine.done("dr.lee", &["put", &machine.text("file"), "/file"]);
    assert_same(&machine, "dr.lee", "/file", &bytes);
    machine.done("dr.lee", &["received"]);

    let Some(home) = machine.mount("dr.kim", 1) else { return };
    fill(&home);
    let sheet = machine.text("dr.lee.sheet");
    let full = said(&machine.run("dr.kim", &["recover", "--sheet", &sheet]));
    assert!(full.contains("disk is full"), "{full}");
    let devices = machine.json("dr.lee", &["device", "list"]);
    assert_eq!(devices.as_array().unwrap().len(), 1, "no device whose keys are lost");
    make_room(&home);
    machine.done("dr.kim", &["recover", "--sheet", &sheet]);
    assert_same(&machine, "dr.kim", "/file", &bytes);
}
