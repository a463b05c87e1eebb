//! `file.*`: finding, hashing and collecting files of a host, beneath roots, never through a symbolic link; and
//! scanning one that is evidence already.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::intel::PROVIDERS_MAX;
use crate::schema::{
    TEXT_LENGTH_MAX, about, artifact, between, boolean, count, duration, found_path, glob, list, listing,
    name, object, path, path_base64, path_errors, ruleset, sha256, size, some, text,
};
use crate::{Action, Impact, RunsOn};

pub(crate) const fn find() -> Action {
    Action {
        name: "file.find",
        summary: "Finds files beneath roots by name, size, age or hash.",
        impact: Impact::Observe,
        inverse: None,
        idempotent: true,
        urgent: false,
        runs_on: RunsOn::Agent,
        built: true,
        opt_in: false,
        platforms: &["linux"],
        default_timeout_ms: 900_000,
        parameters: find_parameters,
        output: find_output,
        schemas: OnceLock::new(),
    }
}

pub(crate) const fn hash() -> Action {
    Action {
        name: "file.hash",
        summary: "Takes the SHA-256 of files.",
        impact: Impact::Observe,
        inverse: None,
        idempotent: true,
        urgent: false,
        runs_on: RunsOn::Agent,
        built: true,
        opt_in: false,
        platforms: &["linux"],
        default_timeout_ms: 900_000,
        parameters: || object(json!({"paths": about(some(path()), "The files.")}), &["paths"]),
        output: hash_output,
        schemas: OnceLock::new(),
    }
}

pub(crate) const fn collect() -> Action {
    Action {
        name: "file.collect",
        summary: "Copies files into evidence, hashed while they are read.",
        impact: Impact::Collect,
        inverse: None,
        idempotent: true,
        urgent: false,
        runs_on: RunsOn::Agent,
        built: true,
        opt_in: false,
        platforms: &["linux"],
        default_timeout_ms: 3_600_000,
        parameters: collect_parameters,
        output: collect_output,
        schemas: OnceLock::new(),
    }
}

pub(crate) const fn scan() -> Action {
    Action {
        name: "file.scan",
        summary: "Scans one piece of evidence with YARA rules, and asks providers about its hash.",
        impact: Impact::Observe,
        inverse: None,
        idempotent: true,
        urgent: false,
        runs_on: RunsOn::Coordinator,
        built: false,
        opt_in: false,
        platforms: &[],
        default_timeout_ms: 300_000,
        parameters: scan_parameters,
        output: scan_output,
        schemas: OnceLock::new(),
    }
}

fn find_parameters() -> Value {
    object(
        json!({
            "roots": about(some(path()), "Folders to search beneath."),
            "globs": about(some(glob()), "A file's path beneath its root, or its name, must match one of these. Every file unless given."),
            "exclude": about(some(glob()), "Files and folders that match one of these are left out."),
            "size_min": about(size(), "Smaller files are left out."),
            "size_max": about(size(), "Larger files are left out."),
            "newer_than": about(duration(), "Only files changed within this time."),
            "older_than": about(duration(), "Only files not changed within this time."),
            "sha256": about(some(sha256()), "Only files with one of these hashes. Reads every candidate."),
            "hash": about(boolean(), "Give the SHA-256 of each match. Reads every match."),
            "max_matches": about(between(1, 10_000), "Stop after so many matches; `truncated` says that it happened. 1000 unless given."),
        }),
        &["roots"],
    )
}

fn find_output() -> Value {
    let found = object(
        json!({
            "path": found_path(),
            "path_base64": path_base64(),
            "size_bytes": count(),
            "modified_at_ms": {"type": "integer"},
            "mode": between(0, 0o777_7777),
            "uid": count(),
            "gid": count(),
            "sha256": sha256(),
        }),
        &["path", "size_bytes", "modified_at_ms", "mode", "uid", "gid"],
    );
    object(
        json!({
            "matches": listing(found),
            "visited": count(),
            "truncated": boolean(),
            "errors": path_errors(),
        }),
        &["matches", "visited", "truncated", "errors"],
    )
}

fn hash_output() -> Value {
    let file = object(
        json!({
            "path": found_path(),
            "path_base64": path_base64(),
            "size_bytes": count(),
            "sha256": sha256(),
            "changed_during_read": boolean(),
        }),
        &["path", "size_bytes", "sha256", "changed_during_read"],
    );
    object(
        json!({"files": listing(file), "errors": path_errors(), "truncated": boolean()}),
        &["files", "errors", "truncated"],
    )
}

fn collect_parameters() -> Value {
    let mut schema = object(
        json!({
            "paths": about(some(path()), "Files to collect. Give these, or `roots`, or both."),
            "roots": about(some(path()), "Folders to collect from; `globs` says which files."),
            "globs": about(some(glob()), "Which files beneath `roots`."),
            "max_bytes": about(size(), "Stop before the total is larger; what is left is in `skipped`."),
            "max_files": about(between(1, 10_000), "Stop after so many files. 1000 unless given."),
        }),
        &["max_bytes"],
    );
    schema["anyOf"] = json!([{"required": ["paths"]}, {"required": ["roots", "globs"]}]);
    schema
}

fn collect_output() -> Value {
    let file = object(
        json!({
            "path": found_path(),
            "path_base64": path_base64(),
            "sha256": sha256(),
            "size_bytes": count(),
            "copies": between(0, 1_000),
            "changed_during_read": boolean(),
        }),
        &["path", "sha256", "size_bytes", "copies", "changed_during_read"],
    );
    object(
        json!({
            "files": listing(file),
            "skipped": path_errors(),
            "total_bytes": count(),
            "truncated": boolean(),
        }),
        &["files", "skipped", "total_bytes", "truncated"],
    )
}

fn scan_parameters() -> Value {
    let mut schema = object(
        json!({
            "artifact": about(artifact(), "The evidence, by its SHA-256."),
            "yara": about(ruleset(), "The rules."),
            "hash_lookup": about(list(name(), PROVIDERS_MAX), "The connections to ask about its hash."),
        }),
        &["artifact"],
    );
    schema["anyOf"] = json!([{"required": ["yara"]}, {"required": ["hash_lookup"]}]);
    schema
}

fn scan_output() -> Value {
    let found = object(
        json!({
            "source": about(text(128), "`yara`, or the provider."),
            "name": about(text(TEXT_LENGTH_MAX), "The rule, or what the provider calls it."),
            "tags": list(text(128), 64),
        }),
        &["source", "name", "tags"],
    );
    object(
        json!({
            "artifact": artifact(),
            "matches": listing(found),
            "unanswered": about(list(name(), PROVIDERS_MAX), "Providers that did not answer."),
        }),
        &["artifact", "matches", "unanswered"],
    )
}
