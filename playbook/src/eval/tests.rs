use serde_json::{Value, json};

use super::{Scope, Shared};
use crate::manifest::{Expression, Template, TextPart};

fn expression(source: &str) -> Expression {
    Expression(source.to_owned())
}

fn scope() -> Scope<'static> {
    let mut scope = Scope::new();
    scope.bind("inputs", &json!({"hosts": ["a", "b"], "n": 3, "f": 1.5}));
    scope.bind(
        "steps",
        &json!({"scan": {"ok": [{"target": {"id": "a"}, "output": {"matches": [1, 2]}}], "failed": []}}),
    );
    scope
}

#[test]
fn expressions_give_json() {
    let scope = scope();
    for (source, expected) in [
        ("size(inputs.hosts) + inputs.n", json!(5)),
        ("inputs.f * 2.0", json!(3.0)),
        (
            "steps.scan.ok.filter(i, size(i.output.matches) > 1).map(i, i.target.id)",
            json!(["a"]),
        ),
        ("'a' in inputs.hosts", json!(true)),
        ("{'b': 1, 'a': [true, null]}", json!({"a": [true, null], "b": 1})),
        ("has(inputs.nothing)", json!(false)),
        ("duration('90s')", json!("1m30s")),
    ] {
        assert_eq!(scope.eval(&expression(source)), Ok(expected), "{source}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let scope = scope();
    for source in [
        "inputs.nothing",
        "unknown",
        "1 / 0",
        "1 +",
        "",
        "inputs.hosts[7]",
        "9223372036854775807 + 1",
    ] {
        let error = scope.eval(&expression(source)).expect_err(source);
        assert!(!error.reason.is_empty(), "{source}");
    }
    assert!(scope.test(&expression("1")).is_err(), "a condition is a bool");
}

#[test]
fn pathological_expressions_are_refused_before_they_run() {
    let mut scope = Scope::new();
    scope.bind("l", &Value::Array((0..3_000).map(|n| json!(n)).collect()));
    let nested = "l.exists(a, l.exists(b, l.exists(c, a + b + c < 0)))";
    assert!(
        scope
            .eval(&expression(nested))
            .expect_err("too many steps")
            .reason
            .contains("steps")
    );
    assert!(scope.eval(&expression("l.exists(a, a == 2999)")).is_ok());
    for source in [
        "(".repeat(5_000),
        "!".repeat(4_000) + "true",
        format!("{}1{}", "(".repeat(300), ")".repeat(300)),
        format!("a{}", ".b".repeat(1_900)),
        "1+".repeat(1_900) + "1",
        "true?".repeat(700) + "1",
        "[".repeat(4_000),
    ] {
        assert!(scope.eval(&expression(&source)).is_err());
    }
}

#[test]
fn a_list_within_an_item_does_not_count_as_nesting() {
    let items: Vec<Value> = (0..6_000).map(|n| json!({"matches": [n, n + 1]})).collect();
    let mut scope = Scope::new();
    scope.bind("items", &Value::Array(items));
    let found = scope.eval(&expression("items.exists(i, i.matches.exists(m, m == 6000))"));
    assert_eq!(found, Ok(json!(true)));
}

#[test]
fn children_see_their_parents_and_share() {
    let base = scope();
    let shared = Shared::new(&json!({"id": "a"}));
    let mut child = base.child();
    child.bind_shared("target", &shared);
    assert_eq!(
        child.eval(&expression("target.id in inputs.hosts")),
        Ok(json!(true))
    );
    assert!(base.eval(&expression("target.id")).is_err());
}

#[test]
fn templates_keep_types_and_render_text() {
    let scope = scope();
    let whole = Template::Expression(expression("inputs.n"));
    assert_eq!(scope.render(&whole), Ok(json!(3)));
    let text = Template::Text(vec![
        TextPart::Text("n=".into()),
        TextPart::Expression(expression("inputs.n")),
        TextPart::Expression(expression("inputs.hosts")),
    ]);
    assert_eq!(scope.render(&text), Ok(json!("n=3[\"a\",\"b\"]")));
}
