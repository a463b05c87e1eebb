//! Coordinators: the real replica and planner, with a simulated disk and a thin shell that does what the
//! coordinator's control, hub and leader do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent::session::event::{Assignment, Received, Report as Said, Sent, Status};
use catalogue::Impact;
use coordinator::raft::{Boot, Fetched, Input, Output, Refused, Replica, ReplicaConfig, SnapshotWanted};
use coordinator::storage::{Checkpoint, LogStore, MemoryLog};
use engine::command::{
    Command, Envelope, Outcome, OutcomeStatus, Report, ReportBody, SessionClosed, SessionOpened, TaskError,
};
use engine::id::{AttemptKey, Digest, NodeId, RunId, TaskKey};
use engine::planner::Planner;
use engine::{Actor, Effect, Reply, State};

use super::agents::{SimAgent, Up};
use super::invariants::Check;
use super::world::{Event, Packet, TICK_US, World, fingerprint};

/// How long a sync takes on a healthy disk, at most.
pub(super) const SYNC_US: u64 = 3_000;
const ELECTION_TICKS: u32 = 10;
/// A proposal that was forwarded is given up after this long.
const FORWARD_US_MAX: u64 = 1_000_000;
/// A silent session is closed after this long.
const SILENCE_US_MAX: u64 = 3_000_000;
const HEARTBEAT_MS: u64 = 500;
const LEASE_MS: u64 = 2_000;

/// Who waits for a proposal.
#[derive(Clone, Debug)]
pub(super) enum Waiting {
    Client { client: usize, step: usize },
    Remote { node: u64, id: u64 },
    Opened { agent: usize, session: u64 },
    Closed,
    Reports(Vec<Heard>),
    Plan,
    Tick,
}

/// A report as a session heard it.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    agent: usize,
    said: Said,
}

#[derive(Debug)]
struct Session {
    connection: u64,
    session: u64,
    running: Vec<agent::actions::AttemptKey>,
    open: bool,
    proposed: bool,
    heard_us: u64,
    sent: BTreeSet<(AttemptKey, bool)>,
}

