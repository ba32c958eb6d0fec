//! What the store promises, on a disk in memory that can be cut, filled and damaged.

mod model;
mod power_cut;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use ihfs_core::ids::{ChunkId, RecordId, Time, Version};

use super::sim_disk::SimDisk;
use super::*;

const DAY: u64 = 24 * 60 * 60 * 1000;
const NOW: Time = Time(1_000 * DAY);
const SOON: Time = Time(1_010 * DAY);
const OPTIONS: StoreOptions =
    StoreOptions { segment_size_bytes: 64 << 10, index_cache_bytes: 1 << 20, reserve_bytes: 0 };

fn open(disk: &SimDisk) -> Store {
    Store::open_on(Arc::new(disk.clone()), OPTIONS).unwrap()
}

fn record(number: u8) -> RecordId {
    RecordId::from_bytes([number; 32])
}

fn bytes_of(number: u32, length: usize) -> Bytes {
    number.to_le_bytes().into_iter().cycle().take(length).collect()
}

fn put(store: &Store, to: RecordId, number: u32, length: usize) -> ChunkId {
    let id = store.append(to, bytes_of(number, length), NOW).unwrap();
    store.sync(to, &[id], SOON).unwrap();
    id
}

fn check(store: &Store) {
    store.handle.shared.index.read(|snapshot| snapshot.check()).unwrap();
}

fn last_segment(disk: &SimDisk) -> String {
    disk.names().into_iter().rfind(|name| name.ends_with(".segment")).unwrap()
}

/// Where the body of a chunk is in a file.
fn find(haystack: &[u8], id: ChunkId) -> usize {
    let header = haystack.windows(32).position(|window| window == id.as_bytes()).unwrap();
    header - 64 + ENTRY_HEADER_BYTES
}

#[test]
fn a_chunk_is_read_back_before_and_after_sync_and_after_reopening() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let id = store.append(record(1), bytes_of(7, 5000), NOW).unwrap();
    assert_eq!(store.read(record(1), id).unwrap(), bytes_of(7, 5000));
    store.sync(record(1), &[id], SOON).unwrap();
    assert_eq!(store.read(record(1), id).unwrap(), bytes_of(7, 5000));
    drop(store);
    assert_eq!(open(&disk).read(record(1), id).unwrap(), bytes_of(7, 5000));
}

#[test]
fn a_real_folder_holds_chunks_of_every_length_and_is_locked() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { reserve_bytes: 0, segment_size_bytes: 4 << 20, ..OPTIONS };
    let store = Store::open(folder.path(), options).unwrap();
    let lengths = [0, 1, 63, 64, 4096, 65_536, 1 << 20, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX, 1 << 20];
    let append = |(number, length): (usize, &usize)| {
        store.append(record(1), bytes_of(number as u32 + 1, *length), NOW).unwrap()
    };
    let ids: Vec<ChunkId> = lengths.iter().enumerate().map(append).collect();
    store.sync(record(1), &ids, SOON).unwrap();
    assert!(matches!(Store::open(folder.path(), options), Err(OpenStoreError::InUse { .. })));
    drop(store);
    let store = Store::open(folder.path(), options).unwrap();
    for (number, id) in ids.iter().enumerate() {
        let expected = bytes_of(number as u32 + 1, lengths[number]);
        assert!(store.read(record(1), *id).unwrap() == expected, "chunk {number}");
    }
    assert!(store.status().unwrap().free_bytes > 0);
    check(&store);
}

#[test]
fn a_chunk_longer_than_the_limit_is_refused() {
    let store = open(&SimDisk::new());
    let error = store.append(record(1), bytes_of(1, CHUNK_BYTES_MAX + 1), NOW).unwrap_err();
    assert!(matches!(error, AppendError::TooLong { found } if found == CHUNK_BYTES_MAX + 1));
}

