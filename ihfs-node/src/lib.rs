//! A hospital storage node. Never links `ihfs-client`.
//!
//! [`run::start`] is the composition root; [`admin`] founds nodes and writes invites; the rest are the parts.

pub mod admin;
pub mod config;
pub mod consensus;
pub mod custody;
mod database;
pub mod keys;
pub mod ledger;
pub mod pins;
pub mod run;
pub mod serve;
pub mod store;
