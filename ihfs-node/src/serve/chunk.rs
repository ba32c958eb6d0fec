//! Storing and fetching sealed chunks, and the receipt for what is durable.
//!
//! A chunk is served under a record only if its bytes were uploaded under it, or an owner's device had it bound
//! from another record of the same owner: naming a chunk gives nobody its bytes.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use ihfs_core::codec;
use ihfs_core::ids::{ChunkId, MemberId, RecordId, Time};
use ihfs_core::ledger::news::News;
use ihfs_core::ledger::state::{MemberEntry, RecordEntry, StateKey};
use ihfs_core::pins::DeltaSummary;
use ihfs_core::placement::{Placement, PlacementRule};
use ihfs_core::receipt::{RECEIPT_LIFE_MIN, Receipt, ReceiptSubject};
use ihfs_net::Message;
use ihfs_proto::chunk::request::Request as Ask;
use ihfs_proto::chunk::response::Response as Answer;
use ihfs_proto::chunk::{Get, Got, Has, Request, Response, Vouch};
use ihfs_proto::ledger::{Reason, Refusal};
use ihfs_proto::{HAS_CHUNKS_MAX, HEADER_BYTES_MAX, VOUCH_SOURCES_MAX};

use super::access::{self, NotServed, Standing, Who};
use super::{Service, blocking, broken, check_future, full, id, in_turn, malformed, not_allowed};
use crate::ledger::{Decided, Snapshot};
use crate::pins::{DeltaParts, ReadDeltaError};
use crate::store::{AppendError, BindError, ReadError, Store, SyncError};

/// How long a receipt lasts: the shortest life, and a day for a ledger that is slow.
const RECEIPT_LIFE: u64 = RECEIPT_LIFE_MIN + 24 * 60 * 60 * 1000;
/// Chunks are kept an hour longer than their receipt says, for clocks that differ.
const KEEP_LONGER: u64 = 60 * 60 * 1000;
/// Most records that do not exist yet with uploads of one member.
const UNANCHORED_RECORDS_MAX: usize = 1024;

impl Service {
    /// Answers one message of the chunk conversation; a chunk is its body.
    pub(super) async fn chunk(&self, who: Who, message: Message) -> Message {
        let answer = match ihfs_proto::decode::<Request>(message.header, HEADER_BYTES_MAX) {
            Ok(Request { record, nonce, request: Some(ask) }) => {
                self.chunk_answer(who, (&record, &nonce), ask, message.body).await
            }
            _ => Err(malformed("not a request of the chunk conversation")),
        };
        if let Err(refusal) = &answer
            && matches!(refusal.reason(), Reason::NoGrant | Reason::NotOpened)
        {
            self.denials.fetch_add(1, Ordering::Relaxed);
        }
        let (answer, body) = answer.unwrap_or_else(|refusal| (Answer::Refusal(refusal), Bytes::new()));
        Message { header: ihfs_proto::encode(&Response { response: Some(answer) }), body }
    }

    async fn chunk_answer(
        &self,
        who: Who,
        (record, nonce): (&[u8], &[u8]),
        ask: Ask,
        body: Bytes,
    ) -> Result<(Answer, Bytes), Refusal> {
        let record: RecordId = id(record, "a record has an id of 32 bytes")?;
        let Some(member) = who.member() else {
            return Err(not_allowed(record.as_bytes(), "chunks are for members"));
        };
        let snapshot = self.ledger.snapshot();
        let standing =
            access::standing(&snapshot, member, record, self.clock.time(&snapshot)).map_err(broken)?;
        if standing == Standing::Unknown {
            check_future(member, record, nonce)?;
        }
        let asking = Asking { member, record, standing };
        let plain = |answer| (answer, Bytes::new());
        match ask {
            Ask::Has(has) => self.has(&asking, &has).await.map(plain),
            Ask::Put(_) => self.put(&asking, body).await.map(plain),
            Ask::Get(get) => self.get(&asking, &get).await,
            Ask::Vouch(vouch) => self.vouch(&asking, snapshot, vouch).await.map(plain),
        }
    }

