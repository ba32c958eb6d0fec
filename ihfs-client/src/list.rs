//! Looking: what stands in a folder, and all that is known of one thing. Neither reads more of a file than its
//! first piece, and a listing opens no record that others shared.

use ihfs_core::dicom::{Named, Summary};
use ihfs_core::ids::RecordId;
use ihfs_core::tree::entry::{Content, Entry, Item, Metadata, Moment, NestedKind, NestedRecord};
use ihfs_core::tree::file::FileContent;
use ihfs_core::tree::name::Name;
use ihfs_core::tree::reader::Listing as Listed;
use ihfs_core::tree::{ChunkSource, TreeError};

use crate::client::Client;
use crate::location::Location;
use crate::record::{Access, OpenTree, RecordError};
use crate::resolve::ResolveError;
use crate::snapshot::chunk_of;

/// Most shared files of one listing whose size is looked up: each costs questions of its own.
const SIZES_LOOKED_UP_MAX: usize = 32;

/// What a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file.
    File,
    /// A symbolic link.
    Symlink,
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct When {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds behind that second.
    pub nanos: u32,
}

/// One page of a folder.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Listing {
    /// The entries, in the order of the bytes of their names.
    pub entries: Vec<ListedEntry>,
    /// Whether more follow.
    pub more: bool,
    /// The name behind which the next page begins; none on the last page.
    #[serde(skip)]
    pub next: Option<Name>,
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ListedEntry {
    /// Its name as text; what is no UTF-8 is replaced.
    pub name: String,
    /// The exact bytes of the name in hex, where they are no UTF-8.
    pub name_hex: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// Bytes of a file or of a symbolic link's target; none for a folder, and for a shared file whose size was
    /// not looked up.
    pub size: Option<u64>,
    /// Permission bits.
    pub mode: u32,
    /// When the content last changed.
    pub modified: When,
    /// Whether it is a record of its own, which is what sharing makes of a folder or file.
    pub shared: bool,
    /// That record's id.
    pub record: Option<String>,
    /// Where a symbolic link points, as text.
    pub target: Option<String>,
}

/// Everything that is known of one thing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StatReport {
    /// Where it is.
    pub location: String,
    /// What it is.
    pub kind: Kind,
    /// Bytes of a file or of a symbolic link's target, 0 for a folder.
    pub size: u64,
    /// Entries of a folder.
    pub entries: Option<u64>,
    /// Permission bits.
    pub mode: u32,
    /// User on the machine that wrote it.
    pub uid: Option<u32>,
    /// Group on the machine that wrote it.
    pub gid: Option<u32>,
    /// When the content last changed.
    pub modified: When,
    /// When content or metadata last changed.
    pub changed: When,
    /// When it came to be.
    pub born: Option<When>,
    /// The random number that survives rename, in hex.
    pub file_id: String,
    /// Extended attributes.
    pub xattrs: Vec<XattrReport>,
    /// The record that holds it.
    pub record: String,
    /// Whether it is the top of that record: a vault, or something that was shared by itself.
    pub is_record: bool,
    /// The member whose record it is.
    pub owner: Option<String>,
    /// The version that was looked at.
    pub version: u64,
    /// The live epoch of the record's keys.
    pub epoch: u32,
    /// Pieces and holes of a file.
    pub pieces: Option<u64>,
    /// Address of the chunk that holds the content, when one does.
    pub cid: Option<String>,
    /// Where a symbolic link points, as text.
    pub target: Option<String>,
    /// What a DICOM header says. Never who the patient is.
    pub dicom: Option<DicomReport>,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct XattrReport {
    /// Its name as text.
    pub name: String,
    /// Its value in hex.
    pub value_hex: String,
}

/// What a DICOM header says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DicomReport {
    /// Kind of equipment, such as `CT`.
    pub modality: Option<String>,
    /// Kind of object, by name where the standard has one.
    pub sop_class: Option<String>,
    /// How the pixel data is encoded, by name where the standard has one.
    pub transfer_syntax: Option<String>,
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
    /// Part of the body.
    pub body_part: Option<String>,
    /// Height of a frame in pixels.
    pub rows: Option<u16>,
    /// Width of a frame in pixels.
    pub columns: Option<u16>,
    /// How many frames there are.
    pub frames: Option<u32>,
    /// Whether a patient's name stands in the header.
    pub has_patient_name: bool,
    /// Whether a patient's id stands in the header.
    pub has_patient_id: bool,
}

