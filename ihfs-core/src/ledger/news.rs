//! News: what a block changed, for custodians, stores and those who wait for changes.
//!
//! Nothing here is authenticated; it repeats what the state and the lists hold.

use crate::ids::{ChunkId, DeviceId, Epoch, GrantId, MemberId, NodeId, OpeningId, RecordId, Time};
use crate::ledger::state::{EndReason, VersionItem};

/// One change that a block made, in the order in which it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A member registered.
    Registered {
        /// The member.
        member: MemberId,
    },
    /// A device was added.
    DeviceAdded {
        /// Whose.
        member: MemberId,
        /// The device.
        device: DeviceId,
    },
    /// A device was removed.
    DeviceRemoved {
        /// Whose.
        member: MemberId,
        /// The device.
        device: DeviceId,
    },
    /// The nodes that take records changed.
    Placement {
        /// Version of the new table.
        version: u64,
    },
    /// A record was made.
    Created {
        /// The record.
        record: RecordId,
        /// Its owner.
        owner: MemberId,
    },
    /// A record has a new head.
    Head {
        /// The record.
        record: RecordId,
        /// What its list of versions got.
        item: VersionItem,
    },
    /// A record started a new epoch.
    EpochOpened {
        /// The record.
        record: RecordId,
        /// The epoch.
        epoch: Epoch,
    },
    /// A grant began: its custodians keep their shares.
    Granted {
        /// The grant.
        grant: GrantId,
        /// The record.
        record: RecordId,
        /// The owner.
        owner: MemberId,
        /// The reader.
        reader: MemberId,
        /// The custodians.
        custodians: Vec<NodeId>,
    },
    /// A grant has other custodians: those not named destroy their shares.
    Reshared {
        /// The grant.
        grant: GrantId,
        /// The custodians from now on.
        custodians: Vec<NodeId>,
    },
    /// A grant ended: its custodians destroy their shares.
    Ended {
        /// The grant.
        grant: GrantId,
        /// The record.
        record: RecordId,
        /// The reader.
        reader: MemberId,
        /// Why.
        why: EndReason,
        /// The custodians.
        custodians: Vec<NodeId>,
    },
    /// A reader opened grants: custodians release to this device.
    Opened {
        /// The opening.
        opening: OpeningId,
        /// The reader.
        reader: MemberId,
        /// The device.
        device: DeviceId,
        /// Header time of the block.
        time: Time,
        /// The grants.
        grants: Vec<GrantId>,
    },
    /// The validators, the policy or the rules of the next block changed.
    Consortium,
}

impl News {
    /// The delta chunk that a store must replay, if this is a new head.
    pub const fn delta(&self) -> Option<ChunkId> {
        match self {
            Self::Head { item, .. } => Some(item.delta),
            _ => None,
        }
    }
}
