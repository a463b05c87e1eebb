//! The cluster and its members, as operators see and change them.

use std::time::Duration;

use engine::Command;
use engine::command::NodeInfo;
use engine::id::NodeId;
use proto::v1;

use super::{Operators, parse};
use crate::api::error::ApiError;
use crate::reshape::{Reshape, ReshapeError};

/// How long the members are waited for as the whole cluster knows them, before they are told as this node does.
const FRESH_WITHIN: Duration = Duration::from_secs(1);

impl Operators {
    pub(super) async fn status(&self, operator: String) -> Result<v1::StatusReply, ApiError> {
        let raft = self.control.raft().status();
        // Told by who can answer, also without a leader: then it is what this node knew last.
        let reply = |state: &engine::State| v1::StatusReply {
            cluster_id: self.about.cluster.to_string(),
            trust_domain: self.about.trust_domain.clone(),
            node_id: self.about.node_name.clone(),
            leader_id: raft.leader.map(|id| node_name(state, id)).unwrap_or_default(),
            term: raft.term,
            applied_index: state.applied_index(),
            agents_total: state.agents_total() as u32,
            agents_online: state.agents_online() as u32,
            runs_active: state.runs_active() as u32,
            version: env!("CARGO_PKG_VERSION").into(),
            operator_id: operator,
        };
        Ok(self.control.local(reply))
    }

    pub(super) async fn cluster_status(&self) -> Result<v1::ClusterStatusReply, ApiError> {
        if self.control.raft().status().leader.is_some() {
            // Without a quorum this fails or waits, and then what this node knows is what there is to show.
            let _stale = tokio::time::timeout(FRESH_WITHIN, self.control.query(|_| ())).await;
        }
        let this = self.control.node().0;
        let leads = self.control.raft().status().leader == Some(this);
        // The leader knows whom it reaches; another node asks.
        let answering = match leads {
            true => None,
            false => Some(self.peers.answering(FRESH_WITHIN).await),
        };
        let raft = self.control.raft().status();
        let members = self.control.local(|state| {
            let member = |node: &NodeInfo| {
                let id = node.node.0;
                let peer = raft.peers.iter().find(|peer| peer.id == id);
                let silent = answering.as_ref().is_some_and(|all| !all.contains(&node.node));
                let role = match peer {
                    _ if silent && id != this => "unreachable",
                    _ if raft.leader == Some(id) => "leader",
                    Some(peer) if peer.is_learner => "learner",
                    Some(peer) if raft.leader == Some(this) && id != this && !peer.recently_active => {
                        "unreachable"
                    }
                    // In the address book, but not (or no longer) among raft's members.
                    None if raft.leader == Some(this) && id != this => "unreachable",
                    _ => "follower",
                };
                let is_self = id == this;
                v1::Member {
                    node_id: node.name.clone(),
                    raft_id: id,
                    peer_endpoint: node.peer_endpoint.clone(),
                    role: role.into(),
                    matched_index: peer.map_or(0, |peer| peer.matched),
                    applied_index: if is_self { state.applied_index() } else { 0 },
                    state_hash: if is_self {
                        state.hash().to_string()
                    } else {
                        String::new()
                    },
                    self_: is_self,
                }
            };
            state.nodes().map(member).collect()
        });
        Ok(v1::ClusterStatusReply {
            cluster_id: self.about.cluster.to_string(),
            members,
            committed_index: raft.committed,
        })
    }

    /// First the address book, so that the others can reach it; then raft, as a learner. The leader gives
    /// it a vote when it has caught up.
    pub(super) async fn add_member(
        &self,
        operator: String,
        asked: v1::AddMemberRequest,
    ) -> Result<v1::AddMemberReply, ApiError> {
        let name: engine::id::AgentId = parse("node_id", &asked.node_id)?;
        let node = NodeInfo {
            node: NodeId(asked.raft_id),
            name: name.to_string(),
            peer_endpoint: endpoint("peer_endpoint", asked.peer_endpoint)?,
            agent_endpoint: endpoint("agent_endpoint", asked.agent_endpoint)?,
            operator_endpoint: endpoint("operator_endpoint", asked.operator_endpoint)?,
            enroll_endpoint: endpoint("enroll_endpoint", asked.enroll_endpoint)?,
        };
        self.submit(operator, &asked.request_id, Command::PutNode(node))
            .await?;
        self.control.reshape(Reshape::Add(asked.raft_id)).await?;
        Ok(v1::AddMemberReply {})
    }

    /// First raft, so that a member that is gone from the book never votes.
    pub(super) async fn remove_member(
        &self,
        operator: String,
        asked: v1::RemoveMemberRequest,
    ) -> Result<v1::RemoveMemberReply, ApiError> {
        let node = NodeId(asked.raft_id);
        let info = self.control.query(|state| state.node(node).cloned()).await?;
        let leaves = Command::NodeLeaves {
            node,
            lose_evidence: asked.lose_evidence,
        };
        self.submit(operator.clone(), "", leaves).await?;
        if let Err(error) = self.control.reshape(Reshape::Remove(asked.raft_id)).await {
            // It surely stays: what it holds counts again.
            if let (ReshapeError::Refused(_), Some(info)) = (&error, info) {
                self.submit(operator, "", Command::PutNode(info)).await?;
            }
            return Err(error.into());
        }
        self.submit(operator, &asked.request_id, Command::RemoveNode { node })
            .await?;
        Ok(v1::RemoveMemberReply {})
    }

    pub(super) async fn transfer_leader(
        &self,
        operator: String,
        asked: v1::TransferLeaderRequest,
    ) -> Result<v1::TransferLeaderReply, ApiError> {
        tracing::info!(operator, to = asked.raft_id, "an operator moves the leadership");
        self.control.reshape(Reshape::Lead(asked.raft_id)).await?;
        Ok(v1::TransferLeaderReply {})
    }
}

fn node_name(state: &engine::State, id: u64) -> String {
    state
        .node(NodeId(id))
        .map_or_else(|| id.to_string(), |node| node.name.clone())
}

fn endpoint(field: &'static str, text: String) -> Result<String, ApiError> {
    let is_one = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if is_one {
        return Ok(text);
    }
    Err(ApiError::Invalid {
        field,
        problem: format!("{text:?} is no host:port"),
    })
}
