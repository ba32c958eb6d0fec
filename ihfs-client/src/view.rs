//! The verified view of the ledger: believes no node.
//!
//! From the genesis document it follows the validators through every change of theirs, and then checks one
//! certificate: that of the newest header. Every entry comes with a proof under that header, every list is
//! recomputed against its count and hash. The newest height counts as current only when more than two thirds of
//! the voting power sign it over a fresh nonce; otherwise it is "as of" its time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ihfs_core::codec::{self, DecodeError};
use ihfs_core::crypto::sign::{self, Purpose, Signature};
use ihfs_core::ids::{BlockId, ChainId, Height, NodeId, RecordId, Time};
use ihfs_core::ledger::block::{FORMAT_VERSION, HEADER_BYTES_MAX, Header};
use ihfs_core::ledger::certificate::{
    CERTIFICATE_BYTES_MAX, Certificate, CertificateError, Validator, ValidatorSet, freshness_bytes,
};
use ihfs_core::ledger::genesis::{Genesis, GenesisError};
use ihfs_core::ledger::lists::{ITEM_BYTES_MAX, List, ListError, ListKey};
use ihfs_core::ledger::proof::{ProofError, StateProof};
use ihfs_core::ledger::state::{ENTRY_BYTES_MAX, StateKey};
use ihfs_proto::ledger::request::Request as Question;
use ihfs_proto::ledger::response::Response as Answer;
use ihfs_proto::{PROVE_KEYS_MAX, join, ledger};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::link::{ANSWER_TIME_MAX, AskError, Link};

/// Most bytes of a validator set on the wire.
const VALIDATORS_BYTES_MAX: usize = 32 << 10;
/// Most bytes of the saved trust.
const TRUST_BYTES_MAX: usize = 64 << 10;

/// What the device believes of the ledger between two questions. Saved, so that nobody can show it an older
/// ledger later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Trust {
    /// The chain.
    pub chain: ChainId,
    /// The newest height that was verified; 0 is the genesis document.
    pub height: Height,
    /// Its block.
    pub block: BlockId,
    /// Its time.
    pub time: Time,
    /// The validators that decide the block after it.
    pub validators: ValidatorSet,
}

/// How new the view is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Freshness {
    /// The newest height.
    pub height: u64,
    /// Time of its block, milliseconds since 1970.
    pub time: u64,
    /// Whether more than two thirds of the voting power signed just now that it is the newest.
    pub current: bool,
}

/// Why the ledger's word was not believed or not had.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The node could not be asked, or refuses.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The answer does not decode.
    #[error("the node's answer does not decode")]
    Decode(#[from] DecodeError),
    /// The genesis document is not the one of the fingerprint, or founds no network.
    #[error("the genesis document is not the one that this device knows")]
    WrongGenesis(#[source] Option<GenesisError>),
    /// The node shows an older ledger than this device has seen.
    #[error("the node shows height {shown}, this device has seen height {seen}")]
    WentBack {
        /// The height shown.
        shown: Height,
        /// The height seen before.
        seen: Height,
    },
    /// The node shows another block at a height that this device knows.
    #[error(
        "the node shows another block at height {height} than this device has seen: the ledger has split"
    )]
    Split {
        /// The height.
        height: Height,
    },
    /// The header is of another chain, format or height than its certificate.
    #[error("the header at height {height} does not fit its certificate or this network")]
    WrongHeader {
        /// The height.
        height: Height,
    },
    /// The validators could not be followed to this height.
    #[error("the validators of height {height} are not proved")]
    UnknownValidators {
        /// The height.
        height: Height,
    },
    /// The certificate proves nothing.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A proof proves nothing.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// A list is not complete or not the one on the ledger.
    #[error(transparent)]
    List(#[from] ListError),
}

impl ViewError {
    /// The record that a node shows no more, because no grant on it is left to this member.
    pub(crate) fn not_shared(&self) -> Option<RecordId> {
        match self {
            Self::Ask(AskError::Refused(refusal)) if refusal.reason == ledger::Reason::NoGrant => {
                RecordId::try_from(refusal.subject.as_ref()).ok()
            }
            _ => None,
        }
    }
}

