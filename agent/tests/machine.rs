//! The machine against a simulated journal, executor and coordinator: random orders, repeats and crashes.
#![cfg(not(feature = "fault-skip-fencing"))]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use agent::actions::AttemptKey;
use agent::session::event::{
    Assignment, Failure, Input, Now, Outcome, Output, Received, Recovered, RecoveredAttempt, Report, Sent,
    Status, Written,
};
use agent::session::machine::{Machine, Settings};
use catalogue::Impact;
use proptest::prelude::*;

fn key(task: u32, attempt: u32, token: u64) -> AttemptKey {
    AttemptKey {
        run_id: "r".into(),
        step: "s".into(),
        item: task,
        attempt,
        token,
    }
}

fn assignment(key: AttemptKey, impact: Impact) -> Assignment {
    Assignment {
        key,
        action: "host.isolate".into(),
        parameters_json: "{}".into(),
        impact,
        urgent: impact >= Impact::Contain,
        timeout_ms: 1_000,
        start_within_ms: 0,
        refusal: None,
    }
}

fn succeeded() -> Outcome {
    Outcome {
        status: Status::Succeeded,
        output_json: "{}".into(),
        error: None,
        started_at_ms: 1,
        ended_at_ms: 2,
    }
}

/// One host: its disk outlives its machine.
struct World {
    machine: Machine,
    settings: Settings,
    now_ms: u64,
    seed: u64,
    /// What is durable, in the order of the first write.
    disk: Vec<RecoveredAttempt>,
    floor: u64,
    writes: VecDeque<Output>,
    running: BTreeSet<AttemptKey>,
    connection: Option<u64>,
    // What was seen.
    tried: Vec<usize>,
    runs: Vec<AttemptKey>,
    sent: Vec<Sent>,
    cancels: Vec<AttemptKey>,
    committed: BTreeMap<AttemptKey, Outcome>,
    stopped: bool,
}

impl World {
    fn new(settings: Settings) -> World {
        let now = Now {
            monotonic_ms: 0,
            wall_ms: 1_000_000,
        };
        World {
            machine: Machine::new(settings.clone(), Recovered::default(), 7, now),
            settings,
            now_ms: 0,
            seed: 7,
            disk: Vec::new(),
            floor: 0,
            writes: VecDeque::new(),
            running: BTreeSet::new(),
            connection: None,
            tried: Vec::new(),
            runs: Vec::new(),
            sent: Vec::new(),
            cancels: Vec::new(),
            committed: BTreeMap::new(),
            stopped: false,
        }
    }

    fn attached() -> World {
        let mut world = World::new(Settings::new(3));
        world.attach();
        world
    }

