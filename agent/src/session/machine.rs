//! The state machine of an agent's session. It does no IO, reads no clock, and is deterministic: the same
//! seed and the same inputs at the same times give the same outputs.
//!
//! # How to drive it
//!
//! ```text
//! let mut machine = Machine::new(settings, recovered, seed, now);
//! loop {
//!     while let Some(output) = machine.poll_output() { carry it out }
//!     wait until machine.next_deadline_ms(), or until something happens
//!     machine.handle(now, input)          // Input::Wake when nothing but time has passed
//! }
//! ```
//!
//! - `recovered` is what the journal holds: every durable intent and outcome, and the floor. A crash is:
//!   drop the machine and everything that it asked for; keep what was durable in the journal; make a new
//!   machine from it. `Forget` and `Acknowledge` may be lost in a crash.
//! - `WriteIntent` and `WriteOutcome` are answered by `Input::Written` once they are durable, in any order.
//!   Nothing is run before its intent is, and nothing is reported before its outcome is.
//! - `Run` is answered by `Input::Ended`, exactly once. `CancelRun` only asks the action to hurry.
//! - `Recall` is answered by `Input::Recalled`.
//! - `Connect` is answered by `Input::Connected` or `Input::Lost`; afterwards by `Received` and at most one
//!   `Lost`. Inputs of a connection that the machine has given up are ignored.
//!
//! # What it promises
//!
//! - `Run` is said at most once for an attempt, over all crashes; and for contain and above at most once for
//!   a *task* whose effect happened or may have happened: a later attempt of it ends `unknown`, with the code
//!   `already_done`. An attempt that was under way in a crash ends `failed`/`interrupted` when it only
//!   observes or collects, `unknown`/`interrupted` otherwise.
//! - An assignment older than the newest seen of its task is dropped; one that lies below what the journal
//!   remembers ends `failed`/`stale_assignment`.
//! - Every outcome is reported until the cluster has committed or refused it, on whatever node.
//! - What is urgent never waits for what is not.

use std::collections::VecDeque;

use catalogue::Impact;

use crate::actions::AttemptKey;

use super::event::{
    Assignment, Failure, Input, Intent, Notice, Now, Outcome, Output, Received, Recovered, Report, Sent,
    Status, Written,
};
use super::jitter::Jitter;
use super::lanes::{Lanes, Waiting};
use super::link::{Due, Link, LinkTimes};
use super::outbox::Outbox;
use super::tasks::{Judgement, Standing, Tasks};

/// Attempts that Hello names: coordinators take no more. Those that run come first; the ends of the others
/// are reported right after.
const HELLO_RUNNING_MAX: usize = 1_000;

/// The bounds of one agent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many coordinators there are to choose from.
    pub endpoints: usize,
    /// The one to try first.
    pub first: Option<usize>,
    /// Contain, kill, cancel and release at the same time.
    pub urgent_slots: usize,
    /// Everything else at the same time.
    pub normal_slots: usize,
    /// What may wait in each lane; more ends `failed`/`busy`.
    pub waiting_max: usize,
    /// Outcomes that are kept after the cluster has committed them, to answer repeats.
    pub retained_max: usize,
    /// The same, in bytes.
    pub retained_bytes_max: usize,
    /// After `Input::Shutdown`: how long running work and unsent reports may still take.
    pub shutdown_ms_max: u64,
    /// Of the connection.
    pub times: LinkTimes,
}

impl Settings {
    /// What suits an endpoint.
    pub fn new(endpoints: usize) -> Settings {
        Settings {
            endpoints,
            first: None,
            urgent_slots: 4,
            normal_slots: 2,
            waiting_max: 1_024,
            retained_max: 1_024,
            retained_bytes_max: 8 * 1024 * 1024,
            shutdown_ms_max: 10_000,
            times: LinkTimes::default(),
        }
    }
}

