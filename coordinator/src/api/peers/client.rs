//! Asking other coordinators. One connection per node, made when it is first needed and again after it
//! failed; replication has connections of its own, so that a large copy never delays a heartbeat.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certs::tls::{ClientTls, ConnectOptions};
use engine::command::NodeInfo;
use engine::id::{Digest, NodeId};
use engine::{Envelope, Reply};
use futures::{Stream, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use proto::v1;
use proto::v1::peer_service_client::PeerServiceClient;
use tonic::transport::Channel;

use crate::api::limits;
use crate::reshape::{Reshape, ReshapeError};

/// How long a connection to a peer may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the leader may take over a forwarded command.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a question that reads no content may take.
const STAT_TIMEOUT: Duration = Duration::from_secs(5);

/// The way to the other coordinators. Cheap to clone.
#[derive(Clone)]
pub struct PeerClients {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeId,
    cluster: uuid::Uuid,
    tls: ClientTls,
    book: Mutex<HashMap<NodeId, NodeInfo>>,
    channels: Mutex<HashMap<NodeId, (String, Channel)>>,
}

/// Why a forwarded command was not carried out, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The node asked does not lead.
    #[error("that node does not lead")]
    NotLeader,
    /// The leader takes no more for now.
    #[error("the leader is busy")]
    Busy,
    /// The leader's disk has no room for new runs.
    #[error("too little of the leader's disk is free for a new run")]
    DiskFull,
    /// It may have been carried out.
    #[error("the outcome is unknown: {0}")]
    OutcomeUnknown(String),
    /// Nothing was sent.
    #[error("the leader cannot be reached: {0}")]
    Unreachable(String),
    /// Larger than an entry may be.
    #[error("larger than a log entry may be")]
    TooLarge,
    /// The node asked has stopped.
    #[error("that node has halted")]
    Halted,
}

/// Why a peer did not answer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// No such node in the address book.
    #[error("node {0} is not in the address book")]
    Unknown(u64),
    /// No connection.
    #[error("cannot connect to {endpoint}: {problem}")]
    Connect {
        /// Where.
        endpoint: String,
        /// Why not.
        problem: String,
    },
    /// It answered with an error.
    #[error("{}", .0.message())]
    Status(Box<tonic::Status>),
    /// It answered something that makes no sense.
    #[error("{0}")]
    Answer(String),
}

impl From<tonic::Status> for PeerError {
    fn from(status: tonic::Status) -> Self {
        PeerError::Status(Box::new(status))
    }
}

impl PeerClients {
    /// With the members that are known so far.
    pub fn new(node: NodeId, cluster: uuid::Uuid, tls: ClientTls, members: &[NodeInfo]) -> PeerClients {
        let clients = PeerClients {
            inner: Arc::new(Inner {
                node,
                cluster,
                tls,
                book: Mutex::default(),
                channels: Mutex::default(),
            }),
        };
        clients.replace_book(members.iter().cloned());
        clients
    }

    /// Takes the members' addresses from now on from here.
    pub fn replace_book(&self, members: impl Iterator<Item = NodeInfo>) {
        *self.inner.book.lock() = members.map(|member| (member.node, member)).collect();
    }

    /// The other members, nearest in id behind this node first, so that copies spread evenly.
    pub fn others(&self) -> Vec<NodeId> {
        let this = self.inner.node;
        let mut others: Vec<_> = self
            .inner
            .book
            .lock()
            .keys()
            .copied()
            .filter(|node| *node != this)
            .collect();
        others.sort_unstable();
        let behind = others.partition_point(|node| *node < this);
        others.rotate_left(behind);
        others
    }

    /// Which of the others answer a small question within this time.
    pub async fn answering(&self, within: Duration) -> HashSet<NodeId> {
        let nothing = Digest([0; 32]);
        let asked = self.others().into_iter().map(async |node| {
            let answer = tokio::time::timeout(within, self.stat_blob(node, &nothing)).await;
            matches!(answer, Ok(Ok(_))).then_some(node)
        });
        let answers = futures::future::join_all(asked).await;
        answers.into_iter().flatten().collect()
    }

