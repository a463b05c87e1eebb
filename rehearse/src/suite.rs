//! A test file, read: what each case is given and what it expects.

use std::collections::BTreeMap;

use engine::Timestamp;
use engine::id::AgentId;
use playbook::manifest::Manifest;
use playbook::{Place, Problem, Problems};
use serde_json::{Map, Value};

use crate::compare;
use crate::coverage::Coverage;
use crate::trace::CaseReport;
use crate::world::World;

/// The longest text of a test file.
pub const TEXT_BYTES_MAX: usize = 2 << 20;
/// Cases of one file.
pub const CASES_MAX: usize = 1_000;
/// Hosts of one case.
pub const HOSTS_MAX: usize = 10_000;
/// When cases begin that do not say: 2026-01-05, a Monday, 09:00 UTC.
pub const BEGINS_AT: Timestamp = Timestamp(1_767_603_600_000);
/// How long a fake takes that does not say.
pub const AFTER_MS: u64 = 1_000;
/// Who asks for the run in cases that do not say.
pub const REQUESTER: &str = "responder";
/// Who does things to runs in cases that do not say.
pub const COMMANDER: &str = "commander";

/// The cases of one test file, and the playbook that they are of.
#[derive(Debug)]
pub struct Suite {
    pub(crate) manifest: Manifest,
    /// The text of the playbook, to name its lines.
    pub(crate) playbook: String,
    pub(crate) cases: Vec<Case>,
    /// The text, to show lines of it.
    pub(crate) text: String,
}

/// One case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub name: String,
    pub place: Place,
    pub given: Given,
    pub expect: Expect,
}

/// What a case is given.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// The file's: an event's are laid over them.
    pub inputs: Map<String, Value>,
    /// The case's own: they are laid over an event's.
    pub own_inputs: Map<String, Value>,
    /// What triggered the run; None: a person started it.
    pub event: Option<Value>,
    /// Of a threshold: `{key, events}`.
    pub group: Option<Value>,
    pub config: Map<String, Value>,
    pub requester: String,
    pub begins_at: Timestamp,
    pub fleet: Vec<Host>,
    /// By step; the first that fits answers.
    pub fakes: BTreeMap<String, Vec<Fake>>,
    /// By step; each is said to each of its approval requests.
    pub people: BTreeMap<String, Vec<Says>>,
    /// What comes in while it runs, in the order of time.
    pub events: Vec<Incoming>,
    /// What people do while it runs, in the order of time.
    pub meanwhile: Vec<Happening>,
}

/// A host.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub id: AgentId,
    pub labels: BTreeMap<String, String>,
    pub facts: Value,
    /// From when to when it is offline, from the run's start on; None: for good.
    pub away: Vec<(u64, Option<u64>)>,
}

/// How tasks of a step answer.
#[derive(Clone, Debug)]
pub(crate) struct Fake {
    pub place: Place,
    /// Only on these hosts; empty: on any.
    pub hosts: Vec<String>,
    /// Only for an item that holds this.
    pub item: Option<Value>,
    /// Only with parameters that hold this.
    pub with: Option<Value>,
    /// By attempt; the last one goes on.
    pub attempts: Vec<Answer>,
}

/// How one attempt goes.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub ends: Ends,
    /// From its start on.
    pub after_ms: u64,
}

/// How one attempt ends.
#[derive(Clone, Debug)]
pub(crate) enum Ends {
    /// It succeeds.
    Output(Value),
    /// It fails.
    Error { code: String, message: String },
    /// It may have been done: the answer was lost.
    Lost,
    /// It goes on until it is told to stop, and then stops.
    Hangs,
    /// Nothing is ever heard of it.
    Silent,
}

/// What a person says when asked for an approval, or an answer.
#[derive(Clone, Debug)]
pub(crate) struct Says {
    pub place: Place,
    pub operator: String,
    /// By which he may.
    pub role: String,
    /// From when he was asked on.
    pub after_ms: u64,
    pub word: Word,
    pub reason: String,
    /// It is not taken; within the reason why.
    pub refused: Option<String>,
}

/// What it is that he says.
#[derive(Clone, Debug)]
pub(crate) enum Word {
    Approve,
    Deny,
    /// Fields of a form.
    Fill(Map<String, Value>),
}

/// An event that comes in.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    pub place: Place,
    /// From the run's start on.
    pub at_ms: u64,
    pub event: engine::events::Event,
    /// No step goes on with it.
    pub ignored: bool,
}

/// Something that a person does to the run.
#[derive(Clone, Debug)]
pub(crate) struct Happening {
    pub place: Place,
    /// From the run's start on.
    pub at_ms: u64,
    /// Who.
    pub by: String,
    pub what: Deed,
    /// The engine does not let him; within the reason why.
    pub refused: Option<String>,
}

/// What it is. Texts are the reasons.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Cancel(String),
    /// And what it did is undone.
    CancelAndRollBack(String),
    /// What it did is undone, once it is over.
    RollBack(String),
    Pause(String),
    Resume,
    Retry {
        /// Only this one; None: all.
        step: Option<String>,
        /// Also what may have been done.
        unknown: bool,
    },
    Settle(Settled),
}

/// What a person found out of a task of which nobody knew what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub step: String,
    pub which: Which,
    pub succeeded: bool,
    pub reason: String,
}

/// Which of the tasks of a step.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    /// The one that it has.
    Only,
    /// The one on this host.
    Host(String),
    /// The first whose item holds this.
    Item(Value),
}

/// A thing that is expected, and where that is written.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<T> {
    pub place: Place,
    pub value: T,
}