/// One agent's session, over all its connections.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    jitter: Jitter,
    link: Link,
    tasks: Tasks,
    lanes: Lanes,
    outbox: Outbox,
    outputs: VecDeque<Output>,
    running: usize,
    writing: usize,
    stopping_by_ms: Option<u64>,
    stopped: bool,
}

impl Machine {
    /// Takes up what the journal holds. Attempts that were under way are ended here.
    pub fn new(settings: Settings, recovered: Recovered, seed: u64, now: Now) -> Machine {
        let mut jitter = Jitter::new(seed);
        let link = Link::new(
            settings.endpoints,
            settings.first,
            settings.times.clone(),
            now.monotonic_ms,
            &mut jitter,
        );
        let lanes = Lanes::new(settings.urgent_slots, settings.normal_slots, settings.waiting_max);
        let mut machine = Machine {
            jitter,
            link,
            tasks: Tasks::new(recovered.floor),
            lanes,
            outbox: Outbox::default(),
            outputs: VecDeque::new(),
            running: 0,
            writing: 0,
            stopping_by_ms: None,
            stopped: false,
            settings,
        };
        machine.recover(recovered, now);
        machine
    }

    /// Takes an input. Its outputs wait in [`Machine::poll_output`].
    pub fn handle(&mut self, now: Now, input: Input) {
        if self.stopped {
            return;
        }
        match input {
            Input::Connected { connection } => self.connected(now, connection),
            Input::Lost { connection, reason } => {
                if connection == self.link.connection() && self.link.is_open() {
                    let retry_in_ms = self.link.broken(now.monotonic_ms, &mut self.jitter);
                    self.tell_detached(reason, retry_in_ms);
                }
            }
            Input::Received { connection, message } => {
                if connection == self.link.connection() && self.link.is_open() {
                    self.link.heard(now.monotonic_ms);
                    self.received(now, message);
                }
            }
            Input::Written(Written::Intent(key)) => self.intent_written(now, &key),
            Input::Written(Written::Outcome(key)) => self.outcome_written(now, &key),
            Input::Recalled { key, outcome } => self.recalled(key, outcome),
            Input::Ended { key, outcome } => self.ended(key, outcome),
            Input::Shutdown => self.shutdown(now),
            Input::Wake => {}
        }
        self.advance(now);
    }

