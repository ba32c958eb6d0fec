//! The bytes of a frame, and nothing else: no I/O, no clock, no allocation before a limit is checked.
//!
//! A stream carries frames of one conversation back to back. Whoever opened the stream sends
//! requests and pings; the other side sends answers, refusals and pongs. Integers are big-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | kind: 1 request, 2 answer, 3 refusal, 4 ping, 5 pong |
//! | 1 | 1 | reason of a refusal (see [`Refusal`]), else 0 |
//! | 2 | 1 | conversation (see [`Conversation`]), the same in every frame of a stream |
//! | 3 | 1 | 0, reserved |
//! | 4 | 4 | request id: chosen by the requester, unique among its unanswered requests on this stream |
//! | 8 | 4 | length of the header, ≤ 65,536; 0 in refusal, ping, pong |
//! | 12 | 4 | length of the body, ≤ 1,114,112; 0 in refusal, ping, pong |
//! | 16 | | header, then body |
//!
//! Each request gets one answer or one refusal with its id, in any order. A ping gets a pong with
//! its id. Anything else ends the connection.

use bytes::Bytes;

use crate::message::{BODY_BYTES_MAX, Conversation, HEADER_BYTES_MAX, Message};

/// Bytes before the header of the message.
pub const HEAD_BYTES: usize = 16;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Asks; carries a message.
    Request,
    /// Answers a request; carries a message.
    Answer,
    /// Says that a request will not be answered, and why.
    Refusal(Refusal),
    /// Asks whether the other side is still there.
    Ping,
    /// Says so.
    Pong,
}

/// Why a request was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// Too many requests, or no memory for this one: try later or elsewhere.
    Busy = 1,
    /// Not open to this peer.
    NotAdmitted = 2,
    /// It was taken and then dropped without an answer.
    Unanswered = 3,
    /// Nobody serves requests there.
    NotServed = 4,
    /// Longer than this peer may send.
    TooLarge = 5,
}

impl Refusal {
    const ALL: [Self; 5] = [Self::Busy, Self::NotAdmitted, Self::Unanswered, Self::NotServed, Self::TooLarge];
}

/// The first [`HEAD_BYTES`] of a frame, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the frame is.
    pub kind: Kind,
    /// Which conversation it belongs to.
    pub conversation: Conversation,
    /// Which request it belongs to.
    pub id: u32,
    /// Bytes of header that follow; at most [`HEADER_BYTES_MAX`].
    pub header_bytes: u32,
    /// Bytes of body that follow the header; at most [`BODY_BYTES_MAX`].
    pub body_bytes: u32,
}

impl Head {
    /// A frame that carries no message.
    pub fn bare(kind: Kind, conversation: Conversation, id: u32) -> Self {
        Self { kind, conversation, id, header_bytes: 0, body_bytes: 0 }
    }

    /// A frame that carries this message, which keeps to the limits.
    pub fn carrying(kind: Kind, conversation: Conversation, id: u32, message: &Message) -> Self {
        assert!(message.fits(), "a message is checked against its limits before it is framed");
        let [header_bytes, body_bytes] = [message.header.len() as u32, message.body.len() as u32];
        Self { kind, conversation, id, header_bytes, body_bytes }
    }

    /// Bytes that follow the head.
    pub fn message_bytes(&self) -> usize {
        self.header_bytes as usize + self.body_bytes as usize
    }

    /// The head as it is written.
    pub fn encode(&self) -> [u8; HEAD_BYTES] {
        let (kind, reason) = match self.kind {
            Kind::Request => (1, 0),
            Kind::Answer => (2, 0),
            Kind::Refusal(refusal) => (3, refusal as u8),
            Kind::Ping => (4, 0),
            Kind::Pong => (5, 0),
        };
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&[kind, reason, self.conversation as u8, 0]);
        bytes[4..8].copy_from_slice(&self.id.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.header_bytes.to_be_bytes());
        bytes[12..].copy_from_slice(&self.body_bytes.to_be_bytes());
        bytes
    }

    /// Reads a head of the given conversation.
    ///
    /// # Errors
    /// [`FrameError`] names the rule that the bytes break.
    pub fn decode(bytes: &[u8; HEAD_BYTES], conversation: Conversation) -> Result<Self, FrameError> {
        let [kind, reason, named, reserved] = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if named != conversation as u8 {
            return Err(FrameError::WrongConversation { expected: conversation, found: named });
        }
        let kind = decode_kind(kind, reason)?;
        if reserved != 0 {
            return Err(FrameError::ReservedNotZero { found: reserved });
        }
        let [id, header_bytes, body_bytes] = [4, 8, 12].map(|at| u32_at(bytes, at));
        check_lengths(kind, header_bytes, body_bytes)?;
        Ok(Self { kind, conversation, id, header_bytes, body_bytes })
    }
}

