//! Wire messages, one file per conversation.
