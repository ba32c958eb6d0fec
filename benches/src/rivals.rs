//! What IHFS is measured beside: `cp` and fsync of every file, and `restic` with a repository on the same disk.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::measure::timed;

/// Files that one `sync` is given: far below the limit of arguments.
const SYNC_FILES: &str = "1000";

/// Copies a folder and makes every file durable.
pub fn copy(from: &Path, to: &Path) -> Result<Duration> {
    let (copied, _) = timed(Command::new("cp").arg("-r").arg(from).arg(to))?;
    Ok(copied + sync(to)?)
}

/// fsync of every file and folder below `folder`.
pub fn sync(folder: &Path) -> Result<Duration> {
    let script = r#"find "$1" -print0 | xargs -0 -n "$2" sync"#;
    let mut command = Command::new("sh");
    Ok(timed(command.args(["-c", script, "sh"]).arg(folder).arg(SYNC_FILES))?.0)
}

/// A fresh repository of restic.
pub struct Restic {
    folder: PathBuf,
    compression: String,
}

impl Restic {
    /// Makes the repository below `folder`.
    pub fn create(folder: &Path, compression: &str) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("password"), "a passphrase of benches\n")?;
        let restic = Self { folder: folder.to_owned(), compression: compression.to_owned() };
        restic.run(["init"])?;
        Ok(restic)
    }

    /// Time of a backup. Restic syncs its files before it names them.
    pub fn backup(&self, source: &Path) -> Result<Duration> {
        self.run([OsStr::new("backup"), source.as_os_str()])
    }

    /// Time of restoring the last backup to `into` and making every file durable.
    pub fn restore(&self, into: &Path) -> Result<Duration> {
        let restored = self
            .run(["restore", "latest", "--target"].map(OsStr::new).into_iter().chain([into.as_os_str()]))?;
        Ok(restored + sync(into)?)
    }

    fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Duration> {
        let mut command = Command::new("restic");
        command.arg("--quiet").arg("--repo").arg(self.folder.join("repository"));
        command.arg("--password-file").arg(self.folder.join("password"));
        command.arg("--cache-dir").arg(self.folder.join("cache"));
        command.arg("--compression").arg(&self.compression);
        Ok(timed(command.args(arguments))?.0)
    }
}
