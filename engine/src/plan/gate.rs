//! Whom a plan will meet: the people that a gate, or a question, waits for.

use playbook::eval::{Scope, as_written};
use playbook::manifest::{Gate, Kind, OnExpiry, Over, Step};

use super::ground::Ground;
use super::is_critical;
use crate::id::AgentId;
use crate::limits::{CRITICAL_LABEL, FLEET_PERCENT_MAX};
use crate::planner::{Sources, absent_labels_are_null, target_value};

/// People who will be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedGate {
    /// A form to fill in (`ask`), not an approval.
    pub is_question: bool,
    /// For which tasks they are asked, as it was written; None: for all.
    pub when: Option<String>,
    /// How many tasks wait as things are; None: only the run can tell.
    pub waits: Option<usize>,
    /// Of how many, at most; None: only the run can tell.
    pub of: Option<usize>,
    /// Who may answer: whoever holds one of these roles.
    pub roles: Vec<String>,
    /// How many different people must, with what the rule for critical hosts and large shares adds as things are.
    pub quorum: u32,
    /// Why more than the playbook asks for.
    pub why: Option<String>,
    /// How long they have.
    pub expires_ms: u64,
    /// What then.
    pub on_expiry: OnExpiry,
    /// The roles that are asked then as well.
    pub escalate_to: Vec<String>,
    /// Who starts the run may not answer.
    pub not_requester: bool,
    /// The operators who can answer as things are, in order.
    pub people: Vec<String>,
    /// The operators who can besides, once others are asked.
    pub people_later: Vec<String>,
}

impl PlannedGate {
    /// What a plan warns of; None: enough people can answer.
    pub(super) fn warning(&self, step: &str) -> Option<String> {
        let (needed, known) = (self.quorum as usize, self.people.len());
        if known >= needed {
            return None;
        }
        let roles = self.roles.join(" or ");
        let who = match (known, self.not_requester) {
            (0, true) => "nobody besides the requester holds it".to_owned(),
            (0, false) => "nobody holds it".to_owned(),
            (_, _) => format!("only {} can answer", self.people.join(", ")),
        };
        let later = match known + self.people_later.len() >= needed {
            true => format!(
                " (when its time is over {} can as well)",
                self.people_later.join(", ")
            ),
            false => String::new(),
        };
        let what = match self.is_question {
            true => "the question",
            false => "the gate",
        };
        Some(format!(
            "{what} of step {step} needs {needed} with the role {roles}, and {who}{later}: `cordon role grant` gives a role"
        ))
    }
}

/// The people of a gate. `hosts`: of the step's set.
pub(super) fn of_gate(
    declared: &Step,
    gate: &Gate,
    impact: catalogue::Impact,
    hosts: &[AgentId],
    scope: &Scope<'_>,
    ground: &Ground,
    requester: &str,
) -> PlannedGate {
    let waiting = waiting(declared, gate, hosts, scope, ground);
    let two = {
        // Where only the run can tell who waits, all may.
        let all;
        let hosts = match &waiting {
            Some(Waiting::Hosts(hosts)) => hosts,
            _ => {
                all = hosts.iter().collect::<Vec<_>>();
                &all
            }
        };
        match declared.kind {
            Kind::Playbook { .. } => why_two_of_run(impact),
            _ => why_two(impact, hosts.len(), ground.fleet, || {
                hosts
                    .iter()
                    .filter_map(|host| ground.labels(host))
                    .any(is_critical)
            }),
        }
        .filter(|_| gate.quorum < 2)
        .filter(|_| waiting.as_ref().is_none_or(|waiting| waiting.count() > 0))
    };
    let barred = gate.not_requester.then_some(requester);
    let people = ground.roles.holders(&gate.roles, barred);
    let mut people_later = ground.roles.holders(&gate.escalate_to, barred);
    people_later.retain(|operator| !people.contains(operator));
    PlannedGate {
        is_question: false,
        when: gate.when.as_ref().map(as_written),
        waits: waiting.as_ref().map(Waiting::count),
        of: match &declared.over {
            Over::Targets(_) => Some(hosts.len()),
            Over::Once => Some(1),
            Over::ForEach { .. } => None,
        },
        roles: gate.roles.clone(),
        quorum: if two.is_some() { 2 } else { gate.quorum },
        why: two,
        expires_ms: gate.expires_ms,
        on_expiry: gate.on_expiry,
        escalate_to: gate.escalate_to.clone(),
        not_requester: gate.not_requester,
        people,
        people_later,
    }
}

