//! Which branches of a playbook its cases took.
//!
//! A branch is a way that a run can go: a step runs; its `when` is true, and false; a rule of a `decide` or a `score`
//! holds; a step begins because another failed; a step fails for which the playbook says what then; a gate is passed,
//! refused, runs out of time or asks more people; a question is answered, refused or runs out of time; an event for which
//! a step waits comes, or does not. Before all of them: a trigger starts the run.

use std::collections::{BTreeMap, BTreeSet};

use engine::planner::{ALL_RULED_OUT, RULED_OUT, decided_by};
use engine::state::{Approval, ApprovalStatus, Run, StepStatus, TaskStatus};
use playbook::Place;
use playbook::manifest::{Kind, Manifest, NeedState, OnExpiry, OnFailure, Step};
use serde_json::Value;

use crate::places::Places;
use crate::world::{RUN, World};

const STARTS: &str = "starts a run";
const RUNS: &str = "runs";
const WHEN_TRUE: &str = "when is true";
const WHEN_FALSE: &str = "when is false";
const FAILS: &str = "fails";
const UNGATED: &str = "goes on without approval";
const APPROVED: &str = "is approved";
const ANSWERED: &str = "is answered";
const DENIED: &str = "is denied";
const EXPIRED: &str = "waits for people in vain";
const ESCALATED: &str = "escalates";
const HEARS: &str = "hears its event";
const HEARS_NOTHING: &str = "waits for its event in vain";

/// One branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The step's name; of a loop's rounds without their numbers. Of a trigger, `trigger` and its number.
    pub step: String,
    /// Which way, for people: `runs`, `when is false`, ...
    pub way: String,
    /// Where in the playbook it is written.
    pub place: Place,
    /// In how many cases it was taken.
    pub cases: u32,
}

/// Which branches there are, and in how many cases each was taken.
#[derive(Clone, Debug)]
pub struct Coverage {
    branches: Vec<Branch>,
    by_name: BTreeMap<(String, String), usize>,
    /// The names that steps have here, by number.
    names: Vec<String>,
    /// Steps that a loop was unrolled to: what they decide is not the playbook's own word.
    made: BTreeSet<u16>,
    /// Where the fakes and the people's answers stand that the cases used.
    used: BTreeSet<Place>,
}

impl Coverage {
    /// All branches of a playbook.
    pub(crate) fn of(manifest: &Manifest, playbook: &str) -> Coverage {
        let places = Places::of(playbook);
        let mut coverage = Coverage {
            branches: Vec::new(),
            by_name: BTreeMap::new(),
            names: Vec::new(),
            made: BTreeSet::new(),
            used: BTreeSet::new(),
        };
        let loops = loops(manifest, &places);
        for number in 0..manifest.step_count() {
            let Some(step) = manifest.step(number) else {
                continue;
            };
            let (name, made) = name_of(&loops, step);
            coverage.names.push(name);
            if made {
                coverage.made.insert(number);
            }
        }
        for at in 0..manifest.triggers.len() {
            coverage.add(trigger_name(at), STARTS.to_owned(), places.trigger(at));
        }
        for number in 0..manifest.step_count() {
            for (way, place) in coverage.ways(manifest, &places, number) {
                coverage.add(coverage.names[usize::from(number)].clone(), way, place);
            }
        }
        coverage
    }

