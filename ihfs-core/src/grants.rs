//! What a grant hands over: a key in two envelopes, of which the reader opens one and the custodians the other.
//!
//! `E = HPKE-Seal(reader, key; chain, grant, record, epoch, reader)`, `E' = STREAM(R, E)`, R split among the
//! custodians. Every party checks its part by the digests on the ledger.

use rand_core::CryptoRng;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};
use zeroize::Zeroizing;

use crate::codec::{self, DecodeError};
use crate::crypto::derive::{Committed, RecordKey, RootKey, commitment};
use crate::crypto::envelope::{self, EnvelopeError, SealingKey};
use crate::crypto::seal::{self, WrongKey};
use crate::crypto::secret::Secret;
use crate::crypto::share::{KeyShare, ReleaseKey};
use crate::ids::{ChainId, Digest, Epoch, GrantId, MemberId, RecordId};
use crate::ledger::identity::SealingPublic;
use crate::ledger::operation::GrantDigests;
use crate::members::{HandleProof, label_commitment};

/// Most bytes of a label.
pub const LABEL_BYTES_MAX: usize = 255;
/// Most bytes of a note's plaintext: handle, label and their proofs.
const NOTE_BYTES_MAX: usize = 1024;
/// Bytes of the granted key's plaintext: its kind and 32 bytes.
const GRANTED_KEY_SIZE: usize = 33;
/// Most bytes of an outer envelope or a note; real ones have about 1,200 and 1,500.
pub const ENVELOPE_BYTES_MAX: usize = 4096;

/// What a grant opens.
#[derive(Debug)]
pub enum GrantedKey {
    /// Every retained version that was or will be sealed in the epoch.
    Record(RecordKey),
    /// One version alone.
    Snapshot(RootKey),
}

/// What a grant is about; both envelopes are bound to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantSubject {
    /// The chain.
    pub chain: ChainId,
    /// The grant.
    pub grant: GrantId,
    /// The record.
    pub record: RecordId,
    /// The epoch whose key it is.
    pub epoch: Epoch,
    /// The reader.
    pub reader: MemberId,
}

/// What the owner tells the reader of a grant, without an opening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Note {
    /// The owner's handle with its proof.
    pub owner: HandleProof,
    /// What the owner calls it.
    pub label: String,
    /// Blinds the label's commitment on the ledger.
    #[serde(with = "serde_bytes")]
    pub label_blind: [u8; 32],
}

impl Note {
    /// What the ledger keeps of the label.
    pub fn label_commitment(&self) -> Digest {
        label_commitment(&self.label, &self.label_blind)
    }
}

/// Everything that goes to the custodians, and what the ledger says of it.
#[derive(Debug)]
pub struct PreparedGrant {
    /// For the ledger.
    pub digests: GrantDigests,
    /// E', for every custodian.
    pub envelope: Vec<u8>,
    /// The note sealed to the reader, for every custodian.
    pub note: Vec<u8>,
    /// One for each custodian.
    pub shares: Vec<KeyShare>,
}

/// Why a grant did not open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// A part is not the one that the ledger commits to: the custodian's fault.
    #[error("grant {grant:?}: the {part} is not the one on the ledger")]
    WrongPart {
        /// The grant.
        grant: GrantId,
        /// Envelope, note or key.
        part: &'static str,
    },
    /// It does not open with the reader's key.
    #[error("grant {grant:?} is not sealed to this key")]
    NotForThisKey {
        /// The grant.
        grant: GrantId,
        /// Why.
        source: EnvelopeError,
    },
    /// It opened to something that is no key or no note: the owner's fault.
    #[error("grant {grant:?} holds something malformed")]
    Malformed {
        /// The grant.
        grant: GrantId,
        /// Why.
        source: DecodeError,
    },
}

