//! Files and folders on one node: put, list, get, move, remove, history, restore, prune.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ihfs_client::change::ChangeError;
use ihfs_client::client::Client;
use ihfs_client::get::{GetError, GetOptions};
use ihfs_client::history::{HistoryError, Keep, VersionState};
use ihfs_client::list::Kind;
use ihfs_client::progress::{Progress, Silent};
use ihfs_client::put::Put;
use ihfs_core::ids::{Digest, Version};
use ihfs_core::ledger::identity::Role;
use ihfs_core::tree::edit::Overwrite;
use ihfs_tests::{Solo, at, bytes_of, for_treatment};

const PLAIN: GetOptions = GetOptions { overwrite: false };

/// What a local tree holds: kind, permission bits, time and digest of everything below a path.
fn state(top: &Path) -> BTreeMap<String, (u32, i64, i64, String)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(path) = waiting.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        let content = if stat.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            "folder".to_owned()
        } else if stat.is_symlink() {
            format!("link to {:?}", fs::read_link(&path).unwrap())
        } else {
            Digest::of(&fs::read(&path).unwrap()).to_string()
        };
        let name = path.strip_prefix(top).unwrap().to_string_lossy().into_owned();
        found.insert(name, (stat.mode() & 0o1777, stat.mtime(), stat.mtime_nsec(), content));
    }
    found
}

