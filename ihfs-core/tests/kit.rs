//! Malformed inputs: what each decoder says to bytes that a careless or dishonest writer may send.
//!
//! One row a case: its name, its bytes in hexadecimal digits, the decoder, the error. Whoever finds input that
//! a decoder takes wrongly adds a row here first.

use std::fmt::Debug;

use ihfs_core::codec::{self, DecodeError};
use ihfs_core::crypto::derive::{PieceKey, Role, Seed};
use ihfs_core::crypto::keyring::Keyring;
use ihfs_core::crypto::seal;
use ihfs_core::crypto::share::KeyShare;
use ihfs_core::crypto::sign::Signature;
use ihfs_core::cut::{Piece, cut};
use ihfs_core::dicom::Summary;
use ihfs_core::grants::{GrantedKey, Note};
use ihfs_core::ids::{ChunkId, Digest, Epoch, Generation, Height, MemberId, RecordId, Version};
use ihfs_core::ledger::block::{Block, HEADER_BYTES_MAX, Header};
use ihfs_core::ledger::certificate::{CERTIFICATE_BYTES_MAX, Certificate, ValidatorSet};
use ihfs_core::ledger::genesis::Genesis;
use ihfs_core::ledger::identity::{INVITE_BYTES_MAX, Invite, SealingPublic};
use ihfs_core::ledger::operation::{Custodian, Operation};
use ihfs_core::ledger::proof::StateProof;
use ihfs_core::ledger::transaction::SignedTransaction;
use ihfs_core::members::{Handle, HandleProof};
use ihfs_core::pins::Delta;
use ihfs_core::receipt::{RECEIPT_BYTES_MAX, Receipt};
use ihfs_core::sealed::{OpenError, Ref, SealedChunk, Sealer};
use ihfs_core::tree::entry::{Entry, Item, Metadata, Mode, Moment, SymlinkTarget, Xattrs};
use ihfs_core::tree::file::{Extent, FileContent};
use ihfs_core::tree::name::{Name, parse_path};
use ihfs_core::tree::root::Root;

const RECORD: RecordId = RecordId::from_bytes([0x22; 32]);

/// Name, bytes, decoder, error.
type Case = (&'static str, String, Decoder, &'static str);
/// What a decoder says: the error, or that it took the bytes.
type Decoder = fn(&[u8]) -> String;

fn told<T, E: Debug>(result: Result<T, E>) -> String {
    result.map_or_else(|error| format!("{error:?}"), |_| "accepted".to_owned())
}

fn decoded<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) -> String {
    told(codec::decode::<T>(bytes, 1 << 16))
}

/// A CBOR byte string of 32 equal bytes.
fn id(byte: &str) -> String {
    format!("5820{}", byte.repeat(32))
}

