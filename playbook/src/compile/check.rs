//! What can only be judged when all steps are known: names, order, and what may have been skipped.

use std::collections::BTreeSet;

use catalogue::RunsOn;

use super::Compiler;
use super::step::{Placed, SCOPE, same_set, set_of};
use super::template::{Place as Where, Use, short};
use crate::manifest::{Kind, Manifest, NeedState, Over};
use crate::nearest;

/// What an item of a step, and a step itself, offers to expressions.
const STEP_FIELDS: &[&str] = &["status", "output", "items", "ok", "failed", "unknown", "here"];

struct Steps<'a> {
    steps: &'a [Placed],
    finally: &'a [Placed],
    /// For each of `steps`: all that ended before it starts.
    before: Vec<BTreeSet<usize>>,
    /// For each of `steps`: those that succeeded when it starts.
    sure: Vec<BTreeSet<usize>>,
    /// Can end skipped as a whole.
    skippable: Vec<bool>,
}

impl Compiler {
    pub(super) fn check(&mut self, manifest: &Manifest, steps: &[Placed], finally: &[Placed]) {
        if manifest.step_count() as usize > usize::from(u16::MAX) - 1 {
            return;
        }
        if self.has_cycle(steps) {
            return;
        }
        let order = order_of(steps);
        let steps = Steps {
            skippable: skippable(steps),
            before: order.0,
            sure: order.1,
            steps,
            finally,
        };
        for placed in steps.steps.iter().chain(steps.finally) {
            self.check_over(manifest, placed);
        }
        for used in std::mem::take(&mut self.uses) {
            self.repeated = used.repeated;
            self.check_use(manifest, &steps, &used);
            self.repeated = false;
        }
    }

    fn has_cycle(&mut self, steps: &[Placed]) -> bool {
        // A step that can never start is one whose needs never all end.
        let mut started: BTreeSet<usize> = BTreeSet::new();
        loop {
            let ready: Vec<usize> = (0..steps.len())
                .filter(|at| !started.contains(at))
                .filter(|&at| {
                    steps[at]
                        .step
                        .needs
                        .iter()
                        .all(|n| started.contains(&usize::from(n.step)))
                })
                .collect();
            if ready.is_empty() {
                break;
            }
            started.extend(ready);
        }
        let stuck: Vec<usize> = (0..steps.len()).filter(|at| !started.contains(at)).collect();
        let Some(&first) = stuck.first() else { return false };
        let names: Vec<&str> = stuck.iter().map(|&at| steps[at].step.name.as_str()).collect();
        self.problem(
            "E0301",
            steps[first].place,
            format!(
                "these steps wait for each other and never start: {}",
                names.join(", ")
            ),
            "take one `needs` out of the circle",
        );
        true
    }

    fn check_over(&mut self, manifest: &Manifest, placed: &Placed) {
        if let (Some(name), Some(place)) = (set_of(&placed.step.over), placed.targets)
            && !manifest.targets.contains_key(name)
        {
            let hint = nearest::hint(name, manifest.targets.keys().map(String::as_str));
            self.problem("E0302", place, format!("there is no target set `{name}`"), hint);
        }
        let Kind::Do { action, .. } = &placed.step.kind else {
            return;
        };
        let Some(declared) = catalogue::find(action) else {
            return;
        };
        let on_hosts = set_of(&placed.step.over).is_some();
        match declared.runs_on {
            RunsOn::Agent if !on_hosts => self.problem(
                "E0303",
                placed.place,
                format!(
                    "`{action}` runs on a host, and step `{}` names none",
                    placed.step.name
                ),
                match placed.step.over {
                    Over::ForEach { .. } => {
                        "add `targets: SET` and, in `foreach`, `host:` with an agent's id"
                    }
                    _ => "add `targets: SET`",
                },
            ),
            RunsOn::Coordinator if on_hosts => self.problem(
                "E0303",
                placed.place,
                format!(
                    "`{action}` runs on the coordinator, and step `{}` names hosts",
                    placed.step.name
                ),
                "leave out `targets`, and go over the hosts with `foreach` where it is done for each of them",
            ),
            RunsOn::Agent | RunsOn::Coordinator => {}
        }
        let undone_by = placed
            .step
            .compensate
            .as_ref()
            .and_then(|with| catalogue::find(&with.action));
        if let Some(undone_by) = undone_by.filter(|by| by.runs_on == RunsOn::Agent && !on_hosts) {
            self.problem(
                "E0303",
                placed.place,
                format!(
                    "`{}` runs on a host, and step `{}`, which it undoes, names none",
                    undone_by.name, placed.step.name
                ),
                "undo it by an action of the coordinator",
            );
        }
        if declared.impact > catalogue::Impact::Collect
            && declared.inverse.is_none()
            && placed.step.compensate.is_none()
            && !declared.undoes_another()
        {
            self.problem(
                "W0401",
                placed.place,
                format!("`{action}` ({}) cannot be undone", declared.impact.as_str()),
                "have it reviewed by a second person",
            );
        }
    }

