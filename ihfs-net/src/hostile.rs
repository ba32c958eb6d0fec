//! Peers with a valid key and bad manners, against a real node on the loopback interface.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::{DialOpts, ListenerId, PortUse, TransportEvent};
use libp2p::core::{Endpoint, Transport};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, tcp};

use crate::frame::{HEAD_BYTES, Head, Kind, Refusal};
use crate::tls::Tls;
use crate::{
    Admission, BODY_BYTES_MAX, Conversation, Identity, Incoming, Limits, Message, Network, transport,
};

const DEADLINE: Duration = Duration::from_secs(30);
const DIAL: DialOpts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };

/// Two ends of a TCP connection.
pub(crate) async fn sockets() -> (impl AsyncRead + AsyncWrite + Unpin, impl AsyncRead + AsyncWrite + Unpin) {
    let mut transport = tcp::tokio::Transport::new(tcp::Config::new()).boxed();
    transport.listen_on(ListenerId::next(), "/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let Some(TransportEvent::NewAddress { listen_addr, .. }) = transport.next().await else {
        panic!("not listening")
    };
    let dial = transport.dial(listen_addr, DIAL).unwrap();
    let accept = async {
        loop {
            if let Some(TransportEvent::Incoming { upgrade, .. }) = transport.next().await {
                return upgrade.await.unwrap();
            }
        }
    };
    let (near, far) = tokio::join!(dial, accept);
    (near.unwrap(), far)
}

async fn node(limits: Limits) -> (Network, Incoming) {
    let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let (node, incoming) = Network::start(Identity::from_seed(&[1; 32]), &[listen], limits).await.unwrap();
    node.allow(|_| Admission::Member);
    (node, incoming)
}

/// Dials the node with a proper handshake.
async fn dial(node: &Network, seed: u8) -> StreamMuxerBox {
    let at = node.listen_addresses()[0];
    let address = Multiaddr::from(at.ip()).with(Protocol::Tcp(at.port()));
    let mut transport = transport::build(Tls::new(&Identity::from_seed(&[seed; 32])).unwrap());
    let (_, muxer) = transport.dial(address, DIAL).unwrap().await.unwrap();
    muxer
}

/// Opens a stream under this protocol name, and keeps the connection going in the background.
async fn open_stream(mut muxer: StreamMuxerBox, protocol: &str) -> SubstreamBox {
    let mut stream = poll_fn(|cx| muxer.poll_outbound_unpin(cx)).await.unwrap();
    tokio::spawn(async move { poll_fn(|cx| Pin::new(&mut muxer).poll_unpin(cx)).await.map(|_| ()) });
    // Two lines of multistream-select, each behind its length.
    let mut lines = b"\x13/multistream/1.0.0\n".to_vec();
    lines.push(protocol.len() as u8 + 1);
    lines.extend_from_slice(protocol.as_bytes());
    lines.push(b'\n');
    stream.write_all(&lines).await.unwrap();
    stream.flush().await.unwrap();
    let mut accepted = vec![0; lines.len()];
    stream.read_exact(&mut accepted).await.unwrap();
    assert_eq!(accepted, lines);
    stream
}

/// Sends these bytes on a chunk stream; whether the node ends it without an answer.
async fn is_cut_after(node: &Network, bytes: &[u8]) -> bool {
    let mut stream = open_stream(dial(node, 66).await, "/ihfs/1/chunk").await;
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    let end = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
    end.is_ok() && answer.is_empty()
}

#[tokio::test]
async fn a_peer_that_breaks_the_frame_format_is_cut_and_others_go_on() {
    let (node, mut incoming) = node(Limits::default()).await;
    let head = Head::bare(Kind::Request, Conversation::Chunk, 1);
    let oversized = Head { body_bytes: BODY_BYTES_MAX as u32 + 1, ..head };
    let other = Head { conversation: Conversation::Key, ..head };
    let answer = Head { kind: Kind::Answer, ..head };
    let refusal = Head { kind: Kind::Refusal(Refusal::Busy), ..head };
    for bytes in [[0x5a; HEAD_BYTES], oversized.encode(), other.encode(), answer.encode(), refusal.encode()] {
        assert!(is_cut_after(&node, &bytes).await, "{bytes:?}");
    }
    let (client, _) = Network::start(Identity::from_seed(&[2; 32]), &[], Limits::default()).await.unwrap();
    client.add_address(node.key(), node.listen_addresses()[0]);
    let question = Message::of_header(&b"?"[..]);
    let asked = client.request(node.key(), Conversation::Chunk, question.clone(), DEADLINE);
    let (answer, ()) = tokio::join!(asked, async {
        let request = incoming.next().await.unwrap();
        assert_eq!(request.peer, client.key(), "nothing of the others came through");
        request.reply.send(request.message).await.unwrap();
    });
    assert_eq!(answer, Ok(question));
}

#[tokio::test]
async fn a_ping_is_answered() {
    let (node, _incoming) = node(Limits::default()).await;
    let mut stream = open_stream(dial(&node, 66).await, "/ihfs/1/status").await;
    stream.write_all(&Head::bare(Kind::Ping, Conversation::Status, 9).encode()).await.unwrap();
    stream.flush().await.unwrap();
    let mut pong = [0; HEAD_BYTES];
    stream.read_exact(&mut pong).await.unwrap();
    assert_eq!(
        Head::decode(&pong, Conversation::Status),
        Ok(Head::bare(Kind::Pong, Conversation::Status, 9))
    );
}

#[tokio::test]
async fn a_peer_that_opens_streams_without_end_is_cut() {
    let (node, _incoming) = node(Limits { streams_per_connection: 3, ..Limits::default() }).await;
    let mut muxer = dial(&node, 66).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = poll_fn(|cx| muxer.poll_outbound_unpin(cx)).await.unwrap();
        stream.write_all(b"\x13/multistream/1.0.0\n\x0d/ihfs/1/join\n").await.unwrap();
        streams.push(stream);
    }
    let end = tokio::time::timeout(DEADLINE, poll_fn(|cx| muxer.poll_unpin(cx))).await;
    assert!(end.unwrap().is_err());
}

#[tokio::test]
async fn an_unknown_conversation_is_not_opened() {
    let (node, _incoming) = node(Limits::default()).await;
    let mut muxer = dial(&node, 66).await;
    let mut stream = poll_fn(|cx| muxer.poll_outbound_unpin(cx)).await.unwrap();
    tokio::spawn(async move { poll_fn(|cx| Pin::new(&mut muxer).poll_unpin(cx)).await.map(|_| ()) });
    stream.write_all(b"\x13/multistream/1.0.0\n\x0e/ihfs/9/chunk\n").await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = [0; 24];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer[20..], b"\x03na\n");
}
