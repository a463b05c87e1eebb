//! A log in memory that can crash: for tests and for the simulation.

use super::error::StorageError;
use super::log::{LogStore, Recovered};
use super::types::{HardState, LogEntry};

#[derive(Clone, Debug)]
enum Write {
    Append(Vec<LogEntry>),
    HardState(HardState),
    Reset(u64, u64),
}

/// A log that keeps what was synced apart from what was only written.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    durable: Recovered,
    written: Vec<Write>,
}

impl MemoryLog {
    /// An empty one.
    pub fn new() -> MemoryLog {
        MemoryLog::default()
    }

    /// Loses what was not synced, but for the first `kept` writes.
    pub fn crash(&mut self, kept: usize) {
        let lost = self.written.split_off(kept.min(self.written.len()));
        drop(lost);
        self.flush();
    }

    /// How many writes wait for a sync.
    pub fn unsynced(&self) -> usize {
        self.written.len()
    }

    fn flush(&mut self) {
        for write in self.written.drain(..) {
            match write {
                Write::Append(entries) => {
                    let Some(first) = entries.first() else { continue };
                    let keep = (first.index - self.durable.start_index - 1) as usize;
                    assert!(
                        keep <= self.durable.entries.len(),
                        "gap before entry {}",
                        first.index
                    );
                    self.durable.entries.truncate(keep);
                    self.durable.entries.extend(entries);
                }
                Write::HardState(hard_state) => self.durable.hard_state = hard_state,
                Write::Reset(index, term) => {
                    self.durable.entries.clear();
                    self.durable.start_index = index;
                    self.durable.start_term = term;
                }
            }
        }
    }
}

impl LogStore for MemoryLog {
    fn load(&mut self) -> Result<Recovered, StorageError> {
        Ok(self.durable.clone())
    }

    fn append(&mut self, entries: &[LogEntry]) -> Result<(), StorageError> {
        self.written.push(Write::Append(entries.to_vec()));
        Ok(())
    }

    fn set_hard_state(&mut self, hard_state: HardState) -> Result<(), StorageError> {
        self.written.push(Write::HardState(hard_state));
        Ok(())
    }

    fn reset(&mut self, index: u64, term: u64) -> Result<(), StorageError> {
        self.written.push(Write::Reset(index, term));
        Ok(())
    }

    fn compact(&mut self, index: u64) -> Result<(), StorageError> {
        let durable = &mut self.durable;
        let Some(term) = durable.term(index) else {
            return Ok(());
        };
        durable.entries.drain(..(index - durable.start_index) as usize);
        durable.start_index = index;
        durable.start_term = term;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.flush();
        Ok(())
    }
}
