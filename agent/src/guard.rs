//! What the host's own policy allows. A coordinator can only narrow it.
//!
//! Every assignment passes here before the machine sees it. A refusal is an outcome with a code (`denied`,
//! `unsupported`, `invalid_parameters`), journaled and reported like any other. People's signatures on
//! orders are to be verified here as well, once runs carry them.

use std::path::PathBuf;

use catalogue::Impact;
use serde::Deserialize;

use crate::session::event::{Assignment, Failure};

/// The local policy.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// How far this host goes.
    pub mode: Mode,
    /// Allowed actions; None: all that the mode allows.
    pub actions: Option<Vec<String>>,
    /// Paths that actions on files never leave; empty: all.
    pub roots: Vec<PathBuf>,
}

/// How far a host goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// All actions.
    #[default]
    Full,
    /// Only what reads and takes nothing away.
    ObserveOnly,
}

/// How the catalogue sees an assignment.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// The greater one of what the catalogue and the coordinator say.
    pub impact: Impact,
    /// Goes before collection and scans.
    pub urgent: bool,
    /// When the coordinator says nothing.
    pub timeout_ms: u64,
}

/// What the catalogue says of the action. Of one that it does not know: the coordinator's word, not urgent.
pub fn traits_of(action: &str, claimed: Impact) -> Traits {
    match catalogue::find(action) {
        Some(known) => Traits {
            impact: known.impact.max(claimed),
            urgent: known.urgent,
            timeout_ms: known.default_timeout_ms,
        },
        None => Traits {
            impact: claimed,
            urgent: false,
            timeout_ms: 60_000,
        },
    }
}

impl Policy {
    /// Why this host will not do it; None: it will.
    pub fn refusal(&self, assignment: &Assignment) -> Option<Failure> {
        let failure = |code: &str, message: String| {
            Some(Failure {
                code: code.to_owned(),
                message,
            })
        };
        let action = &assignment.action;
        let Some(known) = catalogue::find(action) else {
            let version = env!("CARGO_PKG_VERSION");
            return failure(
                "unsupported",
                format!("agent {version} knows no action {action:?}: upgrade it"),
            );
        };
        if self.mode == Mode::ObserveOnly && assignment.impact > Impact::Observe {
            let impact = assignment.impact.as_str();
            let message = format!("this host's policy is observe-only, and {action} is {impact}");
            return failure("denied", message);
        }
        if let Some(allowed) = &self.actions
            && !allowed.contains(action)
        {
            let message = format!(
                "this host's policy allows only {}, not {action}",
                allowed.join(", ")
            );
            return failure("denied", message);
        }
        let parameters = match serde_json::from_str(&assignment.parameters_json) {
            Ok(parameters) => parameters,
            Err(error) => {
                return failure(
                    "invalid_parameters",
                    format!("the parameters are no JSON: {error}"),
                );
            }
        };
        let problems = known.check_parameters(&parameters);
        if problems.is_empty() {
            None
        } else {
            failure("invalid_parameters", problems.join("; "))
        }
    }
}
