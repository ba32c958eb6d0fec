//! Whole networks of hosts in one thread, on a seeded schedule: delay, loss, doubling, partitions,
//! crashes at any action, and a validator that lies. What must hold is asserted while they run.

mod liar;
mod tests;
pub(super) mod toy_ledger;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use ihfs_core::crypto::secret::Secret;
use ihfs_core::crypto::sign::SigningKey;
use ihfs_core::ids::{BlockId, ChainId, Height, NodeId, Time};
use ihfs_core::ledger::block::Block;
use ihfs_core::ledger::certificate::{Certificate, Validator, ValidatorSet, VoteKind};

use super::message::Message;
use super::{Action, Config, Event, Host, Origin, TimerId};
use liar::Liar;
use toy_ledger::ToyLedger;

const CHAIN: ChainId = ChainId::from_bytes([0xc4; 32]);
/// Where the simulated clocks start.
const BEGIN: u64 = 1_700_000_000_000;

/// SplitMix64 (Steele, Lea, Flood 2014): one seed, one schedule.
pub(super) struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap()
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// What the network does to messages.
#[derive(Clone, Copy)]
struct Weather {
    delay_max: u64,
    loss_percent: u64,
    double_percent: u64,
}

const CALM: Weather = Weather { delay_max: 20, loss_percent: 0, double_percent: 0 };
const STORM: Weather = Weather { delay_max: 400, loss_percent: 15, double_percent: 10 };

enum Happening {
    Deliver { to: usize, from: usize, bytes: Bytes },
    Fire { node: usize, life: u64, id: TimerId, set: u64 },
    Submit { node: usize, transaction: u64 },
    Restart { node: usize },
}

/// A node: what survives a crash, and what does not.
struct Machine {
    seed: u8,
    id: NodeId,
    skew: i64,
    blocks: Vec<(Block, Certificate)>,
    wal: Vec<(Height, Bytes)>,
    unsynced: Vec<(Height, Bytes)>,
    waiting: Vec<u64>,
    host: Option<Host<ToyLedger>>,
    timers: BTreeMap<TimerId, u64>,
    life: u64,
    actions: u64,
    crash_at: Option<u64>,
    side: u8,
}

/// What an honest validator said once, it may never say differently.
type Said = BTreeMap<(usize, Option<VoteKind>, Height, u32), (Option<BlockId>, Option<u32>)>;

struct Network {
    dice: Dice,
    now: u64,
    counter: u64,
    weather: Weather,
    queue: BTreeMap<(u64, u64), Happening>,
    machines: Vec<Machine>,
    liar: Option<(usize, Liar)>,
    sets: Vec<ValidatorSet>,
    decided: BTreeMap<Height, BlockId>,
    said: Said,
    sent: u64,
    fsyncs: u64,
    origins: BTreeMap<&'static str, u64>,
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(Secret::new([seed; 32]))
}

fn config() -> Config {
    Config { answer_wait: Duration::from_secs(1), wait_max: Duration::from_secs(10), ..Config::new(CHAIN) }
}

impl Network {
    /// Validators with these powers, in order of their keys, and nodes that only follow.
    fn new(seed: u64, powers: &[u64], followers: usize) -> Self {
        let mut seeds: Vec<u8> = (1..=u8::try_from(powers.len() + followers).unwrap()).collect();
        let node = |seed: u8| NodeId::from_bytes(key(seed).public());
        seeds.sort_by_cached_key(|seed| node(*seed));
        let validator = |(place, power): (usize, &u64)| Validator { node: node(seeds[place]), power: *power };
        let set = ValidatorSet::new(powers.iter().enumerate().map(validator).collect()).unwrap();
        let mut dice = Dice(seed);
        let machine = |seed: &u8| Machine {
            seed: *seed,
            id: node(*seed),
            skew: i64::try_from(dice.below(4_000)).unwrap() - 2_000,
            blocks: Vec::new(),
            wal: Vec::new(),
            unsynced: Vec::new(),
            waiting: Vec::new(),
            host: None,
            timers: BTreeMap::new(),
            life: 0,
            actions: 0,
            crash_at: None,
            side: 0,
        };
        let machines: Vec<Machine> = seeds.iter().map(machine).collect();
        Self {
            dice,
            now: BEGIN,
            counter: 0,
            weather: CALM,
            queue: BTreeMap::new(),
            machines,
            liar: None,
            sets: vec![set],
            decided: BTreeMap::new(),
            said: Said::new(),
            sent: 0,
            fsyncs: 0,
            origins: BTreeMap::new(),
        }
    }

