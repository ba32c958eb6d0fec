//! The recovery sheet: 24 words, the network's fingerprint, where its nodes are. Written for paper, read back from it.
//!
//! Reading forgives case, spaces, line breaks, numbers before words and anything before the first heading.

use std::fmt::Write;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ihfs_core::crypto::derive::Seed;
use ihfs_core::ids::{ChainId, Digest, NodeId};
use ihfs_core::words::WordsError;
use zeroize::Zeroizing;

use crate::args::setup::SheetSource;
use crate::ask::{AskError, Asker};
use crate::passphrase::{Descriptor, read_secret_text};

/// Words on a line: six lines of four are easy to copy and to compare.
const WORDS_IN_LINE: usize = 4;
/// Hexadecimal digits in a group of the fingerprint.
const GROUP: usize = 8;
/// Digits that tell a slip of the pen in the fingerprint: one in 65,536 slips through, and then no node answers.
const CHECK_DIGITS: usize = 4;
/// Digits of the fingerprint itself.
const FINGERPRINT_DIGITS: usize = 64;
/// Most nodes on a sheet: one that answers is enough.
const NODES_MAX: usize = 8;
/// Most addresses of a node.
const ADDRESSES_MAX: usize = 8;
/// The headings, in small letters.
const HEADINGS: [&str; 4] = ["member", "words", "network", "addresses"];
/// Option that stands in for the prompt.
const INSTEAD: &str = "--sheet FILE or --sheet-fd N";

/// Everything that brings a member back on a new machine.
#[derive(Debug)]
pub(crate) struct Sheet {
    /// The handle, for people: two sheets in one drawer.
    pub(crate) handle: Option<String>,
    /// What all keys derive from.
    pub(crate) seed: Seed,
    /// The network.
    pub(crate) chain: ChainId,
    /// Nodes by their keys, and where they can be reached.
    pub(crate) nodes: Nodes,
}

/// Nodes by their keys, and where they can be reached.
pub(crate) type Nodes = Vec<(NodeId, Vec<String>)>;

