//! What is proposed here or forwarded, and who waits for the answer.

use coordinator::raft::{Input, Replica};
use engine::Reply;
use engine::command::Envelope;
use engine::id::AttemptKey;

use super::super::event::{Event, Packet};
use super::super::invariants::Check;
use super::super::tally::Happened;
use super::super::world::World;
use super::reports::Heard;

/// A proposal that was forwarded is given up after this long.
const FORWARD_US_MAX: u64 = 1_000_000;

/// Who waits for a proposal.
#[derive(Clone, Debug)]
pub(in crate::sim) enum Waiting {
    Client { client: usize, step: usize },
    Remote { node: u64, id: u64 },
    Opened { agent: usize, session: u64 },
    Closed,
    Reports(Vec<Heard>),
    Plan,
    Tick,
    Child(AttemptKey),
    Call(AttemptKey),
}

impl World {
    /// Proposes here, or on the leader that this node knows of.
    pub(in crate::sim) fn propose(&mut self, id: u64, envelope: Envelope, waiting: Waiting) -> Check {
        let at = self.clock(id);
        let deadline = self.now_us + FORWARD_US_MAX;
        let node = self.nodes.get_mut(&id).expect("a node");
        let Some(role) = node.replica.as_ref().map(Replica::role) else {
            return Ok(());
        };
        node.next_id += 1;
        let proposal = node.next_id;
        node.waiting.insert(proposal, (waiting, deadline));
        if role.is_leader {
            if node.skew_ms != 0 {
                self.tally.note(Happened::SkewedProposal);
            }
            if node.with_state(|state| state.now() > at) == Some(true) {
                self.tally.note(Happened::ClockBackwards);
            }
            return self.step(
                id,
                Input::Propose {
                    id: proposal,
                    at,
                    envelope: Box::new(envelope),
                },
            );
        }
        match role.leader {
            Some(leader) => {
                let packet = Packet::Forward {
                    id: proposal,
                    envelope: Box::new(envelope),
                };
                if let Some(&delay) = self
                    .network
                    .deliveries(&mut self.rng, &mut self.tally, id, leader)
                    .first()
                {
                    self.after(
                        delay,
                        Event::Arrive {
                            from: id,
                            to: leader,
                            packet,
                        },
                    );
                }
                Ok(())
            }
            None => self.refused(id, proposal, true),
        }
    }

    pub(super) fn reply_to(&mut self, from: u64, to: u64, id: u64, result: Result<(u64, Reply), ()>) {
        if let Some(&delay) = self
            .network
            .deliveries(&mut self.rng, &mut self.tally, from, to)
            .first()
        {
            let packet = Packet::ForwardReply { id, result };
            self.after(delay, Event::Arrive { from, to, packet });
        }
    }

    pub(super) fn answered(&mut self, id: u64, proposal: u64, result: Result<(u64, Reply), ()>) -> Check {
        let Some((waiting, _)) = self.nodes.get_mut(&id).expect("a node").waiting.remove(&proposal) else {
            return Ok(());
        };
        let (index, reply) = match result {
            Ok(answer) => answer,
            Err(()) => return Ok(()),
        };
        match waiting {
            Waiting::Client { client, step } => self.client_answered(client, step, index, &reply),
            Waiting::Remote { node, id: theirs } => {
                self.reply_to(id, node, theirs, Ok((index, reply)));
                Ok(())
            }
            Waiting::Opened { agent, session } => self.session_agreed(id, agent, session, &reply),
            Waiting::Closed => Ok(()),
            Waiting::Reports(heard) => {
                self.reports_taken(id, heard, &reply);
                Ok(())
            }
            Waiting::Child(key) => self.child_answered(id, key, &reply),
            Waiting::Call(key) => {
                self.forget_attempt(id, key);
                Ok(())
            }
            Waiting::Plan | Waiting::Tick => {
                if let Some(leading) = &mut self.nodes.get_mut(&id).expect("a node").leading {
                    leading.plans.remove(&proposal);
                    leading.tick = leading.tick.filter(|&t| t != proposal);
                }
                Ok(())
            }
        }
    }

    pub(super) fn refused(&mut self, id: u64, proposal: u64, _known: bool) -> Check {
        let Some((waiting, _)) = self.nodes.get_mut(&id).expect("a node").waiting.remove(&proposal) else {
            return Ok(());
        };
        match waiting {
            // The client asks again by itself.
            Waiting::Client { .. } | Waiting::Closed => {}
            Waiting::Remote { node, id: theirs } => self.reply_to(id, node, theirs, Err(())),
            Waiting::Opened { agent, session } => {
                let node = self.nodes.get_mut(&id).expect("a node");
                if let Some(held) = node.sessions.get_mut(&agent).filter(|s| s.session == session) {
                    held.proposed = false;
                }
            }
            Waiting::Reports(heard) => {
                self.nodes.get_mut(&id).expect("a node").reports.extend(heard);
                self.flush_soon(id);
            }
            Waiting::Child(key) | Waiting::Call(key) => self.forget_attempt(id, key),
            Waiting::Plan | Waiting::Tick => {
                if let Some(leading) = &mut self.nodes.get_mut(&id).expect("a node").leading {
                    leading.plans.remove(&proposal);
                    leading.tick = leading.tick.filter(|&t| t != proposal);
                }
            }
        }
        Ok(())
    }

    pub(super) fn give_up_waiting(&mut self, id: u64) -> Check {
        let now = self.now_us;
        let late: Vec<u64> = self.nodes[&id]
            .waiting
            .iter()
            .filter(|(_, (waiting, deadline))| {
                *deadline < now && !matches!(waiting, Waiting::Plan | Waiting::Tick)
            })
            .map(|(proposal, _)| *proposal)
            .collect();
        for proposal in late {
            self.refused(id, proposal, false)?;
        }
        Ok(())
    }
}