    /// Leaves another validator out at each height in turn.
    fn rotate_validators(&mut self) {
        let all = self.sets[0].as_slice().to_vec();
        let without = |left_out: usize| {
            let rest = all.iter().enumerate().filter(|(place, _)| *place != left_out);
            ValidatorSet::new(rest.map(|(_, validator)| *validator).collect()).unwrap()
        };
        self.sets = (0..all.len()).map(without).collect();
    }

    fn start_all(&mut self) {
        for node in 0..self.machines.len() {
            self.restart(node);
        }
    }

    fn make_liar(&mut self, node: usize) {
        self.machines[node].host = None;
        self.liar = Some((node, Liar::new(key(self.machines[node].seed))));
    }

    fn is_liar(&self, node: usize) -> bool {
        self.liar.as_ref().is_some_and(|(liar, _)| *liar == node)
    }

    fn honest(&self) -> Vec<usize> {
        (0..self.machines.len()).filter(|node| !self.is_liar(*node)).collect()
    }

    fn plan(&mut self, after: u64, happening: Happening) {
        self.counter += 1;
        self.queue.insert((self.now + after, self.counter), happening);
    }

    /// Gives a transaction to every node within a tenth of a second, as gossip would.
    fn submit(&mut self, transaction: u64) {
        for node in 0..self.machines.len() {
            let after = self.dice.below(100);
            self.plan(after, Happening::Submit { node, transaction });
        }
    }

