//! Join tokens. The secret half is shown once; the state has its hash.

use engine::Command;
use proto::v1;
use rand::RngExt as _;

use super::{Operators, parse};
use crate::api::convert;
use crate::api::enroll::token_hash;
use crate::api::error::ApiError;
use crate::clock;

/// How long a token works when nothing is said (R4).
const TTL_MS_DEFAULT: u64 = 10 * 60 * 1_000;

impl Operators {
    pub(super) async fn create_enroll_token(
        &self,
        operator: String,
        asked: v1::CreateEnrollTokenRequest,
    ) -> Result<v1::CreateEnrollTokenReply, ApiError> {
        let secret = hex::encode(rand::rng().random::<[u8; 16]>());
        let id = format!("t-{}", hex::encode(rand::rng().random::<[u8; 6]>()));
        let ttl_ms = if asked.ttl_ms == 0 {
            TTL_MS_DEFAULT
        } else {
            asked.ttl_ms
        };
        let expires_at = clock::now().plus_ms(ttl_ms);
        let agent = match asked.agent_id.as_str() {
            "" => None,
            agent => Some(parse("agent_id", agent)?),
        };
        let command = Command::CreateToken {
            id: id.clone(),
            hash: token_hash(&secret),
            uses: asked.uses.max(1),
            expires_at,
            labels: asked.labels.into_iter().collect(),
            agent,
        };
        // No request id of the client's: a repeat could not show the first secret again, so it makes a new
        // token, and the lost one expires unused.
        self.submit(operator, "", command).await?;
        let enroll_endpoints = self.control.local(|state| {
            state
                .nodes()
                .map(|node| node.enroll_endpoint.clone())
                .filter(|endpoint| !endpoint.is_empty())
                .collect()
        });
        Ok(v1::CreateEnrollTokenReply {
            id,
            token: secret,
            ca_sha256: hex::encode(self.about.ca_sha256),
            enroll_endpoints,
            expires_at_ms: expires_at.0,
        })
    }

    pub(super) async fn list_enroll_tokens(&self) -> Result<v1::ListEnrollTokensReply, ApiError> {
        let tokens = self
            .control
            .query(|state| state.tokens().map(convert::token).collect())
            .await?;
        Ok(v1::ListEnrollTokensReply { tokens })
    }

    pub(super) async fn revoke_enroll_token(
        &self,
        operator: String,
        asked: v1::RevokeEnrollTokenRequest,
    ) -> Result<v1::RevokeEnrollTokenReply, ApiError> {
        self.submit(operator, &asked.request_id, Command::RevokeToken { id: asked.id })
            .await?;
        Ok(v1::RevokeEnrollTokenReply {})
    }
}
