//! Repairs what can be repaired without guessing what its author meant. Each repair is told.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::flow::{SEQUENCE, branches};
use super::id::{Id, is_moment, is_variable, moment, whole_variable};
use super::violation::{Path, Violation};
use super::vocabulary::STEP_TYPES;

/// One repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Where.
    pub path: String,
    /// What was done.
    pub message: String,
}

/// Rules about what only describes a playbook: nothing that is carried out depends on them.
const DESCRIPTIVE: &[&str] = &["C0202", "C0607", "C0608", "C0609", "C0610", "C0611"];

/// Repairs a document in place.
pub(super) fn repair(document: &mut Value) -> Vec<Repair> {
    let mut done = Done(Vec::new());
    let Value::Object(root) = document else {
        return done.0;
    };
    version(root, &mut done);
    tidy(&Path::Root, root, &mut done);
    custom(&Path::Root, root, &mut done);
    modified(root, &mut done);
    variables(root, &mut done);
    for id in keys(root, "workflow") {
        step(root, &id, &mut done);
    }
    conditions(root, &mut done);
    ends(root, &mut done);
    let renamed = renames(root, &mut done);
    if !renamed.is_empty() {
        rename(document, &renamed);
    }
    done.0
}

/// Takes out of what was found what can stand, and tells that it does.
pub(super) fn tolerate(found: &mut Vec<Violation>) -> Vec<Repair> {
    let stands = |violation: &Violation| DESCRIPTIVE.contains(&violation.code);
    let repairs = found
        .iter()
        .filter(|violation| stands(violation))
        .map(|violation| Repair {
            path: violation.path.clone(),
            message: format!(
                "left as it is, for it only describes: {} [{}]",
                violation.message, violation.code
            ),
        });
    let repairs = repairs.collect();
    found.retain(|violation| !stands(violation));
    repairs
}

struct Done(Vec<Repair>);

impl Done {
    fn add(&mut self, path: &Path<'_>, message: impl Into<String>) {
        self.0.push(Repair {
            path: path.to_string(),
            message: message.into(),
        });
    }
}

