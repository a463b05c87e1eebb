//! What one run needs next: from its state, as far as decisions go without waiting for the log.
//!
//! A plan works on the applied state and, on top, what it has itself decided: so one command closes a step,
//! opens those that needed it and assigns their tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use playbook::canonical::canonical_json;
use playbook::manifest::{Kind, Need, NeedState};
use serde_json::{Map, Value};

use super::ALL_RULED_OUT;
use super::decision::{Decision, Verdict};
use super::scope::Sources;
use crate::command::TaskError;
use crate::state::groups;
use crate::state::tasks::{TaskCounts, TaskStatus};
use crate::state::{Run, RunStatus, State, StepStatus};

/// Why a step fails that waited for an event.
const WAITED_IN_VAIN: &str = "expired: no event came in time";

/// A run and what is decided about it.
pub(super) struct Plan<'a> {
    pub state: &'a State,
    pub run: &'a Run,
    pub decisions: Vec<Decision>,
    /// The steps' statuses, as decided.
    statuses: Vec<StepStatus>,
    /// What decided `decide`s give.
    pub outputs: BTreeMap<u16, Arc<str>>,
    /// What judged tasks become.
    pub verdicts: BTreeMap<(u16, u32), Verdict>,
    /// Steps about which nothing more can be decided before the log has what was.
    held: BTreeSet<u16>,
    failed: bool,
    /// What undoes the run is not in the log yet: it does not end before that.
    undoing: bool,
}

/// Which rule of a `decide` that has ended held, counted from 0; None where none did. What it read has ended before
/// it, so that asked again it says the same.
pub(super) fn decided_by(state: &State, run: &Run, step: u16) -> Option<usize> {
    let Kind::Decide { rules } = &run.manifest().step(step)?.kind else {
        return None;
    };
    if run.steps.get(usize::from(step))?.status != StepStatus::Succeeded {
        return None;
    }
    Plan::new(state, run)
        .decided(rules)
        .ok()
        .map(|(number, _)| number)
}

/// What the run needs next.
pub(super) fn plan_run(state: &State, run: &Run) -> Vec<Decision> {
    let mut plan = Plan::new(state, run);
    if run.paused_at.is_some() {
        // What comes in is judged, so that it is known; what it means for the run waits.
        (0..run.steps.len() as u16).for_each(|step| plan.judge(step));
        return plan.decisions;
    }
    // Each pass that goes on has ended at least one step more.
    while plan.pass() {}
    plan.end();
    plan.decisions
}

