//! The rest of the coordinator's view of replication.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use engine::id::Digest;
use engine::{Command, Effect, Envelope, Reply, State, Timestamp};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{broadcast, oneshot, watch};

use super::io::{Fetched, Halted, Refused, Role};
use super::membership::{Change, ChangeRefused};
use super::message::PeerMessage;
use crate::storage::{CheckpointMeta, CheckpointStore, DiskLimits, StorageError};

/// Proposals of this node that wait for their outcome. More are refused as busy.
pub const PROPOSALS_MAX: usize = 8_192;
/// Events that wait for the driver. Beyond: proposals are refused, peers' messages dropped.
pub(super) const EVENTS_MAX: usize = 32_768;
/// Applied entries whose effects a slow listener may fall behind.
pub(super) const EFFECTS_MAX: usize = 4_096;

/// Times that a voter is asked to take over leadership, one election timeout apart.
const TRANSFER_TRIES: u32 = 3;
/// Raft counts the election timeout in ticks of its own.
const TRANSFER_SLACK: Duration = Duration::from_millis(100);

/// How a node replicates.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// The raft id, from 1, never used before for another node.
    pub node_id: u64,
    /// The cluster's id.
    pub cluster_id: uuid::Uuid,
    /// Where the log and the checkpoint are. Made if it is not there.
    pub data_dir: PathBuf,
    /// The founding members, at the first start of one of them; None: this node joins a cluster that stands.
    pub bootstrap_voters: Option<Vec<u64>>,
    /// Length of a tick.
    pub tick_ms: u64,
    /// Ticks without a leader before an election.
    pub election_ticks: usize,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: usize,
    /// Of each segment of the log.
    pub segment_bytes: usize,
    /// Entries since the last checkpoint that ask for a new one.
    pub checkpoint_entries: u64,
    /// Bytes since the last checkpoint that ask for a new one.
    pub checkpoint_bytes: u64,
    /// Entries below a checkpoint that are kept for followers that lag a little.
    pub retained_entries: u64,
    /// Entries between two comparisons of the replicas' states; 0: none.
    pub hash_entries: u64,
    /// How full the disk may be.
    pub disk: DiskLimits,
}

impl RaftConfig {
    /// The defaults.
    pub fn new(
        node_id: u64,
        cluster_id: uuid::Uuid,
        data_dir: PathBuf,
        bootstrap_voters: Option<Vec<u64>>,
    ) -> RaftConfig {
        RaftConfig {
            node_id,
            cluster_id,
            data_dir,
            bootstrap_voters,
            tick_ms: 50,
            election_ticks: 10,
            heartbeat_ticks: 2,
            segment_bytes: 16 << 20,
            checkpoint_entries: 100_000,
            checkpoint_bytes: 64 << 20,
            retained_entries: 10_000,
            hash_entries: 4_096,
            disk: DiskLimits::default(),
        }
    }

    /// One election timeout.
    pub fn election_timeout(&self) -> Duration {
        Duration::from_millis(self.tick_ms * self.election_ticks as u64)
    }
}

/// Why a proposal was not applied, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not proposed: this node does not lead.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, if known.
        leader: Option<u64>,
    },
    /// Not proposed: more is under way than the disks take.
    #[error("too much is under way")]
    Busy,
    /// Not proposed: a new run, and too little of this node's disk is free (R69).
    #[error("too little of the disk is free for a new run")]
    DiskFull,
    /// It may be applied later, or never.
    #[error("leadership was lost while it was under way")]
    OutcomeUnknown,
    /// Not proposed.
    #[error("the command takes {size_bytes} bytes; an entry has at most {limit_bytes}")]
    TooLarge {
        /// Of the encoded entry.
        size_bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// This node has stopped.
    #[error("this node has halted")]
    Halted,
}

/// Why a read cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader could be asked in time.
    #[error("no leader answered")]
    NoLeader,
    /// Too many reads wait.
    #[error("too much is under way")]
    Busy,
    /// This node has stopped.
    #[error("this node has halted")]
    Halted,
}

