//! One case, carried out: the state, the planner, and everything around them that a cluster has, in virtual time.

use std::collections::{BTreeMap, BTreeSet};

use engine::command::{CallEnded, NodeInfo, Outcome, Report, ReportBody, SessionClosed, SessionOpened};
use engine::id::{AgentId, ApprovalId, AttemptKey, Digest, NodeId, RunId};
use engine::planner::{Decision, Planner};
use engine::state::{Run, StepStatus};
use engine::{Actor, Assignment, Command, Effect, Envelope, Reply, State, Timestamp};
use playbook::Place;
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::fakes::{self, Question};
use crate::fleet::{Fleet, Worker};
use crate::people::Unheard;
use crate::suite::{Answer, Ends, Fake, Given, Happening, Host, Incoming, Says, Suite};
use crate::trace::Asked;

/// Moments of one case: far more than a playbook of many steps over many hosts needs.
const MOMENTS_MAX: usize = 1_000_000;
/// Rounds of the planner in one moment.
const ROUNDS_MAX: usize = 10_000;
/// The one member of the cluster.
pub(crate) const NODE: NodeId = NodeId(1);
/// The run's id: the same every time, for pauses with jitter are drawn from it.
pub(crate) const RUN: RunId = RunId(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));

/// What happens at a moment that the engine does not set itself.
pub(crate) enum Event<'a> {
    Comes(AgentId),
    Goes(AgentId),
    Ends(Worker, AttemptKey),
    /// A person answers: the request, and which of what is said to it.
    Says(ApprovalId, usize),
    /// An event comes in.
    Incoming(&'a Incoming),
    /// A person does something to the run.
    Deed(&'a Happening),
}

/// Why a case could not be carried out to its end.
pub(crate) enum Stuck {
    /// The run was not started.
    Refused(String),
    /// The world around it cannot be as the case says.
    Broken(String),
    /// Nothing more can happen, or it never stops happening.
    Endless(&'static str),
}

/// A question that no fake answers.
pub(crate) struct Unanswered {
    pub step: String,
    pub place: String,
}

pub(crate) struct World<'a> {
    pub state: State,
    planner: Planner,
    begins_at: Timestamp,
    now: Timestamp,
    fakes: &'a BTreeMap<String, Vec<Fake>>,
    pub people: &'a BTreeMap<String, Vec<Says>>,
    hosts: BTreeMap<AgentId, &'a Host>,
    fleet: Fleet,
    /// By time and the order in which they were set.
    events: BTreeMap<(Timestamp, u64), Event<'a>>,
    events_set: u64,
    /// How many things people have still to do.
    deeds_left: usize,
    /// Whose assignments changed.
    changed: BTreeSet<Worker>,
    pub asked: Vec<Asked>,
    pub unanswered: Vec<Unanswered>,
    /// Approval requests that people heard of.
    pub heard: BTreeSet<ApprovalId>,
    pub unheard: Vec<Unheard>,
    /// Where the fakes and the people's answers stand that were used.
    pub used: BTreeSet<Place>,
    /// The triggers that took what the case began with, from 0.
    pub triggers: BTreeSet<u16>,
    /// Steps in the order in which they began.
    pub began: Vec<u16>,
    /// What the world itself could not do.
    refused: Option<String>,
}

impl<'a> World<'a> {
    /// A cluster of one, with the case's hosts enrolled and those that are online attached.
    pub fn new(given: &'a Given) -> World<'a> {
        let mut world = World {
            state: State::default(),
            planner: Planner::default(),
            begins_at: given.begins_at,
            now: given.begins_at,
            fakes: &given.fakes,
            people: &given.people,
            hosts: given.fleet.iter().map(|host| (host.id.clone(), host)).collect(),
            fleet: Fleet::new(given.fleet.iter().map(|host| &host.id)),
            events: BTreeMap::new(),
            events_set: 0,
            deeds_left: given.meanwhile.len(),
            changed: BTreeSet::new(),
            asked: Vec::new(),
            unanswered: Vec::new(),
            heard: BTreeSet::new(),
            unheard: Vec::new(),
            used: BTreeSet::new(),
            triggers: BTreeSet::new(),
            began: Vec::new(),
            refused: None,
        };
        world.must(Actor::Leader, bootstrap());
        for host in &given.fleet {
            world.enrol(host);
        }
        world.give_roles();
        for incoming in &given.events {
            world.at(incoming.at_ms, Event::Incoming(incoming));
        }
        for happening in &given.meanwhile {
            world.at(happening.at_ms, Event::Deed(happening));
        }
        world
    }

    fn enrol(&mut self, host: &Host) {
        let id = host.id.to_string();
        self.must(
            Actor::Leader,
            Command::CreateToken {
                id: id.clone(),
                hash: digest(&id),
                uses: 1,
                expires_at: self.now.plus_ms(60_000),
                labels: host.labels.clone(),
                agent: Some(host.id.clone()),
            },
        );
        self.must(
            Actor::Node(NODE),
            Command::Enroll {
                token: digest(&id),
                key: digest(&id),
                hostname: id,
            },
        );
        let mut online = true;
        for (from, until) in &host.away {
            match from {
                0 => online = false,
                &from => self.at(from, Event::Goes(host.id.clone())),
            }
            if let Some(until) = until {
                self.at(*until, Event::Comes(host.id.clone()));
            }
        }
        if online {
            self.comes(&host.id);
        }
    }

    /// Starts the run, and lets time pass until it has ended.
    pub fn run(&mut self, suite: &Suite, given: &Given) -> Result<(), Stuck> {
        self.sound()?;
        self.start(suite, given)?;
        for _ in 0..MOMENTS_MAX {
            self.settle()?;
            self.sound()?;
            // What people do when it is over may begin it anew.
            if self.subject().is_some_and(|run| run.status.is_end()) && self.deeds_left == 0 {
                return Ok(());
            }
            let next = self.events.keys().next().map(|(at, _)| *at);
            let wakes = [
                next,
                self.state.next_deadline(),
                self.planner.next_wake(&self.state),
            ];
            let Some(at) = wakes.into_iter().flatten().min() else {
                return Err(Stuck::Endless("nothing is left that could happen"));
            };
            self.now = self.now.max(at);
            // What the world does at this moment comes before what runs out at it.
            match next.filter(|next| *next <= self.now) {
                Some(_) => self.happens(),
                None => {
                    self.apply(Actor::Leader, Command::Tick);
                }
            }
        }
        Err(Stuck::Endless("it goes on and on"))
    }

    /// Nothing of the world's own was refused.
    fn sound(&mut self) -> Result<(), Stuck> {
        self.refused.take().map_or(Ok(()), |why| Err(Stuck::Broken(why)))
    }

    /// The run; None: it was not started.
    pub fn subject(&self) -> Option<&Run> {
        self.state.run(&RUN)
    }

    /// From the run's start on.
    pub fn elapsed_ms(&self) -> u64 {
        self.now.0 - self.begins_at.0
    }

    /// How long the run took, or takes already.
    pub fn took_ms(&self) -> u64 {
        let ended_at = self.subject().and_then(|run| run.ended_at);
        ended_at.map_or(self.elapsed_ms(), |at| at.0 - self.begins_at.0)
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Everything that can happen at this moment does.
    fn settle(&mut self) -> Result<(), Stuck> {
        for _ in 0..ROUNDS_MAX {
            let commands = self.planner.plan(&self.state, self.now);
            if commands.is_empty() && self.changed.is_empty() {
                return Ok(());
            }
            for command in commands {
                if let Command::Plan { decisions, .. } = &command {
                    self.note_begun(decisions);
                }
                self.apply(Actor::Leader, command);
            }
            for worker in std::mem::take(&mut self.changed) {
                self.look(&worker);
            }
        }
        Err(Stuck::Endless("it goes on and on in one moment"))
    }

    fn note_begun(&mut self, decisions: &[Decision]) {
        for decision in decisions {
            let (run, step) = match decision {
                // A question of a gate comes when the step has begun, and so is noted no second time.
                Decision::Open { run, step, .. }
                | Decision::Ask { run, step, .. }
                | Decision::Listen { run, step, .. } => (run, step),
                Decision::Close {
                    run, step, status, ..
                } if *status != StepStatus::Skipped => (run, step),
                _ => continue,
            };
            if *run == RUN && !self.began.contains(step) {
                self.began.push(*step);
            }
        }
    }

    /// One of those who carry tasks out reads again what it has to do.
    fn look(&mut self, worker: &Worker) {
        if !self.fleet.is_online(worker) {
            return;
        }
        let wanted = match worker {
            Some(host) => self.state.assignments(host),
            None => {
                let runs: Vec<RunId> = self.state.active_runs().map(|run| run.id).collect();
                let calls = |run| {
                    self.state
                        .calls(run)
                        .into_iter()
                        .chain(self.state.children_open(run))
                };
                runs.iter().flat_map(calls).collect()
            }
        };
        self.fleet
            .keep(worker, &wanted.iter().map(|task| task.key).collect());
        for task in wanted {
            let known = self.fleet.has(worker, &task.key);
            if task.cancel.is_some() {
                if let Some(outcome) = self.fleet.stop(worker, &task.key) {
                    self.report(worker, task.key, ReportBody::Ended(outcome));
                }
            } else if !known && (!task.started || worker.is_none()) {
                self.begin(worker, &task);
            }
        }
    }

    fn begin(&mut self, worker: &Worker, task: &Assignment) {
        let run = self.state.run(&task.key.task.run);
        let found = run.and_then(|run| run.tasks(task.key.task.step, task.key.task.item).next());
        let item: Option<Value> = found.and_then(|task| serde_json::from_str(task.item_json()?).ok());
        let parameters = serde_json::from_str(&task.parameters).unwrap_or(Value::Null);
        let host = worker.as_ref().map(AgentId::as_str);
        let question = Question {
            host,
            item: item.as_ref(),
            parameters: &parameters,
            attempt: task.key.attempt,
        };
        let fakes = self.fakes.get(&task.step).map(Vec::as_slice).unwrap_or_default();
        let answer = match fakes::answer(fakes, &question) {
            Some((place, answer)) => {
                self.used.insert(place);
                answer.clone()
            }
            // People are told unless the case says otherwise.
            None if task.action == engine::state::runs::NOTIFY => Answer {
                ends: Ends::Output(json!({})),
                after_ms: 0,
            },
            None => {
                self.unanswered.push(Unanswered {
                    step: task.step.clone(),
                    place: match (host, &item) {
                        (Some(host), _) => format!(" on {host}"),
                        (None, Some(item)) => format!(" for {item}"),
                        (None, None) => String::new(),
                    },
                });
                Answer {
                    ends: Ends::Error {
                        code: "no_fake".to_owned(),
                        message: "no fake of the case answers".to_owned(),
                    },
                    after_ms: 0,
                }
            }
        };
        self.asked.push(Asked {
            at_ms: self.elapsed_ms(),
            step: task.step.clone(),
            action: task.action.clone(),
            host: host.map(str::to_owned),
            item,
            attempt: task.key.attempt,
            parameters,
        });
        let after_ms = self.fleet.begin(worker, task, &answer);
        if worker.is_some() {
            self.report(worker, task.key, ReportBody::Started);
        }
        self.at(
            self.elapsed_ms() + after_ms,
            Event::Ends(worker.clone(), task.key),
        );
    }

    fn happens(&mut self) {
        let Some((_, event)) = self.events.pop_first() else {
            return;
        };
        match event {
            Event::Comes(host) => self.comes(&host),
            Event::Goes(host) => {
                let worker = Some(host.clone());
                let session = self.fleet.set_online(&worker, false);
                let closed = SessionClosed { agent: host, session };
                self.sessions(Vec::new(), vec![closed]);
            }
            Event::Ends(worker, key) => {
                if let Some(outcome) = self.fleet.end(&worker, &key) {
                    self.report(&worker, key, ReportBody::Ended(outcome));
                }
            }
            Event::Says(approval, number) => self.answer(approval, number),
            Event::Incoming(incoming) => self.comes_in(incoming),
            Event::Deed(happening) => {
                self.deeds_left -= 1;
                self.does(happening);
            }
        }
    }

    fn comes(&mut self, host: &AgentId) {
        let worker = Some(host.clone());
        let session = self.fleet.set_online(&worker, true);
        let facts = self
            .hosts
            .get(host)
            .map_or(Value::Null, |host| host.facts.clone());
        let opened = SessionOpened {
            agent: host.clone(),
            session,
            key: digest(host.as_str()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: "boot".to_owned(),
            facts: facts.to_string(),
            running: self.fleet.running(&worker),
        };
        self.sessions(vec![opened], Vec::new());
        for (key, outcome) in self.fleet.overdue(&worker) {
            self.report(&worker, key, ReportBody::Ended(outcome));
        }
        self.changed.insert(worker);
    }

    fn sessions(&mut self, opened: Vec<SessionOpened>, closed: Vec<SessionClosed>) {
        self.must(
            Actor::Node(NODE),
            Command::Sessions {
                node: NODE,
                opened,
                closed,
                facts: Vec::new(),
            },
        );
    }

    /// Tells what one says of an attempt. That it may come too late is the engine's to say.
    fn report(&mut self, worker: &Worker, key: AttemptKey, body: ReportBody) {
        match (worker, body) {
            (Some(host), body) => {
                let report = Report {
                    agent: host.clone(),
                    key,
                    body,
                };
                self.must(
                    Actor::Node(NODE),
                    Command::Reports {
                        node: NODE,
                        reports: vec![report],
                    },
                );
            }
            (None, ReportBody::Ended(outcome)) => self.call_ended(key, outcome),
            // The leader has begun with the entry that assigns it.
            (None, ReportBody::Started) => {}
        }
    }

    fn call_ended(&mut self, key: AttemptKey, outcome: Outcome) {
        self.must(Actor::Leader, Command::Calls(vec![CallEnded { key, outcome }]));
    }

    /// Applies a command of the world's own. What is refused of it (a host's labels may be too long) stops the case.
    pub(crate) fn must(&mut self, actor: Actor, command: Command) {
        if let Reply::Refused(why) = self.apply(actor, command) {
            self.refused.get_or_insert(why.to_string());
        }
    }

    pub(crate) fn apply(&mut self, actor: Actor, command: Command) -> Reply {
        let envelope = Envelope {
            request: None,
            actor,
            command,
        };
        let index = self.state.applied_index() + 1;
        let applied = self.state.apply(index, self.now, &envelope);
        self.planner.note(&applied.effects);
        for effect in applied.effects {
            match effect {
                Effect::Approvals => self.hear(),
                Effect::Assignments(host) => {
                    self.changed.insert(Some(host));
                }
                Effect::Run(_) => {
                    self.changed.insert(None);
                }
                _ => {}
            }
        }
        applied.reply
    }

    /// Sets an event, from the run's start on.
    pub(crate) fn at(&mut self, at_ms: u64, event: Event<'a>) {
        self.events_set += 1;
        self.events
            .insert((self.begins_at.plus_ms(at_ms), self.events_set), event);
    }
}

/// The birth of a cluster of one.
pub(crate) fn bootstrap() -> Command {
    let at = |port: u16| format!("c1:{port}");
    let node = NodeInfo {
        node: NODE,
        name: "c1".to_owned(),
        peer_endpoint: at(7402),
        agent_endpoint: at(7401),
        operator_endpoint: at(7400),
        enroll_endpoint: at(7403),
    };
    Command::Bootstrap {
        cluster: uuid::Uuid::from_u128(1),
        trust_domain: "rehearsal.test".to_owned(),
        nodes: vec![node],
    }
}

pub(crate) fn digest(name: &str) -> Digest {
    Digest(sha2::Sha256::digest(name).into())
}
