//! What the fuzz targets call: the decoders of bytes that other validators, or a crash, wrote.

use super::message::Message;
use super::wal::WalRecord;

/// Decodes a consensus message; what decodes must encode to the same bytes.
pub fn message(bytes: &[u8]) {
    if let Ok(message) = Message::decode(bytes) {
        assert_eq!(message.encode(), bytes);
    }
}

/// Decodes a record of the log; what decodes must encode to the same bytes.
pub fn wal_record(bytes: &[u8]) {
    if let Ok(record) = WalRecord::decode(bytes) {
        assert_eq!(record.encode(), bytes);
    }
}
