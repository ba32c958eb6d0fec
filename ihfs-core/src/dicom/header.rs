//! Walks the elements of a DICOM file up to its bulk value (pixel data, mostly) and keeps the few values
//! that the cut and the summary need. Reads headers only, skips values, re-encodes nothing.
//!
//! Sequences of defined length are skipped whole, so the walk does not depend on a data dictionary. What
//! does not parse ends the walk; it is never an error. Formats: DICOM PS3.5 section 7, PS3.10 section 7.

use std::collections::BTreeMap;

use dicom_core::header::{HasLength as _, Header as _, SequenceItemHeader};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::decode::Decode;
use dicom_encoding::decode::explicit_be::ExplicitVRBigEndianDecoder;
use dicom_encoding::decode::explicit_le::ExplicitVRLittleEndianDecoder;
use dicom_encoding::decode::implicit_le::ImplicitVRLittleEndianDecoder;

use super::window::Window;
use crate::cut::ReadAt;

/// Where the walk gives up. Per-frame descriptions of the largest real files take some MiB. Every element
/// and item has at least 8 bytes, so this bounds their number as well.
pub(crate) const HEADER_BYTES_MAX: u64 = 64 << 20;
/// Sequences and items open at once. Real structured reports stay below 20.
const NESTING_MAX: usize = 64;
/// Kept bytes of one value: the longest wanted text has 64 characters of at most a few bytes each.
const VALUE_BYTES_MAX: usize = 1 << 10;
/// What stands in front of a DICOM file for other programs (PS3.10 section 7.1), then `DICM`.
const PREAMBLE_BYTES: u64 = 128;
const MAGIC: &[u8] = b"DICM";
/// Group of the elements that describe the file itself.
const META_GROUP: u16 = 0x0002;
/// Group with which data sets without a preamble begin.
const IDENTIFYING_GROUP: u16 = 0x0008;
/// Retired, but old files use it.
pub(crate) const EXPLICIT_VR_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
/// Group of items and delimiters.
const ITEM_GROUP: u16 = 0xFFFE;
/// Ends an item of undefined length.
const ITEM_DELIMITER: Tag = Tag(ITEM_GROUP, 0xE00D);
/// Longest element header: tag, VR, reserved bytes, length (PS3.5 section 7.1.2).
const ELEMENT_HEADER_BYTES: usize = 12;
/// Tag and length of an item or delimiter.
pub(crate) const ITEM_HEADER_BYTES: u64 = 8;

/// Elements whose value is the content of the file: the header ends where it begins.
const BULK: [Tag; 5] = [
    tags::ENCAPSULATED_DOCUMENT,
    tags::SPECTROSCOPY_DATA,
    tags::FLOAT_PIXEL_DATA,
    tags::DOUBLE_FLOAT_PIXEL_DATA,
    tags::PIXEL_DATA,
];

/// Elements whose values are kept. Sorted.
const KEPT: [Tag; 50] = [
    tags::MEDIA_STORAGE_SOP_CLASS_UID,
    tags::MEDIA_STORAGE_SOP_INSTANCE_UID,
    tags::TRANSFER_SYNTAX_UID,
    tags::SPECIFIC_CHARACTER_SET,
    tags::SOP_CLASS_UID,
    tags::SOP_INSTANCE_UID,
    tags::STUDY_DATE,
    tags::SERIES_DATE,
    tags::ACQUISITION_DATE,
    tags::CONTENT_DATE,
    tags::STUDY_TIME,
    tags::CONTENT_TIME,
    tags::ACCESSION_NUMBER,
    tags::MODALITY,
    tags::STUDY_DESCRIPTION,
    tags::SERIES_DESCRIPTION,
    tags::PATIENT_NAME,
    tags::PATIENT_ID,
    tags::BODY_PART_EXAMINED,
    tags::STUDY_INSTANCE_UID,
    tags::SERIES_INSTANCE_UID,
    tags::STUDY_ID,
    tags::SERIES_NUMBER,
    tags::INSTANCE_NUMBER,
    tags::SAMPLES_PER_PIXEL,
    tags::PHOTOMETRIC_INTERPRETATION,
    tags::NUMBER_OF_FRAMES,
    tags::ROWS,
    tags::COLUMNS,
    tags::BITS_ALLOCATED,
    tags::CONCEPT_NAME_CODE_SEQUENCE,
    tags::COMPLETION_FLAG,
    tags::VERIFICATION_FLAG,
    tags::DOCUMENT_TITLE,
    tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT,
    tags::ENCAPSULATED_DOCUMENT_LENGTH,
    tags::CONTENT_LABEL,
    tags::CONTENT_DESCRIPTION,
    tags::PRESENTATION_CREATION_DATE,
    tags::PRESENTATION_CREATION_TIME,
    tags::CONTENT_CREATOR_NAME,
    tags::DOSE_SUMMATION_TYPE,
    tags::STRUCTURE_SET_LABEL,
    tags::STRUCTURE_SET_DATE,
    tags::STRUCTURE_SET_TIME,
    tags::TREATMENT_DATE,
    tags::TREATMENT_TIME,
    tags::RT_PLAN_LABEL,
    tags::RT_PLAN_DATE,
    tags::RT_PLAN_TIME,
];

