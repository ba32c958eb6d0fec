//! How the node fares: every figure measured when it is asked for.

use ihfs_core::ids::MemberId;
use ihfs_core::ledger::state::{NodeEntry, StateKey};
use ihfs_core::members::Handle;
use ihfs_net::Message;
use ihfs_proto::ledger::Refusal;
use ihfs_proto::status::request::Request as Ask;
use ihfs_proto::status::response::Response as Answer;
use ihfs_proto::status::{KnownMember, MemberList, NodeStatus, Request, Response};

use super::access::Who;
use super::{Service, blocking, broken, in_turn, malformed, not_allowed};

/// Most members of one answer: with 40 bytes of handle each they fit a body.
const MEMBERS_MAX: usize = 5000;

impl Service {
    /// Answers one message of the status conversation.
    pub(super) async fn status(&self, who: Who, message: Message) -> Message {
        let answer = match ihfs_proto::from_parts::<Request>(message.header, message.body) {
            Ok(Request { request: Some(Ask::Status(_)) }) => self.status_for(who).await.map(Answer::Status),
            Ok(Request { request: Some(Ask::Members(_)) }) => self.known(who).await.map(Answer::Members),
            _ => Err(malformed("not a request of the status conversation")),
        };
        let response = Some(answer.unwrap_or_else(Answer::Refusal));
        let (header, body) = ihfs_proto::to_parts(&Response { response });
        Message { header, body }
    }

    /// Handles that this node knows, for its own hospital alone.
    async fn known(&self, who: Who) -> Result<MemberList, Refusal> {
        let own: Option<NodeEntry> =
            self.ledger.snapshot().read(&StateKey::Node(self.node())).map_err(broken)?;
        if who.member().is_none() || own.map(|entry| entry.hospital) != who.member() {
            return Err(not_allowed(&[], "the node's own hospital alone sees its list of members"));
        }
        let directory = self.directory.clone();
        let work = blocking(move || directory.all().map_err(broken));
        let all = in_turn(&self.turns.read, work).await?;
        let more = all.len() > MEMBERS_MAX;
        let known = |(handle, member): (Handle, MemberId)| KnownMember {
            member: bytes::Bytes::copy_from_slice(member.as_bytes()),
            handle: handle.as_str().to_owned(),
        };
        Ok(MemberList { members: all.into_iter().take(MEMBERS_MAX).map(known).collect(), more })
    }

    async fn status_for(&self, who: Who) -> Result<NodeStatus, Refusal> {
        if who == Who::Guest {
            return Err(not_allowed(&[], "members and nodes alone ask for the status"));
        }
        let (store, custody) = (self.store.clone(), self.custody.clone());
        let work = blocking(move || {
            let store = store.status().map_err(broken)?;
            Ok((store, custody.count().map_err(broken)?))
        });
        let (store, key_shares) = in_turn(&self.turns.read, work).await?;
        let newest = self.ledger.snapshot().newest();
        let faults = [Some(self.ledger.last_error()), store.last_error, self.pinning.last_error()];
        Ok(NodeStatus {
            measured: self.clock.now().0,
            height: newest.height.0,
            block_time: newest.time.0,
            store_bytes: store.used_bytes,
            store_chunks: store.chunks,
            free_bytes: store.free_bytes,
            key_shares,
            releases: self.custody.releases(),
            denials: self.custody.denials(),
            peers: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            last_error: faults.into_iter().flatten().find(|fault| !fault.is_empty()).unwrap_or_default(),
        })
    }
}
