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
        "2 events taken, 2 refused: 2 matched, 2 to become runs, 4 seen before, 6 waiting steps went on\n"
    );
    let said = err(&output);
    assert!(said.contains("line 2: it is \\u{1b}[2J"), "{said}");
    assert!(said.contains("line 3: not JSON"), "{said}");
    let asked = &cluster.asked[0].lock().unwrap().events;
    let sent: Vec<usize> = asked.iter().map(|request| request.events.len()).collect();
    assert_eq!(sent, [3, 2, 1], "what found no room is sent again in halves");
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

#[tokio::test]
async fn a_file_is_handed_in_whole_with_what_is_said_of_it() {
    let cluster = Cluster::start(vec![Script::default()]).await;
    std::fs::write(cluster.path("report.eml"), vec![b'x'; 600 << 10]).unwrap();
    std::fs::write(cluster.path("who.json"), "{\"reporter\": \"a@example.org\"}").unwrap();
    let output = cluster
        .cordon("event send --submission report --file report.eml --json who.json")
        .await;
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let said = out(&output);
    assert!(
        said.contains("is evidence on 2 coordinators: 1 to become runs, 0 seen before"),
        "{said}"
    );
    let asked = &cluster.asked[0].lock().unwrap().submissions;
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].submission, "report");
    assert_eq!(
        (asked[0].file.as_str(), asked[0].media.as_str()),
        ("report.eml", "message/rfc822")
    );
    assert_eq!(asked[0].json, "{\"reporter\": \"a@example.org\"}");
    assert_eq!(asked[0].size_bytes, 600 << 10);
}

#[tokio::test]
async fn a_file_that_is_too_large_is_not_sent() {
    let cluster = Cluster::start(vec![Script::default()]).await;
    let file = std::fs::File::create(cluster.path("large.eml")).unwrap();
    file.set_len((100 << 20) + 1).unwrap();
    let output = cluster
        .cordon("event send --submission report --file large.eml")
        .await;
    assert_ne!(output.status.code(), Some(0));
    assert!(
        err(&output).contains("more than 104857600 bytes"),
        "{}",
        err(&output)
    );
    assert!(cluster.asked[0].lock().unwrap().submissions.is_empty());
}
