//! `process.*`: what runs, and ending it.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::schema::{
    about, boolean, code, count, found_path, glob, list, listing, object, one_of, pid, sha256, some, text,
};
use crate::{Action, Impact, RunsOn};

pub(crate) const fn list_processes() -> Action {
    Action {
        name: "process.list",
        summary: "Lists the processes, with what identifies each beyond its number.",
        impact: Impact::Observe,
        inverse: None,
        idempotent: true,
        urgent: false,
        runs_on: RunsOn::Agent,
        built: true,
        opt_in: false,
        platforms: &["linux"],
        default_timeout_ms: 60_000,
        parameters: list_parameters,
        output: list_output,
        schemas: OnceLock::new(),
    }
}

pub(crate) const fn kill() -> Action {
    Action {
        name: "process.kill",
        summary: "Ends processes that are still the ones that were seen: same start time, same executable.",
        impact: Impact::Destroy,
        inverse: None,
        idempotent: false,
        urgent: true,
        runs_on: RunsOn::Agent,
        built: true,
        opt_in: false,
        platforms: &["linux"],
        default_timeout_ms: 60_000,
        parameters: kill_parameters,
        output: kill_output,
        schemas: OnceLock::new(),
    }
}

fn list_parameters() -> Value {
    object(
        json!({
            "name": about(glob(), "Only processes whose name matches."),
            "exe": about(glob(), "Only processes whose executable's path matches."),
            "with_hash": about(boolean(), "Give the SHA-256 of each executable."),
        }),
        &[],
    )
}

fn list_output() -> Value {
    let process = object(
        json!({
            "pid": pid(),
            "ppid": pid(),
            "name": text(256),
            "exe": found_path(),
            "exe_sha256": sha256(),
            "cmdline": list(text(4096), 1_024),
            "uid": count(),
            "start_ticks": count(),
            "started_at_ms": count(),
        }),
        &[
            "pid",
            "ppid",
            "name",
            "exe",
            "cmdline",
            "uid",
            "start_ticks",
            "started_at_ms",
        ],
    );
    object(
        json!({"processes": listing(process), "truncated": boolean()}),
        &["processes", "truncated"],
    )
}

fn kill_parameters() -> Value {
    let process = object(
        json!({
            "pid": pid(),
            "start_ticks": count(),
            "exe": found_path(),
            "exe_sha256": sha256(),
        }),
        &["pid", "start_ticks"],
    );
    object(
        json!({
            "processes": about(
                some(process),
                "The processes: `pid` and `start_ticks` as `process.list` gave them, and `exe` or `exe_sha256` to be sure.",
            ),
            "signal": about(one_of(&["KILL", "TERM"]), "Which signal."),
        }),
        &["processes", "signal"],
    )
}

fn kill_output() -> Value {
    object(
        json!({
            "killed": listing(object(
                json!({"pid": pid(), "name": text(256), "exe": found_path()}),
                &["pid", "name", "exe"],
            )),
            "gone": listing(object(json!({"pid": pid()}), &["pid"])),
            "refused": listing(object(
                json!({"pid": pid(), "code": code(), "reason": text(1024)}),
                &["pid", "code", "reason"],
            )),
        }),
        &["killed", "gone", "refused"],
    )
}
