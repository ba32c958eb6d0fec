//! Locations as people type them: what is shown of one leads back to it.

#![no_main]

use ihfs_client::location::Location;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(location) = Location::parse(bytes) else { return };
    let shown = location.to_string();
    // Bytes that are no text are shown as marks, and lead elsewhere.
    if !shown.contains(char::REPLACEMENT_CHARACTER) {
        assert_eq!(Location::parse(shown.as_bytes()), Ok(location));
    }
});