    /// What is to be done next, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() && self.outputs.capacity() > 64 {
            // A burst must not stay in an idle agent's memory.
            self.outputs = VecDeque::new();
        }
        output
    }

    /// When to come back with `Input::Wake`, on the monotonic clock, if nothing happens before.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        if self.stopped {
            return None;
        }
        let resend = if self.link.is_live() {
            self.outbox.next_due_ms()
        } else {
            None
        };
        [
            self.link.next_deadline_ms(),
            resend,
            self.lanes.next_deadline_ms(),
            self.stopping_by_ms,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// A session is up.
    pub fn is_attached(&self) -> bool {
        self.link.is_live()
    }

    fn recover(&mut self, recovered: Recovered, now: Now) {
        for record in recovered.records {
            let key = record.key;
            let begun = record.intent.is_some();
            match (record.outcome, record.intent) {
                (Some(outcome), _) => {
                    self.tasks.set(
                        &key,
                        Standing::Ended {
                            status: outcome.status,
                            begun,
                        },
                    );
                    if record.acknowledged {
                        self.tasks.committed(&key, outcome.size_bytes());
                    } else {
                        self.outbox.push(Report::Ended { key, outcome });
                    }
                }
                (None, Some(intent)) => {
                    let status = if intent.impact < Impact::Contain {
                        Status::Failed
                    } else {
                        Status::Unknown
                    };
                    let outcome = Outcome {
                        started_at_ms: intent.at_ms,
                        ..Outcome::not_run(
                            status,
                            "interrupted",
                            "the agent ended while this was under way",
                            now.wall_ms,
                        )
                    };
                    self.outputs.push_back(Output::Notice(Notice::Interrupted {
                        key: key.clone(),
                        status,
                    }));
                    self.end(key, outcome, true);
                }
                // Neither: the record says nothing, and nothing was done.
                (None, None) => {}
            }
        }
    }

    fn connected(&mut self, now: Now, connection: u64) {
        if connection != self.link.connection() || !self.link.connected(now.monotonic_ms) {
            return;
        }
        let running = self.tasks.begun_not_committed(HELLO_RUNNING_MAX);
        self.send(Sent::Hello { running });
    }

    fn detached(&mut self, now: Now, reason: String, elsewhere: bool) {
        let retry_in_ms = self.link.lost(now.monotonic_ms, elsewhere, &mut self.jitter);
        self.tell_detached(reason, retry_in_ms);
    }

    fn tell_detached(&mut self, reason: String, retry_in_ms: u64) {
        self.outputs
            .push_back(Output::Notice(Notice::Detached { reason, retry_in_ms }));
    }

    fn received(&mut self, now: Now, message: Received) {
        match message {
            Received::Welcome {
                heartbeat_ms,
                lease_ms,
                message_bytes_max,
            } => {
                let begins = self.link.welcomed(
                    now.monotonic_ms,
                    heartbeat_ms,
                    lease_ms,
                    message_bytes_max,
                    &mut self.jitter,
                );
                if begins {
                    let endpoint = self.link.endpoint();
                    self.outputs
                        .push_back(Output::Notice(Notice::Attached { endpoint }));
                    self.outbox.resend_all();
                }
            }
            Received::Assign(assignment) => self.assigned(now, assignment),
            Received::Cancel { key, reason } => self.cancelled(now, key, reason),
            Received::Committed {
                started,
                ended,
                refused,
            } => {
                for key in &started {
                    self.outbox.started_committed(key);
                }
                for key in ended {
                    self.report_settled(key);
                }
                for (key, reason) in refused {
                    self.outputs.push_back(Output::Notice(Notice::ReportRefused {
                        key: key.clone(),
                        reason,
                    }));
                    self.report_settled(key);
                }
                self.forget();
            }
            Received::Goodbye {
                reason,
                retry_elsewhere,
            } => {
                let connection = self.link.connection();
                self.outputs.push_back(Output::Disconnect {
                    connection,
                    reason: reason.clone(),
                });
                self.detached(now, reason, retry_elsewhere);
            }
            Received::Other => {}
        }
    }

    /// The cluster holds the attempt's end, or will never take it.
    fn report_settled(&mut self, key: AttemptKey) {
        let Some(outcome) = self.outbox.ended(&key) else {
            return;
        };
        if self.tasks.committed(&key, outcome.size_bytes()) {
            self.outputs.push_back(Output::Acknowledge(key));
        }
    }

    fn assigned(&mut self, now: Now, assignment: Box<Assignment>) {
        if self.stopping_by_ms.is_some() {
            // It is handed out again when the agent is back, here or elsewhere.
            return;
        }
        let key = assignment.key.clone();
        match self.judge(&key) {
            Judgement::New => {}
            Judgement::UnderWay => return,
            Judgement::Ended => return self.answer_again(key),
            Judgement::Fenced { newest } => {
                self.outputs
                    .push_back(Output::Notice(Notice::Fenced { key, newest }));
                return;
            }
            Judgement::Forgotten { floor } => return self.end_forgotten(now, key, floor),
        }
        if let Some(Failure { code, message }) = &assignment.refusal {
            let outcome = Outcome::not_run(Status::Failed, code, message.clone(), now.wall_ms);
            return self.end(key, outcome, false);
        }
        let older = self.tasks.others_under_way(&key);
        for other in &older {
            self.stop_attempt(now, other, &format!("attempt {} took its place", key.attempt));
        }
        if older.is_empty() {
            self.admit(now, assignment, now.monotonic_ms);
        } else {
            self.tasks.set(&key, Standing::Held(assignment, now.monotonic_ms));
        }
    }

    /// Into its lane, unless the task's effect has happened already.
    fn admit(&mut self, now: Now, assignment: Box<Assignment>, received_ms: u64) {
        let key = assignment.key.clone();
        let earlier = if cfg!(feature = "fault-skip-fencing") || assignment.impact < Impact::Contain {
            None
        } else {
            self.tasks.earlier_effect(&key)
        };
        if let Some((attempt, status)) = earlier {
            let message = format!(
                "attempt {attempt} of this task ended {}: its effect is never repeated",
                status.as_str()
            );
            let outcome = Outcome::not_run(Status::Unknown, "already_done", message, now.wall_ms);
            return self.end(key, outcome, false);
        }
        self.tasks.set(&key, Standing::Waiting);
        if let Err(refused) = self.lanes.push(Waiting {
            assignment,
            received_ms,
        }) {
            let message = format!("{} tasks wait on this host already", self.settings.waiting_max);
            let outcome = Outcome::not_run(Status::Failed, "busy", message, now.wall_ms);
            self.end(refused.assignment.key, outcome, false);
        }
    }

    fn judge(&self, key: &AttemptKey) -> Judgement {
        let judgement = self.tasks.judge(key);
        if cfg!(feature = "fault-skip-fencing") && judgement != Judgement::UnderWay {
            // The deliberately broken build: only what is under way at this moment is not begun again.
            return match self.tasks.get(key) {
                Some(Standing::Ending { .. }) => Judgement::UnderWay,
                _ => Judgement::New,
            };
        }
        judgement
    }

    /// A repeat of something that has ended is answered from the journal.
    fn answer_again(&mut self, key: AttemptKey) {
        let durable = matches!(self.tasks.get(&key), Some(Standing::Ended { .. }));
        if durable && !self.outbox.resend(&key) {
            self.outputs.push_back(Output::Recall(key));
        }
    }

    fn recalled(&mut self, key: AttemptKey, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome
            && self.link.is_live()
        {
            // Committed before: said once, not kept in the outbox.
            self.send(Sent::Reports(vec![Report::Ended { key, outcome }]));
        }
    }

    fn cancelled(&mut self, now: Now, key: AttemptKey, reason: String) {
        match self.tasks.judge(&key) {
            Judgement::UnderWay => self.stop_attempt(now, &key, &reason),
            Judgement::Ended => self.answer_again(key),
            // Cancelled before it came: noted, so that the assignment finds it ended.
            Judgement::New => {
                let outcome = Outcome::not_run(Status::Cancelled, "cancelled", reason, now.wall_ms);
                self.end(key, outcome, false);
            }
            Judgement::Forgotten { floor } => self.end_forgotten(now, key, floor),
            Judgement::Fenced { newest } => {
                self.outputs
                    .push_back(Output::Notice(Notice::Fenced { key, newest }));
            }
        }
    }

    /// What lies below the floor may have been done and forgotten: it is never run.
    fn end_forgotten(&mut self, now: Now, key: AttemptKey, floor: u64) {
        let message = format!(
            "the assignment's token {} is not above {floor}, below which this agent's journal was compacted",
            key.token
        );
        let outcome = Outcome::not_run(Status::Failed, "stale_assignment", message, now.wall_ms);
        self.end(key, outcome, false);
    }

    /// Stops an attempt wherever it stands.
    fn stop_attempt(&mut self, now: Now, key: &AttemptKey, reason: &str) {
        match self.tasks.get_mut(key) {
            Some(Standing::Held(..) | Standing::Waiting) => {
                self.lanes.take(|waiting| waiting.assignment.key == *key);
                let outcome = Outcome::not_run(Status::Cancelled, "cancelled", reason, now.wall_ms);
                self.end(key.clone(), outcome, false);
            }
            Some(Standing::Intending { stop, .. }) => {
                stop.get_or_insert_with(|| reason.to_owned());
            }
            Some(Standing::Running { cancelled, .. }) => {
                if !std::mem::replace(cancelled, true) {
                    self.outputs.push_back(Output::CancelRun {
                        key: key.clone(),
                        reason: reason.to_owned(),
                    });
                }
            }
            Some(Standing::Ending { .. } | Standing::Ended { .. }) | None => {}
        }
    }

    fn intent_written(&mut self, now: Now, key: &AttemptKey) {
        let Some(Standing::Intending {
            assignment,
            start_by_ms,
            stop,
        }) = self.tasks.get_mut(key)
        else {
            return;
        };
        self.writing = self.writing.saturating_sub(1);
        let (urgent, impact) = (assignment.urgent, assignment.impact);
        let not_run = if let Some(reason) = stop.take() {
            Some(Outcome::not_run(
                Status::Cancelled,
                "cancelled",
                reason,
                now.wall_ms,
            ))
        } else if start_by_ms.is_some_and(|by| by < now.monotonic_ms) {
            Some(too_late(now))
        } else if self.stopping_by_ms.is_some() && !urgent {
            Some(Outcome::not_run(
                Status::Failed,
                "interrupted",
                "the agent is stopping",
                now.wall_ms,
            ))
        } else {
            None
        };
        if let Some(outcome) = not_run {
            self.lanes.end(urgent);
            return self.end(key.clone(), outcome, false);
        }
        let assignment = assignment.clone();
        self.tasks.set(
            key,
            Standing::Running {
                urgent,
                impact,
                cancelled: false,
            },
        );
        self.running += 1;
        self.outbox.push(Report::Started {
            key: key.clone(),
            at_ms: now.wall_ms,
        });
        self.outputs.push_back(Output::Run(assignment));
    }

    fn ended(&mut self, key: AttemptKey, mut outcome: Outcome) {
        let Some(Standing::Running {
            urgent,
            impact,
            cancelled,
        }) = self.tasks.get(&key)
        else {
            return;
        };
        let (urgent, impact, cancelled) = (*urgent, *impact, *cancelled);
        self.running = self.running.saturating_sub(1);
        self.lanes.end(urgent);
        // Cut short by our own end, not by the cluster's wish: to be tried again where that is harmless.
        let cut_short = self.stopping_by_ms.is_some() && !cancelled && outcome.status == Status::Cancelled;
        if cut_short && impact < Impact::Contain {
            outcome.status = Status::Failed;
            outcome.error = Some(Failure {
                code: "interrupted".to_owned(),
                message: "the agent was stopped".to_owned(),
            });
        }
        self.end(key, outcome, true);
    }

    /// The attempt has this outcome as soon as it is written.
    fn end(&mut self, key: AttemptKey, outcome: Outcome, begun: bool) {
        self.writing += 1;
        self.tasks.set(
            &key,
            Standing::Ending {
                outcome: outcome.clone(),
                begun,
            },
        );
        self.outputs.push_back(Output::WriteOutcome { key, outcome });
    }

    fn outcome_written(&mut self, now: Now, key: &AttemptKey) {
        let Some(Standing::Ending { outcome, begun }) = self.tasks.get(key) else {
            return;
        };
        let (outcome, begun) = (outcome.clone(), *begun);
        self.writing = self.writing.saturating_sub(1);
        self.tasks.set(
            key,
            Standing::Ended {
                status: outcome.status,
                begun,
            },
        );
        self.outbox.push(Report::Ended {
            key: key.clone(),
            outcome,
        });
        let others = self.tasks.others_under_way(key);
        let only_held = others.len() == 1 && matches!(self.tasks.get(&others[0]), Some(Standing::Held(..)));
        if only_held && let Some((assignment, received_ms)) = self.tasks.take_held(key) {
            self.admit(now, assignment, received_ms);
        }
    }

    fn shutdown(&mut self, now: Now) {
        if self.stopping_by_ms.is_some() {
            return;
        }
        self.stopping_by_ms = Some(now.monotonic_ms + self.settings.shutdown_ms_max);
        // What only waits is dropped without a word: nothing was begun, and it is handed out again.
        self.lanes.take(|waiting| !waiting.assignment.urgent);
        let running = self.tasks.begun_not_committed(usize::MAX);
        for key in running {
            if let Some(Standing::Running {
                urgent: false,
                cancelled: false,
                ..
            }) = self.tasks.get(&key)
            {
                let reason = "the agent is stopping".to_owned();
                self.outputs.push_back(Output::CancelRun { key, reason });
            }
        }
    }

    /// What follows from every input: begin what has a slot, say what is due, keep the connection.
    fn advance(&mut self, now: Now) {
        for late in self
            .lanes
            .take(|waiting| waiting.start_by_ms().is_some_and(|by| by < now.monotonic_ms))
        {
            self.end(late.assignment.key, too_late(now), false);
        }
        while let Some(waiting) = self.lanes.begin_next() {
            let start_by_ms = waiting.start_by_ms();
            let assignment = waiting.assignment;
            let intent = Intent {
                key: assignment.key.clone(),
                action: assignment.action.clone(),
                impact: assignment.impact,
                at_ms: now.wall_ms,
            };
            self.writing += 1;
            let key = assignment.key.clone();
            self.tasks.set(
                &key,
                Standing::Intending {
                    assignment,
                    start_by_ms,
                    stop: None,
                },
            );
            self.outputs.push_back(Output::WriteIntent(intent));
        }
        self.advance_link(now);
        self.flush_reports(now);
        self.stop_when_done(now);
    }

    fn advance_link(&mut self, now: Now) {
        while let Some(due) = self.link.due(now.monotonic_ms) {
            match due {
                Due::Connect { connection, endpoint } => {
                    self.outputs.push_back(Output::Connect { connection, endpoint });
                }
                Due::Silent { reason } => {
                    let connection = self.link.connection();
                    self.outputs.push_back(Output::Disconnect {
                        connection,
                        reason: reason.clone(),
                    });
                    self.detached(now, reason, true);
                }
                Due::Heartbeat { sequence } => self.send(Sent::Heartbeat { sequence }),
            }
        }
    }

    fn flush_reports(&mut self, now: Now) {
        if !self.link.is_live() {
            return;
        }
        loop {
            let reports = self
                .outbox
                .take_due(now.monotonic_ms, self.link.reports_bytes_max());
            if reports.is_empty() {
                return;
            }
            self.send(Sent::Reports(reports));
        }
    }

    fn stop_when_done(&mut self, now: Now) {
        let Some(by_ms) = self.stopping_by_ms else { return };
        let idle = self.running == 0 && self.writing == 0;
        let said = self.outbox.is_empty() || !self.link.is_live();
        if (idle && said) || by_ms <= now.monotonic_ms {
            if self.link.is_open() {
                let connection = self.link.connection();
                let reason = "the agent is stopping".to_owned();
                self.outputs.push_back(Output::Disconnect { connection, reason });
            }
            self.link.close();
            self.stopped = true;
            self.outputs.push_back(Output::Stopped);
        }
    }

    fn forget(&mut self) {
        let keys = self
            .tasks
            .forget(self.settings.retained_max, self.settings.retained_bytes_max);
        if !keys.is_empty() {
            self.outputs.push_back(Output::Forget {
                keys,
                floor: self.tasks.floor(),
            });
        }
    }

    fn send(&mut self, message: Sent) {
        let connection = self.link.connection();
        self.outputs.push_back(Output::Send { connection, message });
    }
}

fn too_late(now: Now) -> Outcome {
    let message = "this host could not begin it within the time that the playbook allows";
    Outcome::not_run(Status::Failed, "start_too_late", message, now.wall_ms)
}
