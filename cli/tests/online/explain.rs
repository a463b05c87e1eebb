//! `run explain` and `run replay`: what is said, and nothing in it that drives a terminal.

use proto::v1::*;

use super::{Cluster, Script, err, out};

#[tokio::test]
async fn a_sentence_is_asked_for_and_shown() {
    let cluster = Cluster::start(vec![Script {
        why: ExplainRunReply {
            sentence: "task cut/2: web-\x1b[2J3 failed: busy: \u{202e}no".into(),
            status: "failed".into(),
            step: "cut".into(),
            item: Some(2),
            at_ms: 7,
        },
        ..Script::default()
    }])
    .await;
    for command in ["run explain r1", "run explain r1 cut", "run explain r1 cut web-3"] {
        let output = cluster.cordon(command).await;
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        assert_eq!(
            out(&output),
            "task cut/2: web-\\u{1b}[2J3 failed: busy: \\u{202e}no\n"
        );
    }
    let output = cluster.cordon("run explain r1 cut web-3 -o json").await;
    let document: serde_json::Value = serde_json::from_str(&out(&output)).expect("one document");
    assert_eq!(
        document,
        serde_json::json!({
            "id": "r1", "step": "cut", "item": 2, "status": "failed",
            "sentence": "task cut/2: web-\x1b[2J3 failed: busy: \u{202e}no", "at_ms": 7,
        })
    );
    let asked: Vec<_> = cluster.asked[0]
        .lock()
        .unwrap()
        .explains
        .iter()
        .map(|asked| (asked.run_id.clone(), asked.step.clone(), asked.task.clone()))
        .collect();
    let as_text = |(run, step, task): &(String, String, String)| format!("{run}/{step}/{task}");
    assert_eq!(
        asked.iter().map(as_text).collect::<Vec<_>>(),
        ["r1//", "r1/cut/", "r1/cut/web-3", "r1/cut/web-3"]
    );
}

#[tokio::test]
async fn a_replay_says_what_was_compared_or_what_differs() {
    let same = ReplayRunReply {
        first_index: 7,
        last_index: 30,
        drawn: 5,
        decisions: 9,
        difference: String::new(),
    };
    let cluster = Cluster::start(vec![Script {
        replay: same.clone(),
        ..Script::default()
    }])
    .await;
    let output = cluster.cordon("run replay r1").await;
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(
        out(&output),
        "run r1: 9 decisions, drawn 5 times between entries 7 and 30 of the log, came out the same, and so did the run\n"
    );
    let cluster = Cluster::start(vec![Script {
        replay: ReplayRunReply {
            difference: "entry 9 has \x1b[2J".into(),
            ..same
        },
        ..Script::default()
    }])
    .await;
    let output = cluster.cordon("run replay r1").await;
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert_eq!(out(&output), "run r1: entry 9 has \\u{1b}[2J\n");
    let output = cluster.cordon("run replay r1 -o json").await;
    let document: serde_json::Value = serde_json::from_str(&out(&output)).expect("one document");
    assert_eq!(document["same"], false);
}
