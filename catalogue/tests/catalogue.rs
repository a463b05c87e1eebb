//! What must hold of every action, and of the words that checks answer with.

use catalogue::{all, find, format_duration, parse_duration, parse_size};
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
            assert_bounded(schema, &format!("{} {which}", action.name));
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

fn assert_bounded(schema: &Value, at: &str) {
    match schema["type"].as_str() {
        Some("object") => {
            assert_eq!(schema["additionalProperties"], json!(false), "{at}");
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                assert_bounded(property, &format!("{at}.{name}"));
            }
        }
        Some("array") => {
            assert!(schema["maxItems"].is_u64(), "{at}");
            assert_bounded(&schema["items"], &format!("{at}[]"));
        }
        Some("string") => assert!(
            schema["maxLength"].is_u64() || schema["pattern"].is_string() || schema["enum"].is_array(),
            "{at}"
        ),
        _ => {}
    }
}

#[test]
fn every_inverse_exists() {
    for action in all() {
        if let Some(inverse) = action.inverse {
            assert!(find(inverse).is_some(), "{} -> {inverse}", action.name);
        }
    }
}

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