struct Leading {
    planner: Planner,
    plans: BTreeSet<u64>,
    tick: Option<u64>,
    from_us: u64,
}

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

    pub(super) fn node_input(&mut self, id: u64, life: u64, input: Input) -> Check {
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.life != life || !node.is_alive() {
            return Ok(());
        }
        self.step(id, input)?;
        self.node_work(id)
    }

    fn step(&mut self, id: u64, input: Input) -> Check {
        let Some(replica) = &mut self.nodes.get_mut(&id).expect("a node").replica else {
            return Ok(());
        };
        replica
            .step(input)
            .map_err(|halt| ("halted", format!("node {id}: {halt}")))
    }

    pub(super) fn node_tick(&mut self, id: u64, life: u64) -> Check {
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
    fn node_work(&mut self, id: u64) -> Check {
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

    pub(super) fn node_hears(&mut self, from: u64, to: u64, packet: Packet) -> Check {
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

    pub(super) fn node_synced(&mut self, id: u64, life: u64, number: u64) -> Check {
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.life != life || !node.is_alive() {
            return Ok(());
        }
        node.log.sync().map_err(|e| ("halted", e.to_string()))?;
        self.step(id, Input::Persisted(number))?;
        self.node_work(id)
    }

    pub(super) fn node_checkpointed(&mut self, id: u64, life: u64, checkpoint: Checkpoint) -> Check {
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

    pub(super) fn node_fetched(&mut self, id: u64, life: u64, wanted: &SnapshotWanted) -> Check {
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

    // Proposals.

    /// Proposes here, or on the leader that this node knows of.
    pub(super) fn propose(&mut self, id: u64, envelope: Envelope, waiting: Waiting) -> Check {
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
                if let Some(&delay) = self.network.deliveries(&mut self.rng, id, leader).first() {
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

    fn reply_to(&mut self, from: u64, to: u64, id: u64, result: Result<(u64, Reply), ()>) {
        if let Some(&delay) = self.network.deliveries(&mut self.rng, from, to).first() {
            let packet = Packet::ForwardReply { id, result };
            self.after(delay, Event::Arrive { from, to, packet });
        }
    }

    fn answered(&mut self, id: u64, proposal: u64, result: Result<(u64, Reply), ()>) -> Check {
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
            Waiting::Plan | Waiting::Tick => {
                if let Some(leading) = &mut self.nodes.get_mut(&id).expect("a node").leading {
                    leading.plans.remove(&proposal);
                    leading.tick = leading.tick.filter(|&t| t != proposal);
                }
                Ok(())
            }
        }
    }

    fn refused(&mut self, id: u64, proposal: u64, _known: bool) -> Check {
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
            Waiting::Plan | Waiting::Tick => {
                if let Some(leading) = &mut self.nodes.get_mut(&id).expect("a node").leading {
                    leading.plans.remove(&proposal);
                    leading.tick = leading.tick.filter(|&t| t != proposal);
                }
            }
        }
        Ok(())
    }

    fn give_up_waiting(&mut self, id: u64) -> Check {
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

    // The leader.

    /// Proposes what the planner and the clock ask for. True: something was proposed.
    fn lead(&mut self, id: u64) -> Result<bool, (&'static str, String)> {
        let now = self.clock(id);
        let now_us = self.now_us;
        let node = self.nodes.get_mut(&id).expect("a node");
        let (Some(leading), Some(replica)) = (&mut node.leading, &node.replica) else {
            return Ok(false);
        };
        if now_us < leading.from_us || !replica.role().ready {
            return Ok(false);
        }
        let mut commands = Vec::new();
        {
            let state = replica.state().read();
            if leading.tick.is_none() && state.next_deadline().is_some_and(|due| due <= now) {
                commands.push(Command::Tick);
            }
            if leading.plans.is_empty() {
                commands.extend(leading.planner.plan(&state, now));
            }
        }
        let any = !commands.is_empty();
        for command in commands {
            let tick = matches!(command, Command::Tick);
            let envelope = Envelope {
                request: None,
                actor: Actor::Leader,
                command,
            };
            let waiting = if tick { Waiting::Tick } else { Waiting::Plan };
            let proposal = self.nodes[&id].next_id + 1;
            if let Some(leading) = &mut self.nodes.get_mut(&id).expect("a node").leading {
                if tick {
                    leading.tick = Some(proposal);
                } else {
                    leading.plans.insert(proposal);
                }
            }
            self.propose(id, envelope, waiting)?;
        }
        Ok(any)
    }

    // The hub.

    pub(super) fn node_from_agent(
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

    fn session_agreed(&mut self, id: u64, agent: usize, number: u64, reply: &Reply) -> Check {
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

    fn look_after_sessions(&mut self, id: u64) -> Check {
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

    fn node_effect(&mut self, id: u64, effect: &Effect) -> Check {
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

    fn flush_soon(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.flushing {
            return;
        }
        node.flushing = true;
        let life = node.life;
        let delay = self.rng.between(1_000, 5_000);
        self.after(delay, Event::NodeFlush { node: id, life });
    }

    pub(super) fn node_flush(&mut self, id: u64, life: u64) -> Check {
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.life != life || !node.is_alive() {
            return Ok(());
        }
        node.flushing = false;
        let heard = std::mem::take(&mut node.reports);
        let mut batch = Vec::new();
        let mut reports = Vec::new();
        for one in heard {
            // A run that this node has not applied yet: the report waits.
            match self.report_of(id, &one) {
                Some(report) => {
                    reports.push(report);
                    batch.push(one);
                }
                None => self.nodes.get_mut(&id).expect("a node").reports.push(one),
            }
        }
        if !self.nodes[&id].reports.is_empty() {
            self.flush_soon(id);
        }
        if reports.is_empty() {
            return Ok(());
        }
        let command = Command::Reports {
            node: NodeId(id),
            reports,
        };
        let envelope = Envelope {
            request: None,
            actor: Actor::Node(NodeId(id)),
            command,
        };
        self.propose(id, envelope, Waiting::Reports(batch))?;
        self.node_work(id)
    }

    fn reports_taken(&mut self, id: u64, heard: Vec<Heard>, reply: &Reply) {
        let Reply::Reports(each) = reply else { return };
        for (one, refused) in heard.into_iter().zip(each) {
            let node = &self.nodes[&id];
            let Some(connection) = node.sessions.get(&one.agent).map(|s| s.connection) else {
                continue;
            };
            let (started, ended, key) = match one.said {
                Said::Started { key, .. } => (vec![key.clone()], Vec::new(), key),
                Said::Ended { key, .. } => (Vec::new(), vec![key.clone()], key),
            };
            let message = match refused {
                None => Received::Committed {
                    started,
                    ended,
                    refused: Vec::new(),
                },
                Some(reason) => Received::Committed {
                    started: Vec::new(),
                    ended: Vec::new(),
                    refused: vec![(key, reason.clone())],
                },
            };
            self.send_down(id, one.agent, connection, message);
        }
    }

    fn report_of(&self, id: u64, heard: &Heard) -> Option<Report> {
        let (key, body) = match &heard.said {
            Said::Started { key, .. } => (key, ReportBody::Started),
            Said::Ended { key, outcome } => {
                let status = match outcome.status {
                    Status::Succeeded => OutcomeStatus::Succeeded,
                    Status::Failed => OutcomeStatus::Failed,
                    Status::Cancelled => OutcomeStatus::Cancelled,
                    Status::Unknown => OutcomeStatus::Unknown,
                };
                let error = outcome.error.as_ref().map(|e| TaskError {
                    code: e.code.clone(),
                    message: e.message.clone(),
                });
                let output = serde_json::json!({});
                (
                    key,
                    ReportBody::Ended(Outcome {
                        status,
                        output,
                        error,
                    }),
                )
            }
        };
        Some(Report {
            agent: self.agents[heard.agent].id.clone(),
            key: self.key_of(id, key)?,
            body,
        })
    }

    fn key_of(&self, id: u64, key: &agent::actions::AttemptKey) -> Option<AttemptKey> {
        let run: RunId = key.run_id.parse().ok()?;
        let step = self.nodes[&id].with_state(|state| state.step_number(&run, &key.step))??;
        let task = TaskKey {
            run,
            step,
            item: key.item,
        };
        Some(AttemptKey {
            task,
            attempt: key.attempt,
            token: key.token,
        })
    }
}

fn wire_key(key: &AttemptKey, step: &str) -> agent::actions::AttemptKey {
    agent::actions::AttemptKey {
        run_id: key.task.run.to_string(),
        step: step.to_owned(),
        item: key.task.item,
        attempt: key.attempt,
        token: key.token,
    }
}
