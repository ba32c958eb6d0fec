//! What the serving side sees: requests one after another, each with the right to answer it once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::gate::Admission;
use crate::message::{Conversation, Message};
use crate::peer::PeerKey;

/// The requests of all peers, in the order of their arrival. Dropping it refuses what comes later.
#[derive(Debug)]
pub struct Incoming {
    requests: mpsc::Receiver<Request>,
}

impl Incoming {
    pub(crate) fn new(requests: mpsc::Receiver<Request>) -> Self {
        Self { requests }
    }

    /// The next request; `None` once the network is shut down.
    pub async fn next(&mut self) -> Option<Request> {
        self.requests.recv().await
    }
}

impl Stream for Incoming {
    type Item = Request;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Request>> {
        self.requests.poll_recv(cx)
    }
}

/// A request, whole and within its limits.
#[derive(Debug)]
pub struct Request {
    /// Who asks; proved by its key.
    pub peer: PeerKey,
    /// What the policy said of the peer when the request came.
    pub admission: Admission,
    /// What it is about; a guest's is always [`Conversation::Join`].
    pub conversation: Conversation,
    /// The question.
    pub message: Message,
    /// Where the answer goes.
    pub reply: Reply,
}

/// The right to answer one request. Dropped unused, the requester is told that it was not answered.
#[derive(Debug)]
pub struct Reply {
    answer: oneshot::Sender<Answer>,
    answers: Option<Budget>,
    /// Memory of the request, given back with the reply.
    _request: Option<Held>,
}

/// An answer and the memory that it counts for until it is written.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) message: Message,
    pub(crate) _held: Option<Held>,
}

impl Reply {
    pub(crate) fn new(
        answer: oneshot::Sender<Answer>,
        answers: Option<Budget>,
        request: Option<Held>,
    ) -> Self {
        Self { answer, answers, _request: request }
    }

    /// Whether the requester can no longer be reached on the stream that it asked on.
    pub fn is_moot(&self) -> bool {
        self.answer.is_closed()
    }

    /// Answers. Waits while the peer reads slower than it is answered; a peer that stops reading
    /// is cut, so the wait ends.
    ///
    /// # Errors
    /// [`ReplyError::TooLarge`] for a message over its limits (the requester is told that it was not
    /// answered), [`ReplyError::Gone`] when the requester is.
    pub async fn send(mut self, message: Message) -> Result<(), ReplyError> {
        if !message.fits() {
            return Err(ReplyError::TooLarge { found: message.size_bytes() });
        }
        let held = match &self.answers {
            None => None,
            Some(budget) => tokio::select! {
                held = budget.hold(message.size_bytes()) => Some(held),
                () = self.answer.closed() => return Err(ReplyError::Gone),
            },
        };
        self.answer.send(Answer { message, _held: held }).map_err(|_| ReplyError::Gone)
    }
}

/// Why an answer did not go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Header or body is over its limit.
    #[error("an answer of {found} bytes does not fit a frame")]
    TooLarge {
        /// Bytes of header and body together.
        found: usize,
    },
    /// The connection to the requester ended.
    #[error("the requester is gone")]
    Gone,
}

/// Bytes that may be held at once, by one connection and by all.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    connection: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// Bytes that are held until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    _connection: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Budget {
    pub(crate) fn new(all: Arc<Semaphore>, connection_bytes: usize) -> Self {
        Self { connection: Arc::new(Semaphore::new(connection_bytes)), all }
    }

    /// Waits for this many bytes. The connection's share comes first, so that whoever waits for
    /// memory of its own holds none of the others'.
    pub(crate) async fn hold(&self, bytes: usize) -> Held {
        let bytes = u32::try_from(bytes).expect("a message is far below 4 GiB");
        let connection = self.connection.clone().acquire_many_owned(bytes).await;
        let all = self.all.clone().acquire_many_owned(bytes).await;
        let open = "budgets are never closed";
        Held { _connection: connection.expect(open), _all: all.expect(open) }
    }

    /// The same within a time; `None` when there is not enough memory until then.
    pub(crate) async fn hold_within(&self, bytes: usize, wait: Duration) -> Option<Held> {
        tokio::time::timeout(wait, self.hold(bytes)).await.ok()
    }
}
