//! Whose a DICOM file is and which study it belongs to, for the views that owners have of their own files.
//!
//! Apart from [`Summary`](super::Summary) on purpose: what this reads is never listed, logged or shown to others.

use std::fmt;

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};

use super::header::{Attributes, Header};
use super::{date, integer, short, text};
use crate::cut::ReadAt;

/// Where `DICM` stands in a file for exchange (PS3.10 section 7.1).
const MAGIC_AT: u64 = 128;
const MAGIC: &[u8; 4] = b"DICM";

/// Whose a DICOM file is, which study and series it belongs to, and what a directory says of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    attributes: Attributes,
    has_preamble: bool,
}

impl Identity {
    /// Reads the header of a file. None when it is not DICOM, or a directory of other files.
    ///
    /// # Errors
    /// Those of reading.
    pub fn read<R: ReadAt + ?Sized>(file: &R) -> Result<Option<Self>, R::Error> {
        let Some(Header { attributes, .. }) = Header::read(file)? else { return Ok(None) };
        let identity = Self { attributes, has_preamble: has_preamble(file)? };
        if identity.sop_class().as_deref() == Some(uids::MEDIA_STORAGE_DIRECTORY_STORAGE) {
            return Ok(None);
        }
        let says_something = identity.sop_class().is_some() || identity.study_uid().is_some();
        Ok(says_something.then_some(identity))
    }

    /// The patient's name: family name, then the others.
    pub fn patient_name(&self) -> Option<String> {
        let name = text(&self.attributes, tags::PATIENT_NAME)?;
        // The first of up to three ways to write it (PS3.5 section 6.2.1).
        let parts = name.split('=').find(|group| !group.trim_matches('^').is_empty())?.split('^');
        let mut parts = parts.map(str::trim).filter(|part| !part.is_empty());
        let family = parts.next()?.to_owned();
        let others: Vec<&str> = parts.collect();
        Some(if others.is_empty() { family } else { format!("{family}, {}", others.join(" ")) })
    }

    /// The patient's id.
    pub fn patient_id(&self) -> Option<String> {
        text(&self.attributes, tags::PATIENT_ID)
    }

    /// The study.
    pub fn study_uid(&self) -> Option<String> {
        self.uid(tags::STUDY_INSTANCE_UID)
    }

    /// Its date as `YYYYMMDD`.
    pub fn study_date(&self) -> Option<String> {
        self.attributes.ascii(tags::STUDY_DATE).and_then(date)
    }

    /// What it is about.
    pub fn study_description(&self) -> Option<String> {
        text(&self.attributes, tags::STUDY_DESCRIPTION)
    }

    /// The series.
    pub fn series_uid(&self) -> Option<String> {
        self.uid(tags::SERIES_INSTANCE_UID)
    }

    /// Its number in the study.
    pub fn series_number(&self) -> Option<i64> {
        integer(&self.attributes, tags::SERIES_NUMBER)
    }

    /// What it is about.
    pub fn series_description(&self) -> Option<String> {
        text(&self.attributes, tags::SERIES_DESCRIPTION)
    }

    /// Kind of equipment.
    pub fn modality(&self) -> Option<String> {
        self.uid(tags::MODALITY)
    }

    /// Number of the object in its series.
    pub fn instance_number(&self) -> Option<i64> {
        integer(&self.attributes, tags::INSTANCE_NUMBER)
    }

    /// Kind of the object.
    pub fn sop_class(&self) -> Option<String> {
        self.uid(tags::SOP_CLASS_UID).or_else(|| self.uid(tags::MEDIA_STORAGE_SOP_CLASS_UID))
    }

    /// Whether it is an image.
    pub(super) fn has_rows(&self) -> bool {
        self.attributes.number(tags::ROWS).is_some()
    }

    /// Whether it is a file for exchange: with preamble and with the elements that describe it (PS3.10 section 7.1).
    pub(super) fn is_file_for_exchange(&self) -> bool {
        let described = [
            tags::MEDIA_STORAGE_SOP_CLASS_UID,
            tags::MEDIA_STORAGE_SOP_INSTANCE_UID,
            tags::TRANSFER_SYNTAX_UID,
        ];
        self.has_preamble && described.iter().all(|tag| self.uid(*tag).is_some())
    }

    /// A value as it is written, without padding.
    pub(super) fn written(&self, tag: Tag) -> &[u8] {
        trimmed(self.attributes.bytes(tag).unwrap_or_default())
    }

    /// Elements of the first item of a sequence.
    pub(super) fn item(&self, sequence: Tag) -> impl Iterator<Item = (Tag, &[u8])> {
        self.attributes.item(sequence).into_iter().map(|(tag, value)| (tag, trimmed(value)))
    }

    fn uid(&self, tag: Tag) -> Option<String> {
        short(self.attributes.ascii(tag)?)
    }
}

fn trimmed(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|byte| !matches!(byte, 0 | b' ')).map_or(0, |last| last + 1);
    &value[..end]
}

fn has_preamble<R: ReadAt + ?Sized>(file: &R) -> Result<bool, R::Error> {
    let mut magic = [0; 4];
    let mut filled = 0;
    while filled < magic.len() {
        match file.read_at(MAGIC_AT + filled as u64, &mut magic[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(magic == *MAGIC)
}

/// Who the patient is stays out of logs.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cut::tests::write::{File, Syntax, even};

    fn with_name(character_set: &[u8], name: &[u8]) -> Identity {
        let mut file = File::part10(Syntax::ExplicitLittle, uids::EXPLICIT_VR_LITTLE_ENDIAN);
        file.element(0x0008_0005, b"CS", &even(character_set, b' '));
        file.element(0x0010_0010, b"PN", &even(name, b' '));
        file.element(0x0020_000D, b"UI", b"1.2.3\0");
        let Ok(identity) = Identity::read(&file.bytes[..]);
        identity.unwrap()
    }

    #[test]
    fn a_patients_name_is_read_in_its_character_set() {
        let name = |set: &[u8], name: &[u8]| with_name(set, name).patient_name();
        assert_eq!(name(b"", b"Roe^Jane^Q").as_deref(), Some("Roe, Jane Q"));
        assert_eq!(name(b"ISO_IR 100", b"M\xFCller^J\xF6rg").as_deref(), Some("M\u{FC}ller, J\u{F6}rg"));
        assert_eq!(name(b"ISO_IR 192", "M\u{FC}ller".as_bytes()).as_deref(), Some("M\u{FC}ller"));
        assert_eq!(name(b"", b"Yamada^Tarou=x=y").as_deref(), Some("Yamada, Tarou"));
        assert_eq!(name(b"", b"^^"), None);
        assert!(name(b"unheard of", b"M\xFCller").is_some());
    }

    #[test]
    fn who_the_patient_is_is_not_shown_by_debug() {
        assert_eq!(format!("{:?}", with_name(b"", b"Roe^Jane")), "Identity(…)");
    }

    #[test]
    fn what_is_not_dicom_has_no_identity() {
        let Ok(identity) = Identity::read(&b"A letter to the doctor."[..]);
        assert!(identity.is_none());
    }
}
