//! Validator sets and certificates, and their check against a set that was sent along.

#![no_main]

use ihfs_core::codec;
use ihfs_core::ids::ChainId;
use ihfs_core::ledger::certificate::{CERTIFICATE_BYTES_MAX, Certificate, ValidatorSet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(set) = codec::decode::<ValidatorSet>(bytes, CERTIFICATE_BYTES_MAX) else {
        return check(bytes, None);
    };
    assert!(set.is_quorum(set.total_power()));
    check(bytes, Some(&set));
});

fn check(bytes: &[u8], set: Option<&ValidatorSet>) {
    let own = ValidatorSet::new(vec![ihfs_core::ledger::certificate::Validator {
        node: ihfs_core::ids::NodeId::from_bytes([1; 32]),
        power: 1,
    }])
    .expect("one validator");
    if let Ok(certificate) = codec::decode::<Certificate>(bytes, CERTIFICATE_BYTES_MAX) {
        let refused = certificate.verify(ChainId::from_bytes([2; 32]), set.unwrap_or(&own));
        assert!(refused.is_err(), "nobody signed for this chain");
    }
}
