//! The engine alone, on one core: what is opened, assigned, reported and judged, without the network, the log and the
//! agents. The limit of what a leader can decide.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::{Duration, Instant};

use engine::command::{Outcome, OutcomeStatus, Publish, Report, ReportBody};
use engine::events::{read, weigh};
use engine::id::{AgentId, AttemptKey, RunId};
use engine::limits::EVENTS_MAX;
use engine::plan::{Ground, draw};
use engine::planner::Planner;
use engine::{Actor, Command, Effect, State, Timestamp};
use serde_json::json;

use crate::fleet::{Fleet, NODE};
use crate::memory::resident_kib;

/// Reports in one entry, as a node batches them under load.
const BATCH: usize = 512;

/// One step over hosts that the input names.
const HOSTS: &str = r#"
playbook: bench-hosts
version: 1
inputs:
  hosts: {type: list<host>}
targets:
  named: {hosts: "${inputs.hosts}", max: 100000}
steps:
  look: {do: host.info, targets: named}
"#;

/// Two steps over the same hosts, of which the second follows the first host by host.
const FOLLOWING: &str = r#"
playbook: bench-following
version: 1
inputs:
  hosts: {type: list<host>}
targets:
  named: {hosts: "${inputs.hosts}", max: 100000}
steps:
  look: {do: host.info, targets: named}
  again: {do: host.info, targets: named, needs: [look]}
"#;

/// What listens to events.
const LISTENING: &str = r#"
playbook: bench-listening
version: 1
triggers:
  - event: detection_finding
    when: event.severity_id >= 4 && event.finding_info.attacks.exists(a, a.technique.uid == "T1486")
    dedupe: {key: "${event.device.uid}", window: 4h}
  - threshold: {event: authentication, when: event.status_id == 2, by: event.src_endpoint.ip, at_least: 1000, within: 5m}
    dedupe: {key: "${group.key}", window: 1h}
steps: {sum: {decide: [{else: {}}]}}
"#;

