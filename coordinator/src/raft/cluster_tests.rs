//! Whole clusters of replicas in one thread, with a disk that can crash and a network that can be cut.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use engine::{Actor, Command, Envelope, Timestamp};

use super::*;
use crate::storage::{Checkpoint, LogStore, MemoryLog};

/// Rounds in which a cluster must reach whatever a test waits for.
const ROUNDS_MAX: usize = 5_000;

struct Node {
    replica: Option<Replica>,
    log: MemoryLog,
    checkpoint: Option<Checkpoint>,
    unsynced: Vec<(u64, Option<Checkpoint>)>,
    slow_disk: bool,
    incarnation: u64,
    fetching: Option<SnapshotWanted>,
    applied: BTreeMap<u64, Option<ProposalId>>,
}

struct World {
    nodes: BTreeMap<u64, Node>,
    network: VecDeque<PeerMessage>,
    cut: BTreeSet<u64>,
    checkpoint_entries: u64,
    next_id: u64,
    committed: BTreeMap<ProposalId, u64>,
    refused: BTreeMap<ProposalId, Refused>,
    changed: BTreeSet<ProposalId>,
    removed: BTreeSet<u64>,
    reads: BTreeMap<u64, (u64, u64)>,
    reads_failed: BTreeSet<u64>,
}

impl World {
    fn new(voters: u64, checkpoint_entries: u64) -> World {
        let mut world = World {
            nodes: BTreeMap::new(),
            network: VecDeque::new(),
            cut: BTreeSet::new(),
            checkpoint_entries,
            next_id: 0,
            committed: BTreeMap::new(),
            refused: BTreeMap::new(),
            changed: BTreeSet::new(),
            removed: BTreeSet::new(),
            reads: BTreeMap::new(),
            reads_failed: BTreeSet::new(),
        };
        for id in 1..=voters {
            world.add(id, Some(Checkpoint::founding((1..=voters).collect())));
        }
        world
    }

    fn add(&mut self, id: u64, checkpoint: Option<Checkpoint>) {
        let node = Node {
            replica: None,
            log: MemoryLog::new(),
            checkpoint,
            unsynced: Vec::new(),
            slow_disk: false,
            incarnation: 0,
            fetching: None,
            applied: BTreeMap::new(),
        };
        self.nodes.insert(id, node);
        self.start(id);
    }

    fn start(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.incarnation += 1;
        let mut config = ReplicaConfig::new(id, node.incarnation);
        config.election_ticks_fixed = Some(10 + 3 * id as u32);
        config.checkpoint_entries = self.checkpoint_entries;
        config.retained_entries = 5;
        config.hash_entries = 4;
        let boot = Boot::load(&mut node.log, node.checkpoint.clone()).unwrap();
        node.replica = Some(Replica::new(config, boot).unwrap());
    }

    fn crash(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.replica = None;
        node.log.crash(0);
        node.unsynced.clear();
        node.fetching = None;
        node.applied.clear();
    }

    fn step(&mut self, id: u64, input: Input) {
        if let Some(replica) = &mut self.nodes.get_mut(&id).unwrap().replica {
            replica.step(input).unwrap();
            self.drain(id);
        }
    }

    fn drain(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        while let Some(output) = node.replica.as_mut().and_then(|r| r.ready().unwrap()) {
            self.network.extend(output.messages);
            if let Some(write) = output.write {
                write.to_log(&mut node.log).unwrap();
                node.unsynced.push((write.number, write.install));
            }
            for applied in output.applied {
                assert_eq!(
                    node.applied.insert(applied.index, applied.proposal),
                    None,
                    "applied twice"
                );
                if let Some(proposal) = applied.proposal {
                    self.committed.insert(proposal, applied.index);
                }
            }
            self.refused.extend(output.refused);
            if output.removed {
                self.removed.insert(id);
            }
            self.changed.extend(output.changed.into_iter().map(|(id, _)| id));
            self.reads.extend(
                output
                    .reads
                    .into_iter()
                    .map(|(read, applied)| (read, (id, applied))),
            );
            self.reads_failed.extend(output.reads_failed);
            if let Some(job) = output.checkpoint {
                let checkpoint = job.encode();
                node.checkpoint = Some(checkpoint.clone());
                node.replica
                    .as_mut()
                    .unwrap()
                    .step(Input::CheckpointDurable(checkpoint.meta))
                    .unwrap();
            }
            if let Some(index) = output.compact {
                node.log.compact(index).unwrap();
            }
            if let Some(wanted) = output.fetch {
                node.fetching = Some(wanted);
            }
        }
    }

    fn sync(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        let Some((last, _)) = node.unsynced.last() else {
            return;
        };
        let last = *last;
        node.log.sync().unwrap();
        for (_, install) in node.unsynced.drain(..) {
            node.checkpoint = install.or(node.checkpoint.take());
        }
        self.step(id, Input::Persisted(last));
    }

