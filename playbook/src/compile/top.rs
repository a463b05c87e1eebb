//! What stands at the top of a playbook, but for the steps.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Compiler;
use super::fields::{self, Fields};
use super::template::Place as Where;
use crate::bind;
use crate::manifest::{Input, Limits, TargetSet, TargetSource, Template, Type};
use crate::problem::Place;
use crate::yaml::{Data, Node};

impl Compiler {
    pub(super) fn name_of(&mut self, root: &Node, fields: &Fields<'_>) -> String {
        let Some(node) = fields.get("playbook") else {
            self.problem(
                "E0108",
                root.place,
                "a playbook has a name",
                "add `playbook: some-name`",
            );
            return String::new();
        };
        let name = self.text(node, "the name of a playbook").unwrap_or_default();
        if !is_playbook_name(&name) {
            self.problem(
                "E0108",
                node.place,
                format!("`{name}` cannot be the name of a playbook"),
                "1 to 63 of a-z, 0-9 and -",
            );
        }
        name
    }

    pub(super) fn version_of(&mut self, root: &Node, fields: &Fields<'_>) -> u32 {
        match fields.get("version") {
            Some(node) => self.count(node, "`version`", 1, u32::MAX).unwrap_or(1),
            None => {
                self.problem(
                    "E0109",
                    root.place,
                    "a playbook has a version",
                    "add `version: 1`, and count it up with each change",
                );
                1
            }
        }
    }

    pub(super) fn info(&mut self, node: &Node) -> Value {
        match self.fields(node, "`info`", fields::INFO) {
            Some(_) => node.to_json(),
            None => Value::Null,
        }
    }

    pub(super) fn limits(&mut self, node: &Node) -> Limits {
        let Some(fields) = self.fields(node, "`limits`", fields::LIMITS) else {
            return Limits::default();
        };
        Limits {
            timeout_ms: fields.get("timeout").and_then(|n| self.deadline(n, "`timeout`")),
            max_targets: fields
                .get("max_targets")
                .and_then(|n| self.count(n, "`max_targets`", 1, u32::MAX)),
            concurrency: fields.get("concurrency").and_then(|n| self.concurrency(n)),
            lock: fields.get("lock").and_then(|n| self.lock(n)),
        }
    }

    pub(super) fn inputs(&mut self, node: &Node) -> BTreeMap<String, Input> {
        let mut inputs = BTreeMap::new();
        for (key, value) in self.entries(node, "`inputs`") {
            self.identifier(&key.name, key.place, "an input");
            if let Some(input) = self.input(&key.name, value) {
                inputs.insert(key.name.clone(), input);
            }
        }
        inputs
    }

    fn input(&mut self, name: &str, node: &Node) -> Option<Input> {
        let fields = self.fields(node, "an input", fields::INPUT)?;
        let mut input = self.input_of(name, node.place, &fields)?;
        input.from = fields.get("from").and_then(|n| self.template(n, &Where::From));
        if let Some(default) = fields.get("default") {
            input.default = self.default_of(name, &input, &default.to_json(), default.place);
        }
        let of_artifact = input.kind == Type::Artifact;
        for field in ["media", "max_bytes"] {
            if let Some(node) = fields.get(field).filter(|_| !of_artifact) {
                self.problem(
                    "E0110",
                    node.place,
                    format!("`{field}` belongs to an artifact"),
                    "leave it out, or write `type: artifact`",
                );
            }
        }
        input.media = fields.get("media").and_then(|n| self.text(n, "`media`"));
        input.bytes_max = fields.get("max_bytes").and_then(|n| self.size(n, "`max_bytes`"));
        Some(input)
    }

    /// A literal default, checked against the input.
    pub(super) fn default_of(
        &mut self,
        name: &str,
        input: &Input,
        value: &Value,
        place: Place,
    ) -> Option<Value> {
        match bind::check(input, value) {
            Ok(value) => Some(value),
            Err(why) => {
                self.problem("E0112", place, format!("the default of `{name}`: {why}"), "");
                None
            }
        }
    }

