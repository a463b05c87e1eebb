//! The library compiles, binds and resolves.

use serde_json::json;

#[test]
fn every_playbook_of_the_library_compiles() {
    for (name, text) in playbook::library::all() {
        match playbook::compile(text) {
            Ok(compiled) => assert_eq!(compiled.manifest.playbook, *name),
            Err(problems) => panic!("{name}:\n{problems}"),
        }
    }
}

#[test]
fn ransomware_contain_becomes_a_plan() {
    let text = playbook::library::find("ransomware-contain").expect("it is in the library");
    let manifest = playbook::compile(text).expect("it compiles").manifest;
    let inputs = playbook::bind_inputs(&manifest, &json!({"hosts": ["b", "a", "b"]})).expect("inputs bind");
    assert_eq!(inputs["hosts"], json!(["b", "a"]));
    let agents = [
        json!({"id": "a", "online": true, "labels": {}}),
        json!({"id": "b", "online": false, "labels": {}}),
    ];
    let targets =
        playbook::resolve_targets(&manifest, &inputs, &json!({}), &agents).expect("targets resolve");
    assert_eq!(targets["all"], ["a", "b"]);
    let kill = manifest
        .step(manifest.step_number("kill").expect("a step"))
        .expect("a step");
    assert!(kill.when_per_task);
    assert_eq!(
        playbook::eval::here_variables(kill.when.as_ref().expect("a when")),
        ["processes"]
    );
}

#[test]
fn a_pattern_holds_the_whole_text() {
    let text = r#"
playbook: pattern
version: 1
inputs: {ticket: {type: string, pattern: "INC[0-9]+"}, when: {type: timestamp, default: "2026-01-01T00:00:00Z"}}
steps: {a: {decide: [{else: {x: "${inputs.ticket}"}}]}}
"#;
    let manifest = playbook::compile(text).expect("it compiles").manifest;
    assert!(playbook::bind_inputs(&manifest, &json!({"ticket": "INC42"})).is_ok());
    for bad in ["xINC42", "INC42x", "", "INC"] {
        let problems = playbook::bind_inputs(&manifest, &json!({"ticket": bad})).expect_err(bad);
        assert!(problems.to_string().contains("does not match"), "{problems}");
    }
    let broken = text.replace("[0-9]+", "[0-9");
    assert!(
        playbook::compile(&broken)
            .expect_err("no pattern")
            .to_string()
            .contains("E0111")
    );
}
