//! What commands and the agent say to each other.
//!
//! A message: length of the head (u16), length of the secret (u32), head (canonical DAG-CBOR), secret (raw).
//! Secrets stand apart, so that no encoder leaves copies of them in freed memory.

use std::io::{Read, Write};

use ihfs_core::codec;
use ihfs_core::crypto::keyring::KEYRING_BYTES_MAX;
use ihfs_core::ids::{GrantId, Time};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::AgentError;

/// Most bytes of a head; real ones have less than 60.
const HEAD_BYTES_MAX: usize = 256;
/// Most bytes of a secret: a keyring; an opened grant is far smaller.
pub(super) const SECRET_BYTES_MAX: usize = KEYRING_BYTES_MAX;
/// Bytes before the head.
const FRAME_BYTES: usize = 6;

/// What a command asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Request {
    /// The keyring's secret bytes.
    #[serde(rename = "keyring")]
    Keyring,
    /// What was kept for a grant.
    #[serde(rename = "get")]
    Get(GrantId),
    /// Keep the secret for a grant until then.
    #[serde(rename = "put")]
    Put(GrantId, Time),
    /// Forget a grant.
    #[serde(rename = "remove")]
    Remove(GrantId),
    /// How long until it locks by itself.
    #[serde(rename = "status")]
    Status,
    /// Wipe everything and end.
    #[serde(rename = "lock")]
    Lock,
}

/// What the agent answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Answer {
    /// Done.
    #[serde(rename = "done")]
    Done,
    /// The secret that was asked for follows.
    #[serde(rename = "secret")]
    Secret,
    /// Nothing is kept for it.
    #[serde(rename = "nothing")]
    Nothing,
    /// It locks after so many seconds without a command, and keeps so many openings.
    #[serde(rename = "status")]
    Status {
        /// Idle time, in seconds.
        lock_after: u64,
        /// Opened grants.
        openings: u64,
    },
}

/// Sends a message.
///
/// # Errors
/// [`AgentError::Unreachable`].
pub(super) fn send<Head: Serialize>(
    to: &mut impl Write,
    head: &Head,
    secret: &[u8],
) -> Result<(), AgentError> {
    let head = codec::encode(head);
    let head_length = u16::try_from(head.len()).expect("heads are small").to_be_bytes();
    let secret_length = u32::try_from(secret.len()).expect("secrets are small").to_be_bytes();
    for part in [&head_length[..], &secret_length, &head, secret] {
        to.write_all(part).map_err(AgentError::Unreachable)?;
    }
    to.flush().map_err(AgentError::Unreachable)
}

/// Receives a message.
///
/// # Errors
/// [`AgentError::Unreachable`], [`AgentError::Garbage`].
pub(super) fn receive<Head: Serialize + DeserializeOwned>(
    from: &mut impl Read,
) -> Result<(Head, Zeroizing<Vec<u8>>), AgentError> {
    let mut frame = [0; FRAME_BYTES];
    from.read_exact(&mut frame).map_err(AgentError::Unreachable)?;
    let [h0, h1, s0, s1, s2, s3] = frame;
    let head_length = usize::from(u16::from_be_bytes([h0, h1]));
    let secret_length = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
    if head_length > HEAD_BYTES_MAX || secret_length > SECRET_BYTES_MAX {
        return Err(AgentError::Garbage);
    }
    let mut head = vec![0; head_length];
    from.read_exact(&mut head).map_err(AgentError::Unreachable)?;
    let mut secret = Zeroizing::new(vec![0; secret_length]);
    from.read_exact(&mut secret).map_err(AgentError::Unreachable)?;
    let head = codec::decode(&head, HEAD_BYTES_MAX).map_err(|_| AgentError::Garbage)?;
    Ok((head, secret))
}

/// Receives on either side, for the fuzz targets; what is received is sent as the same bytes.
pub(crate) fn receive_all(bytes: &[u8]) {
    receive_again::<Request>(bytes);
    receive_again::<Answer>(bytes);
}

fn receive_again<Head: Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok((head, secret)) = receive::<Head>(&mut &bytes[..]) {
        let mut wire = Vec::new();
        send(&mut wire, &head, &secret).expect("a vector takes everything");
        assert_eq!(wire, bytes[..wire.len()]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_comes_as_it_was_sent() {
        let request = Request::Put(GrantId::from_bytes([1; 32]), Time(2));
        let mut wire = Vec::new();
        send(&mut wire, &request, b"key").unwrap();
        let (head, secret) = receive::<Request>(&mut wire.as_slice()).unwrap();
        assert_eq!((head, secret.as_slice()), (request, b"key".as_slice()));
    }

    #[test]
    fn too_long_a_part_is_refused_before_it_is_read() {
        for frame in [[2, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0]] {
            assert!(matches!(receive::<Request>(&mut frame.as_slice()), Err(AgentError::Garbage)));
        }
    }

    #[test]
    fn a_message_cut_short_is_refused() {
        let mut wire = Vec::new();
        send(&mut wire, &Request::Keyring, b"key").unwrap();
        for length in 0..wire.len() {
            assert!(receive::<Request>(&mut &wire[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            receive_all(&bytes);
        }
    }
}
