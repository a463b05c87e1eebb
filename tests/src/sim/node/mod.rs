//! Coordinators: the real replica and planner, with a simulated disk and a thin shell that does what the
//! coordinator's control, hub and leader do.

mod drive;
mod leader;
mod proposals;
mod reports;
mod sessions;

use std::collections::BTreeMap;

use coordinator::raft::{Boot, Replica, ReplicaConfig};
use coordinator::storage::{Checkpoint, MemoryLog};
use engine::State;
use engine::id::{Digest, RunId};

use super::event::Event;
use super::invariants::Check;
use super::world::{TICK_US, World};
use leader::Leading;
pub(super) use proposals::Waiting;
use reports::Heard;
use sessions::Session;

/// How long a sync takes on a healthy disk, at most.
pub(super) const SYNC_US: u64 = 3_000;
const ELECTION_TICKS: u32 = 10;

/// One coordinator and its disk.
pub(super) struct SimNode {
    pub id: u64,
    pub life: u64,
    pub sync_us: u64,
    pub skew_ms: i64,
    replica: Option<Replica>,
    log: MemoryLog,
    checkpoint: Option<Checkpoint>,
    voters: Vec<u64>,
    next_id: u64,
    waiting: BTreeMap<u64, (Waiting, u64)>,
    sessions: BTreeMap<usize, Session>,
    reports: Vec<Heard>,
    flushing: bool,
    leading: Option<Leading>,
}

impl SimNode {
    pub fn new(id: u64, nodes: u64) -> SimNode {
        let voters: Vec<u64> = (1..=nodes).collect();
        SimNode {
            id,
            life: 0,
            sync_us: SYNC_US,
            skew_ms: 0,
            replica: None,
            log: MemoryLog::new(),
            checkpoint: Some(Checkpoint::founding(voters.clone())),
            voters,
            next_id: 0,
            waiting: BTreeMap::new(),
            sessions: BTreeMap::new(),
            reports: Vec::new(),
            flushing: false,
            leading: None,
        }
    }

    pub fn is_alive(&self) -> bool {
        self.replica.is_some()
    }

    pub fn applied(&self) -> u64 {
        self.replica.as_ref().map_or(0, Replica::applied_index)
    }

    fn with_state<R>(&self, f: impl FnOnce(&State) -> R) -> Option<R> {
        self.replica.as_ref().map(|r| f(&r.state().read()))
    }

    pub fn hash(&self) -> (u64, Digest) {
        (
            self.applied(),
            self.with_state(State::hash).expect("the node is up"),
        )
    }

    pub fn check(&self) {
        self.with_state(State::check);
    }

    /// What is still open of a run, if anything.
    pub fn open_run(&self, id: &RunId) -> Option<String> {
        self.with_state(|state| match state.run(id) {
            None => Some(format!("run {id} is not there")),
            Some(run) if run.status.is_end() => None,
            Some(run) => Some(format!("run {id} is {}", run.status.as_str())),
        })
        .flatten()
    }

    /// Every task that the cluster says succeeded.
    pub fn succeeded_tasks(&self) -> Vec<(String, String, u32)> {
        let mut tasks = Vec::new();
        self.with_state(|state| {
            for run in state.runs_newest_first() {
                for step in 0..run.manifest().step_count() {
                    let name = run.declared(step).name.clone();
                    for task in run.tasks(step, 0).filter(|t| t.status() == "succeeded") {
                        tasks.push((run.id.to_string(), name.clone(), task.item));
                    }
                }
            }
        });
        tasks
    }

    fn leads(&self) -> bool {
        self.replica.as_ref().is_some_and(|r| r.role().is_leader)
    }
}

impl World {
    pub(super) fn boot_node(&mut self, id: u64) -> Check {
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.is_alive() {
            return Ok(());
        }
        node.life += 1;
        let mut config = ReplicaConfig::new(id, node.life);
        config.election_ticks = ELECTION_TICKS;
        config.election_ticks_fixed = Some(ELECTION_TICKS + 3 * id as u32 + (self.seed % 3) as u32);
        config.checkpoint_entries = 60;
        config.retained_entries = 10;
        config.hash_entries = 16;
        let boot =
            Boot::load(&mut node.log, node.checkpoint.clone()).map_err(|e| ("halted", e.to_string()))?;
        let replica =
            Replica::new(config, boot).map_err(|e| ("halted", format!("node {id} does not start: {e}")))?;
        node.replica = Some(replica);
        let life = node.life;
        let delay = self.rng.between(1_000, TICK_US);
        self.after(delay, Event::NodeTick { node: id, life });
        self.node_work(id)
    }

    pub(super) fn crash_node(&mut self, id: u64) {
        let unsynced = self.nodes[&id].log.unsynced();
        let kept = self.rng.below(unsynced + 1);
        let node = self.nodes.get_mut(&id).expect("a node");
        node.replica = None;
        node.log.crash(kept);
        node.waiting.clear();
        node.sessions.clear();
        node.reports.clear();
        node.flushing = false;
        node.leading = None;
        self.links_die(id);
    }
}
