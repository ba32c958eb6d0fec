//! A hospital storage node. Never links `ihfs-client`.

pub mod consensus;
pub mod custody;
pub mod keys;
pub mod ledger;
pub mod pins;
pub mod serve;
pub mod store;
