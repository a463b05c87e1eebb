//! The three examples and the catalogue fit each other: what they give is taken, what they read is given.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

const EXAMPLES: [(&str, &str); 3] = [
    ("failed-logins", include_str!("../examples/failed-logins.yaml")),
    (
        "phishing-response",
        include_str!("../examples/phishing-response.yaml"),
    ),
    (
        "ransomware-response",
        include_str!("../examples/ransomware-response.yaml"),
    ),
];

/// Each `do` of a step, or of what undoes it: where it stands, its action, what it gives.
fn actions(playbook: &Value) -> Vec<(String, &'static catalogue::Action, Map<String, Value>)> {
    let mut found = Vec::new();
    for section in ["steps", "finally"] {
        for (name, step) in playbook[section].as_object().expect("a map") {
            for (place, does) in [
                (name.clone(), step),
                (format!("{name}.compensate"), &step["compensate"]),
            ] {
                if let Some(action) = does["do"].as_str() {
                    let action =
                        catalogue::find(action).unwrap_or_else(|| panic!("{place}: no action {action}"));
                    let with = does["with"].as_object().cloned().unwrap_or_default();
                    found.push((place, action, with));
                }
            }
        }
    }
    found
}

#[test]
fn the_examples_compile() {
    for (example, text) in EXAMPLES {
        match playbook::compile(text) {
            Ok(compiled) => assert_eq!(compiled.manifest.playbook, example),
            Err(problems) => panic!("{example}:\n{problems}"),
        }
    }
}

fn read(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("YAML")
}

#[test]
fn what_the_examples_give_is_taken() {
    let mut seen = 0;
    for (example, text) in EXAMPLES {
        for (place, action, with) in actions(&read(text)) {
            seen += 1;
            let parameters = action.parameters();
            for parameter in parameters.iter().filter(|p| p.required) {
                assert!(
                    with.contains_key(&parameter.name),
                    "{example} {place}: no {}",
                    parameter.name
                );
            }
            for (name, value) in &with {
                assert!(
                    parameters.iter().any(|p| p.name == *name),
                    "{example} {place}: {name}"
                );
                // What an expression gives is not known before it runs.
                if value.to_string().contains("${") {
                    continue;
                }
                let findings = action.check_parameters(&json!({ name.as_str(): value }));
                let findings: Vec<_> = findings
                    .iter()
                    .filter(|f| f.contains(&format!("`{name}")))
                    .collect();
                assert!(findings.is_empty(), "{example} {place}: {findings:?}");
            }
        }
    }
    assert!(seen >= 25, "{seen}");
}

#[test]
fn what_the_examples_read_is_always_given() {
    // `steps.x.output.f`, and `i.output.f` in a macro over the tasks of `steps.x`.
    let own = regex::Regex::new(r"steps\.(\w+)\.output\.(\w+)").expect("a pattern");
    let items = regex::Regex::new(r"steps\.(\w+)\.(?:ok|failed|items)\.\w+\(i, [^'\n]*?i\.output\.(\w+)")
        .expect("a pattern");
    let mut seen = 0;
    for (example, text) in EXAMPLES {
        let by_step: BTreeMap<String, _> = actions(&read(text))
            .into_iter()
            .map(|(place, action, _)| (place, action))
            .collect();
        for found in own.captures_iter(text).chain(items.captures_iter(text)) {
            // A decision's output is what its rules set.
            let Some(action) = by_step.get(&found[1]) else {
                continue;
            };
            seen += 1;
            let required = action.output_schema()["required"].as_array().expect("a list");
            assert!(
                required.contains(&json!(&found[2])),
                "{example}: {} does not always give {}",
                action.name,
                &found[2]
            );
        }
    }
    assert!(seen >= 30, "{seen}");
}

#[test]
fn what_one_action_gives_another_takes() {
    let output = |action: &str, field: &str| {
        catalogue::find(action).expect("an action").output_schema()["properties"][field].clone()
    };
    let parameter = |action: &str, name: &str| {
        let mut schema =
            catalogue::find(action).expect("an action").parameters_schema()["properties"][name].clone();
        schema.as_object_mut().expect("a schema").remove("description");
        schema
    };
    assert_eq!(
        output("mail.search", "messages"),
        parameter("mail.purge", "messages")
    );
    assert_eq!(
        output("email.parse", "observables"),
        parameter("incident.open", "observables")
    );
    let attachment = &output("email.parse", "attachments")["items"]["properties"];
    for action in ["artifact.quarantine", "file.scan"] {
        assert_eq!(
            attachment["id"]["pattern"],
            parameter(action, "artifact")["pattern"]
        );
    }
    let longest = |schema: &Value| schema["maxLength"].as_u64().expect("a bound");
    assert!(longest(&output("email.parse", "subject")) < longest(&parameter("incident.open", "title")));
    assert!(longest(&output("email.parse", "urls")["items"]) <= longest(&parameter("intel.lookup", "value")));
}

#[test]
fn a_mail_that_was_handed_in_becomes_the_input_of_the_phishing_response() {
    let playbook = playbook::compile(EXAMPLES[1].1).expect("it compiles").manifest;
    let bound = |media: &str, size_bytes: u64| {
        let sha256 = "ab".repeat(32);
        let event = json!({
            "raw": {"sha256": sha256, "size_bytes": size_bytes, "media": media, "name": "a.eml"},
            "reporter": "anna@example.org",
        });
        let given =
            playbook::inputs_of_event(&playbook, &event, &Value::Null, &json!({})).expect("it is there");
        playbook::bind_inputs(&playbook, &Value::Object(given)).map_err(|problems| problems.to_string())
    };
    let inputs = bound("message/rfc822", 50 << 20).expect("it fits");
    assert_eq!(inputs["message"], "ab".repeat(32));
    for (media, size_bytes, why) in [
        (
            "text/html",
            1,
            "the artifact is \"text/html\", not message/rfc822",
        ),
        (
            "message/rfc822",
            (50 << 20) + 1,
            "the artifact has 52428801 bytes, of at most 52428800",
        ),
    ] {
        let said = bound(media, size_bytes).expect_err("it does not fit");
        assert!(said.contains(why), "{said}");
    }
}
