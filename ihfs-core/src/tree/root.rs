//! The root of a record: its top item and what a reader must know before anything else.
//!
//! It holds no key of another record and none of an older version.

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use super::entry::{Content, Item};
use super::sorted::{Keyed, SortedPages};
use crate::codec::{self, DecodeError};
use crate::ids::{DeviceId, RecordId, Time, Version};
use crate::sealed::{ROOT_PLAINTEXT_MAX, Ref};

/// Format of the root, its pages and entries. A reader refuses any other by its number.
pub const TREE_FORMAT: u32 = 1;
/// Most devices that a root lists: those that ever wrote the record.
pub const DEVICES_MAX: usize = 4096;

/// What one version of a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The record.
    pub record: RecordId,
    /// Its version.
    pub version: Version,
    /// The folder that is the record; or the file, when a single file is one.
    pub top: Item,
    /// Every record nested in it, with the version that it had.
    pub nested: NestedVersions,
    /// How much of each device's journal is in this version, by device.
    pub devices: Vec<DeviceProgress>,
    /// When its writer made it, by the writer's clock.
    pub written: Time,
}

/// The records nested in a record.
pub type NestedVersions = SortedPages<NestedVersion>;

/// A record nested in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct NestedVersion {
    /// Its id.
    pub record: RecordId,
    /// The version that it had when the parent's version was made.
    pub version: Version,
}

/// How much of a device's journal went into a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct DeviceProgress {
    /// The device.
    pub device: DeviceId,
    /// Number of the last operation of its journal that is in.
    pub sequence: u64,
}

/// Why bytes are not a root.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// They are not canonical, or of another shape.
    #[error("a root does not decode")]
    Decode(#[from] DecodeError),
    /// They are of a format that this program does not know.
    #[error("a root is of format {found}, this program reads format {TREE_FORMAT}")]
    UnknownFormat {
        /// Its format.
        found: u32,
    },
    /// The root is of another record or version than asked for.
    #[error("a root says that it is version {version} of record {record:?}")]
    WrongRecord {
        /// The record that it names.
        record: RecordId,
        /// The version that it names.
        version: Version,
    },
    /// The top is a symbolic link or a nested record.
    #[error("the top of a record is a folder or a file")]
    WrongTop,
    /// Devices are listed in the order of their ids, each once, at most [`DEVICES_MAX`].
    #[error("the devices of a root are not in order, or too many")]
    Devices,
    /// It would have more bytes than a root may.
    #[error("a root has at most {ROOT_PLAINTEXT_MAX} bytes, this one {found}")]
    TooLong {
        /// Its bytes.
        found: usize,
    },
}

/// The bytes of a root: its format, and behind it what that format holds, encoded apart.
#[derive(Serialize_tuple, Deserialize_tuple)]
struct Versioned {
    format: u32,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
}

#[derive(Clone, Serialize_tuple, Deserialize_tuple)]
struct Body {
    record: RecordId,
    version: Version,
    top: Item,
    nested: NestedVersions,
    devices: Vec<DeviceProgress>,
    written: Time,
}

impl Root {
    /// The bytes that are sealed. All refs must be resolved.
    ///
    /// # Errors
    /// [`RootError::WrongTop`], [`RootError::Devices`], [`RootError::TooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, RootError> {
        self.check()?;
        let Self { record, version, top, nested, devices, written } = self.clone();
        let body = codec::encode(&Body { record, version, top, nested, devices, written });
        let bytes = codec::encode(&Versioned { format: TREE_FORMAT, body });
        if bytes.len() > ROOT_PLAINTEXT_MAX {
            return Err(RootError::TooLong { found: bytes.len() });
        }
        Ok(bytes)
    }

    /// Reads the opened bytes of the root that the ledger names as this version of this record.
    ///
    /// # Errors
    /// [`RootError`].
    pub fn decode(bytes: &[u8], record: RecordId, version: Version) -> Result<Self, RootError> {
        let versioned: Versioned = codec::decode(bytes, ROOT_PLAINTEXT_MAX)?;
        if versioned.format != TREE_FORMAT {
            return Err(RootError::UnknownFormat { found: versioned.format });
        }
        let body: Body = codec::decode(&versioned.body, ROOT_PLAINTEXT_MAX)?;
        if (body.record, body.version) != (record, version) {
            return Err(RootError::WrongRecord { record: body.record, version: body.version });
        }
        let Body { record, version, top, nested, devices, written } = body;
        let root = Self { record, version, top, nested, devices, written };
        root.check()?;
        Ok(root)
    }

    /// Calls `visit` with every ref that the root itself holds.
    pub fn for_each_ref(&mut self, visit: &mut dyn FnMut(&mut Ref)) {
        self.top.for_each_ref(visit);
        self.nested.for_each_ref(visit);
    }

    fn check(&self) -> Result<(), RootError> {
        if !matches!(self.top.content, Content::Folder(_) | Content::File(_)) {
            return Err(RootError::WrongTop);
        }
        let in_order = self.devices.is_sorted_by(|left, right| left.device < right.device);
        if !in_order || self.devices.len() > DEVICES_MAX {
            return Err(RootError::Devices);
        }
        Ok(())
    }
}

