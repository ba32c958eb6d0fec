//! Opaque requests and answers between peers, over libp2p or an in-memory twin.
//!
//! The only crate that names libp2p. It knows who the other side is (an Ed25519 key) and which
//! conversation a message belongs to; it knows nothing of what a message means.
//!
//! From a request downward: [`Network`] finds or opens the lane of a peer and conversation
//! (`switchboard`), the lane writes frames ([`frame`]) onto one long-lived Yamux stream (`mux`) of a
//! TLS 1.3 connection (`tls`); the peer's `serve` checks its `gate` and hands a [`Request`] to
//! whoever reads [`Incoming`]. [`Twin`] stands in for all of that in tests.

mod behaviour;
pub mod frame;
mod gate;
mod handler;
#[cfg(test)]
mod hostile;
mod incoming;
mod lane;
mod limits;
mod message;
mod mux;
mod network;
mod peer;
mod serve;
#[cfg(test)]
mod stalling;
mod switchboard;
mod tls;
mod transport;
mod twin;
mod wire;

pub use gate::{Admission, GUEST_MESSAGE_BYTES_MAX};
pub use incoming::{Incoming, Reply, ReplyError, Request};
pub use limits::Limits;
pub use message::{BODY_BYTES_MAX, Conversation, HEADER_BYTES_MAX, Message};
pub use network::{AddressError, Network, RequestError, StartError};
pub use peer::{Identity, PeerKey};
pub use tls::TlsSetupError;
pub use twin::{Traffic, Twin};
