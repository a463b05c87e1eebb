//! The one door: every API proposes, reads and watches through here, on whichever node it runs.
//!
//! A proposal is made locally on the leader and forwarded to it elsewhere. It is tried again until a
//! deadline while nothing is known to have been proposed; once an outcome is unknown it is tried again
//! only when that is harmless: with a request id the state answers a repeat with the first reply, and
//! some commands are the same done twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use engine::effect::Effect;
use engine::id::{NodeId, RequestId};
use engine::{Command, Envelope, Reply, State};
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::api::peers::client::{ForwardError, PeerClients};
use crate::raft::{ProposeError, RaftHandle, ReadError};

/// How long a proposal is tried before its sender is told.
pub const SUBMIT_DEADLINE: Duration = Duration::from_secs(10);
/// How long a linearizable read is tried.
pub const QUERY_DEADLINE: Duration = Duration::from_secs(5);
/// Proposals of this node that may be under way at once.
pub const IN_FLIGHT_MAX: usize = 4_096;
/// The pause before a refused proposal is tried again, unless the leader changes before.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The door. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeId,
    raft: RaftHandle,
    peers: PeerClients,
    in_flight: AtomicUsize,
}

/// Why a command was not committed, as far as its sender can know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// This node or the leader has as much under way as it takes.
    #[error("the cluster is busy: more is proposed than its disks take")]
    Busy,
    /// Too little of a node's disk is free for new runs (R69): of the one that was asked, or of the leader.
    /// Nothing was proposed.
    #[error("so little of the disk of {node} is free that no new run is started")]
    DiskFull {
        /// Its name.
        node: String,
    },
    /// No leader was found in time; nothing was proposed.
    #[error("the cluster has no leader that this node can reach")]
    NoLeader,
    /// It may or may not have been committed.
    #[error("the leader was lost while the command was under way: it may have been carried out")]
    OutcomeUnknown,
    /// Larger than an entry may be.
    #[error("the command is larger than a log entry may be")]
    TooLarge,
    /// This node has stopped applying.
    #[error("this node has halted")]
    Halted,
}

/// Why the state could not be read linearizably.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// No leader answered in time.
    #[error("the cluster has no leader that this node can reach")]
    NoLeader,
    /// This node has stopped applying.
    #[error("this node has halted")]
    Halted,
}

