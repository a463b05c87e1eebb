//! Steps that wait for an event: each goes on with the first that is for it, or ends with its time.

use playbook::manifest::Kind;
use serde_json::json;

use crate::command::NewEvent;
use crate::id::RunId;
use crate::state::State;
use crate::state::outbox::Around;
use crate::state::runs::{Run, RunStatus};
use crate::state::steps::StepStatus;
use crate::state::timers::Timer;

impl State {
    /// The steps that wait for an event, by run and number.
    pub fn waits(&self) -> impl Iterator<Item = (RunId, u16)> {
        self.active_runs().flat_map(|run| {
            let steps = 0..run.steps.len() as u16;
            steps
                .filter(|&step| run.is_waiting_for_event(step))
                .map(|step| (run.id, step))
        })
    }
}

impl Run {
    /// The step has begun to wait for an event, and its time is not over.
    pub(crate) fn is_waiting_for_event(&self, step: u16) -> bool {
        let state = &self.steps[usize::from(step)];
        state.status == StepStatus::Running && !state.due && self.is_wait(step)
    }

    /// The step is a `wait_event`.
    pub(crate) fn is_wait(&self, step: u16) -> bool {
        matches!(self.declared(step).kind, Kind::WaitEvent { .. })
    }

    /// A step begins to wait; false: it cannot (any more).
    pub(super) fn listen(&mut self, step: u16, around: &mut Around<'_>) -> bool {
        let over = self.failed || self.status != RunStatus::Running;
        let Kind::WaitEvent { expires_ms, .. } = self.declared(step).kind else {
            return false;
        };
        let id = self.id;
        let finally = self.is_finally(step);
        let state = &mut self.steps[usize::from(step)];
        if state.status != StepStatus::Waiting || state.is_timed() || (over && !finally) {
            return false;
        }
        let due_at = around.now.plus_ms(expires_ms);
        state.status = StepStatus::Running;
        state.started_at = Some(around.now);
        (state.due_at, state.due) = (Some(due_at), false);
        around.timers.change(Timer::Step(id, step), None, Some(due_at));
        true
    }

    /// An event is for a step; false: it waits no more.
    pub(super) fn hear(&mut self, step: u16, event: &NewEvent, around: &mut Around<'_>) -> bool {
        if usize::from(step) >= self.steps.len() || !self.is_waiting_for_event(step) {
            return false;
        }
        self.steps[usize::from(step)].output = Some(event.text.clone());
        self.end_step(step, StepStatus::Succeeded, "", around);
        let name = &self.declared(step).name;
        let detail = json!({"step": name, "status": "succeeded", "reason": "", "event": event.sha256});
        around.events.note("step.end", self.id, detail);
        self.touch(around);
        true
    }

    /// Nothing will follow from what a step waits for.
    pub(super) fn stop_waiting(&mut self, step: u16, reason: &str, around: &mut Around<'_>) {
        if self.steps[usize::from(step)].status != StepStatus::Running || !self.is_wait(step) {
            return;
        }
        self.end_step(step, StepStatus::Cancelled, reason, around);
        let name = &self.declared(step).name;
        let detail = json!({"step": name, "status": "cancelled", "reason": reason});
        around.events.note("step.end", self.id, detail);
    }
}
