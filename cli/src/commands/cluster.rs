//! `cluster status|add|remove|transfer`.

use proto::v1::{AddMemberRequest, ClusterStatusRequest, RemoveMemberRequest, TransferLeaderRequest};
use serde_json::json;

use super::{
    confirm::{ask, can_ask},
    yes,
};
use crate::{
    args::Cluster,
    client::{Client, request_id},
    error::{CliError, Result},
    exit_codes,
    output::{Format, Output},
    shape,
};

pub async fn run(out: Output, client: &mut Client, command: Cluster) -> Result<u8> {
    match command {
        Cluster::Status => status(out, client).await?,
        Cluster::Add {
            name,
            raft_id,
            peer,
            agent,
            operator,
            enroll,
        } => {
            let request = AddMemberRequest {
                raft_id,
                node_id: name.clone(),
                peer_endpoint: peer,
                agent_endpoint: agent,
                operator_endpoint: operator,
                enroll_endpoint: enroll,
                request_id: request_id(),
            };
            client
                .call(async |mut api| api.add_member(request.clone()).await)
                .await?;
            let text = format!("Added {name} as a learner; it votes once it has caught up.\n");
            out.one(
                &text,
                &json!({ "node_id": name, "raft_id": raft_id, "added": true }),
            )?;
        }
        Cluster::Remove {
            raft_id,
            confirm,
            lose_evidence,
        } => {
            if !confirm {
                confirm_removal(client, raft_id).await?;
            }
            let request = RemoveMemberRequest {
                raft_id,
                request_id: request_id(),
                lose_evidence,
            };
            client
                .call(async |mut api| api.remove_member(request.clone()).await)
                .await?;
            let text = format!("Removed member {raft_id}; its Raft id is never used again.\n");
            out.one(&text, &json!({ "raft_id": raft_id, "removed": true }))?;
        }
        Cluster::Transfer { raft_id } => {
            client
                .call(async |mut api| api.transfer_leader(TransferLeaderRequest { raft_id }).await)
                .await?;
            let text = format!("Member {raft_id} leads.\n");
            out.one(&text, &json!({ "raft_id": raft_id, "asked": true }))?;
        }
    }
    Ok(exit_codes::OK)
}

/// Asks before a member is removed: its name must be typed, so that nobody removes another one by its number.
async fn confirm_removal(client: &mut Client, raft_id: u64) -> Result<()> {
    let refusal = |why: &str| {
        let what = format!("a member is removed for good, and {why}");
        CliError::new(exit_codes::REFUSED, what).with_hint("give --confirm if it is meant")
    };
    if !can_ask() {
        return Err(refusal("there is no terminal to confirm it on"));
    }
    let status = client
        .call(async |mut api| api.cluster_status(ClusterStatusRequest {}).await)
        .await?;
    let member = status
        .members
        .into_iter()
        .find(|member| member.raft_id == raft_id);
    let member = member.ok_or_else(|| {
        CliError::new(
            exit_codes::NOT_FOUND,
            format!("there is no member with raft id {raft_id}"),
        )
        .with_hint("`cordon cluster status` shows the members")
    })?;
    let question = format!(
        "This removes {} (raft id {raft_id}, {}), and its raft id is never used again.\nType its name to go on: ",
        member.node_id, member.role
    );
    match ask(&question)? == member.node_id {
        true => Ok(()),
        false => Err(refusal("another name was typed")),
    }
}

async fn status(out: Output, client: &mut Client) -> Result<()> {
    let status = client
        .call(async |mut api| api.cluster_status(ClusterStatusRequest {}).await)
        .await?;
    let items: Vec<_> = status.members.iter().map(shape::member).collect();
    if out.format == Format::Table {
        let rows: Vec<Vec<String>> = status
            .members
            .iter()
            .map(|member| {
                vec![
                    member.node_id.clone(),
                    member.raft_id.to_string(),
                    member.role.clone(),
                    member.peer_endpoint.clone(),
                    known(member.matched_index),
                    known(member.applied_index),
                    yes(member.self_),
                ]
            })
            .collect();
        let columns = ["name", "raft id", "role", "peer", "matched", "applied", "asked"];
        let head = out.fields(&[
            ("cluster", status.cluster_id.clone()),
            ("committed", status.committed_index.to_string()),
        ]);
        return out.print(&format!("{head}\n{}", out.table(&columns, &rows)));
    }
    let value = json!({
        "cluster_id": status.cluster_id, "committed_index": status.committed_index, "members": items,
    });
    out.one("", &value)
}

/// An index; 0 is one that the node which answers does not know.
fn known(index: u64) -> String {
    match index {
        0 => String::new(),
        index => index.to_string(),
    }
}
