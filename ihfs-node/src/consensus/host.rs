//! The host: takes events, drives the engine through a height at a time, and says what must be done.

mod deciding;
mod lagging;
mod peers;

use std::collections::VecDeque;

use arc_malachitebft_core_consensus::{Input, Params, State, ValuePayload};
use arc_malachitebft_core_types::ThresholdParams;
use bytes::Bytes;
use ihfs_core::crypto::sign::SigningKey;
use ihfs_core::ids::{Height, NodeId, Time};
use ihfs_core::ledger::block::Block;
use ihfs_core::ledger::certificate::ValidatorSet;

use super::catch_up::CatchUp;
use super::config::Config;
use super::context::{Address, Ledger, Members, Tall};
use super::effects::Effects;
use super::message::Message;
use super::refusals::{Halt, StartError};
use super::wal::{WalRecord, timeout};
use super::{Action, Application, Event, Newest, TimerId};

/// The engine's own queue for other heights is not used: the host keeps such messages.
const ENGINE_QUEUE: usize = 1;

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
    /// Blocks proposed for the first time that are too far behind the clock, or did not come along.
    pub stale_proposals: u64,
    /// Decided blocks from peers that do not verify.
    pub unproved_blocks: u64,
    /// Pairs of conflicting messages signed by one validator.
    pub equivocations: u64,
    /// Inputs that the engine gave up on.
    pub engine_errors: u64,
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
        self.commit_next_synced();
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
        if record.height == height {
            log.push(record);
        }
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use ihfs_core::codec::DecodeError;
    use ihfs_core::crypto::secret::Secret;
    use ihfs_core::crypto::sign::{Purpose, Signature};
    use ihfs_core::ids::{BlockId, ChainId};
    use ihfs_core::ledger::certificate::{Validator, VoteKind, vote_bytes};

    use super::*;
    use crate::consensus::HEADER_BEHIND_MAX_MILLIS;
    use crate::consensus::context::{Proposal, Value};
    use crate::consensus::message::{ProposalMessage, VoteMessage, proposal_bytes};
    use crate::consensus::signatures::SignedOtherwise;
    use crate::consensus::simulation::toy_ledger::ToyLedger;
    use crate::consensus::wal::Remembered;

    const CHAIN: ChainId = ChainId::from_bytes([2; 32]);
    const NOW: Time = Time(1_700_000_000_000);

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(Secret::new([seed; 32]))
    }

    fn node(seed: u8) -> NodeId {
        NodeId::from_bytes(key(seed).public())
    }

    fn four() -> ToyLedger {
        let validator = |seed: u8| Validator { node: node(seed), power: 1 };
        let set = ValidatorSet::new((1..=4).map(validator).collect()).unwrap();
        ToyLedger::new(CHAIN, vec![set], vec![], &[])
    }

    fn started(wal: &[Bytes]) -> Host<ToyLedger> {
        let mut host = Host::new(Config::new(CHAIN), key(1), four(), wal).unwrap();
        host.on_event(NOW, Event::Start);
        host
    }

    fn vote(seed: u8, block: Option<BlockId>) -> VoteMessage {
        let bytes = vote_bytes(CHAIN, VoteKind::Prevote, Height(1), 0, block);
        let signature = key(seed).sign(Purpose::Vote, &bytes);
        VoteMessage {
            kind: VoteKind::Prevote,
            height: Height(1),
            round: 0,
            block,
            validator: node(seed),
            signature,
        }
    }

    fn logged(vote: VoteMessage) -> Bytes {
        Bytes::from(WalRecord { height: Height(1), what: Remembered::Vote(vote) }.encode())
    }

    fn receive(host: &mut Host<ToyLedger>, from: u8, message: &Message) -> Vec<Action> {
        let bytes = Bytes::from(message.encode());
        host.on_event(NOW, Event::Message { from: node(from), bytes })
    }

    #[test]
    fn a_log_with_two_own_votes_of_a_round_halts_the_validator() {
        let mut host = started(&[logged(vote(1, None)), logged(vote(1, Some(BlockId::from_bytes([3; 32]))))]);
        let refused = SignedOtherwise { round: 0, what: "vote" };
        assert_eq!(host.halted(), Some(Halt::WouldSignTwice { height: Height(1), refused }));
        assert!(receive(&mut host, 2, &Message::Vote(vote(2, None))).is_empty());
    }

    #[test]
    fn a_damaged_log_is_refused_with_its_entry() {
        let wal = [logged(vote(2, None)), Bytes::from_static(b"damage")];
        let refused = Host::new(Config::new(CHAIN), key(1), four(), &wal).err();
        assert_eq!(refused, Some(StartError::LogDamaged { entry: 1, source: DecodeError::Malformed }));
    }

    #[test]
    fn a_stranger_starts_no_height_and_a_validator_does() {
        let mut host = started(&[]);
        receive(&mut host, 9, &Message::Vote(vote(9, None)));
        assert!(host.is_idle());
        assert_eq!(host.counters().strangers, 1);
        receive(&mut host, 2, &Message::Vote(vote(2, None)));
        assert!(!host.is_idle());
    }

    #[test]
    fn a_vote_with_a_forged_signature_is_not_logged() {
        let mut host = started(&[]);
        receive(&mut host, 2, &Message::Vote(vote(2, None)));
        let forged = VoteMessage { signature: Signature::from_bytes([7; 64]), ..vote(3, None) };
        assert!(receive(&mut host, 3, &Message::Vote(forged)).is_empty());
        let taken = receive(&mut host, 3, &Message::Vote(vote(3, None)));
        assert!(matches!(taken.as_slice(), [Action::AppendWal { .. }]), "{taken:?}");
    }

    fn proposal(seed: u8, round: u32, polka: Option<u32>, block: &Block) -> ProposalMessage {
        let unsigned = Proposal {
            height: Tall(block.header.height),
            round: round.into(),
            value: Value(block.header.id()),
            polka: polka.into(),
            proposer: Address(node(seed)),
        };
        let signature = key(seed).sign(Purpose::Proposal, &proposal_bytes(CHAIN, &unsigned));
        ProposalMessage {
            height: block.header.height,
            round,
            block: block.header.id(),
            polka,
            proposer: node(seed),
            signature,
        }
    }

    /// Blocks that the host prevotes in these actions.
    fn prevoted(actions: &[Action]) -> Vec<Option<BlockId>> {
        let voted = |action: &Action| match action {
            Action::Broadcast(bytes) => match Message::decode(bytes).unwrap() {
                Message::Vote(vote) => Some(vote.block),
                _ => None,
            },
            _ => None,
        };
        actions.iter().filter_map(voted).collect()
    }

    #[test]
    fn an_old_block_is_prevoted_neither_alone_nor_with_a_polka_that_nobody_saw() {
        let proposer = |host: &Host<ToyLedger>, round| {
            (2..=4).find(|seed| node(*seed) == host.proposer(round)).unwrap_or_default()
        };
        let transactions = || vec![serde_bytes::ByteBuf::from(vec![7; 8])];
        for (age, wanted) in [(HEADER_BEHIND_MAX_MILLIS + 1, false), (HEADER_BEHIND_MAX_MILLIS, true)] {
            let mut host = started(&[]);
            let first = proposer(&host, 0);
            assert_ne!(first, 0, "another validator proposes first");
            let block = four().block_of(transactions(), Time(NOW.0 - age));
            let later = (1..9).find(|round| proposer(&host, *round) == first).unwrap();
            let bare = Message::Proposal(proposal(first, 0, None, &block), None);
            let full = Message::Proposal(proposal(first, 0, None, &block), Some(Box::new(block.clone())));
            let excuse =
                Message::Proposal(proposal(first, later, Some(0), &block), Some(Box::new(block.clone())));
            let mut actions = Vec::new();
            for message in [bare, excuse, full] {
                actions.extend(receive(&mut host, first, &message));
            }
            assert_eq!(prevoted(&actions).contains(&Some(block.header.id())), wanted);
        }
    }

    #[test]
    fn garbage_is_counted_and_answered_with_nothing() {
        let mut host = started(&[]);
        let good = Message::Vote(vote(2, None)).encode();
        for length in 0..good.len() {
            let bytes = Bytes::copy_from_slice(&good[..length]);
            assert!(host.on_event(NOW, Event::Message { from: node(2), bytes }).is_empty());
        }
        assert_eq!(host.counters().garbage, good.len() as u64);
        assert!(host.is_idle());
    }
}
