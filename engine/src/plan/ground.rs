//! What a plan is drawn from: the part of the state that it reads, copied, so that nothing waits while it is drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::id::AgentId;
use crate::planner::parsed;
use crate::state::agents::Agent;
use crate::state::{Roles, State};

/// The cluster as it was at one index of the log.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Those that can be targets, in the order of their ids.
    pub(super) agents: Vec<Known>,
    /// How many agents there are.
    pub(super) fleet: usize,
    pub(super) roles: Roles,
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
    /// Copies it. With `named` (see [`playbook::named_hosts`]) of the agents only those.
    pub fn of(state: &State, named: Option<&BTreeSet<String>>) -> Ground {
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
        Ground {
            agents,
            fleet: state.agents_total(),
            roles: state.roles().clone(),
        }
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
