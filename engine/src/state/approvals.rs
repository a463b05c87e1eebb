//! Approval requests: what waits for people, whom it asks, and what they said.
//!
//! There is one request for the tasks of a step that its gate holds back, and one for a question (`ask`). It is
//! bound to what would be done: [`Approval::binding`] is a hash over the plan hash of the run, the step, the tasks
//! and their parameters, and an answer names the one that its giver saw. What is changed is asked
//! again: earlier answers do not count for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{ApprovalId, Digest, RunId};
use crate::limits::APPROVALS_OVER_MAX;
use crate::time::Timestamp;

/// Where an approval request is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalStatus {
    /// Not enough people have answered.
    Waiting,
    /// End: enough people approved, and the tasks go on.
    Approved,
    /// End: the question was answered.
    Answered,
    /// End: somebody said no.
    Denied,
    /// End: not enough people answered in time.
    Expired,
    /// End: nothing is left that waits for it.
    Cancelled,
}

impl ApprovalStatus {
    /// Nobody is asked any more.
    pub fn is_end(self) -> bool {
        self != ApprovalStatus::Waiting
    }

    /// The name in the operators' API.
    pub fn as_str(self) -> &'static str {
        match self {
            ApprovalStatus::Waiting => "waiting",
            ApprovalStatus::Approved => "approved",
            ApprovalStatus::Answered => "answered",
            ApprovalStatus::Denied => "denied",
            ApprovalStatus::Expired => "expired",
            ApprovalStatus::Cancelled => "cancelled",
        }
    }
}

/// A request for people's approval, or for their answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// Its name.
    pub id: ApprovalId,
    /// The run that waits.
    pub run: RunId,
    /// The number of the step that waits.
    pub step: u16,
    /// The tasks that wait (or did, when it ended), as inclusive ranges in order. None for a question.
    pub items: Vec<(u32, u32)>,
    /// A hash over everything that was asked.
    pub binding: Digest,
    /// Who may answer: whoever holds one of these roles.
    pub roles: Vec<String>,
    /// How many different people must.
    pub quorum: u32,
    /// The operator who may not, for the run is his.
    pub barred: Option<String>,
    /// When it was put.
    pub created_at: Timestamp,
    /// Until when it is waited for (the first time, or after its escalation).
    pub expires_at: Timestamp,
    /// Time ran out once, and more roles were asked.
    pub escalated: bool,
    /// Where it is in its life.
    pub status: ApprovalStatus,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What people should know besides: why so many must answer, or why tasks wait for which the condition
    /// could not be evaluated. May be empty.
    pub note: String,
    /// What is asked, where it is a question.
    pub question: Option<Question>,
    /// In the order in which they came; of different people.
    pub answers: Vec<Answer>,
}

/// What people are asked to fill in. Its fields are in the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// What they are told; may be empty.
    pub text: String,
    /// What fields hold unless people say otherwise: the JSON text of an object.
    pub defaults: Arc<str>,
}

/// What one person said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Who.
    pub operator: String,
    /// The role that let him.
    pub role: String,
    /// What: false is a no.
    pub yes: bool,
    /// Why; never empty.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl Approval {
    /// How many tasks wait.
    pub fn tasks(&self) -> u32 {
        self.items.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Their items, in order.
    pub fn each_item(&self) -> impl Iterator<Item = u32> {
        self.items.iter().flat_map(|&(first, last)| first..=last)
    }

    /// How many people more must answer.
    pub fn missing(&self) -> u32 {
        let given = self.answers.iter().filter(|answer| answer.yes).count() as u32;
        match self.status {
            ApprovalStatus::Waiting => self.quorum.saturating_sub(given),
            _ => 0,
        }
    }
}

/// All approval requests that wait, and the newest of those that are over.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Approvals {
    by_id: BTreeMap<ApprovalId, Approval>,
    /// Of the newest one ever put.
    last: ApprovalId,
    /// Derived: those that wait, by what waits for them.
    waiting: BTreeSet<(RunId, u16, ApprovalId)>,
}

impl Approvals {
    /// By id.
    pub fn get(&self, id: ApprovalId) -> Option<&Approval> {
        self.by_id.get(&id)
    }

    /// In the order in which they were put.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Approval> {
        self.by_id.values()
    }

    /// Before this id, the newest first.
    pub fn before(&self, id: ApprovalId) -> impl Iterator<Item = &Approval> {
        self.by_id.range(..id).rev().map(|(_, approval)| approval)
    }

    /// Those that a run waits for.
    pub fn waiting_of(&self, run: RunId) -> impl Iterator<Item = &Approval> {
        self.waiting
            .range((run, 0, ApprovalId(0))..=(run, u16::MAX, ApprovalId(u64::MAX)))
            .filter_map(|(_, _, id)| self.by_id.get(id))
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The id of the newest one ever put.
    pub(crate) fn last(&self) -> ApprovalId {
        self.last
    }

    /// What those that wait are, by what waits for them.
    pub(crate) fn waiting_ids(&self, run: RunId, step: u16) -> Vec<ApprovalId> {
        self.waiting
            .range((run, step, ApprovalId(0))..=(run, step, ApprovalId(u64::MAX)))
            .map(|&(_, _, id)| id)
            .collect()
    }

    /// For changes of one that waits, but not of its status: `close` does that.
    pub(crate) fn get_mut(&mut self, id: ApprovalId) -> Option<&mut Approval> {
        self.by_id.get_mut(&id)
    }

    /// The id of the next.
    pub(crate) fn next_id(&mut self) -> ApprovalId {
        self.last = ApprovalId(self.last.0 + 1);
        self.last
    }

    /// Adds one; when read from a snapshot it may be over.
    pub(crate) fn insert(&mut self, approval: Approval) {
        if !approval.status.is_end() {
            self.waiting.insert((approval.run, approval.step, approval.id));
        }
        self.last = self.last.max(approval.id);
        self.by_id.insert(approval.id, approval);
    }

    /// As a snapshot has it: the id of the newest one, which may be gone.
    pub(crate) fn set_last(&mut self, last: ApprovalId) {
        self.last = self.last.max(last);
    }

    /// Ends one, and drops the oldest that is over while there are too many.
    pub(crate) fn close(&mut self, id: ApprovalId, status: ApprovalStatus, now: Timestamp) {
        if let Some(approval) = self.by_id.get_mut(&id) {
            approval.status = status;
            approval.ended_at = Some(now);
            self.waiting.remove(&(approval.run, approval.step, id));
        }
        while self.by_id.len() - self.waiting.len() > APPROVALS_OVER_MAX {
            let oldest = self.by_id.values().find(|a| a.status.is_end()).map(|a| a.id);
            let Some(oldest) = oldest else { return };
            self.by_id.remove(&oldest);
        }
    }
}

/// Adds a number, greater than all before, to inclusive ranges.
pub(crate) fn push_item(ranges: &mut Vec<(u32, u32)>, item: u32) {
    match ranges.last_mut() {
        Some((_, last)) if *last + 1 == item => *last = item,
        _ => ranges.push((item, item)),
    }
}
