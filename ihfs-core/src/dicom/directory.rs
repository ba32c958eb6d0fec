//! DICOMDIR: the directory of a File-set, which is what a CD or stick with DICOM files has at its top.
//!
//! PS3.10 section 8 says what a File-set is and how files in it are named, PS3.3 annex F what its directory holds.
//! Values are taken from the files' headers as they are written there, in the files' own character sets.

use std::collections::{BTreeMap, BTreeSet};

use dicom_core::Tag;
use dicom_core::dictionary::{UidDictionary, UidDictionaryEntry};
use dicom_dictionary_std::{StandardSopClassDictionary, tags, uids};

use super::identity::Identity;
use crate::ids::Digest;

/// Under what all files stand.
const TOP: &str = "DICOM";
/// Names what wrote the directory: a UID made of a random UUID (PS3.5 section B.2).
const IMPLEMENTATION_UID: &str = "2.25.217429613853142951860346721984560273911";
const IMPLEMENTATION_NAME: &[u8] = b"IHFS";
/// A record is in use (PS3.3 section F.3.2.2).
const IN_USE: u16 = 0xFFFF;
/// Begins an item (PS3.5 section 7.5).
const ITEM: Tag = Tag(0xFFFE, 0xE000);
/// Where the two offsets stand in a record: behind the item's header, and behind one long and one short value.
const NEXT_AT: usize = 16;
const LOWER_AT: usize = 38;
/// Longest value of an element with a short length: texts of headers are kept up to 1 KiB.
const VALUE_BYTES_MAX: usize = u16::MAX as usize - 1;
/// What stands where a date must and none is known.
const NO_DATE: &[u8] = b"19000101";
const NO_TIME: &[u8] = b"000000";
/// Beginning of the UIDs of all kinds of objects that are stored.
const STORAGE: &str = "1.2.840.10008.5.1.4.1.1.";

/// A File-set: its directory, and where its files stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// What the file `DICOMDIR` holds.
    pub bytes: Vec<u8>,
    /// Folders and name of each file, and its place in what was given.
    pub files: Vec<([String; 5], usize)>,
    /// What no directory can name, and why.
    pub left_out: Vec<(usize, LeftOut)>,
}

/// Why a file is not in a File-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// It is no file for exchange: it has no preamble, or does not say what it is (PS3.10 section 7.1).
    NotForExchange,
    /// It does not say which study or series it belongs to, or only in a compressed header.
    NoStudy,
    /// Another file has the same object.
    Twice,
    /// The standard's directory has no record for objects of its kind, or only one that this does not write.
    NoRecord,
}

/// What a directory says of objects of one kind (PS3.3 section F.5), by ascending tags.
struct Leaf {
    name: &'static str,
    keys: &'static [(Tag, &'static [u8; 2])],
}

const CODE: (Tag, &[u8; 2]) = (tags::CONCEPT_NAME_CODE_SEQUENCE, b"SQ");
const DATE: (Tag, &[u8; 2]) = (tags::CONTENT_DATE, b"DA");
const TIME: (Tag, &[u8; 2]) = (tags::CONTENT_TIME, b"TM");
const NUMBER: (Tag, &[u8; 2]) = (tags::INSTANCE_NUMBER, b"IS");
const LABEL: (Tag, &[u8; 2]) = (tags::CONTENT_LABEL, b"CS");
const ABOUT: (Tag, &[u8; 2]) = (tags::CONTENT_DESCRIPTION, b"LO");
const CREATOR: (Tag, &[u8; 2]) = (tags::CONTENT_CREATOR_NAME, b"PN");