fn keys(root: &Map<String, Value>, dictionary: &str) -> Vec<String> {
    let all = root.get(dictionary).and_then(Value::as_object);
    all.map(|all| all.keys().cloned().collect()).unwrap_or_default()
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

fn version(root: &mut Map<String, Value>, done: &mut Done) {
    if let Some(Value::String(version)) = root.get_mut("spec_version")
        && version != "cacao-2.0"
        && version.trim().eq_ignore_ascii_case("cacao-2.0")
    {
        *version = "cacao-2.0".to_owned();
        done.add(&Path::Root.name("spec_version"), "written as `cacao-2.0`");
    }
}

/// Empty lists, dictionaries and nulls that say nothing, timestamps, whole numbers, single items of lists.
fn tidy(path: &Path<'_>, object: &mut Map<String, Value>, done: &mut Done) {
    const MOMENTS: &[&str] = &[
        "created",
        "modified",
        "valid_from",
        "valid_until",
        "playbook_version",
        "related_version",
    ];
    const LISTS: &[&str] = &[
        "playbook_types",
        "playbook_activities",
        "derived_from",
        "related_to",
        "industry_sectors",
        "labels",
        "markings",
        "targets",
        "in_args",
        "out_args",
        "category",
    ];
    // The keys of these are their author's, and null is a value of a variable.
    let own_keys = matches!(
        path,
        Path::Name(_, "workflow" | "cases" | "playbook_variables" | "step_variables")
    );
    let is_signature = object.get("type").is_some_and(|kind| kind == "jss");
    let names: Vec<String> = object.keys().cloned().collect();
    for name in names {
        let Some(value) = object.get_mut(&name) else {
            continue;
        };
        let path = path.name(&name);
        let empty = match value {
            Value::Null => name != "value",
            Value::Array(items) => items.is_empty(),
            Value::Object(entries) => entries.is_empty() && name != "workflow" && name != "cases",
            Value::String(text) => {
                text.is_empty() && ["name", "description", "version"].contains(&name.as_str())
            }
            _ => false,
        };
        if empty
            && !own_keys
            && !["commands", "next_steps", "end_date", "id", "type"].contains(&name.as_str())
        {
            object.remove(&name);
            done.add(&path, "left out, for it is empty");
            continue;
        }
        match value {
            Value::String(text) if MOMENTS.contains(&name.as_str()) && !is_moment(text) => {
                if let Ok(at) = text.parse::<jiff::Timestamp>() {
                    *text = moment(at);
                    done.add(&path, format!("written as {text}"));
                }
            }
            Value::String(text)
                if LISTS.contains(&name.as_str()) && !(is_signature && name == "related_to") =>
            {
                *value = Value::Array(vec![Value::String(text.clone())]);
                done.add(&path, "made a list of one");
            }
            Value::String(text)
                if ["delay", "timeout", "priority", "severity", "impact"].contains(&name.as_str()) =>
            {
                if let Ok(number) = text.trim().parse::<u64>() {
                    *value = Value::from(number);
                    done.add(&path, "written as a number");
                }
            }
            Value::Number(number) if number.is_f64() && !own_keys => {
                let float = number.as_f64().unwrap_or(-1.0);
                if float >= 0.0 && float.fract() == 0.0 && float < 9e15 {
                    *value = Value::from(float as u64);
                    done.add(&path, "written as a whole number");
                }
            }
            Value::Object(headers) if name == "headers" => {
                for (header, value) in headers {
                    if value.is_string() {
                        *value = Value::Array(vec![value.clone()]);
                        done.add(&path.name(header), "made a list of one");
                    }
                }
            }
            Value::Object(inner) if !name.ends_with("_extensions") => tidy(&path, inner, done),
            Value::Array(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    if let Value::Object(item) = item {
                        tidy(&path.item(at), item, done);
                    }
                }
            }
            _ => {}
        }
    }
}

/// `x_...`: never a property of the standard, so that nothing is lost that it gives a meaning.
fn custom(path: &Path<'_>, object: &mut Map<String, Value>, done: &mut Done) {
    let names: Vec<String> = object.keys().cloned().collect();
    for name in names {
        let path = path.name(&name);
        if name.starts_with("x_") || name.starts_with("x-") {
            object.remove(&name);
            done.add(&path, "left out, for the standard has no custom properties");
            continue;
        }
        match object.get_mut(&name) {
            Some(Value::Object(inner)) if !["headers", "cases"].contains(&name.as_str()) => {
                custom(&path, inner, done);
            }
            Some(Value::Array(items)) => {
                for (at, item) in items.iter_mut().enumerate() {
                    if let Value::Object(item) = item {
                        custom(&path.item(at), item, done);
                    }
                }
            }
            _ => {}
        }
    }
}

fn modified(root: &mut Map<String, Value>, done: &mut Done) {
    if let (None, Some(created)) = (root.get("modified"), root.get("created").cloned()) {
        root.insert("modified".to_owned(), created);
        done.add(
            &Path::Root.name("modified"),
            "added, as `created`: it is the first version",
        );
    }
}

fn variables(root: &mut Map<String, Value>, done: &mut Done) {
    let each = |path: &Path<'_>, all: Option<&mut Value>, done: &mut Done| {
        for (name, variable) in all.and_then(Value::as_object_mut).into_iter().flatten() {
            if let Some(value) = variable.get_mut("value")
                && (value.is_number() || value.is_boolean())
            {
                *value = Value::String(value.to_string());
                done.add(&path.name(name).name("value"), "written as text");
            }
        }
    };
    let path = Path::Root;
    each(
        &path.name("playbook_variables"),
        root.get_mut("playbook_variables"),
        done,
    );
    let path = path.name("workflow");
    for (id, step) in root
        .get_mut("workflow")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flatten()
    {
        each(
            &path.name(id).name("step_variables"),
            step.get_mut("step_variables"),
            done,
        );
    }
}

