//! Sharing as its owner sees it: what is told of grants, labels and openings, and what is taken by a revocation.

use ihfs_client::client::Client;
use ihfs_client::share::{ShareOptions, Shared};
use ihfs_core::ledger::identity::Role;
use ihfs_tests::{Person, Scene, at, bytes_of, for_treatment, read_as};

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

    // With the wider grant gone too, and a part that he is given anew, nothing wider is left.
    assert!(patient.revoke(&at("/n"), &scene.lee.handle()).unwrap().wider.is_empty());
    share(&patient, "/n/a", &scene.lee, &for_treatment());
    let revoked = patient.revoke(&at("/n/a"), &scene.lee.handle()).unwrap();
    assert!(revoked.wider.is_empty());
    assert_eq!(revoked.may_hold.len(), 1, "what was read before stays told");
}
