//! A world around one state, driven by lines of a small language: time, agents, and a leader whose
//! planner runs after every command, as it does in a coordinator.
#![allow(dead_code, reason = "each test uses its own part")]

mod children;
mod explain;
mod plan;
mod show;
mod step;
mod triggers;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use engine::command::{
    CallEnded, Custody, GiveAnswer, HandedIn, NodeInfo, Outcome, OutcomeStatus, Publish, Report, ReportBody,
    Said, SessionClosed, SessionOpened, StartRun, TaskError,
};
use engine::id::{AgentId, ApprovalId, AttemptKey, Digest, NodeId, RequestId, RunId, TaskKey};
use engine::planner::{Decision, NewTasks, Planner, Verdict, undo_plan};
use engine::state::claims::Claims;
use engine::{Actor, Command, Effect, Envelope, Reply, State, Timestamp};
use playbook::manifest::{
    Expression, Kind, Limits, Manifest, Need, NeedState, OnFailure, Over, Retry, Rule, Step, TargetSet,
    TargetSource, Template, Wave,
};
use serde_json::{Value, json};
use sha2::Digest as _;

pub use step::step;
use step::template;

pub struct World {
    pub state: State,
    pub planner: Planner,
    pub log: Vec<(u64, Timestamp, Envelope)>,
    pub out: String,
    pub now: u64,
    /// Plan after every command.
    pub leader: bool,
    playbooks: BTreeMap<String, Manifest>,
    inputs: Value,
    /// What triggers the next runs, and the group that it is of.
    event: Value,
    group: Value,
    /// Lines of a playbook that is written.
    text: String,
    request: Option<RequestId>,
    actor: Actor,
    /// The plan that was last shown.
    shown: Option<Digest>,
    /// The leader begins the runs that steps ask for, as it plans.
    pub begins: bool,
    /// How many it has begun, or tried to.
    children: u32,
    /// What was drawn of them and not proposed yet.
    drawn_children: Vec<(AttemptKey, Command)>,
}

impl World {
    pub fn new() -> World {
        World {
            state: State::default(),
            planner: Planner::default(),
            log: Vec::new(),
            out: String::new(),
            now: 1_000_000,
            leader: true,
            playbooks: BTreeMap::new(),
            inputs: json!({}),
            event: Value::Null,
            group: Value::Null,
            text: String::new(),
            request: None,
            actor: Actor::Operator("alice".into()),
            shown: None,
            begins: true,
            children: 0,
            drawn_children: Vec::new(),
        }
    }

    /// Three members, `n` agents a0.. attached to node 1, and time.
    pub fn with_agents(n: usize) -> World {
        let mut world = World::new();
        world.line("bootstrap");
        world.line(&format!("token t uses={} ttl=100000", n.max(1)));
        for i in 0..n {
            world.line(&format!("enroll t key=k{i} host=a{i}"));
            world.line(&format!("attach a{i} node=1 session={} key=k{i}", i + 1));
        }
        world
    }

    /// The frozen sets: `all` are these hosts, any other is what its declaration says.
    fn targets(&self, manifest: &Manifest, all: Vec<AgentId>) -> BTreeMap<String, Vec<AgentId>> {
        if manifest.targets.contains_key("all") {
            return [("all".to_owned(), all)].into();
        }
        let agents: Vec<_> = self
            .state
            .agents()
            .filter(|a| a.revoked.is_none())
            .map(|a| json!({"id": a.id, "online": a.is_online(), "labels": a.labels, "facts": {}}))
            .collect();
        playbook::resolve_targets(manifest, &self.inputs, &json!({}), &agents)
            .expect("targets")
            .into_iter()
            .map(|(name, hosts)| (name, hosts.iter().map(|h| agent(h)).collect()))
            .collect()
    }

