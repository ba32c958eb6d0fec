//! Asks the person at the terminal. A script has none, and gets an error instead of a prompt.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Read, Write};

use zeroize::Zeroizing;

/// Most bytes of an answer: 24 words and what else stands on a line of the sheet.
const ANSWER_BYTES_MAX: usize = 1024;

/// Asks, if somebody is there.
#[derive(Debug)]
pub(crate) struct Asker {
    somebody_there: bool,
    yes: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// No terminal, or `--json`.
    #[error("nobody can be asked: {question}")]
    NobodyThere {
        /// What would have been asked.
        question: String,
        /// The option that answers it.
        instead: &'static str,
    },
    /// The terminal failed.
    #[error("the terminal could not be read")]
    Terminal(#[from] std::io::Error),
    /// The answer was no.
    #[error("you said no")]
    Declined,
}

impl Asker {
    /// `may_ask`: not when the output is for a program.
    pub(crate) fn new(may_ask: bool, yes: bool) -> Self {
        let terminal = || std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        Self { somebody_there: may_ask && terminal(), yes }
    }

    /// Whether `--yes` was given.
    pub(crate) const fn says_yes(&self) -> bool {
        self.yes
    }

    /// Asks for a yes, unless `--yes` gave it.
    ///
    /// # Errors
    /// [`AskError::Declined`] and the others.
    pub(crate) fn confirm(&self, question: &str, instead: &'static str) -> Result<(), AskError> {
        if self.yes {
            return Ok(());
        }
        let answer = self.line(&format!("{question} [y/N] "), instead)?;
        let answer = answer.trim().to_lowercase();
        if answer == "y" || answer == "yes" { Ok(()) } else { Err(AskError::Declined) }
    }

    /// Asks for a line, shown while it is typed.
    ///
    /// # Errors
    /// [`AskError`].
    pub(crate) fn line(&self, question: &str, instead: &'static str) -> Result<Zeroizing<String>, AskError> {
        let mut terminal = self.terminal(question, instead)?;
        terminal.write_all(question.as_bytes())?;
        read_line(&mut terminal)
    }

    /// Asks for a line that is not shown.
    ///
    /// # Errors
    /// [`AskError`].
    pub(crate) fn hidden(
        &self,
        question: &str,
        instead: &'static str,
    ) -> Result<Zeroizing<String>, AskError> {
        self.terminal(question, instead)?;
        Ok(Zeroizing::new(rpassword::prompt_password(question)?))
    }

    /// Shows something that is neither result nor error, where the person sits.
    ///
    /// # Errors
    /// [`AskError`].
    pub(crate) fn show(&self, text: &str, instead: &'static str) -> Result<(), AskError> {
        Ok(self.terminal("show something secret", instead)?.write_all(text.as_bytes())?)
    }

    fn terminal(&self, question: &str, instead: &'static str) -> Result<File, AskError> {
        if !self.somebody_there {
            return Err(AskError::NobodyThere { question: question.trim().to_owned(), instead });
        }
        Ok(OpenOptions::new().read(true).write(true).open("/dev/tty")?)
    }
}

/// Reads up to the end of the line, byte by byte: no buffer keeps a copy.
fn read_line(from: &mut impl Read) -> Result<Zeroizing<String>, AskError> {
    let mut line = Zeroizing::new(Vec::with_capacity(ANSWER_BYTES_MAX));
    let mut byte = [0];
    while line.len() < ANSWER_BYTES_MAX && from.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    Ok(Zeroizing::new(String::from_utf8_lossy(&line).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_never_meets_a_prompt() {
        let asker = Asker { somebody_there: false, yes: false };
        assert!(matches!(asker.confirm("Go on?", "--yes"), Err(AskError::NobodyThere { .. })));
        assert!(matches!(asker.hidden("Passphrase: ", "--x"), Err(AskError::NobodyThere { .. })));
        assert!(matches!(asker.line("Words: ", "--sheet"), Err(AskError::NobodyThere { .. })));
    }

    #[test]
    fn yes_answers_a_confirmation_without_anybody() {
        assert!(Asker { somebody_there: false, yes: true }.confirm("Go on?", "--yes").is_ok());
    }

    #[test]
    fn an_answer_ends_with_its_line() {
        assert_eq!(read_line(&mut b"two words\nmore".as_slice()).unwrap().as_str(), "two words");
        assert_eq!(read_line(&mut [b'a'; 2000].as_slice()).unwrap().len(), ANSWER_BYTES_MAX);
    }
}
