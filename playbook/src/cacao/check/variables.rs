//! Variables: declared, typed, and in scope where they are used.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};

use super::super::id::{is_variable, variables, whole_variable};
use super::super::violation::Path;
use super::Checker;
use super::objects::text;
use super::table;
use super::value::decoded;

type Names<'a> = BTreeSet<&'a str>;

impl<'a> Checker<'a> {
    /// One dictionary of variables. `global`: the playbook's own.
    pub(super) fn declared(&mut self, path: &Path<'_>, value: &Value, global: bool) {
        let Value::Object(declared) = value else {
            let message = format!("variables are an object, not {}", super::kind_of(value));
            return self.violation("C0104", path, message, "");
        };
        for (name, variable) in declared {
            let path = path.name(name);
            if !is_variable(name) {
                self.violation(
                    "C0401",
                    &path,
                    format!("`{name}` cannot be the name of a variable"),
                    "two underscores, a letter, letters, digits, _ and -, two underscores; at most 250 characters",
                );
            }
            let Value::Object(variable) = variable else {
                self.violation("C0104", &path, "a variable is an object", "");
                continue;
            };
            self.object(&path, variable, &[table::VARIABLE], true);
            if let Some(value) = variable.get("value") {
                let kind = text(variable, "type").unwrap_or_default();
                if let Err(why) = fits(kind, value) {
                    self.violation(
                        "C0402",
                        &path.name("value"),
                        why,
                        "values are text, also numbers and booleans: \"10\", \"true\"",
                    );
                }
            }
            if !global && variable.contains_key("external") {
                self.violation(
                    "C0405",
                    &path.name("external"),
                    "only a variable of the playbook can come from outside",
                    "declare it in `playbook_variables`",
                );
            }
        }
    }

    /// Every use is of a variable that is declared where it stands.
    pub(super) fn variables(&mut self) {
        let root = self.root;
        let global: Names<'_> = names_of(root, "playbook_variables");
        let mut used: Vec<(String, String)> = Vec::new();
        // Definitions are used by steps, and see those steps' variables.
        let mut seen_by: BTreeMap<&str, Names<'_>> = BTreeMap::new();
        for (id, step) in self.dictionary("workflow") {
            let Value::Object(step) = step else { continue };
            let mut scope = global.clone();
            for name in names_of(step, "step_variables") {
                if !scope.insert(name) {
                    let path = Path::Root;
                    let path = path.name("workflow");
                    let path = path.name(id);
                    self.violation(
                        "C0904",
                        &path.name("step_variables").name(name),
                        format!("`{name}` is declared for the playbook too, and this one hides it"),
                        "give one of the two another name",
                    );
                }
            }
            let targets = step
                .get("targets")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            for definition in step
                .get("agent")
                .into_iter()
                .chain(targets)
                .filter_map(Value::as_str)
            {
                seen_by.entry(definition).or_default().extend(&scope);
            }
            let path = Path::Root;
            let path = path.name("workflow");
            let path = path.name(id);
            for (name, value) in step.iter().filter(|(name, _)| *name != "step_variables") {
                find(&path.name(name), value, &scope, &mut used);
            }
            self.arguments(&path, step, &scope);
        }
        let everywhere: Names<'_> = seen_by
            .values()
            .flatten()
            .copied()
            .chain(global.iter().copied())
            .collect();
        for dictionary in [
            "agent_definitions",
            "target_definitions",
            "authentication_info_definitions",
        ] {
            let path = Path::Root;
            let path = path.name(dictionary);
            for (id, definition) in self.dictionary(dictionary) {
                let scope = match dictionary {
                    "authentication_info_definitions" => &everywhere,
                    _ => seen_by.get(id.as_str()).unwrap_or(&global),
                };
                find(&path.name(id), definition, scope, &mut used);
            }
        }
        for (path, name) in used {
            self.found.push(super::Violation {
                code: "C0403",
                path,
                message: format!("`{name}` is used here and declared nowhere above"),
                hint: "declare it in `playbook_variables`, or in the step that uses it".to_owned(),
            });
        }
    }

