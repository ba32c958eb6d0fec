//! What grants promise on one node: who reads what, until when, and what ends it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ihfs_client::audit::GrantState;
use ihfs_client::client::{Client, now};
use ihfs_client::fetch::Fetcher;
use ihfs_client::get::GetOptions;
use ihfs_client::history::Keep;
use ihfs_client::home::Home;
use ihfs_client::join::recover;
use ihfs_client::link::AskError;
use ihfs_client::openings::InProcess;
use ihfs_client::progress::Silent;
use ihfs_client::put::Put;
use ihfs_client::record::RecordError;
use ihfs_client::revoke::{REISSUE_TIME_MAX, RevokeError};
use ihfs_client::share::{ShareError, ShareOptions};
use ihfs_client::upload::{UploadError, Uploader};
use ihfs_client::view::ViewError;
use ihfs_core::crypto::keyring::Keyring;
use ihfs_core::ids::{ChunkId, DeviceId, RecordId, Version};
use ihfs_core::ledger::identity::{Role, VAULT_NONCE};
use ihfs_core::ledger::state::{RecordEntry, RecordLists, StateKey};
use ihfs_core::sealed::{Place, SealedChunk};
use ihfs_core::tree::ChunkSource;
use ihfs_core::tree::edit::Overwrite;
use ihfs_core::tree::entry::Content;
use ihfs_core::tree::file::PlacedExtent;
use ihfs_net::Conversation;
use ihfs_proto::key;
use ihfs_proto::ledger::{self, Reason};
use ihfs_tests::liar::{Liar, read};
use ihfs_tests::{PASSPHRASE, Person, Scene, at, bytes_of, connect, for_treatment, read_as};

/// Shares the patient's path with somebody, for reading.
fn share_with(patient: &Client, path: &str, reader: &Person) {
    let person = patient.look_up(&reader.handle()).unwrap();
    patient.share(&at(path), &person, &for_treatment()).unwrap();
}

/// The newest height.
fn height(person: &Person) -> u64 {
    person.connect().freshness().height
}

