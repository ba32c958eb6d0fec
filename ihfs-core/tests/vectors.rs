//! Every derivation and format of version 1, from fixed inputs, against a checked-in table.
//!
//! A line of `vectors/format-1.txt` that no longer fits means that stored data can no longer be read: the code
//! is wrong, never the table. New formats add lines.

use std::fmt::Write as _;

use ihfs_core::codec;
use ihfs_core::crypto::derive::{
    Committed, PieceKey, Role, SealingSecrets, Seed, commitment, local_key, passphrase_key,
};
use ihfs_core::crypto::envelope;
use ihfs_core::crypto::journal::{SegmentCipher, header_checksum};
use ihfs_core::crypto::keyring::{GenerationSecrets, Keyring};
use ihfs_core::crypto::seal::{self, StreamKey};
use ihfs_core::crypto::secret::Secret;
use ihfs_core::crypto::share::ReleaseKey;
use ihfs_core::crypto::sign::{Purpose, Signature, SigningKey};
use ihfs_core::grants::{GrantSubject, GrantedKey, Note};
use ihfs_core::ids::{
    BlockId, ChainId, ChunkId, DeviceId, Digest, Epoch, FileId, Generation, GrantId, Height, InviteId,
    MemberId, NodeId, RecordId, Time, TransactionId, Version,
};
use ihfs_core::ledger::block::{Block, FORMAT_VERSION, Header};
use ihfs_core::ledger::certificate::{
    Certificate, Validator, ValidatorSet, VoteKind, freshness_bytes, vote_bytes,
};
use ihfs_core::ledger::identity::{self, DeviceKeys, Invite, MemberSealingKey};
use ihfs_core::ledger::operation::{CustodySubject, Open, Operation};
use ihfs_core::ledger::transaction::{TRANSACTION_FORMAT, Transaction};
use ihfs_core::members::{Handle, HandleProof, label_commitment};
use ihfs_core::pins::Delta;
use ihfs_core::receipt::{Receipt, ReceiptSubject};
use ihfs_core::sealed::{PackWriter, SealedChunk, Sealer};
use ihfs_core::tree::entry::{Content, Item, Metadata};
use ihfs_core::tree::file::{Extent, FileContent, FileContentBuilder};
use ihfs_core::tree::root::{DeviceProgress, NestedVersions, Root};
use ihfs_core::words::fingerprint_words;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const CHAIN: ChainId = ChainId::from_bytes([0x11; 32]);
const RECORD: RecordId = RecordId::from_bytes([0x22; 32]);
const GRANT: GrantId = GrantId::from_bytes([0x33; 32]);
const SALT: Digest = Digest::from_bytes([0x44; 32]);

/// `name value` lines.
#[derive(Default)]
struct Table(String);

impl Table {
    fn text(&mut self, name: &str, value: impl std::fmt::Display) {
        assert!(!name.contains(' '), "names have no spaces");
        writeln!(self.0, "{name} {value}").unwrap();
    }

    /// Short bytes stand as they are.
    fn bytes(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.text(name, hex::encode(value));
    }

    /// Long bytes stand as their length and BLAKE3-256.
    fn digest(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.text(name, format_args!("{} {}", value.len(), blake3::hash(value)));
    }
}

fn seed() -> Seed {
    Seed::from_random([0x55; 32])
}

fn sealer() -> Sealer {
    Sealer::new(RECORD, Epoch(7), &seed().vault_secret(Generation(1)).record_key(RECORD, Epoch(7), SALT))
}

fn random() -> ChaCha20Rng {
    ChaCha20Rng::from_seed([0x66; 32])
}

fn signing_key() -> SigningKey {
    SigningKey::from_seed(Secret::new([0x77; 32]))
}

/// Bytes 0, 1, …, 250, 0, …
fn counted(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place % 251) as u8).collect()
}

#[test]
fn every_derivation_and_format_is_the_pinned_one() {
    let mut table = Table::default();
    keys(&mut table);
    sealing_secrets(&mut table, sealer().secrets());
    commitments(&mut table);
    ids(&mut table);
    words(&mut table);
    signatures(&mut table);
    sealing(&mut table);
    envelopes(&mut table);
    key_shares(&mut table);
    grants(&mut table);
    keyring(&mut table);
    chunks(&mut table);
    tree(&mut table);
    members(&mut table);
    ledger(&mut table);
    journal(&mut table);
    compare(&table.0, include_str!("vectors/format-1.txt"));
}

