//! The wall clock, read in one place.

use engine::Timestamp;

/// Milliseconds since 1970, by this machine.
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| since.as_millis() as u64))
}