    fn fetch(&mut self, id: u64) {
        let Some(wanted) = self.nodes.get_mut(&id).unwrap().fetching.take() else {
            return;
        };
        let held = self.nodes[&wanted.from].checkpoint.clone();
        let input = match held.filter(|c| c.meta == wanted.meta && !self.cut.contains(&wanted.from)) {
            Some(checkpoint) => {
                let state = engine::State::decode(&checkpoint.state).unwrap();
                Input::SnapshotArrived(Box::new(Fetched { checkpoint, state }))
            }
            None => Input::SnapshotFailed {
                index: wanted.meta.index,
            },
        };
        self.step(id, input);
    }

    /// One tick for everyone, then messages and disks until nothing moves.
    fn round(&mut self) {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        for &id in &ids {
            self.step(id, Input::Tick);
        }
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                if !self.nodes[&id].slow_disk {
                    self.sync(id);
                }
                self.fetch(id);
            }
            let Some(message) = self.network.pop_front() else {
                return;
            };
            if self.cut.contains(&message.to()) || self.cut.contains(&message.from()) {
                continue;
            }
            let message = PeerMessage::from_wire(message.to_wire()).unwrap();
            if self.nodes.contains_key(&message.to()) {
                self.step(message.to(), Input::Message(message));
            }
        }
    }

    fn until(&mut self, what: &str, mut holds: impl FnMut(&World) -> bool) {
        for _ in 0..ROUNDS_MAX {
            if holds(self) {
                return;
            }
            self.round();
        }
        panic!("never: {what}");
    }

    fn leader(&self) -> Option<u64> {
        let leads = |(id, n): (&u64, &Node)| {
            let ready = n.replica.as_ref().is_some_and(|r| r.role().ready) && !self.cut.contains(id);
            ready.then_some(*id)
        };
        self.nodes.iter().find_map(leads)
    }

    fn await_leader(&mut self) -> u64 {
        self.until("a leader", |w| w.leader().is_some());
        self.leader().unwrap()
    }

    fn propose(&mut self, to: u64) -> ProposalId {
        self.next_id += 1;
        let envelope = Box::new(Envelope {
            request: None,
            actor: Actor::Leader,
            command: Command::Tick,
        });
        let (id, at) = (self.next_id, Timestamp(self.next_id));
        self.step(to, Input::Propose { id, at, envelope });
        id
    }

    fn commit(&mut self, count: usize) {
        let leader = self.await_leader();
        for _ in 0..count {
            let id = self.propose(leader);
            self.settle();
            assert!(self.committed.contains_key(&id), "{:?}", self.refused.get(&id));
        }
    }

    fn change(&mut self, change: Change) -> ProposalId {
        let leader = self.await_leader();
        self.next_id += 1;
        let id = self.next_id;
        self.step(leader, Input::ChangeMembership { id, change });
        self.settle();
        id
    }

    fn applied(&self, id: u64) -> u64 {
        self.nodes[&id].replica.as_ref().map_or(0, Replica::applied_index)
    }

    fn await_equal(&mut self) {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        self.until("all have applied the same", |w| {
            w.leader().is_some() && ids.iter().all(|&id| w.applied(id) == w.applied(ids[0]))
        });
        let entries = |id: u64, index: u64| self.nodes[&id].replica.as_ref().unwrap().entry(index);
        let first = ids
            .iter()
            .map(|id| self.nodes[id].replica.as_ref().unwrap().first_index())
            .max()
            .unwrap();
        for index in first..=self.applied(ids[0]) {
            assert!(
                ids.iter().all(|&id| entries(id, index) == entries(ids[0], index)),
                "entry {index}"
            );
        }
    }
}

#[test]
fn a_leader_is_elected_and_replicates() {
    let mut world = World::new(3, 1_000);
    world.commit(20);
    world.await_equal();
    let leader = world.leader().unwrap();
    let follower = world.nodes.keys().copied().find(|id| *id != leader).unwrap();
    let refused = world.propose(follower);
    assert_eq!(
        world.refused[&refused],
        Refused::NotLeader { leader: Some(leader) }
    );
    assert!(world.nodes[&follower].replica.as_ref().unwrap().lease_ticks() > 0);
    assert_eq!(world.nodes[&leader].replica.as_ref().unwrap().peers().len(), 2);
}

#[test]
fn a_sole_member_leads_itself() {
    let mut world = World::new(1, 1_000);
    world.commit(5);
    world.crash(1);
    world.start(1);
    world.commit(5);
    assert_eq!(world.committed.len(), 10);
}

