//! Putting: several sources in one commit, trees with records inside, and what is refused.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use ihfs_client::client::Client;
use ihfs_client::list::Kind;
use ihfs_client::progress::{Progress, Silent};
use ihfs_client::put::{Put, PutError, PutReport};
use ihfs_client::share::ShareOptions;
use ihfs_core::ledger::identity::Role;
use ihfs_tests::{Person, Scene, at, bytes_of, for_treatment, read_as};

fn put(client: &Client, local: &Path, to: &str) -> PutReport {
    client.put(&[Put::path(local, at(to))], &Silent).unwrap()
}

/// How many versions a record has.
fn versions(client: &Client, top: &str) -> usize {
    client.history(&at(top)).unwrap().len()
}

fn height(scene: &Scene) -> u64 {
    scene.ann.connect().freshness().height
}

fn share(scene: &Scene, path: &str, with: &Person, options: &ShareOptions) {
    let patient = scene.ann.connect();
    let person = patient.look_up(&with.handle()).unwrap();
    patient.share(&at(path), &person, options).unwrap();
}

/// `study/` with `a`, `series/1` and `series/deep/2`, all of one seed.
fn write_study(scene: &Scene, seed: u8) -> std::path::PathBuf {
    let study = scene.solo.path().join("study");
    fs::create_dir_all(study.join("series/deep")).unwrap();
    for (number, name) in ["a", "series/1", "series/deep/2"].into_iter().enumerate() {
        fs::write(study.join(name), bytes_of(seed + number as u8, 50_000)).unwrap();
    }
    study
}

/// The tree of [`write_study`] as somebody reads it.
fn read_study(client: &Client, top: &str) -> Vec<Option<Vec<u8>>> {
    ["a", "series/1", "series/deep/2"].map(|name| read_as(client, &format!("{top}/{name}"))).to_vec()
}

fn study_of(seed: u8) -> Vec<Option<Vec<u8>>> {
    (0..3).map(|number| Some(bytes_of(seed + number, 50_000))).collect()
}

#[derive(Default)]
struct Sums(AtomicU64, AtomicU64, AtomicU64);

impl Progress for Sums {
    fn total(&self, bytes: u64, files: u64) {
        self.0.fetch_add(bytes, Ordering::SeqCst);
        self.1.fetch_add(files, Ordering::SeqCst);
    }

    fn advance(&self, bytes: u64) {
        self.2.fetch_add(bytes, Ordering::SeqCst);
    }
}

#[test]
fn several_sources_are_one_version_and_one_sum() {
    let scene = Scene::new();
    let patient = scene.ann.connect();
    let (study, one, two) =
        (write_study(&scene, 3), scene.solo.path().join("one"), scene.solo.path().join("two"));
    fs::write(&one, bytes_of(1, 10_000)).unwrap();
    fs::write(&two, bytes_of(2, 20_000)).unwrap();
    let before = versions(&patient, "/");
    let puts = [
        Put::path(&one, at("/in/one")),
        Put::path(&two, at("/in/two")),
        Put::path(&study, at("/in/study")),
        Put::path(&one, at("/elsewhere/one")),
    ];
    let sums = Sums::default();
    let report = patient.put(&puts, &sums).unwrap();
    assert_eq!(versions(&patient, "/"), before + 1);
    assert_eq!((report.files, report.bytes, report.records), (6, 190_000, 1));
    assert_eq!([&sums.0, &sums.1, &sums.2].map(|sum| sum.load(Ordering::SeqCst)), [190_000, 6, 190_000]);
    assert_eq!(read_study(&patient, "/in/study"), study_of(3));
    for (path, seed, length) in
        [("/in/one", 1, 10_000), ("/in/two", 2, 20_000), ("/elsewhere/one", 1, 10_000)]
    {
        assert_eq!(read_as(&patient, path), Some(bytes_of(seed, length)), "{path}");
    }
    let again = patient.put(&puts, &Silent).unwrap();
    assert_eq!((again.version, again.records, again.sent_bytes, again.files_unchanged), (None, 0, 0, 6));
    assert_eq!(versions(&patient, "/"), before + 1);
}

