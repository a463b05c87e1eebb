//! `host.*`: what a host is, cutting it off, letting it back, looking through all of it.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::schema::{
    about, between, boolean, code, count, duration, found_path, glob, list, listing, name, object, one_of,
    path, path_base64, path_errors, percent, ruleset, sha256, size, some, text,
};
use crate::{Action, Impact, RunsOn};

pub(crate) const fn info() -> Action {
    Action {
        name: "host.info",
        summary: "Reads what the host is: system, network interfaces, disks.",
        impact: Impact::Observe,
        inverse: None,
        idempotent: true,
        urgent: false,
        runs_on: RunsOn::Agent,
        built: true,
        opt_in: false,
        platforms: &["linux"],
        default_timeout_ms: 30_000,
        parameters: || object(json!({}), &[]),
        output: info_output,
        schemas: OnceLock::new(),
    }
}

pub(crate) const fn isolate() -> Action {
    Action {
        name: "host.isolate",
        summary: "Cuts the host off the network in one transaction; only the coordinators stay reachable.",
        impact: Impact::Contain,
        inverse: Some("host.release"),
        idempotent: true,
        urgent: true,
        runs_on: RunsOn::Agent,
        built: true,
        opt_in: false,
        platforms: &["linux"],
        // The commit-confirm alone may take 30 s.
        default_timeout_ms: 90_000,
        parameters: isolate_parameters,
        output: isolate_output,
        schemas: OnceLock::new(),
    }
}

pub(crate) const fn release() -> Action {
    Action {
        name: "host.release",
        summary: "Lifts an isolation. Does nothing on a host that is not isolated.",
        impact: Impact::Contain,
        inverse: None,
        idempotent: true,
        urgent: true,
        runs_on: RunsOn::Agent,
        built: true,
        opt_in: false,
        platforms: &["linux"],
        default_timeout_ms: 60_000,
        parameters: || {
            object(
                json!({"reason": about(text(1024), "Why, for the audit record and the host's own log.")}),
                &[],
            )
        },
        output: || {
            object(
                json!({
                    "released": boolean(),
                    "was_isolated": boolean(),
                    "foreign_edits": list(text(1024), 100),
                }),
                &["released", "was_isolated", "foreign_edits"],
            )
        },
        schemas: OnceLock::new(),
    }
}

pub(crate) const fn scan() -> Action {
    Action {
        name: "host.scan",
        summary: "Looks for signs of an intrusion: files by YARA rules, logs by Sigma rules, within a share of the CPU.",
        impact: Impact::Observe,
        inverse: None,
        idempotent: true,
        urgent: false,
        runs_on: RunsOn::Agent,
        built: false,
        opt_in: false,
        platforms: &["linux"],
        default_timeout_ms: 1_800_000,
        parameters: scan_parameters,
        output: scan_output,
        schemas: OnceLock::new(),
    }
}

pub(crate) const fn collect() -> Action {
    Action {
        name: "host.collect",
        summary: "Takes a host's files and logs into evidence, hashed while they are read.",
        impact: Impact::Collect,
        inverse: None,
        idempotent: true,
        urgent: false,
        runs_on: RunsOn::Agent,
        built: false,
        opt_in: false,
        platforms: &["linux"],
        default_timeout_ms: 3_600_000,
        parameters: collect_parameters,
        output: collect_output,
        schemas: OnceLock::new(),
    }
}

pub(crate) const fn run() -> Action {
    Action {
        name: "host.run",
        summary: "Runs a program of the host with these arguments; no shell reads them.",
        // Nobody can know what it does.
        impact: Impact::Destroy,
        inverse: None,
        idempotent: false,
        urgent: false,
        runs_on: RunsOn::Agent,
        built: false,
        opt_in: true,
        platforms: &["linux"],
        default_timeout_ms: 300_000,
        parameters: run_parameters,
        output: run_output,
        schemas: OnceLock::new(),
    }
}

fn info_output() -> Value {
    let interface = object(
        json!({"name": text(64), "mac": text(64), "addresses": list(text(64), 256)}),
        &["name", "addresses"],
    );
    let disk = object(
        json!({"mount": text(4096), "total_bytes": count(), "free_bytes": count()}),
        &["mount", "total_bytes", "free_bytes"],
    );
    object(
        json!({
            "hostname": text(253),
            "os": text(128),
            "os_version": text(256),
            "kernel": text(256),
            "arch": text(64),
            "boot_id": text(64),
            "uptime_s": count(),
            "cpus": count(),
            "memory_bytes": count(),
            "users_logged_in": list(text(256), 256),
            "interfaces": list(interface, 1_000),
            "disks": list(disk, 1_000),
            "truncated": boolean(),
        }),
        &[
            "hostname",
            "os",
            "os_version",
            "kernel",
            "arch",
            "boot_id",
            "uptime_s",
            "cpus",
            "memory_bytes",
            "interfaces",
            "disks",
        ],
    )
}