/// A folder with one of each: nested folders, a large file, empty ones, a link, many small files.
fn study(path: &Path) {
    fs::create_dir_all(path.join("series/1")).unwrap();
    fs::create_dir(path.join("nothing")).unwrap();
    fs::write(path.join("large"), bytes_of(1, 9_300_000)).unwrap();
    fs::write(path.join("empty"), b"").unwrap();
    fs::write(path.join("notes.txt"), b"as typed").unwrap();
    symlink("notes.txt", path.join("link")).unwrap();
    for number in 0..300u32 {
        let bytes = bytes_of((number % 250) as u8, 3000 + number as usize);
        fs::write(path.join(format!("series/1/{number:04}")), bytes).unwrap();
    }
    fs::set_permissions(path.join("notes.txt"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(path.join("series/1"), fs::Permissions::from_mode(0o555)).unwrap();
}

fn put(client: &Client, local: &Path, to: &str) {
    client.put(&[Put::path(local.to_owned(), at(to))], &Silent).unwrap();
}

fn put_bytes(client: &Client, solo: &Solo, bytes: &[u8], to: &str) {
    let local = solo.path().join("one-file");
    fs::write(&local, bytes).unwrap();
    put(client, &local, to);
}

fn cat(client: &Client, from: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.cat(&at(from), 0, u64::MAX, &mut bytes).unwrap();
    bytes
}

fn names(client: &Client, of: &str) -> Vec<String> {
    client.ls(&at(of), None, 100_000).unwrap().entries.into_iter().map(|entry| entry.name).collect()
}

#[test]
fn a_folder_comes_back_as_it_was_and_a_second_get_writes_nothing() {
    let solo = Solo::new();
    let ann = solo.join("ann", Role::Patient).connect();
    let (here, there) = (solo.path().join("study"), solo.path().join("back"));
    study(&here);
    put(&ann, &here, "/imaging/ct");
    let first = ann.get(&at("/imaging/ct"), &there, PLAIN, &Silent).unwrap();
    assert_eq!((first.files, first.symlinks, first.folders), (303, 1, 4));
    assert_eq!(state(&there), state(&here));
    let again = ann.get(&at("/imaging/ct"), &there, PLAIN, &Silent).unwrap();
    assert_eq!((again.files, again.files_unchanged, again.written_bytes), (303, 303, 0));
    assert_eq!(state(&there), state(&here));

    fs::write(there.join("notes.txt"), b"changed here").unwrap();
    let refused = ann.get(&at("/imaging/ct"), &there, PLAIN, &Silent);
    assert!(matches!(refused, Err(GetError::Exists { .. })));
    assert_eq!(fs::read(there.join("notes.txt")).unwrap(), b"changed here");
    ann.get(&at("/imaging/ct"), &there, GetOptions { overwrite: true }, &Silent).unwrap();
    assert_eq!(state(&there), state(&here));
}

#[test]
fn a_range_of_a_file_is_read_and_a_folder_has_none() {
    let solo = Solo::new();
    let ann = solo.join("ann", Role::Patient).connect();
    let bytes = bytes_of(3, 5_000_000);
    put_bytes(&ann, &solo, &bytes, "/f/large");
    for (start, length) in [(0, 5_000_000), (1_048_570, 20), (4_999_999, 100), (5_000_000, 1), (3, 2_500_000)]
    {
        let mut part = Vec::new();
        let written = ann.cat(&at("/f/large"), start, length, &mut part).unwrap();
        let end = (start + length).min(5_000_000);
        assert_eq!(part, bytes[start as usize..end as usize]);
        assert_eq!(written, end - start);
    }
    let folder = ann.cat(&at("/f"), 0, 1, &mut Vec::new());
    assert!(matches!(folder, Err(GetError::NotAFile { .. })));
}

#[test]
fn a_listing_comes_in_pages_and_stat_tells_what_stands_there() {
    let solo = Solo::new();
    let ann = solo.join("ann", Role::Patient).connect();
    let here = solo.path().join("study");
    study(&here);
    put(&ann, &here, "/ct");
    assert_eq!(names(&ann, "/ct"), ["empty", "large", "link", "notes.txt", "nothing", "series"]);
    let (mut paged, mut from) = (Vec::new(), None);
    loop {
        let page = ann.ls(&at("/ct/series/1"), from.as_ref(), 70).unwrap();
        paged.extend(page.entries.into_iter().map(|entry| entry.name));
        assert_eq!(page.more, page.next.is_some());
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(paged, names(&ann, "/ct/series/1"));
    assert_eq!(paged.len(), 300);
    let large = ann.stat(&at("/ct/large")).unwrap();
    assert_eq!((large.kind, large.size, large.is_record), (Kind::File, 9_300_000, false));
    assert!(large.pieces.unwrap() >= 9);
    let notes = ann.stat(&at("/ct/notes.txt")).unwrap();
    assert_eq!((notes.mode, notes.pieces, notes.cid.is_some()), (0o600, Some(1), true));
    assert_eq!(ann.stat(&at("/ct/link")).unwrap().target.as_deref(), Some("notes.txt"));
    assert_eq!(ann.stat(&at("/ct/series/1")).unwrap().entries, Some(300));
    assert!(ann.stat(&at("/")).unwrap().is_record);
    assert!(ann.stat(&at("/ct/gone")).is_err());
}

#[test]
fn folders_are_made_moved_and_removed_each_in_one_version() {
    let solo = Solo::new();
    let ann = solo.join("ann", Role::Patient).connect();
    assert!(matches!(ann.mkdir(&at("/a/b"), false), Err(ChangeError::NotFound { .. })));
    let made = ann.mkdir(&at("/a/b/c"), true).unwrap().version.unwrap();
    assert_eq!(ann.mkdir(&at("/a/b/c"), true).unwrap().version, None);
    assert!(matches!(ann.mkdir(&at("/a/b/c"), false), Err(ChangeError::Exists { .. })));
    put_bytes(&ann, &solo, b"one", "/a/one");
    put_bytes(&ann, &solo, b"two", "/a/two");

    let id = ann.stat(&at("/a/one")).unwrap().file_id;
    let moved = ann.mv(&at("/a/one"), &at("/a/b"), Overwrite::Refuse).unwrap();
    assert_eq!((moved.version, moved.copied_files), (Some(made + 3), 0));
    assert_eq!(ann.stat(&at("/a/b/one")).unwrap().file_id, id);
    let onto = ann.mv(&at("/a/two"), &at("/a/b/one"), Overwrite::Refuse);
    assert!(matches!(onto, Err(ChangeError::Exists { .. })));
    ann.mv(&at("/a/two"), &at("/a/b/one"), Overwrite::Replace).unwrap();
    assert_eq!(cat(&ann, "/a/b/one"), b"two");
    assert!(matches!(
        ann.mv(&at("/a"), &at("/a/b"), Overwrite::Replace),
        Err(ChangeError::IntoItself { .. })
    ));

    assert!(matches!(ann.rm(&at("/a/b"), false), Err(ChangeError::NotEmpty { .. })));
    ann.rm(&at("/a/b"), true).unwrap();
    assert_eq!(names(&ann, "/a"), Vec::<String>::new());
    assert!(matches!(ann.rm(&at("/a/b"), true), Err(ChangeError::NotFound { .. })));
    assert!(matches!(ann.rm(&at("/"), true), Err(ChangeError::Top { .. })));
}

#[test]
fn what_moves_between_records_is_sealed_again_and_gone_where_it_was() {
    let solo = Solo::new();
    let (ann, lee) = (solo.join("ann", Role::Patient), solo.join("dr.lee", Role::Practitioner));
    let (patient, here) = (ann.connect(), solo.path().join("study"));
    study(&here);
    put(&patient, &here, "/private/ct");
    patient.mkdir(&at("/shared"), false).unwrap();
    let person = patient.look_up(&lee.handle()).unwrap();
    patient.share(&at("/shared"), &person, &for_treatment()).unwrap();
    let moved = patient.mv(&at("/private/ct"), &at("/shared"), Overwrite::Refuse).unwrap();
    assert_eq!(moved.copied_files, 303);
    assert!(moved.source_version.is_some());
    assert_eq!(names(&patient, "/private"), Vec::<String>::new());
    let doctor = lee.connect();
    let there = solo.path().join("doctor");
    let label = format!("//{}/shared/ct", ann.handle());
    doctor.get(&at(&label), &there, PLAIN, &Silent).unwrap();
    assert_eq!(state(&there), state(&here));
    assert!(doctor.rm(&at(&label), true).is_err(), "a reader removes nothing");
}

#[test]
fn a_file_moved_over_a_shared_file_replaces_its_content_and_the_grant_stays() {
    let solo = Solo::new();
    let (ann, lee) = (solo.join("ann", Role::Patient), solo.join("dr.lee", Role::Practitioner));
    let patient = ann.connect();
    put_bytes(&patient, &solo, b"first", "/report");
    let person = patient.look_up(&lee.handle()).unwrap();
    patient.share(&at("/report"), &person, &for_treatment()).unwrap();
    let record = patient.stat(&at("/report")).unwrap().record;
    put_bytes(&patient, &solo, b"second, longer", "/report.new");
    patient.mv(&at("/report.new"), &at("/report"), Overwrite::Replace).unwrap();
    assert_eq!(patient.stat(&at("/report")).unwrap().record, record);
    let listed = patient.ls(&at("/"), None, 10).unwrap().entries;
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].shared, listed[0].size), (true, Some(14)));
    let doctor = lee.connect();
    assert_eq!(cat(&doctor, &format!("//{}/report", ann.handle())), b"second, longer");
}

