//! Who carries tasks out in a case: hosts that come and go, and the leader, which makes the calls. They answer as the
//! fakes say.

use std::collections::{BTreeMap, BTreeSet};

use engine::Assignment;
use engine::command::{Outcome, OutcomeStatus, TaskError};
use engine::id::{AgentId, AttemptKey};

use crate::suite::{Answer, Ends};

/// A host, or None: the leader.
pub(crate) type Worker = Option<AgentId>;

/// Who carries tasks out, as they are.
pub(crate) struct Fleet {
    workers: BTreeMap<Worker, Live>,
}

/// One of them.
#[derive(Default)]
struct Live {
    online: bool,
    /// Attempts that it has begun and not told the end of.
    at_work: BTreeMap<AttemptKey, Work>,
    /// Sessions that it had.
    sessions: u64,
}

/// An attempt that goes on.
struct Work {
    /// What is told of its end; None: nothing ever is.
    ends: Option<Outcome>,
    /// What is told when it has to stop; None: nothing.
    stops: Option<Outcome>,
    /// It has ended, and could not be told yet.
    over: bool,
}

impl Fleet {
    /// The leader, and hosts that are all away.
    pub fn new<'a>(hosts: impl Iterator<Item = &'a AgentId>) -> Fleet {
        let mut workers: BTreeMap<Worker, Live> =
            hosts.map(|host| (Some(host.clone()), Live::default())).collect();
        let leader = Live {
            online: true,
            ..Live::default()
        };
        workers.insert(None, leader);
        Fleet { workers }
    }

    pub fn is_online(&self, worker: &Worker) -> bool {
        self.workers.get(worker).is_some_and(|live| live.online)
    }

    /// Notes that one comes or goes; the number of its session.
    pub fn set_online(&mut self, worker: &Worker, online: bool) -> u64 {
        let Some(live) = self.workers.get_mut(worker) else {
            return 0;
        };
        live.online = online;
        live.sessions += u64::from(online);
        live.sessions
    }

    /// What one says that it is running.
    pub fn running(&self, worker: &Worker) -> Vec<AttemptKey> {
        self.workers
            .get(worker)
            .map(|live| live.at_work.keys().copied().collect())
            .unwrap_or_default()
    }

    /// Begins an attempt; when it ends, from now on.
    pub fn begin(&mut self, worker: &Worker, task: &Assignment, answer: &Answer) -> u64 {
        let (work, after_ms) = match worker {
            Some(_) => (on_host(answer), answer.after_ms),
            None => call(task, answer),
        };
        if let Some(live) = self.workers.get_mut(worker) {
            live.at_work.insert(task.key, work);
        }
        after_ms
    }

    /// The cluster wants no more of what is not among these.
    pub fn keep(&mut self, worker: &Worker, wanted: &BTreeSet<AttemptKey>) {
        if let Some(live) = self.workers.get_mut(worker) {
            live.at_work.retain(|key, _| wanted.contains(key));
        }
    }

    /// An attempt's time is over: what is told of it now. None: nothing, or not now.
    pub fn end(&mut self, worker: &Worker, key: &AttemptKey) -> Option<Outcome> {
        let live = self.workers.get_mut(worker)?;
        let work = live.at_work.get_mut(key).filter(|work| work.ends.is_some())?;
        if !live.online {
            work.over = true;
            return None;
        }
        live.at_work.remove(key)?.ends
    }

    /// It is told to stop; what is told of it.
    pub fn stop(&mut self, worker: &Worker, key: &AttemptKey) -> Option<Outcome> {
        let live = self.workers.get_mut(worker).filter(|live| live.online)?;
        live.at_work
            .get(key)
            .filter(|work| work.stops.is_some() && !work.over)?;
        live.at_work.remove(key)?.stops
    }

    /// What one that is back tells: what ended while it was away.
    pub fn overdue(&mut self, worker: &Worker) -> Vec<(AttemptKey, Outcome)> {
        let Some(live) = self.workers.get_mut(worker) else {
            return Vec::new();
        };
        let over: Vec<AttemptKey> = live
            .at_work
            .iter()
            .filter(|(_, work)| work.over)
            .map(|(key, _)| *key)
            .collect();
        over.into_iter()
            .filter_map(|key| Some((key, live.at_work.remove(&key)?.ends?)))
            .collect()
    }

    /// Whether it runs this attempt.
    pub fn has(&self, worker: &Worker, key: &AttemptKey) -> bool {
        self.workers
            .get(worker)
            .is_some_and(|live| live.at_work.contains_key(key))
    }
}

/// An attempt of a host, which stops when it is told to, unless nothing is heard of it any more.
fn on_host(answer: &Answer) -> Work {
    let stopped = Outcome {
        status: OutcomeStatus::Cancelled,
        output: serde_json::Value::Null,
        error: None,
    };
    Work {
        ends: outcome(&answer.ends),
        stops: (!matches!(answer.ends, Ends::Silent)).then_some(stopped),
        over: false,
    }
}

/// A call, which the leader gives up when its time is over.
fn call(task: &Assignment, answer: &Answer) -> (Work, u64) {
    let within_ms = task.attempt_timeout_ms;
    let (ends, after_ms) = match outcome(&answer.ends) {
        Some(outcome) if answer.after_ms <= within_ms => (outcome, answer.after_ms),
        _ => (task.unanswered(), within_ms),
    };
    let work = Work {
        ends: Some(ends),
        stops: Some(task.broken_off()),
        over: false,
    };
    (work, after_ms)
}

/// What is told of an end; None: nothing ever is.
fn outcome(ends: &Ends) -> Option<Outcome> {
    let failed = |status, code: &str, message: &str| Outcome {
        status,
        output: serde_json::Value::Null,
        error: Some(TaskError {
            code: code.to_owned(),
            message: message.to_owned(),
        }),
    };
    match ends {
        Ends::Output(output) => Some(Outcome {
            status: OutcomeStatus::Succeeded,
            output: output.clone(),
            error: None,
        }),
        Ends::Error { code, message } => Some(failed(OutcomeStatus::Failed, code, message)),
        Ends::Lost => Some(failed(OutcomeStatus::Unknown, "lost", "the answer was lost")),
        Ends::Hangs | Ends::Silent => None,
    }
}
