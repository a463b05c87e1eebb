//! How steps lead to each other: one start, ends, branches that end by themselves, no circle but `while`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::super::flow::{SEQUENCE, branches};
use super::super::violation::Path;
use super::Checker;
use super::objects::text;

impl<'a> Checker<'a> {
    pub(super) fn flow(&mut self) {
        let steps: BTreeMap<&'a str, &'a Map<String, Value>> = self
            .dictionary("workflow")
            .filter_map(|(id, step)| Some((id.as_str(), step.as_object()?)))
            .collect();
        self.kinds(&steps);
        for (id, step) in &steps {
            self.edges(id, step, &steps);
        }
        if self.circles(&steps) {
            return;
        }
        self.branches(&steps);
    }

    fn kinds(&mut self, steps: &BTreeMap<&str, &Map<String, Value>>) {
        let path = Path::Root;
        let path = path.name("workflow");
        let of = |kind: &str| {
            steps
                .iter()
                .filter(|(_, step)| text(step, "type") == Some(kind))
                .count()
        };
        let starts = of("start");
        if starts != 1 {
            self.violation(
                "C0301",
                &path,
                format!("there are {starts} start steps"),
                "a workflow has exactly one step of the type `start`",
            );
        }
        if of("end") == 0 {
            self.violation(
                "C0302",
                &path,
                "there is no end step",
                "add a step of the type `end`",
            );
        }
        if of("action") + of("playbook-action") == 0 {
            self.violation(
                "C0304",
                &path,
                "no step does anything",
                "a workflow has at least one `action` or `playbook-action`",
            );
        }
        if let Some(start) = text(self.root, "workflow_start")
            && steps
                .get(start)
                .is_some_and(|step| text(step, "type") != Some("start"))
        {
            let path = Path::Root;
            self.violation(
                "C0303",
                &path.name("workflow_start"),
                format!("`{start}` is no start step"),
                "name the step of the type `start`",
            );
        }
    }

    fn edges(&mut self, id: &str, step: &Map<String, Value>, steps: &BTreeMap<&str, &Map<String, Value>>) {
        let path = Path::Root;
        let path = path.name("workflow");
        let path = path.name(id);
        let kind = text(step, "type").unwrap_or_default();
        let has = |name: &str| step.contains_key(name);
        let forbidden: &[&str] = match kind {
            "start" => &["on_success", "on_failure"],
            "end" => &["on_completion", "on_success", "on_failure"],
            _ => &[],
        };
        for name in forbidden.iter().filter(|name| has(name)) {
            self.violation(
                "C0306",
                &path.name(name),
                format!("`{name}` cannot be used on a step of the type `{kind}`"),
                if kind == "start" {
                    "use `on_completion`"
                } else {
                    "an end leads nowhere"
                },
            );
        }
        if has("on_completion") && (has("on_success") || has("on_failure")) {
            self.violation(
                "C0305",
                &path.name("on_completion"),
                "a step leads on either by `on_completion` or by `on_success` and `on_failure`",
                "leave out the one that is not meant",
            );
        }
        if kind != "end" && !has("on_completion") && !has("on_success") {
            self.violation(
                "C0307",
                &path,
                "the step leads nowhere",
                "add `on_completion`, or `on_success` and `on_failure`; the last one leads to an end step",
            );
        }
        if kind == "parallel"
            && step
                .get("next_steps")
                .and_then(Value::as_array)
                .is_some_and(|next| next.len() == 1)
        {
            self.violation(
                "C0311",
                &path.name("next_steps"),
                "one step alone is not parallel to anything",
                "name two or more, or lead to the one directly",
            );
        }
        let sequence = SEQUENCE
            .iter()
            .filter_map(|name| Some((*name, text(step, name)?)));
        for (place, to) in sequence.chain(branches(step).map(|branch| (branch.property, branch.to))) {
            if steps
                .get(to)
                .is_some_and(|step| text(step, "type") == Some("start"))
            {
                self.violation(
                    "C0312",
                    &path.name(place),
                    "a step leads back to the start",
                    "repeat with a `while-condition`",
                );
            }
        }
    }

    /// Steps that lead back to themselves. Only a `while` repeats.
    fn circles(&mut self, steps: &BTreeMap<&'a str, &'a Map<String, Value>>) -> bool {
        // Steps are taken away as long as nothing that is left leads to them.
        let next = |id: &str| {
            let step = steps.get(id).copied();
            SEQUENCE
                .iter()
                .filter_map(move |name| text(step?, name))
                .filter(|to| steps.contains_key(to))
        };
        let mut incoming: BTreeMap<&str, usize> = steps.keys().map(|id| (*id, 0)).collect();
        for to in steps.keys().flat_map(|id| next(id)) {
            *incoming.entry(to).or_default() += 1;
        }
        let mut free: Vec<&str> = incoming
            .iter()
            .filter(|(_, n)| **n == 0)
            .map(|(id, _)| *id)
            .collect();
        while let Some(id) = free.pop() {
            incoming.remove(id);
            for to in next(id) {
                let left = incoming.entry(to).or_insert(1);
                *left -= 1;
                if *left == 0 {
                    free.push(to);
                }
            }
        }
        // What is left is in a circle or behind one; the first that leads to one of its own kind is named.
        let Some(first) = incoming.keys().next() else {
            return false;
        };
        let path = Path::Root;
        let path = path.name("workflow");
        let names: Vec<&str> = incoming.keys().copied().take(6).collect();
        self.violation(
            "C0310",
            &path.name(first),
            format!(
                "these steps lead in a circle, or are reached through one: {}",
                names.join(", ")
            ),
            "repeat with a `while-condition`, whose branch ends by itself",
        );
        true
    }

    /// Each branch is a sequence of its own, up to an end of its own.
    fn branches(&mut self, steps: &BTreeMap<&'a str, &'a Map<String, Value>>) {
        // The region of a step: 0 is the workflow itself, each branch has another.
        let mut region_of: BTreeMap<&str, usize> = BTreeMap::new();
        let mut shared: BTreeSet<&str> = BTreeSet::new();
        let entries = ["workflow_start", "workflow_exception"]
            .iter()
            .filter_map(|name| text(self.root, name));
        let mut open: VecDeque<(usize, Vec<&str>)> = VecDeque::from([(0, entries.collect())]);
        let mut regions = 1;
        while let Some((region, mut reached)) = open.pop_front() {
            while let Some(id) = reached.pop() {
                let Some(step) = steps.get(id) else { continue };
                match region_of.get(id) {
                    Some(known) if *known == region => continue,
                    Some(_) => {
                        shared.insert(id);
                        continue;
                    }
                    None => region_of.insert(id, region),
                };
                reached.extend(SEQUENCE.iter().filter_map(|name| text(step, name)));
                for branch in branches(step) {
                    open.push_back((regions, vec![branch.to]));
                    regions += 1;
                }
            }
        }
        let path = Path::Root;
        let path = path.name("workflow");
        for id in shared {
            self.violation(
                "C0308",
                &path.name(id),
                "two branches lead to this step",
                "each branch has its own steps and its own end; what follows all of them is where the step that opened \
                 them leads on to",
            );
        }
        for id in steps.keys().filter(|id| !region_of.contains_key(*id)) {
            self.violation(
                "C0902",
                &path.name(id),
                "nothing leads to this step",
                "lead to it, or leave it out",
            );
        }
    }
}
