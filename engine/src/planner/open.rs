//! A step begins: its condition, its items, its parameters, its tasks.

use std::collections::BTreeSet;
use std::sync::Arc;

use playbook::canonical::canonical_json;
use playbook::eval::Scope;
use playbook::manifest::{Kind, Over, Rule, ScoreRule, Step, Template};
use serde_json::{Map, Value, json};

use super::RULED_OUT;
use super::decision::{Born, Decision, Gated, NewTask, NewTasks};
use super::run::Plan;
use super::scope::Sources;
use super::work::Work;
use crate::command::TaskError;
use crate::id::AgentId;
use crate::limits::{COMMAND_BYTES, NOTIFY_MS_DEFAULT, PARAMETERS_BYTES_MAX, STEP_TASKS_MAX};
use crate::state::StepStatus;
use crate::state::groups;
use crate::state::steps::Shared;

/// A step that can be opened.
pub(super) struct Opening {
    pub shared: Shared,
    pub tasks: NewTasks,
    pub gated: Option<Gated>,
}

/// Ranges of tasks that wait for people, in one command.
const HELD_RANGES_MAX: u32 = 3_000;

/// What a step's tasks go over.
enum Items {
    /// Nothing: one call.
    Once,
    /// The hosts of the set, in its order.
    Hosts,
    /// Values, each with the position of its host; of calls any.
    Values(Vec<(Value, u32)>),
}