/// What the walk found.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) attributes: Attributes,
    pub(crate) ending: Ending,
}

/// Where and how the walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// At a bulk value.
    Bulk(Bulk),
    /// At the file's end: there is no bulk value.
    Complete,
    /// At this offset, where a compressed data set begins.
    Deflated(u64),
    /// At something that is not DICOM, or passes a limit.
    Odd,
}

/// A value that is content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bulk {
    /// Which element it is of.
    pub(crate) tag: Tag,
    /// Its first byte in the file.
    pub(crate) start: u64,
    /// Its bytes as declared; `None` when it is a list of fragments.
    pub(crate) length: Option<u64>,
    /// How its items are written.
    pub(crate) syntax: Syntax,
}

/// Values kept from the top level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    values: BTreeMap<Tag, Vec<u8>>,
    syntax: Option<Syntax>,
}

/// How elements are written, as far as their headers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    ExplicitLittle,
    ExplicitBig,
    ImplicitLittle,
}

/// Why the walk stopped early.
pub(crate) enum Halt<E> {
    Odd,
    Read(E),
}

/// An element's header and where its value stands.
struct Element {
    tag: Tag,
    vr: VR,
    value: u64,
    length: Option<u64>,
}

/// What is open around the walk's position.
#[derive(Clone, Copy)]
enum Level {
    Sequence(Syntax),
    Item(Syntax),
}

impl<E> From<E> for Halt<E> {
    fn from(error: E) -> Self {
        Self::Read(error)
    }
}

impl Header {
    /// Walks a file. `None` when nothing says that it is DICOM.
    pub(crate) fn read<R: ReadAt + ?Sized>(file: &R) -> Result<Option<Self>, R::Error> {
        let mut window = Window::new(file);
        let has_magic = window.up_to(PREAMBLE_BYTES, MAGIC.len())? == MAGIC;
        let start = if has_magic { PREAMBLE_BYTES + MAGIC.len() as u64 } else { 0 };
        if !has_magic && !begins_like_a_data_set(window.array(0)?) {
            return Ok(None);
        }
        let attributes = Attributes::default();
        let mut walk = Walk { window, at: start, attributes, ordered: !has_magic, last: None };
        let ending = match walk.file() {
            Ok(ending) => ending,
            Err(Halt::Odd) if !has_magic => return Ok(None),
            Err(Halt::Odd) => Ending::Odd,
            Err(Halt::Read(error)) => return Err(error),
        };
        Ok(Some(Self { attributes: walk.attributes, ending }))
    }
}

/// Files without a preamble must look the part, since no magic number says what they are.
fn begins_like_a_data_set(first: Option<[u8; 2]>) -> bool {
    let groups = [META_GROUP, IDENTIFYING_GROUP];
    first.is_some_and(|first| {
        groups.contains(&u16::from_le_bytes(first)) || u16::from_be_bytes(first) == IDENTIFYING_GROUP
    })
}

struct Walk<'a, R: ?Sized> {
    window: Window<'a, R>,
    at: u64,
    attributes: Attributes,
    /// Whether tags must ascend, as the standard says but not every writer does.
    ordered: bool,
    last: Option<Tag>,
}

