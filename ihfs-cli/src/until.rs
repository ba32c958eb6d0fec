//! Moments and spans as people write them: `30min`, `12h`, `30d`, `6w`, `2026-12-31`, `never`.
//!
//! Everything is UTC: what ends a grant is the ledger's time, which has no zone.

use std::str::FromStr;
use std::time::Duration;

use ihfs_core::ids::Time;

/// Milliseconds of a second.
const SECOND: u64 = 1000;
/// Milliseconds of a day.
const DAY: u64 = 24 * 60 * 60 * SECOND;
/// Longest span: a hundred years, beyond which somebody mistyped.
const SPAN_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// When something ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// So long from now.
    After(Duration),
    /// At that moment.
    At(Time),
    /// It does not.
    Never,
}

/// Why text is no moment or span.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UntilError {
    /// None of the ways to write one.
    #[error("write 30min, 12h, 30d, 6w, a day as 2026-12-31, or never")]
    Unreadable,
    /// A day that no calendar has.
    #[error("there is no such day")]
    NoSuchDay,
    /// Longer than a hundred years, or nothing at all.
    #[error("between one second and a hundred years")]
    OutOfRange,
}

impl Until {
    /// The moment meant, told at `now`; none for never.
    pub(crate) fn from(self, now: Time) -> Option<Time> {
        match self {
            Self::After(span) => Some(now.plus_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))),
            Self::At(time) => Some(time),
            Self::Never => None,
        }
    }
}

impl FromStr for Until {
    type Err = UntilError;

    fn from_str(text: &str) -> Result<Self, UntilError> {
        if text == "never" {
            return Ok(Self::Never);
        }
        if text.contains('-') {
            return parse_day(text).map(Self::At);
        }
        parse_duration(text).map(Self::After)
    }
}

/// Reads a span: a number and `s`, `min`, `h`, `d`, `w` or `y`.
///
/// # Errors
/// [`UntilError::Unreadable`], [`UntilError::OutOfRange`].
pub(crate) fn parse_duration(text: &str) -> Result<Duration, UntilError> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).ok_or(UntilError::Unreadable)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| UntilError::Unreadable)?;
    // No bare "m": it could be minutes or months.
    let seconds = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        "w" => 7 * 24 * 60 * 60,
        "y" => 365 * 24 * 60 * 60,
        _ => return Err(UntilError::Unreadable),
    };
    let span = Duration::from_secs(number.saturating_mul(seconds));
    if span.is_zero() || span > SPAN_MAX { Err(UntilError::OutOfRange) } else { Ok(span) }
}

/// The end of the day `YYYY-MM-DD`, that day included.
fn parse_day(text: &str) -> Result<Time, UntilError> {
    let mut parts = text.split('-').map(|part| part.parse::<u32>().map_err(|_| UntilError::Unreadable));
    let mut next = || parts.next().unwrap_or(Err(UntilError::Unreadable));
    let (year, month, day) = (next()?, next()?, next()?);
    if parts.next().is_some() {
        return Err(UntilError::Unreadable);
    }
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
        return Err(UntilError::NoSuchDay);
    }
    if day == 0 || day > days_of_month(year, month) {
        return Err(UntilError::NoSuchDay);
    }
    Ok(Time((days_before(year, month, day) + 1) * DAY))
}

const fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_of_month(year: u32, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to this one.
fn days_before(year: u32, month: u32, day: u32) -> u64 {
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let months: u64 = (1..month).map(|month| u64::from(days_of_month(year, month))).sum();
    years + months + u64::from(day - 1)
}

/// A moment as people read it: `2026-11-21 06:38 UTC`.
pub(crate) fn show_time(time: Time) -> String {
    let (year, month, day) = day_of(time.0 / DAY);
    let minutes = time.0 % DAY / (60 * SECOND);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

/// Year, month and day of a day counted from 1970-01-01.
fn day_of(mut days: u64) -> (u32, u32, u32) {
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        // Times beyond the calendar come from nobody's clock; they are shown as its last year.
        if days < length || year == 9999 {
            break;
        }
        days -= length;
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days >= u64::from(days_of_month(year, month)) {
        days -= u64::from(days_of_month(year, month));
        month += 1;
    }
    (year, month, u32::try_from(days.min(30)).expect("at most 30") + 1)
}

/// A span as people read it: `1 h 5 min`, `12.3 s`.
pub(crate) fn show_duration(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", span.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_days_are_read_as_people_write_them() {
        assert_eq!("30d".parse(), Ok(Until::After(Duration::from_secs(30 * 86_400))));
        assert_eq!("90min".parse(), Ok(Until::After(Duration::from_secs(5400))));
        assert_eq!("1970-01-01".parse(), Ok(Until::At(Time(DAY))));
        assert_eq!("2024-02-29".parse(), Ok(Until::At(Time(1_709_251_200_000))));
        assert_eq!("never".parse(), Ok(Until::Never));
    }

    #[test]
    fn what_is_no_moment_is_refused_by_name() {
        for text in ["", "d", "30", "30m", "-5d", "2026", "2026-1", "2026-01-01-01", "x-y-z", "１d"] {
            assert_eq!(text.parse::<Until>(), Err(UntilError::Unreadable), "{text}");
        }
        for text in ["2026-02-29", "2026-13-01", "2026-00-10", "2026-01-00", "1900-01-01"] {
            assert_eq!(text.parse::<Until>(), Err(UntilError::NoSuchDay), "{text}");
        }
        for text in ["0d", "101y", "18446744073709551615w"] {
            assert_eq!(text.parse::<Until>(), Err(UntilError::OutOfRange), "{text}");
        }
    }

    #[test]
    fn a_moment_is_shown_as_the_day_that_was_read() {
        for text in ["1970-01-01", "2000-02-29", "2026-12-31", "2100-03-01"] {
            let Ok(Until::At(end)) = text.parse::<Until>() else { panic!("{text}") };
            assert_eq!(show_time(Time(end.0 - 60 * SECOND)), format!("{text} 23:59 UTC"));
        }
        assert_eq!(show_time(Time(u64::MAX)).len(), "9999-12-31 23:59 UTC".len());
    }
}
