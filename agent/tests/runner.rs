//! Every attempt has an outcome, whatever its action does.

use std::sync::Arc;
use std::time::Duration;

use agent::actions::{
    ActionError, AttemptKey, Context, CoordinatorProbe, Environment, EvidenceSink, IsolationMode, Receipt,
};
use agent::runner::{self, Executor};
use agent::session::event::{Assignment, Outcome, Status};
use catalogue::Impact;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

struct Nowhere;

impl EvidenceSink for Nowhere {
    fn put(
        &self,
        _: AttemptKey,
        _: std::fs::File,
        _: Vec<u8>,
        _: u64,
        _: CancellationToken,
    ) -> BoxFuture<'_, Result<Receipt, ActionError>> {
        Box::pin(async { Err(ActionError::new("upload", "nowhere")) })
    }
}

impl CoordinatorProbe for Nowhere {
    fn probe(&self, _: Duration) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Err("nowhere".to_owned()) })
    }
}

struct Doing;

impl Executor for Doing {
    fn run(&self, action: String, context: Context) -> BoxFuture<'static, Result<Value, ActionError>> {
        Box::pin(async move {
            match action.as_str() {
                "good" => Ok(json!({"a": 1})),
                "panic" => panic!("boom"),
                "big" => Ok(json!({"text": "x".repeat(70_000)})),
                "list" => Ok(json!([])),
                "uncertain" => Err(ActionError::new("io", "half done").uncertain()),
                "obedient" => {
                    context.cancel.cancelled().await;
                    Err(ActionError::cancelled())
                }
                _ => Err(ActionError::new("not_found", "no such thing")),
            }
        })
    }
}

async fn run(action: &str, impact: Impact, timeout_ms: u64, cancel: &CancellationToken) -> Outcome {
    let assignment = Assignment {
        key: AttemptKey {
            run_id: "r".into(),
            step: "s".into(),
            item: 0,
            attempt: 1,
            token: 1,
        },
        action: action.into(),
        parameters_json: "{}".into(),
        impact,
        urgent: false,
        timeout_ms,
        start_within_ms: 0,
        refusal: None,
    };
    let environment = Environment {
        state_dir: std::env::temp_dir(),
        coordinators: vec![],
        evidence: Arc::new(Nowhere),
        probe: Arc::new(Nowhere),
        isolation: IsolationMode::Check,
        roots: vec![],
    };
    runner::run(Arc::new(Doing), Arc::new(environment), assignment, cancel.clone()).await
}

#[tokio::test]
async fn each_way_to_end_has_its_name() {
    let long = 600_000;
    for (action, impact, timeout_ms, status, code) in [
        ("good", Impact::Contain, long, Status::Succeeded, ""),
        ("panic", Impact::Observe, long, Status::Failed, "panicked"),
        ("panic", Impact::Contain, long, Status::Unknown, "panicked"),
        ("big", Impact::Observe, long, Status::Failed, "output_too_large"),
        ("big", Impact::Destroy, long, Status::Unknown, "output_too_large"),
        ("list", Impact::Observe, long, Status::Failed, "internal"),
        ("uncertain", Impact::Contain, long, Status::Unknown, "io"),
        ("other", Impact::Contain, long, Status::Failed, "not_found"),
        ("obedient", Impact::Observe, 10, Status::Failed, "timeout"),
    ] {
        let outcome = run(action, impact, timeout_ms, &CancellationToken::new()).await;
        assert_eq!(outcome.status, status, "{action}");
        assert_eq!(
            outcome.error.map_or(String::new(), |error| error.code),
            code,
            "{action}"
        );
    }
    let cancel = CancellationToken::new();
    cancel.cancel();
    let outcome = run("obedient", Impact::Observe, long, &cancel).await;
    assert_eq!(outcome.status, Status::Cancelled);
}
