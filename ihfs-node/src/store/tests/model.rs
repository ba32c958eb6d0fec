//! Random operations on the store and on maps that do the same slowly; both must agree after each.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// Chunks that the run draws from: few, so that they meet in several records.
const CHUNKS: u32 = 40;

/// What one anchor added and dropped.
type Delta = (Vec<ChunkId>, Vec<ChunkId>);

/// The same promises, kept by maps.
#[derive(Debug, Default)]
struct Model {
    /// Time of upload and end of the last receipt.
    bindings: BTreeMap<(RecordId, ChunkId), (u64, u64)>,
    /// Every delta of a record: added, dropped.
    deltas: BTreeMap<RecordId, Vec<Delta>>,
    now: u64,
}

impl Model {
    fn bind(&mut self, record: RecordId, id: ChunkId) {
        let now = self.now;
        let binding = self.bindings.entry((record, id)).or_insert((now, 0));
        if now >= binding.0 + DAY {
            binding.0 = now;
        }
    }

    fn pinned(&self, record: RecordId) -> BTreeSet<ChunkId> {
        let mut pinned = BTreeSet::new();
        for (added, dropped) in self.deltas.get(&record).into_iter().flatten() {
            pinned.extend(added);
            dropped.iter().for_each(|id| {
                pinned.remove(id);
            });
        }
        pinned
    }

    fn collect(&mut self) {
        let pinned: BTreeMap<RecordId, BTreeSet<ChunkId>> =
            (1..4).map(|number| (record(number), self.pinned(record(number)))).collect();
        let now = self.now;
        self.bindings.retain(|(record, id), (uploaded, kept)| {
            *uploaded + 7 * DAY > now || *kept > now || pinned[record].contains(id)
        });
    }
}

fn chunk(number: u32) -> Bytes {
    let length = if number.is_multiple_of(7) { 20_000 } else { number as usize * 97 };
    bytes_of(number + 1, length)
}

fn collect_all(store: &Store, now: u64) {
    for _ in 0..1000 {
        if !store.collect(Time(now), 13).unwrap().more {
            return;
        }
    }
    panic!("collection never ends");
}

fn compare(store: &Store, model: &Model, story: &str) {
    check(store);
    let ids: Vec<ChunkId> = (0..CHUNKS).map(|number| ChunkId::of(&chunk(number))).collect();
    for number in 1..4 {
        let bound = store.is_bound(record(number), &ids).unwrap();
        for (id, bound) in ids.iter().zip(bound) {
            let expected = model.bindings.contains_key(&(record(number), *id));
            assert_eq!(bound, expected, "{story}: record {number}, chunk {id:?}");
        }
        let pins = store.pins(record(number)).unwrap();
        assert_eq!(pins.chunks, model.pinned(record(number)).len() as u64, "{story}");
    }
}

fn step(store: &Store, model: &mut Model, random: &mut StdRng) {
    let to = record(random.random_range(1..4));
    let number = random.random_range(0..CHUNKS);
    let id = ChunkId::of(&chunk(number));
    match random.random_range(0..100u8) {
        0..45 => {
            assert_eq!(store.append(to, chunk(number), Time(model.now)).unwrap(), id);
            model.bind(to, id);
        }
        45..60 => {
            let until = model.now + random.random_range(1..25) * DAY;
            let synced = store.sync(to, &[id], Time(until));
            match model.bindings.get_mut(&(to, id)) {
                Some(binding) => {
                    synced.unwrap();
                    binding.1 = binding.1.max(until);
                }
                None => assert!(matches!(synced, Err(SyncError::Missing { .. }))),
            }
        }
        60..68 => {
            let from = record(random.random_range(1..4));
            let bound = store.bind(to, from, &[id], Time(model.now));
            assert_eq!(bound.is_ok(), model.bindings.contains_key(&(from, id)));
            if bound.is_ok() {
                model.bind(to, id);
            }
        }
        68..80 => {
            let bound = model.bindings.keys().filter(|(record, _)| *record == to).map(|(_, id)| *id);
            let added: Vec<ChunkId> = bound.filter(|_| random.random_bool(0.2)).collect();
            let pinned = model.pinned(to).into_iter();
            let dropped: Vec<ChunkId> =
                pinned.filter(|id| !added.contains(id) && random.random_bool(0.4)).collect();
            let deltas = model.deltas.entry(to).or_default();
            deltas.push((added.clone(), dropped.clone()));
            let lengths: Vec<(ChunkId, u32)> = added.into_iter().map(|id| (id, 1)).collect();
            store.pin(to, Version(deltas.len() as u64), &lengths, &dropped).unwrap();
        }
        80..92 => match store.read(to, id) {
            Ok(bytes) => assert!(bytes == chunk(number) && model.bindings.contains_key(&(to, id))),
            Err(ReadError::NotBound { .. }) => assert!(!model.bindings.contains_key(&(to, id))),
            Err(error) => panic!("{error}"),
        },
        _ => {
            model.now += random.random_range(0..5) * DAY;
            collect_all(store, model.now);
            model.collect();
        }
    }
}

/// Loses the index and gets everything back: bindings and receipts from segments, pins from deltas.
fn rebuild(disk: &SimDisk, model: &mut Model) -> Store {
    disk.unlink(index::INDEX_NAME).unwrap();
    let store = open(disk);
    for (record, deltas) in &model.deltas {
        for (number, (added, dropped)) in deltas.iter().enumerate() {
            let lengths: Vec<(ChunkId, u32)> = added.iter().map(|id| (*id, 1)).collect();
            store.pin(*record, Version(number as u64 + 1), &lengths, dropped).unwrap();
        }
    }
    store.pins_replayed().unwrap();
    // What was collected before may be back, as old as it was.
    collect_all(&store, model.now);
    model.collect();
    store
}

#[test]
fn the_store_agrees_with_a_map_through_collections_reopenings_and_rebuilds() {
    for seed in 0..12 {
        let mut random = StdRng::seed_from_u64(seed);
        let disk = SimDisk::new();
        let mut model = Model { now: NOW.0, ..Model::default() };
        let mut store = open(&disk);
        for number in 0..250 {
            match random.random_range(0..40u8) {
                0 => {
                    drop(store);
                    store = open(&disk);
                }
                1 => {
                    drop(store);
                    store = rebuild(&disk, &mut model);
                }
                _ => step(&store, &mut model, &mut random),
            }
            compare(&store, &model, &format!("seed {seed}, step {number}"));
        }
        model.now += 400 * DAY;
        collect_all(&store, model.now);
        model.collect();
        compare(&store, &model, &format!("seed {seed}, at the end"));
        let status = store.status().unwrap();
        assert!(status.used_bytes < 3 * 64 * 1024 + 4 * status.live_bytes, "seed {seed}: {status:?}");
    }
}
