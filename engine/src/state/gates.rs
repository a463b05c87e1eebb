//! Approval requests are put, answered, escalated, and end. Whatever ends one ends or lets go what waits for it in
//! the same apply, so no task waits for people whom nobody asks.
//!
//! A task that is denied fails with the code `denied`, one for which nobody answered in time with
//! `approval_expired`: both as any failure, so `fail_when` and `on_failure` say what follows. They are not retried.

use std::collections::BTreeSet;
use std::sync::Arc;

use playbook::canonical::canonical_json;
use playbook::manifest::OnExpiry;
use serde_json::json;

use crate::command::{Actor, GiveAnswer, Said};
use crate::effect::Reply;
use crate::error::{AnswerRefusal, Refusal};
use crate::hash::Bound;
use crate::id::{ApprovalId, Digest};
use crate::limits::{APPROVAL_MS_MAX, MESSAGE_BYTES_MAX};
use crate::plan::gate::{why_two, why_two_of_run};
use crate::plan::is_critical;
use crate::state::approvals::{Answer, Approval, ApprovalStatus, Question, push_item};
use crate::state::audit::TaskEvent;
use crate::state::enrolment::{not_found, within};
use crate::state::life::error;
use crate::state::outbox::Around;
use crate::state::runs::Run;
use crate::state::steps::StepStatus;
use crate::state::tasks::TaskStatus;
use crate::state::timers::Timer;
use crate::state::{State, Turn};

/// Of a person's reason, in the error of each task that was denied: characters.
const REASON_SHOWN: usize = 200;

impl State {
    /// A person answers.
    pub(super) fn answer(&mut self, given: &GiveAnswer, turn: &mut Turn<'_>) -> Result<Reply, Refusal> {
        let Actor::Operator(operator) = turn.actor else {
            return Err(Refusal::Invalid("only people answer".into()));
        };
        let id = given.approval;
        let known = |approval: Option<&Approval>| {
            approval
                .map(|approval| (approval.run, approval.expires_at, approval.status))
                .ok_or_else(|| not_found("approval", &id.to_string()))
        };
        let (run, expires_at, status) = known(self.approvals.get(id))?;
        // Its time may be over before the leader's clock has said so.
        if !status.is_end() && expires_at <= self.now {
            self.approval_is_due(id, turn);
        }
        let role = self.may_answer(operator, given)?;
        let answer = Answer {
            operator: operator.clone(),
            role,
            yes: given.said != Said::Deny,
            reason: given.reason.clone(),
            at: self.now,
        };
        self.with_run(run, turn, |run, around| {
            run.take_answer(id, answer, &given.said, around);
            run.touch(around);
        });
        Ok(Reply::Done)
    }

    /// The role by which an operator may give this answer, or why he may not.
    fn may_answer(&self, operator: &str, given: &GiveAnswer) -> Result<String, Refusal> {
        let id = given.approval;
        let approval = self
            .approvals
            .get(id)
            .ok_or_else(|| not_found("approval", &id.to_string()))?;
        let (number, operator) = (id.0, operator.to_owned());
        if approval.status.is_end() {
            let status = approval.status.as_str().to_owned();
            return Err(AnswerRefusal::Late { id: number, status }.into());
        }
        let Some(role) = self.roles.first_held(&operator, &approval.roles) else {
            let roles = approval.roles.join(" or ");
            return Err(AnswerRefusal::Foreign {
                id: number,
                operator,
                roles,
            }
            .into());
        };
        if approval.barred.as_ref() == Some(&operator) {
            return Err(AnswerRefusal::Requester { id: number, operator }.into());
        }
        if approval.answers.iter().any(|answer| answer.operator == operator) {
            return Err(AnswerRefusal::Repeated { id: number, operator }.into());
        }
        if given.reason.trim().is_empty() {
            return Err(AnswerRefusal::Unreasoned.into());
        }
        within("bytes of the reason", given.reason.len(), MESSAGE_BYTES_MAX)?;
        let what = match (&given.said, &approval.question) {
            (Said::Approve, Some(_)) => "a question, which is answered with its fields",
            (Said::Fill(_), None) => "no question: it is approved or denied",
            _ => "",
        };
        if !what.is_empty() {
            let what = what.to_owned();
            return Err(AnswerRefusal::Kind { id: number, what }.into());
        }
        if approval.binding != given.binding {
            return Err(AnswerRefusal::Changed { id: number }.into());
        }
        if let (Said::Fill(output), Some(run)) = (&given.said, self.runs.get(&approval.run)) {
            run.check_form(approval.step, output)?;
        }
        Ok(role.to_owned())
    }

