//! What expressions see. Built only when one is evaluated, and of the steps only what it names.

use std::collections::{BTreeMap, BTreeSet};

use playbook::eval::Scope;
use playbook::manifest::{Expression, Over, Template, TextPart};
use serde_json::{Map, Value, json};

use super::run::Plan;
use crate::command::TaskError;
use crate::id::AgentId;
use crate::state::StepStatus;
use crate::state::tasks::TaskStatus;

/// The source texts of some expressions, to tell cheaply what they may read. A word within a literal
/// only makes more be bound than is needed.
#[derive(Default)]
pub(crate) struct Sources<'a> {
    texts: Vec<&'a str>,
}

impl<'a> Sources<'a> {
    pub fn of(expressions: impl IntoIterator<Item = &'a Expression>) -> Sources<'a> {
        Sources {
            texts: expressions.into_iter().map(|e| e.0.as_str()).collect(),
        }
    }

    pub fn add(&mut self, expression: Option<&'a Expression>) {
        self.texts.extend(expression.map(|e| e.0.as_str()));
    }

    pub fn add_template(&mut self, template: &'a Template) {
        match template {
            Template::Literal(_) => {}
            Template::Expression(expression) => self.add(Some(expression)),
            Template::Text(parts) => {
                for part in parts {
                    if let TextPart::Expression(expression) = part {
                        self.add(Some(expression));
                    }
                }
            }
            Template::List(all) => all.iter().for_each(|t| self.add_template(t)),
            Template::Map(all) => all.values().for_each(|t| self.add_template(t)),
        }
    }

    fn words(&self) -> impl Iterator<Item = &'a str> {
        self.texts
            .iter()
            .flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
    }

    /// The word stands somewhere.
    pub fn has(&self, word: &str) -> bool {
        self.words().any(|w| w == word)
    }

    /// The steps whose item of the same host is read: variables `here_NAME`.
    pub fn here(&self) -> BTreeSet<&'a str> {
        self.words()
            .filter_map(|word| word.strip_prefix("here_"))
            .collect()
    }
}

