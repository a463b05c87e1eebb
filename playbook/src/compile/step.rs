//! The steps.

use std::collections::BTreeSet;

use super::Compiler;
use super::fields::{self, Fields};
use super::looping::{self, Raw, Round, What};
use super::template::Place as Where;
use crate::manifest::{ItemHost, Kind, Need, NeedState, Over, Step};
use crate::nearest;
use crate::problem::Place;
use crate::yaml::{Data, Node};

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
    /// `steps` and `finally`.
    pub(super) fn all_steps(&mut self, root: &Node, fields: &Fields<'_>) -> (Vec<Placed>, Vec<Placed>) {
        let mut lists = [("steps", Vec::new()), ("finally", Vec::new())];
        for (section, list) in &mut lists {
            if let Some(node) = fields.get(section) {
                *list = self.unrolled(node, section);
            }
        }
        let [(_, steps), (_, finally)] = lists;
        if steps.is_empty() {
            match fields.get("steps") {
                None => self.problem(
                    "E0105",
                    root.place,
                    "a playbook without `steps` does nothing",
                    "add `steps:`",
                ),
                Some(node) if matches!(&node.data, Data::Map(entries) if entries.is_empty()) => self.problem(
                    "E0105",
                    node.place,
                    "a playbook without steps does nothing",
                    "add one under `steps:`",
                ),
                Some(_) => {}
            }
        }
        let mut seen = BTreeSet::new();
        for raw in steps.iter().chain(&finally) {
            if !seen.insert(raw.name.as_str()) {
                let hint = "a step's name is unique, `finally` and the rounds of loops included";
                self.problem(
                    "E0114",
                    raw.place,
                    format!("there are two steps `{}`", raw.name),
                    hint,
                );
            }
        }
        let names: Vec<String> = steps.iter().map(|raw| raw.name.clone()).collect();
        let mut compile = |list: &[Raw<'_>], finally| {
            let placed = list.iter().map(|raw| self.raw_step(raw, finally, &names));
            placed.collect::<Vec<_>>()
        };
        let steps = compile(&steps, false);
        let finally = compile(&finally, true);
        (steps, finally)
    }

    fn raw_step(&mut self, raw: &Raw<'_>, finally: bool, names: &[String]) -> Placed {
        self.round = raw.round.clone();
        self.repeated = self.round.is_repeated();
        let placed = match &raw.what {
            What::Step(node) => self.step(&raw.name, raw.place, node, finally, names),
            What::Asked { condition, node } => self.round_begins(raw, condition, node, names),
            What::Gathered {
                condition,
                node,
                rounds,
            } => self.round_ends(raw, condition, node, rounds, names),
        };
        self.round = Round::default();
        self.repeated = false;
        // What did not compile keeps its place: needs are positions.
        let mut placed = placed.unwrap_or_else(|| looping::placed(raw, Vec::new(), Vec::new(), None));
        placed.step.needs.extend(
            raw.after
                .iter()
                .filter(|need| !placed.step.needs.iter().any(|own| own.step == need.step))
                .cloned()
                .collect::<Vec<_>>(),
        );
        placed
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
        let kind = self.kind(name, place, &fields, &task_place);
        let (over, targets, item, parallel) = self.over(&fields, &step_place, &task_place);
        if let Some(kind) = &kind {
            self.fits(kind, place, &over, &fields);
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
        let gate = fields.get("gate").and_then(|n| self.gate(n, &task_place));
        let compensate = fields.get("compensate").and_then(|n| self.compensate(n, name));
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
                .map(|n| self.on_failure(n, name, names))
                .unwrap_or_default(),
            gate,
            compensate,
        };
        Some(Placed {
            step,
            place,
            targets,
            item,
        })
    }

    /// Fields that mean nothing for this kind of step are a problem, never ignored.
    fn fits(&mut self, kind: &Kind, place: Place, over: &Over, fields: &Fields<'_>) {
        let what = kind.name();
        match (kind, over) {
            (Kind::Do { .. }, _) => return,
            (_, Over::Once) | (Kind::Playbook { .. }, Over::ForEach { host: None, .. }) => {}
            (Kind::Playbook { .. }, _) => self.problem(
                "E0120",
                place,
                "a `playbook` runs on no host: what it starts has targets of its own",
                "leave out `targets` and `host`, and go over the hosts with `foreach` where one is started for each",
            ),
            _ => self.problem(
                "E0120",
                place,
                format!("a `{what}` happens once"),
                "leave out `targets` and `foreach`",
            ),
        }
        let without: &[&str] = match kind {
            // What its run did is undone by that run.
            Kind::Playbook { .. } => &["compensate"],
            Kind::Notify { .. } => &["strategy", "gate", "expect", "compensate"],
            _ => &["strategy", "gate", "expect", "compensate", "retry", "timeout"],
        };
        for field in without {
            if let Some(node) = fields.get(field) {
                self.problem(
                    "E0122",
                    node.place,
                    format!("a `{what}` has no `{field}`"),
                    "leave it out",
                );
            }
        }
    }

    /// Whether the expression that was parsed last differs from task to task.
    fn reads_task(&self, item: Option<&str>) -> bool {
        self.uses.last().is_some_and(|used| {
            let names = &used.parsed.names;
            !used.here.is_empty() || names.contains("target") || item.is_some_and(|item| names.contains(item))
        })
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

    pub(super) fn needs(&mut self, node: &Node, names: &[String]) -> Vec<Need> {
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
            let renamed = self.round.step(name);
            let name = renamed.as_deref().unwrap_or(name);
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
                    by_host: false,
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
