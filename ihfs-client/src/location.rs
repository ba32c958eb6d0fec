//! Where something is: `/path` in one's own vault, `//owner/label/path` in what others share.

use std::fmt;

use ihfs_core::members::{Handle, HandleError};
use ihfs_core::tree::name::{Name, NameError, parse_path, path_bytes};

/// A path that a person named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In one's own vault.
    Own(Vec<Name>),
    /// In a record that was shared with one.
    Shared {
        /// The owner's handle.
        owner: Handle,
        /// The owner's label for it.
        label: String,
        /// Names below the record's top.
        path: Vec<Name>,
    },
}

/// Why text is no location.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// It does not begin with a slash.
    #[error("a path in IHFS begins with / (own) or // (shared with you)")]
    NoSlash,
    /// `//owner/label` needs both.
    #[error("a shared path is written //owner/label/path")]
    NoLabel,
    /// The owner is no handle.
    #[error(transparent)]
    Handle(#[from] HandleError),
    /// A name in it is none.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Location {
    /// Reads a location from the exact bytes that were typed.
    ///
    /// # Errors
    /// [`LocationError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, LocationError> {
        match bytes {
            [b'/', b'/', shared @ ..] => Self::parse_shared(shared),
            [b'/', ..] => Ok(Self::Own(parse_path(bytes)?)),
            _ => Err(LocationError::NoSlash),
        }
    }

    fn parse_shared(bytes: &[u8]) -> Result<Self, LocationError> {
        let mut parts = bytes.splitn(3, |byte| *byte == b'/');
        let text = |part: Option<&[u8]>| {
            part.filter(|part| !part.is_empty())
                .and_then(|part| String::from_utf8(part.to_vec()).ok())
                .ok_or(LocationError::NoLabel)
        };
        let (owner, label) = (text(parts.next())?, text(parts.next())?);
        let mut path = vec![b'/'];
        path.extend_from_slice(parts.next().unwrap_or_default());
        Ok(Self::Shared { owner: Handle::parse(&owner)?, label, path: parse_path(&path)? })
    }

    /// Its names below the top of the vault or of the shared record.
    pub fn path(&self) -> &[Name] {
        match self {
            Self::Own(path) | Self::Shared { path, .. } => path,
        }
    }

    /// The same place with other names below its top.
    #[must_use]
    pub fn with_path(&self, path: Vec<Name>) -> Self {
        match self {
            Self::Own(_) => Self::Own(path),
            Self::Shared { owner, label, .. } => {
                Self::Shared { owner: owner.clone(), label: label.clone(), path }
            }
        }
    }

    /// The place one name further down.
    #[must_use]
    pub fn child(&self, name: Name) -> Self {
        let mut path = self.path().to_vec();
        path.push(name);
        self.with_path(path)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = path_bytes(self.path());
        let path = String::from_utf8_lossy(&path);
        match self {
            Self::Own(_) => f.write_str(&path),
            Self::Shared { owner, label, .. } => write!(f, "//{owner}/{label}{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_and_shared_paths_come_back_as_typed() {
        for text in ["/", "/imaging/2026-ct", "//ann@st-mary/ct/", "//ann@st-mary/ct/a/b"] {
            assert_eq!(Location::parse(text.as_bytes()).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_path_is_refused_by_name() {
        assert_eq!(Location::parse(b"imaging"), Err(LocationError::NoSlash));
        assert_eq!(Location::parse(b"//ann@st-mary"), Err(LocationError::NoLabel));
        assert!(matches!(Location::parse(b"//Ann/x"), Err(LocationError::Handle(_))));
        assert!(matches!(Location::parse(b"/a/../b"), Err(LocationError::Name(_))));
    }
}