#[test]
fn a_chunk_of_another_record_is_not_bound() {
    let store = open(&SimDisk::new());
    let id = put(&store, record(1), 1, 100);
    assert!(matches!(store.read(record(2), id), Err(ReadError::NotBound { .. })));
    assert_eq!(store.is_bound(record(2), &[id]).unwrap(), [false]);
    assert!(matches!(store.sync(record(2), &[id], SOON), Err(SyncError::Missing { .. })));
    store.pin(record(2), Version(1), &[(id, 100)], &[]).unwrap();
    assert!(matches!(store.read(record(2), id), Err(ReadError::NotBound { .. })));
}

#[test]
fn a_chunk_of_two_records_is_stored_once() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let id = put(&store, record(1), 1, 50_000);
    assert_eq!(put(&store, record(2), 1, 50_000), id);
    let status = store.status().unwrap();
    assert_eq!(status.chunks, 1);
    assert!(status.used_bytes < 70_000, "{status:?}");
    drop(store);
    assert_eq!(open(&disk).read(record(2), id).unwrap().len(), 50_000);
}

#[test]
fn bind_gives_a_record_the_chunks_of_another_or_names_the_missing_one() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let id = put(&store, record(1), 1, 100);
    let missing = ChunkId::of(b"never uploaded");
    let error = store.bind(record(2), record(1), &[id, missing], NOW).unwrap_err();
    assert!(matches!(error, BindError::Missing { id, .. } if id == missing));
    assert_eq!(store.is_bound(record(2), &[id]).unwrap(), [false]);
    store.bind(record(2), record(1), &[id], NOW).unwrap();
    store.sync(record(2), &[id], SOON).unwrap();
    drop(store);
    assert_eq!(open(&disk).read(record(2), id).unwrap(), bytes_of(1, 100));
}

#[test]
fn a_sync_names_the_chunk_that_is_missing() {
    let store = open(&SimDisk::new());
    let id = put(&store, record(1), 1, 100);
    let missing = ChunkId::of(b"never uploaded");
    let error = store.sync(record(1), &[id, missing], SOON).unwrap_err();
    assert!(matches!(error, SyncError::Missing { id, .. } if id == missing));
}

#[test]
fn a_sync_of_what_is_durable_and_kept_writes_nothing() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let id = put(&store, record(1), 1, 100);
    let before = disk.syncs();
    store.sync(record(1), &[id], SOON).unwrap();
    assert_eq!(disk.syncs(), before);
}

#[test]
fn callers_that_sync_together_share_one_sync_and_one_commit() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let ids: Vec<ChunkId> =
        (0..9).map(|n| store.append(record(n), bytes_of(n.into(), 500), NOW).unwrap()).collect();
    disk.hold_syncs(true);
    let (segment_before, index_before) = disk.syncs();
    std::thread::scope(|scope| {
        scope.spawn(|| store.sync(record(0), &ids[..1], SOON).unwrap());
        while disk.waiting_syncs() == 0 {
            std::thread::yield_now();
        }
        for n in 1..9 {
            let (store, ids) = (&store, &ids);
            scope.spawn(move || store.sync(record(n as u8), &ids[n..=n], SOON).unwrap());
        }
        while store.status().unwrap().queue_length < 8 {
            std::thread::yield_now();
        }
        disk.hold_syncs(false);
    });
    let (segment_after, index_after) = disk.syncs();
    assert_eq!(segment_after - segment_before, 2, "one for the first, one for the eight behind it");
    drop(store);
    let store = open(&disk);
    let per_commit = {
        let before = disk.syncs().1;
        put(&store, record(1), 99, 10);
        disk.syncs().1 - before
    };
    assert_eq!(index_after - index_before, 2 * per_commit);
}

#[test]
fn a_failed_sync_of_the_medium_acknowledges_nothing_and_the_upload_can_be_repeated() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let kept = put(&store, record(1), 1, 100);
    let id = store.append(record(1), bytes_of(2, 100), NOW).unwrap();
    disk.fail_next_segment_sync();
    assert!(matches!(store.sync(record(1), &[id], SOON), Err(SyncError::Fault(StoreFault::Disk(_)))));
    assert!(store.status().unwrap().last_error.is_some());
    assert!(matches!(store.sync(record(1), &[id], SOON), Err(SyncError::Missing { .. })));
    assert_eq!(put(&store, record(1), 2, 100), id);
    for id in [kept, id] {
        store.read(record(1), id).unwrap();
    }
    check(&store);
}

