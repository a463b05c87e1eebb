//! What is stored, in types of our own: neither raft's nor the wire's.

use bytes::Bytes;

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// What `data` and `context` hold.
    pub kind: EntryKind,
    /// The term of the leader that appended it.
    pub term: u64,
    /// Its place in the log, from 1, without gaps.
    pub index: u64,
    /// A command: the engine's own encoding of an entry; empty for a new leader's first entry.
    pub data: Bytes,
    /// A membership change: our own encoding of it. Empty for a command.
    pub context: Bytes,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A command for the state machine, or nothing.
    Command,
    /// A membership change.
    Membership,
}

/// What raft must never forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The greatest term seen.
    pub term: u64,
    /// Whom this node voted for in that term; 0: nobody.
    pub vote: u64,
    /// The greatest index known to be committed when this was written.
    pub commit: u64,
}

/// The members, each list sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    /// Who votes.
    pub voters: Vec<u64>,
    /// Who only listens.
    pub learners: Vec<u64>,
}

impl ConfState {
    /// Whether `id` is a member of any kind.
    pub fn contains(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.learners.contains(&id)
    }
}

/// A checkpoint without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointMeta {
    /// Every entry up to here is in the state.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The members as of that entry.
    pub conf: ConfState,
    /// Of the encoded state.
    pub size_bytes: u64,
    /// Of the encoded state.
    pub sha256: [u8; 32],
}

/// The state as of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// What it is.
    pub meta: CheckpointMeta,
    /// `engine::State::encode`.
    pub state: Bytes,
}

impl Checkpoint {
    /// Wraps an encoded state.
    pub fn new(index: u64, term: u64, conf: ConfState, state: Bytes) -> Checkpoint {
        use sha2::Digest as _;
        let meta = CheckpointMeta {
            index,
            term,
            conf,
            size_bytes: state.len() as u64,
            sha256: sha2::Sha256::digest(&state).into(),
        };
        Checkpoint { meta, state }
    }

    /// The checkpoint that every founding member starts from: index 1 of term 1, so that a later member,
    /// whose log is empty, can only get there by a snapshot, which also tells it the members.
    pub fn founding(mut voters: Vec<u64>) -> Checkpoint {
        voters.sort_unstable();
        voters.dedup();
        let mut state = engine::State::default();
        state.skip_to(1);
        let conf = ConfState {
            voters,
            learners: Vec::new(),
        };
        Checkpoint::new(1, 1, conf, Bytes::from(state.encode()))
    }
}
