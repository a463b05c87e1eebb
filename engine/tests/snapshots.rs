//! What snapshots say of themselves: an older reader is told by the version, not by damage, that it cannot go on.

mod world;

use engine::State;
use engine::snapshot::SnapshotError;
use world::World;

/// The version in the header.
fn version(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[8..12].try_into().expect("four bytes"))
}

fn with_a_run() -> World {
    let mut world = World::with_agents(1);
    for line in [
        "playbook p",
        "step cut action=host.isolate | with mode \"network\" | with ttl \"1h\"",
        "run r p",
        "ended r/cut/0 succeeded",
    ] {
        world.line(line);
    }
    world
}

#[test]
fn what_knows_nothing_of_undo_is_written_as_before_there_was_any() {
    let world = with_a_run();
    let bytes = world.state.encode();
    assert_eq!(version(&bytes), 1);
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("undo"), "no field of it is there");
    assert_eq!(State::decode(&bytes).expect("it can be read"), world.state);
}

#[test]
fn a_rollback_makes_the_snapshot_one_that_older_readers_refuse() {
    let mut world = with_a_run();
    for line in ["rollback r", "ended r/undo-cut/0 succeeded"] {
        world.line(line);
        let bytes = world.state.encode();
        assert_eq!(version(&bytes), 2);
        assert_eq!(State::decode(&bytes).expect("it can be read"), world.state);
    }
    let mut newer = world.state.encode();
    newer[8..12].copy_from_slice(&1_000u32.to_be_bytes());
    match State::decode(&newer) {
        Err(SnapshotError::Version { found, supported }) => assert!(found == 1_000 && supported < found),
        other => panic!("it is of a newer version: {other:?}"),
    }
}

#[test]
fn a_plan_hash_is_not_lost_by_a_reader_that_does_not_know_it() {
    let mut world = World::with_agents(1);
    for line in [
        "| playbook: p",
        "| version: 1",
        "| targets: {all: {select: 'agent.id != \"\"'}}",
        "| steps:",
        "|   look: {do: host.info, targets: all}",
        "yaml p",
        "start r p",
    ] {
        world.line(line);
    }
    let planned = |state: &State| state.active_runs().next().and_then(|run| run.plan_hash);
    assert_eq!(
        planned(&world.state),
        Some(world.drawn("p").expect("a plan").hash)
    );
    let bytes = world.state.encode();
    assert_eq!(version(&bytes), 3);
    let read = State::decode(&bytes).expect("it can be read");
    assert_eq!(planned(&read), planned(&world.state));
    assert_eq!(read, world.state);
}

#[test]
fn what_is_claimed_and_who_leaves_is_not_lost_by_a_reader_that_does_not_know_it() {
    let mut world = with_a_run();
    for line in [
        "| playbook: q",
        "| version: 1",
        "| limits: {lock: {each: ['x']}}",
        "| targets: {all: {select: 'agent.id != \"\"'}}",
        "| steps:",
        "|   look: {do: host.info, targets: all}",
        "yaml q",
        "start s q",
    ] {
        world.line(line);
    }
    let mut leaving = with_a_run();
    leaving.line("put-node 4 c4");
    leaving.line("node-leaves 4");
    for world in [world, leaving] {
        let bytes = world.state.encode();
        assert_eq!(version(&bytes), 4);
        assert_eq!(State::decode(&bytes).expect("it can be read"), world.state);
    }
}

#[test]
fn hosts_that_follow_each_other_are_kept_from_readers_that_would_let_them_wait() {
    let mut world = World::with_agents(2);
    for line in [
        "| playbook: p",
        "| version: 1",
        "| targets: {all: {select: 'true'}}",
        "| steps:",
        "|   one: {do: host.info, targets: all}",
        "|   two: {do: host.info, targets: all, needs: [one]}",
        "yaml p",
        "run r p",
        "ended r/one/a1 succeeded",
    ] {
        world.line(line);
    }
    let bytes = world.state.encode();
    assert_eq!(version(&bytes), 5);
    let read = State::decode(&bytes).expect("it can be read");
    assert_eq!(read, world.state, "and who may go on is found again");
}

#[test]
fn runs_below_runs_are_not_lost_by_a_reader_that_does_not_know_them() {
    let mut world = with_a_run();
    let before = version(&world.state.encode());
    for line in [
        "| playbook: kid",
        "| version: 1",
        "| targets: {all: {select: 'agent.id != \"\"'}}",
        "| steps:",
        "|   look: {do: host.info, targets: all}",
        "publish",
        "| playbook: above",
        "| version: 1",
        "| steps:",
        "|   go: {playbook: {name: kid}}",
        "yaml above",
    ] {
        world.line(line);
    }
    assert_eq!(version(&world.state.encode()), before, "nothing runs one yet");
    world.line("start s above");
    let bytes = world.state.encode();
    assert_eq!(version(&bytes), 6);
    let read = State::decode(&bytes).expect("it can be read");
    let above = |state: &State| {
        let run = state.active_runs().find(|run| run.parent.is_some())?;
        state
            .children(run.parent?.attempt.task.run)
            .next()
            .map(|child| child.id)
    };
    assert!(above(&read).is_some(), "the tree is there");
    assert_eq!(above(&read), above(&world.state));
    assert_eq!(read, world.state);
}

#[test]
fn files_that_people_handed_in_are_not_lost_by_a_reader_that_does_not_know_them() {
    let mut world = with_a_run();
    let before = version(&world.state.encode());
    world.line("handed_in report x 1,2");
    world.line("handed_in report x 2,3");
    let bytes = world.state.encode();
    assert!(before < 8, "{before}");
    assert_eq!(version(&bytes), 8);
    let read = State::decode(&bytes).expect("it can be read");
    let held: Vec<usize> = read.handed_in().map(|record| record.nodes.len()).collect();
    assert_eq!(held, [3], "once, with all who hold it");
    assert_eq!(read, world.state);
    assert_eq!(read.hash(), world.state.hash());
}
