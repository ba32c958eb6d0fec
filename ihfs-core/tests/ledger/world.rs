//! A small network: hospitals with a node each, a registrar, people; everything from numbered seeds.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use ihfs_core::crypto::secret::Secret;
use ihfs_core::crypto::sign::SigningKey;
use ihfs_core::ids::{
    ChunkId, DeviceId, Digest, Epoch, Generation, GrantId, InviteId, MemberId, NodeId, RecordId, Time,
    TransactionId, Version,
};
use ihfs_core::ledger::certificate::{Validator, ValidatorSet};
use ihfs_core::ledger::genesis::{GENESIS_FORMAT, Genesis, GenesisMember, GenesisNode};
use ihfs_core::ledger::identity::{DeviceKeys, Invite, MemberSealingKey, Role, SealingPublic};
use ihfs_core::ledger::memory::MemoryLedger;
use ihfs_core::ledger::operation::{
    Admission, Anchor, Conditions, CreateRecord, Custodian, CustodySubject, Grant, GrantDigests,
    GrantPurpose, Open, Operation, RegisterMember, Revoke, RevokeTarget, Rotate,
};
use ihfs_core::ledger::rules::{Applied, Refused};
use ihfs_core::ledger::state::{
    ConsortiumEntry, GrantEntry, MemberEntry, MemberLists, Policy, RecordEntry, RecordLists, StateKey,
};
use ihfs_core::ledger::transaction::{SignedTransaction, TRANSACTION_FORMAT, Transaction};
use ihfs_core::placement::{Placement, PlacementRule, Region, custodians_wanted, threshold};
use ihfs_core::receipt::{RECEIPT_LIFE_MIN, Receipt, ReceiptSubject};

pub const HOUR: u64 = 60 * 60 * 1000;
pub const START: Time = Time(1_800_000_000_000);

/// A key by number.
pub fn key(number: u32) -> SigningKey {
    SigningKey::from_seed(Secret::new(blake3::derive_key("test key", &number.to_le_bytes())))
}

/// A public sealing key by number: the rules do not look inside.
pub fn sealing(number: u32) -> SealingPublic {
    let mut bytes = [0; 1216];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    SealingPublic::from_bytes(bytes)
}

pub fn digest(number: u64) -> Digest {
    Digest::of(&number.to_le_bytes())
}

pub fn chunk(number: u64) -> ChunkId {
    ChunkId::of(&number.to_le_bytes())
}

/// A person with one device: member key `number`, device key `1000 + number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Person(pub u32);

impl Person {
    pub fn member_key(self) -> SigningKey {
        key(self.0)
    }

    pub fn id(self) -> MemberId {
        MemberId::of_key(&self.member_key().public())
    }

    pub fn device_key(self) -> SigningKey {
        key(1000 + self.0)
    }

    pub fn device(self) -> DeviceId {
        DeviceId::from_bytes(self.device_key().public())
    }
}

pub const PATIENT: Person = Person(10);
pub const DOCTOR: Person = Person(11);
pub const SECOND: Person = Person(12);

pub struct World {
    pub ledger: MemoryLedger,
    pub now: Time,
    counter: u64,
}

impl World {
    /// Hospitals 1 to `hospitals`, each with node `2000 + number`; the three people are registered.
    pub fn new(hospitals: u32) -> Self {
        let mut world = Self::empty(hospitals);
        for person in [PATIENT, DOCTOR, SECOND] {
            world.register(person);
        }
        world
    }

    pub fn empty(hospitals: u32) -> Self {
        let ledger = MemoryLedger::found(genesis(hospitals)).unwrap();
        Self { ledger, now: START, counter: 0 }
    }

    pub fn number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub fn random(&mut self) -> [u8; 32] {
        *digest(self.number()).as_bytes()
    }

    pub fn transaction(&mut self, member: MemberId, operations: Vec<Operation>) -> Transaction {
        Transaction {
            format: TRANSACTION_FORMAT,
            chain: self.ledger.chain(),
            member,
            signer: DeviceId::from_bytes([0; 32]),
            valid_until: self.now.plus_millis(HOUR),
            random: self.random(),
            operations,
        }
    }

    /// One block with this transaction alone.
    pub fn put(&mut self, transaction: SignedTransaction) -> Result<TransactionId, Refused> {
        self.block(&[transaction]).results.remove(0)
    }

    pub fn block(&mut self, transactions: &[SignedTransaction]) -> Applied {
        self.now = self.now.plus_millis(1);
        self.ledger.apply(self.now, transactions).unwrap()
    }

    pub fn pass(&mut self, milliseconds: u64) {
        self.now = self.now.plus_millis(milliseconds);
    }

