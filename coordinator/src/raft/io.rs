//! Everything that goes into a replica and everything that comes out of it.

use std::sync::Arc;

use engine::id::Digest;
use engine::{Effect, Envelope, Reply, State, Timestamp};

use super::membership::{Change, ChangeRefused};
use super::message::PeerMessage;
use super::reads::ReadId;
use crate::storage::{
    Checkpoint, CheckpointMeta, ConfState, HardState, LogEntry, LogStore, REPLACE, StorageError,
};

/// The caller's id of a proposal or of a membership change: drawn by the caller, not reused while open.
pub type ProposalId = u64;

/// Every input of a replica.
#[derive(Clone, Debug)]
pub enum Input {
    /// One tick of the clock has passed.
    Tick,
    /// A peer said something. (The caller has checked that the peer is who it says.)
    Message(PeerMessage),
    /// Put a command into the log.
    Propose {
        /// For the answer.
        id: ProposalId,
        /// The clock, which the leader stamps into the entry.
        at: Timestamp,
        /// What.
        envelope: Box<Envelope>,
    },
    /// Tell when this node has applied everything that was committed when this was asked.
    Read {
        /// For the answer.
        id: ReadId,
    },
    /// The write of this number, and all before it, are durable.
    Persisted(u64),
    /// The snapshot that was wanted has been fetched and its hash verified.
    SnapshotArrived(Box<Fetched>),
    /// The snapshot that was wanted cannot be had now.
    SnapshotFailed {
        /// Its index.
        index: u64,
    },
    /// A peer asked for bytes of a snapshot: it is still at it.
    SnapshotServed {
        /// Which peer.
        to: u64,
    },
    /// A message to a peer was dropped.
    Unreachable {
        /// Which peer.
        to: u64,
        /// The message announced a snapshot.
        snapshot: bool,
    },
    /// Change the membership.
    ChangeMembership {
        /// For the answer.
        id: ProposalId,
        /// How.
        change: Change,
    },
    /// Hand leadership to a voter. Seen in the role, or not at all after an election timeout.
    TransferLeader {
        /// To whom.
        to: u64,
    },
    /// The checkpoint that was asked for is durable.
    CheckpointDurable(CheckpointMeta),
    /// A peer's hash over its state at an index.
    PeerHash {
        /// Whose.
        from: u64,
        /// As of.
        index: u64,
        /// The hash.
        hash: Digest,
    },
}

/// A snapshot, decoded.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The checkpoint, byte by byte as the peer had it.
    pub checkpoint: Checkpoint,
    /// The state that its bytes decode to.
    pub state: State,
}

/// What a replica wants done. The order of the fields is the order in which to do it; all of it, each time.
#[derive(Debug, Default)]
pub struct Output {
    /// Send these now; to a peer's queue that is full: drop, and say [`Input::Unreachable`].
    pub messages: Vec<PeerMessage>,
    /// Write this, in the order of the numbers, and say [`Input::Persisted`] when it is durable. It may take
    /// as long as it takes: more outputs can be asked for meanwhile.
    pub write: Option<Write>,
    /// Commands that were applied, in the order of the log.
    pub applied: Vec<AppliedEntry>,
    /// Proposals that are not in the log, or whose fate is not known.
    pub refused: Vec<(ProposalId, Refused)>,
    /// Membership changes that were applied.
    pub changed: Vec<(ProposalId, ConfState)>,
    /// Reads that can be served from this node's state now: (read, applied index).
    pub reads: Vec<(ReadId, u64)>,
    /// Reads that were given up: no leader could be asked in time.
    pub reads_failed: Vec<ReadId>,
    /// The role, where it changed.
    pub role: Option<Role>,
    /// The members, where they changed.
    pub conf: Option<ConfState>,
    /// Fetch this snapshot (stop fetching another), check its hash, and say [`Input::SnapshotArrived`] or
    /// [`Input::SnapshotFailed`].
    pub fetch: Option<SnapshotWanted>,
    /// Write this checkpoint behind everything else and say [`Input::CheckpointDurable`].
    pub checkpoint: Option<CheckpointJob>,
    /// The log may forget entries up to here ([`LogStore::compact`]).
    pub compact: Option<u64>,
    /// Tell the peers the hash over this node's state at this index.
    pub hash: Option<(u64, Digest)>,
    /// This node was removed, for good: [`Halt::Removed`], once all of this is done.
    pub removed: bool,
}

/// One write to the disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Counts up by at least one.
    pub number: u64,
    /// A snapshot that takes the place of the state and of the log. Make the checkpoint durable first, then
    /// write the rest.
    pub install: Option<Checkpoint>,
    /// To append.
    pub entries: Vec<LogEntry>,
    /// To replace the hard state with, behind the entries.
    pub hard_state: HardState,
}

impl Write {
    /// Writes all but the checkpoint, which must be durable already, in the one right order. Not synced.
    pub fn to_log(&self, log: &mut dyn LogStore) -> Result<(), StorageError> {
        if let Some(installed) = &self.install {
            log.reset(installed.meta.index, installed.meta.term)?;
        }
        if !self.entries.is_empty() {
            log.append(&self.entries)?;
        }
        log.set_hard_state(self.hard_state)
    }
}

/// A command that was applied.
#[derive(Clone, Debug)]
pub struct AppliedEntry {
    /// Where it is in the log.
    pub index: u64,
    /// Which proposal it was, if this node proposed it in the present term.
    pub proposal: Option<ProposalId>,
    /// For the proposer.
    pub reply: Reply,
    /// For the node.
    pub effects: Arc<Vec<Effect>>,
}

