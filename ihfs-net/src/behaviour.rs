//! Which connections are taken, and what each is given to work with.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandlerInEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{Semaphore, mpsc};

use crate::gate::{Admission, Gate};
use crate::handler::{Handler, LaneOpened};
use crate::incoming::{Budget, Request};
use crate::limits::Limits;
use crate::message::{BODY_BYTES_MAX, Conversation, HEADER_BYTES_MAX};
use crate::peer::PeerKey;
use crate::serve::Serving;

/// Counts connections and makes their handlers.
pub(crate) struct Behaviour {
    limits: Limits,
    gate: Arc<Gate>,
    incoming: mpsc::Sender<Request>,
    cuts: mpsc::UnboundedSender<ConnectionId>,
    request_bytes: Arc<Semaphore>,
    answer_bytes: Arc<Semaphore>,
    /// Inbound handshakes under way, and where they come from.
    handshakes: HashMap<ConnectionId, Option<IpAddr>>,
    connections: HashMap<ConnectionId, Counted>,
    actions: VecDeque<ToSwarm<LaneEvent, Conversation>>,
}

/// A connection as the limits count it.
struct Counted {
    peer: PeerKey,
    is_guest: bool,
}

/// A lane came about on a connection, or did not.
#[derive(Debug)]
pub(crate) struct LaneEvent {
    pub(crate) peer: PeerKey,
    pub(crate) connection: ConnectionId,
    pub(crate) opened: LaneOpened,
}

impl Behaviour {
    pub(crate) fn new(
        limits: Limits,
        gate: Arc<Gate>,
        incoming: mpsc::Sender<Request>,
        cuts: mpsc::UnboundedSender<ConnectionId>,
    ) -> Self {
        Self {
            limits,
            gate,
            incoming,
            cuts,
            request_bytes: Arc::new(Semaphore::new(room(limits.bytes_in_flight))),
            answer_bytes: Arc::new(Semaphore::new(room(limits.bytes_in_flight))),
            handshakes: HashMap::new(),
            connections: HashMap::new(),
            actions: VecDeque::new(),
        }
    }

    /// Opens a lane of this conversation on this connection; a [`LaneEvent`] tells the outcome.
    pub(crate) fn open_lane(&mut self, peer: PeerKey, connection: ConnectionId, conversation: Conversation) {
        self.actions.push_back(ToSwarm::NotifyHandler {
            peer_id: peer.to_peer_id(),
            handler: NotifyHandler::One(connection),
            event: conversation,
        });
    }

    fn take(&mut self, connection: ConnectionId, peer: &PeerId, inbound: bool) -> Result<Handler, Denied> {
        self.handshakes.remove(&connection);
        let peer = PeerKey::from_peer_id(peer).ok_or(Denied::NotAKey)?;
        let is_guest = inbound && self.gate.admission(peer) == Admission::Guest;
        let count = |counts: fn(&Counted, PeerKey) -> bool| {
            self.connections.values().filter(|counted| counts(counted, peer)).count()
        };
        if self.connections.len() >= self.limits.connections {
            return Err(Denied::Connections { limit: self.limits.connections });
        }
        if count(|counted, peer| counted.peer == peer) >= self.limits.connections_per_peer {
            return Err(Denied::ConnectionsOfPeer { limit: self.limits.connections_per_peer });
        }
        if is_guest && count(|counted, _| counted.is_guest) >= self.limits.connections_of_guests {
            return Err(Denied::Guests { limit: self.limits.connections_of_guests });
        }
        self.connections.insert(connection, Counted { peer, is_guest });
        Ok(Handler::new(
            connection,
            self.serving(peer),
            self.limits.streams_per_connection,
            self.cuts.clone(),
        ))
    }

    fn serving(&self, peer: PeerKey) -> Serving {
        let share = room(self.limits.bytes_in_flight_per_connection);
        Serving {
            peer,
            gate: self.gate.clone(),
            incoming: self.incoming.clone(),
            requests: Budget::new(self.request_bytes.clone(), share),
            answers: Budget::new(self.answer_bytes.clone(), share),
            in_flight_max: self.limits.requests_in_flight_per_stream,
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = LaneEvent;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        from: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let from = ip_of(from);
        let from_there = self.handshakes.values().filter(|other| **other == from).count();
        if from_there >= self.limits.handshakes_per_address {
            let limit = self.limits.handshakes_per_address;
            return Err(ConnectionDenied::new(Denied::HandshakesFromAddress { limit }));
        }
        if self.handshakes.len() >= self.limits.handshakes {
            return Err(ConnectionDenied::new(Denied::Handshakes { limit: self.limits.handshakes }));
        }
        if self.connections.len() + self.handshakes.len() >= self.limits.connections {
            return Err(ConnectionDenied::new(Denied::Connections { limit: self.limits.connections }));
        }
        self.handshakes.insert(connection, from);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.take(connection, &peer, true).map_err(ConnectionDenied::new)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.take(connection, &peer, false).map_err(ConnectionDenied::new)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => {
                self.connections.remove(&closed.connection_id);
            }
            FromSwarm::ListenFailure(failed) => {
                self.handshakes.remove(&failed.connection_id);
                self.connections.remove(&failed.connection_id);
            }
            FromSwarm::DialFailure(failed) => {
                self.connections.remove(&failed.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, opened: LaneOpened) {
        let peer = PeerKey::from_peer_id(&peer).expect("a connection was taken for an Ed25519 peer only");
        self.actions.push_back(ToSwarm::GenerateEvent(LaneEvent { peer, connection, opened }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<LaneEvent, THandlerInEvent<Self>>> {
        // No waker: everything above is called by the task that polls the swarm.
        self.actions.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Memory for at least one message, whatever the limit: less would wait for ever.
fn room(limit_bytes: usize) -> usize {
    limit_bytes.max(HEADER_BYTES_MAX + BODY_BYTES_MAX)
}

fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// Why a connection was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    #[error("the peer's key is not Ed25519")]
    NotAKey,
    #[error("{limit} connections are open")]
    Connections { limit: usize },
    #[error("{limit} connections of this peer are open")]
    ConnectionsOfPeer { limit: usize },
    #[error("{limit} connections of guests are open")]
    Guests { limit: usize },
    #[error("{limit} handshakes are under way")]
    Handshakes { limit: usize },
    #[error("{limit} handshakes from this address are under way")]
    HandshakesFromAddress { limit: usize },
}