/// Names the first line that differs; the whole table stands in the output of a failed run.
fn compare(found: &str, pinned: &str) {
    let pinned: Vec<&str> = pinned.lines().filter(|line| !line.starts_with('#')).collect();
    let found: Vec<&str> = found.lines().collect();
    if found != pinned {
        println!("{}", found.join("\n"));
    }
    for (found, pinned) in found.iter().zip(&pinned) {
        assert_eq!(found, pinned);
    }
    assert_eq!(found.len(), pinned.len(), "lines without a counterpart");
}

fn keys(table: &mut Table) {
    let seed = seed();
    table.bytes("derive.member-key.public", seed.member_key().public());
    for generation in [Generation(0), Generation(1)] {
        let vault = seed.vault_secret(generation);
        for (record, epoch, salt) in
            [(RECORD, Epoch(0), SALT), (RECORD, Epoch(7), SALT), (RECORD, Epoch(7), Digest::of(b""))]
        {
            let key = GrantedKey::Record(vault.record_key(record, epoch, salt));
            let name = format!("derive.record-key.g{generation}.e{epoch}.{salt:?}");
            table.bytes(&name, &key.to_bytes()[1..]);
        }
        let public = seed.sealing_key(generation).public();
        table.digest(&format!("derive.member-sealing-key.g{generation}.public"), public.as_bytes());
    }
    table.bytes("derive.local-key", local_key(&signing_key(), "cache").stream_key());
    table.bytes("argon2id.passphrase", passphrase_key(b"correct horse", &[0x88; 16]).unwrap().stream_key());
}

fn sealing_secrets(table: &mut Table, secrets: &SealingSecrets) {
    let key = |key: PieceKey| codec::encode(&key)[2..].to_vec();
    for (name, role) in [("content", Role::Content), ("tree-page", Role::TreePage)] {
        table.bytes(&format!("derive.piece-key.{name}"), key(sealer().piece_key(role, b"plaintext")));
        table.bytes(&format!("derive.piece-key.{name}.empty"), key(sealer().piece_key(role, b"")));
    }
    let siv = secrets.root_siv(RECORD, Epoch(7), Version(9), b"plaintext");
    table.bytes("derive.root-siv", siv);
    table.bytes("derive.root-key", &GrantedKey::Snapshot(secrets.root_key(&siv)).to_bytes()[1..]);
    let mut padding = [0; 40];
    secrets.pad(Digest::of(b"pack"), &mut padding);
    table.bytes("derive.pad", padding);
}

fn commitments(table: &mut Table) {
    for what in [
        Committed::GrantedKey,
        Committed::ReleaseKey,
        Committed::Envelope,
        Committed::Note,
        Committed::KeyShare,
    ] {
        table.bytes(&format!("commitment.{what:?}"), commitment(what, b"secret").as_bytes());
    }
}

fn ids(table: &mut Table) {
    let chunk = ChunkId::of(b"ihfs");
    table.text("id.chunk", chunk);
    table.text("id.chunk.cid", chunk.to_cid());
    table.bytes("id.chunk.cbor", codec::encode(&chunk));
    table.text("id.chunk.debug", format_args!("{chunk:?}"));
    table.bytes("id.height.cbor", codec::encode(&Height(1 << 32)));
    table.bytes("id.tuple.cbor", codec::encode(&(Epoch(1), Version(24), FileId(u64::MAX), Time(0))));
    table.text("id.member", MemberId::of_key(&[1; 32]));
    table.text("id.record", RecordId::of(MemberId::of_key(&[1; 32]), &[2; 32]));
    table.text("id.grant", GrantId::of(RECORD, &[3; 32]));
}

fn words(table: &mut Table) {
    table.text("words.seed", seed().to_words().as_str());
    table.text("words.fingerprint", fingerprint_words(&seed().member_key().public()));
}

fn signatures(table: &mut Table) {
    for purpose in [
        Purpose::Transaction,
        Purpose::Vote,
        Purpose::Proposal,
        Purpose::Device,
        Purpose::DeviceConsent,
        Purpose::MemberSealingKey,
        Purpose::Receipt,
        Purpose::Custody,
        Purpose::Invite,
        Purpose::Handle,
        Purpose::Freshness,
        Purpose::Node,
    ] {
        let signature = signing_key().sign(purpose, b"message");
        table.bytes(&format!("signature.{purpose:?}"), signature.as_bytes());
    }
}

