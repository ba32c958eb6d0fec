//! The power goes away at every write point of a random run; what was acknowledged is there afterwards.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// What was acknowledged, and what was ever tried.
#[derive(Debug, Default)]
struct Acknowledged {
    /// Until when a receipt protects a binding.
    kept: BTreeMap<(RecordId, ChunkId), Time>,
    pinned: BTreeMap<(RecordId, ChunkId), u32>,
    versions: BTreeMap<RecordId, Version>,
    tried: BTreeMap<ChunkId, Bytes>,
    now: u64,
}

impl Acknowledged {
    fn must_be_readable(&self) -> Vec<(RecordId, ChunkId)> {
        let now = Time(self.now);
        let kept = self.kept.iter().filter(|(_, until)| **until > now).map(|(key, _)| *key);
        let pinned = self.pinned.keys().filter(|key| self.kept.contains_key(key)).copied();
        kept.chain(pinned).collect()
    }
}

/// A random run until it ends or the power is gone.
fn run(disk: &SimDisk, seed: u64, steps: usize, acknowledged: &mut Acknowledged) -> Option<()> {
    let mut random = StdRng::seed_from_u64(seed);
    acknowledged.now = NOW.0;
    let mut store = Store::open_on(Arc::new(disk.clone()), OPTIONS).ok()?;
    let mut uploaded: Vec<(RecordId, ChunkId)> = Vec::new();
    for _ in 0..steps {
        let to = record(random.random_range(1..4));
        match random.random_range(0..100u8) {
            0..50 => {
                let length = if random.random_bool(0.1) { 30_000 } else { random.random_range(0..6000) };
                let bytes = bytes_of(random.random_range(0..60), length);
                acknowledged.tried.insert(ChunkId::of(&bytes), bytes.clone());
                uploaded.push((to, store.append(to, bytes, Time(acknowledged.now)).ok()?));
            }
            50..70 => {
                let until = Time(acknowledged.now + random.random_range(1..20) * DAY);
                let recent = uploaded.iter().rev().take(8).filter(|(record, _)| *record == to);
                let ids: Vec<ChunkId> = recent.map(|(_, id)| *id).collect();
                match store.sync(to, &ids, until) {
                    Ok(()) => {}
                    Err(SyncError::Missing { .. }) => continue,
                    Err(_) => return None,
                }
                for id in ids {
                    let kept = acknowledged.kept.entry((to, id)).or_default();
                    *kept = until.max(*kept);
                }
            }
            70..82 => {
                let version = acknowledged.versions.get(&to).copied().unwrap_or_default().next();
                let of_record = |(record, _): &&(RecordId, ChunkId)| *record == to;
                let kept: Vec<_> = acknowledged.kept.keys().filter(of_record).copied().collect();
                let readable: Vec<_> = kept
                    .into_iter()
                    .filter(|(to, id)| store.is_bound(*to, &[*id]).is_ok_and(|b| b[0]))
                    .collect();
                let added: Vec<(ChunkId, u32)> = readable
                    .iter()
                    .take(5)
                    .map(|(_, id)| (*id, acknowledged.tried[id].len() as u32))
                    .collect();
                let dropped: Vec<ChunkId> = acknowledged
                    .pinned
                    .keys()
                    .filter(of_record)
                    .map(|(_, id)| *id)
                    .step_by(3)
                    .take(3)
                    .collect();
                // From the attempt on, the drop may have happened.
                for id in &dropped {
                    acknowledged.pinned.remove(&(to, *id));
                }
                store.pin(to, version, &added, &dropped).ok()?;
                acknowledged.versions.insert(to, version);
                for (id, length) in added.into_iter().filter(|(id, _)| !dropped.contains(id)) {
                    acknowledged.pinned.insert((to, id), length);
                }
            }
            82..86 => {
                let from = record(random.random_range(1..4));
                let ids: Vec<ChunkId> = uploaded.iter().rev().take(2).map(|(_, id)| *id).collect();
                match store.bind(to, from, &ids, Time(acknowledged.now)) {
                    Ok(()) => uploaded.extend(ids.iter().map(|id| (to, *id))),
                    Err(BindError::Missing { .. }) => {}
                    Err(_) => return None,
                }
            }
            86..96 => {
                acknowledged.now += random.random_range(0..6) * DAY;
                store.collect(Time(acknowledged.now), 20).ok()?;
                // What is gone is not expected to be pinned later.
                let gone = |key: &(RecordId, ChunkId)| !store.is_bound(key.0, &[key.1]).is_ok_and(|b| b[0]);
                let dead: Vec<_> = acknowledged
                    .kept
                    .iter()
                    .filter(|(key, until)| {
                        until.0 <= acknowledged.now && !acknowledged.pinned.contains_key(key)
                    })
                    .map(|(key, _)| *key)
                    .filter(gone)
                    .collect();
                for key in &dead {
                    acknowledged.kept.remove(key);
                }
            }
            _ => {
                drop(store);
                store = Store::open_on(Arc::new(disk.clone()), OPTIONS).ok()?;
            }
        }
    }
    drop(store);
    Some(())
}

