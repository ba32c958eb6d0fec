//! Two and more networks over real sockets on the loopback interface.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
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

#[tokio::test]
async fn sixty_four_pipelined_requests_are_answered_in_any_order() {
    let (node, mut incoming) = node(1, Limits::default()).await;
    let (client, _) = client(2).await;
    introduce(&client, &node);
    tokio::spawn(async move {
        let mut requests = Vec::new();
        for _ in 0..64 {
            requests.push(incoming.next().await.unwrap());
        }
        for Request { message, reply, .. } in requests.into_iter().rev() {
            reply.send(message).await.unwrap();
        }
    });
    let asked = (0..64).map(|number| {
        let (client, key) = (client.clone(), node.key());
        async move {
            let question = message(&number.to_string(), number * 100);
            let answer = client.request(key, Conversation::Chunk, question.clone(), DEADLINE).await;
            assert_eq!(answer, Ok(question));
        }
    });
    join_all(asked).await;
}

#[tokio::test]
async fn the_largest_message_travels_both_ways_and_a_larger_one_is_refused() {
    let (node, incoming) = node(1, Limits::default()).await;
    echo(incoming);
    let (client, _) = client(2).await;
    introduce(&client, &node);
    let largest = Message { header: vec![1; HEADER_BYTES_MAX].into(), body: vec![2; BODY_BYTES_MAX].into() };
    let asked = (0..24).map(|_| client.request(node.key(), Conversation::Chunk, largest.clone(), DEADLINE));
    for answer in join_all(asked).await {
        assert_eq!(answer.as_ref(), Ok(&largest));
    }
    let larger = Message { header: Bytes::new(), body: vec![0; BODY_BYTES_MAX + 1].into() };
    let refused = client.request(node.key(), Conversation::Chunk, larger, DEADLINE).await;
    assert_eq!(refused, Err(RequestError::TooLarge { found: BODY_BYTES_MAX + 1 }));
}

#[tokio::test]
async fn both_sides_ask_over_one_connection() {
    let (node, mut incoming) = node(1, Limits::default()).await;
    let (client, served) = client(2).await;
    client.allow(|_| Admission::Member);
    echo(served);
    introduce(&client, &node);
    let (answer, ()) = tokio::join!(ask(&client, &node, "a"), async {
        let request = incoming.next().await.unwrap();
        // The node knows no address of the client: it asks back on the connection that is there.
        let back = ask(&node, &client, "b").await;
        assert_eq!(back, Ok(message("b", 0)));
        request.reply.send(message("c", 0)).await.unwrap();
    });
    assert_eq!(answer, Ok(message("c", 0)));
}

#[tokio::test]
async fn a_peer_with_another_key_is_refused_and_a_right_address_beside_it_still_works() {
    let (wrong, _incoming) = node(1, Limits::default()).await;
    let (right, incoming) = node(3, Limits::default()).await;
    echo(incoming);
    let (client, _) = client(2).await;
    client.add_address(right.key(), wrong.listen_addresses()[0]);
    let expected = RequestError::WrongPeer { expected: right.key(), found: wrong.key() };
    assert_eq!(ask(&client, &right, "who?").await, Err(expected));
    introduce(&client, &right);
    assert_eq!(ask(&client, &right, "who?").await, Ok(message("who?", 0)));
}

#[tokio::test]
async fn a_peer_without_address_or_listener_is_unreachable() {
    let (client, _) = client(2).await;
    let peer = PeerKey::from_bytes([9; 32]);
    let ask = || client.request(peer, Conversation::Join, message("", 0), DEADLINE);
    assert_eq!(ask().await, Err(RequestError::NoAddress { peer }));
    let free = std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
    client.add_address(peer, free);
    assert_eq!(ask().await, Err(RequestError::Unreachable { peer }));
    assert!(client.add_address_text(peer, "/ip4/127.0.0.1/tcp/1").is_ok());
    assert!(client.add_address_text(peer, "[::1]:1").is_ok());
    assert!(client.add_address_text(peer, "hospital").is_err());
}

