//! Whole flows against a node with real consensus and a real store, over the twin of the network and over sockets.

mod member;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ihfs_core::codec;
use ihfs_core::crypto::sign::{self, Purpose, Signature};
use ihfs_core::ids::{BlockId, ChunkId, Epoch, Generation, Height, NodeId, RecordId, Time, Version};
use ihfs_core::invitation::Invitation;
use ihfs_core::ledger::block::{HEADER_BYTES_MAX, Header};
use ihfs_core::ledger::certificate::{CERTIFICATE_BYTES_MAX, Certificate};
use ihfs_core::ledger::identity::{Role, node_bytes};
use ihfs_core::ledger::lists::ListKey;
use ihfs_core::ledger::operation::{Drain, Operation, RegisterNode};
use ihfs_core::ledger::proof::StateProof;
use ihfs_core::ledger::rules::OPENING_PAUSE;
use ihfs_core::ledger::state::{ENTRY_BYTES_MAX, GrantEntry, RecordEntry, RecordLists, StateKey};
use ihfs_core::ledger::transaction::Transaction;
use ihfs_core::placement::{Placement, PlacementRule, Region};
use ihfs_core::receipt::{Receipt, ReceiptSubject};
use ihfs_net::{Conversation, Message, RequestError, Twin};
use ihfs_node::admin::init::{Founding, found};
use ihfs_node::admin::{self, invite};
use ihfs_node::config::StoreConfig;
use ihfs_node::consensus::driver::system_clock;
use ihfs_node::keys::{KeyBytes, NodeKey};
use ihfs_node::run::folder::hospital_key;
use ihfs_node::run::{self, FolderError, NodeError, NodeHandle, Options, Transport};
use ihfs_proto::ledger::Reason;
use ihfs_proto::{chunk, join, ledger};
use member::{DEADLINE, FUTURE, Member, anchor, combine, reason};
use tempfile::TempDir;
use tokio::task::JoinSet;

const PATIENT: u8 = 1;
const DOCTOR: u8 = 2;

fn founded(reserve_mib: u64) -> TempDir {
    let data = tempfile::tempdir().unwrap();
    let mut founding = Founding::solo(data.path(), "st-mary", system_clock());
    founding.store = StoreConfig { reserve_mib, segment_mib: 4, ..StoreConfig::default() };
    found(&founding).unwrap();
    data
}

/// A clock that goes 13 hours ahead: longer than an opening is served.
fn after_a_shift() -> Time {
    system_clock().plus_millis(13 * 60 * 60 * 1000)
}

/// The ledger takes another opening of a grant then.
fn after_a_pause() -> Time {
    system_clock().plus_millis(OPENING_PAUSE)
}

async fn start(data: &Path, twin: &Twin) -> NodeHandle {
    start_by(data, twin, system_clock).await
}

async fn start_by(data: &Path, twin: &Twin, clock: fn() -> Time) -> NodeHandle {
    let options = Options { transport: Transport::Twin(twin.clone()), clock, ..Options::new(data) };
    run::start(options).await.unwrap()
}

/// A node with a patient and a doctor.
async fn hospital(twin: &Twin) -> (TempDir, NodeHandle, Member, Member) {
    hospital_by(twin, system_clock).await
}