    /// Applies a command at the world's time.
    pub fn apply(&mut self, actor: Actor, command: Command) -> Reply {
        let envelope = Envelope {
            request: self.request.take(),
            actor,
            command,
        };
        // What travels is what is applied.
        let envelope = Envelope::decode(&envelope.encode()).expect("an envelope can be read again");
        let index = self.state.applied_index() + 1;
        let at = Timestamp(self.now);
        let applied = self.state.apply(index, at, &envelope);
        self.log.push((index, at, envelope));
        for effect in &applied.effects {
            match effect {
                Effect::Run(_)
                | Effect::Planned(_)
                | Effect::Presence
                | Effect::Approvals
                | Effect::Triggers => {}
                Effect::Assignments(agent) => {
                    let all: Vec<_> = self
                        .state
                        .assignments(agent)
                        .iter()
                        .map(|a| {
                            format!(
                                "{}/{}#{}{}",
                                a.step,
                                a.key.task.item,
                                a.key.attempt,
                                a.cancel.as_ref().map_or("".into(), |c| format!(" STOP({c})"))
                            )
                        })
                        .collect();
                    let _ = writeln!(self.out, "  -> {agent}: [{}]", all.join(", "));
                }
                other => {
                    let _ = writeln!(self.out, "  -> {other:?}");
                }
            }
        }
        self.planner.note(&applied.effects);
        applied.reply
    }

    fn ask(&mut self, actor: Actor, command: Command) {
        let reply = self.apply(actor, command);
        match &reply {
            Reply::Done => {}
            Reply::Refused(why) => {
                let _ = writeln!(self.out, "  refused: {why}");
            }
            Reply::Enrolled { agent, labels } => {
                let _ = writeln!(self.out, "  enrolled {agent} {labels:?}");
            }
            Reply::RunStarted { run } => {
                let _ = writeln!(self.out, "  started {}", short(*run));
            }
            Reply::Reports(all) | Reply::Sessions(all) => {
                for why in all.iter().flatten() {
                    let _ = writeln!(self.out, "  not taken: {why}");
                }
            }
            Reply::Events {
                fired,
                deduplicated,
                heard,
            } => {
                let _ = writeln!(
                    self.out,
                    "  fired {fired}, seen before {deduplicated}, heard {heard}"
                );
            }
            Reply::Planned { .. } => {}
        }
        if self.leader {
            self.plan();
        }
    }

    /// The planner proposes until it has nothing more to say.
    pub fn plan(&mut self) {
        for round in 0.. {
            assert!(round < 1_000, "the planner comes to rest");
            let commands = self.planner.plan(&self.state, Timestamp(self.now));
            if commands.is_empty() {
                if (self.begins && self.begin_children()) || self.start_fired() {
                    continue;
                }
                return;
            }
            for command in commands {
                if let Command::Plan { decisions, .. } = &command {
                    for decision in decisions {
                        let text = self.decision(decision);
                        let _ = writeln!(self.out, "  plan: {text}");
                    }
                }
                let reply = self.apply(Actor::Leader, command);
                assert_eq!(reply, Reply::Planned { stale: 0 }, "nothing came between");
            }
        }
    }

