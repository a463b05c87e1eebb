use super::*;
use crate::output::Format;

fn host(id: &str, online: bool, critical: bool) -> v1::PlannedHost {
    v1::PlannedHost {
        agent_id: id.into(),
        online,
        critical,
        touched: true,
    }
}

fn planned() -> v1::Plan {
    let step = |name: &str, action: &str, impact: &str, undo: &str| v1::PlannedStep {
        name: name.into(),
        kind: "do".into(),
        action: action.into(),
        impact: impact.into(),
        runs_on: "agent".into(),
        target_set: "hosts".into(),
        tasks: Some(2),
        undo: undo.into(),
        ..v1::PlannedStep::default()
    };
    v1::Plan {
        sha256: "beef".into(),
        playbook: "contain".into(),
        version: 3,
        fleet: 40,
        hosts: vec![host("db-1", true, true), host("web-1", false, false)],
        targets: vec![v1::PlannedSet {
            name: "hosts".into(),
            hosts: vec![0, 1],
        }],
        steps: vec![
            v1::PlannedStep {
                parameters_json: r#"{"mode":"\u001b[2J","ttl":"1h"}"#.into(),
                undo_action: "host.release".into(),
                gate: Some(v1::PlannedGate {
                    when: "target.labels.criticality == \"critical\"".into(),
                    waits: Some(1),
                    of: Some(2),
                    roles: vec!["commander".into()],
                    quorum: 2,
                    why: "a host is labelled criticality=critical, so two people must agree".into(),
                    expires_ms: 600_000,
                    on_expiry: "escalate".into(),
                    escalate_to: vec!["ciso".into()],
                    not_requester: true,
                    people: vec!["bob".into()],
                    people_later: vec!["dan".into()],
                    ..v1::PlannedGate::default()
                }),
                ..step("cut", "host.isolate", "contain", "inverse")
            },
            v1::PlannedStep {
                when: "target.id in steps.find.output.hosts".into(),
                finally: true,
                ..step("kill", "process.kill", "destroy", "impossible")
            },
        ],
        above_observe: vec!["host.isolate: contain".into(), "process.kill: destroy".into()],
        warnings: vec!["1 of the targets are offline: web-1\u{202e}".into()],
        ..v1::Plan::default()
    }
}

#[test]
fn a_plan_says_what_will_happen_where_and_who_must_agree() {
    let out = Output {
        format: Format::Table,
        terminal: false,
    };
    let columns = |text: &str| -> String {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(|line| words(line) + "\n").collect()
    };
    assert_eq!(
        columns(&in_words(out, &planned())),
        "\
Plan of contain v3: 2 of 40 hosts

TARGETS HOSTS OFFLINE CRITICAL WHICH
hosts 2 1 1 db-1, web-1

STEP DOES ON IMPACT WAITS FOR UNDONE BY
cut host.isolate hosts: 2 hosts contain 2 of commander host.release
kill (finally) process.kill hosts: 2 hosts destroy cannot be undone

cut:
mode: \"\\u001b[2J\"
ttl: \"1h\"

kill:
only when target.id in steps.find.output.hosts

cut: 1 of 2 tasks wait as things are (those for which target.labels.criticality == \"critical\").
2 different people with the role commander must answer within 10m, but not who starts the run; then ciso are asked as well.
More than the playbook asks for: a host is labelled criticality=critical, so two people must agree.
Who can: bob; later also dan.

Cannot be undone: kill (process.kill)

Offline: web-1

Critical: db-1

warning: 1 of the targets are offline: web-1\\u{202e}

Plan beef
"
    );
}

#[test]
fn many_hosts_are_counted_and_a_program_gets_all() {
    let mut plan = planned();
    plan.hosts = (0..30)
        .map(|n| host(&format!("h{n:02}"), n % 2 == 0, false))
        .collect();
    plan.targets[0].hosts = (0..30).collect();
    let out = Output {
        format: Format::Table,
        terminal: false,
    };
    let text = in_words(out, &plan);
    assert!(text.contains("h18, h19 and 10 more"), "{text}");
    let shape = shape::plan(&plan);
    assert_eq!(
        shape["targets"][0]["agent_ids"].as_array().map(Vec::len),
        Some(30)
    );
    assert_eq!(shape["offline"].as_array().map(Vec::len), Some(15));
    assert_eq!(shape["touched"].as_array().map(Vec::len), Some(30));
}
