//! People in a case: asked whenever the engine asks, they say what the test file has them say, and the engine judges
//! whether it counts.

use engine::command::{GiveAnswer, Said};
use engine::id::ApprovalId;
use engine::state::approvals::Approval;
use engine::{Actor, Command, Reply};
use playbook::Place;
use playbook::manifest::Kind;
use serde_json::Value;

use crate::suite::{Says, Word};
use crate::world::{Event, RUN, World};

/// Something that a person said or did and that did not go as the test file says.
pub(crate) struct Unheard {
    pub code: &'static str,
    pub place: Place,
    pub message: String,
}

impl World<'_> {
    /// Gives those who answer the roles by which they do.
    pub(crate) fn give_roles(&mut self) {
        for says in self.people.values().flatten() {
            self.must(
                Actor::Leader,
                Command::GrantRole {
                    operator: says.operator.clone(),
                    role: says.role.clone(),
                },
            );
        }
    }

    /// People hear of what is asked now and was not before.
    pub(crate) fn hear(&mut self) {
        let new: Vec<(ApprovalId, u16)> = self
            .state
            .approvals_waiting(RUN)
            .filter(|approval| !self.heard.contains(&approval.id))
            .map(|approval| (approval.id, approval.step))
            .collect();
        for (id, step) in new {
            self.heard.insert(id);
            let after: Vec<u64> = self.say(step).iter().map(|says| says.after_ms).collect();
            for (number, after_ms) in after.into_iter().enumerate() {
                self.at(self.elapsed_ms() + after_ms, Event::Says(id, number));
            }
        }
    }

    /// What people say to a step's requests.
    fn say(&self, step: u16) -> &[Says] {
        let step = self.subject().map(|run| run.declared(step).name.as_str());
        let people = self.people;
        step.and_then(|step| people.get(step)).map_or(&[], Vec::as_slice)
    }

    /// One person answers.
    pub(crate) fn answer(&mut self, id: ApprovalId, number: usize) {
        let Some(approval) = self.state.approval(id).cloned() else {
            return;
        };
        let Some(says) = self.say(approval.step).get(number).cloned() else {
            return;
        };
        self.used.insert(says.place);
        let why = match self.said(&approval, &says) {
            Err(why) => Some(why),
            Ok(said) => {
                let given = GiveAnswer {
                    approval: id,
                    binding: approval.binding,
                    said,
                    reason: says.reason.clone(),
                };
                let actor = Actor::Operator(says.operator.clone());
                match self.apply(actor, Command::Answer(Box::new(given))) {
                    Reply::Refused(why) => Some(why.to_string()),
                    _ => None,
                }
            }
        };
        let what = format!("the answer of {}", says.operator);
        self.heed(says.place, &what, says.refused.as_deref(), why);
    }

    /// Compares what was refused of what a person did with what the test file expects.
    pub(crate) fn heed(&mut self, place: Place, what: &str, wanted: Option<&str>, why: Option<String>) {
        let message = match (wanted, why) {
            (None, None) => return,
            (Some(wanted), Some(why)) if why.contains(wanted) => return,
            (Some(wanted), Some(why)) => {
                format!("{what} was refused, without {wanted:?} in the reason: {why}")
            }
            (Some(_), None) => format!("{what} was expected to be refused, and was taken"),
            (None, Some(why)) => format!("{what} was refused: {why}"),
        };
        self.unheard.push(Unheard {
            code: "T0206",
            place,
            message,
        });
    }

    /// What the person says, a form filled up as the node that takes it does.
    fn said(&self, approval: &Approval, says: &Says) -> Result<Said, String> {
        let fields = match &says.word {
            Word::Approve => return Ok(Said::Approve),
            Word::Deny => return Ok(Said::Deny),
            Word::Fill(fields) => fields,
        };
        let step = self.subject().map(|run| &run.declared(approval.step).kind);
        let (Some(Kind::Ask { form, .. }), Some(question)) = (step, &approval.question) else {
            return Err("it asks nothing that could be filled in".to_owned());
        };
        let defaults: Value =
            serde_json::from_str(&question.defaults).map_err(|error| format!("its defaults: {error}"))?;
        playbook::bind_form(form, &defaults, &Value::Object(fields.clone()))
            .map(Said::Fill)
            .map_err(|problems| {
                let all: Vec<String> = problems.list.into_iter().map(|problem| problem.message).collect();
                all.join("; ")
            })
    }
}