impl GrantSubject {
    /// Seals `key` and `note` to the reader and splits the release key `threshold` of `custodians`.
    ///
    /// # Errors
    /// [`EnvelopeError::BadPublicKey`].
    pub fn prepare(
        &self,
        reader_key: &SealingPublic,
        key: &GrantedKey,
        note: &Note,
        (threshold, custodians): (u8, u8),
        random: &mut impl CryptoRng,
    ) -> Result<PreparedGrant, EnvelopeError> {
        let plaintext = key.to_bytes();
        let inner = envelope::seal(reader_key, &self.info("key"), &plaintext[..], random)?;
        let release = ReleaseKey::random(random);
        let mut outer = Vec::new();
        seal::seal_into(&release, &inner, &mut outer);
        let note = envelope::seal(reader_key, &self.info("note"), &codec::encode(note), random)?;
        let digests = GrantDigests {
            key: commitment(Committed::GrantedKey, &plaintext[..]),
            release: release.digest(),
            envelope: commitment(Committed::Envelope, &outer),
            note: commitment(Committed::Note, &note),
        };
        let shares = release.split(threshold, custodians, random);
        Ok(PreparedGrant { digests, envelope: outer, note, shares })
    }

    /// Opens the note.
    ///
    /// # Errors
    /// [`GrantError`].
    pub fn open_note(
        &self,
        key: &SealingKey,
        digests: &GrantDigests,
        note: &[u8],
    ) -> Result<Note, GrantError> {
        self.check("note", commitment(Committed::Note, note), digests.note)?;
        let plaintext = key.open(&self.info("note"), note).map_err(|source| self.not_for_this_key(source))?;
        codec::decode(&plaintext, NOTE_BYTES_MAX)
            .map_err(|source| GrantError::Malformed { grant: self.grant, source })
    }

    /// Opens the key with what the custodians released.
    ///
    /// # Errors
    /// [`GrantError`].
    pub fn open_key(
        &self,
        key: &SealingKey,
        release: &ReleaseKey,
        digests: &GrantDigests,
        envelope: &[u8],
    ) -> Result<GrantedKey, GrantError> {
        self.check("envelope", commitment(Committed::Envelope, envelope), digests.envelope)?;
        let inner = open_outer(release, envelope)
            .map_err(|_| GrantError::WrongPart { grant: self.grant, part: "release key" })?;
        let plaintext =
            key.open(&self.info("key"), &inner).map_err(|source| self.not_for_this_key(source))?;
        self.check("key", commitment(Committed::GrantedKey, &plaintext), digests.key)?;
        GrantedKey::from_bytes(&plaintext)
            .map_err(|source| GrantError::Malformed { grant: self.grant, source })
    }

    fn info(&self, part: &str) -> Vec<u8> {
        codec::encode(&("IHFS 1 grant", part, self.chain, self.grant, self.record, self.epoch, self.reader))
    }

    fn check(&self, part: &'static str, found: Digest, expected: Digest) -> Result<(), GrantError> {
        if found == expected { Ok(()) } else { Err(GrantError::WrongPart { grant: self.grant, part }) }
    }

    const fn not_for_this_key(&self, source: EnvelopeError) -> GrantError {
        GrantError::NotForThisKey { grant: self.grant, source }
    }
}

/// The inner envelope always has the same length, so its padded length tells nothing new.
fn open_outer(release: &ReleaseKey, outer: &[u8]) -> Result<Vec<u8>, WrongKey> {
    seal::open(release, outer, GRANTED_KEY_SIZE + envelope::ENVELOPE_OVERHEAD)
}

impl GrantedKey {
    /// Its kind and bytes: what the envelope holds, and what an agent of the same user keeps in memory.
    pub fn to_bytes(&self) -> Zeroizing<[u8; GRANTED_KEY_SIZE]> {
        let (kind, key) = match self {
            Self::Record(key) => (1, key.0.expose()),
            Self::Snapshot(key) => (2, key.0.expose()),
        };
        let mut bytes = Zeroizing::new([kind; GRANTED_KEY_SIZE]);
        bytes[1..].copy_from_slice(key);
        bytes
    }

