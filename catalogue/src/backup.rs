//! `backup.*`: hosts as they were.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::schema::{about, connection, count, host, list, object, path, text, timestamp};
use crate::{Action, Impact, RunsOn};

pub(crate) const fn restore() -> Action {
    Action {
        name: "backup.restore",
        summary: "Restores a host from its last backup before a moment. What is newer on it is lost.",
        impact: Impact::Destroy,
        inverse: None,
        // A second one would take away what was written since the first.
        idempotent: false,
        urgent: false,
        runs_on: RunsOn::Coordinator,
        built: false,
        opt_in: false,
        platforms: &[],
        default_timeout_ms: 21_600_000,
        parameters,
        output,
        schemas: OnceLock::new(),
    }
}

fn parameters() -> Value {
    object(
        json!({
            "connection": connection(),
            "host": about(host(), "The host to restore."),
            "point": about(timestamp(), "The last backup at or before this moment is taken."),
            "paths": about(
                list(path(), 1_000),
                "Only these folders and files. The whole host unless given.",
            ),
        }),
        &["connection", "host", "point"],
    )
}

fn output() -> Value {
    object(
        json!({
            "host": host(),
            "restored_from": timestamp(),
            "restored_bytes": count(),
            "job": text(256),
        }),
        &["host", "restored_from"],
    )
}
