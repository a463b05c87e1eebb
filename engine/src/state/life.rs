//! The life of a task: every way from one status to another, each in its own function. (Its deadlines are in
//! `deadlines`.)

use std::sync::Arc;

use playbook::canonical::canonical_json;
use sha2::Digest as _;

use crate::command::{Outcome, OutcomeStatus, TaskError};
use crate::id::{AgentId, TaskKey};
use crate::limits::{MESSAGE_BYTES_MAX, OUTPUT_BYTES_MAX, STOP_GRACE_MS};
use crate::state::agents::{Agent, Agents};
use crate::state::audit::TaskEvent;
use crate::state::children::Cascade;
use crate::state::outbox::Around;
use crate::state::runs::{Run, RunStatus};
use crate::state::tasks::{Stop, Task, TaskStatus};
use playbook::manifest::Over;

/// An error of a task.
pub(crate) fn error(code: &str, message: impl Into<String>) -> TaskError {
    TaskError {
        code: code.to_owned(),
        message: message.into(),
    }
}

impl Run {
    pub(crate) fn key(&self, step: u16, item: u32) -> TaskKey {
        TaskKey {
            run: self.id,
            step,
            item,
        }
    }

    pub(super) fn task_mut(&mut self, step: u16, item: u32) -> &mut Task {
        &mut self.steps[usize::from(step)].tasks[item as usize]
    }

    pub(crate) fn task(&self, step: u16, item: u32) -> &Task {
        &self.steps[usize::from(step)].tasks[item as usize]
    }

    /// The run changed.
    pub(crate) fn touch(&mut self, around: &mut Around<'_>) {
        self.revision = around.index;
        around.out.runs.insert(self.id);
    }

    /// Adds a task to a step: waiting, or born in an end.
    pub(crate) fn open_task(&mut self, step: u16, task: Task, around: &mut Around<'_>) {
        let item = self.steps[usize::from(step)].tasks.len() as u32;
        let born = task.status;
        let code = task.error.as_ref().map_or(String::new(), |e| e.code.clone());
        let host = task.host;
        if host != item && matches!(self.declared(step).over, Over::Targets(_)) {
            self.steps[usize::from(step)].items.insert(host, item);
        }
        self.steps[usize::from(step)].push(task);
        let state = &mut self.steps[usize::from(step)];
        if !born.is_end() {
            // Its key may have had attempts before: their numbers are never used again.
            state.tasks[item as usize].attempt = state.attempts_before;
        } else {
            self.task_mut(step, item).ended_at = Some(around.now);
            around.events.push(
                self.id,
                step,
                item,
                TaskEvent::End {
                    attempt: 0,
                    status: born,
                    code,
                },
            );
            self.host_has_moved(step, host);
            return;
        }
        let waits = born == TaskStatus::Waiting;
        if self.steps[usize::from(step)].is_call() {
            if waits {
                self.steps[usize::from(step)].ready.insert(item);
            }
            self.set_wake(step, item, around);
            return;
        }
        let key = self.key(step, item);
        let agent = self
            .agent_of(step, item)
            .and_then(|id| around.agents.get_mut(id))
            .expect("a task's agent is in the frozen set, which held enrolled agents only");
        if agent.revoked.is_some() {
            self.end(
                step,
                item,
                TaskStatus::Cancelled,
                Some(error("revoked", "the agent is denied")),
                around,
            );
            return;
        }
        agent.open.insert(key);
        if waits && agent.is_online() {
            self.steps[usize::from(step)].ready.insert(item);
        }
        self.set_wake(step, item, around);
    }

    /// Hands a ready task to its agent: a new attempt, fenced by this log index.
    pub(crate) fn assign(&mut self, step: u16, item: u32, around: &mut Around<'_>) {
        self.steps[usize::from(step)].set_status(item, TaskStatus::Assigned);
        let task = self.task_mut(step, item);
        task.attempt += 1;
        task.token = around.index;
        task.started_at = None;
        task.stop = None;
        task.reported = false;
        task.output = None;
        let attempt = task.attempt;
        if self.steps[usize::from(step)].is_call() {
            // The leader has it with this entry.
            self.start(step, item, around);
            return;
        }
        self.set_wake(step, item, around);
        self.tell_agent(step, item, around);
        around
            .events
            .push(self.id, step, item, TaskEvent::Assign { attempt });
    }

    /// Its agent, or the leader, began.
    pub(crate) fn start(&mut self, step: u16, item: u32, around: &mut Around<'_>) {
        self.steps[usize::from(step)].set_status(item, TaskStatus::Started);
        let task = self.task_mut(step, item);
        task.started_at = Some(around.now);
        let attempt = task.attempt;
        self.set_wake(step, item, around);
        if self.undoes_runs(step) {
            around.out.cascade.push(Cascade::Undo(self.attempt(step, item)));
        }
        around
            .events
            .push(self.id, step, item, TaskEvent::Start { attempt });
    }

