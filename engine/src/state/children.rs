//! Runs that runs begin: each attempt of a `playbook` step is a run of its own, the child of the run that began it.
//!
//! - The tasks of such a step are calls: assigned, they have begun. What each of them wants started is derived from the
//!   state ([`State::children_wanted`]); the leader draws it and proposes it, and `apply` takes one run for each attempt,
//!   as long as that attempt goes on. So a leader that is lost in between leaves nothing behind that another does not find,
//!   and two leaders that both propose it start it once.
//! - A task that waits ends in the apply in which its child does. One that does not has succeeded when the child began.
//! - Cancelling, pausing and resuming a run does the same to the children that go on, waited for or not, in the same
//!   apply; stopping a task cancels its child. From then on the child's own deadlines end the task, so its `finally` is
//!   waited for.
//! - A step that began runs is undone by a step that has them rolled back, each by its own steps, and waits for that.
//!
//! The tree only grows downwards and each level may have fewer below it than the one above, so that it ends
//! (docs/adr/0029-a-step-that-runs-a-playbook-is-a-run.md).

use std::collections::BTreeSet;

use playbook::manifest::{Kind, Over, Template};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::command::{Actor, Outcome, OutcomeStatus, StartChild, TaskError};
use crate::effect::Reply;
use crate::error::Refusal;
use crate::id::{AttemptKey, RunId, TaskKey};
use crate::limits::{DEPTH_MAX, MESSAGE_BYTES_MAX};
use crate::planner::Sources;
use crate::state::assignments::{Assignment, assignment_of};
use crate::state::life::error;
use crate::state::runs::{Run, RunStatus};
use crate::state::tasks::{Stop, Task, TaskStatus};
use crate::state::{State, Turn};
use crate::time::Timestamp;

/// The error of a task whose run failed.
pub const RUN_FAILED: &str = "run_failed";
/// The error of a task whose run was cancelled though the task was not.
pub const RUN_CANCELLED: &str = "run_cancelled";

/// The error of what undoes a task whose run was not rolled back, or not all of it.
pub const NOT_ROLLED_BACK: &str = "not_rolled_back";

/// Where a run comes from that a step of another one began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The attempt of the task that it is of.
    pub attempt: AttemptKey,
    /// How many runs are above it, at least 1.
    pub depth: u32,
    /// How many levels of runs may be below it.
    pub below: u32,
    /// How many runs the steps above it begin in the same way, at most: where the share of the fleet says how many people
    /// must agree, its hosts count so often.
    pub alike: u32,
    /// What hosts answered may have decided its inputs.
    pub from_results: bool,
}

/// What changed of a run that its children, or one of them, are told of.
#[derive(Debug)]
pub(crate) enum Cascade {
    /// It was cancelled, or what it did is to be undone after all.
    Cancel(RunId),
    /// It was paused.
    Pause(RunId),
    /// It goes on that was paused since then.
    Resume(RunId, Timestamp),
    /// The attempt is to stop.
    Stop(AttemptKey, Stop),
    /// The attempt has begun, which undoes a task that began runs.
    Undo(AttemptKey),
}

impl State {
    /// What the leader has to begin runs for: the attempts that have begun none yet. Nothing, while the run is paused.
    pub fn children_wanted(&self, run: &RunId) -> Vec<Assignment> {
        match self.runs.get(run).is_some_and(|run| run.paused_at.is_some()) {
            true => Vec::new(),
            false => self.children_open(run),
        }
    }

    /// The attempts that go on and have begun no run, paused or not. Costs what the run's calls are many.
    pub fn children_open(&self, run: &RunId) -> Vec<Assignment> {
        let Some(run) = self.runs.get(run) else {
            return Vec::new();
        };
        let steps = (0u16..).zip(&run.steps).filter(|(step, _)| run.begins_run(*step));
        steps
            .flat_map(|(step, state)| state.calls.iter().map(move |item| run.attempt(step, *item)))
            .filter(|key| !self.runs.children.contains_key(key))
            .filter_map(|key| assignment_of(run, key.task, run.task(key.task.step, key.task.item)))
            .collect()
    }

    /// The run that an attempt began.
    pub fn child_of(&self, attempt: &AttemptKey) -> Option<&Run> {
        self.runs.children.get(attempt).and_then(|id| self.runs.get(id))
    }

