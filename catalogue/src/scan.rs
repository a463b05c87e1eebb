//! `scan.*`: looking inside files.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::schema::{
    RULES_LENGTH_MAX, about, between, boolean, count, found_path, glob, list, listing, object, path,
    path_base64, path_errors, sha256, size, some, text,
};
use crate::{Action, Impact, RunsOn};

pub(crate) const fn yara() -> Action {
    Action {
        name: "scan.yara",
        summary: "Scans the files beneath roots with YARA rules, in a child process with limits.",
        impact: Impact::Observe,
        inverse: None,
        idempotent: true,
        urgent: false,
        runs_on: RunsOn::Agent,
        built: true,
        opt_in: false,
        platforms: &["linux"],
        default_timeout_ms: 1_800_000,
        parameters: yara_parameters,
        output: yara_output,
        schemas: OnceLock::new(),
    }
}

fn yara_parameters() -> Value {
    object(
        json!({
            "rules": about(
                json!({"type": "string", "minLength": 1, "maxLength": RULES_LENGTH_MAX}),
                "The text of the rules.",
            ),
            "roots": about(some(path()), "Folders to scan beneath."),
            "globs": about(some(glob()), "Only files that match one of these. Every file unless given."),
            "max_file_bytes": about(size(), "Larger files are passed over. `64MiB` unless given."),
            "max_matches": about(between(1, 10_000), "Stop after so many matches. 1000 unless given."),
            "memory_max": about(size(), "Memory that the scanner may take. `512MiB` unless given, and never less than `32MiB`."),
            "cpu_seconds_max": about(between(1, 86_400), "Processor time that the scanner may take, in seconds. 600 unless given."),
        }),
        &["rules", "roots"],
    )
}

fn yara_output() -> Value {
    let string = object(
        json!({"identifier": text(128), "offset": count(), "length": count()}),
        &["identifier", "offset", "length"],
    );
    let found = object(
        json!({
            "path": found_path(),
            "path_base64": path_base64(),
            "rule": text(128),
            "namespace": text(128),
            "tags": list(text(128), 64),
            "sha256": sha256(),
            "strings": list(string, 256),
        }),
        &["path", "rule", "namespace", "tags", "sha256", "strings"],
    );
    object(
        json!({
            "matches": listing(found),
            "scanned": count(),
            "skipped": path_errors(),
            "truncated": boolean(),
        }),
        &["matches", "scanned", "skipped", "truncated"],
    )
}
