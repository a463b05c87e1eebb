//! What a case came to, against what was expected of it.

use engine::state::Run;
use engine::state::approvals::Approval;
use engine::state::runs::{NOTIFY, TaskView};
use playbook::{Place, Problem, Problems};
use serde_json::Value;

use crate::fakes::{holds, parsed};
use crate::suite::{
    Case, Expect, ExpectApproval, ExpectAsked, ExpectNotified, ExpectStep, ExpectTask, Suite, Wanted,
};
use crate::trace::{Asked, CaseReport, StepEnd};
use crate::world::{Stuck, World};

/// A value in a finding, characters.
const SHOWN_MAX: usize = 400;

/// Compares, and gathers what there is to show of the case.
pub(crate) fn report(suite: &Suite, case: &Case, world: World<'_>, stuck: Option<Stuck>) -> CaseReport {
    let mut findings = Findings::default();
    let run = world.subject();
    match &stuck {
        Some(Stuck::Refused(why)) => findings.refused(case, why),
        Some(Stuck::Endless(how)) => {
            let hint =
                "the engine bounds everything that waits: this is a fault of Cordon's own, please report it";
            findings.add("T0204", case.place, format!("the run does not end: {how}"), hint);
        }
        Some(Stuck::Broken(why)) => {
            let hint = "mend what the case is given: a cluster would refuse it too";
            let message = format!("the case cannot be set up so: {why}");
            findings.add("T0207", case.place, message, hint);
        }
        None => {
            if let Some(wanted) = &case.expect.refused {
                let message = "the run was expected to be refused, and was started";
                findings.add("T0201", wanted.place, message, "");
            }
        }
    }
    if let Some(run) = run {
        for missing in &world.unanswered {
            let message = format!(
                "step `{}` asked{}, and no fake answers",
                missing.step, missing.place
            );
            let hint = format!("write fakes: {{{}: {{output: {{...}}}}}}", missing.step);
            findings.add("T0202", case.place, message, hint);
        }
        findings.run(&case.expect, run, world.took_ms());
        for wanted in &case.expect.steps {
            findings.step(wanted, run);
        }
        for unheard in &world.unheard {
            findings.add(unheard.code, unheard.place, unheard.message.clone(), "");
        }
        for wanted in &case.expect.approvals {
            findings.approval(wanted, run, &world);
        }
        findings.outputs(&case.expect, run);
        findings.order(&case.expect, run, &world.began);
        for wanted in &case.expect.asked {
            findings.asked(wanted, &world.asked);
        }
        for wanted in &case.expect.notified {
            findings.notified(wanted, &world.asked);
        }
    }
    let steps = run.into_iter().flat_map(|run| {
        run.steps.iter().enumerate().map(|(number, state)| StepEnd {
            name: run.declared(number as u16).name.clone(),
            status: state.status.as_str(),
            reason: state.reason.clone(),
        })
    });
    let (status, reason) = match (run, &stuck) {
        (Some(run), _) => (run.status.as_str(), run.reason.clone()),
        (None, Some(Stuck::Refused(why))) => ("refused", why.clone()),
        (None, Some(Stuck::Broken(why))) => ("not set up", why.clone()),
        (None, _) => ("refused", String::new()),
    };
    CaseReport {
        name: case.name.clone(),
        status: status.to_owned(),
        reason,
        took_ms: world.took_ms(),
        steps: steps.collect(),
        findings: findings.into_problems(&suite.text),
        asked: world.asked,
    }
}

#[derive(Default)]
struct Findings {
    all: Vec<Problem>,
}

