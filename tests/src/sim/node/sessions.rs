//! The hub: sessions of the agents of this node, and what is handed out over them.

use std::collections::BTreeSet;

use agent::session::event::{Assignment, Received, Sent};
use catalogue::Impact;
use coordinator::raft::Replica;
use engine::command::{Command, Envelope, SessionClosed, SessionOpened};
use engine::id::{AttemptKey, NodeId};
use engine::{Actor, Effect, Reply};

use super::super::agents::{SimAgent, Up};
use super::super::invariants::Check;
use super::super::world::{TICK_US, World};
use super::ELECTION_TICKS;
use super::proposals::Waiting;
use super::reports::{Heard, wire_key};

/// A silent session is closed after this long.
const SILENCE_US_MAX: u64 = 3_000_000;
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
    sent: BTreeSet<(AttemptKey, bool)>,
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
                let fresh = Session {
                    connection,
                    session,
                    running,
                    open: false,
                    proposed: false,
                    heard_us: now_us,
                    sent: BTreeSet::new(),
                };
                node.sessions.insert(agent, fresh);
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
                    node.reports
                        .extend(said.into_iter().map(|said| Heard { agent, said }));
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
        let connection = session.connection;
        let welcome = Received::Welcome {
            heartbeat_ms: HEARTBEAT_MS,
            lease_ms: LEASE_MS,
            message_bytes_max: 1 << 20,
        };
        self.send_down(id, agent, connection, welcome);
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
        let lease = self.nodes[&id].replica.as_ref().map_or(0, Replica::lease_ticks);
        let agents: Vec<usize> = self.nodes[&id].sessions.keys().copied().collect();
        for agent in agents {
            let session = &self.nodes[&id].sessions[&agent];
            if lease == 0 {
                self.close_session(id, agent, Some("this node has lost its leader".to_owned()))?;
            } else if self.now_us - session.heard_us > SILENCE_US_MAX {
                self.close_session(id, agent, None)?;
            } else if !session.open && !session.proposed {
                self.open_session(id, agent)?;
            } else if session.open {
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
        if !session.open {
            return Ok(());
        }
        let lease = replica.lease_ticks() > 0;
        let leads = replica.role().is_leader;
        let connection = session.connection;
        let mut messages = Vec::new();
        for assignment in replica.state().read().assignments(&host) {
            let cancel = assignment.cancel.is_some();
            if session.sent.contains(&(assignment.key, cancel)) {
                continue;
            }
            if !lease && assignment.impact > Impact::Observe {
                continue;
            }
            session.sent.insert((assignment.key, cancel));
            let key = wire_key(&assignment.key, &assignment.step);
            let message = match assignment.cancel {
                Some(reason) => Received::Cancel { key, reason },
                None => {
                    let action = catalogue::find(&assignment.action).expect("a known action");
                    let timeout_ms = match assignment.attempt_timeout_ms {
                        0 => action.default_timeout_ms,
                        ms => ms,
                    };
                    Received::Assign(Box::new(Assignment {
                        key,
                        action: assignment.action,
                        parameters_json: assignment.parameters.to_string(),
                        impact: assignment.impact,
                        urgent: action.urgent,
                        timeout_ms,
                        start_within_ms: assignment
                            .start_by
                            .map_or(0, |by| by.0.saturating_sub(now.0).max(1)),
                        refusal: None,
                    }))
                }
            };
            messages.push((message, assignment.impact));
        }
        for (message, impact) in messages {
            let acts = matches!(message, Received::Assign(_));
            if self.send_down(id, agent, connection, message) && acts && impact > Impact::Observe {
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
