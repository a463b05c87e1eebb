//! Snapshots on their way: one that this node fetches, and those that it announced to followers.

use std::collections::BTreeMap;

use raft::eraftpb::Message;

use super::io::{Fetched, SnapshotWanted};
use crate::storage::CheckpointMeta;

/// The snapshot that a leader announced and that this node fetches: the message waits here until it is whole.
#[derive(Default)]
pub(super) struct Arriving {
    parked: Option<(Message, CheckpointMeta)>,
    arrived: Option<Fetched>,
}

impl Arriving {
    /// A snapshot was announced. Gives what to fetch, unless it is being fetched.
    pub(super) fn announced(&mut self, message: Message, meta: CheckpointMeta) -> Option<SnapshotWanted> {
        let from = message.from;
        let same = self
            .parked
            .as_ref()
            .is_some_and(|(parked, known)| *known == meta && parked.from == from);
        self.parked = Some((message, meta.clone()));
        (!same).then_some(SnapshotWanted { from, meta })
    }

    /// It has been fetched: gives the message to step, if it is the one that is waited for.
    pub(super) fn arrived(&mut self, fetched: Fetched) -> Option<Message> {
        let (message, _) = self
            .parked
            .take_if(|(_, meta)| *meta == fetched.checkpoint.meta)?;
        self.arrived = Some(fetched);
        Some(message)
    }

    /// It cannot be had: the leader will announce it, or a newer one, again.
    pub(super) fn failed(&mut self, index: u64) {
        self.parked.take_if(|(_, meta)| meta.index == index);
    }

    /// What arrived, for raft's next ready: raft restored it, or did not want it any more.
    pub(super) fn take(&mut self) -> Option<Fetched> {
        self.arrived.take()
    }
}

/// Followers that a snapshot was announced to. Raft sends them nothing else until they have it, or until it is
/// told that they will not: that must happen in the end, whatever was lost on the way.
pub(super) struct Leaving {
    idle_ticks: BTreeMap<u64, u32>,
    idle_ticks_max: u32,
}

impl Leaving {
    pub(super) fn new(idle_ticks_max: u32) -> Leaving {
        Leaving {
            idle_ticks: BTreeMap::new(),
            idle_ticks_max,
        }
    }

    pub(super) fn began(&mut self, to: u64) {
        self.idle_ticks.insert(to, 0);
    }

    pub(super) fn served(&mut self, to: u64) {
        if let Some(ticks) = self.idle_ticks.get_mut(&to) {
            *ticks = 0;
        }
    }

    pub(super) fn ended(&mut self, to: u64) {
        self.idle_ticks.remove(&to);
    }

    /// Time passes. Gives the followers that stopped fetching; `still`: raft still waits for this one.
    pub(super) fn tick(&mut self, still: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut failed = Vec::new();
        self.idle_ticks.retain(|&to, ticks| {
            *ticks += 1;
            let given_up = *ticks > self.idle_ticks_max;
            if still(to) && given_up {
                failed.push(to);
            }
            still(to) && !given_up
        });
        failed
    }
}
