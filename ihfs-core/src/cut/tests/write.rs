//! Writes small DICOM files, well-formed or not, for the tests of the cut and the summary.

use dicom_dictionary_std::uids;

use crate::dicom::header::EXPLICIT_VR_BIG_ENDIAN;

/// How elements are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    ExplicitLittle,
    ExplicitBig,
    ImplicitLittle,
}

/// A file that is being written.
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    pub(crate) syntax: Syntax,
}

const UNDEFINED: u32 = u32::MAX;
const ITEM: u32 = 0xFFFE_E000;
const ITEM_END: u32 = 0xFFFE_E00D;
const SEQUENCE_END: u32 = 0xFFFE_E0DD;

impl Syntax {
    pub(crate) const ALL: [Self; 3] = [Self::ExplicitLittle, Self::ExplicitBig, Self::ImplicitLittle];

    /// Its transfer syntax.
    pub(crate) const fn uid(self) -> &'static str {
        match self {
            Self::ExplicitLittle => uids::EXPLICIT_VR_LITTLE_ENDIAN,
            Self::ExplicitBig => EXPLICIT_VR_BIG_ENDIAN,
            Self::ImplicitLittle => uids::IMPLICIT_VR_LITTLE_ENDIAN,
        }
    }

    /// What stands inside an unknown value of undefined length.
    pub(crate) const fn inside_unknown(self) -> Self {
        Self::ImplicitLittle
    }
}

impl File {
    /// Without preamble and meta group.
    pub(crate) const fn bare(syntax: Syntax) -> Self {
        Self { bytes: Vec::new(), syntax }
    }

    /// With preamble and meta group.
    pub(crate) fn part10(syntax: Syntax, transfer_syntax: &str) -> Self {
        let mut file = Self { bytes: vec![0; 128], syntax: Syntax::ExplicitLittle };
        file.bytes.extend(b"DICM");
        let uid = even(transfer_syntax.as_bytes(), 0);
        file.element(0x0002_0000, b"UL", &(8 + uid.len() as u32).to_le_bytes());
        file.element(0x0002_0010, b"UI", &uid);
        file.syntax = syntax;
        file
    }

    /// Identifying elements, with a text of any length among them.
    pub(crate) fn identify(&mut self, description: &str) {
        self.element(0x0008_0016, b"UI", &even(uids::CT_IMAGE_STORAGE.as_bytes(), 0));
        self.element(0x0008_0060, b"CS", b"CT");
        self.element(0x0008_103E, b"LO", &even(description.as_bytes(), b' '));
    }

    /// Geometry of 16-bit frames.
    pub(crate) fn image(&mut self, rows: u16, columns: u16, frames: u32) {
        self.number(0x0028_0002, 1);
        self.element(0x0028_0008, b"IS", &even(frames.to_string().as_bytes(), b' '));
        self.number(0x0028_0010, rows);
        self.number(0x0028_0011, columns);
        self.number(0x0028_0100, 16);
    }

    pub(crate) fn pixels(&mut self, pixels: &[u8]) {
        self.element(0x7FE0_0010, b"OW", pixels);
    }

    /// Compressed pixel data.
    pub(crate) fn fragments(&mut self, table: &[u32], fragments: impl Iterator<Item = Vec<u8>>) {
        let table: Vec<u8> = table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        self.sequence(0x7FE0_0010, b"OB", |file| {
            file.defined_item(&table);
            fragments.for_each(|fragment| file.defined_item(&fragment));
        });
    }

    pub(crate) fn element(&mut self, tag: u32, vr: &[u8; 2], value: &[u8]) {
        self.header(tag, vr, value.len() as u32);
        self.bytes.extend(value);
    }

    /// A sequence of undefined length.
    pub(crate) fn sequence(&mut self, tag: u32, vr: &[u8; 2], items: impl FnOnce(&mut Self)) {
        self.header(tag, vr, UNDEFINED);
        items(self);
        self.mark(SEQUENCE_END, 0);
    }

    /// An item of undefined length.
    pub(crate) fn item(&mut self, elements: impl FnOnce(&mut Self)) {
        self.mark(ITEM, UNDEFINED);
        elements(self);
        self.mark(ITEM_END, 0);
    }

    pub(crate) fn defined_item(&mut self, value: &[u8]) {
        self.mark(ITEM, value.len() as u32);
        self.bytes.extend(value);
    }

    /// An element's header alone, with any length.
    pub(crate) fn header(&mut self, tag: u32, vr: &[u8; 2], length: u32) {
        self.tag(tag);
        if self.syntax == Syntax::ImplicitLittle {
            return self.long(length);
        }
        self.bytes.extend(vr);
        if matches!(vr, b"OB" | b"OW" | b"OV" | b"SQ" | b"UN" | b"UT") {
            self.bytes.extend([0, 0]);
            self.long(length);
        } else {
            self.short(u16::try_from(length).unwrap());
        }
    }

    pub(crate) fn number(&mut self, tag: u32, number: u16) {
        self.header(tag, b"US", 2);
        self.short(number);
    }

    fn mark(&mut self, tag: u32, length: u32) {
        self.tag(tag);
        self.long(length);
    }

    fn tag(&mut self, tag: u32) {
        self.short((tag >> 16) as u16);
        self.short(tag as u16);
    }

    fn short(&mut self, number: u16) {
        let is_big = self.syntax == Syntax::ExplicitBig;
        self.bytes.extend(if is_big { number.to_be_bytes() } else { number.to_le_bytes() });
    }

    fn long(&mut self, number: u32) {
        let is_big = self.syntax == Syntax::ExplicitBig;
        self.bytes.extend(if is_big { number.to_be_bytes() } else { number.to_le_bytes() });
    }
}

/// Padded to an even length.
pub(crate) fn even(value: &[u8], padding: u8) -> Vec<u8> {
    let mut value = value.to_vec();
    if !value.len().is_multiple_of(2) {
        value.push(padding);
    }
    value
}
