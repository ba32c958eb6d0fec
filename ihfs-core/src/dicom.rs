//! What a DICOM file says about itself, read from its header piece alone.
//!
//! For display: nothing here decides what is stored. Who the patient is stays out of it on purpose; the
//! summary only tells whether name and id are there, so that listings and logs can be shown to others.

use dicom_core::Tag;
use dicom_core::dictionary::{UidDictionary, UidDictionaryEntry};
use dicom_dictionary_std::{StandardSopClassDictionary, tags};
use dicom_encoding::text::{SpecificCharacterSet, TextCodec};
use dicom_transfer_syntax_registry::{TransferSyntaxIndex, TransferSyntaxRegistry};

pub mod directory;
pub(crate) mod header;
pub mod identity;
pub(crate) mod window;

use header::{Attributes, Header};

/// Most characters of a text in a summary: what value representation LO allows (PS3.5 section 6.2).
pub const TEXT_CHARACTERS_MAX: usize = 64;
/// Starts an escape sequence that switches to a further character set (PS3.5 section 6.1.2.5).
const ESCAPE: u8 = 0x1B;

/// A unique identifier and, where the standard gives it one, its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The UID, at most 64 characters.
    pub uid: String,
    /// Its name in the standard.
    pub name: Option<&'static str>,
}

/// What a DICOM header says. Texts have at most [`TEXT_CHARACTERS_MAX`] characters and no control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Whether a patient's name stands in the header.
    pub has_patient_name: bool,
    /// Whether a patient's id stands in the header.
    pub has_patient_id: bool,
    /// Kind of equipment, such as `CT`.
    pub modality: Option<String>,
    /// Kind of object, such as CT Image Storage.
    pub sop_class: Option<Named>,
    /// How the pixel data is encoded, such as JPEG Baseline.
    pub transfer_syntax: Option<Named>,
    /// This object.
    pub sop_instance_uid: Option<String>,
    /// The study that it belongs to.
    pub study_instance_uid: Option<String>,
    /// The series that it belongs to.
    pub series_instance_uid: Option<String>,
    /// Date of the study as `YYYYMMDD`.
    pub study_date: Option<String>,
    /// What the study is about.
    pub study_description: Option<String>,
    /// What the series is about.
    pub series_description: Option<String>,
    /// Number of the series in its study.
    pub series_number: Option<i64>,
    /// Number of this object in its series.
    pub instance_number: Option<i64>,
    /// Part of the body, such as `HEAD`.
    pub body_part: Option<String>,
    /// Height of a frame in pixels.
    pub rows: Option<u16>,
    /// Width of a frame in pixels.
    pub columns: Option<u16>,
    /// How many frames there are; 1 for a plain image, `None` when there is no image.
    pub frames: Option<u32>,
    /// Bits kept for one sample of one pixel.
    pub bits_allocated: Option<u16>,
    /// How samples are to be understood, such as `MONOCHROME2`.
    pub photometric_interpretation: Option<String>,
}

impl Summary {
    /// Reads the beginning of a file: its header piece, or the first of several. `None` when it is not
    /// DICOM or says too little to be told.
    pub fn read(beginning: &[u8]) -> Option<Self> {
        let Ok(header) = Header::read(beginning);
        let summary = Self::of(&header?.attributes);
        let says_something = summary.sop_class.is_some()
            || summary.modality.is_some()
            || summary.study_instance_uid.is_some()
            || summary.rows.is_some();
        says_something.then_some(summary)
    }

