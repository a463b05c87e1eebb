//! A journal without a disk, for a swarm of agents in one process.

use std::collections::BTreeMap;

use crate::actions::AttemptKey;
use crate::session::event::{Intent, Outcome, Recovered, RecoveredAttempt};

use super::record::Record;

/// What a file journal would hold, and the order of its first writes.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    attempts: BTreeMap<AttemptKey, Attempt>,
    floor: u64,
    next: u64,
}

#[derive(Debug, Default)]
struct Attempt {
    order: u64,
    intent: Option<Intent>,
    outcome: Option<Outcome>,
    acknowledged: bool,
}

impl MemoryJournal {
    /// Takes the records in.
    pub fn append(&mut self, records: &[Record]) {
        for record in records {
            match record {
                Record::Intent {
                    key,
                    action,
                    impact,
                    at_ms,
                } => {
                    let key = AttemptKey::from(key);
                    let intent = Intent {
                        key: key.clone(),
                        action: action.clone(),
                        impact: *impact,
                        at_ms: *at_ms,
                    };
                    self.attempt(key).intent = Some(intent);
                }
                Record::Outcome { key, .. } => {
                    let attempt = self.attempt(key.into());
                    attempt.outcome = record.to_outcome();
                }
                Record::Acknowledged { key } => self.attempt(key.into()).acknowledged = true,
                Record::Forget { keys, floor } => {
                    for key in keys {
                        self.attempts.remove(&key.into());
                    }
                    self.floor = self.floor.max(*floor);
                }
            }
        }
    }

    /// The outcome of an attempt.
    pub fn recall(&self, key: &AttemptKey) -> Option<Outcome> {
        self.attempts.get(key)?.outcome.clone()
    }

    /// What it holds.
    pub fn recovered(&self) -> Recovered {
        let mut ordered: Vec<_> = self.attempts.iter().collect();
        ordered.sort_by_key(|(_, attempt)| attempt.order);
        let records = ordered.into_iter().map(|(key, attempt)| RecoveredAttempt {
            key: key.clone(),
            intent: attempt.intent.clone(),
            outcome: attempt.outcome.clone(),
            acknowledged: attempt.acknowledged,
        });
        Recovered {
            floor: self.floor,
            records: records.collect(),
        }
    }

    fn attempt(&mut self, key: AttemptKey) -> &mut Attempt {
        let next = &mut self.next;
        self.attempts.entry(key).or_insert_with(|| {
            *next += 1;
            Attempt {
                order: *next,
                ..Attempt::default()
            }
        })
    }
}