#[tokio::test]
async fn a_taken_port_is_named_at_start() {
    let taken = std::net::TcpListener::bind(loopback()).unwrap();
    let address = taken.local_addr().unwrap();
    let started = Network::start(Identity::from_seed(&[1; 32]), &[address], Limits::default()).await;
    let Err(error) = started else { panic!("listened on a taken port") };
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn raw_garbage_is_cut_and_others_go_on() {
    let (node, incoming) = node(1, Limits::default()).await;
    echo(incoming);
    let mut socket = tokio::net::TcpStream::connect(node.listen_addresses()[0]).await.unwrap();
    socket.write_all(&[0x5a; 4096]).await.unwrap();
    let mut rest = Vec::new();
    // An alert, then the end; a reset is as good.
    let _ = socket.read_to_end(&mut rest).await;
    assert!(rest.len() < 100);
    let (client, _) = client(2).await;
    introduce(&client, &node);
    assert_eq!(ask(&client, &node, "still there?").await, Ok(message("still there?", 0)));
}

#[tokio::test]
async fn a_peer_that_never_answers_meets_the_deadline_and_frees_the_caller() {
    let (node, mut incoming) = node(1, Limits::default()).await;
    let (client, _) = client(2).await;
    introduce(&client, &node);
    let deadline = Duration::from_millis(100);
    let asked = client.request(node.key(), Conversation::Key, message("?", 0), deadline);
    assert_eq!(asked.await, Err(RequestError::TimedOut { peer: node.key(), deadline }));
    let unanswered = incoming.next().await.unwrap();
    // A late answer disturbs nobody: the next request has its own.
    unanswered.reply.send(message("late", 0)).await.unwrap();
    echo(incoming);
    let asked = client.request(node.key(), Conversation::Key, message("again", 0), DEADLINE);
    assert_eq!(asked.await, Ok(message("again", 0)));
}

#[tokio::test]
async fn a_listener_that_never_shakes_hands_meets_the_deadline() {
    let silent = std::net::TcpListener::bind(loopback()).unwrap();
    let (client, _) = client(2).await;
    let peer = PeerKey::from_bytes([9; 32]);
    client.add_address(peer, silent.local_addr().unwrap());
    let deadline = Duration::from_millis(100);
    let asked = client.request(peer, Conversation::Join, message("", 0), deadline).await;
    assert_eq!(asked, Err(RequestError::TimedOut { peer, deadline }));
}

#[tokio::test]
async fn a_dropped_reply_and_a_dropped_service_are_told_to_the_requester() {
    let (node, mut incoming) = node(1, Limits::default()).await;
    let (client, _) = client(2).await;
    introduce(&client, &node);
    let (answer, ()) = tokio::join!(ask(&client, &node, "?"), async {
        drop(incoming.next().await.unwrap().reply);
    });
    assert_eq!(answer, Err(RequestError::Unanswered { peer: node.key() }));
    drop(incoming);
    assert_eq!(ask(&client, &node, "?").await, Err(RequestError::NotServed { peer: node.key() }));
}

#[tokio::test]
async fn more_requests_than_the_node_takes_at_once_are_told_that_it_is_busy() {
    let (node, mut incoming) =
        node(1, Limits { requests_in_flight_per_stream: 2, ..Limits::default() }).await;
    let (client, _) = client(2).await;
    introduce(&client, &node);
    let mut requests: FuturesUnordered<_> = (0..5).map(|_| ask(&client, &node, "?")).collect();
    for _ in 0..3 {
        // The node holds two; only the refused ones can come back.
        assert_eq!(requests.next().await, Some(Err(RequestError::Busy { peer: node.key() })));
    }
    for _ in 0..2 {
        incoming.next().await.unwrap().reply.send(message("!", 0)).await.unwrap();
        assert_eq!(requests.next().await, Some(Ok(message("!", 0))));
    }
}

#[tokio::test]
async fn connections_over_the_limit_are_refused_and_the_first_go_on() {
    let (node, incoming) = node(1, Limits { connections: 2, ..Limits::default() }).await;
    echo(incoming);
    let mut clients = Vec::new();
    for seed in 2..4 {
        let (client, served) = client(seed).await;
        introduce(&client, &node);
        assert!(ask(&client, &node, "in").await.is_ok());
        clients.push((client, served));
    }
    let (third, _) = client(9).await;
    introduce(&third, &node);
    let refused = ask(&third, &node, "out").await.unwrap_err();
    let is_gone = matches!(refused, RequestError::Unreachable { .. } | RequestError::Closed { .. });
    assert!(is_gone, "{refused:?}");
    for (client, _) in &clients {
        assert!(ask(client, &node, "still in").await.is_ok());
    }
}

#[tokio::test]
async fn a_guest_can_only_join_at_its_rate_until_it_is_a_member() {
    let (node, incoming) = node(1, Limits { guest_requests_per_minute: 3, ..Limits::default() }).await;
    let is_member = Arc::new(AtomicBool::new(false));
    let seen = is_member.clone();
    node.allow(move |_| if seen.load(Ordering::SeqCst) { Admission::Member } else { Admission::Guest });
    echo(incoming);
    let (client, _) = client(2).await;
    introduce(&client, &node);
    let peer = node.key();
    let ask = |conversation| client.request(peer, conversation, message("?", 0), DEADLINE);
    for conversation in &Conversation::ALL[1..] {
        assert_eq!(ask(*conversation).await, Err(RequestError::NotAdmitted { peer }));
    }
    for _ in 0..3 {
        assert!(ask(Conversation::Join).await.is_ok());
    }
    assert_eq!(ask(Conversation::Join).await, Err(RequestError::Busy { peer }));
    is_member.store(true, Ordering::SeqCst);
    assert!(ask(Conversation::Ledger).await.is_ok());
    is_member.store(false, Ordering::SeqCst);
    assert_eq!(ask(Conversation::Ledger).await, Err(RequestError::NotAdmitted { peer }));
}

#[tokio::test]
async fn after_a_restart_of_the_node_the_next_request_reconnects() {
    let (first, incoming) = node(1, Limits::default()).await;
    echo(incoming);
    let (client, _) = client(2).await;
    introduce(&client, &first);
    assert!(ask(&client, &first, "before").await.is_ok());
    let address = first.listen_addresses()[0];
    first.shutdown().await;
    let identity = Identity::from_seed(&[1; 32]);
    let (second, incoming) = Network::start(identity, &[address], Limits::default()).await.unwrap();
    second.allow(|_| Admission::Member);
    echo(incoming);
    let mut answer = ask(&client, &second, "after").await;
    if answer == Err(RequestError::Closed { peer: second.key() }) {
        // The client had not yet heard of the end of the first: it cannot know what became of the request.
        answer = ask(&client, &second, "after").await;
    }
    assert_eq!(answer, Ok(message("after", 0)));
}

#[tokio::test]
async fn a_shut_down_network_says_so_and_ends_its_incoming() {
    let (node, mut incoming) = node(1, Limits::default()).await;
    let clone = node.clone();
    let key = node.key();
    node.shutdown().await;
    assert!(incoming.next().await.is_none());
    let asked = clone.request(key, Conversation::Join, message("", 0), DEADLINE).await;
    assert_eq!(asked, Err(RequestError::ShutDown));
}

#[tokio::test]
async fn handshakes_that_never_end_do_not_lock_others_out_for_ever() {
    let (node, incoming) =
        node(1, Limits { handshakes: 4, handshakes_per_address: 2, ..Limits::default() }).await;
    echo(incoming);
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(tokio::net::TcpStream::connect(node.listen_addresses()[0]).await.unwrap());
    }
    // The third from this address is closed at once.
    let mut third = tokio::net::TcpStream::connect(node.listen_addresses()[0]).await.unwrap();
    assert!(matches!(third.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    drop(silent);
    let (client, _) = client(2).await;
    introduce(&client, &node);
    // The node hears of the two ends in its own time.
    while ask(&client, &node, "in").await.is_err() {}
}

#[tokio::test]
async fn guests_do_not_crowd_out_members() {
    let (node, incoming) = node(1, Limits { connections_of_guests: 1, ..Limits::default() }).await;
    echo(incoming);
    let (member, _) = client(2).await;
    let key = member.key();
    node.allow(move |peer| if peer == key { Admission::Member } else { Admission::Guest });
    let join = |client: Network| {
        introduce(&client, &node);
        let peer = node.key();
        async move { client.request(peer, Conversation::Join, message("?", 0), DEADLINE).await }
    };
    let ((first, _first), (second, _second)) = (client(3).await, client(4).await);
    assert!(join(first.clone()).await.is_ok());
    assert!(join(second).await.is_err());
    assert!(join(member).await.is_ok());
    assert!(join(first).await.is_ok());
}
