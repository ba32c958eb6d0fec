//! IHFS core: the rules and formats that every party runs alike.
//!
//! Pure by construction: no I/O, no async, no clock, no randomness of its own. Time, random bytes and
//! stored bytes are arguments. `clippy.toml` in this folder bans the standard ways around that.

pub mod codec;
pub mod crypto;
pub mod cut;
pub mod dicom;
pub mod grants;
pub mod ids;
pub mod invitation;
pub mod ledger;
pub mod members;
pub mod merge;
pub mod pins;
pub mod placement;
pub mod receipt;
pub mod sealed;
pub mod tree;
pub mod words;
