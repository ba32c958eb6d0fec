//! Files of a person's folder: `network.json`, and what was last verified of the ledger.

#![no_main]

use ihfs_client::home::NetworkFile;
use ihfs_client::view::Trust;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(network) = serde_json::from_slice::<NetworkFile>(bytes) {
        let _ = network.parse();
    }
    if let Ok(trust) = Trust::from_bytes(bytes) {
        assert_eq!(trust.to_bytes(), bytes);
    }
});
