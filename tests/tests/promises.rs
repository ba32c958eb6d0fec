//! The promises of docs/SEMANTICS.md that show on whole flows, at width one.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

use ihfs_client::book::Contact;
use ihfs_client::client::Client;
use ihfs_client::edit::Edit;
use ihfs_client::get::GetOptions;
use ihfs_client::home::Home;
use ihfs_client::join::recover;
use ihfs_client::merging::MergingError;
use ihfs_client::progress::{Progress, Silent};
use ihfs_client::put::{Put, PutError};
use ihfs_client::share::{ShareError, ShareOptions};
use ihfs_client::writing::CommitError;
use ihfs_core::merge::Conflict;
use ihfs_core::tree::name::Name;
use ihfs_tests::dicom::Slice;
use ihfs_tests::{PASSPHRASE, Person, Scene, at, bytes_of, connect, for_treatment, read_as};

/// Every file below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

/// Files below `folder` in which `needle` stands.
fn holders(folder: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| {
        fs::read(path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
    };
    files_below(folder).into_iter().filter(holds).collect()
}

#[test]
fn a_node_stores_no_byte_of_what_was_put() {
    let mut scene = Scene::new();
    scene.put(&scene.ann.connect(), "/secret-folder/melanoma-finding", 7);
    scene.share("/secret-folder", &ShareOptions { label: Some("very-private".into()), ..for_treatment() });
    assert!(scene.read(&scene.lee, &scene.shared("very-private/melanoma-finding")).is_some());
    scene.solo.stop();
    let content = bytes_of(7, 100_000);
    let needles = [
        &b"secret-folder"[..],
        b"melanoma-finding",
        b"very-private",
        &content[..16],
        &content[70_000..70_016],
    ];
    for needle in needles {
        assert_eq!(holders(&scene.solo.node_path(), needle), Vec::<PathBuf>::new());
    }
}

#[test]
fn no_name_label_or_content_stands_in_a_block() {
    let mut scene = Scene::new();
    scene.share("/ct", &ShareOptions { label: Some("very-private".into()), ..for_treatment() });
    scene.solo.stop();
    let ledger = scene.solo.node_path().join("ledger.redb");
    let bytes = fs::read(&ledger).unwrap();
    for needle in [&b"dr.lee"[..], b"ann@", b"very-private", b"slice"] {
        assert!(!bytes.windows(needle.len()).any(|window| window == needle));
    }
}

#[test]
fn real_files_come_back_byte_for_byte() {
    let Some(corpus) = std::env::var_os("IHFS_CORPUS").map(PathBuf::from) else { return };
    let scene = Scene::new();
    let patient = scene.ann.connect();
    let put = patient.put(&[Put::path(corpus.clone(), at("/corpus"))], &Silent).unwrap();
    assert!(put.files >= 273, "{} files", put.files);
    let again = patient.put(&[Put::path(corpus.clone(), at("/corpus"))], &Silent).unwrap();
    assert_eq!((again.files_unchanged, again.sent_bytes), (put.files, 0));
    let to = scene.solo.path().join("got");
    patient.get(&at("/corpus"), &to, GetOptions::default(), &Silent).unwrap();
    for file in files_below(&corpus) {
        let got = to.join(file.strip_prefix(&corpus).unwrap());
        assert!(fs::read(&file).unwrap() == fs::read(&got).unwrap(), "{file:?}");
    }
}

#[test]
fn mode_time_links_and_user_attributes_come_back() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let scene = Scene::new();
    let from = scene.solo.path().join("from");
    fs::create_dir(&from).unwrap();
    fs::write(from.join("file"), b"content").unwrap();
    fs::set_permissions(from.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("file", from.join("link")).unwrap();
    let set = std::process::Command::new("python3")
        .args(["-c", "import os, sys; os.setxattr(sys.argv[1], 'user.study', b'ct')"])
        .arg(from.join("file"))
        .status();
    // Some file systems have no extended attributes.
    let has_attributes = set.is_ok_and(|status| status.success());
    let patient = scene.ann.connect();
    patient.put(&[Put::path(from.clone(), at("/from"))], &Silent).unwrap();
    let to = scene.solo.path().join("to");
    patient.get(&at("/from"), &to, GetOptions::default(), &Silent).unwrap();
    let (old, new) = (fs::metadata(from.join("file")).unwrap(), fs::metadata(to.join("file")).unwrap());
    assert_eq!((old.mode(), old.mtime(), old.mtime_nsec()), (new.mode(), new.mtime(), new.mtime_nsec()));
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("file"));
    if has_attributes {
        let read = std::process::Command::new("python3")
            .args(["-c", "import os, sys; print(os.getxattr(sys.argv[1], 'user.study').decode())"])
            .arg(to.join("file"))
            .output()
            .unwrap();
        assert_eq!(read.stdout, b"ct\n");
    }
}

