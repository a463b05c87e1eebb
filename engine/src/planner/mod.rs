//! What is ready, where, and under which limits. Runs on the leader only. (Contract; see its owner.)

use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::effect::Effect;
use crate::state::State;
use crate::time::Timestamp;

/// One decision of the planner: a delta that `apply` checks against the run as it then is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Placeholder until the engine's owner defines the real ones.
    Placeholder,
}

/// The leader's memory of what may have become ready. Lost with leadership, rebuilt from the state.
#[derive(Debug, Default)]
pub struct Planner {}

impl Planner {
    /// Looks at everything that is not over.
    pub fn new(_state: &State) -> Planner {
        Planner {}
    }

    /// Notes what an applied command changed.
    pub fn note(&mut self, _effects: &[Effect]) {}

    /// What to propose now; empty when nothing is ready. Each command fits an entry.
    pub fn plan(&mut self, _state: &State, _now: Timestamp) -> Vec<Command> {
        Vec::new()
    }

    /// When `plan` wants to be called again though nothing changed; None: not before something does.
    pub fn next_wake(&self, _state: &State) -> Option<Timestamp> {
        None
    }
}
