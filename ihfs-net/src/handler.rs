//! One connection: opens streams when asked, serves those that the peer opens.
//!
//! Streams run in tasks of their own and talk to their users directly; libp2p sees a stream when it
//! is negotiated and never again. A task that finds the connection useless says so on `cuts`.

use std::array;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, ConnectionId, Stream, StreamUpgradeError, SubstreamProtocol,
};
use tokio::sync::mpsc;

use crate::lane::{self, Lane};
use crate::message::Conversation;
use crate::peer::PeerKey;
use crate::serve::{self, Serving};
use crate::wire::StreamEnd;

/// Negotiating a stream takes one message; the peer has this long to send it.
const NEGOTIATION_TIME_MAX: Duration = Duration::from_secs(10);

/// The streams of one connection.
pub(crate) struct Handler {
    pub(crate) connection: ConnectionId,
    pub(crate) serving: Serving,
    pub(crate) lane_places: usize,
    pub(crate) streams_max: usize,
    pub(crate) cuts: mpsc::UnboundedSender<ConnectionId>,
    wanted: VecDeque<Conversation>,
    opened: VecDeque<LaneOpened>,
    streams_served: Arc<AtomicUsize>,
    waker: Option<Waker>,
}

/// What came of a wish for a lane.
#[derive(Debug)]
pub(crate) struct LaneOpened {
    pub(crate) conversation: Conversation,
    /// `None`: the peer does not offer this conversation, or the connection failed.
    pub(crate) lane: Option<Lane>,
}

impl Handler {
    pub(crate) fn new(
        connection: ConnectionId,
        serving: Serving,
        streams_max: usize,
        cuts: mpsc::UnboundedSender<ConnectionId>,
    ) -> Self {
        Self {
            connection,
            lane_places: serving.in_flight_max,
            serving,
            streams_max,
            cuts,
            wanted: VecDeque::new(),
            opened: VecDeque::new(),
            streams_served: Arc::default(),
            waker: None,
        }
    }

    fn serve(&self, stream: Stream, conversation: Conversation) {
        let served = Served::one_more(&self.streams_served);
        if served.is_over(self.streams_max) {
            tracing::warn!(peer = ?self.serving.peer, "cut: more than {} streams", self.streams_max);
            // Fails only when the network is shutting down.
            let _ = self.cuts.send(self.connection);
            return;
        }
        let report = self.report(conversation);
        let serving = self.serving.clone();
        tokio::spawn(async move {
            let _served = served;
            report(serve::run(stream, conversation, serving).await);
        });
    }

    fn open(&mut self, stream: Stream, conversation: Conversation) {
        let (lane, asked) = Lane::new(self.lane_places);
        let report = self.report(conversation);
        tokio::spawn(async move { report(lane::run(stream, conversation, asked).await) });
        self.tell(LaneOpened { conversation, lane: Some(lane) });
    }

    /// What a stream's task does when the stream has ended.
    fn report(&self, conversation: Conversation) -> impl FnOnce(StreamEnd) + Send + 'static {
        let (peer, connection, cuts): (PeerKey, _, _) =
            (self.serving.peer, self.connection, self.cuts.clone());
        move |end| {
            if end.cuts_connection() {
                tracing::warn!(?peer, ?conversation, cause = ?end, "cut: {end}");
                let _ = cuts.send(connection);
            } else {
                tracing::debug!(?peer, ?conversation, cause = ?end, "stream ended: {end}");
            }
        }
    }

    fn tell(&mut self, opened: LaneOpened) {
        self.opened.push_back(opened);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Conversation;
    type ToBehaviour = LaneOpened;
    type InboundProtocol = AnyConversation;
    type OutboundProtocol = OneConversation;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Conversation;

    fn listen_protocol(&self) -> SubstreamProtocol<AnyConversation, ()> {
        SubstreamProtocol::new(AnyConversation, ()).with_timeout(NEGOTIATION_TIME_MAX)
    }

    fn connection_keep_alive(&self) -> bool {
        // Streams keep the connection by themselves, and close when idle.
        !self.wanted.is_empty() || !self.opened.is_empty()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<OneConversation, Conversation, LaneOpened>> {
        if let Some(opened) = self.opened.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(opened));
        }
        if let Some(conversation) = self.wanted.pop_front() {
            let protocol = SubstreamProtocol::new(OneConversation(conversation), conversation)
                .with_timeout(NEGOTIATION_TIME_MAX);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, conversation: Conversation) {
        self.wanted.push_back(conversation);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, AnyConversation, OneConversation, (), Conversation>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                let (conversation, stream) = protocol;
                self.serve(stream, conversation);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                self.open(protocol, info);
            }
            ConnectionEvent::DialUpgradeError(failed) => {
                let error: StreamUpgradeError<Infallible> = failed.error;
                tracing::debug!(peer = ?self.serving.peer, conversation = ?failed.info, %error, "no stream");
                self.tell(LaneOpened { conversation: failed.info, lane: None });
            }
            _ => {}
        }
    }
}

/// Counts a served stream while it lives.
struct Served {
    count: Arc<AtomicUsize>,
    number: usize,
}

impl Served {
    fn one_more(count: &Arc<AtomicUsize>) -> Self {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        Self { count: count.clone(), number }
    }

    fn is_over(&self, max: usize) -> bool {
        self.number > max
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts a stream of any conversation.
pub(crate) struct AnyConversation;

impl UpgradeInfo for AnyConversation {
    type Info = ProtocolName;
    type InfoIter = array::IntoIter<ProtocolName, 6>;

    fn protocol_info(&self) -> Self::InfoIter {
        Conversation::ALL.map(ProtocolName).into_iter()
    }
}

impl InboundUpgrade<Stream> for AnyConversation {
    type Output = (Conversation, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: ProtocolName) -> Self::Future {
        ready(Ok((name.0, stream)))
    }
}

/// Opens a stream of one conversation.
pub(crate) struct OneConversation(Conversation);

impl UpgradeInfo for OneConversation {
    type Info = ProtocolName;
    type InfoIter = array::IntoIter<ProtocolName, 1>;

    fn protocol_info(&self) -> Self::InfoIter {
        [ProtocolName(self.0)].into_iter()
    }
}

impl OutboundUpgrade<Stream> for OneConversation {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: ProtocolName) -> Self::Future {
        ready(Ok(stream))
    }
}

/// A conversation where libp2p wants its name.
#[derive(Clone)]
pub(crate) struct ProtocolName(Conversation);

impl AsRef<str> for ProtocolName {
    fn as_ref(&self) -> &str {
        self.0.protocol()
    }
}