    /// An approval request ran out of time: more people are asked, or it ends.
    pub(super) fn approval_is_due(&mut self, id: ApprovalId, turn: &mut Turn<'_>) {
        let Some(run) = self.approvals.get(id).map(|approval| approval.run) else {
            return;
        };
        self.with_run(run, turn, |run, around| {
            run.approval_is_due(id, around);
            run.touch(around);
        });
    }

    /// An operator lost a role: what he said by it, where others are still waited for, does not count.
    pub(super) fn forget_answers(&mut self, operator: &str, role: &str, turn: &mut Turn<'_>) {
        let waiting: Vec<_> = self
            .approvals
            .iter()
            .filter(|approval| !approval.status.is_end())
            .filter(|a| {
                a.answers
                    .iter()
                    .any(|answer| answer.operator == operator && answer.role == role)
            })
            .map(|approval| (approval.id, approval.run))
            .collect();
        for (id, run) in waiting {
            let roles = &self.roles;
            if let Some(approval) = self.approvals.get_mut(id) {
                let other = roles.first_held(operator, &approval.roles);
                approval.answers.retain_mut(|answer| match other {
                    _ if answer.operator != operator => true,
                    Some(other) => {
                        other.clone_into(&mut answer.role);
                        true
                    }
                    None => false,
                });
                if other.is_none() {
                    let detail = json!({"approval": id, "operator": operator, "why": "the role was revoked"});
                    turn.events.note("approval.void", run, detail);
                }
            }
            self.with_run(run, turn, |run, around| {
                around.out.approvals = true;
                run.touch(around);
            });
        }
    }
}

impl Run {
    /// Once all tasks of a group are there, people are asked about those that its gate holds back.
    pub(super) fn ask_approval(&mut self, step: u16, around: &mut Around<'_>) {
        let state = &self.steps[usize::from(step)];
        if state.counts.gated == 0
            || state.stopped
            || !self.is_group_whole(step)
            || !around.approvals.waiting_ids(self.id, step).is_empty()
        {
            return;
        }
        let Some(gate) = self.declared(step).gate.clone() else {
            return;
        };
        let mut items = Vec::new();
        for (item, task) in state.tasks.iter().enumerate() {
            if task.status == TaskStatus::Gated {
                push_item(&mut items, item as u32);
            }
        }
        let mut note = state.gate_problem.clone();
        let mut quorum = gate.quorum;
        if let Some(why) = self.needs_two(step, &items, around).filter(|_| quorum < 2) {
            quorum = 2;
            note = if note.is_empty() {
                why
            } else {
                format!("{note}; {why}")
            };
        }
        let barred = gate.not_requester.then(|| self.asked_by(step).to_owned());
        self.put(
            step,
            items,
            None,
            (gate.roles, quorum, barred, gate.expires_ms),
            note,
            around,
        );
    }

    pub(super) fn put(
        &mut self,
        step: u16,
        items: Vec<(u32, u32)>,
        question: Option<Question>,
        (roles, quorum, barred, expires_ms): (Vec<String>, u32, Option<String>, u64),
        note: String,
        around: &mut Around<'_>,
    ) {
        for item in items.iter().flat_map(|&(first, last)| first..=last) {
            around.events.push(self.id, step, item, TaskEvent::Gate);
        }
        let id = around.approvals.next_id();
        let binding = self.binding(step, &items, question.as_ref());
        let expires_at = around.now.plus_ms(expires_ms);
        let detail = json!({
            "approval": id, "step": self.declared(step).name, "items": items, "roles": roles, "quorum": quorum,
            "expires_at_ms": expires_at.0, "binding": binding, "note": note,
        });
        around.events.note("approval.ask", self.id, detail);
        around.timers.change(Timer::Approval(id), None, Some(expires_at));
        around.out.approvals = true;
        around.approvals.insert(Approval {
            id,
            run: self.id,
            step,
            items,
            binding,
            roles,
            quorum,
            barred,
            created_at: around.now,
            expires_at,
            escalated: false,
            status: ApprovalStatus::Waiting,
            ended_at: None,
            note,
            question,
            answers: Vec::new(),
        });
    }

    /// Why one person alone may not let these tasks go (R25); None: one may.
    fn needs_two(&self, step: u16, items: &[(u32, u32)], around: &Around<'_>) -> Option<String> {
        let impact = self.steps[usize::from(step)].shared.as_ref()?.impact;
        let each = items.iter().flat_map(|&(first, last)| first..=last);
        if self.begins_run(step) {
            return why_two_of_run(impact);
        }
        let hosts: BTreeSet<_> = each.filter_map(|item| self.agent_of(step, item)).collect();
        // Of runs that are begun alike each is asked about by itself, and together they are what they are.
        let alike = self.parent.map_or(1, |parent| parent.alike as usize);
        let count = hosts
            .len()
            .saturating_mul(alike)
            .min(hosts.len().max(around.agents.len()));
        why_two(impact, count, around.agents.len(), || {
            hosts
                .iter()
                .filter_map(|id| around.agents.get(id))
                .any(|agent| is_critical(&agent.labels))
        })
    }

