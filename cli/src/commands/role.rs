//! `role grant|revoke|list`.

use proto::v1::{GrantRoleRequest, ListRolesRequest, RevokeRoleRequest};
use serde_json::json;

use crate::{
    args::Role,
    client::{Client, request_id},
    error::Result,
    exit_codes,
    output::{Output, clean},
    shape,
};

pub async fn run(out: Output, client: &mut Client, command: Role) -> Result<u8> {
    match command {
        Role::List => list(out, client).await?,
        Role::Grant { operator, role } => {
            let request = GrantRoleRequest {
                operator_id: operator.clone(),
                role: role.clone(),
                request_id: request_id(),
            };
            client
                .call(async |mut api| api.grant_role(request.clone()).await)
                .await?;
            let text = format!("{} holds {} now.\n", clean(&operator), clean(&role));
            out.one(
                &text,
                &json!({ "operator_id": operator, "role": role, "held": true }),
            )?;
        }
        Role::Revoke { operator, role } => {
            let request = RevokeRoleRequest {
                operator_id: operator.clone(),
                role: role.clone(),
                request_id: request_id(),
            };
            client
                .call(async |mut api| api.revoke_role(request.clone()).await)
                .await?;
            let text = format!("{} no longer holds {}.\n", clean(&operator), clean(&role));
            out.one(
                &text,
                &json!({ "operator_id": operator, "role": role, "held": false }),
            )?;
        }
    }
    Ok(exit_codes::OK)
}

async fn list(out: Output, client: &mut Client) -> Result<()> {
    let reply = client
        .call(async |mut api| api.list_roles(ListRolesRequest {}).await)
        .await?;
    let rows: Vec<Vec<String>> = reply
        .bindings
        .iter()
        .map(|binding| vec![binding.operator_id.clone(), binding.role.clone()])
        .collect();
    let items: Vec<_> = reply.bindings.iter().map(shape::role).collect();
    out.list(&["operator", "role"], &rows, &items)
}
