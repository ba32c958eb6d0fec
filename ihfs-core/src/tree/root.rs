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
