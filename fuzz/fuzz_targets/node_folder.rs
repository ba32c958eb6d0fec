//! Files of a node's folder that people write or copy: `node.toml` and `node.json`.

#![no_main]

use ihfs_node::config::Config;
use ihfs_node::run::folder::NodeFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(config) = toml::from_str::<Config>(text) {
        let again = toml::to_string(&config).expect("text and numbers");
        assert_eq!(toml::from_str::<Config>(&again).as_ref(), Ok(&config));
        let _ = config.store.options();
    }
    if let Ok(node) = serde_json::from_str::<NodeFile>(text) {
        let again = serde_json::to_string(&node).expect("text and numbers");
        assert_eq!(serde_json::from_str::<NodeFile>(&again).expect("its own"), node);
    }
});