    fn run_for(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            self.now = entry.key().0;
            let happening = entry.remove();
            self.happen(happening);
        }
        self.now = end;
    }

    /// Runs until it holds; panics when it does not within the time.
    fn run_until(&mut self, limit_millis: u64, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = self.now + limit_millis;
        while !holds(self) {
            assert!(self.now < end, "not within {limit_millis} ms: {what}");
            self.run_for(50);
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver { to, from, bytes } => self.deliver(to, from, bytes),
            Happening::Fire { node, life, id, set } => {
                let machine = &mut self.machines[node];
                if machine.life == life && machine.timers.get(&id) == Some(&set) {
                    machine.timers.remove(&id);
                    self.give(node, Event::Timer(id));
                }
            }
            Happening::Submit { node, transaction } => {
                if let Some(host) = self.machines[node].host.as_mut() {
                    host.application_mut().submit(transaction);
                    self.give(node, Event::TransactionsWaiting);
                } else {
                    self.machines[node].waiting.push(transaction);
                }
            }
            Happening::Restart { node } => self.restart(node),
        }
    }

    fn deliver(&mut self, to: usize, from: usize, bytes: Bytes) {
        if self.machines[to].side != self.machines[from].side {
            return;
        }
        if self.is_liar(to) {
            let (node, mut liar) = self.liar.take().unwrap();
            for (to, lie) in liar.on_message(&mut self.dice, &self.machines, &self.sets, &bytes) {
                self.post(node, to, lie);
            }
            self.liar = Some((node, liar));
            return;
        }
        let from = self.machines[from].id;
        self.give(to, Event::Message { from, bytes });
    }

    fn give(&mut self, node: usize, event: Event) {
        let now = self.clock(node);
        let Some(host) = self.machines[node].host.as_mut() else { return };
        let actions = host.on_event(now, event);
        self.carry_out(node, actions.into());
    }

    fn clock(&self, node: usize) -> Time {
        Time(self.now.saturating_add_signed(self.machines[node].skew))
    }

    fn carry_out(&mut self, node: usize, mut actions: VecDeque<Action>) {
        while let Some(action) = actions.pop_front() {
            let machine = &mut self.machines[node];
            if machine.crash_at == Some(machine.actions) {
                machine.crash_at = None;
                return self.crash(node);
            }
            machine.actions += 1;
            match action {
                Action::Broadcast(bytes) => self.broadcast(node, &bytes),
                Action::Send { to, bytes } => {
                    let to = self.machines.iter().position(|machine| machine.id == to).unwrap();
                    self.post(node, to, bytes);
                }
                Action::SetTimer { id, after } => {
                    self.counter += 1;
                    let set = self.counter;
                    self.machines[node].timers.insert(id, set);
                    let life = self.machines[node].life;
                    let after = u64::try_from(after.as_millis()).unwrap();
                    self.plan(after, Happening::Fire { node, life, id, set });
                }
                Action::CancelTimer(id) => {
                    machine.timers.remove(&id);
                }
                Action::AppendWal { height, bytes } => machine.unsynced.push((height, bytes)),
                Action::FsyncWal => {
                    self.fsyncs += 1;
                    let appended = std::mem::take(&mut machine.unsynced);
                    machine.wal.extend(appended);
                }
                Action::ClearWal { height } => {
                    machine.wal.retain(|(of, _)| *of > height);
                    machine.unsynced.retain(|(of, _)| *of > height);
                }
                Action::Commit { block, certificate, origin } => {
                    self.commit(node, *block, certificate, origin);
                    let now = self.clock(node);
                    let host = self.machines[node].host.as_mut().unwrap();
                    actions.extend(host.on_event(now, Event::Committed));
                }
                Action::Halt(why) => panic!("validator {node} halts: {why}"),
            }
        }
    }

    fn commit(&mut self, node: usize, block: Block, certificate: Certificate, origin: Origin) {
        let set = toy_ledger::set_of(&self.sets, block.header.height);
        certificate.verify(CHAIN, set).expect("certificates verify without the engine");
        let (height, id) = (block.header.height, block.header.id());
        assert_eq!(certificate.block, id);
        let decided = *self.decided.entry(height).or_insert(id);
        assert_eq!(decided, id, "two blocks at height {height}");
        assert!(!block.transactions.is_empty(), "an empty block at height {height}");
        *self.origins.entry(name_of(origin)).or_default() += 1;
        let machine = &mut self.machines[node];
        assert_eq!(height.0, machine.blocks.len() as u64 + 1, "heights are committed in order");
        machine.blocks.push((block.clone(), certificate.clone()));
        machine.host.as_mut().unwrap().application_mut().commit(block, certificate);
    }

    fn broadcast(&mut self, node: usize, bytes: &Bytes) {
        self.listen(node, bytes);
        for to in 0..self.machines.len() {
            if to != node {
                self.post(node, to, bytes.clone());
            }
        }
    }

    fn post(&mut self, from: usize, to: usize, bytes: Bytes) {
        self.sent += 1;
        let copies = 1 + u64::from(self.dice.percent(self.weather.double_percent));
        for _ in 0..copies {
            if !self.dice.percent(self.weather.loss_percent) {
                let delay = 1 + self.dice.below(self.weather.delay_max);
                self.plan(delay, Happening::Deliver { to, from, bytes: bytes.clone() });
            }
        }
    }

    /// Holds what an honest validator says against all that it said before, in every life.
    fn listen(&mut self, node: usize, bytes: &[u8]) {
        let (kind, height, round, what) = match Message::decode(bytes).unwrap() {
            Message::Vote(vote) => (Some(vote.kind), vote.height, vote.round, (vote.block, None)),
            Message::Proposal(proposal, _) => {
                (None, proposal.height, proposal.round, (Some(proposal.block), proposal.polka))
            }
            _ => return,
        };
        let first = *self.said.entry((node, kind, height, round)).or_insert(what);
        assert_eq!(first, what, "validator {node} equivocates at {height}/{round} ({kind:?})");
    }

    /// Power cut: of what was not synced, any prefix may have reached the disk.
    fn crash(&mut self, node: usize) {
        let kept = self.dice.index(self.machines[node].unsynced.len() + 1);
        let machine = &mut self.machines[node];
        let written: Vec<_> = machine.unsynced.drain(..).take(kept).collect();
        machine.wal.extend(written);
        machine.host = None;
        machine.timers.clear();
        machine.life += 1;
        let after = 1 + self.dice.below(3_000);
        self.plan(after, Happening::Restart { node });
    }

    fn restart(&mut self, node: usize) {
        if self.machines[node].host.is_some() || self.is_liar(node) {
            return;
        }
        let sets = self.sets.clone();
        let machine = &mut self.machines[node];
        let waiting = std::mem::take(&mut machine.waiting);
        let ledger = ToyLedger::new(CHAIN, sets, machine.blocks.clone(), &waiting);
        let wal: Vec<Bytes> = machine.wal.iter().map(|(_, bytes)| bytes.clone()).collect();
        machine.host = Some(Host::new(config(), key(machine.seed), ledger, &wal).unwrap());
        self.give(node, Event::Start);
    }

    /// Heights of the honest nodes.
    fn heights(&self) -> Vec<usize> {
        self.honest().into_iter().map(|node| self.machines[node].blocks.len()).collect()
    }

    fn has_all(&self, transactions: u64) -> bool {
        let complete = |node: &usize| {
            let committed = self.machines[*node].blocks.iter().flat_map(|(block, _)| &block.transactions);
            committed.count() as u64 >= transactions
        };
        self.honest().iter().all(complete)
    }

    fn all_idle(&self) -> bool {
        self.all_idle_of(self.machines.len())
    }

    fn all_idle_of(&self, first: usize) -> bool {
        let idle = |machine: &Machine| machine.host.as_ref().is_some_and(Host::is_idle);
        self.machines[..first].iter().all(idle)
    }
}

const fn name_of(origin: Origin) -> &'static str {
    match origin {
        Origin::Live => "live",
        Origin::Replayed => "replayed",
        Origin::Synced => "synced",
    }
}