const IMAGE: Leaf = Leaf { name: "IMAGE", keys: &[NUMBER] };
const DOSE: Leaf = Leaf { name: "RT DOSE", keys: &[NUMBER, (tags::DOSE_SUMMATION_TYPE, b"CS")] };
const STRUCTURES: Leaf = Leaf {
    name: "RT STRUCTURE SET",
    keys: &[
        NUMBER,
        (tags::STRUCTURE_SET_LABEL, b"SH"),
        (tags::STRUCTURE_SET_DATE, b"DA"),
        (tags::STRUCTURE_SET_TIME, b"TM"),
    ],
};
const PLAN: Leaf = Leaf {
    name: "RT PLAN",
    keys: &[NUMBER, (tags::RT_PLAN_LABEL, b"SH"), (tags::RT_PLAN_DATE, b"DA"), (tags::RT_PLAN_TIME, b"TM")],
};
const TREATMENT: Leaf = Leaf {
    name: "RT TREAT RECORD",
    keys: &[NUMBER, (tags::TREATMENT_DATE, b"DA"), (tags::TREATMENT_TIME, b"TM")],
};
const PRESENTATION: Leaf = Leaf {
    name: "PRESENTATION",
    keys: &[
        NUMBER,
        LABEL,
        ABOUT,
        (tags::PRESENTATION_CREATION_DATE, b"DA"),
        (tags::PRESENTATION_CREATION_TIME, b"TM"),
        CREATOR,
    ],
};
const WAVEFORM: Leaf = Leaf { name: "WAVEFORM", keys: &[DATE, TIME, NUMBER] };
const RAW: Leaf = Leaf { name: "RAW DATA", keys: &[DATE, TIME, NUMBER] };
const REPORT: Leaf = Leaf {
    name: "SR DOCUMENT",
    keys: &[DATE, TIME, NUMBER, CODE, (tags::COMPLETION_FLAG, b"CS"), (tags::VERIFICATION_FLAG, b"CS")],
};
const KEY_OBJECTS: Leaf = Leaf { name: "KEY OBJECT DOC", keys: &[DATE, TIME, NUMBER, CODE] };
const DOCUMENT: Leaf = Leaf {
    name: "ENCAP DOC",
    keys: &[
        DATE,
        TIME,
        NUMBER,
        CODE,
        (tags::DOCUMENT_TITLE, b"ST"),
        (tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT, b"LO"),
    ],
};
const REGISTRATION: Leaf = Leaf { name: "REGISTRATION", keys: &[DATE, TIME, NUMBER, LABEL, ABOUT, CREATOR] };
const FIDUCIALS: Leaf = Leaf { name: "FIDUCIAL", keys: REGISTRATION.keys };
const VALUES: Leaf = Leaf { name: "VALUE MAP", keys: REGISTRATION.keys };
const SURFACE: Leaf = Leaf { name: "SURFACE", keys: REGISTRATION.keys };
const MEASUREMENT: Leaf = Leaf { name: "MEASUREMENT", keys: REGISTRATION.keys };

/// Which record an object has, by the end of its kind's UID.
fn leaf(identity: &Identity) -> Option<&'static Leaf> {
    let class = String::from_utf8_lossy(identity.written(tags::MEDIA_STORAGE_SOP_CLASS_UID)).into_owned();
    let kind = class.strip_prefix(STORAGE).unwrap_or_default();
    Some(match kind {
        "481.2" => &DOSE,
        "481.3" => &STRUCTURES,
        "481.5" | "481.8" => &PLAN,
        "481.4" | "481.6" | "481.7" | "481.9" => &TREATMENT,
        "66" => &RAW,
        "66.1" | "66.3" => &REGISTRATION,
        "66.2" => &FIDUCIALS,
        "66.5" => &SURFACE,
        "67" => &VALUES,
        "88.59" => &KEY_OBJECTS,
        "78.6" | "79.1" => &REPORT,
        "131" => &PRESENTATION,
        kind if kind.starts_with("88.") => &REPORT,
        kind if kind.starts_with("104.") => &DOCUMENT,
        kind if kind.starts_with("11.") => &PRESENTATION,
        kind if kind.starts_with("9.") && !kind.starts_with("9.100.") => &WAVEFORM,
        kind if kind.starts_with("78.") || kind == "80.1" => &MEASUREMENT,
        _ if identity.has_rows() || is_image(&class) => &IMAGE,
        _ => return None,
    })
}

