//! The whole path through the real programs, with real files and real kills.

use std::fs;
use std::path::{Path, PathBuf};

use ihfs_tests::bytes_of;
use ihfs_tests::processes::Machine;

/// Every file below a folder with its content's hash, by its path there.
fn hashes(folder: &Path) -> Vec<(PathBuf, [u8; 32])> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let digest = ihfs_core::ids::Digest::of(&fs::read(&path).unwrap());
            found.push((path.strip_prefix(folder).unwrap().to_owned(), *digest.as_bytes()));
        }
    }
    found.sort();
    found
}

/// Real DICOM files where the corpus is installed, generated ones elsewhere.
fn study(machine: &Machine) -> PathBuf {
    if let Some(corpus) = std::env::var_os("IHFS_CORPUS") {
        return corpus.into();
    }
    let study = machine.path("study");
    fs::create_dir_all(study.join("series")).unwrap();
    for number in 0..40 {
        fs::write(study.join(format!("series/{number}")), bytes_of(number, 9_000 * usize::from(number)))
            .unwrap();
    }
    study
}

#[test]
fn put_share_get_revoke_denied_device_removed_recover() {
    let machine = Machine::new();
    machine.invite("dr.lee");
    let study = study(&machine);
    let expected = hashes(&study);
    let from = study.to_str().unwrap();
    let put = machine.json("ann", &["put", from, "/imaging/ct"]);
    assert_eq!(put["files"].as_u64(), Some(expected.len() as u64));
    let again = machine.json("ann", &["put", from, "/imaging/ct"]);
    assert_eq!(again["sent_bytes"].as_u64(), Some(0));

    let words = machine.json("dr.lee", &["whoami"])["fingerprint"].as_str().unwrap().to_owned();
    let wrong = ["share", "/imaging/ct", "dr.lee@home", "--fingerprint", "six-words-that-are-not-his"];
    assert_eq!(machine.code("ann", &wrong), 3);
    machine.done("ann", &["share", "/imaging/ct", "dr.lee@home", "--until", "30d", "--fingerprint", &words]);
    machine.done("dr.lee", &["received"]);
    let none = machine.json("ann", &["audit"]);
    assert_eq!(none["openings"].as_array().or(none.as_array()).map(Vec::len), Some(0));
    let got = machine.text("got");
    machine.done("dr.lee", &["get", "//ann@home/ct", &got]);
    assert!(hashes(Path::new(&got)) == expected, "the doctor has the same bytes");

    machine.done("ann", &["revoke", "/imaging/ct", "dr.lee@home"]);
    assert_eq!(machine.code("dr.lee", &["get", "//ann@home/ct", &machine.text("again")]), 3);

    let sheet = machine.text("ann.sheet");
    machine.done("ann2", &["recover", "--sheet", &sheet]);
    let devices = machine.json("ann2", &["device", "list"]);
    let devices = devices.as_array().unwrap();
    let old = devices.iter().find(|device| device["this_device"] == false).unwrap();
    let old = old["device"].as_str().unwrap();
    machine.done("ann2", &["device", "remove", old, "--sheet", &sheet, "--yes"]);
    assert_ne!(machine.code("ann", &["ls", "/"]), 0, "the removed device is shut out");
    let back = machine.text("back");
    machine.done("ann2", &["get", "/imaging/ct", &back]);
    assert!(hashes(Path::new(&back)) == expected, "the recovered machine has the same bytes");
}

#[test]
fn a_killed_put_shows_nothing_and_a_rerun_goes_on() {
    let machine = Machine::new();
    let big = machine.path("big");
    fs::create_dir(&big).unwrap();
    for number in 0..24 {
        fs::write(big.join(format!("{number}")), bytes_of(number + 1, 4 << 20)).unwrap();
    }
    let from = machine.text("big");
    let store = machine.path("ann/node/store");
    let stored = || stored_bytes(&store);
    let before = stored();
    let mut put = machine.spawn("ann", &["put", &from, "/big"]);
    // Some of it is on the node, and not yet all.
    while stored() < before + (8 << 20) {
        assert!(put.try_wait().unwrap().is_none(), "the put was too fast to be killed");
        std::thread::yield_now();
    }
    put.kill().unwrap();
    put.wait().unwrap();
    assert_eq!(machine.code("ann", &["ls", "/big"]), 1, "nothing half-written shows");
    let again = machine.json("ann", &["put", &from, "/big"]);
    assert_eq!(again["files"].as_u64(), Some(24));
    machine.done("ann", &["get", "/big", &machine.text("got")]);
    assert!(hashes(&machine.path("got")) == hashes(&big));
}

/// Bytes of the chunks in a store's folder.
fn stored_bytes(store: &Path) -> u64 {
    let mut sum = 0;
    let mut waiting = vec![store.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            use std::os::unix::fs::MetadataExt;
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => waiting.push(entry.path()),
                Ok(meta) => sum += meta.blocks() * 512,
                Err(_) => {}
            }
        }
    }
    sum
}

#[test]
fn a_killed_node_keeps_what_was_acknowledged_and_the_rest_is_put_again() {
    let machine = Machine::new();
    fs::write(machine.path("one"), bytes_of(1, 3_000_000)).unwrap();
    fs::write(machine.path("two"), bytes_of(2, 60 << 20)).unwrap();
    machine.done("ann", &["put", &machine.text("one"), "/one"]);
    let mut put = machine.spawn("ann", &["put", &machine.text("two"), "/two"]);
    machine.kill_node();
    let ended = put.wait().unwrap();
    machine.done("ann", &["solo", "start"]);
    machine.done("ann", &["get", "/one", &machine.text("got-one")]);
    assert!(fs::read(machine.path("got-one")).unwrap() == bytes_of(1, 3_000_000));
    if !ended.success() {
        assert_eq!(machine.code("ann", &["stat", "/two"]), 1, "nothing half-written shows");
    }
    machine.done("ann", &["put", &machine.text("two"), "/two"]);
    machine.done("ann", &["get", "/two", &machine.text("got-two")]);
    assert!(fs::read(machine.path("got-two")).unwrap() == bytes_of(2, 60 << 20));
}

