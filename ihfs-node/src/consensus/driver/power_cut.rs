//! Validators over real ledgers and logs, one of which loses power at every write point of its disk.
//!
//! Messages arrive in the order in which they were sent; timers fire in turn, and only when nothing is on its way.

use std::cell::Cell;
use std::path::Path as FilePath;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ihfs_core::ids::BlockId;
use ihfs_core::ledger::certificate::VoteKind;
use ihfs_core::ledger::state::{RecordEntry, StateKey};

use super::*;
use crate::consensus::message::Message;
use crate::consensus::wal::{Remembered, WalRecord};
use crate::ledger::sample::{self, START};
use crate::ledger::{Ledger, LedgerApplication};
use crate::store::sim_disk::SimDisk;

/// Milliseconds that pass from one look at the clock to the next.
const TICK: u64 = 5;
/// Most deliveries and timers of a run: many times what the longest takes.
const STEPS_MAX: usize = 20_000;
/// The validator whose power is cut.
const CUT: usize = 0;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
}

fn clock() -> Time {
    NOW.set(NOW.get() + TICK);
    START.plus_millis(NOW.get())
}

/// A message on its way; without an addressee it goes to all others.
struct Letter {
    from: usize,
    to: Option<NodeId>,
    bytes: Bytes,
}

/// What validators published, with everything that they said before, in every life.
#[derive(Default)]
struct Post {
    letters: VecDeque<Letter>,
    votes: BTreeMap<(usize, VoteKind, Height, u32), Option<BlockId>>,
    proposals: BTreeMap<(usize, Height, u32), (BlockId, Option<u32>)>,
}

/// One validator's end of the post.
#[derive(Clone)]
struct Sender {
    from: usize,
    post: Arc<Mutex<Post>>,
}

impl Sender {
    fn post(&self) -> MutexGuard<'_, Post> {
        self.post.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Links for Sender {
    fn broadcast(&self, bytes: Bytes) {
        self.post().listen(self.from, &bytes);
        self.post().letters.push_back(Letter { from: self.from, to: None, bytes });
    }

    fn send(&self, to: NodeId, bytes: Bytes) {
        self.post().letters.push_back(Letter { from: self.from, to: Some(to), bytes });
    }
}

impl Post {
    /// Holds what a validator says against what it said before.
    fn listen(&mut self, from: usize, bytes: &[u8]) {
        match Message::decode(bytes).unwrap() {
            Message::Vote(vote) if vote.validator == node(from) => {
                let place = (from, vote.kind, vote.height, vote.round);
                assert_eq!(*self.votes.entry(place).or_insert(vote.block), vote.block, "votes twice");
            }
            Message::Proposal(proposal, _) if proposal.proposer == node(from) => {
                let said = (proposal.block, proposal.polka);
                let place = (from, proposal.height, proposal.round);
                assert_eq!(*self.proposals.entry(place).or_insert(said), said, "proposes twice");
            }
            _ => {}
        }
    }
}

type Validator = Machine<LedgerApplication, Sender>;

/// A validator that runs, with its ledger.
struct Running {
    machine: Validator,
    ledger: Arc<Ledger>,
}

struct Network {
    disks: Vec<SimDisk>,
    running: Vec<Option<Running>>,
    post: Arc<Mutex<Post>>,
    submitted: u8,
    cuts: usize,
    /// Whose timer fired last.
    turn: Option<(usize, TimerId)>,
}

fn node(place: usize) -> NodeId {
    sample::node(number(place))
}

fn number(place: usize) -> u8 {
    u8::try_from(place).unwrap() + 1
}

/// Opens ledger and log and starts a validator over them.
fn open(disk: &SimDisk, place: usize, count: usize, post: &Arc<Mutex<Post>>) -> Option<Running> {
    let numbers: Vec<u8> = (0..count).map(number).collect();
    let file = || disk.database("ledger.redb");
    let path = FilePath::new("ledger.redb");
    let ledger = Arc::new(Ledger::open_on(file, path, sample::genesis(&numbers), clock).ok()?);
    let (log, entries) = LogFile::open_on(|| disk.database("consensus.redb")).ok()?;
    let application = LedgerApplication::new(Arc::clone(&ledger));
    let config = Config::new(ledger.chain());
    let host = Host::new(config, sample::key(number(place)), application, &entries).unwrap();
    let links = Sender { from: place, post: Arc::clone(post) };
    let (committed, counters) =
        (watch::Sender::new(ledger.snapshot().newest().height), watch::Sender::default());
    let machine = Machine { host, log, links, clock, timers: BTreeMap::new(), committed, counters };
    Some(Running { machine, ledger })
}

impl Network {
    fn new(count: usize, cut_after: u64) -> Self {
        NOW.set(0);
        let disks: Vec<SimDisk> = (0..count).map(|_| SimDisk::new()).collect();
        disks[CUT].cut_after(cut_after);
        let running = (0..count).map(|_| None).collect();
        let mut network = Self { disks, running, post: Arc::default(), submitted: 0, cuts: 0, turn: None };
        for place in 0..count {
            network.start(place);
        }
        network
    }

    fn post(&self) -> MutexGuard<'_, Post> {
        self.post.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&mut self, place: usize) {
        let Some(running) = open(&self.disks[place], place, self.disks.len(), &self.post) else {
            return self.lose_power(place);
        };
        self.running[place] = Some(running);
        self.give(place, Event::Start);
        for other in (0..self.disks.len()).filter(|other| *other != place) {
            self.give(place, Event::PeerConnected(node(other)));
            self.give(other, Event::PeerConnected(node(place)));
        }
        for record in 1..=self.submitted {
            self.submit_to(place, record);
        }
    }

