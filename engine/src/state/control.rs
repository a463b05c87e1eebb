//! What people do to a run that is on its way, or over: pause, resume, retry, and settle what nobody knows.
//!
//! - **Pause** stops the run's clock. Nothing is opened, assigned or ended; what agents hold goes on, with its
//!   deadlines. All other time stands still: the queue time and retry pauses of tasks that wait, delays and
//!   soaks, the run's timeout. **Resume** adds what was lost to each of them.
//! - **Retry** gives tasks that ended and did not succeed another attempt, with a number that was never used (and
//!   what the playbook's own `retry` has left). One that never passed its gate waits for people again. What was
//!   decided because of their end is undecided again: steps that were skipped wait again, and so does `finally`.
//!   What was done stays done.
//! - **Settle** replaces `unknown` by what a person says. It only changes what is known; retry acts on it.
//!
//! Decisions that were drawn before a retry or a settlement may rest on an end that is none any more: the
//! run's `reopened_at` fences them off.

use serde_json::json;

use crate::effect::Reply;
use crate::error::Refusal;
use crate::id::{AgentId, RunId, TaskKey};
use crate::limits::{ACTIVE_RUNS_MAX, MESSAGE_BYTES_MAX};
use crate::state::agents::Agents;
use crate::state::children::Cascade;
use crate::state::enrolment::{not_found, within};
use crate::state::life::error;
use crate::state::outbox::Around;
use crate::state::runs::{Run, RunStatus};
use crate::state::steps::{StepState, StepStatus};
use crate::state::tasks::{Task, TaskStatus};
use crate::state::timers::Timer;
use crate::state::{State, Turn};

impl State {
    pub(super) fn pause_run(
        &mut self,
        id: RunId,
        reason: &str,
        turn: &mut Turn<'_>,
    ) -> Result<Reply, Refusal> {
        within("bytes of the reason", reason.len(), MESSAGE_BYTES_MAX)?;
        let run = self.known_run(id)?;
        if !matches!(run.status, RunStatus::Running | RunStatus::RollingBack) {
            return Err(Refusal::State(format!(
                "run {id} is {}: there is nothing to pause",
                run.word()
            )));
        }
        if run.paused_at.is_none() {
            self.with_run(id, turn, Run::pause);
            self.record(turn, "run.pause", id.to_string(), &json!({"reason": reason}));
        }
        Ok(Reply::Done)
    }

    pub(super) fn resume_run(&mut self, id: RunId, turn: &mut Turn<'_>) -> Result<Reply, Refusal> {
        let run = self.known_run(id)?;
        if run.status.is_end() {
            return Err(Refusal::State(format!("run {id} is over: {}", run.word())));
        }
        if let Some(since) = run.paused_at {
            self.with_run(id, turn, Run::resume);
            let paused_ms = self.now.0 - since.0;
            self.record(
                turn,
                "run.resume",
                id.to_string(),
                &json!({"paused_ms": paused_ms}),
            );
        }
        Ok(Reply::Done)
    }