/// Writes a study of 500 slices of 128 KiB.
fn write_study(folder: &Path, patient: &str) {
    fs::create_dir_all(folder).unwrap();
    for number in 0..500u16 {
        let pixels = bytes_of(u8::try_from(number % 251).unwrap() + 1, 2 * 256 * 256);
        let slice = Slice { patient, number, side: 256, pixels: &pixels };
        fs::write(folder.join(format!("{number:03}.dcm")), slice.to_bytes()).unwrap();
    }
}

#[test]
fn a_changed_tag_in_500_slices_uploads_headers_only() {
    let scene = Scene::new();
    let study = scene.solo.path().join("study");
    let patient = scene.ann.connect();
    write_study(&study, "Doe^Jane");
    let first = patient.put(&[Put::path(study.clone(), at("/study"))], &Silent).unwrap();
    assert_eq!(first.files, 500);
    // Another length moves everything behind it by an odd number of elements' bytes.
    write_study(&study, "Doe-Rosenberg^Jane Philippa");
    let second = patient.put(&[Put::path(study, at("/study"))], &Silent).unwrap();
    println!("500 slices: {} bytes sent first, {} after a changed tag", first.sent_bytes, second.sent_bytes);
    assert!(second.sent_bytes * 50 < first.bytes, "{} of {}", second.sent_bytes, first.bytes);
    let stat = patient.stat(&at("/study/007.dcm")).unwrap();
    assert_eq!(stat.dicom.unwrap().modality.as_deref(), Some("CT"));
}

/// Does something once, when a phase begins.
struct AtPhase<'a>(&'static str, AtomicU32, &'a (dyn Fn() + Sync));

impl Progress for AtPhase<'_> {
    fn phase(&self, phase: &'static str) {
        if phase == self.0 && self.1.fetch_add(1, Ordering::SeqCst) == 0 {
            (self.2)();
        }
    }
}

#[test]
fn a_put_that_a_revocation_overtakes_seals_again_under_the_new_epoch() {
    let scene = Scene::new();
    scene.share("/ct", &for_treatment());
    let path = scene.shared("ct/slice");
    let doctor = scene.lee.connect();
    assert!(read_as(&doctor, &path).is_some());
    let file = scene.solo.path().join("local");
    fs::write(&file, bytes_of(2, 100_000)).unwrap();
    let other_device = scene.ann.connect();
    let revoke = || drop(other_device.revoke(&at("/ct"), &scene.lee.handle()).unwrap());
    let progress = AtPhase("committing", AtomicU32::new(0), &revoke);
    let put = scene.ann.connect().put(&[Put::path(file, at("/ct/slice"))], &progress).unwrap();
    assert!(put.version.is_some());
    let patient = scene.ann.connect();
    assert_eq!(read_as(&patient, "/ct/slice"), Some(bytes_of(2, 100_000)));
    let stat = patient.stat(&at("/ct/slice")).unwrap();
    assert_eq!(stat.epoch, 1, "sealed again");
    assert_eq!(read_as(&doctor, &path), None);
}