    fn input(&mut self, input: Input) {
        let now = Now {
            monotonic_ms: self.now_ms,
            wall_ms: 1_000_000 + self.now_ms,
        };
        self.machine.handle(now, input);
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Connect { connection, endpoint } => {
                    self.connection = Some(connection);
                    self.tried.push(endpoint);
                }
                Output::Disconnect { .. } => self.connection = None,
                Output::Send { connection, message } => {
                    assert_eq!(
                        Some(connection),
                        self.connection,
                        "nothing is said on a dead connection"
                    );
                    if let Sent::Reports(reports) = &message {
                        for report in reports {
                            self.check_durable(report);
                        }
                    }
                    self.sent.push(message);
                }
                Output::WriteIntent(_) | Output::WriteOutcome { .. } => self.writes.push_back(output),
                Output::Acknowledge(key) => {
                    let record = self.disk.iter_mut().find(|record| record.key == key);
                    record.expect("only what is durable is acknowledged").acknowledged = true;
                }
                Output::Forget { keys, floor } => {
                    self.floor = self.floor.max(floor);
                    self.disk.retain(|record| !keys.contains(&record.key));
                }
                Output::Recall(key) => {
                    let record = self.disk.iter().find(|record| record.key == key);
                    let outcome = record.and_then(|record| record.outcome.clone());
                    self.machine.handle(now, Input::Recalled { key, outcome });
                }
                Output::Run(assignment) => {
                    let key = assignment.key;
                    let record = self.disk.iter().find(|record| record.key == key);
                    assert!(
                        record.is_some_and(|r| r.intent.is_some()),
                        "run before its intent was durable"
                    );
                    assert!(self.running.insert(key.clone()));
                    self.runs.push(key);
                }
                Output::CancelRun { key, .. } => self.cancels.push(key),
                Output::Notice(_) => {}
                Output::Stopped => self.stopped = true,
            }
        }
    }

    fn check_durable(&self, report: &Report) {
        let (key, ended) = match report {
            Report::Started { key, .. } => (key, None),
            Report::Ended { key, outcome } => (key, Some(outcome)),
        };
        let record = self
            .disk
            .iter()
            .find(|record| record.key == *key)
            .expect("reported before it was durable");
        if let Some(outcome) = ended {
            assert_eq!(
                record.outcome.as_ref(),
                Some(outcome),
                "reported before it was durable"
            );
        }
    }

    fn write_one(&mut self) {
        let written = match self.writes.pop_front() {
            Some(Output::WriteIntent(intent)) => {
                let key = intent.key.clone();
                let record = RecoveredAttempt {
                    key: key.clone(),
                    intent: Some(intent),
                    outcome: None,
                    acknowledged: false,
                };
                self.disk.push(record);
                Written::Intent(key)
            }
            Some(Output::WriteOutcome { key, outcome }) => {
                match self.disk.iter_mut().find(|record| record.key == key) {
                    Some(record) => record.outcome = Some(outcome),
                    None => self.disk.push(RecoveredAttempt {
                        key: key.clone(),
                        intent: None,
                        outcome: Some(outcome),
                        acknowledged: false,
                    }),
                }
                Written::Outcome(key)
            }
            _ => return,
        };
        self.input(Input::Written(written));
    }

    fn settle(&mut self) {
        while !self.writes.is_empty() {
            self.write_one();
        }
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while let Some(deadline) = self
            .machine
            .next_deadline_ms()
            .filter(|deadline| *deadline <= end)
        {
            self.now_ms = self.now_ms.max(deadline);
            self.input(Input::Wake);
        }
        self.now_ms = end;
        self.input(Input::Wake);
    }

    fn attach(&mut self) {
        for _ in 0..100 {
            if let Some(connection) = self.connection {
                self.input(Input::Connected { connection });
                let welcome = Received::Welcome {
                    heartbeat_ms: 5_000,
                    lease_ms: 15_000,
                    message_bytes_max: 1 << 20,
                };
                self.say(welcome);
            }
            if self.machine.is_attached() {
                return;
            }
            self.pass(1_000);
        }
        panic!("no session in 100 s");
    }

    /// The connection breaks, or cannot be made; gives the coordinator that is tried next.
    fn break_off(&mut self) -> usize {
        let connection = self.connection.take().expect("there is one");
        let reason = "broken".into();
        self.input(Input::Lost { connection, reason });
        self.tried.clear();
        while self.tried.is_empty() {
            self.pass(100);
        }
        self.tried[0]
    }

    fn say(&mut self, message: Received) {
        if let Some(connection) = self.connection {
            self.input(Input::Received { connection, message });
        }
    }

    fn assign(&mut self, assignment: Assignment) {
        self.say(Received::Assign(Box::new(assignment)));
    }

    fn end(&mut self, key: &AttemptKey, outcome: Outcome) {
        if self.running.remove(key) {
            self.input(Input::Ended {
                key: key.clone(),
                outcome,
            });
        }
    }

    /// The process dies: what was not durable is gone.
    fn crash(&mut self) {
        self.seed += 1;
        self.writes.clear();
        self.running.clear();
        self.connection = None;
        let now = Now {
            monotonic_ms: self.now_ms,
            wall_ms: 1_000_000 + self.now_ms,
        };
        let recovered = Recovered {
            floor: self.floor,
            records: self.disk.clone(),
        };
        self.machine = Machine::new(self.settings.clone(), recovered, self.seed, now);
        self.input(Input::Wake);
    }

    /// Commits every end that was reported since the last call.
    fn commit_reported(&mut self) {
        let mut ended = Vec::new();
        for message in self.sent.drain(..) {
            let Sent::Reports(reports) = message else { continue };
            for report in reports {
                if let Report::Ended { key, outcome } = report {
                    let first = self
                        .committed
                        .entry(key.clone())
                        .or_insert_with(|| outcome.clone());
                    let stale = outcome
                        .error
                        .as_ref()
                        .is_some_and(|error| error.code == "stale_assignment");
                    // A cluster takes the first end; one that the journal has forgotten is only refused.
                    assert!(
                        *first == outcome || stale,
                        "two ends of one attempt: {first:?} {outcome:?}"
                    );
                    ended.push(key);
                }
            }
        }
        self.say(Received::Committed {
            started: vec![],
            ended,
            refused: vec![],
        });
    }

    fn ends_sent(&self, wanted: &AttemptKey) -> Vec<Status> {
        let mut found = Vec::new();
        for message in &self.sent {
            let Sent::Reports(reports) = message else { continue };
            for report in reports {
                if let Report::Ended { key, outcome } = report
                    && key == wanted
                {
                    found.push(outcome.status);
                }
            }
        }
        found
    }
}

