//! Asks the person at the terminal. A script has none, and gets an error instead of a prompt.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Read, Write};

use zeroize::Zeroizing;

/// Most bytes of an answer: 24 words and what else stands on a line of the sheet.
const ANSWER_BYTES_MAX: usize = 1024;
/// How often a question is asked before a slip of the fingers ends the command.
const TRIES: usize = 3;
/// Empties the screen and what can be scrolled back to (ECMA-48 ED; 3 as xterm has it).
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Asks, if somebody is there.
#[derive(Debug)]
pub(crate) struct Asker {
    whom: Whom,
    yes: bool,
}

/// Who answers.
#[derive(Debug)]
enum Whom {
    Nobody,
    Terminal,
    /// The answers of a test, in their order.
    #[cfg(test)]
    Script(std::sync::Mutex<std::collections::VecDeque<&'static str>>),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// No terminal, or `--json`.
    #[error("{instead} is needed: there is nobody who could be asked")]
    NobodyThere {
        /// The option that answers the question.
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
        Self { whom: if may_ask && terminal() { Whom::Terminal } else { Whom::Nobody }, yes }
    }

    /// Somebody who gives these answers.
    #[cfg(test)]
    pub(crate) fn scripted(answers: &[&'static str]) -> Self {
        Self { whom: Whom::Script(std::sync::Mutex::new(answers.iter().copied().collect())), yes: false }
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

    /// Asks again after a slip, at most [`TRIES`] times in all, and says what was wrong.
    ///
    /// # Errors
    /// What `ask` gives at last, and at once what is no slip.
    pub(crate) fn until_right<T, E: std::fmt::Display>(
        &self,
        mut ask: impl FnMut() -> Result<T, E>,
        is_slip: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        for _ in 1..TRIES {
            match ask() {
                // A terminal that fails is told by the next question.
                Err(error) if is_slip(&error) => drop(self.show(&format!("Not so: {error}.\n"), "")),
                done => return done,
            }
        }
        ask()
    }

    /// That somebody is there, asked before anything is changed.
    ///
    /// # Errors
    /// [`AskError::NobodyThere`].
    pub(crate) const fn somebody(&self, instead: &'static str) -> Result<(), AskError> {
        match self.whom {
            Whom::Nobody => Err(AskError::NobodyThere { instead }),
            _ => Ok(()),
        }
    }

    /// Asks for a line, shown while it is typed.
    ///
    /// # Errors
    /// [`AskError`].
    pub(crate) fn line(&self, question: &str, instead: &'static str) -> Result<Zeroizing<String>, AskError> {
        self.somebody(instead)?;
        if let Some(answer) = self.scripted_answer() {
            return Ok(answer);
        }
        let mut terminal = terminal()?;
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
        self.somebody(instead)?;
        if let Some(answer) = self.scripted_answer() {
            return Ok(answer);
        }
        Ok(Zeroizing::new(rpassword::prompt_password(question)?))
    }

    /// Shows something that is neither result nor error, where the person sits.
    ///
    /// # Errors
    /// [`AskError`].
    pub(crate) fn show(&self, text: &str, instead: &'static str) -> Result<(), AskError> {
        self.somebody(instead)?;
        if cfg!(test) {
            return Ok(());
        }
        Ok(terminal()?.write_all(text.as_bytes())?)
    }

    /// Takes everything off the screen.
    ///
    /// # Errors
    /// [`AskError`].
    pub(crate) fn clear(&self, instead: &'static str) -> Result<(), AskError> {
        self.show(CLEAR, instead)
    }

    #[cfg(not(test))]
    const fn scripted_answer(&self) -> Option<Zeroizing<String>> {
        None
    }

    #[cfg(test)]
    fn scripted_answer(&self) -> Option<Zeroizing<String>> {
        let Whom::Script(answers) = &self.whom else { return None };
        let answer = answers.lock().unwrap().pop_front().expect("no more is asked than the test answers");
        Some(Zeroizing::new(answer.to_owned()))
    }
}

fn terminal() -> Result<File, AskError> {
    Ok(OpenOptions::new().read(true).write(true).open("/dev/tty")?)
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
        let asker = Asker { whom: Whom::Nobody, yes: false };
        assert!(matches!(asker.confirm("Go on?", "--yes"), Err(AskError::NobodyThere { .. })));
        assert!(matches!(asker.hidden("Passphrase: ", "--x"), Err(AskError::NobodyThere { .. })));
        assert!(matches!(asker.line("Words: ", "--sheet"), Err(AskError::NobodyThere { .. })));
    }

    #[test]
    fn yes_answers_a_confirmation_without_anybody() {
        assert!(Asker { whom: Whom::Nobody, yes: true }.confirm("Go on?", "--yes").is_ok());
    }

    #[test]
    fn a_question_is_asked_again_after_a_slip_and_not_for_ever() {
        let ask = |answers: &[&'static str]| {
            let asker = Asker::scripted(answers);
            let once = || match asker.line("?", "--x").unwrap().as_str() {
                "right" => Ok(()),
                wrong => Err(wrong.to_owned()),
            };
            asker.until_right(once, |wrong| wrong == "slip")
        };
        assert_eq!(ask(&["slip", "slip", "right"]), Ok(()));
        assert_eq!(ask(&["slip", "slip", "slip"]), Err("slip".to_owned()));
        assert_eq!(ask(&["broken"]), Err("broken".to_owned()));
    }

    #[test]
    fn an_answer_ends_with_its_line() {
        assert_eq!(read_line(&mut b"two words\nmore".as_slice()).unwrap().as_str(), "two words");
        assert_eq!(read_line(&mut [b'a'; 2000].as_slice()).unwrap().len(), ANSWER_BYTES_MAX);
    }
}
