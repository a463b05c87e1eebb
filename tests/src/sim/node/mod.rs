//! Coordinators: the real replica and planner, with a simulated disk and a thin shell that does what the
//! coordinator's control, hub and leader do.

mod disk;
mod drive;
mod leader;
mod proposals;
mod reports;
mod sessions;

use std::collections::BTreeMap;

use coordinator::raft::{Replica, ReplicaConfig};
use coordinator::storage::Checkpoint;
use engine::State;
use engine::id::{ApprovalId, AttemptKey, Digest, RunId, TaskKey};

use super::event::Event;
use super::invariants::Check;
use super::tally::Happened;
use super::world::{TICK_US, World};
use disk::SimDisk;
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
    /// It dies in the middle of a sync (true: of a snapshot's), and comes back after so long.
    pub doom: Option<(bool, u64)>,
    replica: Option<Replica>,
    /// The index at which its state was last looked at; 0: not since it started.
    seen: u64,
    /// When it last had its lease.
    led_us: u64,
    disk: SimDisk,
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
            doom: None,
            replica: None,
            seen: 0,
            led_us: 0,
            disk: SimDisk::new(Checkpoint::founding(voters.clone())),
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

    /// Where it is now and the hash of its state, if it has applied something since this was asked last.
    pub fn moved(&mut self) -> Option<(u64, Digest)> {
        let index = self.replica.as_ref()?.applied_index();
        // While a snapshot is on its way to the disk, the state is ahead of the index.
        let at = self.with_state(State::applied_index)?;
        if at != index || index == self.seen {
            return None;
        }
        self.seen = index;
        Some(self.hash())
    }

    pub fn check(&self) {
        self.with_state(State::check);
    }

    /// What has not reached a named end: runs, steps and tasks.
    pub fn open(&self) -> Vec<String> {
        let mut open = Vec::new();
        self.with_state(|state| {
            for run in state.runs_newest_first() {
                if !run.status.is_end() {
                    open.push(format!("run {} is {}", run.id, run.status.as_str()));
                }
                for step in 0..run.steps.len() as u16 {
                    for task in run.tasks(step, 0).filter(|t| t.task.ended_at.is_none()) {
                        let (step, item) = (task.step_name, task.item);
                        open.push(format!("task {}/{step}/{item} is {}", run.id, task.status()));
                    }
                }
            }
        });
        open
    }

    /// Every run that exists and that no other run began.
    pub fn runs(&self) -> Vec<RunId> {
        let asked_for = |state: &State| {
            let runs = state.runs_newest_first().filter(|run| run.parent.is_none());
            runs.map(|run| run.id).collect()
        };
        self.with_state(asked_for).unwrap_or_default()
    }

    /// Every run that another one began, and the attempt that it is of.
    pub fn children(&self) -> Vec<(AttemptKey, RunId)> {
        let begun = |state: &State| {
            let runs = state.runs_newest_first();
            runs.filter_map(|run| Some((run.parent?.attempt, run.id)))
                .collect()
        };
        self.with_state(begun).unwrap_or_default()
    }

    /// Tasks that the cluster says succeeded though the run that they began is not there.
    pub fn without_child(&self) -> Vec<String> {
        let mut tasks = Vec::new();
        self.with_state(|state| {
            for run in state.runs_newest_first() {
                for step in (0..run.steps.len() as u16).filter(|&step| run.begins_run(step)) {
                    for task in run.tasks(step, 0).filter(|task| task.status() == "succeeded") {
                        let key = AttemptKey {
                            task: TaskKey {
                                run: run.id,
                                step,
                                item: task.item,
                            },
                            attempt: task.attempts(),
                            token: task.task.token,
                        };
                        if state.child_of(&key).is_none() {
                            tasks.push(format!("{key:?}"));
                        }
                    }
                }
            }
        });
        tasks
    }

    /// A request for people's answer that waits as this node knows, the first behind this number or of all; its
    /// binding, and whether it is a question.
    pub fn asked(&self, behind: u64) -> Option<(ApprovalId, Digest, bool)> {
        self.with_state(|state| {
            let waiting = || {
                state
                    .approvals_newest_first()
                    .filter(|asked| !asked.status.is_end())
            };
            let count = (waiting().count() as u64).max(1);
            let asked = waiting().nth((behind % count) as usize)?;
            Some((asked.id, asked.binding, asked.question.is_some()))
        })
        .flatten()
    }

    /// Every task that the cluster says succeeded on a host.
    pub fn succeeded_tasks(&self) -> Vec<(String, String, u32)> {
        let mut tasks = Vec::new();
        self.with_state(|state| {
            for run in state.runs_newest_first() {
                for step in 0..run.steps.len() as u16 {
                    let name = run.declared(step).name.clone();
                    for task in run
                        .tasks(step, 0)
                        .filter(|t| t.status() == "succeeded" && t.agent.is_some())
                    {
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
        let boot = node.disk.boot().map_err(|e| ("halted", e.to_string()))?;
        let replica =
            Replica::new(config, boot).map_err(|e| ("halted", format!("node {id} does not start: {e}")))?;
        self.invariants.acknowledged.starts(id, replica.applied_index());
        node.replica = Some(replica);
        node.seen = 0;
        node.led_us = self.now_us;
        let life = node.life;
        let delay = self.rng.between(1_000, TICK_US);
        self.after(delay, Event::NodeTick { node: id, life });
        self.node_work(id)
    }

    pub(super) fn node_dies(&mut self, id: u64, life: u64, back_us: u64) -> Check {
        if self.nodes[&id].life != life || !self.nodes[&id].is_alive() {
            return Ok(());
        }
        self.after(back_us, Event::NodeBack { node: id });
        self.crash_node(id)
    }

    pub(super) fn crash_node(&mut self, id: u64) -> Check {
        self.tally.note(Happened::NodeCrash);
        self.invariants.lease.forget(id);
        let node = self.nodes.get_mut(&id).expect("a node");
        node.replica = None;
        node.disk
            .crash(&mut self.rng, &mut self.tally)
            .map_err(|e| ("halted", format!("node {id} could not start again: {e}")))?;
        node.waiting.clear();
        node.sessions.clear();
        node.reports.clear();
        node.flushing = false;
        node.leading = None;
        self.links_die(id);
        Ok(())
    }
}
