//! Every action that Cordon can carry out: what it takes, what it gives, what it does to a host.
//!
//! The catalogue is the contract between a playbook (checked before it is planned), the coordinator (which
//! checks what it renders and what an agent reports) and the agent (which checks what it is asked). All three
//! read the same JSON Schemas (draft 2020-12), so a parameter means one thing everywhere.
//!
//! - `host`, `file`, `scan`, `process`: the actions, one file per noun.
//! - [`schema`]: the words that the schemas are written in, and what `action describe` shows of them.
//! - `check`: compiled validators, and their findings in words for people.
//! - [`units`]: durations and sizes as text.
//!
//! # Invariants
//! - Every object is closed (`additionalProperties: false`) and every text, list and number is bounded: what
//!   an agent sends cannot be larger than its schema.
//! - An inverse is itself in the catalogue.
//! - The crate is pure: no clock, no files, no network, and no way to carry anything out.

mod check;
mod file;
mod host;
mod process;
mod scan;
pub mod schema;
pub mod units;

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use schema::Parameter;
pub use units::{UnitError, format_duration, parse_duration, parse_size};

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
    /// Builds the parameters' schema; read it through [`Action::parameters_schema`].
    parameters: fn() -> Value,
    /// Builds the output's schema; read it through [`Action::output_schema`].
    output: fn() -> Value,
    schemas: OnceLock<check::Schemas>,
}

/// By name: `find` searches it, a test holds the order.
static ALL: [Action; 9] = [
    file::collect(),
    file::find(),
    file::hash(),
    host::info(),
    host::isolate(),
    host::release(),
    process::kill(),
    process::list_processes(),
    scan::yara(),
];

/// The action of this name.
pub fn find(name: &str) -> Option<&'static Action> {
    ALL.binary_search_by_key(&name, |action| action.name)
        .ok()
        .map(|at| &ALL[at])
}

/// All of them, by name.
pub fn all() -> &'static [Action] {
    &ALL
}

impl Action {
    /// The JSON Schema (draft 2020-12) of the parameters: always an object.
    pub fn parameters_schema(&self) -> &Value {
        &self.schemas().parameters
    }

    /// The JSON Schema (draft 2020-12) of the output: always an object.
    pub fn output_schema(&self) -> &Value {
        &self.schemas().output
    }

    /// The parameters one by one, for people: required ones first, then by name.
    pub fn parameters(&self) -> Vec<Parameter> {
        schema::parameters_of(self.parameters_schema())
    }

    /// Problems of these parameters, each for people; empty: they are valid.
    pub fn check_parameters(&self, parameters: &Value) -> Vec<String> {
        self.schemas().check_parameters(parameters)
    }

    /// Problems of this output; empty: it is valid.
    pub fn check_output(&self, output: &Value) -> Vec<String> {
        self.schemas().check_output(output)
    }

    fn schemas(&self) -> &check::Schemas {
        self.schemas
            .get_or_init(|| check::Schemas::new((self.parameters)(), (self.output)()))
    }
}