impl Keyed for NestedVersion {
    type Key = RecordId;

    fn key(&self) -> &RecordId {
        &self.record
    }

    fn key_bytes(key: &RecordId) -> &[u8] {
        key.as_bytes()
    }

    fn weight(&self) -> usize {
        48
    }

    fn for_each_ref(&mut self, _: &mut dyn FnMut(&mut Ref)) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::entry::SymlinkTarget;
    use crate::tree::file::FileContent;
    use crate::tree::folder::Folder;
    use crate::tree::testing::{RECORD, item, root};

    fn folder() -> Root {
        let device = |byte| DeviceProgress { device: DeviceId::from_bytes([byte; 32]), sequence: 7 };
        let devices = vec![device(1), device(2)];
        Root { devices, written: Time(1_000), ..root(item(5, Content::Folder(Folder::EMPTY))) }
    }

    #[test]
    fn a_root_reads_back_as_the_version_that_it_is() {
        for root in [folder(), root(item(1, Content::File(FileContent::EMPTY)))] {
            let bytes = root.encode().unwrap();
            assert_eq!(Root::decode(&bytes, RECORD, Version(1)), Ok(root));
            let other = RootError::WrongRecord { record: RECORD, version: Version(1) };
            assert_eq!(Root::decode(&bytes, RECORD, Version(2)), Err(other));
        }
    }

    #[test]
    fn the_bytes_of_a_root_are_pinned() {
        let bytes = folder().encode().unwrap();
        assert_eq!(
            blake3::hash(&bytes).to_string(),
            "226dae1cdc382f9f1a7d994bdb1f413af2073beef76a89b7aaadf7cf93156c9e"
        );
    }

    #[test]
    fn a_root_of_another_format_is_refused_by_its_number() {
        let bytes = codec::encode(&Versioned { format: 2, body: vec![1, 2, 3] });
        assert_eq!(Root::decode(&bytes, RECORD, Version(1)), Err(RootError::UnknownFormat { found: 2 }));
    }

    #[test]
    fn each_malformed_root_has_its_error() {
        let mut unsorted = folder();
        unsorted.devices.reverse();
        assert_eq!(unsorted.encode(), Err(RootError::Devices));
        let doubled = Root { devices: vec![folder().devices[0]; 2], ..folder() };
        assert_eq!(doubled.encode(), Err(RootError::Devices));
        let link = Content::Symlink(SymlinkTarget::new("target").unwrap());
        assert_eq!(root(item(1, link)).encode(), Err(RootError::WrongTop));
        let long = Root::decode(&vec![0; ROOT_PLAINTEXT_MAX + 1], RECORD, Version(1));
        assert!(matches!(long, Err(RootError::Decode(DecodeError::TooLong { .. }))));
        let cut = folder().encode().unwrap();
        let cut = Root::decode(&cut[..cut.len() - 1], RECORD, Version(1));
        assert_eq!(cut, Err(RootError::Decode(DecodeError::Malformed)));
    }

    #[test]
    fn the_fullest_root_fits() {
        let device = |number: u32| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            DeviceProgress { device: DeviceId::from_bytes(id), sequence: u64::MAX }
        };
        let devices = (0..DEVICES_MAX as u32).map(device).collect();
        let mut full = Root { devices, ..folder() };
        let xattrs = [(vec![b'x'], vec![0; crate::tree::entry::XATTR_BYTES_MAX - 1])].into();
        full.top.metadata.xattrs = crate::tree::entry::Xattrs::new(xattrs).unwrap();
        assert!(full.encode().is_ok());
    }
}
