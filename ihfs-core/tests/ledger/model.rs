//! Random operations on the rules and on a slow, obvious model; both must agree at every step.

use std::collections::BTreeMap;

use ihfs_core::ids::{Epoch, GrantId, RecordId, Time, Version};
use ihfs_core::ledger::lists::ListKey;
use ihfs_core::ledger::operation::{Anchor, Conditions, CreateRecord, Grant, Operation, Rotate};
use ihfs_core::ledger::rules::OPENING_PAUSE;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::world::{DOCTOR, HOUR, PATIENT, Person, SECOND, World, revoke_reader};

const PEOPLE: [Person; 3] = [PATIENT, DOCTOR, SECOND];
const OPENING: u64 = 12 * HOUR;

#[derive(Debug)]
struct ModelRecord {
    owner: Person,
    epoch: u32,
    /// The epoch of each version.
    versions: Vec<u32>,
    openings: u64,
}

#[derive(Clone, Debug)]
struct ModelGrant {
    conditions: Conditions,
    reader: Person,
    owner: Person,
    epoch: u32,
    opened: Option<Time>,
    ended: bool,
    /// Whether it ended by being issued again, and as what.
    replaced_by: Option<GrantId>,
}

#[derive(Default)]
struct Model {
    records: BTreeMap<RecordId, ModelRecord>,
    grants: BTreeMap<GrantId, ModelGrant>,
    /// Every grant in the order in which it was given.
    order: Vec<GrantId>,
}

impl Model {
    fn is_open(&self, grant: &ModelGrant, now: Time) -> bool {
        let conditions = &grant.conditions;
        !grant.ended && conditions.not_before <= now && conditions.expires.is_none_or(|end| now < end)
    }

    /// Whether an opened grant of the live epoch has expired; ended ones count in their epoch too.
    fn must_rotate(&self, record: RecordId, now: Time) -> bool {
        let live = self.records[&record].epoch;
        self.grants.values().any(|grant| {
            grant.conditions.record == record
                && grant.conditions.snapshot.is_none()
                && grant.epoch == live
                && grant.opened.is_some()
                && grant.conditions.expires.is_some_and(|end| end <= now)
        })
    }

    /// The newest id of a grant that may have been issued again.
    fn newest(&self, mut grant: GrantId) -> GrantId {
        while let Some(next) = self.grants[&grant].replaced_by {
            grant = next;
        }
        grant
    }

    /// Ends a grant and everything whose chain of parents leads to it; gives the records.
    fn end(&mut self, top: GrantId, records: &mut Vec<RecordId>) {
        if self.grants[&top].ended {
            return;
        }
        let grant = self.grants.get_mut(&top).unwrap();
        grant.ended = true;
        records.push(grant.conditions.record);
        let children: Vec<GrantId> = self
            .order
            .iter()
            .filter(|id| self.grants[id].conditions.parent.is_some_and(|parent| self.newest(parent) == top))
            .copied()
            .collect();
        for child in children {
            self.end(child, records);
        }
    }

    fn live_grants(&self, record: RecordId, reader: Person, now: Time) -> usize {
        let counts = |grant: &&ModelGrant| {
            grant.conditions.record == record
                && grant.reader == reader
                && !grant.ended
                && grant.conditions.expires.is_none_or(|end| now < end)
        };
        self.grants.values().filter(counts).count()
    }
}

