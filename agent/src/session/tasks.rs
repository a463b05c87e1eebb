//! What the agent knows of every attempt: the fence. An attempt passes from one state to the next and never
//! back; what was forgotten lies below the floor and is refused.

use std::collections::{BTreeMap, VecDeque};

use catalogue::Impact;

use crate::actions::AttemptKey;

use super::event::{Assignment, Outcome, Status};

/// Names one task: the step on one item of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId {
    run_id: String,
    step: String,
    item: u32,
}

impl TaskId {
    /// The task that an attempt is of.
    pub fn of(key: &AttemptKey) -> TaskId {
        TaskId {
            run_id: key.run_id.clone(),
            step: key.step.clone(),
            item: key.item,
        }
    }
}

/// Where an attempt stands.
#[derive(Clone, Debug)]
pub enum Standing {
    /// An older attempt of the task has not ended yet.
    Held(Box<Assignment>, u64),
    /// In its lane.
    Waiting,
    /// The intent is being written. `stop`: why it is not to be begun after all.
    Intending {
        /// What will be run.
        assignment: Box<Assignment>,
        /// When it is too late to begin, on the monotonic clock.
        start_by_ms: Option<u64>,
        /// A cancel came meanwhile.
        stop: Option<String>,
    },
    /// Being carried out.
    Running {
        /// Its lane.
        urgent: bool,
        /// What it does to the host.
        impact: Impact,
        /// A cancel was passed on.
        cancelled: bool,
    },
    /// The outcome is being written. `begun`: it was running, or its intent was written.
    Ending {
        /// How it ended.
        outcome: Outcome,
        /// It may have had an effect.
        begun: bool,
    },
    /// The outcome is on disk.
    Ended {
        /// How it ended.
        status: Status,
        /// It may have had an effect.
        begun: bool,
    },
}

/// Every task that the agent has not forgotten.
#[derive(Debug, Default)]
pub struct Tasks {
    by_id: BTreeMap<TaskId, Task>,
    /// Outcomes that the cluster holds, oldest first, with about their size: kept to answer repeats.
    committed: VecDeque<(AttemptKey, usize)>,
    committed_bytes: usize,
    floor: u64,
}

#[derive(Debug, Default)]
struct Task {
    newest_token: u64,
    attempts: BTreeMap<u32, Attempt>,
}

#[derive(Debug)]
struct Attempt {
    token: u64,
    committed: bool,
    standing: Standing,
}

/// What an assignment is to this agent.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Not seen before, and newer than all of its task.
    New,
    /// This very attempt is known, and has not ended.
    UnderWay,
    /// This very attempt has ended.
    Ended,
    /// Older than what is known of its task.
    Fenced {
        /// The newest token seen for the task.
        newest: u64,
    },
    /// Older than what the agent remembers at all.
    Forgotten {
        /// What lies at or below this is not remembered.
        floor: u64,
    },
}

impl Tasks {
    /// Nothing known, but that tokens up to `floor` are forgotten.
    pub fn new(floor: u64) -> Tasks {
        Tasks {
            floor,
            ..Tasks::default()
        }
    }

    /// What an assignment or a cancel with this key is.
    pub fn judge(&self, key: &AttemptKey) -> Judgement {
        let Some(task) = self.by_id.get(&TaskId::of(key)) else {
            return if key.token <= self.floor {
                Judgement::Forgotten { floor: self.floor }
            } else {
                Judgement::New
            };
        };
        let newest = task.newest_token;
        if let Some(attempt) = task.attempts.get(&key.attempt) {
            return match attempt.standing {
                _ if attempt.token != key.token => Judgement::Fenced { newest },
                Standing::Ended { .. } | Standing::Ending { .. } => Judgement::Ended,
                _ => Judgement::UnderWay,
            };
        }
        let newest_attempt = task.attempts.last_key_value().map_or(0, |(number, _)| *number);
        // An unknown attempt with the newest token itself is one that was forgotten.
        if key.token <= newest || key.attempt < newest_attempt {
            Judgement::Fenced { newest }
        } else if key.token <= self.floor {
            Judgement::Forgotten { floor: self.floor }
        } else {
            Judgement::New
        }
    }

    /// Where the attempt stands.
    pub fn get(&self, key: &AttemptKey) -> Option<&Standing> {
        self.attempt(key).map(|attempt| &attempt.standing)
    }

    /// Where the attempt stands, to be changed.
    pub fn get_mut(&mut self, key: &AttemptKey) -> Option<&mut Standing> {
        let task = self.by_id.get_mut(&TaskId::of(key))?;
        let attempt = task
            .attempts
            .get_mut(&key.attempt)
            .filter(|a| a.token == key.token)?;
        Some(&mut attempt.standing)
    }

    /// The attempt stands here from now on.
    pub fn set(&mut self, key: &AttemptKey, standing: Standing) {
        let task = self.by_id.entry(TaskId::of(key)).or_default();
        task.newest_token = task.newest_token.max(key.token);
        let attempt = Attempt {
            token: key.token,
            committed: false,
            standing,
        };
        task.attempts.insert(key.attempt, attempt);
    }

