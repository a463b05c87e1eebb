//! `run timeline`: in order, in words, in pages.

use proto::v1::*;

use super::{Cluster, Script, at, err, out};

fn record(sequence: u64, actor: &str, verb: &str, detail: &str) -> AuditRecord {
    AuditRecord {
        sequence,
        at_ms: 1_700_000_000_000 + sequence * 1_000,
        actor: actor.into(),
        verb: verb.into(),
        subject: "r1".into(),
        detail_json: detail.into(),
        ..AuditRecord::default()
    }
}

fn script() -> Script {
    Script {
        runs: vec![at(1, "succeeded", "succeeded")],
        audit: vec![
            record(
                3,
                "operator/ada",
                "run.start",
                r#"{"playbook":"contain","version":2}"#,
            ),
            record(
                5,
                "leader",
                "task.assign",
                r#"{"step":"cut","items":[[0,0]],"attempt":1}"#,
            ),
            record(
                9,
                "operator/bob",
                "approval.deny",
                r#"{"approval":1,"reason":"\u001b[2J\u202eno"}"#,
            ),
            record(12, "leader", "run.end", r#"{"status":"failed","reason":"x"}"#),
        ],
        tasks: vec![Task {
            step: "cut".into(),
            agent_id: "web-1".into(),
            ..Task::default()
        }],
        ..Script::default()
    }
}

#[tokio::test]
async fn a_timeline_is_in_order_and_in_words() {
    let cluster = Cluster::start(vec![script()]).await;
    let output = cluster.cordon("run timeline r1").await;
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let text = out(&output);
    assert!(!text.contains(['\x1b', '\u{202e}']), "{text:?}");
    let mut rest = text.as_str();
    for shown in [
        "started contain v2",
        "web-1: handed out",
        "bob",
        "denied 1: \\u{1b}",
        "the run ended: failed: x",
    ] {
        let found = rest
            .find(shown)
            .unwrap_or_else(|| panic!("{shown} in order in {text}"));
        rest = &rest[found..];
    }
    assert_eq!(err(&output), "");
}

#[tokio::test]
async fn a_timeline_comes_in_pages_that_say_how_to_go_on() {
    let cluster = Cluster::start(vec![script()]).await;
    let output = cluster.cordon("run timeline r1 --limit 2 -o jsonl").await;
    assert_eq!(out(&output).lines().count(), 2);
    assert!(err(&output).contains("--after 5"), "{}", err(&output));
    let output = cluster
        .cordon("run timeline r1 --limit 2 --after 5 -o json")
        .await;
    let document: serde_json::Value = serde_json::from_str(&out(&output)).expect("one document");
    assert_eq!(document[0]["sequence"], 9);
    assert_eq!(document[0]["who"], "bob");
    assert_eq!(document[1]["verb"], "run.end");
    assert_eq!(err(&output), "", "that was all");
    assert_eq!(
        cluster.cordon("run timeline r1 --limit 0").await.status.code(),
        Some(2)
    );
}

#[tokio::test]
async fn a_timeline_that_lost_its_beginning_says_so() {
    let mut script = script();
    script.audit.remove(0);
    let cluster = Cluster::start(vec![script]).await;
    let output = cluster.cordon("run timeline r1").await;
    assert_eq!(output.status.code(), Some(0));
    assert!(
        err(&output).contains("no longer has the oldest records"),
        "{}",
        err(&output)
    );
}
