//! The only place where secrets are opened: keys, sealing, envelopes, shares, signatures.
//!
//! Standard constructions from vetted crates; every derivation is in [`mod@derive`].

pub mod derive;
pub mod envelope;
pub mod journal;
pub mod keyring;
pub mod seal;
pub mod secret;
pub mod share;
pub mod sign;
