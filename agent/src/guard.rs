//! What the host's own policy allows. A coordinator can only narrow it.
//!
//! Every assignment passes here before the machine sees it. A refusal is an outcome with a code (`denied`,
//! `not_implemented`, `invalid_parameters`), journaled and reported like any other. People's signatures on
//! orders are to be verified here as well, once runs carry them.

use std::path::PathBuf;

use catalogue::{Impact, NOT_IMPLEMENTED, RunsOn};
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
                NOT_IMPLEMENTED,
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
        if known.opt_in && self.actions.is_none() {
            let message = format!("{action} is done only where this host's policy names it in `actions`");
            return failure("denied", message);
        }
        if known.runs_on != RunsOn::Agent || !known.built {
            let version = env!("CARGO_PKG_VERSION");
            let message = match known.runs_on {
                RunsOn::Agent => format!("{action} is declared, and agent {version} has no code for it yet"),
                RunsOn::Coordinator => format!("{action} runs on the coordinator, not on a host"),
            };
            return failure(NOT_IMPLEMENTED, message);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::{AttemptKey, supported};

    fn code(policy: &Policy, action: &str, parameters_json: &str) -> Option<String> {
        let assignment = Assignment {
            key: AttemptKey {
                run_id: "r".to_owned(),
                step: "s".to_owned(),
                item: 0,
                attempt: 1,
                token: 1,
            },
            action: action.to_owned(),
            parameters_json: parameters_json.to_owned(),
            impact: Impact::Observe,
            urgent: false,
            timeout_ms: 1_000,
            start_within_ms: 0,
            refusal: None,
        };
        policy.refusal(&assignment).map(|failure| failure.code)
    }

    #[test]
    fn an_action_is_carried_out_or_refused_as_not_implemented() {
        let mut refused = 0;
        for action in catalogue::all() {
            let allowed = Policy {
                actions: Some(vec![action.name.to_owned()]),
                ..Policy::default()
            };
            let told = code(&allowed, action.name, "null");
            if action.built && action.runs_on == RunsOn::Agent {
                assert_eq!(told.as_deref(), Some("invalid_parameters"), "{}", action.name);
                assert!(
                    supported().contains(&action.name) || cfg!(not(feature = "yara")),
                    "{}",
                    action.name
                );
            } else {
                assert_eq!(told.as_deref(), Some(NOT_IMPLEMENTED), "{}", action.name);
                assert!(!supported().contains(&action.name), "{}", action.name);
                refused += 1;
            }
        }
        assert!(refused > 0, "this test shows nothing");
        assert_eq!(
            code(&Policy::default(), "host.explode", "{}").as_deref(),
            Some(NOT_IMPLEMENTED)
        );
    }

    #[test]
    fn a_program_is_run_only_where_the_policy_names_it() {
        let parameters = r#"{"program":"/bin/true"}"#;
        assert_eq!(
            code(&Policy::default(), "host.run", parameters).as_deref(),
            Some("denied")
        );
        let other = Policy {
            actions: Some(vec!["host.info".to_owned()]),
            ..Policy::default()
        };
        assert_eq!(code(&other, "host.run", parameters).as_deref(), Some("denied"));
    }
}