    /// The runs that the attempts of a task began, the first attempt's first.
    pub fn children_of_task(&self, task: TaskKey) -> impl Iterator<Item = &Run> {
        let at = |attempt, token| AttemptKey { task, attempt, token };
        self.children_within(at(0, 0)..=at(u32::MAX, u64::MAX))
    }

    /// The runs that a run began, in the order of its steps and their tasks.
    pub fn children(&self, run: RunId) -> impl Iterator<Item = &Run> {
        let at = |step, item, attempt, token| {
            let task = TaskKey { run, step, item };
            AttemptKey { task, attempt, token }
        };
        self.children_within(at(0, 0, 0, 0)..=at(u16::MAX, u32::MAX, u32::MAX, u64::MAX))
    }

    fn children_within(&self, range: std::ops::RangeInclusive<AttemptKey>) -> impl Iterator<Item = &Run> {
        let ids = self.runs.children.range(range).map(|(_, id)| id);
        ids.filter_map(|id| self.runs.get(id))
    }

    /// A run with those above it: what they claim is in the way of none of them.
    pub fn line_of(&self, run: RunId) -> BTreeSet<RunId> {
        let above = |run: &Run| Some(self.runs.get(&run.parent?.attempt.task.run)?.id);
        let next = |id: &RunId| above(self.runs.get(id)?);
        std::iter::successors(Some(run), next)
            .take(DEPTH_MAX as usize + 1)
            .collect()
    }

    /// The run above all others in the tree of this one.
    pub fn root_of(&self, run: RunId) -> RunId {
        let mut root = run;
        for _ in 0..=DEPTH_MAX {
            match self.runs.get(&root).and_then(|run| run.parent) {
                Some(parent) => root = parent.attempt.task.run,
                None => break,
            }
        }
        root
    }

    /// An attempt that goes on and has begun no run, with its own run; or why it is no such thing.
    pub(crate) fn wants_child(&self, key: &AttemptKey) -> Result<&Run, String> {
        let run = self.runs.get(&key.task.run).ok_or("there is no such run")?;
        let step = run.steps.get(usize::from(key.task.step));
        let task = step
            .and_then(|step| step.tasks.get(key.task.item as usize))
            .filter(|_| run.begins_run(key.task.step))
            .ok_or("there is no such task that begins a run")?;
        if (task.attempt, task.token) != (key.attempt, key.token) {
            return Err(format!("attempt {} is not the current one", key.attempt));
        }
        if task.status != TaskStatus::Started || task.stop.is_some() {
            return Err(format!(
                "the attempt is over, or to stop: {}",
                task.status.as_str()
            ));
        }
        if run.paused_at.is_some() {
            return Err("the run is paused".to_owned());
        }
        match self.runs.children.get(key) {
            Some(child) => Err(format!("it has begun run {child}")),
            None => Ok(run),
        }
    }

    /// Starts the run that an attempt asks for.
    pub(super) fn start_child(&mut self, child: &StartChild, turn: &mut Turn<'_>) -> Result<Reply, Refusal> {
        if *turn.actor != Actor::Leader {
            return Err(Refusal::Invalid(
                "only the leader begins what steps ask for".into(),
            ));
        }
        let (key, start) = (child.attempt, &child.start);
        let above = self.wants_child(&key).map_err(Refusal::State)?;
        let declared = above.declared(key.task.step);
        let Kind::Playbook {
            name,
            version,
            wait,
            depth_max,
            ..
        } = &declared.kind
        else {
            return Err(Refusal::Invalid("the step begins no run".into()));
        };
        let manifest = &start.manifest;
        if manifest.playbook != *name || version.is_some_and(|version| version != manifest.version) {
            return Err(Refusal::Invalid(format!(
                "the step asks for the playbook {name}, not for {} version {}",
                manifest.playbook, manifest.version
            )));
        }
        let parent = above
            .parent_of_child(&key, *depth_max)
            .ok_or_else(|| Refusal::Invalid("runs are nested too deep".into()))?;
        let (wait, requester, name) = (*wait, above.requester.clone(), declared.name.clone());
        let reply = self.begin_run(start, requester, Some(parent), turn)?;
        let detail = json!({
            "step": name, "item": key.task.item, "attempt": key.attempt, "run": start.run,
            "playbook": manifest.playbook, "version": manifest.version,
        });
        turn.events.note("task.run", key.task.run, detail);
        if !wait {
            let output = json!({"run": start.run});
            self.end_attempt(&key, &ended(OutcomeStatus::Succeeded, output, None), turn);
        }
        turn.out.runs.insert(key.task.run);
        Ok(reply)
    }