#[test]
fn damaged_bytes_are_reported_and_mended_by_the_next_upload() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let id = put(&store, record(1), 1, 3000);
    let whole = put(&store, record(1), 2, 3000);
    disk.damage(&last_segment(&disk), |bytes| {
        let at = find(bytes, id);
        bytes[at + 17] ^= 4;
    });
    assert!(matches!(store.read(record(1), id), Err(ReadError::Damaged { .. })));
    assert_eq!(store.is_bound(record(1), &[id, whole]).unwrap(), [false, true]);
    assert!(matches!(store.sync(record(1), &[id], SOON), Err(SyncError::Missing { .. })));
    assert_eq!(put(&store, record(1), 1, 3000), id);
    assert_eq!(store.read(record(1), id).unwrap(), bytes_of(1, 3000));
    check(&store);
}

#[test]
fn a_scrub_finds_every_damaged_chunk_in_steps() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let ids: Vec<ChunkId> =
        (0..50).map(|n| store.append(record(1), bytes_of(n, 200), NOW).unwrap()).collect();
    store.sync(record(1), &ids, SOON).unwrap();
    disk.damage(&last_segment(&disk), |bytes| {
        for id in [ids[3], ids[40]] {
            let at = find(bytes, id);
            bytes[at] ^= 1;
        }
    });
    let (mut from, mut damaged, mut checked) = (None, BTreeSet::new(), 0);
    loop {
        let scrubbed = store.scrub(from, 7).unwrap();
        checked += scrubbed.checked;
        damaged.extend(scrubbed.damaged);
        from = scrubbed.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!((checked, damaged), (50, BTreeSet::from([ids[3], ids[40]])));
}

#[test]
fn an_index_that_is_gone_is_rebuilt_from_the_segments() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let first = put(&store, record(1), 1, 40_000);
    let second = put(&store, record(2), 2, 40_000);
    store.bind(record(3), record(1), &[first], NOW).unwrap();
    store.sync(record(3), &[first], SOON).unwrap();
    drop(store);
    disk.unlink(index::INDEX_NAME).unwrap();
    let store = open(&disk);
    check(&store);
    store.read(record(1), first).unwrap();
    store.read(record(2), second).unwrap();
    store.read(record(3), first).unwrap();
    assert!(matches!(store.read(record(2), first), Err(ReadError::NotBound { .. })));
    let late = Time(2_000 * DAY);
    assert!(store.collect(late, 100).unwrap().waits_for_pins, "pins come from the ledger");
    store.pin(record(1), Version(1), &[(first, 40_000)], &[]).unwrap();
    store.pins_replayed().unwrap();
    assert_eq!(store.collect(late, 100).unwrap().bindings, 2);
    store.read(record(1), first).unwrap();
    assert!(matches!(store.read(record(3), first), Err(ReadError::NotBound { .. })));
}

#[test]
fn an_index_that_is_damaged_is_rebuilt_from_the_segments() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let id = put(&store, record(1), 1, 4000);
    drop(store);
    disk.damage(index::INDEX_NAME, |bytes| bytes[..4096].fill(0x5a));
    assert_eq!(open(&disk).read(record(1), id).unwrap(), bytes_of(1, 4000));
}

#[test]
fn a_rebuild_passes_over_damaged_entries_and_finds_those_behind() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let ids: Vec<ChunkId> = (0..10).map(|n| put(&store, record(1), n, 1000)).collect();
    drop(store);
    disk.unlink(index::INDEX_NAME).unwrap();
    disk.damage(&last_segment(&disk), |bytes| {
        let body = find(bytes, ids[4]);
        bytes[body] ^= 1;
        let header = find(bytes, ids[6]) - ENTRY_HEADER_BYTES;
        bytes[header + 20] ^= 1;
        bytes[100] ^= 1;
        bytes[30] ^= 1;
    });
    let store = open(&disk);
    let readable: Vec<bool> = ids.iter().map(|id| store.read(record(1), *id).is_ok()).collect();
    let expected: Vec<bool> = (0..10).map(|n| n != 4 && n != 6).collect();
    assert_eq!(readable, expected);
    check(&store);
}

