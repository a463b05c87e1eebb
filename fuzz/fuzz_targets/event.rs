//! Any text as an event: it is refused with a reason, or weighed against triggers of every kind and taken.

#![no_main]

use std::sync::LazyLock;

use engine::command::{Command, NodeInfo, Publish};
use engine::events::{Source, read, read_any, weigh};
use engine::id::NodeId;
use engine::{Actor, Envelope, Reply, State, Timestamp};
use libfuzzer_sys::fuzz_target;

const PLAYBOOK: &str = "playbook: p
version: 1
triggers:
  - event: detection_finding
    when: event.severity_id >= 4 && event.finding_info.attacks.exists(a, a.technique.uid == 'T1486')
    dedupe: {key: '${event.device.uid}', window: 1h}
  - threshold: {event: authentication, when: event.status_id == 2, by: event.src_endpoint.ip, at_least: 2, within: 5m}
    dedupe: {key: '${group.key}', window: 1h}
  - threshold: {event: email_activity, by: event, at_least: 1, within: 5m}
    dedupe: {key: '${group.events[0]}', window: 1h}
  - webhook: hook
steps: {sum: {decide: [{else: {}}]}}
";

/// A cluster on which the playbook is published.
static BASE: LazyLock<State> = LazyLock::new(|| {
    let mut state = State::default();
    let manifest = playbook::compile(PLAYBOOK).expect("it compiles").manifest;
    let node = NodeInfo {
        node: NodeId(1),
        name: "c1".into(),
        peer_endpoint: String::new(),
        agent_endpoint: String::new(),
        operator_endpoint: String::new(),
        enroll_endpoint: String::new(),
    };
    let bootstrap = Command::Bootstrap {
        cluster: uuid::Uuid::nil(),
        trust_domain: "cordon.test".into(),
        nodes: vec![node],
    };
    let publish = Command::Publish(Box::new(Publish {
        name: manifest.playbook.clone(),
        version: manifest.version,
        text: PLAYBOOK.into(),
        manifest_hash: manifest.sha256().parse().expect("a hash"),
        note: String::new(),
        triggers: manifest.triggers,
    }));
    for (index, command) in (1..).zip([bootstrap, publish]) {
        apply(&mut state, index, command);
    }
    state
});

fn apply(state: &mut State, index: u64, command: Command) -> Reply {
    let envelope = Envelope {
        request: None,
        actor: Actor::Operator("siem".into()),
        command,
    };
    state.apply(index, Timestamp(1_000_000), &envelope).reply
}

fuzz_target!(|text: &str| {
    let classed = [None, Some("authentication"), Some("4009")].map(|class| read(text, class));
    let hook = read_any(text, Source::Webhook("hook".to_owned()));
    let events: Vec<_> = classed.into_iter().chain([hook]).filter_map(Result::ok).collect();
    let mut state = BASE.clone();
    let weighed = weigh(&state, Timestamp(1_000_000), &events);
    assert_eq!(weighed.matched.len(), events.len());
    if let Some(taken) = weighed.command {
        let reply = apply(&mut state, 3, Command::Events(Box::new(taken)));
        assert!(matches!(reply, Reply::Events { .. }), "{reply:?}");
        state.check();
        // What they set off becomes a run, or says why not.
        for firing in state.triggers().firings() {
            let _ = engine::plan::fired::fired(&state, firing.id, engine::id::RunId(uuid::Uuid::nil()));
        }
    }
});
