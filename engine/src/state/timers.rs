//! Deadlines, ordered. Derived: each thing holds its own time, and this finds the earliest.

use std::collections::BTreeSet;

use crate::id::{ApprovalId, RunId, TaskKey};
use crate::time::Timestamp;

/// What a deadline belongs to. At one moment tasks fire before steps and runs, so that what was due
/// for a task is not hidden by the end of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The task's earliest.
    Task(TaskKey),
    /// The approval request's end, or its escalation.
    Approval(ApprovalId),
    /// The step's delay.
    Step(RunId, u16),
    /// The run's timeout.
    Run(RunId),
}

/// All deadlines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timers {
    by_time: BTreeSet<(Timestamp, Timer)>,
}

impl Timers {
    /// Moves a deadline.
    pub fn change(&mut self, timer: Timer, from: Option<Timestamp>, to: Option<Timestamp>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.by_time.remove(&(from, timer));
        }
        if let Some(to) = to {
            self.by_time.insert((to, timer));
        }
    }

    /// The earliest.
    pub fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|&(at, _)| at)
    }

    /// Takes the earliest out, if it is due.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<Timer> {
        let &(at, timer) = self.by_time.first()?;
        if at > now {
            return None;
        }
        self.by_time.pop_first();
        Some(timer)
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &(Timestamp, Timer)> {
        self.by_time.iter()
    }
}