/// Whether the standard calls objects of a kind images.
fn is_image(class: &str) -> bool {
    StandardSopClassDictionary.by_uid(class).is_some_and(|entry| entry.name().contains("Image Storage"))
}

/// Files by patient, study and series, in the order in which they came.
#[derive(Default)]
struct Group {
    by_key: BTreeMap<Vec<u8>, usize>,
    below: Vec<Group>,
    files: Vec<usize>,
}

impl Group {
    fn at(&mut self, key: &[u8]) -> &mut Self {
        let place = *self.by_key.entry(key.to_vec()).or_insert(self.below.len());
        if place == self.below.len() {
            self.below.push(Self::default());
        }
        &mut self.below[place]
    }

    /// A file that stands for the whole group.
    fn first(&self) -> usize {
        self.files.first().copied().unwrap_or_else(|| self.below[0].first())
    }
}

impl Directory {
    /// The File-set of these files.
    pub fn of(files: &[&Identity]) -> Self {
        let (mut patients, mut left_out, mut objects) = (Group::default(), Vec::new(), BTreeSet::new());
        for (place, file) in files.iter().enumerate() {
            match left_out_for(file, &mut objects) {
                Some(why) => left_out.push((place, why)),
                None => patients
                    .at(&patient_key(file))
                    .at(file.written(tags::STUDY_INSTANCE_UID))
                    .at(file.written(tags::SERIES_INSTANCE_UID))
                    .files
                    .push(place),
            }
        }
        let mut records = Records::default();
        let files = records.write(&patients, files);
        Self { bytes: records.into_file(), files, left_out }
    }
}

fn left_out_for<'a>(file: &'a Identity, objects: &mut BTreeSet<&'a [u8]>) -> Option<LeftOut> {
    if !file.is_file_for_exchange() {
        Some(LeftOut::NotForExchange)
    } else if file.study_uid().is_none() || file.series_uid().is_none() {
        Some(LeftOut::NoStudy)
    } else if leaf(file).is_none() {
        Some(LeftOut::NoRecord)
    } else if !objects.insert(file.written(tags::MEDIA_STORAGE_SOP_INSTANCE_UID)) {
        Some(LeftOut::Twice)
    } else {
        None
    }
}

/// Patients are told apart by their ids, and those without one by their names.
fn patient_key(file: &Identity) -> Vec<u8> {
    match file.written(tags::PATIENT_ID) {
        b"" => [b"name ", file.written(tags::PATIENT_NAME)].concat(),
        id => [b"id ", id].concat(),
    }
}

/// The directory's records in their order, each an item whose offsets are still to be filled in.
#[derive(Default)]
struct Records(Vec<Record>);

#[derive(Default)]
struct Record {
    bytes: Vec<u8>,
    next: Option<usize>,
    lower: Option<usize>,
}

impl Records {
    fn write(&mut self, patients: &Group, files: &[&Identity]) -> Vec<([String; 5], usize)> {
        let mut named = Vec::new();
        let mut last_patient = None;
        for (p, patient) in patients.below.iter().enumerate() {
            let top = self.add(None, &mut last_patient, patient_record(files[patient.first()], p + 1));
            let mut last_study = None;
            for (s, study) in patient.below.iter().enumerate() {
                let middle = self.add(Some(top), &mut last_study, study_record(files[study.first()], s + 1));
                let mut last_series = None;
                for (r, series) in study.below.iter().enumerate() {
                    let record = series_record(files[series.first()], r + 1);
                    let low = self.add(Some(middle), &mut last_series, record);
                    let mut last = None;
                    for (i, place) in series.files.iter().enumerate() {
                        let name = [
                            TOP.to_owned(),
                            format!("PT{:06}", p + 1),
                            format!("ST{:06}", s + 1),
                            format!("SE{:06}", r + 1),
                            format!("IM{:06}", i + 1),
                        ];
                        self.add(Some(low), &mut last, leaf_record(files[*place], &name, i + 1));
                        named.push((name, *place));
                    }
                }
            }
        }
        named
    }

