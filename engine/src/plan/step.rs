//! One step of a plan: what it does, where, how gravely, who is asked, and what takes it back.

use catalogue::{Impact, RunsOn};
use playbook::canonical::canonical_json;
use playbook::eval::{Scope, as_written};
use playbook::manifest::{Kind, Manifest, Over, Step, Template};
use serde_json::{Map, Value};

use super::Foreseen;
use super::child::worst;
use super::gate::{PlannedGate, of_gate, of_question};
use super::ground::Ground;
use super::hash::set_of;
use crate::id::AgentId;
use crate::state::runs::NOTIFY;

/// Of the parameters of one step, as JSON: longer ones are shown as they were written.
const SHOWN_BYTES_MAX: usize = 8 * 1024;

/// A step, before it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedStep {
    /// Its name.
    pub name: String,
    /// One of `finally`.
    pub is_finally: bool,
    /// The word of the language for what it does.
    pub kind: &'static str,
    /// The action; of a `playbook`, its name. Empty for what only thinks or asks.
    pub action: String,
    /// What it does, at worst; None: it does nothing itself, or (a `playbook`) something that is not in this plan.
    pub impact: Option<Impact>,
    /// Who carries it out; None: nobody needs to.
    pub runs_on: Option<RunsOn>,
    /// The set of its hosts; empty for what runs on none.
    pub set: String,
    /// How many tasks there are at most; None: only the run can tell.
    pub tasks: Option<usize>,
    /// When it, or one of its tasks, is skipped: unless this holds. As it was written; None: never.
    pub when: Option<String>,
    /// An object: values where they are known, `${...}` where only the run knows them.
    pub parameters: Value,
    /// Who must let it go on.
    pub gate: Option<PlannedGate>,
    /// What takes it back.
    pub undo: Undo,
    /// Of a `playbook`: what it starts.
    pub starts: Option<Starts>,
}

/// The run that a step starts, before it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Starts {
    /// Of this playbook.
    pub playbook: String,
    /// As it was written; None: the newest when the step begins.
    pub version: Option<u32>,
    /// The version that would be started as things are; None: there is none.
    pub found: Option<u32>,
    /// The step ends as that run does.
    pub wait: bool,
}

/// What takes a step back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undo {
    /// It changes nothing that would have to be taken back.
    Needless,
    /// The playbook says so, in `compensate`.
    Compensate(String),
    /// The catalogue says so.
    Inverse(String),
    /// What it began is rolled back, as far as that can be.
    Runs,
    /// Nothing does.
    Impossible,
}

impl Undo {
    /// The action.
    pub fn action(&self) -> Option<&str> {
        match self {
            Undo::Compensate(action) | Undo::Inverse(action) => Some(action),
            Undo::Needless | Undo::Runs | Undo::Impossible => None,
        }
    }

    /// The name in the operators' API.
    pub fn as_str(&self) -> &'static str {
        match self {
            Undo::Needless => "needless",
            Undo::Compensate(_) => "compensate",
            Undo::Inverse(_) => "inverse",
            Undo::Runs => "runs",
            Undo::Impossible => "impossible",
        }
    }
}

impl PlannedStep {
    /// What of it is in the plan's hash.
    pub(super) fn foreseen(&self) -> Foreseen {
        // What is not known may do anything.
        let unknown = if self.starts.is_some() {
            Impact::Configure
        } else {
            Impact::Observe
        };
        Foreseen {
            impact: self.impact.unwrap_or(unknown),
            undo: self.undo.action().map(str::to_owned),
        }
    }

    /// It does more than observe, as far as this plan can say.
    pub fn is_grave(&self) -> bool {
        self.starts.is_some() || self.impact.is_some_and(|impact| impact > Impact::Observe)
    }

    /// What people should know before they let it run.
    pub(super) fn warnings(&self, to: &mut Vec<String>) {
        let name = &self.name;
        if let Some(starts) = &self.starts {
            let wait = if starts.wait {
                "and waits for it"
            } else {
                "and does not wait for it"
            };
            let rest = match (starts.found, starts.version) {
                (None, _) => "there is no such version yet, and its tasks fail with no_such_playbook unless it is published before"
                    .to_owned(),
                (Some(found), None) => format!(
                    "version {found} as things are, another if one is published before; its hosts and steps are not in this plan"
                ),
                (Some(_), Some(_)) => "its hosts and steps are not in this plan".to_owned(),
            };
            to.push(format!(
                "step {name} starts the playbook {} {wait}: {rest}",
                self.action
            ));
        }
        if let Some(action) = catalogue::find(&self.action) {
            if !action.built {
                to.push(format!(
                    "step {name}: {} is not built yet, its tasks fail with {}",
                    action.name,
                    catalogue::NOT_IMPLEMENTED
                ));
            }
            if action.opt_in {
                to.push(format!(
                    "step {name}: {} is done only on hosts whose own policy names it",
                    action.name
                ));
            }
        }
        to.extend(self.gate.as_ref().and_then(|gate| gate.warning(name)));
    }
}

