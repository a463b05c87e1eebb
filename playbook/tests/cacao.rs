//! CACAO documents: what is valid, and what is not and why.

#![expect(clippy::disallowed_methods, reason = "a test reads its cases from files")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use playbook::cacao::{self, Mode};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cacao")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).expect("a case is read")
}

fn valid(name: &str) -> Value {
    serde_json::from_str(&read(&format!("valid/{name}.json"))).expect("a valid case is JSON")
}

/// Compares with a file, or writes it anew with `UPDATE=1`.
fn expect(name: &str, said: &str) {
    let file = folder().join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, said).expect("the expected text is written");
    }
    let told = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(told == said, "{name} is not as expected:\n{said}");
}

#[test]
fn valid_documents_violate_nothing() {
    for name in ["linear", "branches", "commands", "changing"] {
        let found = cacao::check(&read(&format!("valid/{name}.json")));
        assert_eq!(found, Vec::new(), "{name}");
    }
}

/// `invalid.json` has the cases: a code, a valid document, and the one change (`set` or `remove` at a JSON pointer,
/// or the whole `text`) by which it breaks the rule. `invalid.txt` has what is said of each.
#[test]
fn each_rule_is_broken_by_one_change() {
    let cases: Vec<Value> = serde_json::from_str(&read("invalid.json")).expect("the cases are JSON");
    let mut said = String::new();
    let mut shown = BTreeSet::new();
    for case in &cases {
        let code = case["code"].as_str().expect("a code");
        let text = changed(case);
        let mut found = cacao::check(&text);
        if let (true, Err(refused)) = (
            found.iter().all(|violation| violation.is_warning()),
            cacao::import(&text, Mode::Strict),
        ) {
            found.extend(refused.list);
        }
        assert!(
            found.iter().any(|violation| violation.code == code),
            "{case} gives {found:?}"
        );
        said.push_str(&format!("# {}\n", case["why"].as_str().unwrap_or(code)));
        for violation in found {
            said.push_str(&format!("{violation}\n"));
        }
        said.push('\n');
        shown.insert(code);
    }
    let known: BTreeSet<&str> = playbook::explain::all()
        .map(|known| known.code)
        .filter(|code| code.starts_with('C'))
        .collect();
    let missing: Vec<&&str> = known.difference(&shown).collect();
    assert!(missing.is_empty(), "no case breaks {missing:?}");
    expect("invalid.txt", &said);
}

/// Each valid document beside what it becomes.
#[test]
fn documents_become_playbooks() {
    for name in ["linear", "branches", "commands", "changing"] {
        let imported = cacao::import(&read(&format!("valid/{name}.json")), Mode::Strict);
        let imported = imported.unwrap_or_else(|all| panic!("{name}: {all}"));
        expect(&format!("mapped/{name}.yaml"), &imported.mapped.text);
        compiles(name, &imported.mapped.text);
    }
}

#[test]
fn rules_that_are_not_in_the_playbook_come_beside_it() {
    let imported = cacao::import(&read("valid/commands.json"), Mode::Strict).expect("a valid document");
    let [rules] = imported.mapped.rulesets.as_slice() else {
        panic!("one set of rules");
    };
    assert!(rules.text.starts_with("title: t\n"));
    assert!(
        imported
            .mapped
            .text
            .contains(&format!("ruleset://{}@sha256:{}", rules.name, rules.sha256))
    );
}

/// `lenient.json` has many faults that can be repaired, `lenient.txt` what was repaired and what it becomes.
#[test]
fn what_can_be_repaired_is_and_is_told() {
    let text = read("lenient.json");
    assert!(cacao::import(&text, Mode::Strict).is_err());
    let imported = cacao::import(&text, Mode::Lenient).unwrap_or_else(|all| panic!("{all}"));
    let mut said = String::new();
    for repair in &imported.repairs {
        said.push_str(&format!("{}: {}\n", repair.path, repair.message));
    }
    expect("lenient.txt", &format!("{said}\n{}", imported.mapped.text));
    compiles("lenient", &imported.mapped.text);
}