#[test]
fn removing_a_shared_folder_ends_its_grants_in_the_same_transaction() {
    let solo = Solo::new();
    let (ann, lee) = (solo.join("ann", Role::Patient), solo.join("dr.lee", Role::Practitioner));
    let patient = ann.connect();
    put_bytes(&patient, &solo, b"x", "/imaging/ct/x");
    let person = patient.look_up(&lee.handle()).unwrap();
    patient.share(&at("/imaging/ct"), &person, &for_treatment()).unwrap();
    patient.share(&at("/imaging"), &person, &for_treatment()).unwrap();
    let removed = patient.rm(&at("/imaging"), true).unwrap();
    assert_eq!(removed.detached_records.len(), 2);
    assert!(removed.ended_grants >= 2);
    assert!(lee.connect().received().unwrap().is_empty());
    assert_eq!(names(&patient, "/"), Vec::<String>::new());
}

#[test]
fn a_shared_folder_moves_by_its_id_and_keeps_its_own_grants() {
    let solo = Solo::new();
    let (ann, lee, kim) = (
        solo.join("ann", Role::Patient),
        solo.join("dr.lee", Role::Practitioner),
        solo.join("dr.kim", Role::Practitioner),
    );
    let patient = ann.connect();
    put_bytes(&patient, &solo, b"x", "/imaging/ct/x");
    patient.mkdir(&at("/other"), false).unwrap();
    for (path, reader) in [("/imaging", &kim), ("/imaging/ct", &lee), ("/other", &kim)] {
        let person = patient.look_up(&reader.handle()).unwrap();
        patient.share(&at(path), &person, &for_treatment()).unwrap();
    }
    let record = patient.stat(&at("/imaging/ct")).unwrap().record;
    patient.mv(&at("/imaging/ct"), &at("/other"), Overwrite::Refuse).unwrap();
    assert_eq!(patient.stat(&at("/other/ct")).unwrap().record, record);
    assert!(patient.stat(&at("/imaging/ct")).is_err());
    let doctor = lee.connect();
    assert_eq!(cat(&doctor, &format!("//{}/ct/x", ann.handle())), b"x");
}

