//! Why a run, a step or a task waits, failed, or ended as it did: one sentence, that names the cause and not only
//! the symptom.
//!
//! It follows from the state and a time, and changes nothing. A step that waits for a step that waits leads on to the one that
//! waits for something else; of a fan-out it names the task that most needs somebody, and how many others there are. What
//! hosts, people and playbooks wrote is cut and escaped in it.

mod step;
mod task;
mod words;

use serde_json::Value;

use self::words::{ago, plural, shown, span};
use crate::state::audit::AuditRecord;
use crate::state::{Run, RunStatus, State, StepStatus};
use crate::time::Timestamp;

/// The longest sentence, characters.
const SENTENCE_SHOWN: usize = 2_000;

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The run as a whole.
    Run,
    /// A step, by its number.
    Step(u16),
    /// A task: its step's number, and its item.
    Task(u16, u32),
}

/// Why nothing is said about a task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTask {
    /// None has this host or item.
    #[error("the step has no task on `{0}`: name a host, an item's number or an item's value")]
    Unknown(String),
    /// The host has several.
    #[error("the step has several tasks on `{name}`: name one by its number, such as {first} or {second}")]
    Several {
        /// The host, or the item's value.
        name: String,
        /// The first.
        first: u32,
        /// The second.
        second: u32,
    },
    /// They were dropped to make room.
    #[error("the tasks of this run were dropped to make room: only its steps can be explained")]
    Dropped,
}

/// The task of a step that is named by its host, its item's value, or its number, in this order. Of a step that has no tasks yet it is
/// the step that can be explained.
///
/// # Errors
/// When there is no such task, or more than one.
pub fn find_task(run: &Run, step: u16, name: &str) -> Result<About, NoTask> {
    if run.trimmed {
        return Err(NoTask::Dropped);
    }
    let state = &run.steps[usize::from(step)];
    if state.tasks.is_empty() {
        return Ok(About::Step(step));
    }
    let is_named = |item: &u32| {
        let value = run.task(step, *item).item.as_deref();
        let text = || value.and_then(|json| serde_json::from_str::<String>(json).ok());
        run.agent_of(step, *item)
            .is_some_and(|agent| agent.as_str() == name)
            || value == Some(name)
            || text().is_some_and(|text| text == name)
    };
    let mut named = (0..state.tasks.len() as u32).filter(is_named);
    match (named.next(), named.next()) {
        (Some(item), None) => Ok(About::Task(step, item)),
        (Some(first), Some(second)) => Err(NoTask::Several {
            name: shown(name),
            first,
            second,
        }),
        (None, _) => name
            .parse()
            .ok()
            .filter(|&item: &u32| (item as usize) < state.tasks.len())
            .map(|item| About::Task(step, item))
            .ok_or_else(|| NoTask::Unknown(shown(name))),
    }
}

/// The status of what is asked about, in one word.
pub fn status(run: &Run, about: About) -> &'static str {
    match about {
        About::Run => run.word(),
        About::Step(step) => run.steps[usize::from(step)].status.as_str(),
        About::Task(step, item) => run.task(step, item).status.as_str(),
    }
}

/// One sentence about why it is as it is.
///
/// # Panics
/// If the run has no such step or task.
pub fn explain(state: &State, run: &Run, about: About, now: Timestamp) -> String {
    let now = now.max(state.now());
    let it = Explainer { state, run, now };
    let sentence = match about {
        About::Run => it.run() + &it.begun_by(),
        About::Step(step) => it.step(step),
        About::Task(step, item) => {
            format!("task {}/{item}: {}", run.declared(step).name, it.task(step, item))
        }
    };
    match sentence.char_indices().nth(SENTENCE_SHOWN) {
        Some((end, _)) => format!("{}…", &sentence[..end]),
        None => sentence,
    }
}

/// What a sentence is made from.
struct Explainer<'a> {
    state: &'a State,
    run: &'a Run,
    now: Timestamp,
}

