//! The planner's decisions, checked against the run as it is now. What they were drawn from either cannot
//! change any more (the outcome of ended steps, unless people open one again: then all that was drawn before is
//! stale) or is checked here; a stale one changes nothing.

use std::sync::Arc;

use playbook::manifest::Gate;
use serde_json::json;

use crate::effect::Reply;
use crate::id::RunId;
use crate::limits::STEP_TASKS_MAX;
use crate::planner::{Born, Decision, Gated, NewTasks, Verdict};
use crate::state::groups;
use crate::state::outbox::Around;
use crate::state::runs::{Run, RunStatus, failure_of};
use crate::state::steps::{Shared, StepStatus};
use crate::state::tasks::{Task, TaskStatus};
use crate::state::timers::Timer;
use crate::state::{State, Turn};

impl State {
    pub(super) fn decide(&mut self, drawn_at: u64, decisions: &[Decision], turn: &mut Turn<'_>) -> Reply {
        let mut stale = 0;
        for decision in decisions {
            let id = decision.run();
            turn.out.planned.insert(id);
            let took = self
                .with_run(id, turn, |run, around| {
                    let fresh = !run.status.is_end() && run.reopened_at <= drawn_at;
                    let took = fresh && run.decide(decision, around);
                    if took {
                        run.touch(around);
                    }
                    took
                })
                .unwrap_or(false);
            if !took {
                stale += 1;
            } else if matches!(decision, Decision::End { .. }) {
                self.run_ended(id, turn);
            } else if let Decision::Close { step, status, .. } = decision {
                self.record_step_end(id, *step, *status, turn);
            } else if let Decision::Undo { steps, .. } = decision {
                self.record_undo(id, steps, turn);
            } else if let Decision::Listen { .. } = decision {
                self.listen_again(turn);
            }
        }
        Reply::Planned { stale }
    }

    fn record_step_end(&mut self, id: RunId, step: u16, status: StepStatus, turn: &Turn<'_>) {
        let Some(run) = self.runs.get(&id) else { return };
        let detail = json!({"step": run.declared(step).name, "status": status.as_str(), "reason": run.steps[usize::from(step)].reason});
        self.record(turn, "step.end", id.to_string(), &detail);
    }

    fn run_ended(&mut self, id: RunId, turn: &mut Turn<'_>) {
        self.runs.finish(id);
        let Some(run) = self.runs.get(&id) else { return };
        let detail = json!({"status": run.status.as_str(), "reason": run.reason});
        self.record(turn, "run.end", id.to_string(), &detail);
        self.child_ended(id, turn);
    }
}

impl Run {
    /// Carries a decision out; false: it is stale, and nothing changed.
    fn decide(&mut self, decision: &Decision, around: &mut Around<'_>) -> bool {
        if let Some(step) = decision.step()
            && usize::from(step) >= self.steps.len()
        {
            return false;
        }
        if self.paused_at.is_some() && !matches!(decision, Decision::Judge { .. }) {
            return false;
        }
        match decision {
            Decision::Delay { step, .. } => self.delay(*step, around),
            Decision::Soak { step, .. } => self.soak(*step, around),
            Decision::Open {
                step,
                shared,
                from,
                tasks,
                gated,
                ..
            } => self.open(*step, shared.as_ref(), *from, tasks, gated.as_ref(), around),
            Decision::Ask {
                step, text, defaults, ..
            } => self.ask_question(*step, text, defaults, around),
            Decision::Listen { step, .. } => self.listen(*step, around),
            Decision::Assign { step, .. } => {
                let state = &self.steps[usize::from(*step)];
                state.status == StepStatus::Running && !state.stopped && self.assign_ready(*step, around) > 0
            }
            Decision::Judge { step, verdicts, .. } => {
                let mut took = false;
                for (item, attempt, verdict) in verdicts {
                    took |= self.judge(*step, *item, *attempt, verdict, around);
                }
                took
            }
            Decision::Stop { step, reason, .. } => {
                let state = &mut self.steps[usize::from(*step)];
                if state.status != StepStatus::Running || state.stopped {
                    return false;
                }
                state.reason.clone_from(reason);
                self.stop_step(*step, "step_failed", around);
                true
            }
            Decision::Close {
                step,
                status,
                reason,
                output,
                ..
            } => self.close(*step, *status, reason, output.clone(), around),
            Decision::Undo { steps, .. } => self.append_undo(steps),
            Decision::End { outputs, problem, .. } => self.finish(outputs, problem, around),
        }
    }

