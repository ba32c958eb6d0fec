//! Certificates: proof that more than two thirds of the voting power decided a block.
//!
//! Votes are plain Ed25519 signatures over bytes that are defined here, so that a client checks them
//! without a consensus engine.

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::codec;
use crate::crypto::sign::{self, Purpose, Signature};
use crate::ids::{BlockId, ChainId, Digest, Height, NodeId};

/// Most validators of a set: hospitals, not users. Bounds every certificate.
pub const VALIDATORS_MAX: usize = 256;
/// Most bytes of one certificate: 256 signatures and a bitmap fit.
pub const CERTIFICATE_BYTES_MAX: usize = 32 << 10;

/// One validator: a hospital's node and its voting power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Validator {
    /// Its key, which signs votes and is its libp2p identity.
    pub node: NodeId,
    /// Its voting power, at least 1.
    pub power: u64,
}

/// Validators in ascending order of their keys.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Vec<Validator>", into = "Vec<Validator>")]
pub struct ValidatorSet(Vec<Validator>);

impl ValidatorSet {
    /// The set of these validators.
    ///
    /// # Errors
    /// [`ValidatorSetError`]: none, too many, twice the same, no power, or power beyond 2^32.
    pub fn new(mut validators: Vec<Validator>) -> Result<Self, ValidatorSetError> {
        validators.sort_by_key(|validator| validator.node);
        if validators.is_empty() || validators.len() > VALIDATORS_MAX {
            return Err(ValidatorSetError::WrongCount { found: validators.len() });
        }
        if let Some(pair) = validators.windows(2).find(|pair| pair[0].node == pair[1].node) {
            return Err(ValidatorSetError::Twice { node: pair[0].node });
        }
        // 256 × 2^32 cannot overflow the sums below.
        match validators
            .iter()
            .find(|validator| validator.power == 0 || validator.power > u64::from(u32::MAX))
        {
            Some(bad) => Err(ValidatorSetError::BadPower { node: bad.node }),
            None => Ok(Self(validators)),
        }
    }

    /// The validators, ascending by key.
    pub fn as_slice(&self) -> &[Validator] {
        &self.0
    }

    /// The sum of all voting power.
    pub fn total_power(&self) -> u64 {
        self.0.iter().map(|validator| validator.power).sum()
    }

    /// Whether `power` is more than two thirds of all.
    pub fn is_quorum(&self, power: u64) -> bool {
        power * 3 > self.total_power() * 2
    }

    /// `BLAKE3-derive-key("IHFS 1 validator set", set)`: what headers name.
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(blake3::derive_key("IHFS 1 validator set", &codec::encode(self)))
    }
}

impl TryFrom<Vec<Validator>> for ValidatorSet {
    type Error = ValidatorSetError;

    fn try_from(validators: Vec<Validator>) -> Result<Self, ValidatorSetError> {
        Self::new(validators)
    }
}

impl From<ValidatorSet> for Vec<Validator> {
    fn from(set: ValidatorSet) -> Self {
        set.0
    }
}

/// Why validators do not make a set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidatorSetError {
    /// There must be 1 to [`VALIDATORS_MAX`].
    #[error("{found} validators, where 1 to {VALIDATORS_MAX} are allowed")]
    WrongCount {
        /// How many there were.
        found: usize,
    },
    /// A node stands there twice.
    #[error("validator {node:?} is named twice")]
    Twice {
        /// The node.
        node: NodeId,
    },
    /// Voting power is 1 to 2^32 − 1.
    #[error("validator {node:?} has no voting power or too much")]
    BadPower {
        /// The node.
        node: NodeId,
    },
}

/// The two kinds of vote of Tendermint consensus (Buchman, Kwon, Milosevic 2018, arXiv:1807.04938).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum VoteKind {
    /// "I have seen this proposal."
    #[serde(rename = "v")]
    Prevote,
    /// "I decide this proposal."
    #[serde(rename = "c")]
    Precommit,
}

/// The bytes that a vote signs; `None` is a vote for no block.
pub fn vote_bytes(
    chain: ChainId,
    kind: VoteKind,
    height: Height,
    round: u32,
    block: Option<BlockId>,
) -> Vec<u8> {
    codec::encode(&(chain, kind, height, round, block))
}

/// The bytes that a validator signs for [`Purpose::Freshness`]: "this is my newest block", over a nonce of the asker.
pub fn freshness_bytes(chain: ChainId, height: Height, block: BlockId, nonce: &[u8; 32]) -> Vec<u8> {
    codec::encode(&(chain, height, block, serde_bytes::Bytes::new(nonce)))
}

/// Precommits of a quorum for one block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Certificate {
    /// Height of the block.
    pub height: Height,
    /// Round of consensus in which it was decided.
    pub round: u32,
    /// The block.
    pub block: BlockId,
    /// One bit a validator in the order of the set, least significant bit first.
    #[serde(with = "serde_bytes")]
    pub signers: Vec<u8>,
    /// A signature for each bit that is set, in the same order.
    pub signatures: Vec<Signature>,
}

