//! Decisions that were on their way when people asked for a rollback.

mod world;

use engine::planner::Planner;
use engine::{Actor, Reply, Timestamp};
use world::World;

/// A run whose only task has succeeded, and what a leader decides of that, which is not applied yet.
fn about_to_end() -> (World, Vec<engine::Command>) {
    let mut world = World::with_agents(1);
    for line in [
        "playbook p",
        "step cut action=host.isolate | with mode \"network\" | with ttl \"1h\"",
        "run r p",
        "leader off",
        "ended r/cut/0 succeeded",
    ] {
        world.line(line);
    }
    let decided = Planner::new(&world.state).plan(&world.state, Timestamp(world.now));
    assert!(!decided.is_empty(), "the run is about to end");
    (world, decided)
}

fn status(world: &World) -> (&'static str, &'static str) {
    let run = world.state.runs_newest_first().next().expect("the run");
    (run.status.as_str(), run.rollback_word())
}

#[test]
fn a_run_that_was_to_end_does_not_before_it_is_undone() {
    let (mut world, decided) = about_to_end();
    world.line("cancel-rollback r");
    for command in decided {
        let reply = world.apply(Actor::Leader, command);
        assert!(matches!(reply, Reply::Planned { stale: 1.. }), "{reply:?}");
    }
    world.state.check();
    assert_eq!(status(&world), ("cancelling", "running"));
    world.line("leader on");
    world.line("ended r/undo-cut/0 succeeded");
    assert_eq!(status(&world), ("cancelled", "succeeded"));
}

#[test]
fn what_was_decided_before_a_rollback_changes_nothing_in_it() {
    let (mut world, decided) = about_to_end();
    for command in &decided {
        world.apply(Actor::Leader, command.clone());
    }
    assert_eq!(status(&world), ("succeeded", ""));
    world.line("rollback r");
    for command in decided {
        let reply = world.apply(Actor::Leader, command);
        assert!(matches!(reply, Reply::Planned { stale: 1.. }), "{reply:?}");
    }
    world.state.check();
    assert_eq!(status(&world), ("rolling_back", "running"));
    // The same decision twice, as by two leaders: what undoes is there once.
    let undo = Planner::new(&world.state).plan(&world.state, Timestamp(world.now));
    for command in undo.iter().chain(&undo) {
        world.apply(Actor::Leader, command.clone());
    }
    world.state.check();
    world.line("leader on");
    world.line("ended r/undo-cut/0 succeeded");
    assert_eq!(status(&world), ("succeeded", "succeeded"));
}