#[test]
fn a_record_inside_that_is_not_shared_is_left_out_and_told() {
    let solo = Solo::new();
    let (ann, lee, kim) = (
        solo.join("ann", Role::Patient),
        solo.join("dr.lee", Role::Practitioner),
        solo.join("dr.kim", Role::Practitioner),
    );
    let patient = ann.connect();
    put_bytes(&patient, &solo, b"open", "/imaging/open");
    put_bytes(&patient, &solo, b"closed", "/imaging/closed/x");
    for (path, reader) in [("/imaging/closed", &kim), ("/imaging", &lee)] {
        let person = patient.look_up(&reader.handle()).unwrap();
        patient.share(&at(path), &person, &for_treatment()).unwrap();
    }
    patient.revoke(&at("/imaging/closed"), &lee.handle()).unwrap();
    let there = solo.path().join("doctor");
    let report =
        lee.connect().get(&at(&format!("//{}/imaging", ann.handle())), &there, PLAIN, &Silent).unwrap();
    assert_eq!(fs::read(there.join("open")).unwrap(), b"open");
    assert_eq!(report.skipped.len(), 1);
    assert!(report.skipped[0].path.ends_with("/imaging/closed"));
    assert!(!there.join("closed").exists());
}

#[test]
fn an_old_version_is_told_brought_back_and_kept_after_the_rest_was_let_go() {
    let solo = Solo::new();
    let ann = solo.join("ann", Role::Patient).connect();
    let versions: Vec<Vec<u8>> = (1..=4).map(|seed| bytes_of(seed, 2_500_000)).collect();
    for bytes in &versions {
        put_bytes(&ann, &solo, bytes, "/f/x");
    }
    put_bytes(&ann, &solo, b"beside", "/f/y");
    let history = ann.history(&at("/f/x")).unwrap();
    let sizes: Vec<_> =
        history.iter().map(|version| (version.version, version.state, version.size)).collect();
    let first = sizes.iter().position(|(_, state, _)| *state == VersionState::Present).unwrap();
    assert!(
        sizes[first..]
            .iter()
            .all(|(_, state, size)| (*state, *size) == (VersionState::Present, Some(2_500_000)))
    );
    let changed: Vec<_> = history[first..].iter().map(|version| version.changed).collect();
    assert_eq!(changed, [true, true, true, true, false]);

    let second = Version(history[first + 1].version);
    let restored = ann.restore(&at("/f/x"), second).unwrap();
    assert_eq!(restored.version, Some(history.last().unwrap().version + 1));
    assert!(restored.sent_bytes < 200_000, "content is not sent again: {}", restored.sent_bytes);
    assert_eq!(cat(&ann, "/f/x"), versions[1]);
    assert_eq!(cat(&ann, "/f/y"), b"beside");
    assert_eq!(ann.restore(&at("/f/x"), second).unwrap().version, None);
    let none = ann.restore(&at("/f/x"), Version(99));
    assert!(matches!(none, Err(HistoryError::NoSuchVersion { .. })));

    let pruned = ann.prune(&at("/f"), Keep::Last(1)).unwrap();
    assert!((7_500_000..7_900_000).contains(&pruned.bytes_freed), "{pruned:?}");
    assert!(pruned.version.is_some());
    assert_eq!(cat(&ann, "/f/x"), versions[1]);
    let again = ann.prune(&at("/f"), Keep::Last(2)).unwrap();
    assert!(again.bytes_freed < 200_000, "{again:?}");
    assert_eq!(cat(&ann, "/f/x"), versions[1]);
    assert_eq!(cat(&ann, "/f/y"), b"beside");
}