    fn decision(&self, decision: &Decision) -> String {
        let name = |step: &u16| {
            self.state
                .run(&decision.run())
                .map_or(String::new(), |r| r.declared(*step).name.clone())
        };
        match decision {
            Decision::Delay { step, .. } => format!("delay {}", name(step)),
            Decision::Open {
                step,
                from,
                tasks,
                gated,
                ..
            } => {
                let tasks = match tasks {
                    NewTasks::Hosts { count } => format!("{count} hosts"),
                    NewTasks::Each(tasks) => format!("{} tasks", tasks.len()),
                };
                let gated = gated.as_ref().map_or(String::new(), |gated| {
                    let problem = gated.problem.as_deref().unwrap_or("");
                    format!(" gated {:?} {problem}", gated.items)
                });
                format!("open {} from {from}: {tasks}{gated}", name(step))
                    .trim_end()
                    .to_owned()
            }
            Decision::Ask {
                step, text, defaults, ..
            } => format!("ask {} {text:?} {defaults}", name(step)),
            Decision::Assign { step, .. } => format!("assign {}", name(step)),
            Decision::Soak { step, .. } => format!("soak {}", name(step)),
            Decision::Listen { step, .. } => format!("listen {}", name(step)),
            Decision::Judge { step, verdicts, .. } => {
                let all: Vec<_> = verdicts
                    .iter()
                    .map(|(item, _, v)| match v {
                        Verdict::Succeeded => format!("{item} succeeded"),
                        Verdict::Failed { again, .. } => format!("{item} failed again={again}"),
                    })
                    .collect();
                format!("judge {}: {}", name(step), all.join(", "))
            }
            Decision::Stop { step, reason, .. } => format!("stop {}: {reason}", name(step)),
            Decision::Close {
                step,
                status,
                reason,
                output,
                ..
            } => format!(
                "close {} {} {reason} {}",
                name(step),
                status.as_str(),
                output.as_deref().unwrap_or("")
            )
            .trim_end()
            .to_owned(),
            Decision::Undo { steps, .. } => {
                let names: Vec<_> = steps.iter().map(|step| step.declared.name.as_str()).collect();
                format!("undo [{}]", names.join(", "))
            }
            Decision::End { outputs, problem, .. } => {
                format!("end {outputs} {}", problem.as_deref().unwrap_or(""))
                    .trim_end()
                    .to_owned()
            }
        }
    }

