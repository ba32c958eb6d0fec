//! The block ledger's rules: pure and deterministic, run alike by nodes, clients and tests.

pub mod block;
pub mod certificate;