#[test]
fn what_was_removed_or_moved_comes_back_and_the_whole_vault_does() {
    let solo = Solo::new();
    let ann = solo.join("ann", Role::Patient).connect();
    let here = solo.path().join("study");
    study(&here);
    put(&ann, &here, "/ct");
    let version = Version(ann.history(&at("/ct")).unwrap().last().unwrap().version);
    ann.mv(&at("/ct/notes.txt"), &at("/notes.txt"), Overwrite::Refuse).unwrap();
    ann.rm(&at("/ct"), true).unwrap();
    ann.restore(&at("/ct"), version).unwrap();
    let there = solo.path().join("back");
    ann.get(&at("/ct"), &there, PLAIN, &Silent).unwrap();
    assert_eq!(state(&there), state(&here));
    assert_ne!(ann.stat(&at("/ct/notes.txt")).unwrap().file_id, ann.stat(&at("/notes.txt")).unwrap().file_id);
    ann.rm(&at("/ct/large"), false).unwrap();
    ann.restore(&at("/"), version).unwrap();
    assert_eq!(names(&ann, "/"), ["ct"]);
    let whole = solo.path().join("whole");
    ann.get(&at("/ct"), &whole, PLAIN, &Silent).unwrap();
    assert_eq!(state(&whole), state(&here));
}

#[test]
fn a_version_that_was_let_go_is_told_and_does_not_come_back() {
    let solo = Solo::new();
    let ann = solo.join("ann", Role::Patient).connect();
    let (old, new) = (bytes_of(1, 2_000_000), bytes_of(2, 2_000_000));
    put_bytes(&ann, &solo, b"beside", "/y");
    put_bytes(&ann, &solo, &old, "/x");
    let version = Version(ann.history(&at("/x")).unwrap().last().unwrap().version);
    put_bytes(&ann, &solo, &new, "/x");
    let states = |path: &str| -> Vec<_> {
        ann.history(&at(path)).unwrap().into_iter().map(|version| version.state).collect()
    };
    assert!(!states("/x").contains(&VersionState::Pruned));
    assert!(ann.prune(&at("/"), Keep::Last(1)).unwrap().bytes_freed > 2_000_000);
    // Nodes have not collected it yet: that is not asked.
    for path in ["/x", "/"] {
        let refused = ann.restore(&at(path), version);
        assert!(matches!(refused, Err(HistoryError::Pruned { version: told }) if told == version), "{path}");
        let states = states(path);
        assert_eq!(states[version.0 as usize - 1], VersionState::Pruned, "{path}");
        assert_eq!(states[states.len() - 2..], [VersionState::Present; 2], "{path}");
    }
    assert_eq!(cat(&ann, "/x"), new);
    let kept = ann.history(&at("/x")).unwrap().into_iter().rev().nth(1).unwrap().version;
    ann.rm(&at("/x"), false).unwrap();
    ann.restore(&at("/x"), Version(kept)).unwrap();
    assert_eq!(cat(&ann, "/x"), new);
}

#[test]
fn a_folder_with_something_shared_since_is_not_taken_back_to_before() {
    let solo = Solo::new();
    let (ann, lee) = (solo.join("ann", Role::Patient), solo.join("dr.lee", Role::Practitioner));
    let patient = ann.connect();
    put_bytes(&patient, &solo, b"x", "/imaging/ct/x");
    let before = Version(patient.history(&at("/imaging")).unwrap().last().unwrap().version);
    let person = patient.look_up(&lee.handle()).unwrap();
    patient.share(&at("/imaging/ct"), &person, &for_treatment()).unwrap();
    let shared = Version(patient.history(&at("/imaging")).unwrap().last().unwrap().version);
    put_bytes(&patient, &solo, b"y", "/imaging/y");
    let refused = patient.restore(&at("/imaging"), before);
    assert!(matches!(refused, Err(HistoryError::SharedSince { .. })));
    patient.restore(&at("/imaging"), shared).unwrap();
    assert_eq!(names(&patient, "/imaging"), ["ct"]);
    assert_eq!(cat(&lee.connect(), &format!("//{}/ct/x", ann.handle())), b"x");
}

