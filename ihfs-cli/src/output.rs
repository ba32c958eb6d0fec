//! Tells results: tables and sentences for people, one JSON object or array for programs.

pub(crate) mod table;
pub(crate) mod words;

use std::io::{ErrorKind, Write};

use ihfs_client::home::ParsedNetwork;
use serde::Serialize;
use serde_json::json;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::message::explain;

/// What a command found or did.
pub(crate) trait Report: Serialize {
    /// For people, whole lines; empty if there is nothing to say.
    fn human(&self) -> String;
}

/// Tells results.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    verbose: bool,
}

impl Output {
    /// For programs or for people, who may want to hear more.
    pub(crate) const fn new(json: bool, verbose: bool) -> Self {
        Self { json, verbose }
    }

    /// Whether a program reads.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Tells what a command found or did, on standard output.
    ///
    /// # Errors
    /// What writing gives; a reader that has gone is none.
    pub(crate) fn tell(self, report: &impl Report) -> Result<(), Failure> {
        let text = if self.json { to_json(report)? } else { report.human() };
        write_all(&mut std::io::stdout().lock(), text.as_bytes())
    }

    /// Tells what happens meanwhile, on standard error; programs are not told.
    pub(crate) fn note(self, text: &str) {
        if !self.json {
            // A closed standard error must not end the work.
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    /// Tells what only those want to hear who asked for it.
    pub(crate) fn detail(self, text: &str) {
        if self.verbose {
            self.note(text);
        }
    }
}

fn to_json(report: &impl Serialize) -> Result<String, Failure> {
    let mut text = serde_json::to_string(report).map_err(std::io::Error::from)?;
    text.push('\n');
    Ok(text)
}

/// Writes everything; a reader that has gone (`ihfs ls | head`) is no error.
///
/// # Errors
/// What writing gives.
pub(crate) fn write_all(to: &mut impl Write, bytes: &[u8]) -> Result<(), Failure> {
    match to.write_all(bytes).and_then(|()| to.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}

/// Tells why a command failed and what to do, and how it ends.
///
/// `--json`: one object on standard output; for `cat`, whose output is the file, on standard error.
pub(crate) fn tell_failure(
    verb: &str,
    failure: &Failure,
    json: bool,
    network: Option<&ParsedNetwork>,
) -> Exit {
    let mut message = explain(failure);
    if let Some(network) = network {
        message.what = network.with_addresses(&message.what);
    }
    let told = if json {
        let object = json!({ "error": {
            "command": verb,
            "code": message.code,
            "message": message.what,
            "advice": message.advice,
            "option": message.option,
            "exit": message.exit as u8,
        }});
        format!("{object}\n")
    } else {
        format!("ihfs {verb}: {}\n{}\n", words::clean(&message.what), words::clean(message.advice.as_ref()))
    };
    let written = if json && verb != "cat" {
        std::io::stdout().lock().write_all(told.as_bytes())
    } else {
        std::io::stderr().lock().write_all(told.as_bytes())
    };
    // Nobody listens any more: the exit code still says it.
    drop(written);
    message.exit
}

/// Tells what is wrong with the line that was typed, or the help that was asked for.
pub(crate) fn tell_usage(error: &clap::Error, json: bool) -> Exit {
    if !error.use_stderr() {
        // Help goes to whoever asked; if nobody listens any more, nothing is lost.
        let _ = error.print();
        return Exit::Done;
    }
    if json {
        let text = error.render().to_string();
        let text = text.trim_start_matches("error: ").lines().next().unwrap_or_default().to_owned();
        let object = json!({ "error": {
            "command": "", "code": "usage", "message": text,
            "advice": "`ihfs help` shows what can be typed.", "exit": Exit::Error as u8,
        }});
        let _ = writeln!(std::io::stdout().lock(), "{object}");
    } else {
        let _ = error.print();
    }
    Exit::Error
}
