//! What must hold of every action, and of the words that checks answer with.

use catalogue::{Impact, RunsOn, all, find, format_duration, parse_duration, parse_size};
use serde_json::{Value, json};

#[test]
fn every_action_is_found_by_its_name_and_the_list_is_sorted() {
    let names: Vec<_> = all().iter().map(|action| action.name).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(names, sorted);
    for name in names {
        assert_eq!(find(name).map(|action| action.name), Some(name));
    }
    assert!(find("host.destroy").is_none());
}

#[test]
fn every_schema_compiles_and_is_closed_and_bounded() {
    for action in all() {
        // Compiles both on first use.
        action.check_parameters(&json!({}));
        for (which, schema) in [
            ("parameters", action.parameters_schema()),
            ("output", action.output_schema()),
        ] {
            let open = action.runs_on == RunsOn::Coordinator;
            assert_bounded(schema, open, &format!("{} {which}", action.name));
        }
        for parameter in action.parameters() {
            assert!(
                !parameter.description.is_empty(),
                "{} {}",
                action.name,
                parameter.name
            );
        }
    }
}

/// `open`: what comes from other systems may be OCSF or any JSON.
fn assert_bounded(schema: &Value, open: bool, at: &str) {
    let title = schema["title"].as_str();
    if open && matches!(title, Some("ocsf" | "json")) {
        return;
    }
    match schema["type"].as_str() {
        Some("object") => {
            match &schema["additionalProperties"] {
                Value::Object(_) => {
                    assert!(schema["maxProperties"].is_u64(), "{at}");
                    assert_bounded(&schema["additionalProperties"], open, &format!("{at}{{}}"));
                }
                other => assert_eq!(*other, json!(false), "{at}"),
            }
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                assert_bounded(property, open, &format!("{at}.{name}"));
            }
        }
        Some("array") => {
            assert!(schema["maxItems"].is_u64(), "{at}");
            assert_bounded(&schema["items"], open, &format!("{at}[]"));
        }
        Some("string") => assert!(
            schema["maxLength"].is_u64() || schema["pattern"].is_string() || schema["enum"].is_array(),
            "{at}"
        ),
        Some("integer" | "boolean") => {}
        // A number, or a text with a pattern.
        None if title == Some("size") => {}
        other => panic!("{at}: {other:?}"),
    }
}

#[test]
fn an_inverse_exists_has_none_and_takes_what_its_action_was_given() {
    for action in all() {
        let Some(inverse) = action.inverse else { continue };
        let at = format!("{} -> {inverse}", action.name);
        let inverse = find(inverse).expect(&at);
        assert!(
            inverse.inverse.is_none() && inverse.undoes_another() && !action.undoes_another(),
            "{at}"
        );
        assert_eq!(inverse.runs_on, action.runs_on, "{at}");
        assert!(
            inverse.idempotent,
            "{at}: it is done again when its answer was lost"
        );
        for name in inverse.parameters_schema()["required"]
            .as_array()
            .expect("a list")
        {
            let name = name.as_str().expect("a name");
            let given = &action.parameters_schema()["properties"][name];
            assert_eq!(
                *given,
                inverse.parameters_schema()["properties"][name],
                "{at}: {name}"
            );
            let required = action.parameters_schema()["required"].as_array().expect("a list");
            assert!(required.contains(&json!(name)), "{at}: {name} may be missing");
        }
    }
}

#[test]
fn where_an_action_runs_fits_what_it_is() {
    for action in all() {
        let name = action.name;
        assert_eq!(
            action.platforms.is_empty(),
            action.runs_on == RunsOn::Coordinator,
            "{name}"
        );
        assert!(
            !action.opt_in || action.runs_on == RunsOn::Agent,
            "{name}: only agents have a policy"
        );
        assert!(action.default_timeout_ms > 0, "{name}");
    }
    assert!(find("host.run").is_some_and(|action| action.opt_in && action.impact == Impact::Destroy));
}

