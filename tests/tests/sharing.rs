//! Sharing as its owner sees it: what is told of grants, labels and openings, and what is taken by a revocation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ihfs_client::audit::{AuditError, GrantState};
use ihfs_client::client::{Client, now};
use ihfs_client::home::Home;
use ihfs_client::join::recover;
use ihfs_client::received::OpeningError;
use ihfs_client::resolve::ResolveError;
use ihfs_client::revoke::RevokeError;
use ihfs_client::share::{ShareError, ShareOptions, Shared};
use ihfs_core::ids::DeviceId;
use ihfs_core::ledger::identity::Role;
use ihfs_proto::{key, ledger};
use ihfs_tests::liar::Liar;
use ihfs_tests::processes::Machine;
use ihfs_tests::{PASSPHRASE, Person, Scene, at, bytes_of, connect, for_treatment, read_as};

/// Shares the patient's path with somebody.
fn share(patient: &Client, path: &str, reader: &Person, options: &ShareOptions) -> Shared {
    let person = patient.look_up(&reader.handle()).unwrap();
    patient.share(&at(path), &person, options).unwrap()
}

#[test]
fn revoking_a_part_that_was_read_before_it_was_split_out_names_the_wider_grant_and_what_was_read() {
    let scene = Scene::new();
    let patient = scene.ann.connect();
    scene.put(&patient, "/n/a/secret", 2);
    share(&patient, "/n", &scene.lee, &for_treatment());
    assert!(scene.read(&scene.lee, &scene.shared("n/a/secret")).is_some());
    share(&patient, "/n/a", &scene.lee, &for_treatment());

    let revoked = patient.revoke(&at("/n/a"), &scene.lee.handle()).unwrap();
    let wider: Vec<_> = revoked.wider.iter().map(|wider| wider.path.as_deref()).collect();
    assert_eq!(wider, [Some("/n")], "his grant on it opens versions that hold the part");
    let held: Vec<_> = revoked.may_hold.iter().map(|held| (held.path.as_deref(), held.version)).collect();
    assert_eq!(held, [(Some("/n"), 1)], "the version from before the part was split out");
    assert_eq!(scene.read(&scene.lee, &scene.shared("n/a/secret")), None, "the grants on the part ended");
    let again = patient.revoke(&at("/n/a"), &scene.lee.handle());
    assert!(matches!(again, Err(RevokeError::Wider { wider, .. }) if wider == at("/n")));

    // With the wider grant gone too, and a part that he is given anew, nothing wider is left.
    assert!(patient.revoke(&at("/n"), &scene.lee.handle()).unwrap().wider.is_empty());
    share(&patient, "/n/a", &scene.lee, &for_treatment());
    let revoked = patient.revoke(&at("/n/a"), &scene.lee.handle()).unwrap();
    assert!(revoked.wider.is_empty());
    assert_eq!(revoked.may_hold.len(), 1, "what was read before stays told");
}

#[test]
fn a_node_that_withholds_lists_does_not_hold_a_revocation_up() {
    let scene = Scene::new();
    scene.share("/ct", &for_treatment());
    assert!(scene.read(&scene.lee, &scene.shared("ct/slice")).is_some());
    let liar = Liar::between(&scene.ann);
    let patient = liar.connect().unwrap();
    liar.lie_about_ledger(|_, answer| {
        if let ledger::response::Response::Items(page) = answer {
            page.items.pop();
        }
    });
    let revoked = patient.revoke(&at("/ct"), &scene.lee.handle()).unwrap();
    assert!(revoked.unproved.is_some(), "{revoked:?}");
    assert!(revoked.may_hold.is_empty());
    assert_eq!(scene.read(&scene.lee, &scene.shared("ct/slice")), None);
}

/// A folder that somebody reads, whose record must begin an epoch before it is written again: a grant expired that
/// had been opened.
fn with_an_expired_opening(scene: &Scene, patient: &Client, kim: &Person) {
    scene.put(patient, "/e/sub/note", 2);
    share(patient, "/e", &scene.lee, &for_treatment());
    // Long enough to share and to read once on a busy machine.
    let until = now().plus_millis(8000);
    share(patient, "/e", kim, &ShareOptions { until: Some(until), ..for_treatment() });
    assert!(scene.read(kim, &scene.shared("e/sub/note")).is_some());
    while now() <= until {
        std::thread::yield_now();
    }
}

