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

fn numbers(count: i64) -> Value {
    (0..count).collect()
}

#[test]
fn what_is_too_deep_or_too_long_is_refused_before_it_runs() {
    for source in [
        "(".repeat(5_000),
        "!".repeat(4_000) + "true",
        format!("{}1{}", "(".repeat(300), ")".repeat(300)),
        format!("a{}", ".b".repeat(1_900)),
        "1+".repeat(1_900) + "1",
        "true?".repeat(700) + "1",
        "[".repeat(4_000),
        "-".repeat(4_000) + "1",
    ] {
        assert!(Scope::new().eval(&expression(&source)).is_err());
    }
}

#[test]
fn steps_and_bytes_are_bounded_whatever_the_nesting() {
    let mut scope = Scope::new();
    scope.bind("l", &numbers(3_000));
    scope.bind("s", &json!("x".repeat(10_000)));
    let double = |inner: &str| format!("[s + s].map(s, {inner})");
    let doubled = (0..20).fold("s".to_owned(), |inner, _| double(&inner));
    for (source, limit) in [
        (
            "l.exists(a, l.exists(b, l.exists(c, a + b + c < 0)))".to_owned(),
            "steps",
        ),
        ("l.map(a, l.map(b, a * b))".to_owned(), "steps"),
        ("l.all(a, l.all(b, l[b] in l))".to_owned(), "steps"),
        // An error in every item must not let the walk go on for nothing.
        (
            "l.exists(a, l.exists(b, l.exists(c, a.nothing)))".to_owned(),
            "steps",
        ),
        ("l.map(a, l + l + l + l)".to_owned(), "bytes"),
        ("l.map(a, s + s)".to_owned(), "bytes"),
        (doubled, "bytes"),
        ("l.map(a, s)".to_owned(), "larger"),
    ] {
        let error = scope.eval(&expression(&source)).expect_err(&source);
        assert!(error.reason.contains(limit), "{source}: {}", error.reason);
        assert!(error.reason.len() < 300, "an error holds no values");
    }
}

#[test]
fn lists_of_a_whole_fleet_can_be_compared() {
    let id = |n: i64| format!("agent-{n:05}");
    let items: Value = (0..10_000i64)
        .map(|n| json!({"target": {"id": id(n)}, "output": {"matches": [n, n + 1]}}))
        .collect();
    let mut scope = Scope::new();
    scope.bind("hosts", &(7_500..12_500i64).map(id).collect());
    scope.bind("steps", &json!({"scan": {"ok": items}}));
    let others = "size(hosts.filter(h, !(h in steps.scan.ok.map(i, i.target.id))))";
    assert!(
        scope.eval(&expression(others)).is_err(),
        "maps anew for each host"
    );
    let one = "steps.scan.ok.filter(i, i.output.matches.exists(m, m == 6000)).map(i, i.target.id)";
    assert_eq!(
        scope.eval(&expression(one)),
        Ok(json!(["agent-05999", "agent-06000"]))
    );
    // As a playbook does it: ids first (a `decide`), then the test for each task in its own scope.
    let ids = scope
        .eval(&expression("steps.scan.ok.map(i, i.target.id)"))
        .unwrap();
    scope.bind("ids", &ids);
    for n in [0, 9_999, 10_000] {
        let mut task = scope.child();
        task.bind("target", &json!({"id": id(n)}));
        assert_eq!(task.test(&expression("target.id in ids")), Ok(n < 10_000));
    }
    assert_eq!(
        scope.eval(&expression("size(hosts.filter(h, !(h in ids)))")),
        Ok(json!(2_500))
    );
}

#[test]
fn a_map_is_never_gone_through() {
    let mut scope = scope();
    scope.bind("target", &json!({"labels": {"a": "1"}}));
    for source in [
        "{'a': 1}.map(k, k)",
        "[{'a': 1}].map(m, m.map(k, k))",
        "target.labels.exists(k, k == 'a')",
        "[target.labels][0].all(k, true)",
    ] {
        let error = scope.eval(&expression(source)).expect_err(source);
        assert!(error.reason.contains("map"), "{source}: {}", error.reason);
    }
}

#[test]
fn has_takes_absence_for_an_answer() {
    let mut scope = Scope::new();
    scope.bind("a", &json!({"b": {"c": 1, "n": null}, "gone": null}));
    for (source, expected) in [
        ("has(a.b.c)", true),
        ("has(a.b.n)", false),
        ("has(a.b.x)", false),
        ("has(a.x.y.z)", false),
        ("has(a.gone.y)", false),
    ] {
        assert_eq!(scope.test(&expression(source)), Ok(expected), "{source}");
    }
    assert!(
        scope.test(&expression("has(a.b.c.d)")).is_err(),
        "an int has no fields"
    );
}

