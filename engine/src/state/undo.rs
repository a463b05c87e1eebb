//! Undo: what a run did is undone, step by step, the last to end first.
//!
//! What undoes a step is a step too: [`UndoStep`]s are the run's own, numbered behind those of the manifest, so that
//! everything that holds for tasks (keys, fencing, gates, deadlines, retries, the audit, resuming on another leader)
//! holds for theirs. The leader decides which there are, for `apply` looks into no catalogue; `apply` says which tasks
//! each of them is for. They run when no step is left, one after another, before `finally`; nothing undoes them, so no
//! rollback is rolled back.
//!
//! An older coordinator halts at the entries that make any of this ([`crate::codec`]), and refuses a snapshot that has
//! it ([`crate::snapshot`]); what was written before it knew nothing of undo is read as a run of which nothing is undone.

use std::collections::BTreeMap;

use playbook::manifest::{Kind, Step};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::effect::Reply;
use crate::error::Refusal;
use crate::id::RunId;
use crate::limits::{ACTIVE_RUNS_MAX, MESSAGE_BYTES_MAX, RUN_STEPS_MAX};
use crate::planner::NewUndo;
use crate::state::approvals::push_item;
use crate::state::children::Cascade;
use crate::state::enrolment::within;
use crate::state::outbox::Around;
use crate::state::runs::{Run, RunStatus};
use crate::state::steps::{StepState, StepStatus};
use crate::state::tasks::{Task, TaskStatus};
use crate::state::{State, Turn};

/// What is undone of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Undo {
    /// People asked that all of it be undone, and the leader has not said yet what that is.
    pub wanted: bool,
    /// Who asked for that last; None: nobody.
    pub asked_by: Option<String>,
    /// How the run had ended when that was asked: it ends so again.
    pub then: Option<RunStatus>,
    /// In the order in which they run; each has a [`StepState`] behind those of the manifest.
    pub steps: Vec<UndoStep>,
}

/// A step that undoes another, or tells that it failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UndoStep {
    /// The number of the step that it is about.
    pub of: u16,
    /// Which of its tasks are undone: inclusive ranges, in order. Each has its own task here, in the same order.
    pub items: Vec<(u32, u32)>,
    /// What it does. Its name has a dash in it, as no playbook's step does.
    pub declared: Step,
}

impl Undo {
    /// Nothing was undone, and nobody asked for it: such a run is written as if there were no undo.
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Undo::default()
    }
}

impl UndoStep {
    /// It undoes something; otherwise it tells.
    pub(crate) fn undoes(&self) -> bool {
        matches!(self.declared.kind, Kind::Do { .. } | Kind::Playbook { .. })
    }

    /// The items of the tasks that it undoes.
    pub(crate) fn each_item(&self) -> impl Iterator<Item = u32> {
        self.items.iter().flat_map(|&(first, last)| first..=last)
    }

    fn has(&self, item: u32) -> bool {
        let after = self.items.partition_point(|&(first, _)| first <= item);
        after > 0 && self.items[after - 1].1 >= item
    }
}

impl State {
    /// Undoes a run that is over, as it was when its revision was this.
    pub(super) fn rollback_run(
        &mut self,
        id: RunId,
        reason: &str,
        revision: u64,
        turn: &mut Turn<'_>,
    ) -> Result<Reply, Refusal> {
        within("bytes of the reason", reason.len(), MESSAGE_BYTES_MAX)?;
        let run = self.known_run(id)?;
        if run.trimmed {
            return Err(Refusal::State(format!(
                "the tasks of run {id} were dropped to make room: what it did is no longer known"
            )));
        }
        if !run.status.is_end() {
            return Err(Refusal::State(format!(
                "run {id} is {}: only what is over is rolled back, `run cancel --rollback` does both",
                run.word()
            )));
        }
        if run.revision != revision {
            return Err(Refusal::State(format!(
                "run {id} has changed since its rollback was looked at: look again"
            )));
        }
        within("active runs", self.runs.active().len() + 1, ACTIVE_RUNS_MAX)?;
        self.runs.reopen(id);
        let by = turn.actor.person();
        self.with_run(id, turn, |run, around| {
            run.want_undone(by);
            run.roll_back(around);
        });
        self.record(turn, "run.rollback", id.to_string(), &json!({"reason": reason}));
        Ok(Reply::Done)
    }