impl<'a> Plan<'a> {
    pub(super) fn new(state: &'a State, run: &'a Run) -> Plan<'a> {
        Plan {
            state,
            run,
            decisions: Vec::new(),
            statuses: run.steps.iter().map(|step| step.status).collect(),
            outputs: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            held: BTreeSet::new(),
            failed: run.failed,
            undoing: false,
        }
    }

    pub(super) fn status(&self, step: u16) -> StepStatus {
        self.statuses[usize::from(step)]
    }

    /// Looks at every step once; true: one ended, so that others may be ready.
    fn pass(&mut self) -> bool {
        let steps = self.run.manifest().steps.len() as u16;
        let mut ended = false;
        for step in 0..steps {
            ended |= self.look(step);
        }
        if !ended && (0..steps).all(|step| self.status(step).is_end()) {
            if self.may_undo() {
                // By what the log knows: what ended only now is looked at when it is there.
                let known = self.run.steps[..usize::from(steps)]
                    .iter()
                    .all(|step| step.status.is_end());
                self.undoing = !known || self.plan_undo();
                if self.undoing {
                    return false;
                }
            }
            let finally = self.run.manifest().step_count();
            let mut last = (finally..self.statuses.len() as u16).chain(steps..finally);
            let next = last.find(|&step| !self.status(step).is_end());
            ended |= next.is_some_and(|step| self.look(step));
        }
        ended
    }

    /// Decides what can be decided about a step; true: it ended.
    fn look(&mut self, step: u16) -> bool {
        if self.held.contains(&step) {
            return false;
        }
        match self.status(step) {
            StepStatus::Waiting => self.look_at_waiting(step),
            StepStatus::Running => self.look_at_running(step),
            _ => false,
        }
    }

    fn look_at_waiting(&mut self, step: u16) -> bool {
        let declared = self.run.declared(step);
        if !self.run.is_finally(step) {
            if self.failed {
                return self.close(step, StepStatus::Skipped, "the run has failed");
            }
            match self.needs(step) {
                Needs::Open => return false,
                Needs::Never(why) => return self.close(step, StepStatus::Skipped, &why),
                Needs::Hold => {}
            }
        }
        let state = &self.run.steps[usize::from(step)];
        if declared.delay_ms > 0 && !state.due {
            if state.due_at.is_none() {
                // What will be skipped is not waited for.
                if self.is_ruled_out(step) {
                    return true;
                }
                self.decisions.push(Decision::Delay {
                    run: self.run.id,
                    step,
                });
            }
            self.hold(step);
            return false;
        }
        self.begin(step)
    }

    fn needs(&self, step: u16) -> Needs {
        let mut all = Needs::Hold;
        let declared = self.run.declared(step);
        if declared.follows() && self.run.steps[usize::from(step)].free.is_empty() {
            all = match self.run.has_followed(step) {
                true => return Needs::Never(self.nobody_came(step)),
                false => Needs::Open,
            };
        }
        for need in declared.needs.iter().filter(|need| !need.by_host) {
            let name = &self.run.declared(need.step).name;
            let status = self.status(need.step);
            if !status.is_end() {
                // Another need may say already that it never will be.
                all = Needs::Open;
                continue;
            }
            let holds = match need.state {
                NeedState::Done => true,
                NeedState::Succeeded => status == StepStatus::Succeeded,
                NeedState::Failed => status == StepStatus::Failed,
            };
            if !holds {
                return Needs::Never(format!("it needs {name}, which {}", how_it_ended(status)));
            }
        }
        all
    }

    /// Why a step never begins that follows others, on none of whose hosts they let it.
    fn nobody_came(&self, step: u16) -> String {
        let needs = self.run.followed(step).map(|need| {
            let name = &self.run.declared(need.step).name;
            let other = &self.run.steps[usize::from(need.step)];
            match (need.state, other.tasks.is_empty()) {
                (_, true) => format!("{name}, which {}", how_it_ended(other.status)),
                (NeedState::Succeeded, false) => format!("{name}, which has succeeded on no host"),
                (NeedState::Failed, false) => format!("{name}, which has failed on no host"),
                (NeedState::Done, false) => format!("{name}, which has ended"),
            }
        });
        format!("it needs {}", needs.collect::<Vec<_>>().join(", and "))
    }

    fn look_at_running(&mut self, step: u16) -> bool {
        if self.run.is_question(step) {
            // People's answer ends it, or its time.
            return false;
        }
        if self.run.is_wait(step) {
            // An event ends it, or its time.
            let due = self.run.steps[usize::from(step)].due;
            return due && self.close(step, StepStatus::Failed, WAITED_IN_VAIN);
        }
        let state = &self.run.steps[usize::from(step)];
        self.judge(step);
        let counts = self.counts(step);
        let opened = state.tasks.len() as u32;
        let total = state.shared.as_ref().map_or(0, |shared| shared.total);
        let declared = self.run.declared(step);
        let strategy = &declared.strategy;
        let follows = declared.follows();
        let complete = state.is_complete() || (follows && (self.failed || self.run.has_followed(step)));
        let waits = match follows {
            true => state.free.is_empty() || self.is_about_to_fail(step),
            false => groups::is_between(strategy, total, opened),
        };
        if !complete && !waits {
            self.open_more(step, opened);
            return false;
        }
        if complete && counts.open() == 0 {
            let (status, reason) = self.outcome(step, &counts);
            return self.close(step, status, &reason);
        }
        if state.stopped {
            return false;
        }
        // What undoes is tried on every host, whatever becomes of it on others.
        let undoes = self.run.undoes(step).is_some();
        if !undoes
            && (counts.waiting + counts.gated > 0 || !complete)
            && let Some(reason) = self.objection(step, &counts)
        {
            self.decisions.push(Decision::Stop {
                run: self.run.id,
                step,
                reason,
            });
            self.hold(step);
            return false;
        }
        if counts.open() == 0 {
            // Hosts that a step follows with come by themselves.
            if !follows {
                self.next_group(step, opened);
            }
            return false;
        }
        let max = self.run.parallel_max(step);
        if !state.ready.is_empty() && counts.in_flight() < max {
            self.decisions.push(Decision::Assign {
                run: self.run.id,
                step,
            });
            self.hold(step);
        }
        false
    }

    /// What the step follows is stopped, and the run fails with it: no further host begins.
    fn is_about_to_fail(&self, step: u16) -> bool {
        let stops = |other: u16| {
            let decided =
                |decision: &Decision| matches!(decision, Decision::Stop { step, .. } if *step == other);
            self.run.steps[usize::from(other)].stopped || self.decisions.iter().any(decided)
        };
        let mut followed = self.run.followed(step).map(|need| need.step);
        followed.any(|other| self.run.must_not_fail(other) && stops(other))
    }

    /// Why no further task of a step is let go; None: nothing speaks against it.
    fn objection(&self, step: u16, counts: &TaskCounts) -> Option<String> {
        let strategy = &self.run.declared(step).strategy;
        match self.has_failed(step, counts) {
            Err(why) => return Some(why),
            Ok(true) => return Some(self.failure(step, counts)),
            Ok(false) => {}
        }
        let failed = counts.failed + counts.expired + counts.cancelled;
        let canary = groups::in_canary(strategy, counts.total());
        if canary && failed > 0 {
            return Some(format!("the canary: {}", self.failure(step, counts)));
        }
        // What may have been done is looked at by people before more of the kind is.
        let grouped = !self.run.steps[usize::from(step)].is_complete();
        (counts.unknown > 0 && (canary || (grouped && strategy.fail_when.is_none()))).then(|| {
            let (unknown, total) = (counts.unknown, counts.total());
            let of = if canary { "the canary: " } else { "" };
            format!("{of}{unknown} of {total} tasks may have been done")
        })
    }

    /// A group of the step's tasks has ended, and nothing speaks against the next one.
    fn next_group(&mut self, step: u16, opened: u32) {
        let state = &self.run.steps[usize::from(step)];
        if self.run.declared(step).strategy.soak_ms == 0 || state.due {
            self.open_more(step, opened);
            return;
        }
        if state.due_at.is_none() {
            self.decisions.push(Decision::Soak {
                run: self.run.id,
                step,
            });
        }
        self.hold(step);
    }

    /// How a step ends whose tasks all have.
    fn outcome(&self, step: u16, counts: &TaskCounts) -> (StepStatus, String) {
        let state = &self.run.steps[usize::from(step)];
        if self.run.status == RunStatus::Cancelling && !self.run.is_finally(step) && state.stopped {
            return if counts.unknown > 0 {
                (
                    StepStatus::Unknown,
                    format!(
                        "{} of {} tasks may have been done",
                        counts.unknown,
                        counts.total()
                    ),
                )
            } else {
                (StepStatus::Cancelled, "the run was cancelled".into())
            };
        }
        if state.stopped {
            return (StepStatus::Failed, state.reason.clone());
        }
        match self.has_failed(step, counts) {
            Err(why) => (StepStatus::Failed, why),
            Ok(true) => (StepStatus::Failed, self.failure(step, counts)),
            Ok(false) if counts.unknown > 0 && self.run.declared(step).strategy.fail_when.is_none() => (
                StepStatus::Unknown,
                format!(
                    "{} of {} tasks may have been done",
                    counts.unknown,
                    counts.total()
                ),
            ),
            Ok(false) if self.failed && self.is_cut_short(step) => {
                (StepStatus::Cancelled, "the run has failed".into())
            }
            Ok(false) if counts.total() > 0 && counts.skipped == counts.total() => {
                (StepStatus::Skipped, ALL_RULED_OUT.into())
            }
            Ok(false) => (StepStatus::Succeeded, String::new()),
        }
    }

    /// The step follows others, and hosts that might have come still do not any more.
    fn is_cut_short(&self, step: u16) -> bool {
        let state = &self.run.steps[usize::from(step)];
        let more = |need: &Need| !self.run.steps[usize::from(need.step)].status.is_end();
        self.run.declared(step).follows()
            && !state.is_complete()
            && (!state.free.is_empty() || self.run.followed(step).any(more))
    }

    /// Whether the step's rule of failure holds. What was cancelled though the run was not counts as failed.
    fn has_failed(&self, step: u16, counts: &TaskCounts) -> Result<bool, String> {
        let failed = counts.failed + counts.expired + counts.cancelled;
        let Some(rule) = &self.run.declared(step).strategy.fail_when else {
            return Ok(failed > 0);
        };
        let shared = self.run.steps[usize::from(step)].shared.as_ref();
        let total = match self.run.has_followed(step) {
            // Hosts that never came count no more.
            true => counts.total(),
            false => shared.map_or(0, |shared| shared.total),
        };
        let mut scope = self.scope(&Sources::of([rule]));
        for (name, count) in [
            ("failed", failed),
            ("ok", counts.succeeded),
            ("unknown", counts.unknown),
            ("total", total),
        ] {
            scope.bind(name, &Value::from(count));
        }
        scope.test(rule).map_err(|e| format!("expression: {e}"))
    }

    /// Why a step failed: how many tasks did, and the first of them.
    fn failure(&self, step: u16, counts: &TaskCounts) -> String {
        let failed = counts.failed + counts.expired + counts.cancelled;
        let first = (0..self.run.steps[usize::from(step)].tasks.len() as u32).find_map(|item| {
            let (status, error) = self.task_result(step, item);
            let failed = matches!(
                status,
                TaskStatus::Failed | TaskStatus::Expired | TaskStatus::Cancelled
            );
            let error = error.filter(|_| failed)?;
            let place = match (self.run.agent_of(step, item), &self.run.task(step, item).item) {
                (Some(agent), _) => agent.to_string(),
                (None, Some(item)) => short(item),
                (None, None) => return Some(format!("{}: {}", error.code, error.message)),
            };
            Some(format!("{place}: {}: {}", error.code, error.message))
        });
        let total = counts.total();
        match first {
            Some(first) if total == 1 && self.run.steps[usize::from(step)].is_call() => first,
            Some(first) => format!("{failed} of {total} tasks failed, the first on {first}"),
            None => format!("{failed} of {total} tasks failed"),
        }
    }

    /// The counts, with what is judged.
    fn counts(&self, step: u16) -> TaskCounts {
        let mut counts = self.run.steps[usize::from(step)].counts;
        for (&(_, item), verdict) in self.verdicts.range((step, 0)..=(step, u32::MAX)) {
            counts.running -= 1;
            *counts.of_mut(self.becomes(step, item, verdict)) += 1;
        }
        counts
    }

    fn becomes(&self, step: u16, item: u32, verdict: &Verdict) -> TaskStatus {
        match verdict {
            Verdict::Succeeded => TaskStatus::Succeeded,
            Verdict::Failed { again: true, .. } if self.run.may_retry(step, item, &self.state.agents) => {
                TaskStatus::Backoff
            }
            Verdict::Failed { .. } => TaskStatus::Failed,
        }
    }

    /// A task's status and error, with what is judged.
    pub(super) fn task_result(&self, step: u16, item: u32) -> (TaskStatus, Option<&TaskError>) {
        let task = self.run.task(step, item);
        let reported = task.error.as_deref();
        match self.verdicts.get(&(step, item)) {
            None => (task.status, reported),
            Some(verdict) => {
                let error = match verdict {
                    Verdict::Failed { error, .. } => error.as_ref().or(reported),
                    Verdict::Succeeded => None,
                };
                (self.becomes(step, item, verdict), error)
            }
        }
    }

    /// The step ends. Always true, as is `look` then.
    pub(super) fn close(&mut self, step: u16, status: StepStatus, reason: &str) -> bool {
        let output = self.outputs.get(&step).cloned();
        self.decisions.push(Decision::Close {
            run: self.run.id,
            step,
            status,
            reason: reason.to_owned(),
            output,
        });
        self.statuses[usize::from(step)] = status;
        self.failed |=
            matches!(status, StepStatus::Failed | StepStatus::Unknown) && self.run.must_not_fail(step);
        true
    }

    pub(super) fn hold(&mut self, step: u16) {
        self.held.insert(step);
    }

    pub(super) fn set_running(&mut self, step: u16) {
        self.statuses[usize::from(step)] = StepStatus::Running;
        self.hold(step);
    }

    /// Ends the run, once every step has.
    fn end(&mut self) {
        if self.undoing || !self.statuses.iter().all(|status| status.is_end()) {
            return;
        }
        let manifest = self.run.manifest().clone();
        let mut sources = Sources::default();
        manifest.outputs.values().for_each(|t| sources.add_template(t));
        let scope = self.scope(&sources);
        let mut outputs = Map::new();
        let mut problem = None;
        for (name, template) in &manifest.outputs {
            let value = scope.render(template).unwrap_or_else(|why| {
                problem.get_or_insert(format!("output {name}: {why}"));
                Value::Null
            });
            outputs.insert(name.clone(), value);
        }
        self.decisions.push(Decision::End {
            run: self.run.id,
            outputs: canonical_json(&Value::Object(outputs)).into(),
            problem,
        });
    }
}

/// As in "which has failed".
fn how_it_ended(status: StepStatus) -> String {
    let word = match status {
        StepStatus::Unknown => "is",
        StepStatus::Skipped | StepStatus::Cancelled => "was",
        _ => "has",
    };
    format!("{word} {}", status.as_str())
}

/// An item, as a failure names it.
fn short(item: &str) -> String {
    match item.char_indices().nth(60) {
        None => item.to_owned(),
        Some((end, _)) => format!("{}...", &item[..end]),
    }
}

/// Whether what a step needs has come to be.
enum Needs {
    Open,
    Hold,
    Never(String),
}
