//! Values of the ledger's state, items of its lists, and the names of both, as nodes hand them out.

#![no_main]

use ihfs_core::codec;
use ihfs_core::crypto::share::KeyShare;
use ihfs_core::ledger::lists::{List, ListItem, ListKey};
use ihfs_core::ledger::operation::GrantDigests;
use ihfs_core::ledger::state;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    check::<state::AttestationEntry>(bytes);
    check::<state::Clock>(bytes);
    check::<state::ConsortiumEntry>(bytes);
    check::<state::DeviceEntry>(bytes);
    check::<state::EpochEntry>(bytes);
    check::<state::ExpiryCursor>(bytes);
    check::<state::GrantEntry>(bytes);
    check::<state::GrantItem>(bytes);
    check::<state::LineageEntry>(bytes);
    check::<state::MemberEntry>(bytes);
    check::<state::MemberLists>(bytes);
    check::<state::NodeEntry>(bytes);
    check::<state::OpeningEntry>(bytes);
    check::<state::OpeningItem>(bytes);
    check::<state::ProposalEntry>(bytes);
    check::<state::ReceivedItem>(bytes);
    check::<state::RecordEntry>(bytes);
    check::<state::RecordItem>(bytes);
    check::<state::RecordLists>(bytes);
    check::<state::RememberedTransaction>(bytes);
    check::<state::SpentInvite>(bytes);
    check::<state::VersionItem>(bytes);
    check::<GrantDigests>(bytes);
    check::<KeyShare>(bytes);
    check::<List>(bytes);
    check::<ListItem>(bytes);
    check::<ListKey>(bytes);
});

fn check<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) {
    if let Ok(value) = codec::decode::<T>(bytes, bytes.len()) {
        assert_eq!(codec::encode(&value), bytes);
    }
}
