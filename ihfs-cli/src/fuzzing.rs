//! What the fuzz targets call: the decoders of what people type and of what comes over the agent's socket.

use ihfs_core::ids::Time;

use crate::agent::message;
use crate::sheet::Sheet;
use crate::until::{Until, show_time};

/// Reads a recovery sheet; what is read must be written so that it reads the same.
pub fn sheet(text: &str) {
    let Ok(sheet) = Sheet::parse(text) else { return };
    let again = Sheet::parse(&sheet.to_text()).expect("a sheet of its own");
    assert_eq!(again.seed.to_words(), sheet.seed.to_words());
    assert_eq!((again.chain, again.nodes), (sheet.chain, sheet.nodes));
}

/// Reads a moment or a span.
pub fn until(text: &str) {
    if let Ok(until) = text.parse::<Until>() {
        let _ = until.from(Time(u64::MAX));
    }
}

/// Shows a moment of the ledger.
pub fn moment(milliseconds: u64) {
    assert!(show_time(Time(milliseconds)).ends_with(" UTC"));
}

/// Receives a message of the agent's socket, on either side.
pub fn agent(bytes: &[u8]) {
    message::receive_all(bytes);
}