    /// All branches, in the playbook's order.
    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.branches.len()
    }

    /// Those that no case took.
    pub fn missed(&self) -> impl Iterator<Item = &Branch> {
        self.branches.iter().filter(|branch| branch.cases == 0)
    }

    /// Of a hundred branches, how many were taken: 100 only where none is missing.
    pub fn percent(&self) -> f64 {
        match self.total() {
            0 => 100.0,
            total => (total - self.missed().count()) as f64 * 100.0 / total as f64,
        }
    }

    /// A fake, or what a person says, that stands there was used.
    pub(crate) fn has_used(&self, place: Place) -> bool {
        self.used.contains(&place)
    }

    fn add(&mut self, step: String, way: String, place: Place) {
        let key = (step.clone(), way.clone());
        if !self.by_name.contains_key(&key) {
            self.by_name.insert(key, self.branches.len());
            self.branches.push(Branch {
                step,
                way,
                place,
                cases: 0,
            });
        }
    }

    /// The ways in which a step can go, and where each is written.
    fn ways(&self, manifest: &Manifest, places: &Places, number: u16) -> Vec<(String, Place)> {
        let Some(step) = manifest.step(number) else {
            return Vec::new();
        };
        let name = self.names[usize::from(number)].as_str();
        let made = self.made.contains(&number);
        let mut ways = match step.when {
            None => vec![(RUNS.to_owned(), places.step(name))],
            Some(_) => [WHEN_TRUE, WHEN_FALSE]
                .map(|way| (way.to_owned(), places.when(name)))
                .into(),
        };
        match &step.kind {
            Kind::Decide { rules } if !made && rules.len() > 1 => {
                ways.extend(rules.iter().enumerate().map(|(at, rule)| {
                    let way = match rule.when {
                        Some(_) => rule_holds(at),
                        None => rule_else(),
                    };
                    (way, places.rule(name, at))
                }));
            }
            Kind::Score { rules } => {
                ways.extend((0..rules.len()).map(|at| (rule_holds(at), places.rule(name, at))));
            }
            Kind::WaitEvent { .. } => {
                ways.extend([HEARS, HEARS_NOTHING].map(|way| (way.to_owned(), places.step(name))));
            }
            _ => {}
        }
        let of_people = asks(step)
            .into_iter()
            .map(|way| (way.to_owned(), places.gate(name)));
        ways.extend(of_people);
        for need in step.needs.iter().filter(|need| need.state == NeedState::Failed) {
            ways.push((self.because_of(need.step), places.needs(name)));
        }
        if step.on_failure != OnFailure::Fail && can_fail(step) {
            ways.push((FAILS.to_owned(), places.on_failure(name)));
        }
        ways
    }

    fn because_of(&self, step: u16) -> String {
        let name = self.names.get(usize::from(step)).map_or("", String::as_str);
        format!("begins because {name} failed")
    }

    /// Notes what a case took.
    pub(crate) fn note(&mut self, world: &World<'_>) {
        self.used.extend(&world.used);
        let Some(run) = world.subject() else { return };
        let mut taken = BTreeSet::new();
        for at in &world.triggers {
            let key = (trigger_name(usize::from(*at)), STARTS.to_owned());
            taken.extend(self.by_name.get(&key).copied());
        }
        for number in 0..run.manifest().step_count() {
            for way in self.taken(world, run, number) {
                let key = (self.names[usize::from(number)].clone(), way);
                taken.extend(self.by_name.get(&key).copied());
            }
        }
        for at in taken {
            self.branches[at].cases += 1;
        }
    }

    /// The ways in which a step of a run went.
    fn taken(&self, world: &World<'_>, run: &Run, number: u16) -> Vec<String> {
        let state = &run.steps[usize::from(number)];
        let step = run.declared(number);
        let mut ways = Vec::new();
        let skipped = state.tasks.iter().any(|task| task.status == TaskStatus::Skipped);
        let ran = match state.tasks.is_empty() {
            true => matches!(
                state.status,
                StepStatus::Succeeded | StepStatus::Failed | StepStatus::Unknown
            ),
            false => state.tasks.iter().any(|task| task.status != TaskStatus::Skipped),
        };
        if ran {
            let way = if step.when.is_some() { WHEN_TRUE } else { RUNS };
            ways.push(way.to_owned());
        }
        if skipped
            || state.status == StepStatus::Skipped && [RULED_OUT, ALL_RULED_OUT].contains(&&*state.reason)
        {
            ways.push(WHEN_FALSE.to_owned());
        }
        ways.extend(said(world, run, number).into_iter().map(str::to_owned));
        match &step.kind {
            Kind::Decide { rules } => {
                ways.extend(
                    decided_by(&world.state, &RUN, number).map(|at| match rules[at].when {
                        Some(_) => rule_holds(at),
                        None => rule_else(),
                    }),
                );
            }
            Kind::Score { .. } => ways.extend(fired(state.output.as_deref()).into_iter().map(rule_holds)),
            Kind::WaitEvent { .. } => ways.extend(match state.status {
                StepStatus::Succeeded => Some(HEARS.to_owned()),
                StepStatus::Failed => Some(HEARS_NOTHING.to_owned()),
                _ => None,
            }),
            _ => {}
        }
        if ran {
            let needs = step.needs.iter().filter(|need| need.state == NeedState::Failed);
            ways.extend(needs.map(|need| self.because_of(need.step)));
        }
        if matches!(state.status, StepStatus::Failed | StepStatus::Unknown) {
            ways.push(FAILS.to_owned());
        }
        ways
    }
}