/// Why a proposal was not taken, or why its outcome is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not in the log: this node does not lead.
    NotLeader {
        /// Who does, if known.
        leader: Option<u64>,
    },
    /// Not in the log: too much is under way.
    Busy,
    /// Not in the log: larger than an entry may be.
    TooLarge {
        /// Of the encoded entry.
        size_bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// Leadership was lost while it was under way: it may be applied later, or never.
    OutcomeUnknown,
    /// Not in the log: the change cannot be made.
    Change(ChangeRefused),
}

/// What this node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Who leads, if known.
    pub leader: Option<u64>,
    /// This node does.
    pub is_leader: bool,
    /// This node leads and has applied an entry of its own term: its state holds all that was ever committed.
    pub ready: bool,
    /// The present term.
    pub term: u64,
}

/// A snapshot that must be fetched from a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotWanted {
    /// Who announced it.
    pub from: u64,
    /// What was announced.
    pub meta: CheckpointMeta,
}

/// A checkpoint to be encoded and written.
#[derive(Clone, Debug)]
pub struct CheckpointJob {
    /// Every entry up to here is in the state.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The members as of that entry.
    pub conf: ConfState,
    /// The state as of that entry.
    pub state: State,
}

impl CheckpointJob {
    /// Encodes the state: the expensive part, for another thread than the replica's.
    pub fn encode(&self) -> Checkpoint {
        Checkpoint::new(
            self.index,
            self.term,
            self.conf.clone(),
            self.state.encode().into(),
        )
    }
}

/// How a replica is set up.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// The raft id, from 1.
    pub id: u64,
    /// Differs from one start of the node to the next.
    pub incarnation: u64,
    /// Ticks without a leader before an election.
    pub election_ticks: u32,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: u32,
    /// Fixes the election timeout, which raft otherwise draws from `election_ticks..2 * election_ticks`: for
    /// identical replays, distinct per node.
    pub election_ticks_fixed: Option<u32>,
    /// Entries since the last checkpoint that ask for a new one.
    pub checkpoint_entries: u64,
    /// Bytes since the last checkpoint that ask for a new one.
    pub checkpoint_bytes: u64,
    /// Entries below a checkpoint that are kept for followers that lag a little.
    pub retained_entries: u64,
    /// Entries between two hashes over the state; 0: none.
    pub hash_entries: u64,
}

impl ReplicaConfig {
    /// The defaults of a real node.
    pub fn new(id: u64, incarnation: u64) -> ReplicaConfig {
        ReplicaConfig {
            id,
            incarnation,
            election_ticks: 10,
            heartbeat_ticks: 2,
            election_ticks_fixed: None,
            checkpoint_entries: 100_000,
            checkpoint_bytes: 64 << 20,
            retained_entries: 10_000,
            hash_entries: 4_096,
        }
    }
}

/// Why a replica cannot go on: the node must stop.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// A committed entry that this version cannot read.
    #[error(
        "entry {index} of the log cannot be decoded: {why}. This node is older than the one that wrote it: upgrade it"
    )]
    Entry {
        /// Which.
        index: u64,
        /// What is wrong.
        why: String,
    },
    /// This node's state is not the leader's.
    #[error(
        "the state of this node at index {index} is not that of its leader {leader}: it has diverged. Keep its \
         data folder for analysis, and {REPLACE}"
    )]
    Diverged {
        /// Where.
        index: u64,
        /// Whose hash differs.
        leader: u64,
    },
    /// This node's disk lost what it had acknowledged.
    #[error(
        "the log of this node ends at entry {last_index}, and leader {leader} knows that this node had written entry \
         {acknowledged}: its data folder was emptied, cut or put back from a copy. To go on, {REPLACE}"
    )]
    Forgot {
        /// The log's last index.
        last_index: u64,
        /// What this node had acknowledged.
        acknowledged: u64,
        /// To whom.
        leader: u64,
    },
    /// The cluster went on without what it had committed.
    #[error(
        "entry {index} of the log, which this node knows to be committed, is another one in the log of its leader \
         {leader}: members that held it lost it (a data folder that was emptied or put back from a copy), and the \
         cluster went on without it. Keep the data folder of this node, which may hold the only copy of what was \
         acknowledged, and {REPLACE}"
    )]
    Contradicted {
        /// The first entry that differs.
        index: u64,
        /// Who says otherwise.
        leader: u64,
    },
    /// This node is no member any more.
    #[error(
        "this node was removed from the cluster, for good: its raft id is spent. Switch it off, or, to bring it back, \
         {REPLACE}"
    )]
    Removed,
    /// Raft itself gave up.
    #[error("raft: {0}")]
    Raft(#[from] raft::Error),
    /// The log and the checkpoint do not fit each other.
    #[error(
        "the log starts at entry {log_start}, behind the checkpoint at {checkpoint}: entries between are missing. To \
         go on, {REPLACE}"
    )]
    Gap {
        /// The log's first index.
        log_start: u64,
        /// The checkpoint's index.
        checkpoint: u64,
    },
}

/// That a node has halted, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halted {
    /// With what to do about it.
    pub reason: String,
    /// Its data folder is to blame, and starting again on it changes nothing.
    pub of_data: bool,
}

impl From<Halt> for Halted {
    fn from(halt: Halt) -> Halted {
        Halted {
            reason: halt.to_string(),
            of_data: match halt {
                Halt::Diverged { .. }
                | Halt::Forgot { .. }
                | Halt::Contradicted { .. }
                | Halt::Removed
                | Halt::Gap { .. } => true,
                Halt::Entry { .. } | Halt::Raft(_) => false,
            },
        }
    }
}

impl From<StorageError> for Halted {
    fn from(error: StorageError) -> Halted {
        Halted {
            reason: error.to_string(),
            of_data: !matches!(error, StorageError::Io { .. }),
        }
    }
}