#[test]
fn sources_that_would_meet_are_refused_before_anything_is_read() {
    let scene = Scene::new();
    let patient = scene.ann.connect();
    let file = scene.solo.path().join("gone");
    for other in ["/in/x", "/in/x/below"] {
        let puts =
            [Put::path(&file, at("/in/x")), Put::path(&file, at("/in/a")), Put::path(&file, at(other))];
        let refused = patient.put(&puts, &Silent);
        assert!(matches!(refused, Err(PutError::Overlap { location }) if location == at(other)));
    }
}

#[test]
fn a_folder_over_records_inside_goes_to_each_record_in_one_transaction() {
    let scene = Scene::new();
    let (lee, kim) = (&scene.lee, scene.solo.join("dr.kim", Role::Practitioner));
    let patient = scene.ann.connect();
    put(&patient, &write_study(&scene, 3), "/study");
    share(&scene, "/study/series/deep", &kim, &for_treatment());
    share(&scene, "/study/series", lee, &for_treatment());
    let tops = ["/", "/study/series", "/study/series/deep"];
    let before = tops.map(|top| versions(&patient, top));

    let study = write_study(&scene, 20);
    let height_before = height(&scene);
    let report = put(&patient, &study, "/study");
    assert_eq!((report.files, report.files_unchanged, report.records), (3, 0, 3));
    assert_eq!(height(&scene), height_before + 1, "one transaction");
    assert_eq!(tops.map(|top| versions(&patient, top)), before.map(|count| count + 1));
    assert_eq!(read_study(&patient, "/study"), study_of(20));
    let (lee, kim) = (lee.connect(), kim.connect());
    assert_eq!(read_as(&lee, &scene.shared("series/1")), Some(bytes_of(21, 50_000)));
    assert_eq!(read_as(&lee, &scene.shared("series/deep/2")), Some(bytes_of(22, 50_000)));
    assert_eq!(read_as(&kim, &scene.shared("deep/2")), Some(bytes_of(22, 50_000)));

    let again = put(&patient, &study, "/study");
    assert_eq!((again.version, again.records, again.sent_bytes, again.files_unchanged), (None, 0, 0, 3));
    // Only the record that changes gets a version, also when a path leads straight into it.
    fs::write(study.join("series/deep/2"), b"new").unwrap();
    let inner = put(&patient, &study, "/study");
    assert_eq!((inner.files_unchanged, inner.records), (2, 1));
    fs::write(study.join("series/deep/2"), b"newer").unwrap();
    let puts = [
        Put::path(study.join("series/deep/2"), at("/study/series/deep/2")),
        Put::path(study.join("a"), at("/study/b")),
        Put::path(study.join("a"), at("/study/series/deep/c/d")),
    ];
    let height_before = height(&scene);
    assert_eq!(patient.put(&puts, &Silent).unwrap().records, 2);
    assert_eq!(height(&scene), height_before + 1);
    assert_eq!(read_as(&kim, &scene.shared("deep/2")), Some(b"newer".to_vec()));
    assert_eq!(read_as(&kim, &scene.shared("deep/c/d")), Some(bytes_of(20, 50_000)));
    let end = tops.map(|top| versions(&patient, top));
    assert_eq!(end, [before[0] + 2, before[1] + 1, before[2] + 3]);
}

#[test]
fn a_writer_puts_a_folder_over_records_inside_a_shared_one() {
    let scene = Scene::new();
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let patient = scene.ann.connect();
    put(&patient, &write_study(&scene, 3), "/study");
    share(&scene, "/study/series", &kim, &for_treatment());
    share(&scene, "/study", &scene.lee, &ShareOptions { write: true, ..for_treatment() });
    let doctor = scene.lee.connect();
    assert_eq!(read_study(&doctor, &scene.shared("study")), study_of(3));
    let tops = ["/study", "/study/series"];
    let before = tops.map(|top| versions(&patient, top));

    let study = write_study(&scene, 20);
    let height_before = height(&scene);
    let report = put(&doctor, &study, &scene.shared("study/"));
    assert_eq!((report.files_unchanged, report.records), (0, 2));
    assert_eq!(height(&scene), height_before + 1, "one transaction");
    let patient = scene.ann.connect();
    assert_eq!(tops.map(|top| versions(&patient, top)), before.map(|count| count + 1));
    assert_eq!(read_study(&patient, "/study"), study_of(20));
    assert_eq!(read_as(&kim.connect(), &scene.shared("series/1")), Some(bytes_of(21, 50_000)));
    assert_eq!(put(&doctor, &study, &scene.shared("study/")).sent_bytes, 0);
}

