//! The audit: a hash-chained record of every decision, made in the same apply as what it records.
//!
//! A record's hash is `SHA-256(previous hash || sequence || index || at_ms || actor || verb || subject ||
//! detail)`: numbers as 8 bytes, big-endian; texts as their length (8 bytes, big-endian) and UTF-8. Whoever
//! holds an exported chain checks it with [`AuditRecord::chain_hash`] and needs nothing else.
//!
//! Tasks that go the same way in one apply share a record: its detail lists the items as ranges.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::Digest as _;

use crate::command::Actor;
use crate::id::{Digest, RunId};
use crate::limits::AUDIT_RECORDS_MAX;
use crate::state::tasks::TaskStatus;
use crate::time::Timestamp;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// From 1, without gaps.
    pub sequence: u64,
    /// The log index whose apply made it.
    pub index: u64,
    /// By the log's clock.
    pub at: Timestamp,
    /// `operator/alice`, `node/1` or `leader`.
    pub actor: String,
    /// `noun.verb`.
    pub verb: String,
    /// What it was done to: a run, an agent, a token.
    pub subject: String,
    /// More, a JSON object with sorted keys.
    pub detail: String,
    /// Over the one before and this one.
    pub hash: Digest,
}

impl AuditRecord {
    /// The hash that this record must have behind one with the hash `previous`.
    pub fn chain_hash(&self, previous: &Digest) -> Digest {
        let mut hash = sha2::Sha256::new();
        hash.update(previous.0);
        for number in [self.sequence, self.index, self.at.0] {
            hash.update(number.to_be_bytes());
        }
        for text in [&self.actor, &self.verb, &self.subject, &self.detail] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        Digest(hash.finalize().into())
    }
}

/// The chain: its newest records, and its head.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    records: VecDeque<AuditRecord>,
    head: Digest,
    sequence: u64,
}

impl Audit {
    /// Up to `limit` records behind this sequence number, and of this run if one is named.
    pub fn after(
        &self,
        sequence: u64,
        limit: usize,
        run: Option<RunId>,
    ) -> impl Iterator<Item = &AuditRecord> {
        let subject = run.map(|run| run.to_string());
        let skip = self
            .records
            .front()
            .map_or(0, |first| (sequence + 1).saturating_sub(first.sequence));
        self.records
            .iter()
            .skip(usize::try_from(skip).unwrap_or(usize::MAX))
            .filter(move |record| subject.as_ref().is_none_or(|run| record.subject == *run))
            .take(limit)
    }

    /// The newest record of this verb about a run.
    pub fn newest(&self, run: RunId, verb: &str) -> Option<&AuditRecord> {
        let subject = run.to_string();
        self.records
            .iter()
            .rev()
            .find(|record| record.verb == verb && record.subject == subject)
    }

    /// The hash of the newest record; zeros before the first.
    pub fn head(&self) -> Digest {
        self.head
    }

    /// The number of the newest record; 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How many records are still here.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn push(
        &mut self,
        (index, at): (u64, Timestamp),
        actor: &Actor,
        verb: &str,
        subject: String,
        detail: &serde_json::Value,
    ) {
        self.sequence += 1;
        let mut record = AuditRecord {
            sequence: self.sequence,
            index,
            at,
            actor: actor.to_string(),
            verb: verb.to_owned(),
            subject,
            detail: playbook::canonical::canonical_json(detail),
            hash: Digest::default(),
        };
        record.hash = record.chain_hash(&self.head);
        self.head = record.hash;
        self.records.push_back(record);
        if self.records.len() > AUDIT_RECORDS_MAX {
            self.records.pop_front();
        }
    }
}

/// What happened to tasks in one apply, gathered so that equal things share a record.
#[derive(Debug, Default)]
pub(crate) struct TaskEvents {
    by_kind: BTreeMap<(RunId, u16, TaskEvent), Vec<u32>>,
    /// What else happened to runs: (verb, run, detail).
    notes: Vec<(&'static str, RunId, serde_json::Value)>,
}

/// What happened to a task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TaskEvent {
    /// Held back until people approve.
    Gate,
    /// People let it go.
    Release,
    /// Handed out: the fencing token is the record's index.
    Assign { attempt: u32 },
    /// The agent was asked to stop.
    Stop { attempt: u32, reason: &'static str },
    /// The agent began.
    Start { attempt: u32 },
    /// Failed, to be tried again.
    Retry { attempt: u32, code: String },
    /// An end.
    End {
        attempt: u32,
        status: TaskStatus,
        code: String,
    },
    /// A report of an attempt that had ended otherwise.
    Late { attempt: u32, said: &'static str },
}

impl TaskEvents {
    pub(crate) fn push(&mut self, run: RunId, step: u16, item: u32, event: TaskEvent) {
        self.by_kind.entry((run, step, event)).or_default().push(item);
    }

    /// A record of its own, before those of the tasks.
    pub(crate) fn note(&mut self, verb: &'static str, run: RunId, detail: serde_json::Value) {
        self.notes.push((verb, run, detail));
    }

    /// Writes the records.
    pub(crate) fn flush(
        self,
        audit: &mut Audit,
        stamp: (u64, Timestamp),
        actor: &Actor,
        step_name: impl Fn(RunId, u16) -> String,
    ) {
        for (verb, run, detail) in self.notes {
            audit.push(stamp, actor, verb, run.to_string(), &detail);
        }
        for ((run, step, event), mut items) in self.by_kind {
            items.sort_unstable();
            let items = ranges(&items);
            let step = step_name(run, step);
            let (verb, detail) = match event {
                TaskEvent::Gate => ("task.gate", json!({"step": step, "items": items})),
                TaskEvent::Release => ("task.release", json!({"step": step, "items": items})),
                TaskEvent::Assign { attempt } => (
                    "task.assign",
                    json!({"step": step, "items": items, "attempt": attempt, "token": stamp.0}),
                ),
                TaskEvent::Stop { attempt, reason } => (
                    "task.stop",
                    json!({"step": step, "items": items, "attempt": attempt, "reason": reason}),
                ),
                TaskEvent::Start { attempt } => (
                    "task.start",
                    json!({"step": step, "items": items, "attempt": attempt}),
                ),
                TaskEvent::Retry { attempt, code } => (
                    "task.retry",
                    json!({"step": step, "items": items, "attempt": attempt, "code": code}),
                ),
                TaskEvent::End {
                    attempt,
                    status,
                    code,
                } => (
                    "task.end",
                    json!({"step": step, "items": items, "attempt": attempt, "status": status.as_str(), "code": code}),
                ),
                TaskEvent::Late { attempt, said } => (
                    "task.late",
                    json!({"step": step, "items": items, "attempt": attempt, "said": said}),
                ),
            };
            audit.push(stamp, actor, verb, run.to_string(), &detail);
        }
    }
}

/// Sorted numbers as inclusive ranges: `[1,2,3,7]` is `[[1,3],[7,7]]`.
fn ranges(sorted: &[u32]) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &n in sorted {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => ranges.push((n, n)),
        }
    }
    ranges
}
