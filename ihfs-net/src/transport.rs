//! From a TCP socket to a multiplexed connection with a known peer.
//!
//! TCP (no delay) → TLS 1.3 → Yamux, one after the other and without negotiation between them: the
//! version of the whole stack is in the TLS handshake (ALPN), which saves two round trips.

use std::io;
use std::time::Duration;

use futures::io::{BufReader, BufWriter};
use libp2p::core::ConnectedPoint;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::multiaddr::Protocol;
use libp2p::{PeerId, Transport, tcp};
use yamux::Mode;

use crate::mux::Mux;
use crate::peer::PeerKey;
use crate::tls::Tls;

/// Dial and handshake together: a few round trips and 3 ms of arithmetic, on a bad line.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// rustls reads 4 KiB at a time; behind a buffer that is no system call.
const READ_BUFFER_BYTES: usize = 64 << 10;
/// Yamux writes head and payload apart; behind a buffer they leave as one TLS record and one call.
const WRITE_BUFFER_BYTES: usize = 32 << 10;

/// The transport of this identity.
pub(crate) fn build(tls: Tls) -> Boxed<(PeerId, StreamMuxerBox)> {
    let transport = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .and_then(move |socket, point| async move { secure(tls, socket, point).await.map_err(NotSecured) });
    TransportTimeout::new(transport, HANDSHAKE_TIME_MAX).boxed()
}

async fn secure<S>(
    tls: Tls,
    socket: S,
    point: ConnectedPoint,
) -> Result<(PeerId, StreamMuxerBox), SecureError>
where
    S: futures::AsyncRead + futures::AsyncWrite + Send + Unpin + 'static,
{
    let socket = BufReader::with_capacity(READ_BUFFER_BYTES, socket);
    let (peer, stream, mode) = match &point {
        ConnectedPoint::Listener { .. } => {
            let (peer, stream) = tls.accept(socket).await?;
            (peer, stream, Mode::Server)
        }
        ConnectedPoint::Dialer { address, .. } => {
            let (peer, stream) = tls.connect(socket).await?;
            match address.iter().last() {
                Some(Protocol::P2p(expected)) if expected != peer.to_peer_id() => {
                    return Err(SecureError::WrongPeer { found: peer });
                }
                _ => (peer, stream, Mode::Client),
            }
        }
    };
    let stream = BufWriter::with_capacity(WRITE_BUFFER_BYTES, stream);
    Ok((peer.to_peer_id(), StreamMuxerBox::new(Mux::new(stream, mode))))
}

/// The step that failed. Wraps its cause, because the libp2p types around it show only the source
/// of what they hold.
#[derive(Debug, thiserror::Error)]
#[error("the connection could not be secured")]
struct NotSecured(#[source] SecureError);

/// Why a socket did not become a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecureError {
    /// The handshake failed.
    #[error("the TLS handshake failed")]
    Handshake(#[from] io::Error),
    /// Somebody else answered.
    #[error("another peer answered: {found}")]
    WrongPeer { found: PeerKey },
}

impl SecureError {
    /// The wrong peer among the causes of a failed dial, if that was it.
    pub(crate) fn wrong_peer(error: &(dyn std::error::Error + 'static)) -> Option<PeerKey> {
        if let Some(Self::WrongPeer { found }) = error.downcast_ref() {
            return Some(*found);
        }
        // An io::Error does not show what it wraps as its source.
        let wrapped = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        match wrapped {
            Some(inner) => Self::wrong_peer(inner),
            None => error.source().and_then(Self::wrong_peer),
        }
    }
}
