//! The agent against coordinators of the test's, over real TLS.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent::actions::{ActionError, Context};
use agent::guard::{Mode, Policy};
use agent::renew::Renewal;
use agent::runner::Executor;
use agent::session::driver;
use certs::{Identity, Role};
use common::{Authorities, Heard, Node, Store, assign, in_the_past, key, parts, tell};
use futures::future::BoxFuture;
use proto::v1;
use proto::v1::agent_message::Body as Said;
use proto::v1::coordinator_message::Body;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Counts what it is asked to do.
#[derive(Default)]
struct Counting(AtomicU32);

impl Executor for Counting {
    fn run(&self, action: String, _context: Context) -> BoxFuture<'static, Result<Value, ActionError>> {
        let n = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        Box::pin(async move { Ok(json!({"n": n, "action": action})) })
    }
}

/// Uploads the file that its parameters name.
struct Uploading(std::path::PathBuf);

impl Executor for Uploading {
    fn run(&self, _action: String, context: Context) -> BoxFuture<'static, Result<Value, ActionError>> {
        let path = self.0.clone();
        Box::pin(async move {
            let file = std::fs::File::open(&path).unwrap();
            let sink = context.environment.evidence.clone();
            let receipt = sink
                .put(context.key, file, b"/a/path".to_vec(), 64 << 20, context.cancel)
                .await?;
            let changed = receipt.changed_during_read;
            context
                .environment
                .probe
                .probe(Duration::from_secs(30))
                .await
                .expect("the probe is answered");
            Ok(json!({"sha256": receipt.sha256, "size_bytes": receipt.size_bytes, "changed": changed}))
        })
    }
}

