//! Nodes: registered and drained by their hospital, and what it says about their copies.

use crate::crypto::sign::{self, Purpose};
use crate::ids::{DeviceId, MemberId, NodeId};
use crate::ledger::genesis::addresses_fit;
use crate::ledger::identity::node_bytes;
use crate::ledger::news::News;
use crate::ledger::operation::{Attest, Drain, RegisterNode};
use crate::ledger::rules::members::need_hospital;
use crate::ledger::rules::refused::Stop;
use crate::ledger::rules::work::{Asking, Work};
use crate::ledger::rules::{Refused, records};
use crate::ledger::state::{AttestationEntry, ConsortiumEntry, NodeEntry, StateKey};
use crate::placement::{NODES_MAX, PlacedNode, Placement};

/// Most nodes of one hospital: one could else fill the table that all share.
const NODES_PER_ZONE_MAX: usize = 16;

pub(super) fn register(work: &mut Work<'_>, asking: &Asking, new: &RegisterNode) -> Result<(), Stop> {
    need_hospital(work, asking)?;
    let (node, hospital) = (new.node, asking.member);
    let as_device = DeviceId::from_bytes(*node.as_bytes());
    if work.has(&StateKey::Node(node))? || work.has(&StateKey::Device(as_device))? {
        return Err(Refused::NodeTaken { node }.into());
    }
    // Without its consent, a hospital could take another's node for its own.
    let bytes = node_bytes(work.place.chain, hospital, node);
    let consents = sign::verify(node.as_bytes(), Purpose::Node, &bytes, &new.consent).is_ok();
    if !consents || new.weight == 0 || !addresses_fit(&new.addresses) {
        return Err(Refused::BadNode { node }.into());
    }
    let entry = NodeEntry {
        hospital,
        region: new.region,
        weight: new.weight,
        addresses: new.addresses.clone(),
        drained: None,
    };
    work.write(&StateKey::Node(node), &entry);
    let placed = PlacedNode { node, zone: hospital, region: new.region, weight: new.weight };
    place(work, placed)
}

fn place(work: &mut Work<'_>, placed: PlacedNode) -> Result<(), Stop> {
    let mut placement: Placement = work.must(&StateKey::Placement)?;
    let of_zone = placement.nodes.iter().filter(|node| node.zone == placed.zone).count();
    if placement.nodes.len() >= NODES_MAX || of_zone >= NODES_PER_ZONE_MAX {
        return Err(Refused::TooManyNodes.into());
    }
    placement.nodes.push(placed);
    placement.nodes.sort_unstable_by_key(|node| node.node);
    write_placement(work, placement);
    Ok(())
}

fn write_placement(work: &mut Work<'_>, mut placement: Placement) {
    placement.version += 1;
    work.write(&StateKey::Placement, &placement);
    work.tell(News::Placement { version: placement.version });
}

pub(super) fn drain(work: &mut Work<'_>, asking: &Asking, drain: &Drain) -> Result<(), Stop> {
    let node = drain.node;
    let mut entry = own_node(work, asking.member, node)?;
    let mut placement: Placement = work.must(&StateKey::Placement)?;
    if placement.node(node).is_none() {
        return Err(Refused::UnknownNode { node }.into());
    }
    if placement.nodes.len() == 1 {
        return Err(Refused::LastNode { node }.into());
    }
    placement.nodes.retain(|placed| placed.node != node);
    entry.drained = Some(work.place.height);
    work.write(&StateKey::Node(node), &entry);
    write_placement(work, placement);
    Ok(())
}

/// One statement a record and node is kept: the newest.
pub(super) fn attest(work: &mut Work<'_>, asking: &Asking, attest: &Attest) -> Result<(), Stop> {
    let Attest { node, record, version, chunks, chunks_missing, verified } = *attest;
    own_node(work, asking.member, node)?;
    let entry = work.record(record)?;
    let policy = work.must::<ConsortiumEntry>(&StateKey::Consortium)?.policy;
    // One statement for each place of a record bounds them all.
    if !records::places(&policy, &work.must(&StateKey::Placement)?, record, &entry).contains(&node) {
        return Err(Refused::NotPlaced { record, node }.into());
    }
    let key = StateKey::Attestation(record, node);
    let last: Option<AttestationEntry> = work.read(&key)?;
    let follows = last.is_none_or(|last| last.verified < verified)
        && entry.head.is_some_and(|head| version <= head.version)
        && verified <= work.place.time
        && chunks_missing <= chunks;
    if !follows {
        return Err(Refused::StaleAttestation { record }.into());
    }
    let height = work.place.height;
    work.write(&key, &AttestationEntry { version, chunks, chunks_missing, verified, height });
    Ok(())
}

fn own_node(work: &Work<'_>, member: MemberId, node: NodeId) -> Result<NodeEntry, Stop> {
    let entry: NodeEntry = work.read(&StateKey::Node(node))?.ok_or(Refused::UnknownNode { node })?;
    if entry.hospital != member {
        return Err(Refused::NotTheNodesHospital { node, member }.into());
    }
    Ok(entry)
}
