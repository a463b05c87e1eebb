//! Any text as an expression over fixed values: it ends, within its limits, twice with the same answer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use playbook::eval::{RESULT_BYTES_MAX, Scope, as_written, here_variables};
use playbook::manifest::Expression;
use serde_json::json;

fuzz_target!(|source: &str| {
    let expression = Expression(source.to_owned());
    let _ = here_variables(&expression);
    let _ = as_written(&expression);
    let mut scope = Scope::new();
    scope.bind(
        "inputs",
        &json!({
            "hosts": ["a", "b", "c"], "n": -1, "big": i64::MAX, "f": 1.5, "text": "é\u{202e}x", "empty": [], "none": null,
            "moment": "2026-01-31T12:00:00Z", "span": "1h30m", "nested": [[1, 2], [], [{"x": [0]}]], "map": {"k": "v", "b": 1},
        }),
    );
    scope.bind(
        "steps",
        &json!({"scan": {"status": "succeeded", "ok": [
            {"target": {"id": "a"}, "output": {"matches": [1]}}, {"target": {"id": "b"}, "output": {"matches": []}},
        ]}}),
    );
    let mut child = scope.child();
    child.bind(
        "target",
        &json!({"id": "a", "labels": {"criticality": "critical"}}),
    );
    child.bind("error", &json!({"code": "timeout", "message": "m"}));
    let first = child.eval(&expression);
    assert_eq!(first, child.eval(&expression), "two answers");
    if let Ok(value) = first {
        assert!(value.to_string().len() <= RESULT_BYTES_MAX);
        let _ = child.test(&expression);
    }
});