    /// A run has ended: so has the task that waits for it.
    pub(super) fn child_ended(&mut self, id: RunId, turn: &mut Turn<'_>) {
        let Some((child, parent)) = self.runs.get(&id).and_then(|run| Some((run, run.parent?))) else {
            return;
        };
        let output = child.outputs.as_deref().cloned().unwrap_or(Value::Null);
        let why = |code: &str| {
            let reason = match child.reason.as_str() {
                "" => String::new(),
                reason => format!(": {reason}"),
            };
            Some(error(code, format!("run {id} {}{reason}", child.status.as_str())))
        };
        let outcome = match child.status {
            RunStatus::Succeeded => ended(OutcomeStatus::Succeeded, output, None),
            RunStatus::Cancelled => ended(OutcomeStatus::Cancelled, output, why(RUN_CANCELLED)),
            _ => ended(OutcomeStatus::Failed, output, why(RUN_FAILED)),
        };
        self.end_attempt(&parent.attempt, &outcome, turn);
        let above = self.runs.get(&parent.attempt.task.run);
        for undoing in above.map_or_else(Vec::new, |run| run.undoing(parent.attempt.task)) {
            self.end_undoing(&undoing, turn);
        }
    }

    /// The task that this attempt undoes began runs: those that go on are cancelled, and all are rolled back.
    fn undo_children(&mut self, key: &AttemptKey, turn: &mut Turn<'_>) {
        let Some(run) = self.runs.get(&key.task.run) else {
            return;
        };
        let Some(task) = run.undone_task(key.task.step, key.task.item) else {
            return;
        };
        let by = run.undo.asked_by.clone().or_else(|| Some(run.requester.clone()));
        let reason = format!("run {}, which began it, undoes its step", run.id);
        let children: Vec<_> = self
            .children_of_task(task)
            .map(|child| (child.id, child.status))
            .collect();
        for (child, status) in children {
            let untouched = |run: &Run| run.undo.asked_by.is_none() && !run.trimmed;
            if !status.is_end() {
                self.cancel_child(child, &reason, Some(by.clone()), turn);
            } else if self.runs.get(&child).is_some_and(untouched) {
                self.runs.reopen(child);
                self.with_run(child, turn, |run, around| {
                    run.want_undone(by.clone());
                    run.roll_back(around);
                });
                self.record(
                    turn,
                    "run.rollback",
                    child.to_string(),
                    &json!({"reason": reason}),
                );
            }
        }
        self.end_undoing(key, turn);
    }

    /// Ends such an attempt once all of those runs are over.
    fn end_undoing(&mut self, key: &AttemptKey, turn: &mut Turn<'_>) {
        let undone = self.runs.get(&key.task.run);
        let Some(task) = undone.and_then(|run| run.undone_task(key.task.step, key.task.item)) else {
            return;
        };
        if self.children_of_task(task).any(|child| !child.status.is_end()) {
            return;
        }
        let left = self.children_of_task(task).find_map(|child| {
            let (id, left) = (child.id, child.not_undone().join(", "));
            match child.rollback_word() {
                "succeeded" | "nothing" => None,
                "incomplete" => Some(format!(
                    "run {id} was rolled back, but for what nothing undoes: {left}"
                )),
                _ if child.trimmed => Some(format!(
                    "the tasks of run {id} were dropped to make room: what it did is no longer known"
                )),
                _ => Some(format!(
                    "the rollback of run {id} has failed: `cordon run retry` it, and then this"
                )),
            }
        });
        let outcome = match left {
            None => ended(OutcomeStatus::Succeeded, Value::Null, None),
            Some(why) => ended(
                OutcomeStatus::Failed,
                Value::Null,
                Some(error(NOT_ROLLED_BACK, why)),
            ),
        };
        self.end_attempt(key, &outcome, turn);
    }