    fn check_use(&mut self, manifest: &Manifest, steps: &Steps<'_>, used: &Use) {
        let name = match &used.at {
            Where::From
            | Where::Trigger
            | Where::Limits
            | Where::Targets
            | Where::Select
            | Where::Outputs => None,
            Where::Step(n)
            | Where::Task(n)
            | Where::Expect(n)
            | Where::Compensate(n)
            | Where::Event(n)
            | Where::Retry(n)
            | Where::FailWhen(n) => Some(n.as_str()),
        };
        let at = steps
            .steps
            .iter()
            .position(|s| Some(s.step.name.as_str()) == name);
        let own = steps
            .steps
            .iter()
            .chain(steps.finally)
            .find(|s| Some(s.step.name.as_str()) == name);
        if name.is_some() && own.is_none() {
            // The step itself did not compile; that is said already.
            return;
        }
        self.check_names(used, own);
        for path in &used.parsed.paths {
            match path[0].as_str() {
                "inputs" => {
                    if let Some(input) = path.get(1).filter(|i| !manifest.inputs.contains_key(*i)) {
                        let hint = nearest::hint(input, manifest.inputs.keys().map(String::as_str));
                        self.problem("E0304", used.place, format!("there is no input `{input}`"), hint);
                    }
                }
                "steps" if !used.at.is_before_the_run() => {
                    self.check_step(steps, used, own, at, path);
                }
                _ => {}
            }
            if !used.at.is_before_the_run() {
                self.check_fields(manifest, steps.steps, used, own, path);
            }
        }
        self.check_given(manifest, steps.steps, used, own);
        for range in &used.parsed.ranges {
            let path: Vec<&str> = range.iter().map(String::as_str).collect();
            let map = matches!(
                path.as_slice(),
                ["inputs" | "steps" | "config" | "run" | "target" | "agent" | "error" | "output"]
                    | ["target" | "agent", "labels" | "facts"]
                    | ["steps", _]
                    | ["steps", _, "output" | "here"]
            );
            if map {
                let message = format!("`{}` is a map: going over it has no order", range.join("."));
                self.problem(
                    "E0305",
                    used.place,
                    message,
                    "go over a list, or read the names that you need",
                );
            }
        }
    }

    fn check_names(&mut self, used: &Use, own: Option<&Placed>) {
        let mut known: Vec<&str> = vec!["config", "event", "group"];
        if !matches!(used.at, Where::From | Where::Trigger) {
            known.push("inputs");
        }
        if !used.at.is_before_the_run() {
            known.extend(["steps", "run"]);
        }
        match &used.at {
            Where::Select => known.push("agent"),
            Where::Task(_) | Where::Expect(_) | Where::Compensate(_) | Where::Retry(_) => {
                if let Some(own) = own {
                    if set_of(&own.step.over).is_some() {
                        known.push("target");
                    }
                    known.extend(own.item.as_deref());
                }
            }
            _ => {}
        }
        match &used.at {
            Where::Expect(_) | Where::Compensate(_) => known.push("output"),
            Where::Retry(_) => known.push("error"),
            Where::FailWhen(_) => known.extend(["failed", "ok", "unknown", "total"]),
            _ => {}
        }
        for name in used
            .parsed
            .names
            .iter()
            .filter(|name| !known.contains(&name.as_str()))
        {
            let message = if SCOPE.contains(&name.as_str()) {
                format!("`{name}` is not in scope here")
            } else {
                format!("there is no `{name}` in `{}`", short(&used.source))
            };
            let hint = nearest::hint(name, known.iter().copied());
            self.problem("E0306", used.place, message, hint);
        }
    }

