//! The way to the other members: one long-lived stream each, and the fetching of snapshots.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use certs::Role as CertificateRole;
use certs::tls::{ClientTls, ConnectOptions};
use engine::id::Digest;
use futures::StreamExt as _;
use parking_lot::RwLock;
use proto::v1 as wire;
use proto::v1::raft_service_client::RaftServiceClient;
use sha2::Digest as _;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};
use tonic::transport::Channel;

use super::handle::{Event, RaftConfig, Shared};
use super::io::{Fetched, Halt, SnapshotWanted};
use super::message::PeerMessage;
use super::transport::says_removed;
use crate::storage::Checkpoint;

/// Batches that wait for a peer's stream. Beyond, they are dropped and raft is told.
const QUEUE_MAX: usize = 512;
/// A batch, and a frame of several, is closed when it has grown beyond this. (One message may be 1 MiB, so a frame stays
/// below 4 MiB; servers take 16 MiB.)
const FRAME_BYTES: usize = 1 << 20;
/// The first pause before another try to connect; doubled up to [`BACKOFF_MAX`], with jitter.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// The largest state that is fetched.
const SNAPSHOT_BYTES_MAX: u64 = 4 << 30;
/// Tries to go on with a snapshot that broke off, without a byte of progress in between.
const SNAPSHOT_TRIES: u32 = 5;
const WINDOW_BYTES: u32 = 4 << 20;

/// Who the members are and where: raft id -> name (as in the certificate) and endpoint. Shared and updatable.
#[derive(Clone)]
pub struct PeerDirectory {
    tls: ClientTls,
    members: Arc<RwLock<BTreeMap<u64, Member>>>,
    /// Those who spoke to this node and are not in the list: added while it was away. What they say is what brings the
    /// list forward, so they are heard and answered; certificates say who they are.
    heard: Arc<RwLock<BTreeMap<u64, Member>>>,
}

#[derive(Clone)]
struct Member {
    name: String,
    endpoint: String,
}

impl PeerDirectory {
    /// From a list of (raft id, name, host:port of the peers' listener).
    pub fn new(tls: ClientTls, members: Vec<(u64, String, String)>) -> PeerDirectory {
        let directory = PeerDirectory {
            tls,
            members: Arc::default(),
            heard: Arc::default(),
        };
        directory.set(members);
        directory
    }

    /// Replaces the list. Streams that stand are not touched; new ones use it.
    pub fn set(&self, members: Vec<(u64, String, String)>) {
        let members = members
            .into_iter()
            .map(|(id, name, endpoint)| (id, Member { name, endpoint }));
        *self.members.write() = members.collect();
        self.heard.write().clear();
    }

    /// Notes a coordinator of this name that speaks as a member which the list does not have (yet). False: the list has
    /// that member by another name, or it does not say where it is.
    pub(super) fn hear(&self, id: u64, name: &str, endpoint: &str) -> bool {
        if self.members.read().contains_key(&id) || endpoint.is_empty() {
            return false;
        }
        let mut heard = self.heard.write();
        let is_new = heard.get(&id).is_none_or(|known| known.endpoint != endpoint);
        if is_new {
            tracing::info!(
                id,
                name,
                endpoint,
                "a member speaks that this node's address book does not have yet"
            );
            let (name, endpoint) = (name.to_owned(), endpoint.to_owned());
            heard.insert(id, Member { name, endpoint });
        }
        true
    }

    fn endpoint_of(&self, id: u64) -> Option<String> {
        Some(self.members.read().get(&id)?.endpoint.clone())
    }

    /// The raft id of the member with this name.
    pub(super) fn id_of(&self, name: &str) -> Option<u64> {
        self.members
            .read()
            .iter()
            .find(|(_, m)| m.name == name)
            .map(|(id, _)| *id)
    }

