//! Why one step waits, or ended as it did: along its needs, to what holds all of them up.

use playbook::manifest::NeedState;

use super::Explainer;
use super::words::{ago, plural, shown, span, within};
use crate::planner::{ALL_RULED_OUT, RULED_OUT};
use crate::state::steps::StepStatus;
use crate::state::tasks::TaskStatus;

/// Steps that are named on the way to a cause; longer chains say how many they leave out.
const CHAIN_SHOWN: usize = 6;

impl Explainer<'_> {
    fn name(&self, step: u16) -> &str {
        &self.run.declared(step).name
    }

    fn status(&self, step: u16) -> StepStatus {
        self.run.steps[usize::from(step)].status
    }

    /// `step isolate waits: ...`.
    pub(super) fn step(&self, step: u16) -> String {
        format!("step {}", self.named_step(step))
    }

    /// The same without the word.
    pub(super) fn named_step(&self, step: u16) -> String {
        let name = self.name(step);
        match self.status(step) {
            StepStatus::Waiting => format!("{name} waits: {}", self.step_waits(step)),
            StepStatus::Running => {
                let begun = self.run.steps[usize::from(step)].counts.in_flight() > 0;
                let word = if begun { "goes on" } else { "waits" };
                format!("{name} {word}: {}", self.step_runs(step))
            }
            _ => format!("{name} {}", self.step_ended(step)),
        }
    }

    /// Why a step has not begun: from need to need, down to one that waits for something else. Needs have no cycles
    /// (the compiler refuses them); should a stored manifest have one, the walk ends with its steps.
    fn step_waits(&self, step: u16) -> String {
        let (mut at, mut chain) = (step, Vec::new());
        while chain.len() <= self.run.steps.len()
            && self.status(at) == StepStatus::Waiting
            && let Some((next, how)) = self.waits_for(at)
        {
            let which = if chain.is_empty() { "it" } else { "which" };
            chain.push(format!("{which} {how}"));
            at = next;
        }
        if chain.len() > CHAIN_SHOWN {
            let left_out = chain.len() - CHAIN_SHOWN;
            chain.truncate(CHAIN_SHOWN);
            chain.push(format!(
                "which waits over {left_out} steps more for {}",
                self.name(at)
            ));
        }
        let root = match self.status(at) {
            StepStatus::Waiting => self.own_reason(at),
            StepStatus::Running => self.step_runs(at),
            _ => format!("{} {}", self.name(at), self.step_ended(at)),
        };
        if chain.is_empty() {
            return root;
        }
        let word = match self.run.steps[usize::from(at)].counts.in_flight() {
            0 => "which waits",
            _ => "which goes on",
        };
        format!("{}, {word}: {root}", chain.join(", "))
    }

    /// The step that another one waits for, and how that is said.
    fn waits_for(&self, step: u16) -> Option<(u16, String)> {
        let open = |other: &u16| *other != step && !self.status(*other).is_end();
        if self.run.is_finally(step) {
            let (main, all) = (
                self.run.manifest().steps.len() as u16,
                self.run.manifest().step_count(),
            );
            let mut before = (0..main)
                .chain(all..self.run.steps.len() as u16)
                .chain(main..all)
                .take_while(|&other| other != step);
            let next = before.find(open)?;
            let how = if self.run.undoes(step).is_some() {
                "undoes what was done once nothing else is left, after"
            } else {
                "comes when nothing else is left, after"
            };
            return Some((next, format!("{how} {}", self.name(next))));
        }
        let need = self
            .run
            .declared(step)
            .needs
            .iter()
            .find(|need| open(&need.step))?;
        let to = match (need.state, need.by_host) {
            (NeedState::Succeeded, false) => "to succeed",
            (NeedState::Succeeded, true) => "to succeed on a host",
            (NeedState::Done, false) => "to end",
            (NeedState::Done, true) => "to end on a host",
            (NeedState::Failed, false) => "to fail",
            (NeedState::Failed, true) => "to fail on a host",
        };
        Some((need.step, format!("needs {} {to}", self.name(need.step))))
    }

    /// Why a step has not begun that waits for no other.
    fn own_reason(&self, step: u16) -> String {
        let state = &self.run.steps[usize::from(step)];
        if self.run.paused_at.is_some() {
            return self.paused();
        }
        match state.due_at.filter(|_| !state.due) {
            Some(at) => format!(
                "its delay of {} is over {}",
                span(self.run.declared(step).delay_ms),
                within(self.now, at)
            ),
            None => "nothing holds it back, and the leader begins it next".to_owned(),
        }
    }

    /// What an open step waits for: of its tasks, the one that most needs somebody.
    fn step_runs(&self, step: u16) -> String {
        let state = &self.run.steps[usize::from(step)];
        if self.run.is_question(step) {
            let mut asked = self.state.approvals_waiting(self.run.id);
            return match asked.find(|approval| approval.step == step) {
                Some(approval) => format!("it {}", self.needs_approval(approval)),
                None => "people are asked next".to_owned(),
            };
        }
        if self.run.is_wait(step) {
            return match state.due_at {
                _ if self.run.paused_at.is_some() => self.paused(),
                Some(at) => format!(
                    "no event that is for it has come; if none does, it fails {}",
                    within(self.now, at)
                ),
                None => "the leader begins to wait next".to_owned(),
            };
        }
        let open = (0u32..)
            .zip(&state.tasks)
            .filter(|(_, task)| !task.status.is_end());
        let rank = |item: u32, status: TaskStatus| match status {
            TaskStatus::Gated => 0,
            TaskStatus::Waiting if !self.is_there(step, item) => 1,
            TaskStatus::Started => 2,
            TaskStatus::Assigned => 3,
            TaskStatus::Backoff => 4,
            TaskStatus::Judging => 5,
            _ => 6,
        };
        let Some((item, first)) = open.min_by_key(|(item, task)| (rank(*item, task.status), *item)) else {
            return self.between_groups(step);
        };
        let (status, counts) = (first.status, &state.counts);
        let others = counts.open() - 1;
        let clause = match (status, counts.gated) {
            (TaskStatus::Gated, 2..) => {
                let clause = self.task(step, item);
                let place = self.place(step, item);
                let rest = clause.strip_prefix(&place).unwrap_or(&clause).trim_start();
                let rest = rest.strip_prefix("needs").unwrap_or(rest);
                format!("{place} and {} need{rest}", plural(counts.gated - 1, "other"))
            }
            _ => self.task(step, item),
        };
        let more = match (status, others) {
            (TaskStatus::Gated, _) => counts.open() - counts.gated,
            (_, others) => others,
        };
        let total = state.shared.as_ref().map_or(0, |shared| shared.total);
        let rest = match more {
            0 => String::new(),
            more => format!(
                " ({} more of its {} not ended)",
                more,
                plural(total, "task") + if more == 1 { " has" } else { " have" }
            ),
        };
        let stopped = match (state.stopped, state.reason.as_str()) {
            (false, _) => String::new(),
            (true, "") => "nothing more of it begins; ".to_owned(),
            (true, reason) => format!("nothing more of it begins, for {}; ", shown(reason)),
        };
        format!("{stopped}{clause}{rest}")
    }

    fn is_there(&self, step: u16, item: u32) -> bool {
        let agent = self.run.agent_of(step, item).and_then(|id| self.state.agent(id));
        agent.is_none_or(crate::state::Agent::is_online)
    }

    /// Every task that there is has ended, and the step has not.
    fn between_groups(&self, step: u16) -> String {
        let state = &self.run.steps[usize::from(step)];
        let total = state.shared.as_ref().map_or(0, |shared| shared.total);
        let done = state.counts.total();
        if self.run.paused_at.is_some() {
            return self.paused();
        }
        let mut followed = self.run.followed(step).map(|need| need.step);
        if let Some(other) = followed.find(|&other| !self.status(other).is_end()) {
            return format!(
                "{done} of {} have ended, and the other hosts come when they are through with {}: {}",
                plural(total, "task"),
                self.name(other),
                self.step_runs(other)
            );
        }
        match state.due_at.filter(|_| !state.due) {
            Some(at) => format!(
                "{done} of {} have ended, and the next wave begins {} (soak)",
                plural(total, "task"),
                within(self.now, at)
            ),
            None if done < total => format!(
                "{done} of {} have ended, and the leader begins the next wave",
                plural(total, "task")
            ),
            None => "all of its tasks have ended, and the leader closes it next".to_owned(),
        }
    }

    /// How a step ended, and what made it end so: the rest of a clause.
    fn step_ended(&self, step: u16) -> String {
        let (mut at, mut said) = (step, Vec::new());
        // A skip leads on to the step that was needed; each is another one, and there are so many.
        loop {
            let (clause, next) = self.one_ended(at);
            said.push(clause);
            match next {
                Some(next) if said.len() <= self.run.steps.len() => at = next,
                _ => break,
            }
        }
        if said.len() > CHAIN_SHOWN {
            let last = said.pop().unwrap_or_default();
            let left_out = said.len() + 1 - CHAIN_SHOWN;
            said.truncate(CHAIN_SHOWN - 1);
            said.push(format!(
                "and so on over {left_out} steps to {}, which {last}",
                self.name(at)
            ));
        }
        said.join(", which ")
    }

    fn one_ended(&self, step: u16) -> (String, Option<u16>) {
        let state = &self.run.steps[usize::from(step)];
        let when = state
            .ended_at
            .map_or(String::new(), |at| format!(" {}", ago(self.now, at)));
        let counts = &state.counts;
        match state.status {
            StepStatus::Succeeded => {
                let not = counts.total() - counts.succeeded - counts.skipped;
                let but = match (not, &self.run.declared(step).strategy.fail_when) {
                    (0, _) | (_, None) => String::new(),
                    (n, Some(rule)) => format!(
                        ", though {n} of {} did not, for its rule `{}` did not hold",
                        plural(counts.total(), "task"),
                        shown(&rule.0)
                    ),
                };
                (format!("succeeded{when}{but}"), None)
            }
            StepStatus::Skipped => self.skipped(step),
            StepStatus::Cancelled => (format!("was cancelled{when}: {}", self.cancelled()), None),
            StepStatus::Failed | StepStatus::Unknown => {
                let word = match state.status {
                    StepStatus::Failed => format!("failed{when}"),
                    _ => format!("ended{when}, and nobody knows whether it did its work"),
                };
                (format!("{word}: {}", self.failure(step)), None)
            }
            StepStatus::Waiting | StepStatus::Running => ("has not ended".to_owned(), None),
        }
    }

    /// What failed a step: its first task that did, with its own cause; or what the leader said of it.
    fn failure(&self, step: u16) -> String {
        let state = &self.run.steps[usize::from(step)];
        let bad = |status: TaskStatus| match state.status {
            StepStatus::Unknown => status == TaskStatus::Unknown,
            _ => matches!(
                status,
                TaskStatus::Failed | TaskStatus::Expired | TaskStatus::Cancelled
            ),
        };
        // What others were not begun for comes before them.
        let began = |item: &u32| state.tasks[*item as usize].status != TaskStatus::Cancelled;
        let all: Vec<u32> = (0..state.tasks.len() as u32)
            .filter(|&item| bad(state.tasks[item as usize].status))
            .collect();
        let Some(&first) = all.iter().find(|item| began(item)).or(all.first()) else {
            return shown(&state.reason);
        };
        let cause = self.task(step, first);
        let rule = match (&self.run.declared(step).strategy.fail_when, state.status) {
            (Some(rule), StepStatus::Failed) => format!("its rule `{}` held: ", shown(&rule.0)),
            _ => String::new(),
        };
        match (all.len() as u32, state.counts.total()) {
            (1, 1) => format!("{rule}{cause}"),
            (bad, total) => format!(
                "{rule}{bad} of {} did not succeed, the first: {cause}",
                plural(total, "task")
            ),
        }
    }

    /// Why a step was skipped, and the step that it comes from, if one does.
    fn skipped(&self, step: u16) -> (String, Option<u16>) {
        let declared = self.run.declared(step);
        let reason = self.run.steps[usize::from(step)].reason.as_str();
        if matches!(reason, RULED_OUT | ALL_RULED_OUT) {
            let of = if reason == ALL_RULED_OUT {
                " for every task"
            } else {
                ""
            };
            let when = declared
                .when
                .as_ref()
                .map_or(String::new(), |when| format!(" `{}`", shown(&when.0)));
            return (format!("was skipped: its condition{when} was false{of}"), None);
        }
        let unmet = declared.needs.iter().find(|need| {
            let status = self.status(need.step);
            status.is_end()
                && match need.state {
                    NeedState::Done => false,
                    NeedState::Succeeded => status != StepStatus::Succeeded,
                    NeedState::Failed => status != StepStatus::Failed,
                }
        });
        if let Some(need) = unmet.filter(|_| reason.starts_with("it needs ")) {
            let to = match need.state {
                NeedState::Failed => " to fail",
                _ => "",
            };
            let what = format!("was skipped: it needs {}{to}", self.name(need.step));
            return (what, Some(need.step));
        }
        match self.failed_first() {
            Some(failed) if self.run.failed => (
                format!("was skipped: the run has failed by {}", self.name(failed)),
                Some(failed),
            ),
            _ => (format!("was skipped: {}", shown(reason)), None),
        }
    }

    /// The step that failed the run: of those that must not fail, the first that did.
    pub(super) fn failed_first(&self) -> Option<u16> {
        (0..self.run.manifest().steps.len() as u16)
            .filter(|&step| {
                let bad = matches!(self.status(step), StepStatus::Failed | StepStatus::Unknown);
                bad && self.run.must_not_fail(step)
            })
            .min_by_key(|&step| (self.run.steps[usize::from(step)].ended_at, step))
    }
}
