//! A fan-out over 10,000 agents through apply and planner. Prints what it took; asserts what it must give
//! and how few entries that takes, not how long.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the test measures; what it tests does not"
)]

mod world;

use std::collections::BTreeMap;
use std::time::Instant;

use engine::command::{Envelope, Outcome, OutcomeStatus, Report, ReportBody, SessionOpened};
use engine::id::{NodeId, RunId};
use engine::planner::Planner;
use engine::{Actor, Command, State, Timestamp};
use world::{World, digest, step, uuid};

#[test]
fn a_fan_out_takes_few_entries_and_ends() {
    let agents = 10_000;
    let mut world = World::new();
    world.line("bootstrap");
    world.line("token t uses=10000 ttl=100000");
    world.line("playbook p");
    let mut state = world.state.clone();
    let mut index = state.applied_index();
    let now = Timestamp(2_000_000);
    let mut apply = |state: &mut State, actor: Actor, command: Command| {
        index += 1;
        state.apply(
            index,
            now,
            &Envelope {
                request: None,
                actor,
                command,
            },
        )
    };
    let node = NodeId(1);
    let mut opened = Vec::new();
    for n in 0..agents {
        let key = digest(&format!("k{n}"));
        apply(
            &mut state,
            Actor::Node(node),
            Command::Enroll {
                token: digest("t"),
                key,
                hostname: format!("h{n:05}"),
            },
        );
        opened.push(SessionOpened {
            agent: world::agent(&format!("h{n:05}")),
            session: n as u64,
            key,
            version: "1".into(),
            boot_id: "b".into(),
            facts: "{}".into(),
            running: vec![],
        });
    }
    apply(
        &mut state,
        Actor::Node(node),
        Command::Sessions {
            node,
            opened,
            closed: vec![],
            facts: vec![],
        },
    );
    let mut manifest = engine_manifest();
    manifest.steps.push(step(&manifest, "look"));
    let hosts = state.agents().map(|a| a.id.clone()).collect();
    let begun = Instant::now();
    let start = engine::command::StartRun {
        run: RunId(uuid("r")),
        manifest_hash: manifest.sha256().parse().expect("a hash"),
        manifest,
        inputs: serde_json::json!({}),
        targets: BTreeMap::from([("all".to_owned(), hosts)]),
        config: serde_json::json!({}),
        foretold: None,
        claims: engine::state::claims::Claims::default(),
        asked: None,
        fired: None,
        event: serde_json::Value::Null,
        group: serde_json::Value::Null,
    };
    let mut planner = Planner::default();
    let effects = apply(
        &mut state,
        Actor::Operator("alice".into()),
        Command::StartRun(Box::new(start)),
    )
    .effects;
    planner.note(&effects);
    let mut planned = 0;
    let mut plan = |state: &mut State,
                    planner: &mut Planner,
                    apply: &mut dyn FnMut(&mut State, Actor, Command) -> engine::Applied| {
        for command in planner.plan(state, now) {
            planned += 1;
            let applied = apply(state, Actor::Leader, command);
            planner.note(&applied.effects);
        }
    };
    plan(&mut state, &mut planner, &mut apply);
    let handed_out = begun.elapsed();
    let ids: Vec<_> = state.agents().map(|a| a.id.clone()).collect();
    let all: Vec<_> = ids
        .iter()
        .flat_map(|id| {
            state
                .assignments(id)
                .into_iter()
                .map(move |a| (id.clone(), a.key))
        })
        .collect();
    assert_eq!(all.len(), agents);
    let assigned = begun.elapsed();
    for batch in all.chunks(512) {
        let reports = batch
            .iter()
            .map(|(agent, key)| Report {
                agent: agent.clone(),
                key: *key,
                body: ReportBody::Ended(Outcome {
                    status: OutcomeStatus::Succeeded,
                    output: serde_json::json!({"n": 1}),
                    error: None,
                }),
            })
            .collect();
        let applied = apply(&mut state, Actor::Node(node), Command::Reports { node, reports });
        planner.note(&applied.effects);
        plan(&mut state, &mut planner, &mut apply);
    }
    let reported = begun.elapsed();
    assert_eq!(state.runs_active(), 0, "the run is over");
    assert_eq!(planned, 2, "one entry opens and assigns, one closes and ends");
    let hash = Instant::now();
    let _ = state.hash();
    let hashed = hash.elapsed();
    let encoded = state.encode();
    eprintln!(
        "10,000 tasks: opened and assigned {handed_out:?}, read {assigned:?}, reported {reported:?}; hash {hashed:?}; snapshot {} bytes",
        encoded.len()
    );
}

fn engine_manifest() -> playbook::manifest::Manifest {
    let set = playbook::manifest::TargetSet {
        source: playbook::manifest::TargetSource::Hosts(playbook::manifest::Template::Literal(
            serde_json::json!([]),
        )),
        max: None,
        allow_empty: false,
    };
    playbook::manifest::Manifest {
        format: 1,
        playbook: "p".into(),
        version: 1,
        info: serde_json::Value::Null,
        triggers: Vec::new(),
        inputs: BTreeMap::new(),
        limits: Default::default(),
        targets: BTreeMap::from([("all".to_owned(), set)]),
        steps: vec![],
        finally: vec![],
        outputs: BTreeMap::new(),
    }
}