#[test]
fn functions_that_do_not_exist_and_patterns_from_data_are_refused() {
    let mut scope = Scope::new();
    scope.bind("p", &json!("a+"));
    for (source, said) in [
        ("now()", "no function `now`"),
        ("'a'.startWith('b')", "did you mean `startsWith`"),
        ("size()", "size(list, map or text)"),
        ("'aa'.matches(p)", "written out in quotes"),
        ("'aa'.matches('(')", "no regular expression"),
        ("b'abc'", "bytes"),
        ("Msg{a: 1}", "message types"),
        ("[1].map(x, x.?y)", "unsupported"),
    ] {
        let error = scope.eval(&expression(source)).expect_err(source);
        assert!(error.reason.contains(said), "{source}: {}", error.reason);
    }
    assert_eq!(scope.eval(&expression("'xaay'.matches('a+')")), Ok(json!(true)));
}

#[test]
fn functions() {
    let scope = Scope::new();
    for (source, expected) in [
        ("['b', 'a', 'b'].distinct().sort().join('-')", json!("a-b")),
        ("[[1], [2, 3]].flatten()", json!([1, 2, 3])),
        ("[3, 1, 2].max() - [3, 1, 2].min()", json!(2)),
        ("' A b '.trim().lowerAscii().split(' ')", json!(["a", "b"])),
        (
            "timestamp('2026-01-31T12:00:00Z') + duration('1h30m')",
            json!("2026-01-31T13:30:00Z"),
        ),
        (
            "timestamp('2026-01-31T12:00:00Z') - timestamp('2026-01-31T11:00:00Z')",
            json!("1h"),
        ),
        ("duration('1m') > duration('59s')", json!(true)),
        ("string(5) + string(true) + string(1.5)", json!("5true1.5")),
        ("int('7') + int(2.9)", json!(9)),
        ("5u + 1", json!(6)),
        ("9007199254740993 == 9007199254740992.0", json!(false)),
    ] {
        assert_eq!(scope.eval(&expression(source)), Ok(expected), "{source}");
    }
}

/// Where the `cel` crate evaluates as well, both must agree.
#[test]
fn the_walk_agrees_with_the_reference() {
    for source in [
        "1 + 2 * 3 - 4 / 3 % 2",
        "-7 / 2",
        "-7 % 3",
        "1.5 * 2.0 + 0.25",
        "1 < 2.5 && 2.5 >= 2 && 3 == 3.0",
        "'a' + 'b' < 'b'",
        "true || 1 / 0 == 1",
        "1 / 0 == 1 || true",
        "false && 1 / 0 == 1",
        "1 / 0 == 1 && false",
        "1 / 0 == 1 || false",
        "[1, 2, 3].map(x, x * x)",
        "[1, 2, 3].map(x, x > 1, x * x)",
        "[1, 2, 3].filter(x, x % 2 == 1)",
        "[1, 2, 3].all(x, x > 0)",
        "[1, 2, 3].exists(x, x > 2)",
        "[1, 2, 3].exists_one(x, x > 1)",
        "[0, 1].exists(x, 1 / x == 1)",
        "[0, 2].exists(x, 1 / x == 1)",
        "[1, 0].all(x, 1 / x == 2)",
        "[].all(x, false)",
        "[].exists(x, true)",
        "[[1], [2]].map(l, l.map(x, l[0] + x))",
        "[1, 2].map(x, [3, 4].map(x, x))",
        "{'a': {'b': [1, 2]}}.a.b[1]",
        "{'a': 1}['a']",
        "{'a': 1}['b']",
        "'a' in {'a': 1}",
        "2 in [1, 2]",
        "2.0 in [1, 2]",
        "[1] + [2, 3]",
        "[1, 2] == [1, 2.0]",
        "{'a': 1} == {'a': 1}",
        "1 == 'a'",
        "null == null",
        "[1][5]",
        "[1][-1]",
        "size('häh') + size([1]) + size({'a': 1})",
        "'hello'.contains('ell') && 'hello'.startsWith('he') && 'hello'.endsWith('lo')",
        "'a1b'.matches('[0-9]')",
        "true ? 1 : 2",
        "1 ? 1 : 2",
        "!1",
        "9223372036854775807 + 1",
        "-(-9223372036854775807 - 1)",
        "int('12') + int(3.7)",
        "double('1.5') + double(2)",
        "string(12) + string(true)",
        "has({'a': 1}.a)",
        "has({'a': 1}.b)",
        "1 + 'a'",
        "1 < 'a'",
        "true < false",
    ] {
        let program = cel::Program::compile(source).expect(source);
        let reference = program.execute(&cel::Context::default());
        let ours = Scope::new().eval(&expression(source));
        match (reference, ours) {
            (Ok(reference), Ok(ours)) => {
                let reference = reference.json().expect(source);
                assert_eq!(reference, ours, "{source}");
            }
            (Err(_), Err(_)) => {}
            (reference, ours) => panic!("{source}: the reference gives {reference:?}, the walk {ours:?}"),
        }
    }
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