/// What this node still knows of how its state came about.
#[derive(Debug)]
pub struct History {
    /// The state as of the oldest checkpoint behind which no entry is missing: [`State::encode`].
    pub base: Bytes,
    /// The bytes of each entry behind it that is applied here, in order; empty where it has no command.
    pub entries: Vec<(u64, Bytes)>,
}

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// Too much is under way, or this node has stopped.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why a membership change was not made, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// It cannot be made.
    #[error(transparent)]
    Refused(#[from] ChangeRefused),
    /// As for any proposal.
    #[error(transparent)]
    Proposal(#[from] ProposeError),
}

/// Why leadership was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Only the leader can.
    #[error("this node does not lead; node {leader:?} does")]
    NotLeader {
        /// Who does, if known.
        leader: Option<u64>,
    },
    /// It did not take over in time.
    #[error("node {0} did not take over, though asked several times: is it a voter, up, and caught up?")]
    Timeout(u64),
    /// This node has stopped.
    #[error("this node has halted")]
    Halted,
}

/// What a node knows of replication.
#[derive(Clone, Debug, Default)]
pub struct RaftStatus {
    /// This node.
    pub id: u64,
    /// Who leads, if known.
    pub leader: Option<u64>,
    /// The present term.
    pub term: u64,
    /// The greatest index known to be committed.
    pub committed: u64,
    /// The greatest index applied here.
    pub applied: u64,
    /// The first index that the log still holds.
    pub first_index: u64,
    /// The index of the last durable checkpoint.
    pub checkpoint: u64,
    /// The last hash over the state: (as of this index, the hash).
    pub state_hash: Option<(u64, Digest)>,
    /// Every member but this one.
    pub peers: Vec<PeerStatus>,
}

impl RaftStatus {
    /// Who could lead best after this node, which leads now.
    pub fn heir(&self) -> Option<u64> {
        let heirs = self
            .peers
            .iter()
            .filter(|peer| peer.id != self.id && peer.is_voter && peer.recently_active);
        heirs.max_by_key(|peer| peer.matched).map(|peer| peer.id)
    }
}

/// Another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its raft id.
    pub id: u64,
    /// The greatest index it is known to hold durably. 0 unless this node leads.
    pub matched: u64,
    /// It votes.
    pub is_voter: bool,
    /// It only listens.
    pub is_learner: bool,
    /// Heard of within an election timeout. False unless this node leads.
    pub recently_active: bool,
}

/// Who waits for a proposal.
pub(super) type ProposalReply = oneshot::Sender<Result<(u64, Reply), ProposeError>>;

/// Everything that reaches the driver.
pub(super) enum Event {
    Wake,
    Propose {
        at: Timestamp,
        envelope: Box<Envelope>,
        reply: ProposalReply,
    },
    Read(oneshot::Sender<Result<u64, ReadError>>),
    Change(Change, oneshot::Sender<Result<(), ChangeError>>),
    Transfer(u64),
    Messages(Vec<PeerMessage>),
    PeerHash {
        from: u64,
        index: u64,
        hash: Digest,
    },
    Unreachable {
        to: u64,
        snapshot: bool,
    },
    SnapshotServed(u64),
    SnapshotArrived(Box<Fetched>),
    SnapshotFailed(u64),
    CheckpointDurable(CheckpointMeta),
    Entries(oneshot::Sender<Vec<(u64, Bytes)>>),
}

/// What the driver and its handles share.
pub(super) struct Shared {
    pub(super) events: SyncSender<Event>,
    pub(super) state: Arc<RwLock<State>>,
    pub(super) role: watch::Sender<Role>,
    pub(super) applied: watch::Sender<u64>,
    pub(super) effects: broadcast::Sender<Arc<Vec<Effect>>>,
    pub(super) halted: watch::Sender<Option<Halted>>,
    pub(super) stopped: watch::Sender<bool>,
    pub(super) stop: AtomicBool,
    pub(super) started: Instant,
    /// Milliseconds since `started` until which the lease holds.
    pub(super) lease_until_ms: AtomicU64,
    pub(super) proposals: AtomicUsize,
    /// Too little is free for new runs.
    pub(super) disk_is_short: AtomicBool,
    pub(super) status: Mutex<RaftStatus>,
    /// None once this node has stopped: the folder is free then, whoever still holds a service.
    pub(super) store: RwLock<Option<CheckpointStore>>,
    pub(super) election_timeout: Duration,
}

