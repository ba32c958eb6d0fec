//! Measures, rather than tests: chunks over the network against plain TCP in the same run.
//!
//! `cargo test -p ihfs-net --test throughput -- --ignored --nocapture`

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, stream};
use ihfs_net::{Admission, Conversation, Identity, Limits, Message, Network};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const CHUNK_BYTES: usize = 1 << 20;
/// Asks for a chunk; everything else is answered with an empty message.
const FETCH: &[u8] = b"fetch";
const DEADLINE: Duration = Duration::from_secs(60);

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// MiB per second of this many chunks, fetched one after another over plain TCP without answers between.
async fn tcp(chunks: usize) -> f64 {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let chunk = vec![7; CHUNK_BYTES];
        for _ in 0..chunks {
            socket.write_all(&chunk).await.unwrap();
        }
    });
    let start = Instant::now();
    let mut socket = TcpStream::connect(address).await.unwrap();
    for _ in 0..chunks {
        let mut chunk = vec![0; CHUNK_BYTES];
        socket.read_exact(&mut chunk).await.unwrap();
    }
    chunks as f64 / start.elapsed().as_secs_f64()
}

struct Pair {
    node: Network,
    client: Network,
}

async fn pair() -> Pair {
    let start = |seed, listen: Vec<SocketAddr>| async move {
        Network::start(Identity::from_seed(&[seed; 32]), &listen, Limits::default()).await.unwrap()
    };
    let (node, mut incoming) = start(1, vec![loopback()]).await;
    node.allow(|_| Admission::Member);
    let chunk = Bytes::from(vec![7; CHUNK_BYTES]);
    tokio::spawn(async move {
        while let Some(request) = incoming.next().await {
            let is_fetch = request.message.header == FETCH;
            let body = if is_fetch { chunk.clone() } else { Bytes::new() };
            tokio::spawn(request.reply.send(Message { header: Bytes::new(), body }));
        }
    });
    let (client, _) = start(2, vec![]).await;
    Pair { node, client }
}

/// MiB per second, 16 requests in flight.
async fn network(pair: &Pair, chunks: usize, question: Message) -> f64 {
    let start = Instant::now();
    let asked = stream::iter(0..chunks)
        .map(|_| pair.client.request(pair.node.key(), Conversation::Chunk, question.clone(), DEADLINE));
    asked.buffer_unordered(16).for_each(|answer| async { drop(answer.unwrap()) }).await;
    chunks as f64 / start.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn chunks_against_plain_tcp() {
    let pair = pair().await;
    pair.client.add_address(pair.node.key(), pair.node.listen_addresses()[0]);
    let store = Message { header: Bytes::new(), body: vec![7; CHUNK_BYTES].into() };
    for _ in 0..3 {
        let plain = tcp(512).await;
        let fetched = network(&pair, 512, Message::of_header(FETCH)).await;
        let stored = network(&pair, 512, store.clone()).await;
        println!(
            "tcp {plain:.0} MiB/s, fetch {fetched:.0} ({:.2}), store {stored:.0} ({:.2})",
            fetched / plain,
            stored / plain
        );
    }
    let plain = tcp_round_trip().await;
    let start = Instant::now();
    for _ in 0..2000 {
        let small = pair.client.request(pair.node.key(), Conversation::Ledger, Message::default(), DEADLINE);
        let _ = small.await;
    }
    println!("one small round trip: {:?}, plain TCP {plain:?}", start.elapsed() / 2000);
    let chunks = network(&pair, 1024, Message::of_header(FETCH));
    let small = async {
        let mut longest = Duration::ZERO;
        let start = Instant::now();
        for _ in 0..200 {
            let start = Instant::now();
            let small =
                pair.client.request(pair.node.key(), Conversation::Ledger, Message::default(), DEADLINE);
            small.await.unwrap();
            longest = longest.max(start.elapsed());
        }
        println!("the same beside 16 chunks in flight: {:?}, longest {longest:?}", start.elapsed() / 200);
    };
    tokio::join!(chunks, small);
}

async fn tcp_round_trip() -> Duration {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (mut read, mut write) = socket.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let start = Instant::now();
    for _ in 0..2000 {
        socket.write_all(&[7; 17]).await.unwrap();
        socket.read_exact(&mut [0; 17]).await.unwrap();
    }
    start.elapsed() / 2000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn chunks_over_40_ms() {
    let pair = pair().await;
    let line = delayed(pair.node.listen_addresses()[0], Duration::from_millis(20)).await;
    pair.client.add_address(pair.node.key(), line);
    for (what, conversation) in [
        ("first request, dial included", Conversation::Ledger),
        ("second request", Conversation::Ledger),
        ("first request of another conversation", Conversation::Status),
    ] {
        let start = Instant::now();
        pair.client.request(pair.node.key(), conversation, Message::default(), DEADLINE).await.unwrap();
        println!("{what}: {:?}", start.elapsed());
    }
    for chunks in [1, 16, 128, 128] {
        println!(
            "{chunks} chunks over 40 ms: {:.0} MiB/s",
            network(&pair, chunks, Message::of_header(FETCH)).await
        );
    }
}

/// A line to `to` that delays each direction.
async fn delayed(to: SocketAddr, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(to).await.unwrap();
        for socket in [&near, &far] {
            socket.set_nodelay(true).unwrap();
        }
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        tokio::join!(carry(near_read, far_write, delay), carry(far_read, near_write, delay));
    });
    address
}

async fn carry<R: AsyncReadExt + Unpin, W: AsyncWriteExt + Unpin>(mut from: R, mut to: W, delay: Duration) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let read = async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let _ = sender.send((tokio::time::Instant::now() + delay, buffer[..read].to_vec()));
        }
    };
    let write = async move {
        while let Some((due, bytes)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}
