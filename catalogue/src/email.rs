//! `email.*`: one message, looked at. Mailboxes are `mail.*`.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::schema::{
    TEXT_LENGTH_MAX, about, artifact, boolean, count, list, object, observable, one_of, sha256, text,
};
use crate::{Action, Impact, RunsOn};

/// Header fields, addresses, links or attachments of one message.
const PARTS_MAX: u64 = 1_000;
/// The longest address (RFC 5321: 64 + 1 + 255).
const ADDRESS_LENGTH_MAX: u64 = 320;

pub(crate) const fn parse() -> Action {
    Action {
        name: "email.parse",
        summary: "Takes a message apart: headers, addresses, links, attachments, observables.",
        impact: Impact::Observe,
        inverse: None,
        idempotent: true,
        urgent: false,
        runs_on: RunsOn::Coordinator,
        built: false,
        opt_in: false,
        platforms: &[],
        default_timeout_ms: 60_000,
        parameters,
        output: parse_output,
        schemas: OnceLock::new(),
    }
}

pub(crate) const fn authenticate() -> Action {
    Action {
        name: "email.authenticate",
        summary: "Checks who sent a message: SPF, DKIM, DMARC, and how old the sender's domain is.",
        impact: Impact::Observe,
        inverse: None,
        idempotent: true,
        urgent: false,
        runs_on: RunsOn::Coordinator,
        built: false,
        opt_in: false,
        platforms: &[],
        default_timeout_ms: 60_000,
        parameters,
        output: authenticate_output,
        schemas: OnceLock::new(),
    }
}

fn parameters() -> Value {
    object(
        json!({"message": about(artifact(), "The raw message (RFC 5322), as it is in evidence.")}),
        &["message"],
    )
}

fn parse_output() -> Value {
    let address = || text(ADDRESS_LENGTH_MAX);
    let attachment = object(
        json!({
            "id": about(artifact(), "Its content, in evidence."),
            "name": text(TEXT_LENGTH_MAX),
            "media": text(256),
            "size_bytes": count(),
        }),
        &["id", "name", "media", "size_bytes"],
    );
    let header = object(
        json!({"name": text(256), "value": text(4 * TEXT_LENGTH_MAX)}),
        &["name", "value"],
    );
    object(
        json!({
            "subject": text(TEXT_LENGTH_MAX),
            "sender": about(address(), "The address of `From`; empty when there is none."),
            "recipients": list(address(), PARTS_MAX),
            "reply_to": list(address(), PARTS_MAX),
            "message_id": text(TEXT_LENGTH_MAX),
            "date_ms": {"type": "integer"},
            "headers": list(header, PARTS_MAX),
            "urls": about(list(text(4 * TEXT_LENGTH_MAX), PARTS_MAX), "Every link of the text and the HTML, once."),
            "attachments": list(attachment, PARTS_MAX),
            "observables": list(observable(), PARTS_MAX),
            "campaign_hash": about(
                sha256(),
                "The same for messages that differ only in whom they are for: of the sender's domain, the subject without names and numbers, and the links' hosts.",
            ),
            "truncated": boolean(),
        }),
        &[
            "subject",
            "sender",
            "urls",
            "attachments",
            "observables",
            "campaign_hash",
        ],
    )
}

/// The results' words are those of RFC 8601.
fn authenticate_output() -> Value {
    object(
        json!({
            "spf": one_of(&["pass", "fail", "softfail", "neutral", "none", "temperror", "permerror"]),
            "dkim": one_of(&["pass", "fail", "policy", "neutral", "none", "temperror", "permerror"]),
            "dmarc": one_of(&["pass", "fail", "none", "temperror", "permerror"]),
            "domain": text(253),
            "domain_age_days": about(
                count(),
                "Since the sender's organisational domain was registered; 0, as if it were new, when nobody says.",
            ),
            "domain_age_known": boolean(),
        }),
        &["spf", "dkim", "dmarc", "domain_age_days"],
    )
}