    /// Adds a record behind its last sibling, or as the first below its parent.
    fn add(&mut self, parent: Option<usize>, last: &mut Option<usize>, bytes: Vec<u8>) -> usize {
        let place = self.0.len();
        self.0.push(Record { bytes, ..Record::default() });
        match (last.replace(place), parent) {
            (Some(before), _) => self.0[before].next = Some(place),
            (None, Some(parent)) => self.0[parent].lower = Some(place),
            (None, None) => {}
        }
        place
    }

    /// The whole file (PS3.10 section 7.1, PS3.3 table F.3-3).
    fn into_file(self) -> Vec<u8> {
        let last_patient = self.last_patient();
        let digest =
            Digest::of(&self.0.iter().flat_map(|record| &record.bytes).copied().collect::<Vec<u8>>());
        let number = u128::from_be_bytes(*digest.as_bytes().first_chunk().expect("a digest has 32 bytes"));
        let mut meta = Vec::new();
        long(&mut meta, tags::FILE_META_INFORMATION_VERSION, b"OB", &[0, 1]);
        uid(&mut meta, tags::MEDIA_STORAGE_SOP_CLASS_UID, uids::MEDIA_STORAGE_DIRECTORY_STORAGE.as_bytes());
        uid(&mut meta, tags::MEDIA_STORAGE_SOP_INSTANCE_UID, format!("2.25.{number}").as_bytes());
        uid(&mut meta, tags::TRANSFER_SYNTAX_UID, uids::EXPLICIT_VR_LITTLE_ENDIAN.as_bytes());
        uid(&mut meta, tags::IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_UID.as_bytes());
        text(&mut meta, tags::IMPLEMENTATION_VERSION_NAME, b"SH", IMPLEMENTATION_NAME);
        let mut file = vec![0; 128];
        file.extend_from_slice(b"DICM");
        element(
            &mut file,
            tags::FILE_META_INFORMATION_GROUP_LENGTH,
            b"UL",
            &offset(meta.len()).to_le_bytes(),
        );
        file.extend_from_slice(&meta);
        text(&mut file, tags::FILE_SET_ID, b"CS", IMPLEMENTATION_NAME);
        let patients_at = file.len();
        let head = |first: u32, last: u32| {
            let mut head = Vec::new();
            element(
                &mut head,
                tags::OFFSET_OF_THE_FIRST_DIRECTORY_RECORD_OF_THE_ROOT_DIRECTORY_ENTITY,
                b"UL",
                &first.to_le_bytes(),
            );
            element(
                &mut head,
                tags::OFFSET_OF_THE_LAST_DIRECTORY_RECORD_OF_THE_ROOT_DIRECTORY_ENTITY,
                b"UL",
                &last.to_le_bytes(),
            );
            element(&mut head, tags::FILE_SET_CONSISTENCY_FLAG, b"US", &0u16.to_le_bytes());
            head
        };
        // Tag, VR, reserved and a length of 32 bits.
        let start = patients_at + head(0, 0).len() + 12;
        let offsets = self.offsets(start);
        let at = |place: Option<usize>| place.map_or(0, |place| offsets[place]);
        file.extend(head(at(last_patient.map(|_| 0)), at(last_patient)));
        let mut items = Vec::new();
        for mut record in self.0 {
            record.bytes[NEXT_AT..NEXT_AT + 4].copy_from_slice(&at(record.next).to_le_bytes());
            record.bytes[LOWER_AT..LOWER_AT + 4].copy_from_slice(&at(record.lower).to_le_bytes());
            items.extend(record.bytes);
        }
        long(&mut file, tags::DIRECTORY_RECORD_SEQUENCE, b"SQ", &items);
        file
    }

