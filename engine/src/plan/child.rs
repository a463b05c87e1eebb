//! The run that a `playbook` step asks for: which version, with which inputs, on which hosts; or why there is none.
//!
//! [`Asked::of`] copies what is asked for out of the state, [`Asked::bind`] compiles and binds it, [`Bound::draw`] draws
//! its plan. They are apart so that the state is not held while a playbook is compiled or a plan drawn; [`child`] does all
//! of it at once. Whatever goes wrong is how the attempt ends, with a code that playbooks can go by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catalogue::Impact;
use playbook::manifest::{Kind, Manifest, TargetSource};
use serde_json::Value;

use super::{Foreseen, Ground, PlanError, draw};
use crate::command::{CallEnded, Outcome, OutcomeStatus, StartChild, TaskError};
use crate::id::{AgentId, AttemptKey, RunId};
use crate::plan::hash::set_of;
use crate::state::assignments::assignment_of;
use crate::state::life::error;
use crate::state::{Run, State};

/// No such playbook, or version of it, is published.
pub const NO_SUCH_PLAYBOOK: &str = "no_such_playbook";
/// The run would be nested deeper than `max_depth` lets it be.
pub const TOO_DEEP: &str = "too_deep";
/// The playbook does not take these inputs.
pub const INPUTS: &str = "inputs";
/// Its target sets do not hold.
pub const TARGETS: &str = "targets";
/// The cluster does not start it: it cannot be run, or others are in its way.
pub const REFUSED: &str = "refused";

/// Where a playbook is found that a step names.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// It is compiled already.
    Manifest(Arc<Manifest>),
    /// As it was published.
    Text(Arc<str>),
}

/// What an attempt asks for, copied.
#[derive(Clone, Debug)]
pub struct Asked {
    attempt: AttemptKey,
    source: Source,
    given: Arc<str>,
    config: Arc<Value>,
    requester: String,
    /// The hosts of the run that asks: where results decide, its run acts on no others.
    within: Option<BTreeSet<AgentId>>,
}

/// That, compiled and with its inputs bound.
#[derive(Debug)]
pub struct Bound {
    asked: Asked,
    manifest: Manifest,
    inputs: Value,
}

impl Asked {
    /// What this attempt asks for; None: nothing any more.
    ///
    /// # Errors
    /// How the attempt ends that asks for something which there is not.
    pub fn of(state: &State, attempt: AttemptKey) -> Option<Result<Asked, TaskError>> {
        let run = state.wants_child(&attempt).ok()?;
        let Kind::Playbook {
            name,
            version,
            depth_max,
            ..
        } = &run.declared(attempt.task.step).kind
        else {
            return None;
        };
        let Some(parent) = run.parent_of_child(&attempt, *depth_max) else {
            let depth = run.parent.map_or(0, |parent| parent.depth);
            return Some(Err(error(
                TOO_DEEP,
                format!(
                    "{depth} runs are above one another here already, and `max_depth` of a step above, or of this one, allows no more"
                ),
            )));
        };
        let Some(source) = source(state, Some(run), name, *version) else {
            let which = version.map_or("no version of it is published".to_owned(), |version| {
                format!("its version {version} is not published")
            });
            return Some(Err(error(
                NO_SUCH_PLAYBOOK,
                format!("there is no playbook {name}: {which}; `cordon playbook publish` does that"),
            )));
        };
        let hosts = || run.targets.values().flatten().cloned().collect();
        Some(Ok(Asked {
            attempt,
            source,
            given: assignment_of(run, attempt.task, run.task(attempt.task.step, attempt.task.item))?
                .parameters,
            config: run.config.clone(),
            requester: run.requester.clone(),
            within: parent.from_results.then(hosts),
        }))
    }

    /// Compiles the playbook, and binds its inputs. Takes as long as the text is large.
    ///
    /// # Errors
    /// How the attempt ends, if it does not compile any more, or does not take the inputs.
    pub fn bind(self) -> Result<Bound, TaskError> {
        let manifest = self
            .source
            .manifest()
            .map_err(|problems| error(REFUSED, problems))?;
        let given: Value = serde_json::from_str(&self.given).map_err(|why| error(INPUTS, why.to_string()))?;
        let inputs = playbook::bind_inputs(&manifest, &given)
            .map_err(|problems| error(INPUTS, problems.in_short()))?;
        Ok(Bound {
            asked: self,
            manifest: (*manifest).clone(),
            inputs,
        })
    }
}

impl Bound {
    /// The part of the cluster that it is drawn on.
    pub fn ground(&self, state: &State) -> Ground {
        let named = playbook::named_hosts(&self.manifest, &self.inputs, &self.asked.config);
        let line = state.line_of(self.asked.attempt.task.run);
        Ground::of(state, named.as_ref(), &line).with_playbooks(state, &self.manifest)
    }

