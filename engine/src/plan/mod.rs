//! Plans: a manifest with its inputs bound and its targets frozen, and what a run of it would do.
//!
//! [`draw`] makes a plan from a manifest, inputs and a [`Ground`], a copy of what it reads of the state. It evaluates
//! expressions, so it is for the node that is asked, never for `apply`. [`Plan::start`] makes the command that starts
//! exactly that plan; `apply` computes the hash again over what the command carries and what the state then says of
//! the targets, keeps it with the run, and refuses where another one was expected
//! (docs/adr/0026-a-plan-is-named-by-its-hash.md).

pub mod child;
mod claims;
pub mod fired;
pub(crate) mod gate;
mod ground;
pub(crate) mod hash;
mod step;

use std::collections::{BTreeMap, BTreeSet};

use catalogue::{Impact, RunsOn};
use playbook::Problems;
use playbook::canonical::canonical_json;
use playbook::eval::Scope;
use playbook::manifest::{Kind, Manifest, TargetSource};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::command::StartRun;
use crate::id::{AgentId, Digest, RunId};
use crate::limits::CRITICAL_LABEL;
use crate::state::claims::Claims;
use hash::{Frozen, set_of};

use claims::claims_of;
pub use gate::PlannedGate;
pub use ground::Ground;
pub use step::{PlannedStep, Undo};

/// Of the hosts that a warning is about, so many are named.
const NAMED_MAX: usize = 10;

/// What a run of a playbook would do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Its name: people approve it, and a run that would differ from it does not start.
    pub hash: Digest,
    /// What it follows.
    pub manifest: Manifest,
    /// SHA-256 of it.
    pub manifest_hash: Digest,
    /// Bound and checked: an object.
    pub inputs: Value,
    /// The cluster's named constants.
    pub config: Value,
    /// Frozen, each sorted.
    pub targets: BTreeMap<String, Vec<AgentId>>,
    /// Every host of the targets once, in the order of their ids.
    pub hosts: Vec<PlannedHost>,
    /// How many agents there are.
    pub fleet: usize,
    /// By number.
    pub steps: Vec<PlannedStep>,
    /// What people should know besides.
    pub warnings: Vec<String>,
    /// What the run would claim while it is active.
    pub claims: Claims,
    /// Of the inputs as they were asked for: see [`StartRun::asked`].
    asked: Option<Digest>,
    /// What of its steps is in the hash, by number.
    foreseen: Vec<Foreseen>,
    event: Value,
    group: Value,
}

/// A host of a plan, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedHost {
    /// Which.
    pub id: AgentId,
    /// It has a session.
    pub is_online: bool,
    /// Its labels say that two people must agree to what is done to it.
    pub is_critical: bool,
    /// A step that does more than observe can run on it.
    pub is_touched: bool,
}

/// What the proposer of a run knows of it that `apply` does not look up itself: catalogues differ between builds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foretold {
    /// By number.
    pub steps: Vec<Foreseen>,
    /// The hash of the plan that was shown and confirmed: another one is refused. None: whatever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Digest>,
}

/// What the catalogue says of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreseen {
    /// What it does, at worst.
    pub impact: Impact,
    /// The action that takes it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<String>,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A target set does not hold: all problems.
    #[error(transparent)]
    Targets(#[from] Problems),
    /// A set that decides where something above `collect` is done goes by what hosts say of themselves (R23).
    #[error(
        "the target set {set} selects by what each host reports of itself (agent.facts, peers, version), and step {step} ({action}, {impact}) acts on it: \
         a host could choose to be, or not to be, in it"
    )]
    FactsDecide {
        /// The target set.
        set: String,
        /// A step that uses it.
        step: String,
        /// What the step does.
        action: String,
        /// And how grave that is.
        impact: &'static str,
    },
    /// What limits other runs cannot be said.
    #[error("limits.{what}: {problem}")]
    Limits {
        /// Which part of it.
        what: &'static str,
        /// Why not.
        problem: String,
    },
    /// Other runs hold everything that this one would lock.
    #[error("all that limits.lock names is locked by other runs, such as {run}: nothing is left to do")]
    AllHeld {
        /// One of them.
        run: String,
    },
}