/// What events are about, and how the nth is made.
type Kind = (&'static str, fn(usize) -> String);

/// Events of one round.
const EVENTS: usize = 100_000;

/// One step with a task for each item of a list, all on one host.
const ITEMS: &str = r#"
playbook: bench-items
version: 1
inputs:
  hosts: {type: list<host>}
  items: {type: list<string>}
targets:
  named: {hosts: "${inputs.hosts}", max: 1}
steps:
  look:
    do: file.hash
    targets: named
    foreach: {in: inputs.items, as: path, host: "inputs.hosts[0]"}
    with: {paths: ["${path}"]}
"#;

/// Fan-outs of each size over hosts and over items, many runs at once, and what a finished task keeps in memory.
pub fn run(sizes: &[usize], runs: usize, rounds: usize) -> anyhow::Result<()> {
    let most = sizes.iter().copied().max().unwrap_or(0).max(runs);
    let mut bench = Bench {
        fleet: Fleet::new(most)?,
        planner: Planner::default(),
        runs: 0,
    };
    for &size in sizes {
        let hosts = json!({ "hosts": &bench.fleet.agents[..size] });
        bench.fan_out("hosts", HOSTS, &hosts, size, rounds)?;
    }
    for &size in sizes {
        let hosts = json!({ "hosts": &bench.fleet.agents[..size] });
        bench.fan_out("hosts, then the same again", FOLLOWING, &hosts, 2 * size, rounds)?;
    }
    for &size in sizes {
        let items: Vec<String> = (0..size).map(|n| format!("/srv/{n}")).collect();
        let inputs = json!({ "hosts": &bench.fleet.agents[..1], "items": items });
        bench.fan_out("items", ITEMS, &inputs, size, rounds)?;
    }
    bench.many(runs, rounds)?;
    bench.kept(most, rounds)?;
    bench.events(rounds)
}

/// An event of class 2004 or 3002, as a sensor says it.
fn event(class: u32, n: usize, severity: u8, device: &str) -> String {
    json!({
        "class_uid": class, "severity_id": severity, "status_id": 2, "time": 1_700_000_000_000u64 + n as u64,
        "metadata": {"version": "1.3.0", "product": {"name": "sensor"}}, "device": {"uid": device},
        "src_endpoint": {"ip": format!("10.{}.{}.{}", n / 65_536 % 256, n / 256 % 256, n % 256)}, "user": {"name": "eve"},
        "finding_info": {"uid": n.to_string(), "attacks": [{"technique": {"uid": "T1486"}}]},
    })
    .to_string()
}

struct Bench {
    fleet: Fleet,
    planner: Planner,
    runs: u128,
}

impl Bench {
    fn fan_out(
        &mut self,
        over: &str,
        playbook: &str,
        inputs: &serde_json::Value,
        tasks: usize,
        rounds: usize,
    ) -> anyhow::Result<()> {
        let mut took = Vec::new();
        for _ in 0..rounds {
            let began = Instant::now();
            let started = self.start(playbook, inputs)?;
            let done = self.work(started)?;
            took.push(began.elapsed());
            anyhow::ensure!(done == tasks, "{done} tasks were done, not {tasks}");
        }
        let line = json!({
            "bench": "engine",
            "fan_out_over": over,
            "tasks": tasks,
            "p50_us": median(&mut took).as_micros() as u64,
            "us_per_task": round1(median(&mut took).as_secs_f64() * 1e6 / tasks as f64),
            "tasks_per_s": (tasks as f64 / median(&mut took).as_secs_f64()).round(),
            "n": rounds,
        });
        println!("{line}");
        Ok(())
    }

    /// So many runs at once, each on a host of its own.
    fn many(&mut self, runs: usize, rounds: usize) -> anyhow::Result<()> {
        let mut took = Vec::new();
        for _ in 0..rounds {
            let began = Instant::now();
            let mut effects = Vec::new();
            for n in 0..runs {
                let inputs = json!({ "hosts": [&self.fleet.agents[n]] });
                effects.extend(self.start(HOSTS, &inputs)?);
            }
            let done = self.work(effects)?;
            took.push(began.elapsed());
            anyhow::ensure!(done == runs, "{done} tasks were done, not {runs}");
        }
        let line = json!({
            "bench": "engine",
            "runs_at_once": runs,
            "p50_us": median(&mut took).as_micros() as u64,
            "runs_per_s": (runs as f64 / median(&mut took).as_secs_f64()).round(),
            "n": rounds,
        });
        println!("{line}");
        Ok(())
    }

    /// Events, read, weighed and taken as a node does, in batches: those that nothing listens to, those whose key was
    /// seen, and those that a threshold counts.
    fn events(&mut self, rounds: usize) -> anyhow::Result<()> {
        let manifest = playbook::compile(LISTENING)?.manifest;
        let publish = Publish {
            name: manifest.playbook.clone(),
            version: manifest.version,
            text: LISTENING.into(),
            manifest_hash: manifest.sha256().parse()?,
            note: String::new(),
            triggers: manifest.triggers,
        };
        self.fleet
            .apply(Actor::Operator("ada".into()), Command::Publish(Box::new(publish)))?;
        let kinds: [Kind; 3] = [
            ("nothing listens", |n| event(2004, n, 1, "a")),
            ("seen before", |n| event(2004, n, 5, "a")),
            ("counted by a threshold", |n| event(3002, n, 1, "a")),
        ];
        for (kind, make) in kinds {
            let texts: Vec<String> = (0..EVENTS).map(make).collect();
            let mut took = Vec::new();
            for _ in 0..rounds {
                let began = Instant::now();
                for batch in texts.chunks(EVENTS_MAX) {
                    let events = batch
                        .iter()
                        .map(|text| read(text, None))
                        .collect::<Result<Vec<_>, _>>()?;
                    if let Some(taken) = weigh(&self.fleet.state, Timestamp(1), &events).command {
                        let by = Actor::Operator("siem".into());
                        self.fleet.apply(by, Command::Events(Box::new(taken)))?;
                    }
                }
                took.push(began.elapsed());
            }
            let line = json!({
                "bench": "engine",
                "events": kind,
                "us_per_event": round1(median(&mut took).as_secs_f64() * 1e6 / EVENTS as f64),
                "events_per_s": (EVENTS as f64 / median(&mut took).as_secs_f64()).round(),
                "n": rounds,
            });
            println!("{line}");
        }
        Ok(())
    }

    /// What the state keeps of each task that is over.
    fn kept(&mut self, tasks: usize, rounds: usize) -> anyhow::Result<()> {
        let inputs = json!({ "hosts": &self.fleet.agents[..tasks] });
        let (_, before) = resident_kib(Some(std::process::id()))?;
        let encoded = self.fleet.state.encode().len();
        for _ in 0..rounds {
            let started = self.start(HOSTS, &inputs)?;
            self.work(started)?;
        }
        let encoded = self.fleet.state.encode().len() - encoded;
        let (_, after) = resident_kib(Some(std::process::id()))?;
        let all = (tasks * rounds) as u64;
        let line = json!({
            "bench": "engine",
            "finished_tasks": all,
            "anonymous_bytes_per_task": after.saturating_sub(before) * 1024 / all,
            "snapshot_bytes_per_task": encoded as u64 / all,
        });
        println!("{line}");
        Ok(())
    }

    /// Compiles, plans and starts a run, as a coordinator does.
    fn start(&mut self, playbook: &str, inputs: &serde_json::Value) -> anyhow::Result<Vec<Effect>> {
        let manifest = playbook::compile(playbook)?.manifest;
        let inputs = playbook::bind_inputs(&manifest, inputs)?;
        let named = playbook::named_hosts(&manifest, &inputs, &json!({}));
        let ground = Ground::of(&self.fleet.state, named.as_ref(), &BTreeSet::new());
        let plan = draw(manifest, inputs, json!({}), &ground, "ada")?;
        self.runs += 1;
        let start = plan.start(RunId(uuid::Uuid::from_u128(self.runs)), None);
        let by = Actor::Operator("ada".into());
        let effects = self.fleet.apply(by, Command::StartRun(Box::new(start)))?.effects;
        self.planner.note(&effects);
        Ok(effects)
    }

    /// Plans and reports success until nothing is left to do; how many tasks that were.
    fn work(&mut self, effects: Vec<Effect>) -> anyhow::Result<usize> {
        let mut told = Told::default();
        told.hear(&self.fleet.state, &effects);
        let mut done = 0;
        loop {
            for command in self.planner.plan(&self.fleet.state, Timestamp(1)) {
                let effects = self.fleet.apply(Actor::Leader, command)?.effects;
                self.planner.note(&effects);
                told.hear(&self.fleet.state, &effects);
            }
            if told.waiting.is_empty() {
                return Ok(done);
            }
            let batch: Vec<_> = told.waiting.drain(..told.waiting.len().min(BATCH)).collect();
            done += batch.len();
            let reports = batch.into_iter().map(|(agent, key)| Report {
                agent,
                key,
                body: ReportBody::Ended(Outcome {
                    status: OutcomeStatus::Succeeded,
                    output: json!({"os": "linux"}),
                    error: None,
                }),
            });
            let reports = Command::Reports {
                node: NODE,
                reports: reports.collect(),
            };
            let effects = self.fleet.apply(Actor::Node(NODE), reports)?.effects;
            self.planner.note(&effects);
            told.hear(&self.fleet.state, &effects);
        }
    }
}

/// What the agents were told to do, and have not answered.
#[derive(Default)]
struct Told {
    seen: HashSet<AttemptKey>,
    waiting: VecDeque<(AgentId, AttemptKey)>,
}

impl Told {
    /// Reads the assignments of those for whom they changed, as a node does.
    fn hear(&mut self, state: &State, effects: &[Effect]) {
        for effect in effects {
            let Effect::Assignments(agent) = effect else {
                continue;
            };
            for assignment in state.assignments(agent) {
                if self.seen.insert(assignment.key) {
                    self.waiting.push_back((agent.clone(), assignment.key));
                }
            }
        }
    }
}

fn median(took: &mut [Duration]) -> Duration {
    took.sort_unstable();
    took.get(took.len() / 2).copied().unwrap_or_default()
}

fn round1(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
