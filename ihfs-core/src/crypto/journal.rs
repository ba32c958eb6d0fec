//! Sealing the segments of a mount's journal: AES-256-GCM (NIST SP 800-38D) in frames that are counted.
//!
//! The nonce of a frame is its number in the segment (96 bits, big-endian), its additional data
//! `"IHFS 1 journal frame" ‖ number of the segment (u32, big-endian)`. Frame 0 seals nothing and has the segment's
//! header as additional data. A segment has a key of its own, from a random salt, and whoever writes it never
//! uses a number twice, also not for a frame whose writing failed: so no key ever meets a nonce again.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};

use crate::crypto::derive::JournalKey;
use crate::crypto::seal::{FRAME_SIZE, TAG_SIZE, WrongKey};

/// Bytes of the checksum of a segment's header.
pub const CHECKSUM_SIZE: usize = 16;

const FRAME_LABEL: &[u8; 20] = b"IHFS 1 journal frame";
const HEADER_LABEL: &[u8; 21] = b"IHFS 1 journal header";
const CHECKSUM_LABEL: &str = "IHFS 1 journal checksum";

/// Seals and opens the frames of one segment.
pub struct SegmentCipher {
    cipher: Aes256Gcm,
    /// Additional data of every frame but the first.
    additional: [u8; FRAME_LABEL.len() + 4],
}

impl std::fmt::Debug for SegmentCipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SegmentCipher(…)")
    }
}

impl SegmentCipher {
    /// That of segment `number`, whose salt gave the key.
    pub fn new(key: &JournalKey, number: u32) -> Self {
        let mut additional = [0; FRAME_LABEL.len() + 4];
        additional[..FRAME_LABEL.len()].copy_from_slice(FRAME_LABEL);
        additional[FRAME_LABEL.len()..].copy_from_slice(&number.to_be_bytes());
        Self { cipher: Aes256Gcm::new(key.0.expose().into()), additional }
    }

    /// Frame 0: the tag by which the segment's header is known to be ours. Called once for a segment.
    pub fn seal_header(&self, header: &[u8]) -> [u8; TAG_SIZE] {
        let additional = [HEADER_LABEL.as_slice(), header].concat();
        self.encrypt(0, &additional, &mut [])
    }

    /// Checks the tag of a header.
    ///
    /// # Errors
    /// [`WrongKey`].
    pub fn open_header(&self, header: &[u8], tag: &[u8; TAG_SIZE]) -> Result<(), WrongKey> {
        let additional = [HEADER_LABEL.as_slice(), header].concat();
        self.decrypt(0, &additional, &mut [], tag)
    }

    /// Appends one frame: the sealed plaintext and its tag.
    ///
    /// # Panics
    /// For frame 0, which belongs to the header.
    pub fn seal_frame(&self, frame: u32, plaintext: &[u8], output: &mut Vec<u8>) {
        assert_ne!(frame, 0, "frame 0 is the header's");
        let start = output.len();
        output.extend_from_slice(plaintext);
        let tag = self.encrypt(frame, &self.additional, &mut output[start..]);
        output.extend_from_slice(&tag);
    }

    /// Appends `data` in frames of [`FRAME_SIZE`], the last one shorter, numbered from `first_frame`.
    pub fn seal_data(&self, first_frame: u32, data: &[u8], output: &mut Vec<u8>) {
        for (frame, plaintext) in (first_frame..).zip(data.chunks(FRAME_SIZE)) {
            self.seal_frame(frame, plaintext, output);
        }
    }

    /// Opens a frame, tag included, in place.
    ///
    /// # Errors
    /// [`WrongKey`]; what stands in `sealed` is then worth nothing.
    pub fn open_frame<'a>(&self, frame: u32, sealed: &'a mut [u8]) -> Result<&'a mut [u8], WrongKey> {
        let (text, tag) = sealed.split_last_chunk_mut::<TAG_SIZE>().ok_or(WrongKey)?;
        self.decrypt(frame, &self.additional, text, tag)?;
        Ok(text)
    }

    fn encrypt(&self, frame: u32, additional: &[u8], text: &mut [u8]) -> [u8; TAG_SIZE] {
        let tag = self.cipher.encrypt_inout_detached(&nonce(frame), additional, text.into());
        tag.expect("a frame is far below the limit of AES-GCM").into()
    }

    fn decrypt(
        &self,
        frame: u32,
        additional: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_SIZE],
    ) -> Result<(), WrongKey> {
        let tag = Tag::from(*tag);
        self.cipher.decrypt_inout_detached(&nonce(frame), additional, text.into(), &tag).map_err(|_| WrongKey)
    }
}

/// Bytes that `length` bytes of data take in frames.
pub const fn sealed_data_length(length: usize) -> usize {
    length + length.div_ceil(FRAME_SIZE) * TAG_SIZE
}

/// `BLAKE3-derive-key("IHFS 1 journal checksum", header)`, its first bytes: tells a damaged header from another key.
pub fn header_checksum(header: &[u8]) -> [u8; CHECKSUM_SIZE] {
    let digest = blake3::derive_key(CHECKSUM_LABEL, header);
    *digest.first_chunk().expect("a digest has 32 bytes")
}

fn nonce(frame: u32) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0; 12];
    nonce[8..].copy_from_slice(&frame.to_be_bytes());
    nonce.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::secret::Secret;

    fn cipher(key: u8, number: u32) -> SegmentCipher {
        SegmentCipher::new(&JournalKey(Secret::new([key; 32])), number)
    }

    #[test]
    fn a_frame_opens_only_as_what_it_was_sealed_as() {
        let mut sealed = Vec::new();
        cipher(1, 2).seal_frame(3, b"plaintext", &mut sealed);
        let open = |cipher: SegmentCipher, frame| {
            cipher.open_frame(frame, &mut sealed.clone()).map(|text| text.to_vec())
        };
        assert_eq!(open(cipher(1, 2), 3), Ok(b"plaintext".to_vec()));
        assert_eq!(open(cipher(9, 2), 3), Err(WrongKey));
        assert_eq!(open(cipher(1, 9), 3), Err(WrongKey));
        assert_eq!(open(cipher(1, 2), 4), Err(WrongKey));
        assert_eq!(cipher(1, 2).open_frame(3, &mut sealed[..15]), Err(WrongKey));
    }

    #[test]
    fn data_is_cut_into_frames_that_open_alone() {
        let data: Vec<u8> = (0..FRAME_SIZE * 2 + 5).map(|place| place as u8).collect();
        let mut sealed = Vec::new();
        cipher(1, 2).seal_data(7, &data, &mut sealed);
        assert_eq!(sealed.len(), sealed_data_length(data.len()));
        let middle = &mut sealed[FRAME_SIZE + TAG_SIZE..2 * (FRAME_SIZE + TAG_SIZE)];
        assert_eq!(cipher(1, 2).open_frame(8, middle).unwrap(), &data[FRAME_SIZE..2 * FRAME_SIZE]);
        assert_eq!(
            cipher(1, 2).open_frame(9, &mut sealed[2 * (FRAME_SIZE + TAG_SIZE)..]).unwrap(),
            &data[2 * FRAME_SIZE..]
        );
    }

    #[test]
    fn a_header_is_known_by_its_tag() {
        let tag = cipher(1, 2).seal_header(b"header");
        assert_eq!(cipher(1, 2).open_header(b"header", &tag), Ok(()));
        assert_eq!(cipher(1, 2).open_header(b"Header", &tag), Err(WrongKey));
        assert_eq!(cipher(3, 2).open_header(b"header", &tag), Err(WrongKey));
    }
}
