//! What a follower remembers against what its leader says of it: where the two cannot both be true, a disk lost what
//! it had acknowledged, and the node halts instead of voting and serving on.
//!
//! Raft itself takes its memory for granted: to entries below its commit index it answers that it holds them,
//! whatever they are.

use raft::RaftLog;
use raft::eraftpb::{Entry, EntryType, Message};

use super::cache::Cache;
use super::io::Halt;

/// A leader's heartbeat commits only what this node has acknowledged to it. `term` is this node's.
pub(super) fn holds_what_it_acknowledged(
    log: &RaftLog<Cache>,
    term: u64,
    heartbeat: &Message,
) -> Result<(), Halt> {
    let last_index = log.last_index();
    if heartbeat.term < term || heartbeat.commit <= last_index {
        return Ok(());
    }
    Err(Halt::Forgot {
        last_index,
        acknowledged: heartbeat.commit,
        leader: heartbeat.from,
    })
}

/// A leader of this term or a later one holds every entry that this node knows to be committed.
pub(super) fn leader_holds_what_was_committed(
    log: &RaftLog<Cache>,
    term: u64,
    append: &Message,
) -> Result<(), Halt> {
    if append.term < term {
        return Ok(());
    }
    let before = (append.index, append.log_term);
    let entries = append.entries.iter().map(|entry| (entry.index, entry.term));
    for (index, term) in std::iter::once(before).chain(entries) {
        is_committed_as(log, index, term, append.from)?;
    }
    // Two leaders of one term are what a forgotten vote can lead to.
    let commands = append
        .entries
        .iter()
        .filter(|entry| entry.entry_type == EntryType::EntryNormal);
    for said in commands.take_while(|entry| entry.index <= log.committed) {
        if own_entry(log, said.index).is_some_and(|own| own.data != said.data) {
            return Err(Halt::Contradicted {
                index: said.index,
                leader: append.from,
            });
        }
    }
    Ok(())
}

/// What this node holds at `index`. What a leader has just replaced is in the store still, until the new is written.
fn own_entry(log: &RaftLog<Cache>, index: u64) -> Option<&Entry> {
    match index.checked_sub(log.unstable.offset) {
        Some(offset) => log.unstable.entries.get(offset as usize),
        None => log.store.entry(index),
    }
}

/// What this node has committed at `index`, if it has, is of `term`, as the leader says.
pub(super) fn is_committed_as(log: &RaftLog<Cache>, index: u64, term: u64, leader: u64) -> Result<(), Halt> {
    if index > log.committed {
        return Ok(());
    }
    let compacted = log.first_index() - 1;
    let own = log.term(index.max(compacted))?;
    // Of what is compacted the last term is still known, and terms only grow.
    let agrees = if index < compacted {
        term <= own
    } else {
        term == own
    };
    match agrees {
        true => Ok(()),
        false => Err(Halt::Contradicted { index, leader }),
    }
}