/// Lengths around the frame, the padding classes and the largest chunk.
fn sealing(table: &mut Table) {
    for length in [0, 1, 2, 9, 1024, 1025, 16_383, 16_384, 16_385, 65_537, 1 << 20] {
        let plaintext = counted(length);
        let key = sealer().piece_key(Role::Content, &plaintext);
        let mut sealed = Vec::new();
        seal::seal_into(&key, &plaintext, &mut sealed);
        table.text(&format!("padded.{length}"), seal::padded_length(length));
        table.digest(&format!("sealed.{length}"), &sealed);
        if length <= 9 {
            table.bytes(&format!("sealed.{length}.bytes"), &sealed);
        }
        assert_eq!(seal::open(&key, &sealed, length).unwrap(), plaintext);
    }
}

fn envelopes(table: &mut Table) {
    let key = seed().sealing_key(Generation(0));
    let sealed = envelope::seal(&key.public(), b"info", b"plaintext", &mut random()).unwrap();
    table.digest("envelope", &sealed);
    assert_eq!(key.open(b"info", &sealed).unwrap().as_slice(), b"plaintext");
}

fn key_shares(table: &mut Table) {
    let random = &mut random();
    let release = ReleaseKey::random(random);
    table.bytes("release-key", release.stream_key());
    table.bytes("release-key.digest", release.digest().as_bytes());
    for share in release.split(3, 5, random) {
        table.bytes("key-share", codec::encode(&share));
        table.bytes("key-share.digest", share.digest().as_bytes());
    }
}

fn grants(table: &mut Table) {
    let reader = seed().sealing_key(Generation(0));
    let member = MemberId::of_key(&seed().member_key().public());
    let subject =
        GrantSubject { chain: CHAIN, grant: GRANT, record: RECORD, epoch: Epoch(7), reader: member };
    let owner = HandleProof { handle: Handle::parse("ann@st-mary").unwrap(), blind: [0x99; 32] };
    let note = Note { owner, label: "ct".to_owned(), label_blind: [0xaa; 32] };
    let key = GrantedKey::Record(seed().vault_secret(Generation(1)).record_key(RECORD, Epoch(7), SALT));
    table.bytes("grant.note.plaintext", codec::encode(&note));
    table.bytes("grant.label", note.label_commitment().as_bytes());
    let prepared = subject.prepare(&reader.public(), &key, &note, (3, 5), &mut random()).unwrap();
    table.bytes("grant.digests", codec::encode(&prepared.digests));
    table.digest("grant.envelope", &prepared.envelope);
    table.digest("grant.note", &prepared.note);
    let custody = CustodySubject { chain: CHAIN, grant: GRANT, digests: prepared.digests };
    let custodian = custody.sign(&signing_key(), prepared.shares[0].digest(), Time(1_000));
    table.bytes("grant.custodian", codec::encode(&custodian));
}

fn keyring(table: &mut Table) {
    let member_key = seed().member_key().public();
    let generations = [Generation(0), Generation(1)].map(|number| GenerationSecrets::of(&seed(), number));
    let device = signing_key();
    let sealed = generations[1]
        .seal_to(
            CHAIN,
            DeviceId::from_bytes(device.public()),
            &seed().sealing_key(Generation(0)).public(),
            &mut random(),
        )
        .unwrap();
    table.digest("generation-secrets", &sealed);
    let keyring = Keyring {
        chain: CHAIN,
        member: MemberId::of_key(&member_key),
        member_key,
        device,
        device_sealing: seed().sealing_key(Generation(3)),
        generations: generations.into(),
    };
    table.bytes("keyring.plaintext", keyring.to_secret_bytes());
    table.bytes("keyring.file", keyring.seal(b"correct horse", [0x88; 16]).unwrap());
}

