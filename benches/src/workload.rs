//! What is put and got: files of random bytes, the same in every run.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

/// Files in one folder of a real tree.
const FILES_PER_FOLDER: u64 = 500;

/// So many files of such a size.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    pub files: u64,
    pub file_bytes: u64,
}

impl FromStr for Workload {
    type Err = String;

    /// `COUNTxSIZE`, the size in KiB: `2000x256`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('x').and_then(|(files, kib)| {
            let kib: u64 = kib.parse().ok()?;
            Some(Self { files: files.parse().ok()?, file_bytes: kib << 10 })
        });
        parsed.filter(|load| load.files > 0).ok_or_else(|| format!("{text} is not COUNTxKIB"))
    }
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {} KiB", self.files, self.file_bytes >> 10)
    }
}

impl Workload {
    /// Writes the files below `folder`, which comes to be.
    pub fn write(self, folder: &Path) -> Result<()> {
        let mut noise = Noise::new(self.files ^ self.file_bytes);
        for number in 0..self.files {
            let into = folder.join(format!("series-{:03}", number / FILES_PER_FOLDER));
            std::fs::create_dir_all(&into)?;
            let file = File::create(into.join(format!("image-{number:06}")))?;
            let mut file = BufWriter::with_capacity(1 << 20, file);
            let mut left = self.file_bytes;
            while left > 0 {
                let now = left.min(64 << 10) as usize;
                file.write_all(&noise.bytes(now))?;
                left -= now as u64;
            }
            file.flush()?;
        }
        Ok(())
    }
}

/// Random bytes that no compression makes smaller.
pub struct Noise(u64);

impl Noise {
    /// The same bytes for the same seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            // xorshift64*
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            bytes.extend_from_slice(&self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// Fails unless both folders hold the same files.
pub fn check_equal(left: &Path, right: &Path) -> Result<()> {
    let mut count = (0, 0);
    for entry in std::fs::read_dir(left)? {
        let (entry, here) = (entry?, right);
        let other = here.join(entry.file_name());
        count.0 += 1;
        if entry.file_type()?.is_dir() {
            check_equal(&entry.path(), &other)?;
            continue;
        }
        let same = std::fs::read(entry.path())?
            == std::fs::read(&other).with_context(|| other.display().to_string())?;
        ensure!(same, "{} came back different", other.display());
    }
    for entry in std::fs::read_dir(right)? {
        entry?;
        count.1 += 1;
    }
    ensure!(count.0 == count.1, "{} has other entries than {}", right.display(), left.display());
    Ok(())
}