/// Why text is no recovery sheet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SheetError {
    /// A heading is missing.
    #[error("the recovery sheet has no part \"{0}\"")]
    Missing(&'static str),
    /// The words are not the 24.
    #[error("the words of the recovery sheet do not fit")]
    Words(#[from] WordsError),
    /// The fingerprint is not one.
    #[error("the network's fingerprint on the recovery sheet is not right: a digit is wrong or missing")]
    Fingerprint,
    /// No node, no key before an address, digits missing, or far too many.
    #[error("the addresses on the recovery sheet are not right: each node is 64 digits and its addresses")]
    Addresses,
    /// It could not be read.
    #[error("the recovery sheet could not be read")]
    Read(#[source] std::io::Error),
    /// It could not be written.
    #[error("the recovery sheet could not be written")]
    Write(#[source] std::io::Error),
    /// The file for it is there already.
    #[error("the file for the recovery sheet exists already")]
    Exists,
    /// Nobody to ask for it.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The words that were asked back are others.
    #[error("the words that you typed are not those of the sheet")]
    NotWrittenDown,
}

impl Sheet {
    /// The sheet for paper.
    pub(crate) fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(4096));
        let mut line = |line: &str| writeln!(text, "{line}").expect("a string takes everything");
        line("IHFS RECOVERY SHEET");
        line("Whoever has this sheet has everything. Keep it on paper, away from this machine.");
        line("Without it, a forgotten passphrase or a lost machine means that your records are lost.");
        if let Some(handle) = &self.handle {
            line(&format!("\nMember:\n  {handle}"));
        }
        line("\nWords:");
        let words = self.seed.to_words();
        let words: Vec<&str> = words.split(' ').collect();
        for (row, four) in words.chunks(WORDS_IN_LINE).enumerate() {
            let mut cells = Zeroizing::new(String::with_capacity(80));
            for (column, word) in four.iter().enumerate() {
                write!(cells, "{:>4} {word:<10}", row * WORDS_IN_LINE + column + 1).expect("as above");
            }
            line(cells.trim_end());
        }
        line("\nNetwork:");
        for half in fingerprint(self.chain).chunks(5) {
            line(&format!("  {}", half.join(" ")));
        }
        line("\nAddresses:");
        for (node, addresses) in &self.nodes {
            for half in groups(&node.to_string()).chunks(4) {
                line(&format!("  {}", half.join(" ")));
            }
            for address in addresses {
                line(&format!("      {address}"));
            }
        }
        text
    }

    /// Reads a sheet.
    ///
    /// # Errors
    /// [`SheetError`].
    pub(crate) fn parse(text: &str) -> Result<Self, SheetError> {
        let handle = part(text, "member").ok().map(|part| part.trim().to_owned()).filter(|it| !it.is_empty());
        let words = Zeroizing::new(part(text, "words")?);
        let seed = seed_of(&words)?;
        let chain = parse_fingerprint(&part(text, "network")?)?;
        let nodes = parse_nodes(&part(text, "addresses")?)?;
        Ok(Self { handle, seed, chain, nodes })
    }

    /// Reads the sheet in a file.
    ///
    /// # Errors
    /// [`SheetError`].
    pub(crate) fn read(path: &Path) -> Result<Self, SheetError> {
        Self::parse(&File::open(path).and_then(read_secret_text).map_err(SheetError::Read)?)
    }

    /// Reads the sheet from where the options say, or asks for its parts.
    ///
    /// # Errors
    /// [`SheetError`].
    pub(crate) fn obtain(source: &SheetSource, asker: &Asker) -> Result<Self, SheetError> {
        match read_source(source)? {
            Some(text) => Self::parse(&text),
            None => Self::ask(asker),
        }
    }

    fn ask(asker: &Asker) -> Result<Self, SheetError> {
        let seed = ask_words(asker)?;
        let question = "The digits under \"Network\", in one line: ";
        let chain = ask_part(asker, question, parse_fingerprint)?;
        let question = "What stands under \"Addresses\", in one line: ";
        let nodes = ask_part(asker, question, parse_nodes)?;
        let handle = asker.line("What stands under \"Member\" (Enter if nothing does): ", INSTEAD)?;
        let handle = Some(handle.trim().to_owned()).filter(|handle| !handle.is_empty());
        Ok(Self { handle, seed, chain, nodes })
    }

    /// Writes the sheet into a new file that only its owner can read.
    ///
    /// # Errors
    /// [`SheetError::Exists`], [`SheetError::Write`].
    pub(crate) fn write(&self, path: &Path) -> Result<(), SheetError> {
        let mut file = create(path)?;
        file.write_all(self.to_text().as_bytes()).and_then(|()| file.sync_all()).map_err(SheetError::Write)
    }

    /// Asks for the words at `places` (from 0), which only whoever wrote the sheet down can tell. They must not stand
    /// on the screen any more.
    ///
    /// # Errors
    /// [`SheetError::NotWrittenDown`], [`SheetError::Ask`].
    pub(crate) fn ask_back(&self, places: [usize; 3], asker: &Asker) -> Result<(), SheetError> {
        let words = self.seed.to_words();
        let words: Vec<&str> = words.split(' ').collect();
        for place in places {
            let question = format!("Word {} of your sheet: ", place + 1);
            let ask = || match asker.line(&question, "--sheet FILE and --yes")? {
                typed if typed.trim().to_lowercase() == words[place] => Ok(()),
                _ => Err(SheetError::NotWrittenDown),
            };
            asker.until_right(ask, |error| matches!(error, SheetError::NotWrittenDown))?;
        }
        Ok(())
    }
}

/// The seed alone, from where the options say, or asked for.
///
/// # Errors
/// [`SheetError`].
pub(crate) fn obtain_seed(source: &SheetSource, asker: &Asker) -> Result<Seed, SheetError> {
    match read_source(source)? {
        Some(text) => seed_of(&Zeroizing::new(part(&text, "words")?)),
        None => ask_words(asker),
    }
}

fn ask_words(asker: &Asker) -> Result<Seed, SheetError> {
    let question = "The 24 words of your recovery sheet (shown while you type):\n";
    ask_part(asker, question, seed_of)
}

/// A part of the sheet, again after a slip.
fn ask_part<T>(
    asker: &Asker,
    question: &str,
    parse: impl Fn(&str) -> Result<T, SheetError>,
) -> Result<T, SheetError> {
    let is_slip = |error: &_| !matches!(error, SheetError::Ask(_));
    asker.until_right(|| parse(&asker.line(question, INSTEAD)?), is_slip)
}

fn read_source(source: &SheetSource) -> Result<Option<Zeroizing<String>>, SheetError> {
    let text = match (&source.sheet, source.sheet_fd) {
        (Some(path), _) => File::open(path).and_then(read_secret_text),
        (None, Some(fd)) => read_secret_text(Descriptor(fd)),
        (None, None) => return Ok(None),
    };
    text.map(Some).map_err(SheetError::Read)
}

fn create(path: &Path) -> Result<File, SheetError> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => SheetError::Exists,
            _ => SheetError::Write(error),
        }
    })
}

