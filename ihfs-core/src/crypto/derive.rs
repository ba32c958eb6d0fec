//! Every key derivation of IHFS, on one page.
//!
//! `derive(label; a, b, …) = BLAKE3-derive-key("IHFS 1 " ‖ label, a ‖ b ‖ …)` with parts of fixed length, and
//! `keyed(key; a, b, …) = BLAKE3-keyed-hash(key, a ‖ b ‖ …)` with all parts but the last of fixed length
//! (the BLAKE3 paper, sections 2.3 and 6). Passphrases go through Argon2id, RFC 9106.
//!
//! ```text
//! seed ─┬─ member key                                  (Ed25519, for life)
//!       └─ generation g ─┬─ vault secret[g] ┬ RK[record, e] ─┬─ dedup ── k of each piece
//!                        └─ X-Wing key[g]   │                ├─ root ─┬─ k_root of each root
//!                                           │                ├─ siv  ─┘
//!                                           │                └─ pad
//!                                           └ key of each segment of a journal
//! ```

use zeroize::Zeroize;

use crate::crypto::secret::Secret;
use crate::crypto::sign::SigningKey;
use crate::ids::{DeviceId, Digest, Epoch, Generation, RecordId, Version};

/// Argon2id: 64 MiB of memory and three passes, the second choice of RFC 9106, section 4.
const ARGON2_MEMORY_KIB: u32 = 64 << 10;
const ARGON2_PASSES: u32 = 3;
const ARGON2_LANES: u32 = 4;

/// The labels of all derivations; each is pinned by a test vector below.
mod label {
    pub const MEMBER_KEY: &str = "IHFS 1 member key";
    pub const VAULT_SECRET: &str = "IHFS 1 vault secret";
    pub const MEMBER_SEALING_KEY: &str = "IHFS 1 member sealing key";
    pub const RECORD_KEY: &str = "IHFS 1 record key";
    pub const DEDUP_SECRET: &str = "IHFS 1 dedup secret";
    pub const ROOT_SECRET: &str = "IHFS 1 root secret";
    pub const SIV_SECRET: &str = "IHFS 1 siv secret";
    pub const PAD_SECRET: &str = "IHFS 1 pad secret";
    pub const ROOT_KEY: &str = "IHFS 1 root key";
    pub const LOCAL_KEY: &str = "IHFS 1 local key";
    pub const JOURNAL_KEY: &str = "IHFS 1 journal key";
}

/// The 32 bytes of the recovery words. Never stored.
#[derive(Debug)]
pub struct Seed(pub(crate) Secret<[u8; 32]>);

/// What all record keys of one generation derive from.
#[derive(Debug)]
pub struct VaultSecret(pub(crate) Secret<[u8; 32]>);

/// The key of one record in one epoch.
#[derive(Debug)]
pub struct RecordKey(pub(crate) Secret<[u8; 32]>);

/// The key of one root: opens that version alone.
#[derive(Debug)]
pub struct RootKey(pub(crate) Secret<[u8; 32]>);

/// A key of this device's own files: cache, journal of a get, upload state.
#[derive(Debug)]
pub struct LocalKey(pub(crate) Secret<[u8; 32]>);

/// The key of one segment of a mount's journal on one device.
#[derive(Debug)]
pub struct JournalKey(pub(crate) Secret<[u8; 32]>);

/// The key of one piece. It stands in refs, inside sealed tree pages, and so is copied with them.
#[derive(Clone, PartialEq, Eq, zeroize::ZeroizeOnDrop)]
pub struct PieceKey(pub(crate) [u8; 32]);

/// What a piece holds; a part of its key, so that no piece can stand for one of another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// Bytes of a file.
    Content = 1,
    /// A page of a folder or of a file's list.
    TreePage = 2,
}

impl PieceKey {
    /// A digest to find equal keys by: `BLAKE3-derive-key("IHFS 1 piece key fingerprint", k)`.
    pub fn fingerprint(&self) -> Digest {
        Digest::from_bytes(blake3::derive_key("IHFS 1 piece key fingerprint", &self.0))
    }

    /// The key with these bytes, as they stand in a ref.
    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Debug for PieceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PieceKey(…)")
    }
}

impl Seed {
    /// `derive("member key"; seed)`: the member's Ed25519 key.
    pub fn member_key(&self) -> SigningKey {
        SigningKey::from_seed(derive(label::MEMBER_KEY, &[self.0.expose()]))
    }

    /// `derive("vault secret"; seed, g)`.
    pub fn vault_secret(&self, generation: Generation) -> VaultSecret {
        VaultSecret(derive(label::VAULT_SECRET, &[self.0.expose(), &generation.0.to_be_bytes()]))
    }

    /// `derive("member sealing key"; seed, g)`: seed of the member's X-Wing key of generation g.
    pub(crate) fn sealing_seed(&self, generation: Generation) -> Secret<[u8; 32]> {
        derive(label::MEMBER_SEALING_KEY, &[self.0.expose(), &generation.0.to_be_bytes()])
    }
}