    /// Its agent said how the current attempt ended.
    pub(crate) fn conclude(&mut self, step: u16, item: u32, outcome: &Outcome, around: &mut Around<'_>) {
        let judged = self.declared(step).expect.is_some();
        let now = around.now;
        let task = self.task_mut(step, item);
        task.reported = true;
        task.started_at.get_or_insert(now);
        let mut said = outcome.error.clone().map(cut);
        task.output = match &outcome.output {
            serde_json::Value::Null => None,
            output => {
                let text = canonical_json(output);
                if text.len() <= OUTPUT_BYTES_MAX {
                    Some(Arc::from(text))
                } else {
                    // What was done was done: only what it says of it is lost.
                    let why = format!("{} bytes, of at most {OUTPUT_BYTES_MAX}", text.len());
                    said.get_or_insert(error("output_too_large", why));
                    None
                }
            }
        };
        let stop = task.stop;
        match outcome.status {
            OutcomeStatus::Succeeded if judged => {
                task.error = None;
                self.judge_later(step, item, around);
            }
            OutcomeStatus::Succeeded => self.end(step, item, TaskStatus::Succeeded, said, around),
            OutcomeStatus::Unknown => {
                let why =
                    said.unwrap_or_else(|| error("unknown", "the agent cannot tell whether it was done"));
                self.end(step, item, TaskStatus::Unknown, Some(why), around);
            }
            OutcomeStatus::Failed => {
                let why = said.unwrap_or_else(|| error("failed", ""));
                self.fail(step, item, why, None, around);
            }
            OutcomeStatus::Cancelled => match stop {
                Some(Stop::AttemptTimeout | Stop::TotalTimeout) => {
                    let why = error("timeout", stop.map_or("", Stop::reason));
                    self.fail(step, item, why, None, around);
                }
                Some(Stop::Cancelled) | None => {
                    self.end(step, item, TaskStatus::Cancelled, said, around);
                }
            },
        }
    }

    /// An attempt failed. `again`: what the planner decided of `retry.when`, where that was asked.
    pub(crate) fn fail(
        &mut self,
        step: u16,
        item: u32,
        why: TaskError,
        again: Option<bool>,
        around: &mut Around<'_>,
    ) {
        if !self.may_retry(step, item, around.agents) || again == Some(false) {
            self.end(step, item, TaskStatus::Failed, Some(why), around);
            return;
        }
        let retry = self.declared(step).retry.clone().expect("it may be tried again");
        if retry.when.is_some() && again.is_none() {
            self.task_mut(step, item).error = Some(Box::new(why));
            self.judge_later(step, item, around);
            return;
        }
        let pause = pause_ms(self.key(step, item), self.task(step, item).attempt, &retry);
        self.steps[usize::from(step)].set_status(item, TaskStatus::Backoff);
        let task = self.task_mut(step, item);
        let attempt = task.attempt;
        let code = why.code.clone();
        task.error = Some(Box::new(why));
        task.stop = None;
        task.queued_at = around.now;
        let retry_at = around.now.plus_ms(pause);
        let total = self.total_deadline(step, item);
        self.wake_at(
            step,
            item,
            Some(total.map_or(retry_at, |total| total.min(retry_at))),
            around,
        );
        around
            .events
            .push(self.id, step, item, TaskEvent::Retry { attempt, code });
    }

    /// Whether a failed attempt can be followed by another one.
    pub(crate) fn may_retry(&self, step: u16, item: u32, agents: &Agents) -> bool {
        let task = self.task(step, item);
        let state = &self.steps[usize::from(step)];
        let agent = self.agent_of(step, item).and_then(|id| agents.get(id));
        let denied = !state.is_call() && agent.is_none_or(|agent| agent.revoked.is_some());
        let retries = self.declared(step).retry.as_ref().map_or(0, |retry| retry.max);
        let cancelled = self.status == RunStatus::Cancelling && !self.is_finally(step);
        task.attempt - state.attempts_before <= retries
            && !cancelled
            && !state.stopped
            && !denied
            && matches!(task.stop, None | Some(Stop::AttemptTimeout))
    }

    fn judge_later(&mut self, step: u16, item: u32, around: &mut Around<'_>) {
        self.steps[usize::from(step)].set_status(item, TaskStatus::Judging);
        self.wake_at(step, item, None, around);
    }

    /// The end of a task.
    pub(crate) fn end(
        &mut self,
        step: u16,
        item: u32,
        status: TaskStatus,
        why: Option<TaskError>,
        around: &mut Around<'_>,
    ) {
        let gated = self.task(step, item).status == TaskStatus::Gated;
        self.steps[usize::from(step)].set_status(item, status);
        if gated {
            self.left_gate(step, item, around);
        }
        let key = self.key(step, item);
        if let Some(agent) = self.agent_of(step, item).and_then(|id| around.agents.get_mut(id)) {
            agent.open.remove(&key);
        }
        let code = why.as_ref().map_or(String::new(), |e| e.code.clone());
        let now = around.now;
        let task = self.task_mut(step, item);
        task.ended_at = Some(now);
        task.error = why.map(Box::new);
        let (attempt, token, reported, host) = (task.attempt, task.token, task.reported, task.host);
        self.host_has_moved(step, host);
        self.wake_at(step, item, None, around);
        if token > 0 && !reported {
            self.tell_agent(step, item, around);
        }
        around.events.push(
            self.id,
            step,
            item,
            TaskEvent::End {
                attempt,
                status,
                code,
            },
        );
    }