impl Shared {
    pub(super) fn send(&self, event: Event) -> Result<(), TrySendError<Event>> {
        self.events.try_send(event)
    }

    /// Ends this node's replication, for the first reason that is given.
    pub(super) fn halt(&self, why: Halted) {
        self.halted.send_if_modified(|halted| {
            let first = halted.is_none();
            if first {
                tracing::error!(reason = %why.reason, "this node halts");
                *halted = Some(why);
            }
            first
        });
        // If the queue is full the driver is awake, and looks at the reason anyway.
        let _ = self.send(Event::Wake);
    }

    fn is_halted(&self) -> bool {
        self.halted.borrow().is_some() || *self.stopped.borrow()
    }
}

/// A node's replication. Cheap to clone.
#[derive(Clone)]
pub struct RaftHandle {
    pub(super) shared: Arc<Shared>,
}

impl fmt::Debug for RaftHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftHandle")
            .field("role", &*self.shared.role.borrow())
            .finish_non_exhaustive()
    }
}

impl RaftHandle {
    /// Puts a command into the log and gives the index and the reply once it is applied here. On the leader
    /// only; the entry is stamped with this node's clock.
    pub async fn propose(&self, envelope: Envelope) -> Result<(u64, Reply), ProposeError> {
        let shared = &self.shared;
        if shared.is_halted() {
            return Err(ProposeError::Halted);
        }
        let starts_run = matches!(envelope.command, Command::StartRun(_));
        if starts_run && !self.has_room_for_runs() {
            return Err(ProposeError::DiskFull);
        }
        let _slot = Slot::take(&shared.proposals).ok_or(ProposeError::Busy)?;
        let (reply, outcome) = oneshot::channel();
        let event = Event::Propose {
            at: now(),
            envelope: Box::new(envelope),
            reply,
        };
        shared.send(event).map_err(|error| match error {
            TrySendError::Full(_) => ProposeError::Busy,
            TrySendError::Disconnected(_) => ProposeError::Halted,
        })?;
        // The driver ended with the proposal under way: it may be in the log.
        outcome.await.unwrap_or(Err(ProposeError::OutcomeUnknown))
    }

    /// Gives an index once this node has applied everything that was committed when this was called, on any node.
    pub async fn read_index(&self) -> Result<u64, ReadError> {
        if self.shared.is_halted() {
            return Err(ReadError::Halted);
        }
        let (reply, outcome) = oneshot::channel();
        self.shared
            .send(Event::Read(reply))
            .map_err(|error| match error {
                TrySendError::Full(_) => ReadError::Busy,
                TrySendError::Disconnected(_) => ReadError::Halted,
            })?;
        outcome.await.unwrap_or(Err(ReadError::Halted))
    }

    /// The log as far as this node keeps it, from the oldest checkpoint on that it continues. Waits for the disk.
    pub async fn history(&self) -> Result<History, HistoryError> {
        let (reply, entries) = oneshot::channel();
        self.shared
            .send(Event::Entries(reply))
            .map_err(|error| match error {
                TrySendError::Full(_) => ReadError::Busy,
                TrySendError::Disconnected(_) => ReadError::Halted,
            })?;
        let mut entries = entries.await.map_err(|_gone| ReadError::Halted)?;
        let store = self.shared.store.read().clone().ok_or(ReadError::Halted)?;
        let from = entries.first().map_or(0, |(first, _)| first - 1);
        let checkpoint = tokio::task::spawn_blocking(move || store.load_from(from))
            .await
            .map_err(|_gone| ReadError::Halted)??
            .ok_or(ReadError::Halted)?;
        entries.retain(|(index, _)| *index > checkpoint.meta.index);
        let base = checkpoint.state;
        Ok(History { base, entries })
    }

    /// Looks at this node's applied state. Apply waits meanwhile: short closures only.
    pub fn with_state<R>(&self, f: impl FnOnce(&State) -> R) -> R {
        f(&self.shared.state.read())
    }

