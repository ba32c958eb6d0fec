//! A writer inside what is shared with him, and devices of one member that go on without a third.

use ihfs_client::change::ChangeError;
use ihfs_client::client::Client;
use ihfs_client::history::{HistoryError, Keep, VersionState};
use ihfs_client::home::Home;
use ihfs_client::join::recover;
use ihfs_client::share::{ShareError, ShareOptions};
use ihfs_core::crypto::keyring::Keyring;
use ihfs_core::ids::Version;
use ihfs_core::ledger::identity::Role;
use ihfs_core::tree::edit::Overwrite;
use ihfs_tests::{PASSPHRASE, Scene, at, bytes_of, connect, for_treatment, read_as};

/// What every file of a scene is made of.
fn content(seed: u8) -> Option<Vec<u8>> {
    Some(bytes_of(seed, 100_000))
}

#[test]
fn a_writer_makes_moves_removes_and_restores_and_the_owner_keeps_all() {
    let scene = Scene::new();
    scene.share("/ct", &ShareOptions { write: true, ..for_treatment() });
    let (patient, doctor) = (scene.ann.connect(), scene.lee.connect());
    let shared = |path: &str| at(&scene.shared(path));
    let before = Version(patient.history(&at("/ct")).unwrap().last().unwrap().version);

    doctor.mkdir(&shared("ct/reports"), false).unwrap();
    scene.put(&doctor, &scene.shared("ct/reports/first"), 3);
    doctor.mv(&shared("ct/reports/first"), &shared("ct/first"), Overwrite::Refuse).unwrap();
    doctor.mv(&shared("ct/first"), &shared("ct/slice"), Overwrite::Replace).unwrap();
    assert_eq!(read_as(&patient, "/ct/slice"), content(3));
    doctor.rm(&shared("ct/slice"), false).unwrap();
    assert_eq!(read_as(&patient, "/ct/slice"), None);
    doctor.restore(&shared("ct/slice"), before).unwrap();
    assert_eq!(read_as(&patient, "/ct/slice"), content(1));
    doctor.rm(&shared("ct/reports"), true).unwrap();

    // Each was a version of its own, and the owner still has every one.
    let history = patient.history(&at("/ct/slice")).unwrap();
    assert_eq!(history.last().unwrap().version, before.0 + 7);
    let gone: Vec<_> =
        history.iter().map(|version| version.version).filter(|number| *number > before.0 + 3).collect();
    assert_eq!(gone.len(), 4);
    patient.restore(&at("/ct/slice"), Version(before.0 + 4)).unwrap();
    assert_eq!(read_as(&patient, "/ct/slice"), content(3));
    patient.restore(&at("/ct/slice"), before).unwrap();
    assert_eq!(read_as(&patient, "/ct/slice"), content(1));
    assert!(history.iter().all(|version| version.state != VersionState::Pruned));
}

#[test]
fn a_writer_cannot_prune_share_revoke_or_remove_the_record_itself() {
    let scene = Scene::new();
    scene.share("/ct", &ShareOptions { write: true, ..for_treatment() });
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let doctor = scene.lee.connect();
    scene.put(&doctor, &scene.shared("ct/slice"), 2);
    let record = at(&scene.shared("ct"));
    let pruned = doctor.prune(&record, Keep::Last(1));
    assert!(matches!(pruned, Err(HistoryError::OnlyOwner { .. })), "{pruned:?}");
    let person = doctor.look_up(&kim.handle()).unwrap();
    for path in ["ct", "ct/slice"] {
        let shared = doctor.share(&at(&scene.shared(path)), &person, &for_treatment());
        assert!(matches!(shared, Err(ShareError::NotOwn)), "{path}: {shared:?}");
    }
    assert!(doctor.revoke(&record, &scene.lee.handle()).is_err());
    let removed = doctor.rm(&record, true);
    assert!(matches!(removed, Err(ChangeError::Top { .. } | ChangeError::OnlyOwner { .. })), "{removed:?}");
    let patient = scene.ann.connect();
    assert_eq!(read_as(&patient, "/ct/slice"), content(2));
    let versions = patient.history(&at("/ct/slice")).unwrap();
    assert!(versions.iter().all(|version| version.state != VersionState::Pruned));
}

