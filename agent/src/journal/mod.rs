//! What this agent was about to do and how it ended, on disk before it acts and before it reports.
//!
//! [`record`] holds the records, [`mod@file`] the file that they are in, [`memory`] the journal of a swarm whose
//! agents need no disk, [`dump`] what people and tests read.

pub mod dump;
pub mod file;
pub mod memory;
pub mod record;

use crate::actions::AttemptKey;
use crate::session::event::{Outcome, Recovered};

pub use self::file::{FileJournal, JournalError};
pub use self::memory::MemoryJournal;
pub use self::record::Record;

/// Where an agent keeps its journal.
#[derive(Debug)]
pub enum Journal {
    /// In its state folder: what an endpoint uses.
    File(Box<FileJournal>),
    /// In memory: for thousands of agents in one process. It forgets everything with the process.
    Memory(MemoryJournal),
}

impl Journal {
    /// Makes the records durable, all in one write and one fsync.
    ///
    /// # Errors
    /// When the disk fails. Nothing may be acted upon afterwards: the agent ends.
    pub fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        match self {
            Journal::File(journal) => journal.append(records),
            Journal::Memory(journal) => {
                journal.append(records);
                Ok(())
            }
        }
    }

    /// The outcome of an attempt, as it was written.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn recall(&mut self, key: &AttemptKey) -> Result<Option<Outcome>, JournalError> {
        match self {
            Journal::File(journal) => journal.recall(key),
            Journal::Memory(journal) => Ok(journal.recall(key)),
        }
    }

    /// What it holds, for a machine that starts.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn recovered(&mut self) -> Result<Recovered, JournalError> {
        match self {
            Journal::File(journal) => journal.recovered(),
            Journal::Memory(journal) => Ok(journal.recovered()),
        }
    }

    /// Whether an append takes the time of a disk.
    pub fn is_slow(&self) -> bool {
        matches!(self, Journal::File(_))
    }
}