/// What stands between a heading and the next.
fn part(text: &str, wanted: &'static str) -> Result<String, SheetError> {
    let mut inside = false;
    let mut found = None;
    for line in text.lines() {
        let (heading, rest) = match line.split_once(':') {
            Some((heading, rest)) if is_heading(heading) && !is_port(rest) => (Some(heading), rest),
            _ => (None, line),
        };
        if let Some(heading) = heading {
            inside = heading.trim().eq_ignore_ascii_case(wanted);
        }
        if inside {
            let found = found.get_or_insert_with(|| String::with_capacity(text.len()));
            found.push(' ');
            found.push_str(rest);
        }
    }
    found.ok_or(SheetError::Missing(wanted))
}

fn is_heading(text: &str) -> bool {
    HEADINGS.iter().any(|heading| text.trim().eq_ignore_ascii_case(heading))
}

/// A machine may be called as a heading is: `network:4040` is its address.
fn is_port(text: &str) -> bool {
    text.trim_end().parse::<u16>().is_ok()
}

/// The seed of words that may have their numbers before them.
fn seed_of(text: &str) -> Result<Seed, SheetError> {
    let words = text
        .split(|letter: char| letter.is_whitespace() || letter == '.' || letter == ',')
        .filter(|word| word.chars().any(|letter| !letter.is_ascii_digit()));
    let mut joined = Zeroizing::new(String::with_capacity(text.len()));
    words.for_each(|word| {
        joined.push_str(word);
        joined.push(' ');
    });
    Ok(Seed::from_words(&joined)?)
}

/// The chain's id in groups, the last of which tells slips of the pen.
pub(crate) fn fingerprint(chain: ChainId) -> Vec<String> {
    groups(&format!("{chain}{}", check_digits(chain)))
}

pub(crate) fn groups(digits: &str) -> Vec<String> {
    digits.as_bytes().chunks(GROUP).map(|group| String::from_utf8_lossy(group).into_owned()).collect()
}

fn parse_fingerprint(text: &str) -> Result<ChainId, SheetError> {
    let digits: String = text.chars().filter(|letter| letter.is_ascii_alphanumeric()).collect();
    let digits = digits.to_lowercase();
    if digits.len() != FINGERPRINT_DIGITS + CHECK_DIGITS {
        return Err(SheetError::Fingerprint);
    }
    let (digits, check) = digits.split_at(FINGERPRINT_DIGITS);
    let chain: ChainId = digits.parse().map_err(|_| SheetError::Fingerprint)?;
    if check_digits(chain) == check { Ok(chain) } else { Err(SheetError::Fingerprint) }
}

/// Nodes: the digits of a key, in groups or in one, and the addresses behind it.
fn parse_nodes(text: &str) -> Result<Nodes, SheetError> {
    let mut nodes = Nodes::new();
    let mut digits = String::new();
    for word in text.split_whitespace() {
        if word.chars().all(|letter| letter.is_ascii_hexdigit()) {
            digits.push_str(word);
            continue;
        }
        if !digits.is_empty() {
            let key = digits.to_lowercase().parse().map_err(|_| SheetError::Addresses)?;
            nodes.push((key, Vec::new()));
            digits.clear();
        }
        let (_, addresses) = nodes.last_mut().ok_or(SheetError::Addresses)?;
        addresses.push(word.to_lowercase());
        if addresses.len() > ADDRESSES_MAX {
            return Err(SheetError::Addresses);
        }
    }
    let fits = digits.is_empty() && (1..=NODES_MAX).contains(&nodes.len());
    if fits { Ok(nodes) } else { Err(SheetError::Addresses) }
}

