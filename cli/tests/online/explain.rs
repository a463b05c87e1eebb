//! `run explain`: the sentence, and nothing in it that drives a terminal.

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
