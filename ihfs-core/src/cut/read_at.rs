//! How the core reads a file that it does not hold: at an offset, through whoever owns it.

use std::convert::Infallible;

/// Bytes of a known number that can be read anywhere, as from a file or a buffer.
pub trait ReadAt {
    /// Why a read failed.
    type Error;

    /// Reads up to `buffer.len()` bytes at `offset` and says how many; 0 only at the end.
    ///
    /// # Errors
    /// What the source says. An interrupted read is retried by the source, not reported.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Self::Error>;

    /// How many bytes there are. Must not change while the file is read.
    fn size(&self) -> u64;
}

impl ReadAt for [u8] {
    type Error = Infallible;

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn size(&self) -> u64 {
        self.len() as u64
    }
}