    /// Asks the agent to stop; a deadline ends the task if it does not answer.
    pub(crate) fn ask_to_stop(&mut self, step: u16, item: u32, stop: Stop, around: &mut Around<'_>) {
        let task = self.task_mut(step, item);
        if task.stop.is_some() {
            // Asked already: the first deadline stands. But cancelled it is not tried again.
            if stop == Stop::Cancelled {
                task.stop = Some(stop);
            }
            return;
        }
        task.stop = Some(stop);
        let attempt = task.attempt;
        let by = match self.begins_run(step) {
            // Its run ends it, which has deadlines of its own.
            true => {
                let attempt = self.attempt(step, item);
                around.out.cascade.push(Cascade::Stop(attempt, stop));
                None
            }
            false => Some(around.now.plus_ms(STOP_GRACE_MS)),
        };
        self.wake_at(step, item, by, around);
        self.tell_agent(step, item, around);
        around.events.push(
            self.id,
            step,
            item,
            TaskEvent::Stop {
                attempt,
                reason: stop.reason(),
            },
        );
    }

    /// The run (or the step) wants no more of this task.
    pub(crate) fn cancel_task(&mut self, step: u16, item: u32, code: &str, around: &mut Around<'_>) {
        match self.task(step, item).status {
            TaskStatus::Waiting | TaskStatus::Gated | TaskStatus::Backoff => {
                let why = error(code, "it was not begun");
                self.end(step, item, TaskStatus::Cancelled, Some(why), around);
            }
            TaskStatus::Assigned | TaskStatus::Started => {
                self.ask_to_stop(step, item, Stop::Cancelled, around);
            }
            _ => {}
        }
    }

    /// Its agent is denied for good: nothing will be heard of it.
    pub(crate) fn agent_is_gone(&mut self, step: u16, item: u32, around: &mut Around<'_>) {
        let careful = self.is_careful(step);
        let why = error("revoked", "the agent is denied");
        let status = match self.task(step, item).status {
            TaskStatus::Waiting | TaskStatus::Gated | TaskStatus::Backoff => TaskStatus::Cancelled,
            TaskStatus::Assigned | TaskStatus::Started if careful => TaskStatus::Unknown,
            TaskStatus::Assigned => TaskStatus::Cancelled,
            TaskStatus::Started => TaskStatus::Failed,
            // Its outcome is in: the planner's word ends it.
            _ => return,
        };
        self.end(step, item, status, Some(why), around);
    }

    /// Its agent came or went.
    pub(crate) fn presence_changed(&mut self, step: u16, item: u32, online: bool, around: &mut Around<'_>) {
        let task = self.task(step, item);
        match task.status {
            TaskStatus::Waiting => {
                let ready = &mut self.steps[usize::from(step)].ready;
                if online {
                    ready.insert(item);
                    around.out.runs.insert(self.id);
                } else {
                    ready.remove(&item);
                }
            }
            TaskStatus::Started if task.stop.is_none() => self.set_wake(step, item, around),
            _ => {}
        }
    }

    pub(super) fn tell_agent(&self, step: u16, item: u32, around: &mut Around<'_>) {
        if let Some(agent) = self.agent_of(step, item) {
            around.out.agents.insert(agent.clone());
        }
    }
}

impl Agents {
    /// The agent of a task.
    pub(super) fn get_of(&self, run: &Run, step: u16, item: u32) -> Option<&Agent> {
        run.agent_of(step, item).and_then(|id: &AgentId| self.get(id))
    }
}

/// The pause behind a failed attempt: exponential, at most the declared limit; jitter spreads it over its
/// upper half. The jitter is drawn from the task's name, so that every node draws the same.
fn pause_ms(key: TaskKey, attempt: u32, retry: &playbook::manifest::Retry) -> u64 {
    let mut pause = retry.initial_ms as f64;
    // Multiplication is exact in the same way everywhere; powers are not.
    for _ in 1..attempt.min(64) {
        pause = (pause * retry.factor.max(1.0)).min(retry.delay_ms_max as f64);
    }
    let pause = (pause as u64).min(retry.delay_ms_max);
    if !retry.jitter || pause < 2 {
        return pause;
    }
    let mut hash = sha2::Sha256::new();
    hash.update(key.run.0.as_bytes());
    hash.update(key.step.to_be_bytes());
    hash.update(key.item.to_be_bytes());
    hash.update(attempt.to_be_bytes());
    let bytes: [u8; 32] = hash.finalize().into();
    let draw = u64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let half = pause / 2;
    pause - half + ((half + 1).saturating_mul(draw) >> 32).min(half)
}

/// An agent's words, bounded.
fn cut(error: TaskError) -> TaskError {
    let bound = |mut text: String, max: usize| {
        if text.len() > max {
            let end = (0..=max).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
            text.truncate(end);
        }
        text
    };
    TaskError {
        code: bound(error.code, 64),
        message: bound(error.message, MESSAGE_BYTES_MAX),
    }
}