struct Run {
    world: World,
    model: Model,
    rng: ChaCha8Rng,
    /// How often each operation was applied, and refused.
    outcomes: BTreeMap<&'static str, (u32, u32)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { world: World::new(2), model: Model::default(), rng, outcomes: BTreeMap::new() }
    }

    fn count(&mut self, operation: &'static str, applied: bool) {
        let (yes, no) = self.outcomes.entry(operation).or_default();
        if applied { *yes += 1 } else { *no += 1 }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.random_range(0..from.len())]
    }

    fn any_record(&mut self) -> Option<RecordId> {
        let records: Vec<_> = self.model.records.keys().copied().collect();
        (!records.is_empty()).then(|| self.pick(&records))
    }

    fn any_grant(&mut self) -> Option<GrantId> {
        let recent: Vec<_> = self.model.order.iter().rev().take(12).copied().collect();
        (!recent.is_empty()).then(|| self.pick(&recent))
    }

    /// The time that the next block will have.
    fn next(&self) -> Time {
        self.world.now.plus_millis(1)
    }

    fn create(&mut self) {
        let owner = self.pick(&PEOPLE);
        let nonce = self.world.random();
        let record = RecordId::of(owner.id(), &nonce);
        self.world.run(owner, vec![Operation::CreateRecord(CreateRecord { nonce })]).unwrap();
        self.model.records.insert(record, ModelRecord { owner, epoch: 0, versions: vec![], openings: 0 });
    }

    fn anchor(&mut self) {
        let Some(record) = self.any_record() else { return };
        let now = self.next();
        let owner = self.model.records[&record].owner;
        let anchor = self.world.anchor(record);
        let result = self.world.run(owner, vec![Operation::Anchor(anchor)]);
        assert_eq!(result.is_ok(), !self.model.must_rotate(record, now), "{result:?}");
        self.count("anchor", result.is_ok());
        if result.is_ok() {
            let entry = self.model.records.get_mut(&record).unwrap();
            entry.versions.push(entry.epoch);
        }
    }

    fn anchor_by_writer(&mut self) {
        let Some(id) = self.any_grant() else { return };
        if self.rng.random_bool(0.6) {
            self.open(id);
        }
        let now = self.next();
        let grant = self.model.grants[&id].clone();
        let record = grant.conditions.record;
        let anchor = Anchor { grant: Some(id), ..self.world.anchor(record) };
        let result = self.world.run(grant.reader, vec![Operation::Anchor(anchor)]);
        let allowed = self.model.is_open(&grant, now)
            && grant.conditions.write
            && grant.epoch == self.model.records[&record].epoch
            && grant.opened.is_some_and(|opened| now < opened.plus_millis(OPENING));
        assert_eq!(result.is_ok(), allowed, "{result:?}");
        self.count("anchor by writer", allowed);
        if allowed {
            let entry = self.model.records.get_mut(&record).unwrap();
            entry.versions.push(entry.epoch);
        }
    }

    fn grant(&mut self) {
        let Some(record) = self.any_record() else { return };
        let (reader, now) = (self.pick(&PEOPLE), self.next());
        let in_epoch =
            self.model.records[&record].versions.last() == Some(&self.model.records[&record].epoch);
        if !in_epoch && self.rng.random_bool(0.8) {
            return;
        }
        let hours = self.rng.random_range(1..40);
        let conditions = Conditions {
            write: self.rng.random_bool(0.4),
            expires: self.rng.random_bool(0.5).then(|| now.plus_millis(hours * HOUR)),
            parent: if self.rng.random_bool(0.5) { self.any_grant() } else { None },
            ..self.world.conditions(record, reader)
        };
        let owner = self.model.records[&record].owner;
        let allowed = reader != owner
            && in_epoch
            && self.model.live_grants(record, reader, now) < 8
            && conditions.parent.is_none_or(|parent| self.fits_parent(parent, owner, reader, &conditions));
        let grant = self.world.grant_of(conditions);
        self.give(owner, reader, grant, allowed);
    }

    fn fits_parent(&self, parent: GrantId, owner: Person, reader: Person, child: &Conditions) -> bool {
        let parent = &self.model.grants[&parent];
        let within = match (parent.conditions.expires, child.expires) {
            (Some(outer), Some(inner)) => inner <= outer,
            (Some(_), None) => false,
            (None, _) => true,
        };
        !parent.ended
            && parent.owner == owner
            && parent.reader == reader
            && parent.conditions.record != child.record
            && within
    }

    fn issue_again(&mut self) {
        let Some(old) = self.any_grant() else { return };
        let now = self.next();
        let grant = self.model.grants[&old].clone();
        let record = &self.model.records[&grant.conditions.record];
        let allowed = !grant.ended
            && grant.conditions.expires.is_none_or(|end| now < end)
            && record.versions.last() == Some(&record.epoch);
        let again = Grant { replaces: Some(old), ..self.world.grant_of(grant.conditions.clone()) };
        let id = again.id();
        self.give(grant.owner, grant.reader, again, allowed);
        if allowed {
            let old = self.model.grants.get_mut(&old).unwrap();
            (old.ended, old.replaced_by) = (true, Some(id));
        }
    }

    fn give(&mut self, owner: Person, reader: Person, grant: Grant, allowed: bool) {
        let (id, conditions, epoch) = (grant.id(), grant.conditions.clone(), grant.epoch.0);
        let result = self.world.run(owner, vec![Operation::Grant(Box::new(grant))]);
        assert_eq!(result.is_ok(), allowed, "{result:?}");
        self.count("grant", allowed);
        if allowed {
            let grant = ModelGrant {
                conditions,
                reader,
                owner,
                epoch,
                opened: None,
                ended: false,
                replaced_by: None,
            };
            self.model.grants.insert(id, grant);
            self.model.order.push(id);
        }
    }

    fn revoke(&mut self) {
        let Some(mut record) = self.any_record() else { return };
        let mut reader = self.pick(&PEOPLE);
        if let Some(given) = self.any_grant().filter(|_| self.rng.random_bool(0.7)) {
            (record, reader) =
                (self.model.grants[&given].conditions.record, self.model.grants[&given].reader);
        }
        let owner = self.model.records[&record].owner;
        let standing: Vec<GrantId> = self
            .model
            .grants
            .iter()
            .filter(|(_, grant)| grant.conditions.record == record && grant.reader == reader && !grant.ended)
            .map(|(id, _)| *id)
            .collect();
        let result = self.world.run(owner, vec![revoke_reader(record, reader)]);
        // Expired grants may have been cleared away, so that there is nothing left to revoke.
        let open = self.model.live_grants(record, reader, self.world.now) > 0;
        assert!(result.is_ok() || !open, "{result:?}");
        assert!(result.is_err() || !standing.is_empty());
        self.count("revoke", result.is_ok());
        if result.is_err() {
            return;
        }
        let mut records = vec![record];
        for grant in standing {
            self.model.end(grant, &mut records);
        }
        records.sort_unstable();
        records.dedup();
        for record in records {
            self.model.records.get_mut(&record).unwrap().epoch += 1;
        }
    }

    fn rotate(&mut self) {
        let Some(record) = self.any_record() else { return };
        let entry = self.model.records.get_mut(&record).unwrap();
        entry.epoch += 1;
        let owner = entry.owner;
        self.world.run(owner, vec![Operation::Rotate(Rotate { record })]).unwrap();
    }

    fn open_any(&mut self) {
        if let Some(id) = self.any_grant() {
            self.open(id);
        }
    }

    fn open(&mut self, id: GrantId) {
        let now = self.next();
        let grant = self.model.grants[&id].clone();
        let result = self.world.open(grant.reader, id);
        let paused = grant.opened.is_some_and(|opened| now < opened.plus_millis(OPENING_PAUSE));
        assert_eq!(result.is_ok(), self.model.is_open(&grant, now) && !paused, "{result:?}");
        self.count("open", result.is_ok());
        if result.is_ok() {
            self.model.grants.get_mut(&id).unwrap().opened = Some(now);
            self.model.records.get_mut(&grant.conditions.record).unwrap().openings += 1;
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..6 => self.create(),
            6..26 => self.anchor(),
            26..38 => self.anchor_by_writer(),
            38..58 => self.grant(),
            58..66 => self.issue_again(),
            66..72 => self.revoke(),
            72..76 => self.rotate(),
            76..94 => self.open_any(),
            94..97 => self.world.pass(OPENING_PAUSE),
            _ => {
                let minutes = self.rng.random_range(1..600);
                self.world.pass(minutes * HOUR / 60);
            }
        }
    }

    fn compare(&self) {
        for (id, expected) in &self.model.records {
            let entry = self.world.record(*id);
            assert_eq!(entry.epoch, Epoch(expected.epoch));
            let newest = entry.head.map_or(Version(0), |head| head.version);
            assert_eq!(newest.0 as usize, expected.versions.len());
            assert_eq!(entry.head.map(|head| head.epoch.0), expected.versions.last().copied());
            let openings = self.world.record_lists(*id).openings.count;
            assert_eq!((entry.versions.count, openings), (newest.0, expected.openings));
        }
        for (id, expected) in &self.model.grants {
            let entry = self.world.grant_entry(*id);
            assert_eq!(entry.opened.map(|opened| opened.time), expected.opened);
            let gone = entry.conditions.expires.is_some_and(|end| end <= self.world.now);
            assert!(entry.ended.is_some() == expected.ended || gone, "{id:?}: {entry:?} {expected:?}");
        }
    }

    fn check_lists(&self) {
        for record in self.model.records.keys() {
            let lists = self.world.record_lists(*record);
            for (key, list) in [
                (ListKey::Versions(*record), self.world.record(*record).versions),
                (ListKey::Grants(*record), lists.grants),
                (ListKey::Openings(*record), lists.openings),
            ] {
                let items = self.world.ledger.items(key, 0, usize::MAX);
                assert_eq!(list.verify(items.iter().map(Vec::as_slice)), Ok(()));
            }
        }
        for person in PEOPLE {
            let (lists, id) = (self.world.member_lists(person), person.id());
            for (key, list) in [
                (ListKey::Records(id), lists.records),
                (ListKey::Received(id), lists.received),
                (ListKey::Opened(id), lists.opened),
            ] {
                let items = self.world.ledger.items(key, 0, usize::MAX);
                assert_eq!(list.verify(items.iter().map(Vec::as_slice)), Ok(()));
            }
        }
    }
}

#[test]
fn random_operations_agree_with_the_model() {
    let mut outcomes: BTreeMap<&'static str, (u32, u32)> = BTreeMap::new();
    for seed in 0..30 {
        println!("seed {seed}");
        let mut run = Run::new(seed);
        for _ in 0..400 {
            run.step();
            run.compare();
        }
        run.check_lists();
        for (operation, (applied, refused)) in run.outcomes {
            let (yes, no) = outcomes.entry(operation).or_insert((0, 0));
            (*yes, *no) = (*yes + applied, *no + refused);
        }
    }
    println!("{outcomes:?}");
    assert!(outcomes.values().all(|(applied, refused)| *applied > 50 && *refused > 10), "{outcomes:?}");
}

#[test]
fn two_ledgers_with_the_same_blocks_have_the_same_root() {
    let mut run = Run::new(99);
    for _ in 0..150 {
        run.step();
    }
    let ledger = &run.world.ledger;
    let mut twin = World::empty(2).ledger;
    for height in 1..=ledger.height().0 {
        twin.accept(ledger.block(ihfs_core::ids::Height(height)).unwrap()).unwrap();
    }
    assert_eq!((twin.root(), twin.entries()), (ledger.root(), ledger.entries()));
}
