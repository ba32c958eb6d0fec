//! What grants promise on one node: who reads what, until when, and what ends it.

use std::fs;

use ihfs_client::client::{Client, now};
use ihfs_client::get::GetOptions;
use ihfs_client::progress::Silent;
use ihfs_client::put::PutSource;
use ihfs_client::revoke::RevokeError;
use ihfs_client::share::{ShareError, ShareOptions};
use ihfs_core::ids::DeviceId;
use ihfs_core::ledger::identity::Role;
use ihfs_tests::{Person, Solo, at, bytes_of, for_treatment};

/// A patient with one file in a folder, and a doctor.
struct Scene {
    solo: Solo,
    ann: Person,
    lee: Person,
}

impl Scene {
    fn new() -> Self {
        let solo = Solo::new();
        let (ann, lee) = (solo.join("ann", Role::Patient), solo.join("dr.lee", Role::Practitioner));
        let scene = Self { solo, ann, lee };
        scene.put(&scene.ann.connect(), "/ct/slice", 1);
        scene
    }

    fn put(&self, client: &Client, to: &str, seed: u8) {
        let file = self.solo.path().join("local");
        fs::write(&file, bytes_of(seed, 100_000)).unwrap();
        client.put(&PutSource::Path(file), &at(to), &Silent).unwrap();
    }

    fn share(&self, path: &str, options: &ShareOptions) {
        let patient = self.ann.connect();
        let person = patient.look_up(&self.lee.handle()).unwrap();
        patient.share(&at(path), &person, options).unwrap();
    }

    /// What the doctor reads at a shared path, by a new opening.
    fn read(&self, person: &Person, path: &str) -> Option<Vec<u8>> {
        read_as(&person.connect(), path)
    }

    fn shared(&self, path: &str) -> String {
        format!("//{}/{path}", self.ann.handle())
    }
}

fn read_as(client: &Client, path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    client.cat(&at(path), 0, u64::MAX, &mut bytes).ok()?;
    Some(bytes)
}

#[test]
fn a_revoked_reader_gets_no_key_after_the_block_and_others_stay() {
    let scene = Scene::new();
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    scene.share("/ct", &for_treatment());
    let patient = scene.ann.connect();
    let person = patient.look_up(&kim.handle()).unwrap();
    patient.share(&at("/ct"), &person, &for_treatment()).unwrap();
    let path = scene.shared("ct/slice");
    let open_session = scene.lee.connect();
    assert_eq!(read_as(&open_session, &path), Some(bytes_of(1, 100_000)));

    let revoked = patient.revoke(&at("/ct"), &scene.lee.handle()).unwrap();
    assert_eq!((revoked.remaining, revoked.reissued), (1, true));
    assert_eq!(scene.read(&scene.lee, &path), None);
    scene.put(&patient, "/ct/slice", 2);
    assert_eq!(scene.read(&kim, &path), Some(bytes_of(2, 100_000)));
    assert_eq!(scene.read(&scene.lee, &path), None);
    assert_eq!(read_as(&open_session, &path), None, "also not with the key of an opening before");
}

#[test]
fn a_snapshot_opens_one_version_alone() {
    let scene = Scene::new();
    scene.share("/ct", &ShareOptions { snapshot: true, ..for_treatment() });
    scene.put(&scene.ann.connect(), "/ct/slice", 2);
    assert_eq!(scene.read(&scene.lee, &scene.shared("ct/slice")), Some(bytes_of(1, 100_000)));
}

#[test]
fn a_grant_from_now_opens_nothing_older() {
    let scene = Scene::new();
    scene.share("/ct", &for_treatment());
    scene.put(&scene.ann.connect(), "/ct/slice", 2);
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let patient = scene.ann.connect();
    let person = patient.look_up(&kim.handle()).unwrap();
    patient.share(&at("/ct"), &person, &ShareOptions { from_now: true, ..for_treatment() }).unwrap();
    assert_eq!(scene.read(&kim, &scene.shared("ct/slice")), Some(bytes_of(2, 100_000)));
    assert_eq!(scene.read(&scene.lee, &scene.shared("ct/slice")), Some(bytes_of(2, 100_000)));
    let given = patient.grants().unwrap();
    assert_eq!(given.len(), 2, "the grant that was issued again counts once");
}

