//! The agents that are attached to this node.
//!
//! Each session (`session`) is one task, fed by its agent's stream and by its line (`line`). It hands out
//! what this node's own applied state assigns to its agent (`outbox`), and passes on what the agent says:
//! reports (`reports`) and presence (`presence`), each batched (`batch`) into log entries. So a change of
//! the leader moves no agent. Absent on purpose: any memory of tasks that is not in the state.

pub mod batch;
pub mod line;
pub mod outbox;
pub mod presence;
pub mod reports;
pub mod session;
pub mod wire;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use certs::IssuingCa;
use engine::effect::Effect;
use engine::id::AgentId;
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::clock;
use crate::config;
use crate::control::Control;
use line::Line;
use presence::Presence;
use reports::Reports;

/// How often the lease is looked at.
const LEASE_LOOK: Duration = Duration::from_millis(50);

/// This node's sessions. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    control: Control,
    presence: Presence,
    reports: Reports,
    issuer: Arc<IssuingCa>,
    node_name: String,
    settings: config::Agents,
    next_session: AtomicU64,
    lines: Mutex<Lines>,
}

/// The lines, by agent and by session. An agent may for a moment have two sessions.
#[derive(Default)]
struct Lines {
    by_session: HashMap<u64, Arc<Line>>,
    by_agent: HashMap<AgentId, Arc<Line>>,
}

impl Hub {
    /// Makes the hub; [`Hub::run`] keeps it going.
    pub fn new(
        control: Control,
        presence: Presence,
        reports: Reports,
        issuer: Arc<IssuingCa>,
        node_name: String,
        settings: config::Agents,
    ) -> Hub {
        Hub {
            inner: Arc::new(Inner {
                control,
                presence,
                reports,
                issuer,
                node_name,
                settings,
                // Milliseconds leave room for a thousand sessions each, so that a restarted node goes on above.
                next_session: AtomicU64::new(clock::now().0 << 10),
                lines: Mutex::default(),
            }),
        }
    }

    /// Passes on what applied entries ask, watches the lease, keeps the record of presence true. For ever.
    pub async fn run(self) {
        tokio::join!(self.dispatch(), self.watch_lease(), presence::reconcile(&self));
    }

    /// How many sessions there are.
    pub fn session_count(&self) -> usize {
        self.inner.lines.lock().by_session.len()
    }

    /// Ends all sessions: this node stops.
    pub fn close_all(&self, reason: &str) {
        for line in self.lines() {
            line.close(reason, true);
        }
    }

    fn lines(&self) -> Vec<Arc<Line>> {
        self.inner.lines.lock().by_session.values().cloned().collect()
    }

    /// Begins a session of an agent. An earlier one on this node is closed: its agent has come back before
    /// the old stream was known to be dead.
    fn attach(&self, agent: AgentId) -> Arc<Line> {
        let session = self.inner.next_session.fetch_add(1, Ordering::Relaxed);
        let line = Arc::new(Line::new(agent.clone(), session));
        let mut lines = self.inner.lines.lock();
        lines.by_session.insert(session, line.clone());
        if let Some(earlier) = lines.by_agent.insert(agent, line.clone()) {
            earlier.close("a newer session of this agent took over", false);
        }
        line
    }

    /// Ends a session, however its stream ended.
    fn detach(&self, line: &Arc<Line>) {
        {
            let mut lines = self.inner.lines.lock();
            lines.by_session.remove(&line.session);
            if lines
                .by_agent
                .get(&line.agent)
                .is_some_and(|newest| Arc::ptr_eq(newest, line))
            {
                lines.by_agent.remove(&line.agent);
            }
        }
        self.inner.presence.closed(line.agent.clone(), line.session);
    }

    async fn dispatch(&self) {
        let mut effects = self.inner.control.watch();
        loop {
            match effects.recv().await {
                Ok(batch) => self.tell(&batch),
                Err(RecvError::Lagged(_)) => self.lines().iter().for_each(|line| line.look_at_assignments()),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn tell(&self, effects: &[Effect]) {
        let lines = self.inner.lines.lock();
        for effect in effects {
            match effect {
                Effect::Assignments(agent) => {
                    if let Some(line) = lines.by_agent.get(agent) {
                        line.look_at_assignments();
                    }
                }
                Effect::CloseSession { session, reason, .. } => {
                    if let Some(line) = lines.by_session.get(session) {
                        line.close(reason.clone(), false);
                    }
                }
                Effect::Run(_)
                | Effect::Planned(_)
                | Effect::Approvals
                | Effect::Triggers
                | Effect::Presence
                | Effect::Alarm(_) => {}
            }
        }
    }

    /// The lease rule: a node that hears of no leader hands out nothing above `observe` (each session asks
    /// for itself), and after a while sends its agents to nodes that do.
    async fn watch_lease(&self) {
        let leaderless_max = Duration::from_millis(self.inner.settings.leaderless_ms);
        let mut lost_since = Some(Instant::now());
        let mut every = tokio::time::interval(LEASE_LOOK);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            match (self.inner.control.raft().has_lease(), lost_since) {
                (true, Some(_)) => {
                    lost_since = None;
                    self.lines().iter().for_each(|line| line.look_at_assignments());
                }
                (false, None) => lost_since = Some(Instant::now()),
                (false, Some(since)) if since.elapsed() > leaderless_max => {
                    let lines = self.lines();
                    if !lines.is_empty() {
                        tracing::warn!(
                            sessions = lines.len(),
                            "no word from a leader: sending this node's agents elsewhere"
                        );
                    }
                    lines
                        .iter()
                        .for_each(|line| line.close("this node has lost its leader", true));
                }
                (true, None) | (false, Some(_)) => {}
            }
        }
    }
}
