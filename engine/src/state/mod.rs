//! The replicated state. (Contract; see its owner.)

use crate::command::Envelope;
use crate::effect::{Applied, Reply};
use crate::id::{AgentId, AttemptKey, Digest};
use crate::time::Timestamp;

/// Everything that the cluster agrees on.
#[derive(Clone, Debug, Default)]
pub struct State {
    applied_index: u64,
    now: Timestamp,
}

/// What an agent has been told to do and has not ended: served from any node's own state.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The attempt, with its fencing token.
    pub key: AttemptKey,
    /// The step's name, for the wire and for people.
    pub step: String,
    /// The action's name.
    pub action: String,
    /// Rendered and checked.
    pub parameters: serde_json::Value,
    /// From the catalogue.
    pub impact: catalogue::Impact,
    /// The run is being cancelled or the task has run out of time: tell the agent to stop.
    pub cancel: Option<String>,
    /// The agent said that it has begun.
    pub started: bool,
    /// From the moment that the agent starts it; 0: the action's default.
    pub attempt_timeout_ms: u64,
    /// It must not be begun later than this.
    pub start_by: Option<Timestamp>,
    /// 0: none.
    pub heartbeat_timeout_ms: u64,
}

impl State {
    /// Applies a committed command. Deterministic: the same index, time and command on the same state
    /// give the same state, reply and effects on every node.
    pub fn apply(&mut self, index: u64, at: Timestamp, _envelope: &Envelope) -> Applied {
        self.applied_index = index;
        self.now = self.now.max(at);
        Applied {
            reply: Reply::Done,
            effects: Vec::new(),
        }
    }

    /// The index of the last applied entry.
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// Notes that an entry without a command (raft's own) was applied.
    pub fn skip_to(&mut self, index: u64) {
        self.applied_index = index;
    }

    /// The greatest time seen.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The earliest deadline: the leader proposes a `Tick` when its clock reaches it.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    /// A hash over the whole state: equal on every node at an equal index. (Kept incrementally or computed
    /// from the snapshot; called every few thousand entries.)
    pub fn hash(&self) -> Digest {
        Digest([0; 32])
    }

    /// The versioned snapshot.
    pub fn encode(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Reads a snapshot of this version or an older one.
    pub fn decode(_bytes: &[u8]) -> Result<State, SnapshotError> {
        Ok(State::default())
    }

    /// What this agent has to do, the urgent lane (contain, kill, cancel, release) first.
    pub fn assignments(&self, _agent: &AgentId) -> Vec<Assignment> {
        Vec::new()
    }

    /// Panics with the broken invariant, if any.
    pub fn check(&self) {}
}

/// A snapshot that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Written by a newer version.
    #[error("the snapshot has version {found}, this build reads up to {supported}: upgrade this node")]
    Version {
        /// In the file.
        found: u32,
        /// By this build.
        supported: u32,
    },
    /// Not a snapshot, or damaged.
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
}