impl Plan<'_> {
    /// The step's condition is false, or cannot be evaluated: it ended.
    pub(super) fn is_ruled_out(&mut self, step: u16) -> bool {
        let declared = self.run.declared(step);
        let Some(when) = declared.when.as_ref().filter(|_| !declared.when_per_task) else {
            return false;
        };
        match self.scope(&Sources::of([when])).test(when) {
            Ok(true) => false,
            Ok(false) => self.close(step, StepStatus::Skipped, RULED_OUT),
            Err(why) => self.close(step, StepStatus::Failed, &format!("expression: {why}")),
        }
    }

    /// The needs of a step hold and its delay is over; true: it ended at once.
    pub(super) fn begin(&mut self, step: u16) -> bool {
        if self.is_ruled_out(step) {
            return true;
        }
        let declared = self.run.declared(step);
        match &declared.kind {
            Kind::Decide { rules } => {
                let output = self.decided(rules).map(|(_, output)| output);
                self.thought(step, output)
            }
            Kind::Score { rules } => {
                let output = self.scored(rules);
                self.thought(step, output)
            }
            Kind::Do { with, .. } | Kind::Playbook { with, .. } => {
                match self.opening_of(step, declared, with, 0) {
                    Ok(opening) if opening.shared.total == 0 => self.close(step, StepStatus::Succeeded, ""),
                    Ok(opening) => {
                        self.push_tasks(step, 0, opening);
                        self.set_running(step);
                        false
                    }
                    Err(why) => self.close(step, StepStatus::Failed, &why),
                }
            }
            Kind::Notify { to, severity, text } => {
                match self.messages(declared, to, severity.as_ref(), text, 0) {
                    Ok(opening) => {
                        self.push_tasks(step, 0, opening);
                        self.set_running(step);
                        false
                    }
                    Err(why) => self.close(step, StepStatus::Failed, &why),
                }
            }
            Kind::Ask { text, form, .. } => self.ask(step, text.as_ref(), form),
            Kind::WaitEvent { .. } => {
                self.decisions.push(Decision::Listen {
                    run: self.run.id,
                    step,
                });
                self.set_running(step);
                false
            }
        }
    }

    /// The next group of a step's tasks, or tasks that got lost on their way to the log: evaluates what they are
    /// made of again. (It cannot have changed, but for facts and labels.)
    pub(super) fn open_more(&mut self, step: u16, from: u32) {
        let declared = self.run.declared(step);
        let opening = match &declared.kind {
            Kind::Do { with, .. } | Kind::Playbook { with, .. } => {
                self.opening_of(step, declared, with, from)
            }
            Kind::Notify { to, severity, text } => self.messages(declared, to, severity.as_ref(), text, from),
            _ => Err("it has no tasks".into()),
        };
        match opening {
            Ok(opening) => self.push_tasks(step, from, opening),
            Err(reason) => self.decisions.push(Decision::Stop {
                run: self.run.id,
                step,
                reason,
            }),
        }
        self.hold(step);
    }

    fn opening_of(
        &self,
        step: u16,
        declared: &Step,
        with: &std::collections::BTreeMap<String, Template>,
        from: u32,
    ) -> Result<Opening, String> {
        match self.run.undoes(step) {
            Some(of) => self.undo_opening(step, of, from),
            None => self.opening(
                step,
                declared,
                Work::of(self.state, self.run, declared)?,
                with,
                from,
            ),
        }
    }

    /// A step that only thinks ends at once.
    fn thought(&mut self, step: u16, output: Result<Arc<str>, String>) -> bool {
        match output {
            Ok(output) => {
                self.outputs.insert(step, output);
                self.close(step, StepStatus::Succeeded, "")
            }
            Err(why) => self.close(step, StepStatus::Failed, &why),
        }
    }

    /// The output of a `score`: `{value, fired: [{rule, add, note}]}`; rules count from 1.
    fn scored(&self, rules: &[ScoreRule]) -> Result<Arc<str>, String> {
        let scope = self.scope(&Sources::of(rules.iter().map(|rule| &rule.when)));
        let mut value = 0;
        let mut fired = Vec::new();
        for (number, rule) in rules.iter().enumerate() {
            if scope.test(&rule.when).map_err(|e| format!("expression: {e}"))? {
                value += rule.add;
                fired.push(json!({"rule": number + 1, "add": rule.add, "note": rule.note}));
            }
        }
        Ok(canonical_json(&json!({"value": value, "fired": fired})).into())
    }

    /// The first rule of a `decide` that holds, counted from 0, and the output that it gives.
    pub(super) fn decided(&self, rules: &[Rule]) -> Result<(usize, Arc<str>), String> {
        let mut sources = Sources::default();
        for rule in rules {
            sources.add(rule.when.as_ref());
            rule.set.values().for_each(|t| sources.add_template(t));
        }
        let scope = self.scope(&sources);
        for (number, rule) in rules.iter().enumerate() {
            let holds = match &rule.when {
                None => true,
                Some(when) => scope.test(when).map_err(|e| format!("expression: {e}"))?,
            };
            if holds {
                return Ok((number, canonical_json(&rendered(&scope, &rule.set)?).into()));
            }
        }
        Err("no rule of the decide holds, and it has no else".into())
    }

    fn opening(
        &self,
        step: u16,
        declared: &Step,
        work: Work,
        with: &std::collections::BTreeMap<String, Template>,
        from: u32,
    ) -> Result<Opening, String> {
        let mut sources = Sources::default();
        sources.add(declared.when.as_ref().filter(|_| declared.when_per_task));
        with.values().for_each(|t| sources.add_template(t));
        let own = matches!(&declared.over, Over::ForEach { name, .. } if sources.has(name))
            || sources.has("target")
            || !sources.here().is_empty();
        if let Over::ForEach { list, host, .. } = &declared.over {
            sources.add(Some(list));
            sources.add(host.as_ref().map(|host| &host.id));
        }
        let scope = self.scope(&sources);
        let (set, items) = self.items(declared, &scope)?;
        let hosts = match set {
            "" => &[][..],
            set => &self
                .run
                .targets
                .get(set)
                .ok_or_else(|| format!("there is no target set {set}"))?[..],
        };
        let total = match &items {
            Items::Once => 1,
            Items::Hosts => hosts.len(),
            Items::Values(values) => values.len(),
        };
        if total > STEP_TASKS_MAX {
            return Err(format!("it has {total} tasks, of at most {STEP_TASKS_MAX}"));
        }
        let parameters = if own || total == 0 {
            None
        } else {
            Some(parameters(&scope, with, work).map_err(|e| format!("{}: {}", e.code, e.message))?)
        };
        let shared = Shared {
            total: total as u32,
            set: set.to_owned(),
            impact: work.impact(),
            urgent: work.is_urgent(),
            attempt_ms: declared.timeout.attempt_ms.unwrap_or_else(|| work.attempt_ms()),
            parameters,
        };
        let until = groups::group_end(&declared.strategy, shared.total, from);
        let on_host = |host| self.new_task(declared, &scope, &sources, with, work, own, (hosts, host, None));
        let tasks = match items {
            // Words that look as if they differed from task to task do not where there is one task.
            Items::Once if own => NewTasks::Each(vec![on_host(0)]),
            Items::Once => NewTasks::Hosts { count: 1 },
            Items::Hosts if declared.follows() => {
                let free = &self.run.steps[usize::from(step)].free;
                NewTasks::Each(free.iter().copied().map(on_host).collect())
            }
            Items::Hosts if !own => NewTasks::Hosts { count: until - from },
            Items::Hosts => NewTasks::Each((from..until).map(on_host).collect()),
            Items::Values(values) => NewTasks::Each(
                values[from as usize..until as usize]
                    .iter()
                    .map(|(value, host)| {
                        self.new_task(
                            declared,
                            &scope,
                            &sources,
                            with,
                            work,
                            own,
                            (hosts, *host, Some(value)),
                        )
                    })
                    .collect(),
            ),
        };
        let gated = match &tasks {
            NewTasks::Hosts { count } => self.gated(
                declared,
                hosts,
                from,
                (from..from + count).map(|host| (host, None)),
            ),
            NewTasks::Each(tasks) => {
                let held = tasks.iter().map(|task| (task.host, task.item.as_deref()));
                self.gated(declared, hosts, from, held)
            }
        };
        Ok(Opening { shared, tasks, gated })
    }

    /// One call for each of those that are told, so that one is told again without the others.
    fn messages(
        &self,
        declared: &Step,
        to: &[Template],
        severity: Option<&Template>,
        text: &Template,
        from: u32,
    ) -> Result<Opening, String> {
        let mut sources = Sources::default();
        to.iter()
            .chain(severity)
            .chain([text])
            .for_each(|t| sources.add_template(t));
        let scope = self.scope(&sources);
        let render = |what: &str, template: &Template| {
            scope
                .render(template)
                .map_err(|why| format!("expression: {what}: {why}"))
        };
        let severity = match severity {
            Some(template) => render("severity", template)?,
            None => Value::Null,
        };
        let text = render("text", text)?;
        let mut tasks = Vec::new();
        for one in to.iter().skip(from as usize) {
            let to = render("to", one)?;
            let parameters = canonical_json(&json!({"to": to, "severity": severity, "text": text}));
            if parameters.len() > PARAMETERS_BYTES_MAX {
                let size = parameters.len();
                return Err(format!(
                    "parameters: {size} bytes, of at most {PARAMETERS_BYTES_MAX}"
                ));
            }
            tasks.push(NewTask {
                host: 0,
                item: Some(canonical_json(&to).into()),
                parameters: Some(parameters.into()),
                born: None,
            });
        }
        let shared = Shared {
            total: to.len() as u32,
            set: String::new(),
            impact: catalogue::Impact::Observe,
            urgent: true,
            attempt_ms: declared.timeout.attempt_ms.unwrap_or(NOTIFY_MS_DEFAULT),
            parameters: None,
        };
        Ok(Opening {
            shared,
            tasks: NewTasks::Each(tasks),
            gated: None,
        })
    }

    /// The set that a step's hosts are of, and its items.
    fn items<'a>(&self, declared: &'a Step, scope: &Scope<'_>) -> Result<(&'a str, Items), String> {
        let (list, name, distinct, host) = match &declared.over {
            Over::Targets(set) => return Ok((set, Items::Hosts)),
            Over::Once => return Ok(("", Items::Once)),
            Over::ForEach {
                list,
                name,
                distinct,
                host,
            } => (list, name, *distinct, host),
        };
        let values = match scope.eval(list).map_err(|e| format!("expression: {e}"))? {
            Value::Array(values) => values,
            other => {
                return Err(format!(
                    "expression: {}: a list is needed, this is {}",
                    list.0,
                    kind_of(&other)
                ));
            }
        };
        let mut seen = BTreeSet::new();
        let mut items = Vec::with_capacity(values.len());
        for value in values {
            if distinct && !seen.insert(canonical_json(&value)) {
                continue;
            }
            let Some(host) = host else {
                items.push((value, 0));
                continue;
            };
            let hosts = self
                .run
                .targets
                .get(&host.within)
                .ok_or("its target set was not resolved")?;
            let mut child = scope.child();
            child.bind(name, &value);
            let id = child.eval(&host.id).map_err(|e| format!("expression: {e}"))?;
            let at = id
                .as_str()
                .and_then(|id| id.parse::<AgentId>().ok())
                .and_then(|id| hosts.binary_search(&id).ok())
                .ok_or_else(|| format!("host {id} of an item is not in the frozen set {}", host.within))?;
            items.push((value, at as u32));
        }
        let set = host.as_ref().map_or("", |host| host.within.as_str());
        Ok((set, Items::Values(items)))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one call, of what its caller has at hand"
    )]
    fn new_task(
        &self,
        declared: &Step,
        base: &Scope<'_>,
        sources: &Sources<'_>,
        with: &std::collections::BTreeMap<String, Template>,
        work: Work,
        own: bool,
        (hosts, host, item): (&[AgentId], u32, Option<&Value>),
    ) -> NewTask {
        let mut task = NewTask {
            host,
            item: item.map(|item| canonical_json(item).into()),
            parameters: None,
            born: None,
        };
        if !own {
            return task;
        }
        let mut scope = base.child();
        if let Some(agent) = hosts.get(host as usize) {
            self.bind_host(&mut scope, sources, agent, host);
        }
        if let (Some(item), Over::ForEach { name, .. }) = (item, &declared.over) {
            scope.bind(name, item);
        }
        match declared
            .when
            .as_ref()
            .filter(|_| declared.when_per_task)
            .map(|when| scope.test(when))
        {
            Some(Ok(false)) => task.born = Some(Born::Skipped),
            Some(Err(why)) => {
                task.born = Some(Born::Failed(TaskError {
                    code: "expression".into(),
                    message: why.to_string(),
                }));
            }
            Some(Ok(true)) | None => match parameters(&scope, with, work) {
                Ok(text) => task.parameters = Some(text),
                Err(why) => task.born = Some(Born::Failed(why)),
            },
        }
        task
    }

    /// Decides to make these tasks, in pieces that fit a command.
    fn push_tasks(&mut self, step: u16, from: u32, opening: Opening) {
        let run = self.run.id;
        let mut shared = Some(opening.shared).filter(|_| from == 0);
        let gated = opening.gated;
        let mut push = |from: u32, count: u32, tasks: NewTasks| {
            let gated = gated.as_ref().map(|gated| gated.part(from, from + count));
            self.decisions.push(Decision::Open {
                run,
                step,
                shared: shared.take(),
                from,
                tasks,
                gated,
            });
        };
        let tasks = match opening.tasks {
            NewTasks::Hosts { count } => {
                // Without parameters of their own they weigh nothing, but where they wait for people does.
                let ranges = gated.as_ref().map_or(0, |gated| gated.items.len() as u32);
                let piece = count.div_ceil(ranges / HELD_RANGES_MAX + 1).max(1);
                for at in (from..from + count).step_by(piece as usize) {
                    let count = piece.min(from + count - at);
                    push(at, count, NewTasks::Hosts { count });
                }
                return;
            }
            NewTasks::Each(tasks) => tasks,
        };
        let (mut from, mut piece, mut size) = (from, Vec::new(), 0);
        let mut tasks = tasks.into_iter().peekable();
        while let Some(task) = tasks.next() {
            size += task.size_bytes();
            piece.push(task);
            let full = tasks
                .peek()
                .is_none_or(|next| size + next.size_bytes() > COMMAND_BYTES);
            if full {
                let count = piece.len() as u32;
                push(from, count, NewTasks::Each(std::mem::take(&mut piece)));
                from += count;
                size = 0;
            }
        }
    }
}