#[test]
fn a_part_is_shared_when_a_grant_around_it_expired_that_had_been_opened() {
    let scene = Scene::new();
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let patient = scene.ann.connect();
    with_an_expired_opening(&scene, &patient, &kim);
    share(&patient, "/e/sub", &scene.lee, &for_treatment());
    for path in ["e/sub/note", "sub/note"] {
        assert_eq!(scene.read(&scene.lee, &scene.shared(path)), Some(bytes_of(2, 100_000)), "{path}");
    }
    assert_eq!(scene.read(&kim, &scene.shared("e/sub/note")), None);
}

#[test]
fn a_part_is_shared_after_a_device_was_removed() {
    let scene = Scene::new();
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let patient = scene.ann.connect();
    scene.put(&patient, "/e/sub/note", 2);
    share(&patient, "/e", &scene.lee, &for_treatment());
    let lost: DeviceId = patient.whoami().unwrap().device.parse().unwrap();
    let home = Home::at(scene.solo.path().join("new machine"));
    recover(&home, &scene.ann.seed(), PASSPHRASE, &scene.ann.whereabouts(), false).unwrap();
    connect(&home, PASSPHRASE).remove_device(&scene.ann.seed(), lost).unwrap();
    let patient = connect(&home, PASSPHRASE);
    share(&patient, "/e/sub", &kim, &for_treatment());
    assert_eq!(scene.read(&scene.lee, &scene.shared("e/sub/note")), Some(bytes_of(2, 100_000)));
    assert_eq!(scene.read(&kim, &scene.shared("sub/note")), Some(bytes_of(2, 100_000)));
    assert_eq!(read_as(&patient, "/e/sub/note"), Some(bytes_of(2, 100_000)));
}

#[test]
fn two_folders_of_one_name_reach_their_reader_under_two_labels() {
    let scene = Scene::new();
    let patient = scene.ann.connect();
    scene.put(&patient, "/2025/ct/note", 2);
    scene.put(&patient, "/2026/ct/note", 3);
    assert_eq!(share(&patient, "/2025/ct", &scene.lee, &for_treatment()).label, "ct");
    let second = share(&patient, "/2026/ct", &scene.lee, &for_treatment());
    assert_eq!((second.label.as_str(), second.label_in_use.as_deref()), ("ct-2", Some("ct")));
    assert_eq!(scene.read(&scene.lee, &scene.shared("ct/note")), Some(bytes_of(2, 100_000)));
    assert_eq!(scene.read(&scene.lee, &scene.shared("ct-2/note")), Some(bytes_of(3, 100_000)));

    // Named by hand, it is refused; for what already has it, it is not.
    let person = patient.look_up(&scene.lee.handle()).unwrap();
    let named = |label: &str| ShareOptions { label: Some(label.to_owned()), ..for_treatment() };
    let refused = patient.share(&at("/2026"), &person, &named("ct"));
    assert!(matches!(refused, Err(ShareError::LabelInUse { free, .. }) if free == "ct-3"));
    assert_eq!(patient.share(&at("/2025/ct"), &person, &named("ct")).unwrap().label, "ct");
    let refused = patient.share(&at("/2026"), &person, &named(".."));
    assert!(matches!(refused, Err(ShareError::BadLabel(_))));
    patient.revoke(&at("/2025/ct"), &scene.lee.handle()).unwrap();
    assert_eq!(patient.share(&at("/2026"), &person, &named("ct")).unwrap().label, "ct");
}

/// Readers of a path, each by which record, and whether that is a wider one.
fn readers_of(patient: &Client, path: &str) -> Vec<(String, String, bool)> {
    let live =
        patient.grants_on(&at(path)).unwrap().into_iter().filter(|grant| grant.state == GrantState::Live);
    let mut readers: Vec<_> =
        live.map(|grant| (grant.reader, grant.path.unwrap_or_default(), grant.wider)).collect();
    readers.sort();
    readers
}

