//! An attempt as the wire names it: by its step's name, where the state counts steps by number.

use engine::id::{AgentId, AttemptKey, RunId, TaskKey};
use engine::{Assignment, State};

/// One try of one task, parsed from the wire. That it parses says nothing of whether it exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamedAttempt {
    /// The run.
    pub run: RunId,
    /// The step's name.
    pub step: String,
    /// Index within the step's fan-out.
    pub item: u32,
    /// From 1.
    pub attempt: u32,
    /// The fencing token.
    pub token: u64,
}

impl NamedAttempt {
    /// The state's key for it, if there is such a run with such a step.
    pub fn resolve(&self, state: &State) -> Option<AttemptKey> {
        let step = state.step_number(&self.run, &self.step)?;
        Some(AttemptKey {
            task: TaskKey {
                run: self.run,
                step,
                item: self.item,
            },
            attempt: self.attempt,
            token: self.token,
        })
    }

    /// The assignment it names, if that is this agent's.
    pub fn assignment_of(&self, state: &State, agent: &AgentId) -> Option<Assignment> {
        let key = self.resolve(state)?;
        state.assignment(agent, &key)
    }
}
