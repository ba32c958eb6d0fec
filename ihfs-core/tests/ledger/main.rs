//! The ledger's rules through a ledger in memory: every rule by name, and a model beside it.

mod consortium;
mod formats;
mod grants;
mod members;
mod model;
mod proofs;
mod records;
mod transactions;
mod world;
