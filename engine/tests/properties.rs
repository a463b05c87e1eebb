//! Random lives of a cluster: whatever comes in whatever order, the state stays true, replays are equal,
//! and every run ends.

mod world;

use engine::command::{Outcome, OutcomeStatus, Report, ReportBody};
use engine::id::{NodeId, RunId};
use engine::planner::undo_plan;
use engine::{Actor, Command, Reply, State};
use proptest::prelude::*;
use serde_json::json;
use world::World;

const PLAYBOOKS: [&[&str]; 7] = [
    &[
        "playbook p",
        "step one parallel=2 retry=1/500 queue=5000 attempt=4000 continue=1",
        "step cut action=host.isolate needs=one.done queue=5000 heartbeat=1000 continue=1 | with mode \"network\" | with ttl \"1h\"",
        "step undo action=host.release needs=cut.failed total=9000",
        "finally tidy action=host.release queue=3000",
    ],
    &[
        "playbook q timeout=20000",
        "step a delay=700",
        "step b needs=a parallel=1 queue=4000",
        "step c needs=a,b.done canary=1 waves=1,50% soak=300 continue=1 | fail failed > 1",
        "finally z queue=2000",
    ],
    &[
        "playbook s",
        "step lone action=process.kill queue=1000 | with processes [{\"pid\":7,\"start_ticks\":1}]",
    ],
    &[
        "| playbook: c",
        "| version: 1",
        "| steps:",
        "|   call: {do: http.call, with: {connection: x, method: PUT, path: /x}, retry: {max: 1, initial: 1s}, timeout: {attempt: 3s}}",
        "|   each:",
        "|     needs: [call.done]",
        "|     foreach: {in: '[1, 2, 3]', as: num, max_parallel: 2}",
        "|     do: http.call",
        "|     with: {connection: x, method: GET, path: '/${num}'}",
        "|     timeout: {total: 9s}",
        "|     on_failure: continue",
        "|   again:",
        "|     needs: [each.done]",
        "|     loop: {while: 'round.index == 0 || size(steps.ping.failed) > 0', max: 3, body: {ping: {do: http.call, with: {connection: x, method: GET, path: /}, on_failure: continue}}}",
        "|   tell: {needs: [again.done], notify: {to: ['log:a', 'log:b'], text: hello}, on_failure: continue}",
        "yaml c",
    ],
    // What the next one runs.
    &[
        "| playbook: kid",
        "| version: 1",
        "| inputs: {num: {type: int}}",
        "| limits: {lock: {each: ['${inputs.num}']}}",
        "| targets: {hosts: {select: 'agent.id != \"a3\"'}}",
        "| steps:",
        "|   look: {do: host.info, targets: hosts, on_failure: continue, timeout: {queue: 5s, attempt: 5s}}",
        "|   cut: {needs: [look.done], do: host.isolate, targets: hosts, with: {mode: network, ttl: 1h}, timeout: {queue: 4s}}",
        "| finally:",
        "|   tell: {notify: {to: ['log:a'], text: over}}",
        "publish",
    ],
    // Events set it off, by themselves or in groups, and its steps wait for others.
    &[
        "| playbook: heard",
        "| version: 1",
        "| triggers:",
        "|   - {event: authentication, when: event.activity_id > 1, dedupe: {key: '${event.activity_id}', window: 30s}}",
        "|   - threshold: {event: authentication, by: event.activity_id, at_least: 2, within: 20s}",
        "|     dedupe: {key: '${group.events[0].activity_id}', window: 1m}",
        "|   - webhook: hook",
        "| limits: {concurrency: {max: 2, on_conflict: drop}, timeout: 10m}",
        "| targets: {hosts: {select: 'true'}}",
        "| steps:",
        "|   look: {do: host.info, targets: hosts, timeout: {queue: 20s}, on_failure: continue}",
        "|   any: {wait_event: {event: authentication, expires: 40s}, on_failure: continue}",
        "|   one: {needs: [any.done], wait_event: {event: authentication, when: 'event.activity_id == 3 && event.nothing == 1', expires: 50s}, on_failure: continue}",
        "|   two: {needs: [look.done], delay: 1s, wait_event: {event: authentication, when: event.activity_id == 2, expires: 1m}}",
        "publish",
    ],
    // It runs itself too, waited for or not, and goes as deep as it may.
    &[
        "| playbook: nest",
        "| version: 1",
        "| inputs: {deep: {type: int, default: 0}}",
        "| limits: {timeout: 2m}",
        "| steps:",
        "|   each:",
        "|     foreach: {in: '[1, 2, 3]', as: num, max_parallel: 2}",
        "|     playbook: {name: kid, version: 1}",
        "|     with: {num: '${num + inputs.deep * 10}'}",
        "|     retry: {max: 1, initial: 1s}",
        "|     timeout: {attempt: 9s}",
        "|     on_failure: continue",
        "|   more: {needs: [each.done], playbook: {name: nest, max_depth: 2}, with: {deep: '${inputs.deep + 1}'}, on_failure: continue}",
        "|   loose: {playbook: {name: kid, wait: false}, with: {num: '${7 + inputs.deep}'}, on_failure: {compensate: [each]}}",
        "|   none: {needs: [loose.done], playbook: {name: nowhere}}",
        "yaml nest",
        "inputs {\"deep\":0}",
    ],
];

