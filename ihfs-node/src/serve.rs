//! Answers what peers ask: one file a conversation, one rule who may ask what.
//!
//! Bad input is refused and never stops the node; calls that wait for a disk run on the blocking pool; every
//! request has a deadline. It must not know how blocks are decided or where bytes lie.

pub mod access;
mod chunk;
pub mod directory;
mod join;
mod key;
mod ledger;
mod places;
pub(crate) mod status;

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ihfs_core::ids::{MemberId, NodeId, RecordId, Time};
use ihfs_net::{Conversation, Incoming, Message, PeerKey, Request};
use ihfs_proto::ledger::{Reason, Refusal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::custody::Custody;
use crate::keys::NodeKey;
use crate::ledger::{Ledger, Snapshot};
use crate::pins::Pinning;
use crate::store::Store;
use access::{Roster, Who};
use directory::Directory;
use places::Places;

/// Longest time that an ordinary request is worked on: a slow disk's worth.
const WORK_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a submitter waits for the decision: several rounds of consensus.
const SUBMIT_TIME_MAX: Duration = Duration::from_secs(60);
/// Longest that somebody waits for news with one request.
const WAIT_TIME_MAX: Duration = Duration::from_secs(60);
/// Chunk requests worked on at once: they share one disk.
const CHUNKS_AT_ONCE: usize = 64;
/// Key requests worked on at once.
const KEYS_AT_ONCE: usize = 16;
/// Requests to join worked on at once: strangers must not take the node's time.
const JOINS_AT_ONCE: usize = 8;
/// Ledger requests worked on at once.
const READS_AT_ONCE: usize = 64;
/// Submissions that wait for their decision at once.
const SUBMITS_AT_ONCE: usize = 1024;
/// Requests for news that wait at once.
const WAITS_AT_ONCE: usize = 1024;
/// Of each of these for one asker: all devices and programs of a person, and far below all of them.
const WAITING_EACH_MAX: usize = 16;

/// A peer that asked nothing for so long is not counted.
const SEEN_LATELY: Duration = Duration::from_secs(300);
/// Most peers whose last request is remembered.
const SEEN_MAX: usize = 16_384;

/// What the conversations share.
pub struct Service {
    /// The ledger.
    pub ledger: Arc<Ledger>,
    /// Chunks.
    pub store: Store,
    /// Key shares.
    pub custody: Arc<Custody>,
    /// Who is who.
    pub roster: Arc<Roster>,
    /// Handles.
    pub directory: Arc<Directory>,
    /// What keeps pins in step with the ledger.
    pub pinning: Arc<Pinning>,
    /// Signs for the node.
    pub key: Arc<NodeKey>,
    /// This machine's clock.
    pub clock: Clock,
    /// Bytes that members upload to records that do not exist yet.
    pub(crate) unanchored: chunk::Unanchored,
    turns: Turns,
    seen: Seen,
    /// Requests for chunks that were denied since the start.
    denials: AtomicU64,
}

/// Wall clock, and a clock that goes on from it evenly whatever happens to the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: fn() -> Time,
    started: Time,
    since: Instant,
}

impl Clock {
    /// A clock over this source of wall time.
    pub fn new(wall: fn() -> Time) -> Self {
        Self { wall, started: wall(), since: Instant::now() }
    }

    /// The wall clock.
    pub fn now(&self) -> Time {
        (self.wall)()
    }

    /// The later of the wall clock and the newest header's time as it goes on by the monotonic clock: headers stand still
    /// on an idle ledger, and a wall clock that is set back must not bring back what has ended.
    pub fn time(&self, snapshot: &Snapshot) -> Time {
        self.now().max(snapshot.time_by_now())
    }

    /// The wall clock as it would be had nobody set it since the start.
    pub fn steady(&self) -> Time {
        self.started.plus_millis(u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

struct Turns {
    chunk: Semaphore,
    key: Semaphore,
    join: Semaphore,
    read: Semaphore,
    submit: Places,
    wait: Places,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            chunk: Semaphore::new(CHUNKS_AT_ONCE),
            key: Semaphore::new(KEYS_AT_ONCE),
            join: Semaphore::new(JOINS_AT_ONCE),
            read: Semaphore::new(READS_AT_ONCE),
            submit: Places::new(SUBMITS_AT_ONCE, WAITING_EACH_MAX),
            wait: Places::new(WAITS_AT_ONCE, WAITING_EACH_MAX),
        }
    }
}

/// When peers last asked something.
#[derive(Default)]
struct Seen(Mutex<HashMap<PeerKey, Instant>>);

impl Seen {
    fn note(&self, peer: PeerKey) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= SEEN_MAX && !seen.contains_key(&peer) {
            seen.retain(|_, at| at.elapsed() < SEEN_LATELY);
        }
        if seen.len() < SEEN_MAX || seen.contains_key(&peer) {
            seen.insert(peer, Instant::now());
        }
    }

    /// How many asked something lately.
    fn count(&self) -> u32 {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = seen.values().filter(|at| at.elapsed() < SEEN_LATELY).count();
        u32::try_from(lately).unwrap_or(u32::MAX)
    }
}