    /// The last applied index.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.shared.applied.subscribe()
    }

    /// The effects of every command applied from now on. Sent before the proposer is answered.
    pub fn effects(&self) -> broadcast::Receiver<Arc<Vec<Effect>>> {
        self.shared.effects.subscribe()
    }

    /// What this node is.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.shared.role.subscribe()
    }

    /// Whether this node has heard of its leader (or, leading, of a majority) within the last election timeout.
    pub fn has_lease(&self) -> bool {
        let shared = &self.shared;
        let now_ms = shared.started.elapsed().as_millis() as u64;
        !shared.is_halted() && now_ms < shared.lease_until_ms.load(Ordering::Acquire)
    }

    /// Whether the disk of the data folder has room for new runs.
    pub fn has_room_for_runs(&self) -> bool {
        !self.shared.disk_is_short.load(Ordering::Relaxed)
    }

    /// What this node knows; at most a tick old.
    pub fn status(&self) -> RaftStatus {
        self.shared.status.lock().clone()
    }

    /// Changes the membership by one step and returns when the change is applied here. On the leader only.
    pub async fn change_membership(&self, change: Change) -> Result<(), ChangeError> {
        let (reply, outcome) = oneshot::channel();
        self.shared
            .send(Event::Change(change, reply))
            .map_err(|error| match error {
                TrySendError::Full(_) => ProposeError::Busy,
                TrySendError::Disconnected(_) => ProposeError::Halted,
            })?;
        outcome.await.unwrap_or(Err(ProposeError::OutcomeUnknown.into()))
    }

    /// Hands leadership to a voter and returns when it leads. On the leader only.
    pub async fn transfer_leader(&self, to: u64) -> Result<(), TransferError> {
        let mut role = self.shared.role.subscribe();
        let Role {
            leader, is_leader, ..
        } = *role.borrow();
        if leader == Some(to) {
            return Ok(());
        }
        if !is_leader {
            return Err(TransferError::NotLeader { leader });
        }
        // A voter that has not applied its own promotion yet, or is not up, lets the first request pass; raft gives
        // it up after an election timeout.
        for _ in 0..TRANSFER_TRIES {
            self.shared
                .send(Event::Transfer(to))
                .map_err(|_| TransferError::Halted)?;
            let taken = role.wait_for(|role| role.leader == Some(to));
            match tokio::time::timeout(self.shared.election_timeout + TRANSFER_SLACK, taken).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(_)) => return Err(TransferError::Halted),
                Err(_) => {}
            }
        }
        Err(TransferError::Timeout(to))
    }

    /// Resolves with the reason when this node can no longer replicate: the process must end. Never resolves
    /// after a clean stop.
    pub async fn halted(&self) -> Halted {
        let mut halted = self.shared.halted.subscribe();
        let reason = halted
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    /// Stops replicating; what was handed to the disk is written. Returns when the folder is free.
    pub async fn shutdown(self) {
        self.shared.stop.store(true, Ordering::Release);
        // If the queue is full the driver looks at the flag anyway, at its next tick.
        let _ = self.shared.send(Event::Wake);
        let mut stopped = self.shared.stopped.subscribe();
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }
}

/// One proposal under way.
struct Slot<'a>(&'a AtomicUsize);

impl<'a> Slot<'a> {
    fn take(count: &'a AtomicUsize) -> Option<Slot<'a>> {
        if count.fetch_add(1, Ordering::Relaxed) >= PROPOSALS_MAX {
            count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Slot(count))
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl From<Refused> for ProposeError {
    fn from(refused: Refused) -> ProposeError {
        match refused {
            Refused::NotLeader { leader } => ProposeError::NotLeader { leader },
            Refused::Busy | Refused::Change(_) => ProposeError::Busy,
            Refused::TooLarge {
                size_bytes,
                limit_bytes,
            } => ProposeError::TooLarge {
                size_bytes,
                limit_bytes,
            },
            Refused::OutcomeUnknown => ProposeError::OutcomeUnknown,
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(since.as_millis() as u64)
}
