//! Clients: each asks one thing after another, each until it is answered.

use std::collections::BTreeMap;

use engine::command::{Command, Envelope, GiveAnswer, NodeInfo, Publish, Said, StartRun};
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
    /// What it was that was asked, where that is chosen when it is asked first.
    chosen: BTreeMap<usize, Command>,
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
    /// The end of the run that was last started.
    Cancel,
    /// That it stands still.
    Pause,
    /// That it goes on.
    Resume,
    /// That what did not succeed of it is tried again.
    Retry,
    /// Some answer to something that people are asked.
    Answer,
}

impl Wish {
    /// It is asked at a time of its own, at which it may be too late.
    fn may_be_refused(&self) -> bool {
        !matches!(self, Wish::Ask(_) | Wish::Start(_))
    }
}

/// How many people answer, and how much each of them does.
const PEOPLE: std::ops::RangeInclusive<usize> = 3..=4;
const ANSWERS: usize = 4;

impl Client {
    fn new(script: Vec<(RequestId, Wish)>, pause_us_max: u64) -> Client {
        Client {
            script,
            at: 0,
            pause_us_max,
            runs: BTreeMap::new(),
            asked: 0,
            chosen: BTreeMap::new(),
            answered_in: BTreeMap::new(),
        }
    }

    /// The run that was last started before this wish.
    fn run(&self, step: usize) -> RunId {
        let before = self.runs.range(..step).next_back();
        *before.expect("a run is started before something is done to it").1
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
                let run = self.clients[client].run(step);
                let reason = "a change of mind".to_owned();
                match client % 2 {
                    0 => Command::CancelRun { run, reason },
                    _ => Command::CancelAndRollBack { run, reason },
                }
            }
            Wish::Pause => Command::PauseRun {
                run: self.clients[client].run(step),
                reason: "to look at it".to_owned(),
            },
            Wish::Resume => Command::ResumeRun {
                run: self.clients[client].run(step),
            },
            Wish::Retry => Command::RetryRun {
                run: self.clients[client].run(step),
                step: None,
                unknown: false,
            },
            Wish::Answer => match self.chosen_answer(client, step, node) {
                Some(command) => command,
                // Nobody is asked: so it is later, or never once nothing goes wrong any more.
                None => {
                    if self.healed {
                        self.clients[client].at += 1;
                        self.after(
                            1_000,
                            Event::ClientTry {
                                client,
                                step: step + 1,
                            },
                        );
                    }
                    return Ok(());
                }
            },
        };
        let envelope = Envelope {
            request: Some(request),
            actor: Actor::Operator(format!("operator-{client}")),
            command,
        };
        self.propose(node, envelope, Waiting::Client { client, step })
    }

    /// What a person says, the same each time that it is said.
    fn chosen_answer(&mut self, client: usize, step: usize, node: u64) -> Option<Command> {
        if let Some(command) = self.clients[client].chosen.get(&step) {
            return Some(command.clone());
        }
        let (approval, binding, is_question) = self.nodes[&node].asked(self.rng.any())?;
        let said = match (self.rng.percent(20), is_question) {
            (true, _) => Said::Deny,
            (false, true) => Said::Fill(serde_json::json!({"go": true})),
            (false, false) => Said::Approve,
        };
        let command = Command::Answer(Box::new(GiveAnswer {
            approval,
            binding,
            said,
            reason: "seen".to_owned(),
        }));
        self.clients[client].chosen.insert(step, command.clone());
        Some(command)
    }

    pub(super) fn client_answered(&mut self, client: usize, step: usize, index: u64, reply: &Reply) -> Check {
        let (request, wish) = &self.clients[client].script[step];
        if let Reply::Refused(refusal) = reply
            && !wish.may_be_refused()
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
        let happened = match wish {
            Wish::Answer => Some(Happened::PersonAnswered),
            Wish::Pause => Some(Happened::Paused),
            Wish::Retry => Some(Happened::TriedAgain),
            Wish::Ask(_) | Wish::Start(_) | Wish::Cancel | Wish::Resume => None,
        };
        if let Some(happened) = happened.filter(|_| *reply == Reply::Done) {
            self.tally.note(happened);
        }
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
                let wishes = match self.rng.below(100) {
                    0..15 => vec![Wish::Cancel],
                    15..30 => vec![Wish::Pause, Wish::Resume],
                    30..40 => vec![Wish::Pause, Wish::Cancel],
                    40..55 => vec![Wish::Retry],
                    _ => Vec::new(),
                };
                for wish in wishes {
                    script.push((RequestId(self.rng.uuid(EPOCH_MS)), wish));
                }
            }
            self.clients.push(Client::new(script, 4_000_000));
            self.after(
                self.now_us % 1_000 + 100_000,
                Event::ClientTry { client, step: 0 },
            );
        }
        for client in PEOPLE {
            let answer = |rng: &mut Rng| (RequestId(rng.uuid(EPOCH_MS)), Wish::Answer);
            let script = (0..ANSWERS).map(|_| answer(&mut self.rng)).collect();
            self.clients.push(Client::new(script, 3_000_000));
            self.after(500_000, Event::ClientTry { client, step: 0 });
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
    for person in PEOPLE {
        commands.push(Command::GrantRole {
            operator: format!("operator-{person}"),
            role: "lead".to_owned(),
        });
    }
    let below = playbook::compile(workload::BELOW).expect("a playbook of the simulation compiles");
    commands.push(Command::Publish(Box::new(Publish {
        name: below.manifest.playbook.clone(),
        version: below.manifest.version,
        text: workload::BELOW.into(),
        manifest_hash: below.manifest.sha256().parse().expect("a SHA-256 in hex"),
        note: String::new(),
        triggers: Vec::new(),
    })));
    let script = commands
        .into_iter()
        .map(|c| (RequestId(rng.uuid(EPOCH_MS)), Wish::Ask(c)))
        .collect();
    Client::new(script, 2_000)
}
