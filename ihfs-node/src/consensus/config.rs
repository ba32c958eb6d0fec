//! What a host is told once: its chain and how long it waits.

use std::time::Duration;

use arc_malachitebft_core_types::LinearTimeouts;
use ihfs_core::ids::ChainId;

/// What a host is told once.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The chain.
    pub chain: ChainId,
    /// Wait for a proposal in round 0. Later rounds wait longer, by half of it each.
    pub proposal_wait: Duration,
    /// Wait for more votes in round 0 once a quorum has come. Later rounds wait longer.
    pub votes_wait: Duration,
    /// No wait inside a round is longer.
    pub wait_max: Duration,
    /// How often the newest height is told to the other validators.
    pub tell_every: Duration,
    /// How long a peer may take to answer with decided blocks.
    pub answer_wait: Duration,
}

impl Config {
    /// Waits that fit hospitals on one continent.
    pub const fn new(chain: ChainId) -> Self {
        Self {
            chain,
            proposal_wait: Duration::from_secs(2),
            votes_wait: Duration::from_millis(500),
            wait_max: Duration::from_secs(60),
            tell_every: Duration::from_secs(5),
            answer_wait: Duration::from_secs(10),
        }
    }

    pub(crate) fn timeouts(&self) -> LinearTimeouts {
        LinearTimeouts {
            propose: self.proposal_wait,
            propose_delta: self.proposal_wait / 2,
            prevote: self.votes_wait,
            prevote_delta: self.votes_wait / 2,
            precommit: self.votes_wait,
            precommit_delta: self.votes_wait / 2,
            rebroadcast: self.proposal_wait + self.votes_wait,
            max_timeout: self.wait_max,
        }
    }
}
