//! What a folder lists: an item under a name, with the metadata that a file system keeps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use super::file::FileContent;
use super::folder::Folder;
use super::name::Name;
use super::sorted::Keyed;
use crate::ids::{FileId, RecordId};
use crate::sealed::Ref;

/// Most bytes of a symbolic link's target: `PATH_MAX` without its NUL.
pub const SYMLINK_BYTES_MAX: usize = 4095;
/// Most bytes of all extended attributes of an item, names and values: what Linux allows one value.
pub const XATTR_BYTES_MAX: usize = 64 << 10;
/// Most extended attributes of an item.
pub const XATTRS_MAX: usize = 1024;
/// Permission, set-id and sticky bits. The kind stands in [`Content`].
pub const MODE_MAX: u32 = 0o7777;
/// Most encoded bytes of a ref: five fields, two of them with 32 bytes and one with both a record and an epoch.
pub(crate) const REF_WEIGHT: usize = 120;

/// An item and its name in the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Entry {
    /// Its name.
    pub name: Name,
    /// What stands under it.
    pub item: Item,
}

/// A folder, file, symbolic link or nested record, apart from its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Item {
    /// Random number that survives rename; no other item of the record has it.
    pub id: FileId,
    /// What is in it.
    pub content: Content,
    /// Mode, owner, times, extended attributes.
    pub metadata: Metadata,
}

/// What an item holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Entries.
    #[serde(rename = "d")]
    Folder(Folder),
    /// Bytes.
    #[serde(rename = "f")]
    File(FileContent),
    /// The target of a symbolic link.
    #[serde(rename = "l")]
    Symlink(SymlinkTarget),
    /// Another record, named and never keyed.
    #[serde(rename = "n")]
    Nested(NestedRecord),
}

/// A record that stands in this one's tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct NestedRecord {
    /// Its id.
    pub record: RecordId,
    /// What it was when it was attached, for listings that cannot open it.
    pub kind: NestedKind,
}

/// What the top of a nested record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NestedKind {
    /// A folder.
    #[serde(rename = "d")]
    Folder,
    /// A file.
    #[serde(rename = "f")]
    File,
}

/// Metadata of an item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Metadata {
    /// Permission bits, at most [`MODE_MAX`].
    pub mode: Mode,
    /// User and group on the machine that wrote it, if they are kept.
    pub owner: Option<Owner>,
    /// When the content last changed.
    pub modified: Moment,
    /// When content or metadata last changed.
    pub changed: Moment,
    /// When the item came to be, if that is known.
    pub born: Option<Moment>,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// Permission bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Mode(u32);

/// Numeric user and group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A point in time: seconds since 1970-01-01T00:00:00Z, and nanoseconds behind that second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "(i64, u32)", into = "(i64, u32)")]
pub struct Moment {
    seconds: i64,
    nanos: u32,
}

/// Where a symbolic link points: 1 to [`SYMLINK_BYTES_MAX`] bytes without NUL.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ByteBuf", into = "ByteBuf")]
pub struct SymlinkTarget(Box<[u8]>);

/// Extended attributes by name, at most [`XATTR_BYTES_MAX`] bytes.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(ByteBuf, ByteBuf)>", into = "Vec<(ByteBuf, ByteBuf)>")]
pub struct Xattrs(BTreeMap<Vec<u8>, Vec<u8>>);

/// Why something is no metadata.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Bits beyond [`MODE_MAX`].
    #[error("a mode has no bits beyond {MODE_MAX:o}, found {found:o}")]
    Mode {
        /// The mode that was given.
        found: u32,
    },
    /// A second has 10^9 nanoseconds.
    #[error("a second has 1,000,000,000 nanoseconds, found {found}")]
    Nanos {
        /// The nanoseconds that were given.
        found: u32,
    },
    /// A symbolic link's target is empty, too long, or holds NUL.
    #[error("a symbolic link's target has 1 to {SYMLINK_BYTES_MAX} bytes without NUL, found {found} bytes")]
    SymlinkTarget {
        /// Its length.
        found: usize,
    },
    /// An extended attribute's name is empty, longer than 255 bytes, or holds NUL.
    #[error("an extended attribute's name has 1 to 255 bytes without NUL")]
    XattrName,
    /// Too many extended attributes, or too many bytes of them.
    #[error("extended attributes have at most {XATTRS_MAX} names and {XATTR_BYTES_MAX} bytes")]
    TooManyXattrs,
    /// Extended attributes are listed in the order of their names, each once.
    #[error("extended attributes are not in order")]
    XattrOrder,
}

impl Item {
    /// Its bytes as `stat` counts them: a file's, or those of a symbolic link's target.
    pub fn size_bytes(&self) -> u64 {
        match &self.content {
            Content::File(content) => content.size_bytes(),
            Content::Symlink(target) => target.as_bytes().len() as u64,
            Content::Folder(_) | Content::Nested(_) => 0,
        }
    }