#[test]
fn an_index_that_is_older_than_the_segments_takes_in_what_it_lacks() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let first = put(&store, record(1), 1, 4000);
    drop(store);
    let mut old = Vec::new();
    disk.damage(index::INDEX_NAME, |bytes| old = bytes.clone());
    let store = open(&disk);
    let later: Vec<ChunkId> = (2..40).map(|n| put(&store, record(1), n, 9000)).collect();
    drop(store);
    disk.damage(index::INDEX_NAME, |bytes| *bytes = old);
    let store = open(&disk);
    for id in later.iter().chain([&first]) {
        store.read(record(1), *id).unwrap();
    }
    assert!(store.status().unwrap().pins_known);
    check(&store);
}

#[test]
fn a_forged_entry_inside_of_a_chunk_binds_nothing() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let victim = put(&store, record(1), 1, 1000);
    // The forger knows everything but the segment key.
    let guess = segment::SegmentKey::from_bytes([0xee; 32]);
    let mut chunk = vec![0; 64];
    for offset in (0..32_768).step_by(64) {
        let header = segment::EntryHeader {
            kind: segment::EntryKind::Binding,
            time: NOW,
            record: record(9),
            id: victim,
            body_bytes: 0,
        };
        let place = Place { segment: 1, offset };
        chunk.extend(segment::encode_entry_header(&guess, place, &header));
    }
    let id = store.append(record(9), chunk.into(), NOW).unwrap();
    store.sync(record(9), &[id], SOON).unwrap();
    drop(store);
    disk.unlink(index::INDEX_NAME).unwrap();
    disk.damage(&last_segment(&disk), |bytes| {
        let header = find(bytes, id) - ENTRY_HEADER_BYTES;
        bytes[header] ^= 1;
    });
    let store = open(&disk);
    store.read(record(1), victim).unwrap();
    assert!(matches!(store.read(record(9), victim), Err(ReadError::NotBound { .. })));
}

#[test]
fn an_unknown_version_is_refused_by_name_and_changes_nothing() {
    let disk = SimDisk::new();
    put(&open(&disk), record(1), 1, 100);
    let name = last_segment(&disk);
    disk.damage(&name, |bytes| {
        bytes[8] = 9;
        bytes[2048 + 8] = 9;
    });
    let error = Store::open_on(Arc::new(disk.clone()), OPTIONS).unwrap_err();
    let text = error.to_string();
    assert_eq!(text, format!("{name} has format version 9, this program knows 1"));
    disk.damage(&name, |bytes| {
        bytes[8] = 1;
        bytes[2048 + 8] = 1;
    });
    open(&disk).read(record(1), ChunkId::of(&bytes_of(1, 100))).unwrap();
}

#[test]
fn a_full_disk_is_told_and_reads_go_on_and_writing_resumes_with_room() {
    let disk = SimDisk::new();
    let options = StoreOptions { reserve_bytes: 1 << 20, ..OPTIONS };
    let store = Store::open_on(Arc::new(disk.clone()), options).unwrap();
    let first = put(&store, record(1), 0, 30_000);
    disk.set_capacity(disk.used_bytes() + (1 << 20) + 300_000);
    let mut ids = vec![first];
    let full = loop {
        let number = ids.len() as u32;
        match store.append(record(1), bytes_of(number, 30_000), NOW) {
            Ok(id) => ids.push(id),
            Err(error) => break error,
        }
        assert!(ids.len() < 100, "the disk never filled");
    };
    let AppendError::DiskFull(full) = full else { panic!("{full}") };
    assert_eq!(full.reserve_bytes, 1 << 20);
    assert!(full.free_bytes < full.needed_bytes + full.reserve_bytes);
    assert!(ids.len() >= 8, "what fits is taken: {}", ids.len());
    store.sync(record(1), &ids, SOON).unwrap();
    assert!(store.status().unwrap().last_error.unwrap().contains("full"));
    for id in &ids {
        store.read(record(1), *id).unwrap();
    }
    disk.set_capacity(u64::MAX);
    ids.push(put(&store, record(1), 777, 30_000));
    drop(store);
    let store = open(&disk);
    for id in &ids {
        store.read(record(1), *id).unwrap();
    }
    check(&store);
}

