//! The host: takes events, drives the engine through a height at a time, and says what must be done.

use std::collections::VecDeque;
use std::time::Duration;

use arc_malachitebft_core_consensus::{
    Error, Input, LocallyProposedValue, Params, ProposedValue, State, ValuePayload, process,
};
use arc_malachitebft_core_types::{
    CommitCertificate, Context, LinearTimeouts, Round, ThresholdParams, Validator, Validity, ValueOrigin,
    VoteExtensionPolicy,
};
use bytes::Bytes;
use ihfs_core::codec;
use ihfs_core::crypto::sign::SigningKey;
use ihfs_core::ids::{BlockId, ChainId, Height, NodeId, Time};
use ihfs_core::ledger::block::{BLOCK_BYTES_MAX, Block};
use ihfs_core::ledger::certificate::{Certificate, ValidatorSet};

use super::catch_up::CatchUp;
use super::context::{Address, EngineProposal, Ledger, Members, Tall, Value};
use super::effects::Effects;
use super::message::{DecidedBlock, MESSAGE_BYTES_MAX, Message, ProposalMessage};
use super::signatures::SignedOtherwise;
use super::wal::{Remembered, WalRecord, timeout};
use super::{Action, Application, Event, HEADER_AHEAD_MAX_MILLIS, Newest, Origin, TimerId};

/// Rounds ahead of its own in which a proposal's block is looked at, as far as the engine looks.
const ROUNDS_AHEAD_MAX: u32 = 10;
/// Most messages of the next height kept from one peer: a proposal, its votes and some repeats.
const EARLY_PER_PEER_MAX: usize = 16;
/// Most bytes of all messages kept of the next height.
const EARLY_BYTES_MAX: usize = 16 << 20;
/// How long after a commit votes of that height are still on their way and are no sign of lagging.
const LATE_GRACE_MILLIS: u64 = 1_000;
/// Wait before asking for blocks: votes that would decide them may still come.
const CATCH_UP_DELAY: Duration = Duration::from_millis(200);
/// Most decided blocks in one answer.
const ANSWER_BLOCKS_MAX: u64 = 64;
/// The engine's own queue for other heights is not used: the host keeps such messages.
const ENGINE_QUEUE: usize = 1;

/// What a host is told once.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The chain.
    pub chain: ChainId,
    /// Wait for a proposal in round 0. Later rounds wait longer, by half of it each.
    pub proposal_wait: Duration,
    /// Wait for more votes in round 0 once a quorum has come. Later rounds wait longer.
    pub votes_wait: Duration,
    /// No wait inside a round is longer.
    pub wait_max: Duration,
    /// How often the newest height is told to the other validators.
    pub tell_every: Duration,
    /// How long a peer may take to answer with decided blocks.
    pub answer_wait: Duration,
}

impl Config {
    /// Waits that fit hospitals on one continent.
    pub const fn new(chain: ChainId) -> Self {
        Self {
            chain,
            proposal_wait: Duration::from_secs(2),
            votes_wait: Duration::from_millis(500),
            wait_max: Duration::from_secs(60),
            tell_every: Duration::from_secs(5),
            answer_wait: Duration::from_secs(10),
        }
    }

    fn timeouts(&self) -> LinearTimeouts {
        LinearTimeouts {
            propose: self.proposal_wait,
            propose_delta: self.proposal_wait / 2,
            prevote: self.votes_wait,
            prevote_delta: self.votes_wait / 2,
            precommit: self.votes_wait,
            precommit_delta: self.votes_wait / 2,
            rebroadcast: self.proposal_wait + self.votes_wait,
            max_timeout: self.wait_max,
        }
    }
}

/// What was ignored or is worth a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that do not decode, or proposals that are not signed by their round's proposer.
    pub garbage: u64,
    /// Messages about a decision by peers that are no validators.
    pub strangers: u64,
    /// Answers that nobody asked for.
    pub unasked: u64,
    /// Proposed blocks that are not valid.
    pub invalid_blocks: u64,
    /// Decided blocks from peers that do not verify.
    pub unproved_blocks: u64,
    /// Pairs of conflicting messages signed by one validator.
    pub equivocations: u64,
    /// Inputs that the engine gave up on.
    pub engine_errors: u64,
}