impl Plan<'_> {
    /// The scope of the run, with those steps that may be read.
    pub(super) fn scope(&self, sources: &Sources<'_>) -> Scope<'static> {
        let mut scope = Scope::new();
        let run = self.run;
        if sources.has("inputs") {
            scope.bind("inputs", &run.inputs);
        }
        if sources.has("config") {
            scope.bind("config", &run.config);
        }
        if sources.has("event") {
            scope.bind("event", &run.event);
        }
        if sources.has("group") {
            scope.bind("group", &run.group);
        }
        if sources.has("run") {
            let about = json!({
                "id": run.id.to_string(),
                "started_at": run.created_at.to_string(),
                "requester": run.requester,
                "playbook": run.manifest().playbook,
            });
            scope.bind("run", &about);
        }
        if sources.has("steps") {
            let words: BTreeSet<_> = sources.words().collect();
            let mut steps = Map::new();
            for number in 0..run.manifest().step_count() {
                let name = &run.declared(number).name;
                // A step that is named otherwise than by its name (`steps["a" + "b"]`) is not found:
                // the language refuses that when it compiles.
                if words.contains(name.as_str()) {
                    steps.insert(name.clone(), self.step_value(number, &words));
                }
            }
            scope.bind("steps", &Value::Object(steps));
        }
        scope
    }

    /// A step, as expressions see it.
    fn step_value(&self, step: u16, words: &BTreeSet<&str>) -> Value {
        let state = &self.run.steps[usize::from(step)];
        let status = match self.status(step) {
            StepStatus::Waiting | StepStatus::Running => "pending",
            ended => ended.as_str(),
        };
        // A step that happens once has its one task's output, where it is not what it thought out itself.
        let once = (state.is_call() && matches!(self.run.declared(step).over, Over::Once))
            .then(|| state.tasks.first().and_then(|task| task.output.as_ref()))
            .flatten();
        let output = self
            .outputs
            .get(&step)
            .or(state.output.as_ref())
            .or(once)
            .map_or(Value::Null, |text| parsed(text));
        let mut lists: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for name in ["items", "ok", "failed", "unknown"] {
            lists.insert(name, Vec::new());
        }
        let wanted: Vec<_> = lists
            .keys()
            .copied()
            .filter(|name| words.contains(name))
            .collect();
        if !wanted.is_empty() {
            for item in 0..state.tasks.len() as u32 {
                let (status, _) = self.task_result(step, item);
                let class = match status {
                    TaskStatus::Succeeded => "ok",
                    TaskStatus::Failed | TaskStatus::Expired => "failed",
                    TaskStatus::Unknown => "unknown",
                    _ => "items",
                };
                let (in_items, in_class) = (
                    wanted.contains(&"items"),
                    class != "items" && wanted.contains(&class),
                );
                if !in_items && !in_class {
                    continue;
                }
                let value = self.item_value(step, item);
                if in_items && in_class {
                    lists.entry(class).or_default().push(value.clone());
                    lists.entry("items").or_default().push(value);
                } else {
                    lists
                        .entry(if in_items { "items" } else { class })
                        .or_default()
                        .push(value);
                }
            }
        }
        let mut all = Map::new();
        all.insert("status".into(), status.into());
        all.insert("output".into(), output);
        for (name, list) in lists {
            all.insert(name.into(), Value::Array(list));
        }
        Value::Object(all)
    }

    /// A task, as expressions see it.
    pub(super) fn item_value(&self, step: u16, item: u32) -> Value {
        let task = self.run.task(step, item);
        let (status, error) = self.task_result(step, item);
        let mut value = Map::new();
        if let Some(agent) = self.run.agent_of(step, item) {
            value.insert("target".into(), json!({"id": agent}));
        }
        if let Some(item) = &task.item {
            value.insert("item".into(), parsed(item));
        }
        value.insert("status".into(), status.as_str().into());
        value.insert(
            "output".into(),
            task.output.as_ref().map_or(Value::Null, |text| parsed(text)),
        );
        value.insert("error".into(), error.map_or(Value::Null, error_value));
        value.insert("attempts".into(), task.attempt.into());
        value.insert(
            "started_at".into(),
            task.started_at.map_or(Value::Null, |at| at.to_string().into()),
        );
        value.insert(
            "ended_at".into(),
            task.ended_at.map_or(Value::Null, |at| at.to_string().into()),
        );
        Value::Object(value)
    }

    /// What a task on this host sees besides: `target` and the items of the same host.
    pub(super) fn bind_host(&self, scope: &mut Scope<'_>, sources: &Sources<'_>, agent: &AgentId, host: u32) {
        if sources.has("target") {
            scope.bind("target", &self.target_value(agent, sources));
        }
        for name in sources.here() {
            let there = self.run.manifest().step_number(name).and_then(|step| {
                let item = self.run.item_on(step, host)?;
                Some(self.item_value(step, item))
            });
            let value = there.unwrap_or_else(|| {
                json!({
                    "target": {"id": agent}, "status": "skipped", "output": null, "error": null,
                    "attempts": 0, "started_at": null, "ended_at": null,
                })
            });
            scope.bind(&format!("here_{name}"), &value);
        }
    }

    pub(super) fn target_value(&self, id: &AgentId, sources: &Sources<'_>) -> Value {
        let agent = self.state.agent(id);
        target_value(
            id,
            agent.map(|agent| &agent.labels),
            agent.map(|agent| &*agent.facts),
            sources,
        )
    }
}

/// A host, as expressions see it.
pub(crate) fn target_value(
    id: &AgentId,
    labels: Option<&BTreeMap<String, String>>,
    facts: Option<&str>,
    sources: &Sources<'_>,
) -> Value {
    let facts = match facts {
        // Facts are large, and parsed only for those who ask.
        Some(facts) if sources.has("facts") || sources.has("os") => parsed(facts),
        _ => Value::Null,
    };
    json!({
        "id": id,
        "name": id,
        "os": facts.get("os").cloned().unwrap_or(Value::Null),
        "labels": labels,
        "facts": if facts.is_object() { facts } else { json!({}) },
    })
}

/// An error, as expressions see it.
pub(super) fn error_value(error: &TaskError) -> Value {
    json!({"code": error.code, "message": error.message})
}

/// Text that was JSON when it was taken; facts may not be.
pub(crate) fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}
