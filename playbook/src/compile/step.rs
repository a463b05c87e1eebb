//! The steps.

use std::collections::{BTreeMap, BTreeSet};

use super::Compiler;
use super::fields::{self, Fields};
use super::template::Place as Where;
use crate::manifest::{
    ItemHost, Kind, Need, NeedState, OnFailure, Over, Retry, Rule, Step, Strategy, Template, Timeout,
};
use crate::nearest;
use crate::problem::Place;
use crate::yaml::{Data, Node};

/// Retries of one task.
const RETRIES_MAX: u32 = 100;

/// A step and where it stands.
pub(super) struct Placed {
    pub step: Step,
    pub place: Place,
    /// Where its `targets` or `foreach.host` names a set.
    pub targets: Option<Place>,
    /// The name that its items have.
    pub item: Option<String>,
}

impl Compiler {
    /// The names of the steps, in the order of the text: needs refer to their positions.
    pub(super) fn step_names(&mut self, fields: &Fields<'_>) -> Vec<String> {
        let mut names = Vec::new();
        for section in ["steps", "finally"] {
            // What is no map is said when its steps are compiled.
            let Some(Data::Map(entries)) = fields.get(section).map(|node| &node.data) else {
                continue;
            };
            for (key, _) in entries {
                self.identifier(&key.name, key.place, "a step");
                if names.contains(&key.name) {
                    let hint = "a step's name is unique, `finally` included";
                    self.problem(
                        "E0114",
                        key.place,
                        format!("there are two steps `{}`", key.name),
                        hint,
                    );
                }
                if section == "steps" {
                    names.push(key.name.clone());
                }
            }
        }
        names
    }

    pub(super) fn steps(&mut self, node: &Node, finally: bool, names: &[String]) -> Vec<Placed> {
        let entries = self.entries(node, if finally { "`finally`" } else { "`steps`" });
        if matches!(&node.data, Data::Map(entries) if entries.is_empty()) && !finally {
            self.problem(
                "E0105",
                node.place,
                "a playbook without steps does nothing",
                "add one under `steps:`",
            );
        }
        entries
            .iter()
            .filter_map(|(key, value)| self.step(&key.name, key.place, value, finally, names))
            .collect()
    }

    fn step(
        &mut self,
        name: &str,
        place: Place,
        node: &Node,
        finally: bool,
        names: &[String],
    ) -> Option<Placed> {
        let fields = self.fields(node, "a step", fields::STEP)?;
        let step_place = Where::Step(name.to_owned());
        let task_place = Where::Task(name.to_owned());
        let kind = match fields::KINDS_LATER.iter().any(|kind| node.get(kind).is_some()) {
            // Said already, by name.
            true => None,
            false => self.kind(name, place, &fields, &task_place),
        };
        let (over, targets, item, parallel) = self.over(&fields, &step_place, &task_place);
        if let (Some(Kind::Decide { .. }), false) = (&kind, matches!(over, Over::Once)) {
            self.problem(
                "E0120",
                place,
                "a `decide` happens once",
                "leave out `targets` and `foreach`",
            );
        }
        let when = fields.get("when").and_then(|n| self.expression(n, &task_place));
        let when_per_task = when.is_some() && self.reads_task(item.as_deref());
        let needs = match fields.get("needs") {
            Some(node) if finally => {
                self.problem(
                    "E0121",
                    node.place,
                    "steps of `finally` run one after another and need nothing",
                    "leave out `needs`",
                );
                Vec::new()
            }
            Some(node) => self.needs(node, names),
            None => Vec::new(),
        };
        let mut strategy = fields
            .get("strategy")
            .map(|n| self.strategy(n, name))
            .unwrap_or_default();
        strategy.max_parallel = strategy.max_parallel.or(parallel);
        let step = Step {
            name: name.to_owned(),
            kind: kind?,
            needs,
            when,
            when_per_task,
            over,
            strategy,
            retry: fields.get("retry").and_then(|n| self.retry(n, name)),
            timeout: fields.get("timeout").map(|n| self.timeout(n)).unwrap_or_default(),
            delay_ms: fields
                .get("delay")
                .and_then(|n| self.duration(n, "`delay`"))
                .unwrap_or(0),
            expect: fields
                .get("expect")
                .and_then(|n| self.expression(n, &Where::Expect(name.to_owned()))),
            on_failure: fields
                .get("on_failure")
                .map(|n| self.on_failure(n))
                .unwrap_or_default(),
        };
        Some(Placed {
            step,
            place,
            targets,
            item,
        })
    }

