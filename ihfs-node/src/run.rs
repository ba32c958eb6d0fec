//! The composition root: what a node is made of, in the order in which it starts and ends.

pub mod folder;
mod links;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ihfs_core::ids::{ChainId, NodeId, Time};
use ihfs_core::ledger::genesis::GenesisError;
use ihfs_net::{Incoming, Limits, Network, Twin};
use tokio::task::JoinHandle;

use crate::config::{Config, ConfigError};
use crate::consensus::StartError;
use crate::consensus::driver::{self, DriverError, LogError};
use crate::custody::{Custody, CustodyFault};
use crate::keys::{KeyBytes, KeyFileError, NodeKey};
use crate::ledger::{Ledger, LedgerApplication, LedgerError};
use crate::pins::Pinning;
use crate::serve::access::Roster;
use crate::serve::directory::{Directory, DirectoryError};
use crate::serve::status::clock_alarm;
use crate::serve::{Clock, Parts, Service};
use crate::store::{OpenStoreError, Store};

pub use folder::{DataFolder, FolderError, NodeFile};

/// How often the clock is compared with the newest header.
const CLOCK_CHECK_EVERY: Duration = Duration::from_secs(60);
/// How long an end may take before the node is left as it is; everything acknowledged is durable at any time.
const STOP_TIME_MAX: Duration = Duration::from_secs(20);

/// How often it is looked whether work has ended.
const RELEASE_CHECK_EVERY: Duration = Duration::from_millis(1);

/// How a node is started.
#[derive(Clone)]
pub struct Options {
    /// The data folder that `init` made.
    pub data: PathBuf,
    /// Where its messages travel.
    pub transport: Transport,
    /// This machine's clock.
    pub clock: fn() -> Time,
}

impl Options {
    /// A node over sockets, by its configuration.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into(), transport: Transport::Sockets, clock: driver::system_clock }
    }
}

