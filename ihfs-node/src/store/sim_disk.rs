//! A disk in memory that loses power: whatever was not synced is kept, dropped or torn, sector by sector.
//!
//! For tests. What it assumes of a real disk: a synced byte stays, a write touches no other sector, and changes of
//! names become durable in their order. Sectors of segments may hold anything after a torn write; those of
//! databases are either old or new, which is what redb asks for.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::{DatabaseError, StorageBackend};

use super::disk::{BLOCK_BYTES, Disk, DiskFile};
use super::index::IndexFile;
use super::lock;

const SECTOR_BYTES: usize = 512;

/// The disk; clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
    /// While true, syncs of segments wait.
    held: Arc<(Mutex<bool>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, Arc<Mutex<Content>>>,
    durable_names: BTreeMap<String, Arc<Mutex<Content>>>,
    /// States of `names` after each change since the last sync.
    unsynced_names: Vec<BTreeMap<String, Arc<Mutex<Content>>>>,
    /// Write points passed.
    points: u64,
    cut_at: Option<u64>,
    fail_next_sync: bool,
    capacity: u64,
    segment_syncs: u64,
    waiting_syncs: u64,
    index_syncs: u64,
    keys: u8,
}

#[derive(Debug, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl SimDisk {
    pub(crate) fn new() -> Self {
        let state = State { capacity: u64::MAX, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), held: Arc::default() }
    }

    /// The power goes away at this write point, counted from now.
    pub(crate) fn cut_after(&self, points: u64) {
        let mut state = lock(&self.state);
        state.cut_at = Some(state.points + points);
    }

    pub(crate) fn was_cut(&self) -> bool {
        let state = lock(&self.state);
        state.cut_at.is_some_and(|cut| state.points >= cut)
    }

    pub(super) fn set_capacity(&self, bytes: u64) {
        lock(&self.state).capacity = bytes;
    }

    pub(super) fn used_bytes(&self) -> u64 {
        lock(&self.state).used()
    }

    pub(super) fn fail_next_segment_sync(&self) {
        lock(&self.state).fail_next_sync = true;
    }

    /// Syncs of segments and of the index so far.
    pub(super) fn syncs(&self) -> (u64, u64) {
        let state = lock(&self.state);
        (state.segment_syncs, state.index_syncs)
    }

    pub(super) fn hold_syncs(&self, hold: bool) {
        *lock(&self.held.0) = hold;
        self.held.1.notify_all();
    }

    /// Syncs of segments that are being held.
    pub(super) fn waiting_syncs(&self) -> u64 {
        lock(&self.state).waiting_syncs
    }

    pub(super) fn names(&self) -> Vec<String> {
        lock(&self.state).names.keys().cloned().collect()
    }

    /// Changes the bytes of a file behind everyone's back.
    pub(super) fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let content = lock(&self.state).names[name].clone();
        let mut content = lock(&content);
        change(&mut content.live);
        content.durable = content.live.clone();
        content.unsynced.clear();
    }

    /// The disk as it is found when power comes back.
    pub(crate) fn after_power_cut(&self, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let state = lock(&self.state);
        let kept = random.random_range(0..=state.unsynced_names.len());
        let names = if kept == 0 { &state.durable_names } else { &state.unsynced_names[kept - 1] };
        let mut found = State { capacity: state.capacity, keys: state.keys, ..State::default() };
        for (name, content) in names {
            let bytes = lock(content).after_power_cut(&mut random, name.ends_with(".segment"));
            let content = Content { live: bytes.clone(), durable: bytes, unsynced: Vec::new() };
            found.names.insert(name.clone(), Arc::new(Mutex::new(content)));
        }
        found.durable_names = found.names.clone();
        Self { state: Arc::new(Mutex::new(found)), held: Arc::default() }
    }

    /// A file as redb sees it, made durably under its name when it is absent.
    pub(crate) fn database(&self, name: &str) -> Result<impl StorageBackend + use<>, DatabaseError> {
        let file = self.open(name, true)?;
        self.sync_names()?;
        Ok(IndexFile(file))
    }

    fn file(&self, name: &str, content: &Arc<Mutex<Content>>) -> Arc<dyn DiskFile> {
        let direct = false;
        Arc::new(SimFile { disk: self.clone(), content: content.clone(), name: name.to_owned(), direct })
    }
}

impl State {
    /// Counts a write point; an error once the power is gone. The cut itself hits in the middle of the write.
    fn pass(&mut self) -> io::Result<bool> {
        if self.cut_at.is_some_and(|cut| self.points >= cut) {
            return Err(power_cut());
        }
        self.points += 1;
        Ok(self.cut_at == Some(self.points))
    }

    fn used(&self) -> u64 {
        self.names.values().map(|content| lock(content).live.len() as u64).sum()
    }

