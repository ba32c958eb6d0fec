//! One member on one network, with open keys: what every use case begins with.

use std::sync::Arc;
use std::time::Duration;

use ihfs_core::codec::DecodeError;
use ihfs_core::crypto::keyring::Keyring;
use ihfs_core::crypto::sign::SigningKey;
use ihfs_core::ids::RecordId;
use ihfs_core::ids::{ChainId, MemberId, NodeId, Time};
use ihfs_core::ledger::state::{ConsortiumEntry, StateKey};
use ihfs_core::members::HandleProof;
use ihfs_core::placement::{Placement, PlacementRule};
use ihfs_net::{AddressError, Identity, Limits, Network, PeerKey, RequestError, StartError};
use tokio::runtime::Runtime;

use crate::call::Call;
use crate::devices::DeviceError;
use crate::home::{Home, HomeError, ParsedNetwork};
use crate::link::{AskError, Link};
use crate::openings::OpeningStore;
use crate::view::{Freshness, Trust, View, ViewError, decode_entry};

/// Why the network cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// HOME.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The runtime or the network library does not start.
    #[error("the network does not start: {0}")]
    Runtime(#[from] std::io::Error),
    /// The network library does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// An address of a node is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The saved view is damaged.
    #[error("the saved view of the ledger is damaged")]
    SavedView(#[from] DecodeError),
    /// The node knows this device as nobody's.
    #[error("this device was removed: the network does not know it any more")]
    Removed,
    /// The ledger could not be verified.
    #[error(transparent)]
    View(ViewError),
    /// Secrets of a newer generation could not be had.
    #[error(transparent)]
    Generation(#[from] Box<DeviceError>),
    /// The keys are those of another network.
    #[error("the keys belong to network {keys:?}, the folder to {home:?}")]
    OtherNetwork {
        /// The keyring's.
        keys: ChainId,
        /// The folder's.
        home: ChainId,
    },
}

impl From<ViewError> for ConnectError {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Ask(AskError::Network(RequestError::NotAdmitted { .. })) => Self::Removed,
            error => Self::View(error),
        }
    }
}

/// A member's device on the network. Clones are the same device.
#[derive(Clone)]
pub struct Client {
    pub(crate) keys: Arc<Keyring>,
    pub(crate) link: Link,
    pub(crate) view: View,
    pub(crate) openings: Arc<dyn OpeningStore>,
    pub(crate) handle: Option<HandleProof>,
    freshness: Freshness,
    /// Whether `keys` hold more than the keyring in HOME.
    pub(crate) has_learned: bool,
    seat: Option<Arc<Seat>>,
}

/// What a client that began at a HOME has beside the network, for as long as one of its clones is there.
struct Seat {
    home: Home,
    view: View,
    /// Last, so that it outlives what runs on it.
    _runtime: Runtime,
}

/// Who keeps records, by the newest block.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) placement: Placement,
    pub(crate) consortium: ConsortiumEntry,
}

