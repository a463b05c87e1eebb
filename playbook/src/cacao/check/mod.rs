//! Whether a document keeps CACAO 2.0's rules, all violations at once.
//!
//! The tables say what each object can have; what they cannot say is in the functions beside: how steps lead to
//! each other ([`flow`]), variables ([`variables`]), commands, agents and what they log in with ([`objects`]).

mod flow;
mod objects;
mod table;
mod value;
mod variables;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub(super) use objects::start_line;
pub(super) use value::decoded;

use super::id::Id;
use super::violation::{Path, Violation};

/// Steps of one workflow: what people can review.
pub(super) const STEPS_MAX: usize = 1_000;

/// Whether a document has more steps than are looked at.
pub(super) fn too_many_steps(document: &Value) -> Option<Violation> {
    let steps = document
        .get("workflow")
        .and_then(Value::as_object)
        .map_or(0, Map::len);
    (steps > STEPS_MAX).then(|| Violation {
        code: "C0801",
        path: "$.workflow".to_owned(),
        message: format!("{steps} steps are more than {STEPS_MAX}"),
        hint: "split it into playbooks that use each other".to_owned(),
    })
}

/// Everything that the document violates, warnings included, in the order of its parts.
pub(super) fn check(document: &Value) -> Vec<Violation> {
    let Value::Object(root) = document else {
        let message = format!("a playbook is an object, this is {}", kind_of(document));
        let hint = "name the file with the playbook itself, not a bundle or a list of them";
        return vec![Violation {
            code: "C0101",
            path: "$".to_owned(),
            message,
            hint: hint.to_owned(),
        }];
    };
    if root.get("type").is_some_and(|kind| kind != "playbook") {
        return vec![Violation {
            code: "C0101",
            path: "$.type".to_owned(),
            message: format!("the type of a playbook is \"playbook\", not {}", root["type"]),
            hint: "CACAO shares playbooks one by one: take it out of what it is wrapped in".to_owned(),
        }];
    }
    if root
        .get("spec_version")
        .is_some_and(|version| version != "cacao-2.0")
    {
        return vec![Violation {
            code: "C0102",
            path: "$.spec_version".to_owned(),
            message: format!("only \"cacao-2.0\" is read, not {}", root["spec_version"]),
            hint: "have its author bring it to 2.0: the versions before mean other things by the same words"
                .to_owned(),
        }];
    }
    if let Some(violation) = too_many_steps(document) {
        return vec![violation];
    }
    let mut checker = Checker {
        root,
        found: Vec::new(),
    };
    checker.playbook();
    checker.found
}

struct Checker<'a> {
    root: &'a Map<String, Value>,
    found: Vec<Violation>,
}

impl<'a> Checker<'a> {
    fn violation(
        &mut self,
        code: &'static str,
        path: &Path<'_>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.found.push(Violation {
            code,
            path: path.to_string(),
            message: message.into(),
            hint: hint.into(),
        });
    }

    /// The dictionary of this name; empty where there is none.
    fn dictionary(&self, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.root
            .get(name)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    }

    fn has(&self, dictionary: &str, id: &str) -> bool {
        self.root.get(dictionary).is_some_and(|all| all.get(id).is_some())
    }

    fn playbook(&mut self) {
        let root = self.root;
        self.object(&Path::Root, root, &[table::PLAYBOOK], true);
        self.times(&Path::Root, root);
        self.steps();
        self.definitions();
        self.signatures();
        self.identifiers();
        self.activities();
        self.repeated_at_the_top();
        self.flow();
        self.variables();
        if root.get("revoked") == Some(&Value::Bool(true)) {
            self.violation(
                "C0905",
                &Path::Root.name("revoked"),
                "its author has revoked this playbook: it is no longer valid",
                "ask the author what replaces it",
            );
        }
    }

    /// No UUID stands for two objects.
    fn identifiers(&mut self) {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        let mut twice = Vec::new();
        let own = self.root.get("id").and_then(Value::as_str).map(|id| ("id", id));
        let dictionaries = [
            "workflow",
            "agent_definitions",
            "target_definitions",
            "authentication_info_definitions",
            "extension_definitions",
            "data_marking_definitions",
        ];
        let ids = dictionaries
            .into_iter()
            .flat_map(|name| self.dictionary(name).map(move |(id, _)| (name, id.as_str())));
        for (place, text) in own.into_iter().chain(ids) {
            let Some(id) = Id::parse(text) else { continue };
            match seen.insert(id.uuid.to_ascii_lowercase(), text) {
                // What acts can also be acted on.
                Some(before) if before != text => twice.push((place, text, before)),
                _ => {}
            }
        }
        for (place, text, before) in twice {
            let outer = Path::Root.name(place);
            let path = if place == "id" { outer } else { outer.name(text) };
            self.violation(
                "C0204",
                &path,
                format!("the UUID of this object is also that of `{before}`"),
                "give each object a UUID of its own",
            );
        }
    }

    /// What types and activities say of each other.
    fn activities(&mut self) {
        let root = self.root;
        let words = |name: &str| root.get(name).and_then(Value::as_array).into_iter().flatten();
        let known = words("playbook_types")
            .filter_map(Value::as_str)
            .any(|word| super::vocabulary::PLAYBOOK_TYPES.contains(&word));
        if known && root.get("playbook_activities").is_none() {
            self.violation(
                "C0608",
                &Path::Root.name("playbook_types"),
                "a playbook with types of CACAO's vocabulary names its activities",
                "add `playbook_activities`",
            );
        }
        let mut done = std::collections::BTreeSet::new();
        for (_, step) in self.dictionary("workflow") {
            let commands = step
                .get("commands")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            done.extend(commands.filter_map(|command| command.get("playbook_activity")?.as_str()));
        }
        let path = Path::Root.name("playbook_activities");
        for (at, word) in words("playbook_activities").enumerate() {
            if let Some(word) = word.as_str().filter(|word| !done.contains(word)) {
                self.violation(
                    "C0609",
                    &path.item(at),
                    format!("no command has the activity `{word}`"),
                    "give the command that does it `playbook_activity`, or leave the activity out",
                );
            }
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