    fn last_patient(&self) -> Option<usize> {
        let mut last = (!self.0.is_empty()).then_some(0)?;
        while let Some(next) = self.0[last].next {
            last = next;
        }
        Some(last)
    }

    fn offsets(&self, start: usize) -> Vec<u32> {
        let begins = self.0.iter().scan(start, |at, record| {
            let here = *at;
            *at += record.bytes.len();
            Some(offset(here))
        });
        begins.collect()
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("a directory of as many files as fit in memory stays below 4 GiB")
}

fn patient_record(file: &Identity, number: usize) -> Vec<u8> {
    record("PATIENT", None, file, |fields| {
        text(fields, tags::PATIENT_NAME, b"PN", file.written(tags::PATIENT_NAME));
        text(
            fields,
            tags::PATIENT_ID,
            b"LO",
            or(file.written(tags::PATIENT_ID), format!("IHFS-{number}").as_bytes()),
        );
    })
}

fn study_record(file: &Identity, number: usize) -> Vec<u8> {
    let dates = [tags::STUDY_DATE, tags::SERIES_DATE, tags::ACQUISITION_DATE, tags::CONTENT_DATE];
    let date =
        dates.into_iter().map(|tag| file.written(tag)).find(|date| !date.is_empty()).unwrap_or(NO_DATE);
    record("STUDY", None, file, |fields| {
        text(fields, tags::STUDY_DATE, b"DA", date);
        text(fields, tags::STUDY_TIME, b"TM", or(file.written(tags::STUDY_TIME), NO_TIME));
        text(fields, tags::ACCESSION_NUMBER, b"SH", file.written(tags::ACCESSION_NUMBER));
        text(fields, tags::STUDY_DESCRIPTION, b"LO", file.written(tags::STUDY_DESCRIPTION));
        uid(fields, tags::STUDY_INSTANCE_UID, file.written(tags::STUDY_INSTANCE_UID));
        text(fields, tags::STUDY_ID, b"SH", or(file.written(tags::STUDY_ID), number.to_string().as_bytes()));
    })
}

fn series_record(file: &Identity, number: usize) -> Vec<u8> {
    record("SERIES", None, file, |fields| {
        text(fields, tags::MODALITY, b"CS", or(file.written(tags::MODALITY), b"OT"));
        uid(fields, tags::SERIES_INSTANCE_UID, file.written(tags::SERIES_INSTANCE_UID));
        let number = number.to_string();
        text(fields, tags::SERIES_NUMBER, b"IS", or(file.written(tags::SERIES_NUMBER), number.as_bytes()));
    })
}

fn leaf_record(file: &Identity, name: &[String; 5], number: usize) -> Vec<u8> {
    let leaf = leaf(file).expect("files without a record are left out");
    record(leaf.name, Some(name), file, |fields| {
        for (tag, vr) in leaf.keys {
            match *tag {
                tags::CONCEPT_NAME_CODE_SEQUENCE => code(fields, file),
                tags::INSTANCE_NUMBER => {
                    let number = number.to_string();
                    text(fields, *tag, vr, or(file.written(*tag), number.as_bytes()));
                }
                _ => text(fields, *tag, vr, file.written(*tag)),
            }
        }
    })
}

/// What a report is: the code, its scheme and its meaning (PS3.3 section 8.1).
fn code(fields: &mut Vec<u8>, file: &Identity) {
    let vr_of = |tag| match tag {
        tags::CODE_VALUE | tags::CODING_SCHEME_DESIGNATOR | tags::CODING_SCHEME_VERSION => Some(b"SH"),
        tags::CODE_MEANING => Some(b"LO"),
        _ => None,
    };
    let mut item = Vec::new();
    for (tag, value) in file.item(tags::CONCEPT_NAME_CODE_SEQUENCE) {
        if let Some(vr) = vr_of(tag) {
            text(&mut item, tag, vr, value);
        }
    }
    let items = if item.is_empty() { Vec::new() } else { as_item(&item) };
    long(fields, tags::CONCEPT_NAME_CODE_SEQUENCE, b"SQ", &items);
}

fn or<'a>(value: &'a [u8], otherwise: &'a [u8]) -> &'a [u8] {
    if value.is_empty() { otherwise } else { value }
}

/// A directory record (PS3.3 table F.3-3).
fn record(
    kind: &str,
    file_id: Option<&[String; 5]>,
    file: &Identity,
    keys: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let mut fields = Vec::new();
    element(&mut fields, tags::OFFSET_OF_THE_NEXT_DIRECTORY_RECORD, b"UL", &[0; 4]);
    element(&mut fields, tags::RECORD_IN_USE_FLAG, b"US", &IN_USE.to_le_bytes());
    element(&mut fields, tags::OFFSET_OF_REFERENCED_LOWER_LEVEL_DIRECTORY_ENTITY, b"UL", &[0; 4]);
    text(&mut fields, tags::DIRECTORY_RECORD_TYPE, b"CS", kind.as_bytes());
    if let Some(name) = file_id {
        text(&mut fields, tags::REFERENCED_FILE_ID, b"CS", name.join("\\").as_bytes());
        let (class, object) = (tags::MEDIA_STORAGE_SOP_CLASS_UID, tags::MEDIA_STORAGE_SOP_INSTANCE_UID);
        uid(&mut fields, tags::REFERENCED_SOP_CLASS_UID_IN_FILE, file.written(class));
        uid(&mut fields, tags::REFERENCED_SOP_INSTANCE_UID_IN_FILE, file.written(object));
        uid(
            &mut fields,
            tags::REFERENCED_TRANSFER_SYNTAX_UID_IN_FILE,
            file.written(tags::TRANSFER_SYNTAX_UID),
        );
    }
    let character_set = file.written(tags::SPECIFIC_CHARACTER_SET);
    if !character_set.is_empty() {
        text(&mut fields, tags::SPECIFIC_CHARACTER_SET, b"CS", character_set);
    }
    keys(&mut fields);
    as_item(&fields)
}

/// An item of a sequence (PS3.5 section 7.5).
fn as_item(fields: &[u8]) -> Vec<u8> {
    let mut item = Vec::with_capacity(fields.len() + 8);
    put_tag(&mut item, ITEM);
    item.extend_from_slice(&offset(fields.len()).to_le_bytes());
    item.extend_from_slice(fields);
    item
}

fn put_tag(out: &mut Vec<u8>, Tag(group, number): Tag) {
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
}

/// An element whose length has 16 bits; explicit VR little endian (PS3.5 section 7.1.2).
fn element(out: &mut Vec<u8>, tag: Tag, vr: &[u8; 2], value: &[u8]) {
    let value = &value[..value.len().min(VALUE_BYTES_MAX)];
    put_tag(out, tag);
    out.extend_from_slice(vr);
    out.extend_from_slice(&u16::try_from(value.len()).expect("just cut").to_le_bytes());
    out.extend_from_slice(value);
}

/// An element whose length has 32 bits.
fn long(out: &mut Vec<u8>, tag: Tag, vr: &[u8; 2], value: &[u8]) {
    put_tag(out, tag);
    out.extend_from_slice(vr);
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&offset(value.len()).to_le_bytes());
    out.extend_from_slice(value);
}

