//! `event send`: what is sent, again where there is no room, and what is said of what was refused.

use super::{Cluster, Script, err, out};

#[tokio::test]
async fn events_are_sent_again_until_there_is_room_and_refusals_are_told_with_their_lines() {
    let cluster = Cluster::start(vec![Script::default()]).await;
    let events = "{\"class_uid\":2004}\n{\"class_uid\":\"bad\"}\nno json\n{\"class_uid\":3002}\n";
    std::fs::write(cluster.path("events.jsonl"), events).unwrap();
    let output = cluster.cordon("event send events.jsonl").await;
    assert_eq!(output.status.code(), Some(7), "{}", err(&output));
    assert_eq!(
        out(&output),
        "2 events taken, 2 refused: 2 matched, 1 to become runs, 2 seen before, 3 waiting steps went on\n"
    );
    let said = err(&output);
    assert!(said.contains("line 2: it is \\u{1b}[2J"), "{said}");
    assert!(said.contains("line 3: not JSON"), "{said}");
    let asked = &cluster.asked[0].lock().unwrap().events;
    assert_eq!(asked.len(), 2, "it was sent again");
    assert_eq!(asked[0].request_id, asked[1].request_id, "as the same request");
    assert_eq!(asked[1].events.len(), 3);
}

#[tokio::test]
async fn a_file_that_is_not_there_is_told() {
    let cluster = Cluster::start(vec![Script::default()]).await;
    let output = cluster.cordon("event send nowhere.json -o json").await;
    assert_eq!(output.status.code(), Some(7), "{}", err(&output));
    let document: serde_json::Value = serde_json::from_str(&out(&output)).expect("one document");
    assert_eq!(document["taken"], 0);
    let problem = document["problems"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("nowhere.json"), "{problem}");
}