#[test]
fn what_is_put_again_after_a_revocation_lands_in_the_new_epoch() {
    let scene = Scene::new();
    scene.share("/ct", &for_treatment());
    let path = scene.shared("ct/slice");
    let (patient, doctor) = (scene.ann.connect(), scene.lee.connect());
    assert!(read_as(&doctor, &path).is_some());
    let revoked = patient.revoke(&at("/ct"), &scene.lee.handle()).unwrap();
    assert_eq!(revoked.remaining, 0);
    // The same bytes: nothing to send, and nothing that he could not read before.
    let file = scene.solo.path().join("local");
    fs::write(&file, bytes_of(1, 100_000)).unwrap();
    let again = patient.put(&[Put::path(file.clone(), at("/ct/slice"))], &Silent).unwrap();
    assert_eq!((again.files_unchanged, again.sent_bytes < 10_000), (1, true), "{again:?}");
    scene.put(&patient, "/ct/slice", 2);
    let history = patient.history(&at("/ct/slice")).unwrap();
    assert_eq!(history.last().unwrap().epoch, 1);
    assert_eq!(read_as(&doctor, &path), None);
}

/// Stops a put when it is about to be committed: everything is uploaded and nothing anchored.
struct StopsBeforeCommit;

impl Progress for StopsBeforeCommit {
    fn phase(&self, phase: &'static str) {
        assert_ne!(phase, "committing", "stopped on purpose");
    }
}

#[test]
fn an_upload_resumed_after_a_revocation_is_sealed_under_the_new_epoch() {
    let scene = Scene::new();
    scene.share("/ct", &for_treatment());
    let (patient, doctor) = (scene.ann.connect(), scene.lee.connect());
    let path = scene.shared("ct/slice");
    assert!(read_as(&doctor, &path).is_some());
    let file = scene.solo.path().join("large");
    fs::write(&file, bytes_of(6, 3_000_000)).unwrap();
    let puts = [Put::path(file, at("/ct/slice"))];
    let stopped = catch_unwind(AssertUnwindSafe(|| patient.put(&puts, &StopsBeforeCommit)));
    assert!(stopped.is_err());
    patient.revoke(&at("/ct"), &scene.lee.handle()).unwrap();
    let resumed = patient.put(&puts, &Silent).unwrap();
    assert!(resumed.sent_bytes > 3_000_000, "sealed again, not taken from before: {resumed:?}");
    assert_eq!(patient.stat(&at("/ct/slice")).unwrap().epoch, 1);
    assert_eq!(read_as(&patient, "/ct/slice"), Some(bytes_of(6, 3_000_000)));
    assert_eq!(read_as(&doctor, &path), None);
}

#[test]
fn a_writer_who_loses_access_while_he_puts_leaves_nothing() {
    let scene = Scene::new();
    scene.share("/ct", &ShareOptions { write: true, ..for_treatment() });
    let file = scene.solo.path().join("local");
    fs::write(&file, bytes_of(2, 100_000)).unwrap();
    let owner = scene.ann.connect();
    let revoke = || drop(owner.revoke(&at("/ct"), &scene.lee.handle()).unwrap());
    let progress = AtPhase("committing", AtomicU32::new(0), &revoke);
    let doctor = scene.lee.connect();
    let put = doctor.put(&[Put::path(file, at(&scene.shared("ct/slice")))], &progress);
    assert!(put.is_err());
    let patient = scene.ann.connect();
    let history = patient.history(&at("/ct/slice")).unwrap();
    assert!(history.iter().all(|version| version.author == patient.member().to_string()));
    assert_eq!(read_as(&patient, "/ct/slice"), Some(bytes_of(1, 100_000)));
}

/// A second device of the patient's.
fn second_device(scene: &Scene) -> Client {
    let (home, _) = recovered(scene, PASSPHRASE);
    connect(&home, PASSPHRASE)
}

