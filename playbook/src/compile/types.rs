//! What is known of the values that expressions read, before anything runs: fields that are not there are misspelt, and
//! what is wholly one value must be of the type of the parameter that it is given to.
//!
//! A value is known as far as a schema says: the catalogue's of an action's output, the declaration of an input or a form,
//! what a `decide` sets. What nobody declares (an event, another playbook's outputs, facts) may be anything.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Compiler;
use super::step::Placed;
use super::template::{Place as Where, Use};
use crate::manifest::{Kind, Manifest, Over, Step, Template, Type};
use crate::nearest;

/// What an item of a step offers.
const ITEM_FIELDS: &[&str] = &[
    "target",
    "item",
    "status",
    "output",
    "error",
    "attempts",
    "started_at",
    "ended_at",
];
/// What `run` offers.
const RUN_FIELDS: &[&str] = &["id", "started_at", "requester", "playbook"];
/// What `target` offers.
const TARGET_FIELDS: &[&str] = &["id", "name", "os", "labels", "facts"];
/// What `error` offers.
const ERROR_FIELDS: &[&str] = &["code", "message"];

/// What a path reads.
enum Read<'a> {
    /// Something of this schema, or anything.
    Known(Option<Cow<'a, Value>>),
    /// The field at this place of the path is not there; these are, or it has none at all.
    Missing(usize, Vec<String>),
}

impl Compiler {
    /// A path reads only what can be there.
    pub(super) fn check_fields(
        &mut self,
        manifest: &Manifest,
        steps: &[Placed],
        used: &Use,
        own: Option<&Placed>,
        path: &[String],
    ) {
        let Read::Missing(at, fields) = read(manifest, steps, own, path) else {
            return;
        };
        let (before, field) = (path[..at].join("."), &path[at]);
        let (message, hint) = match fields.is_empty() {
            true => (
                format!("`{before}` is one value, and has no `{field}`"),
                "read the value itself".to_owned(),
            ),
            false => (
                format!("`{before}` has no `{field}`"),
                nearest::hint(field, fields.iter().map(String::as_str)),
            ),
        };
        self.problem("E0313", used.place, message, hint);
    }

    /// What is wholly one value, and given to a parameter, is of the parameter's type.
    pub(super) fn check_given(
        &mut self,
        manifest: &Manifest,
        steps: &[Placed],
        used: &Use,
        own: Option<&Placed>,
    ) {
        let (Some(own), Where::Task(_)) = (own, &used.at) else {
            return;
        };
        let Kind::Do { action, with } = &own.step.kind else {
            return;
        };
        let Some(declared) = catalogue::find(action) else {
            return;
        };
        let path: Vec<String> = used.source.split('.').map(str::to_owned).collect();
        if !used.parsed.paths.contains(&path) {
            return;
        }
        let Read::Known(Some(schema)) = read(manifest, steps, Some(own), &path) else {
            return;
        };
        let Some(found) = types(&schema) else { return };
        for (parameter, template) in with {
            let whole = matches!(template, Template::Expression(expression) if expression.0 == used.source);
            let Some(wanted) = parameter_types(declared, parameter).filter(|_| whole) else {
                continue;
            };
            if !fits(&found, &wanted) {
                let message = format!(
                    "`{action}`: `{parameter}` is {}, and `{}` is {}",
                    in_words(&wanted),
                    used.source,
                    in_words(&found)
                );
                // The same expression may stand in a longer text too.
                if self.found.iter().all(|known| known.message != message) {
                    let hint = format!("see `cordon action describe {action}`");
                    self.problem("E0314", used.place, message, hint);
                }
            }
        }
    }
}

/// Whether a template can give a value of the parameter's type: `what` it gives at best, in words, if it cannot.
pub(super) fn cannot_give(
    action: &catalogue::Action,
    parameter: &str,
    template: &Template,
) -> Option<(&'static str, String)> {
    let (gives, what) = match template {
        Template::Text(_) => ("string", "text"),
        Template::List(_) => ("array", "a list"),
        Template::Map(_) => ("object", "a map"),
        Template::Literal(_) | Template::Expression(_) => return None,
    };
    let wanted = parameter_types(action, parameter)?;
    (!fits(&[gives.to_owned()].into(), &wanted)).then(|| (what, in_words(&wanted)))
}

fn parameter_types(action: &catalogue::Action, parameter: &str) -> Option<BTreeSet<String>> {
    types(action.parameters_schema().get("properties")?.get(parameter)?)
}

