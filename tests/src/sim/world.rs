//! The world: one queue of events, one clock, and everything that lives in it.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use engine::Timestamp;
use sha2::Digest as _;

use super::agents::SimAgent;
use super::clients::{Client, setup_client};
use super::event::Event;
use super::invariants::termination::REST_US_MAX;
use super::invariants::{Check, Invariants};
use super::network::Network;
use super::node::SimNode;
use super::rng::Rng;
use super::tally::{Happened, Tally};

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Voting members.
    pub nodes: u64,
    /// Agents.
    pub agents: usize,
    /// For how long things go wrong, in microseconds of virtual time.
    pub faults_us: u64,
    /// Print every event.
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            nodes: 3,
            agents: 4,
            faults_us: 10_000_000,
            trace: false,
        }
    }
}

/// A world that came to rest with every invariant intact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Virtual time.
    pub lasted_us: u64,
    /// Events that happened.
    pub events: u64,
    /// Runs that ended.
    pub runs: usize,
    /// Effects on hosts.
    pub effects: u64,
    /// A fingerprint over all events: equal for equal seeds.
    pub fingerprint: u64,
    /// What happened, faults first.
    pub tally: Tally,
}

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The world.
    pub seed: u64,
    /// The file in `invariants`, `halted` where a replica gave up, or `panic`.
    pub invariant: &'static str,
    /// What was seen.
    pub detail: String,
    /// When, in virtual time.
    pub at_us: u64,
}

/// Everything.
pub struct World {
    pub(super) seed: u64,
    pub(super) options: Options,
    pub(super) rng: Rng,
    pub(super) now_us: u64,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    pub(super) network: Network,
    pub(super) nodes: BTreeMap<u64, SimNode>,
    pub(super) agents: Vec<SimAgent>,
    pub(super) clients: Vec<Client>,
    pub(super) invariants: Invariants,
    pub(super) tally: Tally,
    /// Terms in which somebody led.
    pub(super) terms_led: BTreeSet<u64>,
    /// Between two nodes, the number of the newest message that arrived.
    newest_arrived: BTreeMap<(u64, u64), u64>,
    pub(super) faults_end_us: u64,
    pub(super) healed: bool,
    events: u64,
    fingerprint: u64,
}

/// 2026-01-01, in milliseconds: the beginning of every world.
pub(super) const EPOCH_MS: u64 = 1_767_225_600_000;
/// The engine's own invariants walk everything: they are checked where the index is a multiple of this.
const CHECK_EVERY: u64 = 8;
pub(super) const TICK_US: u64 = 50_000;

/// Runs the world of this seed to its end. A panic in it is a violation like any other: the engine's own invariants
/// are assertions.
pub fn run(seed: u64, options: &Options) -> Result<Summary, Violation> {
    let mut world = World::new(seed, options.clone());
    let ended = catch_unwind(AssertUnwindSafe(|| world.live()));
    ended
        .unwrap_or_else(|panic| Err(("panic", words_of(panic.as_ref()))))
        .map_err(|(invariant, detail)| Violation {
            seed,
            invariant,
            detail,
            at_us: world.now_us,
        })
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}

impl World {
    fn new(seed: u64, options: Options) -> World {
        let mut rng = Rng::new(seed);
        let agents = (0..options.agents)
            .map(|n| SimAgent::new(n, options.nodes))
            .collect();
        let nodes = (1..=options.nodes)
            .map(|id| (id, SimNode::new(id, options.nodes)))
            .collect();
        let clients = vec![setup_client(&mut rng, &options)];
        World {
            seed,
            options,
            rng,
            now_us: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            network: Network::new(),
            nodes,
            agents,
            clients,
            invariants: Invariants::default(),
            tally: Tally::default(),
            terms_led: BTreeSet::new(),
            newest_arrived: BTreeMap::new(),
            faults_end_us: u64::MAX,
            healed: true,
            events: 0,
            fingerprint: 0xcbf2_9ce4_8422_2325,
        }
    }