#[test]
fn nothing_acknowledged_is_lost_when_all_crash() {
    let mut world = World::new(3, 1_000);
    world.commit(10);
    let last = *world.committed.values().max().unwrap();
    for id in 1..=3 {
        world.crash(id);
    }
    for id in 1..=3 {
        world.start(id);
    }
    world.commit(1);
    world.await_equal();
    assert!(world.applied(1) > last);
}

#[test]
fn a_member_whose_disk_was_emptied_halts_with_the_reason() {
    let mut world = World::new(3, 1_000);
    let leader = world.await_leader();
    world.commit(5);
    world.await_equal();
    let emptied = (1..=3).find(|id| *id != leader).unwrap();
    let acknowledged = world.applied(emptied);
    world.crash(emptied);
    world.nodes.get_mut(&emptied).unwrap().log = MemoryLog::new();
    world.start(emptied);
    world.network.clear();
    for _ in 0..10 {
        world.step(leader, Input::Tick);
    }
    let replica = world.nodes.get_mut(&emptied).unwrap().replica.as_mut().unwrap();
    let mut heard = world.network.drain(..).filter(|message| message.0.to == emptied);
    let halt = heard.find_map(|message| replica.step(Input::Message(message)).err());
    assert!(
        matches!(halt, Some(Halt::Forgot { last_index: 1, acknowledged: a, .. }) if a == acknowledged),
        "{halt:?}"
    );
}

/// Three members of which one has committed what the two others, one emptied and one late, then forget.
fn undone(committed_alone: usize) -> (World, u64) {
    let mut world = World::new(3, 1_000);
    world.commit(3);
    world.await_equal();
    let witness = world.leader().unwrap();
    let others: Vec<u64> = (1..=3).filter(|id| *id != witness).collect();
    let (late, emptied) = (others[0], others[1]);
    world.crash(late);
    world.commit(committed_alone);
    world.until("the other has it too", |w| {
        w.applied(emptied) == w.applied(witness)
    });
    world.crash(witness);
    world.crash(emptied);
    world.nodes.get_mut(&emptied).unwrap().log = MemoryLog::new();
    world.network.clear();
    world.start(late);
    world.start(emptied);
    world.await_leader();
    world.start(witness);
    (world, witness)
}

/// Runs until the node halts, and gives the reason.
fn until_halted(world: &mut World, id: u64) -> Halt {
    for _ in 0..ROUNDS_MAX {
        for other in world.nodes.keys().copied().collect::<Vec<_>>() {
            world.step(other, Input::Tick);
            world.sync(other);
        }
        while let Some(message) = world.network.pop_front() {
            let to = message.to();
            let replica = world.nodes.get_mut(&to).unwrap().replica.as_mut().unwrap();
            match replica.step(Input::Message(message)) {
                Ok(()) => world.drain(to),
                Err(halt) => {
                    assert_eq!(to, id, "{halt}");
                    return halt;
                }
            }
            world.sync(to);
        }
    }
    panic!("node {id} never halted");
}

#[test]
fn a_member_halts_that_remembers_more_than_its_leader() {
    let (mut world, witness) = undone(3);
    let first_lost = world.applied(world.leader().unwrap());
    let halt = until_halted(&mut world, witness);
    assert!(
        matches!(halt, Halt::Contradicted { index, leader } if index == first_lost && leader != witness),
        "{halt:?}, not {first_lost}"
    );
    assert!(Halted::from(halt).of_data);
}

#[test]
fn a_member_halts_that_remembers_otherwise_than_a_longer_leader() {
    let (mut world, witness) = undone(3);
    world.cut.insert(witness);
    world.commit(20);
    world.cut.clear();
    let halt = until_halted(&mut world, witness);
    assert!(matches!(halt, Halt::Contradicted { .. }), "{halt:?}");
}

/// A leader that lost touch with a member begins again where that one acknowledged last: what it says may come twice
/// before the first of it is written.
#[test]
fn a_leader_may_say_twice_what_replaces_entries() {
    let mut world = World::new(3, 1_000);
    world.commit(3);
    world.await_equal();
    let old = world.leader().unwrap();
    world.cut.insert(old);
    for _ in 0..5 {
        world.propose(old);
    }
    world.settle();
    world.crash(old);
    world.commit(5);
    let common = world.applied(world.leader().unwrap());
    world.cut.clear();
    world.start(old);
    for _ in 0..ROUNDS_MAX {
        for id in world.nodes.keys().copied().collect::<Vec<_>>() {
            world.step(id, Input::Tick);
            world.sync(id);
        }
        while let Some(message) = world.network.pop_front() {
            if message.to() == old {
                let replica = world.nodes.get_mut(&old).unwrap().replica.as_mut().unwrap();
                replica.step(Input::Message(message.clone())).unwrap();
                replica.step(Input::Message(message)).unwrap();
                world.drain(old);
            } else {
                world.step(message.to(), Input::Message(message));
            }
        }
        if world.applied(old) >= common {
            return world.await_equal();
        }
    }
    panic!("node {old} never caught up");
}

