//! The asking side of one stream: many requests in flight, answers in any order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use crate::frame::{FrameError, Head, Kind, Refusal};
use crate::message::{Conversation, Message};
use crate::wire::{self, LastHeard, Listening, StreamEnd};

/// A stream on which nothing was asked for this long is closed; the serving side waits longer
/// (`serve::IDLE_MAX`), so that a request never meets a stream that is being closed.
const IDLE_MAX: Duration = Duration::from_secs(120);
/// With answers owed and nothing heard for this long, the peer is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(5);
/// Nothing heard for this long: the connection is dead, whatever the kernel believes. Longer than a
/// serving peer may wait for memory and queue before it reads on.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// A peer that owes an answer which nobody waits for any more keeps its place for so long; then
/// the stream is given up, so that unanswered requests cannot use up all places.
const OWED_MAX: Duration = Duration::from_secs(120);

/// Where requests of one conversation to one peer are put. Cheap to clone; closed with its stream.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    requests: mpsc::Sender<Asked>,
    places: Arc<Semaphore>,
}

/// A request on its way to the stream.
#[derive(Debug)]
pub(crate) struct Asked {
    message: Message,
    answer: oneshot::Sender<Result<Message, Refusal>>,
    place: OwnedSemaphorePermit,
}

/// Why a lane gave no answer.
#[derive(Debug)]
pub(crate) enum LaneError {
    /// The lane was closed before the request was taken: it may be asked again elsewhere.
    NotSent,
    /// The lane closed afterwards: the peer may have acted on the request.
    Lost,
    /// The peer said no.
    Refused(Refusal),
}

impl Lane {
    /// A lane of this many places, and what its stream reads requests from.
    pub(crate) fn new(places: usize) -> (Self, mpsc::Receiver<Asked>) {
        let (requests, asked) = mpsc::channel(places);
        (Self { requests, places: Arc::new(Semaphore::new(places)) }, asked)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    /// Asks and waits. The caller has the deadline.
    pub(crate) async fn ask(&self, message: Message) -> Result<Message, LaneError> {
        let place = tokio::select! {
            place = self.places.clone().acquire_owned() => place.map_err(|_| LaneError::NotSent)?,
            () = self.requests.closed() => return Err(LaneError::NotSent),
        };
        let (answer, answered) = oneshot::channel();
        let asked = Asked { message, answer, place };
        self.requests.send(asked).await.map_err(|_| LaneError::NotSent)?;
        match answered.await {
            Ok(answer) => answer.map_err(LaneError::Refused),
            Err(_) => Err(LaneError::Lost),
        }
    }
}

/// Runs the stream of a lane until it ends.
pub(crate) async fn run<S: AsyncRead + AsyncWrite>(
    stream: S,
    conversation: Conversation,
    asked: mpsc::Receiver<Asked>,
) -> StreamEnd {
    let (reader, writer) = stream.split();
    let heard = LastHeard::now();
    let open = OpenRequests::default();
    let reader = Listening { reader, heard: heard.clone() };
    tokio::select! {
        end = read_answers(reader, conversation, &open) => end,
        end = write_requests(writer, conversation, asked, &open, heard) => end,
    }
    .unwrap_or_else(|end| end)
}

async fn read_answers<R: AsyncRead + Unpin>(
    mut reader: R,
    conversation: Conversation,
    open: &OpenRequests,
) -> Result<StreamEnd, StreamEnd> {
    while let Some(head) = wire::read_head(&mut reader, conversation).await? {
        match head.kind {
            Kind::Pong => {}
            Kind::Answer if open.contains(head.id) => {
                let message = wire::read_message(&mut reader, &head).await?;
                open.close(head.id)?.end(Ok(message));
            }
            Kind::Answer => return Err(FrameError::UnknownRequest { id: head.id }.into()),
            Kind::Refusal(refusal) => open.close(head.id)?.end(Err(refusal)),
            Kind::Request | Kind::Ping => return Err(FrameError::WrongWay { found: head.kind }.into()),
        }
    }
    Ok(StreamEnd::Finished)
}

async fn write_requests<W: AsyncWrite + Unpin>(
    mut writer: W,
    conversation: Conversation,
    mut asked: mpsc::Receiver<Asked>,
    open: &OpenRequests,
    heard: LastHeard,
) -> Result<StreamEnd, StreamEnd> {
    let mut last_asked = Instant::now();
    let mut id: u32 = 0;
    let mut ticks = tokio::time::interval(PING_AFTER);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let request = match asked.try_recv() {
            Ok(request) => request,
            Err(_) => {
                wire::flush(&mut writer).await?;
                tokio::select! {
                    request = asked.recv() => match request {
                        Some(request) => request,
                        None => return close(writer).await,
                    },
                    _ = ticks.tick() => {
                        let is_idle = open.is_empty() && last_asked.elapsed() >= IDLE_MAX;
                        if is_idle || open.is_owed_longer_than(OWED_MAX) {
                            return close(writer).await;
                        }
                        if !open.is_empty() && heard.elapsed() >= PING_AFTER {
                            ask_for_life(&mut writer, conversation, &heard).await?;
                        }
                        continue;
                    }
                }
            }
        };
        last_asked = Instant::now();
        if request.answer.is_closed() {
            continue;
        }
        if open.is_empty() {
            // Silence is counted from the first open request.
            heard.stamp();
        }
        id = open.insert(id, request.answer, request.place);
        let head = Head::carrying(Kind::Request, conversation, id, &request.message);
        wire::write_frame(&mut writer, &head, &request.message).await?;
    }
}

async fn ask_for_life<W: AsyncWrite + Unpin>(
    writer: &mut W,
    conversation: Conversation,
    heard: &LastHeard,
) -> Result<(), StreamEnd> {
    if heard.elapsed() >= SILENCE_MAX {
        return Err(StreamEnd::Silent);
    }
    wire::write_frame(writer, &Head::bare(Kind::Ping, conversation, 0), &Message::default()).await
}

async fn close<W: AsyncWrite + Unpin>(mut writer: W) -> Result<StreamEnd, StreamEnd> {
    writer.close().await?;
    Ok(StreamEnd::Finished)
}

/// The requests of a stream that have no answer yet.
#[derive(Default)]
struct OpenRequests(Mutex<HashMap<u32, OpenRequest>>);

struct OpenRequest {
    answer: oneshot::Sender<Result<Message, Refusal>>,
    asked_at: Instant,
    _place: OwnedSemaphorePermit,
}

impl OpenRequest {
    fn end(self, answer: Result<Message, Refusal>) {
        // Whoever asked may have stopped waiting.
        let _ = self.answer.send(answer);
    }
}

impl OpenRequests {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, OpenRequest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a request under the first free id after `last`.
    fn insert(
        &self,
        last: u32,
        answer: oneshot::Sender<Result<Message, Refusal>>,
        place: OwnedSemaphorePermit,
    ) -> u32 {
        let mut open = self.lock();
        let mut id = last.wrapping_add(1);
        while open.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        open.insert(id, OpenRequest { answer, asked_at: Instant::now(), _place: place });
        id
    }

    fn close(&self, id: u32) -> Result<OpenRequest, FrameError> {
        self.lock().remove(&id).ok_or(FrameError::UnknownRequest { id })
    }

    fn contains(&self, id: u32) -> bool {
        self.lock().contains_key(&id)
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn is_owed_longer_than(&self, age: Duration) -> bool {
        self.lock().values().any(|request| request.answer.is_closed() && request.asked_at.elapsed() > age)
    }
}
