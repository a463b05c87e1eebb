//! `identity.*`: people's accounts, over a connection to a directory.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::schema::{TEXT_LENGTH_MAX, about, connection, count, object, text};
use crate::{Action, Impact, RunsOn};

pub(crate) const fn revoke_sessions() -> Action {
    Action {
        name: "identity.revoke_sessions",
        summary: "Ends a user's sessions everywhere: whoever has them must sign in anew.",
        impact: Impact::Contain,
        inverse: None,
        idempotent: true,
        urgent: true,
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
            "connection": connection(),
            "user": about(
                json!({"type": "string", "minLength": 1, "maxLength": TEXT_LENGTH_MAX}),
                "The user, by the name that the directory knows.",
            ),
        }),
        &["connection", "user"],
    )
}

fn output() -> Value {
    object(
        json!({
            "user": text(TEXT_LENGTH_MAX),
            "user_id": text(256),
            "revoked": about(count(), "How many sessions ended, where the directory says."),
        }),
        &["user"],
    )
}