/// Why a validator stops for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// It would have signed twice differently: the log is not what was written.
    #[error("height {height}: {refused}")]
    WouldSignTwice {
        /// The height.
        height: Height,
        /// What was refused.
        refused: SignedOtherwise,
    },
    /// Replaying the log gave another message than the one in the log.
    #[error("replaying the log of height {height} diverges from it")]
    ReplayDiverges {
        /// The height.
        height: Height,
    },
    /// A quorum decided a block that our rules refuse: theirs or ours are wrong.
    #[error("block {block:?} of height {height} is decided, but not valid here")]
    DecidedInvalid {
        /// The height.
        height: Height,
        /// The block.
        block: BlockId,
    },
    /// The application's own proposal breaks the rules.
    #[error("own proposal for height {height}: {why}")]
    BadProposal {
        /// The height.
        height: Height,
        /// What is wrong.
        why: BadBlock,
    },
    /// After a commit the application's newest block is another one.
    #[error("committed height {expected}, but the newest is {found}")]
    NotCommitted {
        /// The height that was committed.
        expected: Height,
        /// The application's newest.
        found: Height,
    },
}

/// Why a block cannot follow the newest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBlock {
    /// Of another chain.
    #[error("of another chain")]
    WrongChain,
    /// Of another height, or of a parent that is not the newest block.
    #[error("not the child of the newest block")]
    WrongParent,
    /// Not later than its parent.
    #[error("not later than its parent")]
    NotLater,
    /// Too far ahead of the clock.
    #[error("more than {HEADER_AHEAD_MAX_MILLIS} ms ahead of the clock")]
    AheadOfClock,
    /// Names another validator set.
    #[error("another validator set")]
    WrongValidators,
    /// The transactions are not those that the header names.
    #[error("other transactions than the header names")]
    WrongTransactions,
    /// Longer than a block may be.
    #[error("{found} bytes, where {BLOCK_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// The application refuses it.
    #[error("{0}")]
    Rejected(#[from] super::Rejected),
}

/// Why a host does not start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// An entry of the log cannot be read. A validator must not go on: it may have signed already.
    #[error("entry {entry} of the consensus log cannot be read")]
    LogDamaged {
        /// Which entry.
        entry: usize,
        /// What is wrong with it.
        source: codec::DecodeError,
    },
}

/// Where the host stands with the height after the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing to decide.
    Idle,
    /// The engine is deciding it.
    Deciding,
    /// Its block is decided and being committed.
    Committing,
    /// Never again.
    Halted,
}

/// A validator, or a node that follows: the engine with everything around it but I/O.
pub struct Host<A: Application> {
    config: Config,
    application: A,
    engine: State<Ledger>,
    effects: Effects,
    newest: Newest,
    set: ValidatorSet,
    stage: Stage,
    replaying: bool,
    log: Vec<WalRecord>,
    prepared: Option<Block>,
    early: VecDeque<(NodeId, Message, usize)>,
    catch_up: CatchUp,
    committed_at: Time,
    counters: Counters,
    halt: Option<Halt>,
}

impl<A: Application> Host<A> {
    /// A host that stands at the application's newest block, with the log's entries in their order.
    ///
    /// # Errors
    /// [`StartError`]: the log cannot be read.
    pub fn new(config: Config, key: SigningKey, application: A, wal: &[Bytes]) -> Result<Self, StartError> {
        let newest = application.newest();
        let set = application.validators();
        let effects = Effects::new(config.chain, key, config.timeouts());
        let log = read_log(wal, newest.height.next())?;
        let engine = State::new(
            Ledger,
            Tall(newest.height.next()),
            Members::from(&set),
            parameters(effects.me()),
            ENGINE_QUEUE,
            ENGINE_QUEUE,
        );
        Ok(Self {
            config,
            application,
            engine,
            effects,
            newest,
            set,
            stage: Stage::Idle,
            replaying: false,
            log,
            prepared: None,
            early: VecDeque::new(),
            catch_up: CatchUp::default(),
            committed_at: Time(0),
            counters: Counters::default(),
            halt: None,
        })
    }

    /// Takes an event at `now` by this node's clock, and says what must be done.
    pub fn on_event(&mut self, now: Time, event: Event) -> Vec<Action> {
        if self.stage == Stage::Halted {
            return Vec::new();
        }
        match event {
            Event::Start => self.on_start(now),
            Event::TransactionsWaiting => self.on_transactions(now),
            Event::Message { from, bytes } => self.on_message(now, from, &bytes),
            Event::Timer(id) => self.on_timer(now, id),
            Event::Committed => self.on_committed(now),
            Event::PeerConnected(peer) => self.tell(peer),
        }
        self.effects.take_actions()
    }

