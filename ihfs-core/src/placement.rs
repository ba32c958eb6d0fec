//! Placement: which nodes keep a record, and which custodians a grant's key shares.
//!
//! Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights by the logarithm of Schindelhauer
//! and Schomaker 2005) in integers alone, so that every machine finds the same nodes. A node that
//! comes or goes moves only what it wins or loses.

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::ids::{GrantId, MemberId, NodeId, RecordId};
use crate::ledger::certificate::ValidatorSet;

/// Most nodes of a network. The table is one entry of the state and is read by every anchor.
pub const NODES_MAX: usize = 256;
/// Most bytes of an encoded table.
pub const PLACEMENT_BYTES_MAX: usize = 32 << 10;
/// Most custodians of one grant.
pub const CUSTODIANS_MAX: usize = 5;
/// Bits behind the point of the logarithm.
const LOG_BITS: u32 = 32;

/// Number of a region: a set of zones under one law, named in the consortium's policy.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Region(pub u32);

/// One node that takes records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct PlacedNode {
    /// Its key.
    pub node: NodeId,
    /// Its zone: the hospital that runs it.
    pub zone: MemberId,
    /// The region that its zone lies in.
    pub region: Region,
    /// Its share of records relative to the others, at least 1.
    pub weight: u32,
}

/// The nodes that take records, in ascending order of their keys, and how often that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Placement {
    /// Advances with every change of the nodes.
    pub version: u64,
    /// The nodes, ascending by key.
    pub nodes: Vec<PlacedNode>,
}

/// What is asked of the places of one record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacementRule<'a> {
    /// The zone that keeps the first copy, where it has a node.
    pub home: Option<MemberId>,
    /// The regions that the record may lie in; none named means all.
    pub regions: &'a [Region],
}

impl Placement {
    /// The nodes that keep `record`: at most `wanted`, one a zone, the first choice first.
    pub fn replicas(&self, record: RecordId, wanted: usize, rule: &PlacementRule<'_>) -> Vec<NodeId> {
        let allowed = |node: &PlacedNode| rule.regions.is_empty() || rule.regions.contains(&node.region);
        let mut order = self.order("IHFS 1 placement", record.as_bytes(), allowed);
        if let Some(place) = order.iter().position(|node| Some(node.zone) == rule.home) {
            order[..=place].rotate_right(1);
        }
        order.truncate(wanted);
        order.into_iter().map(|node| node.node).collect()
    }

    /// The nodes that also decide blocks. Custodians are of them: what others learn of a block comes from a peer, with
    /// its certificate, and for such an opening no custodian releases.
    #[must_use]
    pub fn deciding(&self, validators: &ValidatorSet) -> Self {
        let decides =
            |node: &&PlacedNode| validators.as_slice().iter().any(|validator| validator.node == node.node);
        Self { version: self.version, nodes: self.nodes.iter().filter(decides).copied().collect() }
    }

    /// One node of every zone in the order in which `grant` asks them to be custodians.
    pub fn custodians(&self, grant: GrantId) -> Vec<NodeId> {
        let order = self.order("IHFS 1 custodians", grant.as_bytes(), |_| true);
        order.into_iter().map(|node| node.node).collect()
    }

    /// How many zones have a node.
    pub fn zones(&self) -> usize {
        let mut zones: Vec<MemberId> = self.nodes.iter().map(|node| node.zone).collect();
        zones.sort_unstable();
        zones.dedup();
        zones.len()
    }

    /// The node of this key, if it takes records.
    pub fn node(&self, node: NodeId) -> Option<&PlacedNode> {
        self.nodes.binary_search_by_key(&node, |placed| placed.node).ok().map(|place| &self.nodes[place])
    }

    /// The best node of every zone, the best zone first.
    fn order(&self, label: &str, key: &[u8; 32], allowed: impl Fn(&PlacedNode) -> bool) -> Vec<PlacedNode> {
        let mut scored: Vec<Scored> = self
            .nodes
            .iter()
            .filter(|node| allowed(node))
            .map(|node| Scored { distance: distance(label, key, node.node), node: *node })
            .collect();
        scored.sort_by(Scored::compare);
        let mut order: Vec<PlacedNode> = Vec::new();
        for Scored { node, .. } in scored {
            if order.iter().all(|taken| taken.zone != node.zone) {
                order.push(node);
            }
        }
        order
    }
}

/// How many custodians a grant asks for: `min(5, zones)`, of zones with a node that decides blocks.
pub fn custodians_wanted(zones: usize) -> usize {
    zones.min(CUSTODIANS_MAX)
}

/// How many key shares open a grant with `custodians_wanted` custodians: `⌊n/2⌋ + 1`.
pub fn threshold(custodians_wanted: usize) -> usize {
    custodians_wanted / 2 + 1
}

struct Scored {
    distance: u64,
    node: PlacedNode,
}

impl Scored {
    /// `distance / weight` ascending, compared without dividing; the key breaks ties.
    fn compare(&self, other: &Self) -> std::cmp::Ordering {
        let own = u128::from(self.distance) * u128::from(other.node.weight.max(1));
        let others = u128::from(other.distance) * u128::from(self.node.weight.max(1));
        own.cmp(&others).then(self.node.node.cmp(&other.node.node))
    }
}