fn chunks(table: &mut Table) {
    let sealer = sealer();
    for (name, role) in [("content", Role::Content), ("tree-page", Role::TreePage)] {
        let (at, chunk) = sealer.seal_chunk(role, &counted(100_000));
        table.digest(&format!("chunk.{name}"), chunk.bytes());
        table.bytes(&format!("chunk.{name}.ref"), codec::encode(&at));
        table.text(&format!("chunk.{name}.cid"), chunk.id().to_cid());
    }
    let (key, root) = sealer.seal_root(Version(9), b"root");
    table.bytes("root.chunk", root.bytes());
    table.bytes("root.key", &GrantedKey::Snapshot(key).to_bytes()[1..]);
    let mut delta = Delta::default();
    delta.added.insert(ChunkId::of(b"added"), 1_000);
    delta.dropped.insert(ChunkId::of(b"dropped"), 2_000);
    table.bytes("delta", &delta.encode().unwrap()[0].bytes);
    let many: Vec<u32> = (0..20_000).collect();
    delta.added = many.iter().map(|number| (ChunkId::of(&number.to_be_bytes()), 1 + number)).collect();
    for chunk in delta.encode().unwrap() {
        table.digest("delta.many", &chunk.bytes);
    }
}

/// A file of a hole and two packed pieces, and the root over it: pack, list page, root.
fn tree(table: &mut Table) {
    let sealer = sealer();
    let mut writer = PackWriter::new(&sealer);
    let mut content = FileContentBuilder::new();
    content.push(Extent::hole(4096).unwrap(), &mut writer).unwrap();
    for number in 0..12_u8 {
        let piece = writer.add(Role::Content, &[number; 1000]);
        content.push(Extent::piece(piece).unwrap(), &mut writer).unwrap();
    }
    let mut content: FileContent = content.finish(&mut writer);
    content.for_each_ref(&mut |piece| *piece = writer.resolve(piece.clone()));
    writer.close();
    for pack in writer.take_closed() {
        table.digest("tree.pack", pack.bytes());
    }
    table.bytes("tree.file", codec::encode(&content));
    let root = Root {
        record: RECORD,
        version: Version(9),
        top: Item { id: FileId(1), content: Content::File(content), metadata: Metadata::default() },
        nested: NestedVersions::EMPTY,
        devices: vec![DeviceProgress { device: DeviceId::from_bytes([5; 32]), sequence: 6 }],
        written: Time(1_800_000_000_000),
    };
    table.bytes("tree.root", root.encode().unwrap());
}

fn members(table: &mut Table) {
    let proof = HandleProof { handle: Handle::parse("dr.lee@st-mary").unwrap(), blind: [0xbb; 32] };
    table.bytes("handle.commitment", proof.commitment().as_bytes());
    table.bytes("handle.proof", codec::encode(&proof));
    table.bytes("label.commitment", label_commitment("ct", &[0xcc; 32]).as_bytes());
    let sealing = seed().sealing_key(Generation(0)).public();
    let keys = DeviceKeys::sign(&seed().member_key(), CHAIN, &signing_key(), sealing.clone());
    table.digest("device-keys", codec::encode(&keys));
    let key = MemberSealingKey::sign(&seed().member_key(), Generation(0), sealing);
    table.digest("member-sealing-key", codec::encode(&key));
    table.bytes("invite", codec::encode(&invite()));
    let hospital = MemberId::from_bytes([6; 32]);
    table.bytes("node.consent", identity::node_bytes(CHAIN, hospital, NodeId::from_bytes([7; 32])));
}

fn invite() -> Invite {
    let member = MemberId::of_key(&seed().member_key().public());
    let unsigned = Invite {
        chain: CHAIN,
        id: InviteId::from_bytes([0xdd; 32]),
        registrar: member,
        role: identity::Role::Practitioner,
        hospital: member,
        handle: Digest::from_bytes([0xee; 32]),
        expires: Time(1_800_000_000_000),
        signer: DeviceId::from_bytes([0; 32]),
        signature: Signature::from_bytes([0; 64]),
    };
    unsigned.signed(&seed().member_key())
}

