//! A client believes no node: whatever one makes up, leaves out or holds back is told apart from the truth.

use std::fs;

use ihfs_client::audit::AuditError;
use ihfs_client::client::{Client, ConnectError};
use ihfs_client::link::AskError;
use ihfs_client::progress::Silent;
use ihfs_client::put::{Put, PutError};
use ihfs_client::received::OpeningError;
use ihfs_client::resolve::ResolveError;
use ihfs_client::share::ShareError;
use ihfs_client::submit::SubmitError;
use ihfs_client::upload::UploadError;
use ihfs_client::view::ViewError;
use ihfs_client::writing::CommitError;
use ihfs_core::codec;
use ihfs_core::ids::{Height, RecordId, Time};
use ihfs_core::ledger::block::Header;
use ihfs_core::ledger::certificate::{Certificate, CertificateError, VoteKind, vote_bytes};
use ihfs_core::ledger::identity::{Role, VAULT_NONCE};
use ihfs_core::ledger::lists::{List, ListError};
use ihfs_core::ledger::proof::ProofError;
use ihfs_core::ledger::state::{
    ConsortiumEntry, GrantEntry, MemberEntry, MemberLists, RecordEntry, RecordLists, StateKey,
};
use ihfs_core::members::HandleProof;
use ihfs_core::receipt::Receipt;
use ihfs_core::tree::entry::Content;
use ihfs_core::tree::{ChunkSource, Found};
use ihfs_net::{Conversation, Message};
use ihfs_proto::ledger::request::Request as Ask;
use ihfs_proto::ledger::response::Response as Answer;
use ihfs_proto::ledger::{Freshness, NewestBlock};
use ihfs_tests::liar::Liar;
use ihfs_tests::{Person, Solo, at, bytes_of, for_treatment};

/// A patient with one file in a folder that a doctor may read.
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
        let patient = scene.ann.connect();
        scene.put(&patient, 1).unwrap();
        let person = patient.look_up(&scene.lee.handle()).unwrap();
        patient.share(&at("/ct"), &person, &for_treatment()).unwrap();
        scene
    }

    fn put(&self, client: &Client, seed: u8) -> Result<(), ihfs_client::put::PutError> {
        let file = self.solo.path().join("local");
        fs::write(&file, bytes_of(seed, 100_000)).unwrap();
        client.put(&[Put::path(file, at("/ct/slice"))], &Silent).map(|_| ())
    }

    fn shared(&self) -> ihfs_client::location::Location {
        at(&format!("//{}/ct/slice", self.ann.handle()))
    }

    /// A doctor opens and reads it, which makes an opening.
    fn open_by(&self, doctor: &Person) {
        doctor.connect().cat(&self.shared(), 0, u64::MAX, &mut Vec::new()).unwrap();
    }
}

/// Alone on the network: enough for lies about blocks and entries.
fn alone() -> (Solo, Person) {
    let solo = Solo::new();
    let ann = solo.join("ann", Role::Patient);
    (solo, ann)
}

fn newest(answer: &mut Answer) -> Option<&mut NewestBlock> {
    match answer {
        Answer::Head(newest) => Some(newest),
        Answer::Proved(proved) => proved.block.as_mut(),
        _ => None,
    }
}

fn header_of(newest: &NewestBlock) -> Header {
    codec::decode(&newest.header, 1024).unwrap()
}

fn certificate_of(newest: &NewestBlock) -> Certificate {
    codec::decode(&newest.certificate, 32 << 10).unwrap()
}