/// The same, by this clock.
async fn hospital_by(twin: &Twin, clock: fn() -> Time) -> (TempDir, NodeHandle, Member, Member) {
    let data = founded(16);
    let node = start_by(data.path(), twin, clock).await;
    // Invites name where the node listens, which the twin does not.
    std::fs::write(
        data.path().join("node.toml"),
        "hospital = \"st-mary\"\nlisten = []\nannounce = [\"127.0.0.1:1\"]\n[store]\nreserve_mib = 16\nsegment_mib = 4\n",
    )
    .unwrap();
    let mut patient = Member::over_twin(twin, &node, PATIENT);
    patient.join(data.path(), Role::Patient, "ann").await;
    let mut doctor = Member::over_twin(twin, &node, DOCTOR);
    doctor.join(data.path(), Role::Practitioner, "dr.lee").await;
    (data, node, patient, doctor)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_put_shared_opened_read_and_revoked() {
    let twin = Twin::new(1);
    let (_data, node, patient, doctor) = hospital(&twin).await;
    let record = patient.create([7; 32]).await;
    let chunk = patient.save(record, 0, b"sealed bytes").await.unwrap();
    assert_eq!(patient.get(record, chunk).await.unwrap(), "sealed bytes");
    assert_eq!(reason(doctor.get(record, chunk).await), Reason::NoGrant);

    let shared = patient.share(record, &doctor, 1).await.unwrap();
    let note = doctor.note(shared.grant).await.unwrap();
    let note = shared.subject.open_note(&doctor.sealing(), &shared.digests, &note).unwrap();
    assert_eq!(note.label, "ct");
    assert_eq!(reason(doctor.get(record, chunk).await), Reason::NotOpened);

    let opening = doctor.open(shared.grant).await.unwrap();
    let (share, envelope) = doctor.release(opening, shared.grant).await.unwrap();
    let release = combine(share, shared.digests.release);
    shared.subject.open_key(&doctor.sealing(), &release, &shared.digests, &envelope).unwrap();
    assert_eq!(doctor.get(record, chunk).await.unwrap(), "sealed bytes");
    assert_eq!(reason(doctor.put(record, b"a write").await), Reason::NoGrant);

    patient.revoke(record, doctor.id()).await;
    assert_eq!(reason(doctor.release(opening, shared.grant).await), Reason::NoGrant);
    assert_eq!(reason(doctor.get(record, chunk).await), Reason::NoGrant);
    assert_eq!(reason(doctor.open(shared.grant).await), Reason::Rules);
    assert_eq!(patient.get(record, chunk).await.unwrap(), "sealed bytes");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_anchored_is_pinned_and_a_writers_drops_are_refused() {
    let twin = Twin::new(1);
    let (_data, node, patient, doctor) = hospital(&twin).await;
    let record = patient.create([7; 32]).await;
    let chunk = patient.save(record, 0, b"sealed bytes").await.unwrap();
    // The chunk, the delta and the root.
    assert_eq!(node.pinning().wait_for(record, Version(1)).await.unwrap().chunks, 3);
    let grant = patient.share_as(record, &doctor, 1, true).await.unwrap().grant;
    assert_eq!(reason(doctor.put(record, b"too early").await), Reason::NotOpened);
    doctor.open(grant).await.unwrap();
    let drops = doctor.save_as_writer(record, 1, grant, b"a report", &[(chunk, 12)]).await;
    assert_eq!(reason(drops), Reason::Rules);
    let report = doctor.save_as_writer(record, 1, grant, b"a report", &[]).await.unwrap();
    assert_eq!(node.pinning().wait_for(record, Version(2)).await.unwrap().chunks, 6);
    assert_eq!(patient.get(record, report).await.unwrap(), "a report");
    patient.revoke(record, doctor.id()).await;
    assert_eq!(reason(doctor.put(record, b"too late").await), Reason::NoGrant);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_custodian_destroys_what_the_ledger_ended_before_it_serves() {
    let twin = Twin::new(1);
    let (data, node, patient, doctor) = hospital(&twin).await;
    let record = patient.create([7; 32]).await;
    patient.save(record, 0, b"sealed bytes").await.unwrap();
    let (kept, ended) = (patient.share(record, &doctor, 1).await.unwrap(), [9; 32]);
    let other = patient.create(ended).await;
    patient.save(other, 0, b"other bytes").await.unwrap();
    patient.share(other, &doctor, 2).await.unwrap();
    node.shutdown().await;

    let backup = data.path().join("backup");
    let passphrase = "correct horse battery";
    admin::backup_keys(data.path(), &backup, passphrase, system_clock()).unwrap();
    assert!(admin::restore_keys(data.path(), &backup, "another passphrase", system_clock()).is_err());
    let month = system_clock().plus_millis(31 * 24 * 60 * 60 * 1000);
    assert!(admin::restore_keys(data.path(), &backup, passphrase, month).is_err());

    let node = start(data.path(), &twin).await;
    patient.revoke(other, doctor.id()).await;
    node.shutdown().await;
    std::fs::remove_file(data.path().join("custody.redb")).unwrap();
    assert_eq!(admin::restore_keys(data.path(), &backup, passphrase, system_clock()).unwrap(), 2);

    let node = start(data.path(), &twin).await;
    assert_eq!(node.custody().count().unwrap(), 1);
    let opening = doctor.open(kept.grant).await.unwrap();
    assert!(doctor.release(opening, kept.grant).await.is_ok());
    node.shutdown().await;
}

/// A clock that goes four days ahead: longer than any share is kept without a grant.
fn after_four_days() -> Time {
    system_clock().plus_millis(4 * 24 * 60 * 60 * 1000)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custodian_with_an_old_ledger_destroys_no_share_that_a_newer_block_names() {
    let twin = Twin::new(1);
    let (data, node, patient, doctor) = hospital(&twin).await;
    let record = patient.create([7; 32]).await;
    patient.save(record, 0, b"sealed bytes").await.unwrap();
    node.shutdown().await;
    let (ledger, old) = (data.path().join("ledger.redb"), data.path().join("old"));
    std::fs::copy(&ledger, &old).unwrap();

    let node = start(data.path(), &twin).await;
    let shared = patient.share(record, &doctor, 1).await.unwrap();
    node.shutdown().await;
    let newer = data.path().join("newer");
    std::fs::rename(&ledger, &newer).unwrap();
    std::fs::copy(&old, &ledger).unwrap();

    let node = start_by(data.path(), &twin, after_four_days).await;
    assert_eq!(node.custody().count().unwrap(), 1);
    node.shutdown().await;
    std::fs::rename(&newer, &ledger).unwrap();
    let node = start(data.path(), &twin).await;
    let opening = doctor.open(shared.grant).await.unwrap();
    assert!(doctor.release(opening, shared.grant).await.is_ok());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_device_is_served_and_a_removed_one_is_a_guest_from_the_next_block() {
    let twin = Twin::new(1);
    let (_data, node, patient, _) = hospital(&twin).await;
    let record = patient.create([7; 32]).await;
    let chunk = patient.save(record, 0, b"sealed bytes").await.unwrap();
    let mut laptop = Member::over_twin(&twin, &node, 8);
    laptop.recover(&patient).await;
    assert_eq!(laptop.get(record, chunk).await.unwrap(), "sealed bytes");
    laptop.submit_signed(&laptop.removal_of(&patient)).await.unwrap();
    let head = ledger::request::Request::Head(ledger::Head { nonce: Bytes::new() });
    let (header, body) = ihfs_proto::to_parts(&ledger::Request { request: Some(head) });
    let message = Message { header, body };
    let answer = patient.network.request(patient.node, Conversation::Ledger, message, DEADLINE).await;
    assert_eq!(answer, Err(RequestError::NotAdmitted { peer: patient.node }));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_share_is_released_to_its_reader_alone_and_only_for_his_opening() {
    let twin = Twin::new(1);
    let (data, node, patient, doctor) = hospital(&twin).await;
    let mut other = Member::over_twin(&twin, &node, 3);
    other.join(data.path(), Role::Practitioner, "dr.kim").await;
    let record = patient.create([7; 32]).await;
    patient.save(record, 0, b"sealed bytes").await.unwrap();
    let shared = patient.share(record, &doctor, 1).await.unwrap();
    let unknown = ihfs_core::ids::OpeningId::from_bytes([5; 32]);
    assert_eq!(reason(doctor.release(unknown, shared.grant).await), Reason::NotOpened);
    let opening = doctor.open(shared.grant).await.unwrap();
    assert_eq!(reason(other.release(opening, shared.grant).await), Reason::NotOpened);
    assert_eq!(reason(other.note(shared.grant).await), Reason::NoGrant);
    assert!(doctor.release(opening, shared.grant).await.is_ok());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything_but_the_openings_that_release() {
    let twin = Twin::new(1);
    let (data, node, patient, doctor) = hospital(&twin).await;
    let record = patient.create([7; 32]).await;
    let chunk = patient.save(record, 0, b"sealed bytes").await.unwrap();
    let shared = patient.share(record, &doctor, 1).await.unwrap();
    let opening = doctor.open(shared.grant).await.unwrap();
    doctor.release(opening, shared.grant).await.unwrap();
    let height = node.ledger().snapshot().newest().height;
    node.shutdown().await;

    let options = Options { transport: Transport::Twin(twin.clone()), ..Options::new(data.path()) };
    let node = run::start(Options { clock: after_a_pause, ..options }).await.unwrap();
    assert_eq!(node.ledger().snapshot().newest().height, height);
    assert_eq!(patient.get(record, chunk).await.unwrap(), "sealed bytes");
    assert_eq!(doctor.get(record, chunk).await.unwrap(), "sealed bytes");
    assert_eq!(reason(doctor.release(opening, shared.grant).await), Reason::OpenAgain);
    let opening = doctor.open(shared.grant).await.unwrap();
    assert!(doctor.release(opening, shared.grant).await.is_ok());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_ends_by_the_nodes_own_clock_when_no_block_comes() {
    let twin = Twin::new(1);
    let (data, node, patient, doctor) = hospital(&twin).await;
    let record = patient.create([7; 32]).await;
    let chunk = patient.save(record, 0, b"sealed bytes").await.unwrap();
    let shared = patient.share(record, &doctor, 1).await.unwrap();
    doctor.open(shared.grant).await.unwrap();
    assert_eq!(doctor.get(record, chunk).await.unwrap(), "sealed bytes");
    node.shutdown().await;
    let node = start_by(data.path(), &twin, after_a_shift).await;
    assert_eq!(reason(doctor.get(record, chunk).await), Reason::NotOpened);
    assert_eq!(patient.get(record, chunk).await.unwrap(), "sealed bytes");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_ahead_at_the_start_and_is_mended_denies_no_reader() {
    static AHEAD: AtomicU64 = AtomicU64::new(0);
    let clock = || system_clock().plus_millis(AHEAD.load(Ordering::Relaxed));
    let twin = Twin::new(1);
    let (data, node, patient, doctor) = hospital_by(&twin, clock).await;
    let record = patient.create([7; 32]).await;
    let chunk = patient.save(record, 0, b"sealed bytes").await.unwrap();
    let shared = patient.share(record, &doctor, 1).await.unwrap();
    doctor.open(shared.grant).await.unwrap();
    node.shutdown().await;
    AHEAD.store(24 * 60 * 60 * 1000, Ordering::Relaxed);
    let node = start_by(data.path(), &twin, clock).await;
    assert_eq!(reason(doctor.get(record, chunk).await), Reason::NotOpened);
    AHEAD.store(0, Ordering::Relaxed);
    assert_eq!(doctor.get(record, chunk).await.unwrap(), "sealed bytes");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custodian_goes_by_its_own_clock_when_no_block_comes() {
    static LATER: AtomicU64 = AtomicU64::new(0);
    const MINUTE: u64 = 60_000;
    let clock = || system_clock().plus_millis(LATER.load(Ordering::Relaxed));
    let twin = Twin::new(1);
    let (_data, node, patient, doctor) = hospital_by(&twin, clock).await;
    let record = patient.create([7; 32]).await;
    patient.save(record, 0, b"sealed bytes").await.unwrap();
    let expires = system_clock().plus_millis(10 * MINUTE);
    let short = patient.share_until(record, &doctor, 1, false, Some(expires)).await.unwrap().grant;
    let other = patient.create([8; 32]).await;
    patient.save(other, 0, b"other bytes").await.unwrap();
    let long = patient.share(other, &doctor, 2).await.unwrap().grant;
    let (first, second) = (doctor.open(short).await.unwrap(), doctor.open(long).await.unwrap());
    assert!(doctor.release(first, short).await.is_ok());

    LATER.store(11 * MINUTE, Ordering::Relaxed);
    assert_eq!(reason(doctor.release(first, short).await), Reason::NoGrant);
    assert!(doctor.release(second, long).await.is_ok());
    // A quarter of an hour after its block, however lately it was seen.
    LATER.store(17 * MINUTE, Ordering::Relaxed);
    assert_eq!(reason(doctor.release(second, long).await), Reason::OpenAgain);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receipt_names_outlives_a_kill_and_can_be_anchored_then() {
    let twin = Twin::new(1);
    let (data, node, patient, _) = hospital(&twin).await;
    let record = patient.create([7; 32]).await;
    let chunk = patient.put(record, b"sealed bytes").await.unwrap();
    let (delta, root) = patient.put_delta(record, &[(chunk, 12)]).await;
    let receipt = patient.vouch(record, delta, root, &[]).await.unwrap();
    node.kill().await;

    let node = start(data.path(), &twin).await;
    patient.submit(vec![anchor(record, 0, (delta, root), 12, receipt)]).await.unwrap();
    node.kill().await;
    let node = start(data.path(), &twin).await;
    assert_eq!(node.pinning().wait_for(record, Version(1)).await.unwrap().chunks, 3);
    assert_eq!(patient.get(record, chunk).await.unwrap(), "sealed bytes");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_needs_every_chunk_that_the_delta_names() {
    let twin = Twin::new(1);
    let (_data, node, patient, _) = hospital(&twin).await;
    let record = patient.create([7; 32]).await;
    let missing = ChunkId::of(b"never uploaded");
    let (delta, root) = patient.put_delta(record, &[(missing, 14)]).await;
    assert_eq!(reason(patient.vouch(record, delta, root, &[]).await), Reason::NotFound);
    let not_a_delta = patient.put(record, b"not a delta").await.unwrap();
    assert_eq!(reason(patient.vouch(record, not_a_delta, root, &[]).await), Reason::Malformed);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_the_node_has_not_seen_get_no_receipt_and_no_version() {
    let twin = Twin::new(1);
    let (_data, node, patient, _) = hospital(&twin).await;
    let record = patient.create([7; 32]).await;
    let chunk = patient.put(record, b"sealed bytes").await.unwrap();
    let (delta, root) = patient.put_delta(record, &[(chunk, 13)]).await;
    assert_eq!(reason(patient.vouch(record, delta, root, &[]).await), Reason::Malformed);
    let (delta, root) = patient.put_delta(record, &[(chunk, 12)]).await;
    let receipt = patient.vouch(record, delta, root, &[]).await.unwrap();
    let huge = anchor(record, 0, (delta, root), u64::MAX, receipt.clone());
    assert_eq!(reason(patient.submit(vec![huge]).await), Reason::Rules);
    patient.submit(vec![anchor(record, 0, (delta, root), 12, receipt)]).await.unwrap();
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn naming_a_chunk_in_ones_own_record_gives_nobody_its_bytes() {
    let twin = Twin::new(1);
    let (_data, node, patient, doctor) = hospital(&twin).await;
    let record = patient.create([7; 32]).await;
    let chunk = patient.save(record, 0, b"sealed bytes").await.unwrap();
    let own = doctor.create([8; 32]).await;
    let (delta, root) = doctor.put_delta(own, &[(chunk, 12)]).await;
    assert_eq!(reason(doctor.vouch(own, delta, root, &[]).await), Reason::NotFound);
    assert_eq!(reason(doctor.vouch(own, delta, root, &[record]).await), Reason::NotAllowed);
    assert_eq!(reason(doctor.get(own, chunk).await), Reason::NotFound);
    // The owner reuses it in another record of hers.
    let other = patient.create([9; 32]).await;
    let (delta, root) = patient.put_delta(other, &[(chunk, 12)]).await;
    let receipt = patient.vouch(other, delta, root, &[record]).await.unwrap();
    patient.submit(vec![anchor(other, 0, (delta, root), 12, receipt)]).await.unwrap();
    assert_eq!(patient.get(other, chunk).await.unwrap(), "sealed bytes");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_may_come_before_their_record() {
    let twin = Twin::new(1);
    let (_data, node, patient, _) = hospital(&twin).await;
    let record = RecordId::of(patient.id(), &FUTURE);
    let chunk = patient.put(record, b"sealed bytes").await.unwrap();
    let (delta, root) = patient.put_delta(record, &[(chunk, 12)]).await;
    let receipt = patient.vouch(record, delta, root, &[]).await.unwrap();
    assert_eq!(patient.create(FUTURE).await, record);
    patient.submit(vec![anchor(record, 0, (delta, root), 12, receipt)]).await.unwrap();
    assert_eq!(patient.get(record, chunk).await.unwrap(), "sealed bytes");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_fills_or_asks_about_a_record_that_another_will_create() {
    let twin = Twin::new(1);
    let (_data, node, patient, doctor) = hospital(&twin).await;
    let record = RecordId::of(patient.id(), &FUTURE);
    let chunk = patient.put(record, b"sealed bytes").await.unwrap();
    assert_eq!(reason(doctor.put(record, b"another's bytes").await), Reason::NotAllowed);
    let has = chunk::request::Request::Has(chunk::Has { chunks: chunk.as_bytes().to_vec().into() });
    let (answer, _) = doctor.ask_chunk(record, has, Bytes::new()).await;
    let chunk::response::Response::Refusal(refusal) = answer else { panic!("refused") };
    assert_eq!(refusal.reason(), Reason::NotAllowed);
    // Of a record that is not to be made of the nonce nothing is known.
    let other = RecordId::of(patient.id(), &[8; 32]);
    assert_eq!(reason(patient.put(other, b"sealed bytes").await), Reason::NotAllowed);
    let shared = patient.share(other, &doctor, 1).await.map(|shared| shared.grant);
    assert_eq!(reason(shared), Reason::NoLedger);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_gets_a_members_keys_and_nobody_but_the_member_gets_his_lists() {
    let twin = Twin::new(1);
    let (_data, node, patient, doctor) = hospital(&twin).await;
    let guest = Member::over_twin(&twin, &node, 9);
    let (keys, lists) = (StateKey::Member(patient.id()), StateKey::MemberLists(patient.id()));
    assert!(guest.prove_as_guest(keys).await.unwrap().is_some());
    assert!(guest.prove_as_guest(StateKey::MemberKey(patient.id(), Generation(0))).await.unwrap().is_some());
    assert_eq!(reason(guest.prove_as_guest(lists).await), Reason::NotAllowed);
    // The conversation of guests tells a member no more.
    assert_eq!(reason(patient.prove_as_guest(lists).await), Reason::NotAllowed);

    assert!(doctor.prove(keys).await.unwrap().is_some());
    assert_eq!(reason(doctor.prove(lists).await), Reason::NotAllowed);
    assert!(patient.prove(lists).await.unwrap().is_some());
    for list in [ListKey::Records, ListKey::Received, ListKey::Opened].map(|list| list(patient.id())) {
        assert_eq!(reason(doctor.items(list).await), Reason::NotAllowed);
        assert!(patient.items(list).await.is_ok());
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_reader_gets_neither_head_nor_lists_and_the_owner_gets_all() {
    let twin = Twin::new(1);
    let (_data, node, patient, doctor) = hospital(&twin).await;
    let record = patient.create([7; 32]).await;
    patient.save(record, 0, b"sealed bytes").await.unwrap();
    let of_readers = [
        StateKey::Record(record),
        StateKey::Epoch(record, Epoch(0)),
        StateKey::Attestation(record, node.node),
    ];
    let of_owner = [ListKey::Grants(record), ListKey::Openings(record)];
    let versions = ListKey::Versions(record);
    let grant = patient.share(record, &doctor, 1).await.unwrap().grant;
    doctor.open(grant).await.unwrap();

    for key in of_readers {
        assert!(doctor.prove(key).await.is_ok(), "{key:?}");
    }
    assert_eq!(doctor.items(versions).await.unwrap().len(), 1);
    assert_eq!(reason(doctor.prove(StateKey::RecordLists(record)).await), Reason::NotAllowed);
    for list in of_owner {
        assert_eq!(reason(doctor.items(list).await), Reason::NotAllowed);
    }

    patient.revoke(record, doctor.id()).await;
    for key in of_readers {
        assert_eq!(reason(doctor.prove(key).await), Reason::NoGrant, "{key:?}");
    }
    assert_eq!(doctor.items(versions).await.unwrap_err().subject, record.as_bytes().as_slice());
    assert_eq!(reason(doctor.items(versions).await), Reason::NoGrant);
    assert_eq!(reason(doctor.prove(StateKey::RecordLists(record)).await), Reason::NotAllowed);
    // That it ended he may prove.
    let ended: GrantEntry = doctor.proved(StateKey::Grant(grant)).await;
    assert!(ended.ended.is_some());

    let entry: RecordEntry = patient.proved(StateKey::Record(record)).await;
    let lists: RecordLists = patient.proved(StateKey::RecordLists(record)).await;
    let all = [(versions, entry.versions), (of_owner[0], lists.grants), (of_owner[1], lists.openings)];
    for (list, expected) in all {
        let items = patient.items(list).await.unwrap();
        expected.verify(items.iter().map(Bytes::as_ref)).unwrap();
        assert!(expected.count > 0);
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_whose_grant_expired_gets_no_head_when_no_block_comes() {
    const HOUR: u64 = 60 * 60_000;
    let twin = Twin::new(1);
    let (data, node, patient, doctor) = hospital(&twin).await;
    let record = patient.create([7; 32]).await;
    patient.save(record, 0, b"sealed bytes").await.unwrap();
    let expires = system_clock().plus_millis(HOUR);
    patient.share_until(record, &doctor, 1, false, Some(expires)).await.unwrap();
    assert!(doctor.prove(StateKey::Record(record)).await.is_ok());
    node.shutdown().await;
    let node = start_by(data.path(), &twin, after_a_shift).await;
    assert_eq!(reason(doctor.prove(StateKey::Record(record)).await), Reason::NoGrant);
    assert_eq!(reason(doctor.items(ListKey::Versions(record)).await), Reason::NoGrant);
    assert!(patient.prove(StateKey::Record(record)).await.is_ok());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_and_freshness_verify_and_are_shown_to_those_they_are_about() {
    let twin = Twin::new(1);
    let (_data, node, patient, doctor) = hospital(&twin).await;
    let record = patient.create([7; 32]).await;
    patient.save(record, 0, b"sealed bytes").await.unwrap();
    let key = StateKey::Record(record).to_bytes();
    let prove = |key: &[u8]| {
        ledger::request::Request::Prove(ledger::Prove { keys: vec![Bytes::copy_from_slice(key)] })
    };
    let ledger::response::Response::Proved(proved) = patient.ask_ledger(prove(&key)).await else {
        panic!("proved")
    };
    let block = proved.block.unwrap();
    let header: Header = codec::decode(&block.header, HEADER_BYTES_MAX).unwrap();
    let certificate: Certificate = codec::decode(&block.certificate, CERTIFICATE_BYTES_MAX).unwrap();
    let validators = node.ledger().genesis().validators.clone();
    certificate.verify(node.chain, &validators).unwrap();
    assert_eq!(certificate.block, header.id());
    let value = proved.entries[0].value.clone().unwrap();
    let proof = StateProof::from_bytes(&proved.entries[0].proof).unwrap();
    proof.verify(header.state, &key, Some(&value)).unwrap();
    let entry: RecordEntry = codec::decode(&value, ENTRY_BYTES_MAX).unwrap();

    let list = codec::encode(&ListKey::Versions(record));
    let ask = ledger::Items { list: list.into(), from: 0, end: 0 };
    let items = ledger::request::Request::Items(ask);
    let ledger::response::Response::Items(found) = patient.ask_ledger(items.clone()).await else {
        panic!("items")
    };
    entry.versions.verify(found.items.iter().map(Bytes::as_ref)).unwrap();

    for request in [prove(&key), items] {
        let ledger::response::Response::Refusal(refusal) = doctor.ask_ledger(request).await else {
            panic!("refused")
        };
        assert_eq!(refusal.reason(), Reason::NoGrant);
    }

    let nonce = Bytes::from_static(&[5; 32]);
    let head = ledger::request::Request::Head(ledger::Head { nonce: nonce.clone() });
    let ledger::response::Response::Head(head) = doctor.ask_ledger(head).await else { panic!("head") };
    let header: Header = codec::decode(&head.header, HEADER_BYTES_MAX).unwrap();
    let (height, id): (Height, BlockId) = (header.height, header.id());
    let signed = codec::encode(&(node.chain, height, id, serde_bytes::Bytes::new(&nonce)));
    let signature = Signature::from_bytes(head.freshness[0].signature.as_ref().try_into().unwrap());
    sign::verify(node.node.as_bytes(), Purpose::Freshness, &signed, &signature).unwrap();
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_is_answered_by_the_next_block_or_when_the_time_is_over() {
    let twin = Twin::new(1);
    let (_data, node, patient, doctor) = hospital(&twin).await;
    let height = node.ledger().snapshot().newest().height.0;
    let wait = |milliseconds| {
        ledger::request::Request::Wait(ledger::Wait { height, milliseconds, nonce: Bytes::new() })
    };
    let ledger::response::Response::Head(head) = doctor.ask_ledger(wait(1)).await else { panic!("head") };
    let header: Header = codec::decode(&head.header, HEADER_BYTES_MAX).unwrap();
    assert_eq!(header.height.0, height);
    let (news, _) = tokio::join!(doctor.ask_ledger(wait(50_000)), patient.create([7; 32]));
    let ledger::response::Response::Head(head) = news else { panic!("head") };
    let header: Header = codec::decode(&head.header, HEADER_BYTES_MAX).unwrap();
    assert_eq!(header.height.0, height + 1);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_waits_many_times_takes_nobodys_place() {
    let twin = Twin::new(1);
    let (_data, node, patient, doctor) = hospital(&twin).await;
    let height = node.ledger().snapshot().newest().height.0 + 10;
    let wait = ledger::Wait { height, milliseconds: 50_000, nonce: Bytes::new() };
    let request = ledger::Request { request: Some(ledger::request::Request::Wait(wait)) };
    let mut waits = JoinSet::new();
    for _ in 0..17 {
        let (network, to) = (doctor.network.clone(), doctor.node);
        let (header, body) = ihfs_proto::to_parts(&request);
        let message = Message { header, body };
        waits.spawn(async move { network.request(to, Conversation::Ledger, message, DEADLINE).await });
    }
    // One is too many; the others go on waiting.
    let answer = waits.join_next().await.unwrap().unwrap().unwrap();
    let answer = ihfs_proto::from_parts::<ledger::Response>(answer.header, answer.body).unwrap();
    let Some(ledger::response::Response::Refusal(refusal)) = answer.response else { panic!("refused") };
    assert_eq!(refusal.reason(), Reason::Busy);
    assert_eq!(waits.len(), 16);
    doctor.create([8; 32]).await;
    patient.create([7; 32]).await;
    waits.shutdown().await;
    node.shutdown().await;
}

/// Registers a node of the hospital's, whose key is the device key of `other`.
async fn register(node: &NodeHandle, hospital: &NodeKey, other: &Member) -> NodeId {
    let id = NodeId::from_bytes(other.device.public());
    let consent = node_bytes(node.chain, hospital.member(), id);
    let register = Operation::RegisterNode(RegisterNode {
        node: id,
        region: Region(0),
        weight: 1,
        addresses: vec![],
        consent: other.device.sign(Purpose::Node, &consent),
    });
    decide(node, hospital, other, register).await;
    id
}

/// Has the hospital write an operation.
async fn decide(node: &NodeHandle, hospital: &NodeKey, other: &Member, operation: Operation) {
    let transaction = Transaction { member: hospital.member(), ..other.transaction(vec![operation]) };
    node.ledger().submit(transaction.sign(hospital.get()), DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_another_node_troubles_no_node_that_does_not_keep_it() {
    let twin = Twin::new(1);
    let (data, node, patient, _) = hospital(&twin).await;
    let other = Member::over_twin(&twin, &node, 20);
    let hospital = KeyBytes::read(&hospital_key(data.path())).unwrap().key();
    register(&node, &hospital, &other).await;
    let placement: Placement = node.ledger().snapshot().must(&StateKey::Placement).unwrap();
    let places = |nonce: u8| {
        let record = RecordId::of(patient.id(), &[nonce; 32]);
        placement.replicas(record, 1, &PlacementRule { home: None, regions: &[] })
    };
    let nonce_at = |id: NodeId| (1..=u8::MAX).find(|nonce| places(*nonce).contains(&id)).unwrap();
    let elsewhere = patient.create([nonce_at(NodeId::from_bytes(other.device.public())); 32]).await;
    let (delta, root) = (ChunkId::of(b"a delta elsewhere"), ChunkId::of(b"a root elsewhere"));
    let (chain, record, bytes_added, bytes_dropped) = (node.chain, elsewhere, 0, 0);
    let subject = ReceiptSubject { chain, record, delta, root, bytes_added, bytes_dropped };
    let expires = system_clock().plus_millis(9 * 24 * 60 * 60 * 1000);
    let receipt = Receipt::sign(&other.device, &subject, placement.version, expires);
    patient.submit(vec![anchor(elsewhere, 0, (delta, root), 0, receipt)]).await.unwrap();
    // Records are brought in step in their order: this one comes later.
    let here = patient.create([nonce_at(node.node); 32]).await;
    patient.save(here, 0, b"sealed bytes").await.unwrap();
    node.pinning().wait_for(here, Version(1)).await.unwrap();
    assert_eq!(node.pinning().last_error(), None);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_that_decides_nothing_sees_nothing_more() {
    let twin = Twin::new(1);
    let (data, node, patient, _) = hospital(&twin).await;
    let other = Member::over_twin(&twin, &node, 20);
    let hospital = KeyBytes::read(&hospital_key(data.path())).unwrap().key();
    let list = codec::encode(&ListKey::Records(patient.id())).into();
    let items = ledger::Request {
        request: Some(ledger::request::Request::Items(ledger::Items { list, from: 0, end: 0 })),
    };
    let ask = || {
        let (header, body) = ihfs_proto::to_parts(&items);
        other.network.request(other.node, Conversation::Ledger, Message { header, body }, DEADLINE)
    };
    let id = register(&node, &hospital, &other).await;
    let answer = ask().await.unwrap();
    let answer = ihfs_proto::from_parts::<ledger::Response>(answer.header, answer.body).unwrap();
    assert!(matches!(answer.response, Some(ledger::response::Response::Items(_))));
    decide(&node, &hospital, &other, Operation::Drain(Drain { node: id })).await;
    assert_eq!(ask().await, Err(RequestError::NotAdmitted { peer: other.node }));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_is_found_exactly_or_not() {
    let twin = Twin::new(1);
    let (_data, node, patient, doctor) = hospital(&twin).await;
    let resolve =
        |handle: &str| ledger::request::Request::Resolve(ledger::Resolve { handle: handle.to_owned() });
    let found = patient.ask_ledger(resolve("dr.lee@st-mary")).await;
    let ledger::response::Response::Resolved(found) = found else { panic!("resolved") };
    assert_eq!(found.member.as_ref(), doctor.id().as_bytes());
    for (handle, why) in [("dr.le@st-mary", Reason::NotFound), ("Dr. Lee", Reason::Malformed)] {
        let answer = patient.ask_ledger(resolve(handle)).await;
        let ledger::response::Response::Refusal(refusal) = answer else { panic!("refused") };
        assert_eq!(refusal.reason(), why);
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_is_good_once_and_a_handle_is_one_members() {
    let twin = Twin::new(1);
    let (data, node, ..) = hospital(&twin).await;
    let expires = system_clock().plus_millis(60_000_000);
    let invitation = invite::invite(data.path(), Role::Patient, "bob", expires).unwrap();
    let mut first = Member::over_twin(&twin, &node, 4);
    first.redeem(&invitation).await.unwrap();
    let again = invite::invite(data.path(), Role::Patient, "bob", expires).unwrap();
    let mut second = Member::over_twin(&twin, &node, 5);
    assert_eq!(reason(second.redeem(&again).await), Reason::NotAllowed);
    // Without naming the handle the ledger itself tells that the invite is spent.
    let mut spent = Member::over_twin(&twin, &node, 6);
    let other = Invitation { handle: first.handle.clone().unwrap(), ..invitation };
    assert_ne!(reason(spent.redeem(&other).await), Reason::Unknown);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_only_join_and_garbage_is_refused() {
    let twin = Twin::new(1);
    let (_data, node, patient, _) = hospital(&twin).await;
    let guest = Member::over_twin(&twin, &node, 9);
    let garbage = Message { header: Bytes::from_static(&[0xff; 40]), body: Bytes::new() };
    for conversation in [Conversation::Chunk, Conversation::Key, Conversation::Ledger, Conversation::Status] {
        let refused = guest.network.request(guest.node, conversation, garbage.clone(), DEADLINE).await;
        assert_eq!(refused, Err(RequestError::NotAdmitted { peer: guest.node }));
        patient.request(conversation, garbage.clone()).await;
    }
    let answer = patient.request(Conversation::Chunk, garbage.clone()).await;
    let answer: ihfs_proto::chunk::Response = ihfs_proto::decode(answer.header, 1 << 16).unwrap();
    let Some(ihfs_proto::chunk::response::Response::Refusal(refusal)) = answer.response else {
        panic!("refused")
    };
    assert_eq!(refusal.reason(), Reason::Malformed);
    let genesis = guest.ask_join(join::request::Request::Genesis(join::Genesis {})).await;
    let join::response::Response::Genesis(genesis) = genesis else { panic!("genesis") };
    assert_eq!(genesis, node.ledger().genesis().to_bytes());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_chunks_and_the_ledger_goes_on() {
    let data = founded(1 << 30);
    let twin = Twin::new(1);
    let toml = std::fs::read_to_string(data.path().join("node.toml")).unwrap();
    std::fs::write(
        data.path().join("node.toml"),
        toml.replace("announce = []", "announce = [\"127.0.0.1:1\"]"),
    )
    .unwrap();
    let node = start(data.path(), &twin).await;
    let mut patient = Member::over_twin(&twin, &node, PATIENT);
    patient.join(data.path(), Role::Patient, "ann").await;
    let record = patient.create([7; 32]).await;
    assert_eq!(reason(patient.put(record, b"sealed bytes").await), Reason::Full);
    patient.create([8; 32]).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_and_an_unknown_format_are_refused_by_name() {
    let data = founded(16);
    let twin = Twin::new(1);
    let node = start(data.path(), &twin).await;
    let options = Options { transport: Transport::Twin(twin.clone()), ..Options::new(data.path()) };
    let second = run::start(options.clone()).await.err();
    assert!(matches!(second, Some(NodeError::Folder(FolderError::InUse { .. }))));
    assert!(found(&Founding::solo(data.path(), "st-mary", system_clock())).is_err());
    node.shutdown().await;
    std::fs::write(data.path().join("VERSION"), "ihfs-node data 9\n").unwrap();
    let refused = run::start(options).await.err().unwrap().to_string();
    assert!(refused.contains("ihfs-node data 9"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_sockets_members_join_and_the_hospital_looks_on_and_the_port_stays() {
    let data = founded(16);
    let node = run::start(Options::new(data.path())).await.unwrap();
    let mut patient = Member::over_sockets(&node, PATIENT).await;
    patient.join(data.path(), Role::Patient, "ann").await;
    let record = patient.create([7; 32]).await;
    let chunk = patient.save(record, 0, b"sealed bytes").await.unwrap();
    assert_eq!(patient.get(record, chunk).await.unwrap(), "sealed bytes");
    let measured = admin::status(data.path()).await.unwrap();
    assert_eq!(measured.status.height, node.ledger().snapshot().newest().height.0);
    let members = admin::members(data.path()).await.unwrap();
    let handles: Vec<&str> = members.iter().map(|member| member.handle.as_str()).collect();
    assert_eq!(handles, ["ann@st-mary", "st-mary"]);
    let addresses = node.addresses.clone();
    patient.network.shutdown().await;
    node.shutdown().await;
    let node = run::start(Options::new(data.path())).await.unwrap();
    assert_eq!(node.addresses, addresses);
    node.shutdown().await;
}
