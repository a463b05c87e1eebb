//! Every action that Cordon can carry out: what it takes, what it gives, what it does to a host.
//!
//! The catalogue is the contract between a playbook (checked before it is planned), the coordinator (which
//! checks what it renders and what an agent reports) and the agent (which checks what it is asked). All three
//! read the same JSON Schemas (draft 2020-12), so a parameter means one thing everywhere.
//!
//! - `host`, `file`, `scan`, `process`: what agents do, one file per noun.
//! - `artifact`, `backup`, `email`, `events`, `http`, `identity`, `incident`, `intel`, `inventory`, `mail`: what
//!   coordinators do, with what they store or over a named connection to another system.
//! - [`schema`]: the words that the schemas are written in, and what `action describe` shows of them.
//! - `check`: compiled validators, and their findings in words for people.
//! - [`units`]: durations and sizes as text.
//!
//! # Invariants
//! - Every object is closed (`additionalProperties: false`) and every text, list and number is bounded: what
//!   an agent sends cannot be larger than its schema. Only what coordinators bring in from other systems may be
//!   open, where a standard says so (OCSF events) or nobody can know (JSON); its size is bounded as a whole.
//! - An inverse is itself in the catalogue, has none, and takes its required parameters from the action that it
//!   undoes.
//! - An action may be declared before it is built ([`Action::built`]): playbooks are checked against it, and its
//!   tasks fail with the code [`NOT_IMPLEMENTED`].
//! - The crate is pure: no clock, no files, no network, and no way to carry anything out.

mod artifact;
mod backup;
mod check;
mod email;
mod events;
mod file;
mod host;
mod http;
mod identity;
mod incident;
mod intel;
mod inventory;
mod mail;
mod process;
mod scan;
pub mod schema;
pub mod units;

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use schema::Parameter;
pub use units::{UnitError, format_duration, parse_duration, parse_size};

/// The code with which a task fails whose action is declared and not built.
pub const NOT_IMPLEMENTED: &str = "not_implemented";

/// What an action does, from harmless to irrevocable: to a host, or to a mailbox, an identity, another system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Impact {
    /// Reads, and writes nothing but Cordon's own records.
    Observe,
    /// Reads and takes copies away.
    Collect,
    /// Limits what the host, a process or a person can do; can be undone, or ends by itself.
    Contain,
    /// Cannot be undone.
    Destroy,
    /// Changes the configuration of the agent, the host or another system.
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

/// Where an action is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunsOn {
    /// On a host, by its agent: a step over `targets`.
    Agent,
    /// On the leader, over connections to other systems or with what the cluster holds.
    Coordinator,
}

impl RunsOn {
    /// The name, as people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            RunsOn::Agent => "agent",
            RunsOn::Coordinator => "coordinator",
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
    /// What it does to a host, or to another system.
    pub impact: Impact,
    /// The action that undoes it, with the same parameters as far as it has them.
    pub inverse: Option<&'static str>,
    /// Doing it twice is the same as doing it once.
    pub idempotent: bool,
    /// Takes the urgent lane, and so goes before collection and scans.
    pub urgent: bool,
    /// Where it is carried out.
    pub runs_on: RunsOn,
    /// Can be carried out; otherwise its tasks fail with [`NOT_IMPLEMENTED`].
    pub built: bool,
    /// An agent does it only where the host's own policy names it.
    pub opt_in: bool,
    /// `std::env::consts::OS` values of hosts; empty for what runs on a coordinator.
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
static ALL: [Action; 28] = [
    artifact::quarantine(),
    artifact::release(),
    backup::restore(),
    email::authenticate(),
    email::parse(),
    events::search(),
    file::collect(),
    file::find(),
    file::hash(),
    file::scan(),
    host::collect(),
    host::info(),
    host::isolate(),
    host::release(),
    host::run(),
    host::scan(),
    http::call(),
    identity::revoke_sessions(),
    incident::open(),
    incident::report(),
    intel::lookup(),
    inventory::find(),
    mail::purge(),
    mail::restore(),
    mail::search(),
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

    /// It undoes another action, and so needs no inverse itself.
    pub fn undoes_another(&self) -> bool {
        ALL.iter().any(|action| action.inverse == Some(self.name))
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
