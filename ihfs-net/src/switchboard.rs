//! The one task that owns the swarm: dials, listens, opens lanes, cuts connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, Swarm, SwarmEvent};
use libp2p::{Multiaddr, TransportError};
use tokio::sync::{mpsc, oneshot};

use crate::behaviour::{Behaviour, LaneEvent};
use crate::lane::Lane;
use crate::message::Conversation;
use crate::network::RequestError;
use crate::peer::PeerKey;
use crate::transport::SecureError;

/// A connection without a stream is closed after this time.
pub(crate) const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(10);
/// Addresses kept per peer; the oldest goes first. 8: a few interfaces in two families.
const ADDRESSES_PER_PEER: usize = 8;

/// What others ask of the switchboard.
pub(crate) enum Command {
    /// Find or open a lane.
    Lane { peer: PeerKey, conversation: Conversation, answer: oneshot::Sender<Result<Lane, NoLane>> },
    /// End; answered when the swarm is gone.
    Shutdown { done: oneshot::Sender<()> },
}

/// Why there is no lane.
#[derive(Debug)]
pub(crate) enum NoLane {
    /// The connection ended while the lane was being opened: nothing was sent, try again.
    ConnectionEnded,
    /// It is of no use to try again now.
    Failed(RequestError),
}

/// What the switchboard and the callers of [`Network`](crate::Network) share.
#[derive(Default)]
pub(crate) struct Directory {
    lanes: Mutex<HashMap<(PeerKey, Conversation), Lane>>,
    addresses: Mutex<HashMap<PeerKey, Vec<Multiaddr>>>,
}

impl Directory {
    /// The open lane of this peer and conversation, if there is one.
    pub(crate) fn lane(&self, peer: PeerKey, conversation: Conversation) -> Option<Lane> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.get(&(peer, conversation)).filter(|lane| !lane.is_closed()).cloned()
    }

    fn set_lane(&self, peer: PeerKey, conversation: Conversation, lane: Lane) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.insert((peer, conversation), lane);
    }

    fn drop_closed_lanes(&self) {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, lane| !lane.is_closed());
    }

    pub(crate) fn add_address(&self, peer: PeerKey, address: Multiaddr) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let known = addresses.entry(peer).or_default();
        known.retain(|other| *other != address);
        if known.len() == ADDRESSES_PER_PEER {
            known.remove(0);
        }
        known.push(address);
    }

    fn addresses(&self, peer: PeerKey) -> Vec<Multiaddr> {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.get(&peer).cloned().unwrap_or_default()
    }
}

/// The state of the task.
pub(crate) struct Switchboard {
    pub(crate) swarm: Swarm<Behaviour>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) cuts: mpsc::UnboundedReceiver<ConnectionId>,
    connections: HashMap<PeerKey, Vec<ConnectionId>>,
    waiting: HashMap<(PeerKey, Conversation), Waiting>,
}

/// Who waits for a lane, and on which connection it is being opened (`None`: still dialling).
#[derive(Default)]
struct Waiting {
    connection: Option<ConnectionId>,
    callers: Vec<oneshot::Sender<Result<Lane, NoLane>>>,
}

impl Switchboard {
    pub(crate) fn new(
        swarm: Swarm<Behaviour>,
        directory: Arc<Directory>,
        commands: mpsc::Receiver<Command>,
        cuts: mpsc::UnboundedReceiver<ConnectionId>,
    ) -> Self {
        Self { swarm, directory, commands, cuts, connections: HashMap::new(), waiting: HashMap::new() }
    }

