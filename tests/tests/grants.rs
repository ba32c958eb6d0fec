//! What grants promise on one node: who reads what, until when, and what ends it.

use std::fs;
use std::sync::Arc;

use ihfs_client::client::{Client, now};
use ihfs_client::get::GetOptions;
use ihfs_client::home::Home;
use ihfs_client::join::recover;
use ihfs_client::openings::InProcess;
use ihfs_client::progress::Silent;
use ihfs_client::put::PutSource;
use ihfs_client::revoke::RevokeError;
use ihfs_client::share::{ShareError, ShareOptions};
use ihfs_core::crypto::keyring::Keyring;
use ihfs_core::ids::DeviceId;
use ihfs_core::ledger::identity::Role;
use ihfs_tests::{PASSPHRASE, Scene, at, bytes_of, connect, for_treatment, read_as};

#[test]
fn a_revoked_doctor_gets_no_key_after_the_block() {
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
fn a_share_from_now_opens_nothing_older() {
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
    // Time enough to share and read on a busy machine: the custodian goes by its own clock too.
    let until = now().plus_millis(10_000);
    scene.share("/ct", &ShareOptions { until: Some(until), ..for_treatment() });
    assert!(scene.read(&scene.lee, &scene.shared("ct/slice")).is_some());
    // Header time passes with blocks; wait for this machine's clock to be past it.
    while now() <= until {
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
fn revoking_a_part_of_a_granted_record_names_the_record_and_changes_nothing() {
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
fn a_removed_device_is_shut_out_and_the_others_go_on() {
    let scene = Scene::new();
    scene.share("/ct", &for_treatment());
    let lost: DeviceId = {
        let patient = scene.ann.connect();
        patient.whoami().unwrap().device.parse().unwrap()
    };
    let home = Home::at(scene.solo.path().join("new machine"));
    recover(&home, &scene.ann.seed(), PASSPHRASE, &scene.ann.whereabouts(), false).unwrap();
    let removed = connect(&home, PASSPHRASE).remove_device(&scene.ann.seed(), lost).unwrap();
    assert_eq!(removed.generation, 1);
    let client = connect(&home, PASSPHRASE);
    assert_eq!(client.devices().unwrap().len(), 1);
    scene.put(&client, "/ct/slice", 5);
    assert_eq!(read_as(&client, "/ct/slice"), Some(bytes_of(5, 100_000)));
    let keyring = Keyring::open(&scene.ann.home.keyring().unwrap(), PASSPHRASE).unwrap();
    let shut_out = Client::connect(&scene.ann.home, Arc::new(keyring), Box::<InProcess>::default());
    assert!(shut_out.is_err());
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
