//! Replication (docs/adr/0010, 0011, 0012): raft behind a replica without IO, and the one task that drives it.
//!
//! - [`replica`]: raft and the state machine, sans IO. Its module doc says how to drive it.
//! - `driver`: the one thread that owns a replica; `disk`: the threads that wait for the disk; `peers` and
//!   `transport`: the streams to and from the other members; `handle`: what the rest of the coordinator sees.
//! - `io`: every input and output of a replica. `message`: the wire, by hand. `membership`: who votes.
//!   `memory`: what a follower must find confirmed in what its leader says.
//!
//! Absent on purpose: raft's types outside this folder, raft's protobuf decoder on bytes from outside, reads
//! by lease, and forwarding of proposals by raft (`crate::control` forwards, and keeps the waiter).

mod boot;
mod cache;
mod codec;
mod contact;
mod disk;
mod driver;
mod handle;
mod io;
mod logger;
mod membership;
mod memory;
mod message;
mod peers;
mod reads;
pub mod replica;
mod snapshots;
mod transport;

#[cfg(test)]
mod cluster_tests;

pub use boot::{Boot, BootError};
pub use driver::{StartError, start};
pub use handle::{
    ChangeError, History, HistoryError, PROPOSALS_MAX, PeerStatus, ProposeError, RaftConfig, RaftHandle,
    RaftStatus, ReadError, TransferError,
};
pub use io::{
    AppliedEntry, CheckpointJob, Fetched, Halt, Halted, Input, Output, ProposalId, Refused, ReplicaConfig,
    Role, SnapshotWanted, Write,
};
pub use membership::{CAUGHT_UP_ENTRIES, Change, ChangeRefused, MEMBERS_MAX};
pub use message::{BadMessage, PeerMessage};
pub use peers::PeerDirectory;
pub use reads::ReadId;
pub use replica::{ENTRY_BYTES_MAX, Replica};
pub use transport::RaftService;
