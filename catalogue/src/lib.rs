//! Every action that an agent (or, later, a coordinator) can carry out. (Contract; see its owner.)

use serde::{Deserialize, Serialize};

/// What an action does to a host, from harmless to irrevocable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Impact {
    /// Reads.
    Observe,
    /// Reads and takes copies away.
    Collect,
    /// Limits what the host or a process can do; can be undone.
    Contain,
    /// Cannot be undone.
    Destroy,
    /// Changes the agent's or the host's configuration.
    Configure,
}

/// An action: what it takes, what it gives, what it does.
#[derive(Debug)]
pub struct Action {
    /// `noun.verb`.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// What it does to a host.
    pub impact: Impact,
    /// The action that undoes it.
    pub inverse: Option<&'static str>,
    /// Doing it twice is the same as doing it once.
    pub idempotent: bool,
    /// Goes before collection and scans.
    pub urgent: bool,
    /// `std::env::consts::OS` values.
    pub platforms: &'static [&'static str],
    /// How long an attempt may run when the playbook says nothing.
    pub default_timeout_ms: u64,
}

impl Impact {
    /// The name, as in the wire and in playbooks.
    pub fn as_str(self) -> &'static str {
        match self {
            Impact::Observe => "observe",
            Impact::Collect => "collect",
            Impact::Contain => "contain",
            Impact::Destroy => "destroy",
            Impact::Configure => "configure",
        }
    }
}

/// The action of this name.
pub fn find(_name: &str) -> Option<&'static Action> {
    None
}

/// All of them, by name.
pub fn all() -> &'static [Action] {
    &[]
}

impl Action {
    /// Problems of these parameters, each for people; empty: they are valid.
    pub fn check_parameters(&self, _parameters: &serde_json::Value) -> Vec<String> {
        Vec::new()
    }

    /// Problems of this output; empty: it is valid.
    pub fn check_output(&self, _output: &serde_json::Value) -> Vec<String> {
        Vec::new()
    }
}
