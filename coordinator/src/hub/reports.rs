//! What agents say of their attempts: checked here, batched into log entries, answered when committed.

use std::sync::Arc;
use std::time::Duration;

use engine::command::{Outcome, OutcomeStatus, Report, ReportBody, TaskError};
use engine::id::{AgentId, AttemptKey};
use engine::{Actor, Command, Envelope, Reply};
use proto::v1;
use proto::v1::report::Body;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::batch::{Bounds, Gather};
use super::line::{Answer, Line};
use super::wire;
use crate::attempt::NamedAttempt;
use crate::control::{Control, SubmitError};

/// The largest output that goes into the log (R62).
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Of an error message of an agent, so much is kept.
const ERROR_MESSAGE_BYTES_MAX: usize = 2 << 10;
/// Reports that may wait on this node.
const QUEUE_MAX: usize = 8_192;
/// And what they may weigh, in KiB.
const QUEUE_KIB_MAX: u32 = 64 << 10;
/// Bounds of one entry.
const BOUNDS: Bounds = Bounds {
    items_max: 512,
    weight_max: 256 << 10,
    linger: Duration::from_millis(5),
};

/// Where sessions hand in reports.
#[derive(Clone)]
pub struct Reports {
    queue: mpsc::Sender<Item>,
    room: Arc<Semaphore>,
}

/// The other end, for [`run`].
pub struct ReportQueue(Gather<Item>);

/// A report on its way into the log.
struct Item {
    report: Report,
    attempt: NamedAttempt,
    line: Arc<Line>,
    weight: usize,
    _room: Option<OwnedSemaphorePermit>,
}

impl Reports {
    /// A queue and its two ends.
    pub fn new() -> (Reports, ReportQueue) {
        let (queue, items) = mpsc::channel(QUEUE_MAX);
        let reports = Reports {
            queue,
            room: Arc::new(Semaphore::new(QUEUE_KIB_MAX as usize)),
        };
        (
            reports,
            ReportQueue(Gather::new(items, |item| item.weight, BOUNDS)),
        )
    }

    /// Hands a report in; it is answered on the line. Waits while too much is under way on this node.
    pub async fn hand_in(
        &self,
        line: &Arc<Line>,
        key: AttemptKey,
        attempt: NamedAttempt,
        body: ReportBody,
        weight: usize,
    ) {
        let weight = weight + 128;
        let kib = u32::try_from(weight >> 10)
            .unwrap_or(u32::MAX)
            .clamp(1, QUEUE_KIB_MAX);
        let room = self.room.clone().acquire_many_owned(kib).await.ok();
        let item = Item {
            report: Report {
                agent: line.agent.clone(),
                key,
                body,
            },
            attempt,
            line: line.clone(),
            weight,
            _room: room,
        };
        // It fails only while the node stops; the agent says it again elsewhere.
        let _stopping = self.queue.send(item).await;
    }
}

/// Commits reports, batch by batch, until every session and the hub are gone.
pub async fn run(mut queue: ReportQueue, control: Control) {
    while let Some(items) = queue.0.next().await {
        commit(items, &control).await;
    }
}

async fn commit(items: Vec<Item>, control: &Control) {
    let node = control.node();
    let envelope = Envelope {
        request: None,
        actor: Actor::Node(node),
        command: Command::Reports {
            node,
            reports: items.iter().map(|item| item.report.clone()).collect(),
        },
    };
    loop {
        match control.submit(envelope.clone()).await {
            Ok((_, Reply::Reports(verdicts))) => {
                for (item, refused) in items.into_iter().zip(verdicts) {
                    item.answer(refused);
                }
                return;
            }
            Ok((_, Reply::Refused(refusal))) => {
                for item in items {
                    item.answer(Some(refusal.to_string()));
                }
                return;
            }
            Ok((index, other)) => {
                tracing::error!(index, ?other, "a batch of reports got an answer that is none");
                return;
            }
            Err(SubmitError::TooLarge) if items.len() > 1 => {
                let mut first = items;
                let second = first.split_off(first.len() / 2);
                Box::pin(commit(first, control)).await;
                return Box::pin(commit(second, control)).await;
            }
            Err(SubmitError::TooLarge) => {
                for item in items {
                    item.answer(Some("it is larger than a log entry may be".into()));
                }
                return;
            }
            // The agents keep what is not answered, and say it again to a node that works.
            Err(SubmitError::Halted) => return,
            // It is the same said twice: say it until it is heard.
            Err(
                SubmitError::Busy
                | SubmitError::NoLeader
                | SubmitError::OutcomeUnknown
                | SubmitError::DiskFull { .. },
            ) => {}
        }
    }
}

