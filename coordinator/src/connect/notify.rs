//! Messages to people: to this node's log, and to webhooks over named connections.

use engine::command::{Outcome, OutcomeStatus};
use reqwest::Method;
use serde_json::{Value, json};

use super::http::answer;
use super::{Connections, failed};

/// Delivers one message: `{to: KIND:ADDRESS, severity, text}`.
pub(super) async fn send(connections: &Connections, message: &Value, idempotency_key: &str) -> Outcome {
    let text = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default();
    let (kind, address) = text("to").split_once(':').unwrap_or_default();
    match kind {
        "log" => {
            tracing::info!(
                target: "notify",
                to = address,
                severity = text("severity"),
                task = idempotency_key,
                text = text("text"),
                "a playbook's message"
            );
            Outcome {
                status: OutcomeStatus::Succeeded,
                output: Value::Null,
                error: None,
            }
        }
        "webhook" => {
            let connection = match connections.get(address) {
                Ok(connection) => connection,
                Err(outcome) => return *outcome,
            };
            let url = connection.url.clone();
            let request = match connection.request(Method::POST, url, idempotency_key).await {
                Ok(request) => request,
                Err(outcome) => return *outcome,
            };
            let body = json!({
                "text": message.get("text"),
                "severity": message.get("severity"),
                "task": idempotency_key,
            });
            // A message that comes twice says so itself: the receiver knows it by the task.
            match answer(request.json(&body), true).await {
                Err(outcome) => *outcome,
                Ok(response) if response.status().is_success() => Outcome {
                    status: OutcomeStatus::Succeeded,
                    output: Value::Null,
                    error: None,
                },
                Ok(response) => failed(
                    match response.status().as_u16() {
                        429 => "rate_limited",
                        502..=504 => "unavailable",
                        _ => "refused",
                    },
                    format!("the answer was {}", response.status().as_u16()),
                ),
            }
        }
        other => failed(
            catalogue::NOT_IMPLEMENTED,
            format!("this version of the coordinator cannot send to {other:?}"),
        ),
    }
}