/// One thing that happens, from three random bytes.
fn happen(world: &mut World, (what, a, b): (u8, u8, u8)) {
    let host = a % 4;
    let task = pick(world, a, b);
    let line = match what % 32 {
        0 | 1 => {
            let n = world.log.len();
            format!(
                "run run{n} {}",
                ["p", "q", "s", "c", "gates", "gates", "nest", "nest"][usize::from(a % 8)]
            )
        }
        2 => format!("attach a{host} node={} session={}", 1 + b % 3, world.log.len()),
        3 => format!(
            "attach a{host} node={} session={} boot=b{b}",
            1 + b % 3,
            world.log.len()
        ),
        4 => match world
            .state
            .agent(&world::agent(&format!("a{host}")))
            .and_then(|x| x.session.clone())
        {
            Some(session) => format!(
                "detach a{host} node={} session={}",
                session.node.0, session.session
            ),
            None => return,
        },
        5 | 6 => format!("tick {}", u64::from(a) * u64::from(b)),
        7 => "to-deadline".into(),
        8 => match world.state.active_runs().next() {
            Some(run) => format!(
                "{} {}",
                ["cancel", "cancel-rollback"][usize::from(b % 2)],
                name(run.id)
            ),
            None => return,
        },
        // The leader is slow to begin runs, or not.
        9 if a % 4 == 1 => format!("begins {}", ["off", "on", "on"][usize::from(b % 3)]),
        9 if a == 7 => format!("revoke-agent a{host}"),
        30 if b % 5 == 0 => format!("events webhook=hook {{\"n\":{b}}}"),
        30 if b % 7 == 0 => format!(
            "trigger {} heard/{} reason=noise",
            ["enable", "disable"][usize::from(a % 2)],
            1 + a % 3
        ),
        30 => format!(
            "events {{\"class_uid\":3002,\"activity_id\":{}}} {{\"class_uid\":3002,\"activity_id\":{}}}",
            a % 4,
            b % 4
        ),
        10 => "snapshot".into(),
        11 => "leader off".into(),
        12 | 13 => "leader on".into(),
        24 => match world.state.active_runs().nth(usize::from(a % 3)) {
            Some(run) => format!("pause {}", name(run.id)),
            None => return,
        },
        25 => match world.state.active_runs().find(|run| run.paused_at.is_some()) {
            Some(run) => format!("resume {}", name(run.id)),
            None => return,
        },
        26 | 27 => match world.state.runs_newest_first().nth(usize::from(a % 4)) {
            Some(run) => format!(
                "retry {}{}",
                name(run.id),
                if b % 2 == 0 { " unknown=1" } else { "" }
            ),
            None => return,
        },
        29 => match world.state.runs_newest_first().nth(usize::from(a % 4)) {
            Some(run) => format!("rollback {}", name(run.id)),
            None => return,
        },
        28 => match unknown(world) {
            Some(task) => format!(
                "settle {task} {}",
                if b % 2 == 0 { "succeeded" } else { "failed" }
            ),
            None => return,
        },
        14 => match task {
            Some(task) => format!("started {task}"),
            None => return,
        },
        18 | 19 => match call(world, a) {
            Some(call) => {
                let how = ["succeeded", "succeeded", "failed", "cancelled", "unknown"][usize::from(b % 5)];
                format!("called {call} {how}")
            }
            None => return,
        },
        20..=23 => {
            let Some(line) = people(world, what, a, b) else {
                return;
            };
            world.line(["as ann", "as ben", "as cat", "as dan"][usize::from(a % 4)]);
            world.line(&line);
            "as alice".into()
        }
        15 => match task {
            Some(task) => format!("ended {task} failed by=a{host}"),
            None => return,
        },
        _ => match task {
            Some(task) => {
                let how = ["succeeded", "succeeded", "failed", "cancelled", "unknown"][usize::from(b % 5)];
                format!("ended {task} {how}")
            }
            None => return,
        },
    };
    world.line(&line);
}

