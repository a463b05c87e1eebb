//! Reports that the cluster has not committed yet: sent, and sent again until it has.

use std::collections::{BTreeMap, BTreeSet};

use crate::actions::AttemptKey;

use super::event::{Outcome, Report};

/// First pause before a report is sent again on the same session; doubled each time.
pub const RESEND_MS_MIN: u64 = 5_000;
/// Longest pause.
pub const RESEND_MS_MAX: u64 = 60_000;
/// Reports in one message.
pub const REPORTS_PER_MESSAGE_MAX: usize = 256;

/// At most one report per attempt: an end stands for its start too.
#[derive(Debug, Default)]
pub struct Outbox {
    /// By the order in which they happened.
    pending: BTreeMap<u64, Pending>,
    /// Where each attempt's report is.
    places: BTreeMap<AttemptKey, u64>,
    /// (when to send, which), on the monotonic clock.
    due: BTreeSet<(u64, u64)>,
    next_place: u64,
}

#[derive(Debug)]
struct Pending {
    report: Report,
    due_ms: u64,
    tries: u32,
}

impl Outbox {
    /// To be sent as soon as there is a session. Replaces an earlier report of the attempt.
    pub fn push(&mut self, report: Report) {
        let key = key_of(&report).clone();
        self.remove(&key);
        let place = self.next_place;
        self.next_place += 1;
        self.pending.insert(
            place,
            Pending {
                report,
                due_ms: 0,
                tries: 0,
            },
        );
        self.places.insert(key, place);
        self.due.insert((0, place));
    }

    /// The cluster has the start.
    pub fn started_committed(&mut self, key: &AttemptKey) {
        if let Some(place) = self.places.get(key)
            && matches!(self.pending[place].report, Report::Started { .. })
        {
            self.remove(key);
        }
    }

    /// The cluster has the end (or will never take it). The outcome that was waiting, if one was.
    pub fn ended(&mut self, key: &AttemptKey) -> Option<Outcome> {
        match self.remove(key)? {
            Report::Ended { outcome, .. } => Some(outcome),
            Report::Started { .. } => None,
        }
    }

    /// Everything is to be sent again: there is a new session.
    pub fn resend_all(&mut self) {
        self.due.clear();
        for (place, pending) in &mut self.pending {
            pending.due_ms = 0;
            pending.tries = 0;
            self.due.insert((0, *place));
        }
    }

    /// This one is to be sent again at once. False when it is not here.
    pub fn resend(&mut self, key: &AttemptKey) -> bool {
        let Some(place) = self.places.get(key) else {
            return false;
        };
        let Some(pending) = self.pending.get_mut(place) else {
            return false;
        };
        self.due.remove(&(pending.due_ms, *place));
        pending.due_ms = 0;
        self.due.insert((0, *place));
        true
    }

    /// The next message's worth of reports that are due, oldest first; empty when none is.
    pub fn take_due(&mut self, now_ms: u64, message_bytes_max: usize) -> Vec<Report> {
        let mut reports = Vec::new();
        let mut size_bytes = 0;
        while let Some((due_ms, place)) = self.due.first().copied() {
            if due_ms > now_ms || reports.len() >= REPORTS_PER_MESSAGE_MAX {
                break;
            }
            let Some(pending) = self.pending.get_mut(&place) else {
                self.due.pop_first();
                continue;
            };
            let report_bytes = size_of_report(&pending.report);
            if !reports.is_empty() && size_bytes + report_bytes > message_bytes_max {
                break;
            }
            size_bytes += report_bytes;
            let pause = RESEND_MS_MIN
                .saturating_mul(1 << pending.tries.min(4))
                .min(RESEND_MS_MAX);
            pending.tries += 1;
            pending.due_ms = now_ms + pause;
            self.due.pop_first();
            self.due.insert((pending.due_ms, place));
            reports.push(pending.report.clone());
        }
        reports
    }

    /// When the next report is due, on the monotonic clock; 0: at once.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Nothing is left to say.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    fn remove(&mut self, key: &AttemptKey) -> Option<Report> {
        let place = self.places.remove(key)?;
        let pending = self.pending.remove(&place)?;
        self.due.remove(&(pending.due_ms, place));
        Some(pending.report)
    }
}

fn key_of(report: &Report) -> &AttemptKey {
    match report {
        Report::Started { key, .. } | Report::Ended { key, .. } => key,
    }
}

fn size_of_report(report: &Report) -> usize {
    let key_bytes = 128;
    match report {
        Report::Started { .. } => key_bytes,
        Report::Ended { outcome, .. } => key_bytes + outcome.size_bytes(),
    }
}
