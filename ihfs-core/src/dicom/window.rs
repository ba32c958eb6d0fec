//! A small buffer that slides over a file, so that headers are read in few reads and little memory.

use crate::cut::ReadAt;

/// Bytes read at once: most headers take two to four reads, and a skip to a far element wastes little.
const WINDOW_BYTES: usize = 4 << 10;

/// The buffer and the file below it.
pub(crate) struct Window<'a, R: ?Sized> {
    file: &'a R,
    size: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a, R: ReadAt + ?Sized> Window<'a, R> {
    pub(crate) fn new(file: &'a R) -> Self {
        Self { file, size: file.size(), start: 0, bytes: Vec::new() }
    }

    /// Bytes of the file.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// The bytes at `offset`: `length` of them, at most [`WINDOW_BYTES`], fewer at the file's end.
    pub(crate) fn up_to(&mut self, offset: u64, length: usize) -> Result<&[u8], R::Error> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = length.min(WINDOW_BYTES).min(left);
        let end = offset.saturating_add(length as u64);
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            self.slide_to(offset, left.min(WINDOW_BYTES))?;
        }
        let rest = usize::try_from(offset - self.start).ok().and_then(|from| self.bytes.get(from..));
        Ok(rest.map_or(&[], |rest| &rest[..length.min(rest.len())]))
    }

    /// Exactly `N` bytes at `offset`, or `None` where the file ends before.
    pub(crate) fn array<const N: usize>(&mut self, offset: u64) -> Result<Option<[u8; N]>, R::Error> {
        Ok(self.up_to(offset, N)?.try_into().ok())
    }

    fn slide_to(&mut self, offset: u64, length: usize) -> Result<(), R::Error> {
        self.start = offset;
        self.bytes.resize(length, 0);
        let mut filled = 0;
        while filled < length {
            match self.file.read_at(offset + filled as u64, &mut self.bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count.min(length - filled),
                Err(error) => {
                    self.bytes.clear();
                    return Err(error);
                }
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }
}