#[test]
fn who_can_read_a_part_is_told_by_the_record_around_it() {
    let scene = Scene::new();
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let patient = scene.ann.connect();
    scene.put(&patient, "/imaging/ct/note", 2);
    share(&patient, "/imaging", &scene.lee, &for_treatment());
    assert!(scene.read(&scene.lee, &scene.shared("imaging/ct/note")).is_some());
    let lee = scene.lee.handle().to_string();
    let by = |reader: &str, path: &str, wider| (reader.to_owned(), path.to_owned(), wider);
    assert_eq!(readers_of(&patient, "/imaging"), [by(&lee, "/imaging", false)]);
    assert_eq!(readers_of(&patient, "/imaging/ct"), [by(&lee, "/imaging", true)]);
    assert_eq!(readers_of(&patient, "/imaging/ct/note"), [by(&lee, "/imaging", true)]);
    assert_eq!(readers_of(&patient, "/ct"), []);
    let opened = patient.audit(Some(&at("/imaging/ct/note"))).unwrap();
    assert_eq!((opened.len(), opened[0].path.as_deref(), opened[0].wider), (1, Some("/imaging"), true));
    let missing = patient.grants_on(&at("/imaging/none"));
    assert!(matches!(missing, Err(AuditError::Resolve(ResolveError::NotFound { .. }))), "{missing:?}");

    // A part that is a record by now is read by its own grants, and in older versions by the one around it.
    share(&patient, "/imaging/ct", &kim, &for_treatment());
    let kim = kim.handle().to_string();
    let inside = [by(&kim, "/imaging/ct", false), by(&lee, "/imaging", true), by(&lee, "/imaging/ct", false)];
    assert_eq!(readers_of(&patient, "/imaging/ct"), inside);
    patient.revoke(&at("/imaging/ct"), &scene.lee.handle()).unwrap();
    let older = [by(&kim, "/imaging/ct", false), by(&lee, "/imaging", true)];
    assert_eq!(readers_of(&patient, "/imaging/ct"), older);
    assert_eq!(
        patient.audit(Some(&at("/imaging/ct"))).unwrap().len(),
        1,
        "the opening of the version before"
    );
    patient.revoke(&at("/imaging"), &scene.lee.handle()).unwrap();
    assert_eq!(readers_of(&patient, "/imaging/ct"), [by(&kim, "/imaging/ct", false)]);
}

#[test]
fn one_grant_is_ended_by_its_id_and_the_readers_other_one_is_named() {
    let scene = Scene::new();
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let patient = scene.ann.connect();
    let [first, second] = [(); 2].map(|()| share(&patient, "/ct", &scene.lee, &for_treatment()).grant);
    share(&patient, "/ct", &kim, &for_treatment());
    let revoked = patient.revoke_grant(first.parse().unwrap()).unwrap();
    assert_eq!((revoked.others.len(), revoked.remaining, revoked.reissued), (1, 2, true), "{revoked:?}");
    for reader in [&scene.lee, &kim] {
        assert_eq!(scene.read(reader, &scene.shared("ct/slice")), Some(bytes_of(1, 100_000)));
    }
    // Both were issued again: the other goes by its newest id alone.
    for old in [first, second] {
        let refused = patient.revoke_grant(old.parse().unwrap());
        assert!(matches!(refused, Err(RevokeError::UnknownGrant { .. })), "{refused:?}");
    }
    let revoked = patient.revoke_grant(revoked.others[0].parse().unwrap()).unwrap();
    assert_eq!((revoked.others.len(), revoked.remaining), (0, 1));
    assert_eq!(scene.read(&scene.lee, &scene.shared("ct/slice")), None);
    assert_eq!(scene.read(&kim, &scene.shared("ct/slice")), Some(bytes_of(1, 100_000)));
}

#[test]
fn sharing_again_for_less_names_the_earlier_grant_that_stays() {
    let scene = Scene::new();
    let patient = scene.ann.connect();
    let until = |hours: u64| Some(now().plus_millis(hours * 3_600_000));
    let longer = ShareOptions { until: until(48), write: true, ..for_treatment() };
    let first = share(&patient, "/ct", &scene.lee, &longer);
    assert!(first.earlier.is_empty());
    let second = share(&patient, "/ct", &scene.lee, &ShareOptions { until: until(24), ..for_treatment() });
    let [earlier] = second.earlier.as_slice() else { panic!("{second:?}") };
    assert_eq!((&earlier.grant, earlier.until, earlier.write), (&first.grant, first.until, true));
    patient.revoke_grant(first.grant.parse().unwrap()).unwrap();
    let live =
        patient.grants_on(&at("/ct")).unwrap().into_iter().filter(|grant| grant.state == GrantState::Live);
    assert_eq!(live.map(|grant| (grant.until, grant.write)).collect::<Vec<_>>(), [(second.until, false)]);
    // For more, there is nothing to end.
    assert!(share(&patient, "/ct", &scene.lee, &longer).earlier.is_empty());
}