/// What one step says twice, and where it says how a variable is used instead of its name.
fn step(root: &mut Map<String, Value>, id: &str, done: &mut Done) {
    let path = Path::Root;
    let path = path.name("workflow");
    let path = path.name(id);
    let step = root
        .get_mut("workflow")
        .and_then(|all| all.get_mut(id))
        .and_then(Value::as_object_mut);
    let Some(step) = step else { return };
    for name in ["on_success", "on_failure"] {
        if step.contains_key("on_completion") && step.get(name) == step.get("on_completion") {
            step.remove(name);
            done.add(
                &path.name(name),
                "left out, for `on_completion` leads to the same step",
            );
        }
    }
    for name in ["in_args", "out_args"] {
        let path = path.name(name);
        let items = step
            .get_mut(name)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten();
        for (at, item) in items.enumerate() {
            if let Some(bare) = item.as_str().and_then(whole_variable) {
                *item = Value::String(bare.to_owned());
                done.add(&path.item(at), "written as the name alone");
            }
        }
    }
}

/// A boolean variable alone, and the name of a variable where its value is meant.
fn conditions(root: &mut Map<String, Value>, done: &mut Done) {
    let booleans: BTreeSet<String> = {
        let declared = |object: &Map<String, Value>, name: &str| {
            let all = object.get(name).and_then(Value::as_object).into_iter().flatten();
            all.filter(|(_, variable)| variable.get("type").is_some_and(|kind| kind == "bool"))
                .map(|(name, _)| name.clone())
                .collect::<Vec<_>>()
        };
        let steps = root
            .get("workflow")
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        let own = steps
            .filter_map(|(_, step)| Some(declared(step.as_object()?, "step_variables")))
            .flatten();
        own.chain(declared(root, "playbook_variables")).collect()
    };
    let path = Path::Root;
    let path = path.name("workflow");
    for (id, step) in root
        .get_mut("workflow")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flatten()
    {
        let path = path.name(id);
        if let Some(Value::String(condition)) = step.get_mut("condition")
            && whole_variable(condition).is_some_and(|name| booleans.contains(name))
        {
            *condition = format!("{} = true", condition.trim());
            done.add(&path.name("condition"), "a boolean alone is compared with `true`");
        }
        if let Some(Value::String(switch)) = step.get_mut("switch")
            && is_variable(switch)
        {
            *switch = format!("{switch}:value");
            done.add(&path.name("switch"), "written as the variable's value");
        }
    }
}

