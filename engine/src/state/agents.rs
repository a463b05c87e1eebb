//! The agents: who they are, what they said of themselves, where they are attached, what they owe.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{AgentId, Digest, NodeId, TaskKey};
use crate::time::Timestamp;

/// An enrolled agent. Never removed: its id is never given to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Its name for good.
    pub id: AgentId,
    /// SHA-256 of its key.
    pub key: Digest,
    /// Its key before the last renewal; good until the new one was seen in a session.
    pub previous_key: Option<Digest>,
    /// Set by admins.
    pub labels: BTreeMap<String, String>,
    /// What it says of its host, a JSON object. Never used to authorise.
    pub facts: Arc<str>,
    /// Its version, as it says.
    pub version: String,
    /// The join token that it came with.
    pub token: String,
    /// When.
    pub enrolled_at: Timestamp,
    /// When its last session began.
    pub last_attached_at: Option<Timestamp>,
    /// When its last session ended, while it has none.
    pub detached_at: Option<Timestamp>,
    /// Where it is attached.
    pub session: Option<Session>,
    /// Something about it that a person should look at. Stays.
    pub alarm: Option<String>,
    /// Why it is denied for good.
    pub revoked: Option<String>,
    /// Sessions that replaced a live one, and since when they are counted.
    pub superseded: (u32, Timestamp),
    /// Derived: its tasks that have not ended.
    #[serde(skip)]
    pub(crate) open: BTreeSet<TaskKey>,
}

/// An agent's live stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The node that holds it.
    pub node: NodeId,
    /// Drawn by the node.
    pub session: u64,
    /// Since when.
    pub since: Timestamp,
    /// The kernel's boot id, as the agent says.
    pub boot_id: String,
    /// SHA-256 of the key that it showed.
    pub key: Digest,
}

impl Agent {
    /// It has a session.
    pub fn is_online(&self) -> bool {
        self.session.is_some()
    }

    /// Tasks that it has been given, or will be, and has not ended.
    pub fn tasks_open(&self) -> u32 {
        self.open.len() as u32
    }

    /// A certificate with this key is good for a session.
    pub fn accepts_key(&self, key: &Digest) -> bool {
        self.revoked.is_none() && (self.key == *key || self.previous_key.as_ref() == Some(key))
    }
}

/// All agents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agents {
    by_id: BTreeMap<AgentId, Agent>,
    /// Derived: whose key a digest is, previous keys included.
    by_key: BTreeMap<Digest, AgentId>,
    /// Derived.
    online: usize,
}

impl Agents {
    /// By id.
    pub fn get(&self, id: &AgentId) -> Option<&Agent> {
        self.by_id.get(id)
    }

    /// For changes that touch neither its keys nor its session: those have their own methods.
    pub(crate) fn get_mut(&mut self, id: &AgentId) -> Option<&mut Agent> {
        self.by_id.get_mut(id)
    }

    /// In the order of their ids.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Agent> {
        self.by_id.values()
    }

    /// Behind this id.
    pub fn after(&self, id: &AgentId) -> impl Iterator<Item = &Agent> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.by_id
            .range::<AgentId, _>((Excluded(id), Unbounded))
            .map(|(_, agent)| agent)
    }

    /// Whose key this is.
    pub fn by_key(&self, key: &Digest) -> Option<&Agent> {
        self.by_key.get(key).and_then(|id| self.by_id.get(id))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// None enrolled.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// How many have a session.
    pub fn online(&self) -> usize {
        self.online
    }

    /// Adds an agent, its key unused.
    pub(crate) fn insert(&mut self, agent: Agent) {
        self.by_key.insert(agent.key, agent.id.clone());
        if let Some(previous) = agent.previous_key {
            self.by_key.insert(previous, agent.id.clone());
        }
        self.online += usize::from(agent.session.is_some());
        self.by_id.insert(agent.id.clone(), agent);
    }

    /// Gives an agent a session or takes it away; returns the one before.
    pub(crate) fn set_session(
        &mut self,
        id: &AgentId,
        session: Option<Session>,
        now: Timestamp,
    ) -> Option<Session> {
        let agent = self.by_id.get_mut(id)?;
        match &session {
            Some(_) => {
                agent.last_attached_at = Some(now);
                agent.detached_at = None;
            }
            None if agent.session.is_some() => agent.detached_at = Some(now),
            None => {}
        }
        self.online += usize::from(session.is_some());
        let before = std::mem::replace(&mut agent.session, session);
        self.online -= usize::from(before.is_some());
        before
    }

    /// The agent's next key. The key that its session shows stays good until `confirm_key`.
    pub(crate) fn renew_key(&mut self, id: &AgentId, current: Digest, next: Digest) {
        if let Some(agent) = self.by_id.get_mut(id) {
            for gone in [Some(agent.key), agent.previous_key].into_iter().flatten() {
                if gone != current {
                    self.by_key.remove(&gone);
                }
            }
            agent.previous_key = Some(current);
            agent.key = next;
            self.by_key.insert(next, id.clone());
        }
    }

    /// The new key was seen: the one before is no longer good.
    pub(crate) fn confirm_key(&mut self, id: &AgentId) {
        if let Some(agent) = self.by_id.get_mut(id)
            && let Some(older) = agent.previous_key.take()
        {
            self.by_key.remove(&older);
        }
    }
}

/// The id that a hostname wishes for: what is not allowed becomes `-`. Never empty.
pub(crate) fn wished_id(hostname: &str) -> String {
    let id: String = hostname
        .chars()
        .take(50)
        .map(|c| match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '-') => c,
            _ => '-',
        })
        .collect();
    match id.trim_matches('-') {
        "" => "agent".to_owned(),
        id => id.to_owned(),
    }
}
