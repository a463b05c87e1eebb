//! What a coordinator keeps on its disk for replication: the log and the checkpoint.
//!
//! - [`LogStore`] is the log: entries and the hard state, durable after [`LogStore::sync`]. [`Wal`] is the
//!   real one, [`MemoryLog`] the one of tests and of the simulation; `conformance` holds both to the same
//!   rules.
//! - [`CheckpointStore`] is the state as it was at some index, written behind the log by its own thread.
//!
//! Restart is: read the checkpoint, read the log, replay what is behind the checkpoint. The log is
//! compacted only below a durable checkpoint.
//!
//! Absent on purpose: raft's types (only `crate::raft` names them), retries of a failed write or sync (the
//! process ends), and any way to go on with a log that lost something which had been acknowledged.

mod checkpoint;
mod error;
mod first_start;
mod log;
mod memory;
mod record;
mod segment;
mod space;
mod spare;
mod types;
mod wal;

#[cfg(test)]
mod conformance;

pub use checkpoint::{CHUNK_BYTES, CheckpointStore};
pub use error::{REPLACE, StorageError};
pub use first_start::{FirstStart, FirstStartError};
pub use log::{LogStore, Recovered};
pub use memory::MemoryLog;
pub use space::{DiskLimits, free_percent};
pub use types::{Checkpoint, CheckpointMeta, ConfState, EntryKind, HardState, LogEntry};
pub use wal::{Owner, Wal, WalConfig};