fn read<'a>(
    manifest: &'a Manifest,
    steps: &'a [Placed],
    own: Option<&'a Placed>,
    path: &'a [String],
) -> Read<'a> {
    let named = |fields: &[&str], at: usize| match path.get(at) {
        Some(field) if !fields.contains(&field.as_str()) => {
            Read::Missing(at, fields.iter().map(|&field| field.to_owned()).collect())
        }
        _ => Read::Known(None),
    };
    match path[0].as_str() {
        "run" => named(RUN_FIELDS, 1),
        "error" => named(ERROR_FIELDS, 1),
        "target" => named(TARGET_FIELDS, 1),
        "inputs" => match path.get(1).and_then(|name| manifest.inputs.get(name)) {
            Some(input) => walk(of_type(&input.kind).map(Cow::Owned), path, 2),
            None => Read::Known(None),
        },
        "output" => match own.and_then(|own| output_of(&own.step)) {
            Some(schema) => walk(Some(schema), path, 1),
            None => Read::Known(None),
        },
        "steps" => {
            let step = path.get(1).and_then(|name| {
                let mut all = steps.iter().map(|placed| &placed.step);
                all.find(|step| step.name == *name)
            });
            match (
                step,
                path.get(2).map(String::as_str),
                path.get(3).map(String::as_str),
            ) {
                // What has one output for each of its tasks is told elsewhere.
                (Some(step), Some("output"), _) if step.over != Over::Once => Read::Known(None),
                (Some(step), Some("output"), _) => walk(output_of(step), path, 3),
                (Some(step), Some("here"), Some("output")) => walk(output_of(step), path, 4),
                (Some(_), Some("here"), Some(_)) => named(ITEM_FIELDS, 3),
                (Some(_), Some("items" | "ok" | "failed" | "unknown"), None) => {
                    Read::Known(Some(Cow::Owned(json!({"type": "array"}))))
                }
                (Some(_), Some("status"), None) => Read::Known(Some(Cow::Owned(json!({"type": "string"})))),
                _ => Read::Known(None),
            }
        }
        _ => Read::Known(None),
    }
}

/// Follows a path from this place on.
fn walk<'a>(schema: Option<Cow<'a, Value>>, path: &[String], from: usize) -> Read<'a> {
    let Some(mut schema) = schema else {
        return Read::Known(None);
    };
    for (at, field) in path.iter().enumerate().skip(from) {
        let fields = schema.get("properties").and_then(Value::as_object);
        let next = fields.and_then(|fields| fields.get(field)).cloned();
        let is_closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
        schema = match (next, fields) {
            (Some(next), _) => Cow::Owned(next),
            (None, Some(fields)) if is_closed => {
                return Read::Missing(at, fields.keys().cloned().collect());
            }
            (None, None) if is_plain(&schema) => return Read::Missing(at, Vec::new()),
            (None, _) => return Read::Known(None),
        };
    }
    Read::Known(Some(schema))
}

/// Values of it have no fields.
fn is_plain(schema: &Value) -> bool {
    types(schema).is_some_and(|types| !types.contains("object") && !types.contains("null"))
}

/// What is known of a step's output, or of that of each of its tasks.
fn output_of(step: &Step) -> Option<Cow<'_, Value>> {
    let closed = |fields: serde_json::Map<String, Value>| json!({"type": "object", "properties": fields, "additionalProperties": false});
    match &step.kind {
        Kind::Do { action, .. } => Some(Cow::Borrowed(catalogue::find(action)?.output_schema())),
        Kind::Score { .. } => Some(Cow::Owned(json!({
            "type": "object", "additionalProperties": false,
            "properties": {"value": {"type": "integer"}, "fired": {"type": "array"}},
        }))),
        Kind::Decide { rules } => {
            let names = rules.iter().flat_map(|rule| rule.set.keys());
            Some(Cow::Owned(closed(
                names.map(|name| (name.clone(), json!({}))).collect(),
            )))
        }
        Kind::Ask { form, .. } => {
            let fields = form.iter().map(|(name, field)| {
                (
                    name.clone(),
                    of_type(&field.input.kind).unwrap_or_else(|| json!({})),
                )
            });
            Some(Cow::Owned(closed(fields.collect())))
        }
        Kind::Notify { .. } | Kind::WaitEvent { .. } | Kind::Playbook { .. } => None,
    }
}

/// What is known of an input's values.
fn of_type(kind: &Type) -> Option<Value> {
    let name = match kind {
        Type::Int => "integer",
        Type::Float => "number",
        Type::Bool => "boolean",
        Type::List(_) => "array",
        Type::Map(_) => "object",
        Type::Json | Type::Artifact => return None,
        Type::String
        | Type::Timestamp
        | Type::Duration
        | Type::Ip
        | Type::Cidr
        | Type::Url
        | Type::Email
        | Type::Host
        | Type::Sha256
        | Type::Path
        | Type::Enum(_) => "string",
    };
    Some(json!({"type": name}))
}

/// The types that a schema allows; None: it does not say.
fn types(schema: &Value) -> Option<BTreeSet<String>> {
    match schema.get("type")? {
        Value::String(one) => Some([one.clone()].into()),
        Value::Array(all) => all.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

fn fits(found: &BTreeSet<String>, wanted: &BTreeSet<String>) -> bool {
    let whole = found.contains("integer") && wanted.contains("number");
    whole || found.iter().any(|one| wanted.contains(one))
}

fn in_words(types: &BTreeSet<String>) -> String {
    let words: Vec<&str> = types
        .iter()
        .map(|one| match one.as_str() {
            "integer" => "a whole number",
            "number" => "a number",
            "boolean" => "true or false",
            "array" => "a list",
            "object" => "a map",
            "string" => "text",
            _ => "null",
        })
        .collect();
    words.join(" or ")
}