    /// Reads what [`Self::to_bytes`] gave.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (kind, key) = bytes.split_first().ok_or(DecodeError::Malformed)?;
        let key = Secret::new(<[u8; 32]>::try_from(key).map_err(|_| DecodeError::Malformed)?);
        match kind {
            1 => Ok(Self::Record(RecordKey(key))),
            2 => Ok(Self::Snapshot(RootKey(key))),
            _ => Err(DecodeError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::members::Handle;

    const SUBJECT: GrantSubject = GrantSubject {
        chain: ChainId::from_bytes([1; 32]),
        grant: GrantId::from_bytes([2; 32]),
        record: RecordId::from_bytes([3; 32]),
        epoch: Epoch(4),
        reader: MemberId::from_bytes([5; 32]),
    };

    fn reader() -> SealingKey {
        SealingKey::from_seed(Secret::new([6; 32]))
    }

    fn note() -> Note {
        let owner = HandleProof { handle: Handle::parse("ann@st-mary").unwrap(), blind: [7; 32] };
        Note { owner, label: "ct".to_owned(), label_blind: [8; 32] }
    }

    fn prepared(random: &mut ChaCha20Rng) -> PreparedGrant {
        let key = GrantedKey::Record(RecordKey(Secret::new([9; 32])));
        SUBJECT.prepare(&reader().public(), &key, &note(), (3, 5), random).unwrap()
    }

    #[test]
    fn the_reader_with_three_key_shares_opens_the_key() {
        let grant = prepared(&mut ChaCha20Rng::from_seed([1; 32]));
        let release = ReleaseKey::combine(&grant.shares[1..4], 3, grant.digests.release).unwrap();
        let opened = SUBJECT.open_key(&reader(), &release, &grant.digests, &grant.envelope).unwrap();
        assert!(matches!(opened, GrantedKey::Record(RecordKey(key)) if key.expose() == &[9; 32]));
        assert!(ReleaseKey::combine(&grant.shares[..2], 3, grant.digests.release).is_err());
    }

    #[test]
    fn the_note_opens_without_a_key_share() {
        let grant = prepared(&mut ChaCha20Rng::from_seed([1; 32]));
        assert_eq!(SUBJECT.open_note(&reader(), &grant.digests, &grant.note), Ok(note()));
    }

    #[test]
    fn a_part_that_is_not_the_ledgers_is_named() {
        let random = &mut ChaCha20Rng::from_seed([1; 32]);
        let (grant, other) = (prepared(random), prepared(random));
        let release = ReleaseKey::combine(&grant.shares[..3], 3, grant.digests.release).unwrap();
        let wrong = SUBJECT.open_key(&reader(), &release, &grant.digests, &other.envelope).err();
        assert_eq!(wrong, Some(GrantError::WrongPart { grant: SUBJECT.grant, part: "envelope" }));
        let wrong = SUBJECT.open_note(&reader(), &grant.digests, &other.note).err();
        assert_eq!(wrong, Some(GrantError::WrongPart { grant: SUBJECT.grant, part: "note" }));
    }

    #[test]
    fn custodians_together_without_the_reader_open_nothing() {
        let grant = prepared(&mut ChaCha20Rng::from_seed([1; 32]));
        let release = ReleaseKey::combine(&grant.shares, 3, grant.digests.release).unwrap();
        let custodian = SealingKey::from_seed(Secret::new([66; 32]));
        let opened = SUBJECT.open_key(&custodian, &release, &grant.digests, &grant.envelope);
        assert!(matches!(opened, Err(GrantError::NotForThisKey { .. })));
    }

    #[test]
    fn an_envelope_of_another_grant_does_not_open() {
        let grant = prepared(&mut ChaCha20Rng::from_seed([1; 32]));
        let release = ReleaseKey::combine(&grant.shares, 3, grant.digests.release).unwrap();
        let elsewhere = GrantSubject { epoch: Epoch(5), ..SUBJECT };
        let opened = elsewhere.open_key(&reader(), &release, &grant.digests, &grant.envelope);
        assert!(matches!(opened, Err(GrantError::NotForThisKey { .. })));
    }
}
