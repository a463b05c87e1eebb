//! Raft's view of the log: everything since the last compaction, in memory, so that raft never waits for
//! the disk. What is here may not be durable yet; raft is told separately what is.

use std::cell::Cell;
use std::collections::VecDeque;

use raft::eraftpb::{Entry, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use super::message::{conf_to_raft, entry_from_log, snapshot_of};
use crate::storage::{CheckpointMeta, ConfState, HardState, Recovered};

/// The entries since the last compaction, bounded by it.
pub(super) struct Cache {
    start_index: u64,
    start_term: u64,
    entries: VecDeque<Entry>,
    hard_state: HardState,
    conf: ConfState,
    /// The last durable checkpoint: what a follower that fell behind is sent.
    checkpoint: Option<CheckpointMeta>,
    /// A follower needs a snapshot and the checkpoint does not know it as a member yet.
    snapshot_missing: Cell<bool>,
}

impl Cache {
    pub(super) fn new(log: Recovered, checkpoint: Option<CheckpointMeta>) -> Cache {
        Cache {
            start_index: log.start_index,
            start_term: log.start_term,
            hard_state: log.hard_state,
            entries: log.entries.into_iter().map(entry_from_log).collect(),
            conf: checkpoint.as_ref().map(|c| c.conf.clone()).unwrap_or_default(),
            checkpoint,
            snapshot_missing: Cell::new(false),
        }
    }

    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let keep = first.index - self.start_index - 1;
        assert!(
            keep <= self.entries.len() as u64,
            "gap before entry {}",
            first.index
        );
        self.entries.truncate(keep as usize);
        self.entries.extend(entries.iter().cloned());
    }

    /// A snapshot took the log's place.
    pub(super) fn reset(&mut self, meta: &CheckpointMeta) {
        self.entries.clear();
        self.start_index = meta.index;
        self.start_term = meta.term;
        self.conf = meta.conf.clone();
    }

    pub(super) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub(super) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    pub(super) fn set_conf(&mut self, conf: ConfState) {
        self.conf = conf;
    }

    pub(super) fn conf(&self) -> &ConfState {
        &self.conf
    }

    pub(super) fn set_checkpoint(&mut self, meta: CheckpointMeta) {
        self.checkpoint = Some(meta);
    }

    pub(super) fn checkpoint(&self) -> Option<&CheckpointMeta> {
        self.checkpoint.as_ref()
    }

    /// Whether a snapshot was asked for that the checkpoint could not give, since the last call.
    pub(super) fn take_snapshot_missing(&mut self) -> bool {
        self.snapshot_missing.take()
    }

    /// Forgets entries up to `index`.
    pub(super) fn compact(&mut self, index: u64) {
        let Some(term) = self.term_at(index) else { return };
        self.entries.drain(..(index - self.start_index) as usize);
        self.start_index = index;
        self.start_term = term;
    }

    pub(super) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.start_index {
            return Some(self.start_term);
        }
        let offset = index.checked_sub(self.start_index + 1)?;
        self.entries.get(offset as usize).map(|e| e.term)
    }

    pub(super) fn start_index(&self) -> u64 {
        self.start_index
    }

    pub(super) fn last(&self) -> u64 {
        self.start_index + self.entries.len() as u64
    }

    pub(super) fn entry(&self, index: u64) -> Option<&Entry> {
        let offset = index.checked_sub(self.start_index + 1)?;
        self.entries.get(offset as usize)
    }
}

impl Storage for Cache {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let mut hard_state = raft::eraftpb::HardState::default();
        hard_state.term = self.hard_state.term;
        hard_state.vote = self.hard_state.vote;
        hard_state.commit = self.hard_state.commit;
        Ok(RaftState::new(hard_state, conf_to_raft(&self.conf)))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.start_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let max_bytes = max_size.into().unwrap_or(u64::MAX);
        let mut bytes = 0u64;
        let wanted = self
            .entries
            .range((low - self.start_index - 1) as usize..(high - self.start_index - 1) as usize);
        let mut entries = Vec::new();
        for entry in wanted {
            bytes = bytes.saturating_add((entry.data.len() + entry.context.len() + 24) as u64);
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let error = if index < self.start_index {
            StorageError::Compacted
        } else {
            StorageError::Unavailable
        };
        self.term_at(index).ok_or(Error::Store(error))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.start_index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        match &self.checkpoint {
            // A node refuses a snapshot that does not know it.
            Some(meta) if meta.index >= request_index && meta.conf.contains(to) => Ok(snapshot_of(meta)),
            _ => {
                self.snapshot_missing.set(true);
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}