#[test]
fn a_task_is_journaled_run_reported_and_kept_until_committed() {
    let mut world = World::attached();
    let k = key(0, 1, 10);
    world.assign(assignment(k.clone(), Impact::Contain));
    assert!(world.runs.is_empty());
    world.settle();
    assert_eq!(world.runs, std::slice::from_ref(&k));
    world.end(&k, succeeded());
    assert!(world.ends_sent(&k).is_empty());
    world.settle();
    assert_eq!(world.ends_sent(&k), [Status::Succeeded]);
    // Not committed: said again after a reconnect, and from there named in Hello.
    world.input(Input::Lost {
        connection: world.connection.unwrap(),
        reason: "cut".into(),
    });
    world.connection = None;
    world.sent.clear();
    world.attach();
    assert!(matches!(&world.sent[0], Sent::Hello { running } if *running == [k.clone()]));
    assert_eq!(world.ends_sent(&k), [Status::Succeeded]);
    world.commit_reported();
    world.pass(5_000);
    assert!(world.ends_sent(&k).is_empty());
    assert!(world.disk[0].acknowledged);
}

#[test]
fn a_repeat_is_answered_and_an_older_token_is_dropped() {
    let mut world = World::attached();
    let k = key(0, 2, 20);
    world.assign(assignment(k.clone(), Impact::Contain));
    world.assign(assignment(k.clone(), Impact::Contain));
    world.settle();
    world.end(&k, succeeded());
    world.settle();
    world.commit_reported();
    world.assign(assignment(k.clone(), Impact::Contain));
    world.assign(assignment(key(0, 1, 10), Impact::Contain));
    world.settle();
    assert_eq!(world.runs, std::slice::from_ref(&k));
    world.crash();
    world.attach();
    world.assign(assignment(k.clone(), Impact::Contain));
    world.settle();
    assert_eq!(world.runs, std::slice::from_ref(&k));
}

#[test]
fn an_attempt_that_was_under_way_in_a_crash_is_named() {
    for (impact, status) in [
        (Impact::Observe, Status::Failed),
        (Impact::Collect, Status::Failed),
        (Impact::Contain, Status::Unknown),
        (Impact::Destroy, Status::Unknown),
    ] {
        let mut world = World::attached();
        let k = key(0, 1, 10);
        world.assign(assignment(k.clone(), impact));
        world.settle();
        world.crash();
        world.settle();
        world.attach();
        assert_eq!(world.ends_sent(&k), [status]);
        // The next attempt is run only where nothing may have happened.
        let next = key(0, 2, 11);
        world.assign(assignment(next.clone(), impact));
        world.settle();
        assert_eq!(world.runs.contains(&next), impact < Impact::Contain);
    }
}

