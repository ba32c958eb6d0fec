//! The network in memory, in virtual time.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use ihfs_net::{
    Admission, Conversation, Incoming, Limits, Message, Network, PeerKey, RequestError, Traffic, Twin,
};
use tokio::time::Instant;

const CLIENT: PeerKey = PeerKey::from_bytes([1; 32]);
const NODE: PeerKey = PeerKey::from_bytes([2; 32]);
const DEADLINE: Duration = Duration::from_secs(10);

fn pair(twin: &Twin) -> Network {
    let (node, incoming) = twin.network(NODE, Limits::default());
    node.allow(|_| Admission::Member);
    echo(incoming);
    twin.network(CLIENT, Limits::default()).0
}

fn echo(mut incoming: Incoming) {
    tokio::spawn(async move {
        while let Some(request) = incoming.next().await {
            let _ = request.reply.send(request.message).await;
        }
    });
}

async fn ask(client: &Network) -> Result<Message, RequestError> {
    client
        .request(NODE, Conversation::Chunk, Message::of_header(Bytes::from_static(b"12345")), DEADLINE)
        .await
}

#[tokio::test(start_paused = true)]
async fn delay_is_counted_in_virtual_time_and_round_trips_by_dependence() {
    let twin = Twin::new(1);
    twin.set_delay(Duration::from_millis(20));
    let client = pair(&twin);
    let start = Instant::now();
    ask(&client).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_millis(40));
    assert_eq!(twin.round_trips(CLIENT), 1);
    for answer in join_all((0..8).map(|_| ask(&client))).await {
        answer.unwrap();
    }
    assert_eq!(start.elapsed(), Duration::from_millis(80));
    assert_eq!(twin.round_trips(CLIENT), 2);
    assert_eq!(twin.traffic(CLIENT, NODE), Traffic { requests: 9, answers: 0, bytes: 45, lost: 0 });
    assert_eq!(twin.traffic(NODE, CLIENT), Traffic { requests: 0, answers: 9, bytes: 45, lost: 0 });
    twin.clear_counters();
    assert_eq!(twin.round_trips(CLIENT), 0);
    twin.set_delay_between(CLIENT, NODE, Duration::from_secs(1));
    ask(&client).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_millis(2080));
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_met_as_a_deadline_and_heals() {
    let twin = Twin::new(1);
    let client = pair(&twin);
    ask(&client).await.unwrap();
    twin.partition(&[CLIENT], &[NODE]);
    assert_eq!(ask(&client).await, Err(RequestError::TimedOut { peer: NODE, deadline: DEADLINE }));
    twin.heal();
    ask(&client).await.unwrap();
}

async fn outcomes(seed: u64) -> Vec<bool> {
    let twin = Twin::new(seed);
    twin.set_loss(300_000);
    let client = pair(&twin);
    let mut outcomes = Vec::new();
    for _ in 0..200 {
        outcomes.push(ask(&client).await.is_ok());
    }
    outcomes
}

#[tokio::test(start_paused = true)]
async fn loss_depends_on_the_seed_alone_and_a_retry_gets_through() {
    let first = outcomes(7).await;
    assert_eq!(first, outcomes(7).await);
    assert_ne!(first, outcomes(8).await);
    let answered = first.iter().filter(|ok| **ok).count();
    // Both ways have to get through: 49 % of 200, within four standard deviations.
    assert!((70..=126).contains(&answered), "{answered}");
    assert!(first.windows(20).all(|tries| tries.contains(&true)));
}

#[tokio::test(start_paused = true)]
async fn admission_limits_and_refusals_are_those_of_the_real_network() {
    let twin = Twin::new(1);
    let limits =
        Limits { requests_in_flight_per_stream: 1, guest_requests_per_minute: 1, ..Limits::default() };
    let (node, mut incoming) = twin.network(NODE, limits);
    let client = twin.network(CLIENT, Limits::default()).0;
    assert_eq!(ask(&client).await, Err(RequestError::NotAdmitted { peer: NODE }));
    node.allow(|_| Admission::Member);
    let (first, second, ()) = tokio::join!(ask(&client), ask(&client), async {
        drop(incoming.next().await.unwrap().reply);
    });
    assert_eq!(first, Err(RequestError::Unanswered { peer: NODE }));
    assert_eq!(second, Err(RequestError::Busy { peer: NODE }));
    drop(incoming);
    assert_eq!(ask(&client).await, Err(RequestError::NotServed { peer: NODE }));
    node.shutdown().await;
    assert_eq!(ask(&client).await, Err(RequestError::Unreachable { peer: NODE }));
}