    pub(super) fn retry_run(
        &mut self,
        id: RunId,
        step: Option<u16>,
        unknown: bool,
        turn: &mut Turn<'_>,
    ) -> Result<Reply, Refusal> {
        let run = self.known_run(id)?;
        if run.trimmed {
            return Err(Refusal::State(format!(
                "the tasks of run {id} were dropped to make room: start a new run"
            )));
        }
        if run.undo.wanted {
            return Err(Refusal::State(format!(
                "run {id} is about to be rolled back: try again what undoes it, if that fails"
            )));
        }
        // Once something is undone, what undoes it is all that is tried again.
        let undoing = run.undoes_something();
        if run.status == RunStatus::Cancelling || (run.status == RunStatus::Cancelled && !undoing) {
            return Err(Refusal::State(format!(
                "run {id} is {}: what was cancelled is not tried again, start a new run",
                run.word()
            )));
        }
        let finally = &run.steps[run.manifest().steps.len()..usize::from(run.manifest().step_count())];
        let rolling_back = run.status == RunStatus::RollingBack;
        if !run.status.is_end()
            && !rolling_back
            && finally.iter().any(|step| step.status != StepStatus::Waiting)
        {
            return Err(Refusal::State(format!(
                "the `finally` of run {id} goes on: retry when the run is over"
            )));
        }
        if step.is_some_and(|step| !run.tried_again().contains(&step)) {
            return Err(Refusal::Invalid(if undoing {
                format!("run {id} was rolled back: only what undoes its steps is tried again")
            } else {
                "only the run's steps are tried again: `finally` runs again by itself".into()
            }));
        }
        let again = run.to_retry(step, unknown, &self.agents);
        if again.is_empty() {
            let open: u32 = run.steps.iter().map(|step| step.counts.unknown).sum();
            let hint = match open {
                0 => String::new(),
                n => format!("; {n} may have been done: settle them, or retry them too if that does no harm"),
            };
            return Err(Refusal::State(format!(
                "nothing of run {id} is to be tried again{hint}"
            )));
        }
        if run.status.is_end() {
            within("active runs", self.runs.active().len() + 1, ACTIVE_RUNS_MAX)?;
            self.check_claims_again(id)?;
            self.runs.reopen(id);
        }
        let names: Vec<_> = again
            .iter()
            .map(|(step, items)| (run_step_name(&self.runs, id, *step), items.len()))
            .collect();
        self.with_run(id, turn, |run, around| run.retry(&again, around));
        self.record(
            turn,
            "run.retry",
            id.to_string(),
            &json!({"steps": names, "unknown": unknown}),
        );
        Ok(Reply::Done)
    }

    pub(super) fn settle_task(
        &mut self,
        key: TaskKey,
        succeeded: bool,
        reason: &str,
        turn: &mut Turn<'_>,
    ) -> Result<Reply, Refusal> {
        within("bytes of the reason", reason.len(), MESSAGE_BYTES_MAX)?;
        if reason.is_empty() {
            return Err(Refusal::Invalid("say by what it was found out".into()));
        }
        let run = self.known_run(key.run)?;
        let task = run
            .steps
            .get(usize::from(key.step))
            .and_then(|step| step.tasks.get(key.item as usize));
        let Some(task) = task else {
            return Err(not_found("task", &format!("{}/{}", key.step, key.item)));
        };
        if task.status != TaskStatus::Unknown {
            return Err(Refusal::State(format!(
                "the task is {}: only what is unknown is settled",
                task.status.as_str()
            )));
        }
        if run.rollback_word() == "running" {
            return Err(Refusal::State(format!(
                "run {} is being rolled back, by what is known now: settle when that is over",
                key.run
            )));
        }
        let agent: Option<AgentId> = run.agent_of(key.step, key.item).cloned();
        let name = run.declared(key.step).name.clone();
        let said = if succeeded { "succeeded" } else { "failed" };
        let over = run.status.is_end();
        let before = task.size_bytes();
        self.with_run(key.run, turn, |run, around| {
            run.settle(key.step, key.item, succeeded, reason, around);
        });
        if over {
            self.runs.weigh_again(key, before);
        }
        let detail = json!({"step": name, "item": key.item, "agent": agent, "as": said, "reason": reason});
        self.record(turn, "task.settle", key.run.to_string(), &detail);
        Ok(Reply::Done)
    }

    pub(super) fn known_run(&self, id: RunId) -> Result<&Run, Refusal> {
        self.runs
            .get(&id)
            .ok_or_else(|| not_found("run", &id.to_string()))
    }
}

fn run_step_name(runs: &super::runs::Runs, id: RunId, step: u16) -> String {
    runs.get(&id)
        .map_or(String::new(), |run| run.declared(step).name.clone())
}

