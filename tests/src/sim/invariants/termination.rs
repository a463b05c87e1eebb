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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_open_is_told() {
        let judge = Termination::default();
        assert_eq!(judge.at_rest(&[]), Ok(()));
        assert!(judge.at_rest(&["a task".to_owned()]).is_err());
    }
}
