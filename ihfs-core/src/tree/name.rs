//! Names and paths: exact bytes, checked once where they come in.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

/// Most bytes of a name, as on Linux (`NAME_MAX`).
pub const NAME_BYTES_MAX: usize = 255;
/// Most names in a path. 4,096 bytes of path (`PATH_MAX`) with names of seven bytes reach it, and writing an edit
/// recurses that deep.
pub const DEPTH_MAX: usize = 512;

/// A name of an entry: 1 to 255 exact bytes without `/` and NUL, and neither `.` nor `..`.
///
/// Bytes compare as bytes: no encoding, case or normal form is assumed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

/// Why bytes are not a name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No bytes at all.
    #[error("a name has at least one byte")]
    Empty,
    /// More bytes than [`NAME_BYTES_MAX`].
    #[error("a name has at most {NAME_BYTES_MAX} bytes, found {found}")]
    TooLong {
        /// How many there were.
        found: usize,
    },
    /// `/` or NUL.
    #[error("a name holds neither a slash nor a NUL byte")]
    Forbidden,
    /// `.` or `..`.
    #[error("a name is neither one dot nor two")]
    Dots,
    /// More names in a path than [`DEPTH_MAX`].
    #[error("a path has at most {DEPTH_MAX} names, found {found}")]
    TooDeep {
        /// How many there were.
        found: usize,
    },
}

impl Name {
    /// Takes bytes that must be a name.
    ///
    /// # Errors
    /// [`NameError`]: empty, too long, with `/` or NUL, or dots.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, NameError> {
        let bytes = bytes.into();
        match bytes.as_slice() {
            [] => Err(NameError::Empty),
            b"." | b".." => Err(NameError::Dots),
            long if long.len() > NAME_BYTES_MAX => Err(NameError::TooLong { found: long.len() }),
            other if other.iter().any(|byte| matches!(byte, 0 | b'/')) => Err(NameError::Forbidden),
            _ => Ok(Self(bytes.into_boxed_slice())),
        }
    }

    /// The bytes of the name.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Reads a path: names between slashes. Slashes in front, behind and doubled ones say nothing.
///
/// # Errors
/// [`NameError`] of the first part that is no name; [`NameError::TooDeep`].
pub fn parse_path(path: &[u8]) -> Result<Vec<Name>, NameError> {
    let names: Vec<Name> = path
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty())
        .map(Name::new)
        .collect::<Result<_, _>>()?;
    if names.len() > DEPTH_MAX {
        return Err(NameError::TooDeep { found: names.len() });
    }
    Ok(names)
}

/// The path of these names: a slash in front of each, and `/` for none.
pub fn path_bytes(names: &[Name]) -> Vec<u8> {
    if names.is_empty() {
        return b"/".to_vec();
    }
    names.iter().flat_map(|name| [b"/", name.as_bytes()]).flatten().copied().collect()
}

impl TryFrom<&str> for Name {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        Self::new(text.as_bytes())
    }
}

/// Names of patients' files stay out of logs: only the length is shown.
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({} bytes)", self.0.len())
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        Self::new(bytes.into_vec()).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_but_slash_and_nul_may_stand_in_a_name() {
        for byte in 0..=255u8 {
            let name = Name::new([b'a', byte]);
            match byte {
                0 | b'/' => assert_eq!(name, Err(NameError::Forbidden), "{byte}"),
                _ => assert_eq!(name.unwrap().as_bytes(), [b'a', byte]),
            }
        }
    }

    #[test]
    fn a_name_has_1_to_255_bytes_and_is_not_dots() {
        assert_eq!(Name::new([]), Err(NameError::Empty));
        assert!(Name::new([0xff; 255]).is_ok());
        assert_eq!(Name::new([b'a'; 256]), Err(NameError::TooLong { found: 256 }));
        assert_eq!(Name::new(*b"."), Err(NameError::Dots));
        assert_eq!(Name::new(*b".."), Err(NameError::Dots));
        assert!(Name::new(*b"...").is_ok());
    }

    #[test]
    fn a_path_reads_as_its_names_whatever_slashes_stand_around_them() {
        let names = parse_path(b"//a/\xff b/c/").unwrap();
        assert_eq!(path_bytes(&names), b"/a/\xff b/c");
        assert_eq!(path_bytes(&parse_path(b"/").unwrap()), b"/");
        assert_eq!(parse_path(b"/a/../b"), Err(NameError::Dots));
        assert_eq!(parse_path(&b"a/".repeat(513)), Err(NameError::TooDeep { found: 513 }));
    }

    #[test]
    fn a_name_does_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", Name::new(*b"Doe^Jane").unwrap()), "Name(8 bytes)");
    }

    #[test]
    fn an_encoded_name_that_is_none_is_refused() {
        let encoded = crate::codec::encode(&serde_bytes::ByteBuf::from(b"a/b".to_vec()));
        assert!(crate::codec::decode::<Name>(&encoded, 300).is_err());
    }
}
