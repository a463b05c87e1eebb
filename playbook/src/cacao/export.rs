//! A playbook of ours as a CACAO document.
//!
//! CACAO has no fan-out, retry, gate, undo or trigger, so the document shows the steps for people and other tools,
//! and carries the text itself in an extension, with its hash. Whoever imports it here gets the text back, and only
//! if the document still shows what the text says.
//!
//! The same text, author and moments give the same bytes: identifiers follow from the text.

use std::collections::BTreeMap;

use catalogue::parse_duration;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::id::{moment, uuid_of};
use super::jcs;
use crate::canonical::sorted;
use crate::manifest::{Input, Manifest, Type};
use crate::problem::Problems;
use crate::yaml::{self, Data, Node};

/// The extension that carries a text.
pub(super) const EXTENSION: &str = "extension-definition--15e0eea7-1c0e-4bf1-b1e0-84f6db8835c2";
/// The form of what it carries, and of the workflow that shows it: an import compares the two, so another way to show
/// a playbook is another form.
pub(super) const FORMAT: u64 = 1;
/// The namespace that CACAO gives for the identifiers of playbooks.
const NAMESPACE: Uuid = Uuid::from_u128(0xaa7c_af3a_d55a_4e9a_b34e_0562_15fb_a56a);
/// The most of a value that is shown to people.
const SHOWN_MAX: usize = 4_000;

/// Who exports, and when. Given by the caller: nothing here reads a clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `identity--UUID`.
    pub created_by: String,
    /// When the playbook was first made.
    pub created: jiff::Timestamp,
    /// When this version of it was made.
    pub modified: jiff::Timestamp,
}

impl Origin {
    /// The identity that follows from a name: the same for the same name.
    pub fn identity(name: &str) -> String {
        format!("identity--{}", uuid_of(&format!("identity {name}")))
    }
}

/// A playbook of ours as a CACAO document: pretty JSON, its names in order.
///
/// # Errors
/// The problems of a text that does not compile.
pub fn export(text: &str, origin: &Origin) -> Result<String, Problems> {
    let manifest = crate::compile(text)?.manifest;
    let root = yaml::read(text).map_err(|problem| Problems::new(vec![*problem], text))?;
    let document = sorted(&document(&manifest, &root, text, origin));
    // A Value is always representable: its keys are strings.
    Ok(serde_json::to_string_pretty(&document).unwrap_or_default() + "\n")
}

fn document(manifest: &Manifest, root: &Node, text: &str, origin: &Origin) -> Value {
    let mut exporter = Exporter {
        seed: hex::encode(Sha256::digest(text)),
        workflow: Map::new(),
        agents: Map::new(),
    };
    let start = exporter.workflow(root);
    let info = |name: &str| manifest.info.get(name);
    let category = info("category").and_then(Value::as_str);
    let mut document = json!({
        "type": "playbook",
        "spec_version": "cacao-2.0",
        "id": playbook_id(&manifest.playbook),
        "name": manifest.playbook,
        "created_by": origin.created_by,
        "created": moment(origin.created),
        "modified": moment(origin.modified),
        "workflow_start": start,
        "workflow": exporter.workflow,
        "agent_definitions": exporter.agents,
        "playbook_extensions": {
            EXTENSION: {
                "cordon_format": FORMAT,
                "cordon_sha256": exporter.seed,
                "cordon_text": text,
            },
        },
        "extension_definitions": {
            EXTENSION: {
                "type": "extension-definition",
                "name": "Cordon playbook",
                "description": "The text of which the workflow is a picture.",
                "created_by": Origin::identity("cordon"),
                "schema": "An object with cordon_text, a playbook in Cordon's language (YAML); cordon_sha256, the SHA-256 \
                           of its UTF-8 bytes in lower-case hex; and cordon_format, the form of both, an integer.",
                "version": "1.0.0",
            },
        },
    });
    let mut set = |name: &str, value: Option<Value>| {
        if let (Some(value), Value::Object(document)) = (value, &mut document) {
            document.insert(name.to_owned(), value);
        }
    };
    let description = info("description").and_then(Value::as_str);
    set(
        "description",
        description.filter(|text| !text.is_empty()).map(Value::from),
    );
    set(
        "impact",
        info("impact")
            .filter(|impact| impact.as_u64().is_some_and(|n| n <= 100))
            .cloned(),
    );
    // Types of theirs ask for activities of theirs, and the commands of ours have none: a category is a label.
    let attack = info("attack").and_then(Value::as_array).into_iter().flatten();
    let labels: Vec<&str> = attack
        .filter_map(Value::as_str)
        .chain(category)
        .filter(|label| !label.is_empty())
        .collect();
    set("labels", (!labels.is_empty()).then(|| json!(labels)));
    let variables: Map<String, Value> = manifest
        .inputs
        .iter()
        .map(|(name, input)| (format!("__{name}__"), variable(input)))
        .collect();
    set(
        "playbook_variables",
        (!variables.is_empty()).then_some(Value::Object(variables)),
    );
    if let Some(level) = info("tlp").and_then(Value::as_str).map(str::to_ascii_uppercase)
        && super::vocabulary::TLP_LEVELS.contains(&format!("TLP:{level}").as_str())
    {
        let id = format!("marking-tlp--{}", uuid_of(&format!("TLP:{level}")));
        set("markings", Some(json!([id])));
        set(
            "data_marking_definitions",
            Some(json!({
                id.as_str(): {
                    "type": "marking-tlp",
                    "id": id,
                    "created_by": Origin::identity("cordon"),
                    "created": "2022-08-01T00:00:00.000Z",
                    "tlpv2_level": format!("TLP:{level}"),
                },
            })),
        );
    }
    document
}