#[test]
#[cfg_attr(feature = "fault-skip-fsync", should_panic)]
fn acknowledgements_wait_for_the_disk() {
    let mut world = World::new(3, 1_000);
    let leader = world.await_leader();
    for id in 1..=3 {
        world.nodes.get_mut(&id).unwrap().slow_disk = id != leader;
    }
    let id = world.propose(leader);
    world.settle();
    assert!(
        !world.committed.contains_key(&id),
        "no follower has it on its disk"
    );
    let follower = (1..=3).find(|id| *id != leader).unwrap();
    world.sync(follower);
    world.settle();
    assert!(world.committed.contains_key(&id));
}

#[test]
fn lost_leadership_leaves_the_outcome_unknown() {
    let mut world = World::new(3, 1_000);
    world.commit(3);
    let old = world.leader().unwrap();
    world.cut.insert(old);
    let id = world.propose(old);
    world.until("the old leader steps down", |w| {
        !w.nodes[&old].replica.as_ref().unwrap().role().is_leader
    });
    assert_eq!(world.refused[&id], Refused::OutcomeUnknown);
    assert_eq!(world.nodes[&old].replica.as_ref().unwrap().lease_ticks(), 0);
    world.commit(3);
    world.cut.clear();
    world.await_equal();
    assert!(!world.committed.contains_key(&id));
}

#[test]
fn a_lagging_member_catches_up_by_snapshot() {
    let mut world = World::new(3, 20);
    world.commit(3);
    let lagging = (1..=3).find(|id| Some(*id) != world.leader()).unwrap();
    world.crash(lagging);
    world.commit(100);
    world.start(lagging);
    world.await_equal();
    assert!(world.nodes[&lagging].checkpoint.as_ref().unwrap().meta.index > 20);
    world.commit(3);
    world.crash(lagging);
    world.start(lagging);
    world.await_equal();
}

#[test]
fn a_snapshot_that_cannot_be_fetched_is_announced_again() {
    let mut world = World::new(3, 20);
    world.commit(3);
    let lagging = (1..=3).find(|id| Some(*id) != world.leader()).unwrap();
    world.crash(lagging);
    world.commit(100);
    world.start(lagging);
    // The first one is lost on the way: nothing but the leader's own patience ends it.
    world.until("it is announced", |w| {
        w.network.iter().any(|m| m.is_snapshot()) || w.applied(lagging) > 20
    });
    world.network.retain(|m| !m.is_snapshot());
    world.await_equal();
}

#[test]
fn reads_see_what_was_committed_before_them() {
    let mut world = World::new(3, 1_000);
    world.commit(5);
    let leader = world.leader().unwrap();
    for (read, at) in [(1, leader), (2, leader % 3 + 1)] {
        let committed = *world.committed.values().max().unwrap();
        world.step(at, Input::Read { id: read });
        world.until("the read is answered", |w| w.reads.contains_key(&read));
        assert!(world.reads[&read].1 >= committed);
        assert_eq!(world.reads[&read].0, at);
        world.commit(1);
    }
    world.cut.insert(leader);
    world.step(leader, Input::Read { id: 3 });
    world.until("a read without a quorum is given up", |w| {
        w.reads_failed.contains(&3)
    });
}

#[test]
fn membership_grows_and_shrinks_one_step_at_a_time() {
    let mut world = World::new(3, 50);
    world.commit(100);
    world.add(4, None);
    let id = world.change(Change::AddLearner(4));
    world.until("the learner is added", |w| w.changed.contains(&id));
    world.await_equal();
    let id = world.change(Change::Promote(4));
    world.until("it votes", |w| w.changed.contains(&id));
    let leader = world.leader().unwrap();
    let refused = world.change(Change::Remove(leader));
    assert_eq!(
        world.refused[&refused],
        Refused::Change(ChangeRefused::Leads(leader))
    );
    world.step(leader, Input::TransferLeader { to: 4 });
    world.until("it leads", |w| w.leader() == Some(4));
    let id = world.change(Change::Remove(leader));
    world.until("the old leader is out", |w| w.changed.contains(&id));
    assert_eq!(
        world.removed,
        BTreeSet::from([leader]),
        "it learns of it, and nobody else is out"
    );
    world.nodes.remove(&leader);
    world.commit(5);
    world.await_equal();
    assert!(!world.nodes[&4].replica.as_ref().unwrap().conf().contains(leader));
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let trace = || {
        let mut world = World::new(3, 20);
        world.commit(30);
        world.crash(2);
        world.commit(40);
        world.start(2);
        world.await_equal();
        (
            world.applied(1),
            world.committed.clone(),
            world.nodes[&1].replica.as_ref().unwrap().role(),
        )
    };
    assert_eq!(trace(), trace());
}