    /// By the person's device.
    pub fn run(&mut self, person: Person, operations: Vec<Operation>) -> Result<TransactionId, Refused> {
        let transaction = self.transaction(person.id(), operations).sign(&person.device_key());
        self.put(transaction)
    }

    /// By the person's member key.
    pub fn run_by_words(
        &mut self,
        person: Person,
        operations: Vec<Operation>,
    ) -> Result<TransactionId, Refused> {
        let transaction = self.transaction(person.id(), operations).sign(&person.member_key());
        self.put(transaction)
    }

    pub fn invite(&mut self, role: Role) -> Invite {
        let hospital = Person(1);
        Invite {
            chain: self.ledger.chain(),
            id: InviteId::from_bytes(self.random()),
            registrar: hospital.id(),
            role,
            hospital: hospital.id(),
            handle: digest(1),
            expires: self.now.plus_millis(24 * HOUR),
            signer: hospital.device(),
            signature: key(0).sign(ihfs_core::crypto::sign::Purpose::Invite, b""),
        }
        .signed(&hospital.member_key())
    }

    pub fn registration(&mut self, person: Person, admission: Admission) -> RegisterMember {
        RegisterMember {
            key: person.member_key().public(),
            admission,
            sealing: MemberSealingKey::sign(&person.member_key(), Generation(0), sealing(person.0)),
            device: self.device_keys(person, 1000 + person.0),
        }
    }

    pub fn device_keys(&self, person: Person, number: u32) -> DeviceKeys {
        DeviceKeys::sign(&person.member_key(), self.ledger.chain(), &key(number), sealing(number))
    }

    pub fn register(&mut self, person: Person) {
        let invite = self.invite(Role::Patient);
        let registration = self.registration(person, Admission::Invite(invite));
        self.run_by_words(person, vec![Operation::RegisterMember(Box::new(registration))]).unwrap();
    }

    pub fn member(&self, person: Person) -> MemberEntry {
        self.ledger.read(&StateKey::Member(person.id())).unwrap().unwrap()
    }

    pub fn record(&self, record: RecordId) -> RecordEntry {
        self.ledger.read(&StateKey::Record(record)).unwrap().unwrap()
    }

    pub fn member_lists(&self, person: Person) -> MemberLists {
        self.ledger.read(&StateKey::MemberLists(person.id())).unwrap().unwrap()
    }

    pub fn record_lists(&self, record: RecordId) -> RecordLists {
        self.ledger.read(&StateKey::RecordLists(record)).unwrap().unwrap()
    }

    pub fn grant_entry(&self, grant: GrantId) -> GrantEntry {
        self.ledger.read(&StateKey::Grant(grant)).unwrap().unwrap()
    }

    pub fn placement(&self) -> Placement {
        self.ledger.read(&StateKey::Placement).unwrap().unwrap()
    }

    /// A new record of the person, with a first version.
    pub fn anchored(&mut self, person: Person) -> RecordId {
        let nonce = self.random();
        let record = RecordId::of(person.id(), &nonce);
        self.run(person, vec![Operation::CreateRecord(CreateRecord { nonce })]).unwrap();
        self.anchor_again(person, record);
        record
    }

    pub fn anchor_again(&mut self, person: Person, record: RecordId) {
        let anchor = self.anchor(record);
        self.run(person, vec![Operation::Anchor(anchor)]).unwrap();
    }

    /// The next anchor of a record, with W receipts.
    pub fn anchor(&mut self, record: RecordId) -> Anchor {
        let entry = self.record(record);
        let number = self.number();
        let mut anchor = Anchor {
            record,
            epoch: entry.epoch,
            base: entry.head.map_or(Version(0), |head| head.version),
            root: chunk(number),
            delta: chunk(number + 1_000_000),
            bytes_added: 1000,
            bytes_dropped: 0,
            grant: None,
            receipts: Vec::new(),
        };
        anchor.receipts = self.receipts(&anchor, 2);
        anchor
    }

    pub fn receipts(&self, anchor: &Anchor, most: usize) -> Vec<Receipt> {
        let placement = self.placement();
        let nodes = placement.replicas(anchor.record, most, &PlacementRule::default());
        nodes.into_iter().map(|node| self.receipt(anchor, node)).collect()
    }

    pub fn receipt(&self, anchor: &Anchor, node: NodeId) -> Receipt {
        let subject = ReceiptSubject {
            chain: self.ledger.chain(),
            record: anchor.record,
            delta: anchor.delta,
            root: anchor.root,
            bytes_added: anchor.bytes_added,
            bytes_dropped: anchor.bytes_dropped,
        };
        let expires = self.now.plus_millis(RECEIPT_LIFE_MIN);
        Receipt::sign(&self.node_key(node), &subject, self.placement().version, expires)
    }