impl Findings {
    fn add(&mut self, code: &'static str, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.all.push(Problem {
            code,
            place,
            message: message.into(),
            hint: hint.into(),
        });
    }

    fn into_problems(self, text: &str) -> Option<Problems> {
        (!self.all.is_empty()).then(|| Problems::new(self.all, text))
    }

    /// What was expected of something, and what it is.
    fn differs(&mut self, place: Place, what: &str, wanted: &str, found: &str, why: &str) {
        let hint = match why {
            "" => String::new(),
            why => format!("the engine says: {why}"),
        };
        let message = format!("{what} is expected to be {wanted}, and is {found}");
        self.add("T0201", place, message, hint);
    }

    fn refused(&mut self, case: &Case, why: &str) {
        match &case.expect.refused {
            Some(wanted) if why.contains(&wanted.value) => {}
            Some(wanted) => {
                let message = format!("the run was refused, without {:?} in the reason", wanted.value);
                self.add("T0201", wanted.place, message, the_reason(why));
            }
            None => {
                self.add(
                    "T0203",
                    case.place,
                    format!("the run was not started: {why}"),
                    String::new(),
                );
            }
        }
    }

    fn run(&mut self, expect: &Expect, run: &Run, took_ms: u64) {
        if let Some(wanted) = &expect.run
            && wanted.value != run.status.as_str()
        {
            self.differs(
                wanted.place,
                "the run",
                &wanted.value,
                run.status.as_str(),
                &run.reason,
            );
        }
        if let Some(wanted) = &expect.reason
            && !run.reason.contains(&wanted.value)
        {
            let message = format!("the run's reason has no {:?} in it", wanted.value);
            self.add("T0201", wanted.place, message, the_reason(&run.reason));
        }
        let took = catalogue::format_duration(took_ms);
        if let Some(wanted) = &expect.took_at_least_ms
            && took_ms < wanted.value
        {
            self.add("T0201", wanted.place, format!("the run took only {took}"), "");
        }
        if let Some(wanted) = &expect.took_at_most_ms
            && took_ms > wanted.value
        {
            self.add("T0201", wanted.place, format!("the run took {took}"), "");
        }
    }

    fn step(&mut self, wanted: &Wanted<ExpectStep>, run: &Run) {
        let (place, expected) = (wanted.place, &wanted.value);
        let Some(number) = run.step_number(&expected.name) else {
            let message = format!("step `{}` never came", expected.name);
            let hint = "what undoes a step, or tells of its failure, comes when that is called for";
            self.add("T0201", place, message, hint);
            return;
        };
        let state = &run.steps[usize::from(number)];
        let what = format!("step `{}`", expected.name);
        if let Some(status) = &expected.status
            && status != state.status.as_str()
        {
            self.differs(place, &what, status, state.status.as_str(), &state.reason);
        }
        if let Some(reason) = &expected.reason
            && !state.reason.contains(reason)
        {
            let message = format!("the reason of {what} has no {reason:?} in it");
            self.add("T0201", place, message, the_reason(&state.reason));
        }
        let tasks: Vec<TaskView<'_>> = run.tasks(number, 0).collect();
        if let Some(output) = &expected.output {
            // A step that is one task has that task's output.
            let text = match &state.output {
                Some(output) => Some(&**output),
                None if state.is_call() && tasks.len() == 1 => tasks[0].output(),
                None => None,
            };
            self.value(place, &format!("the output of {what}"), output, &parsed(text));
        }
        if let Some(count) = expected.tasks
            && count != tasks.len() as u64
        {
            let (wanted, found) = (count.to_string(), tasks.len().to_string());
            self.differs(
                place,
                &format!("the number of tasks of {what}"),
                &wanted,
                &found,
                &state.reason,
            );
        }
        for (host, wanted) in &expected.hosts {
            let of_it = tasks
                .iter()
                .find(|task| task.agent.is_some_and(|agent| agent.as_str() == host));
            self.task(wanted.place, &format!("{what} on {host}"), &wanted.value, of_it);
        }
        for wanted in &expected.items {
            let (item, expected) = &wanted.value;
            let of_it = tasks.iter().find(|task| holds(item, &parsed(task.item_json())));
            self.task(
                wanted.place,
                &format!("{what} for {}", shown(item)),
                expected,
                of_it,
            );
        }
    }

    fn task(&mut self, place: Place, what: &str, expected: &ExpectTask, task: Option<&TaskView<'_>>) {
        let Some(task) = task else {
            self.add("T0201", place, format!("{what} has no task"), "");
            return;
        };
        let why = task.error().map_or(String::new(), |error| {
            format!("{}: {}", error.code, error.message)
        });
        if let Some(status) = &expected.status
            && status != task.status()
        {
            self.differs(place, what, status, task.status(), &why);
        }
        if let Some(code) = &expected.error {
            let found = task.error().map_or("none", |error| error.code.as_str());
            if code != found {
                self.differs(place, &format!("the error of {what}"), code, found, &why);
            }
        }
        if let Some(attempts) = expected.attempts
            && attempts != u64::from(task.attempts())
        {
            let (wanted, found) = (attempts.to_string(), task.attempts().to_string());
            self.differs(
                place,
                &format!("the number of attempts of {what}"),
                &wanted,
                &found,
                &why,
            );
        }
        if let Some(output) = &expected.output {
            self.value(
                place,
                &format!("the output of {what}"),
                output,
                &parsed(task.output()),
            );
        }
    }

    fn approval(&mut self, wanted: &Wanted<ExpectApproval>, run: &Run, world: &World<'_>) {
        let (place, expected) = (wanted.place, &wanted.value);
        let of_it = |approval: &&Approval| {
            approval.run == run.id && run.declared(approval.step).name == expected.step
        };
        let all: Vec<&Approval> = world.state.approvals_newest_first().filter(of_it).collect();
        let what = format!("the approval of step `{}`", expected.step);
        if let Some(times) = expected.times
            && times != all.len() as u64
        {
            let (wanted, found) = (times.to_string(), all.len().to_string());
            self.differs(
                place,
                &format!("the number of requests for {what}"),
                &wanted,
                &found,
                "",
            );
        }
        let Some(newest) = all.first() else {
            if expected.times != Some(0) {
                self.add("T0201", place, format!("{what} was never asked for"), "");
            }
            return;
        };
        let said: Vec<String> = newest
            .answers
            .iter()
            .map(|answer| format!("{}: {}", answer.operator, answer.reason))
            .collect();
        let mut differs = |of: &str, wanted: &str, found: &str| {
            if wanted != found {
                let why = format!("it asked for {} of {}", newest.quorum, newest.roles.join(", "));
                let why = match said.is_empty() {
                    true => why,
                    false => format!("{why}, and was told {}", said.join("; ")),
                };
                self.differs(place, &format!("{of}{what}"), wanted, found, &why);
            }
        };
        if let Some(status) = &expected.status {
            differs("", status, newest.status.as_str());
        }
        if let Some(escalated) = expected.escalated {
            let word = |escalated| if escalated { "with" } else { "without" };
            differs("the escalation of ", word(escalated), word(newest.escalated));
        }
        if let Some(quorum) = expected.quorum {
            differs("the quorum of ", &quorum.to_string(), &newest.quorum.to_string());
        }
        if let Some(hosts) = &expected.hosts {
            let list = |mut hosts: Vec<String>| {
                hosts.sort();
                format!("[{}]", hosts.join(", "))
            };
            let found = newest
                .each_item()
                .filter_map(|item| run.agent_of(newest.step, item));
            let found = found.map(ToString::to_string).collect();
            differs("the hosts of ", &list(hosts.clone()), &list(found));
        }
    }

    fn outputs(&mut self, expect: &Expect, run: &Run) {
        let none = Value::Null;
        let outputs = run.outputs.as_deref().unwrap_or(&none);
        for (name, wanted) in &expect.outputs {
            let found = outputs.get(name).unwrap_or(&none);
            self.value(
                wanted.place,
                &format!("the output `{name}`"),
                &wanted.value,
                found,
            );
        }
        if let Some(wanted) = &expect.outputs_exact {
            let (whole, place) = (Value::Object(wanted.value.clone()), wanted.place);
            if !(holds(&whole, outputs) && holds(outputs, &whole)) {
                let (wanted, found) = (shown(&whole), shown(outputs));
                self.differs(place, "all that the run gives", &wanted, &found, "");
            }
        }
    }

    fn value(&mut self, place: Place, what: &str, wanted: &Value, found: &Value) {
        if !holds(wanted, found) {
            self.differs(place, what, &shown(wanted), &shown(found), "");
        }
    }

    fn order(&mut self, expect: &Expect, run: &Run, began: &[u16]) {
        let Some(wanted) = &expect.order else { return };
        let mut last: Option<(usize, &str)> = None;
        for name in &wanted.value {
            let at = run
                .step_number(name)
                .and_then(|number| began.iter().position(|begun| *begun == number));
            match (at, last) {
                (None, _) => self.add("T0201", wanted.place, format!("step `{name}` never began"), ""),
                (Some(at), Some((before, other))) if at < before => {
                    let message = format!("step `{name}` began before `{other}`");
                    self.add("T0201", wanted.place, message, "");
                }
                (Some(at), _) => last = Some((at, name)),
            }
        }
    }

    fn asked(&mut self, wanted: &Wanted<ExpectAsked>, all: &[Asked]) {
        let expected = &wanted.value;
        let of_it = |asked: &&Asked| {
            let same = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|w| w == found);
            same(&expected.step, &asked.step)
                && same(&expected.action, &asked.action)
                && same(&expected.host, asked.host.as_deref().unwrap_or_default())
                && expected
                    .item
                    .as_ref()
                    .is_none_or(|wanted| asked.item.as_ref().is_some_and(|item| holds(wanted, item)))
        };
        let with = |asked: &&Asked| {
            expected
                .with
                .as_ref()
                .is_none_or(|wanted| holds(wanted, &asked.parameters))
        };
        let asked: Vec<&Asked> = all.iter().filter(of_it).collect();
        let found = asked.iter().copied().filter(with).count() as u64;
        if enough(expected.times, found) {
            return;
        }
        let name = expected
            .step
            .as_deref()
            .or(expected.action.as_deref())
            .unwrap_or_default();
        let place = match &expected.host {
            Some(host) => format!(" on {host}"),
            None => String::new(),
        };
        let hint = match (asked.first(), &expected.with) {
            (Some(first), Some(_)) => {
                let times = asked.len();
                format!(
                    "with any parameters {times} times, first with {}",
                    shown(&first.parameters)
                )
            }
            _ => String::new(),
        };
        let message = format!(
            "`{name}` is expected to be asked for{place} {}, and was {found} times",
            how_often(expected.times)
        );
        self.add("T0201", wanted.place, message, hint);
    }

    fn notified(&mut self, wanted: &Wanted<ExpectNotified>, all: &[Asked]) {
        let expected = &wanted.value;
        let told = all.iter().filter(|asked| asked.action == NOTIFY);
        let text = |asked: &Asked, name: &str| asked.parameters[name].as_str().unwrap_or_default().to_owned();
        let of_it = |asked: &&Asked| {
            expected.to.as_ref().is_none_or(|to| *to == text(asked, "to"))
                && expected
                    .severity
                    .as_ref()
                    .is_none_or(|wanted| *wanted == text(asked, "severity"))
                && expected
                    .text
                    .as_ref()
                    .is_none_or(|wanted| text(asked, "text").contains(wanted))
        };
        let found = told.clone().filter(of_it).count() as u64;
        if enough(expected.times, found) {
            return;
        }
        let all: Vec<String> = told
            .take(5)
            .map(|asked| format!("{}: {:?}", text(asked, "to"), text(asked, "text")))
            .collect();
        let hint = match all.len() {
            0 => "nobody was told anything".to_owned(),
            _ => format!("told were {}", all.join("; ")),
        };
        let message = format!(
            "such a message is expected {}, and was sent {found} times",
            how_often(expected.times)
        );
        self.add("T0201", wanted.place, message, hint);
    }
}

fn the_reason(why: &str) -> String {
    match why {
        "" => "there is no reason".to_owned(),
        why => format!("the reason is: {why}"),
    }
}

fn enough(times: Option<u64>, found: u64) -> bool {
    times.map_or(found > 0, |times| times == found)
}

fn how_often(times: Option<u64>) -> String {
    match times {
        None => "at least once".to_owned(),
        Some(times) => format!("{times} times"),
    }
}

fn shown(value: &Value) -> String {
    let text = playbook::canonical::canonical_json(value);
    match text.char_indices().nth(SHOWN_MAX) {
        None => text,
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}
