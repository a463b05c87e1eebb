//! What the peers call: who they are is checked here, before anything reaches the replica.

use std::sync::Arc;

use certs::tls::Peer;
use certs::{Role as CertificateRole, SpiffeId};
use engine::id::{Digest, NodeId};
use proto::v1 as wire;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::handle::{Event, RaftConfig, Shared};
use super::message::PeerMessage;
use super::peers::PeerDirectory;
use crate::api::error::CODE_KEY;

/// The stable code of a refusal: who calls was a member and is none any more.
const REMOVED: &str = "removed";
/// Chunks of a snapshot that are read ahead.
const CHUNKS_AHEAD: usize = 2;

/// The service for the peers' listener.
#[derive(Clone)]
pub struct RaftService {
    node_id: u64,
    cluster_id: String,
    directory: PeerDirectory,
    shared: Arc<Shared>,
}

impl RaftService {
    pub(super) fn new(config: &RaftConfig, directory: PeerDirectory, shared: Arc<Shared>) -> RaftService {
        RaftService {
            node_id: config.node_id,
            cluster_id: config.cluster_id.to_string(),
            directory,
            shared,
        }
    }

    /// The raft id of who calls, by the certificate that the handshake verified.
    fn caller<T>(&self, request: &Request<T>) -> Result<u64, Status> {
        let name = coordinator(request)?;
        self.directory.id_of(name.id()).ok_or_else(|| no_member(&name))
    }

    /// Whether a node that knows what is in its frame was a member once, and is none any more. It was in the address
    /// book before it was a member, so this node has seen it there if it has applied as much as that one has committed.
    fn was_removed(&self, frame: &wire::RaftMessages) -> bool {
        let commit = frame.messages.iter().map(|message| message.commit).max();
        let commit = commit.unwrap_or(0);
        let state = self.shared.state.read();
        if state.was_removed(NodeId(frame.from)) {
            return true;
        }
        commit > 0
            && state.applied_index() >= commit
            && state.nodes().next().is_some()
            && state.node(NodeId(frame.from)).is_none()
    }

    fn check_cluster(&self, cluster_id: &str) -> Result<(), Status> {
        if cluster_id != self.cluster_id {
            let message = format!("this is cluster {}, not {cluster_id}", self.cluster_id);
            return Err(Status::failed_precondition(message));
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        *self.shared.stopped.borrow()
    }

    fn take(&self, caller: &SpiffeId, frame: wire::RaftMessages) -> Result<(), Status> {
        self.check_cluster(&frame.cluster_id)?;
        if self.is_stopped() {
            return Err(Status::unavailable("this node has halted"));
        }
        let known = self.directory.id_of(caller.id());
        if known != Some(frame.from) {
            if self.was_removed(&frame) {
                return Err(removed(frame.from));
            }
            // Raft hears whoever has a newer log, member or not: this node may be the one that is behind.
            if !self.directory.hear(frame.from, caller.id(), &frame.from_endpoint) {
                return Err(no_member(caller));
            }
        }
        let caller = frame.from;
        if frame.to != self.node_id {
            let message = format!(
                "node {caller} sent a frame to node {}, but this is node {}",
                frame.to, self.node_id
            );
            return Err(Status::permission_denied(message));
        }
        let mut messages = Vec::with_capacity(frame.messages.len());
        for message in frame.messages {
            if message.from != caller || message.to != self.node_id {
                return Err(Status::permission_denied(
                    "a message from or to another node than its frame's",
                ));
            }
            match PeerMessage::from_wire(message) {
                Ok(message) => messages.push(message),
                Err(error) => return Err(Status::invalid_argument(error.to_string())),
            }
        }
        // A full queue drops them: raft sends again what it still needs.
        let _ = self.shared.send(Event::Messages(messages));
        if let Ok(hash) = <[u8; 32]>::try_from(frame.state_hash.as_ref()) {
            let _ = self.shared.send(Event::PeerHash {
                from: caller,
                index: frame.state_index,
                hash: Digest(hash),
            });
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl wire::raft_service_server::RaftService for RaftService {
    async fn messages(
        &self,
        request: Request<Streaming<wire::RaftMessages>>,
    ) -> Result<Response<wire::RaftMessagesReply>, Status> {
        let caller = coordinator(&request)?;
        let mut frames = request.into_inner();
        while let Some(frame) = frames.message().await? {
            self.take(&caller, frame)?;
        }
        Ok(Response::new(wire::RaftMessagesReply {}))
    }

    type SnapshotStream = ReceiverStream<Result<wire::SnapshotChunk, Status>>;

    async fn snapshot(
        &self,
        request: Request<wire::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let caller = self.caller(&request)?;
        let wanted = request.into_inner();
        self.check_cluster(&wanted.cluster_id)?;
        let (chunks, stream) = mpsc::channel(CHUNKS_AHEAD);
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            let result = send_chunks(&shared, &wanted, |chunk| {
                let _ = shared.send(Event::SnapshotServed(caller));
                chunks.blocking_send(Ok(chunk)).is_ok()
            });
            if let Err(status) = result {
                // The caller may have gone.
                let _ = chunks.blocking_send(Err(status));
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// The coordinator that calls.
fn coordinator<T>(request: &Request<T>) -> Result<SpiffeId, Status> {
    let name = request
        .extensions()
        .get::<Peer>()
        .and_then(|peer| peer.spiffe.clone());
    let name = name.ok_or_else(|| Status::unauthenticated("no certificate"))?;
    match name.role() {
        CertificateRole::Coordinator => Ok(name),
        _ => Err(Status::permission_denied(format!("{name} is no coordinator"))),
    }
}

fn no_member(name: &SpiffeId) -> Status {
    Status::permission_denied(format!("{name} is not a member of this cluster"))
}

fn removed(node: u64) -> Status {
    let mut status = Status::failed_precondition(format!("node {node} was removed from this cluster"));
    let code = MetadataValue::from_static(REMOVED);
    status.metadata_mut().insert(CODE_KEY, code);
    status
}

/// Whether a peer refuses this node because it was removed.
pub(super) fn says_removed(status: &Status) -> bool {
    status
        .metadata()
        .get(CODE_KEY)
        .is_some_and(|code| code == REMOVED)
}

fn send_chunks(
    shared: &Shared,
    wanted: &wire::SnapshotRequest,
    mut send: impl FnMut(wire::SnapshotChunk) -> bool,
) -> Result<(), Status> {
    let gone = || Status::not_found("that snapshot has been replaced by a newer one");
    let internal = |error: crate::storage::StorageError| Status::internal(error.to_string());
    // Taken anew for each piece: a caller that is slow must not keep the folder of a node that has stopped.
    let store = || {
        let store = shared.store.read().clone();
        store.ok_or_else(|| Status::unavailable("this node has stopped"))
    };
    let meta = store()?.meta(wanted.index).map_err(internal)?.ok_or_else(gone)?;
    let mut offset_bytes = wanted.offset_bytes;
    while offset_bytes < meta.size_bytes {
        let data = store()?
            .chunk(wanted.index, offset_bytes)
            .map_err(internal)?
            .ok_or_else(gone)?;
        let next = offset_bytes + data.len() as u64;
        let crc32c = crc32c::crc32c(&data);
        if !send(wire::SnapshotChunk {
            offset_bytes,
            data,
            crc32c,
        }) {
            return Ok(());
        }
        offset_bytes = next;
    }
    Ok(())
}
