//! The one thread that owns the replica: events in, messages, writes and answers out.
//!
//! It never waits for the disk or the network. While [`PIPELINED_WRITES`] writes are under way, new proposals
//! gather here, so that load makes batches larger instead of more numerous.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{broadcast, oneshot, watch};

use super::boot::{Boot, BootError};
use super::disk::{Disk, LogJob, Room, thread};
use super::handle::{
    ChangeError, EFFECTS_MAX, EVENTS_MAX, Event, PeerStatus, ProposalReply, ProposeError, RaftConfig,
    RaftHandle, RaftStatus, ReadError, Shared,
};
use super::io::{Halt, Input, Output, ProposalId, Refused, ReplicaConfig};
use super::peers::{Fetcher, PeerDirectory, Peers};
use super::replica::Replica;
use super::transport::RaftService;
use crate::storage::{Checkpoint, CheckpointStore, Owner, StorageError, Wal, WalConfig};

/// Writes under way of which new proposals wait for one to end.
const PIPELINED_WRITES: usize = 2;
/// Events taken in one round.
const ROUND_EVENTS_MAX: usize = 4_096;
/// How often the free space is measured.
const ROOM_EVERY: Duration = Duration::from_secs(5);

/// Why a node cannot start to replicate.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What is on it.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// Raft refuses the configuration.
    #[error(transparent)]
    Replica(#[from] Halt),
    /// No threads.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Opens the data folder and starts to replicate. Gives the handle and the service for the peers' listener.
pub async fn start(
    config: RaftConfig,
    directory: PeerDirectory,
) -> Result<(RaftHandle, RaftService), StartError> {
    let runtime = tokio::runtime::Handle::current();
    let opened = tokio::task::spawn_blocking(move || open(&config).map(|opened| (config, opened))).await;
    let (config, (replica, wal, store)) = match opened {
        Ok(opened) => opened?,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };

    let (events, incoming) = sync_channel(EVENTS_MAX);
    let shared = Arc::new(Shared {
        events,
        state: Arc::clone(replica.state()),
        role: watch::Sender::new(replica.role()),
        applied: watch::Sender::new(replica.applied_index()),
        effects: broadcast::Sender::new(EFFECTS_MAX),
        halted: watch::Sender::new(None),
        stopped: watch::Sender::new(false),
        stop: AtomicBool::new(false),
        started: Instant::now(),
        lease_until_ms: AtomicU64::new(0),
        proposals: AtomicUsize::new(0),
        disk_is_short: AtomicBool::new(false),
        status: Mutex::new(RaftStatus::default()),
        store: RwLock::new(Some(store.clone())),
        election_timeout: config.election_timeout(),
    });
    let disk = Disk::start(wal, &store, &shared)?;
    drop(store);
    let service = RaftService::new(&config, directory.clone(), Arc::clone(&shared));
    let driver = Driver {
        peers: Peers::new(&config, directory.clone(), Arc::clone(&shared), runtime.clone()),
        fetcher: Fetcher::new(&config, directory, Arc::clone(&shared), runtime),
        room: Room {
            folder: config.data_dir.clone(),
            limits: config.disk,
        },
        tick: Duration::from_millis(config.tick_ms.max(1)),
        election_ticks: config.election_ticks as u32,
        replica,
        disk,
        shared: Arc::clone(&shared),
        next_id: 0,
        gathered: Vec::new(),
        proposals: HashMap::new(),
        changes: HashMap::new(),
        reads: HashMap::new(),
        writing: Vec::new(),
        state_hash: None,
    };
    thread("raft", &shared, {
        let shared = Arc::clone(&shared);
        move || {
            // Told even if the driver panics: whoever waits for the stop must not wait for ever.
            let _stopped = Stopped(Arc::clone(&shared));
            driver.run(&incoming)
        }
    })?;
    Ok((RaftHandle { shared }, service))
}

struct Stopped(Arc<Shared>);

impl Drop for Stopped {
    fn drop(&mut self) {
        *self.0.store.write() = None;
        self.0.stopped.send_replace(true);
    }
}

fn open(config: &RaftConfig) -> Result<(Replica, Wal, CheckpointStore), StartError> {
    let owner = Owner {
        cluster: config.cluster_id,
        node: config.node_id,
    };
    let layout = WalConfig {
        segment_bytes: config.segment_bytes,
    };
    let mut wal = Wal::open(&config.data_dir, owner, layout)?;
    let store = CheckpointStore::open(&config.data_dir, owner)?;
    let mut checkpoint = store.load()?;
    if let (None, true, Some(voters)) = (&checkpoint, wal.is_new(), &config.bootstrap_voters) {
        let founding = Checkpoint::founding(voters.clone());
        store.put(&founding)?;
        checkpoint = Some(founding);
    }
    let boot = Boot::load(&mut wal, checkpoint)?;
    let replica = Replica::new(
        ReplicaConfig {
            election_ticks: config.election_ticks as u32,
            heartbeat_ticks: config.heartbeat_ticks as u32,
            checkpoint_entries: config.checkpoint_entries,
            checkpoint_bytes: config.checkpoint_bytes,
            retained_entries: config.retained_entries,
            hash_entries: config.hash_entries,
            ..ReplicaConfig::new(config.node_id, rand::random())
        },
        boot,
    )?;
    Ok((replica, wal, store))
}

struct Driver {
    // Dropped in this order: the disk's threads last, so that everything is written.
    peers: Peers,
    fetcher: Fetcher,
    room: Room,
    tick: Duration,
    election_ticks: u32,
    replica: Replica,
    disk: Disk,
    shared: Arc<Shared>,
    next_id: ProposalId,
    /// Proposals that wait for a write to end.
    gathered: Vec<Input>,
    proposals: HashMap<ProposalId, ProposalReply>,
    changes: HashMap<ProposalId, oneshot::Sender<Result<(), ChangeError>>>,
    reads: HashMap<u64, oneshot::Sender<Result<u64, ReadError>>>,
    /// Numbers of the writes under way.
    writing: Vec<u64>,
    state_hash: Option<(u64, engine::id::Digest)>,
}

impl Driver {
    fn run(mut self, events: &Receiver<Event>) -> Result<(), Halt> {
        let mut next_tick = Instant::now() + self.tick;
        let mut next_room = Instant::now();
        loop {
            let wait = next_tick.saturating_duration_since(Instant::now());
            match events.recv_timeout(wait) {
                Ok(first) => {
                    self.take(first)?;
                    for event in events.try_iter().take(ROUND_EVENTS_MAX) {
                        self.take(event)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if self.shared.stop.load(Ordering::Acquire) || self.shared.halted.borrow().is_some() {
                return Ok(());
            }
            let now = Instant::now();
            let ticked = now >= next_tick;
            // After a long pause a few ticks are enough: time that this thread did not run is nobody's silence.
            for _ in 0..self.election_ticks.div_ceil(2) {
                if now < next_tick {
                    break;
                }
                self.replica.step(Input::Tick)?;
                next_tick += self.tick;
            }
            next_tick = next_tick.max(now);
            self.note_persisted()?;
            if self.writing.len() < PIPELINED_WRITES {
                for proposal in std::mem::take(&mut self.gathered) {
                    self.replica.step(proposal)?;
                }
            }
            while let Some(output) = self.replica.ready()? {
                self.perform(output)?;
                self.note_persisted()?;
            }
            self.peers
                .flush(|to, snapshot| self.replica.step(Input::Unreachable { to, snapshot }))?;
            self.publish(ticked);
            if ticked && now >= next_room {
                next_room = now + ROOM_EVERY;
                self.room.look(&self.shared);
            }
        }
    }

    fn take(&mut self, event: Event) -> Result<(), Halt> {
        let input = match event {
            Event::Wake => return Ok(()),
            Event::Propose { at, envelope, reply } => {
                let id = self.id();
                self.proposals.insert(id, reply);
                self.gathered.push(Input::Propose { id, at, envelope });
                return Ok(());
            }
            Event::Read(reply) => {
                let id = self.id();
                self.reads.insert(id, reply);
                Input::Read { id }
            }
            Event::Change(change, reply) => {
                let id = self.id();
                self.changes.insert(id, reply);
                Input::ChangeMembership { id, change }
            }
            Event::Transfer(to) => Input::TransferLeader { to },
            Event::Messages(messages) => {
                for message in messages {
                    self.replica.step(Input::Message(message))?;
                }
                return Ok(());
            }
            Event::PeerHash { from, index, hash } => Input::PeerHash { from, index, hash },
            Event::Unreachable { to, snapshot } => Input::Unreachable { to, snapshot },
            Event::SnapshotServed(to) => Input::SnapshotServed { to },
            Event::SnapshotArrived(fetched) => Input::SnapshotArrived(fetched),
            Event::SnapshotFailed(index) => Input::SnapshotFailed { index },
            Event::CheckpointDurable(meta) => Input::CheckpointDurable(meta),
            Event::Entries(reply) => {
                // Who asked may have gone.
                let _ = reply.send(self.replica.applied_entries());
                return Ok(());
            }
        };
        self.replica.step(input)
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn note_persisted(&mut self) -> Result<(), Halt> {
        let persisted = self.disk.persisted();
        if self.writing.first().is_some_and(|first| *first <= persisted) {
            self.writing.retain(|number| *number > persisted);
            self.replica.step(Input::Persisted(persisted))?;
        }
        Ok(())
    }

    /// Does an output, in the order of its fields. A disk thread that has ended has halted the node: what it
    /// was to write goes nowhere, and the loop ends at its next round.
    fn perform(&mut self, output: Output) -> Result<(), Halt> {
        self.peers.queue(output.messages, output.hash);
        if !self.writing.is_empty() || output.write.is_some() {
            // What a follower can write meanwhile should be on its way before this node's own write.
            self.peers
                .flush(|to, snapshot| self.replica.step(Input::Unreachable { to, snapshot }))?;
        }
        if let Some(write) = output.write {
            self.writing.push(write.number);
            self.disk.log(LogJob::Write(write));
        }
        let last = output.applied.last().map(|applied| applied.index);
        for applied in output.applied {
            if !applied.effects.is_empty() {
                // No listener is no error.
                let _ = self.shared.effects.send(applied.effects);
            }
            if let Some(reply) = applied.proposal.and_then(|id| self.proposals.remove(&id)) {
                // Who asked may have gone.
                let _ = reply.send(Ok((applied.index, applied.reply)));
            }
        }
        if last.is_some() {
            self.shared.applied.send_replace(self.replica.applied_index());
        }
        for (id, refused) in output.refused {
            self.refuse(id, refused);
        }
        for (id, _) in output.changed {
            if let Some(reply) = self.changes.remove(&id) {
                let _ = reply.send(Ok(()));
            }
        }
        for (id, applied) in output.reads {
            if let Some(reply) = self.reads.remove(&id) {
                let _ = reply.send(Ok(applied));
            }
        }
        for id in output.reads_failed {
            if let Some(reply) = self.reads.remove(&id) {
                let _ = reply.send(Err(ReadError::NoLeader));
            }
        }
        if let Some(role) = output.role {
            tracing::info!(term = role.term, leader = ?role.leader, is_leader = role.is_leader, ready = role.ready, "role");
            self.publish(true);
            self.shared.role.send_replace(role);
        }
        if let Some(conf) = output.conf {
            tracing::info!(voters = ?conf.voters, learners = ?conf.learners, "members");
            self.peers.keep(|id| conf.contains(id));
        }
        if let Some(wanted) = output.fetch {
            self.fetcher.fetch(wanted);
        }
        if let Some(job) = output.checkpoint {
            self.disk.checkpoint(job);
        }
        if let Some(index) = output.compact {
            self.disk.log(LogJob::Compact(index));
        }
        if output.hash.is_some() {
            self.state_hash = output.hash;
        }
        match output.removed {
            true => Err(Halt::Removed),
            false => Ok(()),
        }
    }

    fn refuse(&mut self, id: ProposalId, refused: Refused) {
        if let Some(reply) = self.proposals.remove(&id) {
            let _ = reply.send(Err(refused.into()));
        } else if let Some(reply) = self.changes.remove(&id) {
            let _ = reply.send(Err(match refused {
                Refused::Change(why) => why.into(),
                other => ProposeError::from(other).into(),
            }));
        }
    }

    fn publish(&self, whole: bool) {
        let lease = self.tick * self.replica.lease_ticks();
        let until = match lease.is_zero() {
            true => 0,
            false => (self.shared.started.elapsed() + lease).as_millis() as u64,
        };
        self.shared.lease_until_ms.store(until, Ordering::Release);
        if !whole {
            return;
        }
        let replica = &self.replica;
        let conf = replica.conf();
        let progress = replica.peers();
        let members = conf
            .voters
            .iter()
            .map(|id| (*id, true))
            .chain(conf.learners.iter().map(|id| (*id, false)));
        let peers = members
            .filter(|(id, _)| *id != replica.id())
            .map(|(id, is_voter)| {
                let known = progress.iter().find(|(peer, _, _)| *peer == id);
                PeerStatus {
                    id,
                    matched: known.map_or(0, |(_, matched, _)| *matched),
                    is_voter,
                    is_learner: !is_voter,
                    recently_active: known.is_some_and(|(_, _, heard)| *heard),
                }
            });
        *self.shared.status.lock() = RaftStatus {
            id: replica.id(),
            leader: replica.role().leader,
            term: replica.role().term,
            committed: replica.commit_index(),
            applied: replica.applied_index(),
            first_index: replica.first_index(),
            checkpoint: replica.checkpoint().map_or(0, |c| c.index),
            state_hash: self.state_hash,
            peers: peers.collect(),
        };
    }
}