#[test]
fn what_is_urgent_does_not_wait_for_what_is_not() {
    let mut world = World::attached();
    for task in 0..20 {
        world.assign(assignment(key(task, 1, 10), Impact::Observe));
    }
    world.settle();
    let urgent = key(99, 1, 11);
    world.assign(assignment(urgent.clone(), Impact::Contain));
    world.settle();
    assert_eq!(world.runs.len(), Settings::new(1).normal_slots + 1);
    assert_eq!(world.runs.last(), Some(&urgent));
}

#[test]
fn a_cancel_finds_the_attempt_wherever_it_stands() {
    let mut world = World::attached();
    // Before it came at all.
    world.say(Received::Cancel {
        key: key(0, 1, 9),
        reason: "no more".into(),
    });
    world.settle();
    world.assign(assignment(key(0, 1, 9), Impact::Observe));
    assert_eq!(
        world.ends_sent(&key(0, 1, 9)),
        [Status::Cancelled, Status::Cancelled]
    );
    // While its intent is written; while it runs; while it waits.
    for task in 1..=4 {
        world.assign(assignment(key(task, 1, 10), Impact::Observe));
    }
    world.say(Received::Cancel {
        key: key(1, 1, 10),
        reason: "no more".into(),
    });
    world.settle();
    assert_eq!(world.ends_sent(&key(1, 1, 10)), [Status::Cancelled]);
    world.say(Received::Cancel {
        key: key(2, 1, 10),
        reason: "no more".into(),
    });
    world.say(Received::Cancel {
        key: key(4, 1, 10),
        reason: "no more".into(),
    });
    world.settle();
    assert_eq!(world.cancels, [key(2, 1, 10)]);
    assert_eq!(world.ends_sent(&key(4, 1, 10)), [Status::Cancelled]);
    assert_eq!(world.runs, [key(2, 1, 10), key(3, 1, 10)]);
}

#[test]
fn a_newer_attempt_waits_for_the_older_one() {
    let mut world = World::attached();
    let (first, second) = (key(0, 1, 10), key(0, 2, 11));
    world.assign(assignment(first.clone(), Impact::Observe));
    world.settle();
    world.assign(assignment(second.clone(), Impact::Observe));
    world.settle();
    assert_eq!(
        (world.runs.as_slice(), world.cancels.as_slice()),
        (std::slice::from_ref(&first), std::slice::from_ref(&first))
    );
    world.end(
        &first,
        Outcome {
            status: Status::Cancelled,
            ..succeeded()
        },
    );
    world.settle();
    assert_eq!(world.runs, [first, second]);
}

#[test]
fn a_refusal_and_a_late_start_are_named_ends() {
    let mut world = World::attached();
    let refusal = Some(Failure {
        code: "denied".into(),
        message: "observe-only".into(),
    });
    world.assign(Assignment {
        refusal,
        ..assignment(key(0, 1, 10), Impact::Contain)
    });
    for task in 1..=3 {
        world.assign(Assignment {
            start_within_ms: 500,
            ..assignment(key(task, 1, 11), Impact::Observe)
        });
    }
    world.settle();
    world.pass(600);
    world.settle();
    assert_eq!(world.ends_sent(&key(0, 1, 10)), [Status::Failed]);
    assert_eq!(world.ends_sent(&key(3, 1, 11)), [Status::Failed]);
    assert_eq!(world.runs.len(), 2);
}

#[test]
fn a_silent_node_is_left_for_another() {
    let mut world = World::attached();
    let first = world.connection;
    world.pass(10_000);
    assert!(world.machine.is_attached());
    assert!(
        world
            .sent
            .iter()
            .any(|sent| matches!(sent, Sent::Heartbeat { sequence: 1 }))
    );
    world.pass(6_000);
    assert!(!world.machine.is_attached());
    world.pass(2_000);
    assert!(world.connection > first);
}