impl Explainer<'_> {
    /// The step of another run that began this one; empty: none did.
    fn begun_by(&self) -> String {
        let key = self.run.parent.map(|parent| parent.attempt.task);
        let above = key.and_then(|key| Some((self.state.run(&key.run)?, key.step)));
        above.map_or(String::new(), |(above, step)| {
            let name = shown(&above.declared(step).name);
            format!(" (step {name} of run {} began it)", above.id)
        })
    }

    fn run(&self) -> String {
        let what = match self.run.status {
            RunStatus::Running if self.run.paused_at.is_some() => {
                format!("waits: {}", self.paused())
            }
            RunStatus::Running => match self.failed_first().filter(|_| self.run.failed) {
                Some(step) => format!(
                    "has failed, for step {}; before it ends, {}",
                    self.named_step(step),
                    self.root()
                ),
                None => format!("{}: {}", self.goes_on(), self.root()),
            },
            RunStatus::Cancelling => format!(
                "is being cancelled: {}; {}",
                self.cancelled(),
                self.left("all that it began has ended")
            ),
            RunStatus::RollingBack if self.run.paused_at.is_some() => {
                format!("is being rolled back, and waits: {}", self.paused())
            }
            RunStatus::RollingBack => format!(
                "is being rolled back{}, and {}",
                self.who_did("run.rollback"),
                self.left("what undoes it is worked out next")
            ),
            RunStatus::Succeeded => format!("succeeded{}{}", self.took(), self.in_spite_of()),
            RunStatus::Failed => match self.failed_first() {
                Some(step) => format!("failed{}: step {}", self.took(), self.named_step(step)),
                None => format!("failed{}: {}", self.took(), shown(&self.run.reason)),
            },
            RunStatus::Cancelled => format!("was cancelled{}: {}", self.took(), self.cancelled()),
        };
        let rollback = match self.run.rollback_word() {
            "" | "running" => String::new(),
            "nothing" => "; there was nothing to undo".to_owned(),
            "incomplete" => format!(
                "; its rollback left what nothing undoes: {}",
                self.run.not_undone().join(", ")
            ),
            word => format!("; its rollback {word}"),
        };
        format!("run {} {what}{rollback}", self.run.id)
    }

    fn goes_on(&self) -> &'static str {
        let begun = self.run.steps.iter().any(|step| step.counts.in_flight() > 0);
        if begun { "goes on" } else { "waits" }
    }

    /// What holds the run up: a step that waits for people, else one that is open, else one that waits.
    fn root(&self) -> String {
        let rank = |step: &u16| {
            let state = &self.run.steps[usize::from(*step)];
            let asks = state.counts.gated > 0 || self.run.is_question(*step);
            match state.status {
                StepStatus::Running if asks => 0,
                StepStatus::Running => 1,
                _ if state.due_at.is_some() => 2,
                _ => 3,
            }
        };
        let open = (0..self.run.steps.len() as u16)
            .filter(|&step| !self.run.steps[usize::from(step)].status.is_end());
        match open.min_by_key(|step| (rank(step), *step)) {
            Some(step) => format!("step {}", self.named_step(step)),
            None => "all of its steps have ended, and the leader ends it next".to_owned(),
        }
    }

    /// What is left of a run that ends, or is undone.
    fn left(&self, nothing: &str) -> String {
        match self.run.steps.iter().all(|step| step.status.is_end()) {
            true => nothing.to_owned(),
            false => self.root(),
        }
    }

    fn took(&self) -> String {
        self.run.ended_at.map_or(String::new(), |at| {
            format!(
                " {}, after {}",
                ago(self.now, at),
                span(at.0.saturating_sub(self.run.created_at.0))
            )
        })
    }

    /// What did not succeed of a run that did.
    fn in_spite_of(&self) -> String {
        let count = |status: StepStatus| self.run.steps.iter().filter(|s| s.status == status).count() as u32;
        let bad = count(StepStatus::Failed) + count(StepStatus::Unknown);
        let skipped = count(StepStatus::Skipped);
        let total = self.run.steps.len() as u32;
        let mut text = format!(": {} ended", plural(total, "step"));
        if skipped > 0 {
            text.push_str(&format!(", {skipped} of them skipped"));
        }
        if bad > 0 {
            text.push_str(&format!(", {bad} of them not well, which may be"));
        }
        text
    }

    /// By whom the run is held, and why.
    fn paused(&self) -> String {
        let since = self
            .run
            .paused_at
            .map_or(String::new(), |at| format!(" {}", ago(self.now, at)));
        match self.record("run.pause") {
            Some((who, reason)) => format!("{who} paused the run{since}{reason}"),
            None => format!("the run was paused{since}"),
        }
    }

    /// By whom, or by what, the run was cancelled.
    fn cancelled(&self) -> String {
        if let Some((who, reason)) = self.record("run.cancel") {
            return format!("{who} cancelled the run{reason}");
        }
        match (self.record("run.timeout"), self.run.manifest().limits.timeout_ms) {
            (Some(_), Some(ms)) => format!("the run took longer than {} (limits.timeout)", span(ms)),
            _ if self.run.reason.is_empty() => "it was not wanted any more".to_owned(),
            _ => shown(&self.run.reason),
        }
    }

    fn who_did(&self, verb: &str) -> String {
        self.record(verb)
            .map_or(String::new(), |(who, reason)| format!(" by {who}{reason}"))
    }

    /// Who did this last to the run, and why, as the audit has it (which drops its oldest records).
    fn record(&self, verb: &str) -> Option<(String, String)> {
        let record: &AuditRecord = self.state.audit_newest(self.run.id, verb)?;
        let who = record.actor.strip_prefix("operator/").unwrap_or(&record.actor);
        let detail: Value = serde_json::from_str(&record.detail).unwrap_or_default();
        let reason = match detail["reason"].as_str() {
            Some(reason) if !reason.is_empty() => format!(" ({})", shown(reason)),
            _ => String::new(),
        };
        Some((shown(who), reason))
    }
}
