//! 100,000 events at once: everything is counted, what is kept is bounded, and the log has numbers for what was seen.

mod world;

use engine::command::{Command, TakeEvents};
use engine::events::{Event, read, weigh};
use engine::limits::{EVENTS_MAX, FIRINGS_MAX, TRIGGER_SEEN_MAX, WINDOW_KEYS_MAX};
use engine::state::triggers::Trigger;
use engine::{Actor, Refusal, Reply, Timestamp};
use world::World;

const STORM: usize = 100_000;

fn published(triggers: &str) -> World {
    let mut world = World::new();
    world.leader = false;
    for line in ["bootstrap", "| playbook: p", "| version: 1"] {
        world.line(line);
    }
    world.line(&format!("| triggers: [{triggers}]"));
    world.line("| steps: {sum: {decide: [{else: {}}]}}");
    world.line("publish");
    world
}

fn event(n: usize, key: &str) -> Event {
    let text = format!("{{\"class_uid\":3002,\"number\":{n},\"device\":{{\"uid\":\"{key}\"}}}}");
    read(&text, None).expect("an event")
}

/// Sends events as a node does; the bytes of the log that they cost.
fn send(world: &mut World, events: &[Event]) -> (usize, Reply) {
    let Some(command) = weigh(&world.state, Timestamp(world.now), events).command else {
        return (0, Reply::Done);
    };
    let command = Command::Events(Box::new(command));
    let reply = world.apply(Actor::Operator("siem".into()), command);
    let (_, _, envelope) = world.log.last().expect("an entry");
    (envelope.encode().len(), reply)
}

fn trigger(world: &World) -> &Trigger {
    world.state.triggers().iter().next().expect("a trigger")
}

#[test]
fn a_storm_of_one_key_starts_one_run_for_each_key_and_costs_little() {
    let mut world = published("{event: authentication, dedupe: {key: '${event.device.uid}', window: 1h}}");
    // Of 1,000 devices one in a hundred events is of another one.
    let key = |n: usize| match n % 100 {
        0 => format!("d{}", n / 100),
        _ => "loud".to_owned(),
    };
    let mut bytes = 0;
    for batch in (0..STORM).collect::<Vec<_>>().chunks(EVENTS_MAX) {
        let events: Vec<_> = batch.iter().map(|&n| event(n, &key(n))).collect();
        bytes += send(&mut world, &events).0;
    }
    let counts = trigger(&world).counts;
    assert_eq!(counts.matched, STORM as u64, "each is counted");
    assert_eq!(world.state.triggers().firings().count(), 1_001);
    assert_eq!(counts.deduplicated, STORM as u64 - 1_001);
    assert!(bytes < 500_000, "{bytes} bytes of log for {STORM} events");
    world.state.check();
    world.leader = true;
    world.plan();
    assert_eq!(trigger(&world).counts.fired, 1_001, "each firing becomes a run");
    assert_eq!(world.state.triggers().firings().count(), 0);
}

#[test]
fn a_storm_of_other_keys_waits_for_room_and_nothing_that_was_taken_is_lost() {
    let mut world = published("{event: authentication, dedupe: {key: '${event.device.uid}', window: 1h}}");
    let (mut taken, mut refused) = (0, 0);
    for batch in (0..STORM).collect::<Vec<_>>().chunks(EVENTS_MAX) {
        let events: Vec<_> = batch.iter().map(|&n| event(n, &format!("d{n}"))).collect();
        match send(&mut world, &events).1 {
            Reply::Events { fired, .. } => taken += fired,
            Reply::Refused(Refusal::Full(_)) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    let waiting = world.state.triggers().firings().count();
    assert_eq!(waiting, taken as usize);
    assert!(
        waiting <= FIRINGS_MAX && waiting > FIRINGS_MAX - EVENTS_MAX,
        "{waiting}"
    );
    assert!(refused > 0, "the sender is told to wait");
    assert_eq!(
        trigger(&world).counts.matched,
        u64::from(taken),
        "what is refused counts for nothing"
    );
    world.state.check();
}

#[test]
fn what_a_threshold_counts_and_remembers_is_bounded() {
    let mut world = published(
        "{threshold: {event: authentication, by: event.device.uid, at_least: 2, within: 1h}, dedupe: {key: '${group.key}', window: 31d}}",
    );
    for batch in (0..STORM).collect::<Vec<_>>().chunks(EVENTS_MAX) {
        let events: Vec<_> = batch.iter().map(|&n| event(n, &format!("d{n}"))).collect();
        send(&mut world, &events);
    }
    let counts = trigger(&world).counts;
    assert_eq!(trigger(&world).keys().1, WINDOW_KEYS_MAX);
    assert_eq!(
        counts.evicted,
        (STORM - WINDOW_KEYS_MAX) as u64,
        "who made room is counted"
    );
    // The newest are still counted.
    send(&mut world, &[event(0, &format!("d{}", STORM - 1))]);
    assert_eq!(world.state.triggers().firings().count(), 1);
    assert!(trigger(&world).keys().0 <= TRIGGER_SEEN_MAX);
    world.state.check();
}

#[test]
fn events_that_were_weighed_before_something_else_listened_are_not_taken() {
    let mut world = published("{event: authentication}");
    let early = weigh(&world.state, Timestamp(world.now), &[event(1, "a")]).command;
    for line in [
        "| playbook: q",
        "| version: 1",
        "| triggers: [{event: authentication}]",
        "| steps: {sum: {decide: [{else: {}}]}}",
        "publish",
    ] {
        world.line(line);
    }
    let command = |taken: TakeEvents| Command::Events(Box::new(taken));
    let reply = world.apply(
        Actor::Operator("siem".into()),
        command(early.expect("one listens")),
    );
    assert_eq!(reply, Reply::Refused(Refusal::Stale));
    let late = weigh(&world.state, Timestamp(world.now), &[event(1, "a")]).command;
    let reply = world.apply(Actor::Operator("siem".into()), command(late.expect("two listen")));
    assert!(matches!(reply, Reply::Events { fired: 2, .. }), "{reply:?}");
}

#[test]
fn many_that_listen_and_start_nothing_take_no_room() {
    let thresholds: Vec<String> = (1..=21)
        .map(|within| {
            format!("{{threshold: {{event: authentication, by: event.number, at_least: 1000, within: {within}m}}}}")
        })
        .collect();
    let mut world = published(&thresholds.join(", "));
    let events: Vec<_> = (0..EVENTS_MAX).map(|n| event(n, "a")).collect();
    let (_, reply) = send(&mut world, &events);
    assert!(matches!(reply, Reply::Events { fired: 0, .. }), "{reply:?}");
    let counts = world
        .state
        .triggers()
        .iter()
        .map(|trigger| trigger.counts.matched);
    assert_eq!(
        counts.sum::<u64>(),
        21 * EVENTS_MAX as u64,
        "each of them counts each event"
    );
    world.state.check();
}