/// Writes these runs of bytes with nothing between them, into a file of this size.
fn sparse(path: &Path, size: u64, runs: &[(u64, &[u8])]) {
    let file = fs::File::create(path).unwrap();
    file.set_len(size).unwrap();
    for (offset, bytes) in runs {
        file.write_all_at(bytes, *offset).unwrap();
    }
}

#[test]
fn holes_come_back_as_the_zeros_that_they_read_as() {
    let solo = Solo::new();
    let ann = solo.join("ann", Role::Patient).connect();
    let here = solo.path().join("sparse");
    fs::create_dir(&here).unwrap();
    let (bytes, tail) = (bytes_of(1, 70_000), bytes_of(2, 3));
    sparse(&here.join("middle"), 24 << 20, &[(0, &bytes), (13 << 20, &bytes), ((24 << 20) - 3, &tail)]);
    sparse(&here.join("end"), (5 << 20) + 1, &[(100, &bytes)]);
    sparse(&here.join("start"), 9 << 20, &[((9 << 20) - 3, &tail)]);
    sparse(&here.join("nothing else"), 8 << 20, &[]);
    let put = ann.put(&[Put::path(here.clone(), at("/sparse"))], &Silent).unwrap();
    assert!(put.sent_bytes < 6 << 20, "equal zeros are sent once: {}", put.sent_bytes);
    let there = solo.path().join("back");
    ann.get(&at("/sparse"), &there, PLAIN, &Silent).unwrap();
    assert_eq!(state(&there), state(&here));
    let mut part = Vec::new();
    ann.cat(&at("/sparse/middle"), (13 << 20) - 10, 20, &mut part).unwrap();
    assert_eq!(part, [&[0; 10][..], &bytes[..10]].concat());
}

/// Starts the node anew once so many bytes have come by.
struct Restarting<'a> {
    solo: Mutex<&'a mut Solo>,
    at_bytes: u64,
    bytes: AtomicU64,
}

impl Progress for Restarting<'_> {
    fn advance(&self, bytes: u64) {
        let before = self.bytes.fetch_add(bytes, Ordering::SeqCst);
        if (before..before + bytes).contains(&self.at_bytes) {
            self.solo.lock().unwrap().restart();
        }
    }
}

#[test]
fn a_put_and_a_get_go_on_when_the_node_is_started_anew_meanwhile() {
    let mut solo = Solo::new();
    let ann = solo.join("ann", Role::Patient).connect();
    let (here, there) = (solo.path().join("large"), solo.path().join("back"));
    let bytes = bytes_of(1, 64 << 20);
    fs::write(&here, &bytes).unwrap();
    let at_bytes = 20 << 20;
    let restarting = Restarting { solo: Mutex::new(&mut solo), at_bytes, bytes: AtomicU64::new(0) };
    ann.put(&[Put::path(here, at("/large"))], &restarting).unwrap();
    restarting.bytes.store(0, Ordering::SeqCst);
    ann.get(&at("/large"), &there, PLAIN, &restarting).unwrap();
    assert!(fs::read(&there).unwrap() == bytes);
}

#[test]
fn folders_that_are_made_are_of_now_and_a_shared_file_lists_by_its_label() {
    let solo = Solo::new();
    let (ann, lee) = (solo.join("ann", Role::Patient), solo.join("dr.lee", Role::Practitioner));
    let patient = ann.connect();
    let before = ihfs_client::client::now().0 / 1000;
    put_bytes(&patient, &solo, b"x", "/a/b/x");
    for (path, mode) in [("/", 0o700), ("/a", 0o755), ("/a/b", 0o755)] {
        let stat = patient.stat(&at(path)).unwrap();
        assert_eq!(stat.mode & 0o7777, mode, "{path}");
        // The vault came to be with the member, before.
        assert!(stat.modified.seconds + 60 > before.cast_signed(), "{path}");
    }
    let person = patient.look_up(&lee.handle()).unwrap();
    patient.share(&at("/a/b/x"), &person, &for_treatment()).unwrap();
    assert_eq!(names(&lee.connect(), &format!("//{}/x", ann.handle())), ["x"]);
}
