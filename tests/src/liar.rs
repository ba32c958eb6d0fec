//! A node that lies: it stands between a client and the real node, hands every question on under the asker's own
//! key, and may change what comes back. The client reaches it over the in-memory twin, under the node's own key.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ihfs_client::client::{Client, ConnectError};
use ihfs_client::link::Link;
use ihfs_client::openings::InProcess;
use ihfs_client::view::Trust;
use ihfs_core::crypto::keyring::Keyring;
use ihfs_core::ids::NodeId;
use ihfs_net::{
    Admission, Conversation, Identity, Incoming, Limits, Message, Network, PeerKey, Request, Twin,
};
use ihfs_node::keys::KeyBytes;
use ihfs_node::run::folder::node_key;
use ihfs_proto::{chunk, join, key, ledger};
use tokio::runtime::Runtime;

use crate::{PASSPHRASE, Person, Solo};

/// How long the real node may take.
const ANSWER_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// What is made of an honest answer: `None` is silence.
type Lie = Box<dyn FnMut(Conversation, &Message, Message) -> Option<Message> + Send>;

/// What is said without asking the real node; `None` lets it be asked.
type Swallow = Box<dyn FnMut(Conversation, &Message) -> Option<Message> + Send>;

/// A lying node and the one client that it lies to.
pub struct Liar {
    runtime: Runtime,
    twin: Twin,
    network: Network,
    keyring: Arc<Keyring>,
    node: NodeId,
    trust: Trust,
    handle: Option<ihfs_core::members::HandleProof>,
    asked: Arc<Shared>,
    /// Where strangers find it, over sockets.
    doors: Mutex<Vec<Network>>,
}

struct Shared {
    upstream: Network,
    node: PeerKey,
    lie: Mutex<Option<Lie>>,
    swallow: Mutex<Option<Swallow>>,
    released: Released,
    twin: Twin,
    device: PeerKey,
}

/// Round trips that were over when a custodian had released a share.
type Released = Mutex<Option<u64>>;

