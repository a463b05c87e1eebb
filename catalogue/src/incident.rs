//! `incident.*`: what people work on, and what they hand on.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::schema::{
    TEXT_LENGTH_MAX, about, artifact, boolean, count, list, object, observable, ocsf, one_of, text,
};
use crate::{Action, Impact, RunsOn};

/// Observables of one incident.
const OBSERVABLES_MAX: u64 = 1_000;

pub(crate) const fn open() -> Action {
    Action {
        name: "incident.open",
        summary: "Opens an incident for this run, or joins the open one with the same key.",
        impact: Impact::Observe,
        inverse: None,
        idempotent: true,
        urgent: false,
        runs_on: RunsOn::Coordinator,
        built: false,
        opt_in: false,
        platforms: &[],
        default_timeout_ms: 30_000,
        parameters: open_parameters,
        output: open_output,
        schemas: OnceLock::new(),
    }
}

pub(crate) const fn report() -> Action {
    Action {
        name: "incident.report",
        summary: "Writes an incident's report from what the log holds, and keeps it as evidence.",
        impact: Impact::Observe,
        inverse: None,
        idempotent: true,
        urgent: false,
        runs_on: RunsOn::Coordinator,
        built: false,
        opt_in: false,
        platforms: &[],
        default_timeout_ms: 120_000,
        parameters: report_parameters,
        output: report_output,
        schemas: OnceLock::new(),
    }
}

fn id() -> Value {
    json!({"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.:-]{0,126}$"})
}

/// The severities are OCSF's.
fn open_parameters() -> Value {
    let mut finding = ocsf();
    // A run that a person started has no event.
    finding["type"] = json!(["object", "null"]);
    object(
        json!({
            "title": about(
                // A subject of the greatest length, with some words before it, must fit.
                json!({"type": "string", "minLength": 1, "maxLength": 4 * TEXT_LENGTH_MAX}),
                "One line for people.",
            ),
            "category": about(
                json!({"type": "string", "title": "category", "pattern": "^[a-z][a-z0-9_]{0,62}$"}),
                "What kind it is, e.g. `ransomware`, `phishing`, `credential_access`.",
            ),
            "severity": about(
                one_of(&["informational", "low", "medium", "high", "critical", "fatal"]),
                "How bad it is. `medium` unless given.",
            ),
            "priority": about(one_of(&["P1", "P2", "P3", "P4"]), "How soon somebody must look."),
            "description": about(text(16 * TEXT_LENGTH_MAX), "More than a line."),
            "finding": about(finding, "The event that it is about, in OCSF; null when there is none."),
            "observables": about(list(observable(), OBSERVABLES_MAX), "What was seen."),
            "dedupe_key": about(
                json!({"type": "string", "minLength": 1, "maxLength": TEXT_LENGTH_MAX}),
                "An open incident of the same category with the same key is joined. The run's id unless given.",
            ),
        }),
        &["title", "category"],
    )
}

fn open_output() -> Value {
    object(
        json!({
            "id": id(),
            "joined": about(boolean(), "It was open already."),
            "url": text(4 * TEXT_LENGTH_MAX),
        }),
        &["id", "joined"],
    )
}

fn report_parameters() -> Value {
    object(
        json!({
            "incident": about(id(), "The incident, as `incident.open` gave it."),
            "formats": about(list(one_of(&["markdown", "json"]), 2), "`markdown` unless given."),
            "sections": about(
                list(
                    one_of(&[
                        "summary",
                        "timeline",
                        "hosts",
                        "decision",
                        "score",
                        "observables",
                        "approvals",
                        "evidence",
                        "actions",
                        "open_items",
                        "metrics",
                    ]),
                    11,
                ),
                "What it holds, in this order. Everything unless given.",
            ),
        }),
        &["incident"],
    )
}

fn report_output() -> Value {
    let report = object(
        json!({"format": one_of(&["markdown", "json"]), "artifact": artifact(), "size_bytes": count()}),
        &["format", "artifact", "size_bytes"],
    );
    object(json!({"reports": list(report, 2)}), &["reports"])
}
