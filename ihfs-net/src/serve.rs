//! The serving side of one stream: admits requests, hands them over, writes answers as they come.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::frame::{FrameError, Head, Kind, Refusal};
use crate::gate::Gate;
use crate::incoming::{Answer, Budget, Reply, Request};
use crate::message::{Conversation, Message};
use crate::peer::PeerKey;
use crate::wire::{self, StreamEnd};

/// A stream on which nothing was asked for this long is closed. Five times the asking side's own
/// limit: only a peer that keeps streams open for nothing meets it.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// How long a request may wait for memory, and again for a place in the queue, before the peer is
/// told that this side is busy. Twice this stays below the asking side's patience with silence.
const BUSY_AFTER: Duration = Duration::from_secs(5);
/// Refusals and pongs that wait to be written before reading stops.
const NOTES_WAITING: usize = 16;

/// What serving a connection needs; shared by its streams.
#[derive(Clone)]
pub(crate) struct Serving {
    pub(crate) peer: PeerKey,
    pub(crate) gate: Arc<Gate>,
    pub(crate) incoming: mpsc::Sender<Request>,
    pub(crate) requests: Budget,
    pub(crate) answers: Budget,
    pub(crate) in_flight_max: usize,
}

/// What the reading half tells the writing half.
enum Note {
    /// A request was handed over; its answer comes here.
    Owed { id: u32, answer: oneshot::Receiver<Answer>, place: OwnedSemaphorePermit },
    /// A frame without a message.
    Bare(Kind, u32),
}

/// Runs a stream that the peer opened, until it ends.
pub(crate) async fn run<S: AsyncRead + AsyncWrite>(
    stream: S,
    conversation: Conversation,
    serving: Serving,
) -> StreamEnd {
    let (reader, writer) = stream.split();
    let (notes, noted) = mpsc::channel(NOTES_WAITING);
    let places = Arc::new(Semaphore::new(serving.in_flight_max));
    let reading = Reading { serving, conversation, notes, places };
    tokio::select! {
        end = reading.run(reader) => end,
        end = write_answers(writer, conversation, noted) => end,
    }
    .unwrap_or_else(|end| end)
}

struct Reading {
    serving: Serving,
    conversation: Conversation,
    notes: mpsc::Sender<Note>,
    places: Arc<Semaphore>,
}

impl Reading {
    async fn run<R: AsyncRead + Unpin>(self, mut reader: R) -> Result<StreamEnd, StreamEnd> {
        loop {
            let head = wire::read_head(&mut reader, self.conversation);
            let Ok(head) = tokio::time::timeout(IDLE_MAX, head).await else {
                return Ok(StreamEnd::Finished);
            };
            match head? {
                None => return Ok(StreamEnd::Finished),
                Some(head) if head.kind == Kind::Ping => self.note(Note::Bare(Kind::Pong, head.id)).await?,
                Some(head) if head.kind == Kind::Request => {
                    let note = match self.take_request(&mut reader, &head).await? {
                        Ok(owed) => owed,
                        Err(refusal) => Note::Bare(Kind::Refusal(refusal), head.id),
                    };
                    self.note(note).await?;
                }
                Some(head) => return Err(FrameError::WrongWay { found: head.kind }.into()),
            }
        }
    }

    async fn note(&self, note: Note) -> Result<(), StreamEnd> {
        self.notes.send(note).await.map_err(|_| StreamEnd::Finished)
    }

    /// Reads one request and hands it over, or reads past it and says why not.
    async fn take_request<R: AsyncRead + Unpin>(
        &self,
        reader: &mut R,
        head: &Head,
    ) -> Result<Result<Note, Refusal>, StreamEnd> {
        let serving = &self.serving;
        let admitted = serving.gate.admit(serving.peer, head);
        let place = self.places.clone().try_acquire_owned().map_err(|_| Refusal::Busy);
        let (admission, place) = match (admitted, place) {
            (Ok(admission), Ok(place)) => (admission, place),
            (Err(refusal), _) | (_, Err(refusal)) => {
                wire::skip_message(reader, head).await?;
                return Ok(Err(refusal));
            }
        };
        let Some(held) = serving.requests.hold_within(head.message_bytes(), BUSY_AFTER).await else {
            wire::skip_message(reader, head).await?;
            return Ok(Err(Refusal::Busy));
        };
        let message = wire::read_message(reader, head).await?;
        let (sender, answer) = oneshot::channel();
        let reply = Reply::new(sender, Some(serving.answers.clone()), Some(held));
        let (peer, conversation) = (serving.peer, self.conversation);
        let request = Request { peer, admission, conversation, message, reply };
        Ok(match serving.incoming.send_timeout(request, BUSY_AFTER).await {
            Ok(()) => Ok(Note::Owed { id: head.id, answer, place }),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(Refusal::Busy),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Refusal::NotServed),
        })
    }
}

async fn write_answers<W: AsyncWrite + Unpin>(
    mut writer: W,
    conversation: Conversation,
    mut notes: mpsc::Receiver<Note>,
) -> Result<StreamEnd, StreamEnd> {
    let mut owed = FuturesUnordered::new();
    let mut unflushed = false;
    loop {
        tokio::select! {
            biased;
            note = notes.recv() => match note {
                None => return Ok(StreamEnd::Finished),
                Some(Note::Bare(kind, id)) => {
                    let head = Head::bare(kind, conversation, id);
                    wire::write_frame(&mut writer, &head, &Message::default()).await?;
                    unflushed = true;
                }
                Some(Note::Owed { id, answer, place }) => {
                    owed.push(async move { (id, answer.await, place) });
                }
            },
            Some((id, answer, _place)) = owed.next(), if !owed.is_empty() => {
                write_answer(&mut writer, conversation, id, answer.ok()).await?;
                unflushed = true;
            },
            // Polled last: nothing more is ready, so what was written leaves now.
            flushed = wire::flush(&mut writer), if unflushed => {
                flushed?;
                unflushed = false;
            }
        }
    }
}

async fn write_answer<W: AsyncWrite + Unpin>(
    writer: &mut W,
    conversation: Conversation,
    id: u32,
    answer: Option<Answer>,
) -> Result<(), StreamEnd> {
    match answer {
        Some(answer) => {
            let head = Head::carrying(Kind::Answer, conversation, id, &answer.message);
            wire::write_frame(writer, &head, &answer.message).await
        }
        None => {
            let head = Head::bare(Kind::Refusal(Refusal::Unanswered), conversation, id);
            wire::write_frame(writer, &head, &Message::default()).await
        }
    }
}