fn path(text: &str) -> Vec<Name> {
    at(text).path().to_vec()
}

/// Begins to change the vault.
fn begin(device: &Client) -> Edit {
    device.edit_at(&at("/")).unwrap().0
}

/// Writes new bytes into a file.
fn write(edit: &mut Edit, file: &str, seed: u8) {
    edit.write_at(&path(file), 0, &bytes_of(seed, 100_000)).unwrap();
}

#[test]
fn of_two_devices_changes_to_one_record_none_is_lost() {
    let scene = Scene::new();
    let (laptop, phone) = (scene.ann.connect(), second_device(&scene));
    for (file, seed) in [("/ct/ours", 2), ("/ct/both", 3), ("/ct/deleted", 4), ("/ct/edited", 5)] {
        scene.put(&laptop, file, seed);
    }
    let (mut ours, mut theirs) = (begin(&laptop), begin(&phone));
    write(&mut ours, "/ct/ours", 12);
    write(&mut ours, "/ct/both", 13);
    ours.remove(&path("/ct/deleted")).unwrap();
    write(&mut ours, "/ct/edited", 15);
    write(&mut theirs, "/ct/slice", 21);
    write(&mut theirs, "/ct/both", 23);
    write(&mut theirs, "/ct/deleted", 24);
    theirs.remove(&path("/ct/edited")).unwrap();

    let (first, none) = theirs.commit_merging("phone").unwrap();
    assert_eq!(none, []);
    let (second, conflicts) = ours.commit_merging("laptop").unwrap();
    assert_eq!(second.version, first.version + 1);
    let copy = conflicts.iter().find_map(|conflict| match conflict {
        Conflict::Copied { path: at, copy } if *at == path("/ct/both") => copy.last(),
        _ => None,
    });
    let copy = String::from_utf8(copy.unwrap().as_bytes().to_vec()).unwrap();
    let year = 1970 + ihfs_client::client::now().0 / 31_556_952_000;
    assert!(copy.contains("laptop") && copy.contains(&year.to_string()), "{copy}");
    assert!(conflicts.contains(&Conflict::EditBeatDelete { path: path("/ct/deleted") }), "{conflicts:?}");
    assert!(conflicts.contains(&Conflict::Restored { path: path("/ct/edited") }), "{conflicts:?}");
    for client in [&laptop, &phone] {
        let copy = format!("/ct/{copy}");
        for (file, seed) in [
            ("/ct/slice", 21),
            ("/ct/ours", 12),
            ("/ct/both", 23),
            (copy.as_str(), 13),
            ("/ct/deleted", 24),
            ("/ct/edited", 15),
        ] {
            assert_eq!(read_as(client, file), Some(bytes_of(seed, 100_000)), "{file}");
        }
    }
}

#[test]
fn two_devices_that_commit_at_one_moment_both_stand_afterwards() {
    let scene = Scene::new();
    scene.put(&scene.ann.connect(), "/ct/other", 2);
    let devices = [(scene.ann.connect(), "/ct/slice", 11), (second_device(&scene), "/ct/other", 12)];
    let before = devices[0].0.stat(&at("/ct")).unwrap().version;
    let start = Barrier::new(2);
    std::thread::scope(|threads| {
        for (device, file, seed) in &devices {
            threads.spawn(|| {
                let mut edit = begin(device);
                write(&mut edit, file, *seed);
                start.wait();
                let (_, conflicts) = edit.commit_merging("device").unwrap();
                assert_eq!(conflicts, []);
            });
        }
    });
    let patient = scene.ann.connect();
    assert_eq!(patient.stat(&at("/ct")).unwrap().version, before + 2);
    for (_, file, seed) in &devices {
        assert_eq!(read_as(&patient, file), Some(bytes_of(*seed, 100_000)), "{file}");
    }
}

