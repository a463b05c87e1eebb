//! Any text as a playbook: it compiles or its problems are told; what compiled is the same through JSON, can be bound,
//! and can be drawn.

#![no_main]

use libfuzzer_sys::fuzz_target;
use playbook::manifest::Manifest;
use serde_json::json;

fuzz_target!(|text: &str| {
    let compiled = match playbook::compile(text) {
        Ok(compiled) => compiled,
        Err(problems) => {
            assert!(!problems.list.is_empty(), "refused without a reason");
            let _ = problems.to_string();
            for problem in &problems.list {
                assert!(
                    playbook::explain::explain(problem.code).is_some(),
                    "no explanation of {}",
                    problem.code
                );
            }
            return;
        }
    };
    let manifest = compiled.manifest;
    let json = serde_json::to_value(&manifest).expect("a manifest is JSON");
    let read: Manifest = serde_json::from_value(json).expect("a manifest is read back");
    assert_eq!(read, manifest);
    assert_eq!(read.sha256(), manifest.sha256());
    let _ = playbook::graph::mermaid(&manifest, |_| None);
    let hosts = json!({"hosts": ["a", "b"]});
    for given in [json!({}), hosts] {
        if let Ok(inputs) = playbook::bind_inputs(&manifest, &given) {
            let agents =
                [json!({"id": "a", "online": true, "labels": {"x": "y"}, "facts": {}, "version": "1"})];
            let _ = playbook::resolve_targets(&manifest, &inputs, &json!({}), &agents);
        }
    }
});
