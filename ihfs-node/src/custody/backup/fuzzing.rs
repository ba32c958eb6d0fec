//! What the fuzz targets call: the decoders of a file that came from another machine.

use ihfs_core::codec;

use super::{BACKUP_BYTES_MAX, Backup, parts};

/// Takes a sealed backup apart.
pub fn sealed(bytes: &[u8]) {
    if let Some((_, length, sealed)) = parts(bytes) {
        assert!(length <= BACKUP_BYTES_MAX && sealed.len() < bytes.len());
    }
}

/// Decodes an opened backup; what decodes must encode to the same bytes.
pub fn opened(bytes: &[u8]) {
    if let Ok(backup) = codec::decode::<Backup>(bytes, BACKUP_BYTES_MAX) {
        assert_eq!(codec::encode(&backup), bytes);
    }
}
