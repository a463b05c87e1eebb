//! What undoes what a run did: which steps, in which order, with which parameters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catalogue::{Action, RunsOn};
use playbook::canonical::canonical_json;
use playbook::manifest::{Compensate, Kind, OnFailure, Over, Step, Strategy, Template, Timeout};
use serde_json::{Map, Value, json};

use super::decision::{Born, Decision, NewTask, NewTasks, NewUndo};
use super::open::{Opening, parameters};
use super::run::Plan;
use super::scope::{Sources, parsed};
use super::work::Work;
use crate::command::TaskError;
use crate::id::AgentId;
use crate::limits::{CHILD_MS_DEFAULT, RUN_STEPS_MAX};
use crate::state::steps::Shared;
use crate::state::undo::{Did, has_done};
use crate::state::{Run, State, StepStatus};

/// What undoes a step that began runs: the rollback of each of them.
pub const ROLLBACK: &str = "run rollback";

/// What would undo one step, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct UndoView {
    /// The name of the step that is undone.
    pub step: String,
    /// By which action; None: nothing undoes it.
    pub action: Option<String>,
    /// Of whom somebody must agree first, to some of it; empty: nobody is asked.
    pub roles: Vec<String>,
    /// In the order of the items.
    pub tasks: Vec<UndoTask>,
}

/// One task of it.
#[derive(Clone, Debug, PartialEq)]
pub struct UndoTask {
    /// The item of the task that is undone.
    pub item: u32,
    /// The host on which that was; None: on the coordinator.
    pub agent: Option<AgentId>,
    /// The JSON text of its parameters, or why they cannot be made (or that nothing undoes it).
    pub parameters: Result<String, TaskError>,
    /// It is not known whether what it undoes was done.
    pub unknown: bool,
}

/// What a rollback of this run would do if no task did anything any more, in its order; then what was changed and
/// nothing undoes.
pub fn undo_plan(state: &State, run: &Run) -> Vec<UndoView> {
    let plan = Plan::new(state, run);
    let mut views = Vec::new();
    for of in plan.newest_first() {
        let items = run.to_undo(of);
        if run.begins_run(of) {
            views.extend((!items.is_empty()).then(|| runs_view(state, run, of, &items)));
            continue;
        }
        let with = plan.undone_by(of);
        if items.is_empty() || (with.is_none() && !run.has_changed_something(of)) {
            continue;
        }
        let parameters = match &with {
            Some(with) => plan.all_parameters(of, &items, with),
            None => items.iter().map(|_| Err(irreversible(run, of))).collect(),
        };
        let declared = run.declared(of);
        let gate = declared.gate.as_ref().filter(|_| with.is_some());
        let tasks = items.into_iter().zip(parameters);
        views.push(UndoView {
            step: declared.name.clone(),
            action: with.map(|with| with.action),
            roles: gate.map(|gate| gate.roles.clone()).unwrap_or_default(),
            tasks: tasks
                .map(|(item, parameters)| UndoTask {
                    item,
                    agent: run.agent_of(of, item).cloned(),
                    parameters: parameters.map(|text| text.to_string()),
                    unknown: has_done(run.task(of, item)) == Did::Perhaps,
                })
                .collect(),
        });
    }
    views.sort_by_key(|view| view.action.is_none());
    views
}

/// What undoes a step that began runs.
fn runs_view(state: &State, run: &Run, of: u16, items: &[u32]) -> UndoView {
    let declared = run.declared(of);
    let task = |&item: &u32| {
        let runs: Vec<_> = state
            .children_of_task(run.key(of, item))
            .map(|child| child.id.to_string())
            .collect();
        UndoTask {
            item,
            agent: None,
            parameters: Ok(canonical_json(&json!({"runs": runs}))),
            unknown: false,
        }
    };
    UndoView {
        step: declared.name.clone(),
        action: Some(ROLLBACK.to_owned()),
        roles: declared
            .gate
            .as_ref()
            .map(|gate| gate.roles.clone())
            .unwrap_or_default(),
        tasks: items.iter().map(task).collect(),
    }
}

