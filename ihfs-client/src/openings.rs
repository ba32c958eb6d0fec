//! What an opening gave, kept in memory for as long as it is served, by this process or by an agent.

use std::collections::BTreeMap;
use std::sync::Mutex;

use ihfs_core::ids::{GrantId, Time};
use zeroize::Zeroizing;

/// Keeps opened grants in memory, never on a disk. The bytes are opaque to it.
pub trait OpeningStore: Send + Sync {
    /// What was kept for `grant`, unless its time is over.
    fn get(&self, grant: GrantId, now: Time) -> Option<Zeroizing<Vec<u8>>>;
    /// Keeps `bytes` for `grant` until then.
    fn put(&self, grant: GrantId, bytes: Zeroizing<Vec<u8>>, until: Time);
    /// Forgets `grant`.
    fn remove(&self, grant: GrantId);
}

/// Keeps them in this process.
#[derive(Default)]
pub struct InProcess(Mutex<BTreeMap<GrantId, Kept>>);

/// The bytes, and until when.
type Kept = (Zeroizing<Vec<u8>>, Time);

impl OpeningStore for InProcess {
    fn get(&self, grant: GrantId, now: Time) -> Option<Zeroizing<Vec<u8>>> {
        let held = self.0.lock().expect("no panic while it is held");
        held.get(&grant).filter(|(_, until)| *until > now).map(|(bytes, _)| bytes.clone())
    }

    fn put(&self, grant: GrantId, bytes: Zeroizing<Vec<u8>>, until: Time) {
        self.0.lock().expect("no panic while it is held").insert(grant, (bytes, until));
    }

    fn remove(&self, grant: GrantId) {
        self.0.lock().expect("no panic while it is held").remove(&grant);
    }
}