/// What a run with these inputs would do, as the cluster is. Linear in the fleet where a set selects, in the targets
/// otherwise. `requester`: who would start it.
///
/// # Errors
/// Why there can be no such run.
pub fn draw(
    manifest: Manifest,
    mut inputs: Value,
    config: Value,
    ground: &Ground,
    requester: &str,
) -> Result<Plan, PlanError> {
    no_host_chooses(&manifest)?;
    let asked = claims::asked(&manifest, &inputs);
    let mut claims = claims_of(&manifest, &inputs, &config, ground)?;
    let left_out = claims::drop_held(&manifest, &mut inputs, &mut claims, ground)?;
    let mut targets = resolve(&manifest, &inputs, &config, ground)?;
    if !left_out.is_empty() {
        for hosts in targets.values_mut() {
            hosts.retain(|id| !left_out.contains(&canonical_json(&json!(id))));
        }
    }
    let mut scope = Scope::new();
    scope.bind("inputs", &inputs);
    scope.bind("config", &config);
    scope.bind("event", &ground.event);
    scope.bind("group", &ground.group);
    let hosts_of = |number: u16| {
        let set = manifest.step(number).and_then(set_of);
        set.and_then(|set| targets.get(set))
            .map_or(&[][..], Vec::as_slice)
    };
    let steps: Vec<_> = (0..manifest.step_count())
        .map(|number| step::of(&manifest, number, hosts_of(number), &scope, ground, requester))
        .collect();
    let manifest_hash: Digest = manifest.sha256().parse().expect("a SHA-256 in hex");
    let foreseen: Vec<_> = steps.iter().map(PlannedStep::foreseen).collect();
    let frozen = Frozen {
        manifest: &manifest,
        manifest_hash,
        inputs: &inputs,
        config: &config,
        targets: &targets,
        steps: &foreseen,
        event: &ground.event,
        group: &ground.group,
    };
    let hash = frozen.hash(|id| ground.labels(id), ground.fleet);
    let hosts = hosts(&targets, &steps, ground);
    let mut warnings = warnings(&hosts, &steps);
    for value in &left_out {
        let run = &ground.held[value];
        warnings.push(format!("{value} is left out: run {run} has locked it"));
    }
    warnings.extend(ground.in_the_way(&manifest, &claims));
    Ok(Plan {
        hash,
        manifest_hash,
        hosts,
        fleet: ground.fleet,
        steps,
        warnings,
        manifest,
        inputs,
        config,
        targets,
        claims,
        asked,
        foreseen,
        event: ground.event.clone(),
        group: ground.group.clone(),
    })
}

impl Plan {
    /// What it does beyond observing, each once, for people.
    pub fn above_observe(&self) -> Vec<String> {
        let mut all = Vec::new();
        for step in self.steps.iter().filter(|step| step.is_grave()) {
            let impact = step.impact.map_or("unknown", Impact::as_str);
            let what = format!("{}: {impact}", step.action);
            if !all.contains(&what) {
                all.push(what);
            }
        }
        all
    }

    /// The command that starts it; `expected`: the hash of the plan that people saw.
    pub fn start(self, run: RunId, expected: Option<Digest>) -> StartRun {
        StartRun {
            run,
            manifest_hash: self.manifest_hash,
            foretold: Some(Foretold {
                steps: self.foreseen,
                expected,
            }),
            event: self.event,
            group: self.group,
            fired: None,
            manifest: self.manifest,
            inputs: self.inputs,
            targets: self.targets,
            config: self.config,
            claims: self.claims,
            asked: self.asked,
        }
    }
}

impl Foretold {
    /// What the catalogue of this build says of a manifest's steps; `expected`: the hash of the plan that people saw.
    pub fn of(manifest: &Manifest, expected: Option<Digest>) -> Foretold {
        let declared = manifest.steps.iter().chain(&manifest.finally);
        Foretold {
            steps: declared.map(Foreseen::of).collect(),
            expected,
        }
    }
}