#[test]
fn a_session_is_taken_up_where_it_was_and_only_then_elsewhere() {
    for first in 0..3 {
        let mut world = World::new(Settings {
            first: Some(first),
            ..Settings::new(3)
        });
        world.attach();
        assert_eq!(world.tried, [first], "after a start");
        world.pass(12_000);
        assert_eq!(world.break_off(), first, "it has lived");
        let before = world.now_ms;
        assert_ne!(world.break_off(), first, "nobody is there any more");
        let waited = world.now_ms - before;
        assert!(
            waited <= 1_100,
            "it was not this agent's failure, and it waited {waited} ms"
        );
    }
}

/// One coordinator after another may die soon after the agent came to it: that is no failure of this agent's.
#[test]
fn sessions_that_were_short_do_not_add_up() {
    let mut world = World::new(Settings::new(3));
    for _ in 0..6 {
        world.attach();
        world.pass(2_000);
        let before = world.now_ms;
        world.break_off();
        assert!(world.now_ms - before <= 1_100, "{} ms", world.now_ms - before);
    }
}

#[test]
fn a_coordinator_that_does_not_answer_any_more_is_not_waited_for_long() {
    let mut world = World::new(Settings {
        first: Some(0),
        ..Settings::new(3)
    });
    world.attach();
    world.pass(12_000);
    assert_eq!(world.break_off(), 0);
    // Its host is gone: no answer, no refusal.
    world.pass(3_200);
    assert_eq!(world.tried.len(), 2, "{:?}", world.tried);
    assert_ne!(world.tried[1], 0);
}

#[test]
fn failures_back_off_and_every_coordinator_has_its_turn() {
    let mut world = World::new(Settings::new(3));
    let mut tries = 0;
    while world.now_ms < 120_000 {
        world.pass(100);
        if let Some(connection) = world.connection.take() {
            tries += 1;
            world.input(Input::Lost {
                connection,
                reason: "refused".into(),
            });
        }
    }
    assert!((8..16).contains(&tries), "{tries} tries in two minutes");
}

#[test]
fn shutdown_lets_urgent_work_finish_and_says_so() {
    let mut world = World::attached();
    let (slow, urgent) = (key(0, 1, 10), key(1, 1, 11));
    world.assign(assignment(slow.clone(), Impact::Observe));
    world.assign(assignment(urgent.clone(), Impact::Contain));
    world.settle();
    world.input(Input::Shutdown);
    assert_eq!(world.cancels, std::slice::from_ref(&slow));
    world.end(
        &slow,
        Outcome {
            status: Status::Cancelled,
            ..succeeded()
        },
    );
    world.end(&urgent, succeeded());
    world.settle();
    assert_eq!(world.ends_sent(&slow), [Status::Failed]);
    assert_eq!(world.ends_sent(&urgent), [Status::Succeeded]);
    assert!(!world.stopped);
    world.commit_reported();
    assert!(world.stopped);
    assert_eq!(world.machine.next_deadline_ms(), None);
}

#[test]
fn what_was_forgotten_is_refused_for_good() {
    let mut settings = Settings::new(1);
    settings.retained_max = 10;
    let mut world = World::new(settings);
    world.attach();
    for task in 0..30 {
        let k = key(task, 1, 10 + u64::from(task));
        world.assign(assignment(k.clone(), Impact::Contain));
        world.settle();
        world.end(&k, succeeded());
        world.settle();
        world.commit_reported();
    }
    assert!(world.disk.len() <= 10);
    world.crash();
    world.attach();
    let runs = world.runs.len();
    world.assign(assignment(key(0, 1, 10), Impact::Contain));
    world.assign(assignment(key(29, 1, 39), Impact::Contain));
    world.settle();
    assert_eq!(world.runs.len(), runs);
    assert_eq!(world.ends_sent(&key(0, 1, 10)), [Status::Failed]);
    assert_eq!(world.ends_sent(&key(29, 1, 39)), [Status::Succeeded]);
}

