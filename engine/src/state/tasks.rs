//! One step on one host or one item: the smallest thing that has a life of its own.
//!
//! ```text
//! gated --approved--> waiting
//! waiting --assign--> assigned --started--> started --ended--> judging --> an end
//!    ^                    |                     |                  |
//!    +---- backoff <------+---------------------+---- failed, retry +
//! ```
//! The six ends are final, unless a person has the task tried again or settles what is unknown. A task is compact: what all tasks of a step share is in the step, and texts
//! are kept as they came.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::TaskError;
use crate::time::Timestamp;

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum TaskStatus {
    /// Not handed out: its host is away, or the step's `max_parallel` holds it back.
    Waiting,
    /// Not handed out: it waits for people's approval.
    Gated,
    /// Handed out; its agent has not said that it began.
    Assigned,
    /// Its agent has begun.
    Started,
    /// The outcome is in; whether it counts (`expect`) or is tried again (`retry.when`) is the planner's to say.
    Judging,
    /// Failed, and to be tried again later.
    Backoff,
    /// End: done.
    Succeeded,
    /// End: not done, and known not to be.
    Failed,
    /// End: its condition was false.
    Skipped,
    /// End: stopped before it was done.
    Cancelled,
    /// End: never started in time.
    Expired,
    /// End: may have been done.
    Unknown,
}

impl TaskStatus {
    /// Nothing more happens to the task.
    pub fn is_end(self) -> bool {
        self >= TaskStatus::Succeeded
    }

    /// It holds one of the step's `max_parallel` places.
    pub fn in_flight(self) -> bool {
        matches!(
            self,
            TaskStatus::Assigned | TaskStatus::Started | TaskStatus::Judging
        )
    }

    /// The name in the operators' API and in expressions.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskStatus::Waiting | TaskStatus::Backoff => "waiting",
            TaskStatus::Gated => "gated",
            TaskStatus::Assigned => "assigned",
            TaskStatus::Started | TaskStatus::Judging => "running",
            TaskStatus::Succeeded => "succeeded",
            TaskStatus::Failed => "failed",
            TaskStatus::Skipped => "skipped",
            TaskStatus::Cancelled => "cancelled",
            TaskStatus::Expired => "expired",
            TaskStatus::Unknown => "unknown",
        }
    }
}

/// Why an agent was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Stop {
    /// The run was cancelled.
    Cancelled,
    /// The attempt took too long.
    AttemptTimeout,
    /// The task took too long, its retries counted.
    TotalTimeout,
}

impl Stop {
    /// For the agent.
    pub fn reason(self) -> &'static str {
        match self {
            Stop::Cancelled => "the run was cancelled",
            Stop::AttemptTimeout => "the attempt has run out of time",
            Stop::TotalTimeout => "the task has run out of time",
        }
    }
}

/// A task. Its agent is `targets[step's set][host]` of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Where it is in its life.
    pub status: TaskStatus,
    /// How many times it was assigned.
    pub attempt: u32,
    /// The log index that assigned the current attempt; 0: never assigned.
    pub token: u64,
    /// Position of its agent in the step's target set.
    pub host: u32,
    /// The agent was asked to stop, and why.
    pub stop: Option<Stop>,
    /// The current attempt's outcome was reported by its agent (not concluded from a deadline).
    pub reported: bool,
    /// A report that came after the end was audited: once is enough.
    pub late: bool,
    /// When the step made it, or people let it go: from then on its time counts.
    pub opened_at: Timestamp,
    /// Since when the current attempt waits for its host, or was handed out.
    pub queued_at: Timestamp,
    /// When the current attempt began, by the log's clock.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Its timer; None in an end, while it is judged, and while it waits for people, whose time it is then.
    pub wake: Option<Timestamp>,
    /// The `foreach` item, JSON.
    pub item: Option<Arc<str>>,
    /// Rendered and checked, JSON; None: the step's shared ones.
    pub parameters: Option<Arc<str>>,
    /// JSON, as it came.
    pub output: Option<Arc<str>>,
    /// Why it did not succeed (or its last attempt did not).
    pub error: Option<Box<TaskError>>,
}