fn check_digits(chain: ChainId) -> String {
    let mut digits = Digest::of(chain.as_bytes()).to_string();
    digits.truncate(CHECK_DIGITS);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet() -> Sheet {
        Sheet {
            handle: Some("ann@home".to_owned()),
            seed: Seed::from_random([7; 32]),
            chain: ChainId::from_bytes([0xa5; 32]),
            nodes: vec![
                (NodeId::from_bytes([1; 32]), vec!["127.0.0.1:4001".to_owned(), "[::1]:4001".to_owned()]),
                (NodeId::from_bytes([0xbc; 32]), vec!["node.st-mary.example:4040".to_owned()]),
            ],
        }
    }

    #[test]
    fn a_machine_that_is_called_as_a_heading_is_found_again() {
        let nodes = HEADINGS.map(|name| (NodeId::from_bytes([1; 32]), vec![format!("{name}:4040")])).to_vec();
        let written = Sheet { nodes: nodes.clone(), ..sheet() };
        assert_eq!(Sheet::parse(&written.to_text()).unwrap().nodes, nodes);
    }

    fn assert_same(read: &Sheet) {
        let written = sheet();
        assert_eq!(read.seed.to_words(), written.seed.to_words());
        assert_eq!((read.chain, &read.nodes), (written.chain, &written.nodes));
    }

    #[test]
    fn a_sheet_is_read_back_as_it_was_written() {
        let read = Sheet::parse(&sheet().to_text()).unwrap();
        assert_same(&read);
        assert_eq!(read.handle, sheet().handle);
    }

    #[test]
    fn case_spaces_and_line_breaks_do_not_matter() {
        let text = sheet().to_text().to_uppercase().replace(' ', "  ").replace('\n', "\r\n\r\n ");
        assert_same(&Sheet::parse(&text).unwrap());
    }

    #[test]
    fn a_sheet_typed_in_four_lines_is_read() {
        let chain = fingerprint(sheet().chain).concat();
        let words = sheet().seed.to_words();
        let nodes: String =
            sheet().nodes.iter().map(|(key, at)| format!(" {key} {}", at.join(" "))).collect();
        let typed = format!("words: {}\nnetwork:{chain}\naddresses:{nodes}", words.as_str());
        assert_same(&Sheet::parse(&typed).unwrap());
    }

    #[test]
    fn what_is_wrong_with_a_sheet_is_named() {
        let text = sheet().to_text();
        let first = sheet().seed.to_words().split(' ').next().unwrap().to_owned();
        let wrong = |text: &str| Sheet::parse(text).unwrap_err();
        assert!(matches!(wrong(""), SheetError::Missing("words")));
        assert!(matches!(wrong(&text.replace("Network:", "")), SheetError::Words(_)));
        assert!(matches!(wrong(&text.replacen(&first, "xyzzy", 1)), SheetError::Words(_)));
        assert!(matches!(wrong(&text.replacen("a5a5", "a5a6", 1)), SheetError::Fingerprint));
        assert!(matches!(wrong(&text.replacen("a5a5", "a5", 1)), SheetError::Fingerprint));
        assert!(matches!(wrong(&text.replacen("bcbc", "bc", 1)), SheetError::Addresses));
        assert!(matches!(wrong(&text[..text.find("Addresses:").unwrap() + 10]), SheetError::Addresses));
    }

    #[test]
    fn a_word_that_is_mistyped_is_asked_again_and_a_sheet_that_is_not_there_ends_it() {
        let sheet = sheet();
        let words = sheet.seed.to_words();
        let word = |place: usize| -> &'static str {
            let word = words.split(' ').nth(place).unwrap();
            Box::leak(word.to_owned().into_boxed_str())
        };
        let asker = Asker::scripted(&["wrnog", word(2), word(7), "x", "y", word(23)]);
        sheet.ask_back([2, 7, 23], &asker).unwrap();
        let nobody = sheet.ask_back([2, 7, 23], &Asker::scripted(&["x", "y", "z"]));
        assert!(matches!(nobody, Err(SheetError::NotWrittenDown)));
    }

    #[test]
    fn a_sheet_never_overwrites_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet");
        sheet().write(&path).unwrap();
        assert!(matches!(sheet().write(&path), Err(SheetError::Exists)));
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