    /// Whether the expression that was parsed last differs from task to task.
    fn reads_task(&self, item: Option<&str>) -> bool {
        self.uses.last().is_some_and(|used| {
            let names = &used.parsed.names;
            !used.here.is_empty() || names.contains("target") || item.is_some_and(|item| names.contains(item))
        })
    }

    fn kind(&mut self, name: &str, place: Place, fields: &Fields<'_>, at: &Where) -> Option<Kind> {
        match (fields.get("do"), fields.get("decide")) {
            (Some(action), None) => {
                let action_place = action.place;
                let action = self.text(action, "`do`")?;
                let mut with = BTreeMap::new();
                let mut places = BTreeMap::new();
                if let Some(node) = fields.get("with") {
                    for (key, value) in self.entries(node, "`with`") {
                        places.insert(key.name.clone(), key.place);
                        if let Some(template) = self.template(value, at) {
                            with.insert(key.name.clone(), template);
                        }
                    }
                }
                self.action(&action, action_place, &with, &places);
                Some(Kind::Do { action, with })
            }
            (None, Some(rules)) => {
                if let Some(with) = fields.get("with") {
                    self.problem(
                        "E0122",
                        with.place,
                        "a `decide` has no parameters",
                        "leave out `with`",
                    );
                }
                Some(Kind::Decide {
                    rules: self.rules(rules, &Where::Step(name.to_owned())),
                })
            }
            (Some(_), Some(_)) => {
                self.problem(
                    "E0123",
                    place,
                    format!("step `{name}` does two things"),
                    "one of `do` and `decide`; make two steps",
                );
                None
            }
            (None, None) => {
                self.problem(
                    "E0123",
                    place,
                    format!("step `{name}` does nothing"),
                    "add `do:` with an action, or `decide:`",
                );
                None
            }
        }
    }

    /// The action exists, and its parameters fit as far as they are literal.
    fn action(
        &mut self,
        name: &str,
        place: Place,
        with: &BTreeMap<String, Template>,
        places: &BTreeMap<String, Place>,
    ) {
        let Some(action) = catalogue::find(name) else {
            let hint = nearest::hint(name, catalogue::all().iter().map(|a| a.name));
            self.problem("E0130", place, format!("there is no action `{name}`"), hint);
            return;
        };
        let parameters = action.parameters();
        for (given, at) in places {
            if !parameters.iter().any(|p| p.name == *given) {
                let hint = nearest::hint(given, parameters.iter().map(|p| p.name.as_str()));
                self.problem("E0131", *at, format!("`{name}` has no parameter `{given}`"), hint);
            }
        }
        for parameter in parameters
            .iter()
            .filter(|p| p.required && !places.contains_key(&p.name))
        {
            let message = format!("`{name}` needs `{}`: {}", parameter.name, parameter.description);
            self.problem(
                "E0132",
                place,
                message,
                format!("add `{}:` under `with:` ({})", parameter.name, parameter.kind),
            );
        }
        // One parameter at a time, so that each finding has its place; what is missing was said above.
        for (given, template) in with {
            let (Template::Literal(value), Some(at)) = (template, places.get(given)) else {
                continue;
            };
            if !parameters.iter().any(|p| p.name == *given) {
                continue;
            }
            let alone = serde_json::json!({ given.as_str(): value });
            for finding in action
                .check_parameters(&alone)
                .into_iter()
                .filter(|f| !f.contains("is missing"))
            {
                self.problem(
                    "E0133",
                    *at,
                    format!("`{name}`: {finding}"),
                    format!("see `cordon action describe {name}`"),
                );
            }
        }
        // Rules over several parameters can be judged when all of them are literal.
        let literal: Option<serde_json::Map<String, serde_json::Value>> = with
            .iter()
            .map(|(given, template)| match template {
                Template::Literal(value) => Some((given.clone(), value.clone())),
                _ => None,
            })
            .collect();
        if let Some(all) = literal.filter(|all| !all.is_empty()) {
            for finding in action
                .check_parameters(&all.into())
                .into_iter()
                .filter(|f| f.contains("one of these"))
            {
                self.problem(
                    "E0133",
                    place,
                    format!("`{name}`: {finding}"),
                    format!("see `cordon action describe {name}`"),
                );
            }
        }
    }

