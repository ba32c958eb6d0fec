//! Asking nodes: the one place where the client waits for the network.
//!
//! Everything above is plain blocking code; a request here has a deadline and ends in an answer, a refusal
//! that says why, or a network error that says whether the node may have acted.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ihfs_core::ids::NodeId;
use ihfs_net::{Conversation, Message, Network, PeerKey, RequestError};
use ihfs_proto::{Malformed, chunk, join, key, ledger, status};
use tokio::runtime::Handle;

/// How long a node may take for an ordinary answer.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// How long the ledger may take to decide a transaction.
pub const DECISION_TIME_MAX: Duration = Duration::from_secs(60);

/// Why a node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The network did not bring an answer.
    #[error(transparent)]
    Network(#[from] RequestError),
    /// The node says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The answer is not one to this question.
    #[error("node {node:?} answered something else than was asked")]
    Malformed {
        /// Who answered.
        node: NodeId,
    },
    /// No node is known.
    #[error("no node of this network is known")]
    NoNode,
}

/// A node's no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node refuses: {detail}")]
pub struct Refusal {
    /// Why.
    pub reason: ledger::Reason,
    /// What it is about: an id, or nothing.
    pub subject: Bytes,
    /// One sentence.
    pub detail: String,
}

impl From<ledger::Refusal> for Refusal {
    fn from(refusal: ledger::Refusal) -> Self {
        Self { reason: refusal.reason(), subject: refusal.subject.clone(), detail: refusal.detail }
    }
}

/// A device's end of the network.
#[derive(Clone)]
pub struct Link {
    runtime: Handle,
    network: Network,
    nodes: Vec<NodeId>,
    /// When the patience of the whole link ends, whatever a single request may take.
    ends: Option<Instant>,
}

impl Link {
    /// Talks over `network` to `nodes`, the first that answers first. `runtime` must outlive the link.
    pub const fn new(runtime: Handle, network: Network, nodes: Vec<NodeId>) -> Self {
        Self { runtime, network, nodes, ends: None }
    }

    /// The same link for `time` from now: no request over it waits longer.
    pub fn within(&self, time: Duration) -> Self {
        Self { ends: Some(Instant::now() + time), ..self.clone() }
    }

    /// What is left of `longest` on this link.
    fn patience(&self, longest: Duration) -> Duration {
        let left = self.ends.map(|ends| ends.saturating_duration_since(Instant::now()));
        left.map_or(longest, |left| left.min(longest))
    }

    /// The runtime that carries requests.
    pub const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The network under it.
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// The nodes that are asked about the ledger.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// Asks about the ledger: the first node that can be reached answers.
    ///
    /// # Errors
    /// [`AskError`] of the last node asked.
    pub fn ask_ledger(
        &self,
        request: ledger::request::Request,
        deadline: Duration,
    ) -> Result<ledger::response::Response, AskError> {
        let request = ledger::Request { request: Some(request) };
        self.first_node(|node| {
            let message = parts(&request);
            let answer = self.ask(node, Conversation::Ledger, message, deadline)?;
            let answer: ledger::Response = from_message(node, answer)?;
            match answer.response {
                Some(ledger::response::Response::Refusal(refusal)) => Err(Refusal::from(refusal).into()),
                Some(response) => Ok(response),
                None => Err(AskError::Malformed { node }),
            }
        })
    }

    /// Asks as a stranger, to join or to recover.
    ///
    /// # Errors
    /// [`AskError`] of the last node asked.
    pub fn ask_join(
        &self,
        request: join::request::Request,
        deadline: Duration,
    ) -> Result<join::response::Response, AskError> {
        let request = join::Request { request: Some(request) };
        self.first_node(|node| {
            let answer = self.ask(node, Conversation::Join, parts(&request), deadline)?;
            let answer: join::Response = from_message(node, answer)?;
            match answer.response {
                Some(join::response::Response::Refusal(refusal)) => Err(Refusal::from(refusal).into()),
                Some(response) => Ok(response),
                None => Err(AskError::Malformed { node }),
            }
        })
    }

    /// Asks a custodian.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn ask_key(
        &self,
        node: NodeId,
        request: key::request::Request,
    ) -> Result<key::response::Response, AskError> {
        let request = key::Request { request: Some(request) };
        let answer = self.ask(node, Conversation::Key, parts(&request), ANSWER_TIME_MAX)?;
        let answer: key::Response = from_message(node, answer)?;
        match answer.response {
            Some(key::response::Response::Refusal(refusal)) => Err(Refusal::from(refusal).into()),
            Some(response) => Ok(response),
            None => Err(AskError::Malformed { node }),
        }
    }

    /// Asks a node how it fares.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn ask_status(&self, node: NodeId) -> Result<status::NodeStatus, AskError> {
        let request = status::Request { request: Some(status::request::Request::Status(status::Status {})) };
        let answer = self.ask(node, Conversation::Status, parts(&request), ANSWER_TIME_MAX)?;
        let answer: status::Response = from_message(node, answer)?;
        match answer.response {
            Some(status::response::Response::Status(status)) => Ok(status),
            Some(status::response::Response::Refusal(refusal)) => Err(Refusal::from(refusal).into()),
            _ => Err(AskError::Malformed { node }),
        }
    }

    /// Asks a node about chunks, from a task of the runtime. Gives the answer and the chunk behind it.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask_chunk(
        &self,
        node: NodeId,
        request: chunk::Request,
        body: Bytes,
    ) -> Result<(chunk::response::Response, Bytes), AskError> {
        let message = Message { header: ihfs_proto::encode(&request), body };
        let peer = PeerKey::from(node);
        let answer =
            self.network.request(peer, Conversation::Chunk, message, self.patience(ANSWER_TIME_MAX)).await?;
        let response: chunk::Response = ihfs_proto::decode(answer.header, ihfs_proto::HEADER_BYTES_MAX)
            .map_err(|Malformed| AskError::Malformed { node })?;
        match response.response {
            Some(chunk::response::Response::Refusal(refusal)) => Err(Refusal::from(refusal).into()),
            Some(response) => Ok((response, answer.body)),
            None => Err(AskError::Malformed { node }),
        }
    }

    fn ask(
        &self,
        node: NodeId,
        conversation: Conversation,
        message: Message,
        deadline: Duration,
    ) -> Result<Message, RequestError> {
        let deadline = self.patience(deadline);
        self.runtime.block_on(self.network.request(PeerKey::from(node), conversation, message, deadline))
    }

    /// The first node that can be reached; a refusal is an answer.
    fn first_node<T>(&self, mut ask: impl FnMut(NodeId) -> Result<T, AskError>) -> Result<T, AskError> {
        let mut last = Err(AskError::NoNode);
        for node in &self.nodes {
            last = ask(*node);
            match &last {
                Err(AskError::Network(error)) if may_try_another(error) => {}
                _ => return last,
            }
        }
        last
    }
}

/// Whether the node surely did not act on the request.
const fn may_try_another(error: &RequestError) -> bool {
    !matches!(
        error,
        RequestError::TimedOut { .. } | RequestError::Closed { .. } | RequestError::TooLarge { .. }
    )
}

fn parts(request: &impl prost::Message) -> Message {
    let (header, body) = ihfs_proto::to_parts(request);
    Message { header, body }
}

fn from_message<M: prost::Message + Default>(node: NodeId, message: Message) -> Result<M, AskError> {
    ihfs_proto::from_parts(message.header, message.body).map_err(|Malformed| AskError::Malformed { node })
}