/// All versions of a playbook have one identifier, as the standard says: it follows from the name.
pub(super) fn playbook_id(name: &str) -> String {
    let name = jcs::canonical(&json!({ "name": name }));
    format!("playbook--{}", Uuid::new_v5(&NAMESPACE, name.as_bytes()))
}

fn variable(input: &Input) -> Value {
    let kind = match input.kind {
        Type::Bool => "bool",
        Type::Int => "integer",
        Type::Float => "float",
        Type::Sha256 => "sha256-hash",
        Type::Url => "uri",
        Type::Map(_) => "dictionary",
        _ => "string",
    };
    let mut variable = json!({"type": kind, "external": true});
    if let Some(default) = &input.default {
        variable["value"] = match default {
            Value::String(text) => Value::from(text.as_str()),
            Value::Object(_) => default.clone(),
            other => Value::from(other.to_string()),
        };
    }
    variable
}

struct Exporter {
    /// Identifiers follow from this.
    seed: String,
    workflow: Map<String, Value>,
    agents: Map<String, Value>,
}

/// A step of the text.
struct Shown<'a> {
    name: &'a str,
    node: &'a Node,
    finally: bool,
}

impl Exporter {
    fn id(&self, kind: &str, of: &str) -> String {
        format!("{kind}--{}", uuid_of(&format!("{} {kind} {of}", self.seed)))
    }

