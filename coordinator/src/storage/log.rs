//! The log, as replication needs it.

use super::error::StorageError;
use super::types::{HardState, LogEntry};

/// What a log holds when it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last one that was written.
    pub hard_state: HardState,
    /// The index just below the first entry.
    pub start_index: u64,
    /// The term of the entry at `start_index`; 0 for index 0.
    pub start_term: u64,
    /// Without gaps, from `start_index + 1`.
    pub entries: Vec<LogEntry>,
}

impl Recovered {
    /// The last entry's index, or where the log starts.
    pub fn last_index(&self) -> u64 {
        self.start_index + self.entries.len() as u64
    }

    /// The term at `index`, if it is known.
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == self.start_index {
            return Some(self.start_term);
        }
        let offset = index.checked_sub(self.start_index + 1)?;
        self.entries.get(usize::try_from(offset).ok()?).map(|e| e.term)
    }
}

/// A durable log. Nothing is promised before `sync` has returned; after a crash, what was written since the
/// last `sync` may be there from the front, in part, or not at all. An error is final: the caller ends the
/// process, and a failed `sync` is never tried again.
pub trait LogStore {
    /// What is there. Called once, before anything else.
    fn load(&mut self) -> Result<Recovered, StorageError>;

    /// Appends entries without gaps. If the first one's index is not behind the last entry, what is there
    /// from that index on is replaced.
    fn append(&mut self, entries: &[LogEntry]) -> Result<(), StorageError>;

    /// Replaces the hard state.
    fn set_hard_state(&mut self, hard_state: HardState) -> Result<(), StorageError>;

    /// Forgets every entry: the log starts again behind `index`, whose term is `term`. (A snapshot, already
    /// durable, took their place.)
    fn reset(&mut self, index: u64, term: u64) -> Result<(), StorageError>;

    /// Entries up to `index` may be forgotten; a store may keep some of them.
    fn compact(&mut self, index: u64) -> Result<(), StorageError>;

    /// Makes everything written so far durable.
    fn sync(&mut self) -> Result<(), StorageError>;
}
