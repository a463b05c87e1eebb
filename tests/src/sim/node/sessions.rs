//! The hub: sessions of the agents of this node, and what is handed out over them.

use agent::session::event::{Assignment, Received, Sent};
use catalogue::Impact;
use coordinator::hub::outbox::{Order, Outbox};
use engine::command::{Command, Envelope, SessionClosed, SessionOpened};
use engine::id::NodeId;
use engine::{Actor, Effect, Reply, Timestamp};

use super::super::agents::{SimAgent, Up};
use super::super::invariants::Check;
use super::super::tally::Happened;
use super::super::world::{TICK_US, World};
use super::ELECTION_TICKS;
use super::proposals::Waiting;
use super::reports::{Heard, wire_key};

/// A silent session is closed after this long.
const SILENCE_US_MAX: u64 = 3_000_000;
/// A node that hears of no leader sends its agents elsewhere after this long.
const LEADERLESS_US_MAX: u64 = 1_500_000;
const HEARTBEAT_MS: u64 = 500;
const LEASE_MS: u64 = 2_000;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: u64,
    pub(super) session: u64,
    running: Vec<agent::actions::AttemptKey>,
    open: bool,
    pub(super) proposed: bool,
    heard_us: u64,
    pub(super) outbox: Outbox,
}

impl World {
    pub(in crate::sim) fn node_from_agent(
        &mut self,
        agent: usize,
        connection: u64,
        id: u64,
        life: u64,
        up: Up,
    ) -> Check {
        if self.nodes[&id].life != life || !self.nodes[&id].is_alive() {
            return Ok(());
        }
        let now_us = self.now_us;
        let node = self.nodes.get_mut(&id).expect("a node");
        match up {
            Up::Said(Sent::Hello { running }) => {
                node.next_id += 1;
                // Greater than any session of an earlier life of this node.
                let session = node.life << 32 | node.next_id;
                let mut outbox = Outbox::default();
                for key in &running {
                    if let Some(known) = self.key_of(id, key) {
                        outbox.note_running(known, key.step.clone());
                    }
                }
                let node = self.nodes.get_mut(&id).expect("a node");
                let fresh = Session {
                    connection,
                    session,
                    running,
                    open: false,
                    proposed: false,
                    heard_us: now_us,
                    outbox,
                };
                node.sessions.insert(agent, fresh);
                let welcome = Received::Welcome {
                    heartbeat_ms: HEARTBEAT_MS,
                    lease_ms: LEASE_MS,
                    message_bytes_max: 1 << 20,
                };
                self.send_down(id, agent, connection, welcome);
                self.open_session(id, agent)?;
            }
            Up::Said(Sent::Heartbeat { .. }) => {
                if let Some(session) = node
                    .sessions
                    .get_mut(&agent)
                    .filter(|s| s.connection == connection)
                {
                    session.heard_us = now_us;
                    self.send_down(id, agent, connection, Received::Other);
                }
            }
            Up::Said(Sent::Reports(said)) => {
                if let Some(session) = node
                    .sessions
                    .get_mut(&agent)
                    .filter(|s| s.connection == connection)
                {
                    session.heard_us = now_us;
                    for said in said {
                        self.note_ended(id, agent, &said);
                        let node = self.nodes.get_mut(&id).expect("a node");
                        node.reports.push(Heard { agent, said });
                    }
                    self.flush_soon(id);
                }
            }
            Up::Closed => {
                if node
                    .sessions
                    .get(&agent)
                    .is_some_and(|s| s.connection == connection)
                {
                    self.close_session(id, agent, None)?;
                }
            }
        }
        self.node_work(id)
    }

    fn open_session(&mut self, id: u64, agent: usize) -> Check {
        let host = self.agents[agent].id.clone();
        let node = self.nodes.get_mut(&id).expect("a node");
        let Some(session) = node.sessions.get_mut(&agent) else {
            return Ok(());
        };
        session.proposed = true;
        let number = session.session;
        let running = session.running.clone();
        let running = running.iter().filter_map(|key| self.key_of(id, key)).collect();
        let opened = SessionOpened {
            agent: host,
            session: number,
            key: SimAgent::key_of(agent),
            version: "sim".to_owned(),
            boot_id: "boot".to_owned(),
            facts: "{}".to_owned(),
            running,
        };
        let command = Command::Sessions {
            node: NodeId(id),
            opened: vec![opened],
            closed: Vec::new(),
            facts: Vec::new(),
        };
        let envelope = Envelope {
            request: None,
            actor: Actor::Node(NodeId(id)),
            command,
        };
        self.propose(
            id,
            envelope,
            Waiting::Opened {
                agent,
                session: number,
            },
        )
    }

    pub(super) fn session_agreed(&mut self, id: u64, agent: usize, number: u64, reply: &Reply) -> Check {
        let refused = match reply {
            Reply::Sessions(each) => each.first().cloned().flatten(),
            other => return Err(("acknowledged", format!("a session was answered with {other:?}"))),
        };
        let node = self.nodes.get_mut(&id).expect("a node");
        let Some(session) = node.sessions.get_mut(&agent).filter(|s| s.session == number) else {
            return Ok(());
        };
        if let Some(reason) = refused {
            return self.close_session(id, agent, Some(reason));
        }
        session.open = true;
        self.push(id, agent)
    }

