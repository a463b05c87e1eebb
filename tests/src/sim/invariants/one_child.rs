//! An attempt of a step that runs a playbook begins one run, whoever proposes one, and a run that was begun is there.

use std::collections::BTreeMap;

use engine::id::{AttemptKey, RunId};

use super::Check;

const NAME: &str = "one_child";

/// What leaders were told that they began.
#[derive(Debug, Default)]
pub struct OneChild {
    begun: BTreeMap<AttemptKey, RunId>,
}

impl OneChild {
    /// A leader was told that this run was begun for an attempt.
    pub fn begun(&mut self, attempt: AttemptKey, run: RunId) -> Check {
        match self.begun.insert(attempt, run) {
            Some(first) if first != run => Err((
                NAME,
                format!("attempt {attempt:?} began run {first}, and then run {run}"),
            )),
            _ => Ok(()),
        }
    }

    /// Judged at rest: the runs that there are, each with its attempt; and the tasks that succeeded without one.
    pub fn at_rest(&self, there: Vec<(AttemptKey, RunId)>, without: &[String]) -> Check {
        let mut by_attempt = BTreeMap::new();
        for (attempt, run) in there {
            if let Some(other) = by_attempt.insert(attempt, run) {
                return Err((
                    NAME,
                    format!("attempt {attempt:?} has the runs {other} and {run}"),
                ));
            }
        }
        for (attempt, run) in &self.begun {
            if by_attempt.get(attempt) != Some(run) {
                return Err((
                    NAME,
                    format!("run {run} was begun for {attempt:?}, and is not there"),
                ));
            }
        }
        match without.first() {
            None => Ok(()),
            Some(task) => Err((NAME, format!("{task} succeeded, and began no run"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::id::TaskKey;

    fn attempt(token: u64) -> AttemptKey {
        let run = run(1);
        let task = TaskKey {
            run,
            step: 0,
            item: 0,
        };
        AttemptKey {
            task,
            attempt: 1,
            token,
        }
    }

    fn run(n: u128) -> RunId {
        RunId(uuid::Uuid::from_u128(n))
    }

    #[test]
    fn a_second_run_and_a_lost_one_are_told() {
        let mut seen = OneChild::default();
        assert_eq!(seen.begun(attempt(1), run(2)), Ok(()));
        assert_eq!(seen.begun(attempt(1), run(2)), Ok(()));
        assert_eq!(seen.begun(attempt(2), run(3)), Ok(()), "another attempt");
        let both = vec![(attempt(1), run(2)), (attempt(2), run(3))];
        assert_eq!(seen.at_rest(both.clone(), &[]), Ok(()));
        assert!(seen.at_rest(both.clone(), &["a task".to_owned()]).is_err());
        assert!(seen.at_rest(both[..1].to_vec(), &[]).is_err(), "one is lost");
        let twice = [both, vec![(attempt(1), run(4))]].concat();
        assert!(seen.at_rest(twice, &[]).is_err());
        assert!(seen.begun(attempt(1), run(4)).is_err());
    }
}