/// The verified ledger. Clones believe the same.
#[derive(Clone)]
pub struct View {
    link: Link,
    as_guest: bool,
    trust: Arc<Mutex<Trust>>,
}

/// A header that was verified.
#[derive(Clone, Debug)]
enum Newest {
    /// Nothing was decided yet.
    Genesis,
    Block(Box<Header>),
}

impl Trust {
    /// Begins with the genesis document whose fingerprint is `chain`.
    ///
    /// # Errors
    /// [`ViewError::WrongGenesis`].
    pub fn begin(chain: ChainId, genesis: &[u8]) -> Result<Self, ViewError> {
        let document = Genesis::from_bytes(genesis).map_err(|error| ViewError::WrongGenesis(Some(error)))?;
        if document.chain() != chain {
            return Err(ViewError::WrongGenesis(None));
        }
        let block = BlockId::from_bytes(*chain.as_bytes());
        Ok(Self { chain, height: Height(0), block, time: document.time, validators: document.validators })
    }

    /// Canonical bytes, to be saved.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads what [`Self::to_bytes`] gave.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, TRUST_BYTES_MAX)
    }
}

impl View {
    /// Looks at the ledger over `link`, starting from `trust`. A guest asks in the conversation of guests.
    pub fn new(link: Link, trust: Trust, as_guest: bool) -> Self {
        Self { link, as_guest, trust: Arc::new(Mutex::new(trust)) }
    }

    /// The same ledger, looked at over `link`.
    #[must_use]
    pub fn over(&self, link: Link) -> Self {
        Self { link, ..self.clone() }
    }

    /// The same ledger, looked at as a member, whose key the link must be of.
    #[must_use]
    pub fn as_member(&self) -> Self {
        Self { as_guest: false, ..self.clone() }
    }

    /// What is believed now, to be saved.
    pub fn trust(&self) -> Trust {
        self.trust.lock().expect("no panic while it is held").clone()
    }

    /// The chain.
    pub fn chain(&self) -> ChainId {
        self.trust().chain
    }

