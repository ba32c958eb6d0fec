//! Where passphrases come from: the terminal, a file, a file descriptor; never an argument or the environment.

use std::fs::File;
use std::io::Read;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::ask::{AskError, Asker};

/// Most bytes of a passphrase: Argon2id takes more, people do not.
const PASSPHRASE_BYTES_MAX: usize = 1024;
/// Fewest bytes of a new one: Argon2id makes guessing slow, not impossible.
const PASSPHRASE_BYTES_MIN: usize = 8;
/// Permissions of a file by which others than its owner read it.
const OTHERS: u32 = 0o044;
/// Most bytes read from a descriptor that carries a whole sheet.
pub(crate) const DESCRIPTOR_BYTES_MAX: usize = 64 << 10;

/// Where the passphrase comes from.
#[derive(Debug)]
pub(crate) enum PassphraseSource {
    /// Whoever sits at the terminal.
    Prompt,
    /// The first line of a file.
    File(PathBuf),
    /// The first line of an open descriptor.
    Descriptor(RawFd),
}

/// Why there is no passphrase.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassphraseError {
    /// Nobody to ask, or the terminal failed.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The file or descriptor failed.
    #[error("the passphrase could not be read")]
    Read(#[from] std::io::Error),
    /// Nothing, or far too much.
    #[error("a passphrase has 1 to {PASSPHRASE_BYTES_MAX} bytes, on the first line")]
    WrongLength,
    /// A new one that is too short.
    #[error("a new passphrase has at least {PASSPHRASE_BYTES_MIN} characters")]
    TooShort,
    /// The two answers differ.
    #[error("the two passphrases differ")]
    Different,
}

impl PassphraseSource {
    /// The passphrase that opens what there is.
    ///
    /// # Errors
    /// [`PassphraseError`].
    pub(crate) fn read(&self, asker: &Asker) -> Result<Zeroizing<Vec<u8>>, PassphraseError> {
        self.once(asker, "Passphrase: ")
    }

    /// A new passphrase; a person types it twice, and again after a slip.
    ///
    /// # Errors
    /// [`PassphraseError`].
    pub(crate) fn choose(&self, asker: &Asker) -> Result<Zeroizing<Vec<u8>>, PassphraseError> {
        use PassphraseError::{Different, TooShort, WrongLength};
        let is_slip = |error: &_| matches!(error, Different | TooShort | WrongLength);
        self.until_right(asker, || self.choose_once(asker), is_slip)
    }

    /// Runs `ask` again after a slip if a person types: a file says the same again.
    ///
    /// # Errors
    /// What `ask` gives at last.
    pub(crate) fn until_right<T, E: std::fmt::Display>(
        &self,
        asker: &Asker,
        mut ask: impl FnMut() -> Result<T, E>,
        is_slip: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        if matches!(self, Self::Prompt) { asker.until_right(ask, is_slip) } else { ask() }
    }

    /// Whether others than its owner can read the file that the passphrase is in.
    pub(crate) fn is_exposed(&self) -> bool {
        let Self::File(path) = self else { return false };
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & OTHERS != 0)
    }

    fn choose_once(&self, asker: &Asker) -> Result<Zeroizing<Vec<u8>>, PassphraseError> {
        let chosen = self.once(asker, "New passphrase for this device: ")?;
        if chosen.len() < PASSPHRASE_BYTES_MIN {
            return Err(PassphraseError::TooShort);
        }
        if matches!(self, Self::Prompt) && self.once(asker, "The same again: ")? != chosen {
            return Err(PassphraseError::Different);
        }
        Ok(chosen)
    }

    fn once(&self, asker: &Asker, question: &str) -> Result<Zeroizing<Vec<u8>>, PassphraseError> {
        let bytes = match self {
            Self::Prompt => {
                let typed = asker.hidden(question, "--passphrase-file FILE or --passphrase-fd N")?;
                Zeroizing::new(typed.as_bytes().to_vec())
            }
            Self::File(path) => first_line(&mut File::open(path)?)?,
            Self::Descriptor(fd) => first_line(&mut Descriptor(*fd))?,
        };
        if (1..=PASSPHRASE_BYTES_MAX).contains(&bytes.len()) {
            Ok(bytes)
        } else {
            Err(PassphraseError::WrongLength)
        }
    }
}

