//! Who holds which role.

use engine::Command;
use proto::v1;

use super::Operators;
use crate::api::error::ApiError;

impl Operators {
    pub(super) async fn list_roles(&self) -> Result<v1::ListRolesReply, ApiError> {
        let binding = |(operator, role): (&str, &str)| v1::RoleBinding {
            operator_id: operator.to_owned(),
            role: role.to_owned(),
        };
        let bindings = self
            .control
            .query(|state| state.roles().iter().map(binding).collect())
            .await?;
        Ok(v1::ListRolesReply { bindings })
    }

    pub(super) async fn grant_role(
        &self,
        operator: String,
        asked: v1::GrantRoleRequest,
    ) -> Result<v1::GrantRoleReply, ApiError> {
        let command = Command::GrantRole {
            operator: asked.operator_id,
            role: asked.role,
        };
        self.submit(operator, &asked.request_id, command).await?;
        Ok(v1::GrantRoleReply {})
    }

    pub(super) async fn revoke_role(
        &self,
        operator: String,
        asked: v1::RevokeRoleRequest,
    ) -> Result<v1::RevokeRoleReply, ApiError> {
        let command = Command::RevokeRole {
            operator: asked.operator_id,
            role: asked.role,
        };
        self.submit(operator, &asked.request_id, command).await?;
        Ok(v1::RevokeRoleReply {})
    }
}
