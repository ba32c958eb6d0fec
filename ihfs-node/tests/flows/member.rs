//! A member written by hand: builds transactions and asks a node, without any client.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ihfs_core::codec;
use ihfs_core::crypto::derive::Seed;
use ihfs_core::crypto::envelope::SealingKey;
use ihfs_core::crypto::secret::Secret;
use ihfs_core::crypto::share::{KeyShare, ReleaseKey};
use ihfs_core::crypto::sign::SigningKey;
use ihfs_core::grants::{GrantSubject, GrantedKey, Note};
use ihfs_core::ids::{
    ChainId, ChunkId, DeviceId, Digest, Epoch, Generation, GrantId, MemberId, OpeningId, RecordId, Time,
    TransactionId, Version,
};
use ihfs_core::invitation::Invitation;
use ihfs_core::ledger::identity::{DeviceKeys, MemberSealingKey, Role};
use ihfs_core::ledger::lists::ListKey;
use ihfs_core::ledger::operation::{
    Admission, Anchor, Conditions, CreateRecord, Custodian, Grant, GrantDigests, GrantPurpose, Open,
    Operation, RegisterMember, RemoveDevice, Revoke, RevokeTarget, SealedSecrets,
};
use ihfs_core::ledger::state::{ENTRY_BYTES_MAX, StateKey};
use ihfs_core::ledger::transaction::{SignedTransaction, Transaction};
use ihfs_core::members::HandleProof;
use ihfs_core::pins::Delta;
use ihfs_core::receipt::Receipt;
use ihfs_net::{Conversation, Identity, Limits, Message, Network, PeerKey, Twin};
use ihfs_node::admin::invite;
use ihfs_node::consensus::driver::system_clock;
use ihfs_node::run::NodeHandle;
use ihfs_proto::ledger::{Reason, Refusal};
use ihfs_proto::{chunk, join, key, ledger};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Far longer than anything takes on a busy machine; only a failing test waits for it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Nonce of a record that a member may upload to before it exists.
pub const FUTURE: [u8; 32] = [7; 32];

/// Every transaction of a test has other random bytes.
static NEXT: AtomicU8 = AtomicU8::new(1);

pub struct Member {
    pub seed: Seed,
    pub device: SigningKey,
    pub handle: Option<HandleProof>,
    pub network: Network,
    pub node: PeerKey,
    pub chain: ChainId,
}

pub struct Shared {
    pub grant: GrantId,
    pub subject: GrantSubject,
    pub digests: GrantDigests,
}

impl Member {
    /// A guest over the twin.
    pub fn over_twin(twin: &Twin, node: &NodeHandle, number: u8) -> Self {
        let device = SigningKey::from_seed(Secret::new([number; 32]));
        let (network, _) = twin.network(PeerKey::from_bytes(device.public()), Limits::default());
        Self::new(network, node, number)
    }

    /// A guest over sockets.
    pub async fn over_sockets(node: &NodeHandle, number: u8) -> Self {
        let identity = Identity::from_seed(&[number; 32]);
        let (network, _) = Network::start(identity, &[], Limits::default()).await.unwrap();
        network.add_address(node.node.into(), node.addresses[0]);
        Self::new(network, node, number)
    }

    fn new(network: Network, node: &NodeHandle, number: u8) -> Self {
        Self {
            seed: Seed::from_random([number; 32]),
            device: SigningKey::from_seed(Secret::new([number; 32])),
            handle: None,
            network,
            node: node.node.into(),
            chain: node.chain,
        }
    }

    pub fn id(&self) -> MemberId {
        MemberId::of_key(&self.seed.member_key().public())
    }

    pub fn sealing(&self) -> SealingKey {
        self.seed.sealing_key(Generation(0))
    }

    pub async fn request(&self, conversation: Conversation, message: Message) -> Message {
        self.network.request(self.node, conversation, message, DEADLINE).await.unwrap()
    }