    /// Carries one line out, and checks the state.
    pub fn line(&mut self, line: &str) {
        let _ = writeln!(self.out, "> {line}");
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut named: BTreeMap<&str, &str> = BTreeMap::new();
        let mut plain = Vec::new();
        for word in rest.split_whitespace() {
            match word.split_once('=') {
                Some((k, v)) if k.bytes().all(|b| b.is_ascii_lowercase()) => {
                    named.insert(k, v);
                }
                _ => plain.push(word),
            }
        }
        let number =
            |name: &str, default: u64| named.get(name).map_or(default, |v| v.parse().expect("a number"));
        match verb {
            "as" => self.actor = Actor::Operator(plain[0].into()),
            "leader" => {
                self.leader = plain[0] == "on";
                // What it drew and did not propose is lost with it.
                self.drawn_children.clear();
                if self.leader {
                    self.planner = Planner::new(&self.state);
                    self.plan();
                }
            }
            "begins" => {
                self.begins = plain[0] == "on";
                if self.leader {
                    self.plan();
                }
            }
            "draw" => self.draw_child(plain[0], plain[1]),
            "propose" => self.propose_drawn(),
            "request" => self.request = Some(RequestId(uuid(plain[0]))),
            "bootstrap" => {
                let nodes = (1..=3)
                    .map(|n| NodeInfo {
                        node: NodeId(n),
                        name: format!("c{n}"),
                        peer_endpoint: format!("c{n}:7402"),
                        agent_endpoint: format!("c{n}:7401"),
                        operator_endpoint: format!("c{n}:7400"),
                        enroll_endpoint: format!("c{n}:7403"),
                    })
                    .collect();
                let cluster = uuid(named.get("id").unwrap_or(&"cluster"));
                self.ask(
                    Actor::Leader,
                    Command::Bootstrap {
                        cluster,
                        trust_domain: "cordon.test".into(),
                        nodes,
                    },
                );
            }
            "put-node" => {
                let at = |port: u32| format!("{}:{port}", plain[1]);
                let node = NodeInfo {
                    node: NodeId(plain[0].parse().expect("a node")),
                    name: plain[1].into(),
                    peer_endpoint: at(7402),
                    agent_endpoint: at(7401),
                    operator_endpoint: at(7400),
                    enroll_endpoint: at(7403),
                };
                self.ask(self.actor.clone(), Command::PutNode(node));
            }
            "node-leaves" => self.ask(
                self.actor.clone(),
                Command::NodeLeaves {
                    node: NodeId(plain[0].parse().expect("a node")),
                    lose_evidence: named.contains_key("lose"),
                },
            ),
            "remove-node" => self.ask(
                self.actor.clone(),
                Command::RemoveNode {
                    node: NodeId(plain[0].parse().expect("a node")),
                },
            ),
            "token" => {
                let command = Command::CreateToken {
                    id: plain[0].into(),
                    hash: digest(plain[0]),
                    uses: number("uses", 1) as u32,
                    expires_at: Timestamp(self.now + number("ttl", 600) * 1000),
                    labels: named
                        .get("label")
                        .map(|l| ("role".to_owned(), (*l).to_owned()))
                        .into_iter()
                        .collect(),
                    agent: named.get("agent").map(|a| agent(a)),
                };
                self.ask(self.actor.clone(), command);
            }
            "revoke-token" => self.ask(self.actor.clone(), Command::RevokeToken { id: plain[0].into() }),
            "enroll" => self.ask(
                Actor::Node(NodeId(1)),
                Command::Enroll {
                    token: digest(plain[0]),
                    key: digest(named["key"]),
                    hostname: (*named.get("host").unwrap_or(&"")).into(),
                },
            ),
            "renew" => self.ask(
                Actor::Node(NodeId(1)),
                Command::RenewKey {
                    agent: agent(plain[0]),
                    current: digest(named["current"]),
                    next: digest(named["next"]),
                },
            ),
            "revoke-agent" => self.ask(
                self.actor.clone(),
                Command::RevokeAgent {
                    agent: agent(plain[0]),
                    reason: "stolen".into(),
                },
            ),
            "attach" => {
                let id = agent(plain[0]);
                let running = named.get("running").map(|at| self.key(at)).into_iter().collect();
                let node = NodeId(number("node", 1));
                let opened = SessionOpened {
                    key: named.get("key").map_or_else(
                        || self.state.agent(&id).map_or(digest("none"), |a| a.key),
                        |k| digest(k),
                    ),
                    agent: id,
                    session: number("session", 1),
                    version: "0.1.0".into(),
                    boot_id: (*named.get("boot").unwrap_or(&"boot")).into(),
                    facts: r#"{"os":"linux"}"#.into(),
                    running,
                };
                self.ask(
                    Actor::Node(node),
                    Command::Sessions {
                        node,
                        opened: vec![opened],
                        closed: vec![],
                        facts: vec![],
                    },
                );
            }
            "detach" => {
                let node = NodeId(number("node", 1));
                let closed = vec![SessionClosed {
                    agent: agent(plain[0]),
                    session: number("session", 1),
                }];
                self.ask(
                    Actor::Node(node),
                    Command::Sessions {
                        node,
                        opened: vec![],
                        closed,
                        facts: vec![],
                    },
                );
            }
            "playbook" => {
                self.playbooks.insert(
                    plain[0].into(),
                    Manifest {
                        format: 1,
                        playbook: plain[0].into(),
                        version: 1,
                        info: Value::Null,
                        triggers: Vec::new(),
                        inputs: BTreeMap::new(),
                        limits: Limits {
                            timeout_ms: named.get("timeout").map(|t| t.parse().expect("ms")),
                            ..Limits::default()
                        },
                        targets: [(
                            "all".to_owned(),
                            TargetSet {
                                source: TargetSource::Hosts(Template::Literal(json!([]))),
                                max: None,
                                allow_empty: named.contains_key("empty"),
                            },
                        )]
                        .into(),
                        steps: vec![],
                        finally: vec![],
                        outputs: BTreeMap::new(),
                    },
                );
            }
            // | LINE: a line of a playbook; yaml NAME: compiles the lines.
            "|" => {
                self.text.push_str(rest);
                self.text.push('\n');
            }
            // publish [note]: the lines that were written.
            "publish" => {
                let text = std::mem::take(&mut self.text);
                let manifest = playbook::compile(&text).expect("a playbook").manifest;
                let publish = Publish {
                    name: manifest.playbook.clone(),
                    version: manifest.version,
                    text: text.into(),
                    manifest_hash: manifest.sha256().parse().expect("a hash"),
                    note: rest.into(),
                    triggers: manifest.triggers,
                };
                self.ask(self.actor.clone(), Command::Publish(Box::new(publish)));
            }
            "yaml" => {
                let text = std::mem::take(&mut self.text);
                let manifest = match playbook::compile(&text) {
                    Ok(compiled) => compiled.manifest,
                    Err(problems) => panic!("{problems}"),
                };
                self.playbooks.insert(plain[0].into(), manifest);
            }
            // inputs JSON: of the runs that follow.
            "inputs" => self.inputs = serde_json::from_str(rest).expect("JSON"),
            "events" => self.events(rest),
            "schedule" => {
                let ms = |name: &str| named.get(name).map(|ms| ms.parse().expect("ms"));
                self.schedule(plain[0], ms("due"), ms("next"));
            }
            "trigger" => {
                let command = Command::SetTrigger {
                    trigger: plain[1].parse().expect("PLAYBOOK/N"),
                    enabled: plain[0] == "enable",
                    reason: (*named.get("reason").unwrap_or(&"")).into(),
                };
                self.ask(self.actor.clone(), command);
            }
            "event" => self.event = serde_json::from_str(rest).expect("JSON"),
            "group" => self.group = serde_json::from_str(rest).expect("JSON"),
            // library NAME INPUTS: a playbook of the library, compiled.
            "library" => {
                let (name, inputs) = rest.split_once(' ').expect("library NAME INPUTS");
                let text = playbook::library::find(name).expect("a playbook of the library");
                let manifest = playbook::compile(text).expect("the library compiles").manifest;
                let inputs = serde_json::from_str(inputs).expect("JSON");
                self.inputs = playbook::bind_inputs(&manifest, &inputs).expect("good inputs");
                self.playbooks.insert(name.into(), manifest);
            }
            "output" => {
                let (name, text) = rest.split_once(' ').expect("output NAME JSON or = EXPRESSION");
                let manifest = self.playbooks.values_mut().next_back().expect("a playbook first");
                manifest.outputs.insert(name.into(), template(text));
            }
            "step" | "finally" => {
                let manifest = self.playbooks.values_mut().next_back().expect("a playbook first");
                let step = step(manifest, rest);
                if verb == "step" {
                    manifest.steps.push(step);
                } else {
                    manifest.finally.push(step);
                }
            }
            "run" => {
                let manifest = self.playbooks[plain[1]].clone();
                let hosts = named.get("on").copied().unwrap_or("");
                let mut hosts: Vec<_> = hosts.split(',').filter(|h| !h.is_empty()).map(agent).collect();
                if hosts.is_empty() && !named.contains_key("empty") {
                    hosts = self
                        .state
                        .agents()
                        .filter(|a| a.revoked.is_none())
                        .map(|a| a.id.clone())
                        .collect();
                }
                hosts.sort();
                let targets = self.targets(&manifest, hosts);
                let start = StartRun {
                    run: RunId(uuid(plain[0])),
                    manifest_hash: manifest.sha256().parse().expect("a hash"),
                    manifest,
                    inputs: self.inputs.clone(),
                    targets,
                    config: json!({}),
                    foretold: None,
                    event: self.event.clone(),
                    group: self.group.clone(),
                    claims: Claims::default(),
                    asked: None,
                    fired: None,
                };
                self.ask(self.actor.clone(), Command::StartRun(Box::new(start)));
            }
            // plan PLAYBOOK: what a run of it would do. start RUN PLAYBOOK [expected=1]: as planned now, and with
            // `expected` only if that is the plan that was last shown.
            "plan" => self.show_plan(plain[0]),
            "start" => self.start_planned(plain[0], plain[1], named.contains_key("expected")),
            "cancel" => self.ask(
                self.actor.clone(),
                Command::CancelRun {
                    run: RunId(uuid(plain[0])),
                    reason: "enough".into(),
                },
            ),
            "cancel-rollback" => self.ask(
                self.actor.clone(),
                Command::CancelAndRollBack {
                    run: RunId(uuid(plain[0])),
                    reason: "enough".into(),
                },
            ),
            // rollback RUN [revision=N]: as it is now, unless a revision is given.
            "rollback" => {
                let run = RunId(uuid(plain[0]));
                let now = self.state.run(&run).map_or(0, |run| run.revision);
                let revision = named
                    .get("revision")
                    .map_or(now, |text| text.parse().expect("a number"));
                let reason = "mistaken".into();
                self.ask(
                    self.actor.clone(),
                    Command::RollbackRun {
                        run,
                        reason,
                        revision,
                    },
                );
            }
            // undo-plan RUN: what a rollback would do.
            "undo-plan" => {
                let run = self.state.run(&RunId(uuid(plain[0]))).expect("a run");
                for view in undo_plan(&self.state, run) {
                    let by = view.action.as_deref().unwrap_or("nothing");
                    let roles = view.roles.iter().map(|role| format!(" if {role} agrees"));
                    let _ = writeln!(self.out, "  {} by {by}{}", view.step, roles.collect::<String>());
                    for task in view.tasks {
                        let agent = task.agent.map_or("-".into(), |agent| agent.to_string());
                        let unknown = if task.unknown { " unknown" } else { "" };
                        let with = task
                            .parameters
                            .unwrap_or_else(|why| format!("{}: {}", why.code, why.message));
                        let _ = writeln!(self.out, "    {} {agent} {with}{unknown}", task.item);
                    }
                }
            }
            // undone RUN: how far that is, and the tasks that do it.
            "undone" => {
                let run = self.state.run(&RunId(uuid(plain[0]))).expect("a run");
                let (word, left) = (run.rollback_word(), run.not_undone().join(" "));
                let _ = writeln!(self.out, "  {} rollback={word} left=[{left}]", run.word());
                for number in run.manifest().step_count()..run.steps.len() as u16 {
                    let step = &run.steps[usize::from(number)];
                    let (name, status) = (&run.declared(number).name, step.status.as_str());
                    let _ = writeln!(self.out, "    {name} {status} {}", step.reason);
                    for task in run.tasks(number, 0) {
                        let agent = task.agent.map_or("-", |agent| agent.as_str());
                        let with = task.task.parameters.as_deref().unwrap_or("-");
                        let item = task.item_json().unwrap_or("-");
                        let status = task.status();
                        let _ = writeln!(
                            self.out,
                            "      {} {agent} {status} attempts={} item={item} with {with}",
                            task.item,
                            task.attempts()
                        );
                    }
                }
            }
            // called RUN/STEP/ITEM[#ATTEMPT] STATUS [OUTPUT] [code=CODE]: the leader made a call.
            "called" => {
                let key = self.key(plain[0]);
                let outcome = outcome(&plain, &named);
                let ended = vec![CallEnded { key, outcome }];
                self.ask(Actor::Leader, Command::Calls(ended));
            }
            "grant" | "revoke-role" => {
                let (operator, role) = (plain[0].to_owned(), plain[1].to_owned());
                let command = match verb {
                    "grant" => Command::GrantRole { operator, role },
                    _ => Command::RevokeRole { operator, role },
                };
                self.ask(self.actor.clone(), command);
            }
            // labels AGENT NAME VALUE
            "labels" => {
                let labels = [(plain[1].to_owned(), plain[2].to_owned())].into();
                let agent = agent(plain[0]);
                self.ask(self.actor.clone(), Command::SetLabels { agent, labels });
            }
            // approve ID [reason=WORD] [binding=old]; deny ID; answer ID JSON
            "approve" | "deny" | "answer" => {
                let approval: ApprovalId = plain[0].parse().expect("an approval's id");
                let known = self.state.approval(approval).map(|a| a.binding);
                let binding = match named.get("binding") {
                    Some(other) => digest(other),
                    None => known.unwrap_or_default(),
                };
                let said = match verb {
                    "approve" => Said::Approve,
                    "deny" => Said::Deny,
                    _ => Said::Fill(serde_json::from_str(plain[1]).expect("JSON")),
                };
                let reason = named
                    .get("reason")
                    .map_or("seen", |reason| reason.trim_matches('"'));
                self.ask(
                    self.actor.clone(),
                    Command::Answer(Box::new(GiveAnswer {
                        approval,
                        binding,
                        said,
                        reason: reason.into(),
                    })),
                );
            }
            "pause" => self.ask(
                self.actor.clone(),
                Command::PauseRun {
                    run: RunId(uuid(plain[0])),
                    reason: "wait".into(),
                },
            ),
            "resume" => self.ask(
                self.actor.clone(),
                Command::ResumeRun {
                    run: RunId(uuid(plain[0])),
                },
            ),
            // retry RUN [STEP] [unknown=1]
            "retry" => {
                let run = RunId(uuid(plain[0]));
                let step = plain
                    .get(1)
                    .map(|name| self.state.step_number(&run, name).expect("a step"));
                let unknown = named.contains_key("unknown");
                self.ask(self.actor.clone(), Command::RetryRun { run, step, unknown });
            }
            // settle RUN/STEP/ITEM succeeded|failed
            "settle" => {
                let command = Command::SettleTask {
                    task: self.key(plain[0]).task,
                    succeeded: plain[1] == "succeeded",
                    reason: "seen".into(),
                };
                self.ask(self.actor.clone(), command);
            }
            // started RUN/STEP/ITEM[#ATTEMPT] [by=agent]
            "started" | "ended" => {
                let key = self.key(plain[0]);
                let by = named
                    .get("by")
                    .map(|a| agent(a))
                    .or_else(|| {
                        self.state
                            .run(&key.task.run)?
                            .agent_of(key.task.step, key.task.item)
                            .cloned()
                    })
                    .unwrap_or_else(|| agent("nobody"));
                let body = if verb == "started" {
                    ReportBody::Started
                } else {
                    ReportBody::Ended(outcome(&plain, &named))
                };
                let report = Report { agent: by, key, body };
                self.ask(
                    Actor::Node(NodeId(1)),
                    Command::Reports {
                        node: NodeId(1),
                        reports: vec![report],
                    },
                );
            }
            "custody" => {
                let key = self.key(plain[0]);
                let by = self
                    .state
                    .run(&key.task.run)
                    .and_then(|r| r.agent_of(key.task.step, key.task.item))
                    .cloned();
                self.ask(
                    Actor::Node(NodeId(1)),
                    Command::Custody(Box::new(Custody {
                        sha256: digest(plain[1]),
                        size_bytes: 3,
                        agent: by.unwrap_or_else(|| agent("nobody")),
                        path: b"/tmp/x".to_vec(),
                        task: key.task,
                        collected_at: Timestamp(self.now),
                        changed_during_read: false,
                        nodes: plain[2]
                            .split(',')
                            .map(|n| NodeId(n.parse().expect("a node")))
                            .collect(),
                    })),
                );
                for record in self.state.evidence() {
                    let _ = writeln!(
                        self.out,
                        "  {:?} {} on {:?}",
                        record.sha256, record.agent, record.nodes
                    );
                }
            }
            "handed_in" => {
                self.ask(
                    Actor::Node(NodeId(1)),
                    Command::HandedIn(Box::new(HandedIn {
                        sha256: digest(plain[1]),
                        size_bytes: 3,
                        operator: "anna".to_owned(),
                        submission: plain[0].to_owned(),
                        media: "message/rfc822".to_owned(),
                        file: plain.get(3).copied().unwrap_or("a.eml").to_owned(),
                        received_at: Timestamp(self.now),
                        nodes: plain[2]
                            .split(',')
                            .map(|n| NodeId(n.parse().expect("a node")))
                            .collect(),
                    })),
                );
                for record in self.state.handed_in() {
                    let _ = writeln!(
                        self.out,
                        "  {:?} {} for {} on {:?}",
                        record.sha256, record.operator, record.submission, record.nodes
                    );
                }
            }
            "tick" => {
                self.now += plain[0].parse::<u64>().expect("ms");
                self.ask(Actor::Leader, Command::Tick);
            }
            "to-deadline" => match self.state.next_deadline() {
                None => {
                    let _ = writeln!(self.out, "  no deadline");
                }
                Some(at) => {
                    let _ = writeln!(self.out, "  in {} ms", at.0.saturating_sub(self.now));
                    self.now = self.now.max(at.0);
                    self.ask(Actor::Leader, Command::Tick);
                }
            },
            "show" => self.show(plain[0]),
            "explain" => self.explain(plain[0]),
            "snapshot" => {
                let again = State::decode(&self.state.encode()).expect("a snapshot can be read again");
                assert_eq!(again.hash(), self.state.hash());
                self.state = again;
            }
            other => panic!("no verb {other}"),
        }
        self.state.check();
        self.explain_everything();
    }