/// What a case expects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expect {
    /// The run's end.
    pub run: Option<Wanted<String>>,
    /// Within the run's reason.
    pub reason: Option<Wanted<String>>,
    /// The run is not even started; within the reason.
    pub refused: Option<Wanted<String>>,
    pub steps: Vec<Wanted<ExpectStep>>,
    pub approvals: Vec<Wanted<ExpectApproval>>,
    /// By name.
    pub outputs: Vec<(String, Wanted<Value>)>,
    /// No other outputs.
    pub outputs_exact: Option<Wanted<Map<String, Value>>>,
    /// They began in this order.
    pub order: Option<Wanted<Vec<String>>>,
    pub asked: Vec<Wanted<ExpectAsked>>,
    pub notified: Vec<Wanted<ExpectNotified>>,
    /// In virtual time.
    pub took_at_least_ms: Option<Wanted<u64>>,
    pub took_at_most_ms: Option<Wanted<u64>>,
}

/// How a step ends.
#[derive(Clone, Debug)]
pub(crate) struct ExpectStep {
    pub name: String,
    pub status: Option<String>,
    /// Within the step's reason.
    pub reason: Option<String>,
    /// Within its output.
    pub output: Option<Value>,
    /// How many tasks it had.
    pub tasks: Option<u64>,
    /// By host.
    pub hosts: Vec<(String, Wanted<ExpectTask>)>,
    /// Each is of the first task whose item holds it.
    pub items: Vec<Wanted<(Value, ExpectTask)>>,
}

/// How a task ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExpectTask {
    pub status: Option<String>,
    /// The error's code.
    pub error: Option<String>,
    pub attempts: Option<u64>,
    /// Within its output.
    pub output: Option<Value>,
}

/// How the newest approval request of a step ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExpectApproval {
    pub step: String,
    pub status: Option<String>,
    /// The hosts that wait for it, in any order.
    pub hosts: Option<Vec<String>>,
    /// More people were asked.
    pub escalated: Option<bool>,
    /// So many people must approve.
    pub quorum: Option<u64>,
    /// How many requests the step put.
    pub times: Option<u64>,
}

/// How often something was asked for.
#[derive(Clone, Debug)]
pub(crate) struct ExpectAsked {
    /// By this step; None: by any.
    pub step: Option<String>,
    /// This action; None: any.
    pub action: Option<String>,
    /// On this host; None: anywhere.
    pub host: Option<String>,
    /// For an item that holds this.
    pub item: Option<Value>,
    /// With parameters that hold this.
    pub with: Option<Value>,
    /// So often, attempts counted one by one. None: at least once.
    pub times: Option<u64>,
}

/// Who was told what.
#[derive(Clone, Debug)]
pub(crate) struct ExpectNotified {
    /// The whole address, `KIND:ADDRESS`; None: anybody.
    pub to: Option<String>,
    /// Within the text.
    pub text: Option<String>,
    pub severity: Option<String>,
    /// So many messages, attempts counted one by one. None: at least one.
    pub times: Option<u64>,
}

impl Suite {
    /// Reads a test file of this playbook, whose text is given to name its lines.
    ///
    /// # Errors
    /// All problems of the test file at once.
    pub fn read(manifest: &Manifest, playbook: &str, text: &str) -> Result<Suite, Problems> {
        crate::read::suite(manifest, playbook, text)
    }

    /// Carries a case out; None: there are not so many. What it took of the playbook goes into the coverage.
    pub fn run(&self, number: usize, coverage: &mut Coverage) -> Option<CaseReport> {
        let case = self.cases.get(number)?;
        let mut world = World::new(&case.given);
        let stuck = world.run(self, &case.given).err();
        coverage.note(&world);
        Some(compare::report(self, case, world, stuck))
    }

    /// What there is to take, nothing of it taken yet.
    pub fn coverage(&self) -> Coverage {
        Coverage::of(&self.manifest, &self.playbook)
    }

    /// Actions of the playbook that only fakes carry out: in this version they end as `not_implemented`. Each with the
    /// steps that ask for it.
    pub fn faked_only(&self) -> Vec<(&'static str, Vec<String>)> {
        crate::unbuilt::actions(&self.manifest)
    }

    /// Fakes, people's answers and events that no case used, once all were carried out with this coverage.
    pub fn unused(&self, coverage: &Coverage) -> Option<Problems> {
        let given = |case: &Case| {
            let mut all = Vec::new();
            for (step, fakes) in &case.given.fakes {
                let message = format!("no attempt of `{step}` was ever answered by this fake");
                let hint = "the first fake that fits answers, a case's own before the file's: leave this one out, or let it fit";
                all.extend(fakes.iter().map(|fake| (fake.place, message.clone(), hint)));
            }
            for (step, says) in &case.given.people {
                let message = format!("nobody was ever asked by `{step}` what this answers");
                let hint = "the run ended before, or the step was never reached: leave this answer out, or let it come sooner";
                all.extend(says.iter().map(|says| (says.place, message.clone(), hint)));
            }
            for incoming in &case.given.events {
                let hint = "no step waited then, or its class or `when` is another: leave the event out, or let it fit";
                all.push((incoming.place, "no step went on with this event".to_owned(), hint));
            }
            all
        };
        let mut unused: BTreeMap<Place, Problem> = BTreeMap::new();
        for (place, message, hint) in self.cases.iter().flat_map(given) {
            if !coverage.has_used(place) {
                let problem = Problem {
                    code: "T0205",
                    place,
                    message,
                    hint: hint.to_owned(),
                };
                unused.insert(place, problem);
            }
        }
        let found: Vec<Problem> = unused.into_values().collect();
        (!found.is_empty()).then(|| Problems::new(found, &self.text))
    }

    /// The names of the cases, in the order of the text.
    pub fn cases(&self) -> impl Iterator<Item = &str> {
        self.cases.iter().map(|case| case.name.as_str())
    }
}