impl Item {
    fn answer(self, refused: Option<String>) {
        self.line.answer(Answer::Report {
            attempt: self.attempt,
            is_started: self.report.body == ReportBody::Started,
            refused,
        });
    }
}

/// A report that parsed, with the state's key of its attempt.
pub struct Checked {
    /// As the agent names it.
    pub attempt: NamedAttempt,
    /// As the state does.
    pub key: AttemptKey,
    /// What is said.
    pub body: ReportBody,
    /// Roughly what it takes in the log, in bytes.
    pub weight: usize,
}

/// Checks one report of an agent (R62): its attempt exists and is or was the agent's own, its output fits
/// the schema and the size. An output that does not makes the attempt a failed one with the code
/// `bad_output`, because the task did end. An error is why the report will never be taken.
pub async fn check(control: &Control, agent: &AgentId, report: v1::Report) -> Result<Checked, String> {
    let key = report.key.ok_or("it names no attempt")?;
    let attempt = wire::attempt(&key)?;
    let find = |state: &engine::State| {
        let key = attempt.resolve(state)?;
        let step = state.run(&key.task.run)?.declared(key.task.step);
        let action = match &step.kind {
            playbook::manifest::Kind::Do { action, .. } => catalogue::find(action),
            _ => None,
        };
        Some((key, action))
    };
    let found = match control.local(find) {
        Some(found) => Some(found),
        // This node may be behind the one that handed the attempt out.
        None => control.query(find).await.map_err(|error| error.to_string())?,
    };
    let (key, action) = found.ok_or("there is no such attempt")?;
    let (body, weight) = match report.body.ok_or("it says nothing of the attempt")? {
        Body::Started(_) => (ReportBody::Started, 0),
        Body::Ended(ended) => {
            let weight = ended.output_json.len() + ended.error_message.len();
            let outcome = outcome(ended, action)?;
            if outcome
                .error
                .as_ref()
                .is_some_and(|error| error.code == BAD_OUTPUT)
            {
                tracing::warn!(%agent, step = attempt.step, run = %attempt.run, "an agent gave an output that its action does not allow");
            }
            (ReportBody::Ended(outcome), weight.min(OUTPUT_BYTES_MAX))
        }
    };
    Ok(Checked {
        attempt,
        key,
        body,
        weight,
    })
}

const BAD_OUTPUT: &str = "bad_output";

fn outcome(ended: v1::Ended, action: Option<&'static catalogue::Action>) -> Result<Outcome, String> {
    let status = match ended.status.as_str() {
        "succeeded" => OutcomeStatus::Succeeded,
        "failed" => OutcomeStatus::Failed,
        "cancelled" => OutcomeStatus::Cancelled,
        "unknown" => OutcomeStatus::Unknown,
        _ => return Err("its status is none of succeeded, failed, cancelled, unknown".into()),
    };
    let output = match output(&ended.output_json, status, action) {
        Ok(output) => output,
        Err(problem) => return Ok(bad_output(&problem, &ended.output_json, status)),
    };
    let error = (status != OutcomeStatus::Succeeded).then(|| TaskError {
        code: code(&ended.error_code),
        message: cut(&ended.error_message, ERROR_MESSAGE_BYTES_MAX).to_owned(),
    });
    Ok(Outcome {
        status,
        output,
        error,
    })
}

