//! Sealing bytes: AES-256-GCM in frames, padded to Padmé classes.
//!
//! A sealed piece is a sequence of frames of 16 KiB of plaintext, the last one shorter, each followed by its
//! 16-byte tag (NIST SP 800-38D). The nonce is `0^7 ‖ frame number (u32, big-endian) ‖ last (0 or 1)`: the
//! STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár (2015), which refuses reordered, dropped and
//! cut frames. Every key seals one plaintext, so counting nonces never repeat.

use std::ops::Range;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};

use crate::crypto::derive::{LocalKey, PieceKey, RootKey};

/// Plaintext bytes of one frame: what a ranged read has to decrypt at the least.
pub const FRAME_SIZE: usize = 16 << 10;
/// log2 of [`FRAME_SIZE`], as it enters the key derivation.
pub const FRAME_SIZE_LOG2: u8 = 14;
/// Bytes of an AES-GCM tag.
pub const TAG_SIZE: usize = 16;

/// The key does not open these bytes: another key, or changed bytes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("sealed bytes do not open with this key")]
pub struct WrongKey;

/// A key that seals exactly one plaintext.
pub trait StreamKey {
    /// Its 32 bytes, inside this crate's `crypto` only.
    #[doc(hidden)]
    fn stream_key(&self) -> &[u8; 32];
}

impl StreamKey for PieceKey {
    fn stream_key(&self) -> &[u8; 32] {
        &self.0
    }
}

