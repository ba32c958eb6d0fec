//! The network in memory: the same door, with delay, loss, partition and counters, for tests.
//!
//! No sockets and no time of its own: it waits on tokio's clock, so a paused clock makes it run in
//! virtual time, and what is lost depends on the seed, the two ends and the message's number alone.
//! Setting up connections costs nothing here; everything else that a caller can meet is the same:
//! admission, limits, refusals, deadlines.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::frame::{Head, Kind as FrameKind, Refusal};
use crate::gate::{Gate, Policy};
use crate::incoming::{Incoming, Reply, Request};
use crate::limits::Limits;
use crate::message::{Conversation, Message};
use crate::network::{Network, RequestError};
use crate::peer::PeerKey;

/// Any number of peers in one process. Cheap to clone.
#[derive(Clone)]
pub struct Twin(Arc<Mutex<State>>);

struct State {
    seed: u64,
    delay: Duration,
    /// Lost messages among a million.
    loss_ppm: u32,
    delays: HashMap<(PeerKey, PeerKey), Duration>,
    cut: Vec<(PeerKey, PeerKey)>,
    ends: HashMap<PeerKey, Arc<End>>,
    traffic: HashMap<(PeerKey, PeerKey), Traffic>,
}

/// What went from one peer to another since the counters were last cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests sent, lost ones too.
    pub requests: u64,
    /// Answers and refusals sent, lost ones too.
    pub answers: u64,
    /// Bytes of header and body sent in both, without frames.
    pub bytes: u64,
    /// Messages that were lost or met a partition.
    pub lost: u64,
}

/// One peer.
struct End {
    gate: Gate,
    requests: mpsc::Sender<Request>,
    in_flight_max: usize,
    in_flight: Mutex<HashMap<(PeerKey, Conversation), usize>>,
    /// Round trips on the longest chain of requests that each waited for the answer before.
    round_trips: AtomicU64,
    is_down: AtomicBool,
}

impl Twin {
    /// A network without delay, loss or partition. The seed decides what is lost, later.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            seed,
            delay: Duration::ZERO,
            loss_ppm: 0,
            delays: HashMap::new(),
            cut: Vec::new(),
            ends: HashMap::new(),
            traffic: HashMap::new(),
        })))
    }

    /// The end of this peer. A second one of the same key replaces the first, as a restart does.
    pub fn network(&self, key: PeerKey, limits: Limits) -> (Network, Incoming) {
        let (requests, incoming) = mpsc::channel(limits.requests_waiting);
        let end = Arc::new(End {
            gate: Gate::new(&limits),
            requests,
            in_flight_max: limits.requests_in_flight_per_stream,
            in_flight: Mutex::default(),
            round_trips: AtomicU64::new(0),
            is_down: AtomicBool::new(false),
        });
        if let Some(replaced) = self.lock().ends.insert(key, end.clone()) {
            replaced.is_down.store(true, Ordering::SeqCst);
        }
        (Network::of_twin(TwinNetwork { twin: self.clone(), key, end }), Incoming::new(incoming))
    }

    /// Time that every message takes, one way.
    pub fn set_delay(&self, one_way: Duration) {
        self.lock().delay = one_way;
    }

    /// Time that messages between these two take, one way, in both directions.
    pub fn set_delay_between(&self, one: PeerKey, other: PeerKey, one_way: Duration) {
        let mut state = self.lock();
        state.delays.insert((one, other), one_way);
        state.delays.insert((other, one), one_way);
    }

    /// How many messages of a million are lost. The requester then waits until its deadline.
    pub fn set_loss(&self, parts_per_million: u32) {
        self.lock().loss_ppm = parts_per_million;
    }

    /// From now on nothing passes between a peer of `one` and a peer of `other`.
    pub fn partition(&self, one: &[PeerKey], other: &[PeerKey]) {
        let mut state = self.lock();
        for one in one {
            for other in other {
                state.cut.extend([(*one, *other), (*other, *one)]);
            }
        }
    }

    /// Ends all partitions.
    pub fn heal(&self) {
        self.lock().cut.clear();
    }

    /// What `from` has sent to `to`.
    pub fn traffic(&self, from: PeerKey, to: PeerKey) -> Traffic {
        self.lock().traffic.get(&(from, to)).copied().unwrap_or_default()
    }

    /// Round trips that this peer waited for: the longest chain of its requests of which each was
    /// made after the answer before had come. Requests made together count once.
    pub fn round_trips(&self, of: PeerKey) -> u64 {
        self.lock().ends.get(&of).map_or(0, |end| end.round_trips.load(Ordering::SeqCst))
    }

    /// Sets all counters to zero.
    pub fn clear_counters(&self) {
        let mut state = self.lock();
        state.traffic.clear();
        for end in state.ends.values() {
            end.round_trips.store(0, Ordering::SeqCst);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries one message: counts it, waits out the delay, and says whether it arrives.
    async fn carry(&self, from: PeerKey, to: PeerKey, bytes: usize, is_request: bool) -> bool {
        let (delay, arrives) = self.lock().count(from, to, bytes, is_request);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        // A partition that begins while the message is under way stops it too.
        arrives && !self.lock().cut.contains(&(from, to))
    }
}

impl State {
    fn count(&mut self, from: PeerKey, to: PeerKey, bytes: usize, is_request: bool) -> (Duration, bool) {
        let is_cut = self.cut.contains(&(from, to));
        let traffic = self.traffic.entry((from, to)).or_default();
        let number = traffic.requests + traffic.answers;
        if is_request {
            traffic.requests += 1;
        } else {
            traffic.answers += 1;
        }
        traffic.bytes += bytes as u64;
        let is_lost = is_cut || is_lost(self.seed, from, to, number, self.loss_ppm);
        traffic.lost += u64::from(is_lost);
        (self.delays.get(&(from, to)).copied().unwrap_or(self.delay), !is_lost)
    }
}

/// Whether the message of this number is lost: a hash, so that the order of tasks plays no part.
fn is_lost(seed: u64, from: PeerKey, to: PeerKey, number: u64, loss_ppm: u32) -> bool {
    let words =
        [from, to].into_iter().flat_map(|key| key.as_bytes().chunks_exact(8).map(word).collect::<Vec<_>>());
    let hash = words.chain([number]).fold(seed, |hash, word| mix(hash ^ word));
    hash % 1_000_000 < u64::from(loss_ppm)
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("chunks of eight bytes"))
}