#[derive(Clone, Debug)]
enum Step {
    Assign { task: u32, attempt: u32, contain: bool },
    Cancel { task: u32, attempt: u32 },
    Write,
    End { nth: usize, status: Status },
    Commit,
    Cut,
    Attach,
    Pass { ms: u64 },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![
        Just(Status::Succeeded),
        Just(Status::Failed),
        Just(Status::Unknown)
    ];
    prop_oneof![
        6 => (0..4u32, 1..4u32, any::<bool>())
            .prop_map(|(task, attempt, contain)| Step::Assign { task, attempt, contain }),
        1 => (0..4u32, 1..4u32).prop_map(|(task, attempt)| Step::Cancel { task, attempt }),
        6 => Just(Step::Write),
        4 => (0..4usize, status).prop_map(|(nth, status)| Step::End { nth, status }),
        2 => Just(Step::Commit),
        1 => Just(Step::Cut),
        2 => Just(Step::Attach),
        1 => (0..20_000u64).prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_attempt_is_run_twice_and_no_effect_happens_twice(
        steps in prop::collection::vec(step(), 1..120),
        forgetful in any::<bool>(),
    ) {
        let mut settings = Settings::new(2);
        // A forgetful journal relies on a cluster that assigns nothing more once it holds the effect; one
        // that remembers does not.
        settings.retained_max = if forgetful { 3 } else { 1_000 };
        let mut world = World::new(settings);
        world.attach();
        let impact_of = |task: u32| if task.is_multiple_of(2) { Impact::Destroy } else { Impact::Observe };
        for step in steps {
            match step {
                Step::Assign { task, attempt, contain } => {
                    let impact = if contain { impact_of(task).max(Impact::Contain) } else { impact_of(task) };
                    let token = u64::from(attempt) * 10 + u64::from(task);
                    let done = world.committed.iter().any(|(key, outcome)| {
                        key.item == task
                            && key.attempt != attempt
                            && matches!(outcome.status, Status::Succeeded | Status::Unknown)
                    });
                    if forgetful && done {
                        continue;
                    }
                    world.assign(assignment(key(task, attempt, token), impact));
                }
                Step::Cancel { task, attempt } => {
                    let key = key(task, attempt, u64::from(attempt) * 10 + u64::from(task));
                    world.say(Received::Cancel { key, reason: "a test".into() });
                }
                Step::Write => world.write_one(),
                Step::End { nth, status } => {
                    if let Some(key) = world.running.iter().nth(nth).cloned() {
                        world.end(&key, Outcome { status, ..succeeded() });
                    }
                }
                Step::Commit => world.commit_reported(),
                Step::Cut => {
                    if let Some(connection) = world.connection.take() {
                        world.input(Input::Lost { connection, reason: "cut".into() });
                    }
                }
                Step::Attach => if !world.machine.is_attached() { world.attach() },
                Step::Pass { ms } => world.pass(ms),
                Step::Crash => world.crash(),
            }
        }
        // Faults stop: everything reaches a named end.
        for _ in 0..10 {
            if !world.machine.is_attached() {
                world.attach();
            }
            world.settle();
            for key in world.running.clone() {
                world.end(&key, succeeded());
            }
            world.settle();
            world.commit_reported();
        }
        prop_assert!(world.running.is_empty());
        for record in &world.disk {
            prop_assert!(record.outcome.is_some() && record.acknowledged, "left open: {record:?}");
        }
        let mut seen = BTreeSet::new();
        for key in &world.runs {
            prop_assert!(seen.insert(key.clone()), "{key:?} was run twice");
        }
        for task in [0, 2] {
            let effects = world.runs.iter().filter(|key| key.item == task).filter(|key| {
                matches!(world.committed.get(key).map(|o| o.status), Some(Status::Succeeded | Status::Unknown))
            });
            prop_assert!(effects.count() <= 1, "task {task} had its effect twice");
        }
    }
}
