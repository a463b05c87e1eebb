//! `artifact.*`: bytes that the cluster holds as evidence.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::schema::{about, artifact, boolean, object};
use crate::{Action, Impact, RunsOn};

pub(crate) const fn quarantine() -> Action {
    Action {
        name: "artifact.quarantine",
        summary: "Marks evidence as dangerous: it is given out only in an encrypted archive, and opened by no preview.",
        impact: Impact::Contain,
        inverse: Some("artifact.release"),
        idempotent: true,
        urgent: true,
        runs_on: RunsOn::Coordinator,
        built: false,
        opt_in: false,
        platforms: &[],
        default_timeout_ms: 30_000,
        parameters,
        output: || {
            object(
                json!({"artifact": artifact(), "was_quarantined": boolean()}),
                &["artifact", "was_quarantined"],
            )
        },
        schemas: OnceLock::new(),
    }
}

pub(crate) const fn release() -> Action {
    Action {
        name: "artifact.release",
        summary: "Lifts a quarantine. Does nothing to evidence that is in none.",
        impact: Impact::Contain,
        inverse: None,
        idempotent: true,
        urgent: true,
        runs_on: RunsOn::Coordinator,
        built: false,
        opt_in: false,
        platforms: &[],
        default_timeout_ms: 30_000,
        parameters,
        output: || {
            object(
                json!({"artifact": artifact(), "was_quarantined": boolean()}),
                &["artifact", "was_quarantined"],
            )
        },
        schemas: OnceLock::new(),
    }
}

fn parameters() -> Value {
    object(
        json!({"artifact": about(artifact(), "The evidence, by its SHA-256.")}),
        &["artifact"],
    )
}
