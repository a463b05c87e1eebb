//! Carries one attempt out: its deadline, its cancel, its panics, the size of its output.
//!
//! How many run at once, and in which lane, is the machine's decision.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use catalogue::Impact;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::actions::{self, ActionError, Context, Environment};
use crate::session::event::{Assignment, Failure, Outcome, Status};

/// The greatest output of an action.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// How long an action may take to end after its cancel or its deadline, before it is abandoned.
pub const GRACE: Duration = Duration::from_secs(5);
const MESSAGE_CHARS_MAX: usize = 2_000;

/// Does what an attempt asks for.
pub trait Executor: Send + Sync {
    /// Runs the action; the output is a JSON object.
    fn run(&self, action: String, context: Context) -> BoxFuture<'static, Result<Value, ActionError>>;
}

/// The actions of this build.
#[derive(Clone, Copy, Debug, Default)]
pub struct Actions;

impl Executor for Actions {
    fn run(&self, action: String, context: Context) -> BoxFuture<'static, Result<Value, ActionError>> {
        Box::pin(async move { actions::run(&action, context).await })
    }
}

/// Runs the attempt to its outcome. It always has one.
pub async fn run(
    executor: Arc<dyn Executor>,
    environment: Arc<Environment>,
    assignment: Assignment,
    cancel: CancellationToken,
) -> Outcome {
    let started_at_ms = wall_ms();
    let ended = run_to_end(executor, environment, &assignment, cancel).await;
    let (status, output_json, error) = match ended {
        Ok(output) => (Status::Succeeded, output, None),
        Err((status, code, message)) => {
            let message = message.chars().take(MESSAGE_CHARS_MAX).collect();
            (
                status,
                String::new(),
                Some(Failure {
                    code: code.to_owned(),
                    message,
                }),
            )
        }
    };
    Outcome {
        status,
        output_json,
        error,
        started_at_ms,
        ended_at_ms: wall_ms().max(started_at_ms),
    }
}

async fn run_to_end(
    executor: Arc<dyn Executor>,
    environment: Arc<Environment>,
    assignment: &Assignment,
    cancel: CancellationToken,
) -> Result<String, (Status, &'static str, String)> {
    // What may have happened when the action cannot tell.
    let in_doubt = if assignment.impact < Impact::Contain {
        Status::Failed
    } else {
        Status::Unknown
    };
    let timeout = Duration::from_millis(assignment.timeout_ms.max(1));
    let parameters = serde_json::from_str(&assignment.parameters_json)
        .map_err(|error| (Status::Failed, "invalid_parameters", error.to_string()))?;
    // The action has a token of its own, so that a deadline is told from a cancel.
    let stop = cancel.child_token();
    let context = Context {
        key: assignment.key.clone(),
        parameters,
        cancel: stop.clone(),
        timeout,
        environment,
    };
    // In a task of its own: its panic is its end, not ours.
    let mut action = tokio::spawn(executor.run(assignment.action.clone(), context));
    let mut timed_out = false;
    let joined = tokio::select! {
        joined = &mut action => Some(joined),
        () = cancel.cancelled() => None,
        () = tokio::time::sleep(timeout) => {
            timed_out = true;
            stop.cancel();
            None
        }
    };
    let joined = match joined {
        Some(joined) => joined,
        None => match tokio::time::timeout(GRACE, &mut action).await {
            Ok(joined) => joined,
            Err(_) => {
                action.abort();
                let code = if timed_out { "timeout" } else { "cancelled" };
                let message = format!("it did not stop within {} s of being told to", GRACE.as_secs());
                return Err((in_doubt, code, message));
            }
        },
    };
    match joined {
        Ok(Ok(output)) => check_output(&output, in_doubt),
        Ok(Err(error)) if error.uncertain => Err((Status::Unknown, error.code, error.message)),
        Ok(Err(_)) if timed_out => {
            let message = format!("it did not end within {} ms", timeout.as_millis());
            Err((Status::Failed, "timeout", message))
        }
        Ok(Err(error)) if error.code == "cancelled" => Err((Status::Cancelled, error.code, error.message)),
        Ok(Err(error)) => Err((Status::Failed, error.code, error.message)),
        Err(panic) => Err((in_doubt, "panicked", format!("the action broke down: {panic}"))),
    }
}

fn check_output(output: &Value, in_doubt: Status) -> Result<String, (Status, &'static str, String)> {
    if !output.is_object() {
        return Err((
            in_doubt,
            "internal",
            "the action's output is no JSON object".to_owned(),
        ));
    }
    let text = output.to_string();
    if text.len() > OUTPUT_BYTES_MAX {
        let message = format!(
            "the output has {} bytes; {OUTPUT_BYTES_MAX} are allowed",
            text.len()
        );
        return Err((in_doubt, "output_too_large", message));
    }
    Ok(text)
}

/// Milliseconds since 1970.
pub fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |passed| passed.as_millis() as u64)
}
