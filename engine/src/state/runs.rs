//! Runs: plans that are carried out, and the manifests that they follow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, LazyLock};

use playbook::manifest::{Kind, Manifest, OnFailure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::command::TaskError;
use crate::id::{AgentId, AttemptKey, Digest, RunId, TaskKey, TriggerId};
use crate::limits::{CALLS_PARALLEL_DEFAULT, FINISHED_TASK_BYTES_MAX};
use crate::state::children::Parent;
use crate::state::claims::Claims;
use crate::state::steps::{StepState, StepStatus};
use crate::state::tasks::Task;
use crate::state::undo::Undo;
use crate::time::Timestamp;

/// Where a run is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Its steps go on, or its `finally`.
    Running,
    /// It was cancelled, and what it began has not all ended.
    Cancelling,
    /// It had ended, and what it did is being undone.
    RollingBack,
    /// End: every step did what it should (or may fail).
    Succeeded,
    /// End: a step that must not fail did.
    Failed,
    /// End: it was cancelled, or took longer than its limit.
    Cancelled,
}

impl RunStatus {
    /// Nothing more happens to the run.
    pub fn is_end(self) -> bool {
        self >= RunStatus::Succeeded
    }

    /// The name in the operators' API.
    pub fn as_str(self) -> &'static str {
        match self {
            RunStatus::Running => "running",
            RunStatus::Cancelling => "cancelling",
            RunStatus::RollingBack => "rolling_back",
            RunStatus::Succeeded => "succeeded",
            RunStatus::Failed => "failed",
            RunStatus::Cancelled => "cancelled",
        }
    }
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its name.
    pub id: RunId,
    /// What it follows. Encoded once per hash, not per run.
    #[serde(skip, default = "no_manifest")]
    pub(crate) manifest: Arc<Manifest>,
    /// SHA-256 of the manifest.
    pub manifest_hash: Digest,
    /// Names everything that was fixed when it was started; approvals are bound to it. None: it was started before
    /// there were plan hashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_hash: Option<Digest>,
    /// Who asked for it.
    pub requester: String,
    /// Bound and checked: an object.
    pub inputs: Arc<Value>,
    /// Frozen, each sorted.
    pub targets: BTreeMap<String, Vec<AgentId>>,
    /// The cluster's named constants, as they were.
    pub config: Arc<Value>,
    /// The event that triggered it; null: a person started it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub event: Arc<Value>,
    /// What a threshold counted; null: none triggered it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub group: Arc<Value>,
    /// The trigger that set it off; None: a person started it, or another run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Box<SetOff>>,
    /// Where it is in its life.
    pub status: RunStatus,
    /// A step that must not fail did: no further step starts.
    pub failed: bool,
    /// Why it failed or was cancelled; empty otherwise.
    pub reason: String,
    /// When it was started.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When its timeout cancels it.
    pub deadline: Option<Timestamp>,
    /// Its outputs, evaluated when it ended: an object.
    pub outputs: Option<Arc<Value>>,
    /// The log index of its last change: grows with every one.
    pub revision: u64,
    /// By number: `finally` behind the others, and behind it what undoes them.
    pub steps: Vec<StepState>,
    /// What is undone of it.
    #[serde(default, skip_serializing_if = "Undo::is_nothing")]
    pub undo: Undo,
    /// The tasks were dropped to make room; counts and outputs stay.
    pub trimmed: bool,
    /// Since when it is paused; only a run that is `Running` can be.
    #[serde(default)]
    pub paused_at: Option<Timestamp>,
    /// The log index at which people last changed an end: decisions drawn before are stale.
    #[serde(default)]
    pub(crate) reopened_at: u64,
    /// The step of another run that began it; None: people did, or an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// What no other run may hold while this one is active.
    #[serde(default, skip_serializing_if = "Claims::is_nothing")]
    pub claims: Claims,
}

/// What set a run off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetOff {
    /// Which trigger.
    pub by: TriggerId,
    /// When it fired.
    pub at: Timestamp,
    /// SHA-256 of the event as it came in, or of what the group says.
    pub sha256: Digest,
    /// The event as it came in, unless it was handed in as a file or is a group; None too once the run's tasks were dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Arc<str>>,
}