    /// Draws its plan: the command that starts it.
    ///
    /// # Errors
    /// How the attempt ends, if there can be no such run.
    pub fn draw(self, ground: &Ground, run: RunId) -> Result<StartChild, TaskError> {
        let Asked {
            attempt,
            config,
            requester,
            within,
            ..
        } = self.asked;
        let plan = draw(self.manifest, self.inputs, (*config).clone(), ground, &requester).map_err(
            |why| match why {
                PlanError::Targets(problems) => error(TARGETS, problems.in_short()),
                PlanError::FactsDecide { .. } => error(TARGETS, why.to_string()),
                PlanError::Limits { .. } | PlanError::AllHeld { .. } => error(REFUSED, why.to_string()),
            },
        )?;
        if let Some(within) = within {
            stays_within(&plan.manifest, &plan.targets, &within)?;
        }
        Ok(StartChild {
            attempt,
            start: plan.start(run, None),
        })
    }
}

impl Source {
    /// The playbook, compiled.
    ///
    /// # Errors
    /// Why it does not compile.
    pub fn manifest(&self) -> Result<Arc<Manifest>, String> {
        match self {
            Source::Manifest(manifest) => Ok(manifest.clone()),
            Source::Text(text) => match playbook::compile(text) {
                Ok(compiled) => Ok(Arc::new(compiled.manifest)),
                Err(problems) => Err(problems.in_short()),
            },
        }
    }
}

/// The command that starts what this attempt asks for, as the state is; None: it asks for nothing any more.
///
/// # Errors
/// How the attempt ends instead.
pub fn child(state: &State, attempt: AttemptKey, run: RunId) -> Option<Result<StartChild, TaskError>> {
    let bound = match Asked::of(state, attempt)?.and_then(Asked::bind) {
        Ok(bound) => bound,
        Err(why) => return Some(Err(why)),
    };
    let ground = bound.ground(state);
    Some(bound.draw(&ground, run))
}

/// The end of an attempt for which no run is begun.
pub fn not_begun(attempt: AttemptKey, why: TaskError) -> CallEnded {
    CallEnded {
        key: attempt,
        outcome: Outcome {
            status: OutcomeStatus::Failed,
            output: Value::Null,
            error: Some(why),
        },
    }
}

/// A playbook that a step of a run names: its own is the one that it follows, published or not.
pub(crate) fn source(state: &State, run: Option<&Run>, name: &str, version: Option<u32>) -> Option<Source> {
    let published = state.playbooks().get(name, version);
    let own = run.map(Run::manifest).filter(|own| own.playbook == name);
    if let Some(own) =
        own.filter(|own| version == Some(own.version) || (version.is_none() && published.is_none()))
    {
        return Some(Source::Manifest(own.clone()));
    }
    let published = published?;
    Some(match state.manifest(&published.manifest_hash) {
        Some(manifest) => Source::Manifest(manifest.clone()),
        None => Source::Text(published.text.clone()),
    })
}

/// What a playbook that a step names does at worst. What is not known may do anything.
pub(crate) fn impact_of(state: &State, run: &Run, name: &str, version: Option<u32>) -> Impact {
    let manifest = source(state, Some(run), name, version).and_then(|source| source.manifest().ok());
    manifest.map_or(Impact::Configure, |manifest| worst(&manifest))
}

/// What a playbook does at worst; one that begins others may do anything.
pub(crate) fn worst(manifest: &Manifest) -> Impact {
    let steps = manifest.steps.iter().chain(&manifest.finally);
    steps
        .map(|step| Foreseen::of(step).impact)
        .max()
        .unwrap_or(Impact::Observe)
}

/// Where hosts' answers decide the inputs of a run, it acts above `collect` only on hosts that the run above it was
/// planned, and shown, with: what a host says decides nothing else (R23, R27).
fn stays_within(
    manifest: &Manifest,
    targets: &BTreeMap<String, Vec<AgentId>>,
    within: &BTreeSet<AgentId>,
) -> Result<(), TaskError> {
    for step in manifest.steps.iter().chain(&manifest.finally) {
        let Some(set) = set_of(step).filter(|_| Foreseen::of(step).impact > Impact::Collect) else {
            continue;
        };
        // A set that does not read the inputs is what it is whoever asks.
        let by_inputs = manifest.targets.get(set).is_none_or(|set| match &set.source {
            TargetSource::Select(condition) => condition.0.contains("inputs"),
            TargetSource::Hosts(_) => true,
        });
        let outside = targets
            .get(set)
            .into_iter()
            .flatten()
            .find(|host| !within.contains(host));
        if let Some(host) = outside.filter(|_| by_inputs) {
            return Err(error(
                TARGETS,
                format!(
                    "results decide the hosts of the set {set}, on which step {} acts, and {host} is in no target set of the run above: \
                     name a set there that holds every host on which it may act",
                    step.name
                ),
            ));
        }
    }
    Ok(())
}
