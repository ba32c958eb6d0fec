//! The whole path on one node: put, share, open, read, revoke, denied.

use std::fs;

use ihfs_client::progress::Silent;
use ihfs_client::put::Put;
use ihfs_core::ledger::identity::Role;
use ihfs_tests::{Solo, at, bytes_of, for_treatment};

#[test]
fn a_patient_shares_a_folder_a_doctor_reads_it_and_is_revoked() {
    let solo = Solo::new();
    let (ann, lee) = (solo.join("ann", Role::Patient), solo.join("dr.lee", Role::Practitioner));
    let study = solo.path().join("ct");
    fs::create_dir(&study).unwrap();
    fs::write(study.join("small"), bytes_of(1, 4000)).unwrap();
    fs::write(study.join("large"), bytes_of(2, 3_500_000)).unwrap();
    fs::write(study.join("empty"), b"").unwrap();
    let patient = ann.connect();
    let put = [Put::path(study.clone(), at("/imaging/ct"))];
    let first = patient.put(&put, &Silent).unwrap();
    assert_eq!((first.files, first.bytes), (3, 3_504_000));
    let again = patient.put(&put, &Silent).unwrap();
    assert_eq!((again.files_unchanged, again.sent_bytes, again.version), (3, 0, None));

    let person = patient.look_up(&lee.handle()).unwrap();
    let shared = patient.share(&at("/imaging/ct"), &person, &for_treatment()).unwrap();
    assert_eq!(shared.label, "ct");

    let doctor = lee.connect();
    let received = doctor.received().unwrap();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].label.as_deref(), Some("ct"));
    assert_eq!(patient.audit(None).unwrap().len(), 0, "listing opens nothing");
    let label = format!("//{}/ct", ann.handle());
    let (spot, _) = doctor.find(&at(&format!("{label}/large"))).unwrap();
    assert_eq!(spot.path.len(), 1);
    assert_eq!(patient.audit(None).unwrap().len(), 1, "one opening, which the patient sees");

    let revoked = patient.revoke(&at("/imaging/ct"), &lee.handle()).unwrap();
    assert_eq!(revoked.may_hold.len(), 1);
    let denied = lee.connect();
    assert!(denied.received().unwrap().is_empty());
    assert!(denied.find(&at(&format!("{label}/large"))).is_err());
}
