//! How a running node fares, and whom its hospital registered: asked of the node itself, as its hospital.

use std::path::Path;
use std::time::Duration;

use ihfs_core::codec;
use ihfs_core::ids::MemberId;
use ihfs_core::ledger::state::{ENTRY_BYTES_MAX, MemberEntry, StateKey};
use ihfs_core::members::Handle;
use ihfs_core::words::fingerprint_words;
use ihfs_net::{Conversation, Limits, Message, Network, PeerKey};
use ihfs_proto::ledger::{Prove, request, response};
use ihfs_proto::status::{self as proto, NodeStatus};
use serde::Serialize;

use super::AdminError;
use crate::keys::KeyBytes;
use crate::run::folder::{hospital_key, read_node_file};
use crate::run::{DataFolder, NodeFile};

/// How long a node on this machine may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Where it runs.
    pub file: NodeFile,
    /// What it measured just now.
    pub status: NodeStatus,
}

/// A member as `member list` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// The handle, if it is known here.
    pub handle: String,
    /// The member's id, in hexadecimal.
    pub member: String,
    /// The role.
    pub role: String,
    /// Six words of the member key.
    pub fingerprint: String,
    /// Devices that were not removed.
    pub devices: usize,
}

/// Asks the running node how it fares.
///
/// # Errors
/// [`AdminError`].
pub async fn status(data: &Path) -> Result<Measured, AdminError> {
    let peer = Peer::connect(data).await?;
    let request = proto::Request { request: Some(proto::request::Request::Status(proto::Status {})) };
    let answer: proto::Response = peer.ask(Conversation::Status, &request).await?;
    let status = match answer.response {
        Some(proto::response::Response::Status(status)) => status,
        Some(proto::response::Response::Refusal(refusal)) => return Err(AdminError::Refused(refusal)),
        _ => return Err(AdminError::NotUnderstood),
    };
    Ok(Measured { file: peer.close().await, status })
}

/// Members whose handles the node knows, with what the ledger says of them. The node is believed: it is this
/// hospital's own.
///
/// # Errors
/// [`AdminError`].
pub async fn members(data: &Path) -> Result<Vec<Listed>, AdminError> {
    let peer = Peer::connect(data).await?;
    let request = proto::Request { request: Some(proto::request::Request::Members(proto::Members {})) };
    let answer: proto::Response = peer.ask(Conversation::Status, &request).await?;
    let known = match answer.response {
        Some(proto::response::Response::Members(known)) => known.members,
        Some(proto::response::Response::Refusal(refusal)) => return Err(AdminError::Refused(refusal)),
        _ => return Err(AdminError::NotUnderstood),
    };
    let mut listed = Vec::new();
    for known in known {
        let member =
            MemberId::try_from(known.member.as_ref()).map_err(|_| AdminError::NotUnderstood)?;
        let handle = Handle::parse(&known.handle).map_err(|_| AdminError::NotUnderstood)?;
        if let Some(entry) = peer.member(member).await? {
            listed.push(Listed {
                handle: handle.as_str().to_owned(),
                member: member.to_string(),
                role: format!("{:?}", entry.role).to_lowercase(),
                fingerprint: fingerprint_words(&entry.key),
                devices: entry.devices.len(),
            });
        }
    }
    peer.close().await;
    Ok(listed)
}

/// The node that runs in a data folder.
struct Peer {
    file: NodeFile,
    network: Network,
    node: PeerKey,
}

impl Peer {
    async fn connect(data: &Path) -> Result<Self, AdminError> {
        DataFolder::check_version(data)?;
        let not_running = || AdminError::NotRunning { data: data.to_owned() };
        let file = read_node_file(data).ok_or_else(not_running)?;
        let node: ihfs_core::ids::NodeId = file.node.parse().map_err(|_| AdminError::NotUnderstood)?;
        let identity = KeyBytes::read(&hospital_key(data))?.identity();
        let (network, _) = Network::start(identity, &[], Limits::default()).await?;
        for address in &file.listen {
            network.add_address(node.into(), *address);
        }
        Ok(Self { file, network, node: node.into() })
    }

    async fn ask<A: prost_message::Answer>(
        &self,
        conversation: Conversation,
        request: &impl prost_message::Ask,
    ) -> Result<A, AdminError> {
        let (header, body) = request.parts();
        let message = Message { header, body };
        let answer = self.network.request(self.node, conversation, message, ANSWER_TIME_MAX).await?;
        A::read(answer.header, answer.body).ok_or(AdminError::NotUnderstood)
    }

    async fn member(&self, member: MemberId) -> Result<Option<MemberEntry>, AdminError> {
        let keys = vec![StateKey::Member(member).to_bytes().into()];
        let request = ihfs_proto::ledger::Request { request: Some(request::Request::Prove(Prove { keys })) };
        let answer: ihfs_proto::ledger::Response = self.ask(Conversation::Ledger, &request).await?;
        let proved = match answer.response {
            Some(response::Response::Proved(proved)) => proved,
            Some(response::Response::Refusal(refusal)) => return Err(AdminError::Refused(refusal)),
            _ => return Err(AdminError::NotUnderstood),
        };
        let value = proved.entries.into_iter().next().and_then(|entry| entry.value);
        let decoded = value.map(|value| codec::decode(&value, ENTRY_BYTES_MAX)).transpose();
        decoded.map_err(|_| AdminError::NotUnderstood)
    }

    async fn close(self) -> NodeFile {
        self.network.shutdown().await;
        self.file
    }
}

/// Messages that travel without a chunk.
mod prost_message {
    use bytes::Bytes;

    pub(super) trait Ask {
        fn parts(&self) -> (Bytes, Bytes);
    }

    pub(super) trait Answer: Sized {
        fn read(header: Bytes, body: Bytes) -> Option<Self>;
    }

    impl Ask for ihfs_proto::status::Request {
        fn parts(&self) -> (Bytes, Bytes) {
            ihfs_proto::to_parts(self)
        }
    }

    impl Ask for ihfs_proto::ledger::Request {
        fn parts(&self) -> (Bytes, Bytes) {
            ihfs_proto::to_parts(self)
        }
    }

    impl Answer for ihfs_proto::status::Response {
        fn read(header: Bytes, body: Bytes) -> Option<Self> {
            ihfs_proto::from_parts(header, body).ok()
        }
    }

    impl Answer for ihfs_proto::ledger::Response {
        fn read(header: Bytes, body: Bytes) -> Option<Self> {
            ihfs_proto::from_parts(header, body).ok()
        }
    }
}

