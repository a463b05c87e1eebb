//! Questions: steps that ask people to fill in a form. Each waits as an approval request does, and ends with its answer,
//! a no, or its time.

use std::collections::BTreeSet;
use std::sync::Arc;

use playbook::canonical::canonical_json;
use playbook::manifest::Kind;
use serde_json::{Value, json};

use crate::error::Refusal;
use crate::limits::OUTPUT_BYTES_MAX;
use crate::state::approvals::Question;
use crate::state::enrolment::within;
use crate::state::outbox::Around;
use crate::state::runs::{Run, RunStatus};
use crate::state::steps::StepStatus;

impl Run {
    /// A step asks people to fill in a form; false: it cannot (any more).
    pub(super) fn ask_question(
        &mut self,
        step: u16,
        text: &str,
        defaults: &Arc<str>,
        around: &mut Around<'_>,
    ) -> bool {
        let over = self.failed || self.status != RunStatus::Running;
        let Kind::Ask {
            roles, expires_ms, ..
        } = self.declared(step).kind.clone()
        else {
            return false;
        };
        let state = &self.steps[usize::from(step)];
        if state.status != StepStatus::Waiting || (over && !self.is_finally(step)) {
            return false;
        }
        let state = &mut self.steps[usize::from(step)];
        state.status = StepStatus::Running;
        state.started_at = Some(around.now);
        let question = Question {
            text: text.to_owned(),
            defaults: defaults.clone(),
        };
        self.put(
            step,
            Vec::new(),
            Some(question),
            (roles, 1, None, expires_ms),
            String::new(),
            around,
        );
        true
    }

    /// The end of a question's step.
    pub(super) fn end_question(
        &mut self,
        step: u16,
        status: StepStatus,
        reason: &str,
        output: Option<Arc<str>>,
        around: &mut Around<'_>,
    ) {
        if self.close(step, status, reason, output, around) {
            let name = &self.declared(step).name;
            let detail = json!({"step": name, "status": status.as_str(), "reason": reason});
            around.events.note("step.end", self.id, detail);
        }
    }

    /// The run has failed: nothing will follow from what is still asked.
    pub(super) fn drop_questions(&mut self, around: &mut Around<'_>) {
        for step in 0..self.manifest.steps.len() as u16 {
            if self.is_question(step) {
                self.drop_approvals(step, "the run has failed", around);
            }
            self.stop_waiting(step, "the run has failed", around);
        }
    }

    /// The step is an `ask`.
    pub(crate) fn is_question(&self, step: u16) -> bool {
        matches!(self.declared(step).kind, Kind::Ask { .. })
    }

    /// The shape of what a form holds: the node that took it has checked the types.
    pub(super) fn check_form(&self, step: u16, output: &Value) -> Result<(), Refusal> {
        let Kind::Ask { form, .. } = &self.declared(step).kind else {
            return Err(Refusal::Invalid("the step asks nothing".into()));
        };
        let given = output
            .as_object()
            .map(|fields| fields.keys().collect::<BTreeSet<_>>());
        if given != Some(form.keys().collect()) {
            return Err(Refusal::Invalid(
                "an answer has every field of the form, and no other".into(),
            ));
        }
        within(
            "bytes of the answer",
            canonical_json(output).len(),
            OUTPUT_BYTES_MAX,
        )
    }
}