    async fn has(&self, asking: &Asking, has: &Has) -> Result<Answer, Refusal> {
        asking.check_may_know()?;
        let ids = ids(&has.chunks, HAS_CHUNKS_MAX)?;
        let (store, record) = (self.store.clone(), asking.record);
        let work = blocking(move || store.is_bound(record, &ids).map_err(broken));
        let bound = in_turn(&self.turns.chunk, work).await?;
        let mut bits = vec![0; bound.len().div_ceil(8)];
        for (place, _) in bound.iter().enumerate().filter(|(_, bound)| **bound) {
            bits[place / 8] |= 1 << (place % 8);
        }
        Ok(Answer::Has(bits.into()))
    }

    async fn put(&self, asking: &Asking, body: Bytes) -> Result<Answer, Refusal> {
        asking.check_may_write()?;
        if body.is_empty() {
            return Err(malformed("a chunk has bytes"));
        }
        self.check_room()?;
        if asking.standing == Standing::Unknown {
            self.unanchored.take(asking.member, asking.record, body.len() as u64)?;
        }
        let (store, record, now) = (self.store.clone(), asking.record, self.clock.now());
        let work = blocking(move || store.append(record, body, now).map_err(refuse_append));
        let stored = in_turn(&self.turns.chunk, work).await?;
        Ok(Answer::Stored(Bytes::copy_from_slice(stored.as_bytes())))
    }

    async fn get(&self, asking: &Asking, get: &Get) -> Result<(Answer, Bytes), Refusal> {
        asking.check_may_read()?;
        let chunk: ChunkId = id(&get.chunk, "a chunk has an id of 32 bytes")?;
        let (store, record) = (self.store.clone(), asking.record);
        let work = blocking(move || store.read(record, chunk).map_err(refuse_read));
        let bytes = in_turn(&self.turns.chunk, work).await?;
        Ok((Answer::Got(Got {}), bytes))
    }

    async fn vouch(&self, asking: &Asking, snapshot: Arc<Snapshot>, vouch: Vouch) -> Result<Answer, Refusal> {
        asking.check_may_write()?;
        self.check_room()?;
        let voucher = Voucher {
            store: self.store.clone(),
            snapshot,
            asking: *asking,
            delta: id(&vouch.delta, "a delta has an id of 32 bytes")?,
            root: id(&vouch.root, "a root has an id of 32 bytes")?,
            sources: records(&vouch.sources)?,
            now: self.clock.now(),
        };
        let (key, chain) = (Arc::clone(&self.key), self.ledger.chain());
        let work = blocking(move || {
            let placement = voucher.check_placed(key.node())?;
            let (sums, expires) = voucher.make_durable()?;
            let Voucher { asking: Asking { record, .. }, delta, root, .. } = voucher;
            let DeltaSummary { added_bytes: bytes_added, dropped_bytes: bytes_dropped, .. } = sums;
            let subject = ReceiptSubject { chain, record, delta, root, bytes_added, bytes_dropped };
            Ok(Receipt::sign(key.get(), &subject, placement, expires))
        });
        let receipt = in_turn(&self.turns.chunk, work).await?;
        Ok(Answer::Receipt(codec::encode(&receipt).into()))
    }
}

/// Who asks about which record.
#[derive(Clone, Copy)]
struct Asking {
    member: MemberId,
    record: RecordId,
    standing: Standing,
}

impl Asking {
    fn refuse(&self, why: NotServed) -> Refusal {
        let (reason, detail) = match why {
            NotServed::NoGrant => (Reason::NoGrant, "no grant on this record is live"),
            NotServed::NotOpened => (Reason::NotOpened, "the grant on this record was not opened lately"),
        };
        tracing::info!(record = ?self.record, ?reason, "denied");
        Refusal::new(reason, self.record.as_bytes(), detail)
    }

    fn check_may_read(&self) -> Result<(), Refusal> {
        match self.standing {
            Standing::Owner | Standing::Reader { .. } => Ok(()),
            Standing::Unknown => Err(Refusal::new(
                Reason::NotFound,
                self.record.as_bytes(),
                "the ledger does not know this record",
            )),
            Standing::Stranger(why) => Err(self.refuse(why)),
        }
    }

    fn check_may_write(&self) -> Result<(), Refusal> {
        match self.standing {
            Standing::Owner | Standing::Unknown | Standing::Reader { writes: true } => Ok(()),
            Standing::Reader { writes: false } => Err(Refusal::new(
                Reason::NoGrant,
                self.record.as_bytes(),
                "no grant to write this record in its live epoch",
            )),
            Standing::Stranger(why) => Err(self.refuse(why)),
        }
    }