#[test]
fn what_cannot_be_told_apart_without_custodians_is_not_said_to_have_ended() {
    let scene = Scene::new();
    scene.share("/ct", &for_treatment());
    let liar = Liar::between(&scene.lee);
    let doctor = liar.connect().unwrap();
    liar.lie_about_keys(|_, answer| *answer = key::response::Response::Refusal(ledger::Refusal::default()));
    let refused = doctor.find(&at(&scene.shared("ct"))).map(|_| ());
    let Err(ResolveError::Opening(OpeningError::NotesAway { away, .. })) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(away, 1);
    liar.be_honest();
    assert!(doctor.find(&at(&scene.shared("ct"))).is_ok());
    let refused = doctor.find(&at(&scene.shared("mr"))).map(|_| ());
    assert!(matches!(refused, Err(ResolveError::Opening(OpeningError::NotShared { .. }))), "{refused:?}");
}

#[test]
fn a_shared_folder_and_what_is_nested_in_it_is_one_opening() {
    let scene = Scene::new();
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let patient = scene.ann.connect();
    let parts = ["a", "b", "c"].map(|name| format!("/study/{name}"));
    for path in &parts {
        scene.put(&patient, &format!("{path}/note"), 2);
        share(&patient, path, &kim, &for_treatment());
    }
    share(&patient, "/study", &scene.lee, &for_treatment());
    let before = patient.view().refresh().unwrap().height;
    let doctor = scene.lee.connect();
    for path in &parts {
        let path = scene.shared(&format!("{}/note", &path[1..]));
        assert_eq!(read_as(&doctor, &path), Some(bytes_of(2, 100_000)));
    }
    assert_eq!(patient.view().refresh().unwrap().height, before + 1, "one transaction");
    let audit = || patient.audit(Some(&at("/study"))).unwrap();
    assert_eq!(audit().len(), 4, "and the owner sees each record");
    // Another process of his, a moment later, goes by the same opening.
    assert!(scene.read(&scene.lee, &scene.shared("study/b/note")).is_some());
    assert_eq!(patient.view().refresh().unwrap().height, before + 1);
    assert_eq!(audit().len(), 4);
}

#[test]
fn notes_are_asked_for_once() {
    let scene = Scene::new();
    let patient = scene.ann.connect();
    for name in ["/a", "/b", "/c"] {
        scene.put(&patient, &format!("{name}/note"), 2);
        share(&patient, name, &scene.lee, &for_treatment());
    }
    let liar = Liar::between(&scene.lee);
    let doctor = liar.connect().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    liar.lie_about_keys(move |question, _| {
        if matches!(question, key::request::Request::Note(_)) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    for path in ["a/note", "b/note", "c/note"] {
        assert_eq!(read_as(&doctor, &scene.shared(path)), Some(bytes_of(2, 100_000)));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[test]
fn the_program_tells_of_wider_grants_and_ends_one_by_the_digits_that_it_shows() {
    let machine = Machine::new();
    machine.invite("dr.lee");
    std::fs::write(machine.path("secret"), bytes_of(1, 1000)).unwrap();
    machine.done("ann", &["put", &machine.text("secret"), "/n/a/secret"]);
    let words = machine.json("dr.lee", &["whoami"])["fingerprint"].as_str().unwrap().to_owned();
    machine.done("ann", &["share", "/n", "dr.lee@home", "--fingerprint", &words]);
    machine.done("dr.lee", &["cat", "//ann@home/n/a/secret"]);
    let by = machine.json("ann", &["grants", "/n/a/secret"]);
    assert_eq!((by[0]["path"].as_str(), by[0]["wider"].as_bool()), (Some("/n"), Some(true)));
    assert!(machine.done("ann", &["audit", "/n/a"]).contains("by /n"));
    for verb in ["grants", "audit"] {
        assert_eq!(machine.code("ann", &[verb, "/n/none"]), 1);
    }
    machine.done("ann", &["share", "/n/a", "dr.lee@home"]);
    let revoked = machine.run("ann", &["revoke", "/n/a", "dr.lee@home"]);
    assert_eq!(revoked.status.code(), Some(2));
    let said = String::from_utf8(revoked.stdout).unwrap();
    assert!(said.contains("A wider grant on /n still covers"), "{said}");
    let shown = machine.done("ann", &["grants"]);
    let live = shown.lines().find(|line| line.contains("live")).unwrap();
    machine.done("ann", &["revoke", "--grant", live.split_whitespace().next().unwrap()]);
    assert_eq!(machine.code("ann", &["revoke", "--grant", "0"]), 1);
    assert_eq!(machine.code("dr.lee", &["ls", "//ann@home/n"]), 3);
}
