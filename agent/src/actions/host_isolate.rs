//! `host.isolate`: cuts the host off, but for the coordinators. See [`crate::isolation`].

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::parameters::{self, Span};
use super::{ActionError, Context};
use crate::isolation::{Order, isolate};

/// When `confirm_within` is not given.
const CONFIRM_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize)]
struct Parameters {
    #[expect(dead_code, reason = "there is one mode so far; parsing it refuses the others")]
    mode: Mode,
    #[serde(default)]
    allow: Vec<Allowed>,
    ttl: Span,
    confirm_within: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Network,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Allowed {
    Coordinator,
    Dns,
}

/// Runs the action.
pub async fn run(context: Context) -> Result<Value, ActionError> {
    let parameters: Parameters = parameters::parse(context.parameters)?;
    let order = Order {
        dns: parameters.allow.contains(&Allowed::Dns),
        ttl: parameters.ttl.0,
        confirm_within: parameters.confirm_within.map_or(CONFIRM_WITHIN, |span| span.0),
    };
    let isolated = isolate(order, &context.environment, &context.cancel).await?;
    Ok(json!({
        "isolated": isolated.isolated,
        "lease_until_ms": isolated.lease_until_ms,
        "allowed": isolated.allowed,
        "connections_cut": isolated.connections_cut,
        "ruleset_sha256": isolated.ruleset_sha256,
        "warnings": isolated.warnings,
    }))
}