    /// Runs until it is told to end, or nobody is left who could tell it anything.
    pub(crate) async fn run(mut self) {
        let done = loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Lane { peer, conversation, answer }) => self.want(peer, conversation, answer),
                    Some(Command::Shutdown { done }) => break Some(done),
                    None => break None,
                },
                Some(connection) = self.cuts.recv() => {
                    self.swarm.close_connection(connection);
                }
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        };
        drop(self);
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    fn want(
        &mut self,
        peer: PeerKey,
        conversation: Conversation,
        caller: oneshot::Sender<Result<Lane, NoLane>>,
    ) {
        if let Some(lane) = self.directory.lane(peer, conversation) {
            let _ = caller.send(Ok(lane));
            return;
        }
        let waiting = self.waiting.entry((peer, conversation)).or_default();
        waiting.callers.push(caller);
        if waiting.callers.len() > 1 {
            return;
        }
        match self.connections.get(&peer).and_then(|connections| connections.last()) {
            Some(connection) => {
                waiting.connection = Some(*connection);
                self.swarm.behaviour_mut().open_lane(peer, *connection, conversation);
            }
            None => self.dial(peer),
        }
    }

    fn dial(&mut self, peer: PeerKey) {
        let addresses = self.directory.addresses(peer);
        if addresses.is_empty() {
            return self.fail(peer, None, || NoLane::Failed(RequestError::NoAddress { peer }));
        }
        let options = DialOpts::peer_id(peer.to_peer_id())
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses)
            .build();
        match self.swarm.dial(options) {
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(error) => self.fail(peer, None, || NoLane::Failed(dial_failure(peer, &error))),
        }
    }

    fn on_event(&mut self, event: SwarmEvent<LaneEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_lane(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                if let Some(peer) = PeerKey::from_peer_id(&peer_id) {
                    self.on_connected(peer, connection_id);
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                if let Some(peer) = PeerKey::from_peer_id(&peer_id) {
                    tracing::debug!(?peer, ?cause, "connection closed");
                    self.on_disconnected(peer, connection_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer_id), error, .. } => {
                if let Some(peer) = PeerKey::from_peer_id(&peer_id) {
                    tracing::debug!(?peer, %error, "dial failed");
                    self.fail(peer, None, || NoLane::Failed(dial_failure(peer, &error)));
                }
            }
            SwarmEvent::IncomingConnectionError { error, send_back_addr, .. } => {
                tracing::debug!(from = %send_back_addr, %error, "connection refused");
            }
            _ => {}
        }
    }

    fn on_connected(&mut self, peer: PeerKey, connection: ConnectionId) {
        self.connections.entry(peer).or_default().push(connection);
        for ((_, conversation), waiting) in self.waiting.iter_mut().filter(|((of, _), _)| *of == peer) {
            if waiting.connection.is_none() {
                waiting.connection = Some(connection);
                self.swarm.behaviour_mut().open_lane(peer, connection, *conversation);
            }
        }
    }

    fn on_disconnected(&mut self, peer: PeerKey, connection: ConnectionId) {
        if let Some(connections) = self.connections.get_mut(&peer) {
            connections.retain(|other| *other != connection);
            if connections.is_empty() {
                self.connections.remove(&peer);
            }
        }
        self.fail(peer, Some(connection), || NoLane::ConnectionEnded);
        self.directory.drop_closed_lanes();
    }

    fn on_lane(&mut self, event: LaneEvent) {
        let LaneEvent { peer, connection, opened } = event;
        let Some(waiting) = self.waiting.remove(&(peer, opened.conversation)) else {
            return;
        };
        if waiting.connection != Some(connection) {
            self.waiting.insert((peer, opened.conversation), waiting);
            return;
        }
        if let Some(lane) = &opened.lane {
            self.directory.set_lane(peer, opened.conversation, lane.clone());
        }
        for caller in waiting.callers {
            let _ = caller.send(opened.lane.clone().ok_or(NoLane::ConnectionEnded));
        }
    }

    /// Tells those who wait for a lane of this peer on this connection (`None`: on a dial) that there is none.
    fn fail(&mut self, peer: PeerKey, connection: Option<ConnectionId>, why: impl Fn() -> NoLane) {
        let hit = |(of, _): &(PeerKey, Conversation), waiting: &mut Waiting| {
            *of == peer && waiting.connection == connection
        };
        for (_, waiting) in self.waiting.extract_if(hit) {
            for caller in waiting.callers {
                let _ = caller.send(Err(why()));
            }
        }
    }
}

fn dial_failure(peer: PeerKey, error: &DialError) -> RequestError {
    match error {
        DialError::Transport(failures) => {
            let wrong = failures.iter().find_map(|(_, failure)| match failure {
                TransportError::Other(error) => SecureError::wrong_peer(error),
                TransportError::MultiaddrNotSupported(_) => None,
            });
            match wrong {
                Some(found) => RequestError::WrongPeer { expected: peer, found },
                None => RequestError::Unreachable { peer },
            }
        }
        DialError::WrongPeerId { obtained, .. } => match PeerKey::from_peer_id(obtained) {
            Some(found) => RequestError::WrongPeer { expected: peer, found },
            None => RequestError::Unreachable { peer },
        },
        _ => RequestError::Unreachable { peer },
    }
}
