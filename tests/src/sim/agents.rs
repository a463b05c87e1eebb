//! Agents: the real session machine, a journal that can lose what was not synced, and actions with effects.

use std::collections::{BTreeMap, VecDeque};

use agent::actions::AttemptKey;
use agent::session::event::{
    Assignment, Failure, Input, Intent, Now, Outcome, Output, Received, Recovered, RecoveredAttempt, Sent,
    Status, Written,
};
use agent::session::machine::{Machine, Settings};
use catalogue::Impact;
use engine::id::{AgentId, Digest};

use super::event::Event;
use super::invariants::Check;
use super::links::Link;
use super::tally::Happened;
use super::world::{EPOCH_MS, World, digest};

/// What an agent says to a node.
#[derive(Clone, Debug)]
pub(super) enum Up {
    Said(Sent),
    Closed,
}

/// When an agent dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// While its journal is being written.
    InWrite,
    /// After the intent of something above observe is durable, before its outcome is.
    BeforeOutcome,
}

/// A write to an agent's journal.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Intent(Intent),
    Outcome(AttemptKey, Outcome),
}

#[derive(Debug)]
struct Running {
    assignment: Box<Assignment>,
    acts: bool,
    acted: bool,
    cancelled: bool,
    began_ms: u64,
    started_at_ms: u64,
}

/// One agent and its host.
#[derive(Debug)]
pub(super) struct SimAgent {
    pub id: AgentId,
    pub skew_ms: i64,
    /// It dies at the next moment of this kind, and comes back after so long.
    pub doom: Option<(Moment, u64)>,
    nodes: u64,
    pub life: u64,
    machine: Option<Machine>,
    journal: Vec<RecoveredAttempt>,
    floor: u64,
    unsynced: VecDeque<Write>,
    /// When the last of them will be durable.
    wrote_us: u64,
    running: BTreeMap<u64, Running>,
    next_run: u64,
    pub link: Option<Link>,
    wake_at_ms: Option<u64>,
}

impl SimAgent {
    pub fn new(number: usize, nodes: u64) -> SimAgent {
        SimAgent {
            id: SimAgent::id_of(number),
            skew_ms: 0,
            doom: None,
            nodes,
            life: 0,
            machine: None,
            journal: Vec::new(),
            floor: 0,
            unsynced: VecDeque::new(),
            wrote_us: 0,
            running: BTreeMap::new(),
            next_run: 0,
            link: None,
            wake_at_ms: None,
        }
    }

    pub fn id_of(number: usize) -> AgentId {
        format!("host-{number}").parse().expect("a valid id")
    }

    pub fn key_of(number: usize) -> Digest {
        digest(&format!("key of host-{number}"))
    }

    pub fn is_alive(&self) -> bool {
        self.machine.is_some()
    }

    /// Whether something above observe is in its journal with its intent and without its outcome.
    pub fn is_between(&self) -> bool {
        self.machine.is_some()
            && self.running.values().any(|running| {
                running.assignment.impact > Impact::Observe
                    && self.journal.iter().any(|record| {
                        record.key == running.assignment.key
                            && record.intent.is_some()
                            && record.outcome.is_none()
                    })
            })
    }

    fn keep(&mut self, write: Write) {
        match write {
            Write::Intent(intent) => {
                let key = intent.key.clone();
                self.record(&key).intent = Some(intent);
            }
            Write::Outcome(key, outcome) => self.record(&key).outcome = Some(outcome),
        }
    }

    fn record(&mut self, key: &AttemptKey) -> &mut RecoveredAttempt {
        let at = self
            .journal
            .iter()
            .position(|r| r.key == *key)
            .unwrap_or_else(|| {
                self.journal.push(RecoveredAttempt {
                    key: key.clone(),
                    intent: None,
                    outcome: None,
                    acknowledged: false,
                });
                self.journal.len() - 1
            });
        &mut self.journal[at]
    }
}

impl World {
    pub(super) fn boot_agent(&mut self, number: usize) {
        let seed = self.rng.any();
        let now = self.agent_now(number);
        let sim = &mut self.agents[number];
        if sim.is_alive() {
            return;
        }
        sim.life += 1;
        let recovered = Recovered {
            floor: sim.floor,
            records: sim.journal.clone(),
        };
        sim.machine = Some(Machine::new(
            Settings::new(sim.nodes as usize),
            recovered,
            seed,
            now,
        ));
        sim.wake_at_ms = None;
        self.agent_outputs(number);
    }

    pub(super) fn crash_agent(&mut self, number: usize) {
        let unsynced = self.agents[number].unsynced.len();
        let kept = self.rng.below(unsynced + 1);
        self.tally.note(Happened::AgentCrash);
        if kept < unsynced {
            self.tally.note(Happened::AgentLostWrites);
        }
        if self.agents[number].is_between() {
            self.tally.note(Happened::AgentCrashBetween);
        }
        let sim = &mut self.agents[number];
        sim.machine = None;
        sim.running.clear();
        let unsynced = std::mem::take(&mut sim.unsynced);
        for write in unsynced.into_iter().take(kept) {
            sim.keep(write);
        }
        if let Some(link) = sim.link.take() {
            // The host's kernel closes the connection, or the host is gone and nobody says anything.
            if self.rng.percent(70) {
                self.send_up(number, &link, Up::Closed);
            }
        }
    }