    /// Ends an attempt that goes on; nothing, if it does not any more.
    fn end_attempt(&mut self, key: &AttemptKey, outcome: &Outcome, turn: &mut Turn<'_>) {
        let (step, item) = (key.task.step, key.task.item);
        self.with_run(key.task.run, turn, |run, around| {
            let task = run
                .steps
                .get(usize::from(step))
                .and_then(|state| state.tasks.get(item as usize));
            let is_current = |task: &Task| (task.attempt, task.token) == (key.attempt, key.token);
            if task.is_some_and(|task| task.status == TaskStatus::Started && is_current(task)) {
                run.conclude(step, item, outcome, around);
                run.touch(around);
            }
        });
    }

    /// Tells children what became of those above them, level by level, until nobody is left to tell.
    pub(super) fn cascade(&mut self, turn: &mut Turn<'_>) {
        while let Some(next) = turn.out.cascade.pop() {
            match next {
                Cascade::Cancel(id) => self.cancel_children(id, turn),
                Cascade::Pause(id) => self.pause_children(id, turn),
                Cascade::Resume(id, since) => self.resume_children(id, since, turn),
                Cascade::Stop(key, stop) => self.stop_child(&key, stop, turn),
                Cascade::Undo(key) => self.undo_children(&key, turn),
            }
        }
    }

    /// The children that go on, but for those of steps that run though the run is cancelled.
    fn active_children(&self, id: RunId, finally: bool) -> Vec<RunId> {
        let Some(run) = self.runs.get(&id) else {
            return Vec::new();
        };
        let of = |child: &Run| child.parent.map_or(0, |parent| parent.attempt.task.step);
        let children = self.children(id).filter(|child| !child.status.is_end());
        let children = children.filter(|child| finally || !run.is_finally(of(child)));
        children.map(|child| child.id).collect()
    }

    fn cancel_children(&mut self, id: RunId, turn: &mut Turn<'_>) {
        let Some(run) = self.runs.get(&id) else { return };
        let reason = bounded(format!("run {id}, which began it, was cancelled: {}", run.reason));
        let undo_by = run.undo.wanted.then(|| run.undo.asked_by.clone());
        for child in self.active_children(id, false) {
            self.cancel_child(child, &reason, undo_by.clone(), turn);
        }
    }

    fn cancel_child(
        &mut self,
        id: RunId,
        reason: &str,
        undo_by: Option<Option<String>>,
        turn: &mut Turn<'_>,
    ) {
        let Some(run) = self.runs.get(&id) else { return };
        let begins = run.status == RunStatus::Running;
        let goes_on = begins || run.status == RunStatus::Cancelling;
        let undoes = goes_on && undo_by.is_some() && run.undo.asked_by.is_none();
        if !begins && !undoes {
            return;
        }
        self.with_run(id, turn, |run, around| {
            if let Some(by) = undo_by.filter(|_| undoes) {
                run.want_undone(by);
                around.out.cascade.push(Cascade::Cancel(id));
            }
            run.cancel(reason, around);
            run.touch(around);
        });
        let mut detail = json!({"reason": reason});
        if undoes {
            detail["rollback"] = json!(true);
        }
        self.record(turn, "run.cancel", id.to_string(), &detail);
    }

    fn pause_children(&mut self, id: RunId, turn: &mut Turn<'_>) {
        for child in self.active_children(id, true) {
            let pausable = self.runs.get(&child).is_some_and(|run| {
                run.paused_at.is_none() && matches!(run.status, RunStatus::Running | RunStatus::RollingBack)
            });
            if pausable {
                self.with_run(child, turn, Run::pause);
                let reason = format!("run {id}, which began it, was paused");
                self.record(turn, "run.pause", child.to_string(), &json!({"reason": reason}));
            }
        }
    }

    /// Those that were paused with the run go on with it; one that people had paused before stays so.
    fn resume_children(&mut self, id: RunId, since: Timestamp, turn: &mut Turn<'_>) {
        for child in self.active_children(id, true) {
            if self
                .runs
                .get(&child)
                .is_some_and(|run| run.paused_at == Some(since))
            {
                self.with_run(child, turn, Run::resume);
                let paused_ms = self.now.0 - since.0;
                self.record(
                    turn,
                    "run.resume",
                    child.to_string(),
                    &json!({"paused_ms": paused_ms}),
                );
            }
        }
    }