    fn delay(&mut self, step: u16, around: &mut Around<'_>) -> bool {
        let delay_ms = self.declared(step).delay_ms;
        let id = self.id;
        let state = &mut self.steps[usize::from(step)];
        if state.status != StepStatus::Waiting || state.due_at.is_some() {
            return false;
        }
        let due_at = around.now.plus_ms(delay_ms);
        state.due_at = Some(due_at);
        around.timers.change(Timer::Step(id, step), None, Some(due_at));
        true
    }

    fn soak(&mut self, step: u16, around: &mut Around<'_>) -> bool {
        let soak_ms = self.declared(step).strategy.soak_ms;
        let id = self.id;
        if !self.is_between_groups(step) {
            return false;
        }
        let state = &mut self.steps[usize::from(step)];
        if state.stopped || state.due_at.is_some() {
            return false;
        }
        let due_at = around.now.plus_ms(soak_ms);
        state.due_at = Some(due_at);
        around.timers.change(Timer::Step(id, step), None, Some(due_at));
        true
    }

    /// The step's tasks are whole groups that have ended, and more are to come.
    fn is_between_groups(&self, step: u16) -> bool {
        let state = &self.steps[usize::from(step)];
        let total = state.shared.as_ref().map_or(0, |shared| shared.total);
        let strategy = &self.declared(step).strategy;
        state.status == StepStatus::Running
            && state.counts.open() == 0
            && groups::is_between(strategy, total, state.tasks.len() as u32)
    }

    /// Every task is there of the group that is let go next.
    pub(crate) fn is_group_whole(&self, step: u16) -> bool {
        let state = &self.steps[usize::from(step)];
        let total = state.shared.as_ref().map_or(0, |shared| shared.total);
        state.is_complete()
            || groups::is_between(&self.declared(step).strategy, total, state.tasks.len() as u32)
    }

    fn open(
        &mut self,
        step: u16,
        shared: Option<&Shared>,
        from: u32,
        tasks: &NewTasks,
        gated: Option<&Gated>,
        around: &mut Around<'_>,
    ) -> bool {
        let gate = self.declared(step).gate.clone();
        let over = self.status == RunStatus::Cancelling || self.failed;
        let follows = self.declared(step).follows();
        let begins = self.steps[usize::from(step)].status == StepStatus::Waiting;
        // A failed run lets what was begun go on, but no further host; a cancelled one does not.
        let refused = over && !self.is_finally(step) && (begins || follows || !self.failed);
        let strategy = self.declared(step).strategy.clone();
        let between = self.is_between_groups(step);
        let state = &mut self.steps[usize::from(step)];
        match (state.status, shared) {
            _ if refused || state.stopped || state.is_timed() => return false,
            // Whoever follows comes when it may, in no order.
            _ if follows && matches!(tasks, NewTasks::Hosts { .. }) => return false,
            (StepStatus::Waiting, Some(shared)) if from == 0 => {
                let has_set = shared.is_call() || self.targets.contains_key(&shared.set);
                if shared.total as usize > STEP_TASKS_MAX || !has_set {
                    return false;
                }
                state.shared = Some(shared.clone());
                state.status = StepStatus::Running;
                state.started_at = Some(around.now);
            }
            (StepStatus::Running, None) if from as usize == state.tasks.len() => {
                let total = state.shared.as_ref().map_or(0, |shared| shared.total);
                if groups::is_between(&strategy, total, from) && !between {
                    return false;
                }
            }
            _ => return false,
        }
        let shared = state
            .shared
            .as_ref()
            .expect("an open step has what its tasks share");
        let room = groups::group_end(&strategy, shared.total, from).saturating_sub(from);
        (state.due_at, state.due) = (None, false);
        let hosts = match shared.is_call() {
            true => shared.total,
            false => self.targets[&shared.set].len() as u32,
        };
        let is_gated = gated_items(gate.as_ref(), gated);
        let now = around.now;
        let make = |host: u32, item: u32| Task {
            status: if is_gated(item) {
                TaskStatus::Gated
            } else {
                TaskStatus::Waiting
            },
            ..Task::new(host, now)
        };
        match tasks {
            NewTasks::Hosts { count } => {
                for host in (from..hosts).take((*count).min(room) as usize) {
                    self.open_task(step, make(host, host), around);
                }
            }
            NewTasks::Each(tasks) => {
                for new in tasks.iter().take(room as usize) {
                    let came = !follows || self.steps[usize::from(step)].free.remove(&new.host);
                    if new.host >= hosts || !came {
                        continue;
                    }
                    let item = self.steps[usize::from(step)].tasks.len() as u32;
                    let mut task = make(new.host, item);
                    task.item.clone_from(&new.item);
                    task.parameters.clone_from(&new.parameters);
                    match &new.born {
                        None => {}
                        Some(Born::Skipped) => task.status = TaskStatus::Skipped,
                        Some(Born::Failed(why)) => {
                            task.status = TaskStatus::Failed;
                            task.error = Some(Box::new(why.clone()));
                        }
                    }
                    self.open_task(step, task, around);
                }
            }
        }
        let problem = gated.and_then(|gated| gated.problem.clone());
        self.steps[usize::from(step)].gate_problem = problem.unwrap_or_default();
        self.ask_approval(step, around);
        self.assign_ready(step, around);
        true
    }