    pub(super) fn agent_input(&mut self, number: usize, life: u64, input: Input) {
        let now = self.agent_now(number);
        let sim = &mut self.agents[number];
        if sim.life != life {
            return;
        }
        if let Input::Lost { connection, .. } = &input
            && sim.link.as_ref().is_some_and(|l| l.connection == *connection)
        {
            sim.link = None;
        }
        if let Input::Wake = input {
            sim.wake_at_ms = None;
        }
        if let Input::Received {
            message: Received::Assign(assignment),
            ..
        } = &input
            && assignment.impact >= Impact::Contain
            && sim
                .journal
                .iter()
                .any(|record| same_task(&record.key, &assignment.key))
        {
            self.tally.note(Happened::ToldAgain);
        }
        let Some(machine) = &mut sim.machine else { return };
        machine.handle(now, input);
        self.agent_outputs(number);
    }

    fn agent_outputs(&mut self, number: usize) {
        let life = self.agents[number].life;
        while let Some(output) = self.agents[number]
            .machine
            .as_mut()
            .and_then(Machine::poll_output)
        {
            match output {
                Output::Connect { connection, endpoint } => {
                    let node = endpoint as u64 + 1;
                    let delay = self.rng.between(500, 20_000);
                    self.after(
                        delay,
                        Event::AgentLink {
                            agent: number,
                            life,
                            connection,
                            node,
                        },
                    );
                }
                Output::Disconnect { connection, .. } => {
                    let sim = &mut self.agents[number];
                    if sim.link.as_ref().is_some_and(|l| l.connection == connection) {
                        let link = sim.link.take().expect("just seen");
                        self.send_up(number, &link, Up::Closed);
                    }
                }
                Output::Send { connection, message } => {
                    let Some(mut link) = self.agents[number].link.take() else {
                        continue;
                    };
                    if link.connection == connection {
                        link.up_at = self.send_up(number, &link, Up::Said(message));
                    }
                    self.agents[number].link = Some(link);
                }
                Output::WriteIntent(intent) => self.journal_write(number, Write::Intent(intent)),
                Output::WriteOutcome { key, outcome } => {
                    self.journal_write(number, Write::Outcome(key, outcome));
                }
                Output::Acknowledge(key) => self.agents[number].record(&key).acknowledged = true,
                Output::Forget { keys, floor } => {
                    let sim = &mut self.agents[number];
                    sim.journal.retain(|record| !keys.contains(&record.key));
                    sim.floor = floor;
                }
                Output::Recall(key) => {
                    let outcome = self.agents[number].record(&key).outcome.clone();
                    let now = self.agent_now(number);
                    let machine = self.agents[number].machine.as_mut().expect("it just spoke");
                    machine.handle(now, Input::Recalled { key, outcome });
                }
                Output::Run(assignment) => self.start_action(number, assignment),
                Output::CancelRun { key, .. } => {
                    let found = self.agents[number]
                        .running
                        .iter_mut()
                        .find(|(_, r)| r.assignment.key == key);
                    if let Some((&run, running)) = found {
                        running.cancelled = true;
                        let delay = self.rng.between(100, 20_000);
                        self.after(
                            delay,
                            Event::AgentEnds {
                                agent: number,
                                life,
                                run,
                            },
                        );
                    }
                }
                Output::Notice(notice) => {
                    if self.options.trace {
                        println!("{:>12} host-{number}: {notice:?}", self.now_us);
                    }
                }
                Output::Stopped => {}
            }
        }
        let sim = &mut self.agents[number];
        let due = sim.machine.as_ref().and_then(Machine::next_deadline_ms);
        if let Some(due) = due.filter(|&due| sim.wake_at_ms.is_none_or(|at| due < at)) {
            sim.wake_at_ms = Some(due);
            let delay = (due * 1_000).saturating_sub(self.now_us).max(1_000);
            self.after(delay, Event::AgentWake { agent: number, life });
        }
    }

    fn journal_write(&mut self, number: usize, write: Write) {
        let sim = &mut self.agents[number];
        sim.unsynced.push_back(write.clone());
        let life = sim.life;
        // In order, as a journal is written.
        let at = (self.now_us + self.rng.between(100, 5_000)).max(sim.wrote_us + 1);
        sim.wrote_us = at;
        self.after(
            at - self.now_us,
            Event::AgentWrote {
                agent: number,
                life,
                write,
            },
        );
        self.meet_doom(number, Moment::InWrite, at - self.now_us);
    }

