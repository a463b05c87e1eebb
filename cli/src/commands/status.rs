//! `status`: one look at the cluster.

use proto::v1::StatusRequest;

use crate::{client::Client, error::Result, exit_codes, output::Output, shape};

pub async fn run(out: Output, client: &mut Client) -> Result<u8> {
    let status = client
        .call(async |mut api| api.status(StatusRequest {}).await)
        .await?;
    let leader = match status.leader_id.as_str() {
        "" => "none known".to_owned(),
        leader => format!("{leader} (term {})", status.term),
    };
    let text = out.fields(&[
        ("cluster", status.cluster_id.clone()),
        ("trust domain", status.trust_domain.clone()),
        (
            "answered by",
            format!(
                "{} at {}, version {}",
                status.node_id,
                client.endpoint(),
                status.version
            ),
        ),
        ("leader", leader),
        ("applied index", status.applied_index.to_string()),
        (
            "agents",
            format!("{} online of {}", status.agents_online, status.agents_total),
        ),
        ("active runs", status.runs_active.to_string()),
        ("you are", status.operator_id.clone()),
    ]);
    out.one(&text, &shape::status(&status))?;
    Ok(exit_codes::OK)
}