    /// The application.
    pub const fn application(&self) -> &A {
        &self.application
    }

    /// The application, for its owner to commit to.
    pub const fn application_mut(&mut self) -> &mut A {
        &mut self.application
    }

    /// What was ignored or is worth a look.
    pub const fn counters(&self) -> Counters {
        Counters { equivocations: self.effects.equivocations, ..self.counters }
    }

    /// Why it stopped for good, if it did.
    pub const fn halted(&self) -> Option<Halt> {
        self.halt
    }

    /// Whether no height is being decided.
    pub fn is_idle(&self) -> bool {
        self.stage == Stage::Idle
    }

    fn on_start(&mut self, now: Time) {
        self.committed_at = now;
        self.tell_newest_from_now_on();
        let log = std::mem::take(&mut self.log);
        if !log.is_empty() {
            self.replay(now, log);
        }
        self.start_if_waiting(now);
    }

    fn on_transactions(&mut self, now: Time) {
        self.start_if_waiting(now);
        self.propose_if_asked(now);
    }

    fn on_timer(&mut self, now: Time, id: TimerId) {
        if !self.effects.timer_fired(id) {
            return;
        }
        match id {
            TimerId::Round { height, round, waited } => {
                if self.stage == Stage::Deciding && height == self.deciding() {
                    self.feed(now, Input::TimeoutElapsed(timeout(waited, round)));
                }
            }
            TimerId::CatchUp => {
                self.catch_up.give_up_on_asked();
                self.ask();
            }
            TimerId::TellNewest => self.broadcast_newest(),
        }
    }

    fn on_committed(&mut self, now: Time) {
        let expected = self.deciding();
        self.newest = self.application.newest();
        if self.stage != Stage::Committing || self.newest.height != expected {
            return self.halt(Halt::NotCommitted { expected, found: self.newest.height });
        }
        self.set = self.application.validators();
        self.stage = Stage::Idle;
        self.committed_at = now;
        self.prepared = None;
        self.effects.act(Action::ClearWal { height: expected });
        self.tell_newest_from_now_on();
        self.commit_next_synced(now);
        self.take_early(now);
        self.start_if_waiting(now);
    }

    const fn deciding(&self) -> Height {
        self.newest.height.next()
    }

    fn is_validator(&self, node: NodeId) -> bool {
        self.set.as_slice().binary_search_by_key(&node, |validator| validator.node).is_ok()
    }

    fn has_others(&self) -> bool {
        self.set.as_slice().iter().any(|validator| validator.node != self.effects.me())
    }

    fn halt(&mut self, why: Halt) {
        self.stage = Stage::Halted;
        self.halt = Some(why);
        self.effects.act(Action::Halt(why));
    }
}

/// Deciding a height.
impl<A: Application> Host<A> {
    fn start_if_waiting(&mut self, now: Time) {
        let me = self.effects.me();
        if self.stage != Stage::Idle || !self.is_validator(me) || !self.application.has_transactions() {
            return;
        }
        if self.proposer(0) == me {
            // Ask before anything starts: what waits may come to nothing, and then no height begins.
            self.prepared = self.application.propose(0, now);
            if self.prepared.is_none() {
                return;
            }
        }
        self.start(now);
    }

    fn start(&mut self, now: Time) {
        let height = self.deciding();
        self.stage = Stage::Deciding;
        self.effects.begin(height, !self.has_others());
        self.feed(now, self.start_input());
    }

    fn start_input(&self) -> Input<Ledger> {
        let members = Members::from(&self.set);
        Input::StartHeight(Tall(self.deciding()), members, false, None, VoteExtensionPolicy::Disabled)
    }

    /// Brings the engine to where it was before a crash; what it signed then it does not sign anew.
    fn replay(&mut self, now: Time, log: Vec<WalRecord>) {
        let height = self.deciding();
        self.stage = Stage::Deciding;
        self.replaying = true;
        self.effects.begin(height, !self.has_others());
        for record in &log {
            if let Err(refused) = self.effects.recall(record) {
                return self.halt(Halt::WouldSignTwice { height, refused });
            }
        }
        let inputs: Vec<_> = log.into_iter().filter_map(|record| record.what.into_input(height)).collect();
        self.engine.index_wal_entries(&inputs);
        self.feed(now, self.start_input());
        for input in inputs {
            if self.stage == Stage::Deciding {
                self.feed(now, input);
            }
        }
        self.engine.reset_entries_index();
        self.replaying = false;
        self.propose_if_asked(now);
    }