    fn room_for(&self, more: usize) -> io::Result<()> {
        if self.used() + more as u64 > self.capacity {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    fn change_names(
        &mut self,
        change: impl FnOnce(&mut BTreeMap<String, Arc<Mutex<Content>>>),
    ) -> io::Result<()> {
        let cut = self.pass()?;
        change(&mut self.names);
        self.unsynced_names.push(self.names.clone());
        if cut { Err(power_cut()) } else { Ok(()) }
    }

    fn powered(&self) -> io::Result<()> {
        match self.cut_at {
            Some(cut) if self.points >= cut => Err(power_cut()),
            _ => Ok(()),
        }
    }
}

fn power_cut() -> io::Error {
    io::Error::other("the power is gone")
}

impl Content {
    fn apply(&mut self, change: Change) {
        apply(&mut self.live, &change);
        self.unsynced.push(change);
    }

    fn after_power_cut(&self, random: &mut StdRng, garbage: bool) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for change in &self.unsynced {
            match change {
                Change::Length(_) if random.random_bool(0.5) => apply(&mut bytes, change),
                Change::Length(_) => {}
                Change::Write(offset, written) => tear(&mut bytes, *offset, written, random, garbage),
            }
        }
        bytes
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(len) => bytes.resize(*len, 0),
        Change::Write(offset, written) => {
            bytes.resize(bytes.len().max(offset + written.len()), 0);
            bytes[*offset..offset + written.len()].copy_from_slice(written);
        }
    }
}

/// Each sector of a write arrives or not; in a segment it may also be ruined.
fn tear(bytes: &mut Vec<u8>, offset: usize, written: &[u8], random: &mut StdRng, garbage: bool) {
    let mut at = 0;
    let arrives = random.random_range(0..=4u8);
    while at < written.len() {
        let sector_end = (offset + at) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES - offset;
        let end = sector_end.min(written.len());
        let mut sector = written[at..end].to_vec();
        if random.random_range(0..4u8) < arrives {
            if garbage && arrives < 4 && random.random_bool(0.1) {
                random.fill(&mut sector[..]);
            }
            apply(bytes, &Change::Write(offset + at, sector));
        }
        at = end;
    }
}

impl Disk for SimDisk {
    fn create_preallocated(&self, name: &str, size_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = lock(&self.state);
        state.room_for(size_bytes as usize)?;
        if state.names.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let content: Arc<Mutex<Content>> = Arc::default();
        lock(&content).apply(Change::Length(size_bytes as usize));
        let inserted = content.clone();
        state.change_names(|names| drop(names.insert(name.to_owned(), inserted)))?;
        Ok(Arc::new(SimFile { disk: self.clone(), content, name: name.to_owned(), direct: true }))
    }

    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = lock(&self.state);
        state.powered()?;
        if let Some(content) = state.names.get(name).cloned() {
            return Ok(self.file(name, &content));
        }
        if !create {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let content: Arc<Mutex<Content>> = Arc::default();
        let inserted = content.clone();
        state.change_names(|names| drop(names.insert(name.to_owned(), inserted)))?;
        Ok(self.file(name, &content))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        lock(&self.state).powered()?;
        Ok(self.names())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = lock(&self.state);
        let content = state.names.get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
        state.change_names(|names| {
            names.remove(from);
            names.insert(to.to_owned(), content);
        })
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let mut state = lock(&self.state);
        if !state.names.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        state.change_names(|names| drop(names.remove(name)))
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        if state.pass()? {
            return Err(power_cut());
        }
        state.durable_names = state.names.clone();
        state.unsynced_names.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = lock(&self.state);
        Ok(state.capacity.saturating_sub(state.used()))
    }

    fn random_key(&self) -> [u8; 32] {
        let mut state = lock(&self.state);
        state.keys = state.keys.wrapping_add(1);
        [state.keys; 32]
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    content: Arc<Mutex<Content>>,
    name: String,
    /// Refuses writes that are not aligned.
    direct: bool,
}

impl SimFile {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = lock(&self.disk.state);
        let cut = state.pass()?;
        let len = lock(&self.content).live.len();
        let wanted = match &change {
            Change::Length(len) => *len,
            Change::Write(offset, bytes) => offset + bytes.len(),
        };
        if wanted > len {
            state.room_for(wanted - len)?;
        }
        lock(&self.content).apply(change);
        if cut { Err(power_cut()) } else { Ok(()) }
    }

    fn is_segment(&self) -> bool {
        self.name.ends_with(".segment")
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.content).live.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        lock(&self.disk.state).powered()?;
        let content = lock(&self.content);
        let from = offset as usize;
        let bytes = content.live.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let aligned = [offset as usize, bytes.len(), bytes.as_ptr() as usize];
        assert!(!self.direct || aligned.iter().all(|number| number % BLOCK_BYTES == 0), "an unaligned write");
        self.change(Change::Write(offset as usize, bytes.to_vec()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Length(len as usize))
    }

    fn sync(&self) -> io::Result<()> {
        if self.is_segment() {
            let mut held = lock(&self.disk.held.0);
            while *held {
                lock(&self.disk.state).waiting_syncs += 1;
                held = self.disk.held.1.wait(held).expect("no test panics while it holds");
            }
        }
        let mut state = lock(&self.disk.state);
        if state.pass()? {
            return Err(power_cut());
        }
        if self.is_segment() && std::mem::take(&mut state.fail_next_sync) {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
        }
        *(if self.is_segment() { &mut state.segment_syncs } else { &mut state.index_syncs }) += 1;
        let mut content = lock(&self.content);
        content.durable = content.live.clone();
        content.unsynced.clear();
        Ok(())
    }
}