/// A task that is handed out, or some other.
fn pick(world: &World, a: u8, b: u8) -> Option<String> {
    let handed: Vec<_> = world
        .state
        .agents()
        .flat_map(|agent| world.state.assignments(&agent.id))
        .collect();
    let assignment = handed.get(usize::from(a) % handed.len().max(1))?;
    let run = name(assignment.key.task.run);
    let item = if b == 255 { 0 } else { assignment.key.task.item };
    Some(format!("{run}/{}/{item}", assignment.step))
}

/// Something that people do about what waits for them.
fn people(world: &World, what: u8, a: u8, b: u8) -> Option<String> {
    let who = ["ann", "ben", "cat", "dan", "alice"][usize::from(b % 5)];
    match what {
        _ if b > 235 => return Some(format!("revoke-role {who} lead")),
        _ if b > 215 => return Some(format!("grant {who} lead")),
        _ => {}
    }
    let known: Vec<_> = world.state.approvals_newest_first().collect();
    let approval = known.get(usize::from(a / 4) % known.len().max(1))?;
    let id = approval.id;
    Some(match (b % 6, &approval.question) {
        (0, _) => format!("deny {id}"),
        (1, _) => format!("approve {id} binding=old"),
        (_, Some(_)) => format!("answer {id} {{\"go\":{}}}", b.is_multiple_of(2)),
        (_, None) => format!("approve {id}"),
    })
}