    fn live(&mut self) -> Result<Summary, (&'static str, String)> {
        for node in 1..=self.options.nodes {
            self.boot_node(node)?;
        }
        self.after(1_000, Event::ClientTry { client: 0, step: 0 });
        while let Some(((at, sequence), event)) = self.queue.pop_first() {
            self.now_us = at;
            self.note_order(sequence, &event);
            self.events += 1;
            if self.options.trace {
                let text = format!("{event:?}");
                println!("{:>12} {}", at, text.chars().take(400).collect::<String>());
            }
            self.fingerprint = (self.fingerprint ^ at ^ event.kind()).wrapping_mul(0x0100_0000_01b3);
            if let Event::Look = event {
                if let Some(summary) = self.look()? {
                    return Ok(summary);
                }
                continue;
            }
            self.happen(event)?;
            self.judge()?;
        }
        Err(("termination", "nothing happens any more".to_owned()))
    }

    fn note_order(&mut self, sequence: u64, event: &Event) {
        if let Event::Arrive { from, to, .. } = event {
            let newest = self.newest_arrived.entry((*from, *to)).or_default();
            if sequence < *newest {
                self.tally.note(Happened::Reordering);
            }
            *newest = sequence.max(*newest);
        }
    }

    /// After every step: what the nodes that did something hold is compared with all that was seen before.
    fn judge(&mut self) -> Check {
        for node in self.nodes.values_mut() {
            let Some((index, hash)) = node.moved() else {
                continue;
            };
            if self.invariants.same_state.hashed(node.id, index, hash)? && index % CHECK_EVERY == 0 {
                node.check();
            }
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Check {
        match event {
            Event::NodeTick { node, life } => self.node_tick(node, life),
            Event::NodeInput { node, life, input } => self.node_input(node, life, *input),
            Event::NodeFlush { node, life } => self.node_flush(node, life),
            Event::NodeDies { node, life, back_us } => self.node_dies(node, life, back_us),
            Event::AgentDies { agent, life, back_us } => {
                self.agent_dies(agent, life, back_us);
                Ok(())
            }
            Event::NodeBack { node } => self.boot_node(node),
            Event::Arrive { from, to, packet } => self.node_hears(from, to, packet),
            Event::Synced { node, life, .. } => self.node_synced(node, life),
            Event::CheckpointDone {
                node,
                life,
                checkpoint,
            } => self.node_checkpointed(node, life, *checkpoint),
            Event::ChildDrawn {
                node,
                life,
                key,
                command,
            } => self.child_drawn(node, life, key, *command),
            Event::CallEnds { node, life, ended } => self.call_ends(node, life, ended),
            Event::Fetched { node, life, wanted } => self.node_fetched(node, life, &wanted),
            Event::SkewEnds { agent } => {
                self.agents[agent].skew_ms = 0;
                Ok(())
            }
            Event::SyncNormal { node } => {
                self.nodes.get_mut(&node).expect("a node").sync_us = super::node::SYNC_US;
                Ok(())
            }
            Event::AgentWake { agent, life } => {
                self.agent_input(agent, life, agent::session::event::Input::Wake);
                Ok(())
            }
            Event::AgentBack { agent } => {
                self.boot_agent(agent);
                Ok(())
            }
            Event::AgentLink {
                agent,
                life,
                connection,
                node,
            } => {
                self.agent_link(agent, life, connection, node);
                Ok(())
            }
            Event::AgentInput { agent, life, input } => {
                self.agent_input(agent, life, *input);
                Ok(())
            }
            Event::AgentWrote { agent, life, write } => {
                self.agent_wrote(agent, life, write);
                Ok(())
            }
            Event::AgentEffect { agent, life, run } => self.agent_effect(agent, life, run),
            Event::AgentEnds { agent, life, run } => {
                self.agent_ends(agent, life, run);
                Ok(())
            }
            Event::FromAgent {
                agent,
                connection,
                node,
                life,
                up,
            } => self.node_from_agent(agent, connection, node, life, up),
            Event::ClientAgain { client, step } => self.client_asks(client, step),
            Event::ClientTry { client, step } => self.client_try(client, step),
            Event::Fault => self.fault(),
            Event::FaultsEnd => self.heal(),
            Event::Mend { pairs } => {
                for (from, to) in pairs {
                    self.network.mend(from, to);
                }
                Ok(())
            }
            Event::Weather => {
                let fair = Network::new();
                self.network.drop_percent = fair.drop_percent;
                self.network.duplicate_percent = fair.duplicate_percent;
                self.network.delay_us_max = fair.delay_us_max;
                Ok(())
            }
            Event::Look => Ok(()),
        }
    }

    pub(super) fn after(&mut self, delay_us: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now_us + delay_us, self.sequence), event);
    }