    fn check_may_know(&self) -> Result<(), Refusal> {
        match self.standing {
            Standing::Stranger(why) => Err(self.refuse(why)),
            _ => Ok(()),
        }
    }
}

/// What a receipt is asked for.
struct Voucher {
    store: Store,
    snapshot: Arc<Snapshot>,
    asking: Asking,
    delta: ChunkId,
    root: ChunkId,
    sources: Vec<RecordId>,
    now: Time,
}

impl Voucher {
    /// The placement's version, if the record lies on this node by it.
    fn check_placed(&self, node: ihfs_core::ids::NodeId) -> Result<u64, Refusal> {
        let placement: Placement = self.snapshot.must(&StateKey::Placement).map_err(broken)?;
        let policy = self.snapshot.consortium().map_err(broken)?.policy;
        let rule = PlacementRule { home: self.home(policy.home)?, regions: &policy.regions };
        let places = placement.replicas(self.asking.record, usize::from(policy.replicas), &rule);
        if !places.contains(&node) {
            return Err(not_allowed(self.asking.record.as_bytes(), "the record does not lie on this node"));
        }
        Ok(placement.version)
    }

    fn home(&self, wanted: bool) -> Result<Option<MemberId>, Refusal> {
        let record = StateKey::Record(self.asking.record);
        if let Some(entry) = self.snapshot.read::<RecordEntry>(&record).map_err(broken)? {
            return Ok(entry.home);
        }
        let member = StateKey::Member(self.asking.member);
        let member: Option<MemberEntry> = self.snapshot.read(&member).map_err(broken)?;
        Ok(member.map(|member| member.hospital).filter(|_| wanted))
    }

    /// Everything that the delta adds, of the sizes that it says, the delta itself and the root: here, under the
    /// record, durable, and kept until the receipt that may then be signed has expired. A part at a time: what is not
    /// here ends it at once.
    fn make_durable(&self) -> Result<(DeltaSummary, Time), Refusal> {
        let record = self.asking.record;
        let later = self.now.max(self.snapshot.newest().time);
        let expires = later.plus_millis(RECEIPT_LIFE);
        let until = expires.plus_millis(KEEP_LONGER);
        let mut parts = DeltaParts::new(&self.store, record, self.delta);
        let mut ids = Vec::new();
        while let Some(part) = parts.next_part().map_err(refuse_delta)? {
            // All but the last, with which the root goes.
            self.store.sync(record, &ids, until).map_err(refuse_sync)?;
            ids = part.added.iter().map(|(id, _)| *id).collect();
            self.bind_missing(&ids)?;
            self.check_sizes(&part.added)?;
            ids.extend(part.chunk.map(|(id, _)| id));
        }
        ids.push(self.root);
        self.store.sync(record, &ids, until).map_err(refuse_sync)?;
        Ok((parts.summary(), expires))
    }

    /// The sums go onto the ledger under this node's name: each chunk has the size that the delta says.
    fn check_sizes(&self, added: &[(ChunkId, u32)]) -> Result<(), Refusal> {
        let ids: Vec<ChunkId> = added.iter().map(|(id, _)| *id).collect();
        let sizes = self.store.sizes(self.asking.record, &ids).map_err(broken)?;
        match added.iter().zip(sizes).find(|((_, said), size)| *size != Some(*said)) {
            Some(_) => Err(malformed("the delta says another size of a chunk than it has")),
            None => Ok(()),
        }
    }

    fn bind_missing(&self, ids: &[ChunkId]) -> Result<(), Refusal> {
        let mut missing = self.not_bound(self.asking.record, ids)?;
        for source in &self.sources {
            if missing.is_empty() {
                break;
            }
            self.check_source(*source)?;
            let elsewhere = self.not_bound(*source, &missing)?;
            let here: Vec<ChunkId> = missing.iter().filter(|id| !elsewhere.contains(id)).copied().collect();
            if !here.is_empty() {
                self.store.bind(self.asking.record, *source, &here, self.now).map_err(refuse_bind)?;
            }
            missing = elsewhere;
        }
        match missing.first() {
            Some(id) => Err(missing_chunk(*id)),
            None => Ok(()),
        }
    }