impl Gated {
    /// Those of some tasks. The problem is told with each part, for the last is the one that stays.
    fn part(&self, from: u32, to: u32) -> Gated {
        let overlapping = self
            .items
            .iter()
            .filter(|&&(first, last)| first < to && last >= from);
        Gated {
            items: overlapping
                .map(|&(first, last)| (first.max(from), last.min(to - 1)))
                .collect(),
            problem: self.problem.clone(),
        }
    }
}

/// Rendered parameters, checked against the catalogue, as JSON text.
pub(super) fn parameters(
    scope: &Scope<'_>,
    with: &std::collections::BTreeMap<String, Template>,
    work: Work,
) -> Result<Arc<str>, TaskError> {
    let error = |code: &str, message: String| TaskError {
        code: code.into(),
        message,
    };
    let value = rendered(scope, with).map_err(|why| error("expression", why))?;
    if let Some(problems) = work.problems(&value) {
        return Err(error("parameters", problems));
    }
    let text = canonical_json(&value);
    if text.len() > PARAMETERS_BYTES_MAX {
        let why = format!("{} bytes, of at most {PARAMETERS_BYTES_MAX}", text.len());
        return Err(error("parameters", why));
    }
    Ok(text.into())
}

fn rendered(scope: &Scope<'_>, all: &std::collections::BTreeMap<String, Template>) -> Result<Value, String> {
    let mut values = Map::new();
    for (name, template) in all {
        let value = scope.render(template).map_err(|why| format!("{name}: {why}"))?;
        values.insert(name.clone(), value);
    }
    Ok(Value::Object(values))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
