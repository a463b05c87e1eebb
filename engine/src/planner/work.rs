//! What the tasks of a step do: an action of the catalogue, or a run of another playbook.

use catalogue::{Action, Impact};
use playbook::manifest::{Kind, Step};
use serde_json::Value;

use crate::limits::{ATTEMPT_MS_DEFAULT, CHILD_MS_DEFAULT};
use crate::plan::child::impact_of;
use crate::state::{Run, State};

/// What a task does.
#[derive(Clone, Copy)]
pub(super) enum Work {
    /// An action, on a host or by the leader.
    Action(&'static Action),
    /// A run of its own, which may do this at worst.
    Run(Impact),
}

impl Work {
    /// Of a step that does an action or begins runs.
    ///
    /// # Errors
    /// When this build does not know the action.
    pub fn of(state: &State, run: &Run, declared: &Step) -> Result<Work, String> {
        match &declared.kind {
            Kind::Do { action, .. } => Work::action(action),
            Kind::Playbook { name, version, .. } => Ok(Work::Run(impact_of(state, run, name, *version))),
            other => Err(format!("a `{}` has no tasks", other.name())),
        }
    }

    /// An action by its name.
    ///
    /// # Errors
    /// When this build does not know it.
    pub fn action(name: &str) -> Result<Work, String> {
        let action =
            catalogue::find(name).ok_or_else(|| format!("action: the leader has no action {name}"))?;
        Ok(Work::Action(action))
    }

    /// What is wrong with these parameters; empty: nothing. What a run is given is checked when it is drawn.
    pub fn problems(self, parameters: &Value) -> Option<String> {
        match self {
            Work::Action(action) => {
                let problems = action.check_parameters(parameters);
                (!problems.is_empty()).then(|| format!("{}: {}", action.name, problems.join("; ")))
            }
            Work::Run(_) => None,
        }
    }

    pub fn impact(self) -> Impact {
        match self {
            Work::Action(action) => action.impact,
            Work::Run(impact) => impact,
        }
    }

    /// It goes before collection and scans.
    pub fn is_urgent(self) -> bool {
        matches!(self, Work::Action(action) if action.urgent)
    }

    /// How long an attempt may take where the playbook says nothing.
    pub fn attempt_ms(self) -> u64 {
        match self {
            Work::Action(action) if action.default_timeout_ms > 0 => action.default_timeout_ms,
            Work::Action(_) => ATTEMPT_MS_DEFAULT,
            Work::Run(_) => CHILD_MS_DEFAULT,
        }
    }
}
