//! How long work tells what it does.

/// Hears of progress. Called from several threads.
pub trait Progress: Send + Sync {
    /// What is to be done, as far as it is known.
    fn total(&self, _bytes: u64, _files: u64) {}
    /// Bytes that were dealt with.
    fn advance(&self, _bytes: u64) {}

    /// All is done once more from the beginning: another device was faster.
    fn restart(&self) {}
    /// The next file, as its path in IHFS.
    fn file(&self, _path: &str) {}
    /// The next step: "reading", "waiting for the ledger".
    fn phase(&self, _phase: &'static str) {}
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