/// Whatever is repaired, a secret in clear text and a reference to nothing are not.
#[test]
fn what_would_be_a_guess_is_not_repaired() {
    let cases: Vec<Value> = serde_json::from_str(&read("invalid.json")).expect("the cases are JSON");
    for code in ["C0105", "C0205", "C0305", "C0308", "C0310", "C0403", "C0606"] {
        let of_code = cases.iter().filter(|case| case["code"] == code);
        let refused = of_code.filter(|case| {
            let told = cacao::import(&changed(case), Mode::Lenient);
            told.is_err_and(|all| all.list.iter().any(|violation| violation.code == code))
        });
        assert!(refused.count() > 0, "{code} is repaired");
    }
}

/// YAML would read these as a number, a flag and nothing.
#[test]
fn names_are_names() {
    for name in ["22", "no", "True", "null", "~", "0x1f", "1e3", "in", "loop"] {
        let mut document = valid("branches");
        document["name"] = name.into();
        for step in document["workflow"]
            .as_object_mut()
            .expect("a workflow")
            .values_mut()
        {
            step["name"] = name.into();
        }
        let variable = document["playbook_variables"]["__host__"].take();
        document["playbook_variables"]["__no__"] = variable;
        let text = document
            .to_string()
            .replace("__host__", "__no__")
            .replace("\"__no__\":null,", "");
        let imported = cacao::import(&text, Mode::Strict).unwrap_or_else(|all| panic!("{name}: {all}"));
        compiles(name, &imported.mapped.text);
    }
}

/// Every playbook of ours: the library, the examples, and one that `exported.json` shows.
fn ours() -> Vec<(&'static str, &'static str)> {
    let mut all = playbook::library::all().to_vec();
    all.extend([
        ("failed-logins", include_str!("../examples/failed-logins.yaml")),
        (
            "phishing-response",
            include_str!("../examples/phishing-response.yaml"),
        ),
        (
            "ransomware-response",
            include_str!("../examples/ransomware-response.yaml"),
        ),
        ("exported", EXPORTED),
    ]);
    all
}

const EXPORTED: &str = r#"# Comments come back too.
playbook: exported
version: 4
info: {attack: [T1059], category: remediation, impact: 40, tlp: amber, description: "Shows what CACAO says of each kind"}
inputs:
  hosts: {type: list<host>}
  count: {type: int, default: 3}
  note: {type: string, default: "__x__:value"}
targets: {all: {hosts: "${inputs.hosts}"}}
steps:
  scan: {targets: all, do: scan.yara, with: {rules: 'rule r { condition: true }', roots: [/srv]}, timeout: {total: 1h}, on_failure: continue}
  look: {targets: all, do: host.info, on_failure: continue}
  sure: {needs: [scan.done, look.done], delay: 5s, ask: {roles: [soc-lead], expires: 1h, text: "Go on?", form: {go: {type: bool}}}}
  next: {needs: [sure], when: steps.sure.output.go, playbook: {name: ransomware-contain}, with: {hosts: "${inputs.hosts}"}}
finally:
  tell: {notify: {to: ["log:soc"], text: done}}
"#;

fn origin() -> cacao::Origin {
    cacao::Origin {
        created_by: cacao::Origin::identity("a test"),
        created: "2024-05-01T12:00:00Z".parse().expect("a moment"),
        modified: "2024-05-02T12:00:00.5Z".parse().expect("a moment"),
    }
}

#[test]
fn what_is_exported_is_valid_and_comes_back_as_it_was() {
    for (name, text) in ours() {
        let document =
            cacao::export(text, &origin()).unwrap_or_else(|problems| panic!("{name}:\n{problems}"));
        assert_eq!(
            document,
            cacao::export(text, &origin()).expect("again"),
            "the same bytes"
        );
        assert_eq!(cacao::check(&document), Vec::new(), "{name}");
        let imported = cacao::import(&document, Mode::Strict).unwrap_or_else(|all| panic!("{name}: {all}"));
        assert!(imported.carried);
        let manifest = |text: &str| playbook::compile(text).expect("it compiles").manifest;
        assert_eq!(imported.mapped.text, text, "{name}");
        assert_eq!(manifest(&imported.mapped.text), manifest(text), "{name}");
    }
    expect(
        "valid/exported.json",
        &cacao::export(EXPORTED, &origin()).expect("it compiles"),
    );
}

