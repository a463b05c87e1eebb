//! `intel.*`: what others know. Asking tells them what is looked at.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::schema::{
    TEXT_LENGTH_MAX, about, between, boolean, code, count, duration, list, name, object, one_of, sha256,
    text, verdict,
};
use crate::{Action, Impact, RunsOn};

/// Providers of one question.
pub(crate) const PROVIDERS_MAX: u64 = 32;
/// What can be asked about.
const TYPES: &[&str] = &["ip", "domain", "url", "email", "sha256"];

pub(crate) const fn lookup() -> Action {
    Action {
        name: "intel.lookup",
        summary: "Asks providers of threat intelligence about one address, link, domain or hash.",
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
    object(
        json!({
            "type": about(one_of(TYPES), "What `value` is."),
            "value": about(
                json!({"type": "string", "minLength": 1, "maxLength": 4 * TEXT_LENGTH_MAX}),
                "What is asked about.",
            ),
            "providers": about(
                json!({"type": "array", "items": name(), "minItems": 1, "maxItems": PROVIDERS_MAX}),
                "The connections to ask.",
            ),
            "cache": about(duration(), "An answer that is not older is taken without asking. `0s` unless given."),
        }),
        &["type", "value", "providers"],
    )
}

/// One provider that answers is enough; none is the error `unreachable`, or `rate_limited` when all of them say so.
fn output() -> Value {
    let answer = object(
        json!({
            "provider": name(),
            "verdict": verdict(),
            "score": score(),
            "tags": list(text(256), 64),
            "last_seen_ms": count(),
            "link": text(4 * TEXT_LENGTH_MAX),
            "error": about(code(), "Why it did not answer."),
        }),
        &["provider"],
    );
    object(
        json!({
            "type": one_of(TYPES),
            "value": about(text(4 * TEXT_LENGTH_MAX), "As it was asked."),
            "sha256": about(sha256(), "Of the value's UTF-8: a name for it that is safe in paths. A hash stays itself."),
            "verdict": about(verdict(), "The worst of the answers."),
            "score": about(score(), "The greatest of the answers."),
            "answers": list(answer, PROVIDERS_MAX),
            "cached": boolean(),
        }),
        &["type", "value", "sha256", "verdict", "score"],
    )
}

/// 0: nothing is known against it; 100: certainly bad.
fn score() -> Value {
    between(0, 100)
}