    async fn connect(&self, id: u64) -> Result<RaftServiceClient<Channel>, String> {
        let member = self.members.read().get(&id).cloned();
        let member = member.or_else(|| self.heard.read().get(&id).cloned());
        let member = member.ok_or_else(|| format!("node {id} is not in the address book"))?;
        let options = ConnectOptions {
            expect_id: Some(member.name),
            stream_window_bytes: Some(WINDOW_BYTES),
            connection_window_bytes: Some(WINDOW_BYTES),
            ..ConnectOptions::default()
        };
        let channel = certs::tls::connect(&member.endpoint, &self.tls, CertificateRole::Coordinator, options)
            .await
            .map_err(|error| error.to_string())?;
        Ok(RaftServiceClient::new(channel))
    }
}

/// What waits for a peer's stream.
struct Batch {
    messages: Vec<PeerMessage>,
    hash: Option<(u64, Digest)>,
}

/// The streams to the peers, on the driver's side.
pub(super) struct Peers {
    config: RaftConfig,
    directory: PeerDirectory,
    shared: Arc<Shared>,
    runtime: Handle,
    streams: HashMap<u64, mpsc::Sender<Batch>>,
    pending: HashMap<u64, Vec<PeerMessage>>,
    hash: Option<(u64, Digest)>,
}

impl Peers {
    pub(super) fn new(
        config: &RaftConfig,
        directory: PeerDirectory,
        shared: Arc<Shared>,
        runtime: Handle,
    ) -> Peers {
        Peers {
            config: config.clone(),
            directory,
            shared,
            runtime,
            streams: HashMap::new(),
            pending: HashMap::new(),
            hash: None,
        }
    }

    /// Gathers messages until [`Peers::flush`].
    pub(super) fn queue(&mut self, messages: Vec<PeerMessage>, hash: Option<(u64, Digest)>) {
        for message in messages {
            self.pending.entry(message.to()).or_default().push(message);
        }
        self.hash = hash.or(self.hash);
    }

    /// Sends what was gathered, one batch for each peer. `dropped` is called for a peer whose queue is full.
    pub(super) fn flush<E>(&mut self, mut dropped: impl FnMut(u64, bool) -> Result<(), E>) -> Result<(), E> {
        let hash = self.hash.take();
        for (to, messages) in std::mem::take(&mut self.pending) {
            let stream = self.streams.entry(to).or_insert_with(|| {
                let (stream, batches) = mpsc::channel(QUEUE_MAX);
                let peer = Peer {
                    to,
                    config: self.config.clone(),
                    directory: self.directory.clone(),
                    shared: Arc::clone(&self.shared),
                };
                self.runtime.spawn(peer.run(batches));
                stream
            });
            for messages in in_parts(messages) {
                let snapshot = messages.iter().any(PeerMessage::is_snapshot);
                if stream.try_send(Batch { messages, hash }).is_err() {
                    dropped(to, snapshot)?;
                }
            }
        }
        Ok(())
    }

    /// Ends the streams to those who are not members any more.
    pub(super) fn keep(&mut self, is_member: impl Fn(u64) -> bool) {
        self.streams.retain(|id, _| is_member(*id));
    }
}

/// The messages in their order, in parts that a frame can hold: to a peer that comes back after a while raft has much
/// to say at once.
fn in_parts(messages: Vec<PeerMessage>) -> Vec<Vec<PeerMessage>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for message in messages {
        if bytes >= FRAME_BYTES {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += message.size_bytes();
        parts.last_mut().expect("one at least").push(message);
    }
    parts
}

/// One peer's stream, on the runtime's side.
struct Peer {
    to: u64,
    config: RaftConfig,
    directory: PeerDirectory,
    shared: Arc<Shared>,
}