#[test]
fn a_disk_that_fills_up_at_any_point_loses_nothing_acknowledged() {
    let roomy = SimDisk::new();
    drop(open(&roomy));
    let base = roomy.used_bytes();
    for room in (0..600_000).step_by(16_384) {
        let disk = SimDisk::new();
        drop(open(&disk));
        disk.set_capacity(base + room);
        let store = open(&disk);
        let mut acknowledged = Vec::new();
        for number in 0..60 {
            let Ok(id) = store.append(record(1), bytes_of(number, 9000), NOW) else { continue };
            if store.sync(record(1), &[id], SOON).is_ok() {
                acknowledged.push(id);
            }
        }
        for id in &acknowledged {
            store.read(record(1), *id).unwrap();
        }
        disk.set_capacity(u64::MAX);
        acknowledged.push(put(&store, record(1), 777, 9000));
        drop(store);
        let store = open(&disk);
        for id in &acknowledged {
            store.read(record(1), *id).unwrap();
        }
        check(&store);
    }
}

#[test]
fn pins_are_applied_once_and_in_order() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let id = put(&store, record(1), 1, 100);
    let absent = ChunkId::of(b"on another node");
    store.pin(record(1), Version(1), &[(id, 100), (absent, 50)], &[]).unwrap();
    store.pin(record(1), Version(1), &[(id, 100), (absent, 50)], &[]).unwrap();
    assert_eq!(store.pins(record(1)).unwrap(), Pins { version: Version(1), chunks: 2, bytes: 150 });
    let error = store.pin(record(1), Version(3), &[], &[]).unwrap_err();
    assert!(matches!(error, PinError::OutOfOrder { expected: Version(2), found: Version(3), .. }));
    store.pin(record(1), Version(2), &[], &[absent]).unwrap();
    drop(store);
    let store = open(&disk);
    assert_eq!(store.pins(record(1)).unwrap(), Pins { version: Version(2), chunks: 1, bytes: 100 });
    assert_eq!(
        store.pinned(record(1), None, 10).unwrap(),
        [Pinned { id, version: Version(1), length: 100, held: true }]
    );
}

#[test]
fn what_a_version_both_drops_and_adds_stays() {
    let store = open(&SimDisk::new());
    let id = put(&store, record(1), 1, 100);
    store.pin(record(1), Version(1), &[(id, 100)], &[]).unwrap();
    store.pin(record(1), Version(2), &[(id, 100)], &[id]).unwrap();
    assert_eq!(store.pins(record(1)).unwrap(), Pins { version: Version(2), chunks: 1, bytes: 100 });
}

#[test]
fn parts_of_a_delta_pin_and_the_version_comes_with_the_last() {
    let store = open(&SimDisk::new());
    let [first, second] = [1, 2].map(|number| put(&store, record(1), number, 100));
    // A crash may come between: the parts are pinned again.
    for _ in 0..2 {
        store.pin_part(record(1), Version(1), &[(first, 100)], &[]).unwrap();
    }
    assert_eq!(store.pins(record(1)).unwrap(), Pins { version: Version(0), chunks: 1, bytes: 100 });
    store.pin(record(1), Version(1), &[(second, 100)], &[]).unwrap();
    store.pin_part(record(1), Version(1), &[], &[first]).unwrap();
    assert_eq!(store.pins(record(1)).unwrap(), Pins { version: Version(1), chunks: 2, bytes: 200 });
}