#[test]
fn a_writer_changes_nothing_inside_a_record_that_he_may_only_read() {
    let scene = Scene::new();
    scene.put(&scene.ann.connect(), "/ct/private/note", 4);
    scene.share("/ct/private", &for_treatment());
    let doctor = scene.lee.connect();
    for path in ["private/note", "private/new"] {
        assert!(doctor.mkdir(&at(&scene.shared(path)), false).is_err());
    }
    assert!(doctor.rm(&at(&scene.shared("private/note")), false).is_err());
    let moved = doctor.mv(&at(&scene.shared("private/note")), &at("/note"), Overwrite::Refuse);
    assert!(moved.is_err(), "{moved:?}");
    assert_eq!(read_as(&scene.ann.connect(), "/ct/private/note"), content(4));
}

/// Another device of the patient.
fn device(scene: &Scene, name: &str) -> Home {
    let home = Home::at(scene.solo.path().join(name));
    recover(&home, &scene.ann.seed(), PASSPHRASE, &scene.ann.whereabouts(), false).unwrap();
    home
}

/// Generations that the keyring in a home holds.
fn generations(home: &Home) -> usize {
    Keyring::open(&home.keyring().unwrap(), PASSPHRASE).unwrap().generations.len()
}

#[test]
fn two_devices_go_on_after_a_third_is_removed() {
    let scene = Scene::new();
    scene.share("/ct", &for_treatment());
    let (second, third) = (device(&scene, "second"), device(&scene, "third"));
    let lost = connect(&third, PASSPHRASE);
    let id = lost.whoami().unwrap().device.parse().unwrap();
    scene.ann.connect().remove_device(&scene.ann.seed(), id).unwrap();

    let (first, second): (Client, Client) = (scene.ann.connect(), connect(&second, PASSPHRASE));
    for (client, other, seed) in [(&first, &second, 5), (&second, &first, 6), (&first, &second, 7)] {
        scene.put(client, "/ct/slice", seed);
        assert_eq!(read_as(other, "/ct/slice"), content(seed));
        assert_eq!(scene.read(&scene.lee, &scene.shared("ct/slice")), content(seed));
    }
    assert_eq!(first.devices().unwrap().len(), 2);

    // Also over the connection that stood before.
    assert!(lost.ls(&at("/"), None, 10).is_err());
    assert!(lost.mkdir(&at("/x"), false).is_err());
    let keys = Keyring::open(&third.keyring().unwrap(), PASSPHRASE).unwrap();
    let openings = Box::<ihfs_client::openings::InProcess>::default();
    assert!(Client::connect(&third, keys.into(), openings).is_err());
}

#[test]
fn a_device_keeps_the_secrets_of_a_generation_that_it_learned() {
    let scene = Scene::new();
    let (second, third) = (device(&scene, "second"), device(&scene, "third"));
    let id = connect(&third, PASSPHRASE).whoami().unwrap().device.parse().unwrap();
    scene.ann.connect().remove_device(&scene.ann.seed(), id).unwrap();

    let sealed = second.keyring().unwrap();
    let client = connect(&second, PASSPHRASE);
    assert_eq!(generations(&second), 1);
    client.keep_learned(b"another keyring", PASSPHRASE).unwrap();
    assert_eq!(generations(&second), 1, "one that was set up meanwhile stays");
    client.keep_learned(&sealed, PASSPHRASE).unwrap();
    assert_eq!(generations(&second), 2);
    let sealed = second.keyring().unwrap();
    let again = connect(&second, PASSPHRASE);
    again.keep_learned(&sealed, PASSPHRASE).unwrap();
    assert_eq!(second.keyring().unwrap(), sealed, "nothing new, nothing written");
    scene.put(&again, "/ct/slice", 8);
    assert_eq!(read_as(&scene.ann.connect(), "/ct/slice"), content(8));
}
