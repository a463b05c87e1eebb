//! What waits for people: which tasks a gate holds back, and what a question asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use playbook::canonical::canonical_json;
use playbook::eval::Scope;
use playbook::manifest::{Expression, Field, Gate, Over, Step, Template};
use serde_json::{Map, Value};

use super::decision::{Decision, Gated};
use super::run::Plan;
use super::scope::{Sources, parsed};
use crate::id::AgentId;
use crate::limits::OUTPUT_BYTES_MAX;
use crate::state::approvals::push_item;

/// Of the first reason why a condition cannot be evaluated: characters.
const PROBLEM_SHOWN: usize = 300;

/// A task, as far as a gate looks at it: its host, and the JSON text of its item.
pub(super) type Held<'a> = (u32, Option<&'a str>);

impl Plan<'_> {
    /// Which of the tasks from this one on wait for people; None: the step has no gate. One whose condition cannot be evaluated waits.
    pub(super) fn gated<'a>(
        &self,
        declared: &Step,
        hosts: &[AgentId],
        from: u32,
        tasks: impl ExactSizeIterator<Item = Held<'a>>,
    ) -> Option<Gated> {
        let gate = declared.gate.as_ref()?;
        let mut gated = Gated::default();
        let Some(when) = &gate.when else {
            return Some(gated);
        };
        let sources = Sources::of([when]);
        let base = self.scope(&sources);
        let (mut broken, mut first) = (0, None);
        let total = tasks.len();
        for (item, (host, value)) in (from..).zip(tasks) {
            let mut scope = base.child();
            if let Some(agent) = hosts.get(host as usize) {
                self.bind_host(&mut scope, &sources, agent, host);
                if sources.has("labels") {
                    let mut target = self.target_value(agent, &sources);
                    absent_labels_are_null(when, &sources, &mut target);
                    scope.bind("target", &target);
                }
            }
            if let (Over::ForEach { name, .. }, Some(value)) = (&declared.over, value) {
                scope.bind(name, &parsed(value));
            }
            match holds(&scope, gate) {
                Ok(false) => continue,
                Ok(true) => {}
                Err(why) => {
                    broken += 1;
                    first.get_or_insert(why);
                }
            }
            push_item(&mut gated.items, item);
        }
        gated.problem = first.map(|why| {
            let why: String = why.chars().take(PROBLEM_SHOWN).collect();
            format!(
                "of {broken} of {total} tasks it could not be told whether they must wait, so they do: {why}"
            )
        });
        Some(gated)
    }

    /// A step asks people; true: it failed at once.
    pub(super) fn ask(&mut self, step: u16, text: Option<&Template>, form: &BTreeMap<String, Field>) -> bool {
        match self.question(text, form) {
            Ok((text, defaults)) => {
                self.decisions.push(Decision::Ask {
                    run: self.run.id,
                    step,
                    text,
                    defaults,
                });
                self.set_running(step);
                false
            }
            Err(why) => self.close(step, crate::state::StepStatus::Failed, &why),
        }
    }

    fn question(
        &self,
        text: Option<&Template>,
        form: &BTreeMap<String, Field>,
    ) -> Result<(String, Arc<str>), String> {
        let mut sources = Sources::default();
        let defaults = || {
            form.iter()
                .filter_map(|(name, field)| Some((name, field, field.default.as_ref()?)))
        };
        text.into_iter().for_each(|t| sources.add_template(t));
        defaults().for_each(|(_, _, default)| sources.add_template(default));
        let scope = self.scope(&sources);
        let text = match text.map(|text| scope.render(text)).transpose() {
            Ok(None) => String::new(),
            Ok(Some(Value::String(text))) => text,
            Ok(Some(other)) => canonical_json(&other),
            Err(why) => return Err(format!("expression: text: {why}")),
        };
        let mut values = Map::new();
        for (name, field, default) in defaults() {
            let value = scope
                .render(default)
                .map_err(|why| format!("expression: the default of {name}: {why}"))?;
            let value = playbook::check_value(&field.input, &value)
                .map_err(|why| format!("form: the default of {name}: {why}"))?;
            values.insert(name.clone(), value);
        }
        let defaults = canonical_json(&Value::Object(values));
        let size = text.len() + defaults.len();
        if size > OUTPUT_BYTES_MAX {
            return Err(format!("form: {size} bytes, of at most {OUTPUT_BYTES_MAX}"));
        }
        Ok((text, defaults.into()))
    }
}

/// A label that a gate's condition reads and a host does not have is null: the host is not `critical`, and need not
/// wait. A condition that asks with `has` sees what there is.
pub(crate) fn absent_labels_are_null(condition: &Expression, sources: &Sources<'_>, target: &mut Value) {
    if !sources.has("labels") || sources.has("has") {
        return;
    }
    if let Some(labels) = target["labels"].as_object_mut() {
        for name in labels_read(&condition.0) {
            labels.entry(name).or_insert(Value::Null);
        }
    }
}

/// The labels that a condition names, as in `target.labels.NAME`.
fn labels_read(condition: &str) -> impl Iterator<Item = &str> {
    condition.split(".labels.").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        Some(&rest[..end.unwrap_or(rest.len())]).filter(|name| !name.is_empty())
    })
}

fn holds(scope: &Scope<'_>, gate: &Gate) -> Result<bool, String> {
    let when = gate.when.as_ref();
    when.map_or(Ok(true), |when| scope.test(when).map_err(|why| why.to_string()))
}