    fn check_step(
        &mut self,
        steps: &Steps<'_>,
        used: &Use,
        own: Option<&Placed>,
        at: Option<usize>,
        path: &[String],
    ) {
        let Some(name) = path.get(1) else { return };
        let number = steps.steps.iter().position(|s| s.step.name == *name);
        let number = match number {
            Some(number) => number,
            None if steps.finally.iter().any(|s| s.step.name == *name) => return,
            None => {
                let hint = nearest::hint(name, steps.steps.iter().map(|s| s.step.name.as_str()));
                self.problem("E0307", used.place, format!("there is no step `{name}`"), hint);
                return;
            }
        };
        let Some(field) = path.get(2) else { return };
        if !STEP_FIELDS.contains(&field.as_str()) {
            let hint = nearest::hint(field, STEP_FIELDS.iter().copied());
            self.problem("E0308", used.place, format!("a step has no `{field}`"), hint);
            return;
        }
        if field == "here" {
            let other = &steps.steps[number];
            if !own.is_some_and(|own| same_set(&own.step.over, &other.step.over))
                || !matches!(other.step.over, Over::Targets(_))
            {
                self.problem(
                    "E0309",
                    used.place,
                    format!(
                        "`steps.{name}.here` is the item of the same host, and `{name}` goes over other hosts"
                    ),
                    "use it in a step over the same `targets`",
                );
            } else if !matches!(used.at, Where::Task(_) | Where::Expect(_)) {
                self.problem(
                    "E0309",
                    used.place,
                    format!("`steps.{name}.here` needs a host"),
                    "use it in `when`, `with` or `expect`",
                );
            }
        }
        if let Some(at) = at
            && !steps.before[at].contains(&number)
        {
            let reader = &steps.steps[at].step.name;
            let hint = if at == number {
                "a step cannot read itself: `output` is in scope in `expect`, `error` in `retry.when`"
                    .to_owned()
            } else {
                format!("add `{name}.done` to the needs of `{reader}`")
            };
            self.problem(
                "E0310",
                used.place,
                format!("`{reader}` reads `steps.{name}`, which may not have ended when it starts"),
                hint,
            );
            return;
        }
        if field == "output" && !matches!(steps.steps[number].step.over, Over::Once) {
            self.problem(
                "E0312",
                used.place,
                format!("`{name}` has one output for each host or item, and none of its own"),
                format!(
                    "read those of its tasks: `steps.{name}.ok.map(i, i.output)`, or `steps.{name}.here.output` in a \
                     step over the same `targets`"
                ),
            );
            return;
        }
        let sure = at.is_some_and(|at| steps.sure[at].contains(&number));
        let guarded = used.reads(&["steps", name, "status"]) || own.is_some_and(|own| self.guards(own, name));
        if field == "output" && steps.skippable[number] && !sure && !guarded {
            self.problem(
                "E0311",
                used.place,
                format!("`{name}` can be skipped, and then has no output"),
                format!("need `{name}` itself, or ask `steps.{name}.status == \"succeeded\"` first"),
            );
        }
    }

    /// The step's own `when` asks how the other one ended.
    fn guards(&self, own: &Placed, name: &str) -> bool {
        own.step
            .when
            .as_ref()
            .is_some_and(|when| when.0.contains(&format!("steps.{name}.status")))
    }
}

/// For each step, all that ended before it starts, and those of them that must have succeeded.
fn order_of(steps: &[Placed]) -> (Vec<BTreeSet<usize>>, Vec<BTreeSet<usize>>) {
    let mut before = vec![BTreeSet::new(); steps.len()];
    let mut sure = vec![BTreeSet::new(); steps.len()];
    // Without cycles, as many rounds as there are steps reach the end; few are needed.
    loop {
        let mut changed = false;
        for (at, placed) in steps.iter().enumerate() {
            for need in &placed.step.needs {
                let other = usize::from(need.step);
                let mut all = before[other].clone();
                all.insert(other);
                let mut certain = sure[other].clone();
                if need.state == NeedState::Succeeded {
                    certain.insert(other);
                } else {
                    // It may have ended skipped, without what it needs.
                    certain.clear();
                }
                let sizes = (before[at].len(), sure[at].len());
                before[at].extend(all);
                sure[at].extend(certain);
                changed |= sizes != (before[at].len(), sure[at].len());
            }
        }
        if !changed {
            return (before, sure);
        }
    }
}

/// A step can be skipped by its own `when`, or because a plain need was.
fn skippable(steps: &[Placed]) -> Vec<bool> {
    let mut can: Vec<bool> = steps
        .iter()
        .map(|s| s.step.when.is_some() && !s.step.when_per_task)
        .collect();
    loop {
        let mut changed = false;
        for at in 0..steps.len() {
            let inherits = steps[at].step.needs.iter().any(|n| match n.state {
                NeedState::Succeeded => can[usize::from(n.step)],
                NeedState::Failed => true,
                NeedState::Done => false,
            });
            if inherits && !can[at] {
                can[at] = true;
                changed = true;
            }
        }
        if !changed {
            return can;
        }
    }
}