    fn rules(&mut self, node: &Node, at: &Where) -> Vec<Rule> {
        let Data::List(items) = &node.data else {
            self.problem(
                "E0124",
                node.place,
                "`decide` is a list of rules",
                "- {when: condition, set: {name: value}}, last - {else: {...}}",
            );
            return Vec::new();
        };
        let mut rules = Vec::new();
        for (number, item) in items.iter().enumerate() {
            let Some(fields) = self.fields(item, "a rule", fields::RULE) else {
                continue;
            };
            let last = number + 1 == items.len();
            match (fields.get("when"), fields.get("set"), fields.get("else")) {
                (Some(when), Some(set), None) => {
                    let when = self.expression(when, at);
                    let set = self.set(set, at);
                    rules.push(Rule { when, set });
                }
                (None, None, Some(set)) if last => rules.push(Rule {
                    when: None,
                    set: self.set(set, at),
                }),
                (None, None, Some(set)) => {
                    self.problem(
                        "E0125",
                        set.place,
                        "`else` is the last rule: those behind it never match",
                        "move it to the end",
                    );
                }
                _ => self.problem(
                    "E0124",
                    item.place,
                    "a rule has `when` and `set`, the last one `else`",
                    "- {when: condition, set: {name: value}}",
                ),
            }
        }
        if items.last().is_none_or(|item| item.get("else").is_none()) {
            self.problem(
                "E0126",
                node.place,
                "a `decide` without `else` can decide nothing",
                "add `- {else: {...}}` as the last rule",
            );
        }
        rules
    }

    fn set(&mut self, node: &Node, at: &Where) -> BTreeMap<String, Template> {
        let entries = self.entries(node, "`set`");
        entries
            .iter()
            .filter_map(|(key, value)| Some((key.name.clone(), self.template(value, at)?)))
            .collect()
    }

    fn over(
        &mut self,
        fields: &Fields<'_>,
        step: &Where,
        task: &Where,
    ) -> (Over, Option<Place>, Option<String>, Option<u32>) {
        let set = fields
            .get("targets")
            .and_then(|n| Some((n.place, self.text(n, "`targets`")?)));
        let Some(node) = fields.get("foreach") else {
            return match set {
                Some((place, name)) => (Over::Targets(name), Some(place), None, None),
                None => (Over::Once, None, None, None),
            };
        };
        let Some(inner) = self.fields(node, "`foreach`", fields::FOREACH) else {
            return (Over::Once, None, None, None);
        };
        let list = inner.get("in").and_then(|n| self.expression(n, step));
        let name = inner
            .get("as")
            .and_then(|n| Some((n.place, self.text(n, "`as`")?)));
        let parallel = inner
            .get("max_parallel")
            .and_then(|n| self.count(n, "`max_parallel`", 1, u32::MAX));
        let distinct = inner.get("distinct").is_some_and(|n| self.flag(n, "`distinct`"));
        let host = inner.get("host").and_then(|n| self.expression(n, task));
        let (Some(list), Some((as_place, name))) = (list, name) else {
            self.problem(
                "E0127",
                node.place,
                "`foreach` has `in` and `as`",
                "foreach: {in: a list, as: name}",
            );
            return (Over::Once, None, None, None);
        };
        self.identifier(&name, as_place, "an item");
        if SCOPE.contains(&name.as_str()) {
            self.problem(
                "E0128",
                as_place,
                format!("`{name}` means something else already"),
                "choose another name",
            );
        }
        let place = set.as_ref().map(|(place, _)| *place);
        let host = match (host, set) {
            (Some(id), Some((_, within))) => Some(ItemHost { id, within }),
            (None, None) => None,
            (Some(_), None) => {
                self.problem(
                    "E0129",
                    node.place,
                    "`foreach.host` goes together with `targets`",
                    "name the frozen set that holds the hosts",
                );
                None
            }
            (None, Some((place, _))) => {
                self.problem(
                    "E0129",
                    place,
                    "a step has `targets` or `foreach`, not both",
                    "or say with `foreach.host` on which of them an item runs",
                );
                None
            }
        };
        (
            Over::ForEach {
                list,
                name: name.clone(),
                distinct,
                host,
            },
            place,
            Some(name),
            parallel,
        )
    }

