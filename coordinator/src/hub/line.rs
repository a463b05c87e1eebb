//! The line to a session: what other tasks may tell it. Everything on it is bounded by what the session
//! itself let in (a report is answered once, a renewal once) or is a level, not a queue.

use engine::id::AgentId;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::attempt::NamedAttempt;

/// One session, as the rest of the node sees it.
pub struct Line {
    /// Whose.
    pub agent: AgentId,
    /// Which: greater than every earlier one of this node.
    pub session: u64,
    /// Since when.
    pub since: Instant,
    wake: Notify,
    told: Mutex<Told>,
}

/// What a session was told and has not looked at.
#[derive(Default)]
pub struct Told {
    /// Its assignments, or what it may hand out, may have changed.
    pub assignments: bool,
    /// Answers to what its agent said.
    pub answers: Vec<Answer>,
    /// It must end.
    pub close: Option<Close>,
}

/// The answer to something that an agent said.
pub enum Answer {
    /// A report is committed, or never will be.
    Report {
        /// Of which attempt.
        attempt: NamedAttempt,
        /// It said that the attempt began, not that it ended.
        is_started: bool,
        /// Why the cluster will never take it.
        refused: Option<String>,
    },
    /// A new certificate, leaf first.
    Renewed {
        /// The chain.
        chain_der: Vec<Vec<u8>>,
        /// The key that it certifies.
        key: engine::id::Digest,
    },
    /// No new certificate.
    NotRenewed(String),
}

/// Why a session ends.
#[derive(Clone, Debug)]
pub struct Close {
    /// For the agent.
    pub reason: String,
    /// Another node will do better.
    pub retry_elsewhere: bool,
}

impl Line {
    /// The line to a session that begins, with its assignments to be looked at.
    pub fn new(agent: AgentId, session: u64) -> Line {
        Line {
            agent,
            session,
            since: Instant::now(),
            wake: Notify::new(),
            told: Mutex::new(Told {
                assignments: true,
                ..Told::default()
            }),
        }
    }

    /// Makes the session look at its assignments.
    pub fn look_at_assignments(&self) {
        self.told.lock().assignments = true;
        self.wake.notify_one();
    }

    /// Gives an answer.
    pub fn answer(&self, answer: Answer) {
        self.told.lock().answers.push(answer);
        self.wake.notify_one();
    }

    /// Ends the session. The first reason counts.
    pub fn close(&self, reason: impl Into<String>, retry_elsewhere: bool) {
        self.told.lock().close.get_or_insert_with(|| Close {
            reason: reason.into(),
            retry_elsewhere,
        });
        self.wake.notify_one();
    }

    /// Takes what was told; for the session only.
    pub fn take(&self) -> Told {
        std::mem::take(&mut *self.told.lock())
    }

    /// Waits until there may be something to take; for the session only.
    pub async fn told(&self) {
        self.wake.notified().await;
    }
}
