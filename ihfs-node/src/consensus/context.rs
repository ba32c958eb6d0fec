//! The types by which the consensus engine speaks of our heights, blocks, validators and votes.
//!
//! Thin wraps of `ihfs_core`; the engine never sees a block, only its id.

use std::convert::Infallible;
use std::fmt;

use arc_malachitebft_core_types as engine;
use engine::{LinearTimeouts, NilOrVal, Round, VoteType, VotingPower};
use ihfs_core::crypto::sign::Signature;
use ihfs_core::ids::{BlockId, Height, NodeId};
use ihfs_core::ledger::certificate::ValidatorSet;

/// Names the types below to the engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ledger;

pub(crate) type EngineVote = engine::SignedVote<Ledger>;
pub(crate) type EngineProposal = engine::SignedProposal<Ledger>;

/// A validator's address and key are one: its Ed25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address(pub(crate) NodeId);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl engine::Address for Address {}

/// A height of the ledger; genesis is 0, the first block 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tall(pub(crate) Height);

impl fmt::Display for Tall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl engine::Height for Tall {
    const ZERO: Self = Self(Height(0));
    const INITIAL: Self = Self(Height(1));

    fn increment_by(&self, n: u64) -> Self {
        Self(Height(self.0.0.saturating_add(n)))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.0.checked_sub(n).map(|height| Self(Height(height)))
    }

    fn as_u64(&self) -> u64 {
        self.0.0
    }
}

/// What is decided: a block, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Value(pub(crate) BlockId);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl engine::Value for Value {
    type Id = Self;

    fn id(&self) -> Self {
        *self
    }
}

/// Blocks travel in one piece beside their proposal, so a part is always the only one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WholeBlock;

impl engine::ProposalPart<Ledger> for WholeBlock {
    fn is_first(&self) -> bool {
        true
    }

    fn is_last(&self) -> bool {
        true
    }
}

/// A proposal of a block, not yet signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) height: Tall,
    pub(crate) round: Round,
    pub(crate) value: Value,
    pub(crate) polka: Round,
    pub(crate) proposer: Address,
}

impl engine::Proposal<Ledger> for Proposal {
    fn height(&self) -> Tall {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &Value {
        &self.value
    }

    fn take_value(self) -> Value {
        self.value
    }

    fn pol_round(&self) -> Round {
        self.polka
    }

    fn validator_address(&self) -> &Address {
        &self.proposer
    }
}

/// A vote, not yet signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vote {
    pub(crate) kind: VoteType,
    pub(crate) height: Tall,
    pub(crate) round: Round,
    pub(crate) value: NilOrVal<Value>,
    pub(crate) validator: Address,
}

impl engine::Vote<Ledger> for Vote {
    fn height(&self) -> Tall {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<Value> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<Value> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &Address {
        &self.validator
    }

    fn extension(&self) -> Option<&engine::SignedExtension<Ledger>> {
        None
    }

    fn take_extension(&mut self) -> Option<engine::SignedExtension<Ledger>> {
        None
    }

    /// Votes carry no extensions: the policy is `Disabled` at every height.
    fn extend(self, _extension: engine::SignedExtension<Ledger>) -> Self {
        self
    }
}

/// A validator as the engine counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    address: Address,
    power: VotingPower,
}

impl engine::Validator<Ledger> for Member {
    fn address(&self) -> &Address {
        &self.address
    }

    fn public_key(&self) -> &Address {
        &self.address
    }

    fn voting_power(&self) -> VotingPower {
        self.power
    }
}

/// The validators of a height, ascending by key as in the ledger's own set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Members(Vec<Member>);

impl From<&ValidatorSet> for Members {
    fn from(set: &ValidatorSet) -> Self {
        let member = |validator: &ihfs_core::ledger::certificate::Validator| Member {
            address: Address(validator.node),
            power: validator.power,
        };
        Self(set.as_slice().iter().map(member).collect())
    }
}

impl engine::ValidatorSet<Ledger> for Members {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn total_voting_power(&self) -> VotingPower {
        self.0.iter().map(|member| member.power).sum()
    }

    fn get_by_address(&self, address: &Address) -> Option<&Member> {
        self.0.binary_search_by_key(address, |member| member.address).ok().map(|place| &self.0[place])
    }

    fn get_by_index(&self, index: usize) -> Option<&Member> {
        self.0.get(index)
    }
}

/// Ed25519 through `ihfs_core`; private keys stay outside of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ed25519;

