//! What agents say of their attempts. Taken only from the task's agent, for its current attempt, with the
//! fencing token of the entry that assigned it; the first final word wins.

use crate::command::{Actor, CallEnded, OutcomeStatus, Report, ReportBody};
use crate::effect::Reply;
use crate::error::Refusal;
use crate::id::AttemptKey;
use crate::state::audit::TaskEvent;
use crate::state::outbox::Around;
use crate::state::runs::Run;
use crate::state::tasks::TaskStatus;
use crate::state::{State, Turn};

impl State {
    pub(super) fn reports(&mut self, reports: &[Report], turn: &mut Turn<'_>) -> Reply {
        let answers = reports
            .iter()
            .map(|report| {
                self.with_run(report.key.task.run, turn, |run, around| run.take(report, around))
                    .unwrap_or_else(|| Err("there is no such run".into()))
                    .err()
            })
            .collect();
        Reply::Reports(answers)
    }

    /// The same of calls, from the leader only.
    pub(super) fn calls_ended(&mut self, ended: &[CallEnded], turn: &mut Turn<'_>) -> Result<Reply, Refusal> {
        if *turn.actor != Actor::Leader {
            return Err(Refusal::Invalid("only the leader carries out calls".into()));
        }
        let answers = ended
            .iter()
            .map(|call| {
                if let Some(child) = self.child_of(&call.key) {
                    return Some(format!("run {}, which it began, says how it ends", child.id));
                }
                self.with_run(call.key.task.run, turn, |run, around| run.take_call(call, around))
                    .unwrap_or_else(|| Err("there is no such run".into()))
                    .err()
            })
            .collect();
        Ok(Reply::Reports(answers))
    }
}

impl Run {
    /// Takes a report, or says why it never will be.
    fn take(&mut self, report: &Report, around: &mut Around<'_>) -> Result<(), String> {
        let (step, item) = (report.key.task.step, report.key.task.item);
        if self.trimmed {
            return Err("the run is long over".into());
        }
        match self.agent_of(step, item) {
            None => Err("there is no such task".into()),
            Some(agent) if *agent != report.agent => Err("the task is another agent's".into()),
            Some(_) => self.take_word(&report.key, &report.body, around),
        }
    }

    fn take_call(&mut self, call: &CallEnded, around: &mut Around<'_>) -> Result<(), String> {
        let step = self.steps.get(usize::from(call.key.task.step));
        if self.trimmed
            || step.is_none_or(|step| !step.is_call() || step.tasks.len() <= call.key.task.item as usize)
            || self.undoes_runs(call.key.task.step)
        {
            return Err("there is no such call".into());
        }
        self.take_word(&call.key, &ReportBody::Ended(call.outcome.clone()), around)
    }

    fn take_word(
        &mut self,
        key: &AttemptKey,
        body: &ReportBody,
        around: &mut Around<'_>,
    ) -> Result<(), String> {
        let (step, item) = (key.task.step, key.task.item);
        let task = self.task(step, item);
        if (task.attempt, task.token) != (key.attempt, key.token) {
            return Err(format!("attempt {} is not the current one", key.attempt));
        }
        match (body, task.status) {
            (ReportBody::Started, TaskStatus::Assigned) => {
                self.start(step, item, around);
                self.touch(around);
                Ok(())
            }
            (ReportBody::Ended(outcome), TaskStatus::Assigned | TaskStatus::Started) => {
                self.conclude(step, item, outcome, around);
                self.touch(around);
                Ok(())
            }
            // It was taken before, and the acknowledgement was lost.
            (ReportBody::Started, TaskStatus::Started) => Ok(()),
            _ if task.reported => Ok(()),
            (body, _) => {
                let (status, late) = (task.status, task.late);
                if !late {
                    let said = match body {
                        ReportBody::Started => "started",
                        ReportBody::Ended(outcome) => said(outcome.status),
                    };
                    let attempt = key.attempt;
                    self.steps[usize::from(step)].tasks[item as usize].late = true;
                    around
                        .events
                        .push(self.id, step, item, TaskEvent::Late { attempt, said });
                }
                Err(if status.is_end() {
                    format!("the task is over: {}", status.as_str())
                } else {
                    format!("attempt {} is over", key.attempt)
                })
            }
        }
    }
}

fn said(status: OutcomeStatus) -> &'static str {
    match status {
        OutcomeStatus::Succeeded => "succeeded",
        OutcomeStatus::Failed => "failed",
        OutcomeStatus::Cancelled => "cancelled",
        OutcomeStatus::Unknown => "unknown",
    }
}