impl Peer {
    async fn run(self, batches: mpsc::Receiver<Batch>) {
        let batches = Arc::new(Mutex::new(batches));
        let mut backoff = BACKOFF_MIN;
        let mut told = false;
        loop {
            let error = match self.directory.connect(self.to).await {
                Ok(client) => {
                    tracing::debug!(peer = self.to, "connected");
                    let connected = Instant::now();
                    let error = self.stream(client, Arc::clone(&batches)).await;
                    // A peer that refuses what it is sent does so at once: that is no better than no connection.
                    if connected.elapsed() >= BACKOFF_MAX {
                        (backoff, told) = (BACKOFF_MIN, false);
                    }
                    error
                }
                Err(error) => error,
            };
            if !told {
                tracing::warn!(peer = self.to, %error, "a peer cannot be reached");
                told = true;
            }
            self.unreachable(false);
            let pause = backoff.mul_f64(0.5 + rand::random::<f64>());
            if !self.discard(&batches, pause).await {
                return;
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Feeds the stream until it breaks, and gives the reason.
    async fn stream(
        &self,
        client: RaftServiceClient<Channel>,
        batches: Arc<Mutex<mpsc::Receiver<Batch>>>,
    ) -> String {
        let (cluster_id, from, to) = (self.config.cluster_id.to_string(), self.config.node_id, self.to);
        let directory = self.directory.clone();
        let frames = futures::stream::unfold(batches, move |batches| {
            let cluster_id = cluster_id.clone();
            let from_endpoint = directory.endpoint_of(from).unwrap_or_default();
            async move {
                let mut frame = wire::RaftMessages {
                    cluster_id,
                    from,
                    to,
                    from_endpoint,
                    ..wire::RaftMessages::default()
                };
                let mut bytes = 0;
                let mut queue = batches.lock().await;
                let mut next = queue.recv().await;
                // Everything that waits goes into one frame.
                while let Some(batch) = next {
                    if let Some((index, hash)) = batch.hash {
                        frame.state_index = index;
                        frame.state_hash = Bytes::copy_from_slice(&hash.0);
                    }
                    bytes += batch.messages.iter().map(PeerMessage::size_bytes).sum::<usize>();
                    frame
                        .messages
                        .extend(batch.messages.iter().map(PeerMessage::to_wire));
                    next = if bytes < FRAME_BYTES {
                        queue.try_recv().ok()
                    } else {
                        None
                    };
                }
                drop(queue);
                (!frame.messages.is_empty()).then_some((frame, batches))
            }
        });
        match client
            .max_encoding_message_size(usize::MAX)
            .messages(frames)
            .await
        {
            Ok(_) => "the peer ended the stream".to_owned(),
            Err(status) => {
                if says_removed(&status) {
                    self.shared.halt(Halt::Removed.into());
                }
                status.message().to_owned()
            }
        }
    }

    /// Drops what comes in for some time. False: there is nothing more to come.
    async fn discard(&self, batches: &Mutex<mpsc::Receiver<Batch>>, time: Duration) -> bool {
        let mut queue = batches.lock().await;
        let end = tokio::time::Instant::now() + time;
        loop {
            match tokio::time::timeout_at(end, queue.recv()).await {
                Ok(Some(batch)) => self.unreachable(batch.messages.iter().any(PeerMessage::is_snapshot)),
                Ok(None) => return false,
                Err(_) => return !*self.shared.stopped.borrow(),
            }
        }
    }

    fn unreachable(&self, snapshot: bool) {
        // If the driver's queue is full, raft learns it from the silence.
        let _ = self.shared.send(Event::Unreachable {
            to: self.to,
            snapshot,
        });
    }
}

/// Fetches the snapshot that is wanted, one at a time.
pub(super) struct Fetcher {
    config: RaftConfig,
    directory: PeerDirectory,
    shared: Arc<Shared>,
    runtime: Handle,
    running: Option<tokio::task::AbortHandle>,
}

impl Fetcher {
    pub(super) fn new(
        config: &RaftConfig,
        directory: PeerDirectory,
        shared: Arc<Shared>,
        runtime: Handle,
    ) -> Fetcher {
        Fetcher {
            config: config.clone(),
            directory,
            shared,
            runtime,
            running: None,
        }
    }

    /// Begins, instead of what is being fetched.
    pub(super) fn fetch(&mut self, wanted: SnapshotWanted) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
        let (directory, shared) = (self.directory.clone(), Arc::clone(&self.shared));
        let cluster_id = self.config.cluster_id.to_string();
        let task = self.runtime.spawn(async move {
            let index = wanted.meta.index;
            let event = match fetch(&directory, &cluster_id, &wanted).await {
                Ok(fetched) => {
                    tracing::info!(
                        index,
                        bytes = fetched.checkpoint.meta.size_bytes,
                        "snapshot fetched"
                    );
                    Event::SnapshotArrived(Box::new(fetched))
                }
                Err(error) => {
                    tracing::warn!(index, from = wanted.from, %error, "a snapshot cannot be fetched");
                    Event::SnapshotFailed(index)
                }
            };
            // Must not be lost: wait for room, off the runtime's threads.
            let _ = tokio::task::spawn_blocking(move || shared.events.send(event)).await;
        });
        self.running = Some(task.abort_handle());
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }
}

async fn fetch(
    directory: &PeerDirectory,
    cluster_id: &str,
    wanted: &SnapshotWanted,
) -> Result<Fetched, String> {
    let meta = wanted.meta.clone();
    if meta.size_bytes > SNAPSHOT_BYTES_MAX {
        return Err(format!(
            "it has {} bytes, more than {SNAPSHOT_BYTES_MAX}",
            meta.size_bytes
        ));
    }
    let mut state = Vec::new();
    let mut tries = 0;
    while (state.len() as u64) < meta.size_bytes {
        let before = state.len();
        if let Err(error) = fetch_some(directory, cluster_id, wanted, &mut state).await {
            tries = if state.len() > before { 0 } else { tries + 1 };
            if tries >= SNAPSHOT_TRIES {
                return Err(error);
            }
            tokio::time::sleep(BACKOFF_MIN * 2u32.pow(tries)).await;
        }
    }
    // Hashing and decoding a large state take a while.
    let decode = move || {
        let sha256: [u8; 32] = sha2::Sha256::digest(&state).into();
        if sha256 != meta.sha256 {
            return Err("its bytes do not match the announced hash".to_owned());
        }
        let decoded = engine::State::decode(&state).map_err(|error| error.to_string())?;
        Ok(Fetched {
            state: decoded,
            checkpoint: Checkpoint {
                meta,
                state: state.into(),
            },
        })
    };
    tokio::task::spawn_blocking(decode)
        .await
        .map_err(|error| error.to_string())?
}

/// Appends to `state` until it is whole or the stream breaks.
async fn fetch_some(
    directory: &PeerDirectory,
    cluster_id: &str,
    wanted: &SnapshotWanted,
    state: &mut Vec<u8>,
) -> Result<(), String> {
    let mut client = directory.connect(wanted.from).await?;
    let request = wire::SnapshotRequest {
        cluster_id: cluster_id.to_owned(),
        index: wanted.meta.index,
        offset_bytes: state.len() as u64,
    };
    let mut chunks = client
        .snapshot(request)
        .await
        .map_err(|status| status.message().to_owned())?
        .into_inner();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|status| status.message().to_owned())?;
        if chunk.offset_bytes != state.len() as u64 || crc32c::crc32c(&chunk.data) != chunk.crc32c {
            return Err("a chunk is damaged or out of order".to_owned());
        }
        if state.len() as u64 + chunk.data.len() as u64 > wanted.meta.size_bytes {
            return Err("it is longer than announced".to_owned());
        }
        state.extend_from_slice(&chunk.data);
    }
    if (state.len() as u64) < wanted.meta.size_bytes {
        return Err("the stream ended early".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::{Entry, Message};

    use super::*;

    #[test]
    fn what_is_said_at_once_goes_in_parts_that_a_peer_takes() {
        let message = |index: u64| {
            let entry = Entry {
                data: vec![0; 512 << 10].into(),
                ..Entry::default()
            };
            PeerMessage(Message {
                index,
                entries: vec![entry].into(),
                ..Message::default()
            })
        };
        let parts = in_parts((0..256).map(message).collect());
        let order: Vec<u64> = parts.iter().flatten().map(|message| message.0.index).collect();
        assert_eq!(order, (0..256).collect::<Vec<_>>());
        for part in parts {
            let bytes: usize = part.iter().map(PeerMessage::size_bytes).sum();
            assert!(bytes <= 2 * FRAME_BYTES, "{bytes}");
        }
    }
}