impl StreamKey for RootKey {
    fn stream_key(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

impl StreamKey for LocalKey {
    fn stream_key(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

/// Smallest Padmé class that holds `length` bytes: at most 12 % more, and only O(log log) bits told.
///
/// Source: Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs" (2019), section 4.
pub const fn padded_length(length: usize) -> usize {
    if length < 2 {
        return length;
    }
    let exponent = usize::BITS - 1 - length.leading_zeros();
    let mantissa_bits = u32::BITS - exponent.leading_zeros();
    let zero_bits = exponent - mantissa_bits;
    let mask = (1 << zero_bits) - 1;
    (length + mask) & !mask
}

/// Bytes that `length` bytes of plaintext take once padded and sealed.
pub const fn sealed_length(length: usize) -> usize {
    let padded = padded_length(length);
    let frames = if padded == 0 { 1 } else { padded.div_ceil(FRAME_SIZE) };
    padded + frames * TAG_SIZE
}

/// Appends the sealed form of `plaintext` to `output`.
pub fn seal_into(key: &impl StreamKey, plaintext: &[u8], output: &mut Vec<u8>) {
    let cipher = Aes256Gcm::new(key.stream_key().into());
    let padded = padded_length(plaintext.len());
    output.reserve(sealed_length(plaintext.len()));
    let frames = padded.div_ceil(FRAME_SIZE).max(1);
    for number in 0..frames {
        let start = number * FRAME_SIZE;
        let end = padded.min(start + FRAME_SIZE);
        let frame_at = output.len();
        output.extend_from_slice(&plaintext[start.min(plaintext.len())..end.min(plaintext.len())]);
        output.resize(frame_at + (end - start), 0);
        let nonce = nonce(number, number + 1 == frames);
        let tag = cipher
            .encrypt_inout_detached(&nonce, &[], (&mut output[frame_at..]).into())
            .expect("a frame is far below the limit of AES-GCM");
        output.extend_from_slice(&tag);
    }
}

/// Opens the whole of a sealed piece of `length` plaintext bytes.
///
/// # Errors
/// [`WrongKey`] when a tag does not fit, the length is another, or the padding is not zero.
pub fn open(key: &impl StreamKey, sealed: &[u8], length: usize) -> Result<Vec<u8>, WrongKey> {
    if sealed.len() != sealed_length(length) {
        return Err(WrongKey);
    }
    let mut plaintext = open_padded(key, sealed)?;
    if plaintext[length..].iter().any(|byte| *byte != 0) {
        return Err(WrongKey);
    }
    plaintext.truncate(length);
    Ok(plaintext)
}

/// Opens a sealed piece whose plaintext length is not known, padding included.
///
/// # Errors
/// [`WrongKey`] when a tag does not fit.
pub(crate) fn open_padded(key: &impl StreamKey, sealed: &[u8]) -> Result<Vec<u8>, WrongKey> {
    // Even of nothing there is one frame.
    if sealed.is_empty() {
        return Err(WrongKey);
    }
    open_frames(key, sealed, 0, usize::MAX)
}

/// Opens the frames `first .. end` of a sealed piece, padding included.
///
/// # Errors
/// [`WrongKey`] when a tag does not fit.
pub(crate) fn open_frames(
    key: &impl StreamKey,
    sealed: &[u8],
    first: usize,
    end: usize,
) -> Result<Vec<u8>, WrongKey> {
    let range = frame_bytes(sealed.len(), first, end);
    open_some_frames(key, sealed[range].to_vec(), first, sealed.len())
}

/// Where the frames `first .. end` stand in a sealed piece of `sealed_bytes`.
pub(crate) fn frame_bytes(sealed_bytes: usize, first: usize, end: usize) -> Range<usize> {
    let at = |frame: usize| sealed_bytes.min(frame.saturating_mul(FRAME_SIZE + TAG_SIZE));
    at(first)..at(end).max(at(first))
}

/// Opens `some` frames, from the one with the number `first` on, of a sealed piece of `sealed_bytes`. In place: what
/// was sealed becomes the plaintext.
///
/// # Errors
/// [`WrongKey`] when a tag does not fit.
pub(crate) fn open_some_frames(
    key: &impl StreamKey,
    mut some: Vec<u8>,
    first: usize,
    sealed_bytes: usize,
) -> Result<Vec<u8>, WrongKey> {
    const SEALED: usize = FRAME_SIZE + TAG_SIZE;
    let cipher = Aes256Gcm::new(key.stream_key().into());
    let frames = sealed_bytes.div_ceil(SEALED).max(1);
    let mut opened = 0;
    for (number, start) in (first..).zip((0..some.len()).step_by(SEALED)) {
        let end = some.len().min(start + SEALED);
        let nonce = nonce(number, number + 1 == frames);
        let text_bytes = open_frame(&cipher, &mut some[start..end], nonce)?;
        some.copy_within(start..start + text_bytes, opened);
        opened += text_bytes;
    }
    some.truncate(opened);
    Ok(some)
}

/// Opens a frame in place; says how many of its bytes are plaintext.
fn open_frame(
    cipher: &Aes256Gcm,
    frame: &mut [u8],
    nonce: Nonce<aes_gcm::aead::consts::U12>,
) -> Result<usize, WrongKey> {
    let (text, tag) = frame.split_last_chunk_mut::<TAG_SIZE>().ok_or(WrongKey)?;
    let (text_bytes, tag) = (text.len(), Tag::from(*tag));
    cipher.decrypt_inout_detached(&nonce, &[], text.into(), &tag).map_err(|_| WrongKey)?;
    Ok(text_bytes)
}

fn nonce(frame: usize, last: bool) -> Nonce<aes_gcm::aead::consts::U12> {
    let number = u32::try_from(frame).expect("a piece has at most 2^32 frames");
    let mut nonce = [0; 12];
    nonce[7..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(last);
    nonce.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> PieceKey {
        PieceKey([5; 32])
    }

    fn sealed(plaintext: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        seal_into(&key(), plaintext, &mut output);
        output
    }

    #[test]
    fn whatever_is_sealed_opens_to_the_same_bytes() {
        for length in [0, 1, 2, 100, FRAME_SIZE - 1, FRAME_SIZE, FRAME_SIZE + 1, 300_000, 1 << 20] {
            let plaintext: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let sealed = sealed(&plaintext);
            assert_eq!(sealed.len(), sealed_length(length));
            assert_eq!(open(&key(), &sealed, length).as_deref(), Ok(plaintext.as_slice()));
        }
    }

    #[test]
    fn a_full_chunk_is_not_padded() {
        assert_eq!(padded_length(1 << 20), 1 << 20);
        assert_eq!(padded_length(9), 10);
        assert_eq!(padded_length(1025), 1088);
    }

    #[test]
    fn a_cut_a_swap_or_a_flipped_bit_does_not_open() {
        let whole = sealed(&[1; 3 * FRAME_SIZE]);
        let frame = FRAME_SIZE + TAG_SIZE;
        assert_eq!(open(&key(), &whole[..2 * frame], 2 * FRAME_SIZE), Err(WrongKey));
        let swapped = [&whole[frame..2 * frame], &whole[..frame], &whole[2 * frame..]].concat();
        assert_eq!(open(&key(), &swapped, 3 * FRAME_SIZE), Err(WrongKey));
        let mut flipped = whole.clone();
        flipped[frame + 7] ^= 1;
        assert_eq!(open(&key(), &flipped, 3 * FRAME_SIZE), Err(WrongKey));
        assert_eq!(open(&PieceKey([6; 32]), &whole, 3 * FRAME_SIZE), Err(WrongKey));
    }

    #[test]
    fn padding_that_is_not_zero_does_not_open() {
        let mut filled = vec![1; 1088];
        filled[1087] = 9;
        let forged = sealed(&filled);
        assert_eq!(open(&key(), &forged, 1025), Err(WrongKey));
    }
}
