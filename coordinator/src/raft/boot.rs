//! What a replica starts from.

use engine::State;

use super::io::Halt;
use crate::storage::{Checkpoint, CheckpointMeta, LogStore, Recovered, StorageError};

/// The log and the checkpoint of a node, fitted together.
#[derive(Debug)]
pub struct Boot {
    pub(super) log: Recovered,
    pub(super) checkpoint: Option<CheckpointMeta>,
    pub(super) state: State,
}

/// A node that cannot start from what its disk holds.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The log and the checkpoint do not fit.
    #[error(transparent)]
    Halt(#[from] Halt),
    /// The checkpoint cannot be decoded.
    #[error("the checkpoint: {0}")]
    State(#[from] engine::state::SnapshotError),
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Boot {
    /// Reads the log and fits it to the checkpoint: [`Checkpoint::founding`] at a founding member's first start,
    /// none at the first start of a member that joins. Where a crash came between a checkpoint that was installed
    /// and the log that it replaces, the log is replaced here, durably.
    pub fn load(log: &mut dyn LogStore, checkpoint: Option<Checkpoint>) -> Result<Boot, BootError> {
        let mut recovered = log.load()?;
        let Some(checkpoint) = checkpoint else {
            no_gap(&recovered, 0)?;
            clamp_commit(&mut recovered);
            return Ok(Boot {
                log: recovered,
                checkpoint: None,
                state: State::default(),
            });
        };
        let state = State::decode(&checkpoint.state)?;
        let meta = checkpoint.meta;
        if recovered.hard_state.term < meta.term {
            recovered.hard_state.term = meta.term;
            recovered.hard_state.vote = 0;
        }
        recovered.hard_state.commit = recovered.hard_state.commit.max(meta.index);
        if recovered.term(meta.index) != Some(meta.term) {
            no_gap(&recovered, meta.index)?;
            recovered.entries.clear();
            recovered.start_index = meta.index;
            recovered.start_term = meta.term;
            clamp_commit(&mut recovered);
            log.reset(meta.index, meta.term)?;
            log.set_hard_state(recovered.hard_state)?;
            log.sync()?;
        }
        clamp_commit(&mut recovered);
        Ok(Boot {
            log: recovered,
            checkpoint: Some(meta),
            state,
        })
    }
}

fn no_gap(log: &Recovered, checkpoint: u64) -> Result<(), Halt> {
    if log.start_index > checkpoint {
        return Err(Halt::Gap {
            log_start: log.start_index + 1,
            checkpoint,
        });
    }
    Ok(())
}

/// A commit index beyond the log is never written; a smaller one is always safe.
fn clamp_commit(log: &mut Recovered) {
    log.hard_state.commit = log.hard_state.commit.min(log.last_index());
}