/// An Ed25519 signature with the order that the engine asks for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EngineSignature([u8; 64]);

impl fmt::Debug for EngineSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Signature::from(*self).fmt(f)
    }
}

impl From<Signature> for EngineSignature {
    fn from(signature: Signature) -> Self {
        Self(*signature.as_bytes())
    }
}

impl From<EngineSignature> for Signature {
    fn from(signature: EngineSignature) -> Self {
        Self::from_bytes(signature.0)
    }
}

/// The bytes are no signature or key. The engine asks for such decoding but never calls it here.
#[derive(Debug, thiserror::Error)]
#[error("{found} bytes are no signature or key")]
pub(crate) struct WrongLength {
    found: usize,
}

impl engine::SigningScheme for Ed25519 {
    type DecodingError = WrongLength;
    type Signature = EngineSignature;
    type PublicKey = Address;
    type PrivateKey = Infallible;

    fn decode_signature(bytes: &[u8]) -> Result<EngineSignature, WrongLength> {
        bytes.try_into().map(EngineSignature).map_err(|_| WrongLength { found: bytes.len() })
    }

    fn encode_signature(signature: &EngineSignature) -> Vec<u8> {
        signature.0.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<Address, WrongLength> {
        NodeId::try_from(bytes).map(Address).map_err(|_| WrongLength { found: bytes.len() })
    }

    fn encode_public_key(public_key: &Address) -> Vec<u8> {
        public_key.0.as_bytes().to_vec()
    }
}

impl engine::Context for Ledger {
    type Address = Address;
    type Height = Tall;
    type ProposalPart = WholeBlock;
    type Proposal = Proposal;
    type Validator = Member;
    type ValidatorSet = Members;
    type Timeouts = LinearTimeouts;
    type Value = Value;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Ed25519;

    fn select_proposer<'a>(&self, set: &'a Members, height: Tall, round: Round) -> &'a Member {
        proposer(set, height.0, round.as_u32().unwrap_or(0))
    }

    fn new_proposal(&self, height: Tall, round: Round, value: Value, polka: Round, by: Address) -> Proposal {
        Proposal { height, round, value, polka, proposer: by }
    }

    fn new_prevote(&self, height: Tall, round: Round, value: NilOrVal<Value>, by: Address) -> Vote {
        Vote { kind: VoteType::Prevote, height, round, value, validator: by }
    }

    fn new_precommit(&self, height: Tall, round: Round, value: NilOrVal<Value>, by: Address) -> Vote {
        Vote { kind: VoteType::Precommit, height, round, value, validator: by }
    }
}

/// Who proposes at a height and round.
///
/// Round 0 goes round by voting power: heights with their bits reversed spread evenly over the powers
/// laid end to end (van der Corput's sequence), so any run of heights gives each validator its share.
/// Later rounds take the validators after it in order, so that one that is down never proposes twice in
/// a row.
fn proposer(set: &Members, height: Height, round: u32) -> &Member {
    let total: u64 = set.0.iter().map(|member| member.power).sum();
    let spread = u128::from(height.0.reverse_bits()) * u128::from(total);
    let mut slot = u64::try_from(spread >> 64).expect("a fraction of the total power");
    let mut place = 0;
    while slot >= set.0[place].power {
        slot -= set.0[place].power;
        place += 1;
    }
    let rounds = usize::try_from(round).expect("rounds fit the machine") % set.0.len();
    &set.0[(place + rounds) % set.0.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn members(powers: &[u64]) -> Members {
        let member = |(number, power): (usize, &u64)| Member {
            address: Address(NodeId::from_bytes([u8::try_from(number).unwrap(); 32])),
            power: *power,
        };
        Members(powers.iter().enumerate().map(member).collect())
    }

    #[test]
    fn proposers_of_heights_have_their_share_of_power() {
        let set = members(&[1, 2, 5]);
        let mut counts = BTreeMap::new();
        for height in 0..800 {
            *counts.entry(proposer(&set, Height(height), 0).address).or_insert(0u32) += 1;
        }
        let counts: Vec<u32> = counts.into_values().collect();
        assert!((99..=101).contains(&counts[0]), "{counts:?}");
        assert!((199..=201).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn every_validator_proposes_once_in_as_many_rounds_as_there_are() {
        let set = members(&[9, 1, 1, 1]);
        let mut proposers: Vec<_> = (7..11).map(|round| proposer(&set, Height(3), round).address).collect();
        proposers.sort();
        proposers.dedup();
        assert_eq!(proposers.len(), 4);
    }
}