impl Client {
    /// Connects with the keys of `home`, and verifies the newest block.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(
        home: &Home,
        keys: Arc<Keyring>,
        openings: Box<dyn OpeningStore>,
    ) -> Result<Self, ConnectError> {
        let parsed = home.network()?.parse()?;
        if parsed.chain != keys.chain {
            return Err(ConnectError::OtherNetwork { keys: keys.chain, home: parsed.chain });
        }
        let runtime = start_runtime()?;
        let link = start_link(&runtime, &keys.device, &parsed)?;
        let trust = match home.view()? {
            Some(saved) => Trust::from_bytes(&saved)?,
            None => Trust::begin(parsed.chain, &parsed.genesis)?,
        };
        let mut client = Self::over(link, keys, trust, openings, parsed.handle)?;
        let seat = Seat { home: home.clone(), view: client.view.clone(), _runtime: runtime };
        match seat.save_view() {
            // Reading goes on where nothing can be written; what could not be saved is verified again next time.
            Err(HomeError::Io { source, .. }) if takes_nothing(&source) => {}
            saved => saved?,
        }
        client.seat = Some(Arc::new(seat));
        Ok(client)
    }

    /// Works over a link that stands already.
    ///
    /// # Errors
    /// [`ConnectError::Removed`], [`ConnectError::View`], [`ConnectError::Generation`].
    pub fn over(
        link: Link,
        keys: Arc<Keyring>,
        trust: Trust,
        openings: Box<dyn OpeningStore>,
        handle: Option<HandleProof>,
    ) -> Result<Self, ConnectError> {
        let view = View::new(link.clone(), trust, false);
        let freshness = view.refresh()?;
        let openings = Arc::from(openings);
        let has_learned = false;
        let mut client = Self { keys, link, view, openings, handle, freshness, has_learned, seat: None };
        client.catch_up().map_err(Box::new)?;
        Ok(client)
    }

    /// The same client, whose every wait keeps to `call`; also those of what it opens.
    #[must_use]
    pub fn under(&self, call: &Call) -> Self {
        let link = self.link.under(call.clone());
        Self { view: self.view.over(link.clone()), link, ..self.clone() }
    }

    /// The same client, whose every wait ends within `time` from now.
    #[must_use]
    pub fn within(&self, time: Duration) -> Self {
        self.under(&self.link.call().clone().within(time))
    }

    /// How new the ledger was when the client connected.
    pub const fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// The verified ledger.
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// The chain.
    pub fn chain(&self) -> ChainId {
        self.keys.chain
    }

    /// The member.
    pub fn member(&self) -> MemberId {
        self.keys.member
    }

    /// Saves what was verified, so that no older ledger is believed later.
    ///
    /// # Errors
    /// [`HomeError::Io`], [`HomeError::Busy`].
    pub fn save_view(&self) -> Result<(), HomeError> {
        self.seat.as_ref().map_or(Ok(()), |seat| seat.save_view())
    }

    /// Writes down the secrets of generations that `sealed`, the keyring in HOME under `passphrase`, did not hold:
    /// later starts need not ask for them. A keyring that was replaced meanwhile is left alone.
    ///
    /// # Errors
    /// [`ConnectError::Home`], [`ConnectError::Generation`]. The next start asks again.
    pub fn keep_learned(&self, sealed: &[u8], passphrase: &[u8]) -> Result<(), ConnectError> {
        let Some(Seat { home, .. }) = self.seat.as_deref().filter(|_| self.has_learned) else {
            return Ok(());
        };
        let anew = self.keys.seal(passphrase, rand::random()).map_err(DeviceError::from).map_err(Box::new)?;
        Ok(home.replace_keyring(sealed, &anew)?)
    }

    pub(crate) fn places(&self) -> Result<Places, ViewError> {
        let mut entries = self.view.entries(&[StateKey::Consortium, StateKey::Placement])?;
        let placement = decode_entry(entries.pop().flatten())?.ok_or(DecodeError::Malformed)?;
        let consortium = decode_entry(entries.pop().flatten())?.ok_or(DecodeError::Malformed)?;
        Ok(Places { placement, consortium })
    }
}

impl Seat {
    fn save_view(&self) -> Result<(), HomeError> {
        self.home.save_view(&self.view.trust())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // What could not be saved is verified again next time.
        let _ = self.save_view();
    }
}

impl Places {
    /// The nodes that keep `record`, whose entry names `home`.
    pub(crate) fn replicas(&self, record: RecordId, home: Option<MemberId>) -> Vec<NodeId> {
        let rule = PlacementRule { home, regions: &self.consortium.policy.regions };
        self.placement.replicas(record, usize::from(self.consortium.policy.replicas), &rule)
    }
}

/// The time by this machine's clock.
pub fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Whether the disk is full, or not to be written to.
fn takes_nothing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}

pub(crate) fn start_runtime() -> Result<Runtime, std::io::Error> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("ihfs-net").enable_all().build()
}

pub(crate) fn start_link(
    runtime: &Runtime,
    key: &SigningKey,
    parsed: &ParsedNetwork,
) -> Result<Link, ConnectError> {
    let identity = Identity::from_seed(&key.network_seed());
    // A client is asked nothing: whoever asks is told so.
    let (network, _incoming) = runtime.block_on(Network::start(identity, &[], Limits::default()))?;
    let _entered = runtime.enter();
    for (node, addresses) in &parsed.nodes {
        for address in addresses {
            network.add_address_text(PeerKey::from(*node), address)?;
        }
    }
    let nodes = parsed.nodes.iter().map(|(node, _)| *node).collect();
    Ok(Link::new(runtime.handle().clone(), network, nodes))
}