    /// RUN/STEP/ITEM or RUN/STEP/HOST, the current attempt; or RUN/STEP/ITEM#ATTEMPT@TOKEN.
    pub fn key(&self, text: &str) -> AttemptKey {
        let (task, exact) = text
            .split_once('#')
            .map_or((text, None), |(t, e)| (t, e.split_once('@')));
        let mut parts = task.split('/');
        let mut part = || parts.next().expect("RUN/STEP/ITEM");
        let run = RunId(uuid(part()));
        let step = self.state.step_number(&run, part()).expect("a step");
        let place = part();
        let item = place.parse().unwrap_or_else(|_host| {
            let mut tasks = self.state.tasks(&run, step, 0);
            let on = tasks.find(|task| task.agent.is_some_and(|agent| agent.as_str() == place));
            on.map_or(u32::MAX, |task| task.item)
        });
        let task = TaskKey { run, step, item };
        match exact {
            Some((attempt, token)) => AttemptKey {
                task,
                attempt: attempt.parse().expect("attempt"),
                token: token.parse().expect("token"),
            },
            None => {
                let (attempt, token) = self
                    .state
                    .tasks(&run, step, task.item)
                    .next()
                    .map_or((1, 1), |t| (t.task.attempt, t.task.token));
                AttemptKey { task, attempt, token }
            }
        }
    }
}