#[test]
fn a_grant_whose_time_is_over_does_not_open() {
    let scene = Scene::new();
    let until = Some(now().plus_millis(1500));
    scene.share("/ct", &ShareOptions { until, ..for_treatment() });
    assert!(scene.read(&scene.lee, &scene.shared("ct/slice")).is_some());
    // Header time passes with blocks; wait for this machine's clock to be past it.
    while now() <= until.unwrap() {
        std::thread::yield_now();
    }
    assert_eq!(scene.read(&scene.lee, &scene.shared("ct/slice")), None);
    // The owner's next version rotates by itself: the expired reader held the key.
    scene.put(&scene.ann.connect(), "/ct/slice", 2);
}

#[test]
fn a_writer_adds_versions_and_a_reader_does_not() {
    let scene = Scene::new();
    scene.share("/ct", &ShareOptions { write: true, ..for_treatment() });
    let doctor = scene.lee.connect();
    scene.put(&doctor, &scene.shared("ct/report"), 3);
    assert_eq!(read_as(&scene.ann.connect(), "/ct/report"), Some(bytes_of(3, 100_000)));

    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let patient = scene.ann.connect();
    let person = patient.look_up(&kim.handle()).unwrap();
    patient.share(&at("/ct"), &person, &for_treatment()).unwrap();
    let file = scene.solo.path().join("local");
    let refused = kim.connect().put(&PutSource::Path(file), &at(&scene.shared("ct/x")), &Silent);
    assert!(refused.is_err());
}