/// Reads one frame from the front of `bytes`, copying nothing. `None`: more bytes are needed.
/// Otherwise the head, its message (empty where it carries none) and how many bytes they took.
///
/// # Errors
/// [`FrameError`] names the rule that the bytes break.
pub fn decode(
    bytes: &Bytes,
    conversation: Conversation,
) -> Result<Option<(Head, Message, usize)>, FrameError> {
    let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let head = Head::decode(head, conversation)?;
    let body_at = HEAD_BYTES + head.header_bytes as usize;
    let end = HEAD_BYTES + head.message_bytes();
    if bytes.len() < end {
        return Ok(None);
    }
    let message = Message { header: bytes.slice(HEAD_BYTES..body_at), body: bytes.slice(body_at..end) };
    Ok(Some((head, message, end)))
}

fn decode_kind(kind: u8, reason: u8) -> Result<Kind, FrameError> {
    let kind = match kind {
        1 => Kind::Request,
        2 => Kind::Answer,
        3 => {
            let known = Refusal::ALL.into_iter().find(|refusal| *refusal as u8 == reason);
            return known.map(Kind::Refusal).ok_or(FrameError::UnknownReason { found: reason });
        }
        4 => Kind::Ping,
        5 => Kind::Pong,
        found => return Err(FrameError::UnknownKind { found }),
    };
    match reason {
        0 => Ok(kind),
        found => Err(FrameError::UnknownReason { found }),
    }
}

fn check_lengths(kind: Kind, header_bytes: u32, body_bytes: u32) -> Result<(), FrameError> {
    if !matches!(kind, Kind::Request | Kind::Answer) && (header_bytes, body_bytes) != (0, 0) {
        return Err(FrameError::UnexpectedMessage);
    }
    if header_bytes as usize > HEADER_BYTES_MAX {
        return Err(FrameError::HeaderTooLong { found: header_bytes });
    }
    if body_bytes as usize > BODY_BYTES_MAX {
        return Err(FrameError::BodyTooLong { found: body_bytes });
    }
    Ok(())
}

