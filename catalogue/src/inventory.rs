//! `inventory.*`: which hosts are ours.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::schema::{about, boolean, connection, host, list, listing, map, object, text};
use crate::{Action, Impact, RunsOn};

pub(crate) const fn find() -> Action {
    Action {
        name: "inventory.find",
        summary: "Finds the hosts that have an address, a name or a user: agents, and what an inventory knows besides.",
        impact: Impact::Observe,
        inverse: None,
        idempotent: true,
        urgent: false,
        runs_on: RunsOn::Coordinator,
        built: false,
        opt_in: false,
        platforms: &[],
        default_timeout_ms: 30_000,
        parameters,
        output,
        schemas: OnceLock::new(),
    }
}

fn parameters() -> Value {
    let mut schema = object(
        json!({
            "ip": about(text(64), "An address of the host."),
            "mac": about(text(64), "A hardware address of the host."),
            "hostname": about(text(253), "The host's name, with or without its domain."),
            "user": about(text(320), "Somebody who is signed in, or who owns it."),
            "connection": connection(),
        }),
        &[],
    );
    schema["anyOf"] = json!([
        {"required": ["ip"]},
        {"required": ["mac"]},
        {"required": ["hostname"]},
        {"required": ["user"]},
    ]);
    schema
}

fn output() -> Value {
    let found = object(
        json!({
            "id": about(host(), "The agent's id; a host without an agent has none."),
            "name": text(253),
            "online": boolean(),
            "os": text(128),
            "addresses": list(text(64), 256),
            "labels": map(text(256)),
            "owner": text(320),
        }),
        &["name"],
    );
    object(
        json!({"hosts": listing(found), "truncated": boolean()}),
        &["hosts", "truncated"],
    )
}