    fn close_session(&mut self, id: u64, agent: usize, goodbye: Option<String>) -> Check {
        let node = self.nodes.get_mut(&id).expect("a node");
        let Some(session) = node.sessions.remove(&agent) else {
            return Ok(());
        };
        if let Some(reason) = goodbye {
            self.send_down(
                id,
                agent,
                session.connection,
                Received::Goodbye {
                    reason,
                    retry_elsewhere: true,
                },
            );
        }
        let closed = SessionClosed {
            agent: self.agents[agent].id.clone(),
            session: session.session,
        };
        let command = Command::Sessions {
            node: NodeId(id),
            opened: Vec::new(),
            closed: vec![closed],
            facts: Vec::new(),
        };
        let envelope = Envelope {
            request: None,
            actor: Actor::Node(NodeId(id)),
            command,
        };
        self.propose(id, envelope, Waiting::Closed)
    }

    pub(super) fn look_after_sessions(&mut self, id: u64) -> Check {
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.replica.as_ref().is_some_and(|r| r.lease_ticks() > 0) {
            node.led_us = self.now_us;
        }
        let led_us = node.led_us;
        let agents: Vec<usize> = self.nodes[&id].sessions.keys().copied().collect();
        for agent in agents {
            let session = &self.nodes[&id].sessions[&agent];
            if self.now_us - led_us > LEADERLESS_US_MAX {
                self.close_session(id, agent, Some("this node has lost its leader".to_owned()))?;
            } else if self.now_us - session.heard_us > SILENCE_US_MAX {
                self.close_session(id, agent, None)?;
            } else if !session.open && !session.proposed {
                self.open_session(id, agent)?;
            } else {
                self.push(id, agent)?;
            }
        }
        Ok(())
    }

    pub(super) fn node_effect(&mut self, id: u64, effect: &Effect) -> Check {
        match effect {
            Effect::Assignments(host) => match self.agents.iter().position(|a| a.id == *host) {
                Some(agent) => self.push(id, agent),
                None => Ok(()),
            },
            Effect::CloseSession {
                agent: host,
                session,
                reason,
            } => {
                let agent = self.agents.iter().position(|a| a.id == *host);
                let Some(agent) = agent else { return Ok(()) };
                let node = &self.nodes[&id];
                if node.sessions.get(&agent).is_some_and(|s| s.session == *session) {
                    return self.close_session(id, agent, Some(reason.clone()));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Sends an agent of this node what this node's own state has for it and was not sent before.
    fn push(&mut self, id: u64, agent: usize) -> Check {
        let host = self.agents[agent].id.clone();
        let now = self.clock(id);
        let node = self.nodes.get_mut(&id).expect("a node");
        let (Some(session), Some(replica)) = (node.sessions.get_mut(&agent), &node.replica) else {
            return Ok(());
        };
        let lease = replica.lease_ticks() > 0;
        let leads = replica.role().is_leader;
        let connection = session.connection;
        let assignments = replica.state().read().assignments(&host);
        if !lease && assignments.iter().any(|a| a.impact > Impact::Observe) {
            let with_lease = session.outbox.clone().orders(assignments.clone(), true);
            if with_lease != session.outbox.clone().orders(assignments.clone(), false) {
                self.tally.note(Happened::HeldBack);
            }
        }
        let mut messages = Vec::new();
        for order in session.outbox.orders(assignments, lease) {
            messages.push(match order {
                Order::Cancel { key, step, reason } => {
                    let key = wire_key(&key, &step);
                    (Received::Cancel { key, reason }, Impact::Observe)
                }
                Order::Assign(assignment) => {
                    let impact = assignment.impact;
                    (Received::Assign(Box::new(on_the_wire(assignment, now))), impact)
                }
            });
        }
        for (message, impact) in messages {
            if self.send_down(id, agent, connection, message) && impact > Impact::Observe {
                let voters = self.nodes[&id].voters.clone();
                // A lease is one election timeout; clocks run up to 2 % apart, and a tick is the grain.
                let lease_us = (u64::from(ELECTION_TICKS) + 1) * (TICK_US + 1_000);
                self.invariants
                    .lease
                    .handed_out(id, leads, &voters, self.now_us, lease_us)?;
            }
        }
        Ok(())
    }
}

fn on_the_wire(assignment: engine::Assignment, now: Timestamp) -> Assignment {
    let action = catalogue::find(&assignment.action).expect("a known action");
    let timeout_ms = match assignment.attempt_timeout_ms {
        0 => action.default_timeout_ms,
        ms => ms,
    };
    let start_by = assignment.start_by;
    Assignment {
        key: wire_key(&assignment.key, &assignment.step),
        action: assignment.action,
        parameters_json: assignment.parameters.to_string(),
        impact: assignment.impact,
        urgent: action.urgent,
        timeout_ms,
        start_within_ms: start_by.map_or(0, |by| by.0.saturating_sub(now.0).max(1)),
        refusal: None,
    }
}
