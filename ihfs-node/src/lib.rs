//! A hospital storage node. Never links `ihfs-client`.

pub mod consensus;
pub mod ledger;
pub mod store;
