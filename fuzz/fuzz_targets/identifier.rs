//! Identifiers, handles, names and paths as people and peers write them.

#![no_main]

use ihfs_core::ids::{ChunkId, MemberId};
use ihfs_core::members::Handle;
use ihfs_core::tree::name::{Name, parse_path, path_bytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = MemberId::try_from(bytes);
    if let Ok(id) =
        cid::Cid::try_from(bytes).map_err(|_| ()).and_then(|cid| ChunkId::from_cid(&cid).map_err(|_| ()))
    {
        assert_eq!(ChunkId::from_cid(&id.to_cid()), Ok(id));
    }
    if let Ok(name) = Name::new(bytes) {
        assert_eq!(name.as_bytes(), bytes);
    }
    if let Ok(names) = parse_path(bytes) {
        assert_eq!(parse_path(&path_bytes(&names)), Ok(names));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = (text.parse::<MemberId>(), Handle::parse(text).map(|handle| handle.hospital().len()));
    }
});
