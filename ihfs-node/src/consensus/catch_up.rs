//! Whom to ask for decided blocks, and the blocks that came: how a validator that lags catches up.
//!
//! Keeps no blocks unproved: the host verifies each certificate before it commits.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use ihfs_core::ids::{Height, NodeId};

use super::message::DecidedBlock;

/// Most peers whose height is remembered: as many as a validator set may have.
const CLAIMS_MAX: usize = 256;

/// The state of catching up.
#[derive(Debug, Default)]
pub(crate) struct CatchUp {
    claims: BTreeMap<NodeId, Height>,
    asked: Option<NodeId>,
    turn: Option<NodeId>,
    incoming: VecDeque<DecidedBlock>,
    source: Option<NodeId>,
}

impl CatchUp {
    /// A peer says, or shows, that it has committed `height`. `true` when that is news to act on.
    pub(crate) fn claim(&mut self, peer: NodeId, height: Height, newest: Height) -> bool {
        if height <= newest || (self.claims.len() >= CLAIMS_MAX && !self.claims.contains_key(&peer)) {
            return false;
        }
        let claimed = self.claims.entry(peer).or_insert(height);
        *claimed = height.max(*claimed);
        self.asked.is_none() && self.incoming.is_empty()
    }

    /// The peer that was asked did not answer in time, or badly: it is not believed until it claims anew.
    pub(crate) fn give_up_on_asked(&mut self) {
        if let Some(peer) = self.asked.take() {
            self.claims.remove(&peer);
        }
    }

    /// The next peer to ask, each in turn so that one liar cannot hold it up.
    pub(crate) fn ask(&mut self, newest: Height) -> Option<NodeId> {
        self.claims.retain(|_, height| *height > newest);
        let after = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.claims.range((after, Bound::Unbounded)).next().or_else(|| self.claims.iter().next());
        let peer = next.map(|(peer, _)| *peer);
        self.turn = peer.or(self.turn);
        self.asked = peer;
        peer
    }

    /// Takes an answer in. `false`: this peer was not asked.
    pub(crate) fn answer(&mut self, from: NodeId, blocks: Vec<DecidedBlock>) -> bool {
        if self.asked != Some(from) {
            return false;
        }
        if blocks.is_empty() {
            self.give_up_on_asked();
            return true;
        }
        self.asked = None;
        self.source = Some(from);
        self.incoming = blocks.into();
        true
    }

    /// The next block to verify, above `newest`.
    pub(crate) fn next_block(&mut self, newest: Height) -> Option<DecidedBlock> {
        loop {
            let next = self.incoming.pop_front()?;
            if next.block.header.height > newest {
                return Some(next);
            }
        }
    }

    /// A block did not verify: neither the rest nor its source is believed.
    pub(crate) fn distrust_source(&mut self) {
        self.incoming.clear();
        if let Some(peer) = self.source.take() {
            self.claims.remove(&peer);
        }
    }

    /// Whether a question is open.
    pub(crate) const fn is_asking(&self) -> bool {
        self.asked.is_some()
    }
}