impl Client {
    /// Up to `limit` entries of the folder at `at`, behind the name `from` or from the first. A file or symbolic
    /// link lists as itself.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub fn ls(&self, at: &Location, from: Option<&Name>, limit: usize) -> Result<Listing, ResolveError> {
        let (spot, item) = self.find(at)?;
        // One more than asked for tells whether there is a next page.
        let entries = match spot.tree.list(&spot.path, from, limit.saturating_add(1))? {
            Listed::Entries(entries) => entries,
            Listed::NotAFolder(_) => {
                let name = at.path().last().cloned().unwrap_or_else(|| top_name(at));
                vec![Entry { name, item }]
            }
        };
        let mut listing = page(entries, limit);
        if matches!(spot.record.access, Access::Owner) {
            self.look_up_sizes(&mut listing.entries);
        }
        Ok(listing)
    }

    /// Sizes of shared files stand in their own records. One that cannot be had now is left out.
    fn look_up_sizes(&self, entries: &mut [ListedEntry]) {
        let shared_files = entries.iter_mut().filter(|entry| entry.shared && entry.kind == Kind::File);
        for entry in shared_files.take(SIZES_LOOKED_UP_MAX) {
            let Some(record) = entry.record.as_ref().and_then(|id| id.parse().ok()) else { continue };
            entry.size = self.size_of_own(record).ok().flatten();
        }
    }

    fn size_of_own(&self, record: RecordId) -> Result<Option<u64>, RecordError> {
        let mut record = self.own_record(record)?;
        Ok(self.open_head(&mut record)?.map(|tree| tree.root().top.size_bytes()))
    }

    /// Everything that is known of what stands at `at`.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub fn stat(&self, at: &Location) -> Result<StatReport, ResolveError> {
        let (spot, item) = self.find(at)?;
        let Metadata { mode, owner, modified, changed, born, xattrs } = &item.metadata;
        let mut report = StatReport {
            location: at.to_string(),
            kind: kind(&item),
            size: item.size_bytes(),
            entries: None,
            mode: mode.bits(),
            uid: owner.map(|owner| owner.uid),
            gid: owner.map(|owner| owner.gid),
            modified: (*modified).into(),
            changed: (*changed).into(),
            born: born.map(When::from),
            file_id: format!("{:016x}", item.id.0),
            xattrs: xattrs.by_name().iter().map(|(name, value)| xattr(name, value)).collect(),
            record: spot.record.id.to_string(),
            is_record: spot.path.is_empty(),
            owner: spot.record.owner().map(|owner| owner.to_string()),
            version: spot.tree.root().version.0,
            epoch: spot.record.epoch().0,
            pieces: None,
            cid: None,
            target: None,
            dicom: None,
        };
        match &item.content {
            Content::Folder(folder) => report.entries = Some(folder.count()),
            Content::File(content) => describe_file(&mut report, &spot.tree, content)?,
            Content::Symlink(target) => report.target = Some(text(target.as_bytes())),
            Content::Nested(_) => {}
        }
        Ok(report)
    }
}

fn describe_file(report: &mut StatReport, tree: &OpenTree, content: &FileContent) -> Result<(), RecordError> {
    report.pieces = Some(content.extent_count());
    let first = content.extents(tree.source(), 0..content.size_bytes(), 1)?;
    let Some(piece) = first.first().and_then(|placed| placed.extent.as_piece()) else { return Ok(()) };
    let id = chunk_of(piece).ok_or(TreeError::Unwritten)?;
    if content.extent_count() == 1 {
        report.cid = Some(id.to_cid().to_string());
    }
    let beginning = tree.source().chunk(id).map_err(TreeError::Source)?.open(piece)?;
    report.dicom = Summary::read(&beginning).map(DicomReport::from);
    Ok(())
}

fn page(mut entries: Vec<Entry>, limit: usize) -> Listing {
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next = entries.last().map(|entry| entry.name.clone()).filter(|_| more);
    Listing { entries: entries.iter().map(ListedEntry::from).collect(), more, next }
}

impl From<&Entry> for ListedEntry {
    fn from(entry: &Entry) -> Self {
        let bytes = entry.name.as_bytes();
        let nested = match &entry.item.content {
            Content::Nested(nested) => Some(nested.record.to_string()),
            _ => None,
        };
        let target = match &entry.item.content {
            Content::Symlink(target) => Some(text(target.as_bytes())),
            _ => None,
        };
        let has_size = matches!(entry.item.content, Content::File(_) | Content::Symlink(_));
        Self {
            name: text(bytes),
            name_hex: std::str::from_utf8(bytes).is_err().then(|| hex(bytes)),
            kind: kind(&entry.item),
            size: has_size.then(|| entry.item.size_bytes()),
            mode: entry.item.metadata.mode.bits(),
            modified: entry.item.metadata.modified.into(),
            shared: nested.is_some(),
            record: nested,
            target,
        }
    }
}