fn check_after_cut(disk: &SimDisk, acknowledged: &Acknowledged, lose_index: bool, story: &str) {
    if lose_index && disk.names().iter().any(|name| name == index::INDEX_NAME) {
        disk.unlink(index::INDEX_NAME).unwrap();
    }
    let store = Store::open_on(Arc::new(disk.clone()), OPTIONS).unwrap_or_else(|e| panic!("{story}: {e:?}"));
    check(&store);
    for (record, id) in acknowledged.must_be_readable() {
        let bytes = store.read(record, id).unwrap_or_else(|error| panic!("{story}: {error}"));
        assert_eq!(bytes, acknowledged.tried[&id], "{story}");
    }
    for (id, expected) in &acknowledged.tried {
        for number in 1..4 {
            match store.read(record(number), *id) {
                Ok(bytes) => assert_eq!(bytes, expected, "{story}"),
                Err(ReadError::NotBound { .. }) => {}
                Err(error) => panic!("{story}: half-written: {error}"),
            }
        }
    }
    for (record, version) in &acknowledged.versions {
        let replayed = lose_index || store.pins(*record).unwrap().version >= *version;
        assert!(replayed, "{story}: pins of {record:?} were lost");
    }
    let id = put(&store, record(1), 4242, 1000);
    drop(store);
    open(disk).read(record(1), id).unwrap();
}

fn cut_everywhere(seed: u64, run: impl Fn(&SimDisk, &mut Acknowledged) -> Option<()>) {
    for point in 1.. {
        let disk = SimDisk::new();
        disk.cut_after(point);
        let mut acknowledged = Acknowledged::default();
        let _ = run(&disk, &mut acknowledged);
        let survivor = disk.after_power_cut(seed ^ point);
        let story = format!("seed {seed}, cut at write point {point}");
        check_after_cut(&survivor, &acknowledged, point % 5 == 0, &story);
        if !disk.was_cut() {
            assert!(point > 100, "the run has many write points, found {point}");
            return;
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_is_cut() {
    cut_everywhere(1, |disk, acknowledged| run(disk, 1, 60, acknowledged));
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_is_cut_with_another_seed() {
    cut_everywhere(2, |disk, acknowledged| run(disk, 2, 60, acknowledged));
}

#[test]
fn a_cut_while_it_recovers_from_a_cut_loses_nothing() {
    let disk = SimDisk::new();
    disk.cut_after(400);
    let mut acknowledged = Acknowledged::default();
    assert!(run(&disk, 3, 1000, &mut acknowledged).is_none());
    for point in 1.. {
        let first = disk.after_power_cut(99);
        first.cut_after(point);
        let opened = Store::open_on(Arc::new(first.clone()), OPTIONS);
        drop(opened);
        let second = first.after_power_cut(point);
        check_after_cut(&second, &acknowledged, false, &format!("second cut at {point}"));
        if !first.was_cut() {
            return;
        }
    }
}

/// Fills segments of which a quarter stays needed, by two records each, and compacts them.
fn run_compaction(disk: &SimDisk, acknowledged: &mut Acknowledged) -> Option<()> {
    acknowledged.now = NOW.0;
    let store = Store::open_on(Arc::new(disk.clone()), OPTIONS).ok()?;
    for number in 0..40 {
        let bytes = bytes_of(number, 5000);
        acknowledged.tried.insert(ChunkId::of(&bytes), bytes.clone());
        let id = store.append(record(1), bytes.clone(), NOW).ok()?;
        if number % 4 != 0 {
            continue;
        }
        let until = Time(NOW.0 + 100 * DAY);
        store.append(record(2), bytes, NOW).ok()?;
        for to in [record(1), record(2)] {
            store.sync(to, &[id], until).ok()?;
            acknowledged.kept.insert((to, id), until);
        }
    }
    acknowledged.now += 30 * DAY;
    let mut segments = 0;
    for round in 0.. {
        let collected = store.collect(Time(acknowledged.now), 7).ok()?;
        assert!(round < 200, "collection never ends: {collected:?}");
        segments += collected.segments;
        if !collected.more {
            break;
        }
    }
    assert!(segments >= 3, "the run compacts, found {segments}");
    Some(())
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_is_cut_during_compaction() {
    cut_everywhere(4, run_compaction);
}
