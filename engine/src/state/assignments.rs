//! What an agent has been told to do and has not ended: served from any node's own state. And what the leader has
//! to do itself.

use std::sync::Arc;

use crate::command::{Outcome, OutcomeStatus, TaskError};
use crate::id::{AgentId, AttemptKey, RunId, TaskKey};
use crate::limits::QUEUE_MS_DEFAULT;
use crate::state::State;
use crate::state::runs::Run;
use crate::state::tasks::{Stop, Task, TaskStatus};
use crate::time::Timestamp;

/// One attempt that an agent has to carry out, or to stop.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The attempt, with its fencing token.
    pub key: AttemptKey,
    /// The step's name, for the wire and for people.
    pub step: String,
    /// The action's name.
    pub action: String,
    /// Rendered and checked: the JSON text of an object, shared by the tasks that have the same.
    pub parameters: Arc<str>,
    /// From the catalogue.
    pub impact: catalogue::Impact,
    /// Goes before collection and scans.
    pub urgent: bool,
    /// The run is being cancelled or the task has run out of time: tell the agent to stop.
    pub cancel: Option<String>,
    /// The agent said that it has begun.
    pub started: bool,
    /// From the moment that the agent starts it.
    pub attempt_timeout_ms: u64,
    /// It must not be begun later than this.
    pub start_by: Option<Timestamp>,
    /// 0: none.
    pub heartbeat_timeout_ms: u64,
}

impl Assignment {
    /// How a call ends that gave no answer within its time.
    pub fn unanswered(&self) -> Outcome {
        let message = format!("no answer within {} ms", self.attempt_timeout_ms);
        self.without_answer(OutcomeStatus::Failed, "timeout", message)
    }

    /// How a call ends that was broken off, or is to stop before it was made: what it had done already nobody knows.
    pub fn broken_off(&self) -> Outcome {
        self.without_answer(OutcomeStatus::Cancelled, "cancelled", "it was broken off".into())
    }

    /// Contain and above: it may have been done.
    fn without_answer(&self, harmless: OutcomeStatus, code: &str, message: String) -> Outcome {
        let may_be_done = self.impact >= catalogue::Impact::Contain;
        Outcome {
            status: if may_be_done {
                OutcomeStatus::Unknown
            } else {
                harmless
            },
            output: serde_json::Value::Null,
            error: Some(TaskError {
                code: code.into(),
                message,
            }),
        }
    }
}

impl State {
    /// What this agent has to do, the urgent lane (contain, kill, cancel, release) first. Costs what
    /// the agent's own open tasks are many. An attempt that an agent runs and that is not in this list has
    /// ended for the cluster: tell the agent to stop it.
    pub fn assignments(&self, agent: &AgentId) -> Vec<Assignment> {
        let Some(agent) = self.agents.get(agent) else {
            return Vec::new();
        };
        let mut all: Vec<_> = agent
            .open
            .iter()
            .filter_map(|key| {
                let run = self.runs.get(&key.run)?;
                let task = run.steps[usize::from(key.step)].tasks.get(key.item as usize)?;
                assignment_of(run, *key, task)
            })
            .collect();
        all.sort_by_key(|a| (!(a.urgent || a.cancel.is_some()), a.key.token, a.key.task));
        all
    }

    /// One assignment of this agent, if it is still one.
    pub fn assignment(&self, agent: &AgentId, key: &AttemptKey) -> Option<Assignment> {
        let agent = self.agents.get(agent)?;
        agent.open.get(&key.task)?;
        let run = self.runs.get(&key.task.run)?;
        let task = run.steps[usize::from(key.task.step)]
            .tasks
            .get(key.task.item as usize)?;
        assignment_of(run, key.task, task).filter(|a| a.key == *key)
    }

    /// The calls of a run that the leader has to carry out, or to stop. Costs what they are many.
    pub fn calls(&self, run: &RunId) -> Vec<Assignment> {
        let Some(run) = self.runs.get(run) else {
            return Vec::new();
        };
        // What begins runs ([`State::children_wanted`]), or has them rolled back, is no call to others.
        let to_others = |step: u16| !run.begins_run(step) && !run.undoes_runs(step);
        let steps = (0u16..).zip(&run.steps).filter(|(step, _)| to_others(*step));
        steps
            .flat_map(|(step, state)| state.calls.iter().map(move |item| (step, *item)))
            .filter_map(|(step, item)| assignment_of(run, run.key(step, item), run.task(step, item)))
            .collect()
    }

    /// The number of a run's step, by its name.
    pub fn step_number(&self, run: &RunId, name: &str) -> Option<u16> {
        self.runs.get(run)?.step_number(name)
    }
}

pub(crate) fn assignment_of(run: &Run, key: TaskKey, task: &Task) -> Option<Assignment> {
    if !matches!(task.status, TaskStatus::Assigned | TaskStatus::Started) {
        return None;
    }
    let declared = run.declared(key.step);
    let shared = run.steps[usize::from(key.step)].shared.as_ref()?;
    let parameters = task.parameters.as_ref().or(shared.parameters.as_ref());
    Some(Assignment {
        key: AttemptKey {
            task: key,
            attempt: task.attempt,
            token: task.token,
        },
        step: declared.name.clone(),
        action: run.kind(key.step).1.unwrap_or_default().to_owned(),
        parameters: parameters.cloned().unwrap_or_else(|| "{}".into()),
        impact: shared.impact,
        urgent: shared.urgent,
        cancel: task.stop.map(|stop: Stop| match stop {
            Stop::Cancelled if !run.reason.is_empty() => format!("{}: {}", stop.reason(), run.reason),
            stop => stop.reason().to_owned(),
        }),
        started: task.status == TaskStatus::Started,
        attempt_timeout_ms: shared.attempt_ms,
        start_by: Some(
            task.queued_at
                .plus_ms(declared.timeout.queue_ms.unwrap_or(QUEUE_MS_DEFAULT)),
        ),
        heartbeat_timeout_ms: declared.timeout.heartbeat_ms.unwrap_or(0),
    })
}
