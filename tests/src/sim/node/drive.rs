//! Doing what the replica asks for: its messages, its writes, what was applied.

use std::collections::BTreeSet;
use std::sync::Arc;

use coordinator::raft::{Fetched, Input, Output, Refused, SnapshotWanted};
use coordinator::storage::{Checkpoint, LogStore};
use engine::planner::Planner;
use engine::{Effect, State};

use super::super::event::{Event, Packet};
use super::super::invariants::Check;
use super::super::world::{TICK_US, World, fingerprint};
use super::leader::Leading;
use super::proposals::Waiting;

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
            let delays = self.network.deliveries(&mut self.rng, id, to);
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
            let node = self.nodes.get_mut(&id).expect("a node");
            if let Some(checkpoint) = &write.install {
                node.checkpoint = Some(checkpoint.clone());
            }
            write
                .to_log(&mut node.log)
                .map_err(|e| ("halted", e.to_string()))?;
            let most = node.sync_us;
            let delay = self.rng.between(most / 4, most);
            self.after(
                delay,
                Event::Synced {
                    node: id,
                    life,
                    number: write.number,
                },
            );
        }
        let mut effects: Vec<Arc<Vec<Effect>>> = Vec::new();
        for entry in output.applied {
            let bytes = self.nodes[&id]
                .replica
                .as_ref()
                .and_then(|r| r.entry(entry.index));
            if let Some((term, bytes)) = bytes {
                let print = fingerprint(&bytes) ^ term;
                self.invariants.acknowledged.applied(id, entry.index, print)?;
            }
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
                let planner = node.with_state(Planner::new).expect("it is up");
                let from_us = self.now_us + grace;
                node.leading = Some(Leading {
                    planner,
                    plans: BTreeSet::new(),
                    tick: None,
                    from_us,
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
            let node = self.nodes.get_mut(&id).expect("a node");
            node.log.compact(index).map_err(|e| ("halted", e.to_string()))?;
        }
        if let Some((index, hash)) = output.hash {
            self.invariants.same_state.hashed(id, index, hash)?;
            for to in self.nodes[&id].voters.clone().into_iter().filter(|&v| v != id) {
                for delay in self.network.deliveries(&mut self.rng, id, to) {
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

    pub(in crate::sim) fn node_hears(&mut self, from: u64, to: u64, packet: Packet) -> Check {
        if !self.nodes[&to].is_alive() {
            return Ok(());
        }
        match packet {
            Packet::Raft { message, from_leader } => {
                self.invariants.lease.heard(to, from, from_leader, self.now_us);
                self.step(to, Input::Message(message))?;
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

    pub(in crate::sim) fn node_synced(&mut self, id: u64, life: u64, number: u64) -> Check {
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.life != life || !node.is_alive() {
            return Ok(());
        }
        node.log.sync().map_err(|e| ("halted", e.to_string()))?;
        self.step(id, Input::Persisted(number))?;
        self.node_work(id)
    }

    pub(in crate::sim) fn node_checkpointed(&mut self, id: u64, life: u64, checkpoint: Checkpoint) -> Check {
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.life != life || !node.is_alive() {
            return Ok(());
        }
        let meta = checkpoint.meta.clone();
        if node
            .checkpoint
            .as_ref()
            .is_none_or(|held| held.meta.index < meta.index)
        {
            node.checkpoint = Some(checkpoint);
        }
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
            .checkpoint
            .clone()
            .filter(|c| reached && c.meta == wanted.meta);
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
