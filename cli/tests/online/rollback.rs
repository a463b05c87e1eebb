//! `run rollback` and `run cancel --rollback`: what is shown is what is asked for.

use proto::v1::*;

use super::{Cluster, Script, err, out};

/// A plan in which a host answers with what would drive a terminal, and one step stays.
fn undo() -> PlanRollbackReply {
    let task = |item, agent_id: &str, unknown| UndoTask {
        item,
        agent_id: agent_id.into(),
        parameters_json: "{\"reason\":\"x\\u001b[2J\\u202e\"}".into(),
        unknown,
        ..UndoTask::default()
    };
    let stays = UndoTask {
        agent_id: "web-1".into(),
        problem: "irreversible: nothing undoes process.kill\x1b[2J".into(),
        ..UndoTask::default()
    };
    PlanRollbackReply {
        undo: vec![
            Undo {
                step: "cut".into(),
                action: "host.release".into(),
                tasks: vec![task(0, "web-1", false), task(2, "web-\x1b[2J3", true)],
                tasks_total: 5,
                roles: vec!["lead".into()],
            },
            Undo {
                step: "stop".into(),
                tasks: vec![stays],
                tasks_total: 1,
                ..Undo::default()
            },
        ],
        plan_sha256: "ab".repeat(32),
        revision: 7,
    }
}

#[tokio::test]
async fn a_rollback_shows_what_it_does_and_does_that_or_nothing() {
    let cluster = Cluster::start(vec![Script {
        undo: undo(),
        ..Script::default()
    }])
    .await;
    for command in [
        "run rollback r1 --reason oops",
        "run cancel r1 --reason oops --rollback",
    ] {
        let output = cluster.cordon(command).await;
        assert_eq!(output.status.code(), Some(6), "it is not confirmed");
        let text = out(&output);
        assert!(!text.contains(['\x1b', '\u{202e}']), "{text:?}");
        for shown in [
            "cut/0",
            "host.release",
            "web-1",
            "may not have been done",
            "waits for lead",
            "and 3 tasks more",
            "nothing undoes process.kill",
        ] {
            assert!(text.contains(shown), "{shown} in {text}");
        }
        assert!(err(&output).contains("does 5 tasks"), "{}", err(&output));
        assert!(err(&output).contains("--confirm"), "{}", err(&output));
    }
    assert!(cluster.asked[0].lock().unwrap().rollbacks.is_empty());
    assert!(cluster.asked[0].lock().unwrap().cancels.is_empty());

    let output = cluster
        .cordon("run rollback r1 --reason oops --confirm -o json")
        .await;
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let document: serde_json::Value = serde_json::from_str(&out(&output)).expect("one document");
    assert_eq!(document["status"], "rolling_back");
    assert_eq!(document["undo"][0]["tasks_total"], 5);
    let output = cluster
        .cordon("run cancel r1 --reason oops --rollback --confirm")
        .await;
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let asked = cluster.asked[0].lock().unwrap();
    assert_eq!(asked.rollbacks.len(), 1);
    assert_eq!(
        asked.rollbacks[0].plan_sha256,
        "ab".repeat(32),
        "it names what was shown"
    );
    assert_eq!(asked.rollbacks[0].revision, 7);
    assert!(asked.cancels[0].rollback);
}

#[tokio::test]
async fn an_unrolled_cancel_asks_nothing() {
    let cluster = Cluster::start(vec![Script::default()]).await;
    let output = cluster.cordon("run cancel r1 --reason oops").await;
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(!cluster.asked[0].lock().unwrap().cancels[0].rollback);
    let output = cluster.cordon("run cancel r1 --reason oops --confirm").await;
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
}