const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn good_parameters_pass() {
    let good = [
        ("host.info", json!({})),
        (
            "host.isolate",
            json!({"mode": "network", "allow": ["coordinator"], "ttl": "24h"}),
        ),
        ("host.release", json!({"reason": "over"})),
        (
            "file.find",
            json!({"roots": ["/srv"], "globs": ["**/*.txt"], "size_max": "200MiB", "newer_than": "1h30m"}),
        ),
        ("file.hash", json!({"paths": ["/etc/hosts"]})),
        (
            "file.collect",
            json!({"roots": ["/srv"], "globs": ["*.txt"], "max_bytes": 1048576}),
        ),
        (
            "scan.yara",
            json!({"rules": "rule a {condition: true}", "roots": ["/srv"]}),
        ),
        ("process.list", json!({"name": "evil*"})),
        (
            "process.kill",
            json!({"processes": [{"pid": 10, "start_ticks": 5, "exe": "/bin/x"}], "signal": "KILL"}),
        ),
        ("artifact.quarantine", json!({"artifact": SHA256})),
        (
            "backup.restore",
            json!({"connection": "veeam", "host": "db-1", "point": "2026-01-31T12:00:00.5+01:00"}),
        ),
        ("email.parse", json!({"message": SHA256})),
        (
            "events.search",
            json!({"class": "authentication", "within": "1h", "where": "event.status_id == 1"}),
        ),
        (
            "file.scan",
            json!({"artifact": SHA256, "yara": "ruleset://maldoc"}),
        ),
        ("host.collect", json!({"logs": ["security"], "max_bytes": "1GiB"})),
        (
            "host.run",
            json!({"program": "/bin/bash", "arguments": ["-c", "id; true"]}),
        ),
        (
            "host.scan",
            json!({"yara": "ruleset://ransomware@sha256:9f2c", "max_cpu": "30%"}),
        ),
        (
            "http.call",
            json!({"connection": "fw-1", "method": "PUT", "path": "/deny/2001:db8::1", "json": {"ttl": "24h", "deep": [1, null]}}),
        ),
        (
            "identity.revoke_sessions",
            json!({"connection": "entra", "user": "ada@example.org"}),
        ),
        (
            "incident.open",
            json!({"title": "t", "category": "phishing", "finding": {"class_uid": 2004, "time": 0, "unmapped": {"x": 1}}}),
        ),
        (
            "incident.open",
            json!({"title": "t", "category": "phishing", "finding": null}),
        ),
        (
            "incident.report",
            json!({"incident": "INC-1", "formats": ["json"]}),
        ),
        (
            "intel.lookup",
            json!({"type": "ip", "value": "192.0.2.1", "providers": ["misp"]}),
        ),
        ("inventory.find", json!({"ip": "192.0.2.1"})),
        (
            "mail.search",
            json!({"connection": "m365", "subject": "s", "within": "7d"}),
        ),
        (
            "mail.purge",
            json!({"connection": "m365", "messages": [{"id": "1", "mailbox": "a@example.org"}], "mode": "soft_delete"}),
        ),
    ];
    for (name, parameters) in good {
        let findings = find(name).unwrap().check_parameters(&parameters);
        assert!(findings.is_empty(), "{name}: {findings:?}");
    }
}

#[test]
fn bad_parameters_are_told_in_words() {
    let check = |name: &str, parameters: Value| find(name).unwrap().check_parameters(&parameters).join(" | ");
    insta::assert_snapshot!(
        [
            check(
                "host.isolate",
                json!({"mode": "network", "ttl": "soon", "allow": ["coordinator", "mail"]})
            ),
            check("host.isolate", json!({"ttl": 5, "tll": "5s"})),
            check("file.collect", json!({"max_bytes": "2 GB", "roots": ["/srv"]})),
            check(
                "file.collect",
                json!({"max_bytes": "9999999999TiB", "paths": ["/a"]})
            ),
            check(
                "file.find",
                json!({"roots": ["srv"], "sha256": ["ABC"], "max_matches": 0})
            ),
            check("file.find", json!({"roots": [], "newer_than": "5m5m"})),
            check(
                "process.kill",
                json!({"processes": [{"pid": 1}], "signal": "HUP"})
            ),
            check("process.list", json!([])),
            check(
                "backup.restore",
                json!({"connection": "Veeam", "host": "DB 1", "point": "yesterday"})
            ),
            check("events.search", json!({"class": "mail", "within": "1h"})),
            check("file.scan", json!({"artifact": "evil.doc"})),
            check("host.scan", json!({"yara": "http://rules", "max_cpu": "0%"})),
            check(
                "http.call",
                json!({"connection": "fw", "method": "CONNECT", "path": "/a?b=c d"})
            ),
            check("inventory.find", json!({})),
            check("mail.search", json!({"connection": "m365", "within": "7d"})),
        ]
        .join("\n")
    );
}

#[test]
fn durations_and_sizes() {
    for (text, ms) in [
        ("30s", 30_000),
        ("1h30m", 5_400_000),
        ("7d", 604_800_000),
        ("250ms", 250),
        ("0s", 0),
        ("1m5ms", 60_005),
    ] {
        assert_eq!(parse_duration(text), Ok(ms));
        assert_eq!(format_duration(ms), text);
    }
    for bad in [
        "",
        "30",
        "s",
        "30 s",
        "5m5m",
        "5s5m",
        "1.5h",
        "-5s",
        "99999999999999999999d",
        "36501d",
        "5é",
        "é",
    ] {
        assert!(parse_duration(bad).is_err(), "{bad}");
    }
    assert_eq!(parse_size(&json!("200MiB")), Ok(200 << 20));
    assert_eq!(parse_size(&json!("5")), Ok(5));
    assert_eq!(parse_size(&json!(5)), Ok(5));
    for bad in [
        json!("MiB"),
        json!("5 MiB"),
        json!(-1),
        json!(1.5),
        json!("9999999999TiB"),
        json!("5é"),
        json!(null),
    ] {
        assert!(parse_size(&bad).is_err(), "{bad}");
    }
}
