//! `agent list|show|label|revoke`.

use proto::v1::{self, GetAgentRequest, ListAgentsRequest, RevokeAgentRequest, SetAgentLabelsRequest};
use serde_json::json;

use super::{labels_text, yes};
use crate::{
    args::Agent,
    client::{Client, request_id},
    error::{CliError, Result},
    exit_codes,
    output::{Output, moment},
    shape,
};

/// Agents in one answer; the list goes on page by page.
const PAGE: u32 = 500;

pub async fn run(out: Output, client: &mut Client, command: Agent) -> Result<u8> {
    match command {
        Agent::List { online } => list(out, client, online).await?,
        Agent::Show { id } => {
            let agent = get(client, &id).await?;
            show(out, &agent)?;
        }
        Agent::Label { id, labels } => {
            let agent = label(client, id, &labels).await?;
            show(out, &agent)?;
        }
        Agent::Revoke { id, reason } => {
            let request = RevokeAgentRequest {
                id: id.clone(),
                reason,
                request_id: request_id(),
            };
            client
                .call(async |mut api| api.revoke_agent(request.clone()).await)
                .await?;
            out.one(
                &format!("Revoked {id}. The id is never used again.\n"),
                &json!({ "id": id, "revoked": true }),
            )?;
        }
    }
    Ok(exit_codes::OK)
}

/// Every agent, page by page.
pub async fn all(client: &mut Client, online_only: bool) -> Result<Vec<v1::Agent>> {
    let mut agents = Vec::new();
    let mut after_id = String::new();
    loop {
        let request = ListAgentsRequest {
            after_id,
            limit: PAGE,
            online_only,
        };
        let page = client
            .call(async |mut api| api.list_agents(request.clone()).await)
            .await?;
        agents.extend(page.agents);
        if page.next_after_id.is_empty() {
            return Ok(agents);
        }
        after_id = page.next_after_id;
    }
}

async fn list(out: Output, client: &mut Client, online_only: bool) -> Result<()> {
    let agents = all(client, online_only).await?;
    let rows: Vec<Vec<String>> = agents
        .iter()
        .map(|agent| {
            let state = match (agent.revoked, agent.online) {
                (true, _) => "revoked",
                (false, true) => "online",
                (false, false) => "offline",
            };
            vec![
                agent.id.clone(),
                state.to_owned(),
                agent.node_id.clone(),
                labels_text(&agent.labels),
                agent.tasks_open.to_string(),
                moment(agent.last_attached_ms),
                agent.alarm.clone(),
            ]
        })
        .collect();
    let items: Vec<_> = agents.iter().map(shape::agent).collect();
    out.list(
        &["id", "state", "node", "labels", "tasks", "last attached", "alarm"],
        &rows,
        &items,
    )
}

async fn get(client: &mut Client, id: &str) -> Result<v1::Agent> {
    let request = GetAgentRequest { id: id.to_owned() };
    client
        .call(async |mut api| api.get_agent(request.clone()).await)
        .await
}

fn show(out: Output, agent: &v1::Agent) -> Result<()> {
    let mut text = out.fields(&[
        ("id", agent.id.clone()),
        ("online", yes(agent.online)),
        ("revoked", yes(agent.revoked)),
        ("node", agent.node_id.clone()),
        ("labels", labels_text(&agent.labels)),
        ("version", agent.version.clone()),
        ("enrolled", moment(agent.enrolled_at_ms)),
        ("last attached", moment(agent.last_attached_ms)),
        ("open tasks", agent.tasks_open.to_string()),
        ("key", agent.key_sha256.clone()),
        ("alarm", agent.alarm.clone()),
    ]);
    if let serde_json::Value::Object(facts) = shape::parsed(&agent.facts_json) {
        let facts: Vec<_> = facts
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_string()))
            .collect();
        text.push_str("\nThe agent says of itself:\n");
        text.push_str(&out.fields(&facts));
    }
    out.one(&text, &shape::agent(agent))
}

/// The RPC replaces all labels, so what is there already is read first.
async fn label(client: &mut Client, id: String, changes: &[String]) -> Result<v1::Agent> {
    let mut labels = get(client, &id).await?.labels;
    for change in changes {
        match (change.split_once('='), change.strip_suffix('-')) {
            (Some((key, value)), _) if !key.is_empty() => {
                labels.insert(key.to_owned(), value.to_owned());
            }
            (None, Some(key)) if !key.is_empty() => {
                labels.remove(key);
            }
            _ => {
                return Err(CliError::new(
                    exit_codes::USAGE,
                    format!("`{change}` is neither KEY=VALUE nor KEY-"),
                ));
            }
        }
    }
    let request = SetAgentLabelsRequest {
        id,
        labels,
        request_id: request_id(),
    };
    client
        .call(async |mut api| api.set_agent_labels(request.clone()).await)
        .await
}
