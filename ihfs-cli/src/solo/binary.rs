//! Finds the program `ihfs-node` and runs its short commands.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::SoloError;

/// The program's name.
const PROGRAM: &str = "ihfs-node";
/// Names another one; for packagers and tests.
const PROGRAM_VARIABLE: &str = "IHFS_NODE_BIN";
/// Longest that one of its short commands may take: Argon2id and a few fsyncs.
const COMMAND_WAIT: Duration = Duration::from_secs(60);
/// Wait between two looks at whether it has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Most bytes taken of what it says.
const SAID_BYTES_MAX: u64 = 64 << 10;

/// The program: named by `IHFS_NODE_BIN`, beside this one, or on the search path.
///
/// # Errors
/// [`SoloError::NoProgram`].
pub(super) fn find() -> Result<PathBuf, SoloError> {
    let named = std::env::var_os(PROGRAM_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(PROGRAM));
    let path = std::env::var_os("PATH").unwrap_or_default();
    choose(named, beside, &path).ok_or(SoloError::NoProgram)
}

fn choose(named: Option<PathBuf>, beside: Option<PathBuf>, path: &OsStr) -> Option<PathBuf> {
    if named.is_some() {
        return named.filter(|path| is_program(path));
    }
    let on_path = std::env::split_paths(path).map(|folder| folder.join(PROGRAM));
    // An empty entry of the search path means the current folder: nothing is started from there.
    beside.into_iter().chain(on_path).find(|path| path.is_absolute() && is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Runs a short command and gives what it printed.
///
/// # Errors
/// [`SoloError::NodeFailed`], [`SoloError::NotRun`].
pub(super) fn run(arguments: &[&OsStr]) -> Result<String, SoloError> {
    let mut child = Command::new(find()?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(SoloError::NotRun)?;
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let (ended, output, errors) = std::thread::scope(|scope| {
        let output = scope.spawn(|| said(output));
        let errors = scope.spawn(|| said(errors));
        let ended = wait(&mut child);
        (ended, output.join().expect("reading does not panic"), errors.join().expect("nor here"))
    });
    if ended? { Ok(output) } else { Err(SoloError::NodeFailed { said: errors }) }
}

/// Whether it ended well; one that takes too long is ended.
fn wait(child: &mut Child) -> Result<bool, SoloError> {
    let deadline = Instant::now() + COMMAND_WAIT;
    loop {
        if let Some(status) = child.try_wait().map_err(SoloError::NotRun)? {
            return Ok(status.success());
        }
        if Instant::now() >= deadline {
            child.kill().and_then(|()| child.wait()).map_err(SoloError::NotRun)?;
            return Err(SoloError::NotRun(std::io::ErrorKind::TimedOut.into()));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn said(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    // What was said before reading failed is worth as much.
    let _ = from.map(|from| from.take(SAID_BYTES_MAX).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(folder: &Path) -> PathBuf {
        let path = folder.join(PROGRAM);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn the_program_named_wins_then_the_one_beside_then_the_search_path() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (beside, on_path) = (program(a.path()), program(b.path()));
        let path = b.path().as_os_str();
        assert_eq!(choose(Some(on_path.clone()), Some(beside.clone()), path), Some(on_path.clone()));
        assert_eq!(choose(None, Some(beside.clone()), path), Some(beside));
        assert_eq!(choose(None, Some(a.path().join("missing")), path), Some(on_path));
        assert_eq!(choose(Some(a.path().join("missing")), None, path), None);
    }

    #[test]
    fn the_current_folder_is_not_searched() {
        assert_eq!(choose(None, None, OsStr::new(":.:")), None);
    }
}
