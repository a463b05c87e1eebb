//! `events.*`: what the cluster was told, and what its sources still know.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::schema::{
    about, between, boolean, condition, count, duration, list, listing, name, object, ocsf, one_of,
};
use crate::{Action, Impact, RunsOn};

/// The classes of OCSF that events come in as, by the names that triggers use.
const CLASSES: &[&str] = &["authentication", "detection_finding", "email_activity"];

pub(crate) const fn search() -> Action {
    Action {
        name: "events.search",
        summary: "Finds the events of an OCSF class for which a condition holds, the newest first.",
        impact: Impact::Observe,
        inverse: None,
        idempotent: true,
        urgent: false,
        runs_on: RunsOn::Coordinator,
        built: false,
        opt_in: false,
        platforms: &[],
        default_timeout_ms: 60_000,
        parameters,
        output,
        schemas: OnceLock::new(),
    }
}

fn parameters() -> Value {
    object(
        json!({
            "class": about(one_of(CLASSES), "The class of the events."),
            "where": about(condition(), "Which of them: a condition over `event`, with `inputs` and `config` in scope."),
            "within": about(duration(), "How far back."),
            "limit": about(between(1, 10_000), "At most so many. 1000 unless given."),
            "sources": about(list(name(), 32), "Connections to ask. What the cluster itself keeps unless given."),
        }),
        &["class", "within"],
    )
}

fn output() -> Value {
    object(
        json!({
            "events": listing(ocsf()),
            "searched": count(),
            "truncated": boolean(),
        }),
        &["events", "truncated"],
    )
}