fn isolate_parameters() -> Value {
    object(
        json!({
            "mode": about(one_of(&["network"]), "What to cut: `network` is every packet in, out and forwarded."),
            "allow": about(
                list(one_of(&["coordinator", "dns"]), 2),
                "What stays reachable besides loopback. The coordinators always do.",
            ),
            "ttl": about(duration(), "How long it lasts: the kernel lifts it then, whether the agent lives or not."),
            "confirm_within": about(
                duration(),
                "A new connection to a coordinator must succeed through the rules within this time, or they are taken back. `30s` unless given.",
            ),
        }),
        &["mode", "ttl"],
    )
}

fn isolate_output() -> Value {
    object(
        json!({
            "isolated": boolean(),
            "lease_until_ms": count(),
            "allowed": listing(text(128)),
            "connections_cut": count(),
            "ruleset_sha256": sha256(),
            "warnings": list(code(), 32),
        }),
        &[
            "isolated",
            "lease_until_ms",
            "allowed",
            "connections_cut",
            "ruleset_sha256",
        ],
    )
}

fn scan_parameters() -> Value {
    let mut schema = object(
        json!({
            "yara": about(ruleset(), "Rules for files."),
            "sigma": about(ruleset(), "Rules for the host's logs."),
            "paths": about(some(path()), "Folders to scan beneath. Every local file system unless given."),
            "within": about(duration(), "How far back in the logs. `7d` unless given."),
            "max_cpu": about(percent(), "Share of one processor that it may take. `50%` unless given."),
            "max_file_bytes": about(size(), "Larger files are passed over. `64MiB` unless given."),
            "max_matches": about(between(1, 10_000), "Stop after so many matches. 1000 unless given."),
        }),
        &[],
    );
    schema["anyOf"] = json!([{"required": ["yara"]}, {"required": ["sigma"]}]);
    schema
}

fn scan_output() -> Value {
    let found = object(
        json!({
            "by": one_of(&["yara", "sigma"]),
            "rule": text(256),
            "tags": list(text(128), 64),
            "path": about(found_path(), "The file; of a match in a log, the log."),
            "path_base64": path_base64(),
            "sha256": sha256(),
            "at_ms": about(count(), "When, of a match in a log."),
            "record": about(text(4096), "The log's record."),
        }),
        &["by", "rule", "tags", "path"],
    );
    object(
        json!({
            "matches": listing(found),
            "scanned": about(count(), "Files."),
            "records": about(count(), "Records of logs."),
            "skipped": path_errors(),
            "truncated": boolean(),
        }),
        &["matches", "scanned", "skipped", "truncated"],
    )
}

fn collect_parameters() -> Value {
    let mut schema = object(
        json!({
            "files": about(some(glob()), "Which files beneath `roots`."),
            "roots": about(some(path()), "Folders to collect from. Every local file system unless given."),
            "logs": about(
                list(name(), 64),
                "Logs by their common names, e.g. `security`, `system`, `audit`, `sysmon`, `journal`; one that the host does not have is in `skipped`.",
            ),
            "within": about(duration(), "How far back in the logs. `7d` unless given."),
            "max_bytes": about(size(), "Stop before the total is larger; what is left is in `skipped`."),
            "chain_of_custody": about(
                boolean(),
                "Have the agent sign what it hashed, beside the custody record that is always made.",
            ),
        }),
        &["max_bytes"],
    );
    schema["anyOf"] = json!([{"required": ["files"]}, {"required": ["logs"]}]);
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
    let log = object(
        json!({"name": name(), "sha256": sha256(), "size_bytes": count(), "records": count(), "copies": between(0, 1_000)}),
        &["name", "sha256", "size_bytes", "copies"],
    );
    object(
        json!({
            "files": listing(file),
            "logs": list(log, 64),
            "skipped": path_errors(),
            "total_bytes": count(),
            "truncated": boolean(),
        }),
        &["files", "logs", "skipped", "total_bytes", "truncated"],
    )
}

fn run_parameters() -> Value {
    object(
        json!({
            "program": about(path(), "The program."),
            "arguments": about(list(text(64 * 1024), 256), "Its arguments, each as it is."),
            "stdin": about(text(64 * 1024), "What it reads. Nothing unless given."),
            "accept": about(list(between(0, 255), 64), "Exit codes that are a success. 0 unless given."),
        }),
        &["program"],
    )
}

fn run_output() -> Value {
    object(
        json!({
            "exit_code": between(0, 255),
            "stdout": about(text(32 * 1024), "Escaped where it is not UTF-8."),
            "stderr": about(text(16 * 1024), "Escaped where it is not UTF-8."),
            "truncated": boolean(),
        }),
        &["exit_code", "stdout", "stderr", "truncated"],
    )
}
