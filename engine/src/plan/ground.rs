//! What a plan is drawn from: the part of the state that it reads, copied, so that nothing waits while it is drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use playbook::manifest::{Kind, Manifest};
use serde_json::{Value, json};

use crate::id::{AgentId, RunId};
use crate::plan::child::{Source, source};
use crate::planner::parsed;
use crate::state::agents::Agent;
use crate::state::claims::Claims;
use crate::state::{Roles, State};

/// The cluster as it was at one index of the log.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Those that can be targets, in the order of their ids.
    pub(super) agents: Vec<Known>,
    /// How many agents there are.
    pub(super) fleet: usize,
    pub(super) roles: Roles,
    /// What active runs have locked (canonical JSON), and which.
    pub(super) held: BTreeMap<String, RunId>,
    /// The places that active runs take: of which playbook, with which key, and which run.
    pub(super) places: Vec<(String, Option<String>, RunId)>,
    /// The published playbooks that the planned one starts, by name and the version that it asks for.
    pub(super) playbooks: BTreeMap<(String, Option<u32>), Source>,
    /// What sets the run off; null: a person does, or another run.
    pub(super) event: Value,
    /// And the group of them.
    pub(super) group: Value,
}

/// An agent, as far as plans look at it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub id: AgentId,
    pub labels: BTreeMap<String, String>,
    pub facts: Arc<str>,
    pub version: String,
    pub online: bool,
}

impl Ground {
    /// Copies it. With `named` (see [`playbook::named_hosts`]) of the agents only those. `but_for`: what these runs claim
    /// is not in the way; a request that is repeated draws the plan of the run again that it has started, and those above
    /// a run are not in its way.
    pub fn of(state: &State, named: Option<&BTreeSet<String>>, but_for: &BTreeSet<RunId>) -> Ground {
        let known = |agent: &Agent| {
            // Who is denied is no target.
            agent.revoked.is_none().then(|| Known {
                id: agent.id.clone(),
                labels: agent.labels.clone(),
                facts: agent.facts.clone(),
                version: agent.version.clone(),
                online: agent.is_online(),
            })
        };
        let agents = match named {
            None => state.agents().filter_map(known).collect(),
            Some(named) => named
                .iter()
                .filter_map(|id| known(state.agent(&id.parse().ok()?)?))
                .collect(),
        };
        let others = || state.active_runs().filter(|run| !but_for.contains(&run.id));
        Ground {
            agents,
            fleet: state.agents_total(),
            roles: state.roles().clone(),
            held: others()
                .flat_map(|run| run.claims.locked.iter().map(|value| (value.clone(), run.id)))
                .collect(),
            places: others()
                .filter(|run| run.manifest().limits.concurrency.is_some())
                .map(|run| (run.manifest().playbook.clone(), run.claims.key.clone(), run.id))
                .collect(),
            playbooks: BTreeMap::new(),
            event: Value::Null,
            group: Value::Null,
        }
    }

    /// The same, for a run that this event sets off, or this group of them.
    pub fn because(mut self, event: Value, group: Value) -> Ground {
        (self.event, self.group) = (event, group);
        self
    }

    /// And the published playbooks that the steps of this one start.
    pub fn with_playbooks(mut self, state: &State, manifest: &Manifest) -> Ground {
        for step in manifest.steps.iter().chain(&manifest.finally) {
            if let Kind::Playbook { name, version, .. } = &step.kind
                && let Some(source) = source(state, None, name, *version)
            {
                self.playbooks.insert((name.clone(), *version), source);
            }
        }
        self
    }

    /// What a step of this playbook would start; None: nothing is published that can be run.
    pub(super) fn playbook(&self, own: &Manifest, name: &str, version: Option<u32>) -> Option<Arc<Manifest>> {
        let published = self.playbooks.get(&(name.to_owned(), version));
        if own.playbook == name
            && (version == Some(own.version) || (version.is_none() && published.is_none()))
        {
            return Some(Arc::new(own.clone()));
        }
        published?.manifest().ok()
    }

    /// Why a run with these claims would be refused as the cluster is.
    pub(super) fn in_the_way(&self, manifest: &Manifest, claims: &Claims) -> Vec<String> {
        let mut all = Vec::new();
        if let Some(limit) = &manifest.limits.concurrency {
            let rivals = self
                .places
                .iter()
                .filter(|(playbook, key, _)| *playbook == manifest.playbook && *key == claims.key);
            let rivals: Vec<_> = rivals.map(|(_, _, run)| run).collect();
            if rivals.len() >= limit.max as usize {
                all.push(format!(
                    "{} runs of the playbook go on, as many as limits.concurrency allows ({} among them): one more is refused",
                    rivals.len(),
                    rivals[0]
                ));
            }
        }
        for (value, run) in claims
            .locked
            .iter()
            .filter_map(|value| Some((value, self.held.get(value)?)))
        {
            all.push(format!(
                "{value} is locked by run {run}: a run of this plan is refused until that one is over"
            ));
        }
        all
    }

    pub(super) fn get(&self, id: &AgentId) -> Option<&Known> {
        let at = self.agents.binary_search_by(|known| known.id.cmp(id)).ok()?;
        self.agents.get(at)
    }

    pub(super) fn labels(&self, id: &AgentId) -> Option<&BTreeMap<String, String>> {
        self.get(id).map(|known| &known.labels)
    }
}

impl Known {
    /// As the conditions of target sets see it. What it says of itself only where that is asked: it is large.
    pub fn value(&self, with_reported: bool) -> Value {
        let mut value = json!({"id": self.id, "online": self.online, "labels": self.labels});
        if with_reported {
            let facts = match parsed(&self.facts) {
                Value::Object(facts) => Value::Object(facts),
                _ => json!({}),
            };
            value["peers"] = facts
                .get("peers")
                .filter(|peers| peers.is_array())
                .cloned()
                .unwrap_or_else(|| json!([]));
            value["facts"] = facts;
            value["version"] = json!(self.version);
        }
        value
    }
}