#[test]
fn a_record_whose_pins_are_not_known_is_held_back_alone() {
    let store = open(&SimDisk::new());
    let [held, other] = [1, 2].map(|number| store.append(record(number), bytes_of(1, 100), NOW).unwrap());
    let late = NOW.plus_millis(30 * DAY);
    assert_eq!(store.collect_but(late, 100, [record(1)].into()).unwrap().bindings, 1);
    assert_eq!(store.is_bound(record(1), &[held]).unwrap(), [true]);
    assert_eq!(store.is_bound(record(2), &[other]).unwrap(), [false]);
    assert!(store.holds_any(record(1)).unwrap() && !store.holds_any(record(2)).unwrap());
    assert_eq!(store.collect(late, 100).unwrap().bindings, 1);
}

#[test]
fn pinned_chunks_are_listed_in_steps_and_say_what_is_not_here() {
    let store = open(&SimDisk::new());
    let here = put(&store, record(1), 1, 100);
    let added: Vec<(ChunkId, u32)> = (0..20u8).map(|n| (ChunkId::of(&[n]), 9)).chain([(here, 100)]).collect();
    store.pin(record(1), Version(1), &added, &[]).unwrap();
    store.pin(record(2), Version(1), &added[..3], &[]).unwrap();
    let (mut from, mut listed) = (None, Vec::new());
    loop {
        let step = store.pinned(record(1), from, 4).unwrap();
        let Some(last) = step.last() else { break };
        from = Some(last.id);
        listed.extend(step);
    }
    let wanted: BTreeSet<ChunkId> = added.iter().map(|(id, _)| *id).collect();
    assert_eq!(listed.iter().map(|pinned| pinned.id).collect::<BTreeSet<_>>(), wanted);
    assert_eq!(
        listed.iter().filter(|pinned| pinned.held).map(|pinned| pinned.id).collect::<Vec<_>>(),
        [here]
    );
}

#[test]
fn uploads_are_kept_for_seven_days_and_under_a_receipt_and_while_pinned() {
    let store = open(&SimDisk::new());
    let loose = store.append(record(1), bytes_of(1, 100), NOW).unwrap();
    let kept = put(&store, record(1), 2, 100);
    let pinned = store.append(record(1), bytes_of(3, 100), NOW).unwrap();
    store.pin(record(1), Version(1), &[(pinned, 100)], &[]).unwrap();
    let ids = [loose, kept, pinned];
    let bound_at = |days: u64| {
        store.collect(NOW.plus_millis(days * DAY - 1), 100).unwrap();
        store.is_bound(record(1), &ids).unwrap()
    };
    assert_eq!(bound_at(7), [true, true, true]);
    assert_eq!(bound_at(8), [false, true, true]);
    assert_eq!(bound_at(10), [false, true, true]);
    assert_eq!(bound_at(11), [false, false, true]);
    store.pin(record(1), Version(2), &[], &[pinned]).unwrap();
    assert_eq!(bound_at(12), [false, false, false]);
    assert_eq!(store.status().unwrap().chunks, 0);
    check(&store);
}

#[test]
fn mostly_dead_segments_are_compacted_and_their_space_freed() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let ids: Vec<ChunkId> = (0..100).map(|n| put(&store, record(1), n, 10_000)).collect();
    let pinned: Vec<(ChunkId, u32)> = ids.iter().step_by(10).map(|id| (*id, 10_000)).collect();
    store.pin(record(1), Version(1), &pinned, &[]).unwrap();
    let before = store.status().unwrap();
    let late = Time(2_000 * DAY);
    let mut freed = 0;
    for _ in 0..100 {
        let collected = store.collect(late, 8).unwrap();
        freed += collected.segment_bytes;
        if !collected.more {
            break;
        }
    }
    let after = store.status().unwrap();
    assert_eq!(after.chunks, 10);
    assert!(after.used_bytes < 220_000 && before.used_bytes > 1_000_000, "{before:?} {after:?}");
    assert!(freed > 800_000, "{freed}");
    for (id, _) in &pinned {
        store.read(record(1), *id).unwrap();
    }
    check(&store);
    drop(store);
    disk.unlink(index::INDEX_NAME).unwrap();
    let store = open(&disk);
    for (id, _) in &pinned {
        store.read(record(1), *id).unwrap();
    }
    check(&store);
}