/// Names a chunk under a record, as a reader does who wants its bytes; gives the node's answer.
fn name_chunk(liar: &Liar, under: RecordId, chunk: ChunkId, sources: &[RecordId]) -> Reason {
    let mut uploader = Uploader::new(liar.link(), under, None, vec![liar.node()]);
    uploader.reuse(chunk, 100_000);
    let root = b"a root that nobody opens".to_vec();
    let root = SealedChunk::verify(ChunkId::of(&root), root).unwrap();
    match uploader.finish(liar.trust().chain, root, sources) {
        Err(UploadError::Ask(AskError::Refused(refusal))) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

/// The chunk that holds a file, and the record that holds it.
fn only_chunk(client: &Client, path: &str) -> (ChunkId, RecordId) {
    let (spot, item) = client.find(&at(path)).unwrap();
    let Content::File(content) = item.content else { panic!("a file") };
    let placed = content.extents(spot.tree.source(), 0..content.size_bytes(), 2).unwrap();
    let [PlacedExtent { extent, .. }] = placed.as_slice() else { panic!("one piece") };
    let Place::Chunk(chunk) = extent.as_piece().unwrap().place else { panic!("written") };
    (chunk, spot.record.id)
}

/// Who may read what, by path.
fn live_grants(patient: &Client) -> Vec<(String, String)> {
    let live = patient.grants().unwrap().into_iter().filter(|grant| grant.state == GrantState::Live);
    let mut pairs: Vec<_> = live.map(|grant| (grant.path.unwrap(), grant.reader)).collect();
    pairs.sort();
    pairs
}

fn pairs(expected: &[(&str, &Person)]) -> Vec<(String, String)> {
    let mut pairs: Vec<_> =
        expected.iter().map(|(path, reader)| ((*path).to_owned(), reader.handle().to_string())).collect();
    pairs.sort();
    pairs
}

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
fn a_device_that_opens_again_at_once_reads_under_its_own_opening() {
    let scene = Scene::new();
    scene.share("/ct", &for_treatment());
    for _ in 0..3 {
        assert_eq!(scene.read(&scene.lee, &scene.shared("ct/slice")), Some(bytes_of(1, 100_000)));
    }
    assert_eq!(scene.ann.connect().audit(Some(&at("/ct"))).unwrap().len(), 1);
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
    let refused = kim.connect().put(&[Put::path(file, at(&scene.shared("ct/x")))], &Silent);
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

#[test]
fn a_moved_record_leaves_the_old_parents_readers_and_comes_to_the_new_ones() {
    let scene = Scene::new();
    let (kim, sue) =
        (scene.solo.join("dr.kim", Role::Practitioner), scene.solo.join("dr.sue", Role::Practitioner));
    let patient = scene.ann.connect();
    for (path, seed) in [("/imaging/ct/x", 2), ("/imaging/ct/inner/y", 3), ("/other/z", 4)] {
        scene.put(&patient, path, seed);
    }
    share_with(&patient, "/imaging", &kim);
    share_with(&patient, "/imaging/ct/inner", &scene.lee);
    // Cut out between two records that are there already.
    share_with(&patient, "/imaging/ct", &scene.lee);
    share_with(&patient, "/other", &sue);
    let old_reader = kim.connect();
    let old_path = scene.shared("imaging/ct/inner/y");
    assert_eq!(read_as(&old_reader, &old_path), Some(bytes_of(3, 100_000)));
    assert_eq!(read_as(&old_reader, &scene.shared("imaging/ct/x")), Some(bytes_of(2, 100_000)));

    let before = height(&scene.ann);
    let moved = patient.mv(&at("/imaging/ct"), &at("/other"), Overwrite::Refuse).unwrap();
    assert_eq!((moved.ended_grants, moved.added_grants), (2, 2));
    assert_eq!(height(&scene.ann), before + 1, "one transaction");
    let new_reader = sue.connect();
    assert_eq!(read_as(&new_reader, &scene.shared("other/ct/x")), Some(bytes_of(2, 100_000)));
    assert_eq!(read_as(&new_reader, &scene.shared("other/ct/inner/y")), Some(bytes_of(3, 100_000)));
    let direct = scene.lee.connect();
    assert_eq!(read_as(&direct, &scene.shared("ct/x")), Some(bytes_of(2, 100_000)));
    assert_eq!(read_as(&direct, &scene.shared("inner/y")), Some(bytes_of(3, 100_000)));
    assert_eq!(read_as(&old_reader, &old_path), None);
    assert_eq!(
        live_grants(&patient),
        pairs(&[
            ("/imaging", &kim),
            ("/other", &sue),
            ("/other/ct", &sue),
            ("/other/ct", &scene.lee),
            ("/other/ct/inner", &sue),
            ("/other/ct/inner", &scene.lee),
            ("/other/ct/inner", &scene.lee),
        ])
    );
    scene.put(&patient, "/other/ct/inner/y", 5);
    assert_eq!(scene.read(&sue, &scene.shared("other/ct/inner/y")), Some(bytes_of(5, 100_000)));
    assert_eq!(scene.read(&scene.lee, &scene.shared("inner/y")), Some(bytes_of(5, 100_000)));
    // The new parent's revocation takes what came with it.
    patient.revoke(&at("/other"), &sue.handle()).unwrap();
    assert_eq!(scene.read(&sue, &scene.shared("other/ct/x")), None);
    assert_eq!(scene.read(&scene.lee, &scene.shared("inner/y")), Some(bytes_of(5, 100_000)));
}

#[test]
fn records_inside_a_moved_folder_change_their_readers_with_it() {
    let scene = Scene::new();
    let (kim, sue) =
        (scene.solo.join("dr.kim", Role::Practitioner), scene.solo.join("dr.sue", Role::Practitioner));
    let patient = scene.ann.connect();
    for (path, seed) in [("/imaging/year/ct/x", 2), ("/imaging/year/plain", 3), ("/other/z", 4)] {
        scene.put(&patient, path, seed);
    }
    share_with(&patient, "/imaging/year/ct", &scene.lee);
    share_with(&patient, "/imaging", &kim);
    share_with(&patient, "/other", &sue);
    let old_reader = kim.connect();
    assert!(read_as(&old_reader, &scene.shared("imaging/year/ct/x")).is_some());
    let moved = patient.mv(&at("/imaging/year"), &at("/other"), Overwrite::Refuse).unwrap();
    assert_eq!((moved.ended_grants, moved.added_grants), (1, 1));
    assert_eq!(
        live_grants(&patient),
        pairs(&[
            ("/imaging", &kim),
            ("/other", &sue),
            ("/other/year/ct", &sue),
            ("/other/year/ct", &scene.lee),
        ])
    );
    assert_eq!(scene.read(&sue, &scene.shared("other/year/ct/x")), Some(bytes_of(2, 100_000)));
    assert_eq!(scene.read(&sue, &scene.shared("other/year/plain")), Some(bytes_of(3, 100_000)));
    assert_eq!(scene.read(&scene.lee, &scene.shared("ct/x")), Some(bytes_of(2, 100_000)));
    assert_eq!(read_as(&old_reader, &scene.shared("imaging/year/ct/x")), None);
}

#[test]
fn a_rename_inside_one_record_changes_no_grant() {
    let scene = Scene::new();
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let patient = scene.ann.connect();
    scene.put(&patient, "/imaging/ct/x", 2);
    patient.mkdir(&at("/imaging/below/deeper"), true).unwrap();
    share_with(&patient, "/imaging/ct", &scene.lee);
    share_with(&patient, "/imaging", &kim);
    let ids = || -> Vec<String> {
        patient
            .grants()
            .unwrap()
            .into_iter()
            .map(|grant| format!("{} {:?}", grant.grant, grant.state))
            .collect()
    };
    let before = ids();
    for (from, to) in [
        ("/imaging/ct", "/imaging/below/deeper/ct"),
        ("/imaging/below", "/imaging/under"),
        ("/imaging/under/deeper/ct", "/imaging/ct"),
    ] {
        let moved = patient.mv(&at(from), &at(to), Overwrite::Refuse).unwrap();
        assert_eq!((moved.ended_grants, moved.added_grants), (0, 0));
    }
    assert_eq!(ids(), before);
    assert_eq!(scene.read(&kim, &scene.shared("imaging/ct/x")), Some(bytes_of(2, 100_000)));
    assert_eq!(scene.read(&scene.lee, &scene.shared("ct/x")), Some(bytes_of(2, 100_000)));
}

#[test]
fn a_revocation_and_the_remaining_readers_new_grants_are_one_transaction() {
    let scene = Scene::new();
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let patient = scene.ann.connect();
    scene.put(&patient, "/ct/inner/note", 4);
    share_with(&patient, "/ct/inner", &kim);
    for reader in [&scene.lee, &kim] {
        share_with(&patient, "/ct", reader);
    }
    let before = height(&scene.ann);
    let revoked = patient.revoke(&at("/ct"), &scene.lee.handle()).unwrap();
    assert_eq!((revoked.remaining, revoked.reissued, revoked.height), (1, true, before + 1));
    assert_eq!(height(&scene.ann), before + 1, "exactly one transaction");
    assert_eq!(patient.stat(&at("/ct")).unwrap().epoch, 1);
    assert_eq!(patient.stat(&at("/ct/inner")).unwrap().epoch, 1);
    assert_eq!(scene.read(&kim, &scene.shared("ct/slice")), Some(bytes_of(1, 100_000)));
    scene.put(&patient, "/ct/slice", 2);
    scene.put(&patient, "/ct/inner/note", 5);
    assert_eq!(height(&scene.ann), before + 4, "one opening and two versions");
    assert_eq!(scene.read(&kim, &scene.shared("ct/slice")), Some(bytes_of(2, 100_000)));
    assert_eq!(scene.read(&kim, &scene.shared("inner/note")), Some(bytes_of(5, 100_000)));
    assert_eq!(scene.read(&scene.lee, &scene.shared("ct/slice")), None);
}

#[test]
fn a_revocation_waits_for_no_custodian() {
    let scene = Scene::new();
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let patient = scene.ann.connect();
    for reader in [&scene.lee, &kim] {
        share_with(&patient, "/ct", reader);
    }
    let liar = Liar::between(&scene.ann);
    let cut_off = liar.connect().unwrap();
    liar.lie(|conversation, _, answer| (conversation != Conversation::Key).then_some(answer));
    let (before, begun) = (height(&scene.ann), std::time::Instant::now());
    let revoked = cut_off.revoke(&at("/ct"), &scene.lee.handle()).unwrap();
    // Once before the revocation and once after it; what else it asks is answered at once.
    assert!(begun.elapsed() < REISSUE_TIME_MAX * 4, "{:?}", begun.elapsed());
    assert_eq!((revoked.remaining, revoked.reissued, revoked.height), (1, false, before + 1));
    assert_eq!(scene.read(&scene.lee, &scene.shared("ct/slice")), None);
    assert_eq!(scene.read(&kim, &scene.shared("ct/slice")), Some(bytes_of(1, 100_000)), "the last version");
    scene.put(&patient, "/ct/slice", 2);
    assert_eq!(scene.read(&kim, &scene.shared("ct/slice")), Some(bytes_of(2, 100_000)));
}

#[test]
fn a_version_written_while_access_is_taken_does_not_hold_it_up() {
    let scene = Scene::new();
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let patient = scene.ann.connect();
    for reader in [&scene.lee, &kim] {
        share_with(&patient, "/ct", reader);
    }
    let liar = Liar::between(&scene.ann);
    let revoking = liar.connect().unwrap();
    let file = scene.solo.path().join("raced");
    fs::write(&file, bytes_of(2, 100_000)).unwrap();
    let mut writer = Some((patient, file));
    liar.swallow(move |conversation, question| {
        let is_submit = conversation == Conversation::Ledger
            && matches!(
                read::<ledger::Request>(question.clone()).request,
                Some(ledger::request::Request::Submit(_))
            );
        if let Some((patient, file)) = writer.take_if(|_| is_submit) {
            let put = move || drop(patient.put(&[Put::path(file, at("/ct/slice"))], &Silent).unwrap());
            std::thread::spawn(put).join().unwrap();
        }
        None
    });
    let revoked = revoking.revoke(&at("/ct"), &scene.lee.handle()).unwrap();
    assert_eq!((revoked.remaining, revoked.reissued), (1, true));
    assert_eq!(scene.read(&scene.lee, &scene.shared("ct/slice")), None);
    assert_eq!(scene.read(&kim, &scene.shared("ct/slice")), Some(bytes_of(2, 100_000)));
}

#[test]
fn a_grant_of_one_version_or_of_later_shows_the_head_and_never_who_else_reads() {
    let scene = Scene::new();
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let patient = scene.ann.connect();
    let tomorrow = Some(now().plus_millis(24 * 60 * 60 * 1000));
    scene.share("/ct", &ShareOptions { snapshot: true, ..for_treatment() });
    let person = patient.look_up(&kim.handle()).unwrap();
    patient.share(&at("/ct"), &person, &ShareOptions { not_before: tomorrow, ..for_treatment() }).unwrap();
    let record: RecordId = patient.stat(&at("/ct")).unwrap().record.parse().unwrap();
    for reader in [scene.lee.connect(), kim.connect()] {
        assert!(reader.view().entry::<RecordEntry>(StateKey::Record(record)).unwrap().is_some());
        let lists = reader.view().entry::<RecordLists>(StateKey::RecordLists(record));
        let refused = |error: &ViewError| match error {
            ViewError::Ask(AskError::Refused(refusal)) => refusal.reason == Reason::NotAllowed,
            _ => false,
        };
        assert!(lists.as_ref().is_err_and(refused), "{lists:?}");
    }
    patient.revoke(&at("/ct"), &kim.handle()).unwrap();
    let told = kim.connect().view().entry::<RecordEntry>(StateKey::Record(record));
    assert_eq!(
        RecordError::from(told.unwrap_err()).to_string(),
        format!("record {record:?} is no longer shared with you")
    );
}

#[test]
fn a_version_that_a_live_snapshot_opens_outlives_a_prune() {
    let scene = Scene::new();
    scene.share("/ct", &ShareOptions { snapshot: true, ..for_treatment() });
    let patient = scene.ann.connect();
    let given = patient.grants().unwrap()[0].snapshot.unwrap();
    for seed in [2, 3] {
        scene.put(&patient, "/ct/slice", seed);
    }
    let pruned = patient.prune(&at("/ct"), Keep::Last(1)).unwrap();
    assert_eq!(pruned.kept, [given, given + 2]);
    assert_eq!(scene.read(&scene.lee, &scene.shared("ct/slice")), Some(bytes_of(1, 100_000)));
    // Also after others lost access and everything was sealed in a new epoch.
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    share_with(&patient, "/ct", &kim);
    patient.revoke(&at("/ct"), &kim.handle()).unwrap();
    scene.put(&patient, "/ct/slice", 4);
    assert!(patient.prune(&at("/ct"), Keep::Last(1)).unwrap().kept.contains(&given));
    assert_eq!(scene.read(&scene.lee, &scene.shared("ct/slice")), Some(bytes_of(1, 100_000)));
    patient.revoke(&at("/ct"), &scene.lee.handle()).unwrap();
    let pruned = patient.prune(&at("/ct"), Keep::Last(1)).unwrap();
    assert!(!pruned.kept.contains(&given));
    assert!(pruned.bytes_freed > 100_000, "{pruned:?}");
}

#[test]
fn a_revoked_reader_who_names_the_old_chunks_gets_nothing() {
    let scene = Scene::new();
    let patient = scene.ann.connect();
    scene.share("/ct", &for_treatment());
    scene.put(&patient, "/other/note", 2);
    scene.share("/other", &ShareOptions { write: true, ..for_treatment() });
    let doctor = scene.lee.connect();
    let (chunk, ct) = only_chunk(&doctor, &scene.shared("ct/slice"));
    // Records of his own, and one where he may write.
    scene.put(&doctor, "/mine", 3);
    let own = RecordId::of(doctor.member(), &VAULT_NONCE);
    let writable: RecordId = doctor.stat(&at(&scene.shared("other"))).unwrap().record.parse().unwrap();
    scene.put(&doctor, &scene.shared("other/report"), 4);
    patient.revoke(&at("/ct"), &scene.lee.handle()).unwrap();

    let liar = Liar::between(&scene.lee);
    for record in [own, writable] {
        assert_eq!(name_chunk(&liar, record, chunk, &[]), Reason::NotFound);
        assert_eq!(name_chunk(&liar, record, chunk, &[ct]), Reason::NotAllowed);
    }
    assert_eq!(name_chunk(&liar, ct, chunk, &[]), Reason::NoGrant);
    for record in [own, writable, ct] {
        let fetcher = Fetcher::new(&liar.link(), record, vec![liar.node()]);
        assert!(fetcher.chunk(chunk).is_err());
    }
    assert_eq!(
        read_as(&patient, "/other/report"),
        Some(bytes_of(4, 100_000)),
        "where he may write he still does"
    );
}

#[test]
fn a_revocation_touches_no_data_whatever_the_record_holds() {
    let scene = Scene::new();
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let patient = scene.ann.connect();
    let many = scene.solo.path().join("many");
    for number in 0..10_000 {
        let folder = many.join(format!("{}", number / 1000));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{number}")), [number as u8; 32]).unwrap();
    }
    patient.put(&[Put::path(many, at("/many"))], &Silent).unwrap();
    let mut crossed = Vec::new();
    for path in ["/ct", "/many"] {
        for reader in [&scene.lee, &kim] {
            share_with(&patient, path, reader);
        }
        let liar = Liar::between(&scene.ann);
        let revoking = liar.connect().unwrap();
        let bytes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&bytes);
        liar.lie(move |conversation, question, answer| {
            if conversation == Conversation::Chunk {
                counted.fetch_add(question.body.len() + answer.body.len(), Ordering::SeqCst);
            }
            Some(answer)
        });
        let before = height(&scene.ann);
        let revoked = revoking.revoke(&at(path), &scene.lee.handle()).unwrap();
        assert_eq!((revoked.remaining, revoked.reissued), (1, true));
        assert_eq!(height(&scene.ann), before + 1, "one transaction");
        crossed.push(bytes.load(Ordering::SeqCst));
    }
    println!("bytes of chunks that crossed: {crossed:?}");
    assert!(crossed.iter().all(|bytes| *bytes < 100_000), "roots and the address book alone: {crossed:?}");
}

/// The patient's client, to which every custodian says no.
fn without_custodians(scene: &Scene) -> (Liar, Client) {
    let liar = Liar::between(&scene.ann);
    let client = liar.connect().unwrap();
    liar.lie_about_keys(|_, answer| *answer = key::response::Response::Refusal(ledger::Refusal::default()));
    (liar, client)
}

#[test]
fn what_comes_under_grants_that_wait_to_be_issued_again_is_granted_with_them() {
    let scene = Scene::new();
    let [kim, max, sue] =
        ["dr.kim", "dr.max", "dr.sue"].map(|name| scene.solo.join(name, Role::Practitioner));
    let patient = scene.ann.connect();
    scene.put(&patient, "/ct/part/note", 2);
    scene.put(&patient, "/aside/note", 3);
    share_with(&patient, "/aside", &sue);
    for reader in [&scene.lee, &max, &kim] {
        share_with(&patient, "/ct", reader);
    }
    let (_liar, refused) = without_custodians(&scene);
    assert!(!refused.revoke(&at("/ct"), &scene.lee.handle()).unwrap().reissued);
    share_with(&patient, "/ct/part", &sue);
    assert_eq!(scene.read(&kim, &scene.shared("ct/part/note")), Some(bytes_of(2, 100_000)));
    assert!(!refused.revoke(&at("/ct"), &max.handle()).unwrap().reissued);
    patient.mv(&at("/aside"), &at("/ct"), Overwrite::Refuse).unwrap();
    assert_eq!(scene.read(&kim, &scene.shared("ct/aside/note")), Some(bytes_of(3, 100_000)));
    assert_eq!(scene.read(&sue, &scene.shared("aside/note")), Some(bytes_of(3, 100_000)));
    for reader in [&scene.lee, &max] {
        for path in ["ct/part/note", "ct/aside/note"] {
            assert_eq!(scene.read(reader, &scene.shared(path)), None);
        }
    }
}

#[test]
fn nothing_moves_when_the_new_readers_key_shares_find_no_custodian() {
    let scene = Scene::new();
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let patient = scene.ann.connect();
    scene.put(&patient, "/other/note", 2);
    share_with(&patient, "/ct", &scene.lee);
    share_with(&patient, "/other", &kim);
    let (before, grants) = (height(&scene.ann), live_grants(&patient));
    let (_liar, refused) = without_custodians(&scene);
    assert!(refused.mv(&at("/ct"), &at("/other"), Overwrite::Refuse).is_err());
    assert_eq!((height(&scene.ann), live_grants(&patient)), (before, grants));
    assert_eq!(read_as(&patient, "/ct/slice"), Some(bytes_of(1, 100_000)));
}

#[test]
fn a_shared_folder_that_is_brought_back_comes_to_the_readers_of_what_holds_it() {
    let scene = Scene::new();
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let patient = scene.ann.connect();
    scene.put(&patient, "/imaging/ct/x", 2);
    scene.put(&patient, "/imaging/ct/inner/y", 3);
    for path in ["/imaging/ct/inner", "/imaging/ct"] {
        share_with(&patient, path, &scene.lee);
    }
    share_with(&patient, "/imaging", &kim);
    let version = Version(patient.history(&at("/imaging")).unwrap().last().unwrap().version);
    patient.rm(&at("/imaging/ct"), true).unwrap();
    assert_eq!(live_grants(&patient), pairs(&[("/imaging", &kim)]));
    patient.restore(&at("/imaging/ct"), version).unwrap();
    assert_eq!(scene.read(&kim, &scene.shared("imaging/ct/x")), Some(bytes_of(2, 100_000)));
    assert_eq!(scene.read(&kim, &scene.shared("imaging/ct/inner/y")), Some(bytes_of(3, 100_000)));
    assert_eq!(scene.read(&scene.lee, &scene.shared("ct/x")), None);
    assert_eq!(
        live_grants(&patient),
        pairs(&[("/imaging", &kim), ("/imaging/ct", &kim), ("/imaging/ct/inner", &kim)])
    );
}