fn ledger(table: &mut Table) {
    let node = NodeId::from_bytes(signing_key().public());
    let set = ValidatorSet::new(vec![Validator { node, power: 1 }]).unwrap();
    table.bytes("validators", codec::encode(&set));
    table.bytes("validators.digest", set.digest().as_bytes());
    let transaction = transaction().sign(&signing_key());
    table.bytes("transaction", transaction.to_bytes());
    table.text("transaction.id", transaction.id());
    let transactions = vec![serde_bytes::ByteBuf::from(transaction.to_bytes())];
    let header = header(&set, Block::digest_transactions(&transactions));
    table.bytes("header", codec::encode(&header));
    table.text("header.id", header.id());
    table.digest("block", codec::encode(&Block { header: header.clone(), transactions }));
    let vote = vote_bytes(CHAIN, VoteKind::Precommit, header.height, 2, Some(header.id()));
    table.bytes("vote.precommit", &vote);
    table.bytes("vote.prevote.none", vote_bytes(CHAIN, VoteKind::Prevote, header.height, 2, None));
    let votes = [(node, signing_key().sign(Purpose::Vote, &vote))];
    let certificate = Certificate::new(&set, header.height, 2, header.id(), &votes);
    assert_eq!(certificate.verify(CHAIN, &set), Ok(()));
    table.bytes("certificate", codec::encode(&certificate));
    table.bytes("freshness", freshness_bytes(CHAIN, header.height, header.id(), &[8; 32]));
    let (delta, root) = (ChunkId::of(b"delta"), ChunkId::of(b"root"));
    let subject = ReceiptSubject {
        chain: CHAIN,
        record: RECORD,
        delta,
        root,
        bytes_added: 1_000,
        bytes_dropped: 2_000,
    };
    table.bytes("receipt", codec::encode(&Receipt::sign(&signing_key(), &subject, 6, Time(7))));
}

fn transaction() -> Transaction {
    Transaction {
        format: TRANSACTION_FORMAT,
        chain: CHAIN,
        member: MemberId::of_key(&seed().member_key().public()),
        signer: DeviceId::from_bytes([0; 32]),
        valid_until: Time(1_800_000_000_000),
        random: [0xff; 32],
        operations: vec![Operation::Open(Open { grants: vec![GRANT] })],
    }
}

fn header(set: &ValidatorSet, transactions: Digest) -> Header {
    Header {
        format: FORMAT_VERSION,
        rules: 1,
        chain: CHAIN,
        height: Height(1),
        parent: BlockId::from_bytes(*CHAIN.as_bytes()),
        time: Time(1_800_000_000_000),
        transactions,
        state: Digest::of(b"state"),
        validators: set.digest(),
        next_validators: set.digest(),
    }
}

/// The table also says what a stranger's program must be able to read back.
#[test]
fn pinned_bytes_read_back() {
    let pinned: std::collections::BTreeMap<&str, &str> =
        include_str!("vectors/format-1.txt").lines().filter_map(|line| line.split_once(' ')).collect();
    let bytes = |name: &str| hex::decode(pinned[name]).unwrap();
    let keyring = Keyring::open(&bytes("keyring.file"), b"correct horse").unwrap();
    assert_eq!(keyring.device_id(), DeviceId::from_bytes(signing_key().public()));
    assert_eq!(keyring.generations.len(), 2);
    let signed =
        ihfs_core::ledger::transaction::SignedTransaction::from_bytes(&bytes("transaction")).unwrap();
    assert_eq!(signed.open().unwrap().operations, transaction().operations);
    assert_eq!(signed.id(), TransactionId::try_from(bytes("transaction.id").as_slice()).unwrap());
    assert_eq!(codec::decode::<Invite>(&bytes("invite"), identity::INVITE_BYTES_MAX).unwrap(), invite());
    let root = bytes("root.chunk");
    let chunk = SealedChunk::verify(ChunkId::of(&root), root).unwrap();
    let key = chunk.root_key(sealer().secrets()).unwrap();
    assert_eq!(chunk.open_root(&key).unwrap(), b"root");
    assert!(Root::decode(&bytes("tree.root"), RECORD, Version(9)).is_ok());
    assert_eq!(Delta::decode(&bytes("delta"), []).unwrap().added.len(), 1);
}

fn journal(table: &mut Table) {
    for generation in [Generation(0), Generation(1)] {
        let key = seed().vault_secret(generation).journal_key(DeviceId::from_bytes([9; 32]), &[0x44; 32]);
        let cipher = SegmentCipher::new(&key, 5);
        let mut frame = Vec::new();
        cipher.seal_frame(7, b"plaintext", &mut frame);
        table.bytes(&format!("journal.g{generation}.frame"), frame);
        table.bytes(&format!("journal.g{generation}.header"), cipher.seal_header(b"header"));
    }
    table.bytes("journal.checksum", header_checksum(b"header"));
}