#[test]
fn compaction_moves_bindings_and_receipts_too() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let shared = put(&store, record(1), 1, 60_000);
    put(&store, record(9), 2, 60_000);
    let dying = store.append(record(1), bytes_of(3, 40_000), Time(1)).unwrap();
    assert_eq!(put(&store, record(2), 1, 60_000), shared);
    put(&store, record(9), 4, 60_000);
    store.collect(NOW, 100).unwrap();
    assert_eq!(store.is_bound(record(1), &[dying]).unwrap(), [false]);
    let survivor = |store: &Store| store.read(record(2), shared).map(|bytes| bytes.len());
    assert_eq!(survivor(&store).unwrap(), 60_000);
    drop(store);
    disk.unlink(index::INDEX_NAME).unwrap();
    let store = open(&disk);
    store.pins_replayed().unwrap();
    store.collect(NOW.plus_millis(9 * DAY), 100).unwrap();
    assert_eq!(survivor(&store).unwrap(), 60_000, "the receipt was moved with the binding");
    check(&store);
}

#[test]
fn an_entry_is_refused_with_the_reason() {
    use segment::{EntryError, EntryHeader, EntryKind, SegmentKey, decode_entry, encode_entry_header};
    let key = SegmentKey::from_bytes([7; 32]);
    let place = Place { segment: 3, offset: 4096 };
    let header = EntryHeader {
        kind: EntryKind::Chunk,
        time: NOW,
        record: record(1),
        id: ChunkId::of(b"sealed"),
        body_bytes: 6,
    };
    let encode = |header: &EntryHeader, body: &[u8]| {
        let mut bytes = encode_entry_header(&key, place, header).to_vec();
        bytes.extend(body);
        bytes
    };
    let whole = encode(&header, b"sealed");
    assert_eq!(
        ChunkId::of(&whole).to_string(),
        "3d8ef728e4e198cdd98e2eb4e4fe564656f265d12a2f2f64e4c0551de0bd48f3",
        "the bytes of version 1"
    );
    assert_eq!(decode_entry(&key, place, &whole), Ok((header, &b"sealed"[..])));
    let decode = |bytes: &[u8]| decode_entry(&key, place, bytes).map(|_| ()).unwrap_err();
    assert_eq!(decode(&whole[..50]), EntryError::TooShort { expected: 128, found: 50 });
    assert_eq!(decode(&whole[..130]), EntryError::TooShort { expected: 134, found: 130 });
    assert_eq!(decode(&[0; 128]), EntryError::NoMagic);
    assert_eq!(decode(&[]), EntryError::TooShort { expected: 128, found: 0 });
    for at in 4..128 {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        assert_eq!(decode(&flipped), EntryError::WrongChecksum, "byte {at}");
    }
    assert_eq!(decode(&encode(&header, b"opened")), EntryError::WrongBody { expected: header.id });
    let elsewhere = Place { segment: 3, offset: 8192 };
    let error = decode_entry(&key, elsewhere, &whole).unwrap_err();
    assert_eq!(error, EntryError::WrongPlace { found: place });
    let long = EntryHeader { body_bytes: CHUNK_BYTES_MAX as u32 + 1, ..header };
    assert_eq!(decode(&encode(&long, b"")), EntryError::Malformed);
    let odd = EntryHeader { kind: EntryKind::Keep, body_bytes: 33, ..header };
    assert_eq!(decode(&encode(&odd, b"")), EntryError::Malformed);
    let full = EntryHeader { kind: EntryKind::Binding, ..header };
    assert_eq!(decode(&encode(&full, b"sealed")), EntryError::Malformed);
}
