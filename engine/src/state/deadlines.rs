//! The deadlines of a task: when they are, and what they end. Whatever waits has one, so nothing waits for ever.
//!
//! For an action of contain or above, an attempt that may have begun and whose outcome never came ends
//! `unknown`; below, it ends as what is known of it, for doing it again harms nothing.

use catalogue::Impact;

use crate::limits::{QUEUE_MS_DEFAULT, START_GRACE_MS};
use crate::state::agents::Agent;
use crate::state::life::error;
use crate::state::outbox::Around;
use crate::state::runs::Run;
use crate::state::tasks::{Stop, TaskStatus};
use crate::state::timers::Timer;
use crate::time::Timestamp;

impl Run {
    /// The task's timer fired.
    pub(crate) fn task_is_due(&mut self, step: u16, item: u32, around: &mut Around<'_>) {
        let now = around.now;
        let task = self.task_mut(step, item);
        task.wake = None;
        let (status, stop, attempt) = (task.status, task.stop, task.attempt);
        let attempt = attempt - self.steps[usize::from(step)].attempts_before;
        let first = attempt <= 1;
        let careful = self.is_careful(step);
        let total_over = self.total_deadline(step, item).is_some_and(|total| total <= now);
        let last_error = self.task(step, item).error.as_deref().cloned();
        let timeout = |what: &str| error("timeout", what);
        match (status, stop) {
            (TaskStatus::Waiting, _) if attempt == 0 => {
                let why = error("not_started", "its host was not there in time");
                self.end(step, item, TaskStatus::Expired, Some(why), around);
            }
            // It failed before, and could not be tried again in time: failed it stays.
            (TaskStatus::Waiting, _) => {
                self.end(step, item, TaskStatus::Failed, last_error, around);
            }
            (TaskStatus::Backoff, _) if total_over => {
                self.end(step, item, TaskStatus::Failed, last_error, around);
            }
            (TaskStatus::Backoff, _) => self.wait_again(step, item, around),
            (TaskStatus::Assigned | TaskStatus::Started, None)
                if self.timer_of_attempt(step, item, around.agents.get_of(self, step, item)) > Some(now) =>
            {
                // Something moved the deadline after it was set.
                self.set_wake(step, item, around);
            }
            (TaskStatus::Assigned, None) if total_over => {
                self.ask_to_stop(step, item, Stop::TotalTimeout, around);
            }
            (TaskStatus::Assigned, None | Some(Stop::AttemptTimeout | Stop::TotalTimeout)) => {
                if careful {
                    let why = error("unanswered", "it was handed out, and its agent never answered");
                    self.end(step, item, TaskStatus::Unknown, Some(why), around);
                } else if first {
                    let why = error("not_started", "it was handed out, and not begun in time");
                    self.end(step, item, TaskStatus::Expired, Some(why), around);
                } else {
                    self.end(step, item, TaskStatus::Failed, last_error, around);
                }
            }
            (TaskStatus::Assigned | TaskStatus::Started, Some(Stop::Cancelled)) => {
                let why = error("cancelled", "its agent never answered that it stopped");
                let status = if careful {
                    TaskStatus::Unknown
                } else {
                    TaskStatus::Cancelled
                };
                self.end(step, item, status, Some(why), around);
            }
            (TaskStatus::Started, Some(_)) if careful => {
                let why = timeout("no outcome came in time");
                self.end(step, item, TaskStatus::Unknown, Some(why), around);
            }
            (TaskStatus::Started, Some(_)) => {
                self.fail(step, item, timeout("no outcome came in time"), None, around);
            }
            (TaskStatus::Started, None) if total_over => {
                self.ask_to_stop(step, item, Stop::TotalTimeout, around);
            }
            (TaskStatus::Started, None) => {
                let started_at = self.task(step, item).started_at.unwrap_or(now);
                if started_at.plus_ms(self.attempt_ms(step)) <= now {
                    self.ask_to_stop(step, item, Stop::AttemptTimeout, around);
                } else {
                    let why = error("heartbeat", "its agent was away for too long");
                    if careful {
                        self.end(step, item, TaskStatus::Unknown, Some(why), around);
                    } else {
                        self.fail(step, item, why, None, around);
                    }
                }
            }
            _ => {}
        }
    }

    /// The pause before a retry is over.
    pub(super) fn wait_again(&mut self, step: u16, item: u32, around: &mut Around<'_>) {
        self.steps[usize::from(step)].set_status(item, TaskStatus::Waiting);
        self.task_mut(step, item).queued_at = around.now;
        let agent = around.agents.get_of(self, step, item);
        if self.steps[usize::from(step)].is_call() || agent.is_some_and(|agent| agent.is_online()) {
            self.steps[usize::from(step)].ready.insert(item);
        }
        self.set_wake(step, item, around);
    }

    /// Contain and above: what may have been done is not done again, nor called undone.
    pub(super) fn is_careful(&self, step: u16) -> bool {
        self.steps[usize::from(step)]
            .shared
            .as_ref()
            .is_none_or(|shared| shared.impact >= Impact::Contain)
    }

    pub(super) fn attempt_ms(&self, step: u16) -> u64 {
        self.steps[usize::from(step)]
            .shared
            .as_ref()
            .map_or(0, |shared| shared.attempt_ms)
    }

    pub(super) fn total_deadline(&self, step: u16, item: u32) -> Option<Timestamp> {
        let total_ms = self.declared(step).timeout.total_ms?;
        Some(self.task(step, item).opened_at.plus_ms(total_ms))
    }

    /// The deadline of the attempt as it stands; None where none is counted here.
    pub(super) fn timer_of_attempt(&self, step: u16, item: u32, agent: Option<&Agent>) -> Option<Timestamp> {
        let task = self.task(step, item);
        let timeout = &self.declared(step).timeout;
        let start_by = task
            .queued_at
            .plus_ms(timeout.queue_ms.unwrap_or(QUEUE_MS_DEFAULT));
        let earliest = match task.status {
            TaskStatus::Waiting => start_by,
            TaskStatus::Assigned => start_by.plus_ms(START_GRACE_MS),
            TaskStatus::Started => {
                let attempt = task.started_at?.plus_ms(self.attempt_ms(step));
                let away = timeout
                    .heartbeat_ms
                    .zip(agent.and_then(|agent| agent.detached_at))
                    .map(|(ms, since)| since.plus_ms(ms));
                away.map_or(attempt, |away| away.min(attempt))
            }
            _ => return None,
        };
        let total = self.total_deadline(step, item);
        Some(total.map_or(earliest, |total| total.min(earliest)))
    }

    pub(super) fn set_wake(&mut self, step: u16, item: u32, around: &mut Around<'_>) {
        let wake = self.timer_of_attempt(step, item, around.agents.get_of(self, step, item));
        self.wake_at(step, item, wake, around);
    }

    pub(super) fn wake_at(&mut self, step: u16, item: u32, at: Option<Timestamp>, around: &mut Around<'_>) {
        let key = self.key(step, item);
        let still = self.stands_still(step, item);
        let task = self.task_mut(step, item);
        let before = std::mem::replace(&mut task.wake, at);
        around
            .timers
            .change(Timer::Task(key), before, at.filter(|_| !still));
    }
}