fn run(cases: Vec<Case>) {
    let wrong: Vec<String> = cases
        .into_iter()
        .filter_map(|(name, bytes, decode, expected)| {
            let found = decode(&hex::decode(bytes).unwrap());
            (found != expected).then(|| format!("{name}: {found}, expected {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn identifiers_in_bytes_text_and_cids() {
    let bytes: Decoder = |bytes| told(MemberId::try_from(bytes));
    let text: Decoder = |text| told(std::str::from_utf8(text).unwrap().parse::<MemberId>());
    let cid: Decoder = |cid| told(ChunkId::from_cid(&cid::Cid::try_from(cid).unwrap()));
    let digest = "ab".repeat(32);
    run(vec![
        ("no bytes", String::new(), bytes, "WrongLength { found: 0 }"),
        ("31 bytes", "00".repeat(31), bytes, "WrongLength { found: 31 }"),
        ("33 bytes", "00".repeat(33), bytes, "WrongLength { found: 33 }"),
        ("letter g", hex::encode("g".repeat(64)), text, "NotHex"),
        ("63 digits", hex::encode("a".repeat(63)), text, "NotHex"),
        ("62 digits", hex::encode("a".repeat(62)), text, "WrongLength { found: 31 }"),
        ("a space in front", hex::encode(format!(" {}", "a".repeat(64))), text, "NotHex"),
        (
            "an id in a shorter byte string",
            format!("581f{}", "00".repeat(31)),
            decoded::<ChunkId>,
            "Malformed",
        ),
        ("an id as a list of integers", format!("9820{}", "00".repeat(32)), decoded::<ChunkId>, "Malformed"),
        ("an id as text", format!("7820{}", "61".repeat(32)), decoded::<ChunkId>, "Malformed"),
        ("CIDv1 of DAG-CBOR", format!("01711e20{digest}"), cid, "NotAChunkCid"),
        ("CIDv1 of SHA-256", format!("01551220{digest}"), cid, "NotAChunkCid"),
        ("CIDv0", format!("1220{digest}"), cid, "NotAChunkCid"),
        ("CIDv1 of 16 bytes", format!("01551e10{}", "ab".repeat(16)), cid, "WrongLength { found: 16 }"),
    ]);
}

#[test]
fn dag_cbor() {
    run(vec![
        ("no bytes", String::new(), decoded::<u64>, "Malformed"),
        ("a head cut short", "18".into(), decoded::<u64>, "Malformed"),
        ("7 in two bytes", "1807".into(), decoded::<u64>, "Malformed"),
        ("7 in nine bytes", "1b0000000000000007".into(), decoded::<u64>, "Malformed"),
        ("a byte behind", "0707".into(), decoded::<u64>, "Malformed"),
        ("a negative number", "20".into(), decoded::<u64>, "Malformed"),
        ("2^32 for an epoch", "1b0000000100000000".into(), decoded::<Epoch>, "Malformed"),
        ("a float", "fb4000000000000000".into(), decoded::<Height>, "Malformed"),
        ("a list without an end", "9f07ff".into(), decoded::<Vec<u64>>, "Malformed"),
        ("a length in two bytes", "980107".into(), decoded::<Vec<u64>>, "Malformed"),
        ("a list longer than its bytes", "9bffffffffffffffff".into(), decoded::<Vec<u64>>, "Malformed"),
        ("a text that is not UTF-8", "61ff".into(), decoded::<String>, "Malformed"),
        ("a text of unknown length", "7f6161ff".into(), decoded::<String>, "NotCanonical"),
        ("a tag", "c107".into(), decoded::<u64>, "Malformed"),
        ("undefined for nothing", "f7".into(), decoded::<Option<u64>>, "Malformed"),
        ("a map for a tuple", "a0".into(), decoded::<(u64, u64)>, "Malformed"),
        ("a tuple too long", "83010203".into(), decoded::<(u64, u64)>, "Malformed"),
        ("a tuple too short", "8101".into(), decoded::<(u64, u64)>, "Malformed"),
    ]);
}

/// Deep nesting must end in an error and not in the end of the stack.
#[test]
fn a_hundred_thousand_nested_lists() {
    let nested = vec![0x81; 100_000];
    assert_eq!(codec::decode::<Genesis>(&nested, 1 << 20), Err(DecodeError::Malformed));
    assert_eq!(codec::decode::<Operation>(&nested, 1 << 20), Err(DecodeError::Malformed));
    let tags = vec![0xc1; 100_000];
    assert_eq!(codec::decode::<Genesis>(&tags, 1 << 20), Err(DecodeError::Malformed));
}

#[test]
fn keys_shares_and_signatures() {
    let granted: Decoder = |bytes| told(GrantedKey::from_bytes(bytes));
    let keyring: Decoder = |bytes| told(Keyring::from_secret_bytes(bytes));
    let head = hex::encode("IHFSKEY");
    let file: Decoder = |bytes| told(Keyring::open(bytes, b""));
    run(vec![
        ("no granted key", String::new(), granted, "Malformed"),
        ("a granted key of kind 0", format!("00{}", "11".repeat(32)), granted, "Malformed"),
        ("a granted key of kind 3", format!("03{}", "11".repeat(32)), granted, "Malformed"),
        ("a granted key of 31 bytes", format!("01{}", "11".repeat(31)), granted, "Malformed"),
        ("a piece key of 33 bytes", format!("5821{}", "11".repeat(33)), decoded::<PieceKey>, "Malformed"),
        ("a key share of 32 bytes", format!("5820{}", "11".repeat(32)), decoded::<KeyShare>, "Malformed"),
        ("a signature of 63 bytes", format!("583f{}", "11".repeat(63)), decoded::<Signature>, "Malformed"),
        ("an X-Wing key of 32 bytes", id("11"), decoded::<SealingPublic>, "Malformed"),
        ("no keyring", String::new(), file, "NotAKeyring"),
        ("another file", "504b0304".repeat(8), file, "NotAKeyring"),
        ("a keyring cut in its salt", format!("{head}31{}", "00".repeat(15)), file, "NotAKeyring"),
        (
            "a keyring of format 2",
            format!("{head}32{}", "00".repeat(64)),
            file,
            "UnknownFormat { found: '2' }",
        ),
        ("a keyring without a tag", format!("{head}31{}", "00".repeat(16)), file, "WrongPassphrase"),
        ("a keyring of zeros", format!("{head}31{}", "00".repeat(96)), file, "WrongPassphrase"),
        ("a keyring too long", format!("{head}31{}", "00".repeat(256 << 10)), file, "NotAKeyring"),
        ("an empty plain keyring", String::new(), keyring, "Damaged(Malformed)"),
        (
            "a plain keyring of another shape",
            "86".to_owned() + &"80".repeat(6),
            keyring,
            "Damaged(Malformed)",
        ),
    ]);
}

fn sealer() -> Sealer {
    let vault = Seed::from_random([0x55; 32]).vault_secret(Generation(1));
    Sealer::new(RECORD, Epoch(7), &vault.record_key(RECORD, Epoch(7), Digest::of(b"salt")))
}

fn stored(bytes: Vec<u8>) -> SealedChunk {
    SealedChunk::verify(ChunkId::of(&bytes), bytes).unwrap()
}

#[test]
fn sealed_chunks() {
    let (at, chunk) = sealer().seal_chunk(Role::Content, &[7; 100_000]);
    let id = chunk.id();
    let wrong_key = Err(OpenError::WrongKey { id });
    for bad in [
        Ref { offset: 1, ..at.clone() },
        Ref { offset: u32::MAX, ..at.clone() },
        Ref { size: at.size - 1, ..at.clone() },
        // Within its padding class a size is believed: only who holds the key writes refs.
        Ref { size: at.size + 5_000, ..at.clone() },
        Ref { size: u32::MAX, offset: u32::MAX, ..at.clone() },
        Ref { key: sealer().piece_key(Role::TreePage, &[7; 100_000]), ..at.clone() },
    ] {
        assert_eq!(chunk.open(&bad), wrong_key, "{bad:?}");
        assert!(bad.key == at.key || chunk.open_range(&bad, 0, 1).is_err(), "{bad:?}");
    }
    for (start, length) in [(100_000, 1), (0, 100_001), (usize::MAX, 2), (2, usize::MAX)] {
        assert_eq!(chunk.open_range(&at, start, length), wrong_key, "{start} {length}");
    }
    let mut changed = chunk.bytes().to_vec();
    changed[99_999] ^= 0x80;
    let wrong = SealedChunk::verify(id, changed.clone());
    assert_eq!(wrong, Err(OpenError::WrongAddress { expected: id, actual: ChunkId::of(&changed) }));
    let changed = stored(changed);
    assert_eq!(changed.open(&at), Err(OpenError::WrongKey { id: changed.id() }));
}

#[test]
fn sealed_roots() {
    let key = sealer().secrets().root_key(&[0; 32]);
    for bytes in [vec![], vec![0; 31], vec![0; 32], vec![0; 47], vec![0; 100]] {
        let chunk = stored(bytes);
        assert_eq!(chunk.open_root(&key), Err(OpenError::WrongKey { id: chunk.id() }));
    }
    for plaintext in [&b""[..], b"\0\0\0", b"\0\0\0\x01", b"\xff\xff\xff\xff", b"\0\0\0\x01ab"] {
        let mut bytes = vec![0; 32];
        seal::seal_into(&key, plaintext, &mut bytes);
        let chunk = stored(bytes);
        let malformed = OpenError::Malformed { id: chunk.id(), source: DecodeError::Malformed };
        assert_eq!(chunk.open_root(&key), Err(malformed), "{plaintext:?}");
    }
}

#[test]
fn roots_entries_and_names() {
    let root: Decoder = |bytes| told(Root::decode(bytes, RECORD, Version(9)));
    let path: Decoder = |bytes| told(parse_path(bytes));
    let name: Decoder = |bytes| told(Name::new(bytes));
    run(vec![
        ("no root", String::new(), root, "Decode(Malformed)"),
        ("a root of format 2", "820240".into(), root, "UnknownFormat { found: 2 }"),
        ("a root without a body", "820140".into(), root, "Decode(Malformed)"),
        ("a root whose body is a list", "82014180".into(), root, "Decode(Malformed)"),
        ("an empty name", String::new(), name, "Empty"),
        ("a name with a slash", hex::encode("a/b"), name, "Forbidden"),
        ("a name with NUL", "610062".into(), name, "Forbidden"),
        ("the folder itself", hex::encode("."), name, "Dots"),
        ("the folder above", hex::encode(".."), name, "Dots"),
        ("a name of 256 bytes", "61".repeat(256), name, "TooLong { found: 256 }"),
        ("a path with ..", hex::encode("/a/../b"), path, "Dots"),
        ("a path with .", hex::encode("./b"), path, "Dots"),
        ("a path of 513 names", hex::encode("/a".repeat(513)), path, "TooDeep { found: 513 }"),
        ("an encoded name with a slash", "43612f62".into(), decoded::<Name>, "Malformed"),
        ("an encoded name as text", "6161".into(), decoded::<Name>, "Malformed"),
        ("a mode beyond 7777", "191000".into(), decoded::<Mode>, "Malformed"),
        ("a moment of a second of nanoseconds", "82001a3b9aca00".into(), decoded::<Moment>, "Malformed"),
        ("a symlink to nothing", "40".into(), decoded::<SymlinkTarget>, "Malformed"),
        ("a symlink with NUL", "4100".into(), decoded::<SymlinkTarget>, "Malformed"),
        ("attributes out of order", "82824162408241614 0".replace(' ', ""), decoded::<Xattrs>, "Malformed"),
        ("an attribute twice", "828241614082416140".into(), decoded::<Xattrs>, "Malformed"),
        ("an attribute without a name", "81824040".into(), decoded::<Xattrs>, "Malformed"),
        ("an extent of no bytes", "a1616800".into(), decoded::<Extent>, "Malformed"),
        ("an extent of an unknown kind", "a1617801".into(), decoded::<Extent>, "Malformed"),
        ("an extent beyond a file", "a161681bffffffffffffffff".into(), decoded::<Extent>, "Malformed"),
        (
            "content of five extents",
            format!("a1616585{}", "a1616801".repeat(5)),
            decoded::<FileContent>,
            "Malformed",
        ),
        ("an entry of another shape", "80".into(), decoded::<Entry>, "Malformed"),
        ("an item of another shape", "83010203".into(), decoded::<Item>, "Malformed"),
        ("metadata of another shape", "80".into(), decoded::<Metadata>, "Malformed"),
    ]);
}

#[test]
fn deltas() {
    let delta: Decoder = |bytes| told(Delta::decode(bytes, []));
    let (low, high) = (id("11"), id("22"));
    run(vec![
        ("no delta", String::new(), delta, "Decode(Malformed)"),
        ("a delta of format 2", "8402840000000080828080".into(), delta, "UnknownFormat { found: 2 }"),
        (
            "a part too many",
            format!("8401840000000081{low}828080"),
            delta,
            "PartCount { expected: 0, found: 1 }",
        ),
        (
            "sums beyond all parts",
            "8401841bffffffffffffffff050000 80828080".replace(' ', ""),
            delta,
            "PartCount { expected: 1125899906842623, found: 0 }",
        ),
        (
            "fewer pins than the sums",
            "8401840105000080828080".into(),
            delta,
            "PinCount { expected: 1, found: 0 }",
        ),
        (
            "drops out of order",
            format!("84018400000202808282 82{high}01 82{low}01 80").replace(' ', ""),
            delta,
            "NotSorted",
        ),
        (
            "a drop twice",
            format!("84018400000202808282 82{low}01 82{low}01 80").replace(' ', ""),
            delta,
            "NotSorted",
        ),
        (
            "additions out of order",
            format!("8401840202000080828082 82{high}01 82{low}01").replace(' ', ""),
            delta,
            "NotSorted",
        ),
        (
            "a chunk of no bytes",
            format!("8401840100000080828081 82{low}00").replace(' ', ""),
            delta,
            "ChunkSize { chunk: 11111111, size_bytes: 0 }",
        ),
        (
            "a chunk beyond its most",
            format!("840184011a00200000000080828081 82{low}1a00200000").replace(' ', ""),
            delta,
            "ChunkSize { chunk: 11111111, size_bytes: 2097152 }",
        ),
        (
            "sums that do not add up",
            format!("8401840106000080828081 82{low}05").replace(' ', ""),
            delta,
            "WrongSums",
        ),
    ]);
}

#[test]
fn ledger_documents() {
    let genesis: Decoder = |bytes| told(Genesis::from_bytes(bytes));
    let proof: Decoder = |bytes| told(StateProof::from_bytes(bytes));
    let proved: Decoder = |bytes| {
        told(StateProof::from_bytes(bytes).and_then(|proof| proof.verify(Digest::of(b""), b"key", None)))
    };
    let signed: Decoder = |bytes| told(SignedTransaction::from_bytes(bytes));
    let opened: Decoder = |bytes| told(SignedTransaction::from_bytes(bytes).unwrap().open());
    let header: Decoder = |bytes| told(codec::decode::<Header>(bytes, HEADER_BYTES_MAX));
    let certificate: Decoder = |bytes| told(codec::decode::<Certificate>(bytes, CERTIFICATE_BYTES_MAX));
    let receipt: Decoder = |bytes| told(codec::decode::<Receipt>(bytes, RECEIPT_BYTES_MAX));
    let invite: Decoder = |bytes| told(codec::decode::<Invite>(bytes, INVITE_BYTES_MAX));
    let signature = format!("5840{}", "00".repeat(64));
    let validator = format!("82{}01", id("11"));
    let transaction = |format: &str, operations: &str| {
        let body = format!("87{format}{0}{0}{0}00{0}{operations}", id("11"));
        format!("8258{:02x}{body}{signature}", body.len() / 2)
    };
    run(vec![
        ("no genesis", String::new(), genesis, "Decode(Malformed)"),
        ("a genesis of another shape", "80".into(), genesis, "Decode(Malformed)"),
        ("no proof", String::new(), proof, "Decode(Malformed)"),
        ("a proof without siblings", "81f6".into(), proof, "Decode(Malformed)"),
        ("a proof too long", "00".repeat(10_241), proof, "Decode(TooLong { found: 10241, limit: 10240 })"),
        ("a proof of the empty state", "82f680".into(), proved, "WrongRoot"),
        (
            "a path longer than a key",
            format!("82f6990101{}", "f6".repeat(257)),
            proved,
            "TooDeep { found: 257 }",
        ),
        ("a leaf that is the key", format!("8282{}{}80", id("11"), id("22")), proved, "WrongRoot"),
        ("no transaction", String::new(), signed, "Malformed"),
        ("a transaction without a signature", "8140".into(), signed, "Malformed"),
        ("an empty transaction", format!("8240{signature}"), opened, "Decode(Malformed)"),
        ("a transaction of format 2", transaction("02", "8165726573657276"), opened, "Decode(Malformed)"),
        ("a transaction of no operations", transaction("01", "80"), opened, "WrongCount { found: 0 }"),
        (
            "a transaction of format 3 without any",
            transaction("03", "80"),
            opened,
            "UnknownFormat { found: 3 }",
        ),
        ("no header", String::new(), header, "Malformed"),
        ("a header too long", "00".repeat(1025), header, "TooLong { found: 1025, limit: 1024 }"),
        ("a block of another shape", "8180".into(), decoded::<Block>, "Malformed"),
        ("a certificate without signers", "8500 00".replace(' ', ""), certificate, "Malformed"),
        (
            "a certificate with short signatures",
            format!("850000{}4101 814100", id("11")).replace(' ', ""),
            certificate,
            "Malformed",
        ),
        ("no validators", "80".into(), decoded::<ValidatorSet>, "Malformed"),
        ("a validator twice", format!("82{validator}{validator}"), decoded::<ValidatorSet>, "Malformed"),
        ("a validator without power", format!("8182{}00", id("11")), decoded::<ValidatorSet>, "Malformed"),
        (
            "validators out of order",
            format!("8282{}0182{}01", id("22"), id("11")),
            decoded::<ValidatorSet>,
            "NotCanonical",
        ),
        ("no receipt", String::new(), receipt, "Malformed"),
        ("a receipt too long", "00".repeat(257), receipt, "TooLong { found: 257, limit: 256 }"),
        ("no invite", String::new(), invite, "Malformed"),
        ("an invite too long", "00".repeat(1025), invite, "TooLong { found: 1025, limit: 1024 }"),
        ("an operation of an unknown name", "a1637a7a7a80".into(), decoded::<Operation>, "Malformed"),
        ("two operations in one map", "a2617a80617980".into(), decoded::<Operation>, "Malformed"),
    ]);
}

#[test]
fn handles_and_notes() {
    let handle: Decoder = |text| told(Handle::parse(std::str::from_utf8(text).unwrap()));
    run(vec![
        ("an empty handle", String::new(), handle, "WrongLength"),
        ("a handle of 129 bytes", "61".repeat(129), handle, "WrongLength"),
        ("a handle in capitals", hex::encode("Dr.Lee@st-mary"), handle, "WrongLetter"),
        ("a handle with two hospitals", hex::encode("a@b@c"), handle, "WrongLetter"),
        ("a handle without a name", hex::encode("@b"), handle, "WrongLetter"),
        ("a handle with a letter that looks alike", hex::encode("dr.l\u{0435}e"), handle, "WrongLetter"),
        ("a handle with a line break", hex::encode("a\nb"), handle, "WrongLetter"),
        ("an encoded handle in capitals", "6141".into(), decoded::<Handle>, "Malformed"),
        ("a proof with a short blind", "82616140".into(), decoded::<HandleProof>, "Malformed"),
        ("a note without a label", "8182616140".into(), decoded::<Note>, "Malformed"),
    ]);
}

/// Every document of the table of vectors, cut anywhere or with a byte behind, decodes to nothing.
#[test]
fn pinned_documents_cut_short_or_made_longer() {
    let documents: [(&str, Decoder); 11] = [
        ("invite", decoded::<Invite>),
        ("transaction", decoded::<SignedTransaction>),
        ("header", decoded::<Header>),
        ("certificate", decoded::<Certificate>),
        ("validators", decoded::<ValidatorSet>),
        ("receipt", decoded::<Receipt>),
        ("handle.proof", decoded::<HandleProof>),
        ("grant.custodian", decoded::<Custodian>),
        ("grant.note.plaintext", decoded::<Note>),
        ("tree.file", decoded::<FileContent>),
        ("chunk.content.ref", decoded::<Ref>),
    ];
    for (name, decode) in documents {
        let bytes = pinned(name);
        assert_eq!(decode(&bytes), "accepted", "{name}");
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), "Malformed", "{name} cut to {length}");
        }
        assert_eq!(decode(&[bytes, vec![0]].concat()), "Malformed", "{name} with a byte behind");
    }
}

#[test]
fn a_root_of_another_record_or_version_is_named() {
    let bytes = pinned("tree.root");
    let elsewhere = RecordId::from_bytes([0x99; 32]);
    let named = "WrongRecord { record: 22222222, version: Version(9) }";
    assert_eq!(told(Root::decode(&bytes, elsewhere, Version(9))), named);
    assert_eq!(told(Root::decode(&bytes, RECORD, Version(8))), named);
}

fn pinned(name: &str) -> Vec<u8> {
    let lines = include_str!("vectors/format-1.txt").lines();
    let value = lines.filter_map(|line| line.split_once(' ')).find(|(found, _)| *found == name);
    hex::decode(value.unwrap().1).unwrap()
}

/// Not quite DICOM is never an error: it is cut plainly, and nothing is lost.
#[test]
fn files_that_claim_to_be_dicom() {
    let preamble = |rest: &[u8]| [&[0; 128], b"DICM".as_slice(), rest].concat();
    for bytes in [
        vec![],
        b"DICM".to_vec(),
        preamble(b""),
        preamble(b"\x02\x00\x00\x00UL\x04\x00\xff\xff\xff\xff"),
        preamble(b"\x02\x00\x10\x00UI\xff\xff1.2"),
        preamble(b"\xe0\x7f\x10\x00OW\x00\x00\xff\xff\xff\xff"),
        preamble(&[0xff; 4000]),
    ] {
        let pieces: Vec<Piece> = cut(bytes.as_slice()).unwrap().pieces().collect();
        let ends = pieces.iter().scan(0, |end, piece| {
            let starts_there = piece.start == *end;
            *end += u64::from(piece.length);
            Some(starts_there)
        });
        assert!(ends.into_iter().all(|fits| fits), "{} bytes", bytes.len());
        assert_eq!(pieces.iter().map(|piece| u64::from(piece.length)).sum::<u64>(), bytes.len() as u64);
        assert!(Summary::read(&bytes).is_none_or(|_| bytes.len() > 132));
    }
}