/// A playbook whose steps have gates and ask questions: four bytes for each.
fn with_gates(steps: &[(u8, u8, u8, u8)]) -> Vec<String> {
    let mut lines: Vec<String> = [
        "playbook: gates",
        "version: 1",
        "targets: {hosts: {select: 'true'}}",
        "steps:",
    ]
    .map(String::from)
    .into();
    for (n, &(kind, gate, how, needs)) in steps.iter().enumerate() {
        let need = match (n, needs % 4) {
            (0, _) | (_, 0) => String::new(),
            (_, 1) => format!(", needs: [s{}]", usize::from(needs / 4) % n),
            (_, 2) => format!(", needs: [s{}.done]", usize::from(needs / 4) % n),
            (_, _) => format!(", needs: [s{}.failed]", usize::from(needs / 4) % n),
        };
        let end = match needs / 4 % 4 {
            0 | 2 => String::new(),
            1 => ", on_failure: continue".into(),
            _ => {
                let undone: Vec<String> = (0..=n).map(|step| format!("s{step}")).collect();
                format!(
                    ", on_failure: {{compensate: [{}], notify: ['log:x']}}",
                    undone.join(", ")
                )
            }
        };
        if kind.is_multiple_of(5) {
            lines.push(format!(
                "  s{n}: {{ask: {{roles: [lead], expires: {}s, form: {{go: {{type: bool}}}}}}{need}{end}}}",
                1 + gate % 30
            ));
            continue;
        }
        let (act, per) = match kind % 5 {
            1 => (
                "do: http.call, with: {connection: x, method: GET, path: /}",
                "1 == 1",
            ),
            2 => (
                "foreach: {in: '[1, 2, 3, 4]', as: num}, do: http.call, with: {connection: x, method: GET, path: '/${num}'}",
                "num > 2",
            ),
            3 => (
                "do: host.isolate, targets: hosts, with: {mode: network, ttl: 1h}",
                "target.id != 'a1'",
            ),
            _ => ("do: host.info, targets: hosts", "target.labels.role == 'db'"),
        };
        // What undoes it reads what its action gives, which a task that ended otherwise has not.
        let gives = ["cpus", "status", "status", "isolated", "cpus"][usize::from(kind % 5)];
        let back = format!(
            "compensate: {{do: http.call, with: {{connection: x, method: DELETE, path: '/${{output.{gives}}}'}}}}, "
        );
        let back = ["", back.as_str()][usize::from(how / 8 % 2)];
        let when = ["", "when: 'no_such.thing', "][usize::from(gate / 2 % 7 == 0)].to_owned();
        let when = if when.is_empty() && gate % 3 > 0 {
            format!("when: \"{per}\", ")
        } else {
            when.replace("no_such.thing", "config.no_such")
        };
        let expiry = ["", ", on_expiry: escalate, escalate_to: [boss]"][usize::from(gate / 8 % 2)];
        let not = ["", ", not: requester"][usize::from(gate / 16 % 2)];
        // Without a gate, a step over the same hosts follows the one that it needs host by host.
        if matches!(kind % 5, 3 | 4) && how / 16 % 2 == 0 {
            let when = ["", ", when: \"target.id != 'a2'\""][usize::from(how / 32 % 2)];
            let many =
                ["", ", strategy: {max_parallel: 2, fail_when: 'failed > 1'}"][usize::from(how / 64 % 2)];
            lines.push(format!("  s{n}: {{{act}{when}{many}{need}{end}}}"));
            continue;
        }
        let strategy = [
            "",
            ", strategy: {max_parallel: 1, fail_when: 'failed > 2'}",
            ", strategy: {canary: 1, waves: [1], soak: 1s}",
        ][usize::from(how % 3)];
        lines.push(format!(
            "  s{n}: {{{act}, {back}gate: {{{when}approve: {{roles: [lead], quorum: {}, expires: {}s{expiry}{not}}}}}{strategy}{need}{end}}}",
            1 + gate % 3,
            1 + how % 40
        ));
    }
    lines
        .iter()
        .map(|line| format!("| {line}"))
        .chain(["yaml gates".into()])
        .collect()
}

/// A call that the leader has to make.
fn call(world: &World, a: u8) -> Option<String> {
    let runs: Vec<_> = world.state.active_runs().map(|run| run.id).collect();
    let calls: Vec<_> = runs.iter().flat_map(|run| world.state.calls(run)).collect();
    let call = calls.get(usize::from(a) % calls.len().max(1))?;
    let run = name(call.key.task.run);
    Some(format!("{run}/{}/{}", call.step, call.key.task.item))
}

/// A task of which nobody knows whether it was done.
fn unknown(world: &World) -> Option<String> {
    world.state.runs_newest_first().find_map(|run| {
        let mut tasks = (0..run.steps.len() as u16).flat_map(|step| run.tasks(step, 0));
        let task = tasks.find(|task| task.status() == "unknown")?;
        Some(format!("{}/{}/{}", name(run.id), task.step_name, task.item))
    })
}

