//! How much a network takes on: connections, streams, requests, memory and guests.

/// Limits of one [`Network`](crate::Network). The defaults suit a node of a hospital: what is served
/// holds at most 64 MiB (requests and answers), besides Yamux windows and buffers per connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all, handshakes included. 512: a hospital's workstations; each costs about 200 KiB
    /// as it is used; a peer that sends without end may fill its 18 MiB of Yamux windows.
    pub connections: usize,
    /// Connections of one peer. 4: two when both dial at once, two more while old ones die.
    pub connections_per_peer: usize,
    /// Connections that are still in their handshake. 64: handshakes cost processor time.
    pub handshakes: usize,
    /// The same from one IP address. 16: a hospital behind one address still gets in at the morning
    /// rush, and one machine that shakes hands for ever does not lock the others out.
    pub handshakes_per_address: usize,
    /// Connections of guests. 32: few join at one time, and strangers must not crowd out members.
    pub connections_of_guests: usize,
    /// Streams that one connection may have open towards us. 12: one per conversation, and one more
    /// of each while an old one ends.
    pub streams_per_connection: usize,
    /// Unanswered requests on one stream. 64 requests of 1 MiB fill 10 Gbit/s over 40 ms.
    pub requests_in_flight_per_stream: usize,
    /// Received requests that nobody has taken from [`Incoming`](crate::Incoming) yet. 256: a short
    /// burst of every workstation; their bytes count below.
    pub requests_waiting: usize,
    /// Bytes of requests that are not answered yet, all peers. 32 MiB; also the limit for answers
    /// that are not written yet.
    pub bytes_in_flight: usize,
    /// The same for one connection. 8 MiB: four greedy peers do not stop the others' small requests.
    pub bytes_in_flight_per_connection: usize,
    /// Requests that one guest may make per minute, with as many at once. 12: joining takes about four.
    pub guest_requests_per_minute: u32,
    /// Requests that all guests together may make per minute. 240: strangers can invent keys at will.
    pub guests_requests_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            connections_per_peer: 4,
            handshakes: 64,
            handshakes_per_address: 16,
            connections_of_guests: 32,
            streams_per_connection: 12,
            requests_in_flight_per_stream: 64,
            requests_waiting: 256,
            bytes_in_flight: 32 << 20,
            bytes_in_flight_per_connection: 8 << 20,
            guest_requests_per_minute: 12,
            guests_requests_per_minute: 240,
        }
    }
}