/// Why a client that begins with the genesis document refuses.
fn refusal(liar: &Liar) -> ViewError {
    match liar.connect() {
        Err(ConnectError::View(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was believed"),
    }
}

#[test]
fn an_honest_node_is_believed() {
    let (_solo, ann) = alone();
    let liar = Liar::between(&ann);
    let client = liar.connect().unwrap();
    assert!(client.freshness().current);
}

#[test]
fn an_older_ledger_than_was_seen_is_refused() {
    let scene = Scene::new();
    let liar = Liar::between(&scene.ann);
    let client = liar.connect().unwrap();
    let old = head_of(&liar, &client);
    scene.put(&scene.ann.connect(), 2).unwrap();
    client.view().refresh().unwrap();
    withhold(&liar, old.clone());
    let seen = client.view().trust();
    let WentBack { shown, .. } = went_back(client.view().refresh().unwrap_err());
    assert!(shown < seen.height);
    // Also by a client that begins anew with what was saved.
    let Err(ConnectError::View(error)) = liar.connect_with(seen.clone()) else { panic!("it was believed") };
    assert_eq!(went_back(error).seen, seen.height);
    // Also when nothing at all is shown.
    withhold(&liar, NewestBlock::default());
    let error = client.view().refresh().unwrap_err();
    assert_eq!(went_back(error).shown, Height(0));
}

#[test]
fn withheld_blocks_are_never_called_current() {
    let scene = Scene::new();
    let liar = Liar::between(&scene.ann);
    let old = head_of(&liar, &liar.connect().unwrap());
    scene.put(&scene.ann.connect(), 2).unwrap();
    withhold(&liar, old.clone());
    // A proved block of the past, with the signature over the nonce of another question.
    let view = ihfs_client::view::View::new(liar.link(), liar.trust().clone(), false);
    let freshness = view.refresh().unwrap();
    assert_eq!((freshness.height, freshness.current), (header_of(&old).height.0, false));
}

#[test]
fn a_missing_or_foreign_signature_over_the_nonce_is_as_of() {
    let (_solo, ann) = alone();
    let liar = Liar::between(&ann);
    let client = liar.connect().unwrap();
    let no_words = |words: &mut Vec<Freshness>| words.clear();
    let other_node = |words: &mut Vec<Freshness>| words[0].node = vec![9; 32].into();
    let short = |words: &mut Vec<Freshness>| words[0].signature = vec![9; 3].into();
    let flipped = |words: &mut Vec<Freshness>| words[0].signature = flip(&words[0].signature, 40);
    for change in [no_words, other_node, short, flipped] {
        liar.lie_about_ledger(move |_, answer| {
            if let Answer::Head(newest) = answer {
                change(&mut newest.freshness);
            }
        });
        let freshness = client.view().refresh().unwrap();
        assert!(!freshness.current);
        assert_eq!(freshness.height, client.view().trust().height.0, "as of that block");
    }
    liar.be_honest();
    assert!(client.view().refresh().unwrap().current);
}

#[test]
fn another_block_at_a_known_height_is_a_split() {
    let (_solo, ann) = alone();
    let liar = Liar::between(&ann);
    let client = liar.connect().unwrap();
    lie_about_header(&liar, |header| header.time = Time(header.time.0 + 1));
    let error = client.view().refresh().unwrap_err();
    assert!(
        matches!(error, ViewError::Split { height } if height == client.view().trust().height),
        "{error}"
    );
}

#[test]
fn a_header_that_is_not_the_certified_one_is_refused() {
    let (_solo, ann) = alone();
    let liar = Liar::between(&ann);
    lie_about_header(&liar, |header| header.state = ihfs_core::ids::Digest::of(b"made up"));
    assert!(matches!(refusal(&liar), ViewError::WrongHeader { .. }));
    lie_about_header(&liar, |header| header.height = header.height.next());
    assert!(matches!(refusal(&liar), ViewError::WrongHeader { .. }));
    lie_about_header(&liar, |header| header.chain = ihfs_core::ids::ChainId::from_bytes([3; 32]));
    assert!(matches!(refusal(&liar), ViewError::WrongHeader { .. }));
    lie_about_header(&liar, |header| header.validators = ihfs_core::ids::Digest::of(b"mine"));
    assert!(matches!(refusal(&liar), ViewError::UnknownValidators { .. }));
}

#[test]
fn a_certificate_with_a_bad_signature_or_of_a_stranger_is_refused() {
    let (_solo, ann) = alone();
    let liar = Liar::between(&ann);
    lie_about_certificate(&liar, |_, certificate| certificate.round += 1);
    assert!(matches!(refusal(&liar), ViewError::Certificate(CertificateError::BadSignature { .. })));
    let chain = liar.trust().chain;
    lie_about_certificate(&liar, move |header, certificate| {
        let stranger =
            ihfs_core::crypto::sign::SigningKey::from_seed(ihfs_core::crypto::secret::Secret::new([5; 32]));
        let vote =
            vote_bytes(chain, VoteKind::Precommit, header.height, certificate.round, Some(header.id()));
        certificate.signatures = vec![stranger.sign(ihfs_core::crypto::sign::Purpose::Vote, &vote)];
    });
    assert!(matches!(refusal(&liar), ViewError::Certificate(CertificateError::BadSignature { .. })));
    lie_about_certificate(&liar, |_, certificate| {
        certificate.signers = vec![0];
        certificate.signatures.clear();
    });
    assert!(matches!(refusal(&liar), ViewError::Certificate(CertificateError::NoQuorum { power: 0, .. })));
    lie_about_certificate(&liar, |_, certificate| certificate.signatures.clear());
    assert!(matches!(refusal(&liar), ViewError::Certificate(CertificateError::WrongShape)));
}

#[test]
fn a_forged_entry_is_refused_whatever_it_is_about() {
    let scene = Scene::new();
    let liar = Liar::between(&scene.ann);
    let client = liar.connect().unwrap();
    let (member, record) = (client.member(), RecordId::of(client.member(), &VAULT_NONCE));
    let grant = client.grants().unwrap()[0].grant.parse().unwrap();

    forge(&liar, |entry: &mut RecordEntry| {
        entry.head.as_mut().unwrap().root = ihfs_core::ids::ChunkId::from_bytes([7; 32])
    });
    assert_wrong_leaf(client.view().entry::<RecordEntry>(StateKey::Record(record)));
    forge(&liar, |entry: &mut MemberEntry| entry.key = [7; 32]);
    assert_wrong_leaf(client.view().entry::<MemberEntry>(StateKey::Member(member)));
    forge(&liar, |lists: &mut MemberLists| lists.records = List::default());
    assert_wrong_leaf(client.view().entry::<MemberLists>(StateKey::MemberLists(member)));
    forge(&liar, |lists: &mut RecordLists| lists.openings = List { count: 7, ..List::default() });
    assert_wrong_leaf(client.view().entry::<RecordLists>(StateKey::RecordLists(record)));
    forge(&liar, |entry: &mut GrantEntry| entry.conditions.write = true);
    assert_wrong_leaf(client.view().entry::<GrantEntry>(StateKey::Grant(grant)));
    forge(&liar, |entry: &mut ConsortiumEntry| entry.policy.opening *= 2);
    assert_wrong_leaf(client.view().entry::<ConsortiumEntry>(StateKey::Consortium));

    liar.be_honest();
    assert!(client.view().entry::<GrantEntry>(StateKey::Grant(grant)).unwrap().is_some());
}

#[test]
fn a_proof_of_another_key_and_a_made_up_absence_are_refused() {
    let (_solo, ann) = alone();
    let liar = Liar::between(&ann);
    let client = liar.connect().unwrap();
    let keys = [StateKey::Consortium, StateKey::Member(client.member())];
    liar.lie_about_ledger(|_, answer| {
        if let Answer::Proved(proved) = answer {
            proved.entries.reverse();
        }
    });
    assert!(matches!(client.view().entries(&keys), Err(ViewError::Proof(_))));
    liar.lie_about_ledger(|_, answer| {
        if let Answer::Proved(proved) = answer {
            proved.entries[0].value = None;
        }
    });
    assert_wrong_leaf(client.view().entry::<ConsortiumEntry>(StateKey::Consortium));
    // Fewer answers than questions.
    liar.lie_about_ledger(|_, answer| {
        if let Answer::Proved(proved) = answer {
            proved.entries.pop();
        }
    });
    assert_malformed(&liar, client.view().entries(&keys).unwrap_err());
}

#[test]
fn an_absence_is_not_proved_by_the_proof_of_an_entry() {
    let (_solo, ann) = alone();
    let liar = Liar::between(&ann);
    let client = liar.connect().unwrap();
    let real = std::sync::Mutex::new(None);
    liar.lie_about_ledger(move |_, answer| {
        let Answer::Proved(proved) = answer else { return };
        let mut real = real.lock().unwrap();
        match real.take() {
            None => *real = Some(proved.entries[0].clone()),
            Some(entry) => proved.entries[0] = entry,
        }
    });
    assert!(client.view().entry::<ConsortiumEntry>(StateKey::Consortium).unwrap().is_some());
    let nobody = ihfs_core::ids::MemberId::from_bytes([4; 32]);
    let answer = client.view().entry::<MemberEntry>(StateKey::Member(nobody));
    assert!(matches!(answer, Err(ViewError::Proof(_))), "{answer:?}");
}

#[test]
fn an_audit_fails_rather_than_show_less() {
    let scene = Scene::new();
    scene.open_by(&scene.lee);
    for name in ["dr.kim", "dr.roe"] {
        let doctor = scene.solo.join(name, Role::Practitioner);
        let patient = scene.ann.connect();
        let person = patient.look_up(&doctor.handle()).unwrap();
        patient.share(&at("/ct"), &person, &for_treatment()).unwrap();
        scene.open_by(&doctor);
    }
    let liar = Liar::between(&scene.ann);
    let client = liar.connect().unwrap();
    assert_eq!(client.audit(Some(&at("/ct"))).unwrap().len(), 3);

    lie_about_items(&liar, |items| drop(items.pop()));
    assert!(matches!(audit_error(&client), ListError::WrongCount { .. } | ListError::WrongHash { .. }));
    lie_about_items(&liar, |items| drop(items.remove(1)));
    assert!(matches!(audit_error(&client), ListError::WrongCount { .. } | ListError::WrongHash { .. }));
    lie_about_items(&liar, Vec::clear);
    assert!(matches!(audit_error(&client), ListError::WrongCount { .. }));
    lie_about_items(&liar, |items| items.swap(0, 2));
    assert!(matches!(audit_error(&client), ListError::WrongHash { .. }));
    lie_about_items(&liar, |items| items[1] = flip(&items[1], 5));
    assert!(matches!(audit_error(&client), ListError::WrongHash { .. }));
    lie_about_items(&liar, |items| items.push(items[0].clone()));
    assert!(matches!(audit_error(&client), ListError::WrongCount { .. }));

    liar.be_honest();
    assert_eq!(client.audit(Some(&at("/ct"))).unwrap().len(), 3);
}

struct WentBack {
    shown: Height,
    seen: Height,
}

fn went_back(error: ViewError) -> WentBack {
    match error {
        ViewError::WentBack { shown, seen } => WentBack { shown, seen },
        other => panic!("{other}"),
    }
}

/// The newest block as the node says it now.
fn head_of(liar: &Liar, client: &Client) -> NewestBlock {
    let (said, heard) = std::sync::mpsc::channel();
    liar.lie_about_ledger(move |_, answer| {
        if let Answer::Head(newest) = answer {
            said.send(newest.clone()).unwrap();
        }
    });
    client.view().refresh().unwrap();
    liar.be_honest();
    heard.recv().unwrap()
}

/// Says from now on that `old` is the newest block.
fn withhold(liar: &Liar, old: NewestBlock) {
    liar.lie_about_ledger(move |_, answer| {
        if let Some(newest) = newest(answer) {
            *newest = old.clone();
        }
    });
}

fn lie_about_header(liar: &Liar, change: impl Fn(&mut Header) + Send + 'static) {
    liar.lie_about_ledger(move |_, answer| {
        let Some(newest) = newest(answer) else { return };
        let mut header = header_of(newest);
        change(&mut header);
        newest.header = codec::encode(&header).into();
    });
}

fn lie_about_certificate(liar: &Liar, change: impl Fn(&Header, &mut Certificate) + Send + 'static) {
    liar.lie_about_ledger(move |_, answer| {
        let Some(newest) = newest(answer) else { return };
        let mut certificate = certificate_of(newest);
        change(&header_of(newest), &mut certificate);
        newest.certificate = codec::encode(&certificate).into();
    });
}

/// Changes every entry of this kind that is proved.
fn forge<T: serde::Serialize + serde::de::DeserializeOwned>(
    liar: &Liar,
    change: impl Fn(&mut T) + Send + 'static,
) {
    liar.lie_about_ledger(move |_, answer| {
        let Answer::Proved(proved) = answer else { return };
        for value in proved.entries.iter_mut().filter_map(|entry| entry.value.as_mut()) {
            let mut entry: T = codec::decode(value, 64 << 10).unwrap();
            change(&mut entry);
            *value = codec::encode(&entry).into();
        }
    });
}

/// Changes the items of lists of openings, which hold three here.
fn lie_about_items(liar: &Liar, change: impl Fn(&mut Vec<bytes::Bytes>) + Send + 'static) {
    liar.lie_about_ledger(move |ask, answer| {
        let (Ask::Items(asked), Answer::Items(list)) = (ask, answer) else { return };
        // A page asked for after a shorter one tells the rest: this liar has no more to say.
        let key: ihfs_core::ledger::lists::ListKey = codec::decode(&asked.list, 1024).unwrap();
        if !matches!(key, ihfs_core::ledger::lists::ListKey::Openings(_)) {
            return;
        }
        if asked.from == 0 {
            change(&mut list.items);
        } else {
            list.items.clear();
        }
    });
}

fn audit_error(client: &Client) -> ListError {
    match client.audit(Some(&at("/ct"))) {
        Err(AuditError::View(ViewError::List(error))) => error,
        other => panic!("{other:?}"),
    }
}

fn assert_wrong_leaf<T: std::fmt::Debug>(answer: Result<Option<T>, ViewError>) {
    assert!(matches!(answer, Err(ViewError::Proof(ProofError::WrongLeaf))), "{answer:?}");
}

fn assert_malformed(liar: &Liar, error: ViewError) {
    assert!(matches!(error, ViewError::Ask(AskError::Malformed { node }) if node == liar.node()), "{error}");
}

fn flip(bytes: &[u8], place: usize) -> bytes::Bytes {
    let mut bytes = bytes.to_vec();
    bytes[place] ^= 1;
    bytes.into()
}

#[test]
fn garbage_is_malformed_and_names_the_node() {
    let (_solo, ann) = alone();
    let liar = Liar::between(&ann);
    let client = liar.connect().unwrap();
    for garbage in [vec![0xff; 40], vec![0x0a, 0xff], Vec::new()] {
        liar.lie(move |_, _, _| Some(Message { header: garbage.clone().into(), body: bytes::Bytes::new() }));
        assert_malformed(&liar, client.view().refresh().unwrap_err());
    }
    // A good answer to another question.
    liar.lie(|conversation, _, _| {
        assert_eq!(conversation, Conversation::Ledger);
        let list = Answer::Items(ihfs_proto::ledger::ItemList::default());
        let (header, body) = ihfs_proto::to_parts(&ihfs_proto::ledger::Response { response: Some(list) });
        Some(Message { header, body })
    });
    assert_malformed(&liar, client.view().refresh().unwrap_err());
    liar.lie_about_ledger(|_, answer| {
        if let Some(newest) = newest(answer) {
            newest.header = vec![0xa0; 7].into();
        }
    });
    assert!(matches!(client.view().refresh(), Err(ViewError::Decode(_))));
}

#[test]
fn a_node_that_stays_silent_is_told_by_its_name() {
    let (_solo, ann) = alone();
    let liar = Liar::between(&ann);
    let client = liar.connect().unwrap();
    liar.lie(|_, _, _| None);
    let error = client.view().refresh().unwrap_err();
    assert!(matches!(error, ViewError::Ask(AskError::Network(_))), "{error}");
}

#[test]
fn a_put_is_not_done_because_a_node_says_so() {
    let scene = Scene::new();
    let liar = Liar::between(&scene.ann);
    let client = liar.connect().unwrap();
    // The ledger never hears of the transaction.
    liar.swallow(|conversation, question| {
        if conversation != Conversation::Ledger {
            return None;
        }
        let asked: ihfs_proto::ledger::Request = ihfs_tests::liar::read(question.clone());
        let is_submit = matches!(asked.request, Some(Ask::Submit(_)));
        let applied = Answer::Applied(ihfs_proto::ledger::Applied { height: 1_000_000 });
        is_submit
            .then(|| ihfs_tests::liar::written(&ihfs_proto::ledger::Response { response: Some(applied) }))
    });
    let failed = scene.put(&client, 2);
    let Err(PutError::Commit(CommitError::Submit(error))) = failed else { panic!("{failed:?}") };
    assert!(matches!(error, SubmitError::NotApplied { .. }), "{error}");
    let mut bytes = Vec::new();
    scene.ann.connect().cat(&at("/ct/slice"), 0, u64::MAX, &mut bytes).unwrap();
    assert_eq!(bytes, bytes_of(1, 100_000));
}

#[test]
fn other_bytes_under_a_chunk_s_name_are_never_read() {
    let scene = Scene::new();
    let liar = Liar::between(&scene.ann);
    let client = liar.connect().unwrap();
    let cut = |body: &mut bytes::Bytes| drop(body.split_off(body.len() - 1));
    let flipped = |body: &mut bytes::Bytes| *body = flip(body, body.len() / 2);
    let nothing = |body: &mut bytes::Bytes| body.clear();
    for change in [cut, flipped, nothing] {
        liar.lie_about_chunks(move |ask, _, body| {
            if matches!(ask, ihfs_proto::chunk::request::Request::Get(_)) {
                change(body);
            }
        });
        let mut bytes = Vec::new();
        let failed = client.cat(&at("/ct/slice"), 0, u64::MAX, &mut bytes).unwrap_err();
        assert!(failed.to_string().contains("chunk"), "{failed}");
        assert!(bytes.is_empty());
    }
}

#[test]
fn a_receipt_for_something_else_is_refused() {
    let scene = Scene::new();
    let liar = Liar::between(&scene.ann);
    let client = liar.connect().unwrap();
    liar.lie_about_chunks(|_, answer, _| {
        if let ihfs_proto::chunk::response::Response::Receipt(bytes) = answer {
            let mut receipt: Receipt = codec::decode(bytes, 1024).unwrap();
            receipt.expires = receipt.expires.plus_millis(1);
            *bytes = codec::encode(&receipt).into();
        }
    });
    let failed = scene.put(&client, 2).unwrap_err();
    assert!(
        matches!(
            failed,
            PutError::Upload(UploadError::WrongReceipt { node })
                | PutError::Commit(CommitError::Upload(UploadError::WrongReceipt { node }))
                if node == liar.node()
        ),
        "{failed}"
    );
}

#[test]
fn a_custodian_that_gives_another_share_or_envelope_opens_nothing() {
    let scene = Scene::new();
    let liar = Liar::between(&scene.lee);
    let client = liar.connect().unwrap();
    liar.lie_about_keys(|_, answer| {
        if let ihfs_proto::key::response::Response::Released(released) = answer {
            released.share = flip(&released.share, released.share.len() - 1);
        }
    });
    let node = liar.node();
    let failed = opening_error(&client, &scene);
    let named = matches!(
        failed,
        OpeningError::TooFewShares { found: 0, wanted: 1, last: Some(AskError::Malformed { node: named }) }
            if named == node
    );
    assert!(named, "{failed}");
    liar.lie_about_keys(|_, answer| {
        if let ihfs_proto::key::response::Response::Released(released) = answer {
            released.envelope = flip(&released.envelope, released.envelope.len() - 1);
        }
    });
    let failed = opening_error(&client, &scene);
    assert!(matches!(failed, OpeningError::Grant(_)), "{failed}");
}

#[test]
fn a_handle_that_leads_to_somebody_else_is_told() {
    let scene = Scene::new();
    let kim = scene.solo.join("dr.kim", Role::Practitioner);
    let liar = Liar::between(&scene.ann);
    let client = liar.connect().unwrap();
    let other = *client.look_up(&scene.lee.handle()).unwrap().member.as_bytes();
    liar.lie_about_ledger(move |_, answer| {
        if let Answer::Resolved(resolved) = answer {
            resolved.member = other.to_vec().into();
        }
    });
    assert!(matches!(client.look_up(&kim.handle()), Err(ShareError::WrongHandle { .. })));
    liar.lie_about_ledger(|_, answer| {
        if let Answer::Resolved(resolved) = answer {
            let mut proof: HandleProof = codec::decode(&resolved.handle_proof, 512).unwrap();
            proof.blind = [0; 32];
            resolved.handle_proof = codec::encode(&proof).into();
        }
    });
    assert!(matches!(client.look_up(&kim.handle()), Err(ShareError::WrongHandle { .. })));
}

#[test]
fn the_genesis_of_another_network_is_refused() {
    let ((_one, ann), (_other, bob)) = (alone(), alone());
    let genesis = |person: &Person| person.home.network().unwrap().parse().unwrap();
    let (mine, other) = (genesis(&ann), genesis(&bob));
    let begun = ihfs_client::view::Trust::begin(mine.chain, &other.genesis);
    assert!(matches!(begun, Err(ViewError::WrongGenesis(None))));
    let begun = ihfs_client::view::Trust::begin(mine.chain, &mine.genesis[1..]);
    assert!(matches!(begun, Err(ViewError::WrongGenesis(Some(_)))));
}

fn opening_error(client: &Client, scene: &Scene) -> OpeningError {
    match client.find(&scene.shared()) {
        Err(ResolveError::Opening(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    }
}

/// Images of the study.
const SLICES: u16 = 500;
/// Bytes of a slice's pixel data: 256 × 256 samples of two bytes.
const PIXEL_BYTES: usize = 128 << 10;

/// A minimal DICOM file (PS3.10 section 7, explicit little endian): a header of 6 KiB and its pixels.
fn slice(number: u16) -> Vec<u8> {
    let element = |group: u16, element: u16, vr: &[u8; 2], value: &[u8]| {
        let mut bytes = [group.to_le_bytes(), element.to_le_bytes()].concat();
        bytes.extend(vr);
        if matches!(vr, b"OB" | b"OW") {
            bytes.extend([0, 0]);
            bytes.extend((value.len() as u32).to_le_bytes());
        } else {
            bytes.extend((value.len() as u16).to_le_bytes());
        }
        bytes.extend(value);
        bytes
    };
    let uid = format!("1.2.826.0.1.3680043.2.1125.{:04}\0", 1000 + number);
    let meta = [
        element(2, 1, b"OB", &[0, 1]),
        element(2, 2, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0"),
        element(2, 3, b"UI", &uid.as_bytes()[..uid.len() & !1]),
        element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1\0"),
    ]
    .concat();
    let data = [
        element(8, 0x60, b"CS", b"CT"),
        element(0x20, 0x13, b"IS", format!("{number:<6}").as_bytes()),
        element(0x28, 2, b"US", &1u16.to_le_bytes()),
        element(0x28, 8, b"IS", b"1 "),
        element(0x28, 0x10, b"US", &256u16.to_le_bytes()),
        element(0x28, 0x11, b"US", &256u16.to_le_bytes()),
        element(0x28, 0x100, b"US", &16u16.to_le_bytes()),
        element(0x40, 0xa160, b"LT", &[b' '; 6000]),
        element(0x7fe0, 0x10, b"OW", &bytes_of(number as u8, PIXEL_BYTES)),
    ]
    .concat();
    let mut file = vec![0; 128];
    file.extend(b"DICM");
    file.extend(element(2, 0, b"UL", &(meta.len() as u32).to_le_bytes()));
    file.extend(meta);
    file.extend(data);
    file
}

#[test]
fn the_first_image_of_a_shared_study_is_four_round_trips_away() {
    let solo = Solo::new();
    let (ann, lee) = (solo.join("ann", Role::Patient), solo.join("dr.lee", Role::Practitioner));
    let study = solo.path().join("study");
    fs::create_dir(&study).unwrap();
    for number in 0..SLICES {
        fs::write(study.join(format!("{number:04}.dcm")), slice(number)).unwrap();
    }
    let patient = ann.connect();
    patient.put(&[Put::path(study, at("/study"))], &Silent).unwrap();
    let person = patient.look_up(&lee.handle()).unwrap();
    patient.share(&at("/study"), &person, &for_treatment()).unwrap();

    let liar = Liar::between(&lee);
    let doctor = liar.connect().unwrap();
    let (spot, _) = doctor.find(&at(&format!("//{}/study", ann.handle()))).unwrap();
    let (opened, released) = (liar.round_trips(), liar.round_trips_at_release().unwrap());
    let name = ihfs_core::tree::name::Name::new(b"0000.dcm").unwrap();
    let path = [spot.path.clone(), vec![name]].concat();
    let Found::Item(item) = spot.tree.lookup(&path).unwrap() else { panic!("no slice") };
    let Content::File(content) = item.content else { panic!("no file") };
    let bytes = read_image(&spot.tree, &content);
    assert_eq!(bytes, slice(0));
    let (whole, image) = (liar.round_trips() - released, liar.round_trips() - opened);
    println!("first image: {image} round trips from the folder, {whole} from the released key");
    assert!(image <= 4, "{image} round trips from the folder");
    assert!(whole <= 4, "{whole} round trips after the opening");
}

/// Header and only frame: what is needed is asked for together.
fn read_image(tree: &ihfs_client::record::OpenTree, content: &ihfs_core::tree::file::FileContent) -> Vec<u8> {
    let extents = content.extents(tree.source(), 0..content.size_bytes(), EXTENTS_MAX).unwrap();
    let pieces: Vec<_> = extents.iter().filter_map(|placed| placed.extent.as_piece()).collect();
    let chunk_of = |piece: &ihfs_core::sealed::Ref| match piece.place {
        ihfs_core::sealed::Place::Chunk(id) => id,
        _ => panic!("a written piece stands in a chunk"),
    };
    tree.source().prefetch(pieces.iter().map(|piece| chunk_of(piece)));
    let open =
        |piece: &&ihfs_core::sealed::Ref| tree.source().chunk(chunk_of(piece)).unwrap().open(piece).unwrap();
    pieces.iter().flat_map(open).collect()
}

/// Extents of one slice: header and pixels are two.
const EXTENTS_MAX: usize = 16;