fn u32_at(bytes: &[u8; HEAD_BYTES], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Which rule of the frame format a peer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not one of the five kinds.
    #[error("there is no frame of kind {found}")]
    UnknownKind {
        /// The byte that stood there.
        found: u8,
    },
    /// A refusal without a known reason, or a reason where none belongs.
    #[error("{found} is no reason in a frame of this kind")]
    UnknownReason {
        /// The byte that stood there.
        found: u8,
    },
    /// The frame names another conversation than its stream.
    #[error("a frame on the {expected:?} stream names conversation {found}")]
    WrongConversation {
        /// The conversation of the stream.
        expected: Conversation,
        /// The byte that stood there.
        found: u8,
    },
    /// The reserved byte is used.
    #[error("the reserved byte is {found}, not 0")]
    ReservedNotZero {
        /// The byte that stood there.
        found: u8,
    },
    /// A refusal, ping or pong with a message.
    #[error("a refusal, ping or pong carries no message")]
    UnexpectedMessage,
    /// Longer than [`HEADER_BYTES_MAX`].
    #[error("a header of {found} bytes is over the limit of {HEADER_BYTES_MAX}")]
    HeaderTooLong {
        /// The length that was announced.
        found: u32,
    },
    /// Longer than [`BODY_BYTES_MAX`].
    #[error("a body of {found} bytes is over the limit of {BODY_BYTES_MAX}")]
    BodyTooLong {
        /// The length that was announced.
        found: u32,
    },
    /// A kind that this side of the stream never receives.
    #[error("{found:?} does not go this way on a stream")]
    WrongWay {
        /// What was received.
        found: Kind,
    },
    /// An answer or refusal for a request that was not made, or twice for one.
    #[error("there is no open request {id}")]
    UnknownRequest {
        /// The id that was named.
        id: u32,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request() -> [u8; HEAD_BYTES] {
        [1, 0, 2, 0, 0, 0, 0, 7, 0, 0, 0, 3, 0, 0x10, 0, 0]
    }

    fn decode_with(at: usize, byte: u8) -> Result<Head, FrameError> {
        let mut bytes = request();
        bytes[at] = byte;
        Head::decode(&bytes, Conversation::Chunk)
    }

    #[test]
    fn the_bytes_of_a_head_are_pinned() {
        let message = Message { header: vec![1; 3].into(), body: vec![2; 1 << 20].into() };
        let head = Head::carrying(Kind::Request, Conversation::Chunk, 7, &message);
        assert_eq!(head.encode(), request());
        assert_eq!(Head::decode(&request(), Conversation::Chunk), Ok(head));
        let refusal = Head::bare(Kind::Refusal(Refusal::NotAdmitted), Conversation::Key, 0x01020304);
        assert_eq!(refusal.encode(), [3, 2, 3, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn each_broken_rule_is_named() {
        assert_eq!(decode_with(0, 6), Err(FrameError::UnknownKind { found: 6 }));
        assert_eq!(decode_with(1, 1), Err(FrameError::UnknownReason { found: 1 }));
        assert_eq!(decode_with(0, 3), Err(FrameError::UnknownReason { found: 0 }));
        assert_eq!(
            decode_with(2, 9),
            Err(FrameError::WrongConversation { expected: Conversation::Chunk, found: 9 })
        );
        assert_eq!(decode_with(3, 1), Err(FrameError::ReservedNotZero { found: 1 }));
        assert_eq!(decode_with(0, 4), Err(FrameError::UnexpectedMessage));
        assert_eq!(decode_with(9, 2), Err(FrameError::HeaderTooLong { found: (2 << 16) + 3 }));
        assert_eq!(decode_with(12, 0xff), Err(FrameError::BodyTooLong { found: 0xff10_0000 }));
        assert_eq!(decode_with(15, 1), Ok(Head { body_bytes: (1 << 20) + 1, ..decode_with(0, 1).unwrap() }));
    }

    #[test]
    fn the_longest_message_is_taken_and_one_byte_more_is_not() {
        let message =
            Message { header: vec![0; HEADER_BYTES_MAX].into(), body: vec![0; BODY_BYTES_MAX].into() };
        let head = Head::carrying(Kind::Answer, Conversation::Join, 1, &message);
        assert_eq!(Head::decode(&head.encode(), Conversation::Join), Ok(head));
        let longer = Head { body_bytes: head.body_bytes + 1, ..head };
        assert!(Head::decode(&longer.encode(), Conversation::Join).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_an_error_or_too_few(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            for conversation in Conversation::ALL {
                if let Ok(Some((head, message, used))) = decode(&bytes, conversation) {
                    prop_assert!(used <= bytes.len());
                    prop_assert_eq!(&head.encode()[..], &bytes[..HEAD_BYTES]);
                    prop_assert_eq!(message.size_bytes(), head.message_bytes());
                }
            }
        }

        #[test]
        fn a_frame_is_read_as_it_was_written(
            id: u32, header in proptest::collection::vec(any::<u8>(), 0..50),
            body in proptest::collection::vec(any::<u8>(), 0..50), cut in 0..116usize,
        ) {
            let message = Message { header: header.into(), body: body.into() };
            let head = Head::carrying(Kind::Request, Conversation::Ledger, id, &message);
            let whole: Bytes = [&head.encode()[..], &message.header, &message.body].concat().into();
            let cut = cut.min(whole.len());
            let part = decode(&whole.slice(..cut), Conversation::Ledger).unwrap();
            prop_assert_eq!(part.is_some(), cut == whole.len());
            prop_assert_eq!(decode(&whole, Conversation::Ledger), Ok(Some((head, message, whole.len()))));
        }
    }
}
