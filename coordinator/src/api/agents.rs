//! What agents call: the session, and uploads of evidence.

use bytes::Bytes;
use engine::id::{AgentId, Digest};
use futures::StreamExt;
use futures::stream::BoxStream;
use proto::v1;
use proto::v1::agent_service_server::AgentService;
use tonic::{Request, Response, Status, Streaming};

use super::auth;
use super::error::ApiError;
use super::limits;
use crate::control::Control;
use crate::evidence::Evidence;
use crate::evidence::upload::{UploadHeader, UploadTrailer};
use crate::hub::{Hub, wire};

/// The agents' service.
pub struct Agents {
    hub: Hub,
    evidence: Evidence,
    control: Control,
}

impl Agents {
    /// Over the hub and the evidence of this node.
    pub fn new(hub: Hub, evidence: Evidence, control: Control) -> Agents {
        Agents {
            hub,
            evidence,
            control,
        }
    }

    /// The agent of a call that is not a session, if its key is still the recorded one (R11).
    async fn enrolled<T>(&self, request: &Request<T>) -> Result<AgentId, ApiError> {
        let (agent, key) = auth::agent(request)?;
        let is_enrolled =
            |state: &engine::State| state.agent(&agent).is_some_and(|agent| agent.accepts_key(&key));
        if self.control.local(is_enrolled) || self.control.query(is_enrolled).await? {
            return Ok(agent);
        }
        Err(ApiError::NotEnrolled(agent.to_string()))
    }
}

#[tonic::async_trait]
impl AgentService for Agents {
    type SessionStream = BoxStream<'static, Result<v1::CoordinatorMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (agent, key) = auth::agent(&request)?;
        let peer = request
            .extensions()
            .get::<certs::tls::Peer>()
            .cloned()
            .ok_or(ApiError::NotAllowed)?;
        let inbound = request.into_inner().boxed();
        Ok(Response::new(self.hub.serve(agent, key, &peer, inbound).boxed()))
    }

    async fn evidence_offset(
        &self,
        request: Request<v1::EvidenceOffsetRequest>,
    ) -> Result<Response<v1::EvidenceOffsetReply>, Status> {
        let agent = self.enrolled(&request).await?;
        let asked = request.into_inner();
        let attempt = attempt(asked.key.as_ref())?;
        let offset = self
            .evidence
            .upload_offset(&agent, &attempt, &asked.upload_id)
            .await;
        let offset_bytes = offset.map_err(ApiError::from)?;
        Ok(Response::new(v1::EvidenceOffsetReply { offset_bytes }))
    }

    async fn put_evidence(
        &self,
        request: Request<Streaming<v1::EvidenceChunk>>,
    ) -> Result<Response<v1::EvidenceReceipt>, Status> {
        let agent = self.enrolled(&request).await?;
        let mut chunks = request.into_inner();
        let first = chunks
            .message()
            .await?
            .ok_or_else(|| invalid("header", "the upload is empty"))?;
        let header = header(
            first
                .header
                .ok_or_else(|| invalid("header", "the first message has none"))?,
        )?;
        let mut upload = self
            .evidence
            .begin_upload(agent, header)
            .await
            .map_err(ApiError::from)?;
        let mut next = Some((first.data, first.trailer));
        let trailer = loop {
            let (data, trailer): (Bytes, Option<v1::EvidenceTrailer>) = match next.take() {
                Some(next) => next,
                None => {
                    let chunk = chunks
                        .message()
                        .await?
                        .ok_or_else(|| invalid("trailer", "the upload ended without one"))?;
                    (chunk.data, chunk.trailer)
                }
            };
            if data.len() > limits::CHUNK_BYTES_MAX {
                return Err(invalid("data", "a chunk is larger than Welcome allows").into());
            }
            if !data.is_empty() {
                upload.append(data).await.map_err(ApiError::from)?;
            }
            if let Some(trailer) = trailer {
                break trailer;
            }
        };
        let receipt = upload.complete(parse_trailer(trailer)?).await.map_err(|error| {
            tracing::info!(%error, "an upload was not taken");
            ApiError::from(error)
        })?;
        Ok(Response::new(v1::EvidenceReceipt {
            sha256: receipt.sha256.to_string(),
            size_bytes: receipt.size_bytes,
            copies: receipt.nodes.len() as u32,
        }))
    }
}

/// A path longer than Linux has is not one.
const PATH_BYTES_MAX: usize = 4_096;

fn header(header: v1::EvidenceHeader) -> Result<UploadHeader, ApiError> {
    if header.path.is_empty() || header.path.len() > PATH_BYTES_MAX {
        return Err(invalid("header.path", "a path has 1 to 4096 bytes"));
    }
    Ok(UploadHeader {
        attempt: attempt(header.key.as_ref())?,
        upload_id: header.upload_id,
        offset_bytes: header.offset_bytes,
        path: header.path.to_vec(),
        size_bytes_max: header.size_bytes_max,
    })
}

fn parse_trailer(trailer: v1::EvidenceTrailer) -> Result<UploadTrailer, ApiError> {
    Ok(UploadTrailer {
        sha256: trailer
            .sha256
            .parse::<Digest>()
            .map_err(|error| invalid("trailer.sha256", error))?,
        size_bytes: trailer.size_bytes,
        read_at: engine::Timestamp(trailer.read_at_ms),
        changed_during_read: trailer.changed_during_read,
    })
}

fn attempt(key: Option<&v1::AttemptKey>) -> Result<crate::attempt::NamedAttempt, ApiError> {
    let key = key.ok_or_else(|| invalid("key", "no attempt is named"))?;
    wire::attempt(key).map_err(|problem| invalid("key", problem))
}

fn invalid(field: &'static str, problem: impl ToString) -> ApiError {
    ApiError::Invalid {
        field,
        problem: problem.to_string(),
    }
}
