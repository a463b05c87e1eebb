//! Why one task waits, or ended as it did.

use playbook::manifest::OnExpiry;

use super::Explainer;
use super::words::{ago, either, plural, shown, span, within};
use crate::limits::QUEUE_MS_DEFAULT;
use crate::state::Run;
use crate::state::approvals::Approval;
use crate::state::tasks::{Stop, Task, TaskStatus};

impl Explainer<'_> {
    /// Where a task runs, or what it is about.
    pub(super) fn place(&self, step: u16, item: u32) -> String {
        if let Some(agent) = self.run.agent_of(step, item) {
            return agent.to_string();
        }
        match self.run.task(step, item).item.as_deref() {
            Some(json) => match serde_json::from_str::<serde_json::Value>(json) {
                Ok(serde_json::Value::String(text)) => shown(&text),
                _ => shown(json),
            },
            None => "the call".to_owned(),
        }
    }

    /// What is the matter with a task: a clause that begins with where it is.
    pub(super) fn task(&self, step: u16, item: u32) -> String {
        let task = self.run.task(step, item);
        let place = self.place(step, item);
        let what = match task.status {
            TaskStatus::Waiting if self.run.paused_at.is_some() => format!("is held, for {}", self.paused()),
            TaskStatus::Waiting => self.waiting(step, item, task),
            TaskStatus::Gated => match self.approval_of(step, item) {
                Some(approval) => self.needs_approval(approval),
                None => "needs an approval, which is asked for next".to_owned(),
            },
            TaskStatus::Assigned | TaskStatus::Started => self.under_way(step, item, task),
            TaskStatus::Judging => "has answered, and the leader decides next what that counts as".to_owned(),
            TaskStatus::Backoff => self.backs_off(step, task),
            _ => self.ended(step, task),
        };
        format!("{place} {what}")
    }

    /// The attempts that it had since the step began (again).
    fn attempts(&self, step: u16, task: &Task) -> u32 {
        let before = self.run.steps[usize::from(step)].attempts_before;
        task.attempt.saturating_sub(before)
    }

    fn error(&self, task: &Task) -> String {
        match task.error.as_deref() {
            None => "no reason was given".to_owned(),
            Some(error) if error.message.is_empty() => shown(&error.code),
            Some(error) => format!("{}: {}", shown(&error.code), shown(&error.message)),
        }
    }

    fn waiting(&self, step: u16, item: u32, task: &Task) -> String {
        let state = &self.run.steps[usize::from(step)];
        let agent = self.run.agent_of(step, item).and_then(|id| self.state.agent(id));
        if let Some(agent) = agent.filter(|agent| !agent.is_online()) {
            let since = match agent.detached_at {
                Some(at) => format!("has been offline for {}", span(self.now.0.saturating_sub(at.0))),
                None => "has never been connected".to_owned(),
            };
            let until = task.wake.map_or(String::new(), |at| {
                let then = match self.attempts(step, task) {
                    0 => "counts as expired".to_owned(),
                    _ => format!("stays failed ({})", self.error(task)),
                };
                let left = span(at.0.saturating_sub(self.now.0));
                format!("; it is waited for {left} more, and then {then}")
            });
            return format!("{since}{until}");
        }
        let (under_way, most) = (state.counts.in_flight(), self.run.parallel_max(step));
        if under_way >= most {
            return format!(
                "waits for its turn: {under_way} of at most {} are under way",
                plural(most, "task")
            );
        }
        "is ready, and the leader hands it out next".to_owned()
    }

    fn under_way(&self, step: u16, item: u32, task: &Task) -> String {
        let ends = task.wake.map_or(String::new(), |at| {
            format!(", and is given up {}", within(self.now, at))
        });
        if let Some(child) = self.state.child_of(&self.run.attempt(step, item)) {
            return self.waits_for_run(step, task, child, &ends);
        }
        if let Some(stop) = task.stop {
            return format!(
                "was told to stop, for {}; it has not answered{ends}",
                stop.reason()
            );
        }
        let agent = self.run.agent_of(step, item).and_then(|id| self.state.agent(id));
        let lost = agent
            .filter(|agent| !agent.is_online())
            .map(|agent| match agent.detached_at {
                Some(at) => format!(
                    "; its session was lost {} (the host, its network or its coordinator is away), and it \
                     answers when it is back",
                    ago(self.now, at)
                ),
                None => "; it has no session".to_owned(),
            })
            .unwrap_or_default();
        if task.status == TaskStatus::Assigned {
            return format!(
                "was given its task and has not begun it{lost}{}",
                ends.replacen(", and is", "; it is", 1)
            );
        }
        let begun = task.started_at.map_or(String::new(), |at| ago(self.now, at));
        if let Some(undone) = self
            .run
            .undone_task(step, item)
            .filter(|_| self.run.undoes_runs(step))
        {
            let mut going = self
                .state
                .children_of_task(undone)
                .filter(|child| !child.status.is_end());
            return going.next().map_or("is about to end".to_owned(), |child| {
                format!(
                    "waits for the rollback of run {}, which is {}{ends}",
                    child.id,
                    child.word()
                )
            });
        }
        if self.run.begins_run(step) {
            return format!(
                "is to begin a run of {}, which the leader does next{ends}",
                self.playbook(step)
            );
        }
        if agent.is_none() {
            let action = shown(self.run.kind(step).1.unwrap_or("a call"));
            return format!("waits for another system to answer ({action}, begun {begun}){ends}");
        }
        format!(
            "began {begun} (attempt {}){lost}{}",
            task.attempt,
            ends.replacen(", and is", "; it is", 1)
        )
    }

    /// The playbook that a step runs.
    fn playbook(&self, step: u16) -> String {
        format!(
            "the playbook {}",
            shown(self.run.kind(step).1.unwrap_or_default())
        )
    }

    fn waits_for_run(&self, step: u16, task: &Task, child: &Run, ends: &str) -> String {
        let begun = ago(self.now, child.created_at);
        let how = match task.stop {
            Some(stop) => format!(
                "was told to stop, for {}, and waits for the end of",
                stop.reason()
            ),
            None => "waits for".to_owned(),
        };
        format!(
            "{how} run {}, which it began {begun} ({}) and which is {}{ends}: `cordon run explain` says why that goes on",
            child.id,
            self.playbook(step),
            child.word()
        )
    }

    fn backs_off(&self, step: u16, task: &Task) -> String {
        let attempts = self.attempts(step, task);
        let retries = self
            .run
            .declared(step)
            .retry
            .as_ref()
            .map_or(0, |retry| retry.max);
        let again = match (task.wake, self.run.paused_at) {
            (_, Some(_)) => format!("is held before it is tried again, for {}", self.paused()),
            (Some(at), None) => format!(
                "is tried again {} (attempt {} of {})",
                within(self.now, at),
                attempts + 1,
                retries + 1
            ),
            (None, None) => "is tried again next".to_owned(),
        };
        format!("failed ({}), and {again}", self.error(task))
    }

    /// How it ended, and by what.
    fn ended(&self, step: u16, task: &Task) -> String {
        let declared = self.run.declared(step);
        let code = task.error.as_deref().map_or("", |error| error.code.as_str());
        let when = task
            .ended_at
            .map_or(String::new(), |at| format!(" {}", ago(self.now, at)));
        let attempts = self.attempts(step, task);
        let tries = match attempts {
            0 | 1 => String::new(),
            n => format!(", after {n} attempts"),
        };
        match (task.status, code) {
            (TaskStatus::Succeeded, "") => format!("succeeded{when}{tries}"),
            (TaskStatus::Succeeded, _) => {
                format!("succeeded{when}{tries}, though {}", self.error(task))
            }
            (TaskStatus::Skipped, _) => format!(
                "was skipped: its condition{} was false",
                declared
                    .when
                    .as_ref()
                    .map_or(String::new(), |when| format!(" `{}`", shown(&when.0)))
            ),
            (TaskStatus::Failed, "settled") => format!(
                "failed, for a person settled that it was not done: {}",
                shown(task.error.as_deref().map_or("", |error| &error.message))
            ),
            (TaskStatus::Failed, "timeout") => {
                format!("failed{when}{tries}: {}", self.timeout(step, task))
            }
            (TaskStatus::Failed, "heartbeat") => format!(
                "failed{when}{tries}: its agent gave no sign of life for {} (timeout.heartbeat)",
                span(declared.timeout.heartbeat_ms.unwrap_or(0))
            ),
            (TaskStatus::Expired, _) if task.token == 0 => format!(
                "expired{when}: its host was not there within {} ({})",
                span(declared.timeout.queue_ms.unwrap_or(QUEUE_MS_DEFAULT)),
                match declared.timeout.total_ms {
                    Some(_) => "timeout.queue, or timeout.total before it",
                    None => "timeout.queue",
                }
            ),
            (TaskStatus::Cancelled, "cancelled") | (TaskStatus::Cancelled, "") => {
                format!("was cancelled{when}: {}", self.cancelled())
            }
            (TaskStatus::Cancelled, "step_failed") => {
                format!("was not begun, for its step was stopped{when}")
            }
            (TaskStatus::Cancelled, "revoked") => {
                format!("was cancelled{when}, for its agent was revoked")
            }
            (TaskStatus::Unknown, _) => format!(
                "ended{when} and may have done its work ({}): say what became of it with `cordon run settle`",
                self.error(task)
            ),
            (status, _) => format!("{}{when}{tries}: {}", verb(status), self.error(task)),
        }
    }

    fn timeout(&self, step: u16, task: &Task) -> String {
        let declared = &self.run.declared(step).timeout;
        match (task.stop, declared.total_ms) {
            (Some(Stop::TotalTimeout), Some(ms)) => {
                format!("it took longer than {} in all (timeout.total)", span(ms))
            }
            _ => {
                let shared = self.run.steps[usize::from(step)].shared.as_ref();
                format!(
                    "an attempt took longer than {} (timeout.attempt)",
                    span(shared.map_or(0, |shared| shared.attempt_ms))
                )
            }
        }
    }

    /// What holds a task back, if people do.
    fn approval_of(&self, step: u16, item: u32) -> Option<&Approval> {
        let mut all = self.state.approvals_waiting(self.run.id);
        all.find(|approval| {
            let has = |&(first, last): &(u32, u32)| (first..=last).contains(&item);
            approval.step == step && approval.items.iter().any(has)
        })
    }

    /// What people are asked, and what happens when they do not answer: the rest of a clause.
    pub(super) fn needs_approval(&self, approval: &Approval) -> String {
        let roles: Vec<_> = approval.roles.iter().map(|role| shown(role)).collect();
        let given = approval.quorum - approval.missing().min(approval.quorum);
        let what = match approval.question {
            Some(_) => format!("needs an answer by {}", either(&roles)),
            None => format!(
                "needs an approval by {} ({given} of {} given)",
                either(&roles),
                approval.quorum
            ),
        };
        let barred = approval
            .barred
            .as_ref()
            .map_or(String::new(), |who| format!(", not by {}", shown(who)));
        let gate = self.run.declared(approval.step).gate.as_ref();
        let next = gate.filter(|gate| gate.on_expiry == OnExpiry::Escalate && !approval.escalated);
        let then = match (next, approval.question.is_some()) {
            (Some(gate), _) => format!("is then asked of {} too", either(&gate.escalate_to)),
            (None, true) => "then counts as failed".to_owned(),
            (None, false) => "then counts as denied".to_owned(),
        };
        format!(
            "{what}{barred}, asked {}, expires {} and {then}",
            ago(self.now, approval.created_at),
            within(self.now, approval.expires_at)
        )
    }
}

fn verb(status: TaskStatus) -> &'static str {
    match status {
        TaskStatus::Cancelled => "was cancelled",
        other => other.as_str(),
    }
}