/// Where a node's messages travel.
#[derive(Clone)]
pub enum Transport {
    /// Over TCP, where the configuration says.
    Sockets,
    /// Inside this process, for tests.
    Twin(Twin),
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data folder is not one, is in use, or of another format.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key file cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The genesis document founds nothing.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The ledger does not open.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
    /// The custody database does not open.
    #[error(transparent)]
    Custody(#[from] CustodyFault),
    /// The directory does not open.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The network does not start.
    #[error(transparent)]
    Network(#[from] ihfs_net::StartError),
    /// The consensus log cannot be used.
    #[error(transparent)]
    ConsensusLog(#[from] LogError),
    /// Consensus cannot go on from its log.
    #[error(transparent)]
    Consensus(#[from] StartError),
    /// The data folder cannot be written.
    #[error("the node's file cannot be written")]
    NodeFile(#[source] io::Error),
}

/// A running node. Dropping it leaves the node running; end it with [`Self::shutdown`] or [`Self::kill`].
pub struct NodeHandle {
    /// The node.
    pub node: NodeId,
    /// Its chain.
    pub chain: ChainId,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    ledger: Arc<Ledger>,
    network: Network,
    tasks: Vec<JoinHandle<()>>,
    consensus: driver::Task<LedgerError>,
    pinning: Arc<Pinning>,
    custody: Arc<Custody>,
    folder: DataFolder,
}

/// Starts a node on the current tokio runtime. When this returns it answers.
///
/// # Errors
/// [`NodeError`].
pub async fn start(options: Options) -> Result<NodeHandle, NodeError> {
    let folder = DataFolder::open(&options.data)?;
    let config = Config::read(folder.path())?;
    let secret = KeyBytes::read(&folder.node_key())?;
    let key = Arc::new(secret.key());
    let genesis = folder.genesis()?;

    let ledger = Arc::new(Ledger::open(&folder.file("ledger.redb"), genesis, options.clock)?);
    let store = Store::open(&folder.file("store"), config.store.options())?;
    let custody = Custody::open(&folder.file("custody.redb"), &ledger, Arc::clone(&key), options.clock)?;
    let directory = Arc::new(Directory::open(&folder.file("directory.redb"))?);
    if let Some((member, proof)) = folder.hospital_handle() {
        directory.add(member, &proof)?;
    }
    let roster = Roster::follow(&ledger);
    let (pinning, heads) = Pinning::follow(&ledger, store.clone(), key.node(), options.clock);
    let clock = Clock::new(options.clock);

    let (network, incoming) = open_network(&options, &config, &folder, &secret, &key).await?;
    let admitting = Arc::clone(&roster);
    network.allow(move |peer| admitting.admission(peer));
    let service = Arc::new(Service::new(Parts {
        ledger: Arc::clone(&ledger),
        store,
        custody: Arc::clone(&custody),
        roster,
        directory,
        pinning: Arc::clone(&pinning),
        key: Arc::clone(&key),
        clock,
        unanchored_bytes_max: config.store.unanchored_bytes(),
    }));
    follow_uploads(&ledger, &service);
    let consensus = start_consensus(&options, &folder, &ledger, &network, &secret)?;

    let tasks = vec![
        tokio::spawn(service.run(incoming)),
        tokio::spawn(Arc::clone(&custody).run()),
        tokio::spawn(Arc::clone(&pinning).run(heads)),
        tokio::spawn(watch_clock(Arc::clone(&ledger), clock)),
    ];
    let addresses = network.listen_addresses();
    let (node, chain) = (key.node(), ledger.chain());
    folder.write_node_file(&NodeFile::new(node, chain, &addresses, &config)).map_err(NodeError::NodeFile)?;
    tracing::info!(%node, %chain, ?addresses, height = %ledger.snapshot().newest().height, "node is ready");
    Ok(NodeHandle { node, chain, addresses, ledger, network, tasks, consensus, pinning, custody, folder })
}

async fn open_network(
    options: &Options,
    config: &Config,
    folder: &DataFolder,
    secret: &KeyBytes,
    key: &NodeKey,
) -> Result<(Network, Incoming), NodeError> {
    let limits = Limits::default();
    match &options.transport {
        Transport::Twin(twin) => Ok(twin.network(key.node().into(), limits)),
        Transport::Sockets => {
            // A port that the system chose is kept, so that those who know it find the node again.
            let kept = folder::kept_addresses(folder.path(), &config.listen);
            if kept != config.listen
                && let Ok(started) = Network::start(secret.identity(), &kept, limits).await
            {
                return Ok(started);
            }
            Ok(Network::start(secret.identity(), &config.listen, limits).await?)
        }
    }
}

fn follow_uploads(ledger: &Arc<Ledger>, service: &Arc<Service>) {
    let follower = Arc::downgrade(service);
    ledger.on_decided(move |decided| {
        if let Some(service) = follower.upgrade() {
            service.unanchored.follow(decided);
        }
    });
}

fn start_consensus(
    options: &Options,
    folder: &DataFolder,
    ledger: &Arc<Ledger>,
    network: &Network,
    secret: &KeyBytes,
) -> Result<driver::Task<LedgerError>, NodeError> {
    let links = links::PeerLinks::new(Arc::clone(ledger), network.clone(), secret.key().node());
    let signing = ihfs_core::crypto::sign::SigningKey::from_seed(ihfs_core::crypto::secret::Secret::new(
        *secret.expose(),
    ));
    let spawned = driver::spawn(
        crate::consensus::Config::new(ledger.chain()),
        signing,
        LedgerApplication::new(Arc::clone(ledger)),
        links,
        &folder.file("consensus.redb"),
        options.clock,
    );
    let (handle, task) = spawned.map_err(|error| match error {
        DriverError::Log(error) => NodeError::ConsensusLog(error),
        DriverError::Start(error) => NodeError::Consensus(error),
        DriverError::Commit { .. } | DriverError::Halted(_) => unreachable!("these end a task that runs"),
    })?;
    ledger.set_consensus(Some(handle));
    Ok(task)
}

impl NodeHandle {
    /// Waits until consensus ends by itself, which it does only when something is broken.
    pub async fn failed(&mut self) -> String {
        match (&mut self.consensus).await {
            Ok(Ok(())) => "consensus ended".to_owned(),
            Ok(Err(error)) => {
                self.ledger.note(&error);
                format!("consensus ended: {error}")
            }
            Err(error) => format!("consensus ended: {error}"),
        }
    }

    /// Ends what is left of a node whose consensus has [`failed`](Self::failed).
    pub async fn stop_failed(self) {
        let Self { ledger, network, tasks, folder, .. } = self;
        ledger.set_consensus(None);
        network.shutdown().await;
        end(tasks).await;
        folder.remove_node_file();
    }

    /// Ends the node in order: no more requests, then consensus, then the workers.
    pub async fn shutdown(self) {
        let Self { ledger, network, tasks, mut consensus, pinning, custody, folder, .. } = self;
        drop((pinning, custody));
        network.shutdown().await;
        ledger.set_consensus(None);
        if tokio::time::timeout(STOP_TIME_MAX, &mut consensus).await.is_err() {
            tracing::warn!("consensus did not end in time");
            consensus.abort();
        }
        end(tasks).await;
        released(ledger).await;
        folder.remove_node_file();
        tracing::info!("node has ended");
    }

    /// Ends the node as a crash does, as far as one process can: nothing is finished, nothing is written.
    pub async fn kill(self) {
        let Self { ledger, network, tasks, consensus, pinning, custody, folder, .. } = self;
        drop((pinning, custody));
        consensus.abort();
        let _ = consensus.await;
        end(tasks).await;
        ledger.set_consensus(None);
        network.shutdown().await;
        released(ledger).await;
        drop(folder);
    }

    /// What keeps pins in step, for tests and for those who look on.
    pub const fn pinning(&self) -> &Arc<Pinning> {
        &self.pinning
    }

    /// Key shares, for tests and for those who look on.
    pub const fn custody(&self) -> &Arc<Custody> {
        &self.custody
    }

    /// The ledger, for tests and for those who look on.
    pub const fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }
}

/// Waits until work that could not be cut short, on the blocking pool, has let go of the databases: whoever starts
/// the node again in this process must find them closed.
async fn released(ledger: Arc<Ledger>) {
    let all = async {
        while Arc::strong_count(&ledger) > 1 {
            tokio::time::sleep(RELEASE_CHECK_EVERY).await;
        }
    };
    if tokio::time::timeout(STOP_TIME_MAX, all).await.is_err() {
        tracing::warn!("some work did not end in time");
    }
}

async fn end(tasks: Vec<JoinHandle<()>>) {
    for task in &tasks {
        task.abort();
    }
    for task in tasks {
        // Aborted on purpose.
        let _ = task.await;
    }
}

/// Says so in the log when this machine's clock and the ledger's time do not fit.
async fn watch_clock(ledger: Arc<Ledger>, clock: Clock) {
    let mut newest = ledger.newest();
    loop {
        let time = newest.borrow_and_update().time;
        if let Some(alarm) = clock_alarm(time, clock.now(), clock.steady()) {
            tracing::error!(ledger = time.0, clock = clock.now().0, "{alarm}");
        }
        tokio::select! {
            () = tokio::time::sleep(CLOCK_CHECK_EVERY) => {}
            changed = newest.changed() => if changed.is_err() { return },
        }
    }
}