    /// A hash over everything that an approval is for.
    fn binding(&self, step: u16, items: &[(u32, u32)], question: Option<&Question>) -> Digest {
        let mut hash = match &self.plan_hash {
            Some(plan) => {
                let mut hash = Bound::new("cordon approval 2");
                hash.text(&self.id.to_string());
                hash.text(&plan.to_string());
                hash
            }
            None => self.unplanned_binding(),
        };
        hash.text(&self.declared(step).name);
        if let Some(question) = question {
            hash.text(&question.text);
            hash.text(&question.defaults);
        }
        let shared = self.steps[usize::from(step)].shared.as_ref();
        for item in items.iter().flat_map(|&(first, last)| first..=last) {
            let task = self.task(step, item);
            let parameters = task
                .parameters
                .as_ref()
                .or(shared.and_then(|s| s.parameters.as_ref()));
            hash.number(u64::from(item));
            hash.text(self.agent_of(step, item).map_or("", |agent| agent.as_str()));
            hash.text(task.item.as_deref().unwrap_or(""));
            hash.text(parameters.map_or("", |text| &**text));
        }
        hash.finish()
    }

    /// Of a run that was started before there were plan hashes: everything that a plan hash would name.
    fn unplanned_binding(&self) -> Bound {
        let mut hash = Bound::new("cordon approval 1");
        hash.text(&self.id.to_string());
        hash.text(&self.manifest_hash.to_string());
        hash.text(&canonical_json(&self.inputs));
        hash.text(&canonical_json(&self.config));
        hash.number(self.targets.len() as u64);
        for (name, hosts) in &self.targets {
            hash.text(name);
            hash.number(hosts.len() as u64);
            hosts.iter().for_each(|host| hash.text(host.as_str()));
        }
        hash
    }

    fn take_answer(&mut self, id: ApprovalId, answer: Answer, said: &Said, around: &mut Around<'_>) {
        let Some(approval) = around.approvals.get_mut(id) else {
            return;
        };
        let verb = match said {
            Said::Approve => "approval.approve",
            Said::Deny => "approval.deny",
            Said::Fill(_) => "approval.answer",
        };
        let mut detail = json!({
            "approval": id, "role": answer.role, "reason": answer.reason, "binding": approval.binding,
        });
        if let Said::Fill(output) = said {
            detail["answer"] = output.clone();
        }
        let no = (!answer.yes).then(|| {
            let reason: String = answer.reason.chars().take(REASON_SHOWN).collect();
            format!("by {}: {reason}", answer.operator)
        });
        approval.answers.push(answer);
        let (step, missing) = (approval.step, approval.missing());
        around.events.note(verb, self.id, detail);
        around.out.approvals = true;
        match (said, no) {
            (Said::Fill(output), _) => {
                let output: Arc<str> = canonical_json(output).into();
                self.end_approval(id, ApprovalStatus::Answered, around);
                self.end_question(step, StepStatus::Succeeded, "", Some(output), around);
            }
            (_, Some(why)) => self.end_unapproved(id, ApprovalStatus::Denied, "denied", &why, around),
            (_, None) if missing == 0 => {
                for item in self.end_approval(id, ApprovalStatus::Approved, around) {
                    self.release(step, item, around);
                }
            }
            (_, None) => {}
        }
    }

    fn approval_is_due(&mut self, id: ApprovalId, around: &mut Around<'_>) {
        let Some(approval) = around.approvals.get_mut(id).filter(|a| !a.status.is_end()) else {
            return;
        };
        let gate = self
            .declared(approval.step)
            .gate
            .as_ref()
            .filter(|_| approval.question.is_none());
        match gate {
            Some(gate) if gate.on_expiry == OnExpiry::Escalate && !approval.escalated => {
                let before = approval.expires_at;
                approval.escalated = true;
                approval.expires_at = around.now.plus_ms(gate.expires_ms);
                for role in &gate.escalate_to {
                    if !approval.roles.contains(role) {
                        approval.roles.push(role.clone());
                    }
                }
                let detail = json!({
                    "approval": id, "roles": approval.roles, "expires_at_ms": approval.expires_at.0,
                });
                around
                    .timers
                    .change(Timer::Approval(id), Some(before), Some(approval.expires_at));
                around.events.note("approval.escalate", self.id, detail);
                around.out.approvals = true;
            }
            _ => {
                let why = match approval.question {
                    Some(_) => "nobody answered in time".to_owned(),
                    None => format!(
                        "{} of {} approvals were missing when its time was over",
                        approval.missing(),
                        approval.quorum
                    ),
                };
                self.end_unapproved(id, ApprovalStatus::Expired, "approval_expired", &why, around);
            }
        }
    }

