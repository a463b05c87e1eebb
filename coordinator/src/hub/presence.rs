//! Who is attached: openings, closings and new facts of this node's sessions, batched into log entries.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use engine::command::{SessionClosed, SessionOpened};
use engine::id::AgentId;
use engine::{Actor, Command, Envelope, Reply};
use tokio::sync::mpsc;

use super::Hub;
use super::batch::{Bounds, Gather};
use super::line::Line;
use crate::control::{Control, SubmitError};

/// Changes that may wait; beyond it openings wait, and closings are found again by reconciling.
const QUEUE_MAX: usize = 16_384;
/// Bounds of one entry.
const BOUNDS: Bounds = Bounds {
    items_max: 512,
    weight_max: 256 << 10,
    linger: Duration::from_millis(20),
};
/// How often the record is compared with the sessions that there are.
const RECONCILE_EVERY: Duration = Duration::from_secs(10);
/// A session younger than this may not have reached the record yet.
const RECORDED_AFTER: Duration = Duration::from_secs(30);

/// Where sessions say that they come, change and go.
#[derive(Clone)]
pub struct Presence {
    changes: mpsc::Sender<Change>,
}

/// The other end, for [`run`].
pub struct PresenceQueue(Gather<Change>);

enum Change {
    Opened(Box<SessionOpened>, Arc<Line>),
    Closed(SessionClosed),
    Facts(AgentId, String),
}

impl Presence {
    /// A queue and its two ends.
    pub fn new() -> (Presence, PresenceQueue) {
        let (changes, queue) = mpsc::channel(QUEUE_MAX);
        (
            Presence { changes },
            PresenceQueue(Gather::new(queue, weigh, BOUNDS)),
        )
    }

    /// A session began.
    pub async fn opened(&self, opened: SessionOpened, line: Arc<Line>) {
        // It fails only while the node stops.
        let _stopping = self.changes.send(Change::Opened(Box::new(opened), line)).await;
    }

    /// A session ended. Never waits, because streams end in destructors; what does not fit is found by
    /// reconciling.
    pub fn closed(&self, agent: AgentId, session: u64) {
        if self
            .changes
            .try_send(Change::Closed(SessionClosed { agent, session }))
            .is_err()
        {
            tracing::debug!(
                session,
                "the presence queue is full: the end of a session is recorded later"
            );
        }
    }

    /// An agent's facts changed.
    pub async fn facts(&self, agent: AgentId, facts: String) {
        let _stopping = self.changes.send(Change::Facts(agent, facts)).await;
    }
}

/// Commits what sessions say, batch by batch, until every session and the hub are gone.
pub async fn run(mut queue: PresenceQueue, control: Control) {
    while let Some(changes) = queue.0.next().await {
        let mut batch = Batch::default();
        for change in changes {
            batch.add(change);
        }
        batch.commit(&control).await;
    }
}

#[derive(Default)]
struct Batch {
    opened: Vec<SessionOpened>,
    lines: Vec<Arc<Line>>,
    closed: Vec<SessionClosed>,
    facts: Vec<(AgentId, String)>,
}

impl Batch {
    /// Within one entry openings are applied before closings, so order is kept whatever the mix: a session
    /// closes after it opened, and a newer one is not touched by an older one's end.
    fn add(&mut self, change: Change) {
        match change {
            Change::Opened(opened, line) => {
                self.opened.push(*opened);
                self.lines.push(line);
            }
            Change::Closed(closed) => self.closed.push(closed),
            Change::Facts(agent, facts) => self.facts.push((agent, facts)),
        }
    }

    async fn commit(self, control: &Control) {
        let node = control.node();
        let envelope = Envelope {
            request: None,
            actor: Actor::Node(node),
            command: Command::Sessions {
                node,
                opened: self.opened,
                closed: self.closed,
                facts: self.facts,
            },
        };
        loop {
            match control.submit(envelope.clone()).await {
                Ok((_, Reply::Sessions(verdicts))) => {
                    for (line, verdict) in self.lines.iter().zip(verdicts) {
                        if let Some(reason) = verdict {
                            line.close(reason, false);
                        }
                    }
                    return;
                }
                Ok((_, Reply::Refused(refusal))) => {
                    tracing::warn!(%refusal, "the sessions of this node were refused");
                    self.lines
                        .iter()
                        .for_each(|line| line.close(refusal.to_string(), true));
                    return;
                }
                Ok((_, _)) | Err(SubmitError::Halted | SubmitError::TooLarge) => {
                    self.lines
                        .iter()
                        .for_each(|line| line.close("this node cannot record sessions", true));
                    return;
                }
                // It is the same said twice: say it until it is heard.
                Err(
                    SubmitError::Busy
                    | SubmitError::NoLeader
                    | SubmitError::OutcomeUnknown
                    | SubmitError::DiskFull { .. },
                ) => {}
            }
        }
    }
}

fn weigh(change: &Change) -> usize {
    match change {
        Change::Opened(opened, _) => 256 + opened.facts.len() + 64 * opened.running.len(),
        Change::Closed(_) => 96,
        Change::Facts(_, facts) => 96 + facts.len(),
    }
}

/// Keeps the record true where a change was lost: closes recorded sessions of this node that do not
/// exist (after a restart: all), and live ones that the record does not know, so that their agents come again.
pub(super) async fn reconcile(hub: &Hub) {
    let control = &hub.inner.control;
    let mut every = tokio::time::interval(RECONCILE_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if !control.raft().has_lease() {
            // Try soon: at the start of a node it matters.
            every.reset_after(Duration::from_millis(200));
            continue;
        }
        let recorded: HashMap<u64, AgentId> = control.local(|state| {
            state
                .sessions_of(control.node())
                .map(|(agent, session)| (session, agent.clone()))
                .collect()
        });
        let live: HashMap<u64, Arc<Line>> = hub.inner.lines.lock().by_session.clone();
        for (session, agent) in &recorded {
            if !live.contains_key(session) {
                hub.inner.presence.closed(agent.clone(), *session);
            }
        }
        for line in live.values() {
            if line.since.elapsed() > RECORDED_AFTER && !recorded.contains_key(&line.session) {
                line.close("this session is not recorded: attach again", false);
            }
        }
    }
}
