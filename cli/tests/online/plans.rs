//! `playbook plan`, and `run start` of what was shown.

use super::*;

/// What a run of it would do, where names are hostile.
fn planned(sha256: &str, above_observe: &[&str]) -> Plan {
    Plan {
        sha256: sha256.into(),
        playbook: "x".into(),
        version: 1,
        fleet: 9,
        hosts: vec![PlannedHost {
            agent_id: "web-1".into(),
            touched: true,
            ..PlannedHost::default()
        }],
        targets: vec![PlannedSet {
            name: "all".into(),
            hosts: vec![0],
        }],
        steps: vec![PlannedStep {
            name: "cut".into(),
            kind: "do".into(),
            action: "host.isolate".into(),
            impact: "contain".into(),
            parameters_json: "{\"mode\":\"\\u202enetwork\"}".into(),
            when: "inputs.x == '\x1b[2J'".into(),
            ..PlannedStep::default()
        }],
        above_observe: above_observe.iter().map(|&what| what.into()).collect(),
        warnings: vec!["\x1b]0;gone\x07".into()],
        ..Plan::default()
    }
}

#[tokio::test]
async fn a_run_that_does_more_than_observe_needs_a_yes() {
    let (this, other) = ("a".repeat(64), "b".repeat(64));
    let cluster = Cluster::start(vec![Script {
        plan: planned(&this, &["host.isolate: contain"]),
        ..Script::default()
    }])
    .await;
    std::fs::write(cluster.path("x.yaml"), ISOLATE).unwrap();
    let starts = || cluster.asked[0].lock().unwrap().starts.clone();
    for format in ["table", "json"] {
        let output = cluster
            .cordon(&format!("run start x.yaml -i hosts=web-1 -o {format}"))
            .await;
        assert_eq!(output.status.code(), Some(6), "{}", err(&output));
        assert!(err(&output).contains("--confirm"), "{}", err(&output));
        assert!(
            err(&output).contains(&format!("Plan {this}")),
            "what is to be confirmed is shown: {}",
            err(&output)
        );
        assert!(!err(&output).contains('\x1b'), "{:?}", err(&output));
    }
    // To name a plan is not to confirm it, and confirmed, it must be the plan that was named.
    let output = cluster.cordon(&format!("run start x.yaml --plan {this}")).await;
    assert_eq!(output.status.code(), Some(6), "{}", err(&output));
    let output = cluster
        .cordon(&format!("run start x.yaml --confirm --plan {other}"))
        .await;
    assert_eq!(output.status.code(), Some(6), "{}", err(&output));
    assert!(err(&output).contains("the plan has changed"), "{}", err(&output));
    let output = cluster.cordon("run start x.yaml --confirm --plan beef").await;
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    assert!(starts().is_empty(), "nothing was started");

    let named = format!("run start x.yaml --confirm --plan {}", this.to_uppercase());
    for command in ["run start x.yaml --confirm", &named] {
        let output = cluster.cordon(command).await;
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        assert_eq!(out(&output), "Started run r1  \n");
    }
    let starts = starts();
    assert_eq!(starts.len(), 2);
    assert!(
        starts.iter().all(|start| start.plan_sha256 == this),
        "what was shown is what runs"
    );
}

#[tokio::test]
async fn a_run_that_only_observes_is_not_confirmed_but_bound() {
    let this = "a".repeat(64);
    let cluster = Cluster::start(vec![Script {
        plan: planned(&this, &[]),
        ..Script::default()
    }])
    .await;
    std::fs::write(cluster.path("x.yaml"), ISOLATE).unwrap();
    let output = cluster.cordon("run start x.yaml -i hosts=web-1 -o json").await;
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(err(&output), "warning: \\u{1b}]0;gone\\u{7}\n");
    let value: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(
        (&value["plan_sha256"], &value["run_id"]),
        (&this.as_str().into(), &"r1".into())
    );
    let asked = cluster.asked[0].lock().unwrap();
    assert_eq!(asked.starts[0].plan_sha256, this);
    assert_eq!(asked.starts[0].inputs_json, asked.plans[0].inputs_json);
    assert_eq!(asked.plans[0].inputs_json, r#"{"hosts":["web-1"]}"#);
}

#[tokio::test]
async fn a_plan_is_shown_and_nothing_is_started() {
    let cluster = Cluster::start(vec![Script {
        plan: planned("beef", &["host.isolate: contain"]),
        ..Script::default()
    }])
    .await;
    std::fs::write(cluster.path("x.yaml"), ISOLATE).unwrap();
    for format in ["table", "json", "jsonl"] {
        let output = cluster
            .cordon(&format!("playbook plan x.yaml -i hosts=web-1 -o {format}"))
            .await;
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        let text = out(&output);
        let hostile = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(text.contains("web-1") && !text.contains(hostile), "{text:?}");
        if format == "table" {
            assert!(text.ends_with("\nPlan beef\n"), "{text}");
        }
    }
    assert!(cluster.asked[0].lock().unwrap().starts.is_empty());
    std::fs::write(cluster.path("bad.yaml"), "playbook: x\n").unwrap();
    let output = cluster.cordon("playbook plan bad.yaml").await;
    assert_eq!(output.status.code(), Some(7), "{}", err(&output));
}
