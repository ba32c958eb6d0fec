//! What people do: put, get, share, revoke, and what carries it. Sees plaintext; never linked by a node.
//!
//! Plain blocking code: [`link`] is the one place that waits for the network. From the bottom up: [`link`] asks
//! nodes, [`view`] believes the ledger by proof, [`fetch`] and [`upload`] move sealed chunks.

pub mod audit;
pub mod book;
pub mod call;
pub mod change;
pub mod changes;
pub mod client;
mod copying;
pub mod devices;
pub mod edit;
pub mod fetch;
pub mod get;
pub mod held;
pub mod history;
pub mod home;
pub mod issue;
pub mod join;
pub mod link;
pub mod list;
pub mod location;
pub mod merging;
mod nesting;
mod old;
pub mod openings;
pub mod progress;
pub mod put;
pub mod received;
pub mod record;
pub mod resolve;
mod retry;
pub mod revoke;
pub mod share;
pub mod snapshot;
pub mod submit;
pub mod upload;
pub mod view;
pub mod writing;
