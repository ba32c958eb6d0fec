//! The interface that `get`, `cat` and `ls` sit on, and a mount and gateways would: snapshots, changes, and calls
//! that end when nobody waits for them.

use std::time::Duration;

use ihfs_client::call::{Call, Purpose};
use ihfs_client::changes::Change;
use ihfs_client::client::Client;
use ihfs_client::edit::{Edit, EditingError};
use ihfs_client::fetch::FetchError;
use ihfs_client::received::OpeningError;
use ihfs_client::record::RecordError;
use ihfs_client::resolve::ResolveError;
use ihfs_client::snapshot::Snapshot;
use ihfs_client::writing::CommitError;
use ihfs_core::cut::ReadAt;
use ihfs_core::ids::{FileId, Version};
use ihfs_core::tree::edit::Overwrite;
use ihfs_core::tree::entry::{Content, Item, Metadata};
use ihfs_core::tree::file::FileContent;
use ihfs_core::tree::name::Name;
use ihfs_core::tree::reader::Listing;
use ihfs_core::tree::{Found, TreeError};
use ihfs_tests::{Scene, at, bytes_of, for_treatment, read_as};

/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(3600);

fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

fn snapshot(client: &Client, of: &str) -> Snapshot {
    client.snapshot(&at(of)).unwrap().0
}

fn content(snapshot: &Snapshot, path: &[Name]) -> FileContent {
    match snapshot.lookup(path).unwrap() {
        Found::Item(Item { content: Content::File(content), .. }) => content,
        other => panic!("no file: {other:?}"),
    }
}

fn within(time: Duration) -> Call {
    Call::default().within(time)
}

#[test]
fn a_snapshot_stays_as_it_was_and_reads_any_range() {
    let scene = Scene::new();
    let client = scene.ann.connect();
    let old = snapshot(&client, "/");
    scene.put(&client, "/ct/slice", 2);
    scene.put(&client, "/ct/second", 3);
    let new = snapshot(&client, "/");
    assert!(new.version() > old.version());
    let path = [name("ct"), name("slice")];
    for (snapshot, seed, names) in [(&old, 1, vec!["slice"]), (&new, 2, vec!["second", "slice"])] {
        let (content, expected) = (content(snapshot, &path), bytes_of(seed, 100_000));
        snapshot.prefetch(&content, 0..1).unwrap();
        for (start, length) in
            [(0, 100_000), (0, 1), (16_383, 2), (70_000, 50_000), (99_999, 1), (100_000, 9)]
        {
            let mut out = vec![0; length];
            let read = snapshot.read_at(&content, start as u64, &mut out).unwrap();
            assert_eq!(out[..read], expected[start..(start + length).min(100_000)], "{start}, {length}");
        }
        let Listing::Entries(entries) = snapshot.list(&path[..1], None, 9).unwrap() else {
            panic!("a folder")
        };
        let listed: Vec<Name> = entries.into_iter().map(|entry| entry.name).collect();
        assert_eq!(listed, names.into_iter().map(name).collect::<Vec<_>>());
    }
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Changes a file in one way of many, and what it should hold in the same way.
fn change(edit: &mut Edit, path: &[Name], bytes: &mut Vec<u8>, random: &mut Random) {
    let (start, length) = (random.below(3_000_000) as usize, random.below(1_200_000) as usize);
    match random.below(6) {
        0 => {
            edit.set_len(path, start as u64).unwrap();
            bytes.resize(start, 0);
        }
        1 => {
            edit.punch(path, start as u64..(start + length) as u64).unwrap();
            let end = (start + length).min(bytes.len());
            if let Some(punched) = bytes.get_mut(start..end) {
                punched.fill(0);
            }
        }
        2 => {
            *bytes = bytes_of(random.below(200) as u8 + 1, length);
            edit.replace(path, &Bytes(bytes.clone())).unwrap();
        }
        _ => {
            let written = bytes_of(random.below(200) as u8 + 1, length / (1 + random.below(900) as usize));
            edit.write_at(path, start as u64, &written).unwrap();
            if !written.is_empty() {
                bytes.resize(bytes.len().max(start + written.len()), 0);
                bytes[start..start + written.len()].copy_from_slice(&written);
            }
        }
    }
}

/// Bytes that are read like a file.
struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    type Error = std::io::Error;

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Ok(read) = self.0.as_slice().read_at(offset, buffer);
        Ok(read)
    }

    fn size(&self) -> u64 {
        self.0.len() as u64
    }
}

#[test]
fn an_edit_of_any_ranges_reads_back_as_a_plain_file_would() {
    let scene = Scene::new();
    let client = scene.ann.connect();
    let path = [name("ct"), name("slice")];
    let (mut bytes, mut random) = (bytes_of(1, 100_000), Random(7));
    for _ in 0..8 {
        let (mut edit, _) = client.edit_at(&at("/")).unwrap();
        for _ in 0..5 {
            change(&mut edit, &path, &mut bytes, &mut random);
        }
        edit.commit().unwrap();
        let found = read_as(&client, "/ct/slice").unwrap();
        assert!(found == bytes, "{} and {} bytes", found.len(), bytes.len());
    }
}