/// Steps that lead nowhere, and branches with an end in common.
fn ends(root: &mut Map<String, Value>, done: &mut Done) {
    let Some(Value::Object(steps)) = root.get("workflow") else {
        return;
    };
    let path = Path::Root;
    let path = path.name("workflow");
    let is = |id: &str, kind: &str| {
        steps
            .get(id)
            .and_then(|step| step.get("type"))
            .is_some_and(|own| own == kind)
    };
    // (step, property, case or item) that leads to an end of its own.
    let mut own_end: Vec<(String, &'static str, Option<String>)> = Vec::new();
    let mut used: BTreeSet<&str> = BTreeSet::new();
    for (id, step) in steps {
        let Some(step) = step.as_object() else { continue };
        let known = text(step, "type").is_some_and(|kind| STEP_TYPES.contains(&kind) && kind != "end");
        if known && SEQUENCE.iter().all(|name| !step.contains_key(*name)) {
            own_end.push((id.clone(), "on_completion", None));
            done.add(&path.name(id), "leads to a new end step");
        }
        // A branch that is nothing but an end, or whose steps lead to an end that others use.
        for branch in branches(step) {
            let case = (branch.property == "cases").then(|| branch.case.to_owned());
            if is(branch.to, "end") && !used.insert(branch.to) && branch.property != "next_steps" {
                done.add(
                    &path.name(id).name(branch.property),
                    "this branch has an end of its own now",
                );
                own_end.push((id.clone(), branch.property, case));
            }
        }
    }
    let regions = regions(root, steps);
    let mut taken: BTreeMap<&str, &BTreeSet<usize>> = BTreeMap::new();
    for (id, step) in steps {
        let Some(step) = step.as_object() else { continue };
        for name in SEQUENCE {
            let Some(to) = text(step, name).filter(|to| is(to, "end")) else {
                continue;
            };
            let (Some(region), false) = (
                regions.get(id.as_str()),
                own_end.iter().any(|(own, ..)| own == id),
            ) else {
                continue;
            };
            // The first region keeps the end.
            let keeps = taken.entry(to).or_insert(region);
            if *keeps != region || used.contains(to) {
                done.add(&path.name(id).name(name), "leads to an end of its own branch now");
                own_end.push((id.clone(), name, None));
            }
        }
    }
    let Some(Value::Object(steps)) = root.get_mut("workflow") else {
        return;
    };
    for (id, property, case) in own_end {
        let seed = format!("{id} {property} {}", case.as_deref().unwrap_or_default());
        let end = format!("end--{}", super::id::uuid_of(&seed));
        steps.insert(end.clone(), serde_json::json!({"type": "end"}));
        let Some(Value::Object(step)) = steps.get_mut(&id) else {
            continue;
        };
        match case {
            Some(case) => {
                if let Some(Value::Object(cases)) = step.get_mut(property) {
                    cases.insert(case, Value::String(end));
                }
            }
            None => {
                step.insert(property.to_owned(), Value::String(end));
            }
        }
    }
}

/// For each step the branches from which it is reached in sequence; 0 is the workflow.
fn regions<'a>(
    root: &'a Map<String, Value>,
    steps: &'a Map<String, Value>,
) -> BTreeMap<&'a str, BTreeSet<usize>> {
    let mut entries: Vec<&str> = vec![text(root, "workflow_start").unwrap_or_default()];
    entries.extend(
        steps
            .values()
            .filter_map(Value::as_object)
            .flat_map(branches)
            .map(|branch| branch.to),
    );
    let mut regions: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (number, entry) in entries.into_iter().enumerate() {
        let mut open = vec![entry];
        while let Some(id) = open.pop() {
            let Some((id, step)) = steps
                .get_key_value(id)
                .and_then(|(id, step)| Some((id, step.as_object()?)))
            else {
                continue;
            };
            if regions.entry(id).or_default().insert(number) {
                open.extend(SEQUENCE.iter().filter_map(|name| text(step, name)));
            }
        }
    }
    regions
}

/// Agents, targets and logins whose identifier says another type than they have.
fn renames(root: &Map<String, Value>, done: &mut Done) -> BTreeMap<String, String> {
    let mut renamed = BTreeMap::new();
    let path = Path::Root;
    for dictionary in [
        "agent_definitions",
        "target_definitions",
        "authentication_info_definitions",
    ] {
        let path = path.name(dictionary);
        for (id, definition) in root
            .get(dictionary)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let kind = definition.get("type").and_then(Value::as_str).unwrap_or_default();
            let Some(known) = Id::parse(id).filter(|known| known.kind != kind) else {
                continue;
            };
            let name = format!("{kind}--{}", known.uuid);
            if Id::parse(&name).is_some() {
                done.add(
                    &path.name(id),
                    format!("named `{name}` after its type, here and where it is referred to"),
                );
                renamed.insert(id.clone(), name);
            }
        }
    }
    renamed
}

fn rename(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::String(text) => {
            if let Some(name) = names.get(text) {
                text.clone_from(name);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, names)),
        Value::Object(entries) => {
            let renamed: Vec<String> = entries
                .keys()
                .filter(|id| names.contains_key(*id))
                .cloned()
                .collect();
            for id in renamed {
                if let Some(value) = entries.remove(&id) {
                    entries.insert(names[&id].clone(), value);
                }
            }
            entries.values_mut().for_each(|value| rename(value, names));
        }
        _ => {}
    }
}