    /// Proposes on the leader.
    pub async fn forward(&self, leader: NodeId, envelope: &Envelope) -> Result<(u64, Reply), ForwardError> {
        let mut client = self
            .client(leader)
            .await
            .map_err(|error| ForwardError::Unreachable(error.to_string()))?;
        let mut request = tonic::Request::new(v1::ForwardRequest {
            cluster_id: self.inner.cluster.to_string(),
            envelope: envelope.encode().into(),
        });
        request.set_timeout(FORWARD_TIMEOUT);
        let answer = match client.forward(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                self.forget(leader);
                return Err(ForwardError::OutcomeUnknown(status.message().to_owned()));
            }
        };
        match answer.result {
            Some(v1::forward_reply::Result::Applied(applied)) => match Reply::decode(&applied.reply) {
                Ok(reply) => Ok((applied.index, reply)),
                Err(error) => Err(ForwardError::OutcomeUnknown(format!(
                    "the leader's reply is not readable: {error}"
                ))),
            },
            Some(v1::forward_reply::Result::Error(error)) => Err(forward_error(error)),
            None => Err(ForwardError::OutcomeUnknown(
                "the leader's answer is empty".into(),
            )),
        }
    }

    /// Has the leader make a change of the cluster's shape. The inner error is the leader's own decision.
    pub async fn reshape(
        &self,
        leader: NodeId,
        reshape: Reshape,
    ) -> Result<Result<(), ReshapeError>, ForwardError> {
        use v1::reshape_request::Reshape as Asked;

        let mut client = self
            .client(leader)
            .await
            .map_err(|error| ForwardError::Unreachable(error.to_string()))?;
        let mut request = tonic::Request::new(v1::ReshapeRequest {
            cluster_id: self.inner.cluster.to_string(),
            reshape: Some(match reshape {
                Reshape::Add(id) => Asked::Add(id),
                Reshape::Remove(id) => Asked::Remove(id),
                Reshape::Lead(id) => Asked::Lead(id),
            }),
        });
        request.set_timeout(FORWARD_TIMEOUT);
        let answer = client.reshape(request).await.map_err(|status| {
            self.forget(leader);
            ForwardError::OutcomeUnknown(status.message().to_owned())
        })?;
        match answer.into_inner().error {
            None => Ok(Ok(())),
            Some(error) if error.code == "refused" => Ok(Err(ReshapeError::Refused(error.message))),
            Some(error) if error.code == "pending" => Ok(Err(ReshapeError::Pending(error.message))),
            Some(error) => Err(forward_error(error)),
        }
    }

    /// The size of an object there, if it is.
    pub async fn stat_blob(&self, node: NodeId, digest: &Digest) -> Result<Option<u64>, PeerError> {
        let mut client = self.client(node).await?;
        let mut request = tonic::Request::new(v1::StatBlobRequest {
            cluster_id: self.inner.cluster.to_string(),
            sha256: digest.to_string(),
        });
        request.set_timeout(STAT_TIMEOUT);
        let answer = self.answered(node, client.stat_blob(request).await)?;
        Ok(answer.present.then_some(answer.size_bytes))
    }

    /// The content of an object there, from an offset, unverified.
    pub async fn get_blob(
        &self,
        node: NodeId,
        digest: &Digest,
        offset_bytes: u64,
    ) -> Result<impl Stream<Item = Result<Bytes, PeerError>> + Send + use<>, PeerError> {
        let mut client = self.client(node).await?;
        let request = v1::GetBlobRequest {
            cluster_id: self.inner.cluster.to_string(),
            sha256: digest.to_string(),
            offset_bytes,
        };
        let stream = self.answered(node, client.get_blob(request).await)?;
        Ok(stream.map_ok(|chunk| chunk.data).map_err(PeerError::from))
    }

    /// Copies an object there. The other side hashes it and keeps it durably before it answers.
    pub async fn put_blob<E: std::fmt::Display + Send + 'static>(
        &self,
        node: NodeId,
        digest: &Digest,
        size_bytes: u64,
        data: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Result<(), PeerError> {
        let mut client = self.client(node).await?;
        let problem = Arc::new(Mutex::new(None));
        let header = v1::BlobChunk {
            cluster_id: self.inner.cluster.to_string(),
            sha256: digest.to_string(),
            size_bytes,
            data: Bytes::new(),
        };
        let chunks = {
            let problem = problem.clone();
            // A copy that cannot be read here ends the stream early, which the other side refuses as short.
            let data = data.map(|chunk| chunk.map_err(|error| error.to_string()));
            futures::stream::once(async { header }).chain(data.scan((), move |(), chunk| {
                let next = match chunk {
                    Ok(data) => Some(v1::BlobChunk {
                        data,
                        ..Default::default()
                    }),
                    Err(error) => {
                        *problem.lock() = Some(error);
                        None
                    }
                };
                async { next }
            }))
        };
        let answered = client.put_blob(chunks).await;
        if let Some(problem) = problem.lock().take() {
            return Err(PeerError::Answer(format!(
                "this node's own copy cannot be read: {problem}"
            )));
        }
        let answer = self.answered(node, answered)?;
        if answer.present && answer.size_bytes == size_bytes {
            return Ok(());
        }
        Err(PeerError::Answer("it did not keep the copy".into()))
    }

    async fn client(&self, node: NodeId) -> Result<PeerServiceClient<Channel>, PeerError> {
        let endpoint = match self.inner.book.lock().get(&node) {
            Some(member) => member.peer_endpoint.clone(),
            None => return Err(PeerError::Unknown(node.0)),
        };
        let known = self
            .inner
            .channels
            .lock()
            .get(&node)
            .filter(|(at, _)| *at == endpoint)
            .map(|(_, channel)| channel.clone());
        let channel = match known {
            Some(channel) => channel,
            None => {
                let options = ConnectOptions {
                    connect_timeout: CONNECT_TIMEOUT,
                    ..ConnectOptions::default()
                };
                let connected =
                    certs::tls::connect(&endpoint, &self.inner.tls, certs::Role::Coordinator, options).await;
                let channel = connected.map_err(|error| PeerError::Connect {
                    endpoint: endpoint.clone(),
                    problem: error.to_string(),
                })?;
                self.inner
                    .channels
                    .lock()
                    .insert(node, (endpoint, channel.clone()));
                channel
            }
        };
        Ok(PeerServiceClient::new(channel)
            .max_decoding_message_size(limits::PEER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::PEER_MESSAGE_BYTES_MAX))
    }

    /// A connection that failed is not used again.
    fn forget(&self, node: NodeId) {
        self.inner.channels.lock().remove(&node);
    }

    fn answered<T>(
        &self,
        node: NodeId,
        answer: Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, PeerError> {
        match answer {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => {
                if matches!(
                    status.code(),
                    tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled
                ) {
                    self.forget(node);
                }
                Err(status.into())
            }
        }
    }
}

fn forward_error(error: v1::ForwardError) -> ForwardError {
    match error.code.as_str() {
        "not_leader" => ForwardError::NotLeader,
        "busy" => ForwardError::Busy,
        "disk_full" => ForwardError::DiskFull,
        "too_large" => ForwardError::TooLarge,
        "halted" => ForwardError::Halted,
        _ => ForwardError::OutcomeUnknown(error.message),
    }
}