/// The first line without its end; one byte more than allowed if it is too long.
fn first_line(from: &mut impl Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(PASSPHRASE_BYTES_MAX + 1));
    let mut byte = [0];
    while line.len() <= PASSPHRASE_BYTES_MAX && from.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

/// A descriptor that whoever started the process opened for it.
#[derive(Debug)]
pub(crate) struct Descriptor(pub(crate) RawFd);

impl Read for Descriptor {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.0 < 0 {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: not -1; borrowed for one read, never closed here. A number that is not open gives EBADF.
        #[expect(unsafe_code, reason = "a descriptor arrives as a number")]
        let fd = unsafe { BorrowedFd::borrow_raw(self.0) };
        Ok(rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut *buffer))?)
    }
}

/// Everything that a descriptor gives, up to [`DESCRIPTOR_BYTES_MAX`].
///
/// # Errors
/// What reading gives.
pub(crate) fn read_secret_text(from: impl Read) -> std::io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(DESCRIPTOR_BYTES_MAX));
    from.take(DESCRIPTOR_BYTES_MAX as u64).read_to_end(&mut bytes)?;
    Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use super::*;

    fn from_file(text: &[u8]) -> Result<Vec<u8>, PassphraseError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        let source = PassphraseSource::File(file.path().to_owned());
        source.read(&Asker::new(false, false)).map(|bytes| bytes.to_vec())
    }

    #[test]
    fn the_first_line_of_a_file_is_the_passphrase() {
        assert_eq!(from_file(b"correct horse\nother\n").unwrap(), b"correct horse");
        assert_eq!(from_file(b"correct horse\r\n").unwrap(), b"correct horse");
        assert_eq!(from_file("gr\u{fc}n ".as_bytes()).unwrap(), "gr\u{fc}n ".as_bytes());
    }

    #[test]
    fn nothing_and_far_too_much_are_refused() {
        assert!(matches!(from_file(b""), Err(PassphraseError::WrongLength)));
        assert!(matches!(from_file(b"\nx"), Err(PassphraseError::WrongLength)));
        assert!(matches!(from_file(&[b'a'; 2000]), Err(PassphraseError::WrongLength)));
    }

    #[test]
    fn a_descriptor_gives_the_passphrase() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"correct horse\n").unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let source = PassphraseSource::Descriptor(file.as_raw_fd());
        assert_eq!(source.read(&Asker::new(false, false)).unwrap().as_slice(), b"correct horse");
        let nobody = PassphraseSource::Descriptor(-1).read(&Asker::new(false, false));
        assert!(matches!(nobody, Err(PassphraseError::Read(_))));
    }

    #[test]
    fn whoever_mistypes_a_new_passphrase_is_asked_again() {
        let asker = Asker::scripted(&["short", "long enough", "long enouhg", "long enough", "long enough"]);
        assert_eq!(PassphraseSource::Prompt.choose(&asker).unwrap().as_slice(), b"long enough");
        let asker = Asker::scripted(&["short", "short", "short"]);
        assert!(matches!(PassphraseSource::Prompt.choose(&asker), Err(PassphraseError::TooShort)));
    }

    #[test]
    fn a_passphrase_file_that_others_can_read_is_noticed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = PassphraseSource::File(file.path().to_owned());
        assert!(!source.is_exposed());
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(source.is_exposed());
    }

    #[test]
    fn a_new_passphrase_is_not_short() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"short").unwrap();
        let source = PassphraseSource::File(file.path().to_owned());
        assert!(matches!(source.choose(&Asker::new(false, false)), Err(PassphraseError::TooShort)));
    }
}
