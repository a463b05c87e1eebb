//! Agents, as operators see and change them.

use engine::Command;
use engine::id::AgentId;
use proto::v1;

use super::{Operators, fill, not_found, page, parse};
use crate::api::convert;
use crate::api::error::ApiError;

impl Operators {
    pub(super) async fn list_agents(
        &self,
        _: String,
        asked: v1::ListAgentsRequest,
    ) -> Result<v1::ListAgentsReply, ApiError> {
        let after: Option<AgentId> = match asked.after_id.as_str() {
            "" => None,
            id => Some(parse("after_id", id)?),
        };
        let (agents, is_more) = self
            .control
            .query(|state| {
                let agents: Box<dyn Iterator<Item = _>> = match &after {
                    None => Box::new(state.agents()),
                    Some(after) => Box::new(state.agents_after(after)),
                };
                let agents = agents.filter(|agent| !asked.online_only || agent.is_online());
                let agents = agents.map(|agent| convert::agent(state, agent));
                fill(agents, page(asked.limit), |agent| 256 + agent.facts_json.len())
            })
            .await?;
        let last = agents.last().filter(|_| is_more);
        Ok(v1::ListAgentsReply {
            next_after_id: last.map(|agent| agent.id.clone()).unwrap_or_default(),
            agents,
        })
    }

    pub(super) async fn get_agent(
        &self,
        _: String,
        asked: v1::GetAgentRequest,
    ) -> Result<v1::Agent, ApiError> {
        let id: AgentId = parse("id", &asked.id)?;
        let found = self
            .control
            .query(|state| state.agent(&id).map(|agent| convert::agent(state, agent)))
            .await?;
        found.ok_or_else(|| not_found("agent", &id))
    }

    pub(super) async fn set_agent_labels(
        &self,
        operator: String,
        asked: v1::SetAgentLabelsRequest,
    ) -> Result<v1::Agent, ApiError> {
        let command = Command::SetLabels {
            agent: parse("id", &asked.id)?,
            labels: asked.labels.into_iter().collect(),
        };
        self.submit(operator.clone(), &asked.request_id, command).await?;
        self.get_agent(operator, v1::GetAgentRequest { id: asked.id })
            .await
    }

    pub(super) async fn revoke_agent(
        &self,
        operator: String,
        asked: v1::RevokeAgentRequest,
    ) -> Result<v1::RevokeAgentReply, ApiError> {
        let command = Command::RevokeAgent {
            agent: parse("id", &asked.id)?,
            reason: asked.reason,
        };
        self.submit(operator, &asked.request_id, command).await?;
        Ok(v1::RevokeAgentReply {})
    }
}