/// Its labels say that two people must agree to what is done to it.
pub(crate) fn is_critical(labels: &BTreeMap<String, String>) -> bool {
    let (name, value) = CRITICAL_LABEL;
    labels.get(name).is_some_and(|label| label == value)
}

/// No set over which something above `collect` is done selects by what hosts say of themselves.
fn no_host_chooses(manifest: &Manifest) -> Result<(), PlanError> {
    for step in manifest.steps.iter().chain(&manifest.finally) {
        let (Kind::Do { action, .. }, Some(set)) = (&step.kind, set_of(step)) else {
            continue;
        };
        let impact = catalogue::find(action).map_or(Impact::Configure, |action| action.impact);
        let Some(TargetSource::Select(select)) = manifest.targets.get(set).map(|set| &set.source) else {
            continue;
        };
        if impact > Impact::Collect && playbook::reads_facts(select) {
            return Err(PlanError::FactsDecide {
                set: set.to_owned(),
                step: step.name.clone(),
                action: action.clone(),
                impact: impact.as_str(),
            });
        }
    }
    Ok(())
}

fn resolve(
    manifest: &Manifest,
    inputs: &Value,
    config: &Value,
    ground: &Ground,
) -> Result<BTreeMap<String, Vec<AgentId>>, Problems> {
    let selects: Vec<_> = manifest
        .targets
        .values()
        .filter_map(|set| match &set.source {
            TargetSource::Select(condition) => Some(condition),
            TargetSource::Hosts(_) => None,
        })
        .collect();
    let with_reported = selects.iter().any(|condition| playbook::reads_facts(condition));
    let agents: Vec<Value> = match selects.is_empty() {
        true => ground
            .agents
            .iter()
            .map(|known| json!({"id": known.id}))
            .collect(),
        false => ground
            .agents
            .iter()
            .map(|known| known.value(with_reported))
            .collect(),
    };
    let sets = playbook::resolve_targets(manifest, inputs, config, &agents)?;
    let ids = |hosts: Vec<String>| -> Vec<AgentId> {
        hosts
            .iter()
            .map(|id| id.parse().expect("only ids of agents are resolved"))
            .collect()
    };
    Ok(sets.into_iter().map(|(name, hosts)| (name, ids(hosts))).collect())
}

fn hosts(
    targets: &BTreeMap<String, Vec<AgentId>>,
    steps: &[PlannedStep],
    ground: &Ground,
) -> Vec<PlannedHost> {
    let grave: BTreeSet<&str> = steps
        .iter()
        .filter(|step| step.is_grave() && step.runs_on != Some(RunsOn::Coordinator))
        .map(|step| step.set.as_str())
        .collect();
    let mut all: BTreeMap<&AgentId, bool> = BTreeMap::new();
    for (name, hosts) in targets {
        let touched = grave.contains(name.as_str());
        for host in hosts {
            *all.entry(host).or_default() |= touched;
        }
    }
    let host = |(id, is_touched): (&AgentId, bool)| {
        let known = ground.get(id);
        PlannedHost {
            id: id.clone(),
            is_online: known.is_some_and(|known| known.online),
            is_critical: known.is_some_and(|known| is_critical(&known.labels)),
            is_touched,
        }
    };
    all.into_iter().map(host).collect()
}

fn warnings(hosts: &[PlannedHost], steps: &[PlannedStep]) -> Vec<String> {
    let mut all = Vec::new();
    let offline: Vec<_> = hosts.iter().filter(|host| !host.is_online).collect();
    if !offline.is_empty() {
        let named: Vec<_> = offline
            .iter()
            .take(NAMED_MAX)
            .map(|host| host.id.as_str())
            .collect();
        let more = if offline.len() > NAMED_MAX { ", ..." } else { "" };
        all.push(format!(
            "{} of the targets are offline: {}{more}",
            offline.len(),
            named.join(", ")
        ));
    }
    steps.iter().for_each(|step| step.warnings(&mut all));
    all
}

#[cfg(test)]
mod tests;
