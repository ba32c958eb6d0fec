//! What an opening gave, kept in memory for as long as it is served, by this process or by an agent.

use std::collections::BTreeMap;
use std::sync::Mutex;

use ihfs_core::ids::{Digest, GrantId, Time};
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

/// What is kept of a grant beside its key, under an id of its own: a store holds one thing for each id.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Beside {
    /// The owner's note, which never changes.
    Note,
    /// An opening that named it together with others, and from which no key was released yet.
    Opening,
}

impl Beside {
    /// The id that the store knows it by: `BLAKE3(label ‖ grant id)`.
    pub(crate) fn id(self, grant: GrantId) -> GrantId {
        let label: &[u8] = match self {
            Self::Note => b"note",
            Self::Opening => b"opening",
        };
        GrantId::from_bytes(*Digest::of(&[label, grant.as_bytes()].concat()).as_bytes())
    }
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
