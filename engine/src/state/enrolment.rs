//! Members, join tokens, and who the agents are: everything about identity.

use std::collections::BTreeMap;

use serde_json::json;

use crate::command::NodeInfo;
use crate::effect::{Effect, Reply};
use crate::error::Refusal;
use crate::id::{AgentId, Digest, NodeId};
use crate::limits::{LABEL_BYTES_MAX, LABELS_MAX, MESSAGE_BYTES_MAX, NODES_MAX, TOKEN_USES_MAX, TOKENS_MAX};
use crate::state::agents::{Agent, wished_id};
use crate::state::nodes::Cluster;
use crate::state::tokens::Token;
use crate::state::{State, Turn};
use crate::time::Timestamp;

impl State {
    pub(super) fn bootstrap(
        &mut self,
        id: uuid::Uuid,
        trust_domain: &str,
        nodes: &[NodeInfo],
        turn: &Turn<'_>,
    ) -> Result<Reply, Refusal> {
        if let Some(cluster) = &self.cluster {
            return if cluster.id == id && cluster.trust_domain == trust_domain {
                Ok(Reply::Done)
            } else {
                Err(Refusal::OtherCluster(cluster.id.to_string()))
            };
        }
        within("members", nodes.len(), NODES_MAX)?;
        self.cluster = Some(Cluster {
            id,
            trust_domain: trust_domain.to_owned(),
        });
        for node in nodes {
            self.nodes.by_id.insert(node.node, node.clone());
        }
        let names: Vec<_> = nodes.iter().map(|node| &node.name).collect();
        self.record(
            turn,
            "cluster.bootstrap",
            id.to_string(),
            &json!({"trust_domain": trust_domain, "nodes": names}),
        );
        Ok(Reply::Done)
    }

    pub(super) fn put_node(&mut self, node: &NodeInfo, turn: &Turn<'_>) -> Result<Reply, Refusal> {
        if self.nodes.removed.contains(&node.node) {
            return Err(Refusal::State(format!(
                "raft id {} was a member's that was removed: give the node a new one",
                node.node.0
            )));
        }
        // A node keeps its name and its raft id together; only its addresses may change.
        if let Some(other) = self
            .nodes
            .by_id
            .values()
            .find(|n| (n.name == node.name) != (n.node == node.node))
        {
            return Err(Refusal::Exists {
                what: "node".into(),
                name: format!("{} (raft id {})", other.name, other.node.0),
            });
        }
        if !self.nodes.by_id.contains_key(&node.node) {
            within("members", self.nodes.by_id.len() + 1, NODES_MAX)?;
        }
        self.nodes.leaving.remove(&node.node);
        if self.nodes.by_id.insert(node.node, node.clone()).as_ref() != Some(node) {
            self.record(
                turn,
                "node.put",
                node.name.clone(),
                &json!({"raft_id": node.node.0, "peer": node.peer_endpoint}),
            );
        }
        Ok(Reply::Done)
    }

    /// Whether what a member holds is held by another one that stays is decided here, in the order of the log: two
    /// members that leave at once cannot each count on the other.
    pub(super) fn node_leaves(
        &mut self,
        node: NodeId,
        lose_evidence: bool,
        turn: &Turn<'_>,
    ) -> Result<Reply, Refusal> {
        let Some(info) = self.nodes.by_id.get(&node) else {
            return Err(not_found("node", &node.0.to_string()));
        };
        let name = info.name.clone();
        if !lose_evidence {
            let mut held: BTreeMap<Digest, (bool, bool)> = BTreeMap::new();
            for (sha256, _, nodes) in self.held() {
                let (here, elsewhere) = held.entry(*sha256).or_default();
                *here |= nodes.contains(&node);
                *elsewhere |= nodes.iter().any(|other| *other != node && self.stays(*other));
            }
            held.retain(|_, (here, elsewhere)| *here && !*elsewhere);
            if let Some((first, _)) = held.first_key_value() {
                return Err(Refusal::State(format!(
                    "no other member holds {} pieces of evidence that {name} holds, {first} among them: while both run, a second \
                     copy is made within a minute, try again then; if its disk is gone, --lose-evidence goes on",
                    held.len()
                )));
            }
        }
        if self.nodes.leaving.insert(node) {
            let detail = json!({"raft_id": node.0, "lose_evidence": lose_evidence});
            self.record(turn, "node.leave", name, &detail);
        }
        Ok(Reply::Done)
    }

