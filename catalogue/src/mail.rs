//! `mail.*`: mailboxes, over a connection to a mail system. One message, looked at, is `email.*`.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::schema::{
    LISTING_LENGTH_MAX, TEXT_LENGTH_MAX, about, between, boolean, code, connection, count, duration, listing,
    object, one_of, text,
};
use crate::{Action, Impact, RunsOn};

pub(crate) const fn search() -> Action {
    Action {
        name: "mail.search",
        summary: "Finds a message's copies in all mailboxes.",
        impact: Impact::Observe,
        inverse: None,
        idempotent: true,
        urgent: false,
        runs_on: RunsOn::Coordinator,
        built: false,
        opt_in: false,
        platforms: &[],
        default_timeout_ms: 300_000,
        parameters: search_parameters,
        output: || {
            object(
                json!({"messages": listing(message()), "truncated": boolean()}),
                &["messages", "truncated"],
            )
        },
        schemas: OnceLock::new(),
    }
}

pub(crate) const fn purge() -> Action {
    Action {
        name: "mail.purge",
        summary: "Takes messages out of their mailboxes, to where their owners do not see them and `mail.restore` does.",
        impact: Impact::Contain,
        inverse: Some("mail.restore"),
        idempotent: true,
        urgent: true,
        runs_on: RunsOn::Coordinator,
        built: false,
        opt_in: false,
        platforms: &[],
        default_timeout_ms: 300_000,
        parameters: purge_parameters,
        output: || moved("purged"),
        schemas: OnceLock::new(),
    }
}

pub(crate) const fn restore() -> Action {
    Action {
        name: "mail.restore",
        summary: "Puts purged messages back where they were. Does nothing to one that is there.",
        impact: Impact::Contain,
        inverse: None,
        idempotent: true,
        urgent: true,
        runs_on: RunsOn::Coordinator,
        built: false,
        opt_in: false,
        platforms: &[],
        default_timeout_ms: 300_000,
        parameters: || {
            object(
                json!({"connection": connection(), "messages": messages()}),
                &["connection", "messages"],
            )
        },
        output: || moved("restored"),
        schemas: OnceLock::new(),
    }
}

fn search_parameters() -> Value {
    let mut schema = object(
        json!({
            "connection": connection(),
            "sender": about(text(320), "The address of `From`."),
            "subject": about(text(TEXT_LENGTH_MAX), "The whole subject, upper and lower case alike."),
            "message_id": about(text(TEXT_LENGTH_MAX), "The header `Message-ID`."),
            "recipient": about(text(320), "Only this mailbox."),
            "within": about(duration(), "How far back."),
            "limit": about(between(1, LISTING_LENGTH_MAX as i64), "At most so many. 1000 unless given."),
        }),
        &["connection", "within"],
    );
    // Without any of them it would be every message of every mailbox.
    schema["anyOf"] =
        json!([{"required": ["sender"]}, {"required": ["subject"]}, {"required": ["message_id"]}]);
    schema
}

/// Deletion for good is left out on purpose: nothing could undo it.
fn purge_parameters() -> Value {
    object(
        json!({
            "connection": connection(),
            "messages": messages(),
            "mode": about(
                one_of(&["soft_delete"]),
                "`soft_delete`: into the mailbox's recoverable items. It is that unless given.",
            ),
        }),
        &["connection", "messages"],
    )
}

fn messages() -> Value {
    about(listing(message()), "The messages, as `mail.search` gave them.")
}

/// One copy of a message, in one mailbox.
fn message() -> Value {
    object(
        json!({
            "id": text(TEXT_LENGTH_MAX),
            "mailbox": text(320),
            "subject": text(TEXT_LENGTH_MAX),
            "sender": text(320),
            "folder": text(TEXT_LENGTH_MAX),
            "received_at_ms": count(),
            "read": boolean(),
        }),
        &["id", "mailbox"],
    )
}

/// How many were moved, and which were not.
fn moved(how: &str) -> Value {
    let failed = object(
        json!({"id": text(TEXT_LENGTH_MAX), "mailbox": text(320), "code": code()}),
        &["id", "mailbox", "code"],
    );
    object(json!({how: count(), "failed": listing(failed)}), &[how, "failed"])
}
