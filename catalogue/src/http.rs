//! `http.*`: systems that have an HTTP API and no action of their own.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::schema::{
    REQUEST_PATH_PATTERN, TEXT_LENGTH_MAX, about, any_json, between, boolean, connection, list, map, object,
    one_of, sha256, text,
};
use crate::{Action, Impact, RunsOn};

/// The longest body that is sent or kept as text.
const BODY_LENGTH_MAX: u64 = 64 * 1024;

pub(crate) const fn call() -> Action {
    Action {
        name: "http.call",
        summary: "Sends one request over a named connection; the task's key goes with it as `Idempotency-Key`.",
        // What it does is known to the other side only.
        impact: Impact::Configure,
        inverse: None,
        idempotent: false,
        urgent: true,
        runs_on: RunsOn::Coordinator,
        built: true,
        opt_in: false,
        platforms: &[],
        default_timeout_ms: 30_000,
        parameters,
        output,
        schemas: OnceLock::new(),
    }
}

fn parameters() -> Value {
    object(
        json!({
            "connection": connection(),
            "method": about(one_of(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]), "The method."),
            "path": about(
                json!({"type": "string", "pattern": REQUEST_PATH_PATTERN, "maxLength": 4 * TEXT_LENGTH_MAX}),
                "The path beneath the connection's address, without a query; `.` and `..` are no part of it.",
            ),
            "query": about(map(text(4 * TEXT_LENGTH_MAX)), "The query, encoded as it needs to be."),
            "json": about(any_json(), "The body, as JSON."),
            "text": about(text(BODY_LENGTH_MAX), "The body, as text; instead of `json`."),
            "accept": about(
                list(between(100, 599), 64),
                "Statuses that are a success. 200 to 299 unless given.",
            ),
        }),
        &["connection", "method", "path"],
    )
}

fn output() -> Value {
    object(
        json!({
            "status": between(100, 599),
            "json": about(any_json(), "The answer's body, where it says that it is JSON, and is."),
            "text": about(text(BODY_LENGTH_MAX), "The answer's body, where it is another text."),
            "sha256": about(sha256(), "Of the answer's whole body."),
            "truncated": boolean(),
        }),
        &["status"],
    )
}