/// Values have even lengths: texts are padded by a space, UIDs by NUL (PS3.5 section 6.2).
fn text(out: &mut Vec<u8>, tag: Tag, vr: &[u8; 2], value: &[u8]) {
    element(out, tag, vr, &padded(value, b' '));
}

fn uid(out: &mut Vec<u8>, tag: Tag, value: &[u8]) {
    element(out, tag, b"UI", &padded(value, 0));
}

fn padded(value: &[u8], with: u8) -> Vec<u8> {
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(with);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cut::tests::write::{File, Syntax, even};
    use crate::dicom::header::{Ending, Header};

    /// A file for exchange, by patient, study, series and object.
    fn identity(patient: &str, study: &str, series: &str, object: &str) -> Identity {
        let mut file = File::part10(Syntax::ExplicitLittle, uids::EXPLICIT_VR_LITTLE_ENDIAN);
        file.element(0x0002_0002, b"UI", &even(uids::CT_IMAGE_STORAGE.as_bytes(), 0));
        file.element(0x0002_0003, b"UI", &even(object.as_bytes(), 0));
        file.element(0x0010_0020, b"LO", &even(patient.as_bytes(), b' '));
        file.element(0x0020_000D, b"UI", &even(study.as_bytes(), 0));
        file.element(0x0020_000E, b"UI", &even(series.as_bytes(), 0));
        file.image(2, 2, 1);
        let Ok(identity) = Identity::read(&file.bytes[..]);
        identity.unwrap()
    }

    /// Follows the offsets: how many records stand at each depth.
    fn counted(bytes: &[u8], at: u32, depth: usize, counts: &mut [usize; 4]) {
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let mut at = at as usize;
        while at > 0 {
            assert_eq!(bytes[at..at + 4], [0xFE, 0xFF, 0x00, 0xE0], "an offset names an item");
            counts[depth] += 1;
            counted(bytes, number(at + LOWER_AT), depth + 1, counts);
            at = number(at + NEXT_AT) as usize;
        }
    }

    fn first(bytes: &[u8]) -> u32 {
        let element = [0x04, 0x00, 0x00, 0x12, b'U', b'L', 4, 0];
        let at = bytes.windows(8).position(|window| window == element).unwrap() + 8;
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn every_record_of_a_directory_is_reached_by_its_offset() {
        let files = [
            identity("a", "1.1", "1.1.1", "1.1.1.1"),
            identity("b", "1.2", "1.2.1", "1.2.1.1"),
            identity("a", "1.1", "1.1.2", "1.1.2.1"),
            identity("a", "1.1", "1.1.1", "1.1.1.2"),
            identity("a", "1.3", "1.3.1", "1.3.1.1"),
        ];
        let directory = Directory::of(&files.iter().collect::<Vec<_>>());
        let mut counts = [0; 4];
        counted(&directory.bytes, first(&directory.bytes), 0, &mut counts);
        assert_eq!(counts, [2, 3, 4, 5]);
        assert_eq!(directory.files[1].0.join("/"), "DICOM/PT000001/ST000001/SE000001/IM000002");
        assert_eq!(directory.files.iter().map(|(_, place)| *place).collect::<Vec<_>>(), [0, 3, 2, 4, 1]);
        let Ok(header) = Header::read(&directory.bytes[..]);
        assert_eq!(header.unwrap().ending, Ending::Complete);
    }

    #[test]
    fn a_directory_of_nothing_is_one() {
        let directory = Directory::of(&[]);
        assert_eq!(first(&directory.bytes), 0);
        let Ok(header) = Header::read(&directory.bytes[..]);
        assert_eq!(header.unwrap().ending, Ending::Complete);
    }

    #[test]
    fn what_a_directory_cannot_name_is_left_out_with_the_reason() {
        let one = identity("a", "1.1", "1.1.1", "1.1.1.1");
        let without = identity("a", "", "1.1.1", "1.1.1.2");
        let directory = Directory::of(&[&one, &one, &without]);
        assert_eq!(directory.left_out, [(1, LeftOut::Twice), (2, LeftOut::NoStudy)]);
        assert_eq!(directory.files.len(), 1);
    }
}
