//! Yamux under libp2p's stream interface, with limits that its stock wrapper does not let one set.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::{AsyncRead, AsyncWrite, ready};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use yamux::{Config, Connection, ConnectionError, Mode, Stream};

/// Streams of one connection, both directions. Twelve of ours, twelve of theirs, and some that are
/// being closed. One more ends the connection.
const STREAMS_MAX: usize = 40;
/// Bytes that a connection may have received and not consumed. Each stream starts at the 256 KiB of
/// the Yamux specification (10 MiB in all); the rest goes to streams that fill theirs within a round
/// trip: 8 MiB is 1.6 Gbit/s over 40 ms.
const RECEIVE_WINDOW_BYTES: usize = STREAMS_MAX * (256 << 10) + (8 << 20);
/// Payload of one Yamux frame: with its 12 bytes of head exactly one TLS record, and 0.13 ms at
/// 1 Gbit/s, which is how long a small answer waits behind a chunk. (64 KiB was a quarter slower.)
const FRAME_BYTES: usize = (16 << 10) - 12;

/// One multiplexed connection.
pub(crate) struct Mux<S> {
    connection: Connection<S>,
    /// Opened by the peer while nobody asked; at most [`STREAMS_MAX`], which Yamux checks.
    inbound: VecDeque<Stream>,
    inbound_waker: Option<Waker>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Mux<S> {
    pub(crate) fn new(socket: S, mode: Mode) -> Self {
        let mut config = Config::default();
        config.set_max_num_streams(STREAMS_MAX);
        config.set_max_connection_receive_window(Some(RECEIVE_WINDOW_BYTES));
        config.set_split_send_size(FRAME_BYTES);
        let connection = Connection::new(socket, config, mode);
        Self { connection, inbound: VecDeque::new(), inbound_waker: None }
    }

    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectionError>> {
        let next = ready!(self.connection.poll_next_inbound(cx));
        Poll::Ready(next.unwrap_or(Err(ConnectionError::Closed)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Mux<S> {
    type Substream = Stream;
    type Error = ConnectionError;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectionError>> {
        if let Some(stream) = self.inbound.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let polled = self.poll_connection(cx);
        if polled.is_pending() {
            self.inbound_waker = Some(cx.waker().clone());
        }
        polled
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, ConnectionError>> {
        self.connection.poll_new_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.connection.poll_close(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, ConnectionError>> {
        let stream = ready!(self.poll_connection(cx))?;
        self.inbound.push_back(stream);
        if let Some(waker) = self.inbound_waker.take() {
            waker.wake();
        }
        // Come back for what else the connection has to do, after others had their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
