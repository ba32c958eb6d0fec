//! Peers that stall, fall silent or leave answers owing, on one stream in virtual time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::io::{AsyncRead as _, AsyncWrite as _, DuplexStream, ReadBuf};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::frame::{FrameError, HEAD_BYTES, Head, Kind, Refusal};
use crate::gate::Gate;
use crate::incoming::{Budget, ReplyError};
use crate::lane::{self, Lane, LaneError};
use crate::serve::{self, Serving};
use crate::wire::{self, StreamEnd};
use crate::{Admission, Conversation, Incoming, Limits, Message, PeerKey};

const CONVERSATION: Conversation = Conversation::Key;

/// One end of a stream in memory.
struct Pipe(DuplexStream);

fn pipe(buffer_bytes: usize) -> (Pipe, Pipe) {
    let (near, far) = tokio::io::duplex(buffer_bytes);
    (Pipe(near), Pipe(far))
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(bytes);
        let polled = Pin::new(&mut self.0).poll_read(cx, &mut buffer);
        polled.map_ok(|()| buffer.filled().len())
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

fn run_lane(stream: Pipe, places: usize) -> (Lane, JoinHandle<StreamEnd>) {
    let (lane, asked) = Lane::new(places);
    (lane, tokio::spawn(lane::run(stream, CONVERSATION, asked)))
}

/// A serving end whose requests and answers may hold this many bytes.
fn run_server(stream: Pipe, bytes: usize) -> (Incoming, JoinHandle<StreamEnd>) {
    let gate = Gate::new(&Limits::default());
    gate.set_policy(Arc::new(|_| Admission::Member));
    let (incoming, requests) = mpsc::channel(100);
    let budget = || Budget::new(Arc::new(Semaphore::new(bytes)), bytes);
    let serving = Serving {
        peer: PeerKey::from_bytes([1; 32]),
        gate: Arc::new(gate),
        incoming,
        requests: budget(),
        answers: budget(),
        in_flight_max: 64,
    };
    (Incoming::new(requests), tokio::spawn(serve::run(stream, CONVERSATION, serving)))
}

fn message(body: usize) -> Message {
    Message { header: b"?"[..].into(), body: vec![7; body].into() }
}

fn is_between(seconds: std::ops::Range<u64>, time: Duration) -> bool {
    seconds.contains(&time.as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_that_owes_an_answer_is_given_up_within_40_seconds() {
    let (near, _far) = pipe(1 << 20);
    let (lane, end) = run_lane(near, 4);
    let start = Instant::now();
    assert!(matches!(lane.ask(message(10)).await, Err(LaneError::Lost)));
    assert!(is_between(30..40, start.elapsed()), "{:?}", start.elapsed());
    assert!(matches!(end.await.unwrap(), StreamEnd::Silent));
    assert!(matches!(lane.ask(message(10)).await, Err(LaneError::NotSent)));
}

#[tokio::test(start_paused = true)]
async fn a_slow_peer_that_answers_pings_is_waited_for() {
    let (near, far) = pipe(1 << 20);
    let (lane, _end) = run_lane(near, 4);
    let (mut incoming, _served) = run_server(far, 1 << 20);
    let (answer, ()) = tokio::join!(lane.ask(message(10)), async {
        let request = incoming.next().await.unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        request.reply.send(message(20)).await.unwrap();
    });
    assert_eq!(answer.unwrap(), message(20));
}

#[tokio::test(start_paused = true)]
async fn an_idle_lane_closes_itself_and_its_serving_end() {
    let (near, far) = pipe(1 << 20);
    let (lane, end) = run_lane(near, 4);
    let (_incoming, served) = run_server(far, 1 << 20);
    let start = Instant::now();
    assert!(matches!(end.await.unwrap(), StreamEnd::Finished));
    assert!(is_between(120..130, start.elapsed()), "{:?}", start.elapsed());
    assert!(matches!(served.await.unwrap(), StreamEnd::Finished));
    assert!(lane.is_closed());
}

#[tokio::test(start_paused = true)]
async fn an_answer_owed_to_nobody_does_not_hold_its_place_for_ever() {
    let (near, far) = pipe(1 << 20);
    let (lane, end) = run_lane(near, 1);
    let (mut incoming, _served) = run_server(far, 1 << 20);
    let asked = tokio::time::timeout(Duration::from_secs(1), lane.ask(message(10)));
    assert!(asked.await.is_err());
    let _never_answered = incoming.next().await.unwrap();
    assert!(matches!(end.await.unwrap(), StreamEnd::Finished));
}

#[tokio::test(start_paused = true)]
async fn half_a_frame_is_waited_for_one_minute() {
    let (mut near, far) = pipe(1 << 20);
    let (_incoming, served) = run_server(far, 1 << 20);
    let start = Instant::now();
    let head = Head::carrying(Kind::Request, CONVERSATION, 1, &message(1000));
    near.write_all(&head.encode()).await.unwrap();
    near.write_all(b"half").await.unwrap();
    assert!(matches!(served.await.unwrap(), StreamEnd::Stalled));
    assert_eq!(start.elapsed(), Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_bytes_is_given_up() {
    let (mut near, _far) = pipe(1000);
    let start = Instant::now();
    let head = Head::carrying(Kind::Answer, CONVERSATION, 1, &message(100_000));
    let end = wire::write_frame(&mut near, &head, &message(100_000)).await;
    assert!(matches!(end, Err(StreamEnd::Stalled)));
    assert_eq!(start.elapsed(), Duration::from_secs(45));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_finds_no_memory_is_told_that_the_peer_is_busy() {
    let (near, far) = pipe(1 << 20);
    let (lane, _end) = run_lane(near, 4);
    let (mut incoming, _served) = run_server(far, 1000);
    let ((first, second), ()) =
        tokio::join!(async { tokio::join!(lane.ask(message(900)), lane.ask(message(900))) }, async {
            let holding = incoming.next().await.unwrap();
            tokio::time::sleep(Duration::from_secs(20)).await;
            holding.reply.send(message(1)).await.unwrap();
        });
    assert_eq!(first.unwrap(), message(1));
    assert!(matches!(second, Err(LaneError::Refused(Refusal::Busy))));
}

#[tokio::test(start_paused = true)]
async fn answers_wait_for_memory_that_a_slow_reader_holds_and_end_with_it() {
    let (mut near, far) = pipe(100);
    let (mut incoming, served) = run_server(far, 1000);
    for id in [1, 2] {
        let head = Head::bare(Kind::Request, CONVERSATION, id);
        near.write_all(&head.encode()).await.unwrap();
    }
    let (first, second) = (incoming.next().await.unwrap(), incoming.next().await.unwrap());
    assert_eq!(first.reply.send(message(900)).await, Ok(()));
    let start = Instant::now();
    assert_eq!(second.reply.send(message(900)).await, Err(ReplyError::Gone));
    assert_eq!(start.elapsed(), Duration::from_secs(45));
    assert!(matches!(served.await.unwrap(), StreamEnd::Stalled));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_asked_for_ends_the_lane_before_its_body_is_read() {
    let (near, mut far) = pipe(1 << 20);
    let (_lane, end) = run_lane(near, 4);
    let head = Head::carrying(Kind::Answer, CONVERSATION, 5, &message(1000));
    far.write_all(&head.encode()).await.unwrap();
    let end = end.await.unwrap();
    assert!(matches!(end, StreamEnd::Violation(FrameError::UnknownRequest { id: 5 })), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pings_without_reading_is_not_buffered() {
    let (mut near, far) = pipe(64 << 10);
    let (_incoming, served) = run_server(far, 1000);
    let ping = Head::bare(Kind::Ping, CONVERSATION, 0).encode();
    let mut sent = 0;
    while near.write_all(&ping).await.is_ok() {
        sent += HEAD_BYTES;
    }
    assert!(sent < 200 << 10, "{sent} bytes were taken in");
    assert!(matches!(served.await.unwrap(), StreamEnd::Stalled));
    let mut rest = Vec::new();
    near.read_to_end(&mut rest).await.unwrap();
}