impl Control {
    /// Over this node's raft and the way to the other nodes.
    pub fn new(node: NodeId, raft: RaftHandle, peers: PeerClients) -> Control {
        Control {
            inner: Arc::new(Inner {
                node,
                raft,
                peers,
                in_flight: AtomicUsize::new(0),
            }),
        }
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// This node's raft, for who needs more than the door.
    pub fn raft(&self) -> &RaftHandle {
        &self.inner.raft
    }

    /// The way to the other nodes.
    pub(crate) fn peers(&self) -> &PeerClients {
        &self.inner.peers
    }

    /// Commits a command and gives the index and the reply, wherever the leader is. A refusal is a reply.
    pub async fn submit(&self, mut envelope: Envelope) -> Result<(u64, Reply), SubmitError> {
        let _slot = self.slot()?;
        if envelope.request.is_none() && !is_idempotent(&envelope.command) {
            envelope.request = Some(RequestId(uuid::Uuid::now_v7()));
        }
        let deadline = Instant::now() + SUBMIT_DEADLINE;
        let mut role = self.inner.raft.role();
        let mut last = SubmitError::NoLeader;
        loop {
            let (leader, is_leader) = {
                let role = role.borrow_and_update();
                (role.leader, role.is_leader)
            };
            let tried = match leader {
                _ if is_leader => Some(self.propose(envelope.clone()).await),
                Some(leader) => Some(tokio::select! {
                    forwarded = self.forward(NodeId(leader), &envelope) => forwarded,
                    // A leader that was cut off would be waited for in vain.
                    _moved = role.wait_for(|role| role.leader != Some(leader)) => Err(Tried::Again(SubmitError::OutcomeUnknown)),
                }),
                None => None,
            };
            match tried {
                Some(Ok(done)) => return Ok(done),
                Some(Err(Tried::Final(error))) => return Err(error),
                Some(Err(Tried::Again(error))) => last = error,
                None => {}
            }
            if Instant::now() >= deadline {
                return Err(last);
            }
            // Whatever comes first: another leader, or a pause after which the same one is asked again.
            tokio::select! {
                changed = role.changed() => changed.map_err(|_| SubmitError::Halted)?,
                () = tokio::time::sleep(RETRY_PAUSE) => {}
            }
        }
    }

    /// Reads the state as it is at the call or later, on any node.
    pub async fn query<R>(&self, read: impl FnOnce(&State) -> R) -> Result<R, QueryError> {
        let deadline = Instant::now() + QUERY_DEADLINE;
        loop {
            match self.inner.raft.read_index().await {
                Ok(_) => return Ok(self.inner.raft.with_state(read)),
                Err(ReadError::Halted) => return Err(QueryError::Halted),
                Err(ReadError::NoLeader | ReadError::Busy) if Instant::now() >= deadline => {
                    return Err(QueryError::NoLeader);
                }
                Err(ReadError::NoLeader | ReadError::Busy) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// Reads this node's applied state, which may be behind. Short closures only: apply waits for them.
    pub fn local<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        self.inner.raft.with_state(read)
    }

    /// What this node's applied entries ask of the world, from now on. After `Lagged`, look at the state.
    pub fn watch(&self) -> broadcast::Receiver<Arc<Vec<Effect>>> {
        self.inner.raft.effects()
    }

    /// Proposes here, for who knows that this node leads.
    async fn propose(&self, envelope: Envelope) -> Result<(u64, Reply), Tried> {
        self.inner
            .raft
            .propose(envelope)
            .await
            .map_err(|error| match error {
                ProposeError::NotLeader { .. } => Tried::Again(SubmitError::NoLeader),
                ProposeError::Busy => Tried::Again(SubmitError::Busy),
                ProposeError::DiskFull => Tried::Final(self.disk_full(self.node())),
                // Every envelope that comes here is harmless to repeat.
                ProposeError::OutcomeUnknown => Tried::Again(SubmitError::OutcomeUnknown),
                ProposeError::TooLarge { .. } => Tried::Final(SubmitError::TooLarge),
                ProposeError::Halted => Tried::Final(SubmitError::Halted),
            })
    }

    async fn forward(&self, leader: NodeId, envelope: &Envelope) -> Result<(u64, Reply), Tried> {
        self.inner
            .peers
            .forward(leader, envelope)
            .await
            .map_err(|error| match error {
                ForwardError::NotLeader | ForwardError::Unreachable(_) | ForwardError::Halted => {
                    Tried::Again(SubmitError::NoLeader)
                }
                ForwardError::Busy => Tried::Again(SubmitError::Busy),
                ForwardError::DiskFull => Tried::Final(self.disk_full(leader)),
                ForwardError::OutcomeUnknown(_) => Tried::Again(SubmitError::OutcomeUnknown),
                ForwardError::TooLarge => Tried::Final(SubmitError::TooLarge),
            })
    }

    /// Says of which node the disk is full.
    pub(crate) fn disk_full(&self, node: NodeId) -> SubmitError {
        let known = self.local(|state| state.nodes().find(|known| known.node == node).cloned());
        let node = known.map_or_else(|| format!("node {}", node.0), |known| known.name);
        SubmitError::DiskFull { node }
    }

    fn slot(&self) -> Result<Slot<'_>, SubmitError> {
        let in_flight = &self.inner.in_flight;
        if in_flight.fetch_add(1, Ordering::Relaxed) >= IN_FLIGHT_MAX {
            in_flight.fetch_sub(1, Ordering::Relaxed);
            return Err(SubmitError::Busy);
        }
        Ok(Slot(in_flight))
    }
}

/// How a try went that did not succeed.
enum Tried {
    Again(SubmitError),
    Final(SubmitError),
}

/// One proposal under way.
struct Slot<'a>(&'a AtomicUsize);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether doing it twice is the same as doing it once, replies included.
fn is_idempotent(command: &Command) -> bool {
    match command {
        // Each of these says what is to be, is matched against what is recorded (sessions and reports by
        // their own ids, decisions by the run's revision), or gives the same key the same answer.
        Command::Bootstrap { .. }
        | Command::PutNode(_)
        | Command::NodeLeaves { .. }
        | Command::Enroll { .. }
        | Command::SetLabels { .. }
        | Command::Sessions { .. }
        | Command::Plan { .. }
        | Command::Reports { .. }
        | Command::Calls(_)
        | Command::Publish(_)
        | Command::Custody(_)
        | Command::HandedIn(_)
        | Command::SetTrigger { .. }
        | Command::Schedule(_)
        | Command::NotFired { .. }
        | Command::Tick => true,
        // A repeat of these would be refused, or answered otherwise, though the first was carried out.
        Command::RemoveNode { .. }
        | Command::CreateToken { .. }
        | Command::RevokeToken { .. }
        | Command::RenewKey { .. }
        | Command::RevokeAgent { .. }
        | Command::StartRun(_)
        | Command::StartChild(_)
        | Command::Events(_)
        | Command::Answer(_)
        | Command::GrantRole { .. }
        | Command::RevokeRole { .. }
        | Command::CancelRun { .. }
        | Command::PauseRun { .. }
        | Command::CancelAndRollBack { .. }
        | Command::RollbackRun { .. }
        | Command::ResumeRun { .. }
        | Command::RetryRun { .. }
        | Command::SettleTask { .. } => false,
    }
}