/// Without the extension, what the document shows becomes a playbook of its own.
#[test]
fn another_tool_can_read_what_is_exported() {
    for (name, text) in ours() {
        let document = cacao::export(text, &origin()).expect("it compiles");
        let mut document: Value = serde_json::from_str(&document).expect("JSON");
        let root = document.as_object_mut().expect("an object");
        root.remove("playbook_extensions");
        root.remove("extension_definitions");
        let imported =
            cacao::import(&document.to_string(), Mode::Strict).unwrap_or_else(|all| panic!("{name}: {all}"));
        assert!(!imported.carried);
        compiles(name, &imported.mapped.text);
    }
}

fn compiles(name: &str, text: &str) {
    if let Err(problems) = playbook::compile(text) {
        panic!("{name}:\n{problems}\n{text}");
    }
}

/// Puts so many steps behind the start: one after the other, each in a branch of the one before, or all caught by one.
fn chain(document: &mut Value, count: u64, nested: bool) {
    let id = |kind: &str, n: u64| format!("{kind}--00000000-0000-4000-8000-{:012x}", 0x1000 + n);
    let workflow = document["workflow"].as_object_mut().expect("a workflow");
    let first = workflow["start--00000000-0000-4000-8000-000000000010"]["on_completion"].take();
    let kind = if nested { "if-condition" } else { "action" };
    for n in 0..count {
        let mut step = workflow["action--00000000-0000-4000-8000-000000000011"].clone();
        step["on_completion"] = if n + 1 < count {
            id(kind, n + 1).into()
        } else {
            first.clone()
        };
        if nested {
            let (end, inner) = (id("end", 0x1000 + n), step["on_completion"].take());
            workflow.insert(end.clone(), serde_json::json!({"type": "end"}));
            step = serde_json::json!({"type": kind, "condition": "__n__:value = 1", "on_true": inner, "on_completion": end});
        }
        workflow.insert(id(kind, n), step);
    }
    workflow["start--00000000-0000-4000-8000-000000000010"]["on_completion"] = id(kind, 0).into();
    document["playbook_variables"] = serde_json::json!({"__n__": {"type": "integer", "external": true}});
}

/// Every step of a branch is asked how it ended: too many for one expression.
#[test]
fn what_becomes_more_than_we_take_is_refused() {
    let mut document = valid("linear");
    chain(&mut document, 60, false);
    let workflow = document["workflow"].as_object_mut().expect("a workflow");
    for (id, step) in workflow.iter_mut().filter(|(id, _)| id.starts_with("action--")) {
        let next = step
            .as_object_mut()
            .expect("a step")
            .remove("on_completion")
            .expect("an edge");
        step["on_success"] = next;
        step["name"] = Value::from(id.as_str());
    }
    let handler = "action--00000000-0000-4000-8000-0000000000ff";
    let mut last = workflow["action--00000000-0000-4000-8000-000000000012"].clone();
    last.as_object_mut().expect("a step").remove("on_success");
    last["on_completion"] = "end--00000000-0000-4000-8000-000000000013".into();
    workflow.insert(handler.to_owned(), last);
    document["workflow_exception"] = handler.into();
    let refused = cacao::import(&document.to_string(), Mode::Strict).expect_err("too much");
    assert_eq!(refused.list[0].code, "C0804", "{refused}");
}

fn changed(case: &Value) -> String {
    if let Some(text) = case["text"].as_str() {
        return text
            .replace("LONG", &"[".repeat(100))
            .replace("MANY", &" ".repeat(5 << 20));
    }
    let mut document = valid(case["base"].as_str().expect("a base"));
    for change in case["changes"].as_array().expect("changes") {
        let (pointer, value) = (change[0].as_str().expect("a pointer"), change.get(1));
        let (outer, name) = pointer.rsplit_once('/').expect("a pointer to something within");
        let name = name.replace("~1", "/").replace("~0", "~");
        match (document.pointer_mut(outer), value) {
            (Some(Value::Object(entries)), Some(value)) => {
                entries.insert(name, value.clone());
            }
            (Some(Value::Object(entries)), None) => {
                entries
                    .remove(&name)
                    .unwrap_or_else(|| panic!("{pointer} is not there"));
            }
            (Some(Value::Array(items)), Some(value)) => {
                items[name.parse::<usize>().expect("a number")] = value.clone();
            }
            other => panic!("{pointer}: {other:?}"),
        }
    }
    if let Some(count) = case["chain"].as_u64() {
        chain(&mut document, count, case["nested"] == true);
    }
    document.to_string().replace("HUGE", &"x".repeat(600 << 10))
}