/// What a step would do. `hosts`: of its set.
pub(super) fn of(
    manifest: &Manifest,
    number: u16,
    hosts: &[AgentId],
    scope: &Scope<'_>,
    ground: &Ground,
    requester: &str,
) -> PlannedStep {
    let is_finally = usize::from(number) >= manifest.steps.len();
    let declared = manifest
        .step(number)
        .expect("the caller counts the manifest's steps");
    let (impact, undo) = weigh(declared);
    let mut step = PlannedStep {
        name: declared.name.clone(),
        is_finally,
        kind: declared.kind.name(),
        action: String::new(),
        impact,
        runs_on: None,
        set: set_of(declared).unwrap_or_default().to_owned(),
        tasks: None,
        when: declared.when.as_ref().map(as_written),
        parameters: Value::Object(Map::new()),
        gate: None,
        undo,
        starts: None,
    };
    match &declared.kind {
        Kind::Do { action, with } => {
            step.action.clone_from(action);
            step.runs_on = catalogue::find(action).map(|known| known.runs_on);
            step.parameters = shown(with, scope);
            step.tasks = match &declared.over {
                Over::Targets(_) => Some(hosts.len()),
                Over::Once => Some(1),
                Over::ForEach { .. } => None,
            };
            step.gate = declared
                .gate
                .as_ref()
                .zip(impact)
                .map(|(gate, impact)| of_gate(declared, gate, impact, hosts, scope, ground, requester));
        }
        Kind::Notify { to, severity, text } => {
            step.action = NOTIFY.to_owned();
            step.runs_on = Some(RunsOn::Coordinator);
            step.tasks = Some(to.len());
            let mut with = std::collections::BTreeMap::from([
                ("to".to_owned(), Template::List(to.clone())),
                ("text".to_owned(), text.clone()),
            ]);
            if let Some(severity) = severity {
                with.insert("severity".to_owned(), severity.clone());
            }
            step.parameters = shown(&with, scope);
        }
        Kind::Ask {
            roles, expires_ms, ..
        } => {
            step.gate = Some(of_question(roles, *expires_ms, ground));
        }
        Kind::Playbook {
            name,
            version,
            wait,
            with,
            ..
        } => {
            step.action = match version {
                Some(version) => format!("{name} v{version}"),
                None => format!("{name}, the newest version"),
            };
            step.starts = Some(Starts {
                playbook: name.clone(),
                version: *version,
                found: ground
                    .playbook(manifest, name, *version)
                    .map(|found| found.version),
                wait: *wait,
            });
            let worst = ground
                .playbook(manifest, name, *version)
                .map(|found| worst(&found));
            step.impact = worst;
            step.tasks = matches!(declared.over, Over::Once).then_some(1);
            step.parameters = shown(with, scope);
            step.gate = declared.gate.as_ref().map(|gate| {
                let impact = worst.unwrap_or(Impact::Configure);
                of_gate(declared, gate, impact, hosts, scope, ground, requester)
            });
        }
        Kind::Decide { .. } | Kind::Score { .. } | Kind::WaitEvent { .. } => {}
    }
    step
}

/// What a step does at worst and what takes it back, as the catalogue of this build says.
fn weigh(declared: &Step) -> (Option<Impact>, Undo) {
    match &declared.kind {
        Kind::Do { action, .. } => {
            let known = catalogue::find(action);
            // What this build does not know may do anything.
            let impact = known.map_or(Impact::Configure, |known| known.impact);
            let inverse = known.and_then(|known| known.inverse);
            (Some(impact), undo(declared, impact, inverse))
        }
        Kind::Notify { .. } => (Some(Impact::Observe), Undo::Needless),
        Kind::Playbook { .. } => (None, Undo::Runs),
        Kind::Decide { .. } | Kind::Score { .. } | Kind::Ask { .. } | Kind::WaitEvent { .. } => {
            (None, Undo::Needless)
        }
    }
}

impl Foreseen {
    /// What the catalogue of this build says of a step.
    pub fn of(declared: &Step) -> Foreseen {
        let (impact, undo) = weigh(declared);
        Foreseen {
            impact: match declared.kind {
                // It begins what this build cannot look at.
                Kind::Playbook { .. } => Impact::Configure,
                _ => impact.unwrap_or(Impact::Observe),
            },
            undo: undo.action().map(str::to_owned),
        }
    }
}

fn undo(declared: &Step, impact: Impact, inverse: Option<&str>) -> Undo {
    match (&declared.compensate, inverse) {
        (Some(compensate), _) => Undo::Compensate(compensate.action.clone()),
        (None, Some(inverse)) => Undo::Inverse(inverse.to_owned()),
        (None, None) if impact <= Impact::Collect => Undo::Needless,
        (None, None) => Undo::Impossible,
    }
}

/// The parameters as far as they are known.
fn shown(with: &std::collections::BTreeMap<String, Template>, scope: &Scope<'_>) -> Value {
    let preview = |scope: &Scope<'_>| -> Value {
        let all = with
            .iter()
            .map(|(name, template)| (name.clone(), scope.preview(template)));
        Value::Object(all.collect::<Map<_, _>>())
    };
    let known = preview(scope);
    match canonical_json(&known).len() <= SHOWN_BYTES_MAX {
        true => known,
        // In a scope without names everything stands as it was written.
        false => preview(&Scope::new()),
    }
}