impl<R: ReadAt + ?Sized> Walk<'_, R> {
    fn file(&mut self) -> Result<Ending, Halt<R::Error>> {
        self.meta_group()?;
        if self.attributes.is_deflated() {
            return Ok(Ending::Deflated(self.at));
        }
        if self.at == self.window.size() {
            return Ok(Ending::Complete);
        }
        let syntax = self.look(self.at)?;
        self.attributes.syntax = Some(syntax);
        self.data_set(syntax)
    }

    /// The group length is not believed: writers that change the group forget it.
    fn meta_group(&mut self) -> Result<(), Halt<R::Error>> {
        let mut syntax = None;
        while self.window.array(self.at)?.map(u16::from_le_bytes) == Some(META_GROUP) {
            let known = match syntax {
                Some(known) => known,
                None => self.look(self.at)?,
            };
            syntax = Some(known);
            let element = self.element(self.at, known)?;
            self.pass(&element, known)?;
        }
        Ok(())
    }

    fn data_set(&mut self, syntax: Syntax) -> Result<Ending, Halt<R::Error>> {
        while self.at < self.window.size() {
            let element = self.element(self.at, syntax)?;
            if BULK.contains(&element.tag) {
                let Element { tag, value: start, length, .. } = element;
                return Ok(Ending::Bulk(Bulk { tag, start, length, syntax }));
            }
            self.pass(&element, syntax)?;
        }
        Ok(Ending::Complete)
    }

    /// Keeps the value if it is wanted and steps behind it.
    fn pass(&mut self, element: &Element, syntax: Syntax) -> Result<(), Halt<R::Error>> {
        let unordered = self.ordered && self.last.is_some_and(|last| last >= element.tag);
        if unordered || element.tag.group() == ITEM_GROUP {
            return Err(Halt::Odd);
        }
        self.last = Some(element.tag);
        self.at = match element.length {
            Some(length) => {
                let end = self.after(element.value, length)?;
                self.keep(element, length)?;
                end
            }
            None => {
                let end = self.skip_sequence(element.value, element.inner_syntax(syntax))?;
                self.keep(element, end - element.value)?;
                end
            }
        };
        Ok(())
    }

    fn keep(&mut self, element: &Element, length: u64) -> Result<(), Halt<R::Error>> {
        if KEPT.binary_search(&element.tag).is_ok() {
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(VALUE_BYTES_MAX);
            let value = self.window.up_to(element.value, length)?.to_vec();
            self.attributes.values.entry(element.tag).or_insert(value);
        }
        Ok(())
    }

    /// Steps over a sequence of undefined length and all that is nested in it, and gives where it ends.
    fn skip_sequence(&mut self, mut at: u64, syntax: Syntax) -> Result<u64, Halt<R::Error>> {
        let mut open = vec![Level::Sequence(syntax)];
        while let Some(level) = open.last().copied() {
            if open.len() > NESTING_MAX {
                return Err(Halt::Odd);
            }
            at = match level {
                Level::Sequence(syntax) => self.step_in_sequence(at, syntax, &mut open)?,
                Level::Item(syntax) => self.step_in_item(at, syntax, &mut open)?,
            };
        }
        Ok(at)
    }

    fn step_in_sequence(
        &mut self,
        at: u64,
        syntax: Syntax,
        open: &mut Vec<Level>,
    ) -> Result<u64, Halt<R::Error>> {
        let inside = at + ITEM_HEADER_BYTES;
        match read_item(&mut self.window, at, syntax)? {
            Some(SequenceItemHeader::Item { len }) => match len.get() {
                Some(length) => return self.after(inside, u64::from(length)),
                None => open.push(Level::Item(syntax)),
            },
            Some(SequenceItemHeader::SequenceDelimiter) => drop(open.pop()),
            Some(SequenceItemHeader::ItemDelimiter) | None => return Err(Halt::Odd),
        }
        self.after(inside, 0)
    }

    fn step_in_item(
        &mut self,
        at: u64,
        syntax: Syntax,
        open: &mut Vec<Level>,
    ) -> Result<u64, Halt<R::Error>> {
        let element = self.element(at, syntax)?;
        match element.length {
            _ if element.tag == ITEM_DELIMITER => drop(open.pop()),
            _ if element.tag.group() == ITEM_GROUP => return Err(Halt::Odd),
            Some(length) => return self.after(element.value, length),
            None => open.push(Level::Sequence(element.inner_syntax(syntax))),
        }
        self.after(element.value, 0)
    }

    /// `start + length`, if the file and the limit reach so far.
    fn after(&self, start: u64, length: u64) -> Result<u64, Halt<R::Error>> {
        let end = start.checked_add(length).ok_or(Halt::Odd)?;
        if end > self.window.size().min(HEADER_BYTES_MAX) { Err(Halt::Odd) } else { Ok(end) }
    }

    fn element(&mut self, at: u64, syntax: Syntax) -> Result<Element, Halt<R::Error>> {
        let bytes = self.window.up_to(at, ELEMENT_HEADER_BYTES)?;
        let (header, size) = syntax.decode_header(bytes).ok_or(Halt::Odd)?;
        let length = header.length().get().map(u64::from);
        Ok(Element { tag: header.tag(), vr: header.vr(), value: at + size as u64, length })
    }

    /// How the data set at `at` is written, by its first element: some files declare one syntax and use
    /// another, and those without a meta group declare none.
    fn look(&mut self, at: u64) -> Result<Syntax, Halt<R::Error>> {
        let bytes: [u8; 6] = self.window.array(at)?.ok_or(Halt::Odd)?;
        let is_big = self.looks_big([bytes[0], bytes[1]]);
        let is_explicit = VR::from_binary([bytes[4], bytes[5]]).is_some();
        match (is_explicit, is_big) {
            (true, false) => Ok(Syntax::ExplicitLittle),
            (true, true) => Ok(Syntax::ExplicitBig),
            (false, false) => Ok(Syntax::ImplicitLittle),
            (false, true) => Err(Halt::Odd),
        }
    }

    /// Nearly every data set begins with the identifying group. Where one does not, the declaration counts.
    fn looks_big(&self, group: [u8; 2]) -> bool {
        let (little, big) = (u16::from_le_bytes(group), u16::from_be_bytes(group));
        match self.attributes.ascii(tags::TRANSFER_SYNTAX_UID) {
            _ if little == IDENTIFYING_GROUP => false,
            _ if big == IDENTIFYING_GROUP => true,
            Some(declared) => declared == EXPLICIT_VR_BIG_ENDIAN,
            None => big < little,
        }
    }
}