    pub(super) fn remove_node(&mut self, node: NodeId, turn: &mut Turn<'_>) -> Result<Reply, Refusal> {
        let Some(info) = self.nodes.by_id.remove(&node) else {
            return Err(not_found("node", &node.0.to_string()));
        };
        self.nodes.leaving.remove(&node);
        self.nodes.removed.insert(node);
        let lost: Vec<_> = self.sessions_of(node).map(|(id, _)| id.clone()).collect();
        for agent in &lost {
            self.close_session(agent, "its node was removed", turn);
        }
        self.record(
            turn,
            "node.remove",
            info.name,
            &json!({"raft_id": node.0, "sessions": lost.len()}),
        );
        Ok(Reply::Done)
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one command")]
    pub(super) fn create_token(
        &mut self,
        id: &str,
        hash: Digest,
        uses: u32,
        expires_at: Timestamp,
        labels: &BTreeMap<String, String>,
        agent: Option<&AgentId>,
        turn: &Turn<'_>,
    ) -> Result<Reply, Refusal> {
        check_labels(labels)?;
        within("uses", uses as usize, TOKEN_USES_MAX as usize)?;
        if uses == 0 {
            return Err(Refusal::Invalid("a join token has at least one use".into()));
        }
        if expires_at <= self.now {
            return Err(Refusal::Invalid(
                "the join token would have expired already".into(),
            ));
        }
        if self.tokens.get(id).is_some() || self.tokens.by_hash(&hash).is_some() {
            return Err(Refusal::Exists {
                what: "join token".into(),
                name: id.to_owned(),
            });
        }
        if let Some(agent) = agent {
            if uses != 1 {
                return Err(Refusal::Invalid(
                    "a join token that fixes the agent's id has one use".into(),
                ));
            }
            if self.agents.get(agent).is_some() {
                return Err(Refusal::Exists {
                    what: "agent".into(),
                    name: agent.to_string(),
                });
            }
        }
        if self.tokens.len() >= TOKENS_MAX {
            self.tokens.make_room(self.now);
            within("join tokens", self.tokens.len() + 1, TOKENS_MAX)?;
        }
        self.tokens.insert(Token {
            id: id.to_owned(),
            hash,
            uses,
            used_by: BTreeMap::new(),
            expires_at,
            labels: labels.clone(),
            agent: agent.cloned(),
            revoked: false,
            created_by: match turn.actor {
                crate::command::Actor::Operator(id) => id.clone(),
                other => other.to_string(),
            },
            created_at: self.now,
        });
        self.record(
            turn,
            "token.create",
            id.to_owned(),
            &json!({"uses": uses, "expires_at_ms": expires_at.0, "labels": labels, "agent": agent}),
        );
        Ok(Reply::Done)
    }

    pub(super) fn revoke_token(&mut self, id: &str, turn: &Turn<'_>) -> Result<Reply, Refusal> {
        let token = self
            .tokens
            .get_mut(id)
            .ok_or_else(|| not_found("join token", id))?;
        if !std::mem::replace(&mut token.revoked, true) {
            self.record(turn, "token.revoke", id.to_owned(), &json!({}));
        }
        Ok(Reply::Done)
    }

    pub(super) fn enroll(
        &mut self,
        hash: Digest,
        key: Digest,
        hostname: &str,
        turn: &Turn<'_>,
    ) -> Result<Reply, Refusal> {
        let token = self
            .tokens
            .by_hash(&hash)
            .ok_or_else(|| Refusal::Token("it is not known here".into()))?;
        // The answer may have been lost: who proves the same key again gets it again.
        if let Some(agent) = token.used_by.get(&key).and_then(|id| self.agents.get(id)) {
            return match &agent.revoked {
                None if !token.revoked => Ok(Reply::Enrolled {
                    agent: agent.id.clone(),
                    labels: agent.labels.clone(),
                }),
                _ => Err(Refusal::Token("it was revoked".into())),
            };
        }
        if let Some(problem) = token.problem(self.now) {
            return Err(Refusal::Token(problem.into()));
        }
        if let Some(other) = self.agents.by_key(&key) {
            return Err(Refusal::Invalid(format!(
                "the key is agent {}'s: make a new one",
                other.id
            )));
        }
        let id = match &token.agent {
            Some(fixed) if self.agents.get(fixed).is_some() => {
                return Err(Refusal::Exists {
                    what: "agent".into(),
                    name: fixed.to_string(),
                });
            }
            Some(fixed) => fixed.clone(),
            None => self.unused_id(hostname, &key),
        };
        let (token_id, labels) = (token.id.clone(), token.labels.clone());
        if let Some(token) = self.tokens.get_mut(&token_id) {
            token.used_by.insert(key, id.clone());
        }
        self.agents.insert(Agent {
            id: id.clone(),
            key,
            previous_key: None,
            labels: labels.clone(),
            facts: "{}".into(),
            version: String::new(),
            token: token_id.clone(),
            enrolled_at: self.now,
            last_attached_at: None,
            detached_at: None,
            session: None,
            alarm: None,
            revoked: None,
            superseded: (0, Timestamp(0)),
            open: Default::default(),
        });
        self.record(
            turn,
            "agent.enroll",
            id.to_string(),
            &json!({"token": token_id, "key": key, "labels": labels}),
        );
        Ok(Reply::Enrolled { agent: id, labels })
    }

    /// The wish, or the wish and as much of the key's hash as makes it unused.
    fn unused_id(&self, hostname: &str, key: &Digest) -> AgentId {
        let wish = wished_id(hostname);
        let digits = key.to_string();
        let candidates = std::iter::once(wish.clone())
            .chain([6, 12].iter().map(|&n| format!("{}-{}", wish, &digits[..n])))
            .chain((0u64..).map(|n| format!("agent-{}-{n}", &digits[..32])));
        candidates
            .filter_map(|id| id.parse::<AgentId>().ok())
            .find(|id| self.agents.get(id).is_none())
            .expect("the last kind of candidate is endless")
    }

    pub(super) fn renew_key(
        &mut self,
        id: &AgentId,
        current: Digest,
        next: Digest,
        turn: &Turn<'_>,
    ) -> Result<Reply, Refusal> {
        let agent = self
            .agents
            .get(id)
            .ok_or_else(|| not_found("agent", id.as_str()))?;
        if agent.revoked.is_some() {
            return Err(Refusal::State(format!("agent {id} is denied")));
        }
        // The answer may have been lost: the same wish again, from the session that made it, stands.
        if agent.key == next && agent.previous_key == Some(current) {
            return Ok(Reply::Done);
        }
        // While the new key was not seen, the session still shows the one before, and may change its mind.
        if !agent.accepts_key(&current) {
            return Err(Refusal::Invalid(format!(
                "the key of the session is not agent {id}'s"
            )));
        }
        if self.agents.by_key(&next).is_some() {
            return Err(Refusal::Invalid(
                "the new key is or was in use: make another one".into(),
            ));
        }
        self.agents.renew_key(id, current, next);
        self.record(turn, "agent.renew", id.to_string(), &json!({"key": next}));
        Ok(Reply::Done)
    }

    pub(super) fn set_labels(
        &mut self,
        id: &AgentId,
        labels: &BTreeMap<String, String>,
        turn: &mut Turn<'_>,
    ) -> Result<Reply, Refusal> {
        check_labels(labels)?;
        let agent = self
            .agents
            .get_mut(id)
            .ok_or_else(|| not_found("agent", id.as_str()))?;
        agent.labels = labels.clone();
        turn.out.presence = true;
        self.record(turn, "agent.labels", id.to_string(), &json!({"labels": labels}));
        Ok(Reply::Done)
    }

    pub(super) fn revoke_agent(
        &mut self,
        id: &AgentId,
        reason: &str,
        turn: &mut Turn<'_>,
    ) -> Result<Reply, Refusal> {
        within("reason", reason.len(), MESSAGE_BYTES_MAX)?;
        let agent = self
            .agents
            .get_mut(id)
            .ok_or_else(|| not_found("agent", id.as_str()))?;
        if agent.revoked.is_some() {
            return Ok(Reply::Done);
        }
        agent.revoked = Some(reason.to_owned());
        let open: Vec<_> = agent.open.iter().copied().collect();
        self.record(turn, "agent.revoke", id.to_string(), &json!({"reason": reason}));
        self.close_session(id, "the agent is denied", turn);
        for key in open {
            self.with_run(key.run, turn, |run, around| {
                run.agent_is_gone(key.step, key.item, around);
                run.touch(around);
            });
        }
        Ok(Reply::Done)
    }

    /// Ends an agent's session, if it has one.
    pub(super) fn close_session(&mut self, id: &AgentId, reason: &str, turn: &mut Turn<'_>) {
        if let Some(session) = self.agents.set_session(id, None, self.now) {
            turn.out.others.push(Effect::CloseSession {
                agent: id.clone(),
                session: session.session,
                reason: reason.to_owned(),
            });
            self.presence_changed(id, false, turn);
        }
    }
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Refusal> {
    within("labels", labels.len(), LABELS_MAX)?;
    for (name, value) in labels {
        if name.is_empty() {
            return Err(Refusal::Invalid("a label has a name".into()));
        }
        within("bytes of a label's name", name.len(), LABEL_BYTES_MAX)?;
        within("bytes of a label's value", value.len(), LABEL_BYTES_MAX)?;
    }
    Ok(())
}

pub(super) fn within(what: &str, value: usize, limit: usize) -> Result<(), Refusal> {
    if value <= limit {
        return Ok(());
    }
    Err(Refusal::Limit {
        what: what.into(),
        value: value as u64,
        limit: limit as u64,
    })
}

pub(super) fn not_found(what: &str, name: &str) -> Refusal {
    Refusal::NotFound {
        what: what.into(),
        name: name.chars().take(80).collect(),
    }
}