    fn needs(&mut self, node: &Node, names: &[String]) -> Vec<Need> {
        let Data::List(items) = &node.data else {
            self.problem("E0115", node.place, "`needs` is a list", "needs: [a, b.done]");
            return Vec::new();
        };
        let mut needs = Vec::new();
        let mut seen = BTreeSet::new();
        for item in items {
            let Some(text) = self.text(item, "a need") else {
                continue;
            };
            let (name, state) = match text.split_once('.') {
                None => (text.as_str(), Some(NeedState::Succeeded)),
                Some((name, "done")) => (name, Some(NeedState::Done)),
                Some((name, "failed")) => (name, Some(NeedState::Failed)),
                Some((name, _)) => (name, None),
            };
            let Some(state) = state else {
                self.problem(
                    "E0116",
                    item.place,
                    format!("`{text}` is no need"),
                    "a step's name, `name.done` or `name.failed`",
                );
                continue;
            };
            match names.iter().position(|n| n == name) {
                Some(step) if seen.insert(step) => needs.push(Need {
                    step: step as u16,
                    state,
                }),
                Some(_) => self.problem(
                    "E0117",
                    item.place,
                    format!("`{name}` is needed twice"),
                    "leave one of them out",
                ),
                None => {
                    let hint = nearest::hint(name, names.iter().map(String::as_str));
                    self.problem("E0118", item.place, format!("there is no step `{name}`"), hint);
                }
            }
        }
        needs
    }

    fn strategy(&mut self, node: &Node, name: &str) -> Strategy {
        let Some(fields) = self.fields(node, "`strategy`", fields::STRATEGY) else {
            return Strategy::default();
        };
        Strategy {
            max_parallel: fields
                .get("max_parallel")
                .and_then(|n| self.count(n, "`max_parallel`", 1, u32::MAX)),
            fail_when: fields
                .get("fail_when")
                .and_then(|n| self.expression(n, &Where::FailWhen(name.to_owned()))),
        }
    }

    fn retry(&mut self, node: &Node, name: &str) -> Option<Retry> {
        let fields = self.fields(node, "`retry`", fields::RETRY)?;
        let Some(max) = fields.get("max") else {
            self.problem(
                "E0119",
                node.place,
                "a `retry` without `max` would never end",
                "add `max: 3`",
            );
            return None;
        };
        let factor = fields
            .get("factor")
            .map_or(Some(2.0), |n| self.number(n, "`factor`"));
        if factor.is_some_and(|f| !(1.0..=10.0).contains(&f)) {
            self.problem("E0119", node.place, "`factor` is from 1 to 10", "");
        }
        Some(Retry {
            max: self.count(max, "`max`", 1, RETRIES_MAX)?,
            initial_ms: fields
                .get("initial")
                .map_or(Some(1_000), |n| self.duration(n, "`initial`"))?,
            factor: factor?,
            delay_ms_max: fields
                .get("max_delay")
                .map_or(Some(300_000), |n| self.duration(n, "`max_delay`"))?,
            jitter: fields.get("jitter").is_none_or(|n| self.flag(n, "`jitter`")),
            when: fields
                .get("when")
                .and_then(|n| self.expression(n, &Where::Retry(name.to_owned()))),
        })
    }

    fn timeout(&mut self, node: &Node) -> Timeout {
        let Some(fields) = self.fields(node, "`timeout`", fields::TIMEOUT) else {
            return Timeout::default();
        };
        let mut ms = |name: &str| fields.get(name).and_then(|n| self.deadline(n, name));
        Timeout {
            queue_ms: ms("queue"),
            attempt_ms: ms("attempt"),
            total_ms: ms("total"),
            heartbeat_ms: ms("heartbeat"),
        }
    }

    fn on_failure(&mut self, node: &Node) -> OnFailure {
        match &node.data {
            Data::Text(text) if text == "fail" => OnFailure::Fail,
            Data::Text(text) if text == "continue" => OnFailure::Continue,
            Data::Map(_) => {
                let message = "`on_failure` with `compensate` or `notify` is part of the language, but this version cannot run it yet";
                self.problem("E0103", node.place, message, "`fail` or `continue`");
                OnFailure::Fail
            }
            _ => {
                self.problem("E0134", node.place, "`on_failure` is `fail` or `continue`", "");
                OnFailure::Fail
            }
        }
    }
}

/// Names that are in scope somewhere.
pub(super) const SCOPE: &[&str] = &[
    "inputs", "steps", "event", "group", "target", "output", "error", "run", "config", "failed", "ok",
    "unknown", "total", "agent",
];

/// Both go over the same hosts.
pub(super) fn same_set(a: &Over, b: &Over) -> bool {
    set_of(a).is_some() && set_of(a) == set_of(b)
}

/// The target set that a step goes over.
pub(super) fn set_of(over: &Over) -> Option<&str> {
    match over {
        Over::Targets(name) => Some(name),
        Over::ForEach { host: Some(host), .. } => Some(&host.within),
        _ => None,
    }
}
