//! Clients: each asks one thing after another, each until it is answered.

use std::collections::BTreeMap;

use engine::command::{Command, Envelope, NodeInfo, StartRun};
use engine::id::{AgentId, NodeId, RequestId, RunId};
use engine::{Actor, Reply, Timestamp};

use super::agents::SimAgent;
use super::event::Event;
use super::invariants::Check;
use super::node::Waiting;
use super::rng::Rng;
use super::tally::Happened;
use super::workload;
use super::world::{EPOCH_MS, Options, World, digest};

/// After this long without an answer a client asks again, at most.
const RETRY_US_MAX: u64 = 2_000_000;

/// A client: one wish after another, each asked until it is answered.
#[derive(Debug)]
pub(super) struct Client {
    pub script: Vec<(RequestId, Wish)>,
    pub at: usize,
    pause_us_max: u64,
    /// The runs that it was told of, by the wish that started them.
    runs: BTreeMap<usize, RunId>,
    /// How often the present wish was asked.
    asked: u32,
    /// When each wish was answered first, by the term of the leader of that time.
    answered_in: BTreeMap<usize, u64>,
}

/// What a client wants.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    /// This.
    Ask(Command),
    /// A run. Which id it gets is drawn anew by whoever takes the request, each time.
    Start(Box<StartRun>),
    /// The end of the run that the wish before started.
    Cancel,
}

impl Client {
    fn new(script: Vec<(RequestId, Wish)>, pause_us_max: u64) -> Client {
        Client {
            script,
            at: 0,
            pause_us_max,
            runs: BTreeMap::new(),
            asked: 0,
            answered_in: BTreeMap::new(),
        }
    }
}

impl World {
    /// The client asks some node, and asks again until it is answered.
    pub(super) fn client_try(&mut self, client: usize, step: usize) -> Check {
        let now = &mut self.clients[client];
        if now.at != step {
            return Ok(());
        }
        if step == now.script.len() {
            return self.client_done(client);
        }
        now.asked += 1;
        if now.asked > 1 {
            self.tally.note(Happened::Retry);
        }
        let patience = self.rng.between(RETRY_US_MAX / 4, RETRY_US_MAX);
        self.after(patience, Event::ClientTry { client, step });
        self.client_asks(client, step)
    }

    /// The client asks what it asked before, answered or not.
    pub(super) fn client_asks(&mut self, client: usize, step: usize) -> Check {
        let alive: Vec<u64> = self
            .nodes
            .values()
            .filter(|n| n.is_alive())
            .map(|n| n.id)
            .collect();
        if alive.is_empty() {
            return Ok(());
        }
        let node = alive[self.rng.below(alive.len())];
        let (request, wish) = self.clients[client].script[step].clone();
        let command = match wish {
            Wish::Ask(command) => command,
            Wish::Start(mut start) => {
                start.run = RunId(self.rng.uuid(EPOCH_MS));
                Command::StartRun(start)
            }
            Wish::Cancel => {
                let run = self.clients[client].runs[&(step - 1)];
                let reason = "a change of mind".to_owned();
                match client % 2 {
                    0 => Command::CancelRun { run, reason },
                    _ => Command::CancelAndRollBack { run, reason },
                }
            }
        };
        let envelope = Envelope {
            request: Some(request),
            actor: Actor::Operator(format!("operator-{client}")),
            command,
        };
        self.propose(node, envelope, Waiting::Client { client, step })
    }