    /// If the agent is to die at such a moment, it does within so long.
    fn meet_doom(&mut self, number: usize, moment: Moment, within_us: u64) {
        let sim = &mut self.agents[number];
        if let Some((_, back_us)) = sim.doom.take_if(|(at, _)| *at == moment) {
            let life = sim.life;
            let delay = self.rng.between(0, within_us.saturating_sub(1));
            self.after(
                delay,
                Event::AgentDies {
                    agent: number,
                    life,
                    back_us,
                },
            );
        }
    }

    pub(super) fn agent_dies(&mut self, number: usize, life: u64, back_us: u64) {
        if self.agents[number].life == life && self.agents[number].is_alive() {
            self.crash_agent(number);
            self.after(back_us, Event::AgentBack { agent: number });
        }
    }

    pub(super) fn agent_wrote(&mut self, number: usize, life: u64, write: Write) {
        let sim = &mut self.agents[number];
        if sim.life != life || !sim.is_alive() {
            return;
        }
        let written = match &write {
            Write::Intent(intent) => Written::Intent(intent.key.clone()),
            Write::Outcome(key, _) => Written::Outcome(key.clone()),
        };
        let acts = matches!(&write, Write::Intent(intent) if intent.impact > Impact::Observe);
        sim.unsynced.pop_front();
        sim.keep(write);
        if acts {
            // An action lasts up to 150 ms.
            self.meet_doom(number, Moment::BeforeOutcome, 50_000);
        }
        self.agent_input(number, life, Input::Written(written));
    }

    fn start_action(&mut self, number: usize, assignment: Box<Assignment>) {
        let acts = self.rng.percent(85);
        let hangs = self.rng.percent(4);
        let lasts = self.rng.between(200, 150_000);
        let acts_after = self.rng.between(0, lasts);
        let now = self.agent_now(number);
        let ends_after = if hangs {
            assignment.timeout_ms * 1_000
        } else {
            lasts
        };
        let sim = &mut self.agents[number];
        let life = sim.life;
        sim.next_run += 1;
        let run = sim.next_run;
        sim.running.insert(
            run,
            Running {
                assignment,
                acts,
                acted: false,
                cancelled: false,
                began_ms: now.monotonic_ms,
                started_at_ms: now.wall_ms,
            },
        );
        if acts {
            self.after(
                acts_after,
                Event::AgentEffect {
                    agent: number,
                    life,
                    run,
                },
            );
        }
        self.after(
            ends_after + 1,
            Event::AgentEnds {
                agent: number,
                life,
                run,
            },
        );
    }

    pub(super) fn agent_effect(&mut self, number: usize, life: u64, run: u64) -> Check {
        let sim = &mut self.agents[number];
        if sim.life != life {
            return Ok(());
        }
        let Some(running) = sim.running.get_mut(&run).filter(|r| !r.cancelled) else {
            return Ok(());
        };
        running.acted = true;
        let key = &running.assignment.key;
        let task = (key.run_id.clone(), key.step.clone(), key.item);
        self.invariants
            .at_most_once
            .effect(task, running.assignment.impact)
    }

    pub(super) fn agent_ends(&mut self, number: usize, life: u64, run: u64) {
        let now = self.agent_now(number);
        if self.agents[number].skew_ms != 0 {
            self.tally.note(Happened::SkewedAgent);
        }
        let sim = &mut self.agents[number];
        if sim.life != life {
            return;
        }
        let Some(running) = sim.running.remove(&run) else {
            return;
        };
        let overdue = now.monotonic_ms >= running.began_ms + running.assignment.timeout_ms;
        let failed = |code: &str| {
            let failure = Failure {
                code: code.to_owned(),
                message: String::new(),
            };
            (Status::Failed, Some(failure))
        };
        let (status, error) = match (running.acted, running.cancelled, overdue) {
            (true, _, false) => (Status::Succeeded, None),
            (true, _, true) if running.assignment.impact >= Impact::Contain => {
                let failure = Failure {
                    code: "timeout".to_owned(),
                    message: String::new(),
                };
                (Status::Unknown, Some(failure))
            }
            (_, _, true) => failed("timeout"),
            (false, true, false) => {
                let failure = Failure {
                    code: "cancelled".to_owned(),
                    message: String::new(),
                };
                (Status::Cancelled, Some(failure))
            }
            (false, false, false) => failed("unreachable"),
        };
        debug_assert!(running.acts || !running.acted);
        let outcome = Outcome {
            status,
            output_json: if status == Status::Succeeded {
                "{}".to_owned()
            } else {
                String::new()
            },
            error,
            started_at_ms: running.started_at_ms,
            ended_at_ms: now.wall_ms,
        };
        self.agent_input(
            number,
            life,
            Input::Ended {
                key: running.assignment.key,
                outcome,
            },
        );
    }

    fn agent_now(&self, number: usize) -> Now {
        Now {
            monotonic_ms: self.now_us / 1_000,
            wall_ms: (EPOCH_MS + self.now_us / 1_000).saturating_add_signed(self.agents[number].skew_ms),
        }
    }
}

fn same_task(one: &AttemptKey, other: &AttemptKey) -> bool {
    (&one.run_id, &one.step, one.item) == (&other.run_id, &other.step, other.item)
}
