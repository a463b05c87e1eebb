//! `enroll-token create|list|revoke`.

use proto::v1::{CreateEnrollTokenRequest, ListEnrollTokensRequest, RevokeEnrollTokenRequest};
use serde_json::json;

use super::{key_values, labels_text, yes};
use crate::{
    args::EnrollToken,
    client::{Client, request_id},
    error::{CliError, Result},
    exit_codes,
    output::{Output, clean, moment},
    shape,
};

pub async fn run(out: Output, client: &mut Client, command: EnrollToken) -> Result<u8> {
    match command {
        EnrollToken::Create {
            uses,
            ttl,
            labels,
            agent_id,
        } => {
            let ttl_ms = catalogue::parse_duration(&ttl)
                .map_err(|error| CliError::new(exit_codes::USAGE, format!("--ttl {ttl}: {error}")))?;
            if ttl_ms == 0 {
                let what = format!("--ttl {ttl}: a token that holds for no time lets nobody join");
                return Err(CliError::new(exit_codes::USAGE, what).with_hint("leave it out for 10 minutes"));
            }
            let request = CreateEnrollTokenRequest {
                uses,
                ttl_ms,
                labels: key_values(&labels)?,
                agent_id: agent_id.unwrap_or_default(),
                request_id: request_id(),
            };
            create(out, client, request).await?;
        }
        EnrollToken::List => list(out, client).await?,
        EnrollToken::Revoke { id } => {
            let request = RevokeEnrollTokenRequest {
                id: id.clone(),
                request_id: request_id(),
            };
            client
                .call(async |mut api| api.revoke_enroll_token(request.clone()).await)
                .await?;
            out.one(&format!("Revoked {id}.\n"), &json!({ "id": id, "revoked": true }))?;
        }
    }
    Ok(exit_codes::OK)
}

async fn create(out: Output, client: &mut Client, request: CreateEnrollTokenRequest) -> Result<()> {
    let token = client
        .call(async |mut api| api.create_enroll_token(request.clone()).await)
        .await?;
    let endpoint = token.enroll_endpoints.first().map_or("HOST:7403", String::as_str);
    let text = format!(
        "Token {} until {}. It is shown this once:\n\n  cordon-agent enroll --config agent.toml --endpoint {} --ca-sha256 {} --token {}\n\n\
         Endpoints: {}\n",
        clean(&token.id),
        moment(token.expires_at_ms),
        clean(endpoint),
        clean(&token.ca_sha256),
        clean(&token.token),
        clean(&token.enroll_endpoints.join(", ")),
    );
    let value = json!({
        "id": token.id, "token": token.token, "ca_sha256": token.ca_sha256,
        "enroll_endpoints": token.enroll_endpoints, "expires_at_ms": token.expires_at_ms,
    });
    out.one(&text, &value)
}

async fn list(out: Output, client: &mut Client) -> Result<()> {
    let reply = client
        .call(async |mut api| api.list_enroll_tokens(ListEnrollTokensRequest {}).await)
        .await?;
    let rows: Vec<Vec<String>> = reply
        .tokens
        .iter()
        .map(|token| {
            vec![
                token.id.clone(),
                format!("{}/{}", token.used, token.uses),
                moment(token.expires_at_ms),
                yes(token.revoked),
                labels_text(&token.labels),
                token.created_by.clone(),
            ]
        })
        .collect();
    let items: Vec<_> = reply.tokens.iter().map(shape::token).collect();
    out.list(
        &["id", "used", "expires", "revoked", "labels", "by"],
        &rows,
        &items,
    )
}