impl Task {
    /// A task that was just made.
    pub fn new(host: u32, now: Timestamp) -> Task {
        Task {
            status: TaskStatus::Waiting,
            attempt: 0,
            token: 0,
            host,
            stop: None,
            reported: false,
            late: false,
            opened_at: now,
            queued_at: now,
            started_at: None,
            ended_at: None,
            wake: None,
            item: None,
            parameters: None,
            output: None,
            error: None,
        }
    }

    /// An estimate of the memory that it holds, bytes.
    pub fn size_bytes(&self) -> usize {
        let text = |t: &Option<Arc<str>>| t.as_ref().map_or(0, |t| t.len() + 16);
        size_of::<Task>()
            + text(&self.item)
            + text(&self.parameters)
            + text(&self.output)
            + self
                .error
                .as_ref()
                .map_or(0, |e| e.code.len() + e.message.len() + 48)
    }
}

/// How many tasks of a step are where. `sum` is their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    /// Backoff included.
    pub waiting: u32,
    /// Those that wait for people.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gated: u32,
    /// Handed out and not begun.
    pub assigned: u32,
    /// Begun; those that are judged included.
    pub running: u32,
    /// End.
    pub succeeded: u32,
    /// End.
    pub failed: u32,
    /// End.
    pub skipped: u32,
    /// End.
    pub cancelled: u32,
    /// End.
    pub expired: u32,
    /// End.
    pub unknown: u32,
}

impl TaskCounts {
    /// The count that a status belongs to.
    pub fn of_mut(&mut self, status: TaskStatus) -> &mut u32 {
        match status {
            TaskStatus::Waiting | TaskStatus::Backoff => &mut self.waiting,
            TaskStatus::Gated => &mut self.gated,
            TaskStatus::Assigned => &mut self.assigned,
            TaskStatus::Started | TaskStatus::Judging => &mut self.running,
            TaskStatus::Succeeded => &mut self.succeeded,
            TaskStatus::Failed => &mut self.failed,
            TaskStatus::Skipped => &mut self.skipped,
            TaskStatus::Cancelled => &mut self.cancelled,
            TaskStatus::Expired => &mut self.expired,
            TaskStatus::Unknown => &mut self.unknown,
        }
    }

    /// All.
    pub fn total(&self) -> u32 {
        self.open() + self.ended()
    }

    /// Those that have not ended.
    pub fn open(&self) -> u32 {
        self.waiting + self.gated + self.in_flight()
    }

    /// Those that hold a place of `max_parallel`.
    pub fn in_flight(&self) -> u32 {
        self.assigned + self.running
    }

    /// Those that have ended.
    pub fn ended(&self) -> u32 {
        self.succeeded + self.failed + self.skipped + self.cancelled + self.expired + self.unknown
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The encoded form: a tuple, for there are many.
type Encoded = (
    TaskStatus,
    (u32, u64, u32),
    (Option<Stop>, bool, bool),
    (
        Timestamp,
        Timestamp,
        Option<Timestamp>,
        Option<Timestamp>,
        Option<Timestamp>,
    ),
    (Option<Arc<str>>, Option<Arc<str>>, Option<Arc<str>>),
    Option<(String, String)>,
);

impl Serialize for Task {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (
            self.status,
            (self.attempt, self.token, self.host),
            (self.stop, self.reported, self.late),
            (
                self.opened_at,
                self.queued_at,
                self.started_at,
                self.ended_at,
                self.wake,
            ),
            (&self.item, &self.parameters, &self.output),
            self.error.as_ref().map(|e| (&e.code, &e.message)),
        )
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Task {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Task, D::Error> {
        let (status, (attempt, token, host), flags, times, texts, error) =
            Encoded::deserialize(deserializer)?;
        let (stop, reported, late) = flags;
        let (opened_at, queued_at, started_at, ended_at, wake) = times;
        let (item, parameters, output) = texts;
        Ok(Task {
            status,
            attempt,
            token,
            host,
            stop,
            reported,
            late,
            opened_at,
            queued_at,
            started_at,
            ended_at,
            wake,
            item,
            parameters,
            output,
            error: error.map(|(code, message)| Box::new(TaskError { code, message })),
        })
    }
}
