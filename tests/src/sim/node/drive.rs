//! Doing what the replica asks for: its messages, its writes, what was applied.

use std::collections::BTreeSet;
use std::sync::Arc;

use coordinator::raft::{AppliedEntry, Fetched, Input, Output, Refused, SnapshotWanted};
use coordinator::storage::Checkpoint;
use engine::planner::Planner;
use engine::{Effect, State};

use super::super::event::{Event, Packet};
use super::super::invariants::Check;
use super::super::tally::Happened;
use super::super::world::{TICK_US, World, fingerprint};
use super::SYNC_US;
use super::leader::Leading;
use super::proposals::Waiting;

/// How often another message comes in before the last one was acted on.
const FOLLOWED_BY_MORE_PERCENT: u64 = 30;

impl World {
    pub(in crate::sim) fn node_input(&mut self, id: u64, life: u64, input: Input) -> Check {
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.life != life || !node.is_alive() {
            return Ok(());
        }
        self.step(id, input)?;
        self.node_work(id)
    }

    pub(super) fn step(&mut self, id: u64, input: Input) -> Check {
        let Some(replica) = &mut self.nodes.get_mut(&id).expect("a node").replica else {
            return Ok(());
        };
        replica
            .step(input)
            .map_err(|halt| ("halted", format!("node {id}: {halt}")))
    }

    pub(in crate::sim) fn node_tick(&mut self, id: u64, life: u64) -> Check {
        if self.nodes[&id].life != life || !self.nodes[&id].is_alive() {
            return Ok(());
        }
        // Clocks run a little differently.
        let next = TICK_US - 1_000 + self.rng.between(0, 2_000);
        self.after(next, Event::NodeTick { node: id, life });
        self.step(id, Input::Tick)?;
        if self.rng.percent(5) {
            let node = self.nodes.get_mut(&id).expect("a node");
            node.next_id += 1;
            let read = node.next_id;
            self.invariants.acknowledged.read_asked(id, read);
            self.step(id, Input::Read { id: read })?;
        }
        self.node_work(id)?;
        self.give_up_waiting(id)?;
        self.look_after_sessions(id)?;
        self.node_work(id)
    }