/// `−log₂(h / 2^64)` with 32 bits behind the point, for `h` the first 8 bytes (little endian) of
/// `BLAKE3-derive-key(label, key ‖ node)`.
fn distance(label: &str, key: &[u8; 32], node: NodeId) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key(label);
    hasher.update(key).update(node.as_bytes());
    let digest = *hasher.finalize().as_bytes();
    let hash = u64::from_le_bytes(digest[..8].try_into().expect("8 of 32 bytes"));
    (64 << LOG_BITS) - log2(hash.max(1))
}

/// `log₂ x` with [`LOG_BITS`] bits behind the point, by squaring a mantissa in `[1, 2)`.
fn log2(x: u64) -> u64 {
    let mut mantissa = x << x.leading_zeros();
    let mut log = u64::from(63 - x.leading_zeros());
    for _ in 0..LOG_BITS {
        let square = (u128::from(mantissa) * u128::from(mantissa)) >> 63;
        let carried = square >> 64 != 0;
        mantissa = (if carried { square >> 1 } else { square }) as u64;
        log = log << 1 | u64::from(carried);
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(nodes: impl IntoIterator<Item = (u8, u8, u32)>) -> Placement {
        let placed = |(node, zone, weight)| PlacedNode {
            node: NodeId::from_bytes([node; 32]),
            zone: MemberId::from_bytes([zone; 32]),
            region: Region(u32::from(zone % 2)),
            weight,
        };
        Placement { version: 1, nodes: nodes.into_iter().map(placed).collect() }
    }

    fn records(count: u32) -> impl Iterator<Item = RecordId> {
        (0..count).map(|number| RecordId::from_bytes(blake3::derive_key("test", &number.to_le_bytes())))
    }

    const ANYWHERE: PlacementRule<'_> = PlacementRule { home: None, regions: &[] };

    #[test]
    fn the_logarithm_is_exact_at_powers_of_two_and_monotone() {
        assert_eq!(log2(1), 0);
        assert_eq!(log2(1 << 40), 40 << LOG_BITS);
        assert!(log2(3) < log2(4) && log2(u64::MAX - (1 << 40)) < log2(u64::MAX));
        // log2(3) = 1.5849625007…
        assert_eq!(log2(3), 6_807_362_105);
    }

    #[test]
    fn no_zone_keeps_two_copies() {
        let table = table([(1, 1, 1), (2, 1, 1), (3, 2, 1), (4, 2, 1), (5, 3, 1)]);
        for record in records(200) {
            let places = table.replicas(record, 3, &ANYWHERE);
            let mut zones: Vec<_> = places.iter().map(|node| table.node(*node).unwrap().zone).collect();
            zones.sort_unstable();
            zones.dedup();
            assert_eq!(zones.len(), 3);
        }
    }

    #[test]
    fn records_fall_by_weight() {
        let table = table([(1, 1, 1), (2, 2, 3)]);
        let heavy = NodeId::from_bytes([2; 32]);
        let won = records(4000).filter(|record| table.replicas(*record, 1, &ANYWHERE) == [heavy]).count();
        assert!((2880..3120).contains(&won), "{won} of 4000, where 3000 are expected");
    }

    #[test]
    fn a_new_node_moves_only_what_it_wins() {
        let before = table([(1, 1, 1), (2, 2, 1), (3, 3, 1)]);
        let after = table([(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 4, 1)]);
        for record in records(500) {
            let (old, new) = (before.replicas(record, 2, &ANYWHERE), after.replicas(record, 2, &ANYWHERE));
            let stayed = new.iter().filter(|node| old.contains(node)).count();
            assert!(new == old || (stayed == 1 && new.contains(&NodeId::from_bytes([4; 32]))));
        }
    }

    #[test]
    fn the_home_zone_comes_first_and_regions_bind() {
        let table = table([(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 4, 1)]);
        let home = PlacementRule { home: Some(MemberId::from_bytes([3; 32])), regions: &[Region(1)] };
        for record in records(50) {
            let places = table.replicas(record, 3, &home);
            assert_eq!(places[0], NodeId::from_bytes([3; 32]));
            assert_eq!(places.len(), 2, "zones 1 and 3 lie in region 1");
        }
    }

    #[test]
    fn one_node_is_enough_for_everything() {
        let table = table([(1, 1, 1)]);
        assert_eq!(table.replicas(RecordId::from_bytes([7; 32]), 3, &ANYWHERE).len(), 1);
        assert_eq!((custodians_wanted(table.zones()), threshold(1)), (1, 1));
        assert_eq!((threshold(2), threshold(3), threshold(5)), (2, 2, 3));
    }

    #[test]
    fn the_order_of_nodes_is_pinned() {
        let table = table([(1, 1, 1), (2, 2, 5), (3, 3, 2), (4, 4, 1)]);
        let order: Vec<Vec<u8>> = records(4)
            .map(|record| {
                table.replicas(record, 4, &ANYWHERE).iter().map(|node| node.as_bytes()[0]).collect()
            })
            .collect();
        let custodians: Vec<u8> =
            table.custodians(GrantId::from_bytes([9; 32])).iter().map(|node| node.as_bytes()[0]).collect();
        let pinned = vec![vec![1, 2, 3, 4], vec![2, 1, 3, 4], vec![3, 2, 1, 4], vec![2, 1, 3, 4]];
        assert_eq!((order, custodians), (pinned, vec![3, 2, 4, 1]));
    }
}
