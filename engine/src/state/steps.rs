//! One step of a run: what its tasks share, and the tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::state::tasks::{Task, TaskCounts, TaskStatus};
use crate::time::Timestamp;

/// Where a step is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Its needs do not hold yet, or it waits for its delay.
    Waiting,
    /// It has tasks that have not ended, or is still being opened.
    Running,
    /// End: it did what it should.
    Succeeded,
    /// End: its rule of failure held.
    Failed,
    /// End: its condition was false, or something that it needs never came to be.
    Skipped,
    /// End: the run was cancelled before it was through.
    Cancelled,
    /// End: a task may have been done.
    Unknown,
}

impl StepStatus {
    /// Nothing more happens to the step.
    pub fn is_end(self) -> bool {
        self >= StepStatus::Succeeded
    }

    /// The name in the operators' API.
    pub fn as_str(self) -> &'static str {
        match self {
            StepStatus::Waiting => "waiting",
            StepStatus::Running => "running",
            StepStatus::Succeeded => "succeeded",
            StepStatus::Failed => "failed",
            StepStatus::Skipped => "skipped",
            StepStatus::Cancelled => "cancelled",
            StepStatus::Unknown => "unknown",
        }
    }
}

/// What the tasks of a step share, fixed by the leader when it opens the step. (The catalogue of
/// another build may differ, so `apply` never looks into its own.)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shared {
    /// How many tasks there will be, if it is not stopped before.
    pub total: u32,
    /// The target set that the tasks' hosts are positions of. Empty: they are calls, which the leader carries
    /// out itself.
    pub set: String,
    /// Of the action.
    pub impact: catalogue::Impact,
    /// Goes before collection and scans.
    pub urgent: bool,
    /// How long an attempt may run.
    pub attempt_ms: u64,
    /// The parameters, JSON, of every task that has none of its own.
    #[serde(default)]
    pub parameters: Option<Arc<str>>,
}

impl Shared {
    /// The tasks are carried out by the leader, on no host.
    pub fn is_call(&self) -> bool {
        self.set.is_empty()
    }
}

/// A step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepState {
    /// Where it is in its life.
    pub status: StepStatus,
    /// Why it ended so; empty where it succeeded.
    pub reason: String,
    /// When the first task was made, or it ended without one.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When its delay is over; set once its needs hold, where it has a delay. Of a running step: when the next
    /// group of its tasks may be opened; set once the group before has ended, where the strategy has a `soak`.
    pub due_at: Option<Timestamp>,
    /// That time has come.
    pub due: bool,
    /// Its rule of failure held early: nothing more is assigned.
    pub stopped: bool,
    /// The greatest number of an attempt that its tasks had when it began again: they count on from here, and have
    /// all the attempts that the playbook allows.
    #[serde(default)]
    pub attempts_before: u32,
    /// A `decide`'s output, JSON.
    pub output: Option<Arc<str>>,
    /// Set when it is opened.
    pub shared: Option<Shared>,
    /// Why the gate's condition could not be evaluated for some of its tasks, which wait for that; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gate_problem: String,
    /// By item.
    pub tasks: Vec<Task>,
    /// How many tasks are where; stays when old tasks are dropped.
    pub counts: TaskCounts,
    /// Derived: waiting tasks whose agents have a session.
    #[serde(skip)]
    pub ready: BTreeSet<u32>,
    /// Derived: calls that the leader has to carry out.
    #[serde(skip)]
    pub calls: BTreeSet<u32>,
    /// Derived: tasks that are judged.
    #[serde(skip)]
    pub judging: BTreeSet<u32>,
    /// Derived: hosts that may go on with a step that follows others, and have not.
    #[serde(skip)]
    pub free: BTreeSet<u32>,
    /// Derived: the items on hosts, where a step over hosts has its tasks in another order than they.
    #[serde(skip)]
    pub items: BTreeMap<u32, u32>,
}

impl StepState {
    /// A step that waits.
    pub fn new() -> StepState {
        StepState {
            status: StepStatus::Waiting,
            reason: String::new(),
            started_at: None,
            ended_at: None,
            due_at: None,
            due: false,
            stopped: false,
            attempts_before: 0,
            output: None,
            shared: None,
            gate_problem: String::new(),
            tasks: Vec::new(),
            counts: TaskCounts::default(),
            ready: BTreeSet::new(),
            calls: BTreeSet::new(),
            judging: BTreeSet::new(),
            free: BTreeSet::new(),
            items: BTreeMap::new(),
        }
    }

    /// Its tasks are carried out by the leader, on no host.
    pub fn is_call(&self) -> bool {
        self.shared.as_ref().is_some_and(Shared::is_call)
    }

    /// Every task that it will have is there.
    pub fn is_complete(&self) -> bool {
        let all = |shared: &Shared| self.counts.total() >= shared.total;
        self.shared
            .as_ref()
            .is_some_and(|shared| self.stopped || all(shared))
    }

    /// Its delay, or the pause between two groups of its tasks, goes on.
    pub(crate) fn is_timed(&self) -> bool {
        !self.status.is_end() && self.due_at.is_some() && !self.due
    }

    /// The greatest number of an attempt that any of its tasks, past ones included, has had.
    pub(crate) fn attempts_max(&self) -> u32 {
        let attempts = self.tasks.iter().map(|task| task.attempt);
        attempts.max().unwrap_or(0).max(self.attempts_before)
    }

    /// It waits again, as if it had never begun, but for the numbers of its attempts.
    pub(crate) fn begin_again(&mut self) {
        *self = StepState {
            attempts_before: self.attempts_max(),
            ..StepState::new()
        };
    }

    /// Moves a task from one status to another in the counts and indexes; the only way to do it.
    pub(crate) fn set_status(&mut self, item: u32, to: TaskStatus) {
        let task = &mut self.tasks[item as usize];
        let from = std::mem::replace(&mut task.status, to);
        *self.counts.of_mut(from) -= 1;
        *self.counts.of_mut(to) += 1;
        if self.is_call() {
            match (from, to) {
                (_, TaskStatus::Started) => self.calls.insert(item),
                (TaskStatus::Started, _) => self.calls.remove(&item),
                _ => false,
            };
        }
        if from == TaskStatus::Judging {
            self.judging.remove(&item);
        }
        if to == TaskStatus::Judging {
            self.judging.insert(item);
        }
        if from == TaskStatus::Waiting {
            self.ready.remove(&item);
        }
    }

    /// Adds a task behind the others.
    pub(crate) fn push(&mut self, task: Task) {
        *self.counts.of_mut(task.status) += 1;
        self.tasks.push(task);
    }
}

impl Default for StepState {
    fn default() -> Self {
        StepState::new()
    }
}