impl VaultSecret {
    /// `RK[e] = derive("record key"; vault secret, record, e, salt[e])`.
    pub fn record_key(&self, record: RecordId, epoch: Epoch, salt: Digest) -> RecordKey {
        let parts: [&[u8]; 4] = [self.0.expose(), record.as_bytes(), &epoch.0.to_be_bytes(), salt.as_bytes()];
        RecordKey(derive(label::RECORD_KEY, &parts))
    }

    /// `derive("journal key"; vault secret, device, salt)`. `salt` must be fresh and random for each segment.
    pub fn journal_key(&self, device: DeviceId, salt: &[u8; 32]) -> JournalKey {
        JournalKey(derive(label::JOURNAL_KEY, &[self.0.expose(), device.as_bytes(), salt]))
    }
}

impl RecordKey {
    /// The secrets that seal under this record key.
    pub fn sealing_secrets(&self) -> SealingSecrets {
        let sub = |label| derive(label, &[self.0.expose()]);
        SealingSecrets {
            dedup: sub(label::DEDUP_SECRET),
            root: sub(label::ROOT_SECRET),
            siv: sub(label::SIV_SECRET),
            pad: sub(label::PAD_SECRET),
        }
    }
}

/// The four secrets of one record key, derived once for many pieces.
#[derive(Debug)]
pub struct SealingSecrets {
    dedup: Secret<[u8; 32]>,
    root: Secret<[u8; 32]>,
    siv: Secret<[u8; 32]>,
    pad: Secret<[u8; 32]>,
}

impl SealingSecrets {
    /// `k = keyed(dedup; format, log2 frame, padding, role, length, plaintext)`.
    pub fn piece_key(&self, format: [u8; 3], role: Role, plaintext: &[u8]) -> PieceKey {
        let mut hasher = blake3::Hasher::new_keyed(self.dedup.expose());
        hasher.update(&format).update(&[role as u8]);
        hasher.update(&(plaintext.len() as u64).to_be_bytes()).update(plaintext);
        PieceKey(*hasher.finalize().as_bytes())
    }

    /// `s = keyed(siv; record, epoch, version, plaintext)`.
    pub fn root_siv(&self, record: RecordId, epoch: Epoch, version: Version, plaintext: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(self.siv.expose());
        hasher.update(record.as_bytes()).update(&epoch.0.to_be_bytes()).update(&version.0.to_be_bytes());
        *hasher.update(plaintext).finalize().as_bytes()
    }

    /// `k_root = derive("root key"; root secret, s)`.
    pub fn root_key(&self, siv: &[u8; 32]) -> RootKey {
        RootKey(derive(label::ROOT_KEY, &[self.root.expose(), siv]))
    }

    /// Fills `padding` with the output of `keyed(pad; digest of what it pads)`, extended.
    pub fn pad(&self, padded: Digest, padding: &mut [u8]) {
        blake3::Hasher::new_keyed(self.pad.expose()).update(padded.as_bytes()).finalize_xof().fill(padding);
    }
}

/// `derive("local key"; device secret, purpose digest)`: keys of this device's own files.
pub fn local_key(device: &SigningKey, purpose: &str) -> LocalKey {
    LocalKey(derive(label::LOCAL_KEY, &[device.seed().expose(), Digest::of(purpose.as_bytes()).as_bytes()]))
}

/// `Argon2id(passphrase, salt; 64 MiB, 3 passes, 4 lanes)`, RFC 9106.
///
/// # Errors
/// The crate's own, when the passphrase is longer than 4 GiB or memory is short.
pub fn passphrase_key(passphrase: &[u8], salt: &[u8; 16]) -> Result<LocalKey, argon2::Error> {
    let params = argon2::Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES, Some(32))?;
    let mut key = [0; 32];
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(passphrase, salt, &mut key)?;
    let secret = Secret::new(key);
    key.zeroize();
    Ok(LocalKey(secret))
}

/// Labelled digest of a secret that the ledger keeps for every party to check:
/// `derive("digest of " ‖ what; secret)`.
pub fn commitment(what: Committed, bytes: &[u8]) -> Digest {
    Digest::from_bytes(blake3::derive_key(what.label(), bytes))
}

/// What a grant's digests commit to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The record key or root key that is granted.
    GrantedKey,
    /// The release key R.
    ReleaseKey,
    /// The outer envelope E'.
    Envelope,
    /// The note to the reader.
    Note,
    /// One key share.
    KeyShare,
}

impl Committed {
    const fn label(self) -> &'static str {
        match self {
            Self::GrantedKey => "IHFS 1 digest of granted key",
            Self::ReleaseKey => "IHFS 1 digest of release key",
            Self::Envelope => "IHFS 1 digest of envelope",
            Self::Note => "IHFS 1 digest of note",
            Self::KeyShare => "IHFS 1 digest of key share",
        }
    }
}

fn derive(label: &str, parts: &[&[u8]]) -> Secret<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_derive_key(label);
    for part in parts {
        hasher.update(part);
    }
    Secret::new(*hasher.finalize().as_bytes())
}
