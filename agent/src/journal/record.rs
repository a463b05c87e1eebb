//! The journal's records. JSON, so that a person can read a damaged journal and an old reader a new one.

use catalogue::Impact;
use serde::{Deserialize, Serialize};

use crate::actions::AttemptKey;
use crate::session::event::{Failure, Intent, Outcome, Status};

/// One thing that the journal says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// About to act.
    Intent {
        /// Which attempt.
        #[serde(flatten)]
        key: Key,
        /// What.
        action: String,
        /// What it does to the host.
        impact: Impact,
        /// The agent's clock.
        at_ms: u64,
    },
    /// Ended.
    Outcome {
        /// Which attempt.
        #[serde(flatten)]
        key: Key,
        /// How: `succeeded`, `failed`, `cancelled` or `unknown`.
        status: String,
        /// A JSON object as text; empty: none.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        output: String,
        /// Unless it succeeded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error_code: Option<String>,
        /// For people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error_message: Option<String>,
        /// The agent's clock.
        started_at_ms: u64,
        /// The agent's clock.
        at_ms: u64,
    },
    /// The cluster holds the outcome.
    Acknowledged {
        /// Of which attempt.
        #[serde(flatten)]
        key: Key,
    },
    /// These are no longer kept.
    Forget {
        /// Which.
        keys: Vec<Key>,
        /// Tokens up to this are refused from now on.
        floor: u64,
    },
}

/// An attempt's key as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    run_id: String,
    step: String,
    item: u32,
    attempt: u32,
    token: u64,
}

impl From<&AttemptKey> for Key {
    fn from(key: &AttemptKey) -> Key {
        let AttemptKey {
            run_id,
            step,
            item,
            attempt,
            token,
        } = key.clone();
        Key {
            run_id,
            step,
            item,
            attempt,
            token,
        }
    }
}

impl From<&Key> for AttemptKey {
    fn from(key: &Key) -> AttemptKey {
        let Key {
            run_id,
            step,
            item,
            attempt,
            token,
        } = key.clone();
        AttemptKey {
            run_id,
            step,
            item,
            attempt,
            token,
        }
    }
}

impl Record {
    /// The record of an intent.
    pub fn intent(intent: &Intent) -> Record {
        Record::Intent {
            key: (&intent.key).into(),
            action: intent.action.clone(),
            impact: intent.impact,
            at_ms: intent.at_ms,
        }
    }

    /// The record of an outcome.
    pub fn outcome(key: &AttemptKey, outcome: &Outcome) -> Record {
        Record::Outcome {
            key: key.into(),
            status: outcome.status.as_str().to_owned(),
            output: outcome.output_json.clone(),
            error_code: outcome.error.as_ref().map(|error| error.code.clone()),
            error_message: outcome.error.as_ref().map(|error| error.message.clone()),
            started_at_ms: outcome.started_at_ms,
            at_ms: outcome.ended_at_ms,
        }
    }

    /// The outcome that this record holds, if it is one.
    pub fn to_outcome(&self) -> Option<Outcome> {
        let Record::Outcome {
            status,
            output,
            error_code,
            error_message,
            started_at_ms,
            at_ms,
            ..
        } = self
        else {
            return None;
        };
        let status = match status.as_str() {
            "succeeded" => Status::Succeeded,
            "failed" => Status::Failed,
            "cancelled" => Status::Cancelled,
            // Also what a newer agent wrote and this one does not know: in doubt.
            _ => Status::Unknown,
        };
        Some(Outcome {
            status,
            output_json: output.clone(),
            error: error_code.as_ref().map(|code| Failure {
                code: code.clone(),
                message: error_message.clone().unwrap_or_default(),
            }),
            started_at_ms: *started_at_ms,
            ended_at_ms: *at_ms,
        })
    }
}
