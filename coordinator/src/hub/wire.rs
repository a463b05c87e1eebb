//! Conversion between the wire and the house, for what agents and coordinators say to each other. By hand.

use engine::Assignment;
use engine::Timestamp;
use engine::id::AttemptKey;
use proto::v1;
use proto::v1::agent_message::Body as Said;
use proto::v1::coordinator_message::Body;

use super::line::{Answer, Close};
use crate::attempt::NamedAttempt;

/// The version of the protocol that this node speaks.
pub const PROTOCOL: u32 = 1;

/// Of a step's name, bytes: a playbook's has 63 at most, and what undoes it says so before it and counts behind it
/// (`undo-NAME-2`), as only those have a dash.
const STEP_BYTES_MAX: usize = 63 + 16;

/// What an agent said, or None for a message without a body.
pub fn said(message: v1::AgentMessage) -> Option<Said> {
    message.body
}

/// An attempt's name, parsed.
pub fn attempt(key: &v1::AttemptKey) -> Result<NamedAttempt, String> {
    let run = key
        .run_id
        .parse()
        .map_err(|error: engine::id::InvalidId| error.to_string())?;
    let step_is_name = (1..=STEP_BYTES_MAX).contains(&key.step.len())
        && key
            .step
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'));
    if !step_is_name {
        return Err("the step's name is outside its grammar".into());
    }
    if key.attempt == 0 || key.token == 0 {
        return Err("attempts and tokens count from 1".into());
    }
    Ok(NamedAttempt {
        run,
        step: key.step.clone(),
        item: key.item,
        attempt: key.attempt,
        token: key.token,
    })
}

/// An attempt's name for the wire.
pub fn attempt_key(attempt: &NamedAttempt) -> v1::AttemptKey {
    v1::AttemptKey {
        run_id: attempt.run.to_string(),
        step: attempt.step.clone(),
        item: attempt.item,
        attempt: attempt.attempt,
        token: attempt.token,
    }
}

fn named(key: &AttemptKey, step: &str) -> v1::AttemptKey {
    v1::AttemptKey {
        run_id: key.task.run.to_string(),
        step: step.to_owned(),
        item: key.task.item,
        attempt: key.attempt,
        token: key.token,
    }
}

/// An assignment. `start_by` is the leader's time; the agent's clock may be anything, so it gets what is
/// left of it by this node's.
pub fn assign(assignment: &Assignment, now: Timestamp) -> v1::CoordinatorMessage {
    let start_within_ms = match assignment.start_by {
        None => 0,
        // 0 would mean no bound: what is too late may start within a millisecond, that is, not.
        Some(by) => by.0.saturating_sub(now.0).max(1),
    };
    message(Body::Assign(v1::Assign {
        key: Some(named(&assignment.key, &assignment.step)),
        action: assignment.action.clone(),
        parameters_json: assignment.parameters.to_string(),
        impact: assignment.impact.as_str().into(),
        attempt_timeout_ms: assignment.attempt_timeout_ms,
        start_within_ms,
        heartbeat_timeout_ms: assignment.heartbeat_timeout_ms,
    }))
}

/// The end of an assignment.
pub fn cancel(key: &AttemptKey, step: &str, reason: String) -> v1::CoordinatorMessage {
    message(Body::Cancel(v1::Cancel {
        key: Some(named(key, step)),
        reason,
    }))
}

/// Answers, gathered into as few messages as there are kinds.
pub fn answers(answers: Vec<Answer>) -> Vec<v1::CoordinatorMessage> {
    let mut committed = v1::ReportsCommitted::default();
    let mut others = Vec::new();
    for answer in answers {
        match answer {
            Answer::Report {
                attempt,
                is_started,
                refused,
            } => {
                let key = attempt_key(&attempt);
                match refused {
                    Some(reason) => committed.refused.push(v1::RefusedReport {
                        key: Some(key),
                        reason,
                    }),
                    None if is_started => committed.started.push(key),
                    None => committed.ended.push(key),
                }
            }
            Answer::Renewed { chain_der, .. } => others.push(message(Body::Renewed(v1::RenewReply {
                chain_der: chain_der.into_iter().map(Into::into).collect(),
                refused: String::new(),
            }))),
            Answer::NotRenewed(refused) => others.push(message(Body::Renewed(v1::RenewReply {
                chain_der: Vec::new(),
                refused,
            }))),
        }
    }
    if committed != v1::ReportsCommitted::default() {
        others.push(message(Body::Committed(committed)));
    }
    others
}

/// A report that was refused before it could be batched; its key is given back as it came.
pub fn refused(key: Option<v1::AttemptKey>, reason: String) -> v1::CoordinatorMessage {
    message(Body::Committed(v1::ReportsCommitted {
        refused: vec![v1::RefusedReport { key, reason }],
        ..Default::default()
    }))
}

/// A sign of life: what a heartbeat is answered with.
pub fn sign_of_life() -> v1::CoordinatorMessage {
    message(Body::Committed(v1::ReportsCommitted::default()))
}

/// The last word of a session.
pub fn goodbye(close: Close) -> v1::CoordinatorMessage {
    message(Body::Goodbye(v1::Goodbye {
        reason: close.reason,
        retry_elsewhere: close.retry_elsewhere,
    }))
}

/// Wraps a body.
pub fn message(body: Body) -> v1::CoordinatorMessage {
    v1::CoordinatorMessage { body: Some(body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> v1::AttemptKey {
        v1::AttemptKey {
            run_id: "01926b7e-3c1a-7c3e-8f21-0a1b2c3d4e5f".into(),
            step: "find_notes".into(),
            item: 3,
            attempt: 1,
            token: 9,
        }
    }

    #[test]
    fn an_attempt_comes_back_as_it_went() {
        let undo = v1::AttemptKey {
            step: format!("undo-{}-2", "n".repeat(63)),
            ..key()
        };
        for key in [key(), undo] {
            assert_eq!(attempt_key(&attempt(&key).unwrap()), key);
        }
    }

    #[test]
    fn names_outside_the_grammar_are_refused() {
        let bad = [
            v1::AttemptKey {
                run_id: "1".into(),
                ..key()
            },
            v1::AttemptKey {
                step: "../x".into(),
                ..key()
            },
            v1::AttemptKey {
                step: "n".repeat(80),
                ..key()
            },
            v1::AttemptKey {
                step: String::new(),
                ..key()
            },
            v1::AttemptKey { attempt: 0, ..key() },
            v1::AttemptKey { token: 0, ..key() },
        ];
        for key in bad {
            assert!(attempt(&key).is_err(), "{key:?}");
        }
    }
}
