//! Between the wire's messages and the machine's.

use catalogue::Impact;
use proto::v1;

use crate::actions::AttemptKey;
use crate::guard::{self, Policy};

use super::event::{Assignment, Failure, Outcome, Received, Report};

/// What a coordinator's message is to the agent.
#[derive(Debug)]
pub enum Incoming {
    /// For the machine.
    Machine(Received),
    /// For the renewal of the certificate.
    Renewed(v1::RenewReply),
}

/// Parses a message and judges what it assigns. What is malformed is dropped with a warning: the
/// coordinator's deadline ends it.
pub fn incoming(message: v1::CoordinatorMessage, policy: &Policy) -> Incoming {
    use v1::coordinator_message::Body;
    Incoming::Machine(match message.body {
        Some(Body::Welcome(welcome)) => Received::Welcome {
            heartbeat_ms: u64::from(welcome.heartbeat_ms),
            lease_ms: u64::from(welcome.lease_ms),
            message_bytes_max: welcome.max_message_bytes,
        },
        Some(Body::Assign(assign)) => match assignment(assign, policy) {
            Some(assignment) => Received::Assign(Box::new(assignment)),
            None => malformed("assign"),
        },
        Some(Body::Cancel(cancel)) => match cancel.key.and_then(key) {
            Some(key) => Received::Cancel {
                key,
                reason: cancel.reason,
            },
            None => malformed("cancel"),
        },
        Some(Body::Committed(committed)) => Received::Committed {
            started: committed.started.into_iter().filter_map(key).collect(),
            ended: committed.ended.into_iter().filter_map(key).collect(),
            refused: committed
                .refused
                .into_iter()
                .filter_map(|refused| Some((key(refused.key?)?, refused.reason)))
                .collect(),
        },
        Some(Body::Goodbye(goodbye)) => Received::Goodbye {
            reason: goodbye.reason,
            retry_elsewhere: goodbye.retry_elsewhere,
        },
        Some(Body::Renewed(reply)) => return Incoming::Renewed(reply),
        None => Received::Other,
    })
}

/// The key on the wire.
pub fn wire_key(key: &AttemptKey) -> v1::AttemptKey {
    let AttemptKey {
        run_id,
        step,
        item,
        attempt,
        token,
    } = key.clone();
    v1::AttemptKey {
        run_id,
        step,
        item,
        attempt,
        token,
    }
}

/// Reports on the wire.
pub fn wire_reports(reports: Vec<Report>) -> v1::Reports {
    let reports = reports.into_iter().map(|report| {
        let (key, body) = match report {
            Report::Started { key, at_ms } => (key, v1::report::Body::Started(v1::Started { at_ms })),
            Report::Ended { key, outcome } => (key, v1::report::Body::Ended(ended(outcome))),
        };
        v1::Report {
            key: Some(wire_key(&key)),
            body: Some(body),
        }
    });
    v1::Reports {
        reports: reports.collect(),
    }
}

fn ended(outcome: Outcome) -> v1::Ended {
    let error = outcome.error.unwrap_or(Failure {
        code: String::new(),
        message: String::new(),
    });
    v1::Ended {
        status: outcome.status.as_str().to_owned(),
        output_json: outcome.output_json,
        error_code: error.code,
        error_message: error.message,
        started_at_ms: outcome.started_at_ms,
        ended_at_ms: outcome.ended_at_ms,
    }
}

fn assignment(assign: v1::Assign, policy: &Policy) -> Option<Assignment> {
    let key = assign.key.and_then(key)?;
    // An impact that this agent does not know is the worst that it knows.
    let claimed = [
        Impact::Observe,
        Impact::Collect,
        Impact::Contain,
        Impact::Destroy,
        Impact::Configure,
    ]
    .into_iter()
    .find(|impact| impact.as_str() == assign.impact)
    .unwrap_or(Impact::Configure);
    let traits = guard::traits_of(&assign.action, claimed);
    let mut assignment = Assignment {
        key,
        action: assign.action,
        parameters_json: if assign.parameters_json.is_empty() {
            "{}".to_owned()
        } else {
            assign.parameters_json
        },
        impact: traits.impact,
        urgent: traits.urgent,
        timeout_ms: if assign.attempt_timeout_ms == 0 {
            traits.timeout_ms
        } else {
            assign.attempt_timeout_ms
        },
        start_within_ms: assign.start_within_ms,
        refusal: None,
    };
    assignment.refusal = policy.refusal(&assignment);
    Some(assignment)
}

fn key(key: v1::AttemptKey) -> Option<AttemptKey> {
    let short = |text: &str| (1..=128).contains(&text.len());
    let valid = short(&key.run_id) && short(&key.step) && key.attempt > 0 && key.token > 0;
    let v1::AttemptKey {
        run_id,
        step,
        item,
        attempt,
        token,
    } = key;
    valid.then_some(AttemptKey {
        run_id,
        step,
        item,
        attempt,
        token,
    })
}

fn malformed(what: &'static str) -> Received {
    tracing::warn!(what, "a message of the coordinator is malformed: dropped");
    Received::Other
}