    /// `in_args` and `out_args` name variables; what comes out can be changed.
    fn arguments(&mut self, path: &Path<'_>, step: &Map<String, Value>, scope: &Names<'_>) {
        for which in ["in_args", "out_args"] {
            let path = path.name(which);
            let names = step.get(which).and_then(Value::as_array).into_iter().flatten();
            for (at, name) in names
                .enumerate()
                .filter_map(|(at, name)| Some((at, name.as_str()?)))
            {
                let path = path.item(at);
                if !scope.contains(name) {
                    let hint = match whole_variable(name) {
                        Some(bare) if scope.contains(bare) => format!("write the name alone: `{bare}`"),
                        _ => "declare it in `playbook_variables` or in this step".to_owned(),
                    };
                    self.violation("C0403", &path, format!("`{name}` is not declared"), hint);
                } else if which == "out_args" && self.is_constant(step, name) {
                    self.violation(
                        "C0404",
                        &path,
                        format!("`{name}` is constant, and this step would change it"),
                        "leave `constant` out where it is declared",
                    );
                }
            }
        }
    }

    fn is_constant(&self, step: &Map<String, Value>, name: &str) -> bool {
        let own = step.get("step_variables").and_then(|all| all.get(name));
        let global = || self.root.get("playbook_variables").and_then(|all| all.get(name));
        own.or_else(global)
            .is_some_and(|variable| variable.get("constant") == Some(&Value::Bool(true)))
    }
}

fn names_of<'a>(object: &'a Map<String, Value>, dictionary: &str) -> Names<'a> {
    object
        .get(dictionary)
        .and_then(Value::as_object)
        .map(|all| all.keys().map(String::as_str).collect())
        .unwrap_or_default()
}

/// Every use below this value that is not in scope.
fn find(path: &Path<'_>, value: &Value, scope: &Names<'_>, used: &mut Vec<(String, String)>) {
    match value {
        Value::String(whole) => {
            let encoded = matches!(path, Path::Name(_, name) if name.ends_with("_b64"));
            let inner = if encoded { decoded(whole) } else { None };
            for (name, _) in variables(inner.as_deref().unwrap_or(whole)) {
                if !scope.contains(name) {
                    used.push((path.to_string(), name.to_owned()));
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                find(&path.item(at), item, scope, used);
            }
        }
        Value::Object(entries) => {
            for (name, value) in entries {
                find(&path.name(name), value, scope, used);
            }
        }
        _ => {}
    }
}

/// Whether a variable of this type can have this value.
fn fits(kind: &str, value: &Value) -> Result<(), String> {
    let text = match value {
        Value::Null => return Ok(()),
        Value::Object(_) if kind == "dictionary" => return Ok(()),
        // Known to be empty, or that of another variable.
        Value::String(text) if text.is_empty() || whole_variable(text).is_some() => return Ok(()),
        Value::String(text) => text,
        other => return Err(format!("a value is text, not {}", super::kind_of(other))),
    };
    let hex = |length: Option<usize>| {
        text.bytes().all(|b| b.is_ascii_hexdigit()) && length.is_none_or(|length| text.len() == length)
    };
    let holds = match kind {
        "bool" => text == "true" || text == "false",
        "integer" | "long" => text.parse::<i64>().is_ok(),
        "float" => text.parse::<f64>().is_ok_and(f64::is_finite),
        "ipv4-addr" => text
            .split('/')
            .next()
            .is_some_and(|address| address.parse::<Ipv4Addr>().is_ok()),
        "ipv6-addr" => text
            .split('/')
            .next()
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        "mac-addr" => {
            let parts: Vec<&str> = text.split([':', '-']).collect();
            parts.len() == 6
                && parts
                    .iter()
                    .all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
        }
        "md5-hash" => hex(Some(32)),
        "sha256-hash" => hex(Some(64)),
        "hash" | "hexstring" => hex(None),
        "uri" => text.split_once(':').is_some_and(|(scheme, rest)| {
            !scheme.is_empty()
                && !rest.is_empty()
                && scheme
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        }),
        "uuid" => super::super::id::Id::parse(&format!("uuid--{text}")).is_some(),
        "dictionary" => serde_json::from_str::<Map<String, Value>>(text).is_ok(),
        _ => true,
    };
    if holds {
        Ok(())
    } else {
        Err(format!("{value} is no {kind}"))
    }
}