#[test]
fn revoking_a_part_changes_nothing_and_names_the_record() {
    let scene = Scene::new();
    scene.share("/ct", &for_treatment());
    let refused = scene.ann.connect().revoke(&at("/ct/slice"), &scene.lee.handle());
    let Err(RevokeError::Wider { wider, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(wider, at("/ct"));
    assert!(scene.read(&scene.lee, &scene.shared("ct/slice")).is_some());
}

#[test]
fn nested_records_are_granted_and_revoked_with_their_parent() {
    let scene = Scene::new();
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    scene.put(&scene.ann.connect(), "/ct/private/note", 4);
    scene.share("/ct", &for_treatment());
    let patient = scene.ann.connect();
    let person = patient.look_up(&kim.handle()).unwrap();
    patient.share(&at("/ct/private"), &person, &for_treatment()).unwrap();
    let inner = scene.shared("ct/private/note");
    assert_eq!(scene.read(&scene.lee, &inner), Some(bytes_of(4, 100_000)), "the parent's reader stays");
    assert_eq!(scene.read(&kim, &scene.shared("private/note")), Some(bytes_of(4, 100_000)));
    assert_eq!(scene.read(&kim, &scene.shared("ct/slice")), None);
    patient.revoke(&at("/ct"), &scene.lee.handle()).unwrap();
    assert_eq!(scene.read(&scene.lee, &inner), None);
    assert_eq!(scene.read(&kim, &scene.shared("private/note")), Some(bytes_of(4, 100_000)));
}

#[test]
fn custodians_release_nothing_for_an_opening_from_before_their_restart() {
    let mut scene = Scene::new();
    scene.share("/ct", &for_treatment());
    assert!(scene.read(&scene.lee, &scene.shared("ct/slice")).is_some());
    scene.solo.restart();
    let before = scene.ann.connect().audit(None).unwrap().len();
    assert!(scene.read(&scene.lee, &scene.shared("ct/slice")).is_some(), "a new opening serves");
    assert_eq!(scene.ann.connect().audit(None).unwrap().len(), before + 1);
}

#[test]
fn the_recovery_sheet_restores_everything() {
    let scene = Scene::new();
    scene.share("/ct", &for_treatment());
    let network = scene.ann.home.network().unwrap().parse().unwrap();
    let place = ihfs_client::join::Whereabouts { chain: network.chain, nodes: network.nodes };
    let home = ihfs_client::home::Home::at(scene.solo.path().join("new machine"));
    let drill =
        ihfs_client::join::recover(&home, &scene.ann.seed(), b"new passphrase", &place, true).unwrap();
    assert!(drill.drill && !home.is_set_up());
    let found =
        ihfs_client::join::recover(&home, &scene.ann.seed(), b"new passphrase", &place, false).unwrap();
    assert_eq!(found.readable, found.records);
    assert_eq!(found.who.handle.as_deref(), Some("ann@st-mary"));
    let keyring =
        ihfs_core::crypto::keyring::Keyring::open(&home.keyring().unwrap(), b"new passphrase").unwrap();
    let openings = Box::<ihfs_client::openings::InProcess>::default();
    let client = Client::connect(&home, std::sync::Arc::new(keyring), openings).unwrap();
    assert_eq!(read_as(&client, "/ct/slice"), Some(bytes_of(1, 100_000)));
    assert_eq!(client.grants().unwrap().len(), 1);
}

#[test]
fn a_removed_device_is_shut_out_and_the_others_go_on() {
    let scene = Scene::new();
    scene.share("/ct", &for_treatment());
    let lost: DeviceId = {
        let patient = scene.ann.connect();
        patient.whoami().unwrap().device.parse().unwrap()
    };
    let network = scene.ann.home.network().unwrap().parse().unwrap();
    let place = ihfs_client::join::Whereabouts { chain: network.chain, nodes: network.nodes };
    let home = ihfs_client::home::Home::at(scene.solo.path().join("new machine"));
    ihfs_client::join::recover(&home, &scene.ann.seed(), b"new passphrase", &place, false).unwrap();
    let connect = || {
        let keyring =
            ihfs_core::crypto::keyring::Keyring::open(&home.keyring().unwrap(), b"new passphrase").unwrap();
        let openings = Box::<ihfs_client::openings::InProcess>::default();
        Client::connect(&home, std::sync::Arc::new(keyring), openings).unwrap()
    };
    let removed = connect().remove_device(&scene.ann.seed(), lost).unwrap();
    assert_eq!(removed.generation, 1);
    let client = connect();
    assert_eq!(client.devices().unwrap().len(), 1);
    scene.put(&client, "/ct/slice", 5);
    assert_eq!(read_as(&client, "/ct/slice"), Some(bytes_of(5, 100_000)));
    let sealed = scene.ann.home.keyring().unwrap();
    let keyring = ihfs_core::crypto::keyring::Keyring::open(&sealed, ihfs_tests::PASSPHRASE).unwrap();
    let openings = Box::<ihfs_client::openings::InProcess>::default();
    assert!(Client::connect(&scene.ann.home, std::sync::Arc::new(keyring), openings).is_err());
    assert_eq!(scene.read(&scene.lee, &scene.shared("ct/slice")), Some(bytes_of(5, 100_000)));
}

#[test]
fn a_handle_that_nobody_has_is_told() {
    let scene = Scene::new();
    let unknown = scene.ann.connect().look_up(&"dr.who@st-mary".parse().unwrap());
    assert!(matches!(unknown, Err(ShareError::UnknownHandle { .. })));
}

#[test]
fn get_brings_back_the_same_bytes_to_patient_and_doctor() {
    let scene = Scene::new();
    scene.share("/ct", &for_treatment());
    for (number, (person, from)) in
        [(&scene.ann, "/ct".to_owned()), (&scene.lee, scene.shared("ct/"))].into_iter().enumerate()
    {
        let to = scene.solo.path().join(format!("got{number}"));
        person.connect().get(&at(&from), &to, GetOptions::default(), &Silent).unwrap();
        assert_eq!(fs::read(to.join("slice")).unwrap(), bytes_of(1, 100_000));
    }
}