#[tokio::test]
async fn a_task_runs_once_and_its_report_survives_the_node() {
    let (authorities, store) = (Authorities::new(), Store::default());
    let mut first = Node::start(&authorities, &store).await;
    let identity = authorities.agent();
    let counting = Arc::new(Counting::default());
    let mut only = parts(&authorities, &identity, &[&first], counting.clone());
    let mut second = Node::start(&authorities, &store).await;
    only.endpoints.push(second.addr.to_string());
    // Whichever of the two it chooses first, dies.
    let stop = CancellationToken::new();
    let agent = tokio::spawn(driver::run(only, stop.clone()));
    let (hello, say) = tokio::select! {
        (hello, say, _) = first.session() => (hello, say),
        (hello, say, _) = second.session() => {
            std::mem::swap(&mut first, &mut second);
            (hello, say)
        }
    };
    assert_eq!((hello.agent_id.as_str(), hello.protocol), ("web-1", 1));
    tell(&say, assign(0, "host.info", "{}", "observe")).await;
    let (ended_key, ended) = first.ended().await;
    assert_eq!((ended_key, ended.status.as_str()), (key(0), "succeeded"));
    // The node dies before it has committed the report.
    first.kill();
    let (hello, say, _) = second.session().await;
    assert_eq!(hello.running, [key(0)]);
    let (ended_key, again) = second.ended().await;
    assert_eq!((ended_key, &again), (key(0), &ended));
    // The other node assigns it again: answered, not repeated.
    tell(&say, assign(0, "host.info", "{}", "observe")).await;
    assert_eq!(second.ended().await.1, ended);
    let committed = v1::ReportsCommitted {
        ended: vec![key(0)],
        ..v1::ReportsCommitted::default()
    };
    tell(&say, Body::Committed(committed)).await;
    tell(&say, assign(1, "host.info", "{}", "observe")).await;
    assert_eq!(second.ended().await.0, key(1));
    assert_eq!(counting.0.load(Ordering::SeqCst), 2);
    let committed = v1::ReportsCommitted {
        ended: vec![key(1)],
        ..v1::ReportsCommitted::default()
    };
    tell(&say, Body::Committed(committed)).await;
    stop.cancel();
    tokio::time::timeout(common::PATIENCE, agent)
        .await
        .expect("it stops")
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn the_local_policy_refuses_with_a_reason() {
    let (authorities, store) = (Authorities::new(), Store::default());
    let mut node = Node::start(&authorities, &store).await;
    let identity = authorities.agent();
    let counting = Arc::new(Counting::default());
    let mut parts = parts(&authorities, &identity, &[&node], counting.clone());
    parts.policy = Policy {
        mode: Mode::ObserveOnly,
        ..Policy::default()
    };
    let agent = tokio::spawn(driver::run(parts, CancellationToken::new()));
    let (_, say, _) = node.session().await;
    // The coordinator may say that it only observes: the catalogue knows better.
    tell(
        &say,
        assign(0, "host.isolate", r#"{"mode":"network","ttl":"1h"}"#, "observe"),
    )
    .await;
    let (_, ended) = node.ended().await;
    assert_eq!(
        (ended.status.as_str(), ended.error_code.as_str()),
        ("failed", "denied")
    );
    tell(&say, assign(1, "host.info", r#"{"no":"such"}"#, "observe")).await;
    assert_eq!(node.ended().await.1.error_code, "invalid_parameters");
    tell(&say, assign(2, "host.explode", "{}", "observe")).await;
    assert_eq!(node.ended().await.1.error_code, "not_implemented");
    assert_eq!(counting.0.load(Ordering::SeqCst), 0);
    agent.abort();
}

#[tokio::test]
async fn evidence_resumes_where_it_was_cut() {
    let (authorities, store) = (Authorities::new(), Store::default());
    *store.break_after.lock().unwrap() = Some(3);
    let mut node = Node::start(&authorities, &store).await;
    let identity = authorities.agent();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("note");
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(&path, &content).unwrap();
    let parts = parts(&authorities, &identity, &[&node], Arc::new(Uploading(path)));
    let agent = tokio::spawn(driver::run(parts, CancellationToken::new()));
    let (_, say, _) = node.session().await;
    tell(&say, assign(0, "host.info", "{}", "collect")).await;
    let (_, ended) = node.ended().await;
    assert_eq!(ended.status, "succeeded", "{ended:?}");
    let output: Value = serde_json::from_str(&ended.output_json).unwrap();
    assert_eq!(
        (output["size_bytes"].as_u64(), output["changed"].as_bool()),
        (Some(3_000_000), Some(false))
    );
    assert_eq!(*store.offsets.lock().unwrap(), [0, 3 * 256 * 1024]);
    agent.abort();
}

#[tokio::test]
async fn the_certificate_is_renewed_with_a_new_key_and_used_at_once() {
    let (authorities, store) = (Authorities::new(), Store::default());
    let mut node = Node::start(&authorities, &store).await;
    // Two thirds of its life are over.
    let identity = authorities.identity(Role::Agent, "web-1", in_the_past(20, 4));
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("identity");
    identity.save(&kept).unwrap();
    let mut parts = parts(&authorities, &identity, &[&node], Arc::new(Counting::default()));
    parts.renewal = Some(Renewal::new(identity.clone(), Some(kept.clone()), 1));
    let agent = tokio::spawn(driver::run(parts, CancellationToken::new()));
    let (_, say, first_key) = node.session().await;
    assert_eq!(first_key, identity.key_sha256());
    let request = loop {
        if let Heard::Said(Said::Renew(request)) = node.next().await {
            break request;
        }
    };
    let chain = authorities
        .agents
        .issue_from_csr(&request.csr_der, identity.spiffe(), in_the_past(0, 24))
        .unwrap()
        .into_iter()
        .map(Into::into)
        .collect();
    tell(
        &say,
        Body::Renewed(v1::RenewReply {
            chain_der: chain,
            refused: String::new(),
        }),
    )
    .await;
    tell(
        &say,
        Body::Goodbye(v1::Goodbye {
            reason: "a test".into(),
            retry_elsewhere: false,
        }),
    )
    .await;
    let (_, _, second_key) = node.session().await;
    assert_ne!(second_key, first_key);
    assert_eq!(Identity::load(&kept).unwrap().key_sha256(), second_key);
    agent.abort();
}