    /// Calls `visit` with every ref that the item itself holds.
    pub fn for_each_ref(&mut self, visit: &mut dyn FnMut(&mut Ref)) {
        match &mut self.content {
            Content::Folder(folder) => folder.for_each_ref(visit),
            Content::File(content) => content.for_each_ref(visit),
            Content::Symlink(_) | Content::Nested(_) => {}
        }
    }

    /// At least its encoded bytes, and the same wherever its refs stand.
    fn weight(&self) -> usize {
        /// Tags, id, mode, owner, four times, counts.
        const FIXED: usize = 100;
        let content = match &self.content {
            Content::Folder(_) => REF_WEIGHT + 300,
            Content::File(content) => content.weight(),
            Content::Symlink(target) => target.0.len() + 8,
            Content::Nested(_) => 48,
        };
        FIXED + content + self.metadata.xattrs.weight()
    }
}

impl Keyed for Entry {
    type Key = Name;

    fn key(&self) -> &Name {
        &self.name
    }

    fn key_bytes(key: &Name) -> &[u8] {
        key.as_bytes()
    }

    fn weight(&self) -> usize {
        self.name.as_bytes().len() + 4 + self.item.weight()
    }

    fn for_each_ref(&mut self, visit: &mut dyn FnMut(&mut Ref)) {
        self.item.for_each_ref(visit);
    }
}

impl Mode {
    /// Takes permission bits.
    ///
    /// # Errors
    /// [`MetadataError::Mode`] for bits beyond [`MODE_MAX`].
    pub const fn new(bits: u32) -> Result<Self, MetadataError> {
        if bits > MODE_MAX {
            return Err(MetadataError::Mode { found: bits });
        }
        Ok(Self(bits))
    }

    /// The permission bits of a `st_mode`; the bits of its file type are left out.
    pub const fn from_stat(mode: u32) -> Self {
        Self(mode & MODE_MAX)
    }

    /// The bits.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl Moment {
    /// Seconds since 1970, also before it, and nanoseconds behind that second.
    ///
    /// # Errors
    /// [`MetadataError::Nanos`] for 10^9 nanoseconds and more.
    pub const fn new(seconds: i64, nanos: u32) -> Result<Self, MetadataError> {
        if nanos >= 1_000_000_000 {
            return Err(MetadataError::Nanos { found: nanos });
        }
        Ok(Self { seconds, nanos })
    }

    /// Seconds since 1970.
    pub const fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds behind that second.
    pub const fn nanos(self) -> u32 {
        self.nanos
    }
}

impl SymlinkTarget {
    /// Takes the bytes of a target.
    ///
    /// # Errors
    /// [`MetadataError::SymlinkTarget`] when they are empty, too long or hold NUL.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, MetadataError> {
        let bytes = bytes.into();
        if bytes.is_empty() || bytes.len() > SYMLINK_BYTES_MAX || bytes.contains(&0) {
            return Err(MetadataError::SymlinkTarget { found: bytes.len() });
        }
        Ok(Self(bytes.into_boxed_slice()))
    }

    /// The bytes of the target.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Xattrs {
    /// Takes attributes by name.
    ///
    /// # Errors
    /// [`MetadataError::XattrName`], [`MetadataError::TooManyXattrs`].
    pub fn new(by_name: BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Self, MetadataError> {
        if by_name.keys().any(|name| name.is_empty() || name.len() > 255 || name.contains(&0)) {
            return Err(MetadataError::XattrName);
        }
        let bytes: usize = by_name.iter().map(|(name, value)| name.len() + value.len()).sum();
        if by_name.len() > XATTRS_MAX || bytes > XATTR_BYTES_MAX {
            return Err(MetadataError::TooManyXattrs);
        }
        Ok(Self(by_name))
    }

    /// The attributes by name.
    pub const fn by_name(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.0
    }

    fn weight(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len() + 8).sum()
    }
}

impl TryFrom<u32> for Mode {
    type Error = MetadataError;

    fn try_from(bits: u32) -> Result<Self, MetadataError> {
        Self::new(bits)
    }
}

impl From<Mode> for u32 {
    fn from(mode: Mode) -> Self {
        mode.0
    }
}

impl TryFrom<(i64, u32)> for Moment {
    type Error = MetadataError;

    fn try_from((seconds, nanos): (i64, u32)) -> Result<Self, MetadataError> {
        Self::new(seconds, nanos)
    }
}

impl From<Moment> for (i64, u32) {
    fn from(moment: Moment) -> Self {
        (moment.seconds, moment.nanos)
    }
}