    fn of(header: &Attributes) -> Self {
        let rows = header.number(tags::ROWS);
        let uid = |tag| short(header.ascii(tag)?);
        Self {
            has_patient_name: has_value(header, tags::PATIENT_NAME),
            has_patient_id: has_value(header, tags::PATIENT_ID),
            modality: uid(tags::MODALITY),
            sop_class: uid(tags::SOP_CLASS_UID)
                .or_else(|| uid(tags::MEDIA_STORAGE_SOP_CLASS_UID))
                .map(named_sop_class),
            transfer_syntax: uid(tags::TRANSFER_SYNTAX_UID).map(named_transfer_syntax),
            sop_instance_uid: uid(tags::SOP_INSTANCE_UID)
                .or_else(|| uid(tags::MEDIA_STORAGE_SOP_INSTANCE_UID)),
            study_instance_uid: uid(tags::STUDY_INSTANCE_UID),
            series_instance_uid: uid(tags::SERIES_INSTANCE_UID),
            study_date: header.ascii(tags::STUDY_DATE).and_then(date),
            study_description: text(header, tags::STUDY_DESCRIPTION),
            series_description: text(header, tags::SERIES_DESCRIPTION),
            series_number: integer(header, tags::SERIES_NUMBER),
            instance_number: integer(header, tags::INSTANCE_NUMBER),
            body_part: uid(tags::BODY_PART_EXAMINED),
            rows,
            columns: header.number(tags::COLUMNS),
            frames: frames(header, rows),
            bits_allocated: header.number(tags::BITS_ALLOCATED),
            photometric_interpretation: uid(tags::PHOTOMETRIC_INTERPRETATION),
        }
    }
}

fn has_value(header: &Attributes, tag: Tag) -> bool {
    let is_padding = |byte: &u8| matches!(byte, 0 | b' ' | b'^' | b'=');
    header.bytes(tag).is_some_and(|bytes| !bytes.iter().all(is_padding))
}

fn frames(header: &Attributes, rows: Option<u16>) -> Option<u32> {
    let declared = header.ascii(tags::NUMBER_OF_FRAMES).and_then(|number| number.parse().ok());
    declared.or(rows.map(|_| 1))
}

fn integer(header: &Attributes, tag: Tag) -> Option<i64> {
    header.ascii(tag)?.parse().ok()
}

/// `YYYYMMDD`, also from the older `YYYY.MM.DD`.
fn date(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|c| *c != '.').collect();
    (digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)
}

fn named_sop_class(uid: String) -> Named {
    let name = StandardSopClassDictionary.by_uid(&uid).map(|entry| entry.name());
    Named { uid, name }
}

fn named_transfer_syntax(uid: String) -> Named {
    let name = TransferSyntaxRegistry.get(&uid).map(|syntax| syntax.name());
    Named { uid, name }
}

/// A text in the header's character set.
fn text(header: &Attributes, tag: Tag) -> Option<String> {
    let bytes = header.bytes(tag)?;
    let decoded = character_set(header, bytes).decode(bytes);
    short(&decoded.unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned()))
}

/// The first declared character set, or the last where the text switches to another.
fn character_set(header: &Attributes, text: &[u8]) -> SpecificCharacterSet {
    let declared = header.bytes(tags::SPECIFIC_CHARACTER_SET).unwrap_or_default();
    let mut codes = declared.split(|byte| *byte == b'\\');
    let code = if text.contains(&ESCAPE) { codes.next_back() } else { codes.next() };
    code.and_then(|code| str::from_utf8(code).ok())
        .and_then(|code| SpecificCharacterSet::from_code(code.trim_matches([' ', '\0'])))
        .unwrap_or_default()
}

/// Bounded, without padding and without what could steer a terminal.
fn short(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    let shown = |c: char| if steers_a_terminal(c) { char::REPLACEMENT_CHARACTER } else { c };
    let text: String = text.chars().take(TEXT_CHARACTERS_MAX).map(shown).collect();
    Some(text).filter(|text| !text.is_empty())
}