    /// What waited for it fails.
    fn end_unapproved(
        &mut self,
        id: ApprovalId,
        status: ApprovalStatus,
        code: &str,
        why: &str,
        around: &mut Around<'_>,
    ) {
        let Some(approval) = around.approvals.get(id) else {
            return;
        };
        let (step, is_question) = (approval.step, approval.question.is_some());
        for item in self.end_approval(id, status, around) {
            self.end(step, item, TaskStatus::Failed, Some(error(code, why)), around);
        }
        if is_question {
            let word = if status == ApprovalStatus::Expired {
                "expired"
            } else {
                code
            };
            self.end_question(step, StepStatus::Failed, &format!("{word}: {why}"), None, around);
        }
    }

    /// Nobody is asked any more; the items that waited.
    pub(super) fn end_approval(
        &mut self,
        id: ApprovalId,
        status: ApprovalStatus,
        around: &mut Around<'_>,
    ) -> Vec<u32> {
        let Some(approval) = around.approvals.get(id) else {
            return Vec::new();
        };
        let items = approval.each_item().collect();
        around
            .timers
            .change(Timer::Approval(id), Some(approval.expires_at), None);
        let detail = json!({
            "approval": id, "step": self.declared(approval.step).name, "status": status.as_str(),
        });
        around.events.note("approval.end", self.id, detail);
        around.out.approvals = true;
        around.approvals.close(id, status, around.now);
        items
    }

    /// A task that waited for people waits for its host: from here its time counts.
    fn release(&mut self, step: u16, item: u32, around: &mut Around<'_>) {
        self.steps[usize::from(step)].set_status(item, TaskStatus::Waiting);
        let now = around.now;
        let task = self.task_mut(step, item);
        task.opened_at = now;
        task.queued_at = now;
        let agent = around.agents.get_of(self, step, item);
        if self.steps[usize::from(step)].is_call() || agent.is_some_and(|agent| agent.is_online()) {
            self.steps[usize::from(step)].ready.insert(item);
        }
        self.set_wake(step, item, around);
        around.events.push(self.id, step, item, TaskEvent::Release);
    }

    /// A task ended while it waited for people. Others that wait with it are asked about again.
    pub(super) fn left_gate(&mut self, step: u16, item: u32, around: &mut Around<'_>) {
        for id in around.approvals.waiting_ids(self.id, step) {
            let Some(approval) = around
                .approvals
                .get(id)
                .filter(|a| a.items.iter().any(|&(a, b)| (a..=b).contains(&item)))
            else {
                continue;
            };
            let mut items = Vec::new();
            for other in approval.each_item().filter(|&other| other != item) {
                push_item(&mut items, other);
            }
            if items.is_empty() {
                self.end_approval(id, ApprovalStatus::Cancelled, around);
                continue;
            }
            let binding = self.binding(step, &items, None);
            if let Some(approval) = around.approvals.get_mut(id) {
                approval.items = items;
                approval.binding = binding;
                let void: Vec<String> = approval.answers.drain(..).map(|answer| answer.operator).collect();
                let detail = json!({"approval": id, "operators": void, "binding": binding, "why": "what it is for has changed"});
                around.events.note("approval.void", self.id, detail);
                around.out.approvals = true;
            }
        }
    }

    /// The step wants no more: nobody is asked any more. A question ends with it.
    pub(super) fn drop_approvals(&mut self, step: u16, reason: &str, around: &mut Around<'_>) {
        for id in around.approvals.waiting_ids(self.id, step) {
            self.end_approval(id, ApprovalStatus::Cancelled, around);
        }
        if self.is_question(step) && self.steps[usize::from(step)].status == StepStatus::Running {
            self.end_question(step, StepStatus::Cancelled, reason, None, around);
        }
    }
}

/// How long a playbook lets an approval wait, if that is too long.
pub(super) fn check_expiry(manifest: &playbook::manifest::Manifest) -> Result<(), Refusal> {
    for step in manifest.steps.iter().chain(&manifest.finally) {
        if let Some(gate) = &step.gate {
            let what = format!("ms of `expires` of the gate of step {}", step.name);
            within(&what, gate.expires_ms as usize, APPROVAL_MS_MAX as usize)?;
        }
    }
    Ok(())
}