    /// Everything that the replica wants done, and what follows from it, until nothing is left.
    pub(super) fn node_work(&mut self, id: u64) -> Check {
        loop {
            let Some(replica) = &mut self.nodes.get_mut(&id).expect("a node").replica else {
                return Ok(());
            };
            match replica.ready() {
                Err(halt) => return Err(("halted", format!("node {id}: {halt}"))),
                Ok(Some(output)) => self.node_output(id, output)?,
                Ok(None) => {
                    if !self.lead(id)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn node_output(&mut self, id: u64, output: Output) -> Check {
        let life = self.nodes[&id].life;
        let from_leader = self.nodes[&id].leads();
        for message in output.messages {
            let to = message.to();
            let delays = self.network.deliveries(&mut self.rng, &mut self.tally, id, to);
            if delays.is_empty() && message.is_snapshot() {
                let input = Box::new(Input::Unreachable { to, snapshot: true });
                self.after(
                    1_000,
                    Event::NodeInput {
                        node: id,
                        life,
                        input,
                    },
                );
            }
            for delay in delays {
                let packet = Packet::Raft {
                    message: message.clone(),
                    from_leader,
                };
                self.after(delay, Event::Arrive { from: id, to, packet });
            }
        }
        if let Some(write) = output.write {
            if let Some(checkpoint) = &write.install {
                self.tally.note(Happened::SnapshotInstalled);
                self.invariants.acknowledged.starts(id, checkpoint.meta.index);
            }
            self.nodes.get_mut(&id).expect("a node").disk.write(write);
            self.begin_sync(id)?;
        }
        let mut effects: Vec<Arc<Vec<Effect>>> = Vec::new();
        self.note_applied(id, &output.applied)?;
        for entry in output.applied {
            effects.push(entry.effects);
            if let Some(proposal) = entry.proposal {
                self.answered(id, proposal, Ok((entry.index, entry.reply)))?;
            }
        }
        for (proposal, why) in output.refused {
            let known = !matches!(why, Refused::OutcomeUnknown);
            self.refused(id, proposal, known)?;
        }
        for (read, index) in output.reads {
            self.invariants.acknowledged.read_answered(id, read, index)?;
        }
        if let Some(role) = output.role {
            let grace = self.rng.between(0, 300_000);
            let node = self.nodes.get_mut(&id).expect("a node");
            if role.ready && node.leading.is_none() {
                self.terms_led.insert(role.term);
                if self.terms_led.len() > 1 {
                    self.tally.note(Happened::LeaderChange);
                }
                let planner = node.with_state(Planner::new).expect("it is up");
                let from_us = self.now_us + grace;
                node.leading = Some(Leading {
                    planner,
                    plans: BTreeSet::new(),
                    tick: None,
                    from_us,
                    children: BTreeSet::new(),
                    calls: BTreeSet::new(),
                });
            } else if !role.is_leader {
                node.leading = None;
            }
        }
        if let Some(wanted) = output.fetch {
            let delay = self.rng.between(1_000, 30_000);
            self.after(
                delay,
                Event::Fetched {
                    node: id,
                    life,
                    wanted,
                },
            );
        }
        if let Some(job) = output.checkpoint {
            let checkpoint = Box::new(job.encode());
            let delay = self.rng.between(1_000, 50_000);
            self.after(
                delay,
                Event::CheckpointDone {
                    node: id,
                    life,
                    checkpoint,
                },
            );
        }
        if let Some(index) = output.compact {
            self.tally.note(Happened::Compaction);
            let node = self.nodes.get_mut(&id).expect("a node");
            node.disk.compact(index).map_err(|e| ("halted", e.to_string()))?;
        }
        if let Some((index, hash)) = output.hash {
            self.invariants.same_state.hashed(id, index, hash)?;
            for to in self.nodes[&id].voters.clone().into_iter().filter(|&v| v != id) {
                for delay in self.network.deliveries(&mut self.rng, &mut self.tally, id, to) {
                    self.after(
                        delay,
                        Event::Arrive {
                            from: id,
                            to,
                            packet: Packet::Hash { index, hash },
                        },
                    );
                }
            }
        }
        for batch in effects {
            if let Some(leading) = &mut self.nodes.get_mut(&id).expect("a node").leading {
                leading.planner.note(&batch);
            }
            for effect in batch.iter() {
                self.node_effect(id, effect)?;
            }
        }
        Ok(())
    }

    /// Everything between what this node had applied and what it has now, the leaders' empty entries too.
    fn note_applied(&mut self, id: u64, entries: &[AppliedEntry]) -> Check {
        let Some(replica) = &self.nodes[&id].replica else {
            return Ok(());
        };
        let seen = &mut self.invariants.acknowledged;
        for index in seen.applied_to(id) + 1..=replica.applied_index() {
            let was_applied = entries.iter().any(|entry| entry.index == index);
            let entry = replica.entry(index);
            let in_state = entry
                .as_ref()
                .is_some_and(|(_, bytes)| was_applied != bytes.is_empty());
            let (term, bytes) = entry.unwrap_or_default();
            seen.applied(id, index, fingerprint(&bytes) ^ term, in_state)?;
        }
        Ok(())
    }

    /// Begins the next sync, if there is something to sync and the disk is idle.
    fn begin_sync(&mut self, id: u64) -> Check {
        let node = self.nodes.get_mut(&id).expect("a node");
        let (life, most) = (node.life, node.sync_us);
        let Some(number) = node.disk.begin().map_err(|e| ("halted", e.to_string()))? else {
            return Ok(());
        };
        let delay = self.rng.between(most / 4, most);
        if delay > SYNC_US {
            self.tally.note(Happened::SlowSync);
        }
        let node = self.nodes.get_mut(&id).expect("a node");
        let installs = node.disk.is_installing();
        if let Some((_, back_us)) = node.doom.take_if(|(in_install, _)| installs || !*in_install) {
            let delay = self.rng.between(0, delay - 1);
            self.after(
                delay,
                Event::NodeDies {
                    node: id,
                    life,
                    back_us,
                },
            );
        }
        self.after(
            delay,
            Event::Synced {
                node: id,
                life,
                number,
            },
        );
        Ok(())
    }

    pub(in crate::sim) fn node_hears(&mut self, from: u64, to: u64, packet: Packet) -> Check {
        if !self.nodes[&to].is_alive() {
            return Ok(());
        }
        match packet {
            Packet::Raft { message, from_leader } => {
                self.invariants.lease.heard(to, from, from_leader, self.now_us);
                self.step(to, Input::Message(message))?;
                // A driver takes what has come in as a whole before it acts on it: the next event's work does this too.
                if self.rng.percent(FOLLOWED_BY_MORE_PERCENT) {
                    self.tally.note(Happened::TakenTogether);
                    return Ok(());
                }
            }
            Packet::Hash { index, hash } => self.step(to, Input::PeerHash { from, index, hash })?,
            Packet::Forward { id, envelope } => {
                if self.nodes[&to].leads() {
                    self.propose(to, *envelope, Waiting::Remote { node: from, id })?;
                } else {
                    self.reply_to(to, from, id, Err(()));
                }
            }
            Packet::ForwardReply { id, result } => match result {
                Ok(reply) => self.answered(to, id, Ok(reply))?,
                Err(()) => self.refused(to, id, true)?,
            },
        }
        self.node_work(to)
    }

    pub(in crate::sim) fn node_synced(&mut self, id: u64, life: u64) -> Check {
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.life != life || !node.is_alive() {
            return Ok(());
        }
        let number = node.disk.finish().map_err(|e| ("halted", e.to_string()))?;
        self.step(id, Input::Persisted(number))?;
        self.begin_sync(id)?;
        self.node_work(id)
    }

    pub(in crate::sim) fn node_checkpointed(&mut self, id: u64, life: u64, checkpoint: Checkpoint) -> Check {
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.life != life || !node.is_alive() {
            return Ok(());
        }
        let meta = checkpoint.meta.clone();
        node.disk.put_checkpoint(checkpoint);
        self.step(id, Input::CheckpointDurable(meta))?;
        self.node_work(id)
    }

    pub(in crate::sim) fn node_fetched(&mut self, id: u64, life: u64, wanted: &SnapshotWanted) -> Check {
        if self.nodes[&id].life != life || !self.nodes[&id].is_alive() {
            return Ok(());
        }
        let from = &self.nodes[&wanted.from];
        let reached =
            from.is_alive() && self.network.is_open(id, from.id) && self.network.is_open(from.id, id);
        let held = from
            .disk
            .checkpoint()
            .filter(|c| reached && c.meta == wanted.meta)
            .cloned();
        match held {
            Some(checkpoint) => {
                self.step(wanted.from, Input::SnapshotServed { to: id })?;
                let state = State::decode(&checkpoint.state).map_err(|e| ("halted", e.to_string()))?;
                self.step(
                    id,
                    Input::SnapshotArrived(Box::new(Fetched { checkpoint, state })),
                )?;
            }
            None => self.step(
                id,
                Input::SnapshotFailed {
                    index: wanted.meta.index,
                },
            )?,
        }
        self.node_work(wanted.from)?;
        self.node_work(id)
    }
}