    /// Cancels a run that goes on, if nobody has, and has what it did undone before its `finally`.
    pub(super) fn cancel_and_roll_back(
        &mut self,
        id: RunId,
        reason: &str,
        turn: &mut Turn<'_>,
    ) -> Result<Reply, Refusal> {
        let run = self.cancellable(id, reason)?;
        if run.status == RunStatus::Cancelling && run.undo.asked_by.is_some() {
            return Ok(Reply::Done);
        }
        let by = turn.actor.person();
        self.with_run(id, turn, |run, around| {
            run.want_undone(by);
            run.cancel(reason, around);
            // It may have been cancelled before, and its children with it.
            around.out.cascade.push(Cascade::Cancel(id));
            run.touch(around);
        });
        let detail = json!({"reason": reason, "rollback": true});
        self.record(turn, "run.cancel", id.to_string(), &detail);
        Ok(Reply::Done)
    }

    /// The audit's word on what the leader found to undo, and on what nothing undoes.
    pub(super) fn record_undo(&mut self, id: RunId, new: &[NewUndo], turn: &Turn<'_>) {
        let Some(run) = self.runs.get(&id) else { return };
        let first = run.steps.len() - new.len();
        let steps: Vec<Value> = run.undo.steps[first - usize::from(run.manifest().step_count())..]
            .iter()
            .map(|undo| {
                let about = &run.declared(undo.of).name;
                json!({"step": undo.declared.name, "about": about, "tasks": undo.each_item().count()})
            })
            .collect();
        let detail = json!({"steps": steps, "not_undone": run.not_undone()});
        self.record(turn, "run.undo", id.to_string(), &detail);
    }
}

impl Run {
    /// The step of which this one undoes something; None: it undoes none.
    pub fn undoes(&self, step: u16) -> Option<u16> {
        self.undo_step(step)
            .filter(|undo| undo.undoes())
            .map(|undo| undo.of)
    }

    /// The step that this one undoes, or tells of; None: it is one of the manifest's.
    pub fn about(&self, step: u16) -> Option<u16> {
        self.undo_step(step).map(|undo| undo.of)
    }

    /// Something of it was undone, or is.
    pub(crate) fn undoes_something(&self) -> bool {
        self.undo.steps.iter().any(UndoStep::undoes)
    }

    pub(crate) fn undo_step(&self, step: u16) -> Option<&UndoStep> {
        let behind = usize::from(step).checked_sub(usize::from(self.manifest().step_count()))?;
        self.undo.steps.get(behind)
    }

    /// The number of the step with this name, those that undo others included.
    pub fn step_number(&self, name: &str) -> Option<u16> {
        self.manifest().step_number(name).or_else(|| {
            let mut undo = self.undo.steps.iter();
            let behind = undo.position(|undo| undo.declared.name == name)?;
            Some(self.manifest().step_count() + behind as u16)
        })
    }

    /// Who asked for what a step does: people who must agree to it are others.
    pub(crate) fn asked_by(&self, step: u16) -> &str {
        let by = self.undo.asked_by.as_ref();
        by.filter(|_| self.undoes(step).is_some())
            .unwrap_or(&self.requester)
    }

    /// The items of a step's tasks that did something, or may have, and that nothing undoes yet.
    pub(crate) fn to_undo(&self, of: u16) -> Vec<u32> {
        let by = self
            .undo
            .steps
            .iter()
            .filter(|undo| undo.of == of && undo.undoes());
        let by: Vec<_> = by.collect();
        (0u32..)
            .zip(&self.steps[usize::from(of)].tasks)
            .filter(|(_, task)| match self.begins_run(of) {
                // Whatever became of the attempts, their runs say what they did.
                true => task.token > 0,
                false => has_done(task) != Did::Nothing,
            })
            .filter(|(item, _)| !by.iter().any(|undo| undo.has(*item)))
            .map(|(item, _)| item)
            .collect()
    }

    /// The names of the steps that changed something which the rollback of the whole run leaves as it is.
    pub fn not_undone(&self) -> Vec<String> {
        if self.undo.asked_by.is_none() || self.undo.wanted || self.trimmed {
            return Vec::new();
        }
        let steps = (0..self.manifest().steps.len() as u16)
            .filter(|&step| self.has_changed_something(step) && !self.to_undo(step).is_empty());
        steps.map(|step| self.declared(step).name.clone()).collect()
    }

    /// What the step did is there afterwards: it did more than look, and take copies.
    pub(crate) fn has_changed_something(&self, step: u16) -> bool {
        let shared = self.steps[usize::from(step)].shared.as_ref();
        shared.is_some_and(|shared| shared.impact > catalogue::Impact::Collect)
    }