    /// An event for a validator; when its disk fails, its power is gone.
    fn give(&mut self, place: usize, event: Event) {
        let Some(running) = self.running[place].as_mut() else { return };
        if let Err(error) = running.machine.give(event) {
            assert!(self.disks[place].was_cut(), "validator {place}: {error:?}");
            self.lose_power(place);
        }
    }

    /// What survived is checked, and the validator starts again.
    fn lose_power(&mut self, place: usize) {
        self.cuts += 1;
        assert!(self.disks[place].was_cut() && self.cuts == 1, "power goes once");
        self.running[place] = None;
        self.disks[place] = self.disks[place].after_power_cut(NOW.get());
        self.check_log(place);
        self.start(place);
    }

    /// Whatever this validator published of undecided heights is in its log.
    fn check_log(&self, place: usize) {
        let disk = &self.disks[place];
        let newest = open(disk, place, self.disks.len(), &Arc::default()).unwrap();
        let newest = newest.ledger.snapshot().newest().height;
        let (_, entries) = LogFile::open_on(|| disk.database("consensus.redb")).unwrap();
        let mut remembered = Post::default();
        for entry in &entries {
            match WalRecord::decode(entry).expect("no entry is torn").what {
                Remembered::Vote(vote) => {
                    remembered.listen(place, &Message::Vote(vote).encode());
                }
                Remembered::Proposal(proposal) => {
                    remembered.listen(place, &Message::Proposal(proposal, None).encode());
                }
                _ => {}
            }
        }
        let post = self.post();
        for (said, block) in post.votes.iter().filter(|(said, _)| said.0 == place && said.2 > newest) {
            assert_eq!(remembered.votes.get(said), Some(block), "a vote was published and forgotten");
        }
        for (said, what) in post.proposals.iter().filter(|(said, _)| said.0 == place && said.1 > newest) {
            assert_eq!(remembered.proposals.get(said), Some(what), "a proposal was published and forgotten");
        }
    }

    fn submit(&mut self) {
        self.submitted += 1;
        for place in 0..self.disks.len() {
            self.submit_to(place, self.submitted);
        }
    }

    fn submit_to(&mut self, place: usize, record: u8) {
        let Some(running) = &self.running[place] else { return };
        let creates = sample::creates(running.ledger.chain(), record);
        if sample::submit(&running.ledger, creates).is_ok() {
            self.give(place, Event::TransactionsWaiting);
        } else {
            assert!(self.disks[place].was_cut(), "a ledger with power takes a transaction");
        }
    }

    fn has_all(&self) -> bool {
        let has = |ledger: &Ledger, record: u8| {
            let entry = ledger.snapshot().read::<RecordEntry>(&StateKey::Record(sample::record(record)));
            entry.is_ok_and(|entry| entry.is_some())
        };
        let complete = |running: &Running| (1..=self.submitted).all(|record| has(&running.ledger, record));
        self.running.iter().all(|running| running.as_ref().is_some_and(complete))
    }

    fn run_until_all_have_all(&mut self) {
        for _ in 0..STEPS_MAX {
            let letter = self.post().letters.pop_front();
            match letter {
                Some(letter) => self.deliver(&letter),
                None if self.has_all() => return,
                None => self.fire_next_timer(),
            }
        }
        panic!("not decided within {STEPS_MAX} steps");
    }

    fn deliver(&mut self, letter: &Letter) {
        for place in 0..self.disks.len() {
            let is_meant = letter.to.map_or(place != letter.from, |to| to == node(place));
            if is_meant {
                self.give(place, Event::Message { from: node(letter.from), bytes: letter.bytes.clone() });
            }
        }
    }

    fn fire_next_timer(&mut self) {
        let of = |(place, running): (usize, &Option<Running>)| {
            let timers = running.iter().flat_map(|running| running.machine.timers.keys().copied());
            timers.map(move |id| (place, id)).collect::<Vec<_>>()
        };
        let timers: Vec<_> = self.running.iter().enumerate().flat_map(of).collect();
        let next = timers.iter().find(|timer| self.turn.is_none_or(|turn| **timer > turn));
        let (place, id) = *next.or(timers.first()).expect("validators always wait for something");
        self.turn = Some((place, id));
        let machine = &mut self.running[place].as_mut().expect("its timers were just listed").machine;
        machine.timers.remove(&id);
        self.give(place, Event::Timer(id));
    }

    /// All ledgers hold the same blocks.
    fn assert_agreed(&self) {
        let ledgers: Vec<_> =
            self.running.iter().flatten().map(|running| running.ledger.snapshot()).collect();
        let lowest = ledgers.iter().map(|ledger| ledger.newest().height.0).min().unwrap();
        for height in (1..=lowest).map(Height) {
            let id = |ledger: &crate::ledger::Snapshot| ledger.block(height).unwrap().unwrap().header.id();
            assert!(ledgers.iter().all(|ledger| id(ledger) == id(&ledgers[0])), "two blocks at {height:?}");
        }
    }
}

/// Cuts the power at each write point of the first of so many validators, while they decide so many transactions.
fn cut_everywhere(count: usize, transactions: u8) {
    for point in 1.. {
        let mut network = Network::new(count, point);
        for _ in 0..transactions {
            network.submit();
            network.run_until_all_have_all();
        }
        network.assert_agreed();
        if network.cuts == 0 {
            assert!(point > 50, "the run has many write points, found {point}");
            return;
        }
    }
}

#[test]
fn a_vote_that_was_published_is_in_the_log_wherever_the_power_is_cut() {
    cut_everywhere(4, 2);
}

#[test]
fn one_validator_decides_all_over_its_database_wherever_the_power_is_cut() {
    cut_everywhere(1, 5);
}
