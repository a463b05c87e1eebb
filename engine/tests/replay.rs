//! A run is decided again from its log, and a log that says something else is found out.

mod world;

use engine::command::Command;
use engine::id::RunId;
use engine::planner::{Decision, Verdict};
use engine::replay::{ReplayError, Replayed, replay};
use engine::state::StepStatus;
use engine::{Entry, State};
use world::World;

/// The log's bytes, each under its index.
fn log(world: &World) -> Vec<(u64, Vec<u8>)> {
    let bytes = |(index, at, envelope): &(u64, engine::Timestamp, engine::Envelope)| {
        let (at, envelope) = (*at, envelope.clone());
        (*index, Entry { at, envelope }.encode())
    };
    world.log.iter().map(bytes).collect()
}

fn run_of(world: &World) -> RunId {
    world.state.runs_newest_first().next().expect("a run").id
}

fn again(world: &World, log: &[(u64, Vec<u8>)]) -> Result<Replayed, ReplayError> {
    let run = world.state.run(&run_of(world)).expect("the run");
    replay(State::default(), log, run)
}

/// A run with a retry, an expectation, people and a change of leaders, up to its end.
fn lived() -> World {
    let mut world = World::with_agents(3);
    for line in [
        "| playbook: p",
        "| version: 1",
        "| targets: {hosts: {select: 'true'}}",
        "| steps:",
        "|   look: {do: host.info, targets: hosts, expect: 'output.cpus > 0', retry: {max: 1, initial: 1s}, on_failure: continue}",
        "|   cut: {do: host.isolate, targets: hosts, needs: [look], with: {mode: network, ttl: 1h}}",
        "|   sum: {needs: [cut], score: [{add: 5, when: size(steps.look.ok) > 1}]}",
        "| outputs: {value: '${steps.sum.output.value}'}",
        "yaml p",
        "run r p",
        "ended r/look/0 succeeded {\"cpus\":1}",
        "ended r/look/1 succeeded {\"cpus\":0}",
        "leader on",
        "ended r/look/2 succeeded {\"cpus\":2}",
        "tick 2000",
        "ended r/look/1 failed",
        "ended r/cut/a0 succeeded",
        "leader off",
        "ended r/cut/a2 succeeded",
        "leader on",
    ] {
        world.line(line);
    }
    let run = world.state.run(&run_of(&world)).expect("the run");
    assert!(run.status.is_end(), "it is over: {}", run.word());
    world
}

#[test]
fn every_decision_comes_out_the_same() {
    let world = lived();
    let found = again(&world, &log(&world)).expect("the same");
    assert!(found.decisions > 8, "{found:?}");
    assert!(found.drawn > 5, "{found:?}");
    assert_eq!(found.last, world.state.applied_index());
}

/// The log with its first decision that fits made another one.
fn forged(world: &World, change: impl Fn(&mut Decision) -> bool) -> Vec<(u64, Vec<u8>)> {
    let mut log = log(world);
    for (_, bytes) in &mut log {
        let mut entry = Entry::decode(bytes).expect("an entry");
        if let Command::Plan { decisions, .. } = &mut entry.envelope.command
            && decisions.iter_mut().any(&change)
        {
            *bytes = entry.encode();
            return log;
        }
    }
    panic!("no decision fits");
}

#[test]
fn a_decision_that_does_not_follow_is_found() {
    let world = lived();
    let judged = forged(&world, |decision| match decision {
        Decision::Judge { verdicts, .. } => {
            let failed = verdicts.iter_mut().find(|(.., v)| *v != Verdict::Succeeded);
            failed
                .map(|(.., verdict)| *verdict = Verdict::Succeeded)
                .is_some()
        }
        _ => false,
    });
    let closed = forged(&world, |decision| match decision {
        Decision::Close { status, .. } => {
            *status = StepStatus::Unknown;
            true
        }
        _ => false,
    });
    for log in [judged, closed] {
        match again(&world, &log) {
            Err(ReplayError::Decided { recorded, again, .. }) => assert_ne!(recorded, again),
            other => panic!("it is found out: {other:?}"),
        }
    }
}

#[test]
fn another_run_than_the_state_holds_is_found() {
    let world = lived();
    let mut log = log(&world);
    let last = log.pop().expect("entries");
    match again(&world, &log) {
        Err(ReplayError::Different { what, .. }) => assert!(what.contains("there"), "{what}"),
        other => panic!("the run had not ended yet: {other:?}"),
    }
    log.push((last.0 + 1, last.1));
    assert!(matches!(again(&world, &log), Err(ReplayError::Unreadable { .. })));
    let base = log.len() / 2;
    let mut state = State::default();
    for (index, bytes) in &log[..base] {
        let entry = Entry::decode(bytes).expect("an entry");
        state.apply(*index, entry.at, &entry.envelope);
    }
    let run = world.state.run(&run_of(&world)).expect("the run");
    let found = replay(state, &log[base..], run);
    assert!(
        matches!(found, Err(ReplayError::TooOld { .. })),
        "it began before: {found:?}"
    );
    log[1].1 = b"nonsense".to_vec();
    assert!(matches!(
        again(&world, &log),
        Err(ReplayError::Unreadable { index: 2, .. })
    ));
}