/// What a [`Service`] is made of.
pub struct Parts {
    /// The ledger.
    pub ledger: Arc<Ledger>,
    /// Chunks.
    pub store: Store,
    /// Key shares.
    pub custody: Arc<Custody>,
    /// Who is who.
    pub roster: Arc<Roster>,
    /// Handles.
    pub directory: Arc<Directory>,
    /// What keeps pins in step with the ledger.
    pub pinning: Arc<Pinning>,
    /// Signs for the node.
    pub key: Arc<NodeKey>,
    /// This machine's clock.
    pub clock: Clock,
    /// Most bytes of one member in records that do not exist yet.
    pub unanchored_bytes_max: u64,
}

impl Service {
    /// A service of these parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { ledger, store, custody, roster, directory, pinning, key, clock, unanchored_bytes_max } =
            parts;
        let unanchored = chunk::Unanchored::new(unanchored_bytes_max);
        Self {
            ledger,
            store,
            custody,
            roster,
            directory,
            pinning,
            key,
            clock,
            unanchored,
            turns: Turns::default(),
            seen: Seen::default(),
            denials: AtomicU64::new(0),
        }
    }

    /// Answers requests until the network is shut down.
    pub async fn run(self: Arc<Self>, mut incoming: Incoming) {
        // The network bounds how many requests are under way, and their bytes. They end with this task.
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                request = incoming.next() => match request {
                    Some(request) => { under_way.spawn(Arc::clone(&self).answer(request)); }
                    None => return,
                },
                Some(_) = under_way.join_next() => {}
            }
        }
    }

    async fn answer(self: Arc<Self>, request: Request) {
        let Request { peer, conversation, message, reply, .. } = request;
        let who = self.roster.who(peer);
        self.seen.note(peer);
        let answer = match conversation {
            Conversation::Join => self.join(message).await,
            Conversation::Chunk => self.chunk(who, message).await,
            Conversation::Key => self.key_share(who, message).await,
            Conversation::Ledger => self.ledger(who, message).await,
            Conversation::Status => self.status(who, message).await,
            Conversation::Consensus => self.consensus(who, message),
        };
        if let Err(error) = reply.send(answer).await {
            tracing::debug!(%error, ?conversation, "answer not delivered");
        }
    }

    fn consensus(&self, who: Who, message: Message) -> Message {
        if let (Who::Node(node), Some(consensus)) = (who, self.ledger.consensus()) {
            let bytes = if message.header.is_empty() { message.body } else { message.header };
            consensus.deliver(node, bytes);
        }
        Message::default()
    }

    /// Nothing new is taken in on a disk that is all but full; reading goes on.
    fn check_room(&self) -> Result<(), Refusal> {
        if self.store.has_room().map_err(broken)? { Ok(()) } else { Err(full()) }
    }

    /// This node's id.
    pub fn node(&self) -> NodeId {
        self.key.node()
    }
}

/// Does the work when its turn comes, within the deadline.
async fn in_turn<T>(turns: &Semaphore, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let timed = tokio::time::timeout(WORK_TIME_MAX, async {
        let _turn = turns.acquire().await;
        work.await
    });
    timed.await.unwrap_or_else(|_| Err(busy()))
}

/// Runs what waits for a disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Refusal::new(Reason::Broken, &[], "a request failed on the way")))
}

fn busy() -> Refusal {
    Refusal::new(Reason::Busy, &[], "the node has too much to do; try again later")
}

fn full() -> Refusal {
    Refusal::new(Reason::Full, &[], "the node's disk is full")
}

fn malformed(what: &str) -> Refusal {
    Refusal::new(Reason::Malformed, &[], what)
}

fn not_allowed(subject: &[u8], detail: &str) -> Refusal {
    Refusal::new(Reason::NotAllowed, subject, detail)
}

/// A record that the ledger does not know is its asker's alone: whoever will create it knows the nonce that, with his
/// own id, makes the record's.
fn check_future(member: MemberId, record: RecordId, nonce: &[u8]) -> Result<(), Refusal> {
    if nonce.is_empty() {
        let detail = "the ledger does not know this record here, or not yet";
        return Err(Refusal::new(Reason::NoLedger, record.as_bytes(), detail));
    }
    let nonce = nonce.try_into().map_err(|_| malformed("the nonce of a record has 32 bytes"))?;
    if RecordId::of(member, nonce) == record {
        return Ok(());
    }
    Err(not_allowed(record.as_bytes(), "the record is not made of this member's id and the nonce"))
}

/// A fault of this node: logged in full, told in short.
fn broken(error: impl std::error::Error + 'static) -> Refusal {
    tracing::error!(error = &error as &dyn std::error::Error, "a request failed");
    Refusal::new(Reason::Broken, &[], "the node is broken: its log tells")
}

/// Thirty-two bytes of an id.
fn id<T: for<'a> TryFrom<&'a [u8]>>(bytes: &[u8], what: &str) -> Result<T, Refusal> {
    T::try_from(bytes).map_err(|_| malformed(what))
}