#[test]
fn an_edit_that_a_revocation_overtakes_is_told_so() {
    let scene = Scene::new();
    scene.share("/ct", &for_treatment());
    let (laptop, phone) = (scene.ann.connect(), second_device(&scene));
    let (mut edit, _) = laptop.edit_at(&at("/ct")).unwrap();
    write(&mut edit, "/slice", 2);
    phone.revoke(&at("/ct"), &scene.lee.handle()).unwrap();
    let told = edit.commit_merging("laptop");
    assert!(matches!(told, Err(MergingError::Commit(CommitError::EpochMoved { .. }))), "{told:?}");
    assert_eq!(read_as(&laptop, "/ct/slice"), Some(bytes_of(1, 100_000)));
}

#[test]
fn two_puts_that_race_are_both_there_afterwards() {
    let scene = Scene::new();
    let file = scene.solo.path().join("local");
    fs::write(&file, bytes_of(2, 100_000)).unwrap();
    let other_device = scene.ann.connect();
    let put_other = || drop(other_device.put(&[Put::path(&file, at("/other"))], &Silent).unwrap());
    let progress = AtPhase("committing", AtomicU32::new(0), &put_other);
    scene.ann.connect().put(&[Put::path(&file, at("/one"))], &progress).unwrap();
    let patient = scene.ann.connect();
    for path in ["/one", "/other"] {
        assert_eq!(read_as(&patient, path), Some(bytes_of(2, 100_000)), "{path}");
    }
}

#[test]
fn revoke_prints_the_versions_that_openings_made_readable() {
    let scene = Scene::new();
    scene.share("/ct", &for_treatment());
    assert!(scene.read(&scene.lee, &scene.shared("ct/slice")).is_some());
    let patient = scene.ann.connect();
    scene.put(&patient, "/ct/slice", 2);
    let revoked = patient.revoke(&at("/ct"), &scene.lee.handle()).unwrap();
    let versions: Vec<u64> = revoked.may_hold.iter().map(|held| held.version).collect();
    assert_eq!(versions, [1, 2], "his key opens what was written later in the epoch too");
    assert!(revoked.may_hold.iter().all(|held| held.bytes_added > 0));

    let kim = scene.solo.join("dr.kim", ihfs_core::ledger::identity::Role::Practitioner);
    let person = patient.look_up(&kim.handle()).unwrap();
    patient.share(&at("/ct"), &person, &for_treatment()).unwrap();
    let revoked = patient.revoke(&at("/ct"), &kim.handle()).unwrap();
    assert!(revoked.may_hold.is_empty(), "who never opened holds nothing");
}

/// Panics in the middle of a file.
struct Breaks(AtomicU32);

impl Progress for Breaks {
    fn advance(&self, _bytes: u64) {
        assert!(self.0.fetch_add(1, Ordering::SeqCst) < 2, "broken on purpose");
    }
}

#[test]
fn an_interrupted_get_leaves_no_half_file() {
    let scene = Scene::new();
    let file = scene.solo.path().join("local");
    fs::write(&file, bytes_of(3, 5_000_000)).unwrap();
    let patient = scene.ann.connect();
    patient.put(&[Put::path(file, at("/big/file"))], &Silent).unwrap();
    let to = scene.solo.path().join("got");
    let broken = catch_unwind(AssertUnwindSafe(|| {
        patient.get(&at("/big"), &to, GetOptions::default(), &Breaks(AtomicU32::new(0)))
    }));
    assert!(broken.is_err());
    assert!(!to.join("file").exists());
    scene.ann.connect().get(&at("/big"), &to, GetOptions::default(), &Silent).unwrap();
    assert!(fs::read(to.join("file")).unwrap() == bytes_of(3, 5_000_000));
    assert_eq!(files_below(&to).len(), 1, "no temporary file is left");
}

/// Changes a file whenever it is about to be read.
struct Restless(PathBuf, AtomicU32);

