//! Carries consensus messages to the other validators, over the node's one network.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ihfs_core::ids::NodeId;
use ihfs_core::ledger::state::{NodeEntry, StateKey};
use ihfs_net::{Conversation, Message, Network};
use tokio::sync::Semaphore;

use crate::consensus::driver::Links;
use crate::ledger::Ledger;

/// Messages under way at once; more are lost, as a network may lose them.
const UNDER_WAY_MAX: usize = 512;
/// How long a message may take to be taken.
const SEND_TIME_MAX: Duration = Duration::from_secs(10);

/// Links to the validators on the ledger.
pub(super) struct PeerLinks {
    ledger: Arc<Ledger>,
    network: Network,
    me: NodeId,
    under_way: Arc<Semaphore>,
    runtime: tokio::runtime::Handle,
}

impl PeerLinks {
    pub(super) fn new(ledger: Arc<Ledger>, network: Network, me: NodeId) -> Self {
        let under_way = Arc::new(Semaphore::new(UNDER_WAY_MAX));
        Self { ledger, network, me, under_way, runtime: tokio::runtime::Handle::current() }
    }

    fn others(&self) -> Vec<NodeId> {
        let Ok(consortium) = self.ledger.snapshot().consortium() else { return Vec::new() };
        let nodes = consortium.next.as_slice().iter().map(|validator| validator.node);
        nodes.filter(|node| *node != self.me).collect()
    }

    fn introduce(&self, node: NodeId) {
        let entry = self.ledger.snapshot().read::<NodeEntry>(&StateKey::Node(node));
        for address in entry.ok().flatten().map(|entry| entry.addresses).unwrap_or_default() {
            // An address that cannot be read is a hint less.
            let _ = self.network.add_address_text(node.into(), &address);
        }
    }
}

impl Links for PeerLinks {
    fn broadcast(&self, bytes: Bytes) {
        for node in self.others() {
            self.send(node, bytes.clone());
        }
    }

    fn send(&self, to: NodeId, bytes: Bytes) {
        let Ok(place) = Arc::clone(&self.under_way).try_acquire_owned() else { return };
        self.introduce(to);
        let network = self.network.clone();
        self.runtime.spawn(async move {
            let message = Message { header: Bytes::new(), body: bytes };
            let sent = network.request(to.into(), Conversation::Consensus, message, SEND_TIME_MAX).await;
            if let Err(error) = sent {
                tracing::debug!(%error, "consensus message lost");
            }
            drop(place);
        });
    }
}