static NO_MANIFEST: LazyLock<Arc<Manifest>> = LazyLock::new(|| {
    Arc::new(Manifest {
        format: 0,
        playbook: String::new(),
        version: 0,
        info: Value::Null,
        triggers: Vec::new(),
        inputs: BTreeMap::new(),
        limits: Default::default(),
        targets: BTreeMap::new(),
        steps: Vec::new(),
        finally: Vec::new(),
        outputs: BTreeMap::new(),
    })
});

/// Stands in while a snapshot is read.
fn no_manifest() -> Arc<Manifest> {
    NO_MANIFEST.clone()
}

/// A task, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskView<'a> {
    /// The step's number.
    pub step: u16,
    /// The step's name.
    pub step_name: &'a str,
    /// The action's name.
    pub action: &'a str,
    /// Of the action.
    pub impact: catalogue::Impact,
    /// Index within the fan-out.
    pub item: u32,
    /// Where it runs.
    pub agent: Option<&'a AgentId>,
    /// Everything else.
    pub task: &'a Task,
}

impl TaskView<'_> {
    /// `waiting`, `assigned`, `running` or an end.
    pub fn status(&self) -> &'static str {
        self.task.status.as_str()
    }

    /// How many times it was assigned.
    pub fn attempts(&self) -> u32 {
        self.task.attempt
    }

    /// JSON.
    pub fn output(&self) -> Option<&str> {
        self.task.output.as_deref()
    }

    /// Why it did not succeed.
    pub fn error(&self) -> Option<&TaskError> {
        self.task.error.as_deref()
    }

    /// The `foreach` item, JSON.
    pub fn item_json(&self) -> Option<&str> {
        self.task.item.as_deref()
    }
}

/// What a `notify` does with each of those that it tells.
pub const NOTIFY: &str = "notify";

impl Run {
    /// What it follows.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// The declaration of a step.
    ///
    /// # Panics
    /// If there is no such step.
    pub fn declared(&self, step: u16) -> &playbook::manifest::Step {
        self.manifest
            .step(step)
            .or_else(|| self.undo_step(step).map(|undo| &undo.declared))
            .expect("a run has the steps of its manifest, and what undoes them")
    }

    /// How many of a step's tasks may be in flight. The leader is one, and other systems are not ours: calls are
    /// bounded also where the playbook says nothing.
    pub(crate) fn parallel_max(&self, step: u16) -> u32 {
        let default = match self.steps[usize::from(step)].is_call() {
            true => CALLS_PARALLEL_DEFAULT,
            false => u32::MAX,
        };
        self.declared(step).strategy.max_parallel.unwrap_or(default)
    }

    /// Whether a step comes when no other is left: one of `finally`, or what undoes another.
    pub fn is_finally(&self, step: u16) -> bool {
        usize::from(step) >= self.manifest.steps.len()
    }

    /// The word of the language for what it does, and the action of a `do` or the name of a playbook.
    pub fn kind(&self, step: u16) -> (&'static str, Option<&str>) {
        let kind = &self.declared(step).kind;
        match kind {
            Kind::Do { action, .. } => (kind.name(), Some(action)),
            Kind::Notify { .. } => (kind.name(), Some(NOTIFY)),
            Kind::Playbook { name, .. } => (kind.name(), Some(name)),
            _ => (kind.name(), None),
        }
    }

    /// The agent of a task.
    pub fn agent_of(&self, step: u16, item: u32) -> Option<&AgentId> {
        let step = self.steps.get(usize::from(step))?;
        let host = step.tasks.get(item as usize)?.host;
        self.targets.get(&step.shared.as_ref()?.set)?.get(host as usize)
    }

    /// The tasks of a step from this item on.
    pub fn tasks(&self, step: u16, from: u32) -> impl Iterator<Item = TaskView<'_>> {
        let state = self.steps.get(usize::from(step));
        let tasks = state.map_or(&[][..], |state| &state.tasks[..]);
        tasks
            .iter()
            .enumerate()
            .skip(from as usize)
            .map(move |(item, task)| TaskView {
                step,
                step_name: &self.declared(step).name,
                action: self.kind(step).1.unwrap_or(""),
                impact: state
                    .and_then(|state| state.shared.as_ref())
                    .map_or(catalogue::Impact::Observe, |shared| shared.impact),
                item: item as u32,
                agent: self.agent_of(step, item as u32),
                task,
            })
    }

    /// The step must not fail, or the run does.
    pub(crate) fn must_not_fail(&self, step: u16) -> bool {
        !self.is_finally(step) && self.declared(step).on_failure != OnFailure::Continue
    }

    /// An estimate of what its tasks hold, bytes.
    fn task_bytes(&self) -> usize {
        let text = self.trigger.as_ref().and_then(|trigger| trigger.text.as_ref());
        let tasks = self.steps.iter().flat_map(|step| &step.tasks);
        text.map_or(0, |text| text.len()) + tasks.map(Task::size_bytes).sum::<usize>()
    }
}

