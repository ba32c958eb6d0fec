//! Cuts pixel data that is not compressed: all frames have the same length, which the header tells.
//!
//! The first frame is a piece of its own, so that a viewer can show something after one small fetch. The
//! others are grouped to nearly 1 MiB, and a group begins with a frame.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::{PIECE_BYTES_MAX, PieceKind, Region, WHOLE_VALUE_MAX};
use crate::dicom::header::{Attributes, Bulk};

/// A value of odd length is padded with one byte (PS3.5 section 7.1.1).
const PADDING_MAX: u64 = 1;
/// Elements that hold frames; the other bulk elements are documents and spectra.
const PIXEL_ELEMENTS: [Tag; 3] = [tags::FLOAT_PIXEL_DATA, tags::DOUBLE_FLOAT_PIXEL_DATA, tags::PIXEL_DATA];
/// Colour as two samples to the pixel, although three are declared (PS3.3 section C.7.6.3.1.2).
const TWO_SAMPLES: [&str; 2] = ["YBR_FULL_422", "YBR_PARTIAL_422"];

/// Regions of a value of `length` bytes and of what follows it.
pub(super) fn cut(header: &Attributes, bulk: Bulk, length: u64) -> Vec<Region> {
    let end = bulk.start.saturating_add(length);
    let frame = if PIXEL_ELEMENTS.contains(&bulk.tag) { frame_bytes(header) } else { None };
    let mut regions = match frame.filter(|frame| fits(*frame, length)) {
        None => vec![Region::even(bulk.start, PieceKind::Content)],
        Some(frame) if length <= WHOLE_VALUE_MAX || length / frame == 1 => {
            vec![Region::even(bulk.start, PieceKind::Frame)]
        }
        Some(frame) => cut_frames(bulk.start, frame),
    };
    // An empty value has no region of its own.
    regions.retain(|region| region.start < end);
    regions.push(Region::even(end, PieceKind::Tail));
    regions
}

fn cut_frames(start: u64, frame: u64) -> Vec<Region> {
    let frames_in_group = (PIECE_BYTES_MAX / frame).max(1);
    vec![
        Region { start, step: frame, kind: PieceKind::Frame },
        Region { start: start + frame, step: frame * frames_in_group, kind: PieceKind::Frame },
    ]
}

/// Whether the value is whole frames. Their number is not asked, so that a wrong one does no harm.
fn fits(frame: u64, length: u64) -> bool {
    frame > 0 && length >= frame && length % frame <= PADDING_MAX
}

/// Bytes of one frame, if it is whole bytes.
fn frame_bytes(header: &Attributes) -> Option<u64> {
    let two_samples = header
        .ascii(tags::PHOTOMETRIC_INTERPRETATION)
        .is_some_and(|interpretation| TWO_SAMPLES.contains(&interpretation));
    let samples = match header.number(tags::SAMPLES_PER_PIXEL).unwrap_or(1) {
        3 if two_samples => 2,
        samples => u64::from(samples),
    };
    let pixels = u64::from(header.number(tags::ROWS)?) * u64::from(header.number(tags::COLUMNS)?);
    let bits = pixels.checked_mul(samples)?.checked_mul(u64::from(header.number(tags::BITS_ALLOCATED)?))?;
    bits.is_multiple_of(8).then_some(bits / 8)
}