fn output(
    json: &str,
    status: OutcomeStatus,
    action: Option<&'static catalogue::Action>,
) -> Result<Value, String> {
    if json.len() > OUTPUT_BYTES_MAX {
        return Err(format!(
            "it has {} bytes, more than the {OUTPUT_BYTES_MAX} that are allowed",
            json.len()
        ));
    }
    if json.is_empty() {
        return match status {
            OutcomeStatus::Succeeded => checked(Value::Object(serde_json::Map::new()), action),
            _ => Ok(Value::Object(serde_json::Map::new())),
        };
    }
    let value: Value = serde_json::from_str(json).map_err(|error| format!("it is no JSON: {error}"))?;
    if !value.is_object() {
        return Err("it is no JSON object".into());
    }
    // What a task that did not succeed leaves behind is for people; no step reads it by its schema.
    match status {
        OutcomeStatus::Succeeded => checked(value, action),
        _ => Ok(value),
    }
}

fn checked(value: Value, action: Option<&'static catalogue::Action>) -> Result<Value, String> {
    let problems = action.map_or_else(Vec::new, |action| action.check_output(&value));
    match problems.is_empty() {
        true => Ok(value),
        false => Err(problems.join("; ")),
    }
}

/// The attempt ended, but what it gave cannot be used. A claim of `unknown` stays one: it may have acted.
fn bad_output(problem: &str, json: &str, status: OutcomeStatus) -> Outcome {
    let sha256 = hex::encode(Sha256::digest(json.as_bytes()));
    Outcome {
        status: match status {
            OutcomeStatus::Unknown => OutcomeStatus::Unknown,
            _ => OutcomeStatus::Failed,
        },
        output: Value::Object(serde_json::Map::new()),
        error: Some(TaskError {
            code: BAD_OUTPUT.into(),
            message: format!(
                "the agent's output was not taken: {} (SHA-256 of it: {sha256})",
                cut(problem, 1_024)
            ),
        }),
    }
}

/// Playbooks match on codes, so a code outside the grammar becomes one that says so.
fn code(code: &str) -> String {
    let is_code = (1..=63).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if is_code {
        code.to_owned()
    } else {
        "unnamed".to_owned()
    }
}

/// At most this many bytes, cut between characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: &str, output_json: &str) -> v1::Ended {
        v1::Ended {
            status: status.into(),
            output_json: output_json.into(),
            ..Default::default()
        }
    }

    #[test]
    fn an_oversized_output_fails_the_attempt_and_leaves_its_hash() {
        let json = format!("{{\"x\":\"{}\"}}", "a".repeat(OUTPUT_BYTES_MAX));
        let outcome = outcome(ended("succeeded", &json), None).unwrap();
        assert_eq!(outcome.status, OutcomeStatus::Failed);
        let error = outcome.error.unwrap();
        assert_eq!(error.code, "bad_output");
        assert!(
            error
                .message
                .contains(&hex::encode(Sha256::digest(json.as_bytes())))
        );
        assert!(error.message.len() < 2_000);
    }

    #[test]
    fn what_is_no_object_is_a_bad_output() {
        for json in ["[1]", "{", "\u{0}", "7"] {
            let outcome = outcome(ended("succeeded", json), None).unwrap();
            assert_eq!(outcome.error.unwrap().code, "bad_output", "{json}");
        }
    }

    #[test]
    fn an_unknown_outcome_stays_unknown() {
        assert_eq!(
            outcome(ended("unknown", "{"), None).unwrap().status,
            OutcomeStatus::Unknown
        );
    }

    #[test]
    fn a_status_of_its_own_is_refused() {
        assert!(outcome(ended("done", "{}"), None).is_err());
    }

    #[test]
    fn codes_and_messages_are_tamed() {
        let outcome = outcome(
            v1::Ended {
                error_code: "Rm -rf".into(),
                error_message: "ä".repeat(3_000),
                ..ended("failed", "")
            },
            None,
        )
        .unwrap();
        let error = outcome.error.unwrap();
        assert_eq!(error.code, "unnamed");
        assert_eq!(error.message.len(), ERROR_MESSAGE_BYTES_MAX);
    }
}