/// The finaliser of SplitMix64, <https://prng.di.unimi.it/splitmix64.c>.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// What a [`Network`] of the twin does.
#[derive(Clone)]
pub(crate) struct TwinNetwork {
    twin: Twin,
    key: PeerKey,
    end: Arc<End>,
}

impl TwinNetwork {
    pub(crate) fn key(&self) -> PeerKey {
        self.key
    }

    pub(crate) fn allow(&self, policy: Policy) {
        self.end.gate.set_policy(policy);
    }

    pub(crate) fn shutdown(&self) {
        self.end.is_down.store(true, Ordering::SeqCst);
        let mut state = self.twin.lock();
        if state.ends.get(&self.key).is_some_and(|end| Arc::ptr_eq(end, &self.end)) {
            state.ends.remove(&self.key);
        }
    }

    pub(crate) async fn request(
        &self,
        peer: PeerKey,
        conversation: Conversation,
        message: Message,
    ) -> Result<Message, RequestError> {
        if self.end.is_down.load(Ordering::SeqCst) {
            return Err(RequestError::ShutDown);
        }
        let sent = message.size_bytes();
        let round_trip = self.end.round_trips.load(Ordering::SeqCst) + 1;
        if !self.twin.carry(self.key, peer, sent, true).await {
            return std::future::pending().await;
        }
        let Some(server) = self.twin.lock().ends.get(&peer).cloned() else {
            return Err(RequestError::Unreachable { peer });
        };
        let answer = server.serve(self.key, conversation, message).await;
        if server.is_down.load(Ordering::SeqCst) {
            return Err(RequestError::Closed { peer });
        }
        let answered = answer.as_ref().map_or(0, Message::size_bytes);
        if !self.twin.carry(peer, self.key, answered, false).await {
            return std::future::pending().await;
        }
        self.end.round_trips.fetch_max(round_trip, Ordering::SeqCst);
        answer.map_err(|refusal| RequestError::refused(peer, refusal, sent))
    }
}

impl End {
    async fn serve(
        &self,
        peer: PeerKey,
        conversation: Conversation,
        message: Message,
    ) -> Result<Message, Refusal> {
        let head = Head::carrying(FrameKind::Request, conversation, 0, &message);
        let admission = self.gate.admit(peer, &head)?;
        let _place = Place::take(self, (peer, conversation)).ok_or(Refusal::Busy)?;
        let (answer, answered) = oneshot::channel();
        let reply = Reply::new(answer, None, None);
        let request = Request { peer, admission, conversation, message, reply };
        self.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::Busy,
            mpsc::error::TrySendError::Closed(_) => Refusal::NotServed,
        })?;
        answered.await.map(|answer| answer.message).map_err(|_| Refusal::Unanswered)
    }
}

/// A place among the requests in flight, given back on drop.
struct Place<'a> {
    end: &'a End,
    of: (PeerKey, Conversation),
}

impl<'a> Place<'a> {
    fn take(end: &'a End, of: (PeerKey, Conversation)) -> Option<Self> {
        let mut in_flight = end.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let count = in_flight.entry(of).or_default();
        if *count >= end.in_flight_max {
            return None;
        }
        *count += 1;
        Some(Self { end, of })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut in_flight = self.end.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = in_flight.get_mut(&self.of) {
            *count -= 1;
        }
    }
}
