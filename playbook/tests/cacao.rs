//! CACAO documents: what is valid, and what is not and why.

#![expect(clippy::disallowed_methods, reason = "a test reads its cases from files")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use playbook::cacao;
use serde_json::{Value, json};

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
    for name in ["linear", "branches", "commands"] {
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
        let found = cacao::check(&text);
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
    json!(document).to_string()
}