pub fn digest(name: &str) -> Digest {
    Digest(sha2::Sha256::digest(name).into())
}

pub fn agent(id: &str) -> AgentId {
    id.parse().expect("an agent's id")
}

pub fn uuid(name: &str) -> uuid::Uuid {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    uuid::Uuid::from_bytes(bytes)
}

fn short(run: RunId) -> String {
    String::from_utf8_lossy(run.0.as_bytes())
        .trim_end_matches('\0')
        .to_owned()
}

/// How an attempt ended: STATUS [OUTPUT] [code=CODE].
fn outcome(plain: &[&str], named: &BTreeMap<&str, &str>) -> Outcome {
    let status = match plain[1] {
        "succeeded" => OutcomeStatus::Succeeded,
        "failed" => OutcomeStatus::Failed,
        "cancelled" => OutcomeStatus::Cancelled,
        "unknown" => OutcomeStatus::Unknown,
        other => panic!("no outcome {other}"),
    };
    let error = (status != OutcomeStatus::Succeeded).then(|| TaskError {
        code: (*named.get("code").unwrap_or(&"broken")).into(),
        message: "as told".into(),
    });
    let output = plain
        .get(2)
        .map_or(Value::Null, |t| serde_json::from_str(t).expect("JSON"));
    Outcome {
        status,
        output,
        error,
    }
}