#[test]
fn an_edit_changes_names_and_bytes_in_order_and_commits_once() {
    let scene = Scene::new();
    let client = scene.ann.connect();
    let before = snapshot(&client, "/");
    let mut edit = client.edit(&before).unwrap();
    let (old, new) = ([name("ct"), name("slice")], [name("ct"), name("renamed")]);
    edit.write_at(&old, 10, b"written").unwrap();
    edit.rename(&old, &new, Overwrite::Refuse).unwrap();
    edit.write_at(&new, 12, b"again").unwrap();
    edit.create(&old, new_file()).unwrap();
    edit.write_at(&old, 3, b"x").unwrap();
    edit.create(&[name("gone")], new_file()).unwrap();
    edit.write_at(&[name("gone")], 0, b"gone").unwrap();
    edit.remove(&[name("gone")]).unwrap();
    assert!(matches!(edit.lookup(&[name("gone")]).unwrap(), Found::Missing { .. }));
    assert!(matches!(edit.write_at(&path_of("/ct"), 0, b"x"), Err(EditingError::NotAFile)));
    let committed = edit.commit().unwrap();
    assert_eq!(committed.version, before.version().0 + 1);
    let mut expected = bytes_of(1, 100_000);
    expected[10..17].copy_from_slice(b"wragain");
    expected[10..12].copy_from_slice(b"wr");
    assert!(read_as(&client, "/ct/renamed").unwrap() == expected);
    assert_eq!(read_as(&client, "/ct/slice"), Some(b"\0\0\0x".to_vec()));
    let late = client.edit(&before).unwrap();
    assert!(matches!(late.commit(), Err(EditingError::Commit(CommitError::Conflict { .. }))));
}

fn new_file() -> Item {
    Item { id: FileId(7), content: Content::File(FileContent::EMPTY), metadata: Metadata::default() }
}

fn path_of(text: &str) -> Vec<Name> {
    at(text).path().to_vec()
}

#[test]
fn looking_around_opens_nothing_and_reads_what_is_open() {
    let scene = Scene::new();
    scene.share("/ct", &for_treatment());
    let client = scene.lee.connect();
    let browsing = client.under(&Call::new(Purpose::Browse));
    let refused = browsing.snapshot(&at(&scene.shared("ct"))).map(|_| ());
    assert!(matches!(refused, Err(ResolveError::Opening(OpeningError::NotOpen { .. }))), "{refused:?}");
    let audit = || scene.ann.connect().audit(Some(&at("/ct"))).unwrap().len();
    assert_eq!(audit(), 0);
    assert_eq!(read_as(&client, &scene.shared("ct/slice")), Some(bytes_of(1, 100_000)));
    assert_eq!(read_as(&browsing, &scene.shared("ct/slice")), Some(bytes_of(1, 100_000)));
    assert_eq!(audit(), 1);
}

#[test]
fn changes_come_as_the_ledger_decides_them() {
    let scene = Scene::new();
    let (ann, lee) = (scene.ann.connect(), scene.lee.connect());
    let mut changes = lee.within(LONG).changes([]).unwrap();
    scene.share("/ct", &for_treatment());
    let granted = changes.wait().unwrap();
    let [Change::Granted { grant, record }] = granted[..] else { panic!("{granted:?}") };
    changes.watch(record);
    let first = changes.wait().unwrap();
    let [Change::Head { version, epoch, .. }] = first[..] else { panic!("{first:?}") };
    let waiting = std::thread::spawn(move || (changes.wait().unwrap(), changes));
    scene.put(&ann, "/ct/slice", 2);
    let (second, mut changes) = waiting.join().unwrap();
    let next = Version(version.0 + 1);
    assert_eq!(second, [Change::Head { record, version: next, epoch }]);
    ann.revoke(&at("/ct"), &scene.lee.handle()).unwrap();
    let third = changes.wait().unwrap();
    assert_eq!(third, [Change::Ended { grant, record }], "what became of the record is not his to know");
    scene.put(&ann, "/ct/slice", 3);
    scene.share("/ct", &for_treatment());
    let mut fourth = changes.wait().unwrap();
    if !fourth.iter().any(|change| matches!(change, Change::Head { .. })) {
        fourth.extend(changes.wait().unwrap());
    }
    assert!(fourth.iter().any(|change| matches!(change, Change::Granted { .. })), "{fourth:?}");
    let newer = |change: &Change| matches!(change, Change::Head { version, .. } if *version > next);
    assert!(fourth.iter().any(newer), "{fourth:?}");
}

#[test]
fn a_wait_for_changes_ends_with_its_time_or_when_it_is_cancelled() {
    let scene = Scene::new();
    let client = scene.ann.connect();
    let mut changes = client.within(Duration::from_millis(50)).changes([]).unwrap();
    assert_eq!(changes.wait().unwrap(), []);
    let (call, canceller) = within(LONG).cancellable();
    let mut changes = client.under(&call).changes([]).unwrap();
    let waiting = std::thread::spawn(move || changes.wait());
    canceller.cancel();
    let ended = waiting.join().unwrap();
    assert!(ended.unwrap_err().to_string().contains("cancelled"));
}

#[test]
fn a_read_without_a_node_ends_with_its_call() {
    let mut scene = Scene::new();
    let client = scene.ann.connect();
    let open = snapshot(&client, "/");
    let path = [name("ct"), name("slice")];
    scene.solo.stop();
    let (call, canceller) = within(LONG).cancellable();
    canceller.cancel();
    let cancelled = open.under(&call).lookup(&path).unwrap_err();
    assert!(matches!(cancelled, TreeError::Source(FetchError::Cancelled(_))), "{cancelled}");
    let late = open.under(&within(Duration::ZERO)).lookup(&path).unwrap_err();
    // Which of the two comes first does not matter.
    let ended = matches!(late, TreeError::Source(FetchError::TimedOut { .. } | FetchError::Ask { .. }));
    assert!(ended, "{late}");
    let asked = client.within(Duration::from_millis(50)).snapshot(&at("/")).map(|_| ());
    assert!(matches!(asked, Err(ResolveError::Record(RecordError::View(_)))), "{asked:?}");
}