    /// Hands out ready tasks, in order, as many as the step's `max_parallel` leaves room for.
    fn assign_ready(&mut self, step: u16, around: &mut Around<'_>) -> usize {
        if self.paused_at.is_some() {
            return 0;
        }
        let max = self.parallel_max(step);
        let state = &self.steps[usize::from(step)];
        let room = max.saturating_sub(state.counts.in_flight()) as usize;
        let ready: Vec<u32> = state.ready.iter().copied().take(room).collect();
        for &item in &ready {
            self.assign(step, item, around);
        }
        ready.len()
    }

    fn judge(
        &mut self,
        step: u16,
        item: u32,
        attempt: u32,
        verdict: &Verdict,
        around: &mut Around<'_>,
    ) -> bool {
        let Some(task) = self.steps[usize::from(step)].tasks.get(item as usize) else {
            return false;
        };
        if task.status != TaskStatus::Judging || task.attempt != attempt {
            return false;
        }
        let known = task.error.as_deref().cloned();
        match verdict {
            Verdict::Succeeded => self.end(step, item, TaskStatus::Succeeded, None, around),
            Verdict::Failed { error, again } => {
                let why = error
                    .clone()
                    .or(known)
                    .unwrap_or_else(|| super::life::error("failed", ""));
                self.fail(step, item, why, Some(*again), around);
            }
        }
        true
    }

    /// The end of a step, whose tasks all have; false: it cannot (any more).
    pub(super) fn close(
        &mut self,
        step: u16,
        status: StepStatus,
        reason: &str,
        output: Option<Arc<str>>,
        around: &mut Around<'_>,
    ) -> bool {
        let question = self.is_question(step);
        let state = &self.steps[usize::from(step)];
        let ready = match state.status {
            StepStatus::Waiting => true,
            StepStatus::Running if self.is_wait(step) => state.due,
            StepStatus::Running if question => around.approvals.waiting_ids(self.id, step).is_empty(),
            StepStatus::Running => {
                state.counts.open() == 0 && (state.is_complete() || self.has_followed(step))
            }
            _ => false,
        };
        if !ready || !status.is_end() {
            return false;
        }
        let state = &mut self.steps[usize::from(step)];
        state.started_at.get_or_insert(around.now);
        state.output = output;
        self.end_step(step, status, reason, around);
        if matches!(status, StepStatus::Failed | StepStatus::Unknown)
            && self.must_not_fail(step)
            && !self.failed
        {
            self.failed = true;
            self.drop_questions(around);
            if self.reason.is_empty() {
                self.reason = failure_of(&self.declared(step).name, status, reason);
            }
        }
        true
    }

    fn finish(&mut self, outputs: &Arc<str>, problem: &Option<String>, around: &mut Around<'_>) -> bool {
        if self.undo.wanted || !self.steps.iter().all(|step| step.status.is_end()) {
            return false;
        }
        if let Some(then) = self.undo.then.take() {
            self.status = then;
            self.ended_at = Some(around.now);
            return true;
        }
        self.status = match self.status {
            RunStatus::Cancelling => RunStatus::Cancelled,
            _ if self.failed => RunStatus::Failed,
            _ => match problem {
                Some(problem) => {
                    self.reason.clone_from(problem);
                    RunStatus::Failed
                }
                None => RunStatus::Succeeded,
            },
        };
        // The leader rendered it from JSON values: it parses.
        self.outputs = serde_json::from_str(outputs).ok().map(Arc::new);
        self.ended_at = Some(around.now);
        around.timers.change(Timer::Run(self.id), self.deadline, None);
        self.deadline = None;
        true
    }
}

/// Which new tasks wait for people. A gate without a condition holds all of them back, whatever the leader says.
fn gated_items<'a>(gate: Option<&'a Gate>, gated: Option<&'a Gated>) -> impl Fn(u32) -> bool + 'a {
    move |item| match gate {
        None => false,
        Some(gate) if gate.when.is_none() => true,
        // The ranges are in order: the last that begins at or before the item holds it, or none does.
        Some(_) => gated.is_some_and(|gated| {
            let after = gated.items.partition_point(|&(first, _)| first <= item);
            gated.items[..after].last().is_some_and(|&(_, last)| item <= last)
        }),
    }
}