    fn stop_child(&mut self, key: &AttemptKey, stop: Stop, turn: &mut Turn<'_>) {
        match self.runs.children.get(key).copied() {
            Some(child) => {
                let above = key.task.run;
                let reason = match (stop, self.runs.get(&above)) {
                    (Stop::Cancelled, Some(run)) if !run.reason.is_empty() => {
                        format!("run {above}, which began it, was cancelled: {}", run.reason)
                    }
                    _ => format!(
                        "run {above}, which began it, wants no more of it: {}",
                        stop.reason()
                    ),
                };
                self.cancel_child(child, &bounded(reason), None, turn);
            }
            None => {
                let why = error("cancelled", "its run was not begun");
                self.end_attempt(
                    key,
                    &ended(OutcomeStatus::Cancelled, Value::Null, Some(why)),
                    turn,
                );
            }
        }
    }
}

impl Run {
    /// The step's tasks begin runs.
    pub fn begins_run(&self, step: u16) -> bool {
        matches!(self.declared(step).kind, Kind::Playbook { .. }) && self.about(step).is_none()
    }

    /// The step's tasks have runs rolled back that another one's began.
    pub fn undoes_runs(&self, step: u16) -> bool {
        matches!(self.declared(step).kind, Kind::Playbook { .. }) && self.about(step).is_some()
    }

    /// The task that one of these undoes.
    pub(crate) fn undone_task(&self, step: u16, item: u32) -> Option<TaskKey> {
        let undo = self.undo_step(step)?;
        let undone = undo.each_item().nth(item as usize)?;
        Some(self.key(undo.of, undone))
    }

    /// The attempts that have the runs of this task rolled back, and go on.
    fn undoing(&self, task: TaskKey) -> Vec<AttemptKey> {
        let first = self.manifest().step_count();
        let steps = (first..self.steps.len() as u16).filter(|&step| self.undoes_runs(step));
        let of_task = |step: u16| {
            let undo = self.undo_step(step).filter(|undo| undo.of == task.step)?;
            let item = undo.each_item().position(|item| item == task.item)? as u32;
            let goes_on = self.steps[usize::from(step)].calls.contains(&item);
            goes_on.then(|| self.attempt(step, item))
        };
        steps.filter_map(of_task).collect()
    }

    /// The current attempt of a task.
    pub(crate) fn attempt(&self, step: u16, item: u32) -> AttemptKey {
        let task = self.task(step, item);
        AttemptKey {
            task: self.key(step, item),
            attempt: task.attempt,
            token: task.token,
        }
    }

    /// What is known of the run that an attempt may begin; None: it would be nested too deep.
    pub(crate) fn parent_of_child(&self, attempt: &AttemptKey, depth_max: u32) -> Option<Parent> {
        let step = attempt.task.step;
        let (depth, below, alike) = match &self.parent {
            None => (0, DEPTH_MAX, 1),
            Some(parent) => (parent.depth, parent.below, parent.alike),
        };
        let total = self.steps[usize::from(step)]
            .shared
            .as_ref()
            .map_or(1, |shared| shared.total);
        Some(Parent {
            attempt: *attempt,
            depth: depth + 1,
            below: below.min(depth_max).checked_sub(1)?,
            alike: alike.saturating_mul(total.max(1)),
            from_results: self.gives_results(step),
        })
    }

    /// What a step gives to the runs that it begins may be what hosts answered, or say of themselves.
    fn gives_results(&self, step: u16) -> bool {
        let declared = self.declared(step);
        let mut sources = Sources::default();
        if let Kind::Playbook { with, .. } = &declared.kind {
            with.values()
                .for_each(|template: &Template| sources.add_template(template));
        }
        if let Over::ForEach { list, .. } = &declared.over {
            sources.add(Some(list));
        }
        let inherited = self.parent.as_ref().is_some_and(|parent| parent.from_results);
        sources.has("steps") || (inherited && sources.has("inputs"))
    }
}

fn ended(status: OutcomeStatus, output: Value, error: Option<TaskError>) -> Outcome {
    Outcome {
        status,
        output,
        error,
    }
}

/// A reason that tells of another one, cut where that is needed.
fn bounded(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX)
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        text.truncate(end);
    }
    text
}
