//! What goes into an action's output: exact paths, and lists that know their limits.
//!
//! An output may be 64 KiB at most (it travels through the replicated log), so every list stops
//! before that, by count and by bytes, and says so.

use base64::Engine as _;
use serde::Serialize;

/// All lists of one output together stay below this; the rest of the 64 KiB is for its other fields.
pub const LISTS_BYTES_MAX: usize = 56 * 1024;

/// Errors that are listed beside the results, at most this many bytes of them.
pub const ERRORS_BYTES_MAX: usize = 8 * 1024;

/// A path as text, and exactly where it is no text.
///
/// `path` shows bytes that are not UTF-8 as `\xHH`; `path_base64` (standard alphabet, padded) is there
/// only then, and holds the bytes as they are on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExactPath {
    /// For people.
    pub path: String,
    /// For programs, when `path` is not exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
}

/// Something that could not be looked at, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileProblem {
    /// Which.
    #[serde(flatten)]
    pub path: ExactPath,
    /// `denied`, `symlink`, `not_regular`, `other_mount`, ...
    pub code: &'static str,
}

/// A list with a limit on its count and on its size as JSON.
#[derive(Debug)]
pub struct Listing<T> {
    items: Vec<T>,
    items_max: usize,
    bytes: usize,
    bytes_max: usize,
    truncated: bool,
}

impl ExactPath {
    /// From the bytes of a path.
    pub fn new(bytes: &[u8]) -> Self {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return ExactPath {
                path: text.to_owned(),
                path_base64: None,
            };
        }
        let mut path = String::with_capacity(bytes.len() + 16);
        for chunk in bytes.utf8_chunks() {
            path.push_str(chunk.valid());
            for byte in chunk.invalid() {
                path.push_str(&format!("\\x{byte:02x}"));
            }
        }
        ExactPath {
            path,
            path_base64: Some(base64::engine::general_purpose::STANDARD.encode(bytes)),
        }
    }
}

impl FileProblem {
    /// This path has this problem.
    pub fn new(path: &[u8], code: &'static str) -> Self {
        FileProblem {
            path: ExactPath::new(path),
            code,
        }
    }
}

impl<T: Serialize> Listing<T> {
    /// An empty list that takes at most `items_max` items and `bytes_max` bytes of JSON.
    pub fn new(items_max: usize, bytes_max: usize) -> Self {
        Listing {
            items: Vec::new(),
            items_max,
            bytes: 0,
            bytes_max,
            truncated: false,
        }
    }

    /// A list of problems, with the usual limits.
    pub fn of_problems() -> Self {
        Self::new(200, ERRORS_BYTES_MAX)
    }

    /// Adds an item. False: it did not fit, was left out, and the list counts as truncated.
    pub fn push(&mut self, item: T) -> bool {
        // An item that cannot be written as JSON does not exist among ours; should one appear, it is
        // left out and the list says that it is not whole.
        let size = serde_json::to_vec(&item).map_or(usize::MAX, |json| json.len());
        let bytes = self.bytes.saturating_add(size).saturating_add(1);
        if self.items.len() >= self.items_max || bytes > self.bytes_max {
            self.truncated = true;
            return false;
        }
        self.bytes = bytes;
        self.items.push(item);
        true
    }

    /// More existed than is listed.
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// The items.
    pub fn into_items(self) -> Vec<T> {
        self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_no_text_is_kept_exactly() {
        assert_eq!(ExactPath::new(b"/tmp/plain").path_base64, None);
        let odd = ExactPath::new(b"/tmp/a\xff\xfeb");
        assert_eq!(odd.path, "/tmp/a\\xff\\xfeb");
        assert_eq!(odd.path_base64.as_deref(), Some("L3RtcC9h//5i"));
    }

    #[test]
    fn a_list_stops_at_its_limits_and_says_so() {
        let mut by_count = Listing::new(2, 1000);
        assert!(by_count.push("a") && by_count.push("b") && !by_count.truncated());
        assert!(!by_count.push("c"));
        assert!(by_count.truncated());

        let mut by_bytes = Listing::new(100, 10);
        assert!(by_bytes.push("12345"));
        assert!(!by_bytes.push("12345"));
        assert!(by_bytes.truncated());
        assert_eq!(by_bytes.into_items(), ["12345"]);
    }
}