    /// Gives the engine an input and follows up on what it decided or asked for.
    fn feed(&mut self, now: Time, input: Input<Ledger>) {
        let effects = &mut self.effects;
        let mut refused = None;
        let engine = &mut self.engine;
        let result: Result<(), Error<Ledger>> = process!(
            input: input,
            state: engine,
            metrics: &(),
            with: effect => effects.handle(effect).inspect_err(|error| refused = Some(*error))
        );
        let height = self.deciding();
        if let Some(refused) = refused {
            return self.halt(Halt::WouldSignTwice { height, refused });
        }
        match result {
            Ok(()) => {}
            Err(Error::ReplayDivergence(..)) => return self.halt(Halt::ReplayDiverges { height }),
            Err(error) => {
                self.counters.engine_errors += 1;
                tracing::warn!(%height, %error, "the consensus engine gave up on an input");
            }
        }
        if let Some(certificate) = self.effects.decided.take() {
            self.commit_decided(&certificate);
        } else if !self.replaying {
            self.propose_if_asked(now);
        }
    }

    fn propose_if_asked(&mut self, now: Time) {
        let Some(round) = self.effects.asked_round else { return };
        if self.stage != Stage::Deciding
            || self.engine.round() != Round::new(round)
            || !self.engine.driver.step_is_propose()
        {
            return;
        }
        let Some(block) = self.prepared.take().or_else(|| self.application.propose(round, now)) else {
            return;
        };
        self.effects.asked_round = None;
        if let Err(why) = self.fits(&block) {
            return self.halt(Halt::BadProposal { height: self.deciding(), why });
        }
        let value =
            LocallyProposedValue::new(Tall(self.deciding()), Round::new(round), Value(block.header.id()));
        self.effects.store(block);
        self.feed(now, Input::Propose(value));
    }

    fn commit_decided(&mut self, decided: &CommitCertificate<Ledger>) {
        let votes: Vec<_> = decided
            .commit_signatures
            .iter()
            .map(|signed| (signed.address.0, signed.signature.into()))
            .collect();
        let round = super::message::to_round(decided.round);
        let block = self.effects.blocks.get(&decided.value_id.0).cloned();
        let block = block.expect("the engine decides only what was stored and then called valid");
        let certificate = Certificate::new(&self.set, self.deciding(), round, decided.value_id.0, &votes);
        self.commit(block, certificate, if self.replaying { Origin::Replayed } else { Origin::Live });
    }

    fn commit(&mut self, block: Block, certificate: Certificate, origin: Origin) {
        self.stage = Stage::Committing;
        self.effects.cancel_timers();
        self.effects.act(Action::Commit { block: Box::new(block), certificate, origin });
    }

    fn proposer(&self, round: u32) -> NodeId {
        let members = Members::from(&self.set);
        Ledger.select_proposer(&members, Tall(self.deciding()), Round::new(round)).address().0
    }

    /// Checks everything about a block that needs no rules and no clock.
    fn fits(&self, block: &Block) -> Result<(), BadBlock> {
        let header = &block.header;
        let found = codec::encode(block).len();
        if header.chain != self.config.chain {
            return Err(BadBlock::WrongChain);
        }
        if header.height != self.deciding() || header.parent != self.newest.block {
            return Err(BadBlock::WrongParent);
        }
        if header.time <= self.newest.time {
            return Err(BadBlock::NotLater);
        }
        if header.validators != self.set.digest() {
            return Err(BadBlock::WrongValidators);
        }
        if header.transactions != Block::digest_transactions(&block.transactions) {
            return Err(BadBlock::WrongTransactions);
        }
        if found > BLOCK_BYTES_MAX {
            return Err(BadBlock::TooLong { found });
        }
        Ok(())
    }
}

/// Messages of peers.
impl<A: Application> Host<A> {
    fn on_message(&mut self, now: Time, from: NodeId, bytes: &[u8]) {
        let Ok(message) = Message::decode(bytes) else {
            self.counters.garbage += 1;
            return;
        };
        match message {
            Message::Newest(height) => self.on_newest(from, height),
            Message::Wanted(height) => self.answer(from, height),
            Message::Decided(blocks) => self.on_answer(now, from, blocks),
            message => self.on_deciding(now, from, message, bytes.len()),
        }
    }

