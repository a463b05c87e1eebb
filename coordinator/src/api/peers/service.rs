//! Answering other coordinators: forwarded commands and copies of evidence.

use bytes::Bytes;
use engine::Envelope;
use engine::id::Digest;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use proto::v1;
use proto::v1::forward_reply::Result as Forwarded;
use proto::v1::peer_service_server::PeerService;
use tonic::{Request, Response, Status, Streaming};

use crate::api::auth::{self, Caller};
use crate::api::error::ApiError;
use crate::control::{Control, SubmitError};
use crate::evidence::Evidence;
use crate::evidence::EvidenceError;
use crate::evidence::partial::partial_name;
use crate::raft::ProposeError;
use crate::reshape::{Reshape, ReshapeError};

/// The peers' service, replication apart.
pub struct Peers {
    cluster: uuid::Uuid,
    control: Control,
    evidence: Evidence,
    size_bytes_max: u64,
}

impl Peers {
    /// Over this node's control and evidence.
    pub fn new(cluster: uuid::Uuid, control: Control, evidence: Evidence, size_bytes_max: u64) -> Peers {
        Peers {
            cluster,
            control,
            evidence,
            size_bytes_max,
        }
    }

    /// The caller must be a member, and mean this cluster (R66). Before the address book is replicated, a
    /// certificate of the peers' own CA has to do.
    fn check<T>(&self, request: &Request<T>, cluster_id: &str) -> Result<String, ApiError> {
        let name = self.member(request)?;
        self.check_cluster(cluster_id)?;
        Ok(name)
    }

    fn member<T>(&self, request: &Request<T>) -> Result<String, ApiError> {
        let Caller::Coordinator { name } = auth::caller(request)? else {
            return Err(ApiError::NotAllowed);
        };
        let is_member = self.control.local(|state| {
            let mut nodes = state.nodes().peekable();
            nodes.peek().is_none() || nodes.any(|node| node.name == name)
        });
        if is_member {
            Ok(name)
        } else {
            Err(ApiError::NotAllowed)
        }
    }

    fn check_cluster(&self, cluster_id: &str) -> Result<(), ApiError> {
        if cluster_id == self.cluster.to_string() {
            return Ok(());
        }
        Err(engine::Refusal::OtherCluster(self.cluster.to_string()).into())
    }

    async fn take_copy(
        &self,
        from: &str,
        first: v1::BlobChunk,
        mut chunks: Streaming<v1::BlobChunk>,
    ) -> Result<v1::StatBlobReply, EvidenceError> {
        let store = self.evidence.store();
        let digest: Digest = first
            .sha256
            .parse()
            .map_err(|_| EvidenceError::UploadId(first.sha256.chars().take(80).collect()))?;
        if first.size_bytes > self.size_bytes_max {
            return Err(EvidenceError::TooLarge {
                limit: self.size_bytes_max,
            });
        }
        store.check_room()?;
        let name = partial_name(&["copy", from, &digest.to_string()]);
        // A copy always begins at its beginning.
        store.partials().remove(&name).await?;
        let mut partial = store.partials().open_partial(&name).await?;
        partial.append(first.data, first.size_bytes).await?;
        while let Some(chunk) = chunks.try_next().await.map_err(broken)? {
            partial.append(chunk.data, first.size_bytes).await?;
        }
        let found = partial.finish().await?;
        let size_bytes = partial.size_bytes();
        let is_whole = found == digest && size_bytes == first.size_bytes;
        if is_whole {
            store.publish(&name, &digest).await?;
        }
        store.partials().remove(&name).await?;
        match is_whole {
            true => Ok(v1::StatBlobReply {
                present: true,
                size_bytes,
            }),
            false => Err(EvidenceError::Mismatch {
                what: "the SHA-256",
                found: found.to_string(),
                expected: digest.to_string(),
            }),
        }
    }
}

#[tonic::async_trait]
impl PeerService for Peers {
    async fn forward(
        &self,
        request: Request<v1::ForwardRequest>,
    ) -> Result<Response<v1::ForwardReply>, Status> {
        self.check(&request, &request.get_ref().cluster_id)?;
        let envelope = Envelope::decode(&request.get_ref().envelope).map_err(|error| ApiError::Invalid {
            field: "envelope",
            problem: error.to_string(),
        })?;
        // Here and no further: a node that does not lead says so, and the sender looks for who does.
        let result = match self.control.raft().propose(envelope).await {
            Ok((index, reply)) => Forwarded::Applied(v1::Forwarded {
                index,
                reply: reply.encode().into(),
            }),
            Err(error) => Forwarded::Error(forward_error(&error)),
        };
        Ok(Response::new(v1::ForwardReply { result: Some(result) }))
    }