/// Why a step stays as it is.
fn irreversible(run: &Run, of: u16) -> TaskError {
    let (_, action) = run.kind(of);
    TaskError {
        code: "irreversible".into(),
        message: format!(
            "nothing undoes {}: the catalogue has no inverse, and the step no `compensate`",
            action.unwrap_or_default()
        ),
    }
}

impl Plan<'_> {
    /// Something of the run may have to be undone, or told.
    pub(super) fn may_undo(&self) -> bool {
        let mut steps = self.run.manifest().steps.iter();
        self.run.undo.wanted || steps.any(|step| matches!(step.on_failure, OnFailure::Then { .. }))
    }

    /// Every step has ended. True: what is undone, and who is told, before `finally` was decided.
    pub(super) fn plan_undo(&mut self) -> bool {
        let wanted = self.run.undo.wanted;
        let mut named = BTreeSet::new();
        let mut steps = Vec::new();
        // People are told first: what undoes may have to wait for hosts.
        for step in self.all_steps() {
            if !matches!(self.status(step), StepStatus::Failed | StepStatus::Unknown) {
                continue;
            }
            if let OnFailure::Then { compensate, notify } = &self.run.declared(step).on_failure {
                named.extend(compensate.iter().copied());
                steps.extend(self.telling_of(step, notify));
            }
        }
        // A failure undoes a step once; what is done, or known, later is undone when people ask for it.
        let again = |of: &u16| {
            let mut undo = self.run.undo.steps.iter();
            undo.any(|undo| undo.of == *of && undo.undoes())
        };
        for of in self.newest_first() {
            if wanted || (named.contains(&of) && !again(&of)) {
                steps.extend(self.undo_of(of));
            }
        }
        steps.truncate(RUN_STEPS_MAX.saturating_sub(self.run.steps.len()));
        if steps.is_empty() && !wanted {
            return false;
        }
        self.decisions.push(Decision::Undo {
            run: self.run.id,
            steps,
        });
        true
    }

    fn all_steps(&self) -> std::ops::Range<u16> {
        0..self.run.manifest().steps.len() as u16
    }

    /// The steps, the last to end first. One that has not ended is the last of all.
    fn newest_first(&self) -> Vec<u16> {
        let mut all: Vec<u16> = self.all_steps().collect();
        all.sort_by_key(|&of| {
            let ended_at = self.run.steps[usize::from(of)].ended_at;
            std::cmp::Reverse((ended_at.is_none(), ended_at, of))
        });
        all
    }

    /// What undoes this step; None: nothing does, or nothing is left to undo.
    fn undo_of(&self, of: u16) -> Option<NewUndo> {
        if self.run.to_undo(of).is_empty() {
            return None;
        }
        let declared = self.run.declared(of);
        let kind = match &declared.kind {
            Kind::Playbook { .. } => declared.kind.clone(),
            _ => Kind::Do {
                action: self.undone_by(of)?.action,
                // Rendered from the step itself when its tasks are made.
                with: BTreeMap::new(),
            },
        };
        Some(NewUndo {
            of,
            declared: Step {
                strategy: Strategy {
                    max_parallel: declared.strategy.max_parallel,
                    ..Strategy::default()
                },
                timeout: Timeout {
                    queue_ms: declared.timeout.queue_ms,
                    ..Timeout::default()
                },
                // What people had to agree to is not undone without them.
                gate: declared.gate.clone(),
                ..plain(self.name("undo", of), kind)
            },
        })
    }

    /// Who is told that this step failed; None: nobody, or they know.
    fn telling_of(&self, step: u16, notify: &[Template]) -> Option<NewUndo> {
        // It may have failed before, and was tried again.
        let first = self.run.manifest().step_count();
        let ended_at = self.run.steps[usize::from(step)].ended_at;
        let told = (first..).zip(&self.run.undo.steps).any(|(number, undo)| {
            let told_at = self.run.steps[usize::from(number)].started_at;
            undo.of == step && !undo.undoes() && (told_at.is_none() || told_at >= ended_at)
        });
        if notify.is_empty() || told {
            return None;
        }
        let run = self.run;
        let text = format!(
            "run {} of {}: step {} failed: {}",
            run.id,
            run.manifest().playbook,
            run.declared(step).name,
            run.steps[usize::from(step)].reason
        );
        let kind = Kind::Notify {
            to: notify.to_vec(),
            severity: None,
            text: Template::Literal(text.into()),
        };
        Some(NewUndo {
            of: step,
            declared: plain(self.name("notify", step), kind),
        })
    }

    /// A name that no step of the run has.
    fn name(&self, what: &str, of: u16) -> String {
        let name = format!("{what}-{}", self.run.declared(of).name);
        let free = |name: &String| self.run.step_number(name).is_none();
        let mut others = (2..).map(|n| format!("{name}-{n}"));
        match free(&name) {
            true => name,
            false => others.find(free).unwrap_or(name),
        }
    }

    /// The step's `compensate`, or the inverse of its action.
    fn undone_by(&self, of: u16) -> Option<Compensate> {
        let declared = self.run.declared(of);
        let Kind::Do { action, .. } = &declared.kind else {
            return None;
        };
        declared.compensate.clone().or_else(|| {
            let inverse = catalogue::find(action)?.inverse?;
            Some(Compensate {
                action: inverse.to_owned(),
                with: BTreeMap::new(),
            })
        })
    }

    /// The tasks of a step that undoes another, from this one on.
    pub(super) fn undo_opening(&self, step: u16, of: u16, from: u32) -> Result<Opening, String> {
        if self.run.undoes_runs(step) {
            return self.undo_runs(step, of, from);
        }
        let (Some(undo), Some(with)) = (self.run.undo_step(step), self.undone_by(of)) else {
            return Err("nothing undoes the step any more".into());
        };
        let action = catalogue::find(&with.action)
            .ok_or_else(|| format!("action: the leader has no action {}", with.action))?;
        let undone = self.run.steps[usize::from(of)].shared.as_ref();
        let undone = undone.ok_or("the step had no tasks")?;
        let called = action.runs_on == RunsOn::Coordinator;
        if undone.is_call() && !called {
            return Err(format!(
                "action: {} runs on a host, and what it undoes ran on none",
                action.name
            ));
        }
        let items: Vec<u32> = undo.each_item().skip(from as usize).collect();
        let shared = Shared {
            total: from + items.len() as u32,
            set: if called { String::new() } else { undone.set.clone() },
            impact: action.impact,
            urgent: action.urgent,
            attempt_ms: Work::Action(action).attempt_ms(),
            parameters: None,
        };
        let parameters = self.all_parameters(of, &items, &with);
        let hosts = self.run.targets.get(&undone.set).map_or(&[][..], |set| &set[..]);
        let held: Vec<_> = items
            .iter()
            .map(|&item| {
                let task = self.run.task(of, item);
                (task.host, task.item.as_deref())
            })
            .collect();
        let gated = self.gated(self.run.declared(of), hosts, from, held.into_iter());
        let tasks = items.iter().zip(parameters).map(|(&item, parameters)| {
            let undone = self.run.task(of, item);
            // Of what is called about a host, its id is what it is for.
            let host = self.run.agent_of(of, item).filter(|_| called);
            let host = host.map(|host| Arc::from(canonical_json(&host.to_string().into())));
            let (parameters, born) = match parameters {
                Ok(parameters) => (Some(parameters), None),
                Err(why) => (None, Some(Born::Failed(why))),
            };
            NewTask {
                host: if called { 0 } else { undone.host },
                item: undone.item.clone().or(host),
                parameters,
                born,
            }
        });
        Ok(Opening {
            shared,
            tasks: NewTasks::Each(tasks.collect()),
            gated,
        })
    }

    /// The tasks of a step that has runs rolled back, from this one on.
    fn undo_runs(&self, step: u16, of: u16, from: u32) -> Result<Opening, String> {
        let undo = self.run.undo_step(step).ok_or("it undoes nothing")?;
        let undone = self.run.steps[usize::from(of)].shared.as_ref();
        let undone = undone.ok_or("the step had no tasks")?;
        let items: Vec<u32> = undo.each_item().skip(from as usize).collect();
        let tasks: Vec<_> = items
            .iter()
            .map(|&item| NewTask {
                host: 0,
                item: self.run.task(of, item).item.clone(),
                parameters: None,
                born: None,
            })
            .collect();
        let held = tasks.iter().map(|task| (task.host, task.item.as_deref()));
        let gated = self.gated(self.run.declared(of), &[], from, held);
        Ok(Opening {
            shared: Shared {
                total: from + items.len() as u32,
                impact: undone.impact,
                set: String::new(),
                urgent: false,
                attempt_ms: CHILD_MS_DEFAULT,
                parameters: None,
            },
            tasks: NewTasks::Each(tasks),
            gated,
        })
    }

    /// With what each of these tasks of a step is undone.
    fn all_parameters(&self, of: u16, items: &[u32], with: &Compensate) -> Vec<Result<Arc<str>, TaskError>> {
        let Some(action) = catalogue::find(&with.action) else {
            let why = TaskError {
                code: "action".into(),
                message: format!("the leader has no action {}", with.action),
            };
            return items.iter().map(|_| Err(why.clone())).collect();
        };
        let declared = self.run.declared(of);
        if declared.compensate.is_none() {
            let of = items
                .iter()
                .map(|&item| self.inverse_parameters(of, item, action));
            return of.collect();
        }
        let mut sources = Sources::default();
        with.with.values().for_each(|t| sources.add_template(t));
        let base = self.scope(&sources);
        let of_item = |&item: &u32| {
            let undone = self.run.task(of, item);
            let mut scope = base.child();
            if let Some(agent) = self.run.agent_of(of, item) {
                self.bind_host(&mut scope, &sources, agent, undone.host);
            }
            if let (Over::ForEach { name, .. }, Some(value)) = (&declared.over, &undone.item) {
                scope.bind(name, &parsed(value));
            }
            let output = undone.output.as_ref().map_or(Value::Null, |text| parsed(text));
            scope.bind("output", &output);
            parameters(&scope, &with.with, Work::Action(action))
        };
        items.iter().map(of_item).collect()
    }

    /// The parameters of what was done, as far as its inverse has them.
    fn inverse_parameters(&self, of: u16, item: u32, inverse: &Action) -> Result<Arc<str>, TaskError> {
        let undone = self.run.task(of, item);
        let shared = self.run.steps[usize::from(of)].shared.as_ref();
        let given = undone
            .parameters
            .as_ref()
            .or(shared.and_then(|shared| shared.parameters.as_ref()));
        let Value::Object(given) = given.map_or(Value::Null, |text| parsed(text)) else {
            return Ok("{}".into());
        };
        let known = &inverse.parameters_schema()["properties"];
        let kept: Map<String, Value> = given
            .into_iter()
            .filter(|(name, _)| known.get(name).is_some())
            .collect();
        let kept = Value::Object(kept);
        let problems = inverse.check_parameters(&kept);
        if problems.is_empty() {
            return Ok(canonical_json(&kept).into());
        }
        Err(TaskError {
            code: "parameters".into(),
            message: format!("{}: {}", inverse.name, problems.join("; ")),
        })
    }
}

/// A step that fails nothing.
fn plain(name: String, kind: Kind) -> Step {
    Step {
        on_failure: OnFailure::Continue,
        ..Step::plain(name, kind)
    }
}