/// As people name a trigger: no step has a name with a space in it.
fn trigger_name(at: usize) -> String {
    format!("trigger {}", at + 1)
}

fn rule_holds(at: usize) -> String {
    format!("rule {} holds", at + 1)
}

fn rule_else() -> String {
    "else".to_owned()
}

/// What only thinks fails only where an expression breaks, which no case should have to show.
fn can_fail(step: &Step) -> bool {
    !matches!(step.kind, Kind::Decide { .. } | Kind::Score { .. })
}

/// What can come of it that a step asks people.
fn asks(step: &Step) -> Vec<&'static str> {
    if matches!(step.kind, Kind::Ask { .. }) {
        return vec![ANSWERED, DENIED, EXPIRED];
    }
    let Some(gate) = &step.gate else {
        return Vec::new();
    };
    let ungated = gate.when.as_ref().map(|_| UNGATED);
    let escalated = (gate.on_expiry == OnExpiry::Escalate).then_some(ESCALATED);
    let always = [APPROVED, DENIED, EXPIRED];
    ungated.into_iter().chain(always).chain(escalated).collect()
}

/// What came of it that a step asked people.
fn said(world: &World<'_>, run: &Run, number: u16) -> Vec<&'static str> {
    let state = &run.steps[usize::from(number)];
    let requests = world.state.approvals_newest_first();
    let requests: Vec<&Approval> = requests
        .filter(|approval| approval.run == run.id && approval.step == number)
        .collect();
    let mut ways = Vec::new();
    for approval in &requests {
        ways.extend(match approval.status {
            ApprovalStatus::Approved => Some(APPROVED),
            ApprovalStatus::Answered => Some(ANSWERED),
            ApprovalStatus::Denied => Some(DENIED),
            ApprovalStatus::Expired => Some(EXPIRED),
            ApprovalStatus::Waiting | ApprovalStatus::Cancelled => None,
        });
        ways.extend(approval.escalated.then_some(ESCALATED));
    }
    let held = |item: u32| {
        let mut ranges = requests.iter().flat_map(|approval| &approval.items);
        ranges.any(|&(first, last)| (first..=last).contains(&item))
    };
    let mut tasks = (0..).zip(&state.tasks);
    if tasks.any(|(item, task)| task.token != 0 && !held(item)) {
        ways.push(UNGATED);
    }
    ways
}

/// The rules of a `score` that fired, from 0.
fn fired(output: Option<&str>) -> Vec<usize> {
    let output: Option<Value> = output.and_then(|text| serde_json::from_str(text).ok());
    let fired = output.as_ref().and_then(|output| output["fired"].as_array());
    fired
        .into_iter()
        .flatten()
        .filter_map(|rule| rule["rule"].as_u64())
        .map(|rule| rule.saturating_sub(1) as usize)
        .collect()
}

/// The loops: the steps that gather what their rounds gave, by name.
fn loops<'m>(manifest: &'m Manifest, places: &Places) -> BTreeSet<&'m str> {
    let steps = manifest.steps.iter().chain(&manifest.finally);
    steps
        .map(|step| step.name.as_str())
        .filter(|name| places.is_loop(name))
        .collect()
}

/// The name of a step without the number of its round, and whether a loop made it.
fn name_of(loops: &BTreeSet<&str>, step: &Step) -> (String, bool) {
    if loops.contains(step.name.as_str()) {
        return (step.name.clone(), true);
    }
    for name in loops {
        let Some(rest) = step
            .name
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('_'))
        else {
            continue;
        };
        let (round, body) = rest
            .split_once('_')
            .map_or((rest, None), |(round, body)| (round, Some(body)));
        if !round.is_empty() && round.bytes().all(|b| b.is_ascii_digit()) {
            return match body {
                Some(body) => (format!("{name}.{body}"), false),
                None => (format!("{name}.while"), true),
            };
        }
    }
    (step.name.clone(), false)
}
