//! From typed bytes to a location, exactly as they were typed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use ihfs_client::location::Location;

use crate::failure::Failure;

/// Reads a location.
///
/// # Errors
/// [`Failure::Location`].
pub(crate) fn parse(typed: &OsStr) -> Result<Location, Failure> {
    Ok(Location::parse(typed.as_bytes())?)
}

/// Whether a slash at the end asks for a folder.
pub(crate) fn asks_for_folder(typed: &OsStr) -> bool {
    typed.as_bytes().ends_with(b"/")
}