#[test]
fn a_wrong_passphrase_and_a_missing_one_are_told_apart() {
    let machine = Machine::new();
    fs::write(machine.path("pass"), "another\n").unwrap();
    let wrong = machine.run("ann", &["ls", "/"]);
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("passphrase"));
    fs::write(machine.path("pass"), "a passphrase of tests\n").unwrap();
    machine.done("ann", &["ls", "/"]);
}

/// Presses Ctrl-C.
fn interrupt(child: &std::process::Child) {
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// What a shell shows as 130.
fn was_interrupted(status: std::process::ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(2) || status.code() == Some(130)
}

#[test]
fn ctrl_c_in_the_middle_of_put_and_get_leaves_nothing_half_and_a_rerun_goes_on() {
    let machine = Machine::new();
    let bytes = bytes_of(1, 96 << 20);
    fs::write(machine.path("large"), &bytes).unwrap();
    let from = machine.text("large");
    let store = machine.path("ann/node/store");
    let before = stored_bytes(&store);
    let mut put = machine.spawn("ann", &["put", &from, "/large"]);
    while stored_bytes(&store) < before + (8 << 20) {
        assert!(put.try_wait().unwrap().is_none(), "the put was too fast to be interrupted");
        std::thread::yield_now();
    }
    interrupt(&put);
    assert!(was_interrupted(put.wait().unwrap()));
    assert_eq!(machine.code("ann", &["stat", "/large"]), 1, "nothing half-written shows");
    let again = machine.json("ann", &["put", &from, "/large"]);
    assert!(again["sent_bytes"].as_u64().unwrap() < bytes.len() as u64, "it goes on: {again}");

    fs::create_dir(machine.path("out")).unwrap();
    let target = machine.path("out/large");
    let mut get = machine.spawn("ann", &["get", "/large", target.to_str().unwrap()]);
    while stored_bytes(&machine.path("out")) < 8 << 20 {
        assert!(get.try_wait().unwrap().is_none(), "the get was too fast to be interrupted");
        std::thread::yield_now();
    }
    interrupt(&get);
    assert!(was_interrupted(get.wait().unwrap()));
    assert!(!target.exists(), "a name stands only over all its bytes");
    assert_eq!(fs::read_dir(machine.path("out")).unwrap().count(), 0, "no readable half is left");
    machine.done("ann", &["get", "/large", target.to_str().unwrap()]);
    assert!(fs::read(&target).unwrap() == bytes);
    assert_eq!(fs::read_dir(machine.path("out")).unwrap().count(), 1, "nothing temporary is left");
}

#[test]
fn the_same_get_again_fills_the_folder_that_it_made() {
    let machine = Machine::new();
    fs::create_dir_all(machine.path("study/series")).unwrap();
    for name in ["a", "series/1"] {
        fs::write(machine.path("study").join(name), name).unwrap();
    }
    machine.done("ann", &["put", &machine.text("study"), "/study"]);
    let target = machine.text("out");
    let first = machine.json("ann", &["get", "/study", &target]);
    assert_eq!(first["files_unchanged"].as_u64(), Some(0));
    fs::remove_file(machine.path("out/series/1")).unwrap();
    let again = machine.json("ann", &["get", "/study", &target]);
    assert_eq!((again["files"].as_u64(), again["files_unchanged"].as_u64()), (Some(2), Some(1)));
    assert_eq!(hashes(&machine.path("out")), hashes(&machine.path("study")));
    // Into a folder where that is said, and files into any.
    for _ in 0..2 {
        machine.done("ann", &["get", "/study", &format!("{target}/")]);
        machine.done("ann", &["get", "/study/a", &format!("{target}/series")]);
    }
    assert_eq!(hashes(&machine.path("out/study")), hashes(&machine.path("study")));
    assert_eq!(fs::read_to_string(machine.path("out/series/a")).unwrap(), "a");
    machine.done("ann", &["get", "/study", &machine.text("out/.")]);
    assert_eq!(fs::read_dir(machine.path("out")).unwrap().count(), 3);
}

#[test]
fn sources_of_one_command_are_one_version_and_a_folder_takes_no_files_place() {
    let machine = Machine::new();
    fs::create_dir(machine.path("folder")).unwrap();
    for name in ["one", "two", "folder/three"] {
        fs::write(machine.path(name), name).unwrap();
    }
    let [one, two, folder] = ["one", "two", "folder"].map(|name| machine.text(name));
    let first = machine.json("ann", &["put", &one, "/in/one"])["version"].as_u64().unwrap();
    let put = machine.json("ann", &["put", &one, &two, &folder, "/in"]);
    assert_eq!((put["files"].as_u64(), put["files_unchanged"].as_u64()), (Some(3), Some(1)));
    assert_eq!(put["version"].as_u64(), Some(first + 1));
    assert_eq!(machine.done("ann", &["cat", "/in/folder/three"]), "folder/three");
    assert_eq!(machine.code("ann", &["put", &folder, "/in/one"]), 2);
    assert_eq!(machine.done("ann", &["cat", "/in/one"]), "one");
}