impl Element {
    /// Unknown values of undefined length are sequences in implicit VR (PS3.5 section 6.2.2).
    fn inner_syntax(&self, outer: Syntax) -> Syntax {
        if self.vr == VR::UN { Syntax::ImplicitLittle } else { outer }
    }
}

impl Syntax {
    fn decode_header(self, mut bytes: &[u8]) -> Option<(dicom_core::DataElementHeader, usize)> {
        match self {
            Self::ExplicitLittle => ExplicitVRLittleEndianDecoder::default().decode_header(&mut bytes),
            Self::ExplicitBig => ExplicitVRBigEndianDecoder::default().decode_header(&mut bytes),
            Self::ImplicitLittle => ImplicitVRLittleEndianDecoder::new().decode_header(&mut bytes),
        }
        .ok()
    }

    fn decode_item(self, mut bytes: &[u8]) -> Option<SequenceItemHeader> {
        match self {
            Self::ExplicitBig => ExplicitVRBigEndianDecoder::default().decode_item_header(&mut bytes),
            Self::ExplicitLittle | Self::ImplicitLittle => {
                ExplicitVRLittleEndianDecoder::default().decode_item_header(&mut bytes)
            }
        }
        .ok()
    }
}

/// The item or delimiter at `at`; `None` when something else stands there.
pub(crate) fn read_item<R: ReadAt + ?Sized>(
    window: &mut Window<'_, R>,
    at: u64,
    syntax: Syntax,
) -> Result<Option<SequenceItemHeader>, R::Error> {
    let length = usize::try_from(ITEM_HEADER_BYTES).expect("8 fits");
    Ok(syntax.decode_item(window.up_to(at, length)?))
}

impl Attributes {
    /// The bytes of a value, at most 1 KiB of them.
    pub(crate) fn bytes(&self, tag: Tag) -> Option<&[u8]> {
        self.values.get(&tag).map(Vec::as_slice)
    }

    /// Elements with values of the first item of a kept sequence, as far as they are kept.
    pub(crate) fn item(&self, sequence: Tag) -> Vec<(Tag, &[u8])> {
        let mut elements = Vec::new();
        let mut rest = self
            .bytes(sequence)
            .and_then(|bytes| bytes.get(ITEM_HEADER_BYTES as usize..))
            .unwrap_or_default();
        while let Some((header, size)) = self.syntax.and_then(|syntax| syntax.decode_header(rest)) {
            let end = header.length().get().and_then(|length| size.checked_add(length as usize));
            let Some(value) = end.and_then(|end| rest.get(size..end)) else { break };
            if header.tag().group() == ITEM_GROUP {
                break;
            }
            elements.push((header.tag(), value));
            rest = &rest[size + value.len()..];
        }
        elements
    }

    /// The first number of a value of type US.
    pub(crate) fn number(&self, tag: Tag) -> Option<u16> {
        let bytes = *self.bytes(tag)?.first_chunk()?;
        Some(if self.syntax == Some(Syntax::ExplicitBig) {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        })
    }

    /// The first of the values, without padding, where it is of a type written in ASCII.
    pub(crate) fn ascii(&self, tag: Tag) -> Option<&str> {
        let bytes = self.bytes(tag)?.split(|byte| *byte == b'\\').next()?;
        let text = str::from_utf8(bytes).ok().filter(|text| text.is_ascii())?;
        let text = text.trim_matches(|c: char| c == '\0' || c.is_ascii_whitespace());
        Some(text).filter(|text| !text.is_empty())
    }

    fn is_deflated(&self) -> bool {
        self.ascii(tags::TRANSFER_SYNTAX_UID).is_some_and(|uid| {
            [
                uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
                uids::JPIP_REFERENCED_DEFLATE,
                uids::JPIPHTJ2K_REFERENCED_DEFLATE,
            ]
            .contains(&uid)
        })
    }
}
