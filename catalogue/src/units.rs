//! Durations and sizes as text.

use serde_json::Value;

/// Greater durations are a slip of the pen: a hundred years.
const DURATION_MS_MAX: u64 = 100 * 365 * 24 * 3_600_000;

/// The units of a duration from the greatest to the least, in milliseconds.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// The units of a size, in bytes.
const SIZE_UNITS: [(&str, u64); 11] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Text that is not a duration or a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not of the form.
    #[error(
        "`{0}` is not a duration: write numbers with units, greatest first, e.g. `30s`, `5m`, `1h30m`, `7d` (units: d, h, m, s, ms)"
    )]
    Duration(String),
    /// More than a hundred years.
    #[error("`{0}` is too long: the longest duration is 36500d")]
    DurationTooLong(String),
    /// Not of the form.
    #[error(
        "`{0}` is not a size: write a number of bytes, or text such as `200MiB` (units: B, KiB, MiB, GiB, TiB, kB, MB, GB, TB)"
    )]
    Size(String),
    /// Does not fit 63 bits.
    #[error("`{0}` is too large: the largest size is {max} bytes", max = i64::MAX)]
    SizeTooLarge(String),
}

/// Milliseconds of `30s`, `5m`, `24h`, `7d`, `250ms` or a sum such as `1h30m`, greatest unit first.
pub fn parse_duration(text: &str) -> Result<u64, UnitError> {
    let wrong = || UnitError::Duration(shown(text));
    let mut rest = text;
    let mut total: u64 = 0;
    let mut units = DURATION_UNITS.iter();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let after = &rest[digits..];
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        if digits == 0 || letters == 0 {
            return Err(wrong());
        }
        // The iterator moves on, so that a unit comes once and behind the greater ones.
        let (_, unit_ms) = units
            .find(|(unit, _)| *unit == &after[..letters])
            .ok_or_else(wrong)?;
        total = rest[..digits]
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(*unit_ms))
            .and_then(|ms| total.checked_add(ms))
            .filter(|total| *total <= DURATION_MS_MAX)
            .ok_or_else(|| UnitError::DurationTooLong(shown(text)))?;
        rest = &after[letters..];
    }
    Ok(total)
}

/// The shortest text that [`parse_duration`] reads back as this.
pub fn format_duration(mut ms: u64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, unit_ms) in DURATION_UNITS {
        if ms >= unit_ms {
            text.push_str(&format!("{}{unit}", ms / unit_ms));
            ms %= unit_ms;
        }
    }
    text
}

/// Bytes of a JSON integer or of text such as `200MiB`.
pub fn parse_size(value: &Value) -> Result<u64, UnitError> {
    match value {
        Value::String(text) => parse_size_text(text),
        other => match other.as_u64() {
            Some(bytes) if bytes <= i64::MAX as u64 => Ok(bytes),
            Some(_) => Err(UnitError::SizeTooLarge(shown(&other.to_string()))),
            None => Err(UnitError::Size(shown(&other.to_string()))),
        },
    }
}

fn parse_size_text(text: &str) -> Result<u64, UnitError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = SIZE_UNITS.iter().find(|(unit, _)| *unit == &text[digits..]);
    let Some((_, unit_bytes)) = unit.filter(|_| digits > 0) else {
        return Err(UnitError::Size(shown(text)));
    };
    text[..digits]
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*unit_bytes))
        .filter(|bytes| *bytes <= i64::MAX as u64)
        .ok_or_else(|| UnitError::SizeTooLarge(shown(text)))
}

/// At most the first 40 characters: errors stay short whatever is in the text.
fn shown(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
