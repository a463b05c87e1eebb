//! Replication: raft behind a replica without IO, and the one task that drives it.
//!
//! - [`replica`]: raft and the state machine, sans IO. Its module doc says how to drive it.
//! - `io`: every input and output of a replica. `message`: the wire, by hand. `membership`: who votes.
//!
//! Absent on purpose: raft's types outside this folder, raft's protobuf decoder on bytes from outside, reads
//! by lease, and forwarding of proposals by raft (`crate::control` forwards, and keeps the waiter).

mod boot;
mod cache;
mod codec;
mod contact;
mod io;
mod logger;
mod membership;
mod message;
mod reads;
pub mod replica;
mod snapshots;

#[cfg(test)]
mod cluster_tests;

pub use boot::{Boot, BootError};
pub use io::{
    AppliedEntry, CheckpointJob, Fetched, Halt, Input, Output, ProposalId, Refused, ReplicaConfig, Role,
    SnapshotWanted, Write,
};
pub use membership::{CAUGHT_UP_ENTRIES, Change, ChangeRefused, MEMBERS_MAX};
pub use message::{BadMessage, PeerMessage};
pub use reads::ReadId;
pub use replica::{ENTRY_BYTES_MAX, Replica};
