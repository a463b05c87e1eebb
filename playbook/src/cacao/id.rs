//! Identifiers (`type--UUID`), timestamps, and names of variables.

use std::sync::LazyLock;

use regex::Regex;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// An identifier's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id<'a> {
    /// Of the object that it names.
    pub kind: &'a str,
    /// 36 characters of an RFC 4122 UUID.
    pub uuid: &'a str,
}

impl<'a> Id<'a> {
    /// None: the text is no identifier.
    pub fn parse(text: &'a str) -> Option<Id<'a>> {
        let (kind, uuid) = text.split_at_checked(text.len().checked_sub(36)?)?;
        let kind = kind.strip_suffix("--")?;
        let kind_holds = kind.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
            && !kind.ends_with('-')
            && kind
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let uuid_holds = uuid.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            14 => (b'1'..=b'5').contains(&b),
            19 => matches!(b, b'8' | b'9' | b'a' | b'b' | b'A' | b'B'),
            _ => b.is_ascii_hexdigit(),
        });
        (kind_holds && uuid_holds).then_some(Id { kind, uuid })
    }

    /// 4: random, 5: from a name.
    pub fn version(&self) -> char {
        self.uuid[14..].chars().next().unwrap_or_default()
    }
}

/// Seconds with exactly three digits behind the point, in UTC, written `Z`.
pub(super) fn is_moment(text: &str) -> bool {
    let shape = "dddd-dd-ddTdd:dd:dd.dddZ";
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(b, shape)| match shape {
            b'd' => b.is_ascii_digit(),
            other => b == other,
        })
        && text.parse::<jiff::Timestamp>().is_ok()
}

/// How a moment is written.
pub(super) fn moment(at: jiff::Timestamp) -> String {
    format!("{at:.3}")
}

/// A UUID that follows from a text: the same for the same text. It has the form of a random one (version 4), which
/// the standard asks of steps.
pub(super) fn uuid_of(text: &str) -> Uuid {
    let digest = Sha256::digest(text);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

static NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^__[A-Za-z][A-Za-z0-9_-]{0,245}__$").expect("a pattern of ours"));
static USE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("__[A-Za-z][A-Za-z0-9_-]{0,245}__:value").expect("a pattern of ours"));

/// `__name__`.
pub(super) fn is_variable(name: &str) -> bool {
    NAME.is_match(name)
}

/// The name of the variable, where the whole text is the use of one: `__name__:value`.
pub(super) fn whole_variable(text: &str) -> Option<&str> {
    text.trim()
        .strip_suffix(":value")
        .filter(|name| is_variable(name))
}

/// Every variable that a text uses: its name, and where it stands.
pub(super) fn variables(text: &str) -> impl Iterator<Item = (&str, std::ops::Range<usize>)> {
    USE.find_iter(text)
        .map(|found| (&text[found.start()..found.end() - ":value".len()], found.range()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_a_type_and_a_uuid() {
        let id = Id::parse("if-condition--0b9a3a0e-7c5c-4a87-9b6e-0a1c6f1f8d11").expect("an identifier");
        assert_eq!((id.kind, id.version()), ("if-condition", '4'));
        for bad in [
            "",
            "action",
            "action-0b9a3a0e-7c5c-4a87-9b6e-0a1c6f1f8d11",
            "--0b9a3a0e-7c5c-4a87-9b6e-0a1c6f1f8d11",
            "Action--0b9a3a0e-7c5c-4a87-9b6e-0a1c6f1f8d11",
            "action--0b9a3a0e-7c5c-0a87-9b6e-0a1c6f1f8d11",
            "action--0b9a3a0e-7c5c-4a87-1b6e-0a1c6f1f8d11",
            "action--0b9a3a0e-7c5c-4a87-9b6e-0a1c6f1f8d1",
            "äction--0b9a3a0e-7c5c-4a87-9b6e-0a1c6f1f8d1ä",
        ] {
            assert_eq!(Id::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn moments_have_milliseconds() {
        assert!(is_moment("2024-02-29T23:59:59.123Z"));
        assert_eq!(
            moment("2024-01-01T00:00:00Z".parse().unwrap()),
            "2024-01-01T00:00:00.000Z"
        );
        for bad in [
            "2024-02-29T23:59:59Z",
            "2024-02-29T23:59:59.1234Z",
            "2023-02-29T23:59:59.123Z",
            "2024-02-29t23:59:59.123z",
            "2024-02-29T23:59:59.123+00:00",
        ] {
            assert!(!is_moment(bad), "{bad}");
        }
    }

    #[test]
    fn variables_are_found_in_text() {
        let text = "touch __path__:value/__a-b__:value __none__ ___:value";
        let found: Vec<&str> = variables(text).map(|(name, _)| name).collect();
        assert_eq!(found, ["__path__", "__a-b__"]);
        assert_eq!(whole_variable(" __a__:value "), Some("__a__"));
        assert_eq!(whole_variable("x __a__:value"), None);
        assert!(!is_variable("__1__") && !is_variable("_a_") && is_variable("__a_b__"));
    }
}
