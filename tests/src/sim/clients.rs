//! Clients: each asks one thing after another, each until it is answered.

use std::collections::BTreeMap;

use engine::command::{Command, Envelope, NodeInfo};
use engine::id::{AgentId, NodeId, RequestId};
use engine::{Actor, Reply, Timestamp};

use super::agents::SimAgent;
use super::event::Event;
use super::invariants::Check;
use super::node::Waiting;
use super::rng::Rng;
use super::workload;
use super::world::{EPOCH_MS, Options, World, digest};

/// A client: commands, one after another, each until it is answered.
#[derive(Debug)]
pub(super) struct Client {
    pub script: Vec<(RequestId, Command)>,
    pub at: usize,
    pub pause_us_max: u64,
}

impl World {
    /// The client asks some node, and asks again until it is answered.
    pub(super) fn client_try(&mut self, client: usize, step: usize) -> Check {
        if self.clients[client].at != step {
            return Ok(());
        }
        let Some((request, command)) = self.clients[client].script.get(step).cloned() else {
            return self.client_done(client);
        };
        self.after(2_000_000, Event::ClientTry { client, step });
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
        let envelope = Envelope {
            request: Some(request),
            actor: Actor::Operator(format!("operator-{client}")),
            command,
        };
        self.propose(node, envelope, Waiting::Client { client, step })
    }

    pub(super) fn client_answered(&mut self, client: usize, step: usize, index: u64, reply: &Reply) -> Check {
        if self.clients[client].at != step {
            return Ok(());
        }
        if let Reply::Refused(refusal) = reply {
            let (_, command) = &self.clients[client].script[step];
            // A run that has ended cannot be cancelled; everything else that clients here ask is valid.
            if !matches!(command, Command::CancelRun { .. }) {
                return Err(("acknowledged", format!("a valid command was refused: {refusal}")));
            }
        }
        self.invariants.acknowledged.acknowledge(index);
        self.clients[client].at += 1;
        let pause = self.rng.between(1_000, self.clients[client].pause_us_max);
        self.after(
            pause,
            Event::ClientTry {
                client,
                step: step + 1,
            },
        );
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
                let run = start.run;
                self.runs.push(run);
                script.push((
                    RequestId(self.rng.uuid(EPOCH_MS)),
                    Command::StartRun(Box::new(start)),
                ));
                if self.rng.percent(15) {
                    let cancel = Command::CancelRun {
                        run,
                        reason: "a change of mind".to_owned(),
                    };
                    script.push((RequestId(self.rng.uuid(EPOCH_MS)), cancel));
                }
            }
            self.clients.push(Client {
                script,
                at: 0,
                pause_us_max: 4_000_000,
            });
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
        .map(|c| (RequestId(rng.uuid(EPOCH_MS)), c))
        .collect();
    Client {
        script,
        at: 0,
        pause_us_max: 2_000,
    }
}