    /// Goes to the newest block and asks its validators to sign that it is the newest.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn refresh(&self) -> Result<Freshness, ViewError> {
        let nonce: [u8; 32] = rand::random();
        let head = ledger::Head { nonce: nonce.to_vec().into() };
        let Answer::Head(newest) = self.ask(Question::Head(head))? else { return Err(self.malformed()) };
        self.accept(&newest)?;
        Ok(self.freshness(&nonce, &newest.freshness))
    }

    /// Waits for a block above `height`, at most `time`, and goes to the newest.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn wait(&self, height: Height, time: Duration) -> Result<Freshness, ViewError> {
        let nonce: [u8; 32] = rand::random();
        let milliseconds = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let wait = ledger::Wait { height: height.0, milliseconds, nonce: nonce.to_vec().into() };
        match self.link.ask_ledger(ledger::request::Request::Wait(wait), time + ANSWER_TIME_MAX)? {
            ledger::response::Response::Head(newest) => {
                self.accept(&newest)?;
                Ok(self.freshness(&nonce, &newest.freshness))
            }
            _ => Err(self.malformed()),
        }
    }

    /// The entry under `key`, proved by the newest block.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn entry<T: Serialize + DeserializeOwned>(&self, key: StateKey) -> Result<Option<T>, ViewError> {
        let mut entries = self.entries(&[key])?;
        decode_entry(entries.pop().flatten())
    }

    /// The bytes of several entries, all proved by one block, in one round trip.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn entries(&self, keys: &[StateKey]) -> Result<Vec<Option<Vec<u8>>>, ViewError> {
        let mut entries = Vec::with_capacity(keys.len());
        for some in keys.chunks(PROVE_KEYS_MAX) {
            entries.extend(self.prove(some)?);
        }
        Ok(entries)
    }

    /// Items of a list, proved complete: exactly those behind `known` that make it `list`.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn items<T: Serialize + DeserializeOwned>(
        &self,
        key: ListKey,
        known: List,
        list: List,
    ) -> Result<Vec<T>, ViewError> {
        let mut items: Vec<Vec<u8>> = Vec::new();
        while known.count + (items.len() as u64) < list.count {
            let from = known.count + items.len() as u64;
            let bytes = codec::encode(&key);
            let request = ledger::Items { list: bytes.into(), from, end: list.count };
            let response = self.link.ask_ledger(ledger::request::Request::Items(request), ANSWER_TIME_MAX)?;
            let ledger::response::Response::Items(page) = response else { return Err(self.malformed()) };
            if page.items.is_empty() {
                break;
            }
            items.extend(page.items.iter().map(|item| item.to_vec()));
        }
        known.verify_extension(items.iter().map(Vec::as_slice), &list)?;
        items.iter().map(|item| Ok(codec::decode(item, ITEM_BYTES_MAX)?)).collect()
    }

    fn prove(&self, keys: &[StateKey]) -> Result<Vec<Option<Vec<u8>>>, ViewError> {
        let prove = ledger::Prove { keys: keys.iter().map(|key| key.to_bytes().into()).collect() };
        let Answer::Proved(proved) = self.ask(Question::Prove(prove))? else { return Err(self.malformed()) };
        let block = proved.block.as_ref().ok_or_else(|| self.malformed())?;
        let Newest::Block(header) = self.accept(block)? else {
            return Err(ViewError::WrongHeader { height: Height(0) });
        };
        if proved.entries.len() != keys.len() {
            return Err(self.malformed());
        }
        let verify = |(key, entry): (&StateKey, &ledger::ProvedEntry)| {
            let proof = StateProof::from_bytes(&entry.proof)?;
            proof.verify(header.state, &key.to_bytes(), entry.value.as_deref())?;
            Ok(entry.value.as_ref().map(|value| value.to_vec()))
        };
        keys.iter().zip(&proved.entries).map(verify).collect()
    }

    /// Verifies a newest block and moves the trust to it.
    fn accept(&self, newest: &ledger::NewestBlock) -> Result<Newest, ViewError> {
        let seen = self.trust();
        if newest.header.is_empty() {
            return match seen.height {
                Height(0) => Ok(Newest::Genesis),
                seen => Err(ViewError::WentBack { shown: Height(0), seen }),
            };
        }
        let header: Header = codec::decode(&newest.header, HEADER_BYTES_MAX)?;
        let (height, block) = (header.height, header.id());
        if height < seen.height {
            return Err(ViewError::WentBack { shown: height, seen: seen.height });
        }
        if height == seen.height {
            let same = block == seen.block;
            return if same { Ok(Newest::Block(Box::new(header))) } else { Err(ViewError::Split { height }) };
        }
        let certificate: Certificate = codec::decode(&newest.certificate, CERTIFICATE_BYTES_MAX)?;
        let trust = self.follow(seen, &header)?;
        check_block(&trust, &header, &certificate)?;
        let validators = self.next_validators(&trust, &header)?;
        let (chain, time) = (trust.chain, header.time);
        self.advance(Trust { chain, height, block, time, validators });
        Ok(Newest::Block(Box::new(header)))
    }

    /// Another thread may have gone further meanwhile.
    fn advance(&self, trust: Trust) {
        let mut held = self.trust.lock().expect("no panic while it is held");
        if trust.height > held.height {
            *held = trust;
        }
    }

    /// Follows the validators until those that decide `header` are known.
    fn follow(&self, mut trust: Trust, header: &Header) -> Result<Trust, ViewError> {
        while trust.validators.digest() != header.validators {
            let from = trust.height;
            let handovers = self.handovers(from)?;
            for handover in &handovers.handovers {
                trust = hand_over(&trust, handover)?;
            }
            if trust.height == from || trust.height >= header.height {
                return Err(ViewError::UnknownValidators { height: header.height });
            }
        }
        Ok(trust)
    }

    /// The validators after `header`: the same, or those of its handover.
    fn next_validators(&self, trust: &Trust, header: &Header) -> Result<ValidatorSet, ViewError> {
        if header.next_validators == header.validators {
            return Ok(trust.validators.clone());
        }
        let before = Height(header.height.0 - 1);
        let handovers = self.handovers(before)?;
        let found = handovers.handovers.iter().find_map(|handover| {
            let set: ValidatorSet = codec::decode(&handover.next_validators, VALIDATORS_BYTES_MAX).ok()?;
            (set.digest() == header.next_validators).then_some(set)
        });
        found.ok_or(ViewError::UnknownValidators { height: header.height.next() })
    }

    fn handovers(&self, from: Height) -> Result<ledger::HandoverList, ViewError> {
        let request = ledger::Handovers { from: from.0 };
        match self.ask(Question::Handovers(request))? {
            Answer::Handovers(list) => Ok(list),
            _ => Err(self.malformed()),
        }
    }

    /// Asks in the conversation of guests or in that of members; the questions and answers are the same.
    fn ask(&self, question: Question) -> Result<Answer, ViewError> {
        if !self.as_guest {
            return Ok(self.link.ask_ledger(question, ANSWER_TIME_MAX)?);
        }
        let question = match question {
            Question::Head(head) => join::request::Request::Head(head),
            Question::Prove(prove) => join::request::Request::Prove(prove),
            Question::Handovers(handovers) => join::request::Request::Handovers(handovers),
            _ => unreachable!("a guest's view asks nothing else"),
        };
        match self.link.ask_join(question, ANSWER_TIME_MAX)? {
            join::response::Response::Head(newest) => Ok(Answer::Head(newest)),
            join::response::Response::Proved(proved) => Ok(Answer::Proved(proved)),
            join::response::Response::Handovers(list) => Ok(Answer::Handovers(list)),
            _ => Err(self.malformed()),
        }
    }

    /// Counts the voting power behind "this is my newest block".
    fn freshness(&self, nonce: &[u8; 32], words: &[ledger::Freshness]) -> Freshness {
        let trust = self.trust();
        let bytes = freshness_bytes(trust.chain, trust.height, trust.block, nonce);
        let power = |validator: &Validator| {
            let signed = words.iter().any(|word| says(word, validator.node, &bytes));
            if signed { validator.power } else { 0 }
        };
        let power: u64 = trust.validators.as_slice().iter().map(power).sum();
        let current = trust.validators.is_quorum(power);
        Freshness { height: trust.height.0, time: trust.time.0, current }
    }

    fn malformed(&self) -> ViewError {
        let node = self.link.nodes().first().copied();
        node.map_or(AskError::NoNode, |node| AskError::Malformed { node }).into()
    }
}

