//! Sizes, counts and foreign text as people can read them.

use std::fmt::Write;

use ihfs_core::ledger::identity::Role;

/// Text that came from elsewhere, safe for a terminal: control and direction characters are written out.
pub(crate) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() || is_direction(letter) {
            write!(clean, "\\u{{{:x}}}", u32::from(letter)).expect("a string takes everything");
        } else {
            clean.push(letter);
        }
    }
    clean
}

/// A name's exact bytes for a terminal: what is no text is written as `\xff`.
pub(crate) fn clean_bytes(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for part in bytes.utf8_chunks() {
        shown += &clean(part.valid());
        for byte in part.invalid() {
            write!(shown, "\\x{byte:02x}").expect("a string takes everything");
        }
    }
    shown
}

/// Characters that turn the direction of writing and so hide the end of a name.
const fn is_direction(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A size: `512 B`, `1.5 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let steps = (63 - bytes.leading_zeros()) / 10;
    let scaled = bytes as f64 / (1_u64 << (10 * steps)) as f64;
    format!("{scaled:.1} {}", UNITS[steps as usize - 1])
}

/// A role as people say it.
pub(crate) fn role(role: Role) -> String {
    format!("{role:?}").to_lowercase()
}

/// A count with its noun: `1 file`, `2 files`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_move_the_cursor_or_turn_the_line() {
        assert_eq!(clean("a\x1b[2Jb\nc"), "a\\u{1b}[2Jb\\u{a}c");
        assert_eq!(clean("x\u{202e}fdp"), "x\\u{202e}fdp");
        assert_eq!(clean("Müller, 影像"), "Müller, 影像");
    }

    #[test]
    fn bytes_that_are_no_text_are_written_out() {
        assert_eq!(clean_bytes(b"a\xff\xfe\x07"), "a\\xff\\xfe\\u{7}");
    }

    #[test]
    fn sizes_have_one_digit_and_their_unit() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(1 << 30), "1.0 GiB");
        assert_eq!(size(u64::MAX), "16.0 EiB");
    }
}
