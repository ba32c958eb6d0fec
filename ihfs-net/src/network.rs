//! The door of this crate: start, name addresses, ask, shut down.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::upgrade::Version;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{Config, Swarm, SwarmEvent};
use libp2p::{Multiaddr, TransportError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::behaviour::Behaviour;
use crate::frame::Refusal;
use crate::gate::{Admission, Gate};
use crate::incoming::Incoming;
use crate::lane::{Lane, LaneError};
use crate::limits::Limits;
use crate::message::{Conversation, Message};
use crate::peer::{Identity, PeerKey};
use crate::switchboard::{CONNECTION_IDLE_MAX, Command, Directory, NoLane, Switchboard};
use crate::tls::{Tls, TlsSetupError};
use crate::transport;
use crate::twin::TwinNetwork;

/// Lane requests that wait for the switchboard, which answers in microseconds.
const COMMANDS_WAITING: usize = 64;
/// A socket is bound at once or never.
const LISTEN_TIME_MAX: Duration = Duration::from_secs(5);
/// How often a request looks for another lane when one closed before taking it.
const LANES_TRIED_MAX: usize = 3;

/// A peer's end of the network. Cheap to clone; the last clone that goes ends it.
#[derive(Clone)]
pub struct Network(Kind);

#[derive(Clone)]
enum Kind {
    Real(Arc<RealNetwork>),
    Twin(TwinNetwork),
}

struct RealNetwork {
    key: PeerKey,
    listening: Vec<SocketAddr>,
    gate: Arc<Gate>,
    directory: Arc<Directory>,
    commands: Mutex<Option<mpsc::Sender<Command>>>,
}

impl Network {
    /// Starts a network of this identity. `listen` may be empty (a client) and may name port 0 (the
    /// system chooses; see [`Self::listen_addresses`]). Everyone is a guest until [`Self::allow`].
    ///
    /// # Errors
    /// [`StartError`]: an address cannot be listened on, or TLS could not be set up.
    pub async fn start(
        identity: Identity,
        listen: &[SocketAddr],
        limits: Limits,
    ) -> Result<(Self, Incoming), StartError> {
        let key = identity.peer_key();
        let gate = Arc::new(Gate::new(&limits));
        let (requests, incoming) = mpsc::channel(limits.requests_waiting);
        let (cut, cuts) = mpsc::unbounded_channel();
        let behaviour = Behaviour::new(limits, gate.clone(), requests, cut);
        let config = Config::with_tokio_executor()
            .with_idle_connection_timeout(CONNECTION_IDLE_MAX)
            // The name of a conversation travels with its first request: no round trip.
            .with_substream_upgrade_protocol_override(Version::V1Lazy);
        let transport = transport::build(Tls::new(&identity)?);
        let mut swarm = Swarm::new(transport, behaviour, key.to_peer_id(), config);
        let listening = listen_on(&mut swarm, listen).await?;
        let directory = Arc::new(Directory::default());
        let (commands, commanded) = mpsc::channel(COMMANDS_WAITING);
        tokio::spawn(Switchboard::new(swarm, directory.clone(), commanded, cuts).run());
        let commands = Mutex::new(Some(commands));
        let real = RealNetwork { key, listening, gate, directory, commands };
        Ok((Self(Kind::Real(Arc::new(real))), Incoming::new(incoming)))
    }

    pub(crate) fn of_twin(twin: TwinNetwork) -> Self {
        Self(Kind::Twin(twin))
    }

    /// The public key of this end.
    pub fn key(&self) -> PeerKey {
        match &self.0 {
            Kind::Real(real) => real.key,
            Kind::Twin(twin) => twin.key(),
        }
    }

    /// Where this end listens, with the ports that the system chose. Empty for a client or a twin.
    pub fn listen_addresses(&self) -> Vec<SocketAddr> {
        match &self.0 {
            Kind::Real(real) => real.listening.clone(),
            Kind::Twin(_) => Vec::new(),
        }
    }

    /// Adds an address at which this peer may be reached. Eight are kept, the newest; all are tried.
    pub fn add_address(&self, peer: PeerKey, address: SocketAddr) {
        if let Kind::Real(real) = &self.0 {
            real.directory.add_address(peer, multiaddr(address));
        }
    }

    /// The same from text: `192.0.2.1:4001`, or a libp2p address of an IP and a TCP port.
    ///
    /// # Errors
    /// [`AddressError`] when it is neither.
    pub fn add_address_text(&self, peer: PeerKey, address: &str) -> Result<(), AddressError> {
        let not_an_address = || AddressError { found: address.to_owned() };
        let address = match address.parse::<SocketAddr>() {
            Ok(address) => address,
            Err(_) => address.parse().ok().as_ref().and_then(socket_addr).ok_or_else(not_an_address)?,
        };
        self.add_address(peer, address);
        Ok(())
    }

    /// Sets who may talk. It is asked for every request, so a change in what it looks at counts at once.
    pub fn allow(&self, policy: impl Fn(PeerKey) -> Admission + Send + Sync + 'static) {
        match &self.0 {
            Kind::Real(real) => real.gate.set_policy(Arc::new(policy)),
            Kind::Twin(twin) => twin.allow(Arc::new(policy)),
        }
    }

    /// Asks a peer and waits for its answer, at most until the deadline. Dials if need be.
    ///
    /// # Errors
    /// [`RequestError`]. After `TimedOut` and `Closed` the peer may have acted on the request;
    /// after the others it has not.
    pub async fn request(
        &self,
        peer: PeerKey,
        conversation: Conversation,
        message: Message,
        deadline: Duration,
    ) -> Result<Message, RequestError> {
        if !message.fits() {
            return Err(RequestError::TooLarge { found: message.size_bytes() });
        }
        let asked = async {
            match &self.0 {
                Kind::Real(real) => real.request(peer, conversation, message).await,
                Kind::Twin(twin) => twin.request(peer, conversation, message).await,
            }
        };
        tokio::time::timeout(deadline, asked).await.unwrap_or(Err(RequestError::TimedOut { peer, deadline }))
    }

    /// Ends this network: connections close, requests under way end with an error, and the ports
    /// are free when this returns.
    pub async fn shutdown(self) {
        match self.0 {
            Kind::Real(real) => real.shutdown().await,
            Kind::Twin(twin) => twin.shutdown(),
        }
    }
}

impl RealNetwork {
    async fn request(
        &self,
        peer: PeerKey,
        conversation: Conversation,
        message: Message,
    ) -> Result<Message, RequestError> {
        let sent = message.size_bytes();
        for _ in 0..LANES_TRIED_MAX {
            let lane = match self.lane(peer, conversation).await {
                Ok(lane) => lane,
                Err(NoLane::ConnectionEnded) => continue,
                Err(NoLane::Failed(error)) => return Err(error),
            };
            match lane.ask(message.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(LaneError::NotSent) => {}
                Err(LaneError::Lost) => return Err(RequestError::Closed { peer }),
                Err(LaneError::Refused(refusal)) => return Err(RequestError::refused(peer, refusal, sent)),
            }
        }
        Err(RequestError::Unreachable { peer })
    }

    async fn lane(&self, peer: PeerKey, conversation: Conversation) -> Result<Lane, NoLane> {
        if let Some(lane) = self.directory.lane(peer, conversation) {
            return Ok(lane);
        }
        let ended = || NoLane::Failed(RequestError::ShutDown);
        let commands = self.commands().clone().ok_or_else(ended)?;
        let (answer, answered) = oneshot::channel();
        let command = Command::Lane { peer, conversation, answer };
        commands.send(command).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    fn commands(&self) -> std::sync::MutexGuard<'_, Option<mpsc::Sender<Command>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn shutdown(&self) {
        let Some(commands) = self.commands().take() else {
            return;
        };
        let (done, ended) = oneshot::channel();
        if commands.send(Command::Shutdown { done }).await.is_ok() {
            let _ = ended.await;
        }
    }
}

async fn listen_on(
    swarm: &mut Swarm<Behaviour>,
    listen: &[SocketAddr],
) -> Result<Vec<SocketAddr>, StartError> {
    let mut listening = Vec::new();
    for address in listen.iter().copied() {
        let cannot = |source| StartError::CannotListen { address, source };
        let listener = swarm.listen_on(multiaddr(address)).map_err(|error| match error {
            TransportError::Other(error) => cannot(error),
            TransportError::MultiaddrNotSupported(_) => cannot(std::io::ErrorKind::Unsupported.into()),
        })?;
        let deadline = Instant::now() + LISTEN_TIME_MAX;
        loop {
            let event = tokio::time::timeout_at(deadline, swarm.select_next_some()).await;
            match event.map_err(|_| cannot(std::io::ErrorKind::TimedOut.into()))? {
                SwarmEvent::NewListenAddr { listener_id, address } if listener_id == listener => {
                    listening.extend(socket_addr(&address));
                    break;
                }
                SwarmEvent::ListenerClosed { listener_id, reason, .. } if listener_id == listener => {
                    return Err(cannot(reason.err().unwrap_or(std::io::ErrorKind::AddrInUse.into())));
                }
                _ => {}
            }
        }
    }
    Ok(listening)
}

fn multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

fn socket_addr(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// Why a network did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken, or not one of this machine.
    #[error("cannot listen on {address}")]
    CannotListen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// TLS could not be set up.
    #[error("TLS could not be set up")]
    Tls(#[from] TlsSetupError),
}

/// Text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no address of an IP and a TCP port")]
pub struct AddressError {
    /// The text.
    pub found: String,
}

/// Why a request got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No address is known, and the peer has not connected by itself.
    #[error("no address is known for {peer}")]
    NoAddress {
        /// Who was asked.
        peer: PeerKey,
    },
    /// Nothing answers at any of its addresses, or the connection does not come about.
    #[error("{peer} cannot be reached")]
    Unreachable {
        /// Who was asked.
        peer: PeerKey,
    },
    /// Somebody else answers at its address; nothing was sent.
    #[error("{found} answers where {expected} was expected")]
    WrongPeer {
        /// Who was asked.
        expected: PeerKey,
        /// Who answered, proved by its key.
        found: PeerKey,
    },
    /// No answer within the deadline; the peer may have acted on the request.
    #[error("{peer} did not answer within {deadline:?}")]
    TimedOut {
        /// Who was asked.
        peer: PeerKey,
        /// How long it had.
        deadline: Duration,
    },
    /// The connection ended before the answer; the peer may have acted on the request.
    #[error("the connection to {peer} ended before the answer")]
    Closed {
        /// Who was asked.
        peer: PeerKey,
    },
    /// Header or body is over the limit of a frame ([`HEADER_BYTES_MAX`](crate::HEADER_BYTES_MAX),
    /// [`BODY_BYTES_MAX`](crate::BODY_BYTES_MAX)), or over what the peer takes from a guest.
    #[error("a message of {found} bytes is too large")]
    TooLarge {
        /// Bytes of header and body together.
        found: usize,
    },
    /// The peer has too much to do, or takes no more from this sender now.
    #[error("{peer} is busy")]
    Busy {
        /// Who was asked.
        peer: PeerKey,
    },
    /// The peer does not hold this conversation with this sender.
    #[error("{peer} does not admit this sender")]
    NotAdmitted {
        /// Who was asked.
        peer: PeerKey,
    },
    /// The peer took the request and gave no answer.
    #[error("{peer} took the request and gave no answer")]
    Unanswered {
        /// Who was asked.
        peer: PeerKey,
    },
    /// The peer serves no requests.
    #[error("{peer} serves no requests")]
    NotServed {
        /// Who was asked.
        peer: PeerKey,
    },
    /// This end was shut down.
    #[error("the network was shut down")]
    ShutDown,
}

impl RequestError {
    pub(crate) fn refused(peer: PeerKey, refusal: Refusal, sent: usize) -> Self {
        match refusal {
            Refusal::Busy => Self::Busy { peer },
            Refusal::NotAdmitted => Self::NotAdmitted { peer },
            Refusal::Unanswered => Self::Unanswered { peer },
            Refusal::NotServed => Self::NotServed { peer },
            Refusal::TooLarge => Self::TooLarge { found: sent },
        }
    }
}
