//! Two and more networks over real sockets on the loopback interface.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use ihfs_net::{
    Admission, BODY_BYTES_MAX, Conversation, HEADER_BYTES_MAX, Identity, Incoming, Limits, Message, Network,
    PeerKey, Request, RequestError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Long enough for a busy machine; only tests of deadlines wait for one.
const DEADLINE: Duration = Duration::from_secs(30);

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

async fn node(seed: u8, limits: Limits) -> (Network, Incoming) {
    let (network, incoming) =
        Network::start(Identity::from_seed(&[seed; 32]), &[loopback()], limits).await.unwrap();
    network.allow(|_| Admission::Member);
    (network, incoming)
}

async fn client(seed: u8) -> (Network, Incoming) {
    Network::start(Identity::from_seed(&[seed; 32]), &[], Limits::default()).await.unwrap()
}

fn introduce(client: &Network, node: &Network) {
    client.add_address(node.key(), node.listen_addresses()[0]);
}

/// Answers every request with its own message.
fn echo(mut incoming: Incoming) {
    tokio::spawn(async move {
        while let Some(request) = incoming.next().await {
            tokio::spawn(async move { request.reply.send(request.message).await });
        }
    });
}

fn message(header: &str, body: usize) -> Message {
    Message { header: Bytes::copy_from_slice(header.as_bytes()), body: vec![7; body].into() }
}

async fn ask(from: &Network, to: &Network, header: &str) -> Result<Message, RequestError> {
    from.request(to.key(), Conversation::Ledger, message(header, 0), DEADLINE).await
}

#[tokio::test]
async fn a_request_is_answered() {
    let (node, mut incoming) = node(1, Limits::default()).await;
    let (client, _) = client(2).await;
    introduce(&client, &node);
    let (answer, ()) = tokio::join!(ask(&client, &node, "height?"), async {
        let request = incoming.next().await.unwrap();
        assert_eq!(request.peer, client.key());
        assert_eq!(request.admission, Admission::Member);
        assert_eq!(request.conversation, Conversation::Ledger);
        assert_eq!(request.message, message("height?", 0));
        request.reply.send(message("17", 3)).await.unwrap();
    });
    assert_eq!(answer, Ok(message("17", 3)));
}