impl Run {
    /// Its status, as people read it.
    pub fn word(&self) -> &'static str {
        match self.status {
            _ if self.paused_at.is_some() => "paused",
            status => status.as_str(),
        }
    }

    /// The task's clock stands still: it is in no agent's hands, and the run is paused.
    pub(crate) fn stands_still(&self, step: u16, item: u32) -> bool {
        let status = self.task(step, item).status;
        // The run that it began, or has rolled back, is paused too.
        let runs = self.begins_run(step) || self.undoes_runs(step);
        let in_a_run = status == TaskStatus::Started && runs;
        self.paused_at.is_some() && (in_a_run || matches!(status, TaskStatus::Waiting | TaskStatus::Backoff))
    }

    pub(super) fn pause(&mut self, around: &mut Around<'_>) {
        self.paused_at = Some(around.now);
        around.out.cascade.push(Cascade::Pause(self.id));
        for (timer, at) in self.still() {
            around.timers.change(timer, Some(at), None);
        }
        self.touch(around);
    }

    /// The run's clock goes on; nothing, if it does.
    pub(super) fn resume(&mut self, around: &mut Around<'_>) {
        let Some(since) = self.paused_at else { return };
        around.out.cascade.push(Cascade::Resume(self.id, since));
        let lost_ms = around.now.0 - since.0;
        for step in 0..self.steps.len() as u16 {
            let state = &mut self.steps[usize::from(step)];
            if state.is_timed() {
                state.due_at = state.due_at.map(|at| at.plus_ms(lost_ms));
            }
            for item in 0..state.tasks.len() as u32 {
                if !self.stands_still(step, item) {
                    continue;
                }
                let task = self.task_mut(step, item);
                // One that came to wait during the pause lost only the rest of it.
                let lost_ms = around.now.0 - since.max(task.queued_at).0;
                task.queued_at = task.queued_at.plus_ms(lost_ms);
                task.opened_at = task.opened_at.plus_ms(lost_ms);
                task.wake = task.wake.map(|at| at.plus_ms(lost_ms));
            }
        }
        self.deadline = self.deadline.map(|at| at.plus_ms(lost_ms));
        let still = self.still();
        self.paused_at = None;
        for (timer, at) in still {
            around.timers.change(timer, None, Some(at));
        }
        self.touch(around);
    }

    /// The deadlines that stand still while the run is paused.
    fn still(&self) -> Vec<(Timer, crate::time::Timestamp)> {
        let mut all: Vec<_> = self
            .deadline
            .map(|at| (Timer::Run(self.id), at))
            .into_iter()
            .collect();
        for step in 0..self.steps.len() as u16 {
            let state = &self.steps[usize::from(step)];
            if let Some(at) = state.due_at.filter(|_| state.is_timed()) {
                all.push((Timer::Step(self.id, step), at));
            }
            for (item, task) in (0u32..).zip(&state.tasks) {
                if let Some(at) = task.wake.filter(|_| self.stands_still(step, item)) {
                    all.push((Timer::Task(self.key(step, item)), at));
                }
            }
        }
        all
    }

    /// The steps whose tasks a person may have tried again.
    fn tried_again(&self) -> std::ops::Range<u16> {
        match self.undoes_something() {
            false => 0..self.manifest().steps.len() as u16,
            true => self.manifest().step_count()..self.steps.len() as u16,
        }
    }

    /// The steps that a retry opens again, each with the tasks that get another attempt. A step without any is
    /// one whose recorded end its tasks do not bear out (any more), or that failed before it had tasks.
    fn to_retry(&self, only: Option<u16>, unknown: bool, agents: &Agents) -> Vec<(u16, Vec<u32>)> {
        let mut all = Vec::new();
        for step in self.tried_again() {
            let state = &self.steps[usize::from(step)];
            if only.is_some_and(|only| only != step)
                || matches!(state.status, StepStatus::Waiting | StepStatus::Skipped)
            {
                continue;
            }
            let items: Vec<u32> = (0..state.tasks.len() as u32)
                .filter(|&item| {
                    let agent = agents.get_of(self, step, item);
                    let denied = !state.is_call() && agent.is_none_or(|agent| agent.revoked.is_some());
                    !denied && may_be_tried_again(self.task(step, item), unknown)
                })
                .collect();
            let counts = &state.counts;
            let clean = counts.failed + counts.expired + counts.cancelled + counts.unknown == 0;
            let unfounded = matches!(state.status, StepStatus::Failed | StepStatus::Unknown) && clean;
            if !items.is_empty() || unfounded {
                all.push((step, items));
            }
        }
        all
    }

    /// Opens these steps again, and undecides what was decided because of how they ended.
    fn retry(&mut self, again: &[(u16, Vec<u32>)], around: &mut Around<'_>) {
        self.reopened_at = around.index;
        let steps = self.manifest.steps.len();
        for (step, items) in again {
            let state = &mut self.steps[usize::from(*step)];
            if state.tasks.is_empty() {
                state.begin_again();
                continue;
            }
            state.status = StepStatus::Running;
            state.ended_at = None;
            state.reason.clear();
            state.stopped = false;
            (state.due_at, state.due) = (None, false);
            for &item in items {
                self.try_again(*step, item, around);
            }
            self.ask_approval(*step, around);
        }
        if self.undoes_something() {
            if self.status.is_end() {
                self.roll_back(around);
            }
            self.touch(around);
            return;
        }
        let finally = steps..usize::from(self.manifest.step_count());
        for (number, state) in self.steps.iter_mut().enumerate() {
            let undecided = state.status == StepStatus::Skipped && state.tasks.is_empty();
            if state.status.is_end() && (undecided || finally.contains(&number)) {
                state.begin_again();
            }
        }
        self.follow_again();
        let ended_badly =
            |state: &StepState| matches!(state.status, StepStatus::Failed | StepStatus::Unknown);
        self.failed = (0..steps as u16)
            .any(|step| ended_badly(&self.steps[usize::from(step)]) && self.must_not_fail(step));
        if !self.failed {
            self.reason.clear();
        }
        if self.status.is_end() {
            self.status = RunStatus::Running;
            self.ended_at = None;
            self.outputs = None;
            self.deadline = self.manifest.limits.timeout_ms.map(|ms| around.now.plus_ms(ms));
            around.timers.change(Timer::Run(self.id), None, self.deadline);
        }
        self.touch(around);
    }

    /// A task that has ended waits again; its attempts are counted on.
    fn try_again(&mut self, step: u16, item: u32, around: &mut Around<'_>) {
        let key = self.key(step, item);
        let task = self.task_mut(step, item);
        (task.opened_at, task.queued_at) = (around.now, around.now);
        (task.started_at, task.ended_at) = (None, None);
        task.stop = None;
        task.late = false;
        let attempt = task.attempt;
        if let Some(agent) = self.agent_of(step, item).and_then(|id| around.agents.get_mut(id)) {
            agent.open.insert(key);
        }
        let code = "retried".to_owned();
        around.events.push(
            self.id,
            step,
            item,
            super::audit::TaskEvent::Retry { attempt, code },
        );
        if self.declared(step).gate.is_some() && self.task(step, item).token == 0 {
            // It never passed the gate, or never had to: people are asked.
            self.steps[usize::from(step)].set_status(item, TaskStatus::Gated);
            return;
        }
        self.wait_again(step, item, around);
    }

    fn settle(&mut self, step: u16, item: u32, succeeded: bool, reason: &str, around: &mut Around<'_>) {
        self.reopened_at = around.index;
        let (status, why) = if succeeded {
            (TaskStatus::Succeeded, None)
        } else {
            (TaskStatus::Failed, Some(Box::new(error("settled", reason))))
        };
        self.steps[usize::from(step)].set_status(item, status);
        let task = self.task_mut(step, item);
        task.error = why;
        let host = task.host;
        self.host_has_moved(step, host);
        self.touch(around);
    }
}

/// A person may give an ended task another attempt. One that was never made whole (its parameters could not be
/// rendered) has nothing to try.
fn may_be_tried_again(task: &Task, unknown: bool) -> bool {
    let code = task.error.as_ref().map_or("", |error| error.code.as_str());
    match task.status {
        TaskStatus::Failed => task.token > 0 || matches!(code, "denied" | "approval_expired"),
        TaskStatus::Cancelled => task.token > 0 || code == "step_failed",
        TaskStatus::Expired => true,
        TaskStatus::Unknown => unknown,
        _ => false,
    }
}