    fn not_bound(&self, record: RecordId, ids: &[ChunkId]) -> Result<Vec<ChunkId>, Refusal> {
        let bound = self.store.is_bound(record, ids).map_err(broken)?;
        Ok(ids.iter().zip(bound).filter(|(_, bound)| !bound).map(|(id, _)| *id).collect())
    }

    /// Chunks come only from records of the one who asks, and only into one of his own.
    fn check_source(&self, source: RecordId) -> Result<(), Refusal> {
        let own = matches!(self.asking.standing, Standing::Owner | Standing::Unknown);
        let owner = self.snapshot.owner_of(source).map_err(broken)?;
        if own && owner == Some(self.asking.member) {
            return Ok(());
        }
        Err(not_allowed(source.as_bytes(), "chunks are reused between records of one owner alone"))
    }
}

/// Bytes that members uploaded to records which the ledger does not know, since the node started.
pub(crate) struct Unanchored {
    bytes_max: u64,
    members: Mutex<BTreeMap<MemberId, BTreeMap<RecordId, u64>>>,
}

impl Unanchored {
    pub(super) const fn new(bytes_max: u64) -> Self {
        Self { bytes_max, members: Mutex::new(BTreeMap::new()) }
    }

    fn take(&self, member: MemberId, record: RecordId, bytes: u64) -> Result<(), Refusal> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let records = members.entry(member).or_default();
        let known = records.contains_key(&record);
        let sum: u64 = records.values().sum();
        if sum.saturating_add(bytes) > self.bytes_max || (!known && records.len() >= UNANCHORED_RECORDS_MAX) {
            let detail = "too many uploads to records that are not on the ledger yet";
            return Err(Refusal::new(Reason::Full, record.as_bytes(), detail));
        }
        *records.entry(record).or_default() += bytes;
        Ok(())
    }

    /// A record that exists now counts no more.
    pub(crate) fn follow(&self, decided: &Decided) {
        for news in &decided.news {
            if let News::Created { record, owner } = news {
                let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(records) = members.get_mut(owner) {
                    records.remove(record);
                    if records.is_empty() {
                        members.remove(owner);
                    }
                }
            }
        }
    }
}

fn ids(bytes: &[u8], limit: usize) -> Result<Vec<ChunkId>, Refusal> {
    let (ids, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || ids.len() > limit {
        return Err(malformed("ids have 32 bytes each, and there are not so many in one request"));
    }
    Ok(ids.iter().map(|id| ChunkId::from_bytes(*id)).collect())
}

fn records(bytes: &[u8]) -> Result<Vec<RecordId>, Refusal> {
    let ids = ids(bytes, VOUCH_SOURCES_MAX)?;
    Ok(ids.iter().map(|id| RecordId::from_bytes(*id.as_bytes())).collect())
}

fn missing_chunk(id: ChunkId) -> Refusal {
    Refusal::new(Reason::NotFound, id.as_bytes(), "this chunk is not here under the record: upload it")
}

fn refuse_append(error: AppendError) -> Refusal {
    match error {
        AppendError::TooLong { .. } => malformed("the chunk is too long"),
        AppendError::DiskFull(_) => full(),
        AppendError::Fault(fault) => broken(fault),
    }
}

fn refuse_read(error: ReadError) -> Refusal {
    match error {
        ReadError::NotBound { id, .. } => missing_chunk(id),
        ReadError::Damaged { id, .. } => {
            Refusal::new(Reason::Broken, id.as_bytes(), "the chunk is damaged on this node's disk")
        }
        ReadError::Io(fault) => broken(fault),
    }
}

fn refuse_sync(error: SyncError) -> Refusal {
    match error {
        SyncError::Missing { id, .. } => missing_chunk(id),
        SyncError::DiskFull(_) => full(),
        SyncError::Fault(fault) => broken(fault),
    }
}

fn refuse_bind(error: BindError) -> Refusal {
    match error {
        BindError::Missing { id, .. } => missing_chunk(id),
        BindError::DiskFull(_) => full(),
        BindError::Fault(fault) => broken(fault),
    }
}

fn refuse_delta(error: ReadDeltaError) -> Refusal {
    match error {
        ReadDeltaError::Read(error) => refuse_read(error),
        ReadDeltaError::Delta(error) => malformed(&error.to_string()),
    }
}