    /// Joins with a fresh invite of the node in `data`.
    pub async fn join(&mut self, data: &Path, role: Role, name: &str) {
        let expires = system_clock().plus_millis(60_000_000);
        let text = invite::invite(data, role, name, expires).unwrap().to_text();
        self.redeem(&Invitation::from_text(&text).unwrap()).await.unwrap();
    }

    pub async fn redeem(&mut self, invitation: &Invitation) -> Result<u64, Refusal> {
        let transaction = self.registration(invitation);
        let handle_proof = codec::encode(&invitation.handle).into();
        let redeem = join::Redeem { transaction: transaction.to_bytes().into(), handle_proof };
        self.handle = Some(invitation.handle.clone());
        match self.ask_join(join::request::Request::Redeem(redeem)).await {
            join::response::Response::Applied(applied) => Ok(applied.height),
            join::response::Response::Refusal(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub async fn ask_join(&self, request: join::request::Request) -> join::response::Response {
        let (header, body) = ihfs_proto::to_parts(&join::Request { request: Some(request) });
        let answer = self.request(Conversation::Join, Message { header, body }).await;
        ihfs_proto::from_parts::<join::Response>(answer.header, answer.body).unwrap().response.unwrap()
    }

    fn registration(&self, invitation: &Invitation) -> SignedTransaction {
        let member_key = self.seed.member_key();
        let device_sealing = SealingKey::from_seed(Secret::new([99; 32])).public();
        let register = RegisterMember {
            key: member_key.public(),
            admission: Admission::Invite(invitation.invite.clone()),
            sealing: MemberSealingKey::sign(&member_key, Generation(0), self.sealing().public()),
            device: DeviceKeys::sign(&member_key, self.chain, &self.device, device_sealing),
        };
        self.transaction(vec![Operation::RegisterMember(Box::new(register))]).sign(&member_key)
    }

    pub fn transaction(&self, operations: Vec<Operation>) -> Transaction {
        Transaction {
            format: 1,
            chain: self.chain,
            member: self.id(),
            signer: DeviceId::from_bytes([0; 32]),
            valid_until: system_clock().plus_millis(600_000),
            random: [NEXT.fetch_add(1, Ordering::Relaxed); 32],
            operations,
        }
    }

    /// Makes this guest a device of a member, by the words.
    pub async fn recover(&mut self, of: &Self) {
        self.seed = Seed::from_words(&of.seed.to_words()).unwrap();
        let member_key = self.seed.member_key();
        let keys = DeviceKeys::sign(&member_key, self.chain, &self.device, self.sealing().public());
        let transaction = self.transaction(vec![Operation::AddDevice(keys)]).sign(&member_key);
        let redeem = join::Redeem { transaction: transaction.to_bytes().into(), handle_proof: Bytes::new() };
        let answer = self.ask_join(join::request::Request::Redeem(redeem)).await;
        assert!(matches!(answer, join::response::Response::Applied(_)), "{answer:?}");
    }

    /// Removes a device of this member; signed by the member key.
    pub fn removal_of(&self, device: &Self) -> SignedTransaction {
        let member_key = self.seed.member_key();
        let next = self.seed.sealing_key(Generation(1)).public();
        let sealed = vec![7; 100].into();
        let removal = RemoveDevice {
            device: DeviceId::from_bytes(device.device.public()),
            sealing: MemberSealingKey::sign(&member_key, Generation(1), next),
            secrets: vec![SealedSecrets { device: DeviceId::from_bytes(self.device.public()), sealed }],
        };
        self.transaction(vec![Operation::RemoveDevice(Box::new(removal))]).sign(&member_key)
    }

    pub async fn submit(&self, operations: Vec<Operation>) -> Result<TransactionId, Refusal> {
        let signed = self.transaction(operations).sign(&self.device);
        self.submit_signed(&signed).await.map(|_| signed.id())
    }

    pub async fn submit_signed(&self, signed: &SignedTransaction) -> Result<u64, Refusal> {
        let submit = ledger::Submit { transaction: signed.to_bytes().into() };
        match self.ask_ledger(ledger::request::Request::Submit(submit)).await {
            ledger::response::Response::Applied(applied) => Ok(applied.height),
            ledger::response::Response::Refusal(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub async fn ask_ledger(&self, request: ledger::request::Request) -> ledger::response::Response {
        let (header, body) = ihfs_proto::to_parts(&ledger::Request { request: Some(request) });
        let answer = self.request(Conversation::Ledger, Message { header, body }).await;
        ihfs_proto::from_parts::<ledger::Response>(answer.header, answer.body).unwrap().response.unwrap()
    }

    /// What stands under a key, as it is shown to this member.
    pub async fn prove(&self, key: StateKey) -> Result<Option<Bytes>, Refusal> {
        let prove = ledger::Prove { keys: vec![key.to_bytes().into()] };
        match self.ask_ledger(ledger::request::Request::Prove(prove)).await {
            ledger::response::Response::Proved(proved) => Ok(proved.entries[0].value.clone()),
            ledger::response::Response::Refusal(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// The entry that stands there.
    pub async fn proved<T: Serialize + DeserializeOwned>(&self, key: StateKey) -> T {
        let bytes = self.prove(key).await.unwrap().unwrap();
        codec::decode(&bytes, ENTRY_BYTES_MAX).unwrap()
    }

    /// What stands under a key, as it is shown to strangers.
    pub async fn prove_as_guest(&self, key: StateKey) -> Result<Option<Bytes>, Refusal> {
        let prove = ledger::Prove { keys: vec![key.to_bytes().into()] };
        match self.ask_join(join::request::Request::Prove(prove)).await {
            join::response::Response::Proved(proved) => Ok(proved.entries[0].value.clone()),
            join::response::Response::Refusal(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// The items of a list, as they are shown to this member.
    pub async fn items(&self, list: ListKey) -> Result<Vec<Bytes>, Refusal> {
        let items = ledger::Items { list: codec::encode(&list).into(), from: 0, end: 0 };
        match self.ask_ledger(ledger::request::Request::Items(items)).await {
            ledger::response::Response::Items(list) => Ok(list.items),
            ledger::response::Response::Refusal(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub async fn ask_key(&self, request: key::request::Request) -> key::response::Response {
        let (header, body) = ihfs_proto::to_parts(&key::Request { request: Some(request) });
        let answer = self.request(Conversation::Key, Message { header, body }).await;
        ihfs_proto::from_parts::<key::Response>(answer.header, answer.body).unwrap().response.unwrap()
    }

    pub async fn ask_chunk(
        &self,
        record: RecordId,
        request: chunk::request::Request,
        body: Bytes,
    ) -> (chunk::response::Response, Bytes) {
        let record = Bytes::copy_from_slice(record.as_bytes());
        let nonce = Bytes::from_static(&FUTURE);
        let header = ihfs_proto::encode(&chunk::Request { record, nonce, request: Some(request) });
        let answer = self.request(Conversation::Chunk, Message { header, body }).await;
        let response: chunk::Response =
            ihfs_proto::decode(answer.header, ihfs_proto::HEADER_BYTES_MAX).unwrap();
        (response.response.unwrap(), answer.body)
    }

    pub async fn put(&self, record: RecordId, bytes: &[u8]) -> Result<ChunkId, Refusal> {
        let put = chunk::request::Request::Put(chunk::Put {});
        match self.ask_chunk(record, put, Bytes::copy_from_slice(bytes)).await.0 {
            chunk::response::Response::Stored(id) => Ok(ChunkId::try_from(id.as_ref()).unwrap()),
            chunk::response::Response::Refusal(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub async fn get(&self, record: RecordId, id: ChunkId) -> Result<Bytes, Refusal> {
        let get = chunk::Get { chunk: Bytes::copy_from_slice(id.as_bytes()) };
        match self.ask_chunk(record, chunk::request::Request::Get(get), Bytes::new()).await {
            (chunk::response::Response::Got(_), bytes) => Ok(bytes),
            (chunk::response::Response::Refusal(refusal), _) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub async fn vouch(
        &self,
        record: RecordId,
        delta: ChunkId,
        root: ChunkId,
        sources: &[RecordId],
    ) -> Result<Receipt, Refusal> {
        let vouch = chunk::Vouch {
            delta: Bytes::copy_from_slice(delta.as_bytes()),
            root: Bytes::copy_from_slice(root.as_bytes()),
            sources: sources.iter().flat_map(|id| *id.as_bytes()).collect::<Vec<u8>>().into(),
        };
        match self.ask_chunk(record, chunk::request::Request::Vouch(vouch), Bytes::new()).await.0 {
            chunk::response::Response::Receipt(bytes) => Ok(codec::decode(&bytes, 256).unwrap()),
            chunk::response::Response::Refusal(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// Uploads a delta that adds these chunks, and a root.
    pub async fn put_delta(&self, record: RecordId, added: &[(ChunkId, u32)]) -> (ChunkId, ChunkId) {
        let delta = Delta { added: BTreeMap::from_iter(added.iter().copied()), ..Delta::default() };
        for chunk in delta.encode().unwrap() {
            self.put(record, &chunk.bytes).await.unwrap();
        }
        let head = delta.encode().unwrap().pop().unwrap();
        (head.id, self.put(record, b"a root").await.unwrap())
    }

    /// Puts a file of one chunk into a record at this version, and anchors it.
    pub async fn save(&self, record: RecordId, base: u64, bytes: &[u8]) -> Result<ChunkId, Refusal> {
        let id = self.put(record, bytes).await?;
        let (delta, root) = self.put_delta(record, &[(id, bytes.len() as u32)]).await;
        let receipt = self.vouch(record, delta, root, &[]).await?;
        let anchor = anchor(record, base, (delta, root), bytes.len() as u64, receipt);
        self.submit(vec![anchor]).await.map(|_| id)
    }

    /// The same, by a writer under his grant; his delta also drops chunks.
    pub async fn save_as_writer(
        &self,
        record: RecordId,
        base: u64,
        grant: GrantId,
        bytes: &[u8],
        dropped: &[(ChunkId, u32)],
    ) -> Result<ChunkId, Refusal> {
        let id = self.put(record, bytes).await?;
        let added = BTreeMap::from([(id, bytes.len() as u32)]);
        let delta = Delta { added, dropped: dropped.iter().copied().collect() };
        let dropped_bytes = delta.summary().dropped_bytes;
        let delta = delta.encode().unwrap().pop().unwrap();
        self.put(record, &delta.bytes).await?;
        let root = self.put(record, b"a writer's root").await?;
        let receipt = self.vouch(record, delta.id, root, &[]).await?;
        let mut operation = anchor(record, base, (delta.id, root), bytes.len() as u64, receipt);
        if let Operation::Anchor(anchor) = &mut operation {
            anchor.grant = Some(grant);
            anchor.bytes_dropped = dropped_bytes;
        }
        self.submit(vec![operation]).await.map(|_| id)
    }

    pub async fn create(&self, nonce: [u8; 32]) -> RecordId {
        self.submit(vec![Operation::CreateRecord(CreateRecord { nonce })]).await.unwrap();
        RecordId::of(self.id(), &nonce)
    }

    /// Leaves a key share with the node and grants the record.
    pub async fn share(&self, record: RecordId, reader: &Self, nonce: u8) -> Result<Shared, Refusal> {
        self.share_as(record, reader, nonce, false).await
    }

    /// The same, to write too.
    pub async fn share_as(
        &self,
        record: RecordId,
        reader: &Self,
        nonce: u8,
        write: bool,
    ) -> Result<Shared, Refusal> {
        self.share_until(record, reader, nonce, write, None).await
    }

    /// The same, until a time.
    pub async fn share_until(
        &self,
        record: RecordId,
        reader: &Self,
        nonce: u8,
        write: bool,
        expires: Option<Time>,
    ) -> Result<Shared, Refusal> {
        let grant = GrantId::of(record, &[nonce; 32]);
        let subject = GrantSubject { chain: self.chain, grant, record, epoch: Epoch(0), reader: reader.id() };
        let salt = Digest::from_bytes([nonce; 32]);
        let key = self.seed.vault_secret(Generation(0)).record_key(record, Epoch(0), salt);
        let label = "ct".to_owned();
        let note = Note { owner: self.handle.clone().unwrap(), label, label_blind: [3; 32] };
        let granted = GrantedKey::Record(key);
        let random = &mut ChaCha20Rng::from_seed([nonce; 32]);
        let prepared = subject.prepare(&reader.sealing().public(), &granted, &note, (1, 1), random).unwrap();
        let deposit = key::Deposit {
            grant: Bytes::copy_from_slice(grant.as_bytes()),
            record: Bytes::copy_from_slice(record.as_bytes()),
            reader: Bytes::copy_from_slice(reader.id().as_bytes()),
            epoch: 0,
            digests: codec::encode(&prepared.digests).into(),
            share: codec::encode(&prepared.shares[0]).into(),
            envelope: prepared.envelope.into(),
            note: prepared.note.into(),
            keep_until: system_clock().plus_millis(3_600_000).0,
            nonce: Bytes::new(),
        };
        let custodian: Custodian = match self.ask_key(key::request::Request::Deposit(deposit)).await {
            key::response::Response::Custodian(bytes) => codec::decode(&bytes, 1024).unwrap(),
            key::response::Response::Refusal(refusal) => return Err(refusal),
            other => panic!("{other:?}"),
        };
        let conditions = Conditions {
            record,
            reader: reader.id(),
            write,
            snapshot: None,
            purpose: GrantPurpose::Treatment,
            not_before: Time(0),
            expires,
            parent: None,
            label: note.label_commitment(),
        };
        let operation = Operation::Grant(Box::new(Grant {
            nonce: [nonce; 32],
            conditions,
            replaces: None,
            epoch: Epoch(0),
            generation: Generation(0),
            digests: prepared.digests,
            threshold: 1,
            custodians: vec![custodian],
        }));
        self.submit(vec![operation]).await?;
        Ok(Shared { grant, subject, digests: prepared.digests })
    }

    pub async fn open(&self, grant: GrantId) -> Result<OpeningId, Refusal> {
        let id = self.submit(vec![Operation::Open(Open { grants: vec![grant] })]).await?;
        Ok(OpeningId::of(id, 0))
    }

    pub async fn release(&self, opening: OpeningId, grant: GrantId) -> Result<(KeyShare, Bytes), Refusal> {
        let release = key::Release {
            opening: Bytes::copy_from_slice(opening.as_bytes()),
            grant: Bytes::copy_from_slice(grant.as_bytes()),
        };
        match self.ask_key(key::request::Request::Release(release)).await {
            key::response::Response::Released(released) => {
                Ok((codec::decode(&released.share, 256).unwrap(), released.envelope))
            }
            key::response::Response::Refusal(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub async fn note(&self, grant: GrantId) -> Result<Bytes, Refusal> {
        let note = key::GetNote { grant: Bytes::copy_from_slice(grant.as_bytes()) };
        match self.ask_key(key::request::Request::Note(note)).await {
            key::response::Response::Note(note) => Ok(note),
            key::response::Response::Refusal(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub async fn revoke(&self, record: RecordId, reader: MemberId) {
        let revoke = Revoke { record, target: RevokeTarget::Reader(reader) };
        self.submit(vec![Operation::Revoke(revoke)]).await.unwrap();
    }
}

/// The anchor of a version that adds this many bytes.
pub fn anchor(
    record: RecordId,
    base: u64,
    (delta, root): (ChunkId, ChunkId),
    bytes_added: u64,
    receipt: Receipt,
) -> Operation {
    Operation::Anchor(Anchor {
        record,
        epoch: Epoch(0),
        base: Version(base),
        root,
        delta,
        bytes_added,
        bytes_dropped: 0,
        grant: None,
        receipts: vec![receipt],
    })
}

pub fn reason<T: std::fmt::Debug>(answer: Result<T, Refusal>) -> Reason {
    answer.unwrap_err().reason()
}

pub fn combine(share: KeyShare, digest: Digest) -> ReleaseKey {
    ReleaseKey::combine(&[share], 1, digest).unwrap()
}