    /// The steps, those that wait for nothing else side by side, and the start's identifier.
    fn workflow(&mut self, root: &Node) -> String {
        let mut levels: Vec<Vec<Shown<'_>>> = Vec::new();
        let mut depth: BTreeMap<&str, usize> = BTreeMap::new();
        let steps = entries(root.get("steps"));
        // Needs lead back, so as many rounds as there are steps are enough, and two nearly always.
        for _ in 0..=steps.len() {
            let mut changed = false;
            for (name, node) in &steps {
                let level = needs(node)
                    .filter_map(|need| depth.get(need))
                    .max()
                    .map_or(0, |deepest| deepest + 1);
                changed |= depth.insert(name, level) != Some(level);
            }
            if !changed {
                break;
            }
        }
        for (name, node) in steps {
            let level = depth[name];
            levels.resize_with(levels.len().max(level + 1), Vec::new);
            levels[level].push(Shown {
                name,
                node,
                finally: false,
            });
        }
        for (name, node) in entries(root.get("finally")) {
            levels.push(vec![Shown {
                name,
                node,
                finally: true,
            }]);
        }
        let end = self.id("end", "");
        self.workflow.insert(end.clone(), json!({"type": "end"}));
        let mut next = end;
        for (number, level) in levels
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, level)| !level.is_empty())
        {
            next = match level.as_slice() {
                [one] => self.step(one, &next),
                many => self.parallel(number, many, &next),
            };
        }
        let start = self.id("start", "");
        self.workflow
            .insert(start.clone(), json!({"type": "start", "on_completion": next}));
        start
    }

    fn parallel(&mut self, number: usize, steps: &[Shown<'_>], next: &str) -> String {
        let mut branches = Vec::new();
        for shown in steps {
            let end = self.id("end", shown.name);
            self.workflow.insert(end.clone(), json!({"type": "end"}));
            branches.push(self.step(shown, &end));
        }
        let id = self.id("parallel", &number.to_string());
        self.workflow.insert(
            id.clone(),
            json!({"type": "parallel", "next_steps": branches, "on_completion": next}),
        );
        id
    }

    fn step(&mut self, shown: &Shown<'_>, next: &str) -> String {
        let Shown { name, node, finally } = shown;
        let mut about = Vec::new();
        if *finally {
            about.push("At the end, in whatever way the rest ended.".to_owned());
        }
        for (field, says) in [
            ("when", "Only when"),
            ("targets", "On each host of"),
            ("foreach", "For each item of"),
            ("strategy", "Let go as"),
            ("gate", "People approve first:"),
            ("retry", "Tried again:"),
            ("expect", "Expects"),
            ("on_failure", "When it fails:"),
            ("compensate", "Undone by"),
        ] {
            if let Some(value) = node.get(field) {
                about.push(format!("{says} {}", shown_text(value)));
            }
        }
        let mut step = Map::new();
        step.insert("name".to_owned(), Value::from(*name));
        if !about.is_empty() {
            step.insert("description".to_owned(), Value::from(clipped(&about.join("\n"))));
        }
        step.insert("on_completion".to_owned(), Value::from(next));
        let ms = |node: Option<&Node>| match &node?.data {
            Data::Text(text) => parse_duration(text).ok().filter(|ms| *ms > 0),
            _ => None,
        };
        if let Some(delay) = ms(node.get("delay")) {
            step.insert("delay".to_owned(), Value::from(delay));
        }
        if let Some(total) = ms(node.get("timeout").and_then(|timeout| timeout.get("total"))) {
            step.insert("timeout".to_owned(), Value::from(total));
        }
        let started = node
            .get("playbook")
            .and_then(|of| of.get("name"))
            .map(|name| &name.data);
        let kind = if let Some(Data::Text(started)) = started {
            step.insert("playbook_id".to_owned(), Value::from(playbook_id(started)));
            "playbook-action"
        } else {
            let (command, agent) = self.command(node);
            step.insert("commands".to_owned(), json!([command]));
            step.insert("agent".to_owned(), Value::from(agent));
            "action"
        };
        step.insert("type".to_owned(), Value::from(kind));
        let id = self.id(kind, name);
        self.workflow.insert(id.clone(), Value::Object(step));
        id
    }

    /// The command, and who carries it out.
    fn command(&mut self, node: &Node) -> (Value, String) {
        if let Some(ask) = node.get("ask") {
            let role = match ask.get("roles").map(|roles| &roles.data) {
                Some(Data::List(roles)) => roles.first().map(shown_text),
                _ => None,
            };
            let text = ask
                .get("text")
                .map(|text| shown_text(text) + "\n")
                .unwrap_or_default();
            let form = ask.get("form").map(shown_text).unwrap_or_default();
            let agent = self.agent("group", &role.unwrap_or_else(|| "responders".to_owned()));
            return (manual(&format!("{text}Answer: {form}")), agent);
        }
        let agent = self.agent("security-category", "Cordon");
        if let Some(action) = node.get("do") {
            let action = shown_text(action);
            let with = node.get("with");
            if let ("scan.yara", Some(Data::Text(rules))) = (
                action.as_str(),
                with.and_then(|w| w.get("rules")).map(|r| &r.data),
            ) && !rules.contains("${")
                && !rules.is_empty()
            {
                let encoded = data_encoding::BASE64.encode(rules.as_bytes());
                return (json!({"type": "yara", "command_b64": encoded}), agent);
            }
            let with = with
                .map(|with| format!(" with {}", shown_text(with)))
                .unwrap_or_default();
            return (manual(&format!("Cordon does {action}{with}")), agent);
        }
        for (field, says) in [
            ("decide", "Decide by the first rule that holds:"),
            ("score", "Add up what holds:"),
            ("notify", "Tell:"),
            ("wait_event", "Wait for the event:"),
            ("loop", "Repeat:"),
        ] {
            if let Some(value) = node.get(field) {
                return (manual(&format!("{says} {}", shown_text(value))), agent);
            }
        }
        (manual(&shown_text(node)), agent)
    }

    fn agent(&mut self, kind: &str, name: &str) -> String {
        let id = self.id(kind, name);
        let mut agent = json!({"type": kind, "name": name});
        if kind == "security-category" {
            agent["category"] = json!(["orchestrator"]);
        }
        self.agents.insert(id.clone(), agent);
        id
    }
}

fn entries(node: Option<&Node>) -> Vec<(&str, &Node)> {
    match node.map(|node| &node.data) {
        Some(Data::Map(entries)) => entries
            .iter()
            .map(|(key, value)| (key.name.as_str(), value))
            .collect(),
        _ => Vec::new(),
    }
}

/// The names of the steps that a step waits for.
fn needs(node: &Node) -> impl Iterator<Item = &str> {
    let list = match node.get("needs").map(|needs| &needs.data) {
        Some(Data::List(list)) => list.as_slice(),
        _ => &[],
    };
    list.iter().filter_map(|item| match &item.data {
        Data::Text(text) => text.split('.').next(),
        _ => None,
    })
}

/// A value as people read it.
fn shown_text(node: &Node) -> String {
    match &node.data {
        Data::Text(text) => text.clone(),
        _ => sorted(&node.to_json()).to_string(),
    }
}

fn manual(text: &str) -> Value {
    json!({"type": "manual", "command": clipped(text)})
}

fn clipped(text: &str) -> String {
    let mut end = text.len().min(SHOWN_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    // What looks like the use of a CACAO variable would have to be declared.
    text[..end].replace("__:value", "__ :value")
}
