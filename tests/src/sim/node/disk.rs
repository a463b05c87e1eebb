//! A coordinator's disk: writes in order, one sync at a time for all that has gathered, as the coordinator's own
//! disk thread does it; and what a crash leaves of them.

use std::collections::VecDeque;

use coordinator::raft::{Boot, BootError, Write};
use coordinator::storage::{Checkpoint, LogStore, MemoryLog, StorageError};

use super::super::rng::Rng;
use super::super::tally::{Happened, Tally};

const SECTOR_BYTES: usize = 512;

/// The log, the checkpoint, and the writes on their way to them.
pub(super) struct SimDisk {
    log: MemoryLog,
    checkpoint: Option<Checkpoint>,
    /// Handed over; none of it has reached the disk.
    waiting: VecDeque<Write>,
    under_way: Option<UnderWay>,
}

/// A sync: the log holds its writes, not yet durable.
struct UnderWay {
    number: u64,
    install: Option<Checkpoint>,
}

impl SimDisk {
    pub fn new(checkpoint: Checkpoint) -> SimDisk {
        SimDisk {
            log: MemoryLog::new(),
            checkpoint: Some(checkpoint),
            waiting: VecDeque::new(),
            under_way: None,
        }
    }

    pub fn boot(&mut self) -> Result<Boot, BootError> {
        Boot::load(&mut self.log, self.checkpoint.clone())
    }

    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    pub fn write(&mut self, write: Write) {
        self.waiting.push_back(write);
    }

    /// Begins a sync of what has gathered, if none is under way. Gives the number of its last write. A snapshot
    /// begins a sync of its own, because its checkpoint must be durable before its log part.
    pub fn begin(&mut self) -> Result<Option<u64>, StorageError> {
        if self.under_way.is_some() {
            return Ok(None);
        }
        let Some(first) = self.waiting.pop_front() else {
            return Ok(None);
        };
        first.to_log(&mut self.log)?;
        let mut number = first.number;
        while let Some(write) = self.waiting.pop_front_if(|write| write.install.is_none()) {
            write.to_log(&mut self.log)?;
            number = write.number;
        }
        self.under_way = Some(UnderWay {
            number,
            install: first.install,
        });
        Ok(Some(number))
    }

    /// Whether a snapshot is being installed by the present sync.
    pub fn is_installing(&self) -> bool {
        self.under_way.as_ref().is_some_and(|sync| sync.install.is_some())
    }

    /// The sync is through. Gives the number of the last durable write.
    pub fn finish(&mut self) -> Result<u64, StorageError> {
        let under_way = self.under_way.take().expect("a sync is under way");
        if under_way.install.is_some() {
            self.checkpoint = under_way.install;
        }
        self.log.sync()?;
        Ok(under_way.number)
    }

    /// A checkpoint of this node's own state is durable.
    pub fn put_checkpoint(&mut self, checkpoint: Checkpoint) {
        let held = self.checkpoint.as_ref();
        if held.is_none_or(|held| held.meta.index < checkpoint.meta.index) {
            self.checkpoint = Some(checkpoint);
        }
    }

    pub fn compact(&mut self, index: u64) -> Result<(), StorageError> {
        self.log.compact(index)
    }

    /// The power goes: what was not synced is lost, but for what by chance had arrived: some writes from the
    /// front, and of the next one some bytes or some sectors.
    pub fn crash(&mut self, rng: &mut Rng, tally: &mut Tally) -> Result<(), StorageError> {
        let never_written = self.waiting.len();
        self.waiting.clear();
        let written = self.log.unsynced();
        let mut kept = rng.below(written + 1);
        let mut torn = kept < written && rng.percent(70);
        if let Some(install) = self.under_way.take().and_then(|u| u.install) {
            tally.note(Happened::CrashInInstall);
            if rng.percent(50) {
                self.checkpoint = Some(install);
            } else {
                (kept, torn) = (0, false);
            }
        }
        if torn {
            torn = self.log.crash_torn(kept, |bytes| tear(bytes, rng))?;
            kept += usize::from(!torn);
        } else {
            self.log.crash(kept);
        }
        if torn {
            tally.note(Happened::TornWrite);
        }
        if never_written > 0 || kept < written {
            tally.note(Happened::LostWrites);
        }
        Ok(())
    }
}

/// Makes zero what did not arrive: everything behind some byte, or some whole sectors.
fn tear(bytes: &mut [u8], rng: &mut Rng) {
    if rng.percent(50) {
        let arrived = rng.below(bytes.len());
        bytes[arrived..].fill(0);
        return;
    }
    let sectors = bytes.len().div_ceil(SECTOR_BYTES);
    let lost = rng.below(sectors);
    for (sector, bytes) in bytes.chunks_mut(SECTOR_BYTES).enumerate() {
        if sector == lost || rng.percent(30) {
            bytes.fill(0);
        }
    }
}