    /// The attempts of the same task that have not ended, but for this one; oldest first.
    pub fn others_under_way(&self, key: &AttemptKey) -> Vec<AttemptKey> {
        self.others(key)
            .filter(|(_, attempt)| !matches!(attempt.standing, Standing::Ended { .. }))
            .map(|(number, attempt)| AttemptKey {
                attempt: number,
                token: attempt.token,
                ..key.clone()
            })
            .collect()
    }

    /// Another attempt of the same task that had, or may have had, its effect.
    pub fn earlier_effect(&self, key: &AttemptKey) -> Option<(u32, Status)> {
        self.others(key)
            .find_map(|(number, attempt)| match attempt.standing {
                Standing::Ended {
                    status: status @ (Status::Succeeded | Status::Unknown),
                    begun: true,
                } => Some((number, status)),
                _ => None,
            })
    }

    /// The attempt of the same task that waits for the older ones to end.
    pub fn take_held(&mut self, key: &AttemptKey) -> Option<(Box<Assignment>, u64)> {
        let task = self.by_id.get_mut(&TaskId::of(key))?;
        let (_, attempt) = task.attempts.last_key_value()?;
        let Standing::Held(assignment, received_ms) = &attempt.standing else {
            return None;
        };
        let held = (assignment.clone(), *received_ms);
        task.attempts.pop_last();
        Some(held)
    }

    /// What was begun and whose end the cluster may not hold: what runs first, then what is still to be
    /// reported, at most `max` of them.
    pub fn begun_not_committed(&self, max: usize) -> Vec<AttemptKey> {
        let mut running = Vec::new();
        let mut keys = Vec::new();
        for (id, task) in &self.by_id {
            for (number, attempt) in &task.attempts {
                let begun = match attempt.standing {
                    Standing::Running { .. } => true,
                    Standing::Ending { begun, .. } | Standing::Ended { begun, .. } => begun,
                    Standing::Held(..) | Standing::Waiting | Standing::Intending { .. } => false,
                };
                if begun && !attempt.committed {
                    let is_running = matches!(attempt.standing, Standing::Running { .. });
                    let list = if is_running { &mut running } else { &mut keys };
                    list.push(AttemptKey {
                        run_id: id.run_id.clone(),
                        step: id.step.clone(),
                        item: id.item,
                        attempt: *number,
                        token: attempt.token,
                    });
                }
            }
        }
        running.append(&mut keys);
        running.truncate(max);
        running
    }

    /// The cluster holds the outcome. True when that is news.
    pub fn committed(&mut self, key: &AttemptKey, outcome_bytes: usize) -> bool {
        let Some(task) = self.by_id.get_mut(&TaskId::of(key)) else {
            return false;
        };
        let Some(attempt) = task
            .attempts
            .get_mut(&key.attempt)
            .filter(|a| a.token == key.token)
        else {
            return false;
        };
        if attempt.committed || !matches!(attempt.standing, Standing::Ended { .. }) {
            return false;
        }
        attempt.committed = true;
        self.committed.push_back((key.clone(), outcome_bytes));
        self.committed_bytes += outcome_bytes;
        true
    }

    /// Drops the oldest committed outcomes once the bounds are exceeded, a tenth at a time: what was dropped.
    pub fn forget(&mut self, retained_max: usize, retained_bytes_max: usize) -> Vec<AttemptKey> {
        if self.committed.len() <= retained_max && self.committed_bytes <= retained_bytes_max {
            return Vec::new();
        }
        let mut dropped = Vec::new();
        for _ in 0..self.committed.len() {
            let few = self.committed.len() <= retained_max / 10 * 9;
            if few && self.committed_bytes <= retained_bytes_max / 10 * 9 {
                break;
            }
            let Some((key, bytes)) = self.committed.pop_front() else {
                break;
            };
            let id = TaskId::of(&key);
            let Some(task) = self.by_id.get_mut(&id) else {
                continue;
            };
            if task.attempts.values().any(|attempt| !attempt.committed) {
                // What an earlier attempt did decides whether a later one may run.
                self.committed.push_back((key, bytes));
                continue;
            }
            self.committed_bytes -= bytes;
            self.floor = self.floor.max(key.token);
            task.attempts.remove(&key.attempt);
            if task.attempts.is_empty() {
                self.by_id.remove(&id);
            }
            dropped.push(key);
        }
        dropped
    }

    /// Tokens up to this are refused, unless the attempt is known.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    fn attempt(&self, key: &AttemptKey) -> Option<&Attempt> {
        let task = self.by_id.get(&TaskId::of(key))?;
        task.attempts
            .get(&key.attempt)
            .filter(|attempt| attempt.token == key.token)
    }

    fn others(&self, key: &AttemptKey) -> impl Iterator<Item = (u32, &Attempt)> {
        let task = self.by_id.get(&TaskId::of(key));
        let attempts = task.into_iter().flat_map(|task| &task.attempts);
        attempts
            .filter(|(number, _)| **number != key.attempt)
            .map(|(number, attempt)| (*number, attempt))
    }
}