    /// A vote, proposal or certificate of the engine's.
    fn on_deciding(&mut self, now: Time, from: NodeId, message: Message, length: usize) {
        let height = message.deciding().expect("the caller sorted the others out");
        let deciding = self.deciding();
        if height > deciding {
            // Whoever decides a height has committed the one below.
            self.on_newest(from, Height(height.0 - 1));
        }
        if !self.is_validator(from) {
            self.counters.strangers += 1;
        } else if height < deciding {
            if now.0 >= self.committed_at.0.saturating_add(LATE_GRACE_MILLIS) {
                self.tell(from);
            }
        } else if height == deciding.next() {
            self.keep_early(from, message, length);
        } else if height == deciding {
            if self.stage == Stage::Idle {
                self.start(now);
            }
            if self.stage == Stage::Deciding {
                self.apply(now, message);
            }
        }
    }

    fn keep_early(&mut self, from: NodeId, message: Message, length: usize) {
        let of_peer = self.early.iter().filter(|(peer, ..)| *peer == from).count();
        let held: usize = self.early.iter().map(|(_, _, length)| length).sum();
        if of_peer < EARLY_PER_PEER_MAX && held + length <= EARLY_BYTES_MAX {
            self.early.push_back((from, message, length));
        }
    }

    /// Takes up what came early for the height that is now to be decided.
    fn take_early(&mut self, now: Time) {
        for (from, message, length) in std::mem::take(&mut self.early) {
            if self.stage != Stage::Halted {
                self.on_deciding(now, from, message, length);
            }
        }
    }

    fn apply(&mut self, now: Time, message: Message) {
        match message {
            Message::Vote(vote) => self.feed(now, Input::Vote(vote.into())),
            Message::Polka(polka) => self.feed(now, Input::PolkaCertificate(polka.into())),
            Message::Round(round) => self.feed(now, Input::RoundCertificate(round.into())),
            Message::Proposal(proposal, block) => self.on_proposal(now, proposal, block.map(|block| *block)),
            Message::Newest(_) | Message::Wanted(_) | Message::Decided(_) => {}
        }
    }

    fn on_proposal(&mut self, now: Time, proposal: ProposalMessage, block: Option<Block>) {
        let (round, id, polka) = (proposal.round, proposal.block, proposal.polka);
        let proposer = Address(proposal.proposer);
        let signed = EngineProposal::from(proposal);
        let current = self.engine.round().as_u32().unwrap_or(0);
        let height = Tall(self.deciding());
        if round > current.saturating_add(ROUNDS_AHEAD_MAX)
            || self.engine.exceeds_per_round_cap(height, Round::new(round), &Value(id))
        {
            return;
        }
        // The engine checks this too, but a block is looked at only for its round's proposer.
        let message = signed.clone().map(arc_malachitebft_core_consensus::ConsensusMsg::Proposal);
        if self.proposer(round) != proposer.0 || !self.effects.signatures.message_holds(&message, proposer) {
            self.counters.garbage += 1;
            return;
        }
        self.feed(now, Input::Proposal(signed));
        let Some(validity) = self.judge(now, id, block) else { return };
        if self.stage != Stage::Deciding {
            return;
        }
        let value = ProposedValue {
            height,
            round: Round::new(round),
            valid_round: Round::from(polka),
            proposer,
            value: Value(id),
            validity,
        };
        self.feed(now, Input::ProposedValue(value, ValueOrigin::Consensus));
    }

    /// The verdict on a proposed block; `None` when it did not come along. A valid one is stored first.
    fn judge(&mut self, now: Time, id: BlockId, block: Option<Block>) -> Option<Validity> {
        if self.effects.blocks.contains_key(&id) {
            return Some(Validity::Valid);
        }
        let block = block.filter(|block| block.header.id() == id)?;
        match self.check_proposed(now, &block) {
            Ok(()) => {
                self.effects.store(block);
                Some(Validity::Valid)
            }
            Err(why) => {
                self.counters.invalid_blocks += 1;
                tracing::warn!(block = %id, %why, "a proposed block is not valid");
                Some(Validity::Invalid)
            }
        }
    }

    fn check_proposed(&mut self, now: Time, block: &Block) -> Result<(), BadBlock> {
        self.fits(block)?;
        if block.header.time > now.plus_millis(HEADER_AHEAD_MAX_MILLIS) {
            return Err(BadBlock::AheadOfClock);
        }
        Ok(self.application.validate(block)?)
    }
}