/// Control characters, and marks that turn the direction of writing.
fn steers_a_terminal(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use dicom_dictionary_std::uids;

    use super::*;
    use crate::cut::cut;
    use crate::cut::tests::write::{File, Syntax, even};

    fn described(character_set: &[u8], description: &[u8]) -> Option<String> {
        let mut file = File::part10(Syntax::ExplicitLittle, uids::EXPLICIT_VR_LITTLE_ENDIAN);
        file.element(0x0008_0005, b"CS", &even(character_set, b' '));
        file.element(0x0008_0060, b"CS", b"MR");
        file.element(0x0008_103E, b"LO", &even(description, b' '));
        Summary::read(&file.bytes)?.series_description
    }

    #[test]
    fn the_header_piece_alone_tells_the_summary() {
        for syntax in Syntax::ALL {
            let mut file = File::part10(syntax, syntax.uid());
            file.identify("Head, axial");
            file.element(0x0010_0010, b"PN", b"Roe^Jane");
            file.element(0x0010_0020, b"LO", b"  ");
            file.element(0x0020_000D, b"UI", b"1.2.3\0");
            file.element(0x0020_0011, b"IS", b"7 ");
            file.image(512, 256, 12);
            file.pixels(&vec![7; 512 * 256 * 2 * 12]);
            let Ok(plan) = cut(&file.bytes[..]);
            let header = plan.pieces().next().unwrap();
            let summary = Summary::read(&file.bytes[..header.length as usize]).unwrap();
            assert_eq!(summary.modality.as_deref(), Some("CT"));
            assert_eq!(summary.sop_class.unwrap().name, Some("CT Image Storage"));
            assert!(summary.transfer_syntax.unwrap().name.is_some());
            assert_eq!(summary.series_description.as_deref(), Some("Head, axial"));
            assert_eq!(summary.study_instance_uid.as_deref(), Some("1.2.3"));
            assert_eq!((summary.rows, summary.columns, summary.frames), (Some(512), Some(256), Some(12)));
            assert_eq!(summary.series_number, Some(7));
            assert!(summary.has_patient_name && !summary.has_patient_id);
        }
    }

    #[test]
    fn a_header_cut_short_tells_what_it_has() {
        let mut file = File::part10(Syntax::ExplicitLittle, uids::EXPLICIT_VR_LITTLE_ENDIAN);
        file.identify("x");
        file.header(0x5200_9230, b"SQ", u32::MAX);
        assert_eq!(Summary::read(&file.bytes).unwrap().modality.as_deref(), Some("CT"));
    }

    #[test]
    fn what_is_not_dicom_has_no_summary() {
        assert_eq!(Summary::read(b""), None);
        assert_eq!(Summary::read(b"A letter to the doctor."), None);
        assert_eq!(Summary::read(&[8; 4000]), None);
    }

    #[test]
    fn texts_are_read_in_their_character_set() {
        assert_eq!(described(b"ISO_IR 100", b"Sch\xE4del").as_deref(), Some("Sch\u{E4}del"));
        assert_eq!(described(b"ISO_IR 192", "Sch\u{E4}del".as_bytes()).as_deref(), Some("Sch\u{E4}del"));
        assert_eq!(described(b"ISO_IR 144", b"\xB3\xDE\xDB").as_deref(), Some("\u{413}\u{43E}\u{43B}"));
        let japanese = b"\x1B$B;3ED\x1B(B";
        assert_eq!(described(b"\\ISO 2022 IR 87", japanese).as_deref(), Some("\u{5C71}\u{7530}"));
        assert!(described(b"unheard of", b"Sch\xE4del").is_some());
    }

    #[test]
    fn texts_are_bounded_and_steer_no_terminal() {
        let description = described(b"ISO_IR 100", &[b'x'; 9000]).unwrap();
        assert_eq!(description.chars().count(), TEXT_CHARACTERS_MAX);
        assert_eq!(described(b"ISO_IR 100", b"a\x07b").as_deref(), Some("a\u{FFFD}b"));
        assert_eq!(described(b"ISO_IR 192", "a\u{202E}b".as_bytes()).as_deref(), Some("a\u{FFFD}b"));
    }

    #[test]
    fn a_study_date_is_eight_digits_or_nothing() {
        assert_eq!(date("20260131").as_deref(), Some("20260131"));
        assert_eq!(date("1994.01.31").as_deref(), Some("19940131"));
        assert_eq!(date("yesterday"), None);
    }
}