    pub fn node_key(&self, node: NodeId) -> SigningKey {
        static NUMBERS: OnceLock<BTreeMap<NodeId, u32>> = OnceLock::new();
        let number = |number| (node_id(number), number);
        key(NUMBERS.get_or_init(|| (2000..2300).map(number).collect())[&node])
    }

    pub fn conditions(&self, record: RecordId, reader: Person) -> Conditions {
        Conditions {
            record,
            reader: reader.id(),
            write: false,
            snapshot: None,
            purpose: GrantPurpose::Treatment,
            not_before: Time(0),
            expires: Some(self.now.plus_millis(30 * 24 * HOUR)),
            parent: None,
            label: digest(5),
        }
    }

    pub fn grant_of(&mut self, conditions: Conditions) -> Grant {
        let nonce = self.random();
        let record = self.record(conditions.record);
        let epoch = match conditions.snapshot {
            Some(_) => record.head.unwrap().epoch,
            None => record.epoch,
        };
        let reader: Option<MemberEntry> = self.ledger.read(&StateKey::Member(conditions.reader)).unwrap();
        let digests = GrantDigests {
            key: digest(1),
            release: digest(2),
            envelope: digest(self.number()),
            note: digest(4),
        };
        let mut grant = Grant {
            nonce,
            conditions,
            replaces: None,
            epoch,
            generation: reader.map_or(Generation(0), |reader| reader.generation),
            digests,
            threshold: 0,
            custodians: Vec::new(),
        };
        self.sign_custody(&mut grant);
        grant
    }

    /// Fills in threshold and custodians of the network's size.
    pub fn sign_custody(&self, grant: &mut Grant) {
        let consortium: ConsortiumEntry = self.ledger.read(&StateKey::Consortium).unwrap().unwrap();
        let placement = self.placement().deciding(&consortium.next);
        let wanted = custodians_wanted(placement.zones());
        grant.threshold = threshold(wanted) as u8;
        let nodes = placement.custodians(grant.id()).into_iter().take(wanted);
        grant.custodians = nodes.map(|node| self.custodian(grant.id(), grant.digests, node)).collect();
    }

    pub fn custodian(&self, grant: GrantId, digests: GrantDigests, node: NodeId) -> Custodian {
        let subject = CustodySubject { chain: self.ledger.chain(), grant, digests };
        subject.sign(&self.node_key(node), digest(7), self.now.plus_millis(48 * HOUR))
    }

    pub fn share_with(&mut self, conditions: Conditions) -> GrantId {
        let grant = self.grant_of(conditions);
        let id = grant.id();
        self.run(PATIENT, vec![Operation::Grant(Box::new(grant))]).unwrap();
        id
    }

    pub fn share(&mut self, record: RecordId, reader: Person) -> GrantId {
        let conditions = self.conditions(record, reader);
        self.share_with(conditions)
    }

    pub fn open(&mut self, reader: Person, grant: GrantId) -> Result<TransactionId, Refused> {
        self.run(reader, vec![Operation::Open(Open { grants: vec![grant] })])
    }

    pub fn revoke(&mut self, record: RecordId, reader: Person) -> Result<TransactionId, Refused> {
        self.run(PATIENT, vec![revoke_reader(record, reader)])
    }

    pub fn rotate(&mut self, record: RecordId) {
        self.run(PATIENT, vec![Operation::Rotate(Rotate { record })]).unwrap();
    }

    pub fn epoch(&self, record: RecordId) -> Epoch {
        self.record(record).epoch
    }
}

pub fn revoke_reader(record: RecordId, reader: Person) -> Operation {
    Operation::Revoke(Revoke { record, target: RevokeTarget::Reader(reader.id()) })
}

pub fn node_id(number: u32) -> NodeId {
    NodeId::from_bytes(key(number).public())
}

pub fn genesis(hospitals: u32) -> Genesis {
    let hospital = |number| GenesisMember::hospital(key(number).public(), digest(u64::from(number)));
    let mut members: Vec<GenesisMember> = (1..=hospitals).map(hospital).collect();
    members.sort_by_key(|member| member.key);
    let node = |number| GenesisNode {
        node: node_id(2000 + number),
        hospital: Person(number).id(),
        region: Region(0),
        weight: 1,
        addresses: vec![format!("/ip4/127.0.0.1/tcp/{number}")],
    };
    let mut nodes: Vec<GenesisNode> = (1..=hospitals).map(node).collect();
    nodes.sort_by_key(|node| node.node);
    let validators = nodes.iter().map(|node| Validator { node: node.node, power: 1 }).collect();
    Genesis {
        format: GENESIS_FORMAT,
        network: "test".into(),
        time: START,
        validators: ValidatorSet::new(validators).unwrap(),
        nodes,
        members,
        policy: Policy::default(),
    }
}