    async fn reshape(
        &self,
        request: Request<v1::ReshapeRequest>,
    ) -> Result<Response<v1::ReshapeReply>, Status> {
        use v1::reshape_request::Reshape as Asked;

        self.check(&request, &request.get_ref().cluster_id)?;
        let reshape = match request.get_ref().reshape {
            Some(Asked::Add(id)) => Reshape::Add(id),
            Some(Asked::Remove(id)) => Reshape::Remove(id),
            Some(Asked::Lead(id)) => Reshape::Lead(id),
            None => Err(ApiError::Invalid {
                field: "reshape",
                problem: "it asks for no change that this node knows".into(),
            })?,
        };
        let changed = self.control.reshape_here(reshape).await;
        let error = changed.err().map(|error| reshape_error(&error));
        Ok(Response::new(v1::ReshapeReply { error }))
    }

    async fn stat_blob(
        &self,
        request: Request<v1::StatBlobRequest>,
    ) -> Result<Response<v1::StatBlobReply>, Status> {
        self.check(&request, &request.get_ref().cluster_id)?;
        let size = self
            .evidence
            .store()
            .size(&digest(&request.get_ref().sha256)?)
            .await
            .map_err(ApiError::from)?;
        Ok(Response::new(v1::StatBlobReply {
            present: size.is_some(),
            size_bytes: size.unwrap_or(0),
        }))
    }

    type GetBlobStream = BoxStream<'static, Result<v1::BlobChunk, Status>>;

    async fn get_blob(
        &self,
        request: Request<v1::GetBlobRequest>,
    ) -> Result<Response<Self::GetBlobStream>, Status> {
        self.check(&request, &request.get_ref().cluster_id)?;
        let digest = digest(&request.get_ref().sha256)?;
        let store = self.evidence.store();
        let size = store.size(&digest).await.map_err(ApiError::from)?;
        let size_bytes = size.ok_or(ApiError::Evidence(EvidenceError::NotFound(digest)))?;
        let data = store.read(&digest, request.get_ref().offset_bytes, size_bytes);
        let chunks = data
            .map_ok(blob_chunk)
            .map_err(|error| Status::from(ApiError::from(error)));
        let header = v1::BlobChunk {
            sha256: digest.to_string(),
            size_bytes,
            ..blob_chunk(Bytes::new())
        };
        Ok(Response::new(
            futures::stream::once(async { Ok(header) }).chain(chunks).boxed(),
        ))
    }

    async fn put_blob(
        &self,
        request: Request<Streaming<v1::BlobChunk>>,
    ) -> Result<Response<v1::StatBlobReply>, Status> {
        let from = self.member(&request)?;
        let mut chunks = request.into_inner();
        let first = chunks.message().await?.ok_or(ApiError::Invalid {
            field: "sha256",
            problem: "the copy is empty".into(),
        })?;
        self.check_cluster(&first.cluster_id)?;
        let taken = self.take_copy(&from, first, chunks).await;
        Ok(Response::new(taken.map_err(ApiError::from)?))
    }
}

fn blob_chunk(data: Bytes) -> v1::BlobChunk {
    v1::BlobChunk {
        data,
        ..Default::default()
    }
}

fn digest(text: &str) -> Result<Digest, ApiError> {
    text.parse()
        .map_err(|error: engine::id::InvalidId| ApiError::Invalid {
            field: "sha256",
            problem: error.to_string(),
        })
}

fn broken(status: Status) -> EvidenceError {
    EvidenceError::Io {
        what: "read the copy that a peer sends",
        source: std::io::Error::other(status.message().to_owned()),
    }
}

fn forward_error(error: &ProposeError) -> v1::ForwardError {
    let (code, leader) = match error {
        ProposeError::NotLeader { leader } => ("not_leader", leader.unwrap_or(0)),
        ProposeError::Busy => ("busy", 0),
        ProposeError::DiskFull => ("disk_full", 0),
        ProposeError::OutcomeUnknown => ("outcome_unknown", 0),
        ProposeError::TooLarge { .. } => ("too_large", 0),
        ProposeError::Halted => ("halted", 0),
    };
    v1::ForwardError {
        code: code.into(),
        message: error.to_string(),
        leader,
    }
}

fn reshape_error(error: &ReshapeError) -> v1::ForwardError {
    let code = match error {
        ReshapeError::Refused(_) => "refused",
        ReshapeError::Pending(_) => "pending",
        ReshapeError::NotLeader | ReshapeError::Submit(SubmitError::NoLeader) => "not_leader",
        ReshapeError::Submit(SubmitError::Busy | SubmitError::DiskFull { .. }) => "busy",
        ReshapeError::Submit(SubmitError::OutcomeUnknown) => "outcome_unknown",
        ReshapeError::Submit(SubmitError::TooLarge) => "too_large",
        ReshapeError::Submit(SubmitError::Halted) => "halted",
    };
    v1::ForwardError {
        code: code.into(),
        message: error.to_string(),
        leader: 0,
    }
}