#[test]
fn a_record_inside_that_may_not_be_written_is_named_and_nothing_changes() {
    let scene = Scene::new();
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let patient = scene.ann.connect();
    put(&patient, &write_study(&scene, 3), "/study");
    share(&scene, "/study/series", &kim, &for_treatment());
    share(&scene, "/study", &scene.lee, &ShareOptions { write: true, ..for_treatment() });
    patient.revoke(&at("/study/series"), &scene.lee.handle()).unwrap();
    let study = write_study(&scene, 20);
    let refused = scene.lee.connect().put(&[Put::path(&study, at(&scene.shared("study/")))], &Silent);
    let Err(PutError::Nested { location, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(location, at(&scene.shared("study/series")));
    assert_eq!(read_study(&scene.ann.connect(), "/study"), study_of(3));
}

#[test]
fn a_shared_file_that_is_replaced_keeps_its_record_and_its_grants() {
    let scene = Scene::new();
    scene.share("/ct/slice", &for_treatment());
    let patient = scene.ann.connect();
    let before = patient.stat(&at("/ct/slice")).unwrap();
    let folder = scene.solo.path().join("ct");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("slice"), bytes_of(9, 70_000)).unwrap();
    // By itself, and in the folder that it stands in.
    for (local, to) in [(folder.join("slice"), "/ct/slice"), (folder.clone(), "/ct")] {
        fs::write(folder.join("slice"), bytes_of(9, 70_000 + to.len())).unwrap();
        assert_eq!(put(&patient, &local, to).files_unchanged, 0);
        let after = patient.stat(&at("/ct/slice")).unwrap();
        assert_eq!((&after.record, &after.file_id), (&before.record, &before.file_id));
        let expected = fs::read(folder.join("slice")).unwrap();
        assert_eq!(scene.read(&scene.lee, &scene.shared("slice/")), Some(expected));
        assert_eq!(put(&patient, &local, to).version, None);
    }
    fs::remove_file(folder.join("slice")).unwrap();
    symlink("elsewhere", folder.join("slice")).unwrap();
    let link = patient.put(&[Put::path(&folder, at("/ct"))], &Silent);
    assert!(matches!(link, Err(PutError::LinkOverShared { location }) if location == at("/ct/slice")));
}

#[test]
fn neither_a_file_takes_a_folders_place_nor_a_folder_a_files() {
    let scene = Scene::new();
    let patient = scene.ann.connect();
    let (study, file) = (write_study(&scene, 3), scene.solo.path().join("file"));
    fs::write(&file, b"x").unwrap();
    put(&patient, &study, "/study");
    let before = versions(&patient, "/");
    let try_put = |local: &Path, to: &str| patient.put(&[Put::path(local, at(to))], &Silent);
    assert!(
        matches!(try_put(&file, "/study"), Err(PutError::IsAFolder { location }) if location == at("/study"))
    );
    assert!(matches!(try_put(&file, "/"), Err(PutError::IsAFolder { .. })));
    assert!(matches!(try_put(&study, "/study/a"), Err(PutError::NotAFolder { .. })));
    assert!(
        matches!(try_put(&file, "/study/a/b"), Err(PutError::NotAFolder { location }) if location == at("/study/a"))
    );
    // Also deeper inside.
    fs::remove_dir_all(study.join("series/deep")).unwrap();
    fs::write(study.join("series/deep"), b"x").unwrap();
    let inside = try_put(&study, "/study");
    assert!(matches!(inside, Err(PutError::IsAFolder { location }) if location == at("/study/series/deep")));
    assert_eq!(versions(&patient, "/"), before);
    // A link and a file do take each other's place, as a save by rename does.
    fs::remove_file(study.join("series/deep")).unwrap();
    fs::remove_file(study.join("a")).unwrap();
    symlink("series", study.join("a")).unwrap();
    put(&patient, &study, "/study");
    assert_eq!(patient.stat(&at("/study/a")).unwrap().kind, Kind::Symlink);
}

#[test]
fn folders_that_are_too_many_to_hold_come_back_as_they_were() {
    let scene = Scene::new();
    let patient = scene.ann.connect();
    let many = scene.solo.path().join("many");
    // Beyond what is held at once: in one folder, and in folders in it.
    for folder in 0..5u32 {
        fs::create_dir_all(many.join(format!("{folder}/below"))).unwrap();
        for number in 0..900u32 {
            let bytes = bytes_of((number % 200) as u8, (number % 70) as usize);
            fs::write(many.join(format!("{folder}/{number:03}")), bytes).unwrap();
        }
        fs::write(many.join(format!("{folder}/below/large")), bytes_of(folder as u8, 5_000_000)).unwrap();
    }
    let report = put(&patient, &many, "/in/many");
    assert_eq!(report.files, 4505);
    assert_eq!(put(&patient, &many, "/in/many").version, None);
    for folder in 0..5 {
        let listed = patient.ls(&at(&format!("/in/many/{folder}")), None, 2000).unwrap().entries;
        assert_eq!(listed.len(), 901);
        let large = read_as(&patient, &format!("/in/many/{folder}/below/large"));
        assert!(large == Some(bytes_of(folder as u8, 5_000_000)));
        assert_eq!(read_as(&patient, &format!("/in/many/{folder}/169")), Some(bytes_of(169, 29)));
    }
    fs::write(many.join("4/new"), b"new").unwrap();
    assert_eq!(put(&patient, &many, "/in/many").files_unchanged, 4505);
    assert_eq!(read_as(&patient, "/in/many/4/new"), Some(b"new".to_vec()));
}

#[test]
fn a_large_folder_fills_one_that_stands_and_leaves_the_rest_of_it() {
    let scene = Scene::new();
    let patient = scene.ann.connect();
    let local = scene.solo.path().join("in");
    fs::create_dir_all(local.join("below")).unwrap();
    fs::create_dir(local.join("shared")).unwrap();
    let standing = ["0100", "0101", "below/x", "shared/y", "zz"];
    for (seed, name) in standing.iter().enumerate() {
        fs::write(local.join(name), bytes_of(seed as u8, 3_000)).unwrap();
    }
    put(&patient, &local, "/in");
    share(&scene, "/in/shared", &scene.lee, &for_treatment());
    let ids = standing.map(|name| patient.stat(&at(&format!("/in/{name}"))).unwrap().file_id);
    fs::remove_file(local.join("zz")).unwrap();
    for number in 0..4_500u32 {
        fs::write(local.join(format!("{number:04}")), bytes_of(9, number as usize % 90)).unwrap();
    }
    fs::write(local.join("0101"), bytes_of(1, 3_000)).unwrap();
    fs::write(local.join("below/x"), bytes_of(7, 700)).unwrap();
    fs::write(local.join("shared/y"), bytes_of(8, 800)).unwrap();
    let report = put(&patient, &local, "/in");
    assert_eq!((report.files, report.files_unchanged, report.records), (4_502, 1, 2));
    assert_eq!(standing.map(|name| patient.stat(&at(&format!("/in/{name}"))).unwrap().file_id), ids);
    assert_eq!(patient.stat(&at("/in")).unwrap().entries, Some(4_503));
    assert_eq!(read_as(&patient, "/in/0100"), Some(bytes_of(9, 10)));
    assert_eq!(read_as(&patient, "/in/4499"), Some(bytes_of(9, 89)));
    assert_eq!(read_as(&patient, "/in/below/x"), Some(bytes_of(7, 700)));
    assert_eq!(read_as(&patient, "/in/zz"), Some(bytes_of(4, 3_000)));
    assert_eq!(read_as(&scene.lee.connect(), &scene.shared("shared/y")), Some(bytes_of(8, 800)));
    let again = put(&patient, &local, "/in");
    assert_eq!((again.version, again.sent_bytes, again.files_unchanged), (None, 0, 4_502));
}

#[test]
fn a_file_of_many_pieces_that_grows_or_shrinks_at_its_end_is_put_anew() {
    let scene = Scene::new();
    let patient = scene.ann.connect();
    let file = scene.solo.path().join("large");
    for megabytes in [9, 12, 4, 4, 0, 1] {
        let bytes = bytes_of(5, megabytes << 20);
        fs::write(&file, &bytes).unwrap();
        put(&patient, &file, "/large");
        assert!(read_as(&patient, "/large") == Some(bytes), "{megabytes} MiB");
        assert_eq!(put(&patient, &file, "/large").version, None);
    }
}
