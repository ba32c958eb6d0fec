//! The block ledger's rules: pure and deterministic, run alike by nodes, clients and tests.
//!
//! A transaction is decoded ([`transaction`], [`operation`]), applied to the state ([`rules`],
//! [`state`]), and what it wrote is committed to by the root of an authenticated tree ([`proof`]).

pub mod block;
pub mod certificate;
pub mod execute;
pub mod genesis;
pub mod identity;
pub mod lists;
pub mod memory;
pub mod news;
pub mod operation;
pub mod proof;
pub mod rules;
pub mod state;
pub mod transaction;