    /// What inputs and the fields of forms have in common.
    pub(super) fn input_of(&mut self, name: &str, place: Place, fields: &Fields<'_>) -> Option<Input> {
        let Some(kind) = fields.get("type") else {
            self.problem(
                "E0110",
                place,
                format!("`{name}` has no type"),
                "add `type:`, for example `type: string`",
            );
            return None;
        };
        let kind = self.type_of(kind)?;
        let pattern = fields
            .get("pattern")
            .and_then(|n| Some((n.place, self.text(n, "`pattern`")?)));
        if let Some((place, pattern)) = &pattern
            && let Err(why) = bind::pattern(pattern)
        {
            self.problem(
                "E0111",
                *place,
                format!("`pattern`: {why}"),
                "it is a regular expression that the whole text must match",
            );
        }
        Some(Input {
            kind,
            from: None,
            default: None,
            min: fields.get("min").and_then(|n| self.number(n, "`min`")),
            max: fields.get("max").and_then(|n| self.number(n, "`max`")),
            distinct: fields.get("distinct").is_some_and(|n| self.flag(n, "`distinct`")),
            pattern: pattern.map(|(_, pattern)| pattern),
            media: None,
            bytes_max: None,
        })
    }

    fn type_of(&mut self, node: &Node) -> Option<Type> {
        let found = match &node.data {
            Data::Text(text) => bind::parse_type(text),
            Data::Map(_) => match node.get("enum").map(|n| &n.data) {
                Some(Data::List(items)) => {
                    let names: Option<Vec<String>> = items
                        .iter()
                        .map(|n| match &n.data {
                            Data::Text(text) => Some(text.clone()),
                            _ => None,
                        })
                        .collect();
                    names.filter(|n| !n.is_empty()).map(Type::Enum)
                }
                _ => None,
            },
            _ => None,
        };
        if found.is_none() {
            self.problem(
                "E0110",
                node.place,
                format!("{} is no type", node.to_json()),
                "string, int, float, bool, timestamp, duration, ip, cidr, url, email, host, sha256, path, artifact, json, \
                 list<T>, map<T> or {enum: [a, b]}",
            );
        }
        found
    }

    pub(super) fn targets(&mut self, node: &Node) -> BTreeMap<String, TargetSet> {
        let mut sets = BTreeMap::new();
        for (key, value) in self.entries(node, "`targets`") {
            self.identifier(&key.name, key.place, "a target set");
            let Some(fields) = self.fields(value, "a target set", fields::TARGETS) else {
                continue;
            };
            let source = match (fields.get("hosts"), fields.get("select")) {
                (Some(hosts), None) => self.template(hosts, &Where::Targets).map(TargetSource::Hosts),
                (None, Some(select)) => self.expression(select, &Where::Select).map(TargetSource::Select),
                _ => {
                    self.problem(
                        "E0113",
                        value.place,
                        format!("target set `{}` has either `hosts` or `select`", key.name),
                        "`hosts: \"${inputs.hosts}\"`, or `select:` with a condition on `agent`",
                    );
                    None
                }
            };
            let max = fields
                .get("max")
                .and_then(|n| self.count(n, "`max`", 1, u32::MAX));
            let allow_empty = fields
                .get("allow_empty")
                .is_some_and(|n| self.flag(n, "`allow_empty`"));
            if let Some(source) = source {
                sets.insert(
                    key.name.clone(),
                    TargetSet {
                        source,
                        max,
                        allow_empty,
                    },
                );
            }
        }
        sets
    }

    pub(super) fn outputs(&mut self, node: &Node) -> BTreeMap<String, Template> {
        let mut outputs = BTreeMap::new();
        for (key, value) in self.entries(node, "`outputs`") {
            self.identifier(&key.name, key.place, "an output");
            if let Some(template) = self.template(value, &Where::Outputs) {
                outputs.insert(key.name.clone(), template);
            }
        }
        outputs
    }

    /// The entries of a map of names.
    pub(super) fn entries<'a>(&mut self, node: &'a Node, what: &str) -> &'a [(crate::yaml::Key, Node)] {
        match &node.data {
            Data::Map(entries) => entries,
            _ => {
                self.problem(
                    "E0101",
                    node.place,
                    format!("{what} is a map of names, this is {}", node.kind()),
                    "write `name: value` lines beneath it",
                );
                &[]
            }
        }
    }
}

/// `[a-z0-9-]{1,63}`: playbooks, roles, webhooks.
pub(super) fn is_playbook_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
