//! The interface that `get`, `cat` and `ls` sit on, and a mount and gateways would: snapshots, changes, and calls
//! that end when nobody waits for them.

use std::time::Duration;

use ihfs_client::call::{Call, Purpose};
use ihfs_client::changes::Change;
use ihfs_client::client::Client;
use ihfs_client::fetch::FetchError;
use ihfs_client::received::OpeningError;
use ihfs_client::record::RecordError;
use ihfs_client::resolve::ResolveError;
use ihfs_client::snapshot::Snapshot;
use ihfs_core::ids::Version;
use ihfs_core::tree::entry::{Content, Item};
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
    assert!(third.contains(&Change::Ended { grant, record }), "{third:?}");
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
    assert!(matches!(late, TreeError::Source(FetchError::TimedOut { .. })), "{late}");
    let asked = client.within(Duration::from_millis(50)).snapshot(&at("/")).map(|_| ());
    assert!(matches!(asked, Err(ResolveError::Record(RecordError::View(_)))), "{asked:?}");
}
