//! `host.*`: what a host is, cutting it off, letting it back.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::schema::{about, boolean, code, count, duration, list, listing, object, one_of, text};
use crate::{Action, Impact};

pub(crate) const fn info() -> Action {
    Action {
        name: "host.info",
        summary: "Reads what the host is: system, network interfaces, disks.",
        impact: Impact::Observe,
        inverse: None,
        idempotent: true,
        urgent: false,
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
            "ruleset_sha256": crate::schema::sha256(),
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