impl Liar {
    /// Stands between `person` and the node that `person`'s home names. Honest until it is told to lie.
    pub fn between(person: &Person) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let keyring = Keyring::open(&person.home.keyring().expect("set up"), PASSPHRASE).expect("opens");
        let parsed = person.home.network().expect("set up").parse().expect("whole");
        let (node, addresses) = parsed.nodes[0].clone();
        let identity = Identity::from_seed(&keyring.device.network_seed());
        let device = identity.peer_key();
        let started = runtime.block_on(Network::start(identity, &[], Limits::default()));
        let (upstream, _) = started.expect("a network starts");
        {
            let _entered = runtime.enter();
            for address in &addresses {
                upstream.add_address_text(node.into(), address).expect("an address");
            }
        }
        let twin = Twin::new(7);
        let (serving, incoming) = twin.network(node.into(), Limits::default());
        serving.allow(|_| Admission::Member);
        let asked = Arc::new(Shared {
            upstream,
            node: node.into(),
            lie: Mutex::default(),
            swallow: Mutex::default(),
            released: Mutex::default(),
            twin: twin.clone(),
            device,
        });
        runtime.spawn(serve(incoming, Arc::clone(&asked)));
        let (network, _) = twin.network(device, Limits::default());
        let trust = Trust::begin(parsed.chain, &parsed.genesis).expect("the genesis document");
        let (keyring, handle) = (Arc::new(keyring), parsed.handle);
        Self { runtime, twin, network, keyring, node, trust, handle, asked, doors: Mutex::default() }
    }

    /// Listens on loopback under the node's own key, for those who come to join or to recover: whatever they ask
    /// is asked again under the key of the person it stands before. Gives the address.
    pub fn listen(&self, solo: &Solo) -> String {
        let key = KeyBytes::read(&node_key(&solo.node_path())).expect("the node's key");
        let anywhere = ["127.0.0.1:0".parse().expect("an address")];
        let started = Network::start(key.identity(), &anywhere, Limits::default());
        let (door, incoming) = self.runtime.block_on(started).expect("a network starts");
        door.allow(|_| Admission::Member);
        self.runtime.spawn(serve(incoming, Arc::clone(&self.asked)));
        let address = door.listen_addresses()[0].to_string();
        self.doors.lock().expect("no panic while it is held").push(door);
        address
    }

    /// A client that knows the genesis document alone.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(&self) -> Result<Client, ConnectError> {
        self.connect_with(self.trust.clone())
    }

    /// A client that remembers what it has seen of the ledger.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect_with(&self, trust: Trust) -> Result<Client, ConnectError> {
        let openings = Box::<InProcess>::default();
        Client::over(self.link(), Arc::clone(&self.keyring), trust, openings, self.handle.clone())
    }

    /// The client's end.
    pub fn link(&self) -> Link {
        Link::new(self.runtime.handle().clone(), self.network.clone(), vec![self.node])
    }

    /// The node under whose key it lies.
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// What was known of the ledger at first: its genesis document.
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Round trips that the client waited for since they were last counted.
    pub fn round_trips(&self) -> u64 {
        self.twin.round_trips(self.network.key())
    }

    /// Round trips that were over when a key share had last been released and the next question came.
    pub fn round_trips_at_release(&self) -> Option<u64> {
        *self.asked.released.lock().expect("lies do not panic")
    }

    /// Tells the truth from now on.
    pub fn be_honest(&self) {
        *self.asked.lie.lock().expect("lies do not panic") = None;
    }

    /// Changes the bytes of any answer, or leaves a question without one.
    pub fn lie(&self, lie: impl FnMut(Conversation, &Message, Message) -> Option<Message> + Send + 'static) {
        *self.asked.lie.lock().expect("lies do not panic") = Some(Box::new(lie));
    }

    /// Answers some questions by itself: the real node never hears of them.
    pub fn swallow(&self, say: impl FnMut(Conversation, &Message) -> Option<Message> + Send + 'static) {
        *self.asked.swallow.lock().expect("lies do not panic") = Some(Box::new(say));
    }

    /// Changes answers about the ledger.
    pub fn lie_about_ledger(
        &self,
        mut lie: impl FnMut(&ledger::request::Request, &mut ledger::response::Response) + Send + 'static,
    ) {
        self.lie(move |conversation, question, answer| {
            if conversation != Conversation::Ledger {
                return Some(answer);
            }
            let question: ledger::Request = read(question.clone());
            let mut response: ledger::Response = read(answer);
            lie(&question.request?, response.response.as_mut()?);
            Some(written(&response))
        });
    }

    /// Changes answers to strangers.
    pub fn lie_to_strangers(
        &self,
        mut lie: impl FnMut(&join::request::Request, &mut join::response::Response) + Send + 'static,
    ) {
        self.lie(move |conversation, question, answer| {
            if conversation != Conversation::Join {
                return Some(answer);
            }
            let question: join::Request = read(question.clone());
            let mut response: join::Response = read(answer);
            lie(&question.request?, response.response.as_mut()?);
            Some(written(&response))
        });
    }

    /// Changes a custodian's answers.
    pub fn lie_about_keys(
        &self,
        mut lie: impl FnMut(&key::request::Request, &mut key::response::Response) + Send + 'static,
    ) {
        self.lie(move |conversation, question, answer| {
            if conversation != Conversation::Key {
                return Some(answer);
            }
            let question: key::Request = read(question.clone());
            let mut response: key::Response = read(answer);
            lie(&question.request?, response.response.as_mut()?);
            Some(written(&response))
        });
    }

    /// Changes answers about chunks, and the chunks behind them.
    pub fn lie_about_chunks(
        &self,
        mut lie: impl FnMut(&chunk::request::Request, &mut chunk::response::Response, &mut Bytes) + Send + 'static,
    ) {
        self.lie(move |conversation, question, answer| {
            if conversation != Conversation::Chunk {
                return Some(answer);
            }
            let header = |bytes| ihfs_proto::decode(bytes, ihfs_proto::HEADER_BYTES_MAX);
            let question: chunk::Request = header(question.header.clone()).expect("a client asks well");
            let decoded = ihfs_proto::decode(answer.header, ihfs_proto::HEADER_BYTES_MAX);
            let mut response: chunk::Response = decoded.expect("a node answers well");
            let mut body = answer.body;
            lie(&question.request?, response.response.as_mut()?, &mut body);
            Some(Message { header: ihfs_proto::encode(&response), body })
        });
    }
}

impl Shared {
    /// Custodians are asked last of all in an opening: until another question comes, their answer counts with it.
    fn note_release(&self, conversation: Conversation) {
        let mut released = self.released.lock().expect("lies do not panic");
        let trips = self.twin.round_trips(self.device);
        if conversation == Conversation::Key {
            *released = None;
        } else if released.is_none() {
            *released = Some(trips);
        }
    }
}

/// Each question by itself, as a node does.
async fn serve(mut incoming: Incoming, asked: Arc<Shared>) {
    while let Some(request) = incoming.next().await {
        tokio::spawn(answer(request, Arc::clone(&asked)));
    }
}

async fn answer(request: Request, asked: Arc<Shared>) {
    let Request { conversation, message, reply, .. } = request;
    asked.note_release(conversation);
    let own =
        asked.swallow.lock().expect("lies do not panic").as_mut().and_then(|say| say(conversation, &message));
    if let Some(own) = own {
        let _ = reply.send(own).await;
        return;
    }
    let honest = asked.upstream.request(asked.node, conversation, message.clone(), ANSWER_TIME_MAX).await;
    let Ok(honest) = honest else { return };
    let said = match asked.lie.lock().expect("lies do not panic").as_mut() {
        None => Some(honest),
        Some(lie) => lie(conversation, &message, honest),
    };
    if let Some(said) = said {
        // A client that has gone needs no answer.
        let _ = reply.send(said).await;
    }
}

/// Reads a message of a conversation without chunks.
///
/// # Panics
/// When it is none: the client and the real node speak well.
pub fn read<M: Default + prost::Message>(message: Message) -> M {
    ihfs_proto::from_parts(message.header, message.body).expect("both sides speak well")
}

/// The message that carries this.
pub fn written(response: &impl prost::Message) -> Message {
    let (header, body) = ihfs_proto::to_parts(response);
    Message { header, body }
}