    /// A node's clock.
    pub(super) fn clock(&self, node: u64) -> Timestamp {
        let skew = self.nodes[&node].skew_ms;
        Timestamp((EPOCH_MS + self.now_us / 1_000).saturating_add_signed(skew))
    }

    /// The faults end: the network is fair again, and who is down comes back by the event that is due.
    fn heal(&mut self) -> Check {
        self.healed = true;
        self.network.heal();
        for node in self.nodes.values_mut() {
            node.sync_us = super::node::SYNC_US;
            node.skew_ms = 0;
            node.doom = None;
        }
        for agent in &mut self.agents {
            agent.doom = None;
            agent.skew_ms = 0;
        }
        self.after(500_000, Event::Look);
        Ok(())
    }

    /// Whether the world has come to rest; then everything is compared.
    fn look(&mut self) -> Result<Option<Summary>, (&'static str, String)> {
        let late = self.now_us > self.faults_end_us.saturating_add(REST_US_MAX);
        let mut open: Vec<String> = Vec::new();
        for (at, client) in self.clients.iter().enumerate() {
            if client.at < client.script.len() {
                open.push(format!("client {at} at {} of {}", client.at, client.script.len()));
            }
        }
        let alive = self.nodes.values().all(SimNode::is_alive);
        if !alive {
            open.push("a node is down".to_owned());
        } else {
            let indices: Vec<u64> = self.nodes.values().map(|n| n.applied()).collect();
            if indices.iter().any(|i| *i != indices[0]) {
                open.push(format!("nodes are at {indices:?}"));
            }
            let node = &self.nodes[&1];
            // What was acknowledged is in a majority's logs; whoever leads next commits it again.
            let acknowledged = self.invariants.acknowledged.greatest();
            if node.applied() < acknowledged {
                open.push(format!(
                    "applied up to {}, acknowledged up to {acknowledged}",
                    node.applied()
                ));
            }
            open.extend(node.open());
        }
        if !open.is_empty() {
            if late {
                self.invariants.termination.at_rest(&open)?;
            }
            self.after(500_000, Event::Look);
            return Ok(None);
        }
        self.compare()?;
        Ok(Some(Summary {
            lasted_us: self.now_us,
            events: self.events,
            runs: self.invariants.same_answer.runs().len(),
            effects: self.invariants.at_most_once.count(),
            fingerprint: self.fingerprint,
            tally: self.tally.clone(),
        }))
    }

    fn compare(&mut self) -> Check {
        for node in self.nodes.values() {
            let (index, hash) = node.hash();
            self.invariants.same_state.hashed(node.id, index, hash)?;
            node.check();
        }
        let node = &self.nodes[&1];
        self.invariants.same_answer.at_rest(node.runs().into_iter())?;
        self.invariants
            .one_child
            .at_rest(node.children(), &node.without_child())?;
        for task in node.succeeded_tasks() {
            self.invariants.at_most_once.succeeded(&task)?;
            let (_, step, _) = &task;
            if step.starts_with("undo-") {
                self.tally.note(Happened::RolledBack);
            }
        }
        Ok(())
    }
}

/// A SHA-256 of a text.
pub(super) fn digest(text: &str) -> engine::id::Digest {
    engine::id::Digest(sha2::Sha256::digest(text.as_bytes()).into())
}

/// FNV-1a.
pub(super) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| {
        (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    })
}