fn name(run: RunId) -> String {
    let bytes = run.0.as_bytes();
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

fn live((steps, script): &Life) -> World {
    let mut world = World::with_agents(4);
    for line in [
        "grant ann lead",
        "grant ben lead",
        "grant cat lead",
        "grant dan boss",
    ] {
        world.line(line);
    }
    for line in with_gates(steps) {
        world.line(&line);
    }
    for line in PLAYBOOKS.into_iter().flatten() {
        world.line(line);
    }
    // So that there are runs below runs in many lives.
    if steps.len().is_multiple_of(2) {
        world.line("run first nest");
    }
    for &event in script {
        happen(&mut world, event);
    }
    world
}

/// The steps of a playbook with gates, and what happens.
type Life = (Vec<(u8, u8, u8, u8)>, Vec<(u8, u8, u8)>);

fn script() -> impl Strategy<Value = Life> {
    (
        proptest::collection::vec(any::<(u8, u8, u8, u8)>(), 1..6),
        proptest::collection::vec(any::<(u8, u8, u8)>(), 0..90),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every command keeps the invariants (checked after each line), the same log gives the same state, and
    /// a snapshot taken anywhere goes on in the same way.
    #[test]
    fn replays_are_equal(script in script(), cut in any::<prop::sample::Index>()) {
        let world = live(&script);
        let mut again = State::default();
        let mut replies = Vec::new();
        for (index, at, envelope) in &world.log {
            replies.push(again.apply(*index, *at, envelope));
        }
        prop_assert_eq!(again.hash(), world.state.hash());
        let cut = cut.index(world.log.len());
        let mut resumed = State::default();
        for (n, (index, at, envelope)) in world.log.iter().enumerate() {
            if n == cut {
                resumed = State::decode(&resumed.encode()).expect("a snapshot can be read again");
            }
            prop_assert_eq!(&resumed.apply(*index, *at, envelope), &replies[n]);
        }
        prop_assert_eq!(resumed.encode(), world.state.encode());
    }

    /// Once nothing comes any more but the time, every run that is not paused ends; so does the rollback of each of
    /// them, as the run had ended, and it leaves nothing that could be undone.
    #[test]
    fn every_run_ends(script in script()) {
        let mut world = live(&script);
        world.line("leader on");
        world.line("begins on");
        let paused: Vec<_> = world.state.active_runs().filter(|run| run.paused_at.is_some()).map(|run| run.id).collect();
        for run in paused {
            world.line(&format!("resume {}", name(run)));
        }
        let over = |world: &mut World| {
            for round in 0.. {
                prop_assert!(round < 2_000, "deadlines end");
                if world.state.runs_active() == 0 {
                    break;
                }
                prop_assert!(world.state.next_deadline().is_some(), "what is not over has a deadline");
                world.line("to-deadline");
            }
            for run in world.state.runs_newest_first() {
                prop_assert!(run.steps.iter().all(|step| step.status.is_end()));
            }
            Ok(())
        };
        over(&mut world)?;
        let ends: Vec<_> = world.state.runs_newest_first().map(|run| (run.id, run.status)).collect();
        for (run, _) in &ends {
            world.line(&format!("rollback {}", name(*run)));
        }
        over(&mut world)?;
        for (id, status) in ends {
            let run = world.state.run(&id).expect("runs are kept");
            prop_assert_eq!(run.status, status);
            prop_assert!(undo_plan(&world.state, run).iter().all(|undo| undo.action.is_none()));
        }
    }

    /// Reports give the same tasks in one entry and in many.
    #[test]
    fn batches_make_no_difference(outcomes in proptest::collection::vec((0u8..5, any::<bool>()), 40)) {
        let mut worlds: Vec<_> = (0..2).map(|_| {
            let mut world = World::with_agents(40);
            world.line("playbook p");
            world.line("step one retry=1/500");
            world.line("run r p");
            world.leader = false;
            world
        }).collect();
        let reports: Vec<_> = outcomes.iter().enumerate().flat_map(|(item, (how, started))| {
            let key = worlds[0].key(&format!("r/one/{item}"));
            let agent = worlds[0].state.run(&key.task.run).and_then(|r| r.agent_of(0, key.task.item)).cloned().expect("an agent");
            let status = [OutcomeStatus::Succeeded, OutcomeStatus::Failed, OutcomeStatus::Cancelled, OutcomeStatus::Unknown][usize::from(*how % 4)];
            let ended = ReportBody::Ended(Outcome { status, output: json!({"n": item}), error: None });
            let began = started.then(|| Report { agent: agent.clone(), key, body: ReportBody::Started });
            began.into_iter().chain(std::iter::once(Report { agent, key, body: ended }))
        }).collect();
        let node = NodeId(1);
        let taken = worlds[0].apply(Actor::Node(node), Command::Reports { node, reports: reports.clone() });
        prop_assert_eq!(taken, Reply::Reports(vec![None; reports.len()]));
        for report in reports {
            worlds[1].apply(Actor::Node(node), Command::Reports { node, reports: vec![report] });
        }
        let tasks: Vec<Vec<_>> = worlds.iter().map(|world| {
            let run = world.state.active_runs().next().expect("the run");
            run.tasks(0, 0).map(|t| (t.status(), t.attempts(), t.output().map(str::to_owned), t.task.wake)).collect()
        }).collect();
        prop_assert_eq!(&tasks[0], &tasks[1]);
    }
}