impl Certificate {
    /// Puts a certificate together from precommit signatures by validators of `set`.
    pub fn new(
        set: &ValidatorSet,
        height: Height,
        round: u32,
        block: BlockId,
        votes: &[(NodeId, Signature)],
    ) -> Self {
        let mut signers = vec![0; set.0.len().div_ceil(8)];
        let mut signatures = Vec::new();
        for (place, validator) in set.0.iter().enumerate() {
            if let Some((_, signature)) = votes.iter().find(|(node, _)| *node == validator.node) {
                signers[place / 8] |= 1 << (place % 8);
                signatures.push(*signature);
            }
        }
        Self { height, round, block, signers, signatures }
    }

    /// Checks that a quorum of `set` precommitted the block.
    ///
    /// # Errors
    /// [`CertificateError`]: shape, signature or voting power.
    pub fn verify(&self, chain: ChainId, set: &ValidatorSet) -> Result<(), CertificateError> {
        let signed: Vec<&Validator> = self.signing_validators(set)?;
        let bytes = vote_bytes(chain, VoteKind::Precommit, self.height, self.round, Some(self.block));
        for (validator, signature) in signed.iter().zip(&self.signatures) {
            sign::verify(validator.node.as_bytes(), Purpose::Vote, &bytes, signature)
                .map_err(|_| CertificateError::BadSignature { node: validator.node })?;
        }
        let power = signed.iter().map(|validator| validator.power).sum();
        if !set.is_quorum(power) {
            return Err(CertificateError::NoQuorum { power, total: set.total_power() });
        }
        Ok(())
    }

    fn signing_validators<'a>(&self, set: &'a ValidatorSet) -> Result<Vec<&'a Validator>, CertificateError> {
        let bit = |place: usize| self.signers.get(place / 8).is_some_and(|byte| byte >> (place % 8) & 1 == 1);
        let signed: Vec<_> =
            set.0.iter().enumerate().filter(|(place, _)| bit(*place)).map(|(_, v)| v).collect();
        let bits: u32 = self.signers.iter().map(|byte| byte.count_ones()).sum();
        let fits = self.signers.len() == set.0.len().div_ceil(8);
        if !fits || bits as usize != signed.len() || signed.len() != self.signatures.len() {
            return Err(CertificateError::WrongShape);
        }
        Ok(signed)
    }
}

/// Why a certificate proves nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The bitmap does not fit the validator set or the signatures.
    #[error("the certificate's bitmap does not fit the validator set")]
    WrongShape,
    /// A signature does not verify.
    #[error("the vote of validator {node:?} does not verify")]
    BadSignature {
        /// Whose vote it should be.
        node: NodeId,
    },
    /// Not more than two thirds of the voting power.
    #[error("{power} of {total} voting power signed, which is no quorum")]
    NoQuorum {
        /// How much signed.
        power: u64,
        /// How much there is.
        total: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::secret::Secret;
    use crate::crypto::sign::SigningKey;

    const CHAIN: ChainId = ChainId::from_bytes([1; 32]);
    const BLOCK: BlockId = BlockId::from_bytes([2; 32]);

    fn keys(count: u8) -> Vec<SigningKey> {
        (0..count).map(|number| SigningKey::from_seed(Secret::new([number; 32]))).collect()
    }

    fn set_of(keys: &[SigningKey]) -> ValidatorSet {
        let validator = |key: &SigningKey| Validator { node: NodeId::from_bytes(key.public()), power: 1 };
        ValidatorSet::new(keys.iter().map(validator).collect()).unwrap()
    }

    fn certificate(set: &ValidatorSet, signers: &[SigningKey]) -> Certificate {
        let bytes = vote_bytes(CHAIN, VoteKind::Precommit, Height(5), 0, Some(BLOCK));
        let vote = |key: &SigningKey| (NodeId::from_bytes(key.public()), key.sign(Purpose::Vote, &bytes));
        Certificate::new(set, Height(5), 0, BLOCK, &signers.iter().map(vote).collect::<Vec<_>>())
    }

    #[test]
    fn three_of_four_are_a_quorum_and_two_are_not() {
        let keys = keys(4);
        let set = set_of(&keys);
        assert_eq!(certificate(&set, &keys[..3]).verify(CHAIN, &set), Ok(()));
        let short = certificate(&set, &keys[..2]).verify(CHAIN, &set);
        assert_eq!(short, Err(CertificateError::NoQuorum { power: 2, total: 4 }));
    }

    #[test]
    fn a_certificate_of_another_chain_is_refused() {
        let keys = keys(1);
        let set = set_of(&keys);
        let elsewhere = ChainId::from_bytes([9; 32]);
        let refused = certificate(&set, &keys).verify(elsewhere, &set);
        assert!(matches!(refused, Err(CertificateError::BadSignature { .. })));
    }

    #[test]
    fn a_bit_without_a_validator_is_refused() {
        let keys = keys(1);
        let set = set_of(&keys);
        let mut forged = certificate(&set, &keys);
        forged.signers[0] |= 2;
        forged.signatures.push(Signature::from_bytes([0; 64]));
        assert_eq!(forged.verify(CHAIN, &set), Err(CertificateError::WrongShape));
    }
}
