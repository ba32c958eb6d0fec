//! Frames on a stream, with a deadline on every wait.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::frame::{FrameError, HEAD_BYTES, Head};
use crate::message::{Conversation, Message};

/// From the first byte of a frame to its last. 60 s: 1.1 MiB at 19 KB/s; slower peers hold memory
/// that others need.
const FRAME_TIME_MAX: Duration = Duration::from_secs(60);
/// Without a byte taken by the other side. Longer than a serving peer may wait for memory and queue.
const WRITE_STALL_MAX: Duration = Duration::from_secs(45);
/// Bodies up to this size are copied behind their header to leave in one write; longer ones are not copied.
const COPIED_BODY_BYTES: usize = 16 << 10;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamEnd {
    /// Closed between two frames, by either side, with nothing left to do.
    #[error("closed")]
    Finished,
    /// The connection failed or ended inside a frame.
    #[error("the connection failed")]
    Failed(#[from] io::Error),
    /// The peer broke the protocol.
    #[error("the peer broke the protocol")]
    Violation(#[from] FrameError),
    /// A frame took longer than [`FRAME_TIME_MAX`], or nothing was taken for [`WRITE_STALL_MAX`].
    #[error("the peer stalled")]
    Stalled,
    /// The peer owes answers, and nothing is heard from it.
    #[error("the peer fell silent")]
    Silent,
}

impl StreamEnd {
    /// Whether the whole connection is of no more use.
    pub(crate) fn cuts_connection(&self) -> bool {
        matches!(self, Self::Violation(_) | Self::Stalled | Self::Silent)
    }
}

/// Reads the next head; `None` at a clean end of the stream. Waits for the first byte as long as it takes.
pub(crate) async fn read_head<R: AsyncRead + Unpin>(
    reader: &mut R,
    conversation: Conversation,
) -> Result<Option<Head>, StreamEnd> {
    let mut bytes = [0; HEAD_BYTES];
    let first = reader.read(&mut bytes).await?;
    if first == 0 {
        return Ok(None);
    }
    within_frame_time(reader.read_exact(&mut bytes[first..])).await?;
    Ok(Some(Head::decode(&bytes, conversation)?))
}

/// Reads the message that follows a head, whose lengths were checked when it was decoded.
pub(crate) async fn read_message<R: AsyncRead + Unpin>(
    reader: &mut R,
    head: &Head,
) -> Result<Message, StreamEnd> {
    let mut header = BytesMut::zeroed(head.header_bytes as usize);
    let mut body = BytesMut::zeroed(head.body_bytes as usize);
    within_frame_time(async {
        reader.read_exact(&mut header).await?;
        reader.read_exact(&mut body).await
    })
    .await?;
    Ok(Message { header: header.freeze(), body: body.freeze() })
}

/// Reads past the message that follows a head, in little memory.
pub(crate) async fn skip_message<R: AsyncRead + Unpin>(reader: &mut R, head: &Head) -> Result<(), StreamEnd> {
    within_frame_time(async {
        let mut left = head.message_bytes();
        let mut scratch = [0; 4096];
        while left > 0 {
            let part = left.min(scratch.len());
            reader.read_exact(&mut scratch[..part]).await?;
            left -= part;
        }
        Ok(())
    })
    .await
}

async fn within_frame_time<T>(read: impl Future<Output = io::Result<T>>) -> Result<T, StreamEnd> {
    Ok(timeout(FRAME_TIME_MAX, read).await.map_err(|_| StreamEnd::Stalled)??)
}

/// Writes a frame; [`flush`] sends what is still buffered.
pub(crate) async fn write_frame<W: AsyncWrite + Unpin>(
    writer: &mut W,
    head: &Head,
    message: &Message,
) -> Result<(), StreamEnd> {
    let copied = if message.body.len() <= COPIED_BODY_BYTES { message.body.clone() } else { Bytes::new() };
    let mut front = BytesMut::with_capacity(HEAD_BYTES + message.header.len() + copied.len());
    front.extend_from_slice(&head.encode());
    front.extend_from_slice(&message.header);
    front.extend_from_slice(&copied);
    write_all(writer, &front).await?;
    if copied.len() < message.body.len() {
        write_all(writer, &message.body).await?;
    }
    Ok(())
}

async fn write_all<W: AsyncWrite + Unpin>(writer: &mut W, mut bytes: &[u8]) -> Result<(), StreamEnd> {
    while !bytes.is_empty() {
        let written =
            timeout(WRITE_STALL_MAX, writer.write(bytes)).await.map_err(|_| StreamEnd::Stalled)??;
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Sends what is still buffered.
pub(crate) async fn flush<W: AsyncWrite + Unpin>(writer: &mut W) -> Result<(), StreamEnd> {
    Ok(timeout(WRITE_STALL_MAX, writer.flush()).await.map_err(|_| StreamEnd::Stalled)??)
}

/// When something was last heard on a stream; shared by its reading and writing half.
#[derive(Clone)]
pub(crate) struct LastHeard(Arc<Mutex<Instant>>);

impl LastHeard {
    pub(crate) fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(crate) fn stamp(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// A reader that stamps every arrival of bytes.
pub(crate) struct Listening<R> {
    pub(crate) reader: R,
    pub(crate) heard: LastHeard,
}

impl<R: AsyncRead + Unpin> AsyncRead for Listening<R> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut [u8],
    ) -> std::task::Poll<io::Result<usize>> {
        let polled = std::pin::Pin::new(&mut self.reader).poll_read(cx, buffer);
        if polled.is_ready() {
            self.heard.stamp();
        }
        polled
    }
}
