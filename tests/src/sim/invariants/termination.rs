//! Every task reaches a named end once the faults stop.

use super::Check;

/// How long a world may take to come to rest.
#[derive(Debug, Default)]
pub struct Termination {}

/// Virtual time from the end of the faults to the end of every run.
pub const REST_US_MAX: u64 = 300_000_000;

impl Termination {
    /// Judged when the time is up.
    pub fn at_rest(&self, open: &[String]) -> Check {
        if open.is_empty() {
            return Ok(());
        }
        Err((
            "termination",
            format!("long after the last fault, still open: {}", open.join(", ")),
        ))
    }
}
