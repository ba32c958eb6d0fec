//! Every small canonical document: what decodes encodes to the same bytes.

#![no_main]

use ihfs_core::codec;
use ihfs_core::grants::Note;
use ihfs_core::ledger::identity::{DeviceKeys, Invite, MemberSealingKey};
use ihfs_core::ledger::operation::{Custodian, Operation};
use ihfs_core::members::HandleProof;
use ihfs_core::receipt::Receipt;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    check::<Custodian>(bytes);
    check::<DeviceKeys>(bytes);
    check::<HandleProof>(bytes);
    check::<MemberSealingKey>(bytes);
    check::<Note>(bytes);
    check::<Operation>(bytes);
    check::<Receipt>(bytes);
    if let Some(invite) = check::<Invite>(bytes) {
        let _ = invite.verify();
    }
});

fn check<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value = codec::decode::<T>(bytes, bytes.len()).ok()?;
    assert_eq!(codec::encode(&value), bytes);
    Some(value)
}