    pub(super) fn client_answered(&mut self, client: usize, step: usize, index: u64, reply: &Reply) -> Check {
        let (request, wish) = &self.clients[client].script[step];
        if let Reply::Refused(refusal) = reply
            // A run that has ended cannot be cancelled; everything else that clients here ask is valid.
            && !matches!(wish, Wish::Cancel)
        {
            return Err(("same_answer", format!("a valid command was refused: {refusal}")));
        }
        let term = self.terms_led.last().copied().unwrap_or(0);
        let is_first = self.invariants.same_answer.answered(*request, reply)?;
        if !is_first {
            self.tally.note(Happened::AnsweredAgain);
            if self.clients[client].answered_in.get(&step) != Some(&term) {
                self.tally.note(Happened::AnsweredAgainLater);
            }
            return Ok(());
        }
        self.invariants.acknowledged.acknowledge(index);
        let now = &mut self.clients[client];
        now.answered_in.insert(step, term);
        now.at += 1;
        now.asked = 0;
        if let Reply::RunStarted { run } = reply {
            now.runs.insert(step, *run);
        }
        let pause = self.rng.between(1_000, now.pause_us_max);
        self.after(
            pause,
            Event::ClientTry {
                client,
                step: step + 1,
            },
        );
        // Its answer was lost on the way, as far as the cluster knows: it is asked for again.
        if self.rng.percent(40) {
            let later = self.rng.between(1_000, 6_000_000);
            self.after(later, Event::ClientAgain { client, step });
        }
        Ok(())
    }

    /// A script is through: behind the first one (the founding of the cluster) everything begins.
    fn client_done(&mut self, client: usize) -> Check {
        if client != 0 || self.clients.len() > 1 {
            return Ok(());
        }
        for agent in 0..self.agents.len() {
            let delay = self.rng.between(1_000, 200_000);
            self.after(delay, Event::AgentBack { agent });
        }
        let manifests = workload::manifests();
        let ids: Vec<AgentId> = self.agents.iter().map(|a| a.id.clone()).collect();
        for client in 1..=2 {
            let mut script = Vec::new();
            for _ in 0..self.rng.between(1, 3) {
                let start = workload::start_run(&mut self.rng, &manifests, &ids, EPOCH_MS);
                script.push((RequestId(self.rng.uuid(EPOCH_MS)), Wish::Start(Box::new(start))));
                if self.rng.percent(15) {
                    script.push((RequestId(self.rng.uuid(EPOCH_MS)), Wish::Cancel));
                }
            }
            self.clients.push(Client::new(script, 4_000_000));
            self.after(
                self.now_us % 1_000 + 100_000,
                Event::ClientTry { client, step: 0 },
            );
        }
        self.healed = false;
        self.faults_end_us = self.now_us + self.options.faults_us;
        self.after(self.options.faults_us, Event::FaultsEnd);
        self.after(300_000, Event::Fault);
        Ok(())
    }
}

/// The founding of the cluster: its identity, and its agents.
pub(super) fn setup_client(rng: &mut Rng, options: &Options) -> Client {
    let nodes = (1..=options.nodes)
        .map(|id| NodeInfo {
            node: NodeId(id),
            name: format!("c{id}"),
            peer_endpoint: format!("c{id}:7402"),
            agent_endpoint: format!("c{id}:7401"),
            operator_endpoint: format!("c{id}:7400"),
            enroll_endpoint: format!("c{id}:7403"),
        })
        .collect();
    let mut commands = vec![Command::Bootstrap {
        cluster: rng.uuid(EPOCH_MS),
        trust_domain: "sim.cordon".to_owned(),
        nodes,
    }];
    for agent in 0..options.agents {
        let id = SimAgent::id_of(agent);
        let secret = digest(&format!("token of {id}"));
        commands.push(Command::CreateToken {
            id: format!("token-{agent}"),
            hash: secret,
            uses: 1,
            expires_at: Timestamp(EPOCH_MS + 86_400_000),
            labels: BTreeMap::new(),
            agent: Some(id.clone()),
        });
        commands.push(Command::Enroll {
            token: secret,
            key: SimAgent::key_of(agent),
            hostname: id.as_str().to_owned(),
        });
    }
    let script = commands
        .into_iter()
        .map(|c| (RequestId(rng.uuid(EPOCH_MS)), Wish::Ask(c)))
        .collect();
    Client::new(script, 2_000)
}
