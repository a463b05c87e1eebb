//! The same request always gets the same answer: asked twice, of any node, under any leader, before and after any
//! crash. And it is done once: every run that exists is one that somebody was told of.

use std::collections::{BTreeMap, BTreeSet};

use engine::Reply;
use engine::id::{RequestId, RunId};

use super::Check;

const NAME: &str = "same_answer";

/// What was answered.
#[derive(Debug, Default)]
pub struct SameAnswer {
    answers: BTreeMap<RequestId, Reply>,
    runs: BTreeSet<RunId>,
}

impl SameAnswer {
    /// An answer reached whoever asked. True: it is the first one.
    pub fn answered(&mut self, request: RequestId, reply: &Reply) -> Result<bool, (&'static str, String)> {
        if let Some(first) = self.answers.get(&request) {
            if first == reply {
                return Ok(false);
            }
            return Err((
                NAME,
                format!("request {request:?} was answered with {first:?}, and later with {reply:?}"),
            ));
        }
        if let Reply::RunStarted { run } = reply {
            self.runs.insert(*run);
        }
        self.answers.insert(request, reply.clone());
        Ok(true)
    }

    /// The runs that were started, as the answers say.
    pub fn runs(&self) -> &BTreeSet<RunId> {
        &self.runs
    }

    /// Judged when every request is answered: these are the runs that exist.
    pub fn at_rest(&self, runs: impl Iterator<Item = RunId>) -> Check {
        let there: BTreeSet<RunId> = runs.collect();
        if let Some(run) = there.difference(&self.runs).next() {
            return Err((
                NAME,
                format!("run {run} exists, and nobody was told that it was started"),
            ));
        }
        if let Some(run) = self.runs.difference(&there).next() {
            return Err((
                NAME,
                format!("run {run} was started, as somebody was told, and is not there"),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(n: u128) -> RequestId {
        RequestId(uuid::Uuid::from_u128(n))
    }

    fn run(n: u128) -> RunId {
        RunId(uuid::Uuid::from_u128(n))
    }

    #[test]
    fn another_answer_is_told() {
        let mut seen = SameAnswer::default();
        let started = |n| Reply::RunStarted { run: run(n) };
        assert_eq!(seen.answered(request(1), &started(1)), Ok(true));
        assert_eq!(seen.answered(request(1), &started(1)), Ok(false));
        assert_eq!(seen.answered(request(2), &started(2)), Ok(true));
        assert!(seen.answered(request(1), &started(3)).is_err());
        assert!(seen.answered(request(2), &Reply::Done).is_err());
    }

    #[test]
    fn a_run_too_many_or_too_few_is_told() {
        let mut seen = SameAnswer::default();
        let first = seen.answered(request(1), &Reply::RunStarted { run: run(1) });
        assert_eq!(first, Ok(true));
        assert_eq!(seen.at_rest([run(1)].into_iter()), Ok(()));
        assert!(seen.at_rest([run(1), run(2)].into_iter()).is_err());
        assert!(seen.at_rest(std::iter::empty()).is_err());
    }
}