/// All runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runs {
    by_id: BTreeMap<RunId, Run>,
    manifests: BTreeMap<Digest, Arc<Manifest>>,
    /// Derived.
    active: BTreeSet<RunId>,
    /// Runs that ended and still have their tasks, in the order in which they ended.
    pub(crate) finished: VecDeque<RunId>,
    /// Derived: what those hold, bytes.
    finished_bytes: usize,
    /// Derived: the runs that attempts began.
    pub(crate) children: BTreeMap<AttemptKey, RunId>,
}

impl Runs {
    /// By id.
    pub fn get(&self, id: &RunId) -> Option<&Run> {
        self.by_id.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &RunId) -> Option<&mut Run> {
        self.by_id.get_mut(id)
    }

    /// In the order of their ids: of version 7, so the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Run> {
        self.by_id.values()
    }

    /// Before this id, the newest first.
    pub fn before(&self, id: &RunId) -> impl Iterator<Item = &Run> {
        self.by_id.range(..*id).rev().map(|(_, run)| run)
    }

    /// Those that are not over.
    pub fn active(&self) -> &BTreeSet<RunId> {
        &self.active
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The manifests, by hash.
    pub fn manifests(&self) -> &BTreeMap<Digest, Arc<Manifest>> {
        &self.manifests
    }

    /// The stored manifest of this hash; stores it if there is none.
    pub(crate) fn store_manifest(&mut self, hash: Digest, manifest: &Manifest) -> Arc<Manifest> {
        self.manifests
            .entry(hash)
            .or_insert_with(|| Arc::new(manifest.clone()))
            .clone()
    }

    /// Adds a run; when read from a snapshot it may be over.
    pub(crate) fn insert(&mut self, run: Run) {
        if !run.status.is_end() {
            self.active.insert(run.id);
        }
        if let Some(parent) = &run.parent {
            self.children.insert(parent.attempt, run.id);
        }
        self.by_id.insert(run.id, run);
    }

    /// Notes that a run has ended, and drops the tasks of the longest finished ones while there are
    /// too many.
    pub(crate) fn finish(&mut self, id: RunId) {
        self.active.remove(&id);
        self.finished.push_back(id);
        self.finished_bytes += self.by_id.get(&id).map_or(0, Run::task_bytes);
        while self.finished_bytes > FINISHED_TASK_BYTES_MAX && self.finished.len() > 1 {
            let Some(oldest) = self.finished.pop_front() else {
                break;
            };
            if let Some(run) = self.by_id.get_mut(&oldest) {
                self.finished_bytes -= run.task_bytes();
                run.trimmed = true;
                if let Some(trigger) = &mut run.trigger {
                    trigger.text = None;
                }
                for step in &mut run.steps {
                    step.tasks = Vec::new();
                    step.items = BTreeMap::new();
                }
            }
        }
    }

    /// A run that had ended goes on.
    pub(crate) fn reopen(&mut self, id: RunId) {
        self.finished.retain(|finished| *finished != id);
        self.finished_bytes -= self.by_id.get(&id).map_or(0, Run::task_bytes);
        self.active.insert(id);
    }

    /// A task of a finished run, which held so many bytes, was changed.
    pub(crate) fn weigh_again(&mut self, key: TaskKey, before: usize) {
        if let Some(run) = self.by_id.get(&key.run) {
            self.finished_bytes += run.task(key.step, key.item).size_bytes();
            self.finished_bytes -= before;
        }
    }

    /// Counts again what finished runs hold, after a snapshot was read.
    pub(crate) fn recount(&mut self) {
        self.finished_bytes = self
            .finished
            .iter()
            .filter_map(|id| self.by_id.get(id))
            .map(Run::task_bytes)
            .sum();
    }
}

/// The end of a step, as a run's failure says it.
pub(crate) fn failure_of(name: &str, status: StepStatus, reason: &str) -> String {
    match reason {
        "" => format!("step {name}: {}", status.as_str()),
        reason => format!("step {name}: {}: {reason}", status.as_str()),
    }
}
