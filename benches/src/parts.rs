//! The parts one by one, each beside the least that a machine must do for the same outcome.

mod ledger;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use anyhow::Result;
use bytes::Bytes;
use ihfs_core::crypto::derive::{Role, Seed};
use ihfs_core::cut::cut;
use ihfs_core::ids::{Digest, Epoch, Generation, RecordId, Time};
use ihfs_core::sealed::{CHUNK_PLAINTEXT_MAX, Sealer};
use ihfs_node::store::{Store, StoreOptions};

use crate::measure::median_seconds;
use crate::workload::Noise;

/// Bytes that each part deals with.
const BYTES: usize = 256 << 20;
/// Chunks of them.
const CHUNKS: usize = BYTES / CHUNK_PLAINTEXT_MAX;
/// Chunks after which a store is synced, as one put of a folder of that size does.
const SYNC_EVERY: usize = 64;

/// Measures all parts and prints them.
pub fn run(rounds: usize, folder: &Path) -> Result<()> {
    println!("part | MiB/s | beside | MiB/s | ratio");
    println!("--- | --- | --- | --- | ---");
    seal_and_open(rounds);
    cutting(rounds);
    store(rounds, folder)?;
    println!();
    ledger::run(rounds)
}

/// A line of the table.
fn tell(part: &str, seconds: f64, beside: &str, beside_seconds: f64) {
    let rate = |seconds: f64| (BYTES >> 20) as f64 / seconds;
    println!(
        "{part} | {:.0} | {beside} | {:.0} | {:.2}",
        rate(seconds),
        rate(beside_seconds),
        beside_seconds / seconds
    );
}

fn sealer() -> Sealer {
    let vault = Seed::from_random([1; 32]).vault_secret(Generation(0));
    let record = RecordId::from_bytes([2; 32]);
    let key = vault.record_key(record, Epoch(0), Digest::from_bytes([3; 32]));
    Sealer::new(record, Epoch(0), &key)
}

fn seal_and_open(rounds: usize) {
    let (sealer, plaintext) = (sealer(), Noise::new(1).bytes(CHUNK_PLAINTEXT_MAX));
    let cipher = Aes256Gcm::new(&[7; 32].into());
    let mut buffer = plaintext.clone();
    let plain = median_seconds(rounds, || {
        for _ in 0..CHUNKS {
            let sealed = cipher.encrypt_inout_detached(&Nonce::default(), &[], buffer.as_mut_slice().into());
            std::hint::black_box(sealed.expect("short enough"));
        }
    });
    let sealing = median_seconds(rounds, || {
        for _ in 0..CHUNKS {
            std::hint::black_box(sealer.seal_chunk(Role::Content, &plaintext));
        }
    });
    let (piece, chunk) = sealer.seal_chunk(Role::Content, &plaintext);
    let opening = median_seconds(rounds, || {
        for _ in 0..CHUNKS {
            std::hint::black_box(chunk.open(&piece).expect("sealed just now"));
        }
    });
    let hashing = median_seconds(rounds, || {
        for _ in 0..CHUNKS {
            std::hint::black_box(blake3::hash(&plaintext));
        }
    });
    tell("seal a chunk (key, AES, address)", sealing, "AES-256-GCM alone", plain);
    tell("open a chunk", opening, "AES-256-GCM alone", plain);
    tell("BLAKE3 of a chunk", hashing, "AES-256-GCM alone", plain);
}

fn cutting(rounds: usize) {
    let bytes = Noise::new(2).bytes(BYTES);
    let reading = median_seconds(rounds, || {
        let sum = bytes.chunks(8).fold(0u64, |sum, eight| sum.wrapping_add(u64::from(eight[0])));
        std::hint::black_box(sum);
    });
    let cutting = median_seconds(rounds, || {
        let plan = cut(bytes.as_slice()).expect("memory is readable");
        std::hint::black_box(plan.pieces().count());
    });
    tell("cut a file that is no DICOM", cutting, "touching its bytes", reading);
}

fn store(rounds: usize, folder: &Path) -> Result<()> {
    let folder = folder.join("parts");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let mut noise = Noise::new(3);
    let (record, now) = (RecordId::from_bytes([1; 32]), Time(1));
    let chunk = Bytes::from(noise.bytes(CHUNK_PLAINTEXT_MAX));
    let mut round = 0;
    let mut opened = None;
    // Each chunk differs in its first bytes: another address, and no time spent on making noise.
    let chunk_of = |round: u64, number: usize| {
        let mut bytes = chunk.to_vec();
        bytes[..8].copy_from_slice(&round.to_le_bytes());
        bytes[8..16].copy_from_slice(&(number as u64).to_le_bytes());
        Bytes::from(bytes)
    };
    let plain = median_seconds(rounds, || {
        let file = File::create(folder.join("plain")).expect("a file");
        for number in 0..CHUNKS {
            let at = (number * CHUNK_PLAINTEXT_MAX) as u64;
            file.write_all_at(&chunk_of(0, number), at).expect("room");
            if (number + 1) % SYNC_EVERY == 0 {
                file.sync_data().expect("durable");
            }
        }
    });
    let mut ids = Vec::new();
    let writing = median_seconds(rounds, || {
        round += 1;
        let here = folder.join(format!("store-{round}"));
        let store = Store::open(&here, StoreOptions::default()).expect("a store");
        ids.clear();
        for number in 0..CHUNKS {
            ids.push(store.append(record, chunk_of(round, number), now).expect("room"));
            if (number + 1) % SYNC_EVERY == 0 {
                store.sync(record, &ids[number + 1 - SYNC_EVERY..], now).expect("durable");
            }
        }
        opened = Some(store);
    });
    tell("store chunks, synced, verified", writing, "one file, synced as often", plain);
    let store = opened.expect("measured at least once");
    let plain = median_seconds(rounds, || {
        let file = File::open(folder.join("plain")).expect("written above");
        let mut buffer = vec![0; CHUNK_PLAINTEXT_MAX];
        for number in 0..CHUNKS {
            file.read_exact_at(&mut buffer, (number * CHUNK_PLAINTEXT_MAX) as u64).expect("written above");
            std::hint::black_box(&buffer);
        }
    });
    let reading = median_seconds(rounds, || {
        for id in &ids {
            std::hint::black_box(store.read(record, *id).expect("stored above"));
        }
    });
    tell("read chunks, verified", reading, "one file, from the page cache", plain);
    drop(store);
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