    /// How far its rollback is: empty, `running`, `nothing` (there was nothing to undo), `succeeded`, `failed` or
    /// `incomplete` (what could be undone was).
    pub fn rollback_word(&self) -> &'static str {
        let first = self.manifest().step_count();
        let mut all = (first..self.steps.len() as u16).filter(|&step| self.undoes(step).is_some());
        let status = |step: u16| self.steps[usize::from(step)].status;
        if self.undo.wanted || all.clone().any(|step| !status(step).is_end()) {
            return "running";
        }
        let (some, asked) = (all.clone().next().is_some(), self.undo.asked_by.is_some());
        match all.all(|step| status(step) == StepStatus::Succeeded) {
            false => "failed",
            true if !self.not_undone().is_empty() => "incomplete",
            true if some => "succeeded",
            true if asked => "nothing",
            true => "",
        }
    }

    /// What undoes is about steps and tasks of the run, each undone once. (The tasks of old runs are dropped.)
    pub(crate) fn undoes_what_is_there(&self) -> bool {
        let mut ranges: Vec<(u16, u32, u32)> = Vec::new();
        for undo in &self.undo.steps {
            ranges.extend(undo.items.iter().map(|&(first, last)| (undo.of, first, last)));
        }
        ranges.sort_unstable();
        let apart = |pair: &[(u16, u32, u32)]| pair[0].0 < pair[1].0 || pair[0].2 < pair[1].1;
        let there = |&(of, first, last): &(u16, u32, u32)| {
            let tasks = self.steps[usize::from(of)].tasks.len();
            first <= last && (self.trimmed || (last as usize) < tasks)
        };
        let of_main = |undo: &UndoStep| usize::from(undo.of) < self.manifest.steps.len();
        self.undo.steps.iter().all(of_main) && ranges.iter().all(there) && ranges.windows(2).all(apart)
    }

    pub(super) fn want_undone(&mut self, by: Option<String>) {
        self.undo.wanted = true;
        self.undo.asked_by = by.or_else(|| Some(self.requester.clone()));
    }

    /// A run that had ended goes on with what undoes it.
    pub(super) fn roll_back(&mut self, around: &mut Around<'_>) {
        self.reopened_at = around.index;
        self.undo.then = Some(self.status);
        self.status = RunStatus::RollingBack;
        self.ended_at = None;
        self.touch(around);
    }

    /// The leader has said what undoes the run, and who is told; false: it is stale.
    pub(super) fn append_undo(&mut self, new: &[NewUndo]) -> bool {
        let main = &self.steps[..self.manifest.steps.len()];
        if main.iter().any(|step| !step.status.is_end()) || self.steps.len() + new.len() > RUN_STEPS_MAX {
            return false;
        }
        let mut names = BTreeMap::new();
        let mut steps = Vec::with_capacity(new.len());
        for NewUndo { of, declared } in new {
            let name = &declared.name;
            let twice = names.insert(name, *of).is_some() || self.step_number(name).is_some();
            if usize::from(*of) >= self.manifest.steps.len() || twice {
                return false;
            }
            let mut step = UndoStep {
                of: *of,
                items: Vec::new(),
                declared: declared.clone(),
            };
            if step.undoes() {
                let items = self.to_undo(*of);
                items
                    .into_iter()
                    .for_each(|item| push_item(&mut step.items, item));
                if step.items.is_empty() {
                    return false;
                }
            }
            steps.push(step);
        }
        self.undo.wanted = false;
        self.steps.extend(steps.iter().map(|_| StepState::new()));
        self.undo.steps.extend(steps);
        true
    }
}

/// What a task left behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    Nothing,
    Perhaps,
    Surely,
}

/// Whether a task did what it was to do. One whose output was not liked has: it counts as failed, and is to be undone.
pub(crate) fn has_done(task: &Task) -> Did {
    let code = task.error.as_ref().map_or("", |error| error.code.as_str());
    match (task.status, code) {
        (TaskStatus::Succeeded, _) => Did::Surely,
        (TaskStatus::Failed, "expectation") if task.token > 0 => Did::Surely,
        (TaskStatus::Failed, "expression") if task.token > 0 => Did::Perhaps,
        (TaskStatus::Unknown, _) => Did::Perhaps,
        _ => Did::Nothing,
    }
}