impl Progress for Restless {
    fn advance(&self, _bytes: u64) {
        let times = self.1.fetch_add(1, Ordering::SeqCst) as usize;
        fs::write(&self.0, bytes_of(9, 50_000 + times)).unwrap();
    }
}

#[test]
fn a_file_that_changes_twice_while_read_fails_the_put() {
    let scene = Scene::new();
    let file = scene.solo.path().join("local");
    fs::write(&file, bytes_of(3, 50_000)).unwrap();
    let patient = scene.ann.connect();
    let restless = Restless(file.clone(), AtomicU32::new(0));
    let put = patient.put(&[Put::path(file, at("/restless"))], &restless);
    assert!(matches!(put, Err(PutError::Changing { .. })), "{put:?}");
    assert_eq!(read_as(&patient, "/restless"), None);
}

#[test]
fn a_changed_key_is_refused() {
    let scene = Scene::new();
    let patient = scene.ann.connect();
    let person = patient.look_up(&scene.lee.handle()).unwrap();
    assert!(!person.pinned);
    let pin = |key| Contact { member: person.member, proof: person.proof.clone(), pinned_key: key };
    patient.change_book(|book| book.add_contact(pin(person.key))).unwrap();
    assert!(patient.look_up(&scene.lee.handle()).unwrap().pinned);
    patient.change_book(|book| book.add_contact(pin([1; 32]))).unwrap();
    let changed = patient.look_up(&scene.lee.handle());
    assert!(matches!(changed, Err(ShareError::KeyChanged { .. })));
}

/// Recovers the patient into a new home.
fn recovered(scene: &Scene, passphrase: &[u8]) -> (Home, ihfs_client::join::Recovered) {
    let home = Home::at(scene.solo.path().join("new machine"));
    let ann: &Person = &scene.ann;
    let found = recover(&home, &ann.seed(), passphrase, &ann.whereabouts(), false).unwrap();
    (home, found)
}

#[test]
fn the_sheet_alone_brings_everything_back() {
    let scene = Scene::new();
    scene.share("/ct", &for_treatment());
    let (home, found) = recovered(&scene, b"a new passphrase");
    assert_eq!((found.readable, found.who.handle.as_deref()), (found.records, Some("ann@st-mary")));
    let client = connect(&home, b"a new passphrase");
    assert_eq!(read_as(&client, "/ct/slice"), Some(bytes_of(1, 100_000)));
    assert_eq!(client.grants().unwrap().len(), 1);
    assert!(client.look_up(&scene.lee.handle()).unwrap().pinned);
    scene.put(&client, "/ct/slice", 2);
    assert_eq!(scene.read(&scene.lee, &scene.shared("ct/slice")), Some(bytes_of(2, 100_000)));
}

#[test]
fn a_drill_finds_everything_and_changes_nothing() {
    let scene = Scene::new();
    let home = Home::at(scene.solo.path().join("new machine"));
    let before = scene.ann.connect().freshness().height;
    let drill = recover(&home, &scene.ann.seed(), PASSPHRASE, &scene.ann.whereabouts(), true).unwrap();
    assert_eq!((drill.records, drill.drill), (2, true));
    assert!(!home.path().exists());
    assert_eq!(scene.ann.connect().freshness().height, before);
}

#[test]
fn recovering_over_a_forgotten_passphrase_makes_a_new_device() {
    let scene = Scene::new();
    let home = scene.ann.home.clone();
    recover(&home, &scene.ann.seed(), b"remembered", &scene.ann.whereabouts(), false).unwrap();
    let client = connect(&home, b"remembered");
    assert_eq!(client.devices().unwrap().len(), 2);
    assert_eq!(read_as(&client, "/ct/slice"), Some(bytes_of(1, 100_000)));
}

#[test]
fn the_newest_height_is_current_at_width_one() {
    let scene = Scene::new();
    assert!(scene.ann.connect().freshness().current);
}