impl TryFrom<ByteBuf> for SymlinkTarget {
    type Error = MetadataError;

    fn try_from(bytes: ByteBuf) -> Result<Self, MetadataError> {
        Self::new(bytes.into_vec())
    }
}

impl From<SymlinkTarget> for ByteBuf {
    fn from(target: SymlinkTarget) -> Self {
        Self::from(target.0.into_vec())
    }
}

impl std::fmt::Debug for SymlinkTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SymlinkTarget({} bytes)", self.0.len())
    }
}

impl TryFrom<Vec<(ByteBuf, ByteBuf)>> for Xattrs {
    type Error = MetadataError;

    fn try_from(list: Vec<(ByteBuf, ByteBuf)>) -> Result<Self, MetadataError> {
        if !list.is_sorted_by(|left, right| left.0 < right.0) {
            return Err(MetadataError::XattrOrder);
        }
        Self::new(list.into_iter().map(|(name, value)| (name.into_vec(), value.into_vec())).collect())
    }
}

impl From<Xattrs> for Vec<(ByteBuf, ByteBuf)> {
    fn from(xattrs: Xattrs) -> Self {
        xattrs.0.into_iter().map(|(name, value)| (ByteBuf::from(name), ByteBuf::from(value))).collect()
    }
}

impl std::fmt::Debug for Xattrs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Xattrs({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{self, DecodeError};

    fn full() -> Entry {
        let metadata = Metadata {
            mode: Mode::new(0o4755).unwrap(),
            owner: Some(Owner { uid: 1000, gid: u32::MAX }),
            modified: Moment::new(-1, 999_999_999).unwrap(),
            changed: Moment::new(i64::MAX, 0).unwrap(),
            born: Some(Moment::new(i64::MIN, 1).unwrap()),
            xattrs: Xattrs::new([(b"user.a".to_vec(), vec![0, 1]), (b"user.b".to_vec(), vec![])].into())
                .unwrap(),
        };
        let nested = NestedRecord { record: RecordId::from_bytes([9; 32]), kind: NestedKind::File };
        let item = Item { id: FileId(u64::MAX), content: Content::Nested(nested), metadata };
        Entry { name: Name::new(*b"\xff").unwrap(), item }
    }

    #[test]
    fn an_entry_with_everything_reads_back_and_its_bytes_are_pinned() {
        let bytes = codec::encode(&full());
        assert_eq!(codec::decode(&bytes, 1000), Ok(full()));
        assert!(bytes.len() <= Keyed::weight(&full()));
        assert_eq!(
            blake3::hash(&bytes).to_string(),
            "723c152f665765bac748ade213a619c45a8081995616ccdf3fa73190ca43e2b1"
        );
    }

    #[test]
    fn metadata_beyond_its_limits_is_refused() {
        assert_eq!(Mode::new(0o10000), Err(MetadataError::Mode { found: 0o10000 }));
        assert_eq!(Mode::from_stat(0o100_644).bits(), 0o644);
        assert_eq!(Moment::new(0, 1_000_000_000), Err(MetadataError::Nanos { found: 1_000_000_000 }));
        for target in [vec![], vec![0], vec![b'a'; 4096]] {
            assert!(SymlinkTarget::new(target).is_err());
        }
        let xattrs = |name: &[u8], size| Xattrs::new([(name.to_vec(), vec![0; size])].into());
        assert_eq!(xattrs(b"", 1), Err(MetadataError::XattrName));
        assert_eq!(xattrs(b"a\0", 1), Err(MetadataError::XattrName));
        assert!(xattrs(b"a", XATTR_BYTES_MAX - 1).is_ok());
        assert_eq!(xattrs(b"a", XATTR_BYTES_MAX), Err(MetadataError::TooManyXattrs));
    }

    #[test]
    fn encoded_metadata_beyond_its_limits_is_refused() {
        let bytes = |value: &[u8]| ByteBuf::from(value.to_vec());
        let unsorted = codec::encode(&vec![(bytes(b"b"), bytes(b"")), (bytes(b"a"), bytes(b""))]);
        assert_eq!(codec::decode::<Xattrs>(&unsorted, 100), Err(DecodeError::Malformed));
        let doubled = codec::encode(&vec![(bytes(b"a"), bytes(b"")), (bytes(b"a"), bytes(b""))]);
        assert_eq!(codec::decode::<Xattrs>(&doubled, 100), Err(DecodeError::Malformed));
        let mode = codec::encode(&0o10000u32);
        assert_eq!(codec::decode::<Mode>(&mode, 100), Err(DecodeError::Malformed));
        let moment = codec::encode(&(0i64, 1_000_000_000u32));
        assert_eq!(codec::decode::<Moment>(&moment, 100), Err(DecodeError::Malformed));
    }
}