/// The people of a question.
pub(super) fn of_question(roles: &[String], expires_ms: u64, ground: &Ground) -> PlannedGate {
    PlannedGate {
        is_question: true,
        when: None,
        waits: Some(1),
        of: Some(1),
        roles: roles.to_vec(),
        quorum: 1,
        why: None,
        expires_ms,
        on_expiry: OnExpiry::Reject,
        escalate_to: Vec::new(),
        not_requester: false,
        people: ground.roles.holders(roles, None),
        people_later: Vec::new(),
    }
}

/// The tasks that wait as things are.
enum Waiting<'a> {
    Hosts(Vec<&'a AgentId>),
    Call(bool),
}

impl Waiting<'_> {
    fn count(&self) -> usize {
        match self {
            Waiting::Hosts(hosts) => hosts.len(),
            Waiting::Call(waits) => usize::from(*waits),
        }
    }
}

/// None: only the run can tell. As in a run, a task for which the condition cannot be evaluated waits.
fn waiting<'a>(
    declared: &Step,
    gate: &Gate,
    hosts: &'a [AgentId],
    scope: &Scope<'_>,
    ground: &Ground,
) -> Option<Waiting<'a>> {
    match (&declared.over, &gate.when) {
        (Over::ForEach { .. }, _) => None,
        (Over::Once, None) => Some(Waiting::Call(true)),
        (Over::Once, Some(when)) => scope
            .knows(when)
            .then(|| Waiting::Call(scope.test(when).unwrap_or(true))),
        (Over::Targets(_), None) => Some(Waiting::Hosts(hosts.iter().collect())),
        (Over::Targets(_), Some(when)) => {
            let sources = Sources::of([when]);
            let waits = |host: &&AgentId| {
                let known = ground.get(host);
                let mut target = target_value(
                    host,
                    known.map(|known| &known.labels),
                    known.map(|known| &*known.facts),
                    &sources,
                );
                absent_labels_are_null(when, &sources, &mut target);
                let mut scope = scope.child();
                scope.bind("target", &target);
                scope.test(when).unwrap_or(true)
            };
            let mut known = scope.child();
            known.bind("target", &serde_json::Value::Null);
            known
                .knows(when)
                .then(|| Waiting::Hosts(hosts.iter().filter(waits).collect()))
        }
    }
}

/// Why one person alone may not let a step begin runs that do this at worst: on which hosts is not known before.
pub(crate) fn why_two_of_run(impact: catalogue::Impact) -> Option<String> {
    (impact > catalogue::Impact::Collect).then(|| {
        format!(
            "what it starts may be {}, on hosts that are not known yet, so two people must agree",
            impact.as_str()
        )
    })
}

/// Why one person alone may not let tasks go on so many different hosts (R25); None: one may.
pub(crate) fn why_two(
    impact: catalogue::Impact,
    hosts: usize,
    fleet: usize,
    any_critical: impl FnOnce() -> bool,
) -> Option<String> {
    if impact <= catalogue::Impact::Collect {
        return None;
    }
    if impact == catalogue::Impact::Destroy {
        return Some("what it does destroys, so two people must agree".into());
    }
    if any_critical() {
        let (name, value) = CRITICAL_LABEL;
        return Some(format!(
            "a host is labelled {name}={value}, so two people must agree"
        ));
    }
    (hosts > 1 && hosts * 100 > fleet * FLEET_PERCENT_MAX).then(|| {
        format!(
            "{hosts} of {fleet} hosts are more than {FLEET_PERCENT_MAX} % of the fleet, so two people must agree"
        )
    })
}
