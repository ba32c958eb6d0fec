//! A hospital storage node. Never links `ihfs-client`.

pub mod store;
pub mod consensus;