fn says(word: &ledger::Freshness, node: NodeId, bytes: &[u8]) -> bool {
    let signature = word.signature.as_ref().try_into().map(Signature::from_bytes);
    word.node.as_ref() == node.as_bytes()
        && signature.is_ok_and(|signature| {
            sign::verify(node.as_bytes(), Purpose::Freshness, bytes, &signature).is_ok()
        })
}

/// One change of validators, verified by those before.
fn hand_over(trust: &Trust, handover: &ledger::Handover) -> Result<Trust, ViewError> {
    let header: Header = codec::decode(&handover.header, HEADER_BYTES_MAX)?;
    let certificate: Certificate = codec::decode(&handover.certificate, CERTIFICATE_BYTES_MAX)?;
    check_block(trust, &header, &certificate)?;
    let validators: ValidatorSet = codec::decode(&handover.next_validators, VALIDATORS_BYTES_MAX)?;
    if validators.digest() != header.next_validators || header.height <= trust.height {
        return Err(ViewError::UnknownValidators { height: header.height.next() });
    }
    let (height, block, time) = (header.height, header.id(), header.time);
    Ok(Trust { chain: trust.chain, height, block, time, validators })
}

/// Whether the trusted validators decided exactly this header.
fn check_block(trust: &Trust, header: &Header, certificate: &Certificate) -> Result<(), ViewError> {
    let height = header.height;
    let fits = header.format == FORMAT_VERSION
        && header.chain == trust.chain
        && header.validators == trust.validators.digest()
        && certificate.height == height
        && certificate.block == header.id();
    if !fits {
        return Err(ViewError::WrongHeader { height });
    }
    Ok(certificate.verify(trust.chain, &trust.validators)?)
}

/// Reads an entry's bytes, if there are any.
///
/// # Errors
/// [`ViewError::Decode`].
pub fn decode_entry<T: Serialize + DeserializeOwned>(bytes: Option<Vec<u8>>) -> Result<Option<T>, ViewError> {
    bytes.map(|bytes| Ok(codec::decode(&bytes, ENTRY_BYTES_MAX)?)).transpose()
}