impl From<Moment> for When {
    fn from(moment: Moment) -> Self {
        Self { seconds: moment.seconds(), nanos: moment.nanos() }
    }
}

impl From<Summary> for DicomReport {
    fn from(summary: Summary) -> Self {
        let name = |named: Named| named.name.map_or(named.uid, str::to_owned);
        Self {
            modality: summary.modality,
            sop_class: summary.sop_class.map(name),
            transfer_syntax: summary.transfer_syntax.map(name),
            sop_instance_uid: summary.sop_instance_uid,
            study_instance_uid: summary.study_instance_uid,
            series_instance_uid: summary.series_instance_uid,
            study_date: summary.study_date,
            study_description: summary.study_description,
            series_description: summary.series_description,
            series_number: summary.series_number,
            instance_number: summary.instance_number,
            body_part: summary.body_part,
            rows: summary.rows,
            columns: summary.columns,
            frames: summary.frames,
            has_patient_name: summary.has_patient_name,
            has_patient_id: summary.has_patient_id,
        }
    }
}

pub(crate) fn kind(item: &Item) -> Kind {
    match &item.content {
        Content::Folder(_) | Content::Nested(NestedRecord { kind: NestedKind::Folder, .. }) => Kind::Folder,
        Content::File(_) | Content::Nested(NestedRecord { kind: NestedKind::File, .. }) => Kind::File,
        Content::Symlink(_) => Kind::Symlink,
    }
}

fn xattr(name: &[u8], value: &[u8]) -> XattrReport {
    XattrReport { name: text(name), value_hex: hex(value) }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// What the top of a record is listed as when it is a file: by its owner's label.
fn top_name(at: &Location) -> Name {
    let label = match at {
        Location::Shared { label, .. } => Name::new(label.as_bytes()).ok(),
        Location::Own(_) => None,
    };
    label.unwrap_or_else(|| Name::new(*b"top").expect("a name"))
}

#[cfg(test)]
mod tests {
    use ihfs_core::ids::FileId;
    use ihfs_core::tree::entry::{Mode, SymlinkTarget};
    use ihfs_core::tree::folder::Folder;

    use super::*;

    fn entry(name: &[u8], content: Content) -> Entry {
        let metadata = Metadata {
            mode: Mode::from_stat(0o640),
            modified: Moment::new(-1, 500).unwrap(),
            ..Metadata::default()
        };
        Entry { name: Name::new(name).unwrap(), item: Item { id: FileId(7), content, metadata } }
    }

    #[test]
    fn a_page_says_whether_more_follow_and_behind_which_name() {
        let entries: Vec<_> =
            [b"a", b"b", b"c"].map(|name| entry(name, Content::Folder(Folder::EMPTY))).into();
        let first = page(entries.clone(), 2);
        assert_eq!(first.entries.len(), 2);
        assert!(first.more);
        assert_eq!(first.next, Some(Name::new(*b"b").unwrap()));
        let whole = page(entries, 3);
        assert_eq!((whole.entries.len(), whole.more, whole.next), (3, false, None));
    }

    #[test]
    fn an_entry_has_the_fields_that_scripts_rely_on() {
        let record = RecordId::from_bytes([3; 32]);
        let nested = NestedRecord { record, kind: NestedKind::Folder };
        let listed = ListedEntry::from(&entry(b"ct", Content::Nested(nested)));
        let json = serde_json::to_value(&listed).unwrap();
        let expected = serde_json::json!({
            "name": "ct",
            "name_hex": null,
            "kind": "folder",
            "size": null,
            "mode": 0o640,
            "modified": { "seconds": -1, "nanos": 500 },
            "shared": true,
            "record": "03".repeat(32),
            "target": null,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn a_name_that_is_no_text_is_told_in_hex_too() {
        let target = Content::Symlink(SymlinkTarget::new("where").unwrap());
        let listed = ListedEntry::from(&entry(b"a\xff", target));
        assert_eq!(listed.name, "a\u{fffd}");
        assert_eq!(listed.name_hex.as_deref(), Some("61ff"));
        assert_eq!((listed.size, listed.target.as_deref()), (Some(5), Some("where")));
    }
}