/// Catching up with those who are further, and helping those who are not.
impl<A: Application> Host<A> {
    fn broadcast_newest(&mut self) {
        let message = Message::Newest(self.newest.height).encode();
        self.effects.act(Action::Broadcast(Bytes::from(message)));
        self.effects.set_timer(TimerId::TellNewest, self.config.tell_every);
    }

    /// Begins to tell the newest height at times, once there is somebody to tell.
    fn tell_newest_from_now_on(&mut self) {
        if self.has_others() && !self.effects.is_set(TimerId::TellNewest) {
            self.broadcast_newest();
        }
    }

    fn tell(&mut self, to: NodeId) {
        self.send(to, &Message::Newest(self.newest.height));
    }

    fn send(&mut self, to: NodeId, message: &Message) {
        self.effects.act(Action::Send { to, bytes: Bytes::from(message.encode()) });
    }

    fn on_newest(&mut self, from: NodeId, height: Height) {
        if height < self.newest.height {
            self.tell(from);
        } else if self.catch_up.claim(from, height, self.newest.height) {
            self.effects.set_timer(TimerId::CatchUp, CATCH_UP_DELAY);
        }
    }

    fn ask(&mut self) {
        if self.catch_up.is_asking() {
            return;
        }
        if let Some(peer) = self.catch_up.ask(self.newest.height) {
            self.send(peer, &Message::Wanted(self.deciding()));
            self.effects.set_timer(TimerId::CatchUp, self.config.answer_wait);
        }
    }

    /// Answers with decided blocks, as many as fit one message.
    fn answer(&mut self, from: NodeId, first: Height) {
        let last = self.newest.height.0.min(first.0.saturating_add(ANSWER_BLOCKS_MAX - 1));
        // Room for the list around the blocks.
        let mut room = MESSAGE_BYTES_MAX - 64;
        let mut blocks = Vec::new();
        for height in first.0.max(1)..=last {
            let Some((block, certificate)) = self.application.decided(Height(height)) else { break };
            let decided = DecidedBlock { block, certificate };
            match room.checked_sub(codec::encode(&decided).len()) {
                Some(left) => room = left,
                None => break,
            }
            blocks.push(decided);
        }
        self.send(from, &Message::Decided(blocks));
    }

    fn on_answer(&mut self, now: Time, from: NodeId, blocks: Vec<DecidedBlock>) {
        if !self.catch_up.answer(from, blocks) {
            self.counters.unasked += 1;
            return;
        }
        self.commit_next_synced(now);
    }

    /// Commits the next block that a peer sent, or asks for more when there is none.
    fn commit_next_synced(&mut self, _now: Time) {
        if matches!(self.stage, Stage::Committing | Stage::Halted) {
            return;
        }
        let Some(DecidedBlock { block, certificate }) = self.catch_up.next_block(self.newest.height) else {
            return self.ask();
        };
        if self.check_decided(&block, &certificate).is_err() {
            self.counters.unproved_blocks += 1;
            self.catch_up.distrust_source();
            return self.ask();
        }
        if self.application.validate(&block).is_err() {
            let (height, block) = (block.header.height, certificate.block);
            return self.halt(Halt::DecidedInvalid { height, block });
        }
        self.commit(block, certificate, Origin::Synced);
    }

    fn check_decided(&self, block: &Block, certificate: &Certificate) -> Result<(), Unproved> {
        let named = certificate.height == block.header.height && certificate.block == block.header.id();
        let proved = certificate.verify(self.config.chain, &self.set).is_ok();
        if named && proved && self.fits(block).is_ok() { Ok(()) } else { Err(Unproved) }
    }
}

/// A block that a peer sent as decided is not.
struct Unproved;

fn parameters(me: NodeId) -> Params<Ledger> {
    Params {
        address: Address(me),
        threshold_params: ThresholdParams::default(),
        value_payload: ValuePayload::ProposalAndParts,
        enabled: true,
    }
}

/// Entries of the height to be decided; older ones were overtaken by a commit.
fn read_log(wal: &[Bytes], height: Height) -> Result<Vec<WalRecord>, StartError> {
    let mut log = Vec::new();
    for (entry, bytes) in wal.iter().enumerate() {
        let record = WalRecord::decode(bytes).map_err(|source| StartError::LogDamaged { entry, source })?;
        let sound = match &record.what {
            Remembered::Block(block) => block.header.height == record.height,
            _ => true,
        };
        assert!(sound, "the log's own records are written whole");
        if record.height == height {
            log.push(record);
        }
    }
    Ok(log)
}
